//! [`plan`]: from what was read to what will be done. Pure.

use super::estimate::Pace;
use super::existing::Existing;
use super::host::Host;
use super::names::Names;
use super::new_root::NewRoot;
use super::quirks::Quirk;
use super::scan::Facts;
use super::*;
use crate::checks::{self, Finding};
use crate::disk::copy::Transfer;
use crate::docker::driver;
use crate::store::{DAMAGED, Image, Lost, SETTINGS, Store};
use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap};

/// Everything that was looked at.
pub struct Found<'a> {
    /// The host's numbers of the container's user 0.
    pub container_root: (u32, u32),
    /// The store.
    pub store: &'a Store,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// The content of each sound layer.
    pub facts: BTreeMap<LayerId, Facts>,
    /// Layers whose content could not be read, and why.
    pub unreadable: BTreeMap<LayerId, String>,
    /// Where aufs showed something else.
    pub quirks: Vec<Quirk>,
    /// The machine.
    pub host: Host,
    /// Volumes.
    pub volumes: usize,
    /// Docker's files in the old root that are made again, by path.
    pub originals: BTreeMap<String, Original>,
    /// How fast the layers were read.
    pub pace: Pace,
    /// The target's own store.
    pub existing: Existing,
    /// The new root in another place.
    pub new_root: Option<NewRoot>,
}

/// A file of the old root that is made again.
#[derive(Clone, Debug, Default)]
pub struct Original {
    /// Its bytes.
    pub size: u64,
    /// Changes when the file does.
    pub state: String,
}

/// Decides everything but the renames of the switch.
pub fn plan(found: &Found<'_>, options: &Options, now: String) -> Plan {
    let store = found.store;
    let mut decided = merge::decide(store, &found.existing, options.to);
    let wanted = select(found, options, &decided);
    decided.references.retain(|_, (id, _)| wanted.images.contains(id));
    let mut layers = plan_layers(found, options, &wanted);
    let images = plan_images(store, &layers, &wanted, &decided);
    let containers = plan_containers(store, &layers, &wanted);
    mark_children(&mut layers);
    let mut checks = found.findings.clone();
    checks.extend(found.host.findings.clone());
    checks.extend(merge::findings(options.to, &found.existing, &decided));
    content::layers(&layers, options.to, found, &mut checks);
    content::quirks(&found.quirks, &mut checks);
    content::deep(store, options.to, &mut checks);
    let wrote = super::host::wrote(found.store.generation, &found.host.aufs).to_owned();
    content::to_stop(&containers, found.host.docker.running, &mut checks);
    let metadata = plan_metadata(found, &wanted, &images, options.to);
    let mut new_root = found.new_root.clone();
    if let Some(e) = &mut new_root {
        e.keep_containers(|id| containers.iter().any(|c| c.id.as_str() == id));
    }
    let a = found.existing.top.as_ref().unwrap_or(&found.host.aufs);
    let parents = layers.iter().filter_map(|l| l.lowers.first().cloned()).collect();
    let left_behind = left_behind(found, &wanted, &decided, options.to);
    Plan {
        schema: SCHEMA.to_owned(),
        tool: Tool::default(),
        created: now,
        host: found.host.facts.clone(),
        docker: super::DockerFacts { wrote, ..found.host.docker.clone() },
        root: RootFacts { path: found.host.path.clone(), fs: found.host.fs.clone(), room: found.host.room },
        generation: store.generation,
        options: options.clone(),
        summary: summary(found, &images, &layers, &containers),
        checks,
        estimates: Vec::new(),
        damage: damage::group(store, &left_behind),
        left_behind,
        quirks: found.quirks.clone(),
        style: Style::of(a.mode, (a.uid, a.gid), found.container_root),
        metadata,
        new_root,
        merge: merge::merge(store, &found.existing, &decided, &parents),
        switch: Vec::new(),
        touched: Vec::new(),
        rollback: way_back(options, &found.host),
        fingerprint: Fingerprint::default(),
        images,
        layers,
        containers,
    }
}

fn summary(found: &Found<'_>, images: &[PlanImage], layers: &[PlanLayer], containers: &[PlanContainer]) -> Summary {
    Summary {
        images: images.len(),
        tags: images.iter().map(|i| i.tags.len() + i.digests.len()).sum(),
        layers: layers.len(),
        containers: containers.len(),
        volumes: found.volumes,
        bytes: layers.iter().map(|l| l.facts.bytes).sum(),
        writable_bytes: layers.iter().filter(|l| l.role.writable()).map(|l| l.facts.bytes).sum(),
        files: layers.iter().map(|l| l.facts.files + l.facts.directories).sum(),
    }
}

/// Adds what the plan costs, and with that the last of the checks.
pub fn add_costs(plan: &mut Plan, found: &Found<'_>) {
    plan.estimates = estimate::all(plan, found);
    content::space(&plan.estimates, &found.host.new_room, &mut plan.checks);
    super::fine::add_fine(&mut plan.checks, plan.generation, plan.options.to, &found.host.unseen);
    checks::allow(&mut plan.checks, &plan.options.allow);
    plan.checks
        .sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.id.cmp(&b.id)).then_with(|| a.subject.cmp(&b.subject)));
}

/// What moves.
struct Wanted {
    images: BTreeSet<ImageId>,
    containers: BTreeSet<ContainerId>,
    layers: BTreeSet<LayerId>,
    /// Why something sound does not.
    excluded: HashMap<String, String>,
    /// Containers for which the target's store has no room, and why.
    clashing: BTreeMap<String, String>,
    /// Layers that turned out unreadable or too deep, and all above them.
    damaged: BTreeMap<LayerId, Unsound>,
}

/// A layer that cannot move although its metadata are sound.
struct Unsound {
    reason: String,
    /// The layer that it is because of.
    cause: Cause,
}

fn select(found: &Found<'_>, options: &Options, decided: &merge::Decisions) -> Wanted {
    let store = found.store;
    let damaged = unsound(found, options, &decided.refused);
    let mut w = Wanted {
        images: BTreeSet::new(),
        containers: BTreeSet::new(),
        layers: BTreeSet::new(),
        excluded: HashMap::new(),
        clashing: decided.containers.clone(),
        damaged,
    };
    let sound = |id: &LayerId, w: &Wanted| {
        store.layers.get(id).is_some_and(|l| l.broken.is_none()) && !w.damaged.contains_key(id)
    };
    for image in store.images.values().filter(|i| i.broken.is_none()) {
        if !image.layers.iter().all(|l| sound(l, &w)) {
            continue;
        }
        let mut names: Vec<&str> = image.tags.iter().chain(&image.digests).map(String::as_str).collect();
        let id = image.id.to_string();
        names.push(&id);
        if let Some(why) = options.refuses("image", &names) {
            w.excluded.insert(image.id.to_string(), why);
            continue;
        }
        w.images.insert(image.id);
        w.layers.extend(image.layers.iter().cloned());
    }
    for c in store.containers.values().filter(|c| c.broken.is_none() && !c.foreign) {
        let own = [&c.layer, &c.init];
        if own.into_iter().flatten().any(|l| !sound(l, &w)) {
            continue;
        }
        if let Some(why) = options.refuses("container", &[c.name.as_str(), c.id.as_str()]) {
            w.excluded.insert(c.id.to_string(), why);
            continue;
        }
        if w.clashing.contains_key(c.id.as_str()) {
            continue;
        }
        w.containers.insert(c.id.clone());
        for l in own.into_iter().flatten() {
            w.layers.insert(l.clone());
            w.layers.extend(store.layers.get(l).into_iter().flat_map(|l| l.lowers.iter().cloned()));
        }
    }
    // layers that no image needs any more, for example of an image whose config is damaged: their data moves anyway
    if options.only.is_empty() && options.exclude.is_empty() {
        let rest = store.layers.values().filter(|l| l.role == Role::Image && sound(&l.id, &w)).map(|l| l.id.clone());
        let rest: Vec<LayerId> = rest.collect();
        w.layers.extend(rest);
    }
    w.layers.retain(|l| !decided.kept.contains_key(l));
    w
}

/// Layers that cannot move although their metadata are sound, and all that are based on them.
fn unsound(found: &Found<'_>, options: &Options, refused: &BTreeMap<LayerId, String>) -> BTreeMap<LayerId, Unsound> {
    let mut first = found.unreadable.clone();
    first.extend(refused.clone());
    for l in found.store.layers.values() {
        if options.to == Target::Overlay2 && l.lowers.len() > driver::MAX_LOWERS {
            first.insert(
                l.id.clone(),
                format!("it has {} layers below it, and overlay2 takes at most 128", l.lowers.len()),
            );
        }
    }
    let cause = |id: &LayerId, why: &String| Cause::layer(id.short(), why.clone());
    let mut out: BTreeMap<LayerId, Unsound> = BTreeMap::new();
    for l in found.store.layers.values() {
        // the lowest of several counts
        let below = l.lowers.iter().rev().find_map(|b| Some((b, first.get(b)?)));
        let own = first.get(&l.id);
        let Some((bad, why)) = below.or(own.map(|why| (&l.id, why))) else { continue };
        let reason = own.cloned().unwrap_or_else(|| format!("the layer {} below it can't be migrated", bad.short()));
        out.insert(l.id.clone(), Unsound { reason, cause: cause(bad, why) });
    }
    out
}

impl Options {
    /// The first of `--only` and `--exclude` that no image and no container matches: most likely a typing error.
    pub fn unmatched(&self, store: &Store) -> Option<String> {
        let image = |i: &Image| [&i.tags[..], &i.digests, &[i.id.to_string()]].concat();
        let images = store.images.values().map(|i| ("image", image(i)));
        let containers = store.containers.values().map(|c| ("container", vec![c.name.clone(), c.id.to_string()]));
        let all: Vec<(&str, Vec<String>)> = images.chain(containers).collect();
        let rules = [("--only", &self.only), ("--exclude", &self.exclude)];
        let mut rules = rules.into_iter().flat_map(|(option, rules)| rules.iter().map(move |r| (option, r)));
        rules.find_map(|(option, rule)| {
            let (kind, glob) = rule.split_once('=')?;
            let pattern = wildmatch::WildMatch::new(glob);
            let hit = all.iter().any(|(k, names)| *k == kind && names.iter().any(|n| pattern.matches(n)));
            (!hit).then(|| format!("{option} {rule}"))
        })
    }

    /// Why `--only` or `--exclude` keeps something with these names from moving.
    fn refuses(&self, kind: &str, names: &[&str]) -> Option<String> {
        let matches = |rules: &[String]| {
            let globs: Vec<&str> = rules.iter().filter_map(|r| r.strip_prefix(kind)?.strip_prefix('=')).collect();
            let hit = globs.iter().any(|g| {
                let pattern = wildmatch::WildMatch::new(g);
                names.iter().any(|n| pattern.matches(n))
            });
            (globs.is_empty(), hit)
        };
        if matches(&self.exclude).1 {
            return Some("excluded by --exclude".to_owned());
        }
        match matches(&self.only) {
            (false, false) => Some("not selected by --only".to_owned()),
            _ => None,
        }
    }
}

fn plan_layers(found: &Found<'_>, options: &Options, wanted: &Wanted) -> Vec<PlanLayer> {
    let mut out: Vec<PlanLayer> = wanted
        .layers
        .iter()
        .filter_map(|id| found.store.layers.get(id))
        .map(|l| PlanLayer {
            id: l.id.clone(),
            role: l.role,
            chain_id: l.chain,
            diff_id: l.diff,
            lowers: l.lowers.clone(),
            source: l.source(),
            tar_split: l.tar_split,
            transfer: transfer(options.mode, l.role, options.to),
            link: merge::free_link(&l.id, &found.existing),
            has_child: false,
            facts: found.facts.get(&l.id).cloned().unwrap_or_default(),
        })
        .collect();
    // parents first, then by id: the same store gives the same plan
    out.sort_by(|a, b| a.lowers.len().cmp(&b.lowers.len()).then_with(|| a.id.cmp(&b.id)));
    out
}

/// The ways a layer's files may take. A writable layer never shares inodes with the old store: overlayfs writes into its upper files in
/// place, and the way back would be gone.
fn transfer(mode: Mode, role: Role, to: Target) -> Vec<Transfer> {
    use Transfer::*;
    // no inode can be in two subvolumes; their extents can
    let no_link = role.writable() || to == Target::Btrfs;
    match (mode, no_link) {
        (Mode::Auto, false) => vec![Link, Clone, Copy],
        (Mode::Link, false) => vec![Link, Copy],
        (Mode::Auto | Mode::Clone | Mode::Link, _) => vec![Clone, Copy],
        (Mode::Copy, _) => vec![Copy],
    }
}

fn mark_children(layers: &mut [PlanLayer]) {
    let parents: BTreeSet<LayerId> = layers.iter().filter_map(|l| l.lowers.first().cloned()).collect();
    for l in layers {
        l.has_child = parents.contains(&l.id);
    }
}

fn plan_images(store: &Store, layers: &[PlanLayer], wanted: &Wanted, decided: &merge::Decisions) -> Vec<PlanImage> {
    let free = |all: &[String]| all.iter().filter(|r| !decided.references.contains_key(*r)).cloned().collect();
    let bytes: HashMap<&LayerId, u64> = layers.iter().map(|l| (&l.id, l.facts.bytes)).collect();
    let mut users: HashMap<&LayerId, usize> = HashMap::new();
    let moving = || store.images.values().filter(|i| wanted.images.contains(&i.id));
    for l in moving().flat_map(|i| i.layers.iter().collect::<BTreeSet<_>>()) {
        *users.entry(l).or_default() += 1;
    }
    moving()
        .map(|i| {
            let own: BTreeSet<&LayerId> = i.layers.iter().collect();
            let sum = |shared: bool| {
                let of_kind = own.iter().filter(|l| (users.get(**l).copied().unwrap_or(0) > 1) == shared);
                of_kind.map(|l| bytes.get(*l).copied().unwrap_or(0)).sum::<u64>()
            };
            let (unique, shared) = (sum(false), sum(true));
            PlanImage {
                id: i.id,
                old_id: i.old_id.clone(),
                tags: free(&i.tags),
                digests: free(&i.digests),
                bytes_total: unique + shared,
                bytes_unique: unique,
                bytes_shared: shared,
                layers: i.layers.clone(),
            }
        })
        .collect()
}

fn plan_containers(store: &Store, layers: &[PlanLayer], wanted: &Wanted) -> Vec<PlanContainer> {
    let sizes: HashMap<&LayerId, u64> = layers.iter().map(|l| (&l.id, l.facts.bytes)).collect();
    let bytes = |id: &Option<LayerId>| id.as_ref().and_then(|id| sizes.get(id).copied()).unwrap_or(0);
    let moving = store.containers.values().filter(|c| wanted.containers.contains(&c.id));
    moving
        .map(|c| PlanContainer {
            id: c.id.clone(),
            name: c.name.clone(),
            image: c.image.clone(),
            running: c.running,
            auto_remove: c.auto_remove,
            layer: c.layer.clone(),
            init: c.init.clone(),
            bytes: bytes(&c.layer),
            files: c.files.iter().map(|f| PlanFile { path: f.name.clone(), content: f.content.clone() }).collect(),
        })
        .collect()
}

/// The files of `image/<driver>` whose layer, image or container moves, and `repositories.json` without what stays.
fn plan_metadata(found: &Found<'_>, wanted: &Wanted, images: &[PlanImage], to: Target) -> Vec<PlanFile> {
    let store = found.store;
    let moves = |f: &crate::store::MetaFile| {
        f.layer.as_ref().is_none_or(|l| wanted.layers.contains(l))
            && f.image.as_ref().is_none_or(|i| wanted.images.contains(i))
            && f.container.as_ref().is_none_or(|c| wanted.containers.contains(c))
    };
    let ours: Vec<PlanFile> = store
        .metadata
        .iter()
        .filter(|f| moves(f))
        .map(|f| PlanFile { path: f.path.clone(), content: f.content.clone() })
        .collect();
    let mut out = merge::metadata(to, &found.existing, ours);
    let moving: BTreeSet<ImageId> = images.iter().map(|i| i.id).collect();
    if let Some(text) = merge::repositories(&store.repositories, &moving, &found.existing) {
        out.push(PlanFile { path: "repositories.json".to_owned(), content: Content::Text(text) });
    }
    out
}

fn left_behind(found: &Found<'_>, wanted: &Wanted, decided: &merge::Decisions, to: Target) -> Vec<LeftBehind> {
    let store = found.store;
    let mut out = Vec::new();
    for i in store.images.values().filter(|i| !wanted.images.contains(&i.id)) {
        let excluded = wanted.excluded.get(&i.id.to_string());
        let damaged = i.layers.iter().find_map(|l| wanted.damaged.get(l));
        let held_by = i.held_by.clone().or_else(|| damaged.map(|d| d.cause.clone()));
        out.push(LeftBehind {
            kind: "image".to_owned(),
            id: i.id.to_string(),
            name: i.tags.join(", "),
            reason: i.broken.as_ref().or(excluded).or(damaged.map(|d| &d.reason)).cloned().unwrap_or_default(),
            lost: WHOLE.to_owned(),
            counts: excluded.is_none(),
            held_by: held_by.filter(|_| excluded.is_none()),
        });
    }
    // the target's own containers stay what they are
    let populated = found.existing.state == super::existing::State::Populated;
    let theirs = |c: &crate::store::Container| populated && c.foreign && c.driver == to.name();
    for c in store.containers.values().filter(|c| !wanted.containers.contains(&c.id) && !theirs(c)) {
        out.push(container_left(c, wanted));
    }
    for l in store.layers.values().filter(|l| !wanted.layers.contains(&l.id)) {
        let damaged = wanted.damaged.get(&l.id);
        let Some(reason) = l.broken.as_ref().or(damaged.map(|d| &d.reason)) else { continue };
        let by = l.held_by.clone().or_else(|| damaged.map(|d| d.cause.clone()));
        out.push(LeftBehind {
            kind: "layer".to_owned(),
            id: l.id.to_string(),
            name: String::new(),
            reason: reason.clone(),
            lost: "Its remaining files stay in the old store.".to_owned(),
            counts: true,
            // up to Docker 1.9 an image and its layer have one id
            held_by: by.filter(|c| c.kind != "layer" || c.id != l.id.short()),
        });
    }
    out.extend(merge::left_references(decided));
    out.extend(lost(store, wanted));
    out
}

/// What nothing can bring back, of what moves.
fn lost(store: &Store, wanted: &Wanted) -> Vec<LeftBehind> {
    // of a container that stays, nothing is lost
    let owner = |l: &Lost| store.containers.values().find(|c| l.kind == SETTINGS && c.id.as_str() == l.id);
    let moves = |l: &&Lost| match l.kind.as_str() {
        DAMAGED => LayerId::parse(&l.id).is_ok_and(|id| wanted.layers.contains(&id)),
        _ => owner(l).is_none_or(|c| wanted.containers.contains(&c.id)),
    };
    let layers = LazyCell::new(|| Names::of_store(store));
    let name = |l: &Lost| match l.kind.as_str() {
        DAMAGED => layers.get(&l.id).map(str::to_owned),
        _ => owner(l).map(|c| c.name.clone()),
    };
    let left = |l: &Lost| LeftBehind {
        kind: l.kind.clone(),
        id: l.id.clone(),
        name: name(l).unwrap_or_default(),
        reason: l.reason.clone(),
        lost: l.lost.clone(),
        counts: true,
        held_by: None,
    };
    store.lost.iter().filter(moves).map(left).collect()
}

fn container_left(c: &crate::store::Container, wanted: &Wanted) -> LeftBehind {
    let excluded = wanted.excluded.get(c.id.as_str());
    let damaged = c.layer.as_ref().and_then(|l| wanted.damaged.get(l));
    let clash = wanted.clashing.get(c.id.as_str());
    let foreign = c.foreign.then(|| format!("{FOREIGN} {}", c.driver));
    let known = [c.broken.as_ref(), excluded, clash, damaged.map(|d| &d.reason), foreign.as_ref()];
    let lost = if c.foreign { "Nothing is lost: unaufs doesn't change it." } else { WHOLE };
    let held_by = c.held_by.clone().or_else(|| damaged.map(|d| d.cause.clone()));
    LeftBehind {
        kind: "container".to_owned(),
        id: c.id.to_string(),
        name: c.name.clone(),
        reason: known.into_iter().flatten().next().cloned().unwrap_or_default(),
        lost: lost.to_owned(),
        // what is not ours to move does not stay behind
        counts: excluded.is_none() && !c.foreign,
        held_by: held_by.filter(|_| excluded.is_none() && clash.is_none()),
    }
}

fn way_back(options: &Options, host: &Host) -> WayBack {
    if let Some(dir) = &options.target {
        let loses = vec![
            format!("Nothing in {}, which unaufs only reads", host.path),
            format!(
                "All changes in {dir} since the switch, in volumes and logs too. They are kept in {dir}/.unaufs/undone unless you give --drop-new"
            ),
        ];
        return WayBack { possible_until: "unaufs cleanup".to_owned(), loses };
    }
    let loses = vec![
        "Nothing, if Docker hasn't run on the new store".to_owned(),
        "If Docker has run on the new store: new images, new containers and changes inside containers. They are kept in .unaufs/undone unless you give --drop-new. Volumes, networks and logs keep their changes"
            .to_owned(),
    ];
    WayBack { possible_until: "unaufs cleanup".to_owned(), loses }
}

/// Digests each object that the plan rests on, and what it does.
pub fn fingerprint(plan: &Plan, found: &Found<'_>) -> Fingerprint {
    let mut objects = BTreeMap::new();
    let digest = |v: &serde_json::Value| Sha256::of(v.to_string().as_bytes()).short();
    let originals = |files: &[PlanFile]| -> Vec<String> {
        let path = |f: &PlanFile| match &f.content {
            Content::Same(path) | Content::Edited(path, _) => Some(path.clone()),
            Content::Text(_) | Content::TarSplitOf(_) => None,
        };
        let state = |p: String| found.originals.get(&p).map(|o| o.state.clone()).unwrap_or_default();
        files.iter().filter_map(path).map(state).collect()
    };
    for l in &plan.layers {
        // a link that we make ourselves gives a file another time of change, and keeps old and new one file: it counts which file that is
        let linked = l.transfer.contains(&Transfer::Link) && !found.host.other_device();
        let changed = if linked { l.facts.listing } else { l.facts.changed };
        let state = serde_json::json!([l.lowers, l.chain_id, l.diff_id, l.source, l.facts.state, changed, l.transfer]);
        objects.insert(format!("layer {}", l.id), digest(&state));
    }
    for c in &plan.containers {
        objects.insert(
            format!("container {}", c.id),
            digest(&serde_json::json!([c.name, c.image, c.layer, c.init, c.files, originals(&c.files)])),
        );
    }
    for i in &plan.images {
        objects.insert(format!("image {}", i.id), digest(&serde_json::json!([i.tags, i.digests, i.layers])));
    }
    for f in &plan.metadata {
        let state = serde_json::json!([f.content, originals(std::slice::from_ref(f))]);
        objects.insert(format!("file {}", f.path), digest(&state));
    }
    if let Some(e) = &plan.new_root {
        // what they hold is looked at when it is copied, and compared afterwards
        for c in &e.units {
            objects.insert(
                format!("to be copied: {}", c.name()),
                digest(&serde_json::json!([c.mount, c.size.directories > 0])),
            );
        }
    }
    if let Some(m) = &plan.merge {
        objects.insert("the existing target store".to_owned(), digest(&serde_json::json!(m)));
    }
    objects.insert("options".to_owned(), digest(&serde_json::json!(plan.options)));
    objects.insert("root".to_owned(), digest(&serde_json::json!(plan.root.path)));
    objects.insert("tool".to_owned(), digest(&serde_json::json!(plan.tool.version)));
    objects.insert("renames".to_owned(), digest(&serde_json::json!(plan.switch)));
    let text = serde_json::json!(objects).to_string();
    Fingerprint { digest: Some(Sha256::of(text.as_bytes())), objects }
}
