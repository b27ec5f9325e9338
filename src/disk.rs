//! Files, reached through directory descriptors only.
//!
//! ```text
//! Dir ──open/child──▶ Dir            every step: no symlink, no magic link, no mount point crossed, nothing above
//!     ──for_each────▶ names          streamed, a directory of a million names is never held in memory
//!     ──mkdir, link, rename, …       effects on one name of this directory
//! ```
//!
//! A data root holds what strangers' images put there, and other programs may change it under our feet. A joined absolute path
//! could be led out of ROOT by a symlink; a name below an open descriptor cannot. Everything that touches
//! a disk goes through this module; `change` makes and removes names, [`attrs`] does owners, modes, times and xattrs, [`copy`] contents, [`remove`] deletion, [`same`] compares,
//! [`ioctl`] subvolumes, [`here`] fast questions about many names of one directory, [`flags`] what keeps an inode where it is.

pub mod attrs;
mod change;
pub mod copy;
pub mod fault;
pub mod flags;
pub mod here;
pub mod ioctl;
pub mod lock;
mod meta;
pub mod mounts;
pub mod remove;
pub mod same;
pub mod sqlite;
pub mod within;

use crate::error::{Error, IoContext, Result};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

pub use meta::Meta;
pub use rustix::fs::FileType;

/// One directory, held open. All names given to it are single components unless the method says otherwise.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Where it was when it was opened: for messages and for programs that need a path, never for opening.
    label: PathBuf,
    /// Follow a mount of the same file system.
    binds: bool,
    /// Has it been listed, so that the descriptor's read position is not the beginning?
    listed: AtomicBool,
}

/// `openat2` came with Linux 5.6; aufs hosts run kernels from 3.10 on. Set once it has failed with ENOSYS.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

const DIR_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// As many names of one metadata directory are held in memory: some 100 MiB.
pub const LISTED: usize = 1_000_000;

/// Bytes for one `getdents64` call.
const DENTS: usize = 32 * 1024;

impl Dir {
    /// Opens a directory that the user named; symlinks in that path are the user's own and are followed.
    pub fn open_named(path: &Path) -> Result<Dir> {
        let real = std::fs::canonicalize(path).on(|| format!("open {}", path.display()))?;
        let fd = rustix::fs::open(&real, DIR_FLAGS, Mode::empty()).on(|| format!("open {}", real.display()))?;
        Ok(Dir { fd, label: real, binds: false, listed: AtomicBool::new(false) })
    }

    /// Opens a directory below this one, or this one again. `rel` may have several components; none may be a symlink, `..` or a mount point.
    pub fn open(&self, rel: impl AsRef<[u8]>) -> Result<Dir> {
        let rel = rel.as_ref();
        self.try_open(rel).map_err(|e| self.not_opened(rel, e))
    }

    fn not_opened(&self, rel: &[u8], e: Errno) -> Error {
        let (which, hint) = match e {
            Errno::LOOP | Errno::NOTDIR if matches!(self.in_the_way(rel), Some((_, FileType::Symlink))) => (
                ", which is a symlink",
                "unaufs doesn't follow symlinks here. Put the directory itself in the place of the symlink.",
            ),
            Errno::LOOP | Errno::NOTDIR => (
                ", which isn't a directory",
                "Something else is in its place. Find out what it is, move it away, and restore the directory.",
            ),
            Errno::XDEV => ("", "Something is mounted there, or a symlink leads out of ROOT. unaufs follows neither."),
            _ => return Error::io(format!("open directory {}", self.show(rel)), e),
        };
        Error::io(format!("open directory {}{which}", self.show(rel)), e).hint(hint)
    }

    /// What keeps a path from being a directory: the first name on the way that isn't one, and its type.
    pub fn in_the_way(&self, rel: &[u8]) -> Option<(Vec<u8>, FileType)> {
        let mut path = Vec::new();
        for part in parts(rel) {
            path = join(&path, part);
            let kind = self.stat_opt(&path).ok().flatten()?.kind;
            if kind != FileType::Directory {
                return Some((path, kind));
            }
        }
        None
    }

    /// Like [`Dir::open`]; `None` if it is not there.
    pub fn open_opt(&self, rel: impl AsRef<[u8]>) -> Result<Option<Dir>> {
        let rel = rel.as_ref();
        match self.try_open(rel) {
            Ok(d) => Ok(Some(d)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.not_opened(rel, e)),
        }
    }

    /// Opens a directory below this one, with the plain errno: ENOTDIR or ELOOP when something else is in the way.
    pub fn try_open(&self, rel: &[u8]) -> Result<Dir, Errno> {
        let fd = self.open_beneath(rel, DIR_FLAGS)?;
        let label = if rel.is_empty() { self.label.clone() } else { self.label.join(os(rel)) };
        Ok(Dir { fd, label, binds: self.binds, listed: AtomicBool::new(false) })
    }

    fn open_beneath(&self, rel: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        // an empty path is ENOENT to the kernel
        let rel = if rel.is_empty() { b"." } else { rel };
        if !NO_OPENAT2.load(Ordering::Relaxed) && !fault::old_kernel() && rel.len() < 4000 {
            let how =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
            // the kernel would allow it where it stays below; nothing that Docker writes has it
            if rel.split(|c| *c == b'/').any(|part| part == b"..") {
                return Err(Errno::XDEV);
            }
            match rustix::fs::openat2(&self.fd, rel, flags, Mode::empty(), how) {
                // ENOSYS: before 5.6. EPERM: some container sandboxes answer so for calls that they do not know.
                Err(Errno::NOSYS | Errno::PERM) => {}
                // by components a mount of the same file system is followed, and no other
                Err(Errno::XDEV) if self.binds => return self.open_by_component(rel, flags),
                other => return other,
            }
            NO_OPENAT2.store(true, Ordering::Relaxed);
        }
        self.open_by_component(rel, flags)
    }

    /// The way below Linux 5.6: one `O_NOFOLLOW` step a component, and the device compared for mount points.
    fn open_by_component(&self, rel: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut dev = rustix::fs::fstat(&self.fd)?.st_dev;
        let mut at: Option<OwnedFd> = None;
        let mut parts = parts(rel).peekable();
        if parts.peek().is_none() {
            return rustix::fs::openat(&self.fd, ".", flags, Mode::empty());
        }
        while let Some(part) = parts.next() {
            if part == b".." {
                return Err(Errno::XDEV);
            }
            let flags = if parts.peek().is_some() { DIR_FLAGS } else { flags };
            let base = at.as_ref().map_or(self.fd.as_fd(), |f| f.as_fd());
            let fd = rustix::fs::openat(base, part, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            let here = rustix::fs::fstat(&fd)?.st_dev;
            // each subvolume of a btrfs has a device number of its own, within one mount
            if here != dev && mounts::crossed(base, fd.as_fd()) {
                return Err(Errno::XDEV);
            }
            dev = here;
            at = Some(fd);
        }
        at.ok_or(Errno::INVAL)
    }

    /// The same directory, in which mounts of its own file system are followed: for reading only. dockerd mounts `btrfs/` on itself while
    /// it runs (FORMATS 11.31).
    pub fn through_binds(self) -> Dir {
        Dir { binds: true, ..self }
    }

    /// A second handle with a read position of its own.
    pub fn again(&self) -> Result<Dir> {
        self.open(b"")
    }

    /// Where the directory was when it was opened. Not for opening anything.
    pub fn label(&self) -> &Path {
        &self.label
    }

    /// The path of a name in it, for messages.
    pub fn show(&self, name: &[u8]) -> String {
        crate::text::path(&self.label.join(os(name)))
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// `/proc/self/fd/N/name`: for the l*xattr calls, which have no *at form before Linux 6.13. The descriptor pins the directory, and
    /// the last component is not followed by these calls.
    pub(crate) fn proc_path(&self, name: &[u8]) -> Vec<u8> {
        let mut p = format!("/proc/self/fd/{}/", self.fd.as_raw_fd()).into_bytes();
        p.extend_from_slice(name);
        p
    }

    /// `fstat` of the directory itself.
    pub fn meta(&self) -> Result<Meta> {
        let s = rustix::fs::fstat(&self.fd).on(|| format!("stat {}", self.show(b"")))?;
        Ok(Meta::from_stat(&s))
    }

    /// `lstat` of a name, with the plain errno.
    pub fn try_stat(&self, name: &[u8]) -> Result<Meta, Errno> {
        // many callers only ask whether a name is there
        let stat = rustix::fs::statat(&self.fd, one(name)?, AtFlags::SYMLINK_NOFOLLOW)
            .inspect_err(|e| crate::error::note_failing_disk(&(*e).into(), || format!("stat {}", self.show(name))))?;
        Ok(Meta::from_stat(&stat))
    }

    /// `lstat` of a name in this directory.
    pub fn stat(&self, name: impl AsRef<[u8]>) -> Result<Meta> {
        let name = name.as_ref();
        self.try_stat(name).on(|| format!("stat {}", self.show(name)))
    }

    /// `lstat` of a path below; `None` if it, or a directory on the way, is not there.
    pub fn stat_opt(&self, rel: impl AsRef<[u8]>) -> Result<Option<Meta>> {
        let rel = rel.as_ref();
        let (dir, name) = place(rel).on(|| format!("find {}", self.show(rel)))?;
        let holder;
        let at = if dir.is_empty() {
            self
        } else {
            match self.try_open(dir) {
                Ok(d) => {
                    holder = d;
                    &holder
                }
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(e) => return Err(Error::io(format!("open directory {}", self.show(dir)), e)),
            }
        };
        match at.try_stat(name) {
            Ok(m) => Ok(Some(m)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::io(format!("stat {}", self.show(rel)), e)),
        }
    }

    /// Is there such a path below?
    pub fn has(&self, rel: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.stat_opt(rel)?.is_some())
    }

    /// Opens a regular file for reading. Devices, fifos and sockets are refused without being opened for I/O.
    pub fn open_file(&self, rel: impl AsRef<[u8]>) -> Result<File> {
        self.open_seen(rel).map(|(file, _)| file)
    }

    /// Like [`Dir::open_file`], with what the inode was when it was opened.
    pub fn open_seen(&self, rel: impl AsRef<[u8]>) -> Result<(File, Meta)> {
        let rel = rel.as_ref();
        self.try_open_seen(rel).map_err(|e| self.file_not_opened(rel, e))
    }

    fn file_not_opened(&self, rel: &[u8], e: Errno) -> Error {
        match e {
            Errno::LOOP => Error::io(format!("open {}, which is a symlink", self.show(rel)), e)
                .hint("It is a symlink. unaufs doesn't follow symlinks here."),
            // a directory, a named pipe, a socket or a device
            Errno::INVAL => Error::io(format!("open {}, which isn't a regular file", self.show(rel)), e),
            _ => Error::io(format!("open {}", self.show(rel)), e),
        }
    }

    /// Like [`Dir::open_file`] with the plain errno; EINVAL when it is not a regular file.
    pub fn try_open_file(&self, rel: &[u8]) -> Result<File, Errno> {
        self.try_open_seen(rel).map(|(file, _)| file)
    }

    fn try_open_seen(&self, rel: &[u8]) -> Result<(File, Meta), Errno> {
        let (dir, name) = place(rel)?;
        let holder;
        let at = if dir.is_empty() {
            self
        } else {
            holder = self.try_open(dir)?;
            &holder
        };
        // first a handle that reaches the inode and opens nothing: opening a device has effects, opening a fifo waits
        let handle = at.open_beneath(name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)?;
        let seen = Meta::from_stat(&rustix::fs::fstat(&handle)?);
        match seen.kind {
            FileType::RegularFile => {}
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::INVAL),
        }
        // the very inode that was looked at, whatever has the name by now
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok((File::from(rustix::fs::open(proc_fd(&handle), flags, Mode::empty())?), seen))
    }

    /// Reads a whole metadata file of at most `limit` bytes.
    pub fn read(&self, rel: impl AsRef<[u8]>, limit: u64) -> Result<Vec<u8>> {
        let rel = rel.as_ref();
        self.read_whole(rel, self.open_seen(rel)?, limit)
    }

    /// Like [`Dir::read`]; `None` if it, or a directory on the way, is not there.
    pub fn read_opt(&self, rel: impl AsRef<[u8]>, limit: u64) -> Result<Option<Vec<u8>>> {
        let rel = rel.as_ref();
        match self.try_open_seen(rel) {
            Ok(opened) => self.read_whole(rel, opened, limit).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(self.file_not_opened(rel, e)),
        }
    }

    fn read_whole(&self, rel: &[u8], (file, seen): (File, Meta), limit: u64) -> Result<Vec<u8>> {
        // one byte more than it has: then one call reads it all, and the next one its end
        let mut out = Vec::with_capacity(usize::try_from(seen.size.min(limit) + 1).unwrap_or(0));
        let n = file.take(limit + 1).read_to_end(&mut out).on(|| format!("read {}", self.show(rel)))?;
        if n as u64 > limit {
            return Err(Error::corrupt(format!(
                "{} is too large: unaufs reads at most {limit} bytes of such a file",
                self.show(rel)
            )));
        }
        Ok(out)
    }

    /// Calls `f` with each name, its type and inode, in the order of the disk; `.` and `..` are left out. Starts again each time.
    pub fn for_each(&self, mut f: impl FnMut(&[u8], FileType, u64) -> Result<()>) -> Result<()> {
        if self.listed.swap(true, Ordering::Relaxed) {
            rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Start(0)).on(|| format!("list {}", self.show(b"")))?;
        }
        let mut buf = [MaybeUninit::<u8>::uninit(); DENTS];
        let mut raw = rustix::fs::RawDir::new(&self.fd, &mut buf);
        while let Some(entry) = raw.next() {
            crate::stop::check()?;
            let entry = entry.on(|| format!("list {}", self.show(b"")))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                // xfs made with ftype=0, and old file systems
                FileType::Unknown => self.stat(name)?.kind,
                k => k,
            };
            f(name, kind, entry.ino())?;
        }
        Ok(())
    }

    /// All names with their types, sorted bytewise. For metadata directories, not for the directories of a layer: an error where there are more
    /// than [`LISTED`].
    pub fn list(&self) -> Result<Vec<(Vec<u8>, FileType)>> {
        let mut out = Vec::new();
        self.for_each(|n, k, _| {
            if out.len() == LISTED {
                return Err(Error::corrupt(format!("{} holds more than {LISTED} names", self.show(b"")))
                    .hint("Docker never makes that many. Find out what they are, and move them away."));
            }
            out.push((n.to_vec(), k));
            Ok(())
        })?;
        out.sort_by(|a: &(Vec<u8>, FileType), b| a.0.cmp(&b.0));
        Ok(out)
    }

    /// The target of a symlink.
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>> {
        let c = one(name)
            .and_then(|name| rustix::fs::readlinkat(&self.fd, name, Vec::new()))
            .on(|| format!("read link {}", self.show(name)))?;
        Ok(c.into_bytes())
    }

    /// The open parent directory of a path below, and the last component.
    pub fn parent_of<'a>(&self, rel: &'a [u8]) -> Result<(Dir, &'a [u8])> {
        let (dir, name) = place(rel).on(|| format!("find {}", self.show(rel)))?;
        Ok((self.open(dir)?, name))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A name of one component that does not lead up: the kernel would walk any other, through symlinks too.
fn one(name: &[u8]) -> Result<&[u8], Errno> {
    if name.is_empty() || name == b".." || name.contains(&b'/') { Err(Errno::INVAL) } else { Ok(name) }
}

/// A relative path's directory and last component, both safe to walk below a descriptor.
fn place(rel: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let (dir, name) = split(rel);
    if rel.starts_with(b"/") { Err(Errno::INVAL) } else { Ok((dir, one(name)?)) }
}

/// The path by which the kernel reaches what a descriptor of ours represents.
fn proc_fd(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// A path below.
pub fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + name.len() + 1);
    out.extend_from_slice(path);
    if !path.is_empty() {
        out.push(b'/');
    }
    out.extend_from_slice(name);
    out
}

/// The components of a path that mean something.
pub fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|c| *c == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// A path's directory and last component.
pub fn split(rel: &[u8]) -> (&[u8], &[u8]) {
    match rel.iter().rposition(|c| *c == b'/') {
        Some(i) => (&rel[..i], &rel[i + 1..]),
        None => (b"", rel),
    }
}

/// Bytes as a path: on Linux a file name is bytes.
pub fn os(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests;
