//! Reads tar-split data: gzip, then JSON values one after another.

use crate::error::{Error, Result};
use crate::text;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::bufread::MultiGzDecoder;
use std::borrow::Cow;
use std::io::{BufRead, BufReader, ErrorKind, Read};

/// A limit for what tar-split data may unpack to that no real layer reaches: over ten million files.
pub const MAX_UNPACKED: u64 = 16 << 30;

/// The longest JSON value. A segment holds at most 1 MiB, or the headers of one entry, which may carry large PAX records.
const MAX_VALUE: usize = 8 << 20;

/// One value of tar-split data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the tar itself.
    Segment(Vec<u8>),
    /// Here an entry's content came.
    File {
        /// The name as it stood in the tar, not cleaned, of any bytes.
        name: Vec<u8>,
        /// Bytes of content; 0 for all but regular files.
        size: u64,
        /// CRC-64/ISO of the content, big-endian. Absent where there is no content.
        crc: Option<[u8; 8]>,
    },
}

/// The pieces of tar-split data, in order. After an error it ends.
pub struct Reader<R: Read> {
    source: BufReader<MultiGzDecoder<BufReader<R>>>,
    /// Bytes that may still be unpacked.
    left: u64,
    limit: u64,
    /// The text of the current value; kept for its room.
    text: Vec<u8>,
    /// Values read so far.
    count: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads gzip from `source`, of which at most `limit` unpacked bytes are accepted.
    pub fn new(source: R, limit: u64) -> Reader<R> {
        let unpacked = MultiGzDecoder::new(BufReader::with_capacity(64 * 1024, source));
        Reader {
            source: BufReader::with_capacity(128 * 1024, unpacked),
            left: limit,
            limit,
            text: Vec::new(),
            count: 0,
            ended: false,
        }
    }

    fn next_piece(&mut self) -> Result<Option<Piece>> {
        if !self.next_text()? {
            return Ok(None);
        }
        let piece = parse(&self.text).map_err(|e| e.on(format!("value {} of the tar-split data", self.count)))?;
        self.count += 1;
        Ok(Some(piece))
    }

    /// Puts the next value into `self.text`; `false` at the end.
    fn next_text(&mut self) -> Result<bool> {
        self.text.clear();
        let mut scan = Scan::default();
        loop {
            let chunk = match self.source.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(unreadable(e)),
            };
            if chunk.is_empty() {
                return match scan.depth {
                    0 => Ok(false),
                    _ => Err(Error::corrupt("the tar-split data ends inside a JSON value")),
                };
            }
            let mut used = chunk.len();
            let mut complete = false;
            let mut start = 0;
            if scan.depth == 0 {
                start = chunk.iter().position(|c| !c.is_ascii_whitespace()).unwrap_or(chunk.len());
            }
            let rest = chunk.get(start..).unwrap_or_default();
            if let Some(&first) = rest.first() {
                if scan.depth == 0 && first != b'{' {
                    return Err(Error::corrupt(format!(
                        "the tar-split data has no JSON object after value {}, but byte {first:#04x}",
                        self.count
                    )));
                }
                if let Some(end) = scan.end(rest) {
                    (used, complete) = (start + end, true);
                }
                self.text.extend_from_slice(chunk.get(start..used).unwrap_or_default());
            }
            self.left = self.left.checked_sub(used as u64).ok_or_else(|| {
                Error::corrupt(format!("the tar-split data unpacks to more than {}", text::size(self.limit)))
                    .hint("No real layer needs that much. The file is damaged or malicious.")
            })?;
            if self.text.len() > MAX_VALUE {
                return Err(Error::corrupt(format!(
                    "value {} of the tar-split data is longer than {}",
                    self.count,
                    text::size(MAX_VALUE as u64)
                )));
            }
            self.source.consume(used);
            if complete {
                return Ok(true);
            }
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        if self.ended {
            return None;
        }
        let piece = self.next_piece().transpose();
        self.ended = !matches!(piece, Some(Ok(_)));
        piece
    }
}

/// The decoder's complaints about its input are damage; all else is the disk's.
fn unreadable(e: std::io::Error) -> Error {
    match e.kind() {
        ErrorKind::UnexpectedEof => Error::corrupt("the tar-split data is cut short").with_source(e),
        ErrorKind::InvalidData | ErrorKind::InvalidInput => {
            Error::corrupt("the tar-split data isn't valid gzip").with_source(e)
        }
        _ => Error::io("read the tar-split data", e),
    }
}

/// Finds the end of a JSON object in text that comes in chunks. It only counts brackets; [`parse`] says if it is JSON.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// The offset behind the bracket that closes the object, if it is in this chunk.
    fn end(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&c) = chunk.get(at) {
            at += 1;
            if self.escaped {
                self.escaped = false;
            } else if self.in_string {
                match c {
                    b'"' => self.in_string = false,
                    b'\\' => self.escaped = true,
                    // nearly all is base64: leap to what may end it
                    _ => at += chunk.get(at..)?.iter().position(|c| matches!(c, b'"' | b'\\'))?,
                }
            } else {
                match c {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => {
                        self.depth = self.depth.saturating_sub(1);
                        if self.depth == 0 {
                            return Some(at);
                        }
                    }
                    _ => {}
                }
            }
        }
        None
    }
}

/// A string that borrows from the text where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A value as Docker writes it. Unknown keys are ignored, and so is `position`: the order of the values is what counts.
#[derive(serde::Deserialize)]
struct Value<'a> {
    #[serde(rename = "type")]
    kind: i64,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    name_raw: Option<Text<'a>>,
    #[serde(default)]
    size: Option<i64>,
    #[serde(borrow, default)]
    payload: Option<Text<'a>>,
}

fn parse(text: &[u8]) -> Result<Piece> {
    let v: Value = serde_json::from_slice(text).map_err(|e| Error::corrupt("no tar-split entry").with_source(e))?;
    let payload = v.payload.map(|p| decode("payload", &p)).transpose()?;
    match v.kind {
        2 => Ok(Piece::Segment(payload.unwrap_or_default())),
        1 => {
            let raw = v.name_raw.map(|n| decode("name_raw", &n)).transpose()?.filter(|n| !n.is_empty());
            let name = raw.unwrap_or_else(|| v.name.map(|n| n.0.into_owned().into_bytes()).unwrap_or_default());
            let size = v.size.unwrap_or(0);
            let size = u64::try_from(size).map_err(|_| Error::corrupt(format!("a file of {size} bytes")))?;
            let crc = match payload.as_deref() {
                None | Some([]) => None,
                Some(p) => Some(
                    p.try_into()
                        .map_err(|_| Error::corrupt(format!("a checksum of {} bytes instead of 8", p.len())))?,
                ),
            };
            Ok(Piece::File { name, size, crc })
        }
        other => Err(Error::corrupt(format!("unknown type {other}"))),
    }
}

fn decode(key: &str, text: &Text<'_>) -> Result<Vec<u8>> {
    STANDARD.decode(text.0.as_bytes()).map_err(|e| Error::corrupt(format!("{key} is no base64")).with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut gz = GzEncoder::new(Vec::new(), Compression::default());
        gz.write_all(text).unwrap();
        gz.finish().unwrap()
    }

    fn read(gz: &[u8]) -> Result<Vec<Piece>> {
        Reader::new(gz, 64 << 20).collect()
    }

    fn file(name: &[u8], size: u64, crc: Option<[u8; 8]>) -> Piece {
        Piece::File { name: name.to_vec(), size, crc }
    }

    /// Gives one byte at a time: every chunk boundary is met.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let n = buf.len().min(1);
            self.0.read(&mut buf[..n])
        }
    }

    #[test]
    fn values_of_every_form() {
        let crc = Some([0x61, 0x4c, 0x3e, 0xee, 0xe2, 0xd8, 0x10, 0x00]);
        let seg = |b: &[u8]| Piece::Segment(b.to_vec());
        let cases: &[(&str, Vec<Piece>)] = &[
            ("", vec![]),
            (" \n\n ", vec![]),
            ("{\"type\":2,\"payload\":\"aGVsbG8=\",\"position\":0}\n", vec![seg(b"hello")]),
            ("{\"type\":2,\"payload\":\"\",\"position\":0}", vec![seg(b"")]),
            ("{\"type\":2,\"payload\":null}", vec![seg(b"")]),
            ("{\"type\":2}{\"type\":2,\"payload\":\"AAA=\"} {\"type\":2}", vec![seg(b""), seg(b"\0\0"), seg(b"")]),
            (
                "{\"type\":1,\"name\":\"d/a\",\"size\":6,\"payload\":\"YUw+7uLYEAA=\",\"position\":3}",
                vec![file(b"d/a", 6, crc)],
            ),
            // other order, blanks, lines, escapes, unknown keys of every type, brackets in strings
            (
                "{ \"x\":[{\"}\":\"]\"},\"\\\"}\"],\"payload\" :\"YUw+7uLYEAA=\",\n\"size\":6,\"y\":1e9,\"type\":1,\
                 \"name\":\"\\u0064\\u002fa\", \"z\":null,\"w\":true }",
                vec![file(b"d/a", 6, crc)],
            ),
            ("{\"type\":1,\"name\":\"d/\",\"payload\":null,\"position\":7}", vec![file(b"d/", 0, None)]),
            ("{\"type\":1,\"name\":\"d/\",\"payload\":\"AAAAAAAAAAA=\"}", vec![file(b"d/", 0, Some([0; 8]))]),
            ("{\"type\":1,\"payload\":null}", vec![file(b"", 0, None)]),
            ("{\"type\":1,\"name_raw\":\"/yA=\",\"payload\":null}", vec![file(b"\xff ", 0, None)]),
            ("{\"type\":1,\"name\":\"no\",\"name_raw\":\"/yA=\"}", vec![file(b"\xff ", 0, None)]),
            ("{\"type\":1,\"name\":\"yes\",\"name_raw\":\"\"}", vec![file(b"yes", 0, None)]),
            ("{\"type\":1,\"name\":\"<\u{2028}ü\"}", vec![file("<\u{2028}ü".as_bytes(), 0, None)]),
        ];
        for (text, pieces) in cases {
            let gz = gzip(text.as_bytes());
            assert_eq!(&read(&gz).unwrap(), pieces, "{text}");
            let dripped: Result<Vec<Piece>> = Reader::new(Drip(&gz), 1 << 20).collect();
            assert_eq!(&dripped.unwrap(), pieces, "{text}");
        }
    }

    #[test]
    fn a_value_across_the_buffer_s_end() {
        let blanks = " ".repeat(128 * 1024 - 20);
        let text = format!("{blanks}{{\"type\":1,\"name\":\"a\\\"}}\"}}{blanks}{{\"type\":2,\"payload\":\"aGk=\"}}");
        assert_eq!(read(&gzip(text.as_bytes())).unwrap(), [file(b"a\"}", 0, None), Piece::Segment(b"hi".to_vec())]);
    }

    #[test]
    fn several_gzip_members_are_one_stream() {
        let mut gz = gzip(b"{\"type\":2,\"payl");
        gz.extend(gzip(b""));
        gz.extend(gzip(b"oad\":\"aGk=\"}"));
        assert_eq!(read(&gz).unwrap(), [Piece::Segment(b"hi".to_vec())]);
    }

    #[test]
    fn bad_values() {
        for (text, says) in [
            ("garbage", "no JSON object after value 0"),
            ("{\"type\":2}x", "no JSON object after value 1"),
            ("[{\"type\":2}]", "no JSON object"),
            ("null", "no JSON object"),
            ("{\"type\":2", "ends inside"),
            ("{\"type\":2,\"payload\":\"}", "ends inside"),
            ("{]", "no tar-split entry"),
            ("{}", "no tar-split entry"),
            ("{\"type\":\"2\"}", "no tar-split entry"),
            ("{\"type\":3}", "unknown type 3"),
            ("{\"type\":2}{\"type\":2,\"payload\":\"!\"}", "value 1 of the tar-split data: payload is no base64"),
            ("{\"type\":1,\"name_raw\":\"=\"}", "name_raw is no base64"),
            ("{\"type\":1,\"name\":\"a\",\"size\":-1}", "a file of -1 bytes"),
            ("{\"type\":1,\"name\":\"a\",\"size\":9223372036854775808}", "no tar-split entry"),
            ("{\"type\":1,\"name\":\"a\",\"size\":1.5}", "no tar-split entry"),
            ("{\"type\":1,\"name\":\"a\",\"size\":1,\"payload\":\"AAA=\"}", "a checksum of 2 bytes"),
        ] {
            let e = read(&gzip(text.as_bytes())).expect_err(text);
            assert!(e.to_string().contains(says), "{text}: {}", e.chain());
        }
        let e = read(&gzip(b"{\"type\":1,\"name\":\"\xff\"}")).expect_err("not UTF-8");
        assert!(e.to_string().contains("no tar-split entry"), "{}", e.chain());
        let deep = format!("{{\"type\":2,\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&gzip(deep.as_bytes())).unwrap(), [Piece::Segment(vec![])], "ignored, without recursion");
    }

    #[test]
    fn bad_gzip() {
        let text = "{\"type\":2,\"payload\":\"aGVsbG8=\",\"position\":0}\n".repeat(1000);
        let gz = gzip(text.as_bytes());
        assert_eq!(read(&gz).unwrap().len(), 1000);
        for len in [0, 1, 5, 10, gz.len() / 2, gz.len() - 8, gz.len() - 1] {
            let e = read(&gz[..len]).expect_err("cut");
            assert!(e.to_string().contains("cut short"), "{len}: {}", e.chain());
        }
        // magic, method, the deflate stream, its checksum, its length
        for at in [0, 2, 12, gz.len() - 5, gz.len() - 1] {
            let mut bad = gz.clone();
            bad[at] ^= 0x55;
            assert!(read(&bad).is_err(), "{at}");
        }
        let mut trailing = gz.clone();
        trailing.extend(b"what is this");
        assert!(read(&trailing).is_err());
        assert!(read(b"{\"type\":2}").expect_err("plain").to_string().contains("isn't valid gzip"));
    }

    #[test]
    fn bombs_are_not_unpacked() {
        let blanks = gzip(&vec![b' '; 2 << 20]);
        assert!(read(&blanks).unwrap().is_empty());
        let e = Reader::new(&blanks[..], 1 << 20).next().unwrap().expect_err("bomb");
        assert!(e.to_string().contains("more than 1.0 MiB"), "{e}");
        let mut long = b"{\"type\":2,\"payload\":\"".to_vec();
        long.resize(9 << 20, b'A');
        let mut gz = GzEncoder::new(Vec::new(), Compression::none());
        gz.write_all(&long).unwrap();
        let e = read(&gz.finish().unwrap()).expect_err("long");
        assert!(e.to_string().contains("longer than 8.0 MiB"), "{e}");
        // exactly at the limit is fine
        let text = b"{\"type\":2}\n";
        assert_eq!(Reader::new(&gzip(text)[..], text.len() as u64).filter(Result::is_ok).count(), 1);
        assert!(Reader::new(&gzip(text)[..], 5).next().unwrap().is_err());
    }

    #[test]
    fn it_ends_after_an_error() {
        let gz = gzip(b"{\"type\":9}{\"type\":2}");
        let mut r = Reader::new(&gz[..], 1 << 20);
        assert!(r.next().unwrap().is_err());
        assert!(r.next().is_none());
    }
}
