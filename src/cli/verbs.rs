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
use crate::run::journal::{Journal, Run};
use std::io::{Read, Write};
use std::path::Path;

fn root(g: &Global) -> Result<Dir> {
    Dir::open_named(&g.root).map_err(|e| {
        let kind = match e.errno() {
            Some(2 | 20) => Kind::NoStore,
            _ => Kind::Failed,
        };
        Error::new(kind, e.chain()).hint("Name Docker's data root with --root, and run unaufs as root")
    })
}

/// The roots that a verb works on: one and the same unless there is a `--target`.
struct Roots {
    /// Holds the old store; `None` if it is out of reach.
    old: Option<Dir>,
    /// Where the new store comes to be; `None` if that directory is not there yet.
    new: Option<Dir>,
}

impl Roots {
    /// From `--root` and `--target`, or from the journal of the root given.
    fn of(g: &Global) -> Result<Roots> {
        let given = root(g)?;
        if let Some(target) = &g.target {
            target.to_str().ok_or_else(|| Error::new(Kind::Usage, "--target: the path isn't UTF-8"))?;
            let new = if target.exists() { Some(Dir::open_named(target)?) } else { None };
            let run = new.as_ref().map(last_run).transpose()?.flatten();
            if let Some(run) = run.filter(|r| !r.state.over() && Path::new(&r.plan.root.path) != given.label()) {
                let theirs = crate::text::text(&run.plan.root.path);
                return Err(Error::new(Kind::Usage, format!("this --target belongs to a migration of {theirs}"))
                    .hint(format!("Use Use --root {theirs}, or another --target")));
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
            None => Err(Error::new(Kind::NoStore, "there is no migration at --target yet")
                .hint("`unaufs plan` shows what a migration would do; `unaufs migrate` does it")),
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
        Error::new(Kind::Failed, "the old root can't be opened")
            .hint("Mount its disk where it was during the migration, or name both roots: --root ROOT --target DIR")
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
        return Err(Error::new(Kind::Usage, what).hint("Choose a file outside ROOT"));
    }
    dir.write_atomic(&name, bytes, 0o600)
}

pub(super) fn folder_of(file: &Path) -> Result<(Dir, Vec<u8>)> {
    use std::os::unix::ffi::OsStrExt;
    let parent = match file.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let name =
        file.file_name().ok_or_else(|| Error::new(Kind::Usage, format!("{} isn't a file name", file.display())))?;
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
    let Stored { plan, in_place } = stored::read(&bytes)
        .map_err(|e| Error::new(Kind::Usage, format!("{} isn't an unaufs plan", file.display())).with_source(e))?;
    if in_place {
        let what = format!("{} was made for --mode move, which this version doesn't have", file.display());
        return Err(Error::new(Kind::Usage, what).hint("Make a new plan: unaufs plan --out FILE"));
    }
    if plan.schema != crate::plan::SCHEMA {
        return Err(Error::new(Kind::Usage, format!("{} has the schema {}", file.display(), plan.schema))
            .hint("Make a new plan: unaufs plan --out FILE"));
    }
    Ok(plan)
}

fn last_run(root: &Dir) -> Result<Option<Run>> {
    match journal(root)? {
        Some(j) => j.last(),
        None => Ok(None),
    }
}
