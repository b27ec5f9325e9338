//! Kernel calls that no crate wraps: the one place with `unsafe`.
//!
//! - btrfs's three calls on subvolumes take a `struct btrfs_ioctl_vol_args` of 4,096 bytes (linux/btrfs.h): a descriptor and a name that
//!   ends with a NUL. The kernel reads it, writes nothing back, and refuses names with a slash, `.` and `..`.
//! - `listxattrat` (Linux 6.13) lists the attributes of a name in an open folder. The older calls take paths only, and the way through
//!   `/proc/self/fd` costs three times as much, for each file of a store.

#![allow(unsafe_code)]

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::ioctl::{self, Setter, opcode};
use rustix::path::Arg;

/// BTRFS_PATH_NAME_MAX and the NUL.
const NAME: usize = 4088;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
pub struct VolArgs {
    fd: i64,
    name: [u8; NAME],
}

const _: () = assert!(size_of::<VolArgs>() == 4096);

const GROUP: u8 = 0x94;
/// A writable snapshot of the descriptor's subvolume.
pub const SNAP_CREATE: ioctl::Opcode = opcode::write::<VolArgs>(GROUP, 1);
/// A new, empty subvolume.
pub const SUBVOL_CREATE: ioctl::Opcode = opcode::write::<VolArgs>(GROUP, 14);
/// Deletes a subvolume.
pub const SNAP_DESTROY: ioctl::Opcode = opcode::write::<VolArgs>(GROUP, 15);

/// One of the three calls above on `name` in `parent`.
pub fn subvolume<const OPCODE: ioctl::Opcode>(
    parent: BorrowedFd<'_>,
    name: &[u8],
    source: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    const { assert!(OPCODE == SNAP_CREATE || OPCODE == SUBVOL_CREATE || OPCODE == SNAP_DESTROY) };
    let mut args = VolArgs { fd: source.map_or(0, |fd| fd.as_raw_fd().into()), name: [0; NAME] };
    // the last byte stays NUL
    if name.len() >= NAME || name.contains(&0) {
        return Err(Errno::NAMETOOLONG);
    }
    args.name[..name.len()].copy_from_slice(name);
    // SAFETY: OPCODE is one of the three constants above (asserted). Each is `_IOW(0x94, n, struct btrfs_ioctl_vol_args)`, and `VolArgs`
    // has that struct's layout and size (asserted above). The kernel copies the struct in and writes nothing to it; the name ends with a
    // NUL within it. `source` is borrowed until the call returns.
    unsafe { ioctl::ioctl(parent, Setter::<OPCODE, VolArgs>::new(args)) }
}

/// The same number on every architecture that unaufs is built for (asm-generic/unistd.h).
const LISTXATTRAT: libc::c_long = 465;

/// The names of the extended attributes of `name` in `dir`, each ending with a NUL; a symlink's own. Gives the length. ENOSYS before Linux 6.13.
pub fn listxattrat(dir: BorrowedFd<'_>, name: &[u8], names: &mut [u8]) -> Result<usize, Errno> {
    name.into_with_c_str(|name| {
        // SAFETY: `dir` is open and `name` ends with a NUL until the call returns; the kernel writes at most `names.len()` bytes to `names`
        // and keeps neither pointer.
        let n = unsafe {
            libc::syscall(
                LISTXATTRAT,
                dir.as_raw_fd(),
                name.as_ptr(),
                libc::AT_SYMLINK_NOFOLLOW,
                names.as_mut_ptr(),
                names.len(),
            )
        };
        usize::try_from(n).map_err(|_| {
            // the C library has just set it
            let os = std::io::Error::last_os_error();
            os.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
        })
    })
}
