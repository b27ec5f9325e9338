//! What each command does in each state: one table. The command line asks it, and prints what comes back.

use super::identity::{Course, Known};
use super::journal::{Run, State};
use super::{cleanup, rollback};
use crate::disk::{Dir, Meta};
use crate::docker::driver::Target;
use crate::error::{Error, Kind, Result};
use crate::plan::switch::STATE;
use crate::store::Generation;
use crate::text::text;
use crate::verify::Verdict;
use rustix::io::Errno;
use std::path::Path;

/// A command that depends on the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `migrate`.
    Migrate,
    /// `migrate --prepare`.
    Prepare,
    /// `verify`.
    Verify,
    /// `rollback`.
    Rollback,
    /// `rollback --drop-new`.
    Drop,
    /// `cleanup`.
    Cleanup,
}

/// What to do.
#[derive(Debug)]
pub enum Answer {
    /// A new migration.
    Begin,
    /// The one that was begun.
    Continue,
    /// Put the old store back.
    Undo,
    /// Delete what a rollback kept.
    Drop,
    /// Compare the new store with the old one.
    Compare,
    /// Check one store by its own records.
    Alone,
    /// Verify, then delete the old store.
    Delete,
    /// Delete what an interrupted cleanup has left.
    DeleteRest,
    /// Nothing, and why.
    Nothing(&'static str),
    /// An error; nothing is changed.
    Refuse(Error),
}

/// Everything that an answer depends on.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The state of the run.
    pub state: Option<State>,
    /// The journal is lost, and why.
    pub lost: Option<String>,
    /// An old store that is in its place, ready to be migrated.
    pub store: Option<Generation>,
    /// There is a state directory.
    pub directory: bool,
    /// Something is in `.unaufs/old`.
    pub parked: bool,
    /// An interrupted cleanup has left something in the old root of a migration to another place.
    pub rest: bool,
    /// What rollbacks took out of use.
    pub undone: Vec<String>,
    /// The new root is another directory.
    pub new_root: bool,
    /// Only image layers were built, while Docker ran.
    pub prepared: bool,
    /// The last verdict.
    pub verdict: Option<Verdict>,
    /// The new driver.
    pub to: &'static str,
    /// A run of `--mode move`, and the version that began it.
    pub in_place: Option<String>,
    /// The switch is done, and this of the old store isn't in `.unaufs/old`: the first few paths, if somebody has looked.
    pub missing: Vec<String>,
    /// The switch is done, and this directory of the new store isn't there.
    pub gone: Option<String>,
    /// The process of an unaufs that is working on the root, if somebody has looked.
    pub worker: Option<u32>,
    /// The new root is no longer where it was made, and that path, which its containers name, doesn't lead to it.
    pub moved_from: Option<String>,
}

impl Standing {
    /// Of a run in `root`; `old` is the root that holds the old store, if it is another one.
    pub fn of(root: &Dir, old: Option<&Dir>, known: &Known) -> Result<Standing> {
        let mut out = Standing { store: store(old.unwrap_or(root))?, ..Standing::default() };
        match known {
            Known::Nothing => {}
            Known::Run(run) => {
                out.state = Some(run.state);
                out.to = run.plan.options.to.name();
                out.new_root = run.plan.new_root.is_some();
                out.prepared = run.prepared;
                out.verdict = run.verdict.clone();
                out.rest = match (old, &run.identity) {
                    (Some(old), Some(id)) => old.has(cleanup::deleting(id))?,
                    _ => false,
                };
                out.in_place = run.in_place.then(|| run.plan.tool.version.clone());
            }
            Known::Lost(lost) => {
                out.state = Some(lost.state);
                out.to = lost.course.driver.name();
                out.new_root = lost.course.target.is_some();
                out.lost = Some(lost.why.clone());
            }
        }
        if let Some((made_at, driver)) = made(known) {
            out.look(root, made_at, driver)?;
        }
        if let Some(state) = root.open_opt(STATE)? {
            out.directory = true;
            out.undone = rollback::undone(&state)?;
            // a cleanup that was interrupted deletes the rest, whatever that is: the directory itself too
            out.rest |= out.state == Some(State::Cleaned) && state.has("old")?;
            out.parked = rollback::parked(&state)?;
        }
        Ok(out)
    }

    /// Looks for what should be there: a directory may have been moved or deleted since.
    fn look(&mut self, root: &Dir, made_at: Option<&String>, driver: Target) -> Result<()> {
        if let Some(path) = made_at {
            let at = |m: Meta| (m.dev, m.ino);
            let there = Dir::open_named(Path::new(path)).and_then(|dir| dir.meta()).map(at);
            self.moved_from = (there.ok() != Some(at(root.meta()?))).then(|| path.clone());
        }
        if self.state == Some(State::Switched) {
            // dockerd mounts btrfs/ on itself while it runs (FORMATS 11.31)
            let root = root.again()?.through_binds();
            let directories = [format!("image/{}", driver.name()), driver.home().to_owned()];
            for path in directories {
                if root.stat_opt(&path)?.is_none_or(|m| m.is_file()) {
                    self.gone = Some(path);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Looks for an unaufs that is at work in `root`, and for each part of the old store that was parked: for `status` only. Who needs the
    /// old store looks for it at its own time, and each read of /proc/locks waits some 10 ms in the kernel (`percpu_down_write`, fs/locks.c).
    pub fn look_closer(&mut self, root: &Dir, known: &Known) -> Result<()> {
        self.worker = root.locked_by();
        if let Some(course) = course(known).filter(|_| self.state == Some(State::Switched)) {
            self.missing = course.missing(&root.again()?.through_binds())?;
        }
        Ok(())
    }

    /// The table.
    pub fn answer(&self, command: Command) -> Answer {
        use State::{Building, Built, Cleaned, Switched, Switching, Undoing, Undone, Verified};
        if let Some(version) = self.in_place.as_ref().filter(|_| self.state.is_some_and(|s| !s.over())) {
            return match (command, self.state) {
                (Command::Migrate | Command::Prepare, Some(Switched)) => Answer::Nothing(MIGRATED),
                _ => Answer::Refuse(Run::in_place(version)),
            };
        }
        match command {
            Command::Migrate | Command::Prepare => self.migrate(command),
            Command::Verify => match self.state {
                None | Some(Undone | Cleaned) => Answer::Alone,
                Some(Switched) if self.lost.is_some() => Answer::Alone,
                Some(Switched | Built | Verified) => Answer::Compare,
                Some(Building) => refuse(Kind::Failed, "the new store is not complete", "unaufs migrate"),
                Some(Switching | Undoing) => self.interrupted(),
            },
            Command::Rollback | Command::Drop => match self.state {
                None | Some(Undone) if command == Command::Drop && !self.undone.is_empty() => Answer::Drop,
                None if self.parked => orphaned(),
                // the state directory itself, also what an interrupted removal has left of it
                None | Some(Undone) if command == Command::Drop && self.directory => Answer::Drop,
                None | Some(Undone) => Answer::Nothing("no migration is under way or active"),
                Some(Cleaned) => refuse(
                    Kind::Failed,
                    "there is no way back: the old store was deleted by `unaufs cleanup`",
                    &format!("Keep the {} store. `unaufs verify` checks this store by itself.", self.to),
                ),
                Some(_) => Answer::Undo,
            },
            Command::Cleanup => match self.state {
                None if self.parked => orphaned(),
                None => refuse(Kind::NoStore, "no migration has been made here", "unaufs status"),
                Some(Switched) if self.lost.is_some() => refuse(
                    Kind::Blocked,
                    "the journal is lost, so unaufs cannot prove that the new store is good",
                    "Put the journal back, or keep the old store.",
                ),
                Some(Switched) => Answer::Delete,
                Some(Cleaned) if self.parked || !self.undone.is_empty() || self.rest => Answer::DeleteRest,
                Some(Cleaned) => Answer::Nothing("the old store was deleted before"),
                Some(Undone) => refuse(
                    Kind::Blocked,
                    "the migration was rolled back: the old store is in use",
                    "`unaufs rollback --drop-new` deletes what the rollback kept.",
                ),
                Some(_) => refuse(Kind::Blocked, "the old store is still needed", "unaufs status"),
            },
        }
    }

    fn migrate(&self, command: Command) -> Answer {
        use State::{Building, Built, Cleaned, Switched, Switching, Undoing, Undone, Verified};
        let still = || {
            refuse(
                Kind::Blocked,
                "there is an old store in .unaufs/old, and another one in the root",
                "If you don't need the store in .unaufs/old, run `unaufs cleanup`. Otherwise move it away.",
            )
        };
        match self.state {
            None if self.parked => orphaned(),
            Some(Undone) if self.parked => still(),
            None | Some(Undone) => Answer::Begin,
            // its stage is not known to be whole
            Some(Building) if self.lost.is_some() => Answer::Begin,
            Some(Building | Built | Verified) => match &self.moved_from {
                Some(path) => refuse(
                    Kind::Usage,
                    &format!(
                        "this new root was begun at {}, and the configurations of its containers name that path",
                        text(path)
                    ),
                    "Move it back there and continue. Or run `unaufs rollback` and begin again.",
                ),
                None => Answer::Continue,
            },
            Some(Switching) if self.lost.is_some() => self.interrupted(),
            Some(Switching) if command == Command::Prepare => refuse(
                Kind::Usage,
                "--prepare contradicts the migration under way: its switch was interrupted",
                "Run `unaufs migrate` without --prepare.",
            ),
            Some(Switching) => Answer::Continue,
            Some(Undoing) => self.interrupted(),
            Some(Switched) if self.store.is_some() && !self.new_root => refuse(
                Kind::Blocked,
                "this root was migrated, and there is another aufs store in it now",
                "End the first migration with `unaufs cleanup`, or undo it with `unaufs rollback`. Then migrate again.",
            ),
            Some(Switched) => match &self.gone {
                Some(path) => refuse(
                    Kind::Failed,
                    &format!("this data root was migrated to {}, but {path} isn't there any more", self.to),
                    "Put it back, or put the old store back with `unaufs rollback`.",
                ),
                None => Answer::Nothing(MIGRATED),
            },
            Some(Cleaned) if self.store.is_none() || self.new_root => Answer::Nothing(MIGRATED),
            Some(Cleaned) if self.parked => still(),
            Some(Cleaned) => Answer::Begin,
        }
    }

    /// An error where a plan can't be made: in the middle of a switch the old store is in two places.
    pub fn can_plan(&self) -> Result<()> {
        match (self.state, self.interrupted()) {
            (Some(State::Switching | State::Undoing), Answer::Refuse(e)) => Err(e),
            _ => Ok(()),
        }
    }

    fn interrupted(&self) -> Answer {
        match self.state {
            Some(State::Undoing) => refuse(Kind::Failed, "a rollback was interrupted", "unaufs rollback"),
            _ if self.lost.is_some() => refuse(
                Kind::Failed,
                "a switch was interrupted, and its journal is lost",
                "`unaufs rollback` puts the old store back without it.",
            ),
            _ => refuse(
                Kind::Failed,
                "the switch was interrupted",
                "`unaufs migrate` finishes it. `unaufs rollback` puts the old store back.",
            ),
        }
    }

    /// May Docker be started now?
    pub fn docker_may_start(&self) -> bool {
        match self.state {
            None | Some(State::Undone | State::Cleaned) => true,
            Some(State::Switched) => self.gone.is_none(),
            // the old store is in its place, and nothing is half switched
            Some(State::Building | State::Built | State::Verified) => self.in_place.is_none(),
            Some(State::Switching | State::Undoing) => false,
        }
    }

    /// Does `migrate` have work to do? After a rollback it has none: who undid a migration is asked before the next one.
    pub fn work(&self) -> bool {
        let begins = matches!(self.answer(Command::Migrate), Answer::Begin | Answer::Continue);
        begins && self.state != Some(State::Undone) && (self.store.is_some() || self.state == Some(State::Switching))
    }
}

/// Of a run that is not over: where its new root was made, if that is another one and containers name it, and its driver.
fn made(known: &Known) -> Option<(Option<&String>, Target)> {
    match known {
        Known::Run(run) if !run.state.over() && !run.in_place => {
            let plan = &run.plan;
            let named = !plan.containers.is_empty() || !plan.left_behind.is_empty();
            Some((plan.new_root.as_ref().map(|e| &e.path).filter(|_| named), plan.options.to))
        }
        Known::Lost(lost) if !lost.state.over() => {
            let course = &lost.course;
            Some((course.target.as_ref().filter(|_| !course.containers.is_empty()), course.driver))
        }
        _ => None,
    }
}

/// What the run does, if there is one that is not over.
fn course(known: &Known) -> Option<Course> {
    match known {
        Known::Run(run) if !run.state.over() && !run.in_place => {
            Some(Course::of(run.identity.as_deref().unwrap_or_default(), &run.plan, &run.started))
        }
        Known::Lost(lost) if !lost.state.over() => Some(lost.course.clone()),
        _ => None,
    }
}

const MIGRATED: &str = "this data root is already migrated";

/// What is parked, and nothing says how it got there.
pub const ORPHANED: &str = "there is an old store in .unaufs/old, but both files that describe its migration, journal.db and run.json, are gone or damaged";

fn orphaned() -> Answer {
    let hint = "Put one of the two files back from a backup. \"Both files are lost\" in the guide says how to put the old store back by hand";
    refuse(Kind::Blocked, ORPHANED, hint)
}

fn refuse(kind: Kind, what: &str, hint: &str) -> Answer {
    Answer::Refuse(Error::new(kind, what).hint(hint).loss("Nothing was changed."))
}

/// The old store that is in its place, if there is one.
pub fn store(root: &Dir) -> Result<Option<Generation>> {
    let there = |path: &str| match root.stat_opt(path) {
        Ok(m) => Ok(m.is_some_and(|m| m.is_dir())),
        // behind a symlink or a mount point: check H08 names it
        Err(e) if matches!(e.errno(), Some(Errno::XDEV | Errno::LOOP | Errno::NOTDIR)) => Ok(true),
        Err(e) => Err(e),
    };
    Ok(match (there("aufs/diff")?, there("image/aufs")?, there("graph")?) {
        (true, true, _) => Some(Generation::Content),
        (true, false, true) => Some(Generation::Graph),
        _ => None,
    })
}
