//! Stacks that nobody thought of. A stack that fails is made small and printed as text: it then belongs into `traps`.
//!
//! `PROPTEST_CASES=N` tries N stacks instead of a few.

use super::bed::{self, Fs};
use crate::support::private::{self, this_test};
use crate::support::stack::store::{self, Containers};
use crate::support::stack::text;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Few: each stack is migrated to four targets and back.
const STACKS: u32 = 5;
/// Few names, so that layers meet.
const NAMES: [&str; 4] = ["a", "b", "c", r"d\xff"];

/// What a line of a layer does to a name.
#[derive(Clone, Copy, Debug)]
enum Does {
    Folder,
    File,
    /// Another name of the last file of the layer.
    Link,
    Symlink,
    Fifo,
    Device,
    /// A deletion, to overlayfs.
    Ghost,
    Whiteout,
    KernelWhiteout,
    Opaque,
}

type Line = (Does, Vec<&'static str>, u8);

/// A stack as text, shown as such.
#[derive(Clone)]
struct Stack(String);

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn stacks() -> impl Strategy<Value = Stack> {
    let does = prop_oneof![
        4 => Just(Does::Folder),
        6 => Just(Does::File),
        1 => Just(Does::Link),
        1 => Just(Does::Symlink),
        1 => Just(Does::Fifo),
        1 => Just(Does::Device),
        1 => Just(Does::Ghost),
        4 => Just(Does::Whiteout),
        2 => Just(Does::KernelWhiteout),
        3 => Just(Does::Opaque),
    ];
    let path = prop::collection::vec(prop::sample::select(&NAMES[..]), 1..4);
    let layer = prop::collection::vec((does, path, any::<u8>()), 0..14);
    prop::collection::vec(layer, 1..6).prop_map(|layers| Stack(layers.iter().map(|l| written(l)).collect()))
}

/// A layer as text, without the lines that no disk could hold: a name below a file, a name twice.
fn written(lines: &[Line]) -> String {
    let mut out = "layer\n".to_owned();
    // path -> is it a directory?
    let mut there: BTreeMap<String, bool> = BTreeMap::new();
    let mut opaque = BTreeSet::new();
    let mut last_file = None;
    for (does, names, salt) in lines {
        let path = names.join("/");
        let parents: Vec<String> = (1..names.len()).map(|n| names[..n].join("/")).collect();
        if parents.iter().any(|p| there.get(p) == Some(&false)) {
            continue;
        }
        let marks = matches!(does, Does::Whiteout | Does::KernelWhiteout);
        let taken = there.get(&path).copied();
        if !marks && taken.is_some_and(|folder| !(folder && matches!(does, Does::Opaque))) {
            continue;
        }
        if matches!(does, Does::Opaque) && !opaque.insert(path.clone()) {
            continue;
        }
        let line = match does {
            Does::Folder => format!("d {path} mode=07{}{} x:user.n={salt}", salt % 8, salt / 8 % 8),
            Does::File => format!("f {path} =content{salt} owner={salt}:1"),
            Does::Link => match &last_file {
                Some(file) => format!("h {path} -> {file}"),
                None => continue,
            },
            Does::Symlink => format!("s {path} -> {}", NAMES[usize::from(*salt) % 3]),
            Does::Fifo => format!("p {path}"),
            Does::Device => format!("c {path} 1:{salt}"),
            Does::Ghost => format!("c {path} 0:0"),
            Does::Whiteout => format!("w {path}"),
            Does::KernelWhiteout => format!("w {path} as=link"),
            Does::Opaque => format!("o {path}"),
        };
        out += &line;
        out.push('\n');
        there.extend(parents.into_iter().map(|p| (p, true)));
        if matches!(does, Does::File) {
            last_file = Some(path.clone());
        }
        if !marks {
            there.insert(path, matches!(does, Does::Folder | Does::Opaque));
        }
    }
    out
}

/// Each target shows what the stack must show, and a rollback gives back the root.
#[test]
fn stacks_that_nobody_thought_of() {
    if !bed::able() || private::elsewhere(this_test!()) {
        return;
    }
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(STACKS);
    let disks = [Fs::Ext4, Fs::Btrfs].map(|fs| (fs, fs.mount(&format!("{fs:?}"))));
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() });
    let tried = runner.run(&(stacks(), prop::sample::select(&["auto", "copy"][..])), |(stack, mode)| {
        let layers = text::parse(&stack.0);
        let mut wrong = Vec::new();
        for (fs, at) in &disks {
            let root = at.join("docker");
            if root.exists() {
                std::fs::remove_dir_all(&root).expect("the last root is removed");
            }
            std::fs::create_dir(&root).expect("a root");
            let casts = store::write(&layers, &root, Containers::All);
            for target in fs.targets() {
                wrong.extend(bed::round_trip(&root, &casts, target, mode));
            }
        }
        prop_assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    });
    if let Err(e) = tried {
        panic!("{e}");
    }
}
