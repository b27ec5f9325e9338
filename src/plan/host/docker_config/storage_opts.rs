//! Options for the storage driver. aufs takes any of them and obeys none, so a host can have had options of another driver for years; the
//! drivers of today end at one that they don't know.

use super::Told;
use super::command_lines::flags;
use crate::checks::Finding;
use crate::disk::{Dir, mounts};
use crate::docker::choice::Version;
use crate::docker::driver::Target;
use crate::error::Result;

/// Names those with which Docker does not start on the target: in daemon.json, and on command lines.
pub(super) fn check(
    told: &Told,
    root: &Dir,
    (to, version): (Target, Option<Version>),
    out: &mut Vec<Finding>,
) -> Result<()> {
    let in_json = told.config.storage_opts.iter().map(|o| (&told.file, o.clone()));
    let in_lines = told.lines.iter().flat_map(|(p, words)| flags(words, &["--storage-opt"]).map(move |o| (p, o)));
    for (place, option) in in_json.chain(in_lines) {
        let name = option.split('=').next().unwrap_or_default().trim().to_lowercase();
        let Some(why) = unfit(&name, to, version, quotas(root)?) else { continue };
        let what = format!("it sets the storage option {}: {why}", crate::text::text(&option));
        out.push(
            Finding::new("H07", crate::text::path(place), what)
                .fix("remove the storage option there before Docker starts")
                .effect("Docker doesn't start with this option"),
        );
    }
    Ok(())
}

/// Can the drivers limit sizes here?
fn quotas(root: &Dir) -> Result<bool> {
    let on = |m: mounts::Mount| m.super_options.split(',').any(|o| o == "pquota" || o == "prjquota");
    Ok(mounts::of(root.label())?.is_some_and(|m| m.fstype == "xfs" && on(m)))
}

/// Why the driver ends at the option.
fn unfit(name: &str, to: Target, version: Option<Version>, quota: bool) -> Option<String> {
    match (to, name) {
        (Target::Overlay2, "overlay2.size") | (Target::Vfs, "size") if quota => None,
        (Target::Overlay2, "overlay2.size") | (Target::Vfs, "size") => {
            Some("it needs xfs with project quotas".to_owned())
        }
        (Target::Overlay2, "overlay2.override_kernel_check") if version.is_some_and(|v| v < (24, 0)) => None,
        (Target::Overlay2, "overlay2.override_kernel_check") => Some("Docker 24 and later don't have it".to_owned()),
        (Target::Btrfs, "btrfs.min_space") => None,
        _ => Some(format!("{to} doesn't have it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What dockerd 20.10.24 and 28.5.2 did with each.
    #[test]
    fn options_that_a_driver_does_not_know() {
        for (name, to, version, quota, fits) in [
            ("dm.basesize", Target::Overlay2, (20, 10), false, false),
            ("overlay.override_kernel_check", Target::Overlay2, (20, 10), false, false),
            ("overlay2.override_kernel_check", Target::Overlay2, (20, 10), false, true),
            ("overlay2.override_kernel_check", Target::Overlay2, (28, 5), false, false),
            ("overlay2.size", Target::Overlay2, (20, 10), false, false),
            ("overlay2.size", Target::Overlay2, (20, 10), true, true),
            ("btrfs.min_space", Target::Btrfs, (28, 5), false, true),
            ("btrfs.min_space", Target::Overlay2, (28, 5), false, false),
            ("overlay2.size", Target::Vfs, (28, 5), true, false),
            ("overlay2.size", Target::Overlay, (20, 10), true, false),
        ] {
            assert_eq!(unfit(name, to, Some(version), quota).is_none(), fits, "{name} {to} {version:?} {quota}");
        }
        assert!(unfit("overlay2.override_kernel_check", Target::Overlay2, None, false).is_some());
    }
}
