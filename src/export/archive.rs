//! The container of an archive: a tar, or a directory. Both hold the same names.
//!
//! ```text
//! blobs/sha256/<hex of the digest>     layers, configs, manifests
//! index.json …                         after the blobs: an archive that was cut off has none, and no program takes it
//! ```
//!
//! A blob's name and length stand before its bytes in a tar. Of a compressed layer they are known only afterwards: then the header of a file
//! is written again, and for stdout the layer must have been compressed before.

use super::output::{Output, Place, room};
use crate::disk::{Dir, FileType};
use crate::error::{Error, IoContext, Kind, Result};
use crate::ids::Sha256;
use crate::tar::writer::block::{BLOCK, padding};
use crate::tar::writer::header;
use crate::tar::writer::{Entry, Node};
use sha2::Digest;
use std::io::{self, Write};
use std::path::Path;

/// What a blob is: its name, its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Of its bytes.
    pub digest: Sha256,
    /// Of its bytes.
    pub size: u64,
}

impl Blob {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Blob {
        Blob { digest: Sha256::of(bytes), size: bytes.len() as u64 }
    }
}

/// Writes the content of a blob.
pub type Content<'c> = dyn FnMut(&mut dyn Write) -> Result<()> + 'c;

/// From this size on a length may not fit into a plain tar header; compression can make bytes more, but not by an eighth.
const WIDE: u64 = 7 << 30;

/// Where blobs and files go.
pub enum Archive<'o> {
    /// A tar.
    Tar(Tar<'o>),
    /// A directory.
    ArchiveDir(ArchiveDir),
}

impl Archive<'_> {
    /// Adds a blob. `known`: what it will be; else it has some `about` bytes, and what it is comes back.
    pub fn blob(&mut self, known: Option<Blob>, about: u64, content: &mut Content<'_>) -> Result<Blob> {
        match self {
            Archive::Tar(tar) => tar.blob(known, about, content),
            Archive::ArchiveDir(directory) => directory.blob(known, content),
        }
    }

    /// Adds a small file; with `blobs/sha256/` it is a blob too.
    pub fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        match self {
            Archive::Tar(tar) => tar.file(name, bytes),
            Archive::ArchiveDir(directory) => {
                directory.bytes += bytes.len() as u64;
                directory.top.write_new(name, bytes, 0o600)
            }
        }
    }

    /// Must the digest of a compressed layer be known before it is added?
    pub fn wants_digests(&self) -> bool {
        matches!(self, Archive::Tar(tar) if tar.patch.is_none())
    }
}

/// Counts, and digests if it is unknown what will come.
struct Seen<'w> {
    out: &'w mut dyn Write,
    bytes: u64,
    sha: Option<sha2::Sha256>,
}

impl Write for Seen<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.bytes += n as u64;
        if let Some(sha) = &mut self.sha {
            sha.update(bytes.get(..n).unwrap_or_default());
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Passes a blob on; what it was, or an error if it is not what it was said to be.
fn pass(known: Option<Blob>, out: &mut dyn Write, content: &mut Content<'_>) -> Result<Blob> {
    let mut seen = Seen { out, bytes: 0, sha: known.is_none().then(sha2::Sha256::new) };
    content(&mut seen)?;
    match (known, seen.sha) {
        (Some(blob), _) if blob.size == seen.bytes => Ok(blob),
        (None, Some(sha)) => Ok(Blob { digest: Sha256(sha.finalize().into()), size: seen.bytes }),
        _ => Err(Error::corrupt(format!("a layer of the archive has {} bytes instead of the announced", seen.bytes))),
    }
}

/// The digest and the length of what `content` writes.
pub fn digest(content: &mut Content<'_>) -> Result<Blob> {
    pass(None, &mut io::sink(), content)
}

/// A tar of an archive. Its names are all short, its times all 0: the same content gives the same bytes.
pub struct Tar<'o> {
    out: &'o mut dyn Write,
    at: u64,
    /// For outputs that can go back: replaces what is at a place.
    patch: Option<Patch>,
}

/// What is to be written over at the end, place and bytes.
type Patch = Vec<(u64, Vec<u8>)>;

impl<'o> Tar<'o> {
    /// Begins a tar. If `can_patch`, [`Tar::finish`] gives what the caller must replace.
    pub fn begin(out: &'o mut dyn Write, can_patch: bool) -> Result<Tar<'o>> {
        let mut tar = Tar { out, at: 0, patch: can_patch.then(Vec::new) };
        for name in ["blobs/", "blobs/sha256/"] {
            let mut raw = Vec::new();
            let name = name.as_bytes();
            let entry = Entry { name, node: Node::Directory, mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: &[] };
            header::write(&entry, &mut raw)?;
            tar.put(&raw)?;
        }
        Ok(tar)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes).on(|| "write the archive")
    }

    fn blob(&mut self, known: Option<Blob>, about: u64, content: &mut Content<'_>) -> Result<Blob> {
        let wide = about >= WIDE;
        let head = |blob: Blob| -> Result<Vec<u8>> {
            let mut raw = Vec::new();
            header::write_plain(format!("blobs/sha256/{}", blob.digest.hex()).as_bytes(), blob.size, wide, &mut raw)?;
            Ok(raw)
        };
        let begin = self.at;
        self.put(&head(known.unwrap_or(Blob { digest: Sha256([0; 32]), size: 0 }))?)?;
        let blob = pass(known, &mut self.out, content)?;
        self.at += blob.size;
        self.put(&vec![0; padding(blob.size)])?;
        match (&mut self.patch, known) {
            (_, Some(_)) => {}
            (Some(patch), None) => patch.push((begin, head(blob)?)),
            (None, None) => return Err(Error::corrupt("a layer of unknown length can't be written to stdout")),
        }
        Ok(blob)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut raw = Vec::new();
        header::write_plain(name.as_bytes(), bytes.len() as u64, false, &mut raw)?;
        raw.extend_from_slice(bytes);
        raw.resize(raw.len() + padding(bytes.len() as u64), 0);
        self.put(&raw)
    }

    /// Ends the tar. What comes back is to be written over: place, bytes.
    pub fn finish(mut self) -> Result<Vec<(u64, Vec<u8>)>> {
        self.put(&[0; 2 * BLOCK])?;
        Ok(self.patch.unwrap_or_default())
    }
}

/// Writes what a finished tar wants replaced.
pub fn patch(output: &mut Output, places: &[(u64, Vec<u8>)]) -> Result<()> {
    places.iter().try_for_each(|(at, bytes)| output.patch(*at, bytes))
}

/// An archive as a directory, under a temporary name until it is complete.
pub struct ArchiveDir {
    place: Place,
    top: Dir,
    blobs: Dir,
    /// Bytes of all files.
    bytes: u64,
}

impl ArchiveDir {
    /// Begins a directory, which must not be there yet.
    pub fn begin(root: &Dir, path: &Path, bytes: Option<u64>) -> Result<ArchiveDir> {
        if path.as_os_str() == "-" {
            return Err(Error::new(Kind::Usage, "a directory can't be written to stdout").hint("Use --format oci."));
        }
        let place = Place::new(root, path)?;
        if let Some(kind) = place.there()? {
            let what = if kind == FileType::Directory { "directory" } else { "file" };
            return Err(Error::new(Kind::Usage, format!("there is a {what} {} already", place.shown()))
                .hint("Name another directory, or remove the existing one."));
        }
        room(&place, bytes)?;
        place.dir().mkdir(place.temporary(), 0o700)?;
        let top = place.dir().open(place.temporary())?;
        let blobs = top.ensure("blobs/sha256", 0o700)?;
        Ok(ArchiveDir { place, top, blobs, bytes: 0 })
    }

    fn blob(&mut self, known: Option<Blob>, content: &mut Content<'_>) -> Result<Blob> {
        const PARTIAL: &str = "partial";
        let mut file = self.blobs.create(PARTIAL)?;
        let blob = pass(known, &mut file, content)?;
        self.blobs.rename_new(PARTIAL, &self.blobs, blob.digest.hex())?;
        self.bytes += blob.size;
        Ok(blob)
    }

    /// Makes everything durable and gives the directory its name; returns the bytes in it.
    pub fn finish(self) -> Result<u64> {
        self.top.sync_fs()?;
        // somebody may have made one in the meantime, and a rename would take an empty directory's place
        if self.place.there()?.is_some() {
            return Err(Error::new(Kind::Usage, format!("{} has appeared since the start", self.place.shown())));
        }
        self.place.complete()?;
        Ok(self.bytes)
    }
}
