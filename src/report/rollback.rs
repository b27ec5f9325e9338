//! What a rollback put back, and what Docker wrote meanwhile.

use crate::disk::Dir;
use crate::error::Result;
use crate::plan::Plan;
use crate::run::switch::Undone;
use crate::text;
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
    /// The new root, where it was in another place: all of `added` left with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<&'a str>,
    /// The old root.
    pub root: &'a str,
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
                let id = text::bytes(&name);
                out.push(format!("containers/{id} (made on the new store; the old Docker does not show it)"));
                continue;
            }
            // in a root in another place the configurations are ours
            let config = |f: &[u8]| {
                let files = plan.containers.iter().filter(|c| c.id.as_str() == id).flat_map(|c| &c.files);
                plan.elsewhere.is_some() && files.into_iter().any(|c| c.path.as_bytes() == f)
            };
            for (f, kind) in dir.open(&name)?.list()?.into_iter().filter(|(f, _)| !config(f)) {
                let fresh = dir.stat_opt([&name[..], b"/", &f].concat())?.is_some_and(|m| m.mtime.0 >= since);
                if fresh && kind == crate::disk::FileType::RegularFile {
                    out.push(format!("containers/{id}/{}", text::bytes(&f)));
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
                let here = crate::disk::join(&path, name);
                if kind == crate::disk::FileType::Directory {
                    // its folder changes only when the volume is made: an empty one has no file that could tell
                    if path == b"volumes" && dir.try_stat(name).is_ok_and(|m| m.mtime.0 >= since) {
                        out.push(format!("{} (a volume made meanwhile)", text::bytes(&here)));
                    }
                    todo.push(here);
                } else if out.len() <= 10_000 && dir.try_stat(name).is_ok_and(|m| m.mtime.0 >= since) {
                    out.push(text::bytes(&here));
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
        if let Some(dir) = self.elsewhere {
            return self.of_elsewhere(&text::text(dir));
        }
        let mut out = format!("the old store is back: {} moved\n", text::plural(self.undone.restored.len(), "object"));
        if !self.undone.kept.is_empty() {
            let what = if self.dropped { "was deleted" } else { "is kept in .unaufs/undone" };
            let _ = writeln!(out, "the new store ({}) {what}", text::plural(self.undone.kept.len(), "object"));
        }
        for d in self.undone.remade.iter().map(text::sentence) {
            let _ = writeln!(out, "Docker had removed {d}; its configuration is back, its log is not");
        }
        for l in self.undone.lost.iter().map(text::sentence) {
            let _ = writeln!(out, "Docker has deleted {l} since; it was the target's own and cannot be brought back");
        }
        list(&mut out, "written meanwhile in places that all drivers share; it stays", self.added);
        out
    }

    fn of_elsewhere(&self, dir: &str) -> String {
        let root = text::text(self.root);
        let mut out = format!("the old root {root} is what it was: it was never written to\n");
        let what = if self.dropped { "was deleted".to_owned() } else { format!("is kept in {dir}/.unaufs/undone") };
        let _ = writeln!(out, "what was in {dir} {what}");
        let _ = writeln!(out, "before Docker starts: take {dir} out of daemon.json (\"data-root\") again");
        let gone = if self.dropped { "gone" } else { "kept there" };
        list(&mut out, &format!("written in it since the migration, and {gone} with it"), self.added);
        out
    }
}

/// A title and the first lines of a list, if there are any.
fn list(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "{title} ({}):", lines.len());
    for l in lines.iter().take(20) {
        let _ = writeln!(out, "  {l}");
    }
    if lines.len() > 20 {
        let _ = writeln!(out, "  and {} more: --json has all", lines.len() - 20);
    }
}
