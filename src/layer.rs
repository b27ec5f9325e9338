//! Layers as they lie on the disk: one branch, a stack of them, and a walk over all cores.

pub mod branch;
pub mod view;
pub mod walk;
