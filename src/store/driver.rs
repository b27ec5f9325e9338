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
use crate::docker::driver::WrittenBy;
use crate::error::Result;
use crate::ids::LayerId;
use crate::layer::branch::{Branch, Format};
use crate::layer::view::Chain;
use std::collections::BTreeMap;

/// The directory of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diff {
    /// Where the driver puts it.
    Here,
    /// A symlink from before Docker 0.7, to this path below ROOT.
    Moved(String),
}

/// What the driver's own directories say.
#[derive(Debug, Default)]
pub struct Driver {
    /// Which driver.
    pub written_by: WrittenBy,
    /// The layers that have a directory.
    pub diffs: BTreeMap<LayerId, Diff>,
    /// The layers below each, nearest first. Empty if the driver keeps no lists.
    pub layers: BTreeMap<LayerId, Listed>,
}

impl Driver {
    /// Where the directory of a layer really is, if not in its usual place.
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
    target.stack(base, &layer.id, layer.role, &layer.lowers, None)
}
