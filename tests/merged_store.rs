//! An overlay2 store that a real Docker has used, and an aufs store moved into it: a real Docker then shows both.

#[path = "support/real.rs"]
mod real;

use real::{same, tree};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
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
    json!({"images": images, "containers": all("containers"), "volumes": all("volumes"), "layers": theirs["layers"]})
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
    // ours: put into the same root, as it is where aufs was left behind and Docker went on with overlay2
    let ours = real::small().unpack();
    let root = &theirs.root;
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
