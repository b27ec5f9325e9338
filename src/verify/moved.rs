//! Proof for mode move, where the new store is the old one, rewritten in place.
//!
//! What a rewritten layer shows is compared with what its tree and what was taken out of it show together ([`inplace::old_view`]). Most
//! folders were not touched and are the same inodes in both views, so that level fast looks at three things:
//!
//! - the record: each folder's time is as it was, and everything that the way back needs is kept;
//! - every name of the layer, from the listing alone: no mark of aufs is left, and there is no whiteout of which the record does not know;
//! - the view of each folder that was changed, old against new.
//!
//! A folder that a layer did not change shows the layer's names over what the layer below shows, before as afterwards; the layer below is
//! proved in the same way. Level full compares all folders as well.

use super::{Level, Seen, compare};
use crate::disk::{Dir, FileType};
use crate::error::Result;
use crate::layer::branch::{self, Name};
use crate::layer::view::Chain;
use crate::layer::walk::walk;
use crate::plan::PlanLayer;
use crate::plan::scan::join;
use crate::run::inplace::{self, record::Change, record::Step};
use crate::target::{Target, Theirs};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The whiteouts that were made, by folder.
type Devices = HashMap<Vec<u8>, HashSet<Vec<u8>>>;

/// Proves one layer, of which `views` are the old and the new one. `root` stands for ROOT. At level full the caller compares all folders.
pub fn layer(
    root: &Dir,
    layer: &PlanLayer,
    (old, new): (&Chain, &Chain),
    level: Level,
    theirs: &Theirs<'_>,
    seen: &Seen,
) -> Result<()> {
    let (tree, kept) = (inplace::tree(root, layer)?, inplace::taken_out(root, layer)?);
    let mut devices = Devices::new();
    let whole = inplace::read_record(root, layer, |change| {
        let there = folder(&change, layer, &tree, &kept, seen)?;
        if there && level == Level::Fast {
            compare::one_folder(layer, old, new, Target::Overlay2, theirs, seen, &change.path)?;
        }
        let made = change.steps.into_iter().filter_map(|s| match s {
            Step::Device { name } => Some(name),
            _ => None,
        });
        devices.insert(change.path, made.collect());
        Ok(())
    })?;
    if !whole {
        seen.differ("layer", layer.id.as_str(), b"", "its record is missing");
    }
    let names = Names { layer, devices: &devices, seen };
    walk((Arc::new(tree), Vec::new(), Vec::new()), |(above, name, path), hand_on| {
        let dir = Arc::new(above.open(&name)?);
        names.folder(&dir, &path, |name| hand_on((dir.clone(), name.to_vec(), join(&path, name))))
    })
}

/// Compares one folder with the record. False if it is not there.
fn folder(change: &Change, layer: &PlanLayer, tree: &Dir, kept: &Dir, seen: &Seen) -> Result<bool> {
    let differ = |path: &[u8], what: &str| seen.differ("layer", layer.id.as_str(), path, what);
    let at = |base: &Dir| if change.path.is_empty() { base.again().map(Some) } else { base.open_opt(&change.path) };
    let Some(dir) = at(tree)? else {
        differ(&change.path, "the folder is missing");
        return Ok(false);
    };
    if dir.meta()?.mtime != change.times.mtime {
        differ(&change.path, "modified at another time");
    }
    let parked = change.parked();
    let kept = if parked.is_empty() { None } else { at(kept)? };
    for name in parked {
        if !kept.as_ref().map_or(Ok(false), |k| k.has(name))? {
            differ(&join(&change.path, name), "what was taken out is not kept");
        }
    }
    Ok(true)
}

struct Names<'a> {
    layer: &'a PlanLayer,
    devices: &'a Devices,
    seen: &'a Seen,
}

impl Names<'_> {
    /// Looks at the names of one folder.
    fn folder(&self, dir: &Dir, path: &[u8], mut descend: impl FnMut(&[u8])) -> Result<()> {
        let made = self.devices.get(path);
        // the plan has counted such attributes; where there were none, nothing could have made one
        let attributes = self.layer.facts.overlay_xattrs.count > 0;
        let differ = |name: &[u8], what: &str| {
            self.seen.differ("layer", self.layer.id.as_str(), &join(path, name), what);
        };
        if attributes && made.is_none() && dir.has_overlay_xattr(b".")? {
            differ(b"", "it carries a trusted.overlay attribute");
        }
        dir.for_each(|name, kind, _| {
            match branch::classify(name, path.is_empty()) {
                Name::Entry if kind == FileType::Directory => descend(name),
                Name::Entry if kind == FileType::CharacterDevice && dir.stat(name)?.is_overlay_whiteout() => {
                    if !made.is_some_and(|m| m.contains(name)) {
                        differ(name, "a whiteout that was not made here");
                    }
                }
                Name::Entry if attributes && dir.has_overlay_xattr(name)? => {
                    differ(name, "it carries a trusted.overlay attribute");
                }
                Name::Entry => {}
                _ => differ(name, "a mark of aufs"),
            }
            Ok(())
        })
    }
}
