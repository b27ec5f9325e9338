//! Where things stand.

use crate::disk::Dir;
use crate::error::Result;
use crate::journal::{Run, State};
use serde::Serialize;
use std::fmt::Write;

/// `unaufs.status/1`.
#[derive(Debug, Serialize)]
pub struct Status {
    schema: &'static str,
    root: String,
    state: Option<State>,
    started: Option<String>,
    verified: Option<String>,
    /// Where things stand, and whether Docker may be started now and on which driver.
    summary: String,
    docker_may_start: bool,
    driver: Option<String>,
    ways_back: Vec<WayBack>,
    next: String,
}

#[derive(Debug, Serialize)]
struct WayBack {
    when: &'static str,
    how: &'static str,
    loses: &'static str,
    now: bool,
}

impl Status {
    /// From the journal.
    pub fn of(root: &Dir, run: Option<Run>) -> Result<Status> {
        let state = run.as_ref().map(|r| r.state);
        let to = run.as_ref().map(|r| r.plan.options.to.name()).unwrap_or("overlay2");
        let path = crate::show::path(root.label());
        let (summary, may, driver, next) = match state {
            None if root.has("aufs")? => (
                format!("Nothing has been done at {path}. The store is still aufs, which Docker 24 and later cannot read."),
                true,
                Some("aufs"),
                "unaufs plan",
            ),
            None => (format!("Nothing has been done at {path}. There is no aufs store here."), true, None, ""),
            Some(State::Building) if run.as_ref().is_some_and(|r| r.prepared) => (
                format!("The image layers of a new {to} store are prepared beside the old one, which is untouched. Docker may run on it until you stop it for the rest."),
                true,
                Some("aufs"),
                "stop Docker, then: unaufs migrate",
            ),
            Some(State::Building) => (
                format!("A new {to} store is being built beside the old one and is not complete. The old store is untouched; do not start Docker before you go on or roll back."),
                false,
                Some("aufs"),
                "unaufs migrate",
            ),
            Some(State::Built | State::Verified) => (
                format!("A new {to} store is complete beside the old one but not in force. The old store is untouched; do not start Docker before you go on or roll back."),
                false,
                Some("aufs"),
                "unaufs migrate",
            ),
            Some(State::Switching) => (
                format!("The switch to {to} was interrupted half way. Do not start Docker now: finish it or undo it first, both take seconds."),
                false,
                None,
                "unaufs migrate, or unaufs rollback",
            ),
            Some(State::Switched) => (
                format!("The store is migrated to {to}; the old one is parked in {path}/.unaufs/old. Docker may be started; it runs on {to}."),
                true,
                Some(to),
                "start Docker, look at your containers, and days later: unaufs verify, unaufs cleanup",
            ),
            Some(State::Undoing) => (
                "A rollback was interrupted half way. Do not start Docker now: run the rollback again, it takes seconds.".to_owned(),
                false,
                None,
                "unaufs rollback",
            ),
            Some(State::Undone) => (
                format!("The migration was rolled back; the old aufs store is in force at {path}. A Docker that knows aufs may be started."),
                true,
                Some("aufs"),
                "unaufs plan",
            ),
            Some(State::Cleaned) => (
                format!("The store is migrated to {to} and the old one was deleted. Docker may be started; it runs on {to}."),
                true,
                Some(to),
                "",
            ),
        };
        let (staged, switched) = (
            matches!(state, Some(State::Building | State::Built | State::Verified)),
            matches!(state, Some(State::Switching | State::Switched | State::Undoing)),
        );
        let ways_back = vec![
            WayBack { when: "before the switch", how: "unaufs rollback --drop-new", loses: "nothing", now: staged },
            WayBack {
                when: "after the switch, Docker not started",
                how: "unaufs rollback",
                loses: "nothing",
                now: switched,
            },
            WayBack {
                when: "after Docker ran on the new store",
                how: "unaufs rollback",
                loses: "what Docker changed since in images and containers; kept in .unaufs/undone",
                now: switched,
            },
            WayBack {
                when: "after unaufs cleanup",
                how: "none",
                loses: "the old store is gone",
                now: state == Some(State::Cleaned),
            },
        ];
        Ok(Status {
            schema: "unaufs.status/1",
            root: root.label().to_string_lossy().into_owned(),
            state,
            started: run.as_ref().map(|r| r.started.clone()),
            verified: run.and_then(|r| r.verified),
            summary,
            docker_may_start: may,
            driver: driver.map(str::to_owned),
            ways_back,
            next: next.to_owned(),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.summary);
        if let Some(v) = &self.verified {
            let _ = writeln!(out, "verified: {}", crate::show::text(v));
        }
        let _ = writeln!(out, "\nWAYS BACK");
        for w in &self.ways_back {
            let mark = if w.now { "->" } else { "  " };
            let _ = writeln!(out, " {mark} {:<38} {:<28} loses {}", w.when, w.how, w.loses);
        }
        if !self.next.is_empty() {
            let _ = writeln!(out, "\nnext: {}", self.next);
        }
        out
    }
}
