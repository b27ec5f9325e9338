//! The same change, found in a layer of aufs and by comparing two whole trees.

use super::*;
use crate::ids::LayerId;
use crate::layer::branch::Branch;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

fn chain(branches: &[(&str, &Path, Format)]) -> Chain {
    let branch = |(id, path, format): &(&str, &Path, Format)| {
        let id = LayerId::parse(id).expect("id");
        Branch::open(Dir::open_named(path).expect("open"), Some(id), *format)
    };
    Chain { branches: branches.iter().map(branch).collect() }
}

fn put(top: &Path, files: &[(&str, &str)]) {
    for (rel, text) in files {
        let at = top.join(rel);
        fs::create_dir_all(at.parent().expect("parent")).expect("mkdir");
        fs::write(at, text).expect("write");
    }
    settle(top);
}

/// One time for everything: what is not changed has the same one in both trees.
fn settle(top: &Path) {
    for e in fs::read_dir(top).expect("folder").map(|e| e.expect("entry")) {
        let kind = e.file_type().expect("type");
        if kind.is_dir() {
            settle(&e.path());
        }
        if kind.is_dir() || kind.is_file() {
            let time = fs::FileTimes::new().set_modified(UNIX_EPOCH + Duration::new(1_000_000_000, 500_000_000));
            fs::File::open(e.path()).expect("open").set_times(time).expect("times");
        }
    }
}

/// The tar's entries, one line each, and the counts.
fn listed(view: &Chain, below: Option<&Chain>) -> (Vec<String>, Counts) {
    let mut tar = TarWriter::new(Vec::new());
    let counts = append(view, below, Form { link_attributes: true, ..Form::default() }, &mut tar).expect("tar");
    let bytes = tar.finish().expect("tar").0;
    let line = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.expect("entry");
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("content");
        let link = entry.link_name().expect("link").map(|l| format!(" -> {}", l.display())).unwrap_or_default();
        format!("{:?} {}{link} {text}", entry.header().entry_type(), entry.path().expect("path").display())
            .trim_end()
            .to_owned()
    };
    (tar::Archive::new(&bytes[..]).entries().expect("entries").map(line).collect(), counts)
}

/// What is below.
const LOWER: [(&str, &str); 9] = [
    ("etc/same", "same"),
    ("etc/changed", "old"),
    ("etc/gone", "x"),
    ("opaque/below", "x"),
    ("opaque/deep/er", "x"),
    ("becomes-file/in", "x"),
    ("becomes-folder", "x"),
    ("untouched/a/b", "x"),
    ("gone/all/of", "it"),
];

#[test]
fn a_layer_of_aufs_on_its_parent() {
    let t = tempfile::tempdir().expect("temp dir");
    let (upper, lower) = (t.path().join("upper"), t.path().join("lower"));
    put(&lower, &LOWER);
    put(
        &upper,
        &[
            ("etc/changed", "new"),
            ("etc/.wh.gone", ""),
            ("etc/.wh.never-there", ""),
            ("opaque/.wh..wh..opq", ""),
            ("opaque/new", "n"),
            ("becomes-file", "now"),
            ("becomes-folder/in", "now"),
            (".wh.gone", ""),
            ("a/b/c", "deep"),
        ],
    );
    fs::hard_link(upper.join("a/b/c"), upper.join("a/d")).expect("link");
    symlink("../nowhere", upper.join("a/link")).expect("symlink");
    drop(std::os::unix::net::UnixListener::bind(upper.join("a/socket")).expect("socket"));
    let view = chain(&[("u", &upper, Format::Aufs), ("layer", &lower, Format::Aufs)]);
    let below = chain(&[("layer", &lower, Format::Aufs)]);
    let (names, counts) = listed(&view, Some(&below));
    // each directory's markers, its files, then its directories; a whiteout of nothing is not written
    let want = [
        "Regular .wh.gone",
        "Regular becomes-file now",
        "Directory a/",
        "Regular a/d deep",
        "Symlink a/link -> ../nowhere",
        "Directory a/b/",
        "Link a/b/c -> a/d",
        "Directory becomes-folder/",
        "Regular becomes-folder/in now",
        "Directory etc/",
        "Regular etc/.wh.gone",
        "Regular etc/changed new",
        "Directory opaque/",
        "Regular opaque/.wh..wh..opq",
        "Regular opaque/new n",
    ];
    assert_eq!(names, want);
    assert_eq!(counts, Counts { entries: want.len() as u64, payload: 3 + 3 + 4 + 3 + 1, sockets: 1, bare_links: 0 });

    // without anything below: the whole view, and no marker
    let (names, counts) = listed(&view, None);
    let files: Vec<&str> =
        names.iter().filter_map(|n| n.strip_prefix("Regular ")).map(|n| n.split(' ').next().expect("name")).collect();
    let want = ["becomes-file", "a/d", "becomes-folder/in", "etc/changed", "etc/same", "opaque/new", "untouched/a/b"];
    assert_eq!(files, want);
    assert_eq!(counts.sockets, 1);
}

/// vfs and btrfs have whole trees: what differs is found by looking at both.
#[test]
fn two_whole_trees() {
    let t = tempfile::tempdir().expect("temp dir");
    let (new, old) = (t.path().join("new"), t.path().join("old"));
    put(&old, &LOWER);
    put(
        &new,
        &[
            ("etc/same", "same"),
            ("etc/changed", "NEW"),
            ("opaque/new", "n"),
            ("becomes-file", "now"),
            ("becomes-folder/in", "now"),
            ("untouched/a/b", "x"),
        ],
    );
    let (view, below) = (chain(&[("n", &new, Format::Plain)]), chain(&[("o", &old, Format::Plain)]));
    let want = [
        "Regular .wh.gone",
        "Regular becomes-file now",
        "Directory becomes-folder/",
        "Regular becomes-folder/in now",
        "Directory etc/",
        "Regular etc/.wh.gone",
        "Regular etc/changed NEW",
        "Directory opaque/",
        "Regular opaque/.wh.below",
        "Regular opaque/.wh.deep",
        "Regular opaque/new n",
    ];
    assert_eq!(listed(&view, Some(&below)).0, want);
    // the same size and the same time: only the bytes tell
    assert_eq!(fs::metadata(new.join("etc/changed")).expect("stat").mtime_nsec(), 500_000_000);
    assert_eq!(listed(&below, Some(&below)).0, Vec::<String>::new(), "a tree adds nothing to itself");
}

#[test]
fn a_directory_that_only_changed_itself_is_an_entry() {
    use std::os::unix::fs::PermissionsExt;
    let t = tempfile::tempdir().expect("temp dir");
    let (new, old) = (t.path().join("new"), t.path().join("old"));
    for top in [&new, &old] {
        put(top, &[("a/b/c", "x"), ("d/e", "x")]);
    }
    fs::set_permissions(new.join("a/b"), fs::Permissions::from_mode(0o700)).expect("chmod");
    let (view, below) = (chain(&[("n", &new, Format::Plain)]), chain(&[("o", &old, Format::Plain)]));
    assert_eq!(listed(&view, Some(&below)).0, ["Directory a/", "Directory a/b/"]);
}

#[test]
fn attributes_fractions_and_owners_go_along() {
    let t = tempfile::tempdir().expect("temp dir");
    put(t.path(), &[("dir/file", "x")]);
    for (at, name) in [("dir/file", "user.mine"), ("dir", "user.overlay.opaque")] {
        xattr::set(t.path().join(at), name, b"y").expect("attribute");
    }
    settle(t.path());
    let own = fs::metadata(t.path().join("dir/file")).expect("stat");
    let made = |format| {
        let mut tar = TarWriter::new(Vec::new());
        // the one who runs this is the container's root
        let form = Form { owners: Shift { uid: own.uid(), gid: own.gid() }, link_attributes: true };
        append(&chain(&[("layer", t.path(), format)]), None, form, &mut tar).expect("tar");
        tar.finish().expect("tar").0
    };
    let records = |bytes: &[u8]| {
        let mut out = Vec::new();
        for entry in tar::Archive::new(bytes).entries().expect("entries") {
            let mut entry = entry.expect("entry");
            assert_eq!((entry.header().uid().expect("uid"), entry.header().gid().expect("gid")), (0, 0));
            for record in entry.pax_extensions().expect("PAX").into_iter().flatten() {
                let record = record.expect("record");
                out.push(format!("{}={}", record.key().expect("key"), record.value().expect("value")));
            }
        }
        out
    };
    let time = "mtime=1000000000.5";
    let marked = "SCHILY.xattr.user.overlay.opaque=y";
    assert_eq!(records(&made(Format::Plain)), [marked, time, "SCHILY.xattr.user.mine=y", time]);
    // a mark of overlayfs itself, which the tar must not carry on
    let overlay = records(&made(Format::Overlay));
    assert!(
        !overlay.iter().any(|r| r == marked) && overlay.iter().any(|r| r == "SCHILY.xattr.user.mine=y"),
        "{overlay:?}"
    );
}

#[test]
fn attributes_hold_the_containers_own_numbers() {
    let owners = Shift { uid: 231_072, gid: 300_000 };
    // version 2; user:1234:r--, group:50:rw-, mask, other, and a number that is none
    let acl = |user: u32, group: u32| {
        let mut out = vec![2, 0, 0, 0];
        for (tag, perm, id) in [(2u16, 4u16, user), (8, 6, group), (16, 7, u32::MAX), (32, 5, u32::MAX), (2, 4, 7)] {
            out.extend(tag.to_le_bytes().into_iter().chain(perm.to_le_bytes()).chain(id.to_le_bytes()));
        }
        out
    };
    for name in [&b"system.posix_acl_access"[..], b"system.posix_acl_default"] {
        assert_eq!(owners.attribute(name, &acl(232_306, 300_050)), acl(1234, 50));
    }
    let mut revision_3 = vec![1, 0, 0, 3];
    revision_3.extend([5; 16]);
    let mut revision_2 = revision_3.clone();
    revision_2[3] = 2;
    revision_3.extend(231_072u32.to_le_bytes());
    assert_eq!(owners.attribute(b"security.capability", &revision_3), revision_2);
    assert_eq!(owners.attribute(b"security.capability", &revision_2), revision_2);
    assert_eq!(owners.attribute(b"user.x", &revision_3), revision_3);
    for odd in [&[][..], &[2, 0, 0], &[2, 0, 0, 0, 2, 0], &[0, 0, 0, 3]] {
        assert_eq!(owners.attribute(b"system.posix_acl_access", odd), odd);
        assert_eq!(owners.attribute(b"security.capability", odd), odd);
    }
}
