//! `unaufs diff`.

use super::export::{in_old_store, open};
use super::{root, say, say_json};
use crate::cli::args::{DiffArgs, Global};
use crate::cli::{Done, Ending};
use crate::error::{Error, Kind};
use crate::export::remains::Remains;
use crate::export::{changes, names};
use crate::report;

/// `unaufs diff`.
pub fn diff(g: &Global, a: &DiffArgs) -> Done {
    let root = root(g)?;
    let (from, (store, _)) = open(&root, a.driver)?;
    let from = from.through_binds();
    let found = names::one_container(&store, &a.name);
    let found = found.and_then(|c| Ok((c, Remains::of_container(&from, &root, &store, c)?)));
    let (container, remains) = found.map_err(|e| in_old_store(&root, a.driver, &a.name, e))?;
    let mut missing = remains.missing.clone();
    if !remains.has_own() {
        let why = missing.first().map_or_else(String::new, |m| format!("{}: {}", m.what, m.why));
        return Err(Error::new(Kind::Failed, format!("nothing is left of what {} changed: {why}", remains.subject)));
    }
    let changes = changes::changes(&remains.chain, &remains.below(&from, &store), &mut missing)?;
    let doc = report::diff::Document {
        schema: "unaufs.diff/1",
        id: &container.id,
        name: &container.name,
        image: &container.image,
        changes: &changes,
        bytes: changes.iter().filter_map(|c| c.size).sum(),
        missing: &missing,
    };
    if g.for_programs() {
        say_json(&doc)?;
    } else {
        if !changes.is_empty() {
            say(&doc.text(a.size))?;
        }
        // stdout is a list for programs too
        for line in doc.asides(a.size && !g.quiet) {
            crate::cli::to_stderr(&line);
        }
    }
    Ok(if missing.is_empty() { Ending::Fine } else { Ending::Code(Kind::Partial) })
}
