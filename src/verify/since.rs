//! What Docker itself has changed since the switch: its own to change, and told apart from what nobody may change.
//!
//! ```text
//! nobody changes                   layers of images: files, link, lower, l/; layerdb/sha256, imagedb/content
//! Docker changes while it works    containers' layers (-init too) and configurations; repositories.json, distribution/, imagedb/metadata/,
//!                                  layerdb/mounts/
//! Docker takes away as a whole     an image with the layers that nothing else needs, a container with its own
//! ```
//!
//! Only once Docker has run: until then nobody had a reason to change anything. From then on nothing can tell what a container wrote from
//! damage to its layer, so such paths are listed, and are no verdict.

use super::{Difference, Report};
use crate::disk::Dir;
use crate::error::Result;
use crate::ids::{ChainId, LayerId};
use crate::plan::{Plan, PlanContainer, PlanImage};
use std::collections::{BTreeMap, BTreeSet};

/// No real `repositories.json` is longer.
const MAX_TAGS: u64 = 1 << 30;

/// Files below `image/<driver>` that Docker writes while it works.
const LIVE: [&str; 4] = ["repositories.json", "distribution/", "imagedb/metadata/", "layerdb/mounts/"];

/// Has Docker run on `root` since the switch, which was noted at `switched`, in seconds? dockerd makes ROOT/tmp anew each time it starts
/// (`prepareTempDir` in daemon/daemon.go), and with it ROOT has a later time than the last rename of the switch.
pub fn docker_ran(root: &Dir, switched: i64) -> Result<bool> {
    Ok(root.meta()?.mtime.0 > switched)
}

/// Sets apart what Docker may have changed in the new store at `new`.
pub fn set_apart(plan: &Plan, new: &Dir, report: &mut Report) -> Result<()> {
    let live = Live::of(plan, new)?;
    report.docker_ran = true;
    let mut since: Vec<Difference> = report.differences.extract_if(.., |d| live.owns(d)).collect();
    for d in since.iter_mut().filter(|d| live.took_away(d)) {
        "removed".clone_into(&mut d.what);
        d.path.clear();
    }
    // of what is gone every part is missing: once is enough
    since.dedup();
    report.changed_since = since;
    Ok(())
}

/// What of the plan is still there.
struct Live<'p> {
    /// Containers that are not there any more.
    removed_containers: BTreeSet<&'p str>,
    /// `imagedb/content` names images that are not there any more.
    removed_images: BTreeSet<String>,
    /// Layers that an image or a container needs that is there.
    needed: BTreeSet<&'p LayerId>,
    /// The layers, by their place in layerdb.
    chains: BTreeMap<ChainId, &'p LayerId>,
    /// Containers' own layers, and what Docker itself puts into them.
    writable: BTreeSet<&'p LayerId>,
}

impl<'p> Live<'p> {
    fn of(plan: &'p Plan, new: &Dir) -> Result<Live<'p>> {
        let image = format!("image/{}", plan.options.to);
        let tags = new.read_opt(format!("{image}/repositories.json"), MAX_TAGS)?.unwrap_or_default();
        let tags = String::from_utf8_lossy(&tags);
        // a tag that is left says that Docker did not take the image away
        let image_there = |i: &PlanImage| -> Result<bool> {
            Ok(tags.contains(&i.id.hex()) || new.has(format!("{image}/imagedb/content/sha256/{}", i.id.hex()))?)
        };
        let container_there = |c: &PlanContainer| -> Result<bool> {
            Ok(new.has(format!("containers/{}", c.id))? || new.has(format!("{image}/layerdb/mounts/{}", c.id))?)
        };
        let mut removed_images = BTreeSet::new();
        let mut needed: BTreeSet<&LayerId> = BTreeSet::new();
        for i in &plan.images {
            if image_there(i)? {
                needed.extend(&i.layers);
            } else {
                removed_images.insert(i.id.hex());
            }
        }
        let lowers: BTreeMap<&LayerId, &Vec<LayerId>> = plan.layers.iter().map(|l| (&l.id, &l.lowers)).collect();
        let mut removed_containers = BTreeSet::new();
        for c in &plan.containers {
            if container_there(c)? {
                let own = c.layer.iter().chain(&c.init);
                needed.extend(own.flat_map(|l| lowers.get(l).into_iter().copied().flatten().chain([l])));
            } else {
                removed_containers.insert(c.id.as_str());
            }
        }
        let chains = plan.layers.iter().filter_map(|l| Some((l.chain_id?, &l.id))).collect();
        let writable = plan.layers.iter().filter(|l| l.role.writable()).map(|l| &l.id).collect();
        Ok(Live { removed_containers, removed_images, needed, chains, writable })
    }

    /// Is it Docker's to change?
    fn owns(&self, d: &Difference) -> bool {
        match d.kind {
            "container" => true,
            "layer" => LayerId::parse(&d.id).is_ok_and(|l| self.writable.contains(&l) || !self.needed.contains(&l)),
            "metadata" => self.owns_file(&d.id),
            _ => false,
        }
    }

    /// Is it a part of something that Docker removed as a whole?
    fn took_away(&self, d: &Difference) -> bool {
        let container = |id: &str| self.removed_containers.contains(id);
        match d.kind {
            "container" => container(&d.id),
            "layer" => LayerId::parse(&d.id).is_ok_and(|l| !self.needed.contains(&l)),
            _ => match d.id.strip_prefix("layerdb/mounts/") {
                Some(mount) => mount.split('/').next().is_some_and(container),
                None => !LIVE.iter().any(|l| d.id.starts_with(l)),
            },
        }
    }

    /// A file below `image/<driver>`.
    fn owns_file(&self, path: &str) -> bool {
        if LIVE.iter().any(|l| path.starts_with(l)) {
            return true;
        }
        if let Some(hex) = path.strip_prefix("imagedb/content/sha256/") {
            return self.removed_images.contains(hex);
        }
        let chain = path.strip_prefix("layerdb/sha256/").and_then(|rest| rest.split('/').next());
        let layer = chain.and_then(|hex| self.chains.get(&ChainId::from_hex(hex).ok()?));
        layer.is_some_and(|l| !self.needed.contains(l))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_later_time_of_the_root_tells_that_docker_has_started() {
        let t = tempfile::tempdir().expect("temp dir");
        let root = Dir::open_named(t.path()).expect("open");
        let made = root.meta().expect("meta").mtime.0;
        assert!(!docker_ran(&root, made).expect("asked"), "the switch itself");
        let later = fs::FileTimes::new()
            .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(made.unsigned_abs() + 1));
        fs::File::open(t.path()).expect("open").set_times(later).expect("times");
        assert!(docker_ran(&root, made).expect("asked"));
    }

    #[test]
    fn what_docker_may_change_and_what_nobody_may() {
        let id = |s: &str| LayerId::parse(s).expect("id");
        let (base, gone, own) = (id("base"), id("gone"), id("own"));
        let chain = |c: char| ChainId::from_hex(&c.to_string().repeat(64)).expect("hex");
        let live = Live {
            removed_containers: BTreeSet::from(["c"]),
            removed_images: BTreeSet::from(["e".repeat(64)]),
            needed: BTreeSet::from([&base, &own]),
            chains: BTreeMap::from([(chain('a'), &base), (chain('b'), &gone)]),
            writable: BTreeSet::from([&own]),
        };
        let asked = |kind: &'static str, id: &str| {
            let (name, path, what, side) = (String::new(), Vec::new(), String::new(), super::super::Side::Between);
            let d = Difference { kind, id: id.to_owned(), name, path, what, side };
            (live.owns(&d), live.owns(&d) && live.took_away(&d))
        };
        let (a, b, e, f) = ("a".repeat(64), "b".repeat(64), "e".repeat(64), "f".repeat(64));
        let (no, changed, removed) = ((false, false), (true, false), (true, true));
        for (kind, id, is) in [
            ("layer", "own", changed),
            ("layer", "gone", removed),
            ("layer", "base", no),
            ("container", "b", changed),
            ("container", "c", removed),
            ("metadata", "repositories.json", changed),
            ("metadata", "distribution/diffid-by-digest/sha256/0", changed),
            ("metadata", "layerdb/mounts/b/mount-id", changed),
            ("metadata", "layerdb/mounts/c/mount-id", removed),
            ("metadata", &format!("layerdb/sha256/{a}/size"), no),
            ("metadata", &format!("layerdb/sha256/{b}/size"), removed),
            ("metadata", &format!("layerdb/sha256/{f}/size"), no),
            ("metadata", &format!("imagedb/content/sha256/{e}"), removed),
            ("metadata", &format!("imagedb/content/sha256/{f}"), no),
            ("metadata", "else", no),
            ("image", "base", no),
        ] {
            assert_eq!(asked(kind, id), is, "{kind} {id}");
        }
    }
}
