//! A tar header of 512 bytes: where its fields lie.
//!
//! ```text
//! 0 name 100│mode 8│uid 8│gid 8│size 12│mtime 12│checksum 8│type 1│linkname 100│magic 6│version 2│uname 32│gname 32│
//! 329 devmajor 8│devminor 8│prefix 155│12 unused                                       (POSIX ustar)
//! 329 devmajor 8│devminor 8│atime 12│ctime 12│…                                        (GNU)
//! 329 devmajor 8│devminor 8│prefix 131│atime 12│ctime 12│…│508 "tar\0"                 (star)
//! ```

use std::ops::Range;

/// Everything in a tar comes in blocks of this size.
pub const BLOCK: usize = 512;

pub const NAME: Range<usize> = 0..100;
pub const MODE: Range<usize> = 100..108;
pub const UID: Range<usize> = 108..116;
pub const GID: Range<usize> = 116..124;
pub const SIZE: Range<usize> = 124..136;
pub const MTIME: Range<usize> = 136..148;
pub const CHECKSUM: Range<usize> = 148..156;
pub const TYPE: usize = 156;
pub const LINKNAME: Range<usize> = 157..257;
pub const MAGIC: Range<usize> = 257..263;
pub const VERSION: Range<usize> = 263..265;
pub const DEVMAJOR: Range<usize> = 329..337;
pub const DEVMINOR: Range<usize> = 337..345;
pub const PREFIX: Range<usize> = 345..500;
pub const GNU_ATIME: Range<usize> = 345..357;
pub const GNU_CTIME: Range<usize> = 357..369;
pub const STAR_PREFIX: Range<usize> = 345..476;
pub const STAR_TRAILER: Range<usize> = 508..512;

/// Zero bytes between content of `size` bytes and the next block.
pub fn padding(size: u64) -> usize {
    // below 512
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// The sum over the block with blanks for the checksum itself: of unsigned bytes as POSIX says, and of signed ones as old Suns did.
pub fn checksums(block: &[u8; BLOCK]) -> (i64, i64) {
    let (mut unsigned, mut signed) = (0, 0);
    for (i, &byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&i) { b' ' } else { byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte as i8);
    }
    (unsigned, signed)
}
