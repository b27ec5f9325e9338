//! `unaufs demo`, as root and as somebody who may do nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

const NOBODY: u32 = 65534;

/// Runs the demo with a temporary directory of its own, and wants nothing to be left in it.
fn demo(args: &[&str], user: Option<u32>) -> Output {
    let beside = tempfile::tempdir().expect("a temporary folder");
    // where anybody may run it: the directory of the build may be closed to others
    let program = beside.path().join("unaufs");
    // by another process: a descriptor of this one that is open for writing may live on in what another test starts, and then nothing can be run
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_unaufs")).arg(&program).status();
    assert!(copied.expect("cp").success());
    let temporary = beside.path().join("tmp");
    fs::create_dir(&temporary).expect("mkdir");
    for open in [beside.path(), &temporary] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o1777)).expect("chmod");
    }
    let mut c = Command::new(&program);
    c.arg("demo").args(args).env("TMPDIR", &temporary).env("COLUMNS", "80").current_dir("/");
    if let Some(user) = user {
        c.uid(user).gid(user);
    }
    let out = c.output().expect("unaufs");
    assert_eq!(fs::read_dir(&temporary).expect("list").count(), 0, "the temporary folder is not empty");
    out
}

fn text(out: &Output) -> String {
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout.clone()).expect("text")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn whoever_runs_it_sees_the_same_container_before_and_after() {
    let users: &[Option<u32>] = if is_root() { &[None, Some(NOBODY)] } else { &[None] };
    for user in users {
        let shown = text(&demo(&[], *user));
        let privileged = is_root() && user.is_none();
        let driver = if privileged { "overlay2" } else { "vfs" };
        assert!(shown.replace('\n', " ").contains(&format!("The demo migrates it to {driver}.")), "{shown}");
        // who cannot have overlay2 is told why
        assert_eq!(shown.contains("overlay2 isn't possible"), !privileged, "{shown}");
        for line in [
            "$ unaufs plan",
            "$ unaufs migrate",
            "$ unaufs verify",
            "Verified directory trees, owners, modes, sizes and container data match.",
            "The same 23 names before and after",
        ] {
            assert!(shown.contains(line), "{line} is missing:\n{shown}");
        }
        for line in shown.lines() {
            // a command with a long path stays whole, so that it can be pasted
            assert!(line.chars().count() <= 80 || line.contains(" --root /"), "wider than 80 columns: {line}");
        }
        if privileged {
            for row in [
                "var/.wh.cache                var/cache  device 0:0",
                "usr/share/docs/.wh..wh..opq  usr/share/docs/  opaque",
            ] {
                assert!(shown.contains(row), "{row} is missing:\n{shown}");
            }
        }
    }
}

#[test]
fn one_document_for_machines() {
    let out = demo(&["--to", "vfs", "--json"], None);
    let doc: serde_json::Value = serde_json::from_str(&text(&out)).expect("JSON");
    assert_eq!(doc["schema"], "unaufs.demo/1");
    assert_eq!(doc["driver"], "vfs");
    assert_eq!(doc["differences"], 0);
    assert_eq!(doc["before"], doc["after"]);
    let deleted = |name: &str| doc["marks"].as_array().is_some_and(|m| m.iter().any(|r| r["before"] == name));
    assert!(deleted("srv/.wh.index.html") && deleted(".wh..wh.plnk"));
}

#[test]
fn a_driver_that_cannot_be_made_here_is_an_error() {
    let out = demo(&["--to", "overlay2"], if is_root() { Some(NOBODY) } else { None });
    assert_eq!(out.status.code(), Some(4), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("--to vfs"), "{out:?}");
}
