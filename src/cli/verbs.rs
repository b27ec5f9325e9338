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
use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::plan::stored::{self, Stored};
use crate::plan::switch::STATE;
use crate::run::Lock;
use crate::run::identity::{self, Known};
use crate::run::journal::{Journal, Run};
use crate::run::states::Standing;
use std::io::{Read, Write};
use std::path::Path;

fn root(g: &Global) -> Result<Dir> {
    Dir::open_named(&g.root).map_err(|e| {
        let kind = match e.errno() {
            Some(2 | 20) => Kind::NoStore,
            _ => Kind::Failed,
        };
        Error::new(kind, e.chain()).hint("give Docker's data root with --root; reading it needs root")
    })
}

/// The roots that a verb works on: one and the same unless there is a `--target`.
struct Roots {
    /// Holds the old store; `None` if it is out of reach.
    old: Option<Dir>,
    /// Where the new store comes to be; `None` if that folder is not there yet.
    new: Option<Dir>,
    /// What is known of a run there.
    known: Known,
}

impl Roots {
    /// From `--root` and `--target`, or from the journal of the root given.
    fn of(g: &Global) -> Result<Roots> {
        let given = root(g)?;
        if let Some(target) = &g.target {
            target.to_str().ok_or_else(|| Error::new(Kind::Usage, "--target: the path is not UTF-8"))?;
            let new = if target.exists() { Some(Dir::open_named(target)?) } else { None };
            let known = new.as_ref().map_or(Ok(Known::Nothing), identity::look)?;
            if let Known::Run(run) = &known {
                belongs(&given, run)?;
            }
            return Ok(Roots { old: Some(given), new, known });
        }
        let known = identity::look(&given)?;
        let theirs = match &known {
            Known::Run(run) => run.plan.elsewhere.is_some().then(|| run.plan.root.path.clone()),
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
            None => Err(Error::new(Kind::NoStore, "there is nothing at --target yet")
                .hint("`unaufs plan` shows what would be done; `unaufs migrate` makes it")),
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
    if run.plan.elsewhere.is_none() && !run.state.over() {
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
        .hint(format!("--root {theirs}, or where that root is now; or another --target")))
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

/// Writes a result to stdout; a closed pipe is an error like any other.
fn say(text: &str) -> Result<()> {
    crate::cli::log::note(text);
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
        .and_then(|()| out.flush())
        .map_err(|e| Error::io("write to stdout", e))
}

fn say_json(value: &impl serde::Serialize) -> Result<()> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| Error::new(Kind::Failed, "write JSON").with_source(e))?;
    say(&crate::text::json(text))
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

pub(super) fn folder_of(file: &Path) -> Result<(Dir, Vec<u8>)> {
    use std::os::unix::ffi::OsStrExt;
    let parent = match file.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let name = file.file_name().ok_or_else(|| Error::new(Kind::Usage, format!("{} names no file", file.display())))?;
    Ok((Dir::open_named(parent)?, name.as_bytes().to_vec()))
}

/// The plan of a store with 10,000 layers has some 30 MiB.
const PLAN_LIMIT: u64 = 1 << 30;

fn load(file: &Path) -> Result<Plan> {
    let what = || format!("read {}", crate::text::path(file));
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(|e| Error::io(what(), e))?;
    opened.take(PLAN_LIMIT + 1).read_to_end(&mut bytes).map_err(|e| Error::io(what(), e))?;
    if bytes.len() as u64 > PLAN_LIMIT {
        return Err(Error::new(Kind::Usage, format!("{} is too large for a plan", crate::text::path(file))));
    }
    let Stored { plan, in_place } = stored::read(&bytes).map_err(|e| {
        Error::new(Kind::Usage, format!("{} is not a plan of this unaufs", file.display())).with_source(e)
    })?;
    if in_place {
        let what = format!("{} was made for --mode move, which this version doesn't have", file.display());
        return Err(Error::new(Kind::Usage, what).hint("make a new plan"));
    }
    if plan.schema != crate::plan::SCHEMA {
        return Err(
            Error::new(Kind::Usage, format!("{} has the schema {}", file.display(), plan.schema)).hint("make it anew")
        );
    }
    Ok(plan)
}
