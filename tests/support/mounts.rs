//! File systems in image files, mounted for as long as a test needs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A file system, unmounted when it is dropped.
pub struct Mounted {
    /// Where it is mounted.
    pub at: PathBuf,
    /// The image, if it has one. Only the tests with fault points look at it.
    #[allow(dead_code)]
    pub image: PathBuf,
}

impl Mounted {
    /// Makes a file system and mounts it in `dir`. `mkfs` is the command with its options.
    pub fn new(dir: &Path, name: &str, bytes: u64, mkfs: &[&str]) -> Mounted {
        let image = dir.join(format!("{name}.img"));
        fs::File::create(&image).and_then(|f| f.set_len(bytes)).expect("make image");
        run(mkfs[0], &[&mkfs[1..], &[path(&image)]].concat());
        Mounted::mount(dir, name, image, "loop")
    }

    /// A file system on which files can share extents.
    pub fn with_clones(dir: &Path, kind: &str) -> Mounted {
        let mkfs: &[&str] =
            if kind == "btrfs" { &["mkfs.btrfs", "-q"] } else { &["mkfs.xfs", "-q", "-m", "reflink=1"] };
        Mounted::new(dir, kind, 3 << 30, mkfs)
    }

    /// Mounts an image that is there.
    pub fn mount(dir: &Path, name: &str, image: PathBuf, options: &str) -> Mounted {
        let at = dir.join(name);
        fs::create_dir_all(&at).expect("make mount point");
        run("mount", &["-o", options, path(&image), path(&at)]);
        Mounted { at, image }
    }

    /// A tmpfs on a directory that is there; or, with `from`, that directory once more.
    pub fn over(at: &Path, from: Option<&Path>) -> Mounted {
        match from {
            Some(from) => run("mount", &["--bind", path(from), path(at)]),
            None => run("mount", &["-t", "tmpfs", "tmpfs", path(at)]),
        }
        Mounted { at: at.to_owned(), image: PathBuf::new() }
    }

    /// Mounts it again with other options.
    pub fn remount(&self, options: &str) {
        run("mount", &["-o", &format!("remount,{options}"), path(&self.at)]);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for options in [&["-n"][..], &["-l"]] {
            let done = Command::new("umount").args(options).arg(&self.at).stderr(Stdio::null()).status();
            if done.is_ok_and(|s| s.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {}: {} {err}", args.join(" "), out.status);
}

fn path(p: &Path) -> &str {
    p.to_str().expect("a path in UTF-8")
}
