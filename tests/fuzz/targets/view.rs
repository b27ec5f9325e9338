//! The marker scanner and the view against a naive model, and what the writers make of the same layers against it too.
//!
//! The input is a list of steps of two bytes: in which layer to put what, and where. The layers are made on a tmpfs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use unaufs::disk::attrs::XattrScope;
use unaufs::disk::copy::Transfer;
use unaufs::disk::{Dir, FileType};
use unaufs::layer::branch::{Branch, Format};
use unaufs::layer::view::Chain;
use unaufs::target::file::FileWriter;
use unaufs::target::{apply, overlay_diff};

const LAYERS: usize = 4;
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Default)]
struct Layer {
    entries: BTreeMap<PathBuf, FileType>,
    whiteouts: Vec<PathBuf>,
    opaque: Vec<PathBuf>,
}

/// Path to type and to the layer that brings it.
type Tree = BTreeMap<PathBuf, (FileType, usize)>;

/// Does one step, if it makes sense in this layer.
fn step(top: &Path, layer: &mut Layer, what: u8, place: u8) {
    let names: Vec<&str> = (0..3).map_while(|i| NAMES.get(usize::from(place >> (2 * i) & 3)).copied()).collect();
    let Some((name, folders)) = names.split_last() else { return };
    let mut folder = PathBuf::new();
    for f in folders {
        folder.push(f);
        match layer.entries.get(&folder) {
            None => {
                std::fs::create_dir(top.join(&folder)).expect("a folder");
                layer.entries.insert(folder.clone(), FileType::Directory);
            }
            Some(FileType::Directory) => {}
            Some(_) => return,
        }
    }
    let (path, at) = (folder.join(name), top.join(&folder));
    let file = |name: &str| std::fs::write(at.join(name), b"x").expect("a file");
    match what {
        0 => {
            layer.whiteouts.push(path);
            file(&format!(".wh.{name}"));
        }
        1 if !folder.as_os_str().is_empty() => {
            layer.opaque.push(folder);
            file(".wh..wh..opq");
        }
        // on a branch's root it has no effect
        1 => file(".wh..wh..opq"),
        2 => file([".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph", ".wh..wh.x.1", ".wh."][usize::from(place) % 5]),
        _ if layer.entries.contains_key(&path) => {}
        3 | 4 => {
            std::fs::create_dir(at.join(name)).expect("a folder");
            layer.entries.insert(path, FileType::Directory);
        }
        5 => {
            std::os::unix::fs::symlink("../..", at.join(name)).expect("a symlink");
            layer.entries.insert(path, FileType::Symlink);
        }
        _ => {
            file(name);
            layer.entries.insert(path, FileType::RegularFile);
        }
    }
}

/// What the layers, base first, show, by the definition of an OCI layer.
fn model(layers: &[Layer]) -> Tree {
    let mut tree = Tree::new();
    for (n, layer) in layers.iter().enumerate() {
        for gone in &layer.whiteouts {
            tree.retain(|p, _| !p.starts_with(gone));
        }
        for folder in &layer.opaque {
            tree.retain(|p, _| p == folder || !p.starts_with(folder));
        }
        for (path, kind) in &layer.entries {
            let merges = *kind == FileType::Directory && tree.get(path).is_some_and(|(k, _)| k == kind);
            if !merges {
                tree.retain(|p, _| !p.starts_with(path));
            }
            tree.insert(path.clone(), (*kind, n));
        }
    }
    tree
}

fn branches(tops: impl Iterator<Item = PathBuf>, format: Format) -> Chain {
    let branch = |top: PathBuf| Branch::open(Dir::open_named(&top).expect("a directory"), None, format);
    Chain { branches: tops.map(branch).collect() }
}

/// Everything that a stack shows; `base` is the number of its nearest layer.
fn shown(chain: &Chain, base: usize) -> Tree {
    let mut out = Tree::new();
    let mut todo = vec![(Vec::new(), chain.root())];
    while let Some((path, from)) = todo.pop() {
        let at = Path::new(std::ffi::OsStr::from_bytes(&path));
        let folder = chain.merge(&from, &path).expect("a view");
        if !path.is_empty() {
            // step by step, an opaque mark in the directory itself is known already: the layers below it are left out
            let short = chain.contributors(&chain.root(), &path).expect("contributors");
            assert!(!short.is_empty() && from.starts_with(&short), "{at:?}: {short:?} of {from:?}");
            assert_eq!(chain.merge(&short, &path).expect("a view").names, folder.names, "{at:?}");
        }
        assert!(folder.ghosts.is_empty(), "ghosts in {at:?}: {:?}", folder.ghosts);
        for (name, node) in folder.names {
            let here = at.join(std::ffi::OsStr::from_bytes(&name));
            out.insert(here.clone(), (node.kind, base - usize::from(*node.from.first().expect("a holder"))));
            if node.kind == FileType::Directory {
                todo.push((here.as_os_str().as_bytes().to_vec(), node.from));
            }
        }
    }
    out
}

fuzz_target!(|input: &[u8]| {
    if input.len() > 128 {
        return;
    }
    let top = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let folder = |kind: &str, n: usize| top.path().join(format!("{kind}{n}"));
    let mut layers: Vec<Layer> = (0..LAYERS).map(|_| Layer::default()).collect();
    for kind in ["aufs", "overlay", "flat"] {
        (0..LAYERS).for_each(|n| std::fs::create_dir(folder(kind, n)).expect("a folder"));
    }
    for pair in input.chunks_exact(2) {
        let n = usize::from(pair[0] & 3);
        step(&folder("aufs", n), &mut layers[n], pair[0] >> 2 & 7, pair[1]);
    }
    let flat = |n: usize| {
        let root = Dir::open_named(&folder("flat", n)).expect("a folder");
        FileWriter::new(root, &[Transfer::Copy], XattrScope::Plain, false)
    };
    for n in 0..LAYERS {
        let want = model(&layers[..=n]);
        let aufs = branches((0..=n).rev().map(|i| folder("aufs", i)), Format::Aufs);
        assert_eq!(shown(&aufs, n), want, "aufs, layer {n}");
        let root = Dir::open_named(&folder("overlay", n)).expect("a folder");
        let placer = FileWriter::new(root, &[Transfer::Copy], XattrScope::Overlay, false);
        overlay_diff::write(&aufs, 1, &placer, false).expect("written");
        let overlay = branches((0..=n).rev().map(|i| folder("overlay", i)), Format::Overlay);
        assert_eq!(shown(&overlay, n), want, "overlay2, layer {n}");
        let kinds = |t: &Tree| t.iter().map(|(p, (k, _))| (p.clone(), *k)).collect::<BTreeMap<_, _>>();
        for i in 0..=n {
            apply::write(aufs.branches[n - i].dir().expect("open"), i == 0, &flat(n)).expect("applied");
        }
        let tree = branches(std::iter::once(folder("flat", n)), Format::Plain);
        assert_eq!(kinds(&shown(&tree, 0)), kinds(&want), "btrfs, layer {n}");
    }
});
