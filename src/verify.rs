//! Proof: the new store against the old one, path by path; or any store by itself.
//!
//! ```text
//! headers     each image layer against the headers of its own tar: no old store needed       headers.rs
//! structure   link, lower, l/, committed …           Target::check                         ┐
//! records     image/<driver>, containers' configurations, modes and owners                 │ records.rs, frame.rs
//! views       what each stack of layers shows, old against new                             ├ migrated.rs, compare.rs
//! content     the bytes of every file (level full), of writable layers always              │
//! digests     each layer's tar rebuilt through tar-split (level full)                      ┘ digest.rs
//!
//! alone.rs    a store without an old one: headers, structure, records, digests
//! since.rs    what Docker itself has changed since the switch, told apart
//! seen.rs     what was found: sorted out, then counted, then cut
//! ```
//!
//! Nothing is assumed about how the new store was made: the same code judges it before the switch, after it, and weeks later.
//! [`judge`] is the way in. It says clean, damaged, or could not be checked.

pub mod alone;
pub mod compare;
pub mod digest;
pub mod frame;
pub mod headers;
pub mod migrated;
pub mod records;
pub mod seen;
pub mod since;

use crate::disk::{Dir, FileType};
use crate::docker::driver::WrittenBy;
use crate::error::Result;
use crate::ids::LayerId;
use crate::plan::Plan;
use crate::plan::stack::Part;
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
use since::Switched;
use std::collections::{BTreeMap, BTreeSet};

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Everything except the contents of image layers.
    // old against new only the tops of the stacks, where every layer is a whole tree of its own: vfs, btrfs, images on overlay
    Fast,
    /// Everything, with contents and digests.
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
    /// Which proof found it.
    pub by: By,
    /// Where it is below the new ROOT: the time of its last change says whether Docker made it. Empty: nobody may change it.
    #[serde(skip)]
    pub at: Vec<u8>,
}

/// A proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Old against new.
    Comparison,
    /// The headers of the layer's own tar.
    Headers,
    /// The digest of the layer's tar.
    Digest,
    /// Docker's records, and the driver's own files.
    Records,
}

impl Difference {
    /// One between the old and the new store; the other facts are added to it.
    pub fn new(kind: &'static str, id: impl Into<String>, what: impl Into<String>) -> Difference {
        let (id, what, name, path, at) = (id.into(), what.into(), String::new(), Vec::new(), Vec::new());
        Difference { kind, id, name, path, what, side: Side::Between, by: By::Comparison, at }
    }

    /// The path in the view.
    pub fn path(self, path: impl Into<Vec<u8>>) -> Difference {
        Difference { path: path.into(), ..self }
    }

    /// Which store is wrong.
    pub fn side(self, side: Side) -> Difference {
        Difference { side, ..self }
    }

    /// Which proof found it.
    pub fn by(self, by: By) -> Difference {
        Difference { by, ..self }
    }

    /// Where it is below the new ROOT.
    pub fn at(self, at: impl Into<Vec<u8>>) -> Difference {
        Difference { at: at.into(), ..self }
    }
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
            Side::New => " (the old store is right)",
            Side::Old => " (in the old store; the new store is right)",
            Side::Both => " (in the old store too)",
        })
    }
}

/// A layer that can't be proved by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unprovable {
    /// Its directory.
    pub layer: String,
    /// Why.
    pub reason: String,
    /// It or its tar-split data are damaged in the old store too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
}

/// Something that could not be checked: that says nothing about the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unchecked {
    /// `layer`, `metadata`, …, with its id.
    pub object: String,
    /// Why: out of descriptors or memory, no permission, the disk failed.
    pub reason: String,
}

/// What a verification comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No difference that isn't Docker's own.
    Clean,
    /// A difference.
    Damaged,
    /// Something could not be checked: no verdict.
    Unchecked,
}

/// A verdict, to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// When it was found, RFC 3339.
    pub time: String,
    /// How much was compared.
    pub level: Level,
    /// Nothing differs, but for what Docker itself has changed.
    pub clean: bool,
    /// Docker had run on the new store.
    pub docker_ran: bool,
    /// How many differences of each kind; as `record` tar-split data that were damaged before the migration, which are none.
    pub counts: BTreeMap<String, u64>,
    /// All that differs is damage of the old store too: a rollback doesn't repair it.
    #[serde(default)]
    pub inherited: bool,
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
    /// What is copied to a new root besides layers: compared.
    #[serde(rename = "carried")]
    pub units: u64,
    /// Layers whose digest was rebuilt and is right.
    pub digests: u64,
    /// Bytes of their tars.
    pub digested_bytes: u64,
    /// Image layers that were held against the headers of their own tars.
    pub headers: u64,
    /// Layers that can't be proved by themselves, and why.
    pub unprovable: Vec<Unprovable>,
    /// What could not be checked.
    pub unchecked: Vec<Unchecked>,
    /// What differs: the first [`seen::MOST`].
    pub differences: Vec<Difference>,
    /// How many differences there are of each kind, those that are not listed too.
    pub counts: BTreeMap<&'static str, u64>,
    /// What differs was in the target store before the migration.
    #[serde(skip)]
    pub only_before: bool,
    /// Docker has run on the new store since the switch.
    pub docker_ran: bool,
    /// It is a copy of the root in which that was.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub copied: bool,
    /// What differs by then and is Docker's own to change: no damage, and no proof of the contrary.
    pub changed_since: Vec<Difference>,
    /// How many of these there are of each kind.
    pub changes: BTreeMap<&'static str, u64>,
}

impl Report {
    /// What it comes to.
    pub fn outcome(&self) -> Outcome {
        match (self.unchecked.is_empty(), self.total()) {
            (false, _) => Outcome::Unchecked,
            (true, 0) => Outcome::Clean,
            _ => Outcome::Damaged,
        }
    }

    /// How many differences there are, listed or not.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Is all damage in the old store too?
    pub fn inherited(&self) -> bool {
        let in_old = |d: &Difference| matches!(d.side, Side::Both | Side::Old);
        self.total() > 0 && self.total() == self.differences.len() as u64 && self.differences.iter().all(in_old)
    }

    /// With what was found of the objects that were in the store before.
    fn with(mut self, others: Report) -> Report {
        self.layers += others.layers;
        self.names += others.names;
        self.headers += others.headers;
        self.digests += others.digests;
        self.digested_bytes += others.digested_bytes;
        self.unprovable.extend(others.unprovable);
        self.unchecked.extend(others.unchecked);
        for (kind, n) in others.counts {
            *self.counts.entry(kind).or_default() += n;
        }
        let mut all: BTreeSet<Difference> = std::mem::take(&mut self.differences).into_iter().collect();
        let known = all.len();
        for d in others.differences {
            let kind = d.kind;
            // found in both ways: what Docker could not have done
            if !all.insert(d) {
                self.counts.entry(kind).and_modify(|n| *n -= 1);
            }
        }
        self.only_before = known == 0;
        self.differences = all.into_iter().take(seen::MOST).collect();
        self
    }

    /// The tar-split data that were damaged before the migration: they moved as they were, which is no difference.
    pub fn damaged_records(&self) -> impl Iterator<Item = Difference> {
        let damaged = self.unprovable.iter().filter(|u| u.damaged);
        damaged.map(|u| Difference::new("layer", &*u.layer, &*u.reason).side(Side::Both).by(By::Headers))
    }

    /// The verdict, at `time`; none if something could not be checked.
    pub fn verdict(&self, level: Level, time: String) -> Option<Verdict> {
        let mut counts: BTreeMap<String, u64> = self.counts.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect();
        let records = self.damaged_records().count() as u64;
        if records > 0 {
            counts.insert("record".to_owned(), records);
        }
        let clean = match self.outcome() {
            Outcome::Unchecked => return None,
            outcome => outcome == Outcome::Clean,
        };
        Some(Verdict { time, level, clean, docker_ran: self.docker_ran, counts, inherited: self.inherited() })
    }
}

/// A new store and the old one that it was made of.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// What was planned.
    pub plan: &'a Plan,
    /// Represents ROOT, and holds `aufs/`.
    pub old: &'a Dir,
    /// Represents ROOT, and holds `<driver>/` and `image/<driver>/`.
    pub new: &'a Dir,
    /// Which layers are there.
    pub part: Part,
    /// Layers that were proved before, at this level.
    pub proved: &'a BTreeSet<String>,
    /// After the switch: how the tree shows when that was.
    pub switched: Option<Switched>,
}

/// What is judged.
pub enum Subject<'a> {
    /// The new store against the old one.
    Migrated(Case<'a>),
    /// A store by itself. The directory represents ROOT.
    Alone(&'a Dir, WrittenBy),
}

/// Verifies. Whatever is found is in the report; an error says that nothing was found out, or that somebody asked to stop.
pub fn judge(subject: &Subject<'_>, level: Level, progress: &dyn Progress) -> Result<Report> {
    match subject {
        Subject::Migrated(case) => {
            let new = case.new.again()?.through_binds();
            migrated::verify(&Case { new: &new, ..*case }, level, progress)
        }
        Subject::Alone(base, driver) => alone::verify(&base.again()?.through_binds(), *driver, level, progress),
    }
}

/// An id as people read it: the first digits of a long one, with `-init` behind them.
fn short(id: &str) -> String {
    match LayerId::parse(id) {
        Ok(layer) if id.len() >= 64 => layer.short(),
        _ => crate::text::text(id),
    }
}

/// A kind of file, as people call it.
fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "regular file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Fifo => "named pipe",
        FileType::Socket => "socket",
        FileType::Unknown => "file of an unknown kind",
    }
}
