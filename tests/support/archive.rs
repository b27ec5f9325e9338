//! Reads an exported archive as a stranger would, and proves every digest in it.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;

/// The files of an archive by name.
pub struct Archive(BTreeMap<String, Vec<u8>>);

fn sha(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>())
}

/// Unpacks what is compressed, by its first bytes as Docker does.
fn plain(bytes: Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    match &bytes[..4.min(bytes.len())] {
        [0x1f, 0x8b, ..] => {
            flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut out).expect("gzip");
            out
        }
        [0x28, 0xb5, 0x2f, 0xfd] => zstd::decode_all(&bytes[..]).expect("zstd"),
        _ => bytes,
    }
}

impl Archive {
    /// Reads a tar, compressed or not, or a directory. Each blob must have the digest that is its name, and no name may come twice.
    pub fn read(path: &Path) -> Archive {
        let mut files = BTreeMap::new();
        if path.is_dir() {
            folder(path, "", &mut files);
        } else {
            let bytes = plain(fs::read(path).expect("the archive"));
            for entry in tar::Archive::new(&bytes[..]).entries().expect("a tar") {
                let mut entry = entry.expect("an entry");
                let name = entry.path().expect("a name").to_str().expect("text").to_owned();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("content");
                if entry.header().entry_type().is_file() {
                    assert!(files.insert(name.clone(), content).is_none(), "{name} comes twice");
                }
            }
        }
        for (name, bytes) in &files {
            if let Some(hex) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(sha(bytes), format!("sha256:{hex}"), "{}", path.display());
            }
        }
        assert_eq!(files.get("oci-layout").map(|b| &b[..]), Some(&br#"{"imageLayoutVersion": "1.0.0"}"#[..]));
        Archive(files)
    }

    /// Is there such a file?
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(self.0.get(name).unwrap_or_else(|| panic!("no {name}"))).expect(name)
    }

    fn blob(&self, descriptor: &Value) -> &[u8] {
        let digest = descriptor["digest"].as_str().expect("digest");
        let bytes = &self.0[&format!("blobs/sha256/{}", digest.strip_prefix("sha256:").expect("sha256"))];
        assert_eq!(descriptor["size"].as_u64(), Some(bytes.len() as u64), "{digest}");
        bytes
    }

    /// The images: id, digests of the layers. Each layer is unpacked and digested, and must be what the config says.
    pub fn images(&self) -> BTreeSet<(String, Vec<String>)> {
        let mut out = BTreeSet::new();
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        for m in self.json("index.json")["manifests"].as_array().expect("manifests") {
            let manifest: Value = serde_json::from_slice(self.blob(m)).expect("manifest");
            let config = self.blob(&manifest["config"]);
            let diffs = diff_ids(config);
            let layers: Vec<String> = manifest["layers"]
                .as_array()
                .expect("layers")
                .iter()
                .map(|l| {
                    let digest = l["digest"].as_str().expect("digest").to_owned();
                    known.entry(digest).or_insert_with(|| sha(&plain(self.blob(l).to_vec()))).clone()
                })
                .collect();
            assert_eq!(layers, diffs, "the layers of {}", sha(config));
            out.insert((sha(config), diffs));
        }
        if self.has("manifest.json") {
            let listed: BTreeSet<(String, Vec<String>)> = self
                .json("manifest.json")
                .as_array()
                .expect("a list")
                .iter()
                .map(|item| {
                    let config = &self.0[item["Config"].as_str().expect("Config")];
                    let layers = item["Layers"].as_array().expect("Layers").iter();
                    let layers = layers.map(|l| sha(&self.0[l.as_str().expect("a path")])).collect();
                    (sha(config), layers)
                })
                .collect();
            assert_eq!(listed, out, "manifest.json and index.json");
        }
        out
    }

    /// What manifest.json says about a tagged image.
    fn tagged(&self, tag: &str) -> Value {
        let items = self.json("manifest.json");
        let tagged = |i: &&Value| i["RepoTags"].as_array().into_iter().flatten().any(|t| t == tag);
        items.as_array().expect("a list").iter().find(tagged).unwrap_or_else(|| panic!("no {tag}")).clone()
    }

    /// The tree that the layers of a tagged image make, by the rules of OCI layers: a line for each path with all that a tar holds of it.
    pub fn tree(&self, tag: &str) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        for layer in self.tagged(tag)["Layers"].as_array().expect("Layers") {
            apply(&plain(self.0[layer.as_str().expect("a path")].clone()), &mut tree);
        }
        tree
    }

    /// The names in layerdb of a tagged image's layers.
    pub fn chain_of(&self, tag: &str) -> Vec<String> {
        let item = self.tagged(tag);
        let mut chain: Option<String> = None;
        let mut out = Vec::new();
        for diff in diff_ids(&self.0[item["Config"].as_str().expect("Config")]) {
            let next = chain.map_or(diff.clone(), |c| sha(format!("{c} {diff}").as_bytes()));
            out.push(next.strip_prefix("sha256:").expect("sha256").to_owned());
            chain = Some(next);
        }
        out
    }
}

/// Puts a layer's tar on a tree: first its whiteouts take away what layers below have, then its entries are put.
fn apply(layer: &[u8], tree: &mut BTreeMap<String, String>) {
    let mut own: BTreeMap<String, String> = BTreeMap::new();
    for entry in tar::Archive::new(layer).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_matches('/').to_owned();
        let (folder, last) = name.rsplit_once('/').map_or(("", &name[..]), |(f, l)| (f, l));
        let below = |path: &str| if path.is_empty() { String::new() } else { format!("{path}/") };
        if last == ".wh..wh..opq" {
            tree.retain(|p, _| !p.starts_with(&below(folder)));
        } else if let Some(gone) = last.strip_prefix(".wh.") {
            let gone = format!("{}{gone}", below(folder));
            tree.retain(|p, _| *p != gone && !p.starts_with(&below(&gone)));
        } else {
            let line = described(&mut entry, &own);
            own.insert(name, line);
        }
    }
    for (name, line) in own {
        if !line.starts_with("Directory") {
            tree.retain(|p, _| !p.starts_with(&format!("{name}/")));
        }
        tree.insert(name, line);
    }
}

fn described(entry: &mut tar::Entry<'_, &[u8]>, own: &BTreeMap<String, String>) -> String {
    let header = entry.header().clone();
    let target = entry.link_name_bytes().map(|t| String::from_utf8_lossy(&t).into_owned()).unwrap_or_default();
    if header.entry_type().is_hard_link() {
        return own.get(&target).unwrap_or_else(|| panic!("a hard link to {target}, which is not there")).clone();
    }
    let mut extensions: Vec<String> = entry
        .pax_extensions()
        .expect("extensions")
        .into_iter()
        .flatten()
        .map(|e| e.expect("an extension"))
        .filter(|e| e.key_bytes().starts_with(b"SCHILY.xattr."))
        .map(|e| format!("{}={}", e.key_bytes().escape_ascii(), e.value_bytes().escape_ascii()))
        .collect();
    extensions.sort();
    let mut content = Vec::new();
    entry.read_to_end(&mut content).expect("content");
    let device = (header.device_major().ok().flatten(), header.device_minor().ok().flatten());
    let owner = (header.uid().expect("a uid"), header.gid().expect("a gid"));
    format!(
        "{:?} {:o} {owner:?} {} {device:?} {target} {} {extensions:?}",
        header.entry_type(),
        header.mode().expect("a mode"),
        header.mtime().expect("a time"),
        sha(&content),
    )
}

fn diff_ids(config: &[u8]) -> Vec<String> {
    let config: Value = serde_json::from_slice(config).expect("config");
    let list = config["rootfs"]["diff_ids"].as_array();
    list.into_iter().flatten().map(|d| d.as_str().expect("a digest").to_owned()).collect()
}

fn folder(path: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for e in fs::read_dir(path).expect("folder").map(|e| e.expect("entry")) {
        let name = format!("{prefix}{}", e.file_name().to_string_lossy());
        if e.file_type().expect("type").is_dir() {
            folder(&e.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(e.path()).expect("read"));
        }
    }
}
