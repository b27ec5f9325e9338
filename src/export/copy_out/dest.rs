//! Files below a directory of the host. Everything is made through the descriptors of directories that were made before: no symlink, `..` or
//! mount point in a container's tree leads out of DEST.
//!
//! ```text
//! DEST            SRC is a file                     SRC is a directory                SRC/.
//! a directory     DEST/name                         DEST/name/                        its contents in DEST/
//! a file          replaces it, with --force         error                             error
//! not there       DEST (not DEST/)                  DEST/, with its contents          the same
//! ```

use super::{Object, Request, Sink};
use crate::disk::attrs::XattrScope;
use crate::disk::copy::{Ability, Original, copy_object};
use crate::disk::within::within;
use crate::disk::{Dir, Meta};
use crate::error::{Error, IoContext, Kind, Result};
use crate::export::inside::{Asked, Place};
use crate::layer::view::Chain;
use crate::progress::Progress;
use crate::tar::viewtar::Shift;
use crate::text;
use rustix::io::Errno;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A place for files.
pub struct Dest<'p> {
    base: Dir,
    /// What the container's users are on the host.
    shift: Shift,
    /// Keep the container's owners.
    owners: bool,
    /// Who runs this.
    me: (u32, u32),
    force: bool,
    /// ROOT, by device and inode: it may be below DEST.
    root: (u64, u64),
    /// The container's tree has a directory where ROOT is.
    met_root: bool,
    ability: Ability,
    progress: &'p dyn Progress,
}

/// Finds out where things go, and what they are called there; an error if something is in the way.
pub fn prepare<'p>(
    root: &Dir,
    (chain, shift): (&Chain, Shift),
    (asked, place): (&Asked, &Place),
    request: &Request,
    progress: &'p dyn Progress,
) -> Result<(Dest<'p>, Vec<u8>)> {
    let (base, name) = choose(asked, place, request)?;
    if within(&base, root)? {
        let what = format!("{} is inside the data root", text::path(&request.dest));
        return Err(Error::new(Kind::Usage, what).hint("Copy to a directory elsewhere."));
    }
    if !request.force {
        let names = match name.is_empty() {
            true => chain.merge(&place.from, &place.path)?.names.into_keys().collect(),
            false => vec![name.clone()],
        };
        // nothing below a name that is made here can be there before it
        if let Some(there) = names.iter().find(|name| base.try_stat(name).is_ok()) {
            return Err(exists(&base, there));
        }
    }
    let at = root.meta()?;
    let dest = Dest {
        base,
        root: (at.dev, at.ino),
        met_root: false,
        shift,
        owners: request.owners,
        me: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        force: request.force,
        ability: Ability::starting(true),
        progress,
    };
    Ok((dest, name))
}

fn exists(dir: &Dir, name: &[u8]) -> Error {
    Error::new(Kind::Usage, format!("{} exists", dir.show(name)))
        .hint("Name another destination, or replace files with --force.")
}

/// The directory in which things are made, and the name of the first of them; empty for the contents of a directory.
fn choose(asked: &Asked, place: &Place, request: &Request) -> Result<(Dir, Vec<u8>)> {
    let dest = &request.dest;
    let shown = text::path(dest);
    let usage = |what: String| Error::new(Kind::Usage, what);
    let bytes = dest.as_os_str().as_bytes();
    let names_directory = bytes.ends_with(b"/") || bytes.ends_with(b"/.");
    match std::fs::metadata(dest) {
        Ok(m) if m.is_dir() => {
            let name = if asked.contents { b"" } else { asked.name().unwrap_or_default() };
            return Ok((Dir::open_named(dest)?, name.to_vec()));
        }
        Ok(_) if place.is_dir => {
            return Err(usage(format!("{shown} is a file, and a directory can't be copied to a file")));
        }
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound && names_directory && !place.is_dir => {
            return Err(usage(format!("there is no directory {shown}")).hint("Make it first."));
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(usage(format!("{shown} can't be written: {e}"))),
    }
    let name = dest.file_name().ok_or_else(|| usage(format!("{shown} isn't a file name")))?.as_bytes().to_vec();
    let parent = dest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let base = Dir::open_named(parent)
        .map_err(|e| usage(format!("{shown} can't be written: {}", e.chain())).hint("Make its directory first."))?;
    Ok((base, name))
}

impl Dest<'_> {
    /// The path of what is made, by the name of the first of it.
    pub fn shown(&self, name: &[u8]) -> String {
        if name.is_empty() { text::path(self.base.label()) } else { self.base.show(name) }
    }

    /// What becomes of owner and mode.
    fn settled(&self, m: &Meta) -> Meta {
        let container = self.shift.owner(m);
        if self.owners {
            return Meta { uid: container.0, gid: container.1, ..*m };
        }
        let mut mode = m.mode;
        // a program of another user must not become one that runs as the caller
        if !m.is_dir() && container.0 != self.me.0 {
            mode &= !0o4000;
        }
        if !m.is_dir() && container.1 != self.me.1 {
            mode &= !0o2000;
        }
        Meta { uid: self.me.0, gid: self.me.1, mode, ..*m }
    }

    /// Makes what is no directory, under a name that is free.
    fn make(&self, object: &Object<'_>, first: Option<&[u8]>, parent: &Dir, new: &[u8]) -> Result<Option<String>> {
        if let Some(first) = first {
            let (dir, name) = self.base.parent_of(first)?;
            // where no further name can be made there is a further file
            if dir.try_link(name, parent, new).is_ok() {
                return Ok(None);
            }
        }
        let meta = self.settled(&object.meta);
        let moved = |n: u64| self.progress.moved(n);
        let original =
            Original { dir: object.dir, name: object.name, meta: &meta, ability: &self.ability, moved: Some(&moved) };
        match copy_object(&original, parent, new, XattrScope::Overlay) {
            Ok(_) if self.shift == Shift::default() => Ok(None),
            Ok(_) => {
                // the copy has them as the host numbers users
                object.xattrs.iter().try_for_each(|(name, value)| parent.set_xattr(new, name, value))?;
                Ok(None)
            }
            Err(e) if e.errno() == Some(Errno::OPNOTSUPP) && parent.try_stat(new).is_ok() => {
                parent.set_times(new, &meta)?;
                Ok(Some("copied without its extended attributes, which can't be stored there".to_owned()))
            }
            Err(e) => Err(e),
        }
    }
}

impl Sink for Dest<'_> {
    fn directory(&mut self, name: &[u8], _: &Object<'_>) -> Result<()> {
        if name.is_empty() {
            return Ok(());
        }
        let (parent, new) = self.base.parent_of(name)?;
        match parent.try_stat(new) {
            Err(Errno::NOENT) => parent.mkdir(new, 0o700),
            Err(e) => Err(Error::io(format!("stat {}", parent.show(new)), e)),
            Ok(m) if (m.dev, m.ino) == self.root => {
                self.met_root = true;
                let what = format!("{} is ROOT, and nothing is written into it", parent.show(new));
                Err(Error::new(Kind::Usage, what).hint("Copy to a directory elsewhere."))
            }
            Ok(m) if m.is_dir() && self.force => Ok(()),
            Ok(m) if m.is_dir() => Err(exists(&parent, new)),
            Ok(_) => Err(Error::new(
                Kind::Failed,
                format!("{} isn't a directory, and a directory never replaces it", parent.show(new)),
            )),
        }
    }

    fn leave(&mut self, name: &[u8], meta: &Meta, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        if name.is_empty() {
            return Ok(());
        }
        let (parent, new) = self.base.parent_of(name)?;
        let meta = self.settled(meta);
        let made = parent.stat(new)?;
        if (made.uid, made.gid) != (meta.uid, meta.gid) {
            parent.set_owner(new, meta.uid, meta.gid)?;
        }
        parent.set_mode(new, meta.mode)?;
        let set = xattrs.iter().try_for_each(|(attribute, value)| parent.set_xattr(new, attribute, value));
        parent.set_times(new, &meta)?;
        set
    }

    fn file(&mut self, name: &[u8], object: &Object<'_>, first: Option<&[u8]>) -> Result<Option<String>> {
        let (parent, new) = self.base.parent_of(name)?;
        let there = match parent.try_stat(new) {
            Ok(m) => Some(m),
            Err(Errno::NOENT) => None,
            Err(e) => return Err(Error::io(format!("stat {}", parent.show(new)), e)),
        };
        match there {
            None => {}
            Some(_) if !self.force => return Err(exists(&parent, new)),
            Some(m) if m.is_dir() => {
                let what = format!("{} is a directory, and a file never replaces it", parent.show(new));
                return Err(Error::new(Kind::Failed, what));
            }
            Some(_) => {}
        }
        let temporary = format!(".unaufs-{}.partial", std::process::id()).into_bytes();
        let name = if there.is_some() { &temporary[..] } else { new };
        let made = self.make(object, first, &parent, name).inspect_err(|e| {
            if e.errno() != Some(Errno::EXIST) {
                // best effort: the error that led here is the one to tell
                let _ = crate::stop::regardless(|| parent.unlink(name));
            }
        })?;
        if there.is_some() {
            rustix::fs::renameat(parent.fd(), name, parent.fd(), new).on(|| format!("replace {}", parent.show(new)))?;
            // two names of one inode: renaming one to the other does nothing
            if parent.try_stat(name).is_ok() {
                parent.unlink(name)?;
            }
        }
        Ok(made)
    }

    fn is_full(&self) -> bool {
        self.met_root
    }
}
