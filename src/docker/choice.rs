//! Which storage driver a dockerd starts on where nothing names one: the one rule of its graphdriver package, by version.
//!
//! | version       | looks at these, in this order                                             | an empty directory counts |
//! |---------------|---------------------------------------------------------------------------|---------------------------|
//! | 1.6 to 1.12   | aufs, btrfs, zfs, devicemapper, overlay                                   | yes                       |
//! | 1.13 to 17.11 | aufs, btrfs, zfs, overlay2, overlay, devicemapper                         | yes                       |
//! | 17.12 on      | btrfs, zfs, overlay2, aufs, overlay, devicemapper                         | no                        |
//! | 20.10         | btrfs, zfs, overlay2, fuse-overlayfs, aufs, overlay, devicemapper         | no                        |
//! | 23            | overlay2, fuse-overlayfs, btrfs, zfs, aufs, overlay, devicemapper         | no                        |
//! | 24            | overlay2, fuse-overlayfs, btrfs, zfs, devicemapper                        | no                        |
//! | 25 on         | overlay2, fuse-overlayfs, btrfs, zfs                                      | no                        |
//!
//! One that is there is started on; with a second one dockerd ends ("contains several valid graphdrivers"). vfs never counts. Docker 1.12
//! has overlay2, counts it as a second one, and does not look for it. From 23 on aufs, overlay and devicemapper have to be named, and 29
//! uses containerd's store where no driver is there (FORMATS 9.2, 9.3). A build may lack a driver, as
//! Debian's 28.5 lacks zfs: then its directory does not count.

use serde::{Deserialize, Serialize};

/// Major and minor version of a dockerd.
pub type Version = (u32, u32);

/// A directory of a driver in the data root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// Nothing is in it.
    Empty,
    /// Something is in it, or it is no directory.
    Filled,
}

/// What a dockerd does at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// It uses this driver's store.
    Starts(String),
    /// It ends: these are all there.
    Several(Vec<String>),
    /// It ends: this one is deprecated and has to be named.
    Unnamed(String),
    /// It finds no store, and begins an empty one.
    Fresh,
}

struct Row {
    since: Version,
    order: &'static [&'static str],
    /// Drivers that it has and does not look for.
    besides: &'static [&'static str],
}

const ROWS: [Row; 8] = [
    Row { since: (25, 0), order: &["overlay2", "fuse-overlayfs", "btrfs", "zfs"], besides: &[] },
    Row { since: (24, 0), order: &["overlay2", "fuse-overlayfs", "btrfs", "zfs", "devicemapper"], besides: &[] },
    Row {
        since: (23, 0),
        order: &["overlay2", "fuse-overlayfs", "btrfs", "zfs", "aufs", "overlay", "devicemapper"],
        besides: &[],
    },
    Row {
        since: (20, 10),
        order: &["btrfs", "zfs", "overlay2", "fuse-overlayfs", "aufs", "overlay", "devicemapper"],
        besides: &[],
    },
    Row { since: (17, 12), order: &["btrfs", "zfs", "overlay2", "aufs", "overlay", "devicemapper"], besides: &[] },
    Row { since: (1, 13), order: &["aufs", "btrfs", "zfs", "overlay2", "overlay", "devicemapper"], besides: &[] },
    Row { since: (1, 12), order: &["aufs", "btrfs", "zfs", "devicemapper", "overlay"], besides: &["overlay2"] },
    Row { since: (0, 0), order: &["aufs", "btrfs", "zfs", "devicemapper", "overlay"], besides: &[] },
];

/// Every driver with a directory that some dockerd looks for.
pub const LOOKED_FOR: [&str; 7] = ["aufs", "btrfs", "devicemapper", "fuse-overlayfs", "overlay", "overlay2", "zfs"];

/// The versions at which the answer can change, newest first.
pub fn turns() -> impl Iterator<Item = Version> {
    ROWS.iter().map(|row| row.since)
}

/// What a dockerd of this version does on a root with these directories, if nothing names a driver.
pub fn unnamed(version: Version, there: &[(&str, Home)]) -> Choice {
    // the last row begins with 0.0
    let row = ROWS.iter().find(|row| version >= row.since).unwrap_or(&ROWS[ROWS.len() - 1]);
    let counts = |name: &str| there.iter().any(|(n, home)| *n == name && (*home == Home::Filled || version < (17, 12)));
    let found: Vec<&str> = row.order.iter().copied().filter(|n| counts(n)).collect();
    let besides = row.besides.iter().copied().filter(|n| counts(n));
    let Some(first) = found.first() else { return Choice::Fresh };
    let all: Vec<String> = found.iter().copied().chain(besides).map(str::to_owned).collect();
    match *first {
        _ if all.len() > 1 => Choice::Several(all),
        "aufs" | "overlay" | "devicemapper" if version >= (23, 0) => Choice::Unnamed((*first).to_owned()),
        one => Choice::Starts(one.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Home::{Empty, Filled};

    #[test]
    fn dockerd_decides_by_what_is_there() {
        let starts = |d: &str| Choice::Starts(d.to_owned());
        let several = |d: &[&str]| Choice::Several(d.iter().map(|d| (*d).to_owned()).collect());
        for (version, there, want) in [
            ((28, 5), &[("overlay2", Filled)][..], starts("overlay2")),
            ((20, 10), &[("overlay2", Filled)], starts("overlay2")),
            ((1, 13), &[("overlay2", Filled)], starts("overlay2")),
            // it has overlay2 and never looks for it
            ((1, 12), &[("overlay2", Filled)], Choice::Fresh),
            ((1, 12), &[("overlay2", Filled), ("devicemapper", Filled)], several(&["devicemapper", "overlay2"])),
            ((1, 11), &[("overlay2", Filled), ("devicemapper", Filled)], starts("devicemapper")),
            ((28, 5), &[("overlay2", Filled), ("devicemapper", Filled)], starts("overlay2")),
            ((24, 0), &[("overlay2", Filled), ("devicemapper", Filled)], several(&["overlay2", "devicemapper"])),
            ((20, 10), &[("overlay2", Filled), ("devicemapper", Filled)], several(&["overlay2", "devicemapper"])),
            ((20, 10), &[("overlay2", Filled), ("devicemapper", Empty)], starts("overlay2")),
            ((17, 11), &[("overlay2", Filled), ("devicemapper", Empty)], several(&["overlay2", "devicemapper"])),
            ((28, 5), &[("overlay2", Filled), ("zfs", Filled)], several(&["overlay2", "zfs"])),
            ((19, 3), &[("overlay2", Filled), ("fuse-overlayfs", Filled)], starts("overlay2")),
            ((20, 10), &[("overlay2", Filled), ("vfs", Filled)], starts("overlay2")),
            ((24, 0), &[("overlay2", Filled), ("overlay", Filled)], starts("overlay2")),
            ((20, 10), &[("overlay", Filled)], starts("overlay")),
            ((23, 0), &[("overlay", Filled)], Choice::Unnamed("overlay".to_owned())),
            ((28, 5), &[("overlay", Filled)], Choice::Fresh),
            ((20, 10), &[("vfs", Filled)], Choice::Fresh),
        ] {
            assert_eq!(unnamed(version, there), want, "{version:?} {there:?}");
        }
    }
}
