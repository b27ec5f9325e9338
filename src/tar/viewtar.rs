//! The tar of what a stack of layers shows, whole or only what it adds to the stack below: for containers, for layers of which no
//! tar-split says how Docker's own tar looked, and for flattened trees.
//!
//! ```text
//! below shows          the stack shows        in the tar (OCI layers)
//! nothing, or other    a file, a directory       the entry, with all directories on the way to it
//! NAME                 no NAME                .wh.NAME
//! directory/ with names   directory/, opaque        directory/, directory/.wh..wh..opq
//! the same             the same               nothing
//! ```
//!
//! It reads views, so that it is the same code for every driver, and a whiteout is written only of what is there to hide. Each directory comes
//! before what is in it, its markers first, then its files, sorted, then its directories. Attributes and fractions of a second are kept, in
//! PAX records; sockets cannot be in a tar, and `trusted.overlay.*` would be obeyed where the tar is unpacked (FORMATS 11.28). The root
//! directory itself is left out, as Docker does.

use crate::disk::attrs::{XattrScope, Xattrs};
use crate::disk::join;
use crate::disk::same::same_bytes;
use crate::disk::{Dir, FileType, Meta};
use crate::error::{Error, Result};
use crate::layer::branch::{self, Format, OPQ, WH};
use crate::layer::view::{Chain, Contributors, Dirs};
use crate::tar::writer::{Entry, Node, TarWriter};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write, empty};

/// What container root is on the host: owners in a tar are those that the container saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// The host's number of the container's user 0.
    pub uid: u32,
    /// The host's number of the container's group 0.
    pub gid: u32,
}

impl Shift {
    /// An owner and a group as the container saw them.
    pub fn owner(self, m: &Meta) -> (u32, u32) {
        (seen(m.uid, self.uid), seen(m.gid, self.gid))
    }

    /// An attribute as the container saw it: capabilities without the host's number of its root, lists of permissions with its own numbers.
    pub fn attribute(self, name: &[u8], value: &[u8]) -> Vec<u8> {
        match name {
            b"security.capability" => plain_capability(value),
            b"system.posix_acl_access" | b"system.posix_acl_default" => self.acl(value),
            _ => value.to_vec(),
        }
    }

    /// A POSIX ACL: a version of 4 bytes, then entries of a tag (2 bytes), permissions (2) and a number (4), all little endian.
    fn acl(self, value: &[u8]) -> Vec<u8> {
        const USER: u16 = 0x02;
        const GROUP: u16 = 0x08;
        let mut out = value.to_vec();
        for entry in out.iter_mut().skip(4).collect::<Vec<_>>().chunks_exact_mut(8) {
            let [t0, t1, _, _, i0, i1, i2, i3] = entry else { continue };
            let root = match u16::from_le_bytes([**t0, **t1]) {
                USER => self.uid,
                GROUP => self.gid,
                _ => continue,
            };
            [**i0, **i1, **i2, **i3] = seen(u32::from_le_bytes([**i0, **i1, **i2, **i3]), root).to_le_bytes();
        }
        out
    }
}

/// The container's number for the host's.
fn seen(id: u32, root: u32) -> u32 {
    id.checked_sub(root).unwrap_or(id)
}

/// File capabilities of a user namespace (revision 3, with the number of its root at the end) as revision 2, which is what Docker puts into
/// its tars.
pub fn plain_capability(value: &[u8]) -> Vec<u8> {
    const REVISION: usize = 3;
    const LENGTH_2: usize = 20;
    match value.get(REVISION) {
        Some(3) if value.len() > LENGTH_2 => {
            let mut out = value[..LENGTH_2].to_vec();
            out[REVISION] = 2;
            out
        }
        _ => value.to_vec(),
    }
}

/// What the tar is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Whose numbers owners have.
    pub owners: Shift,
    /// With the extended attributes of symlinks. `docker load` of Docker 28 sets them on what the link points to, and fails where there is
    /// nothing, so a layer goes without them, as every layer that Docker itself makes.
    pub link_attributes: bool,
}

/// What went into the tar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries, markers among them.
    pub entries: u64,
    /// Bytes of all files.
    pub payload: u64,
    /// Sockets, which were left out.
    pub sockets: u64,
    /// Symlinks whose attributes were left out.
    pub bare_links: u64,
}

/// Adds to a tar what `view` shows and `below` does not, or all of it.
pub fn append<W: Write, P: Write>(
    view: &Chain,
    below: Option<&Chain>,
    form: Form,
    tar: &mut TarWriter<W, P>,
) -> Result<Counts> {
    let stacked = below.is_some_and(|b| view.is_one_on(b));
    let mut walk = Walk {
        view,
        below,
        stacked,
        form,
        tar,
        waiting: Vec::new(),
        leaders: HashMap::new(),
        counts: Counts::default(),
    };
    let mut todo = vec![DirToWalk { path: Vec::new(), from: view.root(), below: below.map(Chain::root) }];
    while let Some(directory) = todo.pop() {
        crate::stop::check()?;
        let first = todo.len();
        walk.directory(&directory, &mut todo)?;
        // the last one pushed is the next one walked
        todo[first..].reverse();
    }
    Ok(walk.counts)
}

/// A directory to walk.
struct DirToWalk {
    path: Vec<u8>,
    from: Contributors,
    /// The branches merged in the same directory of the stack below, if that has it.
    below: Option<Contributors>,
}

/// What a name of the tar is.
struct Object {
    path: Vec<u8>,
    meta: Meta,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Walk<'a, W: Write, P: Write> {
    view: &'a Chain,
    below: Option<&'a Chain>,
    /// `view` is `below` with one branch on top: whatever that branch holds is a change.
    stacked: bool,
    form: Form,
    tar: &'a mut TarWriter<W, P>,
    /// Directories on the way down that are in the tar only if something in them is.
    waiting: Vec<Object>,
    /// Inodes with several names: the first name. Bounded by the number of such inodes.
    leaders: HashMap<(u16, u64), Vec<u8>>,
    counts: Counts,
}

impl<W: Write, P: Write> Walk<'_, W, P> {
    fn directory(&mut self, directory: &DirToWalk, todo: &mut Vec<DirToWalk>) -> Result<()> {
        let path = &directory.path;
        let dirs = self.view.open(&directory.from, path)?;
        let below = match (self.below, &directory.below) {
            (Some(chain), Some(from)) => Some((chain, chain.open(from, path)?)),
            _ => None,
        };
        self.enter(directory, &dirs, below.as_ref().map(|(_, dirs)| &dirs[..]))?;
        let mut names = self.view.merge_open(&dirs, path.is_empty())?.names;
        let all = names.len();
        names.retain(|_, node| node.kind != FileType::Socket);
        self.counts.sockets += (all - names.len()) as u64;
        let was = match &below {
            Some((chain, dirs)) => chain.merge_open(dirs, path.is_empty())?.names,
            None => BTreeMap::new(),
        };
        if !path.is_empty() && !was.is_empty() && self.hides_all(directory, &dirs)? {
            self.marker(path, OPQ)?;
        } else {
            for name in was.keys().filter(|name| !names.contains_key(*name)) {
                self.marker(path, &[WH, name].concat())?;
            }
        }
        for (name, node) in names {
            let old = was.get(&name).filter(|old| old.kind == node.kind);
            if let (Some(old), Some(below)) = (old, self.below)
                && self.view.same_layers(&node.from, below, &old.from)
            {
                continue;
            }
            if node.kind == FileType::Directory {
                let below = old.map(|old| old.from.clone());
                todo.push(DirToWalk { path: join(path, &name), from: node.from, below });
                continue;
            }
            let (branch, dir) = node.holder(&dirs)?;
            if !self.stacked
                && let (Some(old), Some((_, dirs))) = (old, &below)
                && same_file(dir, old.holder(dirs)?.1, &name)?
            {
                continue;
            }
            self.file(branch, dir, &name, &join(path, &name))?;
        }
        Ok(())
    }

    /// Does the branch on top hide all that the stack below has in this directory?
    fn hides_all(&self, directory: &DirToWalk, dirs: &Dirs) -> Result<bool> {
        match dirs.first() {
            Some((0, top)) if self.stacked => {
                Ok(directory.from == [0] || branch::is_opaque(top, self.view.branch(0)?.format)?)
            }
            _ => Ok(false),
        }
    }

    /// The directory's own entry: at once if it is a change itself, else once something in it is.
    fn enter(&mut self, directory: &DirToWalk, dirs: &Dirs, below: Option<&Dirs>) -> Result<()> {
        self.waiting.retain(|w| directory.path.starts_with(&w.path) && directory.path.get(w.path.len()) == Some(&b'/'));
        let Some((branch, top)) = dirs.first() else {
            return Err(Error::corrupt("a directory that isn't in any layer"));
        };
        if directory.path.is_empty() {
            return Ok(());
        }
        let meta = top.meta()?;
        let found = kept(top.xattrs(b".")?, self.view.branch(*branch)?.format);
        let same = match below.and_then(|dirs| dirs.first()) {
            None => false,
            Some(_) if self.stacked && *branch == 0 => false,
            Some((_, old)) => {
                let m = old.meta()?;
                same_attributes(&meta, &m) && found == kept(old.xattrs(b".")?, self.view.branch(*branch)?.format)
            }
        };
        self.waiting.push(Object { path: directory.path.clone(), meta, xattrs: found });
        if same { Ok(()) } else { self.settle() }
    }

    /// Writes the directories on the way down that are not in the tar yet.
    fn settle(&mut self) -> Result<()> {
        for w in std::mem::take(&mut self.waiting) {
            self.put(&w, Node::Directory, &mut empty())?;
        }
        Ok(())
    }

    fn marker(&mut self, directory: &[u8], name: &[u8]) -> Result<()> {
        self.settle()?;
        self.counts.entries += 1;
        self.tar.append(&Entry::marker(&join(directory, name)), &mut empty())
    }

    fn file(&mut self, branch: u16, dir: &Dir, name: &[u8], path: &[u8]) -> Result<()> {
        self.settle()?;
        let m = dir.stat(name)?;
        let mut xattrs = kept(dir.xattrs(name)?, self.view.branch(branch)?.format);
        if m.kind == FileType::Symlink && !xattrs.is_empty() && !self.form.link_attributes {
            self.counts.bare_links += 1;
            xattrs.clear();
        }
        let object = Object { path: path.to_vec(), meta: m, xattrs };
        if m.nlink > 1 {
            if let Some(first) = self.leaders.get(&(branch, m.ino)).cloned() {
                // with the attributes once more: Docker sets the owner of a link too, and that clears security.capability
                return self.put(&object, Node::HardLink { first: &first }, &mut empty());
            }
            self.leaders.insert((branch, m.ino), path.to_vec());
        }
        let target = if m.kind == FileType::Symlink { dir.read_link(name)? } else { Vec::new() };
        match Node::of(&m, &target).filter(|_| !m.is_dir()) {
            Some(node @ Node::File { size }) => {
                let mut content = dir.open_file(name)?;
                self.counts.payload += size;
                self.put(&object, node, &mut content)
            }
            Some(node) => self.put(&object, node, &mut empty()),
            None => Err(Error::corrupt(format!("{} changed while it was read", dir.show(name)))),
        }
    }

    fn put(&mut self, Object { path, meta, xattrs }: &Object, node: Node<'_>, content: &mut dyn Read) -> Result<()> {
        self.counts.entries += 1;
        let (uid, gid) = self.form.owners.owner(meta);
        let xattrs: Vec<_> =
            xattrs.iter().map(|(name, v)| (name.clone(), self.form.owners.attribute(name, v))).collect();
        let entry = Entry { name: path, node, mode: meta.mode, uid, gid, mtime: meta.mtime, xattrs: &xattrs };
        self.tar.append(&entry, content)
    }
}

/// The attributes that the tar gets.
pub fn kept(xattrs: Xattrs, format: Format) -> Vec<(Vec<u8>, Vec<u8>)> {
    // whiteouts of an overlay layer are not seen here; its marks on directories are, and are not part of the layer
    let internal = |name: &[u8]| format == Format::Overlay && name.starts_with(b"user.overlay.");
    xattrs.into_iter().filter(|(name, _)| XattrScope::Overlay.keeps(name) && !internal(name)).collect()
}

fn same_attributes(a: &Meta, b: &Meta) -> bool {
    (a.kind, a.mode, a.uid, a.gid, a.mtime, a.rdev) == (b.kind, b.mode, b.uid, b.gid, b.mtime, b.rdev)
}

/// Is a file the same in two trees? To the byte: where size and times are equal a program may still have put them back.
fn same_file(a: &Dir, b: &Dir, name: &[u8]) -> Result<bool> {
    let (m, n) = (a.stat(name)?, b.stat(name)?);
    if (m.dev, m.ino) == (n.dev, n.ino) {
        return Ok(true);
    }
    if !same_attributes(&m, &n) || m.size != n.size || a.xattrs(name)? != b.xattrs(name)? {
        return Ok(false);
    }
    match m.kind {
        FileType::RegularFile => same_bytes(a.open_file(name)?, b.open_file(name)?, || a.show(name), |_| {}),
        FileType::Symlink => Ok(a.read_link(name)? == b.read_link(name)?),
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests;
