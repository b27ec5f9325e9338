//! Containers of a graph store, and what `linkgraph.db` knows of them (FORMATS 8.5 to 8.7).
//!
//! ```text
//! ROOT/containers/<id>/config.json        becomes config.v2.json with another Image and Driver
//!                      hostconfig.json    gets its Links from ROOT/linkgraph.db
//! ROOT/aufs/layers/<id>                   what lies below the container
//! ```

use super::V1Id;
use super::images::Images;
use super::linkgraph::{self, LinkGraph};
use crate::checks::Finding;
use crate::disk::{Dir, FileType};
use crate::docker::driver::Role;
use crate::docker::json;
use crate::error::{Error, Result};
use crate::ids::{ChainId, ContainerId, ImageId, LayerId};
use crate::store::containers::{self, CONFIG, HOST_CONFIG, adopt, own};
use crate::store::content::Chains;
use crate::store::driver::Driver;
use crate::store::{Container, Content, DRIVER, MetaFile, Store};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

const OLD_CONFIG: &str = "config.json";

/// Is there a container that no Docker has converted yet?
pub fn left_to_convert(root: &Dir) -> Result<bool> {
    let Some(dir) = root.open_opt("containers")? else { return Ok(false) };
    for (name, kind) in dir.list()? {
        if kind == FileType::Directory {
            let folder = dir.open(&name)?;
            if folder.has(OLD_CONFIG)? && !folder.has(CONFIG)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Reads all containers, and the writable layers that they own.
pub fn read(
    root: &Dir,
    driver: &Driver,
    chains: &Chains,
    images: &Images,
    store: &mut Store,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let graph = read_links(root, findings)?;
    if let Some(dir) = root.open_opt("containers")? {
        for (name, kind) in dir.list()? {
            let id = std::str::from_utf8(&name).ok().and_then(|s| ContainerId::parse(s).ok());
            let (Some(id), FileType::Directory) = (id, kind) else {
                findings.push(containers::strange(&name));
                continue;
            };
            // Docker wrote the config first and the record then; a crash between the two lost the container for it
            let converted = dir.has(format!("{id}/{CONFIG}"))?;
            let container = if converted && root.has(format!("image/aufs/layerdb/mounts/{id}"))? {
                containers::read_one(root, &dir, &id, driver, chains, store, findings)?
            } else {
                let file = if converted { CONFIG } else { OLD_CONFIG };
                read_one(&dir, &id, file, driver, chains, images, store, findings)?
            };
            store.containers.insert(id, container);
        }
    }
    settle_names(&graph, store, findings);
    add_links(root, &graph, store, findings)?;
    containers::read_mounts(root, driver.written_by, store, findings)
}

#[allow(clippy::too_many_arguments)]
fn read_one(
    dir: &Dir,
    id: &ContainerId,
    file: &str,
    driver: &Driver,
    chains: &Chains,
    images: &Images,
    store: &mut Store,
    findings: &mut Vec<Finding>,
) -> Result<Container> {
    let folder = dir.open(id.as_str())?;
    let mut c = containers::describe(&folder, id, file, driver.written_by, findings);
    if c.broken.is_some() || c.foreign {
        return Ok(c);
    }
    let placed = place(&mut c, driver, chains, images, store, findings);
    let made = placed.and_then(|image| convert(&folder, &mut c, file, image, findings));
    if let Err(e) = made {
        c.broken = Some(e.chain());
        findings.push(
            Finding::new("C04", c.subject(), e.chain())
                .effect("its configuration and what is left of its data stay in the old store"),
        );
    }
    Ok(c)
}

/// Finds the container's image and layers. Gives the new id of the image.
fn place(
    c: &mut Container,
    driver: &Driver,
    chains: &Chains,
    images: &Images,
    store: &mut Store,
    findings: &mut Vec<Finding>,
) -> Result<ImageId> {
    let (image, chain): (ImageId, Option<ChainId>) = match V1Id::parse(&c.image) {
        Ok(v1) => {
            let new = images.new.get(&v1);
            let new = new.ok_or_else(|| Error::corrupt(format!("its image {} is missing or damaged", v1.short())))?;
            (new.id, new.chain)
        }
        Err(_) => {
            let id = ImageId::parse(&c.image).map_err(|e| e.on("its image"))?;
            let top = store.images.get(&id).filter(|i| i.broken.is_none()).and_then(|i| i.layers.last());
            let chain = top.and_then(|l| store.layers.get(l)).and_then(|l| l.chain);
            (id, Some(chain.ok_or_else(|| Error::corrupt("its image is missing or damaged"))?))
        }
    };
    let top = chain.and_then(|chain| chains.get(&chain)).and_then(|l| store.layers.get(l));
    let layer = LayerId::parse(c.id.as_str())?;
    let init = Some(LayerId::parse(&format!("{}-init", c.id))?)
        .filter(|i| driver.layers.contains_key(i) || driver.diffs.contains_key(i));
    let stack = top.into_iter().flat_map(|t| std::iter::once(&t.id).chain(&t.lowers));
    let by_graph: Vec<LayerId> = init.iter().chain(stack).cloned().collect();
    let unclear = |c: &Container, what: &str, effect: &str| Finding::new("C05", c.subject(), what).effect(effect);
    let lowers = match driver.layers.get(&layer) {
        Some(Ok(list)) => {
            if images.stand_ins(list) != by_graph {
                let what = "aufs/layers and graph/ name different layers below it";
                findings.push(unclear(c, what, "aufs/layers is followed: it is what aufs mounted"));
            }
            list.clone()
        }
        Some(Err(e)) => return Err(Error::corrupt(format!("aufs/layers/{}: {e}", layer.short()))),
        None => {
            let what = "its layer has no file in aufs/layers";
            findings.push(unclear(c, what, "the order is taken from graph/"));
            by_graph
        }
    };
    adopt(driver, store, &lowers);
    if let Some(init) = &init {
        own(driver, store, init, Role::Init, lowers.iter().skip(1).cloned().collect())?;
    }
    if let Err(e) = own(driver, store, &layer, Role::Container, lowers) {
        init.iter().for_each(|i| drop(store.layers.remove(i)));
        return Err(e);
    }
    let parent = chain.map(|chain| ("parent", chain.to_string()));
    let init_id = init.as_ref().map(|i| ("init-id", i.to_string()));
    let files = [Some(("mount-id", layer.to_string())), init_id, parent];
    store.metadata.extend(files.into_iter().flatten().map(|(name, text)| MetaFile {
        path: format!("layerdb/mounts/{}/{name}", c.id),
        content: Content::Text(text),
        layer: None,
        image: None,
        container: Some(c.id.clone()),
    }));
    (c.layer, c.init) = (Some(layer), init);
    Ok(image)
}

/// Lists the files to write: the new config, and a new file for each that Docker may write into.
fn convert(folder: &Dir, c: &mut Container, file: &str, image: ImageId, findings: &mut Vec<Finding>) -> Result<()> {
    let bytes = folder.read(file, json::LIMIT)?;
    let mut changes =
        vec![("Image".to_owned(), json::string(&image.to_string())), ("Driver".to_owned(), DRIVER.to_owned())];
    if let Some(points) = mount_points(json::as_text(&bytes)?, c, findings)? {
        changes.push(("MountPoints".to_owned(), points));
    }
    containers::rewrite(folder, c, file, changes, findings)
}

/// Volumes as Docker up to 1.6 noted them.
#[derive(Deserialize, Default)]
#[serde(default)]
struct OldVolumes {
    #[serde(rename = "Volumes")]
    volumes: Option<BTreeMap<String, Option<String>>>,
    #[serde(rename = "VolumesRW")]
    writable: Option<BTreeMap<String, Option<bool>>>,
    #[serde(rename = "MountPoints")]
    points: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

/// `MountPoints` for a container from before 1.7, which has `Volumes` instead. Docker made this up itself until 18.03.
///
/// Docker's own volumes of that time are folders in `vfs/dir`. They are mounted from where they are, like a host's folder:
/// that works on every Docker, needs no symlink in `volumes/`, and no `docker volume prune` can take them away.
fn mount_points(config: &str, c: &Container, findings: &mut Vec<Finding>) -> Result<Option<String>> {
    let old: OldVolumes =
        serde_json::from_str(config).map_err(|e| Error::corrupt("its volumes cannot be read").with_source(e))?;
    let volumes = old.volumes.unwrap_or_default();
    if volumes.is_empty() || old.points.is_some_and(|p| !p.is_empty()) {
        return Ok(None);
    }
    let mut points = Vec::new();
    for (destination, source) in volumes {
        let source = source.unwrap_or_default();
        if !source.starts_with('/') || !destination.starts_with('/') {
            let what = format!("its volume {destination:?} from {source:?} has no absolute path");
            findings.push(Finding::new("G10", c.subject(), crate::text::text(&what)).effect("it is left out"));
            continue;
        }
        if source.contains("/vfs/dir/") {
            let what = format!("its volume {destination} is the folder {source}");
            let effect = "it is mounted from there as before; docker volume ls does not list it";
            findings.push(Finding::new("G10", c.subject(), crate::text::text(&what)).effect(effect));
        }
        let writable = old.writable.as_ref().and_then(|w| w.get(&destination)).copied().flatten().unwrap_or(false);
        let [key, source] = [&destination, &source].map(|s| json::string(s));
        // the fields of a bind mount as Docker 1.9 wrote them
        points.push(format!(
            r#"{key}:{{"Name":"","Destination":{key},"Driver":"","RW":{writable},"Source":{source},"Relabel":""}}"#
        ));
    }
    Ok(Some(format!("{{{}}}", points.join(","))))
}

/// Reads `linkgraph.db`. Without it the names come from the containers' configs, and links are lost.
fn read_links(root: &Dir, findings: &mut Vec<Finding>) -> Result<LinkGraph> {
    const FILE: &str = "linkgraph.db";
    // what a crash left to be finished stands in another file: the database alone may be half of a change
    let unfinished =
        |suffix: &str| -> Result<bool> { Ok(root.stat_opt(format!("{FILE}{suffix}"))?.is_some_and(|m| m.size > 0)) };
    let read = match root.read_opt(FILE, linkgraph::MAX_LEN as u64) {
        Ok(None) => return Ok(LinkGraph::default()),
        Ok(Some(_)) if unfinished("-wal")? || unfinished("-journal")? => {
            let what = "there is a journal beside it, so a write to it was not finished";
            Err(Error::corrupt(what).hint("`sqlite3 linkgraph.db 'PRAGMA journal_mode=DELETE'` finishes the write"))
        }
        Ok(Some(bytes)) => linkgraph::read(&bytes),
        Err(e) => Err(e),
    };
    match read {
        Ok(graph) => {
            for problem in &graph.problems {
                let what = crate::text::text(&problem.chain());
                findings.push(Finding::new("G04", FILE, what).effect("that name or link is left out"));
            }
            Ok(graph)
        }
        Err(e) => {
            let mut finding = Finding::new("G04", FILE, e.chain())
                .effect("names are taken from the containers' own configuration; links between containers are lost");
            if let Some(hint) = e.hint_text() {
                finding = finding.fix(hint);
            }
            findings.push(finding);
            Ok(LinkGraph::default())
        }
    }
}

/// Gives every container a name of its own. Docker from 1.10 on takes the config's and does not load a second container of
/// the same name; before, the database decided.
fn settle_names(graph: &LinkGraph, store: &mut Store, findings: &mut Vec<Finding>) {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let old = |c: &Container| {
        c.files.iter().any(|f| matches!(&f.content, Content::Edited(path, _) if path.ends_with(OLD_CONFIG)))
    };
    // those that a newer Docker has converted keep their names
    taken.extend(store.containers.values().filter(|c| !old(c)).map(|c| c.name.clone()));
    for c in store.containers.values_mut().filter(|c| c.broken.is_none() && !c.foreign) {
        let known = graph.names.get(&c.id);
        if known.is_some_and(|names| !names.contains(&c.name)) {
            let names: Vec<&str> = known.into_iter().flatten().map(String::as_str).collect();
            let what = format!("linkgraph.db has another name for it: {}", crate::text::text(&names.join(", ")));
            findings.push(
                Finding::new("G09", c.subject(), what).effect("its own configuration is followed, as by Docker 1.10"),
            );
        }
        if !old(c) || !c.name.is_empty() && taken.insert(c.name.clone()) {
            continue;
        }
        let free = known.into_iter().flatten().find(|n| !taken.contains(*n)).cloned();
        let name = free.unwrap_or_else(|| match c.name.as_str() {
            "" => c.id.short().to_owned(),
            name => format!("{name}_{}", c.id.short()),
        });
        let what = if c.name.is_empty() { "it has no name" } else { "another container has the same name" };
        findings.push(
            Finding::new("G09", c.subject(), what).effect(format!("it is now called {}", crate::text::text(&name))),
        );
        for file in &mut c.files {
            if let (CONFIG, Content::Edited(_, changes)) = (file.name.as_str(), &mut file.content) {
                changes.push(("Name".to_owned(), json::string(&format!("/{name}"))));
            }
        }
        taken.insert(name.clone());
        c.name = name;
    }
}

/// Writes the links into `hostconfig.json`, where Docker from 1.10 on looks for them, unless some stand there already.
fn add_links(root: &Dir, graph: &LinkGraph, store: &mut Store, findings: &mut Vec<Finding>) -> Result<()> {
    let names: BTreeMap<ContainerId, String> =
        store.containers.values().map(|c| (c.id.clone(), c.name.clone())).collect();
    for (id, links) in &graph.links {
        let Some(c) = store.containers.get_mut(id).filter(|c| c.broken.is_none() && !c.foreign) else { continue };
        let mut list = Vec::new();
        for (alias, child) in links {
            match names.get(child).filter(|name| !name.is_empty()) {
                Some(name) => list.push(json::string(&format!("/{name}:{alias}"))),
                None => findings.push(
                    Finding::new("G04", c.subject(), format!("its link {alias:?} leads to no container"))
                        .effect("the link is left out"),
                ),
            }
        }
        let Some(file) = c.files.iter_mut().find(|f| f.name == HOST_CONFIG) else { continue };
        let set = match has_links(root, &format!("containers/{id}/{HOST_CONFIG}")) {
            Ok(true) => continue,
            Ok(false) => file.content.change(vec![("Links".to_owned(), format!("[{}]", list.join(",")))]),
            Err(e) => Err(e),
        };
        if let Err(e) = set {
            findings.push(Finding::new("G04", c.subject(), e.chain()).effect("its links are lost"));
        }
    }
    Ok(())
}

/// Has the host configuration links already?
fn has_links(root: &Dir, path: &str) -> Result<bool> {
    let Some(bytes) = root.read_opt(path, json::LIMIT)? else { return Ok(false) };
    let top = json::top_level(json::as_text(&bytes)?).map_err(|e| e.on(path))?;
    Ok(top.get("Links").is_some_and(|l| l.get() != "null"))
}
