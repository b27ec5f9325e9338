//! Findings about what the layers hold, how they are stacked, and whether the result fits. Pure.

use super::build::Found;
use super::host::filesystem;
use super::quirks::Quirk;
use super::{Estimate, PlanContainer, PlanLayer, scan};
use crate::checks::Finding;
use crate::docker::driver::{self, Target};
use crate::ids::LayerId;
use crate::store::Store;

use std::collections::BTreeMap;

/// A finding a kind, with the layers and the first paths.
pub fn layers(layers: &[PlanLayer], to: Target, found: &Found<'_>, checks: &mut Vec<Finding>) {
    let limit = filesystem::most_names(found.host.new_room.magic);
    for l in layers {
        let f = &l.facts;
        let subject = format!("layer {}", l.id.short());
        let mut note = |id: &'static str, list: &scan::Paths, what: &str, effect: &str| {
            if list.count > 0 {
                let first: Vec<String> =
                    list.first.iter().take(3).map(|p| format!("/{}", crate::text::bytes(p))).collect();
                let more = if list.count > 3 { format!(" and {} more", list.count - 3) } else { String::new() };
                let what = format!("{what}: {}{more}", first.join(", "));
                checks.push(Finding::new(id, subject.clone(), what).effect(effect));
            }
        };
        let overlay = matches!(to, Target::Overlay2 | Target::Overlay);
        let left_out = |what: &str| match overlay {
            true => format!("left out: on {to} it would {what}"),
            false => format!("kept: {to} can hold it"),
        };
        note("L03", &f.device_zero, "character device 0:0", &left_out("mean a deletion"));
        note("L04", &f.overlay_xattrs, "trusted.overlay.* as data", &left_out("be obeyed"));
        note("L05", &f.beside, "a whiteout beside the name itself", "the file is kept, and hides what lies below");
        let long = "longer than 242 bytes: listed by aufs, lookup fails";
        note("L07", &f.long_names, long, "they can be opened after the migration");
        note("L09", &f.odd_whiteouts, "whiteouts that are not empty files", "taken as whiteouts, as Docker does");
        for (kind, list) in &f.internal {
            note("L01", list, kind.describe(), "not part of the layer, and not moved");
        }
        if let Some(limit) = limit.filter(|limit| f.most_names >= *limit) {
            let what = format!("a file with {} names; the limit is {limit}", crate::text::count(f.most_names));
            checks.push(Finding::new("L10", subject.clone(), what).effect("copied instead of linked"));
        }
        let shown = found.shown.get(&l.id).copied().unwrap_or_default();
        let idle = if shown.counted { f.whiteouts.saturating_sub(shown.whiteouts) } else { 0 };
        if idle > 0 {
            let what = format!("{} of what no layer below shows", crate::text::plural(idle as usize, "whiteout"));
            checks.push(Finding::new("L08", subject.clone(), what).effect("left out; nothing is seen of it"));
        }
        if f.opaque_root {
            checks.push(Finding::new("L02", subject, "an opaque mark on the layer's root").effect("none, as on aufs"));
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
        let first: Vec<String> = list.iter().take(3).map(|q| crate::text::bytes(&q.path)).collect();
        let more = if list.len() > 3 { format!(" and {} more", list.len() - 3) } else { String::new() };
        checks.push(
            Finding::new(
                "L06",
                format!("layer {}", layer.short()),
                format!("shown by aufs only: {}{more}", first.join(", ")),
            )
            .effect("not shown after the migration, as on every other driver"),
        );
    }
}

/// Stacks that the target cannot mount.
pub fn deep(store: &Store, to: Target, checks: &mut Vec<Finding>) {
    if to != Target::Overlay2 {
        return;
    }
    for l in store.layers.values().filter(|l| l.lowers.len() > driver::MAX_LOWERS) {
        let what = format!("{} layers below it; overlay2 takes {}", l.lowers.len(), driver::MAX_LOWERS);
        checks.push(
            Finding::new("T06", format!("layer {}", l.id.short()), what)
                .fix("export it, and import the result as one layer; or --to vfs")
                .effect("it stays behind, with what stands on it"),
        );
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
                f.message = "it runs".to_owned();
                f.fix = Some(format!("docker stop {name}"));
                f.effect = Some("Docker has to stop before `migrate`, and this container with it".to_owned());
            }
            "H01" if !running.is_empty() => {
                const SHOWN: usize = 5;
                let names: Vec<String> = running.iter().take(SHOWN).map(|c| crate::text::text(&c.name)).collect();
                let more = running.len().saturating_sub(SHOWN);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                f.effect = Some(format!("these containers have to stop: {}{more}", names.join(", ")));
            }
            _ => {}
        }
    }
}

/// Does what was chosen fit?
pub fn space(estimates: &[Estimate], checks: &mut Vec<Finding>) {
    for e in estimates.iter().filter(|e| e.chosen && !e.fits && e.possible) {
        let why = e.why_not.clone().unwrap_or_default();
        let id = if why.contains("inodes") { "H06" } else { "H05" };
        let fix = match id {
            "H05" => "make room; or --mode link or move, which need little; or --target DIR on another disk",
            _ => "--target DIR on another disk, or a mode that makes fewer files",
        };
        checks.push(Finding::new(id, "the disk", why).fix(fix).effect("the migration would stop half way"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(fits: bool, possible: bool, why: &str) -> Estimate {
        let why_not = (!fits).then(|| why.to_owned());
        let (driver, mode) = (Target::Overlay2, crate::plan::Mode::Copy);
        let (seconds_min, seconds_max) = (0, 1);
        let (new_bytes, new_inodes, shared_bytes, written_bytes) = (1, 1, 0, 1);
        Estimate {
            driver,
            mode,
            new_bytes,
            new_inodes,
            shared_bytes,
            written_bytes,
            seconds_min,
            seconds_max,
            possible,
            counted: true,
            fits,
            why_not,
            chosen: true,
        }
    }

    #[test]
    fn room() {
        for (e, want) in [
            (estimate(true, true, ""), None),
            (estimate(false, true, "3.0 GiB too little"), Some("H05")),
            (estimate(false, true, "7 inodes too few"), Some("H06")),
            (estimate(false, false, "ext4 shares no extents"), None),
        ] {
            let mut checks = Vec::new();
            space(&[e], &mut checks);
            assert_eq!(checks.first().map(|c| c.id.as_str()), want);
        }
    }
}
