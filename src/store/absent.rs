//! Why there is no aufs store to read at ROOT: what is there, what is gone, and where the store may be.

use crate::disk::{Dir, FileType};
use crate::error::{Error, Kind, Result};
use crate::text::plural;

/// Is `sub` below `root` a data root with an aufs store?
fn holds_store(root: &Dir, sub: &str) -> bool {
    let has = |path: &str| root.has(format!("{sub}{path}")).unwrap_or(false);
    has("aufs/diff") && (has("image/aufs") || has("graph"))
}

/// Are the layers gone, while the metadata are there? Then that is an error of its own.
pub fn layers_gone(root: &Dir) -> Result<Option<Error>> {
    let diff = match root.open_opt("aufs/diff")? {
        Some(dir) => dir.list()?.len(),
        None => 0,
    };
    let is_id = |(name, _): &(Vec<u8>, FileType)| name.len() == 64;
    let count = |path: &str| -> Result<usize> {
        // what is in the place of a directory is named later
        let list = root.try_open(path.as_bytes()).ok().map(|d| d.list()).transpose()?.unwrap_or_default();
        Ok(list.into_iter().filter(is_id).count())
    };
    let records = count("image/aufs/layerdb/sha256")?.max(count("graph")?);
    if diff > 0 || records == 0 {
        return Ok(None);
    }
    let label = crate::text::path(root.label());
    let aufs = root.open_opt("aufs")?;
    let what = match &aufs {
        None => format!("{label}/aufs is missing"),
        Some(dir) if dir.list()?.is_empty() => format!("{label}/aufs is an empty directory"),
        Some(_) => format!("{label}/aufs/diff holds no layer"),
    };
    let images = count("image/aufs/imagedb/content/sha256")?.max(count("graph")?);
    let there = format!(
        "the metadata still names {}, {} and {}, but their files were in aufs/",
        plural(images, "image"),
        plural(records, "layer"),
        plural(count("containers")?, "container")
    );
    let mut hint =
        "Restore aufs/ from a backup: the files aren't in this data root any more, and no tool can bring them back. Volumes aren't affected.".to_owned();
    if root.on_btrfs()? && aufs.is_some() {
        hint += " In a btrfs snapshot, a subvolume is an empty directory. The files are in the original subvolume.";
    }
    Ok(Some(Error::new(Kind::NoStore, format!("the layers are gone: {what}; {there}")).hint(hint)))
}

/// Why there is nothing to migrate here, and what the user may have meant.
pub fn no_store(root: &Dir) -> Result<Error> {
    let label = crate::text::path(root.label());
    for path in ["aufs", "image", "graph"] {
        if root.stat_opt(path)?.is_some_and(|m| m.kind == FileType::Symlink) {
            return Ok(Error::new(
                Kind::NoStore,
                format!("{label}/{path} is a symlink; there is no aufs store below {label}"),
            )
            .hint("unaufs doesn't follow symlinks in a data root. Put the directory itself in its place."));
        }
    }
    let e = Error::new(Kind::NoStore, format!("there is no aufs store at {label}"));
    if let Some(hint) = nearby(root)? {
        return Ok(e.hint(hint));
    }
    if root.has(".unaufs")? {
        return Ok(e.hint("unaufs has migrated this data root. Run `unaufs status`."));
    }
    for driver in ["overlay2", "overlay", "btrfs", "devicemapper", "zfs", "vfs"] {
        if root.has(format!("image/{driver}"))? {
            return Ok(e.hint(format!("This Docker uses {driver}. You don't need unaufs.")));
        }
    }
    if root.has("aufs/diff")? {
        return Ok(e.hint("There is a directory aufs/, but no image/aufs and no graph/: the metadata is lost."));
    }
    Ok(e.hint("A Docker data root has directories such as aufs/, image/ and containers/. Name it with --root."))
}

/// A store one level below or above.
fn nearby(root: &Dir) -> Result<Option<String>> {
    let label = root.label();
    for (name, kind) in root.list()? {
        let Ok(name) = String::from_utf8(name) else { continue };
        if kind != FileType::Directory || !holds_store(root, &format!("{name}/")) {
            continue;
        }
        let sub = crate::text::path(&label.join(&name));
        return Ok(Some(match super::remapped(name.as_bytes()) {
            true => format!("This data root belongs to a Docker with userns-remap. Use --root {sub}."),
            false => format!("There is an aufs store at {sub}. Use --root {sub}."),
        }));
    }
    // another path than the user's, so what can't be opened there is no error
    let above = label.parent().and_then(|p| Dir::open_named(p).ok()).filter(|dir| holds_store(dir, ""));
    Ok(above.map(|dir| {
        let above = crate::text::path(dir.label());
        format!("{} is part of the data root {above}. Use --root {above}.", crate::text::path(label))
    }))
}
