//! The digest of a v1 image's layer (FORMATS 8.3).
//!
//! ```text
//! ROOT/graph/<id>/tar-data.json.gz      since 1.8: reproduces the tar, which gives the DiffID that Docker 1.10 took
//!                 .migration-tardata    made by a Docker from 1.10 on where that one is missing or does not fit,
//!                 .migration-diffid     and what it gave
//! ```
//!
//! Where neither fits the layer's directory, Docker made the tar from the directory, and so do we ([`crate::tar::branchtar`]). Then the layer is
//! damaged, except where its tar has what no branch keeps, such as a file that the same tar deletes (FORMATS 6.2).

use super::V1Id;
use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use crate::ids::DiffId;
use crate::layer::branch::{Branch, Format};
use crate::layer::view::Chain;
use crate::store::Content;
use crate::store::content::{SMALL, text_of};
use crate::store::driver::Driver;
use crate::store::stack::Listed;
use crate::tar::branchtar;
use crate::tar::digest::ViewFiles;
use crate::tar::split::{self, DiffIdWriter, MAX_UNPACKED, Payloads, Reader, prove, reassemble};
use crate::text;
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, sink};
use std::sync::Arc;

const RECORD: &str = "tar-data.json.gz";

/// Docker's record of the tar of a layer that is named by its directory.
pub fn record(layer: &str) -> String {
    format!("graph/{layer}/{RECORD}")
}

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
    /// That is damage: the layer isn't what Docker made.
    pub damaged: bool,
    /// Why it has another digest than Docker 1.10 gave it, if it has.
    pub new_id: Option<String>,
}

/// Digests one layer.
pub fn layer(root: &Dir, id: &V1Id, driver: &Driver) -> Result<Digested> {
    let moved_to = driver.moved_to(id.layer());
    // Docker 1.10 put the symlink itself into a tar, and nothing of what is behind it
    let moved = moved_to.as_ref().map(|to| format!("aufs/diff/{id} is a symlink to {to}"));
    let directory = root.open(moved_to.unwrap_or_else(|| format!("aufs/diff/{id}")))?;
    let (mut unfit, mut damaged, taken) = (Vec::new(), false, taken_by_docker(root, id));
    for name in [".migration-tardata", RECORD] {
        let path = format!("graph/{id}/{name}");
        let opened = match root.stat_opt(&path)? {
            Some(_) => root.open_file(&path),
            None => continue,
        };
        match opened.and_then(|file| by_record(file, &directory)) {
            Ok((diff, _)) if name != RECORD && taken != Some(diff) => {
                unfit.push(format!("{name} gives another digest than .migration-diffid"));
            }
            Ok((diff, size)) => {
                let split = Content::Same(path);
                return Ok(Digested { diff, size, split, unfit: None, damaged: false, new_id: None });
            }
            Err(e) if is_trouble(&e) => return Err(e),
            Err(e) => {
                let damage = damage(root, &path, id, driver)?;
                // Docker replaces its own record where it was stopped while writing it
                damaged |= damage.is_some() && name == RECORD;
                unfit.push(match damage {
                    Some(Damage::Files(files)) => format!("files differ from {name}: {files}"),
                    Some(Damage::Record(why)) => format!("{name}: {why}"),
                    None => format!("{name}: {}", e.chain()),
                });
            }
        }
    }
    let made = branchtar::digest(&directory)?;
    Ok(Digested {
        damaged: damaged || !unfit.is_empty() && taken.is_some_and(|taken| taken != made.diff),
        diff: made.diff,
        size: made.put.payload,
        split: Content::TarSplitOf(id.layer().clone()),
        unfit: Some(unfit.join("; ")).filter(|unfit| !unfit.is_empty()),
        new_id: moved.or(made.put.new_id),
    })
}

/// Does an error tell of the disk or the process, and not of the record?
fn is_trouble(e: &Error) -> bool {
    let asked_to_stop = matches!(e.kind(), Kind::Interrupted | Kind::Terminated);
    asked_to_stop || e.is_exhaustion() || e.errno().is_some_and(|e| [Errno::IO, Errno::ACCESS].contains(&e))
}

/// What is damaged.
enum Damage {
    /// The record.
    Record(String),
    /// The files that it names: the first of them.
    Files(String),
}

/// What isn't as the record at `path` says, as far as the layer's directory and those below it can have it.
fn damage(root: &Dir, path: &str, id: &V1Id, driver: &Driver) -> Result<Option<Damage>> {
    let at = Arc::new(root.again()?);
    let below = driver.layers.get(id.layer()).map(Listed::ids).unwrap_or_default();
    let branch = |layer| {
        let source = driver.moved_to(layer).unwrap_or_else(|| format!("aufs/diff/{layer}"));
        Branch::below(&at, source, Some(layer.clone()), Format::Aufs)
    };
    let chain = Chain { branches: std::iter::once(id.layer()).chain(below).map(branch).collect() };
    let proof =
        root.open_file(path).and_then(|file| prove(Reader::new(file, MAX_UNPACKED), &ViewFiles::new(&chain)?, false));
    let wrong = match proof {
        Ok(proof) => proof.wrong,
        Err(e) if is_trouble(&e) => return Err(e),
        Err(e) => return Ok(Some(Damage::Record(e.chain()))),
    };
    let shown = |w: &split::WrongFile| format!("/{}: {w}", text::bytes(&split::clean(&w.name)));
    Ok((!wrong.is_empty()).then(|| Damage::Files(text::few(wrong.iter().take(3).map(shown), wrong.len()))))
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
