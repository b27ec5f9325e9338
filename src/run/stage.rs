//! Builds the new store in `.unaufs/new`, layer by layer, several at a time.
//!
//! A layer is done when its file system was synced and the journal says so; what the journal does not call done is removed and built again.

use super::journal::Journal;
use super::{Locked, Migration, metadata, units};
use crate::disk::Dir;
use crate::docker::driver::Target;
use crate::error::{Error, IoContext, Kind, Result};
use crate::ids::LayerId;
use crate::plan::stack::{Part, Sources};
use crate::plan::switch::{NEW, OLD, STATE};
use crate::plan::{Plan, PlanLayer};
use crate::target::Below;
use crate::target::file::Tally;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What was really done.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Sums {
    /// Names made by links to old inodes.
    pub linked: u64,
    /// Files with shared extents.
    pub cloned: u64,
    /// Files copied.
    pub copied: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Directories made.
    #[serde(rename = "folders")]
    pub directories: u64,
    /// Whiteouts made.
    pub whiteouts: u64,
    /// Opaque directories.
    pub opaque: u64,
    /// Inodes made.
    #[serde(default)]
    pub inodes: u64,
    /// Bytes of disk that they take.
    #[serde(default)]
    pub disk: u64,
}

impl Sums {
    /// The counters of one writer.
    pub(super) fn of(t: &Tally) -> Sums {
        let n = |a: &std::sync::atomic::AtomicU64| a.load(Ordering::Relaxed);
        Sums {
            linked: n(&t.linked),
            cloned: n(&t.cloned),
            copied: n(&t.copied),
            bytes: n(&t.bytes),
            directories: n(&t.directories),
            whiteouts: n(&t.whiteouts),
            opaque: n(&t.opaque),
            inodes: n(&t.inodes),
            disk: n(&t.disk),
        }
    }

    /// Adds the numbers of another.
    pub fn add(&mut self, o: Sums) {
        self.linked += o.linked;
        self.cloned += o.cloned;
        self.copied += o.copied;
        self.bytes += o.bytes;
        self.directories += o.directories;
        self.whiteouts += o.whiteouts;
        self.opaque += o.opaque;
        self.inodes += o.inodes;
        self.disk += o.disk;
    }
}

/// The layers whose files were all linked: none was cloned or copied.
pub fn linked(journal: &Journal, run: i64) -> Result<BTreeSet<LayerId>> {
    let all_linked = |noted: &str| {
        let sums: Option<Sums> = serde_json::from_str(noted).ok();
        sums.is_some_and(|s| s.cloned == 0 && s.copied == 0)
    };
    let layers = journal.tallies(run, "layer")?.into_iter().filter(|(_, noted)| all_linked(noted));
    Ok(layers.filter_map(|(id, _)| LayerId::parse(&id).ok()).collect())
}

/// Removes the stage: all of it was made by unaufs.
pub fn clear(root: &Dir) -> Result<()> {
    match root.open_opt(STATE)? {
        Some(state) => state.remove_tree(b"new"),
        None => Ok(()),
    }
}

/// What a run is to go by from now on.
pub struct Replan<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Only image layers are built, while Docker runs.
    pub prepared: bool,
    /// Layers that failed, and why.
    pub lost: &'a BTreeMap<LayerId, String>,
}

/// Brings the stage up to a fresh plan: layers that are gone or have changed are removed from it, or they would be installed with the rest.
/// The journal takes back "done" before and gets the plan after, so that a crash in between only costs time.
pub fn reconcile(at: &mut Locked, run: i64, was: &Plan, now: &Replan<'_>) -> Result<()> {
    let fresh = now.plan;
    let stale = stale(was, fresh);
    let units = stale.iter().map(|l| ("layer", l.id.as_str())).chain([("metadata", "all")]);
    at.journal.reopen(run, units)?;
    let new = super::private(&at.root, NEW)?;
    let to = fresh.options.to;
    to.prepare(&new, &fresh.style)?;
    for l in stale {
        to.discard(&new, l)?;
    }
    // a new root in another place gets whole directories: nothing may be left in them of what does not move any more
    units::discard_gone(&new, was, fresh)?;
    for c in was.containers.iter().filter(|c| !fresh.containers.iter().any(|f| f.id == c.id)) {
        units::make_way(&new, format!("containers/{}", c.id))?;
    }
    let done = at.journal.done(run, "layer")?;
    for l in fresh.layers.iter().filter(|l| done.contains(l.id.as_str())) {
        to.refresh(&new, l)?;
    }
    new.sync_fs()?;
    at.journal.replan(run, fresh, now.prepared, now.lost)
}

/// Layers whose place in the stage is not what the fresh plan would build: they or what they are built on has changed, or is called otherwise.
fn stale<'a>(was: &'a Plan, fresh: &Plan) -> Vec<&'a PlanLayer> {
    let (before, after) = (Below::of(was), Below::of(fresh));
    let state = |p: &Plan, below: &Below<'_>, id: &LayerId| {
        let layer = p.layer(id)?;
        let on = layer.lowers.iter().map(|l| {
            (below.links.get(l.as_str()).map(|s| (*s).to_owned()), below.theirs.get(l).map(|t| t.to_string()))
        });
        Some((p.fingerprint.objects.get(&format!("layer {id}")).cloned(), layer.link.clone(), on.collect::<Vec<_>>()))
    };
    let changed: BTreeSet<&LayerId> = was
        .layers
        .iter()
        .filter(|l| state(was, &before, &l.id) != state(fresh, &after, &l.id))
        .map(|l| &l.id)
        .collect();
    // an old Docker that ran since may have given aufs/ another mode, and the new directories are to be like it
    if was.style != fresh.style {
        return was.layers.iter().collect();
    }
    // a complete tree holds what the layers below it show
    let trees = !fresh.options.to.stacks();
    let stale = |l: &&PlanLayer| changed.contains(&l.id) || trees && l.lowers.iter().any(|b| changed.contains(b));
    was.layers.iter().filter(stale).collect()
}

impl Migration<'_> {
    /// Builds what is not done yet.
    pub(super) fn build_stage(&mut self, plan: &Plan, which: Part) -> Result<()> {
        let new = super::private(&self.at.root, NEW)?;
        super::private(&self.at.root, OLD)?;
        let to = plan.options.to;
        to.prepare(&new, &plan.style)?;
        self.build_layers(plan, &new, which)?;
        // the caller plans again without them
        if !self.outcome.failed.is_empty() || which == Part::Images {
            return Ok(());
        }
        let run = self.run.id;
        self.outcome.units = units::bring(self.at, &new, plan, run, self.progress)?;
        if self.at.journal.done(run, "metadata")?.is_empty() {
            metadata::write(self.at, &new, plan, self.progress)?;
            units::finish(&self.at.old, &new, plan)?;
            new.sync_fs()?;
            let rest = super::measure::rest(&self.at.root, to)?;
            self.at.journal.finish(run, "metadata", &[("all".to_owned(), serde_json::json!(rest).to_string())])?;
        }
        Ok(())
    }

    fn build_layers(&mut self, plan: &Plan, new: &Dir, which: Part) -> Result<()> {
        let (to, run, keep_going, progress) = (plan.options.to, self.run.id, self.how.keep_going, self.progress);
        let Locked { old, journal, .. } = &mut *self.at;
        let outcome = &mut self.outcome;
        let done = journal.done(run, "layer")?;
        // a layer that changes in between is built twice
        outcome.found_done = done.len().saturating_sub(outcome.built);
        let wanted = |l: &PlanLayer| which == Part::All || !l.role.writable();
        let todo: Vec<&PlanLayer> = plan.layers.iter().filter(|l| wanted(l) && !done.contains(l.id.as_str())).collect();
        todo.par_iter().try_for_each(|layer| to.discard(new, layer))?;
        progress.phase("layers", todo.len() as u64);
        let mut failed = BTreeMap::new();
        let mut batch = Batch::of("layer");
        let mut site = Site { old, new, plan, sources: plan.sources(), below: Below::of(plan), lost: BTreeSet::new() };
        let mut built = Ok(());
        for level in levels(to, &todo) {
            site.lost = failed.keys().cloned().collect();
            built = site.build(&level, |layer, result| {
                match result {
                    Ok(sums) => {
                        outcome.tally.add(sums);
                        outcome.built += 1;
                        batch.add(layer.id.to_string(), serde_json::json!(sums).to_string());
                        progress.step(&layer.id.short());
                    }
                    // out of descriptors or memory says nothing about the layer
                    Err(e) if keep_going && e.kind() == Kind::Failed && !e.is_exhaustion() => {
                        progress.warn(&format!("layer {} is left out: {}", layer.id.short(), e.chain()));
                        failed.insert(layer.id.clone(), e.chain());
                    }
                    Err(e) => return Err(e.on(format!("layer {}", layer.id.short()))),
                }
                batch.mark_after(BATCH_TIME, journal, run, new)
            });
            if built.is_err() {
                break;
            }
        }
        // a sync may take long: after a request to stop it is left out, and these few layers are built again
        if crate::stop::check().is_ok() {
            batch.mark(journal, run, new)?;
        }
        outcome.failed = failed;
        built
    }
}

/// Layers that may be built at the same time.
fn levels<'a>(to: Target, todo: &[&'a PlanLayer]) -> Vec<Vec<&'a PlanLayer>> {
    if !to.needs_parent() {
        return vec![todo.to_vec()];
    }
    let mut by_depth: BTreeMap<usize, Vec<&PlanLayer>> = BTreeMap::new();
    for l in todo {
        by_depth.entry(l.lowers.len()).or_default().push(l);
    }
    by_depth.into_values().collect()
}

/// Layers that are built are marked done together, those of so much time: each mark costs a sync of the file system.
const BATCH_TIME: Duration = Duration::from_secs(10);

/// Units that are made and not marked done yet.
pub(super) struct Batch {
    kind: &'static str,
    units: Vec<(String, String)>,
    since: Instant,
}

impl Batch {
    pub(super) fn of(kind: &'static str) -> Batch {
        Batch { kind, units: Vec::new(), since: Instant::now() }
    }

    /// Adds one, with what was noted of it.
    pub(super) fn add(&mut self, name: String, tally: String) {
        self.units.push((name, tally));
    }

    /// Marks them if the last mark was so long ago.
    pub(super) fn mark_after(&mut self, time: Duration, journal: &mut Journal, run: i64, new: &Dir) -> Result<()> {
        if self.since.elapsed() > time { self.mark(journal, run, new) } else { Ok(()) }
    }

    /// Marks them.
    pub(super) fn mark(&mut self, journal: &mut Journal, run: i64, new: &Dir) -> Result<()> {
        if !self.units.is_empty() {
            new.sync_fs()?;
            journal.finish(run, self.kind, &std::mem::take(&mut self.units))?;
        }
        self.since = Instant::now();
        Ok(())
    }
}

/// Where layers are built, and what the building of each needs to know of the others.
struct Site<'a> {
    old: &'a Dir,
    new: &'a Dir,
    plan: &'a Plan,
    sources: Sources<'a>,
    below: Below<'a>,
    /// Layers that failed: nothing is built on them.
    lost: BTreeSet<LayerId>,
}

impl Site<'_> {
    /// Builds layers, twice as many at a time as there are threads; within a layer its directories are shared out by rayon, and while one layer
    /// is begun or waits for its last directory, another one keeps the cores busy. Each result goes to `take`; after its first error no further
    /// layer is begun.
    fn build(&self, todo: &[&PlanLayer], mut take: impl FnMut(&PlanLayer, Result<Sums>) -> Result<()>) -> Result<()> {
        let (next, halted) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|s| {
            let (send, receive) = mpsc::channel();
            for _ in 0..2 * rayon::current_num_threads() {
                let (send, next, halted) = (send.clone(), &next, &halted);
                s.spawn(move || {
                    while let Some(layer) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if halted.load(Ordering::Relaxed) || send.send((*layer, self.one(layer))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(send);
            let mut first = Ok(());
            for (layer, result) in receive {
                if let Err(e) = take(layer, result) {
                    halted.store(true, Ordering::Relaxed);
                    first = first.and(Err(e));
                }
            }
            first
        })
    }

    fn one(&self, layer: &PlanLayer) -> Result<Sums> {
        crate::stop::check()?;
        if let Some(l) = layer.lowers.iter().find(|l| self.lost.contains(*l)) {
            return Err(Error::corrupt(format!("the layer {} below it was left out", l.short())));
        }
        let chain = layer.old_stack(self.old, &self.sources)?;
        let tally = self.plan.options.to.build(self.new, layer, &self.below, &chain)?;
        Ok(Sums::of(&tally))
    }
}

/// Makes room for descriptors: a walk holds two for each directory on its way down.
pub fn raise_descriptor_limit() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })
        .on(|| "raise the limit of open files".to_owned())
}
