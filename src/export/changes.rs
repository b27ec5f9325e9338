//! `unaufs diff`: what a container changed since its image, as `docker diff` prints it, from the layers alone.
//!
//! ```text
//! A   the container has it, what is below has not
//! D   what is below has it, the container has not
//! C   both have it: a file that was written; a directory with other attributes, or in which a name was added or deleted
//! ```
//!
//! What is below is the image, and what Docker itself put into the container (its init layer).

use super::remains::Missing;
use crate::disk::{FileType, Meta, join};
use crate::error::{Error, Kind, Result};
use crate::layer::view::{Chain, Contributors, Dirs, Node};
use crate::text;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};

/// How a path differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum How {
    /// Added.
    #[serde(rename = "A")]
    Added,
    /// Changed.
    #[serde(rename = "C")]
    Changed,
    /// Deleted.
    #[serde(rename = "D")]
    Deleted,
}

impl How {
    /// As Docker prints it.
    pub fn letter(self) -> char {
        match self {
            How::Added => 'A',
            How::Changed => 'C',
            How::Deleted => 'D',
        }
    }
}

/// One path that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// How.
    pub kind: How,
    /// In the container, with a slash at its beginning.
    #[serde(serialize_with = "shown")]
    pub path: Vec<u8>,
    /// Bytes, of a regular file that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

fn shown<S: Serializer>(path: &[u8], to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(&text::bytes(path))
}

/// Compares a container with what is below it. What can't be read is named in `missing`.
pub fn changes(view: &Chain, below: &Chain, missing: &mut Vec<Missing>) -> Result<Vec<Change>> {
    let stacked = view.is_one_on(below);
    let mut out = Vec::new();
    let compare = Compare { view, below, stacked };
    let mut todo = vec![Step::Enter(DirPair { path: Vec::new(), from: view.root(), below: Some(below.root()) })];
    while let Some(step) = todo.pop() {
        crate::stop::check()?;
        match step {
            Step::Found(change) => out.push(change),
            Step::Enter(directory) => match compare.directory(&directory) {
                // the last one pushed is the next one taken
                Ok(steps) => todo.extend(steps.into_iter().rev()),
                Err(e) if matches!(e.kind(), Kind::Interrupted | Kind::Terminated) || e.is_exhaustion() => {
                    return Err(e);
                }
                Err(e) => {
                    missing.push(Missing { what: format!("/{}", text::bytes(&directory.path)), why: e.chain() });
                }
            },
        }
    }
    Ok(out)
}

/// What is to be done next: paths come in their order, a directory before what is in it.
enum Step {
    Found(Change),
    Enter(DirPair),
}

/// A directory that both have, or that was added.
struct DirPair {
    path: Vec<u8>,
    from: Contributors,
    /// `None`: it was added.
    below: Option<Contributors>,
}

struct Compare<'c> {
    view: &'c Chain,
    below: &'c Chain,
    /// `view` is `below` with one layer on top: whatever that layer holds was changed.
    stacked: bool,
}

impl Compare<'_> {
    fn directory(&self, directory: &DirPair) -> Result<Vec<Step>> {
        let path = &directory.path;
        let dirs = self.view.open(&directory.from, path)?;
        let names = self.view.merge_open(&dirs, path.is_empty())?.names;
        let old_dirs = match &directory.below {
            Some(from) => self.below.open(from, path)?,
            None => Vec::new(),
        };
        let old = self.below.merge_open(&old_dirs, path.is_empty())?.names;
        let mut out = Vec::new();
        if directory.below.is_some() && !path.is_empty() {
            let count = |a: &BTreeMap<Vec<u8>, Node>, b: &BTreeMap<Vec<u8>, Node>| a.keys().any(|n| !b.contains_key(n));
            if count(&names, &old) || count(&old, &names) || self.attributes_differ(&dirs, &old_dirs)? {
                out.push(found(How::Changed, path.clone(), None));
            }
        }
        let all: BTreeSet<&Vec<u8>> = names.keys().chain(old.keys()).collect();
        for name in all {
            out.extend(self.name(path, name, (names.get(name), &dirs), (old.get(name), &old_dirs))?);
        }
        Ok(out)
    }

    fn name(
        &self,
        directory: &[u8],
        name: &[u8],
        (node, dirs): (Option<&Node>, &Dirs),
        (old, old_dirs): (Option<&Node>, &Dirs),
    ) -> Result<Vec<Step>> {
        let path = join(directory, name);
        let Some(node) = node else { return Ok(vec![found(How::Deleted, path, None)]) };
        let is_dir = node.kind == FileType::Directory;
        if is_dir && let Some(old) = old.filter(|old| old.kind == node.kind) {
            let pair = DirPair { path, from: node.from.clone(), below: Some(old.from.clone()) };
            let same = self.view.same_layers(&node.from, self.below, &old.from);
            return Ok(if same { Vec::new() } else { vec![Step::Enter(pair)] });
        }
        let how = if old.is_some() { How::Changed } else { How::Added };
        if is_dir {
            let added = found(how, path.clone(), None);
            return Ok(vec![added, Step::Enter(DirPair { path, from: node.from.clone(), below: None })]);
        }
        let (branch, dir) = node.holder(dirs)?;
        if let Some(old) = old.filter(|old| old.kind == node.kind) {
            let same = match self.stacked {
                true => branch != 0,
                false => same_file(&dir.stat(name)?, &old.holder(old_dirs)?.1.stat(name)?),
            };
            if same {
                return Ok(Vec::new());
            }
        }
        let m = dir.stat(name)?;
        Ok(vec![found(how, path, m.is_file().then_some(m.size))])
    }

    fn attributes_differ(&self, dirs: &Dirs, old: &Dirs) -> Result<bool> {
        let (Some((_, a)), Some((_, b))) = (dirs.first(), old.first()) else {
            return Err(Error::corrupt("a directory that no layer holds"));
        };
        let (a, b) = (a.meta()?, b.meta()?);
        Ok((a.mode, a.uid, a.gid) != (b.mode, b.uid, b.gid) || !same_time(a.mtime, b.mtime))
    }
}

fn found(kind: How, path: Vec<u8>, size: Option<u64>) -> Step {
    Step::Found(Change { kind, path: [b"/", &path[..]].concat(), size })
}

/// Where each layer is a whole tree: the same attributes mean the same file, as for Docker.
fn same_file(a: &Meta, b: &Meta) -> bool {
    (a.mode, a.uid, a.gid, a.rdev, a.size) == (b.mode, b.uid, b.gid, b.rdev, b.size) && same_time(a.mtime, b.mtime)
}

/// A time from a tar has whole seconds only.
fn same_time(a: (i64, u32), b: (i64, u32)) -> bool {
    a.0 == b.0 && (a.1 == b.1 || a.1 == 0 || b.1 == 0)
}
