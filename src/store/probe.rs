//! Reads every metadata file that is copied as it is once, before anything is planned: a file that can't be read, because of a bad sector for
//! example, costs its container or itself, not the migration.

use super::{Content, Lost, Store, containers};
use crate::checks::Finding;
use crate::disk::Dir;
use crate::error::{Error, Result};
use crate::ids::{ContainerId, LayerId};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// As much is read at once: these files can have gigabytes.
const CHUNK: usize = 64 << 10;

/// Takes what can't be read out of the store, by name.
pub fn unreadable(root: &Dir, store: &mut Store) -> Result<Vec<Finding>> {
    let (mut findings, bad) = (Vec::new(), bad_files(root, store)?);
    if bad.is_empty() {
        return Ok(findings);
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
    Ok(findings)
}

/// The files that can't be read, and why.
fn bad_files(root: &Dir, store: &Store) -> Result<BTreeMap<String, String>> {
    let metadata = store.metadata.iter().map(|f| &f.content);
    let moves = store.containers.values().filter(|c| c.broken.is_none() && !c.foreign);
    let paths: Vec<&String> = metadata
        .chain(moves.flat_map(|c| c.files.iter().map(|f| &f.content)))
        .filter_map(|c| match c {
            Content::Same(path) => Some(path),
            _ => None,
        })
        .collect();
    let bad: Vec<Option<(String, String)>> =
        paths.par_iter().map(|path| Some(((*path).clone(), read(root, path).err()?))).collect();
    crate::stop::check()?;
    Ok(bad.into_iter().flatten().collect())
}

/// What each gzip begins with.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// Layers whose tar-split data are no gzip at all. Whether they are whole, and fit the layer, is found when the layer is verified.
pub fn no_gzip(root: &Dir, store: &Store) -> Vec<Finding> {
    let bad = |layer: &LayerId, content: &Content| {
        let Content::Same(path) = content else { return None };
        let (mut first, mut file) = (Vec::new(), root.open_file(path).ok()?);
        (&mut file).take(GZIP.len() as u64).read_to_end(&mut first).ok()?;
        let what = "its tar-split.json.gz is damaged: it isn't a gzip file";
        (first != GZIP).then(|| Finding::new("D02", format!("layer {}", layer.short()), what))
    };
    store.tar_splits().into_par_iter().filter_map(|(layer, content)| bad(layer, content)).collect()
}

/// Reads a file to its end. One bad file doesn't mean that the disk fails, so the error isn't noted as such.
fn read(root: &Dir, path: &str) -> Result<(), String> {
    let mut file = root.try_open_file(path.as_bytes()).map_err(|e| format!("it can't be opened: {e}"))?;
    let mut chunk = [0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(_) if crate::stop::check().is_err() => return Ok(()),
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
        let findings = unreadable(&root, &mut store).expect("probe");
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert_eq!((store.metadata.len(), store.lost.len()), (1, 1));
    }
}
