//! Symlinks, fifos and devices where directories and files are expected; ids that are paths.

use super::bed::{Odd, World};
use crate::support::needs;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn a_sound_root_migrates() {
    if needs::root() {
        World::new().ends(0, "are now on");
    }
}

#[test]
fn folders_that_lead_out() {
    if !needs::root() {
        return;
    }
    for (path, code, says) in [
        ("aufs", 4, "symlink"),
        ("aufs/diff", 1, "symlink"),
        ("aufs/layers", 0, "symlink"),
        ("image", 4, "symlink"),
        ("image/aufs", 1, "symlink"),
        ("image/aufs/layerdb", 1, "symlink"),
        ("image/aufs/layerdb/sha256", 1, "symlink"),
        ("image/aufs/imagedb", 1, "symlink"),
        ("containers", 4, "symlink"),
    ] {
        let w = World::new();
        w.lead_out(&w.at(path));
        eprintln!("{path}");
        w.ends(code, says);
    }
}

#[test]
fn folders_that_are_the_user_s_own_may_be_anywhere() {
    if !needs::root() {
        return;
    }
    for path in ["volumes", "network", "tmp", "buildkit", "overlay2", ".unaufs"] {
        let w = World::new();
        symlink(w.canary.join("empty"), w.at(path)).expect("a symlink");
        eprintln!("{path}");
        match path {
            // unaufs would have to work in them
            "overlay2" => w.ends(4, "overlay2"),
            ".unaufs" => w.ends(1, "symlink"),
            _ => w.ends(0, "are now on"),
        }
    }
}

#[test]
fn folders_of_one_object_that_lead_out() {
    if !needs::root() {
        return;
    }
    // (what, its path, what is said); everything else moves
    type Find = fn(&World) -> std::path::PathBuf;
    let cases: [(&str, Find, &str); 6] = [
        ("a layer", |w| w.at(&format!("aufs/diff/{}", w.casts[1].id)), "symlink"),
        ("a record of layerdb", |w| w.record(1), "symlink"),
        ("a container's layer", |w| w.at(&format!("aufs/diff/{}", w.casts.last().expect("one").id)), "symlink"),
        ("a container's record", |w| w.first("image/aufs/layerdb/mounts"), "symlink"),
        ("an image's config", |w| w.first("image/aufs/imagedb/content/sha256"), "symlink"),
        ("a container's config", |w| w.first("containers").join("config.v2.json"), "symlink"),
    ];
    for (what, find, says) in cases {
        let w = World::new();
        eprintln!("{what}");
        w.lead_out(&find(&w));
        w.ends(3, says);
    }
    let w = World::new();
    w.lead_out(&w.first("containers"));
    w.ends(3, "its directory in containers/ is a symlink");
    let w = World::new();
    w.lead_out(&w.at("image/aufs/repositories.json"));
    w.ends(3, "Tags are lost");
}

#[test]
fn files_that_are_no_files() {
    if !needs::root() {
        return;
    }
    for odd in Odd::ALL {
        let w = World::new();
        eprintln!("{odd:?}");
        odd.put(&w.at("image/aufs/repositories.json"));
        odd.put(&w.record(1).join("cache-id"));
        odd.put(&w.record(0).join("tar-split.json.gz"));
        odd.put(&w.first("containers").join("config.v2.json"));
        odd.put(&w.at(&format!("aufs/layers/{}", w.casts.last().expect("one").id)));
        w.ends(3, "stays");
    }
}

#[test]
fn ids_that_are_paths() {
    if !needs::root() {
        return;
    }
    for bad in ["/etc", "..", "../../../canary/store/aufs/diff/x", ".", "", "a/b", "a\nb", "\u{1b}[31m", "a\0b"] {
        let w = World::new();
        eprintln!("{bad:?}");
        fs::write(w.record(2).join("cache-id"), bad).expect("a file");
        let mounts = w.first("image/aufs/layerdb/mounts");
        let other = fs::read_dir(w.at("image/aufs/layerdb/mounts")).expect("mounts").flatten().map(|e| e.path());
        let other = other.into_iter().find(|p| *p != mounts).expect("another");
        fs::write(mounts.join("mount-id"), bad).expect("a file");
        fs::write(other.join("init-id"), bad).expect("a file");
        fs::write(w.at(&format!("aufs/layers/{}", w.casts[0].id)), format!("{bad}/\n")).expect("a file");
        w.ends(3, "can't be a layer ID");
    }
}

#[test]
fn links_in_layers_are_data() {
    if !needs::root() {
        return;
    }
    // a directory of one layer is a symlink in another, and markers are symlinks and directories
    for upper in
        ["s data -> CANARY", "w data as=symlink", "s etc -> /", "s data/more -> CANARY/store", "s x -> /proc/self/fd/3"]
    {
        let stack = format!("{}\nlayer\n{upper}\nlayer\nd data\nf data/new =x\n", super::bed::STACK);
        eprintln!("{upper}");
        World::of(&stack.replace("CANARY", "../../../canary")).ends(0, "are now on");
    }
    let w = World::new();
    for name in [".wh..wh.plnk", ".wh..wh.orph", ".wh..wh.aufs", ".wh..wh..opq", ".wh.data", ".wh..wh.x.1"] {
        symlink(&w.canary, w.at(&format!("aufs/diff/{}", w.casts[1].id)).join(name)).expect("a symlink");
    }
    w.ends(0, "are now on");
}

#[test]
fn special_files_in_layers_are_made_anew_and_never_opened() {
    if needs::root() {
        let stack =
            "layer\nc dev/zero 1:5\nb dev/disk 7:250\np dev/pipe\nk dev/socket\nlayer\np dev/zero\nc dev/pipe 1:5\n";
        World::of(stack).ends(0, "are now on");
    }
}
