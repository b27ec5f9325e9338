//! One aufs branch applied to a tree that shows all that is below it: the layers of btrfs.
//!
//! ```text
//! aufs/diff/<id>                    a snapshot of the parent
//!   .wh.NAME                    →     NAME removed
//!   directory/.wh..wh..opq         →     everything in directory/ removed
//!   file over whatever          →     that removed, the file put
//!   directory/ over a directory       →     its attributes taken over; over a file: that removed
//!   .wh..wh.{aufs,plnk,orph,…}  →     nothing
//! ```
//!
//! In each directory the removals come first: a layer's markers hide what is below it, never what it holds itself (FORMATS 11.1). Whatever
//! directory changes is in the branch too, so that all times come from there, set when all its names are made.

use crate::disk::join;
use crate::disk::{Dir, FileType};
use crate::error::{IoContext, Result};
use crate::layer::branch::{self, Format};
use crate::layer::walk::walk;
use crate::target::file::{FileWriter, NewDir};
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::Ordering;

struct Writer<'a> {
    files: &'a FileWriter,
}

/// A directory in which to work.
struct Directory {
    path: Vec<u8>,
    /// Was it just made, so that nothing of a lower layer is in it?
    fresh: bool,
}

/// A directory that waits: its name in the two that it is in.
type Waiting = (Arc<Dir>, Arc<Dir>, Vec<u8>, Directory);

/// Applies the branch at `from` to the tree below the root of `files`; `fresh` if that is empty.
pub fn write(from: &Dir, fresh: bool, files: &FileWriter) -> Result<()> {
    let writer = Writer { files };
    let (from, to) = (Arc::new(from.again()?), Arc::new(files.root().again()?));
    let first: Waiting = (from, to, Vec::new(), Directory { path: Vec::new(), fresh });
    walk(first, |(from, to, name, at), hand_on| {
        let (from, to) = (Arc::new(from.open(&name)?), Arc::new(to.open(&name)?));
        writer.directory(&from, &to, &at, |name, fresh| {
            let at = Directory { path: join(&at.path, &name), fresh };
            hand_on((from.clone(), to.clone(), name, at));
        })
    })
}

impl Writer<'_> {
    fn directory(&self, from: &Dir, to: &Dir, at: &Directory, mut descend: impl FnMut(Vec<u8>, bool)) -> Result<()> {
        let at_root = at.path.is_empty();
        if !at.fresh {
            to.remove_xattrs(b".")?;
            let marks = branch::markers(from, Format::Aufs, at_root)?;
            if marks.opaque {
                to.remove_all()?;
            }
            for name in &marks.whiteouts {
                to.remove_tree(name)?;
            }
        }
        let mut directories = Vec::new();
        branch::for_each_entry(from, Format::Aufs, at_root, |name, kind, _| {
            if kind == FileType::Directory {
                directories.push((name.to_vec(), self.mkdir(to, name, at)?));
                return Ok(());
            }
            if !at.fresh {
                to.remove_tree(name)?;
            }
            self.files.put((0, from), name, NewDir { dir: to, path: &at.path })
        })?;
        self.files.finish_dir(from, to, false)?;
        directories.into_iter().for_each(|(name, fresh)| descend(name, fresh));
        Ok(())
    }

    /// Makes a directory where there is none; says whether it did.
    fn mkdir(&self, to: &Dir, name: &[u8], at: &Directory) -> Result<bool> {
        if !at.fresh {
            match to.try_stat(name) {
                Ok(m) if m.is_dir() => return Ok(false),
                Ok(_) => to.unlink(name)?,
                Err(Errno::NOENT) => {}
                e => return e.map(|_| false).on(|| format!("stat {}", to.show(name))),
            }
        }
        to.mkdir_unfinished(name)?;
        self.files.tally.directories.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }
}
