//! The driver's own directories, the same in both generations (FORMATS 1.1).
//!
//! ```text
//! ROOT/aufs/layers/<id>   the ids of all layers below, nearest first, one a line; empty for a base
//! ROOT/aufs/diff/<id>/    the layer
//! ROOT/aufs/mnt/<id>/     mount point
//! ```

use super::driver::{Diff, Driver};
use super::replaced::Wanted;
use super::stack::Listed;
use crate::checks::Finding;
use crate::disk::{Dir, FileType};
use crate::error::{Error, Result};
use crate::ids::{LayerId, named};
use rayon::prelude::*;

/// Docker stacks at most 127; a list of thousands is nonsense.
const LAYERS_LIMIT: u64 = 1 << 20;

/// Reads the driver's directories; what cannot be a layer becomes a finding.
pub fn read(root: &Dir, findings: &mut Vec<Finding>) -> Result<Driver> {
    let mut out = Driver::default();
    let diff = root.open("aufs/diff")?;
    for (name, kind) in diff.list()? {
        out.diffs.extend(read_diff(root, &diff, &name, kind, findings)?);
    }
    let (path, effect) = ("aufs/layers", "nothing is lost: layerdb or graph/ says which layers are below each layer");
    if let Some(layers) = (Wanted { path, effect, loses: false }).open(root, &mut Vec::new(), findings)? {
        let mut lists = Vec::new();
        for (name, kind) in layers.list()? {
            // the driver itself lists what is not a directory
            match named(&name, LayerId::parse).filter(|_| kind != FileType::Directory) {
                Some(id) => lists.push((id, name)),
                None => findings.push(strange("aufs/layers", &name)),
            }
        }
        let read = |(id, name): (LayerId, Vec<u8>)| {
            let text = layers.read(&name, LAYERS_LIMIT);
            (id, text.map_or_else(|e| Listed::Bad(e.chain()), |text| listed(&text)))
        };
        out.layers = lists.into_par_iter().map(read).collect();
    }
    let (path, effect) = ("aufs/mnt", "nothing is lost: only mount points are there");
    if let Some(mnt) = (Wanted { path, effect, loses: false }).open(root, &mut Vec::new(), findings)? {
        for (name, _) in mnt.list()? {
            if name.ends_with(b"-removing") {
                findings.push(removing("aufs/mnt", &name));
            }
        }
        below_mnt(&mnt, findings)?;
    }
    Ok(out)
}

/// Names what was written below a mount point while nothing was mounted there. One that is mounted now is named by check H02.
fn below_mnt(mnt: &Dir, findings: &mut Vec<Finding>) -> Result<()> {
    for stray in strays(mnt)? {
        let subject = format!("aufs/mnt/{}", crate::text::bytes(&stray.name));
        findings.push(Finding::new("D13", subject, format!("it contains files: {}", stray.shown())));
    }
    Ok(())
}

/// What is below a mount point of aufs on which nothing is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The mount point's name in `aufs/mnt`.
    pub name: Vec<u8>,
    /// How many names it holds.
    pub count: usize,
    /// The first of them.
    pub names: Vec<Vec<u8>>,
}

impl Stray {
    /// The names in one line.
    pub fn shown(&self) -> String {
        crate::text::few(self.names.iter().map(|n| crate::text::bytes(n)), self.count)
    }
}

/// Looks below the mount points in `aufs/mnt`.
pub fn strays(mnt: &Dir) -> Result<Vec<Stray>> {
    const SHOWN: usize = 3;
    let mut out = Vec::new();
    for (name, kind) in mnt.list()? {
        // a mount point isn't entered
        let Some(dir) = (kind == FileType::Directory).then(|| mnt.try_open(&name).ok()).flatten() else { continue };
        let mut names: Vec<Vec<u8>> = dir.list()?.into_iter().map(|(n, _)| n).collect();
        if !names.is_empty() {
            let count = names.len();
            names.sort();
            names.truncate(SHOWN);
            out.push(Stray { name, count, names });
        }
    }
    Ok(out)
}

/// The layer whose directory a name is, if it is one.
fn read_diff(
    root: &Dir,
    diff: &Dir,
    name: &[u8],
    kind: FileType,
    findings: &mut Vec<Finding>,
) -> Result<Option<(LayerId, Diff)>> {
    let id = named(name, LayerId::parse);
    let finding = match (id, kind) {
        _ if name.ends_with(b"-removing") => removing("aufs/diff", name),
        (Some(id), FileType::Directory) => return Ok(Some((id, Diff::Here))),
        (Some(id), FileType::Symlink) => match moved(root, &id, &diff.read_link(name)?)? {
            Some(rel) => return Ok(Some((id, Diff::Moved(rel)))),
            None => {
                let what = "its directory in aufs/diff is a symlink to another place";
                Finding::new("D01", format!("layer {}", id.short()), what)
                    .effect("unaufs doesn't follow the symlink; the layer counts as missing")
            }
        },
        _ => strange("aufs/diff", name),
    };
    findings.push(finding);
    Ok(None)
}

/// The two places to which Docker up to 0.6 could link a layer that it could not rename: `graph/<id>/layer` and
/// `containers/<id>/rw` (FORMATS 1.1). ROOT may have moved since, so only the end of the target counts; it is opened below ROOT.
fn moved(root: &Dir, id: &LayerId, target: &[u8]) -> Result<Option<String>> {
    for rel in [format!("graph/{id}/layer"), format!("containers/{id}/rw")] {
        let suffix = format!("/{rel}");
        if target.ends_with(suffix.as_bytes()) && root.stat_opt(&rel)?.is_some_and(|m| m.is_dir()) {
            return Ok(Some(rel));
        }
    }
    Ok(None)
}

/// The list, or what a crash left of it: its last line is the beginning of an id, or NUL bytes.
fn listed(text: &[u8]) -> Listed {
    let written = text.iter().rposition(|c| *c != 0).map_or(0, |last| last + 1);
    let (text, zeros) = text.split_at(written);
    let (lines, tail) = text.split_at(text.iter().rposition(|c| *c == b'\n').map_or(0, |end| end + 1));
    let whole = |text: &[u8]| parse_layers(text);
    match (whole(text), whole(lines)) {
        (Ok(ids), _) if zeros.is_empty() && (tail.is_empty() || ids.last().is_some_and(is_dockers)) => {
            Listed::Whole(ids)
        }
        (_, Ok(ids)) if tail.iter().all(|c| c.is_ascii_hexdigit() || b"-init".contains(c)) => {
            Listed::Cut(ids, String::from_utf8_lossy(tail).into_owned())
        }
        (Err(e), _) | (_, Err(e)) => Listed::Bad(e.chain()),
        _ => Listed::Bad("it isn't a list of layers".to_owned()),
    }
}

/// Is it as long as the ids that Docker makes?
fn is_dockers(id: &LayerId) -> bool {
    id.as_str().strip_suffix("-init").unwrap_or(id.as_str()).len() == 64
}

/// One id a line; empty lines are skipped, blanks are not trimmed (FORMATS 1.1).
pub fn parse_layers(text: &[u8]) -> Result<Vec<LayerId>> {
    let text = std::str::from_utf8(text).map_err(|e| Error::corrupt("it isn't text").with_source(e))?;
    let ids: Vec<LayerId> = text.split('\n').filter(|l| !l.is_empty()).map(LayerId::parse).collect::<Result<_>>()?;
    let mut seen = std::collections::BTreeSet::new();
    match ids.iter().find(|id| !seen.insert(*id)) {
        Some(twice) => Err(Error::corrupt(format!("it names {} twice", twice.short()))),
        None => Ok(ids),
    }
}

fn removing(directory: &str, name: &[u8]) -> Finding {
    Finding::new("D04", format!("{directory}/{}", crate::text::bytes(name)), "left over from an interrupted removal")
}

fn strange(directory: &str, name: &[u8]) -> Finding {
    Finding::new("D05", format!("{directory}/{}", crate::text::bytes(name)), "this can't be a Docker layer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_a_crash_cut() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let id = |s: &str| LayerId::parse(s).expect("id");
        let cut = |ids: Vec<LayerId>, tail: &str| Listed::Cut(ids, tail.to_owned());
        for (text, want) in [
            (String::new(), Listed::Whole(vec![])),
            (format!("{a}\n{b}\n"), Listed::Whole(vec![id(&a), id(&b)])),
            (format!("{a}\n{b}"), Listed::Whole(vec![id(&a), id(&b)])),
            (format!("{a}\n{}", &b[..40]), cut(vec![id(&a)], &b[..40])),
            (b[..7].to_owned(), cut(vec![], &b[..7])),
            (format!("{a}-in"), cut(vec![], &format!("{a}-in"))),
            (format!("{a}\n{}\0\0\0", &b[..40]), cut(vec![id(&a)], &b[..40])),
            ("\0".repeat(65), cut(vec![], "")),
        ] {
            assert_eq!(listed(text.as_bytes()), want, "{text:?}");
        }
        for bad in [format!("{a} \n"), format!("{a}\n{a}\n"), "../x".to_owned(), format!("\0{a}\n")] {
            assert!(matches!(listed(bad.as_bytes()), Listed::Bad(_)), "{bad:?}");
        }
    }

    #[test]
    fn layer_lists() {
        let id = |c: char| c.to_string().repeat(64);
        let (a, b) = (id('a'), id('b'));
        let parsed = |t: &str| parse_layers(t.as_bytes()).map(|v| v.iter().map(|i| i.to_string()).collect::<Vec<_>>());
        assert_eq!(parsed("").expect("empty is a base"), Vec::<String>::new());
        assert_eq!(parsed(&format!("{a}\n{b}\n")).expect("two"), vec![a.clone(), b.clone()]);
        assert_eq!(parsed(&format!("\n{a}\n\n{b}")).expect("empty lines"), vec![a.clone(), b.clone()]);
        assert_eq!(parsed(&format!("{a}-init\n{b}\n")).expect("init").len(), 2);
        for bad in [
            "../../etc\n",
            "/etc\n",
            " \n",
            "a/b\n",
            &format!("{a} \n"),
            &format!("{a}\r\n"),
            &format!("{a}\n{a}\n"),
            "\0",
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
        assert!(parse_layers(b"\xff").is_err());
    }
}
