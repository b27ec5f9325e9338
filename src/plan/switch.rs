//! The switch as a list of renames, none of which replaces anything.
//!
//! ```text
//! ROOT/aufs, image/aufs, buildkit, containers/<id>/config.v2.json, an empty overlay2     ──Park──▶    ROOT/.unaufs/old/…
//! ROOT/.unaufs/new/{overlay2, image/overlay2, containers/<id>/config.v2.json}            ──Install──▶ ROOT/…
//! ```
//!
//! Each rename is atomic and can be told done from undone by looking; the same list backwards is the way back.

use super::{Move, PlanContainer, Touched, Why};
use crate::disk::Dir;
use crate::error::Result;
use crate::store::{Generation, Store};
use crate::target::Target;
use std::collections::BTreeSet;

/// The folder of unaufs in ROOT.
pub const STATE: &str = ".unaufs";
/// What is being built; at the end it is empty.
pub const NEW: &str = ".unaufs/new";
/// What was parked.
pub const OLD: &str = ".unaufs/old";

/// All renames, in their order.
pub fn moves(root: &Dir, store: &Store, to: Target, containers: &[PlanContainer]) -> Result<Vec<Move>> {
    let mut out = Vec::new();
    let park = |path: &str| Move { from: path.to_owned(), to: format!("{OLD}/{path}"), why: Why::Park };
    let install = |path: &str| Move { from: format!("{NEW}/{path}"), to: path.to_owned(), why: Why::Install };
    for cache in &store.caches {
        out.push(park(cache));
    }
    let metadata: &[&str] = match store.generation {
        Generation::Content => &["image/aufs"],
        // a Docker between 1.10 and 18.09 would convert them a second time
        Generation::Graph => &["graph", "repositories-aufs", "image/aufs"],
    };
    for path in std::iter::once(&"aufs").chain(metadata) {
        if root.has(path)? {
            out.push(park(path));
        }
    }
    // an empty store of the target, as Docker 24 and 28 make one at their first start (FORMATS 11.30)
    for path in [to.name().to_owned(), format!("image/{to}")] {
        if root.has(&path)? {
            out.push(park(&path));
        }
    }
    for c in containers {
        for f in &c.files {
            let path = format!("containers/{}/{}", c.id, f.path);
            if root.has(&path)? {
                out.push(park(&path));
            }
            out.push(install(&path));
        }
    }
    out.push(install(to.name()));
    out.push(install(&if root.has("image")? { format!("image/{to}") } else { "image".to_owned() }));
    Ok(out)
}

/// The folders whose times the renames change, with their times now. ROOT's own are not among them: a state folder is made in it.
pub fn touched(root: &Dir, moves: &[Move]) -> Result<Vec<Touched>> {
    let mut folders = BTreeSet::new();
    for m in moves {
        for path in [&m.from, &m.to] {
            let (dir, _) = crate::disk::split(path.as_bytes());
            if !dir.is_empty() && !path.starts_with(STATE) {
                folders.insert(String::from_utf8_lossy(dir).into_owned());
            }
        }
    }
    let mut out = Vec::new();
    for path in folders {
        if let Some(m) = root.stat_opt(&path)? {
            out.push(Touched { path, atime: m.atime, mtime: m.mtime, mode: m.mode, owner: (m.uid, m.gid) });
        }
    }
    Ok(out)
}
