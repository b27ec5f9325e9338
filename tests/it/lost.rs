//! What the old store had and no file has any more: it is named, and counts as lost, while the object itself moves.

use crate::checks::bed::Bed;
use crate::checks::store::WEB;
use crate::graph_damaged::{Root, change, convert, id, links, named};
use crate::support::{needs, real};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use unaufs::checks::{self, Finding};
use unaufs::disk::Dir;
use unaufs::docker::driver::WrittenBy;
use unaufs::plan::{Options, Plan, make};
use unaufs::progress::Hidden;
use unaufs::store::{Content, Generation};
use unaufs::tar::split::{Crc64, Packer};
use unaufs::verify::{Level, alone};

fn plan(root: &Path) -> Plan {
    let options: Options =
        serde_json::from_value(serde_json::json!({"to": "overlay2", "mode": "auto"})).expect("options");
    make::make(&Dir::open_named(root).expect("root"), &options, &Default::default(), &Hidden).expect("a plan")
}

/// What counts: the kind of each loss, and the sentence that sums it up.
fn lost(p: &Plan) -> Vec<(&str, String)> {
    assert_eq!(p.partial(), !p.damage.is_empty(), "exit 3 if anything counts");
    p.damage.iter().map(|d| (d.kind.as_str(), d.sentence())).collect()
}

fn said<'a>(p: &'a Plan, id: &str) -> Vec<&'a Finding> {
    p.checks.iter().filter(|f| f.id == id && f.level > checks::Level::Ok).collect()
}

#[test]
fn the_settings_of_a_container_without_hostconfig_json() {
    let graph = Root::usual();
    graph.container(0xd, "db", 1, &[]);
    links(&graph, false);
    fs::remove_file(graph.path(format!("containers/{}/hostconfig.json", id(0xc)))).expect("rm");
    let p = plan(&graph.path(""));
    let sentence = "The settings of 1 container are lost (web): hostconfig.json is missing";
    assert_eq!(lost(&p), [("settings", sentence.to_owned())]);
    assert_eq!((said(&p, "C06").len(), p.containers.len()), (1, 2), "it still moves");
    let host = p.containers.iter().flat_map(|c| &c.files).find_map(|f| match &f.content {
        Content::Text(text) if f.path == "hostconfig.json" => Some(text.as_str()),
        _ => None,
    });
    assert!(host.is_some_and(|text| text.contains(r#""Links":["/db:store"]"#)), "its links were elsewhere: {host:?}");
    let verified =
        alone::verify(&Dir::open_named(&graph.path("")).expect("root"), WrittenBy::Aufs, Level::Fast, &Hidden);
    let differences = verified.expect("verified").differences;
    assert!(differences.iter().any(|d| d.name == "web" && d.what.contains("hostconfig.json")), "{differences:?}");

    // a container that stays has lost nothing
    fs::remove_dir_all(graph.path(format!("aufs/diff/{}", id(0xc)))).expect("rm");
    let p = plan(&graph.path(""));
    assert!(lost(&p).iter().all(|(kind, _)| *kind == "container") && said(&p, "C06").is_empty());

    if needs::root() {
        let content = Bed::content();
        content.remove(&format!("containers/{WEB}/hostconfig.json"));
        let p = content.plan();
        assert_eq!(lost(&p), [("settings", sentence.to_owned())]);
        assert_eq!(p.containers.len(), 1);
    }
}

#[test]
fn containers_of_which_only_the_layer_is_left() {
    let only = |p: &Plan, why: &str| {
        assert_eq!(lost(p).len(), 1, "{:?}", p.damage);
        let all: Vec<_> = p.left_behind.iter().filter(|l| l.kind == "container" && l.counts).collect();
        assert!(all.len() == 1 && all[0].reason.contains(why), "{all:?}");
        assert_eq!(said(p, "D05"), [] as [&Finding; 0]);
    };
    let (directory, c) = (format!("containers/{}", id(0xc)), id(0xc));
    let graph = Root::usual();
    graph.write(format!("aufs/diff/{c}/data"), "x");
    assert_eq!(lost(&plan(&graph.path(""))), []);
    fs::rename(graph.path(&directory), graph.path("elsewhere")).expect("mv");
    let p = plan(&graph.path(""));
    only(&p, "nothing else of the container is left");
    assert_eq!(said(&p, "C07").len(), 1);
    std::os::unix::fs::symlink("../elsewhere", graph.path(&directory)).expect("a symlink");
    only(&plan(&graph.path("")), "is a symlink");
    fs::remove_file(graph.path(&directory)).expect("rm");
    graph.write(&directory, "");
    only(&plan(&graph.path("")), "isn't a directory");
    // Docker makes the layer before the directory
    fs::remove_file(graph.path(&directory)).expect("rm");
    fs::remove_dir_all(graph.path(format!("aufs/diff/{c}"))).expect("rm");
    fs::create_dir_all(graph.path(format!("aufs/diff/{c}/.wh..wh.plnk"))).expect("mkdir");
    assert_eq!(lost(&plan(&graph.path(""))), [], "a crash");

    if needs::root() {
        let content = Bed::content();
        content.remove(&format!("containers/{WEB}"));
        only(&content.plan(), "its directory in containers/ is missing");
        content.remove(&format!("image/aufs/layerdb/mounts/{WEB}"));
        only(&content.plan(), "nothing else of the container is left");
        // its record still names the layer of one whose configuration is damaged
        let damaged = Bed::content();
        damaged.write(&format!("containers/{WEB}/config.v2.json"), "");
        assert_eq!(said(&damaged.plan(), "D05"), [] as [&Finding; 0]);
    }
}

#[test]
fn an_image_of_which_only_the_metadata_is_left() {
    if !needs::root() {
        return;
    }
    let content = Bed::content();
    let file = |path: &str| format!("image/aufs/imagedb/{path}/sha256/{}", "e".repeat(64));
    content.write(&format!("{}/lastUpdated", file("metadata")), "2020-01-01T00:00:00Z");
    let p = content.plan();
    assert_eq!((lost(&p).len(), said(&p, "D03").len()), (1, 1), "{:?}", p.damage);
}

#[test]
fn tags_whose_file_is_missing() {
    let tags = |p: &Plan| p.images.iter().map(|i| i.tags.len()).sum::<usize>();
    let missing = |file: &str| [("tags", format!("Tags are lost: {file} (the file is missing)"))];
    let graph = Root::usual();
    let text = fs::read(graph.path("repositories-aufs")).expect("tags");
    fs::remove_file(graph.path("repositories-aufs")).expect("rm");
    let p = plan(&graph.path(""));
    assert_eq!((lost(&p), tags(&p), said(&p, "D10").len()), (missing("repositories-aufs").to_vec(), 0, 1));
    // before Docker 0.7
    graph.write("repositories", &text);
    let p = plan(&graph.path(""));
    assert_eq!((lost(&p), tags(&p)), (vec![], 2));
    fs::remove_file(graph.path("repositories")).expect("rm");
    for text in ["{}", r#"{"Repositories":{}}"#] {
        graph.write("repositories-aufs", text);
        assert_eq!(lost(&plan(&graph.path(""))), [], "{text}");
    }
    let nothing = Root::usual();
    for path in ["repositories-aufs", "graph", "containers", "aufs/diff", "aufs/layers"] {
        let path = nothing.path(path);
        if path.is_file() {
            fs::remove_file(path)
        } else {
            fs::remove_dir_all(&path).and_then(|()| fs::create_dir(path))
        }
        .expect("rm");
    }
    assert_eq!(lost(&plan(&nothing.path(""))), [], "without images there were no tags");

    if needs::root() {
        let content = Bed::content();
        content.remove("image/aufs/repositories.json");
        let p = content.plan();
        assert_eq!((lost(&p), tags(&p)), (missing("repositories.json").to_vec(), 0));
        content.write("image/aufs/repositories.json", "{}");
        assert_eq!(lost(&content.plan()), []);
    }
}

/// Docker 1.9 upgraded to 1.10: everything is converted, and its tags are marked so.
fn converted() -> Root {
    let root = Root::usual();
    root.container(0xd, "db", 1, &[]);
    links(&root, false);
    let (store, _) = root.read();
    convert(&root, &store, &[]);
    let dir = Dir::open_named(&root.path("")).expect("root");
    let write = |path: String, content: &Content| {
        let bytes = content.bytes(&dir, "aufs", 1 << 20).expect("read").expect("bytes");
        root.write(path, bytes);
    };
    for f in store.metadata.iter().filter(|f| f.container.is_some()) {
        write(format!("image/aufs/{}", f.path), &f.content);
    }
    for c in store.containers.values() {
        let config = c.files.iter().find(|f| f.name == "config.v2.json").expect("a configuration");
        write(format!("containers/{}/{}", c.id, config.name), &config.content);
    }
    let all = store
        .repositories
        .iter()
        .map(|(name, refs)| (name, refs.iter().map(|(r, id)| (r, id.to_string())).collect::<BTreeMap<_, _>>()));
    let repositories: BTreeMap<_, _> = all.collect();
    root.write("image/aufs/repositories.json", serde_json::json!({ "Repositories": repositories }).to_string());
    root.write(".migration-v1-tags", "");
    root
}

#[test]
fn tags_that_were_converted_into_a_file_that_is_gone() {
    let root = converted();
    let tags = |p: &Plan| p.images.iter().flat_map(|i| i.tags.clone()).collect::<std::collections::BTreeSet<String>>();
    let all = tags(&plan(&root.path("")));
    assert_eq!((lost(&plan(&root.path(""))), all.len()), (vec![], 2));
    fs::remove_file(root.path("image/aufs/repositories.json")).expect("rm");
    let p = plan(&root.path(""));
    let sentence = "Tags are lost: repositories.json (the file is missing)";
    assert_eq!((lost(&p), tags(&p)), (vec![("tags", sentence.to_owned())], all.clone()));
    // the way back to 1.9, without what 1.10 made
    fs::remove_dir_all(root.path("image")).expect("rm");
    let p = plan(&root.path(""));
    assert_eq!((lost(&p), tags(&p)), (vec![], all));
}

#[test]
fn tags_that_docker_refuses() {
    let root = Root::usual();
    let [a, b] = [id(3), id(9)];
    let with = |more: &str| {
        root.write("repositories-aufs", format!(r#"{{"Repositories":{{"app":{{"1":"{a}"}},{more}}}}}"#));
        let p = plan(&root.path(""));
        (lost(&p).into_iter().map(|(kind, text)| format!("{kind}: {text}")).collect::<Vec<_>>(), said(&p, "G03").len())
    };
    let (told, findings) = with(&format!(r#""UPPER/x":{{"1":"{b}","2":"{b}"}}"#));
    assert!(told[0].starts_with("repository: The tags of 1 repository are lost (UPPER/x): Docker doesn't"), "{told:?}");
    assert_eq!((told.len(), findings), (1, 1));
    let (told, findings) = with(&format!(r#""x":{{"bad tag!":"{b}","good":"{b}"}}"#));
    assert!(told[0].starts_with("tag: 1 tag can't be kept (x:bad tag!): Docker doesn't accept"), "{told:?}");
    assert_eq!((told.len(), findings), (1, 1));
    // one repository to Docker, and two images with one tag
    let (told, findings) = with(&format!(r#""library/app":{{"1":"{b}"}}"#));
    assert!(told[0].starts_with("tag: 1 tag can't be kept (library/app:1): image"), "{told:?}");
    assert_eq!((told.len(), findings), (1, 1));
    assert_eq!(with(&format!(r#""library/app":{{"1":"{a}"}}"#)), (vec![], 0), "the same image");
}

/// Docker 1.10 writes the tags, and converts the links after that: it was stopped between the two.
#[test]
fn links_that_no_newer_docker_has_converted() {
    let root = converted();
    let (store, findings) = root.read();
    assert_eq!(store.generation, Generation::Content);
    assert_eq!(change(&store, 0xc, "hostconfig.json", "Links").as_deref(), Some(r#"["/db:store"]"#));
    assert!(named(&findings, "G08", "web") && store.lost.is_empty(), "{findings:?}");
    assert_eq!(change(&store, 0xd, "hostconfig.json", "Links"), None);
    // [] is what Docker writes when it has converted them
    for links in ["[]", r#"["/x:y"]"#] {
        root.write(format!("containers/{}/hostconfig.json", id(0xc)), format!(r#"{{"Links":{links}}}"#));
        let (store, findings) = root.read();
        assert_eq!(change(&store, 0xc, "hostconfig.json", "Links"), None, "{links}");
        assert!(!named(&findings, "G08", "web"), "{findings:?}");
    }
    root.write(format!("containers/{}/hostconfig.json", id(0xc)), "{}");
    root.write("linkgraph.db", "");
    let (store, findings) = root.read();
    assert!(named(&findings, "G04", "it is empty") && store.lost.len() == 1, "{:?}", store.lost);
    // without one, nothing says that there were links
    fs::remove_file(root.path("linkgraph.db")).expect("rm");
    assert!(root.read().0.lost.is_empty());
}

#[test]
fn the_true_reason_comes_first() {
    let root = Root::usual();
    fs::remove_dir_all(root.path(format!("aufs/diff/{}-init", id(0xc)))).expect("rm");
    fs::remove_file(root.path(format!("aufs/layers/{}-init", id(0xc)))).expect("rm");
    let (store, findings) = root.read();
    let why = store.containers.values().find_map(|c| c.broken.clone()).expect("it stays");
    assert!(why.starts_with("the directory aufs/diff/00") && why.contains("-init is missing"), "{why}");
    assert!(named(&findings, "C04", "-init is missing"), "{findings:?}");

    // one damaged image is named by its tag, and so are those that are based on it
    let real = real::graph().unpack();
    let tags: serde_json::Value =
        serde_json::from_slice(&fs::read(real.root.join("repositories-aufs")).expect("tags")).expect("JSON");
    let short =
        |repository: &str, tag: &str| tags["Repositories"][repository][tag].as_str().expect("an id")[..12].to_owned();
    let (base, app) = (short("demo/base", "1"), short("demo/app", "2"));
    fs::write(
        real.root.join("graph").join(tags["Repositories"]["demo/base"]["1"].as_str().expect("an id")).join("json"),
        "{",
    )
    .expect("json");
    let p = plan(&real.root);
    let texts: Vec<String> = said(&p, "G01").iter().map(|f| format!("{}: {}", f.subject, f.message)).collect();
    let based = format!("image demo/app:2 ({app}): it is based on the damaged image demo/base:1 ({base})");
    assert!(texts.contains(&based), "{texts:?}");
    let own = format!("image demo/base:1 ({base}): its json can't be read");
    assert!(texts.iter().any(|t| t.starts_with(&own)), "{texts:?}");
    let told = lost(&p);
    assert!(told.len() == 1 && told[0].1.starts_with("1 damaged image (demo/base:1: its json"), "{told:?}");
    assert!(told[0].1.contains(&format!(" {} images (", texts.len() - 1)), "{told:?}");
}

#[test]
fn names_without_a_slash_and_second_names() {
    let root = Root::usual();
    let config = root.path(format!("containers/{}/config.json", id(0xc)));
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text.replace("\"/web\"", "\"web\"")).expect("a configuration");
    root.container(0xd, "db", 1, &[]);
    links(&root, false);
    let db = rusqlite::Connection::open(root.path("linkgraph.db")).expect("SQLite");
    db.execute("INSERT INTO edge VALUES (?1, '0', 'other')", [id(0xd)]).expect("SQL");
    drop(db);
    let (store, findings) = root.read();
    assert_eq!(change(&store, 0xc, "config.v2.json", "Name").as_deref(), Some(r#""/web""#));
    assert_eq!(change(&store, 0xd, "config.v2.json", "Name"), None);
    assert!(named(&findings, "G09", "web (") && named(&findings, "G09", "no slash"), "{findings:?}");
    let second = findings.iter().find(|f| f.message.contains("second name")).expect("a note");
    assert!(second.subject.name == "db" && second.message.ends_with(": other"), "{second:?}");
    assert_eq!((second.level, findings.iter().filter(|f| f.id == "G09").count()), (checks::Level::Info, 2));

    // both at once: another container has its name
    fs::write(&config, text.replace("\"/web\"", "\"db\"")).expect("a configuration");
    let (store, _) = root.read();
    let new: Vec<_> = [0xc, 0xd].iter().filter_map(|c| change(&store, *c, "config.v2.json", "Name")).collect();
    assert_eq!(new, [r#""/db""#, r#""/other""#]);
}

#[test]
fn a_time_that_no_docker_reads_is_damage() {
    if !needs::root() {
        return;
    }
    let bed = Bed::content();
    let layer = crate::checks::store::link(None, 0);
    let mut images = BTreeMap::new();
    for (more, sound) in [
        (r#""created":"2020-01-01T00:00:00Z""#, true),
        (r#""created":"2020-01-01T00:00:00.123456789+02:00","history":[{"created":"2020-01-01T00:00:00Z"},{}]"#, true),
        (r#""created":null,"history":[{"created":null}]"#, true),
        (r#""history":null"#, true),
        (r#""created":"not a time""#, false),
        (r#""CREATED":"2020-01-01""#, false),
        (r#""created":"""#, false),
        (r#""created":1577836800"#, false),
        (r#""created":"2020-01-01T00:00:00Z","history":[{"created":"yesterday"}]"#, false),
    ] {
        let rootfs = format!(r#""rootfs":{{"type":"layers","diff_ids":["{}"]}}"#, layer.diff);
        let config = format!(r#"{{"os":"linux",{more},{rootfs}}}"#);
        let id = crate::checks::store::hex(&config);
        bed.write(&format!("image/aufs/imagedb/content/sha256/{id}"), &config);
        images.insert(id, (more, sound));
    }
    let (store, findings) = unaufs::store::open(&Dir::open_named(&bed.root).expect("root")).expect("a store");
    for image in store.images.values() {
        let Some((more, sound)) = images.get(&image.id.hex()) else { continue };
        assert_eq!(image.broken.is_none(), *sound, "{more}: {:?}", image.broken);
    }
    assert!(named(&findings, "D03", "Docker can't read the time \"not a time\" in its config"), "{findings:?}");
    assert_eq!(
        (bed.plan().images.len(), lost(&bed.plan()).len()),
        (5, 5),
        "the sound ones move, each time is a reason"
    );
}

/// A record of files, as Docker 1.8 wrote it: names with their contents; a whiteout has none.
fn record(files: &[(&str, &str)]) -> Vec<u8> {
    let mut packer = Packer::new(Vec::new());
    packer.segment(b"[head]").expect("packed");
    for (name, content) in files {
        packer.file(name.as_bytes(), content.len() as u64, Crc64::of(content.as_bytes())).expect("packed");
    }
    packer.finish().expect("packed")
}

#[test]
fn a_layer_that_has_changed_since_docker_recorded_it() {
    let data = format!("graph/{}/tar-data.json.gz", id(3));
    let at = |root: &Root, name: &str| root.path(format!("aufs/diff/{}/{name}", id(3)));
    let verified = |root: &Root| {
        let dir = Dir::open_named(&root.path("")).expect("root");
        let report = alone::verify(&dir, WrittenBy::Aufs, Level::Fast, &Hidden).expect("verified");
        let why: Vec<String> = report.unprovable.into_iter().map(|u| u.reason).collect();
        (report.differences.iter().map(|d| d.id.clone()).collect::<Vec<_>>(), why.join("; "))
    };
    type Damage = fn(&Path);
    let damages: [(&str, Damage, &str); 6] = [
        ("removed", |f| fs::remove_file(f).expect("rm"), "/d/a: it is missing"),
        ("a byte", |f| fs::write(f, "hellO").expect("write"), "/d/a: its content has changed"),
        ("longer", |f| fs::write(f, "hello!").expect("write"), "/d/a: it has more than its 5 bytes"),
        (
            "a directory",
            |f| fs::remove_file(f).and_then(|()| fs::create_dir(f)).expect("mkdir"),
            "/d/a: it isn't a regular file",
        ),
        (
            "a named pipe",
            |f| {
                fs::remove_file(f).expect("rm");
                assert!(std::process::Command::new("mkfifo").arg(f).status().expect("mkfifo").success());
            },
            "/d/a: it isn't a regular file",
        ),
        (
            "a directory on the way",
            |f| fs::remove_dir_all(f.parent().expect("a directory")).expect("rm"),
            "/d/a: it is missing, /d/b: it is missing",
        ),
    ];
    for (what, damage, why) in damages {
        let root = Root::usual();
        root.write(at(&root, "d/a"), "hello");
        root.write(at(&root, "d/b"), "b");
        root.write(&data, record(&[("./d/a", "hello"), ("d/b", "b")]));
        let sound = plan(&root.path(""));
        assert_eq!((lost(&sound), said(&sound, "G06").len()), (vec![], 0), "{what}");
        damage(&at(&root, "d/a"));
        let p = plan(&root.path(""));
        let told = lost(&p);
        // all short ids are one here, and so are the names
        let sentence = format!("): files differ from tar-data.json.gz: {why}");
        assert!(told.len() == 1 && told[0].0 == "damage" && told[0].1.contains(&sentence), "{what}: {told:?}");
        assert!(told[0].1.starts_with("1 layer moves with damage ("), "{what}: {told:?}");
        let named = said(&p, "G06");
        assert!(
            named.len() == 1 && named[0].level == checks::Level::Warn && named[0].fix.is_some(),
            "{what}: {named:?}"
        );
        assert_eq!((p.images.len(), p.containers.len()), (4, 1), "{what}: it still moves");
        let (damaged, unprovable) = verified(&root);
        assert_eq!(damaged, [&id(3)[..12]], "{what}");
        assert_eq!(unprovable, "its tar-data.json.gz doesn't match its files", "{what}");
    }

    // what no branch of aufs can have of such a tar is no damage
    let sounds: [(&str, &[(&str, &str)]); 2] = [
        ("the same tar deletes it", &[("gone", "hello"), (".wh.gone", "")]),
        ("behind a symlink of a layer below", &[("lib/a", "hello")]),
    ];
    for (what, files) in sounds {
        let root = Root::usual();
        fs::create_dir_all(root.path(format!("aufs/diff/{}/usr", id(1)))).expect("mkdir");
        std::os::unix::fs::symlink("usr", root.path(format!("aufs/diff/{}/lib", id(1)))).expect("ln");
        root.write(at(&root, "usr/a"), "hello");
        root.write(at(&root, ".wh.gone"), "");
        root.write(&data, record(files));
        let p = plan(&root.path(""));
        assert_eq!(lost(&p), [], "{what}");
        assert_eq!(said(&p, "G06").iter().map(|f| f.level).collect::<Vec<_>>(), [checks::Level::Info], "{what}");
        assert!(!verified(&root).0.contains(&id(3)[..12].to_owned()), "{what}");
    }
    let root = Root::usual();
    fs::remove_file(root.path(&data)).expect("rm");
    assert_eq!(
        (lost(&plan(&root.path(""))), verified(&root).1.as_str()),
        (vec![], "Docker didn't record the tar headers")
    );
}

#[test]
fn the_damage_of_a_layer_of_docker_1_9_is_exit_code_3() {
    if !needs::root() {
        return;
    }
    let root = Root::usual();
    let data = format!("graph/{}/tar-data.json.gz", id(3));
    root.write(&data, record(&[("a", "hello")]));
    root.write(format!("aufs/diff/{}/a", id(3)), "hell0");
    for verify in ["none", "fast"] {
        let ran = real::unaufs(&root.path(""), &["migrate", "--yes", "--verify", verify]).exits(3);
        // by the answer, by the check and at the end
        let said = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(said.matches("/a: its content has changed").count(), 3, "{}", ran.stdout);
        assert!(ran.stdout.contains("DAMAGED") && !ran.stdout.contains("NOT MIGRATED"), "{}", ran.stdout);
        let ran = real::unaufs(&root.path(""), &["verify", "--json"]).exits(0);
        let doc: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(doc["unprovable"][0]["damaged"], true, "{doc}");
        real::unaufs(&root.path(""), &["rollback", "--yes", "--drop-new"]).exits(0);
    }
}
