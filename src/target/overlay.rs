//! overlay, Docker's first overlay driver, gone since Docker 24 (FORMATS 3).
//!
//! ```text
//! overlay/<id>/root/       image layer, or whatever has no layer below: all that it and the layers below show
//! overlay/<id>/upper/      init layer, container: its own content, deletions as devices 0:0     ┐
//! overlay/<id>/lower-id    the id of the one layer below, which has a root/                      ├ no root/
//! overlay/<id>/work/       overlayfs's own                                                       │
//! overlay/<id>/merged/     mount point                                                           ┘
//! ```
//!
//! The driver stacks two trees only, so a container is not based on its init layer: its `upper` holds what both have, and its `lower-id`
//! names the image layer. Docker copies the init layer's `upper` when it makes the container; what the container has changed since then is on
//! top of it. An image layer that the existing target store keeps has another id there, which is what `lower-id` then names.

use super::{Below, flat, make_dir, make_mount_dirs, overlay_diff};
use crate::disk::Dir;
use crate::docker::driver::stack::Ids;
use crate::docker::driver::{Role, Shape, Style, Target, shape};
use crate::error::Result;
use crate::ids::LayerId;
use crate::layer::view::Chain;
use crate::plan::PlanLayer;
use crate::target::file::{FileWriter, Tally};

pub(super) fn prepare(at: &Dir, style: &Style) -> Result<()> {
    super::ensure_dirs(at, style, &[("overlay", style.top)])
}

pub(super) fn build(at: &Dir, layer: &PlanLayer, below: &Below<'_>, chain: &Chain) -> Result<Tally> {
    let Below { style, theirs, .. } = below;
    let (home, name) = (at.open("overlay")?, layer.id.as_str());
    make_dir(&home, name, style.layer, style.owner)?;
    let dir = home.open(name)?;
    // every attribute that overlayfs would obey is looked for: the facts of the layers below are not at hand
    let files = |root: Dir| FileWriter::new(root, &layer.transfer, Target::Overlay.xattr_scope(), true);
    match shape(layer.role, &layer.lowers) {
        Shape::Root => {
            dir.mkdir("root", 0o755)?;
            let parent = super::parent(layer, theirs).map(|p| home.open(format!("{p}/root"))).transpose()?;
            let files = files(dir.open("root")?).over_parent(parent.is_some());
            flat::write_over(chain, parent, &files)?;
            Ok(files.tally)
        }
        Shape::Upper(branches, lower) => {
            dir.mkdir("upper", 0o755)?;
            let files = files(dir.open("upper")?);
            overlay_diff::write(chain, branches, &files, false)?;
            // 0666 less the umask until 19.03.14, 0600 since: told by the mode of the driver's directory (FORMATS 3)
            let lower = theirs.get(lower).unwrap_or(&lower);
            dir.write_new("lower-id", lower.as_str().as_bytes(), if style.top == 0o700 { 0o644 } else { 0o600 })?;
            make_mount_dirs(&dir, style)?;
            Ok(files.tally)
        }
    }
}

pub(super) fn check(at: &Dir, layer: &PlanLayer, theirs: &Ids<'_>) -> Result<Vec<String>> {
    let lowers: Vec<LayerId> = layer.lowers.iter().map(|l| (*theirs.get(l).unwrap_or(&l)).clone()).collect();
    let mut out = sound(at, &layer.id, layer.role, &lowers)?;
    // Docker from 17.12 on makes it itself
    let upper = matches!(shape(layer.role, &layer.lowers), Shape::Upper(..));
    if upper && !at.has(format!("overlay/{}/merged", layer.id))? {
        out.push(super::MERGED.to_owned());
    }
    Ok(out)
}

pub(super) fn sound(at: &Dir, id: &LayerId, role: Role, lowers: &[LayerId]) -> Result<Vec<String>> {
    const SMALL: u64 = 8192;
    let mut out = Vec::new();
    let dir = at.open(format!("overlay/{id}"))?;
    let (wanted, lower): (&[&str], _) = match shape(role, lowers) {
        Shape::Root => (&["root"], None),
        Shape::Upper(_, lower) => (&["upper", "work"], Some(lower.as_str())),
    };
    for sub in wanted {
        if !dir.stat_opt(sub)?.is_some_and(|m| m.is_dir()) {
            out.push(format!("{sub}/ is missing"));
        }
    }
    // Docker takes a layer with a root/ for a complete one, whatever else it has
    if lower.is_some() && dir.has("root")? {
        out.push("root/ is there: the layers below would not be used".to_owned());
    }
    let is = dir.read_opt("lower-id", SMALL)?.map(|b| String::from_utf8_lossy(&b).into_owned());
    if is.as_deref() != lower {
        out.push(format!("lower-id is {:?} and should be {:?}", is.unwrap_or_default(), lower.unwrap_or_default()));
    }
    Ok(out)
}
