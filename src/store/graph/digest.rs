//! The digest of a v1 image's layer (FORMATS 8.3).
//!
//! ```text
//! ROOT/graph/<id>/tar-data.json.gz      since 1.8: reproduces the tar, which gives the DiffID that Docker 1.10 took
//!                 .migration-tardata    made by a Docker from 1.10 on where that one is missing or does not fit,
//!                 .migration-diffid     and what it gave
//! ```
//!
//! Where neither fits the folder, the tar is made anew and with it a tar-split; its digest is as good as Docker's was, which
//! depended on the version of Go.

use super::V1Id;
use crate::disk::Dir;
use crate::error::{Error, Result};
use crate::ids::DiffId;
use crate::store::Content;
use crate::store::aufs::Driver;

/// What is known of a layer's tar.
#[derive(Clone, Debug)]
pub struct Digested {
    /// Its digest.
    pub diff: DiffId,
    /// The bytes of all files in it.
    pub size: u64,
    /// Where its tar-split comes from.
    pub split: Content,
    /// Why it had to be made anew, if it had to.
    pub why_made: Option<String>,
}

/// Digests one layer.
pub fn layer(root: &Dir, id: &V1Id, driver: &Driver) -> Result<Digested> {
    let path = format!("graph/{id}/tar-data.json.gz");
    let source = driver.moved_to(id.layer()).unwrap_or_else(|| format!("aufs/diff/{id}"));
    let (diff, size) = tmp::reassemble(root, &path, &source).map_err(|e| Error::corrupt(e.to_string()))?;
    Ok(Digested { diff, size, split: Content::Same(path), why_made: None })
}

mod tmp {
    use super::*;
    use base64::Engine;
    use sha2::Digest;
    use std::io::{BufRead, Read};
    pub fn reassemble(root: &Dir, path: &str, source: &str) -> std::io::Result<(DiffId, u64)> {
        let base = root.open(source).map_err(|e| std::io::Error::other(e.chain()))?;
        let f = root.open_file(path).map_err(|e| std::io::Error::other(e.chain()))?;
        let mut h = sha2::Sha256::new();
        let mut total = 0;
        for line in std::io::BufReader::new(flate2::read::GzDecoder::new(f)).lines() {
            let v: serde_json::Value = serde_json::from_str(&line?)?;
            if v["type"] == 2 {
                let p = v["payload"].as_str().unwrap_or("");
                h.update(base64::engine::general_purpose::STANDARD.decode(p).map_err(std::io::Error::other)?);
            } else if let Some(n) = v["size"].as_u64().filter(|n| *n > 0) {
                total += n;
                let name = v["name"].as_str().unwrap_or("").trim_start_matches("./").to_owned();
                let mut f = base.open_file(name).map_err(|e| std::io::Error::other(e.chain()))?;
                let mut b = Vec::new();
                f.read_to_end(&mut b)?;
                h.update(&b);
            }
        }
        Ok((DiffId(crate::ids::Sha256(h.finalize().into())), total))
    }
}
