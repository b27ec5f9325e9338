//! Containers of a content-addressable store (FORMATS 6.3, 8.7).
//!
//! ```text
//! ROOT/containers/<id>/config.v2.json                    Driver, Image, Name, State
//! ROOT/image/aufs/layerdb/mounts/<id>/{mount-id,init-id,parent}
//! ```

use super::boot;
use super::content::{Chains, SMALL, text_of};
use super::driver::Driver;
use super::graph::containers::config_file;
use super::old_fields::{self, Changes};
use super::replaced::Wanted;
use super::stack::{self, Listed, Stack};
use super::{Cause, Container, ContainerFile, Content, DRIVER, Layer, Lost, MetaFile, Store, edited};
use crate::checks::{Finding, Level};
use crate::disk::{Dir, FileType};
use crate::docker::driver::{Role, WrittenBy};
use crate::docker::json;
use crate::error::{Error, Result};
use crate::ids::{ChainId, ContainerId, ImageId, LayerId, named};
use std::collections::{BTreeMap, BTreeSet};

/// Files of a container's directory that a Docker may rewrite: each gets a new file, and the old one is kept for the way back.
/// Docker 29 rewrites both JSON files at boot (FORMATS 11.30); hosts and its like are truncated and rewritten at each start.
pub const REWRITTEN: &[&str] =
    &["config.v2.json", "config.json", "hostconfig.json", "hostname", "hosts", "resolv.conf", "resolv.conf.hash"];

/// What comes of a container that has lost everything but its layer.
pub const LEFT: &str = "its writable layer stays in the old store";

/// Reads all containers, and the writable layers that they own.
pub fn read(mut reader: Reader<'_>) -> Result<()> {
    reader.each(|reader, dir, id| reader.read_one(dir, id))?;
    settle_names(&BTreeMap::new(), reader.store, reader.findings);
    reader.read_mounts()
}

/// What the reading of containers needs, and what it adds to.
pub struct Reader<'a> {
    /// ROOT.
    pub root: &'a Dir,
    /// What the driver's own directories say.
    pub driver: &'a Driver,
    /// The image layers by their place in layerdb.
    pub chains: &'a Chains,
    /// Gets the containers and their layers.
    pub store: &'a mut Store,
    /// Gets what is wrong.
    pub findings: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    /// Reads each directory of `containers/` with `one`.
    pub fn each(&mut self, mut one: impl FnMut(&mut Self, &Dir, &ContainerId) -> Result<Container>) -> Result<()> {
        let Some(dir) = self.root.open_opt("containers")? else { return Ok(()) };
        for (name, kind) in dir.list()? {
            let Some(id) = named(&name, ContainerId::parse) else {
                let what = format!("containers/{}", crate::text::bytes(&name));
                self.findings.push(Finding::new("C01", what, "it isn't a Docker container"));
                continue;
            };
            if kind != FileType::Directory {
                self.lose_directory(&id, kind);
                continue;
            }
            let directory = dir.open(id.as_str())?;
            let container = one(self, &directory, &id)?;
            self.miss_settings(&directory, &container)?;
            self.store.containers.insert(id, container);
        }
        Ok(())
    }

    /// A container with something else in the place of its directory.
    fn lose_directory(&mut self, id: &ContainerId, kind: FileType) {
        let (reason, fix) = match kind {
            FileType::Symlink => (
                "its directory in containers/ is a symlink, which unaufs doesn't follow",
                "put the directory itself in the place of the symlink: remove the symlink, then use mv, or cp -a from another disk",
            ),
            _ => ("its directory in containers/ isn't a directory", "restore the directory from a backup"),
        };
        let subject = format!("container {}", id.short());
        self.findings.push(Finding::new("C01", subject, reason).fix(fix).effect(LEFT));
        self.lose(id, reason);
        // up to Docker 1.9 a container and its layer have one id
        self.claim(id.as_str());
    }

    /// Notes that a container is lost but for its layer.
    fn lose(&mut self, id: &ContainerId, reason: &str) {
        self.store.lost.push(Lost::container(id.as_str(), reason));
    }

    /// Notes that a layer, and its init layer, belong to a container that can't move.
    pub fn claim(&mut self, layer: &str) {
        self.store
            .claimed
            .extend([LayerId::parse(layer), LayerId::parse(&format!("{layer}-init"))].into_iter().flatten());
    }

    /// Docker loads a container without `hostconfig.json` too, with its defaults: what was in the file is lost without a word.
    fn miss_settings(&mut self, directory: &Dir, c: &Container) -> Result<()> {
        let moves = c.broken.is_none() && !c.foreign;
        // verify looks for the file in a store of another driver
        if !moves || self.driver.written_by != WrittenBy::Aufs || directory.has(boot::HOST_CONFIG)? {
            return Ok(());
        }
        let reason = format!("{} is missing", boot::HOST_CONFIG);
        self.findings.push(Finding::new("C06", c.subject(), &*reason));
        let lost =
            "Its ports, restart policy, network, limits and other settings of docker run. Docker uses its defaults.";
        let lost = Lost { kind: super::SETTINGS.to_owned(), id: c.id.to_string(), reason, lost: lost.to_owned() };
        self.store.lost.push(lost);
        Ok(())
    }

    /// Reads one container of this generation: `config.v2.json` and a record in `layerdb/mounts`.
    pub fn read_one(&mut self, directory: &Dir, id: &ContainerId) -> Result<Container> {
        let mut c = describe(directory, id, boot::CONFIG, self.driver.written_by, self.findings);
        let layer = mount_id(self.root, &c, self.driver);
        if c.foreign {
            layer.iter().for_each(|layer| self.claim(layer.as_str()));
            return Ok(c);
        }
        if c.broken.is_none() {
            let mut changes = vec![("Driver".to_owned(), DRIVER.to_owned())];
            changes.extend(needed(&c));
            let rewritten = rewrite(directory, &mut c, boot::CONFIG, changes, self.findings);
            if let Err(e) = rewritten.and_then(|()| self.read_mount(&mut c)) {
                stays(&mut c, &e, self.findings);
            }
        }
        if c.broken.is_some() {
            layer.iter().for_each(|layer| self.claim(layer.as_str()));
            c.on_disk = layer.and_then(|layer| on_disk(self.driver, layer));
        }
        Ok(c)
    }

    /// The container's writable layer and its init layer.
    fn read_mount(&mut self, c: &mut Container) -> Result<()> {
        let driver = self.driver;
        let path = format!("image/{}/layerdb/mounts/{}", driver.written_by, c.id);
        let dir = self.root.open_opt(&path)?.ok_or_else(|| Error::corrupt("it has no record in layerdb/mounts"))?;
        let m = record(&dir, c, self.store)?;
        // Without an init-id, aufs/layers still names the init layer
        let listed = || match driver.layers.get(&m.layer) {
            Some(Listed::Whole(ids) | Listed::Cut(ids, _)) => ids.first().filter(|l| l.is_init()).cloned(),
            _ => None,
        };
        let init = m.init.clone().or_else(listed);
        let below = below(m.parent, self.chains, self.store, c)?;
        let known: Vec<LayerId> = init.iter().cloned().chain(below).collect();
        let lowers = self.lowers(c, &m.layer, &known, &Clone::clone)?;
        self.take(c, (&m.layer, &init), lowers)?;
        let parent = m.parent.filter(|_| m.from_image).map(|p| p.to_string());
        let lost_init = init.as_ref().filter(|_| m.init.is_none()).map(ToString::to_string);
        for (f, known) in [("mount-id", None), ("init-id", lost_init), ("parent", parent)] {
            if known.is_some() || dir.try_stat(f.as_bytes()).is_ok() {
                let content = known.map_or_else(|| Content::Same(format!("{path}/{f}")), Content::Text);
                self.store.metadata.push(of_mount(&c.id, f, content));
            }
        }
        let mut repaired = |what: &str| self.findings.push(Finding::new("C05", c.subject(), what));
        if m.init.is_none() && init.is_some() {
            repaired("its record in layerdb/mounts doesn't name its init layer; aufs/layers does");
        }
        if m.from_image {
            repaired(
                "its record in layerdb/mounts doesn't name the image's layer; the image of its configuration does",
            );
        }
        (c.layer, c.init) = (Some(m.layer), init);
        Ok(())
    }

    /// The layers below a container's own, settled between the driver's list, where it keeps one, and the metadata. `stands_for` names the
    /// layer that is used for another directory of it.
    pub fn lowers(
        &mut self,
        c: &Container,
        layer: &LayerId,
        known: &[LayerId],
        stands_for: &dyn Fn(&LayerId) -> LayerId,
    ) -> Result<Vec<LayerId>> {
        let (by, listed) = (self.driver.written_by, self.driver.layers.get(layer));
        let Some(what) = by.list() else { return Ok(known.to_vec()) };
        // a directory that the metadata don't know
        let stranger = |id: &LayerId| self.driver.diffs.contains_key(id) && !self.store.layers.contains_key(id);
        let stack = stack::choose(listed, known, stands_for, stranger).map_err(|why| {
            let why = format!("{what}/{}: {why}", layer.short());
            // what the list names and isn't there is the reason, not that the metadata don't name it
            let ids = listed.map_or(&[][..], Listed::ids);
            let gone = ids.iter().find(|id| !self.driver.diffs.contains_key(id)).map(|id| by.directory(id));
            Error::corrupt(gone.map_or(why.clone(), |at| format!("the directory {at} is missing; {why}")))
        })?;
        match &stack {
            Stack::Same(_) => {}
            Stack::Listed(list) if list.iter().map(stands_for).eq(known.iter().cloned()) => {}
            Stack::Listed(_) => self.findings.push(
                Finding::new(
                    "C05",
                    c.subject(),
                    format!("{what} and the metadata name different directories for its layers"),
                )
                .effect(format!("{what} is used: {by} mounted those directories")),
            ),
            Stack::Repaired(why, _) => self.findings.push(
                Finding::new("C05", c.subject(), format!("its list in {what} is {why}"))
                    .effect("repaired with the layers of its image"),
            ),
        }
        Ok(stack.layers())
    }

    /// Takes a container's two layers into the store.
    pub fn take(
        &mut self,
        c: &mut Container,
        (layer, init): (&LayerId, &Option<LayerId>),
        lowers: Vec<LayerId>,
    ) -> Result<()> {
        let (driver, store) = (self.driver, &mut *self.store);
        adopt(driver, store, &lowers);
        if let Some(bad) = damaged_below(store, &lowers) {
            let e = Error::corrupt(format!("the layer {} below it is damaged: {}", bad.id, bad.reason));
            c.held_by = Some(bad);
            return Err(e);
        }
        if let Some(init) = init {
            let below: Vec<LayerId> = lowers.iter().skip(1).cloned().collect();
            if let Some(what) = driver.written_by.list()
                && driver.layers.get(init).is_some_and(|l| *l != Listed::Whole(below.clone()))
            {
                let how = format!("{what} of its init layer and of the container name different layers");
                let used = "the container's list is used for both";
                self.findings.push(Finding::new("C05", c.subject(), how).effect(used));
            }
            own(driver, store, init, Role::Init, below)?;
        }
        if let Err(e) = own(driver, store, layer, Role::Container, lowers) {
            // an init layer alone is of no use
            init.iter().for_each(|i| drop(store.layers.remove(i)));
            return Err(e);
        }
        Ok(())
    }

    /// Names records in `layerdb/mounts` that belong to no container: BuildKit's, or a crash's. Where the writable layer that one names is
    /// there, a container has lost its directory.
    pub fn read_mounts(&mut self) -> Result<()> {
        let by = self.driver.written_by;
        let path = &format!("image/{by}/layerdb/mounts");
        let effect = "the containers stay in the old store: the file that names their layers is gone";
        let wanted = Wanted { path, effect, loses: !self.store.containers.is_empty() };
        let Some(dir) = wanted.open(self.root, &mut self.store.lost, self.findings)? else { return Ok(()) };
        for (name, _) in dir.list()? {
            let id = named(&name, ContainerId::parse);
            if id.as_ref().is_some_and(|id| self.store.containers.contains_key(id)) {
                continue;
            }
            let record = format!("layerdb/mounts/{}", crate::text::bytes(&name));
            let layer = || LayerId::parse(&text_of(&dir.open(&name)?.read("mount-id", SMALL)?)?);
            let layer = layer().ok().filter(|l| self.driver.diffs.contains_key(l));
            match id.zip(layer) {
                Some((id, layer)) => {
                    self.claim(layer.as_str());
                    if self.store.lost.iter().any(|l| l.kind == "container" && l.id == id.as_str()) {
                        continue;
                    }
                    let reason = "its directory in containers/ is missing";
                    let finding = Finding::new("D09", record, format!("container {}: {reason}", id.short()));
                    self.findings.push(finding.level(Level::Warn).effect(LEFT));
                    self.lose(&id, reason);
                }
                None => self.findings.push(Finding::new("D09", record, "it doesn't belong to any container")),
            }
        }
        Ok(())
    }
}

/// A file of a container's record in `layerdb/mounts`.
pub fn of_mount(id: &ContainerId, file: &str, content: Content) -> MetaFile {
    let path = format!("layerdb/mounts/{id}/{file}");
    MetaFile { container: Some(id.clone()), ..MetaFile::new(path, content) }
}

/// Adds the containers that a migration left where they were, in ROOT's `containers/`, to the store that it has parked, which holds their layers.
/// What they say is taken as it is, and nothing in them is to be repaired.
pub fn add_left(root: &Dir, store: &mut Store) -> Result<()> {
    let Some(dir) = root.open_opt("containers")? else { return Ok(()) };
    for (name, kind) in dir.list()? {
        let known = |id: &ContainerId| store.containers.contains_key(id);
        let Some(id) = named(&name, ContainerId::parse).filter(|id| kind == FileType::Directory && !known(id)) else {
            continue;
        };
        let directory = dir.open(id.as_str())?;
        let file = config_file(&directory, &id);
        let mut c = describe(&directory, &id, file, store.written_by, &mut Vec::new());
        if !c.foreign {
            c.broken.get_or_insert_with(|| "it wasn't migrated".to_owned());
            store.containers.insert(id, c);
        }
    }
    Ok(())
}

/// The writable layer that a container's record names, if nothing else of it can be used.
pub fn mount_id(root: &Dir, c: &Container, driver: &Driver) -> Option<LayerId> {
    let path = format!("image/{}/layerdb/mounts/{}/mount-id", driver.written_by, c.id);
    LayerId::parse(&text_of(&root.read(path, SMALL).ok()?).ok()?).ok()
}

/// A container's layers as aufs would mount them, whatever the metadata say: enough to export its files.
pub fn on_disk(driver: &Driver, id: LayerId) -> Option<Layer> {
    let Some(Listed::Whole(lowers)) = driver.layers.get(&id).filter(|_| driver.written_by == WrittenBy::Aufs) else {
        return None;
    };
    let there = std::iter::once(&id).chain(lowers).all(|l| driver.diffs.contains_key(l));
    there.then(|| {
        let moved_to = driver.moved_to(&id);
        Layer::bare(id, Role::Container, lowers.clone(), moved_to)
    })
}

/// The edits without which a new dockerd would crash, or wouldn't find the container by its name.
pub fn needed(c: &Container) -> impl Iterator<Item = (String, String)> {
    let networks = c.no_networks.then(|| ("NetworkSettings".to_owned(), "{}".to_owned()));
    let name = c.no_slash.then(|| ("Name".to_owned(), json::string(&format!("/{}", c.name))));
    networks.into_iter().chain(name)
}

/// Notes that a container stays behind, since its layers do.
pub fn stays(c: &mut Container, why: &Error, findings: &mut Vec<Finding>) {
    c.broken = Some(why.chain());
    let finding = Finding::new("C04", c.subject(), why.chain());
    // what would be repaired isn't, of a container that isn't migrated
    findings.retain(|f| f.id != "C05" || f.subject != finding.subject);
    findings.push(finding);
}

/// Lists the files that get a new one: each that Docker may write into, with `changes` and with what no Docker of today fills in. `file` is
/// the configuration, whichever generation wrote it.
pub fn rewrite(
    directory: &Dir,
    c: &mut Container,
    file: &str,
    changes: Changes,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let path = |name: &str| format!("containers/{}/{name}", c.id);
    // the target is unknown yet
    let config = edited(&directory.read(file, json::LIMIT)?, &changes, DRIVER)?;
    let host = directory.read_opt(boot::HOST_CONFIG, json::LIMIT)?;
    let (of_config, of_host) = match filled_in(&config, host.as_deref()) {
        Ok(both) => both,
        Err(e) => {
            let effect = "Docker can't load it either; fields that old versions left empty stay empty";
            findings.push(Finding::new("C01", c.subject(), e.chain()).effect(effect));
            Default::default()
        }
    };
    let mut files = Vec::new();
    for name in REWRITTEN.iter().filter(|n| ![boot::CONFIG, boot::HOST_CONFIG].contains(n)) {
        if directory.try_stat(name.as_bytes()).is_ok_and(|m| m.is_file()) {
            files.push((*name, Content::Same(path(name))));
        }
    }
    let mut content = Content::Edited(path(file), changes);
    content.change(of_config)?;
    files.push((boot::CONFIG, content));
    let mut content =
        if host.is_some() { Content::Same(path(boot::HOST_CONFIG)) } else { Content::Text("{}".to_owned()) };
    content.change(of_host)?;
    files.push((boot::HOST_CONFIG, content));
    c.files.extend(files.into_iter().map(|(name, content)| ContainerFile { name: name.to_owned(), content }));
    Ok(())
}

/// What to set in a container's two files.
fn filled_in(config: &[u8], host: Option<&[u8]>) -> Result<(Changes, Changes)> {
    let host = json::editable(host.unwrap_or(b"{}")).map_err(|e| e.on(boot::HOST_CONFIG))?;
    let of_host = old_fields::host_config(&host).map_err(|e| e.on(boot::HOST_CONFIG))?;
    Ok((old_fields::config(&json::editable(config)?, &host)?, of_host))
}

/// What the container's config file says, whichever generation wrote it; and what is wrong with it.
pub fn describe(
    directory: &Dir,
    id: &ContainerId,
    file: &str,
    by: WrittenBy,
    findings: &mut Vec<Finding>,
) -> Container {
    let mut c = Container {
        id: id.clone(),
        name: String::new(),
        image: String::new(),
        driver: String::new(),
        running: false,
        auto_remove: false,
        layer: None,
        init: None,
        foreign: false,
        broken: None,
        held_by: None,
        crashes_docker: false,
        on_disk: None,
        no_networks: false,
        no_slash: false,
        files: Vec::new(),
    };
    let read = directory.read(file, json::LIMIT).map_err(boot::Refused::from);
    match read.and_then(|b| boot::config(&b, id)) {
        Ok(config) => fill(&mut c, config),
        Err(e) => {
            refuse(&mut c, file, &e, findings);
            return c;
        }
    }
    match boot::host_config(directory) {
        Ok(auto_remove) => c.auto_remove = auto_remove,
        Err(e) => refuse(&mut c, boot::HOST_CONFIG, &e, findings),
    }
    if !by.owns(&c.driver) {
        // whatever is wrong with it is not ours to touch, but what dockerd crashes on keeps it from starting on the new store too
        (c.foreign, c.broken) = (true, None);
        findings.push(Finding::new(
            "C02",
            c.subject(),
            format!("it belongs to the storage driver {}", crate::text::text(&c.driver)),
        ));
    } else if c.running && c.broken.is_none() {
        findings.push(Finding::new("C03", c.subject(), "it is marked as running"));
    }
    c
}

/// Notes that Docker does not load a container because of one of its files.
fn refuse(c: &mut Container, file: &str, e: &boot::Refused, findings: &mut Vec<Finding>) {
    let why = format!("its {file}: {}", e.why.chain());
    findings.push(Finding::new("C01", c.subject(), why.clone()).effect(e.effect()));
    (c.broken, c.crashes_docker) = (Some(why), e.crashes);
}

fn fill(c: &mut Container, config: boot::Config) {
    c.name = config.name.trim_start_matches('/').to_owned();
    c.no_slash = !c.name.is_empty() && !config.name.starts_with('/');
    (c.driver, c.image, c.running, c.no_networks) = (config.driver, config.image, config.running, config.no_networks);
}

/// A container's record in `layerdb/mounts`.
struct Mount {
    layer: LayerId,
    init: Option<LayerId>,
    /// The top of its image.
    parent: Option<ChainId>,
    /// Was `parent` taken from the image that the container's configuration names?
    from_image: bool,
}

fn record(dir: &Dir, c: &Container, store: &Store) -> Result<Mount> {
    let id = |name: &str| -> Result<Option<LayerId>> {
        dir.read_opt(name, SMALL)?.map(|b| text_of(&b).and_then(|s| LayerId::parse(&s))).transpose()
    };
    let layer = id("mount-id")?.ok_or_else(|| Error::corrupt("its record in layerdb/mounts doesn't name a layer"))?;
    let named = dir.read_opt("parent", SMALL)?.map(|b| text_of(&b).and_then(|s| ChainId::parse(&s))).transpose();
    let (parent, from_image) = match named {
        Ok(parent) => (parent, false),
        Err(e) => (Some(top_of_image(c, store).ok_or_else(|| e.on("its record in layerdb/mounts"))?), true),
    };
    Ok(Mount { layer, init: id("init-id")?, parent, from_image })
}

/// The chain of the image that the container's configuration names.
fn top_of_image(c: &Container, store: &Store) -> Option<ChainId> {
    let image = store.images.get(&ImageId::parse(&c.image).ok()?).filter(|i| i.broken.is_none())?;
    store.layers.get(image.layers.last()?)?.chain
}

/// The layers of the image, uppermost first.
fn below(parent: Option<ChainId>, chains: &Chains, store: &Store, c: &mut Container) -> Result<Vec<LayerId>> {
    let Some(parent) = parent else { return Ok(Vec::new()) };
    let Some(top) = chains.get(&parent) else {
        c.held_by = Some(store.bad_record(parent));
        return Err(Error::corrupt(format!("its image's layer {} isn't in layerdb", parent.short())));
    };
    let below = store.layers.get(top).map(|l| l.lowers.clone()).unwrap_or_default();
    Ok(std::iter::once(top.clone()).chain(below).collect())
}

/// The lowest of these layers that is damaged or missing.
fn damaged_below(store: &Store, lowers: &[LayerId]) -> Option<Cause> {
    lowers.iter().rev().filter(|id| !id.is_init()).find_map(|id| match store.layers.get(id) {
        None => Some(Cause::layer(id.short(), "its directory is missing")),
        Some(l) => l.cause(),
    })
}

/// Image layers that only a container's list names: the migration of Docker 1.10 merged equal chains in layerdb and left the
/// containers on the other directories (PEERS M7).
fn adopt(driver: &Driver, store: &mut Store, lowers: &[LayerId]) {
    for (i, id) in lowers.iter().enumerate() {
        if store.layers.contains_key(id) || id.is_init() || !driver.diffs.contains_key(id) {
            continue;
        }
        let layer = Layer::bare(id.clone(), Role::Image, lowers[i + 1..].to_vec(), driver.moved_to(id));
        store.layers.insert(id.clone(), layer);
    }
}

/// Takes a container's own layer into the store.
fn own(driver: &Driver, store: &mut Store, id: &LayerId, role: Role, lowers: Vec<LayerId>) -> Result<()> {
    if !driver.diffs.contains_key(id) {
        return Err(Error::corrupt(format!("its directory {} is missing", driver.written_by.directory(id))));
    }
    if let Some(l) = lowers.iter().find(|l| !store.layers.contains_key(*l)) {
        return Err(Error::corrupt(format!("the layer {} below it is missing", l.short())));
    }
    if store.layers.contains_key(id) {
        return Err(Error::corrupt(format!(
            "another image or container has the same directory {}",
            driver.written_by.directory(id)
        )));
    }
    let layer = Layer::bare(id.clone(), role, lowers, driver.moved_to(id));
    store.layers.insert(id.clone(), layer);
    Ok(())
}

/// Gives every container a name of its own. Docker from 1.10 on takes the configuration's and does not load a second container of the same
/// name; up to 1.9 linkgraph.db decided, whose names are in `known`.
pub fn settle_names(known: &BTreeMap<ContainerId, BTreeSet<String>>, store: &mut Store, findings: &mut Vec<Finding>) {
    let old = |c: &Container| {
        let old =
            |f: &ContainerFile| matches!(&f.content, Content::Edited(path, _) if path.ends_with(boot::OLD_CONFIG));
        c.files.iter().any(old)
    };
    let moves = |c: &Container| c.broken.is_none() && !c.foreign;
    // what does not move keeps its name where it is; what a newer Docker has converted comes first
    let mut order: Vec<(bool, ContainerId)> =
        store.containers.values().filter(|c| moves(c)).map(|c| (old(c), c.id.clone())).collect();
    order.sort();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (old, id) in order {
        let Some(c) = store.containers.get_mut(&id) else { continue };
        let names = known.get(&id);
        if c.no_slash {
            let what = "its name has no slash in front, so Docker lists it but doesn't find it by name";
            findings.push(Finding::new("G09", c.subject(), what).effect("the name gets its slash"));
        }
        if let Some(names) = names {
            other_names(c, names, findings);
        }
        // without a name Docker gives it one; up to 1.9 it always had one
        if c.name.is_empty() && !old || !c.name.is_empty() && taken.insert(c.name.clone()) {
            continue;
        }
        let free = names.into_iter().flatten().find(|n| !taken.contains(*n)).cloned();
        rename(c, free, findings);
        taken.insert(c.name.clone());
    }
}

/// Says which names only linkgraph.db has. Next to the name in the configuration, another one is worth a note.
fn other_names(c: &Container, names: &BTreeSet<String>, findings: &mut Vec<Finding>) {
    let others: Vec<&str> = names.iter().filter(|n| **n != c.name).map(String::as_str).collect();
    if others.is_empty() {
        return;
    }
    let others = crate::text::text(&others.join(", "));
    let (level, what) = match names.contains(&c.name) {
        true => (Level::Info, format!("linkgraph.db has a second name for this container: {others}")),
        false => (Level::Warn, format!("linkgraph.db has another name for this container: {others}")),
    };
    let effect = "the name in its configuration is used, as in Docker 1.10";
    findings.push(Finding::new("G09", c.subject(), what).level(level).effect(effect));
}

fn rename(c: &mut Container, free: Option<String>, findings: &mut Vec<Finding>) {
    let name = free.unwrap_or_else(|| match c.name.as_str() {
        "" => c.id.short().to_owned(),
        name => format!("{name}_{}", c.id.short()),
    });
    let what = if c.name.is_empty() { "it has no name" } else { "another container has the same name" };
    findings
        .push(Finding::new("G09", c.subject(), what).effect(format!("its new name is {}", crate::text::text(&name))));
    for file in &mut c.files {
        if let (boot::CONFIG, Content::Edited(_, changes)) = (file.name.as_str(), &mut file.content) {
            changes.retain(|(key, _)| key != "Name");
            changes.push(("Name".to_owned(), json::string(&format!("/{name}"))));
        }
    }
    c.name = name;
}
