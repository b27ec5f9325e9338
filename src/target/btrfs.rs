//! btrfs: every layer a subvolume, a snapshot of its parent with the layer's own changes applied (FORMATS 5).
//!
//! ```text
//! btrfs/subvolumes/<id>     subvolume: all that the layer and the layers below show
//! btrfs/quotas/<id>         size limit of a container; aufs has none, so none is made
//! ```

use super::{Style, Target, apply};
use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use crate::ids::LayerId;
use crate::place::{Placer, Tally};
use crate::plan::PlanLayer;
use crate::verify::plain;
use crate::view::Chain;

const HOME: &str = "btrfs/subvolumes";

pub(super) fn prepare(at: &Dir, style: &Style) -> Result<()> {
    if !at.on_btrfs()? {
        return Err(Error::new(Kind::Unsupported, format!("{} is not on a btrfs", at.show(b"")))
            .hint("--target DIR with DIR on a btrfs, or another driver with --to"));
    }
    super::ensure_folders(at, style, &["btrfs", HOME])
}

pub(super) fn build(at: &Dir, layer: &PlanLayer, chain: &Chain) -> Result<Tally> {
    let home = at.open(HOME)?;
    let name = layer.id.as_str().as_bytes();
    match layer.lowers.first() {
        Some(parent) => home.snapshot(&home.open(parent.as_str())?, name)?,
        None => home.create_subvolume(name)?,
    }
    let placer = Placer::new(home.open(name)?, &layer.transfer, Target::Btrfs.xattr_scope(), false);
    apply::write(&chain.branch(0)?.dir, layer.lowers.is_empty(), &placer)?;
    Ok(placer.tally)
}

pub(super) fn discard(at: &Dir, layer: &PlanLayer) -> Result<()> {
    at.open(HOME)?.remove_tree(layer.id.as_str().as_bytes())
}

pub(super) fn view(at: &Dir, layer: &PlanLayer) -> Result<Chain> {
    chain(at, &layer.id)
}

pub(super) fn chain(at: &Dir, id: &LayerId) -> Result<Chain> {
    Ok(plain(id, at.open(format!("{HOME}/{id}"))?))
}

pub(super) fn sound(at: &Dir, id: &LayerId) -> Result<Vec<String>> {
    let dir = at.open(format!("{HOME}/{id}"))?;
    Ok(if dir.is_subvolume()? { Vec::new() } else { vec!["it is not a subvolume".to_owned()] })
}
