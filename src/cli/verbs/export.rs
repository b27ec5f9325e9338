//! `unaufs export`.

use super::{fitted, root, say, say_json, the_store};
use crate::checks::Finding;
use crate::cli::args::{ExportArgs, Global};
use crate::cli::{Done, Ending, screen};
use crate::disk::Dir;
use crate::docker::driver::WrittenBy;
use crate::error::{Error, Kind, Result};
use crate::export::remains::Remains;
use crate::export::{From, Request, export as run, names};
use crate::plan::switch::OLD;
use crate::report;
use crate::store::{self, Store, native};

/// `unaufs export`.
pub fn export(g: &Global, a: &ExportArgs) -> Done {
    let to_stdout = a.output.as_os_str() == "-";
    if to_stdout && g.for_programs() {
        return Err(Error::new(Kind::Usage, "-o - writes the archive to stdout, so --json isn't possible")
            .hint("Leave out --json, or name a file with -o FILE."));
    }
    let root = root(g)?;
    let (from, (store, findings)) = open(&root, a.driver)?;
    let request = Request {
        images: a.names.clone(),
        all: a.all,
        containers: a.container.clone(),
        output: a.output.clone(),
        format: a.format,
        compress: a.compress,
    };
    let summary = {
        let progress = screen::progress(g);
        run(&root, From { root: &from, store: &store, findings: &findings }, &request, &*progress)?
    };
    let doc = report::export::Document { schema: "unaufs.export/1", summary: &summary };
    match (to_stdout, g.for_programs()) {
        (_, true) => say_json(&doc)?,
        // stdout is the archive
        (true, false) if g.quiet => {}
        (true, false) => crate::cli::to_stderr(doc.text().trim_end()),
        (false, false) => say(&fitted(g, &doc.text(), 2))?,
    }
    Ok(if summary.left_out.is_empty() { Ending::Fine } else { Ending::Code(Kind::Partial) })
}

/// A store, and what reading it found.
type Read = (Store, Vec<Finding>);

/// The store that is meant, and the directory that represents its ROOT.
pub(super) fn open(root: &Dir, driver: Option<WrittenBy>) -> Result<(Dir, Read)> {
    match driver.map_or_else(|| the_store(root), Ok)? {
        WrittenBy::Aufs => old(root),
        WrittenBy::Living(target) => Ok((root.again()?, native::open(root, target)?)),
    }
}

/// An error about a container, with a hint if that container is in the old store, and nobody has chosen another.
pub(super) fn in_old_store(root: &Dir, chosen: Option<WrittenBy>, name: &str, e: Error) -> Error {
    let is_there = || {
        let Ok((from, (store, _))) = old(root) else { return false };
        let found = names::one_container(&store, name).and_then(|c| Remains::of_container(&from, root, &store, c));
        found.is_ok_and(|remains| remains.has_own())
    };
    match chosen {
        None if is_there() => e.hint("Add --driver aufs: it's in the old store."),
        _ => e,
    }
}

/// The aufs store, in its place or where a migration has parked it with all that belongs to it.
fn old(root: &Dir) -> Result<(Dir, Read)> {
    if !root.has("aufs/diff")?
        && let Some(parked) = root.open_opt(OLD)?
        && (parked.has("image/aufs")? || parked.has("graph")?)
        && parked.has("aufs/diff")?
    {
        let (mut store, findings) = store::open(&parked)?;
        store::containers::add_left(root, &mut store)?;
        return Ok((parked, (store, findings)));
    }
    Ok((root.again()?, store::open(root)?))
}
