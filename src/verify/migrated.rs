//! The new store against the old one that it was made of.

use super::{Level, Report, Seen, Side, compare, digest, each};
use crate::disk::Dir;
use crate::docker::driver::Role;
use crate::docker::driver::stack::Theirs;
use crate::error::Result;
use crate::ids::{ChainId, LayerId};
use crate::plan::stack::Part;
use crate::plan::{Plan, PlanFile, PlanLayer};
use crate::progress::Progress;
use crate::store::Content;
use crate::tar::split::beside;
use crate::target::Below;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;

/// Compares. `old` and `new` each stand for ROOT: `old` holds `aufs/`, `new` holds `<driver>/` and `image/<driver>/`.
pub fn verify(plan: &Plan, old: &Dir, new: &Dir, level: Level, progress: &dyn Progress) -> Result<Report> {
    verify_stage(plan, old, new, level, Part::All, &Default::default(), progress)
}

/// Compares a part: only image layers, or without what was `proved` before.
pub fn verify_stage(
    plan: &Plan,
    old: &Dir,
    new: &Dir,
    level: Level,
    which: Part,
    proved: &BTreeSet<String>,
    progress: &dyn Progress,
) -> Result<Report> {
    let seen = Seen::default();
    let below = Below::of(plan);
    let all = which == Part::All;
    let layers: Vec<&PlanLayer> = plan.layers.iter().filter(|l| all || !l.role.writable()).collect();
    for layer in &layers {
        match plan.options.to.check(new, layer, &below) {
            Ok(lines) => lines.into_iter().for_each(|l| seen.differ("layer", layer.id.as_str(), b"", l)),
            Err(e) => seen.differ("layer", layer.id.as_str(), b"", e.chain()),
        }
    }
    let pair = Pair::new(plan, old, new, level, all, &seen)?;
    let views = pair.layers(&layers, proved, progress)?;
    let metadata = if all { metadata(plan, old, new, &seen)? } else { 0 };
    let names = names(plan);
    let report = seen.report(plan.options.to.name(), |d| names.get(d.id.as_str()).cloned().unwrap_or_default());
    Ok(Report { against_old: true, layers: layers.len() as u64, views, metadata, ..report })
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
    seen: &'a Seen,
}

impl<'a> Pair<'a> {
    fn new(plan: &'a Plan, old: &'a Dir, new: &'a Dir, level: Level, all: bool, seen: &'a Seen) -> Result<Pair<'a>> {
        // before the switch the target's own store lies beside the old one, afterwards it holds the new one
        let at = match plan.kept().first() {
            Some(k) if !new.has(plan.options.to.tree(&k.theirs))? => old,
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

    /// Compares the layers' views; of a target that stacks layers, what stands on a layer rests on that layer's own comparison, so
    /// every name is looked at once, however deep the stack. Returns how many were compared.
    fn layers(&self, layers: &[&PlanLayer], proved: &BTreeSet<String>, progress: &dyn Progress) -> Result<u64> {
        let parents: BTreeSet<_> = self.plan.layers.iter().filter_map(|l| l.lowers.first()).collect();
        let top = |l: &PlanLayer| l.role != Role::Image || !parents.contains(&l.id);
        let every = self.level == Level::Full || self.plan.options.to.stacks();
        let wanted = |l: &PlanLayer| (every || top(l)) && !proved.contains(l.id.as_str());
        // a record that is made while migrating was not there yet when the layer itself was proved
        let late = |l: &PlanLayer| self.all && self.level == Level::Full && self.made_here(l);
        let mut todo: Vec<(&PlanLayer, bool)> =
            layers.iter().map(|l| (*l, wanted(l))).filter(|(l, view)| *view || late(l)).collect();
        // the longest first: a layer's digest is one thread's work, or two threads'
        todo.sort_by_key(|(l, _)| std::cmp::Reverse(l.facts.bytes));
        let views = todo.iter().filter(|(_, view)| *view).count() as u64;
        let all = todo.iter().map(|(l, _)| l.facts.bytes).fold(0, u64::saturating_add);
        let work = |(layer, view): &(&PlanLayer, bool)| self.layer(layer, *view, beside(layer.facts.bytes, all));
        each(&todo, |(l, _)| &l.id, Side::Between, self.seen, progress, work)?;
        Ok(views)
    }

    fn layer(&self, layer: &PlanLayer, view: bool, large: bool) -> Result<()> {
        let (to, full) = (self.plan.options.to, self.level == Level::Full);
        let (was, is) = (layer.old_stack(self.old, &self.sources)?, to.view(self.new, layer, &self.theirs)?);
        let differs = view && compare::views(layer, &was, &is, to, full, &self.theirs, self.seen)?;
        // the files were read a moment ago: the digest finds them in memory
        if full && layer.role == Role::Image && (self.all || !self.made_here(layer)) {
            let Some(diff) = layer.diff_id else {
                self.seen.unprovable(layer.id.as_str(), "no image has it, so no digest of it was ever recorded");
                return Ok(());
            };
            let (record, old_record) = (|| self.tar_split(layer, self.all), || self.tar_split(layer, false));
            let new = digest::Kept { chain: &is, tar_split: &record };
            let old = Some(digest::Kept { chain: &was, tar_split: &old_record });
            let of = digest::Layer { id: &layer.id, diff, new, old, differs, large };
            digest::check(&of, self.seen)?;
        }
        Ok(())
    }

    fn record(&self, layer: &PlanLayer) -> Option<&PlanFile> {
        self.tar_splits.get(&layer.chain_id?).copied()
    }

    /// Is its record made anew, because Docker had made none?
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

/// Every file of `image/<driver>` and of the containers.
fn metadata(plan: &Plan, old: &Dir, new: &Dir, seen: &Seen) -> Result<u64> {
    let driver = plan.options.to.name();
    let mut n = 0;
    let mut check = |at: &str, id: &str, f: &PlanFile, kind: &'static str| -> Result<()> {
        crate::stop::check()?;
        n += 1;
        let path = format!("{at}/{}", f.path);
        match same(old, new, &path, f, driver) {
            Ok(true) => {}
            Ok(false) => seen.differ(kind, id, b"", format!("{path} does not hold what it should")),
            Err(e) => seen.differ(kind, id, b"", e.chain()),
        }
        Ok(())
    };
    for f in &plan.metadata {
        check(&format!("image/{driver}"), &f.path, f, "metadata")?;
    }
    for c in &plan.containers {
        for f in &c.files {
            check(&format!("containers/{}", c.id), c.id.as_str(), f, "container")?;
        }
    }
    Ok(n)
}

/// Does the new file hold what the plan wants?
fn same(old: &Dir, new: &Dir, path: &str, f: &PlanFile, driver: &str) -> Result<bool> {
    match &f.content {
        Content::Same(from) => {
            let (a, b) = (old.open_file(from)?, new.open_file(path)?);
            compare::same_bytes(a, b, || new.show(path.as_bytes()), |_| {})
        }
        // that it fits its layer is what the digest says
        Content::TarSplitOf(_) => new.open_file(path).map(|_| true),
        _ => Ok(f.content.bytes(old, driver, 1 << 30)? == Some(new.read(path, 1 << 30)?)),
    }
}

/// Who uses what: the first tag of an image for its layers, the name of a container for its own and for its files.
fn names(plan: &Plan) -> HashMap<&str, String> {
    let mut out = HashMap::new();
    for c in &plan.containers {
        out.insert(c.id.as_str(), c.name.clone());
        out.extend(c.layer.iter().chain(&c.init).map(|l| (l.as_str(), format!("container {}", c.name))));
    }
    for i in &plan.images {
        let name = i.tags.first().cloned().unwrap_or_else(|| i.id.short());
        for l in i.layers.iter().rev() {
            out.entry(l.as_str()).or_insert_with(|| format!("image {name}"));
        }
    }
    out
}
