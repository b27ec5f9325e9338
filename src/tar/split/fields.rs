//! Fields of tar headers, as Go takes those of any writer.

use crate::error::{Error, Result};
use crate::tar::writer::block::{self, BLOCK};
use crate::text;

/// Name and size as they stand in the header, by its dialect.
pub fn name_and_size(header: &[u8; BLOCK]) -> Result<(Vec<u8>, u64)> {
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

/// What is before the first NUL.
pub fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|c| *c == 0).next().unwrap_or_default()
}

/// A number field: octal digits between blanks and NULs, or GNU's two's complement when the first bit is set.
pub fn number(field: &[u8]) -> Option<i64> {
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

/// Splits the first record off: key, value, what follows.
pub fn pax_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
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

/// A number in decimal digits.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    let plain = digits.iter().all(u8::is_ascii_digit);
    // within int64, as everywhere in tar-split
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse::<i64>().ok()?.try_into().ok()
}
