//! A Docker that boots between any two renames of the switch, or of the way back: it cannot start on half a store, and whatever it makes all
//! the same neither stops the next command nor is lost.

use crate::bed::{self, Bed, assert_same};
use crate::points::{chosen, count, die, told};
use crate::support::needs;
use crate::tree::Tree;
use rayon::prelude::*;
use std::fs;

/// What dockerd makes in its root before and while it starts, in its order; it ends where a directory cannot be made.
fn boots(bed: &Bed) {
    let at = |p: &str| bed.root.join(p);
    let _ = fs::remove_dir_all(at("tmp"));
    fs::create_dir_all(at("tmp")).expect("tmp");
    for dir in
        ["containers", "overlay2/l", "image/overlay2/layerdb", "image/overlay2/imagedb/content/sha256", "network/files"]
    {
        if fs::create_dir_all(at(dir)).is_err() {
            return;
        }
    }
    fs::write(at("engine-id"), "0123").expect("it has started");
}

/// What unaufs keeps, and what Docker makes itself.
const NOT_OURS: [&str; 4] = [".unaufs", "tmp", "network", "engine-id"];

/// What is not Docker's own.
fn ours(bed: &Bed) -> Tree {
    Tree::without(&bed.root, Some(bed.since), &NOT_OURS)
}

#[test]
fn boots_between_any_two_renames() {
    if !needs::root() {
        return;
    }
    let base = Bed::new("small");
    let migrate: &[&str] = &["migrate", "--yes", "-j", "1"];
    let back: &[&str] = &["rollback", "--yes"];
    let whole = base.fork();
    let original = Tree::without(&whole.root, None, &NOT_OURS);
    let total = count(&whole, migrate);
    let wanted = ours(&whole);
    let way_back = count(&whole.fork(), back);
    assert!(total > 0 && way_back > 0, "a program without fault points");
    // the last effects are the switch
    let cases: Vec<(bool, u64)> = chosen(total, 12)
        .into_iter()
        .map(|k| (false, k))
        .chain(chosen(way_back, 12).into_iter().map(|k| (true, k)))
        .collect();
    for old_kernel in [false, true] {
        cases.par_iter().for_each(|&(going_back, k)| {
            let what = format!(
                "a Docker booted at {k} of {}, old kernel: {old_kernel}",
                if going_back { "rollback" } else { "migrate" }
            );
            let mut bed = if going_back { whole.fork() } else { base.fork() };
            bed.old_kernel = old_kernel;
            die(&bed, if going_back { back } else { migrate }, k);
            let shut = bed.root.join("containers").is_file();
            boots(&bed);
            assert!(!shut || !bed.root.join("engine-id").exists(), "{what}: it started on half a store");
            if !old_kernel {
                told(&bed, &what);
            }
            if !going_back {
                let other = bed.fork();
                other.run(migrate).expect(&[0, 3]);
                assert_same(&wanted, &ours(&other), &format!("{what}: finished"));
            }
            bed.run(back).expect(&[0]);
            // an empty store that it made on the old one is Docker's
            for made in ["overlay2", "image/overlay2"] {
                let _ = fs::remove_dir_all(bed.root.join(made));
            }
            let now = Tree::without(&bed.root, None, &NOT_OURS);
            let changed: Vec<String> =
                original.differences(&now).into_iter().filter(|d| !d.starts_with("image: ")).collect();
            assert!(changed.is_empty(), "{what}: back: {changed:?}");
        });
    }
    bed::report("a Docker booted at a point", "small", 2 * cases.len());
}
