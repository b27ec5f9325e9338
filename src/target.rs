//! The storage drivers to which a store can move: a closed list, one file each. What differs between them is there.

pub mod apply;
pub mod btrfs;
pub mod file;
pub mod flat;
pub mod overlay;
pub mod overlay2;
pub mod overlay_diff;
pub mod vfs;

use crate::disk::Dir;
use crate::docker::driver::stack::{Ids, Theirs};
use crate::docker::driver::{Role, Style, Target};
use crate::error::Result;
use crate::ids::LayerId;
use crate::layer::view::Chain;
use crate::plan::{Plan, PlanLayer};
use crate::target::file::Tally;
use std::collections::HashMap;

/// What is said of a layer without a mount point. Docker from 17.12 on removes it after each mount, and makes it again.
pub const MERGED: &str = "merged/ is missing";

impl Target {
    /// Makes the driver's own directory, before any layer. `at` is the directory that represents ROOT in the stage.
    pub fn prepare(self, at: &Dir, style: &Style) -> Result<()> {
        match self {
            Target::Overlay2 => overlay2::prepare(at, style),
            Target::Overlay => overlay::prepare(at, style),
            Target::Vfs => vfs::prepare(at, style),
            Target::Btrfs => btrfs::prepare(at, style),
        }
    }

    /// Builds one layer below `at`. `chain` is the layer and all below it in the old store. Of a layer that the existing target store keeps
    /// nothing is used but its name: what is based on it is built from the old store alone.
    pub fn build(self, at: &Dir, layer: &PlanLayer, below: &Below<'_>, chain: &Chain) -> Result<Tally> {
        match self {
            Target::Overlay2 => overlay2::build(at, layer, below, chain),
            Target::Overlay => overlay::build(at, layer, below, chain),
            Target::Vfs => vfs::build(at, layer, &below.theirs, chain),
            Target::Btrfs => btrfs::build(at, layer, &below.theirs, chain),
        }
    }

    /// Removes what an interrupted [`Target::build`] left.
    pub fn discard(self, at: &Dir, layer: &PlanLayer) -> Result<()> {
        match self {
            Target::Overlay2 => overlay2::discard(at, layer),
            _ => at.open(self.home())?.remove_tree(layer.id.as_str().as_bytes()),
        }
    }

    /// Brings a layer that was built before another plan was made up to that plan: what is based on it may have changed.
    pub fn refresh(self, at: &Dir, layer: &PlanLayer) -> Result<()> {
        match self {
            Target::Overlay2 => overlay2::refresh(at, layer),
            _ => Ok(()),
        }
    }

    /// The merged view of a layer in the new store, for comparing. `at` represents ROOT.
    pub fn view(self, at: &Dir, layer: &PlanLayer, theirs: &Theirs<'_>) -> Result<Chain> {
        self.stack(at, &layer.id, (layer.role, &layer.lowers), Some(theirs))
    }

    /// What would keep Docker from using a layer, no matter who made it: one line each. That the layers below it are the right ones is for
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

/// Makes the driver's own directories, each with this mode, where they are missing.
fn ensure_dirs(at: &Dir, style: &Style, dirs: &[(&str, u32)]) -> Result<()> {
    for (path, mode) in dirs {
        if !at.has(path)? {
            let (parent, name) = at.parent_of(path.as_bytes())?;
            make_dir(&parent, name, *mode, style.owner)?;
        }
    }
    Ok(())
}

fn make_dir(at: &Dir, name: impl AsRef<[u8]>, mode: u32, (uid, gid): (u32, u32)) -> Result<()> {
    at.mkdir(&name, mode)?;
    at.set_owner(name.as_ref(), uid, gid)
}

/// overlay and overlay2: what overlayfs needs next to a layer that has others below it.
fn make_mount_dirs(layer: &Dir, style: &Style) -> Result<()> {
    ["work", "merged"].iter().try_for_each(|name| make_dir(layer, name, 0o700, style.root))
}

/// The layer's parent, if it is built too: on one that the existing target store keeps nothing is built.
fn parent<'l>(layer: &'l PlanLayer, theirs: &Ids<'_>) -> Option<&'l LayerId> {
    layer.lowers.first().filter(|p| !theirs.contains_key(p))
}

/// overlay2's short names of all layers.
pub type Links<'a> = HashMap<&'a str, &'a str>;

/// What a layer needs to know of those below it, and of all of them.
#[derive(Debug)]
pub struct Below<'a> {
    /// Modes and owners of their directories.
    pub style: Style,
    /// overlay2's short names.
    pub links: Links<'a>,
    /// Those that the existing target store keeps.
    pub theirs: Ids<'a>,
}

impl<'a> Below<'a> {
    /// What the layers of the plan need to know of each other.
    pub fn of(plan: &'a Plan) -> Below<'a> {
        let kept = plan.kept().iter().map(|k| (k.id.as_str(), k.link.as_str()));
        let links = plan.layers.iter().map(|l| (l.id.as_str(), l.link.as_str())).chain(kept).collect();
        Below { style: plan.style, links, theirs: plan.kept().iter().map(|k| (&k.id, &k.theirs)).collect() }
    }
}
