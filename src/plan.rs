//! The plan: everything that will be done, decided before anything is done.
//!
//! ```text
//! (Store, Facts, Host, Options) ──plan()──▶ Plan ──▶ printed by `plan`, saved by --out, run by `migrate`, inverted by `rollback`
//! ```
//!
//! [`build::plan`] is pure: it looks at nothing but its arguments. The engine makes no choice that is not listed here: layers with their
//! transfer order, metadata files, and the renames of the switch. [`scan`] counts the layers, [`quirks`] finds where aufs showed
//! something else than the new store will, [`host`] looks at the machine, [`switch`] lays out the renames.

pub mod build;
pub mod content;
pub mod damage;
pub mod estimate;
pub mod existing;
mod fine;
pub mod host;
pub mod make;
pub mod merge;
pub mod names;
pub mod new_root;
pub mod quirks;
pub mod renames;
pub mod scan;
pub mod stack;
pub mod stored;
pub mod switch;
pub mod whiteouts;

use crate::checks::Finding;
use crate::disk::attrs::Times;
use crate::disk::copy::Transfer;
use crate::disk::mounts::Room;
use crate::docker::driver::Role;
use crate::docker::driver::{Style, Target};
use crate::ids::{ChainId, ContainerId, DiffId, ImageId, LayerId, Sha256};
use crate::store::{Cause, Content, Generation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the JSON form.
pub const SCHEMA: &str = "unaufs.plan/1";

/// How layers are transferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Image layers: hard links, else clones, else copies. Writable layers: clones, else copies.
    #[default]
    Auto,
    /// Image layers: hard links only. Stops if that isn't possible.
    Link,
    /// Clones: files that share their data with the old store (btrfs, xfs).
    Clone,
    /// Copy every file.
    Copy,
}

impl Mode {
    /// As `--mode` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Link => "link",
            Mode::Clone => "clone",
            Mode::Copy => "copy",
        }
    }
}

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The driver to move to.
    pub to: Target,
    /// How.
    pub mode: Mode,
    /// Another place for the new root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Only these (`image=GLOB`, `container=GLOB`).
    #[serde(default)]
    pub only: Vec<String>,
    /// Not these.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Checks that must not block.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Docker's configuration, where it is not `/etc/docker/daemon.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_config: Option<String>,
}

/// The plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// [`SCHEMA`].
    pub schema: String,
    /// What made it.
    pub tool: Tool,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Where.
    pub host: HostFacts,
    /// Docker on this host.
    #[serde(default)]
    pub docker: DockerFacts,
    /// The old root.
    pub root: RootFacts,
    /// Which Docker wrote the old store.
    pub generation: Generation,
    /// What was asked for.
    pub options: Options,
    /// Counts.
    pub summary: Summary,
    /// Everything found, worst first.
    pub checks: Vec<Finding>,
    /// Every target and mode, with what it costs.
    pub estimates: Vec<Estimate>,
    /// Images that move.
    pub images: Vec<PlanImage>,
    /// Layers that move, parents first.
    pub layers: Vec<PlanLayer>,
    /// Containers that move.
    pub containers: Vec<PlanContainer>,
    /// What does not move, and why.
    pub left_behind: Vec<LeftBehind>,
    /// The same by what holds it back, containers first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<damage::Damage>,
    /// Paths that only aufs showed.
    pub quirks: Vec<quirks::Quirk>,
    /// Modes and owners of the driver's own directories.
    pub style: Style,
    /// Files of `image/<driver>`.
    pub metadata: Vec<PlanFile>,
    /// The new root, where it is not the old one.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "elsewhere")]
    pub new_root: Option<new_root::NewRoot>,
    /// The target's own store, where there is one to which ours is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<merge::Merge>,
    /// The renames, in their order.
    pub switch: Vec<Move>,
    /// Directories whose times the switch changes and rollback puts back.
    pub touched: Vec<Touched>,
    /// The way back.
    pub rollback: WayBack,
    /// Identifies what was looked at and what will be done.
    #[serde(flatten)]
    pub fingerprint: Fingerprint,
}

/// The program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tool {
    /// `unaufs`.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Default for Tool {
    /// This one.
    fn default() -> Tool {
        Tool { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// The machine on which the plan was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Its name.
    pub name: String,
    /// The release of its kernel, as `uname -r` prints it.
    pub kernel: String,
    /// Its kind, as `uname -m` prints it.
    pub machine: String,
}

impl HostFacts {
    /// The machine that this runs on.
    pub fn here() -> HostFacts {
        let u = rustix::system::uname();
        let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
        HostFacts { name: text(u.nodename()), kernel: text(u.release()), machine: text(u.machine()) }
    }
}

/// The old root as it was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RootFacts {
    /// Its real path.
    pub path: String,
    /// Its file system's type.
    pub fs: String,
    /// Free and total room.
    pub room: Room,
}

/// Docker, as far as it can be seen from outside.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DockerFacts {
    /// The version of the dockerd that is installed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// Does one run on ROOT?
    pub running: bool,
    /// The driver of the old store.
    pub driver: String,
    /// Which Dockers may have written the old store last, as far as it shows.
    #[serde(default)]
    pub wrote: String,
}

/// Counts for the first lines of a report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Images that move.
    pub images: usize,
    /// Their tags and digests.
    pub tags: usize,
    /// Layers that move.
    pub layers: usize,
    /// Containers that move.
    pub containers: usize,
    /// Volumes: untouched.
    pub volumes: usize,
    /// Bytes of content in the layers that move.
    pub bytes: u64,
    /// Bytes of content in writable layers.
    pub writable_bytes: u64,
    /// Names in the layers that move.
    pub files: u64,
}

/// What a target and mode would cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Estimate {
    /// The target.
    pub driver: Target,
    /// The mode.
    pub mode: Mode,
    /// Bytes of disk that are taken at most.
    pub new_bytes: u64,
    /// Inodes that are taken at most.
    pub new_inodes: u64,
    /// Bytes of disk that the new store shares with the old one until `cleanup`.
    #[serde(default)]
    pub shared_bytes: u64,
    /// Bytes of content that are read and written at most.
    #[serde(default)]
    pub written_bytes: u64,
    /// At least so long.
    pub seconds_min: u64,
    /// At most so long.
    pub seconds_max: u64,
    /// Could this driver and mode be used here at all, room apart?
    #[serde(default)]
    pub possible: bool,
    /// Does it fit, even if it takes all that?
    pub fits: bool,
    /// If it may not fit, why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why_not: Option<String>,
    /// Is it what this plan does?
    pub chosen: bool,
}

/// An image that moves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanImage {
    /// Its id.
    pub id: ImageId,
    /// Its id before Docker 1.10.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old_id: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its digests.
    pub digests: Vec<String>,
    /// Content of all its layers.
    pub bytes_total: u64,
    /// Content of layers that no other image has.
    pub bytes_unique: u64,
    /// Content of layers that other images have too.
    pub bytes_shared: u64,
    /// Its layers, base first.
    pub layers: Vec<LayerId>,
}

/// A layer that moves: a step of the plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanLayer {
    /// Its directory's name, in the old store and in the new one.
    pub id: LayerId,
    /// What it is for.
    pub role: Role,
    /// Its place in layerdb.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub chain_id: Option<ChainId>,
    /// Its digest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub diff_id: Option<DiffId>,
    /// All layers below, nearest first.
    pub lowers: Vec<LayerId>,
    /// Its directory below the old root.
    pub source: String,
    /// Is there a tar-split?
    pub tar_split: bool,
    /// The ways its files may take, in this order.
    pub transfer: Vec<Transfer>,
    /// overlay2: the name of its symlink in `l/`.
    pub link: String,
    /// overlay2: some layer has this one as its parent.
    pub has_child: bool,
    /// What it holds.
    pub facts: scan::Facts,
}

/// A container that moves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanContainer {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Marked as running?
    pub running: bool,
    /// Docker removes it when it ends, and so at the next start of Docker if it ran.
    #[serde(default)]
    pub auto_remove: bool,
    /// Its writable layer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub layer: Option<LayerId>,
    /// Its init layer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub init: Option<LayerId>,
    /// Content of its writable layer.
    pub bytes: u64,
    /// Files of its directory that are written again.
    pub files: Vec<PlanFile>,
}

/// A metadata file to write; `path` is below `image/<driver>` or below the container's directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanFile {
    /// Where.
    pub path: String,
    /// What.
    pub content: Content,
}

/// What is lost of an image or container that stays as it is.
pub const WHOLE: &str = "Nothing is lost: it stays in the old store.";

/// Something that does not move.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeftBehind {
    /// `image`, `layer`, `container`, `tag`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its name, if it has one.
    pub name: String,
    /// Why.
    pub reason: String,
    /// What is lost by that, and what not.
    pub lost: String,
    /// Does it make the exit code 3? What the user excluded, and what Docker itself could not use, does not.
    pub counts: bool,
    /// The damaged object that holds it back, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<Cause>,
}

impl LeftBehind {
    /// Is it another driver's, which unaufs leaves as it is?
    pub fn is_foreign(&self) -> bool {
        self.reason.starts_with(FOREIGN)
    }
}

/// How the reason of something begins that is another driver's.
pub const FOREIGN: &str = "it belongs to the storage driver";

/// One rename of the switch. Both paths are below ROOT, or below the new root; nothing is ever replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// From here.
    pub from: String,
    /// To here.
    pub to: String,
    /// What it is for.
    pub why: Why,
}

/// What a rename is for; rollback treats them differently once Docker has run on the new store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Something old goes to `.unaufs/old`.
    Park,
    /// Something new comes from `.unaufs/new`.
    Install,
}

/// A directory and its times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// Below ROOT.
    pub path: String,
    /// Seconds and nanoseconds of the last access.
    pub atime: (i64, u32),
    /// Seconds and nanoseconds of the last modification.
    pub mtime: (i64, u32),
    /// Mode, for directories that Docker may have removed in the meantime.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
}

impl Touched {
    /// The two times.
    pub fn times(&self) -> Times {
        Times { atime: self.atime, mtime: self.mtime }
    }
}

/// The way back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WayBack {
    /// Until when.
    pub possible_until: String,
    /// What is lost by it once Docker has run on the new store.
    pub loses: Vec<String>,
}

/// What the plan was made from. A saved plan whose fingerprint does not fit any more is stale (exit 13).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The digest of everything below.
    #[serde(rename = "fingerprint")]
    pub digest: Option<Sha256>,
    /// Each object and the digest of its state, so that a difference can be named.
    #[serde(rename = "fingerprint_objects")]
    pub objects: BTreeMap<String, String>,
}

impl Fingerprint {
    /// Which objects are not what they were: "NAME is gone", "NAME has changed", "NAME is new".
    pub fn changes_since(&self, was: &Fingerprint) -> Vec<String> {
        let (was, now) = (&was.objects, &self.objects);
        let mut out = Vec::new();
        for (name, state) in was {
            match now.get(name) {
                None => out.push(format!("{name} is gone")),
                Some(other) if other != state => out.push(format!("{name} has changed")),
                Some(_) => {}
            }
        }
        out.extend(now.keys().filter(|name| !was.contains_key(*name)).map(|name| format!("{name} is new")));
        out
    }
}

impl Plan {
    /// Does something that counts stay behind?
    pub fn partial(&self) -> bool {
        self.left_behind.iter().any(|l| l.counts)
    }

    /// Free and total room where the new store is built.
    pub fn room(&self) -> &Room {
        self.new_root.as_ref().map_or(&self.root.room, |e| &e.room)
    }

    /// Layers that the existing target store has too.
    pub fn kept(&self) -> &[merge::KeptLayer] {
        self.merge.as_ref().map_or(&[], |m| &m.kept)
    }

    /// A layer of the plan.
    pub fn layer(&self, id: &LayerId) -> Option<&PlanLayer> {
        self.layers.iter().find(|l| l.id == *id)
    }
}

/// Serialises a path: text where it is UTF-8, else `{"name_raw": base64}`.
pub mod path {
    use base64::Engine;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Raw { name_raw: String },
    }

    fn form(path: &[u8]) -> Form {
        match std::str::from_utf8(path) {
            Ok(s) => Form::Text(s.to_owned()),
            Err(_) => Form::Raw { name_raw: base64::engine::general_purpose::STANDARD.encode(path) },
        }
    }

    fn bytes<E: serde::de::Error>(f: Form) -> Result<Vec<u8>, E> {
        match f {
            Form::Text(s) => Ok(s.into_bytes()),
            Form::Raw { name_raw } => base64::engine::general_purpose::STANDARD.decode(name_raw).map_err(E::custom),
        }
    }

    /// For `serde(with)`.
    pub fn serialize<S: Serializer>(path: &[u8], s: S) -> Result<S::Ok, S::Error> {
        form(path).serialize(s)
    }

    /// For `serde(with)`.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        bytes(Form::deserialize(d)?)
    }

    /// The same for a list.
    pub mod list {
        use super::{Form, bytes, form};
        use serde::{Deserialize, Deserializer, Serializer};

        /// For `serde(with)`.
        pub fn serialize<S: Serializer>(paths: &[Vec<u8>], s: S) -> Result<S::Ok, S::Error> {
            s.collect_seq(paths.iter().map(|p| form(p)))
        }

        /// For `serde(with)`.
        pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Vec<u8>>, D::Error> {
            Vec::<Form>::deserialize(d)?.into_iter().map(bytes).collect()
        }
    }
}

/// See [`path::list`].
pub use path::list as paths;
