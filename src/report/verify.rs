//! What a verification found.

use crate::text;
use crate::verify::{Difference, Level, Report};
use serde::Serialize;
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

/// As many differences of one object are printed; JSON has all.
const SHOWN: usize = 20;

impl Document<'_> {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = self.counts();
        for u in self.report.unprovable.iter().take(SHOWN) {
            let _ = writeln!(out, "cannot be proved by digest: layer {}: {}", super::short(&u.layer), u.reason);
        }
        if let Some(more) = self.report.unprovable.len().checked_sub(SHOWN).filter(|n| *n > 0) {
            let _ = writeln!(out, "cannot be proved by digest: {more} more; --json has all");
        }
        self.differences(&mut out);
        out
    }

    fn counts(&self) -> String {
        let r = self.report;
        let digests = format!("{} digests rebuilt from {}", text::count(r.digests), text::size(r.digested_bytes));
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
        let _ = match (r.differences.len(), r.against_old) {
            (0, true) if r.changed_since.is_empty() => {
                writeln!(out, "the new store shows exactly what the old one holds")
            }
            (0, true) => writeln!(out, "what nobody may change is exactly what the old store holds"),
            (0, false) => writeln!(out, "the store agrees with its own records"),
            (n, _) => writeln!(out, "{}", text::plural(n, "difference")),
        };
        if r.changed_since.is_empty() {
            return;
        }
        let _ = writeln!(
            out,
            "\nDocker has run on the new store since the switch. These are changes since then, not damage: containers' own layers and\n\
             configurations, tags, and what Docker removed. They do not count as differences; what they were is in the old store."
        );
        listed(out, &r.changed_since);
        let _ = writeln!(out, "{} since the switch", text::plural(r.changed_since.len(), "change"));
    }
}

/// At most [`SHOWN`] of each object.
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
