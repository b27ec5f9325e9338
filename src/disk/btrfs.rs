//! btrfs subvolumes: make, snapshot, delete.

use super::Dir;
use super::kernel::{SNAP_CREATE, SNAP_DESTROY, SUBVOL_CREATE, subvolume};
use crate::error::{Error, IoContext, Result};
use rustix::io::Errno;

/// `statfs` of a btrfs.
const MAGIC: u64 = 0x9123_683e;
/// The inode number of every subvolume's root (BTRFS_FIRST_FREE_OBJECTID).
const ROOT_INODE: u64 = 256;
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
        subvolume::<SUBVOL_CREATE>(self.fd(), name, None).on(|| format!("make subvolume {}", self.show(name)))
    }

    /// A writable snapshot of the subvolume `source`.
    pub fn snapshot(&self, source: &Dir, name: &[u8]) -> Result<()> {
        super::fault::effect("snapshot");
        subvolume::<SNAP_CREATE>(self.fd(), name, Some(source.fd()))
            .on(|| format!("make {} a snapshot of {}", self.show(name), source.show(b"")))
    }

    /// Deletes a subvolume with all that is in it; false if it holds further subvolumes (a Docker in a container makes them), which must
    /// go first.
    pub(super) fn delete_subvolume(&self, name: &[u8]) -> Result<bool> {
        super::fault::effect("subvolume delete");
        match subvolume::<SNAP_DESTROY>(self.fd(), name, None) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY) => Ok(false),
            Err(e) => Err(Error::io(format!("delete subvolume {}", self.show(name)), e)),
        }
    }
}
