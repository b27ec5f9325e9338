//! Docker's records: `image/<driver>` and the containers' configurations, with modes and owners, and nothing besides.

use super::seen::Seen;
use super::{By, Case, Difference};
use crate::disk::same::same_bytes;
use crate::disk::{Dir, FileType, join};
use crate::docker::driver::Target;
use crate::docker::json;
use crate::error::{Error, Result};
use crate::ids::{ChainId, ContainerId};
use crate::plan::{PlanContainer, PlanFile};
use crate::store::content::{SMALL, text_of};
use crate::store::{Container, Content, boot};
use std::collections::BTreeSet;

/// Said of what the plan does not know.
pub const EXTRA: &str = "only in the new store";

/// Said of a container that Docker would load without its settings.
const NO_HOST_CONFIG: &str = "hostconfig.json is missing: Docker would forget how the container is run";

/// No real file of metadata is longer.
const LIMIT: u64 = 1 << 30;

/// Compares all of it. Returns how many files.
pub fn check(case: &Case<'_>, seen: &Seen<'_>) -> Result<u64> {
    let image = format!("image/{}", case.plan.options.to);
    let mut n = 0;
    for f in &case.plan.metadata {
        n += 1;
        file(case, &format!("{image}/{}", f.path), Difference::new("metadata", &*f.path, ""), f, seen)?;
    }
    let known: BTreeSet<&[u8]> = case.plan.metadata.iter().map(|f| f.path.as_bytes()).collect();
    let failed = |e| seen.failed(Difference::new("metadata", &*image, "").by(By::Records), e);
    directory(case, &image, b"", &known, seen).or_else(failed)?;
    for c in &case.plan.containers {
        let at = format!("containers/{}", c.id);
        if matches!(case.new.has(&at), Ok(false)) {
            // said once, not of each file that was in it
            let d = Difference::new("container", c.id.as_str(), "its directory in containers/ is missing");
            seen.note(d.by(By::Records).at(at));
            continue;
        }
        for f in &c.files {
            n += 1;
            file(case, &format!("{at}/{}", f.path), Difference::new("container", c.id.as_str(), ""), f, seen)?;
        }
        let d = |what: &str| Difference::new("container", c.id.as_str(), what).by(By::Records);
        loads(case.new, c.id.as_str(), case.plan.options.to.name())
            .or_else(|e| seen.failed(d("Docker can't load it: "), e))?;
        if seen.since.is_some() {
            same_image(case, c, seen).or_else(|e| seen.failed(d(""), e))?;
        }
    }
    Ok(n)
}

/// Docker writes a container's configuration again, but never with another image, nor without `hostconfig.json`.
fn same_image(case: &Case<'_>, c: &PlanContainer, seen: &Seen<'_>) -> Result<()> {
    let d = |what: String| Difference::new("container", c.id.as_str(), what).by(By::Records);
    let dir = case.new.open(format!("containers/{}", c.id))?;
    // one that Docker can't load is named for that, and of one that it removes anything may be gone
    let Ok(is) = boot::config(&dir.read(boot::CONFIG, json::LIMIT)?, &c.id) else { return Ok(()) };
    if is.removing {
        return Ok(());
    }
    if !dir.has(boot::HOST_CONFIG)? {
        seen.note(d(NO_HOST_CONFIG.to_owned()));
    }
    let Some(f) = c.files.iter().find(|f| f.path == boot::CONFIG) else { return Ok(()) };
    let Some(planned) = f.content.bytes(case.old, case.plan.options.to.name(), LIMIT)? else { return Ok(()) };
    let Ok(was) = boot::config(&planned, &c.id) else { return Ok(()) };
    if was.image != is.image {
        let (is, was) = (crate::text::text(&is.image), crate::text::text(&was.image));
        seen.note(d(format!("config.v2.json names the image {is}, and the container was made from {was}")));
    }
    Ok(())
}

fn file(case: &Case<'_>, path: &str, d: Difference, f: &PlanFile, seen: &Seen<'_>) -> Result<()> {
    crate::stop::check()?;
    let d = d.by(By::Records).at(path);
    match same(case, path, f) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => {
            seen.note(Difference { what: format!("{path} {what}"), ..d });
            Ok(())
        }
        Err(e) => seen.failed(d, e),
    }
}

/// How the new file differs from what the plan wants.
fn same(case: &Case<'_>, path: &str, f: &PlanFile) -> Result<Option<String>> {
    let (old, new, driver) = (case.old, case.new, case.plan.options.to.name());
    let (equal, source) = match &f.content {
        Content::Same(from) => {
            let (a, b) = (old.open_file(from)?, new.open_file(path)?);
            (same_bytes(a, b, || new.show(path.as_bytes()), |_| {})?, Some(from))
        }
        // that it fits its layer is what the digest says
        Content::TarSplitOf(_) => (new.open_file(path).map(|_| true)?, None),
        Content::Edited(from, _) => (f.content.bytes(old, driver, LIMIT)? == Some(new.read(path, LIMIT)?), Some(from)),
        Content::Text(_) => (f.content.bytes(old, driver, LIMIT)? == Some(new.read(path, LIMIT)?), None),
    };
    if !equal {
        return Ok(Some("doesn't have the expected content".to_owned()));
    }
    let was = source.map(|from| old.stat_opt(from)).transpose()?.flatten();
    let (mode, owner) = was.map_or((0o600, None), |m| (m.mode, Some((m.uid, m.gid))));
    Ok(new.stat_opt(path)?.and_then(|is| unlike((is.mode, (is.uid, is.gid)), mode, owner)))
}

/// How mode and owner differ.
pub fn unlike(is: (u32, (u32, u32)), mode: u32, owner: Option<(u32, u32)>) -> Option<String> {
    if is.0 != mode {
        return Some(format!("has the mode {:04o}, should have {mode:04o}", is.0));
    }
    owner.filter(|o| *o != is.1).map(|(u, g)| format!("belongs to {}:{}, should belong to {u}:{g}", is.1.0, is.1.1))
}

/// A directory of `image/<driver>`: its mode and owner as in the old store, and nothing in it that the plan does not know.
fn directory(case: &Case<'_>, image: &str, below: &[u8], known: &BTreeSet<&[u8]>, seen: &Seen<'_>) -> Result<()> {
    let at = if below.is_empty() { image.as_bytes().to_vec() } else { join(image.as_bytes(), below) };
    let Some(dir) = case.new.open_opt(&at)? else { return Ok(()) };
    let is = dir.meta()?;
    for old in [image, "image/aufs"] {
        let old = if below.is_empty() { old.as_bytes().to_vec() } else { join(old.as_bytes(), below) };
        if let Some(was) = case.old.stat_opt(&old)? {
            if let Some(what) = unlike((is.mode, (is.uid, is.gid)), was.mode, Some((was.uid, was.gid))) {
                let id = String::from_utf8_lossy(below).into_owned();
                seen.note(Difference::new("metadata", id, format!("its directory {what}")).by(By::Records).at(&*at));
            }
            break;
        }
    }
    let mut below_it = Vec::new();
    dir.for_each(|name, kind, _| {
        let here = if below.is_empty() { name.to_vec() } else { join(below, name) };
        let within = [&here[..], b"/"].concat();
        let is_known = match kind {
            FileType::Directory => known.range(&within[..]..).next().is_some_and(|path| path.starts_with(&within)),
            _ => known.contains(&here[..]),
        };
        if is_known && kind == FileType::Directory {
            below_it.push(here);
        } else if !is_known {
            let id = String::from_utf8_lossy(&here).into_owned();
            seen.note(Difference::new("metadata", id, EXTRA).by(By::Records).at(join(image.as_bytes(), &here)));
        }
        Ok(())
    })?;
    drop(dir);
    below_it.iter().try_for_each(|d| directory(case, image, d, known, seen))
}

/// Are a container's records those that Docker itself writes? The reader makes up for what a crash has emptied; Docker does not.
pub fn whole(root: &Dir, c: &Container, driver: Target) -> Result<()> {
    let lost = |what: &str| Err(Error::corrupt(what));
    let record = root.open(format!("image/{driver}/layerdb/mounts/{}", c.id))?;
    let (init, parent) = (record.read_opt("init-id", SMALL)?, record.read_opt("parent", SMALL)?);
    if let Some(parent) = &parent {
        text_of(parent).and_then(|p| ChainId::parse(&p)).map_err(|e| e.on("its parent in layerdb/mounts"))?;
    }
    if init.is_none() && c.init.is_some() {
        return lost("its record in layerdb/mounts doesn't name its init layer");
    }
    let has_layers = init.is_some() || parent.is_some();
    if let Some(layer) = c.layer.as_ref().filter(|_| driver == Target::Overlay2 && has_layers)
        && !root.has(format!("overlay2/{layer}/lower"))?
    {
        return lost("overlay2 has no list of the layers below it (lower)");
    }
    if !root.has(format!("containers/{}/{}", c.id, boot::HOST_CONFIG))? {
        return lost(NO_HOST_CONFIG);
    }
    Ok(())
}

/// Would Docker load the container? The parts of its configuration without which dockerd leaves it out, or that would lead it to another
/// driver's layers.
pub fn loads(root: &Dir, id: &str, driver: &str) -> Result<()> {
    let container = ContainerId::parse(id)?;
    let dir = root.open(format!("containers/{id}"))?;
    let bytes = dir.read("config.v2.json", json::LIMIT)?;
    let config = boot::config(&bytes, &container).map_err(|refused| refused.why.on("config.v2.json"))?;
    if config.id.is_none() {
        return Err(Error::corrupt("config.v2.json has no ID"));
    }
    if config.driver != driver {
        let is = crate::text::text(&config.driver);
        return Err(Error::corrupt(format!("config.v2.json names the driver \"{is}\", not {driver}")));
    }
    boot::host_config(&dir).map(drop).map_err(|refused| refused.why.on(boot::HOST_CONFIG))
}
