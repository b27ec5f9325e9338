//! `unaufs rollback` and `unaufs cleanup`: the two ways to end a migration.

use super::{Roots, fitted, journal, needed, say, tell};
use crate::cli::args::{CleanupArgs, Global, RollbackArgs};
use crate::cli::prompt::confirm;
use crate::cli::{Done, Ending, screen};
use crate::disk::Dir;
use crate::docker::driver::WrittenBy;
use crate::error::{Error, Kind, Result};
use crate::plan::names::Names;
use crate::plan::switch::{OLD, STATE};
use crate::plan::{Move, Why};
use crate::report;
use crate::run::cleanup::{self, Cleaned, Survey};
use crate::run::identity::{Course, Known, Place};
use crate::run::journal::{Run, State};
use crate::run::states::{Answer, Command};
use crate::run::{self, Locked, rollback as back};
use crate::verify::{self, Level, Subject, since};

/// `unaufs rollback`.
pub fn rollback(g: &Global, a: &RollbackArgs) -> Done {
    const SCHEMA: &str = "unaufs.rollback/1";
    let mut roots = Roots::of(g)?;
    if roots.new.is_none() {
        return nothing_to_do(g, SCHEMA, "no migration is under way or active");
    }
    let lock = roots.lock(false)?;
    let answer = roots.standing()?.answer(if a.drop_new { Command::Drop } else { Command::Rollback });
    let (old, root, known) = roots.made()?;
    // a rollback of what is in another place needs nothing in the old root
    let old = old.map_or_else(|| root.again(), Ok)?;
    match answer {
        Answer::Nothing(why) => nothing_to_do(g, SCHEMA, why),
        Answer::Refuse(e) => Err(e),
        Answer::Drop => {
            let kept = cleanup::undone(&root)?;
            let names: Vec<String> =
                kept.iter().map(|d| format!("{} ({})", d.path, crate::text::size(d.bytes))).collect();
            if !names.is_empty() {
                let what = format!("Delete what the rollback kept: {}?", names.join(", "));
                if a.yes && !g.for_programs() {
                    crate::cli::to_stderr(&what);
                }
                confirm(a.yes, &what)?;
            }
            let made = course(&root, &known)?.is_some_and(|(c, _)| c.made);
            back::drop_state(Locked::open(old, root, lock, &known)?, made, &[])?;
            match names.is_empty() {
                true => nothing_to_do(g, SCHEMA, "no migration is under way or active"),
                false => done(g, SCHEMA, &format!("DONE     Deleted {}.", names.join(", "))),
            }
        }
        _ => {
            let Some((course, number)) = course(&root, &known)? else {
                return nothing_to_do(g, SCHEMA, "no migration is under way or active");
            };
            nothing_mounted(&root, &course)?;
            let names = match &known {
                Known::Run(run) => Names::of_plan(&run.plan),
                _ => Names::default(),
            };
            undo(g, a, Locked::open(old, root, lock, &known)?, (&course, number), &names)
        }
    }
}

/// The number of a run in the journal and its state there; none where the journal is lost.
type InJournal = Option<(i64, State)>;

/// What is known of the run, and its number and state in the journal.
fn course(root: &Dir, known: &Known) -> Result<Option<(Course, InJournal)>> {
    Ok(match known {
        Known::Nothing => None,
        Known::Lost(lost) => Some((lost.course.clone(), lost.run.map(|run| (run, lost.state)))),
        Known::Run(run) => {
            let noted = match root.open_opt(STATE)? {
                Some(state) => Course::read(&state)?,
                None => None,
            };
            let id = run.identity.clone().unwrap_or_default();
            let course = noted.unwrap_or_else(|| Course::of(&id, &run.plan, &run.started));
            // before its switch a run may have got another plan
            let course = match run.state {
                State::Building | State::Built | State::Verified => {
                    let (undone_before, made) = (course.undone_before, course.made);
                    Course { undone_before, made, ..Course::of(&id, &run.plan, &run.started) }
                }
                _ => course,
            };
            Some((course, Some((run.id, run.state))))
        }
    })
}

fn nothing_mounted(root: &Dir, course: &Course) -> Result<()> {
    let all = crate::disk::mounts::below(root.label())?;
    // volumes stay where they are, unless the whole root is taken out of use
    let Some(m) = all.iter().find(|m| course.target.is_some() || !m.inside.starts_with("volumes")) else {
        return Ok(());
    };
    Err(Error::new(Kind::Busy, format!("{} is mounted", crate::text::path(&m.point)))
        .hint(format!("umount {}", crate::text::path(&m.point)))
        .loss("Nothing was changed."))
}

fn undo(
    g: &Global,
    a: &RollbackArgs,
    mut locked: Locked,
    (course, number): (&Course, InJournal),
    names: &Names,
) -> Done {
    let switched = course.place(&locked.root)? != Place::Before;
    // all that may take long or fail comes before the first rename
    let added = match switched {
        true => report::rollback::added_since(&locked.root, course)?,
        false => Vec::new(),
    };
    confirm(a.yes, &question(&locked, course, a.drop_new, switched, added.len())?)?;
    let progress = screen::progress(g);
    progress.phase("rollback", course.switch.len() as u64);
    let undone = back::rollback(&mut locked, course, number, a.drop_new, &*progress)?;
    drop(progress);
    let root = crate::text::path(locked.root.label());
    let doc = report::rollback::Document {
        schema: "unaufs.rollback/1",
        dropped: a.drop_new,
        undone: &undone,
        added: &added,
        new_root: course.target.as_ref().map(|_| root.as_str()),
        // it may have been copied or moved since
        root: if course.target.is_some() { &course.root } else { &root },
    };
    if a.drop_new {
        let aside = STATE.len() + 1;
        let mut keep = course.undone_before.clone();
        keep.push(crate::plan::switch::ASIDE[aside..].to_owned());
        back::drop_state(locked, course.made, &keep)?;
    }
    let shown = report::rollback::Shown { names, all: g.verbose > 0 };
    tell(g, &doc, || fitted(g, &doc.text(shown), 9))?;
    Ok(Ending::Fine)
}

/// What is asked says what it costs.
fn question(locked: &Locked, course: &Course, drop_new: bool, switched: bool, added: usize) -> Result<String> {
    let dir = crate::text::path(locked.root.label());
    if !switched {
        return Ok("The new store is not active yet. Delete it? The old store is untouched.".to_owned());
    }
    let ran = match since::reference(&locked.root)? {
        Some(at) => since::docker_ran(&locked.root, at),
        None => true,
    };
    let becomes = if drop_new { "deleted".to_owned() } else { format!("kept in {dir}/.unaufs/undone") };
    let mut out = match (&course.target, ran) {
        (Some(_), _) => format!("The new root in {dir} is {becomes}, volumes too. The old root is not touched.\n"),
        (None, false) => {
            format!("Docker hasn't run on the new store, so nothing is lost. The new store is {becomes}.\n")
        }
        (None, true) => {
            let with = "with new images and changes inside containers";
            format!("Docker has run on the new {} store. That store is {becomes}, {with}.\n", course.driver)
        }
    };
    if drop_new {
        let names = |m: &&Move| m.why == Why::Install && !m.to.starts_with("containers/");
        let mut gone = Vec::new();
        for m in course.switch.iter().filter(names) {
            if locked.root.has(&m.to)? {
                gone.push(cleanup::deletion(&locked.root, &m.to)?);
            }
        }
        let shown = gone.iter().take(8).map(|d| report::cleanup::names(std::slice::from_ref(d)));
        out.push_str(&format!("Deleted: {}.\n", crate::text::few(shown, gone.len())));
    }
    if added > 0 {
        out.push_str(&format!("{} in shared directories since the migration.\n", crate::text::plural(added, "change")));
    }
    if !crate::plan::host::kernel_knows("aufs") {
        out.push_str("This kernel has no aufs, so Docker can't use the old store here after a rollback.\n");
    }
    Ok(out + "Roll back?")
}

fn nothing_to_do(g: &Global, schema: &str, why: &str) -> Done {
    done(g, schema, &format!("nothing to do: {why}"))
}

fn done(g: &Global, schema: &str, text: &str) -> Done {
    tell(g, &serde_json::json!({"schema": schema, "text": text}), || text.to_owned())?;
    Ok(Ending::Fine)
}

/// `unaufs cleanup`. Docker may run: nothing of the old store is in its use.
pub fn cleanup(g: &Global, a: &CleanupArgs) -> Done {
    let mut roots = Roots::of(g)?;
    if roots.new.is_none() {
        return Err(Error::new(Kind::NoStore, "no migration has been made here"));
    }
    // on another disk an old Docker may still run on the old root itself
    let lock = roots.lock(true)?;
    let answer = roots.standing()?.answer(Command::Cleanup);
    let (old, root, known) = roots.made()?;
    let rest = match answer {
        Answer::Nothing(why) => return nothing_to_do(g, "unaufs.cleanup/1", why),
        Answer::Refuse(e) => return Err(e),
        answer => matches!(answer, Answer::DeleteRest),
    };
    let Known::Run(run) = &known else {
        return Err(Error::corrupt("the journal .unaufs/journal.db is lost, so the old store can't be compared")
            .hint("Check the new store with `unaufs verify`, then delete .unaufs/old yourself.")
            .loss("Nothing was deleted."));
    };
    if run.plan.new_root.is_some() {
        named(g, &root, run)?;
        let busy = old.as_ref().map(crate::plan::host::docker_on).transpose()?.flatten();
        if let Some(who) = busy {
            return Err(Error::new(Kind::Busy, who).hint("Stop the Docker on the old root."));
        }
    }
    let locked = Locked::open(needed(old)?, root, lock, &known)?;
    // a full disk is a reason to clean up: what is written for that needs the room that was kept
    run::reserve::release(&locked.state)?;
    if !rest && run.plan.new_root.is_some() {
        cleanup::still_the_same(&locked, run, &*screen::progress(g))?;
    }
    if !a.skip_verify {
        prove(g, &locked, run, rest)?;
    }
    delete(g, a, locked, run)
}

/// The old root of a migration to another place is only touched when the user names it.
fn named(g: &Global, root: &Dir, run: &Run) -> Result<()> {
    if g.target.is_some() {
        return Ok(());
    }
    let dir = crate::text::path(root.label());
    let old = crate::text::text(&run.plan.root.path);
    Err(Error::new(Kind::Usage, "cleanup deletes the old store in the old root, so name both roots")
        .hint(format!(
            "Run `unaufs cleanup --root {old} --target {dir}`. If the old root has moved, name its new place."
        ))
        .loss("Nothing was deleted."))
}

/// The new store is good right now, or nothing is deleted.
fn prove(g: &Global, locked: &Locked, run: &Run, rest: bool) -> Result<()> {
    let progress = screen::progress(g);
    let report = if rest {
        let driver = WrittenBy::Living(run.plan.options.to);
        verify::judge(&Subject::Alone(&locked.root, driver), Level::Fast, &*progress)?
    } else {
        let parked = locked.root.open_opt(OLD)?;
        let old = parked.filter(|_| run.plan.new_root.is_none()).map_or_else(|| locked.old.again(), Ok)?;
        let Some(mut journal) = journal(&locked.root)? else { return Err(Error::corrupt("the journal is gone")) };
        run::compare(&mut journal, run, (&old, &locked.root), Level::Fast, &*progress)?
    };
    drop(progress);
    if let Some(u) = report.unchecked.first() {
        return Err(Error::new(Kind::Failed, format!("{} could not be checked: {}", u.object, u.reason))
            .hint("Remove the cause, then run `unaufs cleanup` again.")
            .loss("Nothing was deleted."));
    }
    let Some(first) = report.differences.first() else { return Ok(()) };
    let many = crate::text::plural(report.total(), "difference");
    Err(Error::new(Kind::Difference, format!("the new store is damaged: {many}; the first: {first}"))
        .hint("`unaufs verify` lists all differences. `unaufs rollback` puts the old store back. --skip-verify deletes the old store without verification.")
        .loss("Nothing was deleted."))
}

fn delete(g: &Global, a: &CleanupArgs, mut locked: Locked, run: &Run) -> Done {
    let survey = cleanup::survey(&locked.root, &locked.old, run)?;
    if !g.for_programs() {
        say(&fitted(g, &report::cleanup::warning(&survey, &run.plan), 4))?;
    }
    if !survey.old.is_empty() {
        confirm(a.yes, "Delete the old store for good?")?;
    }
    // what a rollback kept is the only copy: --yes does not answer for it
    let undone = !survey.undone.is_empty() && !a.yes && {
        match confirm(false, &format!("Delete {} too?", report::cleanup::names(&survey.undone))) {
            Ok(()) => true,
            Err(e) if e.kind() == Kind::Cancelled => false,
            Err(e) => return Err(e),
        }
    };
    let cleaned = cleanup::delete(&mut locked, run, undone)?;
    report_cleaned(g, &survey, &cleaned)?;
    if cleaned.left_count > 0 {
        return Err(Error::new(
            Kind::Failed,
            format!("{} could not be deleted", crate::text::plural(cleaned.left_count as usize, "path")),
        )
        .hint("Remove the immutable flag with chattr -i -a, or unmount the paths, then run `unaufs cleanup` again.")
        .loss("Everything else of the old store is deleted."));
    }
    Ok(Ending::Fine)
}

fn report_cleaned(g: &Global, survey: &Survey, cleaned: &Cleaned) -> Result<()> {
    let doc = serde_json::json!({
        "schema": "unaufs.cleanup/1", "state": "cleaned", "deleted": survey.old, "freed": cleaned.freed,
        "left": cleaned.left, "left_count": cleaned.left_count, "undone": cleaned.undone,
    });
    tell(g, &doc, || fitted(g, &report::cleanup::done(survey, cleaned), 9))
}
