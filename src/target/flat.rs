//! The view of a stack of layers as one complete tree: vfs, and the image layers of overlay.
//!
//! ```text
//! aufs/diff/<id>  aufs/diff/<parent>  …  aufs/diff/<base>   ─ crate::layer::view ─▶   one file tree without markers
//! ```
//!
//! Each directory is a task of its own and holds the names of that directory only, of a crowded one not all at once. It opens what it needs by
//! path: a task that waits holds no descriptor, so that a stack of 100 layers does not run out of them. A directory's times are set when all its names are made.

use crate::disk::attrs::XattrScope;
use crate::disk::join;
use crate::disk::{Dir, FileType};
use crate::error::{Error, Result};
use crate::layer::branch::{Branch, Format, Slice};
use crate::layer::view::{Chain, Contributors, Dirs, Node};
use crate::layer::walk::walk;
use crate::target::file::{FileWriter, NewDir};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;

/// Paths that are not followed: a file of this path is left out, a directory is made and not entered.
pub type Leave = HashSet<Vec<u8>>;

struct Writer<'a> {
    chain: &'a Chain,
    files: &'a FileWriter,
    leave: &'a Leave,
}

/// Writes what `chain` shows below the root of `files`.
pub fn write(chain: &Chain, files: &FileWriter, leave: &Leave) -> Result<()> {
    let writer = Writer { chain, files, leave };
    walk((Vec::new(), chain.root()), |(path, from), hand_on| {
        writer.directory(&path, &from, |name, from| hand_on((join(&path, name), from)))
    })?;
    files.join_groups()
}

/// The same for a layer whose parent has its complete tree in the new store already: that is merged with what the layer holds itself, so that
/// no layer further down is read.
pub fn write_over(chain: &Chain, parent: Option<Dir>, files: &FileWriter) -> Result<()> {
    let Some(parent) = parent else { return write(chain, files, &Leave::new()) };
    let own = chain.branch(0)?;
    let own = Branch::open(own.dir()?.again()?, own.id.clone(), own.format);
    let branches = vec![own, Branch::open(parent, None, Format::Plain)];
    write(&Chain { branches }, files, &Leave::new())
}

impl Writer<'_> {
    fn directory(&self, path: &[u8], from: &[u16], mut descend: impl FnMut(&[u8], Contributors)) -> Result<()> {
        let dirs = self.chain.open(from, path)?;
        let Some((_, top)) = dirs.first() else { return Err(Error::corrupt("a directory that isn't in any layer")) };
        let root = self.files.root();
        let to = root.open(path)?;
        let mut subs = Vec::new();
        for slice in Slice::of(self.chain.count_if_large(&dirs)?) {
            let names = self.chain.merge_slice(&dirs, path.is_empty(), slice)?.names;
            self.names(&dirs, names, NewDir { dir: &to, path }, &mut subs)?;
        }
        self.files.finish_dir(top, &to, false)?;
        for (name, from) in subs {
            descend(&name, from);
        }
        Ok(())
    }

    /// Makes what is merged in one directory; `subs` are the directories in it that are to be filled.
    fn names(
        &self,
        dirs: &Dirs,
        names: BTreeMap<Vec<u8>, Node>,
        new: NewDir<'_>,
        subs: &mut Vec<(Vec<u8>, Contributors)>,
    ) -> Result<()> {
        let NewDir { dir: to, path } = new;
        let left = |name: &[u8]| !self.leave.is_empty() && self.leave.contains(&join(path, name));
        for (name, node) in names {
            if node.kind == FileType::Directory {
                to.mkdir_unfinished(&name)?;
                self.files.tally.directories.fetch_add(1, Ordering::Relaxed);
                if left(&name) {
                    let m = node.holder(dirs)?.1.stat(&name)?;
                    to.set_owner(&name, m.uid, m.gid)?;
                    to.set_mode(&name, m.mode)?;
                } else {
                    subs.push((name, node.from));
                }
                continue;
            }
            if left(&name) {
                continue;
            }
            let (branch, dir) = node.holder(dirs)?;
            // a device 0:0 as data would be a deletion below an overlay mount (FORMATS 11.11)
            let zero = self.files.scope() == XattrScope::Overlay
                && node.kind == FileType::CharacterDevice
                && dir.stat(&name)?.is_overlay_whiteout();
            if !zero {
                self.files.put((branch, dir), &name, new)?;
            }
        }
        Ok(())
    }
}
