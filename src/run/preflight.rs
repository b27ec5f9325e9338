//! The last look before the first rename: everything is looked at again, with the root locked.

use super::{Locked, stage};
use crate::checks::Level;
use crate::error::{Error, Kind, Result};
use crate::plan::{Plan, make};
use crate::progress::Progress;

/// A running Docker and its mounts do not matter while only image layers are prepared.
pub const IN_USE: [&str; 2] = ["H01", "H02"];
/// When a run continues, part of the new store is there already: whether the rest fits shows when it is built.
pub const ROOM: [&str; 2] = ["H05", "H06"];

/// The plan as it would be made now; an error if Docker runs, something is mounted, a rename would fail, or anything else blocks.
pub fn last_look(at: &Locked, run: i64, plan: &Plan, progress: &dyn Progress) -> Result<Plan> {
    let linked = stage::linked(&at.journal, run)?;
    let known = make::Earlier { lost: at.journal.lost(run)?, ..make::Earlier::again(plan, &linked) };
    let fresh = make::make(&at.old, &plan.options, &known, progress)?;
    blockers(&fresh, &ROOM)?;
    Ok(fresh)
}

/// The first blocking check as an error, with the exit code of its kind; `settled` are ids that do not count now.
pub fn blockers(plan: &Plan, settled: &[&str]) -> Result<()> {
    let counts = |id: &str| !settled.contains(&id);
    let blocks: Vec<_> = plan.checks.iter().filter(|c| c.level == Level::Block && counts(&c.id)).collect();
    let Some(first) = blocks.first() else { return Ok(()) };
    let kind = match first.id.as_str() {
        "H01" | "H02" => Kind::Busy,
        "H05" | "H06" => Kind::Space,
        "H04" | "T04" => Kind::Unsupported,
        _ => Kind::Blocked,
    };
    let all: Vec<String> = blocks.iter().map(|c| format!("{} {}: {}", c.id, c.subject, c.message)).collect();
    let mut e = Error::new(kind, all.join("; ")).loss("Nothing was changed.");
    if let Some(fix) = &first.fix {
        e = e.hint(crate::text::advice(fix));
    }
    Err(e)
}

/// What of the old store, and of the target's, is not what it was when `was` was made: what is built rests on these.
pub fn changes(was: &Plan, now: &Plan) -> Vec<String> {
    const NOT_BUILT_FROM: [&str; 4] = ["options", "root", "tool", "renames"];
    let mut out = now.fingerprint.changes_since(&was.fingerprint);
    out.retain(|line| !NOT_BUILT_FROM.iter().any(|k| line.starts_with(&format!("{k} "))));
    if out.is_empty() && was.switch != now.switch {
        out.push("the renames have changed".to_owned());
    }
    out
}
