//! Converts a Docker data root from aufs to overlay2, overlay, vfs or btrfs, with Docker stopped.
//!
//! The modules form a ladder: each uses only modules above it in this list (a test reads the list). Read them in this order.
//!
//! ```text
//! text      how names, numbers and times are shown to people
//! error     the one error type, and the table of exit codes
//! ids       Docker's ids, one type each
//! stop      whether somebody asked the program to stop
//! progress  how far the work is
//! disk      files, reached through directory descriptors only
//! layer     one branch on the disk, a stack of branches, a walk over all cores
//! docker    what is true of each storage driver; Docker's JSON and times
//! tar       layer tars: tar-split, digests, our own tars
//! checks    the ids of all findings, and what they mean
//! store     reads both generations of Docker's metadata
//! plan      decides everything before anything is done
//! target    writes layers: one file for each driver
//! verify    the proof
//! run       journal, build, switch, rollback, cleanup
//! demo      the sample store of `unaufs demo`
//! export    images and containers as archives
//! report    what people and machines read
//! cli       the command line
//! ```

// what tests of the library and of the program share calls it by its name
#[cfg(test)]
extern crate self as unaufs;

pub mod checks;
pub mod cli;
pub mod demo;
pub mod disk;
pub mod docker;
pub mod error;
pub mod export;
pub mod ids;
pub mod layer;
pub mod plan;
pub mod progress;
pub mod report;
pub mod run;
pub mod stop;
pub mod store;
pub mod tar;
pub mod target;
pub mod text;
pub mod verify;
