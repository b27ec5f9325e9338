//! What a storage driver keeps of its layers, whichever driver it is.
//!
//! ```text
//! aufs/diff/<id>/       aufs/layers/<id>     the layers below, nearest first
//! overlay2/<id>/diff/   overlay2/<id>/lower  the same as short names
//! overlay/<id>/root/ or upper/, vfs/dir/<id>/, btrfs/subvolumes/<id>/: no list; layerdb alone knows the order
//! ```

use super::Layer;
use super::stack::Listed;
use crate::disk::Dir;
use crate::error::Result;
use crate::ids::LayerId;
use crate::layer::branch::{Branch, Format};
use crate::layer::view::Chain;
use crate::target::Target;
use serde::Serialize;
use std::collections::BTreeMap;

/// The driver that wrote a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WrittenBy {
    /// The one that no present-day Docker has.
    #[default]
    Aufs,
    /// One of those that a store can move to, be it by Docker or by unaufs.
    #[serde(untagged)]
    Living(Target),
}

impl WrittenBy {
    /// As Docker spells it: the folder `image/<name>` and `Driver` in a container's config.
    pub fn name(self) -> &'static str {
        match self {
            WrittenBy::Aufs => "aufs",
            WrittenBy::Living(target) => target.name(),
        }
    }

    /// The folder of a layer, for messages.
    pub fn folder(self, id: &LayerId) -> String {
        match self {
            WrittenBy::Aufs => format!("aufs/diff/{}", id.short()),
            WrittenBy::Living(target) => format!("{}/{}", target.home(), id.short()),
        }
    }

    /// Where the driver itself notes which layers lie below one, if it does.
    pub fn list(self) -> Option<&'static str> {
        match self {
            WrittenBy::Aufs => Some("aufs/layers"),
            WrittenBy::Living(Target::Overlay2) => Some("lower"),
            WrittenBy::Living(_) => None,
        }
    }

    /// Is a container whose config names this driver one of the store's? Very old Dockers, which knew aufs only, left the name out.
    pub fn owns(self, named: &str) -> bool {
        named == self.name() || (named.is_empty() && self == WrittenBy::Aufs)
    }
}

impl std::fmt::Display for WrittenBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The folder of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diff {
    /// Where the driver puts it.
    Here,
    /// A symlink from before Docker 0.7, to this path below ROOT.
    Moved(String),
}

/// What the driver's own folders say.
#[derive(Debug, Default)]
pub struct Driver {
    /// Which driver.
    pub written_by: WrittenBy,
    /// The layers that have a folder.
    pub diffs: BTreeMap<LayerId, Diff>,
    /// The layers below each, nearest first. Empty if the driver keeps no lists.
    pub layers: BTreeMap<LayerId, Listed>,
}

impl Driver {
    /// Where the folder of a layer really is, if not in its usual place.
    pub fn moved_to(&self, id: &LayerId) -> Option<String> {
        match self.diffs.get(id) {
            Some(Diff::Moved(rel)) => Some(rel.clone()),
            _ => None,
        }
    }
}

/// A layer and all below it, as the driver stacks them. `base` stands for ROOT. For every driver and for every layer of a store that
/// was read, whether unaufs made it or not.
pub fn chain(base: &Dir, written_by: WrittenBy, layers: &BTreeMap<LayerId, Layer>, layer: &Layer) -> Result<Chain> {
    let target = match written_by {
        WrittenBy::Living(target) => target,
        WrittenBy::Aufs => {
            let branch = |id: &LayerId| -> Result<Branch> {
                let source = layers.get(id).map_or_else(|| format!("aufs/diff/{id}"), Layer::source);
                Ok(Branch { id: Some(id.clone()), dir: base.open(source)?, format: Format::Aufs })
            };
            let branches = std::iter::once(&layer.id).chain(&layer.lowers).map(branch).collect::<Result<_>>()?;
            return Ok(Chain { branches });
        }
    };
    target.chain(base, &layer.id, layer.role, &layer.lowers)
}
