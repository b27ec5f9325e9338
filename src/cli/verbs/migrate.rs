//! `unaufs migrate`: begins, goes on, or says that nothing is left to do.

use super::{confirm, journal, load, root, say, say_json, write_outside};
use crate::checks::Level;
use crate::cli::args::{Global, MigrateArgs};
use crate::cli::{Done, Ending, screen};
use crate::disk::Dir;
use crate::engine::{self, How, Lock, Locked, stage};
use crate::error::{Error, Kind, Result};
use crate::journal::{Run, State};
use crate::plan::{Plan, make};
use crate::report;
use std::collections::BTreeMap;
use std::path::Path;

/// `unaufs migrate`.
pub fn migrate(g: &Global, a: &MigrateArgs) -> Done {
    let root = root(g)?;
    // before the journal is read: what another unaufs does meanwhile would make the plan out of date
    let lock = if a.dry_run { None } else { Some(Lock::take(&root, a.prepare)?) };
    let how = How { verify: a.verify.level(), keep_going: a.keep_going, no_switch: a.no_switch, prepare: a.prepare };
    let last = match journal(g, &root)? {
        Some(j) => j.last()?,
        None => None,
    };
    match last {
        Some(run) if matches!(run.state, State::Undoing) => Err(Error::new(Kind::Failed, "a rollback was interrupted")
            .hint("run `unaufs rollback` again; then migrate anew")),
        Some(run) if matches!(run.state, State::Switched | State::Cleaned) => {
            if root.has("aufs")? && run.state == State::Switched {
                return Err(Error::new(Kind::Failed, "this root was migrated, and there is a new aufs/ in it")
                    .hint("an old Docker has run on it since; `unaufs status` tells more"));
            }
            finished(g, &run)
        }
        Some(run) if !run.state.over() => resume(g, a, root, lock, run, how),
        _ => begin(g, a, root, lock, how),
    }
}

fn finished(g: &Global, run: &Run) -> Done {
    let text = "nothing to do: this root is migrated";
    if g.json || g.jsonl {
        say_json(
            &serde_json::json!({"schema": "unaufs.migrate/1", "message_type": "summary", "state": run.state, "built": 0, "text": text}),
        )?;
    } else {
        say(text)?;
    }
    Ok(Ending::Fine)
}

fn begin(g: &Global, a: &MigrateArgs, root: Dir, lock: Option<Lock>, how: How) -> Done {
    let saved = match &a.plan {
        Some(file) => Some(load(file)?),
        None => None,
    };
    let options = saved.as_ref().map_or_else(|| a.what.options(), |p| p.options.clone());
    let progress = screen::progress(g);
    let plan = make::make(&root, &options, &make::Known::default(), &*progress)?;
    drop(progress);
    crate::error::check_disk(a.keep_going)?;
    if let Some(saved) = &saved {
        stale(saved, &plan)?;
    }
    let Some(lock) = lock else {
        say(&report::plan::text(&plan, screen::look(g)))?;
        return Ok(Ending::Fine);
    };
    blockers(&plan, if a.prepare { &IN_USE } else { &[] })?;
    if !(g.json || g.jsonl || g.quiet) {
        say(&report::plan::text(&plan, screen::look(g)))?;
    }
    if saved.is_none() {
        confirm(a.yes, "Migrate now?")?;
    }
    let mut locked = Locked::open(root, lock, g.state.as_deref())?;
    work(g, a, &mut locked, plan, None, how)
}

fn resume(g: &Global, a: &MigrateArgs, root: Dir, lock: Option<Lock>, run: Run, how: How) -> Done {
    if let Some(file) = &a.plan {
        let saved = load(file)?;
        if saved.fingerprint.digest != run.plan.fingerprint.digest {
            return Err(Error::new(Kind::Stale, "another migration is under way here, not that of the saved plan")
                .hint("`unaufs migrate` without a plan goes on with it; `unaufs rollback` drops it"));
        }
    }
    if run.prepared && run.state == State::Building {
        return after_prepare(g, a, root, lock, run, how);
    }
    if matches!(run.state, State::Building | State::Built | State::Verified) {
        let progress = screen::progress(g);
        let lost = match journal(g, &root)? {
            Some(j) => j.lost(run.id)?,
            None => BTreeMap::new(),
        };
        let known = make::Known { lost, ..make::Known::default() };
        let fresh = make::make(&root, &run.plan.options, &known, &*progress)?;
        crate::error::check_disk(a.keep_going)?;
        blockers(&fresh, &ROOM)?;
        stale(&run.plan, &fresh)?;
    }
    let Some(lock) = lock else {
        say(&format!("a migration stands at '{}'; `unaufs migrate` goes on with it", run.state.name()))?;
        return Ok(Ending::Fine);
    };
    confirm(a.yes, &format!("A migration stands at '{}'. Go on?", run.state.name()))?;
    let mut locked = Locked::open(root, lock, g.state.as_deref())?;
    let plan = run.plan.clone();
    work(g, a, &mut locked, plan, Some(run), how)
}

/// Image layers were built while Docker ran. The plan is made anew, and what has changed since is built anew.
fn after_prepare(g: &Global, a: &MigrateArgs, root: Dir, lock: Option<Lock>, run: Run, how: How) -> Done {
    let progress = screen::progress(g);
    let fresh = make::make(&root, &run.plan.options, &make::Known::of(&run.plan), &*progress)?;
    drop(progress);
    let settled = if a.prepare { [ROOM, IN_USE].concat() } else { ROOM.to_vec() };
    crate::error::check_disk(a.keep_going)?;
    blockers(&fresh, &settled)?;
    let Some(lock) = lock else {
        say(&report::plan::text(&fresh, screen::look(g)))?;
        return Ok(Ending::Fine);
    };
    let saved = a.plan.is_some();
    if !saved {
        confirm(a.yes, "The image layers are prepared. Migrate now?")?;
    }
    let mut locked = Locked::open(root, lock, g.state.as_deref())?;
    // what failed before is tried again
    stage::reconcile(&mut locked, run.id, &run.plan, &fresh, a.prepare, &BTreeMap::new())?;
    let run = locked.journal.last()?;
    work(g, a, &mut locked, fresh, run, how)
}

/// Runs the engine; with `--keep-going` plans anew without what failed, as often as something fails.
fn work(g: &Global, a: &MigrateArgs, locked: &mut Locked, mut plan: Plan, mut run: Option<Run>, how: How) -> Done {
    let progress = screen::progress(g);
    let prepared = how.prepare;
    let mut failed = match &run {
        Some(r) => locked.journal.lost(r.id)?,
        None => BTreeMap::new(),
    };
    let outcome = loop {
        let outcome = engine::migrate(locked, &plan, run.take(), how, &*progress)?;
        if outcome.failed.is_empty() {
            break outcome;
        }
        failed.extend(outcome.failed.clone());
        let known = make::Known { lost: failed.clone(), ..make::Known::default() };
        let fresh = make::make(&locked.root, &plan.options, &known, &*progress)?;
        let Some(last) = locked.journal.last()? else {
            return Err(Error::corrupt("the journal lost its run"));
        };
        stage::reconcile(locked, last.id, &last.plan, &fresh, prepared, &failed)?;
        plan = fresh;
        run = locked.journal.last()?;
    };
    drop(progress);
    if let Some(file) = &a.html {
        record(locked, file)?;
    }
    let doc = report::migrate::Summary {
        schema: "unaufs.migrate/1",
        message_type: "summary",
        outcome: &outcome,
        failed: &failed,
        left_behind: &plan.left_behind,
        driver: plan.options.to,
    };
    if g.jsonl {
        say(&crate::show::json(serde_json::json!(doc).to_string()))?;
    } else if g.json {
        say_json(&doc)?;
    } else {
        say(&report::migrate::text(&doc, &plan))?;
    }
    Ok(if plan.partial() || !failed.is_empty() { Ending::Code(Kind::Partial) } else { Ending::Fine })
}

/// The page that records a run, from the journal: what earlier calls did is in it too.
fn record(locked: &Locked, file: &Path) -> Result<()> {
    let Some(run) = locked.journal.last()? else { return Err(Error::corrupt("the journal lost its run")) };
    let mut sums = stage::Sums::default();
    for (_, tally) in locked.journal.tallies(run.id)? {
        if let Ok(t) = serde_json::from_str::<stage::Sums>(&tally) {
            sums.add(t);
        }
    }
    let record = report::html::Record {
        state: run.state.name().to_owned(),
        started: run.started.clone(),
        events: locked.journal.events(run.id)?,
        verified: run.verified.clone(),
        sums,
    };
    write_outside(&locked.root, file, report::html::page(&run.plan, Some(&record))?.as_bytes())
}

/// Exit 13 with everything that changed.
fn stale(saved: &Plan, fresh: &Plan) -> Result<()> {
    let changes = report::plan::changes(saved, fresh);
    if changes.is_empty() {
        return Ok(());
    }
    let list: Vec<&str> = changes.iter().take(20).map(String::as_str).collect();
    let more = if changes.len() > 20 { format!("; and {} more", changes.len() - 20) } else { String::new() };
    Err(Error::new(
        Kind::Stale,
        format!("the store is not what it was when the plan was made: {}{more}", list.join("; ")),
    )
    .hint("make a new plan; a migration under way can be dropped with `unaufs rollback`")
    .loss("nothing; nothing was changed"))
}

/// A running Docker and its mounts do not matter while only image layers are prepared.
const IN_USE: [&str; 2] = ["H01", "H02"];
/// When a run goes on, part of the new store is there already: whether the rest fits shows when it is built.
const ROOM: [&str; 2] = ["H05", "H06"];

/// The first blocking check as an error, with the exit code of its kind; `settled` are ids that do not count now.
fn blockers(plan: &Plan, settled: &[&str]) -> Result<()> {
    let counts = |id: &str| !settled.contains(&id);
    let blocks: Vec<_> = plan.checks.iter().filter(|c| c.level == Level::Block && counts(&c.id)).collect();
    let Some(first) = blocks.first() else { return Ok(()) };
    let kind = match first.id.as_str() {
        "H01" | "H02" => Kind::Busy,
        "H05" | "H06" => Kind::Space,
        "H04" | "T04" => Kind::Unsupported,
        _ => Kind::Blocked,
    };
    let all: Vec<String> = blocks.iter().map(|c| format!("{} {}: {}", c.id, c.subject, c.message)).collect();
    let mut e = Error::new(kind, all.join("; ")).loss("nothing; nothing was changed");
    if let Some(fix) = &first.fix {
        e = e.hint(fix.clone());
    }
    Err(e)
}
