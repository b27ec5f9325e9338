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
use crate::plan::Plan;
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

/// The first 12 digits of an id; what is no id, such as a path, is not cut.
pub fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    match id.get(..64) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => &digits[..12],
        _ => id,
    }
}

/// The object of a finding; a layer or a path with the name that people know.
pub fn subject(f: &Finding, names: &Names) -> String {
    let s = &f.subject;
    let id = if s.id.is_empty() { &s.name } else { &s.id };
    match names.get(id).filter(|_| s.kind == "layer") {
        Some(name) => format!("layer {id} ({})", text::text(name)),
        None if s.kind == "other" => names.path(&s.name),
        None => s.to_string(),
    }
}

/// What isn't migrated: `1 container stays`, `2 images and 1 container stay`. `counts`: what is damaged; else what was excluded by an option or
/// belongs to another driver.
pub fn stays_behind(p: &Plan, counts: bool) -> Option<String> {
    let all = || p.left_behind.iter().filter(|l| l.counts == counts && l.kind != crate::store::DAMAGED);
    let known = ["image", "container", "tag", "layer"].map(|kind| (kind, all().filter(|l| l.kind == kind).count()));
    // layers and tags go with their images and containers
    let main: Vec<_> = known.iter().take(2).filter(|(_, n)| *n > 0).collect();
    let told: Vec<_> = if main.is_empty() { known.iter().filter(|(_, n)| *n > 0).collect() } else { main };
    let total: usize = told.iter().map(|(_, n)| n).sum();
    let parts: Vec<String> = told.iter().map(|(kind, n)| text::plural(*n, kind)).collect();
    match (all().count(), parts.is_empty()) {
        (0, _) => None,
        (n, true) => Some(format!("{} {}", text::plural(n, "file"), if n == 1 { "stays" } else { "stay" })),
        (_, false) => Some(format!("{} {}", parts.join(" and "), if total == 1 { "stays" } else { "stay" })),
    }
}

/// The images and containers that a migration didn't move, as a part of a sentence. Those of another driver aren't in the old store.
pub fn left_in_old_store(p: &Plan) -> Option<String> {
    let all = |kind: &str| p.left_behind.iter().filter(|l| l.kind == kind && !l.is_foreign()).count();
    let counts = ["image", "container"].map(|kind| (kind, all(kind)));
    let parts: Vec<String> = counts.iter().filter(|(_, n)| *n > 0).map(|(kind, n)| text::plural(*n, kind)).collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_cut_and_paths_are_not() {
        let id = "0123456789abcdef".repeat(4);
        for (whole, short) in [
            (id.clone(), "0123456789ab"),
            (format!("sha256:{id}"), "0123456789ab"),
            (format!("{id}-init"), "0123456789ab"),
            ("repositories.json".to_owned(), "repositories.json"),
            ("abc".to_owned(), "abc"),
        ] {
            assert_eq!(super::short(&whole), short);
        }
        let path = format!("layerdb/sha256/{id}/tar-split.json.gz");
        assert_eq!(super::short(&path), path);
    }
}
