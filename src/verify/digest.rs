//! A layer's digest, rebuilt: its tar is made again from its tar-split data and the files of a tree, and digested on the way.
//!
//! ```text
//! image/<driver>/layerdb/sha256/<chain>/tar-split.json.gz ┐
//! <driver>/<id>/…                                         ┴▶ the tar ──▶ DiffID = image/<driver>/layerdb/sha256/<chain>/diff ?
//! ```
//!
//! It is the only proof of content that does not rest on the old store: where both stores share an inode, a byte that flipped has
//! flipped in both. Nothing is kept of the tar, so memory does not grow with the layer.

use super::{Seen, Side};
use crate::digest::ViewFiles;
use crate::error::{Kind, Result};
use crate::ids::{DiffId, LayerId};
use crate::show;
use crate::tarsplit::{MAX_UNPACKED, Proof, Reader, WrongFile, prove};
use crate::view::Chain;
use std::fs::File;

/// A layer to prove.
pub struct Layer<'a> {
    /// Its folder's name.
    pub id: &'a LayerId,
    /// What its digest must be.
    pub diff: DiffId,
    /// Opens its tar-split data; `None` if it has none.
    pub tar_split: &'a dyn Fn() -> Result<Option<File>>,
    /// It and all below it, in the store to prove.
    pub new: &'a Chain,
    /// The same in the old store. It is read only where that tells more.
    pub old: Option<&'a Chain>,
    /// The files of the two trees were compared and differ.
    pub differs: bool,
}

/// Proves a layer, and notes what came of it.
pub fn check(layer: &Layer<'_>, seen: &Seen) -> Result<()> {
    let id = layer.id.as_str();
    let alone = layer.old.is_none();
    let new = match layer.prove(layer.new) {
        Ok(Some(proof)) => proof,
        Ok(None) => {
            seen.unprovable(id, "it has no tar-split.json.gz");
            return Ok(());
        }
        Err(e) if matches!(e.kind(), Kind::Interrupted | Kind::Terminated) => return Err(e),
        Err(e) => {
            let side = if alone { Side::Itself } else { Side::New };
            seen.note("layer", id, b"", format!("its digest cannot be rebuilt: {}", e.chain()), side);
            return Ok(());
        }
    };
    let right = new.diff == Some(layer.diff);
    let old = match layer.old {
        // what is equal to something proved is proved
        Some(old) if layer.differs || !right => layer.prove(old)?,
        _ => None,
    };
    match (&new.diff, right) {
        (_, true) => seen.proved(new.bytes),
        (Some(is), false) => {
            let side = if alone { Side::Itself } else { Side::Both };
            let wanted = layer.diff;
            let what = format!(
                "every file is as recorded, but its tar has the digest {is} instead of {wanted}: tar-split.json.gz has changed"
            );
            seen.note("layer", id, b"", what, side);
        }
        (None, false) if new.wrong.is_empty() => seen.unprovable(id, absent(&new)),
        (None, false) => {}
    }
    wrong_files(id, &new, old.as_ref(), alone, seen);
    Ok(())
}

impl Layer<'_> {
    fn prove(&self, chain: &Chain) -> Result<Option<Proof>> {
        match (self.tar_split)()? {
            Some(file) => prove(Reader::new(file, MAX_UNPACKED), &ViewFiles::new(chain)?).map(Some),
            None => Ok(None),
        }
    }
}

fn wrong_files(id: &str, new: &Proof, old: Option<&Proof>, alone: bool, seen: &Seen) {
    for w in &new.wrong {
        let side = match old {
            _ if alone => Side::Itself,
            Some(old) if old.wrong.contains(w) => Side::Both,
            _ => Side::New,
        };
        seen.note("layer", id, strip(&w.name), said(w), side);
    }
    for w in old.iter().flat_map(|o| &o.wrong).filter(|w| new.wrong.iter().all(|n| n.name != w.name)) {
        seen.note("layer", id, strip(&w.name), said(w), Side::Old);
    }
}

fn said(w: &WrongFile) -> String {
    format!("not as it was when the layer was made: {w}")
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
    format!("{why}: {}{more}", show::bytes(strip(name)))
}
