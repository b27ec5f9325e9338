//! What unaufs makes around the layers: the driver's own directories, with their modes and owners, and no layer that nobody planned.

use super::records::unlike;
use super::seen::Seen;
use super::{By, Case, Difference};
use crate::disk::{Dir, join};
use crate::docker::driver::Target;
use crate::error::Result;
use crate::plan::existing::is_drivers_own;
use crate::target::{Below, MERGED};
use std::collections::HashSet;

/// Looks at the driver's directories and each layer's own.
pub fn check(case: &Case<'_>, seen: &Seen<'_>) -> Result<()> {
    let (to, below) = (case.plan.options.to, Below::of(case.plan));
    let all = case.part == crate::plan::stack::Part::All;
    for layer in case.plan.layers.iter().filter(|l| all || !l.role.writable()) {
        crate::stop::check()?;
        let at = format!("{}/{}", to.home(), layer.id);
        let d = |what: &str| Difference::new("layer", layer.id.as_str(), what).by(By::Records);
        match to.check(case.new, layer, &below) {
            Ok(lines) => {
                for what in &lines {
                    let d = d(what);
                    seen.note(if what == MERGED { d.at(&*at) } else { d });
                }
            }
            Err(e) => seen.failed(d(""), e)?,
        }
        if matches!(to, Target::Overlay2 | Target::Overlay) {
            let style = &case.plan.style;
            let work = format!("{at}/work");
            for (path, mode, owner) in [(&at, style.layer, style.owner), (&work, 0o700, style.root)] {
                match case.new.stat_opt(path) {
                    Ok(m) => {
                        let what = m.and_then(|m| unlike((m.mode, (m.uid, m.gid)), mode, Some(owner)));
                        what.into_iter().for_each(|what| seen.note(d(&format!("{path} {what}"))));
                    }
                    Err(e) => seen.failed(d(""), e)?,
                }
            }
        }
    }
    let failed = |e| seen.failed(Difference::new("metadata", to.name(), "").by(By::Records), e);
    tops(case, seen).and_then(|()| strangers(case, seen)).or_else(failed)
}

/// The driver's directories. Next to a store of the target's own they are that store's.
fn tops(case: &Case<'_>, seen: &Seen<'_>) -> Result<()> {
    let (to, style) = (case.plan.options.to, &case.plan.style);
    if case.plan.merge.is_some() {
        return Ok(());
    }
    let second = match to {
        Target::Overlay2 => Some(("overlay2/l", style.links)),
        Target::Overlay => None,
        Target::Vfs | Target::Btrfs => Some((to.home(), style.top)),
    };
    for (path, mode) in [Some((to.name(), style.top)), second].into_iter().flatten() {
        if let Some(m) = case.new.stat_opt(path)?
            && let Some(what) = unlike((m.mode, (m.uid, m.gid)), mode, Some(style.owner))
        {
            seen.note(Difference::new("metadata", path, format!("its directory {what}")).by(By::Records).at(path));
        }
    }
    Ok(())
}

/// Layers of which neither the plan nor the existing target store knows.
fn strangers(case: &Case<'_>, seen: &Seen<'_>) -> Result<()> {
    let plan = case.plan;
    let mut layers: HashSet<&[u8]> = plan.layers.iter().map(|l| l.id.as_str().as_bytes()).collect();
    let mut links: HashSet<&[u8]> = plan.layers.iter().map(|l| l.link.as_bytes()).collect();
    if let Some(m) = &plan.merge {
        layers.extend(m.directories.iter().map(String::as_bytes));
        links.extend(m.links.iter().map(String::as_bytes));
    }
    let stranger = |home: &str, dir: &Dir, known: &HashSet<&[u8]>| -> Result<()> {
        dir.for_each(|name, _, _| {
            let own = is_drivers_own(name) && home != "overlay2/l";
            if !own && !known.contains(name) {
                let at = join(home.as_bytes(), name);
                let id = String::from_utf8_lossy(&at).into_owned();
                seen.note(Difference::new("metadata", id, super::records::EXTRA).by(By::Records).at(at));
            }
            Ok(())
        })
    };
    let home = plan.options.to.home();
    if let Some(dir) = case.new.open_opt(home)? {
        stranger(home, &dir, &layers)?;
        if let Some(l) = dir.open_opt("l")?.filter(|_| plan.options.to == Target::Overlay2) {
            stranger("overlay2/l", &l, &links)?;
        }
    }
    Ok(())
}
