//! Where things stand.

use crate::disk::Dir;
use crate::docker::driver::Target;
use crate::error::Result;
use crate::plan::switch::OLD;
use crate::run::journal::{Run, State};
use crate::text;
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
    /// Does this kernel have aufs loaded? Without it no Docker runs on a store that was put back.
    kernel_has_aufs: bool,
    next: String,
}

#[derive(Debug, Serialize)]
struct WayBack {
    when: &'static str,
    how: &'static str,
    loses: &'static str,
    now: bool,
}

/// A run of `--mode move`, which earlier versions had, that is not over.
fn in_place(run: &Run, to: &str) -> (String, bool) {
    let (version, state) = (text::text(&run.plan.tool.version), run.state.name());
    match run.state {
        State::Switched => (
            format!(
                "unaufs {version} migrated the store to {to} with --mode move: the old layers became the new ones. Docker may be started; it runs on {to}. This version doesn't have that mode."
            ),
            true,
        ),
        _ => (
            format!(
                "A migration to {to} that unaufs {version} began with --mode move stopped at '{state}'. Some layers may be rewritten in place. Don't start Docker. This version doesn't have that mode."
            ),
            false,
        ),
    }
}

impl Status {
    /// From the journal.
    pub fn of(root: &Dir, run: Option<Run>) -> Result<Status> {
        let state = run.as_ref().map(|r| r.state);
        let to = run.as_ref().map(|r| r.plan.options.to.name()).unwrap_or("overlay2");
        let elsewhere = run.as_ref().and_then(|r| Some((r.state, r.plan.elsewhere.as_ref()?, &r.plan.root.path)));
        let (summary, may, driver, next) = match elsewhere {
            Some((state, e, root)) => in_another_place(state, to, root, &e.path),
            None => beside(root, run.as_ref(), to)?,
        };
        let unsupported = run.as_ref().filter(|r| r.supported().is_err());
        let (summary, may, driver, next) = match unsupported {
            Some(run) => {
                let (summary, may) = in_place(run, to);
                (
                    summary,
                    may,
                    driver.filter(|_| may),
                    "unaufs migrate or unaufs rollback, with the version that began it",
                )
            }
            None => (summary, may, driver, next),
        };
        let now = state.filter(|_| unsupported.is_none());
        let (staged, switched) = (
            matches!(now, Some(State::Building | State::Built | State::Verified)),
            matches!(now, Some(State::Switching | State::Switched | State::Undoing)),
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
                loses: match elsewhere {
                    Some(_) => "what Docker wrote in the new root since, volumes too; kept in .unaufs/undone",
                    None => "what Docker changed since in images and containers; kept in .unaufs/undone",
                },
                now: switched,
            },
            WayBack {
                when: "after unaufs cleanup",
                how: "none",
                loses: "nothing more: the old store is gone",
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
            kernel_has_aufs: crate::plan::host::kernel_knows("aufs"),
            next: next.to_owned(),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.summary);
        if let Some(v) = &self.verified {
            let _ = writeln!(out, "verified: {}", crate::text::text(v));
        }
        let _ = writeln!(out, "\nWAYS BACK");
        for w in &self.ways_back {
            let mark = if w.now { "->" } else { "  " };
            let _ = writeln!(out, " {mark} {:<38} {:<28} loses {}", w.when, w.how, w.loses);
        }
        let here = if self.kernel_has_aufs {
            "this kernel has aufs: a Docker before 24 can run here on a store that was put back"
        } else {
            "this kernel has no aufs loaded: until it has, no Docker can run here on a store that was put back"
        };
        let _ = writeln!(out, "    {here}");
        if !self.next.is_empty() {
            let _ = writeln!(out, "\nnext: {}", self.next);
        }
        out
    }
}

/// Where things stand in words, whether Docker may start, on which driver, and what to do next.
type Standing<'a> = (String, bool, Option<&'a str>, &'a str);

/// The new store comes to be beside the old one.
/// What Docker does with the new store, and what it must be told first.
fn may_start(to: &str) -> String {
    match Target::ALL.into_iter().find(|t| t.name() == to).and_then(Target::pin) {
        Some(line) => {
            format!("Docker runs on {to} only with this line in daemon.json, which it needs before it starts: {line}.")
        }
        None => format!("Docker may be started; it runs on {to}."),
    }
}

fn beside<'a>(root: &Dir, run: Option<&Run>, to: &'a str) -> Result<Standing<'a>> {
    let (state, path) = (run.map(|r| r.state), text::path(root.label()));
    let may_start = may_start(to);
    Ok(match state {
        None if root.has("aufs")? => (
            format!("Nothing has been done at {path}. The store is still aufs, which Docker 24 and later cannot read."),
            true,
            Some("aufs"),
            "unaufs plan",
        ),
        None => (format!("Nothing has been done at {path}. There is no aufs store here."), true, None, ""),
        Some(State::Building) if run.is_some_and(|r| r.prepared) => (
            format!(
                "The image layers of a new {to} store are prepared beside the old one, which is untouched. Docker may run on it until you stop it for the rest."
            ),
            true,
            Some("aufs"),
            "stop Docker, then: unaufs migrate",
        ),
        Some(State::Building) => (
            format!(
                "A new {to} store is being built beside the old one and is not complete. The old store is untouched; do not start Docker before you go on or roll back."
            ),
            false,
            Some("aufs"),
            "unaufs migrate",
        ),
        Some(State::Built | State::Verified) => (
            format!(
                "A new {to} store is complete beside the old one but not in force. The old store is untouched; do not start Docker before you go on or roll back."
            ),
            false,
            Some("aufs"),
            "unaufs migrate",
        ),
        Some(State::Switching) => (
            format!(
                "The switch to {to} was interrupted half way. Do not start Docker now: finish it or undo it first, both take seconds."
            ),
            false,
            None,
            "unaufs migrate, or unaufs rollback",
        ),
        Some(State::Switched) => (
            format!("The store is migrated to {to}; the old one is parked in {path}/.unaufs/old. {may_start}"),
            true,
            Some(to),
            "unaufs verify, for the full proof; start Docker, look at your containers; days later: unaufs cleanup",
        ),
        Some(State::Undoing) => (
            "A rollback was interrupted half way. Do not start Docker now: run the rollback again, it takes seconds."
                .to_owned(),
            false,
            None,
            "unaufs rollback",
        ),
        Some(State::Undone) => (
            format!(
                "The migration was rolled back; the old aufs store is in force at {path}. A Docker that knows aufs may be started."
            ),
            true,
            Some("aufs"),
            "unaufs plan",
        ),
        Some(State::Cleaned) => (
            format!("The store is migrated to {to} and the old one was deleted. {may_start}"),
            true,
            Some(to),
            if root.has(OLD)? { "unaufs cleanup, which was interrupted: it goes on" } else { "" },
        ),
    })
}

/// It comes to be in another place.
fn in_another_place<'a>(state: State, to: &'a str, root: &str, dir: &str) -> Standing<'a> {
    let (root, dir) = (text::text(root), text::text(dir));
    match state {
        State::Building | State::Built | State::Verified | State::Switching => (
            format!(
                "A new {to} root is being made in {dir} and is not in force. {root} is untouched, and nothing is ever written to it; a Docker that runs on it meanwhile makes the new one out of date."
            ),
            false,
            Some("aufs"),
            "unaufs migrate, with the same --root and --target",
        ),
        State::Switched => (
            format!(
                "{root} was migrated to {to} in {dir}. The old root is untouched. Docker may be started once daemon.json names the new one: \"data-root\"."
            ),
            true,
            Some(to),
            "unaufs verify, for the full proof; start Docker, look at your containers; days later: unaufs cleanup",
        ),
        State::Undoing => (
            format!("A rollback was interrupted half way: run it again. {root} is untouched."),
            false,
            Some("aufs"),
            "unaufs rollback",
        ),
        State::Undone => (
            format!(
                "The migration was rolled back: {dir} is out of use, {root} is untouched. Take {dir} out of daemon.json."
            ),
            true,
            Some("aufs"),
            "unaufs plan, with --root and --target",
        ),
        State::Cleaned => (
            format!(
                "{root} was migrated to {to} in {dir}, and the old layers were deleted. Volumes and all else that was copied lies in both; the old ones are yours to delete."
            ),
            true,
            Some(to),
            "",
        ),
    }
}
