//! What Docker will be told at its next start: `daemon.json`, its unit's command line, the version that is installed.

mod beside;
mod command_lines;
mod daemon_json;
mod storage_opts;

use super::{Look, Machine, is_root_of};
use crate::checks::{Finding, Level};
use crate::disk::{Dir, fault};
use crate::docker::choice::{self, Choice, Home, Version};
use crate::docker::driver::Target;
use crate::error::{Error, Kind, Result};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use command_lines::flag;
use command_lines::{Line, command_lines, pinned_by};
use daemon_json::parse_for;
pub use daemon_json::{DaemonJson, parse};

/// What Docker is told.
struct Told {
    file: PathBuf,
    config: DaemonJson,
    lines: Vec<Line>,
    /// It is the Docker on ROOT that is told so.
    own: bool,
}

impl Told {
    fn read(root: &Dir, machine: &Machine, version: Option<Version>, out: &mut Vec<Finding>) -> Told {
        let file = machine.docker_config.clone().unwrap_or_else(|| machine.file("etc/docker/daemon.json"));
        let config = read(&file, machine.docker_config.is_some(), version, out);
        let lines = command_lines(machine);
        let own = concerns(root, machine, &config, &lines);
        Told { file, config, lines, own }
    }
}

/// Checks all of it; gives the version of the Docker that is installed, if there is one.
pub(super) fn check(look: &mut Look<'_>) -> Result<Option<String>> {
    let Look { root, options, machine, out, unseen } = look;
    let version = installed(machine);
    let known = version.as_deref().map(number);
    let told = Told::read(root, machine, known, out);
    driver(root, &told, (options.to, known), &beside::will_be_there(root, options)?, out)?;
    if told.own && told.config.live_restore {
        out.push(
            Finding::new("H12", crate::text::path(&told.file), "containers keep running when Docker stops")
                .fix("stop the containers first: docker stop $(docker ps -q), then stop Docker")
                .effect("running containers keep the old store mounted"),
        );
    }
    swarm(root, out)?;
    containerd(root, machine, told.own, out);
    fits(version.as_deref(), options.to, out, unseen);
    Ok(version)
}

/// Why Docker wouldn't use the store of this driver, which is active in ROOT, if it started now.
pub fn obstacles(root: &Dir, to: Target, machine: &Machine) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    let version = installed(machine);
    let known = version.as_deref().map(number);
    let told = Told::read(root, machine, known, &mut out);
    driver(root, &told, (to, known), &beside::is_there(root, to)?, &mut out)?;
    fits(version.as_deref(), to, &mut out, &mut Vec::new());
    out.retain(|f| f.level >= Level::Warn);
    Ok(out)
}

/// With which driver Docker starts: by what names one and by the directories that are there.
fn driver(
    root: &Dir,
    told: &Told,
    (to, version): (Target, Option<Version>),
    there: &[(&'static str, Home)],
    out: &mut Vec<Finding>,
) -> Result<()> {
    let mut named = Pins::default();
    if told.own {
        named = pins(told, to, version, out);
        storage_opts::check(told, root, (to, version), out)?;
        if told.config.graph && version.is_some_and(|v| v >= (23, 0)) {
            out.push(
                Finding::new(
                    "H07",
                    crate::text::path(&told.file),
                    "it sets graph, which Docker 23 and later don't know",
                )
                .level(Level::Warn)
                .fix("write data-root instead of graph there")
                .effect("Docker doesn't start with this file"),
            );
        }
        remap(root, &told.config, out)?;
    }
    if !named.target
        && let Some(line) = to.pin()
    {
        unpinned(&told.file, (to, &line), version.filter(|_| !named.any), there, out);
    } else if !named.any {
        beside::check(root, to, version, there, out);
    }
    Ok(())
}

/// The target is one that a Docker of today has to be told.
fn unpinned(
    file: &Path,
    (to, line): (Target, &str),
    version: Option<Version>,
    there: &[(&'static str, Home)],
    out: &mut Vec<Finding>,
) {
    let file = crate::text::path(file);
    let fix = format!("add this line to {file} before Docker starts: {line}");
    if version.is_some_and(|v| choice::unnamed(v, there) == Choice::Starts(to.name().to_owned())) {
        out.push(
            Finding::new("T05", file, format!("Docker 23 and later don't choose {to} by themselves"))
                .level(Level::Info)
                .fix(fix)
                .effect("the installed Docker starts with the new store anyway"),
        );
        return;
    }
    let others = there.iter().any(|(name, home)| *name != to.name() && *home == Home::Filled);
    let effect = match others {
        true => "Docker doesn't use the new store",
        false => "Docker starts with another driver and an empty store",
    };
    let gone = if to == Target::Overlay { "; Docker 24 and later don't start" } else { "" };
    out.push(
        Finding::new("T05", file, format!("Docker never chooses {to} by itself"))
            .fix(fix)
            .effect(format!("{effect}{gone}")),
    );
}

/// Docker's configuration; the default where the file is missing or can't be used. That is named, unless it is the usual file that is missing.
fn read(file: &Path, named: bool, version: Option<Version>, out: &mut Vec<Finding>) -> DaemonJson {
    let (what, fix, effect) = match Machine::small(file).map(|text| parse_for(version, &text)) {
        Ok(Ok(config)) => return config,
        // the usual case
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !named => return DaemonJson::default(),
        Ok(Err(e)) => (e.chain(), Some("fix the file"), "Docker doesn't start with this file"),
        Err(e) => (e.to_string(), None, "unaufs can't tell whether it sets a storage driver"),
    };
    let finding = Finding::new("H07", crate::text::path(file), what).level(Level::Warn).effect(effect);
    out.push(if let Some(fix) = fix { finding.fix(fix) } else { finding });
    DaemonJson::default()
}

/// Does the installed Docker know the target?
fn fits(version: Option<&str>, to: Target, out: &mut Vec<Finding>, unseen: &mut Vec<&'static str>) {
    let Some(v) = version else {
        unseen.push("H17");
        return;
    };
    out.push(match too_new_or_old(v, to) {
        Some(why) => Finding::new("H17", format!("Docker {v}"), why)
            .fix("choose another --to, or install another Docker")
            .effect("this Docker wouldn't see the new store"),
        None => Finding::new("H17", "", format!("the installed Docker, {v}, knows {to}")).level(Level::Ok),
    });
}

/// Adds where Docker's configuration says that its data root is, to an error that says there is none at ROOT.
pub fn pointed(e: Error, root: &Dir, machine: &Machine) -> Error {
    let file = machine.docker_config.clone().unwrap_or_else(|| machine.file("etc/docker/daemon.json"));
    let config = Machine::small(&file).ok().and_then(|text| parse(&text).ok()).unwrap_or_default();
    let told =
        config.data_root.or_else(|| command_lines(machine).iter().find_map(|(_, w)| super::process::data_root(w)));
    let other = told.map(|dir| machine.file(dir.trim_start_matches('/'))).filter(|dir| !is_root_of(root, dir));
    match other.filter(|dir| e.kind() == Kind::NoStore && dir.join("aufs").is_dir()) {
        Some(dir) => {
            let dir = crate::text::path(&dir);
            e.hint(format!("Docker's configuration names another data root. Use --root {dir}."))
        }
        None => e,
    }
}

/// Is this configuration that of the Docker on ROOT? A configuration that the user named always is.
fn concerns(root: &Dir, machine: &Machine, config: &DaemonJson, lines: &[Line]) -> bool {
    let told = config.data_root.clone().or_else(|| lines.iter().find_map(|(_, w)| super::process::data_root(w)));
    let dir = told.unwrap_or_else(|| "/var/lib/docker".to_owned());
    machine.docker_config.is_some() || is_root_of(root, &machine.file(dir.trim_start_matches('/')))
}

/// What names a driver.
#[derive(Clone, Copy, Default)]
struct Pins {
    /// Something names the target.
    target: bool,
    /// Something names a driver.
    any: bool,
}

/// Looks at what names a driver.
fn pins(told: &Told, to: Target, version: Option<Version>, out: &mut Vec<Finding>) -> Pins {
    let mut named = Pins::default();
    let (file, config) = (told.file.as_path(), &told.config);
    let in_json = config.storage_driver.iter().map(|d| (file, d.clone(), true));
    let in_lines = told.lines.iter().filter_map(|(p, w)| Some((p.as_path(), pinned_by(w)?, false)));
    for (place, driver, json) in in_json.chain(in_lines) {
        named.any = true;
        if driver == to.name() {
            named.target = true;
            continue;
        }
        let fix = match json {
            true => format!("set \"storage-driver\": \"{to}\" there, or remove the line, before Docker starts"),
            false => "remove the option, then systemctl daemon-reload".to_owned(),
        };
        let effect = match driver.as_str() {
            "aufs" => {
                "Docker doesn't start without aufs in the kernel, and Docker 24 and later never start; with it, an older Docker starts with an empty aufs store"
            }
            _ => "Docker doesn't use the new store",
        };
        let what = format!("it sets the storage driver {}", crate::text::text(&driver));
        out.push(Finding::new("H07", crate::text::path(place), what).fix(fix).effect(effect));
    }
    if config.containerd_store {
        let finding = Finding::new("H07", crate::text::path(file), "it turns on containerd-snapshotter")
            .fix("remove the feature \"containerd-snapshotter\"");
        out.push(match version.is_some_and(|v| v < CONTAINERD) {
            true => finding
                .level(Level::Info)
                .effect("the installed Docker ignores it; Docker 23 and later use containerd's store"),
            false => finding.effect("Docker uses containerd's store instead of the new store"),
        });
    }
    named
}

/// The first version with containerd's store for images.
const CONTAINERD: Version = (23, 0);

fn remap(root: &Dir, config: &DaemonJson, out: &mut Vec<Finding>) -> Result<()> {
    let label = root.label();
    let inside = label.file_name().is_some_and(|n| crate::store::remapped(n.as_encoded_bytes()));
    if let Some(user) = config.userns_remap.as_ref().filter(|_| !inside) {
        let user = crate::text::text(user);
        out.push(
            Finding::new(
                "H15",
                "daemon.json",
                format!("userns-remap is on ({user}): Docker uses a data root below this one"),
            )
            .level(Level::Warn)
            .fix(format!("migrate that data root: unaufs plan --root {}/UID.GID", crate::text::path(label))),
        );
    }
    Ok(())
}

/// containerd's metadata below its own root.
const METADATA: &str = "io.containerd.metadata.v1.bolt/meta.db";

/// Images that a Docker 29 made in containerd's store. It uses that store until a storage driver's directory is filled, so they are hidden
/// after the migration. `own`: ROOT is that of the Docker whose containerd keeps its files in /var/lib/containerd.
fn containerd(root: &Dir, machine: &Machine, own: bool, out: &mut Vec<Finding>) {
    const LIMIT: u64 = 64 << 20;
    let below = format!("containerd/daemon/{METADATA}");
    let beside = machine.file("var/lib/containerd").join(METADATA);
    let mut found = vec![(below.clone(), root.read_opt(&below, LIMIT).map_err(|e| e.chain()))];
    if own && std::fs::metadata(&beside).is_ok_and(|m| m.is_file() && m.len() <= LIMIT) {
        found.push((crate::text::path(&beside), std::fs::read(&beside).map(Some).map_err(|e| e.to_string())));
    }
    for (subject, read) in found {
        let images = match read {
            Ok(None) => continue,
            Ok(Some(db)) => crate::docker::containerd::images(&db).map_err(|e| e.chain()),
            Err(e) => Err(e),
        };
        let what = match images {
            Ok(0) => continue,
            Ok(n) => format!("Docker has {} in containerd's store", crate::text::plural(n, "image name")),
            Err(e) => format!("the images in containerd's store couldn't be counted: {e}"),
        };
        out.push(
            Finding::new("T10", subject, what)
                .fix("before you stop Docker, save the images that you need with docker save; load them afterwards with docker load")
                .effect("docker images doesn't show them after the migration. They aren't deleted"),
        );
    }
}

fn swarm(root: &Dir, out: &mut Vec<Finding>) -> Result<()> {
    if root.has("swarm/docker-state.json")? {
        out.push(
            Finding::new("H13", "swarm/", "this node is a member of a swarm")
                .fix("before you stop Docker: docker node update --availability drain NODE")
                .effect("the swarm starts this node's tasks on other nodes"),
        );
    }
    Ok(())
}

/// What this machine's own dockerd said: to start one takes longer than to read a small store, so it is asked once.
static VERSION: OnceLock<Option<String>> = OnceLock::new();

/// Takes the version from an earlier plan of this machine, so that dockerd is not asked at all.
pub fn remember(version: Option<&str>) {
    // the first caller has it from dockerd itself
    let _ = VERSION.set(version.map(str::to_owned));
}

/// The version of the dockerd that is installed.
fn installed(machine: &Machine) -> Option<String> {
    if machine.at == Path::new("/") {
        return VERSION.get_or_init(|| fault::docker().map_or_else(|| ask(machine), |said| version_in(&said))).clone();
    }
    ask(machine)
}

/// Asks the program. Before 1.12 daemon and client were one.
fn ask(machine: &Machine) -> Option<String> {
    let programs = ["usr/bin/dockerd", "usr/local/bin/dockerd", "usr/sbin/dockerd", "usr/bin/docker"];
    let program = programs.iter().map(|p| machine.file(p)).find(|p| p.is_file())?;
    let client = program.ends_with("docker");
    let mut ask = std::process::Command::new(program);
    // one core and no garbage collector are enough for one line, and take half of the time (<https://pkg.go.dev/runtime>)
    let said = ask.arg("--version").env_clear().envs([("GOMAXPROCS", "1"), ("GOGC", "off")]).output().ok()?;
    let version = version_in(&String::from_utf8_lossy(&said.stdout))?;
    // a client of 1.12 or later says nothing about the daemon
    (!client || number(&version) < (1, 12)).then_some(version)
}

/// `Docker version 28.5.2, build ecc6942`.
fn version_in(said: &str) -> Option<String> {
    let word = said.split_once("ersion ")?.1.split([',', ' ', '\n']).next()?;
    let version: String = word.trim_start_matches('v').chars().take_while(|c| !c.is_whitespace()).collect();
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| crate::text::text(&version))
}

fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Why the Docker of this version cannot use the target.
fn too_new_or_old(version: &str, to: Target) -> Option<String> {
    match (to, number(version)) {
        (Target::Overlay2, n) if n < (1, 12) => {
            Some("it doesn't have overlay2, which came with Docker 1.12".to_owned())
        }
        (Target::Overlay, n) if n >= (24, 0) => Some("it no longer has overlay, which Docker 24 removed".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What dockerd 20.10.24 and 28.5.2 did with each (tests/judge/foretold.py).
    #[test]
    fn what_keeps_docker_from_the_new_store() {
        const OLD: Version = (20, 10);
        const NEW: Version = (28, 5);
        const NONE: &[&str] = &[];
        let t = tempfile::tempdir().expect("temp dir");
        let root = Dir::open_named(t.path()).expect("open");
        for (config, to, others, old, new) in [
            ("{}", Target::Overlay2, NONE, "", ""),
            ("{}", Target::Overlay2, &["devicemapper"], "T11 Warn", ""),
            ("{}", Target::Overlay2, &["btrfs"], "T11 Warn", "T11 Warn"),
            (r#"{"storage-driver":"overlay2"}"#, Target::Overlay2, &["btrfs"], "", ""),
            (r#"{"storage-driver":"aufs"}"#, Target::Overlay2, NONE, "H07 Block", "H07 Block"),
            (r#"{"storage-opts":["dm.fs=xfs"]}"#, Target::Overlay2, NONE, "H07 Block", "H07 Block"),
            (r#"{"storage-opts":["overlay2.override_kernel_check=1"]}"#, Target::Overlay2, NONE, "", "H07 Block"),
            (r#"{"features":{"containerd-snapshotter":true}}"#, Target::Overlay2, NONE, "H07 Info", "H07 Block"),
            (r#"{"graph":"/d"}"#, Target::Overlay2, NONE, "", "H07 Warn"),
            ("{}", Target::Vfs, NONE, "T05 Warn", "T05 Warn"),
            (r#"{"storage-driver":"vfs"}"#, Target::Vfs, NONE, "", ""),
            ("{}", Target::Overlay, NONE, "T05 Info", "T05 Warn"),
            ("{}", Target::Overlay, &["overlay2"], "T05 Warn", "T05 Warn"),
        ] {
            let there: Vec<_> = others.iter().chain([&to.name()]).map(|name| (*name, Home::Filled)).collect();
            for (version, want) in [(OLD, old), (NEW, new)] {
                let config = parse_for(Some(version), config.as_bytes()).expect("JSON");
                let told = Told { file: "daemon.json".into(), config, lines: Vec::new(), own: true };
                let mut found = Vec::new();
                driver(&root, &told, (to, Some(version)), &there, &mut found).expect("looked at");
                // a note that only an older Docker wouldn't start says nothing of this one
                let found: Vec<String> = found
                    .iter()
                    .filter(|f| f.id != "T11" || f.level > Level::Info)
                    .map(|f| format!("{} {:?}", f.id, f.level))
                    .collect();
                assert_eq!(found.join(", "), want, "{:?} {to} {others:?} {version:?}", told.config);
            }
        }
    }

    #[test]
    fn versions() {
        for (said, want) in [
            ("Docker version 28.5.2, build ecc6942\n", Some("28.5.2")),
            ("Docker version 1.9.1, build a34a1d5", Some("1.9.1")),
            ("Docker version 20.10.24+dfsg1, build 297e128", Some("20.10.24+dfsg1")),
            ("no", None),
        ] {
            assert_eq!(version_in(said).as_deref(), want);
        }
        for (version, to, fine) in [
            ("1.11.2", Target::Overlay2, false),
            ("1.12.0", Target::Overlay2, true),
            ("17.03.1-ce", Target::Overlay2, true),
            ("23.0.6", Target::Overlay, true),
            ("24.0.0", Target::Overlay, false),
            ("29.7.2", Target::Vfs, true),
        ] {
            assert_eq!(too_new_or_old(version, to).is_none(), fine, "{version} {to}");
        }
    }
}
