//! `unaufs export`.

use super::{fitted, root, say, say_json, the_store};
use crate::checks::Finding;
use crate::cli::args::{ExportArgs, Global};
use crate::cli::{Done, Ending, screen};
use crate::disk::Dir;
use crate::docker::driver::WrittenBy;
use crate::error::{Error, Kind, Result};
use crate::export::{From, Request, export as run};
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

/// The aufs store, in its place or where a migration has parked it with all that belongs to it.
fn old(root: &Dir) -> Result<(Dir, Read)> {
    if !root.has("aufs/diff")?
        && let Some(parked) = root.open_opt(OLD)?
        && (parked.has("image/aufs")? || parked.has("graph")?)
        && parked.has("aufs/diff")?
    {
        let read = store::open(&parked)?;
        return Ok((parked, read));
    }
    Ok((root.again()?, store::open(root)?))
}
