//! What a migration was estimated to take, next to what it took.

use super::html::Record;
use super::plan::seconds;
use crate::plan::{Estimate, Plan};
use crate::text;
use serde::Serialize;

/// What was really done, of all calls that one migration took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Actual {
    /// Bytes of disk that are taken. On btrfs, where much of it belongs to no file, by how much more is taken than before; unknown there if
    /// the migration took several calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_bytes: Option<u64>,
    /// Inodes that are taken.
    pub new_inodes: u64,
    /// Bytes of content that were read and written.
    pub written_bytes: u64,
    /// From its beginning until now, waiting for people included.
    pub seconds: u64,
    /// Names made by links to old files, files with shared extents, and files copied.
    pub names: u64,
}

/// Both, side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Before.
    pub estimated: Estimate,
    /// After.
    pub done: Actual,
}

impl Comparison {
    /// Of a run with this record. `None` for a plan without an estimate.
    pub fn of(plan: &Plan, record: &Record) -> Option<Comparison> {
        let (sums, begin) = (&record.sums, &record.started);
        let end = record.events.last().map_or(begin, |(at, _)| at);
        let second = |s: &str| s.parse::<jiff::Timestamp>().map(|t| t.as_second()).unwrap_or(0);
        let estimated = plan.estimates.iter().find(|e| e.chosen)?.clone();
        let done = Actual {
            new_bytes: record.disk,
            new_inodes: sums.inodes,
            written_bytes: sums.bytes,
            seconds: u64::try_from(second(end) - second(begin)).unwrap_or(0),
            names: sums.linked + sums.cloned + sums.copied,
        };
        Some(Comparison { estimated, done })
    }

    /// What, estimated, done.
    pub fn rows(&self) -> [[String; 3]; 4] {
        let (e, d) = (&self.estimated, &self.done);
        let row = |name: &str, plan: String, truth: String| [name.to_owned(), plan, truth];
        [
            row("time", seconds(e), format!("{} s", text::count(d.seconds))),
            row("new space", text::size(e.new_bytes), d.new_bytes.map_or("unknown".to_owned(), text::size)),
            row("new inodes", text::count(e.new_inodes), text::count(d.new_inodes)),
            row("content written", text::size(e.written_bytes), text::size(d.written_bytes)),
        ]
    }
}
