//! `unaufs verify`: chooses what there is to prove, and with what.

use super::{Roots, journal, last_run, needed, say, say_json};
use crate::cli::args::{Global, VerifyArgs};
use crate::cli::{Done, Ending, screen};
use crate::disk::Dir;
use crate::docker::driver::WrittenBy;
use crate::error::{Error, Kind, Result};
use crate::plan::stack::Part;
use crate::plan::switch::{NEW, OLD};
use crate::report;
use crate::run::journal::{Run, State};
use crate::store::native;
use crate::verify::{self, Case, Outcome, Report, Subject};
use std::collections::BTreeSet;

/// `unaufs verify`.
pub fn verify(g: &Global, a: &VerifyArgs) -> Done {
    let (old, root) = Roots::of(g)?.made()?;
    let run = last_run(&root)?.filter(|r| !matches!(r.state, State::Undone));
    let report = match &run {
        Some(run) if a.driver.is_none() && run.state != State::Cleaned => compare(g, a, old, &root, run)?,
        _ => check(g, a, &root, run.as_ref())?,
    };
    let doc = report::verify::Document { schema: "unaufs.verify/1", level: a.level, report: &report };
    if g.json || g.jsonl {
        say_json(&doc)?
    } else {
        say(&doc.text())?
    }
    Ok(match report.outcome() {
        Outcome::Clean => Ending::Fine,
        Outcome::Damaged => Ending::Code(Kind::Difference),
        Outcome::Unchecked => Ending::Code(Kind::Failed),
    })
}

/// The new store against the old one, wherever the run has them now. That nothing differs is noted for `cleanup`.
fn compare(g: &Global, a: &VerifyArgs, old: Option<Dir>, root: &Dir, run: &Run) -> Result<Report> {
    run.supported()?;
    let (old, new) = match run.state {
        State::Building => {
            return Err(
                Error::new(Kind::Failed, "the new store isn't complete").hint("Run `unaufs migrate` to continue")
            );
        }
        State::Built | State::Verified => (needed(old)?, root.open(NEW)?),
        State::Switched if run.plan.elsewhere.is_some() => (needed(old)?, root.again()?),
        State::Switched => (root.open(OLD)?, root.again()?),
        _ => {
            return Err(
                Error::new(Kind::Failed, "there is nothing to compare").hint("`unaufs status` shows what to do next")
            );
        }
    };
    let switched = match run.state {
        State::Switched => verify::since::reference(root)?,
        _ => None,
    };
    let none = BTreeSet::new();
    let case = Case { plan: &run.plan, old: &old, new: &new, part: Part::All, proved: &none, switched };
    let report = verify::judge(&Subject::Migrated(case), a.level, &*screen::progress(g))?;
    let Some(mut j) = journal(root)? else { return Ok(report) };
    if report.outcome() == Outcome::Clean {
        j.set_verified(run.id, &format!("{} {}", a.level.name(), crate::text::now()))?;
    }
    Ok(report)
}

/// One store by itself.
fn check(g: &Global, a: &VerifyArgs, root: &Dir, run: Option<&Run>) -> Result<Report> {
    let driver = match a.driver {
        Some(driver) => driver,
        None => only_driver(root, run)?,
    };
    // after the switch the old store is parked
    let parked = driver == WrittenBy::Aufs && !root.has("aufs")? && root.has(OLD)?;
    let base = if parked { root.open(OLD)? } else { root.again()? };
    verify::judge(&Subject::Alone(&base, driver), a.level, &*screen::progress(g))
}

/// The driver that the user means without saying so.
fn only_driver(root: &Dir, run: Option<&Run>) -> Result<WrittenBy> {
    // the old store is deleted: what it became is left
    if let Some(run) = run {
        return Ok(WrittenBy::Living(run.plan.options.to));
    }
    match (root.has("aufs/diff")?, native::present(root)?.as_slice()) {
        (true, _) | (false, []) => Ok(WrittenBy::Aufs),
        (false, [one]) => Ok(WrittenBy::Living(*one)),
        (false, several) => {
            let names: Vec<&str> = several.iter().map(|t| t.name()).collect();
            Err(Error::new(Kind::Usage, format!("the data root has several stores: {}", names.join(", ")))
                .hint("Choose one with --driver"))
        }
    }
}
