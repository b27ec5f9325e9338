//! Puts one file of a branch into a new tree, by the transfer that the plan allows.
//!
//! link → clone → copy. A link needs no look at the file at all; EXDEV, EMLINK and EPERM step down to a copy, ENOSPC and EACCES stop.
//! Where the old inode cannot be linked because it is on another file system, a complete tree links what the layers below brought from
//! the tree of its parent instead, or by mode clone shares its extents.
//!
//! Hard-link groups of a layer stay groups: by linking the same inode, or by remembering where the first name went. An inode may
//! run out of links in the middle of a group (ext4: 65,000, and each tree takes one for each name); the names that it got are
//! moved to the new inode in the end, by [`Placer::settle`].

use crate::disk::attrs::XattrScope;
use crate::disk::copy::{Ability, Copied, Original, Transfer, copy_object};
use crate::disk::join;
use crate::disk::{Dir, FileType, Meta, split};
use crate::error::{Error, IoContext, Result};
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

/// What one layer's writer has done, counted while it runs.
#[derive(Debug, Default)]
pub struct Tally {
    /// Names made by a further link to the old inode.
    pub linked: AtomicU64,
    /// Files whose extents are shared.
    pub cloned: AtomicU64,
    /// Files and special files made anew.
    pub copied: AtomicU64,
    /// Bytes of content read and written.
    pub bytes: AtomicU64,
    /// Folders made.
    pub folders: AtomicU64,
    /// Whiteouts made.
    pub whiteouts: AtomicU64,
    /// Opaque folders made.
    pub opaque: AtomicU64,
    /// Inodes made: of files, folders and whiteouts.
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

/// Puts files into the tree below `root`.
#[derive(Debug)]
pub struct Placer {
    root: Dir,
    link: bool,
    /// Links to the old inodes turned out to be impossible.
    far: AtomicBool,
    /// See [`Placer::is_far`].
    near: OnceLock<bool>,
    /// The parent's tree in the new store.
    parent: Option<Dir>,
    check_xattrs: bool,
    scope: XattrScope,
    ability: Ability,
    /// The same between the parent's tree and this one, where files come from there because the old ones are on another file system.
    beside: Option<Ability>,
    groups: Mutex<Groups>,
    /// The counters.
    pub tally: Tally,
}

impl Placer {
    /// `order` is the plan's transfer order; `check_xattrs` when the branch holds attributes that must not be taken along, so that a
    /// link would bring them.
    pub fn new(root: Dir, order: &[Transfer], scope: XattrScope, check_xattrs: bool) -> Placer {
        Placer {
            root,
            link: order.contains(&Transfer::Link),
            far: AtomicBool::new(false),
            near: OnceLock::new(),
            parent: None,
            check_xattrs,
            scope,
            ability: Ability::starting(order.contains(&Transfer::Clone)),
            beside: order.contains(&Transfer::Clone).then(|| Ability::starting(true)),
            groups: Mutex::default(),
            tally: Tally::default(),
        }
    }

    /// For a complete tree: `parent` is the complete tree of the layer below, whose unchanged files may be linked or cloned.
    pub fn beside(mut self, parent: Option<Dir>) -> Placer {
        self.parent = parent.filter(|_| self.link || self.beside.is_some());
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

    /// Puts the file `name` of `from`, a folder of branch `branch`, to `path` below the root; `to` is the open parent of `path`.
    pub fn put(&self, branch: u16, from: &Dir, name: &[u8], to: &Dir, path: &[u8]) -> Result<()> {
        let (_, new) = split(path);
        if let (false, Some(ability), Some(parent)) = (self.link, &self.beside, &self.parent)
            && branch > 0
            && self.is_far(from, to)?
        {
            let (dir, name) = parent.parent_of(path)?;
            let m = dir.stat(name)?;
            let theirs = Original { dir: &dir, name, meta: &m, ability };
            return match m.nlink {
                1 => self.copy(&theirs, to, new),
                _ => self.put_grouped(branch, &theirs, to, path, None),
            };
        }
        let full = match self.link_old(from, name, to, new)? {
            Linked::Yes => return Ok(()),
            Linked::Full(ino) => Some(ino),
            Linked::No => match self.link_parent(branch, to, path)? {
                Linked::Yes => return Ok(()),
                Linked::Full(ino) => Some(ino),
                Linked::No => None,
            },
        };
        let m = from.stat(name)?;
        let original = Original { dir: from, name, meta: &m, ability: &self.ability };
        if m.nlink > 1 { self.put_grouped(branch, &original, to, path, full) } else { self.copy(&original, to, new) }
    }

    /// Is the old branch on another file system? Learnt once.
    fn is_far(&self, from: &Dir, to: &Dir) -> Result<bool> {
        match self.near.get() {
            Some(near) => Ok(!near),
            None => {
                let near = from.meta()?.dev == to.meta()?.dev;
                Ok(!self.near.get_or_init(|| near))
            }
        }
    }

    /// Links the old inode, if the plan allows it and the file system can.
    fn link_old(&self, from: &Dir, name: &[u8], to: &Dir, new: &[u8]) -> Result<Linked> {
        if !self.link || self.far.load(Ordering::Relaxed) || self.check_xattrs && from.has_overlay_xattr(name)? {
            return Ok(Linked::No);
        }
        let linked = self.try_link(from, name, to, new)?;
        if linked == Linked::No && from.meta()?.dev != to.meta()?.dev {
            self.far.store(true, Ordering::Relaxed);
        }
        Ok(linked)
    }

    /// Links the parent's file: what comes from a lower branch is what the parent shows at the same path. Never for a tree that is written
    /// into: its parent may be at hand for sharing extents only.
    fn link_parent(&self, branch: u16, to: &Dir, path: &[u8]) -> Result<Linked> {
        match &self.parent {
            Some(parent) if self.link && branch > 0 => {
                let (dir, name) = parent.parent_of(path)?;
                self.try_link(&dir, name, to, name)
            }
            _ => Ok(Linked::No),
        }
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

    /// A file with several names: the first is copied, the others are linked to it. The lock is held meanwhile, so that two folders
    /// that hold names of one inode cannot both be the first. `full` is the inode that had no link left for this name.
    fn put_grouped(
        &self,
        branch: u16,
        original: &Original<'_>,
        to: &Dir,
        path: &[u8],
        full: Option<u64>,
    ) -> Result<()> {
        let (_, new) = split(path);
        let ino = original.meta.ino;
        let mut groups = self.groups.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(leader) = groups.leaders.get(&(branch, ino)) {
            let (dir, lname) = self.root.parent_of(leader)?;
            match dir.try_link(lname, to, new) {
                Ok(()) => return Ok(()),
                // a group of more names than the new file system allows: a new inode from here on
                Err(Errno::MLINK) => {}
                other => return other.on(|| format!("link {} to {}", dir.show(lname), to.show(new))),
            }
        }
        // the parent's tree has left an inode that was full for its own, if it is another one
        if full != Some(ino) || self.link_parent(branch, to, path)? != Linked::Yes {
            self.copy(original, to, new)?;
        }
        groups.leaders.insert((branch, ino), path.to_vec());
        if let Some(full) = full {
            groups.full.insert(full, path.to_vec());
        }
        Ok(())
    }

    /// Makes one group again of those that were split because an inode ran out of links. To be called when the tree is complete.
    pub fn settle(&self) -> Result<()> {
        let groups = self.groups.lock().unwrap_or_else(|e| e.into_inner());
        if groups.full.is_empty() {
            return Ok(());
        }
        // paths, not descriptors: a tree may be wider than the number of files a process may hold open
        let mut todo = vec![Vec::new()];
        while let Some(path) = todo.pop() {
            let dir = if path.is_empty() { self.root.again()? } else { self.root.open(&path)? };
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

    /// Gives the new folder `to` the attributes of `from`, times last. Nothing may be made in `to` afterwards.
    pub fn finish_folder(&self, from: &Dir, to: &Dir, opaque: bool) -> Result<()> {
        let m = from.meta()?;
        to.set_owner_mode_xattrs(b".", &m, &from.xattrs(b".")?, self.scope)?;
        if opaque {
            to.set_xattr(b".", crate::disk::attrs::OPAQUE, b"y")?;
            self.tally.opaque.fetch_add(1, Ordering::Relaxed);
        }
        self.tally.made(to.meta()?.allocated);
        to.set_times(b".", &m)
    }
}
