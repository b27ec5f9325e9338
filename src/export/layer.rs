//! One layer of an archive: where its tar comes from, and how long it is, which its header must say before its first byte.
//!
//! ```text
//! tar-split is there    the tar that Docker had, to the byte; the recorded digest is checked while it passes
//! Docker up to 1.7      no tar-split, but a digest that `migrate` gives it too: the tar of crate::tar::branchtar
//! otherwise             a tar of our own (crate::tar::viewtar): another digest, so another image id
//! ```

use crate::disk::Dir;
use crate::docker::driver::Role;
use crate::error::{Error, Kind, Result};
use crate::ids::{DiffId, LayerId};
use crate::layer::view::Chain;
use crate::store::{self, Content, Store};
use crate::tar::branchtar;
use crate::tar::digest;
use crate::tar::split::DiffIdWriter;
use crate::tar::viewtar::{self, Form, Shift};
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

/// What is not in a layer's tar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Sockets, which no tar can hold.
    pub sockets: u64,
    /// Symlinks that lost their extended attributes.
    pub bare_links: u64,
}

impl LeftOut {
    /// For people; nothing where nothing was left out.
    pub fn notes(all: impl Iterator<Item = LeftOut>) -> Vec<String> {
        let (sockets, links) = all.fold((0, 0), |(s, l), n| (s + n.sockets, l + n.bare_links));
        let plural = |n: u64, what: &str| crate::text::plural(n, what);
        let mut out = Vec::new();
        if sockets > 0 {
            out.push(format!("{} left out: a tar can't hold them", plural(sockets, "socket")));
        }
        if links > 0 {
            out.push(format!(
                "extended attributes of {} left out: Docker 28 can't load them",
                plural(links, "symlink")
            ));
        }
        out
    }
}

/// A layer, measured.
#[derive(Clone, Debug)]
pub struct Layer {
    /// In the driver's directories.
    pub id: LayerId,
    /// Of its tar.
    pub diff: DiffId,
    /// Of its tar.
    pub bytes: u64,
    /// The digest that the store has for it, where the tar that had it cannot be made again.
    pub instead_of: Option<DiffId>,
    /// What a tar leaves out.
    pub left_out: LeftOut,
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
        Layers { root, store, splits: store.tar_splits(), owners: store.owners(root) }
    }

    /// Finds out a layer's length and digest: from its tar-split, or else by making its tar.
    pub fn measure(&self, id: &LayerId) -> Result<Layer> {
        self.measured(id).map_err(|e| e.on(format!("layer {}", id.short())))
    }

    fn measured(&self, id: &LayerId) -> Result<Layer> {
        let found = self.store.layers.get(id).ok_or_else(|| Error::corrupt("it isn't in the store"))?;
        if let Some(why) = &found.broken {
            return Err(Error::corrupt(why.clone()));
        }
        let layer = |diff, bytes, source| {
            let (id, instead_of, left_out) = (id.clone(), None, LeftOut::default());
            Layer { id, diff, bytes, instead_of, left_out, source }
        };
        let mut layer = match (self.splits.get(id), found.diff) {
            (Some(Content::Same(path)), Some(diff)) => {
                let bytes = digest::length(self.root.open_file(path)?)?;
                return Ok(layer(diff, bytes, Source::TarSplit(path.clone())));
            }
            (Some(Content::TarSplitOf(_)), _) => layer(EMPTY, 0, Source::Branch),
            _ => layer(EMPTY, 0, Source::Added),
        };
        let mut counted = DiffIdWriter::new(Counted(0));
        layer.left_out = self.make(&layer, &mut counted)?;
        let (counted, diff) = counted.finish();
        (layer.bytes, layer.diff) = (counted.0, diff);
        layer.instead_of = found.diff.filter(|recorded| *recorded != diff);
        Ok(layer)
    }

    /// Writes the layer's tar. An error at its end, too, means that none of it may be used. Of a `large` layer the digest has a thread of its
    /// own.
    pub fn write(&self, layer: &Layer, large: bool, out: &mut dyn Write) -> Result<()> {
        let mut hashed = DiffIdWriter::with_thread(out, large);
        self.make(layer, &mut hashed).map_err(|e| e.on(format!("layer {}", layer.id.short())))?;
        if hashed.finish().1 == layer.diff {
            return Ok(());
        }
        let e = match layer.source {
            Source::TarSplit(_) => Error::corrupt(format!(
                "layer {}: the rebuilt tar doesn't have the recorded digest",
                layer.id.short()
            ))
            .hint(
                "Its tar-split.json.gz or its record in layerdb is damaged. `unaufs verify --level full` shows details.",
            ),
            _ => Error::new(Kind::Failed, format!("layer {} changed while it was read", layer.id.short()))
                .hint("Stop the program that writes into the store, then export again."),
        };
        Err(e)
    }

    /// An error if the layer's tar can't be made, or has another digest.
    pub fn prove(&self, layer: &Layer) -> Result<()> {
        self.write(layer, false, &mut Counted(0))
    }

    /// Makes the tar, and counts what is not in it.
    fn make(&self, layer: &Layer, out: &mut dyn Write) -> Result<LeftOut> {
        let chain = self.store.chain(self.root, &layer.id)?;
        match &layer.source {
            Source::TarSplit(path) => {
                digest::rebuild(&chain, self.root.open_file(path)?, out)?;
                Ok(LeftOut::default())
            }
            Source::Branch => {
                let mut tar = TarWriter::new(out);
                branchtar::append(chain.branch(0)?.dir()?, &mut tar)?;
                tar.finish()?;
                Ok(LeftOut::default())
            }
            Source::Added => {
                let found = self.store.layers.get(&layer.id);
                let below = match found.and_then(|l| below(self.store, l)) {
                    Some(parent) => Some(self.store.chain(self.root, &parent)?),
                    None => None,
                };
                let mut tar = TarWriter::new(out);
                let form = Form { owners: self.owners, link_attributes: false };
                let counts = viewtar::append(&chain, below.as_ref(), form, &mut tar)?;
                tar.finish()?;
                Ok(LeftOut { sockets: counts.sockets, bare_links: counts.bare_links })
            }
        }
    }

    /// Writes all that a layer and those below it show as one tar, as `docker export` does.
    pub fn flatten(&self, id: &LayerId, out: &mut dyn Write) -> Result<LeftOut> {
        self.flattened(&self.store.chain(self.root, id)?, out)
    }

    /// The same of a container's layers as the driver alone knows them.
    pub fn flatten_on_disk(&self, layer: &store::Layer, out: &mut dyn Write) -> Result<LeftOut> {
        let chain = store::driver::chain(self.root, self.store.written_by, &self.store.layers, layer)?;
        self.flattened(&chain, out)
    }

    fn flattened(&self, chain: &Chain, out: &mut dyn Write) -> Result<LeftOut> {
        let mut tar = TarWriter::new(out);
        let counts = viewtar::append(chain, None, Form { owners: self.owners, link_attributes: true }, &mut tar)?;
        tar.finish()?;
        Ok(LeftOut { sockets: counts.sockets, bare_links: counts.bare_links })
    }
}

/// Represents a digest that is unknown yet.
const EMPTY: DiffId = DiffId(crate::ids::Sha256([0; 32]));

/// As many layers an image can have: `docker load` refuses more.
const MOST: usize = 125;

/// The image layers below a container that its image keeps, base first. The last of the image's own layers is the container's: where the
/// stack is full, it holds what the topmost layer of the old image held too.
pub fn kept(store: &Store, own: &store::Layer) -> Vec<LayerId> {
    let is_image = |id: &&LayerId| store.layers.get(id).is_some_and(|l| l.role == Role::Image);
    own.lowers.iter().filter(is_image).rev().take(MOST - 1).cloned().collect()
}

/// The layer to which another one adds. Between a container and its image is what Docker itself puts into each container: that is left
/// out, as `docker commit` does, unless the layers between have to be merged.
fn below(store: &Store, layer: &store::Layer) -> Option<LayerId> {
    let images = layer.lowers.iter().filter(|id| store.layers.get(id).is_some_and(|l| l.role == Role::Image)).count();
    match layer.role {
        Role::Container if images >= MOST => kept(store, layer).pop(),
        _ => layer.parent().cloned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Generation;

    /// A container on so many image layers, with an init layer between.
    fn store(images: usize) -> (Store, LayerId) {
        let mut store = Store::empty(Generation::Content);
        let id = |n: usize| LayerId::parse(&format!("{n:064x}")).expect("id");
        let own = id(1000);
        let init = LayerId::parse(&format!("{own}-init")).expect("id");
        // base first
        let mut lowers: Vec<LayerId> = Vec::new();
        let all = (0..images).map(|n| (id(n), Role::Image)).chain([(init, Role::Init), (own.clone(), Role::Container)]);
        for (id, role) in all {
            let layer = store::Layer::bare(id.clone(), role, lowers.iter().rev().cloned().collect(), None);
            store.layers.insert(id.clone(), layer);
            lowers.push(id);
        }
        (store, own)
    }

    #[test]
    fn a_containers_image_never_has_more_layers_than_docker_loads() {
        for (images, kept_layers, adds_to) in
            [(0, 0, "init"), (3, 3, "init"), (124, 124, "init"), (125, 124, "image"), (127, 124, "image")]
        {
            let (store, own) = store(images);
            let own = &store.layers[&own];
            let kept = kept(&store, own);
            assert_eq!(kept.len(), kept_layers, "{images}");
            assert!(kept.iter().enumerate().all(|(n, id)| id.as_str() == format!("{n:064x}")), "{images}: base first");
            let below = below(&store, own).expect("a layer below");
            match adds_to {
                "init" => assert!(below.as_str().ends_with("-init"), "{images}"),
                _ => assert_eq!(Some(&below), kept.last(), "{images}"),
            }
            assert!(kept.len() < MOST);
        }
    }
}
