//! What `cp` says at its end.

use crate::export::copy_out::Copied;
use crate::export::remains::Missing;
use crate::text;
use serde::Serialize;
use std::fmt::Write;

/// As many files that were left out are listed on a terminal.
const LISTED: usize = 20;

/// The result, for JSON and for people.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// `unaufs.cp/1`.
    pub schema: &'static str,
    /// The container or image.
    pub from: &'a str,
    /// What was copied.
    #[serde(flatten)]
    pub copied: &'a Copied,
    /// The layers that could not be read.
    pub missing: &'a [Missing],
}

impl Document<'_> {
    /// A few lines.
    pub fn text(&self) -> String {
        let c = self.copied;
        let to = if c.dest == "-" { "stdout" } else { &c.dest };
        let many = |n: u64, what: &str| text::plural(n, what);
        let mut counts = vec![format!("{} ({})", many(c.files, "file"), text::size(c.bytes))];
        if c.directories > 0 {
            counts.push(many(c.directories, "directory"));
        }
        match c.others {
            0 => {}
            1 => counts.push("1 symlink or special file".to_owned()),
            n => counts.push(format!("{} symlinks or special files", text::count(n))),
        }
        let mut out = format!("copied {} from {} to {to}\n", counts.join(", "), self.from);
        for note in &c.notes {
            let _ = writeln!(out, "note: {note}");
        }
        for m in c.left_out.iter().take(LISTED) {
            let _ = writeln!(out, "not copied: {}: {}", m.what, m.why);
        }
        let more = c.left_out.len().saturating_sub(LISTED) as u64 + c.more_left_out;
        if more > 0 {
            let _ = writeln!(out, "not copied: {} more; --json lists {}", text::count(more), c.left_out.len());
        }
        for m in self.missing {
            let _ = writeln!(out, "missing: {}: {}", m.what, m.why);
        }
        if !self.missing.is_empty() {
            out += "Files that were only in a missing layer were not copied; deleted files may have been copied too.\n";
        }
        out
    }
}
