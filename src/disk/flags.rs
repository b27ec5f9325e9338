//! What keeps an inode from being renamed: the flags that `chattr` sets, and project ids.
//!
//! `FS_IOC_GETFLAGS` needs no `unsafe`; the project id is in `FS_IOC_FSGETXATTR` alone ([`super::ioctl`]).

use super::ioctl::project;
use super::{Dir, FileType};
use crate::error::Result;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::IFlags;

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
