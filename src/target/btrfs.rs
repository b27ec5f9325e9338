//! btrfs: every layer a subvolume, a snapshot of its parent with the layer's own changes applied (FORMATS 5).
//!
//! ```text
//! btrfs/subvolumes/<id>     subvolume: all that the layer and the layers below show
//! btrfs/quotas/<id>         size limit of a container; aufs has none, so none is made
//! ```
//!
//! What is based on a layer that the existing target store keeps is no snapshot of it: Docker's own extraction of that layer may lack
//! attributes that a tar does not hold. It is written again, whole, with the extents of the old store where the mode allows.

use super::{apply, flat};
use crate::disk::Dir;
use crate::docker::driver::stack::Ids;
use crate::docker::driver::{Style, Target};
use crate::error::{Error, Kind, Result};
use crate::ids::LayerId;
use crate::layer::view::Chain;
use crate::plan::PlanLayer;
use crate::target::file::{FileWriter, Tally};

const HOME: &str = "btrfs/subvolumes";

pub(super) fn prepare(at: &Dir, style: &Style) -> Result<()> {
    if !at.on_btrfs()? {
        return Err(Error::new(Kind::Unsupported, format!("{} isn't on a btrfs file system", at.show(b"")))
            .hint("Use --target DIR with DIR on a btrfs file system, or choose another driver with --to."));
    }
    super::ensure_dirs(at, style, &[("btrfs", style.top), (HOME, style.top)])
}

pub(super) fn build(at: &Dir, layer: &PlanLayer, theirs: &Ids<'_>, chain: &Chain) -> Result<Tally> {
    let home = at.open(HOME)?;
    let name = layer.id.as_str().as_bytes();
    let snapshot = super::parent(layer, theirs);
    match snapshot {
        Some(parent) => home.snapshot(&home.open(parent.as_str())?, name)?,
        None => home.create_subvolume(name)?,
    }
    let files = FileWriter::new(home.open(name)?, &layer.transfer, Target::Btrfs.xattr_scope(), false);
    let base = layer.lowers.is_empty();
    if snapshot.is_some() || base {
        apply::write(chain.branch(0)?.dir()?, base, &files)?;
    } else {
        flat::write(chain, &files, &flat::Leave::new())?;
    }
    Ok(files.tally)
}

pub(super) fn sound(at: &Dir, id: &LayerId) -> Result<Vec<String>> {
    let dir = at.open(format!("{HOME}/{id}"))?;
    Ok(if dir.is_subvolume()? { Vec::new() } else { vec!["it isn't a subvolume".to_owned()] })
}
