//! What happens around a migration: another store in the place of the old one, somebody's files in unaufs's directories, a part that is gone.

use crate::support::mounts::Mounted;
use crate::support::needs;
use crate::support::real::{self, Ran, Store, same, tree};
use std::fs;
use std::path::{Path, PathBuf};

fn migrated() -> Option<Store> {
    if !needs::root() {
        return None;
    }
    let store = real::small().unpack();
    store.unaufs(&["migrate", "--yes", "-q"]).exits(0);
    Some(store)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The files below a directory that have this name.
fn named(dir: &Path, name: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for e in fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry")) {
        let kind = e.file_type().expect("a type");
        if kind.is_dir() {
            out.extend(named(&e.path(), name));
        } else if e.file_name() == name {
            out.push(e.path());
        }
    }
    out
}

#[test]
fn another_store_in_the_place_of_the_old_one_is_kept() {
    let Some(store) = migrated() else { return };
    for dir in ["aufs/diff/x", "image/aufs"] {
        fs::create_dir_all(store.root.join(dir)).expect("mkdir");
    }
    fs::write(store.root.join("aufs/diff/x/precious"), "p").expect("write");
    let ran = store.unaufs(&["rollback", "--drop-new", "--yes"]).exits(0);
    assert_eq!(named(&store.root, "precious").len(), 1, "the other store was deleted: {}", ran.stdout);
    assert!(ran.stdout.contains("undone-aside/aufs"), "{}", ran.stdout);
    assert!(!store.root.join("overlay2").exists() && store.root.join("aufs/layers").is_dir());
}

#[test]
fn somebody_elses_file_next_to_the_parked_store_is_kept() {
    let Some(store) = migrated() else { return };
    fs::write(store.root.join(".unaufs/old/notes"), "n").expect("write");
    store.unaufs(&["rollback", "--drop-new", "--yes", "-q"]).exits(0);
    assert_eq!(named(&store.root, "notes").len(), 1, "the file was deleted");
    // and nothing is left half done
    store.unaufs(&["migrate", "--yes", "-q"]).exits(0);
    store.unaufs(&["verify", "-q"]).exits(0);
}

#[test]
fn a_directory_that_came_into_the_old_root_since_is_no_old_store() {
    if !needs::root() {
        return;
    }
    let store = real::small().unpack();
    let new = store.beside.join("new");
    let target = ["--target", text(&new)];
    store.unaufs(&[&["migrate", "--yes", "-q"][..], &target].concat()).exits(0);
    let layer = store.root.join("aufs/diff").join("a".repeat(64));
    fs::create_dir(&layer).expect("mkdir");
    fs::write(layer.join("data"), "precious").expect("write");
    let before = tree(&store.root);
    let ran = store.unaufs(&[&["cleanup", "--yes"][..], &target].concat()).exits(13);
    assert!(ran.stderr.contains("aaaaaaaaaaaa is new"), "{}", ran.stderr);
    same("the old root", &before, &tree(&store.root));
}

#[test]
fn a_parked_store_that_is_gone_is_no_damage_of_the_new_one() {
    let Some(store) = migrated() else { return };
    fs::remove_dir_all(store.root.join(".unaufs/old")).expect("removed");
    for verb in [&["verify"][..], &["cleanup", "--yes"]] {
        let ran = store.unaufs(verb).exits(1);
        assert!(ran.stderr.contains("the old store is not there in full"), "{}", ran.stderr);
        assert!(ran.stderr.contains("--driver overlay2"), "{}", ran.stderr);
    }
    store.unaufs(&["verify", "--driver", "overlay2", "-q"]).exits(0);
    store.unaufs(&["cleanup", "--yes", "--skip-verify", "-q"]).exits(0);
}

#[test]
fn containers_that_lost_their_directories_are_counted() {
    if !needs::root() {
        return;
    }
    let store = real::small().unpack();
    let containers = store.root.join("containers");
    let all = fs::read_dir(&containers).expect("containers").count();
    fs::remove_dir_all(&containers).expect("removed");
    let plan = store.unaufs(&["plan"]).exits(0).stdout;
    assert!(plan.contains("PARTLY") && plan.contains("D09"), "{plan}");
    let said = store.unaufs(&["verify", "--level", "fast", "--driver", "aufs"]).exits(6).stdout;
    assert!(said.contains("its directory in containers/ is missing"), "{said}");
    let said = store.unaufs(&["migrate", "--yes", "--progress", "none"]).exits(3).stdout;
    assert!(said.contains(&format!("NOT MIGRATED ({all})")), "{said}");
    let said = store.unaufs(&["cleanup", "--yes"]).exits(0).stdout;
    assert!(said.contains("its directory in containers/ is missing"), "{said}");
}

#[test]
fn a_plan_in_the_middle_of_a_switch_leads_on() {
    let Some(store) = migrated() else { return };
    // as a power cut leaves it: the guard is up
    let mut c = std::process::Command::new(env!("CARGO_BIN_EXE_unaufs"));
    c.env("UNAUFS_FAULT_AT", "12").arg("--root").arg(&store.root).args(["rollback", "--yes", "-q"]);
    if Ran::of(c.output().expect("unaufs")).code == 0 {
        return needs::cannot_run("this program has no fault points");
    }
    let ran = store.unaufs(&["plan"]).exits(1);
    assert!(ran.stderr.contains("a rollback was interrupted"), "{}", ran.stderr);
    let command = format!("unaufs rollback --root {}", store.root.display());
    assert!(ran.stderr.contains(&command), "{}", ran.stderr);
    store.unaufs(&["rollback", "--yes", "-q"]).exits(0);
}

#[test]
fn a_result_that_cannot_be_noted_is_still_a_result() {
    let Some(store) = migrated() else { return };
    if !needs::root() || crate::support::private::elsewhere(crate::support::private::this_test!()) {
        return;
    }
    let mount = |args: &[&str]| {
        let done = std::process::Command::new("mount").args(args).arg(&store.root).status().expect("mount");
        assert!(done.success(), "mount {args:?}");
    };
    mount(&["--bind", text(&store.root)]);
    mount(&["-o", "remount,bind,ro"]);
    let ran = store.unaufs(&["verify", "--level", "fast"]);
    let back = store.unaufs(&["rollback", "--yes"]);
    let _ = std::process::Command::new("umount").arg(&store.root).status();
    let ran = ran.exits(0);
    assert!(ran.stdout.contains("CLEAN") && ran.stderr.contains("can't be noted"), "{}{}", ran.stdout, ran.stderr);
    let back = back.exits(1);
    assert!(back.stderr.contains("mount -o remount,rw"), "{}", back.stderr);
}

/// What a cleanup deletes in the meantime would be called damage.
#[test]
fn nothing_is_verified_while_another_unaufs_changes_it() {
    let Some(store) = migrated() else { return };
    let root = std::fs::File::open(&store.root).expect("open");
    root.lock().expect("as a cleanup does");
    store.unaufs(&["verify", "--quiet"]).exits(11);
    root.unlock().expect("it has ended");
    // others may look at the same time
    root.lock_shared().expect("as another verify does");
    store.unaufs(&["verify", "--quiet"]).exits(0);
    store.unaufs(&["cleanup", "--yes", "--quiet"]).exits(11);
}

/// Without the journal and the run's file nobody knows what was done. The guide says how to go back by hand.
#[test]
fn both_files_of_a_run_are_lost() {
    if !needs::root() {
        return;
    }
    let store = real::small().unpack();
    let before = tree(&store.root.join("aufs"));
    store.unaufs(&["migrate", "--yes", "-q"]).exits(0);
    for file in ["journal.db", "run.json"] {
        fs::remove_file(store.root.join(".unaufs").join(file)).expect("removed");
    }
    let said = store.unaufs(&["status"]).exits(0).stdout;
    assert!(said.starts_with("UNKNOWN") && said.contains("old store in .unaufs/old"), "{said}");
    for (code, command) in [
        (4, &["migrate", "--yes"][..]),
        (4, &["rollback", "--yes"]),
        (4, &["rollback", "--yes", "--drop-new"]),
        (4, &["cleanup", "--yes"]),
    ] {
        let said = store.unaufs(command).exits(code).stderr;
        assert!(said.contains("both files that describe its migration"), "{said}");
    }
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide.md")).expect("the guide");
    let by_hand = guide.split_once("**Both files are lost.**").expect("the section").1;
    let commands: Vec<&str> =
        by_hand.lines().skip_while(|l| !l.starts_with("    ")).map_while(|l| l.strip_prefix("    ")).collect();
    assert_eq!(commands.first(), Some(&"cd /var/lib/docker"));
    let done =
        std::process::Command::new("sh").arg("-euc").arg(commands[1..].join("\n")).current_dir(&store.root).status();
    assert!(done.expect("sh").success(), "{commands:?}");
    // its files are other names of the old ones
    fs::remove_dir_all(store.root.join("away")).expect("the new store");
    same("the old store", &before, &tree(&store.root.join("aufs")));
    store.unaufs(&["verify", "-q"]).exits(0);
    store.unaufs(&["migrate", "--yes", "-q"]).exits(0);
    store.unaufs(&["verify", "-q"]).exits(0);
}

#[test]
fn a_damaged_file_of_the_run_is_as_good_as_none() {
    let Some(store) = migrated() else { return };
    let file = store.root.join(".unaufs/run.json");
    for text in ["{}", "null", "{\"schema\":\"unaufs.run/1\"", "\0\0\0"] {
        fs::write(&file, text).expect("written");
        assert!(store.unaufs(&["status"]).exits(0).stdout.starts_with("DONE"), "{text}");
        store.unaufs(&["verify", "--level", "fast", "-q"]).exits(0);
    }
    fs::write(&file, "{\"schema\":\"unaufs.run/2\"}").expect("written");
    let said = store.unaufs(&["rollback", "--yes"]).exits(1).stderr;
    assert!(said.contains("of another version of unaufs"), "{said}");
    fs::remove_file(&file).expect("removed");
    fs::create_dir(&file).expect("a directory in its place");
    store.unaufs(&["status"]).exits(0);
    fs::remove_dir(&file).expect("removed");
    fs::write(&file, "{}").expect("written");
    store.unaufs(&["rollback", "--yes", "-q"]).exits(0);
    assert!(store.unaufs(&["status"]).exits(0).stdout.starts_with("ROLLED BACK"));
}

/// `status` says what is there, not only what the journal remembers.
#[test]
fn status_looks() {
    let Some(store) = migrated() else { return };
    let status = || -> (String, serde_json::Value) {
        let json = store.unaufs(&["status", "--json"]).exits(0).stdout;
        (store.unaufs(&["status"]).exits(0).stdout, serde_json::from_str(&json).expect("JSON"))
    };
    let back =
        |json: &serde_json::Value| json["ways_back"].as_array().expect("a list").iter().any(|w| w["now"] == true);
    let at = |path: &str| store.root.join(path);
    // what is asked for is not what was done
    assert!(
        store.unaufs(&["migrate", "--yes", "--to", "vfs"]).exits(2).stderr.contains("already migrated to overlay2")
    );
    let (_, json) = status();
    assert!(back(&json) && json["docker_may_start"] == true && json["working"].is_null(), "{json}");

    let exchange = |path: &str| fs::rename(at(path), at("kept")).expect("moved");
    exchange(".unaufs/old/aufs");
    let (said, json) = status();
    assert!(!back(&json) && said.contains("no way back") && !said.contains("unaufs rollback"), "{said}");
    fs::rename(at("kept"), at(".unaufs/old/aufs")).expect("moved back");

    for gone in ["overlay2", "image"] {
        exchange(gone);
        if gone == "image" {
            fs::write(at(gone), "a file").expect("written");
        }
        let (said, json) = status();
        assert!(json["docker_may_start"] == false && said.contains("Don't start Docker"), "{gone}: {said}");
        let said = store.unaufs(&["migrate", "--yes"]).exits(1).stderr;
        assert!(said.contains("isn't there any more"), "{said}");
        if gone == "image" {
            fs::remove_file(at(gone)).expect("removed");
        }
        fs::rename(at("kept"), at(gone)).expect("moved back");
    }

    let other = AtWork::on(&store.root, &store.beside);
    let (said, json) = status();
    assert!(json["working"] == other.0.id() && said.starts_with("WORKING"), "{said}");
}

/// A program of that name that has the lock of a directory: more isn't asked.
struct AtWork(std::process::Child);

impl AtWork {
    fn on(dir: &Path, beside: &Path) -> AtWork {
        let program = beside.join("unaufs");
        fs::copy("/usr/bin/flock", &program).expect("util-linux");
        let works = AtWork(std::process::Command::new(&program).arg(dir).args(["sleep", "60"]).spawn().expect("flock"));
        while fs::File::open(dir).expect("open").try_lock().is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        works
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        std::process::Command::new("pkill").args(["-P", &self.0.id().to_string()]).status().expect("pkill");
        self.0.wait().expect("ended");
    }
}

/// The first directory of each tmpfs has the same inode number.
#[test]
fn an_unaufs_at_work_on_another_file_system() {
    if !needs::root() {
        return;
    }
    let dir = real::folder();
    let [busy, idle] = ["busy", "idle"].map(|name| {
        fs::create_dir(dir.path().join(name)).expect("a directory");
        Mounted::over(&dir.path().join(name), None)
    });
    let works = AtWork::on(&busy.at, dir.path());
    let working = |root: &Path| {
        let said = real::unaufs(root, &["status", "--json"]).stdout;
        serde_json::from_str::<serde_json::Value>(&said).expect("JSON")["working"].clone()
    };
    assert_eq!(working(&busy.at), works.0.id());
    assert!(working(&idle.at).is_null());
}

/// A cleanup that died right before its last removal.
#[test]
fn an_empty_rest_is_cleaned_up_too() {
    let Some(store) = migrated() else { return };
    store.unaufs(&["cleanup", "--yes", "-q"]).exits(0);
    let old = store.root.join(".unaufs/old");
    fs::create_dir(&old).expect("what is left");
    assert!(store.unaufs(&["status"]).exits(0).stdout.contains("unaufs cleanup"));
    store.unaufs(&["cleanup", "--yes", "-q"]).exits(0);
    assert!(!old.exists());
    assert!(store.unaufs(&["cleanup", "--yes"]).exits(0).stdout.contains("deleted before"));
}

#[test]
fn a_new_root_that_was_moved_is_named() {
    if !needs::root() {
        return;
    }
    let store = real::small().unpack();
    let (new, moved) = (store.beside.join("new"), store.beside.join("moved"));
    let target = |path: &Path, args: &[&str]| store.unaufs(&[args, &["--target", text(path)]].concat());
    target(&new, &["migrate", "--yes", "-q", "--no-switch"]).exits(0);
    std::os::unix::fs::symlink("nowhere", &moved).expect("a symlink");
    for verb in ["plan", "migrate"] {
        target(&moved, &[verb]).exits(2);
    }
    fs::remove_file(&moved).expect("removed");
    fs::rename(&new, &moved).expect("moved");
    let said = target(&moved, &["migrate", "--yes"]).exits(2).stderr;
    assert!(said.contains("was begun at"), "{said}");
    let said = target(&moved, &["status"]).exits(0).stdout;
    assert!(said.contains("name that path") || said.contains("Docker can't start them"), "{said}");
    fs::rename(&moved, &new).expect("moved back");
    target(&new, &["migrate", "--yes", "-q"]).exits(0);
    fs::rename(&new, &moved).expect("moved");
    let said = target(&moved, &["status"]).exits(0).stdout;
    assert!(said.contains("Docker can't start them"), "{said}");
    // the old path leads to it again
    std::os::unix::fs::symlink(&moved, &new).expect("a symlink");
    let said = target(&moved, &["status"]).exits(0).stdout;
    assert!(said.contains("data-root"), "{said}");
}
