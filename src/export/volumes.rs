//! What was mounted in a container: volumes hold the files that people look for most, and the layers have an empty directory there.
//!
//! ```text
//! containers/<id>/config.v2.json   MountPoints: Destination, Name, Source        from Docker 1.7 on
//! containers/<id>/config.json      Volumes: destination, source                  before
//! ROOT/volumes/<name>/_data        the files of a local volume
//! ```

use crate::disk::Dir;
use crate::docker::json;
use crate::error::{Error, Kind, Result};
use crate::store::Container;
use crate::text;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Something mounted in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where, without a slash at either end.
    pub at: Vec<u8>,
    /// The volume's name; `None` for a directory of the host.
    pub volume: Option<String>,
    /// Where its files are, by the host's paths.
    pub source: String,
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "MountPoints", default)]
    points: Option<BTreeMap<String, Point>>,
    #[serde(rename = "Volumes", default)]
    volumes: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Deserialize)]
struct Point {
    #[serde(rename = "Name", default)]
    name: Option<String>,
    #[serde(rename = "Source", default)]
    source: Option<String>,
}

/// What was mounted in a container, as far as its configuration can be read.
pub fn of(root: &Dir, c: &Container) -> Vec<Mounted> {
    let read = |file: &str| {
        let bytes = root.read(format!("containers/{}/{file}", c.id), json::LIMIT).ok()?;
        serde_json::from_slice::<Config>(&bytes).ok()
    };
    let Some(config) = read("config.v2.json").or_else(|| read("config.json")) else { return Vec::new() };
    let place = |at: &str| at.trim_matches('/').as_bytes().to_vec();
    let points = config.points.unwrap_or_default();
    let mut out: Vec<Mounted> = points
        .iter()
        .map(|(at, p)| Mounted {
            at: place(at),
            volume: p.name.clone().filter(|name| !name.is_empty()),
            source: p.source.clone().unwrap_or_default(),
        })
        .collect();
    if points.is_empty() {
        let old = config.volumes.unwrap_or_default();
        out.extend(old.into_iter().map(|(at, source)| Mounted {
            at: place(&at),
            volume: None,
            source: source.unwrap_or_default(),
        }));
    }
    out.retain(|m| !m.at.is_empty());
    out
}

impl Mounted {
    /// Opens it, if it is a volume of this root.
    pub fn open(&self, root: &Dir) -> Result<Dir> {
        let shown = text::bytes(&self.at);
        let elsewhere =
            |what: String| Error::new(Kind::Failed, format!("/{shown} is {what}")).hint("Copy it from there.");
        let Some(name) = &self.volume else {
            return Err(elsewhere(format!("the host's directory {}", text::text(&self.source))));
        };
        match root.open_opt(format!("volumes/{name}/_data"))? {
            Some(dir) => Ok(dir),
            None => Err(Error::new(
                Kind::Failed,
                format!("/{shown} is the volume {}, which is not in {}", text::text(name), root.show(b"volumes")),
            )),
        }
    }

    /// In the words of a note: it is not copied along with what is around it.
    pub fn left_out(&self) -> String {
        let at = text::bytes(&self.at);
        match &self.volume {
            Some(name) => format!("/{at} is the volume {}; copy it too if you need it", text::text(name)),
            None => format!("/{at} is the host's directory {}, which is not copied", text::text(&self.source)),
        }
    }
}
