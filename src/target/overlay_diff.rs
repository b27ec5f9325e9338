//! One aufs branch becomes one overlay `diff`: the heart of the migration to overlay2 and overlay.
//!
//! ```text
//! aufs/diff/<id>                     diff/
//!   file, symlink, device, …    →      the same, linked, cloned or copied
//!   folder/                     →      folder/, its times last
//!   folder/.wh..wh..opq         →      trusted.overlay.opaque=y on folder
//!   .wh.NAME                    →      NAME as character device 0:0, if a layer below shows NAME
//!   NAME/ beside .wh.NAME       →      NAME/, opaque
//!   .wh..wh.{aufs,plnk,orph,…}  →      nothing
//! ```
//!
//! Each folder is a task of its own. A whiteout is made only where the layers below show the name: in a folder that overlayfs does not
//! merge with another, it lists whiteouts as ghosts (FORMATS 11.2). A folder's times are set when all its names are made: what later
//! happens in its subfolders does not change them.

use crate::branch::{self, Format, Markers};
use crate::disk::attrs::Times;
use crate::disk::{Dir, FileType};
use crate::error::{Error, IoContext, Result};
use crate::place::Placer;
use crate::plan::scan::join;
use crate::view::{Chain, Contributors};
use rustix::io::Errno;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};

/// A folder being written: its path, and, once somebody asks, which layers below are merged in it.
struct Spot {
    path: Vec<u8>,
    /// `.wh.NAME` beside this folder: nothing of a lower one shows (FORMATS 11.1).
    replaced: bool,
    above: Option<Arc<Spot>>,
    below: OnceLock<Contributors>,
}

struct Writer<'a> {
    chain: &'a Chain,
    placer: &'a Placer,
    /// The layer's first whiteout; the others are links of it.
    whiteout: Mutex<Option<(Arc<Dir>, Vec<u8>)>>,
    failed: Mutex<Option<Error>>,
}

/// Writes the nearest branch of `chain` below the root of `placer`.
pub fn write(chain: &Chain, placer: &Placer) -> Result<()> {
    let writer = Writer { chain, placer, whiteout: Mutex::default(), failed: Mutex::default() };
    let from = chain.branch(0)?.dir.again()?;
    let to = placer.root().again()?;
    let below: Contributors = (1..chain.branches.len() as u16).collect();
    let spot = Spot { path: Vec::new(), replaced: false, above: None, below: OnceLock::from(below) };
    rayon::scope(|s| folder(s, &writer, from, to, spot));
    match writer.failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(e) => Err(e),
        None => placer.settle(),
    }
}

fn folder<'s>(scope: &rayon::Scope<'s>, w: &'s Writer<'_>, from: Dir, to: Dir, spot: Spot) {
    if w.failed.lock().unwrap_or_else(|e| e.into_inner()).is_some() {
        return;
    }
    let (from, to, spot) = (Arc::new(from), Arc::new(to), Arc::new(spot));
    let done = w.folder(&from, &to, &spot, |name, replaced| {
        let (from, to) = (from.clone(), to.clone());
        let spot = Spot { path: join(&spot.path, &name), replaced, above: Some(spot.clone()), below: OnceLock::new() };
        scope.spawn(move |scope| match from.open(&name).and_then(|f| Ok((f, to.open(&name)?))) {
            Ok((f, t)) => folder(scope, w, f, t, spot),
            Err(e) => w.fail(e),
        });
    });
    if let Err(e) = done {
        w.fail(e);
    }
}

impl Writer<'_> {
    fn fail(&self, e: Error) {
        self.failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
    }

    fn folder(&self, from: &Dir, to: &Arc<Dir>, spot: &Spot, mut descend: impl FnMut(Vec<u8>, bool)) -> Result<()> {
        let at_root = spot.path.is_empty();
        let marks = branch::markers(from, Format::Aufs, at_root)?;
        let opaque = spot.replaced || marks.opaque;
        if opaque {
            // for the folders below: nothing of the lower layers shows here
            let _ = spot.below.set(Contributors::new());
        }
        let mut zero = Vec::new();
        let mut folders = Vec::new();
        branch::for_each_entry(from, Format::Aufs, at_root, |name, kind, _| {
            match kind {
                FileType::Directory => {
                    to.mkdir(name, 0o700)?;
                    self.placer.tally.folders.fetch_add(1, Ordering::Relaxed);
                    folders.push(name.to_vec());
                }
                // a device 0:0 as data would be a deletion here: it cannot be kept (FORMATS 11.11)
                FileType::CharacterDevice if from.stat(name)?.is_overlay_whiteout() => zero.push(name.to_vec()),
                _ => self.placer.put(0, from, name, to, &join(&spot.path, name))?,
            }
            Ok(())
        })?;
        if !opaque {
            self.whiteouts(from, to, spot, &marks, &zero)?;
        }
        self.placer.finish_folder(from, to, opaque)?;
        for name in folders {
            let replaced = marks.whiteouts.contains(&name);
            descend(name, replaced);
        }
        Ok(())
    }

    /// Makes the whiteouts of a folder that is not opaque; in an opaque one they would be ghosts (FORMATS 11.4).
    fn whiteouts(&self, from: &Dir, to: &Arc<Dir>, spot: &Spot, marks: &Markers, zero: &[Vec<u8>]) -> Result<()> {
        if marks.whiteouts.is_empty() && zero.is_empty() {
            return Ok(());
        }
        let below = self.chain.open(&self.below(spot)?, &spot.path)?;
        let hidden = marks.whiteouts.iter().filter(|w| from.try_stat(w) == Err(Errno::NOENT));
        for name in hidden.chain(zero) {
            if self.chain.shows(&below, name)? {
                self.whiteout(to, name)?;
            }
        }
        Ok(())
    }

    /// The branches below that are merged in a folder: asked for only where there is a whiteout, so that most folders of a deep stack
    /// cost no look at the layers below.
    fn below(&self, spot: &Spot) -> Result<Contributors> {
        if let Some(known) = spot.below.get() {
            return Ok(known.clone());
        }
        let found = match &spot.above {
            None => Contributors::new(),
            Some(above) => {
                let (_, name) = crate::disk::split(&spot.path);
                self.chain.step(&self.chain.open(&self.below(above)?, &above.path)?, name)?
            }
        };
        Ok(spot.below.get_or_init(|| found).clone())
    }

    /// A device 0:0. All of a layer are links of one inode, as the kernel's own (FORMATS 2.2); at the file system's limit a new one.
    fn whiteout(&self, to: &Arc<Dir>, name: &[u8]) -> Result<()> {
        self.placer.tally.whiteouts.fetch_add(1, Ordering::Relaxed);
        let mut first = self.whiteout.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((dir, leader)) = &*first {
            match dir.try_link(leader, to, name) {
                Ok(()) => return Ok(()),
                Err(Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => {}
                other => return other.on(|| format!("make whiteout {}", to.show(name))),
            }
        }
        to.mknod(name, FileType::CharacterDevice, 0)?;
        // no clock in the result: the same store gives the same tree
        to.set_times(name, Times::EPOCH)?;
        *first = Some((to.clone(), name.to_vec()));
        Ok(())
    }
}
