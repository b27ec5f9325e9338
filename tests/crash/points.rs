//! Every effect on the disk passes a fault point; here the program dies before each of them in turn.
//!
//! Short: a spread of the points. Long: all of them.

use crate::bed::{self, Bed, Mounted, Reference, assert_same, store};
use crate::tree::Tree;
use rayon::prelude::*;
use std::path::Path;

/// The points to die at: all in the long run, else about `short` of them, ends included.
pub fn chosen(total: u64, short: u64) -> Vec<u64> {
    let step = if bed::long() { 1 } else { (total / short).max(1) };
    // the last effects are the switch, where most can go wrong: all of them, unless it is short
    let tail = total.saturating_sub(if bed::long() { 0 } else { short / 3 });
    (1..=total).filter(|k| k % step == 1 % step || *k > tail).collect()
}

/// How many effects a command has.
pub fn count(bed: &Bed, args: &[&str]) -> u64 {
    let file = bed.root.with_extension("count");
    let out = bed.command(args).env("UNAUFS_FAULT_COUNT", &file).output().expect("run");
    assert!(matches!(out.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&out.stderr));
    // no file: no effect, as of a rollback with nothing to do
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Runs a command that dies before its k-th effect; false if it had fewer.
pub fn die(bed: &Bed, args: &[&str], k: u64) -> bool {
    let out = bed.command(args).env("UNAUFS_FAULT_AT", k.to_string()).output().expect("run");
    let ran = bed::Ran::of(out, args);
    if ran.signal == Some(9) {
        return true;
    }
    ran.expect(&[0, 3]);
    false
}

/// One thread: the k-th effect is then the same in each run.
fn migrate<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["migrate", "--yes", "-j", "1"], options].concat()
}

fn every_point(store: &str, options: &[&str], short: u64) {
    if bed::may_run() {
        every_point_in(&bed::base(), store, options, short);
    }
}

fn every_point_in(home: &Path, store: &str, options: &[&str], short: u64) {
    let (base, command) = (Bed::new_in(store, home), migrate(options));
    let Some(reference) = Reference::of(&base, &command) else { return };
    let case = format!("{store} {}", options.join(" "));
    let total = count(&base.fork(), &command);
    assert!(total > 100, "{total} effects: is the program built with the feature fault-points?");
    let points = chosen(total, short);
    points.par_iter().for_each(|&k| {
        let what = format!("{case}: died at {k} of {total}");
        let bed = base.fork();
        die(&bed, &command, k);
        let other = bed.fork();
        reference.resume(&bed, &command, &what);
        reference.rollback(&other, &what);
    });
    bed::report("killed at a point of migrate", &case, points.len());
    let done = base.fork();
    done.run(&command).expect(&[0, 3]);
    while_going_back(&done, &reference, &case, short);
    while_cleaning(&done, &case, short);
}

/// Dies while rolling back a finished migration.
fn while_going_back(done: &Bed, reference: &Reference, case: &str, short: u64) {
    for keep in [false, true] {
        let command: &[&str] = if keep { &["rollback", "--yes"] } else { &["rollback", "--yes", "--drop-new"] };
        let total = count(&done.fork(), command);
        let points = chosen(total, short / 2);
        points.par_iter().for_each(|&k| {
            let what = format!("{case}: died at {k} of {total} of {}", command.join(" "));
            let bed = done.fork();
            die(&bed, command, k);
            if keep {
                bed.run(command).expect(&[0]);
                assert_same(&reference.original, &Tree::without(&bed.root, None, &[".unaufs"]), &what);
            }
            reference.rollback(&bed, &what);
        });
        bed::report("killed at a point of rollback", &format!("{case} {}", command.join(" ")), points.len());
    }
}

/// Dies while deleting the old store.
fn while_cleaning(done: &Bed, case: &str, short: u64) {
    let command = &["cleanup", "--yes"][..];
    let clean = done.fork();
    let total = count(&clean, command);
    let wanted = clean.result();
    let points = chosen(total, short / 2);
    points.par_iter().for_each(|&k| {
        let what = format!("{case}: died at {k} of {total} of cleanup");
        let bed = done.fork();
        die(&bed, command, k);
        for _ in 0..2 {
            bed.run(command).expect(&[0]);
            assert_same(&wanted, &bed.result(), &what);
        }
        assert!(!Path::new(&bed.root).join(".unaufs/old").exists(), "{what}: old is left");
    });
    bed::report("killed at a point of cleanup", case, points.len());
}

/// A rollback of what is half built or half switched, killed as well.
#[test]
fn killed_twice() {
    if !bed::may_run() {
        return;
    }
    let (base, command) = (Bed::new(store()), migrate(&[]));
    let Some(reference) = Reference::of(&base, &command) else { return };
    let total = count(&base.fork(), &command);
    let back = &["rollback", "--yes", "--drop-new"][..];
    let firsts: Vec<u64> = chosen(total, 8).into_iter().rev().step_by(if bed::long() { 97 } else { 3 }).collect();
    let pairs: Vec<(u64, u64)> = firsts
        .par_iter()
        .flat_map_iter(|&k| {
            let half = base.fork();
            die(&half, &command, k);
            let n = count(&half, back);
            chosen(n, 6).into_iter().map(move |j| (k, j))
        })
        .collect();
    pairs.par_iter().for_each(|&(k, j)| {
        let bed = base.fork();
        die(&bed, &command, k);
        die(&bed, back, j);
        reference.rollback(&bed, &format!("died at {k} of migrate, then at {j} of rollback"));
    });
    bed::report("killed in migrate, then in rollback", store(), pairs.len());
}

#[test]
fn overlay2_link() {
    every_point(store(), &["--mode", "link"], 18);
}

#[test]
fn overlay2_copy() {
    every_point(store(), &["--mode", "copy"], 12);
}

#[test]
fn overlay2_clone() {
    every_point(store(), &["--mode", "clone"], 6);
}

#[test]
fn overlay2_move() {
    every_point(store(), &["--mode", "move"], 18);
}

#[test]
fn overlay() {
    every_point(store(), &["--to", "overlay"], 6);
}

#[test]
fn vfs() {
    every_point(store(), &["--to", "vfs"], 6);
}

/// On a file system of its own.
#[test]
fn btrfs() {
    if bed::may_run_with(&["mkfs.btrfs"]) {
        let dir = bed::temp();
        let fs = Mounted::new(dir.path(), "btrfs", 2 << 30, &["mkfs.btrfs", "-q"]);
        every_point_in(&fs.at, store(), &["--to", "btrfs"], 6);
    }
}

/// A store of before Docker 1.10; it is not part of the project.
#[test]
fn graph() {
    if bed::may_run() && bed::source("docker19-aufs").is_some() {
        every_point("docker19-aufs", &[], 4);
    }
}
