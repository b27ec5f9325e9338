//! What has to change in one layer of the old store so that overlayfs reads it as aufs did. Looks only, at the untouched store.
//!
//! ```text
//! .wh.NAME                    →  taken out; a device 0:0 called NAME, if a layer below shows NAME
//! folder/.wh..wh..opq         →  taken out; trusted.overlay.opaque=y on folder
//! NAME/ beside .wh.NAME       →  NAME/ opaque
//! .wh..wh.{aufs,plnk,orph,…}  →  taken out
//! a device 0:0 as data        →  taken out; a device 0:0 in its place, if a layer below shows the name
//! trusted.overlay.* as data   →  removed, the value kept in the record
//! ```
//!
//! The rules are those of [`crate::target::overlay_diff`]; the result is a record instead of a tree. Names come from the listing with
//! their types: only folders that change are looked at themselves, and no file.

use super::record::{Change, Step, Writer};
use crate::disk::attrs::{OPAQUE, OVERLAY_PREFIX, Times};
use crate::disk::{Dir, FileType};
use crate::error::{Error, Kind, Result};
use crate::layer::branch::{self, Name};
use crate::layer::view::Chain;
use crate::layer::walk::walk;
use crate::target::overlay_diff::Spot;
use std::collections::HashSet;
use std::sync::Arc;

/// A folder in which nothing can be changed would stop the work half way.
pub fn immutable(dir: &Dir) -> Error {
    Error::new(Kind::Blocked, format!("{} is immutable or append-only (lsattr)", dir.show(b"")))
        .hint("chattr -ia on it, or use --mode link")
        .loss("nothing; nothing was changed")
}

struct Layer<'a> {
    chain: &'a Chain,
    /// Does the layer hold `trusted.overlay.*`? The plan has counted them.
    attributes: bool,
    to: &'a Writer,
}

/// Writes down what is to be done to the first branch of `chain`.
pub fn decide(chain: &Chain, attributes: bool, to: &Writer) -> Result<()> {
    let layer = Layer { chain, attributes, to };
    let root = Arc::new(chain.branch(0)?.dir.again()?);
    walk((root, Vec::new(), Spot::root(chain, 1)), |(above, name, spot), hand_on| {
        let (dir, spot) = (Arc::new(above.open(&name)?), Arc::new(spot));
        for (closed, name) in layer.folder(&dir, &spot)? {
            let spot = Spot::sub(&spot, &name, closed);
            hand_on((dir.clone(), name, spot));
        }
        Ok(())
    })
}

impl Layer<'_> {
    /// Writes down one folder; gives back the folders in it; each is closed to what lies below, or not.
    fn folder(&self, dir: &Dir, spot: &Spot) -> Result<Vec<(bool, Vec<u8>)>> {
        let at_root = spot.path.is_empty();
        let (mut steps, mut subs) = (Vec::new(), Vec::new());
        let (mut whiteouts, mut zero) = (HashSet::new(), Vec::new());
        let mut opaque = spot.closed;
        dir.for_each(|name, kind, _| {
            match branch::classify(name, at_root) {
                Name::Entry if kind == FileType::Directory => {
                    subs.push(name.to_vec());
                    return Ok(());
                }
                // as data it would be a deletion (FORMATS 11.11)
                Name::Entry if kind == FileType::CharacterDevice && dir.stat(name)?.is_overlay_whiteout() => {
                    zero.push(name.to_vec());
                }
                Name::Entry => return self.attributes(dir, name, &mut steps),
                Name::Whiteout(w) => drop(whiteouts.insert(w.to_vec())),
                Name::Opaque => opaque |= !at_root,
                Name::Internal(_) => {}
            }
            steps.push(Step::Park { name: name.to_vec(), beside: false });
            Ok(())
        })?;
        self.attributes(dir, b".", &mut steps)?;
        if opaque {
            spot.close();
            steps.push(Step::Set { name: b".".to_vec(), attr: OPAQUE.to_vec(), value: b"y".to_vec() });
        }
        // what hides nothing would be listed by overlayfs, also in an opaque folder (FORMATS 11.2, 11.4)
        let look = !(opaque || whiteouts.is_empty() && zero.is_empty());
        let below = if look { self.chain.open(&spot.below(self.chain)?, &spot.path)? } else { Vec::new() };
        let mut hidden = Vec::new();
        for step in &mut steps {
            if let Step::Park { name, beside } = step
                && let Name::Whiteout(w) = branch::classify(name, at_root)
            {
                *beside = dir.has(w)?;
                if !*beside && self.chain.shows(&below, w)? {
                    hidden.push(w.to_vec());
                }
            }
        }
        for name in zero {
            if self.chain.shows(&below, &name)? {
                hidden.push(name);
            }
        }
        steps.extend(hidden.into_iter().map(|name| Step::Device { name }));
        if !steps.is_empty() {
            if dir.is_immutable()? {
                return Err(immutable(dir));
            }
            self.to.add(&Change { path: spot.path.clone(), times: Times::from(&dir.meta()?), steps })?;
        }
        let closed = |name: Vec<u8>| (whiteouts.contains(&name), name);
        Ok(subs.into_iter().map(closed).collect())
    }

    /// Takes off what overlayfs would obey (FORMATS 11.28).
    fn attributes(&self, dir: &Dir, name: &[u8], steps: &mut Vec<Step>) -> Result<()> {
        if !self.attributes || !dir.has_overlay_xattr(name)? {
            return Ok(());
        }
        for (attr, value) in dir.xattrs(name)?.into_iter().filter(|(n, _)| n.starts_with(OVERLAY_PREFIX)) {
            steps.push(Step::Drop { name: name.to_vec(), attr, value });
        }
        Ok(())
    }
}
