//! System calls that fail, and deaths inside them, with `strace --inject`.

use crate::bed::{self, Bed, Mounted, Ran, Reference, path};
use crate::stores::real;
use crate::support::needs;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Calls on files and descriptors that have nothing to do with a disk; the ioctls of a disk (clones) fail in [`one_bad_file_of_an_image`].
const NO_DISK: &[&str] = &[
    "execve",
    "mmap",
    "close",
    "poll",
    "ppoll",
    "pipe2",
    "socketpair",
    "dup",
    "dup3",
    "eventfd2",
    "epoll_create1",
    "ioctl",
];

/// Calls that can meet a full disk.
const WRITING: &[&str] = &[
    "write",
    "pwrite64",
    "copy_file_range",
    "fallocate",
    "mkdirat",
    "mknodat",
    "linkat",
    "symlinkat",
    "renameat2",
    "lsetxattr",
    "fsync",
    "syncfs",
];

/// The program under strace, with these options.
fn traced(bed: &Bed, options: &[&str], args: &[&str]) -> Ran {
    let plain = bed.command(args);
    let mut c = Command::new("strace");
    c.args(["-f", "-qq"]).args(options).arg("--").arg(plain.get_program()).args(plain.get_args());
    Ran::of(c.stdin(std::process::Stdio::null()).output().expect("strace"), args)
}

fn able() -> bool {
    if !needs::root_and(&["strace"]) {
        return false;
    }
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success());
    if !works {
        needs::cannot_run("strace may not trace here");
    }
    works
}

/// The kinds of system calls on files and descriptors that a command makes, and how often.
fn calls(bed: &Bed, args: &[&str]) -> BTreeMap<String, usize> {
    let log = bed.root.with_extension("log");
    traced(bed, &["-o", path(&log), "-e", "trace=%file,%desc,syncfs,fsync,flock"], args).expect(&[0, 3]);
    let mut out = BTreeMap::new();
    for line in std::fs::read_to_string(&log).expect("the log").lines() {
        let call = line.split_once(' ').and_then(|(_, l)| l.trim().split_once('('));
        if let Some((name, _)) = call.filter(|(n, _)| !n.starts_with(['+', '<', '-']) && !NO_DISK.contains(n)) {
            *out.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    out
}

/// Which of `n` calls are to fail: one of the short run's, or `long` from the first to the last.
fn spread(n: usize, long: usize) -> Vec<usize> {
    if !bed::long() {
        return vec![n.div_ceil(2)];
    }
    let mut out: Vec<usize> = (0..long).map(|i| 1 + i * (n - 1) / (long - 1)).collect();
    out.dedup();
    out
}

/// Lets one call after the other fail; `check` gets the root, its number and what was done. Gives the number of calls that really failed.
fn every_call(base: &Bed, args: &[&str], check: impl Fn(&Bed, usize, &str) + Sync) -> usize {
    let known = calls(&base.fork(), args);
    for expected in ["openat", "openat2", "write", "pwrite64", "fsync", "syncfs", "renameat2", "flock"] {
        assert!(known.contains_key(expected), "{expected} is not among {known:?}");
    }
    let whens =
        |(call, n): (&String, &usize)| spread(*n, 16).into_iter().map(|w| (call.clone(), w)).collect::<Vec<_>>();
    let cases: Vec<(String, usize)> = known.iter().flat_map(whens).collect();
    let failed = cases.par_iter().enumerate().map(|(n, (call, when))| {
        let bed = base.fork();
        let error = if n % 2 == 1 && WRITING.contains(&call.as_str()) { "ENOSPC" } else { "EIO" };
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error={error}:when={when}"));
        let log = bed.root.with_extension("log");
        let ran = traced(&bed, &["-o", path(&log), "-e", &trace, "-e", &inject], args);
        let what = format!("{}: {error} from {call} at its {when}. time", args.join(" "));
        let hit = std::fs::read_to_string(&log).expect("the log").contains("(INJECTED)");
        // std asks a child over a pipe whether it was started, and panics when it cannot read that: no disk fails so
        let spawning = ran.code == Some(101) && call == "read" && ran.said.contains("/std/src/sys/process/");
        let clean = spawning || ran.code.is_some_and(|c| [0, 1, 3, 4, 10, 11, 12, 13, 14, 127].contains(&c));
        assert!(clean, "{what}: {:?} {:?} {}", ran.code, ran.signal, ran.said);
        let told = spawning || ran.code == Some(127) || matches!(ran.code, Some(0 | 3)) || ran.said.contains("error:");
        // but for a stderr that is broken itself
        assert!(told || call.starts_with("write"), "{what}: it does not say why: {}", ran.said);
        check(&bed, n, &what);
        usize::from(hit)
    });
    failed.sum()
}

/// Whatever fails, whenever: on or back works afterwards.
#[test]
fn every_call_fails() {
    if !able() {
        return;
    }
    let base = Bed::new("small");
    let migrate = ["migrate", "--yes", "-j", "1", "--mode", "copy"];
    let reference = Reference::of(&base, &migrate);
    let failed = every_call(&base, &migrate, |bed, n, what| {
        if n % 2 == 0 { reference.resume(bed, &migrate, what) } else { reference.rollback(bed, what) }
    });
    bed::report("error injected into a system call", "migrate", failed);
}

/// The same for the way back.
#[test]
fn every_call_of_rollback_fails() {
    if !able() {
        return;
    }
    let base = Bed::new("small");
    let reference = Reference::of(&base, &["migrate", "--yes"]);
    base.run(&["migrate", "--yes"]).expect(&[0, 3]);
    let failed = every_call(&base, &["rollback", "--yes", "--drop-new"], |bed, _, what| reference.rollback(bed, what));
    bed::report("error injected into a system call", "rollback", failed);
}

/// Dies in every write and sync of the journal's own file.
#[test]
fn killed_inside_a_commit() {
    if !able() {
        return;
    }
    let base = Bed::new("small");
    let migrate = ["migrate", "--yes", "-j", "1"];
    let reference = Reference::of(&base, &migrate);
    let known = calls(&base.fork(), &migrate);
    let own = ["pwrite64", "fsync", "fdatasync", "ftruncate"];
    let number = |c: &str| known.get(c).copied().unwrap_or(0);
    let cases: Vec<(&str, usize)> = own.iter().flat_map(|c| (1..=number(c)).map(move |k| (*c, k))).collect();
    let step = if bed::long() { 1 } else { cases.len() / 8 };
    let cases: Vec<_> = cases.into_iter().step_by(step).collect();
    let killed = cases.par_iter().map(|(call, k)| {
        let bed = base.fork();
        let inject = format!("inject={call}:signal=KILL:when={k}");
        let ran = traced(&bed, &["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject], &migrate);
        let what = format!("killed in {call} at its {k}. time");
        let other = bed.fork();
        reference.resume(&bed, &migrate, &what);
        reference.rollback(&other, &what);
        usize::from(ran.signal == Some(9))
    });
    bed::report("killed inside a write or sync of the journal", "migrate", killed.sum());
}

/// One file of an image's layer cannot be read: the layer and what is based on it are named.
#[test]
fn one_bad_file_of_an_image() {
    if !able() {
        return;
    }
    let dir = bed::temp();
    let disk = Mounted::with_clones(dir.path(), "xfs");
    for mode in ["copy", "clone"] {
        one_bad_file_in(&disk.at, mode);
    }
}

fn one_bad_file_in(home: &Path, mode: &str) {
    let mut base = Bed::new_in("small", home);
    let layer = base.layer_with("hidden/below");
    let id = layer.file_name().expect("an id").to_string_lossy().into_owned();
    base.bad = Some(layer.join("hidden/below"));
    let original = base.tree();
    let migrate = ["migrate", "--yes", "--mode", mode];

    let bed = base.fork();
    let ran = bed.run(&migrate).expect(&[1]);
    assert!(ran.said.contains(&id[..12]) && ran.said.contains("hidden/below"), "{}", ran.said);
    assert!(bed.root.join("aufs").is_dir() && !bed.root.join("overlay2").exists(), "it was switched");

    let ran = bed.run(&[&migrate[..], &["--keep-going"]].concat()).expect(&[3]);
    // two images and container a, whose layers are on it; b has none below its own
    let text = ran.said.split("NOT MIGRATED (").nth(1).unwrap_or_default().to_owned();
    assert!(text.contains("2 images") && text.contains("1 container"), "{}", ran.said);
    let there = |id: &str| bed.root.join("overlay2").join(id).exists();
    assert!(!there(&id), "the broken layer is in the new store");
    bed.run(&["rollback", "--yes", "--drop-new"]).expect(&[0]);
    bed::assert_same(&original, &bed.tree(), "a bad file of an image left behind");
}

/// One file of a container's layer cannot be read.
#[test]
fn one_bad_file() {
    if !able() {
        return;
    }
    let base = Bed::new(real());
    let (id, layer) = base.writable_layer();
    std::fs::write(layer.join("bad"), vec![7u8; 300_000]).expect("write");
    let original = base.tree();
    let bad = |bed: &Bed| bed.root.join("aufs/diff").join(&id).join("bad").to_string_lossy().into_owned();
    let run = |bed: &Bed, args: &[&str]| {
        let path = bad(bed);
        traced(
            bed,
            &["-o", "/dev/null", "-P", &path, "-e", "inject=copy_file_range,read,pread64,ioctl:error=EIO"],
            args,
        )
    };
    let migrate = ["migrate", "--yes", "--mode", "copy"];

    // without --keep-going: the layer is named, nothing is switched, and a later run does it all
    let bed = base.fork();
    let ran = run(&bed, &migrate).expect(&[1]);
    assert!(ran.said.contains(&id[..12]) && ran.said.contains("bad"), "{}", ran.said);
    assert!(bed.root.join("aufs/diff").join(&id).is_dir() && !bed.root.join("overlay2").exists());
    let reference = Reference::of(&base, &migrate);
    reference.resume(&bed, &migrate, "the bad file is readable again");

    // with it: the rest moves, also if the run stops in between
    let bed = base.fork();
    let ran = run(&bed, &[&migrate[..], &["--keep-going", "--no-switch"]].concat()).expect(&[3]);
    assert!(ran.said.contains(&id[..12]), "{}", ran.said);
    assert!(!bed.root.join(".unaufs/new/overlay2").join(&id).exists(), "half a layer is in the new store");
    bed.run(&migrate).expect(&[3]);
    assert!(bed.root.join("overlay2").is_dir() && !bed.root.join("overlay2").join(&id).exists());
    bed.run(&["verify"]).expect(&[0]);
    bed.run(&["rollback", "--yes", "--drop-new"]).expect(&[0]);
    bed::assert_same(&original, &bed.tree(), "a bad file left behind");
}
