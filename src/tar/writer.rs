//! Our own tar of a layer or of a whole tree: where no tar-split data says how Docker's tar looked (FORMATS 6.2, 8.3), for
//! containers, and for flattened trees.
//!
//! ```text
//! ustar header                                  where all fits
//! x: PAX records, ustar header                  long names, xattrs, large numbers, times with fractions or before 1970
//! content, zeros up to 512
//! …
//! 1024 zeros
//! ```
//!
//! The same entries give the same bytes. Names and link targets are carried as the bytes that they are, in ustar fields and in
//! PAX records alike: Go (so Docker, containerd, podman), GNU tar and Python's tarfile give them back exactly. They do so without
//! `hdrcharset=BINARY`, which GNU tar warns about.

/// Where the fields of a header are; the names are those of POSIX.
#[allow(missing_docs)]
pub mod block;
pub(crate) mod go15;
pub(crate) mod header;

use crate::disk::{FileType, Meta};
use crate::error::{Error, IoContext, Result};
use crate::tar::split::{Crc64, Packer};
use crate::text;
use block::BLOCK;
use std::io::{self, ErrorKind, Read, Write};

/// Bytes moved at once.
const BUFFER: usize = 256 * 1024;

/// What an entry is, with what only that type has. Sockets cannot be in a tar: leave them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// A directory.
    Directory,
    /// A regular file with so many bytes of content.
    File {
        /// Bytes of content.
        size: u64,
    },
    /// A symlink.
    Symlink {
        /// Where it points, any bytes.
        target: &'a [u8],
    },
    /// A further name of an entry that came before.
    HardLink {
        /// That entry's name, as it was given.
        first: &'a [u8],
    },
    /// A character device.
    CharDevice {
        /// Its number, as `lstat` gives it.
        rdev: u64,
    },
    /// A block device.
    BlockDevice {
        /// Its number, as `lstat` gives it.
        rdev: u64,
    },
    /// A named pipe.
    Fifo,
}

impl<'a> Node<'a> {
    /// What a name is that is no further name; `target` is where a symlink points. None of what no tar can hold.
    pub fn of(m: &Meta, target: &'a [u8]) -> Option<Node<'a>> {
        Some(match m.kind {
            FileType::Directory => Node::Directory,
            FileType::RegularFile => Node::File { size: m.size },
            FileType::Symlink => Node::Symlink { target },
            FileType::CharacterDevice => Node::CharDevice { rdev: m.rdev },
            FileType::BlockDevice => Node::BlockDevice { rdev: m.rdev },
            FileType::Fifo => Node::Fifo,
            FileType::Socket | FileType::Unknown => return None,
        })
    }

    /// As a header has it: the letter of its type, its link, its device number, its bytes of content.
    fn fields(self) -> (u8, &'a [u8], u64, u64) {
        match self {
            Node::File { size } => (b'0', b"", 0, size),
            Node::HardLink { first } => (b'1', first, 0, 0),
            Node::Symlink { target } => (b'2', target, 0, 0),
            Node::CharDevice { rdev } => (b'3', b"", rdev, 0),
            Node::BlockDevice { rdev } => (b'4', b"", rdev, 0),
            Node::Directory => (b'5', b"", 0, 0),
            Node::Fifo => (b'6', b"", 0, 0),
        }
    }
}

/// One entry of a tar.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The path in the tar, without a leading slash. A directory's gets its trailing slash by itself.
    pub name: &'a [u8],
    /// Its type.
    pub node: Node<'a>,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes: name, value.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl Entry<'_> {
    /// A marker: only its name means anything.
    pub fn marker(name: &[u8]) -> Entry<'_> {
        Entry { name, node: Node::File { size: 0 }, mode: 0o444, uid: 0, gid: 0, mtime: (0, 0), xattrs: &[] }
    }
}

/// Writes a tar, and tar-split data of it if wanted: so both, and the DiffID through
/// [`DiffIdWriter`](crate::tar::split::DiffIdWriter), come out of one pass.
///
/// Without [`TarWriter::finish`], and after any error, the tar lacks its end and must be thrown away. Two entries of one name
/// make a layer that Docker refuses (FORMATS 6.2); they are the caller's to avoid.
pub struct TarWriter<W: Write, P: Write = io::Sink> {
    out: W,
    packer: Option<Packer<P>>,
    /// Padding and headers that were not written yet: one segment of tar-split data.
    raw: Vec<u8>,
    buffer: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    /// Writes a tar to `out`.
    pub fn new(out: W) -> TarWriter<W> {
        TarWriter { out, packer: None, raw: Vec::new(), buffer: vec![0; BUFFER] }
    }
}

impl<W: Write, P: Write> TarWriter<W, P> {
    /// Writes a tar to `out` and records it with `packer`.
    pub fn recording(out: W, packer: Packer<P>) -> TarWriter<W, P> {
        TarWriter { out, packer: Some(packer), raw: Vec::new(), buffer: vec![0; BUFFER] }
    }

    /// Adds an entry. `content` is read only for a regular file and must have exactly the bytes that the entry says.
    pub fn append(&mut self, entry: &Entry<'_>, content: &mut dyn Read) -> Result<()> {
        let name = header::write(entry, &mut self.raw)?;
        self.entry(&name, entry.node, content)
    }

    /// The same, with the headers that Docker 1.10.3 wrote.
    pub(crate) fn append_as_go15(
        &mut self,
        go: &mut go15::Headers,
        entry: &go15::Entry<'_>,
        content: &mut dyn Read,
    ) -> Result<()> {
        let name = go.write(entry, &mut self.raw);
        self.entry(&name, entry.node, content)
    }

    /// Writes the headers that wait, and the content that belongs to them.
    fn entry(&mut self, name: &[u8], node: Node<'_>, content: &mut dyn Read) -> Result<()> {
        self.write_raw()?;
        let (size, crc) = match node {
            Node::File { size } => (size, self.copy(name, size, content)?),
            _ => (0, [0; 8]),
        };
        if let Some(packer) = &mut self.packer {
            packer.file(name, size, crc)?;
        }
        self.raw.resize(block::padding(size), 0);
        Ok(())
    }

    /// Writes the end of the tar and gives back where tar and tar-split data went.
    pub fn finish(mut self) -> Result<(W, Option<P>)> {
        self.raw.resize(self.raw.len() + 2 * BLOCK, 0);
        self.write_raw()?;
        self.out.flush().on(|| "write a tar")?;
        let packed = match self.packer {
            Some(mut packer) => {
                // as Docker's own data ends
                packer.segment(&[])?;
                Some(packer.finish()?)
            }
            None => None,
        };
        Ok((self.out, packed))
    }

    fn write_raw(&mut self) -> Result<()> {
        self.out.write_all(&self.raw).on(|| "write a tar")?;
        if let Some(packer) = &mut self.packer {
            packer.segment(&self.raw)?;
        }
        self.raw.clear();
        Ok(())
    }

    fn copy(&mut self, name: &[u8], size: u64, content: &mut dyn Read) -> Result<[u8; 8]> {
        let mut crc = Crc64::default();
        let mut found = 0;
        loop {
            let n = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::io(format!("read \"{}\"", text::bytes(name)), e)),
            };
            found += n as u64;
            if found > size {
                return Err(changed(name, format!("it has more than the {size} bytes that were counted before")));
            }
            let bytes = self.buffer.get(..n).unwrap_or_default();
            if self.packer.is_some() {
                crc.update(bytes);
            }
            self.out.write_all(bytes).on(|| "write a tar")?;
        }
        if found < size {
            return Err(changed(name, format!("it has {found} of the {size} bytes that were counted before")));
        }
        Ok(crc.finish())
    }
}

fn changed(name: &[u8], how: String) -> Error {
    Error::corrupt(format!("\"{}\" changed while it was read: {how}", text::bytes(name)))
        .hint("Stop the program that writes into the store, then run unaufs again.")
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod tests_support;
