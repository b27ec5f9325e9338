//! `--target DIR`: the new root on another disk, complete, in use by a real Docker; the old one as it was.

use crate::support::mounts::Mounted;
use crate::support::needs;
use crate::support::private::{self, this_test};
use crate::support::real::{self, Ran, Store, same, tree};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

fn text(p: &Path) -> &str {
    p.to_str().expect("a path in UTF-8")
}

fn sh(script: &str, at: &Path) {
    let out = Command::new("sh").args(["-euc", script]).current_dir(at).output().expect("sh");
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
}

/// The small store, and a btrfs next to it; none where the rest of the test is run elsewhere.
fn bed(test: &str) -> Option<(Store, Mounted, PathBuf)> {
    if !real::able() || !needs::programs(&["mkfs.btrfs"]) || private::elsewhere(test) {
        return None;
    }
    let store = real::small().unpack();
    let disk = Mounted::new(&store.beside, "btrfs", 2 << 30, &["mkfs.btrfs", "-q"]);
    let new = disk.at.join("docker");
    Some((store, disk, new))
}

/// Below a root, paths that another place of the root has too.
fn volumes(root: &Path) -> real::Tree {
    let mut out = tree(&root.join("volumes"));
    // an inode has its number of names in both
    out.retain(|name, _| name != b"/backingFsBlockDev");
    out
}

/// From the refusal of `--to btrfs` on ext4 to the old layers' end.
#[test]
fn a_root_on_btrfs() {
    let Some((store, _disk, new)) = bed(this_test!()) else { return };
    let dir = text(&new);
    // everything that a volume can hold
    sh(
        "mkdir odd; cd odd; echo x >f; ln f g; touch -d '2001-02-03 04:05:06.789012345' f; setfattr -n user.k -v v f; setfattr -n trusted.overlay.opaque -v y .
         mknod null c 1 3; mknod zero c 0 0; mkfifo p; ln -s nowhere s; truncate -s 1M hole; echo end >>hole; setfacl -m u:12345:rwx f; : >.wh.kept
         chown 1000:2000 g; chmod 4755 g; mkdir -m 1777 t; printf x >\"$(printf 'b\\377d')\"; touch -d '1999-01-01' t .",
        &store.root.join("volumes"),
    );
    let before = tree(&store.root);
    let refused = store.unaufs(&["plan", "--to", "btrfs"]).exits(4).stdout;
    assert!(refused.contains("--target DIR"), "the way out is named:\n{refused}");

    let target = ["--to", "btrfs", "--target", dir];
    let plan = store.unaufs(&[&["plan"][..], &target].concat()).exits(0).stdout;
    assert!(plan.contains("\"data-root\"") && plan.contains("are copied to the new root"), "{plan}");
    assert!(!new.exists(), "planning makes nothing");
    let done = store.unaufs(&[&["migrate", "--yes", "--verify", "full"][..], &target].concat()).exits(0).stdout;
    assert!(done.contains("\"data-root\""), "{done}");
    same("the old root", &before, &tree(&store.root));
    same("volumes", &volumes(&store.root), &volumes(&new));
    let holes =
        |root: &Path| fs::metadata(root.join("volumes/odd/hole")).map(|m| std::os::unix::fs::MetadataExt::blocks(&m));
    assert!(holes(&new).expect("hole") < 64, "holes are kept");
    assert_eq!(
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(new.join("volumes/odd/f")).expect("f")),
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(new.join("volumes/odd/g")).expect("g")),
    );
    configurations(&store, &new);
    store.judged("views", &new, "btrfs");

    // both ways to name it
    for args in [&["--root", dir][..], &["--root", text(&store.root), "--target", dir]] {
        for verb in ["status", "verify"] {
            bare(&[args, &[verb]].concat()).exits(0);
        }
    }
    store.judged("docker", &new, "btrfs");
    let made = new.join("volumes/since");
    fs::create_dir(&made).expect("a volume made since");

    let back = bare(&["--root", dir, "rollback", "--yes"]).exits(0).stdout;
    assert!(back.contains("volumes/since"), "what was written since is listed:\n{back}");
    assert!(new.join(".unaufs/undone/volumes/since").is_dir(), "it is kept");
    assert_eq!(fs::read_dir(&new).expect("the new root").count(), 1, "nothing else is in the way");
    same("the old root after the rollback", &before, &tree(&store.root));
    assert!(bare(&["--root", dir, "migrate", "--yes"]).exits(2).stderr.contains("--target"));

    store.unaufs(&[&["migrate", "--yes"][..], &target].concat()).exits(0);
    assert!(bare(&["--root", dir, "cleanup", "--yes"]).exits(2).stderr.contains("name both roots"));
    store.unaufs(&["cleanup", "--yes", "--target", dir]).exits(0);
    let left: Vec<String> = tree(&store.root).into_keys().map(|k| String::from_utf8_lossy(&k).into_owned()).collect();
    assert!(
        left.iter().all(|p| !p.starts_with("/aufs") && !p.starts_with("/image/aufs")),
        "the old layers are deleted"
    );
    same("the old volumes", &volumes(&new), &volumes(&store.root));
    store.judged("docker", &new, "btrfs");
    let again = store.unaufs(&["cleanup", "--yes", "--target", dir]).exits(0).stdout;
    assert!(again.contains("nothing to do"), "{again}");
    let made = tree(&new);
    for more in [&["--yes"][..], &["--yes", "--drop-new"]] {
        let said = bare(&[&["--root", dir, "rollback"], more].concat()).exits(1).stderr;
        assert!(said.contains("there is no way back"), "{said}");
    }
    same("the new root after a rollback that is too late", &made, &tree(&new));
}

fn bare(args: &[&str]) -> Ran {
    let mut c = Command::new(env!("CARGO_BIN_EXE_unaufs"));
    Ran::of(c.env_remove("UNAUFS_ROOT").args(args).output().expect("unaufs"))
}

/// Each differs from the old one in the driver and in paths of the old root, and in nothing else.
fn configurations(store: &Store, new: &Path) {
    let mut changed = 0;
    for c in fs::read_dir(store.root.join("containers")).expect("containers").flatten() {
        let read = |root: &Path| {
            fs::read_to_string(root.join("containers").join(c.file_name()).join("config.v2.json"))
                .expect("a configuration")
        };
        let (was, is) = (read(&store.root), read(new));
        // as the Docker that wrote them knew its root
        let host = was.split_once("\"HostnamePath\":\"").map_or("", |(_, rest)| rest.split('"').next().unwrap_or(""));
        let old = host.split_once("/containers/").map_or("/nowhere", |(root, _)| root);
        let want = was
            .replace("\"Driver\":\"aufs\"", "\"Driver\":\"btrfs\"")
            .replace(&format!("\"{old}/"), &format!("\"{}/", text(new)));
        assert_eq!(is, want);
        changed += usize::from(was.contains(&format!("\"{old}/")));
    }
    assert!(changed > 5, "the store has containers with paths");
}

#[test]
fn folders_that_are_not_free() {
    let Some((store, _disk, new)) = bed(this_test!()) else { return };
    let migrate = |dir: &Path| store.unaufs(&["migrate", "--yes", "--to", "vfs", "--target", text(dir)]);
    let inside = store.root.join("inside");
    let says = |ran: Ran, code: i32, word: &str| {
        let ran = ran.exits(code);
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains(word), "{word}: {ran:?}");
    };
    let before = tree(&store.root);
    says(migrate(&inside), 4, "N01");
    says(migrate(&store.root), 4, "N01");
    says(migrate(&new.join("a/b")), 2, "mkdir -p");
    fs::create_dir(&new).expect("mkdir");
    fs::write(new.join("mine"), "").expect("write");
    says(migrate(&new), 4, "N01");
    fs::remove_file(new.join("mine")).expect("remove");
    migrate(&new).exits(0);
    // it is the new root of this one, and of no other
    let other = real::small().unpack();
    says(other.unaufs(&["migrate", "--yes", "--target", text(&new)]), 2, "belongs to a migration");
    says(migrate(&new), 0, "nothing to do");
    store.unaufs(&["rollback", "--yes", "--drop-new", "--target", text(&new)]).exits(0);
    assert!(fs::read_dir(&new).expect("the folder was there before").next().is_none());
    same("the old root", &before, &tree(&store.root));
}

/// Mount points and symlinks in the old root are named, and what is behind them is not copied; another driver's store blocks.
#[test]
fn what_cannot_go_along_is_named() {
    let Some((store, _disk, new)) = bed(this_test!()) else { return };
    let far = store.beside.join("far");
    fs::create_dir(&far).expect("mkdir");
    fs::write(far.join("there"), "x").expect("write");
    let point = store.root.join("volumes/mounted");
    fs::create_dir(&point).expect("mkdir");
    let _over = Mounted::over(&point, Some(&far));
    symlink(&far, store.root.join("plugins-elsewhere")).expect("symlink");
    let args = ["--to", "vfs", "--target", text(&new)];
    let plan = store.unaufs(&[&["plan", "-v"][..], &args].concat()).exits(0).stdout;
    assert!(plan.contains("! N05  volumes/mounted"), "{plan}");
    store.unaufs(&[&["migrate", "--yes"][..], &args].concat()).exits(0);
    assert!(
        fs::read_dir(new.join("volumes/mounted")).expect("the folder").next().is_none(),
        "what is mounted is not copied"
    );
    assert_eq!(fs::read_link(new.join("plugins-elsewhere")).expect("the symlink"), far);
    store.unaufs(&["rollback", "--yes", "--drop-new", "--target", text(&new)]).exits(0);
    assert!(!new.exists() && far.join("there").exists(), "a rollback leaves nothing and follows nothing");

    let images = store.root.join("image/overlay2/imagedb/content/sha256");
    fs::create_dir_all(&images).expect("mkdir");
    fs::write(images.join("0".repeat(64)), "{}").expect("write");
    let ran = store.unaufs(&[&["migrate", "--yes"][..], &args].concat()).exits(4);
    assert!(ran.stderr.contains("N02"), "{}", ran.stderr);
    store.unaufs(&[&["migrate", "--yes", "--allow", "N02"][..], &args].concat()).exits(0);
    assert!(!new.join("image/overlay2").exists() && images.exists());
}

/// Image layers first, while Docker runs; the rest later. And a plan that was saved.
#[test]
fn in_two_steps() {
    let Some((store, _disk, new)) = bed(this_test!()) else { return };
    let before = tree(&store.root);
    let args = ["--to", "overlay2", "--target", text(&new)];
    store.unaufs(&[&["migrate", "--yes", "--prepare"][..], &args].concat()).exits(0);
    assert!(!new.join("volumes").exists() && new.join(".unaufs/new/overlay2").exists());
    store.unaufs(&[&["migrate", "--yes"][..], &args].concat()).exits(0);
    store.judged("views", &new, "overlay2");
    store.unaufs(&["rollback", "--yes", "--drop-new", "--target", text(&new)]).exits(0);
    same("the old root", &before, &tree(&store.root));

    let saved = store.beside.join("saved.plan");
    store.unaufs(&[&["plan", "--out", text(&saved)][..], &args].concat()).exits(0);
    store.unaufs(&["migrate", "--target", text(&store.beside), text(&saved)]).exits(2);
    store.unaufs(&["migrate", text(&saved)]).exits(0);
    store.judged("views", &new, "overlay2");
    same("the old root", &before, &tree(&store.root));
}

/// The root of a Docker with a user namespace: the last part of the path is what the daemon adds.
#[test]
fn a_remapped_root() {
    let Some((store, disk, _)) = bed(this_test!()) else { return };
    let root = store.beside.join("231072.231072");
    fs::rename(&store.root, &root).expect("rename");
    let at =
        |dir: &str| real::unaufs(&root, &["migrate", "--yes", "--to", "btrfs", "--target", text(&disk.at.join(dir))]);
    assert!(at("docker").exits(4).stderr.contains("231072.231072"));
    fs::create_dir(disk.at.join("docker")).expect("mkdir");
    let done = at("docker/231072.231072").exits(0).stdout;
    let told = format!("\"data-root\": \"{}\"", text(&disk.at.join("docker")));
    assert!(done.contains(&told), "{told} in:\n{done}");
}
