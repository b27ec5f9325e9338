//! Puts one file of a branch into a new tree, by the transfer that the plan allows.
//!
//! link → clone → copy. A link needs no look at the file at all; EXDEV, EMLINK and EPERM step down to a copy, ENOSPC and EACCES stop.
//! A complete tree takes what the layers below brought from the tree of its parent in the new store, which is always near: it links the
//! files there, or by mode clone shares their extents, also where the old store is on another file system.
//!
//! Hard-link groups of a layer stay groups: by linking the same inode, or by remembering where the first name went. An inode may
//! run out of links in the middle of a group (ext4: 65,000, and each tree takes one for each name); the names that it got are
//! moved to the new inode in the end, by [`FileWriter::join_groups`].

use crate::disk::attrs::XattrScope;
use crate::disk::copy::{Ability, Copied, Original, Transfer, copy_object};
use crate::disk::join;
use crate::disk::{Dir, FileType, Meta};
use crate::error::{Error, IoContext, Result};
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What one layer's writer has done, counted while it runs.
#[derive(Debug, Default)]
pub struct Tally {
    /// Names made by a further link to the old inode.
    pub linked: AtomicU64,
    /// Files whose extents are shared.
    pub cloned: AtomicU64,
    /// Files and special files made again.
    pub copied: AtomicU64,
    /// Bytes of content read and written.
    pub bytes: AtomicU64,
    /// Directories made.
    pub directories: AtomicU64,
    /// Whiteouts made.
    pub whiteouts: AtomicU64,
    /// Opaque directories made.
    pub opaque: AtomicU64,
    /// Inodes made: of files, directories and whiteouts.
    pub inodes: AtomicU64,
    /// Bytes of disk that they take; shared extents are not counted.
    pub disk: AtomicU64,
}

impl Tally {
    /// Counts an inode that was made.
    pub fn made(&self, disk: u64) {
        self.inodes.fetch_add(1, Ordering::Relaxed);
        self.disk.fetch_add(disk, Ordering::Relaxed);
    }

    /// Counts what was made of a file, symlink or device with metadata `m`.
    pub fn copied(&self, made: Copied, m: &Meta) {
        let cloned = made.how == Transfer::Clone;
        let counter = if cloned { &self.cloned } else { &self.copied };
        counter.fetch_add(1, Ordering::Relaxed);
        self.made(if cloned { 0 } else { made.disk });
        if made.how == Transfer::Copy && m.kind == FileType::RegularFile {
            self.bytes.fetch_add(m.size.min(m.allocated), Ordering::Relaxed);
        }
    }
}

/// Files that have several names: bounded by the number of such inodes, not of files.
#[derive(Debug, Default)]
struct Groups {
    /// Where the first name went, by branch and old inode.
    leaders: HashMap<(u16, u64), Vec<u8>>,
    /// Inodes that ran out of links: the name whose inode takes over what they have in this tree.
    full: HashMap<u64, Vec<u8>>,
}

/// What became of an attempt to link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Linked {
    Yes,
    /// Not here: another file system, an immutable file.
    No,
    /// This inode has all the links that it can have.
    Full(u64),
}

/// A directory of the new tree.
#[derive(Clone, Copy)]
pub struct NewDir<'a> {
    /// It.
    pub dir: &'a Dir,
    /// Below the tree's root.
    pub path: &'a [u8],
}

/// Puts files into the tree below `root`.
#[derive(Debug)]
pub struct FileWriter {
    root: Dir,
    link: bool,
    /// Links to the old inodes turned out to be impossible.
    cannot_link: AtomicBool,
    /// Is what is below the first branch the parent's tree in the new store?
    over_parent: bool,
    check_xattrs: bool,
    scope: XattrScope,
    ability: Ability,
    /// The same between the parent's tree and this one.
    parent_ability: Ability,
    groups: Mutex<Groups>,
    /// The counters.
    pub tally: Tally,
}

impl FileWriter {
    /// `order` is the plan's transfer order; `check_xattrs` when the branch holds attributes that must not be taken along, so that a
    /// link would bring them.
    pub fn new(root: Dir, order: &[Transfer], scope: XattrScope, check_xattrs: bool) -> FileWriter {
        FileWriter {
            root,
            link: order.contains(&Transfer::Link),
            cannot_link: AtomicBool::new(false),
            over_parent: false,
            check_xattrs,
            scope,
            ability: Ability::starting(order.contains(&Transfer::Clone)),
            parent_ability: Ability::starting(order.contains(&Transfer::Clone)),
            groups: Mutex::default(),
            tally: Tally::default(),
        }
    }

    /// For a complete tree: what is below the first branch is the complete tree of the parent in the new store.
    pub fn over_parent(mut self, is: bool) -> FileWriter {
        self.over_parent = is;
        self
    }

    /// The new tree's root.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// Which attributes are taken along.
    pub fn scope(&self) -> XattrScope {
        self.scope
    }

    /// Puts the file `name` of `from`, a directory of branch `branch`, into `to`.
    pub fn put(&self, (branch, from): (u16, &Dir), name: &[u8], to: NewDir<'_>) -> Result<()> {
        let of_parent = self.over_parent && branch > 0;
        let full = match self.link(of_parent, from, name, to.dir)? {
            Linked::Yes => return Ok(()),
            Linked::Full(ino) => Some(ino),
            Linked::No => None,
        };
        let m = from.stat(name)?;
        let ability = if of_parent { &self.parent_ability } else { &self.ability };
        let original = Original { dir: from, name, meta: &m, ability, moved: None };
        if m.nlink > 1 { self.put_grouped(branch, &original, to, full) } else { self.copy(&original, to.dir, name) }
    }

    /// Links the inode, if the plan allows it and the file system can.
    fn link(&self, of_parent: bool, from: &Dir, name: &[u8], to: &Dir) -> Result<Linked> {
        if !self.link || !of_parent && self.cannot_link.load(Ordering::Relaxed) {
            return Ok(Linked::No);
        }
        // the parent's tree holds none
        if !of_parent && self.check_xattrs && from.has_overlay_xattr(name)? {
            return Ok(Linked::No);
        }
        let linked = self.try_link(from, name, to, name)?;
        if linked == Linked::No && !of_parent && from.meta()?.dev != to.meta()?.dev {
            self.cannot_link.store(true, Ordering::Relaxed);
        }
        Ok(linked)
    }

    fn try_link(&self, from: &Dir, name: &[u8], to: &Dir, new: &[u8]) -> Result<Linked> {
        match from.try_link(name, to, new) {
            Ok(()) => {
                self.tally.linked.fetch_add(1, Ordering::Relaxed);
                Ok(Linked::Yes)
            }
            Err(Errno::MLINK) => Ok(Linked::Full(from.stat(name)?.ino)),
            // EPERM: an immutable file, or a file system without hard links
            Err(Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP) => Ok(Linked::No),
            Err(e) => Err(Error::io(format!("link {} to {}", from.show(name), to.show(new)), e)),
        }
    }

    /// A file with several names: the first is copied, the others are linked to it. The lock is held in the meantime, so that two directories
    /// that hold names of one inode cannot both be the first. `full` is the inode that had no link left for this name.
    fn put_grouped(&self, branch: u16, original: &Original<'_>, to: NewDir<'_>, full: Option<u64>) -> Result<()> {
        let NewDir { dir: to, path } = to;
        let (name, ino) = (original.name, original.meta.ino);
        let mut groups = self.groups.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(leader) = groups.leaders.get(&(branch, ino)) {
            let (dir, lname) = self.root.parent_of(leader)?;
            match dir.try_link(lname, to, name) {
                Ok(()) => return Ok(()),
                // a group of more names than the new file system allows: a new inode from here on
                Err(Errno::MLINK) => {}
                other => return other.on(|| format!("link {} to {}", dir.show(lname), to.show(name))),
            }
        }
        self.copy(original, to, name)?;
        groups.leaders.insert((branch, ino), join(path, name));
        if let Some(full) = full {
            groups.full.insert(full, join(path, name));
        }
        Ok(())
    }

    /// Makes one group again of those that were split because an inode ran out of links. To be called when the tree is complete.
    pub fn join_groups(&self) -> Result<()> {
        let groups = self.groups.lock().unwrap_or_else(|e| e.into_inner());
        if groups.full.is_empty() {
            return Ok(());
        }
        // paths, not descriptors: a tree may be wider than the number of files a process may hold open
        let mut todo = vec![Vec::new()];
        while let Some(path) = todo.pop() {
            let dir = self.root.open(&path)?;
            let (before, mut names) = (dir.meta()?, Vec::new());
            dir.for_each(|name, kind, ino| {
                if kind == FileType::Directory {
                    todo.push(join(&path, name));
                } else if let Some(leader) = groups.full.get(&ino) {
                    names.push((name.to_vec(), leader));
                }
                Ok(())
            })?;
            for (name, leader) in &names {
                let (ldir, lname) = self.root.parent_of(leader)?;
                if ldir.stat(lname)?.ino != dir.stat(name)?.ino {
                    dir.unlink(name)?;
                    ldir.try_link(lname, &dir, name)
                        .on(|| format!("link {} to {}", ldir.show(lname), dir.show(name)))?;
                }
            }
            if !names.is_empty() {
                dir.set_times(b".", &before)?;
            }
        }
        Ok(())
    }

    fn copy(&self, original: &Original<'_>, to: &Dir, new: &[u8]) -> Result<()> {
        self.tally.copied(copy_object(original, to, new, self.scope)?, original.meta);
        Ok(())
    }

    /// Gives the new directory `to` the attributes of `from`, times last. Nothing may be made in `to` afterwards.
    pub fn finish_dir(&self, from: &Dir, to: &Dir, opaque: bool) -> Result<()> {
        let (m, is) = (from.meta()?, to.meta()?);
        let mut xattrs = from.own_xattrs()?;
        xattrs.retain(|name, _| self.scope.keeps(name));
        if opaque {
            xattrs.insert(crate::disk::attrs::OPAQUE.to_vec(), b"y".to_vec());
            self.tally.opaque.fetch_add(1, Ordering::Relaxed);
        }
        self.tally.made(is.allocated);
        to.finish(&m, &is, xattrs)
    }
}
