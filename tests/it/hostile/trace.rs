//! What unaufs really opens, as strace sees it: nothing outside of ROOT, the state directory, the named outputs, and the system's own places.

use super::bed::{Odd, World};
use crate::support::needs;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// Read by the dynamic linker, the C library, SQLite (random numbers), and for the time zone.
const SYSTEM: [&str; 10] = [
    "/proc",
    "/sys",
    "/dev/null",
    "/dev/urandom",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
];
/// Asked about the Docker of this host: its configuration, its unit, its socket, its program.
const HOST: [&str; 18] = [
    "/run/docker.pid",
    "/var/run/docker.pid",
    "/etc/docker",
    "/etc/default/docker",
    "/etc/sysconfig",
    "/etc/conf.d/docker",
    "/etc/init/docker.conf",
    "/etc/init.d/docker",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/var/lib/docker",
    "/usr/bin/dockerd",
    "/usr/sbin/dockerd",
    "/usr/local/bin/dockerd",
    "/etc/ld.so.preload",
    "/etc/subuid",
];

/// One call: its name, the paths that it was given, made absolute, and the file that it opened.
#[derive(Debug)]
struct Call {
    name: String,
    paths: Vec<PathBuf>,
    opened: Option<PathBuf>,
    line: String,
}

/// `.` and `..` resolved in the text alone.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for c in path.components() {
        match c {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            c => out.push(c),
        }
    }
    out
}

/// The lines of unaufs itself: it asks the dockerd that is installed for its version, and what that one opens is its own affair.
fn own(lines: Vec<(String, String)>) -> Vec<(String, String)> {
    let first = lines.first().map(|(pid, _)| pid.clone()).unwrap_or_default();
    let mut parent: BTreeMap<String, String> = BTreeMap::new();
    let mut others: BTreeSet<String> = BTreeSet::new();
    for (pid, line) in &lines {
        if ["clone", "fork", "vfork"].iter().any(|c| line.starts_with(c))
            && let Some((_, child)) = line.rsplit_once(" = ")
        {
            parent.insert(child.trim().to_owned(), pid.clone());
        } else if line.starts_with("execve(") && line.ends_with(" = 0") && *pid != first {
            others.insert(pid.clone());
        }
    }
    let is_other = |pid: &String| {
        let mut at = Some(pid);
        while let Some(p) = at {
            if others.contains(p) {
                return true;
            }
            at = parent.get(p);
        }
        false
    };
    lines.iter().filter(|(pid, _)| !is_other(pid)).cloned().collect()
}

/// Puts lines together that strace had to break off; each with the number of its process.
fn whole(text: &str) -> Vec<(String, String)> {
    let mut open: BTreeMap<&str, String> = BTreeMap::new();
    let mut out = Vec::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(head) = rest.strip_suffix("<unfinished ...>") {
            open.insert(pid, head.to_owned());
        } else if let Some((_, tail)) = rest.strip_prefix("<... ").and_then(|r| r.split_once(" resumed>")) {
            out.push((pid.to_owned(), open.remove(pid).unwrap_or_default() + tail));
        } else {
            out.push((pid.to_owned(), rest.to_owned()));
        }
    }
    out
}

/// Reads one line: descriptors stand as `7</path>`, names in quotes.
fn call(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    if !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') {
        return None;
    }
    let (args, result) = rest.rsplit_once(" = ")?;
    let mut paths = Vec::new();
    let mut base: Option<PathBuf> = None;
    let mut chars = args.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '<' => {
                let end = args.get(i..)?.find('>')? + i;
                base = Some(PathBuf::from(args.get(i + 1..end)?));
                while chars.clone().next().is_some_and(|(j, _)| j <= end) {
                    chars.next();
                }
            }
            '"' => {
                let mut text = String::new();
                while let Some((_, c)) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => text.extend(chars.next().map(|(_, c)| c)),
                        c => text.push(c),
                    }
                }
                let base = base.take().unwrap_or_default();
                paths.push(plain(&base.join(text)));
            }
            _ => {}
        }
    }
    // the text of a symlink, what readlink found, the name and value of an attribute: no path that is walked
    let walked = match name {
        "symlink" | "symlinkat" => paths.split_off(paths.len().min(1)),
        "readlink" | "readlinkat" | "execve" => paths.drain(..paths.len().min(1)).collect(),
        n if n.contains("xattr") => paths.drain(..paths.len().min(1)).collect(),
        _ => paths,
    };
    let opened =
        result.split_once('<').filter(|_| name.starts_with("open")).and_then(|(_, r)| r.split(['<', '>']).next());
    Some(Call { name: name.to_owned(), paths: walked, opened: opened.map(PathBuf::from), line: line.to_owned() })
}

fn trace(w: &World, args: &[&str]) -> Vec<Call> {
    let log = w.elsewhere.join("trace");
    // where the dockerds of other tests are seen, their configuration is read too
    let mut c = Command::new("unshare");
    c.args([
        "--pid",
        "--fork",
        "--mount-proc",
        "strace",
        "-f",
        "-qq",
        "-s",
        "9999",
        "-yy",
        "-e",
        "trace=%file,fchdir,socket,clone,?clone3,?fork,?vfork",
        "-e",
        "signal=none",
        "-o",
    ])
    .arg(&log);
    c.arg(env!("CARGO_BIN_EXE_unaufs")).arg("--root").arg(&w.root).args(args).current_dir("/proc");
    // cargo's, for its own programs
    c.env_remove("LD_LIBRARY_PATH");
    let ran = c.output().expect("strace");
    assert!(ran.status.code().is_some_and(|c| [0, 3].contains(&c)), "{args:?}: {ran:?}");
    let text = String::from_utf8_lossy(&fs::read(&log).expect("a trace")).into_owned();
    fs::remove_file(&log).expect("removed");
    let lines = own(whole(&text));
    // Docker's own socket is asked whether it runs on ROOT; nothing else is talked to
    let network = lines.iter().find(|(_, l)| l.starts_with("socket(") && !l.starts_with("socket(AF_UNIX"));
    assert!(network.is_none(), "{args:?}: {network:?}");
    from_where(lines)
}

/// Threads that scan stand in the directory that they ask about: a bare name is one of that directory.
fn from_where(lines: Vec<(String, String)>) -> Vec<Call> {
    let mut stands: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut out = Vec::new();
    for (pid, line) in lines {
        if let Some((_, rest)) = line.strip_prefix("fchdir(").and_then(|l| l.split_once('<')) {
            let folder = rest.split('>').next().unwrap_or_default();
            stands.insert(pid, PathBuf::from(folder));
            continue;
        }
        let Some(mut call) = call(&line) else { continue };
        let here = stands.get(&pid).map_or(Path::new("/proc"), PathBuf::as_path);
        call.paths.iter_mut().filter(|p| p.is_relative()).for_each(|p| *p = plain(&here.join(&*p)));
        if call.name == "chdir"
            && let Some(folder) = call.paths.first()
        {
            stands.insert(pid, folder.clone());
        }
        out.push(call);
    }
    out
}

/// May this be reached at all?
fn allowed(w: &World, path: &Path, opened: bool) -> bool {
    let below = |p: &&str| path.starts_with(p);
    let ours = [&w.root, &w.elsewhere].iter().any(|p| path.starts_with(p));
    // on the way to ROOT each directory is looked at, for symlinks that the user made, and not opened
    let on_the_way = !opened && (w.root.starts_with(path) || w.elsewhere.starts_with(path));
    let target = Path::new(env!("CARGO_BIN_EXE_unaufs")).parent().is_some_and(|p| path.starts_with(p) && !opened);
    ours || on_the_way || target || SYSTEM.iter().any(below) || HOST.iter().any(below)
}

#[test]
fn lines_of_strace_are_understood() {
    let c = call(r#"openat(7</a/b>, "c/../d", O_RDONLY|O_CLOEXEC) = 8</a/b/d>"#).expect("a call");
    assert_eq!(
        (c.name.as_str(), &c.paths[..], c.opened),
        ("openat", &[PathBuf::from("/a/b/d")][..], Some("/a/b/d".into()))
    );
    let c = call(r#"linkat(7</a>, "x\"y", 8</b>, "z", 0) = -1 EXDEV (Invalid cross-device link)"#).expect("a call");
    assert_eq!(c.paths, [PathBuf::from("/a/x\"y"), PathBuf::from("/b/z")]);
    let c = call(r#"symlinkat("/canary", 7</a>, "x") = 0"#).expect("a call");
    assert_eq!(c.paths, [PathBuf::from("/a/x")]);
    let c = call(r#"readlink("/a", "/canary", 4095) = 7"#).expect("a call");
    assert_eq!(c.paths, [PathBuf::from("/a")]);
    let text = "1 open(\"/a\" <unfinished ...>\n2 x() = 0\n1 <... open resumed>) = 3</a>\n1 vfork() = 3\n3 execve(\"/b\") = 0\n\
                3 clone3(x) = 4\n4 y() = 0\n1 z() = 0";
    let ours: Vec<String> = own(whole(text)).into_iter().map(|(_, line)| line).collect();
    assert_eq!(ours, ["x() = 0", "open(\"/a\" ) = 3</a>", "vfork() = 3", "z() = 0"]);
    let line = |pid: &str, line: &str| (pid.to_owned(), line.to_owned());
    let lines = vec![
        line("1", r#"fchdir(7</a/b>) = 0"#),
        line("1", r#"llistxattr("c", "", 9) = 0"#),
        line("2", r#"llistxattr("c", "", 9) = 0"#),
    ];
    let paths: Vec<PathBuf> = from_where(lines).into_iter().flat_map(|c| c.paths).collect();
    assert_eq!(paths, [PathBuf::from("/a/b/c"), PathBuf::from("/proc/c")]);
}

#[test]
fn nothing_outside_is_opened() {
    if !needs::root_and(&["strace"]) {
        return;
    }
    let w = World::of(&format!("{}layer\ns data -> ../../../../canary\nlayer\np data\n", super::bed::STACK));
    let last = w.casts.last().expect("one").id.clone();
    std::os::unix::fs::symlink(&w.canary, w.at(&format!("aufs/diff/{}", "0".repeat(64)))).expect("a symlink");
    std::os::unix::fs::symlink(&w.canary, w.at(&format!("aufs/diff/{last}/.wh.etc"))).expect("a symlink");
    w.lead_out(&w.first("containers").join("config.v2.json"));
    w.lead_out(&w.at("image/aufs/repositories.json"));
    Odd::Device.put(&w.record(3).join("size"));
    for n in 0..2 {
        Odd::ALL[n].put(&w.record(0).join("tar-split.json.gz"));
    }
    let out = w.elsewhere.join("plan.json");
    let mut wrong = BTreeSet::new();
    let (mut calls, mut opens) = (0, 0);
    for args in [
        &["inspect"][..],
        &["plan", "--out", out.to_str().expect("UTF-8")],
        &["migrate", "--yes"],
        &["status"],
        &["verify"],
        &["rollback", "--yes"],
        &["migrate", "--yes"],
        &["cleanup", "--yes"],
    ] {
        for c in trace(&w, args) {
            calls += 1;
            opens += u32::from(c.opened.is_some());
            let opening = c.name.starts_with("open");
            let bad = c.paths.iter().any(|p| !allowed(&w, p, opening))
                || c.opened.as_ref().is_some_and(|p| !allowed(&w, p, true));
            // what has been removed while it was open
            if bad && !c.line.contains("(deleted)") {
                wrong.insert(format!("{}: {}", args[0], c.line));
            }
        }
    }
    assert!(calls > 1_000 && opens > 300, "strace saw {calls} calls, {opens} opened something");
    let shown: Vec<&String> = wrong.iter().take(30).collect();
    assert!(wrong.is_empty(), "{} calls reach outside: {shown:#?}", wrong.len());
    w.unharmed("traced");
}
