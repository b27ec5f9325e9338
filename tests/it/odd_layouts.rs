//! Roots on odd file systems and in odd places: each works, or is refused with what to do.

use crate::support::mounts::Mounted;
use crate::support::needs;
use crate::support::private::{self, this_test};
use crate::support::real::{self, Store, same, tree};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// The small store; none where the rest of the test is run elsewhere.
fn bed(test: &str) -> Option<Store> {
    if !real::able() || !needs::programs(&["mkfs.xfs", "mkfs.ext4", "mkfs.btrfs"]) || private::elsewhere(test) {
        return None;
    }
    Some(real::small().unpack())
}

/// There and back.
fn moves(root: &Path, to: &str, store: &Store) {
    let before = tree(root);
    real::unaufs(root, &["migrate", "--yes", "--to", to]).exits(0);
    store.judged("views", root, to);
    real::unaufs(root, &["rollback", "--yes", "--drop-new"]).exits(0);
    same(&format!("{} to {to}", root.display()), &before, &tree(root));
}

fn refused(root: &Path, args: &[&str], code: i32, words: &[&str]) {
    let ran = real::unaufs(root, args).exits(code);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(words.iter().all(|w| said.contains(w)), "{words:?} in:\n{said}");
}

fn copied(store: &Store, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(&store.root).arg(to).status().expect("cp").success());
}

#[test]
fn symlinks_and_mount_points() {
    let Some(store) = bed(this_test!()) else { return };
    // ROOT itself may be both
    let link = store.beside.join("link");
    symlink(&store.root, &link).expect("symlink");
    moves(&link, "overlay2", &store);
    // what it consists of may not
    for name in ["aufs", "image", "containers"] {
        let (here, away) = (store.root.join(name), store.beside.join(name));
        fs::rename(&here, &away).expect("rename");
        symlink(&away, &here).expect("symlink");
        refused(&store.root, &["plan"], 4, &["is a symlink", "remove the symlink"]);
        fs::remove_file(&here).expect("unlink");
        fs::create_dir(&here).expect("mkdir");
        {
            let _over = Mounted::over(&here, Some(&away));
            refused(&store.root, &["migrate", "--yes"], 4, &["is a mount point", "umount"]);
        }
        fs::remove_dir(&here).expect("rmdir");
        fs::rename(&away, &here).expect("rename");
    }
    let driver = store.root.join("overlay2");
    fs::create_dir(&driver).expect("mkdir");
    {
        let _over = Mounted::over(&driver, None);
        refused(&store.root, &["plan"], 4, &["overlay2 is a mount point"]);
    }
    fs::remove_dir(&driver).expect("rmdir");
    // a driver's directory that leads elsewhere: in the way for that driver only
    let away = store.beside.join("away");
    fs::create_dir_all(away.join("dir/x")).expect("mkdir");
    for (name, other) in [("overlay2", "vfs"), ("vfs", "overlay2"), ("overlay", "overlay2")] {
        let here = store.root.join(name);
        symlink(&away, &here).expect("symlink");
        refused(&store.root, &["plan", "--to", name], 4, &[&format!("H08  {name}: "), "it isn't a directory"]);
        refused(&store.root, &["migrate", "--yes", "--to", name], 4, &["it isn't a directory"]);
        moves(&store.root, other, &store);
        fs::remove_file(&here).expect("unlink");
    }
    assert!(away.join("dir/x").exists(), "what the symlink leads to is not touched");
    // a half-made store of another tool is named and stays
    fs::create_dir_all(store.root.join("overlay2.temp/x")).expect("mkdir");
    refused(&store.root, &["plan", "-v"], 0, &["i T07  overlay2.temp/"]);
    moves(&store.root, "overlay2", &store);
    assert!(store.root.join("overlay2.temp/x").exists());
}

/// A root that is a mount point, on file systems with other abilities and options.
#[test]
fn file_systems() {
    let Some(store) = bed(this_test!()) else { return };
    let overlay_on_tmpfs = |root: &Path| moves(root, "overlay2", &store);
    let point = store.beside.join("tmpfs");
    fs::create_dir(&point).expect("mkdir");
    {
        let tmpfs = Mounted::over(&point, None);
        tmpfs.remount("noexec,nodev,size=2g,nr_inodes=200000");
        copied(&store, &tmpfs.at.join("root"));
        overlay_on_tmpfs(&tmpfs.at.join("root"));
        refused(&tmpfs.at.join("root"), &["plan", "--to", "vfs"], 0, &["H18", "remount,exec,dev"]);
    }
    without_file_types(&store);
    // the root of a file system is ROOT
    let kinds = if needs::long() { &["ext4", "xfs", "btrfs"][..] } else { &["xfs"] };
    for kind in kinds {
        let disk = match *kind {
            "ext4" => Mounted::new(&store.beside, "ext4", 1 << 30, &["mkfs.ext4", "-q"]),
            kind => Mounted::with_clones(&store.beside, kind),
        };
        let cp = Command::new("cp").arg("-a").arg(store.root.join(".")).arg(&disk.at).status();
        assert!(cp.expect("cp").success());
        disk.remount("noexec,nodev");
        moves(&disk.at, "overlay2", &store);
        let flat = if *kind == "btrfs" { "btrfs" } else { "vfs" };
        refused(&disk.at, &["plan", "--to", flat], 0, &["H18", "remount,exec,dev"]);
        disk.remount("exec,dev");
        moves(&disk.at, flat, &store);
    }
}

/// Directories that do not tell the types of files: overlayfs cannot tell whiteouts there. ext4 can be made so everywhere; xfs, where people have
/// such disks, only as long as mkfs.xfs and the kernel know its old form.
fn without_file_types(store: &Store) {
    let kinds: [(&str, &[&str]); 2] = [
        ("ext4", &["mkfs.ext4", "-q", "-O", "^filetype"]),
        ("xfs", &["mkfs.xfs", "-q", "-m", "crc=0", "-n", "ftype=0"]),
    ];
    for (kind, mkfs) in kinds {
        let name = format!("old-{kind}");
        let image = store.beside.join(format!("{name}.img"));
        fs::File::create(&image).and_then(|f| f.set_len(1 << 30)).expect("image");
        let made = Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image).output().expect("mkfs");
        let possible = made.status.success() && {
            let at = store.beside.join(format!("probe-{kind}"));
            fs::create_dir(&at).expect("mkdir");
            let mount = Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at).output();
            mount.is_ok_and(|o| o.status.success())
                && Command::new("umount").arg(&at).status().is_ok_and(|s| s.success())
        };
        // ext4 has shown all of it already
        if kind == "xfs" && !possible {
            eprintln!("xfs without file types cannot be made or mounted here; ext4 without them was tried");
            continue;
        }
        let old = Mounted::mount(&store.beside, &name, image, "loop");
        copied(store, &old.at.join("root"));
        refused(&old.at.join("root"), &["plan"], 4, &["T04", "ftype=0"]);
        refused(&old.at.join("root"), &["migrate", "--yes"], 14, &["--target DIR"]);
        moves(&old.at.join("root"), "vfs", store);
    }
}

/// Dockers from 1.10 on made `aufs/` 0700, those from 20.10.9 on 0710: the new directories are like it.
#[test]
fn modes_of_other_dockers() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let Some(store) = bed(this_test!()) else { return };
    for mode in [0o700, 0o701, 0o755] {
        fs::set_permissions(store.root.join("aufs"), fs::Permissions::from_mode(mode)).expect("chmod");
        let before = tree(&store.root);
        store.unaufs(&["migrate", "--yes"]).exits(0);
        let made = fs::metadata(store.root.join("overlay2")).expect("overlay2").mode() & 0o7777;
        // 0755 is of before 1.10, when there was no overlay2: as the Docker that came next made it
        assert_eq!(made, if mode == 0o755 { 0o700 } else { mode });
        store.unaufs(&["rollback", "--yes", "--drop-new"]).exits(0);
        same(&format!("mode {mode:o}"), &before, &tree(&store.root));
    }
}
