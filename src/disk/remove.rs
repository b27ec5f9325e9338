//! Deletion of whole trees: of what unaufs itself built, and in `cleanup` of the old store.

use super::{Dir, FileType};
use crate::error::{Error, Result};
use rustix::io::Errno;

impl Dir {
    /// Removes a name and everything below it; nothing to do if it is not there. Symlinks are removed, never followed; a mount
    /// point inside is an error. A btrfs subvolume goes as a whole. Not recursive on the stack: a tree 10,000 folders deep is a tree like any
    /// other.
    pub fn remove_tree(&self, name: &[u8]) -> Result<()> {
        match self.try_stat(name) {
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(Error::io(format!("stat {}", self.show(name)), e)),
            Ok(m) if !m.is_dir() => return self.unlink(name),
            Ok(_) => {}
        }
        let top = self.open(name)?;
        if top.is_subvolume()? && self.delete_subvolume(name)? {
            return Ok(());
        }
        // (folder, its name in the one before); the last is being emptied
        let mut open: Vec<(Dir, Vec<u8>)> = vec![(top, name.to_vec())];
        while let Some((dir, _)) = open.last() {
            match empty_once(dir)? {
                Some(sub) => {
                    let next = dir.open(&sub)?;
                    if !(next.is_subvolume()? && dir.delete_subvolume(&sub)?) {
                        open.push((next, sub));
                    }
                }
                None => {
                    let Some((dir, done)) = open.pop() else { break };
                    let parent = open.last().map_or(self, |(d, _)| d);
                    // a subvolume whose inner ones are gone now; rmdir takes one only since Linux 4.18
                    if !(dir.is_subvolume()? && parent.delete_subvolume(&done)?) {
                        parent.rmdir(&done)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes everything in this folder.
    pub fn remove_all(&self) -> Result<()> {
        while let Some(sub) = empty_once(self)? {
            self.remove_tree(&sub)?;
        }
        Ok(())
    }

    /// Removes a folder and the folders below it if there is not a single file in them; what holds a file stays.
    pub fn remove_empty(&self, name: &[u8]) -> Result<()> {
        let Some(dir) = self.open_opt(name)? else { return Ok(()) };
        for (sub, kind) in dir.list()? {
            if kind == FileType::Directory {
                dir.remove_empty(&sub)?;
            }
        }
        if dir.list()?.is_empty() { self.rmdir(name) } else { Ok(()) }
    }
}

/// Removes every file of a folder; the first folder found is given back to be emptied before.
fn empty_once(dir: &Dir) -> Result<Option<Vec<u8>>> {
    loop {
        let (mut sub, mut seen) = (None, false);
        dir.for_each(|n, kind, _| {
            seen = true;
            if kind != FileType::Directory {
                return dir.unlink(n);
            }
            sub.get_or_insert_with(|| n.to_vec());
            Ok(())
        })?;
        // a listing that runs while names go may miss some: look again until nothing is seen
        if sub.is_some() || !seen {
            return Ok(sub);
        }
    }
}
