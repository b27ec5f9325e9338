//! Docker's JSON, edited as text: what is not changed stays byte for byte.
//!
//! Decoding into numbers and encoding again turns 9223372036854775807 into 9223372036854776000, and dockerd then refuses the
//! container; it also sorts keys and escapes `<`. So one value is replaced where it stands (FORMATS 8.7).

use crate::error::{Error, Result};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Docker's own files are a few KiB; a config with a thousand mounts is below 1 MiB.
pub const LIMIT: u64 = 16 << 20;

/// The top-level values of a JSON object as they stand in the text. Of a repeated key the last one counts, as in Go.
pub fn top_level(text: &str) -> Result<BTreeMap<String, &RawValue>> {
    serde_json::from_str(text).map_err(|e| Error::corrupt("this is not a JSON object").with_source(e))
}

/// Text of a JSON file.
pub fn as_text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|e| Error::corrupt("this JSON is not UTF-8").with_source(e))
}

/// Sets top-level keys to new JSON values; a key that is missing is put in front. Everything else stays as it was.
pub fn set(text: &str, changes: &[(&str, String)]) -> Result<String> {
    let mut spans = Vec::new();
    let mut missing = String::new();
    let top = top_level(text)?;
    for (key, value) in changes {
        match top.get(*key) {
            // the raw value is a slice of `text`
            Some(raw) => {
                let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
                spans.push((start, raw.get().len(), value.as_str()));
            }
            None => {
                missing.push_str(&format!("{}:{value},", string(key)));
            }
        }
    }
    spans.sort();
    let mut out = String::with_capacity(text.len() + missing.len() + 64);
    let mut at = 0;
    if !missing.is_empty() {
        let brace = text.find('{').ok_or_else(|| Error::corrupt("this is not a JSON object"))? + 1;
        if top.is_empty() {
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
            // the last of two counts, as in Go
            ("{\"Driver\":\"a\",\"Driver\":\"b\"}", "{\"Driver\":\"a\",\"Driver\":\"overlay2\"}"),
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
