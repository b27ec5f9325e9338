//! Roots as they are found after power cuts, half upgrades and other drivers: what is whole moves, the rest is named.

use crate::support::needs;
use crate::support::private::{self, this_test};
use crate::support::real::{self, Store, same, tree, tree_linked};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use unaufs::checks::Finding;
use unaufs::disk::Dir;
use unaufs::store::{self, Container};

/// Reads a root that holds a store.
fn read(root: &Path) -> (store::Store, Vec<Finding>) {
    store::open(&Dir::open_named(root).expect("root")).expect("a store")
}

/// A container by its name.
fn container<'a>(store: &'a store::Store, name: &str) -> &'a Container {
    store.containers.values().find(|c| c.name == name).unwrap_or_else(|| panic!("no container {name}"))
}

fn folder(root: &Path, name: &str) -> PathBuf {
    root.join("containers").join(container(&read(root).0, name).id.as_str())
}

/// The driver's list of a container's own layer, or of its init layer.
fn list(root: &Path, name: &str, init: bool) -> PathBuf {
    let (store, _) = read(root);
    let c = container(&store, name);
    let layer = if init { &c.init } else { &c.layer };
    root.join("aufs/layers").join(layer.as_ref().expect("a layer").as_str())
}

fn said<'a>(findings: &'a [Finding], id: &str) -> Vec<&'a Finding> {
    findings.iter().filter(|f| f.id == id).collect()
}

/// What is below each container.
fn stacks(store: &store::Store) -> BTreeMap<String, Vec<String>> {
    let of = |c: &Container| {
        let own = [&c.init, &c.layer].into_iter().flatten();
        own.flat_map(|l| store.layers[l].lowers.iter().map(|l| l.to_string())).collect()
    };
    store.containers.values().map(|c| (c.name.clone(), of(c))).collect()
}

type Edit = fn(&str) -> Vec<u8>;

fn cut_lines(text: &str) -> Vec<u8> {
    let lines: Vec<&str> = text.lines().collect();
    lines[..lines.len() - 1].iter().flat_map(|l| format!("{l}\n").into_bytes()).collect()
}

/// Item by item what a hard reset leaves of a list.
const CUTS: [(&str, Edit); 5] = [
    ("empty", |_| Vec::new()),
    ("without its last line", cut_lines),
    ("cut inside an id", |t| t.as_bytes()[..t.len() - 30].to_vec()),
    ("cut inside the first id", |t| t.as_bytes()[..20].to_vec()),
    ("NUL bytes", |t| vec![0; t.len()]),
];

#[test]
fn lists_that_a_crash_cut_are_repaired() {
    for packed in [real::small(), real::graph()] {
        let root = packed.unpack();
        let (whole, _) = read(&root.root);
        let before = stacks(&whole);
        let names: Vec<String> =
            whole.containers.values().filter(|c| c.broken.is_none()).map(|c| c.name.clone()).take(CUTS.len()).collect();
        let own: Vec<PathBuf> = names.iter().map(|n| list(&root.root, n, false)).collect();
        let init: Vec<PathBuf> = names.iter().map(|n| list(&root.root, n, true)).collect();
        for ((what, cut), (own, init)) in CUTS.iter().zip(own.iter().zip(&init)) {
            for path in [own, init] {
                let text = fs::read_to_string(path).expect("a list");
                fs::write(path, cut(&text)).expect("a list");
                let (store, findings) = read(&root.root);
                assert_eq!(stacks(&store), before, "{}: {what}", packed.name);
                let named = said(&findings, "C05");
                assert!(!named.is_empty(), "{}: {what} is not named: {findings:?}", packed.name);
                if path == own {
                    assert!(
                        named.iter().any(|f| f.effect.as_deref().is_some_and(|e| e.contains("repaired"))),
                        "{named:?}"
                    );
                }
                fs::write(path, &text).expect("a list");
            }
            // all at once, for the migration
            fs::write(own, cut(&fs::read_to_string(own).expect("a list"))).expect("a list");
        }
        if real::able() {
            root.unaufs(&["migrate", "--yes", "-q"]).exits(0);
            root.judged("views", &root.root, "overlay2");
        }
    }
}

#[test]
fn lists_that_contradict_leave_the_container_behind() {
    let edits: [(&str, Edit); 4] = [
        ("two lines exchanged", |t| {
            let mut lines: Vec<&str> = t.lines().collect();
            let last = lines.len() - 1;
            lines.swap(last, last - 1);
            lines.join("\n").into_bytes()
        }),
        ("the middle is missing", |t| {
            let mut lines: Vec<&str> = t.lines().collect();
            lines.remove(1);
            lines.join("\n").into_bytes()
        }),
        ("a layer more", |t| format!("{t}{}\n", "f".repeat(64)).into_bytes()),
        ("it isn't text", |t| [b"\xff\n", t.as_bytes()].concat()),
    ];
    for packed in [real::small(), real::graph()] {
        let root = packed.unpack();
        let path = list(&root.root, "c-priv", false);
        let text = fs::read_to_string(&path).expect("a list");
        for (what, edit) in edits {
            fs::write(&path, edit(&text)).expect("a list");
            let (store, findings) = read(&root.root);
            assert!(container(&store, "c-priv").broken.is_some(), "{}: {what}", packed.name);
            assert!(said(&findings, "C04").iter().any(|f| f.message.contains("aufs/layers")), "{what}: {findings:?}");
            assert_eq!(store.containers.values().filter(|c| c.broken.is_some()).count(), 1, "{what}");
        }
    }
}

#[test]
fn what_docker_cannot_load_stays_behind_and_docker_starts() {
    for packed in [real::small(), real::graph()] {
        let store = packed.unpack();
        let folders: Vec<PathBuf> =
            ["c-failed", "c-priv", "c-changes", "c-user", "c-vol"].map(|n| folder(&store.root, n)).into();
        for (folder, text) in
            folders.iter().zip(["", "{\"Binds\":null,\"Cont", "{\"Memory\":\"x\"}", "null", "\0\0\0\0"])
        {
            fs::write(folder.join("hostconfig.json"), text).expect("a file");
        }
        let (read, findings) = read(&store.root);
        let broken: Vec<&str> = read.containers.values().filter(|c| c.broken.is_some()).map(|c| &*c.name).collect();
        assert_eq!(broken.len(), 5, "{}: {broken:?}", packed.name);
        assert_eq!(said(&findings, "C01").len(), 5);
        let crashing: Vec<&str> = read.containers.values().filter(|c| c.crashes_docker).map(|c| &*c.name).collect();
        assert_eq!(crashing, ["c-user"]);
        if !real::able() {
            continue;
        }
        let before = tree(&store.root);
        let ran = store.unaufs(&["migrate", "--yes", "--mode", "copy"]).exits(3);
        assert!(ran.stdout.contains("c-failed") && ran.stdout.contains("the file is empty"), "{}", ran.stdout);
        // dockerd would crash on it
        assert!(
            !folders[3].exists() && folders[0].exists(),
            "the container of the null is set aside, and no other one"
        );
        let copy = store.copy("in-use");
        store.judged("use", &copy, "overlay2");
        fs::remove_dir_all(copy).expect("gone");
        store.unaufs(&["rollback", "--drop-new", "--yes", "-q"]).exits(0);
        same("rollback", &before, &tree(&store.root));
    }
}

#[test]
fn configurations_are_judged_before_they_count() {
    for packed in [real::small(), real::graph()] {
        let store = packed.unpack();
        let folder = folder(&store.root, "c-cp");
        let file = ["config.v2.json", "config.json"].map(|f| folder.join(f)).into_iter().find(|f| f.exists());
        let file = file.expect("a configuration");
        let whole = fs::read_to_string(&file).expect("a file");
        let with = |member: &str| whole.replacen('{', &format!("{{{member},"), 1);
        let without = |key: &str| whole.replacen(&format!("\"{key}\":"), "\"Other\":", 1);
        for (what, text, loads, crashes) in [
            ("cut", whole[..whole.len() / 2].to_owned(), false, false),
            ("empty", String::new(), false, false),
            ("null", "null".to_owned(), false, false),
            (
                "another type",
                with("\"RestartCountX\":1").replacen("\"Path\":\"", "\"Path\":[],\"PathX\":\"", 1),
                false,
                false,
            ),
            ("no Config", without("Config"), false, true),
            ("text after it", format!("{whole}\n{{}}"), true, false),
            ("a second key", with("\"driver\":\"devicemapper\""), true, false),
        ] {
            fs::write(&file, text).expect("a file");
            let (read, findings) = read(&store.root);
            let id = folder.file_name().expect("a name").to_str().expect("text");
            let c = read.containers.values().find(|c| c.id.as_str() == id).expect("it");
            assert_eq!(c.broken.is_none(), loads, "{}: {what}: {findings:?}", packed.name);
            assert_eq!(c.crashes_docker, crashes, "{what}");
            assert!(!c.foreign, "{what}");
        }
        fs::write(&file, &whole).expect("a file");
    }
}

/// A root of 1.9 that Docker 1.10 to 18.09 has converted, and an image removed since: what unaufs makes of the root is what Docker made.
fn converted(root: &Store) -> usize {
    let plan = root.unaufs(&["plan", "--json"]).exits(0).stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    let copy = root.copy("converted");
    real::unaufs(&copy, &["migrate", "--mode", "copy", "--yes", "-q"]).exits(0);
    let cp = |from: PathBuf, to: PathBuf| {
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp").success());
    };
    fs::create_dir_all(root.root.join("image")).expect("mkdir");
    cp(copy.join("image/overlay2"), root.root.join("image/aufs"));
    for c in fs::read_dir(copy.join("containers")).expect("containers").flatten() {
        let text = fs::read_to_string(c.path().join("config.v2.json")).expect("a configuration");
        let text = text.replace("\"Driver\":\"overlay2\"", "\"Driver\":\"aufs\"");
        fs::write(root.root.join("containers").join(c.file_name()).join("config.v2.json"), text).expect("a file");
    }
    let images = plan["images"].as_array().expect("images");
    let done: serde_json::Map<String, serde_json::Value> =
        images.iter().filter_map(|i| Some((i["old_id"].as_str()?.to_owned(), i["id"].clone()))).collect();
    fs::write(root.root.join(".migration-v1-images.json"), serde_json::json!(done).to_string()).expect("a file");
    fs::write(root.root.join(".migration-v1-tags"), "").expect("a file");
    fs::remove_dir_all(copy).expect("gone");
    // docker rmi of one that no other image and no container has
    let gone = images
        .iter()
        .find(|i| i["tags"][0] == "demo/dang:1" || i["tags"][0].as_str().is_some_and(|t| t.starts_with("demo/dang")));
    let id = gone.expect("an image")["id"].as_str().expect("id").trim_start_matches("sha256:").to_owned();
    fs::remove_file(root.root.join("image/aufs/imagedb/content/sha256").join(&id)).expect("an image");
    let metadata = root.root.join("image/aufs/imagedb/metadata/sha256").join(&id);
    assert!(!metadata.exists() || fs::remove_dir_all(metadata).is_ok());
    let tags = root.root.join("image/aufs/repositories.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&tags).expect("tags")).expect("JSON");
    for refs in json["Repositories"].as_object_mut().expect("an object").values_mut() {
        refs.as_object_mut().expect("an object").retain(|_, i| !i.as_str().is_some_and(|i| i.ends_with(&id)));
    }
    fs::write(&tags, json.to_string()).expect("tags");
    fs::read_dir(root.root.join("image/aufs/imagedb/content/sha256")).expect("images").count()
}

#[test]
fn what_a_newer_docker_converted_is_done() {
    if !needs::root() {
        return;
    }
    let root = real::graph().unpack();
    let images = converted(&root);
    let plan = root.unaufs(&["plan", "--json"]).exits(0).stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    assert_eq!(plan["images"].as_array().map(Vec::len), Some(images));
    assert_eq!(plan["left_behind"].as_array().map(Vec::len), Some(0), "{}", plan["left_behind"]);
    assert_eq!(plan["generation"], "content");
    let copy = root.copy("moved");
    real::unaufs(&copy, &["migrate", "--yes", "-q"]).exits(0);
    assert_eq!(fs::read_dir(copy.join("image/overlay2/imagedb/content/sha256")).expect("images").count(), images);
    real::unaufs(&copy, &["verify", "-q"]).exits(0);
    // a container that the upgrade did not reach: its config.json is converted, and nothing else comes back
    let folder = folder(&root.root, "c-priv");
    fs::write(folder.join("config.v2.json"), "").expect("a file");
    let (store, findings) = read(&root.root);
    assert!(container(&store, "c-priv").broken.is_none(), "{findings:?}");
    assert!(store.images.values().all(|i| i.broken.is_none()) && store.images.len() == images);
    fs::remove_dir_all(root.root.join("graph")).expect("graph");
    let (store, findings) = read(&root.root);
    assert!(container(&store, "c-priv").broken.is_none(), "without graph/: {findings:?}");
    assert_eq!(store.images.len(), images);
    // a mapping that was cut says what it says
    let mapping = root.root.join(".migration-v1-images.json");
    let text = fs::read_to_string(&mapping).expect("a file");
    fs::write(&mapping, &text[..text.len() / 2]).expect("a file");
    assert!(!said(&read(&root.root).1, "D10").is_empty());
}

#[test]
fn an_upgrade_that_was_killed_is_finished_from_the_old_configuration() {
    for text in ["", "{\"ID\":\"", "null", "\0\0"] {
        let root = real::graph().unpack();
        let folder = folder(&root.root, "c-priv");
        fs::write(folder.join("config.v2.json"), text).expect("a file");
        let (store, findings) = read(&root.root);
        let c = container(&store, "c-priv");
        assert!(c.broken.is_none(), "{text:?}: {findings:?}");
        assert!(said(&findings, "C05").iter().any(|f| f.message.contains("config.json")), "{findings:?}");
    }
}

#[test]
fn two_containers_of_one_name_are_told_apart() {
    for packed in [real::small(), real::graph()] {
        let root = packed.unpack();
        let folder = folder(&root.root, "c-cp");
        let file = ["config.v2.json", "config.json"].map(|f| folder.join(f)).into_iter().find(|f| f.exists());
        let file = file.expect("a configuration");
        let text = fs::read_to_string(&file).expect("a file");
        fs::write(&file, text.replace("\"Name\":\"/c-cp\"", "\"Name\":\"/c-priv\"")).expect("a file");
        let (store, findings) = read(&root.root);
        let names: std::collections::BTreeSet<&str> = store.containers.values().map(|c| &*c.name).collect();
        assert_eq!(names.len(), store.containers.len(), "{}: {names:?}", packed.name);
        assert!(
            said(&findings, "G09").iter().any(|f| f.effect.as_deref().is_some_and(|e| e.contains("its new name is")))
        );
    }
}

#[test]
fn lost_tags_are_named_last_and_count() {
    if !needs::root() {
        return;
    }
    for (packed, file) in [(real::small(), "image/aufs/repositories.json"), (real::graph(), "repositories-aufs")] {
        let root = packed.unpack();
        let whole = fs::read(root.root.join(file)).expect("tags");
        let all: usize = read(&root.root).0.images.values().map(|i| i.tags.len() + i.digests.len()).sum();
        for (what, text, some) in [
            ("empty", vec![], false),
            ("cut", whole[..whole.len() / 2].to_vec(), true),
            ("NUL bytes at its end", [&whole[..whole.len() / 2], &[0; 100]].concat(), true),
            ("wrong type", b"[]".to_vec(), false),
        ] {
            fs::write(root.root.join(file), text).expect("tags");
            let (store, findings) = read(&root.root);
            let kept: usize = store.images.values().map(|i| i.tags.len() + i.digests.len()).sum();
            assert_eq!(kept > 0, some, "{}: {what}", packed.name);
            assert!(kept < all, "{what}");
            assert_eq!((store.lost.len(), said(&findings, "D10").len()), (1, 1), "{what}");
        }
        fs::write(root.root.join(file), "").expect("tags");
        let ran = root.unaufs(&["migrate", "--yes", "--progress", "none"]).exits(3);
        let last = ran.stdout.lines().last().expect("a line");
        assert!(last.contains("Tags are lost"), "{}: the last line is {last}", packed.name);
    }
}

#[test]
fn a_store_that_is_gone_is_told_from_one_that_never_was() {
    let sh = |script: &str, at: &Path| {
        assert!(Command::new("sh").args(["-euc", script]).current_dir(at).status().expect("sh").success(), "{script}");
    };
    for (script, there) in [
        ("rm -r aufs", "aufs is missing"),
        ("rm -r aufs; mkdir aufs", "aufs is an empty directory"),
        ("rm -r aufs/diff; mkdir aufs/diff", "aufs/diff holds no layer"),
    ] {
        let root = real::small().unpack();
        sh(script, &root.root);
        let ran = root.unaufs(&["plan"]).exits(10);
        assert!(ran.stderr.contains(there) && ran.stderr.contains("no tool can bring"), "{}", ran.stderr);
        assert!(ran.stderr.contains("13 containers") && ran.stderr.contains("30 images"), "{}", ran.stderr);
    }
    let graph = real::graph().unpack();
    sh("rm -r aufs", &graph.root);
    assert!(graph.unaufs(&["plan"]).exits(10).stderr.contains("the layers are gone"));
    let root = real::small().unpack();
    let shown = root.root.canonicalize().expect("a path").display().to_string();
    for near in [root.root.parent().expect("above"), &root.root.join("aufs"), &root.root.join("image")] {
        let said = real::unaufs(near, &["plan"]).exits(10).stderr;
        assert!(said.contains(&format!("--root {shown}")), "{}: {said}", near.display());
    }
    // only Docker's configuration knows where it is
    let empty = root.beside.join("empty/empty");
    fs::create_dir_all(&empty).expect("mkdir");
    let config = root.beside.join("daemon.json");
    fs::write(&config, format!("{{\"data-root\":\"{shown}\"}}")).expect("a file");
    let said = real::unaufs(&empty, &["plan", "--docker-config", config.to_str().expect("text")]).exits(10).stderr;
    assert!(said.contains(&format!("--root {shown}")), "{said}");
}

#[test]
fn records_of_layerdb_are_repaired_from_the_images() {
    if !needs::root() {
        return;
    }
    let root = real::small().unpack();
    let before = stacks(&read(&root.root).0);
    let records = root.root.join("image/aufs/layerdb/sha256");
    let mut with_parent: Vec<PathBuf> = fs::read_dir(&records)
        .expect("records")
        .map(|e| e.expect("entry").path())
        .filter(|p| p.join("parent").exists())
        .collect();
    with_parent.sort();
    let damaged: Vec<PathBuf> = with_parent.iter().take(3).cloned().collect();
    fs::write(damaged[0].join("diff"), "").expect("a file");
    fs::write(damaged[1].join("parent"), "").expect("a file");
    fs::write(damaged[2].join("diff"), "sha256:12").expect("a file");
    fs::remove_file(damaged[2].join("parent")).expect("a file");
    let (store, findings) = read(&root.root);
    assert_eq!(stacks(&store), before);
    assert_eq!(said(&findings, "D14").len(), 3, "{findings:?}");
    assert!(store.images.values().all(|i| i.broken.is_none()));
    // a mount record that lost its parent
    let mount = root.root.join("image/aufs/layerdb/mounts").join(folder(&root.root, "c-priv").file_name().expect("id"));
    fs::write(mount.join("parent"), "").expect("a file");
    assert_eq!(stacks(&read(&root.root).0), before);
    root.unaufs(&["migrate", "--yes", "-q"]).exits(0);
    if real::able() {
        root.judged("views", &root.root, "overlay2");
        root.judged("docker", &root.copy("in-use"), "overlay2");
    }
}

#[test]
fn one_damaged_layer_is_one_line() {
    if !needs::root() {
        return;
    }
    let root = real::small().unpack();
    let (store, _) = read(&root.root);
    // the layer on which the most containers are based
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    for c in store.containers.values() {
        let lowers = c.layer.iter().flat_map(|l| &store.layers[l].lowers).filter(|l| store.layers[*l].chain.is_some());
        lowers.for_each(|l| *users.entry(l.to_string()).or_default() += 1);
    }
    let (base, held) = users.iter().max_by_key(|(_, n)| **n).map(|(l, n)| (l.clone(), *n)).expect("a layer");
    fs::remove_dir_all(root.root.join("aufs/diff").join(&base)).expect("a layer");
    let doc = root.unaufs(&["plan", "--json"]).exits(0).stdout;
    let doc: serde_json::Value = serde_json::from_str(&doc).expect("JSON");
    let damage = doc["damage"].as_array().expect("damage");
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!(damage[0]["kind"], "layer");
    assert_eq!(damage[0]["containers"].as_array().map(Vec::len), Some(held));
    assert_eq!(damage[0]["causes"].as_array().map(Vec::len), Some(1), "{damage:?}");
    assert!(damage[0]["tags"].as_u64() > Some(0) && damage[0]["images"].as_array().map(Vec::len) > Some(0));
    let text = root.unaufs(&["plan"]).exits(0).stdout;
    let sentence = format!("1 damaged layer (its directory in aufs/diff is missing) holds back {held} containers (");
    assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(&sentence), "{text}");
    let page = root.beside.join("plan.html");
    root.unaufs(&["plan", "--html", page.to_str().expect("text")]).exits(0);
    let page = fs::read_to_string(page).expect("a page");
    assert!(page.contains("1 damaged layer"), "the page has the same sentence");
    root.unaufs(&["migrate", "--yes", "-q"]).exits(3);
}

#[test]
fn aufs_bound_onto_itself_needs_one_umount() {
    if !needs::root() || private::elsewhere(this_test!()) {
        return;
    }
    let root = real::small().unpack();
    let aufs = root.root.join("aufs");
    let run =
        |program: &str, args: &[&Path]| assert!(Command::new(program).args(args).status().expect(program).success());
    run("mount", &[Path::new("--bind"), &aufs, &aufs]);
    let ran = root.unaufs(&["plan"]).exits(4);
    run("umount", &[&aufs]);
    assert!(ran.stderr.contains("mounted onto itself") && ran.stderr.contains("umount "), "{}", ran.stderr);
    assert!(!ran.stderr.contains("cp -a"), "{}", ran.stderr);
    // another directory there is another matter
    let other = root.beside.join("other");
    fs::create_dir_all(other.join("diff")).expect("mkdir");
    run("mount", &[Path::new("--bind"), &other, &aufs]);
    let ran = root.unaufs(&["plan"]);
    run("umount", &[&aufs]);
    assert!(ran.exits(4).stderr.contains("is a mount point"));
}

#[test]
fn files_below_mount_points_are_named_before_they_go() {
    if !needs::root() {
        return;
    }
    let root = real::small().unpack();
    let all = fs::read_dir(root.root.join("aufs/mnt")).expect("mnt").flatten().map(|e| e.path());
    let mnt = all.min().expect("a mount point");
    fs::create_dir_all(mnt.join("var/lib/db")).expect("mkdir");
    fs::write(mnt.join("var/lib/db/x"), "data").expect("a file");
    let plan = root.unaufs(&["plan"]).exits(0).stdout;
    // wherever a line was wrapped
    let flat = plan.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("D13") && flat.contains("it contains files: var"), "{plan}");
    root.unaufs(&["migrate", "--yes", "-q"]).exits(0);
    let said = root.unaufs(&["cleanup", "--yes"]).exits(0).stdout;
    let name = mnt.file_name().expect("a name").to_str().expect("text");
    // by the short id, with the name that people know
    assert!(said.contains(&format!("aufs/mnt/{} (", &name[..12])) && said.contains("): var"), "{said}");
    assert!(!said.contains(name), "{said}");
}

#[test]
fn directories_without_records_clash_with_nothing() {
    if !needs::root() {
        return;
    }
    for (made, to) in [("overlay2/check-overlayfs-support123/lower", "overlay2"), ("vfs/dir/0123/data", "vfs")] {
        let root = real::small().unpack();
        let tags: usize = read(&root.root).0.images.values().map(|i| i.tags.len() + i.digests.len()).sum();
        fs::create_dir_all(root.root.join(made)).expect("mkdir");
        let doc = root.unaufs(&["plan", "--json", "--to", to]).stdout;
        let doc: serde_json::Value = serde_json::from_str(&doc).expect("JSON");
        assert_eq!(doc["summary"]["tags"], tags, "{made}: {}", doc["left_behind"]);
        root.unaufs(&["migrate", "--yes", "-q", "--to", to]).exits(0);
        assert!(root.root.join(made).exists(), "{made} stays");
    }
}

#[test]
fn a_cache_id_cannot_take_the_place_of_the_short_names() {
    if !needs::root() {
        return;
    }
    let root = real::small().unpack();
    let records = root.root.join("image/aufs/layerdb/sha256");
    let (store, _) = read(&root.root);
    let used: Vec<&str> = store.images.values().flat_map(|i| i.layers.iter().map(|l| l.as_str())).collect();
    let path = fs::read_dir(records).expect("records").flatten().map(|e| e.path());
    let id = |p: &Path| fs::read_to_string(p.join("cache-id")).expect("a cache id");
    // one with little above it
    let record = path.min_by_key(|p| used.iter().filter(|u| **u == id(p)).count()).expect("a record");
    let was = id(&record);
    fs::write(record.join("cache-id"), "l").expect("a file");
    fs::rename(root.root.join("aufs/diff").join(was), root.root.join("aufs/diff/l")).expect("a rename");
    root.unaufs(&["migrate", "--yes", "-q"]).exits(3);
    assert!(fs::read_dir(root.root.join("overlay2/l")).expect("short names").flatten().all(|e| e.path().is_symlink()));
}

#[test]
fn symlinks_and_old_volumes_lead_to_the_same_place_from_a_new_root() {
    if !needs::root() {
        return;
    }
    let root = real::small().unpack();
    let old = root.beside.join("a/docker");
    fs::create_dir_all(root.beside.join("a")).expect("mkdir");
    fs::create_dir_all(root.beside.join("b/c")).expect("mkdir");
    fs::rename(&root.root, &old).expect("a rename");
    fs::rename(old.join("volumes"), root.beside.join("a/vols")).expect("a rename");
    std::os::unix::fs::symlink("../vols", old.join("volumes")).expect("a symlink");
    let new = root.beside.join("b/c/docker");
    let before = tree_linked(&old);
    real::unaufs(&old, &["--target", new.to_str().expect("text"), "migrate", "--yes", "-q"]).exits(0);
    let led = |at: &Path| at.join("volumes").canonicalize().expect("a directory");
    assert_eq!(led(&new), led(&old));
    real::unaufs(&old, &["--target", new.to_str().expect("text"), "verify", "-q"]).exits(0);
    same("the old root", &before, &tree_linked(&old));

    // a volume from before 1.7 that Docker 1.7 took over, and a container that mounts it
    let root = real::graph().unpack();
    let id = "ab".repeat(32);
    fs::create_dir_all(root.root.join("vfs/dir").join(&id)).expect("mkdir");
    fs::write(root.root.join("vfs/dir").join(&id).join("x"), "x").expect("a file");
    fs::create_dir_all(root.root.join("volumes").join(&id)).expect("mkdir");
    let data = root.root.join("volumes").join(&id).join("_data");
    std::os::unix::fs::symlink(format!("/var/lib/docker/vfs/dir/{id}"), &data).expect("a symlink");
    let folder = folder(&root.root, "c-priv");
    let text = fs::read_to_string(folder.join("config.json")).expect("a file");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config["MountPoints"] = serde_json::json!({});
    let source = root.root.canonicalize().expect("a path").join("vfs/dir").join(&id);
    config["Volumes"] = serde_json::json!({"/data": source});
    fs::write(folder.join("config.json"), config.to_string()).expect("a file");
    let new = root.beside.join("new");
    root.unaufs(&["--target", new.to_str().expect("text"), "migrate", "--yes", "-q"]).exits(0);
    let new = new.canonicalize().expect("a path");
    let moved = new.join("vfs/dir").join(&id);
    assert_eq!(fs::read_link(new.join("volumes").join(&id).join("_data")).expect("a symlink"), moved);
    let config = fs::read(new.join("containers").join(folder.file_name().expect("id")).join("config.v2.json"));
    let config: serde_json::Value = serde_json::from_slice(&config.expect("a file")).expect("JSON");
    assert_eq!(config["MountPoints"]["/data"]["Source"], moved.to_str().expect("text"));
    assert_eq!(fs::read(moved.join("x")).expect("a file"), b"x");
}

#[test]
fn docker_is_foretold_next_to_another_drivers_directory() {
    if !real::able() {
        return;
    }
    let version = Command::new("/usr/sbin/dockerd").arg("--version").output().expect("dockerd").stdout;
    if !String::from_utf8_lossy(&version).contains("20.10") {
        return needs::cannot_run("this asks for dockerd 20.10");
    }
    let root = real::small().unpack();
    fs::create_dir_all(root.root.join("devicemapper/devicemapper")).expect("mkdir");
    fs::write(root.root.join("devicemapper/devicemapper/data"), "x").expect("a file");
    let plan = root.unaufs(&["plan"]).exits(0).stdout;
    assert!(plan.contains("T11") && plan.contains("storage-driver"), "{plan}");
    let said = root.unaufs(&["migrate", "--yes", "--progress", "none"]).exits(0).stdout;
    assert!(said.contains("doesn't start here") && !said.contains("Docker will start on"), "{said}");
    let status = || root.unaufs(&["status", "--json"]).exits(0).stdout;
    assert!(status().contains("Docker 20.10 doesn't start here"), "{}", status());
    fs::remove_dir_all(root.root.join("devicemapper")).expect("rm");
    assert!(status().contains("Docker may be started; it runs on overlay2"), "{}", status());
}
