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
use crate::plan::switch::STATE;

/// Counts it, once all is written.
pub fn rest(root: &Dir, to: Target) -> Result<Sums> {
    let mut out = Sums::default();
    let state = root.open(STATE)?;
    note(&state.meta()?, &mut out);
    let mut todo = vec![(state, Vec::new())];
    while let Some((dir, path)) = todo.pop() {
        for (name, kind) in dir.list()? {
            let mut here: Vec<Vec<u8>> = path.clone();
            here.push(name.clone());
            let counted = match here.split_first() {
                // what is copied to a new root is counted where it is copied
                Some((top, [first, ..])) if top == b"new" && !ours(first, to) => true,
                Some((top, below)) if top == b"new" => to.is_content(below),
                // what an earlier migration left
                Some((top, _)) => top == b"undone",
                None => false,
            };
            if counted {
                continue;
            }
            note(&dir.stat(&name)?, &mut out);
            if kind == FileType::Directory {
                todo.push((dir.open(&name)?, here));
            }
        }
    }
    Ok(out)
}

/// Is it made again by every migration?
fn ours(name: &[u8], to: Target) -> bool {
    [to.name().as_bytes(), b"image", b"containers"].contains(&name)
}

fn note(m: &Meta, out: &mut Sums) {
    out.inodes += 1;
    out.disk += m.allocated;
}
