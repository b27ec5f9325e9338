//! Real stores for tests: unpacks one, lists trees with all their metadata, and runs unaufs and the judge on it.
//!
//! ```text
//! tests/stores/NAME.tar.xz        root/ and truth/, always there
//! $UNAUFS_STORES/NAME/            root.tar.xz, root.path, truth/; used too
//! ```

use super::needs;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const HOME: &str = env!("CARGO_MANIFEST_DIR");

/// Root, and the programs that these tests call.
pub fn able() -> bool {
    needs::root_and(&["dockerd", "docker", "python3", "xz", "unshare"])
}

/// A directory of a test's own, on the disk that holds `target/` and not on a tmpfs: overlay wants `trusted.*` attributes.
pub fn folder() -> TempDir {
    let base = std::env::var_os("UNAUFS_TEST_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    tempfile::Builder::new().prefix("real.").tempdir_in(base).expect("a temporary folder")
}

/// A store that can be unpacked.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Its name.
    pub name: String,
    archive: PathBuf,
    root: PathBuf,
    truth: Option<PathBuf>,
}

/// The project's own store.
pub fn small() -> Packed {
    Packed::of_project("docker20-aufs")
}

/// The project's own store of Docker 1.9.
pub fn graph() -> Packed {
    Packed {
        name: "docker19-aufs".to_owned(),
        archive: Path::new(HOME).join("tests/stores/docker19-aufs.tar.xz"),
        root: "root".into(),
        truth: None,
    }
}

/// The project's own store, and those in the directory that `UNAUFS_STORES` names.
pub fn all() -> Vec<Packed> {
    let mut out = vec![small()];
    let more = std::env::var_os("UNAUFS_STORES").map(|folder| fs::read_dir(folder).expect("UNAUFS_STORES"));
    let mut folders: Vec<PathBuf> = more.into_iter().flatten().flatten().map(|e| e.path()).collect();
    folders.sort();
    for folder in folders {
        let (Ok(root), Some(name)) = (fs::read_to_string(folder.join("root.path")), folder.file_name()) else {
            continue;
        };
        let name = name.to_string_lossy().into_owned();
        if out.iter().all(|p| p.name != name) {
            out.push(Packed {
                name,
                archive: folder.join("root.tar.xz"),
                root: root.trim().into(),
                truth: Some(folder.join("truth")),
            });
        }
    }
    out
}

/// An unpacked store; gone when dropped.
pub struct Store {
    /// Its name, for messages.
    pub name: String,
    /// The data root.
    pub root: PathBuf,
    /// What is true of it.
    pub truth: PathBuf,
    /// Room next to it.
    pub beside: PathBuf,
    _dir: TempDir,
}

impl Packed {
    /// One of the project's own.
    pub fn of_project(name: &str) -> Packed {
        let archive = Path::new(HOME).join(format!("tests/stores/{name}.tar.xz"));
        Packed { name: name.to_owned(), archive, root: "root".into(), truth: None }
    }

    /// Unpacks it.
    pub fn unpack(&self) -> Store {
        self.unpack_to(folder())
    }

    /// Unpacks it on another file system.
    pub fn unpack_in(&self, base: &Path) -> Store {
        self.unpack_to(tempfile::Builder::new().prefix("real.").tempdir_in(base).expect("a temporary folder"))
    }

    fn unpack_to(&self, dir: TempDir) -> Store {
        let tar = Command::new("tar")
            .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"])
            .arg(&self.archive)
            .arg("-C")
            .arg(dir.path())
            .output()
            .expect("tar");
        assert!(tar.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&tar.stderr));
        Store {
            name: self.name.clone(),
            root: dir.path().join(&self.root),
            truth: self.truth.clone().unwrap_or_else(|| dir.path().join("truth")),
            beside: dir.path().to_owned(),
            _dir: dir,
        }
    }
}

impl Store {
    /// Runs unaufs on it.
    pub fn unaufs(&self, args: &[&str]) -> Ran {
        unaufs(&self.root, args)
    }

    /// Runs the judge on `root`, which is this store or a copy of it, and wants it to find nothing.
    pub fn judged(&self, verb: &str, root: &Path, driver: &str) -> String {
        self.judged_by(&self.truth, verb, root, driver)
    }

    /// The same with another truth.
    pub fn judged_by(&self, truth: &Path, verb: &str, root: &Path, driver: &str) -> String {
        let mut judge = Command::new("/usr/bin/python3");
        judge.arg(Path::new(HOME).join("tests/judge/judge.py")).arg(verb).arg(root).arg(driver);
        if verb != "use" {
            judge.arg(truth);
        }
        let ran = Ran::of(judge.output().expect("the judge"));
        assert_eq!(ran.code, 0, "{}: the judge ({verb}) says:\n{}{}", self.name, ran.stdout, ran.stderr);
        ran.stdout
    }

    /// A copy with everything, for a dockerd that writes into it.
    pub fn copy(&self, name: &str) -> PathBuf {
        let to = self.beside.join(name);
        let cp = Command::new("cp").arg("-a").arg(&self.root).arg(&to).status().expect("cp");
        assert!(cp.success(), "copying {}", self.root.display());
        to
    }
}

/// Runs unaufs on a root.
pub fn unaufs(root: &Path, args: &[&str]) -> Ran {
    let mut c = Command::new(env!("CARGO_BIN_EXE_unaufs"));
    c.env_remove("UNAUFS_ROOT").arg("--root").arg(root).args(args);
    Ran::of(c.output().expect("unaufs"))
}

/// What a program said.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
}

impl Ran {
    /// Of a finished process.
    pub fn of(o: Output) -> Ran {
        Ran {
            code: o.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&o.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&o.stderr).into_owned(),
        }
    }

    /// The same, with another exit code being a failure of the test.
    pub fn exits(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "exit code; it said:\n{}{}", self.stdout, self.stderr);
        self
    }
}

/// Path below the top -> everything that lstat, readlink, the attributes and the content tell. The top itself is left out.
pub type Tree = BTreeMap<Vec<u8>, Entry>;

/// What there is to say about one name.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Everything but:
    line: String,
    /// how many names the inode has, outside of the tree too.
    links: u64,
}

/// The same without the numbers of links: while the new store is kept, its image layers share inodes with the old ones.
pub fn tree_linked(top: &Path) -> Tree {
    let mut out = tree(top);
    out.values_mut().for_each(|e| e.links = 0);
    out
}

/// Lists a tree. Numbers of links are part of it: a hard link from outside would be seen.
pub fn tree(top: &Path) -> Tree {
    let mut out = Tree::new();
    let mut names: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    visit(top, &mut Vec::new(), &mut names, &mut out);
    out
}

fn visit(path: &Path, rel: &mut Vec<u8>, names: &mut BTreeMap<(u64, u64), Vec<u8>>, out: &mut Tree) {
    let mut entries: Vec<_> = fs::read_dir(path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .map(|e| e.expect("a folder's entry").file_name())
        .collect();
    entries.sort();
    for name in entries {
        let here = path.join(&name);
        let before = rel.len();
        rel.push(b'/');
        rel.extend_from_slice(name.as_bytes());
        let entry = describe(&here, rel, names);
        out.insert(rel.clone(), entry);
        if fs::symlink_metadata(&here).is_ok_and(|m| m.is_dir()) {
            visit(&here, rel, names, out);
        }
        rel.truncate(before);
    }
}

fn describe(path: &Path, rel: &[u8], names: &mut BTreeMap<(u64, u64), Vec<u8>>) -> Entry {
    let m = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let kind = m.file_type();
    let mut line = format!("{:o} {}:{} {}.{:09}", m.mode(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec());
    if kind.is_file() {
        let content = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        line += &format!(" {} bytes {:x?}", m.len(), &Sha256::digest(&content)[..8]);
    } else if kind.is_symlink() {
        line += &format!(" -> {:?}", fs::read_link(path).expect("a target"));
    } else if kind.is_block_device() || kind.is_char_device() {
        line += &format!(" device {:x}", m.rdev());
    }
    if !kind.is_dir() {
        let first = names.entry((m.dev(), m.ino())).or_insert_with(|| rel.to_owned());
        line += &format!(" first {}", String::from_utf8_lossy(first));
    }
    let mut attributes: Vec<_> = xattr::list(path).into_iter().flatten().collect();
    attributes.sort();
    for a in attributes {
        line += &format!(" {a:?}={:x?}", xattr::get(path, &a).ok().flatten().unwrap_or_default());
    }
    Entry { line, links: if kind.is_dir() { 0 } else { m.nlink() } }
}

/// Fails with the first names that differ.
pub fn same(what: &str, before: &Tree, after: &Tree) {
    let mut out = String::new();
    let mut n = 0;
    let all: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for name in all {
        let (b, a) = (before.get(name), after.get(name));
        if a != b {
            n += 1;
            if n <= 15 {
                out += &format!("\n{}\n  before {b:?}\n  after  {a:?}", String::from_utf8_lossy(name));
            }
        }
    }
    assert_eq!(n, 0, "{what}: {n} names differ{out}");
}
