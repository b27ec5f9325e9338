//! Whether the fault points are complete: between two of them the program makes one change of the disk, told by the system calls that it
//! really makes.

use crate::bed::{self, Bed, Mounted, path};
use crate::support::needs;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// The system calls that change a disk; with `?`, those that not every architecture or strace knows.
const CHANGES: &str = "openat,openat2,?mkdir,mkdirat,?mknod,mknodat,?link,linkat,?symlink,symlinkat,?rename,?renameat,renameat2,?unlink,\
    unlinkat,?rmdir,?chmod,fchmod,fchmodat,?fchmodat2,?chown,?lchown,fchown,fchownat,utimensat,?utime,?utimes,?futimesat,setxattr,lsetxattr,\
    fsetxattr,removexattr,lremovexattr,fremovexattr,truncate,ftruncate,write,writev,pwrite64,pwritev,?pwritev2,copy_file_range,sendfile,\
    splice,fallocate,ioctl,fsync,fdatasync,syncfs,sync_file_range,sync";

/// What was done between two points: the point's name, and the calls one after the other.
type Between = (String, Vec<String>);

/// Runs a command under strace and cuts its calls at the points.
fn between(bed: &Bed, args: &[&str]) -> Vec<Between> {
    let (log, marks) = (bed.root.with_extension("log"), bed.root.with_extension("marks"));
    let plain = bed.command(args);
    let mut c = Command::new("strace");
    c.args(["-f", "-y", "-qq", "-o", path(&log), "-e", &format!("trace={}", CHANGES.replace(' ', "")), "--"]);
    c.arg(plain.get_program()).args(plain.get_args()).env("UNAUFS_FAULT_COUNT", &marks);
    bed::Ran::of(c.output().expect("strace"), args).expect(&[0, 3]);
    let (root, marks) = (path(&bed.root).to_owned(), path(&marks).to_owned());
    let mut out: Vec<Between> = vec![("the start".to_owned(), Vec::new())];
    // one thread builds while another syncs what is built: each has passed points of its own
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    let log = fs::read_to_string(&log).expect("the log");
    for line in log.lines() {
        let Some((thread, (call, rest))) =
            line.split_once(' ').and_then(|(thread, l)| Some((thread, l.trim().split_once('(')?)))
        else {
            continue;
        };
        if rest.contains(&marks) {
            if call == "write" {
                let text = rest.split('"').nth(1).unwrap_or_default();
                last.insert(thread, out.len());
                out.push((text.split(' ').skip(1).collect::<Vec<_>>().join(" ").replace("\\n", ""), Vec::new()));
            }
            continue;
        }
        let here = rest.contains(&root) || call == "lsetxattr" || call == "lremovexattr";
        // SQLite opens what is there, also with O_CREAT
        let opens = call.starts_with("openat") && !rest.contains("O_EXCL");
        // FICLONE, and those of btrfs that make and delete subvolumes; SQLite asks for more
        let asks = call == "ioctl" && !["FICLONE", "SUBVOL", "SNAP"].iter().any(|i| rest.contains(i));
        let refused = rest.contains(" = -1 ");
        if here && !opens && !asks && !refused {
            out[last.get(thread).copied().unwrap_or(0)].1.push(call.to_owned());
        }
    }
    out
}

/// May these calls lie between two points?
fn one_change(point: &str, calls: &[String]) -> bool {
    let mut kinds: Vec<&str> = calls.iter().map(String::as_str).collect();
    kinds.dedup();
    // a commit is one change: SQLite undoes what it did not finish (calls.rs kills it there). The writing of a file is one: it is not done before
    // the journal says so
    point.starts_with("journal") || point == "content" || kinds.len() <= 1
}

#[test]
fn every_change_has_its_point() {
    if !needs::root_and(&["strace", "mkfs.xfs", "mkfs.btrfs"]) {
        return;
    }
    let dir = bed::temp();
    let (xfs, btrfs) = (Mounted::with_clones(dir.path(), "xfs"), Mounted::with_clones(dir.path(), "btrfs"));
    let cases: [(&Mounted, &str, &[&str]); 6] = [
        (&xfs, "small", &["--mode", "link"]),
        (&xfs, "small", &["--mode", "copy"]),
        (&xfs, "small-graph", &["--mode", "clone"]),
        (&xfs, "small", &["--to", "overlay"]),
        (&xfs, "small", &["--to", "vfs"]),
        (&btrfs, "small", &["--to", "btrfs"]),
    ];
    let (mut changes, mut points) = (0, BTreeMap::new());
    for (disk, store, options) in cases {
        let bed = Bed::new_in(store, &disk.at);
        let cleaned = ["cleanup", "--yes"];
        let back = ["rollback", "--yes", "--drop-new"];
        let go = [&["migrate", "--yes", "-j", "1"], options].concat();
        for command in [&go[..], &back, &go, &cleaned] {
            for (point, calls) in between(&bed, command) {
                let what = format!("{store} {} after {point}", command.join(" "));
                assert!(one_change(&point, &calls), "{what}: {calls:?}");
                assert!(point != "the start" || calls.is_empty(), "{what}: {calls:?}");
                changes += calls.len();
                *points.entry(point).or_insert(0) += 1;
            }
        }
    }
    // else the log was not understood
    for known in ["mkdir", "create", "content", "rename", "unlink", "syncfs", "journal begin", "snapshot"] {
        assert!(points.contains_key(known), "{known} was never seen: {points:?}");
    }
    bed::report("changes of the disk compared with the points", "all targets", changes);
}
