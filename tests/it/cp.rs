//! `unaufs cp` and `unaufs diff`: against a real Docker, out of hostile trees, and out of damaged roots.

use crate::support::mounts::Mounted;
use crate::support::needs;
use crate::support::private::{self, this_test};
use crate::support::real::{self, Ran, Store, same, tree};
use crate::support::stack::store::Containers;
use crate::support::stack::{store, text};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

// --- against a real Docker

/// Runs the judge of files on a copy, into which its dockerd may write.
fn judged(store: &Store, reads: &str, driver: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge/files.py");
    let copy = store.copy(&format!("for-{reads}-{driver}"));
    let mut judge = Command::new("/usr/bin/python3");
    judge.arg(script).arg(reads).arg(&copy).arg(driver).env("UNAUFS", env!("CARGO_BIN_EXE_unaufs"));
    let ran = Ran::of(judge.output().expect("the judge"));
    assert_eq!(ran.code, 0, "{} {reads} {driver}: the judge says:\n{}{}", store.name, ran.stdout, ran.stderr);
    eprintln!("{} {reads} {driver}: {}", store.name, ran.stdout.trim());
}

#[test]
fn every_container_has_the_changes_and_files_that_docker_shows() {
    if !real::able() {
        return;
    }
    for packed in real::all() {
        let store = packed.unpack();
        let before = tree(&store.root);
        for name in store.names() {
            store.unaufs(&["diff", &name]).exits(0);
        }
        same("diff writes nothing", &before, &tree(&store.root));
        let ran = store.unaufs(&["migrate", "--to", "overlay2", "--yes", "-q"]);
        assert!([0, 3].contains(&ran.code), "{ran:?}");
        judged(&store, "old", "overlay2");
        judged(&store, "new", "overlay2");
    }
}

#[test]
fn a_graph_store_has_the_changes_and_files_that_docker_shows() {
    if !needs::long() || !real::able() {
        return;
    }
    let store = real::graph().unpack();
    store.unaufs(&["migrate", "--to", "overlay2", "--yes", "-q"]).exits(0);
    judged(&store, "old", "overlay2");
}

/// The drivers that keep whole trees: the same changes, found by comparing trees, but for files that were written and have the same size and time.
#[test]
fn every_driver_shows_the_same_files() {
    if !real::able() || !needs::programs(&["mkfs.btrfs"]) || private::elsewhere(this_test!()) {
        return;
    }
    let home = real::folder();
    let btrfs = Mounted::with_clones(home.path(), "btrfs");
    for driver in ["overlay2", "overlay", "vfs", "btrfs"] {
        let store = if driver == "btrfs" { real::small().unpack_in(&btrfs.at) } else { real::small().unpack() };
        store.unaufs(&["migrate", "--to", driver, "--yes", "--verify", "none", "-q"]).exits(0);
        for name in store.names() {
            let [old, new] =
                ["aufs", driver].map(|d| store.unaufs(&["diff", "--driver", d, "-s", &name]).exits(0).stdout);
            // an overlay file system holds no device 0:0
            let device = |l: &&str| l.ends_with("/czero") || l.ends_with("/whlike");
            let new: Vec<&str> = new.lines().collect();
            let lost: Vec<&str> = old.lines().filter(|l| !new.contains(l)).filter(|l| !device(l)).collect();
            let unchanged = |l: &&str| driver != "overlay2" && l.starts_with('C');
            assert!(lost.iter().all(unchanged), "{driver} {name}: only in the old store: {lost:?}");
            let gained: Vec<&&str> = new.iter().filter(|l| !old.lines().any(|o| o == **l)).collect();
            assert!(gained.is_empty(), "{driver} {name}: only in the new store: {gained:?}");
        }
    }
}

impl Store {
    /// The names of its containers.
    fn names(&self) -> Vec<String> {
        let text = fs::read_to_string(self.truth.join("truth.json")).expect("truth.json");
        let truth: serde_json::Value = serde_json::from_str(&text).expect("truth.json");
        let all = truth["containers"].as_array().expect("containers").iter();
        all.map(|c| c["name"].as_str().expect("a name").to_owned()).filter(|n| n != "c-dead").collect()
    }
}

// --- small roots

/// A root of two layers and a container `b` on them, and room for copies with a canary.
struct World {
    top: TempDir,
    root: PathBuf,
}

const STACK: &str = "
layer
d etc mode=0750
f etc/passwd =root
f etc/old =old
f lib/data/one =one owner=5:6 mode=4755
h lib/data/two -> lib/data/one
f lib/hidden/x =x
layer
f mid/only =mid
w etc/old
layer
d etc mode=0751
f etc/own =mine x:user.note=yes time=1000.500000000
f etc/passwd =changed
w lib/hidden
s run -> /etc
s up -> ../../../../etc/passwd
";

impl World {
    fn new(stack: &str) -> World {
        let top = real::folder();
        let root = top.path().join("root");
        fs::create_dir_all(&root).expect("a folder");
        store::write(&text::parse(stack), &root, Containers::All);
        fs::create_dir(top.path().join("canary")).expect("a folder");
        fs::write(top.path().join("canary/secret"), "the canary's secret").expect("a file");
        fs::create_dir(top.path().join("dest")).expect("a folder");
        World { root, top }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.top.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        self.at(path).to_str().expect("text").to_owned()
    }

    fn run(&self, args: &[&str]) -> Ran {
        real::unaufs(&self.root, &[&["--progress", "none"], args].concat())
    }

    fn cp(&self, from: &str, to: &str, more: &[&str]) -> Ran {
        self.run(&[&["cp", from, &self.text(to)], more].concat())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// The directories in `aufs/diff` that hold a path.
    fn layers_with(&self, path: &str) -> Vec<PathBuf> {
        let layers = fs::read_dir(self.root.join("aufs/diff")).expect("layers").flatten().map(|e| e.path());
        let found: Vec<PathBuf> = layers.filter(|l| l.join(path).symlink_metadata().is_ok()).collect();
        assert!(!found.is_empty(), "no layer holds {path}");
        found
    }
}

/// `docker cp`'s table of sources and destinations.
#[test]
fn names_at_the_destination_are_as_for_docker_cp() {
    if !needs::root() {
        return;
    }
    let w = World::new(STACK);
    w.cp("b:/etc/passwd", "dest", &[]).exits(0);
    w.cp("b:etc/passwd", "dest/renamed", &[]).exits(0);
    w.cp("b:/lib/data", "dest", &[]).exits(0);
    w.cp("b:/lib/data", "dest/absent", &[]).exits(0);
    w.cp("b:/lib/data/", "dest/slash", &[]).exits(0);
    fs::create_dir(w.at("dest/contents")).expect("a folder");
    w.cp("b:/lib/data/.", "dest/contents", &[]).exits(0);
    w.cp("b:/run", "dest", &[]).exits(0);
    w.cp("b:/run/", "dest/followed", &[]).exits(0);
    w.cp("b:/up", "dest", &["-L"]).exits(0);
    w.cp("b:/run/own", "dest/through", &[]).exits(0);
    for (path, content) in [
        ("passwd", "changed"),
        ("renamed", "changed"),
        ("data/one", "one"),
        ("absent/two", "one"),
        ("slash/one", "one"),
        ("contents/one", "one"),
        ("followed/own", "mine"),
        ("up", "changed"),
        ("through", "mine"),
    ] {
        assert_eq!(w.read(&format!("dest/{path}")), content, "{path}");
    }
    assert_eq!(fs::read_link(w.at("dest/run")).expect("a link"), Path::new("/etc"));
    assert!(!w.at("dest/followed/old").exists(), "a whiteout");
    let ino = |p: &str| fs::metadata(w.at(p)).expect("stat").ino();
    assert_eq!(ino("dest/data/one"), ino("dest/data/two"), "hard links");
    for (from, to, says) in [
        ("b:/etc/passwd", "dest/no/", "no directory"),
        ("b:/etc/passwd", "nowhere/x", "Make its directory"),
        ("b:/lib", "dest/renamed", "can't be copied to a file"),
        ("b", "dest", "NAME:PATH"),
        ("b:", "dest", "NAME:PATH"),
        (":/etc", "dest", "NAME:PATH"),
        ("*:/etc", "dest", "more than one"),
        ("nobody:/etc", "dest", "no container"),
    ] {
        let ran = w.cp(from, to, &[]).exits(2);
        assert!(ran.stderr.contains(says), "{from} {to}: {ran:?}");
    }
    for (from, says) in [("b:/nothing", "no such"), ("b:/etc/old", "no such"), ("b:/etc/own/", "not a directory")] {
        let ran = w.cp(from, "dest", &[]).exits(1);
        assert!(ran.stderr.contains(says), "{from}: {ran:?}");
    }
    // inside ROOT
    let ran = w.run(&["cp", "b:/etc", w.root.to_str().expect("text")]).exits(2);
    assert!(ran.stderr.contains("inside the data root"), "{ran:?}");
    // an image, which has no changes of the container
    w.run(&["cp", "--image", "test", "/etc/own", &w.text("dest/image")]).exits(0);
    w.run(&["cp", "--image", "test:latest", "/etc/passwd", &w.text("dest/image2")]).exits(0);
}

#[test]
fn metadata_are_the_containers_and_owners_only_with_archive() {
    if !needs::root() {
        return;
    }
    let w = World::new(STACK);
    w.cp("b:/etc", "dest", &[]).exits(0);
    let m = fs::metadata(w.at("dest/etc/own")).expect("stat");
    assert_eq!((m.mtime(), m.mtime_nsec()), (1000, 500_000_000));
    assert_eq!(xattr::get(w.at("dest/etc/own"), "user.note").expect("an attribute"), Some(b"yes".to_vec()));
    assert_eq!(fs::metadata(w.at("dest/etc")).expect("stat").permissions().mode() & 0o7777, 0o751);
    w.cp("b:/lib/data", "dest/mine", &[]).exits(0);
    w.cp("b:/lib/data", "dest/theirs", &["-a"]).exits(0);
    let owner = |p: &str| {
        let m = fs::metadata(w.at(p)).expect("stat");
        (m.uid(), m.gid(), m.mode() & 0o7777)
    };
    // another user's setuid program does not become the caller's
    assert_eq!(owner("dest/mine/one"), (0, 0, 0o755));
    assert_eq!(owner("dest/theirs/one"), (5, 6, 0o4755));
}

#[test]
fn nothing_is_replaced_without_force() {
    if !needs::root() {
        return;
    }
    let w = World::new(STACK);
    fs::create_dir_all(w.at("dest/etc")).expect("a folder");
    for (file, text) in [("dest/passwd", "host"), ("dest/etc/own", "host"), ("dest/etc/mine", "host")] {
        fs::write(w.at(file), text).expect("a file");
    }
    symlink("../canary", w.at("dest/data")).expect("a symlink");
    let before = tree(&w.at("dest"));
    for from in ["b:/etc/passwd", "b:/etc", "b:/.", "b:/lib/data"] {
        let ran = w.cp(from, "dest", &[]).exits(2);
        assert!(ran.stderr.contains("exists") && ran.stderr.contains("--force"), "{ran:?}");
        same("DEST", &before, &tree(&w.at("dest")));
    }
    w.cp("b:/etc/passwd", "dest", &["--force"]).exits(0);
    w.cp("b:/etc", "dest", &["-f"]).exits(0);
    assert_eq!((w.read("dest/passwd"), w.read("dest/etc/own"), w.read("dest/etc/mine")).0, "changed");
    assert_eq!((w.read("dest/etc/own"), w.read("dest/etc/mine")), ("mine".to_owned(), "host".to_owned()));
    // a symlink where a directory would be is not followed
    let canary = tree(&w.at("canary"));
    let ran = w.cp("b:/lib/data", "dest", &["--force"]).exits(3);
    assert!(ran.stdout.contains("isn't a directory"), "{ran:?}");
    same("the canary", &canary, &tree(&w.at("canary")));
    assert!(
        fs::read_dir(w.at("dest"))
            .expect("dest")
            .flatten()
            .all(|e| !e.file_name().to_string_lossy().contains("partial"))
    );
}

/// A tree with a directory where ROOT is, copied to the directory that holds ROOT.
#[test]
fn nothing_is_written_into_root() {
    if !needs::root() {
        return;
    }
    let w = World::new(&format!("{STACK}\nf root/aufs/new =new\nf root/volumes/x =x\nf zz =last\n"));
    let before = tree(&w.root);
    for flag in ["--force", "-af"] {
        let ran = w.cp("b:/.", ".", &[flag]).exits(2);
        assert!(ran.stderr.contains("is ROOT, and nothing is written into it"), "{ran:?}");
        same("ROOT", &before, &tree(&w.root));
    }
}

#[test]
fn a_hostile_tree_stays_below_the_destination() {
    if !needs::root() {
        return;
    }
    let deep = (0..300).map(|i| format!("d{i}")).collect::<Vec<_>>().join("/");
    let stack = format!(
        "
layer
f dir/file =lower
f here =x
layer
f base =b
layer
s out -> ../../../../canary
s abs -> /canary
s dir -> ../../../canary
s loop -> loop
s dangling -> /nowhere
c null 1:3
b disk 8:0
p pipe
k sock
h sock2 -> sock
f {deep}/bottom =bottom
f new\\x0aline =n
f \\xff\\xfe =bytes
f ..x =dots
f -rf =dash
"
    );
    let w = World::new(&stack);
    fs::create_dir(w.at("dest/canary")).expect("a folder");
    let canary = tree(&w.at("canary"));
    let ran = w.cp("b:/", "dest/all", &["-a"]).exits(0);
    same("the canary", &canary, &tree(&w.at("canary")));
    assert!(!ran.stdout.contains("\x1b"), "{ran:?}");
    let all = w.at("dest/all");
    assert_eq!(fs::read_link(all.join("dir")).expect("a link"), Path::new("../../../canary"));
    assert_eq!(fs::read(all.join(OsStr::from_bytes(b"\xff\xfe"))).expect("bytes"), b"bytes");
    assert_eq!(fs::read_to_string(all.join("new\nline")).expect("a file"), "n");
    assert_eq!(fs::metadata(all.join("null")).expect("stat").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(fs::read_to_string(all.join(&deep).join("bottom")).expect("300 levels"), "bottom");
    for name in ["pipe", "sock", "disk", "..x", "-rf"] {
        assert!(all.join(name).symlink_metadata().is_ok(), "{name}");
    }
    // paths through its links end in the container
    for from in ["b:/out/secret", "b:/abs/secret", "b:/dir/file", "b:/loop/x", "b:/../../canary/secret", "b:/dangling/"]
    {
        let ran = w.cp(from, "dest/stolen", &["-L"]).exits(1);
        assert!(!w.at("dest/stolen").exists(), "{from}: {ran:?}");
    }
    w.cp("b:/pipe", "dest", &[]).exits(0);
    // the same as a tar, which holds no sockets
    let tar = tar(&w, "b:/");
    assert_eq!(tar.code, 0, "{}", tar.stderr);
    assert!(tar.stderr.contains("2 sockets left out") && tar.stdout.contains("bottom"), "{}", tar.stderr);
}

/// What GNU tar lists of what `cp FROM -` writes; the exit code and stderr are those of `cp`.
fn tar(w: &World, from: &str) -> Ran {
    let script = "\"$0\" --root \"$1\" --progress none cp \"$2\" - >\"$3\"; code=$?; tar -tf \"$3\"; exit $code";
    let mut c = Command::new("sh");
    c.args(["-c", script, env!("CARGO_BIN_EXE_unaufs")]).arg(&w.root).arg(from).arg(w.at("dest.tar"));
    Ran::of(c.output().expect("sh"))
}

#[test]
fn changes_are_listed_as_docker_diff_does() {
    if !needs::root() {
        return;
    }
    let w = World::new(STACK);
    // the layer's root and lib/ have times of their own, as whatever was written there would give them
    let ran = w.run(&["diff", "b"]).exits(0);
    assert_eq!(ran.stdout, "C /etc\nA /etc/own\nC /etc/passwd\nC /lib\nD /lib/hidden\nA /run\nA /up\n");
    let sized = w.run(&["diff", "-s", "b"]).exits(0);
    assert!(sized.stdout.contains("A        4 B /etc/own\n"), "{sized:?}");
    assert!(sized.stderr.contains("7 changes, 11 B"), "{sized:?}");
    let json = w.run(&["diff", "--json", "b"]).exits(0);
    let doc: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((doc["schema"].as_str(), doc["name"].as_str()), (Some("unaufs.diff/1"), Some("b")));
    assert_eq!(doc["changes"][1], serde_json::json!({"kind": "A", "path": "/etc/own", "size": 4}));
}

#[test]
fn files_in_a_volume_come_from_the_volume() {
    if !needs::root() {
        return;
    }
    let w = World::new(STACK);
    let config = fs::read_dir(w.root.join("containers")).expect("containers").flatten().map(|e| e.path());
    for config in config.map(|c| c.join("config.v2.json")) {
        let mut doc: serde_json::Value = serde_json::from_slice(&fs::read(&config).expect("a config")).expect("JSON");
        doc["MountPoints"] = serde_json::json!({
            "/lib/data": {"Name": "v1", "Source": "/var/lib/docker/volumes/v1/_data", "Destination": "/lib/data"},
            "/mnt": {"Name": "", "Source": "/srv/x", "Destination": "/mnt"},
            "/run/vol": {"Name": "v1", "Source": "/var/lib/docker/volumes/v1/_data", "Destination": "/run/vol"},
        });
        fs::write(config, doc.to_string()).expect("a config");
    }
    let data = w.root.join("volumes/v1/_data");
    fs::create_dir_all(data.join("deep")).expect("a volume");
    fs::write(data.join("deep/f"), "in the volume").expect("a file");
    w.layers_with("etc/own").iter().for_each(|l| symlink("/lib", l.join("link")).expect("a symlink"));
    w.cp("b:/lib/data", "dest", &[]).exits(0);
    w.cp("b:/link/data/deep/f", "dest", &[]).exits(0);
    assert_eq!(
        (w.read("dest/data/deep/f"), w.read("dest/f")),
        ("in the volume".to_owned(), "in the volume".to_owned())
    );
    assert!(!w.at("dest/data/one").exists(), "the layers' own files are below the volume");
    // the image's /run leads to /etc, and so did Docker's mount
    for (from, to) in [("b:/run/vol/deep/f", "dest/by-link"), ("b:/etc/vol/deep/f", "dest/by-name")] {
        w.cp(from, to, &[]).exits(0);
        assert_eq!(w.read(to), "in the volume", "{from}");
    }
    let ran = w.cp("b:/etc", "dest", &[]).exits(0);
    assert!(ran.stdout.contains("/etc/vol is the volume v1"), "{ran:?}");
    let ran = w.cp("b:/lib", "dest", &[]).exits(0);
    assert!(ran.stdout.contains("/lib/data is the volume v1"), "{ran:?}");
    let ran = w.cp("b:/mnt/x", "dest", &[]).exits(1);
    assert!(ran.stderr.contains("/srv/x"), "{ran:?}");
}

// --- damaged roots

#[test]
fn a_missing_layer_costs_what_only_it_held() {
    if !needs::root() {
        return;
    }
    let w = World::new(STACK);
    w.layers_with("mid/only").iter().for_each(|l| fs::remove_dir_all(l).expect("removed"));
    let ran = w.cp("b:/etc", "dest", &[]).exits(3);
    assert_eq!((w.read("dest/etc/own"), w.read("dest/etc/passwd")), ("mine".to_owned(), "changed".to_owned()));
    assert!(ran.stdout.contains("missing: ") && ran.stdout.contains("is missing"), "{ran:?}");
    let ran = w.run(&["diff", "b"]).exits(3);
    assert!(ran.stdout.contains("A /etc/own") && ran.stderr.contains("missing: "), "{ran:?}");
    // what was in it is gone, and the answer says why
    let ran = w.cp("b:/mid/only", "dest", &[]).exits(1);
    assert!(ran.stderr.contains("no such") && ran.stderr.contains("is missing"), "{ran:?}");
    let out = tar(&w, "b:/etc");
    assert_eq!(out.code, 3, "{}", out.stderr);
    assert!(out.stdout.contains("etc/own") && out.stderr.contains("missing: "), "{}", out.stderr);
}

#[test]
fn a_container_that_was_not_migrated_is_read_from_the_old_store() {
    if !needs::root() {
        return;
    }
    let w = World::new(STACK);
    let data = w.root.join("volumes/v1/_data");
    fs::create_dir_all(&data).expect("a volume");
    fs::write(data.join("f"), "in the volume").expect("a file");
    for dir in fs::read_dir(w.root.join("containers")).expect("containers").flatten().map(|e| e.path()) {
        let config = dir.join("config.v2.json");
        let mut doc: serde_json::Value = serde_json::from_slice(&fs::read(&config).expect("a config")).expect("JSON");
        doc["MountPoints"] = serde_json::json!({"/lib/data": {"Name": "v1", "Destination": "/lib/data"}});
        fs::write(config, doc.to_string()).expect("a config");
        if doc["Name"] == "/b" {
            fs::write(dir.join("hostconfig.json"), "{").expect("damage");
        }
    }
    let ran = w.run(&["migrate", "--yes", "--progress", "none"]).exits(3);
    assert!(ran.stdout.contains("unaufs cp --driver aufs NAME:/PATH ."), "{}", ran.stdout);
    for args in [&["cp", "b:/etc/own", "/nowhere"][..], &["diff", "b"]] {
        let ran = w.run(args);
        assert_ne!(ran.code, 0, "{args:?}");
        assert!(ran.stderr.contains("Add --driver aufs"), "{args:?}: {}", ran.stderr);
    }
    w.cp("b:/etc/own", "dest", &["--driver", "aufs"]).exits(0);
    w.cp("b:/lib/data/f", "dest", &["--driver", "aufs"]).exits(0);
    assert_eq!((w.read("dest/own"), w.read("dest/f")), ("mine".to_owned(), "in the volume".to_owned()));
    let ran = w.run(&["diff", "b", "--driver", "aufs"]).exits(0);
    assert!(ran.stdout.contains("A /etc/own"), "{ran:?}");
}

#[test]
fn empty_lists_and_lost_records_are_made_up_for() {
    if !needs::root() {
        return;
    }
    let whole = |w: &World, what: &str| {
        let ran = w.cp("b:/", "dest/all", &[]);
        assert!([0, 3].contains(&ran.code), "{what}: {ran:?}");
        assert_eq!(w.read("dest/all/mid/only"), "mid", "{what}");
        assert_eq!(w.read("dest/all/etc/own"), "mine", "{what}");
        assert_eq!(w.read("dest/all/lib/data/one"), "one", "{what}");
    };
    let w = World::new(STACK);
    for list in fs::read_dir(w.root.join("aufs/layers")).expect("lists").flatten() {
        fs::write(list.path(), "").expect("an empty list");
    }
    whole(&w, "empty aufs/layers");

    let w = World::new(STACK);
    fs::remove_dir_all(w.root.join("aufs/layers")).expect("removed");
    whole(&w, "no aufs/layers");

    let w = World::new(STACK);
    for record in fs::read_dir(w.root.join("image/aufs/layerdb/sha256")).expect("records").flatten() {
        fs::write(record.path().join("parent"), "").expect("an empty parent");
    }
    whole(&w, "layerdb without parents");

    let w = World::new(STACK);
    fs::remove_dir_all(w.root.join("image/aufs/imagedb")).expect("removed");
    whole(&w, "no images");
}

#[test]
fn an_unreadable_file_is_named_and_the_rest_is_copied() {
    if !needs::root_and(&["setpriv"]) {
        return;
    }
    let w = World::new(STACK);
    let file = w.layers_with("lib/data/one").remove(0).join("lib/kept");
    fs::create_dir_all(&file).expect("a folder");
    for (name, owner) in [("locked", 7), ("open", 0)] {
        fs::write(file.join(name), name).expect("a file");
        fs::set_permissions(file.join(name), fs::Permissions::from_mode(0o600)).expect("a mode");
        std::os::unix::fs::chown(file.join(name), Some(owner), None).expect("an owner");
    }
    let without = |to: &str| {
        let script = "exec setpriv --bounding-set -dac_override,-dac_read_search --inh-caps -dac_override,-dac_read_search \
                      \"$0\" --root \"$1\" --progress none cp b:/lib/kept \"$2\"";
        let mut c = Command::new("sh");
        c.args(["-c", script, env!("CARGO_BIN_EXE_unaufs")]).arg(&w.root).arg(to);
        Ran::of(c.output().expect("sh"))
    };
    let ran = without(&w.text("dest")).exits(3);
    assert_eq!(w.read("dest/kept/open"), "open");
    assert!(ran.stdout.contains("not copied: /lib/kept/locked"), "{ran:?}");
    assert!(!w.at("dest/kept/locked").exists(), "half a file");
    let ran = without("-").exits(3);
    assert!(ran.stderr.contains("not copied: /lib/kept/locked"), "{}", ran.stderr);
}

/// The aufs driver of Docker up to 1.9: a middle layer is gone, then the list of layers is empty too.
#[test]
fn a_damaged_graph_store_gives_what_is_left() {
    if !real::able() {
        return;
    }
    let store = real::graph().unpack();
    let container = |name: &str| {
        let containers = fs::read_dir(store.root.join("containers")).expect("containers").flatten();
        let id = containers.map(|e| e.file_name().into_string().expect("an id")).find(|id| {
            let config = store.root.join("containers").join(id).join("config.json");
            fs::read_to_string(config).is_ok_and(|c| c.contains(&format!("\"Name\":\"/{name}\"")))
        });
        id.expect("a container of that name")
    };
    let list = store.root.join("aufs/layers").join(container("c-changes"));
    let layers = fs::read_to_string(&list).expect("a list");
    // neither the init layer, nor the image's topmost one, nor its base
    let middle = layers.lines().nth(2).expect("a middle layer");
    let whole = store.unaufs(&["diff", "c-changes"]).exits(0).stdout;
    fs::remove_dir_all(store.root.join("aufs/diff").join(middle)).expect("removed");
    let to = store.beside.join("copied");
    let copy = |name: &str| store.unaufs(&["cp", "-q", "c-changes:/", to.join(name).to_str().expect("text")]).exits(3);
    fs::create_dir(&to).expect("a folder");
    let said = copy("one");
    assert!(said.stdout.contains(&format!("aufs/diff/{} is missing", &middle[..12])), "{said:?}");
    let left = store.unaufs(&["diff", "c-changes"]).exits(3);
    let added = |text: &str| text.lines().filter(|l| l.starts_with('A')).map(str::to_owned).collect::<Vec<_>>();
    assert!(added(&whole).iter().all(|l| left.stdout.lines().any(|m| m == l)), "{whole}{}", left.stdout);
    fs::write(&list, "").expect("an empty list");
    copy("two");
    same("an empty list", &tree(&to.join("one")), &tree(&to.join("two")));
}

#[test]
fn a_missing_layer_of_overlay2_costs_what_only_it_held() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    store.unaufs(&["migrate", "--to", "overlay2", "--yes", "--verify", "none", "-q"]).exits(0);
    let containers = fs::read_dir(store.root.join("containers")).expect("containers").flatten();
    let id = containers
        .map(|e| e.path())
        .find(|c| fs::read_to_string(c.join("config.v2.json")).is_ok_and(|c| c.contains("\"Name\":\"/c-changes\"")));
    let mounts =
        store.root.join("image/overlay2/layerdb/mounts").join(id.expect("c-changes").file_name().expect("an id"));
    let own = fs::read_to_string(mounts.join("mount-id")).expect("mount-id");
    let lower = fs::read_to_string(store.root.join("overlay2").join(own).join("lower")).expect("lower");
    let base = lower.rsplit(':').next().expect("a base layer");
    let base = fs::canonicalize(store.root.join("overlay2").join(base)).expect("a layer");
    fs::remove_dir_all(base).expect("removed");
    let ran = store.unaufs(&["cp", "c-changes:/aa", store.beside.join("aa").to_str().expect("text")]).exits(3);
    assert!(store.beside.join("aa/c").exists() && ran.stdout.contains("missing: image layer"), "{ran:?}");
    let ran = store.unaufs(&["diff", "c-changes"]).exits(3);
    assert!(ran.stdout.contains("A /aa/c\n"), "{ran:?}");
}

/// A Docker with userns-remap keeps files with the host's numbers of its users.
#[test]
fn owners_are_those_that_the_container_saw() {
    if !needs::root() {
        return;
    }
    fn shift(path: &Path) {
        let m = fs::symlink_metadata(path).expect("lstat");
        if m.uid() >= 100_000 {
            // by another of its names
            return;
        }
        std::os::unix::fs::lchown(path, Some(m.uid() + 100_000), Some(m.gid() + 200_000)).expect("chown");
        // chown takes the setuid bit
        if !m.is_symlink() {
            fs::set_permissions(path, m.permissions()).expect("a mode");
        }
        if m.is_dir() {
            fs::read_dir(path).expect("a folder").flatten().for_each(|e| shift(&e.path()));
        }
    }
    let w = World::new(STACK);
    fs::read_dir(w.root.join("aufs/diff")).expect("layers").flatten().for_each(|e| shift(&e.path()));
    w.cp("b:/lib/data", "dest", &["-a"]).exits(0);
    w.cp("b:/lib/data", "dest/mine", &[]).exits(0);
    let owner = |p: &str| {
        let m = fs::metadata(w.at(p)).expect("stat");
        (m.uid(), m.gid(), m.mode() & 0o7777)
    };
    assert_eq!((owner("dest/data"), owner("dest/data/one")), ((0, 0, 0o755), (5, 6, 0o4755)));
    assert_eq!(owner("dest/mine/one"), (0, 0, 0o755));
}
