use super::*;
use crate::tar::split::Packer;
use crate::tar::writer::{Entry, Node, TarWriter};
use std::fs::{self, FileTimes, Permissions};
use std::io::repeat;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// The same tree and tar: `d/`, `d/file`, `d/two` (a hard link), `d/link`, `d/.wh.gone`, `over/.wh..wh..opq`, `dir/../deep/x`.
fn layer(top: &Path) -> Vec<u8> {
    let own = fs::metadata(top).expect("stat");
    let mut tar = TarWriter::recording(Vec::new(), Packer::new(Vec::new()));
    let mut put = |name: &[u8], node: Node<'_>, mode| {
        let entry = Entry { name, node, mode, uid: own.uid(), gid: own.gid(), mtime: (7, 0), xattrs: &[] };
        let size = if let Node::File { size } = node { size } else { 0 };
        tar.append(&entry, &mut repeat(b'x').take(size)).expect("append");
    };
    put(b"d/", Node::Directory, 0o755);
    put(b"d/file", Node::File { size: 3 }, 0o640);
    put(b"d/two", Node::HardLink { first: b"d/file" }, 0o640);
    put(b"d/link", Node::Symlink { target: b"file" }, 0o777);
    put(b"d/.wh.gone", Node::File { size: 0 }, 0o444);
    put(b"over/.wh..wh..opq", Node::File { size: 0 }, 0o444);
    put(b".wh..wh.plnk/1.2", Node::File { size: 0 }, 0o444);
    put(b"./deep//x", Node::File { size: 0 }, 0o600);
    let (_, split) = tar.finish().expect("tar");
    for dir in ["d", "over", "deep"] {
        fs::create_dir(top.join(dir)).expect("mkdir");
    }
    for (name, text, mode) in
        [("d/file", "xxx", 0o640), ("d/.wh.gone", "", 0o444), ("over/.wh..wh..opq", "", 0o444), ("deep/x", "", 0o600)]
    {
        fs::write(top.join(name), text).expect("write");
        fs::set_permissions(top.join(name), Permissions::from_mode(mode)).expect("chmod");
    }
    fs::hard_link(top.join("d/file"), top.join("d/two")).expect("link");
    symlink("file", top.join("d/link")).expect("symlink");
    at_seven(top);
    split.expect("recorded")
}

/// Gives everything that the tar names its time.
fn at_seven(top: &Path) {
    let t = rustix::fs::Timespec { tv_sec: 7, tv_nsec: 5 };
    let times = rustix::fs::Timestamps { last_access: t, last_modification: t };
    rustix::fs::utimensat(rustix::fs::CWD, top.join("d/link"), &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).ok();
    for name in ["d/file", "deep/x", "d"] {
        let time = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(7));
        if let Ok(f) = fs::File::open(top.join(name)) {
            f.set_times(time).expect("times");
        }
    }
}

fn faults(top: &Path, stored: Stored<'_>, split: &[u8]) -> Vec<String> {
    fs::set_permissions(top, Permissions::from_mode(0o755)).expect("chmod");
    let tree = Dir::open_named(top).expect("open");
    // the root belongs to the user who runs the test; so do the entries
    let own = fs::metadata(top).expect("stat");
    let owners = Shift::default();
    let all = check(&Layer { tree: &tree, stored, owners }, split).expect("checked");
    let root = format!("owner {}:{}, Docker", own.uid(), own.gid());
    let show = |f: Fault| format!("{}: {}", String::from_utf8_lossy(&f.path), f.what);
    all.list.into_iter().filter(|f| !f.what.starts_with(&root)).map(show).collect()
}

#[test]
fn a_tree_that_its_tar_made_fits_and_one_that_changed_does_not() {
    let t = tempfile::tempdir().expect("temp dir");
    let split = layer(t.path());
    assert_eq!(faults(t.path(), Stored::Literal, &split), Vec::<String>::new());
    let at = |p: &str| t.path().join(p);
    fs::remove_file(at("d/.wh.gone")).expect("rm");
    fs::remove_file(at("over/.wh..wh..opq")).expect("rm");
    fs::remove_file(at("d/two")).expect("rm");
    fs::write(at("d/two"), "xxx").expect("write");
    fs::remove_file(at("d/link")).expect("rm");
    fs::set_permissions(at("deep/x"), Permissions::from_mode(0o4711)).expect("chmod");
    fs::write(at("deep/.wh.more"), "").expect("write");
    fs::write(at("added"), "").expect("write");
    at_seven(t.path());
    let wanted = [
        "added: only in the store: the layer's tar doesn't have it",
        "d/gone: its whiteout is missing: the layer removes this name",
        "d/link: missing: the layer's tar has it",
        "d/two: isn't a hard link of /d/file, as in the layer's tar",
        "deep/more: hidden by a whiteout that the layer's tar doesn't have",
        "deep/x: mode 4711, the layer's tar says 0600",
        "over: its opaque mark is missing: the layer replaces this directory",
    ];
    assert_eq!(faults(t.path(), Stored::Literal, &split), wanted);
}

#[test]
fn a_whole_tree_is_its_parent_s_and_the_layer_s_own() {
    let t = tempfile::tempdir().expect("temp dir");
    let (below, top) = (t.path().join("below"), t.path().join("top"));
    fs::create_dir_all(below.join("d")).expect("mkdir");
    fs::create_dir_all(below.join("over")).expect("mkdir");
    for name in ["d/gone", "d/kept", "over/hidden", "root"] {
        fs::write(below.join(name), name).expect("write");
    }
    fs::create_dir(&top).expect("mkdir");
    let split = layer(&top);
    fs::remove_file(top.join("d/.wh.gone")).expect("rm");
    fs::remove_file(top.join("over/.wh..wh..opq")).expect("rm");
    for name in ["d/kept", "root"] {
        fs::hard_link(below.join(name), top.join(name)).expect("link");
    }
    at_seven(&top);
    let parent = Dir::open_named(&below).expect("open");
    let stored = || Stored::Whole { parent: Some(&parent), overlay: false, content: true };
    assert_eq!(faults(&top, stored(), &split), Vec::<String>::new());

    // the same in a file of its own: only its bytes tell
    let time = fs::metadata(below.join("root")).expect("stat").modified().expect("a time");
    fs::remove_file(top.join("root")).expect("rm");
    fs::write(top.join("root"), "RooT").expect("write");
    fs::File::options()
        .write(true)
        .open(top.join("root"))
        .expect("open")
        .set_times(FileTimes::new().set_modified(time))
        .expect("times");
    fs::write(top.join("d/gone"), "").expect("write");
    fs::write(top.join("over/hidden"), "").expect("write");
    fs::remove_file(top.join("d/kept")).expect("rm");
    at_seven(&top);
    let wanted = [
        "d/gone: its whiteout is missing: the layer removes this name",
        "d/kept: missing: the layer below has it, and the layer's tar doesn't remove it",
        "over: its opaque mark is missing: the layer replaces this directory",
        "root: its content differs from the layer below",
    ];
    assert_eq!(faults(&top, stored(), &split), wanted);
}

/// A layer that puts a device 0:0 over `over` and `dir`, and makes another one, with a second name, where the layer below has nothing.
#[test]
fn what_overlayfs_cannot_hold_is_neither_missing_nor_different() {
    let t = tempfile::tempdir().expect("temp dir");
    let (below, top) = (t.path().join("below"), t.path().join("top"));
    fs::create_dir_all(below.join("dir")).expect("mkdir");
    fs::create_dir(&top).expect("mkdir");
    fs::write(below.join("over"), "").expect("write");
    let mut tar = TarWriter::recording(Vec::new(), Packer::new(Vec::new()));
    let mut put = |name: &[u8], node: Node<'_>| {
        let entry = Entry { name, node, mode: 0o7777, uid: 0, gid: 0, mtime: (7, 0), xattrs: &[] };
        tar.append(&entry, &mut std::io::empty()).expect("append");
    };
    let device = || Node::CharDevice { rdev: 0 };
    put(b"dir", device());
    put(b"new", device());
    put(b"over", device());
    put(b"two", Node::HardLink { first: b"new" });
    put(b"three", Node::HardLink { first: b"two" });
    let (_, split) = tar.finish().expect("tar");
    let split = split.expect("recorded");
    let branch = |top: &Path| {
        let dir = Dir::open_named(top).expect("open");
        crate::layer::branch::Branch::open(dir, None, crate::layer::branch::Format::Overlay)
    };
    let chain = Chain { branches: vec![branch(&top), branch(&below)] };
    let parent = Dir::open_named(&below).expect("open");
    let stacked = || faults(&top, Stored::Stacked(&chain), &split);
    let whole = || faults(&top, Stored::Whole { parent: Some(&parent), overlay: true, content: true }, &split);

    assert_eq!(whole(), Vec::<String>::new());
    let shown = ["dir", "over"].map(|n| format!("{n}: its whiteout is missing: the layer removes this name"));
    assert_eq!(stacked(), shown);
    let whiteout = |name: &str| {
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::empty());
        rustix::fs::mknodat(rustix::fs::CWD, top.join(name), kind, mode, 0).expect("mknod");
    };
    whiteout("over");
    fs::hard_link(top.join("over"), top.join("dir")).expect("link");
    assert_eq!(stacked(), Vec::<String>::new());

    fs::write(top.join("new"), "").expect("write");
    fs::write(top.join("two"), "").expect("write");
    let other = ["new", "two"].map(|n| format!("{n}: is a regular file, the layer's tar has a character device"));
    assert_eq!(stacked(), other);
    let missing = ["dir", "new", "over", "three", "two"];
    let literal = faults(&below, Stored::Literal, &split);
    assert!(missing.iter().all(|n| literal.iter().any(|f| f.starts_with(&format!("{n}: ")))), "{literal:?}");
}
