//! The tar of one aufs branch, for layers of which no tar-split tells how Docker's own tar looked (FORMATS 8.3).
//!
//! ```text
//! aufs/diff/<id>/          .wh..wh.{aufs,plnk,orph}    left out, as are sockets
//!   .wh.gone               ./.wh.gone                  markers first: an extractor takes them before what stands in their place
//!   etc/.wh..wh..opq       etc/, etc/.wh..wh..opq
//!   etc/hosts              etc/hosts                   then the names, sorted
//! ```
//!
//! The same folder gives the same bytes, so the tar need not be kept between the plan and the run. As in Docker's own layer tars, times
//! are whole seconds and `security.capability` is the only attribute; the tree itself keeps all it has. An opaque mark on the branch's
//! root is left out: it has no effect on aufs, and on vfs it would empty the whole tree (FORMATS 11.5).

use crate::disk::{Dir, FileType, Meta};
use crate::error::Result;
use crate::ids::DiffId;
use crate::layer::branch::{self, Format};
use crate::tar::split::{DiffIdWriter, Packer};
use crate::tar::writer::{Entry, Node, TarWriter};
use std::collections::HashMap;
use std::io::{Write, empty, sink};

/// The one attribute that Docker's layer tars carry (FORMATS 11.12).
const CAPABILITY: &[u8] = b"security.capability";

/// What the tar of a branch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its digest.
    pub diff: DiffId,
    /// The bytes of all files in it.
    pub payload: u64,
}

/// Digests the tar of a branch.
pub fn digest(branch: &Dir) -> Result<Summary> {
    let mut tar = TarWriter::new(DiffIdWriter::new(sink()));
    let payload = append(branch, &mut tar)?;
    let (hashed, _) = tar.finish()?;
    Ok(Summary { diff: hashed.finish().1, payload })
}

/// Writes the tar-split of a branch's tar to `out`, and digests the tar.
pub fn record(branch: &Dir, out: impl Write) -> Result<Summary> {
    crate::disk::fault::effect("content");
    let mut tar = TarWriter::recording(DiffIdWriter::new(sink()), Packer::new(out));
    let payload = append(branch, &mut tar)?;
    let (hashed, _) = tar.finish()?;
    Ok(Summary { diff: hashed.finish().1, payload })
}

/// One folder on the way down.
struct Level {
    dir: Dir,
    /// From the branch's root, with a trailing slash; empty for the root.
    path: Vec<u8>,
    /// The names that are left, last one first.
    names: Vec<Vec<u8>>,
}

/// Adds everything in the branch to a tar. Gives the bytes of all files.
pub fn append<W: Write, P: Write>(branch: &Dir, tar: &mut TarWriter<W, P>) -> Result<u64> {
    let mut payload = 0;
    // inodes with several names: the first name. Whiteouts are not among them, although all of them may be one inode.
    let mut first: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut levels = vec![enter(branch.again()?, Vec::new(), tar)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        let m = level.dir.stat(&name)?;
        let path = [&level.path[..], &name].concat();
        if m.is_dir() {
            put(tar, &path, &m, Node::Directory, &[], &mut empty())?;
            let below = level.dir.open(&name)?;
            levels.push(enter(below, [&path[..], b"/"].concat(), tar)?);
            continue;
        }
        if m.nlink > 1 {
            if let Some(first) = first.get(&m.ino) {
                // with the attribute once more: Docker sets the owner of a link too, and that clears it
                put(tar, &path, &m, Node::HardLink { first }, &capability(&level.dir, &name)?, &mut empty())?;
                continue;
            }
            first.insert(m.ino, path.clone());
        }
        payload += put_object(tar, &level.dir, &name, &path, &m)?;
    }
    Ok(payload)
}

/// Opens a folder's level: its markers are written, its names wait.
fn enter<W: Write, P: Write>(dir: Dir, path: Vec<u8>, tar: &mut TarWriter<W, P>) -> Result<Level> {
    let at_root = path.is_empty();
    let markers = branch::markers(&dir, Format::Aufs, at_root)?;
    let mut hidden: Vec<Vec<u8>> = markers.whiteouts.into_iter().map(|name| [branch::WH, &name].concat()).collect();
    hidden.sort();
    if markers.opaque {
        hidden.insert(0, branch::OPQ.to_vec());
    }
    for name in hidden {
        // only the name of a marker means anything; what aufs gave it differs from one to the next
        let entry = Entry {
            name: &[&path[..], &name].concat(),
            node: Node::File { size: 0 },
            mode: 0o444,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: &[],
        };
        tar.append(&entry, &mut empty())?;
    }
    let mut names = Vec::new();
    branch::for_each_entry(&dir, Format::Aufs, at_root, |name, kind, _| {
        if kind != FileType::Socket {
            names.push(name.to_vec());
        }
        Ok(())
    })?;
    names.sort_by(|a, b| b.cmp(a));
    Ok(Level { dir, path, names })
}

/// The attribute that goes along, if the name has it.
fn capability(dir: &Dir, name: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let value = dir.xattrs(name)?.remove(CAPABILITY);
    Ok(value.into_iter().map(|value| (CAPABILITY.to_vec(), value)).collect())
}

fn put_object<W: Write, P: Write>(
    tar: &mut TarWriter<W, P>,
    dir: &Dir,
    name: &[u8],
    path: &[u8],
    m: &Meta,
) -> Result<u64> {
    let rdev = m.rdev;
    let node = match m.kind {
        FileType::RegularFile => {
            let xattrs = capability(dir, name)?;
            put(tar, path, m, Node::File { size: m.size }, &xattrs, &mut dir.open_file(name)?)?;
            return Ok(m.size);
        }
        FileType::Symlink => {
            put(tar, path, m, Node::Symlink { target: &dir.read_link(name)? }, &[], &mut empty())?;
            return Ok(0);
        }
        FileType::CharacterDevice => Node::CharDevice { rdev },
        FileType::BlockDevice => Node::BlockDevice { rdev },
        FileType::Fifo => Node::Fifo,
        // a socket that has taken the place of something else since the folder was listed
        _ => return Ok(0),
    };
    put(tar, path, m, node, &[], &mut empty())?;
    Ok(0)
}

fn put<W: Write, P: Write>(
    tar: &mut TarWriter<W, P>,
    name: &[u8],
    m: &Meta,
    node: Node<'_>,
    xattrs: &[(Vec<u8>, Vec<u8>)],
    content: &mut dyn std::io::Read,
) -> Result<()> {
    let entry = Entry { name, node, mode: m.mode, uid: m.uid, gid: m.gid, mtime: (m.mtime.0, 0), xattrs };
    tar.append(&entry, content)
}

#[cfg(test)]
mod tests {
    use super::*;
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
        for folder in ["etc", "b/deep/er", ".wh..wh.plnk", ".wh..wh.orph"] {
            fs::create_dir_all(at(folder)).expect("mkdir");
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

    #[test]
    fn the_tar_holds_the_layer_and_nothing_of_aufs() {
        let (_t, dir) = branch();
        let mut tar = TarWriter::new(Vec::new());
        let payload = append(&dir, &mut tar).expect("tar");
        let (bytes, _) = tar.finish().expect("tar");
        let mut names = Vec::new();
        for entry in tar::Archive::new(&bytes[..]).entries().expect("entries") {
            let entry = entry.expect("entry");
            let kind = entry.header().entry_type();
            let link = entry.link_name().expect("link").map(|l| format!(" -> {}", l.display())).unwrap_or_default();
            names.push(format!("{:?} {}{link}", kind, entry.path().expect("path").display()));
        }
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
        assert_eq!(payload, 100_000 + 10 + 1);
    }

    #[test]
    fn the_record_gives_the_same_tar_again() {
        let (_t, dir) = branch();
        let digested = digest(&dir).expect("digest");
        let mut split = Vec::new();
        let recorded = record(&dir, &mut split).expect("record");
        assert_eq!(recorded, digested);
        let mut hashed = DiffIdWriter::new(sink());
        let done = reassemble(Reader::new(&split[..], MAX_UNPACKED).refuse_duplicates(), &Files(&dir), &mut hashed);
        assert_eq!(done.expect("reassemble").payload_bytes, digested.payload);
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

    #[test]
    fn an_empty_branch_is_docker_s_empty_layer() {
        let t = tempfile::tempdir().expect("temp dir");
        let got = digest(&Dir::open_named(t.path()).expect("open")).expect("digest");
        assert_eq!(got.diff.hex(), "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
    }
}
