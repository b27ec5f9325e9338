//! Makes tar-split data of a tar while it passes by, value for value as Docker does (FORMATS 6.2).

use super::{BUFFER, Crc64, Packer, SEGMENT};
use crate::error::{Error, IoContext, Result};
use crate::tar::writer::block::{self, BLOCK};
use crate::text;
use std::io::{ErrorKind, Read, Write};

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
        buffer: vec![0; BUFFER],
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

/// Name and size as they stand in the header, by its dialect.
pub(super) fn name_and_size(header: &[u8; BLOCK]) -> Result<(Vec<u8>, u64)> {
    let bad = || Error::corrupt("a tar has a damaged header");
    let sum = number(&header[block::CHECKSUM]).ok_or_else(bad)?;
    let (unsigned, signed) = block::checksums(header);
    if sum != unsigned && sum != signed {
        return Err(bad());
    }
    let prefix = match &header[block::MAGIC] {
        b"ustar\0" if &header[block::STAR_TRAILER] == b"tar\0" => until_nul(&header[block::STAR_PREFIX]),
        b"ustar\0" => until_nul(&header[block::PREFIX]),
        // before Go 1.8, Go (and so Docker) could write a prefix into GNU headers, where times belong
        b"ustar " if &header[block::VERSION] == b" \0" => {
            let times = [&header[block::GNU_ATIME], &header[block::GNU_CTIME]];
            let prefix = until_nul(&header[block::PREFIX]);
            let are_times = times.iter().all(|t| t.first() == Some(&0) || number(t).is_some());
            if are_times || !prefix.is_ascii() { &[] } else { prefix }
        }
        _ => &[],
    };
    let mut name = prefix.to_vec();
    if !prefix.is_empty() {
        name.push(b'/');
    }
    name.extend_from_slice(until_nul(&header[block::NAME]));
    let size = number(&header[block::SIZE]).and_then(|n| u64::try_from(n).ok());
    let size = size.ok_or_else(|| bad().on(format!("entry \"{}\"", text::bytes(&name))))?;
    Ok((name, size))
}

pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|c| *c == 0).next().unwrap_or_default()
}

/// A number field: octal digits between blanks and NULs, or GNU's two's complement when the first bit is set.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let start = if first & 0x40 != 0 { i64::from(first as i8) } else { i64::from(first & 0x7f) };
        return rest.iter().try_fold(start, |n, &byte| Some(n.checked_mul(256)? | i64::from(byte)));
    }
    let blank = |c: &u8| matches!(c, b' ' | 0);
    let start = field.iter().position(|c| !blank(c)).unwrap_or(field.len());
    let digits = field.get(start..)?;
    let digits = until_nul(digits);
    let len = digits.iter().rposition(|c| !blank(c)).map_or(0, |i| i + 1);
    digits.get(..len)?.iter().try_fold(0i64, |n, c| match c {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(i64::from(c - b'0')),
        _ => None,
    })
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

/// Splits the first record off: key, value, what follows.
pub(super) fn pax_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = records.iter().position(|c| *c == b' ')?;
    let len = usize::try_from(decimal(records.get(..blank)?)?).ok()?;
    let (record, after) = records.split_at_checked(len)?;
    let body = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|c| *c == b'=')?;
    let (key, value) = body.split_at_checked(equals)?;
    let value = value.get(1..)?;
    // Go's rule: NUL never in a key, nor in a name
    let names = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
    let bad = key.is_empty() || key.contains(&0) || (names && value.contains(&0));
    (!bad).then_some((key, value, after))
}

pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    let plain = digits.iter().all(u8::is_ascii_digit);
    // within int64, as everywhere in tar-split
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse::<i64>().ok()?.try_into().ok()
}

#[cfg(test)]
mod tests;
