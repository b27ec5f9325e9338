//! Two views of one layer, or two plain trees, compared folder by folder, on all cores.

mod own;

use self::own::{How, Task};
use super::Seen;
use crate::disk::attrs::{OPAQUE, XattrScope};
use crate::disk::join;
use crate::disk::{Dir, FileType, Meta};
use crate::docker::driver::Target;
use crate::docker::driver::stack::Theirs;
use crate::error::{Error, IoContext, Result};
use crate::layer::branch::Slice;
use crate::layer::view::plain;
use crate::layer::view::{Chain, Contributors, Folder, Node};
use crate::layer::walk::walk;
use crate::plan::PlanLayer;
use crate::target::flat::Leave;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Names that were one file are one file, and no others.
const UNGROUPED: &str = "hard links are not grouped as they were";

/// Bytes read at once: what two of them take still fits a core's own cache.
const BUFFER: u64 = 256 * 1024;

struct Pair<'a> {
    /// `layer` or `carried`, and which one.
    subject: (&'static str, &'a str),
    /// Does the layer hold attributes that overlayfs would obey?
    overlay_xattrs: bool,
    /// Paths that are not compared, and folders that are not entered.
    leave: Option<&'a Leave>,
    old: &'a Chain,
    new: &'a Chain,
    to: Target,
    content: bool,
    /// Both stacks have the same layers, and those below the first were compared before: what only they bring is not looked at again.
    rests: bool,
    /// overlay: so many of the uppermost old branches are ours, and what only the others bring is not looked at: it lies in the tree of a
    /// layer that the target's own store keeps.
    kept_below: Option<u16>,
    /// Layers that are not ours.
    theirs: &'a Theirs<'a>,
    seen: &'a Seen,
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

/// Compares what `old` and `new` show. With `content` also the bytes of files that the layer itself brings; do any of those differ?
pub fn views(
    layer: &PlanLayer,
    old: &Chain,
    new: &Chain,
    to: Target,
    content: bool,
    theirs: &Theirs<'_>,
    seen: &Seen,
) -> Result<bool> {
    Pair::of(layer, old, new, to, content, theirs, seen).compare()
}

/// Compares what was carried along: a folder's tree, or one file of the folders given.
pub fn carried(
    id: &str,
    old: Dir,
    new: Dir,
    file: Option<&[u8]>,
    leave: &Leave,
    content: bool,
    seen: &Seen,
) -> Result<()> {
    let theirs = Theirs { at: &new.again()?, ids: HashMap::new() };
    let (old, new) = (plain(None, old), plain(None, new));
    // every attribute counts, as on vfs
    let to = Target::Vfs;
    let pair = Pair { leave: Some(leave), ..Pair::between(("carried", id), &old, &new, to, content, &theirs, seen) };
    match file {
        Some(name) => pair.file(b"", name, (0, &old.branch(0)?.dir), (0, &new.branch(0)?.dir)),
        None => pair.compare().map(drop),
    }
}

/// Have both the same bytes? `read` is told how many were read of the first.
pub fn same_bytes(mut a: File, mut b: File, name: impl Fn() -> String, read: impl Fn(u64)) -> Result<bool> {
    let what = || format!("read {}", name());
    // most files are small
    let room = a.metadata().on(what)?.len().clamp(4096, BUFFER) as usize;
    let (mut x, mut y) = (vec![0u8; room], vec![0u8; room]);
    loop {
        crate::stop::check()?;
        let (n, m) = (fill(&mut a, &mut x).on(what)?, fill(&mut b, &mut y).on(what)?);
        read(n as u64);
        if x[..n] != y[..m] {
            return Ok(false);
        }
        if n < room {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match file.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

impl<'a> Pair<'a> {
    fn of(
        layer: &'a PlanLayer,
        old: &'a Chain,
        new: &'a Chain,
        to: Target,
        content: bool,
        theirs: &'a Theirs<'a>,
        seen: &'a Seen,
    ) -> Pair<'a> {
        let rests = to.stacks() && old.branches.len() == new.branches.len();
        // a complete tree of overlay holds the files of all layers below, of which the facts of this one say nothing
        let overlay_xattrs = to == Target::Overlay || layer.facts.overlay_xattrs.count > 0;
        let subject = ("layer", layer.id.as_str());
        let own = to.own_layers(layer.role, &layer.lowers);
        let below = |n: &u16| layer.lowers.get(usize::from(*n) - 1).is_some_and(|id| theirs.ids.contains_key(id));
        Pair {
            rests,
            kept_below: own.filter(below),
            overlay_xattrs,
            ..Pair::between(subject, old, new, to, content, theirs, seen)
        }
    }

    fn between(
        subject: (&'static str, &'a str),
        old: &'a Chain,
        new: &'a Chain,
        to: Target,
        content: bool,
        theirs: &'a Theirs<'a>,
        seen: &'a Seen,
    ) -> Pair<'a> {
        let (groups, changed) = (Mutex::default(), AtomicBool::new(false));
        let (rests, kept_below, overlay_xattrs, leave) = (false, None, false, None);
        #[rustfmt::skip]
        let pair =
            Pair { subject, overlay_xattrs, leave, old, new, to, content, rests, kept_below, theirs, seen, groups, changed };
        pair
    }

    /// Compares everything; do the bytes of any file differ?
    fn compare(self) -> Result<bool> {
        let how = match self.own_may_do() {
            true => How::Own { hidden: false, open: true },
            false => How::Merged(self.old.root(), self.new.root()),
        };
        walk(Task { path: Vec::new(), how }, |Task { path, how }, hand_on| match how {
            How::Own { hidden, open } => self.own(&path, hidden, open, hand_on),
            How::Merged(old, new) => self.folder(&path, &old, &new, |name, old, new| {
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
        self.seen.differ(self.subject.0, self.subject.1, path, what);
    }

    fn folder(
        &self,
        path: &[u8],
        old: &[u16],
        new: &[u16],
        mut descend: impl FnMut(&[u8], Contributors, Contributors),
    ) -> Result<()> {
        let (odirs, ndirs) = (self.old.open(old, path)?, self.new.open(new, path)?);
        let (Some((_, o)), Some((_, n))) = (odirs.first(), ndirs.first()) else {
            return Err(Error::corrupt("a folder that no layer holds"));
        };
        self.attributes(path, (o, b"."), (n, b"."), &o.meta()?, &n.meta()?)?;
        let crowd = self.old.crowd(&odirs)?.max(self.new.crowd(&ndirs)?);
        for slice in Slice::of(crowd) {
            let was = self.old.merge_slice(&odirs, path.is_empty(), slice)?;
            let is = self.new.merge_slice(&ndirs, path.is_empty(), slice)?;
            self.names(path, (&odirs, &was), (&ndirs, &is), &mut descend)?;
        }
        Ok(())
    }

    fn names(
        &self,
        path: &[u8],
        (odirs, was): (&[(u16, Dir)], &Folder),
        (ndirs, is): (&[(u16, Dir)], &Folder),
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
                    self.differ(&here, format!("is a {:?}, was a {:?}", nnode.kind, onode.kind));
                }
                // the layer itself has no such name: the view of the layer below showed the same
                Some(nnode) if self.rests_below(onode, nnode) => {}
                Some(nnode) if onode.kind == FileType::Directory => {
                    descend(name, onode.from.clone(), nnode.from.clone());
                }
                Some(nnode) => {
                    let (o, n) = (onode.holder(odirs)?, nnode.holder(ndirs)?);
                    self.file(&here, name, o, n)?;
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
        let (old_inode, new_inode) = ((old.0, a.ino), (new.0, b.ino));
        // one inode under two names: nothing can differ but what overlayfs would obey, and which names are one file
        if (a.dev, a.ino) == (b.dev, b.ino) {
            // with two names these are the two
            if a.nlink > 2 && !self.groups.lock().unwrap_or_else(|e| e.into_inner()).add_one(old_inode, new_inode) {
                self.differ(path, UNGROUPED);
            }
            let obeyed = self.to.xattr_scope() == XattrScope::Overlay && self.overlay_xattrs;
            if obeyed && new.1.has_overlay_xattr(name)? {
                self.differ(path, "it carries a trusted.overlay attribute");
            }
            return Ok(());
        }
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
            self.differ(path, "the symlink points elsewhere");
        }
        self.attributes(path, (old.1, name), (new.1, name), &a, &b)?;
        // what the new layer does not hold itself is compared with the view of the layer that does; on btrfs that is what its
        // snapshot brought
        let own = if self.to == Target::Btrfs { old.0 == 0 } else { new.0 == 0 };
        if self.content && a.is_file() && a.size == b.size && own {
            self.bytes(path, name, old.1, new.1)?;
        }
        Ok(())
    }

    fn attributes(&self, path: &[u8], old: (&Dir, &[u8]), new: (&Dir, &[u8]), a: &Meta, b: &Meta) -> Result<()> {
        if a.mode != b.mode && a.kind != FileType::Symlink {
            self.differ(path, format!("mode {:04o}, was {:04o}", b.mode, a.mode));
        }
        if (a.uid, a.gid) != (b.uid, b.gid) {
            self.differ(path, format!("owner {}:{}, was {}:{}", b.uid, b.gid, a.uid, a.gid));
        }
        if a.mtime != b.mtime {
            let t = |(s, ns): (i64, u32)| format!("{s}.{ns:09}");
            self.differ(path, format!("modified {}, was {}", t(b.mtime), t(a.mtime)));
        }
        let scope = self.to.xattr_scope();
        let mut was = old.0.xattrs(old.1)?;
        was.retain(|n, _| scope.keeps(n));
        let mut is = new.0.xattrs(new.1)?;
        // ours to write, and compared as part of the view
        if scope == XattrScope::Overlay && a.is_dir() {
            is.remove(OPAQUE);
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
            self.differ(path, "content");
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
