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
use crate::docker::driver::WrittenBy;
use crate::error::{Error, Kind, Result};
use crate::plan::new_root::Destination;
use crate::plan::switch::STATE;
use crate::run::Lock;
use crate::run::identity::{self, Known};
use crate::run::journal::{Journal, Run};
use crate::run::states::Standing;
use crate::store::native;
use rustix::io::Errno;
use std::io::IsTerminal;
use std::path::Path;

fn root(g: &Global) -> Result<Dir> {
    Dir::open_named(&g.root).map_err(|e| {
        if e.errno() == Some(Errno::NOENT) {
            return Error::new(Kind::NoStore, format!("{} doesn't exist", crate::text::path(&g.root)))
                .hint("Name Docker's data root with --root.");
        }
        let kind = match e.errno() {
            Some(Errno::NOTDIR) => Kind::NoStore,
            Some(Errno::PERM | Errno::ACCESS) => {
                let shown = crate::text::path(&g.root);
                let e = match rustix::process::geteuid().is_root() {
                    true => Error::new(Kind::Failed, format!("can't open {shown}")).with_source(e),
                    false => Error::new(Kind::Failed, format!("you need to be root to read {shown}")),
                };
                return e.hint(end::as_root());
            }
            _ => Kind::Failed,
        };
        Error::new(kind, e.chain()).hint("Name Docker's data root with --root.")
    })
}

/// The roots that a verb works on: one and the same unless there is a `--target`.
struct Roots {
    /// Holds the old store; `None` if it is out of reach.
    old: Option<Dir>,
    /// Where the new store comes to be; `None` if that directory is not there yet.
    new: Option<Dir>,
    /// What is known of a run there.
    known: Known,
}

impl Roots {
    /// From `--root` and `--target`, or from the journal of the root given.
    fn of(g: &Global) -> Result<Roots> {
        let given = root(g)?;
        if let Some(target) = &g.target {
            target.to_str().ok_or_else(|| Error::new(Kind::Usage, "--target: the path isn't UTF-8"))?;
            let new = if target.exists() { Some(Destination::open(target)?) } else { None };
            let known = new.as_ref().map_or(Ok(Known::Nothing), identity::look)?;
            if let Known::Run(run) = &known {
                belongs(&given, run)?;
            }
            return Ok(Roots { old: Some(given), new, known });
        }
        let known = identity::look(&given)?;
        let theirs = match &known {
            Known::Run(run) => run.plan.new_root.is_some().then(|| run.plan.root.path.clone()),
            Known::Lost(lost) => lost.course.target.is_some().then(|| lost.course.root.clone()),
            Known::Nothing => None,
        };
        let old = match (theirs, &known) {
            // another root may be there by now
            (Some(path), Known::Run(run)) => {
                let there = Dir::open_named(Path::new(&path)).ok();
                there.filter(|d| run.state.over() || holds(d, run).unwrap_or(false))
            }
            (Some(_), _) => None,
            (None, _) => Some(given.again()?),
        };
        Ok(Roots { old, new: Some(given), known })
    }

    /// The new root; an error if it is not there.
    fn made(self) -> Result<(Option<Dir>, Dir, Known)> {
        match self.new {
            Some(new) => Ok((self.old, new, self.known)),
            None => Err(Error::new(Kind::NoStore, "there is no migration at --target yet")
                .hint("`unaufs plan` shows what a migration would do. `unaufs migrate` does it.")),
        }
    }

    /// Where they stand.
    fn standing(&self) -> Result<Standing> {
        match (&self.new, &self.old) {
            (Some(new), old) => Standing::of(new, old.as_ref(), &self.known),
            (None, Some(old)) => Standing::of(old, None, &Known::Nothing),
            (None, None) => Ok(Standing::default()),
        }
    }

    /// Locks both, then reads the journal: another unaufs may have worked before.
    fn lock(&mut self, docker_may_run: bool) -> Result<Lock> {
        let Some(new) = &self.new else {
            return needed(self.old.as_ref().map(Dir::again).transpose()?).and_then(|o| Lock::take(&o, docker_may_run));
        };
        let mut lock = Lock::take(new, docker_may_run)?;
        if let Some(old) = self.old.as_ref().filter(|o| o.label() != new.label()) {
            lock = lock.and(old, docker_may_run)?;
        }
        self.known = identity::look(new)?;
        Ok(lock)
    }
}

/// Does the old root hold what the run migrates? It may have another path by now.
fn holds(old: &Dir, run: &Run) -> Result<bool> {
    for l in &run.plan.layers {
        if !old.has(&l.source)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An error if a new root is not the one of this old root.
fn belongs(old: &Dir, run: &Run) -> Result<()> {
    let theirs = crate::text::text(&run.plan.root.path);
    if run.plan.new_root.is_none() && !run.state.over() {
        return Err(Error::new(Kind::Usage, "this --target is a root that is migrated without --target"));
    }
    // an old root that was renamed is taken for what it holds; a copy of one that is still there is not
    let there = Dir::open_named(Path::new(&run.plan.root.path)).ok();
    let renamed = match &there {
        Some(there) => there.meta()?.ino == old.meta()?.ino || !holds(there, run)?,
        None => true,
    };
    if run.state.over() || renamed && holds(old, run)? {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("this --target belongs to a migration of {theirs}"))
        .hint(format!("Use --root {theirs}, or where that root is now. Or use another --target.")))
}

/// The old root, where a verb cannot do without it.
fn needed(old: Option<Dir>) -> Result<Dir> {
    old.ok_or_else(|| {
        Error::new(Kind::Failed, "the old root can't be opened")
            .hint("Mount its disk where it was during the migration, or name both roots: --root ROOT --target DIR")
    })
}

/// The driver whose store is meant where nobody named one: aufs before all others.
fn the_store(root: &Dir) -> Result<WrittenBy> {
    match (root.has("aufs/diff")?, native::present(root)?.as_slice()) {
        (true, _) | (false, []) => Ok(WrittenBy::Aufs),
        (false, [one]) => Ok(WrittenBy::Living(*one)),
        (false, several) => {
            let names: Vec<&str> = several.iter().map(|t| t.name()).collect();
            Err(Error::new(Kind::Usage, format!("the data root has several stores: {}", names.join(", ")))
                .hint("Choose one with --driver."))
        }
    }
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

/// A text whose lines have labels: on a terminal they continue at column `hang` where they don't fit. A pipe gets whole lines.
fn fitted(g: &Global, text: &str, hang: usize) -> String {
    if !std::io::stdout().is_terminal() && std::env::var_os("COLUMNS").is_none() {
        return text.to_owned();
    }
    crate::report::page::wrapped(text, super::screen::look(g).width, hang)
}

/// The result of a command: its document for programs, `text` of it for people.
fn tell(g: &Global, doc: &impl serde::Serialize, text: impl FnOnce() -> String) -> Result<()> {
    match g.for_programs() {
        true => say_json(doc),
        false => say(&text()),
    }
}

/// Keeps the document of this command.
fn say_json(value: &impl serde::Serialize) -> Result<()> {
    end::document(value)
}
