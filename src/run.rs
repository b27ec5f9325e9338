//! Does what the plan says: builds the new store next to the old one, proves it, switches; or goes back.
//!
//! ```text
//! ROOT/.unaufs/            0700: nobody else sees a setuid program that is being staged
//!   journal.db             what is done (crate::run::journal)
//!   new/<driver>/…         layers                        ┐
//!   new/image/<driver>/…   metadata                      ├ stage.rs builds
//!   new/containers/<id>/…  configurations                ┘
//!   old/…                  what the switch parked        ─ switch.rs moves there and back
//!   undone/…               the new store after a rollback
//!   reserve                room for a rollback on a full disk (reserve.rs)
//! ```
//!
//! With `--target DIR` all of this is in `DIR/.unaufs`, the renames are within DIR, and units.rs copies the rest; ROOT is only read.
//!
//! Until the switch, deleting `new/` is a complete way back. `building → built → verified → switching → switched`, each state durable before
//! what follows it.

pub mod cleanup;
pub mod guard;
pub mod identity;
pub mod journal;
pub mod measure;
mod metadata;
pub mod preflight;
pub mod reserve;
pub mod rollback;
pub mod stage;
pub mod states;
pub mod switch;
pub mod units;

use self::guard::Guard;
use self::identity::{Course, Known, Place};
use self::journal::{Journal, Run, State};
use self::stage::Replan;
use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use crate::ids::LayerId;
use crate::plan::Plan;
use crate::plan::stack::Part;
use crate::plan::switch::STATE;
use crate::progress::Progress;
use crate::text::now;
use crate::verify::{self, By, Case, Difference, Level, Report, Side, Subject, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

/// The lock on a root. Taken before the journal is read: what another unaufs does in the meantime would make a plan out of date.
pub struct Lock {
    _held: Vec<File>,
}

impl Lock {
    /// Takes the lock and writes nothing. Fails with [`Kind::Busy`] if another unaufs holds it or, unless `docker_may_run`, a Docker
    /// runs on ROOT. The kernel drops it with the process, so there is no stale one.
    pub fn take(root: &Dir, docker_may_run: bool) -> Result<Lock> {
        let lock = root.lock()?;
        if !docker_may_run && let Some(who) = crate::plan::host::docker_on(root)? {
            return Err(docker_runs(who));
        }
        Ok(Lock { _held: vec![lock] })
    }

    /// Keeps every unaufs away that would change `root`, and lets others read it.
    pub fn reading(root: &Dir) -> Result<Lock> {
        Ok(Lock { _held: vec![root.lock_shared()?] })
    }

    /// Takes the lock of a new root in another place too.
    pub fn and(mut self, place: &Dir, docker_may_run: bool) -> Result<Lock> {
        self._held.extend(Lock::take(place, docker_may_run)?._held);
        Ok(self)
    }
}

/// The right to change a root: it is open and locked, and nothing else uses it.
pub struct Locked {
    /// Where the old store is read: ROOT.
    pub old: Dir,
    /// Where the new store comes to be: ROOT, or another directory with `--target`.
    pub root: Dir,
    /// The state directory.
    pub state: Dir,
    /// The journal in it.
    pub journal: Journal,
    _lock: Lock,
}

impl Locked {
    /// Opens the state directory and the journal, making both where they are missing. Their names are durable then: no effect may outlive
    /// the journal that records it. A journal that is `lost` is set aside.
    pub fn open(old: Dir, root: Dir, lock: Lock, known: &Known) -> Result<Locked> {
        let state = private(&root, STATE)?;
        root.sync()?;
        if let Known::Lost(lost) = known
            && lost.run.is_none()
        {
            lost.set_journal_aside(&state)?;
        }
        let journal = Journal::open(&state)?;
        Ok(Locked { old, root, state, journal, _lock: lock })
    }

    /// The identity of a run; one that an earlier version began gets one.
    fn identify(&mut self, run: &Run) -> Result<String> {
        if let Some(identity) = &run.identity {
            return Ok(identity.clone());
        }
        let identity = identity::fresh_id()?;
        self.journal.identify(run.id, &identity)?;
        Ok(identity)
    }
}

/// A directory of ours in ROOT that nobody else can enter, no matter who made it before: what is staged in it may be setuid.
pub fn private(root: &Dir, path: &str) -> Result<Dir> {
    let dir = root.ensure(path, 0o700)?;
    let (m, uid) = (dir.meta()?, rustix::process::geteuid().as_raw());
    if m.uid != uid {
        dir.set_owner(b".", uid, rustix::process::getegid().as_raw())?;
    }
    if m.mode & 0o7777 != 0o700 {
        dir.set_mode(b".", 0o700)?;
    }
    // an ACL would let others in besides the mode
    dir.remove_xattrs(b".")?;
    Ok(dir)
}

/// What the user wants of a run.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// How much is compared before the switch.
    pub verify: Option<Level>,
    /// Go on without what fails while running.
    pub keep_going: bool,
    /// Stop before the switch.
    pub no_switch: bool,
    /// Only build and prove the image layers: Docker may run.
    pub prepare: bool,
}

/// What a run did.
#[derive(Debug, serde::Serialize)]
pub struct Outcome {
    /// Its state now.
    pub state: State,
    /// Layers built by this call.
    pub built: usize,
    /// Layers that an earlier call had built.
    pub found_done: usize,
    /// What failed while running, with `--keep-going`; the summary has it, of all rounds.
    #[serde(skip)]
    pub failed: BTreeMap<LayerId, String>,
    /// Is there a clean verdict?
    pub verified: bool,
    /// What had changed in the old store and was built again.
    pub changed: Vec<String>,
    /// What a Docker had made while the switch was interrupted, and where it is now.
    pub aside: Vec<String>,
    /// Damage that the old store had already, and that moved unchanged; found by this call.
    pub damaged: Vec<Difference>,
    /// The valid verdict, whichever call found it.
    pub verdict: Option<Verdict>,
    /// What was really done, in sums.
    pub tally: stage::Sums,
    /// The same of what was copied to a new root besides layers.
    #[serde(skip_serializing_if = "Option::is_none", rename = "along")]
    pub units: Option<stage::Sums>,
}

impl Outcome {
    fn begun(state: State) -> Outcome {
        Outcome {
            state,
            built: 0,
            found_done: 0,
            failed: BTreeMap::new(),
            verified: false,
            changed: Vec::new(),
            aside: Vec::new(),
            damaged: Vec::new(),
            verdict: None,
            tally: stage::Sums::default(),
            units: None,
        }
    }

    /// How many differences moved: those that this call found, or else those of the valid verdict.
    pub fn differences(&self) -> u64 {
        match &self.verdict {
            Some(v) if self.damaged.is_empty() => v.total(),
            _ => self.damaged.len() as u64,
        }
    }
}

/// A run under way.
struct Ongoing {
    id: i64,
    identity: String,
    started: String,
    state: State,
}

/// How often something is built again that changes in between.
const ROUNDS: usize = 3;

/// A run at work: the roots, how it is to be done, where progress goes, and what came of it so far.
struct Migration<'a> {
    at: &'a mut Locked,
    run: Ongoing,
    how: How,
    progress: &'a dyn Progress,
    outcome: Outcome,
}

/// Starts a run, or continues with `run`: builds what is missing, proves it, looks once more, switches. `plan` is the one that was carried out
/// in the end.
pub fn migrate(
    at: &mut Locked,
    plan: &mut Plan,
    run: Option<Run>,
    how: How,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let run = ongoing(at, plan, run, how)?;
    let outcome = Outcome::begun(run.state);
    let mut m = Migration { at, run, how, progress, outcome };
    if m.run.state == State::Switching && m.course(plan)?.place(&m.at.root)? == Place::Before {
        // nothing is renamed yet: Docker may have run since
        m.enter(State::Built)?;
    }
    while m.run.state != State::Switching {
        match m.build(plan) {
            Ok(true) if !how.no_switch => {}
            Ok(_) => return m.ended(),
            Err(e) => {
                m.changed_meanwhile(plan, e)?;
                continue;
            }
        }
        crate::error::check_disk(how.keep_going).map_err(|e| e.loss(NOTHING_LOST))?;
        if m.up_to_date(plan)? {
            m.begin_switch(plan)?;
        }
    }
    progress.phase("switch", plan.switch.len() as u64);
    let aside = switch::forward(&m.at.root, &m.course(plan)?, progress)?;
    m.outcome.aside.extend(aside);
    m.enter(State::Switched)?;
    m.ended()
}

/// The file of the run, with what was noted in it when it began.
fn course(at: &Locked, run: &Ongoing, plan: &Plan) -> Result<Course> {
    let new = Course::of(&run.identity, plan, &run.started);
    Ok(match Course::read(&at.state)? {
        Some(noted) => Course { undone_before: noted.undone_before, made: noted.made || new.made, ..new },
        None => new,
    })
}

/// The run, with an identity that is durable before anything else is done.
fn ongoing(at: &mut Locked, plan: &Plan, run: Option<Run>, how: How) -> Result<Ongoing> {
    let Some(run) = run else {
        stage::clear(&at.root)?;
        at.state.remove_empty(b"old")?;
        if at.state.has("old")? {
            return Err(rollback::foreign(&at.state)?.loss("Nothing was changed."));
        }
        let (identity, started) = (identity::fresh_id()?, now());
        let undone_before = rollback::undone(&at.state)?;
        Course { undone_before, ..Course::of(&identity, plan, &started) }.write(&at.state)?;
        let id = at.journal.begin(plan, &identity, how.prepare, &started)?;
        return Ok(Ongoing { id, identity, started, state: State::Building });
    };
    let identity = at.identify(&run)?;
    let (id, started, state) = (run.id, run.started, run.state);
    let out = Ongoing { id, identity, started, state };
    course(at, &out, plan)?.write(&at.state)?;
    Ok(out)
}

/// Before a run continues: what has changed since goes out of the stage, and the run gets the fresh plan.
pub fn reconcile(
    at: &mut Locked,
    run: &Run,
    fresh: &Plan,
    prepared: bool,
    lost: &BTreeMap<LayerId, String>,
) -> Result<()> {
    if run.state != State::Building {
        at.journal.set_state(run.id, State::Building, &now())?;
    }
    stage::reconcile(at, run.id, &run.plan, &Replan { plan: fresh, prepared, lost })
}

impl Migration<'_> {
    fn enter(&mut self, state: State) -> Result<()> {
        self.run.state = state;
        self.at.journal.set_state(self.run.id, state, &now())
    }

    fn course(&self, plan: &Plan) -> Result<Course> {
        course(self.at, &self.run, plan)
    }

    /// The outcome with what the journal says of the run. An earlier verdict that is still valid counts as this run's.
    fn ended(self) -> Result<Outcome> {
        let verdict = self.at.journal.verdict(self.run.id)?;
        let verified = self.outcome.verified || verdict.as_ref().is_some_and(|v| v.clean);
        Ok(Outcome { state: self.run.state, verified, verdict, ..self.outcome })
    }

    /// Builds and proves what is not yet. `false` if that is all for now.
    fn build(&mut self, plan: &Plan) -> Result<bool> {
        let (how, run) = (self.how, self.run.id);
        if matches!(self.run.state, State::Built | State::Verified) && !units::stale(self.at, plan, run)?.is_empty() {
            self.enter(State::Building)?;
        }
        let which = if how.prepare { Part::Images } else { Part::All };
        if self.run.state == State::Building {
            reserve::make(&self.at.state)?;
            self.build_stage(plan, which)?;
            if !self.outcome.failed.is_empty() {
                return Ok(false);
            }
            if !how.prepare {
                self.enter(State::Built)?;
            }
        }
        let standing = self.at.journal.verdict(run)?;
        if let Some(level) = how.verify
            && !standing.is_some_and(|v| v.covers(level))
        {
            let which = if self.run.state == State::Building { which } else { Part::All };
            self.prove(plan, level, which)?;
            if self.run.state == State::Built {
                self.enter(State::Verified)?;
            }
        }
        crate::stop::check()?;
        Ok(!how.prepare)
    }

    /// Compares the stage with the old store; a difference is an error and nothing is switched. What was proved while preparing is not
    /// compared again.
    fn prove(&mut self, plan: &Plan, level: Level, which: Part) -> Result<()> {
        let (id, at) = (self.run.id, &mut *self.at);
        let new = at.root.open(crate::plan::switch::NEW)?;
        let proved = at.journal.proved(id, level.name())?;
        let case = Case { plan, old: &at.old, new: &new, part: which, proved: &proved, switched: None };
        let report = verify::judge(&Subject::Migrated(case), level, self.progress)?;
        if let Some(first) = report.unchecked.first() {
            crate::error::check_disk(false)?;
            let what = format!("{} could not be checked: {}", first.object, first.reason);
            return Err(Error::new(Kind::Failed, what)
                .hint("Remove the cause, then run `unaufs migrate` again.")
                .loss(NOTHING_LOST));
        }
        if let Some(verdict) = report.verdict(level, now()).filter(|_| which == Part::All) {
            at.journal.judge(id, &verdict)?;
        }
        let records: Vec<Difference> = report.damaged_records().collect();
        // what the old store does not have either moves unchanged
        let (moved, differs): (Vec<_>, Vec<_>) =
            report.differences.into_iter().partition(|d| d.by == By::Headers && d.side == Side::Both);
        if !differs.is_empty() || (moved.len() as u64) < report.counts.values().sum() {
            return Err(unlike(if differs.is_empty() { &moved } else { &differs }).loss(NOTHING_LOST));
        }
        self.outcome.verified = true;
        self.outcome.damaged = moved;
        self.outcome.damaged.extend(records);
        if which == Part::Images && self.outcome.damaged.is_empty() {
            let layers = plan.layers.iter().filter(|l| !l.role.writable()).map(|l| l.id.as_str());
            return at.journal.prove(id, &layers.collect::<Vec<_>>(), level.name());
        }
        Ok(())
    }

    /// An error that comes of a store that has changed since the plan was made is none: what has changed is built again.
    fn changed_meanwhile(&mut self, plan: &mut Plan, e: Error) -> Result<()> {
        if self.how.prepare || !matches!(e.kind(), Kind::Difference | Kind::Failed) {
            return Err(e);
        }
        let Ok(fresh) = preflight::last_look(self.at, self.run.id, plan, self.progress) else { return Err(e) };
        match preflight::changes(plan, &fresh) {
            none if none.is_empty() => Err(e),
            changes => self.build_again(plan, fresh, &changes),
        }
    }

    /// Looks at everything again. If the old store, or the target's, is not what was built from, what has changed goes out of the stage.
    fn up_to_date(&mut self, plan: &mut Plan) -> Result<bool> {
        let run = self.run.id;
        let fresh = preflight::last_look(self.at, run, plan, self.progress)?;
        let mut changes = preflight::changes(plan, &fresh);
        if changes.is_empty() {
            let stale = units::stale(self.at, &fresh, run)?;
            changes.extend(stale.into_iter().map(|name| format!("{name} has changed")));
        }
        if changes.is_empty() {
            // what does not matter for the stage may be newer: directories' times, sizes
            *plan = fresh;
            self.at.journal.note_plan(run, plan)?;
            return Ok(true);
        }
        self.build_again(plan, fresh, &changes)?;
        Ok(false)
    }

    /// Takes what has changed out of the stage. From here on the fresh plan counts.
    fn build_again(&mut self, plan: &mut Plan, fresh: Plan, changes: &[String]) -> Result<()> {
        if self.outcome.changed.len() >= ROUNDS {
            return Err(Error::new(Kind::Stale, format!("the store keeps changing: {}", changes.join("; ")))
                .hint("Find out what writes into it.")
                .loss(NOTHING_LOST));
        }
        self.outcome.changed.push(changes.join("; "));
        let run = self.run.id;
        let lost = self.at.journal.lost(run)?;
        self.enter(State::Building)?;
        stage::reconcile(self.at, run, plan, &Replan { plan: &fresh, prepared: false, lost: &lost })?;
        *plan = fresh;
        Ok(())
    }

    /// Makes everything that a way back needs durable, and keeps Docker out. One that came since the last look is seen here.
    fn begin_switch(&mut self, plan: &Plan) -> Result<()> {
        self.course(plan)?.write(&self.at.state)?;
        self.enter(State::Switching)?;
        let guard = Guard::of(&self.at.root, &self.run.identity);
        guard.shut(&mut self.outcome.aside)?;
        if let Some(who) = crate::plan::host::docker_on(&self.at.root)? {
            guard.open(&mut self.outcome.aside)?;
            self.enter(State::Built)?;
            return Err(docker_runs(who));
        }
        Ok(())
    }
}

fn docker_runs(who: String) -> Error {
    Error::new(Kind::Busy, who)
        .hint("systemctl stop docker.socket docker.service")
        .loss("Nothing was changed. When Docker is stopped, run the same command again.")
}

/// Compares the new store with the old one, wherever the run has them now, and notes the verdict. What Docker itself has changed is no
/// difference.
pub fn compare(
    journal: &mut Journal,
    run: &Run,
    (old, root): (&Dir, &Dir),
    level: Level,
    progress: &dyn Progress,
) -> Result<Report> {
    let switched = run.state == State::Switched;
    let state = root.open(STATE)?;
    if switched && let Some(course) = Course::read(&state)? {
        rollback::whole(root, &course).map_err(|e| {
            let driver = run.plan.options.to;
            e.hint(format!("`unaufs verify` with --driver {driver} checks the new store by itself. `unaufs cleanup` with --skip-verify deletes the rest of the old store."))
                .loss("Nothing was changed. A rollback isn't possible.")
        })?;
    }
    let new = if switched { root.again()? } else { root.open(crate::plan::switch::NEW)? };
    let switched = if switched { verify::since::reference(root)? } else { None };
    let none = BTreeSet::new();
    let case = Case { plan: &run.plan, old, new: &new, part: Part::All, proved: &none, switched };
    let report = verify::judge(&Subject::Migrated(case), level, progress)?;
    let noted = match report.verdict(level, now()) {
        Some(verdict) => journal.judge(run.id, &verdict),
        // what cannot be checked is not clean
        None => journal.withdraw(run.id),
    };
    if let Err(e) = noted {
        progress.warn(&format!("the result can't be noted in the journal: {}", e.chain()));
    }
    Ok(report)
}

/// What is lost by a failure before the switch.
const NOTHING_LOST: &str = "Nothing was switched, and unaufs hasn't changed the old store.";

/// The error that keeps a store that was not proved from being switched to.
fn unlike(differences: &[Difference]) -> Error {
    let in_source = |d: &&Difference| matches!(d.side, Side::Both | Side::Old);
    let many = crate::text::plural(differences.len(), "difference");
    // what the migration itself did wrong comes first
    if let Some(first) = differences.iter().find(|d| !in_source(d)) {
        return Error::new(
            Kind::Difference,
            format!("{many} between the old store and the new one; the first: {first}"),
        )
        .hint("Remove the new store with `unaufs rollback --drop-new`, then migrate again. If it happens again, please report it.");
    }
    let first = differences.iter().find(in_source).map(|d| d.to_string()).unwrap_or_default();
    Error::new(Kind::Difference, format!("the old store itself is damaged: {many}; the first: {first}"))
        .hint("Restore those files. Or run `unaufs rollback` and leave the image out with --exclude image=NAME. `unaufs migrate --verify fast` migrates the files with the damage.")
}
