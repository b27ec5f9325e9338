//! An image layer against the headers of its own tar, which tar-split keeps: without the old store, and for every driver.
//!
//! ```text
//! tar-split ─ Headers ─▶ each entry   ─▶ is it in the tree, as the header says?            entries.rs
//!                        each name of the tree ─▶ does an entry account for it?            tree.rs
//!
//! aufs      the tree holds the tar's names as they are, its markers too
//! overlay2  the tree holds what the layer adds; a marker is a device 0:0, or an attribute of the directory
//! vfs, btrfs, overlay   the tree holds everything: what no entry accounts for must be the same in the parent's tree, and only a
//!           marker, or an entry in its place, takes a name of the parent away
//! ```
//!
//! Nothing here reads aufs: a marker is an entry with a name, as in the OCI image format. So a mistake in the reading of aufs branches,
//! with which the new store was made, can't hide here. What the headers do not say: the bytes of a file (its digest does), times below a
//! second, and the attributes of a directory that the tar does not name.
//!
//! Memory: 8 bytes for each entry, and 8 for each file with several names.

mod entries;
mod index;
mod tree;

use crate::disk::Dir;
use crate::error::Result;
use crate::layer::view::Chain;
use crate::tar::split::{Headers, MAX_UNPACKED, Reader};
use crate::tar::viewtar::Shift;
use std::io::Read;
use std::sync::Mutex;

/// A layer in a store.
pub struct Layer<'a> {
    /// Its own tree.
    pub tree: &'a Dir,
    /// What the driver keeps in it.
    pub stored: Stored<'a>,
    /// What container root is on the host.
    pub owners: Shift,
}

/// What a driver keeps in a layer's tree.
pub enum Stored<'a> {
    /// aufs: what was in the tar.
    Literal,
    /// overlay2: what the layer adds to those below. It and all below.
    Stacked(&'a Chain),
    /// vfs, btrfs, overlay: everything that the layer and those below show.
    Whole {
        /// The tree of the layer below.
        parent: Option<&'a Dir>,
        /// overlay: a device 0:0 can't be kept, nor attributes that overlayfs obeys (FORMATS 11.11, 11.28).
        overlay: bool,
        /// Compare the bytes of what the parent's tree has too.
        content: bool,
    },
}

impl Stored<'_> {
    /// Is the tree mounted by overlayfs?
    fn overlay(&self) -> bool {
        matches!(self, Stored::Stacked(_) | Stored::Whole { overlay: true, .. })
    }
}

/// Something that is not as the layer's tar says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The path below the layer's root. Of a lost whiteout, the name that it hid; of a lost opaque mark, the directory.
    pub path: Vec<u8>,
    /// What is wrong.
    pub what: String,
}

impl Fault {
    /// Do the layers below show through, at the path and below it?
    pub fn shows_more(&self) -> bool {
        self.what == entries::WHITEOUT_LOST || self.what == entries::OPAQUE_LOST
    }
}

/// All that is wrong with a layer: as many as [`MOST`] are listed, all are counted.
#[derive(Debug, Default)]
pub struct Faults {
    /// The first of them, sorted.
    pub list: Vec<Fault>,
    /// How many there are.
    pub count: u64,
    /// Names that were compared.
    pub names: u64,
}

/// As many faults of one layer are listed.
pub const MOST: usize = 100_000;

/// Faults that threads find.
#[derive(Default)]
struct Found(Mutex<Faults>);

impl Found {
    fn add(&self, path: Vec<u8>, what: impl Into<String>) {
        let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        all.count += 1;
        if all.list.len() < MOST {
            all.list.push(Fault { path, what: what.into() });
        }
    }
}

/// Holds a layer against its tar-split data. An error says that it could not be done, or that the data are damaged.
pub fn check(layer: &Layer<'_>, tar_split: impl Read) -> Result<Faults> {
    let found = Found::default();
    let mut entries = entries::Entries::new(layer, &found);
    for header in Headers::new(Reader::new(tar_split, MAX_UNPACKED)) {
        crate::stop::check()?;
        entries.entry(header?)?;
    }
    let names = entries.names;
    let known = entries.finish()?;
    tree::check(layer, &known, &found)?;
    let mut all = found.0.into_inner().unwrap_or_else(|e| e.into_inner());
    all.list.sort();
    all.names = names;
    Ok(all)
}

/// Can these tar-split data be read to their end?
pub fn readable(tar_split: impl Read) -> Result<()> {
    Headers::new(Reader::new(tar_split, MAX_UNPACKED)).try_for_each(|header| header.map(drop))
}

#[cfg(test)]
mod tests;
