//! The damages.

use super::*;
use std::fs::FileTimes;
use std::os::unix::fs::{FileExt, MetadataExt, lchown, symlink};
use std::time::UNIX_EPOCH;

/// The full name of the entry that begins so; not the init layer's.
pub fn full(dir: &Path, begin: &str) -> String {
    let names = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut names = names.map(|e| e.expect("an entry").file_name().into_string().expect("text"));
    names.find(|n| n.starts_with(begin) && !n.ends_with("-init")).unwrap_or_else(|| panic!("no {begin}"))
}

/// Everything about one path.
pub fn describe(path: &Path) -> String {
    let Ok(m) = fs::symlink_metadata(path) else { return "not there".to_owned() };
    let content = if m.is_file() { fs::read(path).expect("read") } else { Vec::new() };
    let names: Vec<_> = if m.is_dir() {
        fs::read_dir(path).expect("list").map(|e| e.expect("one").file_name()).collect()
    } else {
        Vec::new()
    };
    let mut attributes: Vec<_> = xattr::list(path).into_iter().flatten().collect();
    attributes.sort();
    let attributes: Vec<_> = attributes.iter().map(|a| (a.clone(), xattr::get(path, a).ok().flatten())).collect();
    let link = fs::read_link(path).ok();
    format!(
        "{:o} {}:{} {} {} {:?} {} {link:?} {attributes:?} {names:?} {content:?}",
        m.mode(),
        m.uid(),
        m.gid(),
        m.mtime(),
        m.rdev(),
        (m.ino(), m.nlink()),
        m.len()
    )
}

/// Changes a name; its directory keeps its time.
fn keep_time(path: &Path, change: impl FnOnce()) {
    let dir = path.parent().expect("a directory");
    let time = fs::metadata(dir).expect("stat").modified().expect("a time");
    change();
    fs::File::open(dir).expect("open").set_times(FileTimes::new().set_modified(time)).expect("times");
}

pub fn remove(path: &Path) {
    keep_time(path, || {
        let dir = fs::symlink_metadata(path).expect("there").is_dir();
        if dir { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
    });
}

fn add(path: &Path) {
    keep_time(path, || fs::write(path, "").expect("written"));
}

pub fn mode(bits: u32) -> Box<dyn Fn(&Path)> {
    Box::new(move |p| fs::set_permissions(p, Permissions::from_mode(bits)).expect("chmod"))
}

fn owner(p: &Path) {
    lchown(p, Some(1234), Some(4321)).expect("chown");
}

/// Writes, and puts the time back.
fn rewrite(path: &Path, change: impl FnOnce(&fs::File)) {
    let file = fs::File::options().read(true).write(true).open(path).expect("open");
    let time = file.metadata().expect("stat").modified().expect("a time");
    change(&file);
    file.set_times(FileTimes::new().set_modified(time)).expect("times");
}

/// One bit in the middle.
fn flip(path: &Path) {
    rewrite(path, |file| {
        let (mut byte, middle) = ([0], file.metadata().expect("stat").len() / 2);
        file.read_exact_at(&mut byte, middle).expect("read");
        file.write_all_at(&[byte[0] ^ 1], middle).expect("write");
    });
}

fn node(path: &Path, kind: rustix::fs::FileType, (major, minor): (u32, u32)) {
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::from_raw_mode(0o644), device).expect("mknod");
}

/// The same file with an inode of its own.
fn part(path: &Path) {
    keep_time(path, || {
        let other = path.with_extension("new");
        assert!(Command::new("cp").arg("-a").args([path, &other]).status().expect("cp").success());
        fs::rename(&other, path).expect("rename");
    });
}

/// The first name in a tree for which this holds.
fn find(top: &Path, is: &dyn Fn(&Path, &fs::Metadata) -> bool) -> String {
    let mut todo = vec![top.to_owned()];
    while let Some(dir) = todo.pop() {
        let mut all: Vec<PathBuf> = fs::read_dir(&dir).expect("list").map(|e| e.expect("one").path()).collect();
        all.sort();
        for path in all {
            let m = fs::symlink_metadata(&path).expect("stat");
            if is(&path, &m) {
                return path.strip_prefix(top).expect("below").to_str().expect("text").to_owned();
            }
            if m.is_dir() {
                todo.push(path);
            }
        }
    }
    panic!("nothing like that in {}", top.display());
}

/// Damage to image layers: the headers of their tars tell.
pub fn image_rows(b: &Bed) -> Vec<Row> {
    let row = |name, layer: &str, path: &str, change: Box<dyn Fn(&Path)>| {
        let (at, id, path) = (b.file(layer, path), layer.to_owned(), path.to_owned());
        Row { name, at, change, kind: "layer", id, path, full: false }
    };
    let stacked = b.driver == "overlay2";
    let empty = find(&b.file(BASE, ""), &|_, m| m.is_file() && m.len() == 0 && m.nlink() == 1);
    let bare = find(&b.file(BASE, ""), &|p, m| m.is_dir() && fs::read_dir(p).is_ok_and(|mut d| d.next().is_none()));
    let mut out = vec![
        row("symlink gone", SINGLE, "bin/sh", Box::new(remove)),
        row(
            "symlink points elsewhere",
            LINKED,
            "added/l",
            Box::new(|p| {
                let time = fs::symlink_metadata(p).expect("stat").mtime();
                remove(p);
                keep_time(p, || symlink("/etc/passwd", p).expect("symlink"));
                let t = rustix::fs::Timespec { tv_sec: time, tv_nsec: 0 };
                let times = rustix::fs::Timestamps { last_access: t, last_modification: t };
                rustix::fs::utimensat(rustix::fs::CWD, p, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                    .expect("times");
            }),
        ),
        row(
            "opaque mark gone",
            OPAQUE,
            "opq",
            match stacked {
                true => Box::new(|p| xattr::remove(p, "trusted.overlay.opaque").expect("removed")),
                false => Box::new(|p| add(&p.join("third"))),
            },
        ),
        row(
            "whiteout gone",
            FILES,
            "perm/sgiddir",
            match stacked {
                true => Box::new(remove),
                false => Box::new(|p| keep_time(p, || fs::create_dir(p).expect("mkdir"))),
            },
        ),
        row(
            "whiteout added",
            FILES,
            "etc",
            match stacked {
                true => Box::new(|p| keep_time(p, || node(p, rustix::fs::FileType::CharacterDevice, (0, 0)))),
                false => Box::new(remove),
            },
        ),
        row("empty file filled", BASE, &empty, Box::new(|p| rewrite(p, |f| f.write_all_at(b"x", 0).expect("write")))),
        row("empty directory gone", BASE, &bare, Box::new(remove)),
        row("device gone", ATTRIBUTES, "devs/myblk", Box::new(remove)),
        row(
            "device with another number",
            ATTRIBUTES,
            "devs/mychar",
            Box::new(|p| {
                remove(p);
                keep_time(p, || node(p, rustix::fs::FileType::CharacterDevice, (200, 201)));
            }),
        ),
        row("named pipe gone", ATTRIBUTES, "lnk/fifo", Box::new(remove)),
        row(
            "capability gone",
            ATTRIBUTES,
            "perm/newcap",
            Box::new(|p| {
                xattr::remove(p, "security.capability").expect("removed");
            }),
        ),
        row("setuid bit gone", ATTRIBUTES, "perm/rootsuid", mode(0o755)),
        row("owner of a file", FILES, "many/f020", Box::new(owner)),
        row("mode of a file", FILES, "many/f021", mode(0o600)),
        row(
            "time of a file",
            SINGLE,
            "f",
            Box::new(|p| {
                let time = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1));
                fs::File::options().write(true).open(p).expect("open").set_times(time).expect("times");
            }),
        ),
        row("mode of a directory", FILES, "uni", mode(0o700)),
        row("owner of a directory", OPAQUE, "perm", Box::new(owner)),
        row("hard link broken", LINKED, "added/h", Box::new(part)),
        row(
            "two files made one",
            SINGLE,
            "a/2",
            Box::new(|p| {
                keep_time(p, || {
                    fs::remove_file(p).expect("removed");
                    fs::hard_link(p.with_file_name("../b/s/1"), p).expect("link");
                });
            }),
        ),
        row("file gone", SINGLE, "c/1", Box::new(remove)),
        row("file added", SINGLE, "a/added", Box::new(add)),
        row(
            "file became a directory",
            SINGLE,
            "a/1",
            Box::new(|p| {
                remove(p);
                keep_time(p, || fs::create_dir(p).expect("mkdir"));
            }),
        ),
        row("mode of the root", SINGLE, "", mode(0o700)),
        Row { full: true, ..row("a byte of an image layer", SINGLE, "b/2", Box::new(flip)) },
    ];
    if stacked {
        // the old store has the same inode: only the headers can tell
        let set = |attr: &'static str, value: &'static [u8]| -> Box<dyn Fn(&Path)> {
            Box::new(move |p| xattr::set(p, attr, value).expect("set"))
        };
        out.push(row("metacopy attribute added", BASE, "many/f012", set("trusted.overlay.metacopy", b"")));
        let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        out.push(row("capability added", BASE, "many/f013", set("security.capability", capability)));
    }
    if !stacked {
        // a snapshot's inode says by its time of change that it was written
        let full = b.driver != "btrfs";
        out.push(Row { full, ..row("a byte that the parent has too", FILES, "bin/mani", Box::new(flip)) });
    }
    out
}

/// Damage to writable layers: only the old store says.
pub fn container_rows(b: &Bed) -> Vec<Row> {
    let row = |name, path: &str, change: Box<dyn Fn(&Path)>| {
        let (at, id, path) = (b.file(CONTAINER.1, path), CONTAINER.1.to_owned(), path.to_owned());
        Row { name, at, change, kind: "layer", id, path, full: false }
    };
    let mut out = vec![
        row("a byte of a container", "rwfile", Box::new(flip)),
        row("a directory of a container gone", "anon", Box::new(remove)),
        row("mode in a container", "anon2", mode(0o700)),
        row("a file in a container", "added", Box::new(add)),
    ];
    // each subvolume of a btrfs has its own inodes
    if b.driver == "btrfs" {
        return out;
    }
    for (_, layer) in b.others() {
        let old = b.old_path("aufs/diff").join(&layer);
        let names = fs::read_dir(&old).expect("the old layer").map(|e| e.expect("one"));
        let plain = |e: &fs::DirEntry| e.metadata().is_ok_and(|m| m.is_file() && m.len() > 0 && m.nlink() == 1);
        let mut names: Vec<_> = names.filter(plain).filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        let Some(name) = names.into_iter().find(|n| !n.starts_with(".wh.")) else { continue };
        let from = old.join(&name);
        let at = b.file(&layer, &name);
        let change = Box::new(move |p: &Path| {
            keep_time(p, || {
                fs::remove_file(p).expect("removed");
                fs::hard_link(&from, p).expect("link");
            });
        });
        out.push(Row {
            name: "an inode shared with the old store",
            at,
            change,
            kind: "layer",
            id: layer,
            path: name,
            full: false,
        });
        break;
    }
    assert_eq!(out.len(), 5, "a container with a file");
    out
}

/// Damage to records and to what is around the layers.
pub fn record_rows(b: &Bed) -> Vec<Row> {
    let row = |name, at: PathBuf, kind, id: &str, change: Box<dyn Fn(&Path)>| {
        let (id, path) = (id.to_owned(), String::new());
        Row { name, at, change, kind, id, path, full: false }
    };
    let chain = b.record(SINGLE);
    let chain = format!("layerdb/sha256/{}", chain.file_name().and_then(|n| n.to_str()).expect("a chain"));
    let image = full(&b.image("imagedb/content/sha256"), IMAGE);
    let config = format!("imagedb/content/sha256/{image}");
    // gone from the records, and its layer is there
    let (kind, id) = match b.state {
        Ran => ("image", image.clone()),
        Cleaned => ("tag", String::new()),
        _ => ("metadata", config.clone()),
    };
    let gone = row("image gone from the records", b.image(&config), kind, &id, Box::new(remove));
    let containers = |id: &str| b.new_path("containers").join(id).join("config.v2.json");
    let others = b.others();
    let mut out = vec![
        gone,
        row(
            "configuration emptied",
            containers(&others[0].0),
            "container",
            &others[0].0,
            Box::new(|p| fs::write(p, "").expect("written")),
        ),
        row(
            "driver set back",
            containers(&others[1].0),
            "container",
            &others[1].0,
            Box::new(|p| {
                let text = fs::read_to_string(p).expect("config");
                let at = text.find("\"Driver\":\"").expect("a driver") + 10;
                let end = at + text[at..].find('"').expect("its end");
                fs::write(p, [&text[..at], "aufs", &text[end..]].concat()).expect("written");
            }),
        ),
    ];
    if b.state == Cleaned {
        return out;
    }
    let home = b.home();
    let stranger = format!("{home}/stranger");
    out.extend([
        row("mode of a record", b.image("repositories.json"), "metadata", "repositories.json", mode(0o666)),
        row(
            "owner of a record",
            b.image(&format!("{chain}/size")),
            "metadata",
            &format!("{chain}/size"),
            Box::new(owner),
        ),
        row("mode of a directory of records", b.image("imagedb/content"), "metadata", "imagedb/content", mode(0o777)),
        row(
            "a record changed",
            b.image(&format!("{chain}/diff")),
            "metadata",
            &format!("{chain}/diff"),
            Box::new(flip),
        ),
        row("a record that nobody planned", b.image("stranger"), "metadata", "stranger", Box::new(add)),
        row(
            "a directory of records that nobody planned",
            b.image("layerdb/sha256/stranger"),
            "metadata",
            "layerdb/sha256/stranger",
            Box::new(|p| fs::create_dir(p).expect("mkdir")),
        ),
        row(
            "a layer that nobody planned",
            b.new_path(&stranger),
            "metadata",
            &stranger,
            Box::new(|p| fs::create_dir(p).expect("mkdir")),
        ),
    ]);
    if matches!(b.driver, "overlay2" | "overlay") {
        let init = full(&b.new_path(home), CONTAINER.1) + "-init";
        out.push(row("mode of work/", b.new_path(home).join(&init).join("work"), "layer", &init, mode(0o777)));
        out.push(row("mode of a layer's directory", b.layer(MIDDLE), "layer", MIDDLE, mode(0o777)));
    }
    if b.driver == "overlay2" {
        out.push(row("mode of l/", b.new_path("overlay2/l"), "metadata", "overlay2/l", mode(0o777)));
        out.push(row(
            "a name in l/ that nobody planned",
            b.new_path("overlay2/l/STRANGER"),
            "metadata",
            "overlay2/l/STRANGER",
            Box::new(|p| {
                symlink("../x/diff", p).expect("symlink");
            }),
        ));
    }
    out
}
