//! Copies of a real store to be ill-treated, file systems in image files, and the program.

#[path = "../support/disk.rs"]
mod disk;

use crate::tree::Tree;
pub use disk::Mounted;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A content-addressable store, written by a real Docker: the smaller one, or that of the project.
pub fn store() -> &'static str {
    const SMALL: &str = "docker20-aufs-leftovers";
    if archive(SMALL).is_some() { SMALL } else { "docker20-aufs" }
}

/// Is this the long run?
pub fn long() -> bool {
    std::env::var_os("UNAUFS_CRASH_LONG").is_some()
}

/// How many rounds a test that is left to chance makes.
pub fn rounds(short: usize) -> usize {
    std::env::var("UNAUFS_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(short)
}

/// Says why a test cannot run here; in CI that is a failure.
pub fn cannot(why: &str) {
    eprintln!("skipped: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot run in CI: {why}");
}

/// Root is needed for device nodes, owners, `trusted.*` and mounts.
pub fn may_run() -> bool {
    if !rustix::process::geteuid().is_root() {
        cannot("not root");
        return false;
    }
    true
}

/// May the test run, and are these programs there?
pub fn may_run_with(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|p| !has_program(p));
    if let Some(m) = missing {
        cannot(&format!("{m} is missing"));
    }
    may_run() && missing.is_none()
}

/// Is a program there?
pub fn has_program(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join(name).is_file()))
        || Path::new("/usr/sbin").join(name).is_file()
}

/// Runs a program that must succeed.
pub fn sh(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {}: {} {err}", args.join(" "), out.status);
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn path(p: &Path) -> &str {
    p.to_str().expect("a path in UTF-8")
}

/// Where everything lies.
pub fn base() -> PathBuf {
    let base = std::env::var_os("UNAUFS_CRASH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    fs::create_dir_all(&base).expect("make the test folder");
    base
}

/// An archive and the root in it: the project's own in `tests/stores`, others where `UNAUFS_STORES` says or beside the checkout.
fn archive(name: &str) -> Option<(PathBuf, PathBuf)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = here.join(format!("tests/stores/{name}.tar.xz"));
    if own.is_file() {
        return Some((own, "root".into()));
    }
    let beside = std::env::var_os("UNAUFS_STORES").map_or_else(|| here.join("../shared/stores"), PathBuf::from);
    let root = fs::read_to_string(beside.join(name).join("root.path")).ok()?;
    Some((beside.join(name).join("root.tar.xz"), root.trim().into()))
}

/// The unpacked store; never to be changed.
pub fn source(name: &str) -> Option<PathBuf> {
    static UNPACKED: Mutex<()> = Mutex::new(());
    let (archive, inner) = archive(name)?;
    let to = base().join("stores").join(name);
    let _one = UNPACKED.lock().unwrap_or_else(|e| e.into_inner());
    if !to.exists() {
        let fresh = base().join("stores").join(format!(".{name}.{}", std::process::id()));
        fs::create_dir_all(&fresh).expect("make folder");
        let options = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"];
        sh("tar", &[&options[..], &[path(&archive), "-C", path(&fresh)]].concat());
        // another process may have been faster
        if fs::rename(&fresh, &to).is_err() {
            fs::remove_dir_all(&fresh).expect("remove folder");
        }
    }
    Some(to.join(inner))
}

/// A folder of its own, removed at the end.
pub fn temp() -> tempfile::TempDir {
    temp_in(&base())
}

fn temp_in(dir: &Path) -> tempfile::TempDir {
    tempfile::Builder::new().prefix("crash-").tempdir_in(dir).expect("temporary folder")
}

/// The time in seconds.
pub fn now() -> i64 {
    let t = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    i64::try_from(t).expect("a time")
}

/// A root to be ill-treated.
pub struct Bed {
    /// ROOT.
    pub root: PathBuf,
    /// Nothing in the original is younger.
    pub since: i64,
    /// Where copies of it are made.
    home: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

impl Bed {
    /// A copy of a store.
    pub fn new(store: &str) -> Bed {
        Bed::new_in(store, &base())
    }

    /// A copy of a store in a folder, where its own copies will be too.
    pub fn new_in(store: &str, home: &Path) -> Bed {
        Bed::copy_of(&source(store).expect("the store"), now(), home)
    }

    fn copy_of(root: &Path, since: i64, home: &Path) -> Bed {
        let dir = temp_in(home);
        let to = dir.path().join("root");
        copy(root, &to);
        Bed { root: to, since, home: home.to_owned(), _dir: Some(dir) }
    }

    /// A root in a folder that the caller keeps.
    pub fn at(root: PathBuf) -> Bed {
        Bed { root, since: now(), home: base(), _dir: None }
    }

    /// A copy of this one as it stands.
    pub fn fork(&self) -> Bed {
        Bed::copy_of(&self.root, self.since, &self.home)
    }

    /// The folder of a container's writable layer.
    pub fn writable_layer(&self) -> (String, PathBuf) {
        let mounts = fs::read_dir(self.root.join("image/aufs/layerdb/mounts")).expect("mounts");
        let mut ids: Vec<String> =
            mounts.filter_map(|m| fs::read_to_string(m.expect("entry").path().join("mount-id")).ok()).collect();
        ids.sort();
        let there = |id: &String| self.root.join("aufs/diff").join(id);
        let id = ids.into_iter().find(|id| there(id).is_dir()).expect("a container");
        (id.clone(), there(&id))
    }

    /// A command of the program on this root.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(binary());
        c.args(["--quiet", "--root", path(&self.root)]).args(args).stdin(Stdio::null());
        c
    }

    /// Runs it.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().expect("run"), args)
    }

    /// The tree, everything exactly.
    pub fn tree(&self) -> Tree {
        Tree::of(&self.root, None)
    }

    /// The tree, with one time for all that is younger than the original.
    pub fn result(&self) -> Tree {
        Tree::of(&self.root, Some(self.since))
    }
}

/// `cp -a`.
pub fn copy(from: &Path, to: &Path) {
    sh("cp", &["-a", "--reflink=auto", path(from), path(to)]);
}

/// The program under test.
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY
        .get_or_init(|| {
            std::env::var_os("UNAUFS_CRASH_BIN").map_or_else(|| env!("CARGO_BIN_EXE_unaufs").into(), PathBuf::from)
        })
        .clone()
}

/// How a command ended.
pub struct Ran {
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The signal.
    pub signal: Option<i32>,
    /// Everything that it said.
    pub said: String,
}

impl Ran {
    /// From the output of a command.
    pub fn of(out: Output, args: &[&str]) -> Ran {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let said = format!("$ unaufs {}\n{}{}", args.join(" "), text(&out.stdout), text(&out.stderr));
        Ran { code: out.status.code(), signal: out.status.signal(), said }
    }

    /// It must have ended with one of these codes.
    pub fn expect(self, codes: &[i32]) -> Ran {
        assert!(
            self.code.is_some_and(|c| codes.contains(&c)),
            "ended with {:?} {:?}: {}",
            self.code,
            self.signal,
            self.said
        );
        self
    }
}

/// The trees must be the same.
pub fn assert_same(was: &Tree, is: &Tree, what: &str) {
    let d = was.differences(is);
    assert!(d.is_empty(), "{what}: {} differences: {}", d.len(), d[..d.len().min(8)].join("; "));
}

/// What an undisturbed migration gives, and how it begins.
pub struct Reference {
    /// The root before.
    pub original: Tree,
    /// The root afterwards.
    pub done: Tree,
    /// The exit code: 3 if something in the store is broken.
    pub code: i32,
    /// How long it took.
    pub took: Duration,
}

impl Reference {
    /// Migrates a copy of `bed`, undisturbed. `None` if this program cannot do that (yet).
    pub fn of(bed: &Bed, migrate: &[&str]) -> Option<Reference> {
        let copy = bed.fork();
        let original = copy.tree();
        let began = std::time::Instant::now();
        let ran = copy.run(migrate);
        let took = began.elapsed();
        match ran.code {
            Some(code @ (0 | 3)) => Some(Reference { original, done: copy.result(), code, took }),
            Some(2 | 4 | 10 | 14) => {
                eprintln!("left out: {}", ran.said.trim_end());
                None
            }
            _ => panic!("an undisturbed run ended with {:?}: {}", ran.code, ran.said),
        }
    }

    /// Goes on with an interrupted migration, twice; the result must be that of an undisturbed one.
    pub fn resume(&self, bed: &Bed, migrate: &[&str], what: &str) {
        let first = bed.run(migrate);
        let nothing = first.code == Some(0) && first.said.contains("nothing to do");
        assert!(nothing || first.code == Some(self.code), "{what}: resume: {:?} {}", first.code, first.said);
        assert_same(&self.done, &bed.result(), &format!("{what}: resumed"));
        let again = bed.run(migrate);
        assert!(again.code == Some(0) && again.said.contains("nothing to do"), "{what}: twice: {}", again.said);
        assert_same(&self.done, &bed.result(), &format!("{what}: resumed twice"));
    }

    /// Rolls back, twice; the root must be what it was.
    pub fn rollback(&self, bed: &Bed, what: &str) {
        let first = bed.run(&["rollback", "--yes", "--drop-new"]);
        assert!(first.code == Some(0), "{what}: rollback: {:?} {}", first.code, first.said);
        assert_same(&self.original, &bed.tree(), &format!("{what}: rolled back"));
        let again = bed.run(&["rollback", "--yes", "--drop-new"]);
        assert!(again.code == Some(0) && again.said.contains("nothing to do"), "{what}: twice: {}", again.said);
        assert_same(&self.original, &bed.tree(), &format!("{what}: rolled back twice"));
    }
}

/// Numbers for the report, one line each; run.sh collects them.
pub fn report(test: &str, case: &str, points: usize) {
    println!("crash-report: {test} | {case} | {points} | 0");
}

/// A source of chance that can be repeated: the seed is printed and read from `UNAUFS_CRASH_SEED`.
pub struct Chance(u64);

impl Chance {
    /// A new one.
    pub fn new(test: &str) -> Chance {
        let from_clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64 | 1);
        let seed = std::env::var("UNAUFS_CRASH_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(from_clock);
        println!("{test}: UNAUFS_CRASH_SEED={seed}");
        Chance(seed)
    }

    /// A number below `n` (xorshift64*).
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % n.max(1)
    }
}
