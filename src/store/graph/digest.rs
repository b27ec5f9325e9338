//! The digest of a v1 image's layer (FORMATS 8.3).
//!
//! ```text
//! ROOT/graph/<id>/tar-data.json.gz      since 1.8: reproduces the tar, which gives the DiffID that Docker 1.10 took
//!                 .migration-tardata    made by a Docker from 1.10 on where that one is missing or does not fit,
//!                 .migration-diffid     and what it gave
//! ```
//!
//! Where neither fits the layer's directory, Docker made the tar from the directory, and so do we ([`crate::tar::branchtar`]).

use super::V1Id;
use crate::disk::Dir;
use crate::error::Result;
use crate::ids::DiffId;
use crate::store::Content;
use crate::store::content::{SMALL, text_of};
use crate::store::driver::Driver;
use crate::tar::branchtar;
use crate::tar::split::{DiffIdWriter, MAX_UNPACKED, Payloads, Reader, reassemble};
use std::fs::File;
use std::io::{Read, sink};

const RECORD: &str = "tar-data.json.gz";

/// What is known of a layer's tar.
#[derive(Clone, Debug)]
pub struct Digested {
    /// Its digest.
    pub diff: DiffId,
    /// The bytes of all files in it.
    pub size: u64,
    /// Where its tar-split comes from.
    pub split: Content,
    /// Why the record of its tar is not followed, where there is one.
    pub unfit: Option<String>,
    /// Why it has another digest than Docker 1.10 gave it, if it has.
    pub new_id: Option<String>,
}

/// Digests one layer.
pub fn layer(root: &Dir, id: &V1Id, driver: &Driver) -> Result<Digested> {
    let moved_to = driver.moved_to(id.layer());
    // Docker 1.10 put the symlink itself into a tar, and nothing of what is behind it
    let moved = moved_to.as_ref().map(|to| format!("aufs/diff/{id} is a symlink to {to}"));
    let directory = root.open(moved_to.unwrap_or_else(|| format!("aufs/diff/{id}")))?;
    let mut unfit = Vec::new();
    for name in [".migration-tardata", RECORD] {
        let path = format!("graph/{id}/{name}");
        let opened = match root.stat_opt(&path)? {
            Some(_) => root.open_file(&path),
            None => continue,
        };
        match opened.and_then(|file| by_record(file, &directory)) {
            Ok((diff, _)) if name != RECORD && taken_by_docker(root, id) != Some(diff) => {
                unfit.push(format!("{name} gives another digest than .migration-diffid"));
            }
            Ok((diff, size)) => {
                return Ok(Digested { diff, size, split: Content::Same(path), unfit: None, new_id: None });
            }
            // the disk's trouble, not the record's
            Err(e) if e.errno() == Some(rustix::io::Errno::IO) => return Err(e),
            Err(e) => unfit.push(format!("{name}: {}", e.chain())),
        }
    }
    let made = branchtar::digest(&directory)?;
    Ok(Digested {
        diff: made.diff,
        size: made.put.payload,
        split: Content::TarSplitOf(id.layer().clone()),
        unfit: Some(unfit.join("; ")).filter(|unfit| !unfit.is_empty()),
        new_id: moved.or(made.put.new_id),
    })
}

/// The digest that a Docker from 1.10 on took for the layer.
fn taken_by_docker(root: &Dir, id: &V1Id) -> Option<DiffId> {
    let text = root.read_opt(format!("graph/{id}/.migration-diffid"), SMALL).ok()??;
    DiffId::parse(&text_of(&text).ok()?).ok()
}

/// Makes the tar again by a record of it. A record that does not fit the files is an error.
fn by_record(record: File, directory: &Dir) -> Result<(DiffId, u64)> {
    let mut hashed = DiffIdWriter::new(sink());
    let done = reassemble(Reader::new(record, MAX_UNPACKED), &Files(directory), &mut hashed)?;
    Ok((hashed.finish().1, done.payload_bytes))
}

/// The files of the branch itself: Docker on aufs looked there too, not at the mounted stack (FORMATS 6.2).
struct Files<'a>(&'a Dir);

impl Payloads for Files<'_> {
    fn open(&self, name: &[u8]) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0.open_file(name)?))
    }
}
