//! Findings about what the layers hold, how they are stacked, and whether the result fits. Pure.

use super::build::Found;
use super::host::filesystem;
use super::quirks::Quirk;
use super::{Estimate, PlanContainer, PlanLayer, scan};
use crate::checks::{Finding, Level};
use crate::disk::mounts::Room;
use crate::docker::driver::{self, Target};
use crate::ids::LayerId;
use crate::store::Store;
use crate::text;

use std::collections::BTreeMap;

/// A finding a kind, with the layers and the first paths.
pub fn layers(layers: &[PlanLayer], to: Target, found: &Found<'_>, checks: &mut Vec<Finding>) {
    let limit = filesystem::most_names(found.host.new_room.magic);
    for l in layers {
        let f = &l.facts;
        let subject = format!("layer {}", l.id.short());
        let mut note = |id: &'static str, list: &scan::Paths, what: &str, effect: &str| {
            if list.count > 0 {
                let first = list.first.iter().take(3).map(|p| format!("/{}", text::bytes(p)));
                let what = format!("{what}: {}", text::few(first, list.count as usize));
                checks.push(Finding::new(id, subject.clone(), what).effect(effect));
            }
        };
        let overlay = matches!(to, Target::Overlay2 | Target::Overlay);
        let left_out = |what: &str| match overlay {
            true => format!("left out, because on {to} it would {what}"),
            false => format!("kept: {to} can hold it"),
        };
        note("L03", &f.device_zero, "character device 0:0", &left_out("mean a deletion"));
        note("L04", &f.overlay_xattrs, "trusted.overlay.* as data", &left_out("be obeyed"));
        note(
            "L05",
            &f.beside,
            "a whiteout next to a file of the same name",
            "the file is kept and hides the file below",
        );
        let long = "a name longer than 242 bytes, which aufs lists but can't open";
        note("L07", &f.long_names, long, "it can be opened after the migration");
        note("L09", &f.odd_whiteouts, "whiteouts that are not empty files", "treated as whiteouts, as Docker does");
        note(
            "L11",
            &f.fixed,
            "chattr +i or +a",
            "the new store doesn't set the attribute, so the files can be changed and deleted",
        );
        for (kind, list) in &f.internal {
            note("L01", list, kind.describe(), "not part of the layer; left out");
        }
        if let Some(limit) = limit.filter(|limit| f.most_names >= *limit) {
            let what = format!("a file with {} names; the limit is {limit}", text::count(f.most_names));
            checks.push(Finding::new("L10", subject.clone(), what));
        }
        if let Some(idle) = f.idle_whiteouts.filter(|n| *n > 0) {
            let idle = text::plural(idle as usize, "whiteout");
            let what = format!("{idle} for names that aren't in any layer below");
            checks.push(Finding::new("L08", subject.clone(), what));
        }
        if f.opaque_root {
            checks.push(Finding::new("L02", subject, "an opaque mark on the layer's root"));
        }
    }
}

/// A finding a layer for what only aufs showed.
pub fn quirks(quirks: &[Quirk], checks: &mut Vec<Finding>) {
    let mut by_layer: BTreeMap<&LayerId, Vec<&Quirk>> = BTreeMap::new();
    for q in quirks.iter().filter(|q| q.id == "L06") {
        by_layer.entry(&q.layer).or_default().push(q);
    }
    for (layer, list) in by_layer {
        let first = text::few(list.iter().take(3).map(|q| text::bytes(&q.path)), list.len());
        checks.push(Finding::new("L06", format!("layer {}", layer.short()), format!("shown by aufs only: {first}")));
    }
}

/// Stacks that the target cannot mount.
pub fn deep(store: &Store, to: Target, checks: &mut Vec<Finding>) {
    if to != Target::Overlay2 {
        return;
    }
    for l in store.layers.values().filter(|l| l.lowers.len() > driver::MAX_LOWERS) {
        let what =
            format!("it has {} layers below it, and overlay2 takes at most {}", l.lowers.len(), driver::MAX_LOWERS);
        checks.push(Finding::new("T06", format!("layer {}", l.id.short()), what));
    }
}

/// While Docker runs, what is marked as running does run, and has to stop first.
pub fn to_stop(containers: &[PlanContainer], docker_runs: bool, checks: &mut [Finding]) {
    if !docker_runs {
        return;
    }
    let running: Vec<&PlanContainer> = containers.iter().filter(|c| c.running).collect();
    for f in checks.iter_mut() {
        match f.id.as_str() {
            "C03" => {
                let name = if f.subject.name.is_empty() { f.subject.id.clone() } else { f.subject.name.clone() };
                f.message = "it is running".to_owned();
                f.fix = Some(format!("docker stop {name}"));
                f.effect = Some("stopping Docker stops this container too".to_owned());
            }
            "H01" if !running.is_empty() => {
                let names = text::few(running.iter().take(5).map(|c| text::text(&c.name)), running.len());
                f.effect = Some(format!("these containers are running: {names}"));
            }
            _ => {}
        }
    }
}

/// The options for a driver and mode that fit, if there are any: the same driver, then overlay2, then the others by space.
fn fitting(estimates: &[Estimate], chosen: &Estimate) -> Option<String> {
    let rank = |e: &Estimate| (e.driver != chosen.driver, e.driver != Target::Overlay2, e.new_bytes);
    let best = estimates.iter().filter(|e| e.possible && e.fits).min_by_key(|e| rank(e))?;
    let mode = best.mode.name();
    Some(match best.driver == chosen.driver {
        true => format!("--mode {mode}"),
        false => format!("--to {} --mode {mode}", best.driver),
    })
}

/// Does what was chosen fit?
pub fn space(estimates: &[Estimate], room: &Room, checks: &mut Vec<Finding>) {
    for e in estimates.iter().filter(|e| e.chosen && !e.fits && e.possible) {
        // layers that replace or delete each other's files can halve what a complete tree of each layer takes, hardly more
        let surely = |most: u64| if e.driver == Target::Overlay2 { most } else { most / 2 };
        let short_of_bytes = e.new_bytes > room.free_bytes;
        let bytes_block = surely(e.new_bytes) > room.free_bytes;
        let inodes_block = room.free_inodes.is_some_and(|free| surely(e.new_inodes) > free);
        let blocks = bytes_block || inodes_block;
        let (id, what) = match bytes_block || short_of_bytes && !inodes_block {
            true => ("H05", (text::size(e.new_bytes), text::size(room.free_bytes))),
            false => {
                let free = room.free_inodes.unwrap_or(u64::MAX);
                ("H06", (format!("{} inodes", text::count(e.new_inodes)), text::count(free)))
            }
        };
        let message = format!("it needs at most {}, and {} are free", what.0, what.1);
        let fix = match fitting(estimates, e) {
            Some(other) => format!("use {other}, which fits; or --target DIR on another disk"),
            None => "free some space, or use --target DIR on another disk".to_owned(),
        };
        let effect = if blocks {
            "the migration would stop before the switch"
        } else {
            "the migration may stop before the switch"
        };
        let level = if blocks { Level::Block } else { Level::Warn };
        checks.push(Finding::new(id, "the disk", message).level(level).fix(fix).effect(effect));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(driver: Target, new_bytes: u64, new_inodes: u64, possible: bool) -> Estimate {
        let fits = possible && new_bytes <= FREE && new_inodes <= FREE;
        Estimate {
            driver,
            mode: crate::plan::Mode::Copy,
            new_bytes,
            new_inodes,
            shared_bytes: 0,
            written_bytes: 1,
            seconds_min: 0,
            seconds_max: 1,
            possible,
            fits,
            why_not: (!fits).then(String::new),
            chosen: true,
        }
    }

    const FREE: u64 = 1000;

    #[test]
    fn what_clearly_does_not_fit_blocks() {
        let room = Room {
            free_bytes: FREE,
            total_bytes: FREE,
            free_inodes: Some(FREE),
            block: 4096,
            magic: 0,
            tree_copies: 1,
        };
        for (e, want) in [
            (estimate(Target::Overlay2, FREE, FREE, true), None),
            (estimate(Target::Overlay2, FREE + 1, 1, true), Some(("H05", Level::Block))),
            (estimate(Target::Overlay2, 1, FREE + 1, true), Some(("H06", Level::Block))),
            (estimate(Target::Overlay2, FREE + 1, 1, false), None),
            (estimate(Target::Vfs, FREE + 1, 1, true), Some(("H05", Level::Warn))),
            (estimate(Target::Vfs, 1, 2 * FREE, true), Some(("H06", Level::Warn))),
            (estimate(Target::Vfs, 2 * FREE + 2, FREE + 1, true), Some(("H05", Level::Block))),
            (estimate(Target::Vfs, FREE + 1, 2 * FREE + 2, true), Some(("H06", Level::Block))),
        ] {
            let mut checks = Vec::new();
            space(&[e], &room, &mut checks);
            assert_eq!(checks.first().map(|c| (c.id.as_str(), c.level)), want);
        }
    }
}
