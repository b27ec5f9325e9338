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
use crate::docker::driver::{Role, Shape, Target, WrittenBy, shape};
use crate::error::{Error, Result};
use crate::ids::LayerId;
use crate::layer::branch::{Branch, Format};
use crate::layer::view::Chain;
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// A layer and all below it, as the driver stacks them. `base` represents ROOT. For every driver and for every layer of a store that
/// was read, whether unaufs made it or not.
pub fn chain(base: &Dir, written_by: WrittenBy, layers: &BTreeMap<LayerId, Layer>, layer: &Layer) -> Result<Chain> {
    let target = match written_by {
        WrittenBy::Living(target) => target,
        WrittenBy::Aufs => {
            let (at, ids) = (Arc::new(base.again()?), std::iter::once(&layer.id).chain(&layer.lowers));
            return Ok(Chain { branches: ids.map(|id| aufs_branch(&at, layers, id)).collect() });
        }
    };
    target.stack(base, &layer.id, (layer.role, &layer.lowers), None)
}

fn aufs_branch(base: &Arc<Dir>, layers: &BTreeMap<LayerId, Layer>, id: &LayerId) -> Branch {
    let source = layers.get(id).map_or_else(|| format!("aufs/diff/{id}"), Layer::source);
    Branch::below(base, source, Some(id.clone()), Format::Aufs)
}

/// The same branches, if each of them can be opened.
fn there(branches: Vec<Branch>) -> Result<Vec<Branch>> {
    branches.iter().try_for_each(|b| b.dir().map(drop))?;
    Ok(branches)
}

/// A stack of which some layers may be missing.
#[derive(Debug)]
pub struct Rest {
    /// Those that can be opened.
    pub chain: Chain,
    /// Those that can't, and why.
    pub missing: Vec<(LayerId, Error)>,
}

/// What can be opened of a stack; `ids` are the layer itself and those below it, nearest first. For stores that are damaged.
pub fn rest(base: &Dir, by: WrittenBy, layers: &BTreeMap<LayerId, Layer>, role: Role, ids: &[LayerId]) -> Rest {
    let mut out = Rest { chain: Chain { branches: Vec::new() }, missing: Vec::new() };
    let Some((own, lowers)) = ids.split_first() else { return out };
    let mut take = |id: &LayerId, found: Result<Vec<Branch>>| match found.and_then(there) {
        Ok(branches) => out.chain.branches.extend(branches),
        Err(e) => out.missing.push((id.clone(), e)),
    };
    let stack = |target: Target, id: &LayerId, role: Role, lowers: &[LayerId]| {
        target.stack(base, id, (role, lowers), None).map(|chain| chain.branches).and_then(there)
    };
    match by {
        WrittenBy::Aufs => ids.iter().for_each(|id| {
            take(id, base.again().map(|at| vec![aufs_branch(&Arc::new(at), layers, id)]));
        }),
        WrittenBy::Living(target @ Target::Overlay2) => {
            ids.iter().for_each(|id| take(id, stack(target, id, role, &[])));
        }
        WrittenBy::Living(target) => match (stack(target, own, role, lowers), shape(role, lowers)) {
            (Err(e), Shape::Upper(_, lower)) if target == Target::Overlay => {
                let upper = base.open(format!("{}/{own}/upper", target.home()));
                let upper = upper.map(|dir| vec![Branch::open(dir, Some(own.clone()), Format::Overlay)]);
                let failed = if upper.is_ok() { lower } else { own };
                if let Ok(branches) = upper {
                    take(own, Ok(branches));
                }
                take(failed, Err(e));
            }
            (opened, _) => take(own, opened),
        },
    }
    out
}
