//! Real graph stores, read: images, layers, containers and links must be what a real Docker 1.10.3 made of the same root.

use crate::support::{needs, real};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use unaufs::disk::Dir;
use unaufs::store::{self, Content, Store};

/// Unpacks a graph store of the project's: its root and the truth recorded with it. Needs root, for the devices in it.
fn unpacked(name: &str) -> Option<(tempfile::TempDir, PathBuf, Value)> {
    if !needs::root() {
        return None;
    }
    let at = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temp dir");
    let mut tar = std::process::Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"]);
    tar.arg(format!("{}/tests/stores/{name}.tar.xz", env!("CARGO_MANIFEST_DIR")));
    assert!(tar.arg("-C").arg(at.path()).status().expect("tar").success());
    let truth = std::fs::read_to_string(at.path().join("truth/truth.json")).expect("truth.json");
    let root = at.path().join("root");
    Some((at, root, serde_json::from_str(&truth).expect("truth.json")))
}

fn strings(v: &Value) -> Vec<String> {
    v.as_array().into_iter().flatten().filter_map(|s| s.as_str()).map(str::to_owned).collect()
}

/// The text of a file that the reader made.
fn text<'s>(store: &'s Store, path: &str) -> Option<&'s str> {
    store.metadata.iter().find(|f| f.path == path).and_then(|f| match &f.content {
        Content::Text(t) => Some(t.as_str()),
        _ => None,
    })
}

#[test]
fn docker_1_9_is_read_as_docker_1_10_converted_it() {
    assert_eq!(read_as_converted("docker19-aufs"), Vec::<String>::new());
}

/// The digests of layers without tar data are those that Docker gave them, of those too whose tar has its process ID in it.
#[test]
fn docker_1_7_is_read_as_docker_1_10_converted_it() {
    let mut because: Vec<String> = read_as_converted("docker17to19-aufs")
        .iter()
        .map(|why| why.split_once(" because of ").expect("a reason").1.to_owned())
        .collect();
    because.sort();
    if needs::root() {
        assert_eq!(because, ["opt/tool/cap", "perm/cap", "perm/sgid", "uni/.wh.日本語.txt"]);
    }
}

/// Compares all that is read of a store with its truth; gives what is said of layers that have another id on each host.
fn read_as_converted(name: &str) -> Vec<String> {
    let Some((_at, root, truth)) = unpacked(name) else { return Vec::new() };
    let (store, findings) = store::open(&Dir::open_named(&root).expect("root")).expect("store");
    for f in &findings {
        eprintln!("{} {}: {}", f.id, f.subject, f.message);
    }
    let by_id = |list: &Value| -> BTreeMap<String, Value> {
        list.as_array().into_iter().flatten().map(|v| (v["id"].as_str().expect("id").to_owned(), v.clone())).collect()
    };

    let images = by_id(&truth["images"]);
    assert_eq!(
        store.images.keys().map(|i| i.to_string()).collect::<Vec<_>>(),
        images.keys().cloned().collect::<Vec<_>>()
    );
    for (id, image) in &store.images {
        let want = &images[&id.to_string()];
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        assert_eq!(sorted(&image.tags), sorted(&strings(&want["tags"])), "tags of {id}");
        assert_eq!(sorted(&image.digests), sorted(&strings(&want["digests"])), "digests of {id}");
        let diffs: Vec<String> =
            image.layers.iter().map(|l| store.layers[l].diff.expect("a digest").to_string()).collect();
        assert_eq!(diffs, strings(&want["diffids"]), "layers of {id}");
        let parent = text(&store, &format!("imagedb/metadata/sha256/{}/parent", id.hex()));
        assert_eq!(parent.unwrap_or(""), want["parent"].as_str().unwrap_or(""), "parent of {id}");
    }

    let layers = truth["layers"].as_object().expect("layers");
    let image_layers: Vec<_> = store.layers.values().filter(|l| l.chain.is_some()).collect();
    assert_eq!(image_layers.len(), layers.len());
    for l in image_layers {
        let chain = l.chain.expect("chain").hex();
        assert_eq!(l.id.as_str(), layers[&chain]["cache_id"], "cache id of {chain}");
        assert_eq!(l.diff.expect("a digest").to_string(), layers[&chain]["diff"], "digest of {chain}");
        assert_eq!(text(&store, &format!("layerdb/sha256/{chain}/cache-id")), Some(l.id.as_str()));
    }

    let containers = by_id(&truth["containers"]);
    assert_eq!(
        store.containers.keys().map(|c| c.to_string()).collect::<Vec<_>>(),
        containers.keys().cloned().collect::<Vec<_>>()
    );
    for (id, c) in &store.containers {
        let want = &containers[id.as_str()];
        assert_eq!(c.broken, None);
        assert_eq!(c.name, want["name"]);
        let image = c.files.iter().find_map(|f| match (f.name.as_str(), &f.content) {
            ("config.v2.json", Content::Edited(_, changes)) => changes.iter().find(|(k, _)| k == "Image"),
            _ => None,
        });
        assert_eq!(image.expect("a new image id").1, want["image"].to_string());
        let links = c.files.iter().find_map(|f| match (f.name.as_str(), &f.content) {
            ("hostconfig.json", Content::Edited(_, changes)) => changes.iter().find(|(k, _)| k == "Links"),
            _ => None,
        });
        let mut links: Vec<String> = links.map_or_else(Vec::new, |(_, v)| serde_json::from_str(v).expect("links"));
        // Docker wrote them in no order; the record is sorted
        links.sort();
        assert_eq!(links, strings(&want["links"]), "links of {}", c.name);
        assert_eq!(text(&store, &format!("layerdb/mounts/{id}/mount-id")), Some(id.as_str()));
        assert_eq!(text(&store, &format!("layerdb/mounts/{id}/init-id")), Some(format!("{id}-init").as_str()));
        assert!(text(&store, &format!("layerdb/mounts/{id}/parent")).is_some());
    }
    findings.into_iter().filter(|f| f.id == "G06").map(|f| f.message).collect()
}

/// Every path below `at` but the state directory: type and mode, owner, size, time, content.
fn listing(at: &std::path::Path) -> BTreeMap<PathBuf, String> {
    use std::os::unix::fs::MetadataExt;
    let mut out = BTreeMap::new();
    let mut todo = vec![at.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).expect("list").flatten() {
            let path = entry.path();
            let m = std::fs::symlink_metadata(&path).expect("stat");
            if path == at.join(".unaufs") {
                continue;
            }
            let content = match m.file_type() {
                t if t.is_file() => unaufs::ids::Sha256::of(&std::fs::read(&path).expect("read")).hex(),
                t if t.is_symlink() => format!("{:?}", std::fs::read_link(&path).expect("link")),
                _ => String::new(),
            };
            let size = if m.is_dir() { 0 } else { m.size() };
            let attrs = (m.mode(), m.uid(), m.gid(), size, m.mtime(), m.mtime_nsec());
            out.insert(path.clone(), format!("{attrs:?} {content}"));
            if m.is_dir() {
                todo.push(path);
            }
        }
    }
    out
}

#[test]
fn there_and_back() {
    let Some((_at, root, truth)) = unpacked("docker19-aufs") else { return };
    // half of the layers as a Docker up to 1.7 left them
    for (i, folder) in std::fs::read_dir(root.join("graph")).expect("graph").flatten().enumerate() {
        if i % 2 == 0 {
            let _ = std::fs::remove_file(folder.path().join("tar-data.json.gz"));
        }
    }
    let before = listing(&root);
    let run = |args: &[&str]| {
        real::unaufs(&root, args).exits(0);
    };
    run(&["migrate", "--yes"]);
    assert!(!root.join("graph").exists() && root.join("linkgraph.db").exists());
    let layers = std::fs::read_dir(root.join("image/overlay2/layerdb/sha256")).expect("layerdb").flatten();
    let mut splits = 0;
    for layer in layers {
        let id = std::fs::read_to_string(layer.path().join("cache-id")).expect("cache-id");
        assert!(root.join("overlay2").join(id).join("diff").is_dir());
        splits += usize::from(layer.path().join("tar-split.json.gz").is_file());
    }
    assert_eq!(splits, truth["images"].as_array().expect("images").len());
    for c in truth["containers"].as_array().expect("containers") {
        let folder = root.join("containers").join(c["id"].as_str().expect("id"));
        let config = std::fs::read(folder.join("config.v2.json")).expect("config.v2.json");
        let config: Value = serde_json::from_slice(&config).expect("JSON");
        assert_eq!(config["Driver"], "overlay2");
        let image = config["Image"].as_str().and_then(|i| i.strip_prefix("sha256:")).expect("an image id");
        assert!(root.join("image/overlay2/imagedb/content/sha256").join(image).is_file());
    }
    run(&["verify"]);
    run(&["rollback", "--yes", "--drop-new"]);
    assert_eq!(listing(&root), before);
}
