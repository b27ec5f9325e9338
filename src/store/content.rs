//! A content-addressable store: Docker from 1.10 on (FORMATS 6, 7, 8.7). `aufs` represents any driver: `image/` is the same for all.
//!
//! ```text
//! ROOT/image/aufs/layerdb/sha256/<chain>/{cache-id,diff,parent,size,tar-split.json.gz}
//! ROOT/image/aufs/layerdb/mounts/<container>/{mount-id,init-id,parent}
//! ROOT/image/aufs/imagedb/{content,metadata}/sha256/<image>
//! ROOT/image/aufs/repositories.json
//! ROOT/image/aufs/distribution/…
//! ROOT/containers/<container>/config.v2.json
//! ```

use super::aufs;
use super::containers::{self, Reader};
use super::driver::{Diff, Driver};
use super::graph;
use super::lost_images;
use super::orphans;
use super::replaced::Wanted;
use super::repositories;
use super::stack::Listed;
use super::{Cause, Content, Generation, Image, Layer, MetaFile, Store};
use crate::checks::Finding;
use crate::disk::{Dir, FileType};
use crate::docker::driver::{Role, WrittenBy};
use crate::docker::{gojson, gotime, json};
use crate::error::{Error, Result};
use crate::ids::{ChainId, DiffId, ImageId, LayerId, Sha256, named};
use crate::tar::split;
use rayon::prelude::*;
use serde::Deserialize;
use std::cell::LazyCell;
use std::collections::{BTreeMap, HashMap};

/// Small files of layerdb: an id or a number.
pub const SMALL: u64 = 4096;

/// Reads the whole store.
pub fn read(root: &Dir) -> Result<(Store, Vec<Finding>)> {
    let mut findings = Vec::new();
    let driver = aufs::read(root, &mut findings)?;
    let mut store = Store::empty(Generation::Content);
    let chains = read_image_dir(root, &driver, &mut store, &mut findings)?;
    let reader = Reader { root, driver: &driver, chains: &chains, store: &mut store, findings: &mut findings };
    containers::read(reader)?;
    graph::containers::links_left(root, &mut store, &mut findings)?;
    lost_images::name(&store, &mut findings);
    orphans::find(root, &driver, &mut store, &mut findings)?;
    find_caches(root, &mut store, &mut findings)?;
    Ok((store, findings))
}

/// Reads `image/<driver>`. `image/aufs` may be there in a graph store too: begun by a Docker from 1.10 on.
pub fn read_image_dir(root: &Dir, driver: &Driver, store: &mut Store, findings: &mut Vec<Finding>) -> Result<Chains> {
    let mut import = Import { root, driver, store, findings };
    let chains = import.layers()?;
    import.images(&chains)?;
    repositories::read(root, import.store, import.findings)?;
    import.distribution()?;
    Ok(chains)
}

/// Names the directories that make no sense with another driver.
pub fn find_caches(root: &Dir, store: &mut Store, findings: &mut Vec<Finding>) -> Result<()> {
    for cache in ["buildkit", "builder"] {
        if root.stat_opt(cache)?.is_some_and(|m| m.is_dir()) {
            findings.push(Finding::new(
                "D11",
                format!("{cache}/"),
                "the build cache refers to layers of the aufs driver",
            ));
            store.caches.push(cache.to_owned());
        }
    }
    Ok(())
}

/// What a directory of layerdb says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The layer's directory in the driver's own.
    pub cache_id: LayerId,
    /// The digest of its tar.
    pub diff: DiffId,
    /// The chain below it.
    pub parent: Option<ChainId>,
}

/// A directory of layerdb as it was read.
#[derive(Debug)]
struct Entry {
    cache_id: LayerId,
    diff: DiffId,
    parent: Option<ChainId>,
    files: Vec<String>,
    /// `diff` and `parent` come from an image's configuration: the files can't be read.
    repaired: bool,
    /// The size, counted again where the file can't be read.
    size: Option<u64>,
}

impl Entry {
    /// In a store that isn't a source, Docker itself has to read the size.
    fn noted(self) -> Result<Entry> {
        match self.size {
            None => Ok(self),
            Some(_) => Err(Error::corrupt(NO_SIZE)),
        }
    }
}

const NO_SIZE: &str = "its size isn't a number";

/// The driver's id of each chain.
pub type Chains = HashMap<ChainId, LayerId>;

/// Where layerdb has the records of image layers.
const RECORDS: &str = "layerdb/sha256";

/// `image/<driver>` on its way into a store.
struct Import<'a> {
    root: &'a Dir,
    driver: &'a Driver,
    store: &'a mut Store,
    findings: &'a mut Vec<Finding>,
}

impl Import<'_> {
    /// A directory of `image/<driver>`, and what comes of it if it is no directory.
    fn directory(&mut self, path: &str, effect: &str, loses: bool) -> Result<Option<Dir>> {
        let path = &format!("image/{}/{path}", self.driver.written_by);
        Wanted { path, effect, loses }.open(self.root, &mut self.store.lost, self.findings)
    }

    fn layers(&mut self) -> Result<Chains> {
        let (base, by) = (RECORDS, self.driver.written_by);
        let entries = self.entries()?;
        let tmp = self.directory("layerdb/tmp", "nothing is lost: Docker only keeps unfinished layers there", false)?;
        if tmp.is_some_and(|d| d.list().is_ok_and(|l| !l.is_empty())) {
            self.findings.push(Finding::new("D07", "layerdb/tmp", "Docker was stopped while it registered a layer"));
        }
        let chains: Chains = entries.iter().map(|(c, e)| (*c, e.cache_id.clone())).collect();
        for (chain, entry) in &entries {
            let layer = self.image_layer(*chain, &entries);
            for f in &entry.files {
                let text = match f.as_str() {
                    "diff" if entry.repaired => Some(entry.diff.to_string()),
                    "parent" if entry.repaired => entry.parent.map(|p| p.to_string()),
                    "size" => entry.size.map(|n| n.to_string()),
                    _ => None,
                };
                let same = || Content::Same(format!("image/{by}/{base}/{}/{f}", chain.hex()));
                let file = MetaFile::new(format!("{base}/{}/{f}", chain.hex()), text.map_or_else(same, Content::Text));
                self.store.metadata.push(MetaFile { layer: Some(layer.id.clone()), ..file });
            }
            // two chains with one cache-id: Docker would never write that; both would share one directory
            if let Some(other) = self.store.layers.insert(layer.id.clone(), layer) {
                self.findings.push(
                    Finding::new(
                        "D10",
                        format!("layer {}", other.id.short()),
                        "two records in layerdb name this directory",
                    )
                    .effect("the second record is used"),
                );
            }
        }
        spread_damage(self.store);
        Ok(chains)
    }

    /// Every record of an image layer; those that can't be read are named and noted in the self.store.
    fn entries(&mut self) -> Result<BTreeMap<ChainId, Entry>> {
        let (root, by) = (self.root, self.driver.written_by);
        let mut entries = BTreeMap::new();
        let stacks = LazyCell::new(|| stacks(root, by));
        let Some(dir) =
            self.directory(RECORDS, "all images and containers with a layer stay in the old store", true)?
        else {
            return Ok(entries);
        };
        let mut records = Vec::new();
        for (name, _) in dir.list()? {
            match named(&name, ChainId::from_hex) {
                Some(chain) => records.push(chain),
                None => {
                    let id = if name.ends_with(b"-removing") { "D04" } else { "D07" };
                    let record = format!("{RECORDS}/{}", crate::text::bytes(&name));
                    self.findings.push(Finding::new(id, record, "it isn't a Docker layer"));
                }
            }
        }
        let read: Vec<Result<Entry>> = records.par_iter().map(|chain| read_entry(&dir, *chain, None)).collect();
        for (chain, entry) in records.into_iter().zip(read) {
            let entry = entry.or_else(|e| repair_entry(&dir, chain, e, &stacks));
            match entry.and_then(|e| if by == WrittenBy::Aufs { Ok(e) } else { e.noted() }) {
                Ok(e) => {
                    entries.insert(chain, e);
                }
                Err(e) => {
                    let why = format!("its record in layerdb: {}", e.chain());
                    self.findings.push(Finding::new("D01", format!("layer {}", chain.short()), why.clone()));
                    self.store.bad_records.insert(chain, why);
                }
            }
        }
        Ok(entries)
    }

    fn image_layer(&mut self, chain: ChainId, entries: &BTreeMap<ChainId, Entry>) -> Layer {
        let driver = self.driver;
        let entry = &entries[&chain];
        let id = entry.cache_id.clone();
        let (lowers, mut broken, mut held_by) = match below(entry, entries) {
            (lowers, None) => (lowers, None, None),
            (lowers, Some(Ends::At(p))) => {
                (lowers, Some(format!("its parent {} isn't in layerdb", p.short())), Some(self.store.bad_record(p)))
            }
            (lowers, Some(Ends::InACircle)) => (lowers, Some("its parents run in a circle".to_owned()), None),
        };
        let moved_to = match driver.diffs.get(&id) {
            Some(Diff::Here) => None,
            Some(Diff::Moved(rel)) => Some(rel.clone()),
            None => {
                let directory = driver.written_by.directory(&id);
                let home = directory.rsplit_once('/').map_or("", |(home, _)| home);
                broken = Some(format!("its directory in {home} is missing"));
                held_by = None;
                None
            }
        };
        let subject = format!("layer {}", id.short());
        if let Some(what) = driver.written_by.list() {
            let differs = match driver.layers.get(&id) {
                Some(Listed::Whole(list)) if *list == lowers => None,
                Some(Listed::Whole(_) | Listed::Cut(..)) if broken.is_none() => {
                    Some(format!("{what} and layerdb name different layers below it"))
                }
                Some(Listed::Bad(e)) => Some(format!("{what}: {e}")),
                None if broken.is_none() => Some(format!("it has no list in {what}")),
                _ => None,
            };
            if let Some(how) = differs {
                self.findings.push(Finding::new("D08", subject.clone(), how));
            }
        }
        let tar_split = entry.files.iter().any(|f| f == "tar-split.json.gz");
        if let Some(why) = &broken {
            self.findings.push(Finding::new("D01", subject, why.clone()));
        } else if !tar_split {
            self.findings.push(Finding::new("D02", subject, "it has no tar-split.json.gz"));
        }
        if entry.repaired {
            let what = "its diff or parent in layerdb can't be read; unaufs takes it from the images with this layer";
            self.findings.push(Finding::new("D14", format!("layer {}", id.short()), what));
        }
        if entry.size.is_some() {
            let what = "its size in layerdb can't be read; unaufs counts it again from tar-split.json.gz";
            self.findings.push(Finding::new("D14", format!("layer {}", id.short()), what));
        }
        let (chain, diff) = (Some(chain), Some(entry.diff));
        Layer { id, role: Role::Image, lowers, chain, diff, tar_split, moved_to, broken, held_by }
    }

    fn images(&mut self, chains: &Chains) -> Result<()> {
        let lost = "all images stay in the old store, without their tags";
        let content = self.directory("imagedb/content/sha256", lost, true)?;
        let lost = "Docker no longer knows from which image an image was built; nothing else is lost";
        let metadata = self.directory("imagedb/metadata/sha256", lost, true)?;
        let names = content.as_ref().map_or(Ok(Vec::new()), Dir::list)?;
        for (dir, (name, _)) in content.iter().flat_map(|dir| names.iter().map(move |name| (dir, name))) {
            let Some(id) = named(name, ImageId::from_hex) else {
                self.no_image(name, &names);
                continue;
            };
            let mut image = Image::bare(id);
            let read = |bytes: Vec<u8>| Ok((layers_of(&bytes, id)?, bad_time(&bytes)));
            match dir.read(name, json::LIMIT).and_then(read) {
                Ok((_, Some(why))) => image.broken = Some(why),
                Ok((diffs, None)) => take_layers(&mut image, &diffs, chains, self.store),
                Err(e) => image.broken = Some(e.chain()),
            }
            self.take_image(image, metadata.as_ref())?;
        }
        // Docker removes an image's metadata before its config
        for (name, _) in metadata.map_or(Ok(Vec::new()), |dir| dir.list())? {
            if let Some(id) = named(&name, ImageId::from_hex) {
                lost_images::tagged(self.store, id);
            }
        }
        Ok(())
    }

    /// Names a file in `imagedb/content/sha256` that Docker passes over. Under an upper-case ID there was an image.
    fn no_image(&mut self, name: &[u8], names: &[(Vec<u8>, FileType)]) {
        let lower = name.to_ascii_lowercase();
        match named(&lower, ImageId::from_hex).filter(|_| names.iter().all(|(other, _)| *other != lower)) {
            Some(id) => {
                let why = "the name of its config file is in upper case, so Docker doesn't find it".to_owned();
                self.findings.push(Finding::new("D03", format!("image {}", id.short()), &*why));
                self.store.images.insert(id, Image { broken: Some(why), ..Image::bare(id) });
            }
            None => {
                let subject = format!("imagedb/{}", crate::text::bytes(name));
                self.findings.push(Finding::new("D07", subject, "it isn't a Docker image"));
            }
        }
    }

    fn take_image(&mut self, image: Image, metadata: Option<&Dir>) -> Result<()> {
        let (id, by) = (image.id, self.driver.written_by);
        if let Some(why) = &image.broken {
            self.findings.push(Finding::new("D03", format!("image {}", id.short()), why.clone()));
        }
        let mut take =
            |path: String| self.store.metadata.push(image_file(path.clone(), format!("image/{by}/{path}"), id));
        take(format!("imagedb/content/sha256/{}", id.hex()));
        let own = metadata.and_then(|dir| dir.try_open(id.hex().as_bytes()).ok());
        for (name, kind) in own.map_or(Ok(Vec::new()), |dir| dir.list())? {
            if let (FileType::RegularFile, Ok(name)) = (kind, String::from_utf8(name))
                && !name.starts_with('.')
            {
                take(format!("imagedb/metadata/sha256/{}/{name}", id.hex()));
            }
        }
        self.store.images.insert(id, image);
        Ok(())
    }

    /// A cache that spares pulls and pushes; driver-independent (FORMATS 7).
    fn distribution(&mut self) -> Result<()> {
        let by = self.driver.written_by;
        let mut todo = vec!["distribution".to_owned()];
        let lost = "nothing is lost: it is a cache, so docker pull and push transfer some layers again";
        while let Some(path) = todo.pop() {
            let Some(dir) = self.directory(&path, lost, false)? else { continue };
            for (name, kind) in dir.list()? {
                let Ok(name) = String::from_utf8(name) else { continue };
                let path = format!("{path}/{name}");
                match kind {
                    FileType::Directory => todo.push(path),
                    FileType::RegularFile if !name.starts_with(".tmp-") => {
                        let content = Content::Same(format!("image/{by}/{path}"));
                        self.store.metadata.push(MetaFile::new(path, content));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The driver's id that a record of layerdb names; `dir` is `layerdb/sha256`.
pub fn layer_of_record(dir: &Dir, chain: ChainId) -> Result<LayerId> {
    read_entry(dir, chain, None)?.noted().map(|e| e.cache_id)
}

impl Record {
    /// The record named `chain`, from the contents of its files.
    pub fn parse(chain: ChainId, cache_id: &[u8], diff: &[u8], parent: Option<&[u8]>, size: &[u8]) -> Result<Record> {
        let parent = parent.map(|p| ChainId::parse(&text_of(p)?)).transpose()?;
        let diff = DiffId::parse(&text_of(diff)?)?;
        if ChainId::over(parent, diff) != chain {
            return Err(Error::corrupt("its name doesn't match its digest and parent"));
        }
        if !is_size(size) {
            return Err(Error::corrupt(NO_SIZE));
        }
        Ok(Record { cache_id: LayerId::parse(&text_of(cache_id)?)?, diff, parent })
    }
}

/// The digest of a layer and the chain below it.
type Link = (DiffId, Option<ChainId>);

/// Reads a record; `known` represents its `diff` and `parent`.
fn read_entry(dir: &Dir, chain: ChainId, known: Option<Link>) -> Result<Entry> {
    let sub = dir.open(chain.hex())?;
    let mut files = Vec::new();
    for (name, kind) in sub.list()? {
        if kind == FileType::RegularFile
            && let Ok(s) = String::from_utf8(name)
        {
            files.push(s);
        }
    }
    let small = |name: &str| sub.read(name, SMALL).map_err(|e| e.on(name));
    let (diff, parent) = match known {
        Some((diff, parent)) => (diff.to_string().into_bytes(), parent.map(|p| p.to_string().into_bytes())),
        None => (small("diff")?, sub.read_opt("parent", SMALL)?),
    };
    let noted = small("size").unwrap_or_default();
    let size = (!is_size(&noted)).then(|| count_size(&sub));
    let noted = size.map_or(noted, |n| n.to_string().into_bytes());
    let Record { cache_id, diff, parent } =
        Record::parse(chain, &small("cache-id")?, &diff, parent.as_deref(), &noted)?;
    for (name, there) in [("diff", true), ("parent", parent.is_some()), ("size", true)] {
        if there && !files.iter().any(|f| f == name) {
            files.push(name.to_owned());
        }
    }
    if parent.is_none() {
        files.retain(|f| f != "parent");
    }
    Ok(Entry { cache_id, diff, parent, files, repaired: known.is_some(), size })
}

/// Can Docker read this `size`? With a newline the layer is unloadable (FORMATS 6).
fn is_size(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|s| s.parse::<i64>().is_ok())
}

/// The bytes of a layer's files, which Docker only shows: as much of them as the layer's tar-split data tell.
fn count_size(record: &Dir) -> u64 {
    let Ok(file) = record.open_file("tar-split.json.gz") else { return 0 };
    let sizes = split::Reader::new(file, split::MAX_UNPACKED).map_while(|piece| match piece {
        Ok(split::Piece::File { size, .. }) => Some(size),
        Ok(split::Piece::Segment(_)) => Some(0),
        Err(_) => None,
    });
    // Docker reads a signed number
    sizes.fold(0, u64::saturating_add).min(i64::MAX as u64)
}

/// A record whose `diff` or `parent` a crash has emptied: an image with that layer says what was in it.
fn repair_entry(dir: &Dir, chain: ChainId, why: Error, stacks: &HashMap<ChainId, Link>) -> Result<Entry> {
    match stacks.get(&chain) {
        Some(known) => read_entry(dir, chain, Some(*known)),
        None => Err(why),
    }
}

/// What the configurations of the images say of each layer.
fn stacks(root: &Dir, by: WrittenBy) -> HashMap<ChainId, Link> {
    let mut out = HashMap::new();
    let dir = root.open_opt(format!("image/{by}/imagedb/content/sha256")).ok().flatten();
    for (dir, name) in dir.iter().flat_map(|d| d.list().unwrap_or_default().into_iter().map(move |(name, _)| (d, name)))
    {
        let id = named(&name, ImageId::from_hex);
        // one that can't be read is named where the images are
        let diffs = id.and_then(|id| layers_of(&dir.read(&name, json::LIMIT).ok()?, id).ok()).unwrap_or_default();
        let mut below = None;
        for (chain, diff) in ChainId::stack(&diffs).into_iter().zip(diffs) {
            out.insert(chain, (diff, below));
            below = Some(chain);
        }
    }
    out
}

/// Docker trims what it reads from layerdb.
pub fn text_of(bytes: &[u8]) -> Result<String> {
    let s = std::str::from_utf8(bytes).map_err(|e| Error::corrupt("it isn't text").with_source(e))?;
    Ok(s.trim().to_owned())
}

/// Why the layers below one can't be followed to the base.
enum Ends {
    /// This record is missing.
    At(ChainId),
    InACircle,
}

/// The layers below one, nearest first, as far as layerdb has them.
fn below(entry: &Entry, entries: &BTreeMap<ChainId, Entry>) -> (Vec<LayerId>, Option<Ends>) {
    let mut lowers = Vec::new();
    let mut at = entry.parent;
    while let Some(p) = at {
        let Some(e) = entries.get(&p) else { return (lowers, Some(Ends::At(p))) };
        lowers.push(e.cache_id.clone());
        // a chain id holds the digest of all below it, so a circle cannot be; but memory is not to depend on that
        if lowers.len() > entries.len() {
            return (lowers, Some(Ends::InACircle));
        }
        at = e.parent;
    }
    (lowers, None)
}

/// A layer on a damaged one is damaged. The lowest of several is what counts.
fn spread_damage(store: &mut Store) {
    let bad: BTreeMap<LayerId, Cause> =
        store.layers.values().filter_map(|l| Some((l.id.clone(), l.cause()?))).collect();
    for layer in store.layers.values_mut() {
        let Some(b) = layer.lowers.iter().rev().find(|l| bad.contains_key(*l)) else { continue };
        layer.held_by = bad.get(b).cloned();
        layer.broken.get_or_insert_with(|| format!("the layer {} below it is damaged", b.short()));
    }
}

#[derive(Deserialize)]
struct Config {
    rootfs: Option<RootFs>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

fn image_file(path: String, from: String, id: ImageId) -> MetaFile {
    MetaFile { image: Some(id), ..MetaFile::new(path, Content::Same(from)) }
}

/// Finds an image's layers, or the lowest of them that is damaged.
fn take_layers(image: &mut Image, diffs: &[DiffId], chains: &Chains, store: &Store) {
    for chain in ChainId::stack(diffs) {
        let Some(layer) = chains.get(&chain) else {
            image.broken = Some(format!("its layer {} isn't in layerdb", chain.short()));
            image.held_by = Some(store.bad_record(chain));
            return;
        };
        image.layers.push(layer.clone());
        if image.broken.is_none()
            && let Some(cause) = store.layers.get(layer).map_or_else(|| Some(store.bad_record(chain)), Layer::cause)
        {
            image.broken = Some(format!("its layer {} is damaged", layer.short()));
            image.held_by = Some(cause);
        }
    }
}

/// A time that no Docker can read: Docker drops an image with one at its start, and `docker load` ends at it. Go reads `null` as no time.
fn bad_time(config: &[u8]) -> Option<String> {
    const SHOWN: usize = 60;
    let top = gojson::parse(config).ok()?.members().ok()??;
    let of = |name: &'static str| top.iter().filter(move |(key, _)| json::is_field(key, name)).map(|(_, value)| *value);
    let history =
        of("history").filter_map(|h| h.elements().ok()?).flatten().filter_map(|entry| entry.members().ok()?);
    let of_history = history.flatten().filter(|(key, _)| json::is_field(key, "created")).map(|(_, value)| value);
    let is_read = |time: gojson::Raw<'_>| time.string().is_ok_and(|t| t.is_none_or(|t| gotime::is_read(&t)));
    let bad = of("created").chain(of_history).find(|time| !is_read(*time))?;
    let shown: String = String::from_utf8_lossy(bad.bytes()).chars().take(SHOWN).collect();
    Some(format!("Docker can't read the time {} in its config", crate::text::text(&shown)))
}

/// The digests of the layers of an image, base first, from its config.
fn layers_of(config: &[u8], id: ImageId) -> Result<Vec<DiffId>> {
    if Sha256::of(config) != id.0 {
        return Err(Error::corrupt("its config doesn't have the digest that is its ID"));
    }
    diff_ids(config)
}

/// The same, whatever image the config is of.
pub fn diff_ids(config: &[u8]) -> Result<Vec<DiffId>> {
    let parsed: Config =
        serde_json::from_slice(config).map_err(|e| Error::corrupt("its config can't be read").with_source(e))?;
    let rootfs = parsed.rootfs.ok_or_else(|| Error::corrupt("its config has no rootfs"))?;
    rootfs.diff_ids.unwrap_or_default().iter().map(|d| DiffId::parse(d)).collect()
}

/// A JSON file that may have been cut: all of it, or what is whole before the cut and what is wrong with the rest.
#[derive(Debug)]
pub struct Salvaged<T> {
    /// What could be read.
    pub read: T,
    /// Why it isn't all.
    pub lost: Option<String>,
}

/// Reads a JSON file with `parse`; where that fails, what is whole of it.
pub fn salvage<T: Default>(text: &[u8], parse: impl Fn(&[u8]) -> Result<T>) -> Salvaged<T> {
    let why = match parse(text) {
        Ok(read) => return Salvaged { read, lost: None },
        Err(_) if text.is_empty() => "the file is empty".to_owned(),
        Err(e) => e.chain(),
    };
    let read = gojson::mended(text).and_then(|whole| parse(&whole).ok()).unwrap_or_default();
    Salvaged { read, lost: Some(why) }
}
