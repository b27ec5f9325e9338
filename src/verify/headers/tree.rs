//! Each name of the tree against the entries of the tar.

use super::entries::{Known, OPAQUE_LOST, WHITEOUT_LOST, internal};
use super::index::Mark;
use super::{Found, Layer, Stored};
use crate::disk::same::same_bytes;
use crate::disk::{Dir, FileType, Meta, join};
use crate::error::Result;
use crate::layer::branch::{self, Format, Slice};
use crate::layer::view::Chain;
use crate::layer::walk::walk;
use std::collections::HashMap;

const EXTRA: &str = "only in the store: the layer's tar doesn't have it";
const EXTRA_WHITEOUT: &str = "hidden by a whiteout that the layer's tar doesn't have";
const EXTRA_OPAQUE: &str = "opaque, but not in the layer's tar";
const SHARED: &str = "is a hard link of another name, but the layer's tar has two files";
const INHERITED: &str = "missing: the layer below has it, and the layer's tar doesn't remove it";

struct Tree<'a> {
    layer: &'a Layer<'a>,
    known: &'a Known,
    found: &'a Found,
}

/// Looks at every name.
pub fn check(layer: &Layer<'_>, known: &Known, found: &Found) -> Result<()> {
    let tree = Tree { layer, known, found };
    tree.root()?;
    match &layer.stored {
        Stored::Literal => walk(Vec::new(), |path: Vec<u8>, hand_on| tree.literal(&path, hand_on)),
        Stored::Stacked(chain) => walk(Vec::new(), |path: Vec<u8>, hand_on| tree.stacked(&path, chain, hand_on)),
        Stored::Whole { parent, .. } => {
            walk((Vec::new(), parent.is_some()), |(path, merged): (Vec<u8>, bool), hand_on| {
                let parent = parent.filter(|_| merged).map(|p| p.open(&path)).transpose()?;
                tree.whole(&path, parent.as_ref(), hand_on)
            })
        }
    }
}

/// The names of a directory: their type and inode.
type Names = HashMap<Vec<u8>, (FileType, u64)>;

impl Tree<'_> {
    fn has(&self, mark: Mark, path: &[u8]) -> bool {
        self.known.index.has(mark, path)
    }

    /// Does the tar account for the name?
    fn own(&self, path: &[u8]) -> bool {
        self.has(Mark::Entry, path) || self.has(Mark::Above, path)
    }

    /// Docker makes the root of an image layer with mode 0755, and gives it the attributes of the tar's `./`, or those of the parent's
    /// root, on some drivers.
    fn root(&self) -> Result<()> {
        let is = self.layer.tree.meta()?;
        let shift = self.layer.owners;
        let mut modes = vec![0o755];
        let mut owners = vec![(shift.uid, shift.gid)];
        if let Some(h) = &self.known.root {
            modes.push(h.mode);
            owners.push((h.uid.wrapping_add(shift.uid), h.gid.wrapping_add(shift.gid)));
        }
        let below = match &self.layer.stored {
            Stored::Literal => None,
            Stored::Stacked(chain) => chain.branches.get(1).map(|b| b.dir()?.meta()).transpose()?,
            Stored::Whole { parent, .. } => parent.map(Dir::meta).transpose()?,
        };
        modes.extend(below.map(|m| m.mode));
        owners.extend(below.map(|m| (m.uid, m.gid)));
        // who isn't root can make files of their own only
        let me = rustix::process::geteuid();
        if !me.is_root() {
            owners.push((me.as_raw(), rustix::process::getegid().as_raw()));
        }
        if !modes.contains(&is.mode) {
            self.found.add(Vec::new(), format!("mode {:04o}, Docker makes it with {:04o}", is.mode, modes[0]));
        }
        if !owners.contains(&(is.uid, is.gid)) {
            let (uid, gid) = owners[0];
            self.found.add(Vec::new(), format!("owner {}:{}, Docker makes it with {uid}:{gid}", is.uid, is.gid));
        }
        Ok(())
    }

    fn grouped(&self, path: &[u8], kind: FileType, ino: u64) {
        if kind != FileType::Directory && self.known.shared.contains(&ino) {
            self.found.add(path.to_vec(), SHARED);
        }
    }

    fn literal(&self, path: &[u8], hand_on: &mut dyn FnMut(Vec<u8>)) -> Result<()> {
        self.layer.tree.open(path)?.for_each(|name, kind, ino| {
            let here = join(path, name);
            if internal(&here) {
                return Ok(());
            }
            if !self.own(&here) {
                match name.strip_prefix(b".wh.") {
                    Some(b".wh..opq") => self.found.add(path.to_vec(), EXTRA_OPAQUE),
                    Some(hidden) => self.found.add(join(path, hidden), EXTRA_WHITEOUT),
                    None => self.found.add(here, EXTRA),
                }
                return Ok(());
            }
            self.grouped(&here, kind, ino);
            if kind == FileType::Directory {
                hand_on(here);
            }
            Ok(())
        })
    }

    fn stacked(&self, path: &[u8], chain: &Chain, hand_on: &mut dyn FnMut(Vec<u8>)) -> Result<()> {
        let dir = self.layer.tree.open(path)?;
        if !path.is_empty() {
            self.opacity(path, &dir, chain)?;
        }
        dir.for_each(|name, kind, ino| {
            let here = join(path, name);
            if kind == FileType::CharacterDevice && dir.stat(name)?.is_overlay_whiteout() {
                // a device 0:0 of the image's own is a deletion here (FORMATS 11.11)
                if !self.has(Mark::White, &here) && !self.has(Mark::Entry, &here) {
                    self.found.add(here, EXTRA_WHITEOUT);
                }
                return Ok(());
            }
            if !self.own(&here) {
                let what = if self.has(Mark::White, &here) { WHITEOUT_LOST } else { EXTRA };
                self.found.add(here, what);
                return Ok(());
            }
            self.grouped(&here, kind, ino);
            if kind == FileType::Directory {
                hand_on(here);
            }
            Ok(())
        })
    }

    /// A directory is opaque where the tar says so, or removes the name that it then makes again. Where the layers below have no such
    /// directory, the mark has no effect.
    fn opacity(&self, path: &[u8], dir: &Dir, chain: &Chain) -> Result<()> {
        let is = branch::is_opaque(dir, Format::Overlay)?;
        let wanted = self.has(Mark::Opaque, path) || self.has(Mark::White, path);
        if is == wanted {
            return Ok(());
        }
        let (above, name) = crate::disk::split(path);
        let from = chain.contributors(&chain.root(), above)?;
        let below: Vec<(u16, Dir)> = chain.open(&from, above)?.into_iter().filter(|(i, _)| *i != 0).collect();
        if !chain.step(&below, name)?.is_empty() {
            self.found.add(path.to_vec(), if is { EXTRA_OPAQUE } else { OPAQUE_LOST });
        }
        Ok(())
    }

    /// `parent` is the same directory of the layer below, if its names show here.
    fn whole(&self, path: &[u8], parent: Option<&Dir>, hand_on: &mut dyn FnMut((Vec<u8>, bool))) -> Result<()> {
        let dir = self.layer.tree.open(path)?;
        let opaque = !path.is_empty() && self.has(Mark::Opaque, path);
        let count_if_large =
            branch::count_if_large(&dir)?.max(parent.map(branch::count_if_large).transpose()?.unwrap_or(0));
        let mut uncovered = false;
        for slice in Slice::of(count_if_large) {
            let is = names(&dir, slice)?;
            let was = parent.map(|p| names(p, slice)).transpose()?.unwrap_or_default();
            for (name, (kind, ino)) in &is {
                let here = join(path, name);
                let white = self.has(Mark::White, &here);
                let before = was.get(name).filter(|_| !opaque && !white);
                match (self.own(&here), before, parent) {
                    (true, ..) => self.grouped(&here, *kind, *ino),
                    (false, Some(was), Some(parent)) => {
                        self.inherited(&here, name, (&dir, *kind, *ino), (parent, *was))?;
                    }
                    _ if opaque && was.contains_key(name) => {
                        uncovered = true;
                        continue;
                    }
                    _ => {
                        self.found.add(here, if white { WHITEOUT_LOST } else { EXTRA });
                        continue;
                    }
                }
                if *kind == FileType::Directory {
                    let merged = before.is_some_and(|(kind, _)| *kind == FileType::Directory);
                    hand_on((here, merged));
                }
            }
            // an opaque mark at the root takes everything away where Docker itself unpacks, and nothing in aufs (FORMATS 11.5)
            if opaque || self.has(Mark::Opaque, b"") {
                continue;
            }
            for name in was.keys().filter(|n| !is.contains_key(*n)) {
                let here = join(path, name);
                if !self.has(Mark::White, &here) && !self.own(&here) {
                    self.found.add(here, INHERITED);
                }
            }
        }
        if uncovered {
            self.found.add(path.to_vec(), OPAQUE_LOST);
        }
        Ok(())
    }

    /// What the layer does not touch is as in the layer below.
    fn inherited(
        &self,
        path: &[u8],
        name: &[u8],
        (dir, kind, ino): (&Dir, FileType, u64),
        (parent, was): (&Dir, (FileType, u64)),
    ) -> Result<()> {
        let content = matches!(self.layer.stored, Stored::Whole { content: true, .. });
        let one_tree = dir.meta()?.dev == parent.meta()?.dev;
        if one_tree && (kind, ino) == was && kind != FileType::Directory {
            return Ok(());
        }
        let (is, was) = (dir.stat(name)?, parent.stat(name)?);
        if let Some(what) = changed(&is, &was) {
            self.found.add(path.to_vec(), format!("{what} in the layer below, which this layer doesn't change"));
            return Ok(());
        }
        if is.kind == FileType::Symlink && dir.read_link(name)? != parent.read_link(name)? {
            self.found.add(path.to_vec(), "points elsewhere than in the layer below");
        }
        // a snapshot has the inodes of what it is one of, and every write raises the time of a change
        let snapshot = is.ino == was.ino && is.ctime == was.ctime;
        if is.is_file() && !snapshot && (content || is.ino == was.ino) {
            let show = || dir.show(name);
            if !same_bytes(dir.open_file(name)?, parent.open_file(name)?, show, |_| {})? {
                self.found.add(path.to_vec(), "its content differs from the layer below");
            }
        }
        Ok(())
    }
}

/// How two files differ that should be the same.
fn changed(is: &Meta, was: &Meta) -> Option<String> {
    if is.kind != was.kind {
        return Some(format!("is a {}, a {}", crate::verify::kind(is.kind), crate::verify::kind(was.kind)));
    }
    if is.mode != was.mode && is.kind != FileType::Symlink {
        return Some(format!("mode {:04o}, {:04o}", is.mode, was.mode));
    }
    if (is.uid, is.gid) != (was.uid, was.gid) {
        return Some(format!("owner {}:{}, {}:{}", is.uid, is.gid, was.uid, was.gid));
    }
    if is.mtime.0 != was.mtime.0 {
        let [is, was] = [is, was].map(|m| crate::text::time((m.mtime.0, 0)));
        return Some(format!("modified {is}, {was}"));
    }
    if is.is_file() && is.size != was.size {
        return Some(format!("size {}, {}", is.size, was.size));
    }
    let device = matches!(is.kind, FileType::CharacterDevice | FileType::BlockDevice);
    (device && is.rdev != was.rdev).then(|| format!("device number {:#x}, {:#x}", is.rdev, was.rdev))
}

fn names(dir: &Dir, slice: Slice) -> Result<Names> {
    let mut out = Names::new();
    dir.for_each(|name, kind, ino| {
        if slice.holds(name) {
            out.insert(name.to_vec(), (kind, ino));
        }
        Ok(())
    })?;
    Ok(out)
}
