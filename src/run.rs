//! Does what the plan says: builds the new store beside the old one, proves it, switches; or goes back.
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
//! With `--target DIR` all of this lies in `DIR/.unaufs`, the renames are within DIR, and carry.rs copies what goes along; ROOT is only read.
//!
//! Until the switch, deleting `new/` is a complete way back. `building → built → verified → switching → switched`, each state durable before
//! what follows it.

pub mod carry;
pub mod journal;
pub mod measure;
pub mod reserve;
pub mod stage;
pub mod switch;

use self::journal::{Journal, Run, State};
use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use crate::ids::LayerId;
use crate::plan::Plan;
use crate::plan::stack::Part;
use crate::plan::switch::{STATE, old_parts};
use crate::progress::Progress;
use crate::text::now;
use crate::verify::{self, By, Case, Difference, Level, Side, Subject};
use std::collections::BTreeMap;
use std::fs::File;

/// The lock on a root. Taken before the journal is read: what another unaufs does meanwhile would make a plan out of date.
pub struct Lock {
    _held: Vec<File>,
}

impl Lock {
    /// Takes the lock and writes nothing. Fails with [`Kind::Busy`] if another unaufs holds it or, unless `docker_may_run`, a Docker
    /// runs on ROOT. The kernel drops it with the process, so there is no stale one.
    pub fn take(root: &Dir, docker_may_run: bool) -> Result<Lock> {
        let lock = root.lock()?;
        if !docker_may_run && let Some(who) = crate::plan::host::docker_on(root)? {
            return Err(Error::new(Kind::Busy, who)
                .hint("systemctl stop docker docker.socket; then run unaufs again")
                .loss("nothing; nothing was changed"));
        }
        Ok(Lock { _held: vec![lock] })
    }

    /// Takes the lock of a new root in another place too.
    pub fn and(mut self, place: &Dir) -> Result<Lock> {
        self._held.extend(Lock::take(place, false)?._held);
        Ok(self)
    }
}

/// The right to change a root: it is open and locked, and nothing else uses it.
pub struct Locked {
    /// Where the old store is read: ROOT.
    pub old: Dir,
    /// Where the new store comes to be: ROOT, or another folder with `--target`.
    pub root: Dir,
    /// The state folder.
    pub state: Dir,
    /// The journal in it.
    pub journal: Journal,
    _lock: Lock,
}

impl Locked {
    /// Opens the state folder and the journal, making both where they are missing. Their names are durable then: no effect may outlive
    /// the journal that tells of it.
    pub fn open(old: Dir, root: Dir, lock: Lock) -> Result<Locked> {
        let state = private(&root, STATE)?;
        root.sync()?;
        let journal = Journal::open(&state)?;
        Ok(Locked { old, root, state, journal, _lock: lock })
    }
}

/// A folder of ours in ROOT that nobody else can enter, whoever made it before: what is staged in it may be setuid.
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
    /// Where it stands now.
    pub state: State,
    /// Layers built by this call.
    pub built: usize,
    /// Layers that an earlier call had built.
    pub found_done: usize,
    /// What failed while running, with `--keep-going`; the summary tells it, of all rounds.
    #[serde(skip)]
    pub failed: BTreeMap<LayerId, String>,
    /// Was it compared?
    pub verified: bool,
    /// Damage that the old store had already, and that moved as it is.
    pub damaged: Vec<Difference>,
    /// What was really done, in sums.
    pub tally: stage::Sums,
    /// The same of what goes along to a root in another place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub along: Option<stage::Sums>,
}

/// Starts a run, or goes on with `run`.
pub fn migrate(at: &mut Locked, plan: &Plan, run: Option<Run>, how: How, progress: &dyn Progress) -> Result<Outcome> {
    let (id, mut state) = match run {
        Some(r) => (r.id, r.state),
        None => {
            stage::clear(&at.root)?;
            (at.journal.begin(plan, how.prepare, &now())?, State::Building)
        }
    };
    let mut outcome = Outcome {
        state,
        built: 0,
        found_done: 0,
        failed: Default::default(),
        verified: false,
        damaged: Vec::new(),
        tally: stage::Sums::default(),
        along: None,
    };
    if matches!(state, State::Built | State::Verified) && carry::stale(at, plan, id)? {
        at.journal.set_state(id, State::Building, &now())?;
        state = State::Building;
    }
    if state == State::Building {
        reserve::make(&at.state)?;
        let which = if how.prepare { Part::Images } else { Part::All };
        stage::build(at, plan, id, which, how.keep_going, progress, &mut outcome)?;
        if !outcome.failed.is_empty() {
            return Ok(outcome);
        }
        if how.prepare {
            if let Some(level) = how.verify {
                prove(at, plan, id, level, which, progress, &mut outcome)?;
            }
            return Ok(outcome);
        }
        at.journal.set_state(id, State::Built, &now())?;
        state = State::Built;
    }
    if state == State::Built {
        if let Some(level) = how.verify {
            prove(at, plan, id, level, Part::All, progress, &mut outcome)?;
            at.journal.set_state(id, State::Verified, &now())?;
            state = State::Verified;
        }
        crate::stop::check()?;
    }
    if matches!(state, State::Built | State::Verified) && !how.no_switch {
        crate::error::check_disk(how.keep_going).map_err(|e| e.loss(NOTHING_LOST))?;
        at.journal.set_state(id, State::Switching, &now())?;
        state = State::Switching;
    }
    if state == State::Switching {
        progress.phase("switch", plan.switch.len() as u64);
        switch::forward(&at.root, plan, progress)?;
        at.journal.set_state(id, State::Switched, &now())?;
        state = State::Switched;
    }
    outcome.state = state;
    Ok(outcome)
}

/// Puts the old store back, from every state. Needs no free space.
pub fn rollback(at: &mut Locked, run: &Run, drop_new: bool, progress: &dyn Progress) -> Result<switch::Undone> {
    reserve::release(&at.state)?;
    let switched = at.journal.has_switched(run.id)?;
    at.journal.set_state(run.id, State::Undoing, &now())?;
    // before its renames a run has nothing outside the state folder: an overlay2/ in ROOT is somebody else's
    let mut undone = match switched {
        true => switch::backward(&at.root, &run.plan, progress)?,
        false => switch::Undone::default(),
    };
    if switched && run.plan.elsewhere.is_some() {
        switch::empty(&at.root, &mut undone)?;
    }
    if switched && !drop_new {
        switch::keep_undone(&at.root)?;
    } else {
        stage::clear(&at.root)?;
    }
    if let Some(state) = at.root.open_opt(STATE)? {
        // folders only: had something not gone back, it would stay here
        state.remove_empty(b"old")?;
    }
    // a new migration clears the stage: `undone` must be durable before
    at.root.sync_fs()?;
    at.journal.set_state(run.id, State::Undone, &now())?;
    Ok(undone)
}

/// Removes everything that unaufs made in the root, the journal last; a new root in another place too, if it was `made`. Only after the
/// old store is back.
pub fn drop_state(at: Locked, made: bool) -> Result<()> {
    let Locked { root, journal, _lock, .. } = at;
    drop(journal);
    let is_journal = |name: &[u8]| name.starts_with(journal::FILE.as_bytes());
    if let Some(dir) = root.open_opt(STATE)? {
        dir.remove_empty(b"old")?;
        if dir.has("old")? {
            return Err(Error::corrupt("the old store is still parked").hint("run `unaufs rollback` again"));
        }
        for (name, _) in dir.list()?.into_iter().filter(|(n, _)| !is_journal(n)) {
            dir.remove_tree(&name)?;
        }
        dir.sync_fs()?;
    }
    root.remove_tree(STATE.as_bytes())?;
    root.sync_fs()?;
    if made && let (Some(above), Some(name)) = (root.label().parent(), root.label().file_name()) {
        let above = Dir::open_named(above)?;
        above.remove_empty(name.as_encoded_bytes())?;
        above.sync()?;
    }
    Ok(())
}

/// Deletes the old store, of a migration with `--target` in the old root; what else unaufs keeps goes first, so that as long as something is left, `old` is.
pub fn cleanup(at: &mut Locked, run: &Run) -> Result<()> {
    at.journal.set_state(run.id, State::Cleaned, &now())?;
    if let Some(state) = at.root.open_opt(STATE)? {
        let kept = |n: &[u8]| n == b"old" || n.starts_with(journal::FILE.as_bytes());
        for (name, _) in state.list()?.into_iter().filter(|(n, _)| !kept(n)) {
            state.remove_tree(&name)?;
        }
        state.remove_tree(b"old")?;
    }
    at.root.sync_fs()?;
    if run.plan.elsewhere.is_some() {
        for path in old_parts(run.plan.generation) {
            if at.old.has(path)? {
                let (dir, name) = at.old.parent_of(path.as_bytes())?;
                dir.remove_tree(name)?;
            }
        }
        at.old.sync_fs()?;
    }
    Ok(())
}

/// Compares the stage with the old store; a difference is an error and nothing is switched. What was proved while preparing is not
/// compared again.
fn prove(
    at: &mut Locked,
    plan: &Plan,
    id: i64,
    level: Level,
    which: Part,
    progress: &dyn Progress,
    outcome: &mut Outcome,
) -> Result<()> {
    let new = at.root.open(crate::plan::switch::NEW)?;
    let proved = at.journal.proved(id, level.name())?;
    let case = Case { plan, old: &at.old, new: &new, part: which, proved: &proved, switched: None };
    let report = verify::judge(&Subject::Migrated(case), level, progress)?;
    if let Some(first) = report.unchecked.first() {
        crate::error::check_disk(false)?;
        let what = format!("{} could not be checked: {}", first.object, first.reason);
        return Err(Error::new(Kind::Failed, what)
            .hint("remove the cause, then run `unaufs migrate` again")
            .loss(NOTHING_LOST));
    }
    // what the old store does not have either moves as it is
    let (moved, differs): (Vec<_>, Vec<_>) =
        report.differences.into_iter().partition(|d| d.by == By::Headers && d.side == Side::Both);
    if !differs.is_empty() || (moved.len() as u64) < report.counts.values().sum() {
        return Err(unlike(if differs.is_empty() { &moved } else { &differs }).loss(NOTHING_LOST));
    }
    outcome.verified = true;
    if !moved.is_empty() {
        outcome.damaged = moved;
        return Ok(());
    }
    if which == Part::Images {
        let layers = plan.layers.iter().filter(|l| !l.role.writable()).map(|l| l.id.as_str());
        return at.journal.prove(id, &layers.collect::<Vec<_>>(), level.name());
    }
    at.journal.set_verified(id, &format!("{} {}", level.name(), now()))
}

/// What is lost by a failure before the switch.
const NOTHING_LOST: &str = "nothing: nothing was switched, and the old store is untouched";

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
        .hint("nothing was switched; `unaufs rollback` removes the new store; please report this");
    }
    let first = differences.iter().find(in_source).map(|d| d.to_string()).unwrap_or_default();
    Error::new(Kind::Difference, format!("the old store itself is damaged: {many}; the first: {first}"))
        .hint("restore those files, or `unaufs rollback` and leave the image out with --exclude image=NAME; `unaufs migrate --verify fast` takes them along as they are")
}
