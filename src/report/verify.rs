//! What a verification found.

use super::SHOWN;
use crate::text;
use crate::verify::{By, Difference, Level, Outcome, Report, Unchecked, Unprovable};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// `unaufs.verify/1`.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// The schema's name.
    pub schema: &'static str,
    /// How much was compared.
    pub level: Level,
    /// What was found.
    #[serde(flatten)]
    pub report: &'a Report,
}

impl Document<'_> {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = self.counts();
        let unprovable = &self.report.unprovable;
        if !unprovable.is_empty() {
            let _ = writeln!(out, "Can't be proved ({}):", text::plural(unprovable.len(), "layer"));
            let line = |u: &Unprovable| format!("layer {}: {}", super::short(&u.layer), u.reason);
            super::first(&mut out, unprovable.iter().map(line), " (--json has all)");
        }
        let unchecked = &self.report.unchecked;
        if !unchecked.is_empty() {
            let _ = writeln!(out, "Could not be checked ({}):", text::count(unchecked.len() as u64));
            let line = |u: &Unchecked| format!("{}: {}", u.object, u.reason);
            super::first(&mut out, unchecked.iter().map(line), " (--json has all)");
        }
        self.differences(&mut out);
        out
    }

    fn counts(&self) -> String {
        let r = self.report;
        let digests = format!(
            "{} layers match their tar headers, {} digests rebuilt from {}",
            text::count(r.headers.saturating_sub(unfit(r))),
            text::count(r.digests),
            text::size(r.digested_bytes)
        );
        let level = self.level.name();
        match r.against_old {
            true => format!(
                "{} compared with the old store ({level})   {} layers, {} views, {} names, {} of content, {} metadata files, {digests}\n",
                r.driver,
                text::count(r.layers),
                text::count(r.views),
                text::count(r.names),
                text::size(r.bytes),
                text::count(r.metadata),
            ),
            false => format!(
                "{} checked by itself ({level})   {} layers, {} metadata files, {digests}\n",
                r.driver,
                text::count(r.layers),
                text::count(r.metadata),
            ),
        }
    }

    fn differences(&self, out: &mut String) {
        let r = self.report;
        listed(out, &r.differences);
        cut(out, &r.differences, &r.counts);
        let _ = match (r.total(), r.against_old) {
            _ if r.outcome() == Outcome::Unchecked => {
                writeln!(out, "NO VERDICT  Something could not be checked. That says nothing about the store.")
            }
            (0, true) if r.changed_since.is_empty() => {
                writeln!(out, "CLEAN  The new store holds what the old store holds.")
            }
            (0, true) => writeln!(out, "CLEAN  Image layers are identical to the old store."),
            (0, false) => writeln!(out, "CLEAN  The store matches its own records and tar headers."),
            (n, _) => writeln!(out, "DAMAGED  {}", text::plural(n as usize, "difference")),
        };
        if r.changed_since.is_empty() {
            return;
        }
        let _ = writeln!(
            out,
            "\nDocker ran on the new store since the switch. These changes are Docker's own, not damage:"
        );
        listed(out, &r.changed_since);
        cut(out, &r.changed_since, &r.changes);
        let all: u64 = r.changes.values().sum();
        let _ = writeln!(out, "{} since the switch", text::plural(all as usize, "change"));
    }
}

/// Layers that do not fit their headers.
fn unfit(r: &Report) -> u64 {
    let ids = r.differences.iter().filter(|d| d.by == By::Headers).map(|d| &d.id);
    ids.collect::<BTreeSet<_>>().len() as u64
}

/// Says how many there are of each kind where not all are listed.
fn cut(out: &mut String, listed: &[Difference], counts: &BTreeMap<&'static str, u64>) {
    if listed.len() as u64 == counts.values().sum::<u64>() {
        return;
    }
    let kinds: Vec<String> = counts.iter().map(|(kind, n)| format!("{kind}: {}", text::count(*n))).collect();
    let _ = writeln!(out, "  … too many to list; in all {}", kinds.join(", "));
}

/// At most [`SHOWN`] of each object are printed; JSON has all.
fn listed(out: &mut String, all: &[Difference]) {
    let mut shown = 0;
    let mut last = "";
    for d in all {
        shown = if d.id == last { shown + 1 } else { 1 };
        last = &d.id;
        if shown <= SHOWN {
            let _ = writeln!(out, "  {d}");
        } else if shown == SHOWN + 1 {
            let _ = writeln!(out, "  … more of {}: --json has all", super::short(&d.id));
        }
    }
}
