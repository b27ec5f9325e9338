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
    let since: Vec<Difference> = report.differences.extract_if(.., |d| live.owns(d)).collect();
    let mut since: Vec<Difference> = since.into_iter().filter_map(|d| live.told(d)).collect();
    // of what is gone every part is missing: once is enough
    since.sort();
    since.dedup();
    report.changed_since = since;
    Ok(())
}

/// What of the plan is still there.
struct Live<'p> {
    /// Containers that are not there any more.
    removed_containers: BTreeSet<&'p str>,
    /// Images that are not there any more, by the name of their file in `imagedb/content`, with a tag that they had.
    removed_images: BTreeMap<String, String>,
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
        let mut removed_images = BTreeMap::new();
        let mut needed: BTreeSet<&LayerId> = BTreeSet::new();
        for i in &plan.images {
            if image_there(i)? {
                needed.extend(&i.layers);
            } else {
                removed_images.insert(i.id.hex(), i.tags.first().cloned().unwrap_or_default());
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

    /// As it is to be told: of what Docker removed as a whole, only that.
    fn told(&self, d: Difference) -> Option<Difference> {
        let removed = |d| Difference { what: "removed".to_owned(), path: Vec::new(), ..d };
        match d.kind {
            "container" if self.removed_containers.contains(&d.id[..]) => Some(removed(d)),
            "layer" if LayerId::parse(&d.id).is_ok_and(|l| !self.needed.contains(&l)) => Some(removed(d)),
            "metadata" => {
                let part = |prefix: &str| d.id.strip_prefix(prefix)?.split('/').next();
                if let Some((id, tag)) =
                    part("imagedb/content/sha256/").and_then(|hex| self.removed_images.get_key_value(hex))
                {
                    return Some(removed(Difference { kind: "image", id: id.clone(), name: tag.clone(), ..d }));
                }
                let record = part("layerdb/sha256/").is_some()
                    || part("layerdb/mounts/").is_some_and(|id| self.removed_containers.contains(id))
                    || part("imagedb/metadata/sha256/").is_some_and(|hex| self.removed_images.contains_key(hex));
                (!record).then_some(d)
            }
            _ => Some(d),
        }
    }

    /// A file below `image/<driver>`.
    fn owns_file(&self, path: &str) -> bool {
        if LIVE.iter().any(|l| path.starts_with(l)) {
            return true;
        }
        if let Some(hex) = path.strip_prefix("imagedb/content/sha256/") {
            return self.removed_images.contains_key(hex);
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
            removed_images: BTreeMap::from([("e".repeat(64), "app:1".to_owned())]),
            needed: BTreeSet::from([&base, &own]),
            chains: BTreeMap::from([(chain('a'), &base), (chain('b'), &gone)]),
            writable: BTreeSet::from([&own]),
        };
        let asked = |kind: &'static str, id: &str| {
            let (name, path, what, side) = (String::new(), Vec::new(), String::new(), super::super::Side::Between);
            let d = Difference { kind, id: id.to_owned(), name, path, what, side };
            if !live.owns(&d) {
                return "damage".to_owned();
            }
            live.told(d).map_or("part".to_owned(), |d| format!("{} {}", d.kind, d.what).trim_end().to_owned())
        };
        let (a, b, e, f) = ("a".repeat(64), "b".repeat(64), "e".repeat(64), "f".repeat(64));
        for (kind, id, is) in [
            ("layer", "own", "layer"),
            ("layer", "gone", "layer removed"),
            ("layer", "base", "damage"),
            ("container", "b", "container"),
            ("container", "c", "container removed"),
            ("metadata", "repositories.json", "metadata"),
            ("metadata", "distribution/diffid-by-digest/sha256/0", "metadata"),
            ("metadata", "layerdb/mounts/b/mount-id", "metadata"),
            ("metadata", "layerdb/mounts/c/mount-id", "part"),
            ("metadata", &format!("layerdb/sha256/{a}/size"), "damage"),
            ("metadata", &format!("layerdb/sha256/{b}/size"), "part"),
            ("metadata", &format!("layerdb/sha256/{f}/size"), "damage"),
            ("metadata", &format!("imagedb/content/sha256/{e}"), "image removed"),
            ("metadata", &format!("imagedb/content/sha256/{f}"), "damage"),
            ("metadata", &format!("imagedb/metadata/sha256/{e}/parent"), "part"),
            ("metadata", &format!("imagedb/metadata/sha256/{f}/parent"), "metadata"),
            ("metadata", "else", "damage"),
            ("image", "base", "damage"),
        ] {
            assert_eq!(asked(kind, id), is, "{kind} {id}");
        }
    }
}
