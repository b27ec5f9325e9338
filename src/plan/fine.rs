//! The checks that were looked at and found nothing.

use crate::checks::{Check, Finding, TABLE};
use crate::docker::driver::Target;
use crate::store::Generation;

/// Adds a line of level ok for each check that found nothing. `unseen` are those that could not be looked at here.
pub fn add_fine(findings: &mut Vec<Finding>, generation: Generation, to: Target, unseen: &[&str]) {
    let fine: Vec<Finding> = TABLE
        .iter()
        .filter(|c| concerns(c, generation, to) && !unseen.contains(&c.id) && findings.iter().all(|f| f.id != c.id))
        .map(Check::fine)
        .collect();
    findings.extend(fine);
}

/// Does it make sense for this kind of store and this target? What does not is not reported as fine either.
fn concerns(check: &Check, generation: Generation, to: Target) -> bool {
    match check.id {
        id if id.starts_with('G') => generation == Generation::Graph,
        "L03" | "L04" | "H04" => matches!(to, Target::Overlay2 | Target::Overlay),
        "T06" => to == Target::Overlay2,
        _ => true,
    }
}
