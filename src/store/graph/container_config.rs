//! `container.Config` of Docker 1.10, read and printed as Go did: the inner part of the struct path (FORMATS 8.4).
//!
//! Keys are matched without regard to case, unknown ones vanish, and the order of the fields is that of the struct. It is
//! the only place where nested key order of an image config is not the order found.

use crate::docker::gojson::{Object, Raw, quote};
use crate::docker::json::folded;
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};

/// What the struct held. `None` is Go's nil: printed as `null`, or left out where the field is `omitempty`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerConfig {
    hostname: String,
    domainname: String,
    user: String,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    exposed_ports: Option<BTreeSet<String>>,
    publish_service: String,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    args_escaped: bool,
    image: String,
    volumes: Option<BTreeSet<String>>,
    working_dir: String,
    entrypoint: Option<Vec<String>>,
    network_disabled: bool,
    mac_address: String,
    on_build: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: String,
}

impl ContainerConfig {
    /// `Cmd` joined by blanks: what the history calls `created_by`.
    pub fn command_line(&self) -> String {
        self.cmd.as_deref().unwrap_or_default().join(" ")
    }

    /// Takes over the members of an object, as Go decodes into a struct that may already hold something. A value of another
    /// type than the field's is an error, as it was for Docker; `null` leaves a plain field alone.
    pub fn decode(&mut self, value: Raw<'_>) -> Result<()> {
        for (key, value) in value.members()?.unwrap_or_default() {
            self.decode_member(&key, value).map_err(|e| e.on(&key))?;
        }
        Ok(())
    }

    fn decode_member(&mut self, key: &str, value: Raw<'_>) -> Result<()> {
        match folded(key).as_str() {
            "hostname" => set_string(&mut self.hostname, value),
            "domainname" => set_string(&mut self.domainname, value),
            "user" => set_string(&mut self.user, value),
            "attachstdin" => set_bool(&mut self.attach_stdin, value),
            "attachstdout" => set_bool(&mut self.attach_stdout, value),
            "attachstderr" => set_bool(&mut self.attach_stderr, value),
            "exposedports" => set_names(&mut self.exposed_ports, value),
            "publishservice" => set_string(&mut self.publish_service, value),
            "tty" => set_bool(&mut self.tty, value),
            "openstdin" => set_bool(&mut self.open_stdin, value),
            "stdinonce" => set_bool(&mut self.stdin_once, value),
            "env" => set_strings(&mut self.env, value),
            "cmd" => set_words(&mut self.cmd, value),
            "argsescaped" => set_bool(&mut self.args_escaped, value),
            "image" => set_string(&mut self.image, value),
            "volumes" => set_names(&mut self.volumes, value),
            "workingdir" => set_string(&mut self.working_dir, value),
            "entrypoint" => set_words(&mut self.entrypoint, value),
            "networkdisabled" => set_bool(&mut self.network_disabled, value),
            "macaddress" => set_string(&mut self.mac_address, value),
            "onbuild" => set_strings(&mut self.on_build, value),
            "labels" => set_labels(&mut self.labels, value),
            "stopsignal" => set_string(&mut self.stop_signal, value),
            _ => Ok(()),
        }
    }

    /// Prints it in the order of the struct.
    pub fn print(&self, out: &mut Vec<u8>) {
        let mut o = Object::begin(out);
        quote(&self.hostname, o.key("Hostname"));
        quote(&self.domainname, o.key("Domainname"));
        quote(&self.user, o.key("User"));
        print_bool(self.attach_stdin, o.key("AttachStdin"));
        print_bool(self.attach_stdout, o.key("AttachStdout"));
        print_bool(self.attach_stderr, o.key("AttachStderr"));
        if self.exposed_ports.as_ref().is_some_and(|p| !p.is_empty()) {
            print_names(&self.exposed_ports, o.key("ExposedPorts"));
        }
        print_unless_empty("PublishService", &self.publish_service, &mut o);
        print_bool(self.tty, o.key("Tty"));
        print_bool(self.open_stdin, o.key("OpenStdin"));
        print_bool(self.stdin_once, o.key("StdinOnce"));
        print_strings(&self.env, o.key("Env"));
        print_strings(&self.cmd, o.key("Cmd"));
        if self.args_escaped {
            print_bool(true, o.key("ArgsEscaped"));
        }
        quote(&self.image, o.key("Image"));
        print_names(&self.volumes, o.key("Volumes"));
        quote(&self.working_dir, o.key("WorkingDir"));
        print_strings(&self.entrypoint, o.key("Entrypoint"));
        if self.network_disabled {
            print_bool(true, o.key("NetworkDisabled"));
        }
        print_unless_empty("MacAddress", &self.mac_address, &mut o);
        print_strings(&self.on_build, o.key("OnBuild"));
        match &self.labels {
            None => o.key("Labels").extend(b"null"),
            Some(labels) => {
                let mut l = Object::begin(o.key("Labels"));
                labels.iter().for_each(|(k, v)| quote(v, l.key(k)));
                l.end();
            }
        }
        print_unless_empty("StopSignal", &self.stop_signal, &mut o);
        o.end();
    }
}

/// Prints a member unless its value is empty: `omitempty`.
pub fn print_unless_empty(key: &str, value: &str, o: &mut Object<'_>) {
    if !value.is_empty() {
        quote(value, o.key(key));
    }
}

/// Sets a string unless the value is `null`.
pub fn set_string(field: &mut String, value: Raw<'_>) -> Result<()> {
    if let Some(s) = value.string()? {
        *field = s;
    }
    Ok(())
}

/// Sets a boolean unless the value is `null`.
pub fn set_bool(field: &mut bool, value: Raw<'_>) -> Result<()> {
    if let Some(b) = value.boolean()? {
        *field = b;
    }
    Ok(())
}

/// `[]string`: `null` inside is the empty string.
fn set_strings(field: &mut Option<Vec<String>>, value: Raw<'_>) -> Result<()> {
    *field = match value.elements()? {
        None => None,
        Some(all) => Some(all.into_iter().map(|v| Ok(v.string()?.unwrap_or_default())).collect::<Result<_>>()?),
    };
    Ok(())
}

/// `*strslice.StrSlice`: an array, or one string that represents an array of one.
fn set_words(field: &mut Option<Vec<String>>, value: Raw<'_>) -> Result<()> {
    match value.bytes().first() {
        Some(b'"') => *field = value.string()?.map(|s| vec![s]),
        _ => set_strings(field, value)?,
    }
    Ok(())
}

/// `map[string]struct{}`.
fn set_names(field: &mut Option<BTreeSet<String>>, value: Raw<'_>) -> Result<()> {
    let Some(members) = value.members()? else {
        *field = None;
        return Ok(());
    };
    let names = field.get_or_insert_default();
    for (name, value) in members {
        value.members()?; // an object or null, nothing else
        names.insert(name);
    }
    Ok(())
}

fn set_labels(field: &mut Option<BTreeMap<String, String>>, value: Raw<'_>) -> Result<()> {
    let Some(members) = value.members()? else {
        *field = None;
        return Ok(());
    };
    let labels = field.get_or_insert_default();
    for (name, value) in members {
        labels.insert(name, value.string()?.unwrap_or_default());
    }
    Ok(())
}

fn print_bool(value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn print_strings(value: &Option<Vec<String>>, out: &mut Vec<u8>) {
    let Some(all) = value else { return out.extend(b"null") };
    out.push(b'[');
    for (i, s) in all.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        quote(s, out);
    }
    out.push(b']');
}

fn print_names(value: &Option<BTreeSet<String>>, out: &mut Vec<u8>) {
    let Some(names) = value else { return out.extend(b"null") };
    let mut o = Object::begin(out);
    names.iter().for_each(|name| o.key(name).extend(b"{}"));
    o.end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::gojson::parse;

    fn reprinted(s: &str) -> Result<String> {
        let mut config = ContainerConfig::default();
        config.decode(parse(s.as_bytes())?)?;
        let mut out = Vec::new();
        config.print(&mut out);
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn the_struct_is_printed_in_its_own_order() {
        // the wanted text of each is what Go prints for the same struct
        for (input, want) in [
            (
                "{}",
                r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#,
            ),
            (
                r#"{"Labels":{"z":"1","a":null},"StopSignal":"9","OnBuild":[],"MacAddress":"m","NetworkDisabled":true,"Entrypoint":"one word","WorkingDir":"/w","Volumes":{"/v":{"x":1},"/a":null},"Image":"i","ArgsEscaped":true,"Cmd":[null,"<"],"Env":[],"StdinOnce":true,"OpenStdin":true,"Tty":true,"PublishService":"p","ExposedPorts":{"80/tcp":{},"443/udp":{}},"AttachStderr":true,"AttachStdout":true,"AttachStdin":true,"User":"u","Domainname":"d","Hostname":"h","Memory":7,"PortSpecs":null,"Cpuset":""}"#,
                r#"{"Hostname":"h","Domainname":"d","User":"u","AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"ExposedPorts":{"443/udp":{},"80/tcp":{}},"PublishService":"p","Tty":true,"OpenStdin":true,"StdinOnce":true,"Env":[],"Cmd":["","\u003c"],"ArgsEscaped":true,"Image":"i","Volumes":{"/a":{},"/v":{}},"WorkingDir":"/w","Entrypoint":["one word"],"NetworkDisabled":true,"MacAddress":"m","OnBuild":[],"Labels":{"a":"","z":"1"},"StopSignal":"9"}"#,
            ),
            (
                r#"{"hostNAME":"a","Hostname":null,"tt\u0079":true,"ImaGe":"i","u\u017fer":"long s","wor\u212aingdir":"kelvin","exposedports":{},"Volumes":{"/a":{}},"volumes":{"/b":{}},"Cmd":["x"],"cmd":null,"Labels":{}}"#,
                r#"{"Hostname":"a","Domainname":"","User":"long s","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":true,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"i","Volumes":{"/a":{},"/b":{}},"WorkingDir":"kelvin","Entrypoint":null,"OnBuild":null,"Labels":{}}"#,
            ),
        ] {
            assert_eq!(reprinted(input).expect(input), want);
        }
    }

    #[test]
    fn values_of_another_type_are_refused_as_docker_did() {
        for bad in [
            r#"{"Hostname":1}"#,
            r#"{"Tty":"true"}"#,
            r#"{"Env":"A=1"}"#,
            r#"{"Env":[1]}"#,
            r#"{"Cmd":1}"#,
            r#"{"Cmd":[["x"]]}"#,
            r#"{"Volumes":{"/v":true}}"#,
            r#"{"Volumes":["/v"]}"#,
            r#"{"Labels":{"a":1}}"#,
            "[]",
            "1",
        ] {
            assert!(reprinted(bad).is_err(), "{bad}");
        }
    }
}
