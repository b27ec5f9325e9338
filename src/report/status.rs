//! Where things stand.

use super::Next;
use crate::checks::Finding;
use crate::disk::Dir;
use crate::docker::driver::Target;
use crate::error::Result;
use crate::plan::host::{Machine, docker_config};
use crate::run::identity::Known;
use crate::run::journal::State;
use crate::run::states::{ORPHANED, Standing};
use crate::store::Generation;
use crate::text;
use crate::verify::{Level, Verdict, since};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// `unaufs.status/2`.
#[derive(Debug, Serialize)]
pub struct Status {
    schema: &'static str,
    root: String,
    /// `none`, or the state of the run.
    state: &'static str,
    started: Option<String>,
    docker_may_start: bool,
    /// The process of an unaufs that is working on the root.
    working: Option<u32>,
    /// Does `unaufs migrate` have work to do that needs no decision?
    work: bool,
    /// The old store that is in its place.
    store: Option<&'static str>,
    /// The driver that Docker would run on.
    driver: Option<String>,
    /// Where things stand, in two sentences.
    reason: String,
    verdict: Option<Verdict>,
    next: Vec<Next>,
    ways_back: Vec<WayBack>,
    /// What rollbacks have kept.
    undone: Vec<String>,
    /// Does this kernel have aufs loaded? Without it no Docker runs on a store that was put back.
    kernel_has_aufs: bool,
    /// The first word for people.
    #[serde(skip)]
    word: &'static str,
    /// What a rollback costs now, for people.
    #[serde(skip)]
    undo: Option<String>,
}

#[derive(Debug, Serialize)]
struct WayBack {
    when: &'static str,
    how: &'static str,
    loses: &'static str,
    now: bool,
}

/// Words for a run.
struct Words<'a> {
    /// The new driver.
    to: &'a str,
    /// The root that the state is in.
    root: String,
    /// The old root, where it is another one.
    old: Option<String>,
    at: &'a Standing,
    /// Why Docker wouldn't use the new store, once it is active.
    obstacle: Option<Finding>,
    /// Layers that are built, and all of them.
    built: Option<(usize, usize)>,
    /// Has Docker run on the new store?
    docker_ran: bool,
}

/// What keeps Docker from the store that is active in the root; nothing of a run that isn't over yet.
fn obstacle(root: &Dir, to: &str, at: &Standing) -> Result<Option<Finding>> {
    let Some(to) = Target::ALL.into_iter().find(|t| t.name() == to && at.state == Some(State::Switched)) else {
        return Ok(None);
    };
    let machine = Machine { at: PathBuf::from("/"), docker_config: None };
    Ok(docker_config::obstacles(root, to, &machine)?.into_iter().next())
}

/// A sentence about what is left in the old store of a migration that is done.
fn not_migrated(known: &Known, at: &Standing) -> String {
    let Known::Run(run) = known else { return String::new() };
    match super::left_in_old_store(&run.plan).filter(|_| at.state == Some(State::Switched)) {
        Some(left) => format!(" Not migrated: {left}. Cleanup deletes what the old store has of them."),
        None => String::new(),
    }
}

impl Status {
    /// Of a run and its state; so many layers are `built`, if that is known.
    pub fn of(
        root: &Dir,
        target: Option<&Path>,
        (known, built): (&Known, Option<usize>),
        at: &Standing,
    ) -> Result<Status> {
        let (to, started, old) = match known {
            Known::Nothing => ("overlay2", None, None),
            Known::Run(run) => {
                let old = run.plan.new_root.as_ref().map(|_| run.plan.root.path.clone());
                (run.plan.options.to.name(), Some(run.started.clone()), old)
            }
            Known::Lost(lost) => {
                let old = lost.course.target.as_ref().map(|_| lost.course.root.clone());
                (lost.course.driver.name(), Some(lost.course.started.clone()), old)
            }
        };
        let words = Words {
            to,
            root: text::path(root.label()),
            old: old.as_deref().map(text::text),
            at,
            obstacle: obstacle(root, to, at)?,
            built: match known {
                Known::Run(run) => built.map(|n| (n, run.plan.layers.len())),
                _ => None,
            },
            docker_ran: since::reference(root)?.is_some_and(|at| since::docker_ran(root, at)),
        };
        let may = at.docker_may_start();
        Ok(Status {
            schema: "unaufs.status/2",
            root: root.label().to_string_lossy().into_owned(),
            state: at.state.map_or("none", State::name),
            started,
            docker_may_start: may,
            working: at.worker,
            work: at.work(),
            store: at.store.map(|s| match s {
                Generation::Content => "aufs",
                Generation::Graph => "graph",
            }),
            driver: words.driver().filter(|_| may || at.state != Some(State::Switching)).map(str::to_owned),
            reason: words.reason() + &not_migrated(known, at),
            verdict: at.verdict.clone(),
            next: words.next(target),
            ways_back: ways_back(at),
            undone: at.undone.clone(),
            kernel_has_aufs: crate::plan::host::kernel_knows("aufs"),
            word: words.word(),
            undo: words.undo(),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        // a sentence each
        let mut sentences = self.reason.split_inclusive(". ");
        let mut out = format!("{:<13}{}\n", self.word, sentences.next().unwrap_or_default().trim_end());
        for sentence in sentences {
            let _ = writeln!(out, "{:<13}{}", "", sentence.trim_end());
        }
        let mut line = |name: &str, text: &str| {
            let _ = writeln!(out, "{name:<13}{text}");
        };
        if let Some(v) = self.verdict.as_ref().filter(|_| self.state != State::Undone.name()) {
            line(if v.clean { "Verified" } else { "Verify" }, &text::text(&v.text()));
        }
        for u in &self.undone {
            line("Kept", &format!("{}/.unaufs/{}", text::text(&self.root), text::text(u)));
        }
        for (i, n) in self.next.iter().enumerate() {
            line(if i == 0 { "Next" } else { "   or" }, &format!("{:<22}  {}", n.command, n.why));
        }
        if let Some(undo) = &self.undo {
            line("Undo", undo);
            if !self.kernel_has_aufs {
                line("", "This kernel has no aufs, so Docker can't use the old store here after a rollback.");
            }
        }
        out
    }
}

impl<'a> Words<'a> {
    /// The answer in a word.
    fn word(&self) -> &'static str {
        let damaged = self.at.verdict.as_ref().is_some_and(|v| !v.clean);
        match self.at.state {
            _ if self.at.worker.is_some() => "WORKING",
            None if self.at.parked => "UNKNOWN",
            None if self.at.store.is_some() => "NOT STARTED",
            None => "NO STORE",
            Some(State::Switched) if damaged || self.at.gone.is_some() => "DAMAGED",
            Some(State::Switched | State::Cleaned) => "DONE",
            Some(State::Undone) => "ROLLED BACK",
            Some(State::Building) if self.at.prepared => "PREPARED",
            Some(State::Built | State::Verified) if !damaged => "READY",
            Some(_) => "INTERRUPTED",
        }
    }

    /// What a rollback costs, where one is possible.
    fn undo(&self) -> Option<String> {
        let state = self.at.state.filter(|_| self.at.in_place.is_none() && self.at.worker.is_none())?;
        Some(match state {
            State::Building | State::Built | State::Verified => {
                "unaufs rollback deletes the new store. Nothing is lost.".to_owned()
            }
            State::Switched if !self.at.missing.is_empty() => return None,
            State::Switched if self.docker_ran && self.old.is_some() => format!(
                "Docker has run in {0}. unaufs rollback sets aside everything written there since, volumes too, in {0}/.unaufs/undone.",
                self.root
            ),
            State::Switched if self.docker_ran => format!(
                "Docker has run on the new store. unaufs rollback sets aside new images and changes inside containers in {}/.unaufs/undone.",
                self.root
            ),
            State::Switched => "Docker hasn't run on the new store, so unaufs rollback loses nothing.".to_owned(),
            State::Switching | State::Undoing | State::Undone | State::Cleaned => return None,
        })
    }

    fn driver(&self) -> Option<&'a str> {
        match self.at.state {
            None => self.at.store.map(|_| "aufs"),
            Some(State::Switched | State::Cleaned) => Some(self.to),
            Some(State::Switching) => None,
            Some(_) => Some("aufs"),
        }
    }

    /// Two sentences.
    fn reason(&self) -> String {
        let (to, root) = (self.to, &self.root);
        if let Some(pid) = self.at.worker {
            return format!("unaufs is working on {root} now (process {pid}). Wait until it has finished.");
        }
        if let Some(version) = self.at.in_place.as_ref().filter(|_| self.at.state.is_some_and(|s| !s.over())) {
            return in_place(version, to, self.at.state);
        }
        if let Some(why) = &self.at.lost {
            return self.lost(why);
        }
        if let Some(path) = self.at.moved_from.as_ref().filter(|_| !self.at.state.is_some_and(State::over)) {
            return self.moved(path);
        }
        if let Some(old) = &self.old {
            return self.new_root(old);
        }
        match self.at.state {
            None if self.at.parked => {
                let what = ORPHANED.replacen("there", "There", 1);
                format!("{what}. The store itself is still there: the guide says how to put it back by hand.")
            }
            None if self.at.store.is_some() => {
                format!(
                    "No migration has been started at {root}. The store uses aufs, which Docker 24 and later can't read."
                )
            }
            None => format!("There is no aufs store at {root}. No migration has been started."),
            Some(State::Building) if self.at.prepared => format!(
                "The image layers for {to} are built; the old store is untouched. Docker may run until you run unaufs migrate."
            ),
            Some(State::Building) => self.building(),
            Some(State::Built | State::Verified) => format!(
                "The new {to} store is built but not active yet; the old store is untouched. Don't start Docker before you continue or roll back."
            ),
            Some(State::Switching) => {
                format!(
                    "The switch to {to} was interrupted. Docker can't start until you finish the switch or undo it; both take seconds."
                )
            }
            Some(State::Switched) if self.at.store.is_some() => format!(
                "The store was migrated to {to}, and there is another aufs store in {root} now. The first old store is in {root}/.unaufs/old."
            ),
            Some(State::Switched) => {
                format!("The store is migrated to {to}; {}. {}", self.old_store(), self.after_switch())
            }
            Some(State::Undoing) => {
                "A rollback was interrupted. Docker can't start until you run unaufs rollback again, which takes seconds."
                    .to_owned()
            }
            Some(State::Undone) => "The migration was rolled back. The old aufs store is active again.".to_owned(),
            Some(State::Cleaned) if self.at.store.is_some() => {
                format!("An earlier migration to {to} is finished. There is another aufs store in {root} now.")
            }
            Some(State::Cleaned) => {
                format!("The migration to {to} is finished and the old store is deleted. There is no way back.")
            }
        }
    }

    /// The migration was interrupted before the new store was complete.
    fn building(&self) -> String {
        let far = match self.built {
            Some((built, all)) => format!("{} of {} are built", text::count(built as u64), text::plural(all, "layer")),
            None => "the new store isn't complete".to_owned(),
        };
        format!(
            "The migration to {} was interrupted: {far}, and the old store is untouched. Don't start Docker before you continue or roll back.",
            self.to
        )
    }

    /// What became of the old store, after the switch.
    fn old_store(&self) -> String {
        match &self.at.missing[..] {
            [] => format!("the old store is in {}/.unaufs/old", self.root),
            [first, ..] => format!(
                "the old store isn't whole any more, so there is no way back: {}/.unaufs/old/{} is missing",
                self.root,
                text::text(first)
            ),
        }
    }

    /// The new root was moved after it was made.
    fn moved(&self, path: &str) -> String {
        let (to, dir, path) = (self.to, &self.root, text::text(path));
        let made = if self.at.state == Some(State::Switched) { "was made" } else { "was begun" };
        format!(
            "The new {to} root {made} in {path} and is in {dir} now. The configurations of its containers name {path}: Docker can't start them until the root is back there, or is mounted there."
        )
    }

    /// Whether Docker may be started.
    fn after_switch(&self) -> String {
        if let Some(path) = &self.at.gone {
            return format!("Don't start Docker: {}/{path} isn't there any more.", self.root);
        }
        match (self.at.verdict.as_ref().filter(|v| !v.clean), &self.obstacle) {
            (Some(v), _) if v.inherited => {
                "The last verification found damage that the old store has too, so a rollback doesn't repair it. Pull or build the damaged images again."
                    .to_owned()
            }
            (Some(_), _) => {
                "The last verification found damage in the new store. Look at the damage before you run unaufs cleanup."
                    .to_owned()
            }
            (None, Some(f)) if f.id == "T05" => must_be_told(self.to),
            (None, Some(f)) => {
                let subject = if f.id == "H07" { format!("{}: ", f.subject) } else { String::new() };
                let fix = f.fix.as_deref().map(|fix| format!("; to use it, {fix}")).unwrap_or_default();
                format!("Docker doesn't use the new store yet: {subject}{}{fix}.", f.message).replace(". ", "; ")
            }
            (None, None) => format!("Docker may be started; it runs on {}.", self.to),
        }
    }

    /// The journal is lost: what the tree and the run's file say.
    fn lost(&self, why: &str) -> String {
        let why = text::text(why).replace(". ", "; ");
        let stands = match self.at.state {
            Some(State::Switched) => format!("the switch to {} is done", self.to),
            Some(State::Switching | State::Undoing) => "a switch was interrupted half way".to_owned(),
            Some(State::Undone) => "the migration was rolled back".to_owned(),
            Some(State::Cleaned) => "the old store was deleted".to_owned(),
            _ => "the old store is untouched".to_owned(),
        };
        format!("{}. According to .unaufs/run.json and the directories, {stands}.", text::capital(&why))
    }

    fn new_root(&self, old: &str) -> String {
        let (to, dir) = (self.to, &self.root);
        match self.at.state {
            None | Some(State::Building | State::Built | State::Verified | State::Switching) => {
                format!("A new {to} root is being made in {dir} and is not active yet. {old} is untouched.")
            }
            Some(State::Switched) => format!(
                "The old root {old} was copied to {to} in {dir} and is untouched. Set \"data-root\": \"{dir}\" in daemon.json before you start Docker."
            ),
            Some(State::Undoing) => format!("A rollback was interrupted: run it again. {old} is untouched."),
            Some(State::Undone) => {
                format!(
                    "The migration was rolled back: {dir} is out of use, {old} is untouched. Take {dir} out of daemon.json."
                )
            }
            Some(State::Cleaned) => format!(
                "{old} was migrated to {to} in {dir}, and the old layers were deleted. Volumes and all else that was copied is in both roots; the old ones are yours to delete."
            ),
        }
    }

    /// ` --root DIR` and the like, where they are not the default.
    fn place(&self, target: Option<&Path>) -> String {
        let root = |path: &str| match path {
            "/var/lib/docker" => String::new(),
            path => format!(" --root {}", super::plan::quoted(path)),
        };
        let to = |path: &str| format!(" --target {}", super::plan::quoted(path));
        match (&self.old, target) {
            (Some(old), _) => root(old) + &to(&self.root),
            (None, Some(t)) => root(&self.root) + &to(&text::path(t)),
            (None, None) => root(&self.root),
        }
    }

    /// What to do, the best first.
    fn next(&self, target: Option<&Path>) -> Vec<Next> {
        let place = self.place(target);
        let next = |command: &str, why: &'static str| Next { command: format!("unaufs {command}{place}"), why };
        if self.at.in_place.is_some() && self.at.state.is_some_and(|s| !s.over()) {
            return vec![
                next("migrate", "with the version that began it"),
                next("rollback", "with the version that began it"),
            ];
        }
        match self.at.state {
            _ if self.at.worker.is_some() => Vec::new(),
            None if self.at.parked => Vec::new(),
            None if self.at.store.is_some() => vec![next("plan", "see what a migration would do")],
            None => Vec::new(),
            Some(State::Building) if self.at.prepared => vec![next("migrate", "stop Docker first, then do the rest")],
            Some(State::Switching | State::Building) if self.at.lost.is_some() => {
                vec![next("rollback", "put the old store back; nothing is lost")]
            }
            Some(State::Building | State::Built | State::Verified) if self.at.moved_from.is_some() => {
                vec![next("rollback", "drop it; nothing is lost")]
            }
            Some(State::Building | State::Built | State::Verified) => {
                vec![next("migrate", "finish it"), next("rollback", "drop it; nothing is lost")]
            }
            Some(State::Switching) => {
                vec![next("migrate", "finish the switch"), next("rollback", "put the old store back")]
            }
            Some(State::Switched) if !self.at.missing.is_empty() => vec![
                next(&format!("verify --driver {}", self.to), "check the new store by itself"),
                next("cleanup --skip-verify", "delete what is left of the old store"),
            ],
            Some(State::Switched) if self.at.gone.is_some() => vec![next("rollback", "put the old store back")],
            Some(State::Switched) if self.at.verdict.as_ref().is_some_and(|v| v.inherited) => {
                vec![next("verify", "list the damage")]
            }
            Some(State::Switched) if self.word() == "DAMAGED" => {
                vec![next("verify", "list the differences"), next("rollback", "put the old store back")]
            }
            // a cleanup needs the journal
            Some(State::Switched) if self.at.lost.is_some() => {
                vec![next("verify", "check the new store by itself"), next("rollback", "put the old store back")]
            }
            Some(State::Switched) => self.after(next),
            Some(State::Undoing) => vec![next("rollback", "finish it")],
            Some(State::Undone) => vec![next("plan", "see what another migration would do")],
            Some(State::Cleaned) if self.at.parked || self.at.rest => {
                vec![next("cleanup", "finish the interrupted cleanup")]
            }
            Some(State::Cleaned) if self.at.store.is_some() => vec![next("plan", "see what a migration would do")],
            Some(State::Cleaned) => Vec::new(),
        }
    }
}

impl Words<'_> {
    /// What to do after the switch, where nothing is wrong.
    fn after(&self, next: impl Fn(&str, &'static str) -> Next) -> Vec<Next> {
        let all_checked = |v: &Verdict| v.covers(Level::Full) && v.docker_ran == self.docker_ran;
        let mut out = Vec::new();
        if !self.at.verdict.as_ref().is_some_and(all_checked) {
            let why = if self.docker_ran { "check all contents" } else { "check all contents, before Docker starts" };
            out.push(next("verify", why));
        }
        if !self.docker_ran && self.obstacle.is_none() {
            let why = match self.old {
                Some(_) => "when daemon.json has the new data root",
                None => "then look at your containers: docker ps -a",
            };
            out.push(Next { command: "systemctl start docker".to_owned(), why });
        }
        out.push(next("cleanup", "days later: delete the old store"));
        out.push(next("rollback", "put the old store back"));
        out
    }
}

/// What Docker must be told before it starts.
fn must_be_told(to: &str) -> String {
    let line = Target::ALL.into_iter().find(|t| t.name() == to).and_then(Target::pin).unwrap_or_default();
    format!("Docker runs on {to} only with this line in daemon.json, which it needs before it starts: {line}.")
}

/// A run of `--mode move`, which earlier versions had, that is not over.
fn in_place(version: &str, to: &str, state: Option<State>) -> String {
    let version = text::text(version);
    match state {
        Some(State::Switched) => format!(
            "unaufs {version} migrated the store to {to} with --mode move, which this version doesn't have. Docker may be started; it runs on {to}."
        ),
        _ => format!(
            "A migration to {to} that unaufs {version} began with --mode move is not finished, and this version doesn't have that mode. Don't start Docker: some layers may be rewritten in place."
        ),
    }
}

fn ways_back(at: &Standing) -> Vec<WayBack> {
    let now = at.state.filter(|_| at.in_place.is_none());
    let (staged, switched) = (
        matches!(now, Some(State::Building | State::Built | State::Verified)),
        matches!(now, Some(State::Switching | State::Switched | State::Undoing)) && at.missing.is_empty(),
    );
    let way = |when, how, loses, now| WayBack { when, how, loses, now };
    let written = match at.new_root {
        true => "what Docker wrote in the new root since, volumes too; kept in .unaufs/undone",
        false => "what Docker changed since in images and containers; kept in .unaufs/undone",
    };
    vec![
        way("before the switch", "unaufs rollback", "nothing", staged),
        way("after the switch, Docker not started", "unaufs rollback", "nothing", switched),
        way("after Docker ran on the new store", "unaufs rollback", written, switched),
        way("after unaufs cleanup", "none", "nothing more: the old store is gone", at.state == Some(State::Cleaned)),
    ]
}
