//! The switch, forwards and backwards: the plan's renames, each atomic, each recognisable as done by looking.
//!
//! Forwards, a rename is done when its source is gone and its target is there. Backwards, Docker may have run on the new store meanwhile:
//! it may have removed a container's folder, or made a new `buildkit/`. What is in the way goes to the stage, never away, and the stage
//! becomes `.unaufs/undone`. The stage's folders stay after the switch: the way back then makes none, on a disk that may be full.

use crate::disk::Dir;
use crate::docker::driver::Target;
use crate::error::{Error, Result};
use crate::plan::existing;
use crate::plan::merge::Merge;
use crate::plan::switch::{NEW, OLD, STATE};
use crate::plan::{Move, Plan, Why};
use crate::progress::Progress;
use std::collections::{BTreeSet, HashSet};

/// Does the renames that are not done yet, then makes them durable.
pub fn forward(root: &Dir, plan: &Plan, progress: &dyn Progress) -> Result<()> {
    let installed: HashSet<&str> =
        plan.switch.iter().filter(|m| m.why == Why::Install).map(|m| m.to.as_str()).collect();
    let mut renamed = false;
    for m in &plan.switch {
        match (root.has(&m.from)?, root.has(&m.to)?) {
            (true, false) => {
                root.rename_new(&m.from, root, &m.to)?;
                renamed = true;
            }
            (false, true) => {}
            // a parked path is free for the new object: `config.v2.json` is there again once it is installed
            (true, true) if m.why == Why::Park && installed.contains(m.from.as_str()) => {}
            (true, true) => {
                return Err(Error::corrupt(format!("both {} and {} are there", m.from, m.to))
                    .hint("something made a file where the switch wants to put one; move it away and run `unaufs migrate` again"));
            }
            (false, false) => {
                return Err(Error::corrupt(format!("neither {} nor {} is there", m.from, m.to))
                    .hint("`unaufs rollback` puts back what can be put back"));
            }
        }
        progress.step(&m.to);
    }
    // once all renames are done Docker may have run
    if renamed {
        crate::verify::since::mark(root)?;
    }
    root.sync_fs()
}

/// What a rollback met.
#[derive(Debug, Default, serde::Serialize)]
pub struct Undone {
    /// Old things that are back.
    pub restored: Vec<String>,
    /// New things that left their places; without `--drop-new` they are below `.unaufs/undone`.
    pub kept: Vec<String>,
    /// Folders that Docker had removed and that were made again.
    pub remade: Vec<String>,
    /// Layers of the target's own store that Docker has deleted since: no rollback brings them back.
    pub lost: Vec<String>,
}

/// Puts the old store back. Needs no space: renames only, into folders that are there. May be repeated at any point.
pub fn backward(root: &Dir, plan: &Plan, progress: &dyn Progress) -> Result<Undone> {
    let mut out = Undone::default();
    let parked: HashSet<&str> = plan.switch.iter().filter(|m| m.why == Why::Park).map(|m| m.from.as_str()).collect();
    // the metadata are the last to come and the first to go: while they are in force, Docker may have added to the target's own store
    if let (Some(merge), Some(last)) = (&plan.merge, plan.switch.last())
        && installed(root, &parked, last)?
    {
        leave_as_was(root, plan, merge, &mut out)?;
    }
    for m in plan.switch.iter().rev() {
        match m.why {
            Why::Install => take_out(root, &parked, m, &mut out)?,
            Why::Park => put_back(root, plan, m, &mut out)?,
        }
        progress.step(&m.to);
    }
    for t in &plan.touched {
        if root.stat_opt(&t.path)?.is_some_and(|m| m.is_dir()) {
            let (dir, name) = root.parent_of(t.path.as_bytes())?;
            dir.set_times(name, crate::disk::attrs::Times { atime: t.atime, mtime: t.mtime })?;
        }
    }
    root.sync_fs()?;
    Ok(out)
}

/// Does the new object stand in its place?
fn installed(root: &Dir, parked: &HashSet<&str>, m: &Move) -> Result<bool> {
    if parked.contains(m.to.as_str()) && !root.has(format!("{OLD}/{}", m.to))? {
        return Ok(false);
    }
    // still in the stage: the switch never got here, or an earlier rollback did
    Ok(!root.has(&m.from)? && root.has(&m.to)?)
}

/// A new object goes back to the stage, whose folders are still there, unless the old one stands in its place again already.
fn take_out(root: &Dir, parked: &HashSet<&str>, m: &Move, out: &mut Undone) -> Result<()> {
    if !installed(root, parked, m)? {
        return Ok(());
    }
    let (dir, _) = crate::disk::split(m.from.as_bytes());
    root.ensure(dir, 0o700)?;
    root.rename_new(&m.to, root, &m.from)?;
    out.kept.push(m.to.clone());
    Ok(())
}

/// Takes what Docker has added since to the target's own store out of it: the metadata that come back know nothing of it. Ours leave
/// with the plan's renames.
fn leave_as_was(root: &Dir, plan: &Plan, merge: &Merge, out: &mut Undone) -> Result<()> {
    let to = plan.options.to;
    let ours: HashSet<&str> = plan.layers.iter().flat_map(|l| [l.id.as_str(), l.link.as_str()]).collect();
    for (home, known) in [(to.home(), &merge.folders), ("overlay2/l", &merge.links)] {
        if home == "overlay2/l" && to != Target::Overlay2 {
            continue;
        }
        let names = match root.open_opt(home)? {
            Some(dir) => dir.list()?,
            None => Vec::new(),
        };
        let names: BTreeSet<String> =
            names.into_iter().map(|(n, _)| String::from_utf8_lossy(&n).into_owned()).collect();
        let since = |n: &str| !known.contains(n) && !ours.contains(n) && !existing::is_drivers_own(n.as_bytes());
        for name in names.iter().filter(|n| since(n)) {
            set_aside(root, &format!("{home}/{name}"))?;
            out.kept.push(format!("{home}/{name}"));
        }
        out.lost.extend(known.iter().filter(|n| !names.contains(*n)).map(|n| format!("{home}/{n}")));
    }
    Ok(())
}

/// Moves something that stands where an old object belongs to the same path in the stage.
fn set_aside(root: &Dir, path: &str) -> Result<()> {
    let to = format!("{NEW}/{path}");
    let (dir, name) = crate::disk::split(to.as_bytes());
    let dir = root.ensure(dir, 0o700)?;
    root.rename_new(path, &dir, free_name(&dir, name)?)
}

/// `name`, or `name.2`, `name.3` … if that is taken.
fn free_name(dir: &Dir, name: &[u8]) -> Result<Vec<u8>> {
    let mut free = name.to_vec();
    let mut n = 1;
    while dir.has(&free)? {
        n += 1;
        free = [name, format!(".{n}").as_bytes()].concat();
    }
    Ok(free)
}

/// Everything in a new root in another place goes back to the stage: what Docker has made there since, too.
pub fn empty(root: &Dir, out: &mut Undone) -> Result<()> {
    for (name, _) in root.list()? {
        if name != STATE.as_bytes() && name != b"lost+found" {
            let path = String::from_utf8_lossy(&name).into_owned();
            let stage = root.ensure(NEW, 0o700)?;
            root.rename_new(&name, &stage, free_name(&stage, &name)?)?;
            out.kept.push(path);
        }
    }
    root.sync_fs()
}

/// What Docker may have run on is not deleted unasked: the stage, with everything new in it again, becomes `.unaufs/undone`. One rename.
pub fn keep_undone(root: &Dir) -> Result<()> {
    let state = root.open(STATE)?;
    if !state.has("new")? {
        return Ok(());
    }
    state.rename_new("new", &state, free_name(&state, b"undone")?)
}

fn put_back(root: &Dir, plan: &Plan, m: &Move, out: &mut Undone) -> Result<()> {
    if !root.has(&m.to)? {
        return Ok(());
    }
    if root.has(&m.from)? {
        set_aside(root, &m.from)?;
        out.kept.push(m.from.clone());
    }
    let (dir, _) = crate::disk::split(m.from.as_bytes());
    let dir = String::from_utf8_lossy(dir).into_owned();
    if !dir.is_empty() && !root.has(&dir)? {
        let at = root.ensure(&dir, 0o700)?;
        if let Some(t) = plan.touched.iter().find(|t| t.path == dir) {
            at.set_owner(b".", t.owner.0, t.owner.1)?;
            at.set_mode(b".", t.mode)?;
        }
        out.remade.push(dir);
    }
    root.rename_new(&m.to, root, &m.from)?;
    out.restored.push(m.from.clone());
    Ok(())
}
