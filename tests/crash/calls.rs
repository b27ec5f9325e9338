//! Errors injected into system calls with `strace --inject`.

use crate::bed::{self, Bed, Ran, Reference};
use crate::stores::real;
use rayon::prelude::*;
use std::process::Command;

/// Every call with which the program reads or changes the disk.
const CALLS: &[&str] = &[
    "openat",
    "openat2",
    "newfstatat",
    "fstat",
    "statx",
    "getdents64",
    "read",
    "pread64",
    "lseek",
    "readlinkat",
    "llistxattr",
    "lgetxattr",
    "lsetxattr",
    "mkdirat",
    "mknodat",
    "symlinkat",
    "linkat",
    "unlinkat",
    "renameat2",
    "renameat",
    "fchownat",
    "fchmodat",
    "utimensat",
    "fchown",
    "fchmod",
    "write",
    "pwrite64",
    "copy_file_range",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "syncfs",
    "flock",
    "fcntl",
    "ioctl",
    "fstatfs",
];

/// The program under strace, with these options.
fn traced(bed: &Bed, options: &[&str], args: &[&str]) -> Ran {
    let plain = bed.command(args);
    let mut c = Command::new("strace");
    c.args(["-f", "-qq", "-o", "/dev/null"]).args(options).arg("--").arg(plain.get_program()).args(plain.get_args());
    Ran::of(c.stdin(std::process::Stdio::null()).output().expect("strace"), args)
}

fn able() -> bool {
    if !bed::may_run_with(&["strace"]) {
        return false;
    }
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success());
    if !works {
        bed::cannot("strace may not trace here");
    }
    works
}

/// Whatever fails, whenever: on or back works afterwards.
#[test]
fn every_call_fails() {
    if !able() {
        return;
    }
    let base = Bed::new(real());
    let migrate = ["migrate", "--yes", "-j", "1", "--mode", "copy"];
    let reference = Reference::of(&base, &migrate);
    let whens: &[u32] = if bed::long() { &[1, 2, 3, 5, 8, 13, 21, 40, 80, 160, 320, 640, 1280] } else { &[7] };
    let cases: Vec<(&str, u32)> = CALLS.iter().flat_map(|c| whens.iter().map(move |w| (*c, *w))).collect();
    cases.par_iter().enumerate().for_each(|(n, (call, when))| {
        let bed = base.fork();
        let inject = format!("inject={call}:error=EIO:when={when}");
        let ran = traced(&bed, &["-e", &inject], &migrate);
        let what = format!("{call} failed at its {when}. time");
        // 127: the loader; 101 would be a panic
        assert!(ran.code.is_some_and(|c| c != 101), "{what}: {:?} {:?} {}", ran.code, ran.signal, ran.said);
        if n % 2 == 0 { reference.resume(&bed, &migrate, &what) } else { reference.rollback(&bed, &what) }
    });
    bed::report("error injected into a system call", "migrate", cases.len());
}

/// The same for the way back.
#[test]
fn every_call_of_rollback_fails() {
    if !able() {
        return;
    }
    let base = Bed::new(real());
    let reference = Reference::of(&base, &["migrate", "--yes"]);
    base.run(&["migrate", "--yes"]).expect(&[0, 3]);
    let whens: &[u32] = if bed::long() { &[1, 2, 3, 5, 8, 13, 21, 40, 80, 160] } else { &[9] };
    let cases: Vec<(&str, u32)> = CALLS.iter().flat_map(|c| whens.iter().map(move |w| (*c, *w))).collect();
    cases.par_iter().for_each(|(call, when)| {
        let bed = base.fork();
        let inject = format!("inject={call}:error=EIO:when={when}");
        let ran = traced(&bed, &["-e", &inject], &["rollback", "--yes", "--drop-new"]);
        let what = format!("rollback: {call} failed at its {when}. time");
        assert!(ran.code.is_some_and(|c| c != 101), "{what}: {:?} {:?} {}", ran.code, ran.signal, ran.said);
        reference.rollback(&bed, &what);
    });
    bed::report("error injected into a system call", "rollback", cases.len());
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
        traced(bed, &["-P", &path, "-e", "inject=copy_file_range,read,pread64,ioctl:error=EIO"], args)
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
