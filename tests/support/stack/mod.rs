//! Stacks of aufs branches that tests write down themselves. Nothing of unaufs is in these.
//!
//! ```text
//! text     a stack of branches, readable
//! model    what it must show: OCI semantics, in memory
//! disk     writes branches, reads trees
//! store    the stack as images, as init layer, as container
//! ```

pub mod disk;
pub mod model;
pub mod store;
pub mod text;
