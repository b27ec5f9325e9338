//! `unaufs rollback` and `unaufs cleanup`: the two ways to end a migration.

use super::{Roots, last_run, needed, say, say_json};
use crate::cli::args::{CleanupArgs, Global, RollbackArgs};
use crate::cli::prompt::confirm;
use crate::cli::{Done, Ending, screen};
use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use crate::plan::switch::{OLD, STATE, old_parts};
use crate::report;
use crate::run::journal::{Run, State};
use crate::run::{self, Lock, Locked};
use crate::store::aufs;

/// `unaufs rollback`.
pub fn rollback(g: &Global, a: &RollbackArgs) -> Done {
    let roots = Roots::of(g)?;
    let nothing = || nothing_to_do(g, "unaufs.rollback/1", "no migration is under way or in force");
    let (old, Some(root)) = (roots.old, roots.new) else {
        return nothing();
    };
    let lock = Roots::lock(old.as_ref(), &root)?;
    // a rollback of what lies in another place needs nothing of the old root
    let old = old.map_or_else(|| root.again(), Ok)?;
    let last = last_run(&root)?;
    let made = last.as_ref().and_then(|r| r.plan.elsewhere.as_ref()).is_some_and(|e| e.made);
    if let Some(run) = last.as_ref().filter(|r| r.state == State::Cleaned) {
        return Err(no_way_back(run));
    }
    let Some(run) = last.filter(|r| !r.state.over()) else {
        if a.drop_new && root.has(STATE)? {
            run::drop_state(Locked::open(old, root, lock)?, made)?;
        }
        return nothing();
    };
    run.supported()?;
    let question = match &run.plan.elsewhere {
        Some(e) if a.drop_new => format!("Delete everything in {}?", crate::text::text(&e.path)),
        Some(e) => format!("Take the new root in {} out of use?", crate::text::text(&e.path)),
        None => "Put the old store back?".to_owned(),
    };
    confirm(a.yes, &question)?;
    let mut locked = Locked::open(old, root, lock)?;
    if let Some(m) = crate::disk::mounts::below(locked.root.label())?.first() {
        return Err(Error::new(Kind::Busy, format!("{} is mounted", crate::text::path(&m.point)))
            .hint(format!("umount {}", crate::text::path(&m.point)))
            .loss("nothing; nothing was changed"));
    }
    let progress = screen::progress(g);
    progress.phase("rollback", run.plan.switch.len() as u64);
    // a root in another place goes as a whole: what was written in it is listed before
    let elsewhere = run.plan.elsewhere.is_some();
    let before = if elsewhere { report::rollback::added_meanwhile(&locked.root, &run.plan)? } else { Vec::new() };
    let undone = run::rollback(&mut locked, &run, a.drop_new, &*progress)?;
    drop(progress);
    let added = if elsewhere { before } else { report::rollback::added_meanwhile(&locked.root, &run.plan)? };
    let doc = report::rollback::Document {
        schema: "unaufs.rollback/1",
        dropped: a.drop_new,
        undone: &undone,
        added: &added,
        elsewhere: run.plan.elsewhere.as_ref().map(|e| e.path.as_str()),
        root: &run.plan.root.path,
    };
    if a.drop_new {
        run::drop_state(locked, made)?;
    }
    if g.json || g.jsonl {
        say_json(&doc)?
    } else {
        say(&doc.text())?
    }
    Ok(Ending::Fine)
}

/// The old store is deleted, wholly or, where that was interrupted, in part.
fn no_way_back(run: &Run) -> Error {
    let to = run.plan.options.to.name();
    Error::new(Kind::Failed, "there is no way back: the old store was deleted by `unaufs cleanup`")
        .hint(format!("keep the {to} store: Docker runs on it, and `unaufs verify` checks it by itself"))
        .loss("nothing; nothing was changed")
}

fn nothing_to_do(g: &Global, schema: &str, why: &str) -> Done {
    let text = format!("nothing to do: {why}");
    if g.json || g.jsonl {
        say_json(&serde_json::json!({"schema": schema, "text": text}))?;
    } else {
        say(&text)?;
    }
    Ok(Ending::Fine)
}

/// `unaufs cleanup`. Docker may run: nothing of the old store is in its use.
pub fn cleanup(g: &Global, a: &CleanupArgs) -> Done {
    let (old, root) = Roots::of(g)?.made()?;
    let old = needed(old)?;
    // on another disk an old Docker may still run on the old root itself
    let lock = match old.label() == root.label() {
        true => Lock::take(&root, true)?,
        false => Lock::take(&root, true)?.and(&old)?,
    };
    let Some(run) = last_run(&root)? else {
        return Err(Error::new(Kind::NoStore, "no migration has been made here"));
    };
    run.supported()?;
    match run.state {
        State::Cleaned if !left(&old, &root, &run)? => {
            return nothing_to_do(g, "unaufs.cleanup/1", "the old store was deleted before");
        }
        State::Switched if run.verified.is_none() => {
            return Err(Error::new(Kind::Blocked, "the new store was never verified")
                .hint("run `unaufs verify` first")
                .loss("nothing; nothing was deleted"));
        }
        State::Switched | State::Cleaned => {}
        other => {
            return Err(Error::new(
                Kind::Blocked,
                format!("the migration stands at '{}': the old store is still needed", other.name()),
            )
            .hint("`unaufs status` tells what to do")
            .loss("nothing; nothing was deleted"));
        }
    }
    if !(g.json || g.jsonl) {
        say(&report::cleanup_warning(&run.plan, &strays(&old, &root, &run)?))?;
    }
    confirm(a.yes, "Delete the old store for good?")?;
    let mut locked = Locked::open(old, root, lock)?;
    run::cleanup(&mut locked, &run)?;
    if g.json || g.jsonl {
        say_json(&serde_json::json!({"schema": "unaufs.cleanup/1", "state": "cleaned"}))?;
    } else {
        say("the old store is deleted")?;
    }
    Ok(Ending::Fine)
}

/// What was written below mount points of the old store.
fn strays(old: &Dir, root: &Dir, run: &Run) -> Result<Vec<aufs::Stray>> {
    let mnt = match run.plan.elsewhere.is_none() {
        true => root.open_opt(format!("{OLD}/aufs/mnt"))?,
        false => old.open_opt("aufs/mnt")?,
    };
    mnt.map_or(Ok(Vec::new()), |mnt| aufs::strays(&mnt))
}

/// Is there something of the old store?
fn left(old: &Dir, root: &Dir, run: &Run) -> Result<bool> {
    if run.plan.elsewhere.is_none() {
        return root.has(OLD);
    }
    for path in old_parts(run.plan.generation) {
        if old.has(path)? {
            return Ok(true);
        }
    }
    Ok(false)
}
