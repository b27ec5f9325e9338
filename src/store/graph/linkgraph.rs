//! `linkgraph.db`: names and links of containers up to Docker 1.9, a SQLite file (FORMATS 8.5).
//!
//! ```text
//! entity(id)                         "0" is the root, all others are container ids
//! edge(entity_id, parent_id, name)   parent "0": a name of the container; else: the alias by which that container knows it
//! ```
//!
//! The file is hostile input to a large C library. So SQLite is given its bytes and not its path: nothing next to it is
//! opened, made or followed, and nothing is locked. Only `edge` is read (`entity` adds nothing to it), only if it is a plain
//! table with Docker's columns, and without an index; triggers and views are off.

use crate::error::{Error, Result};
use crate::ids::ContainerId;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, MAIN_DB, OpenFlags};
use std::collections::{BTreeMap, BTreeSet};

/// The largest file that is read. A container takes about 300 bytes of it.
pub const MAX_LEN: usize = 64 << 20;
/// The most rows that are read.
const MAX_ROWS: u32 = 1 << 20;
/// The longest row; a row of Docker's has two ids and a name.
const MAX_ROW_LEN: i32 = 1 << 16;

/// What the file says.
#[derive(Debug, Default)]
pub struct LinkGraph {
    /// The names of each container, without the slash.
    pub names: BTreeMap<ContainerId, BTreeSet<String>>,
    /// The links of each container: alias to the container it means, in the order in which Docker's index gave them.
    pub links: BTreeMap<ContainerId, BTreeMap<String, ContainerId>>,
    /// One error for each row that makes no sense.
    pub problems: Vec<Error>,
}

/// Reads the bytes of the file. The caller looks for a journal next to it: what is there is not in these bytes.
pub fn read(bytes: &[u8]) -> Result<LinkGraph> {
    check_header(bytes)?;
    rows(bytes).map_err(|e| Error::corrupt("it cannot be read").with_source(e)).and_then(|rows| {
        if rows.len() > MAX_ROWS as usize {
            return Err(Error::corrupt(format!("it has more than {MAX_ROWS} rows")));
        }
        let mut out = LinkGraph::default();
        for row in rows {
            if let Err(e) = out.row(row) {
                out.problems.push(e);
            }
        }
        Ok(out)
    })
}

/// Distinguishes what SQLite would only call "not a database" (file format: <https://www.sqlite.org/fileformat.html>).
fn check_header(bytes: &[u8]) -> Result<()> {
    let what = match bytes {
        [] => "it is empty".to_owned(),
        _ if bytes.len() > MAX_LEN => format!("it has {} bytes, and unaufs reads at most {MAX_LEN}", bytes.len()),
        _ if !bytes.starts_with(b"SQLite format 3\0") => "it isn't an SQLite database".to_owned(),
        _ if bytes.get(18..20).is_none_or(|versions| versions.contains(&2)) => {
            let what = "it is in WAL mode, which Docker never used: a part may be in another file";
            return Err(Error::corrupt(what)
                .hint("Put it back into one file with: sqlite3 linkgraph.db 'PRAGMA journal_mode=DELETE'"));
        }
        _ => return Ok(()),
    };
    Err(Error::corrupt(what))
}

/// The three columns of `edge`, each as text if it is text.
type Row = [Option<String>; 3];

fn rows(bytes: &[u8]) -> rusqlite::Result<Vec<Row>> {
    let mut db =
        Connection::open_in_memory_with_flags(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_ROW_LEN)?;
    crate::disk::sqlite::distrust(&db)?;
    db.deserialize_read_exact(MAIN_DB, bytes, bytes.len(), true)?;
    db.execute_batch("PRAGMA cell_size_check = ON; PRAGMA query_only = ON")?;
    // a view, a virtual table (root page 0) or a generated column would run what the file says
    let plain: bool = db.query_row(
        "SELECT count(*) = 1 FROM sqlite_master WHERE name = 'edge' AND type = 'table' AND rootpage > 0",
        [],
        |row| row.get(0),
    )?;
    let columns: String = db.query_row(
        "SELECT coalesce(group_concat(name || hidden), '') FROM (SELECT * FROM pragma_table_xinfo('edge') ORDER BY cid)",
        [],
        |row| row.get(0),
    )?;
    if !plain || columns != "entity_id0,parent_id0,name0" {
        return Err(rusqlite::Error::InvalidColumnName(format!(
            "its table edge isn't as Docker made it: {columns:.200}"
        )));
    }
    let mut statement = db.prepare("SELECT entity_id, parent_id, name FROM edge NOT INDEXED LIMIT ?1")?;
    let text = |value: ValueRef<'_>| value.as_str().map(str::to_owned).ok();
    statement
        .query_map([MAX_ROWS + 1], |row| Ok([text(row.get_ref(0)?), text(row.get_ref(1)?), text(row.get_ref(2)?)]))?
        .collect()
}

impl LinkGraph {
    fn row(&mut self, [entity, parent, name]: Row) -> Result<()> {
        let (entity, name) = match (entity.as_deref(), parent.as_deref(), name) {
            (Some("0"), None | Some("0"), Some(name)) if name == "/" => return Ok(()),
            (Some(entity), Some(_), Some(name)) => (ContainerId::parse(entity)?, name),
            (_, _, name) => {
                return Err(Error::corrupt(format!("the row of {:.80?} is incomplete", name.unwrap_or_default())));
            }
        };
        // Docker joins them with colons and slashes: `/db:alias`
        if name.is_empty() || name.contains(['/', ':']) || name.chars().any(char::is_control) {
            return Err(Error::corrupt(format!("{name:.80?} can't be a name of container {}", entity.as_str())));
        }
        match parent.as_deref() {
            None | Some("0") => {
                self.names.entry(entity).or_default().insert(name);
            }
            Some(parent) => {
                self.links.entry(ContainerId::parse(parent)?).or_default().insert(name, entity);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = r#"
        CREATE TABLE entity (
            id text NOT NULL PRIMARY KEY
        );
        CREATE TABLE edge (
            "entity_id" text NOT NULL,
            "parent_id" text NULL,
            "name" text NOT NULL,
            CONSTRAINT "parent_fk" FOREIGN KEY ("parent_id") REFERENCES "entity" ("id"),
            CONSTRAINT "entity_fk" FOREIGN KEY ("entity_id") REFERENCES "entity" ("id")
            );
        CREATE UNIQUE INDEX "name_parent_ix" ON "edge" (parent_id, name);
        INSERT INTO entity VALUES ('0');
        INSERT INTO edge VALUES ('0', NULL, '/');
    "#;

    fn id(c: char) -> ContainerId {
        ContainerId::parse(&c.to_string().repeat(64)).expect("hex")
    }

    /// The bytes of a database that these statements make.
    fn database(sql: &str) -> Vec<u8> {
        let mut db = Connection::open_in_memory().expect("SQLite");
        // Docker's driver did not enforce foreign keys, and hostile files need not keep them
        db.execute_batch("PRAGMA foreign_keys = OFF").expect("pragma");
        db.execute_batch(sql).expect(sql);
        db.serialize(MAIN_DB).expect("bytes").to_vec()
    }

    fn edge(entity: &str, parent: &str, name: &str) -> String {
        let quoted = |s: &str| if s == "NULL" { s.to_owned() } else { format!("'{s}'") };
        format!("INSERT INTO edge VALUES ({}, {}, {});", quoted(entity), quoted(parent), quoted(name))
    }

    #[test]
    fn names_and_links() {
        let [a, b] = [id('a'), id('b')];
        let sql = DOCKER.to_owned()
            + &edge(a.as_str(), "0", "web")
            + &edge(b.as_str(), "0", "db")
            + &edge(b.as_str(), "0", "other")
            + &edge(b.as_str(), a.as_str(), "zz")
            + &edge(b.as_str(), a.as_str(), "database");
        let got = read(&database(&sql)).expect("a link graph");
        assert_eq!(got.names[&a].iter().collect::<Vec<_>>(), ["web"]);
        assert_eq!(got.names[&b].iter().collect::<Vec<_>>(), ["db", "other"]);
        assert_eq!(got.links[&a], BTreeMap::from([("database".to_owned(), b.clone()), ("zz".to_owned(), b)]));
        assert!(got.problems.is_empty(), "{:?}", got.problems);
    }

    #[test]
    fn rows_that_make_no_sense_are_named_one_by_one() {
        let a = id('a');
        for row in [
            edge("../x", "0", "web"),
            edge(a.as_str(), "NULL", "web"),
            edge(a.as_str(), "no id", "web"),
            edge(a.as_str(), "0", ""),
            edge(a.as_str(), "0", "a/b"),
            edge(a.as_str(), a.as_str(), "a:b"),
            format!(
                "INSERT INTO edge VALUES (x'ff', '0', 'web'); INSERT INTO edge VALUES ('{}', '0', x'fe')",
                a.as_str()
            ),
        ] {
            let sql = DOCKER.to_owned() + &edge(id('b').as_str(), "0", "good") + &row;
            let got = read(&database(&sql)).expect("a link graph");
            assert!(!got.problems.is_empty(), "{row}");
            assert_eq!((got.names.len(), got.links.len()), (1, 0), "{row}");
        }
    }

    #[test]
    fn what_is_no_link_graph_is_an_error() {
        let good = database(DOCKER);
        let mut wal = good.clone();
        wal[18..20].fill(2);
        let mut torn = good.clone();
        torn.truncate(good.len() / 2);
        let mut noise = good.clone();
        noise[100..].iter_mut().enumerate().for_each(|(i, b)| *b = (i * 7) as u8);
        let plain = |columns: &str| database(&format!("CREATE TABLE edge ({columns})"));
        for (what, bytes) in [
            ("empty", Vec::new()),
            ("text", b"hello\n".to_vec()),
            ("zeros", vec![0; 4096]),
            ("header alone", b"SQLite format 3\0".to_vec()),
            ("WAL mode", wal),
            ("torn", torn),
            ("noise", noise),
            ("no tables", database("CREATE TABLE x (y)")),
            ("other columns", plain("entity_id text, name text")),
            ("generated column", plain("entity_id, parent_id, name AS (zeroblob(1000000000))")),
            ("a view", database("CREATE VIEW edge AS SELECT 1 AS entity_id, 2 AS parent_id, 3 AS name")),
            ("a long row", database(&(DOCKER.to_owned() + "INSERT INTO edge VALUES (zeroblob(100000), '0', 'x')"))),
        ] {
            assert!(read(&bytes).is_err(), "{what}");
        }
    }
}
