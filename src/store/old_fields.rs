//! Fields of a container's configuration that Docker once filled in for older containers, and no longer does.
//!
//! ```text
//! hostconfig.json   LogConfig.Type   NetworkMode   ShmSize
//! config.v2.json    MountPoints.<destination>.{Type,Spec}   HasBeenStartedBefore   NetworkSettings.Networks.<network>.DesiredMacAddress
//! ```
//!
//! Which Docker wrote what, and who filled it in until when, is a table in docs/dev/formats.md. A field that holds a value is left alone.

use crate::docker::json::{self, string, top_level};
use crate::error::Result;
use serde::de::DeserializeOwned;

/// Top-level values to set, as JSON.
pub type Changes = Vec<(String, String)>;

type Fields<'a> = json::Object<'a>;

/// The time that Docker writes for "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What `/dev/shm` was up to Docker 1.9 for every container: 64 MiB.
const SHM_SIZE: &str = "67108864";

/// What to set in a `hostconfig.json`; `{}` represents a missing file.
pub fn host_config(text: &str) -> Result<Changes> {
    let top = top_level(text)?;
    let mut out = Changes::new();
    let log = top.get("LogConfig").map(|raw| raw.get()).filter(|raw| raw.starts_with('{')).unwrap_or("{\"Config\":{}}");
    if word(&top_level(log)?, "Type").is_empty() {
        out.push(("LogConfig".to_owned(), json::set(log, &[("Type", string("json-file"))])?));
    }
    if word(&top, "NetworkMode").is_empty() {
        out.push(("NetworkMode".to_owned(), string("bridge")));
    }
    if value::<i64>(&top, "ShmSize").unwrap_or(0) == 0 {
        out.push(("ShmSize".to_owned(), SHM_SIZE.to_owned()));
    }
    Ok(out)
}

/// What to set in a `config.v2.json`; `host` is the `hostconfig.json` next to it.
pub fn config(text: &str, host: &str) -> Result<Changes> {
    let (top, host) = (top_level(text)?, top_level(host)?);
    let mut out = Changes::new();
    let state = inner(&top, "State")?;
    let started = word(&state, "StartedAt");
    if !value::<bool>(&top, "HasBeenStartedBefore").unwrap_or(false) && !started.is_empty() && started != NEVER {
        out.push(("HasBeenStartedBefore".to_owned(), "true".to_owned()));
    }
    let binds: Vec<String> = value(&host, "Binds").unwrap_or_default();
    let mut points = Changes::new();
    for (destination, point) in inner(&top, "MountPoints")?.entries() {
        if let Some(changed) = mount_point(&destination, point.get(), &binds)? {
            points.push((destination, changed));
        }
    }
    if let Some(raw) = top.get("MountPoints").filter(|_| !points.is_empty()) {
        out.push(("MountPoints".to_owned(), json::set_entries(raw.get(), &points)?));
    }
    out.extend(mac_address(&top, &host)?);
    Ok(out)
}

/// A mount point of Docker up to 1.12 says neither its kind nor what was asked for. Without the kind, Docker from 23 on keeps a volume "in
/// use" after `docker rm`, and doesn't make a missing directory of the host; without a source, `docker rm -v` takes the volume for one
/// without a name, and deletes it.
fn mount_point(destination: &str, text: &str, binds: &[String]) -> Result<Option<String>> {
    let fields = top_level(text)?;
    if !word(&fields, "Type").is_empty() {
        return Ok(None);
    }
    let name = word(&fields, "Name");
    let kind = if name.is_empty() { "bind" } else { "volume" };
    let named = value::<bool>(&fields, "Named").unwrap_or(false)
        || !drawn(&name)
        || binds
            .iter()
            .any(|b| b.split_once(':').is_some_and(|(n, to)| n == name && to.split(':').next() == Some(destination)));
    let source = match kind {
        "bind" => word(&fields, "Source"),
        _ if named => name,
        _ => String::new(),
    };
    let mut spec = vec![format!("\"Type\":\"{kind}\"")];
    if !source.is_empty() {
        spec.push(format!("\"Source\":{}", string(&source)));
    }
    spec.push(format!("\"Target\":{}", string(destination)));
    if !value::<bool>(&fields, "RW").unwrap_or(false) {
        spec.push("\"ReadOnly\":true".to_owned());
    }
    let propagation = word(&fields, "Propagation");
    if kind == "bind" && !propagation.is_empty() {
        spec.push(format!("\"BindOptions\":{{\"Propagation\":{}}}", string(&propagation)));
    }
    let changes = [("Type", string(kind)), ("Spec", format!("{{{}}}", spec.join(",")))];
    json::set(text, &changes).map(Some)
}

/// Did Docker draw this volume's name itself?
fn drawn(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|c| c.is_ascii_hexdigit())
}

/// `docker run --mac-address` up to Docker 24 was noted for the container; since 25 Docker reads the network's field alone.
fn mac_address(top: &Fields<'_>, host: &Fields<'_>) -> Result<Option<(String, String)>> {
    let mac = word(&inner(top, "Config")?, "MacAddress");
    let mode = match word(host, "NetworkMode").as_str() {
        "" | "default" => "bridge".to_owned(),
        mode => mode.to_owned(),
    };
    let Some(settings) = top.get("NetworkSettings").filter(|raw| !mac.is_empty() && raw.get().starts_with('{')) else {
        return Ok(None);
    };
    let networks = inner(&top_level(settings.get())?, "Networks")?.entries();
    let Some(network) = networks.get(&mode).filter(|raw| raw.get().starts_with('{')) else { return Ok(None) };
    if !word(&top_level(network.get())?, "DesiredMacAddress").is_empty() {
        return Ok(None);
    }
    let network = json::set(network.get(), &[("DesiredMacAddress", string(&mac))])?;
    let own = top_level(settings.get())?;
    let all = own.get("Networks").map_or("{}", |raw| raw.get());
    let all = json::set_entries(all, &[(&mode, network)])?;
    Ok(Some(("NetworkSettings".to_owned(), json::set(settings.get(), &[("Networks", all)])?)))
}

/// The members of an object; none where it is missing or `null`.
fn inner<'a>(fields: &Fields<'a>, key: &str) -> Result<Fields<'a>> {
    match fields.get(key) {
        Some(raw) if raw.get().starts_with('{') => top_level(raw.get()),
        _ => Ok(Fields::default()),
    }
}

/// A value; none where it is missing, `null` or of another type.
fn value<T: DeserializeOwned>(fields: &Fields<'_>, key: &str) -> Option<T> {
    serde_json::from_str::<Option<T>>(fields.get(key)?.get()).ok().flatten()
}

fn word(fields: &Fields<'_>, key: &str) -> String {
    value(fields, key).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, changes: &Changes) -> String {
        json::set(text, changes).expect("edit")
    }

    #[test]
    fn a_hostconfig_gets_what_is_empty_and_nothing_else() {
        for (old, new) in [
            // Docker 1.9, by hand: the options of the log stay
            (
                r#"{"LogConfig":{"Type":"","Config":{"max-size":"1m"}},"NetworkMode":"none","MemorySwappiness":-1}"#,
                r#"{"ShmSize":67108864,"LogConfig":{"Type":"json-file","Config":{"max-size":"1m"}},"NetworkMode":"none","MemorySwappiness":-1}"#,
            ),
            ("{}", r#"{"LogConfig":{"Type":"json-file","Config":{}},"NetworkMode":"bridge","ShmSize":67108864}"#),
            (
                r#"{"LogConfig":null,"NetworkMode":"","ShmSize":0}"#,
                r#"{"LogConfig":{"Type":"json-file","Config":{}},"NetworkMode":"bridge","ShmSize":67108864}"#,
            ),
            // a Docker of today, another log driver
            (
                r#"{"LogConfig":{"Type":"journald","Config":{}},"NetworkMode":"default","ShmSize":1}"#,
                r#"{"LogConfig":{"Type":"journald","Config":{}},"NetworkMode":"default","ShmSize":1}"#,
            ),
        ] {
            assert_eq!(edited(old, &host_config(old).expect(old)), new);
        }
        assert!(host_config("[]").is_err());
    }

    #[test]
    fn a_container_that_was_started_says_so() {
        let of = |started: &str, before: &str| {
            let text = format!(r#"{{"State":{{"StartedAt":"{started}"}},"HasBeenStartedBefore":{before}}}"#);
            config(&text, "{}").expect("changes")
        };
        let set = vec![("HasBeenStartedBefore".to_owned(), "true".to_owned())];
        assert_eq!(of("2015-06-01T10:00:00Z", "false"), set);
        assert_eq!(of("2015-06-01T10:00:00Z", "true"), []);
        assert_eq!(of(NEVER, "false"), []);
        assert_eq!(config("{}", "{}").expect("changes"), []);
    }

    #[test]
    fn mount_points_get_their_kind_and_keep_a_name() {
        let hex = "a".repeat(64);
        let host = format!(r#"{{"Binds":["/h:/h:ro","data:/d","{hex}:/e"]}}"#);
        for (point, want) in [
            (
                r#"{"Name":"","Source":"/h","RW":false}"#,
                r#"{"Type":"bind","Source":"/h","Target":"/x","ReadOnly":true}"#.to_owned(),
            ),
            (
                r#"{"Name":"","Source":"/h","RW":true,"Propagation":"rshared"}"#,
                r#"{"Type":"bind","Source":"/h","Target":"/x","BindOptions":{"Propagation":"rshared"}}"#.to_owned(),
            ),
            (r#"{"Name":"data","RW":true}"#, r#"{"Type":"volume","Source":"data","Target":"/x"}"#.to_owned()),
            (&format!(r#"{{"Name":"{hex}","RW":true}}"#), r#"{"Type":"volume","Target":"/x"}"#.to_owned()),
            (
                &format!(r#"{{"Name":"{hex}","RW":true,"Named":true}}"#),
                format!(r#"{{"Type":"volume","Source":"{hex}","Target":"/x"}}"#),
            ),
        ] {
            let text = format!(r#"{{"MountPoints":{{"/x":{point}}}}}"#);
            let new = edited(&text, &config(&text, &host).expect(&text));
            let new: serde_json::Value = serde_json::from_str(&new).expect("JSON");
            let want: serde_json::Value = serde_json::from_str(&want).expect("JSON");
            assert_eq!(
                (&new["MountPoints"]["/x"]["Spec"], &new["MountPoints"]["/x"]["Type"]),
                (&want, &want["Type"]),
                "{text}"
            );
        }
        // named by its bind alone; and one of Docker from 1.13 on is left alone
        let text = format!(r#"{{"MountPoints":{{"/e":{{"Name":"{hex}"}},"/f":{{"Type":"volume","Spec":{{}}}}}}}}"#);
        let changes = config(&text, &host).expect("changes");
        assert!(
            changes[0].1.contains(&format!(r#""Source":"{hex}""#))
                && changes[0].1.contains(r#""/f":{"Type":"volume","Spec":{}}"#)
        );
        assert_eq!(config(r#"{"MountPoints":null}"#, "{}").expect("changes"), []);
    }

    #[test]
    fn a_mac_address_goes_to_its_network() {
        let text = r#"{"Config":{"MacAddress":"02:42:0a:00:00:01"},"NetworkSettings":{"SandboxID":"","Networks":{"bridge":{"Gateway":""}}}}"#;
        let new = edited(text, &config(text, r#"{"NetworkMode":"default"}"#).expect("changes"));
        assert!(
            new.contains(r#""Networks":{"bridge":{"DesiredMacAddress":"02:42:0a:00:00:01","Gateway":""}}"#),
            "{new}"
        );
        assert_eq!(config(&new, "{}").expect("changes"), []);
        assert_eq!(config(text, r#"{"NetworkMode":"other"}"#).expect("changes"), []);
    }
}
