//! `unaufs rollback` and `unaufs cleanup`: the two ways to end a migration.

use super::{confirm, last_run, root, say, say_json};
use crate::cli::args::{CleanupArgs, Global, RollbackArgs};
use crate::cli::{Done, Ending, screen};
use crate::engine::{self, Lock, Locked};
use crate::error::{Error, Kind};
use crate::journal::State;
use crate::plan::switch::{OLD, STATE};
use crate::report;

/// `unaufs rollback`.
pub fn rollback(g: &Global, a: &RollbackArgs) -> Done {
    let root = root(g)?;
    let lock = Lock::take(&root, false)?;
    let run = last_run(g, &root)?.filter(|r| !r.state.over());
    let Some(run) = run else {
        if a.drop_new && root.has(STATE)? {
            engine::drop_state(Locked::open(root, lock, g.state.as_deref())?, g.state.is_some())?;
        }
        return nothing_to_do(g, "unaufs.rollback/1", "no migration is under way or in force");
    };
    confirm(a.yes, "Put the old store back?")?;
    let mut locked = Locked::open(root, lock, g.state.as_deref())?;
    if let Some(m) = crate::disk::mounts::below(locked.root.label())?.first() {
        return Err(Error::new(Kind::Busy, format!("{} is mounted", crate::show::path(&m.point)))
            .hint(format!("umount {}", crate::show::path(&m.point)))
            .loss("nothing; nothing was changed"));
    }
    let progress = screen::progress(g);
    progress.phase("rollback", run.plan.switch.len() as u64);
    let undone = engine::rollback(&mut locked, &run, a.drop_new, &*progress)?;
    drop(progress);
    let added = report::rollback::added_meanwhile(&locked.root, &run.plan)?;
    let doc =
        report::rollback::Document { schema: "unaufs.rollback/1", dropped: a.drop_new, undone: &undone, added: &added };
    if a.drop_new {
        engine::drop_state(locked, g.state.is_some())?;
    }
    if g.json || g.jsonl {
        say_json(&doc)?
    } else {
        say(&doc.text())?
    }
    Ok(Ending::Fine)
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
    let root = root(g)?;
    let lock = Lock::take(&root, true)?;
    let Some(run) = last_run(g, &root)? else {
        return Err(Error::new(Kind::NoStore, "no migration has been made here"));
    };
    match run.state {
        State::Cleaned if !root.has(OLD)? => {
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
        say(&report::cleanup_warning(&run.plan))?;
    }
    confirm(a.yes, "Delete the old store for good?")?;
    let mut locked = Locked::open(root, lock, g.state.as_deref())?;
    engine::cleanup(&mut locked, &run)?;
    if g.json || g.jsonl {
        say_json(&serde_json::json!({"schema": "unaufs.cleanup/1", "state": "cleaned"}))?;
    } else {
        say("the old store is deleted")?;
    }
    Ok(Ending::Fine)
}
