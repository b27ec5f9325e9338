//! Metadata that fsck, a crash or a careless hand has changed: what depends on it is lost, named and counted, and everything else moves.

use crate::support::mounts::Mounted;
use crate::support::needs;
use crate::support::private::{self, this_test};
use crate::support::real::{self, Ran, Store};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use unaufs::checks::{Finding, Level};
use unaufs::disk::Dir;
use unaufs::plan::new_root::Destination;
use unaufs::store::{self, Content};

fn read(root: &Path) -> (store::Store, Vec<Finding>) {
    store::open(&Dir::open_named(root).expect("root")).expect("a store")
}

fn of<'a>(findings: &'a [Finding], id: &str) -> Vec<&'a Finding> {
    findings.iter().filter(|f| f.id == id && f.level >= Level::Warn).collect()
}

/// Images and containers that can't move.
fn broken(s: &store::Store) -> (usize, usize) {
    let (images, containers) = (s.images.values(), s.containers.values());
    (images.filter(|i| i.broken.is_some()).count(), containers.filter(|c| c.broken.is_some()).count())
}

#[test]
fn something_else_in_the_place_of_a_directory() {
    if !real::able() {
        return;
    }
    let all = usize::MAX;
    let store = real::small().unpack();
    let (whole, _) = read(&store.root);
    let sum = (whole.images.len(), whole.containers.len());
    // what is in the way, whether something counts as lost, and what stays behind
    for (path, lost, stay) in [
        ("aufs/layers", 0, (0, 0)),
        ("aufs/mnt", 0, (0, 0)),
        ("image/aufs/distribution", 0, (0, 0)),
        ("image/aufs/layerdb/tmp", 0, (0, 0)),
        ("image/aufs/imagedb/metadata", 1, (0, 0)),
        ("image/aufs/layerdb/mounts", 1, (0, all)),
        ("image/aufs/layerdb/sha256", 1, (all, all)),
        ("image/aufs/imagedb/content", 1, (all, 0)),
    ] {
        let (here, away) = (store.root.join(path), store.beside.join("away"));
        fs::rename(&here, &away).expect("mv");
        for kind in ["isn't a directory", "is a symlink"] {
            match kind {
                "is a symlink" => symlink(&away, &here).expect("ln"),
                _ => fs::write(&here, "").expect("a file"),
            }
            if kind == "is a symlink" && lost > 0 {
                // an admin can put the directory there
                let e = store::open(&Dir::open_named(&store.root).expect("root")).expect_err(path);
                assert!(e.chain().contains("which is a symlink") && e.hint_text().is_some(), "{path}: {}", e.chain());
                fs::remove_file(&here).expect("rm");
                continue;
            }
            let (s, findings) = read(&store.root);
            let said: Vec<_> = of(&findings, "D10").into_iter().filter(|f| f.subject.name == path).collect();
            assert!(said.len() == 1 && said[0].message.contains(kind), "{path} {kind}: {findings:?}");
            assert!(said[0].effect.is_some(), "{path}: what is lost?");
            let broken = broken(&s);
            let want = (stay.0.min(s.images.len()), stay.1.min(sum.1));
            assert_eq!((s.lost.len(), broken), (lost, want), "{path} {kind}: {:?}", s.lost);
            fs::remove_file(&here).expect("rm");
        }
        fs::rename(&away, &here).expect("mv");
    }
    // one of them to the end
    let mnt = store.root.join("aufs/mnt");
    fs::remove_dir_all(&mnt).expect("rm");
    fs::write(&mnt, "").expect("a file");
    for args in [&["migrate", "--yes", "-q", "--verify", "none"][..], &["cleanup", "--yes", "-q"]] {
        store.unaufs(args).exits(0);
    }
}

#[test]
fn an_image_without_its_config_file_counts_with_its_tags() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let content = store.root.join("image/aufs/imagedb/content/sha256");
    let (whole, _) = read(&store.root);
    // based on it is a container, and its id has letters
    let used = |i: &&store::Image| whole.containers.values().any(|c| c.image == i.id.to_string());
    let image = whole.images.values().find(|i| i.tags.len() > 1 && used(i)).expect("an image in use");
    let (file, away) = (content.join(image.id.hex()), store.beside.join("config"));
    fs::rename(&file, &away).expect("mv");
    let check = |what: &str, tags: usize| {
        let (s, findings) = read(&store.root);
        assert_eq!(broken(&s), (1, 0), "{what}");
        let lost = &s.images[&image.id];
        assert_eq!((&lost.tags, s.images.len()), (&image.tags, whole.images.len()), "{what}");
        assert!(lost.broken.as_deref().is_some_and(|why| why.contains(what)), "{lost:?}");
        let named = of(&findings, "D03");
        assert!(named.len() == 1 && named[0].effect.as_deref().is_some_and(|e| e.contains("migrated: ")), "{named:?}");
        assert_eq!(of(&findings, "D06").len(), tags, "{what}");
    };
    check("missing", image.tags.len() + image.digests.len());
    fs::copy(&away, content.join(image.id.hex().to_uppercase())).expect("cp");
    check("upper case", 0);
    let plan: Value = serde_json::from_str(&store.unaufs(&["plan", "--json"]).exits(0).stdout).expect("JSON");
    assert_eq!(plan["damage"].as_array().map(Vec::len), Some(1), "it counts");
}

#[test]
fn damaged_tar_split_data_move_as_they_are() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let layers = fs::read_dir(store.root.join("image/aufs/layerdb/sha256")).expect("layerdb");
    let mut files: Vec<PathBuf> = layers.flatten().map(|e| e.path().join("tar-split.json.gz")).collect();
    files.sort();
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 7] = [
        ("empty", |b| b.clear()),
        ("NUL", |b| b.fill(0)),
        ("truncated", |b| b.truncate(b.len() - 9)),
        ("bits", |b| {
            let middle = b.len() / 2;
            b[middle..middle + 8].iter_mut().for_each(|c| *c ^= 0x55);
        }),
        ("half NUL", |b| {
            let middle = b.len() / 2;
            b[middle..].fill(0);
        }),
        ("trailing junk", |b| b.extend(b"junk")),
        ("plain JSON", |b| *b = br#"{"type":2,"payload":"AAAA","position":0}"#.to_vec()),
    ];
    for (file, (_, damage)) in files.iter().zip(damages) {
        let mut bytes = fs::read(file).expect("tar-split");
        damage(&mut bytes);
        fs::write(file, bytes).expect("tar-split");
    }
    let plan = store.unaufs(&["plan"]).exits(0).stdout;
    assert!(plan.contains("D02"), "{plan}");
    let ran = store.unaufs(&["migrate", "--yes", "--progress", "none", "--no-switch"]).exits(3);
    assert!(ran.stdout.contains("DAMAGED  7 places in the old store"), "{}", ran.stdout);
    // the run that continues counts them too
    store.unaufs(&["migrate", "--yes", "-q"]).exits(3);
    let verified: Value = serde_json::from_str(&store.unaufs(&["verify", "--json"]).exits(0).stdout).expect("JSON");
    let damaged = |u: &&Value| u["damaged"] == true;
    assert_eq!(verified["unprovable"].as_array().expect("a list").iter().filter(damaged).count(), 7, "{verified}");
    // what happened to the new store alone is damage
    let new = files[7].strip_prefix(store.root.join("image/aufs")).expect("a record");
    let new = store.root.join("image/overlay2").join(new);
    let whole = fs::read(&new).expect("tar-split");
    fs::write(&new, "").expect("tar-split");
    store.unaufs(&["verify", "--level", "fast", "-q"]).exits(6);
    fs::write(&new, whole).expect("tar-split");
    store.unaufs(&["cleanup", "--yes", "-q"]).exits(0);
}

#[test]
fn links_without_linkgraph_db() {
    if !real::able() {
        return;
    }
    let store = real::graph().unpack();
    let links = |s: &store::Store| -> Vec<(String, String)> {
        let value = |f: &store::ContainerFile| match &f.content {
            Content::Edited(_, changes) if f.name == "hostconfig.json" => {
                changes.iter().find(|(key, _)| key == "Links").map(|(_, v)| v.clone())
            }
            _ => None,
        };
        s.containers.values().filter_map(|c| Some((c.name.clone(), c.files.iter().find_map(value)?))).collect()
    };
    let (whole, findings) = read(&store.root);
    assert!(links(&whole).len() > 1 && whole.lost.is_empty() && of(&findings, "G04").is_empty());
    let file = store.root.join("linkgraph.db");
    let database = fs::read(&file).expect("linkgraph.db");
    for (what, bytes) in [("empty", Vec::new()), ("zeros", vec![0; 4096]), ("cut", database[..3000].to_vec())] {
        fs::write(&file, bytes).expect("linkgraph.db");
        let (s, _) = read(&store.root);
        assert_eq!((links(&s), s.lost.len()), (links(&whole), 1), "{what}");
    }
    fs::remove_file(&file).expect("rm");
    let (s, findings) = read(&store.root);
    assert_eq!(links(&s), links(&whole));
    assert!(of(&findings, "G04").iter().any(|f| f.message == "it is missing"), "{findings:?}");
    // those that never ran, and so have no hosts file
    assert_eq!(s.lost[0].reason, "it is missing, and no hosts file shows the links of c-cp, c-created");

    let unclear = |line: &str| {
        let c = s.containers.values().find(|c| c.name == "c-vol").expect("c-vol");
        let dir = store.root.join("containers").join(c.id.as_str());
        let before = fs::read_to_string(dir.join("hosts")).expect("hosts");
        let host = fs::read_to_string(dir.join("hostconfig.json")).expect("hostconfig.json");
        fs::write(dir.join("hosts"), format!("{before}{line}\n")).expect("hosts");
        fs::write(dir.join("hostconfig.json"), host.replacen('{', r#"{"X":["extra:10.0.0.9"],"#, 1)).expect("it");
        let reason = read(&store.root).0.lost[0].reason.contains("c-vol");
        fs::write(dir.join("hosts"), before).expect("hosts");
        fs::write(dir.join("hostconfig.json"), host).expect("hostconfig.json");
        reason
    };
    // Docker up to 1.6 wrote the alias alone; docker run --add-host is in hostconfig.json
    assert!(
        unclear("172.17.0.9\tdb")
            && unclear("172.17.0.9\tdb 0123456789ab")
            && !unclear("1.2.3.4\tc-db ac17601240fc")
            && !unclear("10.0.0.9\textra")
            && !unclear("# 172.17.0.9 db")
    );
}

#[test]
fn a_size_that_cannot_be_read_is_counted_again() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let layers = store.root.join("image/aufs/layerdb/sha256");
    let records = fs::read_dir(&layers).expect("layerdb").flatten().map(|e| e.path());
    let size = |record: &Path| fs::read_to_string(record.join("size")).expect("size");
    let record = records.max_by_key(|r| size(r).parse::<u64>().expect("a number")).expect("a layer");
    let (chain, right) = (record.file_name().expect("a name").to_string_lossy().into_owned(), size(&record));
    for bad in [Some(""), Some("\0\0\0\0"), Some("12\n"), None] {
        match bad {
            Some(text) => fs::write(record.join("size"), text).expect("size"),
            None => fs::remove_file(record.join("size")).expect("rm"),
        }
        let (s, findings) = read(&store.root);
        assert_eq!((broken(&s), of(&findings, "D14").len()), ((0, 0), 1), "{bad:?}");
        let path = format!("layerdb/sha256/{chain}/size");
        let made = s.metadata.iter().find(|f| f.path == path).map(|f| f.content.clone());
        assert_eq!(made, Some(Content::Text(right.clone())), "{bad:?}");
    }
}

#[test]
fn one_odd_entry_of_repositories_json_costs_itself() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let file = store.root.join("image/aufs/repositories.json");
    let good: Value = serde_json::from_slice(&fs::read(&file).expect("tags")).expect("JSON");
    let tags = || read(&store.root).0.images.values().map(|i| i.tags.len() + i.digests.len()).sum::<usize>();
    let all = tags();
    let (name, first) = good["Repositories"].as_object().expect("an object").iter().next().expect("a repository");
    let first = first.as_object().expect("an object");
    let of_tag = first.keys().next().expect("a tag");
    for (odd, gone, lost) in [
        (json!([1]), first.len(), vec![("repository", name)]),
        (json!("x"), first.len(), vec![("repository", name)]),
        (json!(null), first.len(), vec![]),
        (json!({of_tag.as_str(): 7}), first.len(), vec![("tag", of_tag)]),
    ] {
        let mut bad = good.clone();
        bad["Repositories"][name] = odd.clone();
        fs::write(&file, bad.to_string()).expect("tags");
        let (s, _) = read(&store.root);
        let found: Vec<(&str, &String)> = s.lost.iter().map(|l| (l.kind.as_str(), &l.id)).collect();
        assert_eq!((all - tags(), found), (gone, lost), "{odd}");
    }
    // as of the older generation
    fs::write(&file, r#"{"Repositories":null}"#).expect("tags");
    let (s, findings) = read(&store.root);
    assert!(s.lost.is_empty() && of(&findings, "D10").is_empty() && tags() == 0);
}

/// A bind mount gives a directory another path, and none of its parents there is in the old root.
#[test]
fn a_new_root_inside_the_old_one_through_a_bind_mount() {
    if private::elsewhere(this_test!()) {
        return;
    }
    let at = |path: &str| private::place().join(path);
    for dir in ["root/tmp/deep", "shown", "inner", "outer/root", "outer-shown", "fine", "fine-shown", "hidden/in"] {
        fs::create_dir_all(at(dir)).expect("mkdir");
    }
    let bind = |from: &str, to: &str| Mounted::over(&at(to), Some(&at(from)));
    let _mounts = [
        bind("root", "shown"),
        bind("root/tmp", "inner"),
        bind("outer", "outer-shown"),
        bind("fine", "fine-shown"),
        // the later mount hides the earlier one
        bind("fine", "hidden/in"),
        bind("inner", "hidden"),
    ];
    for (root, target, blocks) in [
        ("root", "shown", true),
        ("root", "shown/new", true),
        ("root", "inner", true),
        ("root", "inner/new", true),
        ("root", "inner/deep", true),
        ("root", "hidden/deep", true),
        ("shown", "root/new", true),
        ("shown", "inner/deep", true),
        ("outer-shown/root", "outer", true),
        ("outer/root", "outer-shown", true),
        ("root", "fine-shown/new", false),
        ("shown", "fine", false),
        ("inner", "root/new", false),
    ] {
        let mut out = Vec::new();
        let old = Dir::open_named(&at(root)).expect("root");
        Destination::look(&at(target)).expect("look").check(&old, &mut out).expect("checked");
        let inside = |f: &Finding| f.id == "N01" && f.message.contains("inside");
        assert_eq!(out.iter().any(inside), blocks, "--root {root} --target {target}: {out:?}");
    }
}

#[test]
fn an_edited_plan_is_refused() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let file = store.beside.join("a.plan");
    let name = file.to_str().expect("UTF-8");
    store.unaufs(&["plan", "-q", "--out", name]).exits(0);
    let mut plan: Value = serde_json::from_slice(&fs::read(&file).expect("a plan")).expect("JSON");
    plan["images"].as_array_mut().expect("images").truncate(1);
    fs::write(&file, plan.to_string()).expect("a plan");
    let ran = store.unaufs(&["migrate", name, "--yes", "-q"]).exits(2);
    assert!(ran.stderr.contains("was edited") && ran.stderr.contains("--exclude"), "{}", ran.stderr);
    assert!(!store.root.join(".unaufs").exists(), "nothing was begun");
}

#[test]
fn no_archive_is_written_to_a_closed_stdout() {
    if !real::able() || !needs::root() {
        return;
    }
    let store: Store = real::small().unpack();
    let sh = |end: &str| {
        let script = format!("exec \"$0\" --root \"$1\" {end}");
        let args = ["-c", &script, env!("CARGO_BIN_EXE_unaufs"), store.root.to_str().expect("UTF-8")];
        Ran::of(Command::new("sh").args(args).output().expect("sh"))
    };
    for command in ["export --all -o -", "cp c-changes:/etc -"] {
        let ran = sh(&format!("{command} >&-")).exits(2);
        assert!(ran.stderr.contains("stdout is closed"), "{}", ran.stderr);
    }
    sh("cp c-changes:/etc - >/dev/null").exits(0);
}
