//! Negative controls: each kind of damage is found by `verify`, and named; nothing else is.

use crate::support::mounts::Mounted;
use crate::support::needs;
use crate::support::private::{self, this_test};
use crate::support::real::{self, Store, same, tree};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, FileTimes};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};
use tempfile::TempDir;

/// Layers of the small store, by the beginnings of their ids. A base layer:
const BASE: &str = "a432bc0d";
/// Another one, with nothing on it.
const SINGLE: &str = "560ff640";
/// One more, of one file.
const ONE_FILE: &str = "191c91a7";
/// A layer with an opaque directory.
const OPAQUE: &str = "6aefb570";
/// A layer with large and with many files.
const FILES: &str = "6ba84f85";
/// A layer with attributes.
const ATTRIBUTES: &str = "acbcddaa";
/// Two layers in the middle of a stack.
const MIDDLE: [&str; 2] = ["dfe6a52b", "4fb9c53e"];
/// A container, and its own layer.
const CONTAINER: (&str, &str) = ("ef49ace9", "6214fc05");

/// What `verify` must say: kind, beginning of the id, path, a part of the text.
type Named = (&'static str, &'static str, &'static str, &'static str);

/// A store, moved to a driver.
struct Moved {
    store: Store,
    driver: &'static str,
    /// The store's file system, where it has to be a certain one; unmounted last.
    _disk: Option<(Mounted, TempDir)>,
}

impl Moved {
    fn to(driver: &'static str, mode: &str) -> Option<Moved> {
        if !real::able() {
            return None;
        }
        let disk = match driver {
            "btrfs" => {
                let home = real::folder();
                Some((Mounted::with_clones(home.path(), "btrfs"), home))
            }
            _ => None,
        };
        let store = disk.as_ref().map_or_else(|| real::small().unpack(), |(d, _)| real::small().unpack_in(&d.at));
        store.unaufs(&["migrate", "--to", driver, "--mode", mode, "--yes", "--quiet"]).exits(0);
        Some(Moved { store, driver, _disk: disk })
    }

    fn path(&self, rel: impl AsRef<Path>) -> PathBuf {
        self.store.root.join(rel)
    }

    /// The full name of the directory in `at` that begins so.
    fn full(&self, at: &str, begin: &str) -> String {
        full(&self.path(at), begin)
    }

    /// A layer's directory of the driver.
    fn folder(&self, layer: &str) -> PathBuf {
        let home = match self.driver {
            "vfs" => "vfs/dir",
            "btrfs" => "btrfs/subvolumes",
            driver => driver,
        };
        self.path(home).join(self.full(home, layer))
    }

    /// A file in a layer.
    fn file(&self, layer: &str, path: &str) -> PathBuf {
        self.folder(layer).join(if self.driver == "overlay2" { "diff" } else { "" }).join(path)
    }

    /// A file of a layer's record.
    fn record(&self, layer: &str, file: &str) -> PathBuf {
        let id = self.folder(layer);
        let id = id.file_name().and_then(OsStr::to_str).expect("an id");
        let all = self.path(format!("image/{}/layerdb/sha256", self.driver));
        let mut records = fs::read_dir(&all).expect("layerdb").map(|e| e.expect("a record").path());
        records.find(|r| fs::read_to_string(r.join("cache-id")).is_ok_and(|c| c == id)).expect(layer).join(file)
    }

    fn config(&self, file: &str) -> PathBuf {
        self.path("containers").join(self.full("containers", CONTAINER.0)).join(file)
    }

    /// Verifies, and wants exactly these differences; `trees`: a file of one layer may be in the trees of others too.
    fn finds(&self, args: &[&str], wanted: &[Named], trees: bool) -> Value {
        let ran = self.store.unaufs(&[&["verify", "--json", "--quiet"], args].concat()).exits(6);
        let doc: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let found = doc["differences"].as_array().expect("differences").clone();
        let text = |d: &Value, key: &str| d[key].as_str().unwrap_or_default().to_owned();
        let is = |d: &Value, (kind, id, path, what): &Named, any: bool| {
            text(d, "kind") == *kind
                && (any || text(d, "id").starts_with(id))
                && text(d, "path") == *path
                && text(d, "what").contains(what)
        };
        let list: Vec<String> = found.iter().map(Value::to_string).collect();
        for w in wanted {
            assert!(found.iter().any(|d| is(d, w, false)), "{w:?} is not named:\n{}", list.join("\n"));
        }
        // the headers of the layer's tar find much of it too, in their own words
        let again = |d: &Value, w: &Named| d["by"] == "headers" && is(d, &(w.0, w.1, w.2, ""), trees);
        for d in &found {
            assert!(wanted.iter().any(|w| is(d, w, trees) || again(d, w)), "this was not done: {d}");
        }
        // people are told the same, in one line for a path: where several proofs found it, in the words of one that knows which store is right
        let said = self.store.unaufs(&[&["verify", "--quiet"], args].concat()).exits(6).stdout;
        for (_, id, path, what) in wanted {
            let what = [", was", " in the new store"].iter().fold(*what, |w, end| w.trim_end_matches(end));
            let line = |l: &str| l.contains(*id) && l.contains(*path) && l.contains(what);
            assert!(said.lines().any(line), "{id} {path} {what}:\n{said}");
        }
        doc
    }
}

/// The full name of the entry of a directory that begins so; not the init layer's.
fn full(folder: &Path, begin: &str) -> String {
    let names = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut names = names.map(|e| e.expect("an entry").file_name().into_string().expect("text"));
    names.find(|n| n.starts_with(begin) && !n.ends_with("-init")).unwrap_or_else(|| panic!("no {begin}"))
}

/// Changes one bit in the middle of a file, and nothing else.
fn flip(path: &Path) {
    let m = fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = fs::File::options().read(true).write(true).open(path).expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, m.len() / 2).expect("read");
    file.write_all_at(&[byte[0] ^ 1], m.len() / 2).expect("write");
    file.set_times(FileTimes::new().set_modified(m.modified().expect("a time"))).expect("times");
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).expect("write");
}

/// The same file with a new inode.
fn part_from_its_links(path: &Path) {
    let other = path.with_extension("new");
    keep_time(path, || {
        let done = Command::new("cp").arg("-a").args([path, &other]).status().expect("cp");
        assert!(done.success());
        fs::rename(&other, path).expect("rename");
    });
}

/// Changes a name; the directory keeps its time.
fn keep_time(path: &Path, change: impl FnOnce()) {
    let folder = path.parent().expect("a folder");
    let time = fs::metadata(folder).expect("stat").modified().expect("a time");
    change();
    fs::File::open(folder).expect("open").set_times(FileTimes::new().set_modified(time)).expect("times");
}

/// Makes a whiteout.
fn white_out(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode};
    keep_time(path, || {
        rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).expect("mknod");
    });
}

/// Adds a value to tar-split data, which stays what it should be otherwise.
fn lengthen(tar_split: &Path) {
    let mut json = Vec::new();
    let gz = fs::read(tar_split).expect("tar-split");
    flate2::read::MultiGzDecoder::new(&gz[..]).read_to_end(&mut json).expect("gzip");
    json.extend(br#"{"type":2,"payload":"AAAA","position":9999}"#);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&json).expect("gzip");
    fs::write(tar_split, packed.finish().expect("gzip")).expect("write");
}

/// Damages files of layers in every way that all drivers have.
fn damage_files(m: &Moved) -> Vec<Named> {
    flip(&m.file(SINGLE, "b/2"));
    let chmod = |p: PathBuf| fs::set_permissions(p, fs::Permissions::from_mode(0o600)).expect("chmod");
    chmod(m.file(FILES, "many/f020"));
    let touch = |p: PathBuf| {
        let time = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1));
        fs::File::options().write(true).open(p).expect("open").set_times(time).expect("times");
    };
    touch(m.file(FILES, "many/f021"));
    let big = m.file(FILES, "d/big");
    let file = fs::File::options().write(true).open(&big).expect("open");
    let (size, time) =
        (file.metadata().expect("stat").len(), file.metadata().expect("stat").modified().expect("a time"));
    file.set_len(size - 1).expect("truncate");
    file.set_times(FileTimes::new().set_modified(time)).expect("times");
    xattr::remove(m.file(ATTRIBUTES, "perm/newcap"), "security.capability").expect("removed");
    xattr::set(m.file(ATTRIBUTES, "perm/rootsuid"), "user.added", b"1").expect("set");
    part_from_its_links(&m.file(BASE, "hl/two"));
    vec![
        ("layer", SINGLE, "b/2", "content"),
        ("layer", SINGLE, "b/2", "changed since the layer was made: its content has changed"),
        ("layer", FILES, "many/f020", "mode 0600, was"),
        ("layer", FILES, "many/f021", "modified 1970-01-01T00:00:01Z, was"),
        ("layer", FILES, "d/big", "size "),
        ("layer", FILES, "d/big", "bytes instead of"),
        ("layer", ATTRIBUTES, "perm/newcap", "xattr security.capability"),
        ("layer", ATTRIBUTES, "perm/rootsuid", "xattr user.added"),
        ("layer", BASE, "hl/two", "hard links are not grouped as they were"),
    ]
}

/// Damages Docker's metadata.
fn damage_metadata(m: &Moved) -> Vec<Named> {
    fs::write(m.record(SINGLE, "size"), "12345").expect("write");
    let split = m.record(ONE_FILE, "tar-split.json.gz");
    let gz = fs::read(&split).expect("tar-split");
    fs::write(&split, &gz[..gz.len() - 10]).expect("write");
    lengthen(&m.record(MIDDLE[0], "tar-split.json.gz"));
    replace(&m.path(format!("image/{}/repositories.json", m.driver)), "demo/pulled", "demo/pushed");
    replace(&m.config("config.v2.json"), "\"Name\":\"/", "\"Name\":\"/x");
    replace(&m.config("hostconfig.json"), "\"Binds\":", "\"Bonds\":");
    vec![
        ("metadata", "layerdb/sha256/", "", "/size doesn't have the expected content"),
        ("metadata", "layerdb/sha256/", "", "/tar-split.json.gz doesn't have the expected content"),
        ("layer", ONE_FILE, "", "the tar-split data is cut short"),
        ("layer", MIDDLE[0], "", "tar-split.json.gz has changed"),
        ("metadata", "repositories.json", "", "doesn't have the expected content"),
        ("container", CONTAINER.0, "", "config.v2.json doesn't have the expected content"),
        ("container", CONTAINER.0, "", "hostconfig.json doesn't have the expected content"),
    ]
}

/// Changes what a container wrote, and removes and adds a file.
fn damage_container(m: &Moved) -> Vec<Named> {
    flip(&m.file(CONTAINER.1, "rwfile"));
    fs::remove_dir_all(m.file(CONTAINER.1, "anon")).expect("removed");
    fs::write(m.file(CONTAINER.1, "added"), "").expect("write");
    vec![
        ("layer", CONTAINER.1, "rwfile", "content"),
        ("layer", CONTAINER.1, "anon", "missing in the new store"),
        ("layer", CONTAINER.1, "added", "only in the new store"),
        ("layer", CONTAINER.1, "", "modified "),
    ]
}

#[test]
fn overlay2_each_kind_of_damage_is_named() {
    let Some(m) = Moved::to("overlay2", "copy") else { return };
    let mut wanted = [damage_files(&m), damage_metadata(&m), damage_container(&m)].concat();
    xattr::remove(m.file(OPAQUE, "opq"), "trusted.overlay.opaque").expect("removed");
    let link = fs::read_to_string(m.folder(MIDDLE[0]).join("link")).expect("link");
    fs::remove_file(m.path("overlay2/l").join(&link)).expect("removed");
    let lower = fs::read_to_string(m.folder(MIDDLE[1]).join("lower")).expect("lower");
    let (first, rest) = lower.split_once(':').expect("several");
    fs::write(m.folder(MIDDLE[1]).join("lower"), format!("{rest}:{first}")).expect("write");
    white_out(&m.file(BASE, "etc/ghost"));
    wanted.extend([
        ("layer", OPAQUE, "opq/third", "only in the new store"),
        ("layer", OPAQUE, "opq", "its opaque mark is missing"),
        ("layer", MIDDLE[0], "", "the symlink l/"),
        ("layer", MIDDLE[1], "", "lower is "),
        ("layer", BASE, "etc/ghost", "a whiteout that hides nothing"),
    ]);
    let doc = m.finds(&[], &wanted, false);
    let side = |id: &str, what: &str| {
        let all = doc["differences"].as_array().expect("differences").clone();
        let is =
            |d: &Value| d["id"].as_str().is_some_and(|i| i.starts_with(id)) && d["what"].to_string().contains(what);
        all.into_iter().find(is).map(|d| d["side"].clone()).expect(id)
    };
    assert_eq!(side(SINGLE, "changed since the layer was made"), "new", "the digest says which side is wrong");
    assert_eq!(side(FILES, "bytes instead of"), "new");
    assert_eq!((side(ONE_FILE, "cut short"), side(MIDDLE[0], "has changed")), ("new".into(), "new".into()));
    // of image layers no content is read
    let ran = m.store.unaufs(&["verify", "--level", "fast", "--json", "--quiet"]).exits(6);
    let doc: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(doc["digests"], 0);
    let paths: Vec<&str> =
        doc["differences"].as_array().expect("all").iter().filter_map(|d| d["path"].as_str()).collect();
    assert!(paths.contains(&"many/f020") && !paths.contains(&"b/2"), "{paths:?}");
}

#[test]
fn vfs_each_kind_of_damage_is_named() {
    if !needs::long() {
        return;
    }
    let Some(m) = Moved::to("vfs", "copy") else { return };
    let mut wanted = [damage_files(&m), damage_metadata(&m), damage_container(&m)].concat();
    fs::remove_dir_all(m.folder(OPAQUE)).expect("removed");
    wanted.push(("layer", OPAQUE, "", "open directory"));
    m.finds(&[], &wanted, true);
}

#[test]
fn btrfs_each_kind_of_damage_is_named() {
    if !needs::long() || !needs::programs(&["mkfs.btrfs"]) || private::elsewhere(this_test!()) {
        return;
    }
    let Some(m) = Moved::to("btrfs", "auto") else { return };
    let mut wanted = [damage_files(&m), damage_metadata(&m), damage_container(&m)].concat();
    let gone = m.folder(OPAQUE);
    let done = Command::new("btrfs").args(["-q", "subvolume", "delete"]).arg(&gone).status().expect("btrfs");
    assert!(done.success());
    wanted.push(("layer", OPAQUE, "", "open directory"));
    m.finds(&[], &wanted, true);
}

/// A layer with more differences than a terminal should show.
#[test]
fn the_terminal_shows_twenty_of_a_layer_and_json_all() {
    let Some(m) = Moved::to("overlay2", "copy") else { return };
    let changed: Vec<String> = (0..25).map(|n| format!("many/added-{n:02}")).collect();
    for path in &changed {
        let path = m.file(FILES, path);
        keep_time(&path, || fs::write(&path, "").expect("write"));
    }
    let json = m.store.unaufs(&["verify", "--json", "-q"]).exits(6).stdout;
    let doc: Value = serde_json::from_str(&json).expect("JSON");
    // a layer on top of it has a directory of that name too, and shows the same
    let of = |d: &Value| d["id"].as_str().is_some_and(|id| id.starts_with(FILES));
    let own = |d: &&Value| of(d) && d["by"] == "comparison";
    let all = doc["differences"].as_array().expect("differences");
    let paths: Vec<&str> = all.iter().filter(own).filter_map(|d| d["path"].as_str()).collect();
    assert_eq!(paths, changed);
    let text = m.store.unaufs(&["verify", "-q"]).exits(6).stdout;
    let shown: Vec<&str> = text.lines().filter(|l| l.contains(FILES) && l.contains("/many/added-")).collect();
    assert_eq!(shown.len(), 20, "{text}");
    // the comparison names each, and so do the headers: people read one line
    assert!(shown.iter().zip(&changed).all(|(line, path)| line.contains(path)), "{text}");
    assert!(text.contains(&format!("… more of {FILES}")) && text.contains("--json has all"), "{text}");
    let paths: BTreeSet<String> = all.iter().map(|d| format!("{} {}", d["id"], d["path"])).collect();
    assert!(text.contains(&format!("{} differences", paths.len())), "{text}");
}

/// Docker works on the new store: what is its own to change is told apart, what nobody may change is damage as before.
#[test]
fn what_docker_has_changed_since_is_not_damage() {
    let Some(m) = Moved::to("overlay2", "copy") else { return };
    let clean: Value =
        serde_json::from_str(&m.store.unaufs(&["verify", "--json", "-q"]).exits(0).stdout).expect("JSON");
    assert_eq!((&clean["docker_ran"], &clean["changed_since"]), (&false.into(), &serde_json::json!([])));
    // the switch is noted in seconds; what unaufs itself does later is not taken for Docker
    std::thread::sleep(Duration::from_millis(1100));
    m.store.unaufs(&["status"]).exits(0);
    let clean: Value =
        serde_json::from_str(&m.store.unaufs(&["verify", "--json", "-q"]).exits(0).stdout).expect("JSON");
    assert_eq!(clean["docker_ran"], false);
    let did: Value = serde_json::from_str(&m.store.judged("use", &m.store.root, "overlay2")).expect("what was done");
    let doc: Value = serde_json::from_str(&m.store.unaufs(&["verify", "--json", "-q"]).exits(0).stdout).expect("JSON");
    assert_eq!((&doc["docker_ran"], &doc["differences"]), (&true.into(), &serde_json::json!([])), "{did}");
    let since = doc["changed_since"].as_array().expect("changed_since");
    let has = |kind: &str, id: &str, path: &str| {
        since.iter().any(|d| d["kind"] == kind && (id.is_empty() || d["id"] == id) && d["path"] == path)
    };
    assert!(has("layer", "", "written-on-the-new-store"), "{did} {since:?}");
    let removed = |d: &&Value| d["kind"] == "container" && d["id"] == did["removed"];
    let removed: Vec<&Value> = since.iter().filter(removed).collect();
    assert!(matches!(&removed[..], [one] if one["what"] == "removed"), "{did} {removed:?}");
    assert!(has("container", did["renamed"].as_str().expect("renamed"), ""), "{did} {since:?}");
    assert!(has("metadata", "repositories.json", ""), "{did} {since:?}");
    let said = m.store.unaufs(&["verify", "-q"]).exits(0).stdout;
    assert!(said.contains("Docker's own, not damage") && said.contains("config.v2.json"), "{said}");
    assert!(said.contains("Image layers are identical to the old store"), "{said}");

    flip(&m.file(SINGLE, "b/2"));
    let link = fs::read_to_string(m.folder(MIDDLE[0]).join("link")).expect("link");
    fs::remove_file(m.path("overlay2/l").join(&link)).expect("removed");
    let wanted = [
        ("layer", SINGLE, "b/2", "content"),
        ("layer", SINGLE, "b/2", "changed since the layer was made"),
        ("layer", MIDDLE[0], "", "the symlink l/"),
    ];
    m.finds(&[], &wanted, false);
}

/// In mode link both stores have one inode: no comparison can find what changes in it, the digest does.
#[test]
fn a_byte_that_flips_in_both_stores_is_found() {
    for driver in ["overlay2", "vfs"] {
        let Some(m) = Moved::to(driver, "link") else { return };
        let clean: Value =
            serde_json::from_str(&m.store.unaufs(&["verify", "--json", "-q"]).exits(0).stdout).expect("JSON");
        assert_eq!(clean["digests"], 23);
        assert_eq!(clean["unprovable"].as_array().map(Vec::len), Some(0));
        let path = m.file(SINGLE, "b/2");
        flip(&path);
        let old = m.path(".unaufs/old/aufs/diff").join(m.folder(SINGLE).file_name().expect("an id")).join("b/2");
        assert_eq!(fs::read(&old).expect("old"), fs::read(&path).expect("new"), "they are one file");
        let doc = m.finds(&[], &[("layer", SINGLE, "b/2", "its content has changed (checksum)")], false);
        assert_eq!(doc["differences"][0]["side"], "both");
        assert_eq!(doc["differences"][0]["name"], "part of demo/loaded:1", "{doc}");
        m.store.unaufs(&["verify", "--level", "fast", "-q"]).exits(0);
        flip(&path);
        m.store.unaufs(&["verify", "-q"]).exits(0);
    }
}

/// The other way round: what was copied is right, and the old store rots.
#[test]
fn damage_of_the_old_store_is_called_so() {
    let Some(m) = Moved::to("overlay2", "copy") else { return };
    let name = m.folder(SINGLE).file_name().expect("an id").to_owned();
    flip(&m.path(".unaufs/old/aufs/diff").join(name).join("b/2"));
    let doc = m.finds(
        &[],
        &[("layer", SINGLE, "b/2", "content"), ("layer", SINGLE, "b/2", "changed since the layer was made")],
        false,
    );
    let sides: Vec<&str> =
        doc["differences"].as_array().expect("two").iter().filter_map(|d| d["side"].as_str()).collect();
    assert_eq!(sides, ["old", "between"]);
    assert_eq!(doc["digests"], 23, "the new store's digests are right");
}

/// `migrate --verify full` stops before the switch where the source itself is not what Docker made, and says so.
#[test]
fn migrate_proves_with_the_same_code() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let layer = store.root.join("aufs/diff").join(full(&store.root.join("aufs/diff"), SINGLE));
    flip(&layer.join("b/2"));
    // before anything is migrated
    let ran = store.unaufs(&["verify", "--json", "-q"]).exits(6);
    let doc: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!((&doc["driver"], &doc["against_old"]), (&"aufs".into(), &false.into()));
    assert_eq!(doc["differences"].as_array().map(Vec::len), Some(1), "{doc}");
    assert_eq!(doc["differences"][0]["path"], "b/2");

    let before = tree(&store.root.join("aufs"));
    let ran = store.unaufs(&["migrate", "--to", "overlay2", "--mode", "copy", "--verify", "full", "-y", "-q"]).exits(6);
    assert!(ran.stderr.contains("b/2") && ran.stderr.contains("in the old store too"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--verify fast"), "{}", ran.stderr);
    assert!(!store.root.join("overlay2").exists());
    same("the old store is untouched", &before, &tree(&store.root.join("aufs")));
    store.unaufs(&["migrate", "--verify", "fast", "-y", "-q"]).exits(0);
}

/// When the old store is deleted, and where unaufs never worked, a store is checked against its own records.
#[test]
fn a_store_by_itself() {
    for driver in ["overlay2", "vfs"] {
        let Some(m) = Moved::to(driver, "copy") else { return };
        m.store.unaufs(&["cleanup", "--yes", "-q"]).exits(0);
        let said = m.store.unaufs(&["verify", "-q"]).exits(0).stdout;
        assert!(said.contains(&format!("CLEAN    The {driver} store matches its own records")), "{said}");
        assert!(said.contains("23 image layers match their tar headers and digests"), "{said}");
        // as on a host that never saw unaufs
        fs::remove_dir_all(m.path(".unaufs")).expect("removed");
        let clean = tree(&m.store.root);
        assert_eq!(m.store.unaufs(&["verify", "-q"]).exits(0).stdout, said);
        same("verify writes nothing", &clean, &tree(&m.store.root));
        m.store.unaufs(&["verify", "--driver", "btrfs", "-q"]).exits(10);
        m.store.unaufs(&["verify", "--driver", "zfs", "-q"]).exits(2);

        // what cannot be proved is named, and is no difference
        fs::remove_file(m.record(MIDDLE[0], "tar-split.json.gz")).expect("removed");
        let said = m.store.unaufs(&["verify", "-q"]).exits(0).stdout;
        let named = format!("1 layer can't be proved: no tar-split.json.gz ({}", MIDDLE[0]);
        assert!(said.contains(&named), "{said}");

        flip(&m.file(SINGLE, "b/2"));
        fs::write(m.record(FILES, "size"), "many\n").expect("write");
        let split = m.record(ONE_FILE, "tar-split.json.gz");
        let gz = fs::read(&split).expect("tar-split");
        fs::write(&split, &gz[..gz.len() - 10]).expect("write");
        replace(&m.path(format!("image/{driver}/repositories.json")), "\"sha256:0d34", "\"sha256:0d35");
        let configs = format!("image/{driver}/imagedb/content/sha256");
        flip(&m.path(&configs).join(m.full(&configs, "c9231f24")));
        let mounts = format!("image/{driver}/layerdb/mounts");
        let mount = m.path(&mounts).join(m.full(&mounts, CONTAINER.0));
        fs::write(mount.join("mount-id"), "0".repeat(64)).expect("write");
        let mut wanted: Vec<Named> = vec![
            ("layer", SINGLE, "b/2", "its content has changed"),
            ("layer", "659f0a8c", "", "its size isn't a number"),
            ("layer", ONE_FILE, "", "cut short"),
            ("tag", "127.0.0.1:5000/demo/pulled:v2", "", "doesn't exist"),
            ("container", CONTAINER.0, "", "is missing"),
            ("image", "0d34", "", "isn't in layerdb"),
            ("image", "c9231f24", "", "doesn't have the digest that is its ID"),
        ];
        if driver == "overlay2" {
            let link = fs::read_to_string(m.folder(ATTRIBUTES).join("link")).expect("link");
            fs::remove_file(m.path("overlay2/l").join(link)).expect("removed");
            let lower = m.folder(MIDDLE[1]).join("lower");
            let (_, rest) = fs::read_to_string(&lower)
                .expect("lower")
                .split_once(':')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .expect("several");
            fs::write(lower, rest).expect("write");
            wanted.push(("layer", ATTRIBUTES, "", "the symlink l/"));
            wanted.push(("layer", MIDDLE[1], "", "lower and layerdb name different layers"));
        }
        let ran = m.store.unaufs(&["verify", "--json", "-q"]).exits(6);
        let doc: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let found = doc["differences"].as_array().expect("differences");
        for (kind, id, path, what) in wanted {
            let is = |d: &&Value| {
                d["kind"] == kind
                    && d["id"].as_str().is_some_and(|i| i.starts_with(id))
                    && d["path"] == path
                    && d["what"].as_str().is_some_and(|w| w.contains(what))
                    && d["side"] == "itself"
            };
            assert!(found.iter().any(|d| is(&d)), "{driver}: {kind} {id} {what}: {}", ran.stdout);
        }
    }
}

/// A log of 423 GB of which next to nothing was ever written, as /var/log/lastlog is with the user ids of a directory service.
#[test]
fn holes_are_skipped_and_not_taken_for_equal() {
    if !needs::root() {
        return;
    }
    const LENGTH: u64 = 423_000_000_000;
    let store = real::small().unpack();
    let own = full(&store.root.join("aufs/diff"), CONTAINER.1);
    let old = fs::File::create(store.root.join("aufs/diff").join(&own).join("lastlog")).expect("a file");
    old.write_all_at(b"first", 0).expect("write");
    old.write_all_at(b"last", LENGTH - 4).expect("write");
    for to in ["overlay2", "vfs"] {
        store.unaufs(&["migrate", "--to", to, "--yes", "-q", "--verify", "fast"]).exits(0);
        for level in ["fast", "full"] {
            let ran = store.unaufs(&["verify", "--level", level, "--json"]).exits(0);
            let doc: Value = serde_json::from_str(&ran.stdout).expect("JSON");
            let read = doc["bytes"].as_u64().expect("a number");
            // on vfs that is all that each container shows
            assert!((1..1 << 30).contains(&read), "{to}, {level}: {read} bytes were read");
        }
        let tree = if to == "vfs" { format!("vfs/dir/{own}") } else { format!("overlay2/{own}/diff") };
        let new = fs::File::options().write(true).open(store.root.join(tree).join("lastlog")).expect("a file");
        let time = new.metadata().expect("stat").modified().expect("a time");
        new.write_all_at(b"x", LENGTH / 2).expect("write");
        new.set_times(FileTimes::new().set_modified(time)).expect("times");
        let said = store.unaufs(&["verify", "--level", "fast", "-q"]).exits(6).stdout;
        assert!(said.contains("/lastlog: "), "{to}: {said}");
        store.unaufs(&["rollback", "--drop-new", "--yes", "-q"]).exits(0);
    }
}
