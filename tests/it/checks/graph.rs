//! A sound root of Docker 1.9: images 1 ← 2 and 9, and a container on 2.

use super::bed::put;
use base64::Engine;
use std::io::Write;
use std::path::Path;

/// An image's or a container's id.
pub fn id(n: usize) -> String {
    format!("{n:064x}")
}

/// The record of a tar of nothing but so many empty blocks: layers with other numbers have other digests.
pub fn tar_split(blocks: usize) -> Vec<u8> {
    let payload = base64::engine::general_purpose::STANDARD.encode(vec![0; blocks * 512]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writeln!(gzip, r#"{{"type":2,"payload":"{payload}","position":0}}"#).expect("gzip");
    gzip.finish().expect("gzip")
}

fn layer(root: &Path, name: &str, below: &[String]) {
    std::fs::create_dir_all(root.join("aufs/diff").join(name)).expect("a folder");
    put(&root.join("aufs/layers").join(name), below.iter().map(|b| format!("{b}\n")).collect::<String>());
}

/// An image with its layer.
pub fn image(root: &Path, n: usize, parent: Option<usize>, blocks: usize) {
    let on = parent.map(|p| format!(r#""parent":"{}","#, id(p))).unwrap_or_default();
    let json = format!(
        r#"{{"id":"{}",{on}"created":"2015-06-01T10:00:00Z","docker_version":"1.9.1","comment":"{n}"}}"#,
        id(n)
    );
    let dir = root.join("graph").join(id(n));
    put(&dir.join("json"), json);
    put(&dir.join("layersize"), "0");
    put(&dir.join("tar-data.json.gz"), tar_split(blocks));
    layer(root, &id(n), &parent.map(id).into_iter().collect::<Vec<_>>());
}

/// A container on image 2.
pub fn container(root: &Path, n: usize, name: &str, more: &str) {
    let below = [id(2), id(1)];
    layer(root, &format!("{}-init", id(n)), &below);
    layer(root, &id(n), &[&[format!("{}-init", id(n))], &below[..]].concat());
    let config = format!(
        r#"{{"ID":"{}","Image":"{}","Name":"/{name}","Driver":"aufs","State":{{}},"Config":{{}},"NetworkSettings":{{}}{more}}}"#,
        id(n),
        id(2)
    );
    put(&root.join("containers").join(id(n)).join("config.json"), config);
    put(&root.join("containers").join(id(n)).join("hostconfig.json"), r#"{"Links":null}"#);
}

/// `linkgraph.db` in which container `n` has this name.
pub fn names(root: &Path, n: usize, name: &str) {
    let db = rusqlite::Connection::open(root.join("linkgraph.db")).expect("SQLite");
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS edge (entity_id text NOT NULL, parent_id text NULL, name text NOT NULL)",
    )
    .expect("SQL");
    db.execute("INSERT INTO edge VALUES (?1, '0', ?2)", [id(n), name.to_owned()]).expect("SQL");
}

/// A root without an image.
pub fn empty(root: &Path) {
    for folder in ["graph/_tmp", "aufs/diff", "aufs/layers", "aufs/mnt", "containers"] {
        std::fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    put(&root.join("repositories-aufs"), r#"{"Repositories":{}}"#);
    names(root, 0xc, "web");
}

/// Writes the root.
pub fn write(root: &Path) {
    empty(root);
    image(root, 1, None, 2);
    image(root, 2, Some(1), 3);
    image(root, 9, None, 5);
    container(root, 0xc, "web", "");
    tags(root, "app", "1", 9);
}

/// `repositories-aufs` with one name.
pub fn tags(root: &Path, repository: &str, tag: &str, n: usize) {
    put(&root.join("repositories-aufs"), format!(r#"{{"Repositories":{{"{repository}":{{"{tag}":"{}"}}}}}}"#, id(n)));
}
