//! What each stack of layers shows, counted: the size of its tree on the targets that keep whole trees (vfs, overlay).
//!
//! ```text
//! shown(layer) = shown(parent) + the layer's own − what of the parent's view the layer replaces or hides
//! ```
//!
//! The first two are known from the scan. For the last, only those of the layer's folders are read that exist below it too, so a base
//! layer and a layer's new folders cost nothing.

use super::scan::Facts;
use crate::disk::{Dir, FileType, Meta};
use crate::error::{Error, Result};
use crate::ids::LayerId;
use crate::layer::branch::{self, Branch, Format};
use crate::layer::view::Chain;
use crate::store::{Layer, Store};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};

/// Where the layers above the bases have more names than that, they are counted only for a target that needs it.
const CHEAP: u64 = 200_000;

/// What a stack shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Inodes of what is not a folder.
    pub inodes: u64,
    /// Bytes that they take on the disk.
    pub allocated: u64,
    /// Folders, the root left out.
    pub folders: u64,
    /// Bytes that these and the root take on the disk.
    pub folder_bytes: u64,
    /// Whiteouts of the uppermost layer that hide something.
    pub whiteouts: u64,
    /// Inodes of the view below that the uppermost layer replaces or hides, folders too; and its own folders that the view below has.
    pub gone: u64,
    /// Of its own folders, those that the view below has.
    pub common: u64,
    /// Names of the view below that it takes away, each with all that is below it.
    pub taken: u64,
    /// Of these, those that a layer other than the lowest brought.
    pub recent: u64,
    /// Folders in which it takes names away.
    pub places: u64,
    /// Was it counted? Otherwise nothing was taken off, and the numbers are an upper bound.
    pub counted: bool,
}

/// Every sound layer's view.
pub fn all(
    root: &Dir,
    store: &Store,
    facts: &BTreeMap<LayerId, Facts>,
    needed: bool,
) -> Result<BTreeMap<LayerId, Shown>> {
    let mut by_depth: BTreeMap<usize, Vec<&Layer>> = BTreeMap::new();
    for l in store.layers.values().filter(|l| facts.contains_key(&l.id)) {
        by_depth.entry(l.lowers.len()).or_default().push(l);
    }
    let above = by_depth.iter().filter(|(depth, _)| **depth > 0).flat_map(|(_, l)| l);
    let names: u64 = above.filter_map(|l| facts.get(&l.id)).map(|f| f.files + f.folders + f.whiteouts).sum();
    let count = needed || names <= CHEAP;
    let mut out: BTreeMap<LayerId, Shown> = BTreeMap::new();
    for level in by_depth.values() {
        use rayon::prelude::*;
        let shown: Vec<(LayerId, Shown)> = level
            .par_iter()
            .map(|l| {
                let below = l.lowers.first().and_then(|p| out.get(p)).copied();
                let own = facts.get(&l.id).cloned().unwrap_or_default();
                // a layer that turns out unreadable here is found again when it is built; the estimate is too high meanwhile
                let gone = if count && below.is_some() { hidden(root, store, l).ok() } else { None };
                (l.id.clone(), sum(below, &own, gone))
            })
            .collect();
        out.extend(shown);
        crate::stop::check()?;
    }
    Ok(out)
}

fn sum(below: Option<Shown>, own: &Facts, gone: Option<Gone>) -> Shown {
    let counted = below.is_none_or(|b| b.counted && gone.is_some());
    let b = below.unwrap_or_default();
    let not_counted = || Gone {
        whiteouts: own.whiteouts,
        taken: own.whiteouts,
        places: own.whiteouts,
        common: own.folders,
        ..Gone::default()
    };
    let g = gone.unwrap_or_else(not_counted);
    let sum = |below: u64, own: u64, gone: u64| (below + own).saturating_sub(gone);
    Shown {
        inodes: sum(b.inodes, own.inodes, g.inodes),
        allocated: sum(b.allocated, own.allocated, g.allocated),
        folders: sum(b.folders, own.folders, g.folders),
        folder_bytes: sum(b.folder_bytes, own.folder_bytes, g.folder_bytes),
        whiteouts: if below.is_some() { g.whiteouts } else { 0 },
        gone: g.inodes + g.folders,
        common: g.common,
        taken: g.taken,
        recent: g.recent,
        places: g.places,
        counted,
    }
}

/// What of the view below a layer takes away, and folders that it has in common with it.
#[derive(Clone, Copy, Debug, Default)]
struct Gone {
    inodes: u64,
    allocated: u64,
    folders: u64,
    folder_bytes: u64,
    whiteouts: u64,
    common: u64,
    taken: u64,
    recent: u64,
    places: u64,
}

fn hidden(root: &Dir, store: &Store, layer: &Layer) -> Result<Gone> {
    let branch = |id: &LayerId| -> Result<Branch> {
        let source = store.layers.get(id).map(Layer::source).unwrap_or_default();
        Ok(Branch { id: Some(id.clone()), dir: root.open(source)?, format: Format::Aufs })
    };
    let below = Chain { branches: layer.lowers.iter().map(branch).collect::<Result<_>>()? };
    let own = root.open(layer.source())?;
    let mut gone = Gone { folder_bytes: own.meta()?.allocated, ..Gone::default() };
    walk(&below, &own, &below.open(&below.root(), b"")?, true, &mut gone)?;
    Ok(gone)
}

/// Folders of the same path in several branches, nearest first.
type Merged = [(u16, Dir)];

/// `own` is a folder of the layer that the view below has too, merged of `dirs`.
fn walk(below: &Chain, own: &Dir, dirs: &Merged, at_root: bool, gone: &mut Gone) -> Result<()> {
    let marks = branch::markers(own, Format::Aufs, at_root)?;
    if marks.opaque && !at_root {
        return contents(below, dirs, gone);
    }
    let before = gone.taken;
    let mut hidden: HashSet<Vec<u8>> = HashSet::new();
    for w in marks.whiteouts {
        if remove(below, dirs, &w, gone)? {
            gone.whiteouts += 1;
        }
        hidden.insert(w);
    }
    let mut common = Vec::new();
    branch::for_each_entry(own, Format::Aufs, at_root, |name, kind, _| {
        if hidden.contains(name) {
            return Ok(());
        }
        if kind != FileType::Directory {
            remove(below, dirs, name, gone)?;
            return Ok(());
        }
        let merged = below.step(dirs, name)?;
        if merged.is_empty() {
            remove(below, dirs, name, gone)?;
        } else {
            common.push((name.to_vec(), merged));
        }
        Ok(())
    })?;
    gone.places += u64::from(gone.taken > before);
    for (name, merged) in common {
        let sub = own.open(&name)?;
        gone.folders += 1;
        gone.common += 1;
        gone.folder_bytes += sub.meta()?.allocated;
        walk(below, &sub, &opened(dirs, &merged, &name)?, false, gone)?;
    }
    Ok(())
}

/// Takes the name off, with all below it if it is a folder. Was there one?
fn remove(below: &Chain, dirs: &Merged, name: &[u8], gone: &mut Gone) -> Result<bool> {
    let Some((branch, m)) = find(dirs, name)? else { return Ok(false) };
    gone.taken += 1;
    gone.recent += u64::from(usize::from(branch) + 1 < below.branches.len());
    if m.is_dir() {
        gone.folders += 1;
        gone.folder_bytes += m.allocated;
        contents(below, &opened(dirs, &below.step(dirs, name)?, name)?, gone)?;
    } else {
        forget(&m, gone);
    }
    Ok(true)
}

/// An inode with further names stays, most likely.
fn forget(m: &Meta, gone: &mut Gone) {
    if m.nlink == 1 {
        gone.inodes += 1;
        gone.allocated += m.allocated;
    }
}

/// Takes everything in a folder of the view off.
fn contents(below: &Chain, dirs: &Merged, gone: &mut Gone) -> Result<()> {
    for (name, node) in below.merge_open(dirs, false)?.names {
        let Some((_, holder)) = dirs.iter().find(|(i, _)| node.from.first() == Some(i)) else { continue };
        let m = holder.stat(&name)?;
        if m.is_dir() {
            gone.folders += 1;
            gone.folder_bytes += m.allocated;
            contents(below, &opened(dirs, &node.from, &name)?, gone)?;
        } else {
            forget(&m, gone);
        }
    }
    Ok(())
}

fn opened(dirs: &Merged, from: &[u16], name: &[u8]) -> Result<Vec<(u16, Dir)>> {
    dirs.iter().filter(|(i, _)| from.contains(i)).map(|(i, d)| Ok((*i, d.open(name)?))).collect()
}

/// The name as the view shows it, and the branch that has it.
fn find(dirs: &Merged, name: &[u8]) -> Result<Option<(u16, Meta)>> {
    for (branch, dir) in dirs {
        match dir.try_stat(name) {
            Ok(m) => return Ok(Some((*branch, m))),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(Error::io(format!("stat {}", dir.show(name)), e)),
        }
        if branch::has_whiteout(dir, Format::Aufs, name)? {
            return Ok(None);
        }
    }
    Ok(None)
}
