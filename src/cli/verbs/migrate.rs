//! `unaufs migrate`: begins, continues, or says that nothing is left to do.

use super::{Roots, fitted, journal, needed, say, tell};
use crate::cli::args::{Global, MigrateArgs};
use crate::cli::output::Output;
use crate::cli::prompt::confirm;
use crate::cli::saved::to_run as load;
use crate::cli::{Done, Ending, screen};
use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use crate::ids::LayerId;
use crate::plan::names::Names;
use crate::plan::new_root::Destination;
use crate::plan::{Plan, make};
use crate::report;
use crate::run::identity::Known;
use crate::run::journal::{Run, State};
use crate::run::preflight::{self, IN_USE, ROOM, blockers};
use crate::run::stage::{self, Replan};
use crate::run::states::{Answer, Command, Standing};
use crate::run::{self, How, Lock, Locked, units};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `unaufs migrate`.
pub fn migrate(g: &Global, a: &MigrateArgs) -> Done {
    let (saved, target) = targeted(g, a)?;
    let g = &Global { target, ..g.clone() };
    let mut roots = Roots::of(g)?;
    let page = {
        let given: Vec<&Dir> = roots.old.iter().chain(&roots.new).collect();
        Output::optional(a.html.as_deref(), &given)?
    };
    // before the journal is read: what another unaufs has done until then would make the plan out of date
    let lock = roots.lock(a.prepare)?;
    let how = How { verify: a.verify.level(), keep_going: a.keep_going, no_switch: a.no_switch, prepare: a.prepare };
    let standing = roots.standing()?;
    let answer = standing.answer(if a.prepare { Command::Prepare } else { Command::Migrate });
    let Roots { old, new, known } = roots;
    let at = At { root: needed(old)?, new, lock, known, page };
    if let Some(saved) = &saved {
        same_root(saved, &at.root)?;
    }
    match answer {
        Answer::Nothing(text) => finished(g, a, (&at.known, &standing), text),
        Answer::Refuse(e) => Err(e),
        Answer::Continue => resume(g, a, at, saved, how),
        _ => begin(g, a, at, saved, how),
    }
}

/// The roots, locked.
struct At {
    /// Holds the old store.
    root: Dir,
    /// Where the new store comes to be, if that directory is there.
    new: Option<Dir>,
    lock: Lock,
    known: Known,
    /// Gets the record of the migration.
    page: Option<Output>,
}

impl At {
    /// Opens the journal; makes the directory of the new root where it is missing.
    fn open(self, g: &Global) -> Result<Ready> {
        let mut lock = self.lock;
        let new = match (self.new, &g.target) {
            (Some(new), _) => new,
            (None, Some(target)) => {
                let new = Destination::look(target)?.make(&self.root)?;
                lock = lock.and(&new, false)?;
                new
            }
            (None, None) => self.root.again()?,
        };
        let locked = Locked::open(self.root, new, lock, &self.known)?;
        Ok(Ready { locked, page: self.page })
    }
}

/// The roots locked, the journal and the outputs open.
struct Ready {
    locked: Locked,
    page: Option<Output>,
}

/// A saved plan is for one root.
fn same_root(saved: &Plan, root: &Dir) -> Result<()> {
    // a path that isn't UTF-8 is written down as well as it can be
    if saved.root.path == root.label().to_string_lossy() {
        return Ok(());
    }
    let (theirs, ours) = (crate::text::text(&saved.root.path), crate::text::path(root.label()));
    Err(Error::new(Kind::Usage, format!("the saved plan is for {theirs}, and --root is {ours}"))
        .hint(format!("Use --root {theirs}, or make a plan of {ours}."))
        .loss("Nothing was changed."))
}

/// The saved plan, if one was given, and the `--target` of it or of the command line.
fn targeted(g: &Global, a: &MigrateArgs) -> Result<(Option<Plan>, Option<PathBuf>)> {
    let Some(file) = &a.plan else { return Ok((None, g.target.clone())) };
    let saved = load(file)?;
    a.what.agrees(&saved.options, "the saved plan")?;
    if let Some(given) = a.what.docker_config().filter(|g| Some(g) != saved.options.docker_config.as_ref()) {
        let what = format!("the saved plan was made without --docker-config {}", crate::text::text(&given));
        return Err(Error::new(Kind::Usage, what).hint("Make a new plan with it.").loss("Nothing was changed."));
    }
    let theirs = saved.options.target.as_ref().map(PathBuf::from);
    match (&g.target, &theirs) {
        (Some(given), Some(theirs)) if std::path::absolute(given).ok().as_ref() != Some(theirs) => {
            Err(Error::new(Kind::Usage, format!("the saved plan has --target {}", theirs.display())))
        }
        (Some(_), None) => Err(Error::new(Kind::Usage, "the saved plan has no --target").hint("Make a new plan.")),
        _ => Ok((Some(saved), theirs)),
    }
}

fn finished(g: &Global, a: &MigrateArgs, (known, standing): (&Known, &Standing), why: &str) -> Done {
    if let Some(to) = a.what.to.filter(|to| to.name() != standing.to) {
        let what = format!("this data root is already migrated to {}, not to {}", standing.to, to.name());
        return Err(Error::new(Kind::Usage, what)
            .hint("Leave --to out. To have another driver, put the old store back with `unaufs rollback` and migrate again.")
            .loss("Nothing was changed."));
    }
    let mut text = format!("nothing to do: {why}");
    if let Known::Run(run) = known {
        let theirs = &run.plan.options;
        let others = |given: &[String], theirs: &[String]| !given.is_empty() && given != theirs;
        if others(&a.what.only, &theirs.only) || others(&a.what.exclude, &theirs.exclude) {
            a.what.agrees(theirs, "the migration that is done")?;
        }
        if let Some(left) = report::left_in_old_store(&run.plan).filter(|_| standing.state == Some(State::Switched)) {
            text.push_str(&format!(
                ". Not migrated: {left}. To migrate more, run `unaufs rollback`, and migrate again."
            ));
        }
    }
    let doc = serde_json::json!({"schema": "unaufs.migrate/1", "state": standing.state, "built": 0, "text": text});
    tell(g, &doc, || text)?;
    Ok(Ending::Fine)
}

fn begin(g: &Global, a: &MigrateArgs, at: At, saved: Option<Plan>, how: How) -> Done {
    let options = saved.as_ref().map_or_else(|| a.what.options(g.target.as_deref()), |p| p.options.clone());
    if let (None, Some(new)) = (&options.target, at.new.as_ref().filter(|n| n.label() != at.root.label())) {
        let (old, new) = (crate::text::path(at.root.label()), crate::text::path(new.label()));
        return Err(Error::new(Kind::Usage, format!("{new} is the new root of a migration that is over"))
            .hint(format!("unaufs migrate --root {old} --target {new}")));
    }
    // what is under way in the old root itself would continue from a store that this one doesn't change
    if g.target.is_some()
        && let Known::Run(run) = run::identity::look(&at.root)?
        && !run.state.over()
        && run.plan.new_root.is_none()
    {
        return Err(Error::new(Kind::Failed, "a migration without --target is under way in this root")
            .hint("Finish it with `unaufs migrate`, or drop it with `unaufs rollback`.")
            .loss("Nothing was changed."));
    }
    let progress = screen::progress(g);
    let plan = make::make(&at.root, &options, &make::Earlier::default(), &*progress)?;
    drop(progress);
    crate::error::check_disk(a.keep_going)?;
    if let Some(saved) = &saved {
        stale(saved, &plan)?;
        edited(saved, &plan)?;
    }
    blockers(&plan, if a.prepare { &IN_USE } else { &[] })?;
    if !(g.for_programs() || g.quiet) {
        let shown = report::plan::Screen { next: false, ..report::plan::Screen::of(screen::look(g)) };
        say(&format!("{}\n", report::plan::on_screen(&plan, &shown)))?;
    }
    if saved.is_none() {
        confirm(a.yes, "Migrate now?")?;
    }
    let mut locked = at.open(g)?;
    work(g, &mut locked, plan, None, how)
}

fn resume(g: &Global, a: &MigrateArgs, mut at: At, saved: Option<Plan>, how: How) -> Done {
    let mut run = match std::mem::replace(&mut at.known, Known::Nothing) {
        Known::Run(run) => *run,
        _ => return Err(Error::corrupt("the journal lost its run")),
    };
    a.what.agrees(&run.plan.options, "the migration under way")?;
    if let Some(saved) = &saved
        && saved.options != run.plan.options
    {
        return Err(Error::new(Kind::Usage, "the saved plan has other options than the migration under way")
            .hint("`unaufs migrate` without a plan continues the migration under way. `unaufs rollback` drops it.")
            .loss("Nothing was changed."));
    }
    if let Some(file) = a.what.docker_config() {
        run.plan.options.docker_config = Some(file);
    }
    let to = run.plan.options.to;
    if run.state == State::Switching {
        if a.no_switch {
            return Err(Error::new(
                Kind::Usage,
                "--no-switch contradicts the migration under way: its switch was interrupted",
            )
            .hint("Run `unaufs migrate` without --no-switch, or `unaufs rollback`.")
            .loss("Nothing was changed."));
        }
        confirm(a.yes, &format!("The switch to {to} was interrupted. Finish it?"))?;
        let mut locked = at.open(g)?;
        let plan = run.plan.clone();
        return work(g, &mut locked, plan, Some(run), how);
    }
    let lost = match journal(at.new.as_ref().unwrap_or(&at.root))? {
        // what failed while preparing is tried again
        Some(j) if !run.prepared => j.lost(run.id)?,
        _ => BTreeMap::new(),
    };
    let fresh = planned_again(g, &at.root, &run, &lost)?;
    crate::error::check_disk(a.keep_going)?;
    blockers(&fresh, &if a.prepare { [ROOM, IN_USE].concat() } else { ROOM.to_vec() })?;
    if let Some(saved) = &saved {
        stale(saved, &fresh)?;
        edited(saved, &fresh)?;
    }
    if saved.is_none() {
        confirm(a.yes, &format!("A migration to {to} was begun at {}. Continue?", crate::text::text(&run.started)))?;
    }
    let mut locked = at.open(g)?;
    let other = run.state == State::Building && run.prepared != a.prepare;
    let changes = preflight::changes(&run.plan, &fresh);
    let run = if other || !changes.is_empty() {
        if !run.prepared {
            built_again(g, &run.plan, &changes);
        }
        run::reconcile(&mut locked.locked, &run, &fresh, a.prepare, &lost)?;
        locked.locked.journal.last()?
    } else {
        Some(run)
    };
    work(g, &mut locked, run.as_ref().map_or(fresh, |r| r.plan.clone()), run, how)
}

/// The plan of the run, as it is now; `lost` stays lost.
fn planned_again(g: &Global, root: &Dir, run: &Run, lost: &BTreeMap<LayerId, String>) -> Result<Plan> {
    let known = make::Earlier::of(&run.plan);
    let counted = if run.prepared { known.counted } else { BTreeMap::new() };
    let known = make::Earlier { lost: lost.clone(), counted, ..known };
    make::make(root, &run.plan.options, &known, &*screen::progress(g))
}

/// Names what has changed in the old store since an interrupted run built it.
fn built_again(g: &Global, was: &Plan, changes: &[String]) {
    if changes.is_empty() {
        return;
    }
    let names = Names::of_plan(was);
    let changes: Vec<String> = changes.iter().map(|c| names.path(c)).collect();
    screen::progress(g).warn(&format!("changed since the last run, and built again: {}", changes.join("; ")));
}

/// Runs the engine; with `--keep-going` plans again without what failed, as often as something fails.
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
        let outcome = run::migrate(locked, &mut plan, run.take(), how, &*progress)?;
        if outcome.failed.is_empty() {
            break outcome;
        }
        failed.extend(outcome.failed.clone());
        let known = make::Earlier { lost: failed.clone(), ..make::Earlier::default() };
        let fresh = make::make(&locked.old, &plan.options, &known, &*progress)?;
        let Some(last) = locked.journal.last()? else {
            return Err(Error::corrupt("the journal lost its run"));
        };
        stage::reconcile(locked, last.id, &last.plan, &Replan { plan: &fresh, prepared, lost: &failed })?;
        plan = fresh;
        run = locked.journal.last()?;
    };
    drop(progress);
    let record = record(locked, before)?;
    if let Some(page) = page.take() {
        page.write_at_the_end(report::html::page(&plan, Some(&record)).map(String::into_bytes));
    }
    let compared = report::comparison::Comparison::of(&plan, &record).filter(|_| outcome.state != State::Building);
    let doc = report::migrate::Summary {
        schema: "unaufs.migrate/1",
        outcome: &outcome,
        failed: &failed,
        left_behind: &plan.left_behind,
        damage: &plan.damage,
        compared: compared.as_ref(),
        driver: plan.options.to,
    };
    tell(g, &doc, || fitted(g, &report::migrate::text(&doc, &plan), 9))?;
    let partial = plan.partial() || !failed.is_empty() || outcome.differences() > 0;
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
    let units = locked.journal.tallies(run.id, units::KIND)?;
    // what is copied into the directories of containers was counted with what is written there
    let units = units.iter().filter(|(name, _)| !name.starts_with("containers/"));
    let units = units.filter_map(|(_, t)| t.split_once(' ')).map(|(_, sums)| sums);
    for tally in layers.values().chain(rest.values()).map(String::as_str).chain(units) {
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
        verified: run.verdict.filter(|v| v.clean).map(|v| v.text()),
        sums,
        disk,
    })
}

/// An error if the saved plan lists something else than is done: the options in it decide, so a change of the lists has no effect.
fn edited(saved: &Plan, fresh: &Plan) -> Result<()> {
    let lists = |p: &Plan| {
        let layers: Vec<_> = p.layers.iter().map(|l| (&l.id, &l.lowers, &l.source, &l.transfer)).collect();
        let images: Vec<_> = p.images.iter().map(|i| (i.id, &i.tags, &i.digests, &i.layers)).collect();
        let containers: Vec<_> = p.containers.iter().map(|c| (&c.id, &c.name, &c.layer, &c.init, &c.files)).collect();
        let behind: Vec<_> = p.left_behind.iter().map(|l| (&l.kind, &l.id)).collect();
        serde_json::json!([layers, images, containers, behind, p.metadata, p.switch])
    };
    if lists(saved) == lists(fresh) {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, "the saved plan was edited after unaufs made it")
        .hint("Use --only or --exclude in a new plan: unaufs plan --out FILE")
        .loss("Nothing was changed."))
}

/// Exit 13 with everything that changed.
pub(super) fn stale(saved: &Plan, fresh: &Plan) -> Result<()> {
    let changes = fresh.fingerprint.changes_since(&saved.fingerprint);
    if changes.is_empty() {
        return Ok(());
    }
    let names = Names::of_plan(saved);
    let list = crate::text::few(changes.iter().take(20).map(|c| names.path(c)), changes.len());
    Err(Error::new(Kind::Stale, format!("the store has changed since the plan was made: {list}"))
        .hint("Make a new plan with `unaufs plan --out FILE`. If a migration is under way, drop it first with `unaufs rollback`.")
        .loss("Nothing was changed."))
}
