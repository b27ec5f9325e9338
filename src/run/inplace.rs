//! Mode `move`: the layers of the old store become those of the new one, rewritten in place. No space, and nothing is copied.
//!
//! ```text
//! ROOT/.unaufs/moved/
//!   records/<id>      what is done to the layer, and what it was: durable before the first effect on any layer   record.rs
//!   back/<id>         the way back of a layer that Docker may have written into, durable before its first effect
//!   names/<id>/…      what was taken out of the layer, at the same paths, each the inode that it was
//!   whiteouts/<id>    the device of which the layer's whiteouts are further names
//!
//! there   decide (forward.rs) ─▶ journal "moving" ─▶ carry out, layer by layer (carry.rs) ─▶ the switch renames
//!         aufs/diff/<id> to overlay2/<id>/diff
//! back    the switch backwards ─▶ the inverse of the record, or for layers of containers what back.rs decides ─▶ journal "moved back"
//! ```
//!
//! Whether a whiteout hides something depends on the layers below, which are rewritten too: so all layers are decided before any is
//! changed. What aufs showed can be read at any time as two branches for each layer, its tree and what was taken out of it
//! ([`old_view`]): that is what [`crate::verify::moved`] compares the new store with.

mod back;
mod carry;
mod forward;
pub mod record;

use super::Locked;
use super::stage::{self, Sums};
use super::switch::Undone;
use crate::disk::Dir;
use crate::error::{Error, Result};
use crate::ids::LayerId;
use crate::layer::branch::{Branch, Format};
use crate::layer::view::Chain;
use crate::plan::merge::Kept;
use crate::plan::switch::{NEW, OLD, STATE};
use crate::plan::{Mode, Plan, PlanLayer};
use crate::progress::Progress;
use crate::target::Target;
use carry::Carrier;
use rayon::prelude::*;
use record::{Change, Step};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Everything that the way back needs.
pub const MOVED: &str = ".unaufs/moved";
/// In the journal: all records are durable, and layers may have been changed.
pub const MOVING: &str = "moving";
/// In the journal: all layers are what they were.
const MOVED_BACK: &str = "moved back";

/// Decides for every layer, once; from then on the old store is not what it was.
pub fn begin(at: &mut Locked, plan: &Plan, run: i64, progress: &dyn Progress) -> Result<()> {
    if at.journal.noted(run, MOVING)? {
        return Ok(());
    }
    let moved = forget(&at.root)?.ensure("moved", 0o700)?;
    for folder in ["records", "back", "names", "whiteouts"] {
        moved.mkdir(folder, 0o700)?;
    }
    let (records, back, names) = (moved.open("records")?, moved.open("back")?, moved.open("names")?);
    let sources = stage::sources(plan);
    progress.phase("decide", plan.layers.len() as u64);
    plan.layers.par_iter().try_for_each(|layer| -> Result<()> {
        crate::stop::check()?;
        let chain = stage::old_chain(&at.root, layer, &sources)?;
        let writer = record::Writer::new(&records, layer.id.as_str())?;
        forward::decide(&chain, layer.facts.overlay_xattrs.count > 0, &writer)
            .map_err(|e| e.on(format!("layer {}", layer.id.short())))?;
        writer.finish()?;
        if chain.branch(0)?.dir.is_immutable()? {
            return Err(forward::immutable(&chain.branch(0)?.dir));
        }
        // on a disk that is full by then, the way back could not make them
        names.mkdir(layer.id.as_str(), 0o700)?;
        if layer.role.writable() {
            back.create(layer.id.as_str())?;
        }
        progress.step(&layer.id.short());
        Ok(())
    })?;
    at.root.sync_fs()?;
    at.journal.note(run, MOVING, &super::now())
}

/// Removes what is left of records that nothing needs; gives the state folder in ROOT.
fn forget(root: &Dir) -> Result<Dir> {
    let state = root.ensure(STATE, 0o700)?;
    state.remove_tree(b"moved")?;
    Ok(state)
}

/// Rewrites one layer. May be repeated.
pub fn apply(root: &Dir, layer: &PlanLayer) -> Result<Sums> {
    let (moved, id) = (root.open(MOVED)?, layer.id.as_str());
    let names = moved.open(format!("names/{id}"))?;
    let carrier = carrier(root, &moved, layer, root.open(&layer.source)?, names)?;
    let mut sums = Sums::default();
    let whole = record::read(&moved.open("records")?, id, |change| {
        sums.folders += 1;
        for step in &change.steps {
            match step {
                Step::Device { .. } => sums.whiteouts += 1,
                Step::Set { .. } => sums.opaque += 1,
                _ => {}
            }
        }
        carrier.change(&change)
    })?;
    if !whole {
        return Err(Error::corrupt(format!("the record {MOVED}/records/{id} is not whole")));
    }
    Ok(sums)
}

fn carrier(root: &Dir, moved: &Dir, layer: &PlanLayer, tree: Dir, names: Dir) -> Result<Carrier> {
    let id = layer.id.as_str();
    let aside = (root.again()?, format!("{NEW}/overlay2/{id}/diff"));
    Ok(Carrier::new(tree, names, (moved.open("whiteouts")?, id.to_owned()), aside))
}

/// Makes all layers what they were, after the switch was undone. May be repeated; needs next to no room.
pub fn undo(at: &mut Locked, plan: &Plan, run: i64, progress: &dyn Progress, out: &mut Undone) -> Result<()> {
    if plan.options.mode != Mode::Move {
        return Ok(());
    }
    if at.journal.noted(run, MOVING)? && !at.journal.noted(run, MOVED_BACK)? {
        let since = at.journal.has_switched(run)?;
        let moved = at.root.open(MOVED)?;
        let found = Mutex::new(BTreeMap::new());
        progress.phase("move back", plan.layers.len() as u64);
        plan.layers.par_iter().try_for_each(|layer| -> Result<()> {
            let met = undo_layer(&at.root, &moved, layer, since && layer.role.writable())
                .map_err(|e| e.on(format!("layer {}", layer.id.short())))?;
            found.lock().unwrap_or_else(|e| e.into_inner()).insert(layer.id.clone(), met);
            progress.step(&layer.id.short());
            Ok(())
        })?;
        for (id, met) in found.into_inner().unwrap_or_else(|e| e.into_inner()) {
            out.marked += met.marked;
            out.odd.extend(met.odd.into_iter().map(|o| format!("layer {} {o}", id.short())));
        }
        at.root.sync_fs()?;
        at.journal.note(run, MOVED_BACK, &super::now())?;
    }
    forget(&at.root).map(drop)
}

fn undo_layer(root: &Dir, moved: &Dir, layer: &PlanLayer, written: bool) -> Result<back::Met> {
    let id = layer.id.as_str();
    // what Docker has deleted is told by the switch
    let Some(tree) = root.open_opt(&layer.source)? else { return Ok(back::Met::default()) };
    let (records, all_names) = (moved.open("records")?, moved.open("names")?);
    // done before a crash
    let Some(names) = all_names.open_opt(id)? else { return Ok(back::Met::default()) };
    let mut met = back::Met::default();
    let carrier = carrier(root, moved, layer, tree, names)?;
    if !written {
        record::read(&records, id, |c| carrier.change(&c.inverse()))?;
        return Ok(met);
    }
    let back = moved.open("back")?;
    if !record::read(&back, id, |_| Ok(()))? {
        let mut before = back::Before::new();
        record::read(&records, id, |c| {
            before.insert(c.path.clone(), c);
            Ok(())
        })?;
        back.remove_tree(id.as_bytes())?;
        let writer = record::Writer::new(&back, id)?;
        met = back::decide(&carrier.tree, &before, &writer)?;
        writer.finish()?;
        back.sync_fs()?;
    }
    record::read(&back, id, |c| carrier.change(&c))?;
    // markers of folders and names that containers have replaced since
    all_names.remove_empty(id.as_bytes())?;
    if all_names.has(id)? {
        let to = root.ensure(format!("{NEW}/overlay2/{id}"), 0o700)?;
        all_names.rename_new(id, &to, "markers")?;
        met.odd.push(format!("/: markers of what was replaced since are in .unaufs/undone/overlay2/{id}/markers"));
    }
    Ok(met)
}

/// Which of the two stands for ROOT: before the switch that is `old`, afterwards `new`.
pub fn root<'a>(old: &'a Dir, new: &'a Dir) -> Result<&'a Dir> {
    Ok(if new.has(MOVED)? { new } else { old })
}

/// The layer's folder, wherever the switch has it.
pub fn tree(root: &Dir, layer: &PlanLayer) -> Result<Dir> {
    let id = &layer.id;
    let places = [layer.source.clone(), format!("{NEW}/overlay2/{id}/diff"), format!("overlay2/{id}/diff")];
    for place in &places {
        if let Some(dir) = root.open_opt(place)? {
            return Ok(dir);
        }
    }
    Err(Error::corrupt(format!("the folder of layer {} is gone", id.short())))
}

/// The stack of a layer in a moved store; each branch from what `moved` or `kept` makes of a layer.
fn stack(
    plan: &Plan,
    layer: &PlanLayer,
    mut moved: impl FnMut(&PlanLayer, &mut Vec<Branch>) -> Result<()>,
    mut kept: impl FnMut(&Kept, &mut Vec<Branch>) -> Result<()>,
) -> Result<Chain> {
    let mut out = Vec::new();
    for id in std::iter::once(&layer.id).chain(&layer.lowers) {
        match (plan.layer(id), plan.kept().iter().find(|k| k.id == *id)) {
            (Some(l), _) => moved(l, &mut out)?,
            (None, Some(k)) => kept(k, &mut out)?,
            (None, None) => return Err(Error::corrupt(format!("layer {} is not in the plan", id.short()))),
        }
    }
    Ok(Chain { branches: out })
}

fn branch(id: &LayerId, dir: Dir, format: Format) -> Branch {
    Branch { id: Some(id.clone()), dir, format }
}

/// What aufs showed: for each layer its tree without the devices that were made, and above all that lies below it what was taken out. A
/// layer that the target's own store keeps was not rewritten; it is taken twice, which shows the same, so that each layer has two branches.
pub fn old_view(root: &Dir, plan: &Plan, layer: &PlanLayer) -> Result<Chain> {
    let moved = |l: &PlanLayer, out: &mut Vec<Branch>| {
        out.push(branch(&l.id, tree(root, l)?, Format::Unmarked));
        out.push(branch(&l.id, taken_out(root, l)?, Format::Aufs));
        Ok(())
    };
    let kept = |k: &Kept, out: &mut Vec<Branch>| {
        let parked = root.open_opt(format!("{OLD}/{}", k.source))?;
        let dir = parked.map_or_else(|| root.open(&k.source), Ok)?;
        out.push(branch(&k.id, dir.again()?, Format::Aufs));
        out.push(branch(&k.id, dir, Format::Aufs));
        Ok(())
    };
    stack(plan, layer, moved, kept)
}

/// What overlayfs will show.
pub fn new_view(root: &Dir, plan: &Plan, layer: &PlanLayer) -> Result<Chain> {
    let moved = |l: &PlanLayer, out: &mut Vec<Branch>| {
        out.push(branch(&l.id, tree(root, l)?, Format::Overlay));
        Ok(())
    };
    let kept = |k: &Kept, out: &mut Vec<Branch>| {
        out.push(branch(&k.id, root.open(Target::Overlay2.tree(&k.theirs))?, Format::Overlay));
        Ok(())
    };
    stack(plan, layer, moved, kept)
}

/// A layer's record: [`crate::verify::moved`] compares it with what is there. False if it is missing or not whole.
pub fn read_record(root: &Dir, layer: &PlanLayer, f: impl FnMut(Change) -> Result<()>) -> Result<bool> {
    record::read(&root.open(format!("{MOVED}/records"))?, layer.id.as_str(), f)
}

/// What was taken out of a layer.
pub fn taken_out(root: &Dir, layer: &PlanLayer) -> Result<Dir> {
    root.open(format!("{MOVED}/names/{}", layer.id))
}
