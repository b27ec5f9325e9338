//! dockerd's command line: what systemd will start, and the files of options that units and init scripts read.

use super::Machine;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file, and the words in it that dockerd gets.
pub(super) type Line = (PathBuf, Vec<String>);

/// Where systemd looks for units: of files of one name the first counts.
const UNITS: [&str; 4] = ["etc/systemd/system", "run/systemd/system", "lib/systemd/system", "usr/lib/systemd/system"];
const UNIT: &str = "docker.service";

/// Files with options or whole command lines: Debian, Red Hat, OpenRC, upstart, init scripts.
const OPTIONS: [&str; 6] = [
    "etc/default/docker",
    "etc/sysconfig/docker",
    "etc/sysconfig/docker-storage",
    "etc/conf.d/docker",
    "etc/init/docker.conf",
    "etc/init.d/docker",
];
const DRIVERS: [&str; 9] =
    ["aufs", "overlay", "overlay2", "vfs", "btrfs", "devicemapper", "zfs", "fuse-overlayfs", "overlayfs"];

/// All that dockerd may be told besides `daemon.json`.
pub(super) fn command_lines(machine: &Machine) -> Vec<Line> {
    let read = |p: &Path| Machine::small(p).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let mut out = active(unit_files(machine).into_iter().filter_map(|p| Some((read(&p)?, p))));
    let options = OPTIONS.iter().map(|f| machine.file(f));
    out.extend(options.filter_map(|p| Some((words(&lines(&read(&p)?).join("\n")), p))).map(|(words, p)| (p, words)));
    out
}

/// The unit, then its drop-ins in the order of their names over all directories.
fn unit_files(machine: &Machine) -> Vec<PathBuf> {
    let dirs = UNITS.map(|dir| machine.file(dir));
    let unit = dirs.iter().map(|dir| dir.join(UNIT)).find(|p| std::fs::symlink_metadata(p).is_ok());
    let mut drop_ins = BTreeMap::new();
    for dir in &dirs {
        let entries = std::fs::read_dir(dir.join(format!("{UNIT}.d"))).into_iter().flatten().flatten();
        for path in entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "conf")) {
            // one that is empty or leads to /dev/null hides those of the same name, too
            drop_ins.entry(path.file_name().map(ToOwned::to_owned)).or_insert(path);
        }
    }
    unit.into_iter().chain(drop_ins.into_values()).collect()
}

/// What systemd makes of a unit's files: an empty assignment takes back those before it.
fn active(files: impl Iterator<Item = (String, PathBuf)>) -> Vec<Line> {
    let (mut commands, mut variables) = (Vec::new(), Vec::new());
    for (text, path) in files {
        for line in lines(&text) {
            let Some((key, value)) = line.split_once('=') else { continue };
            let list = match key.trim() {
                "ExecStart" => &mut commands,
                "Environment" => &mut variables,
                _ => continue,
            };
            match value.trim() {
                "" => list.clear(),
                value => list.push((path.clone(), words(value))),
            }
        }
    }
    commands.into_iter().chain(variables).collect()
}

/// The lines of a file without comments; one with a backslash at its end is continued by the next.
fn lines(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut continued = String::new();
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';'])) {
        continued.push_str(line.strip_suffix('\\').unwrap_or(line));
        match line.ends_with('\\') {
            true => continued.push(' '),
            false => out.push(std::mem::take(&mut continued)),
        }
    }
    out.push(continued);
    out
}

/// The words of a line, as a shell splits it after it has taken the quotes off. Options that are assigned to a variable are words like others.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\')).filter(|w| !w.is_empty());
    let option = |word: &str| {
        word.split_once('=').filter(|(key, v)| v.starts_with('-') && !key.starts_with('-')).map(|(_, v)| v.to_owned())
    };
    words.map(|word| option(word).unwrap_or_else(|| word.to_owned())).collect()
}

/// The value of the first of these flags on a command line.
pub fn flag(args: &[String], names: &[&str]) -> Option<String> {
    flags(args, names).next()
}

/// The values of these flags: `--flag VALUE`, `--flag=VALUE`, `-f VALUE`, `-f=VALUE`, `-fVALUE`, and `-Df VALUE`, where D takes no value.
pub(super) fn flags<'a>(args: &'a [String], names: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    args.iter().enumerate().filter_map(|(i, word)| {
        let value = names.iter().find_map(|name| value_of(word, name))?;
        match value {
            "" => args.get(i + 1).cloned(),
            value => Some(value.strip_prefix('=').unwrap_or(value).to_owned()),
        }
    })
}

/// What is behind the flag in its own word.
fn value_of<'a>(word: &'a str, name: &str) -> Option<&'a str> {
    /// dockerd's short flags that take no value.
    const SWITCHES: [char; 4] = ['D', 'd', 'h', 'v'];
    if name.starts_with("--") {
        return word.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with('='));
    }
    let letters = word.strip_prefix('-')?.trim_start_matches(SWITCHES);
    letters.strip_prefix(name.strip_prefix('-')?)
}

/// The driver that a command line or an environment variable pins. `-s` alone means other things to other programs, so only the name
/// of a driver counts.
pub(super) fn pinned_by(words: &[String]) -> Option<String> {
    let of_variable = words.iter().filter_map(|w| w.split_once("DOCKER_DRIVER=").map(|(_, v)| v.to_owned()));
    flags(words, &["--storage-driver", "-s"]).chain(of_variable).find(|d| DRIVERS.contains(&d.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_drivers() {
        for (text, want) in [
            ("/usr/bin/dockerd -s aufs -H fd://", Some("aufs")),
            ("/usr/bin/dockerd --storage-driver=overlay2", Some("overlay2")),
            ("/usr/bin/dockerd -H fd:// --storage-driver \"aufs\"", Some("aufs")),
            ("/usr/bin/dockerd -saufs -H fd://", Some("aufs")),
            ("/usr/bin/dockerd -s=aufs", Some("aufs")),
            ("/usr/bin/dockerd -Ds aufs", Some("aufs")),
            ("/usr/bin/dockerd -Dsaufs", Some("aufs")),
            ("/usr/bin/dockerd -Hs aufs", None),
            ("/bin/sh -c \"exec dockerd -s aufs\"", Some("aufs")),
            ("DOCKER_OPTS=\"--storage-driver=aufs\"", Some("aufs")),
            ("DOCKER_OPTS=\"-s aufs\"", Some("aufs")),
            ("DOCKER_OPTS=\"-saufs\"", Some("aufs")),
            ("DOCKER_OPTS=-s\\ aufs", Some("aufs")),
            ("DOCKER_OPTS=\"--dns 8.8.8.8 -Ds aufs\"", Some("aufs")),
            ("DOCKER_STORAGE_OPTIONS=--storage-driver=devicemapper", Some("devicemapper")),
            ("DOCKER_DRIVER=aufs", Some("aufs")),
            ("/bin/echo -s nothing", None),
            ("/usr/bin/dockerd --storage-driver-like aufs -H fd://", None),
        ] {
            assert_eq!(pinned_by(&words(text)).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn a_data_root_may_follow_its_flag_at_once() {
        for line in ["dockerd -g /d", "dockerd -g/d", "dockerd -Dg=/d", "dockerd --data-root=/d", "DOCKER_OPTS='-g /d'"]
        {
            assert_eq!(flag(&words(line), &["--data-root", "--graph", "-g"]).as_deref(), Some("/d"), "{line}");
        }
    }

    #[test]
    fn a_flag_may_be_there_several_times() {
        for (line, want) in [
            (
                "dockerd --storage-opt dm.fs=xfs -s aufs --storage-opt=dm.basesize=20G",
                &["dm.fs=xfs", "dm.basesize=20G"][..],
            ),
            ("DOCKER_STORAGE_OPTIONS=--storage-opt overlay2.size=1G", &["overlay2.size=1G"]),
            ("dockerd --storage-driver=aufs", &[]),
        ] {
            assert_eq!(flags(&words(line), &["--storage-opt"]).collect::<Vec<_>>(), want, "{line}");
        }
    }

    /// Which drivers systemd's rules leave pinned.
    #[test]
    fn units_and_their_drop_ins() {
        const PINS: &str = "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd -s aufs\n";
        const PLAIN: &str = "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd -H fd://\n";
        let unit = "lib/systemd/system/docker.service";
        let etc = |name: &str| format!("etc/systemd/system/docker.service.d/{name}");
        let (run, lib) = ("run/systemd/system/docker.service.d/", "lib/systemd/system/docker.service.d/");
        for (files, want) in [
            (vec![(unit.to_owned(), PINS)], vec!["aufs"]),
            (vec![(unit.to_owned(), PINS), ("etc/systemd/system/docker.service".to_owned(), PLAIN)], vec![]),
            (vec![(unit.to_owned(), PINS), (etc("o.conf"), PLAIN)], vec![]),
            (vec![(unit.to_owned(), PLAIN), (etc("o.conf"), PINS), (etc("o.txt"), PLAIN)], vec!["aufs"]),
            (vec![(etc("10.conf"), PINS), (etc("20.conf"), PLAIN)], vec![]),
            (vec![(etc("10.conf"), PLAIN), (etc("20.conf"), PINS)], vec!["aufs"]),
            (vec![(etc("20.conf"), PINS), (format!("{run}30.conf"), PLAIN)], vec![]),
            (vec![(etc("30.conf"), PINS), (format!("{run}20.conf"), PLAIN)], vec!["aufs"]),
            (vec![(etc("10.conf"), ""), (format!("{lib}10.conf"), PINS)], vec![]),
            (vec![(format!("{run}10.conf"), PLAIN), (format!("{lib}10.conf"), PINS)], vec![]),
            (vec![(etc("o.conf"), "[Service]\nEnvironment=DOCKER_DRIVER=aufs\n")], vec!["aufs"]),
            (vec![(etc("o.conf"), "[Service]\nEnvironment=\"A=1\" \"DOCKER_OPTS=-s aufs\"\nEnvironment=\n")], vec![]),
            (vec![(etc("o.conf"), "[Service]\n#ExecStart=/usr/bin/dockerd -s aufs\n")], vec![]),
            (
                vec![(
                    etc("o.conf"),
                    "[Service]\nExecStart=/usr/bin/dockerd \\\n  --storage-driver \\\n# no\n  aufs\n",
                )],
                vec!["aufs"],
            ),
            (
                vec![("etc/default/docker".to_owned(), "#DOCKER_OPTS=-saufs\nDOCKER_OPTS=\"-D \\\n -saufs\"\n")],
                vec!["aufs"],
            ),
        ] {
            let t = tempfile::tempdir().expect("temp dir");
            for (path, text) in &files {
                let path = t.path().join(path);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
                std::fs::write(path, text).expect("a file");
            }
            let machine = Machine { at: t.path().to_owned(), docker_config: None };
            let found: Vec<String> = command_lines(&machine).iter().filter_map(|(_, w)| pinned_by(w)).collect();
            assert_eq!(found, want, "{files:?}");
        }
    }
}
