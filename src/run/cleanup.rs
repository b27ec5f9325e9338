//! The end of a migration: the old store is deleted, after it was proved that the new one is good.

use super::identity::Course;
use super::journal::{Run, State};
use super::{Locked, rollback};
use crate::disk::remove::Undeleted;
use crate::disk::{Dir, FileType};
use crate::error::{Error, Kind, Result};
use crate::plan::switch::{OLD, old_parts};
use crate::plan::{Plan, make};
use crate::progress::Progress;
use crate::store::aufs::{self, Stray};
use crate::text::now;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};

/// Something that is about to be deleted.
#[derive(Debug, Default, Serialize)]
pub struct Deletion {
    /// Its path.
    pub path: String,
    /// Names in it.
    pub names: u64,
    /// Bytes that all of it takes on the disk, each inode once, also where the new store shares them.
    pub bytes: u64,
    /// Of these, so many become free: all names that they have are in it.
    pub frees: u64,
}

/// What a cleanup would delete.
#[derive(Debug, Default, Serialize)]
pub struct Survey {
    /// The old store.
    pub old: Vec<Deletion>,
    /// Files below `aufs/mnt/<id>`: written while nothing was mounted there, no image and no container has them.
    #[serde(skip)]
    pub strays: Vec<Stray>,
    /// What rollbacks kept; deleted only if that is asked for by itself.
    pub undone: Vec<Deletion>,
}

/// What a cleanup did.
#[derive(Debug, Default, Serialize)]
pub struct Cleaned {
    /// Bytes that are free now and were not before.
    pub freed: u64,
    /// What could not be deleted, the first few, with the reason.
    pub left: Vec<String>,
    /// How many.
    pub left_count: u64,
    /// What rollbacks kept, and is kept on.
    pub undone: Vec<Deletion>,
}

/// Where the old store of a migration to another place is while it is deleted, in the old root: its presence shows an interrupted cleanup
/// that this is the root whose content was compared.
pub fn deleting(identity: &str) -> String {
    format!(".unaufs-delete-{identity}")
}

/// Looks at all that a cleanup would delete. `old` is the root that holds the old store of a migration to another place.
pub fn survey(root: &Dir, old: &Dir, run: &Run) -> Result<Survey> {
    let mut out = Survey::default();
    if run.plan.new_root.is_some() {
        let begun = deleting(run.identity.as_deref().unwrap_or_default());
        let parts = old_parts(run.plan.generation).iter().copied();
        for path in parts.chain([begun.as_str()]) {
            if old.has(path)? {
                out.old.push(deletion(old, path)?);
            }
        }
    } else if let Some(dir) = root.open_opt(OLD)? {
        for (name, _) in dir.list()? {
            out.old.push(deletion(root, &format!("{OLD}/{}", String::from_utf8_lossy(&name)))?);
        }
    }
    let mnt = match run.plan.new_root {
        None => root.try_open(format!("{OLD}/aufs/mnt").as_bytes()),
        Some(_) => old.try_open(b"aufs/mnt"),
    };
    // what is no directory holds nothing
    out.strays = mnt.map_or_else(|_| Ok(Vec::new()), |mnt| aufs::strays(&mnt))?;
    out.undone = undone(root)?;
    Ok(out)
}

/// What rollbacks have kept.
pub fn undone(root: &Dir) -> Result<Vec<Deletion>> {
    let Some(state) = root.open_opt(crate::plan::switch::STATE)? else { return Ok(Vec::new()) };
    rollback::undone(&state)?.iter().map(|name| deletion(&state, name)).collect()
}

/// Counts a tree. Memory grows with the inodes that have several names.
pub fn deletion(root: &Dir, path: &str) -> Result<Deletion> {
    let mut out = Deletion { path: root.show(path.as_bytes()), ..Deletion::default() };
    let (holder, name) = root.parent_of(path.as_bytes())?;
    let m = holder.stat(name)?;
    (out.names, out.bytes, out.frees) = (1, m.allocated, m.allocated);
    if !m.is_dir() {
        return Ok(out);
    }
    let top = holder.open(name)?;
    // how many names of an inode have been met
    let mut met: HashMap<u64, u64> = HashMap::new();
    let mut todo = vec![Vec::new()];
    while let Some(at) = todo.pop() {
        crate::stop::check()?;
        // a mount point: it stays, and is named when the rest is deleted
        let Ok(dir) = top.open(&at) else { continue };
        dir.for_each(|name, kind, _| {
            let (here, m) = (crate::disk::join(&at, name), dir.stat(name)?);
            out.names += 1;
            let (nth, names) = if m.is_dir() || m.nlink == 1 {
                (1, 1)
            } else {
                let nth = met.entry(m.ino).or_default();
                *nth += 1;
                (*nth, m.nlink)
            };
            out.bytes += if nth == 1 { m.allocated } else { 0 };
            out.frees += if nth == names { m.allocated } else { 0 };
            if kind == FileType::Directory {
                todo.push(here);
            }
            Ok(())
        })?;
    }
    Ok(out)
}

/// An error unless the old root of a migration to another place still holds exactly what was migrated: it may have been used since, or be
/// another one.
pub fn still_the_same(at: &Locked, run: &Run, progress: &dyn Progress) -> Result<()> {
    let known = make::Earlier { lost: at.journal.lost(run.id)?, ..make::Earlier::default() };
    let fresh = make::make(&at.old, &run.plan.options, &known, progress)?;
    let counts = |line: &String| ["layer ", "container ", "image ", "file "].iter().any(|k| line.starts_with(k));
    let mut changes: Vec<String> = super::preflight::changes(&run.plan, &fresh).into_iter().filter(counts).collect();
    let was: BTreeSet<(&str, &str)> = run.plan.left_behind.iter().map(|l| (l.kind.as_str(), l.id.as_str())).collect();
    let strangers = fresh.left_behind.iter().filter(|l| !was.contains(&(l.kind.as_str(), l.id.as_str())));
    changes.extend(strangers.map(|l| format!("{} {} is new", l.kind, l.id)));
    // directories that no image and no container uses
    let orphans = |plan: &Plan| -> BTreeSet<String> {
        plan.checks.iter().filter(|c| c.id == "D05").map(|c| c.subject.to_string()).collect()
    };
    changes.extend(orphans(&fresh).difference(&orphans(&run.plan)).map(|o| format!("{o} is new")));
    if changes.is_empty() {
        return Ok(());
    }
    let list = crate::text::few(changes.iter().take(20).cloned(), changes.len());
    let root = crate::text::path(at.old.label());
    Err(Error::new(Kind::Stale, format!("{root} does not hold what was migrated any more: {list}"))
        .hint("Delete the old store yourself if you don't need it.")
        .loss("Nothing was deleted."))
}

/// Deletes the old store, and with `undone_too` what rollbacks kept. What cannot be deleted is named, and everything else is.
pub fn delete(at: &mut Locked, run: &Run, undone_too: bool) -> Result<Cleaned> {
    let new_root = run.plan.new_root.is_some();
    let disk = if new_root { at.old.again()? } else { at.root.again()? };
    let before = crate::disk::mounts::room(&disk)?.free_bytes;
    let identity = at.identify(run)?;
    let begun = deleting(&identity);
    if new_root && run.state == State::Switched {
        super::private(&at.old, &begun)?;
        at.old.sync()?;
    }
    at.journal.set_state(run.id, State::Cleaned, &now())?;
    if let Some(course) = Course::read(&at.state)? {
        course.ended(State::Cleaned).write(&at.state)?;
    }
    let mut kept = Undeleted::default();
    super::guard::clear(&at.state)?;
    for name in ["new", super::reserve::FILE] {
        at.state.remove_what_goes(name.as_bytes(), &mut kept)?;
    }
    if undone_too {
        for name in rollback::undone(&at.state)? {
            at.state.remove_what_goes(name.as_bytes(), &mut kept)?;
        }
    }
    at.state.remove_what_goes(b"old", &mut kept)?;
    // known by the id of the run: another root has no such directory
    if new_root && at.old.has(&begun)? {
        let bin = at.old.open(&begun)?;
        for path in old_parts(run.plan.generation) {
            if at.old.has(path)? {
                at.old.rename_new(path, &bin, path.replace('/', "-"))?;
            }
        }
        at.old.remove_what_goes(begun.as_bytes(), &mut kept)?;
    }
    at.root.sync_fs()?;
    disk.sync_fs()?;
    let freed = crate::disk::mounts::room(&disk)?.free_bytes.saturating_sub(before);
    Ok(Cleaned { freed, left: kept.first, left_count: kept.count, undone: undone(&at.root)? })
}
