//! The directory that becomes the new root, before anything is made: it may be missing, and `plan` does not make it.

use crate::checks::Finding;
use crate::disk::Dir;
use crate::disk::mounts::{self, Room};
use crate::disk::within::within;
use crate::error::{Error, IoContext, Kind, Result};
use crate::plan::switch::STATE;
use std::path::{Path, PathBuf};

/// The directory that becomes the new root.
#[derive(Debug)]
pub struct Destination {
    /// Its real path.
    pub path: PathBuf,
    /// It, if it is there.
    pub dir: Option<Dir>,
    /// The directory in which it is, or will be made.
    pub parent: Dir,
}

impl Destination {
    /// Looks. The directory itself may be missing, the one that holds it may not.
    pub fn look(named: &Path) -> Result<Destination> {
        let named = std::path::absolute(named).on(|| format!("find {}", named.display()))?;
        // a symlink that leads nowhere is there too
        let dir = if named.symlink_metadata().is_ok() { Some(Destination::open(&named)?) } else { None };
        let path = dir.as_ref().map_or(named, |d| d.label().to_owned());
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::new(Kind::Usage, "/ can't be Docker's data root")
                .hint("Use another directory with --target DIR."));
        };
        let parent = Dir::open_named(above).map_err(|e| {
            Error::new(Kind::Usage, format!("{} can't be made", path.display()))
                .with_source(e)
                .hint(format!("mkdir -p {}", crate::text::path(above)))
        })?;
        let path = parent.label().join(name);
        Ok(Destination { path, dir, parent })
    }

    /// Opens one that is there.
    pub fn open(named: &Path) -> Result<Dir> {
        if !named.is_dir() {
            return Err(Error::new(Kind::Usage, format!("{} isn't a directory", crate::text::path(named)))
                .hint("Use --target with a directory that is empty or doesn't exist.")
                .loss("Nothing was changed."));
        }
        Dir::open_named(named)
    }

    /// It, or the directory in which it will be made: on the same file system.
    pub fn nearest(&self) -> &Dir {
        self.dir.as_ref().unwrap_or(&self.parent)
    }

    /// The type of its file system.
    pub fn fs(&self) -> Result<String> {
        Ok(mounts::of(self.nearest().label())?.map(|m| m.fstype).unwrap_or_default())
    }

    /// Room on that.
    pub fn room(&self) -> Result<Room> {
        mounts::room(self.nearest())
    }

    /// The directory, made if it is missing, with the mode and owner of the old root. Its name is durable then.
    pub fn make(self, like: &Dir) -> Result<Dir> {
        let Some(name) = self.path.file_name().filter(|_| self.dir.is_none()) else {
            return self.dir.map_or_else(|| Dir::open_named(&self.path), Ok);
        };
        let (name, m) = (name.as_encoded_bytes(), like.meta()?);
        self.parent.mkdir(name, m.mode)?;
        self.parent.set_owner(name, m.uid, m.gid)?;
        self.parent.sync()?;
        self.parent.open(name)
    }

    /// Why it cannot become the new root of `root`.
    pub fn check(&self, root: &Dir, out: &mut Vec<Finding>) -> Result<()> {
        let shown = crate::text::path(&self.path);
        let mut refuse = |why: String, fix: String| {
            out.push(Finding::new("N01", shown.clone(), why).fix(fix));
        };
        let other = "name a directory that is empty or doesn't exist: --target DIR";
        // by the directory itself, as a bind mount gives it another path
        let by_path = |inner: &Path, outer: &Path| if inner.starts_with(outer) { "" } else { ", through a bind mount" };
        if within(self.nearest(), root)? {
            let how = by_path(&self.path, root.label());
            refuse(format!("it is inside the old root{how}"), other.to_owned());
            return Ok(());
        }
        if let Some(dir) = &self.dir
            && within(root, dir)?
        {
            let how = by_path(root.label(), &self.path);
            refuse(format!("the old root is inside it{how}"), other.to_owned());
            return Ok(());
        }
        // a daemon with userns-remap adds UID.GID to the root that it is told
        let remapped = root.label().file_name().filter(|n| crate::store::remapped(n.as_encoded_bytes()));
        if let Some(name) = remapped.filter(|n| Some(*n) != self.path.file_name()) {
            let name = name.to_string_lossy();
            let why = format!("with userns-remap, Docker looks for its data root in a directory named {name}");
            refuse(why, format!("use --target {shown}/{name}"));
        }
        if let Some(dir) = &self.dir {
            let known = |n: &[u8]| n == STATE.as_bytes() || n == b"lost+found";
            // what a migration of ours has put there is in its journal, and it continues from there
            let strange = dir.list()?.into_iter().find(|(n, _)| !known(n));
            if let Some((name, _)) = strange {
                refuse(format!("it isn't empty: it contains {}", crate::text::bytes(&name)), other.to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_free_directory_is_used() {
        let t = tempfile::tempdir().expect("temp dir");
        let at = |p: &str| t.path().join(p);
        for dir in ["root/231072.231072", "empty/lost+found", "ours/.unaufs", "full/volumes"] {
            std::fs::create_dir_all(at(dir)).expect("mkdir");
        }
        let blocks = |root: &str, dir: &str| {
            let mut out = Vec::new();
            let root = Dir::open_named(&at(root)).expect("open");
            Destination::look(&at(dir)).expect("look").check(&root, &mut out).expect("check");
            out.len()
        };
        for (root, dir, want) in [
            ("root", "absent", 0),
            ("root", "empty", 0),
            ("root", "ours", 0),
            ("root", "full", 1),
            ("root", "root/in", 1),
            ("root", "root", 1),
            ("root", "", 1),
            ("root/231072.231072", "empty", 1),
            ("root/231072.231072", "empty/231072.231072", 0),
        ] {
            assert_eq!(blocks(root, dir), want, "{root} to {dir}");
        }
        assert_eq!(Destination::look(&at("a/b")).expect_err("no parent").kind(), Kind::Usage);
        assert_eq!(Destination::look(Path::new("/dev/null")).expect_err("no directory").kind(), Kind::Usage);
        assert_eq!(Destination::look(Path::new("/")).expect_err("/").kind(), Kind::Usage);
    }
}
