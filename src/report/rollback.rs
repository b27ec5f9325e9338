//! What a rollback put back, and what Docker wrote in the meantime.

use crate::disk::Dir;
use crate::error::Result;
use crate::run::guard::Guard;
use crate::run::identity::Course;
use crate::run::rollback::Undone;
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
    /// What Docker made in the meantime in places that all drivers share; it stays.
    pub added: &'a [String],
    /// The new root, where it was in another place: all of `added` left with it.
    #[serde(skip_serializing_if = "Option::is_none", rename = "elsewhere")]
    pub new_root: Option<&'a str>,
    /// The old root.
    pub root: &'a str,
}

/// As many paths are listed.
const LISTED: usize = 10_000;

/// Containers made on the new store, and files of shared places that are newer than the migration: logs, networks, volumes. Called before
/// anything is renamed.
pub fn added_since(root: &Dir, course: &Course) -> Result<Vec<String>> {
    let since = course.started.parse::<jiff::Timestamp>().map(|t| t.as_second()).unwrap_or(i64::MAX);
    let mut out = Vec::new();
    let guard = Guard::of(root, &course.id);
    if let Ok(Some(dir)) = root.open_opt(guard.path("containers")?) {
        for (name, _) in dir.list()? {
            containers(&dir, &name, course, since, &mut out)?;
        }
    }
    for shared in ["volumes", "network", "swarm", "plugins", "containerd", "tmp"] {
        shared_place(root, shared, since, &mut out)?;
    }
    out.sort();
    Ok(out)
}

/// What is new in one container's directory. Its configurations are ours.
fn containers(dir: &Dir, name: &[u8], course: &Course, since: i64, out: &mut Vec<String>) -> Result<()> {
    let id = String::from_utf8_lossy(name).into_owned();
    if course.merge.as_ref().is_some_and(|m| m.containers.contains(&id)) {
        return Ok(());
    }
    let shown = text::bytes(name);
    if !course.containers.contains(&id) {
        out.push(format!("containers/{shown} (made on the new store; the old Docker does not show it)"));
        return Ok(());
    }
    // nothing is in what is no directory
    let Ok(Some(container)) = dir.open_opt(name) else { return Ok(()) };
    for (f, kind) in container.list()? {
        let path = format!("containers/{id}/{}", String::from_utf8_lossy(&f));
        if course.configs.contains(&path) || kind != crate::disk::FileType::RegularFile {
            continue;
        }
        if container.stat(&f)?.mtime.0 >= since {
            out.push(format!("containers/{shown}/{}", text::bytes(&f)));
        }
    }
    Ok(())
}

/// A directory that all drivers share. A volume may hold millions of names: they are not held at once.
fn shared_place(root: &Dir, shared: &str, since: i64, out: &mut Vec<String>) -> Result<()> {
    let mut todo = vec![shared.as_bytes().to_vec()];
    while let Some(path) = todo.pop() {
        let Ok(Some(dir)) = root.open_opt(&path) else { continue };
        dir.for_each(|name, kind, _| {
            let here = crate::disk::join(&path, name);
            if kind == crate::disk::FileType::Directory {
                // its directory changes only when the volume is made: an empty one has no file that could tell
                if path == b"volumes" && dir.try_stat(name).is_ok_and(|m| m.mtime.0 >= since) {
                    out.push(format!("{} (a volume made since)", text::bytes(&here)));
                }
                todo.push(here);
            } else if out.len() <= LISTED && dir.try_stat(name).is_ok_and(|m| m.mtime.0 >= since) {
                out.push(text::bytes(&here));
            }
            Ok(())
        })?;
        if out.len() > LISTED {
            return Ok(());
        }
    }
    Ok(())
}

impl Document<'_> {
    /// For people.
    pub fn text(&self) -> String {
        if let Some(dir) = self.new_root {
            return self.of_new_root(&text::text(dir));
        }
        let mut out = "DONE     The old store is back.\n".to_owned();
        if !self.undone.kept.is_empty() {
            let what = if self.dropped { "was deleted" } else { "is kept in .unaufs/undone" };
            let _ = writeln!(out, "         The new store {what}.");
        }
        if !crate::plan::host::kernel_knows("aufs") {
            out.push_str("         This kernel has no aufs, so Docker can't use the old store here.\n");
        }
        for d in self.undone.remade.iter().map(text::sentence) {
            let _ = writeln!(out, "         Docker had removed {d}. Its configuration is back, its log is not.");
        }
        for l in self.undone.lost.iter().map(text::sentence) {
            let _ = writeln!(
                out,
                "         Docker deleted {l}, which was in the new store before the migration. It can't be brought back."
            );
        }
        list(&mut out, "Changed since the migration and kept", self.added);
        list(&mut out, "Found in the place of the old store, and set aside", &self.undone.aside);
        out
    }

    fn of_new_root(&self, dir: &str) -> String {
        let root = text::text(self.root);
        let mut out = format!("DONE     The old root {root} was never written to.\n");
        let what = if self.dropped { "was deleted".to_owned() } else { format!("is kept in {dir}/.unaufs/undone") };
        let _ = writeln!(out, "         The new root {dir} {what}.");
        let _ = writeln!(out, "         Before Docker starts, remove \"data-root\": {dir:?} from daemon.json.");
        let gone = if self.dropped { "gone" } else { "kept there" };
        list(&mut out, &format!("Written in it since the migration, and {gone} with it"), self.added);
        list(&mut out, &format!("Not made by unaufs or Docker, and still in {dir}"), &self.undone.left);
        out
    }
}

/// A title and the first lines of a list, if there are any.
fn list(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "{title} ({}):", lines.len());
    super::first(out, lines.iter(), " (--json has all)");
}
