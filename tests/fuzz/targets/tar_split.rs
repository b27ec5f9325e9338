//! tar-split data, as gzip and as the JSON within: it ends, stays below its limit, and wants no file outside of the layer.
#![no_main]

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use std::io::{Read, Write};
use unaufs::error::Result;
use unaufs::tar::split::{Payloads, Reader, reassemble};

const LIMIT: u64 = 1 << 20;

/// Every file is there and has as many zeros as are asked for.
struct Zeros;

impl Payloads for Zeros {
    fn open(&self, name: &[u8]) -> Result<Box<dyn Read + '_>> {
        let parts = || name.split(|c| *c == b'/');
        assert!(!name.is_empty() && !name.contains(&0), "{name:?}");
        assert!(parts().all(|p| !p.is_empty() && p != b"." && p != b".."), "{name:?}");
        Ok(Box::new(std::io::repeat(0).take(1 << 16)))
    }
}

/// Counts, and refuses to grow without end.
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0 += buf.len() as u64;
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn check(gz: &[u8]) {
    let mut unpacked = 0;
    for piece in Reader::new(gz, LIMIT) {
        match piece {
            Ok(unaufs::tar::split::Piece::Segment(bytes)) => unpacked += bytes.len() as u64,
            Ok(unaufs::tar::split::Piece::File { .. }) => {}
            Err(e) => assert!(!e.chain().contains(|c: char| c.is_control()), "{:?}", e.chain()),
        }
    }
    assert!(unpacked <= LIMIT);
    let mut out = Counted(0);
    if let Ok(done) = reassemble(Reader::new(gz, LIMIT), &Zeros, &mut out) {
        assert_eq!(done.bytes, out.0);
    }
}

fuzz_target!(|input: &[u8]| {
    if input.starts_with(&[0x1f, 0x8b]) {
        check(input);
    } else {
        let mut gz = GzEncoder::new(Vec::new(), Compression::none());
        let done = gz.write_all(input).and_then(|()| gz.finish());
        check(&done.expect("gzip"));
    }
});
