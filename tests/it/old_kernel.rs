//! Kernels from 3.10 on: every call that came later fails with ENOSYS, and the whole way there and back still works.

use crate::support::needs;
use crate::support::private::{self, this_test};
use crate::support::real::{self, Ran, Store, same, tree};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the program or a library below it may call, and Linux 3.10 does not know.
const UNKNOWN: &str = "openat2,statx,renameat2,copy_file_range,getrandom,memfd_create,clone3,faccessat2,close_range,preadv2,pwritev2,\
                       membarrier,rseq,pidfd_open,execveat";

/// Runs unaufs under a kernel of 2013; `trace` gets the calls that were refused.
fn unaufs(store: &Store, trace: &Path, args: &[&str]) -> Ran {
    without(UNKNOWN, store, trace, args)
}

fn without(calls: &str, store: &Store, trace: &Path, args: &[&str]) -> Ran {
    let mut c = Command::new("/usr/bin/strace");
    c.args(["-f", "-qq", "--seccomp-bpf", "-e", "signal=none", "-e"]).arg(format!("trace={calls}"));
    c.arg("-e").arg(format!("inject={calls}:error=ENOSYS")).arg("-A").arg("-o").arg(trace);
    c.arg(env!("CARGO_BIN_EXE_unaufs")).arg("--root").arg(&store.root).args(args).env_remove("UNAUFS_ROOT");
    Ran::of(c.output().expect("strace"))
}

#[test]
fn works_without_the_calls_of_newer_kernels() {
    if !real::able() || !needs::programs(&["strace"]) {
        return;
    }
    let store = real::small().unpack();
    let trace = store.beside.join("calls");
    let before = tree(&store.root);
    // copies too, where auto would link
    for mode in if needs::long() { &["auto", "copy"][..] } else { &["copy"] } {
        unaufs(&store, &trace, &["plan", "--mode", mode]).exits(0);
        same("planning writes nothing", &before, &tree(&store.root));
        unaufs(&store, &trace, &["migrate", "--mode", mode, "--yes", "-q"]).exits(0);
        store.judged("views", &store.root, "overlay2");
        unaufs(&store, &trace, &["verify", "-q"]).exits(0);
        // Linux 3.10 has syncfs, and some sandboxes refuse it: everything is synced then, which takes long on a busy machine
        let rollback = &["rollback", "--drop-new", "--yes", "-q"];
        without(&format!("{UNKNOWN},syncfs"), &store, &trace, rollback).exits(0);
        same("rollback --drop-new", &before, &tree(&store.root));
    }
    let calls = std::fs::read_to_string(&trace).expect("the calls");
    for call in ["openat2", "statx", "renameat2", "copy_file_range", "syncfs"] {
        let refused = calls.lines().any(|l| l.contains(&format!("{call}(")) && l.contains("ENOSYS"));
        assert!(refused, "{call} was never refused: this test does not test it");
    }
}

#[test]
fn mount_points_are_seen_on_kernels_that_do_not_number_mounts() {
    if !needs::root() || private::elsewhere(this_test!()) {
        return;
    }
    let root = real::small().unpack();
    let volume = fs::read_dir(root.root.join("volumes"))
        .expect("volumes")
        .flatten()
        .find(|e| e.path().is_dir())
        .expect("a volume");
    let share = volume.path().join("_data");
    let mount = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&share).status().expect("mount");
    assert!(mount.success());
    fs::write(share.join("of-the-share"), "x").expect("a file");
    let new = root.beside.join("new");
    let mut c = Command::new(env!("CARGO_BIN_EXE_unaufs"));
    c.env("UNAUFS_FAULT_OLD_KERNEL", "3.10").arg("--root").arg(&root.root).arg("--target").arg(&new);
    let ran = real::Ran::of(c.args(["migrate", "--yes", "-q", "--allow", "H02"]).output().expect("unaufs"));
    let umount = Command::new("umount").arg(&share).status().expect("umount");
    assert!(umount.success());
    ran.exits(0);
    let copied = new.join("volumes").join(volume.file_name()).join("_data");
    assert!(copied.is_dir() && !copied.join("of-the-share").exists(), "what is mounted is not copied");
}
