//! What the test programs share: real stores, stacks of branches written as text, file systems in image files, archives read by a stranger.

pub mod archive;
pub mod disassemble;
pub mod mounts;
pub mod needs;
pub mod private;
pub mod real;
pub mod stack;
