//! `unaufs verify`.

use super::{Roots, journal, last_run, needed, say, say_json};
use crate::cli::args::{Global, VerifyArgs};
use crate::cli::{Done, Ending, screen};
use crate::engine;
use crate::error::{Error, Kind};
use crate::journal::State;
use crate::plan::switch::OLD;
use crate::report;

/// `unaufs verify`.
pub fn verify(g: &Global, a: &VerifyArgs) -> Done {
    let (old, root) = Roots::of(g)?.made()?;
    let run = last_run(g, &root)?.filter(|r| !matches!(r.state, State::Undone)).ok_or_else(|| {
        Error::new(Kind::NoStore, "no migration has been made here").hint("`unaufs plan` shows what would be done")
    })?;
    let (old, new) = match run.state {
        State::Building => {
            return Err(Error::new(Kind::Failed, "the new store is not complete").hint("`unaufs migrate` goes on"));
        }
        State::Built | State::Verified => (needed(old)?, root.open(crate::plan::switch::NEW)?),
        State::Switched if run.plan.elsewhere.is_some() => (needed(old)?, root.again()?),
        State::Switched => (root.open(OLD)?, root.again()?),
        _ => {
            return Err(Error::new(
                Kind::Failed,
                format!("in the state '{}' there is nothing to compare", run.state.name()),
            )
            .hint("`unaufs status` tells what to do"));
        }
    };
    let result = {
        let progress = screen::progress(g);
        let mut report = crate::verify::verify(&run.plan, &old, &new, a.level, &*progress)?;
        if run.state != State::Switched {
            crate::verify::carried(&run.plan, &old, &new, a.level, &mut report, &*progress)?;
        }
        report
    };
    if result.differences.is_empty()
        && let Some(mut j) = journal(g, &root)?
    {
        j.set_verified(run.id, &format!("{} {}", a.level.name(), engine::now()))?;
    }
    let doc = report::verify::Document { schema: "unaufs.verify/1", level: a.level, report: &result };
    if g.json || g.jsonl {
        say_json(&doc)?
    } else {
        say(&doc.text())?
    }
    Ok(if result.differences.is_empty() { Ending::Fine } else { Ending::Code(Kind::Difference) })
}
