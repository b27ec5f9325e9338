//! tar-split data that real Dockers wrote: each layer's tar made again has the recorded digest, and taken apart again gives
//! the same values.

use crate::support::disassemble::disassemble;
use crate::support::real;

use std::io::Read;
use unaufs::disk::Dir;
use unaufs::error::Result;
use unaufs::ids::{DiffId, Sha256};
use unaufs::tar::split::{self, DiffIdWriter, MAX_UNPACKED, Packer, Payloads, Piece, Reader};

/// The files of one layer of the aufs driver.
struct Branch(Dir);

impl Payloads for Branch {
    fn open(&self, name: &[u8]) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0.open_file(name)?))
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
    for piece in Reader::new(gz, MAX_UNPACKED) {
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
    let done = split::reassemble(Reader::new(&gz[..], MAX_UNPACKED), &files, &mut tar).expect(split);
    let (tar, id) = tar.finish();
    assert_eq!(done.bytes, tar.len() as u64);
    assert_eq!(id.0, Sha256::of(&tar));

    let mut packer = Packer::new(Vec::new());
    let mut passed = DiffIdWriter::new(std::io::sink());
    let again = disassemble(&tar[..], &mut packer, &mut passed).expect(split);
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

/// The project's own store, and those in the directory that `UNAUFS_STORES` names.
#[test]
fn content_addressable_stores() {
    for packed in real::all() {
        let store = packed.unpack();
        if store.root.join("graph").exists() {
            continue;
        }
        let least = match store.name.as_str() {
            "docker20-aufs" => 23,
            "docker20-aufs-crashed" => 20,
            _ => 3,
        };
        content_store(&Dir::open_named(&store.root).expect("root"), least);
    }
}

#[test]
fn docker_1_9() {
    let store = real::graph().unpack();
    let root = Dir::open_named(&store.root).expect("root");
    // what a real Docker 1.10.3 took as their digests
    let truth = std::fs::read_to_string(store.truth.join("truth.json")).expect("truth.json");
    let truth: serde_json::Value = serde_json::from_str(&truth).expect("truth.json");
    let layers = truth["layers"].as_object().expect("layers");
    assert_eq!(layers.len(), 33);
    for layer in layers.values() {
        let id = layer["cache_id"].as_str().expect("cache id");
        let diff = there_and_back(&root, &format!("graph/{id}/tar-data.json.gz"), &format!("aufs/diff/{id}"));
        assert_eq!(diff.to_string(), layer["diff"].as_str().expect("diff"), "{id}");
    }
}
