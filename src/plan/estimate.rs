//! What each target and mode would cost, from the facts of the layers.

use super::host::Host;
use super::{Estimate, Mode, PlanLayer};
use crate::target::Target;

/// A row for each target and mode that makes sense on this file system.
pub fn all(layers: &[PlanLayer], host: &Host, to: Target, mode: Mode) -> Vec<Estimate> {
    let mut out = Vec::new();
    for m in [Mode::Link, Mode::Copy] {
        out.push(overlay2(
            layers,
            host,
            m,
            to == Target::Overlay2 && (mode == m || (mode == Mode::Auto && m == Mode::Link)),
        ));
    }
    out
}

fn overlay2(layers: &[PlanLayer], host: &Host, mode: Mode, chosen: bool) -> Estimate {
    let block = host.room.block.max(1024);
    let (mut bytes, mut inodes) = (0u64, 0u64);
    for l in layers {
        let f = &l.facts;
        // <id>/ diff/ link, and with a parent lower work/ merged/; l/LINK
        let own = if l.lowers.is_empty() { 4 } else { 7 };
        let folders = f.folders + own;
        let whiteout = u64::from(f.whiteouts > 0);
        inodes += folders + whiteout;
        bytes += folders * block;
        if mode == Mode::Copy || l.role.writable() {
            bytes += f.allocated;
            inodes += f.inodes;
        }
    }
    let fits_bytes = bytes < host.room.free_bytes;
    let fits_inodes = host.room.free_inodes.is_none_or(|free| inodes < free);
    let why_not = match (fits_bytes, fits_inodes) {
        (true, true) => None,
        (false, _) => Some("not enough space".to_owned()),
        (true, false) => Some("not enough inodes".to_owned()),
    };
    Estimate {
        driver: Target::Overlay2,
        mode,
        new_bytes: bytes,
        new_inodes: inodes,
        seconds_min: inodes / 100_000,
        seconds_max: 1 + inodes / 10_000 + bytes / (50 << 20),
        fits: why_not.is_none(),
        why_not,
        chosen,
    }
}
