//! The layers of a plan as the old store stacks them.

use super::{Plan, PlanLayer};
use crate::disk::Dir;
use crate::error::{Error, Result};
use crate::ids::LayerId;
use crate::layer::branch::{Branch, Format};
use crate::layer::view::Chain;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The directory of each layer, below the place that represents ROOT.
pub type Sources<'a> = BTreeMap<&'a LayerId, &'a str>;

/// Which layers of a plan are built or compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Image layers, which nobody writes into, even while Docker runs.
    Images,
    /// Everything.
    All,
}

impl Plan {
    /// The directory of each layer of the plan, and of those that the existing target store keeps.
    pub fn sources(&self) -> Sources<'_> {
        let kept = self.kept().iter().map(|k| (&k.id, k.source.as_str()));
        self.layers.iter().map(|l| (&l.id, l.source.as_str())).chain(kept).collect()
    }
}

impl PlanLayer {
    /// The layer and all below it in the old store; `base` represents ROOT.
    pub fn old_stack(&self, base: &Dir, sources: &Sources<'_>) -> Result<Chain> {
        let at = Arc::new(base.again()?);
        let branch = |id: &LayerId| -> Result<Branch> {
            let source =
                sources.get(id).ok_or_else(|| Error::corrupt(format!("layer {} is not in the plan", id.short())))?;
            Ok(Branch::below(&at, (*source).to_owned(), Some(id.clone()), Format::Aufs))
        };
        let branches = std::iter::once(&self.id).chain(&self.lowers).map(branch).collect::<Result<_>>()?;
        Ok(Chain { branches })
    }
}
