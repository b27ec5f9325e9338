//! What the file system says of a name.

use super::{Dir, fault, one};
use crate::error::{IoContext, Result};
use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags};

/// What `lstat` says of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The type of the file.
    pub kind: FileType,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner, as the host sees it.
    pub uid: u32,
    /// Group, as the host sees it.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Allocated bytes.
    pub allocated: u64,
    /// Last access: seconds, nanoseconds.
    pub atime: (i64, u32),
    /// Last modification: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Last status change: seconds, nanoseconds.
    pub ctime: (i64, u32),
    /// Number of names.
    pub nlink: u64,
    /// The file system's device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Device number of a device node.
    pub rdev: u64,
}

impl Meta {
    // the fields have other widths on 32-bit hosts
    #[allow(clippy::unnecessary_cast)]
    pub(super) fn from_stat(s: &rustix::fs::Stat) -> Meta {
        Meta {
            kind: FileType::from_raw_mode(s.st_mode),
            mode: s.st_mode & 0o7777,
            uid: s.st_uid,
            gid: s.st_gid,
            size: u64::try_from(s.st_size).unwrap_or(0),
            allocated: u64::try_from(s.st_blocks).unwrap_or(0) * 512,
            atime: (s.st_atime as i64, s.st_atime_nsec as u32),
            mtime: (s.st_mtime as i64, s.st_mtime_nsec as u32),
            ctime: (s.st_ctime as i64, s.st_ctime_nsec as u32),
            nlink: s.st_nlink as u64,
            dev: s.st_dev,
            ino: s.st_ino,
            rdev: s.st_rdev,
        }
    }

    fn from_statx(s: &Statx) -> Meta {
        let mode = u32::from(s.stx_mode);
        Meta {
            kind: FileType::from_raw_mode(mode),
            mode: mode & 0o7777,
            uid: s.stx_uid,
            gid: s.stx_gid,
            size: s.stx_size,
            allocated: s.stx_blocks * 512,
            atime: (s.stx_atime.tv_sec, s.stx_atime.tv_nsec),
            mtime: (s.stx_mtime.tv_sec, s.stx_mtime.tv_nsec),
            ctime: (s.stx_ctime.tv_sec, s.stx_ctime.tv_nsec),
            nlink: u64::from(s.stx_nlink),
            dev: rustix::fs::makedev(s.stx_dev_major, s.stx_dev_minor),
            ino: s.stx_ino,
            rdev: rustix::fs::makedev(s.stx_rdev_major, s.stx_rdev_minor),
        }
    }

    /// A directory?
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// A regular file?
    pub fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile
    }

    /// A character device 0:0: the form in which overlay2 stores a deletion (FORMATS 2.2).
    pub fn is_overlay_whiteout(&self) -> bool {
        self.kind == FileType::CharacterDevice && self.rdev == 0
    }
}

impl Dir {
    /// `lstat` of a name, or of the directory itself (`.`), and with the same call: is it immutable or append-only (chattr +i, +a)?
    /// A kernel before Linux 4.11 does not say so: never, then.
    pub fn stat_fixed(&self, name: &[u8]) -> Result<(Meta, bool)> {
        let at = one(name).on(|| format!("find {}", self.show(name)))?;
        if !fault::old_kernel() {
            let asked = rustix::fs::statx(self.fd(), at, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
            // an old kernel or a sandbox does not know the call; any other error comes again from the next one
            if let Ok(s) = asked {
                let fixed = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
                return Ok((Meta::from_statx(&s), s.stx_attributes.intersects(fixed)));
            }
        }
        Ok((self.stat(name)?, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_calls_say_the_same() {
        let dir = Dir::open_named(std::path::Path::new("/dev")).expect("/dev");
        for name in ["null", "fd", "."] {
            let (m, fixed) = dir.stat_fixed(name.as_bytes()).expect("statx");
            assert_eq!((m, fixed), (dir.stat(name).expect("lstat"), false), "{name}");
        }
        let t = tempfile::tempdir_in(".").expect("temp dir");
        std::fs::write(t.path().join("f"), "12345").expect("write");
        let dir = Dir::open_named(t.path()).expect("open");
        assert_eq!(dir.stat_fixed(b"f").expect("statx").0, dir.stat("f").expect("lstat"));
        assert!(dir.stat_fixed(b"g").is_err());
    }
}
