//! Stores with every kind of damage and leftover, and roots that must not be touched at all.

use crate::support::needs;
use crate::support::real::{self, Ran, Store, same, tree, unaufs};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// In the long run more than ext4 allows names of one file.
fn whiteouts() -> usize {
    if needs::long() { 70_000 } else { 7_000 }
}

/// More than a double can hold: Docker writes such numbers, and a careless reader rounds them.
const BIG: &str = "9007199254740993";

/// What was done to the store, by name.
struct Damaged {
    store: Store,
    /// The image layer whose directory is gone.
    missing: String,
    /// Image ids that are based on it, and names of their containers.
    lost_images: BTreeSet<String>,
    lost_containers: BTreeSet<String>,
    /// The container whose layers were changed.
    changed: Mount,
    big: PathBuf,
    empty: String,
    bare: String,
    foreign: String,
    orphan: String,
}

/// A container's layers.
struct Mount {
    container: String,
    layer: String,
    init: String,
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

fn mount(root: &Path, container: &str) -> Mount {
    let dir = root.join("image/aufs/layerdb/mounts").join(container);
    Mount { container: container.to_owned(), layer: text(&dir.join("mount-id")), init: text(&dir.join("init-id")) }
}

fn write(path: PathBuf, content: &str) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a folder");
    }
    fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// The lines of `aufs/layers/<id>`: the layers below, nearest first.
fn below(root: &Path, layer: &str) -> Vec<String> {
    text(&root.join("aufs/layers").join(layer)).lines().map(str::to_owned).collect()
}

/// layerdb's directory of the chain whose cache id this is.
fn chain_of(root: &Path, layer: &str) -> PathBuf {
    let chains = fs::read_dir(root.join("image/aufs/layerdb/sha256")).expect("layerdb");
    let mut found = chains.flatten().map(|c| c.path()).filter(|c| text(&c.join("cache-id")) == layer);
    found.next().expect("the layer's chain")
}

fn damage() -> Damaged {
    let store = real::small().unpack();
    let root = store.root.clone();
    let truth: Value = serde_json::from_str(&text(&store.truth.join("truth.json"))).expect("truth.json");
    let containers = truth["containers"].as_array().expect("containers");
    let by_name = |name: &str| -> String {
        let c = containers.iter().find(|c| c["name"] == name).expect("the container");
        c["id"].as_str().expect("its id").to_owned()
    };
    let changed = mount(&root, &by_name("c-changes"));
    let diff = root.join("aufs/diff");

    // a middle layer goes: one that has layers above and below it and is not under the container that is changed here
    let keep: BTreeSet<String> = below(&root, &changed.layer).into_iter().collect();
    let missing = missing_layer(&root, containers, &keep);
    let chain = chain_of(&root, &missing);
    let diff_id = text(&chain.join("diff"));
    fs::remove_dir_all(diff.join(&missing)).expect("remove a layer");
    let position = below(&root, &missing).len();
    let stands_on_it =
        |i: &&Value| i["diffids"][position] == diff_id.as_str() && chain_matches(&root, i, position, &chain);
    let lost_images: BTreeSet<String> = truth["images"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(stands_on_it)
        .map(|i| i["id"].as_str().expect("id").to_owned())
        .collect();
    let lost_containers = containers
        .iter()
        .filter(|c| lost_images.contains(c["image"].as_str().unwrap_or_default()))
        .map(|c| c["name"].as_str().expect("name").to_owned())
        .collect();

    // what aufs left in layers (FORMATS 1.4)
    let base = below(&root, &changed.layer).pop().expect("a base layer");
    for top in [&diff.join(&base), &diff.join(&changed.layer)] {
        let modified = fs::metadata(top).and_then(|m| m.modified()).expect("a time");
        write(top.join(".wh..wh.plnk/1234.5678"), "a pseudo-link");
        write(top.join(".wh..wh.orph/0123abcd"), "an orphan");
        write(top.join(".wh..wh.some-folder.0a1b/in/here"), "a folder that was being removed");
        fs::File::open(top).and_then(|f| f.set_modified(modified)).expect("set the time back");
    }
    write(diff.join(format!("{}-removing/left/over", "1".repeat(64))), "cut off");
    let orphan = "2".repeat(64);
    write(diff.join(&orphan).join("of/nobody"), "orphan");

    // in the container's own layer: a whiteout next to the name, and very many whiteouts of what its init layer holds
    write(diff.join(&changed.layer).join("beside/foo"), "shown");
    write(diff.join(&changed.layer).join("beside/.wh.foo"), "");
    let (shown, hidden) = (diff.join(&changed.init).join("very-many"), diff.join(&changed.layer).join("very-many"));
    fs::create_dir_all(&shown).expect("a folder");
    fs::create_dir_all(&hidden).expect("a folder");
    for n in 0..whiteouts() {
        fs::File::create(shown.join(format!("{n}"))).expect("a file");
        fs::File::create(hidden.join(format!(".wh.{n}"))).expect("a whiteout");
    }
    write(shown.join("stays"), "shown");

    // containers
    let big = root.join("containers").join(&changed.container).join("config.v2.json");
    let config = text(&big).replacen('{', &format!("{{\"Unknown\":{{\"Big\":{BIG}}},"), 1);
    write(big.clone(), &config);
    let [bare, empty, foreign] = ["3", "4", "5"].map(|c| c.repeat(64));
    write(root.join("containers").join(&bare).join("hostname"), "bare");
    write(root.join("containers").join(&empty).join("config.v2.json"), "");
    let other =
        config.replace(&changed.container, &foreign).replace("\"Driver\":\"aufs\"", "\"Driver\":\"devicemapper\"");
    write(root.join("containers").join(&foreign).join("config.v2.json"), &other.replace("c-changes", "elsewhere"));

    Damaged { store, missing, lost_images, lost_containers, changed, big, empty, bare, foreign, orphan }
}

/// An image layer in the middle of a stack that carries a container, outside of `keep`.
fn missing_layer(root: &Path, containers: &[Value], keep: &BTreeSet<String>) -> String {
    for c in containers {
        let m = mount(root, c["id"].as_str().expect("id"));
        let stack = below(root, &m.layer);
        // the first is the init layer, the second the image's top, the last the base
        for layer in stack.iter().skip(2).take(stack.len().saturating_sub(3)) {
            if !keep.contains(layer) {
                return layer.clone();
            }
        }
    }
    panic!("no such layer")
}

/// Is the image's chain up to `position` the one in this directory of layerdb?
fn chain_matches(root: &Path, image: &Value, position: usize, chain: &Path) -> bool {
    let mut at = chain.to_owned();
    for n in (0..=position).rev() {
        if image["diffids"][n] != text(&at.join("diff")).as_str() {
            return false;
        }
        if n > 0 {
            let parent = text(&at.join("parent"));
            at = root.join("image/aufs/layerdb/sha256").join(parent.trim_start_matches("sha256:"));
        }
    }
    !at.join("parent").exists()
}

/// The checks of a plan with this id whose text holds `what`.
fn says(plan: &Value, id: &str, what: &str) -> bool {
    let checks = plan["checks"].as_array().into_iter().flatten();
    checks.filter(|c| c["id"] == id).any(|c| c.to_string().contains(what))
}

#[test]
fn everything_sound_moves_and_the_rest_is_named() {
    if !real::able() {
        return;
    }
    let d = damage();
    let root = &d.store.root;
    assert!(!d.lost_images.is_empty() && !d.lost_containers.is_empty(), "the damage hits nothing");
    let before = tree(root);

    let plan = d.store.unaufs(&["plan", "--json"]).exits(0).stdout;
    let plan: Value = serde_json::from_str(&plan).expect("the plan");
    for (id, what) in [
        ("L01", ".wh..wh.plnk"),
        ("L01", ".wh..wh.orph"),
        ("L01", ".wh..wh.some-folder.0a1b"),
        ("L05", "/beside/foo"),
        ("D01", &d.missing[..12]),
        ("D04", "-removing"),
        ("D05", &d.orphan[..12]),
        ("C01", &d.bare[..12]),
        ("C01", &d.empty[..12]),
        ("C02", &d.foreign[..12]),
    ] {
        assert!(says(&plan, id, what), "{id} does not name {what}: {:#}", plan["checks"]);
    }

    let ran = d.store.unaufs(&["migrate", "--yes", "--json"]).exits(3);
    let done: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let stays = |kind: &str, key: &str| -> BTreeSet<String> {
        let all = done["left_behind"].as_array().into_iter().flatten();
        all.filter(|l| l["kind"] == kind && l["counts"] == true)
            .map(|l| l[key].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(stays("image", "id"), d.lost_images, "images that stay");
    let mut unnamed = d.lost_containers.clone();
    unnamed.insert(String::new());
    assert_eq!(stays("container", "name"), unnamed, "containers that stay");

    sound_views_are_the_same(&d);
    let config = fs::read_to_string(&d.big).expect("the new config");
    assert!(config.contains(&format!("{{\"Unknown\":{{\"Big\":{BIG}}},")), "{config}");
    assert!(config.contains("\"Driver\":\"overlay2\""), "{config}");
    the_changed_container_shows(root, &d.changed);

    d.store.unaufs(&["rollback", "--drop-new", "--yes", "-q"]).exits(0);
    same("rollback", &before, &tree(root));
}

/// Every recorded view of a layer that has not lost its ground.
fn sound_views_are_the_same(d: &Damaged) {
    let manifests = d.store.truth.join("manifest");
    for file in fs::read_dir(&manifests).expect("manifests").flatten() {
        let layer = file.file_name().to_string_lossy().trim_end_matches(".tsv").to_owned();
        let lost = layer == d.missing || below(&d.store.root.join(".unaufs/old"), &layer).contains(&d.missing);
        if lost || layer == d.changed.layer || layer == d.changed.init {
            fs::remove_file(file.path()).expect("drop a manifest");
        }
        let moved = d.store.root.join("overlay2").join(&layer).is_dir();
        assert_eq!(moved, !lost, "{layer}");
    }
    assert!(fs::read_dir(&manifests).expect("manifests").count() > 10, "nearly nothing is left to compare");
    d.store.judged("views", &d.store.root, "overlay2");
}

/// What the kernel shows of the container with very many whiteouts.
fn the_changed_container_shows(root: &Path, m: &Mount) {
    let script = "set -e; cd \"$0/overlay2\"; mkdir -p ../.shown; \
                  LIBMOUNT_FORCE_MOUNT2=always mount -t overlay -o \"ro,lowerdir=l/$(cat $1/link):$(cat $1/lower)\" overlay ../.shown; \
                  ls ../.shown/very-many; cat ../.shown/beside/foo";
    let mut shell = Command::new("unshare");
    shell.args(["-m", "sh", "-c", script]).arg(root).arg(&m.layer);
    let ran = Ran::of(shell.output().expect("unshare")).exits(0);
    fs::remove_dir(root.join(".shown")).expect("the mount point");
    assert_eq!(ran.stdout, "stays\nshown", "{}", ran.stderr);
}

/// One clear message, the exit code, and nothing written.
fn refused(root: &Path, args: &[&str], code: i32, message: &str) {
    let before = root.is_dir().then(|| tree(root));
    let ran = unaufs(root, args).exits(code);
    assert!(ran.stderr.contains(message), "{args:?} says:\n{}", ran.stderr);
    let errors = ran.stderr.lines().filter(|l| l.starts_with("error")).count();
    assert_eq!(errors, 1, "{args:?}: one message:\n{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    if let Some(before) = before {
        same("a refused verb writes nothing", &before, &tree(root));
    }
    // a machine is told the same
    let ran = unaufs(root, &[args, &["--json"]].concat()).exits(code);
    let doc: Value = serde_json::from_str(ran.stdout.lines().last().unwrap_or_default()).expect("one line of JSON");
    assert_eq!((&doc["schema"], &doc["exit_code"]), (&Value::from("unaufs.error/1"), &Value::from(code)), "{doc}");
}

const READING: [&[&str]; 4] = [&["inspect"], &["plan"], &["status"], &["verify"]];
const WRITING: [&[&str]; 3] = [&["migrate", "--yes"], &["rollback", "--yes"], &["cleanup", "--yes"]];

#[test]
fn a_root_that_is_not_there() {
    let dir = real::folder();
    for verb in READING.iter().chain(&WRITING) {
        refused(&dir.path().join("nowhere"), verb, 10, "doesn't exist");
    }
    let file = dir.path().join("file");
    write(file.clone(), "");
    refused(&file, &["inspect"], 10, "Not a directory");
}

#[test]
fn a_folder_that_is_no_docker_root() {
    let dir = real::folder();
    write(dir.path().join("etc/passwd"), "root");
    write(dir.path().join("overlay2/of/another"), "driver");
    for verb in [&["inspect"][..], &["plan"], &["migrate", "--yes"], &["verify"], &["cleanup", "--yes"]] {
        let before = tree(dir.path());
        let ran = unaufs(dir.path(), verb).exits(10);
        assert_eq!(ran.stderr.lines().filter(|l| l.starts_with("error")).count(), 1, "{}", ran.stderr);
        same("nothing is written", &before, &tree(dir.path()));
    }
}

#[test]
fn there_is_no_way_back_after_cleanup() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    store.unaufs(&["migrate", "--yes", "-q"]).exits(0);
    store.unaufs(&["cleanup", "--yes", "-q"]).exits(0);
    for more in [&["--yes"][..], &[], &["--yes", "--drop-new"]] {
        let args = [&["rollback"], more].concat();
        refused(&store.root, &args, 1, "there is no way back");
        let said = store.unaufs(&args).stderr;
        assert!(said.contains("Keep the overlay2 store") && said.contains("Nothing was changed"), "{said}");
    }
    store.judged("views", &store.root, "overlay2");
    // a cleanup that was interrupted is told, and continues
    let left = store.root.join(".unaufs/old/aufs/diff");
    fs::create_dir_all(&left).expect("a folder that is left");
    let status = store.unaufs(&["status"]).exits(0).stdout;
    assert!(
        status.contains("Next         unaufs cleanup --root") && status.contains("finish the interrupted cleanup"),
        "{status}"
    );
    refused(&store.root, &["rollback", "--yes"], 1, "there is no way back");
    store.unaufs(&["cleanup", "--yes", "-q"]).exits(0);
    assert!(!left.exists(), "cleanup did not go on");
}

#[test]
fn without_permission() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    // nobody has to be able to run it
    let program = PathBuf::from("/tmp").join(format!("unaufs-{}", std::process::id()));
    fs::copy(env!("CARGO_BIN_EXE_unaufs"), &program).expect("a copy");
    let before = tree(&store.root);
    for verb in [&["inspect"][..], &["plan"], &["migrate", "--yes"], &["rollback", "--yes"]] {
        let mut c = Command::new(&program);
        c.arg("--root").arg(&store.root).args(verb).uid(65534).gid(65534).current_dir("/");
        let ran = Ran::of(c.output().expect("unaufs as nobody"));
        assert_eq!(ran.code, 1, "{verb:?}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains("you need to be root to read"), "{}", ran.stderr);
    }
    fs::remove_file(program).expect("the copy");
    same("nothing is written", &before, &tree(&store.root));
}

/// A process that looks like dockerd on this root; ends with the test.
struct Pretender(std::process::Child);

impl Drop for Pretender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn while_docker_runs() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    for args in [
        vec!["--data-root".to_owned(), store.root.display().to_string()],
        vec![format!("--data-root={}", store.root.display())],
    ] {
        let script = "import time; open('/proc/self/comm', 'w').write('dockerd'); time.sleep(600)";
        let mut c = Command::new("/usr/bin/python3");
        c.arg("-c").arg(script).args(&args);
        let running = Pretender(c.spawn().expect("a process"));
        let comm = format!("/proc/{}/comm", running.0.id());
        while text(Path::new(&comm)) != "dockerd" {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        refused(&store.root, &["migrate", "--yes"], 11, "is using this data root");
        // looking is allowed, and says so
        let plan = store.unaufs(&["plan"]);
        assert!(plan.stdout.contains("using this data root"), "{}", plan.stdout);
        store.unaufs(&["inspect"]).exits(0);
    }
}

#[test]
fn with_something_mounted_below() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let before = tree(&store.root);
    let point =
        fs::read_dir(store.root.join("aufs/mnt")).expect("aufs/mnt").flatten().next().expect("a mount point").path();
    let script = "mount -t tmpfs none \"$2\" && exec \"$0\" --root \"$1\" migrate --yes";
    let mut shell = Command::new("unshare");
    shell.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_unaufs")]).arg(&store.root).arg(&point);
    let ran = Ran::of(shell.output().expect("unshare")).exits(11);
    assert!(ran.stderr.contains("is mounted") && ran.stderr.contains("umount"), "{}", ran.stderr);
    same("nothing is written", &before, &tree(&store.root));
}
