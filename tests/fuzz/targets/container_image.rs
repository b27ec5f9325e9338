//! The config of an image that export makes of a container: whatever the container's config is, it is JSON, has the layers that are written,
//! and takes nothing but what an image may have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use unaufs::disk::Dir;
use unaufs::export::image::{Source, container_tag, of_container, stack};
use unaufs::export::layer::Layers;
use unaufs::store::content;

const KEYS: [&str; 9] =
    ["architecture", "config", "created", "history", "os", "os.features", "os.version", "rootfs", "variant"];

fuzz_target!(|config: &[u8]| {
    // the directory is named as the config says, as far as that is an id
    let named = serde_json::from_slice::<Value>(config).ok().and_then(|v| Some(v.get("ID")?.as_str()?.to_owned()));
    let hex = |id: &String| id.len() == 64 && id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let id = named.filter(hex).unwrap_or_else(|| "a".repeat(64));
    let layer = "b".repeat(64);
    let top = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let put = |path: String, bytes: &[u8]| {
        let path = top.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    };
    put(format!("containers/{id}/config.v2.json"), config);
    put(format!("image/aufs/layerdb/mounts/{id}/mount-id"), layer.as_bytes());
    put(format!("aufs/layers/{layer}"), b"");
    put(format!("aufs/diff/{layer}/file"), b"content");
    for folder in ["image/aufs/imagedb/content/sha256", "image/aufs/layerdb/sha256"] {
        fs::create_dir_all(top.path().join(folder)).expect("a folder");
    }
    let root = Dir::open_named(top.path()).expect("the root");
    let (store, _) = content::read(&root).expect("one bad config costs no store");
    let layers = Layers::new(&root, &store);
    for c in store.containers.values() {
        let Ok(ids) = stack(&store, c) else { continue };
        let measured: BTreeMap<_, _> = ids.iter().map(|id| (id.clone(), layers.measure(id))).collect();
        let tag = container_tag(&store, c);
        assert!(tag.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/:-".contains(&b)), "{tag:?}");
        let Ok(made) = of_container(Source { root: &root, store: &store, measured: &measured }, c) else { continue };
        let v: Value = serde_json::from_slice(&made.config).expect("JSON");
        for key in v.as_object().expect("an object").keys() {
            assert!(KEYS.contains(&key.as_str()), "{key:?} is in the image");
        }
        let diffs: Vec<String> = made.layers.iter().map(|l| l.diff.to_string()).collect();
        assert_eq!(v["rootfs"]["diff_ids"], serde_json::json!(diffs));
        for note in &made.notes {
            assert!(!note.contains(|c: char| c.is_control()), "{note:?}");
        }
    }
});
