use super::*;
use crate::tar::disassemble::disassemble;
use crate::tar::split::{MAX_UNPACKED, Payloads, Reader, reassemble};
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;

struct Files<'a>(&'a Dir);

impl Payloads for Files<'_> {
    fn open(&self, name: &[u8]) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0.open_file(name)?))
    }
}

/// A branch with everything that can be in one without being root.
fn branch() -> (tempfile::TempDir, Dir) {
    let t = tempfile::tempdir().expect("temp dir");
    let at = |rel: &str| t.path().join(rel);
    for directory in ["etc", "b/deep/er", ".wh..wh.plnk", ".wh..wh.orph"] {
        fs::create_dir_all(at(directory)).expect("mkdir");
    }
    for (file, text) in [
        (".wh..wh..opq", ""),
        (".wh..wh.aufs", ""),
        (".wh..wh.plnk/1.2", "plnk"),
        (".wh.zgone", ""),
        (".wh.agone", ""),
        ("!before", "x"),
        ("etc/.wh..wh..opq", ""),
        ("etc/.wh.hosts", ""),
        ("etc/hosts", "127.0.0.1\n"),
        ("b/deep/er/file", &"y".repeat(100_000)),
        ("zero", ""),
    ] {
        fs::write(at(file), text).expect("write");
    }
    fs::write(t.path().join("etc").join("ünï"), "").expect("write");
    fs::hard_link(at("etc/hosts"), at("b/hosts")).expect("link");
    symlink("../etc/hosts", at("b/link")).expect("symlink");
    let socket = std::os::unix::net::UnixListener::bind(at("b/socket")).expect("socket");
    drop(socket);
    let dir = Dir::open_named(t.path()).expect("open");
    dir.mknod(b"pipe", FileType::Fifo, 0).expect("fifo");
    (t, dir)
}

/// What goes into the tar of a branch, and its entries.
fn entries(dir: &Dir) -> (Put, Vec<String>) {
    let mut tar = TarWriter::new(Vec::new());
    let put = append(dir, &mut tar).expect("tar");
    let (bytes, _) = tar.finish().expect("tar");
    let mut names = Vec::new();
    for entry in tar::Archive::new(&bytes[..]).entries().expect("entries") {
        let entry = entry.expect("entry");
        let kind = entry.header().entry_type();
        let link = entry.link_name().expect("link").map(|l| format!(" -> {}", l.display())).unwrap_or_default();
        names.push(format!("{:?} {}{link}", kind, entry.path().expect("path").display()));
    }
    (put, names)
}

#[test]
fn the_tar_holds_the_layer_and_nothing_of_aufs() {
    let (_t, dir) = branch();
    let (put, names) = entries(&dir);
    assert_eq!(put.new_id.as_deref(), Some("a socket, which Docker stored as an empty file: b/socket"));
    let want = [
        "Regular .wh.agone",
        "Regular .wh.zgone",
        "Regular !before",
        "Directory b/",
        "Directory b/deep/",
        "Directory b/deep/er/",
        "Regular b/deep/er/file",
        "Regular b/hosts",
        "Symlink b/link -> ../etc/hosts",
        "Directory etc/",
        "Regular etc/.wh..wh..opq",
        "Regular etc/.wh.hosts",
        "Link etc/hosts -> b/hosts",
        "Regular etc/ünï",
        "Fifo pipe",
        "Regular zero",
    ];
    assert_eq!(names, want);
    assert_eq!(put.payload, 100_000 + 10 + 1);
}

#[test]
fn the_record_gives_the_same_tar_again() {
    let (_t, dir) = branch();
    let digested = digest(&dir).expect("digest");
    let mut split = Vec::new();
    let recorded = record(&dir, &mut split).expect("record");
    assert_eq!(recorded, digested);
    let mut hashed = DiffIdWriter::new(sink());
    let done = reassemble(Reader::new(&split[..], MAX_UNPACKED), &Files(&dir), &mut hashed);
    assert_eq!(done.expect("reassemble").payload_bytes, digested.put.payload);
    assert_eq!(hashed.finish().1, digested.diff);
}

#[test]
fn reading_the_branch_does_not_change_its_digest() {
    let (t, dir) = branch();
    let before = digest(&dir).expect("digest");
    // a marker's own attributes and what aufs keeps for itself are not part of it
    fs::remove_file(t.path().join(".wh.zgone")).expect("rm");
    fs::hard_link(t.path().join(".wh..wh.aufs"), t.path().join(".wh.zgone")).expect("link");
    fs::remove_file(t.path().join(".wh..wh.plnk/1.2")).expect("rm");
    assert_eq!(digest(&dir).expect("digest"), before);
    fs::remove_file(t.path().join(".wh.zgone")).expect("rm");
    assert_ne!(digest(&dir).expect("digest").diff, before.diff);
}

/// Without the socket and with whiteouts of one inode, as the kernel makes them.
fn branch_for_docker() -> (tempfile::TempDir, Dir) {
    let (t, dir) = branch();
    let at = |rel: &str| t.path().join(rel);
    for gone in ["b/socket", ".wh.zgone", "etc/.wh.hosts", "etc/.wh..wh..opq", "etc/ünï"] {
        fs::remove_file(at(gone)).expect("rm");
    }
    for linked in [".wh.zgone", "etc/.wh.hosts", "etc/.wh..wh..opq"] {
        fs::hard_link(at(".wh..wh.aufs"), at(linked)).expect("link");
    }
    fs::create_dir(at(".wh..wh.gone.01ab")).expect("mkdir");
    (t, dir)
}

#[test]
fn docker_s_form_is_all_but_aufs_s_own_names_at_the_root() {
    let (_t, dir) = branch_for_docker();
    let (put, names) = entries(&dir);
    let want = [
        "Regular !before",
        "Regular .wh..wh..opq",
        "Regular .wh.agone",
        "Regular .wh.zgone",
        "Directory b/",
        "Directory b/deep/",
        "Directory b/deep/er/",
        "Regular b/deep/er/file",
        "Regular b/hosts",
        "Symlink b/link -> ../etc/hosts",
        "Directory etc/",
        "Link etc/.wh..wh..opq -> .wh.zgone",
        "Link etc/.wh.hosts -> .wh.zgone",
        "Link etc/hosts -> b/hosts",
        "Fifo pipe",
        "Regular zero",
    ];
    assert_eq!(names, want);
    assert_eq!(put, Put { payload: 100_000 + 10 + 1, new_id: None });
}

#[test]
fn docker_s_form_is_recorded_too() {
    let (t, dir) = branch_for_docker();
    fs::write(t.path().join("ü"), "u").expect("write");
    let digested = digest(&dir).expect("digest");
    let why = digested.put.new_id.clone().expect("PAX headers");
    assert_eq!(why, "Docker 1.10 and 1.11 wrote their own process ID into its tar, because of ü");
    let mut split = Vec::new();
    assert_eq!(record(&dir, &mut split).expect("record"), digested);
    let mut hashed = DiffIdWriter::new(sink());
    let done = reassemble(Reader::new(&split[..], MAX_UNPACKED), &Files(&dir), &mut hashed);
    assert_eq!(done.expect("reassemble").payload_bytes, digested.put.payload);
    assert_eq!(hashed.finish().1, digested.diff);
    // and it's what tar-split says of this tar when it only sees the tar
    let mut tar = TarWriter::new(Vec::new());
    append(&dir, &mut tar).expect("tar");
    let mut seen = Packer::new(Vec::new());
    disassemble(&tar.finish().expect("tar").0[..], &mut seen, &mut sink()).expect("disassemble");
    assert!(seen.finish().expect("tar-split") == split);
}

#[test]
fn what_docker_s_form_would_not_bring_back_has_ours() {
    type Change = fn(&std::path::Path);
    let cases: [(Change, &str); 6] = [
        (
            |t| fs::write(t.join("etc/.wh.filled"), "x").expect("write"),
            "a whiteout that isn't an empty file: etc/.wh.filled",
        ),
        (|t| fs::create_dir(t.join(".wh.folder")).expect("mkdir"), "a whiteout that isn't an empty file: .wh.folder"),
        (|t| symlink("x", t.join("etc/.wh.link")).expect("ln"), "a whiteout that isn't an empty file: etc/.wh.link"),
        (|t| fs::write(t.join("b/.wh."), "").expect("write"), "a whiteout without a name: b/.wh."),
        (
            |t| fs::create_dir(t.join("b/.wh..wh.x.01ab")).expect("mkdir"),
            "a directory that aufs was removing when it was stopped: b/.wh..wh.x.01ab",
        ),
        (
            |t| drop(std::os::unix::net::UnixListener::bind(t.join("s")).expect("socket")),
            "a socket, which Docker stored as an empty file: s",
        ),
    ];
    for (change, why) in cases {
        let (t, dir) = branch_for_docker();
        assert_eq!(digest(&dir).expect("digest").put.new_id, None);
        change(t.path());
        assert_eq!(digest(&dir).expect("digest").put.new_id.as_deref(), Some(why));
    }
}

#[test]
fn a_path_that_docker_could_not_open_has_our_form() {
    let t = tempfile::tempdir().expect("temp dir");
    let dir = Dir::open_named(t.path()).expect("open");
    // 4,000 bytes, and a slash; one name of three bytes still fits
    let name = "n".repeat(199);
    let mut at = dir.again().expect("open");
    for _ in 0..20 {
        at = at.ensure(&name, 0o755).expect("mkdir");
    }
    at.write_new("abc", b"", 0o644).expect("write");
    assert_eq!(digest(&dir).expect("digest").put.new_id.map(|why| why.contains("process")), Some(true));
    at.write_new("abcdef", b"", 0o644).expect("write");
    assert!(digest(&dir).expect("digest").put.new_id.expect("ours").starts_with("a path too long for Docker: nnn"));
    // the temporary directory's own removal goes by paths
    at.unlink(b"abc").expect("rm");
    at.unlink(b"abcdef").expect("rm");
}

#[test]
fn an_empty_branch_is_docker_s_empty_layer() {
    let t = tempfile::tempdir().expect("temp dir");
    let got = digest(&Dir::open_named(t.path()).expect("open")).expect("digest");
    assert_eq!(got.diff.hex(), "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
}
