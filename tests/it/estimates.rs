//! No migration takes more than `plan` says: bytes and inodes, for each target and mode; and for overlay2 by links, the plan says at most
//! 1.3 times what is taken.
//!
//! What is taken is counted by looking at every inode below the root before and after (`du`); on btrfs, whose snapshots share what no inode
//! says, it is what the file system itself calls used, each copy of its trees counted. All stores that are there are tried;
//! `cargo test --test it estimates -- --nocapture` prints the table of docs/plan.md.

use crate::support::needs;
use crate::support::private::{self, this_test};
use crate::support::real::{self, Packed, Store, unaufs};
use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The bound for overlay2 by links is at most so many times what is taken.
const CLOSE: f64 = 1.3;

/// Bytes of disk and inodes.
type Taken = (u64, u64);

fn du(top: &Path) -> Taken {
    let (mut seen, mut bytes, mut todo) = (HashSet::new(), 0, vec![top.to_owned()]);
    while let Some(path) = todo.pop() {
        let m = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if seen.insert((m.dev(), m.ino())) {
            bytes += m.blocks() * 512;
        }
        if m.is_dir() {
            todo.extend(fs::read_dir(&path).expect("a folder").map(|e| e.expect("an entry").path()));
        }
    }
    (bytes, seen.len() as u64)
}

fn sh(command: &str, args: &[&Path]) -> String {
    let out = Command::new("sh").args(["-c", command, "sh"]).args(args).output().expect("sh");
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// What a btrfs calls used: data, and all copies of the metadata.
fn used(at: &Path) -> u64 {
    // deleted snapshots are given back later, in the background
    sh("btrfs filesystem sync \"$1\"; btrfs subvolume sync \"$1\"; btrfs filesystem sync \"$1\"; btrfs filesystem df -b \"$1\"", &[at])
        .lines()
        .filter(|l| !l.starts_with("GlobalReserve"))
        .filter_map(|l| Some(l.rsplit_once("used=")?.1.trim().parse::<u64>().ok()? * if l.contains(", DUP") { 2 } else { 1 }))
        .sum()
}

/// Migrates and goes back; gives the bound, what was taken, and what the run's own report called true.
fn taken(root: &Path, to: &str, mode: &str, target: Option<&Path>, truth: &dyn Fn() -> Taken) -> [Taken; 3] {
    let place: Vec<&str> = target.iter().flat_map(|t| ["--target", t.to_str().expect("UTF-8")]).collect();
    let what = [&["--to", to, "--mode", mode][..], &place].concat();
    let plan = unaufs(root, &[&["plan", "--json", "-q"][..], &what].concat()).stdout;
    let plan: Value = serde_json::from_str(&plan).expect("a plan");
    let row = plan["estimates"].as_array().expect("estimates").iter().find(|e| e["chosen"] == true).expect("chosen");
    let number = |v: &Value, name: &str| v[name].as_u64().unwrap_or_else(|| panic!("{name} in {v}"));
    let before = truth();
    let ran = unaufs(root, &[&["migrate", "--yes", "--json", "-q", "--verify", "none"][..], &what].concat());
    assert!([0, 3].contains(&ran.code), "{what:?}: {ran:?}");
    let after = truth();
    let done: Value = serde_json::from_str(&ran.stdout).expect("a summary");
    let told = &done["compared"]["done"];
    unaufs(root, &[&["rollback", "--drop-new", "--yes", "-q"][..], &place].concat()).exits(0);
    [
        (number(row, "new_bytes"), number(row, "new_inodes")),
        (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)),
        (number(told, "new_bytes"), number(told, "new_inodes")),
    ]
}

/// A line of the table; what is above the bound, or too far below it.
fn line(name: &str, to: &str, mode: &str, [bound, taken, told]: [Taken; 3]) -> Vec<String> {
    let mib = |n: u64| format!("{:.2} MiB", n as f64 / f64::from(1 << 20));
    let times = |bound: u64, taken: u64| bound as f64 / taken.max(1) as f64;
    let (bytes, inodes) = (times(bound.0, taken.0), times(bound.1, taken.1.max(told.1)));
    println!(
        "| {name} | {to} {mode} | {} | {} | {bytes:.2} | {} | {} | {inodes:.2} |",
        mib(bound.0),
        mib(taken.0),
        bound.1,
        taken.1.max(told.1)
    );
    let mut wrong = Vec::new();
    for (what, ratio) in [("bytes", bytes), ("inodes", inodes), ("the report's own bytes", times(bound.0, told.0))] {
        if ratio < 1.0 {
            wrong.push(format!("{name}, {to} {mode}: more {what} taken than the plan says, {ratio:.3}"));
        } else if (to, mode) == ("overlay2", "link") && ratio > CLOSE {
            wrong.push(format!("{name}, {to} {mode}: {what}: the bound is {ratio:.3} times what is taken"));
        }
    }
    wrong
}

fn on_ext4(packed: &Packed) -> Vec<String> {
    let store = packed.unpack();
    let mut wrong = Vec::new();
    for to in ["overlay2", "overlay", "vfs"] {
        for mode in ["link", "copy"] {
            wrong.extend(line(&store.name, to, mode, taken(&store.root, to, mode, None, &|| du(&store.root))));
        }
    }
    // a new root in another directory, with all that is copied along
    let new = store.beside.join("new");
    let truth = || if new.exists() { du(&new) } else { (0, 0) };
    wrong.extend(line(&store.name, "vfs", "copy, --target", taken(&store.root, "vfs", "copy", Some(&new), &truth)));
    wrong
}

/// A store on a btrfs of its own for each line: where much was deleted before, leaves have holes that are filled first.
fn on_btrfs(store: &Store) -> Vec<String> {
    let (image, at): (PathBuf, PathBuf) = (store.beside.join("btrfs.img"), store.beside.join("btrfs"));
    fs::create_dir_all(&at).expect("a mount point");
    let mut wrong = Vec::new();
    for (to, mode, elsewhere) in [
        ("btrfs", "clone", false),
        ("btrfs", "copy", true),
        ("btrfs", "copy", false),
        ("overlay2", "link", false),
        ("overlay2", "clone", false),
        ("overlay", "clone", false),
        ("vfs", "clone", false),
    ]
    .into_iter()
    .take(if needs::long() { 7 } else { 2 })
    {
        sh(
            "rm -f \"$1\"; truncate -s 2G \"$1\"; mkfs.btrfs -f -q \"$1\"; mount -o loop,noatime \"$1\" \"$2\"",
            &[&image, &at],
        );
        let truth = || (used(&at), 0);
        let numbers = if elsewhere {
            taken(&store.root, to, mode, Some(&at.join("new")), &truth)
        } else {
            sh("cp -a \"$1\" \"$2/docker\"; sync -f \"$2\"", &[&store.root, &at]);
            taken(&at.join("docker"), to, mode, None, &truth)
        };
        sh("umount \"$1\"", &[&at]);
        let how = if elsewhere { "copy, --target" } else { mode };
        // trees of a btrfs are no part of the promise to be near
        let label = if mode == "link" { "link on btrfs" } else { how };
        wrong.extend(line(&store.name, to, label, numbers));
    }
    wrong
}

#[test]
fn nothing_takes_more_than_planned() {
    if !real::able() || private::elsewhere(this_test!()) {
        return;
    }
    let mut stores = real::all();
    stores.truncate(if needs::long() { stores.len() } else { 1 });
    println!("| store | target | at most | taken | at most : taken | inodes at most | inodes | at most : taken |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    let mut wrong = Vec::new();
    for packed in &stores {
        wrong.extend(on_btrfs(&packed.unpack()));
        wrong.extend(on_ext4(packed));
    }
    assert!(wrong.is_empty(), "wrong:\n{}", wrong.join("\n"));
}
