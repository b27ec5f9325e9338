//! Copies of one file: its content by the cheapest way that the two file systems allow, and everything that belongs to it.
//!
//! clone (shared extents) → `copy_file_range` → read and write. Holes stay holes. EXDEV, EOPNOTSUPP and their like step down;
//! ENOSPC and EACCES stop.

use super::attrs::{self, Times, XattrScope};
use super::{Dir, FileType, Meta};
use crate::error::{Error, IoContext, Result};
use rustix::fs::{Gid, Mode, SeekFrom, Uid};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU8, Ordering};

/// How the content got to its new place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transfer {
    /// One inode, two names: for what nobody writes into.
    Link,
    /// Two inodes, shared extents (FICLONE).
    Clone,
    /// Two inodes, two contents.
    Copy,
}

/// What one source/target pair of file systems can do, learnt on the first file and remembered.
#[derive(Debug, Default)]
pub struct Ability {
    /// 0 clone, 1 `copy_file_range`, 2 read and write.
    step: AtomicU8,
}

impl Ability {
    /// Starts with clone if the plan allows it.
    pub fn starting(with_clone: bool) -> Ability {
        Ability { step: AtomicU8::new(if with_clone { 0 } else { 1 }) }
    }

    fn step_down(&self, from: u8) {
        self.step.fetch_max(from + 1, Ordering::Relaxed);
    }
}

/// These mean "not here", not "no": try the next way.
fn not_here(e: Errno) -> bool {
    matches!(
        e,
        Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NOTTY | Errno::PERM | Errno::TXTBSY
    )
}

/// What became of a copy.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// How the content went.
    pub how: Transfer,
    /// Bytes of disk that the new inode takes; shared extents count as well.
    pub disk: u64,
}

/// What is copied, and by which means.
pub struct Original<'a> {
    /// The directory that it is in.
    pub dir: &'a Dir,
    /// Its name there.
    pub name: &'a [u8],
    /// Its `lstat`.
    pub meta: &'a Meta,
    /// What can be tried between its file system and that of the copy.
    pub ability: &'a Ability,
    /// Is told of each stretch that was copied.
    pub moved: Option<&'a dyn Fn(u64)>,
}

impl Original<'_> {
    fn moved(&self, bytes: u64) {
        if let Some(moved) = self.moved {
            moved(bytes);
        }
    }
}

/// Copies a file to `new` in `to` with everything that belongs to it. Hard links are the caller's: this makes a new inode.
pub fn copy_object(original: &Original<'_>, to: &Dir, new: &[u8], scope: XattrScope) -> Result<Copied> {
    let Original { dir: from, name, meta: m, .. } = *original;
    match m.kind {
        FileType::RegularFile => return copy_file(original, to, new, scope),
        FileType::Symlink => to.symlink(&from.read_link(name)?, new)?,
        FileType::CharacterDevice | FileType::BlockDevice => to.mknod(new, m.kind, m.rdev)?,
        FileType::Fifo | FileType::Socket => to.mknod(new, m.kind, 0)?,
        FileType::Directory | FileType::Unknown => {
            return Err(Error::corrupt(format!("{} isn't a regular file", from.show(name))));
        }
    }
    to.set_owner_mode_xattrs(new, m, &from.xattrs(name)?, scope)?;
    to.set_times(new, m)?;
    Ok(Copied { how: Transfer::Copy, disk: to.stat(new)?.allocated })
}

fn copy_file(original: &Original<'_>, to: &Dir, new: &[u8], scope: XattrScope) -> Result<Copied> {
    let Original { dir: from, name, meta: m, .. } = *original;
    let (src, now) = from.open_seen(name)?;
    if (now.ino, now.size, now.mtime) != (m.ino, m.size, m.mtime) {
        return Err(changed(from, name));
    }
    let dst = to.create(new)?;
    let how = copy_content(&src, &dst, original, &|| format!("copy {} to {}", from.show(name), to.show(new)))?;
    let after = Meta::from_stat(&rustix::fs::fstat(&src).on(|| format!("stat {}", from.show(name)))?);
    if (after.size, after.mtime) != (m.size, m.mtime) {
        return Err(changed(from, name));
    }
    let made = Meta::from_stat(&rustix::fs::fstat(&dst).on(|| format!("stat {}", to.show(new)))?);
    // on the open descriptors: fewer walks than by name
    let xattrs = attrs::of_file(&src, || from.show(name))?;
    let what = || format!("set owner, mode and times of {}", to.show(new));
    // most files of an image are root's, as the new one is: a transaction of the file system less
    if (made.uid, made.gid) != (m.uid, m.gid) {
        super::fault::effect("chown");
        rustix::fs::fchown(&dst, Some(Uid::from_raw(m.uid)), Some(Gid::from_raw(m.gid))).on(what)?;
    }
    super::fault::effect("chmod");
    rustix::fs::fchmod(&dst, Mode::from_raw_mode(m.mode)).on(what)?;
    for (n, v) in xattrs.iter().filter(|(n, _)| scope.keeps(n)) {
        to.set_xattr(new, n, v)?;
    }
    super::fault::effect("utimens");
    rustix::fs::futimens(&dst, &Times::from(m).stamps()).on(what)?;
    Ok(Copied { how, disk: made.allocated })
}

fn changed(dir: &Dir, name: &[u8]) -> Error {
    Error::corrupt(format!("{} changed while it was read", dir.show(name)))
        .hint("Stop the program that writes into the old store, then run unaufs again.")
}

/// What is copied, for an error.
type What<'a> = &'a dyn Fn() -> String;

fn copy_content(src: &File, dst: &File, original: &Original<'_>, what: What<'_>) -> Result<Transfer> {
    let Original { meta: m, ability, .. } = *original;
    if m.size == 0 {
        return Ok(Transfer::Copy);
    }
    super::fault::effect("content");
    if ability.step.load(Ordering::Relaxed) == 0 {
        match rustix::fs::ioctl_ficlone(dst, src) {
            Ok(()) => {
                original.moved(m.size);
                return Ok(Transfer::Clone);
            }
            Err(e) if not_here(e) => ability.step_down(0),
            Err(e) => return Err(Error::io(what(), e)),
        }
    }
    if m.allocated >= m.size {
        copy_range(src, dst, 0..m.size, original, what)?;
    } else {
        let mut pos = 0;
        while let Some(range) = next_data(src, pos, m.size).on(what)? {
            pos = range.end;
            copy_range(src, dst, range, original, what)?;
        }
        super::fault::effect("size");
        rustix::fs::ftruncate(dst, m.size).on(what)?;
    }
    Ok(Transfer::Copy)
}

/// Gives a new file blocks of its own, also where the file system cannot promise any without writing.
pub fn allocate(file: &File, bytes: u64) -> Result<(), std::io::Error> {
    super::fault::effect("allocate");
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let zeros = [0u8; 64 * 1024];
            let mut left = bytes;
            while left > 0 {
                let n = zeros.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let mut f = file;
                f.write_all(&zeros[..n])?;
                left -= n as u64;
            }
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}

/// The next stretch of data at or after `pos`; `None` behind the last one.
fn next_data(src: &File, pos: u64, size: u64) -> Result<Option<Range<u64>>, Errno> {
    if pos >= size {
        return Ok(None);
    }
    let start = match rustix::fs::seek(src, SeekFrom::Data(pos)) {
        Ok(s) => s,
        Err(Errno::NXIO) => return Ok(None),
        // a file system that knows no holes
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(pos..size)),
        Err(e) => return Err(e),
    };
    let end = rustix::fs::seek(src, SeekFrom::Hole(start))?.min(size);
    Ok((start < end).then_some(start..end))
}

/// So much is copied between two looks at [`crate::stop`].
const STRETCH: u64 = 16 << 20;
/// So much is read at once where the kernel does not copy by itself.
const BUFFER: usize = 256 << 10;

fn copy_range(src: &File, dst: &File, range: Range<u64>, original: &Original<'_>, what: What<'_>) -> Result<()> {
    let ability = original.ability;
    let Range { start: mut pos, end } = range;
    while pos < end && ability.step.load(Ordering::Relaxed) <= 1 {
        let (mut a, mut b) = (pos, pos);
        crate::stop::check()?;
        let want = usize::try_from((end - pos).min(STRETCH)).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(src, Some(&mut a), dst, Some(&mut b), want) {
            Ok(0) => break,
            Ok(n) => {
                pos += n as u64;
                original.moved(n as u64);
            }
            Err(Errno::INTR) => {}
            Err(e) if not_here(e) => ability.step_down(1),
            Err(e) => return Err(Error::io(what(), e)),
        }
    }
    if pos == end {
        return Ok(());
    }
    // most files are small, and clearing a large buffer for each costs more than reading them
    let mut buf = vec![0u8; usize::try_from(end - pos).unwrap_or(BUFFER).min(BUFFER)];
    while pos < end {
        crate::stop::check()?;
        let want = usize::try_from(end - pos).unwrap_or(BUFFER).min(BUFFER);
        match src.read_at(&mut buf[..want], pos) {
            Ok(0) => break,
            Ok(n) => {
                dst.write_all_at(&buf[..n], pos).on(what)?;
                pos += n as u64;
                original.moved(n as u64);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io(what(), e)),
        }
    }
    if pos == end { Ok(()) } else { Err(Error::io(what(), std::io::ErrorKind::UnexpectedEof)) }
}
