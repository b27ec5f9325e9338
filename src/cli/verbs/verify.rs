//! `unaufs verify`: chooses what there is to prove, and with what.

use super::{Roots, fitted, journal, needed, tell, the_store};
use crate::cli::args::{Global, VerifyArgs};
use crate::cli::{Done, Ending, end, screen};
use crate::disk::Dir;
use crate::docker::driver::WrittenBy;
use crate::error::{Error, Kind, Result};
use crate::plan::switch::OLD;
use crate::report::verify::{Document, When};
use crate::run::identity::Known;
use crate::run::journal::{Run, State};
use crate::run::states::{Answer, Command};
use crate::run::{self, Lock};
use crate::verify::{self, Outcome, Report, Subject};

/// `unaufs verify`.
pub fn verify(g: &Global, a: &VerifyArgs) -> Done {
    let roots = Roots::of(g)?;
    let standing = roots.standing()?;
    let answer = standing.answer(Command::Verify);
    let (old, root, known) = roots.made()?;
    // a cleanup or a rollback would take away what is compared
    let _lock = Lock::reading(&root)?;
    let (report, when) = match (answer, known) {
        (Answer::Refuse(e), _) if a.driver.is_none() => return Err(e),
        (Answer::Compare, Known::Run(run)) if a.driver.is_none() => {
            let switched = run.state == State::Switched;
            let when = if switched { When::AfterSwitch } else { When::BeforeSwitch };
            (compare(g, a, old, &root, &run)?, when)
        }
        (_, known) => check(g, a, &root, &known)?,
    };
    let doc = Document::of(&report, a.level, when, end::given_place());
    tell(g, &doc, || fitted(g, &doc.text(), 9))?;
    Ok(match report.outcome() {
        Outcome::Clean => Ending::Fine,
        Outcome::Damaged => Ending::Code(Kind::Difference),
        Outcome::Unchecked => Ending::Code(Kind::Failed),
    })
}

/// The new store against the old one, wherever the run has them now. The verdict is noted.
fn compare(g: &Global, a: &VerifyArgs, old: Option<Dir>, root: &Dir, run: &Run) -> Result<Report> {
    let parked = run.state == State::Switched && run.plan.new_root.is_none();
    // without it the comparison says what is gone
    let old = if parked { root.open_opt(OLD)?.map_or_else(|| root.again(), Ok)? } else { needed(old)? };
    let Some(mut journal) = journal(root)? else { return Err(Error::corrupt("the journal is gone")) };
    run::compare(&mut journal, run, (&old, root), a.level, &*screen::progress(g))
}

/// One store by itself.
fn check(g: &Global, a: &VerifyArgs, root: &Dir, known: &Known) -> Result<(Report, When)> {
    let driver = match a.driver {
        Some(driver) => driver,
        None => only_driver(root, known)?,
    };
    // after the switch the old store is parked
    let parked = driver == WrittenBy::Aufs && !root.has("aufs")? && root.has(OLD)?;
    let base = if parked { root.open(OLD)? } else { root.again()? };
    let report = verify::judge(&Subject::Alone(&base, driver), a.level, &*screen::progress(g))?;
    let when = match driver {
        WrittenBy::Aufs if parked => When::Parked,
        WrittenBy::Aufs => When::Aufs,
        WrittenBy::Living(_) => When::Alone,
    };
    Ok((report, when))
}

/// The driver that the user means without saying so.
fn only_driver(root: &Dir, known: &Known) -> Result<WrittenBy> {
    match known {
        // what the old store became
        Known::Run(run) if run.state == State::Cleaned => return Ok(WrittenBy::Living(run.plan.options.to)),
        Known::Lost(lost) if lost.state == State::Switched => return Ok(WrittenBy::Living(lost.course.driver)),
        _ => {}
    }
    the_store(root)
}
