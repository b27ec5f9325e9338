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

use super::super::scan::{Facts, Small};
use super::super::shown::Shown;
use super::super::{PlanLayer, estimate::Sums};
use crate::ids::LayerId;
use std::collections::BTreeMap;

/// Bytes of a node.
const NODE: f64 = (16 << 10) as f64;
/// Bytes for items in a leaf.
const LEAF: f64 = NODE - 101.0;
/// How full the leaves are: 0.83 to 0.97 were seen in trees written from nothing, less where they grew.
const FULL: f64 = 0.8;
/// The same of the tree of extents, whose items come in no order.
const MIXED: f64 = 0.6;
/// Pointers in a node, as full as leaves are.
const FAN_OUT: f64 = 493.0 * FULL;
/// A key and the place of its item in the leaf.
const ITEM: u64 = 25;
/// Bytes in the tree of roots of a new btrfs, and about as many as the first leaf of its tree of extents has when a small store lies on it.
const ROOTS: f64 = 3600.0;
const EXTENTS: f64 = 10_000.0;
/// Of names taken away in one folder, how many of the further ones are in a leaf of their own; measured.
const APART: f64 = 0.3;
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

/// Items of the content of so many inodes, some of them small.
pub fn contents(small: Small, inodes: u64) -> u64 {
    small.inodes * (21 + ITEM) + small.bytes + inodes.saturating_sub(small.inodes) * (53 + ITEM)
}

/// Items of all that a layer holds itself.
pub fn layer(f: &Facts) -> u64 {
    let names = f.files + f.folders;
    let xattrs = f.xattrs * (30 + ITEM + 40);
    // the first name of an inode is counted with it
    let further = f.files.saturating_sub(f.inodes);
    (f.inodes + f.folders) * inode(0)
        + further * name(0)
        + (f.name_bytes * 3).max(names)
        + contents(f.small, f.inodes)
        + xattrs
}

/// Bytes of disk for so many bytes of items, in leaves that fill as they come.
pub fn bytes(items: u64) -> u64 {
    let leaves = items as f64 / LEAF / FULL;
    ((leaves + leaves / FAN_OUT) * NODE) as u64
}

/// Bytes of disk for the trees of the layers, each a snapshot of its parent, changed.
pub fn snapshots(sums: &Sums<'_>, layers: &[PlanLayer]) -> u64 {
    let mut parents_first: Vec<&PlanLayer> = layers.iter().collect();
    parents_first.sort_by_key(|l| l.lowers.len());
    let mut trees: BTreeMap<&LayerId, Tree> = BTreeMap::new();
    let (mut nodes, mut names, mut roots, mut extents) = (0.0, 0, 0, 0.0);
    for l in parents_first {
        let shown = sums.shown(&l.id);
        // a parent that was there before is not in the plan: what stands on it is written whole
        let (tree, made) = match l.lowers.first().and_then(|parent| trees.get(parent)) {
            Some(below) => (below.with(&l.facts, &shown), below.changed(&l.facts, &shown)),
            None => {
                let tree = Tree::whole(&l.facts, &shown, (!l.lowers.is_empty()).then_some(sums.items_per_inode));
                (tree, tree.nodes())
            }
        };
        trees.insert(&l.id, tree);
        nodes += made;
        // its name in subvolumes/; the root's item, its two references, its UUID
        names += 2 * (30 + ID + ITEM);
        roots += 439 + 2 * (18 + ID) + 8 + 4 * ITEM;
        // every node has an item among the extents, and one more reference for each further tree that it belongs to
        extents += made * 60.0;
    }
    nodes += beside(ROOTS, roots as f64, FULL) + beside(EXTENTS, extents, MIXED);
    (nodes * NODE) as u64 + bytes(names)
}

/// The nodes that a tree of one leaf with so many bytes in it gets for further ones: none as long as there is room in that leaf.
fn beside(held: f64, added: f64, full: f64) -> f64 {
    if held + added <= LEAF {
        return 0.0;
    }
    let leaves = (held + added) / LEAF / full;
    leaves - 1.0 + above(leaves)
}

/// How many leaves so many bytes of items fill; a tree has one at least.
fn leaves(items: f64) -> f64 {
    (items / LEAF / FULL).max(1.0)
}

/// The nodes above so many leaves.
fn above(leaves: f64) -> f64 {
    if leaves > 1.0 { (leaves / FAN_OUT).max(1.0) } else { 0.0 }
}

/// The share of so many leaves that is touched, by so many touches anywhere.
fn share(leaves: f64, touches: f64) -> f64 {
    1.0 - (1.0 - 1.0 / leaves).powf(touches)
}

/// What is in the tree of a layer.
#[derive(Clone, Copy, Debug)]
struct Tree {
    /// Bytes of items.
    items: f64,
    inodes: f64,
    /// Of these, those that it began with.
    first: f64,
}

impl Tree {
    /// One that is written from nothing: `mean` bytes for each inode, or what the layer holds itself.
    fn whole(own: &Facts, shown: &Shown, mean: Option<f64>) -> Tree {
        let inodes = (shown.inodes + shown.folders + 1) as f64;
        let items = mean.map_or((layer(own) + inode(2)) as f64, |mean| inodes * mean);
        Tree { items, inodes, first: inodes }
    }

    fn nodes(&self) -> f64 {
        let leaves = leaves(self.items);
        leaves + above(leaves)
    }

    /// This one after a layer was applied to its snapshot.
    fn with(&self, own: &Facts, shown: &Shown) -> Tree {
        let gone = (shown.gone as f64).min(self.inodes - 1.0);
        let items = self.items * (1.0 - gone / self.inodes) + layer(own) as f64;
        Tree { items, inodes: self.inodes - gone + (own.inodes + own.folders) as f64, ..*self }
    }

    /// The nodes that a layer makes in a snapshot: copies of what it touches, and new ones.
    fn changed(&self, own: &Facts, shown: &Shown) -> f64 {
        let all = leaves(self.items);
        let held = own.inodes + own.folders;
        let new = held.saturating_sub(shown.common);
        // the root's leaf always; new inodes have the highest numbers and go to the last one, and what is removed is noted there meanwhile
        let ends = (1.0 + f64::from(new > 0 || shown.gone > shown.common)).min(all);
        // what the layers between brought lies at the end
        let end = ((self.inodes - self.first) / self.inodes * all).max(1.0);
        let taken = shown.taken.saturating_sub(shown.recent);
        // files of one folder were made one after the other, so they lie together
        let places = shown.places.min(taken);
        let touches = (shown.common + places) as f64 + (taken - places) as f64 * APART;
        // what is below a name that is taken away lies together too
        let together = shown.gone.saturating_sub(shown.common + shown.taken) as f64 / self.inodes * all;
        let others = (all - ends) * share(all, touches) + (end - 1.0) * share(end, shown.recent as f64) + together;
        let grown = layer(own) as f64 / LEAF / FULL * new as f64 / held.max(1) as f64;
        let changed = ends + others.min(all - ends) + grown;
        changed + above(all).min(1.0 + changed / 4.0)
    }
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
    fn few_snapshots_need_no_further_leaf() {
        assert_eq!(beside(ROOTS, 12_000.0, FULL), 0.0);
        // one more, and the node above the two
        assert!((1.0..2.5).contains(&beside(ROOTS, 13_000.0, FULL)));
        let many = beside(ROOTS, 1e6, FULL);
        assert!((75.0..80.0).contains(&many), "{many}");
    }

    #[test]
    fn trees() {
        // with names of 14 bytes an inode comes to 435
        let own = |inodes, folders| Facts {
            inodes,
            files: inodes,
            folders,
            name_bytes: 14 * (inodes + folders),
            ..Facts::default()
        };
        let shown = |n, common, gone| Shown { inodes: n, common, gone, ..Shown::default() };
        let base = Tree::whole(&own(120, 30), &shown(150, 0, 0), None);
        let changed = |o: Facts, s: Shown| base.changed(&o, &s);
        // a base of 150 inodes: five leaves and a node above
        assert!((5.5..6.5).contains(&base.nodes()), "{base:?}");
        // nothing of its own: the root's leaf and the node
        assert_eq!(changed(own(0, 0), shown(150, 0, 0)), 2.0);
        // one folder touched, anywhere
        let one = changed(own(0, 1), shown(150, 1, 1));
        assert!((2.5..3.0).contains(&one), "{one}");
        // one that changes everything is near the whole
        let all = changed(own(0, 100), shown(150, 100, 100));
        assert!((5.0..=base.nodes()).contains(&all), "{all}");
        // all of it taken away by one mark: no less
        let emptied = changed(own(0, 1), shown(1, 1, 150));
        assert!((5.0..=base.nodes()).contains(&emptied), "{emptied}");
        // what is new comes on top
        let grown = changed(own(300, 0), shown(450, 0, 0)) - changed(own(1, 0), shown(151, 0, 0));
        assert!((9.0..12.0).contains(&grown), "{grown}");
        // a small one within its root
        let small = Tree::whole(&own(5, 2), &shown(7, 0, 0), None);
        assert!(small.changed(&own(1, 0), &shown(8, 0, 0)) < 1.1);
        // a hundred files taken from one folder, from a hundred, and such that a layer between had brought
        let large = Tree::whole(&own(3000, 300), &shown(3300, 0, 0), None).with(&own(200, 0), &shown(3500, 0, 0));
        let taking = |places, recent| {
            large.changed(&own(0, 1), &Shown { taken: 100, gone: 100, places, recent, ..Shown::default() })
        };
        let (folder, many, latest) = (taking(1, 0), taking(100, 0), taking(1, 100));
        assert!(latest + 10.0 < folder && folder + 10.0 < many, "{latest} {folder} {many}");
    }
}
