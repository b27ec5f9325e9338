//! The files that a user names for a result: `--html`, `--out`, `--log`.
//!
//! ```text
//! absent, or a regular file     DIR/.FILE.XXXXXXXX.partial, mode 0600 ── complete, synced ── renamed ──▶ DIR/FILE
//! a terminal, pipe, /dev/null   written unchanged, never replaced
//! /dev/stdout, /dev/fd/N        the open file itself
//! a symlink, a disk, inside ROOT  refused
//! ```
//!
//! It is opened before any work and before any lock. What fails later is an error of a command that only looks, and a warning at the end of one that
//! has changed the disk: the work is done.

use super::end;
use crate::disk::within::within;
use crate::disk::{Dir, FileType};
use crate::error::{Error, IoContext, Kind, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// An output that is open, and not written yet.
#[derive(Debug)]
pub struct Output {
    shown: String,
    to: To,
}

#[derive(Debug)]
enum To {
    /// Gets its name when all is there.
    New { dir: Dir, name: Vec<u8>, temporary: Vec<u8>, file: File },
    /// Something that can't be replaced.
    Stream(File),
}

/// What is at the place that the user named.
enum At {
    Nothing,
    Regular,
    Stream,
}

impl Output {
    /// Opens it; never inside one of `roots`.
    pub fn open(path: &Path, roots: &[&Dir]) -> Result<Output> {
        let shown = crate::text::path(path);
        if let Some(file) = own_descriptor(path)? {
            return Ok(Output { shown, to: To::Stream(file) });
        }
        let (dir, name) = place(path, roots)?;
        let to = match there(&dir, &name, &shown)? {
            At::Stream => To::Stream(stream(path)?),
            At::Nothing | At::Regular => {
                let temporary = temporary(&name)?;
                let file = dir.create(&temporary)?;
                To::New { dir, name, temporary, file }
            }
        };
        Ok(Output { shown, to })
    }

    /// The same for an option that may be missing.
    pub fn optional(path: Option<&Path>, roots: &[&Dir]) -> Result<Option<Output>> {
        path.map(|p| Output::open(p, roots)).transpose()
    }

    /// Writes it.
    pub fn write(mut self, content: Result<Vec<u8>>) -> Result<()> {
        content.and_then(|bytes| self.complete(&bytes))
    }

    /// Writes it after the work is done: a failure is a warning, and the exit code stays that of the work.
    pub fn write_at_the_end(mut self, content: Result<Vec<u8>>) {
        if let Err(e) = content.and_then(|bytes| self.complete(&bytes)) {
            end::warn(&format!("{} was not written: {}", self.shown, e.chain()));
        }
    }

    fn complete(&mut self, bytes: &[u8]) -> Result<()> {
        let shown = &self.shown;
        match &mut self.to {
            To::Stream(file) => file.write_all(bytes).and_then(|()| file.flush()).on(|| format!("write {shown}")),
            To::New { dir, name, temporary, file } => {
                file.write_all(bytes).and_then(|()| file.sync_all()).on(|| format!("write {shown}"))?;
                rustix::fs::renameat(dir.fd(), &temporary[..], dir.fd(), &name[..])
                    .on(|| format!("put {shown} in its place"))?;
                // it has its name: nothing is left to remove
                temporary.clear();
                dir.sync()
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let To::New { dir, temporary, .. } = &self.to
            && !temporary.is_empty()
        {
            // best effort: the error that led here is the one to be told
            let _ = crate::stop::regardless(|| dir.unlink(temporary));
        }
    }
}

/// Opens a file to which lines are appended, under the same rules.
pub fn append(path: &Path, roots: &[&Dir]) -> Result<File> {
    if let Some(file) = own_descriptor(path)? {
        return Ok(file);
    }
    let (dir, name) = place(path, roots)?;
    let shown = crate::text::path(path);
    match there(&dir, &name, &shown)? {
        At::Stream => stream(path),
        At::Nothing | At::Regular => OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(dir.label().join(crate::disk::os(&name)))
            .on(|| format!("open {shown}")),
    }
}

/// `/dev/stdout` and the like: a descriptor that this process has already. Opened again, a file would be written from its beginning.
fn own_descriptor(path: &Path) -> Result<Option<File>> {
    let named = match path.to_str() {
        Some("/dev/stdout") => Some(1),
        Some("/dev/stderr") => Some(2),
        Some(p) => {
            let number = ["/dev/fd/", "/proc/self/fd/"].iter().find_map(|dir| p.strip_prefix(dir));
            number.and_then(|n| n.parse::<RawFd>().ok())
        }
        None => None,
    };
    let copied = match named {
        None => return Ok(None),
        Some(1) => std::io::stdout().as_fd().try_clone_to_owned(),
        Some(2) => std::io::stderr().as_fd().try_clone_to_owned(),
        Some(_) => {
            return OpenOptions::new().append(true).open(path).map(Some).on(|| format!("open {}", path.display()));
        }
    };
    copied.map(|fd| Some(File::from(fd))).on(|| format!("open {}", path.display()))
}

/// The directory and the name in it.
fn place(path: &Path, roots: &[&Dir]) -> Result<(Dir, Vec<u8>)> {
    let shown = crate::text::path(path);
    let usage = |what: String, fix: &str| Error::new(Kind::Usage, what).hint(fix).loss("Nothing was changed.");
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let Some(name) = path.file_name() else {
        return Err(usage(format!("{shown} is not a file name"), "Name a file."));
    };
    let dir = Dir::open_named(parent)
        .map_err(|e| usage(format!("can't write {shown}: {}", e.chain()), "Make its directory first."))?;
    for root in roots {
        if within(&dir, root)? {
            let what = format!("{shown} is inside {}, which is a data root", crate::text::path(root.label()));
            return Err(usage(what, "Name a file outside the data root."));
        }
    }
    Ok((dir, name.as_bytes().to_vec()))
}

fn there(dir: &Dir, name: &[u8], shown: &str) -> Result<At> {
    let refuse = |what: &str| {
        Err(Error::new(Kind::Usage, format!("{shown} is {what}"))
            .hint("Name a new file or a regular file.")
            .loss("Nothing was changed."))
    };
    match dir.stat_opt(name)?.map(|m| m.kind) {
        None => Ok(At::Nothing),
        Some(FileType::RegularFile) => Ok(At::Regular),
        Some(FileType::CharacterDevice | FileType::Fifo) => Ok(At::Stream),
        Some(FileType::Symlink) => refuse("a symlink"),
        Some(FileType::Directory) => refuse("a directory"),
        Some(FileType::BlockDevice) => refuse("a block device"),
        Some(_) => refuse("not a file"),
    }
}

/// Opens what can't be replaced, and looks at it again.
fn stream(path: &Path) -> Result<File> {
    // a pipe without a reader would keep us waiting, and deaf to signals
    let flags = OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
    let what = || format!("open {}", crate::text::path(path));
    let open = OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = open.on(what).map_err(|e| match e.errno() {
        Some(Errno::NXIO) => e.hint("Nobody reads that pipe. Start its reader first."),
        _ => e,
    })?;
    rustix::fs::fcntl_setfl(&file, OFlags::empty()).on(what)?;
    let kind = file.metadata().on(what)?.file_type();
    match kind.is_char_device() || kind.is_fifo() {
        true => Ok(file),
        false => Err(Error::new(Kind::Failed, format!("{} has changed while it was opened", crate::text::path(path)))),
    }
}

fn temporary(name: &[u8]) -> Result<Vec<u8>> {
    let mut random = [0u8; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).on(|| "draw a random name")?;
    let suffix = format!(".{:08x}.partial", u32::from_ne_bytes(random));
    // a file name has 255 bytes
    let stem = name.get(..name.len().min(255 - suffix.len() - 1)).unwrap_or_default();
    Ok([b".", stem, suffix.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_output_may_be() {
        let top = tempfile::tempdir().expect("a directory");
        let at = |name: &str| top.path().join(name);
        std::fs::create_dir(at("root")).expect("mkdir");
        std::fs::write(at("there"), "old").expect("write");
        std::os::unix::fs::symlink(at("there"), at("link")).expect("symlink");
        let root = Dir::open_named(&at("root")).expect("the root");
        let write = |name: &Path| Output::open(name, &[&root]).and_then(|o| o.write(Ok(b"new".to_vec())));
        for name in ["there", "fresh"] {
            write(&at(name)).expect(name);
            assert_eq!(std::fs::read(at(name)).expect("read"), b"new");
        }
        for (name, why) in
            [("link", "symlink"), ("root", "directory"), ("root/x", "inside"), ("no/x", "Make its directory")]
        {
            let e = write(&at(name)).expect_err(name);
            let said = format!("{} {}", e.chain(), e.hint_text().unwrap_or_default());
            assert!(e.kind() == Kind::Usage && said.contains(why), "{name}: {said}");
        }
        write(Path::new("/dev/null")).expect("/dev/null");
        let null = std::fs::symlink_metadata("/dev/null").expect("/dev/null").file_type();
        assert!(null.is_char_device(), "/dev/null was replaced");
        // opened and not written: as if it had never been named
        let left = |dir: &Path| std::fs::read_dir(dir).expect("list").count();
        let before = left(top.path());
        drop(Output::open(&at("never"), &[]).expect("open"));
        assert_eq!(left(top.path()), before);
        assert_eq!(std::fs::read_link(at("link")).expect("a link"), at("there"));
    }
}
