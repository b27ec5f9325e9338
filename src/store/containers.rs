//! Containers of a content-addressable store (FORMATS 6.3, 8.7).
//!
//! ```text
//! ROOT/containers/<id>/config.v2.json                    Driver, Image, Name, State
//! ROOT/image/aufs/layerdb/mounts/<id>/{mount-id,init-id,parent}
//! ```

use super::content::{Chains, SMALL, text_of};
use super::driver::{Diff, Driver};
use super::old_fields::{self, Changes};
use super::{Container, ContainerFile, Content, DRIVER, Layer, MetaFile, Store};
use crate::checks::Finding;
use crate::disk::{Dir, FileType};
use crate::docker::driver::{Role, WrittenBy};
use crate::docker::json;
use crate::error::{Error, Result};
use crate::ids::{ChainId, ContainerId, LayerId};
use serde::Deserialize;

/// Files of a container's folder that a Docker may rewrite: each gets a new file, and the old one is kept for the way back.
/// Docker 29 rewrites both JSON files at boot (FORMATS 11.30); hosts and its like are truncated and rewritten at each start.
pub const REWRITTEN: &[&str] =
    &["config.v2.json", "config.json", "hostconfig.json", "hostname", "hosts", "resolv.conf", "resolv.conf.hash"];

/// A container's configuration, from Docker 1.10 on.
pub const CONFIG: &str = "config.v2.json";
/// What its host does for it.
pub const HOST_CONFIG: &str = "hostconfig.json";

/// What matters of a container's config.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Config {
    #[serde(rename = "ID")]
    id: Option<String>,
    #[serde(rename = "Name")]
    name: Option<String>,
    #[serde(rename = "Driver")]
    driver: Option<String>,
    #[serde(rename = "Image")]
    image: Option<String>,
    #[serde(rename = "State")]
    state: Option<State>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct State {
    #[serde(rename = "Running")]
    running: Option<bool>,
}

/// Reads all containers, and the writable layers that they own.
pub fn read(
    root: &Dir,
    driver: &Driver,
    chains: &Chains,
    store: &mut Store,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    if let Some(dir) = root.open_opt("containers")? {
        for (name, kind) in dir.list()? {
            let id = std::str::from_utf8(&name).ok().and_then(|s| ContainerId::parse(s).ok());
            let (Some(id), FileType::Directory) = (id, kind) else {
                findings.push(strange(&name));
                continue;
            };
            let container = read_one(root, &dir, &id, driver, chains, store, findings)?;
            store.containers.insert(id, container);
        }
    }
    read_mounts(root, driver.written_by, store, findings)
}

/// Something in `containers/` that is no container.
pub fn strange(name: &[u8]) -> Finding {
    Finding::new("C01", format!("containers/{}", crate::text::bytes(name)), "not a container of Docker")
        .effect("not touched")
}

/// Reads one container of this generation: `config.v2.json` and a record in `layerdb/mounts`.
pub fn read_one(
    root: &Dir,
    dir: &Dir,
    id: &ContainerId,
    driver: &Driver,
    chains: &Chains,
    store: &mut Store,
    findings: &mut Vec<Finding>,
) -> Result<Container> {
    let folder = dir.open(id.as_str())?;
    let mut c = describe(&folder, id, CONFIG, driver.written_by, findings);
    if c.broken.is_some() || c.foreign {
        return Ok(c);
    }
    rewrite(&folder, &mut c, CONFIG, vec![("Driver".to_owned(), DRIVER.to_owned())], findings)?;
    if let Err(e) = read_mount(root, &mut c, driver, chains, store, findings) {
        c.broken = Some(e.chain());
        findings.push(
            Finding::new("C04", c.subject(), e.chain())
                .effect("its configuration and what is left of its data stay in the old store"),
        );
    }
    Ok(c)
}

/// Lists the files that get a new one: each that Docker may write into, with `changes` and with what no Docker of today fills in. `file` is
/// the configuration, whichever generation wrote it.
pub fn rewrite(
    folder: &Dir,
    c: &mut Container,
    file: &str,
    changes: Changes,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let path = |name: &str| format!("containers/{}/{name}", c.id);
    let config = folder.read(file, json::LIMIT)?;
    let values: Vec<(&str, String)> = changes.iter().map(|(k, v)| (k.as_str(), docker_value(v))).collect();
    let config = json::set(json::as_text(&config)?, &values)?;
    let host = folder.read_opt(HOST_CONFIG, json::LIMIT)?;
    let (of_config, of_host) = match filled_in(&config, host.as_deref()) {
        Ok(both) => both,
        Err(e) => {
            let effect = "Docker cannot load it either; what old Dockers left empty stays empty";
            findings.push(Finding::new("C01", c.subject(), e.chain()).effect(effect));
            Default::default()
        }
    };
    let mut files = Vec::new();
    for name in REWRITTEN.iter().filter(|n| ![CONFIG, HOST_CONFIG].contains(n)) {
        if folder.try_stat(name.as_bytes()).is_ok_and(|m| m.is_file()) {
            files.push((*name, Content::Same(path(name))));
        }
    }
    let mut content = Content::Edited(path(file), changes);
    content.change(of_config)?;
    files.push((CONFIG, content));
    let mut content = if host.is_some() { Content::Same(path(HOST_CONFIG)) } else { Content::Text("{}".to_owned()) };
    content.change(of_host)?;
    files.push((HOST_CONFIG, content));
    c.files.extend(files.into_iter().map(|(name, content)| ContainerFile { name: name.to_owned(), content }));
    Ok(())
}

/// A value as JSON while the target is not known.
fn docker_value(value: &str) -> String {
    if value == DRIVER { json::string(value) } else { value.to_owned() }
}

/// What to set in a container's two files.
fn filled_in(config: &str, host: Option<&[u8]>) -> Result<(Changes, Changes)> {
    let host = json::as_text(host.unwrap_or(b"{}")).map_err(|e| e.on(HOST_CONFIG))?;
    let of_host = old_fields::host_config(host).map_err(|e| e.on(HOST_CONFIG))?;
    Ok((old_fields::config(config, host)?, of_host))
}

/// What the container's config file says, whichever generation wrote it; and what is wrong with it.
pub fn describe(folder: &Dir, id: &ContainerId, file: &str, by: WrittenBy, findings: &mut Vec<Finding>) -> Container {
    let mut c = Container {
        id: id.clone(),
        name: String::new(),
        image: String::new(),
        driver: String::new(),
        running: false,
        layer: None,
        init: None,
        foreign: false,
        broken: None,
        files: Vec::new(),
    };
    match folder.read(file, json::LIMIT).and_then(|b| parse(&b, id)) {
        Ok(config) => fill(&mut c, config),
        Err(e) => {
            c.broken = Some(format!("its {file}: {}", e.chain()));
            findings.push(
                Finding::new("C01", c.subject(), e.chain())
                    .effect("Docker cannot load it either; it stays where it is, with its data"),
            );
            return c;
        }
    }
    if !by.owns(&c.driver) {
        c.foreign = true;
        findings.push(
            Finding::new("C02", c.subject(), format!("it belongs to the driver {}", crate::text::text(&c.driver)))
                .effect("not touched"),
        );
    } else if c.running {
        findings.push(
            Finding::new("C03", c.subject(), "its state says that it runs")
                .fix("stop it, or Docker, before migrating")
                .effect("if Docker was killed: Docker corrects the state at its next start"),
        );
    }
    c
}

/// Reads the config file of the container `id`.
pub fn parse(bytes: &[u8], id: &ContainerId) -> Result<Config> {
    let text = json::as_text(bytes)?;
    if text.trim().is_empty() {
        return Err(Error::corrupt("the file is empty"));
    }
    // checks that it is an object and can be edited later
    json::top_level(text)?;
    let config: Config = serde_json::from_str(text).map_err(|e| Error::corrupt("unexpected content").with_source(e))?;
    match &config.id {
        Some(other) if other != id.as_str() => Err(Error::corrupt("it names another container's id")),
        _ => Ok(config),
    }
}

fn fill(c: &mut Container, config: Config) {
    c.name = config.name.unwrap_or_default().trim_start_matches('/').to_owned();
    c.driver = config.driver.unwrap_or_default();
    c.image = config.image.unwrap_or_default();
    c.running = config.state.and_then(|s| s.running).unwrap_or(false);
}

/// The container's writable layer and its init layer.
fn read_mount(
    root: &Dir,
    c: &mut Container,
    driver: &Driver,
    chains: &Chains,
    store: &mut Store,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let by = driver.written_by;
    let path = format!("image/{by}/layerdb/mounts/{}", c.id);
    let dir = root.open_opt(&path)?.ok_or_else(|| Error::corrupt("it has no record in layerdb/mounts"))?;
    let id = |name: &str| -> Result<Option<LayerId>> {
        dir.read_opt(name, SMALL)?.map(|b| text_of(&b).and_then(|s| LayerId::parse(&s))).transpose()
    };
    let layer = id("mount-id")?.ok_or_else(|| Error::corrupt("its record in layerdb/mounts names no layer"))?;
    let init = id("init-id")?;
    let parent = match dir.read_opt("parent", SMALL)? {
        Some(b) => Some(ChainId::parse(&text_of(&b)?)?),
        None => None,
    };
    let image = match parent {
        None => Vec::new(),
        Some(p) => {
            let top = chains
                .get(&p)
                .ok_or_else(|| Error::corrupt(format!("its image's layer {} is not in layerdb", p.short())))?;
            let below = store.layers.get(top).map(|l| l.lowers.clone()).unwrap_or_default();
            std::iter::once(top.clone()).chain(below).collect()
        }
    };
    let by_layerdb: Vec<LayerId> = init.iter().cloned().chain(image).collect();
    let lowers = lowers_of(driver, c, &layer, by_layerdb, findings)?;
    adopt(driver, store, &lowers);
    let init_lowers: Vec<LayerId> = lowers.iter().skip(1).cloned().collect();
    if let Some(init) = &init {
        own(driver, store, init, Role::Init, init_lowers)?;
    }
    if let Err(e) = own(driver, store, &layer, Role::Container, lowers) {
        // an init layer alone is of no use
        init.iter().for_each(|i| drop(store.layers.remove(i)));
        return Err(e);
    }
    for f in ["mount-id", "init-id", "parent"] {
        if dir.try_stat(f.as_bytes()).is_ok() {
            store.metadata.push(MetaFile {
                path: format!("layerdb/mounts/{}/{f}", c.id),
                content: Content::Same(format!("{path}/{f}")),
                layer: None,
                image: None,
                container: Some(c.id.clone()),
            });
        }
    }
    (c.layer, c.init) = (Some(layer), init);
    Ok(())
}

/// The layers below a container's own. The driver's list counts, where it keeps one: it is what was mounted.
fn lowers_of(
    driver: &Driver,
    c: &Container,
    layer: &LayerId,
    by_layerdb: Vec<LayerId>,
    findings: &mut Vec<Finding>,
) -> Result<Vec<LayerId>> {
    let by = driver.written_by;
    let Some(what) = by.list() else { return Ok(by_layerdb) };
    let mut differ = |how: String, effect: String| {
        let subject = format!("container {}", crate::text::text(&c.name));
        findings.push(Finding::new("C05", subject, how).effect(effect));
    };
    match driver.layers.get(layer) {
        Some(Ok(list)) => {
            if *list != by_layerdb {
                differ(
                    format!("{what} and layerdb name different layers below it"),
                    format!("{what} is followed: it is what {by} mounted"),
                );
            }
            Ok(list.clone())
        }
        Some(Err(e)) => Err(Error::corrupt(format!("{what}/{}: {e}", layer.short()))),
        None => {
            differ(format!("its layer has no file in {what}"), "the order is taken from layerdb".to_owned());
            Ok(by_layerdb)
        }
    }
}

/// Image layers that only a container's list names: the migration of Docker 1.10 merged equal chains in layerdb and left the
/// containers on the other folders.
pub fn adopt(driver: &Driver, store: &mut Store, lowers: &[LayerId]) {
    for (i, id) in lowers.iter().enumerate() {
        if store.layers.contains_key(id) || id.as_str().ends_with("-init") || !driver.diffs.contains_key(id) {
            continue;
        }
        let below = lowers[i + 1..].to_vec();
        let moved_to = match driver.diffs.get(id) {
            Some(Diff::Moved(rel)) => Some(rel.clone()),
            _ => None,
        };
        store.layers.insert(
            id.clone(),
            Layer {
                id: id.clone(),
                role: Role::Image,
                lowers: below,
                chain: None,
                diff: None,
                tar_split: false,
                moved_to,
                broken: None,
            },
        );
    }
}

/// Takes a container's own layer into the store.
pub fn own(driver: &Driver, store: &mut Store, id: &LayerId, role: Role, lowers: Vec<LayerId>) -> Result<()> {
    let moved_to = match driver.diffs.get(id) {
        Some(Diff::Here) => None,
        Some(Diff::Moved(rel)) => Some(rel.clone()),
        None => return Err(Error::corrupt(format!("its folder {} is missing", driver.written_by.folder(id)))),
    };
    for l in &lowers {
        match store.layers.get(l) {
            None => return Err(Error::corrupt(format!("the layer {} below it is missing", l.short()))),
            Some(layer) if layer.broken.is_some() => {
                return Err(Error::corrupt(format!("the layer {} below it is damaged", l.short())));
            }
            Some(_) => {}
        }
    }
    if store.layers.contains_key(id) {
        return Err(Error::corrupt(format!(
            "another image or container owns its folder {}",
            driver.written_by.folder(id)
        )));
    }
    let layer =
        Layer { id: id.clone(), role, lowers, chain: None, diff: None, tar_split: false, moved_to, broken: None };
    store.layers.insert(id.clone(), layer);
    Ok(())
}

/// Records in `layerdb/mounts` that belong to no container: BuildKit's, or a crash's.
pub fn read_mounts(root: &Dir, by: WrittenBy, store: &Store, findings: &mut Vec<Finding>) -> Result<()> {
    let Some(dir) = root.open_opt(format!("image/{by}/layerdb/mounts"))? else { return Ok(()) };
    for (name, _) in dir.list()? {
        let known = std::str::from_utf8(&name)
            .ok()
            .and_then(|s| ContainerId::parse(s).ok())
            .is_some_and(|id| store.containers.contains_key(&id));
        if !known {
            let shown = crate::text::bytes(&name);
            findings.push(
                Finding::new("D09", format!("layerdb/mounts/{shown}"), "it belongs to no container")
                    .effect("not moved"),
            );
        }
    }
    Ok(())
}
