//! The switch as a list of renames, none of which replaces anything.
//!
//! ```text
//! ROOT/aufs, image/aufs, buildkit, containers/<id>/config.v2.json, an empty overlay2     ──Park──▶    ROOT/.unaufs/old/…
//!       of a filled overlay2: image/overlay2
//! ROOT/.unaufs/new/{overlay2, image/overlay2, containers/<id>/config.v2.json}            ──Install──▶ ROOT/…
//!       next to a filled overlay2: overlay2/<id>, overlay2/l/<LINK>, image/overlay2 with both stores' metadata
//! ```
//!
//! A new root in another place gets everything from its stage: its own directories, then what is copied from the old root, `image/` last.
//!
//! Each rename is atomic and can be told done from undone by looking; the same list backwards is the way back.

use super::existing::State;
use super::{Move, Plan, Touched, Why};
use crate::disk::Dir;
use crate::docker::driver::Target;
use crate::error::Result;
use crate::store::{Generation, Store};
use std::collections::BTreeSet;

/// The directory of unaufs in ROOT.
pub const STATE: &str = ".unaufs";
/// What is being built; at the end it is empty.
pub const NEW: &str = ".unaufs/new";
/// Bytes that `.unaufs/reserve` holds back for a rollback on a full disk.
pub const RESERVE: u64 = 1 << 20;
/// What was parked.
pub const OLD: &str = ".unaufs/old";
/// What a Docker put in the way of a switch.
pub const ASIDE: &str = ".unaufs/undone-aside";

/// All renames, in their order.
pub fn moves(root: &Dir, store: &Store, plan: &Plan, existing: State) -> Result<Vec<Move>> {
    let to = plan.options.to;
    let mut out = Vec::new();
    if let Some(e) = &plan.new_root {
        let mut tops = e.tops();
        tops.insert(to.name().to_owned());
        tops.remove("image");
        let install = |path: String| Move { from: format!("{NEW}/{path}"), to: path, why: Why::Install };
        return Ok(tops.into_iter().chain(["image".to_owned()]).map(install).collect());
    }
    let park = |path: &str| Move { from: path.to_owned(), to: format!("{OLD}/{path}"), why: Why::Park };
    let install = |path: &str| Move { from: format!("{NEW}/{path}"), to: path.to_owned(), why: Why::Install };
    // next to a filled store of the target they are that store's by now: Docker has run on it last
    for cache in store.caches.iter().filter(|_| existing != State::Populated) {
        out.push(park(cache));
    }
    for path in old_parts(store.generation) {
        if root.has(path)? {
            out.push(park(path));
        }
    }
    let image = format!("image/{to}");
    // an empty store of the target, as Docker 24 and 28 make one at their first start (FORMATS 11.30); of a filled one only the
    // metadata, which are installed again with ours added
    let home = root.has(to.home())?;
    if (existing == State::Empty || !home) && root.has(to.name())? {
        out.push(park(to.name()));
    }
    if root.has(&image)? {
        out.push(park(&image));
    }
    for c in &plan.containers {
        for f in &c.files {
            let path = format!("containers/{}/{}", c.id, f.path);
            if root.has(&path)? {
                out.push(park(&path));
            }
            out.push(install(&path));
        }
    }
    for c in store.containers.values().filter(|c| c.crashes_docker) {
        out.push(park(&format!("containers/{}", c.id)));
    }
    match existing {
        State::Absent | State::Empty => out.push(install(to.name())),
        State::Populated => out.extend(added(root, plan, home)?.iter().map(|p| install(p))),
    }
    out.push(install(if root.has("image")? { &image } else { "image" }));
    Ok(out)
}

/// The old store. One of the older generation can have every part.
pub fn old_parts(generation: Generation) -> &'static [&'static str] {
    match generation {
        Generation::Content => &["aufs", "image/aufs"],
        // a Docker between 1.10 and 18.09 would convert them a second time
        Generation::Graph => &["aufs", "graph", "repositories-aufs", "image/aufs"],
    }
}

/// What is put into a filled store of the target: layer by layer, each before the name that leads to it.
fn added(root: &Dir, plan: &Plan, home: bool) -> Result<Vec<String>> {
    let to = plan.options.to;
    // an image without layers leaves metadata only
    if !home {
        return Ok(vec![to.name().to_owned()]);
    }
    let mut out = Vec::new();
    let links = root.has("overlay2/l")?;
    for l in &plan.layers {
        out.push(format!("{}/{}", to.home(), l.id));
        if to == Target::Overlay2 && links {
            out.push(format!("overlay2/l/{}", l.link));
        }
    }
    if to == Target::Overlay2 && !links {
        out.push("overlay2/l".to_owned());
    }
    out.extend(plan.kept().iter().filter(|k| k.commit).map(|k| format!("overlay2/{}/committed", k.theirs)));
    Ok(out)
}

/// The directories whose times the renames change, with their times now. ROOT's own are not among them: a state directory is made in it.
pub fn touched(root: &Dir, moves: &[Move]) -> Result<Vec<Touched>> {
    // the guard takes these two out of their places and puts them back: xfs changes the time of a directory that gets another parent
    let mut directories = BTreeSet::from(["containers".to_owned(), "image".to_owned()]);
    for m in moves {
        for path in [&m.from, &m.to] {
            let (dir, _) = crate::disk::split(path.as_bytes());
            if !dir.is_empty() && !path.starts_with(STATE) {
                directories.insert(String::from_utf8_lossy(dir).into_owned());
            }
        }
    }
    let mut out = Vec::new();
    for path in directories {
        if let Some(m) = root.stat_opt(&path)? {
            out.push(Touched { path, atime: m.atime, mtime: m.mtime, mode: m.mode, owner: (m.uid, m.gid) });
        }
    }
    Ok(out)
}
