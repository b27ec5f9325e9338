//! A layer and all below it, as its driver stacks them: the same for a store that unaufs made and for one that Docker made.
//!
//! ```text
//! overlay2   <id>/diff, <parent>/diff, …, base/diff     overlay   <id>/root, or <id>/upper over <image>/root
//! vfs, btrfs   <id>                                     each a complete tree
//! ```

use super::{Role, Shape, Target, shape};
use crate::disk::Dir;
use crate::error::Result;
use crate::ids::LayerId;
use crate::layer::branch::{Branch, Format};
use crate::layer::view::{Chain, plain};
use std::collections::HashMap;
use std::sync::Arc;

/// Our id of a layer, the id of the same layer in the existing target store.
pub type Ids<'a> = HashMap<&'a LayerId, &'a LayerId>;

/// Layers of ours that the existing target store has too and keeps: our id, its id, and where that store is.
#[derive(Debug)]
pub struct Theirs<'a> {
    /// Represents ROOT.
    pub at: &'a Dir,
    /// Ours, the target's.
    pub ids: Ids<'a>,
}

impl Theirs<'_> {
    /// Where a layer is and what it is called there, if the existing target store keeps it.
    pub fn place(&self, id: &LayerId) -> Option<(&Dir, &LayerId)> {
        self.ids.get(id).map(|their| (self.at, *their))
    }
}

impl Target {
    /// A layer and all below it. `at` represents ROOT; layers that `theirs` knows have another id there.
    pub fn stack(
        self,
        at: &Dir,
        id: &LayerId,
        (role, lowers): (Role, &[LayerId]),
        theirs: Option<&Theirs<'_>>,
    ) -> Result<Chain> {
        let own = Arc::new(at.again()?);
        let kept = theirs.map(|t| t.at.again().map(Arc::new)).transpose()?;
        let branch = |id: &LayerId, sub: &str| -> Branch {
            let place = kept.as_ref().zip(theirs.and_then(|t| t.ids.get(id)));
            let (at, name) = place.map_or((&own, id), |(at, their)| (at, *their));
            Branch::below(at, format!("{}/{name}/{sub}", self.home()), Some(id.clone()), Format::Overlay)
        };
        let branches = match self {
            Target::Vfs | Target::Btrfs => return Ok(plain(Some(id), at.open(self.tree(id))?)),
            Target::Overlay2 => std::iter::once(id).chain(lowers).map(|id| branch(id, "diff")).collect(),
            // `root/` too is read as overlayfs reads it: a device 0:0 in it would be a ghost in every container
            Target::Overlay => match shape(role, lowers) {
                Shape::Root => vec![branch(id, "root")],
                Shape::Upper(_, lower) => vec![branch(id, "upper"), branch(lower, "root")],
            },
        };
        Ok(Chain { branches })
    }
}
