//! What was in the target store before a migration added to it: the run didn't bring it, and a cleanup leaves it.

use super::rows::full;
use crate::support::real::{self, Ran, Store};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// An image, and its last layer, which nothing else needs.
const IMAGE: (&str, &str) = ("de78063c", "2865b524");
/// A container of another image.
const CONTAINER: &str = "c-cp";

fn differences(store: &Store) -> (i32, Vec<Value>) {
    let Ran { code, stdout, stderr } = store.unaufs(&["verify", "--level", "fast", "--json", "--quiet"]);
    let doc: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    (code, doc["differences"].as_array().expect("differences").clone())
}

/// An overlay2 store with two images and a container, and over it a backup of the aufs store from which it was made: the container is in
/// both, and its only configuration names aufs.
fn restored() -> (Store, String) {
    let (store, backup) = (real::small().unpack(), real::small().unpack());
    let only = ["image=demo/loaded:1", "image=demo/dang:latest", &format!("container={CONTAINER}")];
    let only = only.iter().flat_map(|o| ["--only", o]);
    let args: Vec<&str> = ["migrate", "--yes", "--quiet"].into_iter().chain(only).collect();
    store.unaufs(&args).exits(0);
    store.unaufs(&["cleanup", "--yes", "--quiet"]).exits(0);
    fs::remove_dir_all(store.root.join(".unaufs")).expect("removed");
    let mounts = fs::read_dir(store.root.join("image/overlay2/layerdb/mounts")).expect("mounts");
    let ids: Vec<String> = mounts.map(|e| e.expect("one").file_name().to_str().expect("an id").to_owned()).collect();
    let [id] = &ids[..] else { panic!("{ids:?}") };
    for path in ["aufs", "image/aufs", &format!("containers/{id}/config.v2.json")] {
        fs::rename(backup.root.join(path), store.root.join(path)).expect("restored");
    }
    (store, id.clone())
}

/// A layer of overlay2, its short name and its record.
fn remove_layer(root: &Path, layer: &str) {
    let home = root.join("overlay2");
    let id = full(&home, layer);
    let link = fs::read_to_string(home.join(&id).join("link")).expect("link");
    fs::remove_file(home.join("l").join(link)).expect("removed");
    fs::remove_dir_all(home.join(&id)).expect("removed");
    let records = fs::read_dir(root.join("image/overlay2/layerdb/sha256")).expect("layerdb").map(|e| e.expect("one"));
    for record in records.map(|e| e.path()).filter(|r| fs::read_to_string(r.join("cache-id")).is_ok_and(|c| c == id)) {
        fs::remove_dir_all(record).expect("removed");
    }
}

#[test]
fn what_was_in_the_target_store_before_convicts_too() {
    if !real::able() {
        return;
    }
    let (store, id) = restored();
    let only = ["--only", "image=demo/app:1", "--only", &format!("container={CONTAINER}")];
    let ran = store.unaufs(&[&["migrate", "--yes", "--verify", "none"][..], &only].concat()).exits(3);
    let why = "1 container can't be migrated (c-cp): the existing target store has a container with this ID";
    assert!(ran.stdout.contains(why) && !ran.stdout.contains("damaged"), "{}", ran.stdout);

    let (code, found) = differences(&store);
    let of_container = |d: &Value| d["kind"] == "container" && d["id"] == id.as_str() && d["side"] == "itself";
    assert!(code == 6 && found.len() == 1 && of_container(&found[0]), "{found:#?}");
    let said = store.unaufs(&["cleanup", "--yes"]).exits(6).stderr;
    assert!(said.contains("names the driver \"aufs\""), "{said}");
    assert!(store.root.join(".unaufs/old/aufs/diff").is_dir(), "the other copy is still there");

    let config = store.root.join(format!("containers/{id}/config.v2.json"));
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text.replace("\"Driver\":\"aufs\"", "\"Driver\":\"overlay2\"")).expect("written");
    assert_eq!(differences(&store), (0, Vec::new()));

    // Docker removes an image of that store: all of it, or it was not Docker
    std::thread::sleep(Duration::from_millis(20));
    let image = store.root.join("image/overlay2");
    let name = full(&image.join("imagedb/content/sha256"), IMAGE.0);
    fs::remove_file(image.join("imagedb/content/sha256").join(&name)).expect("removed");
    let _ = fs::remove_dir_all(image.join("imagedb/metadata/sha256").join(&name));
    let tags = image.join("repositories.json");
    let mut all: Value = serde_json::from_str(&fs::read_to_string(&tags).expect("tags")).expect("JSON");
    all["Repositories"].as_object_mut().expect("repositories").remove("demo/dang").expect("its tag");
    fs::write(&tags, all.to_string()).expect("written");
    let _ = fs::remove_dir(store.root.join("tmp"));
    fs::create_dir(store.root.join("tmp")).expect("mkdir");
    let (code, found) = differences(&store);
    assert!(code == 6 && found.len() == 1 && found[0]["id"] == name.as_str(), "{found:#?}");
    remove_layer(&store.root, IMAGE.1);
    assert_eq!(differences(&store), (0, Vec::new()));
    store.unaufs(&["cleanup", "--yes", "--quiet"]).exits(0);
    assert_eq!(differences(&store), (0, Vec::new()));
}
