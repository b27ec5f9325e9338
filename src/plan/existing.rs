//! A store of the target that is at ROOT already, as Docker left it there.
//!
//! ```text
//! ROOT/overlay2/<id>/{diff,link,lower,committed}   ROOT/overlay2/l/<LINK>
//! ROOT/image/overlay2/{layerdb,imagedb,distribution,repositories.json}
//! ROOT/containers/<id>                             those whose Driver is the target's
//! ```
//!
//! That is the usual case: Docker 24 and 28 make an empty one at their first start next to `aufs/` (FORMATS 11.30), and a user who
//! pulled images again has a filled one. Nothing is decided here; that is [`super::merge`].

use crate::disk::{Dir, FileType, Meta};
use crate::docker::driver::Target;
use crate::error::{Error, Result};
use crate::ids::{ChainId, ContainerId, ImageId, LayerId};
use crate::store::Store;
use crate::store::content::{SMALL, Salvaged, layer_of_record, salvage};
use crate::store::repositories::{Repositories, parse_repositories};
use std::collections::{BTreeMap, BTreeSet};

/// What is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    #[default]
    Absent,
    /// Directories without a layer: nothing would be lost with them. Parked.
    Empty,
    /// Layers or images. Merged.
    Populated,
}

/// One of its layers that aufs has too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its directory.
    pub id: LayerId,
    /// overlay2's short name.
    pub link: String,
    /// overlay2's list of layers below, unchanged.
    pub lower: String,
    /// Another layer is based on it and has marked it, as overlay2 wants; the others want no mark.
    pub committed: bool,
}

/// The store.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    /// Is there one?
    pub state: State,
    /// Its top directory, if it is to be filled further: new layers get the modes that it has.
    pub top: Option<Meta>,
    /// Directories of layers, by name, whatever they are.
    pub directories: BTreeSet<String>,
    /// Names in `overlay2/l`.
    pub links: BTreeSet<String>,
    /// Layers that aufs has too, or why that layer cannot be used.
    pub layers: BTreeMap<ChainId, Result<Layer, String>>,
    /// Images.
    pub images: BTreeSet<ImageId>,
    /// How many layers layerdb lists.
    pub chains: usize,
    /// Tags and digests; `None` if the file cannot be read.
    pub repositories: Option<Repositories>,
    /// Why not all of these could be read.
    pub lost_tags: Option<String>,
    /// Containers with a record in `layerdb/mounts`.
    pub mounts: BTreeSet<String>,
    /// Containers whose Driver is the target, with their names.
    pub containers: BTreeMap<ContainerId, String>,
    /// Every file below `image/<driver>`.
    pub files: BTreeSet<String>,
    /// A half-made store of another tool.
    pub strangers: Vec<String>,
}

/// Names in `overlay2/` that Docker makes again at each start (FORMATS 2.1).
pub fn is_drivers_own(name: &[u8]) -> bool {
    name == b"l" || name == b"backingFsBlockDev"
}

/// Reads it. What cannot be parked or merged because it is no directory is named by the checks of the host.
pub fn read(root: &Dir, to: Target, store: &Store) -> Result<Existing> {
    let mut out = Existing::default();
    for name in [format!("{to}.temp"), format!("{to}.tmp")] {
        if root.has(&name)? {
            out.strangers.push(name);
        }
    }
    let directory = |path: &str| -> Result<bool> { Ok(root.stat_opt(path)?.is_some_and(|m| m.is_dir())) };
    let (home, image) = (directory(to.name())?, directory("image")? && directory(&format!("image/{to}"))?);
    if home && let Some(dir) = root.open_opt(to.home())? {
        let names = dir.list()?.into_iter().filter(|(n, _)| !is_drivers_own(n));
        out.directories = names.map(|(n, _)| String::from_utf8_lossy(&n).into_owned()).collect();
    }
    if to == Target::Overlay2
        && home
        && let Some(l) = root.open_opt("overlay2/l")?
    {
        out.links = l.list()?.into_iter().map(|(n, _)| String::from_utf8_lossy(&n).into_owned()).collect();
    }
    let own = store.containers.values().filter(|c| c.foreign && c.driver == to.name());
    out.containers = own.map(|c| (c.id.clone(), c.name.clone())).collect();
    match image {
        true => read_metadata(root, to, store, &mut out)?,
        // directories without a record: nothing clashes
        false => out.repositories = Some(Repositories::new()),
    }
    // records of layers whose directories are all gone are of no use to any Docker; an image may have no layer at all
    let populated = !out.directories.is_empty() || (out.chains == 0 && !out.images.is_empty());
    out.state = match (populated, home || image) {
        (true, _) => State::Populated,
        (false, true) => State::Empty,
        (false, false) => State::Absent,
    };
    if out.state == State::Populated {
        out.top = root.stat_opt(to.name())?.filter(|m| m.is_dir());
    }
    Ok(out)
}

fn read_metadata(root: &Dir, to: Target, store: &Store, out: &mut Existing) -> Result<()> {
    let image = root.open(format!("image/{to}"))?;
    let list = |path: &str| -> Result<Vec<String>> {
        match image.open_opt(path)? {
            Some(d) => Ok(d.list()?.into_iter().map(|(n, _)| String::from_utf8_lossy(&n).into_owned()).collect()),
            None => Ok(Vec::new()),
        }
    };
    let ours: BTreeSet<ChainId> = store.layers.values().filter_map(|l| l.chain).collect();
    for name in list("layerdb/sha256")? {
        let Ok(chain) = ChainId::from_hex(&name) else { continue };
        out.chains += 1;
        if ours.contains(&chain) {
            let record = image.open("layerdb/sha256")?;
            let layer = layer_of_record(&record, chain).and_then(|id| read_layer(root, to, id));
            out.layers.insert(chain, layer.map_err(|e| e.chain()));
        }
    }
    out.images = list("imagedb/content/sha256")?.iter().filter_map(|n| ImageId::from_hex(n).ok()).collect();
    out.mounts = list("layerdb/mounts")?.into_iter().collect();
    out.repositories = match image.read_opt("repositories.json", crate::docker::json::LIMIT) {
        Ok(None) => Some(Repositories::new()),
        // Docker doesn't start on one that it can't read, so what is whole of it is written again
        Ok(Some(bytes)) => {
            let Salvaged { read, lost } = salvage(&bytes, parse_repositories);
            out.lost_tags = lost;
            Some(read)
        }
        Err(_) => None,
    };
    let mut todo = vec![String::new()];
    while let Some(path) = todo.pop() {
        let dir = image.open(&path)?;
        for (name, kind) in dir.list()? {
            // Docker's own names are text
            let Ok(name) = String::from_utf8(name) else { continue };
            let here = if path.is_empty() { name } else { format!("{path}/{name}") };
            match kind {
                FileType::Directory => todo.push(here),
                FileType::RegularFile => drop(out.files.insert(here)),
                _ => {}
            }
        }
    }
    Ok(())
}

fn read_layer(root: &Dir, to: Target, id: LayerId) -> Result<Layer> {
    let directory = format!("{}/{id}", to.home());
    let Some(dir) = root.open_opt(&directory)? else {
        return Err(Error::corrupt(format!("its directory {directory} is missing")));
    };
    if to != Target::Overlay2 {
        if !root.stat_opt(to.tree(&id))?.is_some_and(|m| m.is_dir()) || (to == Target::Btrfs && !dir.is_subvolume()?) {
            return Err(Error::corrupt(format!("its directory {directory} isn't a layer of {to}")));
        }
        return Ok(Layer { id, link: String::new(), lower: String::new(), committed: true });
    }
    let text = |name: &str| -> Result<Option<String>> {
        dir.read_opt(name, SMALL)?
            .map(|b| String::from_utf8(b).map_err(|e| Error::corrupt(format!("its {name}")).with_source(e)))
            .transpose()
    };
    let link = text("link")?.unwrap_or_default();
    // the file is not trimmed by Docker, and an empty one is a known remainder of a crash (FORMATS 2.1)
    if link.is_empty() || link.bytes().any(|c| !c.is_ascii_alphanumeric()) {
        return Err(Error::corrupt(format!("its {directory}/link is empty or wrong")));
    }
    let points = match root.open("overlay2/l")?.try_stat(link.as_bytes()) {
        Ok(m) if m.kind == FileType::Symlink => root.open("overlay2/l")?.read_link(link.as_bytes())?,
        _ => Vec::new(),
    };
    if points != format!("../{id}/diff").as_bytes() || !dir.stat_opt("diff")?.is_some_and(|m| m.is_dir()) {
        return Err(Error::corrupt(format!("overlay2/l/{link} doesn't lead to its diff directory")));
    }
    Ok(Layer { id, link, lower: text("lower")?.unwrap_or_default(), committed: dir.has("committed")? })
}
