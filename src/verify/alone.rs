//! A store by itself: what Docker wrote, or what unaufs made of an old store that is deleted by now.
//!
//! ```text
//! layerdb ──▶ the chain of digests, folders that are there, the layers below as the driver has them
//! imagedb ──▶ the digest of each config is its name, its layers are there      repositories.json ──▶ images that are there
//! layerdb/mounts, containers/ ──▶ layers that are there                         tar-split ──▶ each layer's digest (level full)
//! ```
//!
//! Reading a store finds nearly all of it; what the reader says of a store that is to be moved is here a difference.

use super::{Difference, Level, Report, Seen, Side, digest, each};
use crate::checks::Finding;
use crate::disk::Dir;
use crate::docker::driver::Role;
use crate::docker::driver::WrittenBy;
use crate::error::Result;
use crate::ids::LayerId;
use crate::progress::Progress;
use crate::store::content::SMALL;
use crate::store::driver::chain;
use crate::store::{Content, Layer, Store, native};
use crate::tar::split::beside;
use std::collections::HashMap;
use std::fs::File;

/// Findings that say that something of the store is damaged, whichever driver it is of.
const DAMAGE: [&str; 9] = ["C01", "C04", "D01", "D03", "D06", "D08", "D10", "G01", "G04"];

/// Checks the store of a driver. `base` stands for ROOT.
pub fn verify(base: &Dir, driver: WrittenBy, level: Level, progress: &dyn Progress) -> Result<Report> {
    let (store, findings) = match driver {
        WrittenBy::Aufs => crate::store::open(base)?,
        WrittenBy::Living(target) => native::open(base, target)?,
    };
    let seen = Seen::default();
    findings.iter().for_each(|f| finding(f, driver, &seen));
    let layers: Vec<&Layer> = store.layers.values().filter(|l| l.broken.is_none()).collect();
    for layer in &layers {
        if let WrittenBy::Living(target) = driver {
            match target.sound(base, &layer.id, layer.role, &layer.lowers) {
                Ok(lines) => lines.into_iter().for_each(|l| note(&seen, layer, l)),
                Err(e) => note(&seen, layer, e.chain()),
            }
        }
    }
    if level == Level::Full {
        digests(base, &store, &layers, &seen, progress)?;
    }
    let names = names(&store);
    let report = seen.report(driver.name(), |d| match d.kind {
        "layer" => names.get(super::short(&d.id).as_str()).cloned().unwrap_or_default(),
        _ => d.name.clone(),
    });
    Ok(Report { layers: layers.len() as u64, metadata: store.metadata.len() as u64, ..report })
}

fn note(seen: &Seen, layer: &Layer, what: String) {
    seen.note("layer", layer.id.as_str(), b"", what, Side::Itself);
}

fn finding(f: &Finding, driver: WrittenBy, seen: &Seen) {
    // on aufs the two lists may well differ: Docker 1.10 merged equal layers in layerdb and left containers on the other folders
    let order = f.id == "C05" && driver != WrittenBy::Aufs;
    if !order && !DAMAGE.contains(&f.id.as_str()) {
        return;
    }
    let (kind, id) = match f.subject.kind.as_str() {
        "layer" => ("layer", &f.subject.id),
        "image" => ("image", &f.subject.id),
        "container" if !f.subject.id.is_empty() => ("container", &f.subject.id),
        "container" => ("container", &f.subject.name),
        "tag" => ("tag", &f.subject.name),
        _ => ("metadata", &f.subject.name),
    };
    let name = if id == &f.subject.name { String::new() } else { f.subject.name.clone() };
    let (id, what) = (id.clone(), f.message.clone());
    seen.push(Difference { kind, id, name, path: Vec::new(), what, side: Side::Itself });
}

/// Rebuilds the digests of all image layers.
fn digests(base: &Dir, store: &Store, layers: &[&Layer], seen: &Seen, progress: &dyn Progress) -> Result<()> {
    let records: HashMap<&LayerId, &Content> = store
        .metadata
        .iter()
        .filter(|f| f.path.ends_with("/tar-split.json.gz"))
        .filter_map(|f| Some((f.layer.as_ref()?, &f.content)))
        .collect();
    let images = layers.iter().copied().filter(|l| l.role == Role::Image);
    let mut todo: Vec<(&Layer, u64)> = images.map(|l| (l, size(base, store, l))).collect();
    // the longest first: a layer's digest is one thread's work, or two threads'
    todo.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let all: u64 = todo.iter().map(|(_, size)| size).fold(0, |a, b| a.saturating_add(*b));
    let work = |(layer, size): &(&Layer, u64)| one(base, store, layer, &records, beside(*size, all), seen);
    each(&todo, |(l, _)| &l.id, Side::Itself, seen, progress, work)
}

/// The size that Docker has noted; 0 if it has none.
fn size(base: &Dir, store: &Store, layer: &Layer) -> u64 {
    let Some(chain) = layer.chain else { return 0 };
    let path = format!("image/{}/layerdb/sha256/{}/size", store.written_by, chain.hex());
    base.read(path, SMALL).ok().and_then(|b| std::str::from_utf8(&b).ok()?.parse().ok()).unwrap_or(0)
}

fn one(
    base: &Dir,
    store: &Store,
    layer: &Layer,
    records: &HashMap<&LayerId, &Content>,
    large: bool,
    seen: &Seen,
) -> Result<()> {
    let stack = chain(base, store.written_by, &store.layers, layer)?;
    let Some(diff) = layer.diff else {
        seen.unprovable(layer.id.as_str(), "no image has it, so no digest of it was ever recorded");
        return Ok(());
    };
    let tar_split = || -> Result<Option<File>> {
        match records.get(&layer.id) {
            Some(Content::Same(path)) => base.open_file(path).map(Some),
            _ => Ok(None),
        }
    };
    let new = digest::Kept { chain: &stack, tar_split: &tar_split };
    let of = digest::Layer { id: &layer.id, diff, new, old: None, differs: false, large };
    digest::check(&of, seen)
}

/// Who uses a layer, by the short form of its id: findings have no other.
fn names(store: &Store) -> HashMap<String, String> {
    let mut out = HashMap::new();
    for c in store.containers.values() {
        out.extend(c.layer.iter().chain(&c.init).map(|l| (l.short(), format!("container {}", c.name))));
    }
    for i in store.images.values() {
        let name = i.tags.first().cloned().unwrap_or_else(|| i.id.short());
        for l in i.layers.iter().rev() {
            out.entry(l.short()).or_insert_with(|| format!("image {name}"));
        }
    }
    out
}
