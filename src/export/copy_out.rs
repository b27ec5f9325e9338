//! `unaufs cp`: one file or directory out of a container, by the rules of `docker cp`, with no daemon.
//!
//! ```text
//! Remains, path ─ inside ─▶ Place ─ Walk ─┬▶ dest   files below DEST, through directory descriptors
//!                                         └▶ tape   a tar on stdout
//! ```
//!
//! What can't be read is named, and everything else is copied.

pub mod dest;
pub mod tape;

use super::inside::{self, Asked, Found, Place};
use super::remains::{Missing, Remains};
use super::volumes::Mounted;
use crate::disk::{Dir, FileType, Meta, join};
use crate::error::{Error, Kind, Result};
use crate::layer::view::{self, Chain, Contributors};
use crate::progress::Progress;
use crate::tar::viewtar::{Shift, kept};
use crate::text;
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;

/// As many files that could not be copied are named.
pub const NAMED: usize = 1000;

/// What to copy, and where to.
#[derive(Clone, Debug)]
pub struct Request {
    /// In the container.
    pub path: Vec<u8>,
    /// A file, a directory, or `-`.
    pub dest: PathBuf,
    /// Copy what a symlink leads to.
    pub follow: bool,
    /// With the container's owners and groups.
    pub owners: bool,
    /// Replace files that are there.
    pub force: bool,
}

/// What was copied.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Copied {
    /// Where it is; `-` for stdout.
    pub dest: String,
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symlinks, devices, pipes, sockets, further names of files.
    pub others: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What could not be copied; the first [`NAMED`].
    pub left_out: Vec<Missing>,
    /// How many more could not be copied.
    pub more_left_out: u64,
}

/// One thing of the container, on its way out.
#[derive(Debug)]
pub struct Object<'a> {
    /// The directory that it is in; for a directory itself.
    pub dir: &'a Dir,
    /// Its name there; `.` for a directory.
    pub name: &'a [u8],
    /// What it is.
    pub meta: Meta,
    /// Its extended attributes, as the container saw them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Where things go. Names are relative paths.
pub trait Sink {
    /// A directory, before what is in it.
    fn directory(&mut self, name: &[u8], object: &Object<'_>) -> Result<()>;
    /// The same directory, after what is in it.
    fn leave(&mut self, name: &[u8], meta: &Meta, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<()>;
    /// Anything else. `first` is an earlier name of the same file. Returns what was not copied of it.
    fn file(&mut self, name: &[u8], object: &Object<'_>, first: Option<&[u8]>) -> Result<Option<String>>;
    /// Can nothing more be written?
    fn is_full(&self) -> bool;
}

/// Copies. `from` is what is left of the container; `root` is ROOT, into which nothing is written.
pub fn copy(root: &Dir, from: &Remains, request: &Request, progress: &dyn Progress) -> Result<Copied> {
    let asked = Asked::parse(&request.path);
    let mounts = inside::landed(&from.chain, &from.mounts);
    let (volume, place) = find(root, from, (&asked, request.follow), &mounts).map_err(|e| on(e, from))?;
    let chain = volume.as_ref().unwrap_or(&from.chain);
    let to_stdout = request.dest.as_os_str() == "-";
    let mut copied = Copied { dest: text::path(&request.dest), ..Copied::default() };
    if volume.is_none() && place.is_dir {
        let within = |m: &&Mounted| place.path.is_empty() || m.at.starts_with(&[&place.path[..], b"/"].concat());
        copied.notes.extend(mounts.iter().filter(within).map(Mounted::left_out));
    }
    let result = if to_stdout {
        tape::check()?;
        progress.bytes("copy", place.size);
        tape::to_stdout(from.owners, progress, |sink| {
            let name = if asked.contents { b"." } else { asked.name().unwrap_or(b".") };
            walk(chain, from.owners, sink, &mut copied, (&place, name))
        })
    } else {
        let (mut sink, name) = dest::prepare(root, (chain, from.owners), (&asked, &place), request, progress)?;
        copied.dest = sink.shown(&name);
        progress.bytes("copy", place.size);
        walk(chain, from.owners, &mut sink, &mut copied, (&place, &name))
    };
    // whatever error a stop led to, it is the stop that is to be told
    crate::stop::check().and(result).map_err(|e| match e.kind() {
        Kind::Interrupted | Kind::Terminated => e
            .hint(if to_stdout {
                "Run the same command again."
            } else {
                "Remove the copied files, or run the same command again with --force."
            })
            .loss("The container's files weren't changed."),
        Kind::Space => e.hint("Free some space there, or copy to another file system."),
        _ => e,
    })?;
    if !place.is_dir && !copied.left_out.is_empty() && copied.files + copied.others == 0 {
        let why = copied.left_out.first().map_or_else(String::new, |m| m.why.clone());
        return Err(Error::new(Kind::Failed, why));
    }
    Ok(copied)
}

/// Names the container, and what is missing of it: that may be why a path is not there.
fn on(e: Error, from: &Remains) -> Error {
    let e = e.on(&from.subject);
    match from.missing.first() {
        Some(m) => e.hint(format!("{} can't be read ({}), and the path may have been in it.", m.what, m.why)),
        None => e,
    }
}

/// A path in the layers, or in a volume: then with the volume's tree.
fn find(
    root: &Dir,
    from: &Remains,
    (asked, follow): (&Asked, bool),
    mounts: &[Mounted],
) -> Result<(Option<Chain>, Place)> {
    let (i, rest) = match inside::find(&from.chain, asked, follow, mounts)? {
        Found::Here(place) => return Ok((None, place)),
        Found::Mounted(i, rest) => (i, rest),
    };
    let mounted = mounts.get(i).ok_or_else(|| Error::corrupt("a mount that is not in the list"))?;
    let volume = view::plain(None, mounted.open(root)?);
    match inside::find(&volume, &rest, follow, &[])? {
        Found::Here(place) => Ok((Some(volume), place)),
        Found::Mounted(..) => Err(Error::corrupt("a mount in a volume")),
    }
}

fn walk(
    chain: &Chain,
    owners: Shift,
    sink: &mut dyn Sink,
    copied: &mut Copied,
    (place, name): (&Place, &[u8]),
) -> Result<()> {
    let mut walk = Walk { chain, owners, sink, copied, leaders: HashMap::new(), sockets: 0 };
    let done = walk.place(place, name);
    let sockets = walk.sockets;
    if sockets > 0 {
        let sockets = text::plural(sockets, "socket");
        copied.notes.push(format!("{sockets} left out: a tar can't hold them"));
    }
    done
}

/// What is to be done next.
enum Step {
    /// Copies a directory: where it is, in which layers, what it is called there.
    Enter { path: Vec<u8>, from: Contributors, name: Vec<u8> },
    /// Everything in it was copied.
    Leave { path: Vec<u8>, name: Vec<u8>, meta: Meta, xattrs: Vec<(Vec<u8>, Vec<u8>)> },
}

struct Walk<'w> {
    chain: &'w Chain,
    owners: Shift,
    sink: &'w mut dyn Sink,
    copied: &'w mut Copied,
    /// Inodes with several names: the first name. Bounded by the number of such inodes.
    leaders: HashMap<(u16, u64), Vec<u8>>,
    sockets: u64,
}

impl Walk<'_> {
    fn place(&mut self, place: &Place, name: &[u8]) -> Result<()> {
        if !place.is_dir {
            let (directory, base) = crate::disk::split(&place.path);
            let dirs = self.chain.open(&place.from, directory)?;
            let Some((branch, dir)) = dirs.first() else { return Err(Error::corrupt("a file that no layer holds")) };
            return self.file((*branch, dir), base, &place.path, name);
        }
        let mut todo = vec![Step::Enter { path: place.path.clone(), from: place.from.clone(), name: name.to_vec() }];
        while let Some(step) = todo.pop() {
            crate::stop::check()?;
            let (path, done) = match step {
                Step::Leave { path, name, meta, xattrs } => (path, self.sink.leave(&name, &meta, &xattrs)),
                Step::Enter { path, from, name } => {
                    let done = self.directory(&path, &from, &name, &mut todo);
                    (path, done)
                }
            };
            if let Err(e) = done {
                self.note(&path, e)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &[u8], from: &[u16], name: &[u8], todo: &mut Vec<Step>) -> Result<()> {
        let mut dirs = Vec::new();
        for i in from {
            match self.chain.open(&[*i], path) {
                Ok(opened) => dirs.extend(opened),
                Err(e) => self.note(path, e)?,
            }
        }
        let names = match self.chain.merge_open(&dirs, path.is_empty()) {
            Ok(merged) => merged.names,
            Err(_) => {
                // one of the layers can't be read here: without it
                let mut whole = Vec::new();
                for dir in dirs {
                    match self.chain.merge_open(std::slice::from_ref(&dir), path.is_empty()) {
                        Ok(_) => whole.push(dir),
                        Err(e) => self.note(path, e)?,
                    }
                }
                dirs = whole;
                self.chain.merge_open(&dirs, path.is_empty())?.names
            }
        };
        let Some((branch, top)) = dirs.first() else { return Ok(()) };
        let object = self.object(*branch, top, b".", top.meta()?)?;
        self.sink.directory(name, &object)?;
        self.copied.directories += 1;
        let Object { meta, xattrs, .. } = object;
        todo.push(Step::Leave { path: path.to_vec(), name: name.to_vec(), meta, xattrs });
        for (child, node) in names.into_iter().rev() {
            let (path, name) = (join(path, &child), join(name, &child));
            if node.kind == FileType::Directory {
                todo.push(Step::Enter { path, from: node.from, name });
                continue;
            }
            let done = node.holder(&dirs).and_then(|held| self.file(held, &child, &path, &name));
            if let Err(e) = done {
                self.note(&path, e)?;
            }
        }
        Ok(())
    }

    fn object<'a>(&self, branch: u16, dir: &'a Dir, name: &'a [u8], meta: Meta) -> Result<Object<'a>> {
        let xattrs = kept(dir.xattrs(name)?, self.chain.branch(branch)?.format);
        let xattrs = xattrs.into_iter().map(|(n, v)| (n.clone(), self.owners.attribute(&n, &v))).collect();
        Ok(Object { dir, name, meta, xattrs })
    }

    fn file(&mut self, (branch, dir): (u16, &Dir), base: &[u8], path: &[u8], name: &[u8]) -> Result<()> {
        let meta = dir.stat(base)?;
        let object = self.object(branch, dir, base, meta)?;
        let first = self.leaders.get(&(branch, meta.ino)).filter(|_| meta.nlink > 1).cloned();
        match self.sink.file(name, &object, first.as_deref())? {
            // there is nothing that a second name could be linked to
            Some(_) if meta.kind == FileType::Socket => {
                self.sockets += 1;
                return Ok(());
            }
            Some(why) => self.left_out(path, why),
            None if meta.is_file() && first.is_none() => {
                self.copied.files += 1;
                self.copied.bytes += meta.size;
            }
            None => self.copied.others += 1,
        }
        if meta.nlink > 1 && first.is_none() {
            self.leaders.insert((branch, meta.ino), name.to_vec());
        }
        Ok(())
    }

    /// Names what could not be copied; an error if nothing more can be.
    fn note(&mut self, path: &[u8], e: Error) -> Result<()> {
        let ends = matches!(e.kind(), Kind::Interrupted | Kind::Terminated | Kind::Space);
        if ends || e.is_exhaustion() || self.sink.is_full() {
            return Err(e);
        }
        self.left_out(path, e.chain());
        Ok(())
    }

    fn left_out(&mut self, path: &[u8], why: String) {
        match self.copied.left_out.len() < NAMED {
            true => self.copied.left_out.push(Missing { what: format!("/{}", text::bytes(path)), why }),
            false => self.copied.more_left_out += 1,
        }
    }
}
