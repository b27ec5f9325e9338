//! Where an archive goes.
//!
//! ```text
//! -o FILE    PARENT/.FILE.XXXXXXXX.partial, mode 0600 ── complete, synced ── renamed ──▶ PARENT/FILE
//! -o DIR     PARENT/.DIR.XXXXXXXX.partial/            ── complete, synced ── renamed ──▶ PARENT/DIR      (oci-dir)
//! -o -       stdout, as it is made
//! ```
//!
//! What is not complete is removed again, and after a power cut has a name that nobody takes for an archive.

use crate::disk::within::within;
use crate::disk::{Dir, FileType};
use crate::error::{Error, IoContext, Kind, Result};
use std::fs::File;
use std::io::{self, IsTerminal, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// A file or stdout, to be written from the beginning to the end.
pub struct Output {
    to: To,
    /// Bytes written.
    at: u64,
}

enum To {
    File {
        place: Place,
        file: File,
    },
    /// Not through `io::stdout`, which looks for line ends.
    Stdout(File),
}

/// A name that is taken only when all is there.
pub struct Place {
    dir: Dir,
    name: Vec<u8>,
    temporary: Vec<u8>,
    done: bool,
}

impl Place {
    /// For a name that the user gave; never inside ROOT.
    pub fn new(root: &Dir, path: &Path) -> Result<Place> {
        use std::os::unix::ffi::OsStrExt;
        let usage = |what: String| Error::new(Kind::Usage, what);
        let shown = crate::text::path(path);
        let name = path.file_name().ok_or_else(|| usage(format!("{shown} isn't a file name")))?.as_bytes().to_vec();
        let parent = match path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        let dir = Dir::open_named(parent)
            .map_err(|e| usage(format!("{shown} can't be written: {}", e.chain())).hint("Make the directory first."))?;
        if within(&dir, root)? {
            return Err(usage(format!("{shown} is inside the data root")).hint("Choose a file outside it."));
        }
        let mut random = [0u8; 4];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).on(|| "draw a random name")?;
        let suffix = format!(".{:08x}.partial", u32::from_ne_bytes(random));
        // a file name has 255 bytes
        let stem = name.get(..name.len().min(255 - suffix.len() - 1)).unwrap_or_default();
        let temporary = [b".", stem, suffix.as_bytes()].concat();
        Ok(Place { dir, name, temporary, done: false })
    }

    /// What is at the name now.
    pub fn there(&self) -> Result<Option<FileType>> {
        Ok(self.dir.stat_opt(&self.name)?.map(|m| m.kind))
    }

    /// The directory in which it is.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The name until it is complete.
    pub fn temporary(&self) -> &[u8] {
        &self.temporary
    }

    /// In messages.
    pub fn shown(&self) -> String {
        self.dir.show(&self.name)
    }

    /// Gives it its name. Everything in it was synced.
    pub fn complete(mut self) -> Result<()> {
        rustix::fs::renameat(self.dir.fd(), &self.temporary[..], self.dir.fd(), &self.name[..])
            .on(|| format!("name the archive {}", self.shown()))?;
        self.done = true;
        self.dir.sync()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.done {
            // best effort: the error that led here is the one to tell; if that is a stop, it must not stop this too
            let _ = crate::stop::regardless(|| self.dir.remove_tree(&self.temporary));
        }
    }
}

impl Output {
    /// A file, or stdout for `-`. With `bytes`, the length if it is known, a disk that is too small is found before anything is written.
    pub fn create(root: &Dir, path: &Path, bytes: Option<u64>) -> Result<Output> {
        if path.as_os_str() == "-" {
            let fd = io::stdout().as_fd().try_clone_to_owned().on(|| "open stdout")?;
            return Ok(Output { to: To::Stdout(File::from(fd)), at: 0 });
        }
        let place = Place::new(root, path)?;
        if place.there()?.is_some_and(|kind| kind != FileType::RegularFile) {
            return Err(Error::new(Kind::Usage, format!("{} exists and isn't a regular file", place.shown()))
                .hint("Name another file, or use `-o -` to write to stdout."));
        }
        room(&place, bytes)?;
        let file = place.dir.create(place.temporary())?;
        Ok(Output { to: To::File { place, file }, at: 0 })
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Can bytes that were written be replaced?
    pub fn can_patch(&self) -> bool {
        matches!(self.to, To::File { .. })
    }

    /// Replaces bytes that were written.
    pub fn patch(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let To::File { file, .. } = &mut self.to else {
            return Err(Error::corrupt("unaufs can't seek in stdout"));
        };
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.write_all(bytes))
            .and_then(|()| file.seek(SeekFrom::Start(self.at)))
            .map(drop)
            .on(|| "write the archive")
    }

    /// Everything was written.
    pub fn complete(self) -> Result<()> {
        match self.to {
            To::Stdout(mut out) => out.flush().on(|| "write to stdout"),
            To::File { place, file } => {
                file.sync_all().on(|| format!("write {}", place.shown()))?;
                place.complete()
            }
        }
    }
}

/// An error if nothing can be written there; asked before layers are read for hours.
pub fn check(root: &Dir, path: &Path) -> Result<()> {
    if path.as_os_str() != "-" {
        return Place::new(root, path).map(drop);
    }
    open_stdout()?;
    if io::stdout().is_terminal() {
        return Err(Error::new(Kind::Usage, "unaufs doesn't write an archive to a terminal")
            .hint("Redirect stdout, or name a file with -o FILE."));
    }
    Ok(())
}

/// An error if the program was started without a stdout (`>&-`). The runtime then puts /dev/null there, open for reading too, as no shell does.
pub fn open_stdout() -> Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fstat, major, minor};
    let out = io::stdout();
    let what = || "look at stdout".to_owned();
    let (flags, stat) = (fcntl_getfl(&out).on(what)?, fstat(&out).on(what)?);
    let null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
    match null && flags.contains(OFlags::RDWR) {
        true => Err(Error::new(Kind::Usage, "stdout is closed").hint("Redirect stdout, or name a file instead of -.")),
        false => Ok(()),
    }
}

/// An error if the file system has no room for `bytes`.
pub fn room(place: &Place, bytes: Option<u64>) -> Result<()> {
    let Some(bytes) = bytes else { return Ok(()) };
    let fs = rustix::fs::fstatvfs(place.dir.fd()).on(|| format!("read the free space at {}", place.shown()))?;
    let free = fs.f_bavail.saturating_mul(fs.f_frsize);
    if bytes <= free {
        return Ok(());
    }
    let what =
        format!("{} needs {}, and {} are free", place.shown(), crate::text::size(bytes), crate::text::size(free));
    Err(Error::new(Kind::Space, what).hint("Write to another disk, or use --compress."))
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match &mut self.to {
            To::File { file, .. } => file.write(bytes)?,
            To::Stdout(out) => out.write(bytes)?,
        };
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::File { file, .. } => file.flush(),
            To::Stdout(out) => out.flush(),
        }
    }
}
