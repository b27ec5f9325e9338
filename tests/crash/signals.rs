//! Stops that are asked for, two runs at once, and journals of other schemas.

use crate::bed::{self, Bed, Mounted, Ran, Reference, assert_same, sh, wait_for};
use crate::stores::real;
use crate::support::needs;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const HUGE: u64 = 1 << 30;
const MANY: usize = 30_000;

fn send(child: &Child, signal: &str) {
    sh("kill", &[&format!("-{signal}"), &child.id().to_string()]);
}

fn spawn(bed: &Bed, args: &[&str]) -> Child {
    bed.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("run")
}

/// ext4: on a file system with shared extents even a huge file is copied at once.
fn disk(dir: &Path) -> Option<Mounted> {
    needs::root_and(&["mkfs.ext4"]).then(|| Mounted::new(dir, "disk", 4 << 30, &["mkfs.ext4", "-q"]))
}

#[test]
fn stops_inside_a_huge_file() {
    let dir = bed::temp();
    let Some(disk) = disk(dir.path()) else { return };
    let bed = Bed::new_in(real(), &disk.at);
    let (id, layer) = bed.writable_layer();
    sh("fallocate", &["-l", &HUGE.to_string(), layer.join("huge").to_str().expect("path")]);
    let original = bed.tree();
    let copy: PathBuf = bed.root.join(".unaufs/new/overlay2").join(id).join("diff/huge");
    let size = || fs::metadata(&copy).map_or(0, |m| m.len());
    let migrate = ["migrate", "--yes", "--mode", "copy"];
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 143)] {
        // what the run before left would look like this one's
        let _ = fs::remove_file(&copy);
        let mut child = spawn(&bed, &migrate);
        if signal == "HUP" {
            // the terminal is gone
            drop(child.stderr.take());
        }
        wait_for(&mut child, "the huge file", || size() > 0 && size() < HUGE / 2);
        if signal == "TERM" {
            for verb in ["migrate", "rollback", "cleanup"] {
                bed.run(&[verb, "--yes"]).expect(&[11]);
            }
            bed.run(&["status"]).expect(&[0]);
        }
        let began = Instant::now();
        send(&child, signal);
        let ran = Ran::of(child.wait_with_output().expect("wait"), &migrate);
        println!("SIG{signal}: stopped in {} ms", began.elapsed().as_millis());
        // proof without a clock: it did not wait for the end of the file
        assert!(size() < HUGE, "SIG{signal}: the whole file was copied");
        ran.expect(&[code]);
    }
    // both signals at once: whichever comes second ends it
    let _ = fs::remove_file(&copy);
    let mut child = spawn(&bed, &migrate);
    wait_for(&mut child, "the huge file", || size() > 0 && size() < HUGE / 2);
    send(&child, "INT");
    send(&child, "TERM");
    Ran::of(child.wait_with_output().expect("wait"), &migrate).expect(&[130, 143]);
    bed.run(&["rollback", "--yes", "--drop-new"]).expect(&[0]);
    assert_same(&original, &bed.tree(), "stopped four times and rolled back");
}

#[test]
fn stops_inside_a_huge_folder() {
    if !needs::root() {
        return;
    }
    let bed = Bed::new(real());
    let (id, layer) = bed.writable_layer();
    fs::create_dir(layer.join("many")).expect("mkdir");
    for n in 0..MANY {
        fs::write(layer.join(format!("many/{n}")), "").expect("write");
    }
    let migrate = ["migrate", "--yes", "-j", "1"];
    let mut bed = bed;
    // what is made here is part of the original
    std::thread::sleep(Duration::from_millis(1100));
    bed.since = bed::now();
    let reference = Reference::of(&bed, &migrate);
    let copy = bed.root.join(".unaufs/new/overlay2").join(id).join("diff/many");
    let count = || fs::read_dir(&copy).map_or(0, |d| d.count());
    let mut child = spawn(&bed, &migrate);
    wait_for(&mut child, "the huge folder", || copy.exists());
    send(&child, "TERM");
    Ran::of(child.wait_with_output().expect("wait"), &migrate).expect(&[143]);
    assert!(count() < MANY, "the whole folder was made");
    reference.resume(&bed, &migrate, "stopped inside a folder");
}

/// The lock alone, without a program that happens to be slow.
#[test]
fn a_locked_root_is_busy() {
    if !needs::root() {
        return;
    }
    let bed = Bed::new(real());
    let original = bed.tree();
    let root = fs::File::open(&bed.root).expect("open");
    rustix::fs::flock(&root, rustix::fs::FlockOperation::LockExclusive).expect("lock");
    for verb in ["migrate", "rollback", "cleanup"] {
        bed.run(&[verb, "--yes"]).expect(&[11]);
    }
    bed.run(&["plan"]).expect(&[0]);
    assert_same(&original, &bed.tree(), "busy");
}

/// The first schema, as it was; never changed.
const SCHEMA_1: &str = include_str!("../fixtures/journal-schema-1.sql");

/// Turns the journal of a root into one of the first schema, with the same run in it.
fn to_schema_1(journal: &Path) {
    let old = journal.with_extension("old");
    let db = rusqlite::Connection::open(&old).expect("open");
    db.execute_batch(SCHEMA_1).expect("schema");
    db.execute("ATTACH ?1 AS now", [journal.to_str()]).expect("attach");
    db.execute_batch(
        "INSERT INTO run (id, plan, fingerprint, started, state, verified)
             SELECT id, text, fingerprint, started, state, NULL FROM now.run JOIN now.plan ON id = now.plan.run;
         INSERT INTO unit (run, kind, name, state, tally) SELECT run, kind, name, state, tally FROM now.unit;
         INSERT INTO event (id, run, at, what) SELECT id, run, at, what FROM now.event;
         DETACH now;
         PRAGMA user_version = 1;",
    )
    .expect("copy");
    db.close().expect("close");
    fs::rename(old, journal).expect("rename");
    // such versions wrote neither it nor the signs that bear its id
    fs::remove_file(journal.with_file_name("run.json")).expect("the file of the run");
    let held = journal.with_file_name("held");
    if held.exists() {
        fs::remove_dir_all(held).expect("the signs");
    }
}

#[test]
fn an_old_journal_is_resumed_and_a_newer_one_refused() {
    if !needs::root() {
        return;
    }
    let bed = Bed::new(real());
    let migrate = ["migrate", "--yes"];
    let reference = Reference::of(&bed, &migrate);
    bed.run(&["migrate", "--yes", "--no-switch"]).expect(&[0, 3]);
    let journal = bed.root.join(".unaufs/journal.db");
    to_schema_1(&journal);
    let (back, newer, half) = (bed.fork(), bed.fork(), bed.fork());
    // as if it had stopped while it built: half of the layers, and no metadata
    rusqlite::Connection::open(half.root.join(".unaufs/journal.db"))
        .and_then(|db| {
            db.execute_batch(
                "UPDATE run SET state = 'building', verified = NULL;
                 UPDATE unit SET state = 'intent', tally = NULL WHERE kind = 'metadata' OR unicode(name) % 2 = 0;",
            )
        })
        .expect("half");
    let other_half = half.fork();
    reference.resume(&half, &migrate, "a journal of schema 1, half built");
    reference.rollback(&other_half, "a journal of schema 1, half built");
    reference.resume(&bed, &migrate, "a journal of schema 1");
    reference.rollback(&back, "a journal of schema 1");
    let switched = bed.fork();
    to_schema_1(&switched.root.join(".unaufs/journal.db"));
    reference.rollback(&switched, "a journal of schema 1, switched");

    let path = newer.root.join(".unaufs/journal.db");
    rusqlite::Connection::open(path).and_then(|db| db.pragma_update(None, "user_version", 99)).expect("version");
    let before = newer.tree();
    for verb in ["migrate", "rollback"] {
        let ran = newer.run(&[verb, "--yes"]).expect(&[1]);
        assert!(ran.said.contains("schema 99"), "{}", ran.said);
    }
    assert_same(&before, &newer.tree(), "a journal of a newer schema");
}

/// Earlier versions had a mode that rewrote the old layers where they are. Its runs are shown, and left to the version that began them.
#[test]
fn a_run_of_mode_move_is_shown_and_refused() {
    if !needs::root() {
        return;
    }
    let bed = Bed::new(real());
    for (how, may_start) in [(&["--no-switch"][..], false), (&[], true)] {
        bed.run(&[&["migrate", "--yes"], how].concat()).expect(&[0, 3]);
        let journal = bed.root.join(".unaufs/journal.db");
        let db = rusqlite::Connection::open(&journal).expect("open");
        let say = |from: &str, to: &str| {
            let sql = "UPDATE plan SET text = replace(text, ?1, ?2) WHERE instr(text, ?1)";
            assert_eq!(db.execute(sql, [from, to]).expect("update"), 1, "{from}");
        };
        let (auto, moved) = (r#""to":"overlay2","mode":"auto""#, r#""to":"overlay2","mode":"move""#);
        say(auto, moved);
        let before = bed.tree();
        for verb in ["rollback", "cleanup", "verify"] {
            let yes: &[&str] = if verb == "verify" { &[] } else { &["--yes"] };
            let ran = bed.run(&[&[verb], yes].concat()).expect(&[1]);
            assert!(ran.said.contains("began this migration with --mode move"), "{verb}: {}", ran.said);
        }
        let migrate = bed.run(&["migrate", "--yes"]).expect(&[if may_start { 0 } else { 1 }]);
        assert!(may_start || migrate.said.contains("with --mode move"), "{}", migrate.said);
        let said = bed.run(&["status", "--json"]).expect(&[0]).said;
        assert!(said.contains(&format!("\"docker_may_start\": {may_start}")), "{said}");
        assert!(said.contains("--mode move"), "{said}");
        assert_same(&before, &bed.tree(), "refused");
        say(moved, auto);
        bed.run(&["rollback", "--yes", "--drop-new"]).expect(&[0]);
    }
}
