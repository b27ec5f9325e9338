//! System calls, which no clock can disturb: how many a plan and a migration make for each file and directory, and that depth adds none.

use crate::support::{needs, real};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Calls on files and directories. Threads that wait, memory and the start of the program are not counted.
const CALLS: [&str; 22] = [
    "openat",
    "openat2",
    "open",
    "close",
    "newfstatat",
    "fstat",
    "statx",
    "getdents64",
    "lseek",
    "llistxattr",
    "flistxattr",
    "lgetxattr",
    "fgetxattr",
    "lsetxattr",
    "linkat",
    "mkdirat",
    "symlinkat",
    "mknodat",
    "fchownat",
    "fchmod",
    "utimensat",
    "fchdir",
];

/// What is done for each file and each directory at most.
const PLAN: (f64, f64) = (2.0, 8.0);
const MIGRATION: (f64, f64) = (4.0, 20.0);
const WITH_VERIFY: (f64, f64) = (5.0, 34.0);
/// For each file as many calls at 60 layers as at 5, or little more.
const GROWTH: f64 = 1.3;

/// Files and directories of a store.
struct Size {
    files: f64,
    directories: f64,
}

fn store(at: &Path, layers: usize, files: usize) -> Size {
    let made = Command::new("/usr/bin/python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/make_store.py"))
        .arg(at)
        .args(["--shared", "--whiteouts", "1", "--layers", &layers.to_string(), "--files", &files.to_string()])
        .status();
    assert!(made.expect("make_store.py").success());
    let (mut size, mut todo) = (Size { files: 0.0, directories: 0.0 }, vec![at.join("aufs/diff")]);
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(path).expect("a directory").map(|e| e.expect("an entry")) {
            if entry.file_type().expect("a type").is_dir() {
                size.directories += 1.0;
                todo.push(entry.path());
            } else {
                size.files += 1.0;
            }
        }
    }
    size
}

fn calls(root: &Path, args: &[&str]) -> f64 {
    let out = root.with_extension("calls");
    // each process of the machine is asked whether it is a dockerd: their number is not to count
    let ran = Command::new("unshare")
        .args([
            "--pid",
            "--fork",
            "--mount-proc",
            "strace",
            "-f",
            "-c",
            "--seccomp-bpf",
            "-e",
            &format!("trace=?{}", CALLS.join(",?")),
            "-o",
        ])
        .arg(&out)
        .arg(env!("CARGO_BIN_EXE_unaufs"))
        .arg("--root")
        .arg(root)
        .args(args)
        .output()
        .expect("strace");
    assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    let table = fs::read_to_string(&out).expect("the table of strace");
    let counts: BTreeMap<&str, f64> = table
        .lines()
        .filter_map(|l| Some((l.split_whitespace().last()?, l.split_whitespace().nth(3)?.parse().ok()?)))
        .collect();
    CALLS.iter().filter_map(|c| counts.get(c)).sum()
}

/// What a store of so many layers with more files costs more than one with few: without what each run and each layer costs.
fn for_more_files(layers: usize, command: &[&str]) -> (f64, Size) {
    let dir = real::folder();
    let ask = |files: usize| {
        let root = dir.path().join(format!("s{files}"));
        let size = store(&root, layers, files);
        (calls(&root, command), size)
    };
    let ((few, small), (many, large)) = (ask(600), ask(2400));
    let size = Size { files: large.files - small.files, directories: large.directories - small.directories };
    (many - few, size)
}

#[test]
fn calls_do_not_grow_with_depth() {
    if !needs::root_and(&["strace", "python3", "unshare"]) {
        return;
    }
    let migrate = ["migrate", "--yes", "-q", "--progress", "none", "--mode", "link", "--verify"];
    let with = |verify: &'static str| [&migrate[..], &[verify]].concat();
    for (what, command, (file, directory)) in [
        ("plan", vec!["plan", "-q", "--progress", "none"], PLAN),
        ("migrate", with("none"), MIGRATION),
        ("migrate, verify fast", with("fast"), WITH_VERIFY),
    ] {
        let mut per_file = Vec::new();
        for layers in [5, 60] {
            let (calls, size) = for_more_files(layers, &command);
            let most = file * size.files + directory * size.directories;
            println!(
                "{what}, {layers} layers: {calls} calls for {} files and {} directories more, at most {most}",
                size.files, size.directories
            );
            assert!(calls <= most, "{what}, {layers} layers: {calls} calls, at most {most}");
            // the directories' part is taken off: a deep store has more of them
            per_file.push((calls - directory * size.directories).max(size.files) / size.files);
        }
        assert!(per_file[1] <= per_file[0] * GROWTH, "{what}: {per_file:?} calls a file at 5 and at 60 layers");
    }
}
