//! Deletion of whole trees: of what unaufs itself built, and in `cleanup` of the old store.

use super::{Dir, FileType};
use crate::error::{Error, Result};
use rustix::io::Errno;
use std::collections::HashSet;

/// As many directories are held open on the way down, and as many subdirectories are remembered of one listing. A stranger's tree may be deeper than
/// there are descriptors, and wider than there is memory.
const HELD: usize = 256;

/// `.unaufs/old` without the old store is not deeper; what is, is not ours.
const SKELETON: usize = 16;

/// What could not be removed while everything else was.
#[derive(Debug, Default)]
pub struct Undeleted {
    /// The first of them, as paths for people, with the reason.
    pub first: Vec<String>,
    /// How many there are.
    pub count: u64,
    /// Not to be looked at again: they, and the directories that hold them.
    inodes: HashSet<u64>,
}

impl Undeleted {
    const FIRST: usize = 20;

    fn note(&mut self, dir: &Dir, name: &[u8], ino: u64, e: &Error) {
        self.inodes.insert(ino);
        self.count += 1;
        if self.first.len() < Self::FIRST {
            self.first.push(format!("{}: {}", dir.show(name), e.chain()));
        }
    }
}

/// Is it this one name that cannot go, as opposed to the disk, or somebody who asked for a stop?
fn only_this(e: &Error) -> bool {
    let known = [Errno::PERM, Errno::ACCESS, Errno::BUSY, Errno::XDEV, Errno::ROFS];
    e.errno().is_some_and(|e| known.contains(&e))
}

impl Dir {
    /// Removes a name and everything below it; nothing to do if it is not there. Symlinks are removed, never followed; a mount
    /// point inside is an error. A btrfs subvolume goes as a whole. Neither the stack nor the number of descriptors grows with the depth: a
    /// directory too far down is moved up to the top, and removed there.
    pub fn remove_tree(&self, name: &[u8]) -> Result<()> {
        self.remove(name, &mut None)
    }

    /// The same, but what cannot be removed (an immutable file, a mount point) is noted, and all else goes.
    pub fn remove_what_goes(&self, name: &[u8], kept: &mut Undeleted) -> Result<()> {
        self.remove(name, &mut Some(kept))
    }

    fn remove(&self, name: &[u8], kept: &mut Option<&mut Undeleted>) -> Result<()> {
        match self.try_stat(name) {
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(Error::io(format!("stat {}", self.show(name)), e)),
            Ok(m) if !m.is_dir() => return forgive(self.unlink(name), self, name, m.ino, kept),
            Ok(_) => {}
        }
        let top = self.open(name)?;
        if top.is_subvolume()? && self.delete_subvolume(name)? {
            return Ok(());
        }
        // (directory, its name in the one before, the directories found in it); the last is being emptied
        let mut open: Vec<(Dir, Vec<u8>, Vec<Vec<u8>>)> = vec![(top, name.to_vec(), Vec::new())];
        let mut moved_up = 0u64;
        while let Some((dir, _, found)) = open.last_mut() {
            if found.is_empty() {
                *found = empty_once(dir, kept)?;
            }
            let Some(sub) = found.pop() else {
                let Some((dir, done, _)) = open.pop() else { break };
                let parent = open.last().map_or(self, |(d, ..)| d);
                remove_emptied(&dir, parent, &done, kept)?;
                continue;
            };
            let next = match dir.open(&sub) {
                Ok(next) => next,
                Err(e) => {
                    let ino = dir.stat(&sub)?.ino;
                    forgive(Err(e), dir, &sub, ino, kept)?;
                    continue;
                }
            };
            if next.is_subvolume()? && dir.delete_subvolume(&sub)? {
                continue;
            }
            if open.len() < HELD {
                open.push((next, sub, Vec::new()));
            } else if let [(top, ..), .., (dir, ..)] = &open[..] {
                moved_up = move_up(dir, &sub, top, moved_up)?;
            }
        }
        Ok(())
    }

    /// Removes everything in this directory.
    pub fn remove_all(&self) -> Result<()> {
        loop {
            let found = empty_once(self, &mut None)?;
            if found.is_empty() {
                return Ok(());
            }
            for sub in found {
                self.remove_tree(&sub)?;
            }
        }
    }

    /// Removes a directory and the directories below it if there is not a single file in them; what holds a file stays.
    pub fn remove_empty(&self, name: &[u8]) -> Result<()> {
        self.remove_skeleton(name, SKELETON)
    }

    fn remove_skeleton(&self, name: &[u8], depth: usize) -> Result<()> {
        let Some(dir) = self.open_opt(name)? else { return Ok(()) };
        for (sub, kind) in dir.list()? {
            if kind == FileType::Directory && depth > 0 {
                dir.remove_skeleton(&sub, depth - 1)?;
            }
        }
        if dir.list()?.is_empty() { self.rmdir(name) } else { Ok(()) }
    }
}

/// Moves the directory `sub` of `dir` to `top` under a name that is free there; gives the number of the next such name.
fn move_up(dir: &Dir, sub: &[u8], top: &Dir, mut number: u64) -> Result<u64> {
    while top.has(format!(".unaufs-deep-{number}"))? {
        number += 1;
    }
    dir.rename_new(sub, top, format!(".unaufs-deep-{number}"))?;
    Ok(number + 1)
}

/// Notes what may stay; any other failure is one.
fn forgive(result: Result<()>, dir: &Dir, name: &[u8], ino: u64, kept: &mut Option<&mut Undeleted>) -> Result<()> {
    match (result, kept) {
        (Err(e), Some(kept)) if only_this(&e) => {
            kept.note(dir, name, ino, &e);
            Ok(())
        }
        (result, _) => result,
    }
}

/// Removes a directory that is empty, or as empty as it can be.
fn remove_emptied(dir: &Dir, parent: &Dir, name: &[u8], kept: &mut Option<&mut Undeleted>) -> Result<()> {
    let ino = dir.meta()?.ino;
    if let Some(kept) = kept
        && !dir.list()?.is_empty()
    {
        kept.inodes.insert(ino);
        return Ok(());
    }
    // a subvolume whose inner ones are gone now; rmdir takes one only since Linux 4.18
    if dir.is_subvolume()? && parent.delete_subvolume(name)? {
        return Ok(());
    }
    forgive(parent.rmdir(name), parent, name, ino, kept)
}

/// Removes every file of a directory; some of the directories found, if there are any, are given back to be emptied before.
fn empty_once(dir: &Dir, kept: &mut Option<&mut Undeleted>) -> Result<Vec<Vec<u8>>> {
    loop {
        let (mut subs, mut seen) = (Vec::new(), false);
        dir.for_each(|n, kind, ino| {
            if kept.as_ref().is_some_and(|k| k.inodes.contains(&ino)) {
                return Ok(());
            }
            seen = true;
            if kind != FileType::Directory {
                return forgive(dir.unlink(n), dir, n, ino, kept);
            }
            if subs.len() < HELD {
                subs.push(n.to_vec());
            }
            Ok(())
        })?;
        // a listing that runs while names go may miss some: look again until nothing is seen
        if !subs.is_empty() || !seen {
            return Ok(subs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deeper_than_descriptors_and_paths_go() {
        let t = tempfile::tempdir().expect("temp dir");
        let home = Dir::open_named(t.path()).expect("open");
        home.mkdir("tree", 0o700).expect("mkdir");
        let name = "d".repeat(60);
        let mut at = home.open("tree").expect("open");
        for n in 0..3 * HELD {
            at.write_new("file", b"x", 0o600).expect("write");
            std::os::unix::fs::symlink("/", format!("/proc/self/fd/{}/ln", std::os::fd::AsRawFd::as_raw_fd(&at.fd)))
                .expect("symlink");
            at.mkdir(name.as_bytes(), if n % 7 == 0 { 0o000 } else { 0o700 }).expect("mkdir");
            at = at.open(name.as_bytes()).expect("open");
        }
        drop(at);
        home.remove_tree(b"tree").expect("remove");
        assert!(home.list().expect("list").is_empty());
    }

    #[test]
    fn many_directories_in_one_go() {
        let t = tempfile::tempdir().expect("temp dir");
        let home = Dir::open_named(t.path()).expect("open");
        home.mkdir("tree", 0o700).expect("mkdir");
        let tree = home.open("tree").expect("open");
        for n in 0..3 * HELD {
            tree.ensure(format!("{n}/in"), 0o700).expect("mkdir");
        }
        home.remove_tree(b"tree").expect("remove");
        assert!(home.list().expect("list").is_empty());
    }

    #[test]
    fn only_skeletons_are_removed_as_empty() {
        let t = tempfile::tempdir().expect("temp dir");
        let home = Dir::open_named(t.path()).expect("open");
        home.ensure("a/b/c", 0o700).expect("mkdir");
        home.ensure("a/d", 0o700).expect("mkdir").write_new("f", b"", 0o600).expect("write");
        home.remove_empty(b"a").expect("remove");
        assert!(!home.has("a/b").expect("stat") && home.has("a/d/f").expect("stat"));
        // a stranger's tree is not walked to its end
        home.ensure("x/y/".repeat(200), 0o700).expect("mkdir");
        home.remove_empty(b"x").expect("stays");
        assert!(home.has("x").expect("stat"));
    }
}
