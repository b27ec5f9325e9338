//! Tar headers as Docker 1.10.3 wrote them: archive/tar of Go 1.5, filled in by Docker's pkg/archive.
//!
//! ```text
//! mode               the bits of the file type too
//! uid, gid, size     octal; base-256 where that is too short, and from there on every header of the tar has GNU's magic
//!                    (Go never took it back: golang.org/issue/17665)
//! mtime              whole seconds, 0 before 1970
//! uname, gname       empty
//! name               up to 100 bytes; ASCII of up to 256 bytes with a slash in the right place: prefix 155, name 100
//! else, and for a link of more than 100 bytes, a name or link that isn't ASCII, or a capability:
//!   x: PaxHeaders.310/…   path, linkpath, SCHILY.xattr.security.capability; the field itself stays empty
//! ```
//!
//! Go 1.5 put its own process ID into the name of the PAX header (Go 1.6 put 0 there, golang.org/issue/12358). So a layer with one has another
//! digest on each host that Docker 1.10 or 1.11 converted, and no digest is the right one.

use super::Node;
use super::block::{self, BLOCK};
use super::header::{Header, pax_record, split};
use crate::disk::{FileType, Meta};
use std::ops::Range;

/// The process ID in the PAX headers. Any number is as right as another; this one is from a conversion by a real Docker 1.10.3, so the tests
/// can compare whole tars with that conversion.
const PROCESS: u32 = 310;

/// The last second that Go wrote as octal digits; later ones became 0.
const LAST_SECOND: i64 = (1 << 33) - 1;

/// One entry of a tar.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The path in the tar, without a slash at either end.
    pub name: &'a [u8],
    /// Its type.
    pub node: Node<'a>,
    /// What `lstat` says of the file.
    pub meta: &'a Meta,
    /// Its `security.capability`.
    pub capability: Option<&'a [u8]>,
}

/// Writes the headers of the entries of one tar, in their order.
#[derive(Debug, Default)]
pub struct Headers {
    /// A number was too large for octal digits.
    binary: bool,
    /// The first name that needed a PAX header.
    first_pax: Option<Vec<u8>>,
}

impl Headers {
    /// The first name that needed a PAX header, if one did: then Docker's own digest depended on its process ID.
    pub fn first_pax(self) -> Option<Vec<u8>> {
        self.first_pax
    }

    /// Appends the headers of an entry to `out`. Returns its name as a reader of the tar will see it.
    pub fn write(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Vec<u8> {
        let (kind, link, _, size) = entry.node.fields();
        let mut name = entry.name.to_vec();
        if kind == b'5' {
            name.push(b'/');
        }
        let m = entry.meta;
        let mut h = Header::new(kind, m.kind.as_raw_mode() | m.mode);
        self.numbers(&mut h, m, size);
        let mut records = names(&mut h, &name, link);
        if let Some(value) = entry.capability {
            pax_record(b"SCHILY.xattr.security.capability", value, &mut records);
        }
        if !records.is_empty() {
            self.first_pax.get_or_insert_with(|| entry.name.to_vec());
            out.extend_from_slice(&self.pax_header(&name, seconds(m.mtime), records.len()));
            out.extend_from_slice(&records);
            out.resize(out.len() + block::padding(records.len() as u64), 0);
        }
        out.extend_from_slice(&self.finish(h));
        name
    }

    fn numbers(&mut self, h: &mut Header, m: &Meta, size: u64) {
        self.number(h, block::UID, m.uid.into());
        self.number(h, block::GID, m.gid.into());
        self.number(h, block::SIZE, size);
        h.octal(block::MTIME, seconds(m.mtime));
        // also of a hard link to a device
        if matches!(m.kind, FileType::CharacterDevice | FileType::BlockDevice) {
            self.number(h, block::DEVMAJOR, rustix::fs::major(m.rdev).into());
            self.number(h, block::DEVMINOR, rustix::fs::minor(m.rdev).into());
        }
    }

    /// The header of PAX records: of a file with the entry's time and nothing else.
    fn pax_header(&self, name: &[u8], mtime: u64, size: usize) -> [u8; BLOCK] {
        let (directory, base) = match name.iter().rposition(|c| *c == b'/') {
            Some(slash) => name.split_at(slash + 1),
            None => (&[][..], name),
        };
        let mut full = [directory, format!("PaxHeaders.{PROCESS}").as_bytes()].concat();
        if !base.is_empty() {
            full.push(b'/');
            full.extend_from_slice(base);
        }
        full.retain(u8::is_ascii);
        full.truncate(block::NAME.len());
        let mut h = Header::new(b'x', 0);
        h.text(block::NAME, &full);
        // far below 8 GiB
        h.octal(block::SIZE, size as u64);
        h.octal(block::MTIME, mtime);
        self.finish(h)
    }

    fn number(&mut self, h: &mut Header, field: Range<usize>, value: u64) {
        if !h.octal(field.clone(), value) {
            h.base256(field, value);
            self.binary = true;
        }
    }

    fn finish(&self, mut h: Header) -> [u8; BLOCK] {
        if self.binary {
            h.text(block::MAGIC, b"ustar ");
            h.text(block::VERSION, b" \0");
        }
        h.finish()
    }
}

/// Writes the names that fit, and gives the records of those that don't.
fn names(h: &mut Header, name: &[u8], link: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    let link_fits = link.is_ascii() && link.len() <= block::LINKNAME.len();
    // Go tried the prefix only where nothing else kept it from ustar
    match split(name).filter(|(prefix, _)| name.is_ascii() && (prefix.is_empty() || link_fits)) {
        Some((prefix, rest)) => {
            h.text(block::PREFIX, prefix);
            h.text(block::NAME, rest);
        }
        None => pax_record(b"path", name, &mut records),
    }
    match link_fits {
        true => h.text(block::LINKNAME, link),
        false => pax_record(b"linkpath", link, &mut records),
    }
    records
}

/// The time as Go wrote it: 0 where it did not fit.
fn seconds((seconds, nanos): (i64, u32)) -> u64 {
    let late = (seconds, nanos) > (LAST_SECOND, 0);
    if late { 0 } else { u64::try_from(seconds).unwrap_or(0) }
}

#[cfg(test)]
mod tests;
