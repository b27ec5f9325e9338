//! Each entry of the tar against the tree.

use super::index::{Index, Mark};
use super::{Found, Layer, Stored};
use crate::disk::attrs::OVERLAY_PREFIX;
use crate::disk::{Dir, FileType, Meta, join, parts, split};
use crate::error::{Error, Result};
use crate::layer::view::Chain;
use crate::tar::split::{Header, Kind, clean};
use crate::tar::viewtar::plain_capability;
use crate::text;
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};

/// Starts the name of a marker, in every OCI layer.
const WHITEOUT: &[u8] = b".wh.";
/// Marks an opaque directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Starts the names that aufs keeps for itself at a layer's root.
const INTERNAL: &[u8] = b".wh..wh.";
/// The one attribute that Docker's own layer tars carry: a file has it only if its header does.
const CAPABILITY: &[u8] = b"security.capability";
/// As many symlinks as the kernel follows for one name.
const MAX_LINKS: usize = 40;
/// Docker takes a later time for one that no system knows, and sets 1970 instead.
const LAST_TIME: i64 = i64::MAX / 1_000_000_000;

/// Is this a name that aufs keeps for itself? Docker may or may not have unpacked it, and nothing shows it.
pub fn internal(path: &[u8]) -> bool {
    path.starts_with(INTERNAL) && path != OPAQUE
}

/// What is known of a layer when its tar has been read.
pub struct Known {
    /// What the tar accounts for.
    pub index: Index,
    /// Inodes that are several files in the tar.
    pub shared: HashSet<u64>,
    /// What the tar says of the root, if it does.
    pub root: Option<Header>,
}

/// Reads the entries one by one.
pub struct Entries<'a> {
    layer: &'a Layer<'a>,
    found: &'a Found,
    at: Cursor<'a>,
    other: Cursor<'a>,
    below: Option<Below<'a>>,
    index: Index,
    /// Inodes of entries that are no hard links, of those that have several names.
    inodes: Vec<u64>,
    /// Files with several names that do not fit the first of their headers: a later one decides.
    unfit: HashMap<u64, (Vec<u8>, String)>,
    /// Hashes of the paths that have no place on the driver.
    left_out: HashSet<u64>,
    /// The directory of the last entry.
    above: Vec<u8>,
    root: Option<Header>,
    /// Entries so far.
    pub names: u64,
}

impl<'a> Entries<'a> {
    /// None was read yet.
    pub fn new(layer: &'a Layer<'a>, found: &'a Found) -> Entries<'a> {
        let below = match layer.stored {
            Stored::Stacked(chain) => Some(Below { chain, last: None }),
            _ => None,
        };
        let (at, other) = (Cursor::new(layer.tree), Cursor::new(layer.tree));
        let (index, inodes, unfit, left_out, above) = Default::default();
        Entries { layer, found, at, other, below, index, inodes, unfit, left_out, above, root: None, names: 0 }
    }

    /// One entry.
    pub fn entry(&mut self, header: Header) -> Result<()> {
        self.names += 1;
        let cleaned = clean(&header.name);
        let path = cleaned.strip_prefix(b"/").unwrap_or(&cleaned);
        if path.is_empty() || path == b"." {
            self.root = Some(header);
            return Ok(());
        }
        // no Docker unpacks a layer that leaves its directory
        if path == b".." || path.starts_with(b"../") || path.contains(&0) {
            return Err(Error::corrupt(format!("\"{}\" leads out of the layer", text::bytes(path))));
        }
        let (dir, name) = split(path);
        let literal = matches!(self.layer.stored, Stored::Literal);
        let odd = dir.split(|c| *c == b'/').any(|part| part.starts_with(WHITEOUT));
        if internal(path) || (odd && !literal) {
            return Ok(());
        }
        let dir = self.at.locate(dir)?;
        if dir != self.above {
            self.note_above(&dir);
        }
        match name.strip_prefix(WHITEOUT) {
            Some(_) if literal => self.literal_marker(&dir, name),
            Some(rest) => self.marker(&dir, name, rest),
            None => self.object(&dir, name, &header),
        }
    }

    /// Everything was read.
    pub fn finish(mut self) -> Result<Known> {
        for (_, (path, what)) in std::mem::take(&mut self.unfit) {
            self.found.add(path, what);
        }
        self.index.seal();
        self.inodes.sort_unstable();
        let shared = self.inodes.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect();
        Ok(Known { index: self.index, shared, root: self.root })
    }

    fn note_above(&mut self, dir: &[u8]) {
        let mut end = dir.len();
        while end > 0 {
            let path = &dir[..end];
            // the directories of the last entry are noted
            if self.above.starts_with(path) && (self.above.len() == end || self.above[end] == b'/') {
                break;
            }
            self.index.add(Mark::Above, path);
            end = split(path).0.len();
        }
        self.above = dir.to_vec();
    }

    /// aufs has a marker as a file of its name. Only the name means anything.
    fn literal_marker(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        self.index.add(Mark::Entry, &join(dir, name));
        if self.at.stat(dir, name)?.is_none() {
            match name.strip_prefix(WHITEOUT) {
                _ if name == OPAQUE => self.found.add(dir.to_vec(), OPAQUE_LOST),
                Some(hidden) => self.found.add(join(dir, hidden), WHITEOUT_LOST),
                None => {}
            }
        }
        Ok(())
    }

    fn marker(&mut self, dir: &[u8], name: &[u8], rest: &[u8]) -> Result<()> {
        if name == OPAQUE {
            self.index.add(Mark::Opaque, dir);
            return Ok(());
        }
        // these name nothing (FORMATS 11.9)
        if rest.starts_with(WHITEOUT) || matches!(rest, b"" | b"." | b"..") {
            return Ok(());
        }
        let hidden = join(dir, rest);
        self.index.add(Mark::White, &hidden);
        // a tree that holds everything shows by itself what is hidden
        let Some(below) = &mut self.below else { return Ok(()) };
        // what is in its place has to be an entry itself; a whiteout is needed only where there is something to hide
        if self.at.stat(dir, rest)?.is_none() && below.shows(dir, rest)? {
            self.found.add(hidden, WHITEOUT_LOST);
        }
        Ok(())
    }

    fn object(&mut self, dir: &[u8], name: &[u8], header: &Header) -> Result<()> {
        let path = join(dir, name);
        self.index.add(Mark::Entry, &path);
        if self.has_no_place(&path, header)? {
            return self.replaced(dir, name, path);
        }
        let Some(meta) = self.at.stat(dir, name)? else {
            self.found.add(path, "missing: the layer's tar has it");
            return Ok(());
        };
        if header.kind == Kind::HardLink {
            return self.hard_link(dir, name, &meta, header);
        }
        let what = self.unlike(dir, name, header, &meta)?;
        if meta.nlink > 1 && !meta.is_dir() {
            self.inodes.push(meta.ino);
        }
        match what {
            // hard links of it follow, and Docker sets the attributes of each one that it unpacks
            Some(what) if meta.nlink > 1 && !meta.is_dir() => drop(self.unfit.insert(meta.ino, (path, what))),
            Some(what) => self.found.add(path, what),
            None => {}
        }
        Ok(())
    }

    /// A device 0:0 has no place on the overlay drivers (FORMATS 11.11), and its hard links have none.
    fn has_no_place(&mut self, path: &[u8], header: &Header) -> Result<bool> {
        let out = match header.kind {
            Kind::CharDevice => self.layer.stored.overlay() && header.device == (0, 0),
            Kind::HardLink if !self.left_out.is_empty() => {
                let (directory, base) = self.first_name(header)?;
                self.left_out.contains(&self.index.hash(Mark::Entry, &join(&directory, &base)))
            }
            _ => false,
        };
        if out {
            self.left_out.insert(self.index.hash(Mark::Entry, path));
        }
        Ok(out)
    }

    /// In the place of something that the driver can't hold there is nothing, or what hides the name below.
    fn replaced(&mut self, dir: &[u8], name: &[u8], path: Vec<u8>) -> Result<()> {
        match self.at.stat(dir, name)? {
            Some(is) if is.is_overlay_whiteout() => {}
            Some(is) => {
                let is = crate::verify::kind(is.kind);
                self.found.add(path, format!("is a {is}, the layer's tar has a character device"));
            }
            None => {
                if let Some(below) = &mut self.below
                    && below.shows(dir, name)?
                {
                    self.found.add(path, WHITEOUT_LOST);
                }
            }
        }
        Ok(())
    }

    /// The directory and the name of the file that a hard link is one of.
    fn first_name(&mut self, header: &Header) -> Result<(Vec<u8>, Vec<u8>)> {
        let target = clean(&header.link);
        let (directory, base) = split(target.strip_prefix(b"/").unwrap_or(&target));
        Ok((self.other.locate(directory)?, base.to_vec()))
    }

    fn hard_link(&mut self, dir: &[u8], name: &[u8], meta: &Meta, header: &Header) -> Result<()> {
        let (directory, base) = self.first_name(header)?;
        let first = match &base[..] {
            b"" | b"." | b".." => None,
            base => self.other.stat(&directory, base)?,
        };
        match first {
            Some(first) if (first.dev, first.ino) == (meta.dev, meta.ino) => {
                if self.unfit.contains_key(&meta.ino) && self.attributes(dir, name, header, meta)?.is_none() {
                    self.unfit.remove(&meta.ino);
                }
            }
            _ => {
                let what = format!("isn't a hard link of /{}, as in the layer's tar", text::bytes(&header.link));
                self.found.add(join(dir, name), what);
            }
        }
        Ok(())
    }

    /// How an entry and what is in its place differ.
    fn unlike(&mut self, dir: &[u8], name: &[u8], header: &Header, meta: &Meta) -> Result<Option<String>> {
        let (kind, wanted) = match header.kind {
            Kind::File | Kind::HardLink => (FileType::RegularFile, "a regular file"),
            Kind::Symlink => (FileType::Symlink, "a symlink"),
            Kind::CharDevice => (FileType::CharacterDevice, "a character device"),
            Kind::BlockDevice => (FileType::BlockDevice, "a block device"),
            Kind::Directory => (FileType::Directory, "a directory"),
            Kind::Fifo => (FileType::Fifo, "a named pipe"),
        };
        if meta.kind != kind {
            return Ok(Some(format!("is a {}, the layer's tar has {wanted}", crate::verify::kind(meta.kind))));
        }
        let mut out = Vec::new();
        if kind == FileType::RegularFile && meta.size != header.size {
            out.push(format!("size {}, the layer's tar says {}", meta.size, header.size));
        }
        if kind == FileType::Symlink {
            let to = self.at.dir(dir)?.map(|d| d.read_link(name)).transpose()?.unwrap_or_default();
            if to != header.link {
                let (is, was) = (text::bytes(&to), text::bytes(&header.link));
                out.push(format!("points to \"{is}\", the layer's tar says \"{was}\""));
            }
        }
        let (major, minor) = header.device;
        let devices = matches!(header.kind, Kind::CharDevice | Kind::BlockDevice);
        if devices && meta.rdev != rustix::fs::makedev(major, minor) {
            out.push(format!("device number {:#x}, the layer's tar says {major}:{minor}", meta.rdev));
        }
        out.extend(self.attributes(dir, name, header, meta)?);
        Ok(if out.is_empty() { None } else { Some(out.join("; ")) })
    }

    /// Mode, owner, time and extended attributes.
    fn attributes(&mut self, dir: &[u8], name: &[u8], header: &Header, meta: &Meta) -> Result<Option<String>> {
        let mut out = Vec::new();
        if meta.kind != FileType::Symlink && meta.mode != header.mode {
            out.push(format!("mode {:04o}, the layer's tar says {:04o}", meta.mode, header.mode));
        }
        let shift = self.layer.owners;
        let (uid, gid) = (header.uid.wrapping_add(shift.uid), header.gid.wrapping_add(shift.gid));
        if (meta.uid, meta.gid) != (uid, gid) {
            out.push(format!("owner {}:{}, the layer's tar says {uid}:{gid}", meta.uid, meta.gid));
        }
        // Docker sets 1970 for times that it takes for none (pkg/system/chtimes.go)
        let unset = !(0..=LAST_TIME).contains(&header.mtime) && meta.mtime.0 == 0;
        if meta.mtime.0 != header.mtime && !unset {
            let [is, said] = [meta.mtime.0, header.mtime].map(|seconds| text::time((seconds, 0)));
            out.push(format!("modified {is}, the layer's tar says {said}"));
        }
        out.extend(self.xattrs(dir, name, header, meta)?);
        Ok(if out.is_empty() { None } else { Some(out.join("; ")) })
    }

    fn xattrs(&mut self, dir: &[u8], name: &[u8], header: &Header, meta: &Meta) -> Result<Option<String>> {
        let overlay = self.layer.stored.overlay();
        // the same for every driver: else damage of the old store would look like the migration's
        if !meta.is_file() && header.xattrs.is_empty() {
            return Ok(None);
        }
        let Some(at) = self.at.dir(dir)? else { return Ok(None) };
        // nearly no file has any
        if header.xattrs.is_empty() && !at.here().xattr_kinds(name)?.0 {
            return Ok(None);
        }
        let is = at.xattrs(name)?;
        let plain = meta.is_file() || meta.is_dir();
        for (attr, value) in &header.xattrs {
            let stored = attr == CAPABILITY
                || (plain && attr.starts_with(b"user."))
                || (attr.starts_with(b"trusted.") && !(overlay && attr.starts_with(OVERLAY_PREFIX)));
            let found = is.get(attr).map(|v| if attr == CAPABILITY { plain_capability(v) } else { v.clone() });
            if stored && found.as_ref() != Some(value) {
                return Ok(Some(format!("xattr {} is not what the layer's tar says", text::bytes(attr))));
            }
        }
        let has = |n: &[u8]| header.xattrs.iter().any(|(attr, _)| attr == n);
        if meta.is_file() && is.contains_key(CAPABILITY) && !has(CAPABILITY) {
            return Ok(Some("it has security.capability, the layer's tar has none".to_owned()));
        }
        if let Some(attr) = OBEYED.iter().find(|a| overlay && is.contains_key(**a)) {
            return Ok(Some(format!("it has {}, which overlayfs obeys; no layer has that", text::bytes(attr))));
        }
        Ok(None)
    }
}

/// With these overlayfs takes a file's content from elsewhere. Docker mounts without both, and no layer of an image has them.
const OBEYED: [&[u8]; 2] = [b"trusted.overlay.metacopy", b"trusted.overlay.redirect"];

/// A name that the layer removes is shown again.
pub const WHITEOUT_LOST: &str = "its whiteout is missing: the layer removes this name";
/// What the layer replaces is shown again.
pub const OPAQUE_LOST: &str = "its opaque mark is missing: the layer replaces this directory";

/// Looks things up in a tree, in the order of a tar: directories on the way stay open.
struct Cursor<'a> {
    tree: &'a Dir,
    /// Each in the one before.
    open: Vec<(Vec<u8>, Dir)>,
    /// A directory that was asked for, and where it really is.
    last: Option<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Cursor<'a> {
    fn new(tree: &'a Dir) -> Cursor<'a> {
        Cursor { tree, open: Vec::new(), last: None }
    }

    fn try_dir(&mut self, path: &[u8]) -> Result<&Dir, Errno> {
        let holds = |held: &[u8]| path.starts_with(held) && (path.len() == held.len() || path[held.len()] == b'/');
        while self.open.last().is_some_and(|(held, _)| !holds(held)) {
            self.open.pop();
        }
        let from = self.open.last().map_or(0, |(held, _)| held.len());
        let rest = path[from..].strip_prefix(b"/").unwrap_or(&path[from..]);
        if !rest.is_empty() {
            let next = self.open.last().map_or(self.tree, |(_, d)| d).try_open(rest)?;
            self.open.push((path.to_vec(), next));
        }
        Ok(self.open.last().map_or(self.tree, |(_, d)| d))
    }

    /// The directory, if it is there.
    fn dir(&mut self, path: &[u8]) -> Result<Option<&Dir>> {
        let tree = self.tree;
        match self.try_dir(path) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(Error::io(format!("open {}", tree.show(path)), e)),
        }
    }

    fn stat(&mut self, dir: &[u8], name: &[u8]) -> Result<Option<Meta>> {
        let Some(dir) = self.dir(dir)? else { return Ok(None) };
        match dir.try_stat(name) {
            Ok(meta) => Ok(Some(meta)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Ok(None),
            Err(e) => Err(Error::io(format!("stat {}", dir.show(name)), e)),
        }
    }

    /// Where a directory of the tar is in the tree: Docker follows symlinks when it unpacks, inside the layer.
    fn locate(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        if let Some((asked, is)) = &self.last
            && asked == path
        {
            return Ok(is.clone());
        }
        let is = match self.try_dir(path) {
            Err(Errno::LOOP | Errno::NOTDIR) => self.follow(path)?.unwrap_or_else(|| path.to_vec()),
            _ => path.to_vec(),
        };
        self.last = Some((path.to_vec(), is.clone()));
        Ok(is)
    }

    fn follow(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut todo: Vec<Vec<u8>> = parts(path).rev().map(<[u8]>::to_vec).collect();
        let (mut at, mut links) = (Vec::new(), 0);
        while let Some(part) = todo.pop() {
            if part == b".." {
                at = split(&at).0.to_vec();
                continue;
            }
            match self.stat(&at, &part)? {
                Some(m) if m.kind == FileType::Symlink => {
                    links += 1;
                    let target = self.dir(&at)?.map(|d| d.read_link(&part)).transpose()?.unwrap_or_default();
                    if links > MAX_LINKS {
                        return Ok(None);
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    todo.extend(parts(&target).rev().map(<[u8]>::to_vec));
                }
                _ => at = join(&at, &part),
            }
        }
        Ok(Some(at))
    }
}

/// A path, and the directories that are merged in it, with the branches that they are of.
pub type Merged = (Vec<u8>, Vec<(u16, Dir)>);

/// What the layers below show.
pub struct Below<'a> {
    /// The layer and all below.
    pub chain: &'a Chain,
    /// The directories merged in the last path asked for, the layer's own left out.
    pub last: Option<Merged>,
}

impl Below<'_> {
    fn shows(&mut self, dir: &[u8], name: &[u8]) -> Result<bool> {
        if self.last.as_ref().is_none_or(|(path, _)| path != dir) {
            let mut from = self.chain.contributors(&self.chain.root(), dir)?;
            from.retain(|i| *i != 0);
            self.last = Some((dir.to_vec(), self.chain.open(&from, dir)?));
        }
        let dirs = self.last.as_ref().map(|(_, dirs)| &dirs[..]).unwrap_or_default();
        self.chain.shows(dirs, name)
    }
}
