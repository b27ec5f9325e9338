//! The headers of a layer's own tar, read out of the raw segments of tar-split data.
//!
//! ```text
//! segment   padding of the entry before │ x: PAX records │ L, K: long name, long link │ header      ┐
//! file      its content is in the layer's tree                                                       ┴ one Header
//! ```
//!
//! Each value means what Go's reader, and so Docker, took it for: PAX before ustar, GNU's long name before PAX, numbers in octal or
//! base 256, the last of equal keys.

use super::fields::{decimal, name_and_size, number, pax_record, until_nul};
use super::reader::{Piece, Reader};
use crate::error::{Error, Result};
use crate::tar::writer::block::{self, BLOCK};
use crate::text;
use std::io::Read;

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name for an entry that came before.
    HardLink,
    /// A symlink.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// What the tar says of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name as in the tar, not cleaned.
    pub name: Vec<u8>,
    /// Its type.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner, as the container sees it.
    pub uid: u32,
    /// Group, as the container sees it.
    pub gid: u32,
    /// Bytes of content.
    pub size: u64,
    /// Last modification: whole seconds, rounded down.
    pub mtime: i64,
    /// Where a symlink points, or the name that a hard link is another name of.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes: name, value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The headers of a layer, in the order of the tar. After an error it ends.
pub struct Headers<R: Read> {
    pieces: Reader<R>,
    /// Raw bytes since the last entry.
    raw: Vec<u8>,
    /// So many of them fill the last block of the entry before.
    padding: usize,
    ended: bool,
}

/// The headers of one entry take no more than this.
const MAX_HEADERS: usize = 8 << 20;

impl<R: Read> Headers<R> {
    /// Reads them out of tar-split data.
    pub fn new(pieces: Reader<R>) -> Headers<R> {
        Headers { pieces, raw: Vec::new(), padding: 0, ended: false }
    }

    fn next_header(&mut self) -> Result<Option<Header>> {
        loop {
            match self.pieces.next().transpose()? {
                None => return Ok(None),
                Some(Piece::Segment(bytes)) => {
                    // past the last entry a tar may be filled up with as many zeros as its writer liked
                    let zeros = self.raw.len() > MAX_HEADERS && self.raw.iter().all(|b| *b == 0);
                    if zeros {
                        self.raw.clear();
                    } else if self.raw.len() > MAX_HEADERS {
                        return Err(Error::corrupt("the headers of one entry in the tar-split data are too long"));
                    }
                    self.raw.extend_from_slice(&bytes);
                }
                Some(Piece::File { name, size, .. }) => {
                    let raw = self.raw.get(self.padding..).unwrap_or_default();
                    let (header, used) = parse(raw).map_err(|e| e.on(format!("\"{}\"", text::bytes(&name))))?;
                    if used != raw.len() {
                        return Err(Error::corrupt(format!(
                            "the tar-split data has {} bytes too many before \"{}\"",
                            raw.len() - used,
                            text::bytes(&name)
                        )));
                    }
                    self.raw.clear();
                    self.padding = match header {
                        Parsed::Entry(_) => block::padding(size),
                        Parsed::Global(body) => block::padding(body),
                    };
                    if let Parsed::Entry(header) = header {
                        return Ok(Some(*header));
                    }
                }
            }
        }
    }
}

impl<R: Read> Iterator for Headers<R> {
    type Item = Result<Header>;

    fn next(&mut self) -> Option<Result<Header>> {
        if self.ended {
            return None;
        }
        let next = self.next_header().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

enum Parsed {
    Entry(Box<Header>),
    /// PAX records for all entries, which Docker passes over: so many bytes.
    Global(u64),
}

/// What extended headers say of the entry that follows.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// One entry's headers, and how many bytes they took.
fn parse(raw: &[u8]) -> Result<(Parsed, usize)> {
    let mut at = 0;
    let mut extended = Extended::default();
    loop {
        let header: &[u8; BLOCK] = raw.get(at..).and_then(|r| r.first_chunk()).ok_or_else(cut)?;
        at += BLOCK;
        let (name, size) = name_and_size(header)?;
        let kind = header[block::TYPE];
        if !matches!(kind, b'x' | b'g' | b'L' | b'K') {
            return Ok((Parsed::Entry(Box::new(entry(header, name, size, extended)?)), at));
        }
        let len = usize::try_from(size).map_err(|_| cut())?;
        let body = raw.get(at..).and_then(|r| r.get(..len)).ok_or_else(cut)?;
        at += len;
        match kind {
            b'g' => return Ok((Parsed::Global(size), at)),
            b'x' => extended.records(body)?,
            b'L' => extended.long_name = Some(until_nul(body).to_vec()),
            _ => extended.long_link = Some(until_nul(body).to_vec()),
        }
        at += block::padding(size);
    }
}

fn cut() -> Error {
    Error::corrupt("a part of its header is missing in the tar-split data")
}

impl Extended {
    fn records(&mut self, body: &[u8]) -> Result<()> {
        let bad = || Error::corrupt("its PAX header is damaged");
        let mut rest = body;
        while !rest.is_empty() {
            let (key, value, after) = pax_record(rest).ok_or_else(bad)?;
            rest = after;
            let text = Some(value.to_vec()).filter(|v| !v.is_empty());
            let whole = || if value.is_empty() { Ok(None) } else { decimal(value).map(Some).ok_or_else(bad) };
            match key {
                b"path" => self.path = text,
                b"linkpath" => self.link = text,
                b"size" => self.size = whole()?,
                b"uid" => self.uid = whole()?,
                b"gid" => self.gid = whole()?,
                b"mtime" => self.mtime = if value.is_empty() { None } else { Some(seconds(value).ok_or_else(bad)?) },
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.retain(|(n, _)| n != name);
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Seconds with a decimal fraction, rounded down.
fn seconds(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let below = whole.starts_with('-') && fraction.bytes().any(|c| c != b'0');
    fraction.bytes().all(|c| c.is_ascii_digit()).then(|| seconds - i64::from(below))
}

fn entry(header: &[u8; BLOCK], name: Vec<u8>, size: u64, extended: Extended) -> Result<Header> {
    let long = |v: Option<Vec<u8>>| v.filter(|v| !v.is_empty());
    let name = long(extended.long_name).or(extended.path).unwrap_or(name);
    let link = until_nul(&header[block::LINKNAME]).to_vec();
    let link = long(extended.long_link).or(extended.link).unwrap_or(link);
    let bad = |what: &str| Error::corrupt(format!("its header has a damaged {what}"));
    let field = |range: std::ops::Range<usize>, what: &str| number(&header[range]).ok_or_else(|| bad(what));
    let kind = match header[block::TYPE] {
        0 if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => {
            return Err(Error::corrupt(format!("its type is {}, which Docker doesn't unpack", text::bytes(&[other]))));
        }
    };
    let device = match kind {
        Kind::CharDevice | Kind::BlockDevice => {
            (field(block::DEVMAJOR, "device number")? as u32, field(block::DEVMINOR, "device number")? as u32)
        }
        _ => (0, 0),
    };
    // owners are 32 bits wide on every Linux
    let owner = |pax: Option<u64>, range: std::ops::Range<usize>| -> Result<u32> {
        Ok(match pax {
            Some(n) => n as u32,
            None => field(range, "owner")? as u32,
        })
    };
    Ok(Header {
        kind,
        mode: field(block::MODE, "mode")? as u32 & 0o7777,
        uid: owner(extended.uid, block::UID)?,
        gid: owner(extended.gid, block::GID)?,
        size: if kind == Kind::File { extended.size.unwrap_or(size) } else { 0 },
        mtime: match extended.mtime {
            Some(t) => t,
            None => field(block::MTIME, "time")?,
        },
        link: if matches!(kind, Kind::HardLink | Kind::Symlink) { link } else { Vec::new() },
        device,
        xattrs: extended.xattrs,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::disassemble::disassemble;
    use crate::tar::split::{MAX_UNPACKED, Packer};
    use crate::tar::writer::{Entry, Node, TarWriter};
    use std::io::sink;

    fn headers(tar: &[u8]) -> Result<Vec<Header>> {
        let mut packer = Packer::new(Vec::new());
        disassemble(tar, &mut packer, &mut sink())?;
        let split = packer.finish()?;
        Headers::new(Reader::new(&split[..], MAX_UNPACKED)).collect()
    }

    #[test]
    fn what_was_written_is_read() {
        let long = [b"d/".to_vec(), vec![b'n'; 300]].concat();
        let caps: Vec<(Vec<u8>, Vec<u8>)> = vec![(b"security.capability".to_vec(), vec![1, 0, b'\n', 2])];
        let file = |size| (Node::File { size }, Kind::File, size, &b""[..]);
        let cases = [
            (&b"d/"[..], (Node::Directory, Kind::Directory, 0, &b""[..]), (7, 0), &[][..]),
            (b"d/file", file(700), (1_700_000_000, 0), &[]),
            (b"d/caps", file(0), (12, 500_000_000), &caps[..]),
            (b"d/early", file(1), (-2, 500_000_000), &[]),
            (&long, file(3), (-7, 0), &[]),
            (b"d/link", (Node::HardLink { first: &long }, Kind::HardLink, 0, &long[..]), (5, 0), &[]),
            (b"s", (Node::Symlink { target: b"../x" }, Kind::Symlink, 0, b"../x"), (6, 0), &[]),
            (b"pipe", (Node::Fifo, Kind::Fifo, 0, b""), (8, 0), &[]),
        ];
        let mut tar = TarWriter::new(Vec::new());
        for (name, (node, ..), mtime, xattrs) in cases {
            let entry = Entry { name, node, mode: 0o4711, uid: 3_000_000, gid: 5, mtime, xattrs };
            let size = if let Node::File { size } = node { size } else { 0 };
            tar.append(&entry, &mut std::io::repeat(b'x').take(size)).expect("append");
        }
        let (bytes, _) = tar.finish().expect("tar");
        let read = headers(&bytes).expect("headers");
        assert_eq!(read.len(), cases.len());
        for (h, (name, (_, kind, size, link), mtime, xattrs)) in read.iter().zip(cases) {
            let name = text::bytes(name);
            assert_eq!((text::bytes(&h.name), h.kind, h.size), (name.clone(), kind, size));
            assert_eq!((h.mode, h.uid, h.gid), (0o4711, 3_000_000, 5), "{name}");
            assert_eq!((h.mtime, &h.link[..], &h.xattrs[..]), (mtime.0, link, xattrs), "{name}");
        }
    }

    /// A header by hand, as GNU tar and old writers make them.
    fn block(name: &[u8], kind: u8, size: u64, mtime: &[u8]) -> Vec<u8> {
        let mut h = [0u8; BLOCK];
        h[..name.len()].copy_from_slice(name);
        h[block::MODE].copy_from_slice(b"0040755\0");
        h[block::UID].copy_from_slice(b"0001750\0");
        h[block::GID].copy_from_slice(b"0001751\0");
        h[block::SIZE].copy_from_slice(format!("{size:011o}\0").as_bytes());
        h[block::MTIME].copy_from_slice(mtime);
        h[block::TYPE] = kind;
        h[block::MAGIC].copy_from_slice(b"ustar ");
        h[block::VERSION].copy_from_slice(b" \0");
        let sum = block::checksums(&h).0;
        h[block::CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        h.to_vec()
    }

    fn padded(body: &[u8]) -> Vec<u8> {
        let mut out = body.to_vec();
        out.resize(out.len() + block::padding(body.len() as u64), 0);
        out
    }

    #[test]
    fn gnu_names_and_numbers_are_understood() {
        let (name, link) = (vec![b'a'; 200], vec![b'b'; 150]);
        let octal = b"00000000007\0";
        let mut negative = [0xff; 12];
        negative[11] = 0xfe;
        let tar = [
            block(b"pax_global_header", b'g', 15, octal),
            padded(b"15 comment=abc\n"),
            block(b"././@LongLink", b'L', 201, octal),
            padded(&[&name[..], b"\0"].concat()),
            block(b"././@LongLink", b'K', 151, octal),
            padded(&[&link[..], b"\0"].concat()),
            block(&name[..100], b'2', 0, octal),
            block(b"old/", 0, 0, &negative),
            vec![0; 2 * BLOCK],
        ];
        let read = headers(&tar.concat()).expect("headers");
        assert_eq!((&read[0].name, &read[0].link, read[0].mtime), (&name, &link, 7));
        assert_eq!((read[1].kind, read[1].mtime, read[1].mode), (Kind::Directory, -2, 0o755));
        assert_eq!((read[1].uid, read[1].gid), (0o1750, 0o1751));
        assert_eq!(read.len(), 2, "the global header is no entry");
    }

    #[test]
    fn fractions_are_rounded_down() {
        for (text, is) in [("7", 7), ("7.9", 7), ("-7", -7), ("-0.5", -1), ("-1.50", -2), ("-1.0", -1)] {
            assert_eq!(seconds(text.as_bytes()), Some(is), "{text}");
        }
        assert_eq!((seconds(b"x"), seconds(b"1.x"), seconds(b"")), (None, None, None));
    }

    #[test]
    fn data_that_do_not_fit_are_an_error() {
        let mut packer = Packer::new(Vec::new());
        packer.segment(&block(b"a", b'0', 0, b"00000000007\0")).expect("packed");
        packer.segment(&[0; 100]).expect("packed");
        packer.file(b"a", 0, [0; 8]).expect("packed");
        let split = packer.finish().expect("packed");
        let e = Headers::new(Reader::new(&split[..], MAX_UNPACKED)).next().expect("one").expect_err("too many");
        assert!(e.to_string().contains("100 bytes too many"), "{e}");
    }
}
