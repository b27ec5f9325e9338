//! A store of the target that is there already, and an aufs store moved into it: a real Docker then shows both.

use crate::support::mounts::Mounted;
use crate::support::needs;
use crate::support::private::{self, this_test};
use crate::support::real::{self, Store, Tree, same, tree};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn cp(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp").success(), "cp {}", from.display());
}

fn truth(at: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(at.join("truth.json")).expect("truth.json")).expect("JSON")
}

fn list<'a>(v: &'a Value, key: &str) -> &'a [Value] {
    v[key].as_array().map_or(&[], Vec::as_slice)
}

/// Both truths in one, without the names that the plan says are lost.
fn union(ours: &Value, theirs: &Value, left: &[Value]) -> Value {
    let lost: BTreeSet<&str> = left.iter().filter_map(|l| l["id"].as_str()).collect();
    let mut images: Vec<Value> = list(theirs, "images").to_vec();
    for image in list(ours, "images") {
        let mut image = image.clone();
        for key in ["tags", "digests"] {
            if let Some(names) = image[key].as_array_mut() {
                names.retain(|n| !n.as_str().is_some_and(|n| lost.contains(n)));
            }
        }
        match images.iter_mut().find(|i| i["id"] == image["id"]) {
            None => images.push(image),
            // one image: it has the names of both
            Some(both) => {
                for key in ["tags", "digests"] {
                    let names: BTreeSet<&str> =
                        list(both, key).iter().chain(list(&image, key)).filter_map(Value::as_str).collect();
                    let names = json!(names);
                    both[key] = names;
                }
            }
        }
    }
    let all = |key: &str| {
        let ours = list(ours, key).iter().filter(|c| !c["id"].as_str().is_some_and(|id| lost.contains(id)));
        list(theirs, key).iter().chain(ours).cloned().collect::<Vec<Value>>()
    };
    let layers = theirs.get("layers").cloned().unwrap_or_else(|| json!({}));
    json!({"images": images, "containers": all("containers"), "volumes": all("volumes"), "layers": layers})
}

/// Puts an aufs store into a root in which Docker went on with another driver.
fn put_beside(ours: &Store, root: &Path) {
    cp(&ours.root.join("aufs"), &root.join("aufs"));
    cp(&ours.root.join("image/aufs"), &root.join("image/aufs"));
    for folder in ["containers", "volumes"] {
        for entry in fs::read_dir(ours.root.join(folder)).expect(folder).flatten() {
            let to = root.join(folder).join(entry.file_name());
            if !to.exists() {
                cp(&entry.path(), &to);
            }
        }
    }
}

#[test]
fn docker_shows_the_union() {
    if !real::able() {
        return;
    }
    // theirs: overlay2, made of another store, with nothing of unaufs left
    let theirs = real::Packed::of_project("docker19-aufs").unpack();
    theirs.unaufs(&["migrate", "--yes", "--mode", "copy"]).exits(0);
    theirs.unaufs(&["cleanup", "--yes"]).exits(0);
    fs::remove_dir_all(theirs.root.join(".unaufs")).expect("remove");
    let ours = real::small().unpack();
    let root = &theirs.root;
    put_beside(&ours, root);
    let before = tree(root);

    let plan = theirs.unaufs(&["plan", "--json"]).exits(0).stdout;
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    assert!(list(&plan, "checks").iter().any(|c| c["id"] == "T02"), "the store that is there is named");
    let left = list(&plan, "left_behind").to_vec();
    let counts = left.iter().any(|l| l["counts"] == true);
    theirs.unaufs(&["migrate", "--yes", "--verify", "full"]).exits(if counts { 3 } else { 0 });
    theirs.judged("views", root, "overlay2");

    let both = theirs.beside.join("both");
    fs::create_dir_all(both.join("manifest")).expect("mkdir");
    let moved: BTreeSet<&str> = list(&plan, "layers").iter().filter_map(|l| l["id"].as_str()).collect();
    for id in &moved {
        let manifest = ours.truth.join(format!("manifest/{id}.tsv"));
        if manifest.exists() {
            cp(&manifest, &both.join("manifest"));
        }
    }
    let judged = theirs.judged_by(&both, "views", root, "overlay2");
    assert!(moved.len() > 20 && !judged.starts_with("0 "), "{} layers moved: {judged}", moved.len());
    let doc = union(&truth(&ours.truth), &truth(&theirs.truth), &left);
    assert!(list(&doc, "images").len() > 30 && list(&doc, "containers").len() > 13, "there is something to add");
    fs::write(both.join("truth.json"), doc.to_string()).expect("write");
    let copy = theirs.copy("for-docker");
    theirs.judged_by(&both, "docker", &copy, "overlay2");

    theirs.unaufs(&["rollback", "--yes", "--drop-new"]).exits(0);
    same("rolled back", &before, &tree(root));
}

/// Image ids, tags and containers in both, each decided for the target's side: into a store that Docker itself has written with `driver`.
fn into_what_docker_wrote(driver: &str, mode: &str, at: &Path, ours: &Store) {
    let what = format!("{driver} by {mode}");
    let root = &at.join(format!("{driver}-{mode}"));
    let archive = ours.beside.join("overlap.tar");
    if !archive.exists() {
        let to = archive.to_str().expect("UTF-8");
        ours.unaufs(&["export", "demo/app:1", "demo/loaded:1", "-o", to]).exits(0);
    }
    let fill = Command::new("/usr/bin/python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge/judge.py"))
        .args([Path::new("fill"), root, Path::new(driver), &archive])
        .args(["demo/base:1", "c-created"])
        .output()
        .expect("the judge");
    let fill = real::Ran::of(fill).exits(0);
    let theirs: Value = serde_json::from_str(&fill.stdout).expect("JSON");
    let (written, records) = (tree(root), metadata(root, driver));
    assert!(records.len() > 30, "{what}: there is something to keep");
    put_beside(ours, root);
    let before = tree(root);

    let with = ["--to", driver, "--mode", mode];
    let plan = real::unaufs(root, &[&["plan", "--json"][..], &with].concat()).exits(0).stdout;
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    let left = list(&plan, "left_behind").to_vec();
    let names: BTreeSet<(&str, &str)> =
        left.iter().filter_map(|l| Some((l["kind"].as_str()?, l["name"].as_str()?))).collect();
    let clashes = BTreeSet::from([("container", "c-created"), ("tag", "demo/base:1")]);
    assert_eq!(names, clashes, "{what}: {left:?}");
    let kept = list(&plan["merge"], "kept");
    assert!(kept.len() > 6, "{what}: {} layers in both", kept.len());

    let migrate = [&["migrate", "--yes", "--verify", "full"][..], &with].concat();
    real::unaufs(root, &migrate).exits(3);
    untouched(&what, &written, &tree(root));
    for (path, bytes) in records {
        assert!(fs::read(&path).is_ok_and(|b| b == bytes), "{what}: {}", path.display());
    }
    // two trees of the overlay drivers may be one that Docker extracted
    let how = if matches!(driver, "vfs" | "btrfs") { "views" } else { "tars" };
    let moved = list(&plan, "layers").iter().filter_map(|l| l["id"].as_str());
    let both = ours.beside.join(format!("truth-{driver}-{mode}"));
    fs::create_dir_all(both.join("manifest")).expect("mkdir");
    for id in moved {
        let manifest = ours.truth.join(format!("manifest/{id}.tsv"));
        if manifest.exists() {
            cp(&manifest, &both.join("manifest"));
        }
    }
    let judged = ours.judged_by(&both, how, root, driver);
    let compared: usize = judged.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(compared > 30, "{what}: {judged}");

    real::unaufs(root, &["rollback", "--yes", "--drop-new"]).exits(0);
    same(&format!("{what}, rolled back"), &before, &tree(root));

    let doc = union(&truth(&ours.truth), &theirs, &left);
    assert!(list(&doc, "images").len() > 30 && list(&doc, "containers").len() > 13, "there is something to add");
    fs::write(both.join("truth.json"), doc.to_string()).expect("write");
    real::unaufs(root, &migrate).exits(3);
    ours.judged_by(&both, "docker", root, driver);
}

/// What Docker had written for the target is there as it was. Directories into which something was added have other times.
fn untouched(what: &str, before: &Tree, after: &Tree) {
    let grown: BTreeSet<&[u8]> = after
        .keys()
        .filter(|p| !before.contains_key(*p))
        .filter_map(|p| Some(&p[..p.iter().rposition(|c| *c == b'/')?]))
        .collect();
    // its metadata are written again, with ours among them
    for (path, entry) in before.iter().filter(|(p, _)| !p.starts_with(b"/image")) {
        let shown = String::from_utf8_lossy(path);
        let is = after.get(path).unwrap_or_else(|| panic!("{what}: {shown} is gone"));
        assert!(is == entry || grown.contains(path.as_slice()), "{what}: {shown}: {is:?}, was {entry:?}");
    }
}

/// The bytes of its metadata.
fn metadata(root: &Path, driver: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let image = root.join("image").join(driver);
    let files = tree(&image).into_keys().map(|p| image.join(String::from_utf8_lossy(&p[1..]).into_owned()));
    files
        .filter(|p| p.is_file() && !p.ends_with("repositories.json"))
        .map(|p| (p.clone(), fs::read(&p).expect("read")))
        .collect()
}

#[test]
fn beside_what_docker_wrote() {
    if !needs::long() || !real::able() || !needs::programs(&["mkfs.btrfs"]) || private::elsewhere(this_test!()) {
        return;
    }
    let ours = real::small().unpack();
    let disk = Mounted::with_clones(&ours.beside, "btrfs");
    for (driver, mode) in [("overlay", "link"), ("vfs", "auto"), ("overlay2", "auto")] {
        into_what_docker_wrote(driver, mode, &ours.beside, &ours);
    }
    into_what_docker_wrote("btrfs", "auto", &disk.at, &ours);
}
