//! Reads a plan that `plan --out` or `plan --json` wrote.

use crate::error::{Error, Kind, Result};
use crate::plan::stored::{self, Stored};
use crate::plan::{Plan, SCHEMA, Tool};
use serde::Deserialize;
use std::io::Read;
use std::path::Path;

/// The plan of a store with 10,000 layers has some 30 MiB.
const LIMIT: u64 = 1 << 30;

/// What every version writes.
#[derive(Deserialize)]
struct Label {
    schema: String,
    tool: Option<Tool>,
}

/// The plan in a file.
pub fn load(file: &Path) -> Result<Plan> {
    let shown = crate::text::path(file);
    let what = || format!("read {shown}");
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Kind::Usage, format!("{shown} doesn't exist")).hint("Save a plan with: unaufs plan --out FILE")
        }
        _ => Error::io(what(), e),
    })?;
    opened.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|e| Error::io(what(), e))?;
    if bytes.len() as u64 > LIMIT {
        return Err(no_plan(&shown));
    }
    let Stored { plan, in_place } = stored::read(&bytes).map_err(|_| refused(&shown, &bytes))?;
    if in_place {
        let what = format!("{shown} was made for --mode move, which this version doesn't have");
        return Err(Error::new(Kind::Usage, what).hint("Make a new plan: unaufs plan --out FILE"));
    }
    if plan.schema != SCHEMA {
        return Err(refused(&shown, &bytes));
    }
    Ok(plan)
}

/// A plan to be carried out: only by the version that made it, since another one may mean something else by it.
pub fn to_run(file: &Path) -> Result<Plan> {
    let plan = load(file)?;
    match plan.tool.version == Tool::default().version {
        true => Ok(plan),
        false => Err(other_version(&crate::text::path(file), &plan.tool.version)),
    }
}

/// Why a file can't be read as a plan.
fn refused(shown: &str, bytes: &[u8]) -> Error {
    match serde_json::from_slice::<Label>(bytes) {
        Ok(Label { schema, tool }) if schema.starts_with("unaufs.plan/") => {
            other_version(shown, tool.as_ref().map_or("", |t| &t.version))
        }
        Ok(Label { schema, .. }) if schema.starts_with("unaufs.") => {
            no_plan(shown).hint("It is the result of another command. Save a plan with: unaufs plan --out FILE")
        }
        _ => no_plan(shown),
    }
}

fn no_plan(shown: &str) -> Error {
    Error::new(Kind::Usage, format!("{shown} is not an unaufs plan")).hint("Save a plan with: unaufs plan --out FILE")
}

fn other_version(shown: &str, version: &str) -> Error {
    let ours = Tool::default().version;
    let by = match version {
        "" => "another version of unaufs".to_owned(),
        v if v == ours => "a different build of unaufs".to_owned(),
        v => format!("unaufs {}", crate::text::text(v)),
    };
    Error::new(Kind::Usage, format!("{shown} was made by {by}; this is unaufs {ours}"))
        .hint("Make a new plan with this version.")
        .loss("Nothing was changed.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plan_is_said_in_plain_words() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("mig.log");
        let said = |text: &str| {
            std::fs::write(&file, text).expect("write");
            let e = load(&file).expect_err("no plan");
            assert_eq!(e.kind(), Kind::Usage);
            e.chain()
        };
        for text in ["2026-01-01 unaufs migrate\n", "{}", "[]", "", r#"{"schema": "unaufs.status/2"}"#] {
            assert!(said(text).ends_with("mig.log is not an unaufs plan"), "{text}");
        }
        let old = said(r#"{"schema": "unaufs.plan/0", "tool": {"name": "unaufs", "version": "0.1.2"}}"#);
        assert!(old.contains("mig.log was made by unaufs 0.1.2; this is unaufs "), "{old}");
    }
}
