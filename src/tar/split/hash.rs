//! The DiffID of a tar while it passes: SHA-256 in the same thread, or in one of its own.
//!
//! ```text
//! many layers   one thread a layer: files ─▶ CRC-64 ─▶ SHA-256                   all cores have work, and bytes stay in one core's cache
//! a huge layer  files ─▶ CRC-64 ─▶ pieces ─┬─▶ SHA-256 in a thread of its own    while the other cores have nothing left to do
//!                                  empty ◀─┘
//! ```

use crate::ids::{DiffId, Sha256};
use sha2::Digest;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Bytes handed over at once.
const PIECE: usize = super::BUFFER;
/// Pieces that wait for the other thread.
const AHEAD: usize = 8;

/// Is a layer so large, among all that are to be digested, that its SHA-256 should run next to the reading? It is if it is more than one
/// thread's share of the work: the others will be done before it.
pub fn beside(bytes: u64, all: u64) -> bool {
    let threads = rayon::current_num_threads() as u64;
    threads > 1 && bytes > all / threads && bytes >= 16 << 20
}

/// Passes a layer's tar on and computes its DiffID.
pub struct DiffIdWriter<W: Write> {
    out: W,
    sha: Sha,
}

enum Sha {
    Here(sha2::Sha256),
    Beside(Beside),
}

/// A thread that digests what it is sent.
struct Beside {
    piece: Vec<u8>,
    to: SyncSender<Vec<u8>>,
    /// Pieces that were digested, to be filled again.
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<sha2::Sha256>,
}

impl<W: Write> DiffIdWriter<W> {
    /// Passes on to `out`.
    pub fn new(out: W) -> DiffIdWriter<W> {
        DiffIdWriter { out, sha: Sha::Here(sha2::Sha256::new()) }
    }

    /// The same with a thread for the digest, if that is wanted and the system has one.
    pub fn with_thread(out: W, wanted: bool) -> DiffIdWriter<W> {
        match wanted.then(Beside::start) {
            Some(Ok(beside)) => DiffIdWriter { out, sha: Sha::Beside(beside) },
            _ => DiffIdWriter::new(out),
        }
    }

    /// Gives back where it went, and the DiffID of what went there.
    pub fn finish(self) -> (W, DiffId) {
        let sha = match self.sha {
            Sha::Here(sha) => sha,
            Sha::Beside(beside) => beside.finish(),
        };
        (self.out, DiffId(Sha256(sha.finalize().into())))
    }
}

impl<W: Write> Write for DiffIdWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        let passed = bytes.get(..n).unwrap_or_default();
        match &mut self.sha {
            Sha::Here(sha) => sha.update(passed),
            Sha::Beside(beside) => beside.update(passed),
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Beside {
    fn start() -> io::Result<Beside> {
        let (to, pieces) = sync_channel::<Vec<u8>>(AHEAD);
        let (back, empty) = channel();
        let thread = std::thread::Builder::new().name("digest".to_owned()).spawn(move || {
            let mut sha = sha2::Sha256::new();
            for piece in pieces {
                sha.update(&piece);
                // nobody wants it back at the end
                let _ = back.send(piece);
            }
            sha
        })?;
        Ok(Beside { piece: Vec::with_capacity(PIECE), to, empty, thread })
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE {
                self.hand_over();
            }
        }
    }

    fn hand_over(&mut self) {
        let mut next = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
        next.clear();
        // the thread takes pieces as long as this end is there, unless it panics: `finish` reports that
        let _ = self.to.send(std::mem::replace(&mut self.piece, next));
    }

    fn finish(mut self) -> sha2::Sha256 {
        self.hand_over();
        drop(self.to);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_its_own_gives_the_same_digest() {
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 20 * PIECE + 17] {
            let bytes: Vec<u8> = (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
            for step in [1 + len / 3, 512, PIECE, 3 * PIECE] {
                let mut hashed = DiffIdWriter::with_thread(Vec::new(), true);
                assert!(matches!(hashed.sha, Sha::Beside(_)));
                bytes.chunks(step).for_each(|part| hashed.write_all(part).expect("write"));
                let (out, diff) = hashed.finish();
                assert!(out == bytes && diff.0 == Sha256::of(&bytes), "{len} in {step}");
            }
        }
        // what is given up half way ends its thread too
        let mut hashed = DiffIdWriter::with_thread(io::sink(), true);
        hashed.write_all(&[1; 3 * PIECE]).expect("write");
        drop(hashed);
        assert!(matches!(DiffIdWriter::with_thread(io::sink(), false).sha, Sha::Here(_)));
    }

    #[test]
    fn only_a_layer_beyond_its_share_has_one() {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let (one, two) = (pool(1), pool(2));
        assert!(!one.install(|| beside(1 << 30, 1 << 30)), "one thread was asked for");
        assert!(two.install(|| beside(3 << 30, 5 << 30)));
        assert!(!two.install(|| beside(1 << 30, 2 << 30)), "two equal layers are two threads' work");
        assert!(!two.install(|| beside(1 << 20, 1 << 20)), "not worth a thread");
    }
}
