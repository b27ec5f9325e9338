//! Proof: the new store against the old one, path by path; or any store against its own records.
//!
//! ```text
//! structure   link, lower, l/, committed …           Target::check                                                ┐
//! metadata    every file of image/<driver>, every container's configuration                                      │ migrated.rs
//! views       what each stack of layers shows, old against new: names, types, owners, modes, times, xattrs, …    │ compare.rs
//! content     the bytes of every file (level full); a file that is a link to the old inode needs no look         │
//! digests     each layer's tar rebuilt through tar-split (level full)                                            ┘ digest.rs
//!
//! alone.rs    a store without an old one: structure, layerdb, image ids, tags, containers, digests
//! since.rs    what Docker itself has changed since the switch, told apart
//! ```
//!
//! Nothing is assumed of how the new store was made: the same code judges it before the switch, after it, and weeks later.

pub mod alone;
pub mod compare;
pub mod digest;
pub mod migrated;
pub mod since;

use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use crate::ids::LayerId;
use crate::plan::Plan;
use crate::progress::Progress;
use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use migrated::{verify, verify_stage};

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All but content. Where every layer is a whole tree of its own (vfs, btrfs, images on overlay): the tops of the stacks.
    Fast,
    /// Every layer's view, with the content and the digests.
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

/// Which store a difference is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The old and the new store are not the same.
    Between,
    /// The digest says that the new store is wrong and the old one is right.
    New,
    /// The digest says that the old store is wrong and the new one is right.
    Old,
    /// Both are the same, and not what Docker made.
    Both,
    /// There is one store only.
    Itself,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    /// `layer`, `image`, `tag`, `container`, `metadata`.
    pub kind: &'static str,
    /// Which one.
    pub id: String,
    /// Who uses it: a container's or an image's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The path in the view, if there is one.
    #[serde(serialize_with = "crate::plan::path::serialize")]
    pub path: Vec<u8>,
    /// What differs.
    pub what: String,
    /// Where.
    pub side: Side,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, short(&self.id))?;
        if !self.name.is_empty() {
            write!(f, " ({})", crate::text::text(&self.name))?;
        }
        if !self.path.is_empty() {
            write!(f, " /{}", crate::text::bytes(&self.path))?;
        }
        write!(f, ": {}", self.what)?;
        f.write_str(match self.side {
            Side::Between | Side::Itself => "",
            Side::New => " (in the old store it is right)",
            Side::Old => " (in the old store; in the new one it is right)",
            Side::Both => " (in the old store too)",
        })
    }
}

/// A layer whose digest says nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unprovable {
    /// Its folder.
    pub layer: String,
    /// Why.
    pub reason: String,
}

/// What was compared and what differs.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The driver of the store.
    pub driver: &'static str,
    /// Was it compared with the store that it was made of?
    pub against_old: bool,
    /// Layers whose own files of the driver were looked at.
    pub layers: u64,
    /// Views compared.
    pub views: u64,
    /// Names compared.
    pub names: u64,
    /// Bytes of content compared.
    pub bytes: u64,
    /// Metadata files compared.
    pub metadata: u64,
    /// What goes along to a root in another place: compared.
    pub carried: u64,
    /// Layers whose digest was rebuilt and is right.
    pub digests: u64,
    /// Bytes of their tars.
    pub digested_bytes: u64,
    /// Layers whose digest cannot be rebuilt, and why.
    pub unprovable: Vec<Unprovable>,
    /// What differs.
    pub differences: Vec<Difference>,
    /// Docker has run on the new store since the switch.
    pub docker_ran: bool,
    /// What differs by then and is Docker's own to change: no damage, and no proof of the contrary.
    pub changed_since: Vec<Difference>,
}

/// Counters and findings that threads share.
#[derive(Debug, Default)]
pub struct Seen {
    names: AtomicU64,
    bytes: AtomicU64,
    digests: AtomicU64,
    digested: AtomicU64,
    unprovable: Mutex<Vec<Unprovable>>,
    differences: Mutex<Vec<Difference>>,
}

/// As many differences are kept: past that the store is not the same, and memory is to stay flat.
const MOST: usize = 100_000;

impl Seen {
    /// Notes that old and new differ.
    pub fn differ(&self, kind: &'static str, id: &str, path: &[u8], what: impl Into<String>) {
        self.note(kind, id, path, what, Side::Between);
    }

    /// Notes a difference.
    pub fn note(&self, kind: &'static str, id: &str, path: &[u8], what: impl Into<String>, side: Side) {
        let (id, path, what) = (id.to_owned(), path.to_vec(), what.into());
        self.push(Difference { kind, id, name: String::new(), path, what, side });
    }

    fn push(&self, d: Difference) {
        let mut list = self.differences.lock().unwrap_or_else(|e| e.into_inner());
        if list.len() < MOST {
            list.push(d);
        }
    }

    /// Notes a layer that cannot be proved by its digest.
    fn unprovable(&self, layer: &str, reason: impl Into<String>) {
        let mut list = self.unprovable.lock().unwrap_or_else(|e| e.into_inner());
        list.push(Unprovable { layer: layer.to_owned(), reason: reason.into() });
    }

    /// Notes a layer that has the digest that it should have.
    fn proved(&self, bytes: u64) {
        self.digests.fetch_add(1, Ordering::Relaxed);
        self.digested.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The counts and lists, sorted; `name` gives who uses a layer or container.
    fn report(self, driver: &'static str, name: impl Fn(&Difference) -> String) -> Report {
        let mut differences = self.differences.into_inner().unwrap_or_else(|e| e.into_inner());
        for d in &mut differences {
            d.name = name(d);
        }
        differences.sort();
        let mut unprovable = self.unprovable.into_inner().unwrap_or_else(|e| e.into_inner());
        unprovable.sort();
        Report {
            driver,
            names: self.names.into_inner(),
            bytes: self.bytes.into_inner(),
            digests: self.digests.into_inner(),
            digested_bytes: self.digested.into_inner(),
            unprovable,
            differences,
            ..Report::default()
        }
    }
}

/// Compares what goes along to a new root in another place. Before the switch only: afterwards it is Docker's to change.
pub fn carried(
    plan: &Plan,
    old: &Dir,
    new: &Dir,
    level: Level,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<()> {
    let Some(e) = &plan.elsewhere else { return Ok(()) };
    let seen = Seen::default();
    progress.phase("verify other files", e.carried.len() as u64);
    for c in &e.carried {
        crate::stop::check()?;
        let name = c.name();
        let one = || -> Result<()> {
            let ((from, last), (to, _)) = (old.parent_of(&c.path)?, new.parent_of(&c.path)?);
            for link in &c.links {
                let (holder, at) = match link.path.is_empty() {
                    true => (to.again()?, last),
                    false => (to.open(last)?, &link.path[..]),
                };
                if holder.read_link(at)? != link.to {
                    seen.differ("carried", &name, &link.path, "the symlink points elsewhere");
                }
                if link.path.is_empty() {
                    return Ok(());
                }
            }
            let leave = c.leave.iter().cloned().collect();
            let (from, to, file) = match from.stat(last)?.is_dir() {
                true if c.mount => return Ok(()),
                true => (from.open(last)?, to.open(last)?, None),
                false => (from, to, Some(last)),
            };
            compare::carried(&name, from, to, file, &leave, level == Level::Full, &seen)
        };
        match one() {
            Err(e) if matches!(e.kind(), Kind::Interrupted | Kind::Terminated) => return Err(e),
            Err(e) => seen.differ("carried", &name, b"", e.chain()),
            Ok(()) => report.carried += 1,
        }
        progress.step(&name);
    }
    report.names += seen.names.into_inner();
    report.bytes += seen.bytes.into_inner();
    report.differences.extend(seen.differences.into_inner().unwrap_or_else(|e| e.into_inner()));
    Ok(())
}

/// Works on several layers at a time. What fails is a difference of its layer, and the others go on.
fn each<T: Sync>(
    todo: &[T],
    id: impl Fn(&T) -> &LayerId + Sync,
    side: Side,
    seen: &Seen,
    progress: &dyn Progress,
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    progress.phase("verify", todo.len() as u64);
    let next = AtomicUsize::new(0);
    let stopped: Mutex<Option<Error>> = Mutex::new(None);
    std::thread::scope(|s| {
        for _ in 0..rayon::current_num_threads().min(todo.len()) {
            s.spawn(|| {
                while let Some(one) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match crate::stop::check().and_then(|()| work(one)) {
                        Err(e) if matches!(e.kind(), Kind::Interrupted | Kind::Terminated) => {
                            stopped.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
                            break;
                        }
                        Err(e) => seen.note("layer", id(one).as_str(), b"", e.chain(), side),
                        Ok(()) => {}
                    }
                    progress.step(&id(one).short());
                }
            });
        }
    });
    match stopped.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(e) => Err(e),
        None => Ok(()),
    }
}

/// An id as people read it: the first digits of a long one, with `-init` behind them.
fn short(id: &str) -> String {
    match LayerId::parse(id) {
        Ok(layer) if id.len() >= 64 => layer.short(),
        _ => crate::text::text(id),
    }
}
