//! What each target and mode takes at most, from the sums of the scan. Pure.
//!
//! Bytes are blocks on the disk, as `du` counts them, of everything that is made: layers, the driver's own files, Docker's metadata, and
//! the journal; on btrfs the file system's trees too, as often as it keeps them, as `df` counts them. Nothing is compared between layers: a
//! tree that a stack of layers gives holds at most what these layers hold together, so the numbers for vfs, overlay and btrfs are far too
//! high where layers replace or delete each other's files. Time comes from the speed at which this host just read the same layers.

use super::build::Found;
use super::host::filesystem::{self, BTRFS, EXT, shares_extents};
use super::new_root::NewRoot;
use super::scan::{self, Facts};
use super::{Estimate, Mode, Options, Plan, PlanLayer};
use crate::disk::mounts::Room;
use crate::docker::driver::{Role, Target};
use crate::ids::LayerId;
use crate::store::Content;
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};
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
        let names: u64 = facts.map(|f| f.files + f.directories + f.whiteouts).sum();
        let per_name = took.as_secs_f64() * 1e6 / names.max(1) as f64;
        Pace { per_name: if names < 1000 { 5.0 } else { per_name.clamp(1.0, 500.0) } }
    }
}

/// Bytes and inodes, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// Bytes of items in the trees of a btrfs.
    pub items: u64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, c: Cost) {
        self.bytes += c.bytes;
        self.inodes += c.inodes;
        self.items += c.items;
    }
}

/// What things take at most on a file system.
#[derive(Clone, Copy, Debug)]
struct Disk {
    block: u64,
    /// Bytes that an inode takes of the free space; ext4 sets them aside when the file system is made.
    inode: u64,
    /// Does it keep inodes, names and small files in trees (btrfs)?
    tree: bool,
}

/// Files up to this length are kept in the tree of a btrfs (mount option `max_inline`).
const INLINE: u64 = 2048;
/// Bytes of a node of a tree.
const NODE: u64 = 16 << 10;

impl Disk {
    fn of(room: &Room) -> Disk {
        let block = room.block.max(512);
        match room.magic {
            BTRFS => Disk { block, inode: 0, tree: true },
            EXT => Disk { block, inode: 0, tree: false },
            _ => Disk { block, inode: 1024, tree: false },
        }
    }

    fn inodes(&self, n: u64, bytes: u64, items: u64) -> Cost {
        let bytes = bytes + n * self.inode;
        Cost { bytes, inodes: n, items: if self.tree { items } else { 0 } }
    }

    /// Some directories that hold so many names of this length together.
    fn directories(&self, n: u64, names: u64, length: u64) -> Cost {
        let bytes = n * self.block + scan::entries(names, names * length);
        self.inodes(n, if self.tree { 0 } else { bytes }, n * inode_items(64))
    }

    /// A file with so many bytes.
    fn file(&self, bytes: u64) -> Cost {
        let items = inode_items(64) + bytes.min(INLINE) + content_items(1, bytes);
        self.inodes(1, bytes.div_ceil(self.block) * self.block, items)
    }

    fn files(&self, n: u64, bytes: u64) -> Cost {
        let one = self.file(bytes);
        Cost { bytes: n * one.bytes, inodes: n, items: n * one.items }
    }
}

/// Items of an inode and of a name for it, with their keys: 160, 10, twice 30, four times 25 bytes, and the name three times.
fn inode_items(name: u64) -> u64 {
    160 + 25 + name_items(name)
}

/// Items of a name.
fn name_items(name: u64) -> u64 {
    10 + 25 + 2 * (30 + 25) + 3 * name
}

/// Items that say where content is, in both trees, and its checksums.
fn content_items(inodes: u64, bytes: u64) -> u64 {
    2 * inodes * (53 + 25) + bytes / 512
}

/// Bytes of disk for so many bytes of items: leaves are at least half full, and have nodes above them.
fn leaves(items: u64) -> u64 {
    items * 11 / 5 + NODE
}

/// Docker's metadata and our journal, the same for every target and mode.
fn metadata(plan: &Plan, found: &Found<'_>) -> Cost {
    let disk = Disk::of(&found.host.new_room);
    let mut out = Cost::default();
    let length = |content: &Content| match content {
        Content::Same(path) => found.originals.get(path).map_or(1, |o| o.size),
        Content::Edited(path, _) => found.originals.get(path).map_or(1, |o| o.size) + 1024,
        Content::Text(t) => t.len() as u64,
        // gzipped JSON: about a line of 60 bytes for a name of the layer
        Content::TarSplitOf(layer) => found.facts.get(layer).map_or(0, |f| (f.files + f.directories) * 200) + 1024,
    };
    let mut directories = BTreeSet::new();
    for f in &plan.metadata {
        out += disk.file(length(&f.content));
        let mut at = f.path.as_str();
        while let Some((dir, _)) = at.rsplit_once('/') {
            directories.insert(dir);
            at = dir;
        }
    }
    // image/ itself, and .unaufs/{new,old} with what is in them: each has a directory for each container
    let parked = 2 * plan.containers.len() as u64;
    let names = (plan.metadata.len() + directories.len()) as u64 + parked;
    out += disk.directories(directories.len() as u64 + 9 + parked, names, 64);
    plan.containers.iter().flat_map(|c| &c.files).for_each(|f| out += disk.file(length(&f.content)));
    out += disk.file(journal(plan));
    // the file of the run holds less than the plan; for a moment there are two of it
    out += disk.files(2, journal(plan));
    // SQLite's own journal, and small files of the state directory
    out += disk.files(12, disk.block);
    out += disk.file(super::switch::RESERVE);
    out
}

/// SQLite's file: the plan is a row that runs over many pages of 4 KiB, the others share theirs.
fn journal(plan: &Plan) -> u64 {
    let (rows, row) = ((plan.layers.len() + plan.metadata.len() + plan.containers.len()) as u64, 400);
    // the rows of the estimates are not there yet, about so long
    let text = length(plan) + 16 * 320;
    text * 4096 / 4088 + rows * row * 4 / 3 + (16 << 12)
}

/// What is copied to a root in another place.
fn copied_units(plan: &Plan, found: &Found<'_>) -> Cost {
    let disk = Disk::of(&found.host.new_room);
    let all = plan.new_root.as_ref().map(NewRoot::total).unwrap_or_default();
    let content = all.allocated.saturating_sub(all.dir_bytes) + all.inodes * disk.block;
    let directories = if disk.tree { 0 } else { all.directories * disk.block + all.dir_bytes * 5 / 2 };
    let items = (all.inodes + all.directories) * inode_items(0) + (all.files + all.directories) * name_items(64);
    let small = all.bytes.min(all.inodes * INLINE) + content_items(all.inodes, all.bytes);
    disk.inodes(all.inodes + all.directories, content + directories, items + small)
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
    let mut fixed = metadata(plan, found);
    fixed += copied_units(plan, found);
    let unit_bytes = plan.new_root.as_ref().map_or(0, |e| e.total().bytes);
    let chosen = chosen(found, options);
    let rows = Rows { layers, found, options, fixed, unit_bytes, chosen };
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
    let other_disk = options.target.is_some() && host.other_device();
    match (to, mode) {
        (Target::Btrfs, _) if magic != BTRFS => {
            return Some(format!(
                "{} is on {}; btrfs needs a btrfs file system (use --target DIR)",
                if other_disk { "the target" } else { "the root" },
                host.new_fs
            ));
        }
        (Target::Btrfs, Mode::Link) => {
            return Some("btrfs layers are subvolumes and can't share hard links".to_owned());
        }
        _ => {}
    }
    match mode {
        // complete trees share the files of the layer below, wherever they lie
        Mode::Link if other_disk && matches!(to, Target::Overlay | Target::Vfs) => None,
        Mode::Link if other_disk => Some("the target is on another file system".to_owned()),
        Mode::Clone if !shares_extents(magic) => Some(format!("{} can't share extents", host.new_fs)),
        Mode::Clone if other_disk && !matches!(to, Target::Overlay | Target::Vfs) => {
            Some("the target is on another file system".to_owned())
        }
        _ => None,
    }
}

/// What the rows have in common.
struct Rows<'a> {
    layers: &'a [PlanLayer],
    found: &'a Found<'a>,
    options: &'a Options,
    /// What does not depend on target and mode.
    fixed: Cost,
    /// Bytes of content that are copied besides the layers.
    unit_bytes: u64,
    /// The mode that image layers come to.
    chosen: Mode,
}

impl Rows<'_> {
    fn row(&self, driver: Target, mode: Mode) -> Estimate {
        let Rows { layers, found, .. } = self;
        let room = &found.host.new_room;
        let disk = Disk::of(room);
        let far = found.host.other_device();
        let how = match mode {
            // a copy within a btrfs shares extents too: copy_file_range(2) sees to that
            Mode::Copy if disk.tree && !far => Mode::Clone,
            // not every xfs shares extents, and only writing would tell
            Mode::Clone if !disk.tree => Mode::Copy,
            other => other,
        };
        let mut made = Made { disk, how, far, links: filesystem::most_names(room.magic), ..Made::default() };
        match driver {
            Target::Overlay2 => made.overlay2(layers),
            Target::Overlay => made.overlay(layers, found),
            Target::Vfs => made.vfs(layers, found),
            Target::Btrfs => made.btrfs(layers, found),
        }
        made.cost += self.fixed;
        let mut cost = made.cost;
        if disk.tree {
            cost.bytes += (leaves(cost.items) + made.trees) * room.tree_copies;
        }
        made.written += self.unit_bytes;
        let never = impossible(found, self.options, driver, mode);
        let why_not = never.clone().or_else(|| too_little(cost, room));
        let (seconds_min, seconds_max) = time(found.pace, layers, cost, &made);
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
            fits: why_not.is_none(),
            why_not,
            chosen: self.options.to == driver && mode == self.chosen,
        }
    }
}

/// By how much the file system may be too small.
fn too_little(cost: Cost, room: &Room) -> Option<String> {
    let bytes = cost.bytes.saturating_sub(room.free_bytes);
    let inodes = room.free_inodes.map_or(0, |free| cost.inodes.saturating_sub(free));
    match (bytes, inodes) {
        (0, 0) => None,
        (0, n) => Some(format!("up to {} inodes are missing", crate::text::count(n))),
        (n, _) => Some(format!("up to {} are missing", crate::text::size(n))),
    }
}

/// From the pace of the scan: making a name costs about three times as much as looking at it, comparing it afterwards twice; content goes
/// at 80 to 400 MiB a second.
fn time(pace: Pace, layers: &[PlanLayer], most: Cost, made: &Made) -> (u64, u64) {
    let names: u64 = layers.iter().map(|l| l.facts.files + l.facts.directories).sum();
    let seconds = |made: u64| (made * 5 + names * 2) as f64 * pace.per_name / 1e6;
    let own: u64 = layers.iter().filter(|l| l.role.writable()).map(|l| l.facts.bytes).sum();
    let content = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let min = seconds(names) * 0.6 + content(own) / 400.0;
    let max = seconds(made.names + most.inodes) * 2.5 + content(made.written) / 80.0 + 2.0;
    (min as u64, max.ceil() as u64)
}

/// What a directory tree holds at most.
#[derive(Clone, Copy, Debug, Default)]
struct Tree {
    files: u64,
    inodes: u64,
    /// Its root included.
    directories: u64,
    directory_bytes: u64,
    name_bytes: u64,
    /// Bytes of content.
    bytes: u64,
    /// Bytes of disk that the content takes.
    allocated: u64,
    /// Names with extended attributes, and opaque directories.
    attributes: u64,
    /// Has a file as many names as the file system allows?
    many_names: bool,
}

impl Tree {
    /// What a layer holds itself.
    fn of(f: &Facts, limit: Option<u64>) -> Tree {
        Tree {
            files: f.files,
            inodes: f.inodes,
            directories: f.directories + 1,
            directory_bytes: f.dir_bytes,
            name_bytes: f.name_bytes,
            bytes: f.bytes,
            allocated: f.allocated,
            attributes: f.xattrs + f.opaque.count,
            many_names: limit.is_some_and(|limit| f.most_names >= limit),
        }
    }

    /// What a stack of layers gives: no more than all of them together.
    fn stack<'f>(layers: impl Iterator<Item = &'f Facts>, disk: Disk) -> Tree {
        let mut out = Tree { directories: 1, ..Tree::default() };
        for f in layers {
            out.files += f.files;
            out.inodes += f.inodes;
            out.directories += f.directories;
            out.name_bytes += f.name_bytes;
            out.bytes += f.bytes;
            out.allocated += f.allocated;
            out.attributes += f.xattrs;
        }
        out.directory_bytes = out.directories * disk.block + scan::entries(out.files + out.directories, out.name_bytes);
        out
    }

    fn items(&self) -> u64 {
        let inodes = self.inodes + self.directories;
        let names = (self.files + self.directories) * name_items(0) + 3 * self.name_bytes;
        let content = self.bytes.min(self.inodes * INLINE) + content_items(self.inodes, self.bytes);
        inodes * (160 + 25) + names + content + self.attributes * 512
    }
}

/// The layer's own facts and those of all below it.
fn stack<'f>(l: &'f PlanLayer, found: &'f Found<'_>) -> impl Iterator<Item = &'f Facts> {
    std::iter::once(&l.facts).chain(l.lowers.iter().filter_map(|id| found.facts.get(id)))
}

/// What a target makes.
struct Made {
    disk: Disk,
    how: Mode,
    /// Is the new root on another file system?
    far: bool,
    /// As many names may a file have.
    links: Option<u64>,
    cost: Cost,
    /// Bytes of disk shared with the old store.
    shared: u64,
    /// Bytes of content written.
    written: u64,
    /// Further names of inodes that are there.
    names: u64,
    /// Bytes of trees that snapshots make.
    trees: u64,
}

impl Default for Made {
    fn default() -> Made {
        let disk = Disk { block: 4096, inode: 0, tree: false };
        let (cost, how) = (Cost::default(), Mode::Copy);
        Made { disk, how, far: false, links: None, cost, shared: 0, written: 0, names: 0, trees: 0 }
    }
}

impl Made {
    /// The directories of a tree.
    fn directories(&mut self, t: &Tree) {
        let bytes = if self.disk.tree { 0 } else { t.directory_bytes };
        self.cost += self.disk.inodes(t.directories, bytes, 0);
    }

    /// The files of a tree: linked, with shared extents, or written.
    fn files(&mut self, t: &Tree, role: Role, how: Mode) {
        let items = if self.disk.tree { t.items() } else { 0 };
        match (how, role.writable() || t.many_names) {
            (Mode::Link, false) => {
                self.shared += t.allocated;
                self.names += t.files;
                self.cost += Cost { bytes: 0, inodes: 0, items };
            }
            (Mode::Clone, _) => {
                self.shared += t.allocated;
                self.cost += self.disk.inodes(t.inodes, 0, items);
            }
            _ => {
                // another file system may have larger blocks, and may keep attributes outside of inodes
                let wider = t.inodes * self.disk.block.saturating_sub(scan::BLOCK);
                let attributes = if self.far { t.attributes * self.disk.block } else { 0 };
                self.cost += self.disk.inodes(t.inodes, t.allocated + wider + attributes, items);
                self.written += t.bytes;
            }
        }
    }

    fn tree(&mut self, t: &Tree, role: Role, how: Mode) {
        self.directories(t);
        self.files(t, role, how);
    }

    fn overlay2(&mut self, layers: &[PlanLayer]) {
        let n = layers.len() as u64;
        self.cost += self.disk.directories(2, 2 * n, 64);
        for l in layers {
            let f = &l.facts;
            // <id>/; with something below work/ and merged/
            let below = u64::from(!l.lowers.is_empty());
            self.cost += self.disk.directories(1 + 2 * below, 0, 0);
            // the symlink in l/, link, lower, committed; whiteouts are names of one device, split at the limit on links
            self.cost += self.disk.files(1 + 1 + below, 64);
            self.cost += self.disk.files(u64::from(l.has_child) + f.whiteouts.div_ceil(60_000), 0);
            self.cost += Cost { items: f.whiteouts * name_items(64), ..Cost::default() };
            // an opaque mark may need a block of its own
            let marks = if self.disk.tree { 0 } else { f.opaque.count * self.disk.block };
            self.cost += Cost { bytes: marks, ..Cost::default() };
            self.tree(&Tree::of(f, self.links), l.role, self.how);
        }
    }

    fn overlay(&mut self, layers: &[PlanLayer], found: &Found<'_>) {
        self.cost += self.disk.directories(1, layers.len() as u64, 64);
        for l in layers {
            if l.role.writable() {
                // <id>/, work/, merged/, lower-id; upper/ of a container starts as a copy of its init layer's
                self.cost += self.disk.directories(3, 0, 0);
                self.cost += self.disk.files(1, 64);
                let below = l.lowers.first().filter(|_| l.role == Role::Container).and_then(|i| found.facts.get(i));
                let own = || std::iter::once(&l.facts).chain(below);
                let marks: u64 = own().map(|f| f.opaque.count).sum();
                let whiteouts: u64 = own().map(|f| f.whiteouts).sum();
                self.cost += self.disk.files(1 + whiteouts.div_ceil(60_000), 0);
                let marks = if self.disk.tree { 0 } else { marks * self.disk.block };
                self.cost += Cost { bytes: marks, inodes: 0, items: whiteouts * name_items(64) };
                self.tree(&Tree::stack(own(), self.disk), l.role, if self.far { Mode::Copy } else { self.how });
            } else {
                self.cost += self.disk.directories(1, 0, 0);
                self.flat(l, found);
            }
        }
    }

    fn vfs(&mut self, layers: &[PlanLayer], found: &Found<'_>) {
        self.cost += self.disk.directories(2, layers.len() as u64, 64);
        layers.iter().for_each(|l| self.flat(l, found));
    }

    /// A whole tree. That of an image layer shares what is not its own with the tree of its parent, or with the old store if that is on the
    /// same file system; by mode copy it shares nothing.
    fn flat(&mut self, l: &PlanLayer, found: &Found<'_>) {
        let all = Tree::stack(stack(l, found), self.disk);
        let own = Tree::of(&l.facts, self.links);
        // what else the tree holds is as old as the parent's tree
        let below = Tree {
            files: all.files - own.files,
            inodes: all.inodes - own.inodes,
            bytes: all.bytes - own.bytes,
            allocated: 0,
            attributes: 0,
            many_names: false,
            ..all
        };
        self.directories(&all);
        match self.how {
            Mode::Link if !l.role.writable() => {
                self.files(&own, l.role, if self.far { Mode::Copy } else { self.how });
                self.files(&below, l.role, Mode::Link);
            }
            Mode::Clone if self.far => {
                self.files(&own, l.role, Mode::Copy);
                self.files(&below, l.role, Mode::Clone);
            }
            Mode::Clone => self.files(&all, l.role, Mode::Clone),
            _ => self.files(&all, l.role, Mode::Copy),
        }
    }

    /// Each layer is a snapshot of its parent, changed. What has a parent in the existing target store is written whole.
    fn btrfs(&mut self, layers: &[PlanLayer], found: &Found<'_>) {
        let built: HashSet<&LayerId> = layers.iter().map(|l| &l.id).collect();
        self.cost += self.disk.directories(2, layers.len() as u64, 64);
        for l in layers {
            let all = Tree::stack(stack(l, found), self.disk);
            let snapshot = l.lowers.first().is_some_and(|parent| built.contains(parent));
            let own = if snapshot { Tree::of(&l.facts, self.links) } else { all };
            let outside = self.cost.items;
            self.tree(&own, l.role, self.how);
            // at worst it touches every leaf of its parent's tree; each node has an item, and the subvolume has some in the tree of roots
            let nodes = leaves(all.items());
            self.trees += nodes + nodes / 50 + leaves(1200 + 2 * 64);
            self.cost.items = outside;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items() {
        // as `btrfs inspect-internal dump-tree` shows them: 160, 14, 34, 34 bytes, and four keys
        assert_eq!(inode_items(4), 160 + 14 + 34 + 34 + 4 * 25);
        assert!(leaves(0) >= NODE && leaves(1 << 20) > 2 << 20);
    }

    #[test]
    fn a_stack_gives_at_most_what_its_layers_hold() {
        let f = Facts {
            files: 10,
            inodes: 9,
            directories: 2,
            name_bytes: 100,
            bytes: 500,
            allocated: 36_864,
            ..Facts::default()
        };
        let disk = Disk { block: 4096, inode: 0, tree: false };
        let t = Tree::stack([&f, &f, &f].into_iter(), disk);
        assert_eq!((t.files, t.inodes, t.directories, t.bytes, t.allocated), (30, 27, 7, 1500, 110_592));
        assert!(t.directory_bytes >= 7 * 4096);
    }
}
