//! Files that Docker parses when it starts, read as Docker reads them: whole, the first JSON value, keys in any case, with its types.
//!
//! ```text
//! containers/<id>/config.v2.json   a value of another type: Docker leaves the container out; no Config or State: dockerd crashes
//! containers/<id>/hostconfig.json  empty, cut, of another type: Docker leaves the container out; null: dockerd crashes
//! ```
//!
//! Measured with dockerd 20.10.24 and 28.5.2. A container counts as one that moves only if Docker loads it afterwards.

mod fields;

use super::graph::container_config::{set_bool, set_string};
use crate::disk::Dir;
use crate::docker::gojson::{self, Raw};
use crate::docker::json::{self, folded};
use crate::error::{Error, Result};
use crate::ids::ContainerId;

/// The file from which Docker since 1.10 loads a container.
pub const CONFIG: &str = "config.v2.json";
/// The one from which Docker up to 1.9 loaded it.
pub const OLD_CONFIG: &str = "config.json";
/// How the container is run.
pub const HOST_CONFIG: &str = "hostconfig.json";

/// What matters of a container's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Its id.
    pub id: Option<String>,
    /// With a leading slash.
    pub name: String,
    /// Its storage driver.
    pub driver: String,
    /// Its image.
    pub image: String,
    /// Marked as running?
    pub running: bool,
    /// Docker has begun to remove it: `RemovalInProgress`, or `Dead` where it could not finish.
    pub removing: bool,
    /// `NetworkSettings` is null or missing: dockerd 28 crashes on that, 20.10 does not.
    pub no_networks: bool,
}

/// Why Docker would not load a container.
#[derive(Debug)]
pub struct Refused {
    /// What is wrong with the file.
    pub why: Error,
    /// dockerd itself ends at this file, whatever driver the container belongs to.
    pub crashes: bool,
}

impl Refused {
    /// What Docker does with it.
    pub fn effect(&self) -> &'static str {
        match self.crashes {
            true => {
                "dockerd crashes on this file at every start, so the container's directory is set aside with the old store"
            }
            false => "Docker can't load this container either. It stays where it is, with its data",
        }
    }
}

impl From<Error> for Refused {
    fn from(why: Error) -> Refused {
        Refused { why, crashes: false }
    }
}

/// Reads the configuration of the container `id`, from `config.v2.json` or `config.json`.
pub fn config(bytes: &[u8], id: &ContainerId) -> Result<Config, Refused> {
    let value = first(bytes)?;
    // dockerd ends in the middle of such a file, before it compares anything else
    let members = value.members()?.ok_or_else(|| Error::corrupt("the file holds null"))?;
    fields::CONTAINER.accepts(value)?;
    crashes(&members)?;
    // what is to be edited has to be text
    json::top_level(&json::editable(bytes)?)?;
    let mut out = Config { no_networks: true, ..Config::default() };
    let mut system = String::new();
    for (key, value) in members {
        match folded(&key).as_str() {
            "id" => out.id = value.string()?.or(out.id.take()),
            "name" => set_string(&mut out.name, value)?,
            "driver" => set_string(&mut out.driver, value)?,
            "image" => set_string(&mut out.image, value)?,
            "os" => set_string(&mut system, value)?,
            "networksettings" => out.no_networks = value.is_null(),
            "state" => {
                for (key, value) in value.members()?.unwrap_or_default() {
                    match folded(&key).as_str() {
                        "running" => set_bool(&mut out.running, value)?,
                        "removalinprogress" | "dead" => {
                            let mut is = false;
                            set_bool(&mut is, value)?;
                            out.removing |= is;
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    // Docker 18.09 to 23 compare it (daemon.restore)
    if !["", "linux"].contains(&system.as_str()) {
        return Err(Error::corrupt(format!("its OS is {system:?}, and Docker 18.09 to 23 load only linux")).into());
    }
    match &out.id {
        Some(other) if other != id.as_str() => Err(Error::corrupt("it names another container's id").into()),
        _ => Ok(out),
    }
}

/// Finds the nulls on which dockerd crashes: it keeps them as nil pointers and follows these.
fn crashes(members: &[(String, Raw<'_>)]) -> Result<(), Refused> {
    let crash = |what: String| Err(Refused { why: Error::corrupt(what), crashes: true });
    let last = |field: &str| members.iter().rev().find(|(key, _)| json::is_field(key, field)).map(|(_, v)| *v);
    if last("Config").is_none_or(Raw::is_null) {
        return crash("it has no Config".to_owned());
    }
    if last("State").is_some_and(Raw::is_null) {
        return crash("its State is null".to_owned());
    }
    let points = last("MountPoints").map(Raw::members).transpose()?.flatten().unwrap_or_default();
    match points.iter().find(|(_, point)| point.is_null()) {
        Some((at, _)) => crash(format!("its mount point {at} is null")),
        None => Ok(()),
    }
}

/// Checks `hostconfig.json`, and says whether Docker removes the container when it ends. Docker does without the file.
pub fn host_config(directory: &Dir) -> Result<bool, Refused> {
    let Some(bytes) = directory.read_opt(HOST_CONFIG, json::LIMIT)? else { return Ok(false) };
    let value = first(&bytes)?;
    if value.is_null() {
        return Err(Refused { why: Error::corrupt("the file holds null"), crashes: true });
    }
    json::editable(&bytes)?;
    fields::HOST.accepts(value)?;
    let mut auto_remove = false;
    for (key, value) in value.members()?.unwrap_or_default() {
        if json::is_field(&key, "AutoRemove") {
            set_bool(&mut auto_remove, value)?;
        }
    }
    Ok(auto_remove)
}

/// The value with which the file begins.
fn first(bytes: &[u8]) -> Result<Raw<'_>> {
    match bytes.iter().all(|c| matches!(c, 0 | b' ' | b'\t' | b'\r' | b'\n')) {
        true if bytes.contains(&0) => Err(Error::corrupt("the file holds only NUL bytes")),
        true => Err(Error::corrupt("the file is empty")),
        false => gojson::first(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ContainerId {
        ContainerId::parse(&"c".repeat(64)).expect("id")
    }

    /// What dockerd 20.10.24 and 28.5.2 did with each of these.
    #[test]
    fn configurations_are_judged_as_docker_judges_them() {
        let id = id();
        let whole =
            format!(r#"{{"ID":"{id}","Name":"/x","Driver":"aufs","State":{{"Running":true}},"Config":{{}},"N":1}}"#);
        let read = config(whole.as_bytes(), &id).expect("whole");
        assert_eq!((read.name.as_str(), read.driver.as_str(), read.running), ("/x", "aufs", true));
        let with = |more: &str| config(whole.replace("\"N\":1", more).as_bytes(), &id);
        assert_eq!(with(r#""driver":"overlay2""#).expect("the last of two keys counts").driver, "overlay2");
        assert_eq!(with(r#""Driver":null"#).expect("null leaves a field alone").driver, "aufs");
        assert!(with(r#""Unknown":[{}]"#).is_ok() && with(r#""NetworkSettings":null"#).is_ok_and(|c| c.no_networks));
        let bare = config(format!(r#"{{"ID":"{id}","Name":"/x"}}"#).as_bytes(), &id);
        assert!(bare.is_err_and(|e| e.crashes), "without a Config");
        let after = config(format!("{whole} trailing").as_bytes(), &id);
        assert!(after.is_ok(), "Docker stops after the first value");
        for (more, crashes) in [
            (r#""State":null"#, true),
            (r#""Config":null"#, true),
            (r#""config":null"#, true),
            (r#""MountPoints":{"/x":null}"#, true),
            (r#""RestartCount":"x""#, false),
            (r#""Created":"""#, false),
            (r#""Config":[]"#, false),
            (r#""MountPoints":{"/x":1}"#, false),
            (r#""id":"other""#, false),
            (r#""OS":"windows""#, false),
            (r#""OS":"LINUX""#, false),
        ] {
            assert_eq!(with(more).map_err(|e| e.crashes).expect_err(more), crashes, "{more}");
        }
        for (text, crashes) in [("", false), ("\0\0", false), ("null", false), ("[]", false), (&whole[..70], false)] {
            assert_eq!(config(text.as_bytes(), &id).map_err(|e| e.crashes).expect_err(text), crashes, "{text:?}");
        }
    }

    #[test]
    fn host_configurations_are_judged_as_docker_judges_them() {
        let t = tempfile::tempdir().expect("temp dir");
        let directory = Dir::open_named(t.path()).expect("open");
        assert!(host_config(&directory).is_ok(), "no file");
        for (text, want) in [
            ("{}", None),
            (r#"{"Memory":1}trailing"#, None),
            (r#"{"LogConfig":null,"Ulimits":[null],"CapAdd":"ALL","LxcConf":[]}"#, None),
            ("", Some(false)),
            ("\0\0\0", Some(false)),
            (r#"{"Binds":null,"Cont"#, Some(false)),
            (r#"{"Memory":"x"}"#, Some(false)),
            (r#"{"memory":1.5}"#, Some(false)),
            (r#"{"PortBindings":{"80/tcp":[{"HostPort":80}]}}"#, Some(false)),
            ("[]", Some(false)),
            ("null", Some(true)),
            (" null\n", Some(true)),
        ] {
            std::fs::write(t.path().join(HOST_CONFIG), text).expect("write");
            assert_eq!(host_config(&directory).err().map(|e| e.crashes), want, "{text:?}");
        }
        for (text, removed) in [
            (r#"{"AutoRemove":true}"#, true),
            (r#"{"autoremove":true}"#, true),
            (r#"{"AutoRemove":true,"AutoRemove":null}"#, true),
            (r#"{"AutoRemove":true,"autoremove":false}"#, false),
            (r#"{"Other":true}"#, false),
        ] {
            std::fs::write(t.path().join(HOST_CONFIG), text).expect("write");
            assert_eq!(host_config(&directory).ok(), Some(removed), "{text:?}");
        }
    }
}
