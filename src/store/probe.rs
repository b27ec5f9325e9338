//! Reads every metadata file that is copied as it is once, before anything is planned: a file that can't be read, because of a bad sector for
//! example, costs its container or itself, not the migration.

use super::{Content, Lost, Store, containers};
use crate::checks::Finding;
use crate::disk::{Dir, split};
use crate::error::{Error, Result};
use crate::ids::{ContainerId, LayerId};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// As much is read at once: these files can have gigabytes.
const CHUNK: usize = 64 << 10;

/// What was found in the files.
#[derive(Default)]
pub struct Probed {
    /// Those that can't be read, and why.
    unread: BTreeMap<String, String>,
    /// Tar-split data that are no gzip at all. Whether they are whole, and fit the layer, is found when the layer is verified.
    no_gzip: BTreeSet<String>,
}

impl Probed {
    /// Takes what can't be read out of the store, by name.
    pub fn apply(self, store: &mut Store) -> Vec<Finding> {
        let Probed { unread: bad, no_gzip } = self;
        let what = "its tar-split.json.gz is damaged: it isn't a gzip file";
        let is_no_gzip = |content: &Content| match content {
            Content::Same(path) => no_gzip.contains(path),
            _ => false,
        };
        let layers =
            store.tar_splits().into_iter().filter(|(_, content)| is_no_gzip(content)).map(|(layer, _)| layer.short());
        let mut findings: Vec<Finding> =
            layers.map(|layer| Finding::new("D02", format!("layer {layer}"), what)).collect();
        if bad.is_empty() {
            return findings;
        }
        let why = |content: &Content| match content {
            Content::Same(path) => bad.get(path),
            _ => None,
        };
        let mut lost_containers: BTreeMap<ContainerId, String> = BTreeMap::new();
        for c in store.containers.values() {
            if let Some((f, why)) = c.files.iter().find_map(|f| Some((f, why(&f.content)?))) {
                lost_containers.insert(c.id.clone(), format!("its {}: {why}", f.name));
            }
        }
        let mut no_split: BTreeSet<LayerId> = BTreeSet::new();
        let mut lost = Vec::new();
        store.metadata.retain(|f| {
            let Some(why) = why(&f.content) else { return true };
            match &f.container {
                Some(id) => {
                    lost_containers.entry(id.clone()).or_insert_with(|| format!("its record in layerdb/mounts: {why}"));
                    return true;
                }
                None => lost.push((f.path.clone(), why.clone(), f.layer.is_some() || f.image.is_some())),
            }
            no_split.extend(f.layer.clone().filter(|_| f.path.ends_with("/tar-split.json.gz")));
            false
        });
        for layer in store.layers.values_mut().filter(|l| no_split.contains(&l.id)) {
            layer.tar_split = false;
        }
        for (path, why, counts) in lost {
            let effect = match path.ends_with("/tar-split.json.gz") {
                true => "the layer is migrated without this file and works, but docker save and push fail",
                false => "left out of the new store",
            };
            findings.push(Finding::new("D10", path.clone(), why.clone()).effect(effect));
            if counts {
                store.lost.push(Lost { kind: "file".to_owned(), id: path, reason: why, lost: effect.to_owned() });
            }
        }
        for (id, why) in lost_containers {
            if let Some(c) = store.containers.get_mut(&id) {
                containers::stays(c, &Error::corrupt(why), &mut findings);
            }
        }
        findings
    }
}

/// Reads all of them. Each directory is opened once.
pub fn read_all(root: &Dir, store: &Store) -> Result<Probed> {
    let metadata = store.metadata.iter().map(|f| &f.content);
    let moves = store.containers.values().filter(|c| c.broken.is_none() && !c.foreign);
    let mut by_directory: BTreeMap<&[u8], Vec<&String>> = BTreeMap::new();
    for content in metadata.chain(moves.flat_map(|c| c.files.iter().map(|f| &f.content))) {
        if let Content::Same(path) = content {
            by_directory.entry(split(path.as_bytes()).0).or_default().push(path);
        }
    }
    let read = |(directory, paths): (&[u8], Vec<&String>)| {
        let at = root.try_open(directory);
        let read = |path: &String| match &at {
            Ok(at) => read(at, split(path.as_bytes()).1),
            Err(e) => Err(format!("it can't be opened: {e}")),
        };
        paths.into_iter().map(|path| (path.clone(), read(path))).collect::<Vec<_>>()
    };
    let all: Vec<_> = by_directory.into_par_iter().flat_map_iter(read).collect();
    crate::stop::check()?;
    let mut out = Probed::default();
    for (path, read) in all {
        match read {
            Ok(begins) if begins == GZIP || !path.ends_with("/tar-split.json.gz") => {}
            Ok(_) => drop(out.no_gzip.insert(path)),
            Err(why) => drop(out.unread.insert(path, why)),
        }
    }
    Ok(out)
}

/// What each gzip begins with.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// Reads a file to its end, and gives its first bytes. One bad file doesn't mean that the disk fails, so the error isn't noted as such.
fn read(at: &Dir, name: &[u8]) -> Result<[u8; GZIP.len()], String> {
    let mut file = at.try_open_file(name).map_err(|e| format!("it can't be opened: {e}"))?;
    let (mut chunk, mut begins, mut is_first) = ([0; CHUNK], [0; GZIP.len()], true);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(begins),
            Ok(_) if crate::stop::check().is_err() => return Ok(begins),
            Ok(_) if is_first => (begins, is_first) = ([chunk[0], chunk[1], chunk[2]], false),
            Ok(_) => {}
            Err(e) => return Err(format!("it can't be read: {e}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Generation, MetaFile};

    #[test]
    fn a_bad_file_costs_itself() {
        let t = tempfile::tempdir().expect("temp dir");
        std::fs::write(t.path().join("good"), "x").expect("write");
        std::fs::create_dir(t.path().join("bad")).expect("mkdir");
        let root = Dir::open_named(t.path()).expect("open");
        let mut store = Store::empty(Generation::Content);
        let layer = LayerId::parse("a").expect("id");
        for (path, from, layer) in [
            ("layerdb/sha256/a/tar-split.json.gz", "bad", Some(layer.clone())),
            ("layerdb/sha256/a/diff", "good", Some(layer)),
            ("distribution/x", "bad", None),
        ] {
            let content = Content::Same(from.to_owned());
            store.metadata.push(MetaFile { layer, ..MetaFile::new(path.to_owned(), content) });
        }
        let findings = read_all(&root, &store).expect("probe").apply(&mut store);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert_eq!((store.metadata.len(), store.lost.len()), (1, 1));
    }
}
