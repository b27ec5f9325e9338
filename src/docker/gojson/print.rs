//! JSON as Go prints it.

use std::collections::BTreeMap;
use std::io::Write;

/// Appends a value as Go's `Marshal` prints a `RawMessage`: blanks outside strings go, `< > &` U+2028 and U+2029 become
/// escapes, all else (key order, spelling of numbers, other escapes) stays.
pub fn compact(value: &[u8], out: &mut Vec<u8>) {
    let mut bytes = value;
    let mut in_string = false;
    while let Some((&c, rest)) = bytes.split_first() {
        bytes = rest;
        match (c, rest) {
            (b'<' | b'>' | b'&', _) => escape(c.into(), out),
            (0xe2, [0x80, last @ (0xa8 | 0xa9), tail @ ..]) => {
                escape(0x2000 | u16::from(last & 0x3f), out);
                bytes = tail;
            }
            (b'\\', [next, tail @ ..]) if in_string => {
                out.extend([c, *next]);
                bytes = tail;
            }
            (b' ' | b'\t' | b'\r' | b'\n', _) if !in_string => {}
            (b'"', _) => {
                in_string = !in_string;
                out.push(c);
            }
            _ => out.push(c),
        }
    }
}

fn escape(unit: u16, out: &mut Vec<u8>) {
    // writing into a Vec cannot fail
    let _ = write!(out, "\\u{unit:04x}");
}

/// Appends a string as Go's `Marshal` prints it.
pub fn quote(s: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut utf8 = [0; 4];
    for c in s.chars() {
        match c {
            '"' | '\\' => out.extend([b'\\', c as u8]),
            '\n' => out.extend(b"\\n"),
            '\r' => out.extend(b"\\r"),
            '\t' => out.extend(b"\\t"),
            '<' | '>' | '&' | '\0'..'\u{20}' | '\u{2028}' | '\u{2029}' => escape(c as u16, out),
            _ => out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes()),
        }
    }
    out.push(b'"');
}

/// A string as Go prints it.
pub fn quoted(s: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(s.len() + 2);
    quote(s, &mut out);
    out
}

/// Prints an object member by member.
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
    next: u8,
}

impl<'o> Object<'o> {
    /// Opens the object.
    pub fn begin(out: &'o mut Vec<u8>) -> Object<'o> {
        Object { out, next: b'{' }
    }

    /// Prints a key and gives the place for its value.
    pub fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.out.push(self.next);
        self.next = b',';
        quote(key, self.out);
        self.out.push(b':');
        self.out
    }

    /// Closes the object.
    pub fn end(self) {
        if self.next == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }
}

/// Prints a map as Go does: keys in the order of their bytes, values (JSON text) compacted.
pub fn print_map(map: &BTreeMap<String, impl AsRef<[u8]>>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    for (key, value) in map {
        compact(value.as_ref(), object.key(key));
    }
    object.end();
    out
}
