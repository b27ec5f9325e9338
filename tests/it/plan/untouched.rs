//! `plan` writes nothing in ROOT: not a byte, not a time but of access, and it works where it could not.

use crate::support::private::{self, this_test};
use crate::support::real::{self, same, tree};
use std::fs;
use std::path::Path;
use std::process::Command;

fn sh(command: &str, path: &Path) {
    let done = Command::new("sh").args(["-c", command, "sh"]).arg(path).status().expect("sh");
    assert!(done.success(), "{command}");
}

/// Everything that a look must not change: `tree`, and the times of change of every inode.
fn changed_at(top: &Path) -> Vec<(i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    let (mut out, mut todo) = (Vec::new(), vec![top.to_owned()]);
    while let Some(path) = todo.pop() {
        let m = fs::symlink_metadata(&path).expect("metadata");
        out.push((m.ctime(), m.ctime_nsec()));
        if m.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&path).expect("a folder").map(|e| e.expect("a name").path()).collect();
            names.sort();
            todo.extend(names);
        }
    }
    out
}

#[test]
fn planning_changes_nothing() {
    if !real::able() {
        return;
    }
    for packed in [real::small(), real::graph()] {
        let store = packed.unpack();
        let (before, times) = (tree(&store.root), changed_at(&store.root));
        let (out, html) = (store.beside.join("saved.plan"), store.beside.join("page.html"));
        let log = store.beside.join("log");
        for args in [
            &["plan", "--out", out.to_str().expect("text"), "--html", html.to_str().expect("text")][..],
            &["plan", "--to", "vfs", "-v", "--log", log.to_str().expect("text")],
            &["plan", "--detailed-exitcode", "-v"],
            &["inspect", "-v"],
            &["migrate", "--dry-run"],
        ] {
            let ran = store.unaufs(args);
            assert!([0, 5].contains(&ran.code), "{args:?}: {ran:?}");
        }
        assert_eq!(times, changed_at(&store.root), "{}: some inode was changed", packed.name);
        assert!(out.exists() && html.exists());
        let said = fs::read_to_string(&log).expect("a log");
        for word in ["unaufs 0", "scan: ", "done ", "DRIVERS", "LAYERS ("] {
            assert!(said.contains(word), "the log lacks {word:?}:\n{said:.2000}");
        }
        for inside in ["x.plan", "aufs/x.plan"] {
            let inside = store.root.join(inside);
            let inside = inside.to_str().expect("text");
            for args in [["plan", "--out", inside], ["plan", "--html", inside], ["plan", "--log", inside]] {
                store.unaufs(&args).exits(2);
            }
        }
        same(&packed.name, &before, &tree(&store.root));
    }
}

#[test]
fn planning_works_where_nothing_can_be_written() {
    if !real::able() || private::elsewhere(this_test!()) {
        return;
    }
    let store = real::small().unpack();
    let before = tree(&store.root);
    sh("mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\"", &store.root);
    assert!(fs::write(store.root.join("x"), "").is_err(), "it can be written to");
    let doc = store.unaufs(&["plan", "--json", "-q"]).exits(0).stdout;
    let doc: serde_json::Value = serde_json::from_str(&doc).expect("JSON");
    let says = doc["checks"].as_array().expect("checks").iter().any(|c| c["id"] == "H10" && c["level"] == "block");
    assert!(says, "nothing says that it is read-only");
    store.unaufs(&["migrate", "--yes", "-q"]).exits(4);
    same("read-only", &before, &tree(&store.root));
    sh("umount \"$1\"", &store.root);
}
