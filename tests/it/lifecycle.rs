//! The time around a migration: a second run, a store that changes in between, a journal that is lost, the day of cleanup.

use crate::hostile::bed::World;
use crate::support::needs;
use crate::support::real::{Ran, same, tree};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// A world whose container `a` has a `hostconfig.json` too.
fn world() -> Option<World> {
    if !needs::root() {
        return None;
    }
    let w = World::new();
    fs::write(w.first("containers").join("hostconfig.json"), r#"{"Memory":1}"#).expect("a configuration");
    Some(w)
}

fn done(w: &World, args: &[&str]) -> Ran {
    let ran = w.run(args);
    assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.stdout, ran.stderr);
    ran
}

fn refused(w: &World, args: &[&str], code: i32, says: &str) {
    let ran = w.run(args);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.code, code, "{args:?}: {said}");
    assert!(said.contains(says), "{args:?}: {says:?} is not in {said}");
}

fn status(w: &World, more: &[&str]) -> Value {
    let ran = done(w, &[&["status", "--json"], more].concat());
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.stdout))
}

fn text(p: &Path) -> &str {
    p.to_str().expect("UTF-8")
}

fn sh(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().expect("a program");
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn copy(from: &Path, to: &Path) {
    sh("cp", &["-a", text(from), text(to)]);
}

/// The root without what unaufs keeps in it.
fn store(w: &World) -> crate::support::real::Tree {
    let mut t = tree(&w.root);
    t.retain(|p, _| !p.starts_with(b"/.unaufs"));
    t
}

/// Other bytes, the same size and time of modification.
fn change_unseen(file: &Path) {
    let m = fs::metadata(file).expect("a file");
    let bytes: Vec<u8> = fs::read(file).expect("a file").iter().map(|b| b ^ 1).collect();
    fs::write(file, bytes).expect("written");
    let times = fs::FileTimes::new().set_modified(m.modified().expect("a time"));
    fs::File::options().write(true).open(file).expect("open").set_times(times).expect("times");
}

#[test]
fn nothing_stale_is_installed() {
    let Some(w) = world() else { return };
    done(&w, &["migrate", "--yes", "--no-switch"]);
    let own = w.casts.iter().rev().find(|c| c.writable && !c.id.ends_with("-init")).expect("a container").id.clone();
    let file = w.at("aufs/diff").join(&own).join("own/file");
    change_unseen(&file);
    xattr::set(&file, "user.late", b"late").expect("an attribute");
    let image = w.at("aufs/diff").join(&w.casts[0].id).join("etc");
    xattr::set(&image, "user.late", b"late").expect("an attribute of an image's directory");
    let config = w.first("containers").join("hostconfig.json");
    fs::write(&config, r#"{"Memory":2}"#).expect("written");
    let ran = done(&w, &["migrate", "--yes"]);
    assert!(ran.stderr.contains("built again: container"), "{}{}", ran.stdout, ran.stderr);
    assert!(fs::read_to_string(&config).expect("a configuration").contains(r#""Memory":2"#));
    let new = w.at("overlay2").join(&own).join("diff/own/file");
    assert_eq!(
        fs::read(&new).expect("new"),
        fs::read(w.at(".unaufs/old/aufs/diff").join(&own).join("own/file")).expect("old")
    );
    assert_eq!(xattr::get(&new, "user.late").expect("attributes").as_deref(), Some(&b"late"[..]));
    let etc = w.at("overlay2").join(&w.casts[0].id).join("diff/etc");
    assert_eq!(xattr::get(etc, "user.late").expect("attributes").as_deref(), Some(&b"late"[..]));
    done(&w, &["verify"]);
}

/// When everything is built, and when everything is proved too and nothing is looked at once more yet.
const BUILT: &str = "journal state";
const PROVED: &str = "journal verdict";

/// Migrates; at the point, `change` is made.
fn changed_at(w: &World, point: &str, change: impl Fn()) -> Option<Ran> {
    let (seen, out) = (w.elsewhere.join("seen"), w.elsewhere.join("out"));
    let mut c = Command::new(env!("CARGO_BIN_EXE_unaufs"));
    c.env_remove("UNAUFS_ROOT").env("UNAUFS_FAULT_STALL", point).env("UNAUFS_FAULT_COUNT", &seen);
    c.arg("--root").arg(&w.root).args(["migrate", "--yes", "--progress", "none"]);
    let file = || fs::File::options().create(true).append(true).open(&out).expect("a file");
    let mut child = c.stdout(file()).stderr(file()).spawn().expect("unaufs");
    let mut times = 0;
    let code = loop {
        if let Some(ended) = child.try_wait().expect("wait") {
            break ended.code().expect("a code");
        }
        if fs::read_to_string(&seen).unwrap_or_default().trim_end().ends_with(point) {
            if times == 0 {
                change();
            }
            times += 1;
            fs::remove_file(&seen).expect("removed");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    if times == 0 && !seen.exists() {
        needs::cannot_run("this program has no fault points");
        return None;
    }
    assert!(times > 0, "{point} was not reached");
    Some(Ran { code, stdout: fs::read_to_string(&out).expect("its output"), stderr: String::new() })
}

/// What of an image layer is linked is one file in both stores, whatever is written into it; another file under its name is another layer.
#[test]
fn a_change_while_it_runs_is_migrated_too() {
    let Some(probe) = world() else { return };
    let id = probe.casts[0].id.clone();
    let own =
        probe.casts.iter().rev().find(|c| c.writable && !c.id.ends_with("-init")).expect("a container").id.clone();
    type Change<'a> = (&'a str, &'a str, &'a str, bool, &'a dyn Fn(&Path));
    let another = |file: &Path| {
        let new = file.with_extension("new");
        sh("cp", &["-a", text(file), text(&new)]);
        change_unseen(&new);
        fs::rename(&new, file).expect("replaced");
        let times = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        fs::File::open(file.parent().expect("a directory")).expect("open").set_times(times).expect("times");
    };
    let attribute = |path: &Path| xattr::set(path, "user.late", b"late").expect("an attribute");
    let changes: [Change<'_>; 6] = [
        (PROVED, &id, "etc/passwd", false, &change_unseen),
        (PROVED, &id, "etc/passwd", true, &another),
        (PROVED, &id, "etc", true, &attribute),
        (PROVED, &own, "own/file", true, &change_unseen),
        (PROVED, &own, "own/file", true, &attribute),
        // the comparison finds it
        (BUILT, &own, "own/file", true, &attribute),
    ];
    for (point, layer, path, again, change) in changes {
        let Some(w) = world() else { return };
        let file = w.at("aufs/diff").join(layer).join(path);
        let etc = fs::metadata(w.at("aufs/diff").join(&id).join("etc")).expect("etc").modified().expect("a time");
        let Some(ran) = changed_at(&w, point, || {
            change(&file);
            // no trace of it but the inode
            let dir = fs::File::open(w.at("aufs/diff").join(&id).join("etc")).expect("open");
            dir.set_times(fs::FileTimes::new().set_modified(etc)).expect("times");
        }) else {
            return;
        };
        assert_eq!(ran.code, 0, "{path}: {}", ran.stdout);
        assert_eq!(ran.stdout.contains("and built again"), again, "{path}: {}", ran.stdout);
        let old = w.at(".unaufs/old/aufs/diff").join(layer).join(path);
        let new = w.at("overlay2").join(layer).join("diff").join(path);
        assert_eq!(
            xattr::get(&new, "user.late").expect("attributes"),
            xattr::get(&old, "user.late").expect("attributes")
        );
        if new.is_file() {
            assert_eq!(fs::read(&new).expect("new"), fs::read(&old).expect("old"), "{path}");
        }
        done(&w, &["verify"]);
    }
}

#[test]
fn a_bad_verdict_withdraws_a_good_one_and_keeps_the_old_store() {
    let Some(w) = world() else { return };
    done(&w, &["migrate", "--yes"]);
    assert_eq!(status(&w, &[])["verdict"]["clean"], true);
    let file = w.at("overlay2").join(&w.casts[0].id).join("diff/etc/passwd");
    let (etc, times) = (file.parent().expect("etc").to_owned(), w.elsewhere.join("times"));
    fs::write(&times, "").expect("a file");
    sh("touch", &["-r", text(&etc), text(&times)]);
    fs::rename(&file, w.elsewhere.join("passwd")).expect("damage");
    refused(&w, &["verify"], 6, "passwd");
    assert_eq!(status(&w, &[])["verdict"]["clean"], false);
    refused(&w, &["cleanup", "--yes"], 6, "the new store is damaged");
    assert!(w.at(".unaufs/old/aufs/diff").is_dir());
    fs::rename(w.at("overlay2"), w.elsewhere.join("overlay2")).expect("damage");
    refused(&w, &["cleanup", "--yes"], 6, "--skip-verify");
    assert!(w.at(".unaufs/old/aufs/diff").is_dir());
    fs::rename(w.elsewhere.join("overlay2"), w.at("overlay2")).expect("back");
    fs::rename(w.elsewhere.join("passwd"), &file).expect("mended");
    sh("touch", &["-r", text(&times), text(&etc)]);
    let ran = done(&w, &["cleanup", "--yes"]);
    assert!(ran.stdout.contains(".unaufs/old/aufs") && ran.stdout.contains("This freed"), "{}", ran.stdout);
    assert!(!w.at(".unaufs/old").exists());
}

#[test]
fn what_a_rollback_kept_has_its_own_question() {
    let Some(w) = world() else { return };
    done(&w, &["migrate", "--yes"]);
    fs::create_dir(w.at("overlay2/pulled-since")).expect("a layer");
    done(&w, &["rollback", "--yes"]);
    assert!(w.at(".unaufs/undone/overlay2/pulled-since").is_dir());
    refused(&w, &["rollback", "--drop-new"], 2, "--yes");
    done(&w, &["migrate", "--yes"]);
    let ran = done(&w, &["cleanup", "--yes"]);
    assert!(ran.stdout.contains(".unaufs/undone"), "{}", ran.stdout);
    assert!(w.at(".unaufs/undone/overlay2/pulled-since").is_dir(), "deleted without being asked for");
}

#[test]
fn a_rollback_needs_the_whole_old_store() {
    let Some(w) = world() else { return };
    done(&w, &["migrate", "--yes"]);
    let template = w.elsewhere.join("switched");
    copy(&w.root, &template);
    for gone in
        [".unaufs/old", ".unaufs/old/aufs", ".unaufs/old/image", &format!(".unaufs/old/aufs/diff/{}", w.casts[0].id)]
    {
        sh("rm", &["-rf", text(&w.root)]);
        copy(&template, &w.root);
        fs::rename(w.at(gone), w.elsewhere.join("gone")).expect("gone");
        let before = store(&w);
        for more in [&["--yes"][..], &["--yes", "--drop-new"]] {
            refused(&w, &[&["rollback"], more].concat(), 1, "not there in full");
            same(gone, &before, &store(&w));
        }
        sh("rm", &["-rf", text(&w.elsewhere.join("gone"))]);
    }
}

#[test]
fn the_way_back_works_without_the_journal() {
    let Some(w) = world() else { return };
    let before = store(&w);
    done(&w, &["migrate", "--yes", "--no-switch"]);
    let older = w.elsewhere.join("older.db");
    fs::copy(w.at(".unaufs/journal.db"), &older).expect("a copy");
    done(&w, &["migrate", "--yes"]);
    let template = w.elsewhere.join("switched");
    copy(&w.root, &template);
    type Spoil = fn(&Path, &Path);
    let cases: [(&str, Spoil); 4] = [
        ("lost", |j, _| fs::remove_file(j).expect("removed")),
        ("empty", |j, _| fs::write(j, "").expect("emptied")),
        ("cut", |j, _| fs::File::options().write(true).open(j).expect("open").set_len(5000).expect("cut")),
        ("older", |j, older| assert!(fs::copy(older, j).expect("copied") > 0)),
    ];
    for (what, spoil) in cases {
        sh("rm", &["-rf", text(&w.root)]);
        copy(&template, &w.root);
        spoil(&w.at(".unaufs/journal.db"), &older);
        let s = status(&w, &[]);
        assert_eq!((&s["state"], &s["work"]), (&"switched".into(), &false.into()), "{what}: {s}");
        assert!(s["reason"].as_str().is_some_and(|r| r.contains("journal")), "{what}: {s}");
        refused(&w, &["cleanup", "--yes"], 4, "journal is lost");
        done(&w, &["rollback", "--yes"]);
        assert_eq!(status(&w, &[])["state"], "undone", "{what}");
        // files of the new store are other names of the old ones
        done(&w, &["rollback", "--yes", "--drop-new"]);
        same(what, &before, &store(&w));
        done(&w, &["migrate", "--yes"]);
    }
}

#[test]
fn a_journal_of_another_root_is_refused_by_name() {
    let (Some(w), Some(other)) = (world(), world()) else { return };
    for w in [&w, &other] {
        done(w, &["migrate", "--yes"]);
    }
    fs::copy(other.at(".unaufs/journal.db"), w.at(".unaufs/journal.db")).expect("copied");
    for verb in ["migrate", "rollback", "cleanup"] {
        refused(&w, &[verb, "--yes"], 1, "journal.db belongs to another migration");
    }
    let own = fs::read(w.at(".unaufs/run.json")).expect("run.json");
    let both = |from: &World, to: &World| {
        for name in [".unaufs/journal.db", ".unaufs/run.json"] {
            fs::copy(from.at(name), to.at(name)).expect("copied");
        }
    };
    let foreign = |w: &World| {
        for verb in ["migrate", "rollback", "cleanup"] {
            refused(w, &[verb, "--yes"], 1, "belong to another migration than this root");
        }
    };
    both(&other, &w);
    foreign(&w);
    fs::write(w.at(".unaufs/run.json"), own).expect("put back");
    fs::remove_file(w.at(".unaufs/journal.db")).expect("moved away, as it says");
    done(&w, &["rollback", "--yes"]);
    // a copy of a whole root is no other root
    sh("rm", &["-rf", text(&w.root)]);
    copy(&other.root, &w.root);
    done(&w, &["verify"]);
    done(&w, &["cleanup", "--yes"]);
    // one that is over would have the old store deleted as the rest of a cleanup
    let Some(third) = world() else { return };
    done(&third, &["migrate", "--yes"]);
    both(&w, &third);
    foreign(&third);
    // one that was rolled back would have it deleted with what is left of a run
    let Some(fourth) = world() else { return };
    for verb in ["migrate", "rollback"] {
        done(&fourth, &[verb, "--yes"]);
    }
    both(&fourth, &third);
    foreign(&third);
    refused(&third, &["rollback", "--yes", "--drop-new"], 1, "belong to another migration than this root");
    assert!(third.at(".unaufs/old/aufs").is_dir());
}

#[test]
fn a_store_that_is_restored_after_cleanup_is_migrated() {
    let Some(w) = world() else { return };
    let backup = w.elsewhere.join("backup");
    copy(&w.root, &backup);
    done(&w, &["migrate", "--yes"]);
    fs::create_dir_all(w.at("aufs/diff")).expect("an old Docker ran");
    fs::create_dir_all(w.at("image/aufs")).expect("an old Docker ran");
    refused(&w, &["migrate", "--yes"], 4, "another aufs store");
    fs::remove_dir_all(w.at("aufs")).expect("removed");
    fs::remove_dir_all(w.at("image/aufs")).expect("removed");
    done(&w, &["cleanup", "--yes"]);
    assert_eq!(status(&w, &[])["work"], false);
    copy(&backup.join("aufs"), &w.at("aufs"));
    copy(&backup.join("image/aufs"), &w.at("image/aufs"));
    assert_eq!(status(&w, &[])["work"], true);
    let ran = w.run(&["migrate", "--yes"]);
    assert!([0, 3].contains(&ran.code) && !ran.stdout.contains("nothing to do"), "{}{}", ran.stdout, ran.stderr);
    assert!(!w.at("aufs").exists());
}

#[test]
fn the_old_root_of_a_target_is_touched_only_when_it_is_named() {
    let Some(w) = world() else { return };
    let new = w.elsewhere.join("new");
    let target = ["--target", text(&new)];
    done(&w, &[&["migrate", "--yes"][..], &target].concat());
    let before = tree(&w.root);
    let bare = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_unaufs")).args(["--root", text(&new)]).args(args).output();
        Ran::of(out.expect("unaufs"))
    };
    assert!(bare(&["cleanup", "--yes"]).exits(2).stderr.contains("name both roots"));
    same("the old root", &before, &tree(&w.root));
    // used again since
    let used = w.at("aufs/diff").join(&w.casts[0].id).join("since");
    fs::write(&used, "x").expect("a file");
    refused(&w, &[&["cleanup", "--yes"][..], &target].concat(), 13, "does not hold what was migrated");
    assert!(w.at("aufs/diff").is_dir());
    // somebody's own file in the new root stays
    fs::write(new.join("mine"), "mine").expect("a file");
    fs::remove_file(&used).expect("removed");
    done(&w, &[&["rollback", "--yes", "--drop-new"][..], &target].concat());
    assert_eq!(fs::read_to_string(new.join("mine")).expect("my file"), "mine");
    assert!(!new.join("overlay2").exists() && !new.join("containers").exists());
}

/// The old root is renamed and the new one moved to its place: what everybody does in the end.
#[test]
fn roots_may_change_places() {
    let Some(w) = world() else { return };
    let (new, old) = (w.elsewhere.join("new"), w.elsewhere.join("old"));
    done(&w, &["migrate", "--yes", "--target", text(&new)]);
    fs::rename(&w.root, &old).expect("renamed");
    fs::rename(&new, &w.root).expect("moved");
    let s = status(&w, &[]);
    assert_eq!((&s["state"], &s["docker_may_start"]), (&"switched".into(), &true.into()), "{s}");
    let both = ["--root", text(&old), "--target", text(&w.root)];
    let run = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_unaufs")).args(both).args(args).output().expect("unaufs");
        Ran::of(out)
    };
    run(&["status"]).exits(0);
    run(&["verify"]).exits(0);
    run(&["cleanup", "--yes"]).exits(0);
    assert!(!old.join("aufs").exists() && old.join("containers").is_dir() && w.at("overlay2").is_dir());
    assert!(run(&["cleanup", "--yes"]).exits(0).stdout.contains("nothing to do"));
}

#[test]
fn options_that_contradict_are_named() {
    let Some(w) = world() else { return };
    let plan = w.elsewhere.join("saved.plan");
    done(&w, &["plan", "--out", text(&plan)]);
    refused(&w, &["migrate", "--yes", "--mode", "copy", text(&plan)], 2, "--mode copy contradicts the saved plan");
    let config = w.elsewhere.join("daemon.json");
    fs::write(&config, r#"{"storage-driver": "aufs"}"#).expect("a file");
    let with_config = ["migrate", "--yes", "--docker-config", text(&config)];
    refused(&w, &[&with_config[..], &[text(&plan)]].concat(), 2, "was made without --docker-config");
    let other = World::new();
    refused(&other, &["migrate", "--yes", text(&plan)], 2, "the saved plan is for");
    done(&w, &["migrate", "--no-switch", text(&plan)]);
    refused(
        &w,
        &["migrate", "--yes", "--to", "vfs"],
        2,
        "--to vfs contradicts the migration under way, which has --to overlay2",
    );
    refused(&w, &["migrate", "--yes", "--exclude", "image=x"], 2, "--exclude image=x contradicts");
    assert_eq!(status(&w, &[])["verdict"]["level"], "fast");
    done(&w, &["migrate", "--yes", "--verify", "full", "--no-switch"]);
    assert_eq!(status(&w, &[])["verdict"]["level"], "full");
    // it says only where to look for what blocks: a run under way looks there too
    refused(&w, &with_config, 4, "storage-driver");
    fs::write(&config, "{}").expect("a file");
    done(&w, &with_config);
}

#[test]
fn a_rename_that_cannot_work_blocks_before_anything_is_built() {
    let Some(w) = world() else { return };
    let file = w.first("containers").join("config.v2.json");
    let chattr = |flag: &str| sh("chattr", &[flag, text(&file)]);
    chattr("+i");
    let (plan, migrate) = (w.run(&["plan"]), w.run(&["migrate", "--yes"]));
    chattr("-i");
    assert_eq!((plan.code, migrate.code), (4, 4), "{}{}", plan.stdout, migrate.stderr);
    assert!(plan.stdout.contains("H11") && migrate.stderr.contains("chattr -ia"), "{}{}", plan.stdout, migrate.stderr);
    assert!(!w.at(".unaufs").exists(), "something was built");
    // and right before the switch
    done(&w, &["migrate", "--yes", "--no-switch"]);
    chattr("+i");
    let ran = w.run(&["migrate", "--yes"]);
    chattr("-i");
    assert_eq!(ran.code, 4, "{}{}", ran.stdout, ran.stderr);
    done(&w, &["migrate", "--yes"]);
}

#[test]
fn a_cleanup_goes_round_an_immutable_file() {
    let Some(w) = world() else { return };
    done(&w, &["migrate", "--yes"]);
    let file = w.at(".unaufs/old/aufs/diff").join(&w.casts[0].id).join("etc/passwd");
    // a file of its own: the flag is the inode's, and the new store has the old one
    fs::remove_file(&file).expect("removed");
    fs::write(&file, "x").expect("a file");
    let chattr = |flag: &str| sh("chattr", &[flag, text(&file)]);
    chattr("+i");
    let ran = w.run(&["cleanup", "--yes", "--skip-verify"]);
    chattr("-i");
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("etc/passwd") && ran.stderr.contains("chattr"), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(fs::read_dir(w.at(".unaufs/old/aufs/diff")).expect("what is left").count(), 1, "all else is deleted");
    assert_eq!(status(&w, &[])["next"][0]["why"], "finish the interrupted cleanup");
    done(&w, &["cleanup", "--yes"]);
    assert!(!w.at(".unaufs/old").exists());
}

#[test]
fn what_was_left_out_is_not_called_migrated() {
    let Some(w) = world() else { return };
    done(&w, &["migrate", "--yes", "--exclude", "container=a"]);
    refused(&w, &["migrate", "--yes", "--only", "container=a"], 2, "contradicts the migration that is done");
    let left = "Not migrated: 1 container.";
    assert!(done(&w, &["migrate", "--yes"]).stdout.contains(left));
    assert!(done(&w, &["status"]).stdout.contains(left));
}

/// The journals of earlier versions, frozen.
const SCHEMAS: [&str; 5] = [
    include_str!("../fixtures/journal-schema-1.sql"),
    include_str!("../fixtures/journal-schema-2.sql"),
    include_str!("../fixtures/journal-schema-3.sql"),
    include_str!("../fixtures/journal-schema-4.sql"),
    include_str!("../fixtures/journal-schema-5.sql"),
];

/// Turns the journal of a root into one that an earlier version wrote. Up to 4 these have no identity, and no file next to them.
fn older(w: &World, schema: usize) {
    let (now, old) = (w.at(".unaufs/journal.db"), w.elsewhere.join("old.db"));
    let _ = fs::remove_file(&old);
    let db = rusqlite::Connection::open(&old).expect("open");
    db.execute_batch(SCHEMAS[schema - 1]).expect("schema");
    db.execute("ATTACH ?1 AS now", [text(&now)]).expect("attach");
    if schema > 4 {
        const COPY: &str = "
            INSERT INTO run SELECT id, fingerprint, started, state, prepared, identity FROM now.run;
            INSERT INTO plan SELECT run, text FROM now.plan;
            INSERT INTO verdict (id, run, at, level, clean, counts, docker_ran)
                SELECT id, run, at, level, clean, counts, docker_ran FROM now.verdict;
            INSERT INTO unit SELECT run, kind, name, state, tally, proved FROM now.unit;
            INSERT INTO event SELECT id, run, at, what FROM now.event;";
        db.execute_batch(&format!("{COPY} DETACH now; PRAGMA user_version = {schema};")).expect("copy");
        db.close().expect("close");
        fs::copy(&old, &now).expect("in its place");
        return;
    }
    let verified = "(SELECT level || ' ' || at FROM now.verdict WHERE now.verdict.run = r.id ORDER BY id DESC LIMIT 1)";
    let (prepared, prepared_is) = if schema > 1 { (", prepared", ", 0") } else { ("", "") };
    let (plan, plan_is) =
        if schema < 3 { (", plan", ", (SELECT text FROM now.plan WHERE run = r.id)") } else { ("", "") };
    let mut copy = format!(
        "INSERT INTO run (id, fingerprint, started, state, verified{prepared}{plan})
             SELECT id, fingerprint, started, state, {verified}{prepared_is}{plan_is} FROM now.run r;
         INSERT INTO unit (run, kind, name, state, tally) SELECT run, kind, name, state, tally FROM now.unit;
         INSERT INTO event (id, run, at, what) SELECT id, run, at, what FROM now.event;"
    );
    if schema > 2 {
        copy.push_str("INSERT INTO plan (run, text) SELECT run, text FROM now.plan;");
    }
    db.execute_batch(&format!("{copy} DETACH now; PRAGMA user_version = {schema};")).expect("copy");
    db.close().expect("close");
    fs::copy(&old, &now).expect("in its place");
    fs::remove_file(w.at(".unaufs/run.json")).expect("no version wrote one");
    fs::remove_dir_all(w.at(".unaufs/held")).expect("no version wrote one");
}

#[test]
fn journals_of_earlier_versions_are_still_of_use() {
    let Some(w) = world() else { return };
    let before = store(&w);
    done(&w, &["migrate", "--yes"]);
    let template = w.elsewhere.join("switched");
    copy(&w.root, &template);
    for schema in 1..=SCHEMAS.len() {
        for end in ["rollback", "cleanup"] {
            sh("rm", &["-rf", text(&w.root)]);
            copy(&template, &w.root);
            older(&w, schema);
            let s = status(&w, &[]);
            assert_eq!(
                (&s["state"], &s["verdict"]["clean"]),
                (&"switched".into(), &true.into()),
                "schema {schema}: {s}"
            );
            done(&w, &[end, "--yes"]);
            match end {
                "rollback" => {
                    done(&w, &["rollback", "--yes", "--drop-new"]);
                    same(&format!("schema {schema}"), &before, &store(&w));
                }
                _ => assert!(!w.at(".unaufs/old").exists(), "schema {schema}"),
            }
        }
    }
}

/// Something that looks like a daemon on this root, as long as it lives.
struct Daemon(Child);

impl Daemon {
    fn on(w: &World) -> Daemon {
        let program = w.elsewhere.join("dockerd");
        fs::write(&program, "#!/bin/sh\nsleep 600 & wait\n").expect("a script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
        let child = Command::new(&program).arg("--data-root").arg(&w.root).spawn().expect("a process");
        // until it is that program
        while fs::read_to_string(format!("/proc/{}/comm", child.id())).expect("a process").trim() != "dockerd" {
            std::thread::yield_now();
        }
        Daemon(child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let id = self.0.id().to_string();
        let _ = Command::new("pkill").args(["-KILL", "-P", &id]).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What happens between two commands.
const BETWEEN: [&str; 9] = [
    "nothing",
    "layer changed",
    "container changed",
    "Docker ran",
    "Docker runs",
    "target filled",
    "second store",
    "journal lost",
    "old store gone",
];

/// The states, and the commands that lead there.
const STATES: [(&str, &[&[&str]]); 6] = [
    ("none", &[]),
    ("building", &[&["migrate", "--yes", "--prepare"]]),
    ("verified", &[&["migrate", "--yes", "--no-switch"]]),
    ("switched", &[&["migrate", "--yes"]]),
    ("undone", &[&["migrate", "--yes"], &["rollback", "--yes"]]),
    ("cleaned", &[&["migrate", "--yes"], &["cleanup", "--yes"]]),
];

const COMMANDS: [&[&str]; 6] = [
    &["status"],
    &["verify"],
    &["migrate", "--yes"],
    &["rollback", "--yes"],
    &["rollback", "--yes", "--drop-new"],
    &["cleanup", "--yes"],
];

fn happens(w: &World, what: &str, backup: &Path) {
    let old = |p: &str| [w.at(p), w.at(".unaufs/old").join(p)].into_iter().find(|p| p.exists());
    let own = &w.casts.iter().rev().find(|c| c.writable && !c.id.ends_with("-init")).expect("a container").id;
    match what {
        "layer changed" if w.at("aufs/diff").is_dir() => {
            change_unseen(&w.at("aufs/diff").join(own).join("own/file"));
        }
        "layer changed" => {}
        "container changed" => fs::write(w.first("containers").join("hostconfig.json"), r#"{"Memory":3}"#).expect("it"),
        "Docker ran" => {
            let _ = fs::remove_dir_all(w.at("tmp"));
            fs::create_dir(w.at("tmp")).expect("tmp");
        }
        "target filled" => fs::create_dir_all(w.at("overlay2/l")).expect("an empty store"),
        "second store" if !w.at("aufs").exists() => {
            copy(&backup.join("aufs"), &w.at("aufs"));
            copy(&backup.join("image/aufs"), &w.at("image/aufs"));
        }
        "second store" => {}
        "journal lost" => {
            let _ = fs::remove_file(w.at(".unaufs/journal.db"));
        }
        "old store gone" => {
            if let Some(aufs) = old("aufs") {
                fs::remove_dir_all(aufs).expect("removed");
            }
        }
        _ => {}
    }
}

/// The exit codes that are right. Written from the promises, not from the table.
fn right(state: &str, between: &str, command: &[&str]) -> &'static [i32] {
    let verb = command[0];
    let under_way = ["building", "verified"].contains(&state);
    match (verb, state, between) {
        ("status", ..) => &[0],
        ("migrate" | "rollback", _, "Docker runs") => &[11],
        ("migrate", "none" | "undone", "old store gone") => &[10],
        ("migrate", _, "old store gone") if under_way => &[10],
        ("migrate", "switched", "second store") => &[4],
        // the second store's containers have the ids of the first one's
        ("migrate", "cleaned", "second store") => &[0, 3],
        ("migrate", ..) => &[0],
        ("rollback", "switched", "old store gone") => &[1],
        ("rollback", "cleaned", "journal lost") => &[1],
        ("rollback", "cleaned", _) => &[1],
        ("rollback", ..) => &[0],
        ("cleanup", "switched", "journal lost") => &[4],
        ("cleanup", "switched", "old store gone" | "container changed") => &[0, 1, 6],
        ("cleanup", "switched" | "cleaned", _) => &[0],
        ("cleanup", "none", _) => &[10],
        ("cleanup", ..) => &[4],
        ("verify", "building", _) => &[1],
        // what was built is not what is there now
        ("verify", "verified", "layer changed" | "container changed") => &[0, 6],
        ("verify", "verified", "journal lost") => &[1],
        ("verify", _, "old store gone") => &[0, 1, 6, 10],
        // a hand-made store has no tar-split: by itself not all of it can be proved
        ("verify", ..) => &[0, 1, 6],
        _ => &[],
    }
}

/// State x command x what happened in between. `UNAUFS_WALK=all` tries all, else each seventh.
#[test]
fn the_whole_table() {
    let Some(w) = world() else { return };
    let all = std::env::var_os("UNAUFS_WALK").is_some_and(|v| v == "all");
    let backup = w.elsewhere.join("backup");
    copy(&w.root, &backup);
    let reset = |to: &Path| {
        sh("rm", &["-rf", text(&w.root)]);
        copy(to, &w.root);
    };
    let mut wrong = Vec::new();
    let mut n = 0;
    for (state, before) in STATES {
        reset(&backup);
        before.iter().for_each(|c| drop(done(&w, c)));
        let template: PathBuf = w.elsewhere.join(state);
        copy(&w.root, &template);
        for between in BETWEEN {
            for command in COMMANDS {
                n += 1;
                if !all && n % 7 != 0 {
                    continue;
                }
                reset(&template);
                happens(&w, between, &backup);
                let daemon = (between == "Docker runs").then(|| Daemon::on(&w));
                let old_was = w.at("aufs/diff").is_dir() || w.at(".unaufs/old/aufs/diff").is_dir();
                let ran = w.run(command);
                drop(daemon);
                let what = format!("{state}, {between}, {}: {}", command.join(" "), ran.code);
                if !right(state, between, command).contains(&ran.code) {
                    wrong.push(format!("{what}: {}{}", ran.stdout, ran.stderr));
                }
                let old_is = w.at("aufs/diff").is_dir() || w.at(".unaufs/old/aufs/diff").is_dir();
                let may_go = command[0] == "cleanup" && ran.code == 0;
                assert!(old_is || !old_was || may_go, "{what}: the old store is gone");
                let kept =
                    w.at("containers").is_dir() && fs::read_dir(w.at("containers")).is_ok_and(|d| d.count() == 2);
                assert!(kept, "{what}: containers are gone");
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
}
