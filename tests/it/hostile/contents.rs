//! Content made to harm: JSON, gzip, lists, names, trees without end.

use super::bed::World;
use crate::support::needs;
use crate::support::stack::text::{Kind, Layer};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::Path;

const NASTY: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\n<script>alert(1)</script>\u{202e}gpj";

/// JSON text for a config of `size` bytes.
fn huge(size: usize) -> String {
    format!("{{\"ID\":\"x\",\"pad\":\"{}\"}}", "a".repeat(size))
}

fn deep(n: usize) -> String {
    format!("{{\"pad\":{}{}}}", "[".repeat(n), "]".repeat(n))
}

/// Gives the root one more image whose config is `config`.
fn add_image(root: &Path, config: &[u8]) {
    let id: String = Sha256::digest(config).iter().map(|b| format!("{b:02x}")).collect();
    fs::write(root.join("image/aufs/imagedb/content/sha256").join(id), config).expect("a config");
}

#[test]
fn json_without_end() {
    if !needs::root() {
        return;
    }
    for (text, says) in [(huge(17 << 20), "too large"), (deep(100_000), "stays"), (deep(127), "stays")] {
        let w = World::new();
        add_image(&w.root, text.as_bytes());
        w.ends(3, says);
        let w = World::new();
        fs::write(w.first("containers").join("config.v2.json"), &text).expect("a config");
        if text.len() > 1000 && !text.contains('[') {
            w.ends(3, says);
        } else {
            // Docker reads no such nesting; what is in it is passed through, and the layer's record leads to the container
            let code = w.run(&["migrate", "--yes"]).code;
            assert!([0, 3].contains(&code), "{code}");
        }
        let w = World::new();
        fs::write(w.at("image/aufs/repositories.json"), &text).expect("tags");
        let ran = w.run(&["migrate", "--yes"]);
        // tags that Docker can't read are lost
        assert_eq!(ran.code, if says == "too large" { 3 } else { 0 }, "{}{}", ran.stdout, ran.stderr);
    }
    for text in
        ["", "null", "[]", "7", "\"x\"", "{", "{\"rootfs\":7}", "{\"rootfs\":{\"diff_ids\":[\"sha256:../..\"]}}"]
    {
        let w = World::new();
        add_image(&w.root, text.as_bytes());
        fs::write(w.first("containers").join("config.v2.json"), text).expect("a config");
        fs::write(w.at("image/aufs/repositories.json"), text).expect("tags");
        eprintln!("{text}");
        let ran = w.run(&["migrate", "--yes"]);
        assert_eq!(ran.code, 3, "{text}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn names_that_a_terminal_or_a_browser_would_obey() {
    if !needs::root() {
        return;
    }
    let name = NASTY.replace('/', "|");
    let w = World::new();
    let config = w.first("containers").join("config.v2.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&config).expect("a config")).expect("JSON");
    json["Name"] = format!("/{NASTY}").into();
    json["Image"] = NASTY.into();
    fs::write(&config, json.to_string()).expect("a config");
    let tags = fs::read_to_string(w.at("image/aufs/repositories.json")).expect("tags");
    let mut tags: serde_json::Value = serde_json::from_str(&tags).expect("JSON");
    let id = tags["Repositories"]["test"]["test:latest"].clone();
    tags["Repositories"][NASTY] = serde_json::json!({NASTY: id, format!("{NASTY}@{NASTY}"): "nothing"});
    fs::write(w.at("image/aufs/repositories.json"), tags.to_string()).expect("tags");
    for folder in [
        "aufs/diff",
        "aufs/layers",
        "containers",
        "image/aufs/layerdb/sha256",
        "image/aufs/layerdb/mounts",
        "image/aufs/imagedb/content/sha256",
        "image/aufs/distribution",
        "volumes",
        ".",
    ] {
        fs::create_dir_all(w.at(folder).join(&name)).expect("a folder");
    }
    let top = w.at(&format!("aufs/diff/{}", w.casts[2].id));
    let top = if top.exists() { top } else { w.at(&format!("aufs/diff/{}", w.casts[0].id)) };
    fs::create_dir(top.join(&name)).expect("a folder");
    fs::write(top.join(&name).join(&name), "x").expect("a file");
    fs::write(top.join(format!(".wh.{}", &name[..20])), "not empty").expect("a file");
    xattr::set(top.join(&name), "trusted.overlay.opaque", b"y").expect("an attribute");
    // a tag that Docker can't have is lost
    w.ends(3, "are now on");
    // an error with such a name in it, and a damaged object of each kind
    fs::write(w.first("containers").join("config.v2.json"), format!("{{\"ID\":{}}}", serde_json::json!(NASTY)))
        .expect("it");
}

#[test]
fn damage_with_such_names_in_it() {
    if !needs::root() {
        return;
    }
    let w = World::new();
    let wrong_type = serde_json::json!({"rootfs": NASTY, "State": NASTY, "Driver": [NASTY], NASTY: NASTY}).to_string();
    fs::write(w.first("containers").join("config.v2.json"), &wrong_type).expect("a config");
    add_image(&w.root, wrong_type.as_bytes());
    add_image(&w.root, serde_json::json!({"rootfs": {"diff_ids": [NASTY]}}).to_string().as_bytes());
    fs::write(w.record(1).join("cache-id"), NASTY).expect("a file");
    fs::write(w.record(0).join("size"), "0").expect("a file");
    w.ends(3, "stays");
}

#[test]
fn lists_of_layers() {
    if !needs::root() {
        return;
    }
    type List = fn(&World) -> String;
    let cases: [(&str, List, &str); 4] = [
        ("itself", |w| format!("{0}\n", w.casts.last().expect("one").id), ""),
        ("in a circle", |w| format!("{0}\n{0}\n", w.casts[0].id), "twice"),
        ("two MiB", |_| format!("{}\n", "a".repeat(64)).repeat(32_000), "too large"),
        ("it isn't text", |_| "\u{0}\u{1b}".to_owned(), "can't be a layer ID"),
    ];
    for (what, list, says) in cases {
        let w = World::new();
        eprintln!("{what}");
        let list = list(&w);
        fs::write(w.at(&format!("aufs/layers/{}", w.casts.last().expect("one").id)), list).expect("a list");
        w.ends(3, says);
    }
}

#[test]
fn a_bomb_of_gzip() {
    if !needs::root() {
        return;
    }
    let bomb = |text: &[u8], times: usize| {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"{\"type\":2,\"payload\":\"").expect("gzip");
        (0..times).for_each(|_| gz.write_all(text).expect("gzip"));
        gz.finish().expect("gzip")
    };
    let w = World::new();
    fs::write(w.record(0).join("tar-split.json.gz"), bomb(&[b'A'; 65536], 1000)).expect("a bomb");
    fs::write(w.record(1).join("tar-split.json.gz"), b"\x1f\x8b no gzip").expect("a file");
    w.run(&["migrate", "--yes", "--verify", "full"]);
    w.run(&["verify", "--level", "full"]);
    w.run(&["status"]);
}

/// A file 300 directories deep, its path three times as long as the kernel takes; and one deeper than any program goes.
#[test]
fn trees_that_are_deeper_than_a_path() {
    if !needs::root() {
        return;
    }
    let deep = |layer: &Path, n: usize, name: &str| {
        let mut at = unaufs::disk::Dir::open_named(layer).expect("a folder");
        for _ in 0..n {
            at.mkdir(name, 0o755).expect("a folder");
            at = at.open(name).expect("a folder");
        }
        at.write_new("file", b"deep", 0o644).expect("a file");
    };
    let w = World::new();
    let before = w.casts[1].id.clone();
    deep(&w.at("aufs/diff").join(&before), 300, &"n".repeat(45));
    for args in
        [&["migrate", "--yes"][..], &["verify"], &["rollback", "--yes"], &["migrate", "--yes"], &["cleanup", "--yes"]]
    {
        let ran = w.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.stdout, ran.stderr);
    }
    let w = World::new();
    deep(&w.at("aufs/diff").join(&before), 3_000, &"n".repeat(45));
    let ran = w.run(&["migrate", "--yes"]);
    assert_eq!(ran.code, 3, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("deep"), "{}", ran.stdout);
    let then = [&["rollback", "--yes"][..], &["migrate", "--yes"], &["cleanup", "--yes"]];
    // each of them walks a path of 135,000 bytes, step by step
    if !needs::long() {
        return;
    }
    for args in then {
        let ran = w.run(args);
        assert!([0, 3].contains(&ran.code), "{args:?}: {}{}", ran.stdout, ran.stderr);
    }
    assert!(!w.at(".unaufs/old").exists(), "cleanup did not get to the end of it");
}

/// Attributes as large as the file system takes, up to the 64 KiB of Linux.
#[test]
fn attributes_that_are_large() {
    if !needs::root() {
        return;
    }
    let w = World::new();
    let file = w.at(&format!("aufs/diff/{}/etc/shadow", w.casts[1].id));
    let sizes = [60_000usize, 40_000, 3_000];
    let took = sizes.into_iter().find(|n| xattr::set(&file, "user.large", &vec![7; *n]).is_ok());
    assert!(took.is_some(), "no attribute of 3,000 bytes");
    w.ends(0, "are now on");
}

/// Two thousand containers (a tenth of them in the short run), and an image of five hundred layers, more than any driver mounts.
#[test]
fn numbers_without_end() {
    if !needs::root() {
        return;
    }
    let w = World::new();
    let (config, mounts) = (w.first("containers"), w.first("image/aufs/layerdb/mounts"));
    let text = fs::read_to_string(config.join("config.v2.json")).expect("a config");
    let old = config.file_name().expect("an id").to_string_lossy().into_owned();
    let parent = fs::read(mounts.join("parent")).expect("a parent");
    let lowers =
        fs::read_to_string(w.at("aufs/layers").join(fs::read_to_string(mounts.join("mount-id")).expect("an id")));
    let lowers: String = lowers.expect("a list").lines().skip(1).map(|l| format!("{l}\n")).collect();
    for n in 0..if needs::long() { 2_000 } else { 200 } {
        let (id, mount) = (format!("{n:064x}"), format!("{:064x}", n + 10_000));
        let (c, m) = (w.at("containers").join(&id), w.at("image/aufs/layerdb/mounts").join(&id));
        fs::create_dir(&c).and_then(|()| fs::create_dir(&m)).expect("folders");
        fs::write(c.join("config.v2.json"), text.replace(&old, &id)).expect("a config");
        fs::write(c.join("hostconfig.json"), "{}").expect("settings");
        fs::write(m.join("mount-id"), &mount).expect("an id");
        fs::write(m.join("parent"), &parent).expect("a parent");
        fs::create_dir(w.at("aufs/diff").join(&mount)).expect("a folder");
        fs::write(w.at("aufs/layers").join(&mount), &lowers).expect("a list");
    }
    let ran = w.run(&["migrate", "--yes", "--verify", "none"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(w.run(&["rollback", "--yes"]).code, 0);

    let layer = |n: i64| {
        let mut l = Layer::new(n);
        l.put_plain(format!("file{n}").as_bytes(), Kind::File(vec![1]));
        l
    };
    let layers: Vec<Layer> = (0..500).map(layer).collect();
    let w = World::with(|root| {
        crate::support::stack::store::write(&layers, root, crate::support::stack::store::Containers::None)
    });
    let ran = w.run(&["plan"]);
    let ran2 = w.run(&["migrate", "--yes", "--verify", "none"]);
    assert!([0, 3, 4].contains(&ran2.code), "{}{}{}{}", ran.stdout, ran.stderr, ran2.stdout, ran2.stderr);
}
