//! Whether two files have the same bytes.

use crate::error::{IoContext, Result};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Bytes read at once: what two of them take still fits a core's own cache.
const BUFFER: u64 = 256 * 1024;

/// Have both the same bytes? `read` is told how many were read of the first. Where neither has data nothing is read.
pub fn same_bytes(a: File, b: File, name: impl Fn() -> String, read: impl Fn(u64)) -> Result<bool> {
    let what = || format!("read {}", name());
    let (m, n) = (a.metadata().on(what)?, b.metadata().on(what)?);
    if m.len() != n.len() {
        return Ok(false);
    }
    let sparse = |m: &std::fs::Metadata| m.blocks().saturating_mul(512) < m.len();
    let holes = sparse(&m) && sparse(&n);
    // most files are small
    let room = m.len().clamp(4096, BUFFER) as usize;
    let (mut x, mut y) = (vec![0u8; room], vec![0u8; room]);
    let mut at = 0;
    while at < m.len() {
        crate::stop::check()?;
        if holes {
            at = data(&a, at, m.len()).min(data(&b, at, m.len()));
        }
        let (got, other) = (fill(&a, &mut x, at).on(what)?, fill(&b, &mut y, at).on(what)?);
        read(got as u64);
        if x[..got] != y[..other] {
            return Ok(false);
        }
        if got == 0 {
            break;
        }
        at += got as u64;
    }
    Ok(true)
}

/// Where the next data of a file begin, from `at` on; its end if there are none.
fn data(file: &File, at: u64, len: u64) -> u64 {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(next) => next,
        Err(rustix::io::Errno::NXIO) => len,
        // a file system that knows no holes
        Err(_) => at,
    }
}

/// Reads from `at` until the buffer is full or the file ends.
fn fill(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match file.read_at(&mut buffer[n..], at + n as u64) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}
