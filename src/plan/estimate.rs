//! What each target and mode would cost, from what was counted. Pure.
//!
//! Bytes are blocks on the disk, as `du` counts them, of everything that is made: layers, the driver's own files, Docker's metadata, and
//! the journal. Time comes from the speed at which this host just read the same layers: nothing is written to find out.

use super::build::Found;
use super::elsewhere::Elsewhere;
use super::host::filesystem::{BTRFS, EXT, XFS, shares_extents};
use super::scan::Facts;
use super::shown::Shown;
use super::{Estimate, Mode, Options, PlanContainer, PlanFile, PlanLayer};
use crate::disk::mounts::Room;
use crate::ids::LayerId;
use crate::store::{Content, Role};
use crate::target::Target;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::time::Duration;

/// How fast the layers were read.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Microseconds a name, all threads together.
    pub per_name: f64,
}

impl Pace {
    /// From the time that counting took. Small stores say little: the result stays within what disks do.
    pub fn of<'a>(took: Duration, facts: impl Iterator<Item = &'a Facts>) -> Pace {
        let names: u64 = facts.map(|f| f.files + f.folders + f.whiteouts).sum();
        let per_name = took.as_secs_f64() * 1e6 / names.max(1) as f64;
        Pace { per_name: if names < 1000 { 5.0 } else { per_name.clamp(1.0, 500.0) } }
    }
}

/// Blocks and inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, c: Cost) {
        self.bytes += c.bytes;
        self.inodes += c.inodes;
    }
}

/// What small things take on a file system.
#[derive(Clone, Copy, Debug)]
struct Unit {
    block: u64,
    folder: u64,
    file: u64,
    symlink: u64,
    /// What an inode with its name takes in the file system's own tree, where that is not set aside when the file system is made.
    inode: u64,
    /// Files up to this length lie in the tree.
    within: u64,
}

impl Unit {
    /// xfs and btrfs keep small folders and symlinks within the inode, btrfs small files too; ext4 gives each a block. A symlink of
    /// overlay2 has 72 bytes, more than the 59 that fit into an inode of ext4.
    fn of(room: &Room) -> Unit {
        let block = room.block.max(512);
        match room.magic {
            // an inode item, its reference, two entries of its folder and an extent are about 370 bytes, and leaves are not full
            BTRFS => Unit { block, folder: 0, file: 0, symlink: 0, inode: 420, within: 2048 },
            XFS => Unit { block, folder: 0, file: block, symlink: 0, inode: 0, within: 0 },
            EXT => Unit { block, folder: block, file: block, symlink: block, inode: 0, within: 0 },
            _ => Unit { block, folder: 0, file: block, symlink: 0, inode: 0, within: 0 },
        }
    }

    /// The content of a file.
    fn content(&self, bytes: u64) -> u64 {
        if bytes <= self.within { bytes } else { self.rounded(bytes) }
    }

    /// A folder with so many names of this length.
    fn full_folder(&self, names: usize, length: usize) -> Cost {
        let entries = (names * (length + 12)) as u64;
        let bytes = if self.folder == 0 { 0 } else { entries.div_ceil(self.block).max(1) * self.block };
        Cost { bytes, inodes: 1 }
    }

    fn folders(&self, n: u64) -> Cost {
        Cost { bytes: n * self.folder, inodes: n }
    }

    fn files(&self, n: u64) -> Cost {
        Cost { bytes: n * self.file, inodes: n }
    }

    fn rounded(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.block) * self.block
    }
}

/// Docker's metadata and our journal, the same for every target and mode.
pub fn paper(found: &Found<'_>, metadata: &[PlanFile], containers: &[PlanContainer], rest: &impl Serialize) -> Cost {
    let unit = Unit::of(&found.host.new_room);
    let mut out = Cost::default();
    let file = |content: &Content| match content {
        Content::Same(path) | Content::Edited(path, _) => unit.content(found.sizes.get(path).copied().unwrap_or(1)),
        Content::Text(t) => unit.content(t.len() as u64),
        // gzipped JSON: about a line of 60 bytes for a name of the layer
        Content::TarSplitOf(layer) => unit.content(found.facts.get(layer).map_or(0, |f| (f.files + f.folders) * 60)),
    };
    let mut folders = BTreeSet::new();
    for f in metadata {
        out += Cost { bytes: file(&f.content), inodes: 1 };
        let mut at = f.path.as_str();
        while let Some((dir, _)) = at.rsplit_once('/') {
            folders.insert(dir);
            at = dir;
        }
    }
    out += unit.folders(folders.len() as u64 + 1);
    for c in containers {
        c.files.iter().for_each(|f| out += Cost { bytes: file(&f.content), inodes: 1 });
    }
    // .unaufs/{new,old}, and in old/ the folders of containers/ whose files are parked
    out += unit.folders(containers.len() as u64 + 6);
    // the whole plan is about 1.7 times these parts, and SQLite keeps the room of the row before its last change
    let journal = length(&(metadata, containers, rest)) * 7 / 2 + (16 << 10);
    out += Cost { bytes: unit.rounded(journal), inodes: 1 };
    out += Cost { bytes: crate::engine::reserve::BYTES, inodes: 1 };
    out
}

/// What goes along to a root in another place.
pub fn carried(elsewhere: Option<&Elsewhere>) -> Cost {
    let total = elsewhere.map(Elsewhere::total).unwrap_or_default();
    Cost { bytes: total.allocated, inodes: total.inodes + total.folders }
}

/// The length of a value as JSON, without keeping it.
fn length(value: &impl Serialize) -> u64 {
    struct Count(u64);
    impl std::io::Write for Count {
        fn write(&mut self, b: &[u8]) -> std::io::Result<usize> {
            self.0 += b.len() as u64;
            Ok(b.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // it counts only, so it cannot fail but for a value that is no JSON
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// A row for each target and mode. `along` are bytes of content that go along with the layers.
pub fn all(layers: &[PlanLayer], found: &Found<'_>, options: &Options, paper: &Cost, along: u64) -> Vec<Estimate> {
    let sums = Sums::of(layers, found);
    let chosen = chosen(found, options);
    let mut out = Vec::new();
    for to in Target::ALL {
        let modes = [Mode::Link, Mode::Clone, Mode::Copy, Mode::Move];
        // the others keep other trees than aufs: there is nothing to rename
        for mode in modes.into_iter().filter(|m| *m != Mode::Move || to == Target::Overlay2) {
            out.push(row(&sums, layers, found, options, to, mode, (*paper, along), options.to == to && mode == chosen));
        }
    }
    out
}

/// The mode that image layers come to: the first that can be used here of those that they may take.
fn chosen(found: &Found<'_>, options: &Options) -> Mode {
    let order: &[Mode] = match options.mode {
        Mode::Auto => &[Mode::Link, Mode::Clone],
        Mode::Link if options.to == Target::Btrfs => &[Mode::Clone],
        Mode::Link => &[Mode::Link],
        Mode::Clone => &[Mode::Clone],
        Mode::Copy => &[],
        Mode::Move => return Mode::Move,
    };
    order.iter().copied().find(|m| impossible(found, options, options.to, *m).is_none()).unwrap_or(Mode::Copy)
}

/// Why this driver and mode cannot be used here, room apart.
fn impossible(found: &Found<'_>, options: &Options, to: Target, mode: Mode) -> Option<String> {
    let host = &found.host;
    let magic = host.new_room.magic;
    let elsewhere = options.target.is_some() && host.far();
    match (to, mode) {
        (Target::Btrfs, _) if magic != BTRFS => {
            return Some(format!(
                "{} is {}: --target DIR on a btrfs",
                if elsewhere { "the target" } else { "the root" },
                host.new_fs
            ));
        }
        (Target::Btrfs, Mode::Link) => return Some("btrfs layers are subvolumes, which share no links".to_owned()),
        (Target::Overlay | Target::Vfs | Target::Btrfs, Mode::Move) => {
            return Some(format!("{to} keeps other trees than aufs: nothing to rename"));
        }
        _ => {}
    }
    match mode {
        // complete trees share the files of the layer below, wherever they lie
        Mode::Link if elsewhere && matches!(to, Target::Overlay | Target::Vfs) => None,
        Mode::Link | Mode::Move if elsewhere => Some("the target is another file system".to_owned()),
        Mode::Clone if !shares_extents(magic) => Some(format!("{} shares no extents", host.new_fs)),
        Mode::Clone if elsewhere && !matches!(to, Target::Overlay | Target::Vfs) => {
            Some("the target is another file system".to_owned())
        }
        _ => None,
    }
}

#[allow(clippy::too_many_arguments)]
fn row(
    sums: &Sums,
    layers: &[PlanLayer],
    found: &Found<'_>,
    options: &Options,
    driver: Target,
    mode: Mode,
    (paper, along): (Cost, u64),
    chosen: bool,
) -> Estimate {
    let room = &found.host.new_room;
    let unit = Unit::of(room);
    let far = found.host.far();
    // a copy within a btrfs shares extents too: copy_file_range(2) sees to that
    let how = if mode == Mode::Copy && room.magic == BTRFS && !far { Mode::Clone } else { mode };
    let made = match driver {
        Target::Overlay2 => overlay2(sums, layers, unit, how),
        Target::Overlay => overlay(sums, layers, unit, (how, far)),
        Target::Vfs => vfs(sums, layers, unit, (how, far)),
        Target::Btrfs => btrfs(sums, layers, unit, how),
    };
    let mut cost = paper;
    cost.bytes += paper.inodes * unit.inode;
    cost += made.cost;
    if driver != Target::Btrfs {
        // a further name is a reference and two entries
        cost.bytes += made.cost.inodes * unit.inode + made.names * unit.inode / 3;
    }
    let never = impossible(found, options, driver, mode);
    let missing = cost.bytes.saturating_sub(room.free_bytes);
    let no_inodes = room.free_inodes.map_or(0, |free| cost.inodes.saturating_sub(free));
    let why_not = never.clone().or_else(|| match (missing, no_inodes) {
        (0, 0) => None,
        (0, n) => Some(format!("{} inodes too few", crate::show::count(n))),
        (n, _) => Some(format!("{} too little", crate::show::size(n))),
    });
    let mut made = made;
    made.written += along;
    let (seconds_min, seconds_max) = time(found.pace, sums, cost, &made);
    Estimate {
        driver,
        mode,
        new_bytes: cost.bytes,
        new_inodes: cost.inodes,
        shared_bytes: made.shared,
        written_bytes: made.written,
        seconds_min,
        seconds_max,
        possible: never.is_none(),
        counted: sums.counted || matches!(driver, Target::Overlay2 | Target::Btrfs),
        fits: why_not.is_none(),
        why_not,
        chosen,
    }
}

/// From the pace of the scan: making a name costs about three times as much as looking at it, comparing it afterwards twice; content goes
/// at 80 to 400 MiB a second.
fn time(pace: Pace, sums: &Sums, cost: Cost, made: &Made) -> (u64, u64) {
    let looked = (made.names + cost.inodes) as f64 * 3.0 + (sums.names * 2 + made.names * 2) as f64;
    let seconds = looked * pace.per_name / 1e6;
    let content = made.written as f64 / (1 << 20) as f64;
    let min = seconds * 0.6 + content / 400.0;
    let max = seconds * 2.5 + content / 80.0 + 2.0;
    (min as u64, max.ceil() as u64)
}

/// What a target makes.
#[derive(Default)]
struct Made {
    cost: Cost,
    /// Bytes of disk shared with the old store.
    shared: u64,
    /// Bytes of content written.
    written: u64,
    /// Further names of old inodes.
    names: u64,
}

/// The layers' numbers.
struct Sums<'a> {
    facts: BTreeMap<&'a LayerId, (&'a Facts, Shown)>,
    names: u64,
    counted: bool,
}

impl<'a> Sums<'a> {
    fn of(layers: &'a [PlanLayer], found: &Found<'_>) -> Sums<'a> {
        let shown = |l: &PlanLayer| found.shown.get(&l.id).copied().unwrap_or_default();
        let facts: BTreeMap<_, _> = layers.iter().map(|l| (&l.id, (&l.facts, shown(l)))).collect();
        let names = layers.iter().map(|l| l.facts.files + l.facts.folders).sum();
        let counted = facts.values().all(|(_, s)| s.counted);
        Sums { facts, names, counted }
    }

    fn shown(&self, id: &LayerId) -> Shown {
        self.facts.get(id).map(|(_, s)| *s).unwrap_or_default()
    }

    fn facts(&self, id: &LayerId) -> Option<&'a Facts> {
        self.facts.get(id).map(|(f, _)| *f)
    }
}

impl Made {
    /// Files of a layer's own, or of a whole view: linked, with shared extents, or written.
    fn files(&mut self, inodes: u64, names: u64, bytes: u64, role: Role, mode: Mode) {
        match (mode, role.writable()) {
            (Mode::Link | Mode::Move, false) => {
                self.shared += bytes;
                self.names += names;
            }
            (Mode::Clone, _) => {
                self.shared += bytes;
                self.cost.inodes += inodes;
            }
            _ => {
                self.cost += Cost { bytes, inodes };
                self.written += bytes;
            }
        }
    }

    fn folders(&mut self, folders: u64, bytes: u64, unit: Unit) {
        self.cost += Cost { bytes: if unit.folder == 0 { 0 } else { bytes }, inodes: folders };
    }
}

fn overlay2(sums: &Sums<'_>, layers: &[PlanLayer], unit: Unit, mode: Mode) -> Made {
    let mut m = Made::default();
    m.cost += unit.full_folder(layers.len(), 64);
    m.cost += unit.full_folder(layers.len(), 26);
    for l in layers {
        let (f, below) = (&l.facts, u64::from(!l.lowers.is_empty()));
        // <id>/ and diff/; with something below work/ and merged/
        m.cost += unit.folders(1 + 2 * below);
        // link, lower
        m.cost += unit.files(1 + below);
        m.cost += Cost { bytes: unit.symlink, inodes: 1 };
        // committed is empty
        m.cost.inodes += u64::from(l.has_child);
        // whiteouts are names of one device, split at the file system's limit on links
        m.cost.inodes += sums.shown(&l.id).whiteouts.div_ceil(60_000);
        if mode == Mode::Move {
            // each marker is renamed into a folder beside the layer, and has a line in the record
            let markers = f.whiteouts + f.opaque.count + f.device_zero.count + f.overlay_xattrs.count;
            m.names += 2 * markers;
            m.cost += unit.folders(1 + markers.min(f.folders + 1));
            m.cost += Cost { bytes: unit.rounded(markers * 160 + 16), inodes: 1 };
            m.shared += f.allocated;
        } else {
            m.folders(f.folders + 1, f.folder_bytes, unit);
            m.files(f.inodes, f.files, f.allocated, l.role, mode);
        }
    }
    m
}

fn overlay(sums: &Sums<'_>, layers: &[PlanLayer], unit: Unit, (mode, far): (Mode, bool)) -> Made {
    let own = if far { Mode::Copy } else { mode };
    let mut m = Made::default();
    m.cost += unit.full_folder(layers.len(), 64);
    for l in layers {
        if l.role.writable() {
            // <id>/, work/, merged/, lower-id; upper/ of a container starts as a copy of its init layer's
            m.cost += unit.folders(3);
            m.cost += unit.files(1);
            let below = l.lowers.first().filter(|_| l.role == Role::Container).and_then(|i| sums.facts(i));
            for f in std::iter::once(&l.facts).chain(below) {
                m.folders(f.folders, f.folder_bytes, unit);
                m.files(f.inodes, f.files, f.allocated, l.role, own);
            }
            m.cost.inodes += 1 + sums.shown(&l.id).whiteouts.div_ceil(60_000);
        } else {
            m.cost += unit.folders(1);
            flat(&mut m, l, sums.shown(&l.id), unit, (mode, far));
        }
    }
    m
}

fn vfs(sums: &Sums<'_>, layers: &[PlanLayer], unit: Unit, how: (Mode, bool)) -> Made {
    let mut m = Made::default();
    m.cost += unit.full_folder(layers.len(), 64);
    m.cost += unit.folders(1);
    for l in layers {
        flat(&mut m, l, sums.shown(&l.id), unit, how);
    }
    m
}

/// A whole tree. That of an image layer shares what is not its own with the tree of its parent, or with the old store if that is on the
/// same file system; by mode copy it shares nothing.
fn flat(m: &mut Made, l: &PlanLayer, shown: Shown, unit: Unit, (mode, far): (Mode, bool)) {
    m.folders(shown.folders + 1, shown.folder_bytes, unit);
    let (f, below) = (&l.facts, shown.inodes.saturating_sub(l.facts.inodes));
    match mode {
        Mode::Link | Mode::Move if !l.role.writable() => {
            m.files(f.inodes, f.files, f.allocated, l.role, if far { Mode::Copy } else { mode });
            m.names += below;
        }
        Mode::Clone if far => {
            m.files(f.inodes, f.files, f.allocated, l.role, Mode::Copy);
            m.cost.inodes += below;
        }
        Mode::Clone if !far => m.files(shown.inodes, shown.inodes, shown.allocated, l.role, mode),
        _ => m.files(shown.inodes, shown.inodes, shown.allocated, l.role, Mode::Copy),
    }
}

/// Each layer is a snapshot of its parent, changed: only its own is new. Of the parent's tree those nodes are new that hold what changes,
/// and the one above them. What stands on a layer that the target's own store keeps is no snapshot: it is written whole.
fn btrfs(sums: &Sums<'_>, layers: &[PlanLayer], unit: Unit, mode: Mode) -> Made {
    const NODE: u64 = 16 << 10;
    let mut m = Made::default();
    m.cost += unit.folders(2);
    for l in layers {
        let (f, shown) = (&l.facts, sums.shown(&l.id));
        let leaves = ((shown.inodes + shown.folders) * unit.inode).div_ceil(NODE).max(1);
        let own = f.inodes + f.folders;
        let snapshot = l.lowers.first().is_some_and(|parent| sums.facts(parent).is_some());
        let changed = if snapshot { leaves.min(own + f.whiteouts + 1) } else { leaves };
        m.cost += Cost { bytes: (changed + 1) * NODE, inodes: 0 };
        if snapshot {
            m.folders(f.folders + 1, 0, unit);
            m.files(f.inodes, f.files, f.allocated, l.role, mode);
        } else {
            m.folders(shown.folders + 1, 0, unit);
            m.files(shown.inodes, shown.inodes, shown.allocated, l.role, mode);
        }
    }
    m
}
