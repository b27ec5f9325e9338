//! What a stack of layers shows: the only place that resolves whiteouts and opaque directories against the layers below.
//!
//! OCI semantics: a layer's markers hide what is below it, never what the layer itself holds. For branches written by the aufs kernel
//! that is what aufs showed; where a branch made from an odd tar differs, OCI is what the image's author meant and what every other host
//! shows (FORMATS 11):
//!
//! - `foo` next to `.wh.foo` is `foo`, and nothing of a lower `foo` (11.1);
//! - the upper of two opaque marks wins (11.26); a mark on a branch root has no effect (11.5);
//! - a directory over a file over a directory shows only the upper directory (11.7).

use crate::disk::{Dir, FileType, Meta, join, parts};
use crate::error::{Error, Result};
use crate::ids::LayerId;
use crate::layer::branch::{self, Branch, Format, Slice};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};

/// A layer and everything below it, nearest first.
#[derive(Debug)]
pub struct Chain {
    /// The layer itself, its parent, …, the base.
    pub branches: Vec<Branch>,
}

/// Indices into [`Chain::branches`] of the branches whose directory of one path is merged into the view, nearest first.
pub type Contributors = Vec<u16>;

/// The same directory of some branches, open, nearest first.
pub type Dirs = [(u16, Dir)];

/// One name in the merged view of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its type.
    pub kind: FileType,
    /// Its inode, as the listing of the first branch that has it says.
    pub ino: u64,
    /// A directory: the branches that are merged in it. Otherwise the one that holds the file.
    pub from: Contributors,
    closed: bool,
}

/// The merged view of one directory.
#[derive(Debug, Default)]
pub struct MergedDir {
    /// Its names.
    pub names: BTreeMap<Vec<u8>, Node>,
    /// Whiteouts that a reader of the raw overlay directory would see although nothing is hidden by them (FORMATS 11.2).
    pub ghosts: Vec<(u16, Vec<u8>)>,
}

impl Node {
    /// A name of the first branch alone.
    pub fn of_first(kind: FileType, ino: u64) -> Node {
        Node { kind, ino, from: vec![0], closed: kind != FileType::Directory }
    }

    /// The branch that the name's attributes and a file's content come from, among the open directories that were merged.
    pub fn holder<'d>(&self, dirs: &'d Dirs) -> Result<(u16, &'d Dir)> {
        let i = self.from.first().ok_or_else(|| Error::corrupt("a name that isn't in any layer"))?;
        let found = dirs.iter().find(|(d, _)| d == i).map(|(i, d)| (*i, d));
        found.ok_or_else(|| Error::corrupt("a layer that isn't open"))
    }

    /// Does something in these branches hide what is below them at this name?
    pub fn closed(&self) -> bool {
        self.closed
    }
}

impl Chain {
    /// All branches: what is merged in the root directory, where opaque marks have no effect.
    pub fn root(&self) -> Contributors {
        (0..self.branches.len() as u16).collect()
    }

    /// Is it `below` with one layer on top?
    pub fn is_one_on(&self, below: &Chain) -> bool {
        let ids = |branches: &[Branch]| -> Vec<_> { branches.iter().map(|b| b.id.clone()).collect() };
        self.branches.split_first().is_some_and(|(_, rest)| ids(rest) == ids(&below.branches))
    }

    /// Do two stacks merge the same layers in a directory? Then nothing in it differs.
    pub fn same_layers(&self, from: &[u16], other: &Chain, of_other: &[u16]) -> bool {
        let id = |chain: &Chain, i: u16| chain.branch(i).ok().and_then(|b| b.id.clone());
        let same = |(a, b): (&u16, &u16)| id(self, *a).is_some_and(|a| Some(a) == id(other, *b));
        from.len() == of_other.len() && from.iter().zip(of_other).all(same)
    }

    /// Opens the directory `path` in each of the branches.
    pub fn open(&self, from: &[u16], path: &[u8]) -> Result<Vec<(u16, Dir)>> {
        from.iter().map(|i| Ok((*i, self.branch(*i)?.dir()?.open(path)?))).collect()
    }

    /// A branch by its index.
    pub fn branch(&self, i: u16) -> Result<&Branch> {
        self.branches
            .get(usize::from(i))
            .ok_or_else(|| Error::corrupt(format!("no branch {i} in this stack of layers")))
    }

    /// Merges the directory `path` of the given branches.
    pub fn merge(&self, from: &[u16], path: &[u8]) -> Result<MergedDir> {
        let dirs = self.open(from, path)?;
        self.merge_open(&dirs, path.is_empty())
    }

    /// Merges directories that are open already.
    pub fn merge_open(&self, dirs: &Dirs, at_root: bool) -> Result<MergedDir> {
        self.merge_slice(dirs, at_root, Slice::WHOLE)
    }

    /// How many names these directories hold together, for [`Slice::of`]; few are none.
    pub fn count_if_large(&self, dirs: &Dirs) -> Result<u64> {
        dirs.iter().map(|(_, dir)| branch::count_if_large(dir)).sum()
    }

    /// Merges what directories that are open already have in one slice.
    pub fn merge_slice(&self, dirs: &Dirs, at_root: bool, slice: Slice) -> Result<MergedDir> {
        let mut out = MergedDir::default();
        let mut hidden: HashSet<Vec<u8>> = HashSet::new();
        for (pos, (i, dir)) in dirs.iter().enumerate() {
            let format = self.branch(*i)?.format;
            let marks = branch::list(dir, format, at_root, slice, |name, kind, ino| {
                if hidden.contains(name) {
                    return Ok(());
                }
                let is_dir = kind == FileType::Directory;
                match out.names.get_mut(name) {
                    None => {
                        out.names.insert(name.to_vec(), Node { kind, ino, from: vec![*i], closed: !is_dir });
                    }
                    Some(node) if !node.closed && is_dir => node.from.push(*i),
                    // a directory of an upper layer ends here, at a file of a lower one (FORMATS 11.7)
                    Some(node) => node.closed = true,
                }
                Ok(())
            })?;
            let lowest = pos + 1 == dirs.len();
            for w in marks.whiteouts {
                // overlayfs filters whiteouts out of a listing only where it merges two directories or more
                if format == Format::Overlay && (dirs.len() == 1 || (marks.opaque && pos == 0)) {
                    out.ghosts.push((*i, w.clone()));
                }
                match out.names.get_mut(&w) {
                    Some(node) => node.closed = true,
                    None if !lowest => {
                        hidden.insert(w);
                    }
                    None => {}
                }
            }
            if marks.opaque {
                break;
            }
        }
        Ok(out)
    }

    /// The branches merged in the directory `name` of a directory that `dirs` are merged in; empty if the view has no such directory.
    /// The cheap form of [`Chain::merge`] for one name.
    pub fn step(&self, dirs: &Dirs, name: &[u8]) -> Result<Contributors> {
        let mut out = Contributors::new();
        for (i, dir) in dirs {
            let format = self.branch(*i)?.format;
            let found = dir.try_open(name);
            match found {
                Ok(sub) => {
                    out.push(*i);
                    if branch::has_whiteout(dir, format, name)? || branch::is_opaque(&sub, format)? {
                        break;
                    }
                }
                Err(Errno::NOENT) => {
                    if branch::has_whiteout(dir, format, name)? {
                        break;
                    }
                }
                // a file, a symlink: what is below does not merge
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                Err(e) => return Err(Error::io(format!("open directory {}", dir.show(name)), e)),
            }
        }
        Ok(out)
    }

    /// Is a directory of some branch below the first one merged in the directory `path` of the first? The nearest that has it ends the search.
    pub fn merged_below(&self, path: &[u8]) -> Result<bool> {
        for branch in self.branches.iter().skip(1) {
            let (mut at, mut cut) = (branch.dir()?.again()?, false);
            let mut whole = true;
            for name in parts(path) {
                cut |= branch::has_whiteout(&at, branch.format, name)?;
                at = match at.try_open(name) {
                    Ok(sub) => sub,
                    Err(Errno::NOENT) => {
                        whole = false;
                        break;
                    }
                    // a file, a symlink: what is further down does not show
                    Err(Errno::NOTDIR | Errno::LOOP) => return Ok(false),
                    Err(e) => return Err(Error::io(format!("open directory {}", at.show(name)), e)),
                };
                cut |= branch::is_opaque(&at, branch.format)?;
            }
            if whole || cut {
                return Ok(whole);
            }
        }
        Ok(false)
    }

    /// The branches, among `from`, merged in the directory `path`: from the root down, a step for each component.
    pub fn contributors(&self, from: &[u16], path: &[u8]) -> Result<Contributors> {
        self.contributors_by(from, path, |dirs, name| self.step(dirs, name))
    }

    /// The same with another kind of step.
    pub fn contributors_by(
        &self,
        from: &[u16],
        path: &[u8],
        step: impl Fn(&Dirs, &[u8]) -> Result<Contributors>,
    ) -> Result<Contributors> {
        let (mut at, mut now) = (Vec::new(), from.to_vec());
        for name in parts(path) {
            if now.is_empty() {
                break;
            }
            now = step(&self.open(&now, &at)?, name)?;
            at = join(&at, name);
        }
        Ok(now)
    }

    /// Does the view that `dirs` make have `name`?
    pub fn shows(&self, dirs: &Dirs, name: &[u8]) -> Result<bool> {
        Ok(self.find(dirs, name)?.is_some())
    }

    /// Which of `dirs` the view that they make has `name` from, and what is there.
    pub fn find<'d>(&self, dirs: &'d Dirs, name: &[u8]) -> Result<Option<(u16, &'d Dir, Meta)>> {
        for (i, dir) in dirs {
            let format = self.branch(*i)?.format;
            match dir.try_stat(name) {
                Ok(m) if format == Format::Overlay && m.is_overlay_whiteout() => return Ok(None),
                Ok(m) => return Ok(Some((*i, dir, m))),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(Error::io(format!("stat {}", dir.show(name)), e)),
            }
            if branch::has_whiteout(dir, format, name)? {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

/// A complete tree as a stack of one.
pub fn plain(id: Option<&LayerId>, dir: Dir) -> Chain {
    Chain { branches: vec![Branch::open(dir, id.cloned(), Format::Plain)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_a_directory_are_the_directory() {
        let t = tempfile::tempdir().expect("a directory");
        // of three layers: names, whiteouts of some, directories
        let branch = |layer: usize| {
            let at = t.path().join(layer.to_string());
            std::fs::create_dir(&at).expect("mkdir");
            for n in 0..60 {
                let name = format!("n{}", n * (layer + 1));
                match (n + layer) % 5 {
                    0 => std::fs::create_dir(at.join(&name)).expect("mkdir"),
                    1 => std::fs::write(at.join(format!(".wh.{name}")), "").expect("write"),
                    _ => std::fs::write(at.join(&name), "").expect("write"),
                }
            }
            Branch::open(Dir::open_named(&at).expect("open"), None, Format::Aufs)
        };
        let chain = Chain { branches: (0..3).map(branch).collect() };
        let dirs = chain.open(&chain.root(), b"").expect("open");
        assert_eq!(chain.count_if_large(&dirs).expect("count"), 0, "these directories are small");
        let whole = chain.merge_open(&dirs, true).expect("merge");
        let mut names = BTreeMap::new();
        let slices: Vec<Slice> = Slice::of(2 * Slice::NAMES).collect();
        assert_eq!(slices.len(), 3);
        for slice in slices {
            let part = chain.merge_slice(&dirs, true, slice).expect("merge").names;
            assert!(part.len() > whole.names.len() / 10, "a slice of {} names", part.len());
            for (name, node) in part {
                assert!(names.insert(name, node).is_none(), "a name is in one slice only");
            }
        }
        assert_eq!(names, whole.names);
    }
}
