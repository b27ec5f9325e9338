//! `unaufs export` on roots that real Dockers wrote: its archives against the record of the store, and what dockerd, podman, skopeo and
//! umoci make of them.

use crate::support::archive::Archive;
use crate::support::mounts::Mounted;
use crate::support::needs;
use crate::support::private::{self, this_test};
use crate::support::real::{self, Ran, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const EXPORT: [&str; 4] = ["export", "--progress", "none", "--json"];

fn export(root: &Path, args: &[&str]) -> Ran {
    real::unaufs(root, &[&EXPORT, args].concat())
}

fn out(store: &Store, name: &str) -> (PathBuf, String) {
    let path = store.beside.join(name);
    let text = path.to_str().expect("a path of text").to_owned();
    (path, text)
}

/// The ids, with the digests of their layers, that the store has by its record.
fn recorded(store: &Store) -> BTreeSet<(String, Vec<String>)> {
    let text = fs::read_to_string(store.truth.join("truth.json")).expect("truth.json");
    let truth: serde_json::Value = serde_json::from_str(&text).expect("truth.json");
    let images = truth["images"].as_array().expect("images");
    let strings = |v: &serde_json::Value| -> Vec<String> {
        v.as_array().into_iter().flatten().map(|s| s.as_str().expect("text").to_owned()).collect()
    };
    images.iter().map(|i| (i["id"].as_str().expect("id").to_owned(), strings(&i["diffids"]))).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut out: Vec<String> = fs::read_dir(dir)
        .expect("folder")
        .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    out.sort();
    out
}

/// Runs another program on an archive, and wants it to find nothing wrong.
fn judged(engine: &str, store: &Store, archive: &str, more: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge/archives.py");
    let mut c = Command::new("/usr/bin/python3");
    c.arg(script).arg(engine).arg(&store.root).arg(&store.truth).arg(archive).args(more);
    let ran = Ran::of(c.output().expect("python3"));
    assert_eq!(ran.code, 0, "{}: {engine} says:\n{}{}", store.name, ran.stdout, ran.stderr);
    ran.stdout
}

#[test]
fn every_image_in_every_form_has_its_digests() {
    if !real::able() {
        return;
    }
    for packed in real::all() {
        let store = packed.unpack();
        let want = recorded(&store);
        let forms = [
            ("docker", "none"),
            ("oci", "zstd"),
            ("oci-dir", "gzip"),
            ("docker", "gzip"),
            ("oci", "none"),
            ("oci", "gzip"),
            ("oci-dir", "none"),
            ("oci-dir", "zstd"),
        ];
        // what is not the layer's tar is the same for every store
        let some = if store.name == real::small().name { forms.len() } else { 3 };
        for (format, compress) in forms.into_iter().take(some) {
            let what = format!("{} {format} {compress}", store.name);
            let (path, to) = out(&store, &format!("{format}-{compress}"));
            export(&store.root, &["--all", "--format", format, "--compress", compress, "-o", &to]).exits(0);
            let archive = Archive::read(&path);
            assert_eq!(archive.images(), want, "{what}");
            assert_eq!(archive.has("manifest.json"), format == "docker", "{what}");
            let mode = fs::metadata(&path).expect("stat");
            let owner_only = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o777, owner_only, "{what}");
        }
        // what was written under a temporary name is gone
        assert!(names(&store.beside).iter().all(|n| !n.ends_with(".partial")), "{:?}", names(&store.beside));
    }
}

#[test]
fn two_runs_give_the_same_bytes() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    for (format, compress) in [("docker", "none"), ("docker", "gzip"), ("oci", "gzip"), ("oci", "zstd")] {
        let args =
            ["--progress", "none", "--format", format, "--compress", compress, "demo/*", "--container", "c-commit"];
        let (one, to) = out(&store, "one");
        real::unaufs(&store.root, &[&["export"], &args[..], &["-j", "1", "-o", &to]].concat()).exits(0);
        let mut piped = Command::new(env!("CARGO_BIN_EXE_unaufs"));
        piped.arg("--root").arg(&store.root).arg("export").args(args).args(["-j", "3", "-o", "-"]);
        let piped = piped.output().expect("unaufs");
        assert!(piped.status.success(), "{}", String::from_utf8_lossy(&piped.stderr));
        assert!(fs::read(one).expect("read") == piped.stdout, "{format} {compress}");
    }
}

#[test]
fn a_migrated_store_gives_the_same_archive() {
    if !real::able() || !needs::programs(&["mkfs.btrfs"]) || private::elsewhere(this_test!()) {
        return;
    }
    let home = real::folder();
    let btrfs = Mounted::with_clones(home.path(), "btrfs");
    for driver in ["overlay2", "overlay", "vfs", "btrfs"] {
        let store = if driver == "btrfs" { real::small().unpack_in(&btrfs.at) } else { real::small().unpack() };
        let (old, to_old) = out(&store, "old.tar");
        let (new, to_new) = out(&store, "new.tar");
        let (parked, to_parked) = out(&store, "parked.tar");
        let what = ["--all", "--container", "c-commit,c-user", "-o"];
        export(&store.root, &[&what[..], &[&to_old]].concat()).exits(0);
        store.unaufs(&["migrate", "--to", driver, "--yes", "--verify", "none"]).exits(0);
        export(&store.root, &[&what[..], &[&to_new]].concat()).exits(0);
        let (was, is) = (Archive::read(&old), Archive::read(&new));
        assert_eq!(was.images().len(), is.images().len(), "{driver}");
        if driver == "overlay2" {
            assert_eq!(was.images(), is.images(), "{driver}");
        } else {
            assert!(is.images().is_superset(&recorded(&store)), "{driver}");
        }
        // on the others a container's layer is found by comparing trees, so that its tar may be another one: what it makes is the same
        for name in ["unaufs/c-commit:latest", "unaufs/c-user:latest"] {
            let (was, is) = (was.tree(name), is.tree(name));
            assert!(was.len() > 10, "{name}: {was:?}");
            let missing: Vec<_> = was.iter().filter(|(p, e)| is.get(*p) != Some(e)).collect();
            let added: Vec<_> = is.iter().filter(|(p, e)| was.get(*p) != Some(e)).collect();
            assert!(missing.is_empty() && added.is_empty(), "{driver}, {name}: was {missing:?}, is {added:?}");
        }
        // the old store where the migration has put it
        export(&store.root, &[&["--driver", "aufs"], &what[..1], &["-o", &to_parked]].concat()).exits(0);
        assert_eq!(Archive::read(&parked).images(), recorded(&store), "{driver}");
    }
}

/// Docker up to 1.9 had no digests of images: they have those that they get by a migration.
#[test]
fn a_graph_store_gives_what_it_becomes() {
    if !real::able() {
        return;
    }
    let store = real::graph().unpack();
    let (old, to_old) = out(&store, "old.tar");
    let (new, to_new) = out(&store, "new.tar");
    export(&store.root, &["--all", "-o", &to_old]).exits(0);
    store.unaufs(&["migrate", "--to", "overlay2", "--yes", "--verify", "none"]).exits(0);
    export(&store.root, &["--all", "-o", &to_new]).exits(0);
    let was = Archive::read(&old).images();
    assert!(was.len() > 5, "{was:?}");
    assert_eq!(was, Archive::read(&new).images());
}

#[test]
fn other_programs_take_the_archives() {
    if !real::able() || !needs::programs(&["podman", "skopeo", "umoci"]) {
        return;
    }
    for packed in real::all() {
        others_take(&packed.unpack());
    }
}

fn others_take(store: &Store) {
    let (_, all) = out(store, "all.tar");
    // a container that Docker had half removed cannot come out
    let (some, containers) =
        if store.name == "docker20-aufs-leftovers" { (&[][..], "none") } else { (&["--container", "*"][..], "all") };
    export(&store.root, &[&["--all", "-o", &all], some].concat()).exits(0);
    let keep = store.beside.join("loaded");
    judged("docker", store, &all, &[keep.to_str().expect("text"), containers]);
    // a root that Docker itself wrote: what it loaded comes out again
    let (again, to) = out(store, "again.tar");
    export(&keep, &["--all", "-o", &to]).exits(0);
    assert_eq!(Archive::read(&again).images(), Archive::read(Path::new(&all)).images());

    if !needs::long() {
        return;
    }
    let (_, packed) = out(store, "packed.tar.gz");
    export(&store.root, &["--all", "--compress", "gzip", "-o", &packed]).exits(0);
    // podman takes several images from a plain archive only, whoever compressed it
    judged("docker", store, &packed, &[store.beside.join("again").to_str().expect("text"), "none"]);
    judged("podman", store, &all, &[]);
    judged("skopeo", store, &all, &[]);
    // umoci takes zstd from 0.5 on, Debian 12 has 0.4; that these layers have their digests is tried above
    for compress in ["none", "gzip"] {
        let (_, layout) = out(store, &format!("layout-{compress}"));
        export(&store.root, &["--all", "--format", "oci-dir", "--compress", compress, "-o", &layout]).exits(0);
        judged("umoci", store, &layout, &[]);
    }
}

#[test]
fn a_rootfs_is_the_tree_that_the_container_saw() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    for (name, compress) in [("c-commit", "none"), ("c-user", "gzip"), ("c-vol", "zstd")] {
        let (tar, to) = out(&store, name);
        export(&store.root, &["--container", name, "--format", "rootfs", "--compress", compress, "-o", &to]).exits(0);
        judged("rootfs", &store, tar.to_str().expect("text"), &[name]);
    }
}

#[test]
fn names_that_mean_nothing_list_what_there_is() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let (path, to) = out(&store, "x.tar");
    for (args, says) in [
        (&["demo/bas:1"][..], "demo/base:1"),
        (&["--container", "c-comit"], "c-commit"),
        (&[""], "demo/base:1"),
        (&["demo/base:1", "demo/app:1", "--format", "rootfs"], "writes one image or container"),
        (&[], "--all"),
        (&["demo/base:1", "--compress", "zstd"], "zstd"),
        (&["demo/base:1", "--driver", "vfs"], "vfs"),
    ] {
        let ran = export(&store.root, &[args, &["-o", &to]].concat());
        let code = if args.contains(&"--driver") { 10 } else { 2 };
        assert!(ran.stdout.contains(says) || ran.stderr.contains(says), "{args:?}: {ran:?}");
        ran.exits(code);
        assert!(!path.exists(), "{args:?}");
    }
}

/// The start of an id that several have: they are listed, and what is listed can be typed.
#[test]
fn an_ambiguous_name_lists_what_to_type() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let text = fs::read_to_string(store.truth.join("truth.json")).expect("truth.json");
    let truth: serde_json::Value = serde_json::from_str(&text).expect("truth.json");
    for (kind, how) in [("images", &[][..]), ("containers", &["--container"][..])] {
        let mut by_start: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for item in truth[kind].as_array().expect("a list") {
            let id = item["id"].as_str().expect("id").trim_start_matches("sha256:").to_owned();
            by_start.entry(id[..1].to_owned()).or_default().push(id);
        }
        let (start, ids) = by_start.into_iter().find(|(_, ids)| ids.len() > 1).expect("two ids that begin alike");
        let (path, to) = out(&store, "ambiguous.tar");
        let ran = store.unaufs(&[&["export", "--progress", "none", "-o", &to], how, &[&start]].concat()).exits(2);
        assert!(ran.stderr.contains(&format!("\"{start}\" may be more than one")) && !path.exists(), "{ran:?}");
        for id in &ids {
            assert!(ran.stderr.contains(&id[..12]), "{id}: {ran:?}");
        }
        let json = export(&store.root, &[how, &[&start, "-o", &to]].concat()).exits(2);
        assert!(json.stdout.contains("more than one") && json.stdout.contains(&ids[1][..12]), "{json:?}");
        export(&store.root, &[how, &[&ids[0][..12], "-o", &to]].concat()).exits(0);
        assert_eq!(Archive::read(&path).images().len(), 1);
        fs::remove_file(&path).expect("rm");
    }
}

/// A signal while it writes, in each form that has a name: nothing is left, and the code says which signal it was.
#[test]
fn a_signal_leaves_nothing() {
    use rustix::process::{Pid, Signal, kill_process};
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let id = fs::read_dir(store.root.join("image/aufs/layerdb/mounts")).expect("mounts").next().expect("a container");
    let id = id.expect("an entry").file_name().into_string().expect("text");
    let mount = store.root.join("image/aufs/layerdb/mounts").join(&id).join("mount-id");
    let layer = store.root.join("aufs/diff").join(fs::read_to_string(mount).expect("mount-id").trim());
    for (format, bytes, signal, code) in [
        ("rootfs", 64 << 30, Signal::TERM, 143),
        ("oci-dir", 1 << 29, Signal::TERM, 143),
        ("docker", 1 << 29, Signal::INT, 130),
    ] {
        // takes no room here, and as long as is needed to be written
        fs::File::create(layer.join("huge")).and_then(|f| f.set_len(bytes)).expect("a huge file");
        let before = names(&store.beside);
        let (path, to) = out(&store, "stopped");
        let mut c = Command::new(env!("CARGO_BIN_EXE_unaufs"));
        c.arg("--root").arg(&store.root).args(["export", "--progress", "none", "--format", format, "-o", &to]);
        let mut child = c.args(["--container", &id]).stderr(Stdio::piped()).spawn().expect("unaufs");
        // it writes
        while names(&store.beside) == before {
            assert!(child.try_wait().expect("wait").is_none(), "{format}: it has ended already");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        kill_process(Pid::from_child(&child), signal).expect("kill");
        let ran = Ran::of(child.wait_with_output().expect("unaufs"));
        assert!(!path.exists() && names(&store.beside) == before, "{format}: {ran:?} {:?}", names(&store.beside));
        assert!(ran.stderr.contains("No file was written"), "{format}: {ran:?}");
        ran.exits(code);
    }
}

#[test]
fn nothing_half_written_is_left() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let before = names(&store.beside);
    let inside = store.root.join("x.tar");
    export(&store.root, &["--all", "-o", inside.to_str().expect("text")]).exits(2);
    let inside = store.root.join("aufs/diff/x");
    export(&store.root, &["--all", "--format", "oci-dir", "-o", inside.to_str().expect("text")]).exits(2);
    assert!(!inside.exists());

    // a disk of 2 MiB: found before the first byte where the length is known, met on the way where it is not
    for (format, compress) in [("docker", "none"), ("oci", "gzip"), ("oci-dir", "zstd"), ("rootfs", "none")] {
        let what = if format == "rootfs" { "demo/base:1" } else { "--all" };
        let script = format!(
            "mount -t tmpfs -o size=512k none /mnt || exit 99; \"$0\" --root \"$1\" export {what} --progress none --format {format} \
             --compress {compress} -o /mnt/x; echo $? $(ls -A /mnt)"
        );
        let mut c = Command::new("unshare");
        c.args(["--mount", "--propagation", "private", "sh", "-c", &script, env!("CARGO_BIN_EXE_unaufs")])
            .arg(&store.root);
        let ran = Ran::of(c.output().expect("unshare"));
        assert_eq!(ran.stdout.trim(), "12", "{format}: {ran:?}");
    }

    // whoever reads goes away
    let mut c = Command::new(env!("CARGO_BIN_EXE_unaufs"));
    c.arg("--root").arg(&store.root).args(["export", "--all", "--progress", "none", "-o", "-"]);
    let mut child = c.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("unaufs");
    drop(child.stdout.take());
    let ran = Ran::of(child.wait_with_output().expect("unaufs"));
    assert!(ran.stderr.contains("Broken pipe"), "{ran:?}");
    ran.exits(1);
    assert_eq!(names(&store.beside), before);
}

#[test]
fn damage_is_named_and_costs_only_what_it_hits() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let layerdb = store.root.join("image/aufs/layerdb/sha256");
    // a layer that only demo/committed:1 has
    let archive = {
        let (path, to) = out(&store, "whole.tar");
        export(&store.root, &["--all", "-o", &to]).exits(0);
        Archive::read(&path)
    };
    let chains = archive.chain_of("demo/committed:1");
    let record = layerdb.join(chains.last().expect("a layer"));
    let cache = fs::read_to_string(record.join("cache-id")).expect("cache-id");
    let diff = store.root.join("aufs/diff").join(cache.trim());
    let file = real_file(&diff);
    let split = record.join("tar-split.json.gz");
    let (path, to) = out(&store, "x.tar");
    let fails = |what: &str, says: &str| {
        let ran = export(&store.root, &["demo/committed:1", "-o", &to]);
        assert!(ran.stdout.contains(says), "{what}: {ran:?}");
        ran.exits(1);
        assert!(!path.exists(), "{what}");
        // everything else still comes out
        export(&store.root, &["demo/base:1", "-o", &to]).exits(0);
        fs::remove_file(&path).expect("rm");
    };
    let content = fs::read(&file).expect("read");
    fs::write(&file, &content[..content.len() - 1]).expect("write");
    fails("a file is shorter", "bytes instead of");
    let mut flipped = content.clone();
    flipped[0] ^= 1;
    fs::write(&file, &flipped).expect("write");
    fails("a byte is flipped", "its content has changed");
    // found when its tar is made: what is written by then is begun again
    for names in [&["--all"][..], &["demo/base:1", "demo/committed:1"]] {
        let ran = export(&store.root, &[names, &["-o", &to]].concat()).exits(3);
        let doc: serde_json::Value = serde_json::from_str(&ran.stdout).expect("json");
        let left = doc["left_out"].to_string();
        assert!(left.contains("demo/committed:1") && left.contains("its content has changed"), "{ran:?}");
        let images = Archive::read(&path).images();
        assert!(!images.is_empty() && images.is_subset(&archive.images()) && images != archive.images());
        fs::remove_file(&path).expect("rm");
    }
    let ran = real::unaufs(&store.root, &["export", "--all", "-o", "-"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("its content has changed") && ran.stderr.contains("-o FILE"), "{}", ran.stderr);
    fs::write(&file, &content).expect("write");

    let good = fs::read(&split).expect("read");
    fs::write(&split, &good[..good.len() / 2]).expect("write");
    fails("a tar-split is cut short", "tar-split");
    fs::write(&split, b"not gzip").expect("write");
    fails("a tar-split is garbage", "tar-split");

    // without one the image comes out with another id, and that is said
    fs::remove_file(&split).expect("rm");
    let ran = export(&store.root, &["demo/committed:1", "-o", &to]).exits(0);
    let doc: serde_json::Value = serde_json::from_str(&ran.stdout).expect("json");
    assert!(doc["images"][0]["was"].is_string() && ran.stdout.contains("without tar-split"), "{ran:?}");
    assert_eq!(Archive::read(&path).images().len(), 1);
    fs::remove_file(&path).expect("rm");
    fs::write(&split, &good).expect("write");

    let away = store.beside.join("away");
    fs::rename(&diff, &away).expect("mv");
    fails("a layer is gone", "is missing");
    let ran = export(&store.root, &["--all", "-o", &to]).exits(3);
    assert!(ran.stdout.contains("demo/committed:1"), "{ran:?}");
    assert!(Archive::read(&path).images().is_subset(&archive.images()));
}

/// A file with some bytes in it that is not a marker.
fn real_file(dir: &Path) -> PathBuf {
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for e in fs::read_dir(&at).expect("folder").map(|e| e.expect("entry")) {
            let kind = e.file_type().expect("type");
            if kind.is_dir() {
                todo.push(e.path());
            } else if kind.is_file() && e.metadata().expect("stat").len() > 1 {
                return e.path();
            }
        }
    }
    panic!("no file in {}", dir.display());
}

#[test]
fn what_the_store_has_lost_is_named_and_the_rest_is_written() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let (path, to) = out(&store, "x.tar");
    let left = |ran: &Ran| -> String {
        let doc: serde_json::Value = serde_json::from_str(&ran.stdout).expect("json");
        doc["left_out"].to_string()
    };
    // a tag of an image that is gone
    let file = store.root.join("image/aufs/repositories.json");
    let good = fs::read_to_string(&file).expect("repositories.json");
    let gone = format!("sha256:{}", "1".repeat(64));
    let with =
        good.replacen("{\"Repositories\":{", &format!("{{\"Repositories\":{{\"gone\":{{\"gone:1\":\"{gone}\"}},"), 1);
    assert_ne!(with, good);
    fs::write(&file, &with).expect("write");
    let ran = export(&store.root, &["--all", "-o", &to]).exits(3);
    assert!(left(&ran).contains("gone:1"), "{ran:?}");
    assert!(Archive::read(&path).images().len() > 10);
    // it costs nothing where it was not asked for
    export(&store.root, &["demo/base:1", "-o", &to]).exits(0);
    let ran = export(&store.root, &["gone:1", "-o", &to]).exits(1);
    assert!(ran.stdout.contains("its config file is missing"), "{ran:?}");
    // no tag can be read
    fs::write(&file, "{").expect("write");
    let ran = export(&store.root, &["--all", "-o", &to]).exits(3);
    assert!(left(&ran).contains("repositories.json"), "{ran:?}");
    fs::write(&file, &good).expect("write");

    // one damaged container, and all others
    let all = export(&store.root, &["--container", "*", "-o", &to]).exits(0);
    let mounts = store.root.join("image/aufs/layerdb/mounts");
    let one = fs::read_dir(&mounts).expect("mounts").flatten().next().expect("a container").path();
    fs::remove_file(one.join("mount-id")).expect("rm");
    let ran = export(&store.root, &["--container", "*", "-o", &to]).exits(3);
    let id = one.file_name().expect("name").to_string_lossy().into_owned();
    assert!(left(&ran).contains(&id[..12]), "{ran:?}");
    let images = |ran: &Ran| {
        let doc: serde_json::Value = serde_json::from_str(&ran.stdout).expect("json");
        doc["images"].as_array().expect("images").len()
    };
    assert_eq!(images(&ran) + 1, images(&all));
    export(&store.root, &["--container", &id, "-o", &to]).exits(1);
}

#[test]
fn the_last_lines_say_the_size_of_the_file_and_how_to_load_it() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let (path, to) = out(&store, "small.tar.gz");
    let ran = real::unaufs(&store.root, &["export", "demo/base:1", "--compress", "gzip", "-o", &to]).exits(0);
    let size = fs::metadata(&path).expect("archive").len();
    assert!(ran.stdout.contains(&format!("Load it with: docker load -i {to}")), "{ran:?}");
    let ran = export(&store.root, &["demo/base:1", "--compress", "gzip", "-o", &to]).exits(0);
    let doc: serde_json::Value = serde_json::from_str(&ran.stdout).expect("json");
    assert_eq!(doc["written"].as_u64(), Some(size));
    assert!(doc["bytes"].as_u64() > Some(size), "{ran:?}");
    let (dir, to) = out(&store, "layout");
    let ran = real::unaufs(&store.root, &["export", "demo/base:1", "--format", "oci-dir", "-o", &to]).exits(0);
    assert!(ran.stdout.contains("only root can read") && dir.join("index.json").exists(), "{ran:?}");
}

/// A root of a Docker with userns-remap, where it was, under another name, and parked by a migration: a container's tree has the owners,
/// capabilities and permissions that the same root without a user namespace has.
#[test]
fn owners_of_a_user_namespace_are_those_of_the_container() {
    if !real::able() {
        return;
    }
    const SHIFT: u32 = 231_072;
    let store = real::small().unpack();
    let probe = "c-changes";
    let (plain, to) = out(&store, "plain.tar");
    let id = {
        let ran = export(&store.root, &["--container", probe, "-o", &to]).exits(0);
        let doc: serde_json::Value = serde_json::from_str(&ran.stdout).expect("json");
        doc["images"][0]["container"].as_str().expect("id").to_owned()
    };
    let mount =
        fs::read_to_string(store.root.join("image/aufs/layerdb/mounts").join(&id).join("mount-id")).unwrap_or(id);
    let file = store.root.join("aufs/diff").join(mount).join("of-a-namespace");
    fs::write(&file, "x").expect("write");
    let attribute = |name: &str, value: &[u8]| xattr::set(&file, name, value).expect("attribute");
    std::os::unix::fs::lchown(&file, Some(1234), Some(50)).expect("chown");
    let capability = [&[1, 0, 0, 2][..], &[0, 4, 0, 0], &[0; 12]].concat();
    let acl = |user: u32| {
        [
            &[2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0][..],
            &user.to_le_bytes(),
            &[4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255],
        ]
        .concat()
    };
    attribute("security.capability", &capability);
    attribute("system.posix_acl_access", &acl(1234));
    export(&store.root, &["--container", probe, "--format", "rootfs", "-o", &to]).exits(0);
    let want = fs::read(&plain).expect("archive");

    shift(&store.root.join("aufs"), SHIFT);
    attribute("security.capability", &[&[1, 0, 0, 3][..], &capability[4..], &SHIFT.to_le_bytes()].concat());
    attribute("system.posix_acl_access", &acl(1234 + SHIFT));
    let holds = |root: &Path, name: &str| {
        let (path, to) = out(&store, name);
        export(root, &["--driver", "aufs", "--container", probe, "--format", "rootfs", "-o", &to]).exits(0);
        assert!(fs::read(&path).expect("archive") == want, "{name}: another tree");
    };
    holds(&store.root, "renamed.tar");
    let remapped = store.beside.join(format!("{SHIFT}.{SHIFT}"));
    fs::rename(&store.root, &remapped).expect("mv");
    holds(&remapped, "in-its-place.tar");
    let parked = remapped.join(".unaufs/old");
    fs::create_dir_all(parked.join("image")).expect("mkdir");
    for name in ["aufs", "image/aufs"] {
        fs::rename(remapped.join(name), parked.join(name)).expect("mv");
    }
    fs::rename(remapped.join("containers"), parked.join("containers")).expect("mv");
    holds(&remapped, "parked.tar");
    fs::rename(&remapped, &store.root).expect("mv");
}

/// Adds to all owners below; what that clears is set again.
fn shift(top: &Path, by: u32) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
    let (mut todo, mut done) = (vec![top.to_owned()], BTreeSet::new());
    while let Some(at) = todo.pop() {
        let m = fs::symlink_metadata(&at).expect("lstat");
        if m.is_dir() {
            todo.extend(fs::read_dir(&at).expect("folder").map(|e| e.expect("entry").path()));
        }
        // a file with several names is shifted once
        if !done.insert(m.ino()) {
            continue;
        }
        let capability = xattr::get(&at, "security.capability").ok().flatten().filter(|_| m.is_file());
        lchown(&at, Some(m.uid() + by), Some(m.gid() + by)).expect("chown");
        if let Some(value) = capability {
            xattr::set(&at, "security.capability", &value).expect("capability");
        }
        if !m.file_type().is_symlink() {
            fs::set_permissions(&at, fs::Permissions::from_mode(m.mode() & 0o7777)).expect("chmod");
        }
    }
}
