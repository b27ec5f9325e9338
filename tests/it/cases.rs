//! Roots as public reports describe them, each along the whole way: plan, migrate, verify, back, migrate again, cleanup.
//!
//! The reports are named at each case. What a kind of damage looks like in all its forms is in `roots`, `convicts` and `lifecycle`.

use crate::support::needs;
use crate::support::real::{self, Packed, Ran, Store, same, tree};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A state, and what must come of it.
struct Case {
    name: &'static str,
    packed: fn() -> Packed,
    /// Makes the state of the unpacked store.
    make: fn(&mut Store),
    to: &'static str,
    /// The new root, next to the old one.
    target: Option<&'static str>,
    /// What the plan says.
    plan: &'static [&'static str],
    /// How the migration ends, and what it says after its plan.
    migrate: (i32, &'static [&'static str]),
    /// How verify ends, with the old store and without it.
    verify: i32,
    /// Is every merged view as in the record of the store?
    whole: bool,
}

/// A case that moves as if nothing had happened.
const SOUND: Case = Case {
    name: "",
    packed: real::small,
    make: |_| {},
    to: "overlay2",
    target: None,
    plan: &[],
    migrate: (0, &["Verified"]),
    verify: 0,
    whole: true,
};

/// The directory of a container in `containers/`.
fn folder(root: &Path, name: &str) -> PathBuf {
    let wanted = format!("/{name}");
    let found = fs::read_dir(root.join("containers")).expect("containers").flatten().map(|e| e.path()).find(|c| {
        let text = fs::read(c.join("config.v2.json")).or_else(|_| fs::read(c.join("config.json"))).unwrap_or_default();
        serde_json::from_slice::<Value>(&text).is_ok_and(|v| v["Name"] == wanted)
    });
    found.unwrap_or_else(|| panic!("no container {name}"))
}

fn id(path: &Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).expect("a name")
}

fn empty(path: PathBuf) {
    assert!(path.is_file(), "{}", path.display());
    fs::write(path, "").expect("a file");
}

/// Deletes what `find` selects, and something.
fn delete(store: &Store, test: &[&str]) {
    let diff = store.root.join("aufs/diff");
    let before = tree(&diff).len();
    let mut find = Command::new("find");
    find.arg(&diff).args(test).args(["-exec", "rm", "-rf", "{}", "+"]);
    assert!(find.status().expect("find").success());
    assert!(tree(&diff).len() < before, "nothing was deleted");
}

const WHITEOUTS: [&str; 3] = ["-name", ".wh.*", "-prune"];
const SPECIAL: [&str; 24] = [
    "(", "-type", "l", "-o", "-type", "p", "-o", "-type", "b", "-o", "-type", "c", "-o", "-type", "f", "-size", "0",
    "!", "-name", ".wh*", ")", "!", "-path", "*-init/*",
];

/// Moved as it is, with what is missing named; overlay2 and vfs.
const LOST: Case = Case {
    migrate: (
        3,
        &[
            "DAMAGED",
            "in the old store. The new store has the same damage:",
            "To repair an image, pull or build it again.",
        ],
    ),
    verify: 6,
    whole: false,
    ..SOUND
};

fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "a list in aufs/layers is empty after a hard reset (moby#30563)",
            make: |s| {
                let mount = s.root.join("image/aufs/layerdb/mounts").join(id(&folder(&s.root, "c-twice")));
                let layer = fs::read_to_string(mount.join("mount-id")).expect("mount-id");
                empty(s.root.join("aufs/layers").join(layer));
            },
            plan: &["C05", "c-twice", "its list in aufs/layers is empty", "repaired with the layers of its image"],
            ..SOUND
        },
        Case {
            name: "the same in a root of Docker 1.9",
            packed: real::graph,
            make: |s| empty(s.root.join("aufs/layers").join(id(&folder(&s.root, "c-priv")))),
            plan: &["C05", "c-priv", "its list in aufs/layers is empty", "repaired with the layers of its image"],
            ..SOUND
        },
        Case {
            name: "hostconfig.json is empty (moby#32458)",
            make: |s| empty(folder(&s.root, "c-failed").join("hostconfig.json")),
            plan: &["C01", "c-failed", "its hostconfig.json: the file is empty", "12 of 13 containers"],
            migrate: (3, &["NOT MIGRATED (1)", "1 container can't be migrated (c-failed)"]),
            whole: false,
            ..SOUND
        },
        Case {
            name: "devicemapper/ of another life is beside aufs/ (moby#17389)",
            make: |s| {
                fs::create_dir_all(s.root.join("devicemapper/devicemapper")).expect("mkdir");
                fs::write(s.root.join("devicemapper/devicemapper/data"), "x").expect("a file");
            },
            plan: &["T11", "devicemapper", "storage-driver"],
            migrate: (0, &["doesn't start here"]),
            ..SOUND
        },
        Case {
            name: "volumes is a relative symlink, and the new root lies elsewhere (moby#39446)",
            make: |s| {
                let old = s.beside.join("a/docker");
                fs::create_dir_all(s.beside.join("a")).expect("mkdir");
                fs::create_dir_all(s.beside.join("b/c")).expect("mkdir");
                fs::rename(&s.root, &old).expect("a rename");
                fs::rename(old.join("volumes"), s.beside.join("a/vols")).expect("a rename");
                std::os::unix::fs::symlink("../vols", old.join("volumes")).expect("a symlink");
                s.root = old;
            },
            target: Some("b/c/docker"),
            ..SOUND
        },
        Case { name: "a copy lost all whiteouts", make: |s| delete(s, &WHITEOUTS), ..LOST },
        Case { name: "a copy lost all whiteouts, to vfs", make: |s| delete(s, &WHITEOUTS), to: "vfs", ..LOST },
        Case { name: "a copy lost symlinks, devices, pipes and empty files", make: |s| delete(s, &SPECIAL), ..LOST },
        Case { name: "the same, to vfs", make: |s| delete(s, &SPECIAL), to: "vfs", ..LOST },
        Case {
            name: "repositories.json is empty (moby#17411)",
            make: |s| empty(s.root.join("image/aufs/repositories.json")),
            plan: &["D10", "repositories.json: the file is empty", "Tags are lost"],
            migrate: (3, &["NOT MIGRATED (1)", "Tags are lost: repositories.json"]),
            whole: false,
            ..SOUND
        },
        Case {
            name: "the upgrade from 1.9 was killed (moby#20021)",
            packed: real::graph,
            make: |s| fs::write(folder(&s.root, "c-priv").join("config.v2.json"), "").expect("a file"),
            plan: &["C05", "c-priv", "its config.v2.json can't be read, its config.json can", "15 of 15 containers"],
            ..SOUND
        },
        Case {
            name: "a crash lost the init-id of a container",
            make: |s| {
                let c = folder(&s.root, "c-commit");
                fs::remove_file(s.root.join("image/aufs/layerdb/mounts").join(id(&c)).join("init-id")).expect("rm");
            },
            plan: &["C05", "doesn't name its init layer"],
            ..SOUND
        },
        Case {
            name: "a container of another driver, on whose hostconfig.json dockerd crashes",
            make: |s| {
                let c = folder(&s.root, "c-commit");
                let config = fs::read_to_string(c.join("config.v2.json")).expect("a configuration");
                let foreign = config.replace("\"Driver\":\"aufs\"", "\"Driver\":\"devicemapper\"");
                assert_ne!(config, foreign);
                fs::write(c.join("config.v2.json"), foreign).expect("a file");
                fs::write(c.join("hostconfig.json"), "null").expect("a file");
            },
            plan: &[
                "C01",
                "set aside with the old store",
                "12 of 12 containers",
                "container of another storage driver",
            ],
            whole: false,
            ..SOUND
        },
        Case {
            name: "files below aufs/mnt, written while nothing was mounted there (moby#12265)",
            make: |s| {
                let mut all: Vec<_> = fs::read_dir(s.root.join("aufs/mnt")).expect("mnt").flatten().collect();
                all.sort_by_key(|e| e.file_name());
                fs::create_dir_all(all[0].path().join("var/lib/db")).expect("mkdir");
                fs::write(all[0].path().join("var/lib/db/x"), "data").expect("a file");
            },
            plan: &["D13", "it contains files: var"],
            ..SOUND
        },
    ]
}

/// What a program printed, in one line, so that a text is found wherever it was wrapped.
fn flat(ran: &Ran) -> String {
    format!("{} {}", ran.stdout, ran.stderr).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn says(case: &Case, verb: &str, ran: &Ran, texts: &[&str]) {
    let said = flat(ran);
    for text in texts {
        assert!(said.contains(text), "{}: {verb} does not say \"{text}\":\n{}{}", case.name, ran.stdout, ran.stderr);
    }
}

/// The whole way of one case; without its second half in the short run, of four cases in five.
fn go(case: &Case, whole_way: bool) {
    let mut store = (case.packed)().unpack();
    (case.make)(&mut store);
    let new = case.target.map_or_else(|| store.root.clone(), |t| store.beside.join(t));
    let target = new.to_str().expect("text");
    let unaufs = |args: &[&str]| match case.target {
        Some(_) => real::unaufs(&store.root, &[&["--target", target], args].concat()),
        None => store.unaufs(args),
    };
    let before = tree(&store.root);
    says(case, "plan", &unaufs(&["plan", "--to", case.to]).exits(0), case.plan);
    let migrate = || unaufs(&["migrate", "--to", case.to, "--yes", "--progress", "none"]);
    let ran = migrate();
    assert_eq!(ran.code, case.migrate.0, "{}: {}{}", case.name, ran.stdout, ran.stderr);
    says(case, "migrate", &ran, case.migrate.1);
    let verify = |what: &str| {
        let ran = unaufs(&["verify", "-q"]);
        assert_eq!(ran.code, case.verify, "{}: verify, {what}: {}{}", case.name, ran.stdout, ran.stderr);
    };
    verify("with the old store");
    if case.whole {
        store.judged("views", &new, case.to);
    }
    unaufs(&["rollback", "--drop-new", "--yes", "-q"]).exits(0);
    same(case.name, &before, &tree(&store.root));
    if !whole_way {
        return;
    }
    assert_eq!(migrate().code, case.migrate.0, "{}: the second migration", case.name);
    // the old store is the only other copy: what is damaged is deleted only if the user says so
    let cleanup = unaufs(&["cleanup", "--yes"]);
    assert_eq!(cleanup.code, case.verify, "{}: {}{}", case.name, cleanup.stdout, cleanup.stderr);
    if case.verify != 0 {
        says(case, "cleanup", &cleanup, &["Nothing was deleted", "--skip-verify"]);
        unaufs(&["cleanup", "--yes", "--skip-verify"]).exits(0);
    }
    assert!(!store.root.join(".unaufs/old/aufs").exists() && !store.root.join("aufs").exists(), "{}", case.name);
    let again = real::unaufs(&new, &["verify", "-q"]);
    assert_eq!(again.code, case.verify, "{}: verify, alone: {}{}", case.name, again.stdout, again.stderr);
}

#[test]
fn the_whole_way() {
    if !real::able() {
        return;
    }
    let only = std::env::var("UNAUFS_CASE").unwrap_or_default();
    for (n, case) in cases().iter().enumerate().filter(|(_, c)| c.name.contains(&only)) {
        println!("{} ({})", case.name, case.to);
        go(case, needs::long() || !only.is_empty() || n % 10 == 0);
    }
}

/// What is lost is found in the old store itself, without a migration.
#[test]
fn what_a_copy_lost_is_found_in_the_old_store() {
    if !needs::root() {
        return;
    }
    for (what, test, named) in [
        ("whiteouts", &WHITEOUTS[..], "its whiteout is missing"),
        ("special files", &SPECIAL[..], "missing: the layer's tar has it"),
    ] {
        let store = real::small().unpack();
        store.unaufs(&["verify", "--driver", "aufs", "--level", "fast", "-q"]).exits(0);
        delete(&store, test);
        let ran = store.unaufs(&["verify", "--driver", "aufs", "--level", "fast", "-q"]).exits(6);
        assert!(ran.stdout.contains(named), "{what}: {}", ran.stdout);
    }
}

/// The records of layers say nothing about the files of a container: aufs/layers names its layers, and they are whole.
#[test]
fn a_rootfs_needs_no_records_of_layers() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let image = store.root.join("image/aufs");
    let mount = image.join("layerdb/mounts").join(id(&folder(&store.root, "c-commit")));
    let chain = fs::read_to_string(mount.join("parent")).expect("parent");
    let record = image.join("layerdb/sha256").join(chain.trim().trim_start_matches("sha256:"));
    let tar = store.beside.join("rootfs.tar");
    let to = tar.to_str().expect("text");
    let judge = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge/archives.py");
    let exported = |what: &str| {
        store.unaufs(&["export", "-q", "--container", "c-commit", "--format", "rootfs", "-o", to]).exits(0);
        let mut c = Command::new("/usr/bin/python3");
        c.arg(&judge).arg("rootfs").arg(&store.root).arg(&store.truth).arg(&tar).arg("c-commit");
        let ran = Ran::of(c.output().expect("python3"));
        assert_eq!(ran.code, 0, "{what}: {}{}", ran.stdout, ran.stderr);
        fs::remove_file(&tar).expect("rm");
    };
    exported("whole");
    for images in ["the images are there", "no image says what it was"] {
        for (file, text) in [("diff", ""), ("parent", ""), ("diff", "sha256:12"), ("cache-id", "")] {
            let path = record.join(file);
            let whole = fs::read(&path).expect("a record");
            fs::write(&path, text).expect("a record");
            exported(&format!("{file} is \"{text}\", {images}"));
            fs::write(&path, whole).expect("a record");
        }
        let away = store.beside.join("record");
        fs::rename(&record, &away).expect("mv");
        exported(&format!("no record, {images}"));
        fs::rename(&away, &record).expect("mv");
        // for the second round
        let content = image.join("imagedb/content/sha256");
        fs::remove_dir_all(&content).expect("rm");
        fs::create_dir(&content).expect("mkdir");
    }
}

/// A stop after the proof: what the proof found is told when the run continues, and counts.
#[test]
fn damage_is_told_by_the_run_that_continues() {
    if !needs::root() {
        return;
    }
    let migrate = ["migrate", "--yes", "--progress", "none", "--verify", "fast"];
    let store = real::small().unpack();
    delete(&store, &WHITEOUTS);
    store.unaufs(&[&migrate[..], &["--no-switch"]].concat()).exits(3);
    let ran = store.unaufs(&migrate).exits(3);
    assert!(ran.stdout.contains("DAMAGED"), "proved again: {}", ran.stdout);
    // the process ends after the last rename: the journal does not know yet that it was the last
    let journal = rusqlite::Connection::open(store.root.join(".unaufs/journal.db")).expect("the journal");
    assert_eq!(journal.execute("UPDATE run SET state = 'switching'", ()).expect("an update"), 1);
    journal.close().expect("closed");
    let ran = store.unaufs(&migrate).exits(3);
    let said = flat(&ran);
    assert!(
        said.contains("Verified damaged (") && said.contains("level fast). unaufs verify lists the differences."),
        "{said}"
    );
    store.unaufs(&["verify", "-q"]).exits(6);
}
