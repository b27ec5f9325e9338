//! Where aufs itself departed from the layer semantics that every other driver and every registry's user sees (FORMATS 11.7, 11.26).
//!
//! Two situations, both found by the scan: a directory that is opaque in two layers of a stack, where aufs obeyed the lowest mark instead of
//! the uppermost; and a file between two directories of one path, which aufs skipped. For the layer with which that begins both views are
//! computed and the paths that only aufs showed are named. aufs's lookup: fs/aufs/dentry.c, au_lkup_dentry and au_do_lookup (aufs5.10).

use super::scan::{Facts, LIST, Trail, hash_of_path};
use crate::disk::FileType;
use crate::disk::join;
use crate::error::{Error, Result};
use crate::ids::LayerId;
use crate::layer::branch::{self, Format};
use crate::layer::view::{Chain, Contributors, Dirs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A path that the old store showed and the new one does not, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Quirk {
    /// The layer with which that begins: an image layer, an init layer or a container. What is based on it shows the same.
    pub layer: LayerId,
    /// From the root, with a leading slash.
    #[serde(with = "crate::plan::path")]
    pub path: Vec<u8>,
    /// The check that explains it.
    pub id: String,
}

/// Paths worth a look: directories that are opaque in two layers of a stack, and directories over a file over a directory.
pub struct Candidates<'a> {
    facts: &'a BTreeMap<LayerId, Facts>,
    /// The layers in which a directory is opaque.
    opaque: HashMap<&'a [u8], Vec<&'a LayerId>>,
    /// Each layer's directories, sorted; only where some file covers one.
    directories: HashMap<&'a LayerId, Vec<u64>>,
    /// Files that may cover a directory, by layer, with the hashes of their paths.
    covers: HashMap<&'a LayerId, Vec<(&'a [u8], u64)>>,
}

impl<'a> Candidates<'a> {
    /// From what the scan found.
    pub fn of(facts: &'a BTreeMap<LayerId, Facts>, trails: &'a BTreeMap<LayerId, Trail>) -> Candidates<'a> {
        let mut opaque: HashMap<&[u8], Vec<&LayerId>> = HashMap::new();
        let mut covers = HashMap::new();
        for (id, f) in facts {
            f.opaque.first.iter().for_each(|p| opaque.entry(p).or_default().push(id));
            let files: Vec<(&[u8], u64)> = f.covers.first.iter().map(|p| (&p[..], hash_of_path(p))).collect();
            if !files.is_empty() {
                covers.insert(id, files);
            }
        }
        let sorted = |t: &Trail| {
            let mut all = t.directories.clone();
            all.sort_unstable();
            all
        };
        let wanted = trails.iter().filter(|_| !covers.is_empty());
        let directories = wanted.map(|(id, t)| (id, sorted(t))).collect();
        Candidates { facts, opaque, directories, covers }
    }

    /// Those in whose directory of that path this layer takes part: what only aufs showed begins with it.
    pub fn in_layer(&self, id: &LayerId, lowers: &[LayerId]) -> BTreeSet<&'a [u8]> {
        let mut out = BTreeSet::new();
        let below: HashSet<&LayerId> = lowers.iter().collect();
        for p in self.facts.get(id).into_iter().flat_map(|f| &f.opaque.first) {
            if self.opaque.get(&p[..]).is_some_and(|layers| layers.iter().any(|l| below.contains(l))) {
                out.insert(&p[..]);
            }
        }
        let Some(directories) = self.directories.get(id) else { return out };
        for (path, hash) in lowers.iter().filter_map(|l| self.covers.get(l)).flatten() {
            if directories.binary_search(hash).is_ok() {
                out.insert(path);
            }
        }
        out
    }
}

/// The paths below `path` that aufs showed in this stack and OCI semantics do not.
pub fn shown_by_aufs_only(chain: &Chain, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let oci = chain.contributors(&chain.root(), path)?;
    let aufs = chain.contributors_by(&chain.root(), path, |dirs, name| aufs_step(chain, dirs, name))?;
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
        let both_dirs = kind == FileType::Directory && known.is_none_or(|n| n.kind == FileType::Directory);
        if both_dirs {
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

/// The branches that aufs merged in a directory of one that `dirs` are merged in.
fn aufs_step(chain: &Chain, dirs: &Dirs, name: &[u8]) -> Result<Contributors> {
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
            // a file on top is the file; a file between directories is skipped
            Err(Errno::NOTDIR | Errno::LOOP) if out.is_empty() => break,
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(Error::io(format!("open directory {}", dir.show(name)), e)),
        }
    }
    out.truncate(last_opaque.unwrap_or(usize::MAX));
    Ok(out)
}

/// The names that aufs listed in a directory merged from these branches.
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
