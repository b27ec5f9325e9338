//! The tar of one aufs branch, for layers without tar-split data, which would say how Docker's own tar looked (FORMATS 8.3).
//!
//! ```text
//! Form::Docker   as Docker 1.10.3 wrote it when it converted such a layer: the layer and its images get the ids that Docker gave them
//! Form::Ours     where a tar in Docker's form would not bring the layer back: its ids are new
//! ```
//!
//! The same directory gives the same bytes, so the tar need not be kept between the plan and the run. In both forms times are whole seconds and
//! `security.capability` is the only attribute; the tree itself keeps all it has.

mod docker;
mod ours;

use crate::disk::{Dir, FileType, Meta};
use crate::error::Result;
use crate::ids::DiffId;
use crate::layer::branch::{self, Internal, Name};
use crate::tar::split::{DiffIdWriter, Packer};
use crate::tar::writer::TarWriter;
use crate::text;
use std::collections::HashMap;
use std::io::{Sink, Write, sink};

/// The one attribute that Docker's layer tars carry (FORMATS 11.12).
const CAPABILITY: &[u8] = b"security.capability";

/// The longest path in a branch that Docker could open: it had `/var/lib/docker/aufs/diff/<id>/` before it, and the kernel takes 4,095 bytes.
const LONGEST: usize = 4095 - "/var/lib/docker/aufs/diff/".len() - 64 - 1;

/// What the tar of a branch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its digest.
    pub diff: DiffId,
    /// What went into it.
    pub put: Put,
}

/// What went into a tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The bytes of all files.
    pub payload: u64,
    /// Why its digest isn't the one that Docker 1.10 gave the layer.
    pub new_id: Option<String>,
}

/// Inodes with several names: the first name in a tar is the file, the others are links to it.
#[derive(Default)]
struct FirstNames(HashMap<u64, Vec<u8>>);

impl FirstNames {
    /// The name under which the tar already has the inode of `path`; `None` for its first.
    fn before(&mut self, path: &[u8], m: &Meta) -> Option<Vec<u8>> {
        if m.is_dir() || m.nlink <= 1 {
            return None;
        }
        let first = self.0.get(&m.ino).cloned();
        if first.is_none() {
            self.0.insert(m.ino, path.to_vec());
        }
        first
    }
}

/// How the tar of a branch looks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Docker,
    /// Why.
    Ours(String),
}

/// Digests the tar of a branch.
pub fn digest(branch: &Dir) -> Result<Summary> {
    summary(branch, TarWriter::new(DiffIdWriter::new(sink())))
}

/// Writes the tar-split of a branch's tar to `out`, and digests the tar.
pub fn record(branch: &Dir, out: impl Write) -> Result<Summary> {
    crate::disk::fault::effect("content");
    summary(branch, TarWriter::recording(DiffIdWriter::new(sink()), Packer::new(out)))
}

fn summary<P: Write>(branch: &Dir, mut tar: TarWriter<DiffIdWriter<Sink>, P>) -> Result<Summary> {
    let put = append(branch, &mut tar)?;
    let (hashed, _) = tar.finish()?;
    Ok(Summary { diff: hashed.finish().1, put })
}

/// Adds everything in the branch to a tar, in the form that is right for this branch.
pub fn append<W: Write, P: Write>(branch: &Dir, tar: &mut TarWriter<W, P>) -> Result<Put> {
    match form(branch)? {
        Form::Docker => docker::append(branch, tar),
        Form::Ours(why) => Ok(Put { payload: ours::append(branch, tar)?, new_id: Some(why) }),
    }
}

/// Docker's form, unless a tar in it would bring something else back than the layer.
fn form(branch: &Dir) -> Result<Form> {
    let mut look = Look { why: None };
    walk(branch, &mut look)?;
    Ok(look.why.map_or(Form::Docker, Form::Ours))
}

/// Goes through the names of a branch and finds the first that Docker's form is not made for.
struct Look {
    why: Option<String>,
}

impl Visitor for Look {
    fn enter(&mut self, dir: &Dir, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut below = Vec::new();
        dir.for_each(|name, kind, _| {
            let path = [path, name].concat();
            let why = match branch::classify(name, path.len() == name.len()) {
                _ if path.len() > LONGEST => Some("a path too long for Docker"),
                Name::Entry if kind == FileType::Socket => Some("a socket, which Docker stored as an empty file"),
                Name::Entry if kind == FileType::Directory => {
                    below.push(name.to_vec());
                    None
                }
                Name::Entry | Name::Internal(Internal::Base | Internal::PseudoLinks | Internal::Orphans) => None,
                // left out at the root of the branch, but nowhere else
                Name::Internal(Internal::Transient) if path.len() == name.len() => None,
                Name::Internal(kind) => Some(kind.describe()),
                Name::Opaque | Name::Whiteout(_) => match dir.stat(name)? {
                    m if m.is_file() && m.size == 0 => None,
                    _ => Some("a whiteout that isn't an empty file"),
                },
            };
            if let (Some(why), None) = (why, &self.why) {
                self.why = Some(format!("{why}: {}", text::bytes(&path)));
            }
            Ok(())
        })?;
        if self.why.is_some() {
            below.clear();
        }
        Ok(below)
    }

    fn entry(&mut self, _: &Dir, _: &[u8], _: &[u8], _: &Meta) -> Result<()> {
        Ok(())
    }
}

/// What is done with the names of a branch.
trait Visitor {
    /// Called in each directory; gives the names that are visited, in their order. `path` is from the branch's root, with a trailing slash; empty
    /// for the root.
    fn enter(&mut self, dir: &Dir, path: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Called with each of these names, and its path: with a directory before the names in it.
    fn entry(&mut self, dir: &Dir, name: &[u8], path: &[u8], m: &Meta) -> Result<()>;
}

/// One directory on the way down.
struct Level {
    dir: Dir,
    path: Vec<u8>,
    /// The names that are left, last one first.
    names: Vec<Vec<u8>>,
}

fn walk(branch: &Dir, visitor: &mut impl Visitor) -> Result<()> {
    let mut levels = vec![level(branch.again()?, Vec::new(), visitor)?];
    while let Some(at) = levels.last_mut() {
        let Some(name) = at.names.pop() else {
            levels.pop();
            continue;
        };
        let m = at.dir.stat(&name)?;
        let path = [&at.path[..], &name].concat();
        visitor.entry(&at.dir, &name, &path, &m)?;
        if m.is_dir() {
            let below = at.dir.open(&name)?;
            levels.push(level(below, [&path[..], b"/"].concat(), visitor)?);
        }
    }
    Ok(())
}

fn level(dir: Dir, path: Vec<u8>, visitor: &mut impl Visitor) -> Result<Level> {
    let mut names = visitor.enter(&dir, &path)?;
    names.reverse();
    Ok(Level { dir, path, names })
}

/// The attribute that goes into the tar, if the name has it.
fn capability(dir: &Dir, name: &[u8]) -> Result<Option<Vec<u8>>> {
    Ok(dir.xattrs(name)?.remove(CAPABILITY))
}

#[cfg(test)]
mod tests;
