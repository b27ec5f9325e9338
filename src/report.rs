//! What people and machines read: each document is one struct, rendered as text and as JSON.

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
pub mod truth;
pub mod verify;

use crate::plan::Plan;
use crate::store::aufs::Stray;

/// What `cleanup` would delete that exists nowhere else.
pub fn cleanup_warning(plan: &Plan, strays: &[Stray]) -> String {
    let root = crate::text::text(&plan.root.path);
    let mut out = match &plan.elsewhere {
        None => format!("This deletes the old store in {root}/.unaufs/old. After that there is no way back.\n"),
        Some(e) => format!(
            "This deletes {} in the old root {root}, nothing else of it: volumes and all that was copied to {} stay there too.\n\
             After that no Docker can use the old root, and there is no way back.\n",
            crate::plan::switch::old_parts(plan.generation).join(", "),
            crate::text::text(&e.path)
        ),
    };
    if !plan.left_behind.is_empty() {
        out.push_str("These did not move and are deleted with it, if they lie in it:\n");
        for l in plan.left_behind.iter().take(20) {
            out.push_str(&format!(
                "  {} {} {}: {}\n",
                crate::text::text(&l.kind),
                crate::text::text(short(&l.id)),
                crate::text::text(&l.name),
                crate::text::text(&l.reason)
            ));
        }
        if plan.left_behind.len() > 20 {
            out.push_str(&format!("  and {} more\n", plan.left_behind.len() - 20));
        }
    }
    if !strays.is_empty() {
        out.push_str("Files below mount points of the old store, which no image and no container has, will be deleted too (D13):\n");
        for s in strays.iter().take(20) {
            let names: Vec<String> = s.names.iter().map(|n| crate::text::bytes(n)).collect();
            let more =
                if s.count > names.len() { format!(" and {} more", s.count - names.len()) } else { String::new() };
            out.push_str(&format!("  aufs/mnt/{}: {}{more}\n", crate::text::bytes(&s.name), names.join(", ")));
        }
        if strays.len() > 20 {
            out.push_str(&format!("  and {} more\n", strays.len() - 20));
        }
    }
    out
}

/// The first 12 digits of an id.
pub fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}
