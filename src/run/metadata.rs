//! Writes Docker's own files of the new store: `image/<driver>` and the containers' configurations.
//!
//! ```text
//! .unaufs/new/image/<driver>/…            as image/aufs/… was, or with other text where it names the driver
//! .unaufs/new/containers/<id>/config.v2.json, hostconfig.json
//! .unaufs/old/…                           empty directories, in which the switch parks what is replaced
//! ```

use super::{Locked, units};
use crate::disk::attrs::XattrScope;
use crate::disk::copy::{Ability, Original, copy_object};
use crate::disk::{Dir, split};
use crate::docker::json;
use crate::error::{Error, Kind, Result};
use crate::plan::switch::OLD;
use crate::plan::{Plan, PlanFile};
use crate::progress::Progress;
use crate::store::{Content, edited};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Writes all of them into the stage `new`; what an earlier attempt has left is removed first.
pub(super) fn write(at: &Locked, new: &Dir, plan: &Plan, progress: &dyn Progress) -> Result<()> {
    let driver = plan.options.to.name();
    units::make_way(new, format!("image/{driver}"))?;
    for c in &plan.containers {
        for f in &c.files {
            units::make_way(new, format!("containers/{}/{}", c.id, f.path))?;
        }
    }
    progress.phase("metadata", (plan.metadata.len() + plan.containers.len()) as u64);
    let files = Writer { old: &at.old, plan, ability: Ability::starting(true) };
    files.image(new, progress)?;
    for k in plan.kept().iter().filter(|k| k.commit) {
        let directory = format!("{}/{}", plan.options.to.home(), k.theirs);
        let at = new.ensure(&directory, 0o700)?;
        at.remove_tree(b"committed")?;
        at.write_new("committed", b"", 0o600)?;
    }
    for c in &plan.containers {
        let directory = new.ensure(format!("containers/{}", c.id), 0o700)?;
        if plan.new_root.is_none() {
            at.root.ensure(format!("{OLD}/containers/{}", c.id), 0o700)?;
        }
        c.files.iter().try_for_each(|f| files.write(&directory, f))?;
        progress.step("");
    }
    for m in plan.switch.iter().filter(|m| m.to.starts_with(OLD)) {
        at.root.ensure(split(m.to.as_bytes()).0, 0o700)?;
    }
    Ok(())
}

/// Writes single files.
struct Writer<'a> {
    old: &'a Dir,
    plan: &'a Plan,
    ability: Ability,
}

impl Writer<'_> {
    /// `image/<driver>`: first its directories, then the files of each.
    fn image(&self, new: &Dir, progress: &dyn Progress) -> Result<()> {
        let driver = self.plan.options.to.name();
        let image = new.ensure(format!("image/{driver}"), 0o700)?;
        let mut by_directory: BTreeMap<&[u8], Vec<&PlanFile>> = BTreeMap::new();
        for f in &self.plan.metadata {
            let mut directory = split(f.path.as_bytes()).0;
            by_directory.entry(directory).or_default().push(f);
            while !directory.is_empty() {
                directory = split(directory).0;
                by_directory.entry(directory).or_default();
            }
        }
        // a directory's name sorts before those of what is in it
        for directory in by_directory.keys() {
            self.directory(&image, directory)?;
        }
        by_directory.into_par_iter().try_for_each(|(directory, files)| {
            let at = image.open(directory)?;
            for f in files {
                crate::stop::check()?;
                self.write(&at, f)?;
                progress.step("");
            }
            Ok(())
        })
    }

    /// Makes a directory with the owner and mode that it has in the target's own store, or in the old one.
    fn directory(&self, image: &Dir, path: &[u8]) -> Result<()> {
        let new = image.ensure(path, 0o700)?;
        for driver in [self.plan.options.to.name(), "aufs"] {
            let old = [b"image/", driver.as_bytes(), b"/", path].concat();
            if let Some(m) = self.old.stat_opt(old.strip_suffix(b"/").unwrap_or(&old))? {
                new.set_owner(b".", m.uid, m.gid)?;
                return new.set_mode(b".", m.mode);
            }
        }
        Ok(())
    }

    /// Writes one file into its directory.
    fn write(&self, dir: &Dir, f: &PlanFile) -> Result<()> {
        let name = split(f.path.as_bytes()).1;
        match &f.content {
            Content::Text(text) => dir.write_new(name, text.as_bytes(), 0o600),
            Content::TarSplitOf(id) => {
                let layer = self
                    .plan
                    .layer(id)
                    .ok_or_else(|| Error::corrupt(format!("layer {} is not in the plan", id.short())))?;
                let made = crate::tar::branchtar::record(&self.old.open(&layer.source)?, dir.create(name)?)?;
                match layer.diff_id {
                    Some(planned) if planned != made.diff => Err(Error::new(
                        Kind::Stale,
                        format!("layer {} has changed since the plan was made", id.short()),
                    )),
                    _ => Ok(()),
                }
            }
            Content::Same(from) => {
                let (old, old_name) = self.old.parent_of(from.as_bytes())?;
                let meta = old.stat(old_name)?;
                let original = Original { dir: &old, name: old_name, meta: &meta, ability: &self.ability, moved: None };
                copy_object(&original, dir, name, XattrScope::Plain).map(drop)
            }
            Content::Edited(from, changes) => {
                let (old, old_name) = self.old.parent_of(from.as_bytes())?;
                let m = old.stat(old_name)?;
                let bytes = old.read(old_name, json::LIMIT)?;
                let new = edited(&bytes, changes, self.plan.options.to.name()).map_err(|e| e.on(old.show(old_name)))?;
                dir.write_new(name, &new, m.mode)?;
                dir.set_owner(name, m.uid, m.gid)?;
                dir.set_mode(name, m.mode)
            }
        }
        .map_err(|e| e.on(format!("metadata file {}", f.path)))
    }
}
