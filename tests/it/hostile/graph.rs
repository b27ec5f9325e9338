//! A root of Docker up to 1.9: `linkgraph.db` in all forms, and ids that are paths.

use super::bed::{Odd, VICTIM, World, replace};
use crate::support::needs;
use crate::support::real;
use rusqlite::Connection;
use std::fs;
use std::path::Path;
use std::process::Command;

fn world() -> World {
    let store = real::graph().unpack();
    World::with(|root| {
        let cp =
            Command::new("cp").args(["-a", "--reflink=auto", "-T"]).arg(&store.root).arg(root).status().expect("cp");
        assert!(cp.success());
        Vec::new()
    })
}

fn database(path: &Path, sql: &str) {
    replace(path);
    Connection::open(path).and_then(|db| db.execute_batch(sql)).expect(sql);
}

#[test]
fn link_graphs_of_strangers() {
    if !needs::root() {
        return;
    }
    type Make = fn(&World, &Path);
    let cases: [(&str, Make); 9] = [
        ("text", |_, p| fs::write(p, "no database").expect("a file")),
        ("empty", |_, p| fs::write(p, "").expect("a file")),
        ("another file's", |w, p| w.lead_out(p)),
        ("fifo", |_, p| Odd::Fifo.put(p)),
        ("device", |_, p| Odd::Device.put(p)),
        ("without end", |_, p| {
            fs::File::options().write(true).open(p).and_then(|f| f.set_len(1 << 40)).expect("sparse")
        }),
        ("a view", |_, p| database(p, "CREATE VIEW edge AS SELECT 1 entity_id, 2 parent_id, 3 name")),
        ("a recursive view", |_, p| {
            database(
                p,
                "CREATE VIEW edge AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i entity_id, i parent_id, i name FROM n",
            );
        }),
        ("triggers", |_, p| {
            let db = Connection::open(p).expect("the database");
            db.execute_batch("CREATE TRIGGER t AFTER INSERT ON edge BEGIN DELETE FROM entity; END").expect("a trigger");
        }),
    ];
    for (what, make) in cases {
        let w = world();
        eprintln!("{what}");
        make(&w, &w.at("linkgraph.db"));
        let ran = w.run(&["plan", "-v"]);
        assert!(ran.code == 0, "{what}: {}{}", ran.stdout, ran.stderr);
        if what != "triggers" {
            assert!(ran.stdout.contains("linkgraph"), "{what} is not named: {}", ran.stdout);
        }
    }
    // one of them to the end
    let w = world();
    w.lead_out(&w.at("linkgraph.db"));
    w.ends(3, "linkgraph");
}

/// SQLite reads the file that a rollback journal names as its super-journal, and removes it.
#[test]
fn a_journal_beside_the_link_graph_is_not_obeyed() {
    if !needs::root() {
        return;
    }
    let w = world();
    let victim = w.canary.join(VICTIM);
    fs::write(w.at("linkgraph.db-journal"), super::state::hot_journal(victim.to_str().expect("UTF-8"))).expect("it");
    let ran = w.run(&["migrate", "--yes"]);
    assert!([0, 1, 3].contains(&ran.code), "{}{}", ran.stdout, ran.stderr);
    w.run(&["rollback", "--yes"]);
}

#[test]
fn graph_folders_that_lead_out() {
    if !needs::root() {
        return;
    }
    for path in ["graph", "containers", "aufs/layers", "repositories-aufs"] {
        let w = world();
        w.lead_out(&w.at(path));
        eprintln!("{path}");
        let ran = w.run(&["migrate", "--yes"]);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        match path {
            // what is lost with it is in another place too
            "aufs/layers" => {
                assert!(ran.code == 0 && said.contains("a symlink, which unaufs doesn't follow"), "{said}")
            }
            _ => assert!(ran.code != 0 || path == "repositories-aufs", "{path}: {said}"),
        }
    }
    let w = world();
    let image = w.first("graph");
    w.lead_out(&image);
    let ran = w.run(&["plan", "-v"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let w = world();
    let image = w.first("graph");
    fs::write(image.join("parent"), "../../../canary").expect("a parent");
    let ran = w.run(&["plan", "-v"]);
    assert!(ran.stdout.contains("isn't an image ID"), "{}{}", ran.stdout, ran.stderr);
}
