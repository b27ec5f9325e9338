//! What a migration did.

use super::comparison::Comparison;
use crate::checks::Level;
use crate::docker::driver::Target;
use crate::ids::LayerId;
use crate::plan::damage::Damage;
use crate::plan::names::Names;
use crate::plan::scan::Facts;
use crate::plan::{LeftBehind, Plan, WHOLE};
use crate::run::Outcome;
use crate::run::journal::State;
use crate::store::DAMAGED;
use crate::store::graph::images::GONE;
use crate::text;
use crate::verify::{Difference, Side};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// `unaufs.migrate/1`.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    /// The schema's name.
    pub schema: &'static str,
    /// The new driver.
    pub driver: Target,
    /// What was done.
    #[serde(flatten)]
    pub outcome: &'a Outcome,
    /// What failed on the way.
    pub failed: &'a BTreeMap<LayerId, String>,
    /// What did not move.
    pub left_behind: &'a [LeftBehind],
    /// The same by what holds it back.
    pub damage: &'a [Damage],
    /// The estimate and the truth, once the new store is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<&'a Comparison>,
}

/// Where texts begin, behind the labels.
const LABEL: usize = 9;
/// What to do about damage that the old store has too.
const REPAIR: &str = "To repair an image, pull or build it again.";

fn label(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "{name:<LABEL$}{text}");
}

/// For people.
pub fn text(s: &Summary<'_>, p: &Plan) -> String {
    let mut out = String::new();
    result(&mut out, s, p);
    verified(&mut out, s, p);
    left_out(&mut out, p);
    for c in &s.outcome.changed {
        label(
            &mut out,
            "",
            &format!("Changed since it was built, and built again: {}", text::short_ids(&text::text(c))),
        );
    }
    for a in &s.outcome.aside {
        let what = format!("Set aside, since a Docker made it during the interrupted switch: {}", text::text(a));
        label(&mut out, "", &what);
    }
    next(&mut out, s, p);
    stays(&mut out, s, p);
    out
}

/// The first line: what is done, how long it took, how much it takes.
fn result(out: &mut String, s: &Summary<'_>, p: &Plan) {
    let took = s.compared.map_or(String::new(), |c| {
        let bytes = c.done.new_bytes.map_or(String::new(), |b| format!(", {}", text::size(b)));
        let time = if c.done.seconds == 0 { "under a second".to_owned() } else { text::duration(c.done.seconds) };
        format!(" ({time}{bytes})")
    });
    let all =
        format!("{} and {}", text::plural(p.summary.images, "image"), text::plural(p.summary.containers, "container"));
    let counts = if s.left_behind.is_empty() { all } else { super::plan::moved(p) };
    let partly = s.left_behind.iter().any(|l| l.counts) || !s.failed.is_empty() || s.outcome.differences() > 0;
    match s.outcome.state {
        State::Switched => {
            let place = p.new_root.as_ref().map_or(String::new(), |e| format!(" in {}", text::text(&e.path)));
            label(
                out,
                if partly { "PARTLY" } else { "DONE" },
                &format!("{counts} are now on {}{place}{took}.", s.driver),
            );
        }
        State::Building => label(
            out,
            "PREPARED",
            "The image layers are built. Docker may keep running. Stop it before you run unaufs migrate.",
        ),
        _ => label(out, "READY", &format!("{counts} are built for {} but not active yet{took}.", s.driver)),
    }
    let built = built(s.outcome);
    if !built.is_empty() {
        label(out, "", &built);
    }
    if let (Some(_), Some(t)) = (&p.new_root, &s.outcome.units) {
        let n = t.cloned + t.copied;
        label(out, "", &format!("Volumes, networks, logs and the rest: {} copied.", text::plural(n, "file")));
    }
}

/// What this call built; numbers that are 0 are left out.
fn built(o: &Outcome) -> String {
    let t = &o.tally;
    if o.built == 0 && o.found_done == 0 {
        return String::new();
    }
    if o.built == 0 {
        return format!("All {} were built before.", text::plural(o.found_done, "layer"));
    }
    let mut parts = Vec::new();
    for (n, how) in [(t.linked, "linked"), (t.cloned, "cloned")] {
        if n > 0 {
            parts.push(format!("{} {how}", text::plural(n as usize, "file")));
        }
    }
    if t.copied > 0 {
        parts.push(format!("{} copied ({})", text::plural(t.copied as usize, "file"), text::size(t.bytes)));
    }
    if t.whiteouts > 0 {
        parts.push(text::plural(t.whiteouts as usize, "whiteout"));
    }
    let before = match o.found_done {
        0 => String::new(),
        n => format!(", {} were built before", text::count(n as u64)),
    };
    let colon = if parts.is_empty() { "" } else { ": " };
    format!("{} built{before}{colon}{}.", text::plural(o.built, "layer"), parts.join(", "))
}

fn verified(out: &mut String, s: &Summary<'_>, p: &Plan) {
    let text = match (s.outcome.verified, &s.outcome.verdict) {
        (true, Some(v)) if s.outcome.damaged.is_empty() && v.total() > 0 => {
            "the new store equals the old one, which has damage. unaufs verify lists it.".to_owned()
        }
        (true, _) if s.outcome.damaged.is_empty() && s.outcome.state == State::Building => {
            "directory trees, owners, modes and sizes of the image layers match.".to_owned()
        }
        (true, _) if s.outcome.damaged.is_empty() => {
            "directory trees, owners, modes, sizes and container data match.".to_owned()
        }
        (true, _) => "the new store equals the old one, which has damage.".to_owned(),
        // an earlier call found it
        (false, Some(v)) => format!("{}. unaufs verify lists the differences.", v.text()),
        (false, None) => "not yet: run unaufs verify.".to_owned(),
    };
    label(out, "Verified", &text);
    let damaged = &s.outcome.damaged;
    if damaged.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "DAMAGED  {} in the old store. The new store has the same damage:",
        text::plural(damaged.len(), "place")
    );
    // the title says already that both stores have it
    let names = Names::of_plan(p);
    let line = |d: &Difference| {
        let name = names.get(&d.id).filter(|_| d.name.is_empty()).map_or_else(|| d.name.clone(), str::to_owned);
        Difference { side: Side::Itself, name, ..d.clone() }
    };
    super::first(out, damaged.iter().map(line), " (--json has all)");
    label(out, "", REPAIR);
}

/// What was left out on purpose, with the check that says why.
fn left_out(out: &mut String, p: &Plan) {
    let overlay = matches!(p.options.to, Target::Overlay2 | Target::Overlay);
    let in_layers = |count: fn(&Facts) -> u64| match overlay {
        true => p.layers.iter().map(|l| count(&l.facts)).sum(),
        false => 0,
    };
    let shown_by_aufs = p.quirks.iter().filter(|q| q.id == "L06").count() as u64;
    for (id, n, one, several) in [
        ("L03", in_layers(|f| f.device_zero.count), "1 device file was", "device files were"),
        (
            "L04",
            in_layers(|f| f.overlay_xattrs.count),
            "The overlayfs attributes of 1 file were",
            "files' overlayfs attributes were",
        ),
        ("L06", shown_by_aufs, "1 path that only aufs showed was", "paths that only aufs showed were"),
    ] {
        let what = match n {
            0 => continue,
            1 => one.to_owned(),
            n => format!("{} {several}", text::count(n)),
        };
        label(out, "", &format!("{what} left out ({id})."));
    }
}

fn stays(out: &mut String, s: &Summary<'_>, p: &Plan) {
    // the comparison has named these
    let known = |d: &Damage| d.causes.iter().all(|c| s.outcome.damaged.iter().any(|known| known.id == c.id));
    let moved: Vec<&Damage> = s.damage.iter().filter(|d| d.kind == DAMAGED && !known(d)).collect();
    if !moved.is_empty() {
        let _ = writeln!(out, "DAMAGED  in the old store. The new store has the same damage:");
        for d in moved {
            let _ = writeln!(out, "  {}", text::short_ids(&d.sentence()));
        }
        label(out, "", REPAIR);
    }
    let counted: Vec<_> = s.left_behind.iter().filter(|l| l.counts && l.kind != DAMAGED).collect();
    if !counted.is_empty() {
        // lost tags, links and settings aren't there either
        let is_there = |l: &LeftBehind| matches!(l.kind.as_str(), "image" | "layer" | "container") && l.reason != GONE;
        let there = if counted.iter().all(|l| is_there(l)) { ", and still in the old store" } else { "" };
        let _ = writeln!(out, "NOT MIGRATED ({}){there}:", text::count(counted.len() as u64));
        for d in s.damage.iter().filter(|d| d.kind != DAMAGED) {
            let _ = writeln!(out, "  {}", text::short_ids(&d.sentence()));
        }
        let parked = s.outcome.state == State::Switched && p.new_root.is_none();
        if parked && counted.iter().any(|l| l.kind == "container" && l.lost == WHOLE) {
            label(out, "", "To copy files of such a container: unaufs cp --driver aufs NAME:/PATH .");
        }
    }
    if let Some(stays) = super::stays_behind(p, false) {
        label(out, "", &format!("{stays}, excluded by an option or of another driver."));
    }
}

/// What to type, and how to go back.
fn next(out: &mut String, s: &Summary<'_>, p: &Plan) {
    let root = super::plan::root_option(p.new_root.as_ref().map_or(&p.root.path, |e| &e.path));
    let target = p.new_root.as_ref().map(|e| format!(" --target {}", super::plan::quoted(&e.path))).unwrap_or_default();
    let line = |out: &mut String, name: &str, command: &str, what: &str| {
        label(out, name, &format!("{command:<28}  {what}"));
    };
    if s.outcome.state != State::Switched {
        let old = super::plan::root_option(&p.root.path);
        let what =
            if s.outcome.state == State::Building { "stop Docker first, then do the rest" } else { "switch over" };
        line(out, "Next", &format!("unaufs migrate{old}{target}"), what);
        return line(out, "Undo", &format!("unaufs rollback{old}{target}"), "drop it; nothing is lost");
    }
    line(out, "Next", &format!("unaufs verify{root}"), "also check all contents (before Docker starts)");
    let warns = |id: &str| p.checks.iter().find(|c| c.id == id && c.level >= Level::Warn);
    if let Some(c) = warns("H07") {
        label(
            out,
            "",
            &format!("Before you start Docker, fix {}: {}.", c.subject, c.message.trim_end_matches(" (allowed)")),
        );
    }
    if let Some(c) = warns("T11") {
        label(out, "", &format!("{}. {}", c.message, text::advice(c.fix.as_deref().unwrap_or_default())));
    } else if let Some(pin) = s.driver.pin().filter(|_| warns("T05").is_some()) {
        label(
            out,
            "",
            &format!("Before you start Docker, set {pin} in daemon.json. Docker never chooses {} by itself.", s.driver),
        );
        if s.driver == Target::Overlay {
            label(out, "", "Docker 24 and later don't know overlay.");
        }
    }
    if p.new_root.is_some() {
        let n03 = p.checks.iter().find(|c| c.id == "N03").and_then(|c| c.fix.as_deref());
        label(out, "", &text::advice(n03.unwrap_or("before you start Docker, set \"data-root\" in daemon.json")));
    }
    line(out, "", "systemctl start docker", "then look at your containers: docker ps -a");
    let until = if p.new_root.is_some() {
        "then remove \"data-root\" from daemon.json"
    } else {
        "until you run unaufs cleanup"
    };
    line(out, "Undo", &format!("unaufs rollback{root}"), until);
}
