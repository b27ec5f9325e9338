//! Carries out a record, folder by folder. Each step looks first whether it is done, so that all of it may be repeated after a crash at
//! any instant; nothing needs more than a name or two of room.

use super::record::{Change, Step};
use crate::disk::attrs::Times;
use crate::disk::{Dir, FileType, split};
use crate::error::{Error, IoContext, Result};
use crate::plan::scan::join;
use rustix::io::Errno;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The whiteout base of aufs, to which its markers are linked (FORMATS 1.2).
const BASE: &[u8] = b".wh..wh.aufs";

/// A layer and the places beside it.
pub struct Carrier {
    /// The layer's root.
    pub tree: Dir,
    /// What was taken out of it.
    pub names: Dir,
    /// The folder of all layers' first whiteouts, and this one's name in it.
    pub whiteouts: (Dir, String),
    /// Where files are set aside; made when there is one.
    pub aside: (Dir, String),
    /// The first marker of aufs that was made, by its path.
    first_marker: Mutex<Option<Vec<u8>>>,
    /// Is the layer's first whiteout, if there is one, known to be finished?
    whole: AtomicBool,
}

/// A folder of the layer, and the folder of what was taken out of it once it is needed.
struct Spot<'a> {
    dir: Dir,
    path: &'a [u8],
    names: Option<Dir>,
}

impl Carrier {
    /// For one layer.
    pub fn new(tree: Dir, names: Dir, whiteouts: (Dir, String), aside: (Dir, String)) -> Carrier {
        let (first_marker, whole) = (Mutex::default(), AtomicBool::new(false));
        Carrier { tree, names, whiteouts, aside, first_marker, whole }
    }

    /// Does one folder.
    pub fn change(&self, change: &Change) -> Result<()> {
        let at = |base: &Dir| if change.path.is_empty() { base.again().map(Some) } else { base.open_opt(&change.path) };
        let dir = at(&self.tree)?
            .ok_or_else(|| Error::corrupt(format!("the folder {} is gone", self.tree.show(&change.path))))?;
        let mut spot = Spot { dir, path: &change.path, names: at(&self.names)? };
        for step in &change.steps {
            self.step(&mut spot, step)?;
        }
        // nothing to do is nothing done: a folder that nobody may change does not stop the way back
        match Times::from(&spot.dir.meta()?) == change.times {
            true => Ok(()),
            false => spot.dir.set_times(b".", change.times),
        }
    }

    fn step(&self, at: &mut Spot<'_>, step: &Step) -> Result<()> {
        match step {
            Step::Park { name, .. } => self.park(at, name),
            Step::Unpark { name } => match &at.names {
                Some(names) if names.has(name)? => names.rename_new(name, &at.dir, name),
                _ => Ok(()),
            },
            Step::Device { name } => self.device(&at.dir, name),
            Step::NoDevice { name, parked } => {
                let ours = !parked || at.has_parked(name)?;
                if ours && at.dir.stat_opt(name)?.is_some_and(|m| m.is_overlay_whiteout()) {
                    at.dir.unlink(name)?;
                }
                Ok(())
            }
            // a container may have removed the name meanwhile
            Step::Set { name, attr, value } => match at.dir.has(name)? {
                true if at.dir.xattrs(name)?.get(attr) != Some(value) => at.dir.set_xattr(name, attr, value),
                _ => Ok(()),
            },
            Step::Drop { name, attr, .. } => match at.dir.has(name)? {
                true if at.dir.xattrs(name)?.contains_key(attr) => at.dir.remove_xattr(name, attr),
                _ => Ok(()),
            },
            Step::Marker { name } => self.marker(at, name),
            Step::Aside { name, parked } => {
                if at.dir.has(name)? && (!parked || at.has_parked(name)?) {
                    let to = self.aside.0.ensure(join(self.aside.1.as_bytes(), at.path), 0o700)?;
                    at.dir.rename_new(name, &to, name)?;
                }
                Ok(())
            }
        }
    }

    fn park(&self, at: &mut Spot<'_>, name: &[u8]) -> Result<()> {
        let names = match at.names.take() {
            Some(n) => n,
            None => self.names.ensure(at.path, 0o700)?,
        };
        let names = at.names.insert(names);
        if names.has(name)? {
            return Ok(());
        }
        at.dir.rename_new(name, names, name)
    }

    /// A device 0:0. All of a layer are links of one inode, as the kernel's own (FORMATS 2.2); at the file system's limit a new one.
    fn device(&self, dir: &Dir, name: &[u8]) -> Result<()> {
        if dir.stat_opt(name)?.is_some_and(|m| m.is_overlay_whiteout()) {
            return Ok(());
        }
        let (folder, first) = (&self.whiteouts.0, self.whiteouts.1.as_bytes());
        // an earlier attempt may have died between making it and giving it its time
        if !self.whole.swap(true, Ordering::Relaxed) && folder.has(first)? {
            folder.set_times(first, Times::EPOCH)?;
        }
        match folder.try_link(first, dir, name) {
            Err(Errno::NOENT) => {}
            Err(Errno::MLINK) => folder.unlink(first)?,
            other => return other.on(|| format!("make whiteout {}", dir.show(name))),
        }
        folder.mknod(first, FileType::CharacterDevice, 0)?;
        // no clock in the result: the same store gives the same tree
        folder.set_times(first, Times::EPOCH)?;
        folder.try_link(first, dir, name).on(|| format!("make whiteout {}", dir.show(name)))
    }

    /// A marker as the kernel makes it: a further name of the layer's whiteout base, else of the first that was made here.
    fn marker(&self, at: &Spot<'_>, name: &[u8]) -> Result<()> {
        if at.dir.has(name)? {
            return Ok(());
        }
        let mut first = self.first_marker.lock().unwrap_or_else(|e| e.into_inner());
        for base in [&self.tree, &self.names] {
            if base.stat_opt(BASE)?.is_some_and(|m| m.is_file()) && base.try_link(BASE, &at.dir, name).is_ok() {
                return Ok(());
            }
        }
        if let Some(path) = &*first {
            let (_, leader) = split(path);
            if self.tree.parent_of(path)?.0.try_link(leader, &at.dir, name).is_ok() {
                return Ok(());
            }
        }
        at.dir.write_new(name, b"", 0o444)?;
        *first = Some(join(at.path, name));
        Ok(())
    }
}

impl Spot<'_> {
    fn has_parked(&self, name: &[u8]) -> Result<bool> {
        match &self.names {
            Some(names) => names.has(name),
            None => Ok(false),
        }
    }
}
