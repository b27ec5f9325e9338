//! Roots that real Dockers wrote on real aufs: moved, judged by a real Docker and real mounts, and put back.

use crate::support::needs;
use crate::support::real::{self, Store, same, tree, tree_linked};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// One after the other: each boots a dockerd.
fn each(test: impl Fn(&Store)) {
    if !real::able() {
        return;
    }
    for packed in real::all() {
        eprintln!("store {}", packed.name);
        test(&packed.unpack());
    }
}

/// Moves it; exit code 3 where the store itself holds a container that its Docker had half removed, or `also` stays behind.
fn migrate(store: &Store, also: &[&str]) {
    let ran = store.unaufs(&["migrate", "--to", "overlay2", "--yes", "--json"]);
    let doc: serde_json::Value =
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{}: {e}: {ran:?}", store.name));
    let mut stays: Vec<&str> =
        doc["left_behind"].as_array().into_iter().flatten().filter_map(|l| l["name"].as_str()).collect();
    let mut expected = also.to_vec();
    if store.name == "docker20-aufs-leftovers" {
        expected.push("c-dead");
    }
    stays.sort_unstable();
    expected.sort_unstable();
    assert_eq!(stays, expected, "{}: what stays behind", store.name);
    // a container of another driver is named, but is not ours to move
    let ours = expected.iter().filter(|n| !also.contains(n)).count();
    ran.exits(if ours == 0 { 0 } else { 3 });
}

/// Every path of `quirks.tsv` is named in the plan with its reason, in the same words: for the layer itself, or for one below it with which
/// that begins.
fn quirks_are_named(store: &Store) {
    let plan = store.unaufs(&["plan", "-v"]).exits(0).stdout;
    let with_lowers = |layer: &str| {
        let lowers = fs::read_to_string(store.root.join("aufs/layers").join(layer)).expect("the layers below");
        std::iter::once(layer).chain(lowers.lines()).map(str::to_owned).collect::<Vec<String>>()
    };
    // long paths wrap: the rows without their white space
    let bare = |s: &str| s.split_whitespace().collect::<String>();
    let short = |l: &str| l.strip_suffix("-init").map_or_else(|| l[..12].to_owned(), |l| format!("{}-init", &l[..12]));
    let table = plan.split_once("\nPATHS THAT AUFS SHOWS DIFFERENTLY").map_or("", |(_, table)| table);
    let table = table.split("\n\n").next().unwrap_or_default();
    let rows: Vec<String> = table.split("\n  layer ").map(|row| format!("layer{}", bare(row))).collect();
    let file = store.truth.join("quirks.tsv");
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [layer, path, reason] = fields[..] else { panic!("{}: {line}", file.display()) };
        // tar archives hold no sockets, so the packed store does not either
        if reason.ends_with("(a socket, not in the tar)") {
            continue;
        }
        let what = bare(&format!("{reason}:{path}"));
        let of = |row: &String, l: &String| row.starts_with(&format!("layer{}", short(l))) && row.ends_with(&what);
        let named = with_lowers(layer).iter().any(|l| rows.iter().any(|row| of(row, l)));
        assert!(named, "{}: the plan does not name {layer} {path} ({reason})", store.name);
    }
}

#[test]
fn moves_proves_and_goes_back_byte_for_byte() {
    each(|store| {
        let before = tree(&store.root);
        quirks_are_named(store);
        same("planning writes nothing", &before, &tree(&store.root));

        migrate(store, &[]);
        store.judged("views", &store.root, "overlay2");
        let copy = store.copy("for-docker");
        store.judged("docker", &copy, "overlay2");

        let proof = store.unaufs(&["verify", "--level", "full", "--json"]).exits(0).stdout;
        let proof: serde_json::Value = serde_json::from_str(&proof).expect("JSON");
        assert_eq!(proof["differences"].as_array().map(Vec::len), Some(0), "{proof}");
        let again = store.unaufs(&["migrate", "--to", "overlay2", "--yes"]).exits(0);
        assert!(again.stdout.contains("nothing to do"), "{}", again.stdout);

        store.unaufs(&["rollback", "--drop-new", "--yes", "-q"]).exits(0);
        same(&format!("{}: rollback --drop-new", store.name), &before, &tree(&store.root));
        let status = store.unaufs(&["status"]).exits(0);
        assert!(!store.root.join(".unaufs").exists(), "{}", status.stdout);
    });
}

/// Docker starts, writes, creates, removes, renames and tags on the new store: the old one is not touched by any of it.
#[test]
fn goes_back_after_docker_has_worked_on_the_new_store() {
    each(|store| {
        let parts = ["aufs", "image/aufs", "graph"].map(|p| store.root.join(p));
        let old: Vec<_> = parts.iter().filter(|p| p.exists()).map(|p| (p, tree_linked(p))).collect();
        let configs = configs(store);

        migrate(store, &[]);
        let did = store.judged("use", &store.root, "overlay2");
        let did: serde_json::Value = serde_json::from_str(&did).expect("what was done");

        let back = store.unaufs(&["rollback", "--yes"]).exits(0);
        for (path, before) in &old {
            same(&path.display().to_string(), before, &tree_linked(path));
        }
        for (path, bytes) in &configs {
            let now = fs::read(path).unwrap_or_else(|e| panic!("{}: {path}: {e}; did {did}", store.name));
            assert!(&now == bytes, "{}: {path} is not what it was; did {did}", store.name);
        }
        assert!(back.stdout.contains("volume-made-here"), "what stays is listed:\n{}", back.stdout);
        assert!(store.root.join("volumes/volume-made-here").is_dir(), "a shared place was changed");
        let made = did["created"].as_str().expect("a container was made");
        let made = format!("containers/{} (made on the new store", &made[..12]);
        assert!(back.stdout.contains(&made), "the container made in between is listed:\n{}", back.stdout);

        // and the way there is open again; the image of the container that was made in the meantime is in the store that was undone
        migrate(store, &["made-here"]);
        store.judged("views", &store.root, "overlay2");
    });
}

/// Docker 1.7 recorded no tars. The layers, images and containers have the ids that Docker 1.10.3 gave them, and `docker save` makes the tars again.
#[test]
fn layers_without_tar_data_have_the_ids_that_docker_gave_them() {
    if !real::able() {
        return;
    }
    let drivers = ["overlay2", "vfs", "overlay"];
    for driver in &drivers[..if needs::long() { 3 } else { 1 }] {
        let store = real::Packed::of_project("docker17to19-aufs").unpack();
        store.unaufs(&["migrate", "--to", driver, "--yes", "-q"]).exits(0);
        store.judged("views", &store.root, driver);
        store.judged("docker", &store.copy("for-docker"), driver);
        store.unaufs(&["verify", "--level", "full", "-q"]).exits(0);
    }
}

/// `config.v2.json` and `hostconfig.json` of each container.
fn configs(store: &Store) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    for c in fs::read_dir(store.root.join("containers")).expect("containers/").flatten() {
        for name in ["config.v2.json", "config.json", "hostconfig.json"] {
            let path = c.path().join(name);
            if let Ok(bytes) = fs::read(&path) {
                out.push((path.to_string_lossy().into_owned(), bytes));
            }
        }
    }
    assert!(!out.is_empty(), "{}: no containers", store.name);
    out
}

/// Docker writes into containers and their init layers. Were a file of theirs a further name of an old one, or of an image's, it would
/// write into that too, and no rollback could bring it back.
#[test]
fn what_is_written_into_shares_no_inode() {
    if !real::able() {
        return;
    }
    for mode in ["auto", "link"] {
        for (driver, home) in [("overlay2", "overlay2"), ("overlay", "overlay"), ("vfs", "vfs/dir")] {
            let store = real::small().unpack();
            store.unaufs(&["migrate", "--to", driver, "--mode", mode, "--yes", "-q"]).exits(0);
            let home = store.root.join(home);
            let layers: Vec<String> = fs::read_dir(&home)
                .expect("layers")
                .map(|e| e.expect("a layer").file_name().to_string_lossy().into_owned())
                .collect();
            let written_into = |l: &str| l.ends_with("-init") || layers.iter().any(|o| *o == format!("{l}-init"));
            let mut owners: BTreeMap<(u64, u64), String> = BTreeMap::new();
            let (mut files, mut trees) = (0, 0);
            let mut note = |owner: &str, inode: (u64, u64)| {
                let first = owners.entry(inode).or_insert_with(|| owner.to_owned());
                (*first != owner).then(|| first.clone())
            };
            let own: Vec<&String> = layers.iter().filter(|l| written_into(l)).collect();
            for layer in &own {
                trees += 1;
                for inode in inodes(&home.join(layer)) {
                    files += 1;
                    assert_eq!(note(layer, inode), None, "{driver} {mode}: {layer} shares a file");
                }
            }
            assert!(trees > 20 && files > 40, "{driver}: {trees} trees with {files} files");
            let others = layers.iter().filter(|l| !written_into(l)).map(|l| home.join(l));
            for tree in others.chain([store.root.join(".unaufs/old")]) {
                for inode in inodes(&tree) {
                    let owner = note("another", inode);
                    assert_eq!(owner, None, "{driver} {mode}: a file of a container is in {} too", tree.display());
                }
            }
        }
    }
}

/// The inodes of all files below.
fn inodes(top: &Path) -> BTreeSet<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let (mut out, mut todo) = (BTreeSet::new(), vec![top.to_owned()]);
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).expect("a folder") {
            let path = entry.expect("an entry").path();
            let m = fs::symlink_metadata(&path).expect("lstat");
            if m.is_dir() {
                todo.push(path);
            } else {
                out.insert((m.dev(), m.ino()));
            }
        }
    }
    out
}
