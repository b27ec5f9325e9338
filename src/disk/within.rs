//! Is a directory inside ROOT, by whatever path it is reached?
//!
//! ROOT, or a directory in it, may be bound to another place. There the path says nothing, and a bound directory has no parent in ROOT either;
//! but the list of mounts says which directory of the file system each one shows.

use super::Dir;
use super::mounts::{self, Mount, holding};
use crate::error::{IoContext, Result};
use std::path::{Path, PathBuf};

/// Is a directory ROOT or below it?
pub fn within(dir: &Dir, root: &Dir) -> Result<bool> {
    if dir.label().starts_with(root.label()) {
        return Ok(true);
    }
    let top = root.meta()?;
    let mut path = Some(dir.label());
    while let Some(p) = path {
        let m = rustix::fs::lstat(p).on(|| format!("stat {}", crate::text::path(p)))?;
        if (m.st_dev, m.st_ino) == (top.dev, top.ino) {
            return Ok(true);
        }
        path = p.parent();
    }
    let place = |all, dir: &Dir| place(all, dir.label(), mounts::id(dir.fd()));
    let all = mounts::mine()?;
    Ok(shown_within(place(&all, dir), place(&all, root)))
}

/// The same from the places of both alone.
fn shown_within(dir: Option<Place<'_>>, root: Option<Place<'_>>) -> bool {
    match (dir, root) {
        (Some((device, dir)), Some((other, root))) => device == other && dir.starts_with(root),
        _ => false,
    }
}

/// A file system, and a path in it.
type Place<'a> = (&'a str, PathBuf);

/// Where a path is. A mount may be hidden below a later one, so the number of the mount counts, where the kernel has said it.
fn place<'a>(all: &'a [Mount], path: &Path, id: Option<u64>) -> Option<Place<'a>> {
    let numbered = id.and_then(|id| all.iter().find(|m| m.id == id && path.starts_with(&m.point)));
    let mount = numbered.or_else(|| holding(all, path))?;
    Some((&mount.device, mounts::within(mount, path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_directories() {
        let all = mounts::parse(
            b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
              2 1 8:2 / /var rw - ext4 /dev/sda2 rw\n\
              3 1 8:2 /lib/docker /srv/docker rw - ext4 /dev/sda2 rw\n\
              4 1 8:2 /lib/docker/volumes /mnt/v rw - ext4 /dev/sda2 rw\n\
              5 1 8:2 /lib/other /mnt/o rw - ext4 /dev/sda2 rw\n\
              6 1 8:3 /lib/docker /mnt/p rw - ext4 /dev/sda3 rw\n",
        );
        let at = |path: &'static str, id| place(&all, Path::new(path), id);
        let inside = |dir, root| shown_within(at(dir, None), at(root, None));
        for root in ["/var/lib/docker", "/srv/docker"] {
            assert!(inside("/mnt/v", root) && inside("/mnt/v/a", root), "{root}");
            assert!(inside("/var/lib/docker/tmp", root) && inside("/srv/docker", root), "{root}");
            assert!(
                !inside("/mnt/o", root) && !inside("/mnt/p", root) && !inside("/var/lib", root) && !inside("/", root)
            );
        }
        // ROOT is a bound directory: what is next to it on its file system is outside
        assert!(!inside("/var/lib/docker", "/mnt/v") && inside("/var/lib/docker/volumes/x", "/mnt/v"));
        // a later mount hides the one at /mnt/v
        let hidden = |id| shown_within(at("/mnt/v/a", id), at("/srv/docker", None));
        assert!(hidden(Some(4)) && !hidden(Some(1)) && hidden(Some(99)));
    }
}
