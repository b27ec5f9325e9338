//! What the store's records don't hold in memory: sizes, ages and states. What can't be read is left out; the problems name it.

use crate::disk::Dir;
use crate::docker::json;
use crate::error::Result;
use crate::ids::LayerId;
use crate::plan::scan::{Above, Ask, scan};
use crate::store::{Container, Image, Store};
use serde_json::Value;
use std::collections::HashMap;

/// Bytes of each layer that can be read.
pub fn sizes(root: &Dir, store: &Store) -> Result<HashMap<LayerId, u64>> {
    let mut out = HashMap::new();
    for layer in store.layers.values() {
        crate::stop::check()?;
        match root.open(layer.source()).and_then(|dir| scan(dir, &Above::default(), Ask::All)) {
            Ok(found) => drop(out.insert(layer.id.clone(), found.facts.bytes)),
            Err(e) if e.is_exhaustion() => return Err(e),
            Err(_) => {}
        }
    }
    Ok(out)
}

/// When an image was made, RFC 3339.
pub fn created(root: &Dir, image: &Image) -> Option<String> {
    let path = match &image.old_id {
        Some(old) => format!("graph/{old}/json"),
        None => format!("image/aufs/imagedb/content/sha256/{}", image.id.hex()),
    };
    let created = parse(root, &path)?.get("created")?.as_str()?.parse::<jiff::Timestamp>().ok()?;
    Some(created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A container's state in the words of `docker ps`.
pub fn status(root: &Dir, c: &Container) -> String {
    let directory = format!("containers/{}", c.id);
    let config = parse(root, &format!("{directory}/config.v2.json"))
        .or_else(|| parse(root, &format!("{directory}/config.json")));
    let Some(state) = config.as_ref().and_then(|c| c.get("State")) else { return "Unknown".to_owned() };
    let is = |field: &str| state.get(field).and_then(Value::as_bool).unwrap_or(false);
    let started = state.get("StartedAt").and_then(Value::as_str).is_some_and(|t| !t.starts_with("0001-"));
    match state.get("ExitCode").and_then(Value::as_i64) {
        _ if is("Paused") => "Paused".to_owned(),
        _ if c.running => "Running".to_owned(),
        _ if is("Dead") => "Dead".to_owned(),
        Some(code) if started => format!("Exited ({code})"),
        _ => "Created".to_owned(),
    }
}

fn parse(root: &Dir, path: &str) -> Option<Value> {
    // Docker reads bytes that aren't UTF-8, too
    serde_json::from_str(&String::from_utf8_lossy(&root.read(path, json::LIMIT).ok()?)).ok()
}
