//! A store by itself: what Docker wrote, or what unaufs made of an old store that is deleted by now.
//!
//! ```text
//! layerdb ──▶ the chain of digests, directories that are there, the layers below as the driver has them
//! imagedb ──▶ the digest of each config is its name, its layers are there      repositories.json ──▶ images that are there
//! layerdb/mounts, containers/ ──▶ layers that are there                         tar-split ──▶ each layer's names, owners, modes, times; its digest (level full)
//! ```
//!
//! Reading a store finds nearly all damage to records; a finding that only warns before a migration is a difference here.

use super::seen::{Seen, each};
use super::{By, Difference, Level, Report, Side, digest, headers, records};
use crate::checks::{Finding, Level::Warn};
use crate::disk::Dir;
use crate::docker::driver::{Role, Target, WrittenBy};
use crate::error::Result;
use crate::ids::{ChainId, LayerId, named};
use crate::layer::view::Chain;
use crate::plan::Plan;
use crate::plan::names::Names;
use crate::progress::Progress;
use crate::store::content::SMALL;
use crate::store::driver::chain;
use crate::store::graph::digest::record;
use crate::store::{Container, Content, Layer, Store, native};
use crate::tar::split::beside;
use crate::tar::viewtar::Shift;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::atomic::Ordering;

/// Findings that say that something of the store is damaged, whichever driver it is of.
const DAMAGE: [&str; 13] = ["C01", "C04", "C06", "C07", "D01", "D03", "D06", "D08", "D09", "D10", "G01", "G04", "G06"];

/// What a migration repairs, and Docker does not.
const DAMAGE_FOR_DOCKER: &str = "D14";

/// Checks the store of a driver. `base` represents ROOT.
pub fn verify(base: &Dir, driver: WrittenBy, level: Level, progress: &dyn Progress) -> Result<Report> {
    others(base, driver, &Ours::default(), level, progress)
}

/// What a run has brought into the store, which is compared with the old store.
#[derive(Default)]
pub struct Ours {
    /// Its layers, images and containers, as a finding names them.
    short: BTreeSet<String>,
    layers: BTreeSet<LayerId>,
    containers: BTreeSet<String>,
}

impl Ours {
    /// Of a plan.
    pub fn of(plan: &Plan) -> Ours {
        let layers: BTreeSet<LayerId> = plan.layers.iter().map(|l| l.id.clone()).collect();
        let chains = plan.layers.iter().filter_map(|l| l.chain_id);
        let short = layers.iter().map(LayerId::short).chain(chains.map(|c| c.short()));
        let short = short.chain(plan.images.iter().map(|i| i.id.short()));
        let short = short.chain(plan.containers.iter().map(|c| c.id.short().to_owned())).collect();
        Ours { short, layers, containers: plan.containers.iter().map(|c| c.id.to_string()).collect() }
    }
}

/// Checks the store of a driver, except what is `ours`.
pub fn others(base: &Dir, driver: WrittenBy, ours: &Ours, level: Level, progress: &dyn Progress) -> Result<Report> {
    let (store, findings) = match driver {
        WrittenBy::Aufs => crate::store::open(base)?,
        WrittenBy::Living(target) => native::open(base, target)?,
    };
    let seen = Seen::default();
    let theirs = |d: &Difference| !ours.short.contains(&d.id);
    findings.iter().filter_map(|f| damage(f, driver)).filter(theirs).for_each(|d| seen.note(d));
    let theirs = |l: &&Layer| l.broken.is_none() && !ours.layers.contains(&l.id);
    let layers: Vec<&Layer> = store.layers.values().filter(theirs).collect();
    let (records, owners) = (store.tar_splits(), store.owners(base));
    let alone = Alone { base, store: &store, ours, records, owners, level, seen: &seen };
    if let WrittenBy::Living(target) = driver {
        for layer in &layers {
            let sound = alone.lowers(layer, target).and_then(|l| target.sound(base, &layer.id, layer.role, &l));
            match sound {
                Ok(lines) => lines.into_iter().for_each(|l| seen.note(alone.damage(layer, l))),
                Err(e) => seen.failed(alone.damage(layer, ""), e)?,
            }
        }
        alone.containers(target)?;
    }
    alone.layers(&layers, progress)?;
    let names = Names::of_store(&store);
    let report = seen.report(driver.name(), |d| match d.kind {
        "layer" => names.get(&d.id).unwrap_or_default().to_owned(),
        _ => d.name.clone(),
    });
    Ok(Report { layers: layers.len() as u64, metadata: store.metadata.len() as u64, ..report })
}

/// Why a layer of Docker 1.9 or earlier has no tar-split data that can be used. `base` holds its `graph/`.
pub fn unrecorded(base: &Dir, layer: &LayerId) -> Result<&'static str> {
    Ok(match base.has(record(layer.as_str()))? {
        true => "its tar-data.json.gz doesn't match its files",
        false => "Docker didn't record the tar headers",
    })
}

/// The damage that a finding of the reader is, if it is one.
pub fn damage(f: &Finding, driver: WrittenBy) -> Option<Difference> {
    let living = driver != WrittenBy::Aufs;
    // whether dockerd loads a container is asked of each one, and which records have none
    let asked = ["C01", "D09"].contains(&f.id.as_str()) && living;
    let docker_s = f.id == DAMAGE_FOR_DOCKER && living;
    if asked || f.level < Warn || !docker_s && !DAMAGE.contains(&f.id.as_str()) {
        return None;
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
    // what unaufs does about it in a migration is of no use to Docker
    let what = if docker_s { "Docker can't read its diff or parent in layerdb" } else { &f.message };
    let d = Difference::new(kind, id.clone(), what).side(Side::Itself).by(By::Records);
    Some(Difference { name, ..d })
}

struct Alone<'a> {
    base: &'a Dir,
    store: &'a Store,
    ours: &'a Ours,
    /// Where the tar-split data of each layer are.
    records: BTreeMap<&'a LayerId, &'a Content>,
    owners: Shift,
    level: Level,
    seen: &'a Seen<'a>,
}

impl Alone<'_> {
    fn damage(&self, layer: &Layer, what: impl Into<String>) -> Difference {
        Difference::new("layer", layer.id.as_str(), what).side(Side::Itself).by(By::Records)
    }

    /// Each container of which layerdb knows: without its directory, or with one that dockerd can't load, its layer is of no use.
    fn containers(&self, target: Target) -> Result<()> {
        let mut ids = BTreeSet::new();
        if let Some(mounts) = self.base.open_opt(format!("image/{target}/layerdb/mounts"))? {
            // BuildKit's own have other names
            mounts.for_each(|name, _, _| {
                ids.extend(std::str::from_utf8(name).ok().filter(|n| n.len() == 64).map(str::to_owned));
                Ok(())
            })?;
        }
        for id in ids.difference(&self.ours.containers) {
            let known = self.store.containers.values().find(|c| c.id.as_str() == id);
            let d = |what: &str| {
                let d = Difference::new("container", id.as_str(), what).side(Side::Itself).by(By::Records);
                Difference { name: known.map(|c| c.name.clone()).unwrap_or_default(), ..d }
            };
            records::loads(self.base, id, target.name())
                .or_else(|e| self.seen.failed(d("Docker can't load it: "), e))?;
            let Some(c) = known.filter(|c| !c.foreign && c.broken.is_none()) else { continue };
            records::whole(self.base, c, target).or_else(|e| self.seen.failed(d(""), e))?;
            if target == Target::Overlay2 {
                self.order(c, &d).or_else(|e| self.seen.failed(d(""), e))?;
            }
        }
        Ok(())
    }

    /// All image layers.
    fn layers(&self, layers: &[&Layer], progress: &dyn Progress) -> Result<()> {
        let images = layers.iter().copied().filter(|l| l.role == Role::Image);
        let mut todo: Vec<(&Layer, u64)> = images.map(|l| (l, self.size(l))).collect();
        // the longest first: a layer's digest is one thread's work, or two threads'
        todo.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        let all: u64 = todo.iter().map(|(_, size)| size).fold(0, |a, b| a.saturating_add(*b));
        let work = |(layer, size): &(&Layer, u64)| self.one(layer, beside(*size, all));
        each(&todo, |(l, _)| &l.id, (Side::Itself, self.seen), progress, work)
    }

    /// The size that Docker has noted; 0 if it has none.
    fn size(&self, layer: &Layer) -> u64 {
        let Some(chain) = layer.chain else { return 0 };
        let path = format!("image/{}/layerdb/sha256/{}/size", self.store.written_by, chain.hex());
        self.base.read(path, SMALL).ok().and_then(|b| std::str::from_utf8(&b).ok()?.parse().ok()).unwrap_or(0)
    }

    fn tar_split(&self, layer: &LayerId) -> Result<Option<File>> {
        match self.records.get(layer) {
            Some(Content::Same(path)) => self.base.open_file(path).map(Some),
            _ => Ok(None),
        }
    }

    /// Why there are no tar-split data of a layer.
    fn no_record(&self, layer: &LayerId) -> Result<&'static str> {
        Ok(match self.records.get(layer) {
            Some(Content::TarSplitOf(_)) => unrecorded(self.base, layer)?,
            _ => "no tar-split.json.gz",
        })
    }

    fn one(&self, layer: &Layer, large: bool) -> Result<()> {
        let stack = chain(self.base, self.store.written_by, &self.store.layers, layer)?;
        match self.headers(&layer.id, &stack, layer.parent()) {
            Ok(None) => {
                self.seen.unprovable(layer.id.as_str(), self.no_record(&layer.id)?);
                return Ok(());
            }
            Ok(Some(faults)) => {
                self.seen.headers.fetch_add(1, Ordering::Relaxed);
                self.seen.names.fetch_add(faults.names, Ordering::Relaxed);
                let listed = faults.list.len() as u64;
                for f in faults.list {
                    self.seen.note(self.damage(layer, f.what).path(f.path).by(By::Headers));
                }
                self.seen.uncounted("layer", faults.count - listed);
            }
            Err(e) => self.seen.failed(self.damage(layer, "the headers of its tar: ").by(By::Headers), e)?,
        }
        if self.level == Level::Fast {
            return Ok(());
        }
        let Some(diff) = layer.diff else {
            self.seen.unprovable(layer.id.as_str(), "used by no image, so Docker recorded no digest");
            return Ok(());
        };
        let new = digest::LayerTree { chain: &stack, tar_split: &|| self.tar_split(&layer.id) };
        let of = digest::Layer { id: &layer.id, diff, new, old: None, differs: false, large };
        digest::check(&of, self.seen)
    }

    /// Holds a layer against the headers that are recorded of `record`; none without a record.
    fn headers(&self, record: &LayerId, stack: &Chain, parent: Option<&LayerId>) -> Result<Option<headers::Faults>> {
        let Some(split) = self.tar_split(record)? else { return Ok(None) };
        let tree = |target: Target, id: &LayerId| self.base.open(target.tree(id));
        let parent = match self.store.written_by {
            WrittenBy::Living(target) if !target.stacks() => parent.map(|id| tree(target, id)).transpose()?,
            _ => None,
        };
        let stored = match self.store.written_by {
            WrittenBy::Aufs => headers::Stored::Literal,
            WrittenBy::Living(Target::Overlay2) => headers::Stored::Stacked(stack),
            WrittenBy::Living(target) => headers::Stored::Whole {
                parent: parent.as_ref(),
                overlay: target == Target::Overlay,
                content: self.level == Level::Full,
            },
        };
        let layer = headers::Layer { tree: stack.branch(0)?.dir()?, stored, owners: self.owners };
        headers::check(&layer, split).map(Some)
    }

    /// The layers below one as its driver keeps them. overlay names one layer only, which may be an equal one as in [`Alone::order`].
    fn lowers(&self, layer: &Layer, target: Target) -> Result<Vec<LayerId>> {
        let mut out = layer.lowers.clone();
        let at = format!("overlay/{}/lower-id", layer.id);
        if target != Target::Overlay || layer.role == Role::Image || !self.base.has(&at)? {
            return Ok(out);
        }
        let text = self.base.read(&at, SMALL)?;
        let is = named(&text, LayerId::parse);
        let wanted = out.iter_mut().find(|l| !l.is_init());
        let (Some(is), Some(wanted)) = (is, wanted) else { return Ok(out) };
        if is != *wanted && self.base.has(target.tree(&is))? {
            let parent = self.store.layers.get(wanted).and_then(Layer::parent);
            let stack = target.stack(self.base, &is, (Role::Image, &[]), None)?;
            if self.headers(wanted, &stack, parent)?.is_some_and(|f| f.count == 0) {
                *wanted = is;
            }
        }
        Ok(out)
    }

    /// Are the layers below a container those that its image has? Docker 1.10 and later keep one of several equal layers of an older
    /// store in layerdb, and left containers on the others: those are held against the record of the one.
    fn order(&self, c: &Container, damage: &dyn Fn(&str) -> Difference) -> Result<()> {
        let Some(own) = c.layer.as_ref().and_then(|l| self.store.layers.get(l)) else { return Ok(()) };
        let path = format!("image/{}/layerdb/mounts/{}/parent", self.store.written_by, c.id);
        let Some(text) = self.base.read_opt(path, SMALL)? else { return Ok(()) };
        let parent = named(text.trim_ascii(), ChainId::parse);
        let top = self.store.layers.values().find(|l| l.chain.is_some() && l.chain == parent);
        let Some(top) = top else { return Ok(()) };
        let wanted: Vec<&LayerId> = c.init.iter().chain([&top.id]).chain(&top.lowers).collect();
        let other = || self.seen.note(damage("lower and layerdb name different layers"));
        if wanted.len() != own.lowers.len() {
            other();
            return Ok(());
        }
        for (i, (is, was)) in own.lowers.iter().zip(wanted).enumerate().filter(|(_, (is, was))| is != was) {
            let below = own.lowers.get(i + 1..).unwrap_or_default();
            let equal = || -> Result<bool> {
                let stack = Target::Overlay2.stack(self.base, is, (Role::Image, below), None)?;
                let fits = self.headers(was, &stack, below.first())?.is_some_and(|f| f.count == 0);
                let diff = self.store.layers.get(was).and_then(|l| l.diff).filter(|_| self.level == Level::Full);
                if let (true, Some(diff)) = (fits, diff) {
                    let new = digest::LayerTree { chain: &stack, tar_split: &|| self.tar_split(was) };
                    let of = digest::Layer { id: is, diff, new, old: None, differs: false, large: false };
                    digest::check(&of, self.seen)?;
                }
                Ok(fits)
            };
            match equal() {
                Ok(true) => {}
                Ok(false) => {
                    other();
                    return Ok(());
                }
                Err(e) => {
                    let what = format!("the layer {} below it: ", is.short());
                    return self.seen.failed(damage(&what), e);
                }
            }
        }
        Ok(())
    }
}
