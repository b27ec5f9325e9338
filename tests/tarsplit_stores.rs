//! tar-split data that real Dockers wrote: each layer's tar made again has the recorded digest, and taken apart again gives
//! the same values.

use std::io::Read;
use std::path::PathBuf;
use unaufs::disk::Dir;
use unaufs::error::Result;
use unaufs::ids::{DiffId, Sha256};
use unaufs::tarsplit::{self, DiffIdWriter, MAX_UNPACKED, Packer, Payloads, Piece, Reader};

/// The files of one layer of the aufs driver.
struct Branch(Dir);

impl Payloads for Branch {
    fn open(&self, name: &[u8]) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0.open_file(name)?))
    }
}

/// A real store, packed. `UNAUFS_STORES` names the folder of the stores.
fn folder(name: &str) -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/stores");
    std::env::var_os("UNAUFS_STORES").map_or_else(|| PathBuf::from(beside), PathBuf::from).join(name)
}

/// What is recorded of it.
fn truth(name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(folder(name).join("truth/truth.json")).expect("truth.json");
    serde_json::from_str(&text).expect("truth.json")
}

/// An unpacked copy of a real store.
fn real(name: &str) -> Option<(tempfile::TempDir, Dir)> {
    let store = folder(name);
    let path = std::fs::read_to_string(store.join("root.path")).ok()?;
    let at = tempfile::tempdir().expect("temp dir");
    let mut tar = std::process::Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"]).arg(store.join("root.tar.xz"));
    assert!(tar.arg("-C").arg(at.path()).status().expect("tar").success());
    let root = Dir::open_named(&at.path().join(path.trim())).expect("root");
    Some((at, root))
}

/// Runs `check` on a store, or says that there is none.
fn with(name: &str, check: impl FnOnce(&Dir)) {
    match real(name) {
        Some((_at, root)) => check(&root),
        None => {
            assert!(std::env::var_os("CI").is_none(), "no real stores");
            eprintln!("not run: UNAUFS_STORES names no folder with real stores");
        }
    }
}

fn text(root: &Dir, path: &str) -> String {
    String::from_utf8(root.read(path, 4096).expect("read")).expect("text").trim().to_owned()
}

fn names(root: &Dir, path: &str) -> Vec<String> {
    let list = root.open(path).expect("folder").list().expect("list");
    list.into_iter().map(|(n, _)| String::from_utf8(n).expect("name")).collect()
}

/// The pieces, with segments that touch each other joined: where they are cut is the writer's choice.
fn pieces(gz: &[u8]) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    for piece in Reader::new(gz, MAX_UNPACKED).refuse_duplicates() {
        match (out.last_mut(), piece.expect("piece")) {
            (Some(Piece::Segment(before)), Piece::Segment(more)) => before.extend(more),
            (_, piece) => out.push(piece),
        }
    }
    out
}

/// Makes a layer's tar, takes it apart again, and gives its digest.
fn there_and_back(root: &Dir, split: &str, branch: &str) -> DiffId {
    let gz = root.read(split, 1 << 30).expect("tar-split");
    let files = Branch(root.open(branch).expect("branch"));
    let mut tar = DiffIdWriter::new(Vec::new());
    let done = tarsplit::reassemble(Reader::new(&gz[..], MAX_UNPACKED), &files, &mut tar).expect(split);
    let (tar, id) = tar.finish();
    assert_eq!(done.bytes, tar.len() as u64);
    assert_eq!(id.0, Sha256::of(&tar));
    assert_eq!(tarsplit::diff_id(Reader::new(&gz[..], MAX_UNPACKED), &files).expect(split), id);

    let mut packer = Packer::new(Vec::new());
    let mut passed = DiffIdWriter::new(std::io::sink());
    let again = tarsplit::disassemble(&tar[..], &mut packer, &mut passed).expect(split);
    assert_eq!((again.bytes, again.payload_bytes), (done.bytes, done.payload_bytes));
    assert_eq!(passed.finish().1, id);
    assert!(pieces(&packer.finish().expect("packed")) == pieces(&gz), "{split}");
    id
}

fn content_store(root: &Dir, least: usize) {
    let layers = names(root, "image/aufs/layerdb/sha256");
    assert!(layers.len() >= least, "{} layers", layers.len());
    for chain in layers {
        let at = format!("image/aufs/layerdb/sha256/{chain}");
        let branch = format!("aufs/diff/{}", text(root, &format!("{at}/cache-id")));
        let id = there_and_back(root, &format!("{at}/tar-split.json.gz"), &branch);
        assert_eq!(id.to_string(), text(root, &format!("{at}/diff")), "{chain}");
    }
}

#[test]
fn docker_20_10() {
    with("docker20-aufs", |root| content_store(root, 23));
}

#[test]
fn docker_20_10_crashed() {
    with("docker20-aufs-crashed", |root| content_store(root, 20));
}

#[test]
fn docker_20_10_leftovers() {
    with("docker20-aufs-leftovers", |root| content_store(root, 3));
}

#[test]
fn docker_1_9() {
    with("docker19-aufs", |root| {
        // what a real Docker 1.10.3 took as their digests
        let truth = truth("docker19-aufs");
        let layers = truth["layers"].as_object().expect("layers");
        assert_eq!(layers.len(), 33);
        for layer in layers.values() {
            let id = layer["cache_id"].as_str().expect("cache id");
            let diff = there_and_back(root, &format!("graph/{id}/tar-data.json.gz"), &format!("aufs/diff/{id}"));
            assert_eq!(diff.to_string(), layer["diff"].as_str().expect("diff"), "{id}");
        }
    });
}
