//! Directories of other drivers next to the new store: with them a dockerd that nobody told its driver may not start.

use crate::checks::{Finding, Level};
use crate::disk::{Dir, FileType};
use crate::docker::choice::{self, Choice, Home, Version};
use crate::docker::driver::Target;
use crate::error::Result;
use crate::plan::Options;

/// Foretells what dockerd does on a root with these directories: the installed one, or all, if none is known.
pub(super) fn check(
    root: &Dir,
    to: Target,
    installed: Option<Version>,
    there: &[(&'static str, Home)],
    out: &mut Vec<Finding>,
) {
    let works = |v: Version| choice::unnamed(v, there) == Choice::Starts(to.name().to_owned());
    // an older one than the installed is not asked; before 17.12 an empty directory counts too
    let since = installed.unwrap_or((17, 12));
    let bad: Vec<Version> = choice::turns().filter(|v| *v >= since && !works(*v)).collect();
    let now = installed.filter(|v| *v >= (1, 12) && !works(*v));
    if bad.is_empty() && now.is_none() {
        return;
    }
    let (fix, path) = (format!("set \"storage-driver\": \"{to}\" in daemon.json"), crate::text::path(root.label()));
    let others: Vec<&str> = there.iter().map(|(n, _)| *n).filter(|n| *n != to.name()).collect();
    let which = now.or_else(|| bad.first().copied());
    let said = which.map(|v| said(v, &choice::unnamed(v, there))).unwrap_or_default();
    let level = match installed {
        Some(_) if now.is_none() => Level::Info,
        _ => Level::Warn,
    };
    let subject = if others.is_empty() { "daemon.json".to_owned() } else { format!("{}/", others.join("/, ")) };
    let fix = match others.first() {
        Some(_) => format!("{fix}, or move {subject} out of {path} if you don't need the contents"),
        None => fix,
    };
    let effect = match level {
        Level::Info => "the installed Docker starts with the new store anyway".to_owned(),
        _ => "Docker doesn't use the new store until daemon.json names it".to_owned(),
    };
    out.push(Finding::new("T11", subject, said).level(level).fix(fix).effect(effect));
}

fn said(version: Version, choice: &Choice) -> String {
    let (major, minor) = version;
    let docker = match (major, minor) {
        (_, 0) => format!("Docker {major}"),
        (17..20, _) => format!("Docker {major}.{minor:02}"),
        _ => format!("Docker {major}.{minor}"),
    };
    match choice {
        Choice::Several(all) => {
            // Debian's 28.5 has no zfs, and doesn't look for its directory
            let built = if all.len() == 2 && all.iter().any(|d| d == "zfs") { " if it is built with zfs" } else { "" };
            let all = all.join(", ");
            format!("{docker} doesn't start here{built}: it finds directories of several drivers ({all})")
        }
        Choice::Unnamed(driver) => {
            format!("{docker} doesn't start here: {driver} is deprecated and must be set in daemon.json")
        }
        Choice::Starts(driver) => format!("{docker} starts with {driver}"),
        Choice::Fresh => format!("{docker} doesn't find the new store by itself"),
    }
}

/// The drivers' directories as they are after the switch.
pub(super) fn will_be_there(root: &Dir, options: &Options) -> Result<Vec<(&'static str, Home)>> {
    match options.target {
        // nothing of the others goes to a new root
        Some(_) => Ok(vec![(options.to.name(), Home::Filled)]),
        None => Ok(is_there(root, options.to)?.into_iter().filter(|(name, _)| *name != "aufs").collect()),
    }
}

/// The drivers' directories that are there now; the target's counts as filled.
pub(super) fn is_there(root: &Dir, to: Target) -> Result<Vec<(&'static str, Home)>> {
    let mut out = vec![(to.name(), Home::Filled)];
    for name in choice::LOOKED_FOR.into_iter().filter(|name| *name != to.name()) {
        out.extend(home(root, name)?.map(|home| (name, home)));
    }
    Ok(out)
}

fn home(root: &Dir, name: &str) -> Result<Option<Home>> {
    let Some(m) = root.stat_opt(name)? else { return Ok(None) };
    let empty = match m.kind {
        FileType::Directory => {
            root.try_open(name.as_bytes()).ok().map(|d| d.list()).transpose()?.is_some_and(|l| l.is_empty())
        }
        // dockerd follows it; one that leads nowhere doesn't count
        FileType::Symlink if std::fs::metadata(root.label().join(name)).is_err() => return Ok(None),
        // dockerd can't list a file, and takes it for a directory that is not empty
        _ => false,
    };
    Ok(Some(if empty { Home::Empty } else { Home::Filled }))
}
