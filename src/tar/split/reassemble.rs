//! Makes the tar of a layer again, from tar-split data and the layer's files.

use super::reader::{Piece, Reader};
use super::{BUFFER, Crc64, name};
use crate::error::{Error, IoContext, Result};
use crate::text;
use rustix::io::Errno;
use std::io::{ErrorKind, Read, Write};

/// The contents of a layer's regular files.
pub trait Payloads {
    /// Opens a file for reading. `name` is a path below the layer's top directory without `.`, `..` or a leading slash.
    /// Where there is no such file the error's cause is ENOENT; where it is no regular file, EINVAL or ELOOP.
    fn open(&self, name: &[u8]) -> Result<Box<dyn Read + '_>>;
}

/// What was put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reassembled {
    /// Bytes of the tar.
    pub bytes: u64,
    /// Bytes of them that came from files.
    pub payload_bytes: u64,
}

/// A file that is not the one the layer was made of: the cause of an error of [`reassemble`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongFile {
    /// Its name as in the tar.
    pub name: Vec<u8>,
    /// What is wrong with it.
    pub mismatch: Mismatch,
}

/// How a file differs from what tar-split data recorded of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// There is none.
    Missing,
    /// Something else has that name, or a symlink is in the way.
    NotAFile,
    /// It ends early.
    Shorter {
        /// Bytes that it had.
        recorded: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// It continues after its recorded end.
    Longer {
        /// Bytes that it had.
        recorded: u64,
    },
    /// Right length, other content.
    Content,
}

impl WrongFile {
    /// The file that made [`reassemble`] fail, if that was the reason.
    pub fn of(error: &Error) -> Option<&WrongFile> {
        std::error::Error::source(error)?.downcast_ref()
    }

    fn error(name: &[u8], mismatch: Mismatch) -> Error {
        Error::corrupt(format!("file \"{}\" has changed since the layer was made", text::bytes(name)))
            .with_source(WrongFile { name: name.to_vec(), mismatch })
    }
}

impl std::fmt::Display for WrongFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.mismatch {
            Mismatch::Missing => f.write_str("it is missing"),
            Mismatch::NotAFile => f.write_str("it isn't a regular file"),
            Mismatch::Shorter { recorded, found } => {
                write!(f, "it has {} instead of {recorded}", text::plural(found, "byte"))
            }
            Mismatch::Longer { recorded } => write!(f, "it has more than its {}", text::plural(recorded, "byte")),
            Mismatch::Content => f.write_str("its content has changed (checksum)"),
        }
    }
}

impl std::error::Error for WrongFile {}

/// Writes the layer's tar to `out`, the same bytes that Docker got when the layer was made (FORMATS 6.2).
///
/// The first file that is not as recorded ends it, see [`WrongFile`]. `out` gets small writes between the large ones: buffer it
/// if that is dear.
pub fn reassemble<R: Read>(reader: Reader<R>, payloads: &dyn Payloads, out: &mut dyn Write) -> Result<Reassembled> {
    let mut done = Reassembled { bytes: 0, payload_bytes: 0 };
    let mut tar = Passage::new(payloads, out);
    for piece in reader {
        match piece? {
            Piece::Segment(bytes) => {
                tar.out.write_all(&bytes).on(|| "write the tar of a layer")?;
                done.bytes += bytes.len() as u64;
            }
            // directories, links, devices, whiteouts: all that there is of them is in the segments
            Piece::File { size: 0, .. } => {}
            Piece::File { name, size, crc } => {
                tar.file(&name, size, crc)?;
                done.bytes += size;
                done.payload_bytes += size;
            }
        }
    }
    Ok(done)
}

/// The files of a layer on their way into its tar.
pub(super) struct Passage<'a> {
    payloads: &'a dyn Payloads,
    pub(super) out: &'a mut dyn Write,
    buffer: Vec<u8>,
}

impl Passage<'_> {
    pub(super) fn new<'a>(payloads: &'a dyn Payloads, out: &'a mut dyn Write) -> Passage<'a> {
        Passage { payloads, out, buffer: vec![0; BUFFER] }
    }

    /// Copies one file whole; exactly `size` bytes that sum up to `crc`, or an error.
    pub(super) fn file(&mut self, name: &[u8], size: u64, crc: Option<[u8; 8]>) -> Result<()> {
        let no_crc = || Error::corrupt(format!("the tar-split data has no checksum of \"{}\"", text::bytes(name)));
        let crc = crc.ok_or_else(no_crc)?;
        let mut file = self.payloads.open(&name::below(name)?).map_err(|e| {
            match e.errno() {
                Some(Errno::NOENT | Errno::NOTDIR) => WrongFile::error(name, Mismatch::Missing),
                Some(Errno::INVAL | Errno::LOOP | Errno::ISDIR) => WrongFile::error(name, Mismatch::NotAFile),
                // the disk's trouble or a lack of rights says nothing about the file
                _ => e,
            }
        })?;
        let mut found = 0;
        let mut running = Crc64::default();
        loop {
            let n = match file.read(&mut self.buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::io(format!("read file \"{}\" of the layer", text::bytes(name)), e)),
            };
            if n == 0 {
                break;
            }
            found += n as u64;
            // a hostile source might never end
            if found > size {
                return Err(WrongFile::error(name, Mismatch::Longer { recorded: size }));
            }
            let bytes = self.buffer.get(..n).unwrap_or_default();
            running.update(bytes);
            self.out.write_all(bytes).on(|| "write the tar of a layer")?;
        }
        if found < size {
            return Err(WrongFile::error(name, Mismatch::Shorter { recorded: size, found }));
        }
        if running.finish() != crc {
            return Err(WrongFile::error(name, Mismatch::Content));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Packer;
    use super::*;
    use crate::ids::Sha256;
    use std::collections::BTreeMap;

    /// Files in memory.
    struct Tree(BTreeMap<&'static str, Vec<u8>>);

    impl Payloads for Tree {
        fn open(&self, name: &[u8]) -> Result<Box<dyn Read + '_>> {
            let name = std::str::from_utf8(name).unwrap();
            match self.0.get(name) {
                _ if name == "folder" => Err(Error::io("open directory", Errno::INVAL)),
                _ if name == "locked" => Err(Error::io("open locked", Errno::ACCESS)),
                _ if name == "rotten" => Ok(Box::new(Rotten)),
                Some(content) => Ok(Box::new(&content[..])),
                None => Err(Error::io(format!("open {name}"), Errno::NOENT)),
            }
        }
    }

    /// A file on a bad sector.
    struct Rotten;

    impl Read for Rotten {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(Errno::IO.into())
        }
    }

    fn tree() -> Tree {
        Tree(BTreeMap::from([("d/a", b"hello\n".to_vec()), ("big", (0..700_000u32).map(|i| i as u8).collect())]))
    }

    fn packed(fill: impl FnOnce(&mut Packer<Vec<u8>>)) -> Vec<u8> {
        let mut p = Packer::new(Vec::new());
        fill(&mut p);
        p.finish().unwrap()
    }

    fn run(gz: &[u8]) -> Result<(Vec<u8>, Reassembled)> {
        let mut out = Vec::new();
        let done = reassemble(Reader::new(gz, 1 << 20), &tree(), &mut out)?;
        Ok((out, done))
    }

    #[test]
    fn pieces_are_joined_in_order() {
        let gz = packed(|p| {
            p.segment(b"[head]").unwrap();
            p.file(b"./d/", 0, [0; 8]).unwrap();
            // an entry without content is not opened, even if there is a file of that name
            p.file(b"/big", 0, [0; 8]).unwrap();
            p.file(b"./d/a", 6, Crc64::of(b"hello\n")).unwrap();
            p.segment(b"[pad]").unwrap();
            p.file(b"big", 700_000, Crc64::of(&tree().0["big"])).unwrap();
            p.segment(b"").unwrap();
        });
        let (out, done) = run(&gz).unwrap();
        let expected = [&b"[head]hello\n[pad]"[..], &tree().0["big"]].concat();
        assert!(out == expected);
        assert_eq!(done, Reassembled { bytes: expected.len() as u64, payload_bytes: 700_006 });
    }

    #[test]
    fn the_empty_layer() {
        // the one DiffID that every Docker knows (FORMATS 6.1)
        let gz = packed(|p| p.segment(&[0; 1024]).unwrap());
        assert_eq!(
            Sha256::of(&run(&gz).unwrap().0).to_string(),
            "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
        );
    }

    #[test]
    fn each_wrong_file_is_named() {
        let crc = Crc64::of(b"hello\n");
        for (name, size, crc, mismatch, says) in [
            ("gone", 6, crc, Mismatch::Missing, "it is missing"),
            ("folder", 6, crc, Mismatch::NotAFile, "it isn't a regular file"),
            ("d/a", 7, crc, Mismatch::Shorter { recorded: 7, found: 6 }, "it has 6 bytes instead of 7"),
            ("d/a", 5, crc, Mismatch::Longer { recorded: 5 }, "more than its 5 bytes"),
            ("./d/a", 6, Crc64::of(b"Hello\n"), Mismatch::Content, "checksum"),
        ] {
            let e = run(&packed(|p| p.file(name.as_bytes(), size, crc).unwrap())).expect_err(name);
            let wrong = WrongFile { name: name.into(), mismatch };
            assert_eq!(WrongFile::of(&e), Some(&wrong));
            assert!(e.chain().contains(says) && e.chain().contains(name), "{}", e.chain());
        }
    }

    #[test]
    fn other_trouble_is_not_the_file_s() {
        for (name, says) in [
            ("locked", "open locked"),
            ("rotten", "read file \"rotten\""),
            ("../etc/passwd", "isn't a file in the layer"),
            ("", "isn't a file in the layer"),
        ] {
            let e = run(&packed(|p| p.file(name.as_bytes(), 6, [1; 8]).unwrap())).expect_err(name);
            assert!(WrongFile::of(&e).is_none() && e.to_string().contains(says), "{}", e.chain());
        }
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(b"{\"type\":1,\"name\":\"d/a\",\"size\":6,\"payload\":null}").unwrap();
        let e = run(&gz.finish().unwrap()).expect_err("no checksum");
        assert!(e.to_string().contains("no checksum of \"d/a\""), "{e}");
    }

    #[test]
    fn bad_tar_split_data_ends_it() {
        let mut gz = packed(|p| p.segment(&[1; 100_000]).unwrap());
        gz.truncate(gz.len() - 3);
        assert!(run(&gz).expect_err("cut").to_string().contains("cut short"));
    }
}
