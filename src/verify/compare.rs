//! Two views of one layer, or two plain trees, compared directory by directory, on all cores.

mod own;

use self::own::{How, Task};
use super::Difference;
use super::seen::Seen;
use crate::disk::attrs::{OPAQUE, UUID, XattrScope};
use crate::disk::same::same_bytes;
use crate::disk::{Dir, FileType, Meta, join};
use crate::docker::driver::Target;
use crate::docker::driver::stack::Theirs;
use crate::error::{Error, Result};
use crate::layer::branch::Slice;
use crate::layer::view::plain;
use crate::layer::view::{Chain, Contributors, MergedDir, Node};
use crate::layer::walk::walk;
use crate::plan::PlanLayer;
use crate::target::flat::Leave;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Names that were one file are one file, and no others.
const UNGROUPED: &str = "hard links are not grouped as they were";

/// A rollback would find what containers wrote since.
const SHARED: &str = "shares an inode with the old store: a write by the container would change both";

/// Two views of a layer.
pub struct Views<'a> {
    /// The layer.
    pub layer: &'a PlanLayer,
    /// What the old store shows.
    pub old: &'a Chain,
    /// What the new store shows.
    pub new: &'a Chain,
    /// The layer's own tree, below the new ROOT.
    pub tree: Vec<u8>,
    /// btrfs: the tree that the layer's own is a snapshot of.
    pub snapshot_of: Option<&'a Dir>,
    /// The new driver.
    pub to: Target,
    /// Compare the bytes of files that the layer itself brings; of a writable layer always.
    pub content: bool,
    /// Layers that are not ours.
    pub theirs: &'a Theirs<'a>,
}

struct Pair<'a> {
    /// `layer` or `carried`, and which one.
    subject: (&'static str, &'a str),
    /// Does the layer hold attributes that overlayfs would obey?
    overlay_xattrs: bool,
    /// Paths that are not compared, and directories that are not entered.
    leave: Option<&'a Leave>,
    old: &'a Chain,
    new: &'a Chain,
    to: Target,
    content: bool,
    /// Containers write into it: it shares no inode with the old store.
    writable: bool,
    tree: Vec<u8>,
    snapshot_of: Option<&'a Dir>,
    /// Both stacks have the same layers, and those below the first were compared before: what only they bring is not looked at again.
    rests: bool,
    /// overlay: so many of the uppermost old branches are ours, and what only the others bring is not looked at: it is in the tree of a
    /// layer that the existing target store keeps.
    kept_below: Option<u16>,
    /// Layers that are not ours.
    theirs: &'a Theirs<'a>,
    seen: &'a Seen<'a>,
    /// Which names are one file: bounded by the number of inodes with several names in one of the two.
    groups: Mutex<Groups>,
    /// The bytes of a file differ.
    changed: AtomicBool,
}

/// An inode, and in which branch.
type Inode = (u16, u64);

/// Inodes with several names. In mode link most files are one inode with a name in each store; of these no more is kept than must be.
#[derive(Default)]
struct Groups {
    /// Old inode to another new one, and back.
    there: HashMap<Inode, Inode>,
    back: HashMap<Inode, Inode>,
    /// Inodes that both have.
    both: HashSet<u64>,
}

impl Groups {
    /// Does this pair agree with those before? If it does: has it come before?
    fn add(&mut self, old: Inode, new: Inode) -> Option<bool> {
        match (self.there.get(&old), self.back.get(&new)) {
            (None, None) if self.both.contains(&old.1) || self.both.contains(&new.1) => None,
            (None, None) => {
                self.there.insert(old, new);
                self.back.insert(new, old);
                Some(false)
            }
            (Some(there), Some(back)) => (*there == new && *back == old).then_some(true),
            _ => None,
        }
    }

    /// The same for an inode that both have.
    fn add_one(&mut self, old: Inode, new: Inode) -> bool {
        self.both.insert(old.1);
        !self.there.contains_key(&old) && !self.back.contains_key(&new)
    }
}

/// Compares what the two show; do the bytes of any file differ?
pub fn views(views: &Views<'_>, seen: &Seen<'_>) -> Result<bool> {
    Pair::of(views, seen).compare()
}

/// Something that was copied to a new root besides layers.
pub struct Unit<'a> {
    /// Its name.
    pub id: &'a str,
    /// Where it is in the old root and in the new one.
    pub at: (Dir, Dir),
    /// One file there, rather than the whole directories.
    pub file: Option<&'a [u8]>,
    /// What is not compared.
    pub leave: &'a Leave,
}

/// Compares what was copied.
pub fn unit(unit: Unit<'_>, content: bool, seen: &Seen<'_>) -> Result<()> {
    let Unit { id, at: (old, new), file, leave } = unit;
    let theirs = Theirs { at: &new.again()?, ids: HashMap::new() };
    let (old, new) = (plain(None, old), plain(None, new));
    let pair = Pair { leave: Some(leave), content, ..Pair::between(("carried", id), (&old, &new), &theirs, seen) };
    match file {
        Some(name) => pair.file(b"", name, (0, old.branch(0)?.dir()?), (0, new.branch(0)?.dir()?)),
        None => pair.compare().map(drop),
    }
}

impl<'a> Pair<'a> {
    fn of(views: &'a Views<'a>, seen: &'a Seen<'a>) -> Pair<'a> {
        let Views { layer, old, new, to, content, theirs, .. } = *views;
        let rests = to.stacks() && old.branches.len() == new.branches.len();
        // a complete tree of overlay holds the files of all layers below, of which the facts of this one say nothing
        let overlay_xattrs = to == Target::Overlay || layer.facts.overlay_xattrs.count > 0;
        let own = to.own_layers(layer.role, &layer.lowers);
        let below = |n: &u16| layer.lowers.get(usize::from(*n) - 1).is_some_and(|id| theirs.ids.contains_key(id));
        let writable = layer.role.writable();
        Pair {
            rests,
            kept_below: own.filter(below),
            overlay_xattrs,
            writable,
            tree: views.tree.clone(),
            snapshot_of: views.snapshot_of,
            to,
            content: content || writable,
            ..Pair::between(("layer", layer.id.as_str()), (old, new), theirs, seen)
        }
    }

    /// Two trees. Every attribute counts, as on vfs.
    fn between(
        subject: (&'static str, &'a str),
        (old, new): (&'a Chain, &'a Chain),
        theirs: &'a Theirs<'a>,
        seen: &'a Seen<'a>,
    ) -> Pair<'a> {
        let (groups, changed) = (Mutex::default(), AtomicBool::new(false));
        Pair {
            subject,
            overlay_xattrs: false,
            leave: None,
            old,
            new,
            to: Target::Vfs,
            content: false,
            writable: false,
            tree: Vec::new(),
            snapshot_of: None,
            rests: false,
            kept_below: None,
            theirs,
            seen,
            groups,
            changed,
        }
    }

    /// Compares everything; do the bytes of any file differ?
    fn compare(self) -> Result<bool> {
        let how = match self.own_may_do() {
            true => How::Own { hidden: false, open: true },
            false => How::Merged(self.old.root(), self.new.root()),
        };
        walk(Task { path: Vec::new(), how }, |Task { path, how }, hand_on| match how {
            How::Own { hidden, open } => self.first_branches(&path, hidden, open, hand_on),
            How::Merged(old, new) => self.directory(&path, &old, &new, |name, old, new| {
                hand_on(Task { path: join(&path, name), how: How::Merged(old, new) });
            }),
        })?;
        Ok(self.changed.into_inner())
    }

    /// Do only layers below the first bring the name, the same ones in both views?
    fn rests_below(&self, old: &Node, new: &Node) -> bool {
        match self.rests {
            _ if new.from.contains(&0) => false,
            false => self.kept_below.is_some_and(|own| old.from.iter().all(|i| *i >= own)),
            true => old.from == new.from,
        }
    }

    fn differ(&self, path: &[u8], what: impl Into<String>) {
        let at = if path.is_empty() { self.tree.clone() } else { join(&self.tree, path) };
        self.seen.note(self.difference(path, what).at(at));
    }

    fn difference(&self, path: &[u8], what: impl Into<String>) -> Difference {
        Difference::new(self.subject.0, self.subject.1, what).path(path)
    }

    fn directory(
        &self,
        path: &[u8],
        old: &[u16],
        new: &[u16],
        mut descend: impl FnMut(&[u8], Contributors, Contributors),
    ) -> Result<()> {
        let (odirs, ndirs) = (self.old.open(old, path)?, self.new.open(new, path)?);
        let (Some((_, o)), Some((_, n))) = (odirs.first(), ndirs.first()) else {
            return Err(Error::corrupt("a directory that isn't in any layer"));
        };
        self.attributes(path, (o, b".", &o.meta()?), (n, b".", &n.meta()?))?;
        let count_if_large = self.old.count_if_large(&odirs)?.max(self.new.count_if_large(&ndirs)?);
        for slice in Slice::of(count_if_large) {
            let was = self.old.merge_slice(&odirs, path.is_empty(), slice)?;
            let is = self.new.merge_slice(&ndirs, path.is_empty(), slice)?;
            self.names(path, (&odirs, &was), (&ndirs, &is), &mut descend)?;
        }
        Ok(())
    }

    fn names(
        &self,
        path: &[u8],
        (odirs, was): (&[(u16, Dir)], &MergedDir),
        (ndirs, is): (&[(u16, Dir)], &MergedDir),
        descend: &mut impl FnMut(&[u8], Contributors, Contributors),
    ) -> Result<()> {
        for (i, ghost) in &is.ghosts {
            // Docker's own extraction of a layer makes them
            let holder = &self.new.branch(*i)?.id;
            if holder.as_ref().is_some_and(|id| self.theirs.ids.contains_key(id)) {
                continue;
            }
            self.differ(&join(path, ghost), "a whiteout that hides nothing would be listed here");
        }
        let left = |here: &[u8]| self.leave.is_some_and(|l| l.contains(here));
        let one_device = match (odirs, ndirs) {
            ([(_, o)], [(_, n)]) => o.meta()?.dev == n.meta()?.dev,
            _ => false,
        };
        for name in is.names.keys().filter(|n| !was.names.contains_key(*n) && !left(&join(path, n))) {
            self.differ(&join(path, name), "only in the new store");
        }
        for (name, onode) in &was.names {
            let here = join(path, name);
            if left(&here) {
                continue;
            }
            self.seen.names.fetch_add(1, Ordering::Relaxed);
            match is.names.get(name) {
                None if self.cannot_hold(odirs, onode, name)? => {}
                None => self.differ(&here, "missing in the new store"),
                Some(nnode) if nnode.kind != onode.kind => {
                    self.differ(&here, format!("is a {}, was a {}", super::kind(nnode.kind), super::kind(onode.kind)));
                }
                // the layer itself has no such name: the view of the layer below showed the same
                Some(nnode) if self.rests_below(onode, nnode) => {}
                Some(nnode) if onode.kind == FileType::Directory => {
                    descend(name, onode.from.clone(), nnode.from.clone());
                }
                Some(nnode) => {
                    let (o, n) = (onode.holder(odirs)?, nnode.holder(ndirs)?);
                    match one_device && onode.ino == nnode.ino {
                        // the two listings say so: the old name needs no look of its own
                        true => self.one_inode(&here, name, o.0, (n.0, n.1, &n.1.stat(name)?))?,
                        false => self.file(&here, name, o, n)?,
                    }
                }
            }
        }
        Ok(())
    }

    /// A device 0:0 has no place on the overlay drivers (FORMATS 11.11); the plan names each.
    fn cannot_hold(&self, dirs: &[(u16, Dir)], node: &Node, name: &[u8]) -> Result<bool> {
        let overlay = matches!(self.to, Target::Overlay2 | Target::Overlay);
        Ok(overlay && node.kind == FileType::CharacterDevice && node.holder(dirs)?.1.stat(name)?.is_overlay_whiteout())
    }

    fn file(&self, path: &[u8], name: &[u8], old: (u16, &Dir), new: (u16, &Dir)) -> Result<()> {
        let (a, b) = (old.1.stat(name)?, new.1.stat(name)?);
        if (a.dev, a.ino) == (b.dev, b.ino) {
            return self.one_inode(path, name, old.0, (new.0, new.1, &b));
        }
        let (old_inode, new_inode) = ((old.0, a.ino), (new.0, b.ino));
        if a.nlink > 1 || b.nlink > 1 {
            match self.groups.lock().unwrap_or_else(|e| e.into_inner()).add(old_inode, new_inode) {
                // further names of two inodes that were compared under their first
                Some(true) => return Ok(()),
                Some(false) => {}
                None => self.differ(path, UNGROUPED),
            }
        }
        if a.is_file() && a.size != b.size {
            self.changed.store(true, Ordering::Relaxed);
            self.differ(path, format!("size {}, was {}", b.size, a.size));
        }
        if matches!(a.kind, FileType::CharacterDevice | FileType::BlockDevice) && a.rdev != b.rdev {
            self.differ(path, format!("device number {:#x}, was {:#x}", b.rdev, a.rdev));
        }
        if a.kind == FileType::Symlink && old.1.read_link(name)? != new.1.read_link(name)? {
            self.differ(path, "the symlink has another target");
        }
        self.attributes(path, (old.1, name, &a), (new.1, name, &b))?;
        if self.content && a.is_file() && a.size == b.size && self.own(path, old.0, new.0, &b)? {
            self.bytes(path, name, old.1, new.1)?;
        }
        Ok(())
    }

    /// One inode under two names: nothing can differ but what overlayfs would obey, and which names are one file.
    fn one_inode(&self, path: &[u8], name: &[u8], old: u16, (new, dir, is): (u16, &Dir, &Meta)) -> Result<()> {
        if self.writable && new == 0 {
            self.seen.note(self.difference(path, SHARED));
        }
        // with two names these are the two
        if is.nlink > 2 {
            let mut groups = self.groups.lock().unwrap_or_else(|e| e.into_inner());
            if !groups.add_one((old, is.ino), (new, is.ino)) {
                self.differ(path, UNGROUPED);
            }
        }
        let obeyed = self.to.xattr_scope() == XattrScope::Overlay && self.overlay_xattrs;
        if obeyed && dir.has_overlay_xattr(name)? {
            self.differ(path, "it carries a trusted.overlay attribute");
        }
        Ok(())
    }

    /// Are the bytes the layer's own? What it does not hold itself is compared with the view of the layer that does.
    fn own(&self, path: &[u8], old: u16, new: u16, is: &Meta) -> Result<bool> {
        if self.to != Target::Btrfs || old == 0 {
            return Ok(new == 0);
        }
        // what a snapshot brought: each write since has raised the time of change
        let Some(tree) = self.snapshot_of.filter(|_| self.writable) else { return Ok(self.writable) };
        let was = tree.stat_opt(path)?;
        Ok(was.is_none_or(|was| (was.ino, was.ctime) != (is.ino, is.ctime)))
    }

    fn attributes(&self, path: &[u8], old: (&Dir, &[u8], &Meta), new: (&Dir, &[u8], &Meta)) -> Result<()> {
        let (a, b) = (old.2, new.2);
        if a.mode != b.mode && a.kind != FileType::Symlink {
            self.differ(path, format!("mode {:04o}, was {:04o}", b.mode, a.mode));
        }
        if (a.uid, a.gid) != (b.uid, b.gid) {
            self.differ(path, format!("owner {}:{}, was {}:{}", b.uid, b.gid, a.uid, a.gid));
        }
        if a.mtime != b.mtime {
            let [is, was] = [b.mtime, a.mtime].map(crate::text::time);
            self.differ(path, format!("modified {is}, was {was}"));
        }
        let scope = self.to.xattr_scope();
        let mut was = old.0.xattrs(old.1)?;
        was.retain(|n, _| scope.keeps(n));
        let mut is = new.0.xattrs(new.1)?;
        // ours to write, and compared as part of the view
        if scope == XattrScope::Overlay && a.is_dir() {
            is.remove(OPAQUE);
            // `docker save` and `docker push` mount a layer on which nothing is based
            if path.is_empty() {
                is.remove(UUID);
            }
        }
        is.retain(|n, _| XattrScope::Plain.keeps(n));
        for n in was.keys().chain(is.keys()) {
            if was.get(n) != is.get(n) {
                self.differ(path, format!("xattr {}", crate::text::bytes(n)));
                break;
            }
        }
        Ok(())
    }

    fn bytes(&self, path: &[u8], name: &[u8], old: &Dir, new: &Dir) -> Result<()> {
        let count = |n| {
            self.seen.bytes.fetch_add(n, Ordering::Relaxed);
        };
        if !same_bytes(old.open_file(name)?, new.open_file(name)?, || new.show(name), count)? {
            self.changed.store(true, Ordering::Relaxed);
            self.differ(path, "its content differs");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Groups;

    #[test]
    fn names_are_grouped_as_they_were() {
        type Step = (u64, u64, Option<bool>);
        let cases: &[(&str, &[Step])] = &[
            ("two names of two inodes", &[(1, 11, Some(false)), (1, 11, Some(true)), (2, 12, Some(false))]),
            ("one has become two", &[(1, 11, Some(false)), (1, 12, None)]),
            ("two have become one", &[(1, 11, Some(false)), (2, 11, None)]),
            ("one of two names was linked, the other copied", &[(1, 1, Some(true)), (1, 11, None)]),
            ("the same, in the other order", &[(1, 11, Some(false)), (1, 1, None)]),
            ("an inode that was another file", &[(1, 1, Some(true)), (2, 1, None)]),
            ("the same, in the other order", &[(2, 1, Some(false)), (1, 1, None)]),
            ("linked", &[(1, 1, Some(true)), (1, 1, Some(true)), (2, 2, Some(true))]),
        ];
        for (what, steps) in cases {
            let mut groups = Groups::default();
            for (old, new, expected) in *steps {
                let (a, b) = ((0, *old), (0, *new));
                let said = if old == new { groups.add_one(a, b).then_some(true) } else { groups.add(a, b) };
                assert_eq!(said, *expected, "{what}: {old} {new}");
            }
        }
    }
}
