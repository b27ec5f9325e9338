//! A verdict that convicts: every kind of damage is found and named on every driver, with the old store, without it, before the switch and
//! after Docker ran; and a store that nothing happened to is clean.
//!
//! Each row of [`rows`] is one damage. It proves that it changed something, and must be named by its path. All rows of a store are made
//! before it is verified: nothing else may be named.

mod copied;
mod earlier;
mod records;
mod rows;

use self::rows::{container_rows, describe, full, image_rows, mode, record_rows, remove};
use crate::support::mounts::Mounted;
use crate::support::needs;
use crate::support::private::{self, this_test};
use crate::support::real::{self, Store, same, tree};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Image layers of the small store, by the beginnings of their ids: one with nothing on it,
const SINGLE: &str = "560ff640";
/// one that makes a directory opaque,
const OPAQUE: &str = "6aefb570";
/// one with many files and a whiteout,
const FILES: &str = "6ba84f85";
/// one with devices and attributes,
const ATTRIBUTES: &str = "acbcddaa";
/// one with a hard link,
const LINKED: &str = "4fb9c53e";
/// a base layer, and one in the middle of a stack.
const BASE: &str = "a432bc0d";
const MIDDLE: &str = "dfe6a52b";
/// An image with a tag, whose last layer nothing else needs.
const IMAGE: &str = "de78063c";
/// A container, and its writable layer.
const CONTAINER: (&str, &str) = ("ef49ace9", "6214fc05");

/// What happened to a store since it was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Built, not switched to.
    Staged,
    /// Switched to; the old store is kept.
    Kept,
    /// The old store is deleted.
    Cleaned,
    /// Docker has run.
    Ran,
}

use State::{Cleaned, Kept, Ran, Staged};

const ALL: &[State] = &[Staged, Kept, Cleaned, Ran];
/// Only the old store shows it.
const WITH_OLD: &[State] = &[Staged, Kept, Ran];

/// One damage.
struct Row {
    name: &'static str,
    /// What is changed.
    at: PathBuf,
    /// Changes it.
    change: Box<dyn Fn(&Path)>,
    /// What must be named: kind, the beginning of the id, the path.
    kind: &'static str,
    id: String,
    path: String,
    /// Level fast does not see it.
    full: bool,
}

/// A store on a driver.
struct Bed {
    store: Store,
    driver: &'static str,
    state: State,
}

impl Bed {
    fn new(driver: &'static str, state: State, base: Option<&Path>) -> Bed {
        let store = base.map_or_else(|| real::small().unpack(), |at| real::small().unpack_in(at));
        let mut args = vec!["migrate", "--to", driver, "--mode", "copy", "--yes", "--quiet"];
        if state == Staged {
            args.push("--no-switch");
        }
        store.unaufs(&args).exits(0);
        if state == Cleaned {
            store.unaufs(&["cleanup", "--yes", "--quiet"]).exits(0);
        }
        Bed { store, driver, state }
    }

    /// A path of the new store.
    fn new_path(&self, rel: &str) -> PathBuf {
        let stage = if self.state == Staged { ".unaufs/new" } else { "" };
        self.store.root.join(stage).join(rel)
    }

    fn old_path(&self, rel: &str) -> PathBuf {
        self.store.root.join(if self.state == Staged { "" } else { ".unaufs/old" }).join(rel)
    }

    fn home(&self) -> &'static str {
        match self.driver {
            "vfs" => "vfs/dir",
            "btrfs" => "btrfs/subvolumes",
            driver => driver,
        }
    }

    /// A layer's directory of the driver.
    fn layer(&self, layer: &str) -> PathBuf {
        let home = self.new_path(self.home());
        home.join(full(&home, layer))
    }

    /// A path in a layer's own tree.
    fn file(&self, layer: &str, path: &str) -> PathBuf {
        let dir = self.layer(layer);
        let tree = match self.driver {
            "overlay2" => "diff",
            "overlay" if dir.join("root").exists() => "root",
            "overlay" => "upper",
            _ => "",
        };
        dir.join(tree).join(path)
    }

    fn image(&self, rel: &str) -> PathBuf {
        self.new_path(&format!("image/{}", self.driver)).join(rel)
    }

    /// The directory of a layer in layerdb.
    fn record(&self, layer: &str) -> PathBuf {
        let id = self.layer(layer);
        let id = id.file_name().and_then(|n| n.to_str()).expect("an id").to_owned();
        let mut records = fs::read_dir(self.image("layerdb/sha256")).expect("layerdb").map(|e| e.expect("one").path());
        records.find(|r| fs::read_to_string(r.join("cache-id")).is_ok_and(|c| c == id)).expect("a record")
    }

    /// Writable layers other than [`CONTAINER`]'s, with their containers.
    fn others(&self) -> Vec<(String, String)> {
        let mounts = fs::read_dir(self.image("layerdb/mounts")).expect("mounts").map(|e| e.expect("one").path());
        let of = |m: PathBuf| {
            let id = m.file_name().and_then(|n| n.to_str()).expect("an id").to_owned();
            (id, fs::read_to_string(m.join("mount-id")).expect("mount-id"))
        };
        let mut out: Vec<_> = mounts.map(of).filter(|(id, _)| !id.starts_with(CONTAINER.0)).collect();
        out.sort();
        out
    }

    /// Exit code, differences, changes since.
    fn verify(&self, level: &str) -> (i32, Vec<Value>, String) {
        let ran = self.store.unaufs(&["verify", "--level", level, "--json", "--quiet"]);
        let doc: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.stderr));
        let differences = doc["differences"].as_array().unwrap_or_else(|| panic!("{}", ran.stdout)).clone();
        (ran.code, differences, ran.stdout)
    }

    fn untouched(&self) {
        for level in ["fast", "full"] {
            let (code, differences, _) = self.verify(level);
            assert_eq!(code, 0, "{} {:?} {level}: {differences:#?}", self.driver, self.state);
        }
    }
}

fn is(d: &Value, row: &Row) -> bool {
    let text = |key: &str| d[key].as_str().unwrap_or_default().to_owned();
    text("kind") == row.kind && text("id").starts_with(&row.id) && text("path") == row.path
}

/// May this difference come of the row? The same name may differ in the view of another layer, and what is below it.
fn of(d: &Value, row: &Row) -> bool {
    let path = d["path"].as_str().unwrap_or_default();
    let below = row.kind == "layer" && !row.path.is_empty() && path.starts_with(&format!("{}/", row.path));
    let viewed = row.kind == "layer" && !path.is_empty() && path == row.path;
    let record = row.name == "image gone from the records"
        && ["image", "tag", "metadata"].contains(&d["kind"].as_str().unwrap_or_default());
    // one of two names is a leader
    let pair = row.name == "two files made one" && path == "b/s/1";
    let digest = row.name == "a record changed" && (d["kind"] != "layer" || path.is_empty());
    is(d, row) || below || viewed || record || pair || digest
}

/// Damages a store in all ways, and wants all of them named. Returns how many.
fn convict(driver: &'static str, state: State, base: Option<&Path>) -> usize {
    let bed = Bed::new(driver, state, base);
    bed.untouched();
    let docker = (state == Ran).then(|| bed.others().last().expect("a container").1.clone());
    let runs = || {
        let Some(layer) = &docker else { return };
        std::thread::sleep(Duration::from_millis(20));
        let root = bed.file(layer, "");
        fs::write(root.join("by-docker"), "x").expect("written");
        fs::set_permissions(&root, fs::metadata(&root).expect("stat").permissions()).expect("chmod");
        if driver == "overlay2" {
            // for `docker save` it mounts a layer, and removes the mount point afterwards
            let merged = bed.layer(LINKED).join("merged");
            let _ = fs::create_dir(&merged);
            fs::remove_dir(merged).expect("removed");
        }
        // dockerd makes it again at each start
        let _ = fs::remove_dir(bed.store.root.join("tmp"));
        fs::create_dir(bed.store.root.join("tmp")).expect("mkdir");
    };
    runs();
    bed.untouched();
    let mut rows = image_rows(&bed);
    if WITH_OLD.contains(&state) {
        rows.extend(container_rows(&bed));
    }
    rows.extend(record_rows(&bed));
    for row in &rows {
        let before = describe(&row.at);
        (row.change)(&row.at);
        assert_ne!(before, describe(&row.at), "{driver} {state:?}: {} changes nothing", row.name);
    }
    if state == Ran {
        // what was changed until now was changed before the switch
        std::thread::sleep(Duration::from_millis(20));
        mode(0o700)(&bed.store.root.join(".unaufs/old"));
        runs();
    }
    for level in ["fast", "full"] {
        let (code, found, said) = bed.verify(level);
        assert_eq!(code, 6, "{driver} {state:?} {level}: {said}");
        for row in rows.iter().filter(|r| level == "full" || !r.full) {
            let named = found.iter().any(|d| is(d, row));
            assert!(named, "{driver} {state:?} {level}: {} ({} {}) is not named:\n{said}", row.name, row.id, row.path);
        }
        for d in &found {
            assert!(rows.iter().any(|row| of(d, row)), "{driver} {state:?} {level}: this was not done: {d}");
        }
    }
    rows.len()
}

/// overlay2 in each state; the others in one or two, in the long run in each too.
fn all_states(driver: &'static str, base: Option<&Path>) {
    let states = match driver {
        "overlay" if !needs::long() => &[Staged][..],
        "vfs" if !needs::long() => &[Cleaned],
        "btrfs" if !needs::long() => &[Ran],
        _ => ALL,
    };
    let rows: usize = states.iter().map(|state| convict(driver, *state, base)).sum();
    println!("{driver}: {rows} kinds of damage were found");
    assert!(rows >= 15 * states.len(), "{rows}");
}

#[test]
fn overlay2() {
    if real::able() {
        all_states("overlay2", None);
    }
}

#[test]
fn overlay() {
    if real::able() {
        all_states("overlay", None);
    }
}

#[test]
fn vfs() {
    if real::able() {
        all_states("vfs", None);
    }
}

#[test]
fn btrfs() {
    if !real::able() || !needs::programs(&["mkfs.btrfs"]) || private::elsewhere(this_test!()) {
        return;
    }
    let disk = Mounted::with_clones(&private::place(), "btrfs");
    all_states("btrfs", Some(&disk.at));
    // dockerd mounts the directory on itself while it runs
    let bed = Bed::new("btrfs", Kept, Some(&disk.at));
    let home = bed.store.root.join("btrfs");
    let bound = Mounted::over(&home, Some(&home));
    bed.untouched();
    drop(bound);
}

/// Linux 6.6 and later note on the root of an upper directory whose it was: `docker save` mounts the uppermost layer of an image so.
#[test]
fn the_mark_of_a_mount_is_no_damage() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    store.unaufs(&["migrate", "--yes", "-q"]).exits(0);
    let home = store.root.join("overlay2");
    let diff = home.join(full(&home, MIDDLE)).join("diff");
    xattr::set(&diff, "trusted.overlay.uuid", &[7; 16]).expect("set");
    for level in ["fast", "full"] {
        store.unaufs(&["verify", "--level", level, "-q"]).exits(0);
    }
    let below =
        fs::read_dir(&diff).expect("a directory").flatten().find(|e| e.path().is_dir()).expect("another").path();
    xattr::set(below, "trusted.overlay.uuid", &[7; 16]).expect("set");
    assert!(store.unaufs(&["verify", "--level", "fast", "-q"]).exits(6).stdout.contains("trusted.overlay.uuid"));
}

/// A store that was copied with the wrong tool: it moves unchanged, and the damage is named.
#[test]
fn damage_of_the_old_store_moves_as_it_is() {
    if !real::able() {
        return;
    }
    let lost = [
        ("whiteouts", vec!["-name", ".wh.*", "-prune"], "d/del1"),
        (
            "special files",
            vec![
                "(", "-type", "l", "-o", "-type", "p", "-o", "-type", "b", "-o", "-type", "c", ")", "!", "-path",
                "*-init/*",
            ],
            "lnk/fifo",
        ),
    ];
    for (what, test, path) in lost {
        for driver in ["overlay2", "vfs"] {
            let store = real::small().unpack();
            let diff = store.root.join("aufs/diff");
            let mut deletes = Command::new("find");
            deletes.arg(&diff).args(&test).args(["-exec", "rm", "-rf", "{}", "+"]);
            assert!(deletes.status().expect("find").success());
            // without effect there, and still damage
            let capability = [&[1, 0, 0, 2][..], &[0; 16]].concat();
            let group = diff.join(full(&diff, BASE)).join("etc/group");
            xattr::set(&group, "security.capability", &capability).expect("set");
            let said = store.unaufs(&["verify", "--driver", "aufs", "--level", "fast", "--quiet"]).exits(6).stdout;
            assert!(said.contains(&format!("/{path}: ")), "{what}: {said}");
            assert!(said.contains("/etc/group: it has security.capability"), "{what}: {said}");
            let before = tree(&diff);
            let ran =
                store.unaufs(&["migrate", "--to", driver, "--mode", "copy", "--yes", "--json", "--quiet"]).exits(3);
            let doc: Value = serde_json::from_str(&ran.stdout).expect("JSON");
            let damaged = doc["damaged"].as_array().expect("damaged");
            for path in [path, "etc/group"] {
                assert!(
                    damaged.iter().any(|d| d["path"] == path && d["side"] == "both"),
                    "{path} {driver}: {damaged:?}"
                );
            }
            same("the old store", &before, &tree(&store.root.join(".unaufs/old/aufs/diff")));
            let said = store.unaufs(&["verify", "--level", "fast", "--quiet"]).exits(6).stdout;
            assert!(said.contains("(in the old store too)"), "{what} {driver}: {said}");
        }
    }
}

/// A migration whose own result differs stops before the switch, whatever the old store is like.
#[test]
fn damage_of_the_new_store_is_not_switched_to() {
    if !real::able() {
        return;
    }
    let bed = Bed::new("overlay2", Staged, None);
    remove(&bed.file(SINGLE, "bin/sh"));
    let said = bed.store.unaufs(&["verify", "--level", "fast", "--quiet"]).exits(6).stdout;
    assert!(said.contains("/bin/sh: missing: the layer's tar has it (the old store is right)"), "{said}");
}

/// Few descriptors say nothing about a store.
#[test]
fn what_could_not_be_checked_is_no_difference() {
    if !real::able() {
        return;
    }
    let bed = Bed::new("overlay2", Kept, None);
    let before = tree(&bed.store.root.join("image"));
    let limited = Command::new("sh")
        .args(["-c", "ulimit -n 24; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_unaufs"), "--root"])
        .arg(&bed.store.root)
        .args(["verify", "--level", "fast", "--quiet"])
        .output()
        .expect("sh");
    let said = String::from_utf8_lossy(&limited.stdout).into_owned() + &String::from_utf8_lossy(&limited.stderr);
    assert_eq!(limited.status.code(), Some(1), "{said}");
    assert!(!said.contains("difference in") && said.contains("Too many open files"), "{said}");
    same("nothing was written", &before, &tree(&bed.store.root.join("image")));
}
