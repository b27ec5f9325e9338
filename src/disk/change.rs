//! What changes the names of a directory, and what makes the changes durable. Each is a point at which the crash tests end the process.

use super::{Dir, FileType, fault, one, parts};
use crate::error::{Error, IoContext, Result};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;

impl Dir {
    /// Makes a directory, mode as given whatever the umask says.
    pub fn mkdir(&self, name: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let name = name.as_ref();
        fault::effect("mkdir");
        one(name)
            .and_then(|name| rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)))
            .on(|| format!("make directory {}", self.show(name)))?;
        if self.stat(name)?.mode == mode { Ok(()) } else { self.set_mode(name, mode) }
    }

    /// Makes a directory whose mode and owner are set when it is complete: until then the umask may have taken bits away.
    pub fn mkdir_unfinished(&self, name: &[u8]) -> Result<()> {
        fault::effect("mkdir");
        one(name)
            .and_then(|name| rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)))
            .on(|| format!("make directory {}", self.show(name)))
    }

    /// Opens a directory below, making it and its parents where they are missing.
    pub fn ensure(&self, rel: impl AsRef<[u8]>, mode: u32) -> Result<Dir> {
        let mut at = self.again()?;
        for part in parts(rel.as_ref()) {
            at = match at.open_opt(part)? {
                Some(d) => d,
                None => {
                    at.mkdir(part, mode)?;
                    at.open(part)?
                }
            };
        }
        Ok(at)
    }

    /// A symlink.
    pub fn symlink(&self, target: &[u8], name: &[u8]) -> Result<()> {
        fault::effect("symlink");
        one(name)
            .and_then(|name| rustix::fs::symlinkat(target, &self.fd, name))
            .on(|| format!("make symlink {}", self.show(name)))
    }

    /// A device, fifo or socket.
    pub fn mknod(&self, name: &[u8], kind: FileType, rdev: u64) -> Result<()> {
        fault::effect("mknod");
        let made = one(name).and_then(|name| rustix::fs::mknodat(&self.fd, name, kind, Mode::empty(), rdev));
        made.map_err(|e| {
            let err = Error::io(format!("make device {}", self.show(name)), e);
            if e == Errno::PERM {
                err.hint("Only root in the host's own user namespace can make devices (CAP_MKNOD).")
            } else {
                err
            }
        })
    }

    /// Another name in `to` for the file `name` of this directory, with the plain errno. A symlink is linked, not followed.
    pub fn try_link(&self, name: &[u8], to: &Dir, new: &[u8]) -> Result<(), Errno> {
        fault::effect("link");
        rustix::fs::linkat(&self.fd, one(name)?, &to.fd, one(new)?, AtFlags::empty())
    }

    /// Renames a path below `self` to a path below `to`; never replaces anything.
    pub fn rename_new(&self, from: impl AsRef<[u8]>, to: &Dir, new: impl AsRef<[u8]>) -> Result<()> {
        let (from, new) = (from.as_ref(), new.as_ref());
        let what = || format!("rename {} to {}", self.show(from), to.show(new));
        let (fd, fname) = self.parent_of(from)?;
        let (td, tname) = to.parent_of(new)?;
        fault::effect("rename");
        if !fault::old_kernel() {
            match rustix::fs::renameat_with(&fd.fd, fname, &td.fd, tname, rustix::fs::RenameFlags::NOREPLACE) {
                // before 3.15, and file systems without it: look first. We hold the lock, nobody else writes here.
                Err(Errno::NOSYS | Errno::INVAL) => {}
                other => return other.on(what),
            }
        }
        if td.try_stat(tname).is_ok() {
            return Err(Error::io(what(), Errno::EXIST));
        }
        rustix::fs::renameat(&fd.fd, fname, &td.fd, tname).on(what)
    }

    /// Exchanges two names of two directories in one step. `false` if the kernel (before 3.15) or the file system cannot.
    pub fn exchange(&self, name: &str, other: &Dir, new: &str) -> Result<bool> {
        if fault::old_kernel() {
            return Ok(false);
        }
        fault::effect("rename");
        let both = one(name.as_bytes()).and_then(|name| Ok((name, one(new.as_bytes())?)));
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        match both.and_then(|(name, new)| rustix::fs::renameat_with(&self.fd, name, &other.fd, new, flags)) {
            Ok(()) => Ok(true),
            Err(Errno::NOSYS | Errno::INVAL) => Ok(false),
            Err(e) => {
                Err(Error::io(format!("exchange {} and {}", self.show(name.as_bytes()), other.show(new.as_bytes())), e))
            }
        }
    }

    /// Removes a name that is not a directory.
    pub fn unlink(&self, name: &[u8]) -> Result<()> {
        fault::effect("unlink");
        one(name)
            .and_then(|name| rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()))
            .on(|| format!("remove {}", self.show(name)))
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, name: &[u8]) -> Result<()> {
        fault::effect("rmdir");
        one(name)
            .and_then(|name| rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR))
            .on(|| format!("remove directory {}", self.show(name)))
    }

    /// Creates a regular file that must not exist yet, open for writing, mode 0600.
    pub fn create(&self, name: impl AsRef<[u8]>) -> Result<File> {
        let name = name.as_ref();
        fault::effect("create");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = one(name)
            .and_then(|name| rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600)))
            .on(|| format!("create {}", self.show(name)))?;
        Ok(File::from(fd))
    }

    /// Writes a small file that must not exist yet.
    pub fn write_new(&self, name: impl AsRef<[u8]>, bytes: &[u8], mode: u32) -> Result<()> {
        let name = name.as_ref();
        let mut f = self.create(name)?;
        fault::effect("content");
        f.write_all(bytes).on(|| format!("write {}", self.show(name)))?;
        fault::effect("chmod");
        rustix::fs::fchmod(&f, Mode::from_raw_mode(mode)).on(|| format!("set mode of {}", self.show(name)))
    }

    /// Writes a small file so that after a crash there is either the old or the new one: temporary file, fsync, rename, fsync of
    /// the directory.
    pub fn write_atomic(&self, name: &[u8], bytes: &[u8], mode: u32) -> Result<()> {
        let mut tmp = b".tmp-".to_vec();
        tmp.extend_from_slice(name);
        // a program that collects `*.json` from the directory must not see half of one
        tmp.push(b'~');
        if self.try_stat(&tmp).is_ok() {
            self.unlink(&tmp)?;
        }
        let what = || format!("write {}", self.show(name));
        let mut f = self.create(&tmp)?;
        fault::effect("content");
        f.write_all(bytes).on(what)?;
        fault::effect("chmod");
        rustix::fs::fchmod(&f, Mode::from_raw_mode(mode)).on(what)?;
        fault::effect("fsync");
        f.sync_all().on(what)?;
        fault::effect("replace");
        one(name).and_then(|name| rustix::fs::renameat(&self.fd, &tmp[..], &self.fd, name)).on(what)?;
        self.sync()
    }

    /// Makes the names of this directory durable.
    pub fn sync(&self) -> Result<()> {
        fault::effect("fsync");
        if fault::without_syncs() {
            return Ok(());
        }
        match rustix::fs::fsync(&self.fd) {
            // some file systems have nothing to sync for a directory
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(e) => Err(Error::io(format!("sync {}", self.show(b"")), e)),
        }
    }

    /// Makes everything on this directory's file system durable.
    pub fn sync_fs(&self) -> Result<()> {
        fault::effect("syncfs");
        if fault::without_syncs() {
            return Ok(());
        }
        match rustix::fs::syncfs(&self.fd) {
            // sandboxes that do not know the call: everything then, which Linux waits for as well
            Err(Errno::NOSYS) => {
                rustix::fs::sync();
                Ok(())
            }
            other => other.on(|| format!("sync the file system of {}", self.show(b""))),
        }
    }
}
