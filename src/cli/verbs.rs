//! The verbs: each opens what it needs, calls the library, and shows what came of it. Here is what they share.

pub mod cp;
pub mod demo;
pub mod diff;
pub mod export;
pub mod look;
pub mod migrate;
pub mod undo;
pub mod verify;

use super::args::Global;
use super::{end, saved::load};
use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use crate::plan::switch::STATE;
use crate::run::Lock;
use crate::run::journal::{Journal, Run};
use std::path::Path;

fn root(g: &Global) -> Result<Dir> {
    Dir::open_named(&g.root).map_err(|e| {
        let kind = match e.errno() {
            Some(2 | 20) => Kind::NoStore,
            Some(1 | 13) => {
                let shown = crate::text::path(&g.root);
                let e = match rustix::process::geteuid().is_root() {
                    true => Error::new(Kind::Failed, format!("can't open {shown}")).with_source(e),
                    false => Error::new(Kind::Failed, format!("you need to be root to read {shown}")).with_source(e),
                };
                return e.hint(end::as_root());
            }
            _ => Kind::Failed,
        };
        Error::new(kind, e.chain()).hint("give Docker's data root with --root")
    })
}

/// The roots that a verb works on: one and the same unless there is a `--target`.
struct Roots {
    /// Holds the old store; `None` if it is out of reach.
    old: Option<Dir>,
    /// Where the new store comes to be; `None` if that folder is not there yet.
    new: Option<Dir>,
}

impl Roots {
    /// From `--root` and `--target`, or from the journal of the root given.
    fn of(g: &Global) -> Result<Roots> {
        let given = root(g)?;
        if let Some(target) = &g.target {
            target.to_str().ok_or_else(|| Error::new(Kind::Usage, "--target: the path is not UTF-8"))?;
            let new = if target.exists() { Some(Dir::open_named(target)?) } else { None };
            let run = new.as_ref().map(last_run).transpose()?.flatten();
            if let Some(run) = run.filter(|r| !r.state.over() && Path::new(&r.plan.root.path) != given.label()) {
                let theirs = crate::text::text(&run.plan.root.path);
                return Err(Error::new(Kind::Usage, format!("this --target belongs to a migration of {theirs}"))
                    .hint(format!("--root {theirs}, or another --target")));
            }
            return Ok(Roots { old: Some(given), new });
        }
        match last_run(&given)?.and_then(|r| r.plan.elsewhere.is_some().then_some(r.plan.root.path)) {
            Some(old) => Ok(Roots { old: Dir::open_named(Path::new(&old)).ok(), new: Some(given) }),
            None => Ok(Roots { old: Some(given.again()?), new: Some(given) }),
        }
    }

    /// The new root; an error if it is not there.
    fn made(self) -> Result<(Option<Dir>, Dir)> {
        match self.new {
            Some(new) => Ok((self.old, new)),
            None => Err(Error::new(Kind::NoStore, "there is nothing at --target yet")
                .hint("`unaufs plan` shows what would be done; `unaufs migrate` makes it")),
        }
    }

    /// Locks both.
    fn lock(old: Option<&Dir>, new: &Dir) -> Result<Lock> {
        let lock = Lock::take(new, false)?;
        match old {
            Some(old) if old.label() != new.label() => lock.and(old),
            _ => Ok(lock),
        }
    }
}

/// The old root, where a verb cannot do without it.
fn needed(old: Option<Dir>) -> Result<Dir> {
    old.ok_or_else(|| {
        Error::new(Kind::Failed, "the old root cannot be opened")
            .hint("mount its disk where it was when the migration was made, or give it: --root ROOT --target DIR")
    })
}

/// The journal, if a run has left one.
fn journal(root: &Dir) -> Result<Option<Journal>> {
    match root.open_opt(STATE)? {
        Some(s) => Journal::open_existing(&s),
        None => Ok(None),
    }
}

/// Prints a result. That it can't be printed shows at the end of the command.
fn say(text: &str) -> Result<()> {
    end::text(text);
    Ok(())
}

/// Keeps the document of this command.
fn say_json(value: &impl serde::Serialize) -> Result<()> {
    end::document(value)
}

fn last_run(root: &Dir) -> Result<Option<Run>> {
    match journal(root)? {
        Some(j) => j.last(),
        None => Ok(None),
    }
}
