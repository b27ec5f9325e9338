//! Room that is held back for the way back: on a disk that is full to the last block and inode, rollback gives up this file first, and the
//! journal can be written.
//!
//! ```text
//! .unaufs/reserve     1 MiB, next to the journal; the few pages of a change of state need some 50 KiB
//! ```

use crate::disk::Dir;
use crate::error::{IoContext, Result};
use crate::plan::switch::RESERVE;

/// Its name in the state directory.
pub const FILE: &str = "reserve";

/// Takes the room; a full disk shows here, before anything else is written.
pub fn make(state: &Dir) -> Result<()> {
    match state.stat_opt(FILE)? {
        Some(m) if m.is_file() && m.allocated >= RESERVE => return Ok(()),
        // a crash came between its two steps
        Some(_) => state.remove_tree(FILE.as_bytes())?,
        None => {}
    }
    let file = state.create(FILE)?;
    crate::disk::copy::allocate(&file, RESERVE).on(|| format!("take room for {}", state.show(FILE.as_bytes())))
}

/// Gives the room up.
pub fn release(state: &Dir) -> Result<()> {
    if state.stat_opt(FILE)?.is_some() {
        state.remove_tree(FILE.as_bytes())?;
        // freed blocks can be used once their removal is on the disk
        state.sync_fs()?;
    }
    Ok(())
}
