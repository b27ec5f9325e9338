//! A sound root of Docker 1.10 or later: an image of two layers, and a container on it.
//!
//! ```text
//! BASE    etc/passwd  srv/page
//! TOP     etc/.wh.passwd  usr/file        app:1
//! RW      data/file                       container web, on its init layer
//! ```

use super::bed::put;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Directories of the layers.
pub const BASE: &str = "ba5e000000000000000000000000000000000000000000000000000000000000";
pub const TOP: &str = "7090000000000000000000000000000000000000000000000000000000000000";
pub const RW: &str = "4400000000000000000000000000000000000000000000000000000000000000";
/// The container.
pub const WEB: &str = "eb00000000000000000000000000000000000000000000000000000000000000";
/// An id that nothing has.
pub const NONE: &str = "f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0";

/// sha256, in hex.
pub fn hex(text: impl AsRef<[u8]>) -> String {
    Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}

/// A layer of an image: its digest, and its place in layerdb.
pub struct Link {
    pub diff: String,
    pub chain: String,
}

/// The n-th layer of a chain.
pub fn link(below: Option<&Link>, n: usize) -> Link {
    let diff = format!("sha256:{}", hex(format!("layer {n}")));
    let chain = match below {
        None => diff.clone(),
        Some(b) => format!("sha256:{}", hex(format!("{} {diff}", b.chain))),
    };
    Link { diff, chain }
}

/// Writes the record of a layer in the layerdb of a driver.
pub fn record(root: &Path, driver: &str, own: &Link, parent: Option<&Link>, folder: &str) {
    let dir = root.join("image").join(driver).join("layerdb").join(own.chain.replace(':', "/"));
    put(&dir.join("diff"), &own.diff);
    put(&dir.join("cache-id"), folder);
    put(&dir.join("size"), "0");
    put(&dir.join("tar-split.json.gz"), super::graph::tar_split(1));
    if let Some(p) = parent {
        put(&dir.join("parent"), &p.chain);
    }
}

/// Writes an image of these layers, with this tag; gives its id.
pub fn image(root: &Path, tag: &str, layers: &[&Link]) -> String {
    let diffs: Vec<&str> = layers.iter().map(|l| l.diff.as_str()).collect();
    let config = serde_json::json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}}).to_string();
    let id = hex(&config);
    put(&root.join("image/aufs/imagedb/content/sha256").join(&id), config);
    let (repository, _) = tag.split_once(':').expect("a tag");
    let tags = serde_json::json!({"Repositories": {repository: {tag: format!("sha256:{id}")}}});
    put(&root.join("image/aufs/repositories.json"), tags.to_string());
    id
}

/// The configuration of the container.
pub fn config(more: serde_json::Value) -> String {
    let mut config = serde_json::json!({
        "ID": WEB, "Name": "/web", "Driver": "aufs", "Image": "app:1", "Config": {}, "NetworkSettings": {}, "State": {"Running": false},
    });
    for (name, value) in more.as_object().expect("an object") {
        config[name] = value.clone();
    }
    config.to_string()
}

/// Writes the root.
pub fn write(root: &Path) {
    let base = link(None, 0);
    let top = link(Some(&base), 1);
    record(root, "aufs", &base, None, BASE);
    record(root, "aufs", &top, Some(&base), TOP);
    image(root, "app:1", &[&base, &top]);
    let init = format!("{RW}-init");
    for (id, below) in [
        (BASE, String::new()),
        (TOP, format!("{BASE}\n")),
        (&init, format!("{TOP}\n{BASE}\n")),
        (RW, format!("{init}\n{TOP}\n{BASE}\n")),
    ] {
        put(&root.join("aufs/layers").join(id), below);
        std::fs::create_dir_all(root.join("aufs/diff").join(id)).expect("a folder");
    }
    let file = |id: &str, path: &str, text: &str| put(&root.join("aufs/diff").join(id).join(path), text);
    file(BASE, "etc/passwd", "root");
    file(BASE, "srv/page", "hello");
    file(TOP, "etc/.wh.passwd", "");
    file(TOP, "usr/file", "content");
    file(&init, "etc/hosts", "");
    file(RW, "data/file", "written");
    let mount = root.join("image/aufs/layerdb/mounts").join(WEB);
    put(&mount.join("mount-id"), RW);
    put(&mount.join("init-id"), &init);
    put(&mount.join("parent"), &top.chain);
    put(&root.join("containers").join(WEB).join("config.v2.json"), config(serde_json::json!({})));
    put(&root.join("containers").join(WEB).join("hostconfig.json"), r#"{"Links":[]}"#);
}
