//! What a verification found.

use crate::show;
use crate::verify::{Level, Report};
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
        let r = self.report;
        let mut out = format!(
            "compared ({})   {} views, {} names, {} of content, {} metadata files, {} digests rebuilt\n",
            self.level.name(),
            show::count(r.views),
            show::count(r.names),
            show::size(r.bytes),
            show::count(r.metadata),
            show::count(r.digests)
        );
        for (layer, why) in &r.unprovable {
            let _ = writeln!(out, "cannot be proved by digest: layer {}: {why}", super::short(layer));
        }
        let mut shown = 0;
        let mut last = "";
        for d in &r.differences {
            shown = if d.id == last { shown + 1 } else { 1 };
            last = &d.id;
            if shown <= SHOWN {
                let _ = writeln!(out, "  {d}");
            } else if shown == SHOWN + 1 {
                let _ = writeln!(out, "  … more of {}: --json has all", super::short(&d.id));
            }
        }
        let _ = match r.differences.len() {
            0 => writeln!(out, "the new store shows exactly what the old one holds"),
            n => writeln!(out, "{}", show::plural(n, "difference")),
        };
        out
    }
}
