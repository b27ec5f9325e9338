//! What a migration did.

use super::truth::Comparison;
use crate::checks::Level;
use crate::docker::driver::Target;
use crate::ids::LayerId;
use crate::plan::damage::Damage;
use crate::plan::{LeftBehind, Plan};
use crate::run::Outcome;
use crate::run::journal::State;
use crate::text;
use crate::verify::Difference;
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

/// As many are printed; JSON has all.
const SHOWN: usize = 20;

/// Damage that the old store had already.
fn damaged(out: &mut String, all: &[Difference]) {
    if all.is_empty() {
        return;
    }
    let _ =
        writeln!(out, "DAMAGED    {} in the old store; the new store has the same:", text::plural(all.len(), "name"));
    for d in all.iter().take(SHOWN) {
        let _ = writeln!(out, "  {d}");
    }
    if let Some(more) = all.len().checked_sub(SHOWN).filter(|n| *n > 0) {
        let _ = writeln!(out, "  and {} more; --json has all", text::count(more as u64));
    }
    let _ = writeln!(out, "           To repair an image, pull or build it again.");
}

/// For people.
pub fn text(s: &Summary<'_>, p: &Plan) -> String {
    let mut out = String::new();
    let t = &s.outcome.tally;
    let before =
        if s.outcome.found_done > 0 { format!(" ({} were done before)", s.outcome.found_done) } else { String::new() };
    let _ = writeln!(
        out,
        "built      {}{before}: {} linked, {} cloned, {} copied ({}), {} directories, {} whiteouts, {} opaque",
        text::plural(s.outcome.built, "layer"),
        text::count(t.linked),
        text::count(t.cloned),
        text::count(t.copied),
        text::size(t.bytes),
        text::count(t.folders),
        text::count(t.whiteouts),
        text::count(t.opaque)
    );
    if let (Some(e), Some(t)) = (&p.elsewhere, &s.outcome.along) {
        let _ = writeln!(
            out,
            "along      to {}: {} cloned, {} copied ({}), {} directories",
            text::text(&e.path),
            text::count(t.cloned),
            text::count(t.copied),
            text::size(t.bytes),
            text::count(t.folders)
        );
    }
    let verified = match (s.outcome.verified, &s.outcome.verdict) {
        (true, _) if s.outcome.damaged.is_empty() => "yes, no difference".to_owned(),
        (true, _) => "yes; damage of the old store is in the new store too".to_owned(),
        // an earlier call found it
        (false, Some(v)) => format!("{}; `unaufs verify` lists them", v.text()),
        (false, None) => "no: run `unaufs verify`".to_owned(),
    };
    let _ = writeln!(out, "verified   {verified}");
    damaged(&mut out, &s.outcome.damaged);
    if let Some(c) = s.compared {
        let rows: Vec<String> =
            c.rows().iter().map(|[what, plan, truth]| format!("{what} {truth} (plan: {plan})")).collect();
        let _ = writeln!(out, "took       {}", rows.join(", "));
    }
    if s.outcome.state == State::Switched {
        match p.checks.iter().find(|c| c.id == "T11" && c.level >= Level::Warn) {
            Some(c) => {
                let _ = writeln!(out, "switched   The new store is in place, but {}.", c.message);
                let _ = writeln!(out, "do now     {}", c.fix.as_deref().unwrap_or_default());
            }
            None => {
                let _ = writeln!(out, "switched   Docker will start on {}.{}", s.driver, pinned(s.driver));
            }
        }
        let root = text::text(&p.root.path);
        match &p.elsewhere {
            None => {
                let _ = writeln!(out, "           The old store is in {root}/.unaufs/old.");
                let _ = writeln!(out, "way back   `unaufs rollback` (seconds), until you run `unaufs cleanup`.");
            }
            Some(e) => {
                let n03 = p.checks.iter().find(|c| c.id == "N03").and_then(|c| c.fix.as_deref());
                let _ = writeln!(out, "do now     {}", n03.unwrap_or("set \"data-root\" in daemon.json"));
                let _ = writeln!(out, "           The old root {root} was not touched.");
                let dir = super::plan::quoted(&e.path);
                let _ = writeln!(out, "way back   `unaufs rollback --root {dir}`, and \"data-root\" back.");
            }
        }
    } else if s.outcome.state == State::Building {
        let _ = writeln!(out, "prepared   The image layers are ready; Docker may go on. Stop it, then: unaufs migrate");
    } else {
        let _ = writeln!(out, "not yet    The new store is ready but not active: run `unaufs migrate` to switch over.");
    }
    for c in &s.outcome.changed {
        let _ = writeln!(out, "built again {}", text::text(c));
    }
    for a in &s.outcome.aside {
        let _ = writeln!(out, "set aside  {}: a Docker had made it while the switch was interrupted", text::text(a));
    }
    if !s.left_behind.is_empty() {
        let _ = writeln!(out, "STAYS BEHIND ({}); nothing was deleted:", s.left_behind.len());
        for d in s.damage {
            let _ = writeln!(out, "  {}", d.sentence());
        }
        let others = s.left_behind.iter().filter(|l| !l.counts).count();
        if others > 0 {
            let _ = writeln!(out, "  {} excluded, or of another driver", text::count(others as u64));
        }
    }
    out
}

/// What Docker must be told before it starts on the new store.
fn pinned(to: Target) -> String {
    let later = if to == Target::Overlay { " Docker 24 and later don't know overlay." } else { "" };
    let line = |l: String| format!("\n           First add {l} to daemon.json: no Docker picks {to} by itself.{later}");
    to.pin().map(line).unwrap_or_default()
}
