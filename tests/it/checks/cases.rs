//! A pair for each check.

use super::bed::{Bed, put};
use super::graph;
use super::store::{self, BASE, NONE, RW, TOP, WEB};
use rustix::fs::{CWD, FileType, Mode, makedev};
use std::fs;
use std::path::{Path, PathBuf};

/// A check, a machine on which it speaks, and one on which it does not.
pub struct Case {
    pub id: &'static str,
    pub speaks: fn() -> Bed,
    pub silent: fn() -> Bed,
}

/// `ID: changes of a sound machine on which it speaks => changes on which it does not`.
macro_rules! cases {
    ($($id:ident $sound:ident: $speaks:expr => $silent:expr;)*) => {
        /// All of them.
        pub fn all() -> Vec<Case> {
            vec![$(Case {
                id: stringify!($id),
                speaks: || Bed::$sound().with($speaks),
                silent: || Bed::$sound().with($silent),
            }),*]
        }
    };
}

/// A file of a layer.
fn file(b: &Bed, layer: &str, path: &str, text: &str) {
    put(&inside(b, layer, path), text);
}

fn inside(b: &Bed, layer: &str, path: &str) -> PathBuf {
    b.root.join("aufs/diff").join(layer).join(path)
}

fn device(b: &Bed, major: u32, minor: u32) {
    let path = inside(b, BASE, "device");
    rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(major, minor))
        .expect("a device");
}

fn attribute(b: &Bed, name: &str) {
    xattr::set(inside(b, BASE, "srv/page"), name, b"y").expect("an attribute");
}

fn daemon_json(b: &Bed, text: &str) {
    b.machine("etc/docker/daemon.json", text);
}

fn config(b: &Bed, more: serde_json::Value) {
    b.write(&format!("containers/{WEB}/config.v2.json"), &store::config(more));
}

fn record(b: &Bed, n: usize) -> PathBuf {
    let base = store::link(None, 0);
    let own = if n == 0 { store::link(None, 0) } else { store::link(Some(&base), n) };
    b.root.join("image/aufs/layerdb").join(own.chain.replace(':', "/"))
}

/// An image of so many layers.
fn deep(b: &Bed, layers: usize) {
    let mut links: Vec<store::Link> = Vec::new();
    let mut folders: Vec<String> = Vec::new();
    for n in 0..layers {
        let own = store::link(links.last(), 100 + n);
        let folder = store::hex(format!("folder {n}"));
        store::record(&b.root, "aufs", &own, links.last(), &folder);
        b.mkdir(&format!("aufs/diff/{folder}"));
        let below: String = folders.iter().rev().map(|f| format!("{f}\n")).collect();
        b.write(&format!("aufs/layers/{folder}"), &below);
        links.push(own);
        folders.push(folder);
    }
    store::image(&b.root, "deep:1", &links.iter().collect::<Vec<_>>());
}

/// A store of overlay2 with one layer in this directory.
fn populated(b: &Bed, folder: &str) {
    b.mkdir(&format!("overlay2/{folder}/diff"));
    b.mkdir("overlay2/l");
    b.mkdir("image/overlay2");
}

fn mounts(b: &Bed, options: &str, super_options: &str) {
    b.machine("proc/self/mountinfo", &format!("25 1 8:1 / / {options} - ext4 /dev/sda1 {super_options}\n"));
}

fn mounted(b: &Bed, path: &Path) {
    b.process("sleep", &["sleep", "9"], &format!("40 25 0:40 / {} rw - tmpfs tmpfs rw\n", path.display()));
}

fn dated(b: &Bed, from_now: i64) {
    let now = std::time::SystemTime::now();
    let step = std::time::Duration::from_secs(from_now.unsigned_abs());
    let time = if from_now > 0 { now + step } else { now - step };
    fs::File::open(b.root.join("containers")).and_then(|f| f.set_modified(time)).expect("a time");
}

/// As many names for one file, in two directories.
fn names(b: &Bed, n: usize) {
    let first = inside(b, BASE, "srv/page");
    fs::create_dir(inside(b, BASE, "names")).expect("a folder");
    for i in 1..n {
        fs::hard_link(&first, inside(b, BASE, &format!("names/{i}"))).expect("a link");
    }
}

/// A newer Docker's account of image 9, with the image itself or without.
fn converted(b: &Bed, there: bool) {
    let id = store::image(&b.root, "converted:1", &[]);
    b.write(".migration-v1-images.json", &format!(r#"{{"{}":"sha256:{id}"}}"#, graph::id(9)));
    if !there {
        b.remove(&format!("image/aufs/imagedb/content/sha256/{id}"));
    }
}

/// An empty directory for the new root; `fill` puts something in it.
fn target(b: &mut Bed, fill: fn(&Path)) {
    let at = b.beside("new");
    fs::create_dir(&at).expect("a folder");
    fill(&at);
    b.options["target"] = at.display().to_string().into();
}

/// The container mounts a directory of the root by its path.
fn binds(b: &Bed, folder: &str) {
    b.mkdir(folder);
    let source = b.root.join(folder);
    let point = serde_json::json!({"Type": "bind", "Source": source, "Destination": "/x", "Name": "", "RW": true});
    config(b, serde_json::json!({"MountPoints": {"/x": point}}));
}

fn symlink(b: &Bed, name: &str, to: &str) {
    std::os::unix::fs::symlink(to, b.root.join(name)).expect("a symlink");
}

fn sound(_: &mut Bed) {}

cases! {
    C01 content: |b| b.mkdir(&format!("containers/{NONE}")) => sound;
    C02 content: |b| config(b, serde_json::json!({"Driver": "devicemapper"})) => |b| config(b, serde_json::json!({"Driver": ""}));
    C03 content: |b| config(b, serde_json::json!({"State": {"Running": true}})) => |b| config(b, serde_json::json!({"State": {"Paused": true}}));
    C04 content: |b| b.remove(&format!("aufs/diff/{RW}")) => |b| b.remove(&format!("aufs/diff/{RW}/data"));
    C05 content: |b| b.write(&format!("aufs/layers/{RW}"), &format!("{RW}-init\n"))
        => |b| b.write(&format!("aufs/layers/{RW}"), &format!("{RW}-init\n\n{TOP}\n{BASE}"));
    C06 content: |b| b.remove(&format!("containers/{WEB}/hostconfig.json")) => |b| b.write(&format!("containers/{WEB}/hostconfig.json"), "{}");
    C07 content: |b| { b.remove(&format!("containers/{WEB}")); b.remove(&format!("image/aufs/layerdb/mounts/{WEB}")); } => sound;
    D01 content: |b| b.remove(&format!("aufs/diff/{BASE}")) => |b| b.remove(&format!("aufs/diff/{BASE}/etc"));
    D02 content: |b| fs::remove_file(record(b, 0).join("tar-split.json.gz")).expect("gone") => sound;
    D03 content: |b| b.write(&format!("image/aufs/imagedb/content/sha256/{NONE}"), "{}") => sound;
    D04 content: |b| b.mkdir(&format!("aufs/diff/{NONE}-removing")) => |b| file(b, TOP, "x-removing", "");
    D05 content: |b| b.mkdir(&format!("aufs/diff/{NONE}")) => sound;
    D06 content: |b| b.write("image/aufs/repositories.json", &format!(r#"{{"Repositories":{{"x":{{"x:1":"sha256:{NONE}"}}}}}}"#))
        => |b| b.write("image/aufs/repositories.json", r#"{"Repositories":{}}"#);
    D07 content: |b| b.mkdir("image/aufs/layerdb/tmp/write-set-1") => |b| b.mkdir("image/aufs/layerdb/tmp");
    D08 content: |b| b.write(&format!("aufs/layers/{TOP}"), "") => |b| b.write(&format!("aufs/layers/{TOP}"), &format!("\n{BASE}"));
    D09 content: |b| b.mkdir(&format!("image/aufs/layerdb/mounts/{NONE}")) => sound;
    D10 content: |b| b.write("image/aufs/repositories.json", "{") => |b| b.write("image/aufs/repositories.json", "{}");
    D11 content: |b| b.mkdir("buildkit") => |b| b.write("buildkit", "a file");
    D12 content: |b| b.mkdir(&format!("vfs/dir/{NONE}")) => |b| b.mkdir("vfs/dir");
    D13 content: |b| b.write(&format!("aufs/mnt/{RW}/data/x"), "x") => |b| b.mkdir(&format!("aufs/mnt/{RW}"));
    D14 content: |b| fs::write(record(b, 1).join("diff"), "").expect("a file") => sound;
    G01 graph: |b| b.write(&format!("graph/{}/json", graph::id(9)), "{") => sound;
    G02 graph: |b| graph::image(&b.root, 8, None, 5) => |b| graph::image(&b.root, 8, None, 6);
    G03 graph: |b| graph::tags(&b.root, "Upper/case", "1", 9) => |b| graph::tags(&b.root, "lower/case", "1", 9);
    G04 graph: |b| b.write("linkgraph.db", "not SQLite") => sound;
    G05 graph: sound => |b| {
        for path in ["graph", "aufs", "containers"] {
            b.remove(path);
        }
        graph::empty(&b.root);
    };
    G06 graph: |b| {
        b.remove(&format!("graph/{}/tar-data.json.gz", graph::id(9)));
        file(b, &graph::id(9), "größe", "content");
    } => |b| {
        b.remove(&format!("graph/{}/tar-data.json.gz", graph::id(9)));
        file(b, &graph::id(9), "file", "content");
    };
    G07 graph: |b| b.write(&format!("graph/{}/layersize", graph::id(1)), "-1") => |b| b.write(&format!("graph/{}/layersize", graph::id(1)), "77");
    G08 graph: |b| converted(b, true) => |b| converted(b, false);
    G09 graph: |b| graph::container(&b.root, 0xd, "web", "") => |b| graph::container(&b.root, 0xd, "db", "");
    G10 graph: |b| graph::container(&b.root, 0xc, "web", &format!(r#","Volumes":{{"/data":"/var/lib/docker/vfs/dir/{NONE}"}}"#))
        => |b| graph::container(&b.root, 0xc, "web", r#","Volumes":{"/data":"/srv/data"}"#);
    H01 content: |b| b.process("dockerd", &["dockerd", "--data-root", "/data"], "")
        => |b| b.process("dockerd", &["dockerd", "--data-root", "/elsewhere"], "");
    H02 content: |b| mounted(b, &b.root.join("aufs/mnt/x")) => |b| mounted(b, &b.root.with_file_name("docker2/aufs"));
    H03 content: |b| b.machine("proc/self/status", "CapEff:\t00000000a80425fb\n") => |b| b.machine("proc/self/status", "CapEff:\t0000003fffffffff\n");
    H04 content: |b| b.machine("proc/filesystems", "nodev\toverlayfs\n") => |b| b.machine("proc/filesystems", "nodev\toverlay\n");
    H05 content: |b| b.target_on_tmpfs("size=8k") => |b| b.target_on_tmpfs("size=64m");
    H06 content: |b| b.target_on_tmpfs("size=64m,nr_inodes=8") => |b| b.target_on_tmpfs("size=64m,nr_inodes=2000");
    H07 content: |b| daemon_json(b, r#"{"storage-driver": "aufs"}"#) => |b| daemon_json(b, r#"{"storage-driver": "overlay2"}"#);
    H08 content: |b| b.write("overlay2", "a file") => |b| b.mkdir("overlay2");
    H09 content: |b| mounts(b, "rw", "rw,prjquota") => |b| mounts(b, "rw", "rw,usrquota");
    H10 content: |b| mounts(b, "ro,relatime", "rw") => |b| mounts(b, "rw,relatime", "rw,errors=remount-ro");
    H11 content: |b| b.lock("aufs/diff") => |b| b.lock(&format!("aufs/diff/{BASE}/srv"));
    H12 content: |b| daemon_json(b, r#"{"live-restore": true}"#) => |b| daemon_json(b, r#"{"live-restore": false}"#);
    H13 content: |b| b.write("swarm/docker-state.json", "{}") => |b| b.mkdir("swarm");
    H14 content: |b| b.machine("sys/fs/selinux/enforce", "0") => |b| b.machine("sys/fs/selinux-is-not-there", "");
    H15 content: |b| b.mkdir("231072.231072") => |b| b.mkdir("231072.x");
    H16 content: |b| dated(b, 3600) => |b| dated(b, -3600);
    H17 content: |b| b.dockerd("1.11.2") => |b| b.dockerd("1.12.0");
    H18 content: |b| { b.options["to"] = "vfs".into(); mounts(b, "rw,nodev,noexec", "rw"); }
        => |b| { b.options["to"] = "vfs".into(); mounts(b, "rw,nosuid", "rw"); };
    H19 content: |b| b.machine("proc/self/mountinfo", "25 1 0:40 / / rw,relatime - overlay overlay rw,lowerdir=/,upperdir=/u,workdir=/w\n")
        => |b| b.machine("proc/self/mountinfo", "25 1 0:40 / / rw,relatime - overlay overlay rw,lowerdir=/,redirect_dir=on\n");
    L01 content: |b| file(b, BASE, ".wh..wh.plnk/12.34", "") => |b| file(b, BASE, "wh..wh.plnk/12.34", "");
    L02 content: |b| file(b, TOP, ".wh..wh..opq", "") => |b| file(b, TOP, "usr/.wh..wh..opq", "");
    L03 content: |b| device(b, 0, 0) => |b| device(b, 1, 3);
    L04 content: |b| attribute(b, "trusted.overlay.opaque") => |b| attribute(b, "trusted.overlayed");
    L05 content: |b| file(b, TOP, "etc/passwd", "beside .wh.passwd") => |b| file(b, TOP, "usr/passwd", "");
    L06 content: |b| {
        file(b, TOP, "srv/.wh..wh..opq", "");
        file(b, TOP, "srv/between", "shown by aufs only");
        file(b, RW, "srv/.wh..wh..opq", "");
    } => |b| {
        file(b, TOP, "srv/between", "hidden by both");
        file(b, RW, "srv/.wh..wh..opq", "");
    };
    L07 content: |b| file(b, BASE, &"n".repeat(243), "") => |b| file(b, BASE, &"n".repeat(242), "");
    L08 content: |b| file(b, TOP, ".wh.nothing", "") => |b| file(b, TOP, ".wh.srv", "");
    L09 content: |b| file(b, TOP, "etc/.wh.passwd", "text") => sound;
    L10 content: |b| names(b, 65_000) => |b| names(b, 640);
    L11 content: |b| b.lock(&format!("aufs/diff/{BASE}/etc/passwd")) => |b| b.lock("containers");
    N01 content: |b| target(b, |at| put(&at.join("something"), "in it")) => |b| target(b, |_| ());
    N02 content: |b| { b.write(&format!("image/zfs/imagedb/content/sha256/{NONE}"), "{}"); target(b, |_| ()); }
        => |b| target(b, |_| ());
    N03 content: |b| target(b, |_| ()) => sound;
    N04 content: |b| target(b, |_| ()) => sound;
    N05 content: |b| { symlink(b, "volumes", "/srv/volumes"); target(b, |_| ()); } => |b| { b.mkdir("volumes"); target(b, |_| ()); };
    N06 content: |b| { binds(b, "aufs-backup"); target(b, |_| ()); } => |b| binds(b, "aufs-backup");
    T01 content: |b| b.mkdir("overlay2/l") => |b| b.mkdir("overlay/l");
    T02 content: |b| populated(b, NONE) => |b| b.mkdir("overlay2/l");
    T03 content: |b| populated(b, RW) => |b| populated(b, NONE);
    T04 content: |b| b.options["to"] = "btrfs".into() => |b| b.options["to"] = "vfs".into();
    T05 content: |b| b.options["to"] = "vfs".into() => |b| {
        b.options["to"] = "vfs".into();
        daemon_json(b, r#"{"storage-driver": "vfs"}"#);
    };
    T06 content: |b| deep(b, 130) => |b| deep(b, 125);
    T07 content: |b| b.mkdir("overlay2.temp") => |b| b.mkdir("overlay2.tar");
    T08 content: |b| b.options["mode"] = "clone".into() => |b| b.options["mode"] = "copy".into();
    T09 content: |b| b.root_on_tmpfs() => sound;
    T10 content: |b| config(b, serde_json::json!({"Driver": "overlayfs"})) => |b| config(b, serde_json::json!({"Driver": "zfs"}));
    T11 content: |b| { b.dockerd("23.0.6"); b.write("devicemapper/metadata", "x"); }
        => |b| { b.dockerd("25.0.5"); b.write("devicemapper/metadata", "x"); };
}
