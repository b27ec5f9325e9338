//! Makes tar-split data of a tar while it passes by, value for value as Docker does (FORMATS 6.2). The product records a tar while it writes it;
//! tests hold that record against this one, which sees the finished tar only.

use std::io::{ErrorKind, Read, Write};
use unaufs::error::{Error, IoContext, Result};
use unaufs::tar::split::fields::{decimal, name_and_size, pax_record, until_nul};
use unaufs::tar::split::{Crc64, Packer};
use unaufs::tar::writer::block::{self, BLOCK};
use unaufs::text;

/// The bytes of a segment that go into one JSON value at most.
pub const SEGMENT: usize = 1 << 20;

/// What went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disassembled {
    /// Bytes of the tar.
    pub bytes: u64,
    /// Bytes of them that are content of files.
    pub payload_bytes: u64,
}

/// The longest name, link target or block of PAX records. Go refuses longer ones too.
const MAX_SPECIAL: u64 = 1 << 20;
/// All headers of one entry together. They are held in memory until the entry is known.
const MAX_HEADERS: usize = 4 << 20;

/// Reads a tar, records it with `packer`, which is left open, and passes every byte of it on to `out`.
///
/// A sparse file is refused: tar-split data could not bring it back.
pub fn disassemble<W: Write>(tar: impl Read, packer: &mut Packer<W>, out: &mut dyn Write) -> Result<Disassembled> {
    let mut d = Passage {
        tar,
        out,
        raw: Vec::new(),
        buffer: vec![0; 256 << 10],
        done: Disassembled { bytes: 0, payload_bytes: 0 },
    };
    while let Some(entry) = d.next_entry()? {
        packer.segment(&d.raw)?;
        d.raw.clear();
        let crc = d.pass_content(&entry)?;
        packer.file(&entry.name, entry.size, crc)?;
        d.read_raw(entry.padding)?;
    }
    if !d.raw.is_empty() {
        packer.segment(&d.raw)?;
    }
    // GNU tar fills up to 10 KiB, others further; the empty segment at the end is what Docker writes, too
    loop {
        d.raw.clear();
        let n = d.read_raw(SEGMENT)?;
        packer.segment(&d.raw)?;
        if n == 0 {
            return Ok(d.done);
        }
    }
}

/// An entry as tar-split sees it.
struct TarEntry {
    name: Vec<u8>,
    size: u64,
    /// Bytes up to the next block, which are part of the next segment.
    padding: usize,
}

/// What extended headers say of the entry that follows them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    size: Option<u64>,
    long_name: Option<Vec<u8>>,
}

struct Passage<'a, R: Read> {
    tar: R,
    out: &'a mut dyn Write,
    /// What was read since the last entry, content apart: the next segment.
    raw: Vec<u8>,
    buffer: Vec<u8>,
    done: Disassembled,
}

impl<R: Read> Passage<'_, R> {
    /// Reads up to `len` bytes behind `raw` and passes them on; fewer only at the end of the tar.
    fn read_raw(&mut self, len: usize) -> Result<usize> {
        let start = self.raw.len();
        let n = (&mut self.tar).take(len as u64).read_to_end(&mut self.raw).on(|| "read a tar")?;
        self.out.write_all(self.raw.get(start..).unwrap_or_default()).on(|| "pass a tar on")?;
        self.done.bytes += n as u64;
        Ok(n)
    }

    /// Reads a header; `None` at the end: two zero blocks, or the end of the file where a header could begin.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self.raw.len() > MAX_HEADERS {
            return Err(Error::corrupt(format!(
                "the headers of one entry of a tar take more than {}",
                text::size(MAX_HEADERS as u64)
            )));
        }
        match self.read_raw(BLOCK)? {
            0 => Ok(None),
            BLOCK => Ok(self.raw.last_chunk().copied()),
            _ => Err(cut_short()),
        }
    }

    fn next_entry(&mut self) -> Result<Option<TarEntry>> {
        let mut extended = Extended::default();
        loop {
            let Some(header) = self.read_block()? else { return Ok(None) };
            if header == [0; BLOCK] {
                return match self.read_block()? {
                    Some(second) if second != [0; BLOCK] => Err(Error::corrupt("a tar has data after its end mark")),
                    _ => Ok(None),
                };
            }
            let kind = header[block::TYPE];
            let (name, size) = name_and_size(&header)?;
            match kind {
                b'x' => {
                    let records = self.special(size)?;
                    (extended.path, extended.size) = pax(&records)?;
                }
                b'L' => {
                    let name = self.special(size)?;
                    extended.long_name = Some(until_nul(&name).to_vec());
                }
                b'K' => {
                    self.special(size)?;
                }
                // a global header is an entry for tar-split; it has no content but what is in the segment
                b'g' => {
                    pax(&self.body(size)?)?;
                    return Ok(Some(TarEntry { name, size: 0, padding: block::padding(size) }));
                }
                b'S' => return Err(sparse(&name)),
                _ => {
                    let name = extended.long_name.filter(|n| !n.is_empty()).or(extended.path).unwrap_or(name);
                    let size = extended.size.unwrap_or(size);
                    // links, devices, directories and fifos have no content, whatever the field says; old writers put the
                    // size of a hard link's file there
                    let old_dir = kind == 0 && name.ends_with(b"/");
                    let size = if matches!(kind, b'1'..=b'6') || old_dir { 0 } else { size };
                    return Ok(Some(TarEntry { name, size, padding: block::padding(size) }));
                }
            }
        }
    }

    /// The body of an extended header, padding passed too.
    fn special(&mut self, size: u64) -> Result<Vec<u8>> {
        let body = self.body(size)?;
        let padding = block::padding(size);
        if self.read_raw(padding)? < padding {
            return Err(cut_short());
        }
        Ok(body)
    }

    /// The body of an extended header.
    fn body(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_SPECIAL {
            return Err(Error::corrupt(format!(
                "a name or attribute in a tar takes {size} bytes and may take {MAX_SPECIAL}"
            )));
        }
        let (start, len) = (self.raw.len(), size as usize);
        if self.read_raw(len)? < len {
            return Err(cut_short());
        }
        Ok(self.raw.get(start..).unwrap_or_default().to_vec())
    }

    /// Passes an entry's content on and sums it up.
    fn pass_content(&mut self, entry: &TarEntry) -> Result<[u8; 8]> {
        let mut crc = Crc64::default();
        let mut left = entry.size;
        while left > 0 {
            let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = match self.tar.read(self.buffer.get_mut(..want).unwrap_or_default()) {
                Ok(0) => return Err(cut_short()),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::io("read a tar", e)),
            };
            let bytes = self.buffer.get(..n).unwrap_or_default();
            crc.update(bytes);
            self.out.write_all(bytes).on(|| "pass a tar on")?;
            left -= n as u64;
        }
        self.done.bytes += entry.size;
        self.done.payload_bytes += entry.size;
        Ok(crc.finish())
    }
}

fn cut_short() -> Error {
    Error::corrupt("a tar is cut short")
}

fn sparse(name: &[u8]) -> Error {
    Error::corrupt(format!("\"{}\" is stored as a sparse file, which tar-split can't describe", text::bytes(name)))
        .hint("Make the tar without sparse files")
}

/// Path and size of PAX records: each `<length> <key>=<value>\n`. The last of equal keys counts, an empty value is none.
fn pax(records: &[u8]) -> Result<(Option<Vec<u8>>, Option<u64>)> {
    let (mut path, mut size) = (None, None);
    let (mut is_sparse, mut sparse_name) = (false, None);
    let mut rest = records;
    while !rest.is_empty() {
        let (key, value, after) = pax_record(rest).ok_or_else(|| Error::corrupt("a tar has a damaged PAX header"))?;
        rest = after;
        match key {
            b"path" => path = Some(value.to_vec()).filter(|v| !v.is_empty()),
            b"size" if value.is_empty() => size = None,
            b"size" => size = Some(decimal(value).ok_or_else(|| Error::corrupt("a tar has a damaged size"))?),
            b"GNU.sparse.name" => sparse_name = Some(value.to_vec()),
            _ => is_sparse |= key.starts_with(b"GNU.sparse."),
        }
    }
    if is_sparse {
        return Err(sparse(&sparse_name.or(path).unwrap_or_default()));
    }
    Ok((path, size))
}
