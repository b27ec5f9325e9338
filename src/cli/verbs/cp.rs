//! `unaufs cp`.

use super::export::{in_old_store, open};
use super::{fitted, root, say, say_json};
use crate::cli::args::{CpArgs, Global};
use crate::cli::{Done, Ending, screen};
use crate::error::{Error, Kind, Result};
use crate::export::copy_out::{Request, copy};
use crate::export::names;
use crate::export::remains::Remains;
use crate::report;
use std::os::unix::ffi::OsStrExt;

/// `unaufs cp`.
pub fn cp(g: &Global, a: &CpArgs) -> Done {
    let to_stdout = a.dest.as_os_str() == "-";
    let json = g.for_programs();
    if to_stdout && json {
        return Err(Error::new(Kind::Usage, "with - the tar itself goes to stdout")
            .hint("Leave out --json, or name a directory."));
    }
    let (container, path) = source(a)?;
    let root = root(g)?;
    let (from, (store, _)) = open(&root, a.driver)?;
    let from = from.through_binds();
    let remains = match (&a.image, container) {
        (Some(image), _) => Remains::of_image(&from, &store, names::one_image(&store, image)?)?,
        (None, name) => {
            let found = names::one_container(&store, name);
            let remains = found.and_then(|c| Remains::of_container(&from, &root, &store, c));
            remains.map_err(|e| in_old_store(&root, a.driver, name, e))?
        }
    };
    let request =
        Request { path: path.to_vec(), dest: a.dest.clone(), follow: a.follow_link, owners: a.archive, force: a.force };
    let copied = {
        let progress = screen::progress(g);
        copy(&root, &remains, &request, &*progress)?
    };
    let whole = copied.left_out.is_empty() && remains.missing.is_empty();
    let doc = report::cp::Document {
        schema: "unaufs.cp/1",
        from: &remains.subject,
        copied: &copied,
        missing: &remains.missing,
    };
    match (to_stdout, json) {
        (_, true) => say_json(&doc)?,
        // stdout is the tar
        (true, false) if g.quiet && whole => {}
        (true, false) => crate::cli::to_stderr(doc.text().trim_end()),
        (false, false) => say(&fitted(g, &doc.text(), 2))?,
    }
    Ok(if whole { Ending::Fine } else { Ending::Code(Kind::Partial) })
}

/// The container's name, empty for an image, and the path.
fn source(a: &CpArgs) -> Result<(&str, &[u8])> {
    let source = a.source.as_bytes();
    if a.image.is_some() {
        return Ok(("", source));
    }
    let usage = |what: &str| Err(Error::new(Kind::Usage, what).hint("Example: unaufs cp web:/etc/hosts ."));
    let Some(colon) = source.iter().position(|c| *c == b':') else {
        return usage("the source is NAME:PATH: a container, a colon and a path in it");
    };
    let (name, path) = (source.get(..colon).unwrap_or_default(), source.get(colon + 1..).unwrap_or_default());
    match std::str::from_utf8(name) {
        Ok(name) if !name.is_empty() && !path.is_empty() => Ok((name, path)),
        _ => usage("the source is NAME:PATH, and both must be given"),
    }
}
