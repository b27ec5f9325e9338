//! What a btrfs keeps in trees of its own: for most of what a migration makes there that is the larger part.
//!
//! ```text
//! leaf, 16 KiB    inode item 160 │ reference 10 + name │ entry of the folder, twice 30 + name │ xattr 30 + name + value
//!                 content of a file up to 2,048 bytes 21 + content, or its place on the disk 53       each with a key of 25 bytes
//! node, 16 KiB    493 pointers; a snapshot begins with a copy of the uppermost one, and copies each leaf that changes
//! ```
//!
//! Sizes are those of linux/btrfs_tree.h; how full leaves become was measured. On a single disk there are two copies of all of it (profile
//! DUP). Space that is set aside when the file system is made, and the global reserve, are not counted: they are not taken by anything.

use super::super::scan::Facts;
use super::super::shown::Shown;
use super::super::{PlanLayer, estimate::Sums};

/// Bytes of a node.
const NODE: f64 = (16 << 10) as f64;
/// Bytes for items in a leaf.
const LEAF: f64 = NODE - 101.0;
/// How full the leaves are.
const FULL: f64 = 0.8;
/// Pointers in a node, as full as leaves are.
const FAN_OUT: f64 = 493.0 * FULL;
/// A key and the place of its item in the leaf.
const ITEM: u64 = 25;
/// Files up to this length lie in the tree (mount option `max_inline`).
pub const INLINE: u64 = 2048;
/// What Docker names by id.
const ID: u64 = 64;

/// Items of an inode and of a name for it.
pub fn inode(name: u64) -> u64 {
    160 + ITEM + self::name(name)
}

/// Items of a further name.
pub fn name(name: u64) -> u64 {
    10 + ITEM + 2 * (30 + ITEM) + 3 * name
}

/// Items of the content of a file.
pub fn content(bytes: u64) -> u64 {
    match bytes {
        0 => 0,
        1..=INLINE => 21 + ITEM + bytes,
        // where it lies, and the extent's own item with a reference; a checksum of 4 bytes for each 4 KiB
        _ => 53 + ITEM + 53 + ITEM + bytes / 1024,
    }
}

/// Items of all that a layer holds itself.
pub fn layer(f: &Facts) -> u64 {
    let names = f.files + f.folders;
    let large = f.inodes.saturating_sub(f.small.inodes);
    let small = f.small.inodes * (21 + ITEM) + f.small.bytes;
    let xattrs = f.xattrs * (30 + ITEM + 40);
    // the first name of an inode is counted with it
    let further = f.files.saturating_sub(f.inodes);
    (f.inodes + f.folders) * inode(0)
        + further * name(0)
        + (f.name_bytes * 3).max(names)
        + large * (53 + ITEM)
        + small
        + xattrs
}

/// Bytes of disk for so many bytes of items, in leaves that fill as they come.
pub fn bytes(items: u64) -> u64 {
    let leaves = items as f64 / LEAF / FULL;
    ((leaves + leaves / FAN_OUT) * NODE) as u64
}

/// Bytes of disk for the trees of the layers, each a snapshot of its parent, changed.
pub fn snapshots(sums: &Sums<'_>, layers: &[PlanLayer]) -> u64 {
    let mean = sums.items_per_inode;
    let (mut nodes, mut others) = (0.0, 0);
    for l in layers {
        let made = tree(&l.facts, &sums.shown(&l.id), !sums.is_snapshot(l), mean);
        nodes += made;
        // the root's item, its two references, its UUID, its name in subvolumes/
        others += 439 + 2 * (18 + ID) + 8 + 2 * (30 + ID) + 6 * ITEM;
        // every node has an item among the extents, and one more reference for each further tree that it belongs to
        others += (made * 60.0) as u64;
    }
    (nodes * NODE) as u64 + bytes(others)
}

/// The nodes that are new in the tree of one layer.
fn tree(own: &Facts, shown: &Shown, base: bool, items_per_inode: f64) -> f64 {
    let per_leaf = LEAF * FULL / items_per_inode;
    let held = own.inodes + own.folders;
    let below = (shown.inodes + shown.folders + shown.gone).saturating_sub(held);
    let in_it = if base { shown.inodes + shown.folders } else { below };
    let leaves = ((in_it + 1) as f64 / per_leaf).max(1.0);
    let above = if leaves > 1.0 { (leaves / FAN_OUT).max(1.0) } else { 0.0 };
    if base {
        return leaves + above;
    }
    // the root's leaf always; new inodes have the highest numbers and go to the last, and to new ones
    let new = held.saturating_sub(shown.common);
    let ends = (1.0 + f64::from(new > 0)).min(leaves);
    // a folder that the parent has too, or a name taken away, is touched where it lies, which is anywhere; what is below a name that is
    // taken away lies together
    let touched = (shown.common + shown.taken) as f64;
    let together = shown.gone.saturating_sub(shown.common + shown.taken) as f64 / per_leaf;
    let others = (leaves - ends) * (1.0 - (1.0 - 1.0 / leaves).powf(touched)) + together;
    let changed = ends + others.min(leaves - ends) + new as f64 / per_leaf;
    let nodes = if above > 0.0 { above.min(1.0 + changed / 4.0) } else { 0.0 };
    changed + nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items() {
        // as `btrfs inspect-internal dump-tree` shows them: 160, 14, 34, 34 bytes, and four keys
        assert_eq!(inode(4), 160 + 14 + 34 + 34 + 4 * ITEM);
        assert_eq!((content(0), content(5)), (0, 21 + 5 + ITEM));
        assert!(content(INLINE) > 2 << 10 && content(INLINE + 1) < 200);
    }

    #[test]
    fn trees() {
        let shown = |n| Shown { inodes: n, ..Shown::default() };
        let changed = |n, common, gone| Shown { common, gone, ..shown(n) };
        let own = |inodes, folders| Facts { inodes, files: inodes, folders, ..Facts::default() };
        // a base of 150 inodes: five leaves and a node above
        let base = tree(&own(120, 30), &shown(150), true, 435.0);
        assert!((5.5..6.5).contains(&base), "{base}");
        // nothing of its own: the root's leaf and the node
        assert_eq!(tree(&own(0, 0), &shown(150), false, 435.0), 2.0);
        // one folder touched, anywhere
        let one = tree(&own(0, 1), &changed(150, 1, 1), false, 435.0);
        assert!((2.5..3.0).contains(&one), "{one}");
        // one that changes everything is near the whole
        let all = tree(&own(0, 100), &changed(150, 100, 100), false, 435.0);
        assert!((5.0..=base).contains(&all), "{all}");
        // all of it taken away by one mark: no less
        let emptied = tree(&own(0, 1), &changed(1, 1, 150), false, 435.0);
        assert!((5.0..=base).contains(&emptied), "{emptied}");
        // what is new comes on top
        let grown = tree(&own(300, 0), &shown(450), false, 435.0) - tree(&own(1, 0), &shown(151), false, 435.0);
        assert!((9.0..12.0).contains(&grown), "{grown}");
        // a small one within its root
        assert!(tree(&own(1, 0), &shown(10), false, 435.0) < 1.1);
    }
}
