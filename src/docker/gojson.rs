//! JSON as Go's `encoding/json` reads and writes it, as far as image ids depend on it (FORMATS 8.3, 8.4).
//!
//! An image id is the SHA-256 of the bytes that Docker 1.10 wrote, so this works on bytes: a [`Raw`] is the very text of a
//! value, numbers included, and [`compact`] and [`quote`] have the escape sets of Go (go1.5.3 built Docker 1.10.3).
//! Reading is Go's too: the last of several equal keys counts, bytes that are not UTF-8 become U+FFFD when a string is
//! decoded and stay as they are in raw text. Nesting and length are limited, since the input is hostile.

mod mend;
mod print;

use crate::error::{Error, Result};
use std::collections::BTreeMap;

pub use mend::mended;
pub use print::{Object, compact, print_map, quote, quoted};

/// The longest document that is read. Docker's are a few kilobytes.
pub const MAX_LEN: usize = 16 << 20;
/// The deepest nesting that is read: Go gives up there too.
const MAX_DEPTH: usize = 10_000;

/// One well-formed JSON value: its bytes inside the document, without blanks around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(&'a [u8]);

impl std::fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.0))
    }
}

impl AsRef<[u8]> for Raw<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

/// Checks that `doc` is one JSON value, and nothing after it.
pub fn parse(doc: &[u8]) -> Result<Raw<'_>> {
    if doc.len() > MAX_LEN {
        return Err(Error::corrupt(format!("{} bytes of JSON, more than the {MAX_LEN} that are read", doc.len())));
    }
    let mut s = Scanner { doc, pos: 0 };
    s.blanks();
    let value = s.value()?;
    s.blanks();
    match s.peek() {
        None => Ok(value),
        Some(_) => Err(s.bad("there is text after the JSON value")),
    }
}

/// The value with which `doc` begins: what comes after it is not looked at, as by Go's `Decoder`.
pub fn first(doc: &[u8]) -> Result<Raw<'_>> {
    if doc.len() > MAX_LEN {
        return Err(Error::corrupt(format!("{} bytes of JSON, more than the {MAX_LEN} that are read", doc.len())));
    }
    let mut s = Scanner { doc, pos: 0 };
    s.blanks();
    s.value()
}

impl<'a> Raw<'a> {
    /// The text of the value.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.0 == b"null"
    }

    /// What it is, for a message.
    pub fn kind(self) -> &'static str {
        match self.0.first() {
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        }
    }

    fn not(self, wanted: &str) -> Error {
        Error::corrupt(format!("{} where {wanted} belongs", self.kind()))
    }

    /// The members of an object in their order, keys decoded, doubles kept. `None` for `null`.
    pub fn members(self) -> Result<Option<Vec<(String, Raw<'a>)>>> {
        if self.is_null() {
            return Ok(None);
        }
        if self.0.first() != Some(&b'{') {
            return Err(self.not("an object"));
        }
        let mut out = Vec::new();
        Scanner { doc: self.0, pos: 0 }.object(|key, value| out.push((unquote(key), value)))?;
        Ok(Some(out))
    }

    /// The members as Go's `map[string]*json.RawMessage`: of equal keys the last.
    pub fn map(self) -> Result<BTreeMap<String, Raw<'a>>> {
        match self.members()? {
            Some(m) => Ok(m.into_iter().collect()),
            None => Err(self.not("an object")),
        }
    }

    /// The elements of an array. `None` for `null`.
    pub fn elements(self) -> Result<Option<Vec<Raw<'a>>>> {
        if self.is_null() {
            return Ok(None);
        }
        if self.0.first() != Some(&b'[') {
            return Err(self.not("an array"));
        }
        let mut out = Vec::new();
        Scanner { doc: self.0, pos: 0 }.array(|value| out.push(value))?;
        Ok(Some(out))
    }

    /// The decoded string. `None` for `null`.
    pub fn string(self) -> Result<Option<String>> {
        match self.0.first() {
            Some(b'"') => Ok(Some(unquote(self))),
            Some(b'n') => Ok(None),
            _ => Err(self.not("a string")),
        }
    }

    /// The boolean. `None` for `null`.
    pub fn boolean(self) -> Result<Option<bool>> {
        match self.0 {
            b"true" => Ok(Some(true)),
            b"false" => Ok(Some(false)),
            b"null" => Ok(None),
            _ => Err(self.not("a boolean")),
        }
    }

    /// The number, when it is an integer of 64 bits: Go refuses `1.0` and `1e3` for an `int64`. `None` for `null`.
    pub fn integer(self) -> Result<Option<i64>> {
        let n = self.integer_within(i64::MIN.into(), i64::MAX.into())?;
        Ok(n.and_then(|n| n.try_into().ok()))
    }

    /// The number, when it is an integer between these two, as Go reads one of fewer bits or without a sign.
    pub fn integer_within(self, least: i128, most: i128) -> Result<Option<i128>> {
        if self.is_null() {
            return Ok(None);
        }
        let text = std::str::from_utf8(self.0).ok().filter(|s| least < 0 || !s.starts_with('-'));
        match text.and_then(|s| s.parse().ok()).filter(|n| (least..=most).contains(n)) {
            Some(n) => Ok(Some(n)),
            None if self.kind() == "a number" => {
                Err(Error::corrupt(format!("it isn't an integer from {least} to {most}")))
            }
            None => Err(self.not("an integer")),
        }
    }
}

/// A position in a document. Every method either moves past what it names or fails.
struct Scanner<'a> {
    doc: &'a [u8],
    pos: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.doc.get(self.pos).copied()
    }

    fn bad(&self, what: &str) -> Error {
        match self.peek() {
            None => Error::corrupt("the JSON ends too early"),
            Some(_) => Error::corrupt(format!("bad JSON at byte {}: {what}", self.pos)),
        }
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.pos += 1;
        }
    }

    fn expect(&mut self, c: u8) -> Result<()> {
        if self.peek() != Some(c) {
            return Err(self.bad(&format!("no {:?}", c as char)));
        }
        self.pos += 1;
        Ok(())
    }

    fn since(&self, start: usize) -> Raw<'a> {
        Raw(self.doc.get(start..self.pos).unwrap_or_default())
    }

    /// Goes by what is open instead of calling itself: the nesting is a stranger's.
    fn value(&mut self) -> Result<Raw<'a>> {
        let start = self.pos;
        let mut open = Vec::new();
        loop {
            match self.peek() {
                Some(b'{' | b'[') if open.len() == MAX_DEPTH => {
                    return Err(self.bad(&format!("nested deeper than {MAX_DEPTH}")));
                }
                Some(bracket @ (b'{' | b'[')) => {
                    open.push(if bracket == b'{' { b'}' } else { b']' });
                    self.pos += 1;
                    self.blanks();
                    if self.peek() != open.last().copied() {
                        self.key(&open)?;
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            if !self.next(&mut open)? {
                return Ok(self.since(start));
            }
        }
    }

    /// Moves from the end of a value to the next one inside what is open; false where nothing is open any more.
    fn next(&mut self, open: &mut Vec<u8>) -> Result<bool> {
        while let Some(close) = open.last().copied() {
            // the bracket of an empty one is not read yet
            self.blanks();
            if self.peek() == Some(b',') {
                self.pos += 1;
                self.blanks();
                self.key(open)?;
                return Ok(true);
            }
            self.expect(close)?;
            open.pop();
        }
        Ok(false)
    }

    /// The key of a member, where an object is open.
    fn key(&mut self, open: &[u8]) -> Result<()> {
        if open.last() == Some(&b'}') {
            self.string()?;
            self.blanks();
            self.expect(b':')?;
            self.blanks();
        }
        Ok(())
    }

    fn scalar(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => Err(self.bad("no value")),
        }
    }

    fn object(&mut self, mut member: impl FnMut(Raw<'a>, Raw<'a>)) -> Result<()> {
        self.expect(b'{')?;
        self.blanks();
        if self.peek() == Some(b'}') {
            return self.expect(b'}');
        }
        loop {
            self.blanks();
            let start = self.pos;
            self.string()?;
            let key = self.since(start);
            self.blanks();
            self.expect(b':')?;
            self.blanks();
            member(key, self.value()?);
            self.blanks();
            if self.peek() != Some(b',') {
                return self.expect(b'}');
            }
            self.pos += 1;
        }
    }

    fn array(&mut self, mut element: impl FnMut(Raw<'a>)) -> Result<()> {
        self.expect(b'[')?;
        self.blanks();
        if self.peek() == Some(b']') {
            return self.expect(b']');
        }
        loop {
            self.blanks();
            element(self.value()?);
            self.blanks();
            if self.peek() != Some(b',') {
                return self.expect(b']');
            }
            self.pos += 1;
        }
    }

    fn string(&mut self) -> Result<()> {
        self.expect(b'"')?;
        loop {
            match self.peek() {
                Some(b'"') => return self.expect(b'"'),
                Some(b'\\') => {
                    self.pos += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.pos += 1,
                        Some(b'u') => {
                            self.pos += 1;
                            for _ in 0..4 {
                                if !self.peek().is_some_and(|c| c.is_ascii_hexdigit()) {
                                    return Err(self.bad("no hex digit"));
                                }
                                self.pos += 1;
                            }
                        }
                        _ => return Err(self.bad("unknown escape")),
                    }
                }
                Some(0x20..) => self.pos += 1,
                _ => return Err(self.bad("a control character in a string")),
            }
        }
    }

    fn number(&mut self) -> Result<()> {
        if self.peek() == Some(b'-') {
            self.pos += 1;
        }
        match self.peek() {
            Some(b'0') => self.pos += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.pos += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.pos += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.pos += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<()> {
        if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
            return Err(self.bad("no digit"));
        }
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.pos += 1;
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<()> {
        if !self.doc.get(self.pos..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.bad("no value"));
        }
        self.pos += word.len();
        Ok(())
    }
}

/// The string that a literal, already found well-formed, represents.
fn unquote(literal: Raw<'_>) -> String {
    let inner = literal.0.get(1..literal.0.len().saturating_sub(1)).unwrap_or_default();
    let mut out = String::with_capacity(inner.len());
    for chunk in inner.utf8_chunks() {
        unescape(chunk.valid(), &mut out);
        // Go decodes byte by byte here: one U+FFFD for each, where Rust's lossy conversion makes one of several
        chunk.invalid().iter().for_each(|_| out.push('\u{fffd}'));
    }
    out
}

fn unescape(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut chars = escaped.chars();
        match chars.next() {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let high = unit(chars.as_str()).unwrap_or(0xfffd);
                let tail = chars.as_str().get(4..).unwrap_or_default();
                // a lone half of a surrogate pair is U+FFFD in Go, and what follows it is read by itself
                let low = tail.strip_prefix("\\u").and_then(unit).filter(|_| (0xd800..0xdc00).contains(&high));
                let pair = low.and_then(|low| char::decode_utf16([high, low]).next()).and_then(|c| c.ok());
                out.push(pair.or(char::from_u32(high.into())).unwrap_or('\u{fffd}'));
                rest = if pair.is_some() { tail.get(6..).unwrap_or_default() } else { tail };
                continue;
            }
            Some(c) => out.push(c),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}

/// The UTF-16 unit that four hex digits at the start of `hex` give.
fn unit(hex: &str) -> Option<u16> {
    u16::from_str_radix(hex.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compacted(s: &str) -> String {
        let mut out = Vec::new();
        compact(parse(s.as_bytes()).expect(s).bytes(), &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn only_go_s_json_is_accepted() {
        for good in [
            "{}",
            " [1, -0.5e+3 ,true]\n",
            "\"\\u00e9\\/\"",
            "null",
            "0",
            "{\"a\":{\"a\":[]},\"a\":1}",
            "[{} , [[ ]],{\"a\" : [1 , {}]}]",
        ] {
            assert!(parse(good.as_bytes()).is_ok(), "{good}");
        }
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        let deep = nested(MAX_DEPTH + 1);
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        let endless = "[".repeat(1 << 20);
        for bad in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "1.",
            "+1",
            "-",
            "1e",
            "tru",
            "nulll",
            "{} {}",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "'a'",
            "\u{feff}{}",
            "{\"a\" 1}",
            "[1,,2]",
            "[,]",
            "{,}",
            "{\"a\":[}]",
            "[{]}",
            "[1 2]",
            "{\"a\":{1}}",
            "NaN",
            &deep,
            &endless,
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:.40}");
        }
    }

    #[test]
    fn strings_decode_as_in_go() {
        for (text, want) in [
            (&b"\"a\\n\\\"\\/\\b\\f\\r\\t\\\\\""[..], "a\n\"/\u{8}\u{c}\r\t\\"),
            (br#""\u00e9\ud83d\ude00x""#, "\u{e9}\u{1f600}x"),
            (br#""\ud83d""#, "\u{fffd}"),
            (br#""\ud83d\u0041""#, "\u{fffd}A"),
            (br#""\ude00\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (b"\"\xff\xe2\x80\"", "\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            let got = parse(text).expect("well-formed").string().expect("a string").expect("not null");
            assert_eq!(got, want, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn raw_values_are_printed_as_in_go() {
        for (text, want) in [
            ("{ \"b\" : 1 , \"a\" : [ 1.50 , 1e2 ] }", r#"{"b":1,"a":[1.50,1e2]}"#),
            (r#"{"a":"x  <b>&\" \\"}"#, r#"{"a":"x  \u003cb\u003e\u0026\" \\"}"#),
            ("\"\u{2028}\u{2029}\u{202a}é\\/\\u00e9\"", "\"\\u2028\\u2029\u{202a}é\\/\\u00e9\""),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ] {
            assert_eq!(compacted(text), want);
            assert_eq!(compacted(want), want, "compacting twice");
        }
    }

    #[test]
    fn strings_are_printed_as_in_go() {
        let odd = "\"\\\n\r\t\u{1}\u{8}\u{c}\u{1f}\u{7f}/<>&\u{2028}\u{2029}é\u{fffd}\u{1f600}";
        let want = r#""\"\\\n\r\t\u0001\u0008\u000c\u001f"#.to_owned()
            + "\u{7f}/\\u003c\\u003e\\u0026\\u2028\\u2029é\u{fffd}\u{1f600}\"";
        assert_eq!(String::from_utf8(quoted(odd)).expect("UTF-8"), want);
    }

    #[test]
    fn maps_are_sorted_and_the_last_double_counts() {
        let map = parse(br#"{"b":1,"a":2,"b":{"z":1, "y":2},"B":null}"#).expect("JSON").map().expect("an object");
        assert_eq!(print_map(&map), br#"{"B":null,"a":2,"b":{"z":1,"y":2}}"#);
        assert_eq!(print_map(&BTreeMap::<String, Vec<u8>>::new()), b"{}");
    }

    #[test]
    fn numbers_are_64_bit_integers_or_refused() {
        for (text, want) in [("9223372036854775807", Some(i64::MAX)), ("-1", Some(-1)), ("-0", Some(0)), ("null", None)]
        {
            assert_eq!(parse(text.as_bytes()).expect(text).integer().expect(text), want);
        }
        for text in ["9223372036854775808", "1.0", "1e3", "\"1\"", "{}"] {
            assert!(parse(text.as_bytes()).expect(text).integer().is_err(), "{text}");
        }
    }
}
