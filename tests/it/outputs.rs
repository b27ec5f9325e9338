//! Where results go: outputs are open before any work, are never devices or symlinks that get replaced, and fail as a warning.

use crate::support::real::{self, Ran};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs with a stdout that is always full.
fn on_a_full_stdout(root: &Path, args: &[&str]) -> Ran {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let mut c = Command::new(env!("CARGO_BIN_EXE_unaufs"));
    c.env_remove("UNAUFS_ROOT").arg("--root").arg(root).args(args).stdout(Stdio::from(full));
    Ran::of(c.output().expect("unaufs"))
}

#[test]
fn a_page_that_cannot_be_written_is_a_warning() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let ran = store.unaufs(&["migrate", "--yes", "--json", "--html", "/dev/full"]).exits(0);
    let doc: Value = serde_json::from_str(&ran.stdout).expect("one document");
    assert_eq!((&doc["state"], &doc["exit_code"]), (&Value::from("switched"), &Value::from(0)), "{doc}");
    assert!(doc["warnings"][0].as_str().is_some_and(|w| w.contains("/dev/full was not written")), "{doc}");
    assert!(fs::metadata("/dev/full").expect("/dev/full").file_type().is_char_device());
    store.unaufs(&["rollback", "--yes", "-q"]).exits(0);
    // for a command that only reads it is an error
    for args in [
        &["plan", "--html", "/dev/full"][..],
        &["plan", "--out", "/dev/full"],
        &["plan", "--json", "--out", "/dev/full"],
    ] {
        let ran = store.unaufs(args).exits(12);
        assert_eq!(ran.stdout.contains("READY"), !args.contains(&"--json"), "{}", ran.stdout);
        assert!(!ran.stdout.contains("migrate --root") || !ran.stdout.contains("/dev/full"), "{}", ran.stdout);
    }
}

#[test]
fn a_pipe_that_nobody_reads_keeps_nobody_waiting() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let pipe = store.beside.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let ran = store.unaufs(&["plan", "--out", pipe.to_str().expect("UTF-8")]).exits(1);
    assert!(ran.stderr.contains("Nobody reads that pipe"), "{}", ran.stderr);
}

#[test]
fn a_full_stdout_does_not_change_how_the_work_ended() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    for args in [
        &["migrate", "--yes", "-q"][..],
        &["rollback", "--yes", "-q"],
        &["migrate", "--yes", "--json"],
        &["cleanup", "--yes", "-q"],
    ] {
        let ran = on_a_full_stdout(&store.root, args).exits(0);
        assert!(ran.stderr.contains("stdout can't be written"), "{args:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("again"), "{args:?}: {}", ran.stderr);
    }
    // whoever only looks has nothing then
    let ran = on_a_full_stdout(&store.root, &["status"]).exits(1);
    assert!(ran.stderr.contains("error: write to stdout"), "{}", ran.stderr);
}

#[test]
fn what_is_there_is_not_replaced() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let before = real::tree(&store.root);
    store.unaufs(&["plan", "-q", "--out", "/dev/null"]).exits(0);
    assert!(fs::symlink_metadata("/dev/null").expect("/dev/null").file_type().is_char_device());
    let ran = store.unaufs(&["report", "merge", "--html", "/dev/stdout", &saved(&store)]).exits(0);
    assert!(ran.stdout.contains("<html"), "{}", ran.stdout);
    assert!(fs::symlink_metadata("/dev/stdout").expect("/dev/stdout").file_type().is_symlink());
    let link = store.beside.join("link");
    std::os::unix::fs::symlink("/nowhere", &link).expect("a symlink");
    let inside = store.root.join("tmp/x");
    for option in ["--out", "--html", "--log"] {
        for (place, says) in [(&link, "is a symlink"), (&inside, "inside")] {
            let place = place.to_str().expect("UTF-8");
            let ran = store.unaufs(&["plan", option, place]).exits(2);
            assert!(ran.stderr.contains(says), "{option} {place}: {}", ran.stderr);
        }
    }
    // before the lock and before any work: another unaufs may hold it
    let ran = store.unaufs(&["migrate", "--yes", "--html", inside.to_str().expect("UTF-8")]).exits(2);
    assert!(ran.stderr.contains("inside"), "{}", ran.stderr);
    real::same("nothing was written", &before, &real::tree(&store.root));
}

fn saved(store: &real::Store) -> String {
    let file = store.beside.join("saved.plan").to_str().expect("UTF-8").to_owned();
    store.unaufs(&["plan", "-q", "--out", &file]).exits(0);
    file
}

#[test]
fn what_to_type_next_repeats_what_shaped_the_plan() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let config = store.beside.join("it's.json");
    fs::write(&config, "{}").expect("a configuration");
    let config = config.to_str().expect("UTF-8");
    let options = [
        "--to",
        "vfs",
        "--exclude",
        "image=demo/*",
        "--exclude",
        "container=c-us*",
        "--allow",
        "h03",
        "--docker-config",
        config,
    ];
    let ran = store.unaufs(&[&["plan"][..], &options].concat());
    let quoted = format!("'{}'", config.replace('\'', "'''"));
    // a long command continues after a backslash
    let all = ran.stdout.replace('\\', "").split_whitespace().collect::<Vec<_>>().join(" ");
    let wanted =
        format!("--to vfs --exclude 'image=demo/*' --exclude 'container=c-us*' --allow H03 --docker-config {quoted}");
    assert!(all.contains(&wanted) && all.contains("unaufs plan --root "), "{wanted}\n{}", ran.stdout);
}

#[test]
fn the_data_root_of_daemon_json_is_the_default() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let config = store.beside.join("daemon.json");
    fs::write(&config, serde_json::json!({"data-root": store.root}).to_string()).expect("a configuration");
    let plan = |root: Option<&Path>| {
        let mut c = Command::new(env!("CARGO_BIN_EXE_unaufs"));
        c.env_remove("UNAUFS_ROOT").args(["plan", "--json", "-q", "--docker-config"]).arg(&config);
        if let Some(root) = root {
            c.arg("--root").arg(root);
        }
        Ran::of(c.output().expect("unaufs"))
    };
    let doc: Value = serde_json::from_str(&plan(None).exits(0).stdout).expect("JSON");
    let root = fs::canonicalize(&store.root).expect("the root");
    assert_eq!(doc["root"]["path"].as_str(), root.to_str());
    plan(Some(&store.beside)).exits(10);
    // with a configuration that can't be read the default is looked at, and the error says so
    for (text, said) in [("// a comment\n{\"data-root\":\"/d\"}", true), ("[]", true), ("{}", false)] {
        fs::write(&config, text).expect("a configuration");
        let ran = plan(None);
        if ran.code == 10 {
            let all = format!("{}{}", ran.stdout, ran.stderr);
            assert_eq!(all.contains("can't be read") && all.contains("so unaufs looked in"), said, "{text}: {all}");
        }
        assert!(!plan(Some(&store.beside)).stderr.contains("so unaufs looked in"), "{text}");
    }
}
