//! No Docker on half a root: while renames are under way, `containers` and `image` are plain files.
//!
//! ```text
//!             ROOT/containers   .unaufs/held/containers
//! open        directory         -
//! shut        a file, ours      the directory          (or nothing, where ROOT has none)
//! half        -                 the directory          kernels before 3.15 exchange in two steps
//!
//! .unaufs/held/containers.file    our file while the guard is open: a rollback on a full disk makes nothing new
//! ```
//!
//! Measured: every dockerd ends at `containers` being a file; `image` as a file stops all but those that keep images in containerd. So
//! `containers` is shut first and opened last. What the renames move below these two directories they find below `.unaufs/held`.

use crate::disk::{Dir, FileType};
use crate::error::{Error, Result};
use crate::plan::switch::ASIDE;

/// Where the two directories are until then.
pub const HELD: &str = ".unaufs/held";

/// No file of ours is longer, in bytes.
const LONGEST: u64 = 4096;

/// In the order in which they are shut.
const NAMES: [&str; 2] = ["containers", "image"];

/// The guard of one root.
pub struct Guard<'a> {
    root: &'a Dir,
    id: &'a str,
}

/// What is at a name of the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Nothing,
    Directory,
    /// Our file.
    Sign,
    /// Something that is neither.
    Other,
}

impl<'a> Guard<'a> {
    /// Of this root, for the run with this id.
    pub fn of(root: &'a Dir, id: &'a str) -> Guard<'a> {
        Guard { root, id }
    }

    /// Where a path of the root is at this moment.
    pub fn path(&self, path: &str) -> Result<String> {
        let top = path.split('/').next().unwrap_or_default();
        let shut =
            NAMES.contains(&top) && (self.there(top)? == There::Sign || self.held(top)? == Some(FileType::Directory));
        Ok(if shut { behind(path) } else { path.to_owned() })
    }

    /// Is a name shut, or half shut?
    pub fn is_shut(&self) -> Result<bool> {
        for name in NAMES {
            if self.there(name)? == There::Sign || self.held(name)?.is_some_and(|k| k == FileType::Directory) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes our files, before anything is renamed; they stay until the run is over.
    pub fn prepare(&self) -> Result<()> {
        let held = super::private(self.root, HELD)?;
        for name in NAMES {
            let there = self.there(name)? == There::Sign || self.held(name)? == Some(FileType::RegularFile);
            // half a file, of a process that ended while it wrote it, would never be known again as ours
            if !there && held.read_opt(sign(name), LONGEST)?.as_deref() != Some(self.text().as_bytes()) {
                held.write_atomic(sign(name).as_bytes(), self.text().as_bytes(), 0o644)?;
            }
        }
        held.sync()
    }

    /// Keeps every Docker from starting. What a Docker put in the way is set aside and named.
    pub fn shut(&self, aside: &mut Vec<String>) -> Result<()> {
        self.prepare()?;
        for name in NAMES {
            let held = self.held(name)? == Some(FileType::Directory);
            match (self.there(name)?, held) {
                (There::Sign, _) => {}
                (There::Directory, false) => self.exchange_in(name)?,
                (There::Nothing, _) => self.put_sign(name)?,
                (There::Directory, true) => {
                    aside.push(set_aside(self.root, name, name)?);
                    self.put_sign(name)?;
                }
                (There::Other, _) => return Err(self.not_ours(name)),
            }
        }
        self.root.sync()
    }

    /// Lets Docker start again: the directories are back in their places.
    pub fn open(&self, aside: &mut Vec<String>) -> Result<()> {
        for name in NAMES.iter().rev() {
            let held = self.held(name)? == Some(FileType::Directory);
            match (self.there(name)?, held) {
                (There::Sign, true) => self.exchange_out(name)?,
                (There::Sign, false) => self.take_sign(name)?,
                (There::Nothing, true) => self.root.rename_new(format!("{HELD}/{name}"), self.root, name)?,
                (There::Directory, true) => {
                    aside.push(set_aside(self.root, name, name)?);
                    self.root.rename_new(format!("{HELD}/{name}"), self.root, name)?;
                }
                (There::Directory | There::Nothing, false) => {}
                (There::Other, _) => return Err(self.not_ours(name)),
            }
        }
        self.root.sync()?;
        Ok(())
    }

    fn exchange_in(&self, name: &str) -> Result<()> {
        let held = self.root.open(HELD)?;
        if self.held(name)?.is_none() {
            held.rename_new(sign(name), &held, name)?;
        }
        if self.root.exchange(name, &held, name)? {
            return Ok(());
        }
        held.rename_new(name, &held, sign(name))?;
        self.root.rename_new(name, &held, name)?;
        self.put_sign(name)
    }

    fn exchange_out(&self, name: &str) -> Result<()> {
        let held = self.root.open(HELD)?;
        if self.root.exchange(name, &held, name)? {
            return held.rename_new(name, &held, sign(name));
        }
        self.take_sign(name)?;
        held.rename_new(name, self.root, name)
    }

    /// Where no directory is in the way.
    fn put_sign(&self, name: &str) -> Result<()> {
        let held = self.root.open(HELD)?;
        let from = if held.has(sign(name))? { sign(name) } else { name.to_owned() };
        held.rename_new(from, self.root, name)
    }

    fn take_sign(&self, name: &str) -> Result<()> {
        self.root.rename_new(name, &self.root.open(HELD)?, sign(name))
    }

    fn held(&self, name: &str) -> Result<Option<FileType>> {
        Ok(self.root.stat_opt(format!("{HELD}/{name}"))?.map(|m| m.kind))
    }

    fn there(&self, name: &str) -> Result<There> {
        Ok(match self.root.stat_opt(name)? {
            None => There::Nothing,
            Some(m) if m.is_dir() => There::Directory,
            // the text, and so the id of this very run
            Some(m) if m.is_file() && m.size == self.text().len() as u64 => {
                match self.root.read(name, m.size)? == self.text().as_bytes() {
                    true => There::Sign,
                    false => There::Other,
                }
            }
            Some(_) => There::Other,
        })
    }

    fn not_ours(&self, name: &str) -> Error {
        Error::corrupt(format!("{} is not a directory, and unaufs did not make it", self.root.show(name.as_bytes())))
            .hint("Move it away, then run the same command again.")
    }

    fn text(&self) -> String {
        format!(
            "unaufs is switching this data root to another storage driver, or switching it back.\n\
             This file keeps Docker from starting until then. The directory of this name is in .unaufs/held.\n\n\
             If unaufs is not running, it was interrupted. Run one of:\n\n\
             \x20   unaufs migrate      finish the switch\n\
             \x20   unaufs rollback     put the old store back\n\n\
             run {}\n",
            self.id
        )
    }
}

/// Where a path of the root is while the guard is shut.
pub fn behind(path: &str) -> String {
    let top = path.split('/').next().unwrap_or_default();
    if NAMES.contains(&top) { format!("{HELD}/{path}") } else { path.to_owned() }
}

/// Where our file is while the guard is open.
fn sign(name: &str) -> String {
    format!("{name}.file")
}

/// Removes our files once a run is over. An error if one of the two directories is still held.
pub fn clear(state: &Dir) -> Result<()> {
    let Some(held) = state.open_opt("held")? else { return Ok(()) };
    if let Some((name, _)) = held.list()?.into_iter().find(|(_, kind)| *kind == FileType::Directory) {
        return Err(Error::corrupt(format!("{} is not back in its place", held.show(&name)))
            .hint("Run `unaufs rollback` again."));
    }
    for (name, _) in held.list()? {
        held.unlink(&name)?;
    }
    state.rmdir(b"held")
}

/// Moves what is in the way at `at` to the path `name` below [`ASIDE`]; gives where it is then.
pub fn set_aside(root: &Dir, at: &str, name: &str) -> Result<String> {
    let aside = super::private(root, ASIDE)?;
    let (above, last) = name.rsplit_once('/').unwrap_or(("", name));
    let dir = aside.ensure(above, 0o700)?;
    let free = free_name(&dir, last.as_bytes())?;
    root.rename_new(at, &dir, &free)?;
    let slash = if above.is_empty() { "" } else { "/" };
    Ok(format!("{ASIDE}/{above}{slash}{}", String::from_utf8_lossy(&free)))
}

/// `name`, or `name.2`, `name.3` … if that is taken.
pub fn free_name(dir: &Dir, name: &[u8]) -> Result<Vec<u8>> {
    let mut free = name.to_vec();
    let mut n = 1;
    while dir.has(&free)? {
        n += 1;
        free = [name, format!(".{n}").as_bytes()].concat();
    }
    Ok(free)
}
