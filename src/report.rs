//! What people and machines read: each document is one struct, rendered as text and as JSON.

pub mod cleanup;
pub mod cp;
pub mod demo;
pub mod diff;
pub mod explain;
pub mod export;
pub mod fleet;
pub mod html;
pub mod inspect;
pub mod migrate;
pub mod page;
pub mod plan;
pub mod rollback;
pub mod status;
pub mod truth;
pub mod verify;

/// The first 12 digits of an id.
pub fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}
