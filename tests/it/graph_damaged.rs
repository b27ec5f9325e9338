//! Graph stores that are damaged, odd or hostile: never a crash, never a wrong image, each damage named.

use base64::Engine;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use unaufs::checks::Finding;
use unaufs::disk::Dir;
use unaufs::store::{self, Content, Generation, Store};

/// A small graph store. Image `n` has the id `n` in 64 hex digits.
pub struct Root(tempfile::TempDir);

pub fn id(n: usize) -> String {
    format!("{n:064x}")
}

/// A tar-split of a tar of nothing but `blocks` empty blocks: layers with other `blocks` have other digests.
fn tar_split(blocks: usize) -> Vec<u8> {
    let payload = base64::engine::general_purpose::STANDARD.encode(vec![0; blocks * 512]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writeln!(gzip, r#"{{"type":2,"payload":"{payload}","position":0}}"#).expect("gzip");
    gzip.finish().expect("gzip")
}

impl Root {
    fn new() -> Root {
        let root = Root(tempfile::tempdir().expect("temp dir"));
        for folder in ["graph/_tmp", "aufs/diff", "aufs/layers", "aufs/mnt", "containers", "volumes"] {
            fs::create_dir_all(root.path(folder)).expect("mkdir");
        }
        root.write("repositories-aufs", r#"{"Repositories":{}}"#);
        root
    }

    pub fn path(&self, rel: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(rel)
    }

    pub fn write(&self, rel: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let path = self.path(rel);
        fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        fs::write(path, bytes).expect("write");
    }

    /// The stack below and with the driver's list of it.
    fn layer(&self, name: &str, parents: &[usize]) {
        fs::create_dir_all(self.path("aufs/diff").join(name)).expect("mkdir");
        self.write(format!("aufs/layers/{name}"), parents.iter().map(|p| id(*p) + "\n").collect::<String>());
    }

    /// An image on `parents`, nearest first, with a tar of `blocks`.
    pub fn image(&self, n: usize, parents: &[usize], blocks: usize) {
        let parent = parents.first().map(|p| format!(r#""parent":"{}","#, id(*p))).unwrap_or_default();
        let json = format!(
            r#"{{"id":"{}",{parent}"created":"2015-06-01T10:00:00Z","docker_version":"1.9.1","comment":"{n}"}}"#,
            id(n)
        );
        self.write(format!("graph/{}/json", id(n)), json);
        self.write(format!("graph/{}/layersize", id(n)), "0");
        self.write(format!("graph/{}/tar-data.json.gz", id(n)), tar_split(blocks));
        self.layer(&id(n), parents);
    }

    /// A container on image `n`, which has `parents`.
    pub fn container(&self, c: usize, name: &str, n: usize, parents: &[usize]) {
        let stack: Vec<usize> = [n].iter().chain(parents).copied().collect();
        self.layer(&format!("{}-init", id(c)), &stack);
        let lines: String = stack.iter().map(|p| id(*p) + "\n").collect();
        fs::create_dir_all(self.path("aufs/diff").join(id(c))).expect("mkdir");
        self.write(format!("aufs/layers/{}", id(c)), format!("{}-init\n{lines}", id(c)));
        let config = format!(
            r#"{{"ID":"{}","Image":"{}","Name":"/{name}","Driver":"aufs","State":{{}},"Config":{{}},"NetworkSettings":{{}}}}"#,
            id(c),
            id(n)
        );
        self.write(format!("containers/{}/config.json", id(c)), config);
        self.write(format!("containers/{}/hostconfig.json", id(c)), r#"{"Links":null,"Memory":9007199254740993}"#);
    }

    /// Three images, 1 ← 2 ← 3, next to them 9, and a container on 3.
    pub fn usual() -> Root {
        let root = Root::new();
        root.image(1, &[], 2);
        root.image(2, &[1], 3);
        root.image(3, &[2, 1], 4);
        root.image(9, &[], 5);
        root.container(0xc, "web", 3, &[2, 1]);
        let tags = format!(r#"{{"Repositories":{{"app":{{"1":"{}"}},"other":{{"x":"{}"}}}}}}"#, id(3), id(9));
        root.write("repositories-aufs", tags);
        root
    }

    pub fn read(&self) -> (Store, Vec<Finding>) {
        store::open(&Dir::open_named(self.0.path()).expect("root")).expect("a store")
    }
}

/// The numbers of the images that are sound, and of those that are not.
pub fn sound_and_broken(store: &Store) -> (Vec<usize>, Vec<usize>) {
    let number = |old: &Option<String>| usize::from_str_radix(&old.as_deref().expect("old id")[48..], 16).expect("hex");
    let numbers = |broken: bool| {
        let images = store.images.values().filter(|i| i.broken.is_some() == broken);
        let mut list: Vec<usize> = images.map(|i| number(&i.old_id)).collect();
        list.sort();
        list
    };
    (numbers(false), numbers(true))
}

pub fn named(findings: &[Finding], check: &str, text: &str) -> bool {
    findings.iter().any(|f| f.id == check && format!("{}: {}", f.subject, f.message).contains(text))
}

/// The change that a container's file gets for a key.
pub fn change(store: &Store, c: usize, file: &str, key: &str) -> Option<String> {
    let c = store.containers.values().find(|x| x.id.as_str() == id(c))?;
    c.files.iter().filter(|f| f.name == file).find_map(|f| match &f.content {
        Content::Edited(_, changes) => changes.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()),
        _ => None,
    })
}

#[test]
fn a_sound_store_is_read_whole() {
    let (store, findings) = Root::usual().read();
    assert_eq!(store.generation, Generation::Graph);
    assert_eq!(sound_and_broken(&store), (vec![1, 2, 3, 9], vec![]));
    assert!(findings.iter().all(|f| f.id == "G05"), "{findings:?}");
    assert!(store.containers.values().all(|c| c.broken.is_none() && c.layer.is_some() && c.init.is_some()));
    assert_eq!(store.layers.len(), 6);
    assert!(store.orphans.is_empty());
}

#[test]
fn a_store_without_images_is_a_store() {
    let (store, findings) = Root::new().read();
    assert_eq!((store.generation, store.images.len(), store.layers.len()), (Generation::Graph, 0, 0));
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn damage_costs_that_image_and_what_stands_on_it() {
    type Break = fn(&Root);
    let json = |n: usize| format!("graph/{}/json", id(n));
    let rows: Vec<(&str, Break, &[usize], &str)> = vec![
        ("json cut off", |r| r.write(format!("graph/{}/json", id(2)), r#"{"id":"0000"#), &[2, 3], "ends too early"),
        ("json empty", |r| r.write(format!("graph/{}/json", id(2)), ""), &[2, 3], "ends too early"),
        ("json is binary", |r| r.write(format!("graph/{}/json", id(9)), b"\0\xff\x1f"), &[9], "can't be read"),
        ("json without end", |r| r.write(format!("graph/{}/json", id(9)), "[".repeat(1 << 20)), &[9], "nested deeper"),
        ("json huge", |r| r.write(format!("graph/{}/json", id(9)), vec![b' '; 5 << 20]), &[9], "too large"),
        (
            "json of another image",
            |r| drop(fs::copy(r.path(format!("graph/{}/json", id(9))), r.path(format!("graph/{}/json", id(2))))),
            &[2, 3],
            "belongs to another image",
        ),
        ("json missing", |r| fs::remove_file(r.path(format!("graph/{}/json", id(1)))).expect("rm"), &[1, 2, 3], "json"),
        (
            "json is a symlink",
            |r| {
                fs::remove_file(r.path(format!("graph/{}/json", id(9)))).expect("rm");
                std::os::unix::fs::symlink("/etc/hostname", r.path(format!("graph/{}/json", id(9)))).expect("ln");
            },
            &[9],
            "json",
        ),
        (
            "a value of another type",
            |r| r.write(format!("graph/{}/json", id(9)), r#"{"created":17}"#),
            &[9],
            "a number where a string belongs",
        ),
        (
            "parent missing",
            |r| fs::remove_dir_all(r.path(format!("graph/{}", id(1)))).expect("rm"),
            &[2, 3],
            "isn't in graph/",
        ),
        ("a circle", |r| r.write(format!("graph/{}/parent", id(1)), id(3)), &[1, 2, 3], "circle"),
        ("its own parent", |r| r.write(format!("graph/{}/parent", id(9)), id(9)), &[9], "circle"),
        ("parent is no id", |r| r.write(format!("graph/{}/parent", id(9)), "../../etc"), &[9], "isn't an image ID"),
        (
            "layer folder missing",
            |r| fs::remove_dir_all(r.path(format!("aufs/diff/{}", id(2)))).expect("rm"),
            &[2, 3],
            "is missing",
        ),
    ];
    for (what, damage, broken, message) in rows {
        let root = Root::usual();
        damage(&root);
        let (store, findings) = root.read();
        let sound: Vec<usize> = [1, 2, 3, 9]
            .into_iter()
            .filter(|n| !broken.contains(n) && root.path(json(*n)).parent().is_some_and(Path::exists))
            .collect();
        assert_eq!(sound_and_broken(&store), (sound, broken.to_vec()), "{what}");
        assert!(named(&findings, "G01", message), "{what}: {findings:?}");
        assert_eq!(findings.iter().filter(|f| f.id == "G01").count(), broken.len(), "{what}");
        let container_lost = broken.contains(&3);
        assert_eq!(store.containers.values().all(|c| c.broken.is_some()), container_lost, "{what}");
        assert_eq!(named(&findings, "C04", "web"), container_lost, "{what}");
        for file in &store.metadata {
            assert!(!broken.iter().any(|n| matches!(&file.content, Content::Text(t) if *t == id(*n))), "{what}");
        }
    }
}

#[test]
fn more_layers_than_docker_made_are_cut_off() {
    let root = Root::new();
    let mut parents = Vec::new();
    for n in 0..130 {
        root.image(n, &parents, 2 + n);
        parents.insert(0, n);
    }
    let (store, findings) = root.read();
    assert_eq!(sound_and_broken(&store), ((0..125).collect(), (125..130).collect()));
    assert!(named(&findings, "G01", "more than 125 layers"));
    assert!(store.layers.values().filter(|l| l.broken.is_none()).all(|l| l.lowers.len() < 125));
}

#[test]
fn equal_chains_share_the_layer_that_docker_met_first() {
    let root = Root::new();
    // 2 has the parent 9, so 9 comes before it: 9 and 5 are one layer and 9 represents both
    root.image(9, &[], 2);
    root.image(2, &[9], 3);
    root.image(5, &[], 2);
    root.image(7, &[5], 3);
    root.container(0xc, "on-the-second", 7, &[5]);
    root.container(0xd, "on-the-first", 2, &[9]);
    let (store, findings) = root.read();
    let kept: Vec<&str> = store.layers.values().filter(|l| l.chain.is_some()).map(|l| l.id.as_str()).collect();
    assert_eq!(kept, [id(2), id(9)]);
    for n in [5, 7] {
        assert!(named(&findings, "G02", &format!("layer {:.12}", id(n))), "{findings:?}");
    }
    assert!(!findings.iter().any(|f| f.id == "D08" || f.id == "C05"), "{findings:?}");
    // what the container is based on moves with it
    assert!(store.containers.values().all(|c| c.broken.is_none()));
    assert!(store.layers.keys().any(|l| l.as_str() == id(7)) && store.orphans.is_empty());
    assert_eq!(sound_and_broken(&store), (vec![2, 5, 7, 9], vec![]));
}

#[test]
fn odd_sizes_and_names_are_reported() {
    let root = Root::usual();
    root.write(format!("graph/{}/layersize", id(1)), "-1");
    root.write(format!("graph/{}/layersize", id(2)), "\x1b[31m");
    root.write("graph/strange", "x");
    root.write("graph/_tmp/x/json", "{}");
    let [bad, good] = ["Upper/case", "fine"];
    let tags = format!(
        r#"{{"Repositories":{{"{bad}":{{"1":"{0}"}},"{good}":{{"1":"{0}","no tag":"{0}","2":"{1}"}}}}}}"#,
        id(9),
        id(77)
    );
    root.write("repositories-aufs", tags);
    let (store, findings) = root.read();
    // the image of a tag whose directory is gone counts
    assert_eq!(sound_and_broken(&store), (vec![1, 2, 3, 9], vec![77]));
    for (check, text) in [
        ("G07", "\"-1\""),
        ("G07", "u{1b}"),
        ("D07", "graph/strange"),
        ("D07", "graph/_tmp"),
        ("G03", "Upper/case"),
        ("G03", "no tag"),
        ("D06", "fine:2"),
    ] {
        assert!(named(&findings, check, text), "{check} {text}: {findings:?}");
    }
    let moving = store.images.values().filter(|i| i.broken.is_none());
    assert_eq!(moving.flat_map(|i| &i.tags).collect::<Vec<_>>(), ["fine:1"]);

    root.write("repositories-aufs", "{");
    let (store, findings) = root.read();
    assert!(named(&findings, "D10", "repositories-aufs"));
    assert_eq!(store.images.len(), 4);
}

#[test]
fn without_linkgraph_db_names_come_from_the_configs() {
    type Break = fn(&Root);
    let rows: Vec<(&str, Break)> = vec![
        ("zero bytes", |r| r.write("linkgraph.db", "")),
        ("text", |r| r.write("linkgraph.db", "hello\n")),
        ("WAL beside", |r| {
            links(r, false);
            r.write("linkgraph.db-wal", "x");
        }),
        ("journal beside", |r| {
            links(r, false);
            r.write("linkgraph.db-journal", "x");
        }),
        ("WAL mode", |r| links(r, true)),
        ("a folder", |r| fs::create_dir(r.path("linkgraph.db")).expect("mkdir")),
        ("a symlink", |r| std::os::unix::fs::symlink("/etc/passwd", r.path("linkgraph.db")).expect("ln")),
    ];
    for (what, damage) in rows {
        let root = Root::usual();
        root.container(0xd, "db", 1, &[]);
        damage(&root);
        let (store, findings) = root.read();
        assert!(named(&findings, "G04", "linkgraph.db"), "{what}: {findings:?}");
        let names: Vec<&str> = store.containers.values().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["web", "db"], "{what}");
        assert_eq!(change(&store, 0xc, "hostconfig.json", "Links"), None, "{what}");
        assert!(store.containers.values().all(|c| c.broken.is_none()), "{what}");
    }
}

/// `linkgraph.db` with the names of web and db, and a link from web to db.
pub fn links(root: &Root, wal: bool) {
    let db = rusqlite::Connection::open(root.path("linkgraph.db")).expect("SQLite");
    let edges =
        [(0xc, "0".to_owned(), "web"), (0xd, "0".to_owned(), "db"), (0xd, id(0xc), "store"), (0xee, id(0xc), "gone")];
    db.execute_batch("CREATE TABLE edge (entity_id text NOT NULL, parent_id text NULL, name text NOT NULL)")
        .expect("SQL");
    for (entity, parent, name) in edges {
        db.execute("INSERT INTO edge VALUES (?1, ?2, ?3)", [id(entity), parent, name.to_owned()]).expect("SQL");
    }
    if wal {
        db.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).expect("WAL");
        db.execute("INSERT INTO edge VALUES ('0', NULL, '/')", []).expect("SQL");
    }
}

#[test]
fn links_go_into_the_host_configuration() {
    let root = Root::usual();
    root.container(0xd, "db", 1, &[]);
    links(&root, false);
    let before = fs::read(root.path("linkgraph.db")).expect("read");
    let (store, findings) = root.read();
    assert_eq!(change(&store, 0xc, "hostconfig.json", "Links").as_deref(), Some(r#"["/db:store"]"#));
    assert_eq!(change(&store, 0xd, "hostconfig.json", "Links"), None);
    assert!(named(&findings, "G04", "doesn't lead to a container"), "{findings:?}");
    assert_eq!(fs::read(root.path("linkgraph.db")).expect("read"), before);
    assert!(!root.path("linkgraph.db-wal").exists() && !root.path("linkgraph.db-shm").exists());

    // links that a newer Docker has put there stay
    root.write(format!("containers/{}/hostconfig.json", id(0xc)), r#"{"Links":["/x:y"]}"#);
    let (store, _) = root.read();
    assert_eq!(change(&store, 0xc, "hostconfig.json", "Links"), None);
}

#[test]
fn two_containers_never_get_one_name() {
    let root = Root::usual();
    root.container(0xd, "web", 1, &[]);
    root.container(0xe, "", 1, &[]);
    links(&root, false);
    let (store, findings) = root.read();
    let names: Vec<&str> = store.containers.values().map(|c| c.name.as_str()).collect();
    let short = &id(0xe)[..12];
    assert_eq!(names, ["web", "db", short]);
    assert_eq!(change(&store, 0xd, "config.v2.json", "Name").as_deref(), Some(r#""/db""#));
    assert!(named(&findings, "G09", "web"), "{findings:?}");
    assert_eq!(change(&store, 0xc, "config.v2.json", "Name"), None);
}

#[test]
fn volumes_of_docker_1_6_become_mount_points() {
    let root = Root::usual();
    let volume = "/var/lib/docker/vfs/dir/".to_owned() + &id(0xabc);
    fs::create_dir_all(root.path(format!("vfs/dir/{}", id(0xabc)))).expect("mkdir");
    let config = |more: &str| {
        format!(
            r#"{{"ID":"{}","Image":"{}","Name":"/web","Driver":"aufs","Config":{{}},"NetworkSettings":{{}},"Volumes":{{"/data":"{volume}","/h":"/host","/bad":"x"}},"VolumesRW":{{"/data":true}}{more}}}"#,
            id(0xc),
            id(3)
        )
    };
    root.write(format!("containers/{}/config.json", id(0xc)), config(""));
    let (store, findings) = root.read();
    let points = change(&store, 0xc, "config.v2.json", "MountPoints").expect("mount points");
    let want = format!(
        r#"{{"/data":{{"Type":"bind","Spec":{{"Type":"bind","Source":"{volume}","Target":"/data"}},"Name":"","Destination":"/data","Driver":"","RW":true,"Source":"{volume}","Relabel":""}},"/h":{{"Type":"bind","Spec":{{"Type":"bind","Source":"/host","Target":"/h","ReadOnly":true}},"Name":"","Destination":"/h","Driver":"","RW":false,"Source":"/host","Relabel":""}}}}"#
    );
    assert_eq!(points, want);
    assert!(named(&findings, "G10", "/data") && named(&findings, "G10", "/bad"), "{findings:?}");
    assert!(!store.layers.keys().any(|l| l.as_str() == id(0xabc)) && store.orphans.is_empty());

    root.write(format!("containers/{}/config.json", id(0xc)), config(r#","MountPoints":{"/data":{}}"#));
    // what is there is not made again; it gets the fields that it lacks
    let kept = change(&root.read().0, 0xc, "config.v2.json", "MountPoints").expect("mount points");
    assert_eq!(kept, r#"{"/data":{"Type":"bind","Spec":{"Type":"bind","Target":"/data","ReadOnly":true}}}"#);
}

#[test]
fn a_record_that_does_not_fit_is_not_followed() {
    let data = format!("graph/{}/tar-data.json.gz", id(9));
    let sound = Root::usual().read().0;
    let diff = |store: &Store| store.layers.values().find(|l| l.id.as_str() == id(9)).and_then(|l| l.diff);
    type Break = fn(&Root, &str);
    let rows: Vec<(&str, Break, &str)> = vec![
        ("empty", |r, data| r.write(data, ""), "tar-data.json.gz: "),
        ("cut off", |r, data| r.write(data, &tar_split(5)[..30]), "tar-data.json.gz: "),
        ("text", |r, data| r.write(data, "{}"), "tar-data.json.gz: "),
        (
            "of a file that is not there",
            |r, data| {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writeln!(
                    gzip,
                    r#"{{"type":1,"name":"../../etc/passwd","size":6,"payload":"YUw+7uLYEAA=","position":0}}"#
                )
                .expect("gzip");
                r.write(data, gzip.finish().expect("gzip"));
            },
            "tar-data.json.gz: ",
        ),
        (
            "a symlink",
            |r, data| {
                fs::remove_file(r.path(data)).expect("rm");
                std::os::unix::fs::symlink("/etc/passwd", r.path(data)).expect("ln");
            },
            "tar-data.json.gz: ",
        ),
    ];
    for (what, damage, message) in rows {
        let root = Root::usual();
        root.write(format!("aufs/diff/{}/file", id(9)), "content");
        damage(&root, &data);
        let (store, findings) = root.read();
        assert!(named(&findings, "G06", message), "{what}: {findings:?}");
        let lost: Vec<_> = store.lost.iter().map(|l| (l.kind.as_str(), &l.id)).collect();
        assert_eq!(lost, [("damage", &id(9))], "{what}");
        assert_eq!(sound_and_broken(&store), (vec![1, 2, 3, 9], vec![]), "{what}");
        assert_ne!(diff(&store), diff(&sound), "{what}");
        assert_eq!(diff(&store), diff(&root.read().0), "{what}: the same each time");
        let made = |f: &&store::MetaFile| matches!(&f.content, Content::TarSplitOf(l) if l.as_str() == id(9));
        assert_eq!(store.metadata.iter().filter(made).count(), 1, "{what}");
    }
}

#[test]
fn a_layer_without_a_record_has_the_digest_that_docker_gave_it() {
    let nine = |root: &Root| {
        let (store, findings) = root.read();
        assert_eq!(sound_and_broken(&store), (vec![1, 2, 3, 9], vec![]));
        findings.into_iter().find(|f| f.id == "G06").map(|f| (f.message, f.effect))
    };
    let root = Root::usual();
    fs::remove_file(root.path(format!("graph/{}/tar-data.json.gz", id(9)))).expect("rm");
    root.write(format!("aufs/diff/{}/file", id(9)), "content");
    assert_eq!(nine(&root), None);
    // the number of Docker's process was in the tar: that it's new is said
    root.write(format!("aufs/diff/{}/größe", id(9)), "content");
    let (message, effect) = nine(&root).expect("a finding");
    assert!(message.ends_with("because of größe"), "{message}");
    assert_eq!(effect.as_deref(), Some("the layer and all images with it get new IDs"));
    // what Docker's tar would not bring back has ours
    fs::rename(root.path(format!("aufs/diff/{}/größe", id(9))), root.path(format!("aufs/diff/{}/.wh.full", id(9))))
        .expect("mv");
    let (message, effect) = nine(&root).expect("a finding");
    assert_eq!(message, "a whiteout that isn't an empty file: .wh.full");
    assert_eq!(effect.as_deref(), Some("the layer and all images with it get new IDs"));
}

#[test]
fn what_docker_has_digested_is_not_digested_anew() {
    // Docker made a record of its own for a layer without one, and was stopped before it converted the image
    let root = Root::usual();
    fs::remove_file(root.path(format!("graph/{}/tar-data.json.gz", id(9)))).expect("rm");
    root.write(format!("aufs/diff/{}/file", id(9)), "content");
    root.write(format!("graph/{}/.migration-tardata", id(9)), tar_split(7));
    let zeros = unaufs::ids::Sha256::of(&[0; 7 * 512]);
    root.write(format!("graph/{}/.migration-diffid", id(9)), zeros.to_string());
    let nine = |store: &Store| store.layers.values().find(|l| l.id.as_str() == id(9)).and_then(|l| l.diff).map(|d| d.0);
    let (store, findings) = root.read();
    assert_eq!(nine(&store), Some(zeros));
    assert!(!findings.iter().any(|f| f.id == "G06"), "{findings:?}");
    // its account and its record contradict each other: neither is followed
    root.write(format!("graph/{}/.migration-tardata", id(9)), tar_split(8));
    let (store, findings) = root.read();
    assert!(named(&findings, "G06", "another digest than .migration-diffid"), "{findings:?}");
    assert!(nine(&store).is_some_and(|d| d != zeros));
}

#[test]
fn volumes_in_vfs_dir_stay_where_they_are() {
    use unaufs::docker::driver::Target;
    use unaufs::plan::{Options, Plan, Why, make};
    let plan = |root: &Root, to: Target| -> Plan {
        let options: Options = serde_json::from_value(serde_json::json!({"to": to, "mode": "auto"})).expect("options");
        let dir = Dir::open_named(root.0.path()).expect("root");
        make::make(&dir, &options, &Default::default(), &unaufs::progress::Hidden).expect("a plan")
    };
    let parked = |p: &Plan| p.switch.iter().any(|m| m.why == Why::Park && m.from == "vfs");
    let installed = |p: &Plan, path: &str| p.switch.iter().any(|m| m.why == Why::Install && m.to == path);
    let root = Root::usual();
    root.write(format!("vfs/dir/{}/data", id(0xabc)), "kept");
    let to_vfs = plan(&root, Target::Vfs);
    assert!(!parked(&to_vfs) && !installed(&to_vfs, "vfs"));
    for layer in &to_vfs.layers {
        assert!(installed(&to_vfs, &format!("vfs/dir/{}", layer.id)), "{}", layer.id);
    }
    let elsewhere = plan(&root, Target::Overlay2);
    assert!(elsewhere.switch.iter().all(|m| m.from != "vfs" && m.to != "vfs"));
    // without volumes the directory comes as a whole
    fs::remove_dir_all(root.path("vfs")).expect("rm");
    assert!(installed(&plan(&root, Target::Vfs), "vfs"));
}

/// Writes what was read into `image/aufs`, as Docker 1.10 would have: all, or all but the images in `without`.
pub fn convert(root: &Root, store: &Store, without: &[usize]) {
    let mut mapping = Vec::new();
    let skipped: Vec<_> = store.images.values().filter(|i| without.iter().any(|n| i.old_id == Some(id(*n)))).collect();
    for image in store.images.values().filter(|i| !skipped.iter().any(|s| s.id == i.id)) {
        mapping.push(format!(r#""{}":"{}""#, image.old_id.as_deref().expect("old id"), image.id));
    }
    root.write(".migration-v1-images.json", format!("{{{}}}\n", mapping.join(",")));
    for file in &store.metadata {
        let skip = skipped
            .iter()
            .any(|i| file.image == Some(i.id) || file.layer.is_some() && file.layer.as_ref() == i.layers.last());
        if skip || file.container.is_some() {
            continue;
        }
        match &file.content {
            Content::Text(text) => root.write(format!("image/aufs/{}", file.path), text),
            Content::Same(from) => {
                root.write(format!("image/aufs/{}", file.path), fs::read(root.path(from)).expect("read"))
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_a_newer_docker_has_begun_is_finished_and_not_repeated() {
    let root = Root::usual();
    let (first, _) = root.read();
    convert(&root, &first, &[3]);
    // the record of a converted image is not needed any more: it is not read a second time
    root.write(format!("graph/{}/tar-data.json.gz", id(2)), "damaged since");
    let (store, findings) = root.read();
    assert_eq!(store.generation, Generation::Graph);
    assert!(named(&findings, "G08", "3 of 4"), "{findings:?}");
    assert_eq!(sound_and_broken(&store), (vec![1, 2, 3, 9], vec![]));
    assert_eq!(store.images.keys().collect::<Vec<_>>(), first.images.keys().collect::<Vec<_>>());
    let chains = |s: &Store| s.layers.values().map(|l| (l.id.clone(), l.chain, l.lowers.clone())).collect::<Vec<_>>();
    assert_eq!(chains(&store), chains(&first));
    assert_eq!(store.repositories, first.repositories);
    let mut paths: Vec<&String> = store.metadata.iter().map(|f| &f.path).collect();
    paths.sort();
    let all = paths.len();
    paths.dedup();
    assert_eq!(paths.len(), all, "a file is written once");

    // all converted, tags and containers too: it is an ordinary store, whatever graph/ says
    convert(&root, &first, &[]);
    root.write(".migration-v1-tags", "");
    root.write("image/aufs/repositories.json", r#"{"Repositories":{}}"#);
    fs::remove_dir_all(root.path(format!("containers/{}", id(0xc)))).expect("rm");
    assert_eq!(root.read().0.generation, Generation::Content);
    // but for images that are not there any more
    fs::remove_dir_all(root.path("image/aufs")).expect("rm");
    let (store, _) = root.read();
    assert_eq!((store.generation, store.images.len()), (Generation::Graph, 4));
}
