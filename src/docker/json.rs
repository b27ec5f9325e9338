//! Docker's JSON, edited as text: what is not changed stays byte for byte.
//!
//! Decoding into numbers and encoding again turns 9223372036854775807 into 9223372036854776000, and dockerd then refuses the
//! container; it also sorts keys and escapes `<`. So one value is replaced in place (FORMATS 8.7).

use crate::error::{Error, Result};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Docker's own files are a few KiB; a config with a thousand mounts is below 1 MiB.
pub const LIMIT: u64 = 16 << 20;

/// The members of a JSON object as they stand in the text, in their order. A key may be there several times.
#[derive(Debug, Default)]
pub struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Object<'a> {
    /// The value that Go's `encoding/json` leaves in the field of this name: the last one, whatever case its key is in.
    pub fn get(&self, field: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(key, _)| is_field(key, field)).map(|(_, value)| *value)
    }

    /// The members as a `map[string]T`: keys exactly as they are, of equal ones the last.
    pub fn entries(self) -> std::collections::BTreeMap<String, &'a RawValue> {
        self.0.into_iter().collect()
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut out = Vec::new();
                while let Some(member) = map.next_entry()? {
                    out.push(member);
                }
                Ok(Object(out))
            }
        }
        d.deserialize_map(Members)
    }
}

/// The members of the object with which a text begins. What comes after it is not looked at: Docker's decoder stops there too.
pub fn top_level(text: &str) -> Result<Object<'_>> {
    Object::deserialize(&mut serde_json::Deserializer::from_str(text))
        .map_err(|e| Error::corrupt("this isn't a JSON object").with_source(e))
}

/// Does Go put the value of this key into the field `field`? It compares without regard to case, where the Kelvin sign and the long s
/// are letters k and s too.
pub fn is_field(key: &str, field: &str) -> bool {
    fold(key).eq(fold(field))
}

/// A key as Go compares it with the name of a field.
pub fn folded(key: &str) -> String {
    fold(key).collect()
}

fn fold(key: &str) -> impl Iterator<Item = char> {
    key.chars().map(|c| match c {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        c => c.to_ascii_lowercase(),
    })
}

/// Text of a JSON file.
pub fn as_text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|e| Error::corrupt("this JSON isn't UTF-8").with_source(e))
}

/// Text of a JSON file to edit. Docker reads a file with bytes that aren't UTF-8, so characters that no file has represent them until
/// [`into_bytes`] puts them back.
pub fn editable(bytes: &[u8]) -> Result<Cow<'_, str>> {
    let Err(e) = std::str::from_utf8(bytes) else { return as_text(bytes).map(Cow::Borrowed) };
    let mut out = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        if chunk.valid().chars().any(|c| byte_of(c).is_some()) {
            return Err(Error::corrupt("this JSON isn't UTF-8").with_source(e));
        }
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().filter_map(|b| char::from_u32(STAND_INS + u32::from(*b))));
    }
    Ok(Cow::Owned(out))
}

/// The bytes of an edited text; `was` is the file from which it was made.
pub fn into_bytes(text: String, was: &[u8]) -> Vec<u8> {
    if std::str::from_utf8(was).is_ok() {
        return text.into_bytes();
    }
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

/// The character for the byte 0, in the last of Unicode's planes for private use.
const STAND_INS: u32 = 0x10_fe00;

fn byte_of(c: char) -> Option<u8> {
    u32::from(c).checked_sub(STAND_INS).and_then(|n| u8::try_from(n).ok()).filter(|b| !b.is_ascii())
}

/// Sets fields to new JSON values, wherever a field is named; one that is missing is put in front. Everything else stays as it was.
pub fn set<K: AsRef<str>>(text: &str, changes: &[(K, String)]) -> Result<String> {
    edit(text, changes, is_field)
}

/// The same in an object that represents a map: keys are compared as they are.
pub fn set_entries<K: AsRef<str>>(text: &str, changes: &[(K, String)]) -> Result<String> {
    edit(text, changes, |a, b| a == b)
}

fn edit<K: AsRef<str>>(text: &str, changes: &[(K, String)], same: fn(&str, &str) -> bool) -> Result<String> {
    let mut spans = Vec::new();
    let mut missing = String::new();
    let top = top_level(text)?;
    for (key, value) in changes {
        let key = key.as_ref();
        let found = spans.len();
        // a raw value is a slice of `text`
        let here = top.0.iter().filter(|(k, _)| same(k, key)).map(|(_, raw)| raw.get());
        spans.extend(here.map(|raw| (raw.as_ptr() as usize - text.as_ptr() as usize, raw.len(), value.as_str())));
        if spans.len() == found {
            missing.push_str(&format!("{}:{value},", string(key)));
        }
    }
    spans.sort();
    let mut out = String::with_capacity(text.len() + missing.len() + 64);
    let mut at = 0;
    if !missing.is_empty() {
        let brace = text.find('{').ok_or_else(|| Error::corrupt("this isn't a JSON object"))? + 1;
        if top.0.is_empty() {
            missing.pop();
        }
        out.push_str(&text[..brace]);
        out.push_str(&missing);
        at = brace;
    }
    for (start, len, value) in spans {
        out.push_str(&text[at..start]);
        out.push_str(value);
        at = start + len;
    }
    out.push_str(&text[at..]);
    Ok(out)
}

/// A JSON string literal.
pub fn string(s: &str) -> String {
    serde_json::Value::from(s).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_map_are_not_folded() {
        let changes = [("/A", "2".to_owned())];
        assert_eq!(set_entries("{\"/a\":1,\"/A\":1}", &changes).expect("edit"), "{\"/a\":1,\"/A\":2}");
        let top = top_level("{\"na\\u006de\":1,\"NAME\":2,\"x\":3}").expect("object");
        assert_eq!(top.get("Name").map(|v| v.get()), Some("2"));
        assert_eq!(top.entries().len(), 3);
    }

    #[test]
    fn bytes_that_are_not_text_stay() {
        let old = b"{\"a\":\"\xff\xe2\x80x\xc3\xa9\",\"Driver\":\"aufs\"}";
        let text = editable(old).expect("text");
        let part = top_level(&text).expect("object").get("a").expect("a").get().to_owned();
        let new = set(&text, &[("Driver", string("vfs")), ("b", part)]).expect("edit");
        let want = b"{\"b\":\"\xff\xe2\x80x\xc3\xa9\",\"a\":\"\xff\xe2\x80x\xc3\xa9\",\"Driver\":\"vfs\"}";
        assert_eq!(into_bytes(new, old), want);
        // text that has these characters itself
        let private = "{\"a\":\"\u{10fe80}\"}";
        assert_eq!(
            into_bytes(editable(private.as_bytes()).expect("text").into_owned(), private.as_bytes()),
            private.as_bytes()
        );
        assert!(editable(&[private.as_bytes(), b"\xff"].concat()).is_err());
        assert!(top_level(&editable(b"{\"a\":\xff}").expect("text")).is_err(), "outside of a string");
    }

    #[test]
    fn only_the_value_changes() {
        let cases = [
            // a 64-bit integer, odd blanks, escapes and key order survive
            (
                "{ \"Z\": 9223372036854775807,\"Driver\" : \"aufs\" ,\"s\":\"\\u003c<\\/\",\"f\":1.50e+3}\n",
                "{ \"Z\": 9223372036854775807,\"Driver\" : \"overlay2\" ,\"s\":\"\\u003c<\\/\",\"f\":1.50e+3}\n",
            ),
            // only at top level
            (
                "{\"Config\":{\"Driver\":\"aufs\"},\"Driver\":\"aufs\"}",
                "{\"Config\":{\"Driver\":\"aufs\"},\"Driver\":\"overlay2\"}",
            ),
            // missing: very old containers
            ("{\"ID\":\"x\"}", "{\"Driver\":\"overlay2\",\"ID\":\"x\"}"),
            ("{}", "{\"Driver\":\"overlay2\"}"),
            // Go fills one field from both, whatever their case
            ("{\"Driver\":\"a\",\"driver\":\"b\"}", "{\"Driver\":\"overlay2\",\"driver\":\"overlay2\"}"),
            // Docker reads the first value of a file
            ("{\"Driver\":\"a\"}{\"Driver\":\"b\"}x", "{\"Driver\":\"overlay2\"}{\"Driver\":\"b\"}x"),
        ];
        for (old, new) in cases {
            assert_eq!(set(old, &[("Driver", string("overlay2"))]).expect("edit"), new);
        }
        for bad in ["", "[]", "null", "{\"a\":", "\"x\""] {
            assert!(set(bad, &[("Driver", string("x"))]).is_err(), "{bad}");
        }
        // nesting without end is passed through: no recursion, hence no stack overflow
        let deep = format!("{{\"Driver\":1,\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(set(&deep, &[("Driver", "2".to_owned())]).expect("edit"), deep.replacen('1', "2", 1));
    }
}
