//! What a cleanup would delete, and what it did.

use crate::checks::Level;
use crate::plan::names::Names;
use crate::plan::{LeftBehind, Plan};
use crate::run::cleanup::{Cleaned, Deletion, Survey};
use crate::store::DAMAGED;
use crate::store::aufs::Stray;
use crate::text;
use std::fmt::Write;

/// Before the question: everything that would be deleted, with its size.
pub fn warning(s: &Survey, plan: &Plan) -> String {
    let mut out = String::new();
    if !s.old.is_empty() {
        let frees: u64 = s.old.iter().map(|d| d.frees).sum();
        let _ = writeln!(
            out,
            "After the cleanup there is no way back. These parts of the old store are deleted (frees about {}):",
            text::size(frees)
        );
        for d in &s.old {
            let names = match d.names {
                1 => "1 file".to_owned(),
                n => format!("{} files and directories", text::count(n)),
            };
            let _ = writeln!(out, "  {}  {} in {names}", text::text(&d.path), text::size(d.bytes));
        }
    }
    if !s.strays.is_empty() {
        out.push_str(
            "Files below mount points of the old store will be deleted too. No image or container has them (D13):\n",
        );
        let known = Names::of_plan(plan);
        let path = |s: &Stray| known.path(&format!("aufs/mnt/{}", text::bytes(&s.name)));
        super::first(&mut out, s.strays.iter().map(|s| format!("{}: {}", path(s), s.shown())), "");
    }
    let unused: Vec<String> =
        plan.checks.iter().filter(|c| c.id == "D05" && c.level > Level::Ok).map(|c| c.subject.to_string()).collect();
    if !unused.is_empty() && !s.old.is_empty() {
        out.push_str("Unused directories in aufs/diff will be deleted too. No image or container has them (D05):\n");
        super::first(&mut out, unused.iter().map(|u| text::text(u)), "");
    }
    let left: Vec<&LeftBehind> = plan.left_behind.iter().filter(|l| !l.is_foreign() && l.kind != DAMAGED).collect();
    if !left.is_empty() && !s.old.is_empty() {
        out.push_str("These were not migrated and will be deleted too:\n");
        let line = |l: &LeftBehind| {
            let [kind, name, reason] = [&l.kind, &l.name, &l.reason].map(|s| text::short_ids(&text::text(s)));
            let name = if name.is_empty() { name } else { format!(" {name}") };
            format!("{kind} {}{name}: {reason}", text::text(super::short(&l.id)))
        };
        super::first(&mut out, left.into_iter().map(line), "");
    }
    if !s.undone.is_empty() {
        let _ = writeln!(
            out,
            "The new store of a migration that was rolled back is still there, and there is no other copy: {}",
            names(&s.undone)
        );
    }
    out
}

/// Paths with sizes, in one line.
pub fn names(all: &[Deletion]) -> String {
    let one = |d: &Deletion| format!("{} ({})", text::text(&d.path), text::size(d.bytes));
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Afterwards.
pub fn done(s: &Survey, c: &Cleaned) -> String {
    let mut out = match s.old.is_empty() {
        true => "DONE     There was nothing to do: the old store was deleted before.\n".to_owned(),
        false if c.left_count > 0 => {
            let left = text::plural(c.left_count, "path");
            format!("PARTLY   The old store is deleted except {left}. This freed {}.\n", text::size(c.freed))
        }
        // others may write to the file system: what was deleted says more than the space that is free now
        false => {
            let frees = s.old.iter().map(|d| d.frees).sum();
            format!("DONE     The old store is deleted. This freed about {}.\n", text::size(frees))
        }
    };
    for l in &c.left {
        let _ = writeln!(out, "         {}", text::text(l));
    }
    if !c.undone.is_empty() {
        let _ =
            writeln!(out, "         Kept: {}. The same command without --yes asks and deletes it.", names(&c.undone));
    }
    out
}
