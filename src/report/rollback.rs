//! What a rollback put back, and what Docker wrote in the meantime.

use crate::disk::Dir;
use crate::error::{Kind, Result};
use crate::plan::names::Names;
use crate::plan::switch::STATE;
use crate::run::guard::Guard;
use crate::run::identity::{self, Course};
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
/// As many names are in one line.
const NAMED: usize = 5;

/// A time of a file: seconds, nanoseconds.
type Time = (i64, u32);

/// How the text is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// What people call the containers and layers.
    pub names: &'a Names,
    /// With a line for each object?
    pub all: bool,
}

/// When the switch began: the last time that the run wrote its own file, before the first rename. The kernel that gives a file its time gave it
/// this one too, so the two can be compared to the nanosecond, also in a copy of the whole root. Earlier versions had no such file.
fn switched(root: &Dir, course: &Course) -> Result<Time> {
    if let Some(own) = root.stat_opt(format!("{STATE}/{}", identity::FILE))? {
        return Ok(own.mtime);
    }
    let started = course.started.parse::<jiff::Timestamp>();
    Ok((started.map_or(i64::MAX, |t| t.as_second()), 0))
}

/// Containers made on the new store, and files of shared places that are newer than the migration: logs, networks, volumes. Called before
/// anything is renamed.
pub fn added_since(root: &Dir, course: &Course) -> Result<Vec<String>> {
    let since = switched(root, course)?;
    let mut out = Vec::new();
    let guard = Guard::of(root, &course.id);
    if let Ok(Some(dir)) = root.open_opt(guard.path("containers")?) {
        let each = dir.list().and_then(|all| {
            all.iter().try_for_each(|(name, _)| {
                let looked = containers(&dir, name, course, since, &mut out);
                unreadable(&crate::disk::join(b"containers", name), looked, &mut out)
            })
        });
        unreadable(b"containers", each, &mut out)?;
    }
    for shared in ["volumes", "network", "swarm", "plugins", "containerd", "tmp"] {
        shared_place(root, shared, since, &mut out)?;
    }
    out.sort();
    Ok(out)
}

/// What can't be read keeps nothing from going back: it is listed.
fn unreadable(path: &[u8], looked: Result<()>, out: &mut Vec<String>) -> Result<()> {
    match looked {
        Err(e) if e.kind() == Kind::Failed => {
            out.push(format!("{} (it can't be read)", text::bytes(path)));
            Ok(())
        }
        other => other,
    }
}

/// What is new in one container's directory. Its configurations are ours.
fn containers(dir: &Dir, name: &[u8], course: &Course, since: Time, out: &mut Vec<String>) -> Result<()> {
    let id = String::from_utf8_lossy(name).into_owned();
    if course.merge.as_ref().is_some_and(|m| m.containers.contains(&id)) {
        return Ok(());
    }
    let shown = text::bytes(name);
    if !course.containers.contains(&id) {
        out.push(format!("containers/{shown} (made on the new store; the old Docker doesn't show it)"));
        return Ok(());
    }
    // nothing is in what is no directory
    let Ok(Some(container)) = dir.open_opt(name) else { return Ok(()) };
    for (f, kind) in container.list()? {
        let path = format!("containers/{id}/{}", String::from_utf8_lossy(&f));
        if course.configs.contains(&path) || kind != crate::disk::FileType::RegularFile {
            continue;
        }
        if container.try_stat(&f).is_ok_and(|m| m.mtime > since) {
            out.push(format!("containers/{shown}/{}", text::bytes(&f)));
        }
    }
    Ok(())
}

/// A directory that all drivers share. A volume may hold millions of names: they are not held at once.
fn shared_place(root: &Dir, shared: &str, since: Time, out: &mut Vec<String>) -> Result<()> {
    let mut todo = vec![shared.as_bytes().to_vec()];
    while let Some(path) = todo.pop() {
        let Ok(Some(dir)) = root.open_opt(&path) else { continue };
        let listed = dir.for_each(|name, kind, _| {
            let here = crate::disk::join(&path, name);
            if kind == crate::disk::FileType::Directory {
                // its directory changes only when the volume is made: an empty one has no file that could tell
                if path == b"volumes" && dir.try_stat(name).is_ok_and(|m| m.mtime > since) {
                    out.push(format!("{} (a volume made since)", text::bytes(&here)));
                }
                todo.push(here);
            } else if out.len() <= LISTED && dir.try_stat(name).is_ok_and(|m| m.mtime > since) {
                out.push(text::bytes(&here));
            }
            Ok(())
        });
        unreadable(&path, listed, out)?;
        if out.len() > LISTED {
            return Ok(());
        }
    }
    Ok(())
}

impl Document<'_> {
    /// For people.
    pub fn text(&self, shown: Shown<'_>) -> String {
        if let Some(dir) = self.new_root {
            return self.of_new_root(&text::text(dir), shown);
        }
        let mut out = "DONE     The old store is back.\n".to_owned();
        if !self.undone.kept.is_empty() {
            let what = if self.dropped { "was deleted" } else { "is kept in .unaufs/undone" };
            let _ = writeln!(out, "         The new store {what}.");
        }
        if !crate::plan::host::kernel_knows("aufs") {
            out.push_str("         This kernel has no aufs, so Docker can't use the old store here.\n");
        }
        self.removed(&mut out, shown);
        self.lost(&mut out, shown);
        list(&mut out, "Changed since the migration and kept", self.added, shown);
        list(&mut out, "Found in the place of the old store, and set aside", &self.undone.aside, shown);
        out
    }

    /// Directories that Docker had removed and that are there again: containers in one line.
    fn removed(&self, out: &mut String, shown: Shown<'_>) {
        let (mut containers, mut others) = (Vec::new(), Vec::new());
        for path in &self.undone.remade {
            match path.strip_prefix("containers/") {
                Some(id) => containers.push(container(shown.names, id)),
                None => others.push(path),
            }
        }
        for some in containers.chunks(if shown.all { 1 } else { usize::MAX }) {
            let back = match some.len() {
                1 => "Its configuration is back, its log is lost",
                _ => "Their configurations are back, their logs are lost",
            };
            let names = text::few(some.iter().take(NAMED).cloned(), some.len());
            let _ = writeln!(
                out,
                "         Docker had removed {} ({names}). {back}.",
                text::plural(some.len(), "container")
            );
        }
        for path in others {
            let _ = writeln!(out, "         Docker had removed {}. It is back.", text::sentence(path));
        }
    }

    /// What Docker has deleted of the target's own store.
    fn lost(&self, out: &mut String, shown: Shown<'_>) {
        let lost: Vec<String> = self.undone.lost.iter().map(|l| text::sentence(shown.names.path(l))).collect();
        for some in lost.chunks(if shown.all { 1 } else { usize::MAX }) {
            let names = text::few(some.iter().take(NAMED).cloned(), some.len());
            let (was, they) = if some.len() == 1 { ("was", "It") } else { ("were", "They") };
            let _ = writeln!(
                out,
                "         Docker deleted {names}, which {was} in the new store before the migration. {they} can't be brought back."
            );
        }
    }

    fn of_new_root(&self, dir: &str, shown: Shown<'_>) -> String {
        let root = text::text(self.root);
        let mut out = format!("DONE     The old root {root} was never written to.\n");
        let what = if self.dropped { "was deleted".to_owned() } else { format!("is kept in {dir}/.unaufs/undone") };
        let _ = writeln!(out, "         The new root {dir} {what}.");
        let _ = writeln!(out, "         Before Docker starts, remove \"data-root\": {dir:?} from daemon.json.");
        let gone = if self.dropped { "gone" } else { "kept there" };
        list(&mut out, &format!("Written in it since the migration, and {gone} with it"), self.added, shown);
        list(&mut out, &format!("Not made by unaufs or Docker, and still in {dir}"), &self.undone.left, shown);
        out
    }
}

/// The name of a container, else its short id.
fn container(names: &Names, id: &str) -> String {
    let name = names.get(id).map(|name| name.strip_prefix("container ").unwrap_or(name));
    text::text(name.unwrap_or(super::short(id)))
}

/// A title and the first lines of a list, if there are any.
fn list(out: &mut String, title: &str, lines: &[String], shown: Shown<'_>) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "{title} ({}):", text::count(lines.len() as u64));
    if shown.all {
        for line in lines {
            let _ = writeln!(out, "  {line}");
        }
        return;
    }
    super::first(out, lines.iter().map(|line| shown.names.path(line)), " (-v shows all)");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_docker_had_removed_is_one_line() {
        let remade = ["1", "2", "3", "4", "5", "6"].map(|d| format!("containers/{}", d.repeat(64))).to_vec();
        let undone = Undone { remade, lost: vec![format!("overlay2/{}", "a".repeat(64))], ..Undone::default() };
        let added = [format!("containers/{}/x-json.log", "1".repeat(64))];
        let schema = "unaufs.rollback/1";
        let doc = Document { schema, dropped: false, undone: &undone, added: &added, new_root: None, root: "/r" };
        let names = Names::default();
        let text = doc.text(Shown { names: &names, all: false });
        let names_of_five = ["1", "2", "3", "4", "5"].map(|d| d.repeat(12)).join(", ");
        let removed = format!("removed 6 containers ({names_of_five} and 1 more). Their configurations are back");
        for part in [
            removed.as_str(),
            "Docker deleted overlay2/aaaaaaaaaaaa, which was",
            "  containers/111111111111/x-json.log\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let all = doc.text(Shown { names: &names, all: true });
        assert_eq!(all.matches("removed 1 container (").count(), 6, "{all}");
        assert!(all.contains(&format!("  {}\n", added[0])), "{all}");
    }

    fn course(container: &str) -> Course {
        let text = serde_json::json!({
            "schema": "unaufs.run/1", "id": "0".repeat(32), "tool": "0", "started": "2001-09-09T01:46:40Z", "root": "/r",
            "target": null, "driver": "overlay2", "generation": "content", "switch": [], "touched": [], "merge": null,
            "ours": [], "containers": [container], "old": [],
        });
        serde_json::from_value(text).expect("a course")
    }

    #[test]
    fn what_changed_in_the_second_of_the_switch_is_told_apart() {
        let t = tempfile::tempdir().expect("a directory");
        let id = "c".repeat(64);
        let file = |name: &str, nanoseconds: u32| {
            let path = t.path().join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
            let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, nanoseconds);
            fs::File::create(&path).and_then(|f| f.set_modified(time)).expect("a file");
        };
        file(".unaufs/run.json", 500);
        file(&format!("containers/{id}/hostconfig.json"), 400);
        file(&format!("containers/{id}/{id}-json.log"), 600);
        file("network/files/before", 499);
        file("network/files/after", 501);
        let root = Dir::open_named(t.path()).expect("open");
        let added = added_since(&root, &course(&id)).expect("looked");
        assert_eq!(added, [format!("containers/{id}/{id}-json.log"), "network/files/after".to_owned()]);
    }
}
