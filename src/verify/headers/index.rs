//! Which names a tar accounts for, as hashes: the names themselves would not fit into memory for a layer of millions.
//!
//! The key of the hash is drawn again each time, so that nobody can make two names that fall together; by chance two of a million do so
//! once in 10^7 layers.

use std::hash::{BuildHasher, Hasher, RandomState};

/// What an entry of the tar says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It is in the layer.
    Entry = 1,
    /// It is the directory of an entry.
    Above,
    /// The layers below do not show it.
    White,
    /// The layers below show nothing in this directory.
    Opaque,
}

/// Marks of paths.
#[derive(Default)]
pub struct Index {
    key: RandomState,
    hashes: Vec<u64>,
    /// So many at the front are sorted, each of them once.
    sorted: usize,
}

/// Directories come again and again in a tar that is in no order: as many more hashes are kept before doubles are dropped.
const LOOSE: usize = 1 << 16;

impl Index {
    /// The hash of a mark of a path.
    pub fn hash(&self, mark: Mark, path: &[u8]) -> u64 {
        let mut h = self.key.build_hasher();
        h.write_u8(mark as u8);
        h.write(path);
        h.finish()
    }

    /// Adds a mark.
    pub fn add(&mut self, mark: Mark, path: &[u8]) {
        self.hashes.push(self.hash(mark, path));
        if self.hashes.len() >= 2 * self.sorted + LOOSE {
            self.seal();
        }
    }

    /// After the last mark, before the first question.
    pub fn seal(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.sorted = self.hashes.len();
    }

    /// Was this mark added?
    pub fn has(&self, mark: Mark, path: &[u8]) -> bool {
        self.hashes.binary_search(&self.hash(mark, path)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_again() {
        let mut index = Index::default();
        for n in 0..200_000u32 {
            index.add(Mark::Entry, &n.to_be_bytes());
            index.add(Mark::Above, b"the same again and again");
        }
        index.seal();
        assert_eq!(index.hashes.len(), 200_001);
        assert!(index.has(Mark::Entry, &7u32.to_be_bytes()) && !index.has(Mark::White, &7u32.to_be_bytes()));
        assert!(!index.has(Mark::Entry, &200_000u32.to_be_bytes()));
    }
}
