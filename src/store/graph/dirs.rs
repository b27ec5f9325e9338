//! What is in `graph/`, read and checked, directory by directory (FORMATS 8.1).
//!
//! ```text
//! ROOT/graph/<id>/json                      the image
//!                 parent                    its parent's directory, where that is not what json says
//!                 checksum                  the digest of the compressed layer, as pulled or pushed
//!                 layersize                 not needed: the size is counted again
//! ROOT/.migration-v1-images.json            what a Docker from 1.10 on has converted: {"<v1 id>":"sha256:<image id>"}
//! ```

use super::V1Id;
use super::v1::V1Image;
use crate::checks::Finding;
use crate::disk::{Dir, FileType};
use crate::docker::gojson;
use crate::error::Result;
use crate::ids::{ImageId, Sha256, named};
use crate::store::content::{SMALL, Salvaged, salvage, text_of};
use crate::store::driver::Driver;
use std::collections::BTreeMap;

/// The longest `json` that is read. Docker's are a few kilobytes, and all of them are held at once.
const JSON_LIMIT: u64 = 4 << 20;

/// One directory of `graph/`.
#[derive(Debug)]
pub struct GraphDir {
    /// The content of `json`.
    pub json: Vec<u8>,
    /// The content of `parent`, if there is one.
    pub parent: Option<Vec<u8>>,
    /// The digest in `checksum`, if it is one. Older Dockers wrote other things there; it only serves a cache.
    pub checksum: Option<Sha256>,
}

/// All directories, sound or not. A reason is in the words of a finding.
pub fn read(graph: &Dir, findings: &mut Vec<Finding>) -> Result<BTreeMap<V1Id, Result<GraphDir, String>>> {
    let mut out = BTreeMap::new();
    for (name, kind) in graph.list()? {
        let id = named(&name, V1Id::parse);
        let (Some(id), FileType::Directory) = (id, kind) else {
            // Docker's own workshop: what it was adding or removing when it was stopped
            let unfinished = name == b"_tmp" && kind == FileType::Directory;
            if !unfinished || !graph.open("_tmp")?.list()?.is_empty() {
                let what =
                    if unfinished { "images that Docker was adding or removing" } else { "it isn't a Docker image" };
                let subject = format!("graph/{}", crate::text::bytes(&name));
                findings.push(Finding::new("D07", subject, what));
            }
            continue;
        };
        let directory = graph.open(id.as_str()).and_then(|dir| read_one(&dir, &id, findings)).map_err(|e| e.chain());
        out.insert(id, directory);
    }
    Ok(out)
}

fn read_one(dir: &Dir, id: &V1Id, findings: &mut Vec<Finding>) -> Result<GraphDir> {
    if let Some(text) = dir.read_opt("layersize", SMALL)? {
        let size = text_of(&text).ok();
        if size.as_deref().is_none_or(|s| s.parse::<u64>().is_err()) {
            let shown = crate::text::bytes(&text);
            findings.push(Finding::new("G07", format!("image {}", id.short()), format!("its layersize is {shown:?}")));
        }
    }
    let checksum = dir.read_opt("checksum", SMALL)?.and_then(|text| Sha256::parse(&text_of(&text).ok()?).ok());
    Ok(GraphDir { json: dir.read("json", JSON_LIMIT)?, parent: dir.read_opt("parent", SMALL)?, checksum })
}

/// The image of a directory and what it says of its parent, if it is sound.
pub fn check<'f>(id: &V1Id, directory: &'f GraphDir, driver: &Driver) -> Result<(V1Image<'f>, Option<V1Id>), String> {
    let image = V1Image::read(&directory.json).map_err(|e| format!("its json can't be read: {}", e.chain()))?;
    if let Some(other) = image.id().filter(|other| *other != id.as_str()) {
        return Err(format!("its json belongs to another image, {:?}", other.chars().take(64).collect::<String>()));
    }
    let parent = image.parent(directory.parent.as_deref()).and_then(|p| p.map(|p| V1Id::parse(&p)).transpose());
    let parent = parent.map_err(|e| e.chain())?;
    // Docker 1.10 took a missing directory for an empty layer
    if !driver.diffs.contains_key(id.layer()) {
        return Err(format!("its layer, the directory aufs/diff/{}, is missing", id.short()));
    }
    Ok((image, parent))
}

/// The images that a Docker from 1.10 on has converted already, by its own account.
pub fn converted(root: &Dir, findings: &mut Vec<Finding>) -> BTreeMap<V1Id, ImageId> {
    const FILE: &str = ".migration-v1-images.json";
    let read = |text: &[u8]| -> Result<BTreeMap<V1Id, ImageId>> {
        let entries = gojson::parse(text)?.members()?.unwrap_or_default();
        let pair = |(v1, image): (String, gojson::Raw<'_>)| -> Result<(V1Id, ImageId)> {
            Ok((V1Id::parse(&v1)?, ImageId::parse(&image.string()?.unwrap_or_default())?))
        };
        entries.into_iter().map(pair).collect()
    };
    // with all that it made gone, the account is of nothing
    if !root.has("image/aufs").unwrap_or(false) {
        return BTreeMap::new();
    }
    let (done, lost) = match root.read_opt(FILE, gojson::MAX_LEN as u64) {
        Ok(None) => return BTreeMap::new(),
        Ok(Some(text)) => {
            let Salvaged { read, lost } = salvage(&text, read);
            (read, lost)
        }
        Err(e) => (BTreeMap::new(), Some(e.chain())),
    };
    if let Some(why) = lost {
        findings.push(Finding::new("D10", FILE, why).effect("images that aren't in this file are converted again"));
    }
    done
}
