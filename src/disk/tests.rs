//! The door to the file system, on real directories.

use super::*;

#[test]
fn nothing_leads_out() {
    let t = tempfile::tempdir().expect("temp dir");
    std::fs::create_dir_all(t.path().join("root/a/b")).expect("mkdir");
    std::fs::create_dir(t.path().join("out")).expect("mkdir");
    std::fs::write(t.path().join("out/secret"), "s").expect("write");
    std::os::unix::fs::symlink("../out", t.path().join("root/ln")).expect("symlink");
    std::os::unix::fs::symlink("../../out/secret", t.path().join("root/a/f")).expect("symlink");
    let root = Dir::open_named(&t.path().join("root")).expect("open");
    for by_component in [false, true] {
        let open = |rel: &[u8]| {
            if by_component { root.open_by_component(rel, DIR_FLAGS) } else { root.open_beneath(rel, DIR_FLAGS) }
        };
        assert!(open(b"a/b").is_ok() && open(b"").is_ok());
        for bad in [&b"ln"[..], b"ln/x", b"..", b"a/..", b"a/../a", b"a/../..", b"/etc", b"a/f"] {
            let r = open(bad);
            // the component-wise form drops the leading slash: /etc is then a name below, which is not there
            assert!(r.is_err(), "{:?} by component {by_component}", bad);
        }
    }
    assert!(root.read("a/f", 100).is_err());
    assert!(root.read("ln/secret", 100).is_err());
}

#[test]
fn a_name_is_one_component() {
    let t = tempfile::tempdir().expect("temp dir");
    std::fs::create_dir_all(t.path().join("root/a")).expect("mkdir");
    std::fs::write(t.path().join("secret"), "s").expect("write");
    std::os::unix::fs::symlink("..", t.path().join("root/up")).expect("symlink");
    std::os::unix::fs::symlink("../secret", t.path().join("root/ln")).expect("symlink");
    let root = Dir::open_named(&t.path().join("root")).expect("open");
    let before = std::fs::metadata(t.path()).expect("stat");
    for bad in [&b".."[..], b"../secret", b"up/secret", b"../new", b"up/new", b"/etc", b""] {
        assert!(root.try_stat(bad).is_err(), "stat {bad:?}");
        assert!(root.parent_of(bad).is_err(), "parent of {bad:?}");
        assert!(root.has(bad).is_err() || bad == b"up/secret" || bad == b"up/new", "has {bad:?}");
        assert!(root.read(bad, 10).is_err(), "read {bad:?}");
        assert!(root.mkdir(bad, 0o700).is_err(), "mkdir {bad:?}");
        assert!(root.symlink(b"x", bad).is_err(), "symlink {bad:?}");
        assert!(root.mknod(bad, FileType::Fifo, 0).is_err(), "mknod {bad:?}");
        assert!(root.create(bad).is_err(), "create {bad:?}");
        assert!(root.unlink(bad).is_err(), "unlink {bad:?}");
        assert!(root.rmdir(bad).is_err(), "rmdir {bad:?}");
        assert!(root.remove_tree(bad).is_err(), "remove {bad:?}");
        assert!(root.try_link(b"ln", &root, bad).is_err(), "link {bad:?}");
        assert!(root.rename_new("a", &root, bad).is_err(), "rename {bad:?}");
        assert!(root.set_mode(bad, 0o777).is_err(), "chmod {bad:?}");
        assert!(root.set_owner(bad, 1, 1).is_err(), "chown {bad:?}");
        assert!(root.set_times(bad, attrs::Times::EPOCH).is_err(), "utimens {bad:?}");
        assert!(root.xattrs(bad).is_err(), "xattrs {bad:?}");
    }
    assert!(root.set_mode(b"ln", 0o777).is_err(), "a symlink has no mode to set, and its target is not ours");
    let after = std::fs::metadata(t.path()).expect("stat");
    assert_eq!(before.modified().expect("time"), after.modified().expect("time"));
    assert_eq!(std::fs::read(t.path().join("secret")).expect("read"), b"s");
}

#[test]
fn only_regular_files_are_read() {
    let t = tempfile::tempdir().expect("temp dir");
    let d = Dir::open_named(t.path()).expect("open");
    d.mknod(b"pipe", FileType::Fifo, 0).expect("fifo");
    assert_eq!(d.try_open_file(b"pipe").err(), Some(Errno::INVAL));
    std::os::unix::fs::symlink("f", t.path().join("ln")).expect("symlink");
    assert_eq!(d.try_open_file(b"ln").err(), Some(Errno::LOOP));
    d.write_new("f", b"12345", 0o640).expect("write");
    assert_eq!(d.read("f", 5).expect("read"), b"12345");
    assert!(d.read("f", 4).is_err());
    assert_eq!(d.stat("f").expect("stat").mode, 0o640);
}

#[test]
fn rename_never_replaces() {
    let t = tempfile::tempdir().expect("temp dir");
    let d = Dir::open_named(t.path()).expect("open");
    d.write_new("a", b"a", 0o600).expect("write");
    d.write_new("b", b"b", 0o600).expect("write");
    assert!(d.rename_new("a", &d, "b").is_err());
    d.rename_new("a", &d, "c").expect("rename");
    assert_eq!(d.read("c", 9).expect("read"), b"a");
}
