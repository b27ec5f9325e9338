//! The switch forwards: the renames of the plan, each atomic, each recognisable as done by looking.
//!
//! A rename is done when its source is gone and its target is there. The guard keeps every Docker out until the last one is durable; what
//! a Docker made in spite of it is set aside and named. The stage's directories stay after the switch: the way back then makes none,
//! on a disk that may be full.

use super::guard::{self, Guard};
use super::identity::{Course, Place};
use crate::disk::Dir;
use crate::error::{Error, Result};
use crate::plan::Why;
use crate::progress::Progress;
use std::collections::HashSet;

/// Does the renames that are not done yet, then makes them durable. Gives what was in the way and where it is now.
pub fn forward(root: &Dir, course: &Course, progress: &dyn Progress) -> Result<Vec<String>> {
    let mut aside = Vec::new();
    // Docker may have run on it since
    if course.place(root)? == Place::After {
        return Ok(aside);
    }
    crate::verify::since::unmark(root)?;
    let guard = Guard::of(root, &course.id);
    guard.shut(&mut aside)?;
    let installed: HashSet<&str> =
        course.switch.iter().filter(|m| m.why == Why::Install).map(|m| m.to.as_str()).collect();
    for m in &course.switch {
        let (from, to) = (guard::behind(&m.from), guard::behind(&m.to));
        match (root.has(&from)?, root.has(&to)?) {
            (true, false) => root.rename_new(&from, root, &to)?,
            (false, true) => {}
            // a parked path is free for the new object: `config.v2.json` is there again once it is installed
            (true, true) if m.why == Why::Park && installed.contains(m.from.as_str()) => {}
            (true, true) if m.why == Why::Park => aside.push(guard::set_aside(root, &from, &m.from)?),
            (true, true) => {
                aside.push(guard::set_aside(root, &to, &m.to)?);
                root.rename_new(&from, root, &to)?;
            }
            (false, false) => {
                return Err(Error::corrupt(format!("neither {} nor {} is there", m.from, m.to))
                    .hint("`unaufs rollback` puts back what can be put back."));
            }
        }
        progress.step(&m.to);
    }
    root.sync_fs()?;
    guard.open(&mut aside)?;
    // after the last rename in ROOT, which would pass for a start of Docker
    crate::verify::since::mark(root, &course.id)?;
    root.sync_fs()?;
    Ok(aside)
}
