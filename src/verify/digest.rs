//! A layer's digest, rebuilt: its tar is made again from its tar-split data and the files of a tree, and digested on the way.
//!
//! ```text
//! image/<driver>/layerdb/sha256/<chain>/tar-split.json.gz ┐
//! <driver>/<id>/…                                         ┴▶ the tar ──▶ DiffID = image/<driver>/layerdb/sha256/<chain>/diff ?
//! ```
//!
//! It is the only proof of content that does not rest on the old store: where both stores share an inode, a byte that flipped has
//! flipped in both. Nothing is kept of the tar, so memory does not grow with the layer.

use super::seen::{Seen, says_nothing, stops};
use super::{By, Difference, Side};
use crate::error::{Error, Result};
use crate::ids::{DiffId, LayerId};
use crate::layer::view::Chain;
use crate::tar::digest::ViewFiles;
use crate::tar::split::{MAX_UNPACKED, Proof, Reader, WrongFile, prove};
use crate::text;
use std::fs::File;

/// A layer in one store.
pub struct LayerTree<'a> {
    /// It and all below it.
    pub chain: &'a Chain,
    /// Opens its tar-split data; `None` if it has none.
    pub tar_split: &'a dyn Fn() -> Result<Option<File>>,
}

/// A layer to prove.
pub struct Layer<'a> {
    /// Its directory's name.
    pub id: &'a LayerId,
    /// What its digest must be.
    pub diff: DiffId,
    /// The layer in the store that is proved.
    pub new: LayerTree<'a>,
    /// The layer in the store that it was made of. It is read only where that says more: what is equal to something proved is proved.
    pub old: Option<LayerTree<'a>>,
    /// The files of the two were compared and differ.
    pub differs: bool,
    /// It is so large that its digest has a thread of its own.
    pub large: bool,
}

/// Proves a layer, and notes what came of it.
pub fn check(layer: &Layer<'_>, seen: &Seen<'_>) -> Result<()> {
    let id = layer.id.as_str();
    let right = |p: &Outcome| matches!(p, Ok(Some(p)) if p.diff == Some(layer.diff));
    let new = layer.new.prove(layer.large)?;
    let old = match &layer.old {
        Some(old) if layer.differs || !(right(&new) || matches!(new, Ok(None))) => Some(old.prove(layer.large)?),
        _ => None,
    };
    let side = match (&layer.old, &old) {
        (None, _) => Side::Itself,
        (_, Some(old)) if right(old) => Side::New,
        _ => Side::Both,
    };
    match &new {
        Ok(None) => seen.unprovable(id, "no tar-split.json.gz"),
        Ok(Some(proof)) if right(&new) => seen.proved(proof.bytes),
        Ok(Some(proof)) => wrong_digest(layer, proof, old.as_ref(), side, seen),
        Err(e) if matches!(&old, Some(Err(old)) if old.chain() == e.chain()) => seen.damaged_record(id, e),
        Err(e) => note(layer, b"", format!("its digest can't be rebuilt: {}", e.chain()), side, seen),
    }
    match old {
        Some(Err(e)) if right(&new) => {
            note(layer, b"", format!("its digest can't be rebuilt: {}", e.chain()), Side::Old, seen);
        }
        Some(Ok(Some(old))) => {
            let same = |w: &WrongFile| matches!(&new, Ok(Some(n)) if n.wrong.iter().any(|n| n.name == w.name));
            for w in old.wrong.iter().filter(|w| !same(w)) {
                note(layer, strip(&w.name), said(w), Side::Old, seen);
            }
        }
        _ => {}
    }
    Ok(())
}

fn note(layer: &Layer<'_>, path: &[u8], what: String, side: Side, seen: &Seen<'_>) {
    seen.note(Difference::new("layer", layer.id.as_str(), what).path(path).side(side).by(By::Digest));
}

/// Why the digest is not the recorded one.
fn wrong_digest(layer: &Layer<'_>, proof: &Proof, old: Option<&Outcome>, side: Side, seen: &Seen<'_>) {
    let id = layer.id.as_str();
    if let Some(is) = &proof.diff {
        let wanted = layer.diff;
        let what = format!(
            "each file is as recorded, but its tar has the digest {is} instead of {wanted}: tar-split.json.gz has changed"
        );
        return note(layer, b"", what, side, seen);
    }
    if proof.wrong.is_empty() {
        return seen.unprovable(id, absent(proof));
    }
    for w in &proof.wrong {
        let side = match old {
            // the old file alone, whatever else is wrong with the layer
            Some(Ok(Some(old))) if !old.wrong.contains(w) => Side::New,
            _ => side,
        };
        note(layer, strip(&w.name), said(w), side, seen);
    }
}

/// What came of proving: `None` without tar-split data, an error where the data cannot be used.
type Outcome = std::result::Result<Option<Proof>, Error>;

impl LayerTree<'_> {
    /// The outer error is a wish to stop, or says nothing about the layer.
    fn prove(&self, large: bool) -> Result<Outcome> {
        let one = || match (self.tar_split)()? {
            Some(file) => prove(Reader::new(file, MAX_UNPACKED), &ViewFiles::new(self.chain)?, large).map(Some),
            None => Ok(None),
        };
        match one() {
            Err(e) if stops(&e) || says_nothing(&e) => Err(e),
            outcome => Ok(outcome),
        }
    }
}

fn said(w: &WrongFile) -> String {
    format!("changed since the layer was made: {w}")
}

fn strip(name: &[u8]) -> &[u8] {
    let name = name.strip_prefix(b"./").unwrap_or(name);
    name.strip_prefix(b"/").unwrap_or(name)
}

fn absent(proof: &Proof) -> String {
    let Some((name, why)) = proof.absent.first() else { return String::new() };
    let more = match proof.absent.len() - 1 {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    format!("{why}: {}{more}", text::bytes(strip(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Dir;
    use crate::layer::branch::{Branch, Format};
    use crate::tar::split::{Crc64, Packer};
    use std::io::Write;
    use std::path::Path;

    fn chain(top: &Path) -> Chain {
        Chain { branches: vec![Branch::open(Dir::open_named(top).expect("open"), None, Format::Plain)] }
    }

    /// Proves a tree that holds `a`; the tar had these names, each with the content `hello`.
    fn proved(names: &[&[u8]], content: &str) -> (usize, Vec<super::super::Unprovable>, Vec<super::super::Difference>) {
        let t = tempfile::tempdir().expect("temp dir");
        let (tree, record) = (t.path().join("tree"), t.path().join("record"));
        std::fs::create_dir(&tree).expect("mkdir");
        std::fs::write(tree.join("a"), content).expect("write");
        let mut packer = Packer::new(Vec::new());
        names.iter().for_each(|n| packer.file(n, 5, Crc64::of(b"hello")).expect("packed"));
        std::fs::File::create(&record).expect("create").write_all(&packer.finish().expect("packed")).expect("write");
        let tar: String = names.iter().map(|_| "hello").collect();
        let (id, diff) = (LayerId::parse("layer").expect("id"), DiffId(crate::ids::Sha256::of(tar.as_bytes())));
        let tar_split = || -> Result<Option<File>> { Ok(Some(File::open(&record).expect("record"))) };
        let stack = chain(&tree);
        let new = LayerTree { chain: &stack, tar_split: &tar_split };
        let seen = Seen::default();
        check(&Layer { id: &id, diff, new, old: None, differs: false, large: false }, &seen).expect("checked");
        let report = seen.report("vfs", |_| String::new());
        (report.digests as usize, report.unprovable, report.differences)
    }

    #[test]
    fn right_wrong_or_unprovable() {
        let (right, unprovable, differences) = proved(&[b"./a"], "hello");
        assert_eq!((right, unprovable.len(), differences.len()), (1, 0, 0));

        let (right, unprovable, differences) = proved(&[b"./a"], "hallo");
        assert_eq!((right, unprovable.len()), (0, 0));
        assert_eq!((&differences[0].path[..], differences[0].side), (&b"a"[..], Side::Itself));

        // no tree but an aufs branch has it
        let (right, unprovable, differences) = proved(&[b"a", b"d/.wh.odd", b".wh..wh.plnk/1.2"], "hello");
        assert_eq!((right, differences.len()), (0, 0));
        assert!(unprovable[0].reason.ends_with("with content: d/.wh.odd, and 1 more"), "{unprovable:?}");
    }
}
