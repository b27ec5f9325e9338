//! Headers of one entry: ustar, with PAX records before it where ustar cannot say all.

use super::block::{self, BLOCK};
use super::{Entry, Node};
use crate::error::{Error, Result};
use crate::text;
use std::collections::BTreeMap;
use std::ops::Range;

/// Go's reader, and so Docker's, refuses more PAX records for one entry.
const MAX_PAX: usize = 1 << 20;

/// PAX records by key: written in this order, so that the same entry gives the same bytes.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Appends the headers of an entry to `out`. Returns its name as a reader of the tar will see it.
pub fn write(entry: &Entry<'_>, out: &mut Vec<u8>) -> Result<Vec<u8>> {
    let on_entry = |e: Error| e.on(format!("\"{}\" can't be stored in a tar", text::bytes(entry.name)));
    let name = full_name(entry).map_err(on_entry)?;
    let mut records = Records::new();
    let main = ustar(entry, &name, &mut records).map_err(on_entry)?;
    for (attr, value) in entry.xattrs {
        // GNU tar would write %3D, which Go does not undo; Docker cannot store such a name either
        if attr.is_empty() || attr.contains(&b'=') || attr.contains(&0) {
            let e = Error::corrupt(format!("a tar can't hold an extended attribute named \"{}\"", text::bytes(attr)));
            return Err(on_entry(e));
        }
        records.insert([b"SCHILY.xattr.", &attr[..]].concat(), value.clone());
    }
    if !records.is_empty() {
        let body = pax_body(&records);
        if body.len() > MAX_PAX {
            let e = Error::corrupt(format!(
                "its attributes take {}, Docker reads at most {}",
                text::size(body.len() as u64),
                text::size(MAX_PAX as u64)
            ));
            return Err(on_entry(e));
        }
        out.extend_from_slice(&pax_header(&name, body.len()));
        out.extend_from_slice(&body);
        out.resize(out.len() + block::padding(body.len() as u64), 0);
    }
    out.extend_from_slice(&main);
    Ok(name)
}

/// The header of a file of which everything but the name and the size is nothing, always as long as `wide` makes it: so that it can be written
/// again when the size is known. Below 8 GiB the size fits without `wide`.
pub fn write_plain(name: &[u8], size: u64, wide: bool, out: &mut Vec<u8>) -> Result<()> {
    let mut main = Header::new(b'0', 0o644);
    let fits = main.octal(block::SIZE, size);
    if name.len() > 100 || !(fits || wide) {
        return Err(Error::corrupt(format!("\"{}\" doesn't fit into a tar header", text::bytes(name))));
    }
    main.text(block::NAME, name);
    if wide {
        // leading zeros are digits like others
        let body = pax_body(&Records::from([(b"size".to_vec(), format!("{size:020}").into_bytes())]));
        out.extend_from_slice(&pax_header(name, body.len()));
        out.extend_from_slice(&body);
        out.resize(out.len() + block::padding(body.len() as u64), 0);
    }
    out.extend_from_slice(&main.finish());
    Ok(())
}

/// The name with a directory's trailing slash. Any other name with one would be taken for a directory by old readers.
fn full_name(entry: &Entry<'_>) -> Result<Vec<u8>> {
    let mut name = entry.name.to_vec();
    if name.is_empty() || name.contains(&0) {
        return Err(Error::corrupt("this isn't a name"));
    }
    match (entry.node, name.ends_with(b"/")) {
        (Node::Directory, false) => name.push(b'/'),
        (Node::Directory, true) | (_, false) => {}
        (_, true) => return Err(Error::corrupt("only a directory's name ends in a slash")),
    }
    Ok(name)
}

/// The ustar header. What does not fit into it goes to `records`.
fn ustar(entry: &Entry<'_>, name: &[u8], records: &mut Records) -> Result<[u8; BLOCK]> {
    let (kind, link, rdev, size) = entry.node.fields();
    if matches!(kind, b'1' | b'2') && (link.is_empty() || link.contains(&0)) {
        return Err(Error::corrupt("its link target is empty"));
    }
    let mut h = Header::new(kind, entry.mode & 0o7777);
    match split(name) {
        Some((prefix, rest)) => {
            h.text(block::PREFIX, prefix);
            h.text(block::NAME, rest);
        }
        None => {
            h.text(block::NAME, clipped(name, 100));
            records.insert(b"path".into(), name.into());
        }
    }
    h.text(block::LINKNAME, clipped(link, 100));
    if link.len() > 100 {
        records.insert(b"linkpath".into(), link.into());
    }
    for (field, key, value) in
        [(block::UID, "uid", entry.uid.into()), (block::GID, "gid", entry.gid.into()), (block::SIZE, "size", size)]
    {
        if !h.octal(field, value) {
            records.insert(key.into(), value.to_string().into());
        }
    }
    let (seconds, nanos) = entry.mtime;
    let fits = u64::try_from(seconds).is_ok_and(|s| h.octal(block::MTIME, s));
    if !fits || nanos != 0 {
        records.insert(b"mtime".into(), pax_time(seconds, nanos)?.into());
    }
    let major = h.octal(block::DEVMAJOR, rustix::fs::major(rdev).into());
    let minor = h.octal(block::DEVMINOR, rustix::fs::minor(rdev).into());
    if !major || !minor {
        return Err(Error::corrupt(format!("a tar can't hold the device number {rdev:#x}")));
    }
    Ok(h.finish())
}

/// Prefix and name of a ustar header, if the name fits: at most 155 bytes, a slash that is not stored, at most 100 bytes.
pub(super) fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((&[], name));
    }
    // the slash of a directory must stay at its name, and a prefix must not be empty: that would lose a leading slash
    let last = name.len().saturating_sub(2);
    let slash = name.get(..=last.min(155))?.iter().rposition(|c| *c == b'/').filter(|at| *at > 0)?;
    let (prefix, rest) = (name.get(..slash)?, name.get(slash + 1..)?);
    (rest.len() <= 100).then_some((prefix, rest))
}

/// What of an overlong name goes into a ustar field, for readers that know no PAX. A slash at the cut would make a directory of it.
fn clipped(name: &[u8], max: usize) -> &[u8] {
    match name.get(..max) {
        Some(start) if name.len() > max => {
            let end = start.iter().rposition(|c| *c != b'/').map_or(0, |i| i + 1);
            start.get(..end).unwrap_or_default()
        }
        _ => name,
    }
}

/// Seconds since 1970 with a decimal fraction. Nanoseconds count forwards in a stat, also before 1970.
fn pax_time(seconds: i64, nanos: u32) -> Result<String> {
    if nanos >= 1_000_000_000 {
        return Err(Error::corrupt(format!("a time with {nanos} nanoseconds")));
    }
    if nanos == 0 {
        return Ok(seconds.to_string());
    }
    let text = match seconds {
        0.. => format!("{seconds}.{nanos:09}"),
        _ => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
    };
    Ok(text.trim_end_matches('0').to_owned())
}

fn pax_body(records: &Records) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        pax_record(key, value, &mut out);
    }
    out
}

/// Appends `<length> <key>=<value>\n`; the length counts its own digits.
pub(super) fn pax_record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let bare = key.len() + value.len() + 3;
    let mut len = bare;
    while bare + len.to_string().len() != len {
        len = bare + len.to_string().len();
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The header of the PAX records. Only readers that know no PAX see its name.
fn pax_header(name: &[u8], size: usize) -> [u8; BLOCK] {
    let base = name.strip_suffix(b"/").unwrap_or(name).rsplit(|c| *c == b'/').next().unwrap_or_default();
    let plain: Vec<u8> = base.iter().copied().filter(u8::is_ascii_graphic).collect();
    let mut h = Header::new(b'x', 0o644);
    h.text(block::NAME, clipped(&[b"PaxHeaders.0/", &plain[..]].concat(), 100));
    // at most 1 MiB, so it fits
    h.octal(block::SIZE, size as u64);
    h.finish()
}

/// A header being filled in.
pub(super) struct Header([u8; BLOCK]);

impl Header {
    pub(super) fn new(kind: u8, mode: u32) -> Header {
        let mut h = Header([0; BLOCK]);
        h.0[block::TYPE] = kind;
        h.text(block::MAGIC, b"ustar\0");
        h.text(block::VERSION, b"00");
        for field in [block::UID, block::GID, block::SIZE, block::MTIME, block::DEVMAJOR, block::DEVMINOR] {
            h.octal(field, 0);
        }
        h.octal(block::MODE, u64::from(mode));
        h
    }

    /// Text that is known to fit; NULs follow where room is left.
    pub(super) fn text(&mut self, field: Range<usize>, text: &[u8]) {
        for (to, from) in self.0[field].iter_mut().zip(text) {
            *to = *from;
        }
    }

    /// Octal digits and a NUL. `false`, and the field stays 0, if the number needs more digits.
    pub(super) fn octal(&mut self, field: Range<usize>, value: u64) -> bool {
        let width = field.len() - 1;
        let digits = format!("{value:0width$o}");
        let fits = digits.len() == width;
        if fits {
            self.text(field, digits.as_bytes());
        }
        fits
    }

    /// The number itself, big-endian, after a first bit that says so: GNU's form for what octal digits cannot hold.
    pub(super) fn base256(&mut self, field: Range<usize>, value: u64) {
        let field = &mut self.0[field];
        field.fill(0);
        for (to, from) in field.iter_mut().rev().zip(value.to_le_bytes()) {
            *to = from;
        }
        field[0] |= 0x80;
    }

    pub(super) fn finish(mut self) -> [u8; BLOCK] {
        let (sum, _) = block::checksums(&self.0);
        // six digits, NUL, blank: as every writer does it
        self.text(block::CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}
