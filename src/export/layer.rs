//! One layer of an archive: where its tar comes from, and how long it is, which its header must say before its first byte.
//!
//! ```text
//! tar-split is there    the tar that Docker had, to the byte; the recorded digest is checked while it passes
//! Docker up to 1.7      no tar-split, but a digest that `migrate` gives it too: the tar of crate::tar::branchtar
//! otherwise             a tar of our own (crate::tar::viewtar): another digest, so another image id
//! ```

use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use crate::ids::{DiffId, LayerId};
use crate::layer::view::Chain;
use crate::store::{Content, Store};
use crate::tar::branchtar;
use crate::tar::digest;
use crate::tar::split::DiffIdWriter;
use crate::tar::viewtar::{self, Shift};
use crate::tar::writer::TarWriter;
use std::collections::BTreeMap;
use std::io::{Write, sink};

/// How a layer's tar is made.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// From this tar-split, a path below ROOT.
    TarSplit(String),
    /// As `migrate` makes it for a layer of Docker up to 1.7.
    Branch,
    /// What the layer adds to the one below it.
    Added,
}

/// A layer, measured.
#[derive(Clone, Debug)]
pub struct Layer {
    /// In the driver's folders.
    pub id: LayerId,
    /// Of its tar.
    pub diff: DiffId,
    /// Of its tar.
    pub bytes: u64,
    /// The digest that the store has for it, where the tar that had it cannot be made again.
    pub instead_of: Option<DiffId>,
    /// Sockets, which no tar can hold.
    pub sockets: u64,
    source: Source,
}

/// Reads layers of one store.
pub struct Layers<'s> {
    root: &'s Dir,
    store: &'s Store,
    splits: BTreeMap<&'s LayerId, &'s Content>,
    owners: Shift,
}

impl<'s> Layers<'s> {
    /// Of the store that was read from `root`.
    pub fn new(root: &'s Dir, store: &'s Store) -> Layers<'s> {
        Layers { root, store, splits: store.tar_splits(), owners: owners(root) }
    }

    /// Finds out a layer's length and digest: from its tar-split, or else by making its tar.
    pub fn measure(&self, id: &LayerId) -> Result<Layer> {
        self.measured(id).map_err(|e| e.on(format!("layer {}", id.short())))
    }

    fn measured(&self, id: &LayerId) -> Result<Layer> {
        let found = self.store.layers.get(id).ok_or_else(|| Error::corrupt("it is not in the store"))?;
        if let Some(why) = &found.broken {
            return Err(Error::corrupt(why.clone()));
        }
        let source = match (self.splits.get(id), found.diff) {
            (Some(Content::Same(path)), Some(diff)) => {
                let bytes = digest::length(self.root.open_file(path)?)?;
                let source = Source::TarSplit(path.clone());
                return Ok(Layer { id: id.clone(), diff, bytes, instead_of: None, sockets: 0, source });
            }
            (Some(Content::TarSplitOf(_)), _) => Source::Branch,
            _ => Source::Added,
        };
        let mut layer = Layer { id: id.clone(), diff: EMPTY, bytes: 0, instead_of: None, sockets: 0, source };
        let mut counted = DiffIdWriter::new(Counted(0));
        layer.sockets = self.make(&layer, &mut counted)?;
        let (counted, diff) = counted.finish();
        (layer.bytes, layer.diff) = (counted.0, diff);
        layer.instead_of = found.diff.filter(|recorded| *recorded != diff);
        Ok(layer)
    }

    /// Writes the layer's tar. An error at its end, too, means that nothing of it may be used. Of a `large` layer the digest has a thread of its
    /// own.
    pub fn write(&self, layer: &Layer, large: bool, out: &mut dyn Write) -> Result<()> {
        let mut hashed = DiffIdWriter::with_thread(out, large);
        self.make(layer, &mut hashed).map_err(|e| e.on(format!("layer {}", layer.id.short())))?;
        if hashed.finish().1 == layer.diff {
            return Ok(());
        }
        let e = match layer.source {
            Source::TarSplit(_) => Error::corrupt(format!(
                "layer {}: its tar has another digest than recorded",
                layer.id.short()
            ))
            .hint("its tar-split.json.gz or its record in layerdb is damaged; `unaufs verify --level full` tells more"),
            _ => Error::new(Kind::Failed, format!("layer {} changed while it was read", layer.id.short()))
                .hint("stop what still writes into the store, and export again"),
        };
        Err(e)
    }

    /// Makes the tar, and counts the sockets that are not in it.
    fn make(&self, layer: &Layer, out: &mut dyn Write) -> Result<u64> {
        let chain = self.store.chain(self.root, &layer.id)?;
        match &layer.source {
            Source::TarSplit(path) => {
                digest::rebuild(&chain, self.root.open_file(path)?, out)?;
                Ok(0)
            }
            Source::Branch => {
                let mut tar = TarWriter::new(out);
                branchtar::append(&chain.branch(0)?.dir, &mut tar)?;
                tar.finish()?;
                Ok(0)
            }
            Source::Added => {
                let found = self.store.layers.get(&layer.id);
                let below = match found.and_then(|l| l.parent()) {
                    Some(parent) => Some(self.store.chain(self.root, parent)?),
                    None => None,
                };
                let mut tar = TarWriter::new(out);
                let counts = viewtar::append(&chain, below.as_ref(), self.owners, &mut tar)?;
                tar.finish()?;
                Ok(counts.sockets)
            }
        }
    }

    /// Writes all that a layer and those below it show as one tar, as `docker export` does. Returns the number of sockets left out.
    pub fn flatten(&self, id: &LayerId, out: &mut dyn Write) -> Result<u64> {
        self.flattened(&self.store.chain(self.root, id)?, out)
    }

    /// The same of a container's layers as the driver alone knows them.
    pub fn flatten_on_disk(&self, layer: &crate::store::Layer, out: &mut dyn Write) -> Result<u64> {
        let chain = crate::store::driver::chain(self.root, self.store.written_by, &self.store.layers, layer)?;
        self.flattened(&chain, out)
    }

    fn flattened(&self, chain: &Chain, out: &mut dyn Write) -> Result<u64> {
        let mut tar = TarWriter::new(out);
        let counts = viewtar::append(chain, None, self.owners, &mut tar)?;
        tar.finish()?;
        Ok(counts.sockets)
    }
}

/// Stands for a digest that is not known yet.
const EMPTY: DiffId = DiffId(crate::ids::Sha256([0; 32]));

/// In `ROOT/<uid>.<gid>` files have the host's numbers (FORMATS 0); Docker takes the container's into its tars.
fn owners(root: &Dir) -> Shift {
    let name = root.label().file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let parsed = name.split_once('.').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    parsed.map_or(Shift::default(), |(uid, gid)| Shift { uid, gid })
}

/// Counts what is written.
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        crate::export::stopped()?;
        self.0 += bytes.len() as u64;
        sink().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
