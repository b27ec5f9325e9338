//! One suite for all targets: what a stack of aufs branches shows must be what the new store shows, and a rollback must give back the root.
//!
//! ```text
//! text     a stack of branches, readable                    ┐
//! model    what it must show: OCI semantics, in memory      ├ nothing of unaufs in these
//! disk     writes branches, reads trees                     │
//! store    the stack as images, as init layer, as container ┘
//! bed      private mounts; unaufs, a real overlayfs and the model side by side
//!
//! traps, attributes, limits, random                  the cases
//! ```
//!
//! The tests need root, loop devices, ext4, btrfs and overlayfs; without them they say so, and fail where `CI=true`.

mod bed;
mod disk;
mod model;
mod store;
mod text;
mod traps;
