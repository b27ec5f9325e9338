//! The content of one layer, counted: what the plan, the estimates and the fingerprint rest on.
//!
//! Every directory is a task of its own, so that one huge layer keeps all cores busy. Memory grows with the lists of remarkable paths,
//! which are cut at [`LIST`], not with the files.

use crate::disk::here::Here;
use crate::disk::{Dir, FileType, Meta, join, parts};
use crate::error::{Error, Result};
use crate::layer::branch::{self, Internal, Name};
use crate::layer::walk::walk;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use std::collections::{BTreeMap, HashSet};
use std::hash::Hasher;
use std::sync::{Arc, Mutex};

/// As many paths of one kind and layer are kept; the count continues.
pub const LIST: usize = 10_000;

/// A directory further down than that many is nothing that a program made for use; a walk holds two descriptors for each on its way.
pub const DEPTH: usize = 2_000;
/// The same for the length of its path, of which each directory on the way holds its own. Linux takes paths of 4 KiB in one piece.
pub const PATH: usize = 128 << 10;

/// A list of paths that is cut at [`LIST`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// How many there are.
    pub count: u64,
    /// The first of them, bytes shown as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::plan::paths")]
    pub first: Vec<Vec<u8>>,
}

impl Paths {
    /// Adds one.
    pub fn push(&mut self, path: &[u8]) {
        self.count += 1;
        self.first.push(path.to_vec());
        self.shorten(2 * LIST);
    }

    fn append(&mut self, mut other: Paths) {
        self.count += other.count;
        self.first.append(&mut other.first);
        self.shorten(2 * LIST);
    }

    fn sort(&mut self) {
        self.first.sort_unstable();
        self.shorten(LIST);
    }

    /// Keeps the first [`LIST`] by name if there are more than so many: the same ones in whatever order they came.
    fn shorten(&mut self, limit: usize) {
        if self.first.len() > limit {
            self.first.sort_unstable();
            self.first.truncate(LIST);
        }
    }
}

/// What a layer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Names that are not directories, markers left out.
    pub files: u64,
    /// Inodes behind them.
    pub inodes: u64,
    /// Directories, the root left out.
    #[serde(rename = "folders")]
    pub directories: u64,
    /// Bytes of content, each inode once.
    pub bytes: u64,
    /// Bytes that the content takes on a disk with blocks of 4 KiB, each inode once.
    pub allocated: u64,
    /// Bytes that new directories with the same names take on a disk at most, the root's included.
    #[serde(default, rename = "folder_bytes")]
    pub dir_bytes: u64,
    /// Bytes of all names, the root's left out.
    #[serde(default)]
    pub name_bytes: u64,
    /// The most names that one inode has.
    #[serde(default)]
    pub most_names: u64,
    /// Whiteouts.
    pub whiteouts: u64,
    /// Whiteouts of names that no layer below shows; `None` if these layers were not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_whiteouts: Option<u64>,
    /// Opaque directories.
    pub opaque: Paths,
    /// Inodes with more than one name.
    pub hardlinks: u64,
    /// Names with extended attributes.
    pub xattrs: u64,
    /// Devices.
    pub devices: u64,
    /// Names with `trusted.overlay.*`.
    pub overlay_xattrs: Paths,
    /// Character devices 0:0.
    pub device_zero: Paths,
    /// aufs's own names, by kind.
    pub internal: BTreeMap<Internal, Paths>,
    /// The root carries an opaque mark.
    pub opaque_root: bool,
    /// Names of more than 242 bytes.
    pub long_names: Paths,
    /// Names that have a whiteout next to them.
    pub beside: Paths,
    /// Whiteouts that are not empty regular files.
    pub odd_whiteouts: Paths,
    /// Immutable or append-only files and directories: a copy is neither.
    #[serde(default)]
    pub fixed: Paths,
    /// Files where a layer above may have a directory: see [`super::quirks`].
    pub covers: Paths,
    /// Changes when any name, type, owner, mode, size or time in the layer changes; the same in any order of reading.
    pub state: u64,
    /// Changes when anything in the layer does: it is made of the inodes' times of change. So is the making of a further link.
    #[serde(default)]
    pub changed: u64,
    /// Changes when a name leads to another inode, and when anything of a directory changes. 0 in plans of earlier versions.
    #[serde(default)]
    pub listing: u64,
}

/// What the layers above those being scanned have shown to be worth a look: hashes of paths.
#[derive(Debug, Default)]
pub struct Above {
    /// Directories of some layer above.
    directories: HashSet<u64>,
    /// What whiteouts in some layer above name, and the directories on the way there.
    watched: HashSet<u64>,
}

impl Above {
    /// Takes in a layer that was scanned; those below come later.
    pub fn add(&mut self, trail: &Trail) {
        self.directories.extend(&trail.directories);
        for (on_the_way, names) in &trail.whiteouts {
            self.watched.extend(on_the_way);
            self.watched.extend(names);
        }
    }
}

/// What a layer says about those below it, and to those above it: hashes of paths. Kept while a plan is made.
#[derive(Debug, Default)]
pub struct Trail {
    /// Its directories.
    pub directories: Vec<u64>,
    /// For each of its directories with whiteouts the directories on the way there, itself included, and the paths that the whiteouts name.
    pub whiteouts: Vec<(Vec<u64>, Vec<u64>)>,
    /// Opaque directories.
    pub opaque: Vec<u64>,
    /// Paths of the layer that `Above::watched` has: is it a directory?
    pub met: Vec<(u64, bool)>,
}

/// What a scan finds.
#[derive(Debug, Default)]
pub struct Found {
    /// For the plan.
    pub facts: Facts,
    /// For the other layers.
    pub trail: Trail,
}

struct Scan<'a> {
    found: Mutex<Found>,
    seen: Mutex<HashSet<u64>>,
    above: &'a Above,
    ask: Ask,
}

/// A directory on its way: its path, and the hash that represents it.
struct DirPath {
    path: Vec<u8>,
    hash: u64,
    holder: Option<Arc<DirPath>>,
}

impl DirPath {
    fn at_root(&self) -> bool {
        self.path.is_empty()
    }

    /// The hashes of this directory and all that it is in, but for the root.
    fn on_the_way(&self) -> Vec<u64> {
        let mut out = Vec::new();
        let mut next = Some(self);
        while let Some(dir) = next.filter(|d| !d.at_root()) {
            out.push(dir.hash);
            next = dir.holder.as_deref();
        }
        out
    }
}

/// What is asked of the names in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Everything.
    All,
    /// Of files no extended attributes. For a second look, where the state or the time of change of a file says whether it is the same.
    State,
    /// Of files nothing but what the directory lists: [`Facts::listing`]. For a second look at files that the new store has links to: whatever
    /// happens to one of these inodes happens in both stores.
    Listing,
}

/// Counts the layer whose root is `root`; `above` is what the layers above it have shown.
pub fn scan(root: Dir, above: &Above, ask: Ask) -> Result<Found> {
    let scan = Scan { found: Mutex::default(), seen: Mutex::default(), above, ask };
    let first = (Arc::new(root), Vec::new(), DirPath { path: Vec::new(), hash: 0, holder: None }, 0);
    walk(first, |(holder, name, at, depth), hand_on| {
        too_deep(&at.path, depth)?;
        let dir = Arc::new(holder.open(&name)?);
        let at = Arc::new(at);
        let mut directory = DirCount::new(&scan, &dir, &at);
        directory.count()?;
        for (name, hash) in directory.finish() {
            let sub = DirPath { path: join(&at.path, &name), hash, holder: Some(at.clone()) };
            hand_on((dir.clone(), name, sub, depth + 1));
        }
        Ok(())
    })?;
    Ok(scan.found.into_inner().unwrap_or_else(|e| e.into_inner()))
}

fn too_deep(path: &[u8], depth: usize) -> Result<()> {
    if depth <= DEPTH && path.len() <= PATH {
        return Ok(());
    }
    let end = crate::text::bytes(path.get(..80).unwrap_or(path));
    let length = crate::text::size(PATH as u64);
    Err(Error::corrupt(format!("directories nested more than {DEPTH} deep, or a path longer than {length}: {end}…")))
}

/// One directory being counted: opened once, listed once, each name asked once.
struct DirCount<'a> {
    scan: &'a Scan<'a>,
    dir: &'a Dir,
    here: Here<'a>,
    at: &'a DirPath,
    facts: Facts,
    trail: Trail,
    /// What its whiteouts name.
    whiteouts: Vec<Vec<u8>>,
    subs: Vec<(Vec<u8>, u64)>,
    /// All names, those of markers too.
    names: u64,
    name_bytes: u64,
}

impl<'a> DirCount<'a> {
    fn new(scan: &'a Scan<'a>, dir: &'a Dir, at: &'a DirPath) -> DirCount<'a> {
        DirCount {
            scan,
            dir,
            here: dir.here(),
            at,
            facts: Facts::default(),
            trail: Trail::default(),
            whiteouts: Vec::new(),
            subs: Vec::new(),
            names: 0,
            name_bytes: 0,
        }
    }

    fn count(&mut self) -> Result<()> {
        self.note_attributes(b".")?;
        let (own, fixed) = self.dir.stat_fixed(b".")?;
        if fixed {
            self.facts.fixed.push(&self.at.path);
        }
        self.add_state(self.at.hash, &own);
        if self.facts.xattrs > 0 {
            self.facts.state = self.facts.state.wrapping_add(attributes(self.dir, self.at.hash)?);
        }
        self.facts.listing = self.facts.state;
        self.dir.for_each(|name, kind, ino| {
            (self.names, self.name_bytes) = (self.names + 1, self.name_bytes + name.len() as u64);
            let hash = hash_of(self.at.hash, name);
            self.facts.listing = self.facts.listing.wrapping_add(listed(hash, kind, ino));
            match branch::classify(name, self.at.at_root()) {
                Name::Entry => self.count_entry(name, kind, ino, hash),
                marker => self.count_marker(name, marker, hash),
            }
        })?;
        // an old directory may be larger than it need be, and has a block more where its attributes do not fit into the inode
        let crowded = self.names * 16 + self.name_bytes > 3000;
        let new = BLOCK + if crowded { BLOCK + entries(self.names, self.name_bytes) } else { 0 };
        self.facts.dir_bytes = own.allocated.clamp(new, new + BLOCK);
        for hidden in &self.whiteouts {
            if self.dir.try_stat(hidden).is_ok() {
                self.facts.beside.push(&join(&self.at.path, hidden));
            }
        }
        Ok(())
    }

    /// Adds what was found to the layer's; gives the directories in this one.
    fn finish(mut self) -> Vec<(Vec<u8>, u64)> {
        if !self.whiteouts.is_empty() {
            let names = self.whiteouts.iter().map(|n| hash_of(self.at.hash, n)).collect();
            self.trail.whiteouts.push((self.at.on_the_way(), names));
        }
        self.trail.directories.extend(self.subs.iter().map(|(_, hash)| *hash));
        let mut found = self.scan.found.lock().unwrap_or_else(|e| e.into_inner());
        found.facts.add(self.facts);
        found.trail.directories.append(&mut self.trail.directories);
        found.trail.whiteouts.append(&mut self.trail.whiteouts);
        found.trail.opaque.append(&mut self.trail.opaque);
        found.trail.met.append(&mut self.trail.met);
        self.subs
    }

    fn add_state(&mut self, path: u64, m: &Meta) {
        self.facts.state = self.facts.state.wrapping_add(state_of(path, m));
        self.facts.changed = self.facts.changed.wrapping_add(changed(path, m));
    }

    fn count_marker(&mut self, name: &[u8], marker: Name<'_>, hash: u64) -> Result<()> {
        match marker {
            Name::Entry => {}
            Name::Whiteout(hidden) => {
                self.facts.whiteouts += 1;
                self.whiteouts.push(hidden.to_vec());
                if self.scan.ask == Ask::Listing {
                    return Ok(());
                }
                let m = self.dir.stat(name)?;
                self.add_state(hash, &m);
                if !m.is_file() || m.size > 0 {
                    self.facts.odd_whiteouts.push(&join(&self.at.path, name));
                }
            }
            Name::Opaque if self.at.at_root() => self.facts.opaque_root = true,
            Name::Opaque => {
                self.facts.opaque.push(&self.at.path);
                self.trail.opaque.push(self.at.hash);
            }
            Name::Internal(kind) => {
                self.facts.internal.entry(kind).or_default().push(&join(&self.at.path, name));
            }
        }
        Ok(())
    }

    fn count_entry(&mut self, name: &[u8], kind: FileType, ino: u64, hash: u64) -> Result<()> {
        if name.len() > 242 {
            self.facts.long_names.push(&join(&self.at.path, name));
        }
        self.facts.name_bytes += name.len() as u64;
        let is_dir = kind == FileType::Directory;
        if self.scan.above.watched.contains(&hash) {
            self.trail.met.push((hash, is_dir));
        }
        if is_dir {
            self.facts.directories += 1;
            self.subs.push((name.to_vec(), hash));
            return Ok(());
        }
        if self.scan.above.directories.contains(&hash) {
            self.facts.covers.push(&join(&self.at.path, name));
        }
        if self.scan.ask == Ask::Listing {
            return Ok(());
        }
        self.count_file(name, kind, ino, hash)?;
        // overlayfs obeys attributes of directories and regular files only
        let asked = kind == FileType::RegularFile && self.scan.ask == Ask::All;
        if asked { self.note_attributes(name) } else { Ok(()) }
    }

    fn count_file(&mut self, name: &[u8], kind: FileType, ino: u64, hash: u64) -> Result<()> {
        let (m, fixed) = self.dir.stat_fixed(name)?;
        if fixed {
            self.facts.fixed.push(&join(&self.at.path, name));
        }
        self.add_state(hash, &m);
        let f = &mut self.facts;
        f.files += 1;
        f.most_names = f.most_names.max(m.nlink);
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            f.devices += 1;
        }
        if m.is_overlay_whiteout() {
            f.device_zero.push(&join(&self.at.path, name));
        }
        let first = m.nlink == 1 || self.scan.seen.lock().unwrap_or_else(|e| e.into_inner()).insert(ino);
        if first {
            f.inodes += 1;
            f.bytes += m.size;
            f.allocated += on_disk(&m);
            f.hardlinks += u64::from(m.nlink > 1);
        }
        Ok(())
    }

    /// `.` is the directory itself.
    fn note_attributes(&mut self, name: &[u8]) -> Result<()> {
        let (any, overlay) = self.here.xattr_kinds(name)?;
        self.facts.xattrs += u64::from(any);
        if overlay {
            let path = if name == b"." { self.at.path.clone() } else { join(&self.at.path, name) };
            self.facts.overlay_xattrs.push(&path);
        }
        Ok(())
    }
}

impl Facts {
    fn add(&mut self, mut f: Facts) {
        self.files += f.files;
        self.inodes += f.inodes;
        self.directories += f.directories;
        self.bytes += f.bytes;
        self.allocated += f.allocated;
        self.dir_bytes += f.dir_bytes;
        self.name_bytes += f.name_bytes;
        self.most_names = self.most_names.max(f.most_names);
        self.whiteouts += f.whiteouts;
        self.hardlinks += f.hardlinks;
        self.xattrs += f.xattrs;
        self.devices += f.devices;
        self.opaque_root |= f.opaque_root;
        self.state = self.state.wrapping_add(f.state);
        self.changed = self.changed.wrapping_add(f.changed);
        self.listing = self.listing.wrapping_add(f.listing);
        for (mine, new) in self.lists().into_iter().zip(f.lists()) {
            mine.append(std::mem::take(new));
        }
        for (kind, list) in f.internal {
            self.internal.entry(kind).or_default().append(list);
        }
    }

    /// Those of a fixed number.
    fn lists(&mut self) -> [&mut Paths; 8] {
        [
            &mut self.opaque,
            &mut self.overlay_xattrs,
            &mut self.device_zero,
            &mut self.long_names,
            &mut self.beside,
            &mut self.odd_whiteouts,
            &mut self.fixed,
            &mut self.covers,
        ]
    }

    /// Sorts the lists: directories are read in any order.
    pub fn sort(&mut self) {
        self.lists().into_iter().for_each(Paths::sort);
        self.internal.values_mut().for_each(Paths::sort);
    }
}

/// Bytes of a block that most file systems have.
pub const BLOCK: u64 = 4096;

/// Bytes of disk that so many entries of directories take at most: 16 each and the name, in blocks that are not half full.
pub fn entries(names: u64, name_bytes: u64) -> u64 {
    (names * 16 + name_bytes) * 5 / 2
}

/// What the content of an inode takes where blocks have 4 KiB, and none is within the inode.
fn on_disk(m: &Meta) -> u64 {
    let within = u64::from(m.size > 0 && (m.is_file() || m.kind == FileType::Symlink && m.size >= 60));
    m.allocated.max(within).div_ceil(BLOCK) * BLOCK
}

/// Represents a path: the hash of its directory's and of its name.
pub fn hash_of(directory: u64, name: &[u8]) -> u64 {
    let mut h = SipHasher13::new();
    h.write(&directory.to_le_bytes());
    h.write(name);
    h.finish()
}

/// Represents a whole path.
pub fn hash_of_path(path: &[u8]) -> u64 {
    parts(path).fold(0, hash_of)
}

/// A directory is never linked, so the new store has another one: its attributes have to be the same.
fn attributes(dir: &Dir, path: u64) -> Result<u64> {
    let mut h = SipHasher13::new();
    h.write(&path.to_le_bytes());
    for (name, value) in dir.xattrs(b".")? {
        h.write(&name);
        h.write(&value);
    }
    Ok(h.finish())
}

/// Represents which inode a name leads to.
fn listed(path: u64, kind: FileType, ino: u64) -> u64 {
    sip(&[&path.to_le_bytes()[..], &kind.as_raw_mode().to_le_bytes(), &ino.to_le_bytes()])
}

/// Represents an inode's time of change.
fn changed(path: u64, m: &Meta) -> u64 {
    sip(&[&path.to_le_bytes()[..], &m.ctime.0.to_le_bytes(), &m.ctime.1.to_le_bytes()])
}

/// Represents what a name is. The same on every machine and in every version: it is part of a saved plan.
fn state_of(path: u64, m: &Meta) -> u64 {
    let size = if m.is_dir() { 0 } else { m.size };
    let [a, b, c, d] = [path, size, m.rdev, m.mtime.0.cast_unsigned()].map(u64::to_le_bytes);
    let [e, f, g, h, i] = [m.mode, m.uid, m.gid, m.mtime.1, m.kind.as_raw_mode()].map(u32::to_le_bytes);
    sip(&[&a[..], &b, &c, &d, &e, &f, &g, &h, &i])
}

/// The hash of small parts, written at once: that takes half of the time of writing each.
fn sip(parts: &[&[u8]]) -> u64 {
    let (mut all, mut end) = ([0; 64], 0);
    for part in parts {
        all[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    let mut h = SipHasher13::new();
    h.write(&all[..end]);
    h.finish()
}
