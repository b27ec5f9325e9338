//! The same with `--target DIR`: whatever happens, the old root is what it was, to the last byte and time.

use crate::bed::{self, Bed, Mounted, Ran, assert_same};
use crate::points::{chosen, count, die, try_die};
use crate::support::needs;
use crate::tree::Tree;
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// A copy of the store, and a directory for the new root that is not there yet.
struct Pair {
    bed: Bed,
    dir: PathBuf,
}

impl Pair {
    fn new(home: &Path) -> Pair {
        let bed = Bed::new_in(STORE, home);
        let dir = bed.root.parent().expect("a folder").join("new");
        Pair { bed, dir }
    }

    /// On another file system.
    fn on(disk: &Mounted, bed: Bed) -> Pair {
        Pair { bed, dir: disk.at.join("new") }
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [args, &["--target", self.dir.to_str().expect("UTF-8")]].concat()
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.bed.run(&self.args(args))
    }

    /// The new root, with one time for all that is younger than the old one.
    fn result(&self) -> Tree {
        Tree::of(&self.dir, Some(self.bed.since)).told(&self.dir, "DIR")
    }
}

/// Few effects, so that all can be tried.
const STORE: &str = "small";
const MIGRATE: [&str; 4] = ["migrate", "--yes", "-j", "1"];
const BACK: [&str; 3] = ["rollback", "--yes", "--drop-new"];

#[test]
fn killed_at_points() {
    if !needs::root() {
        return;
    }
    for options in [&["--to", "overlay2"][..], &["--to", "vfs", "--mode", "copy"]] {
        every_point(options);
    }
}

fn every_point(options: &[&str]) {
    let command = [&MIGRATE[..], options].concat();
    let whole = Pair::new(&bed::base());
    let original = whole.bed.tree();
    let total = count(&whole.bed, &whole.args(&command));
    assert_same(&original, &whole.bed.tree(), "an undisturbed run leaves the old root alone");
    let wanted = whole.result();
    assert!(total > 0, "a program without fault points");
    let points = chosen(total, 16);
    points.par_iter().for_each(|&k| {
        let what = format!("{}: died at {k} of {total}", options.join(" "));
        let pair = Pair::new(&bed::base());
        die(&pair.bed, &pair.args(&command), k);
        assert_same(&original, &pair.bed.tree(), &what);
        pair.run(&command).expect(&[0, 3]);
        assert_same(&wanted, &pair.result(), &format!("{what}: resumed"));
        let again = pair.run(&command).expect(&[0]);
        assert!(again.said.contains("nothing to do"), "{what}: twice: {}", again.said);
        while_going_back(&pair, &original, &what);

        let pair = Pair::new(&bed::base());
        die(&pair.bed, &pair.args(&command), k);
        while_going_back(&pair, &original, &what);
    });
    bed::report("killed at a point of migrate --target", &options.join(" "), 2 * points.len());
    while_cleaning(&whole, &original);
}

/// Rolls back, killed on the way, and again: nothing is left in the new place, nothing has changed in the old one.
fn while_going_back(pair: &Pair, original: &Tree, what: &str) {
    let _ = try_die(&pair.bed, &pair.args(&BACK), 7);
    for _ in 0..2 {
        pair.run(&BACK).expect(&[0]);
        assert!(fs::read_dir(&pair.dir).map_or(true, |mut d| d.next().is_none()), "{what}: something is left");
    }
    assert_same(original, &pair.bed.tree(), &format!("{what}: rolled back"));
}

/// Only the old layers and their metadata go, however often it is killed.
fn while_cleaning(pair: &Pair, original: &Tree) {
    const GONE: [&str; 4] = ["aufs", "image/aufs", "graph", "repositories-aufs"];
    let bare = pair.dir.to_str().expect("UTF-8");
    let mut alone = std::process::Command::new(bed::binary());
    let refused = alone.args(["--root", bare, "cleanup", "--yes"]).output().expect("run");
    assert_eq!(refused.status.code(), Some(2), "the old root has to be named");
    let command = ["cleanup", "--yes"];
    for k in [1, 2, 3, 5, 20, 100] {
        let _ = try_die(&pair.bed, &pair.args(&command), k);
    }
    for _ in 0..2 {
        pair.run(&command).expect(&[0]);
        for path in GONE {
            assert!(!pair.bed.root.join(path).exists(), "{path} is left");
        }
    }
    let kept = |t: &str| !GONE.iter().any(|g| t.starts_with(g)) && !t.starts_with("image: ");
    let changed: Vec<String> = original.differences(&pair.bed.tree()).into_iter().filter(|d| kept(d)).collect();
    assert!(changed.is_empty(), "cleanup touched more: {changed:?}");
}

/// The new root's disk has no room, at every size: exit code 12, the old root is what it was, and with room it continues.
#[test]
fn full_disks() {
    if !needs::root_and(&["mkfs.ext4"]) {
        return;
    }
    let home = bed::temp();
    let command = ["migrate", "--yes", "--allow", "H05", "--allow", "H06", "--to", "vfs"];
    let steps = if bed::long() { 40 } else { 4 };
    let mut full = 0;
    let mut need = 0;
    // the first one has room, and says how much is needed
    for step in 0..=steps {
        let small = Mounted::new(home.path(), "small", 330 << 20, &["mkfs.ext4", "-q", "-m", "0", "-N", "12000"]);
        let pair = Pair::on(&small, Bed::new(STORE));
        let original = pair.bed.tree();
        if step == 0 {
            let before = free(&small.at);
            pair.run(&command).expect(&[0, 3]);
            need = before - free(&small.at);
            continue;
        }
        let filler = small.at.join("filler");
        let file = fs::File::create(&filler).expect("filler");
        let bytes = free(&small.at).saturating_sub((step - 1) * need / steps);
        fill(&file, bytes);
        let ran = pair.run(&command).expect(&[0, 3, 12]);
        assert_same(&original, &pair.bed.tree(), "a full disk");
        drop(file);
        fs::remove_file(&filler).expect("make room");
        if ran.code == Some(12) {
            full += 1;
            pair.run(&command).expect(&[0, 3]);
        }
        pair.run(&["verify"]).expect(&[0]);
        pair.run(&BACK).expect(&[0]);
        assert_same(&original, &pair.bed.tree(), "a full disk, then rolled back");
    }
    // a tree's last blocks may find room in blocks that the file system had set aside
    assert!(full * 4 >= steps * 3, "only {full} of {steps} disks were full");
    bed::report("no room at --target", "vfs", usize::try_from(steps).expect("a number"));
}

/// Makes a file of so many bytes, or a little less: the file's own map takes room too.
fn fill(file: &fs::File, bytes: u64) {
    let mut bytes = bytes;
    while rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes).is_err() {
        bytes = bytes.checked_sub(4096).expect("room for something");
    }
}

/// Bytes that are free, of what has reached the device.
fn free(at: &Path) -> u64 {
    rustix::fs::syncfs(fs::File::open(at).expect("open")).expect("sync");
    let room = rustix::fs::statvfs(at).expect("statvfs");
    room.f_bavail * room.f_frsize
}

/// The old root changes while a migration is interrupted: the files besides layers are copied again.
#[test]
fn what_changed_since_is_copied_again() {
    if !needs::root() {
        return;
    }
    let pair = Pair::new(&bed::base());
    let volume = |name: &str| pair.bed.root.join("volumes").join(name);
    let write = |name: &str, text: &str| {
        fs::create_dir_all(volume(name)).and_then(|()| fs::write(volume(name).join("data"), text)).expect("a volume");
    };
    write("kept", "before");
    pair.run(&["migrate", "--yes", "--no-switch"]).expect(&[0, 3]);
    write("late", "late");
    write("gone", "gone");
    pair.run(&["migrate", "--yes", "--no-switch"]).expect(&[0, 3]);
    fs::remove_dir_all(volume("gone")).expect("remove");
    write("kept", "while it was interrupted");
    pair.run(&["migrate", "--yes"]).expect(&[0, 3]);
    let late = fs::read_to_string(pair.dir.join("volumes/late/data")).expect("a volume that is new goes along");
    assert_eq!(late, "late");
    assert!(!pair.dir.join("volumes/gone").exists(), "a volume that was removed does not");
    let copied = fs::read_to_string(pair.dir.join("volumes/kept/data")).expect("copied");
    assert_eq!(copied, "while it was interrupted");
    pair.run(&["verify"]).expect(&[0]);
}
