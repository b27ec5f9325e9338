//! A journal and a plan that somebody else wrote; and who may look into what unaufs makes.

use super::bed::{Odd, VICTIM, World, replace};
use crate::support::needs;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const JOURNAL: &str = ".unaufs/journal.db";

/// All verbs that read a journal.
const VERBS: [&[&str]; 6] = [
    &["status"],
    &["verify"],
    &["migrate", "--yes"],
    &["rollback", "--yes"],
    &["cleanup", "--yes"],
    &["rollback", "--yes", "--drop-new"],
];

/// A world in which a migration stands before its switch, or behind it.
fn begun(switched: bool) -> World {
    let w = World::new();
    let args: &[&str] = if switched { &["migrate", "--yes"] } else { &["migrate", "--yes", "--no-switch"] };
    let ran = w.run(args);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    w
}

fn sql(w: &World, text: &str) {
    let db = Connection::open(w.at(JOURNAL)).expect("the journal");
    db.execute_batch(text).unwrap_or_else(|e| panic!("{text}: {e}"));
}

/// Changes the plan in the journal.
fn edit(w: &World, change: impl FnOnce(&mut Value)) {
    let db = Connection::open(w.at(JOURNAL)).expect("the journal");
    let text: String = db.query_row("SELECT text FROM plan", [], |r| r.get(0)).expect("a plan");
    let mut plan: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut plan);
    db.execute("UPDATE plan SET text = ?1", [plan.to_string()]).expect("changed");
}

fn all_verbs(w: &World, what: &str) {
    for verb in VERBS {
        let ran = w.run(verb);
        assert!(!ran.stderr.contains("canary's secret"), "{what}: {}", ran.stderr);
    }
}

/// A rollback journal as SQLite's file format has it, whose super-journal is `victim`: one page record less than nothing, and the trailer.
pub fn hot_journal(victim: &str) -> Vec<u8> {
    const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let mut out = Vec::new();
    out.extend(MAGIC);
    for n in [0u32, 7, 1, 512, 4096] {
        out.extend(n.to_be_bytes());
    }
    out.resize(512, 0);
    let sum = victim.bytes().fold(0u32, |n, b| n.wrapping_add(u32::from(b)));
    out.extend(0x4000_0000u32.to_be_bytes());
    out.extend(victim.as_bytes());
    out.extend((victim.len() as u32).to_be_bytes());
    out.extend(sum.to_be_bytes());
    out.extend(MAGIC);
    out
}

/// The control for the tests that plant one: SQLite itself does remove the file, if that has such a name and names the journal in turn.
#[test]
fn sqlite_obeys_a_hot_journal() {
    let top = crate::support::real::folder();
    let (db, victim) = (top.path().join("x.db"), top.path().join(VICTIM));
    Connection::open(&db)
        .and_then(|c| c.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)"))
        .expect("a table");
    let journal = top.path().join("x.db-journal");
    fs::write(&victim, format!("{}\0", journal.display())).expect("a file");
    fs::write(&journal, hot_journal(victim.to_str().expect("UTF-8"))).expect("a journal");
    let _ = Connection::open(&db).and_then(|c| c.query_row("SELECT x FROM t", [], |r| r.get::<_, i64>(0)));
    assert!(!victim.exists(), "SQLite ignores the journal that these tests plant: they would show nothing");
}

#[test]
fn a_journal_that_names_a_file_to_remove() {
    if !needs::root() {
        return;
    }
    for switched in [false, true] {
        let w = begun(switched);
        let victim = w.canary.join(VICTIM);
        fs::write(w.at(".unaufs/journal.db-journal"), hot_journal(victim.to_str().expect("UTF-8"))).expect("it");
        lost(&w, switched, "names another file");
    }
}

/// A journal that cannot be used is named, nothing obeys it, and the way back works without it.
fn lost(w: &World, switched: bool, says: &str) {
    let status = w.run(&["status"]);
    assert_eq!(status.code, 0, "{}{}", status.stdout, status.stderr);
    assert!(status.stdout.contains(says), "{says}: {}", status.stdout);
    for (verb, code) in [("verify", if switched { 0 } else { 1 }), ("cleanup", 4)] {
        let yes: &[&str] = if verb == "cleanup" { &["--yes"] } else { &[] };
        let ran = w.run(&[&[verb], yes].concat());
        assert_eq!(ran.code, code, "{says}, {verb}: {}{}", ran.stdout, ran.stderr);
    }
    let back = w.run(&["rollback", "--yes"]);
    assert_eq!(back.code, 0, "{says}: {}{}", back.stdout, back.stderr);
    assert!(w.at("aufs/diff").is_dir() && !w.at("overlay2").exists(), "{says}: the old store is not back");
    all_verbs(w, says);
}

#[test]
fn journals_that_are_not_ours() {
    if !needs::root() {
        return;
    }
    type Spoil = fn(&World, &Path);
    let cases: [(&str, Spoil, &str); 9] = [
        (
            "symlink",
            |w, p| {
                let out = w.elsewhere.join("journal.db");
                fs::rename(p, &out).expect("moved");
                std::os::unix::fs::symlink(out, p).expect("a symlink");
            },
            "is not a file",
        ),
        ("hard link", |w, p| fs::hard_link(p, w.elsewhere.join("other")).expect("a link"), "another name"),
        ("fifo", |_, p| Odd::Fifo.put(p), "is not a file"),
        ("device", |_, p| Odd::Device.put(p), "is not a file"),
        ("folder", |_, p| Odd::Folder.put(p), "is not a file"),
        ("fifo beside", |_, p| Odd::Fifo.put(&p.with_extension("db-journal")), "is not a file"),
        (
            "symlink beside",
            |w, p| {
                let beside = p.with_extension("db-journal");
                replace(&beside);
                std::os::unix::fs::symlink(w.canary.join("secret"), beside).expect("a symlink");
            },
            "is not a file",
        ),
        (
            "WAL",
            |_, p| {
                Connection::open(p).and_then(|c| c.pragma_update(None, "journal_mode", "WAL")).expect("WAL");
            },
            "WAL",
        ),
        ("noise", |_, p| fs::write(p, [7; 9000]).expect("a file"), "journal"),
    ];
    for (n, (what, spoil, says)) in cases.into_iter().enumerate() {
        let w = begun(n % 2 == 0);
        spoil(&w, &w.at(JOURNAL));
        eprintln!("{what}");
        lost(&w, n % 2 == 0, says);
    }
}

#[test]
fn schemas_that_run_something() {
    if !needs::root() {
        return;
    }
    for text in [
        "CREATE TRIGGER t AFTER UPDATE ON run BEGIN UPDATE plan SET text = '{}'; END",
        "CREATE TRIGGER t BEFORE INSERT ON event BEGIN SELECT raise(ABORT, 'stopped by a trigger'); END",
        "ALTER TABLE run RENAME TO real; CREATE VIEW run AS SELECT * FROM real",
        "UPDATE run SET started = char(27) || '[2J' || char(10) || 'x'; UPDATE verdict SET at = char(27) || 'c'",
        "UPDATE event SET what = char(27) || '[2J'",
        "PRAGMA ignore_check_constraints = ON; UPDATE run SET state = char(27) || '[31m'",
        "PRAGMA user_version = 99",
        "PRAGMA user_version = 0",
        "DROP TABLE unit",
        "UPDATE plan SET text = hex(zeroblob(50000000))",
    ] {
        for switched in [false, true] {
            let w = begun(switched);
            eprintln!("{text}");
            sql(&w, text);
            all_verbs(&w, text);
        }
    }
}

/// Every path of the plan in a journal leads out of ROOT.
#[test]
fn plans_in_a_journal_that_lead_out() {
    if !needs::root() {
        return;
    }
    let outs = |w: &World| -> Vec<String> {
        let abs = |p: &str| w.canary.join(p).to_string_lossy().into_owned();
        vec![
            "..".into(),
            "../canary".into(),
            "../canary/empty".into(),
            "../canary/secret".into(),
            abs("secret"),
            abs("empty"),
            "/".into(),
            "".into(),
            ".".into(),
        ]
    };
    for i in 0..9 {
        for (kinds, state) in [(["touched", "switch"], "switching"), (["layers", "metadata"], "building")] {
            let switched = i % 2 == 0;
            let w = begun(switched);
            let out = outs(&w).swap_remove(i);
            eprintln!("{kinds:?} {out:?} {switched}");
            edit(&w, |plan| kinds.iter().for_each(|what| spoil(plan, what, &out)));
            if state == "building" || !switched {
                sql(&w, &format!("UPDATE run SET state = '{state}'; UPDATE unit SET state = 'intent'"));
            }
            all_verbs(&w, kinds[0]);
        }
    }
}

fn spoil(plan: &mut Value, what: &str, out: &str) {
    match what {
        "touched" => {
            plan["touched"] = json!([{"path": out, "atime": [1, 1], "mtime": [1, 1], "mode": 0o777, "owner": [7, 7]}]);
        }
        "switch" => {
            plan["switch"] = json!([
                {"from": out, "to": ".unaufs/old/x", "why": "park"},
                {"from": ".unaufs/new/overlay2", "to": out, "why": "install"},
                {"from": out, "to": "taken", "why": "install"},
            ]);
        }
        "layers" => {
            for l in plan["layers"].as_array_mut().into_iter().flatten() {
                l["source"] = out.into();
                l["link"] = format!("{out}/x").into();
            }
        }
        _ => {
            for f in plan["metadata"].as_array_mut().into_iter().flatten() {
                f["path"] = format!("{out}/new").into();
                f["content"] = json!({"same": format!("{out}/secret")});
            }
            for c in plan["containers"].as_array_mut().into_iter().flatten() {
                c["files"] = json!([{"path": out, "content": {"text": "x"}}, {"path": "x", "content": {"edited": [out, [["Driver", "1"]]]}}]);
            }
        }
    }
}

#[test]
fn saved_plans_of_strangers() {
    if !needs::root() {
        return;
    }
    let w = World::new();
    let file = w.elsewhere.join("plan.json");
    let path = file.to_str().expect("UTF-8").to_owned();
    assert_eq!(w.run(&["plan", "--out", &path]).code, 0);
    assert_eq!(fs::metadata(&file).expect("a plan").mode() & 0o7777, 0o600);
    let good: Value = serde_json::from_slice(&fs::read(&file).expect("a plan")).expect("JSON");
    let esc = "\u{1b}[2J\n<script>alert(1)</script>";
    let with = |f: &dyn Fn(&mut Value)| {
        let mut v = good.clone();
        f(&mut v);
        v.to_string().into_bytes()
    };
    let fifo = w.elsewhere.join("fifo");
    Odd::Fifo.put(&fifo);
    let cases: Vec<(&str, Vec<u8>, i32)> = vec![
        ("empty", vec![], 2),
        ("text", b"no plan".to_vec(), 2),
        ("deep", "[".repeat(1 << 20).into_bytes(), 2),
        ("another schema", with(&|v| v["schema"] = esc.into()), 2),
        ("a word", with(&|v| v["generation"] = esc.into()), 2),
        ("a driver", with(&|v| v["options"]["to"] = esc.into()), 2),
        ("a key", with(&|v| v["options"][esc] = 1.into()), 13),
        ("numbers", with(&|v| v["summary"]["bytes"] = u64::MAX.into()), 13),
        ("Docker's configuration", with(&|v| v["options"]["docker_config"] = fifo.to_string_lossy().into()), 1),
        ("an object", with(&|v| v["fingerprint_objects"][esc] = esc.into()), 13),
    ];
    for (what, text, code) in cases {
        fs::write(&file, text).expect("a plan");
        // a fresh fingerprint would be accepted: it is made so that something has changed
        fs::write(w.at("aufs/diff").join(&w.casts[0].id).join("changed"), what).expect("a file");
        eprintln!("{what}");
        let ran = w.run(&["migrate", "--yes", &path]);
        assert!(ran.code == code || what.starts_with("Docker"), "{what}: {} {}{}", ran.code, ran.stdout, ran.stderr);
        let html = w.elsewhere.join("fleet.html");
        w.run(&["report", "merge", &path, "--html", html.to_str().expect("UTF-8")]);
        assert!(!fs::read_to_string(&html).unwrap_or_default().contains("<script>alert"), "{what}");
        if let Ok(m) = fs::metadata(&html) {
            assert_eq!(m.permissions().mode() & 0o7777, 0o600, "{what}: the page's mode");
        }
    }
    let ran = w.run(&["migrate", "--yes", "/dev/zero"]);
    assert_ne!(ran.code, 0);
}

/// What is staged may be setuid, and old with holes in it: nobody else can get at it before the switch, whoever made `.unaufs` before.
#[test]
fn nobody_else_sees_the_stage() {
    if !needs::root() {
        return;
    }
    let w = World::new();
    for folder in [".unaufs", ".unaufs/new", ".unaufs/old"] {
        fs::create_dir(w.at(folder)).expect("a folder");
        fs::set_permissions(w.at(folder), fs::Permissions::from_mode(0o777)).expect("a mode");
        std::os::unix::fs::chown(w.at(folder), Some(4711), Some(4711)).expect("an owner");
    }
    let ran = w.run(&["migrate", "--yes", "--no-switch"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    for folder in [".unaufs", ".unaufs/new", ".unaufs/old"] {
        let m = fs::metadata(w.at(folder)).expect("a folder");
        assert_eq!((m.mode() & 0o7777, m.uid(), m.gid()), (0o700, 0, 0), "{folder}");
    }
    assert_eq!(fs::metadata(w.at(JOURNAL)).expect("a journal").mode() & 0o7777, 0o600);
    assert_eq!(w.run(&["rollback", "--yes", "--drop-new"]).code, 0);
}
