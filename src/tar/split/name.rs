//! Names of a tar as Go's `path.Clean` sees them, and as a path below the layer.

use crate::error::{Error, Result};
use crate::text;

/// The shortest equivalent name, by its text alone: Docker compares and opens names so (FORMATS 6.2).
pub fn clean(name: &[u8]) -> Vec<u8> {
    let rooted = name.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|c| *c == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(&last) if last != b".." => {
                    parts.pop();
                }
                // above the root is the root
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    let mut out = parts.join(&b'/');
    if rooted {
        out.insert(0, b'/');
    } else if out.is_empty() {
        out.push(b'.');
    }
    out
}

/// The path below the layer's top directory that a name means. The name comes from the store and may try to leave the layer.
pub fn below(name: &[u8]) -> Result<Vec<u8>> {
    let cleaned = clean(name);
    let rel = cleaned.strip_prefix(b"/").unwrap_or(&cleaned);
    let leaves = rel == b".." || rel.starts_with(b"../");
    if rel.is_empty() || rel == b"." || leaves || rel.contains(&0) {
        return Err(Error::corrupt(format!(
            "the tar-split data refers to the content of \"{}\", which isn't a file in the layer",
            text::bytes(name)
        )));
    }
    Ok(rel.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_as_go_does() {
        for (raw, cleaned) in [
            ("", "."),
            ("./", "."),
            ("a", "a"),
            ("./a/", "a"),
            ("a//b/./c/", "a/b/c"),
            ("a/../b", "b"),
            ("a/../../b", "../b"),
            ("../../b", "../../b"),
            ("/", "/"),
            ("/../a", "/a"),
            ("//a", "/a"),
            ("..a/...", "..a/..."),
        ] {
            assert_eq!(clean(raw.as_bytes()), cleaned.as_bytes(), "{raw}");
        }
    }

    #[test]
    fn nothing_outside_is_reached() {
        for (raw, path) in [("./usr/a", "usr/a"), ("/usr/a", "usr/a"), ("/../a", "a"), ("..a", "..a"), ("x/../a", "a")]
        {
            assert_eq!(below(raw.as_bytes()).unwrap(), path.as_bytes(), "{raw}");
        }
        for bad in ["", ".", "/", "..", "../a", "a/../../b", "a\0b"] {
            assert!(below(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
