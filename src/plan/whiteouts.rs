//! Whiteouts of names that no layer below shows.

use crate::disk::{Dir, FileType};
use crate::error::{Error, Result};
use crate::ids::LayerId;
use crate::layer::branch::{self, Branch, Format};
use crate::layer::view::Chain;
use crate::store::{Layer, Store};
use rustix::io::Errno;

/// How many of the layer's whiteouts, which are `all` in number, hide nothing.
pub fn idle(root: &Dir, store: &Store, layer: &Layer, all: u64) -> Result<u64> {
    let branch = |id: &LayerId| -> Result<Branch> {
        let source = store.layers.get(id).map(Layer::source).unwrap_or_default();
        Ok(Branch { id: Some(id.clone()), dir: root.open(source)?, format: Format::Aufs })
    };
    let below = Chain { branches: layer.lowers.iter().map(branch).collect::<Result<_>>()? };
    let mut hide = 0;
    walk(&below, &root.open(layer.source())?, &below.open(&below.root(), b"")?, true, &mut hide)?;
    Ok(all.saturating_sub(hide))
}

/// `own` is a directory of the layer that the view below has too, merged of `dirs`.
fn walk(below: &Chain, own: &Dir, dirs: &[(u16, Dir)], at_root: bool, hide: &mut u64) -> Result<()> {
    let marks = branch::markers(own, Format::Aufs, at_root)?;
    if marks.opaque && !at_root {
        return Ok(());
    }
    for name in &marks.whiteouts {
        *hide += u64::from(shows(dirs, name)?);
    }
    let mut common = Vec::new();
    branch::for_each_entry(own, Format::Aufs, at_root, |name, kind, _| {
        if kind == FileType::Directory && !marks.whiteouts.contains(name) {
            let merged = below.step(dirs, name)?;
            if !merged.is_empty() {
                common.push((name.to_vec(), merged));
            }
        }
        Ok(())
    })?;
    for (name, merged) in common {
        let open = |(_, dir): &(u16, Dir)| dir.open(&name);
        let merged: Vec<(u16, Dir)> =
            dirs.iter().filter(|(i, _)| merged.contains(i)).map(|d| Ok((d.0, open(d)?))).collect::<Result<_>>()?;
        walk(below, &own.open(&name)?, &merged, false, hide)?;
    }
    Ok(())
}

/// Does the view show the name?
fn shows(dirs: &[(u16, Dir)], name: &[u8]) -> Result<bool> {
    for (_, dir) in dirs {
        match dir.try_stat(name) {
            Ok(_) => return Ok(true),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(Error::io(format!("stat {}", dir.show(name)), e)),
        }
        if branch::has_whiteout(dir, Format::Aufs, name)? {
            return Ok(false);
        }
    }
    Ok(false)
}
