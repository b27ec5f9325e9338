//! A stack of branches as a data root on a disk, and a tree on a disk as a [`View`].
//!
//! Names are reached by descriptors: paths may be longer than one system call takes.

use super::model::{self, View, file, told};
use super::text::{Attributes, Entry, Form, Kind, Layer};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|c| *c == b'/') {
        Some(i) => (&path[..i], &path[i + 1..]),
        None => (b"", path),
    }
}

fn open(top: &Path, path: &[u8]) -> OwnedFd {
    let mut at = rustix::fs::open(top, FOLDER, Mode::empty()).unwrap_or_else(|e| panic!("{}: {e}", top.display()));
    for part in path.split(|c| *c == b'/').filter(|p| !p.is_empty()) {
        at = rustix::fs::openat(&at, part, FOLDER, Mode::empty())
            .unwrap_or_else(|e| panic!("{}: {e}", path.escape_ascii()));
    }
    at
}

/// A path for calls that know no descriptors. The last component is not followed by those used here.
fn through(at: &OwnedFd, name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    Path::new(&format!("/proc/self/fd/{}", at.as_raw_fd())).join(std::ffi::OsStr::from_bytes(name))
}

/// Writes a branch below `top`, which is made.
pub fn write(layer: &Layer, top: &Path) {
    std::fs::create_dir(top).expect("the branch's root");
    let mut inodes: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut parent = Parent::new(top);
    for (path, entry) in layer.entries.iter().filter(|(p, _)| !p.is_empty()) {
        let (at, name) = parent.of(path);
        match inodes.get(&entry.inode) {
            Some(first) => link(top, first, at, name),
            None => make(at, name, entry),
        }
        inodes.entry(entry.inode).or_insert_with(|| path.clone());
    }
    write_markers(layer, top);
    // last, because every name that is made changes its directory's times; those below before those above
    for (path, entry) in layer.entries.iter().rev() {
        let (at, name) = parent.of(path);
        attributes(at, name, entry);
    }
}

/// The open parent directory of the last path: most come one after the other.
struct Parent<'a> {
    top: &'a Path,
    path: Vec<u8>,
    fd: OwnedFd,
}

impl<'a> Parent<'a> {
    fn new(top: &'a Path) -> Parent<'a> {
        Parent { top, path: Vec::new(), fd: open(top, b"") }
    }

    fn of<'p>(&mut self, path: &'p [u8]) -> (&OwnedFd, &'p [u8]) {
        let (dir, name) = split(path);
        if dir != self.path {
            self.fd = open(self.top, dir);
            self.path = dir.to_vec();
        }
        (&self.fd, if name.is_empty() { b"." } else { name })
    }
}

fn link(top: &Path, first: &[u8], at: &OwnedFd, name: &[u8]) {
    let (dir, fname) = split(first);
    rustix::fs::linkat(open(top, dir), fname, at, name, AtFlags::empty()).expect("a hard link");
}

fn make(at: &OwnedFd, name: &[u8], entry: &Entry) {
    let node = |kind, device| rustix::fs::mknodat(at, name, kind, Mode::from_raw_mode(0o600), device);
    match &entry.kind {
        Kind::Folder => rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o700)).expect("a folder"),
        Kind::File(bytes) => create(at, name).write_all(bytes).expect("content"),
        Kind::Sparse => {
            let bytes = model::sparse();
            let mut f = create(at, name);
            f.write_all(&bytes[..5]).expect("content");
            f.seek(SeekFrom::Start(bytes.len() as u64 - 3)).expect("seek");
            f.write_all(b"end").expect("content");
        }
        Kind::Symlink(to) => rustix::fs::symlinkat(&to[..], at, name).expect("a symlink"),
        Kind::Char(a, b) => node(FileType::CharacterDevice, rustix::fs::makedev(*a, *b)).expect("a device"),
        Kind::Block(a, b) => node(FileType::BlockDevice, rustix::fs::makedev(*a, *b)).expect("a device"),
        Kind::Fifo => node(FileType::Fifo, 0).expect("a fifo"),
        Kind::Socket => node(FileType::Socket, 0).expect("a socket"),
    }
}

fn create(at: &OwnedFd, name: &[u8]) -> File {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    File::from(rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o600)).expect("a file"))
}

fn write_markers(layer: &Layer, top: &Path) {
    for path in &layer.opaque {
        create(&open(top, path), b".wh..wh..opq");
    }
    if layer.whiteouts.values().any(|f| *f == Form::Link) {
        create(&open(top, b""), b".wh..wh.aufs");
    }
    let mut parent = Parent::new(top);
    for (path, form) in &layer.whiteouts {
        let (at, name) = parent.of(path);
        let name = [b".wh.", name].concat();
        match form {
            Form::Empty => drop(create(at, &name)),
            Form::Text => create(at, &name).write_all(b"not empty").expect("content"),
            Form::Link => link(top, b".wh..wh.aufs", at, &name),
            Form::Folder => rustix::fs::mkdirat(at, &name[..], Mode::from_raw_mode(0o755)).expect("a folder"),
            Form::Symlink => rustix::fs::symlinkat("somewhere", at, &name[..]).expect("a symlink"),
            Form::Fifo => {
                rustix::fs::mknodat(at, &name[..], FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a fifo");
            }
        }
    }
    for (path, of) in &layer.internal {
        let (dir, name) = split(path);
        let at = ensure(top, dir);
        match of {
            Some(first) => link(top, first, &at, name),
            None if name.is_empty() => {}
            None => drop(create(&at, name)),
        }
    }
}

/// Opens a directory below, making it and its parents where they are missing.
fn ensure(top: &Path, path: &[u8]) -> OwnedFd {
    let mut at = open(top, b"");
    for part in path.split(|c| *c == b'/').filter(|p| !p.is_empty()) {
        // it may be there
        let _ = rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o700));
        at = rustix::fs::openat(&at, part, FOLDER, Mode::empty()).expect("a folder");
    }
    at
}

fn attributes(at: &OwnedFd, name: &[u8], entry: &Entry) {
    use rustix::fs::{Gid, Uid};
    let Attributes { mode, owner, time, xattrs } = &entry.attributes;
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    rustix::fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).expect("owner");
    if !matches!(entry.kind, Kind::Symlink(_)) {
        rustix::fs::chmodat(at, name, Mode::from_raw_mode(*mode), AtFlags::empty()).expect("mode");
    }
    for (n, v) in xattrs {
        let n = String::from_utf8_lossy(n).into_owned();
        xattr::set(through(at, name), &n, v).unwrap_or_else(|e| panic!("{n}: {e}"));
    }
    let time = Timespec { tv_sec: time.0, tv_nsec: time.1.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW).expect("times");
}

/// Reads a tree. A name that is listed and cannot be looked up is told as a ghost.
pub fn read(top: &Path) -> View {
    let mut out = View::new();
    let mut found = Vec::new();
    visit(&open(top, b""), &mut Vec::new(), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let mut first: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    for f in found {
        let line = match f.told {
            Some((kind, mode, owner, time, content, xattrs)) => {
                let first = first.entry(f.inode).or_insert_with(|| f.path.clone());
                told(kind, mode, owner, time, &content, (kind != "folder").then_some(&first[..]), &xattrs)
            }
            None => "ghost".to_owned(),
        };
        out.insert(f.path, line);
    }
    out
}

type Told = (&'static str, u32, (u32, u32), (i64, u32), String, BTreeMap<Vec<u8>, Vec<u8>>);

struct Found {
    path: Vec<u8>,
    inode: (u64, u64),
    told: Option<Told>,
}

fn visit(at: &OwnedFd, path: &mut Vec<u8>, found: &mut Vec<Found>) {
    found.push(look(at, b".", path.clone()));
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(at).expect("list") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    for name in names {
        let before = path.len();
        if before > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        match rustix::fs::openat(at, &name[..], FOLDER, Mode::empty()) {
            Ok(sub) => visit(&sub, path, found),
            Err(_) => found.push(look(at, &name, path.clone())),
        }
        path.truncate(before);
    }
}

fn look(at: &OwnedFd, name: &[u8], path: Vec<u8>) -> Found {
    let Ok(m) = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return Found { path, inode: (0, 0), told: None };
    };
    let device = || format!(" {}:{}", rustix::fs::major(m.st_rdev), rustix::fs::minor(m.st_rdev));
    let (kind, content) = match FileType::from_raw_mode(m.st_mode) {
        FileType::Directory => ("folder", String::new()),
        FileType::RegularFile => ("file", content(at, name, &m)),
        FileType::Symlink => {
            let to = rustix::fs::readlinkat(at, name, Vec::new()).expect("a target");
            ("symlink", format!(" -> {}", to.to_bytes().escape_ascii()))
        }
        FileType::CharacterDevice => ("char", device()),
        FileType::BlockDevice => ("block", device()),
        FileType::Fifo => ("fifo", String::new()),
        _ => ("socket", String::new()),
    };
    let time = (m.st_mtime, m.st_mtime_nsec as u32);
    let told = (kind, m.st_mode & 0o7777, (m.st_uid, m.st_gid), time, content, xattrs(&through(at, name)));
    Found { path, inode: (m.st_dev, m.st_ino), told: Some(told) }
}

fn content(at: &OwnedFd, name: &[u8], m: &rustix::fs::Stat) -> String {
    let fd = rustix::fs::openat(at, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let mut bytes = Vec::new();
    File::from(fd.expect("open")).read_to_end(&mut bytes).expect("read");
    file(&bytes, m.st_size >= 1 << 16 && m.st_blocks * 512 < m.st_size / 2)
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut out = BTreeMap::new();
    for name in xattr::list(path).into_iter().flatten() {
        let shown = name.as_encoded_bytes();
        // the policy's own, and btrfs's compression
        if shown != b"security.selinux" && !shown.starts_with(b"btrfs.") {
            out.insert(shown.to_vec(), xattr::get(path, &name).ok().flatten().unwrap_or_default());
        }
    }
    out
}
