//! Whether somebody asked us to stop. Set by the CLI's signal handler; looked at for each name of a listing
//! ([`crate::disk::Dir::for_each`]), each stretch of a long file, and between steps: a stop takes less than a second even inside one huge
//! directory or one huge file.

use crate::error::{Error, Kind, Result};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

static SIGNAL: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread takes back what it began; that has to end.
    static CLEARING: Cell<bool> = const { Cell::new(false) };
}

/// Notes a signal.
pub fn request(signal: i32) {
    SIGNAL.store(usize::try_from(signal).unwrap_or(1), Ordering::Relaxed);
}

/// Does something that a stop must not end half way: the taking back of what was begun. Other threads do not notice.
pub fn regardless<T>(work: impl FnOnce() -> T) -> T {
    let before = CLEARING.replace(true);
    let done = work();
    CLEARING.set(before);
    done
}

/// An error of the right kind if somebody asked us to stop.
pub fn check() -> Result<()> {
    let kind = match SIGNAL.load(Ordering::Relaxed) {
        0 => return Ok(()),
        _ if CLEARING.get() => return Ok(()),
        2 => Kind::Interrupted,
        _ => Kind::Terminated,
    };
    Err(Error::new(kind, "Stopped safely")
        .hint("Run the same command again to continue, or run `unaufs rollback` to undo it."))
}
