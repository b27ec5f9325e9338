//! From `graph/` to the images and layers of a [`Store`]: what Docker 1.10 would have written into `image/aufs`.

use super::V1Id;
use super::convert::{self, Converted};
use super::digest::{self, Digested};
use super::dirs::{self, GraphDir};
use super::lineage::{self, Lineage};
use super::references::{self, Problem};
use super::v1::V1Image;
use crate::checks::{Finding, Level};
use crate::disk::Dir;
use crate::docker::driver::Role;
use crate::docker::json;
use crate::error::Result;
use crate::ids::{ImageId, LayerId, Sha256, named};
use crate::store::content::{self, Chains};
use crate::store::driver::Driver;
use crate::store::repositories::{MISSING, lose, lose_tags};
use crate::store::stack::Listed;
use crate::store::{Cause, Content, DAMAGED, Image, Layer, Lost, MetaFile, Store};
use rayon::prelude::*;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// What became of the v1 images.
#[derive(Debug, Default)]
pub struct Images {
    /// The new image of each sound one.
    pub new: BTreeMap<V1Id, Converted>,
    /// What is wrong with each of the others.
    pub damaged: BTreeMap<V1Id, Cause>,
    /// The layer that is used for each: of several with one chain Docker kept the first.
    kept: BTreeMap<LayerId, LayerId>,
}

/// An image of before Docker 1.10 that can't be converted.
pub fn cause(id: &V1Id, why: impl Into<String>) -> Cause {
    Cause { kind: "image".to_owned(), id: id.short(), reason: why.into() }
}

impl Images {
    /// The layer that is used for another one.
    pub fn stand_in(&self, layer: &LayerId) -> LayerId {
        self.kept.get(layer).unwrap_or(layer).clone()
    }
}

/// Is there an image in `graph/` that no Docker has converted yet?
pub fn left_to_convert(root: &Dir) -> Result<bool> {
    let Some(graph) = root.open_opt("graph")? else { return Ok(false) };
    let done = dirs::converted(root, &mut Vec::new());
    Ok(graph.list()?.iter().filter_map(|(name, _)| named(name, V1Id::parse)).any(|id| !done.contains_key(&id)))
}

fn config_path(image: &ImageId) -> String {
    format!("image/aufs/imagedb/content/sha256/{}", image.hex())
}

/// Reads and converts all images. `store` and `chains` may hold what Docker has converted already; that stays unchanged.
pub fn read(
    root: &Dir,
    driver: &Driver,
    chains: &mut Chains,
    store: &mut Store,
    findings: &mut Vec<Finding>,
) -> Result<Images> {
    // where all is converted somebody may have deleted it
    let directories = match root.open_opt("graph")? {
        Some(graph) => dirs::read(&graph, findings)?,
        None => BTreeMap::new(),
    };
    let done = dirs::converted(root, findings);
    let mut import = Import { root, driver, chains, store, findings, images: Images::default() };
    import.take_converted(&done, directories.len());
    let mut checked: BTreeMap<&V1Id, Checked<'_>> = BTreeMap::new();
    // one that was converted is done, also where its image was removed since
    for (id, directory) in directories.iter().filter(|(id, _)| !done.contains_key(id)) {
        checked.insert(id, directory.as_ref().map_err(String::clone).and_then(|f| dirs::check(id, f, driver)));
    }
    let digests = import.digest(&mut checked);
    let mut lineage = import.trace(&checked);
    let mut blobs = Blobs::default();
    for id in &lineage.order {
        let (Some(Ok((image, parent))), Some(layer)) = (checked.get(id), digests.get(id)) else { continue };
        let below =
            parent.as_ref().map(|p| import.images.new.get(p).ok_or_else(|| lineage::damaged_parent(p))).transpose();
        match below.and_then(|below| convert::convert(image, layer.diff, below).map_err(|e| e.chain())) {
            Ok(made) => {
                if let Some(Ok(GraphDir { checksum: Some(blob), .. })) = directories.get(id) {
                    blobs.add(layer.diff.0, *blob);
                }
                import.add_layer(id, layer, &made);
                import.images.new.insert(id.clone(), made);
            }
            Err(why) => {
                lineage.broken.insert(id.clone(), why);
            }
        }
    }
    import.blame(&checked, &lineage);
    import.add_images(&lineage);
    import.add_references(!checked.is_empty())?;
    import.name_broken(&lineage);
    import.add_blobs(blobs);
    Ok(import.images)
}

/// A directory's image and the directory of its parent, or what is wrong with it.
type Checked<'f> = Result<(V1Image<'f>, Option<V1Id>), String>;

/// Everything that is read and filled on the way.
struct Import<'a> {
    root: &'a Dir,
    driver: &'a Driver,
    chains: &'a mut Chains,
    store: &'a mut Store,
    findings: &'a mut Vec<Finding>,
    images: Images,
}

impl Import<'_> {
    /// Takes over the images that a Docker from 1.10 on has converted, where they are still there and sound. `all` is how many there were.
    fn take_converted(&mut self, done: &BTreeMap<V1Id, ImageId>, all: usize) {
        for (id, image) in done {
            let (id, image) = (id.clone(), *image);
            let Some(there) = self.store.images.get_mut(&image) else {
                self.images
                    .damaged
                    .insert(id.clone(), cause(&id, "a newer Docker converted it, and it has been removed since then"));
                continue;
            };
            if let Some(why) = &there.broken {
                self.images.damaged.insert(id.clone(), there.held_by.clone().unwrap_or_else(|| cause(&id, why)));
                continue;
            }
            match self.root.read(config_path(&image), json::LIMIT).and_then(|c| convert::read(image, &c)) {
                Ok(made) => {
                    there.old_id.get_or_insert_with(|| id.to_string());
                    if let Some(top) = there.layers.last() {
                        self.images.kept.insert(id.layer().clone(), top.clone());
                    }
                    self.images.new.insert(id, made);
                }
                Err(e) => self.findings.push(
                    Finding::new("G08", format!("image {}", id.short()), e.chain())
                        .effect("images based on it can't be converted"),
                ),
            }
        }
        if !self.images.new.is_empty() {
            let what = format!("a newer Docker has converted {} of {} images", done.len(), all.max(done.len()));
            self.findings.push(
                Finding::new("G08", "graph/", what).effect("those images stay unchanged; the others are converted now"),
            );
        }
    }

    /// Which image is based on which; what Docker has converted is based on nothing else.
    fn trace(&self, checked: &BTreeMap<&V1Id, Checked<'_>>) -> Lineage {
        let mut claims: BTreeMap<V1Id, lineage::Claim> =
            self.images.new.keys().map(|id| (id.clone(), Ok(None))).collect();
        for (id, c) in checked {
            let claim = c.as_ref().map(|(_, parent)| parent.clone()).map_err(String::clone);
            claims.insert((*id).clone(), claim);
        }
        lineage::trace(&claims)
    }

    /// Finds the damaged image that each other one is based on.
    fn blame(&mut self, checked: &BTreeMap<&V1Id, Checked<'_>>, lineage: &Lineage) {
        for id in lineage.broken.keys() {
            let mut at = id;
            // a circle has another reason, so this ends
            while let Some(Ok((_, Some(parent)))) = checked.get(at)
                && lineage.broken.get(at) == Some(&lineage::damaged_parent(parent))
                && lineage.broken.contains_key(parent)
            {
                at = parent;
            }
            let why = lineage.broken.get(at).cloned().unwrap_or_default();
            self.images.damaged.insert(id.clone(), cause(at, why));
        }
    }

    /// Digests the layers of all images that are sound so far, on all cores. What cannot be read is not sound any more.
    fn digest(&self, checked: &mut BTreeMap<&V1Id, Checked<'_>>) -> BTreeMap<V1Id, Digested> {
        let order = self.trace(checked).order;
        let wanted: Vec<&V1Id> = order.iter().filter(|id| !self.images.new.contains_key(id)).collect();
        let (root, driver) = (self.root, self.driver);
        let results: Vec<(&V1Id, Result<Digested>)> =
            wanted.into_par_iter().map(|id| (id, digest::layer(root, id, driver))).collect();
        let mut out = BTreeMap::new();
        for (id, result) in results {
            match (result, checked.get_mut(id)) {
                (Ok(d), _) => drop(out.insert(id.clone(), d)),
                (Err(e), Some(c)) => *c = Err(format!("its layer can't be read: {}", e.chain())),
                (Err(_), None) => {}
            }
        }
        out
    }

    /// Registers the layer of `id`, unless one with this chain is there already.
    fn add_layer(&mut self, id: &V1Id, layer: &Digested, made: &Converted) {
        let Some(chain) = made.chain else { return };
        let subject = format!("layer {}", id.short());
        if let Some(first) = self.chains.get(&chain) {
            if first != id.layer() {
                self.findings.push(
                    Finding::new(
                        "G02",
                        subject,
                        format!("it is a duplicate of layer {}", first.short()),
                    )
                    .effect("that layer is used for both, as in Docker 1.10; this directory is migrated only if a container is based on it"),
                );
                self.store.orphans.push(id.to_string());
            }
            self.images.kept.insert(id.layer().clone(), first.clone());
            return;
        }
        let below = made.parent_chain.and_then(|p| self.chains.get(&p)).and_then(|b| self.store.layers.get(b));
        let lowers: Vec<LayerId> =
            below.map(|b| std::iter::once(&b.id).chain(&b.lowers).cloned().collect()).unwrap_or_default();
        self.compare_with_driver(id, &lowers);
        if layer.unfit.is_some() || layer.new_id.is_some() {
            let new_id = layer.new_id.as_ref().filter(|_| !layer.damaged);
            let what: Vec<&str> = layer.unfit.iter().chain(new_id).map(String::as_str).collect();
            let effect = match layer.new_id {
                Some(_) => "the layer and all images with it get new IDs",
                None => "unaufs writes the tar as Docker 1.10 did",
            };
            let finding = Finding::new("G06", subject, what.join("; "));
            let damaged = layer.damaged;
            let finding = if damaged { self.lose_content(id, finding) } else { finding.effect(effect) };
            self.findings.push(finding);
        }
        let layer_id = id.layer().clone();
        self.images.kept.insert(layer_id.clone(), layer_id.clone());
        self.chains.insert(chain, layer_id.clone());
        let mut files = vec![
            ("cache-id", Content::Text(id.to_string())),
            ("diff", Content::Text(layer.diff.to_string())),
            ("size", Content::Text(layer.size.to_string())),
            ("tar-split.json.gz", layer.split.clone()),
        ];
        if let Some(parent) = made.parent_chain {
            files.push(("parent", Content::Text(parent.to_string())));
        }
        self.store.metadata.extend(files.into_iter().map(|(name, content)| {
            let path = format!("layerdb/sha256/{}/{name}", chain.hex());
            MetaFile { layer: Some(layer_id.clone()), ..MetaFile::new(path, content) }
        }));
        let moved_to = self.driver.moved_to(&layer_id);
        let new = Layer {
            chain: Some(chain),
            diff: Some(layer.diff),
            tar_split: true,
            ..Layer::bare(layer_id.clone(), Role::Image, lowers, moved_to)
        };
        self.store.layers.insert(layer_id, new);
    }

    /// Notes that a layer isn't what Docker made. It moves as it is now.
    fn lose_content(&mut self, id: &V1Id, finding: Finding) -> Finding {
        let lost = "The layer moves with its damage. It and all images with it get other IDs, and docker push uploads other layers. To repair an image, pull or build it again.";
        self.store.lost.push(Lost {
            kind: DAMAGED.to_owned(),
            id: id.to_string(),
            reason: finding.message.clone(),
            lost: lost.to_owned(),
        });
        finding
            .level(Level::Warn)
            .fix("pull or build its images again")
            .effect("the layer moves with its damage; it and all images with it get other IDs, and docker push uploads other layers")
    }

    fn compare_with_driver(&mut self, id: &V1Id, lowers: &[LayerId]) {
        let what = match self.driver.layers.get(id.layer()) {
            Some(Listed::Whole(list)) if list.iter().map(|l| self.images.stand_in(l)).eq(lowers.iter().cloned()) => {
                return;
            }
            Some(Listed::Whole(_) | Listed::Cut(..)) => {
                "aufs/layers and graph/ name different layers below it".to_owned()
            }
            Some(Listed::Bad(e)) => format!("aufs/layers: {e}"),
            None => "it has no list in aufs/layers".to_owned(),
        };
        self.findings.push(Finding::new("D08", format!("layer {}", id.short()), what).effect("graph/ is used"));
    }

    fn add_images(&mut self, lineage: &Lineage) {
        let mut parents: BTreeMap<ImageId, ImageId> = BTreeMap::new();
        let sound = lineage.order.iter().filter_map(|id| self.images.new.get(id).map(|made| (id, made)));
        for (id, made) in sound {
            // two v1 images can be one new image: the ids do not go into the config
            let known = self.store.images.get_mut(&made.id);
            let (Some(config), None) = (&made.config, &known) else {
                known.map(|image| image.old_id.get_or_insert_with(|| id.to_string()));
                // of two parents Docker kept the one that it wrote last
                if let (Some(parent), Some(last)) = (made.parent, parents.get_mut(&made.id)) {
                    *last = parent;
                }
                continue;
            };
            let top = made.chain.and_then(|c| self.chains.get(&c)).and_then(|l| self.store.layers.get(l));
            let layers = top.map(|t| t.lowers.iter().rev().chain([&t.id]).cloned().collect()).unwrap_or_default();
            let old_id = Some(id.to_string());
            let image = Image { old_id, layers, ..Image::bare(made.id) };
            self.store.images.insert(made.id, image);
            self.store.metadata.push(image_file(&made.id, "content", "", config.clone()));
            made.parent.and_then(|parent| parents.insert(made.id, parent));
        }
        if !self.images.new.is_empty() {
            let new_ids = self.findings.iter().any(|f| f.id == "G06");
            let except = if new_ids { ", except for layers that G06 lists" } else { "" };
            let what = format!(
                "its {} get the IDs that Docker 1.10 would give them{except}",
                crate::text::plural(self.images.new.len(), "image")
            );
            self.findings.push(
                Finding::new("G05", "graph/", what)
                    .effect("tags and digests stay; scripts that use an image ID need the new ID"),
            );
        }
        for (id, parent) in parents {
            self.store.metadata.push(image_file(&id, "metadata", "/parent", parent.to_string()));
        }
        for (id, why) in &lineage.broken {
            self.add_broken(id, why);
        }
    }

    /// An image that cannot be converted has no new id. It goes by its old one, in a place where only what moves is looked at.
    fn add_broken(&mut self, id: &V1Id, why: &str) {
        let why = crate::text::text(why);
        let layer = id.layer().clone();
        if self.driver.diffs.contains_key(&layer) && !self.store.layers.contains_key(&layer) {
            let new = Layer {
                broken: Some(why.clone()),
                held_by: self.images.damaged.get(id).cloned(),
                ..Layer::bare(layer.clone(), Role::Image, vec![], self.driver.moved_to(&layer))
            };
            self.store.layers.insert(layer, new);
        }
        if let Some(placeholder) = placeholder(id) {
            let old_id = Some(id.to_string());
            let held_by = self.images.damaged.get(id).cloned();
            let image = Image { old_id, broken: Some(why), held_by, ..Image::bare(placeholder) };
            self.store.images.insert(placeholder, image);
        }
    }

    /// Names the images that cannot be converted, by their tags, and the damaged one that each is based on.
    fn name_broken(&mut self, lineage: &Lineage) {
        for (id, why) in &lineage.broken {
            let cause = self.images.damaged.get(id).filter(|c| c.id != id.short());
            let what = match cause.and_then(|c| lineage.broken.keys().find(|b| b.short() == c.id)) {
                Some(base) => format!("it is based on the damaged {}", self.named(base)),
                None => crate::text::text(why),
            };
            self.findings.push(Finding::new("G01", self.named(id), what));
        }
    }

    /// An image that cannot be converted, in the words of a finding.
    fn named(&self, id: &V1Id) -> String {
        let image = placeholder(id).and_then(|new| self.store.images.get(&new));
        match image.and_then(|i| i.tags.first()) {
            Some(tag) => format!("image {} ({})", crate::text::text(tag), id.short()),
            None => format!("image {}", id.short()),
        }
    }

    /// Notes a tag whose image is gone, and with that the image, unless a newer Docker has removed it.
    fn lost_tag(&mut self, v1: &str, tag: String) {
        let what = format!("its image {v1:.12} is not in graph/");
        self.findings.push(Finding::new("D06", format!("tag {tag}"), what));
        let Ok(id) = V1Id::parse(v1) else { return };
        if let Some(new) = placeholder(&id).filter(|_| !self.images.damaged.contains_key(&id)) {
            let gone = || Image { old_id: Some(v1.to_owned()), broken: Some(GONE.to_owned()), ..Image::bare(new) };
            let image = self.store.images.entry(new).or_insert_with(gone);
            let list = if tag.contains('@') { &mut image.digests } else { &mut image.tags };
            list.push(tag);
        }
    }

    /// Takes over the tags that no Docker has converted. `unconverted`: some images are not converted either.
    fn add_references(&mut self, unconverted: bool) -> Result<()> {
        let (marked, there) = (self.root.has(super::TAGS_DONE)?, self.root.has(super::NEW_TAGS)?);
        if marked && there {
            return Ok(());
        }
        // before 0.7 the file had no suffix (FORMATS 8.5)
        let suffixed = self.root.has(super::TAGS)? || !self.root.has("repositories")?;
        let file = if suffixed { super::TAGS } else { "repositories" };
        let text = match self.root.read_opt(file, json::LIMIT) {
            Ok(None) => {
                if !self.store.images.is_empty() && (unconverted || !there) {
                    lose_tags(file, 0, MISSING.to_owned(), self.store, self.findings);
                }
                return Ok(());
            }
            Ok(Some(text)) => text,
            Err(e) => {
                lose_tags(file, 0, e.chain(), self.store, self.findings);
                return Ok(());
            }
        };
        let content::Salvaged { read, lost } = content::salvage(&text, references::read);
        if let Some(why) = lost {
            lose_tags(file, read.names.len(), why, self.store, self.findings);
        } else if marked && self.root.has("image/aufs")? {
            self.lose_newer_tags(read.names.len());
        }
        self.refuse(file, read.problems);
        let mut all: BTreeMap<String, BTreeMap<String, ImageId>> = self
            .store
            .repositories
            .drain(..)
            .map(|(repository, refs)| (repository, refs.into_iter().collect()))
            .collect();
        for (reference, v1) in read.names {
            let new = V1Id::parse(&v1).ok().and_then(|v1| self.images.new.get(&v1).map(|m| m.id).or(placeholder(&v1)));
            let image = new.and_then(|id| self.store.images.get_mut(&id));
            let image = image.filter(|i| i.broken.as_deref() != Some(GONE));
            let subject = format!("tag {}", reference.full);
            let Some(image) = image else {
                self.lost_tag(&v1, reference.full);
                continue;
            };
            match all.entry(reference.repository).or_default().entry(reference.full) {
                Entry::Occupied(other) if *other.get() != image.id => {
                    let why = format!("image {} already has this tag", other.get().short());
                    self.findings.push(Finding::new("G03", subject, &*why).effect("that image keeps the tag"));
                    lose("tag", other.key().clone(), &why, self.store);
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(free) => {
                    let list = if free.key().contains('@') { &mut image.digests } else { &mut image.tags };
                    list.push(free.key().clone());
                    free.insert(image.id);
                }
            }
        }
        self.store.repositories = all.into_iter().map(|(r, refs)| (r, refs.into_iter().collect())).collect();
        Ok(())
    }

    /// Names the tags that no Docker since 1.10 takes.
    fn refuse(&mut self, file: &str, problems: Vec<Problem>) {
        for Problem { kind, name, why } in problems {
            let why = why.chain();
            let what = crate::text::text(&format!("{kind} {name:?}: {why}"));
            self.findings.push(Finding::new("G03", file, what));
            lose(kind, name, &why, self.store);
        }
    }

    /// A Docker from 1.10 on has converted the tags, and its own file is gone: what was tagged since then is lost.
    fn lose_newer_tags(&mut self, kept: usize) {
        let (id, kept) = ("repositories.json".to_owned(), crate::text::plural(kept, "tag or digest"));
        let effect = format!("{kept} of Docker 1.9 or earlier are taken from {}; later changes are lost", super::TAGS);
        self.findings.push(Finding::new("D10", id.as_str(), MISSING).effect(effect));
        let lost =
            format!("All changes of tags since Docker was upgraded from 1.9. {kept} are taken from {}.", super::TAGS);
        self.store.lost.push(Lost { kind: "tags".to_owned(), id, reason: MISSING.to_owned(), lost });
    }

    /// Which compressed blob is which layer: spares a pull or a push. What is there already stays.
    fn add_blobs(&mut self, blobs: Blobs) {
        let have: BTreeSet<String> = self.store.metadata.iter().map(|f| f.path.clone()).collect();
        let new = blobs.files().filter(|(path, _)| !have.contains(path));
        let files: Vec<MetaFile> = new.map(|(path, text)| MetaFile::new(path, Content::Text(text))).collect();
        self.store.metadata.extend(files);
    }
}

fn image_file(id: &ImageId, kind: &str, name: &str, text: String) -> MetaFile {
    let path = format!("imagedb/{kind}/sha256/{}{name}", id.hex());
    MetaFile { image: Some(*id), ..MetaFile::new(path, Content::Text(text)) }
}

/// Why an image that only tags name can't move.
pub const GONE: &str = "its directory in graph/ is missing";

/// The key in [`Store::images`] of an image that cannot be converted.
fn placeholder(id: &V1Id) -> Option<ImageId> {
    ImageId::from_hex(id.as_str()).ok()
}

/// Docker keeps so many blobs of one layer ([v1.10.3:distribution/metadata/v2_metadata_service.go]).
const MAX_BLOBS: usize = 50;

/// The blobs that `checksum` files name (FORMATS 7).
#[derive(Debug, Default)]
struct Blobs {
    /// By DiffID, newest last.
    of_diff: BTreeMap<Sha256, Vec<Sha256>>,
    diff_of: BTreeMap<Sha256, Sha256>,
}

impl Blobs {
    fn add(&mut self, diff: Sha256, blob: Sha256) {
        let list = self.of_diff.entry(diff).or_default();
        list.retain(|b| *b != blob);
        list.push(blob);
        if list.len() > MAX_BLOBS {
            list.remove(0);
        }
        self.diff_of.insert(blob, diff);
    }

    fn files(&self) -> impl Iterator<Item = (String, String)> {
        let by_digest = self
            .diff_of
            .iter()
            .map(|(blob, diff)| (format!("distribution/diffid-by-digest/sha256/{}", blob.hex()), diff.to_string()));
        let by_diff = self.of_diff.iter().map(|(diff, blobs)| {
            let list: Vec<String> =
                blobs.iter().map(|b| format!(r#"{{"Digest":"{b}","SourceRepository":""}}"#)).collect();
            (format!("distribution/v2metadata-by-diffid/sha256/{}", diff.hex()), format!("[{}]", list.join(",")))
        });
        by_digest.chain(by_diff)
    }
}
