//! The `json` of a v1 image, and the image config that Docker 1.10 made of it (FORMATS 8.2 to 8.4).
//!
//! ```text
//! graph/<id>/json  ->  image/<driver>/imagedb/content/sha256/<sha256 of the new space>
//! ```
//!
//! Two paths lead there. A `json` written by Docker 1.8.3 or later is kept as raw text, only its top level is sorted and
//! loses some keys. An older one went through Go structs first, so its inside is printed again.

use super::container_config::{ContainerConfig, print_unless_empty, set_string};
use crate::docker::gojson::{Object, Raw, parse, print_map, quote, quoted};
use crate::docker::gotime::Created;
use crate::docker::json::folded;
use crate::error::{Error, Result};
use crate::ids::{DiffId, is_hex64};
use std::borrow::Borrow;
use std::collections::BTreeMap;

/// From this Docker on the raw text is kept ([v1.10.3:image/v1/imagev1.go noFallbackMinVersion]).
const RAW_SINCE: [i64; 3] = [1, 8, 3];

/// Keys that name other images or what the layers tell: not part of a config.
const DROPPED: [&str; 6] = ["id", "parent", "Size", "parent_id", "layer_id", "throwaway"];

/// A parsed `json`.
#[derive(Debug, Default)]
pub struct V1Image<'a> {
    raw: BTreeMap<String, Raw<'a>>,
    id: String,
    parent: String,
    parent_id: String,
    comment: String,
    created: Created,
    container: String,
    container_config: ContainerConfig,
    docker_version: String,
    author: String,
    config: Option<ContainerConfig>,
    architecture: String,
    os: String,
}

/// One entry of the `history` of an image config: what made one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    created: Created,
    author: String,
    created_by: String,
    comment: String,
    /// Never true of a converted image: every v1 image had a layer, if an empty one (FORMATS 8.3).
    empty_layer: bool,
}

impl History {
    /// Reads an entry of an image config.
    pub fn read(entry: Raw<'_>) -> Result<History> {
        let mut out = History::default();
        for (key, value) in entry.members()?.unwrap_or_default() {
            match key.as_str() {
                "created" => out.created = value.string()?.map_or(Ok(Created::default()), |s| Created::parse(&s))?,
                "author" => set_string(&mut out.author, value)?,
                "created_by" => set_string(&mut out.created_by, value)?,
                "comment" => set_string(&mut out.comment, value)?,
                "empty_layer" => out.empty_layer = value.boolean()?.unwrap_or(false),
                _ => {}
            }
        }
        Ok(out)
    }

    fn print(&self, out: &mut Vec<u8>) {
        let mut o = Object::begin(out);
        quote(self.created.as_str(), o.key("created"));
        print_unless_empty("author", &self.author, &mut o);
        print_unless_empty("created_by", &self.created_by, &mut o);
        print_unless_empty("comment", &self.comment, &mut o);
        if self.empty_layer {
            o.key("empty_layer").extend(b"true");
        }
        o.end();
    }
}

impl<'a> V1Image<'a> {
    /// Reads it as Docker did: a field of another type than the struct's is an error.
    pub fn read(json: &'a [u8]) -> Result<V1Image<'a>> {
        let raw = parse(json)?;
        let mut image = V1Image { raw: raw.map()?, ..V1Image::default() };
        for (key, value) in raw.members()?.unwrap_or_default() {
            image.decode_member(&key, value).map_err(|e| e.on(&key))?;
        }
        Ok(image)
    }

    fn decode_member(&mut self, key: &str, value: Raw<'_>) -> Result<()> {
        match folded(key).as_str() {
            "id" => set_string(&mut self.id, value),
            "parent" => set_string(&mut self.parent, value),
            "parent_id" => set_string(&mut self.parent_id, value),
            "comment" => set_string(&mut self.comment, value),
            "created" => value.string()?.map_or(Ok(()), |s| Created::parse(&s).map(|c| self.created = c)),
            "container" => set_string(&mut self.container, value),
            "container_config" => self.container_config.decode(value),
            "docker_version" => set_string(&mut self.docker_version, value),
            "author" => set_string(&mut self.author, value),
            "config" if value.is_null() => {
                self.config = None;
                Ok(())
            }
            "config" => self.config.get_or_insert_default().decode(value),
            "architecture" => set_string(&mut self.architecture, value),
            "os" => set_string(&mut self.os, value),
            "size" => value.integer().map(|_| ()),
            _ => Ok(()),
        }
    }

    /// The id it gives itself, if it does: what 1.8.3 and later pulled has none (FORMATS 8.1).
    pub fn id(&self) -> Option<&str> {
        (!self.id.is_empty()).then_some(self.id.as_str())
    }

    /// The id of the parent's directory, given the content of the `parent` file next to the `json`. That file wins, then
    /// `parent`, then the hex part of `parent_id` (FORMATS 8.1).
    pub fn parent(&self, parent_file: Option<&[u8]>) -> Result<Option<String>> {
        let parent = match parent_file {
            Some(text) if !text.is_empty() => String::from_utf8_lossy(text).trim().to_owned(),
            _ if !self.parent.is_empty() => self.parent.clone(),
            _ if !self.parent_id.is_empty() => {
                self.parent_id.strip_prefix("sha256:").unwrap_or(&self.parent_id).to_owned()
            }
            _ => return Ok(None),
        };
        if is_hex64(&parent) {
            Ok(Some(parent))
        } else {
            Err(Error::corrupt(format!(
                "its parent {:?} isn't an image ID",
                parent.chars().take(80).collect::<String>()
            )))
        }
    }

    /// Its own entry in the history.
    pub fn history(&self) -> History {
        History {
            created: self.created.clone(),
            author: self.author.clone(),
            created_by: self.container_config.command_line(),
            comment: self.comment.clone(),
            empty_layer: false,
        }
    }

    /// The image config: bytes whose SHA-256 is the image id. `diff_ids` and `history` include this image's own, base first.
    pub fn image_config(&self, diff_ids: &[DiffId], history: &[impl Borrow<History>]) -> Vec<u8> {
        let mut members: BTreeMap<String, Vec<u8>> = if version(&self.docker_version) < RAW_SINCE.to_vec() {
            self.printed()
        } else {
            let kept = self.raw.iter().filter(|(key, _)| !DROPPED.contains(&key.as_str()));
            kept.map(|(key, value)| (key.clone(), value.bytes().to_vec())).collect()
        };
        members.insert("rootfs".into(), print_rootfs(diff_ids));
        members.insert("history".into(), print_history(history));
        print_map(&members)
    }

    /// The struct path: the members that `V1Image` of Docker 1.10 would print, but for those that are dropped anyway.
    fn printed(&self) -> BTreeMap<String, Vec<u8>> {
        let mut members = BTreeMap::new();
        for (key, value) in [
            ("comment", &self.comment),
            ("container", &self.container),
            ("docker_version", &self.docker_version),
            ("author", &self.author),
            ("architecture", &self.architecture),
            ("os", &self.os),
        ] {
            if !value.is_empty() {
                members.insert(key.to_owned(), quoted(value));
            }
        }
        members.insert("created".to_owned(), quoted(self.created.as_str()));
        for (key, config) in [("container_config", Some(&self.container_config)), ("config", self.config.as_ref())] {
            if let Some(config) = config {
                config.print(members.entry(key.to_owned()).or_default());
            }
        }
        members
    }
}

/// The parts of a dotted version, as Docker compares them: what is no number is 0 ([v1.10.3:pkg/version/version.go]).
/// Trailing zeros go, so that `1.8` and `1.8.0` are the same.
fn version(v: &str) -> Vec<i64> {
    let number = |part: &str| match part.parse::<i64>() {
        Ok(n) => n,
        Err(e) if *e.kind() == std::num::IntErrorKind::PosOverflow => i64::MAX,
        Err(e) if *e.kind() == std::num::IntErrorKind::NegOverflow => i64::MIN,
        Err(_) => 0,
    };
    let mut parts: Vec<i64> = v.split('.').map(number).collect();
    while parts.last() == Some(&0) {
        parts.pop();
    }
    parts
}

fn print_rootfs(diff_ids: &[DiffId]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rootfs = Object::begin(&mut out);
    quote("layers", rootfs.key("type"));
    if !diff_ids.is_empty() {
        let list: Vec<String> = diff_ids.iter().map(|d| format!("\"{d}\"")).collect();
        rootfs.key("diff_ids").extend(format!("[{}]", list.join(",")).as_bytes());
    }
    rootfs.end();
    out
}

fn print_history(history: &[impl Borrow<History>]) -> Vec<u8> {
    let mut out = vec![b'['];
    for (i, entry) in history.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        entry.borrow().print(&mut out);
    }
    out.push(b']');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ImageId;
    use crate::ids::Sha256;

    const EMPTY: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

    /// The image id of the last of some `json`s, base first, all with empty layers.
    fn image_id(jsons: &[&str]) -> String {
        let images: Vec<V1Image<'_>> = jsons.iter().map(|j| V1Image::read(j.as_bytes()).expect("v1 json")).collect();
        let history: Vec<History> = images.iter().map(V1Image::history).collect();
        let diff_ids = vec![DiffId::parse(EMPTY).expect("a digest"); images.len()];
        ImageId(Sha256::of(&images.last().expect("one").image_config(&diff_ids, &history))).to_string()
    }

    fn config(json: &str) -> String {
        let image = V1Image::read(json.as_bytes()).expect("v1 json");
        String::from_utf8(image.image_config(&[], &[] as &[History])).expect("UTF-8")
    }

    #[test]
    fn docker_s_own_vectors() {
        // FORMATS 8.4: what TestMigrateImages of Docker 1.10 asserts for two images of busybox
        let base = include_str!("../../../tests/data/v1/busybox-base-1.9.json");
        let child = include_str!("../../../tests/data/v1/busybox-cmd-1.9.json");
        assert_eq!(image_id(&[base]), "sha256:ca406eaf9c26898414ff5b7b3a023c33310759d6203be0663dbf1b3a712f432d");
        assert_eq!(image_id(&[base, child]), "sha256:a488bec94bb96b26a968f913d25ef7d8d204d727ca328b52b4b059c7d03260b6");

        // the same two as Docker 1.8.2 itself wrote them: more keys, another order, the same image through the struct path
        let base = include_str!("../../../tests/data/v1/busybox-base-1.8.json");
        let child = include_str!("../../../tests/data/v1/busybox-cmd-1.8.json");
        assert_eq!(image_id(&[base]), "sha256:ca406eaf9c26898414ff5b7b3a023c33310759d6203be0663dbf1b3a712f432d");
        assert_eq!(image_id(&[base, child]), "sha256:a488bec94bb96b26a968f913d25ef7d8d204d727ca328b52b4b059c7d03260b6");
    }

    #[test]
    fn the_raw_path_keeps_what_it_does_not_drop() {
        for (json, want) in [
            (
                r#"{"os":"linux", "id":"x","parent":"y","Size":1,"parent_id":"z","layer_id":"l","throwaway":true,"docker_version":"1.8.3","zz":9007199254740993,"a":{"z":1.50,"b":"<"},"created":"2015-01-01T00:00:00.100Z","size":3}"#,
                r#"{"a":{"z":1.50,"b":"\u003c"},"created":"2015-01-01T00:00:00.100Z","docker_version":"1.8.3","history":[],"os":"linux","rootfs":{"type":"layers"},"size":3,"zz":9007199254740993}"#,
            ),
            (
                r#"{"docker_version":"1.9.1","config":null,"history":1,"rootfs":2,"author":"a","author":"b"}"#,
                r#"{"author":"b","config":null,"docker_version":"1.9.1","history":[],"rootfs":{"type":"layers"}}"#,
            ),
        ] {
            assert_eq!(config(json), want);
        }
    }

    #[test]
    fn the_struct_path_prints_what_the_struct_has() {
        let blank = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#;
        for (json, want) in [
            (
                "{}",
                format!(
                    r#"{{"container_config":{blank},"created":"0001-01-01T00:00:00Z","history":[],"rootfs":{{"type":"layers"}}}}"#
                ),
            ),
            (
                r#"{"Config":{},"OS":"linux","unknown":1,"author":"A <a@b>\t","docker_version":"1.7.1","comment":"","created":"2015-06-01T10:00:00.120+02:00"}"#,
                format!(
                    r#"{{"author":"A \u003ca@b\u003e\t","config":{blank},"container_config":{blank},"created":"2015-06-01T10:00:00.12+02:00","docker_version":"1.7.1","history":[],"os":"linux","rootfs":{{"type":"layers"}}}}"#
                ),
            ),
        ] {
            assert_eq!(config(json), want);
        }
    }

    #[test]
    fn the_docker_version_decides_the_path() {
        for (v, raw) in [
            ("", false),
            ("0.9", false),
            ("1.8.2", false),
            ("1.8", false),
            ("1.8.3-rc1", false),
            ("1.8.2.9", false),
            ("dev", false),
            ("1.8.3", true),
            ("1.8.3.0", true),
            ("1.9.0-dev", true),
            ("1.10.3", true),
            ("1.9", true),
            ("2", true),
            ("1.99999999999999999999", true),
            ("1.-99999999999999999999", false),
            ("1.+9", true),
        ] {
            let got = config(&format!(r#"{{"docker_version":"{v}","x":1}}"#)).contains(r#""x":1"#);
            assert_eq!(got, raw, "{v}");
        }
    }

    #[test]
    fn history_tells_who_made_the_layer() {
        let json = r#"{"created":"2015-06-01T10:00:00Z","author":"a","comment":"c","container_config":{"Cmd":["sh","-c","x  y"]}}"#;
        let full = V1Image::read(json.as_bytes()).expect("v1 json").history();
        let none = V1Image::read(b"{}").expect("v1 json").history();
        assert_eq!(
            String::from_utf8(print_history(&[full, none])).expect("UTF-8"),
            r#"[{"created":"2015-06-01T10:00:00Z","author":"a","created_by":"sh -c x  y","comment":"c"},{"created":"0001-01-01T00:00:00Z"}]"#
        );
    }

    #[test]
    fn the_parent_file_wins_then_parent_then_parent_id() {
        let [a, b, c] = ["a", "b", "c"].map(|x| x.repeat(64));
        for (json, file, want) in [
            (format!(r#"{{"parent":"{b}","parent_id":"sha256:{c}"}}"#), Some(a.as_str()), Ok(Some(&a))),
            (format!(r#"{{"parent":"{b}","parent_id":"sha256:{c}"}}"#), Some(""), Ok(Some(&b))),
            (format!(r#"{{"parent_id":"sha256:{c}"}}"#), None, Ok(Some(&c))),
            (r#"{"parent":"","parent_id":null}"#.to_owned(), None, Ok(None)),
            (r#"{"parent":"../../x"}"#.to_owned(), None, Err(())),
            ("{}".to_owned(), Some("../.."), Err(())),
        ] {
            let image = V1Image::read(json.as_bytes()).expect("v1 json");
            let got = image.parent(file.map(str::as_bytes));
            assert_eq!(got.as_ref().map(|p| p.as_ref()).map_err(|_| ()), want, "{json}");
        }
    }

    #[test]
    fn bad_json_is_an_error() {
        for bad in [
            "",
            "{",
            "[]",
            "null",
            "1",
            r#"{"id":1}"#,
            r#"{"created":5}"#,
            r#"{"created":"yesterday"}"#,
            r#"{"Size":1.5}"#,
            r#"{"Size":"1"}"#,
            r#"{"config":[]}"#,
            r#"{"container_config":{"Cmd":{}}}"#,
            r#"{"docker_version":1}"#,
            "{}{}",
        ] {
            assert!(V1Image::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
