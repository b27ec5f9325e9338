//! What is in an archive next to its layers (FORMATS 10).
//!
//! ```text
//! blobs/sha256/<image id>   the config, as in the store: its digest is the image's id
//! blobs/sha256/<…>          an OCI manifest of each image
//! index.json oci-layout     the OCI layout                           containerd, podman, skopeo, umoci, Docker from 25 on
//! manifest.json             RepoTags, Config, Layers, Parent         `docker load` from 1.10 on, podman, skopeo
//! repositories              tag to the top layer                     as `docker save` writes it
//! ```

use super::archive::Blob;
use super::compress::Compressed;
use super::image::Outgoing;
use super::names::{bare_tag, full, repository};
use crate::error::{Error, Kind, Result};
use crate::ids::ImageId;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

impl Descriptor {
    fn of(media_type: &'static str, blob: Blob) -> Descriptor {
        Descriptor { media_type, digest: blob.digest.to_string(), size: blob.size, annotations: BTreeMap::new() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<ImageId>,
}

/// The file that says what the directory is; with this blank, as Docker writes it.
pub const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion": "1.0.0"}"#;

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::new(Kind::Failed, "write JSON").with_source(e))
}

/// The OCI manifest of an image whose layers became these blobs.
pub fn manifest(image: &Outgoing, layers: &[Blob], compress: Compressed) -> Result<Vec<u8>> {
    let layer = match compress {
        Compressed::None => "application/vnd.oci.image.layer.v1.tar",
        Compressed::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compressed::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    json(&Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        config: Descriptor::of("application/vnd.oci.image.config.v1+json", Blob::of(&image.config)),
        layers: layers.iter().map(|l| Descriptor::of(layer, *l)).collect(),
    })
}

/// `index.json`: each image once for each tag.
///
/// `ref.name` is the bare tag where that distinguishes the images, as Docker and umoci have it; where two images have one, it is the whole name.
pub fn index(images: &[(&Outgoing, Blob)]) -> Result<Vec<u8>> {
    let mut seen = BTreeSet::new();
    let tags = images.iter().flat_map(|(image, _)| &image.tags);
    let twice: BTreeSet<&str> = tags.map(|t| bare_tag(t)).filter(|t| !seen.insert(*t)).collect();
    let mut manifests = Vec::new();
    for (image, blob) in images {
        if image.tags.is_empty() {
            manifests.push(Descriptor::of(MANIFEST, *blob));
        }
        for tag in &image.tags {
            let mut d = Descriptor::of(MANIFEST, *blob);
            let bare = bare_tag(tag);
            let name = if twice.contains(bare) { tag.clone() } else { bare.to_owned() };
            d.annotations.insert("io.containerd.image.name", full(tag));
            d.annotations.insert("org.opencontainers.image.ref.name", name);
            manifests.push(d);
        }
    }
    json(&Index { schema_version: 2, media_type: "application/vnd.oci.image.index.v1+json", manifests })
}

/// `manifest.json`.
pub fn manifest_json(images: &[&Outgoing]) -> Result<Vec<u8>> {
    let ids: BTreeSet<ImageId> = images.iter().map(|i| i.id).collect();
    let blob = |hex: String| format!("blobs/sha256/{hex}");
    let items: Vec<Item> = images
        .iter()
        .map(|i| Item {
            config: blob(i.id.hex()),
            repo_tags: (!i.tags.is_empty()).then(|| i.tags.clone()),
            layers: i.layers.iter().map(|l| blob(l.diff.hex())).collect(),
            parent: i.parent.filter(|p| ids.contains(p)),
        })
        .collect();
    let mut out = json(&items)?;
    out.push(b'\n');
    Ok(out)
}

/// `repositories`; none if there is no tag.
pub fn repositories(images: &[&Outgoing]) -> Result<Option<Vec<u8>>> {
    let mut out: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    for image in images {
        let Some(top) = image.layers.last() else { continue };
        for tag in &image.tags {
            out.entry(repository(tag)).or_default().insert(bare_tag(tag), top.diff.hex());
        }
    }
    if out.is_empty() {
        return Ok(None);
    }
    let mut bytes = json(&out)?;
    bytes.push(b'\n');
    Ok(Some(bytes))
}
