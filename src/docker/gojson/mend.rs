//! What is whole of a JSON document that was cut: a power cut leaves the beginning of a file, or NUL bytes after it.

use super::Scanner;
use crate::error::Result;

/// What is nested deeper counts as whole or not as one value.
const MAX_DEPTH: usize = 200;

/// Where the last whole value ends, and the brackets that are open there.
type Whole = Option<(usize, Vec<u8>)>;

/// The document up to the last member or element that is whole, closed. `None` where nothing is.
pub fn mended(doc: &[u8]) -> Option<Vec<u8>> {
    let (mut open, mut whole) = (Vec::new(), Whole::None);
    let mut s = Scanner { doc, pos: 0 };
    s.blanks();
    // an error is where the document was cut
    let _ = value(&mut s, &mut open, &mut whole);
    let (end, open) = whole?;
    Some(doc.get(..end)?.iter().copied().chain(open.into_iter().rev()).collect())
}

fn value(s: &mut Scanner<'_>, open: &mut Vec<u8>, whole: &mut Whole) -> Result<()> {
    let close = match s.peek() {
        Some(b'{') if open.len() < MAX_DEPTH => b'}',
        Some(b'[') if open.len() < MAX_DEPTH => b']',
        _ => {
            s.value()?;
            *whole = Some((s.pos, open.clone()));
            return Ok(());
        }
    };
    s.pos += 1;
    open.push(close);
    s.blanks();
    while s.peek() != Some(close) {
        if close == b'}' {
            s.string()?;
            s.blanks();
            s.expect(b':')?;
            s.blanks();
        }
        value(s, open, whole)?;
        s.blanks();
        if s.peek() != Some(close) {
            s.expect(b',')?;
            s.blanks();
        }
    }
    s.expect(close)?;
    open.pop();
    *whole = Some((s.pos, open.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whole_before_a_cut_is_kept() {
        let doc = r#"{"R":{"a":{"a:1":"x","a:2":"y"},"b":{}},"n":[1,{"z":null}]}"#;
        for (cut, want) in [
            (doc.len(), Some(doc)),
            (doc.len() - 1, Some(doc)),
            (0, None),
            (5, None),
            (13, None),
            (19, None),
            (20, Some(r#"{"R":{"a":{"a:1":"x"}}}"#)),
            (21, Some(r#"{"R":{"a":{"a:1":"x"}}}"#)),
            (28, Some(r#"{"R":{"a":{"a:1":"x"}}}"#)),
            (30, Some(r#"{"R":{"a":{"a:1":"x","a:2":"y"}}}"#)),
            (36, Some(r#"{"R":{"a":{"a:1":"x","a:2":"y"}}}"#)),
            (48, Some(r#"{"R":{"a":{"a:1":"x","a:2":"y"},"b":{}},"n":[1]}"#)),
        ] {
            let got = mended(&doc.as_bytes()[..cut]).map(|b| String::from_utf8(b).expect("text"));
            assert_eq!(got.as_deref(), want, "cut at {cut}");
            let zeros = [&doc.as_bytes()[..cut], &[0; 8]].concat();
            assert_eq!(mended(&zeros).is_some(), want.is_some(), "NUL bytes from {cut}");
        }
        // no prefix makes anything but JSON
        for cut in 0..doc.len() {
            if let Some(m) = mended(&doc.as_bytes()[..cut]) {
                assert!(super::super::parse(&m).is_ok(), "cut at {cut}");
            }
        }
        assert!(mended("[".repeat(100_000).as_bytes()).is_none());
    }
}
