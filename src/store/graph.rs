//! A graph store: Docker up to 1.9.
pub mod container_config;
pub mod gojson;
pub mod gotime;
pub mod lineage;
pub mod linkgraph;
pub mod references;
pub mod v1;

use crate::error::{Error, Result};
use crate::ids::{LayerId, is_hex64};
use std::fmt;

/// The id of an image before Docker 1.10, and of its layer: the name of its folders in `graph/` and `aufs/diff`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V1Id(String);

impl V1Id {
    /// Accepts 64 lower-case hex digits.
    pub fn parse(s: &str) -> Result<V1Id> {
        match is_hex64(s) {
            true => Ok(V1Id(s.to_owned())),
            false => Err(Error::corrupt(format!("{:.80?} is no image id", s))),
        }
    }
    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The first 12 of them, as `docker images` prints them.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
    /// The layer.
    pub fn layer(&self) -> Result<LayerId> {
        LayerId::parse(&self.0)
    }
}

impl fmt::Display for V1Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for V1Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
