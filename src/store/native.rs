//! A store of a living driver: what Docker itself wrote, or what unaufs made of an aufs store.
//!
//! ```text
//! ROOT/image/<driver>/…                      as for aufs: content.rs
//! ROOT/overlay2/<id>/{diff,lower,link}       lower: l/<link of the parent>:l/…, nearest first
//! ROOT/overlay2/l/<link>                     symlink to ../<id>/diff
//! ROOT/overlay/<id>/{root | upper,lower-id}
//! ROOT/vfs/dir/<id>/   ROOT/btrfs/subvolumes/<id>/
//! ```
//!
//! Read only, for `verify` and `export`: such a store is never a source of a migration. BuildKit's layers (ids of 25 characters) and
//! directories of volumes from before Docker 1.7 in `vfs/dir` have no record in layerdb, and so are not part of it.

use super::containers::{self, Reader};
use super::driver::{Diff, Driver};
use super::stack::Listed;
use super::{Generation, Store, content};
use crate::checks::Finding;
use crate::disk::{Dir, FileType};
use crate::docker::driver::{Target, WrittenBy};
use crate::error::{Error, Kind, Result};
use crate::ids::{LayerId, named};
use std::collections::BTreeMap;

/// A list of at most 128 short names.
const LOWER_LIMIT: u64 = 64 << 10;

/// Reads the store of `driver` at ROOT.
pub fn open(root: &Dir, driver: Target) -> Result<(Store, Vec<Finding>)> {
    if !root.has(format!("image/{driver}"))? {
        return Err(Error::new(
            Kind::NoStore,
            format!("there is no {driver} store at {}", crate::text::path(root.label())),
        )
        .hint("Name Docker's data root with --root. `unaufs inspect` shows what is there."));
    }
    let driver = read_dirs(root, driver)?;
    let mut store = Store::empty(Generation::Content);
    store.written_by = driver.written_by;
    let mut findings = Vec::new();
    let chains = content::read_image_dir(root, &driver, &mut store, &mut findings)?;
    let reader = Reader { root, driver: &driver, chains: &chains, store: &mut store, findings: &mut findings };
    containers::read(reader)?;
    Ok((store, findings))
}

/// The living drivers that have a store at ROOT.
pub fn present(root: &Dir) -> Result<Vec<Target>> {
    let mut out = Vec::new();
    for driver in Target::ALL {
        if root.has(format!("image/{driver}"))? {
            out.push(driver);
        }
    }
    Ok(out)
}

fn read_dirs(root: &Dir, driver: Target) -> Result<Driver> {
    let mut out = Driver { written_by: WrittenBy::Living(driver), ..Driver::default() };
    // an image may have no layer at all
    let Some(home) = root.open_opt(driver.home())? else { return Ok(out) };
    let names = if driver == Target::Overlay2 { link_names(&home)? } else { BTreeMap::new() };
    for (name, kind) in home.list()? {
        let Some(id) = named(&name, LayerId::parse) else { continue };
        if kind != FileType::Directory || (driver == Target::Overlay2 && name == b"l") {
            continue;
        }
        let dir = home.open(&name)?;
        let has = |sub: &str| -> Result<bool> { Ok(dir.stat_opt(sub)?.is_some_and(|m| m.is_dir())) };
        let whole = match driver {
            Target::Overlay2 => has("diff")?,
            Target::Overlay => has("root")? || has("upper")?,
            Target::Vfs | Target::Btrfs => true,
        };
        if !whole {
            continue;
        }
        if driver == Target::Overlay2 {
            let listed = lowers(&dir, &names).map_or_else(|e| Listed::Bad(e.chain()), Listed::Whole);
            out.layers.insert(id.clone(), listed);
        }
        out.diffs.insert(id, Diff::Here);
    }
    Ok(out)
}

/// The layers below one layer of overlay2, nearest first, by its own list.
pub fn listed(root: &Dir, id: &LayerId) -> Result<Vec<LayerId>> {
    let home = root.open(Target::Overlay2.home())?;
    lowers(&home.open(id.as_str())?, &link_names(&home)?)
}

/// What each symlink in `overlay2/l` leads to.
fn link_names(home: &Dir) -> Result<BTreeMap<Vec<u8>, LayerId>> {
    let mut out = BTreeMap::new();
    let Some(l) = home.open_opt("l")? else { return Ok(out) };
    for (name, kind) in l.list()? {
        if kind != FileType::Symlink {
            continue;
        }
        let target = l.read_link(&name)?;
        let id = target.strip_prefix(b"../").and_then(|t| t.strip_suffix(b"/diff"));
        if let Some(id) = id.and_then(|id| named(id, LayerId::parse)) {
            out.insert(name, id);
        }
    }
    Ok(out)
}

/// The layers that `lower` names. A layer without that file has none below it (FORMATS 2.1).
fn lowers(dir: &Dir, names: &BTreeMap<Vec<u8>, LayerId>) -> Result<Vec<LayerId>> {
    let Some(text) = dir.read_opt("lower", LOWER_LIMIT)? else { return Ok(Vec::new()) };
    text.split(|c| *c == b':')
        .map(|part| {
            let link = part.strip_prefix(b"l/").and_then(|link| names.get(link));
            link.cloned().ok_or_else(|| {
                Error::corrupt(format!(
                    "\"{}\" doesn't lead to a layer",
                    crate::text::bytes(&part[..part.len().min(80)])
                ))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ChainId, DiffId, ImageId, Sha256};
    use std::fs;
    use std::path::Path;

    fn put(top: &Path, rel: &str, text: &str) {
        let at = top.join(rel);
        fs::create_dir_all(at.parent().expect("parent")).expect("mkdir");
        fs::write(at, text).expect("write");
    }

    /// Two layers and a container as Docker writes them; ids of the driver only.
    fn root(driver: Target) -> (tempfile::TempDir, Vec<String>, ImageId) {
        let t = tempfile::tempdir().expect("temp dir");
        let top = t.path();
        let diffs = [DiffId(Sha256::of(b"a")), DiffId(Sha256::of(b"b"))];
        let ids: Vec<String> = vec![
            "abcdefghijklmnopqrstuvwxy".into(),
            "2".repeat(64),
            "3".repeat(64),
            format!("{}-init", "3".repeat(64)),
        ];
        let chains = ChainId::stack(&diffs);
        let image = format!("image/{driver}");
        for (i, chain) in chains.iter().enumerate() {
            let at = format!("{image}/layerdb/sha256/{}", chain.hex());
            put(top, &format!("{at}/diff"), &diffs[i].to_string());
            put(top, &format!("{at}/size"), "1");
            put(top, &format!("{at}/cache-id"), &ids[i]);
            if i > 0 {
                put(top, &format!("{at}/parent"), &chains[i - 1].to_string());
            }
        }
        let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#, diffs[0], diffs[1]);
        let id = ImageId(Sha256::of(config.as_bytes()));
        put(top, &format!("{image}/imagedb/content/sha256/{}", id.hex()), &config);
        let refs = format!(r#"{{"Repositories":{{"a":{{"a:1":"{id}"}}}}}}"#);
        put(top, &format!("{image}/repositories.json"), &refs);
        let c = "c".repeat(64);
        put(
            top,
            &format!("containers/{c}/config.v2.json"),
            &format!(r#"{{"ID":"{c}","Name":"/x","Driver":"{driver}","Config":{{}},"NetworkSettings":{{}}}}"#),
        );
        let mount = format!("{image}/layerdb/mounts/{c}");
        for (file, text) in [("mount-id", &ids[2]), ("init-id", &ids[3]), ("parent", &chains[1].to_string())] {
            put(top, &format!("{mount}/{file}"), text);
        }
        for (i, id) in ids.iter().enumerate() {
            match driver {
                Target::Overlay2 => {
                    put(top, &format!("overlay2/{id}/diff/file"), "x");
                    put(top, &format!("overlay2/{id}/link"), &format!("LINK{i}"));
                    let l = top.join("overlay2/l");
                    fs::create_dir_all(&l).expect("mkdir");
                    std::os::unix::fs::symlink(format!("../{id}/diff"), l.join(format!("LINK{i}"))).expect("link");
                }
                Target::Overlay => {
                    put(top, &format!("overlay/{id}/{}/file", if i < 2 { "root" } else { "upper" }), "x")
                }
                Target::Vfs | Target::Btrfs => put(top, &format!("{}/{id}/file", driver.home()), "x"),
            }
        }
        if driver == Target::Overlay2 {
            for (i, lower) in [(1, "l/LINK0"), (2, "l/LINK3:l/LINK1:l/LINK0"), (3, "l/LINK1:l/LINK0")] {
                put(top, &format!("overlay2/{}/lower", ids[i]), lower);
            }
        }
        (t, ids, id)
    }

    #[test]
    fn every_driver_gives_the_same_store() {
        for driver in Target::ALL {
            let (t, ids, image) = root(driver);
            let dir = Dir::open_named(t.path()).expect("root");
            assert_eq!(present(&dir).expect("present"), [driver]);
            let (store, findings) = open(&dir, driver).expect("open");
            // the layers have no tar-split
            assert!(findings.iter().all(|f| f.id == "D02"), "{findings:?}");
            assert_eq!(store.images[&image].tags, ["a:1"]);
            let strings = |l: &[LayerId]| l.iter().map(|i| i.to_string()).collect::<Vec<_>>();
            assert_eq!(strings(&store.images[&image].layers), ids[..2]);
            let container = store.containers.values().next().expect("container");
            let layer = &store.layers[container.layer.as_ref().expect("layer")];
            assert_eq!(strings(&layer.lowers), [ids[3].clone(), ids[1].clone(), ids[0].clone()], "{driver}");
            let chain = super::super::driver::chain(&dir, store.written_by, &store.layers, layer).expect("chain");
            let deep = match driver {
                Target::Overlay2 => 4,
                Target::Overlay => 2,
                Target::Vfs | Target::Btrfs => 1,
            };
            assert_eq!(chain.branches.len(), deep, "{driver}");
        }
    }

    #[test]
    fn a_lower_that_is_wrong_is_named() {
        let (t, ids, _) = root(Target::Overlay2);
        fs::remove_file(t.path().join("overlay2/l/LINK0")).expect("rm");
        let dir = Dir::open_named(t.path()).expect("root");
        let (_, findings) = open(&dir, Target::Overlay2).expect("open");
        let named = |id: &str| findings.iter().filter(|f| f.id == id).count();
        assert_eq!((named("D08"), named("C04")), (1, 1), "{findings:?}");
        assert!(open(&dir, Target::Vfs).expect_err("none").chain().contains("no vfs store"));
        assert_eq!(ids.len(), 4);
    }
}
