//! Layer tars: Docker's own, made again to the byte, and ours where Docker kept none.

pub mod branchtar;
pub mod digest;
pub mod split;
pub mod viewtar;
pub mod writer;

#[cfg(test)]
#[path = "../tests/support/disassemble.rs"]
mod disassemble;
