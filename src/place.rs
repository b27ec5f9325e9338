//! Puts one file of a branch into a new tree, by the transfer that the plan allows.
//!
//! link → clone → copy. A link needs no look at the file at all; EXDEV, EMLINK and EPERM step down to a copy, ENOSPC and EACCES stop.
//! Hard-link groups of a layer stay groups: by linking the same inode, or by remembering where the first name went.

use crate::disk::attrs::XattrScope;
use crate::disk::copy::{Ability, Transfer, copy_object};
use crate::disk::{Dir, FileType, Meta, split};
use crate::error::{Error, IoContext, Result};
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

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
}

/// The places of files that have several names, by branch and inode: bounded by the number of such inodes, not of files.
type Leaders = Mutex<HashMap<(u16, u64), Vec<u8>>>;

/// Puts files into the tree below `root`.
#[derive(Debug)]
pub struct Placer {
    root: Dir,
    link: bool,
    check_xattrs: bool,
    scope: XattrScope,
    ability: Ability,
    leaders: Leaders,
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
            check_xattrs,
            scope,
            ability: Ability::starting(order.contains(&Transfer::Clone)),
            leaders: Leaders::default(),
            tally: Tally::default(),
        }
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
        if self.link && !(self.check_xattrs && from.has_overlay_xattr(name)?) {
            match from.try_link(name, to, new) {
                Ok(()) => {
                    self.tally.linked.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                // EPERM: an immutable file, or a file system without hard links
                Err(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => {}
                Err(e) => return Err(Error::io(format!("link {} to {}", from.show(name), to.show(new)), e)),
            }
        }
        let m = from.stat(name)?;
        if m.nlink > 1 {
            self.put_grouped(branch, from, name, &m, to, path)
        } else {
            self.copy(from, name, &m, to, new)
        }
    }

    /// A file with several names: the first is copied, the others are linked to it. The lock is held meanwhile, so that two folders
    /// that hold names of one inode cannot both be the first.
    fn put_grouped(&self, branch: u16, from: &Dir, name: &[u8], m: &Meta, to: &Dir, path: &[u8]) -> Result<()> {
        let (_, new) = split(path);
        let mut leaders = self.leaders.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(leader) = leaders.get(&(branch, m.ino)) {
            let (dir, lname) = self.root.parent_of(leader)?;
            match dir.try_link(lname, to, new) {
                Ok(()) => return Ok(()),
                // the file system's limit on links (ext4: 65,000) is reached: a new inode from here on
                Err(Errno::MLINK) => {}
                other => return other.on(|| format!("link {} to {}", dir.show(lname), to.show(new))),
            }
        }
        self.copy(from, name, m, to, new)?;
        leaders.insert((branch, m.ino), path.to_vec());
        Ok(())
    }

    fn copy(&self, from: &Dir, name: &[u8], m: &Meta, to: &Dir, new: &[u8]) -> Result<()> {
        let used = copy_object(from, name, m, to, new, self.scope, &self.ability)?;
        let counter = if used == Transfer::Clone { &self.tally.cloned } else { &self.tally.copied };
        counter.fetch_add(1, Ordering::Relaxed);
        if used == Transfer::Copy && m.kind == FileType::RegularFile {
            self.tally.bytes.fetch_add(m.size.min(m.allocated), Ordering::Relaxed);
        }
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
        to.set_times(b".", &m)
    }
}
