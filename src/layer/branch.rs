//! One layer on the disk as a list of names: what is there, and what says that something below is not.
//!
//! ```text
//! aufs/diff/<id>/          Format::Aufs       .wh.NAME, .wh..wh..opq; .wh..wh.{aufs,plnk,orph} at the root are aufs's own
//! overlay2/<id>/diff/      Format::Overlay    char device 0:0, xattr trusted.overlay.opaque=y
//! vfs/dir/<id>/            Format::Plain      no markers: a whole file system
//! ```
//!
//! The scanner: [`Branch`] opens directories, [`markers`] reads the markers of one directory, [`for_each_entry`] its real entries, [`list`] both.
//! Nothing here looks at other layers; that is [`crate::layer::view`].

use crate::disk::{Dir, FileType, attrs};
use crate::error::Result;
use crate::ids::LayerId;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, OnceLock};

/// How a driver writes down deletions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// FORMATS 1.2.
    Aufs,
    /// FORMATS 2.2.
    Overlay,
    /// A complete tree.
    Plain,
}

/// One layer's own tree. It is opened when somebody asks for it: most layers of a deep stack are not looked at.
#[derive(Debug)]
pub struct Branch {
    /// Its driver id; `None` for a tree that is no layer.
    pub id: Option<LayerId>,
    /// How it writes down deletions.
    pub format: Format,
    /// Its root directory, below [`Branch::at`].
    path: String,
    at: Arc<Dir>,
    dir: OnceLock<Dir>,
}

impl Branch {
    /// The tree at `path` below `at`.
    pub fn below(at: &Arc<Dir>, path: String, id: Option<LayerId>, format: Format) -> Branch {
        Branch { id, format, path, at: at.clone(), dir: OnceLock::new() }
    }

    /// A tree that is open.
    pub fn open(dir: Dir, id: Option<LayerId>, format: Format) -> Branch {
        Branch::below(&Arc::new(dir), String::new(), id, format)
    }

    /// Its root directory.
    pub fn dir(&self) -> Result<&Dir> {
        if self.path.is_empty() {
            return Ok(&self.at);
        }
        if let Some(dir) = self.dir.get() {
            return Ok(dir);
        }
        let dir = self.at.open(&self.path)?;
        Ok(self.dir.get_or_init(|| dir))
    }
}

/// What a name in an aufs branch means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// A file or directory of the layer.
    Entry,
    /// `.wh.NAME`: NAME of the layers below is hidden. Whatever type the marker has (FORMATS 11.29).
    Whiteout(&'a [u8]),
    /// `.wh..wh..opq`: nothing of the layers below shows in this directory.
    Opaque,
    /// aufs's own, or a remainder of a crash: never part of the layer.
    Internal(Internal),
}

/// The names that aufs keeps for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Internal {
    /// `.wh..wh.aufs` at the root: the inode that whiteouts are linked to.
    Base,
    /// `.wh..wh.plnk/` at the root: further links of files whose other names are elsewhere (FORMATS 1.3).
    PseudoLinks,
    /// `.wh..wh.orph/` at the root: files that were open when they were removed.
    Orphans,
    /// `.wh..wh.NAME.HHHH`: a directory on its way out, left by a crash (FORMATS 1.2).
    Transient,
    /// `.wh.`, `.wh..` and `.wh...`: would name the directory itself (FORMATS 11.9).
    Nameless,
}

impl Internal {
    /// In the words of a report.
    pub fn describe(self) -> &'static str {
        match self {
            Internal::Base => "aufs's whiteout base",
            Internal::PseudoLinks => "aufs's pseudo-links, further names of files that are in the layer",
            Internal::Orphans => "aufs's directory for files removed while they were open",
            Internal::Transient => "a directory that aufs was removing when it was stopped",
            Internal::Nameless => "a whiteout without a name",
        }
    }
}

/// Starts every aufs marker.
pub const WH: &[u8] = b".wh.";
/// The name of the mark of an opaque directory.
pub const OPQ: &[u8] = b".wh..wh..opq";

/// What `name` means in an aufs branch; `at_root` in its root directory.
pub fn classify(name: &[u8], at_root: bool) -> Name<'_> {
    let Some(rest) = name.strip_prefix(WH) else { return Name::Entry };
    match rest {
        _ if name == OPQ => Name::Opaque,
        b".wh.aufs" if at_root => Name::Internal(Internal::Base),
        b".wh.plnk" if at_root => Name::Internal(Internal::PseudoLinks),
        b".wh.orph" if at_root => Name::Internal(Internal::Orphans),
        b"" | b"." | b".." => Name::Internal(Internal::Nameless),
        // aufs takes `.wh..wh.x` as the whiteout of `.wh.x`, a name that cannot exist
        _ if rest.starts_with(WH) => Name::Internal(Internal::Transient),
        _ => Name::Whiteout(rest),
    }
}

/// The markers of one directory of one branch.
#[derive(Debug, Default)]
pub struct Markers {
    /// Names of the layers below that are hidden.
    pub whiteouts: HashSet<Vec<u8>>,
    /// Nothing of the layers below shows. Never set for a branch root: aufs and overlayfs both ignore it there (FORMATS 11.5).
    pub opaque: bool,
    /// The branch root carries an opaque mark, which has no effect.
    pub opaque_root: bool,
    /// Names that are not part of the layer.
    pub internal: Vec<(Vec<u8>, Internal)>,
}

/// A part of the names of one directory, and the same part of any other: what is merged or compared at once.
/// Nobody holds all the names of a directory of millions in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    of: u64,
    this: u64,
}

impl Slice {
    /// All names.
    pub const WHOLE: Slice = Slice { of: 1, this: 0 };
    /// About so many names are in one: some 15 MiB.
    pub const NAMES: u64 = 100_000;
    /// The whole directory is read for each slice, so there are no more than this: past that they grow instead.
    pub const MOST: u64 = 32;

    /// The slices of directories that hold so many names together.
    pub fn of(names: u64) -> impl Iterator<Item = Slice> {
        let of = (names / Self::NAMES + 1).min(Self::MOST);
        (0..of).map(move |this| Slice { of, this })
    }

    /// Is the name in it?
    pub fn holds(self, name: &[u8]) -> bool {
        if self.of == 1 {
            return true;
        }
        let mut h = DefaultHasher::new();
        h.write(name);
        h.finish() % self.of == self.this
    }
}

/// Counts the names in a directory, but takes one as empty if its size says that it holds less than a slice: no file system writes
/// down a name in one byte (btrfs, which counts the names' own bytes, counts them twice).
pub fn count_if_large(dir: &Dir) -> Result<u64> {
    let mut count = 0;
    if dir.meta()?.size > Slice::NAMES {
        dir.for_each(|_, _, _| {
            count += 1;
            Ok(())
        })?;
    }
    Ok(count)
}

/// Reads the markers of a directory. The listing is streamed: memory grows with the markers, not with the entries.
pub fn markers(dir: &Dir, format: Format, at_root: bool) -> Result<Markers> {
    list(dir, format, at_root, Slice::WHOLE, |_, _, _| Ok(()))
}

/// Calls `entry` with each real entry of a directory that is in `slice`, as [`for_each_entry`] does, and returns its markers, with the
/// whiteouts of the names in `slice`: a crowded directory is read once for both.
pub fn list(
    dir: &Dir,
    format: Format,
    at_root: bool,
    slice: Slice,
    mut entry: impl FnMut(&[u8], FileType, u64) -> Result<()>,
) -> Result<Markers> {
    let mut out = Markers::default();
    for_each_name(dir, format, at_root, slice, |name, meaning, kind, ino| {
        match meaning {
            Name::Entry => entry(name, kind, ino)?,
            Name::Whiteout(w) => {
                out.whiteouts.insert(w.to_vec());
            }
            Name::Opaque if at_root => out.opaque_root = true,
            Name::Opaque => out.opaque = true,
            Name::Internal(kind) => out.internal.push((name.to_vec(), kind)),
        }
        Ok(())
    })?;
    if format == Format::Overlay {
        let mark = is_opaque(dir, format)?;
        out.opaque = mark && !at_root;
        out.opaque_root = mark && at_root;
    }
    Ok(out)
}

/// Calls `f` with each real entry of a directory: name, type, inode. Markers and aufs's own names are left out. A character device 0:0 in an
/// aufs branch is an entry; elsewhere it is a whiteout.
pub fn for_each_entry(
    dir: &Dir,
    format: Format,
    at_root: bool,
    mut f: impl FnMut(&[u8], FileType, u64) -> Result<()>,
) -> Result<()> {
    for_each_name(dir, format, at_root, Slice::WHOLE, |name, meaning, kind, ino| match meaning {
        Name::Entry => f(name, kind, ino),
        _ => Ok(()),
    })
}

/// Calls `f` with each name in a directory and what it means; not with entries and whiteouts of other slices.
fn for_each_name(
    dir: &Dir,
    format: Format,
    at_root: bool,
    slice: Slice,
    mut f: impl FnMut(&[u8], Name<'_>, FileType, u64) -> Result<()>,
) -> Result<()> {
    dir.for_each(|n, kind, ino| {
        let meaning = match format {
            Format::Aufs => classify(n, at_root),
            Format::Overlay | Format::Plain => Name::Entry,
        };
        let here = match meaning {
            Name::Entry => slice.holds(n),
            Name::Whiteout(hidden) => slice.holds(hidden),
            // these speak for the directory, not for one name
            Name::Opaque | Name::Internal(_) => true,
        };
        if !here {
            return Ok(());
        }
        let may_delete = kind == FileType::CharacterDevice && format == Format::Overlay;
        let deletes = may_delete && dir.stat(n)?.is_overlay_whiteout();
        match format {
            Format::Overlay if deletes => f(n, Name::Whiteout(n), kind, ino),
            _ => f(n, meaning, kind, ino),
        }
    })
}

/// Is `name` hidden in the layers below by this directory's own whiteout of it? The cheap form for a single name.
pub fn has_whiteout(dir: &Dir, format: Format, name: &[u8]) -> Result<bool> {
    match format {
        Format::Plain => Ok(false),
        Format::Overlay => Ok(dir.try_stat(name).is_ok_and(|m| m.is_overlay_whiteout())),
        Format::Aufs => {
            let mut wh = WH.to_vec();
            wh.extend_from_slice(name);
            // a name of more than 251 bytes can have no whiteout (FORMATS 11.27)
            Ok(wh.len() <= 255 && matches!(classify(&wh, false), Name::Whiteout(_)) && dir.try_stat(&wh).is_ok())
        }
    }
}

/// Is this directory opaque? The cheap form, without its whiteouts. Not for branch roots.
pub fn is_opaque(dir: &Dir, format: Format) -> Result<bool> {
    match format {
        Format::Plain => Ok(false),
        Format::Aufs => Ok(dir.try_stat(OPQ).is_ok()),
        // value `x` (Linux 6.8, xwhiteouts) is not opaque (FORMATS 11.21)
        Format::Overlay => Ok(dir.xattrs(b".")?.get(attrs::OPAQUE).is_some_and(|v| v == b"y")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_a_few_times_at_most() {
        let slices = |names| Slice::of(names).count() as u64;
        assert_eq!((slices(0), slices(Slice::NAMES - 1), slices(Slice::NAMES)), (1, 1, 2));
        assert_eq!((slices(10_000_000), slices(u64::MAX)), (Slice::MOST, Slice::MOST));
    }

    #[test]
    fn names_mean_what_aufs_and_oci_say() {
        use Internal::*;
        let cases: &[(&[u8], bool, Name)] = &[
            (b"file", true, Name::Entry),
            (b"wh.file", true, Name::Entry),
            (b".who", true, Name::Entry),
            (b".wh", true, Name::Entry),
            (b".wh.file", true, Name::Whiteout(b"file")),
            (b".wh.file", false, Name::Whiteout(b"file")),
            (b".wh..hidden", false, Name::Whiteout(b".hidden")),
            (b".wh....", false, Name::Whiteout(b"...")),
            (b".wh.\xff", false, Name::Whiteout(b"\xff")),
            (b".wh..wh..opq", false, Name::Opaque),
            (b".wh..wh..opq", true, Name::Opaque),
            (b".wh..wh.aufs", true, Name::Internal(Base)),
            (b".wh..wh.plnk", true, Name::Internal(PseudoLinks)),
            (b".wh..wh.orph", true, Name::Internal(Orphans)),
            // FORMATS 11.9: below the root these are not aufs's directories, and no name can match them
            (b".wh..wh.plnk", false, Name::Internal(Transient)),
            (b".wh..wh.name.01ab", false, Name::Internal(Transient)),
            (b".wh.", false, Name::Internal(Nameless)),
            (b".wh..", false, Name::Internal(Nameless)),
            (b".wh...", false, Name::Internal(Nameless)),
        ];
        for (name, at_root, want) in cases {
            assert_eq!(classify(name, *at_root), *want, "{} at root {at_root}", String::from_utf8_lossy(name));
        }
    }
}
