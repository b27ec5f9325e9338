//! docs/plan.md lists the checks that there are. `UNAUFS_WRITE_DOCS=1 cargo test --test plan docs` writes the list again.

use std::fs;
use unaufs::checks::TABLE;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/plan.md");
const BEGIN: &str = "<!-- the checks: written by tests/it/plan/docs.rs -->\n";
const END: &str = "<!-- end of the checks -->\n";

fn table() -> String {
    let mut rows: Vec<_> = TABLE.iter().collect();
    rows.sort_by_key(|c| c.id);
    let line = |c: &&unaufs::checks::Check| {
        format!("| {} | {} | {} |\n", c.id, unaufs::report::explain::word(c.level), c.title)
    };
    "| id | usual level | what it is about |\n|---|---|---|\n".to_owned() + &rows.iter().map(line).collect::<String>()
}

#[test]
fn the_checks_are_in_the_docs() {
    let text = fs::read_to_string(FILE).expect("docs/plan.md");
    let (head, rest) = text.split_once(BEGIN).expect("the begin of the list");
    let (list, tail) = rest.split_once(END).expect("the end of the list");
    if std::env::var_os("UNAUFS_WRITE_DOCS").is_some() {
        fs::write(FILE, [head, BEGIN, &table(), END, tail].concat()).expect("docs/plan.md");
    } else {
        assert_eq!(list, table(), "write it anew: UNAUFS_WRITE_DOCS=1 cargo test --test plan docs");
    }
}
