//! What a host runs out of: descriptors, room for attributes, bytes in a path. None of it is damage of the store, nor a full disk.

use crate::support::mounts::Mounted;
use crate::support::needs;
use crate::support::real::{self, Ran, Store};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Migrates with at most so many open files.
fn with_descriptors(store: &Store, most: u32) -> Ran {
    let mut c = Command::new("sh");
    c.args(["-c", "ulimit -n $0; exec \"$@\"", &most.to_string(), env!("CARGO_BIN_EXE_unaufs"), "--root"]);
    c.arg(&store.root).args(["migrate", "--yes", "--keep-going", "--no-switch", "-q", "-j", "2"]);
    Ran::of(c.output().expect("sh"))
}

#[test]
fn a_layer_is_not_left_out_for_want_of_descriptors() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let mut failed = 0;
    for most in (16..=64).step_by(4) {
        let ran = with_descriptors(&store, most);
        assert!(matches!(ran.code, 0 | 1), "{most} descriptors: exit {}\n{}{}", ran.code, ran.stdout, ran.stderr);
        assert!(!ran.stderr.contains("left out"), "{most} descriptors: {}", ran.stderr);
        failed += u32::from(ran.code == 1);
        store.unaufs(&["rollback", "--drop-new", "--yes", "-q"]).exits(0);
    }
    assert!(failed > 0, "no number of descriptors was too small");
}

/// A file's attributes, of more bytes than ext4 has for them.
fn give_attributes(store: &Store) -> PathBuf {
    let truth: Value = serde_json::from_slice(&fs::read(store.truth.join("truth.json")).expect("truth")).expect("JSON");
    let containers = truth["containers"].as_array().expect("containers");
    let id = containers.iter().find(|c| c["name"] == "c-changes").and_then(|c| c["id"].as_str()).expect("c-changes");
    let mount = store.root.join("image/aufs/layerdb/mounts").join(id).join("mount-id");
    let layer = fs::read_to_string(mount).expect("mount-id");
    let file = store.root.join("aufs/diff").join(layer.trim()).join("many-attributes");
    fs::write(&file, "content").expect("a file");
    xattr::set(&file, "trusted.large", &[b'x'; 20_000]).expect("an attribute");
    file
}

#[test]
fn attributes_that_do_not_fit_are_no_full_disk() {
    if !real::able() || !needs::root_and(&["mkfs.xfs", "mkfs.ext4"]) {
        return;
    }
    let dir = real::folder();
    let (xfs, ext4) = (
        Mounted::with_clones(dir.path(), "xfs"),
        Mounted::new(dir.path(), "ext4", 512 << 20, &["mkfs.ext4", "-q", "-b", "4096"]),
    );
    let store = real::small().unpack_in(&xfs.at);
    give_attributes(&store);
    let target = ext4.at.join("new");
    let migrate = |more: &[&str]| {
        let args = [&["migrate", "--yes", "-q", "--target", target.to_str().expect("UTF-8")], more].concat();
        store.unaufs(&args)
    };
    let ran = migrate(&[]).exits(1);
    assert!(ran.stderr.contains("attributes of this file are too large"), "{}", ran.stderr);
    assert!(ran.stderr.contains("many-attributes"), "{}", ran.stderr);
    let ran = migrate(&["--keep-going"]).exits(3);
    assert!(ran.stdout.contains("c-changes"), "{}", ran.stdout);
}

#[test]
fn a_path_may_be_longer_than_sqlite_takes() {
    if !real::able() {
        return;
    }
    let dir = real::folder();
    let parent = dir.path().join("a".repeat(250)).join("b".repeat(250));
    fs::create_dir_all(&parent).expect("directories");
    let short = real::small().unpack();
    let long = parent.join("c".repeat(250));
    fs::rename(&short.root, &long).expect("rename");
    let before = real::tree(&long);
    let unaufs = |args: &[&str], code| real::unaufs(&long, args).exits(code);
    unaufs(&["plan", "-q"], 0);
    unaufs(&["migrate", "--yes", "-q", "--no-switch"], 0);
    unaufs(&["migrate", "--yes", "-q"], 0);
    unaufs(&["verify", "-q"], 0);
    let status: Value = serde_json::from_str(&unaufs(&["status", "--json"], 0).stdout).expect("JSON");
    assert_eq!((&status["state"], &status["verdict"]["clean"]), (&"switched".into(), &true.into()), "{status}");
    unaufs(&["rollback", "--drop-new", "--yes", "-q"], 0);
    real::same("the old store is back", &before, &real::tree(&long));

    // a transaction that was under way when the root was at a shorter path
    unaufs(&["migrate", "--yes", "-q", "--no-switch"], 0);
    fs::write(long.join(".unaufs/journal.db-journal"), [0; 512]).expect("a rollback journal");
    let status = unaufs(&["status"], 0).stdout;
    assert!(status.contains("too long for SQLite") && status.contains("the old store is untouched"), "{status}");
    unaufs(&["migrate", "--yes", "-q"], 0);
    unaufs(&["cleanup", "--yes", "-q"], 0);
    unaufs(&["verify", "-q"], 0);
}
