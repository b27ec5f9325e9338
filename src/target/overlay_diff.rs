//! The upper branches of a stack become one overlay `diff`: the heart of the migration to overlay2 and overlay.
//!
//! ```text
//! aufs/diff/<id>                     diff/
//!   file, symlink, device, …    →      the same, linked, cloned or copied
//!   directory/                     →      directory/, its times last
//!   directory/.wh..wh..opq         →      trusted.overlay.opaque=y on directory
//!   .wh.NAME                    →      NAME as character device 0:0, if a layer below shows NAME
//!   NAME/ next to .wh.NAME       →      NAME/, opaque
//!   .wh..wh.{aufs,plnk,orph,…}  →      nothing
//! ```
//!
//! overlay2 takes one branch; overlay puts a container and its init layer into one `upper`: then what the two show together is written,
//! and their markers hide what the image shows.
//!
//! Each directory is a task of its own. A whiteout is made only where the layers below show the name: in a directory that overlayfs does not
//! merge with another, it lists whiteouts as ghosts (FORMATS 11.2). A directory's times are set when all its names are made: what later
//! happens in its subdirectories does not change them.

use crate::disk::attrs::Times;
use crate::disk::join;
use crate::disk::{Dir, FileType};
use crate::error::{Error, IoContext, Result};
use crate::layer::branch::{self, Format, Markers, Slice};
use crate::layer::view::{Chain, Contributors, Dirs};
use crate::layer::walk::walk;
use crate::target::file::{FileWriter, NewDir};
use rustix::io::Errno;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};

/// A directory being written: its path, and, once somebody asks, which layers below are merged in it.
pub(crate) struct MergePoint {
    pub(crate) path: Vec<u8>,
    /// Nothing of a lower directory shows, whatever marks this one has: `.wh.NAME` is next to it (FORMATS 11.1), or one of the upper
    /// branches has a file between.
    pub(crate) closed: bool,
    above: Option<Arc<MergePoint>>,
    below: OnceLock<Contributors>,
}

impl MergePoint {
    /// The root of the uppermost `upper` branches.
    pub(crate) fn root(chain: &Chain, upper: u16) -> MergePoint {
        let below: Contributors = (upper..chain.branches.len() as u16).collect();
        MergePoint { path: Vec::new(), closed: false, above: None, below: OnceLock::from(below) }
    }

    /// A directory in `above`.
    pub(crate) fn sub(above: &Arc<MergePoint>, name: &[u8], closed: bool) -> MergePoint {
        MergePoint { path: join(&above.path, name), closed, above: Some(above.clone()), below: OnceLock::new() }
    }

    /// For the directories below: nothing of the lower layers shows here.
    pub(crate) fn close(&self) {
        let _ = self.below.set(Contributors::new());
    }

    /// The branches below that are merged in a directory: asked for only where there is a whiteout, so that most directories of a deep stack
    /// cost no look at the layers below.
    pub(crate) fn below(&self, chain: &Chain) -> Result<Contributors> {
        if let Some(known) = self.below.get() {
            return Ok(known.clone());
        }
        let found = match &self.above {
            None => Contributors::new(),
            Some(above) => {
                let (_, name) = crate::disk::split(&self.path);
                chain.step(&chain.open(&above.below(chain)?, &above.path)?, name)?
            }
        };
        Ok(self.below.get_or_init(|| found).clone())
    }
}

/// A directory found in a directory.
struct Sub {
    name: Vec<u8>,
    /// The upper branches that are merged in it.
    from: Contributors,
    closed: bool,
}

/// A directory of the upper branches, the new one, and what is known of it.
struct At<'a> {
    dirs: &'a Dirs,
    to: &'a Arc<Dir>,
    point: &'a MergePoint,
}

struct Writer<'a> {
    chain: &'a Chain,
    files: &'a FileWriter,
    /// The layer's first whiteout; the others are links of it.
    whiteout: Mutex<Option<(Arc<Dir>, Vec<u8>)>>,
    /// Is it known that every whiteout hides something?
    all_hide: bool,
}

/// Writes the nearest `upper` branches of `chain` below the root of `files`. With `all_hide` every whiteout of theirs is known to hide
/// something.
pub fn write(chain: &Chain, upper: u16, files: &FileWriter, all_hide: bool) -> Result<()> {
    let writer = Writer { chain, files, whiteout: Mutex::default(), all_hide };
    let from: Contributors = (0..upper).collect();
    let dirs = Arc::new(chain.open(&from, b"")?);
    let to = Arc::new(files.root().again()?);
    // without a name: the directories themselves
    let root = Sub { name: Vec::new(), from, closed: false };
    walk((dirs, to, root, MergePoint::root(chain, upper)), |(dirs, to, sub, point), hand_on| {
        let (dirs, to) = open_sub(&dirs, &to, &sub)?;
        let (dirs, to, point) = (Arc::new(dirs), Arc::new(to), Arc::new(point));
        writer.directory(&At { dirs: &dirs, to: &to, point: &point }, |sub| {
            let point = MergePoint::sub(&point, &sub.name, sub.closed);
            hand_on((dirs.clone(), to.clone(), sub, point));
        })
    })?;
    files.join_groups()
}

/// Opens a subdirectory in its branches and in the new tree.
fn open_sub(dirs: &Dirs, to: &Dir, sub: &Sub) -> Result<(Vec<(u16, Dir)>, Dir)> {
    let merged = dirs.iter().filter(|(i, _)| sub.from.contains(i));
    let dirs = merged.map(|(i, d)| Ok((*i, d.open(&sub.name)?))).collect::<Result<_>>()?;
    Ok((dirs, to.open(&sub.name)?))
}

impl Writer<'_> {
    fn directory(&self, at: &At<'_>, descend: impl FnMut(Sub)) -> Result<()> {
        let At { dirs, to, point } = *at;
        let at_root = point.path.is_empty();
        let mut zero = Vec::new();
        let mut file = |from: (u16, &Dir), name: &[u8], kind| {
            // a device 0:0 as data would be a deletion here: it cannot be kept (FORMATS 11.11)
            if kind == FileType::CharacterDevice && from.1.stat(name)?.is_overlay_whiteout() {
                zero.push(name.to_vec());
                return Ok(());
            }
            self.files.put(from, name, NewDir { dir: to, path: &point.path })
        };
        let mut directories = Vec::new();
        let marks = match dirs {
            // the usual case: listed once, streamed
            [(i, dir)] => {
                let marks = branch::list(dir, Format::Aufs, at_root, Slice::WHOLE, |name, kind, _| {
                    if kind != FileType::Directory {
                        return file((*i, dir), name, kind);
                    }
                    self.mkdir(to, name)?;
                    directories.push(Sub { name: name.to_vec(), from: vec![*i], closed: false });
                    Ok(())
                })?;
                for sub in directories.iter_mut().filter(|_| !marks.whiteouts.is_empty()) {
                    sub.closed = marks.whiteouts.contains(&sub.name);
                }
                marks
            }
            _ => {
                for (name, node) in self.chain.merge_open(dirs, at_root)?.names {
                    if node.kind != FileType::Directory {
                        file(node.holder(dirs)?, &name, node.kind)?;
                        continue;
                    }
                    self.mkdir(to, &name)?;
                    directories.push(Sub { closed: node.closed(), from: node.from, name });
                }
                marks(dirs, at_root)?
            }
        };
        let opaque = point.closed || marks.opaque;
        if opaque {
            point.close();
        } else {
            self.whiteouts(at, &marks, &zero)?;
        }
        let (_, top) = dirs.first().ok_or_else(|| Error::corrupt("a directory that isn't in any layer"))?;
        self.files.finish_dir(top, to, opaque)?;
        directories.into_iter().for_each(descend);
        Ok(())
    }

    fn mkdir(&self, to: &Dir, name: &[u8]) -> Result<()> {
        self.files.tally.directories.fetch_add(1, Ordering::Relaxed);
        to.mkdir_unfinished(name)
    }

    /// Makes the whiteouts of a directory that is not opaque; in an opaque one they would be ghosts (FORMATS 11.4).
    fn whiteouts(&self, at: &At<'_>, marks: &Markers, zero: &[Vec<u8>]) -> Result<()> {
        let At { dirs, to, point } = *at;
        if marks.whiteouts.is_empty() && zero.is_empty() {
            return Ok(());
        }
        let all_hide = self.all_hide && zero.is_empty();
        let below = if all_hide { Vec::new() } else { self.chain.open(&point.below(self.chain)?, &point.path)? };
        for name in &marks.whiteouts {
            if !self.chain.shows(dirs, name)? && (all_hide || self.chain.shows(&below, name)?) {
                self.whiteout(to, name)?;
            }
        }
        for name in zero {
            if self.chain.shows(&below, name)? {
                self.whiteout(to, name)?;
            }
        }
        Ok(())
    }

    /// A device 0:0. All of a layer are links of one inode, as the kernel's own (FORMATS 2.2); at the file system's limit a new one.
    fn whiteout(&self, to: &Arc<Dir>, name: &[u8]) -> Result<()> {
        self.files.tally.whiteouts.fetch_add(1, Ordering::Relaxed);
        let mut first = self.whiteout.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((dir, leader)) = &*first {
            match dir.try_link(leader, to, name) {
                Ok(()) => return Ok(()),
                Err(Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => {}
                other => return other.on(|| format!("make whiteout {}", to.show(name))),
            }
        }
        to.mknod(name, FileType::CharacterDevice, 0)?;
        self.files.tally.made(0);
        // no clock in the result: the same store gives the same tree
        to.set_times(name, Times::EPOCH)?;
        *first = Some((to.clone(), name.to_vec()));
        Ok(())
    }
}

/// The marks of a directory of some branches, down to the first that is opaque.
fn marks(dirs: &Dirs, at_root: bool) -> Result<Markers> {
    let mut out = Markers::default();
    for (_, dir) in dirs {
        let marks = branch::markers(dir, Format::Aufs, at_root)?;
        out.whiteouts.extend(marks.whiteouts);
        out.opaque = marks.opaque;
        if out.opaque {
            break;
        }
    }
    Ok(out)
}
