//! Proof: the new store against the old one, path by path.
//!
//! ```text
//! structure   link, lower, l/, committed …           Target::check
//! metadata    every file of image/<driver>, every container's configuration
//! views       what each stack of layers shows, old against new: names, types, owners, modes, times, xattrs, hard links
//! content     the bytes of every file (level full); a file that is a link to the old inode needs no look
//! digests     each layer's tar rebuilt through tar-split, from the new tree (level full)
//! ```
//!
//! Nothing is assumed of how the new store was made: the same code judges it before the switch, after it, and weeks later.

pub mod compare;
pub mod moved;

use crate::branch::{Branch, Format};
use crate::disk::Dir;
use crate::engine::{inplace, stage};
use crate::error::{Error, Kind, Result};
use crate::plan::{Mode, Plan, PlanLayer};
use crate::progress::Progress;
use crate::store::Role;
use crate::target::Theirs;
use crate::view::Chain;
use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All but content. In mode move: the folders that were changed. Where every layer is a whole tree of its own (vfs, btrfs, images on overlay): the tops of the stacks.
    Fast,
    /// Every layer's view, with the content.
    Full,
}

impl Level {
    /// As in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Level::Fast => "fast",
            Level::Full => "full",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    /// `layer`, `container`, `metadata`.
    pub kind: &'static str,
    /// Which one.
    pub id: String,
    /// The path in the view, if there is one.
    #[serde(serialize_with = "crate::plan::path::serialize")]
    pub path: Vec<u8>,
    /// What differs.
    pub what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = if self.id.len() == 64 { &self.id[..12] } else { &self.id };
        write!(f, "{} {id}", self.kind)?;
        if !self.path.is_empty() {
            write!(f, " /{}", crate::show::bytes(&self.path))?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What was compared and what differs.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Views compared.
    pub views: u64,
    /// Names compared.
    pub names: u64,
    /// Bytes of content compared.
    pub bytes: u64,
    /// Metadata files compared.
    pub metadata: u64,
    /// Layers whose digest was rebuilt and is right.
    pub digests: u64,
    /// Layers whose digest cannot be rebuilt, and why.
    pub unprovable: Vec<(String, String)>,
    /// What differs.
    pub differences: Vec<Difference>,
}

/// Counters and findings that threads share.
#[derive(Debug, Default)]
pub struct Seen {
    names: AtomicU64,
    bytes: AtomicU64,
    differences: Mutex<Vec<Difference>>,
}

/// As many differences are kept: past that the store is not the same, and memory is to stay flat.
const MOST: usize = 100_000;

impl Seen {
    /// Notes a difference.
    pub fn differ(&self, kind: &'static str, id: &str, path: &[u8], what: impl Into<String>) {
        let mut list = self.differences.lock().unwrap_or_else(|e| e.into_inner());
        if list.len() < MOST {
            list.push(Difference { kind, id: id.to_owned(), path: path.to_vec(), what: what.into() });
        }
    }
}

/// Compares. `old` and `new` each stand for ROOT: `old` holds `aufs/`, `new` holds `<driver>/` and `image/<driver>/`.
pub fn verify(plan: &Plan, old: &Dir, new: &Dir, level: Level, progress: &dyn Progress) -> Result<Report> {
    verify_stage(plan, old, new, level, stage::Which::All, &Default::default(), progress)
}

/// Compares a part: only image layers, or without what was `proved` before.
pub fn verify_stage(
    plan: &Plan,
    old: &Dir,
    new: &Dir,
    level: Level,
    which: stage::Which,
    proved: &std::collections::BTreeSet<String>,
    progress: &dyn Progress,
) -> Result<Report> {
    let seen = Seen::default();
    let links = stage::links(plan);
    let all = which == stage::Which::All;
    let layers: Vec<&PlanLayer> = plan.layers.iter().filter(|l| all || !l.role.writable()).collect();
    for layer in &layers {
        match plan.options.to.check(new, layer, &links) {
            Ok(lines) => lines.into_iter().for_each(|l| seen.differ("layer", layer.id.as_str(), b"", l)),
            Err(e) => seen.differ("layer", layer.id.as_str(), b"", e.chain()),
        }
    }
    let todo: Vec<&PlanLayer> = layers.into_iter().filter(|l| !proved.contains(l.id.as_str())).collect();
    let views = views(plan, old, new, level, &todo, &seen, progress)?;
    let metadata = if all { metadata(plan, old, new, &seen)? } else { 0 };
    let mut differences = seen.differences.into_inner().unwrap_or_else(|e| e.into_inner());
    differences.sort();
    Ok(Report {
        views,
        names: seen.names.into_inner(),
        bytes: seen.bytes.into_inner(),
        metadata,
        digests: 0,
        unprovable: Vec::new(),
        differences,
    })
}

/// Compares the views of `layers`; of a target that stacks layers, what stands on a layer rests on that layer's own comparison, so
/// parents come first, and every name is looked at once, however deep the stack. Returns how many were compared.
fn views(
    plan: &Plan,
    old: &Dir,
    new: &Dir,
    level: Level,
    layers: &[&PlanLayer],
    seen: &Seen,
    progress: &dyn Progress,
) -> Result<u64> {
    let parents: std::collections::BTreeSet<_> = plan.layers.iter().filter_map(|l| l.lowers.first()).collect();
    let top = |l: &PlanLayer| l.role != Role::Image || !parents.contains(&l.id);
    let every = level == Level::Full || plan.options.to.stacks();
    let mut by_depth: std::collections::BTreeMap<usize, Vec<&PlanLayer>> = std::collections::BTreeMap::new();
    for l in layers.iter().filter(|l| every || top(l)) {
        by_depth.entry(l.lowers.len()).or_default().push(l);
    }
    let total = by_depth.values().map(|v| v.len() as u64).sum();
    progress.phase("verify", total);
    for todo in by_depth.values() {
        views_of_one_depth(plan, old, new, level, todo, seen, progress)?;
    }
    Ok(total)
}

fn views_of_one_depth(
    plan: &Plan,
    old: &Dir,
    new: &Dir,
    level: Level,
    todo: &[&PlanLayer],
    seen: &Seen,
    progress: &dyn Progress,
) -> Result<()> {
    let to = plan.options.to;
    let sources = stage::sources(plan);
    // before the switch the target's own store lies beside the old one, afterwards it holds the new one
    let at = match plan.kept().first() {
        Some(k) if !new.has(format!("{}/{}/diff", to.home(), k.theirs))? => old,
        _ => new,
    };
    let theirs = Theirs { at, ids: plan.kept().iter().map(|k| (&k.id, &k.theirs)).collect() };
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    std::thread::scope(|s| {
        for _ in 0..rayon::current_num_threads().min(todo.len()) {
            s.spawn(|| {
                while let Some(layer) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = || -> Result<()> {
                        crate::stop::check()?;
                        if plan.options.mode == Mode::Move {
                            return moved::layer(inplace::root(old, new)?, plan, layer, level, &theirs, seen);
                        }
                        let was = stage::old_chain(old, layer, &sources)?;
                        let is = to.view(new, layer, &theirs)?;
                        compare::views(layer, &was, &is, to, level == Level::Full, &theirs, seen)
                    };
                    if let Err(e) = one() {
                        if matches!(e.kind(), Kind::Interrupted | Kind::Terminated) {
                            failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
                            break;
                        }
                        seen.differ("layer", layer.id.as_str(), b"", e.chain());
                    }
                    progress.step(&layer.id.short());
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(e) => Err(e),
        None => Ok(()),
    }
}

/// Every file of `image/<driver>` and of the containers.
fn metadata(plan: &Plan, old: &Dir, new: &Dir, seen: &Seen) -> Result<u64> {
    let driver = plan.options.to.name();
    let mut n = 0;
    let mut check = |at: &str, id: &str, f: &crate::plan::PlanFile, kind: &'static str| {
        n += 1;
        let path = format!("{at}/{}", f.path);
        let wanted = stage::expected(old, f, driver);
        let is = new.read(&path, 1 << 30);
        match (wanted, is) {
            (Ok(Some(w)), Ok(is)) if w != is => {
                seen.differ(kind, id, b"", format!("{path} does not hold what it should"))
            }
            (Ok(_), Ok(_)) => {}
            (Err(e), _) | (_, Err(e)) => seen.differ(kind, id, b"", e.chain()),
        }
    };
    for f in &plan.metadata {
        check(&format!("image/{driver}"), &f.path, f, "metadata");
    }
    for c in &plan.containers {
        for f in &c.files {
            check(&format!("containers/{}", c.id), c.id.as_str(), f, "container");
        }
    }
    Ok(n)
}

/// A complete tree as a stack of one.
pub fn plain(id: &crate::ids::LayerId, dir: Dir) -> Chain {
    Chain { branches: vec![Branch { id: id.clone(), dir, format: Format::Plain }] }
}
