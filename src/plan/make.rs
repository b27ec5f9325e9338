//! Gathers what [`super::build::plan`] needs: reads the store, counts the layers, looks at the host.

use super::PlanLayer;
use super::build::{Found, Original, add_costs, fingerprint, plan};
use super::new_root::{self, Destination, repoint};
use super::quirks::Quirk;
use super::scan::{self, Ask, Facts, Trail};
use super::{
    DockerFacts, HostFacts, Options, Plan, estimate::Pace, existing, host, quirks, renames, switch, whiteouts,
};
use crate::checks::Finding;
use crate::disk::copy::Transfer;
use crate::disk::{Dir, Meta, split};
use crate::docker::containerd::SNAPSHOTTERS;
use crate::docker::json;
use crate::error::{Error, Kind, Result};
use crate::ids::{LayerId, Sha256};
use crate::progress::Progress;
use crate::store::{self, Content, Layer, Store};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What is known before the store is looked at.
#[derive(Clone, Debug, Default)]
pub struct Earlier {
    /// Layers that turned out unreadable while running, and why.
    pub lost: BTreeMap<LayerId, String>,
    /// Image layers counted before: Docker never writes into them again, so they are not counted twice.
    pub counted: BTreeMap<LayerId, Facts>,
    /// Layers counted before that are looked at once more.
    pub seen: BTreeMap<LayerId, EarlierLayer>,
    /// Docker as the earlier plan found it on this machine.
    pub docker: Option<DockerFacts>,
}

/// What an earlier plan found in a layer.
#[derive(Clone, Debug)]
pub struct EarlierLayer {
    facts: Facts,
    lowers: Vec<LayerId>,
    shared: Shared,
}

/// Which files of a layer the new store has as links of the old ones: these are the same inodes, and our own links change their time of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shared {
    None,
    Some,
    All,
}

impl EarlierLayer {
    fn ask(&self) -> Ask {
        if self.shared == Shared::All { Ask::Listing } else { Ask::State }
    }

    /// The facts of a second look that asked no file for its attributes and no layer for those above it, if the layer can't have changed since.
    fn unchanged(&self, lowers: &[LayerId], now: Facts) -> Option<Facts> {
        let facts = &self.facts;
        let same = match self.shared {
            Shared::All => now.listing == facts.listing,
            Shared::Some => now.state == facts.state,
            Shared::None => now.state == facts.state && now.changed == facts.changed,
        };
        if !same || self.lowers != lowers {
            return None;
        }
        if self.shared == Shared::All {
            return Some(facts.clone());
        }
        let (xattrs, overlay_xattrs) = (facts.xattrs, facts.overlay_xattrs.clone());
        let (covers, idle_whiteouts) = (facts.covers.clone(), facts.idle_whiteouts);
        // a plan of an earlier version doesn't have it
        let listing = if facts.listing == 0 { 0 } else { now.listing };
        let mut facts = Facts { xattrs, overlay_xattrs, covers, idle_whiteouts, listing, ..now };
        facts.sort();
        Some(facts)
    }
}

impl Earlier {
    /// For a second look at every layer of a plan; `linked` are those whose files the new store has as links of the old ones, each of them.
    pub fn again(plan: &Plan, linked: &BTreeSet<LayerId>) -> Earlier {
        // another disk gets copies
        let may_link = |l: &PlanLayer| plan.new_root.is_none() && l.transfer.contains(&Transfer::Link);
        let shared = |l: &PlanLayer| match may_link(l) {
            true if linked.contains(&l.id) && l.facts.listing != 0 => Shared::All,
            true => Shared::Some,
            false => Shared::None,
        };
        let seen = |l: &PlanLayer| {
            (l.id.clone(), EarlierLayer { facts: l.facts.clone(), lowers: l.lowers.clone(), shared: shared(l) })
        };
        let known = Earlier::of(plan);
        Earlier { counted: BTreeMap::new(), seen: plan.layers.iter().map(seen).collect(), ..known }
    }

    /// The image layers of an earlier plan.
    pub fn of(plan: &Plan) -> Earlier {
        let images = plan.layers.iter().filter(|l| !l.role.writable());
        Earlier {
            lost: BTreeMap::new(),
            counted: images.map(|l| (l.id.clone(), l.facts.clone())).collect(),
            seen: BTreeMap::new(),
            docker: (plan.host == HostFacts::here()).then(|| plan.docker.clone()),
        }
    }
}

/// Makes the plan for ROOT. Writes nothing.
pub fn make(root: &Dir, options: &Options, known: &Earlier, progress: &dyn Progress) -> Result<Plan> {
    if let Some(docker) = &known.docker {
        host::docker_config::remember(docker.version.as_deref());
    }
    make_on(root, options, known, &host::Machine::here(options), progress)
}

/// The same, on a machine given.
pub fn make_on(
    root: &Dir,
    options: &Options,
    known: &Earlier,
    machine: &host::Machine,
    progress: &dyn Progress,
) -> Result<Plan> {
    // the host is looked at in the meantime: to start a dockerd and ask its version takes longer than to count a small store
    let (read, host) = std::thread::scope(|s| {
        let host = s.spawn(|| host::look(root, options, machine));
        let read = read(root, options, known, machine, progress);
        (read, host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (Contents { store, findings, new_root, mut counted, pace }, mut host) = (read?, host?);
    add_containers(&store, &mut host.findings);
    counted.unreadable.extend(known.lost.clone());
    let quirks = find_quirks(root, &store, &counted)?;
    let Counted { facts, unreadable, .. } = counted;
    let volumes = count_volumes(root)?;
    // a store of the target in the old root is not the one that a root in another place gets
    let existing = match new_root {
        Some(_) => existing::Existing::default(),
        None => existing::read(root, options.to, &store)?,
    };
    let state = existing.state;
    #[rustfmt::skip]
    let mut found =
        Found { container_root: container_root(root, &store), store: &store, findings, facts, unreadable, quirks, host, volumes, originals: BTreeMap::new(), pace, existing, new_root };
    let mut plan = plan(&found, options, crate::text::now());
    found.originals = originals(root, &plan)?;
    plan.switch = switch::moves(root, &store, &plan, state)?;
    plan.touched = switch::touched(root, &plan.switch)?;
    if plan.new_root.is_none() {
        renames::check(root, &plan.switch, machine, &mut plan.checks)?;
    }
    plan.fingerprint = fingerprint(&plan, &found);
    add_costs(&mut plan, &found);
    Ok(plan)
}

/// What the disk says, without the machine around it.
struct Contents {
    store: Store,
    findings: Vec<Finding>,
    new_root: Option<new_root::NewRoot>,
    counted: Counted,
    pace: Pace,
}

fn read(
    root: &Dir,
    options: &Options,
    known: &Earlier,
    machine: &host::Machine,
    progress: &dyn Progress,
) -> Result<Contents> {
    let (mut store, mut findings) = store::open(root).map_err(|e| host::docker_config::pointed(e, root, machine))?;
    // a plan that is made again follows the first one, whatever has been removed since
    if let Some(option) = options.unmatched(&store).filter(|_| known.counted.is_empty()) {
        return Err(Error::new(Kind::Usage, format!("{} doesn't match anything", crate::text::text(&option)))
            .hint("Run `unaufs inspect` to see the names."));
    }
    let place = destination(root, options)?;
    let began = std::time::Instant::now();
    // the one mostly waits for the disk, the other for the processor
    let (probed, counted) =
        rayon::join(|| store::probe::read_all(root, &store), || count(root, &store, known, progress));
    let counted = counted?;
    let pace = Pace::of(began.elapsed(), counted.facts.values());
    findings.extend(probed?.apply(&mut store));
    let new_root = place.map(|place| elsewhere(root, &place, &mut store, &mut findings)).transpose()?;
    Ok(Contents { store, findings, new_root, counted, pace })
}

/// Where the new root is to be, if that is not the old one.
fn destination(root: &Dir, options: &Options) -> Result<Option<Destination>> {
    let Some(dir) = &options.target else {
        // what is no directory is told by H08, with everything else; into a mount point one cannot look
        if matches!(root.try_open(options.to.name().as_bytes()), Err(rustix::io::Errno::XDEV)) {
            store::attached(root, options.to.name())?;
        }
        return Ok(None);
    };
    Destination::look(std::path::Path::new(dir)).map(Some)
}

/// The new root: the configurations of containers name it too.
fn elsewhere(
    root: &Dir,
    place: &Destination,
    store: &mut Store,
    findings: &mut Vec<Finding>,
) -> Result<new_root::NewRoot> {
    findings.extend(repoint::apply(root, store, &place.path)?);
    let (new_root, more) = new_root::look(root, store, place)?;
    findings.extend(more);
    Ok(new_root)
}

/// Adds the containers that a Docker 29 made in containerd's store to what is said of its images.
fn add_containers(store: &Store, findings: &mut Vec<Finding>) {
    let all = store.containers.values().filter(|c| c.foreign && SNAPSHOTTERS.contains(&c.driver.as_str()));
    let names: Vec<String> = all.map(|c| crate::text::text(&c.name)).collect();
    if names.is_empty() {
        return;
    }
    let listed = crate::text::few(names.iter().take(5).cloned(), names.len());
    let what = format!("{} ({listed})", crate::text::plural(names.len(), "container"));
    let fix = "before you stop Docker, save what you need with docker commit and docker save; load it afterwards with docker load";
    let effect = "docker ps and docker images don't show them after the migration. They aren't deleted";
    match findings.iter_mut().find(|f| f.id == "T10") {
        Some(f) => {
            f.message.push_str(&format!(", and {what}"));
            (f.fix, f.effect) = (Some(fix.to_owned()), Some(effect.to_owned()));
        }
        None => {
            let what = format!("Docker has {what} in containerd's store");
            findings.push(Finding::new("T10", "containers/", what).fix(fix).effect(effect));
        }
    }
}

/// Volumes stay where they are. Their directory may be a symlink or a mount of the user's: then they are not counted.
fn count_volumes(root: &Dir) -> Result<usize> {
    use rustix::io::Errno;
    let dir = match root.try_open(b"volumes") {
        Ok(dir) => dir,
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => return Ok(0),
        Err(e) => return Err(crate::error::Error::io(format!("open directory {}", root.show(b"volumes")), e)),
    };
    let mut count = 0;
    let listed = dir.for_each(|_, kind, _| {
        count += usize::from(kind == crate::disk::FileType::Directory);
        Ok(())
    });
    match listed {
        // a disk that failed is noted, and stops who doesn't want to keep going
        Err(e) if crate::error::check_disk(false).is_ok() => Err(e),
        _ => Ok(count),
    }
}

/// Docker's own files in the old root that are made again, by path.
fn originals(root: &Dir, plan: &Plan) -> Result<BTreeMap<String, Original>> {
    let metadata = plan.metadata.iter().map(|f| (&f.content, false));
    let configs = plan.containers.iter().flat_map(|c| c.files.iter().map(|f| (&f.content, true)));
    // each directory is opened once
    let mut by_directory: BTreeMap<&[u8], Vec<(&String, bool)>> = BTreeMap::new();
    for (content, rewritten) in metadata.chain(configs) {
        if let Content::Same(path) | Content::Edited(path, _) = content {
            by_directory.entry(split(path.as_bytes()).0).or_default().push((path, rewritten));
        }
    }
    let look = |(directory, paths): (&[u8], Vec<(&String, bool)>)| -> Result<Vec<(String, Original)>> {
        let Some(at) = root.open_opt(directory)? else { return Ok(Vec::new()) };
        let look = |(path, rewritten): (&String, bool)| {
            let m = at.stat_opt(split(path.as_bytes()).1)?;
            Ok(m.map(|m| (path.clone(), Original { size: m.size, state: state(root, path, &m, rewritten) })))
        };
        paths.into_iter().filter_map(|one| look(one).transpose()).collect()
    };
    let found: Vec<Vec<(String, Original)>> = by_directory.into_par_iter().map(look).collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// Changes when the file does. What the switch parks and a rollback puts back gets another time of change by that: its content counts.
fn state(root: &Dir, path: &str, m: &Meta, rewritten: bool) -> String {
    let content = rewritten.then(|| root.read(path, json::LIMIT).map(|b| Sha256::of(&b).to_string()));
    match content {
        Some(Ok(digest)) => format!("{digest} {} {:o} {}:{}", m.size, m.mode, m.uid, m.gid),
        // a file that cannot be read is named by the checks of the store
        Some(Err(_)) | None => format!("{:?} {:?} {} {:o} {}:{}", m.mtime, m.ctime, m.size, m.mode, m.uid, m.gid),
    }
}

/// The content of the layers.
#[derive(Default)]
struct Counted {
    facts: BTreeMap<LayerId, Facts>,
    /// Of those that were counted now.
    trails: BTreeMap<LayerId, Trail>,
    /// Why a layer could not be read.
    unreadable: BTreeMap<LayerId, String>,
}

/// Counts layers once more in which nothing should have changed, all at the same time: what they say about each other is known. `None` if
/// any has changed, or was not looked at before.
fn count_again(root: &Dir, store: &Store, known: &Earlier, progress: &dyn Progress) -> Result<Option<Counted>> {
    let sound = || store.layers.values().filter(|l| l.broken.is_none());
    let Some(seen) = sound().map(|l| Some((l, known.seen.get(&l.id)?))).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    progress.phase("scan", seen.len() as u64);
    let look = |(layer, seen): (&Layer, &EarlierLayer)| {
        let found = scan::scan(root.open(layer.source())?, &scan::Above::default(), seen.ask())?;
        progress.step(&layer.id.short());
        Ok(seen.unchanged(&layer.lowers, found.facts).map(|facts| (layer.id.clone(), facts, found.trail)))
    };
    let found: Result<Option<Vec<_>>> = seen.into_par_iter().map(look).collect();
    crate::disk::here::leave_all();
    let Ok(Some(found)) = found else {
        // whatever keeps one from being read is found again, and said of that layer
        crate::stop::check()?;
        return Ok(None);
    };
    let mut out = Counted::default();
    for (id, facts, trail) in found {
        out.facts.insert(id.clone(), facts);
        out.trails.insert(id, trail);
    }
    Ok(Some(out))
}

/// Counts every sound layer, those with the most layers below first: what a layer says about those below it must be known before these.
fn count(root: &Dir, store: &Store, known: &Earlier, progress: &dyn Progress) -> Result<Counted> {
    if let Some(counted) = count_again(root, store, known, progress)? {
        return Ok(counted);
    }
    let mut by_depth: BTreeMap<usize, Vec<&Layer>> = BTreeMap::new();
    let mut out = Counted::default();
    for l in store.layers.values().filter(|l| l.broken.is_none()) {
        match known.counted.get(&l.id).filter(|_| !l.role.writable()) {
            Some(f) => drop(out.facts.insert(l.id.clone(), f.clone())),
            None => by_depth.entry(l.lowers.len()).or_default().push(l),
        }
    }
    let mut above = scan::Above::default();
    progress.phase("scan", by_depth.values().map(Vec::len).sum::<usize>() as u64);
    for level in by_depth.values().rev() {
        let counted: Vec<(&Layer, Result<scan::Found>)> = level
            .par_iter()
            .map(|l| {
                let found = root.open(l.source()).and_then(|dir| scan::scan(dir, &above, Ask::All));
                progress.step(&l.id.short());
                (*l, found)
            })
            .collect();
        for (l, found) in counted {
            match found {
                Ok(mut found) => {
                    found.facts.sort();
                    above.add(&found.trail);
                    out.facts.insert(l.id.clone(), found.facts);
                    out.trails.insert(l.id.clone(), found.trail);
                }
                // out of descriptors or memory: that is this process's, not the layer's
                Err(e) if e.kind() == crate::error::Kind::Failed && !e.is_exhaustion() => {
                    out.unreadable.insert(l.id.clone(), e.chain());
                }
                Err(e) => return Err(e),
            }
        }
        crate::stop::check()?;
    }
    crate::disk::here::leave_all();
    let lowers = |id: &LayerId| store.layers.get(id).map_or(&[][..], |l| &l.lowers[..]);
    for (id, idle) in whiteouts::idle(&out.trails, lowers)? {
        if let Some(f) = out.facts.get_mut(id) {
            f.idle_whiteouts = Some(idle);
        }
    }
    Ok(out)
}

/// Where aufs showed something else: each path once, for the layer with which that begins. What is based on this layer shows the same.
fn find_quirks(root: &Dir, store: &Store, counted: &Counted) -> Result<Vec<Quirk>> {
    let facts = &counted.facts;
    let mut out = Vec::new();
    for (id, f) in facts {
        let long = f.long_names.first.iter();
        out.extend(long.map(|p| Quirk { layer: id.clone(), path: with_slash(p), id: "L07".to_owned() }));
    }
    let candidates = quirks::Candidates::of(facts, &counted.trails);
    let layers: Vec<&Layer> =
        store.layers.values().filter(|l| facts.contains_key(&l.id) && l.broken.is_none()).collect();
    let found: Vec<Vec<Quirk>> = layers
        .par_iter()
        .map(|l| {
            let spots = candidates.in_layer(&l.id, &l.lowers);
            if spots.is_empty() {
                return Ok(Vec::new());
            }
            crate::stop::check()?;
            let chain = store.chain(root, &l.id)?;
            let mut paths = Vec::new();
            for spot in spots {
                paths.extend(quirks::shown_by_aufs_only(&chain, spot)?);
            }
            let quirk = |p: Vec<u8>| Quirk { layer: l.id.clone(), path: with_slash(&p), id: "L06".to_owned() };
            Ok(paths.into_iter().map(quirk).collect())
        })
        .collect::<Result<_>>()?;
    out.extend(found.into_iter().flatten());
    out.sort();
    out.dedup();
    Ok(out)
}

fn with_slash(p: &[u8]) -> Vec<u8> {
    [b"/", p].concat()
}

/// What root in the store's containers is outside: 0, but of a Docker with userns-remap. Who isn't root makes a store of files of their own.
fn container_root(root: &Dir, store: &Store) -> (u32, u32) {
    if !rustix::process::geteuid().is_root() {
        return (0, 0);
    }
    let owners = store.owners(root);
    (owners.uid, owners.gid)
}
