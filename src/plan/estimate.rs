//! What each target and mode would cost, from what was counted. Pure.
//!
//! Bytes are blocks on the disk, as `du` counts them, of everything that is made: layers, the driver's own files, Docker's metadata, and
//! the journal; on btrfs the nodes of its trees too ([`tree`]), as often as it keeps them, which is what `df` calls used. Time comes from the speed at which this host just read the same layers: nothing is written to find out.

pub mod tree;

use super::build::Found;
use super::elsewhere::Elsewhere;
use super::host::filesystem::{BTRFS, EXT, shares_extents};
use super::scan::Facts;
use super::shown::Shown;
use super::{Estimate, Mode, Options, Plan, PlanLayer};
use crate::disk::mounts::Room;
use crate::docker::driver::Role;
use crate::docker::driver::Target;
use crate::ids::LayerId;
use crate::store::Content;
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
    /// Bytes of items in the file system's own tree, where that is not set aside when the file system is made.
    pub items: u64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, c: Cost) {
        self.bytes += c.bytes;
        self.inodes += c.inodes;
        self.items += c.items;
    }
}

/// What small things take on a file system.
#[derive(Clone, Copy, Debug)]
struct Unit {
    block: u64,
    folder: u64,
    symlink: u64,
    /// Does it keep inodes, names and small files in trees that grow with them?
    tree: bool,
}

impl Unit {
    /// xfs and btrfs keep small folders and symlinks within the inode, btrfs small files too; ext4 gives each a block. A symlink of
    /// overlay2 has 72 bytes, more than the 59 that fit into an inode of ext4.
    fn of(room: &Room) -> Unit {
        let block = room.block.max(512);
        match room.magic {
            BTRFS => Unit { block, folder: 0, symlink: 0, tree: true },
            EXT => Unit { block, folder: block, symlink: block, tree: false },
            _ => Unit { block, folder: 0, symlink: 0, tree: false },
        }
    }

    fn items(&self, items: u64) -> u64 {
        if self.tree { items } else { 0 }
    }

    /// A folder with so many names of this length.
    fn full_folder(&self, names: usize, length: usize) -> Cost {
        let entries = (names * (length + 12)) as u64;
        let bytes = if self.folder == 0 { 0 } else { entries.div_ceil(self.block).max(1) * self.block };
        Cost { bytes, ..self.folder(8) }
    }

    /// A folder whose name has this length.
    fn folder(&self, name: u64) -> Cost {
        Cost { bytes: self.folder, inodes: 1, items: self.items(tree::inode(name)) }
    }

    fn folders(&self, n: u64) -> Cost {
        let one = self.folder(8);
        Cost { bytes: n * one.bytes, inodes: n, items: n * one.items }
    }

    /// A file with so many bytes, and a name of this length.
    fn file(&self, bytes: u64, name: u64) -> Cost {
        let items = self.items(tree::inode(name) + tree::content(bytes));
        let bytes = if self.tree && bytes <= tree::INLINE { 0 } else { self.rounded(bytes) };
        Cost { bytes, inodes: 1, items }
    }

    /// Some of the driver's own files: a line each.
    fn files(&self, n: u64) -> Cost {
        let one = self.file(64, 6);
        Cost { bytes: n * one.bytes, inodes: n, items: n * one.items }
    }

    /// A symlink of overlay2.
    fn link(&self) -> Cost {
        Cost { bytes: self.symlink, inodes: 1, items: self.items(tree::inode(26) + tree::content(72)) }
    }

    /// An empty file or a device.
    fn empty(&self, n: u64) -> Cost {
        Cost { bytes: 0, inodes: n, items: n * self.items(tree::inode(9)) }
    }

    fn rounded(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.block) * self.block
    }
}

/// Docker's metadata and our journal, the same for every target and mode.
fn paper(plan: &Plan, found: &Found<'_>) -> Cost {
    let unit = Unit::of(&found.host.new_room);
    let mut out = Cost::default();
    let length = |content: &Content| match content {
        Content::Same(path) | Content::Edited(path, _) => found.originals.get(path).map_or(1, |o| o.size),
        Content::Text(t) => t.len() as u64,
        // gzipped JSON: about a line of 60 bytes for a name of the layer
        Content::TarSplitOf(layer) => found.facts.get(layer).map_or(0, |f| (f.files + f.folders) * 60),
    };
    let name = |path: &str| path.rsplit('/').next().map_or(0, str::len) as u64;
    let mut folders = BTreeSet::new();
    for f in &plan.metadata {
        out += unit.file(length(&f.content), name(&f.path));
        let mut at = f.path.as_str();
        while let Some((dir, _)) = at.rsplit_once('/') {
            folders.insert(dir);
            at = dir;
        }
    }
    folders.iter().for_each(|dir| out += unit.folder(name(dir)));
    // image/ itself, and .unaufs/{new,old} with what is in them
    out += unit.folders(7);
    for c in &plan.containers {
        c.files.iter().for_each(|f| out += unit.file(length(&f.content), name(&f.path)));
        // in old/ the folders of containers/ whose files are parked
        out += unit.folder(64);
    }
    out += unit.file(journal(plan), 10);
    out += unit.empty(1);
    out += unit.file(super::switch::RESERVE, 7);
    out
}

/// SQLite's file: the plan is a row that runs over many pages of 4 KiB, the others share theirs.
fn journal(plan: &Plan) -> u64 {
    let (rows, row) = (plan.layers.len() as u64, 190);
    // the rows of the estimates are not there yet, about so long
    let text = length(plan) + 14 * 280;
    text * 4096 / 4088 + rows * row * 4 / 3 + (6 << 12)
}

/// What goes along to a root in another place.
fn carried(plan: &Plan, found: &Found<'_>) -> Cost {
    let unit = Unit::of(&found.host.new_room);
    let all = plan.elsewhere.as_ref().map(Elsewhere::total).unwrap_or_default();
    let (inodes, names) = (all.inodes + all.folders, all.files + all.folders);
    let content = tree::contents(all.small, all.inodes);
    let items = unit.items(inodes * tree::inode(0) + names * 3 * 12 + content);
    let folders = if unit.folder == 0 { 0 } else { all.folder_bytes.max(all.folders * unit.folder) };
    let files = all.allocated.saturating_sub(all.folder_bytes);
    let bytes = match (unit.tree, found.host.far()) {
        (false, _) => files,
        (true, true) => files.saturating_sub(all.small.allocated),
        // within a btrfs extents are shared
        (true, false) => 0,
    };
    Cost { bytes: bytes + folders, inodes, items }
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

/// A row for each target and mode.
pub fn all(plan: &Plan, found: &Found<'_>) -> Vec<Estimate> {
    let (options, layers) = (&plan.options, &plan.layers[..]);
    let mut fixed = paper(plan, found);
    fixed += carried(plan, found);
    let along = plan.elsewhere.as_ref().map_or(0, |e| e.total().bytes);
    let chosen = chosen(found, options);
    let rows = Rows { sums: Sums::of(layers, found), layers, found, options, fixed, along, chosen };
    let mut out = Vec::new();
    for to in Target::ALL {
        for mode in [Mode::Link, Mode::Clone, Mode::Copy] {
            out.push(rows.row(to, mode));
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
        _ => {}
    }
    match mode {
        // complete trees share the files of the layer below, wherever they lie
        Mode::Link if elsewhere && matches!(to, Target::Overlay | Target::Vfs) => None,
        Mode::Link if elsewhere => Some("the target is another file system".to_owned()),
        Mode::Clone if !shares_extents(magic) => Some(format!("{} shares no extents", host.new_fs)),
        Mode::Clone if elsewhere && !matches!(to, Target::Overlay | Target::Vfs) => {
            Some("the target is another file system".to_owned())
        }
        _ => None,
    }
}

/// What the rows have in common.
struct Rows<'a> {
    sums: Sums<'a>,
    layers: &'a [PlanLayer],
    found: &'a Found<'a>,
    options: &'a Options,
    /// What does not depend on target and mode.
    fixed: Cost,
    /// Bytes of content that go along with the layers.
    along: u64,
    /// The mode that image layers come to.
    chosen: Mode,
}

impl Rows<'_> {
    fn row(&self, driver: Target, mode: Mode) -> Estimate {
        let Rows { sums, layers, found, .. } = self;
        let room = &found.host.new_room;
        let unit = Unit::of(room);
        let far = found.host.far();
        // a copy within a btrfs shares extents too: copy_file_range(2) sees to that
        let how = if mode == Mode::Copy && room.magic == BTRFS && !far { Mode::Clone } else { mode };
        let mut made = match driver {
            Target::Overlay2 => overlay2(sums, layers, unit, how),
            Target::Overlay => overlay(sums, layers, unit, (how, far)),
            Target::Vfs => vfs(sums, layers, unit, (how, far)),
            Target::Btrfs => btrfs(sums, layers, unit, how),
        };
        let mut cost = self.fixed;
        cost += made.cost;
        if unit.tree {
            cost.items += made.names * tree::name(12);
            cost.bytes += (made.nodes + tree::bytes(cost.items)) * room.tree_copies;
        }
        let never = impossible(found, self.options, driver, mode);
        let missing = cost.bytes.saturating_sub(room.free_bytes);
        let no_inodes = room.free_inodes.map_or(0, |free| cost.inodes.saturating_sub(free));
        let why_not = never.clone().or_else(|| match (missing, no_inodes) {
            (0, 0) => None,
            (0, n) => Some(format!("{} inodes too few", crate::text::count(n))),
            (n, _) => Some(format!("{} too little", crate::text::size(n))),
        });
        made.written += self.along;
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
            chosen: self.options.to == driver && mode == self.chosen,
        }
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
    /// Bytes of nodes in trees of its own.
    nodes: u64,
    /// Bytes of items in the file system's tree for an inode of the layers; none where it has no such tree.
    per_inode: f64,
    /// The part of the content that lies in that tree.
    small_part: f64,
    /// Bytes of content for a byte of disk.
    filled: f64,
}

/// The layers' numbers.
pub struct Sums<'a> {
    facts: BTreeMap<&'a LayerId, (&'a Facts, Shown)>,
    names: u64,
    counted: bool,
    /// Bytes of items that an inode of these layers has in a btrfs.
    items_per_inode: f64,
    /// The part of the bytes that lies in files which a btrfs keeps in its tree.
    small_part: f64,
    /// Bytes of content for a byte of disk: the rest are the ends of blocks.
    filled: f64,
}

impl<'a> Sums<'a> {
    fn of(layers: &'a [PlanLayer], found: &Found<'_>) -> Sums<'a> {
        let shown = |l: &PlanLayer| found.shown.get(&l.id).copied().unwrap_or_default();
        let facts: BTreeMap<_, _> = layers.iter().map(|l| (&l.id, (&l.facts, shown(l)))).collect();
        let names = layers.iter().map(|l| l.facts.files + l.facts.folders).sum();
        let counted = facts.values().all(|(_, s)| s.counted);
        let sum = |of: &dyn Fn(&Facts) -> u64| layers.iter().map(|l| of(&l.facts)).sum::<u64>().max(1) as f64;
        let items_per_inode = sum(&tree::layer) / sum(&|f| f.inodes + f.folders);
        let small_part = sum(&|f| f.small.allocated) / sum(&|f| f.allocated);
        let filled = (sum(&|f| f.bytes) / sum(&|f| f.allocated)).min(1.0);
        Sums { facts, names, counted, items_per_inode, small_part: small_part.min(1.0), filled }
    }

    fn shown(&self, id: &LayerId) -> Shown {
        self.facts.get(id).map(|(_, s)| *s).unwrap_or_default()
    }

    fn facts(&self, id: &LayerId) -> Option<&'a Facts> {
        self.facts.get(id).map(|(f, _)| *f)
    }

    /// On btrfs: of a parent that is built with it, and not of one that was there before.
    fn is_snapshot(&self, l: &PlanLayer) -> bool {
        l.lowers.first().is_some_and(|parent| self.facts(parent).is_some())
    }
}

impl Made {
    fn on(unit: Unit, sums: &Sums<'_>) -> Made {
        match unit.tree {
            true => Made {
                per_inode: sums.items_per_inode,
                small_part: sums.small_part,
                filled: sums.filled,
                ..Made::default()
            },
            false => Made { filled: sums.filled, ..Made::default() },
        }
    }

    /// Files of a layer's own, or of a whole view: linked, with shared extents, or written.
    fn files(&mut self, inodes: u64, names: u64, bytes: u64, role: Role, mode: Mode) {
        match (mode, role.writable()) {
            (Mode::Link, false) => {
                self.shared += bytes;
                self.names += names;
            }
            (Mode::Clone, _) => {
                self.shared += self.outside(bytes);
                self.cost += Cost { bytes: 0, inodes, items: self.items(inodes) };
            }
            _ => {
                // a checksum of 4 bytes for each 4 KiB
                let items = if self.per_inode > 0.0 { self.items(inodes) + bytes / 1024 } else { 0 };
                self.cost += Cost { bytes: self.outside(bytes), inodes, items };
                self.written += (bytes as f64 * self.filled) as u64;
            }
        }
    }

    fn folders(&mut self, folders: u64, bytes: u64, unit: Unit) {
        self.cost +=
            Cost { bytes: if unit.folder == 0 { 0 } else { bytes }, inodes: folders, items: self.items(folders) };
    }

    /// Of this content, what lies outside of the file system's tree.
    fn outside(&self, bytes: u64) -> u64 {
        (bytes as f64 * (1.0 - self.small_part)) as u64
    }

    fn items(&self, inodes: u64) -> u64 {
        (inodes as f64 * self.per_inode) as u64
    }
}

fn overlay2(sums: &Sums<'_>, layers: &[PlanLayer], unit: Unit, mode: Mode) -> Made {
    let mut m = Made::on(unit, sums);
    m.cost += unit.full_folder(layers.len(), 64);
    m.cost += unit.full_folder(layers.len(), 26);
    for l in layers {
        let (f, below) = (&l.facts, u64::from(!l.lowers.is_empty()));
        // <id>/ and diff/; with something below work/ and merged/
        m.cost += unit.folders(1 + 2 * below);
        // link, lower
        m.cost += unit.files(1 + below);
        m.cost += unit.link();
        // committed is empty
        m.cost += unit.empty(u64::from(l.has_child));
        // whiteouts are names of one device, split at the file system's limit on links
        m.cost += unit.empty(sums.shown(&l.id).whiteouts.div_ceil(60_000));
        m.folders(f.folders + 1, f.folder_bytes, unit);
        m.files(f.inodes, f.files, f.allocated, l.role, mode);
    }
    m
}

fn overlay(sums: &Sums<'_>, layers: &[PlanLayer], unit: Unit, (mode, far): (Mode, bool)) -> Made {
    let own = if far { Mode::Copy } else { mode };
    let mut m = Made::on(unit, sums);
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
            m.cost += unit.empty(1 + sums.shown(&l.id).whiteouts.div_ceil(60_000));
        } else {
            m.cost += unit.folders(1);
            flat(&mut m, l, sums.shown(&l.id), unit, (mode, far));
        }
    }
    m
}

fn vfs(sums: &Sums<'_>, layers: &[PlanLayer], unit: Unit, how: (Mode, bool)) -> Made {
    let mut m = Made::on(unit, sums);
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
        Mode::Link if !l.role.writable() => {
            m.files(f.inodes, f.files, f.allocated, l.role, if far { Mode::Copy } else { mode });
            m.names += below;
        }
        Mode::Clone if far => {
            m.files(f.inodes, f.files, f.allocated, l.role, Mode::Copy);
            m.cost += Cost { bytes: 0, inodes: below, items: m.items(below) };
        }
        Mode::Clone if !far => m.files(shown.inodes, shown.inodes, shown.allocated, l.role, mode),
        _ => m.files(shown.inodes, shown.inodes, shown.allocated, l.role, Mode::Copy),
    }
}

/// Each layer is a snapshot of its parent, changed. What it holds itself lies in trees of its own. What stands on a layer that the target's own
/// store keeps is no snapshot: it is written whole.
fn btrfs(sums: &Sums<'_>, layers: &[PlanLayer], unit: Unit, mode: Mode) -> Made {
    let mut m = Made { per_inode: 0.0, ..Made::on(unit, sums) };
    m.nodes = tree::snapshots(sums, layers);
    m.cost += unit.folders(2);
    for l in layers {
        if sums.is_snapshot(l) {
            let f = &l.facts;
            m.folders(f.folders + 1, 0, unit);
            m.files(f.inodes, f.files, f.allocated, l.role, mode);
        } else {
            let shown = sums.shown(&l.id);
            m.folders(shown.folders + 1, 0, unit);
            m.files(shown.inodes, shown.inodes, shown.allocated, l.role, mode);
        }
    }
    m
}
