//! What the file system says of a name.

use rustix::fs::FileType;

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
