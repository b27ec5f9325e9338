//! Copies to a new root what it needs besides layers ([`crate::plan::new_root`]): into the stage, like everything.
//!
//! A unit is done when its file system was synced and the journal says so, with the state in which the old one was read and what was made of
//! it. Should the old one have changed when a run continues, it is copied again.

use super::Locked;
use super::stage::{Batch, Sums};
use crate::disk::attrs::XattrScope;
use crate::disk::copy::{Ability, Original, Transfer, copy_object};
use crate::disk::{Dir, split};
use crate::error::Result;
use crate::layer::view::plain;
use crate::plan::new_root::{NewRoot, Unit, count};
use crate::plan::{Mode, Plan};
use crate::progress::Progress;
use crate::target::file::{FileWriter, Tally};
use crate::target::flat;
use std::time::Duration;

/// The journal's kind of these units.
pub const KIND: &str = "carried";

/// Each mark costs a sync of the file system.
const BATCH_TIME: Duration = Duration::from_secs(2);

/// Copies what is not done yet, or has changed since. The metadata are then written again: some lie in directories that are made again.
pub(super) fn bring(
    at: &mut Locked,
    new: &Dir,
    plan: &Plan,
    run: i64,
    progress: &dyn Progress,
) -> Result<Option<Sums>> {
    let Some(e) = &plan.new_root else { return Ok(None) };
    for path in &e.frames {
        new.ensure(path, 0o700)?;
    }
    let todo = not_done(at, e, run)?;
    let names: Vec<String> = todo.iter().map(|c| c.name()).collect();
    if !todo.is_empty() {
        at.journal.reopen(run, names.iter().map(|n| (KIND, n.as_str())).chain([("metadata", "all")]))?;
    }
    for c in &todo {
        make_way(new, &c.path)?;
    }
    progress.phase("other files", todo.len() as u64);
    let order: &[Transfer] =
        if plan.options.mode == Mode::Copy { &[Transfer::Copy] } else { &[Transfer::Clone, Transfer::Copy] };
    let ability = Ability::starting(order.contains(&Transfer::Clone));
    let (mut sums, mut batch) = (Sums::default(), Batch::of(KIND));
    for (c, name) in todo.iter().zip(names) {
        crate::stop::check()?;
        let state = count(&at.old, &c.path, &c.leave)?.state;
        let made = copy(&at.old, new, c, order, &ability).map_err(|e| e.on(name.clone()))?;
        sums.add(made);
        progress.step(&name);
        batch.add(name, format!("{state:016x} {}", serde_json::json!(made)));
        batch.mark_after(BATCH_TIME, &mut at.journal, run, new)?;
    }
    batch.mark(&mut at.journal, run, new)?;
    Ok(Some(sums))
}

/// The names of what has changed in the old root since it was copied.
pub(super) fn stale(at: &Locked, plan: &Plan, run: i64) -> Result<Vec<String>> {
    match &plan.new_root {
        Some(e) => Ok(not_done(at, e, run)?.into_iter().map(Unit::name).collect()),
        None => Ok(Vec::new()),
    }
}

fn not_done<'a>(at: &Locked, e: &'a NewRoot, run: i64) -> Result<Vec<&'a Unit>> {
    let done = at.journal.tallies(run, KIND)?;
    let mut out = Vec::new();
    for c in &e.units {
        let same = match done.get(&c.name()) {
            Some(tally) => {
                tally.split(' ').next() == Some(&format!("{:016x}", count(&at.old, &c.path, &c.leave)?.state))
            }
            None => false,
        };
        if !same {
            out.push(c);
        }
    }
    Ok(out)
}

/// Takes out of the stage what a fresh plan does not bring along any more.
pub(super) fn discard_gone(new: &Dir, was: &Plan, fresh: &Plan) -> Result<()> {
    let stays = |c: &Unit| fresh.new_root.iter().flat_map(|e| &e.units).any(|f| f.path == c.path);
    for c in was.new_root.iter().flat_map(|e| &e.units).filter(|c| !stays(c)) {
        make_way(new, &c.path)?;
    }
    Ok(())
}

fn copy(old: &Dir, new: &Dir, c: &Unit, order: &[Transfer], ability: &Ability) -> Result<Sums> {
    let ((from, name), (to, _)) = (old.parent_of(&c.path)?, new.parent_of(&c.path)?);
    let m = from.stat(name)?;
    if let Some(own) = c.links.iter().find(|l| l.path.is_empty()) {
        to.symlink(&own.to, name)?;
        to.set_owner(name, m.uid, m.gid)?;
        to.set_times(name, &m)?;
        return Ok(Sums::default());
    }
    if !m.is_dir() {
        let tally = Tally::default();
        let original = Original { dir: &from, name, meta: &m, ability, moved: None };
        tally.copied(copy_object(&original, &to, name, XattrScope::Plain)?, &m);
        return Ok(Sums::of(&tally));
    }
    to.mkdir(name, 0o700)?;
    if c.mount {
        to.set_owner(name, m.uid, m.gid)?;
        to.set_mode(name, m.mode)?;
        return Ok(Sums::default());
    }
    let files = FileWriter::new(to.open(name)?, order, XattrScope::Plain, false);
    flat::write(&plain(None, from.open(name)?), &files, &c.leave.iter().cloned().collect())?;
    for link in &c.links {
        let (source, dir) = (from.open(name)?, to.open(name)?);
        let was = source.stat(&link.path)?;
        dir.symlink(&link.to, &link.path)?;
        dir.set_owner(&link.path, was.uid, was.gid)?;
        dir.set_times(&link.path, &was)?;
        to.set_times(name, &m)?;
    }
    Ok(Sums::of(&files.tally))
}

/// Gives the directories that were filled from several sides what the old ones have, times last.
pub(super) fn finish(old: &Dir, new: &Dir, plan: &Plan) -> Result<()> {
    let Some(e) = &plan.new_root else { return Ok(()) };
    let containers = e.units.iter().map(|c| &c.path).filter(|p| p.starts_with(b"containers/"));
    for path in containers.chain(e.frames.iter().rev()) {
        let (from, (to, name)) = (old.open(path)?, new.parent_of(path)?);
        let m = from.meta()?;
        to.set_owner_mode_xattrs(name, &m, &from.xattrs(b".")?, XattrScope::Plain)?;
        to.set_times(name, &m)?;
    }
    Ok(())
}

/// Files of the stage that are about to be written, where an earlier attempt has left some.
pub(super) fn make_way(new: &Dir, path: impl AsRef<[u8]>) -> Result<()> {
    let (dir, name) = split(path.as_ref());
    match new.open_opt(dir)? {
        Some(dir) => dir.remove_tree(name),
        None => Ok(()),
    }
}
