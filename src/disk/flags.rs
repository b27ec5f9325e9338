//! What keeps an inode from being renamed: the flags that `chattr` sets, and project ids.
//!
//! `FS_IOC_GETFLAGS` needs no `unsafe`; the project id is told by `FS_IOC_FSGETXATTR` alone, of which no safe binding exists.

#![allow(unsafe_code)]

use super::{Dir, FileType};
use crate::error::Result;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::IFlags;
use rustix::ioctl::{self, Getter, opcode};

/// Of one inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Immutable or append-only: not even root can rename it, or what is in it.
    pub fixed: bool,
    /// What is renamed into this directory has to have the directory's project id.
    pub inherit: bool,
    /// Its project id.
    pub project: u32,
}

/// `struct fsxattr` (linux/fs.h).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FsXattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

const _: () = assert!(size_of::<FsXattr>() == 28);

const FSGETXATTR: ioctl::Opcode = opcode::read::<FsXattr>(b'X', 31);

fn project(fd: BorrowedFd<'_>) -> Option<u32> {
    // SAFETY: FSGETXATTR is `_IOR('X', 31, struct fsxattr)`, and `FsXattr` has that struct's layout and size (asserted above). All bit
    // patterns are valid for it. The kernel writes that struct and nothing else; on failure it writes nothing, and `Getter` gives the error.
    unsafe { ioctl::ioctl(fd, Getter::<FSGETXATTR, FsXattr>::new()) }.ok().map(|x| x.projid)
}

fn flags(fd: BorrowedFd<'_>) -> Flags {
    // file systems without flags have none set
    let own = rustix::fs::ioctl_getflags(fd).unwrap_or(IFlags::empty());
    Flags {
        fixed: own.intersects(IFlags::IMMUTABLE | IFlags::APPEND),
        inherit: own.contains(IFlags::PROJECT_INHERIT),
        project: project(fd).unwrap_or(0),
    }
}

impl Dir {
    /// The flags of this directory.
    pub fn flags(&self) -> Flags {
        flags(self.fd())
    }

    /// The flags of a name in it; of what is neither a file nor a directory none are told.
    pub fn flags_of(&self, name: &[u8]) -> Result<Flags> {
        Ok(match self.stat(name)?.kind {
            FileType::Directory => match self.try_open(name) {
                Ok(dir) => dir.flags(),
                // a mount point: it is named by its own check
                Err(_) => Flags::default(),
            },
            FileType::RegularFile => flags(self.open_file(name)?.as_fd()),
            _ => Flags::default(),
        })
    }
}
