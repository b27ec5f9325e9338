//! What the host's other programs see of a migration: Prometheus's text file, and the status that systemd shows.

use crate::support::real::{self, Ran};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

/// Name with labels (without the root) -> value; the text is what the format allows.
fn numbers(file: &Path, root: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mode = fs::metadata(file).expect("the file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o644, "the collector is another user");
    let root = format!("root=\"{}\"", root.display());
    let mut out = BTreeMap::new();
    let mut known = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.strip_suffix(" gauge").unwrap_or_else(|| panic!("{line}"));
            assert!(!known.contains(&name), "{name} is described twice");
            known.push(name);
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let (short, _) = name.split_once('{').unwrap_or_else(|| panic!("{line}"));
            assert!(known.last() == Some(&short) && name.contains(&root), "{line}");
            out.insert(
                name.replace(&format!("{root},"), "").replace(&format!("{{{root}}}"), ""),
                value.parse().expect(line),
            );
        }
    }
    out
}

#[test]
fn prometheus_sees_the_plan_and_the_state() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let file = store.beside.join("unaufs.prom");
    let name = file.to_string_lossy().into_owned();
    let told = |code: i32, args: &[&str]| {
        store.unaufs(&[args, &["--textfile", &name]].concat()).exits(code);
        numbers(&file, &store.root)
    };
    let n = told(0, &["plan", "-q"]);
    assert_eq!(
        (n["unaufs_plan_blockers"], n["unaufs_exit_code{verb=\"plan\"}"], n["unaufs_state{state=\"none\"}"]),
        (0, 0, 1)
    );
    assert!(n["unaufs_bytes_needed"] > 0 && n["unaufs_inodes_needed"] > 100 && n["unaufs_fits"] == 1, "{n:?}");
    assert!(n["unaufs_plan_images"] >= 30 && n["unaufs_plan_containers"] >= 13, "{n:?}");

    let config = store.beside.join("daemon.json");
    fs::write(&config, r#"{"storage-driver": "aufs"}"#).expect("a configuration");
    let n = told(4, &["plan", "-q", "--docker-config", &config.to_string_lossy()]);
    assert_eq!((n["unaufs_plan_blockers"], n["unaufs_exit_code{verb=\"plan\"}"]), (1, 4));

    let n = told(2, &["migrate", "-q"]);
    assert_eq!((n["unaufs_exit_code{verb=\"migrate\"}"], n["unaufs_state{state=\"none\"}"]), (2, 1), "no --yes: {n:?}");
    told(0, &["migrate", "-q", "--yes", "--no-switch"]);
    let n = told(0, &["status"]);
    assert_eq!(
        (n["unaufs_state{state=\"verified\"}"], n["unaufs_state{state=\"none\"}"], n["unaufs_verified"]),
        (1, 0, 1)
    );
    let n = told(0, &["migrate", "-q", "--yes"]);
    assert_eq!((n["unaufs_state{state=\"switched\"}"], n["unaufs_state{state=\"verified\"}"]), (1, 0));

    let inside = store.root.join("x.prom");
    let ran = store.unaufs(&["status", "--textfile", &inside.to_string_lossy()]).exits(2);
    assert!(ran.stderr.contains("inside ROOT") && !inside.exists(), "{}", ran.stderr);
}

#[test]
fn systemd_sees_how_far_it_is() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let path = store.beside.join("notify");
    let socket = UnixDatagram::bind(&path).expect("bind");
    socket.set_nonblocking(true).expect("a socket that does not wait");
    let mut c = Command::new(env!("CARGO_BIN_EXE_unaufs"));
    c.arg("--root")
        .arg(&store.root)
        .args(["migrate", "--yes", "-q"])
        .env("NOTIFY_SOCKET", &path)
        .env_remove("UNAUFS_ROOT");
    Ran::of(c.output().expect("unaufs")).exits(0);
    let mut messages = Vec::new();
    let mut buf = [0u8; 1024];
    while let Ok(n) = socket.recv(&mut buf) {
        messages.push(String::from_utf8_lossy(&buf[..n]).into_owned());
    }
    for phase in ["layers", "verify", "switch"] {
        let wanted = format!("STATUS={phase}: ");
        assert!(messages.iter().any(|m| m.starts_with(&wanted)), "no {wanted} in {messages:?}");
    }
    assert!(messages.iter().all(|m| m.contains("\nEXTEND_TIMEOUT_USEC=")), "{messages:?}");
}
