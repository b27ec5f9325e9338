//! Compression on all cores, with the same bytes each time, whatever the number of cores.
//!
//! ```text
//! gzip: header │ 1 MiB deflated, to a byte boundary │ 1 MiB … │ last block │ CRC of all, length
//! ```
//!
//! One gzip member, as `pigz` makes it: readers that stop at the end of the first member get everything. Each block is deflated by itself, so
//! that blocks can be deflated side by side; the sums of the blocks are combined. zstd's own threads cut their jobs by size alone, and
//! with one thread or many the bytes are the same, as long as its threads are used at all.

use crate::error::{IoContext, Result};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, sync_channel};

/// How an archive or its layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Compressed {
    /// No compression.
    None,
    /// Every program reads it.
    Gzip,
    /// Smaller and faster; Docker 23 and later read it.
    Zstd,
}

/// Bytes deflated at once.
const BLOCK: usize = 1 << 20;
/// What `gzip` and Docker use.
const GZIP_LEVEL: u32 = 6;
/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// Writes what `content` writes, compressed, to `out`.
pub fn through(
    how: Compressed,
    out: &mut dyn Write,
    content: &mut dyn FnMut(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    match how {
        Compressed::None => content(out),
        Compressed::Gzip => {
            let mut gzip = Gzip::new(out).on(|| "write the archive")?;
            content(&mut gzip)?;
            gzip.finish().on(|| "write the archive")
        }
        Compressed::Zstd => {
            let mut zstd = encoder(out).on(|| "start zstd")?;
            content(&mut zstd)?;
            zstd.finish().map(drop).on(|| "write the archive")
        }
    }
}

fn encoder(out: &mut dyn Write) -> io::Result<zstd::Encoder<'static, &mut dyn Write>> {
    let mut zstd = zstd::Encoder::new(out, ZSTD_LEVEL)?;
    zstd.include_checksum(true)?;
    // with no thread of its own zstd writes other bytes than with any number of them
    zstd.multithread(u32::try_from(rayon::current_num_threads()).unwrap_or(1).max(1))?;
    Ok(zstd)
}

/// One block, deflated.
struct Deflated {
    bytes: Vec<u8>,
    crc: Crc,
}

/// Compresses what is written to it, on rayon's threads.
struct Gzip<'o> {
    out: &'o mut dyn Write,
    block: Vec<u8>,
    /// Blocks on their way, in order; at most twice as many as threads.
    working: VecDeque<Receiver<io::Result<Deflated>>>,
    crc: Crc,
}

impl<'o> Gzip<'o> {
    fn new(out: &'o mut dyn Write) -> io::Result<Gzip<'o>> {
        // no name, no time; 255: made on no system in particular
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        Ok(Gzip { out, block: Vec::with_capacity(BLOCK), working: VecDeque::new(), crc: Crc::new() })
    }

    fn start(&mut self, last: bool) -> io::Result<()> {
        if self.working.len() >= 2 * rayon::current_num_threads() {
            self.collect()?;
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let (to, from) = sync_channel(1);
        rayon::spawn(move || drop(to.send(deflate(&block, last))));
        self.working.push_back(from);
        Ok(())
    }

    /// Waits for the oldest block and writes it.
    fn collect(&mut self) -> io::Result<()> {
        let Some(block) = self.working.pop_front() else { return Ok(()) };
        let done = block.recv().map_err(|_| io::Error::other("a compression thread has ended"))??;
        self.crc.combine(&done.crc);
        self.out.write_all(&done.bytes)
    }

    fn finish(mut self) -> io::Result<()> {
        self.start(true)?;
        while !self.working.is_empty() {
            self.collect()?;
        }
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        // modulo 2^32, as the format says
        self.out.write_all(&self.crc.amount().to_le_bytes())
    }
}

impl Write for Gzip<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(bytes.get(..n).unwrap_or_default());
        if self.block.len() == BLOCK {
            self.start(false)?;
        }
        Ok(n)
    }

    /// Nothing: a block ends where it is full, or the bytes would depend on how they came.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Deflates a block to a byte boundary, or to the end of the stream.
fn deflate(block: &[u8], last: bool) -> io::Result<Deflated> {
    let mut crc = Crc::new();
    crc.update(block);
    let mut bytes = Vec::with_capacity(block.len() / 2 + 1024);
    let mut deflater = Compress::new(Compression::new(GZIP_LEVEL), false);
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        let used = usize::try_from(deflater.total_in()).unwrap_or(usize::MAX);
        let rest = block.get(used..).unwrap_or_default();
        let status = deflater.compress_vec(rest, &mut bytes, flush).map_err(io::Error::other)?;
        let all = deflater.total_in() == block.len() as u64;
        match status {
            Status::StreamEnd => break,
            // room is left: nothing is kept back
            _ if all && !last && bytes.len() < bytes.capacity() => break,
            _ => bytes.reserve(bytes.len().max(64 * 1024)),
        }
    }
    Ok(Deflated { bytes, crc })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::io::Read;

    fn data(len: usize) -> Vec<u8> {
        // compressible, but not trivial
        (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 & 0x1f).collect()
    }

    fn compressed(how: Compressed, bytes: &[u8], step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        through(how, &mut out, &mut |w| {
            for part in bytes.chunks(step.max(1)) {
                w.write_all(part).map_err(|e| Error::io("write", e))?;
            }
            w.flush().map_err(|e| Error::io("flush", e))
        })
        .expect("compress");
        out
    }

    #[test]
    fn one_member_that_everything_reads() {
        for len in [0, BLOCK, 2 * BLOCK + 17] {
            let bytes = data(len);
            let gz = compressed(Compressed::Gzip, &bytes, 100_000);
            let mut back = Vec::new();
            // this reader stops at the end of the first member
            flate2::read::GzDecoder::new(&gz[..]).read_to_end(&mut back).expect("gunzip");
            assert!(back == bytes, "{len}");
            let zst = compressed(Compressed::Zstd, &bytes, 100_000);
            assert!(zstd::decode_all(&zst[..]).expect("unzstd") == bytes, "{len}");
            assert!(compressed(Compressed::None, &bytes, 100_000) == bytes);
        }
    }

    #[test]
    fn random_bytes_and_the_way_they_come_do_not_matter() {
        let mut bytes = data(BLOCK + BLOCK / 2);
        let mut state = 1u64;
        for b in &mut bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *b = (state >> 33) as u8;
        }
        for how in [Compressed::Gzip, Compressed::Zstd] {
            let one = compressed(how, &bytes, 7_777);
            assert!(one == compressed(how, &bytes, bytes.len()));
        }
        let gz = compressed(Compressed::Gzip, &bytes, 7_777);
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&gz[..]).read_to_end(&mut back).expect("gunzip");
        assert!(back == bytes);
    }
}
