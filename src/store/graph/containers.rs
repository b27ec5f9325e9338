//! Containers of a graph store, and what `linkgraph.db` knows of them (FORMATS 8.5 to 8.7).
//!
//! ```text
//! ROOT/containers/<id>/config.json        becomes config.v2.json with another Image and Driver
//!                      hostconfig.json    gets its Links from ROOT/linkgraph.db
//! ROOT/aufs/layers/<id>                   what is below the container
//! ```

use super::images::{self, Images};
use super::linkgraph::{self, LinkGraph};
use super::{V1Id, hosts};
use crate::checks::Finding;
use crate::disk::{Dir, FileType};
use crate::docker::json;
use crate::error::{Error, Result};
use crate::ids::{ChainId, ContainerId, ImageId, LayerId, named};
use crate::store::boot::{self, CONFIG, HOST_CONFIG, OLD_CONFIG};
use crate::store::containers::{self, Reader};
use crate::store::{Container, Content, DRIVER, Store};
use std::collections::BTreeMap;

/// Is there a container that no Docker has converted yet?
pub fn left_to_convert(root: &Dir) -> Result<bool> {
    let Some(dir) = root.open_opt("containers")? else { return Ok(false) };
    for (name, kind) in dir.list()? {
        if kind == FileType::Directory
            && let Some(id) = named(&name, ContainerId::parse)
            && config_file(&dir.open(&name)?, &id) == OLD_CONFIG
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The file that says what the container is: `config.v2.json`, unless a Docker that was stopped while it converted left that one unreadable
/// next to a whole `config.json`.
pub fn config_file(directory: &Dir, id: &ContainerId) -> &'static str {
    let whole = |file: &str| directory.read(file, json::LIMIT).is_ok_and(|b| boot::config(&b, id).is_ok());
    // what can't be looked at is there: who reads it says what is wrong with it
    let there = |file: &str| directory.has(file).unwrap_or(true);
    let old = there(OLD_CONFIG) && whole(OLD_CONFIG);
    if !there(CONFIG) || old && !whole(CONFIG) { OLD_CONFIG } else { CONFIG }
}

/// Reads all containers, and the writable layers that they own.
pub fn read(mut reader: Reader<'_>, images: &Images) -> Result<()> {
    let (mut graph, lost) = read_links(reader.root, reader.findings)?;
    reader.each(|reader, directory, id| {
        // Docker wrote the config first and the record then; a crash between the two lost the container
        let file = config_file(directory, id);
        match file == CONFIG && reader.root.has(format!("image/aufs/layerdb/mounts/{id}"))? {
            true => reader.read_one(directory, id),
            false => read_one(reader, images, directory, id, file),
        }
    })?;
    containers::settle_names(&graph.names, reader.store, reader.findings);
    if let Some(why) = lost {
        graph.links = hosts::recover(reader.root, &why, reader.store, reader.findings);
    }
    add_links(reader.root, &graph, reader.store, reader.findings)?;
    reader.read_mounts()
}

fn read_one(
    reader: &mut Reader<'_>,
    images: &Images,
    directory: &Dir,
    id: &ContainerId,
    file: &str,
) -> Result<Container> {
    let driver = reader.driver;
    let mut c = containers::describe(directory, id, file, driver.written_by, reader.findings);
    if c.broken.is_none() && !c.foreign {
        if file == OLD_CONFIG && directory.has(CONFIG)? {
            let what = format!("its {CONFIG} can't be read, its {OLD_CONFIG} can");
            let effect = format!("{OLD_CONFIG} is converted instead");
            reader.findings.push(Finding::new("C05", c.subject(), what).effect(effect));
        }
        let placed = place(reader, images, &mut c);
        if let Err(e) = placed.and_then(|image| convert(directory, &mut c, file, image, reader.findings)) {
            containers::stays(&mut c, &e, reader.findings);
        }
    }
    if c.broken.is_some() || c.foreign {
        reader.claim(c.id.as_str());
        c.on_disk = LayerId::parse(c.id.as_str()).ok().and_then(|id| containers::on_disk(driver, id));
    }
    Ok(c)
}

/// Finds the container's image and layers. Gives the new id of the image.
fn place(reader: &mut Reader<'_>, images: &Images, c: &mut Container) -> Result<ImageId> {
    let (driver, store) = (reader.driver, &*reader.store);
    let (image, chain): (ImageId, Option<ChainId>) = match V1Id::parse(&c.image) {
        Ok(v1) => {
            let Some(new) = images.new.get(&v1) else {
                let why = images.damaged.get(&v1).cloned();
                c.held_by = Some(why.unwrap_or_else(|| images::cause(&v1, "it is missing")));
                return Err(Error::corrupt(format!("its image {} is missing or damaged", v1.short())));
            };
            (new.id, new.chain)
        }
        Err(_) => {
            let id = ImageId::parse(&c.image).map_err(|e| e.on("its image"))?;
            let top = store.images.get(&id).filter(|i| i.broken.is_none()).and_then(|i| i.layers.last());
            let chain = top.and_then(|l| store.layers.get(l)).and_then(|l| l.chain);
            (id, Some(chain.ok_or_else(|| Error::corrupt("its image is missing or damaged"))?))
        }
    };
    let top = chain.and_then(|chain| reader.chains.get(&chain)).and_then(|l| store.layers.get(l));
    let layer = LayerId::parse(c.id.as_str())?;
    let init = Some(LayerId::parse(&format!("{}-init", c.id))?)
        .filter(|i| driver.layers.contains_key(i) || driver.diffs.contains_key(i));
    let stack = top.into_iter().flat_map(|t| std::iter::once(&t.id).chain(&t.lowers));
    let by_graph: Vec<LayerId> = init.iter().chain(stack).cloned().collect();
    let lowers = reader.lowers(c, &layer, &by_graph, &|id| images.stand_in(id))?;
    reader.take(c, (&layer, &init), lowers)?;
    let parent = chain.map(|chain| ("parent", chain.to_string()));
    let init_id = init.as_ref().map(|i| ("init-id", i.to_string()));
    let files = [Some(("mount-id", layer.to_string())), init_id, parent].into_iter().flatten();
    reader.store.metadata.extend(files.map(|(name, text)| containers::of_mount(&c.id, name, Content::Text(text))));
    (c.layer, c.init) = (Some(layer), init);
    Ok(image)
}

/// Lists the files to write: the new config, and a new file for each that Docker may write into.
fn convert(directory: &Dir, c: &mut Container, file: &str, image: ImageId, findings: &mut Vec<Finding>) -> Result<()> {
    let bytes = directory.read(file, json::LIMIT)?;
    let mut changes =
        vec![("Image".to_owned(), json::string(&image.to_string())), ("Driver".to_owned(), DRIVER.to_owned())];
    changes.extend(containers::needed(c));
    if let Some(points) = mount_points(&json::editable(&bytes)?, c, findings)? {
        changes.push(("MountPoints".to_owned(), points));
    }
    containers::rewrite(directory, c, file, changes, findings)
}

/// `MountPoints` for a container from before 1.7, which has `Volumes` instead. Docker made this up itself until 18.03.
///
/// Docker's own volumes of that time are directories in `vfs/dir`. They are mounted from where they are, like a host's directory:
/// that works on every Docker, needs no symlink in `volumes/`, and no `docker volume prune` can take them away.
fn mount_points(config: &str, c: &Container, findings: &mut Vec<Finding>) -> Result<Option<String>> {
    let top = json::top_level(config)?;
    // null leaves a field alone
    let field = |name: &str| top.get(name).map(|raw| raw.get()).filter(|raw| *raw != "null");
    let bad = |e| Error::corrupt("its volumes can't be read").with_source(e);
    let volumes: BTreeMap<String, Option<String>> =
        field("Volumes").map(serde_json::from_str).transpose().map_err(bad)?.unwrap_or_default();
    let writable: BTreeMap<String, Option<bool>> =
        field("VolumesRW").map(serde_json::from_str).transpose().map_err(bad)?.unwrap_or_default();
    let has_points = field("MountPoints").map(json::top_level).transpose()?.is_some_and(|p| !p.entries().is_empty());
    if volumes.is_empty() || has_points {
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
            let what = format!("its volume {destination} is the directory {source}");
            let effect = "the container mounts it from there, as before; docker volume ls doesn't list it";
            findings.push(Finding::new("G10", c.subject(), crate::text::text(&what)).effect(effect));
        }
        let writable = writable.get(&destination).copied().flatten().unwrap_or(false);
        let [key, source] = [&destination, &source].map(|s| json::string(s));
        // the fields of a bind mount as Docker 1.9 wrote them
        points.push(format!(
            r#"{key}:{{"Name":"","Destination":{key},"Driver":"","RW":{writable},"Source":{source},"Relabel":""}}"#
        ));
    }
    Ok(Some(format!("{{{}}}", points.join(","))))
}

/// Reads `linkgraph.db`, or says why it can't be read. Without it the names come from the containers' configs.
fn read_links(root: &Dir, findings: &mut Vec<Finding>) -> Result<(LinkGraph, Option<String>)> {
    const FILE: &str = "linkgraph.db";
    // what a crash left to be finished is in another file: the database alone may be half of a change
    let unfinished =
        |suffix: &str| -> Result<bool> { Ok(root.stat_opt(format!("{FILE}{suffix}"))?.is_some_and(|m| m.size > 0)) };
    let read = match root.read_opt(FILE, linkgraph::MAX_LEN as u64) {
        // Docker made it at its first start, and a link needs two containers
        Ok(None) if left_to_convert(root)? && root.open("containers")?.list()?.len() > 1 => {
            Err(Error::corrupt("it is missing"))
        }
        Ok(None) => return Ok((LinkGraph::default(), None)),
        Ok(Some(_)) if unfinished("-wal")? || unfinished("-journal")? => {
            let what = "there is a journal next to it, so a write wasn't finished";
            Err(Error::corrupt(what).hint("Finish the write with: sqlite3 linkgraph.db 'PRAGMA journal_mode=DELETE'"))
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
            Ok((graph, None))
        }
        Err(e) => {
            let mut finding = Finding::new("G04", FILE, e.chain()).effect(
                "names come from the containers' configuration, and links from their hosts files; other links are lost",
            );
            if let Some(hint) = e.hint_text() {
                finding = finding.fix(hint);
            }
            findings.push(finding);
            Ok((LinkGraph::default(), Some(e.chain())))
        }
    }
}

/// Docker 1.10 converted the links last, of each container with null in their place. Where it was stopped before, or a Docker that no longer
/// does this has converted the rest, they are in `linkgraph.db` alone.
pub fn links_left(root: &Dir, store: &mut Store, findings: &mut Vec<Finding>) -> Result<()> {
    let file = |c: &Container, name: &str| format!("containers/{}/{name}", c.id);
    let left = |c: &&Container| {
        let of_old = c.broken.is_none() && !c.foreign && root.has(file(c, OLD_CONFIG)).unwrap_or(false);
        of_old && has_links(root, &file(c, HOST_CONFIG)).is_ok_and(|has| !has)
    };
    let left: BTreeMap<ContainerId, String> =
        store.containers.values().filter(left).map(|c| (c.id.clone(), c.subject())).collect();
    if left.is_empty() {
        return Ok(());
    }
    let (mut graph, lost) = read_links(root, findings)?;
    if let Some(why) = lost {
        graph.links = hosts::recover(root, &why, store, findings);
    }
    graph.links.retain(|id, _| left.contains_key(id));
    for id in graph.links.keys() {
        let what = "no newer Docker has converted its links, which are in linkgraph.db";
        findings.push(Finding::new("G08", left[id].as_str(), what).effect("they are written into hostconfig.json"));
    }
    add_links(root, &graph, store, findings)
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
                    Finding::new("G04", c.subject(), format!("its link {alias:?} doesn't lead to a container"))
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
    let top = json::editable(&bytes)?;
    let top = json::top_level(&top).map_err(|e| e.on(path))?;
    Ok(top.get("Links").is_some_and(|l| l.get() != "null"))
}
