//! What is in a dead store: images, layers, containers, and what is wrong with them.
//!
//! ```text
//! ROOT/image/aufs/…  containers/  aufs/     Docker 1.10 to 23   ─ content.rs ─┐
//! ROOT/graph/  repositories-aufs  aufs/     Docker up to 1.9    ─ graph/    ─┴▶ Store, Findings
//! ROOT/image/overlay2/…  containers/  overlay2/  a living driver ─ native.rs, content.rs ─▶ the same
//! ```
//!
//! Both generations give the same [`Store`]; nothing after this directory asks which one it was. One damaged object is a
//! [`Finding`] and a reason in its `broken`, never the end of the run.

pub mod absent;
pub mod aufs;
pub mod boot;
pub mod containers;
pub mod content;
pub mod driver;
pub mod graph;
pub mod lost_images;
pub mod native;
pub mod old_fields;
pub mod orphans;
pub mod probe;
pub mod replaced;
pub mod repositories;
pub mod stack;

use crate::checks::Finding;
use crate::disk::{Dir, FileType, mounts};
use crate::docker::driver::{Role, WrittenBy};
use crate::docker::json;
use crate::error::{Error, Kind, Result};
use crate::ids::{ChainId, ContainerId, DiffId, ImageId, LayerId, Sha256};
use crate::layer::view::Chain;
use crate::tar::viewtar::Shift;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Which Docker wrote the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generation {
    /// Docker from 1.10 on: `image/<driver>`.
    Content,
    /// Docker up to 1.9: `graph/`.
    Graph,
}

/// One layer of the aufs driver.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its directory in `aufs/diff`, kept in every target.
    pub id: LayerId,
    /// What it is for.
    pub role: Role,
    /// All layers below, nearest first.
    pub lowers: Vec<LayerId>,
    /// Its place in layerdb; `None` for the layers of containers.
    pub chain: Option<ChainId>,
    /// The digest of its tar.
    pub diff: Option<DiffId>,
    /// Is there a tar-split that reproduces that tar?
    pub tar_split: bool,
    /// `graph/<id>/layer` or `containers/<id>/rw` where `diff/<id>` is a symlink from before Docker 0.7 (FORMATS 1.1).
    pub moved_to: Option<String>,
    /// Why it cannot move.
    pub broken: Option<String>,
    /// What keeps it from moving, where that is another object.
    pub held_by: Option<Cause>,
}

impl Layer {
    /// A layer that has no place in layerdb, and nothing wrong with it.
    pub fn bare(id: LayerId, role: Role, lowers: Vec<LayerId>, moved_to: Option<String>) -> Layer {
        Layer { id, role, lowers, moved_to, chain: None, diff: None, tar_split: false, broken: None, held_by: None }
    }

    /// The damaged object that keeps it from moving, if it can't: another one, or the layer itself.
    pub fn cause(&self) -> Option<Cause> {
        let own = || self.broken.as_ref().map(|why| Cause::layer(self.id.short(), why.clone()));
        self.held_by.clone().or_else(own)
    }

    /// The layer directly below.
    pub fn parent(&self) -> Option<&LayerId> {
        self.lowers.first()
    }

    /// Its directory, below ROOT or below the place where ROOT's old directories are parked.
    pub fn source(&self) -> String {
        self.moved_to.clone().unwrap_or_else(|| format!("aufs/diff/{}", self.id))
    }
}

/// One image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The id under which a present-day Docker will show it.
    pub id: ImageId,
    /// The id that it had before Docker 1.10.
    pub old_id: Option<String>,
    /// `busybox:latest`.
    pub tags: Vec<String>,
    /// `busybox@sha256:…`.
    pub digests: Vec<String>,
    /// Its layers, base first.
    pub layers: Vec<LayerId>,
    /// Why it cannot move.
    pub broken: Option<String>,
    /// What keeps it from moving, where that is another object.
    pub held_by: Option<Cause>,
}

impl Image {
    /// One without a name and without layers, and nothing wrong with it.
    pub fn bare(id: ImageId) -> Image {
        Image { id, old_id: None, tags: vec![], digests: vec![], layers: vec![], broken: None, held_by: None }
    }
}

/// A damaged object that holds others back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cause {
    /// `layer` or `image`.
    pub kind: String,
    /// Its id, as much of it as the reports show.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Cause {
    /// A layer.
    pub fn layer(id: String, reason: impl Into<String>) -> Cause {
        Cause { kind: "layer".to_owned(), id, reason: reason.into() }
    }
}

/// The kind of a [`Lost`] that is the settings of a container, whose id it has.
pub const SETTINGS: &str = "settings";

/// The kind of a [`Lost`] that is a part of a layer, whose id it has. The layer moves without it.
pub const DAMAGED: &str = "damage";

/// Something that the old store had and that nothing can bring back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// `tags`, `tag`, `repository`, `links`, `settings`, `damage`, `file` or `container`.
    pub kind: String,
    /// The file that held it, or what it belonged to.
    pub id: String,
    /// What is wrong with that.
    pub reason: String,
    /// What it means.
    pub lost: String,
}

impl Lost {
    /// A container that has lost everything but its layer.
    pub fn container(id: &str, reason: &str) -> Lost {
        let lost = crate::text::sentence(containers::LEFT);
        Lost { kind: "container".to_owned(), id: id.to_owned(), reason: reason.to_owned(), lost }
    }
}

/// One container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its directory in `containers/`.
    pub id: ContainerId,
    /// Without the leading slash.
    pub name: String,
    /// Its image's id, as the config names it.
    pub image: String,
    /// The storage driver that it belongs to.
    pub driver: String,
    /// Marked as running: Docker did not end cleanly, or still runs.
    pub running: bool,
    /// Docker removes it when it ends, and so at the next start of Docker if it ran (`docker run --rm`).
    pub auto_remove: bool,
    /// Its writable layer.
    pub layer: Option<LayerId>,
    /// Its init layer.
    pub init: Option<LayerId>,
    /// It is another driver's: not ours to touch.
    pub foreign: bool,
    /// Why it cannot move.
    pub broken: Option<String>,
    /// What keeps it from moving, where that is another object.
    pub held_by: Option<Cause>,
    /// dockerd crashes on one of its files at every start, so its directory may not stay.
    pub crashes_docker: bool,
    /// It has no `NetworkSettings`, on which a new dockerd would crash.
    pub no_networks: bool,
    /// Its name has no slash in front, so Docker shows the container but doesn't find it by this name.
    pub no_slash: bool,
    /// Of one that cannot move: its writable layer as the driver alone knows it, where the list and all directories are whole.
    pub on_disk: Option<Layer>,
    /// The files of its directory to write again; the old ones are kept for the way back.
    pub files: Vec<ContainerFile>,
}

impl Container {
    /// It in the words of a finding.
    pub fn subject(&self) -> String {
        match self.name.as_str() {
            "" => format!("container {}", self.id.short()),
            name => format!("container {} ({})", crate::text::text(name), self.id.short()),
        }
    }
}

/// A file of a container's directory that gets a new content, or the same in a new file.
#[derive(Clone, Debug)]
pub struct ContainerFile {
    /// Its name in the container's directory.
    pub name: String,
    /// How to get the new content.
    pub content: Content,
}

/// Where the content of a metadata file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// The same bytes, mode, owner and times as this path below ROOT.
    Same(String),
    /// This JSON file below ROOT with top-level values replaced; `DRIVER` as a value represents the target's name.
    Edited(String, Vec<(String, String)>),
    /// These bytes (JSON, ids: always text).
    Text(String),
    /// A copy of a tar-split made by reading this layer's directory: where Docker up to 1.7 wrote none.
    TarSplitOf(LayerId),
}

impl Content {
    /// Sets further top-level values of a JSON file; of two values for one key the later one counts.
    pub fn change(&mut self, more: Vec<(String, String)>) -> Result<()> {
        match self {
            Content::Same(path) if !more.is_empty() => *self = Content::Edited(std::mem::take(path), more),
            Content::Edited(_, changes) => {
                changes.retain(|(key, _)| more.iter().all(|(other, _)| other != key));
                changes.extend(more);
            }
            Content::Text(text) => *text = json::set(text, &more)?,
            Content::Same(_) | Content::TarSplitOf(_) => {}
        }
        Ok(())
    }

    /// The bytes, with `driver` as the driver's name; none where they are made by reading a layer. `base` represents ROOT.
    pub fn bytes(&self, base: &Dir, driver: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        Ok(match self {
            Content::Text(t) => Some(t.clone().into_bytes()),
            Content::TarSplitOf(_) => None,
            Content::Same(from) => Some(base.read(from, limit)?),
            Content::Edited(from, changes) => Some(edited(&base.read(from, json::LIMIT)?, changes, driver)?),
        })
    }
}

/// A JSON file with these top-level values, and with `driver` as the driver's name.
pub fn edited(bytes: &[u8], changes: &[(String, String)], driver: &str) -> Result<Vec<u8>> {
    let value = |v: &String| if v == DRIVER { json::string(driver) } else { v.clone() };
    let values: Vec<(&String, String)> = changes.iter().map(|(k, v)| (k, value(v))).collect();
    Ok(json::into_bytes(json::set(&json::editable(bytes)?, &values)?, bytes))
}

/// Represents the target's name in [`Content::Edited`].
pub const DRIVER: &str = "\u{0}driver";

/// A file of `image/<driver>`.
#[derive(Clone, Debug)]
pub struct MetaFile {
    /// Below `image/<driver>/`.
    pub path: String,
    /// What goes in.
    pub content: Content,
    /// Belongs to this layer: left out when the layer stays behind.
    pub layer: Option<LayerId>,
    /// Belongs to this image: left out when the image stays behind.
    pub image: Option<ImageId>,
    /// Belongs to this container.
    pub container: Option<ContainerId>,
}

impl MetaFile {
    /// One that belongs to nothing in particular.
    pub fn new(path: String, content: Content) -> MetaFile {
        MetaFile { path, content, layer: None, image: None, container: None }
    }
}

/// Everything that was read.
#[derive(Clone, Debug)]
pub struct Store {
    /// Which Docker wrote it.
    pub generation: Generation,
    /// With which storage driver.
    pub written_by: WrittenBy,
    /// By driver id.
    pub layers: BTreeMap<LayerId, Layer>,
    /// By image id.
    pub images: BTreeMap<ImageId, Image>,
    /// By container id.
    pub containers: BTreeMap<ContainerId, Container>,
    /// The files of `image/<driver>` but for `repositories.json`.
    pub metadata: Vec<MetaFile>,
    /// `repositories.json`: repository, reference, image. In the order of the file.
    pub repositories: Vec<(String, Vec<(String, ImageId)>)>,
    /// Records of layerdb that can't be read, and why.
    pub bad_records: BTreeMap<ChainId, String>,
    /// What is lost with the metadata that held it.
    pub lost: Vec<Lost>,
    /// Layers of containers that can't move, as far as their records name them.
    pub claimed: BTreeSet<LayerId>,
    /// Directories in `aufs/diff` that belong to no image and no container.
    pub orphans: Vec<String>,
    /// Docker's directories that only make sense with the old driver (`buildkit/`, `builder/`).
    pub caches: Vec<String>,
}

impl Store {
    /// One with nothing in it.
    pub fn empty(generation: Generation) -> Store {
        Store {
            generation,
            written_by: WrittenBy::Aufs,
            layers: BTreeMap::new(),
            images: BTreeMap::new(),
            containers: BTreeMap::new(),
            metadata: Vec::new(),
            repositories: Vec::new(),
            bad_records: BTreeMap::new(),
            lost: Vec::new(),
            claimed: BTreeSet::new(),
            orphans: Vec::new(),
            caches: Vec::new(),
        }
    }

    /// The layer of a record of layerdb that is damaged or missing.
    pub fn bad_record(&self, chain: ChainId) -> Cause {
        let why = self.bad_records.get(&chain).cloned();
        Cause::layer(chain.short(), why.unwrap_or_else(|| "its record in layerdb is missing".to_owned()))
    }

    /// A layer and all below it, as the driver stacks them. `root` holds the driver's directory.
    pub fn chain(&self, root: &Dir, layer: &LayerId) -> Result<Chain> {
        let found = self.layers.get(layer);
        let layer = found.ok_or_else(|| Error::corrupt(format!("there is no layer {}", layer.short())))?;
        driver::chain(root, self.written_by, &self.layers, layer)
    }

    /// The container's user 0 as the host numbers it. A Docker with userns-remap makes the directories of image layers and init layers as that
    /// user, and never changes them; whatever the root is called, and wherever it is parked. Most of them decide: an odd one is damage.
    pub fn owners(&self, root: &Dir) -> Shift {
        let mut found: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        for layer in self.layers.values().filter(|l| l.role != Role::Container && l.broken.is_none()) {
            // a layer that cannot be read is named when it is measured
            let meta = self.chain(root, &layer.id).and_then(|chain| chain.branch(0)?.dir()?.meta());
            if let Ok(m) = meta {
                *found.entry((m.uid, m.gid)).or_default() += 1;
            }
        }
        let most = found.into_iter().max_by_key(|(_, n)| *n);
        most.map_or(Shift::default(), |((uid, gid), _)| Shift { uid, gid })
    }

    /// Where the tar-split data of each layer that has some comes from.
    pub fn tar_splits(&self) -> BTreeMap<&LayerId, &Content> {
        let of = |f: &'_ MetaFile| f.path.ends_with("/tar-split.json.gz") && f.path.starts_with("layerdb/sha256/");
        self.metadata.iter().filter(|f| of(f)).filter_map(|f| f.layer.as_ref().map(|l| (l, &f.content))).collect()
    }

    /// The image from which an image was built, as Docker notes it.
    pub fn parent(&self, root: &Dir, image: ImageId) -> Result<Option<ImageId>> {
        let path = format!("imagedb/metadata/sha256/{}/parent", image.hex());
        let found = self.metadata.iter().find(|f| f.image == Some(image) && f.path == path);
        let bytes = found.map(|f| f.content.bytes(root, self.written_by.name(), content::SMALL)).transpose()?;
        // a value that is no id is as good as none: Docker tolerates it too (FORMATS 7)
        Ok(bytes.flatten().and_then(|b| ImageId::parse(&content::text_of(&b).ok()?).ok()))
    }

    /// An image's config, the bytes whose digest is its id. `root` holds `image/` or `graph/`.
    pub fn config(&self, root: &Dir, image: ImageId) -> Result<Vec<u8>> {
        let path = format!("imagedb/content/sha256/{}", image.hex());
        let found = self.metadata.iter().find(|f| f.image == Some(image) && f.path == path);
        let bytes = found.map(|f| f.content.bytes(root, self.written_by.name(), json::LIMIT)).transpose()?;
        match bytes.flatten() {
            Some(bytes) if Sha256::of(&bytes) == image.0 => Ok(bytes),
            Some(_) => Err(Error::corrupt(format!("image {} has another image's config", image.short()))),
            None => Err(Error::corrupt(format!("image {} has no config", image.short()))),
        }
    }
}

/// The directories that are read, renamed and built next to each other have to be directories of ROOT itself (check H08).
pub fn attached(root: &Dir, name: &str) -> Result<()> {
    let shown = root.show(name.as_bytes());
    let what = match root.try_open(name.as_bytes()) {
        Ok(_) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::XDEV) if mounts::onto_itself(&root.label().join(name))? => {
            return Err(Error::new(
                Kind::Blocked,
                format!("{shown} is mounted onto itself: Docker left that when it ended"),
            )
            .hint(format!(
                "Run umount {shown}. You don't need to copy any files: the same files are below the mount point."
            ))
            .loss("Nothing was changed."));
        }
        Err(Errno::XDEV) => "is a mount point",
        Err(Errno::LOOP | Errno::NOTDIR) if root.stat(name)?.kind == FileType::Symlink => "is a symlink",
        Err(Errno::LOOP | Errno::NOTDIR) => "is not a directory",
        Err(e) => return Err(Error::io(format!("open directory {shown}"), e)),
    };
    let hint = match what {
        "is a mount point" => format!(
            "Run umount {shown}, mount that file system elsewhere, and copy its files with cp -a to the directory {shown}. More: unaufs explain H08"
        ),
        _ => format!(
            "Put the directory itself at {shown}: remove the symlink, then use mv, or cp -a from another disk. More: unaufs explain H08"
        ),
    };
    Err(Error::new(
        Kind::Blocked,
        format!("{shown} {what}: unaufs can't read it safely, and can't set it aside by renaming"),
    )
    .hint(hint)
    .loss("Nothing was changed."))
}

/// Reads the store at ROOT.
pub fn open(root: &Dir) -> Result<(Store, Vec<Finding>)> {
    for name in ["aufs", "image", "containers"] {
        attached(root, name)?;
    }
    if let Some(gone) = absent::layers_gone(root)? {
        return Err(gone);
    }
    if !root.has("aufs/diff")? {
        return Err(absent::no_store(root)?);
    }
    let content = root.has("image/aufs")?;
    // a Docker from 1.10 on leaves graph/ in place after converting it: it counts only where something in it is not converted
    if root.has("graph")? && !content || graph::to_convert(root)? {
        return graph::read(root);
    }
    if content {
        return content::read(root);
    }
    Err(absent::no_store(root)?)
}

/// `<uid>.<gid>`: the sub-root of a daemon with userns-remap (FORMATS 0).
pub fn remapped(name: &[u8]) -> bool {
    let mut parts = name.split(|c| *c == b'.');
    let number = |p: Option<&[u8]>| p.is_some_and(|p| !p.is_empty() && p.iter().all(u8::is_ascii_digit));
    number(parts.next()) && number(parts.next()) && parts.next().is_none()
}
