//! What Docker itself has changed since the switch, told apart from damage.
//!
//! ```text
//! nobody changes                   layers of images: files, link, lower, l/; layerdb/sha256, imagedb/content; of a container its record in
//!                                  layerdb/mounts, and its image
//! Docker changes while it works    writable layers (-init too), containers' configurations; repositories.json, distribution/,
//!                                  imagedb/metadata/: if the time of change is later than the switch
//! Docker takes away as a whole     an image with the layers that nothing else needs, a container with its own: records and trees
//! ```
//!
//! Whatever it changes, Docker can read it afterwards: a record that it could not load is damage.
//!
//! The kernel raises an inode's time of change (ctime) with every write, chmod, chown, link and rename, and no program can set it. So
//! what was changed before the switch was not changed by Docker. The time of the switch is itself such a time: that of `.unaufs/old`,
//! whose inode the switch touches after its last rename ([`mark`]) and nothing afterwards. No clock is asked, so a clock that was set
//! wrong between the two, and only that, can mislead it.
//!
//! A copy of a root (`cp -a`) has new times of change, in the order of copying. It is known by the inode of `.unaufs/old`, which the switch
//! notes with its time. There everything that Docker may change counts as Docker's once Docker has run, and that it has is told by the time
//! of modification, which a copy keeps.

use super::seen::Seen;
use super::{By, Difference, Side, alone};
use crate::disk::{Dir, Meta, split};
use crate::docker::driver::WrittenBy;
use crate::docker::json;
use crate::error::{Error, Result};
use crate::ids::{ChainId, LayerId};
use crate::plan::switch::{OLD, STATE};
use crate::plan::{Plan, PlanContainer, PlanImage};
use crate::store::content::{SMALL, diff_ids, layer_of_record};
use crate::store::{boot, native};
use crate::target::MERGED;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A time of change: seconds, nanoseconds.
pub type Ctime = (i64, u32);

/// What dockerd writes in ROOT each time it starts: `tmp` and, up to 20.10, `runtimes` are made again (`prepareTempDir` in daemon/daemon.go,
/// `initRuntimes` in daemon/runtime_unix.go), and the network's store gets the bridge.
const STARTED: [&str; 3] = ["tmp", "runtimes", "network/files/local-kv.db"];

/// BuildKit's list of layers; their chain ids stand in it as text (FORMATS 9.1).
const BUILD_CACHE: &str = "buildkit/snapshots.db";

/// The list of a build cache with a million layers is below this.
const MAX_BUILD_CACHE: u64 = 1 << 30;

/// The switch, as the tree shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switched {
    at: Ctime,
    /// The root was copied since.
    pub copied: bool,
}

/// What the switch notes of `.unaufs/old`, in [`MARK`].
#[derive(Serialize, Deserialize)]
struct Mark {
    ino: u64,
    ctime: Ctime,
    /// The run's id.
    #[serde(default)]
    run: Option<String>,
}

/// The file's name in the state directory.
const MARK: &str = "switched.json";

/// Makes the time that [`reference()`] reads, and notes whose switch it was: its last act.
pub fn mark(root: &Dir, run: &str) -> Result<()> {
    let Some(state) = root.open_opt(STATE)? else { return Ok(()) };
    let Some(_) = state.stat_opt("old")? else { return Ok(()) };
    state.set_mode(b"old", 0o700)?;
    let is = state.stat(b"old")?;
    let mark = serde_json::to_vec(&Mark { ino: is.ino, ctime: is.ctime, run: Some(run.to_owned()) });
    let mark = mark.map_err(|e| Error::corrupt(format!("write {MARK}")).with_source(e))?;
    // half of one, after a power cut, is as good as none
    state.write_new(MARK, &mark, 0o600)
}

/// Before a switch: forgets the one before.
pub fn unmark(root: &Dir) -> Result<()> {
    match root.open_opt(STATE)? {
        Some(state) if state.has(MARK)? => state.unlink(MARK.as_bytes()),
        _ => Ok(()),
    }
}

/// A time of change that the switch made, before Docker could run.
pub fn reference(root: &Dir) -> Result<Option<Switched>> {
    let Some(is) = root.stat_opt(OLD)? else { return Ok(None) };
    // without a note nothing shows a copy
    Ok(Some(match noted(root) {
        Some(mark) if mark.ino != is.ino => Switched { at: mark.ctime, copied: true },
        _ => Switched { at: is.ctime, copied: false },
    }))
}

/// The note, if it can be read; an earlier version made none.
fn noted(root: &Dir) -> Option<Mark> {
    let bytes = root.read_opt(format!("{STATE}/{MARK}"), SMALL).ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}

/// The id of the run that switched this root.
pub fn switched_by(root: &Dir) -> Option<String> {
    noted(root)?.run
}

/// Has Docker run on `root` since? A later time of ROOT itself says only that somebody has made or removed something in it.
pub fn docker_ran(root: &Dir, switched: Switched) -> bool {
    // a copy may have lost the parts of a second
    let later = |m: &Meta| if switched.copied { m.mtime.0 >= switched.at.0 } else { m.ctime > switched.at };
    // one that leads elsewhere through a symlink says nothing
    STARTED.iter().any(|path| root.stat_opt(path).ok().flatten().is_some_and(|m| later(&m)))
}

/// Whose a difference is.
pub enum Whose {
    /// Nobody's.
    Damage(Difference),
    /// Docker's.
    Docker(Difference),
    /// Docker's, and part of something that is told as a whole.
    Part,
}

/// A store on which Docker has run.
pub struct Since<'p> {
    plan: &'p Plan,
    new: &'p Dir,
    /// When, and in what kind of tree.
    pub switched: Switched,
    live: Remaining<'p>,
}

impl<'p> Since<'p> {
    /// Looks at what is left of the plan.
    pub fn look(plan: &'p Plan, new: &'p Dir, switched: Switched) -> Result<Since<'p>> {
        Ok(Since { plan, new, switched, live: Remaining::of(plan, new)? })
    }

    /// Whose is it?
    pub fn whose(&self, d: Difference) -> Whose {
        let later = !d.at.is_empty() && self.later(&d.at);
        self.live.whose(d, later)
    }

    /// Was it changed after the switch? Of a name that is gone the directory was. In a copy nothing shows that it was not.
    fn later(&self, path: &[u8]) -> bool {
        let mut path = path;
        loop {
            let meta = if path.is_empty() { self.new.meta().map(Some) } else { self.new.stat_opt(path) };
            match meta {
                Ok(Some(m)) => return self.switched.copied || m.ctime > self.switched.at,
                Ok(None) if !path.is_empty() => path = split(path).0,
                // a symlink on the way, or nothing at all: not as Docker leaves it
                _ => return false,
            }
        }
    }

    /// What Docker could not have done: it leaves records that it can read, and removes an image or a container as a whole.
    pub fn check(&self, seen: &Seen<'_>) -> Result<()> {
        let tags = "repositories.json";
        let path = format!("image/{}/{tags}", self.plan.options.to);
        if self.plan.metadata.iter().any(|f| f.path == tags) && !self.new.has(path)? {
            seen.damage(Difference::new("metadata", tags, "the file is missing").by(By::Records));
        }
        for d in &self.live.unreadable {
            seen.damage(d.clone());
        }
        for (id, left) in &self.live.containers {
            if let Left::Half(what) = left {
                seen.damage(Difference::new("container", *id, *what).side(Side::Itself).by(By::Records));
            }
        }
        self.gone(seen)
    }

    /// What is gone from the records is Docker's only if the layers are gone too.
    fn gone(&self, seen: &Seen<'_>) -> Result<()> {
        let mut chains: BTreeMap<LayerId, ChainId> =
            self.plan.layers.iter().filter_map(|l| Some((l.id.clone(), l.chain_id?))).collect();
        let images: BTreeMap<String, &PlanImage> = self.plan.images.iter().map(|i| (i.id.hex(), i)).collect();
        let mut cache = None;
        for hex in self.live.removed_images.keys() {
            // Docker removes these first (`Delete` in image/fs.go)
            let metadata = format!("image/{}/imagedb/metadata/sha256/{hex}", self.plan.options.to);
            if self.new.has(metadata)? {
                let what = "gone from the records, but its metadata are still there";
                seen.damage(Difference::new("image", hex, what).side(Side::Itself));
                continue;
            }
            let layers = match images.get(hex) {
                Some(image) => image.layers.clone(),
                None => self.earlier(hex, &mut chains)?,
            };
            for l in self.left(layers.iter().filter(|l| !self.live.needed.contains(*l)))? {
                let d = still_there("image", hex, l);
                match chains.get(l).map_or(Ok(false), |chain| self.cached(&mut cache, chain)) {
                    Ok(true) => continue,
                    Ok(false) => seen.note(d),
                    Err(e) => seen.failed(Difference { what: format!("{}: ", d.what), ..d }, e)?,
                }
                break;
            }
        }
        let removed = |c: &&PlanContainer| self.live.containers.get(c.id.as_str()) == Some(&Left::Nothing);
        for c in self.plan.containers.iter().filter(removed) {
            if let Some(l) = self.left(c.layer.iter().chain(&c.init))?.first() {
                seen.note(still_there("container", c.id.as_str(), l));
            }
        }
        Ok(())
    }

    /// The layers of an image that was in the store before the migration, as far as layerdb still lists them; `chains` gets their places.
    fn earlier(&self, hex: &str, chains: &mut BTreeMap<LayerId, ChainId>) -> Result<Vec<LayerId>> {
        let image = format!("image/{}", self.plan.options.to);
        let config = self.new.read_opt(format!("{OLD}/{image}/imagedb/content/sha256/{hex}"), json::LIMIT)?;
        let records = self.new.open_opt(format!("{image}/layerdb/sha256"))?;
        let (Some(config), Some(records)) = (config, records) else { return Ok(Vec::new()) };
        // what Docker itself couldn't read says nothing
        let stack = diff_ids(&config).map(|diffs| ChainId::stack(&diffs)).unwrap_or_default();
        let mut out = Vec::new();
        for chain in stack {
            if records.has(chain.hex())?
                && let Ok(layer) = layer_of_record(&records, chain)
            {
                chains.insert(layer.clone(), chain);
                out.push(layer);
            }
        }
        Ok(out)
    }

    /// Does BuildKit's cache hold the layer? Then it stays when its image is removed. `list` keeps the cache once it is read.
    fn cached(&self, list: &mut Option<Vec<u8>>, chain: &ChainId) -> Result<bool> {
        if list.is_none() {
            *list = Some(self.new.read_opt(BUILD_CACHE, MAX_BUILD_CACHE)?.unwrap_or_default());
        }
        let hex = chain.hex();
        Ok(list.as_deref().is_some_and(|list| list.windows(hex.len()).any(|w| w == hex.as_bytes())))
    }

    /// Those of the layers whose directories are there.
    fn left<'l>(&self, layers: impl Iterator<Item = &'l LayerId>) -> Result<Vec<&'l LayerId>> {
        let home = self.plan.options.to.home();
        let mut out = Vec::new();
        for l in layers {
            if self.new.has(format!("{home}/{l}"))? {
                out.push(l);
            }
        }
        Ok(out)
    }
}

/// Has Docker begun to remove the container?
fn is_removed(new: &Dir, c: &PlanContainer) -> bool {
    let text = new.read(format!("containers/{}/{}", c.id, boot::CONFIG), json::LIMIT);
    text.is_ok_and(|text| boot::config(&text, &c.id).is_ok_and(|config| config.removing))
}

fn still_there(kind: &'static str, id: &str, layer: &LayerId) -> Difference {
    let what = format!("gone from the records, but its layer {} is still there", layer.short());
    Difference::new(kind, id, what).side(Side::Itself)
}

/// What is left of a container: its directory in `containers/` and its record in `layerdb/mounts`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Both.
    Whole,
    /// Its directory: Docker is removing the container.
    Leaving,
    /// One of them, although Docker isn't removing the container: what is gone.
    Half(&'static str),
    /// None of them.
    Nothing,
}

impl Left {
    fn of(new: &Dir, image: &str, c: &PlanContainer) -> Result<Left> {
        let there = (new.has(format!("containers/{}", c.id))?, new.has(format!("{image}/layerdb/mounts/{}", c.id))?);
        Ok(match there {
            (true, true) => Left::Whole,
            (false, false) => Left::Nothing,
            (true, false) if is_removed(new, c) => Left::Leaving,
            (true, false) => Left::Half("its record in layerdb/mounts is gone, but its directory is there"),
            (false, true) => Left::Half("its directory in containers/ is gone, but its layer is there"),
        })
    }
}

/// What of the plan is still there.
struct Remaining<'p> {
    /// Records that Docker can't read.
    unreadable: Vec<Difference>,
    /// How much of each container is there.
    containers: BTreeMap<&'p str, Left>,
    /// Images that are not there any more, by the name of their file in `imagedb/content`, with a tag that they had.
    removed_images: BTreeMap<String, String>,
    /// Layers that an image or a container needs that is there, one made since too.
    needed: BTreeSet<LayerId>,
    /// The layers, by their place in layerdb.
    chains: BTreeMap<ChainId, &'p LayerId>,
    /// Containers' own layers, and what Docker itself puts into them.
    writable: BTreeSet<&'p LayerId>,
}

impl<'p> Remaining<'p> {
    fn of(plan: &'p Plan, new: &Dir) -> Result<Remaining<'p>> {
        let image = format!("image/{}", plan.options.to);
        let image_there = |i: &PlanImage| new.has(format!("{image}/imagedb/content/sha256/{}", i.id.hex()));
        let (store, findings) = native::open(new, plan.options.to)?;
        let mut needed: BTreeSet<LayerId> = store.images.values().flat_map(|i| i.layers.iter().cloned()).collect();
        for l in store.containers.values().flat_map(|c| c.layer.iter().chain(&c.init)) {
            needed.insert(l.clone());
            needed.extend(store.layers.get(l).into_iter().flat_map(|l| l.lowers.iter().cloned()));
        }
        let mut removed_images = BTreeMap::new();
        for i in &plan.images {
            if image_there(i)? {
                needed.extend(i.layers.iter().cloned());
            } else {
                removed_images.insert(i.id.hex(), i.tags.first().cloned().unwrap_or_default());
            }
        }
        // those of the target's own store have no other place in the plan
        for f in &plan.metadata {
            if let Some(hex) = f.path.strip_prefix("imagedb/content/sha256/")
                && !new.has(format!("{image}/{}", f.path))?
            {
                removed_images.entry(hex.to_owned()).or_default();
            }
        }
        let lowers: BTreeMap<&LayerId, &Vec<LayerId>> = plan.layers.iter().map(|l| (&l.id, &l.lowers)).collect();
        let mut containers = BTreeMap::new();
        for c in &plan.containers {
            let left = Left::of(new, &image, c)?;
            containers.insert(c.id.as_str(), left);
            if left != Left::Nothing {
                let own = c.layer.iter().chain(&c.init);
                needed.extend(own.flat_map(|l| lowers.get(l).into_iter().copied().flatten().chain([l])).cloned());
            }
        }
        let unreadable = findings.iter().filter_map(|f| alone::damage(f, WrittenBy::Living(plan.options.to)));
        // named by what is left of it, or Docker is at it
        let known = |d: &Difference| {
            let told = |left: &Left| matches!(left, Left::Half(_) | Left::Leaving);
            containers.iter().any(|(id, left)| told(left) && id.starts_with(&d.id))
        };
        // layers are compared one by one
        let unreadable = unreadable.filter(|d| d.kind != "layer" && !(d.kind == "container" && known(d))).collect();
        let chains = plan.layers.iter().filter_map(|l| Some((l.chain_id?, &l.id))).collect();
        let writable = plan.layers.iter().filter(|l| l.role.writable()).map(|l| &l.id).collect();
        Ok(Remaining { unreadable, containers, removed_images, needed, chains, writable })
    }

    /// Whose is it? `later`: it was changed after the switch.
    fn whose(&self, d: Difference, later: bool) -> Whose {
        let removed = |d| Difference { what: "removed".to_owned(), path: Vec::new(), at: Vec::new(), ..d };
        let part = |prefix: &str| d.id.strip_prefix(prefix)?.split('/').next();
        match d.kind {
            "container" if !d.at.is_empty() => match self.containers.get(&d.id[..]) {
                Some(Left::Half(_)) => Whose::Part,
                Some(Left::Nothing) => Whose::Docker(removed(d)),
                _ if later => Whose::Docker(d),
                _ => Whose::Damage(d),
            },
            "layer" => match LayerId::parse(&d.id) {
                Ok(l) if !self.needed.contains(&l) => Whose::Docker(removed(d)),
                Ok(l) if later && (self.writable.contains(&l) || d.what == MERGED) => Whose::Docker(d),
                _ => Whose::Damage(d),
            },
            "metadata" => {
                let image = part("imagedb/content/sha256/").and_then(|hex| self.removed_images.get_key_value(hex));
                if let Some((id, tag)) = image {
                    let (id, name) = (id.clone(), tag.clone());
                    return Whose::Docker(removed(Difference { kind: "image", id, name, ..d }));
                }
                let chain = part("layerdb/sha256/").and_then(|hex| ChainId::from_hex(hex).ok());
                let layer = chain.and_then(|c| self.chains.get(&c));
                let container = part("layerdb/mounts/").and_then(|id| self.containers.get(id));
                if layer.is_some_and(|l| !self.needed.contains(*l))
                    || matches!(container, Some(Left::Nothing | Left::Half(_)))
                    || part("imagedb/metadata/sha256/").is_some_and(|hex| self.removed_images.contains_key(hex))
                {
                    return Whose::Part;
                }
                // what the plan knows there nobody changes
                let once = d.id.starts_with("imagedb/content/") || container == Some(&Left::Whole);
                match later && layer.is_none() && !(once && d.what != super::records::EXTRA) {
                    true => Whose::Docker(d),
                    false => Whose::Damage(d),
                }
            }
            _ if later => Whose::Docker(d),
            _ => Whose::Damage(d),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_dockerd_makes_again_tells_that_it_has_started() {
        let t = tempfile::tempdir().expect("temp dir");
        let root = Dir::open_named(t.path()).expect("open");
        assert_eq!(reference(&root).expect("asked"), None);
        fs::create_dir_all(t.path().join(OLD)).expect("mkdir");
        mark(&root, "a run").expect("marked");
        let switched = reference(&root).expect("asked").expect("a time");
        assert!(!docker_ran(&root, switched), "the switch itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(t.path().join("note"), "").expect("written");
        assert!(!docker_ran(&root, switched), "an admin's own file");
        fs::create_dir(t.path().join("tmp")).expect("mkdir");
        assert!(docker_ran(&root, switched));
        assert!(!reference(&root).expect("asked").expect("a time").copied);
        unmark(&root).expect("unmarked");
        assert_eq!(reference(&root).expect("asked"), Some(switched), "of an earlier version");
    }

    #[test]
    fn a_copy_is_known_and_its_times_of_modification_count() {
        let t = tempfile::tempdir().expect("temp dir");
        let root = Dir::open_named(t.path()).expect("open");
        let (old, tmp) = (t.path().join(OLD), t.path().join("tmp"));
        fs::create_dir_all(&old).expect("mkdir");
        fs::create_dir(&tmp).expect("mkdir");
        let modified = |seconds: u64| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let times = fs::FileTimes::new().set_modified(time);
            fs::File::open(&tmp).expect("open").set_times(times).expect("times");
        };
        mark(&root, "a run").expect("marked");
        let at = reference(&root).expect("asked").expect("a time").at.0 as u64;
        // what a copy has: another inode, and times of change that are all later than the switch
        fs::rename(&old, t.path().join("keeps-the-inode")).expect("mv");
        fs::create_dir(&old).expect("mkdir");
        let switched = reference(&root).expect("asked").expect("a time");
        assert!(switched.copied);
        modified(at - 1);
        assert!(!docker_ran(&root, switched));
        modified(at);
        assert!(docker_ran(&root, switched));
    }

    #[test]
    fn what_docker_may_change_and_what_nobody_may() {
        let id = |s: &str| LayerId::parse(s).expect("id");
        let (base, gone, own) = (id("base"), id("gone"), id("own"));
        let chain = |c: char| ChainId::from_hex(&c.to_string().repeat(64)).expect("hex");
        let live = Remaining {
            unreadable: Vec::new(),
            containers: BTreeMap::from([("c", Left::Nothing), ("b", Left::Whole), ("h", Left::Half("gone"))]),
            removed_images: BTreeMap::from([("e".repeat(64), "app:1".to_owned())]),
            needed: BTreeSet::from([base.clone(), own.clone()]),
            chains: BTreeMap::from([(chain('a'), &base), (chain('b'), &gone)]),
            writable: BTreeSet::from([&own]),
        };
        let asked = |kind: &'static str, id: &str, later: bool| {
            let d = Difference::new(kind, id, "").path(if kind == "layer" { "f" } else { "" }).at("x");
            match live.whose(d, later) {
                Whose::Damage(_) => "damage".to_owned(),
                Whose::Part => "part".to_owned(),
                Whose::Docker(d) => format!("{} {}", d.kind, d.what).trim_end().to_owned(),
            }
        };
        let (a, b, e, f) = ("a".repeat(64), "b".repeat(64), "e".repeat(64), "f".repeat(64));
        for (kind, id, is, before) in [
            ("layer", "own", "layer", "damage"),
            ("layer", "gone", "layer removed", "layer removed"),
            ("layer", "base", "damage", "damage"),
            ("container", "b", "container", "damage"),
            ("container", "c", "container removed", "container removed"),
            ("metadata", "repositories.json", "metadata", "damage"),
            ("metadata", "distribution/diffid-by-digest/sha256/0", "metadata", "damage"),
            ("container", "h", "part", "part"),
            ("metadata", "layerdb/mounts/b/mount-id", "damage", "damage"),
            ("metadata", "layerdb/mounts/h/mount-id", "part", "part"),
            ("metadata", "layerdb/mounts/new/mount-id", "metadata", "damage"),
            ("metadata", "layerdb/mounts/c/mount-id", "part", "part"),
            ("metadata", &format!("layerdb/sha256/{a}/size"), "damage", "damage"),
            ("metadata", &format!("layerdb/sha256/{b}/size"), "part", "part"),
            ("metadata", &format!("imagedb/content/sha256/{e}"), "image removed", "image removed"),
            ("metadata", &format!("imagedb/content/sha256/{f}"), "damage", "damage"),
            ("metadata", &format!("imagedb/metadata/sha256/{e}/parent"), "part", "part"),
            ("metadata", &format!("imagedb/metadata/sha256/{f}/parent"), "metadata", "damage"),
        ] {
            assert_eq!(asked(kind, id, true), is, "{kind} {id}, changed after the switch");
            assert_eq!(asked(kind, id, false), before, "{kind} {id}, changed before the switch");
        }
    }
}
