//! What a new store takes on the disk besides the content of its layers, which their builders count while they write it.
//!
//! ```text
//! .unaufs/new/image, containers, <driver>/<id>/link …     a few small files a layer
//! .unaufs/new/<driver>/<id>/diff …                         left out: FileWriter has counted it
//! .unaufs/{journal.db,reserve}, old/                       ours
//! ```

use super::stage::Sums;
use crate::disk::{Dir, FileType, Meta};
use crate::docker::driver::Target;
use crate::error::Result;
use crate::layer::walk::walk;
use crate::plan::switch::STATE;
use std::sync::{Arc, Mutex};

/// Counts it, once all is written.
pub fn rest(root: &Dir, to: Target) -> Result<Sums> {
    let (state, out) = (root.open(STATE)?, Mutex::new(Sums::default()));
    note(&state.meta()?, &out);
    walk((Arc::new(state), b".".to_vec(), Vec::new()), |(holder, name, path), hand_on| {
        let dir = Arc::new(holder.open(&name)?);
        dir.for_each(|name, kind, _| {
            let mut here: Vec<Vec<u8>> = path.clone();
            here.push(name.to_vec());
            if !counted_elsewhere(&here, to) {
                note(&dir.stat(name)?, &out);
                if kind == FileType::Directory {
                    hand_on((dir.clone(), name.to_vec(), here));
                }
            }
            Ok(())
        })
    })?;
    Ok(out.into_inner().unwrap_or_else(|e| e.into_inner()))
}

fn counted_elsewhere(path: &[Vec<u8>], to: Target) -> bool {
    match path.split_first() {
        // what is copied to a new root is counted where it is copied
        Some((top, [first, ..])) if top == b"new" && !ours(first, to) => true,
        Some((top, below)) if top == b"new" => to.is_content(below),
        // what an earlier migration left
        Some((top, _)) => top == b"undone",
        None => false,
    }
}

/// Is it made again by every migration?
fn ours(name: &[u8], to: Target) -> bool {
    [to.name().as_bytes(), b"image", b"containers"].contains(&name)
}

fn note(m: &Meta, out: &Mutex<Sums>) {
    let mut out = out.lock().unwrap_or_else(|e| e.into_inner());
    out.inodes += 1;
    out.disk += m.allocated;
}
