//! The storage drivers to which a store can move: a closed list, one file each. What differs between them stands there.

pub mod apply;
pub mod btrfs;
pub mod flat;
pub mod overlay;
pub mod overlay2;
pub mod overlay_diff;
pub mod place;
pub mod vfs;

use crate::disk::Dir;
use crate::disk::attrs::XattrScope;
use crate::error::Result;
use crate::ids::LayerId;
use crate::layer::view::Chain;
use crate::plan::PlanLayer;
use crate::store::Role;
use crate::target::place::Tally;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A storage driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The default of every Docker since 2018.
    Overlay2,
    /// The first overlay driver; gone since Docker 24.
    Overlay,
    /// Whole copies; needs nothing of the kernel.
    Vfs,
    /// Subvolumes and snapshots.
    Btrfs,
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 4] = [Target::Overlay2, Target::Overlay, Target::Vfs, Target::Btrfs];

    /// The name that Docker gives it: the folder `image/<name>` and `Driver` in a container's config.
    pub fn name(self) -> &'static str {
        match self {
            Target::Overlay2 => "overlay2",
            Target::Overlay => "overlay",
            Target::Vfs => "vfs",
            Target::Btrfs => "btrfs",
        }
    }

    /// Does a Docker without configuration start on it, once its store is there?
    pub fn picked_by_docker(self) -> bool {
        matches!(self, Target::Overlay2 | Target::Btrfs)
    }

    /// Where the folders of layers lie, below ROOT.
    pub fn home(self) -> &'static str {
        match self {
            Target::Overlay2 => "overlay2",
            Target::Overlay => "overlay",
            Target::Vfs => "vfs/dir",
            Target::Btrfs => "btrfs/subvolumes",
        }
    }

    /// Where the tree of an image layer lies, below ROOT.
    pub fn tree(self, id: &LayerId) -> String {
        let home = self.home();
        match self {
            Target::Overlay2 => format!("{home}/{id}/diff"),
            Target::Overlay => format!("{home}/{id}/root"),
            Target::Vfs | Target::Btrfs => format!("{home}/{id}"),
        }
    }

    /// So many of the uppermost old layers are in a layer's own folder, where that is not one layer or all of them.
    pub fn own_layers(self, layer: &PlanLayer) -> Option<u16> {
        if self == Target::Overlay { overlay::own_layers(layer) } else { None }
    }

    /// Which extended attributes it can hold without obeying them.
    pub fn xattr_scope(self) -> XattrScope {
        match self {
            Target::Overlay2 | Target::Overlay => XattrScope::Overlay,
            Target::Vfs | Target::Btrfs => XattrScope::Plain,
        }
    }

    /// Does a layer need its parent's new folder before it can be built? btrfs takes a snapshot of it; complete trees share the
    /// parent's files where the old ones are on another file system.
    pub fn needs_parent(self) -> bool {
        self != Target::Overlay2
    }

    /// Does the new store stack layers as the old one did, so that the view of a layer rests on those below it?
    pub fn stacks(self) -> bool {
        self == Target::Overlay2
    }

    /// Makes the driver's own folder, before any layer. `at` is the folder that stands for ROOT in the stage.
    pub fn prepare(self, at: &Dir, style: &Style) -> Result<()> {
        match self {
            Target::Overlay2 => overlay2::prepare(at, style),
            Target::Overlay => overlay::prepare(at, style),
            Target::Vfs => vfs::prepare(at, style),
            Target::Btrfs => btrfs::prepare(at, style),
        }
    }

    /// Is this folder, named from the top of the new store, the content of a layer rather than a part of the driver's own order?
    pub fn is_content(self, path: &[Vec<u8>]) -> bool {
        let path: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
        matches!(
            (self, path.as_slice()),
            (Target::Overlay2, [b"overlay2", _, b"diff"])
                | (Target::Overlay, [b"overlay", _, b"root" | b"upper"])
                | (Target::Vfs, [b"vfs", b"dir", _])
                | (Target::Btrfs, [b"btrfs", b"subvolumes", _])
        )
    }

    /// Builds one layer below `at`. `chain` is the layer and all below it in the old store. Of a layer that the target's own store keeps
    /// nothing is used but its name: what stands on it is built from the old store alone.
    pub fn build(self, at: &Dir, style: &Style, layer: &PlanLayer, below: &Below<'_>, chain: &Chain) -> Result<Tally> {
        match self {
            Target::Overlay2 => overlay2::build(at, style, layer, &below.links, chain),
            Target::Overlay => overlay::build(at, style, layer, &below.theirs, chain),
            Target::Vfs => vfs::build(at, layer, &below.theirs, chain),
            Target::Btrfs => btrfs::build(at, layer, &below.theirs, chain),
        }
    }

    /// Removes what an interrupted [`Target::build`] left.
    pub fn discard(self, at: &Dir, layer: &PlanLayer) -> Result<()> {
        match self {
            Target::Overlay2 => overlay2::discard(at, layer),
            Target::Overlay => overlay::discard(at, layer),
            Target::Vfs => vfs::discard(at, layer),
            Target::Btrfs => btrfs::discard(at, layer),
        }
    }

    /// Brings a layer that was built before another plan was made up to that plan: what stands on it may have changed.
    pub fn refresh(self, at: &Dir, layer: &PlanLayer) -> Result<()> {
        match self {
            Target::Overlay2 => overlay2::refresh(at, layer),
            _ => Ok(()),
        }
    }

    /// The view of a layer in the new store, for comparing. `at` stands for ROOT.
    pub fn view(self, at: &Dir, layer: &PlanLayer, theirs: &Theirs<'_>) -> Result<Chain> {
        match self {
            Target::Overlay2 => overlay2::view(at, layer, theirs),
            Target::Overlay => overlay::view(at, layer, theirs),
            Target::Vfs => vfs::view(at, layer),
            Target::Btrfs => btrfs::view(at, layer),
        }
    }

    /// A layer and all below it as this driver stacks them, in any store: also one that unaufs did not make. `at` stands for ROOT.
    pub fn chain(self, at: &Dir, id: &LayerId, role: Role, lowers: &[LayerId]) -> Result<Chain> {
        match self {
            Target::Overlay2 => overlay2::chain(at, std::iter::once(id).chain(lowers), &|_| None),
            Target::Overlay => overlay::chain(at, id, role, lowers),
            Target::Vfs => vfs::chain(at, id),
            Target::Btrfs => btrfs::chain(at, id),
        }
    }

    /// What would keep Docker from using a layer, whoever made it: one line each. That the layers below it are the right ones is for
    /// the reader of the store to say.
    pub fn sound(self, at: &Dir, id: &LayerId, role: Role, lowers: &[LayerId]) -> Result<Vec<String>> {
        match self {
            Target::Overlay2 => overlay2::sound(at, id, role, lowers),
            Target::Overlay => overlay::sound(at, id, role, lowers),
            Target::Vfs => vfs::sound(at, id),
            Target::Btrfs => btrfs::sound(at, id),
        }
    }

    /// What is wrong with the driver's own files of a layer that unaufs made (`link`, `lower` …): one line each.
    pub fn check(self, at: &Dir, layer: &PlanLayer, below: &Below<'_>) -> Result<Vec<String>> {
        match self {
            Target::Overlay2 => overlay2::check(at, layer, &below.links),
            Target::Overlay => overlay::check(at, layer, &below.theirs),
            Target::Vfs => vfs::sound(at, &layer.id),
            Target::Btrfs => btrfs::sound(at, &layer.id),
        }
    }
}

/// Makes the driver's own folders with the mode and owner of the style.
fn ensure_folders(at: &Dir, style: &Style, paths: &[&str]) -> Result<()> {
    for path in paths {
        if !at.has(path)? {
            let (parent, name) = at.parent_of(path.as_bytes())?;
            parent.mkdir(name, style.top)?;
            parent.set_owner(name, style.owner.0, style.owner.1)?;
        }
    }
    Ok(())
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Layers of ours that the target's own store has too and keeps: our id, its id, and where that store lies.
#[derive(Debug)]
pub struct Theirs<'a> {
    /// Stands for ROOT.
    pub at: &'a Dir,
    /// Ours, the target's.
    pub ids: Ids<'a>,
}

impl Theirs<'_> {
    /// Where a layer lies and what it is called there, if the target's own store keeps it.
    fn place(&self, id: &LayerId) -> Option<(&Dir, &LayerId)> {
        self.ids.get(id).map(|their| (self.at, *their))
    }
}

/// The layer's parent, if it is built too: on one that the target's own store keeps nothing is built.
fn parent<'l>(layer: &'l PlanLayer, theirs: &Ids<'_>) -> Option<&'l LayerId> {
    layer.lowers.first().filter(|p| !theirs.contains_key(p))
}

/// Our id of a layer, the id of the same layer in the target's own store.
pub type Ids<'a> = HashMap<&'a LayerId, &'a LayerId>;

/// overlay2's short names of all layers.
pub type Links<'a> = HashMap<&'a str, &'a str>;

/// What a layer needs to know of those below it.
#[derive(Debug)]
pub struct Below<'a> {
    /// overlay2's short names.
    pub links: Links<'a>,
    /// Those that the target's own store keeps.
    pub theirs: Ids<'a>,
}

/// Modes and owners of the driver's folders, as the Docker that wrote the old store makes them (FORMATS 2.1): read off `aufs/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Style {
    /// Mode of `<driver>/`.
    pub top: u32,
    /// Mode of `<driver>/<id>/`.
    pub layer: u32,
    /// Mode of `overlay2/l/`.
    pub links: u32,
    /// Owner of these.
    pub owner: (u32, u32),
    /// What container root is on the host: owner of `work/` and `merged/`.
    pub root: (u32, u32),
}

impl Style {
    /// From the mode and owner of `aufs/`, and the owner that container root has on the host.
    pub fn of(mode: u32, owner: (u32, u32), root: (u32, u32)) -> Style {
        match mode {
            0o710 => Style { top: 0o710, layer: 0o710, links: 0o700, owner, root },
            0o701 => Style { top: 0o701, layer: 0o701, links: 0o701, owner, root },
            _ => Style { top: 0o700, layer: 0o700, links: 0o700, owner, root },
        }
    }
}
