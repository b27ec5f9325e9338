//! The images of an archive: as they are in the store, or made of a container.
//!
//! ```text
//! image          config byte for byte, its layers: the same id
//! its layer cannot be made again bit for bit    config with the digests of the tars that are written: another id, which is said
//! container      layers of its image │ its writable layer
//!                config: platform and history of its image; Cmd, Env, Labels, Volumes, User … of the container
//! ```

use super::layer::{self, Layer, Layers};
use super::names::Chosen;
use crate::checks::Finding;
use crate::disk::Dir;
use crate::docker::json;
use crate::error::{Error, Kind, Result};
use crate::ids::{ContainerId, DiffId, ImageId, LayerId, Sha256};
use crate::progress::Progress;
use crate::store::{Container, Store};
use crate::text;
use rayon::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};

/// An image to write.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The digest of its config.
    pub id: ImageId,
    /// Its config.
    pub config: Vec<u8>,
    /// Sorted.
    pub tags: Vec<String>,
    /// Base first.
    pub layers: Vec<Layer>,
    /// The image from which it was built, as Docker notes it.
    pub parent: Option<ImageId>,
    /// The id in the store, where it had to change.
    pub was: Option<ImageId>,
    /// The container that it was made of.
    pub container: Option<ContainerId>,
    /// What the user should know of it.
    pub notes: Vec<String>,
}

/// Finds out length and digest of many layers, several at a time.
pub fn measure(
    layers: &Layers<'_>,
    wanted: &BTreeSet<LayerId>,
    progress: &dyn Progress,
) -> BTreeMap<LayerId, Result<Layer>> {
    progress.phase("measure", wanted.len() as u64);
    let list: Vec<&LayerId> = wanted.iter().collect();
    let measured = list.par_iter().map(|id| {
        let layer = layers.measure(id);
        progress.step(&id.short());
        ((*id).clone(), layer)
    });
    measured.collect()
}

/// Makes the tar of each layer to check its digest. A layer that fails counts as damaged from then on; `true` if one did.
pub fn prove(layers: &Layers<'_>, measured: &mut BTreeMap<LayerId, Result<Layer>>, progress: &dyn Progress) -> bool {
    progress.phase("measure", measured.len() as u64);
    let prove = |(id, layer): (&LayerId, &mut Result<Layer>)| {
        let failed = layer.as_ref().ok().and_then(|l| layers.prove(l).err());
        progress.step(&id.short());
        failed.map(|e| *layer = Err(e)).is_some()
    };
    measured.par_iter_mut().map(prove).reduce(|| false, |a, b| a | b)
}

/// The layers of a container's image, base first, then its own. What Docker itself puts into each container is not among them.
pub fn stack(store: &Store, c: &Container) -> Result<Vec<LayerId>> {
    let damaged = |why: &str| Error::new(Kind::Failed, format!("{} can't be exported: {why}", c.subject()));
    if let Some(why) = &c.broken {
        return Err(damaged(why));
    }
    let own = c.layer.as_ref().and_then(|id| store.layers.get(id));
    let own = own.ok_or_else(|| damaged("it has no writable layer"))?;
    Ok(layer::kept(store, own).into_iter().chain([own.id.clone()]).collect())
}

fn taken(measured: &BTreeMap<LayerId, Result<Layer>>, ids: &[LayerId]) -> Result<Vec<Layer>> {
    ids.iter()
        .map(|id| match measured.get(id) {
            Some(Ok(layer)) => Ok(layer.clone()),
            Some(Err(e)) => {
                let copy = Error::new(e.kind(), e.chain());
                Err(match e.hint_text() {
                    Some(hint) => copy.hint(hint),
                    None => copy,
                })
            }
            None => Err(Error::corrupt(format!("layer {} was not measured", id.short()))),
        })
        .collect()
}

/// Where images are made of: the store, and its layers, measured.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Represents the store's ROOT.
    pub root: &'a Dir,
    /// What is in it.
    pub store: &'a Store,
    /// The layers that are wanted.
    pub measured: &'a BTreeMap<LayerId, Result<Layer>>,
}

/// An image of the store.
fn of_image(from: Source<'_>, id: ImageId, tags: &BTreeSet<String>) -> Result<Outgoing> {
    let Source { root, store, measured } = from;
    let on = |e: Error| e.on(format!("image {} can't be exported", id.short()));
    let image = store.images.get(&id).ok_or_else(|| on(Error::corrupt("it isn't in the store")))?;
    if let Some(why) = &image.broken {
        // the lowest one is the cause, what is based on it is damaged by it
        let mut layers = image.layers.iter().filter_map(|l| store.layers.get(l)?.broken.clone());
        let cause = layers.next().map_or(String::new(), |cause| format!(": {cause}"));
        return Err(on(Error::corrupt(format!("{why}{cause}"))));
    }
    let layers = taken(measured, &image.layers).map_err(on)?;
    let config = store.config(root, id).map_err(on)?;
    let parent = store.parent(root, id)?;
    let tags = tags.iter().cloned().collect();
    let mut out = Outgoing { id, config, tags, layers, parent, was: None, container: None, notes: Vec::new() };
    let remade: Vec<&Layer> = out.layers.iter().filter(|l| l.instead_of.is_some()).collect();
    if !remade.is_empty() {
        let names = remade.iter().map(|l| l.id.short()).collect::<Vec<_>>().join(", ");
        let text = json::as_text(&out.config)?;
        let diffs: Vec<DiffId> = out.layers.iter().map(|l| l.diff).collect();
        let text = json::set(text, &[("rootfs", rootfs(&diffs))])?;
        out.config = text.into_bytes();
        out.id = ImageId(Sha256::of(&out.config));
        out.was = Some(id);
        out.parent = None;
        out.notes.push(format!(
            "image {} gets the ID {}: without tar-split data, unaufs can't rebuild the original tar of {names}",
            id.short(),
            out.id.short()
        ));
    }
    out.notes.extend(layer::LeftOut::notes(out.layers.iter().map(|l| l.left_out)));
    Ok(out)
}

fn rootfs(diffs: &[DiffId]) -> String {
    let list = diffs.iter().map(|d| format!("\"{d}\"")).collect::<Vec<_>>().join(",");
    format!("{{\"type\":\"layers\",\"diff_ids\":[{list}]}}")
}

/// Keeps what Docker notes as an image's parent only where `docker load` takes it: the parent is in the archive, and its history is the
/// beginning of the image's, one entry shorter (FORMATS 10.3).
pub fn settle_parents(images: &mut [Outgoing]) {
    let history = |i: &Outgoing| -> Vec<Value> {
        let parsed: Option<Value> = serde_json::from_slice(&i.config).ok();
        parsed.and_then(|v| v.get("history")?.as_array().cloned()).unwrap_or_default()
    };
    let all: BTreeMap<ImageId, Vec<Value>> = images.iter().map(|i| (i.id, history(i))).collect();
    for image in images {
        let fits = image.parent.and_then(|p| all.get(&p)).zip(all.get(&image.id));
        if !fits.is_some_and(|(parent, own)| own.len() == parent.len() + 1 && own.starts_with(parent)) {
            image.parent = None;
        }
    }
}

/// What of a container's configuration belongs to an image: all that `docker create` takes from one.
const OF_IMAGE: [&str; 14] = [
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "StopTimeout",
    "User",
    "Volumes",
    "WorkingDir",
];

/// What of an image's config says where it runs.
const PLATFORM: [&str; 5] = ["architecture", "os", "os.features", "os.version", "variant"];

/// A container as an image.
pub fn of_container(from: Source<'_>, c: &Container) -> Result<Outgoing> {
    let Source { root, store, measured } = from;
    let on = |e: Error| e.on(format!("{} can't be exported", c.subject()));
    let layers = taken(measured, &stack(store, c)?).map_err(on)?;
    let found = c.files.iter().find(|f| f.name == "config.v2.json");
    let bytes = found.map(|f| f.content.bytes(root, store.written_by.name(), json::LIMIT)).transpose();
    let bytes = bytes.map_err(on)?.flatten().ok_or_else(|| on(Error::corrupt("it has no configuration")))?;
    // docker commit replaces what isn't UTF-8 too
    let text = &String::from_utf8_lossy(&bytes);
    let mut notes = Vec::new();
    let image = image_of(text).map_err(on)?.filter(|id| store.images.contains_key(id));
    let of_image = image.map(|id| store.config(root, id)).transpose().map_err(on)?;
    let of_layers = image.and_then(|id| store.images.get(&id)).map(|i| i.layers.len());
    if of_image.is_none() {
        notes.push(format!("{}: its image isn't in the store; unaufs uses this machine's architecture", c.subject()));
    }
    let config = composed(c, text, of_image.as_deref(), of_layers, &layers).map_err(on)?;
    let mounts = mount_points(text).map_err(on)?;
    if !mounts.is_empty() {
        notes.push(format!("{}: volumes aren't part of the image: {}", c.subject(), mounts.join(", ")));
    }
    notes.extend(layer::LeftOut::notes(layers.iter().map(|l| l.left_out)));
    let id = ImageId(Sha256::of(config.as_bytes()));
    let config = config.into_bytes();
    Ok(Outgoing {
        id,
        config,
        tags: vec![container_tag(store, c)],
        layers,
        parent: None,
        was: None,
        container: Some(c.id.clone()),
        notes,
    })
}

/// The image that a container's config names: for one of Docker up to 1.9 the new id, which is not in its old file.
fn image_of(container: &str) -> Result<Option<ImageId>> {
    let top = json::top_level(container)?;
    let named: Option<String> = top.get("Image").and_then(|raw| serde_json::from_str(raw.get()).ok());
    Ok(named.and_then(|id| ImageId::parse(&id).ok()))
}

/// The config of a container as an image: `of_image` is that of its image, which has `of_layers` layers.
fn composed(
    c: &Container,
    container: &str,
    of_image: Option<&[u8]>,
    of_layers: Option<usize>,
    layers: &[Layer],
) -> Result<String> {
    let top = json::top_level(container)?;
    let of_image = of_image.map(json::as_text).transpose()?.unwrap_or("{}");
    let from = json::top_level(of_image)?;
    let mut out: BTreeMap<&str, String> = BTreeMap::new();
    for key in PLATFORM {
        if let Some(value) = from.get(key) {
            out.insert(key, value.get().to_owned());
        }
    }
    out.entry("architecture").or_insert_with(|| json::string(architecture()));
    out.entry("os").or_insert_with(|| json::string("linux"));
    let own = match top.get("Config") {
        Some(config) => json::top_level(config.get())?,
        None => json::Object::default(),
    };
    let config: Vec<String> = OF_IMAGE
        .iter()
        .filter_map(|key| {
            let value = own.get(key).filter(|v| v.get() != "null")?;
            Some(format!("\"{key}\":{}", words(key, value)))
        })
        .collect();
    out.insert("config", format!("{{{}}}", config.join(",")));
    let created = top.get("Created").or(from.get("created")).map_or("\"1970-01-01T00:00:00Z\"", |v| v.get());
    out.insert("created", created.to_owned());
    // an image whose layers are not those below the container has another story
    if of_layers == layers.len().checked_sub(1) {
        let before: Vec<&RawValue> = match from.get("history").filter(|h| h.get() != "null") {
            Some(raw) => serde_json::from_str(raw.get())
                .map_err(|e| Error::corrupt("the history of its image").with_source(e))?,
            None => Vec::new(),
        };
        let entry = |by: String| format!("{{\"created\":{created},\"created_by\":{}}}", json::string(&by));
        let mut history: Vec<String> = before.iter().map(|e| e.get().to_owned()).collect();
        history.push(entry(format!("unaufs export: what container {} wrote", c.id.short())));
        out.insert("history", format!("[{}]", history.join(",")));
    }
    out.insert("rootfs", rootfs(&layers.iter().map(|l| l.diff).collect::<Vec<_>>()));
    let members: Vec<String> = out.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    Ok(format!("{{{}}}", members.join(",")))
}

/// Old Dockers wrote a command of one word as a string (FORMATS 8.2).
fn words(key: &str, value: &RawValue) -> String {
    match key {
        "Cmd" | "Entrypoint" | "Shell" if value.get().starts_with('"') => format!("[{}]", value.get()),
        _ => value.get().to_owned(),
    }
}

/// Where volumes and directories of the host were mounted.
fn mount_points(container: &str) -> Result<Vec<String>> {
    let top = json::top_level(container)?;
    let mut out = BTreeSet::new();
    for key in ["MountPoints", "Volumes"] {
        let Some(raw) = top.get(key).filter(|v| v.get() != "null") else { continue };
        out.extend(json::top_level(raw.get())?.entries().into_keys().map(|k| text::text(&k)));
    }
    Ok(out.into_iter().collect())
}

/// As images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// `unaufs/<name>:latest`: no tag that some other host may have, in the letters that Docker allows. Where another container of the store would
/// have the same tag, or an image has it, each of them gets its id too: a container's tag is the same whatever is exported with it.
pub fn container_tag(store: &Store, c: &Container) -> String {
    let own = stem(c);
    let tag = format!("unaufs/{own}:latest");
    let another = store.containers.values().any(|o| o.id != c.id && !o.foreign && stem(o) == own);
    match another || store.images.values().any(|i| i.tags.contains(&tag)) {
        true => format!("unaufs/{own}-{}:latest", c.id.short()),
        false => tag,
    }
}

fn stem(c: &Container) -> String {
    let lower = c.name.to_lowercase();
    let parts: Vec<&str> = lower.split(|ch: char| !ch.is_ascii_alphanumeric()).filter(|p| !p.is_empty()).collect();
    if parts.is_empty() { c.id.short().to_owned() } else { parts.join("-") }
}

/// What was left out, and why.
pub type LeftOut = Vec<(String, String)>;

/// The images of the store that were asked for, and what of them is damaged.
pub fn of_images(from: Source<'_>, chosen: &Chosen, left_out: &mut LeftOut) -> Result<Vec<Outgoing>> {
    let mut out = Vec::new();
    for (id, tags) in chosen {
        match of_image(from, *id, tags) {
            Ok(image) => out.push(image),
            Err(e) if e.kind() == Kind::Failed => {
                let name = tags.first().cloned().unwrap_or_else(|| id.short());
                left_out.push((name, e.chain()));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

/// The containers that were asked for as images, and what of them is damaged.
pub fn of_containers(
    from: Source<'_>,
    chosen: &BTreeMap<ContainerId, &Container>,
    left_out: &mut LeftOut,
) -> Result<Vec<Outgoing>> {
    let mut out = Vec::new();
    for c in chosen.values() {
        match of_container(from, c) {
            Ok(image) => out.push(image),
            Err(e) if e.kind() == Kind::Failed => left_out.push((c.subject(), e.chain())),
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

/// What the store itself lost of what was asked for: tags of images that are gone, images without a readable configuration.
pub fn lost(store: &Store, findings: &[Finding], named: &[String], all: bool) -> LeftOut {
    let shown: BTreeSet<String> = store.images.keys().map(|id| id.short().to_owned()).collect();
    let concerns = |f: &&Finding| match f.id.as_str() {
        // damaged images of which the store knows more are named one by one
        "D03" | "G01" => all && !shown.contains(&f.subject.id) && !shown.contains(&f.subject.name),
        "D10" | "G03" => all,
        "D06" => {
            let text = f.subject.to_string();
            let tag = text.strip_prefix("tag ").unwrap_or(&text);
            let of_image = store.images.values().any(|i| i.tags.iter().chain(&i.digests).any(|t| t == tag));
            !of_image && (all || named.iter().any(|name| super::names::fits(name, tag)))
        }
        _ => false,
    };
    findings.iter().filter(concerns).map(|f| (f.subject.to_string(), f.message.clone())).collect()
}
