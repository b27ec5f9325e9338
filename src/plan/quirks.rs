//! Where aufs itself departed from the layer semantics that every other driver and every registry's user sees (FORMATS 11.7, 11.26).
//!
//! Two situations, both found by the scan: a folder that is opaque in two layers of a stack, where aufs obeyed the lowest mark instead of
//! the uppermost; and a file between two folders of one path, which aufs skipped. For each stack above such a spot both views are computed
//! and the paths that only aufs showed are named. aufs's lookup: fs/aufs/dentry.c, au_lkup_dentry and au_do_lookup (aufs5.10).

use super::scan::{Facts, LIST};
use crate::disk::join;
use crate::disk::{Dir, FileType};
use crate::error::{Error, Result};
use crate::ids::LayerId;
use crate::layer::branch::{self, Format};
use crate::layer::view::{Chain, Contributors};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A path that the old store showed and the new one does not, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Quirk {
    /// The view: an image layer, an init layer or a container.
    pub layer: LayerId,
    /// From the root, with a leading slash.
    #[serde(with = "crate::plan::path")]
    pub path: Vec<u8>,
    /// The check that explains it.
    pub id: String,
}

/// The spots of one layer.
fn spots(facts: &Facts) -> impl Iterator<Item = &Vec<u8>> {
    facts.opaque.first.iter().chain(&facts.covers.first)
}

/// Paths worth a look in the stack `ids`, nearest first: marked in at least two layers (opaque) or covered in at least one.
pub fn candidates<'a>(ids: &[&LayerId], facts: &'a BTreeMap<LayerId, Facts>) -> BTreeSet<&'a Vec<u8>> {
    let mut times: BTreeMap<&Vec<u8>, usize> = BTreeMap::new();
    let mut out = BTreeSet::new();
    for f in ids.iter().filter_map(|id| facts.get(*id)) {
        out.extend(&f.covers.first);
        for p in spots(f) {
            *times.entry(p).or_default() += 1;
        }
    }
    out.extend(times.into_iter().filter(|(_, n)| *n > 1).map(|(p, _)| p));
    out
}

/// The paths below `path` that aufs showed in this stack and OCI semantics do not.
pub fn shown_by_aufs_only(chain: &Chain, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let oci = chain.contributors(&chain.root(), path)?;
    let aufs = aufs_contributors(chain, path)?;
    let mut out = Vec::new();
    if aufs != oci && aufs.len() > oci.len() {
        compare(chain, path, &aufs, &oci, &mut out)?;
    }
    Ok(out)
}

fn compare(chain: &Chain, path: &[u8], aufs: &[u16], oci: &[u16], out: &mut Vec<Vec<u8>>) -> Result<()> {
    let shown = chain.merge(oci, path)?;
    for (name, kind) in aufs_names(chain, path, aufs)? {
        if out.len() >= LIST {
            return Ok(());
        }
        let here = join(path, &name);
        let known = shown.names.get(&name);
        if known.is_none() {
            out.push(here.clone());
        }
        let both_folders = kind == FileType::Directory && known.is_none_or(|n| n.kind == FileType::Directory);
        if both_folders {
            let dirs = chain.open(aufs, path)?;
            let sub = aufs_step(chain, &dirs, &name)?;
            let oci_sub: Contributors = known.map(|n| n.from.clone()).unwrap_or_default();
            if sub != oci_sub {
                compare(chain, &here, &sub, &oci_sub, out)?;
            }
        }
    }
    Ok(())
}

/// The branches that aufs merged in a folder.
fn aufs_contributors(chain: &Chain, path: &[u8]) -> Result<Contributors> {
    let mut at = Vec::new();
    let mut now = chain.root();
    for name in path.split(|c| *c == b'/').filter(|p| !p.is_empty()) {
        now = aufs_step(chain, &chain.open(&now, &at)?, name)?;
        at = join(&at, name);
    }
    Ok(now)
}

fn aufs_step(chain: &Chain, dirs: &[(u16, Dir)], name: &[u8]) -> Result<Contributors> {
    let mut out = Contributors::new();
    let mut last_opaque = None;
    for (i, dir) in dirs {
        let format = chain.branch(*i)?.format;
        if branch::has_whiteout(dir, format, name)? {
            break;
        }
        match dir.try_open(name) {
            Ok(sub) => {
                out.push(*i);
                // each lower mark overwrites the one above
                if branch::is_opaque(&sub, format)? {
                    last_opaque = Some(out.len());
                }
            }
            Err(Errno::NOENT) => {}
            // a file on top is the file; a file between folders is skipped
            Err(Errno::NOTDIR | Errno::LOOP) if out.is_empty() => break,
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(Error::io(format!("open folder {}", dir.show(name)), e)),
        }
    }
    out.truncate(last_opaque.unwrap_or(usize::MAX));
    Ok(out)
}

/// The names that aufs listed in a folder merged from these branches.
fn aufs_names(chain: &Chain, path: &[u8], from: &[u16]) -> Result<BTreeMap<Vec<u8>, FileType>> {
    let mut out = BTreeMap::new();
    let mut hidden = BTreeSet::new();
    for (i, dir) in chain.open(from, path)? {
        let format = chain.branch(i)?.format;
        let at_root = path.is_empty();
        branch::for_each_entry(&dir, format, at_root, |name, kind, _| {
            if !hidden.contains(name) {
                out.entry(name.to_vec()).or_insert(kind);
            }
            Ok(())
        })?;
        if format == Format::Aufs {
            hidden.extend(branch::markers(&dir, format, at_root)?.whiteouts);
        }
    }
    Ok(out)
}
