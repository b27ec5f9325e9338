//! The new store against the old one that it was made of.

use super::alone::{self, Ours};
use super::compare::Views;
use super::seen::{Seen, each, says_nothing, stops};
use super::since::Since;
use super::{By, Case, Difference, Level, Report, Side, compare, digest, frame, headers, records, since};
use crate::disk::Dir;
use crate::docker::driver::stack::Theirs;
use crate::docker::driver::{Role, Target, WrittenBy};
use crate::error::Result;
use crate::ids::{ChainId, LayerId};
use crate::layer::view::Chain;
use crate::plan::names::Names;
use crate::plan::stack::Part;
use crate::plan::{Plan, PlanFile, PlanLayer};
use crate::progress::Progress;
use crate::store::{Content, DAMAGED};
use crate::tar::split::beside;
use crate::tar::viewtar::Shift;
use crate::target::Below;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;

/// Compares.
pub fn verify(case: &Case<'_>, level: Level, progress: &dyn Progress) -> Result<Report> {
    let (plan, all) = (case.plan, case.part == Part::All);
    let mut seen = Seen::default();
    if let Some(switched) = case.switched
        && since::docker_ran(case.new, switched)
    {
        let since = Since::look(plan, case.new, switched)?;
        since.check(&seen)?;
        seen.since = Some(since);
    }
    frame::check(case, &seen)?;
    let layers: Vec<&PlanLayer> = plan.layers.iter().filter(|l| all || !l.role.writable()).collect();
    let pair = Pair::new(case, level, all, &seen)?;
    let views = pair.layers(&layers, case.proved, progress)?;
    let metadata = if all { records::check(case, &seen)? } else { 0 };
    // afterwards what was copied along is Docker's to change
    if all && case.switched.is_none() {
        units(case, level, &seen, progress)?;
    }
    let names = Names::of_plan(plan);
    let containers: HashMap<&str, &str> = plan.containers.iter().map(|c| (c.id.as_str(), c.name.as_str())).collect();
    let name = |d: &Difference| match d.kind {
        "layer" => names.get(&d.id).unwrap_or_default().to_owned(),
        _ => containers.get(d.id.as_str()).copied().unwrap_or_default().to_owned(),
    };
    let report = seen.report(plan.options.to.name(), name);
    let report = Report { against_old: true, layers: layers.len() as u64, views, metadata, ..report };
    // a cleanup leaves these too, and the old store may have the only other copy of them
    if all && case.switched.is_some() && plan.merge.is_some() {
        let driver = WrittenBy::Living(plan.options.to);
        return Ok(report.with(alone::others(case.new, driver, &Ours::of(plan), level, progress)?));
    }
    Ok(report)
}

/// A part of the proof of one layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Against the headers of its tar.
    Headers,
    /// Old against new, if that is `wanted`, and its digest.
    View {
        /// Compare the views?
        wanted: bool,
    },
}

/// Two stores that are compared layer by layer.
struct Pair<'a> {
    plan: &'a Plan,
    old: &'a Dir,
    new: &'a Dir,
    level: Level,
    /// Also what only exists when the stage is complete.
    all: bool,
    sources: BTreeMap<&'a LayerId, &'a str>,
    theirs: Theirs<'a>,
    /// The record of each layer's tar.
    tar_splits: HashMap<ChainId, &'a PlanFile>,
    seen: &'a Seen<'a>,
}

impl<'a> Pair<'a> {
    fn new(case: &Case<'a>, level: Level, all: bool, seen: &'a Seen<'a>) -> Result<Pair<'a>> {
        let Case { plan, old, new, .. } = *case;
        // before the switch the existing target store is next to the old one, afterwards it holds the new one, without what Docker removed
        let at = match plan.kept().first() {
            Some(k) if case.switched.is_none() && !new.has(plan.options.to.tree(&k.theirs))? => old,
            _ => new,
        };
        let theirs = Theirs { at, ids: Below::of(plan).theirs };
        let tar_splits = plan.metadata.iter().filter_map(|f| {
            let chain = f.path.strip_prefix("layerdb/sha256/")?.strip_suffix("/tar-split.json.gz")?;
            Some((ChainId::from_hex(chain).ok()?, f))
        });
        let (sources, tar_splits) = (plan.sources(), tar_splits.collect());
        Ok(Pair { plan, old, new, level, all, sources, theirs, tar_splits, seen })
    }

    /// Compares the layers' views; of a target that stacks layers, what is based on a layer rests on that layer's own comparison, so
    /// every name is looked at once, however deep the stack. Returns how many were compared.
    fn layers(&self, layers: &[&PlanLayer], proved: &BTreeSet<String>, progress: &dyn Progress) -> Result<u64> {
        let parents: BTreeSet<_> = self.plan.layers.iter().filter_map(|l| l.lowers.first()).collect();
        let top = |l: &PlanLayer| l.role != Role::Image || !parents.contains(&l.id);
        let every = self.level == Level::Full || self.plan.options.to.stacks();
        let wanted = |l: &PlanLayer| (every || top(l)) && !proved.contains(l.id.as_str());
        let alone = |l: &PlanLayer| l.role == Role::Image && !proved.contains(l.id.as_str());
        // a record that is made while migrating was not there yet when the layer itself was proved
        let late = |l: &PlanLayer| self.all && self.level == Level::Full && self.made_here(l);
        let chosen = layers.iter().map(|l| (*l, wanted(l))).filter(|(l, view)| *view || alone(l) || late(l));
        let mut todo: Vec<(&PlanLayer, Work)> = Vec::new();
        for (l, view) in chosen {
            // a layer's headers are one thread's work: another one looks at its view in the meantime
            todo.extend(alone(l).then_some((l, Work::Headers)));
            todo.push((l, Work::View { wanted: view }));
        }
        // the longest first: a layer's digest is one thread's work, or two threads'
        todo.sort_by_key(|(l, _)| std::cmp::Reverse(l.facts.bytes));
        let views = todo.iter().filter(|(_, work)| *work == Work::View { wanted: true }).count() as u64;
        let own = todo.iter().filter(|(_, work)| *work != Work::Headers).map(|(l, _)| l.facts.bytes);
        let all = own.fold(0, u64::saturating_add);
        let work = |(layer, work): &(&PlanLayer, Work)| match *work {
            Work::Headers => self.headers(layer),
            Work::View { wanted } => self.layer(layer, wanted, beside(layer.facts.bytes, all)),
        };
        each(&todo, |(l, _)| &l.id, (Side::Between, self.seen), progress, work)?;
        Ok(views)
    }

    fn layer(&self, layer: &PlanLayer, view: bool, large: bool) -> Result<()> {
        let (to, full) = (self.plan.options.to, self.level == Level::Full);
        let (was, is) = (layer.old_stack(self.old, &self.sources)?, to.view(self.new, layer, &self.theirs)?);
        let differs = view && self.views(layer, &was, &is)?;
        // the files were read a moment ago: the digest finds them in memory
        if full && layer.role == Role::Image && (self.all || !self.made_here(layer)) {
            let Some(diff) = layer.diff_id else {
                self.seen.unprovable(layer.id.as_str(), "used by no image, so Docker recorded no digest");
                return Ok(());
            };
            let (record, old_record) = (|| self.tar_split(layer, self.all), || self.tar_split(layer, false));
            let new = digest::LayerTree { chain: &is, tar_split: &record };
            let old = Some(digest::LayerTree { chain: &was, tar_split: &old_record });
            let of = digest::Layer { id: &layer.id, diff, new, old, differs, large };
            digest::check(&of, self.seen)?;
        }
        Ok(())
    }

    fn views(&self, layer: &PlanLayer, old: &Chain, new: &Chain) -> Result<bool> {
        let to = self.plan.options.to;
        let own = new.branch(0)?.dir()?.label();
        let tree = own.strip_prefix(self.new.label()).unwrap_or(Path::new("")).as_os_str().as_encoded_bytes().to_vec();
        let parent = if to == Target::Btrfs && layer.role.writable() { self.parent(layer)? } else { None };
        let (content, theirs) = (self.level == Level::Full, &self.theirs);
        compare::views(&Views { layer, old, new, tree, snapshot_of: parent.as_ref(), to, content, theirs }, self.seen)
    }

    /// The tree of the layer below, where each layer's is complete.
    fn parent(&self, layer: &PlanLayer) -> Result<Option<Dir>> {
        let Some(parent) = layer.lowers.first() else { return Ok(None) };
        let (at, id) = self.theirs.place(parent).unwrap_or((self.new, parent));
        at.open(self.plan.options.to.tree(id)).map(Some)
    }

    /// Holds an image layer against the headers of its tar, and where it does not fit them, the old one too.
    fn headers(&self, layer: &PlanLayer) -> Result<()> {
        let id = layer.id.as_str();
        let Some(record) = self.record(layer) else {
            self.seen.unprovable(id, "no tar-split.json.gz");
            return Ok(());
        };
        if matches!(record.content, Content::TarSplitOf(_)) {
            match self.plan.left_behind.iter().find(|l| l.kind == DAMAGED && l.id == id) {
                Some(damaged) => self.seen.damaged_before(id, damaged.reason.as_str()),
                None => {
                    let why = alone::unrecorded(self.old, &layer.id)?;
                    self.seen.unprovable(id, format!("{why}; compared with the old store only"));
                }
            }
            return Ok(());
        }
        let to = self.plan.options.to;
        if !to.stacks() && layer.lowers.first().is_some_and(|p| self.theirs.place(p).is_some()) {
            // what Docker unpacked there need not be what is below this layer in the old store
            self.seen
                .unprovable(id, "based on a layer that was in the new store before; compared with the old store only");
            return Ok(());
        }
        let (uid, gid) = self.plan.style.root;
        let owners = Shift { uid, gid };
        let is = to.view(self.new, layer, &self.theirs)?;
        let parent = if to.stacks() { None } else { self.parent(layer)? };
        let stored = match to {
            Target::Overlay2 => headers::Stored::Stacked(&is),
            _ => headers::Stored::Whole {
                parent: parent.as_ref(),
                overlay: to == Target::Overlay,
                content: self.level == Level::Full,
            },
        };
        let new = headers::Layer { tree: is.branch(0)?.dir()?, stored, owners };
        let d = || Difference::new("layer", id, "").by(By::Headers);
        let faults = match self
            .tar_split(layer, self.all)
            .and_then(|file| file.map(|f| headers::check(&new, f)).transpose())
        {
            Ok(faults) => faults.unwrap_or_default(),
            Err(_) if self.damaged_before(layer)? => return Ok(()),
            Err(e) => return self.seen.failed(Difference { what: "the headers of its tar: ".to_owned(), ..d() }, e),
        };
        self.seen.headers.fetch_add(1, Ordering::Relaxed);
        match faults.count {
            0 => Ok(()),
            _ => self.faults(layer, faults, owners),
        }
    }

    /// Sorts out which faults the old tree has too.
    fn faults(&self, layer: &PlanLayer, faults: headers::Faults, owners: Shift) -> Result<()> {
        let old_tree = self.old.open(&layer.source)?;
        let old = headers::Layer { tree: &old_tree, stored: headers::Stored::Literal, owners };
        let before = match self.tar_split(layer, false)? {
            Some(file) => headers::check(&old, file)?,
            None => headers::Faults::default(),
        };
        let known: HashSet<&[u8]> = before.list.iter().map(|f| &f.path[..]).collect();
        let lost: HashSet<&[u8]> = before.list.iter().filter(|f| f.shows_more()).map(|f| &f.path[..]).collect();
        let in_old = |path: &[u8]| known.contains(path) || above(path).any(|dir| lost.contains(dir));
        let listed = faults.list.len() as u64;
        for f in faults.list {
            let side = if in_old(&f.path) { Side::Both } else { Side::New };
            let d = Difference::new("layer", layer.id.as_str(), f.what).by(By::Headers);
            self.seen.note(d.path(f.path).side(side));
        }
        self.seen.uncounted("layer", faults.count - listed);
        Ok(())
    }

    /// Is the record of the layer's tar damaged in both stores? Then it moved as it was, and says nothing about the layer.
    fn damaged_before(&self, layer: &PlanLayer) -> Result<bool> {
        let read = |new: bool| match self.tar_split(layer, new).and_then(|f| f.map(headers::readable).transpose()) {
            Err(e) if stops(&e) => Err(e),
            Err(e) if says_nothing(&e) => Ok(None),
            read => Ok(read.err()),
        };
        let (Some(e), Some(_)) = (read(self.all)?, read(false)?) else { return Ok(false) };
        self.seen.damaged_record(layer.id.as_str(), &e);
        Ok(true)
    }

    fn record(&self, layer: &PlanLayer) -> Option<&PlanFile> {
        self.tar_splits.get(&layer.chain_id?).copied()
    }

    /// Is its record made again, because Docker had made none?
    fn made_here(&self, layer: &PlanLayer) -> bool {
        self.record(layer).is_some_and(|f| matches!(f.content, Content::TarSplitOf(_)))
    }

    /// The record of a layer's tar: the new store's, or the one that it is copied from.
    fn tar_split(&self, layer: &PlanLayer, new: bool) -> Result<Option<File>> {
        let Some(f) = self.record(layer) else { return Ok(None) };
        match (&f.content, new) {
            (Content::Same(from), false) => self.old.open_file(from).map(Some),
            _ => self.new.open_file(format!("image/{}/{}", self.plan.options.to, f.path)).map(Some),
        }
    }
}

/// Compares what was copied along to a new root in another place. Before the switch only: afterwards it is Docker's to change.
fn units(case: &Case<'_>, level: Level, seen: &Seen<'_>, progress: &dyn Progress) -> Result<()> {
    let Some(e) = &case.plan.new_root else { return Ok(()) };
    progress.phase("verify other files", e.units.len() as u64);
    for c in &e.units {
        crate::stop::check()?;
        let name = c.name();
        let one = || -> Result<()> {
            let ((from, last), (to, _)) = (case.old.parent_of(&c.path)?, case.new.parent_of(&c.path)?);
            for link in &c.links {
                let (holder, at) = match link.path.is_empty() {
                    true => (to.again()?, last),
                    false => (to.open(last)?, &link.path[..]),
                };
                if holder.read_link(at)? != link.to {
                    let what = "the symlink leads elsewhere";
                    seen.note(Difference::new("carried", &*name, what).path(link.path.clone()));
                }
                if link.path.is_empty() {
                    seen.units.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
            }
            let leave = c.leave.iter().cloned().collect();
            let (at, file) = match from.stat(last)?.is_dir() {
                true if c.mount => return Ok(()),
                true => ((from.open(last)?, to.open(last)?), None),
                false => ((from, to), Some(last)),
            };
            let unit = compare::Unit { id: &name, at, file, leave: &leave };
            compare::unit(unit, level == Level::Full, seen)?;
            seen.units.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        one().or_else(|e| seen.failed(Difference::new("carried", &*name, ""), e))?;
        progress.step(&name);
    }
    Ok(())
}

/// The directories above a path.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |p| Some(crate::disk::split(p).0)).skip(1).take_while(|p| !p.is_empty())
}
