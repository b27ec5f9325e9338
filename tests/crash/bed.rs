//! Copies of a real store to be ill-treated, file systems in image files, and the program.

use crate::stores::source;
pub use crate::support::mounts::Mounted;
pub use crate::support::needs::long;
use crate::tree::Tree;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Is this case to be tried? `UNAUFS_CRASH_CASE` names the only ones, a comma between them; where it says nothing, `else_tried` does.
pub fn wanted(case: &str, else_tried: bool) -> bool {
    std::env::var("UNAUFS_CRASH_CASE").map_or(else_tried, |only| only.split(',').any(|o| o.trim() == case))
}

/// How many rounds a test that is left to chance makes.
pub fn rounds(short: usize) -> usize {
    std::env::var("UNAUFS_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(short)
}

/// Runs a program that must succeed.
pub fn sh(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {}: {} {err}", args.join(" "), out.status);
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// As an argument.
pub fn path(p: &Path) -> &str {
    p.to_str().expect("a path in UTF-8")
}

/// Where everything is.
pub fn base() -> PathBuf {
    let base = std::env::var_os("UNAUFS_CRASH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    fs::create_dir_all(&base).expect("make the test folder");
    base
}

/// A directory of its own, removed at the end.
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
    /// A file below the root that cannot be read: each read of it fails in the kernel's stead.
    pub bad: Option<PathBuf>,
    /// Without the syncs, where no power is cut: a killed process loses nothing of what it has written, and rounds are cheap.
    pub no_sync: bool,
    /// As on a kernel of before 3.15.
    pub old_kernel: bool,
    /// Where copies of it are made.
    home: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

impl Bed {
    /// A copy of a store.
    pub fn new(store: &str) -> Bed {
        Bed::new_in(store, &base())
    }

    /// A copy of a store in a directory, where its own copies will be too.
    pub fn new_in(store: &str, home: &Path) -> Bed {
        Bed::copy_of(&source(store), now(), home)
    }

    fn copy_of(root: &Path, since: i64, home: &Path) -> Bed {
        let dir = temp_in(home);
        let to = dir.path().join("root");
        copy(root, &to);
        Bed { root: to, since, bad: None, no_sync: false, old_kernel: false, home: home.to_owned(), _dir: Some(dir) }
    }

    /// A root in a directory that the caller keeps.
    pub fn at(root: PathBuf) -> Bed {
        Bed { root, since: now(), bad: None, no_sync: false, old_kernel: false, home: base(), _dir: None }
    }

    /// The same, whose copies are made in another directory.
    pub fn copied_to(self, home: &Path) -> Bed {
        Bed { home: home.to_owned(), ..self }
    }

    /// A copy of this one in its present state.
    pub fn fork(&self) -> Bed {
        let new = Bed::copy_of(&self.root, self.since, &self.home);
        Bed { bad: self.bad.clone(), no_sync: self.no_sync, old_kernel: self.old_kernel, ..new }
    }

    /// The directory of a container's writable layer.
    pub fn writable_layer(&self) -> (String, PathBuf) {
        let mounts = fs::read_dir(self.root.join("image/aufs/layerdb/mounts")).expect("mounts");
        let mut ids: Vec<String> =
            mounts.filter_map(|m| fs::read_to_string(m.expect("entry").path().join("mount-id")).ok()).collect();
        ids.sort();
        let there = |id: &String| self.root.join("aufs/diff").join(id);
        let id = ids.into_iter().find(|id| there(id).is_dir()).expect("a container");
        (id.clone(), there(&id))
    }

    /// The directory of an image's or a container's layer that holds this path, below the root.
    pub fn layer_with(&self, inner: &str) -> PathBuf {
        let diff = Path::new("aufs/diff");
        let layers = fs::read_dir(self.root.join(diff)).expect("layers");
        let mut names = layers.map(|e| diff.join(e.expect("entry").file_name()));
        names
            .find(|l| !l.to_string_lossy().ends_with("-init") && self.root.join(l).join(inner).exists())
            .unwrap_or_else(|| panic!("no layer has {inner}"))
    }

    /// A command of the program on this root.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut c = match &self.bad {
            None => Command::new(binary()),
            Some(file) => {
                let mut c = Command::new("strace");
                c.args(["-f", "-qq", "-o", "/dev/null", "-P", path(&self.root.join(file))]);
                // strace finds a clone by the file that it goes to
                c.args(["-P", path(&self.root.join(staged(file)))]);
                c.args(["-e", "inject=copy_file_range,read,pread64,ioctl:error=EIO", "--"]).arg(binary());
                c
            }
        };
        c.args(["--quiet", "--root", path(&self.root)]).args(args).stdin(Stdio::null());
        if self.no_sync {
            c.env("UNAUFS_FAULT_NO_SYNC", "all");
        }
        if self.old_kernel {
            c.env("UNAUFS_FAULT_OLD_KERNEL", "1");
        }
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

/// Where the copy of a file of an aufs branch is built.
fn staged(file: &Path) -> PathBuf {
    let mut parts = file.strip_prefix("aufs/diff").expect("a file of a branch").components();
    let id = parts.next().expect("a layer");
    Path::new(".unaufs/new/overlay2").join(id).join("diff").join(parts.as_path())
}

/// `cp -a`; a subvolume of btrfs, whose root directory is inode 256, becomes a subvolume.
pub fn copy(from: &Path, to: &Path) {
    const SUBVOLUMES: &str = "cd \"$0\" && [ \"$(stat -f -c %T .)\" = btrfs ] || exit 0
        find . -mindepth 1 -type d -inum 256 -print -prune | while read -r at; do
            rm -rf \"$1/$at\" && btrfs -q subvolume snapshot \"$at\" \"$1/$at\" && touch -r \"$(dirname \"$at\")\" \"$1/$(dirname \"$at\")\" || exit 1
        done";
    sh("cp", &["-a", "--reflink=auto", path(from), path(to)]);
    sh("sh", &["-c", SUBVOLUMES, path(from), path(to)]);
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

/// Waits for something that a running program does.
pub fn wait_for(child: &mut Child, what: &str, mut there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !there() {
        assert!(child.try_wait().expect("wait").is_none(), "it ended before {what}");
        assert!(began.elapsed() < Duration::from_secs(300), "{what} never came");
        std::thread::sleep(Duration::from_millis(1));
    }
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
    /// Migrates a copy of `bed`, undisturbed.
    pub fn of(bed: &Bed, migrate: &[&str]) -> Reference {
        let copy = bed.fork();
        let original = copy.tree();
        let began = std::time::Instant::now();
        let ran = copy.run(migrate);
        let took = began.elapsed();
        let code = ran.expect(&[0, 3]).code.unwrap_or_default();
        Reference { original, done: copy.result(), code, took }
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
