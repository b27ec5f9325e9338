//! What can be read of one container or image, on a damaged root too: as many of its layers as there are, and the names of the others.
//!
//! ```text
//! which layers     the store's list ─ none? ─▶ aufs/layers, lower ─ none? ─▶ the init layer's list ─ none? ─▶ the image's configuration,
//!                  layerdb, graph/
//! each of them     opened, or missing with the reason
//! ```

use super::volumes::{self, Mounted};
use crate::disk::Dir;
use crate::docker::driver::{Role, Target, WrittenBy};
use crate::docker::json;
use crate::error::{Error, Kind, Result};
use crate::ids::{ChainId, ImageId, LayerId};
use crate::layer::view::Chain;
use crate::store::content::{SMALL, diff_ids, text_of};
use crate::store::{Container, Generation, Image, Store, aufs, driver, native};
use crate::tar::viewtar::Shift;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A list of at most 128 layers.
const LIST: u64 = 1 << 20;

/// Something that could not be read, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// For people.
    pub what: String,
    /// For people.
    pub why: String,
}

/// The layers that are left.
#[derive(Debug)]
pub struct Remains {
    /// The container or image, for messages.
    pub subject: String,
    /// Those that can be opened, nearest first.
    pub chain: Chain,
    /// All that there should be, nearest first.
    pub layers: Vec<LayerId>,
    /// Those that can't, and what else is unknown of the stack.
    pub missing: Vec<Missing>,
    /// What the container's users are on the host.
    pub owners: Shift,
    /// What was mounted in the container.
    pub mounts: Vec<Mounted>,
}

impl Remains {
    /// What is left of a container. `root` has its layers; `home` is ROOT, which differs from it where a migration has parked them.
    pub fn of_container(root: &Dir, home: &Dir, store: &Store, c: &Container) -> Result<Remains> {
        let record = Record::read(root, store, c);
        let own = c.layer.clone().or(record.layer.clone()).ok_or_else(|| {
            let why = c.broken.clone().unwrap_or_else(|| "nothing names its writable layer".to_owned());
            Error::new(Kind::Failed, format!("{} can't be read: {why}", c.subject()))
        })?;
        let mut search = Search { root, store, missing: Vec::new() };
        let mut layers = search.below(c, &own, &record);
        layers.insert(0, own);
        let found = search.opened(c.subject(), Role::Container, layers)?;
        Ok(Remains { mounts: volumes::of(home, c), ..found })
    }

    /// What is left of an image.
    pub fn of_image(root: &Dir, store: &Store, image: &Image) -> Result<Remains> {
        let mut search = Search { root, store, missing: Vec::new() };
        let layers = search.of_image(image);
        let name = image.tags.first().map_or_else(String::new, |tag| format!(" ({})", crate::text::text(tag)));
        search.opened(format!("image {}{name}", image.id.short()), Role::Image, layers)
    }

    /// The stack below the topmost layer: what a container was made from.
    pub fn below(&self, root: &Dir, store: &Store) -> Chain {
        let Some((_, lowers)) = self.layers.split_first() else { return Chain { branches: Vec::new() } };
        let role = if lowers.first().is_some_and(LayerId::is_init) { Role::Init } else { Role::Image };
        driver::rest(root, store.written_by, &store.layers, role, lowers).chain
    }

    /// Is the topmost layer there?
    pub fn has_own(&self) -> bool {
        self.chain.branches.first().is_some_and(|b| b.id.as_ref() == self.layers.first())
    }
}

/// Looks for the layers of one container or image.
struct Search<'a> {
    root: &'a Dir,
    store: &'a Store,
    missing: Vec<Missing>,
}

impl Search<'_> {
    /// The layers below a container's own, nearest first, from the first source that knows some.
    fn below(&mut self, c: &Container, own: &LayerId, record: &Record) -> Vec<LayerId> {
        let (root, store) = (self.root, self.store);
        if let Some(layer) = store.layers.get(own).filter(|l| !l.lowers.is_empty()) {
            return layer.lowers.clone();
        }
        let own_list = listed(root, store.written_by, own);
        if !own_list.is_empty() {
            return own_list;
        }
        let init = c.init.iter().chain(&record.init).next();
        let init_list = init.map(|id| listed(root, store.written_by, id)).unwrap_or_default();
        let image = if init_list.is_empty() { self.image_below(c, record) } else { init_list };
        init.cloned().into_iter().chain(image).collect()
    }

    /// The layers of a container's image, nearest first.
    fn image_below(&mut self, c: &Container, record: &Record) -> Vec<LayerId> {
        let mut layers = match ImageId::parse(&c.image).ok().map(|id| (id, self.store.images.get(&id))) {
            Some((_, Some(image))) => self.of_image(image),
            Some((id, None)) => self.by_config(id),
            None => by_graph(self.root, &c.image),
        };
        if layers.is_empty() {
            layers = self.by_parents(record.parent);
        }
        if layers.is_empty() && (record.parent.is_some() || !c.image.is_empty()) {
            let why = "neither the driver nor Docker's metadata name them";
            self.missing.push(Missing { what: "the layers of the image".to_owned(), why: why.to_owned() });
        }
        layers
    }

    /// An image's layers, nearest first.
    fn of_image(&mut self, image: &Image) -> Vec<LayerId> {
        match image.layers.is_empty() {
            true => self.by_config(image.id),
            false => image.layers.iter().rev().cloned().collect(),
        }
    }

    /// By the digests in an image's configuration: each names its record in layerdb, whatever is wrong with the others.
    fn by_config(&mut self, image: ImageId) -> Vec<LayerId> {
        let path = format!("image/{}/imagedb/content/sha256/{}", self.store.written_by, image.hex());
        let Ok(diffs) = self.root.read(path, json::LIMIT).and_then(|bytes| diff_ids(&bytes)) else { return Vec::new() };
        ChainId::stack(&diffs).into_iter().rev().filter_map(|chain| self.recorded(chain)).collect()
    }

    /// From one record of layerdb to the next.
    fn by_parents(&mut self, top: Option<ChainId>) -> Vec<LayerId> {
        let by = self.store.written_by;
        let (mut out, mut seen, mut at) = (Vec::new(), BTreeSet::new(), top);
        // damaged records can name each other as parents
        while let Some(chain) = at.take_if(|chain| seen.len() < MOST && seen.insert(*chain)) {
            out.extend(self.recorded(chain));
            let parent = small(self.root, &format!("image/{by}/layerdb/sha256/{}/parent", chain.hex()));
            at = parent.and_then(|t| ChainId::parse(&t).ok());
        }
        out
    }

    /// The directory of a layer, by its record in layerdb.
    fn recorded(&mut self, chain: ChainId) -> Option<LayerId> {
        let by = self.store.written_by;
        let path = format!("layerdb/sha256/{}/cache-id", chain.hex());
        let id = small(self.root, &format!("image/{by}/{path}")).and_then(|text| LayerId::parse(&text).ok());
        if id.is_none() {
            let what = format!("the image layer with the chain id {}", chain.short());
            self.missing.push(Missing { what, why: format!("image/{by}/{path} can't be read") });
        }
        id
    }

    /// Opens what is there of these layers.
    fn opened(self, subject: String, role: Role, layers: Vec<LayerId>) -> Result<Remains> {
        let Search { root, store, mut missing } = self;
        let rest = driver::rest(root, store.written_by, &store.layers, role, &layers);
        missing.extend(rest.missing.into_iter().map(|(id, e)| {
            let what = match layers.first() == Some(&id) && role == Role::Container {
                true => format!("the writable layer {}", id.short()),
                false if id.is_init() => format!("the init layer {}", id.short()),
                false => format!("image layer {}", id.short()),
            };
            let gone = e.errno() == Some(Errno::NOENT);
            let why = if gone { format!("{} is missing", store.written_by.directory(&id)) } else { e.chain() };
            Missing { what, why }
        }));
        if rest.chain.branches.is_empty() {
            let why: Vec<String> = missing.iter().map(|m| format!("{}: {}", m.what, m.why)).collect();
            let why = if why.is_empty() { "it has no layers".to_owned() } else { why.join("; ") };
            return Err(Error::new(Kind::Failed, format!("nothing is left of {subject}: {why}")));
        }
        Ok(Remains { subject, chain: rest.chain, layers, missing, owners: store.owners(root), mounts: Vec::new() })
    }
}

/// What `layerdb/mounts` says of a container, as far as it can be read.
#[derive(Default)]
struct Record {
    layer: Option<LayerId>,
    init: Option<LayerId>,
    parent: Option<ChainId>,
}

impl Record {
    fn read(root: &Dir, store: &Store, c: &Container) -> Record {
        let text = |name: &str| small(root, &format!("image/{}/layerdb/mounts/{}/{name}", store.written_by, c.id));
        let layer = |name: &str| text(name).and_then(|t| LayerId::parse(&t).ok());
        let mut out = Record {
            layer: layer("mount-id"),
            init: layer("init-id"),
            parent: text("parent").and_then(|t| ChainId::parse(&t).ok()),
        };
        // up to Docker 1.9 a container's layer had the container's id
        if out.layer.is_none() && store.generation == Generation::Graph {
            out.layer = LayerId::parse(c.id.as_str()).ok();
            out.init = LayerId::parse(&format!("{}-init", c.id)).ok();
        }
        out
    }
}

/// A small file of the metadata, if it can be read.
fn small(root: &Dir, path: &str) -> Option<String> {
    text_of(&root.read(path, SMALL).ok()?).ok().filter(|text| !text.is_empty())
}

/// The driver's own list of the layers below one.
fn listed(root: &Dir, by: WrittenBy, id: &LayerId) -> Vec<LayerId> {
    let list = match by {
        WrittenBy::Aufs => root.read(format!("aufs/layers/{id}"), LIST).and_then(|text| aufs::parse_layers(&text)),
        WrittenBy::Living(Target::Overlay2) => native::listed(root, id),
        WrittenBy::Living(_) => return Vec::new(),
    };
    // where it can't be read there are other sources
    list.unwrap_or_default()
}

/// No driver stacks more.
const MOST: usize = 500;

#[derive(Deserialize)]
struct V1 {
    #[serde(default)]
    parent: Option<String>,
}

/// Up to Docker 1.9 an image is a layer of the same id, and names its parent.
fn by_graph(root: &Dir, image: &str) -> Vec<LayerId> {
    let (mut out, mut at) = (Vec::<LayerId>::new(), LayerId::parse(image).ok());
    while let Some(id) = at.take_if(|id| out.len() < MOST && !out.contains(id)) {
        let bytes = root.read(format!("graph/{id}/json"), json::LIMIT).ok();
        let v1 = bytes.and_then(|b| serde_json::from_slice::<V1>(&b).ok());
        out.push(id);
        at = v1.and_then(|v| v.parent).and_then(|p| LayerId::parse(&p).ok());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_name_each_other_come_to_an_end() {
        let t = tempfile::tempdir().expect("temp dir");
        let root = Dir::open_named(t.path()).expect("open");
        let chains = ["a", "b"].map(|c| c.repeat(64));
        for (chain, parent) in [(&chains[0], &chains[1]), (&chains[1], &chains[0])] {
            let at = t.path().join("image/aufs/layerdb/sha256").join(chain);
            std::fs::create_dir_all(&at).expect("mkdir");
            std::fs::write(at.join("parent"), format!("sha256:{parent}")).expect("a file");
        }
        let top = ChainId::parse(&format!("sha256:{}", chains[0])).expect("a chain");
        let store = Store::empty(Generation::Content);
        let mut search = Search { root: &root, store: &store, missing: Vec::new() };
        assert!(search.by_parents(Some(top)).is_empty());
        assert_eq!(search.missing.len(), 2, "each is named once");
    }
}
