//! What a rollback put back, and what Docker wrote meanwhile.

use crate::disk::Dir;
use crate::engine::switch::Undone;
use crate::error::Result;
use crate::plan::Plan;
use crate::show;
use serde::Serialize;
use std::fmt::Write;

/// `unaufs.rollback/1`.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// The schema's name.
    pub schema: &'static str,
    /// Was the new store deleted?
    pub dropped: bool,
    /// What was moved.
    #[serde(flatten)]
    pub undone: &'a Undone,
    /// What Docker made meanwhile in places that all drivers share; it stays.
    pub added: &'a [String],
}

/// Containers made on the new store, and files of shared places that are newer than the plan: logs, networks, volumes.
pub fn added_meanwhile(root: &Dir, plan: &Plan) -> Result<Vec<String>> {
    let since = plan.created.parse::<jiff::Timestamp>().map(|t| t.as_second()).unwrap_or(i64::MAX);
    let mut out = Vec::new();
    if let Some(dir) = root.open_opt("containers")? {
        for (name, _) in dir.list()? {
            let id = String::from_utf8_lossy(&name).into_owned();
            let known =
                plan.containers.iter().any(|c| c.id.as_str() == id) || plan.left_behind.iter().any(|l| l.id == id);
            if plan.merge.as_ref().is_some_and(|m| m.containers.contains(&id)) {
                continue;
            }
            if !known {
                let id = show::bytes(&name);
                out.push(format!("containers/{id} (made on the new store; the old Docker does not show it)"));
                continue;
            }
            for (f, kind) in dir.open(&name)?.list()? {
                let fresh = dir.stat_opt([&name[..], b"/", &f].concat())?.is_some_and(|m| m.mtime.0 >= since);
                if fresh && kind == crate::disk::FileType::RegularFile {
                    out.push(format!("containers/{id}/{}", show::bytes(&f)));
                }
            }
        }
    }
    for shared in ["volumes", "network", "swarm", "plugins", "containerd", "tmp"] {
        let mut todo = vec![shared.as_bytes().to_vec()];
        while let Some(path) = todo.pop() {
            let Ok(Some(dir)) = root.open_opt(&path) else { continue };
            // a volume may hold millions of names: they are not held at once
            dir.for_each(|name, kind, _| {
                let here = crate::plan::scan::join(&path, name);
                if kind == crate::disk::FileType::Directory {
                    // its folder changes only when the volume is made: an empty one has no file that could tell
                    if path == b"volumes" && dir.try_stat(name).is_ok_and(|m| m.mtime.0 >= since) {
                        out.push(format!("{} (a volume made meanwhile)", show::bytes(&here)));
                    }
                    todo.push(here);
                } else if out.len() <= 10_000 && dir.try_stat(name).is_ok_and(|m| m.mtime.0 >= since) {
                    out.push(show::bytes(&here));
                }
                Ok(())
            })?;
            if out.len() > 10_000 {
                return Ok(out);
            }
        }
    }
    out.sort();
    Ok(out)
}

impl Document<'_> {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = format!("the old store is back: {} moved\n", show::plural(self.undone.restored.len(), "object"));
        if !self.undone.kept.is_empty() {
            let what = if self.dropped { "was deleted" } else { "is kept in .unaufs/undone" };
            let _ = writeln!(out, "the new store ({}) {what}", show::plural(self.undone.kept.len(), "object"));
        }
        for d in self.undone.remade.iter().map(show::sentence) {
            let _ = writeln!(out, "Docker had removed {d}; its configuration is back, its log is not");
        }
        for l in self.undone.lost.iter().map(show::sentence) {
            let _ = writeln!(out, "Docker has deleted {l} since; it was the target's own and cannot be brought back");
        }
        if !self.added.is_empty() {
            let _ =
                writeln!(out, "written meanwhile in places that all drivers share; it stays ({}):", self.added.len());
            for a in self.added.iter().take(20) {
                let _ = writeln!(out, "  {a}");
            }
            if self.added.len() > 20 {
                let _ = writeln!(out, "  and {} more: --json has all", self.added.len() - 20);
            }
        }
        out
    }
}
