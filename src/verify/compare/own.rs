//! Directory by directory, what one layer holds itself in both stores.
//!
//! Where both stacks have the same layers, and those below were compared before, two layers that hold the same names and hide the same ones
//! give the same view: no layer below is read. Only a directory whose marks or whiteouts differ is merged with those below it.

use super::Pair;
use crate::disk::{Dir, join};
use crate::error::Result;
use crate::layer::branch::{self, Format, Markers, Slice};
use crate::layer::view::{Contributors, MergedDir, Node};
use std::collections::HashSet;

/// A directory that waits to be compared.
pub(super) struct Task {
    pub(super) path: Vec<u8>,
    pub(super) how: How,
}

/// What of the two stacks is compared there.
pub(super) enum How {
    /// All branches that are merged in it.
    Merged(Contributors, Contributors),
    /// The first branch of both. `hidden`: a whiteout next to it hides what is below; `open`: something below may show.
    Own { hidden: bool, open: bool },
}

/// What one branch holds in a directory.
struct Held {
    names: MergedDir,
    marks: Markers,
}

fn held(dir: &Dir, format: Format, at_root: bool) -> Result<Held> {
    let mut names = MergedDir::default();
    let marks = branch::list(dir, format, at_root, Slice::WHOLE, |name, kind, ino| {
        names.names.insert(name.to_vec(), Node::of_first(kind, ino));
        Ok(())
    })?;
    Ok(Held { names, marks })
}

impl Pair<'_> {
    /// Can it be enough to compare what the first branches hold? Not for a layer that Docker may have written into since: what it copied up
    /// is compared with the file below.
    pub(super) fn own_may_do(&self) -> bool {
        self.rests && !self.writable && self.old.branches.len() > 1
    }

    pub(super) fn first_branches(
        &self,
        path: &[u8],
        hidden: bool,
        open: bool,
        hand_on: &mut dyn FnMut(Task),
    ) -> Result<()> {
        let at_root = path.is_empty();
        let (old, new) = (self.old.branch(0)?, self.new.branch(0)?);
        let (o, n) = (old.dir()?.open(path)?, new.dir()?.open(path)?);
        if branch::count_if_large(&o)?.max(branch::count_if_large(&n)?) > 0 {
            return self.merged(path, hand_on, |_| None);
        }
        let (was, is) = (held(&o, old.format, at_root)?, held(&n, new.format, at_root)?);
        let ends = (hidden || was.marks.opaque, is.marks.opaque);
        let sub = |name: &[u8]| How::Own { hidden: was.marks.whiteouts.contains(name), open: open && !ends.0 };
        let hidden_by_old: HashSet<&Vec<u8>> =
            was.marks.whiteouts.iter().filter(|w| !was.names.names.contains_key(*w)).collect();
        let hidden_by_new: HashSet<&Vec<u8>> = is.marks.whiteouts.iter().collect();
        if open && ends.0 != ends.1 {
            return self.merged(path, hand_on, |_| None);
        }
        let same = match open && !ends.0 {
            // in a directory that overlayfs does not merge with another one it would list them
            true if hidden_by_old == hidden_by_new => hidden_by_new.is_empty() || self.new.merged_below(path)?,
            true => false,
            false => hidden_by_new.is_empty(),
        };
        if !same {
            return self.merged(path, hand_on, |name| Some(sub(name)));
        }
        self.attributes(path, (&o, b".", &o.meta()?), (&n, b".", &n.meta()?))?;
        let (o, n) = ([(0, o)], [(0, n)]);
        self.names(path, (&o, &was.names), (&n, &is.names), &mut |name, _, _| {
            hand_on(Task { path: join(path, name), how: sub(name) });
        })
    }

    /// Compares a directory with all branches that are merged in it; `sub` says how to go on with a directory that both first branches hold.
    fn merged(&self, path: &[u8], hand_on: &mut dyn FnMut(Task), sub: impl Fn(&[u8]) -> Option<How>) -> Result<()> {
        let old = self.old.contributors(&self.old.root(), path)?;
        let new = self.new.contributors(&self.new.root(), path)?;
        self.directory(path, &old, &new, |name, old, new| {
            let both = old.first() == Some(&0) && new.first() == Some(&0);
            let how = if both { sub(name) } else { None };
            hand_on(Task { path: join(path, name), how: how.unwrap_or(How::Merged(old, new)) });
        })
    }
}
