//! Writes tar-split data in the form of Docker's own writer, the same bytes each time.

use super::SEGMENT;
use crate::docker::gojson;
use crate::error::{IoContext, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use std::io::Write;

/// Records how a tar is put together. Without [`Packer::finish`] the data is cut short, and so never taken for whole.
pub struct Packer<W: Write> {
    gz: GzEncoder<W>,
    position: u64,
    /// The text of the current value; kept for its room.
    line: Vec<u8>,
}

impl<W: Write> Packer<W> {
    /// Writes gzip to `out`: Go's default level, neither name nor time.
    pub fn new(out: W) -> Packer<W> {
        // 255 is "unknown", which is what Go writes as the operating system
        let gz = GzBuilder::new().mtime(0).operating_system(255).write(out, Compression::default());
        Packer { gz, position: 0, line: Vec::new() }
    }

    /// Bytes of the tar that are no file's content. An empty segment is recorded too: Docker ends with one.
    pub fn segment(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        loop {
            let (now, later) = rest.split_at(rest.len().min(SEGMENT));
            self.line.clear();
            self.line.extend_from_slice(b"{\"type\":2,\"payload\":");
            self.base64(now);
            self.end_value()?;
            rest = later;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// An entry, its name as in the tar. `crc` is that of its content and not recorded if there is none.
    pub fn file(&mut self, name: &[u8], size: u64, crc: [u8; 8]) -> Result<()> {
        self.line.clear();
        self.line.extend_from_slice(b"{\"type\":1");
        match std::str::from_utf8(name) {
            Ok("") => {}
            Ok(text) => {
                self.line.extend_from_slice(b",\"name\":");
                gojson::quote(text, &mut self.line);
            }
            Err(_) => {
                self.line.extend_from_slice(b",\"name_raw\":");
                self.base64(name);
            }
        }
        if size == 0 {
            self.line.extend_from_slice(b",\"payload\":null");
        } else {
            self.line.extend_from_slice(format!(",\"size\":{size},\"payload\":").as_bytes());
            self.base64(&crc);
        }
        self.end_value()
    }

    /// Ends the gzip and gives back where it went.
    pub fn finish(self) -> Result<W> {
        self.gz.finish().on(|| "write tar-split data")
    }

    fn base64(&mut self, bytes: &[u8]) {
        self.line.push(b'"');
        self.line.extend_from_slice(STANDARD.encode(bytes).as_bytes());
        self.line.push(b'"');
    }

    fn end_value(&mut self) -> Result<()> {
        self.line.extend_from_slice(format!(",\"position\":{}}}\n", self.position).as_bytes());
        self.position += 1;
        self.gz.write_all(&self.line).on(|| "write tar-split data")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Piece, Reader};
    use super::*;
    use std::io::Read;

    fn unpack(gz: &[u8]) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(gz).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn values_look_like_docker_s() {
        let mut p = Packer::new(Vec::new());
        p.segment(b"hello").unwrap();
        p.file(b"d/", 0, [0; 8]).unwrap();
        p.file(b"a<b>&\"\\\n\x01\xe2\x80\xa8\xc3\xbc", 6, [0x61, 0x4c, 0x3e, 0xee, 0xe2, 0xd8, 0x10, 0x00]).unwrap();
        p.file(b"\xff/x", 0, [0; 8]).unwrap();
        p.file(b"", 0, [0; 8]).unwrap();
        p.segment(b"").unwrap();
        let gz = p.finish().unwrap();
        assert_eq!(gz[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], "gzip header as Go writes it");
        assert_eq!(
            unpack(&gz),
            "{\"type\":2,\"payload\":\"aGVsbG8=\",\"position\":0}\n\
             {\"type\":1,\"name\":\"d/\",\"payload\":null,\"position\":1}\n\
             {\"type\":1,\"name\":\"a\\u003cb\\u003e\\u0026\\\"\\\\\\n\\u0001\\u2028ü\",\"size\":6,\
             \"payload\":\"YUw+7uLYEAA=\",\"position\":2}\n\
             {\"type\":1,\"name_raw\":\"/y94\",\"payload\":null,\"position\":3}\n\
             {\"type\":1,\"payload\":null,\"position\":4}\n\
             {\"type\":2,\"payload\":\"\",\"position\":5}\n"
        );
    }

    #[test]
    fn long_segments_are_cut_and_read_back() {
        let long: Vec<u8> = (0..SEGMENT + 1).map(|i| (i % 251) as u8).collect();
        let mut p = Packer::new(Vec::new());
        p.segment(&long).unwrap();
        let gz = p.finish().unwrap();
        let pieces: Vec<Piece> = Reader::new(&gz[..], 8 << 20).collect::<Result<_>>().unwrap();
        let lengths: Vec<usize> = pieces.iter().map(|p| if let Piece::Segment(s) = p { s.len() } else { 0 }).collect();
        assert_eq!(lengths, [SEGMENT, 1]);
        let joined: Vec<u8> =
            pieces.into_iter().flat_map(|p| if let Piece::Segment(s) = p { s } else { vec![] }).collect();
        assert!(joined == long);
    }

    #[test]
    fn a_full_disk_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut p = Packer::new(Full);
        let done = p.file(b"a", 0, [0; 8]).and_then(|()| p.finish().map(|_| ()));
        assert_eq!(done.expect_err("full").kind(), crate::error::Kind::Space);
    }
}
