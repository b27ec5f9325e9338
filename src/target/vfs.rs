//! vfs: every layer a complete tree, nothing else (FORMATS 4).
//!
//! ```text
//! vfs/dir/<id>/     all that the layer and the layers below show
//! ```
//!
//! Docker copies the parent's tree for each layer. Image layers are never written into, so here they share the inodes of unchanged
//! files; the trees of containers and their init layers share none.

use super::flat;
use crate::disk::Dir;
use crate::docker::driver::stack::Ids;
use crate::docker::driver::{Style, Target};
use crate::error::Result;
use crate::ids::LayerId;
use crate::layer::view::Chain;
use crate::plan::PlanLayer;
use crate::target::file::{FileWriter, Tally};

pub(super) fn prepare(at: &Dir, style: &Style) -> Result<()> {
    super::ensure_dirs(at, style, &[("vfs", style.top), ("vfs/dir", style.top)])
}

pub(super) fn build(at: &Dir, layer: &PlanLayer, theirs: &Ids<'_>, chain: &Chain) -> Result<Tally> {
    let home = at.open("vfs/dir")?;
    home.mkdir(layer.id.as_str(), 0o700)?;
    let parent = super::parent(layer, theirs).map(|p| home.open(p.as_str())).transpose()?;
    let root = home.open(layer.id.as_str())?;
    let files = FileWriter::new(root, &layer.transfer, Target::Vfs.xattr_scope(), false).over_parent(parent.is_some());
    flat::write_over(chain, parent, &files)?;
    Ok(files.tally)
}

/// There is nothing next to the tree that could be wrong.
pub(super) fn sound(at: &Dir, id: &LayerId) -> Result<Vec<String>> {
    at.open(format!("vfs/dir/{id}")).map(|_| Vec::new())
}
