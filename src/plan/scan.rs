//! The content of one layer, counted: what the plan, the estimates and the fingerprint rest on.
//!
//! Every folder is a task of its own, so that one huge layer keeps all cores busy. Memory grows with the lists of remarkable paths,
//! which are cut at [`LIST`], not with the files.

use super::estimate::tree;
use crate::disk::here::Here;
use crate::disk::{Dir, FileType, Meta, join};
use crate::error::{Error, Result};
use crate::layer::branch::{self, Format, Internal, Name};
use crate::layer::walk::walk;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, RwLock};

/// As many paths of one kind and layer are kept; the count goes on.
pub const LIST: usize = 10_000;

/// A folder further down than that many is nothing that a program made for use; a walk holds two descriptors for each on its way.
pub const DEPTH: usize = 2_000;
/// The same for the length of its path, of which each folder on the way holds its own. Linux takes paths of 4 KiB in one piece.
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
        if self.first.len() < LIST {
            self.first.push(path.to_vec());
        }
    }
}

/// What a layer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Names that are not folders, markers left out.
    pub files: u64,
    /// Inodes behind them.
    pub inodes: u64,
    /// Folders, the root left out.
    pub folders: u64,
    /// Bytes of content, each inode once.
    pub bytes: u64,
    /// Bytes that the content takes on the disk, each inode once.
    pub allocated: u64,
    /// Bytes that the folders themselves take on the disk, the root's included.
    #[serde(default)]
    pub folder_bytes: u64,
    /// Bytes of all names, the root's left out.
    #[serde(default)]
    pub name_bytes: u64,
    /// Files and symlinks so small that a btrfs keeps them in its tree.
    #[serde(default)]
    pub small: Small,
    /// The most names that one inode has.
    #[serde(default)]
    pub most_names: u64,
    /// Whiteouts.
    pub whiteouts: u64,
    /// Opaque folders.
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
    /// Names that have a whiteout beside them.
    pub beside: Paths,
    /// Whiteouts that are not empty regular files.
    pub odd_whiteouts: Paths,
    /// Files where a layer below may have a folder: see [`super::quirks`].
    pub covers: Paths,
    /// Changes when any name, type, owner, mode, size or time in the layer changes, or an attribute of a folder; in any order of reading.
    pub state: u64,
    /// Changes when anything in the layer does: it is made of the inodes' times of change. So is the making of a further link.
    #[serde(default)]
    pub changed: u64,
}

/// Small files, each inode once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Small {
    /// Inodes.
    pub inodes: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Bytes that they take on the disk where they lie now.
    pub allocated: u64,
}

impl Small {
    /// Takes this inode in, if it is one.
    pub fn note(&mut self, m: &Meta) {
        if matches!(m.kind, FileType::RegularFile | FileType::Symlink) && (1..=tree::INLINE).contains(&m.size) {
            self.add(Small { inodes: 1, bytes: m.size, allocated: m.allocated });
        }
    }

    /// Adds others.
    pub fn add(&mut self, s: Small) {
        self.inodes += s.inodes;
        self.bytes += s.bytes;
        self.allocated += s.allocated;
    }
}

/// Hashes of the paths that are folders in some layer scanned so far.
pub type Folders = RwLock<HashSet<u64>>;

struct Scan<'a> {
    facts: Mutex<Facts>,
    seen: Mutex<HashSet<u64>>,
    below: &'a Folders,
    mine: Mutex<Vec<u64>>,
}

/// A folder on its way: its path, and the hash that stands for it.
struct Spot {
    path: Vec<u8>,
    hash: u64,
}

impl Spot {
    fn at_root(&self) -> bool {
        self.path.is_empty()
    }
}

/// Counts the layer whose root is `root`. `below` holds the folders of the layers scanned before; this layer's are added.
pub fn scan(root: Dir, below: &Folders) -> Result<Facts> {
    let scan = Scan { facts: Mutex::default(), seen: Mutex::default(), below, mine: Mutex::default() };
    let first = (Arc::new(root), Vec::new(), Spot { path: Vec::new(), hash: 0 }, 0);
    walk(first, |(above, name, spot, depth), hand_on| {
        too_deep(&spot.path, depth)?;
        let dir = Arc::new(above.open(&name)?);
        count_folder(&scan, &dir, &spot, |name, hash| {
            let spot = Spot { path: join(&spot.path, name), hash };
            hand_on((dir.clone(), name.to_vec(), spot, depth + 1));
        })
    })?;
    below.write().unwrap_or_else(|e| e.into_inner()).extend(scan.mine.into_inner().unwrap_or_else(|e| e.into_inner()));
    Ok(scan.facts.into_inner().unwrap_or_else(|e| e.into_inner()))
}

fn too_deep(path: &[u8], depth: usize) -> Result<()> {
    if depth <= DEPTH && path.len() <= PATH {
        return Ok(());
    }
    let end = crate::text::bytes(path.get(..80).unwrap_or(path));
    let length = crate::text::size(PATH as u64);
    Err(Error::corrupt(format!("folders nested more than {DEPTH} deep, or a path of more than {length}: {end}…")))
}

fn count_folder(scan: &Scan<'_>, dir: &Dir, spot: &Spot, mut descend: impl FnMut(&[u8], u64)) -> Result<()> {
    let (at_root, path) = (spot.at_root(), &spot.path[..]);
    let here = dir.here();
    let mut f = Facts::default();
    note_attributes(&mut f, &here, b".", spot)?;
    let own = dir.meta()?;
    f.folder_bytes = own.allocated;
    f.note_state(spot.hash, &own);
    if f.xattrs > 0 {
        f.state = f.state.wrapping_add(attributes(dir, spot.hash)?);
    }
    let mut folders = Vec::new();
    {
        // other layers' folders are added only between two levels of the tree of layers: nobody waits for this
        let below = scan.below.read().unwrap_or_else(|e| e.into_inner());
        dir.for_each(|name, kind, ino| {
            match branch::classify(name, at_root) {
                Name::Entry => {}
                marker => return count_marker(&mut f, dir, spot, name, marker),
            }
            if name.len() > 242 {
                f.long_names.push(&join(path, name));
            }
            let hash = hash_of(spot.hash, name);
            f.name_bytes += name.len() as u64;
            if kind == FileType::Directory {
                f.folders += 1;
                folders.push(hash);
                descend(name, hash);
                return Ok(());
            }
            if below.contains(&hash) {
                f.covers.push(&join(path, name));
            }
            count_file(scan, &mut f, dir, name, kind, ino, (spot, hash))?;
            note_attributes(&mut f, &here, name, spot)
        })?;
    }
    // whiteouts beside a name: only for folders that have whiteouts at all
    if f.whiteouts > 0 {
        for w in branch::markers(dir, Format::Aufs, at_root)?.whiteouts {
            if dir.try_stat(&w).is_ok() {
                f.beside.push(&join(path, &w));
            }
        }
    }
    if !folders.is_empty() {
        scan.mine.lock().unwrap_or_else(|e| e.into_inner()).extend(folders);
    }
    scan.facts.lock().unwrap_or_else(|e| e.into_inner()).add(f);
    Ok(())
}

fn count_marker(f: &mut Facts, dir: &Dir, spot: &Spot, name: &[u8], marker: Name<'_>) -> Result<()> {
    match marker {
        Name::Entry => {}
        Name::Whiteout(_) => {
            f.whiteouts += 1;
            let m = dir.stat(name)?;
            f.note_state(hash_of(spot.hash, name), &m);
            if !m.is_file() || m.size > 0 {
                f.odd_whiteouts.push(&join(&spot.path, name));
            }
        }
        Name::Opaque if spot.at_root() => f.opaque_root = true,
        Name::Opaque => f.opaque.push(&spot.path),
        Name::Internal(kind) => f.internal.entry(kind).or_default().push(&join(&spot.path, name)),
    }
    Ok(())
}

fn count_file(
    scan: &Scan<'_>,
    f: &mut Facts,
    dir: &Dir,
    name: &[u8],
    kind: FileType,
    ino: u64,
    (spot, hash): (&Spot, u64),
) -> Result<()> {
    let m = dir.stat(name)?;
    f.files += 1;
    f.most_names = f.most_names.max(m.nlink);
    f.note_state(hash, &m);
    if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        f.devices += 1;
    }
    if m.is_overlay_whiteout() {
        f.device_zero.push(&join(&spot.path, name));
    }
    let first = m.nlink == 1 || scan.seen.lock().unwrap_or_else(|e| e.into_inner()).insert(ino);
    if first {
        f.inodes += 1;
        f.bytes += m.size;
        f.allocated += m.allocated;
        f.small.note(&m);
        f.hardlinks += u64::from(m.nlink > 1);
    }
    Ok(())
}

/// `.` is the folder itself.
fn note_attributes(f: &mut Facts, here: &Here<'_>, name: &[u8], spot: &Spot) -> Result<()> {
    let (any, overlay) = here.xattr_kinds(name)?;
    f.xattrs += u64::from(any);
    if overlay {
        let path = if name == b"." { spot.path.clone() } else { join(&spot.path, name) };
        f.overlay_xattrs.push(&path);
    }
    Ok(())
}

impl Facts {
    fn note_state(&mut self, path: u64, m: &Meta) {
        self.state = self.state.wrapping_add(state_of(path, m));
        let mut h = DefaultHasher::new();
        (path, m.ctime).hash(&mut h);
        self.changed = self.changed.wrapping_add(h.finish());
    }

    fn add(&mut self, f: Facts) {
        self.files += f.files;
        self.inodes += f.inodes;
        self.folders += f.folders;
        self.bytes += f.bytes;
        self.allocated += f.allocated;
        self.folder_bytes += f.folder_bytes;
        self.name_bytes += f.name_bytes;
        self.small.add(f.small);
        self.most_names = self.most_names.max(f.most_names);
        self.whiteouts += f.whiteouts;
        self.hardlinks += f.hardlinks;
        self.xattrs += f.xattrs;
        self.devices += f.devices;
        self.opaque_root |= f.opaque_root;
        self.state = self.state.wrapping_add(f.state);
        self.changed = self.changed.wrapping_add(f.changed);
        let lists = [
            (&mut self.opaque, f.opaque),
            (&mut self.overlay_xattrs, f.overlay_xattrs),
            (&mut self.device_zero, f.device_zero),
            (&mut self.long_names, f.long_names),
            (&mut self.beside, f.beside),
            (&mut self.odd_whiteouts, f.odd_whiteouts),
            (&mut self.covers, f.covers),
        ];
        for (mine, new) in lists {
            mine.append(new);
        }
        for (kind, list) in f.internal {
            self.internal.entry(kind).or_default().append(list);
        }
    }

    /// Sorts the lists: folders are read in any order.
    pub fn sort(&mut self) {
        let lists = [
            &mut self.opaque,
            &mut self.overlay_xattrs,
            &mut self.device_zero,
            &mut self.long_names,
            &mut self.beside,
            &mut self.odd_whiteouts,
            &mut self.covers,
        ];
        lists.into_iter().chain(self.internal.values_mut()).for_each(|l| l.first.sort());
    }
}

impl Paths {
    fn append(&mut self, other: Paths) {
        self.count += other.count;
        let room = LIST.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
    }
}

/// Stands for a path: the hash of its folder's and of its name.
fn hash_of(folder: u64, name: &[u8]) -> u64 {
    let mut h = DefaultHasher::new();
    h.write_u64(folder);
    h.write(name);
    h.finish()
}

/// A folder is never linked, so the new store has another one: its attributes have to be the same.
fn attributes(dir: &Dir, path: u64) -> Result<u64> {
    let mut h = DefaultHasher::new();
    (path, dir.xattrs(b".")?).hash(&mut h);
    Ok(h.finish())
}

fn state_of(path: u64, m: &Meta) -> u64 {
    let mut h = DefaultHasher::new();
    (path, m.mode, m.uid, m.gid, if m.is_dir() { 0 } else { m.size }, m.mtime, m.rdev, m.kind as u32).hash(&mut h);
    h.finish()
}
