//! A graph store: Docker up to 1.9 (FORMATS 8). Gives what Docker 1.10 made of such a store at its first start.
//!
//! ```text
//! ROOT/graph/<id>/{json,…}    directories ─ lineage ─ digest ─ convert ─▶ images.rs     ┐
//! ROOT/repositories-aufs      references ───────────────────────────▶ images.rs     ├▶ Store
//! ROOT/linkgraph.db           linkgraph ────────────────────────────▶ containers.rs │
//! ROOT/containers/<id>/       ──────────────────────────────────────▶ containers.rs ┘
//! ROOT/volumes, ROOT/vfs/dir  stay; the latter holds volumes from before 1.7, never layers (FORMATS 8.6)
//! ```
//!
//! An image id is the digest of bytes that Docker printed, so `docker::gojson`, `docker::gotime`, [`container_config`] and [`v1`] print as it
//! did. `image/aufs` may be there too, begun by a Docker from 1.10 on: then only the rest is converted.

pub mod container_config;
pub mod containers;
pub mod convert;
pub mod digest;
pub mod dirs;
pub mod hosts;
pub mod images;
pub mod lineage;
pub mod linkgraph;
pub mod references;
pub mod v1;

use super::containers::Reader;
use super::{Generation, Store, aufs, content, lost_images, orphans};
use crate::checks::Finding;
use crate::disk::Dir;
use crate::error::{Error, Result};
use crate::ids::{LayerId, is_hex64};
use std::fmt;

/// The tags, and where Docker from 1.10 on has them.
const TAGS: &str = "repositories-aufs";
const NEW_TAGS: &str = "image/aufs/repositories.json";
/// The mark of a Docker from 1.10 on that it has converted the tags (FORMATS 8.3).
const TAGS_DONE: &str = ".migration-v1-tags";

/// Is there anything that Docker 1.10 or later has not converted, or has converted with a result that is gone? Docker leaves `graph/` and the rest in place.
pub fn to_convert(root: &Dir) -> Result<bool> {
    let tags = || Ok(root.has(TAGS)? && !(root.has(TAGS_DONE)? && root.has(NEW_TAGS)?));
    Ok(images::left_to_convert(root)? || containers::left_to_convert(root)? || tags()?)
}

/// Reads the whole store.
pub fn read(root: &Dir) -> Result<(Store, Vec<Finding>)> {
    let mut findings = Vec::new();
    let driver = aufs::read(root, &mut findings)?;
    let mut store = Store::empty(Generation::Graph);
    let mut chains = content::read_image_dir(root, &driver, &mut store, &mut findings)?;
    let images = images::read(root, &driver, &mut chains, &mut store, &mut findings)?;
    let reader = Reader { root, driver: &driver, chains: &chains, store: &mut store, findings: &mut findings };
    containers::read(reader, &images)?;
    lost_images::name(&store, &mut findings);
    // a container may be based on the directory of a layer that is there twice: then that directory moves too
    store.orphans.retain(|id| !store.layers.keys().any(|l| l.as_str() == id));
    orphans::find(root, &driver, &mut store, &mut findings)?;
    content::find_caches(root, &mut store, &mut findings)?;
    Ok((store, findings))
}

/// The id of an image before Docker 1.10, and of its layer: the name of its directories in `graph/` and `aufs/diff`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V1Id(LayerId);

impl V1Id {
    /// Accepts 64 lower-case hex digits.
    pub fn parse(s: &str) -> Result<V1Id> {
        match is_hex64(s) {
            true => LayerId::parse(s).map(V1Id),
            false => Err(Error::corrupt(format!("{:?} isn't an image ID", s.chars().take(80).collect::<String>()))),
        }
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The first 12 of them, as `docker images` printed them.
    pub fn short(&self) -> String {
        self.0.short()
    }

    /// The image's layer.
    pub fn layer(&self) -> &LayerId {
        &self.0
    }
}

impl fmt::Display for V1Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for V1Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
