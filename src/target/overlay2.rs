//! overlay2, Docker's default (FORMATS 2).
//!
//! ```text
//! overlay2/l/<LINK>          symlink to ../<id>/diff: 26 characters, so that many fit into one page of mount options
//! overlay2/<id>/link         LINK
//! overlay2/<id>/diff/        the layer, its deletions as devices 0:0 and opaque directories as an attribute
//! overlay2/<id>/lower        l/<parent>:l/<grandparent>:…         ┐
//! overlay2/<id>/work/        overlayfs's own                      ├ not for a layer without a parent
//! overlay2/<id>/merged/      mount point                          ┘
//! overlay2/<id>/committed    empty: another layer is based on this one
//! ```
//!
//! `merged/` is made by Docker itself at mount time only since 17.12, `committed` is read since 19.03.3: a layer with both, and the
//! rest, works with every Docker from 1.12 on.

use super::{Below, Links, make_dir, make_mount_dirs, overlay_diff};
use crate::disk::{Dir, FileType};
use crate::docker::driver::{Role, Style, Target};
use crate::error::{Error, Result};
use crate::ids::LayerId;
use crate::layer::view::Chain;
use crate::plan::PlanLayer;
use crate::target::file::{FileWriter, Tally};

pub(super) fn prepare(at: &Dir, style: &Style) -> Result<()> {
    super::ensure_dirs(at, style, &[("overlay2", style.top), ("overlay2/l", style.links)])
}

pub(super) fn build(at: &Dir, layer: &PlanLayer, below: &Below<'_>, chain: &Chain) -> Result<Tally> {
    let dir = frame(at, layer, below)?;
    dir.mkdir("diff", 0o755)?;
    let scope = Target::Overlay2.xattr_scope();
    let files = FileWriter::new(dir.open("diff")?, &layer.transfer, scope, layer.facts.overlay_xattrs.count > 0);
    overlay_diff::write(chain, 1, &files, layer.facts.idle_whiteouts == Some(0))?;
    Ok(files.tally)
}

/// Makes everything of a layer but its `diff`.
fn frame(at: &Dir, layer: &PlanLayer, Below { style, links, .. }: &Below<'_>) -> Result<Dir> {
    let (home, name) = (at.open("overlay2")?, layer.id.as_str());
    make_dir(&home, name, style.layer, style.owner)?;
    let dir = home.open(name)?;
    dir.write_new("link", layer.link.as_bytes(), 0o644)?;
    if let Some(lower) = lower_of(layer, links)? {
        dir.write_new("lower", lower.as_bytes(), 0o644)?;
        make_mount_dirs(&dir, style)?;
    }
    if layer.has_child {
        dir.write_new("committed", b"", 0o600)?;
    }
    home.open("l")?.symlink(format!("../{name}/diff").as_bytes(), layer.link.as_bytes())?;
    Ok(dir)
}

/// The content of `lower`; none for a base layer.
fn lower_of(layer: &PlanLayer, links: &Links<'_>) -> Result<Option<String>> {
    if layer.lowers.is_empty() {
        return Ok(None);
    }
    let parts = layer.lowers.iter().map(|l| {
        links.get(l.as_str()).map(|link| format!("l/{link}")).ok_or_else(|| {
            Error::corrupt(format!("layer {}: the layer {} below it is not in the plan", layer.id.short(), l.short()))
        })
    });
    Ok(Some(parts.collect::<Result<Vec<_>>>()?.join(":")))
}

pub(super) fn discard(at: &Dir, layer: &PlanLayer) -> Result<()> {
    let home = at.open("overlay2")?;
    home.open("l")?.remove_tree(layer.link.as_bytes())?;
    home.remove_tree(layer.id.as_str().as_bytes())
}

pub(super) fn refresh(at: &Dir, layer: &PlanLayer) -> Result<()> {
    let dir = at.open(format!("overlay2/{}", layer.id))?;
    match (dir.has("committed")?, layer.has_child) {
        (false, true) => dir.write_new("committed", b"", 0o600),
        (true, false) => dir.unlink(b"committed"),
        _ => Ok(()),
    }
}

pub(super) fn check(at: &Dir, layer: &PlanLayer, links: &Links<'_>) -> Result<Vec<String>> {
    let mut out = sound(at, &layer.id, layer.role, &layer.lowers)?;
    let dir = at.open(format!("overlay2/{}", layer.id))?;
    for (name, wanted) in [("link", Some(layer.link.clone())), ("lower", lower_of(layer, links)?)] {
        let is = text(&dir, name)?;
        if is != wanted {
            out.push(format!("{name} is {:?} and should be {:?}", is.unwrap_or_default(), wanted.unwrap_or_default()));
        }
    }
    if layer.has_child && !dir.has("committed")? {
        out.push("committed is missing, but another layer is based on this layer".to_owned());
    }
    if !layer.lowers.is_empty() && !dir.stat_opt("merged")?.is_some_and(|m| m.is_dir()) {
        out.push(super::MERGED.to_owned());
    }
    Ok(out)
}

/// `committed` is written since 19.03.3 only, and `merged` is there between two mounts until 17.11 only.
pub(super) fn sound(at: &Dir, id: &LayerId, role: Role, lowers: &[LayerId]) -> Result<Vec<String>> {
    let mut out = Vec::new();
    let home = at.open("overlay2")?;
    let dir = home.open(id.as_str())?;
    let l = home.open("l")?;
    match text(&dir, "link")?.unwrap_or_default() {
        link if link.is_empty() || !link.bytes().all(|c| c.is_ascii_alphanumeric()) => {
            out.push(format!("link is {link:?}, which can't be a name in l/"));
        }
        link => match l.try_stat(link.as_bytes()) {
            Ok(m) if m.kind == FileType::Symlink => {
                let target = l.read_link(link.as_bytes())?;
                if target != format!("../{id}/diff").as_bytes() {
                    out.push(format!("the symlink l/{link} leads to {}", crate::text::bytes(&target)));
                }
            }
            Ok(_) => out.push(format!("l/{link} isn't a symlink")),
            Err(e) => out.push(format!("the symlink l/{link}: {}", std::io::Error::from(e))),
        },
    }
    if role == Role::Container && dir.has("committed")? {
        out.push("there is a file committed: the container would be read-only".to_owned());
    }
    if !lowers.is_empty() && !dir.stat_opt("work")?.is_some_and(|m| m.is_dir()) {
        out.push("work/ is missing".to_owned());
    }
    Ok(out)
}

/// A small file of the driver, not trimmed: Docker does not either.
fn text(dir: &Dir, name: &str) -> Result<Option<String>> {
    Ok(dir.read_opt(name, 8192)?.map(|b| String::from_utf8_lossy(&b).into_owned()))
}
