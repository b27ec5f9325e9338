//! One suite for all targets: what a stack of aufs branches shows must be what the new store shows, and a rollback must give back the root.
//!
//! ```text
//! support/stack    a stack of branches as text, in memory, on a disk; nothing of unaufs in it
//! bed              private mounts; unaufs, a real overlayfs and the model side by side
//!
//! traps            each known trap, by its number
//! random           stacks that proptest makes up
//! ```
//!
//! The tests need root, loop devices, ext4, btrfs and overlayfs; without them they say so, and fail where `CI=true`.

mod bed;
mod random;
mod traps;
