//! tar-split: what Docker keeps of a layer's tar, so that the tar can be made again to the byte (FORMATS 6.2).
//!
//! ```text
//! image/<driver>/layerdb/sha256/<chain id>/tar-split.json.gz      content-addressable stores
//! graph/<id>/tar-data.json.gz                                     graph stores from 1.8 on
//!
//! gzip of one JSON value after another:
//!   {"type":2,"payload":"<base64>","position":0}                  bytes of the tar: headers, padding, the end
//!   {"type":1,"name":"etc/passwd","size":68,"payload":"<crc>",…}  here came the content of that file
//! ```
//!
//! ```text
//! tar-split ──Reader──▶ Pieces ──reassemble(Payloads)──▶ the tar ──▶ DiffID
//!                           ├────prove(Payloads)───▶ DiffID, or every file that is not as recorded
//!                           └────Headers───────────▶ type, mode, owner, time, link of every entry
//! the tar, while TarWriter writes it ──Packer──▶ tar-split
//! ```
//!
//! Whiteouts and hard links have no content here, their headers lie in the segments: so the tar is the same from the
//! tree of any storage driver. What it proves is every byte of every regular file, not owners, modes or times of the tree.

mod crc64;
pub mod fields;
mod hash;
mod headers;
mod name;
mod packer;
mod prove;
mod reader;
mod reassemble;

pub use crc64::Crc64;
pub use hash::{DiffIdWriter, beside};
pub use headers::{Header, Headers, Kind};
pub use name::clean;
pub use packer::Packer;
pub use prove::{Proof, prove};
pub use reader::{MAX_UNPACKED, Piece, Reader};
pub use reassemble::{Mismatch, Payloads, Reassembled, WrongFile, reassemble};

/// Bytes moved at once: a layer's tar is streamed, and large files in few steps that still fit a core's own cache.
const BUFFER: usize = 256 * 1024;

/// The bytes of a segment that go into one JSON value at most, as Docker's own writer cuts them (FORMATS 6.2).
const SEGMENT: usize = 1024 * 1024;
