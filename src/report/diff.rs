//! What `diff` prints.

use crate::export::changes::Change;
use crate::export::remains::Missing;
use crate::ids::ContainerId;
use crate::text;
use serde::Serialize;
use std::fmt::Write;

/// The result, for JSON and for people.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// `unaufs.diff/1`.
    pub schema: &'static str,
    /// The container.
    pub id: &'a ContainerId,
    /// Its name.
    pub name: &'a str,
    /// Its image's id.
    pub image: &'a str,
    /// By path.
    pub changes: &'a [Change],
    /// Bytes of all files that were added or changed.
    pub bytes: u64,
    /// What could not be read.
    pub missing: &'a [Missing],
}

impl Document<'_> {
    /// A line for each path, as `docker diff` prints it.
    pub fn text(&self, sizes: bool) -> String {
        let mut out = String::new();
        for c in self.changes {
            let path = text::bytes(&c.path);
            let letter = c.kind.letter();
            // writing into a String cannot fail
            let _ = match sizes {
                true => writeln!(out, "{letter} {:>10} {path}", c.size.map_or_else(String::new, text::size)),
                false => writeln!(out, "{letter} {path}"),
            };
        }
        out
    }

    /// What is no path.
    pub fn asides(&self, sum: bool) -> Vec<String> {
        let mut out = Vec::new();
        if sum {
            out.push(format!("{}, {}", text::plural(self.changes.len(), "change"), text::size(self.bytes)));
        }
        out.extend(self.missing.iter().map(|m| format!("missing: {}: {}", m.what, m.why)));
        if !self.missing.is_empty() {
            out.push("So some paths may be marked wrongly or not be listed.".to_owned());
        }
        out
    }
}
