//! A tar, as it comes from a stranger: taking it apart ends, passes on each byte that it was given, and records all of them.
#![no_main]

#[path = "../../support/disassemble.rs"]
mod disassemble;

use disassemble::disassemble;
use flate2::read::GzDecoder;
use libfuzzer_sys::fuzz_target;
use std::io::Read;
use unaufs::tar::split::{Packer, Piece, Reader};

const LIMIT: u64 = 16 << 20;

fuzz_target!(|tar: &[u8]| {
    let mut packer = Packer::new(Vec::new());
    let mut out = Vec::new();
    let done = match disassemble(tar, &mut packer, &mut out) {
        Ok(done) => done,
        Err(e) => {
            assert!(!e.chain().contains(|c: char| c.is_control()), "{:?}", e.chain());
            return;
        }
    };
    assert!(out == tar, "{} bytes became {}", tar.len(), out.len());
    assert_eq!(done.bytes, tar.len() as u64);
    let recorded = packer.finish().expect("a record");
    let mut text = Vec::new();
    GzDecoder::new(&recorded[..]).read_to_end(&mut text).expect("gzip");
    let (mut bytes, mut content) = (0, 0);
    for piece in Reader::new(&recorded[..], LIMIT) {
        match piece.expect("what was just written") {
            Piece::Segment(s) => bytes += s.len() as u64,
            Piece::File { size, .. } => content += size,
        }
    }
    assert_eq!(content, done.payload_bytes);
    assert_eq!(bytes + content, done.bytes);
});
