//! docs/reference.md is made from the program: commands, exit codes, checks and JSON documents.
//! `UNAUFS_WRITE_DOCS=1 cargo test --test it reference` writes it again.

use crate::words::{literals, sources};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use unaufs::checks::{Level, TABLE, allowable};
use unaufs::cli::pages::{EXIT_CODES, PAGES, command};
use unaufs::report::explain::word;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md");

/// Document, command, fields.
const DOCUMENTS: &[(&str, &str, &str)] = &[
    ("unaufs.cleanup", "cleanup", "`state`"),
    ("unaufs.completions", "completions", "`shell`, `script`"),
    ("unaufs.cp", "cp", "the copied files and the objects that could not be copied"),
    ("unaufs.demo", "demo", "the plan and the comparison of the sample store"),
    ("unaufs.diff", "diff", "`changes`: one object for each added, changed or deleted path"),
    ("unaufs.error", "a command that fails", "`kind`, `exit_code`, `message`, `cause`, `fix`, `lost`"),
    (
        "unaufs.explain",
        "explain",
        "`id`, `level`, `title`, `explain`, `fix`, `effect`, `allowable`; without an ID, a list of these in `checks`",
    ),
    ("unaufs.export", "export", "`output`, `images`, `layers`, `bytes`, `written`, `notes`, `left_out`"),
    (
        "unaufs.inspect",
        "inspect",
        "`images`, `layers` (with `parent`), `containers`, each with `bytes`; `orphans`, `problems` (checks)",
    ),
    ("unaufs.man", "man", "`directory`"),
    (
        "unaufs.migrate",
        "migrate",
        "`state`, `driver`, `verified`, the counts of the work, `failed`, `left_behind`, `damage`",
    ),
    ("unaufs.plan", "plan, plan --out", "the plan: [plan.schema.json](plan.schema.json)"),
    ("unaufs.report", "report merge", "`blocked`, `warned`, `ready`, `hosts`"),
    ("unaufs.rollback", "rollback", "`dropped`, and the objects that were set aside or that stay"),
    ("unaufs.status", "status", "`state`, `reason`, `docker_may_start`, `driver`, `ways_back`, `next`"),
    (
        "unaufs.verify",
        "verify",
        "`level`, the counts of the work, `differences`, `unchecked` (exit code 1), `changes` that Docker made since the switch, `next`",
    ),
];

/// The documents that the program names, with their numbers.
fn named() -> BTreeSet<String> {
    let all = sources().into_iter().flat_map(|(_, text)| literals(&text));
    let is = |s: &str| {
        let number = s.strip_prefix("unaufs.").and_then(|s| s.split_once('/'));
        // unaufs.run is the plain file of a run, which only unaufs reads
        number.is_some_and(|(name, n)| {
            name != "run"
                && n != "0"
                && !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_lowercase())
                && n.parse::<u32>().is_ok()
        })
    };
    all.map(|(_, s)| s).filter(|s| is(s)).collect()
}

fn commands(out: &mut String) {
    let mut all = command().term_width(80);
    let _ = writeln!(out, "## Commands\n\n```text\n{}\n```", all.render_help().to_string().trim_end());
    for page in PAGES {
        let found = page.verb.split(' ').try_fold(&mut all, |c, name| c.find_subcommand_mut(name));
        let help = found.unwrap_or_else(|| panic!("no command {}", page.verb)).render_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _ = writeln!(out, "\n### unaufs {}\n\n```text\n{}\n```", page.verb, lines.join("\n").trim_end());
    }
}

fn checks(out: &mut String) {
    out.push_str("\n## Checks\n\n`unaufs explain ID` prints the same text.\n");
    for c in TABLE {
        let how = match (c.level, allowable(c.id)) {
            (Level::Block, true) => "; --allow is possible",
            (Level::Block, false) => "; --allow isn't possible",
            _ => "",
        };
        let level = format!("{}{how}", word(c.level));
        let _ = writeln!(out, "\n### {}: {}\n\n*{level}.* {}", c.id, c.title, c.explain);
    }
}

fn documents(out: &mut String) {
    out.push_str(
        "\n## JSON\n\nWith `--json`, a command prints one document, also if it fails. With `--jsonl`, it prints one object for each step, and the \
         document as the last line.\n\
         Each object then has a `message_type`: `status`, `step`, `warning`, `summary` or `exit_error`.\n\
         Sizes are in bytes, times are RFC 3339 in UTC. A name that isn't UTF-8 is `{\"name_raw\": BASE64}`.\n\
         A new version can add fields. It raises the number in `schema` if a field changes its meaning or is removed.\n\n\
         | `schema` | command | fields |\n|---|---|---|\n",
    );
    let named = named();
    for (name, command, fields) in DOCUMENTS {
        let schema = named.iter().find(|n| n.split('/').next() == Some(name));
        let schema = schema.unwrap_or_else(|| panic!("the program has no document {name}"));
        let _ = writeln!(out, "| `{schema}` | {command} | {fields} |");
    }
    for n in &named {
        assert!(DOCUMENTS.iter().any(|(d, ..)| n.split('/').next() == Some(d)), "{n} isn't in the reference");
    }
}

#[test]
fn the_reference_is_what_the_program_does() {
    let mut out =
        String::from("# Reference\n\nCommands, exit codes, checks and JSON. This page is made from the program.\n\n");
    commands(&mut out);
    out.push_str("\n## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for (code, meaning) in EXIT_CODES {
        let _ = writeln!(out, "| {code} | {meaning} |");
    }
    checks(&mut out);
    documents(&mut out);
    if std::env::var_os("UNAUFS_WRITE_DOCS").is_some() {
        fs::write(FILE, &out).expect("docs/reference.md");
    }
    let page = fs::read_to_string(FILE).expect("docs/reference.md");
    assert!(page == out, "docs/reference.md is old: UNAUFS_WRITE_DOCS=1 cargo test --test it reference");
}

/// The test of the packages reads the manual, and is run seldom: what it looks for must be there.
#[test]
fn the_package_test_knows_the_manual() {
    let script = include_str!("../package/run.sh");
    let line = script.lines().find(|l| l.starts_with("for words in ")).expect("the words");
    let words: Vec<&str> = line.split('\'').skip(1).step_by(2).collect();
    let mut all = command();
    let help = all.find_subcommand_mut("migrate").expect("migrate").render_long_help().to_string().to_lowercase();
    assert!(words.len() > 2);
    for w in words {
        assert!(help.contains(&w.to_lowercase()), "{w} is not in:\n{help}");
    }
}
