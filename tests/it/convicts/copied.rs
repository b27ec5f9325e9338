//! A copy of a whole root has other times of change, in the order of copying: what Docker did is no damage there, and damage is damage.

use super::rows::{full, remove};
use super::{BASE, Bed, CONTAINER, Kept};
use crate::support::real;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Copies the state directory first, or last.
fn copies(root: &Path, name: &str) -> [PathBuf; 2] {
    [("first", ".unaufs [!.]*"), ("last", "[!.]* .unaufs")].map(|(order, what)| {
        let to = root.with_file_name(format!("{name}-{order}"));
        let each = format!("mkdir \"$1\" && for d in {what}; do cp -a \"$d\" \"$1/\" || exit 1; sleep 0.01; done");
        let done = Command::new("sh").args(["-c", &each, "sh"]).arg(&to).current_dir(root).status();
        assert!(done.expect("sh").success());
        to
    })
}

/// Exit code, whether Docker ran, and whether it is known as a copy.
fn verify(root: &Path) -> (i32, bool, bool) {
    let ran = real::unaufs(root, &["verify", "--level", "fast", "--json", "--quiet"]);
    let doc: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.stderr));
    (ran.code, doc["docker_ran"] == true, doc["copied"] == true)
}

#[test]
fn a_copy_of_a_root_on_which_docker_ran() {
    if !real::able() {
        return;
    }
    let bed = Bed::new("overlay2", Kept, None);
    let root = &bed.store.root;
    let write = |root: &Path| {
        let home = root.join("overlay2");
        let layer = home.join(full(&home, CONTAINER.1));
        fs::write(layer.join("diff/by-docker"), "x").expect("written");
    };
    for copy in copies(root, "before") {
        assert_eq!(verify(&copy), (0, false, false), "{}", copy.display());
        write(&copy);
        assert_eq!(verify(&copy).0, 6, "{}: Docker has not run", copy.display());
    }
    std::thread::sleep(Duration::from_millis(20));
    write(root);
    let _ = fs::remove_dir(root.join("tmp"));
    fs::create_dir(root.join("tmp")).expect("mkdir");
    assert_eq!(verify(root), (0, true, false));
    for copy in copies(root, "after") {
        assert_eq!(verify(&copy), (0, true, true), "{}", copy.display());
        let home = copy.join("overlay2");
        remove(&home.join(full(&home, BASE)).join("diff/etc/group"));
        assert_eq!(verify(&copy).0, 6, "{}: no Docker removes a file of an image layer", copy.display());
    }
    let said = real::unaufs(root, &["verify", "--level", "fast", "--quiet"]).exits(0).stdout;
    assert!(said.contains("by-docker") && !said.contains("copy"), "{said}");
}
