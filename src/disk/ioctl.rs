//! The one place with `unsafe`: calls for which no safe binding exists.
//!
//! btrfs: subvolumes are made, snapshot and deleted, and space is counted. Any file system: the project id of an inode.
//!
//! The first three calls take a `struct btrfs_ioctl_vol_args` of 4,096 bytes (linux/btrfs.h): a descriptor and a name that ends with a NUL. The
//! kernel reads it, writes nothing back, and refuses names with a slash, `.` and `..`.

#![allow(unsafe_code)]

use super::Dir;
use crate::error::{Error, IoContext, Result};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::ioctl::{self, Getter, Setter, Updater, opcode};

/// `statfs` of a btrfs.
pub const MAGIC: u64 = 0x9123_683e;
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

/// `struct btrfs_ioctl_space_info`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct SpaceInfo {
    flags: u64,
    total: u64,
    used: u64,
}

/// A btrfs has at most data, metadata and system in two profiles each (while it is converted), and the global reserve.
const SPACES: usize = 16;

/// `struct btrfs_ioctl_space_args` with room for the answer.
#[repr(C)]
struct SpaceArgs {
    slots: u64,
    total: u64,
    spaces: [SpaceInfo; SPACES],
}

const _: () = assert!(size_of::<SpaceArgs>() == 16 + 24 * SPACES);

/// `_IOWR(0x94, 20, struct btrfs_ioctl_space_args)`: that struct ends with an array of no length.
const SPACE_INFO: ioctl::Opcode = opcode::read_write::<[u64; 2]>(GROUP, 20);

/// BTRFS_BLOCK_GROUP_*, and the bit of the global reserve.
const DATA: u64 = 1;
const METADATA: u64 = 4;
const RAID1: u64 = 1 << 4;
const DUP: u64 = 1 << 5;
const RAID10: u64 = 1 << 6;
const RAID1C3: u64 = 1 << 9;
const RAID1C4: u64 = 1 << 10;
const GLOBAL_RESERVE: u64 = 1 << 49;

/// What is taken on a btrfs: bytes, and how many copies of each there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    data: (u64, u64),
    trees: (u64, u64),
}

impl Space {
    fn of(spaces: &[SpaceInfo]) -> Space {
        let copies = |flags: u64| match flags {
            f if f & RAID1C4 != 0 => 4,
            f if f & RAID1C3 != 0 => 3,
            f if f & (RAID1 | DUP | RAID10) != 0 => 2,
            _ => 1,
        };
        let kind = |bit: u64| {
            let of_kind = || spaces.iter().filter(|s| s.flags & bit != 0 && s.flags & GLOBAL_RESERVE == 0);
            (of_kind().map(|s| s.used).sum(), of_kind().map(|s| copies(s.flags)).max().unwrap_or(1))
        };
        Space { data: kind(DATA), trees: kind(METADATA) }
    }

    /// How often the trees are kept, for each copy of the content.
    pub fn tree_copies(&self) -> u64 {
        self.trees.1.div_ceil(self.data.1)
    }

    /// Bytes that are taken, as `df` counts them.
    pub fn taken(&self) -> u64 {
        self.data.0 + self.trees.0 * self.tree_copies()
    }
}

impl Dir {
    /// What is taken on the btrfs that it is on.
    pub fn space(&self) -> Result<Space> {
        let mut args = SpaceArgs { slots: SPACES as u64, total: 0, spaces: Default::default() };
        // SAFETY: SPACE_INFO reads the 16 bytes of `slots` and `total`, and writes `total` and at most `slots` entries of 24 bytes behind
        // them: all of that is within `SpaceArgs`, whose layout is that of the kernel's structs (asserted above).
        unsafe { ioctl::ioctl(self.fd(), Updater::<SPACE_INFO, SpaceArgs>::new(&mut args)) }
            .on(|| format!("count the space of {}", self.show(b"")))?;
        let told = usize::try_from(args.total).unwrap_or(SPACES).min(SPACES);
        Ok(Space::of(&args.spaces[..told]))
    }

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

/// The project id of an inode; `None` where the file system has none.
pub(super) fn project(fd: BorrowedFd<'_>) -> Option<u32> {
    // SAFETY: FSGETXATTR is `_IOR('X', 31, struct fsxattr)`, and `FsXattr` has that struct's layout and size (asserted above). All bit
    // patterns are valid for it. The kernel writes that struct and nothing else; on failure it writes nothing, and `Getter` gives the error.
    unsafe { ioctl::ioctl(fd, Getter::<FSGETXATTR, FsXattr>::new()) }.ok().map(|x| x.projid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies() {
        let spaces = |data, trees| {
            let of = |flags, used| SpaceInfo { flags, total: 1 << 30, used };
            Space::of(&[
                of(DATA | data, 1000),
                of(2 | trees, 5),
                of(METADATA | trees, 100),
                of(METADATA | GLOBAL_RESERVE, 7),
            ])
        };
        for (data, trees, copies) in
            [(0, DUP, 2), (0, 0, 1), (RAID1, RAID1, 1), (RAID1, RAID1C3, 2), (RAID1, RAID1C4, 2), (0, RAID1C3, 3)]
        {
            let space = spaces(data, trees);
            assert_eq!(space.tree_copies(), copies, "{data:x} {trees:x}");
            assert_eq!(space.taken(), 1000 + 100 * copies);
        }
    }
}
