//! The way back of a layer that Docker may have written into: what overlayfs left in it since becomes what aufs reads. Looks only.
//!
//! ```text
//! a new device 0:0 called NAME     →  removed; .wh.NAME
//! a new trusted.overlay.opaque=y   →  removed; .wh..wh..opq
//! trusted.overlay.{origin,impure,nlink,…}, which the kernel sets on what it copies up   →  removed
//! a new file called .wh.X          →  set aside: aufs would take it for a marker
//! what was taken out on the way there   →  put back, unless NAME has been made anew: .wh.NAME would hide it
//! ```
//!
//! A layer that nobody wrote into gets the plain inverse of the way there.

use super::record::{Change, Step, Writer};
use crate::disk::attrs::{OPAQUE, OVERLAY_PREFIX, Times};
use crate::disk::{Dir, FileType};
use crate::error::Result;
use crate::layer::branch::{self, Name, OPQ, WH};
use crate::plan::scan::join;
use std::collections::{HashMap, HashSet};

/// What was met that the old store cannot hold as it is, one line each.
#[derive(Debug, Default)]
pub struct Met {
    /// Deletions and opaque folders that containers made since, and that aufs gets to see.
    pub marked: u64,
    /// What it does not.
    pub odd: Vec<String>,
}

/// The folders that were changed on the way there, by path.
pub type Before = HashMap<Vec<u8>, Change>;

/// Writes down the way back of the layer at `tree`.
pub fn decide(tree: &Dir, before: &Before, to: &Writer) -> Result<Met> {
    let mut met = Met::default();
    let mut todo = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let dir = if path.is_empty() { tree.again()? } else { tree.open(&path)? };
        let found = Found::of(&dir, path.is_empty())?;
        todo.extend(found.folders.iter().map(|f| join(&path, f)));
        let was = before.get(&path);
        let steps = Folder { dir: &dir, path: &path, found: &found, was, met: &mut met }.steps()?;
        if steps.is_empty() {
            continue;
        }
        let now = Times::from(&dir.meta()?);
        // nothing was written in it since: reading does not count
        let times = was.map(|w| w.times).filter(|t| t.mtime == now.mtime).unwrap_or(now);
        to.add(&Change { path, times, steps })?;
    }
    Ok(met)
}

/// What is in a folder now.
#[derive(Default)]
struct Found {
    folders: Vec<Vec<u8>>,
    devices: HashSet<Vec<u8>>,
    /// Names that aufs would take for its own: on the way there all such were taken out.
    markers: HashSet<Vec<u8>>,
    /// Attributes that overlayfs obeys, by name; `.` is the folder.
    attributes: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
}

impl Found {
    fn of(dir: &Dir, at_root: bool) -> Result<Found> {
        let mut out = Found::default();
        out.attributes(dir, b".")?;
        dir.for_each(|name, kind, _| {
            let set = match branch::classify(name, at_root) {
                Name::Entry if kind == FileType::Directory => {
                    out.folders.push(name.to_vec());
                    return Ok(());
                }
                Name::Entry if kind == FileType::CharacterDevice && dir.stat(name)?.is_overlay_whiteout() => {
                    &mut out.devices
                }
                Name::Entry => return out.attributes(dir, name),
                _ => &mut out.markers,
            };
            set.insert(name.to_vec());
            Ok(())
        })?;
        Ok(out)
    }

    fn attributes(&mut self, dir: &Dir, name: &[u8]) -> Result<()> {
        if dir.has_overlay_xattr(name)? {
            let all = dir.xattrs(name)?.into_iter().filter(|(a, _)| a.starts_with(OVERLAY_PREFIX));
            self.attributes.extend(all.map(|(a, v)| (name.to_vec(), a, v)));
        }
        Ok(())
    }
}

struct Folder<'a> {
    dir: &'a Dir,
    path: &'a [u8],
    found: &'a Found,
    was: Option<&'a Change>,
    met: &'a mut Met,
}

impl Folder<'_> {
    fn steps(mut self) -> Result<Vec<Step>> {
        let before = self.was.map(|w| &w.steps[..]).unwrap_or_default();
        let parked = self.was.map(Change::parked).unwrap_or_default();
        let mut out = Vec::new();
        self.strangers(&parked, &mut out);
        self.deletions(&parked, &mut out);
        for step in before {
            if let Step::Park { name, beside } = step
                && self.goes_back(name, *beside)?
            {
                out.push(Step::Unpark { name: name.clone() });
            }
        }
        self.attributes(before, &parked, &mut out);
        Ok(out)
    }

    fn odd(&mut self, name: &[u8], what: &str) {
        let path = crate::text::bytes(&join(self.path, name));
        self.met.odd.push(format!("/{path}: {what}"));
    }

    /// Files that a container called `.wh.…`, which overlayfs allows.
    fn strangers(&mut self, parked: &HashSet<&[u8]>, out: &mut Vec<Step>) {
        let mut markers: Vec<_> = self.found.markers.iter().collect();
        markers.sort();
        for name in markers {
            match branch::classify(name, self.path.is_empty()) {
                // what it means to aufs is what happened
                Name::Whiteout(w) if self.found.devices.contains(w) && !parked.contains(&name[..]) => {
                    self.odd(name, "made since; for aufs it is a whiteout, whose content does not show");
                }
                _ => {
                    self.odd(name, "made since; aufs would take it for a marker, so it is set aside");
                    out.push(Step::Aside { name: name.clone(), parked: parked.contains(&name[..]) });
                }
            }
        }
    }

    /// Devices: ours, whose markers are put back, and those of deletions since.
    fn deletions(&mut self, parked: &HashSet<&[u8]>, out: &mut Vec<Step>) {
        let mut devices: Vec<_> = self.found.devices.iter().collect();
        devices.sort();
        for name in devices {
            let marker = [WH, name].concat();
            let own = parked.contains(&name[..]);
            if !own && !parked.contains(&marker[..]) && !self.found.markers.contains(&marker) {
                // FORMATS 11.27
                if marker.len() > 255 {
                    self.odd(name, "deleted since; the name is too long for a whiteout of aufs, so it is there again");
                } else {
                    self.met.marked += 1;
                    out.push(Step::Marker { name: marker });
                }
            }
            out.push(Step::NoDevice { name: name.clone(), parked: own });
        }
    }

    /// Does a name that was taken out still make sense?
    fn goes_back(&self, name: &[u8], beside: bool) -> Result<bool> {
        let there = |n: &[u8]| Ok::<bool, crate::error::Error>(!self.found.devices.contains(n) && self.dir.has(n)?);
        match branch::classify(name, self.path.is_empty()) {
            Name::Whiteout(w) => Ok(beside || !there(w)?),
            // a device 0:0 that was data
            Name::Entry => Ok(!there(name)?),
            _ => Ok(true),
        }
    }

    fn attributes(&mut self, before: &[Step], parked: &HashSet<&[u8]>, out: &mut Vec<Step>) {
        let ours = before.iter().any(|s| matches!(s, Step::Set { attr, .. } if attr == OPAQUE));
        let found = self.found;
        for (name, attr, value) in &found.attributes {
            let here = name == b".";
            if here && attr == OPAQUE && value == b"y" && !ours && !self.path.is_empty() && !parked.contains(OPQ) {
                self.met.marked += 1;
                out.push(Step::Marker { name: OPQ.to_vec() });
            }
            if attr.ends_with(b".redirect") || attr.ends_with(b".metacopy") {
                self.odd(name, "overlayfs has kept part of it elsewhere (redirect_dir or metacopy is on): look at it");
            }
            out.push(Step::Drop { name: name.clone(), attr: attr.clone(), value: value.clone() });
        }
        for step in before {
            if let Step::Drop { name, attr, value } = step {
                out.push(Step::Set { name: name.clone(), attr: attr.clone(), value: value.clone() });
            }
        }
    }
}
