//! Owners, modes, times and extended attributes.
//!
//! Order per object (FORMATS 11.12): create, chown, chmod, xattrs, times. `chown` clears `security.capability` and the setuid bit,
//! setting an xattr changes nothing but ctime, and a directory's times come last because each new name in it changes them.

use super::{Dir, FileType, Meta, one, proc_fd};
use crate::error::{Error, IoContext, Result};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

/// Extended attributes by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Which extended attributes belong to the new place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrScope {
    /// Everything but SELinux labels: for vfs and btrfs, and for comparing.
    Plain,
    /// Without `trusted.overlay.*`, which overlayfs would obey: those are data only on aufs (FORMATS 11.28).
    Overlay,
}

/// The prefix that overlayfs reads as its own (FORMATS 2.2).
pub const OVERLAY_PREFIX: &[u8] = b"trusted.overlay.";
/// Marks a directory under which nothing of the layers below shows (FORMATS 2.2).
pub const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// Which overlay a layer was the upper directory of. The kernel itself writes it on the root of that directory when it is mounted, since
/// Linux 6.6 (FORMATS 2.2).
pub const UUID: &[u8] = b"trusted.overlay.uuid";

impl XattrScope {
    /// Is this attribute taken along? SELinux labels never are: they are the policy's to set (FORMATS 11.13).
    pub fn keeps(self, name: &[u8]) -> bool {
        if name == b"security.selinux" || name.starts_with(b"btrfs.") {
            return false;
        }
        self == XattrScope::Plain || !name.starts_with(OVERLAY_PREFIX)
    }
}

/// Linux allows 64 KiB of names and 64 KiB for a value.
const XATTR_MAX: usize = 64 * 1024;

/// What is asked for its attributes.
enum Place<'a> {
    /// What a path leads to; a symlink itself.
    Path(&'a [u8]),
    /// An open file: without a walk.
    Open(BorrowedFd<'a>),
}

impl Place<'_> {
    fn list(&self, out: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Place::Path(path) => rustix::fs::llistxattr(*path, out),
            Place::Open(file) => rustix::fs::flistxattr(file, out),
        }
    }

    fn get(&self, name: &[u8], out: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Place::Path(path) => rustix::fs::lgetxattr(*path, name, out),
            Place::Open(file) => rustix::fs::fgetxattr(file, name, out),
        }
    }
}

/// All extended attributes of an open file, which is called `shown`.
pub fn of_file(file: &File, shown: impl Fn() -> String) -> Result<Xattrs> {
    all(&Place::Open(file.as_fd()), shown)
}

fn all(of: &Place<'_>, shown: impl Fn() -> String) -> Result<Xattrs> {
    let mut out = Xattrs::new();
    for_each_name(of, &shown, |n| {
        let mut value = vec![0u8; 256];
        let v = loop {
            match of.get(n, &mut value[..]) {
                Ok(len) => {
                    value.truncate(len);
                    break Some(value);
                }
                Err(Errno::RANGE) if value.len() < XATTR_MAX => value = vec![0u8; XATTR_MAX],
                Err(Errno::NODATA) => break None,
                Err(e) => return Err(Error::io(format!("read xattr {} of {}", crate::text::bytes(n), shown()), e)),
            }
        };
        if let Some(v) = v {
            out.insert(n.to_vec(), v);
        }
        Ok(())
    })?;
    Ok(out)
}

fn for_each_name(of: &Place<'_>, shown: &dyn Fn() -> String, mut f: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut small = [0u8; 256];
    let mut large;
    let list: &[u8] = match of.list(&mut small[..]) {
        Ok(0) => return Ok(()),
        Ok(n) => &small[..n],
        Err(Errno::RANGE) => {
            large = vec![0u8; XATTR_MAX];
            let n = of.list(&mut large[..]).on(|| format!("list xattrs of {}", shown()))?;
            &large[..n]
        }
        // no xattrs on this file system or this type of file
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(Error::io(format!("list xattrs of {}", shown()), e)),
    };
    for n in list.split(|c| *c == 0).filter(|n| !n.is_empty()) {
        f(n)?;
    }
    Ok(())
}

impl Dir {
    /// All extended attributes of a name, of whatever type; a symlink's own. `.` is the directory itself.
    pub fn xattrs(&self, name: &[u8]) -> Result<Xattrs> {
        let path = self.asked_by(name)?;
        all(&Place::Path(&path), || self.show(name))
    }

    fn asked_by(&self, name: &[u8]) -> Result<Vec<u8>> {
        one(name).map(|name| self.proc_path(name)).on(|| format!("list xattrs of {}", self.show(name)))
    }

    /// Does a name carry an attribute that overlayfs would obey?
    pub fn has_overlay_xattr(&self, name: &[u8]) -> Result<bool> {
        let path = self.asked_by(name)?;
        Ok(self.xattr_kinds_at(name, &path)?.1)
    }

    /// (has it attributes, has it some that overlayfs would obey) of a name that `path` leads to: the names only.
    pub(super) fn xattr_kinds_at(&self, name: &[u8], path: &[u8]) -> Result<(bool, bool)> {
        let (mut any, mut overlay) = (false, false);
        for_each_name(&Place::Path(path), &|| self.show(name), |n| {
            any = true;
            overlay |= n.starts_with(OVERLAY_PREFIX);
            Ok(())
        })?;
        Ok((any, overlay))
    }

    /// Has the file system no block left? Where that can't be asked, an error is believed.
    fn is_full(&self) -> bool {
        rustix::fs::fstatvfs(self.fd()).map_or(true, |fs| fs.f_bavail == 0)
    }

    /// Sets one extended attribute of a name; a symlink's own.
    pub fn set_xattr(&self, name: &[u8], attr: &[u8], value: &[u8]) -> Result<()> {
        super::fault::effect("setxattr");
        let path = one(name).map(|name| self.proc_path(name));
        path.and_then(|path| rustix::fs::lsetxattr(&path[..], attr, value, XattrFlags::empty())).map_err(|e| {
            let what = format!("set xattr {} ({} bytes) of {}", crate::text::bytes(attr), value.len(), self.show(name));
            match e {
                Errno::OPNOTSUPP => {
                    Error::io(what, e).hint("The file system of the new store can't hold this attribute.")
                }
                // ext4 keeps all attributes of a file in one block, and says of more the same as of a full disk
                Errno::NOSPC | Errno::TOOBIG | Errno::RANGE if !self.is_full() => Error::corrupt(what)
                    .with_source(std::io::Error::other("the attributes of this file are too large for this file system"))
                    .hint("Use --target on an xfs or btrfs file system, or leave the image or container out with --exclude."),
                _ => Error::io(what, e),
            }
        })
    }

    /// Removes one extended attribute.
    fn remove_xattr(&self, name: &[u8], attr: &[u8]) -> Result<()> {
        super::fault::effect("removexattr");
        let path = one(name).map(|name| self.proc_path(name));
        match path.and_then(|path| rustix::fs::lremovexattr(&path[..], attr)) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(e) => Err(Error::io(format!("remove xattr {} of {}", crate::text::bytes(attr), self.show(name)), e)),
        }
    }

    /// Removes the extended attributes that a directory has: those of a lower layer's directory, before an upper one's takes over. A default
    /// ACL among them would be inherited by all that is made in it.
    pub fn remove_xattrs(&self, name: &[u8]) -> Result<()> {
        for attr in self.xattrs(name)?.keys().filter(|a| XattrScope::Plain.keeps(a)) {
            self.remove_xattr(name, attr)?;
        }
        Ok(())
    }

    /// Gives `name` the owner, mode and attributes recorded; not the times.
    pub fn set_owner_mode_xattrs(&self, name: &[u8], m: &Meta, xattrs: &Xattrs, scope: XattrScope) -> Result<()> {
        self.set_owner(name, m.uid, m.gid)?;
        if m.kind != FileType::Symlink {
            self.set_mode(name, m.mode)?;
        }
        for (n, v) in xattrs.iter().filter(|(n, _)| scope.keeps(n)) {
            self.set_xattr(name, n, v)?;
        }
        Ok(())
    }

    /// All extended attributes of this directory, asked by its descriptor.
    pub fn own_xattrs(&self) -> Result<Xattrs> {
        all(&Place::Open(self.fd()), || self.show(b"."))
    }

    /// Gives this new directory the owner, mode, attributes and, last, the times recorded; `is` is what it has now. What is so already is not set
    /// again.
    pub fn finish(&self, m: &Meta, is: &Meta, xattrs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<()> {
        if (is.uid, is.gid) != (m.uid, m.gid) {
            self.set_owner(b".", m.uid, m.gid)?;
        }
        if is.mode != m.mode {
            self.set_mode(b".", m.mode)?;
        }
        for (n, v) in xattrs {
            self.set_xattr(b".", &n, &v)?;
        }
        super::fault::effect("utimens");
        rustix::fs::futimens(self.fd(), &Times::from(m).stamps()).on(|| format!("set times of {}", self.show(b".")))
    }

    /// `lchown`.
    pub fn set_owner(&self, name: &[u8], uid: u32, gid: u32) -> Result<()> {
        super::fault::effect("chown");
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        one(name)
            .and_then(|name| rustix::fs::chownat(&self.fd, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW))
            .on(|| format!("set owner of {}", self.show(name)))
    }

    /// `chmod` of a name; a symlink is an error and not followed. The call that could say so by itself came with Linux 6.6 (fchmodat2), so
    /// the inode is held while it is looked at.
    pub fn set_mode(&self, name: &[u8], mode: u32) -> Result<()> {
        super::fault::effect("chmod");
        let mode = Mode::from_raw_mode(mode);
        let set = || -> Result<(), Errno> {
            if name == b"." {
                return rustix::fs::fchmod(&self.fd, mode);
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle = rustix::fs::openat(&self.fd, one(name)?, flags, Mode::empty())?;
            match FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) {
                FileType::Symlink => Err(Errno::LOOP),
                _ => rustix::fs::chmod(proc_fd(&handle), mode),
            }
        };
        set().on(|| format!("set mode of {}", self.show(name)))
    }

    /// Sets access and modification time of a name; a symlink's own.
    pub fn set_times(&self, name: &[u8], t: impl Into<Times>) -> Result<()> {
        super::fault::effect("utimens");
        let times = t.into().stamps();
        one(name)
            .and_then(|name| rustix::fs::utimensat(&self.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW))
            .on(|| format!("set times of {}", self.show(name)))
    }
}

/// Access and modification time: seconds and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Times {
    /// Last access.
    pub atime: (i64, u32),
    /// Last modification.
    pub mtime: (i64, u32),
}

impl Times {
    /// 1970.
    pub const EPOCH: Times = Times { atime: (0, 0), mtime: (0, 0) };

    /// For `utimensat`.
    pub fn stamps(self) -> Timestamps {
        let t = |(s, ns): (i64, u32)| Timespec { tv_sec: s, tv_nsec: ns.into() };
        Timestamps { last_access: t(self.atime), last_modification: t(self.mtime) }
    }
}

impl From<&Meta> for Times {
    fn from(m: &Meta) -> Times {
        Times { atime: m.atime, mtime: m.mtime }
    }
}
