//! A sound root, and next to it a canary.
//!
//! ```text
//! TOP/root/            two images of one and two layers, two containers
//! TOP/canary/store/    the same root once more: a link that leads there would find what it looks for
//! TOP/canary/…         a secret, a setuid program, an empty directory
//! TOP/elsewhere/       plans
//! ```

use crate::support::real::{Ran, Tree, same, tree};
use crate::support::stack::store::{Cast, Containers};
use crate::support::stack::{store, text};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

pub const STACK: &str = "
layer
d etc mode=0750
f etc/passwd =root
f bin/su =program mode=4755
f data/a =a
f data/b =b
layer
f etc/shadow =secret mode=0600
w data/a
d data/more
o data/more
layer
f own/file =mine
w etc/passwd
s own/out -> ../../../../canary
";

/// A name in the canary's directory that SQLite takes for a super-journal's.
pub const VICTIM: &str = "victim-mj0123459ab";

/// The longest time that a verb may take here.
const PATIENCE: &str = "120";

pub struct World {
    _top: TempDir,
    pub root: PathBuf,
    pub canary: PathBuf,
    pub elsewhere: PathBuf,
    /// The layers of the root, images' first.
    pub casts: Vec<Cast>,
    before: Tree,
}

impl World {
    pub fn new() -> World {
        World::of(STACK)
    }

    pub fn of(stack: &str) -> World {
        World::with(|root| store::write(&text::parse(stack), root, Containers::All))
    }

    /// A world whose root `make` fills.
    pub fn with(make: impl Fn(&Path) -> Vec<Cast>) -> World {
        let top = crate::support::real::folder();
        let path = |name: &str| top.path().join(name);
        let (root, canary, elsewhere) = (path("root"), path("canary"), path("elsewhere"));
        for folder in [&root, &canary.join("store"), &canary.join("empty"), &elsewhere] {
            fs::create_dir_all(folder).expect("a folder");
        }
        let casts = make(&root);
        make(&canary.join("store"));
        fs::write(canary.join("secret"), "the canary's secret").expect("a file");
        fs::write(canary.join("program"), "setuid").expect("a file");
        let journals =
            [".unaufs/journal.db-journal", "linkgraph.db-journal"].map(|j| root.join(j).display().to_string());
        fs::write(canary.join(VICTIM), journals.map(|j| j + "\0").concat()).expect("a file");
        for (name, mode) in [("secret", 0o600), ("program", 0o4755), ("empty", 0o711)] {
            fs::set_permissions(canary.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
        }
        std::os::unix::fs::symlink("secret", canary.join("link")).expect("a symlink");
        xattr::set(canary.join("secret"), "trusted.canary", b"tweet").expect("an attribute");
        let before = tree(&canary);
        World { _top: top, root, canary, elsewhere, casts, before }
    }

    /// The canary is as it was, and the directory that holds ROOT too.
    pub fn unharmed(&self, what: &str) {
        same(&format!("{what}: the canary"), &self.before, &tree(&self.canary));
        let mut names: Vec<_> =
            fs::read_dir(self._top.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
        names.sort();
        assert_eq!(names, ["canary", "elsewhere", "root"], "{what}: beside ROOT");
    }

    /// Runs a verb: it ends in time, does not crash, sends nothing to the terminal that it would obey, and leaves the canary alone.
    pub fn run(&self, args: &[&str]) -> Ran {
        let mut c = Command::new("timeout");
        c.arg(PATIENCE).arg(env!("CARGO_BIN_EXE_unaufs")).env_remove("UNAUFS_ROOT");
        // a root that this machine's Docker is not told of
        let ran = Ran::of(c.arg("--root").arg(&self.root).args(args).output().expect("unaufs"));
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(ran.code >= 0 && ![101, 124, 134, 137].contains(&ran.code), "{args:?} ended with {}: {said}", ran.code);
        assert!(!said.contains("panicked"), "{args:?}: {said}");
        let obeyed = said.chars().find(|c| c.is_control() && *c != '\n' || ('\u{202a}'..='\u{202e}').contains(c));
        assert!(obeyed.is_none(), "{args:?}: {obeyed:?} in {said:?}");
        self.unharmed(&format!("{args:?}"));
        ran
    }

    /// Runs a verb that may end in any way but a crash; what it did to the canary is looked at later.
    pub fn run_quietly(&self, args: &[&str]) -> Ran {
        let mut c = Command::new("timeout");
        let ran = c.arg(PATIENCE).arg(env!("CARGO_BIN_EXE_unaufs")).arg("--root").arg(&self.root).args(args).output();
        let ran = Ran::of(ran.expect("unaufs"));
        assert!(ran.code >= 0 && ![101, 124, 134, 137].contains(&ran.code), "{args:?}: {}{}", ran.stdout, ran.stderr);
        ran
    }

    /// Plan, migrate, verify, go back, migrate, clean up. `code` is what migrate ends with, `says` what it or the plan says. Where it migrates,
    /// all the rest goes well too, and going back gives the root back as it was.
    pub fn ends(&self, code: i32, says: &str) {
        let before = tree(&self.root);
        let plan = self.run(&["plan", "-v"]);
        let json = self.run(&["plan", "--json"]);
        serde_json::from_str::<serde_json::Value>(&json.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}{}", json.stdout, json.stderr));
        self.run(&["inspect"]);
        let page = self.elsewhere.join("plan.html");
        self.run(&["plan", "--html", page.to_str().expect("UTF-8")]);
        if page.exists() {
            let html = fs::read_to_string(&page).expect("a page");
            assert!(!html.contains('\u{1b}') && !html.contains("<script>alert"), "raw names in the page");
            let mode = fs::metadata(&page).expect("a page").permissions().mode() & 0o7777;
            assert_eq!(mode, 0o600, "the page's mode");
        }
        let tar = self.elsewhere.join("export.tar");
        replace(&tar);
        self.run(&["export", "--all", "-o", tar.to_str().expect("UTF-8")]);
        if tar.exists() {
            let mode = fs::metadata(&tar).expect("an export").permissions().mode() & 0o7777;
            assert_eq!(mode, 0o600, "the export's mode");
        }
        same("plan or export changed the root", &before, &tree(&self.root));
        let ran = self.run(&["migrate", "--yes"]);
        let said = format!("{}{}{}{}", plan.stdout, plan.stderr, ran.stdout, ran.stderr);
        assert_eq!(ran.code, code, "migrate: {said}");
        // wherever a line was wrapped
        let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(says), "{says:?} is not said: {said}");
        let moved = matches!(code, 0 | 3);
        let then = |args: &[&str]| {
            let ran = self.run(args);
            assert!(!moved || ran.code == 0, "{args:?}: {}{}", ran.stdout, ran.stderr);
        };
        self.run(&["status"]);
        then(&["verify"]);
        then(&["rollback", "--yes", "--drop-new"]);
        if moved {
            same("rollback did not give the root back", &before, &tree(&self.root));
            assert_eq!(self.run(&["migrate", "--yes"]).code, code, "migrate once more");
        }
        then(&["cleanup", "--yes"]);
        assert!(
            moved || self.root.join("aufs").symlink_metadata().is_ok() || before.is_empty(),
            "the old store is gone"
        );
    }

    /// A file or directory of the root.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// layerdb's directory of the layer `cast`.
    pub fn record(&self, cast: usize) -> PathBuf {
        let chains = fs::read_dir(self.at("image/aufs/layerdb/sha256")).expect("layerdb");
        let id = &self.casts[cast].id;
        // another one may hold a fifo already
        let is_file = |p: &Path| fs::symlink_metadata(p).is_ok_and(|m| m.is_file());
        let mut all = chains.flatten().map(|e| e.path());
        let names = |p: &Path| is_file(p) && fs::read_to_string(p).is_ok_and(|c| c == *id);
        all.find(|p| names(&p.join("cache-id"))).expect("a record")
    }

    /// The only name in a directory, or the first.
    pub fn first(&self, folder: &str) -> PathBuf {
        let mut names: Vec<_> = fs::read_dir(self.at(folder)).expect(folder).flatten().map(|e| e.path()).collect();
        names.sort();
        names.swap_remove(0)
    }

    /// Puts a symlink to the same place in the canary's store where `path` is.
    pub fn lead_out(&self, path: &Path) {
        let rel = path.strip_prefix(&self.root).expect("below ROOT");
        let target = self.canary.join("store").join(rel);
        assert!(target.exists(), "{}", target.display());
        replace(path);
        std::os::unix::fs::symlink(target, path).expect("a symlink");
    }
}

/// Makes room for something else.
pub fn replace(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path).expect("removed"),
        Ok(_) => fs::remove_file(path).expect("removed"),
        Err(_) => {}
    }
}

/// What nobody may read from.
#[derive(Clone, Copy, Debug)]
pub enum Odd {
    Fifo,
    /// Zeros without end.
    Device,
    Socket,
    Folder,
}

impl Odd {
    pub const ALL: [Odd; 4] = [Odd::Fifo, Odd::Device, Odd::Socket, Odd::Folder];

    /// Puts it where `path` is.
    pub fn put(self, path: &Path) {
        use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
        replace(path);
        let kind = match self {
            Odd::Fifo => FileType::Fifo,
            Odd::Device => FileType::CharacterDevice,
            Odd::Socket => FileType::Socket,
            Odd::Folder => return fs::create_dir(path).expect("a folder"),
        };
        mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), makedev(1, 5)).expect("a special file");
    }
}
