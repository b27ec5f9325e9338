//! The switch backwards. Docker may have run on the new store: it may have removed a container's directory, or made a new `buildkit/`. What is
//! in the way goes to the stage, never away, and the stage becomes `.unaufs/undone`.

use super::guard::{self, Guard, free_name};
use super::identity::{Course, Place};
use super::journal::State;
use super::{Locked, reserve, stage};
use crate::disk::{Dir, FileType};
use crate::docker::driver::Target;
use crate::error::{Error, Kind, Result};
use crate::plan::existing;
use crate::plan::merge::Merge;
use crate::plan::switch::{NEW, OLD, STATE, old_parts};
use crate::plan::{Move, Why};
use crate::progress::Progress;
use crate::store::Generation;
use crate::text::now;
use std::collections::{BTreeSet, HashSet};

/// What a rollback met.
#[derive(Debug, Default, serde::Serialize)]
pub struct Undone {
    /// Old things that are back.
    pub restored: Vec<String>,
    /// New things that left their places; without `--drop-new` they are below `.unaufs/undone`.
    pub kept: Vec<String>,
    /// Directories that Docker had removed and that were made again.
    pub remade: Vec<String>,
    /// Layers of the target's own store that Docker has deleted since: no rollback brings them back.
    pub lost: Vec<String>,
    /// What a Docker had made while the renames were under way, and where it is now.
    pub aside: Vec<String>,
    /// Names in the new root that neither unaufs nor Docker made: they stay there.
    pub left: Vec<String>,
}

/// Puts the old store back, from every state. Needs no free space. `run` is the number of the run in the journal, if that has it.
pub fn rollback(
    at: &mut Locked,
    course: &Course,
    run: Option<(i64, State)>,
    drop_new: bool,
    progress: &dyn Progress,
) -> Result<Undone> {
    let mut switched = course.place(&at.root)? != Place::Before;
    if let Some((run, State::Switched | State::Undoing)) = run {
        // an earlier rollback may have come to the end of its renames
        switched |= at.journal.has_switched(run)?;
    }
    // after the last rename of an earlier rollback nothing is parked
    if course.place(&at.root)? != Place::Before || matches!(run, Some((_, State::Switched))) {
        whole(&at.root, course)?;
    }
    let run = run.map(|(run, _)| run);
    reserve::release(&at.state)?;
    if let Some(run) = run {
        at.journal.set_state(run, State::Undoing, &now())?;
    }
    // before its renames a run has nothing outside the state directory: an overlay2/ in ROOT is somebody else's
    let mut undone = match switched {
        true => backward(&at.root, course, progress)?,
        false => Undone::default(),
    };
    if switched && course.target.is_some() {
        empty(&at.root, course, &mut undone)?;
    }
    if switched && !drop_new {
        keep_undone(&at.root)?;
    } else {
        stage::clear(&at.root)?;
    }
    // directories only: had something not gone back, it would stay here
    at.state.remove_empty(b"old")?;
    // what somebody else put there
    if at.state.has("old")? && !parked(&at.state)? {
        undone.aside.push(guard::set_aside(&at.root, OLD, "old")?);
    }
    guard::clear(&at.state)?;
    // a new migration clears the stage: `undone` must be durable before
    at.root.sync_fs()?;
    if let Some(run) = run {
        at.journal.set_state(run, State::Undone, &now())?;
    }
    if Course::read(&at.state)?.is_some() {
        course.clone().ended(State::Undone).write(&at.state)?;
    }
    Ok(undone)
}

/// Is a part of an old store in `.unaufs/old`?
pub fn parked(state: &Dir) -> Result<bool> {
    for part in old_parts(Generation::Graph) {
        if state.has(format!("old/{part}"))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Names what is in `.unaufs/old` although no switch has put it there.
pub(super) fn foreign(state: &Dir) -> Result<Error> {
    let names = state.open("old")?.list()?;
    let first = names.iter().take(3).map(|(name, _)| crate::text::bytes(name));
    let what =
        format!("files are in .unaufs/old that no migration has put there: {}", crate::text::few(first, names.len()));
    Ok(Error::new(Kind::Blocked, what).hint("Move them to another place, then run the same command again."))
}

/// An error, before anything is renamed, if the old store is not there in full.
pub fn whole(root: &Dir, course: &Course) -> Result<()> {
    let missing = course.missing(root)?;
    let Some(first) = missing.first() else { return Ok(()) };
    let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
    Err(Error::corrupt(format!("the old store is not there in full: {first}{more} is missing in {STATE}/old"))
        .hint(format!("Put it back from a backup, or keep the {} store.", course.driver))
        .loss("Nothing was changed. A rollback would leave you with neither store."))
}

/// Renames only, into directories that are there. May be repeated at any point.
fn backward(root: &Dir, course: &Course, progress: &dyn Progress) -> Result<Undone> {
    let mut out = Undone::default();
    if course.place(root)? == Place::Before {
        // an earlier rollback may have been interrupted after its last rename
        restore_times(root, course, str::to_owned)?;
        return Ok(out);
    }
    let guard = Guard::of(root, &course.id);
    guard.shut(&mut out.aside)?;
    let parked: HashSet<&str> = course.switch.iter().filter(|m| m.why == Why::Park).map(|m| m.from.as_str()).collect();
    // the metadata are the last to come and the first to go: while they are active, Docker may have added to the target's own store
    if let (Some(merge), Some(last)) = (&course.merge, course.switch.last())
        && installed(root, &parked, last)?
    {
        leave_as_was(root, course, merge, &mut out)?;
    }
    for m in course.switch.iter().rev() {
        match m.why {
            Why::Install => take_out(root, &parked, m, &mut out)?,
            Why::Park => put_back(root, course, m, &mut out)?,
        }
        progress.step(&m.to);
    }
    // somebody else may be at work in ROOT: what was not to be seen a moment ago must not stay here after a rollback that says it is done
    for m in course.switch.iter().filter(|m| m.why == Why::Park) {
        if root.has(&m.to)? {
            return Err(Error::new(Kind::Blocked, format!("{} appeared again while the old store went back", m.to))
                .hint("Stop the other program that works in this directory, then run `unaufs rollback` again."));
        }
    }
    restore_times(root, course, guard::behind)?;
    root.sync_fs()?;
    guard.open(&mut out.aside)?;
    // the last renames were those of the guard
    restore_times(root, course, str::to_owned)?;
    root.sync_fs()?;
    Ok(out)
}

/// Gives the directories that the renames touched the times that they had; `at` says where each is now.
fn restore_times(root: &Dir, course: &Course, at: impl Fn(&str) -> String) -> Result<()> {
    for t in &course.touched {
        let path = at(&t.path);
        if root.stat_opt(&path)?.is_some_and(|m| m.is_dir()) {
            let (dir, name) = root.parent_of(path.as_bytes())?;
            dir.set_times(name, t.times())?;
        }
    }
    Ok(())
}

/// Is the new object in its place?
fn installed(root: &Dir, parked: &HashSet<&str>, m: &Move) -> Result<bool> {
    if parked.contains(m.to.as_str()) && !root.has(format!("{OLD}/{}", m.to))? {
        return Ok(false);
    }
    // still in the stage: the switch never got here, or an earlier rollback did
    Ok(!root.has(&m.from)? && root.has(guard::behind(&m.to))?)
}

/// A new object goes back to the stage, whose directories are still there, unless the old one is in its place again already.
fn take_out(root: &Dir, parked: &HashSet<&str>, m: &Move, out: &mut Undone) -> Result<()> {
    if !installed(root, parked, m)? {
        return Ok(());
    }
    let (dir, _) = crate::disk::split(m.from.as_bytes());
    root.ensure(dir, 0o700)?;
    root.rename_new(guard::behind(&m.to), root, &m.from)?;
    out.kept.push(m.to.clone());
    Ok(())
}

/// Takes what Docker has added since to the target's own store out of it: the metadata that come back do not name that. Ours leave
/// with the plan's renames.
fn leave_as_was(root: &Dir, course: &Course, merge: &Merge, out: &mut Undone) -> Result<()> {
    let to = course.driver;
    for (home, known) in [(to.home(), &merge.directories), ("overlay2/l", &merge.links)] {
        if home == "overlay2/l" && to != Target::Overlay2 {
            continue;
        }
        let names = match root.open_opt(home)? {
            Some(dir) => dir.list()?,
            None => Vec::new(),
        };
        let names: BTreeSet<String> =
            names.into_iter().map(|(n, _)| String::from_utf8_lossy(&n).into_owned()).collect();
        let since = |n: &str| !known.contains(n) && !course.ours.contains(n) && !existing::is_drivers_own(n.as_bytes());
        for name in names.iter().filter(|n| since(n)) {
            set_aside(root, &format!("{home}/{name}"))?;
            out.kept.push(format!("{home}/{name}"));
        }
        out.lost.extend(known.iter().filter(|n| !names.contains(*n)).map(|n| format!("{home}/{n}")));
    }
    Ok(())
}

/// Moves something that is where an old object belongs to the same path in the stage.
fn set_aside(root: &Dir, path: &str) -> Result<()> {
    let to = format!("{NEW}/{path}");
    let (dir, name) = crate::disk::split(to.as_bytes());
    let dir = root.ensure(dir, 0o700)?;
    root.rename_new(guard::behind(path), &dir, free_name(&dir, name)?)
}

/// What dockerd makes at the top of a data root, besides the directories of the plan.
const DOCKERS: [&str; 15] = [
    "builder",
    "buildkit",
    "containerd",
    "containers",
    "engine-id",
    "image",
    "network",
    "nuke-graph-directory.sh",
    "plugins",
    "runtimes",
    "swarm",
    "tmp",
    "tmp-old",
    "trust",
    "volumes",
];

/// What unaufs and Docker made in a new root in another place goes back to the stage. Whatever else somebody put there stays.
fn empty(root: &Dir, course: &Course, out: &mut Undone) -> Result<()> {
    let ours = |name: &str| {
        DOCKERS.contains(&name) || name == course.driver.name() || course.switch.iter().any(|m| m.to == name)
    };
    for (name, _) in root.list()? {
        let text = String::from_utf8_lossy(&name).into_owned();
        if text == STATE || text == "lost+found" {
            continue;
        }
        if !ours(&text) {
            out.left.push(text);
            continue;
        }
        let stage = root.ensure(NEW, 0o700)?;
        root.rename_new(&name, &stage, free_name(&stage, &name)?)?;
        out.kept.push(text);
    }
    root.sync_fs()
}

/// What Docker may have run on is not deleted unasked: the stage, with everything new in it again, becomes `.unaufs/undone`. One rename.
fn keep_undone(root: &Dir) -> Result<()> {
    let state = root.open(STATE)?;
    if !state.has("new")? {
        return Ok(());
    }
    state.rename_new("new", &state, free_name(&state, b"undone")?)
}

fn put_back(root: &Dir, course: &Course, m: &Move, out: &mut Undone) -> Result<()> {
    if !root.has(&m.to)? {
        return Ok(());
    }
    let from = guard::behind(&m.from);
    if root.has(&from)? {
        if old_parts(Generation::Graph).contains(&m.from.as_str()) {
            // another aufs store, of a backup or of an old Docker: it isn't this run's to delete
            out.aside.push(guard::set_aside(root, &from, &m.from)?);
        } else {
            set_aside(root, &m.from)?;
            out.kept.push(m.from.clone());
        }
    }
    let above = m.from.rsplit_once('/').map_or("", |(above, _)| above);
    if !above.is_empty() && !root.has(guard::behind(above))? {
        let at = root.ensure(guard::behind(above), 0o700)?;
        if let Some(t) = course.touched.iter().find(|t| t.path == above) {
            at.set_owner(b".", t.owner.0, t.owner.1)?;
            at.set_mode(b".", t.mode)?;
        }
        out.remade.push(above.to_owned());
    }
    root.rename_new(&m.to, root, &from)?;
    out.restored.push(m.from.clone());
    Ok(())
}

/// Directories in the state directory that hold what a rollback, or a switch that met a Docker, took out of use.
pub fn undone(state: &Dir) -> Result<Vec<String>> {
    let names = state.list()?.into_iter().filter(|(n, k)| n.starts_with(b"undone") && *k == FileType::Directory);
    Ok(names.map(|(n, _)| String::from_utf8_lossy(&n).into_owned()).collect())
}

/// Removes everything that unaufs made in the root, the journal and the run's file last; a new root in another place too, if it was `made`
/// and nothing else is in it. What `keep` names stays. Only after the old store is back.
pub fn drop_state(at: Locked, made: bool, keep: &[String]) -> Result<()> {
    let Locked { root, state, journal, _lock, .. } = at;
    drop(journal);
    guard::clear(&state)?;
    state.remove_empty(b"old")?;
    if state.has("old")? {
        return Err(foreign(&state)?);
    }
    let last =
        |name: &[u8]| name.starts_with(super::journal::FILE.as_bytes()) || name == super::identity::FILE.as_bytes();
    let keep: Vec<String> = undone(&state)?.into_iter().filter(|n| keep.contains(n)).collect();
    let names: Vec<Vec<u8>> = state.list()?.into_iter().map(|(n, _)| n).collect();
    for name in names.iter().filter(|n| !last(n) && !keep.iter().any(|k| k.as_bytes() == *n)) {
        state.remove_tree(name)?;
    }
    state.sync_fs()?;
    for name in names.iter().filter(|n| last(n)) {
        state.remove_tree(name)?;
    }
    if keep.is_empty() {
        root.remove_tree(STATE.as_bytes())?;
    }
    root.sync_fs()?;
    if made && let (Some(above), Some(name)) = (root.label().parent(), root.label().file_name()) {
        let above = Dir::open_named(above)?;
        // the very directory that is open, and only if nothing is in it
        let same = above.stat(name.as_encoded_bytes())?.ino == root.meta()?.ino;
        if same && root.list()?.is_empty() {
            above.rmdir(name.as_encoded_bytes())?;
            above.sync()?;
        }
    }
    Ok(())
}
