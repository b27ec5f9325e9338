//! What people and machines read: each document is one struct, rendered as text and as JSON.

pub mod cleanup;
pub mod comparison;
pub mod cp;
pub mod demo;
pub mod diff;
pub mod explain;
pub mod export;
pub mod fleet;
pub mod html;
pub mod inspect;
pub mod migrate;
pub mod page;
pub mod plan;
pub mod rollback;
pub mod status;
pub mod verify;

use crate::checks::Finding;
use crate::plan::names::Names;
use crate::text;

/// As many lines of a list are printed; JSON has all.
const SHOWN: usize = 20;

/// The first lines of a list, indented, and how many more there are; `where_all` says where they are.
fn first<L: std::fmt::Display>(out: &mut String, lines: impl ExactSizeIterator<Item = L>, where_all: &str) {
    use std::fmt::Write;
    let more = lines.len().saturating_sub(SHOWN);
    for line in lines.take(SHOWN) {
        let _ = writeln!(out, "  {line}");
    }
    if more > 0 {
        let _ = writeln!(out, "  and {} more{where_all}", text::count(more as u64));
    }
}

/// A command, ready to be pasted.
#[derive(Debug, serde::Serialize)]
pub struct Next {
    /// The command.
    pub command: String,
    /// What it is for.
    pub why: &'static str,
}

/// The first 12 digits of an id.
pub fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

/// The object of a finding; a layer with the name that people know.
pub fn subject(f: &Finding, names: &Names) -> String {
    let s = &f.subject;
    let id = if s.id.is_empty() { &s.name } else { &s.id };
    match names.get(id).filter(|_| s.kind == "layer") {
        Some(name) => format!("layer {id} ({})", text::text(name)),
        None => s.to_string(),
    }
}
