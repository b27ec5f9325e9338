//! Disks without room: every size between "nothing fits" and "all fits", in blocks and in inodes.

use crate::bed::{self, Bed, Mounted, Reference, assert_same, copy};
use crate::stores::{real, source};
use crate::support::needs;
use crate::tree::Tree;
use std::fs;
use std::io::Write;
use std::path::Path;

const MIGRATE: [&str; 8] = ["migrate", "--yes", "--mode", "copy", "--allow", "H05", "--allow", "H06"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Blocks,
    Inodes,
}

fn free(at: &Path, what: What) -> u64 {
    let s = rustix::fs::statvfs(at).expect("statvfs");
    match what {
        What::Blocks => s.f_bavail * s.f_frsize,
        What::Inodes => s.f_ffree,
    }
}

/// Takes room until so much is left; 0: everything.
fn fill(at: &Path, what: What, left: u64) {
    let dir = at.join("filler");
    fs::create_dir_all(&dir).expect("mkdir");
    let mut n = fs::read_dir(&dir).map_or(0, |d| d.count());
    loop {
        let now = free(at, what);
        if now <= left {
            return;
        }
        match what {
            What::Inodes => {
                n += 1;
                if fs::File::create(dir.join(n.to_string())).is_err() {
                    return;
                }
            }
            What::Blocks => {
                let bytes = vec![1u8; usize::try_from((now - left).min(1 << 20)).expect("size")];
                let file = fs::OpenOptions::new().append(true).create(true).open(dir.join("blocks")).expect("filler");
                // a short write fills the last blocks
                if (&file).write_all(&bytes).and_then(|()| file.sync_all()).is_err() {
                    return;
                }
            }
        }
    }
}

fn empty(at: &Path) {
    if at.join("filler").exists() {
        fs::remove_dir_all(at.join("filler")).expect("make room");
    }
}

fn disk(dir: &Path) -> (Mounted, Bed) {
    let disk = Mounted::new(dir, "disk", 160 << 20, &["mkfs.ext4", "-q", "-m", "0", "-N", "8192"]);
    copy(&source(real()), &disk.at.join("root"));
    let bed = Bed::at(disk.at.join("root"));
    (disk, bed)
}

fn every_size(what: What, migrate: &[&str]) {
    if !needs::root_and(&["mkfs.ext4"]) {
        return;
    }
    let dir = bed::temp();
    let (disk, bed) = disk(dir.path());
    let mut reference = Reference::of(&bed, migrate);
    let before = free(&disk.at, what);
    bed.run(migrate).expect(&[0, 3]);
    // the copies lie on a file system that may give containers/ another time (xfs, for a directory that gets another parent)
    reference.done = bed.result();
    let need = before - free(&disk.at, what);
    reference.rollback(&bed, "undisturbed");
    let steps = if bed::long() { 40 } else { 5 };
    let mut stopped = 0;
    for step in 0..=steps {
        let what_for = format!("{what:?}: room for {step} of {steps}");
        fill(&disk.at, what, need * step / steps);
        let ran = bed.run(migrate);
        match ran.code {
            Some(12) => {
                stopped += 1;
                if step % 2 == 0 {
                    // not a block and not an inode more
                    fill(&disk.at, what, 0);
                    reference.rollback(&bed, &what_for);
                } else {
                    empty(&disk.at);
                    reference.resume(&bed, migrate, &what_for);
                    reference.rollback(&bed, &what_for);
                }
            }
            code if code == Some(reference.code) => {
                assert_same(&reference.done, &bed.result(), &what_for);
                reference.rollback(&bed, &what_for);
            }
            _ => panic!("{what_for}: {:?} {}", ran.code, ran.said),
        }
        empty(&disk.at);
    }
    assert!(stopped >= steps / 2, "{what:?}: only {stopped} of {steps} runs had too little room");
    bed::report("no room", &format!("{what:?} {}", migrate[3]), usize::try_from(steps).unwrap_or(0) + 1);
}

#[test]
fn every_number_of_blocks() {
    every_size(What::Blocks, &MIGRATE);
}

#[test]
fn every_number_of_inodes() {
    every_size(What::Inodes, &MIGRATE);
}

/// The new store is in force and the disk runs full: the way back needs nothing.
#[test]
fn back_from_a_full_disk() {
    if !needs::root_and(&["mkfs.ext4"]) {
        return;
    }
    let dir = bed::temp();
    let (disk, bed) = disk(dir.path());
    let original = bed.tree();
    for drop_new in [false, true] {
        bed.run(&MIGRATE).expect(&[0, 3]);
        fill(&disk.at, What::Blocks, 4 << 20);
        fill(&disk.at, What::Inodes, 0);
        fill(&disk.at, What::Blocks, 0);
        assert_eq!(free(&disk.at, What::Inodes), 0);
        assert!(free(&disk.at, What::Blocks) < 64 << 10, "{} bytes are left", free(&disk.at, What::Blocks));
        let more: &[&str] = if drop_new { &["--drop-new"] } else { &[] };
        bed.run(&[&["rollback", "--yes"], more].concat()).expect(&[0]);
        assert_same(&original, &Tree::without(&bed.root, None, &[".unaufs"]), "back from a full disk");
        empty(&disk.at);
        bed.run(&["rollback", "--yes", "--drop-new"]).expect(&[0]);
        assert_same(&original, &bed.tree(), "back from a full disk, and dropped");
    }
}
