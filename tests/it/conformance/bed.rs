//! Where the tests run: a mount namespace and file systems of their own, all gone with the process.

use crate::support::needs;
use crate::support::private::place;
use crate::support::stack::disk;
use crate::support::stack::model::View;
use crate::support::stack::store::{self, Cast, Containers};
use crate::support::stack::text::{self, Layer};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What these tests need.
pub fn able() -> bool {
    let able = needs::root_and(&["mount", "umount", "mkfs.ext4", "mkfs.btrfs"])
        && needs::filesystems(&["ext4", "btrfs", "overlay"]);
    let loops = Path::new("/dev/loop-control").exists();
    if able && !loops {
        needs::cannot_run("there are no loop devices");
    }
    able && loops
}

/// The kinds of disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fs {
    Ext4,
    Btrfs,
}

impl Fs {
    /// The targets that can live on it, as far as they are tried there.
    pub fn targets(self) -> &'static [&'static str] {
        match self {
            Fs::Ext4 => &["overlay2", "overlay", "vfs"],
            Fs::Btrfs => &["btrfs"],
        }
    }

    /// Makes one and mounts it.
    pub fn mount(self, name: &str) -> PathBuf {
        let (image, at) = (place().join(format!("{name}.img")), place().join(name));
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(4 << 30).expect("an image");
        std::fs::create_dir(&at).expect("a mount point");
        match self {
            Fs::Ext4 => sh(Command::new("mkfs.ext4").args(["-q", "-F", "-N", "1000000"]).arg(&image)),
            Fs::Btrfs => sh(Command::new("mkfs.btrfs").arg("-q").arg(&image)),
        }
        sh(Command::new("mount").args(["-o", "loop"]).args([&image, &at]));
        at
    }
}

/// Runs a program that must succeed.
pub fn sh(command: &mut Command) {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Runs unaufs on a root; it must end with `code`.
pub fn unaufs(root: &Path, args: &[&str], code: i32) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unaufs"));
    let out = command.env_remove("UNAUFS_ROOT").arg("--root").arg(root).args(args).output().expect("unaufs");
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(out.status.code(), Some(code), "unaufs {}:\n{said}", args.join(" "));
    said
}

/// What a layer shows in the new store; on the overlay drivers through a real mount, made as Docker makes it.
pub fn seen(root: &Path, target: &str, cast: &Cast) -> View {
    let (id, home) = (&cast.id, root.join(target));
    let read = |path: &str| std::fs::read_to_string(home.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let lower = match target {
        "vfs" => return disk::read(&home.join("dir").join(id)),
        "btrfs" => return disk::read(&home.join("subvolumes").join(id)),
        "overlay" if home.join(id).join("root").exists() => return disk::read(&home.join(id).join("root")),
        "overlay" => format!("{}/root", read(&format!("{id}/lower-id"))),
        // overlayfs wants two lower directories, and hides the marks of a base layer too
        _ if cast.lowers.is_empty() => {
            let empty = place().join("empty");
            std::fs::create_dir_all(&empty).expect("a folder");
            empty.to_str().expect("UTF-8").to_owned()
        }
        _ => read(&format!("{id}/lower")),
    };
    let upper = if target == "overlay" { "upper" } else { "diff" };
    let options = if cast.writable && !cast.lowers.is_empty() {
        format!("index=off,lowerdir={lower},upperdir={id}/{upper},workdir={id}/work")
    } else {
        format!("ro,lowerdir={id}/{upper}:{lower}")
    };
    overlaid(&home, &options, disk::read)
}

fn overlaid(home: &Path, options: &str, look: impl FnOnce(&Path) -> View) -> View {
    let at = place().join("merged");
    std::fs::create_dir_all(&at).expect("a mount point");
    // with mount(2), as Docker does it: the newer calls, which util-linux 2.41 takes, refuse a long list of relative lowerdirs
    let mut mount = Command::new("mount");
    mount.current_dir(home).env("LIBMOUNT_FORCE_MOUNT2", "always").args(["-t", "overlay", "-o", options, "overlay"]);
    sh(mount.arg(&at));
    let out = look(&at);
    sh(Command::new("umount").arg(&at));
    out
}

/// What differs, for a reader.
pub fn differences(wanted: &View, is: &View) -> Vec<String> {
    let mut out = Vec::new();
    for path in wanted.keys().chain(is.keys().filter(|p| !wanted.contains_key(*p))) {
        let (w, i) = (wanted.get(path), is.get(path));
        if w != i {
            let tell = |l: Option<&String>| l.map_or("nothing", String::as_str).to_owned();
            out.push(format!("/{}\n    wanted {}\n    is     {}", path.escape_ascii(), tell(w), tell(i)));
        }
    }
    out
}

/// Moves a root to a target and compares what every layer shows with what it must show; then goes back, and all must be as before.
pub fn round_trip(root: &Path, casts: &[Cast], target: &str, mode: &str) -> Vec<String> {
    let without_top = |mut v: View| {
        v.remove(&b""[..]);
        v
    };
    let before = without_top(disk::read(root));
    unaufs(root, &["migrate", "--to", target, "--mode", mode, "--verify", "full", "--yes", "--quiet"], 0);
    let mut wrong = Vec::new();
    for cast in casts {
        let found = differences(&cast.view(target.starts_with("overlay")), &seen(root, target, cast));
        let what = if cast.writable { "writable layer" } else { "image layer" };
        wrong.extend(
            found
                .into_iter()
                .map(|d| format!("{target} {mode}, {what} {} of {}: {d}", &cast.id[..8], cast.layers.len())),
        );
    }
    unaufs(root, &["rollback", "--drop-new", "--yes", "--quiet"], 0);
    let back = differences(&before, &without_top(disk::read(root)));
    wrong.extend(back.into_iter().map(|d| format!("{target} {mode}, after rollback: {d}")));
    wrong
}

/// Fails with the first of many differences.
pub fn none(wrong: &[String]) {
    let first: Vec<&str> = wrong.iter().take(20).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} differences; the first:\n{}", wrong.len(), first.join("\n"));
}

/// Every target, in every casting and in the modes `modes`, shows what the stack must show.
pub fn conform_in(layers: &[Layer], containers: Containers, modes: &[&str]) {
    let mut wrong = Vec::new();
    for fs in [Fs::Ext4, Fs::Btrfs] {
        let root = fs.mount(&format!("{fs:?}")).join("docker");
        std::fs::create_dir(&root).expect("a root");
        let casts = store::write(layers, &root, containers);
        for target in fs.targets() {
            // the short run copies on one target of each disk
            let all = needs::long() || matches!(*target, "overlay2" | "btrfs");
            for mode in &modes[..if all { modes.len() } else { 1 }] {
                wrong.extend(round_trip(&root, &casts, target, mode));
            }
        }
    }
    none(&wrong);
}

/// The same for a text.
pub fn conform(stack: &str) {
    conform_in(&text::parse(stack), Containers::All, &["auto", "copy"]);
}

/// A test of a stack given as text, named after what it holds.
macro_rules! conforms {
    ($($(#[$doc:meta])* $name:ident: $text:expr;)*) => { $(
        $(#[$doc])*
        #[test]
        fn $name() {
            if crate::conformance::bed::able() && !crate::support::private::elsewhere(crate::support::private::this_test!()) {
                crate::conformance::bed::conform($text);
            }
        }
    )* };
}
pub(crate) use conforms;
