//! The stores to be ill-treated, each made once and then copied.
//!
//! ```text
//! docker20-aufs, docker19-aufs    written by real Dockers, of both generations
//! small                           made here: 2 images, 2 containers, every kind of marker; few effects, so that all can be tried
//! small-graph                     the least of docker19-aufs, its base with few files, and images that its Docker recorded no tar of
//! small-filled                    small next to an overlay2 that is in use
//! ```

use crate::bed::{Bed, base, path, sh};
use crate::support::stack::{store as branches, text};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A content-addressable store, written by a real Docker: the smaller one, or that of the project.
pub fn real() -> &'static str {
    const LITTLE: &str = "docker20-aufs-leftovers";
    if archive(LITTLE).is_some() { LITTLE } else { "docker20-aufs" }
}

/// The root of a store; never to be changed.
pub fn source(name: &str) -> PathBuf {
    static ONE: Mutex<()> = Mutex::new(());
    let to = base().join("stores").join(name);
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let inner = archive(name).map_or_else(|| "root".into(), |(_, inner)| inner);
    if !to.exists() {
        let fresh = base().join("stores").join(format!(".{name}.{}", std::process::id()));
        fs::create_dir_all(&fresh).expect("make folder");
        match name {
            "small" => small(&fresh.join("root")),
            "small-graph" => graph(&fresh.join("root")),
            "small-filled" => filled(&fresh.join("root")),
            _ => unpack(name, &fresh),
        }
        // what a run makes is told from this by its second
        std::thread::sleep(std::time::Duration::from_secs(1));
        // another process may have been faster
        if fs::rename(&fresh, &to).is_err() {
            fs::remove_dir_all(&fresh).expect("remove folder");
        }
    }
    to.join(inner)
}

/// An archive and the root in it: the project's own in `tests/stores`, others where `UNAUFS_STORES` says.
fn archive(name: &str) -> Option<(PathBuf, PathBuf)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = here.join(format!("tests/stores/{name}.tar.xz"));
    if own.is_file() {
        return Some((own, "root".into()));
    }
    let beside = PathBuf::from(std::env::var_os("UNAUFS_STORES")?);
    let root = fs::read_to_string(beside.join(name).join("root.path")).ok()?;
    Some((beside.join(name).join("root.tar.xz"), root.trim().into()))
}

fn unpack(name: &str, to: &Path) {
    let (archive, _) = archive(name).unwrap_or_else(|| panic!("there is no store {name}"));
    let options = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"];
    sh("tar", &[&options[..], &[path(&archive), "-C", path(to)]].concat());
}

const SMALL: &str = "
    layer
    d etc mode=0700 owner=1:2
    f etc/passwd =root x:user.a=b
    h etc/again -> etc/passwd
    s sh -> etc/passwd
    c null 1:3
    f hidden/below =x
    f gone =x
    layer
    w gone
    f hidden/above mode=04755 =y
    o hidden
    f etc/passwd =root2
    p pipe
    f sparse holes
";

fn small(root: &Path) {
    branches::write(&text::parse(SMALL), root, branches::Containers::All);
    sh("chmod", &["0711", path(root)]);
}

/// An image in a graph that its Docker recorded no tar of.
const CHILD: &str = "c0ffee0000000000000000000000000000000000000000000000000000000001";

/// One image with its tags and those below it, the containers on it, and a child of it.
fn graph(root: &Path) {
    unpack("docker19-aufs", root.parent().expect("a folder"));
    let read = |p: &str| fs::read_to_string(root.join(p)).unwrap_or_else(|e| panic!("{p}: {e}"));
    let json = |p: &str| serde_json::from_str::<serde_json::Value>(&read(p)).unwrap_or_else(|e| panic!("{p}: {e}"));
    let names = |p: &str| -> Vec<String> {
        let all = fs::read_dir(root.join(p)).expect("a folder");
        all.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let mut tags = json("repositories-aufs");
    let image = tags["Repositories"]["demo/vols"]["1"].as_str().expect("the image").to_owned();
    let tagged = tags["Repositories"].as_object_mut().expect("tags");
    for repository in tagged.values_mut() {
        repository.as_object_mut().expect("tags").retain(|_, id| *id == *image);
    }
    tagged.retain(|_, t| t.as_object().is_some_and(|t| !t.is_empty()));
    fs::write(root.join("repositories-aufs"), tags.to_string()).expect("tags");
    let on_it = |c: &String| json(&format!("containers/{c}/config.json"))["Image"] == *image;
    let (kept, gone): (Vec<String>, Vec<String>) = names("containers").into_iter().partition(on_it);
    assert!(!kept.is_empty(), "no container on {image}");
    let remove = |p: String| {
        sh("rm", &["-rf", path(&root.join(p))]);
    };
    gone.iter().for_each(|c| remove(format!("containers/{c}")));
    // nearest first; what is in `json` of an image that came from a registry does not tell it
    let below = read(&format!("aufs/layers/{image}"));
    let of_image = |id: &str| *id == *image || below.lines().any(|l| l == id);
    names("graph").iter().filter(|i| !of_image(i) && *i != "_tmp").for_each(|i| remove(format!("graph/{i}")));
    let stays = |id: &str| of_image(id) || kept.iter().any(|c| id.starts_with(c.as_str()));
    for id in names("aufs/layers").iter().filter(|id| !stays(id)) {
        ["diff", "layers", "mnt"].iter().for_each(|f| remove(format!("aufs/{f}/{id}")));
    }
    thin(root, below.lines().last().expect("a base"));
    let mut child = json(&format!("graph/{image}/json"));
    child["id"] = CHILD.into();
    child["parent"] = image.clone().into();
    let files = [
        (format!("graph/{CHILD}/json"), child.to_string()),
        (format!("graph/{CHILD}/layersize"), "5".to_owned()),
        (format!("aufs/layers/{CHILD}"), format!("{image}\n{below}")),
        (format!("aufs/diff/{CHILD}/etc/child"), "child".to_owned()),
    ];
    for (file, content) in files {
        let file = root.join(file);
        fs::create_dir_all(file.parent().expect("a folder")).expect("make folder");
        fs::write(file, content).expect("write");
    }
    fs::create_dir(root.join("aufs/mnt").join(CHILD)).expect("make folder");
    fs::set_permissions(root.join("aufs/diff").join(CHILD), fs::Permissions::from_mode(0o755)).expect("mode");
}

/// Takes most of a base layer away: on some targets each name in it is several effects in each layer that is based on it, and nobody can try
/// thousands of them. What was recorded of its tar goes too, as if Docker had recorded none.
fn thin(root: &Path, base: &str) {
    let mut todo = vec![root.join("aufs/diff").join(base)];
    while let Some(folder) = todo.pop() {
        let entries = fs::read_dir(&folder).expect("a folder").map(|e| e.expect("an entry").path());
        let (mut folders, mut files): (Vec<_>, Vec<_>) = entries.partition(|p| p.is_dir() && !p.is_symlink());
        folders.sort();
        files.sort();
        // in the root bin/, d/ and dev/ stay: two names of one file, directories in directories, devices
        folders.iter().skip(3).for_each(|f| fs::remove_dir_all(f).expect("remove a folder"));
        files.iter().skip(2).for_each(|f| fs::remove_file(f).expect("remove a file"));
        todo.extend(folders.into_iter().take(3));
    }
    fs::remove_file(root.join("graph").join(base).join("tar-data.json.gz")).expect("what is recorded of the tar");
}

/// What a Docker would have that was moved to overlay2 before, and an aufs store next to it.
fn filled(root: &Path) {
    graph(root);
    let before = Bed::at(root.to_owned());
    before.run(&["migrate", "--yes"]).expect(&[0, 3]);
    before.run(&["cleanup", "--yes"]).expect(&[0]);
    sh("rm", &["-rf", path(&root.join(".unaufs"))]);
    branches::write(&text::parse(SMALL), root, branches::Containers::All);
}
