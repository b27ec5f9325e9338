//! A stack of branches as a data root of Docker 20.10 with the aufs driver, cast in three ways at once, so that each text is tried as all
//! that a layer can be.
//!
//! ```text
//! text      images          container a              container b
//! ─────     ──────────      ─────────────────        ────────────────────────
//! layer 3   image           container                container
//! layer 2   image           (init layer, empty)      init layer
//! layer 1   image           image 2, 1               image 1
//! ```

use super::text::Layer;
use super::{disk, model};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// One layer of the root.
pub struct Cast {
    /// Its id in every driver.
    pub id: String,
    /// The ids of those below, nearest first.
    pub lowers: Vec<String>,
    /// Itself and those below, base first.
    pub layers: Vec<Layer>,
    /// Does Docker write into it?
    pub writable: bool,
}

impl Cast {
    /// What it must show.
    pub fn view(&self, overlay: bool) -> model::View {
        model::view(&self.layers.iter().collect::<Vec<_>>(), overlay)
    }
}

fn hex(text: &str) -> String {
    Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}

/// Which containers there are next to the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Containers {
    /// Both.
    All,
    /// None: for stacks that are large.
    #[allow(dead_code)]
    None,
}

/// Writes the root and says what is in it.
pub fn write(layers: &[Layer], root: &Path, containers: Containers) -> Vec<Cast> {
    for folder in ["aufs/diff", "aufs/layers", "aufs/mnt", "image/aufs/imagedb/content/sha256", "containers"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    let mut casts = Vec::new();
    let mut images: Vec<Image> = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let image = Image::on(images.last(), i);
        image.write(root);
        let lowers = images.iter().rev().map(|i| i.id.clone()).collect();
        write_branch(root, layer, &image.id, lowers, &layers[..=i], false, &mut casts);
        images.push(image);
    }
    let repositories = images.last().map(|i| {
        serde_json::json!({"Repositories": {"test": {"test:latest": format!("sha256:{}", i.image)}}}).to_string()
    });
    fs::write(root.join("image/aufs/repositories.json"), repositories.unwrap_or_default()).expect("tags");
    if let (Some((top, below)), Containers::All) = (layers.split_last(), containers) {
        container(root, "a", below, &Layer::new(90), top, &images, &mut casts);
        if let Some((init, below)) = below.split_last() {
            container(root, "b", below, init, top, &images, &mut casts);
        }
    }
    casts
}

/// An image and its topmost layer.
struct Image {
    id: String,
    diff: String,
    chain: String,
    parent: Option<String>,
    diffs: Vec<String>,
    image: String,
    config: String,
}

impl Image {
    fn on(parent: Option<&Image>, number: usize) -> Image {
        let diff = format!("sha256:{}", hex(&format!("layer {number}")));
        let parent_chain = parent.map(|p| p.chain.clone());
        let chain = match &parent_chain {
            None => diff.clone(),
            Some(p) => format!("sha256:{}", hex(&format!("{p} {diff}"))),
        };
        let mut diffs = parent.map(|p| p.diffs.clone()).unwrap_or_default();
        diffs.push(diff.clone());
        let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}});
        let config = config.to_string();
        Image {
            id: hex(&format!("cache {number}")),
            diff,
            chain,
            parent: parent_chain,
            diffs,
            image: hex(&config),
            config,
        }
    }

    fn write(&self, root: &Path) {
        let dir = root.join("image/aufs/layerdb").join(self.chain.replace(':', "/"));
        fs::create_dir_all(&dir).expect("a folder");
        let files = [("diff", Some(&self.diff)), ("cache-id", Some(&self.id)), ("parent", self.parent.as_ref())];
        for (name, text) in files.into_iter().filter_map(|(n, t)| Some((n, t?))) {
            fs::write(dir.join(name), text).expect("metadata");
        }
        fs::write(dir.join("size"), "0").expect("metadata");
        fs::write(root.join("image/aufs/imagedb/content/sha256").join(&self.image), &self.config).expect("a config");
    }
}

fn write_branch(
    root: &Path,
    layer: &Layer,
    id: &str,
    lowers: Vec<String>,
    stack: &[Layer],
    writable: bool,
    casts: &mut Vec<Cast>,
) {
    let list: String = lowers.iter().map(|l| format!("{l}\n")).collect();
    fs::write(root.join("aufs/layers").join(id), list).expect("a list of layers");
    fs::create_dir(root.join("aufs/mnt").join(id)).expect("a folder");
    disk::write(layer, &root.join("aufs/diff").join(id));
    casts.push(Cast { id: id.to_owned(), lowers, layers: stack.to_vec(), writable });
}

fn container(
    root: &Path,
    name: &str,
    below: &[Layer],
    init: &Layer,
    own: &Layer,
    images: &[Image],
    casts: &mut Vec<Cast>,
) {
    let image = below.len().checked_sub(1).and_then(|i| images.get(i));
    let (id, mount) = (hex(&format!("container {name}")), hex(&format!("mount {name}")));
    let init_id = format!("{mount}-init");
    let mut lowers: Vec<String> = images[..below.len()].iter().rev().map(|i| i.id.clone()).collect();
    let mut stack = below.to_vec();
    stack.push(init.clone());
    write_branch(root, init, &init_id, lowers.clone(), &stack, true, casts);
    lowers.insert(0, init_id.clone());
    stack.push(own.clone());
    write_branch(root, own, &mount, lowers, &stack, true, casts);
    let mounts: PathBuf = root.join("image/aufs/layerdb/mounts").join(&id);
    fs::create_dir_all(&mounts).expect("a folder");
    fs::write(mounts.join("mount-id"), &mount).expect("metadata");
    fs::write(mounts.join("init-id"), &init_id).expect("metadata");
    if let Some(image) = image {
        fs::write(mounts.join("parent"), &image.chain).expect("metadata");
    }
    let config = serde_json::json!({
        "ID": id, "Name": format!("/{name}"), "Driver": "aufs", "Config": {}, "NetworkSettings": {}, "State": {"Running": false},
        "Image": image.map(|i| format!("sha256:{}", i.image)).unwrap_or_default(),
    });
    fs::create_dir(root.join("containers").join(&id)).expect("a folder");
    fs::write(root.join("containers").join(&id).join("config.v2.json"), config.to_string()).expect("a config");
    fs::write(root.join("containers").join(&id).join("hostconfig.json"), "{}").expect("a config");
}
