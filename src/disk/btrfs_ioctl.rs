//! btrfs subvolumes: make, snapshot, delete. The one place with `unsafe`, because no safe binding of these calls exists.
//!
//! All three calls take a `struct btrfs_ioctl_vol_args` of 4,096 bytes (linux/btrfs.h): a descriptor and a name that ends with a NUL. The
//! kernel reads it, writes nothing back, and refuses names with a slash, `.` and `..`.

#![allow(unsafe_code)]

use super::Dir;
use crate::error::{Error, IoContext, Result};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::ioctl::{self, Setter, opcode};

/// `statfs` of a btrfs.
const MAGIC: u64 = 0x9123_683e;
/// The inode number of every subvolume's root (BTRFS_FIRST_FREE_OBJECTID).
const ROOT_INODE: u64 = 256;
/// BTRFS_PATH_NAME_MAX and the NUL.
const NAME: usize = 4088;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; NAME],
}

const _: () = assert!(size_of::<VolArgs>() == 4096);

const GROUP: u8 = 0x94;
const SNAP_CREATE: ioctl::Opcode = opcode::write::<VolArgs>(GROUP, 1);
const SUBVOL_CREATE: ioctl::Opcode = opcode::write::<VolArgs>(GROUP, 14);
const SNAP_DESTROY: ioctl::Opcode = opcode::write::<VolArgs>(GROUP, 15);

fn call<const OPCODE: ioctl::Opcode>(parent: &Dir, name: &[u8], source: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut args = VolArgs { fd: source.map_or(0, |fd| fd.as_raw_fd().into()), name: [0; NAME] };
    // the last byte stays NUL
    if name.len() >= NAME || name.contains(&0) {
        return Err(Errno::NAMETOOLONG);
    }
    args.name[..name.len()].copy_from_slice(name);
    // SAFETY: OPCODE is one of the three constants above. Each is `_IOW(0x94, n, struct btrfs_ioctl_vol_args)`, and `VolArgs` has that
    // struct's layout and size (asserted above). The kernel copies the struct in and writes nothing to it; the name ends with a NUL within
    // it. `source` is borrowed until the call returns.
    unsafe { ioctl::ioctl(parent.fd(), Setter::<OPCODE, VolArgs>::new(args)) }
}

impl Dir {
    /// Does it lie on a btrfs?
    pub fn on_btrfs(&self) -> Result<bool> {
        Ok(super::mounts::room(self)?.magic == MAGIC)
    }

    /// Is it the root of a btrfs subvolume?
    pub fn is_subvolume(&self) -> Result<bool> {
        Ok(self.meta()?.ino == ROOT_INODE && self.on_btrfs()?)
    }

    /// A new, empty subvolume.
    pub fn create_subvolume(&self, name: &[u8]) -> Result<()> {
        super::fault::effect("subvolume");
        call::<SUBVOL_CREATE>(self, name, None).on(|| format!("make subvolume {}", self.show(name)))
    }

    /// A writable snapshot of the subvolume `source`.
    pub fn snapshot(&self, source: &Dir, name: &[u8]) -> Result<()> {
        super::fault::effect("snapshot");
        call::<SNAP_CREATE>(self, name, Some(source.fd()))
            .on(|| format!("make {} a snapshot of {}", self.show(name), source.show(b"")))
    }

    /// Deletes a subvolume with all that is in it; false if it holds further subvolumes (a Docker in a container makes them), which must
    /// go first.
    pub(super) fn delete_subvolume(&self, name: &[u8]) -> Result<bool> {
        super::fault::effect("subvolume delete");
        match call::<SNAP_DESTROY>(self, name, None) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY) => Ok(false),
            Err(e) => Err(Error::io(format!("delete subvolume {}", self.show(name)), e)),
        }
    }
}
