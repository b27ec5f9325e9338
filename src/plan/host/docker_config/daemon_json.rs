//! `daemon.json`, read as dockerd reads it: with a value of another type it doesn't start.

use crate::docker::choice::Version;
use crate::error::{Error, Result};
use serde_json::Value;

/// The parts of `daemon.json` that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonJson {
    /// The driver that it pins.
    pub storage_driver: Option<String>,
    /// Options for the driver, `name=value`.
    pub storage_opts: Vec<String>,
    /// `data-root`, before 17.05 `graph`.
    pub data_root: Option<String>,
    /// It has `graph`, which Docker 23 and later refuse.
    pub graph: bool,
    /// Containers keep running when Docker stops.
    pub live_restore: bool,
    /// ROOT has a sub-root for a user namespace.
    pub userns_remap: Option<String>,
    /// Docker 23 and later then use containerd's store, not a storage driver's.
    pub containerd_store: bool,
}

/// Reads `daemon.json`: the first JSON value.
pub fn parse(text: &[u8]) -> Result<DaemonJson> {
    let (v, _) = first(text)?;
    if !v.is_object() && !v.is_null() {
        return Err(Error::corrupt("it is JSON, but isn't an object"));
    }
    let features = typed(&v, "features", Value::as_object)?;
    if features.is_some_and(|f| f.values().any(|on| !on.is_boolean() && !on.is_null())) {
        return Err(wrong_type("features"));
    }
    let snapshotter = features.and_then(|f| f.get("containerd-snapshotter"));
    Ok(DaemonJson {
        storage_driver: string(&v, "storage-driver")?,
        storage_opts: strings(&v, "storage-opts")?,
        data_root: string(&v, "data-root")?.or(string(&v, "graph")?),
        graph: v.get("graph").is_some(),
        live_restore: typed(&v, "live-restore", Value::as_bool)?.unwrap_or(false),
        userns_remap: string(&v, "userns-remap")?,
        containerd_store: snapshotter.and_then(Value::as_bool).unwrap_or(false),
    })
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The value with which the file begins, null where there is nothing, and what is behind it.
fn first(text: &[u8]) -> Result<(Value, &[u8])> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).trim_ascii();
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Value>();
    let value = values.next().unwrap_or(Ok(Value::Null)).map_err(|e| Error::corrupt("it isn't JSON").with_source(e))?;
    let rest = text.get(values.byte_offset()..).unwrap_or_default();
    Ok((value, rest))
}

/// Reads it as this Docker does, or, if none is known, as one that takes nothing unusual. Before 23 dockerd refused an empty file and a byte
/// order mark, and didn't look at what is behind the first value; since then it is the other way round.
pub fn parse_for(version: Option<Version>, text: &[u8]) -> Result<DaemonJson> {
    const TURN: Version = (23, 0);
    let refused = |what: &str| Err(Error::corrupt(what));
    match first(text)? {
        _ if version.is_none_or(|v| v < TURN) && text.starts_with(BYTE_ORDER_MARK) => {
            refused("it begins with a byte order mark")
        }
        _ if version.is_none_or(|v| v < TURN) && text.trim_ascii().is_empty() => refused("it is empty"),
        (_, rest) if version.is_none_or(|v| v >= TURN) && !rest.trim_ascii().is_empty() => {
            refused("there is something behind its JSON")
        }
        _ => parse(text),
    }
}

fn wrong_type(name: &str) -> Error {
    Error::corrupt(format!("{name} has a value of the wrong type"))
}

/// A field. To dockerd null is the same as no field.
fn typed<'a, T>(v: &'a Value, name: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
    match v.get(name).filter(|value| !value.is_null()) {
        Some(value) => read(value).map(Some).ok_or_else(|| wrong_type(name)),
        None => Ok(None),
    }
}

/// A text that isn't empty.
fn string(v: &Value, name: &str) -> Result<Option<String>> {
    Ok(typed(v, name, Value::as_str)?.filter(|s| !s.is_empty()).map(str::to_owned))
}

fn strings(v: &Value, name: &str) -> Result<Vec<String>> {
    let all = typed(v, name, Value::as_array)?.map_or(&[][..], Vec::as_slice);
    all.iter().map(|s| s.as_str().map(str::to_owned).ok_or_else(|| wrong_type(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_matter() {
        let c = parse(
            br#"{"storage-driver":"aufs","graph":"/d","live-restore":true,"features":{"containerd-snapshotter":true},
                "storage-opts":["dm.fs=xfs"]}"#,
        )
        .expect("JSON");
        assert_eq!(c.storage_driver.as_deref(), Some("aufs"));
        assert_eq!(c.data_root.as_deref(), Some("/d"));
        assert_eq!(c.storage_opts, ["dm.fs=xfs"]);
        assert!(c.live_restore && c.containerd_store && c.graph);
        for nothing in [
            "{}",
            "null",
            r#"{"storage-driver":"","data-root":null}"#,
            r#"{"features":{"containerd-snapshotter":null}}"#,
        ] {
            assert_eq!(parse(nothing.as_bytes()).expect("JSON"), DaemonJson::default(), "{nothing}");
        }
    }

    /// dockerd 20.10.24, 26.1.5 and 28.5.2 refuse each of these.
    #[test]
    fn what_docker_refuses() {
        for bad in [
            "{,}",
            "[]",
            "\"overlay2\"",
            "7",
            r#"{"storage-driver":7}"#,
            r#"{"storage-driver":["overlay2"]}"#,
            r#"{"storage-opts":"x"}"#,
            r#"{"live-restore":"yes"}"#,
            r#"{"features":{"containerd-snapshotter":"true"}}"#,
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    /// What each of them did with these.
    #[test]
    fn what_some_dockers_refuse() {
        for (text, to_20, to_26, unknown) in [
            ("{}", true, true, true),
            ("null", true, true, true),
            ("", false, true, false),
            ("\u{feff}{}", false, true, false),
            ("{} x", true, false, false),
        ] {
            let takes = |version| parse_for(version, text.as_bytes()).is_ok();
            let found = (takes(Some((20, 10))), takes(Some((26, 1))), takes(None));
            assert_eq!(found, (to_20, to_26, unknown), "{text:?}");
        }
    }
}
