//! The verbs: each opens what it needs, calls the library, and shows what came of it.

use super::args::{CleanupArgs, Global, InspectArgs, MigrateArgs, PlanArgs, RollbackArgs, VerifyArgs};
use super::{Done, Ending, screen};
use crate::checks::{self, Level};
use crate::disk::Dir;
use crate::engine::{self, How, Lock, Locked, stage};
use crate::error::{Error, Kind, Result};
use crate::journal::{Journal, Run, State};
use crate::plan::switch::{OLD, STATE};
use crate::plan::{Plan, make};
use crate::report;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

fn root(g: &Global) -> Result<Dir> {
    Dir::open_named(&g.root).map_err(|e| {
        let kind = match e.errno() {
            Some(2 | 20) => Kind::NoStore,
            _ => Kind::Failed,
        };
        Error::new(kind, e.chain()).hint("give Docker's data root with --root; reading it needs root")
    })
}

/// The journal, if a run has left one.
fn journal(g: &Global, root: &Dir) -> Result<Option<Journal>> {
    let state = match &g.state {
        Some(p) if p.exists() => Some(Dir::open_named(p)?),
        Some(_) => None,
        None => root.open_opt(STATE)?,
    };
    match state {
        Some(s) => Journal::open_existing(&s),
        None => Ok(None),
    }
}

/// Writes a result to stdout; a closed pipe is an error like any other.
fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
        .and_then(|()| out.flush())
        .map_err(|e| Error::io("write to stdout", e))
}

fn say_json(value: &impl serde::Serialize) -> Result<()> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| Error::new(Kind::Failed, "write JSON").with_source(e))?;
    say(&text)
}

/// `unaufs inspect`.
pub fn inspect(g: &Global, a: &InspectArgs) -> Done {
    let root = root(g)?;
    let (store, findings) = crate::store::open(&root)?;
    let doc = report::inspect::Inspection::of(&root, &store, findings);
    if g.json || g.jsonl {
        say_json(&doc)?
    } else {
        let fold = if a.itemize { usize::MAX } else { report::inspect::FOLD };
        say(&doc.text(screen::look(g), fold))?
    }
    Ok(Ending::Fine)
}

/// `unaufs plan`.
pub fn plan(g: &Global, a: &PlanArgs) -> Done {
    let root = root(g)?;
    let plan = {
        let progress = screen::progress(g);
        make::make(&root, &a.what.options(), &make::Known::default(), &*progress)?
    };
    if let Some(file) = &a.out {
        save(&root, file, &plan)?;
    }
    if let Some(file) = &a.html {
        write_outside(&root, file, report::html::page(&plan, None)?.as_bytes())?;
    }
    let blocked = checks::plan_is_blocked(&plan.checks);
    let ending = match (blocked, a.detailed_exitcode) {
        (true, _) => Ending::Code(Kind::Blocked),
        (false, true) => Ending::Code(Kind::WorkToDo),
        (false, false) => Ending::Fine,
    };
    if g.json || g.jsonl {
        let code = match ending {
            Ending::Fine => 0,
            Ending::Code(kind) => kind.exit_code(),
        };
        say_json(&report::plan::document(&plan, code)?)?;
    } else if a.itemize {
        say(&report::plan::itemize(&plan))?;
    } else {
        say(&report::plan::text(&plan, screen::look(g)))?;
    }
    Ok(ending)
}

/// `unaufs report merge`.
pub fn merge_reports(g: &Global, files: &[PathBuf], html: Option<&Path>) -> Done {
    let plans = files.iter().map(|f| load(f)).collect::<Result<Vec<_>>>()?;
    let fleet = report::fleet::Fleet::of(&plans);
    if let Some(file) = html {
        let (dir, name) = folder_of(file)?;
        dir.write_atomic(&name, fleet.html()?.as_bytes(), 0o644)?;
    }
    if g.json || g.jsonl {
        say_json(&fleet)?
    } else {
        say(&fleet.text())?
    }
    Ok(Ending::Fine)
}

/// Saves a plan; never inside ROOT.
fn save(root: &Dir, file: &Path, plan: &Plan) -> Result<()> {
    let text =
        serde_json::to_vec_pretty(plan).map_err(|e| Error::new(Kind::Failed, "write the plan").with_source(e))?;
    write_outside(root, file, &text)
}

/// Writes a file that the user named; never inside ROOT.
fn write_outside(root: &Dir, file: &Path, bytes: &[u8]) -> Result<()> {
    let (dir, name) = folder_of(file)?;
    if dir.label().starts_with(root.label()) {
        let what = format!("{} would be written inside ROOT", file.display());
        return Err(Error::new(Kind::Usage, what).hint("name a file elsewhere"));
    }
    dir.write_atomic(&name, bytes, 0o600)
}

fn folder_of(file: &Path) -> Result<(Dir, Vec<u8>)> {
    use std::os::unix::ffi::OsStrExt;
    let parent = match file.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let name = file.file_name().ok_or_else(|| Error::new(Kind::Usage, format!("{} names no file", file.display())))?;
    Ok((Dir::open_named(parent)?, name.as_bytes().to_vec()))
}

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
        say(&serde_json::json!(doc).to_string())?;
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

fn load(file: &Path) -> Result<Plan> {
    let bytes = std::fs::read(file).map_err(|e| Error::io(format!("read {}", file.display()), e))?;
    let plan: Plan = serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(Kind::Usage, format!("{} is not a plan of this unaufs", file.display())).with_source(e)
    })?;
    if plan.schema != crate::plan::SCHEMA {
        return Err(
            Error::new(Kind::Usage, format!("{} has the schema {}", file.display(), plan.schema)).hint("make it anew")
        );
    }
    Ok(plan)
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

/// Asks on a terminal; elsewhere `--yes` is needed.
fn confirm(yes: bool, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    let missing = || {
        Error::new(Kind::Usage, "this needs a confirmation")
            .hint("run it on a terminal, or add --yes")
            .loss("nothing; nothing was changed")
    };
    if !std::io::stdin().is_terminal() {
        return Err(missing());
    }
    eprint!("{question} Type yes: ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|e| Error::io("read the answer", e))?;
    if line.trim() == "yes" { Ok(()) } else { Err(missing()) }
}

fn last_run(g: &Global, root: &Dir) -> Result<Option<Run>> {
    match journal(g, root)? {
        Some(j) => j.last(),
        None => Ok(None),
    }
}

/// `unaufs status`.
pub fn status(g: &Global) -> Done {
    let root = root(g)?;
    let doc = report::status::Status::of(&root, last_run(g, &root)?)?;
    if g.json || g.jsonl {
        say_json(&doc)?
    } else {
        say(&doc.text())?
    }
    Ok(Ending::Fine)
}

/// `unaufs verify`.
pub fn verify(g: &Global, a: &VerifyArgs) -> Done {
    let root = root(g)?;
    let run = last_run(g, &root)?.filter(|r| !matches!(r.state, State::Undone)).ok_or_else(|| {
        Error::new(Kind::NoStore, "no migration has been made here").hint("`unaufs plan` shows what would be done")
    })?;
    let (old, new) = match run.state {
        State::Building => {
            return Err(Error::new(Kind::Failed, "the new store is not complete").hint("`unaufs migrate` goes on"));
        }
        State::Built | State::Verified => (root.again()?, root.open(crate::plan::switch::NEW)?),
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
        crate::verify::verify(&run.plan, &old, &new, a.level, &*progress)?
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

/// `unaufs rollback`.
pub fn rollback(g: &Global, a: &RollbackArgs) -> Done {
    let root = root(g)?;
    let lock = Lock::take(&root, false)?;
    let run = last_run(g, &root)?.filter(|r| !r.state.over());
    let Some(run) = run else {
        if a.drop_new && root.has(STATE)? {
            engine::drop_state(Locked::open(root, lock, g.state.as_deref())?, g.state.is_some())?;
        }
        say("nothing to do: no migration is under way or in force")?;
        return Ok(Ending::Fine);
    };
    confirm(a.yes, "Put the old store back?")?;
    let mut locked = Locked::open(root, lock, g.state.as_deref())?;
    if let Some(m) = crate::disk::mounts::below(locked.root.label())?.first() {
        return Err(Error::new(Kind::Busy, format!("{} is mounted", crate::show::path(&m.point)))
            .hint(format!("umount {}", crate::show::path(&m.point)))
            .loss("nothing; nothing was changed"));
    }
    let progress = screen::progress(g);
    progress.phase("rollback", run.plan.switch.len() as u64);
    let undone = engine::rollback(&mut locked, &run, a.drop_new, &*progress)?;
    drop(progress);
    let added = report::rollback::added_meanwhile(&locked.root, &run.plan)?;
    let doc =
        report::rollback::Document { schema: "unaufs.rollback/1", dropped: a.drop_new, undone: &undone, added: &added };
    if a.drop_new {
        engine::drop_state(locked, g.state.is_some())?;
    }
    if g.json || g.jsonl {
        say_json(&doc)?
    } else {
        say(&doc.text())?
    }
    Ok(Ending::Fine)
}

/// `unaufs cleanup`.
pub fn cleanup(g: &Global, a: &CleanupArgs) -> Done {
    let root = root(g)?;
    let lock = Lock::take(&root, false)?;
    let Some(run) = last_run(g, &root)? else {
        return Err(Error::new(Kind::NoStore, "no migration has been made here"));
    };
    match run.state {
        State::Cleaned if !root.has(OLD)? => {
            say("nothing to do: the old store was deleted before")?;
            return Ok(Ending::Fine);
        }
        State::Switched if run.verified.is_none() => {
            return Err(Error::new(Kind::Blocked, "the new store was never verified")
                .hint("run `unaufs verify` first")
                .loss("nothing; nothing was deleted"));
        }
        State::Switched | State::Cleaned => {}
        other => {
            return Err(Error::new(
                Kind::Blocked,
                format!("the migration stands at '{}': the old store is still needed", other.name()),
            )
            .hint("`unaufs status` tells what to do")
            .loss("nothing; nothing was deleted"));
        }
    }
    if !(g.json || g.jsonl) {
        say(&report::cleanup_warning(&run.plan))?;
    }
    confirm(a.yes, "Delete the old store for good?")?;
    let mut locked = Locked::open(root, lock, g.state.as_deref())?;
    engine::cleanup(&mut locked, &run)?;
    if g.json || g.jsonl {
        say_json(&serde_json::json!({"schema": "unaufs.cleanup/1", "state": "cleaned"}))?;
    } else {
        say("the old store is deleted")?;
    }
    Ok(Ending::Fine)
}

/// `unaufs explain`.
pub fn explain(g: &Global, id: &str) -> Done {
    let Some(c) = checks::explain(id) else {
        return Err(Error::new(Kind::Usage, format!("there is no check {}", crate::show::text(id)))
            .hint(format!("the ids are {}", checks::TABLE.iter().map(|c| c.id).collect::<Vec<_>>().join(" "))));
    };
    if g.json || g.jsonl {
        say_json(
            &serde_json::json!({"schema": "unaufs.explain/1", "id": c.id, "level": c.level, "title": c.title, "explain": c.explain}),
        )?;
    } else {
        say(&format!("{} {} ({:?})\n\n{}", c.id, c.title, c.level, c.explain))?;
    }
    Ok(Ending::Fine)
}
