//! `unaufs migrate`: begins, goes on, or says that nothing is left to do.

use super::{Roots, journal, last_run, needed, say, say_json};
use crate::checks::Level;
use crate::cli::args::{Global, MigrateArgs};
use crate::cli::output::Output;
use crate::cli::prompt::confirm;
use crate::cli::saved::to_run as load;
use crate::cli::{Done, Ending, screen};
use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use crate::plan::elsewhere::Place;
use crate::plan::{Plan, make};
use crate::report;
use crate::run::journal::{Run, State};
use crate::run::{self, How, Lock, Locked, carry, stage};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `unaufs migrate`.
pub fn migrate(g: &Global, a: &MigrateArgs) -> Done {
    let (saved, target) = targeted(g, a)?;
    let g = &Global { target, ..g.clone() };
    let Roots { old, new } = Roots::of(g)?;
    let root = needed(old)?;
    let roots: Vec<&Dir> = std::iter::once(&root).chain(&new).collect();
    let page = Output::optional(a.html.as_deref(), &roots)?;
    // before the journal is read: what another unaufs does meanwhile would make the plan out of date
    let mut lock = if a.dry_run { None } else { Some(Lock::take(&root, a.prepare)?) };
    if let Some(new) = new.as_ref().filter(|n| n.label() != root.label()) {
        lock = lock.map(|l| l.and(new)).transpose()?;
    }
    let how = How { verify: a.verify.level(), keep_going: a.keep_going, no_switch: a.no_switch, prepare: a.prepare };
    let last = new.as_ref().map(last_run).transpose()?.flatten();
    if let Some(run) = last.as_ref().filter(|r| r.state != State::Switched) {
        run.supported()?;
    }
    let at = At { root, new, lock, page };
    match last {
        Some(run) if matches!(run.state, State::Undoing) => Err(Error::new(Kind::Failed, "a rollback was interrupted")
            .hint("run `unaufs rollback` again; then migrate anew")),
        Some(run) if matches!(run.state, State::Switched | State::Cleaned) => {
            let at = at.new.as_ref().unwrap_or(&at.root);
            if at.has("aufs")? && run.state == State::Switched {
                return Err(Error::new(Kind::Failed, "this root was migrated, and there is a new aufs/ in it")
                    .hint("an old Docker has run on it since; `unaufs status` tells more"));
            }
            finished(g, &run)
        }
        Some(run) if !run.state.over() => resume(g, a, at, run, how),
        _ => begin(g, a, at, saved, how),
    }
}

/// The roots, locked unless nothing is to be changed.
struct At {
    /// Holds the old store.
    root: Dir,
    /// Where the new store comes to be, if that folder is there.
    new: Option<Dir>,
    lock: Option<Lock>,
    /// Gets the record of the migration.
    page: Option<Output>,
}

impl At {
    /// Opens the journal; makes the folder of the new root where it is missing. `None` if nothing is to be changed.
    fn open(self, g: &Global) -> Result<Option<Ready>> {
        let Some(mut lock) = self.lock else { return Ok(None) };
        let new = match (self.new, &g.target) {
            (Some(new), _) => new,
            (None, Some(target)) => {
                let new = Place::look(target)?.make(&self.root)?;
                lock = lock.and(&new)?;
                new
            }
            (None, None) => self.root.again()?,
        };
        let locked = Locked::open(self.root, new, lock)?;
        Ok(Some(Ready { locked, page: self.page }))
    }
}

/// The roots locked, the journal and the outputs open.
struct Ready {
    locked: Locked,
    page: Option<Output>,
}

/// The saved plan, if one was given, and the `--target` of it or of the command line.
fn targeted(g: &Global, a: &MigrateArgs) -> Result<(Option<Plan>, Option<PathBuf>)> {
    let Some(file) = &a.plan else { return Ok((None, g.target.clone())) };
    let saved = load(file)?;
    let theirs = saved.options.target.as_ref().map(PathBuf::from);
    match (&g.target, &theirs) {
        (Some(given), Some(theirs)) if std::path::absolute(given).ok().as_ref() != Some(theirs) => {
            Err(Error::new(Kind::Usage, format!("the saved plan has --target {}", theirs.display())))
        }
        (Some(_), None) => Err(Error::new(Kind::Usage, "the saved plan has no --target").hint("make a new plan")),
        _ => Ok((Some(saved), theirs)),
    }
}

fn finished(g: &Global, run: &Run) -> Done {
    let text = "nothing to do: this root is migrated";
    if g.json || g.jsonl {
        say_json(&serde_json::json!({"schema": "unaufs.migrate/1", "state": run.state, "built": 0, "text": text}))?;
    } else {
        say(text)?;
    }
    Ok(Ending::Fine)
}

fn begin(g: &Global, a: &MigrateArgs, at: At, saved: Option<Plan>, how: How) -> Done {
    let options = saved.as_ref().map_or_else(|| a.what.options(g.target.as_deref()), |p| p.options.clone());
    if let (None, Some(new)) = (&options.target, at.new.as_ref().filter(|n| n.label() != at.root.label())) {
        let (old, new) = (crate::text::path(at.root.label()), crate::text::path(new.label()));
        return Err(Error::new(Kind::Usage, format!("{new} is the new root of a migration that is over"))
            .hint(format!("unaufs migrate --root {old} --target {new}")));
    }
    // what is under way in the old root itself would go on from a store that this one leaves as it is
    if g.target.is_some() && last_run(&at.root)?.is_some_and(|r| !r.state.over() && r.plan.elsewhere.is_none()) {
        return Err(Error::new(Kind::Failed, "a migration without --target is under way in this root")
            .hint("finish it with `unaufs migrate`, or drop it with `unaufs rollback`")
            .loss("nothing; nothing was changed"));
    }
    let progress = screen::progress(g);
    let plan = make::make(&at.root, &options, &make::Known::default(), &*progress)?;
    drop(progress);
    crate::error::check_disk(a.keep_going)?;
    if let Some(saved) = &saved {
        stale(saved, &plan)?;
    }
    if at.lock.is_none() {
        say(&report::plan::text(&plan, screen::look(g)))?;
        return Ok(Ending::Fine);
    }
    blockers(&plan, if a.prepare { &IN_USE } else { &[] })?;
    if !(g.json || g.jsonl || g.quiet) {
        let shown = report::plan::Screen { next: false, ..report::plan::Screen::of(screen::look(g)) };
        say(&report::plan::on_screen(&plan, &shown))?;
    }
    if saved.is_none() {
        confirm(a.yes, "Migrate now?")?;
    }
    let Some(mut locked) = at.open(g)? else { return Ok(Ending::Fine) };
    work(g, &mut locked, plan, None, how)
}

fn resume(g: &Global, a: &MigrateArgs, at: At, run: Run, how: How) -> Done {
    if let Some(file) = &a.plan {
        let saved = load(file)?;
        if saved.fingerprint.digest != run.plan.fingerprint.digest {
            return Err(Error::new(Kind::Stale, "another migration is under way here, not that of the saved plan")
                .hint("`unaufs migrate` without a plan goes on with it; `unaufs rollback` drops it"));
        }
    }
    if run.prepared && run.state == State::Building {
        return after_prepare(g, a, at, run, how);
    }
    if matches!(run.state, State::Building | State::Built | State::Verified) {
        let progress = screen::progress(g);
        let lost = match journal(at.new.as_ref().unwrap_or(&at.root))? {
            Some(j) => j.lost(run.id)?,
            None => BTreeMap::new(),
        };
        let known = make::Known { lost, ..make::Known::default() };
        let fresh = make::make(&at.root, &run.plan.options, &known, &*progress)?;
        crate::error::check_disk(a.keep_going)?;
        blockers(&fresh, &ROOM)?;
        stale(&run.plan, &fresh)?;
    }
    if at.lock.is_none() {
        say(&format!("a migration stands at '{}'; `unaufs migrate` goes on with it", run.state.name()))?;
        return Ok(Ending::Fine);
    }
    confirm(a.yes, &format!("A migration stands at '{}'. Go on?", run.state.name()))?;
    let Some(mut locked) = at.open(g)? else { return Ok(Ending::Fine) };
    let plan = run.plan.clone();
    work(g, &mut locked, plan, Some(run), how)
}

/// Image layers were built while Docker ran. The plan is made anew, and what has changed since is built anew.
fn after_prepare(g: &Global, a: &MigrateArgs, at: At, run: Run, how: How) -> Done {
    let progress = screen::progress(g);
    let fresh = make::make(&at.root, &run.plan.options, &make::Known::of(&run.plan), &*progress)?;
    drop(progress);
    let settled = if a.prepare { [ROOM, IN_USE].concat() } else { ROOM.to_vec() };
    crate::error::check_disk(a.keep_going)?;
    blockers(&fresh, &settled)?;
    if at.lock.is_none() {
        say(&report::plan::text(&fresh, screen::look(g)))?;
        return Ok(Ending::Fine);
    }
    let saved = a.plan.is_some();
    if !saved {
        confirm(a.yes, "The image layers are prepared. Migrate now?")?;
    }
    let Some(mut locked) = at.open(g)? else { return Ok(Ending::Fine) };
    // what failed before is tried again
    stage::reconcile(&mut locked.locked, run.id, &run.plan, &fresh, a.prepare, &BTreeMap::new())?;
    let run = locked.locked.journal.last()?;
    work(g, &mut locked, fresh, run, how)
}

/// Runs the engine; with `--keep-going` plans anew without what failed, as often as something fails.
fn work(g: &Global, ready: &mut Ready, mut plan: Plan, mut run: Option<Run>, how: How) -> Done {
    let Ready { locked, page } = ready;
    let progress = screen::progress(g);
    let prepared = how.prepare;
    let before = taken(&locked.root)?.filter(|_| run.is_none());
    let mut failed = match &run {
        Some(r) => locked.journal.lost(r.id)?,
        None => BTreeMap::new(),
    };
    let outcome = loop {
        let outcome = run::migrate(locked, &plan, run.take(), how, &*progress)?;
        if outcome.failed.is_empty() {
            break outcome;
        }
        failed.extend(outcome.failed.clone());
        let known = make::Known { lost: failed.clone(), ..make::Known::default() };
        let fresh = make::make(&locked.old, &plan.options, &known, &*progress)?;
        let Some(last) = locked.journal.last()? else {
            return Err(Error::corrupt("the journal lost its run"));
        };
        stage::reconcile(locked, last.id, &last.plan, &fresh, prepared, &failed)?;
        plan = fresh;
        run = locked.journal.last()?;
    };
    drop(progress);
    let record = record(locked, before)?;
    if let Some(page) = page.take() {
        page.write(report::html::page(&plan, Some(&record)).map(String::into_bytes));
    }
    let compared = report::truth::Comparison::of(&plan, &record).filter(|_| outcome.state != State::Building);
    let doc = report::migrate::Summary {
        schema: "unaufs.migrate/1",
        outcome: &outcome,
        failed: &failed,
        left_behind: &plan.left_behind,
        damage: &plan.damage,
        compared: compared.as_ref(),
        driver: plan.options.to,
    };
    if g.json || g.jsonl {
        say_json(&doc)?;
    } else {
        say(&report::migrate::text(&doc, &plan))?;
    }
    let partial = plan.partial() || !failed.is_empty() || !outcome.damaged.is_empty();
    Ok(if partial { Ending::Code(Kind::Partial) } else { Ending::Fine })
}

/// What is taken on the file system, if that is a btrfs: there it is no sum of files.
fn taken(root: &Dir) -> Result<Option<u64>> {
    if !root.on_btrfs()? {
        return Ok(None);
    }
    root.sync_fs()?;
    root.space().map(|s| Some(s.taken()))
}

/// The run from the journal: what earlier calls did is in it too. On a btrfs so much was taken `before`, if this call did all.
fn record(locked: &Locked, before: Option<u64>) -> Result<report::html::Record> {
    let Some(run) = locked.journal.last()? else { return Err(Error::corrupt("the journal lost its run")) };
    let mut sums = stage::Sums::default();
    let (layers, rest) = (locked.journal.tallies(run.id, "layer")?, locked.journal.tallies(run.id, "metadata")?);
    let carried = locked.journal.tallies(run.id, carry::KIND)?;
    // what goes along in the folders of containers was counted with what is written there
    let carried = carried.iter().filter(|(name, _)| !name.starts_with("containers/"));
    let carried = carried.filter_map(|(_, t)| t.split_once(' ')).map(|(_, sums)| sums);
    for tally in layers.values().chain(rest.values()).map(String::as_str).chain(carried) {
        // no tally: done by an unaufs that counted less
        if let Ok(t) = serde_json::from_str::<stage::Sums>(tally) {
            sums.add(t);
        }
    }
    let events = locked.journal.events(run.id)?;
    let disk = match taken(&locked.root)? {
        Some(now) => before.map(|before| now.saturating_sub(before)),
        None => Some(sums.disk),
    };
    Ok(report::html::Record {
        state: run.state.name().to_owned(),
        started: run.started,
        events,
        verified: run.verified,
        sums,
        disk,
    })
}

/// Exit 13 with everything that changed.
pub(super) fn stale(saved: &Plan, fresh: &Plan) -> Result<()> {
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
