//! What `plan` says a migration takes, against what it takes: bytes and inodes, for each target and mode.
//!
//! The truth is counted by looking at every inode below the root before and after (`du`); on btrfs, whose snapshots share what no inode tells,
//! it is what the file system itself calls used, each copy of its trees counted. `UNAUFS_ESTIMATES=all cargo test --test it estimates -- --nocapture` takes all stores, and
//! prints the table of docs/plan.md.

use crate::support::private::{self, this_test};
use crate::support::real::{self, Packed, Store, unaufs};
use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Per cent.
const NEAR: f64 = 5.0;
/// The same for snapshots of a btrfs in a store of a few hundred files. Which of the few leaves of a parent's tree a layer touches hangs on
/// the order in which that tree was written: twenty runs of one migration took 8.14 to 9.36 MiB (docs/plan.md). So it is the mean of some runs.
const NEAR_IN_SMALL_TREES: f64 = 10.0;
/// Folders of 30 files with which a tree becomes as large as that of a usual image, where single leaves do not count.
const FOLDERS: usize = 150;
/// The runs for such trees.
const RUNS_OF_LARGE: u64 = 3;

/// Every store, not only the project's own?
fn all() -> bool {
    std::env::var_os("UNAUFS_ESTIMATES").is_some()
}

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

fn off(estimate: u64, truth: u64) -> f64 {
    (estimate as f64 - truth as f64) * 100.0 / truth.max(1) as f64
}

/// Migrates and goes back; gives what was estimated, what was true, and what the run's own report called true.
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

/// A line of the table; what is more than so many per cent off.
fn line(name: &str, to: &str, mode: &str, limit: f64, [estimate, truth, told]: [Taken; 3]) -> Vec<String> {
    let mib = |n: u64| format!("{:.2} MiB", n as f64 / f64::from(1 << 20));
    let (bytes, inodes) = (off(estimate.0, truth.0), off(estimate.1, truth.1));
    let counts = truth.1 > 0;
    let inode_part = if counts {
        format!("{} | {} | {inodes:+.1} %", estimate.1, truth.1)
    } else {
        format!("{} | – | –", estimate.1)
    };
    println!("| {name} | {to} {mode} | {} | {} | {bytes:+.1} % | {inode_part} |", mib(estimate.0), mib(truth.0));
    let mut far = Vec::new();
    let mut near = |what: &str, percent: f64| {
        if percent.abs() > limit {
            far.push(format!("{name}, {to} {mode}: {what} {percent:+.1} %"));
        }
    };
    near("bytes", bytes);
    near("the report's own bytes", off(told.0, truth.0));
    near("the report's own inodes", off(told.1, estimate.1));
    if counts {
        near("inodes", inodes);
        near("the report's own inodes", off(told.1, truth.1));
    }
    far
}

fn on_ext4(packed: &Packed) -> Vec<String> {
    let store = packed.unpack();
    let mut far = Vec::new();
    for to in ["overlay2", "overlay", "vfs"] {
        for mode in ["link", "copy"] {
            far.extend(line(&store.name, to, mode, NEAR, taken(&store.root, to, mode, None, &|| du(&store.root))));
        }
    }
    // a new root beside the old one, with all that goes along
    let new = store.beside.join("new");
    let truth = || if new.exists() { du(&new) } else { (0, 0) };
    far.extend(line(&store.name, "vfs", "copy, --target", NEAR, taken(&store.root, "vfs", "copy", Some(&new), &truth)));
    far
}

/// Adds to every layer: to those without a parent folders of files of all sizes, to the others files in a few of these folders.
fn grow(root: &Path) {
    let mut layers: Vec<_> =
        fs::read_dir(root.join("aufs/layers")).expect("layers").map(|e| e.expect("an entry")).collect();
    layers.sort_by_key(fs::DirEntry::file_name);
    for (n, layer) in layers.iter().enumerate() {
        let base = fs::read(layer.path()).expect("a list").is_empty();
        let top = root.join("aufs/diff").join(layer.file_name()).join("usr/share/more");
        let (folders, files) = if base { (FOLDERS, 30) } else { (1 + n * 7 % 40, 2) };
        for i in 0..folders {
            let folder = top.join(format!("folder-{}", if base { i } else { (n * 31 + i * 17) % FOLDERS }));
            fs::create_dir_all(&folder).expect("a folder");
            for j in 0..files {
                let bytes = [0, 60, 700, 1900, 6000][(n + i + j) % 5];
                fs::write(folder.join(format!("file-{}", if base { j } else { j * (25 + n) })), vec![b'x'; bytes])
                    .expect("a file");
            }
        }
    }
}

/// A store on a btrfs of its own for each line: where much was deleted before, leaves have holes that are filled first. The mean of some runs.
fn on_btrfs(store: &Store, wanted: &[(&str, &str, bool)], runs: u64, limit: f64) -> Vec<String> {
    let (image, at): (PathBuf, PathBuf) = (store.beside.join("btrfs.img"), store.beside.join("btrfs"));
    fs::create_dir_all(&at).expect("a mount point");
    let mut far = Vec::new();
    for &(to, mode, elsewhere) in wanted {
        let told = if elsewhere { "copy, --target" } else { mode };
        let run = || {
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
            numbers
        };
        let runs: Vec<[Taken; 3]> = (0..runs).map(|_| run()).collect();
        let mean = |of: &dyn Fn(&[Taken; 3]) -> u64| runs.iter().map(of).sum::<u64>() / runs.len() as u64;
        let numbers = [0, 1, 2].map(|i| (mean(&|r| r[i].0), mean(&|r| r[i].1)));
        far.extend(line(&store.name, to, told, limit, numbers));
    }
    far
}

fn all_on_btrfs(packed: &Packed) -> Vec<String> {
    let mut store = packed.unpack();
    let snapshots = [("btrfs", "clone", false), ("btrfs", "copy", true), ("btrfs", "copy", false)];
    let mut far = on_btrfs(&store, &snapshots, if all() { 10 } else { 3 }, NEAR_IN_SMALL_TREES);
    let others = [("overlay2", "clone", false), ("overlay", "clone", false), ("vfs", "clone", false)];
    far.extend(on_btrfs(&store, &others, 1, NEAR));
    grow(&store.root);
    store.name += ", grown";
    far.extend(on_btrfs(&store, &snapshots[..2], RUNS_OF_LARGE, NEAR));
    far
}

#[test]
fn estimates_come_true() {
    if !real::able() || private::elsewhere(this_test!()) {
        return;
    }
    let stores = if all() { real::all() } else { vec![real::small()] };
    println!("| store | target | estimated | taken | off | inodes est. | inodes | off |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    let mut far = Vec::new();
    for packed in &stores {
        far.extend(all_on_btrfs(packed));
        far.extend(on_ext4(packed));
    }
    assert!(far.is_empty(), "too far off:\n{}", far.join("\n"));
}
