//! Layers made on several threads, taken in order.
//!
//! ```text
//! thread 1   layer 1 ▒▒▒▒▒▒▒▒▒▒▒▒   layer 3 ▒▒▒
//! thread 2   layer 2 ▒▒▒ waits        layer 4 ▒▒▒ waits          each has at most AHEAD pieces that nobody took
//! archive            layer 1 ▓▓▓▓▓▓▓▓▓▓▓▓  layer 2 ▓▓▓ …
//! ```
//!
//! Memory grows with the threads, not with the layers.

use super::layer::{Layer, Layers};
use crate::error::{Error, IoContext, Result};
use crate::tar::split::beside;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of a piece.
const PIECE: usize = 1 << 20;
/// Pieces of a layer that wait to be taken.
const AHEAD: usize = 8;

type Piece = Result<Vec<u8>>;

/// Makes all `layers` and hands each to `take`, in order, as it is made.
pub fn run(from: &Layers<'_>, layers: &[&Layer], mut take: impl FnMut(&Layer, &mut Made) -> Result<()>) -> Result<()> {
    let (senders, receivers): (Vec<_>, Vec<_>) = layers.iter().map(|_| sync_channel::<Piece>(AHEAD)).unzip();
    let senders: Vec<Mutex<Option<SyncSender<Piece>>>> = senders.into_iter().map(|s| Mutex::new(Some(s))).collect();
    let next = AtomicUsize::new(0);
    let all = layers.iter().map(|l| l.bytes).fold(0, u64::saturating_add);
    std::thread::scope(|scope| {
        for _ in 0..rayon::current_num_threads().min(layers.len()) {
            scope.spawn(|| {
                while let Some((layer, slot)) = {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    layers.get(i).zip(senders.get(i))
                } {
                    let Some(to) = slot.lock().unwrap_or_else(|e| e.into_inner()).take() else { continue };
                    let mut out = Pieces { to, piece: Vec::with_capacity(PIECE) };
                    let done =
                        from.write(layer, beside(layer.bytes, all), &mut out).and_then(|()| out.flush().map_err(gone));
                    if let Err(e) = done {
                        // nobody listens any more if the archive could not be written: then that is the error to tell
                        let _ = out.to.send(Err(e));
                    }
                }
            });
        }
        // dropping the receivers ends the threads
        for (layer, from) in layers.iter().zip(receivers) {
            let mut made = Made { from, left: layer.bytes, failed: None };
            let taken = take(layer, &mut made);
            if let Some(e) = made.failed {
                return Err(e);
            }
            taken?;
        }
        Ok(())
    })
}

fn gone(e: io::Error) -> Error {
    Error::io("pass on a layer", e)
}

/// What a thread writes a layer to.
struct Pieces {
    to: SyncSender<Piece>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(bytes.get(..n).unwrap_or_default());
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        super::stopped()?;
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.to.send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A layer's tar while it is made.
pub struct Made {
    from: Receiver<Piece>,
    left: u64,
    failed: Option<Error>,
}

impl Made {
    /// Writes all of it to `out`, and calls `moved` for each piece.
    pub fn copy_to(&mut self, out: &mut dyn Write, moved: &dyn Fn(u64)) -> Result<()> {
        // ends when the thread drops its end
        while let Ok(piece) = self.from.recv() {
            let piece = match piece {
                Ok(piece) => piece,
                Err(e) => {
                    self.failed = Some(e);
                    return Err(Error::corrupt("a layer couldn't be made"));
                }
            };
            crate::stop::check()?;
            let n = piece.len() as u64;
            self.left = self.left.checked_sub(n).ok_or_else(|| Error::corrupt("a layer is longer than it was"))?;
            out.write_all(&piece).on(|| "write the archive")?;
            moved(n);
        }
        match self.left {
            0 => Ok(()),
            n => Err(Error::corrupt(format!("a layer ends {n} bytes early"))),
        }
    }
}
