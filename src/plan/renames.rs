//! Whether each rename of the switch can work, told without renaming anything. Asked when the plan is made, and again before the first rename.
//!
//! | what                                                                  | what the kernel would say |
//! |-----------------------------------------------------------------------|---------------------------|
//! | the directory is on another file system, or another btrfs subvolume   | EXDEV                     |
//! | the target directory passes on another project id (xfs, ext4)         | EXDEV                     |
//! | the root is on an overlayfs, and the directory in a lower layer of it | EXDEV                     |
//! | it, or the directory that it is in, is immutable or append-only       | EPERM                     |

use super::host::Machine;
use super::switch::STATE;
use super::{Move, Why};
use crate::checks::Finding;
use crate::disk::flags::Flags;
use crate::disk::mounts::{self, Mount};
use crate::disk::{Dir, split};
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// As many are named.
const NAMED: usize = 20;

/// Looks at each; what would fail is a finding with its fix.
pub fn check(root: &Dir, moves: &[Move], machine: &Machine, out: &mut Vec<Finding>) -> Result<()> {
    let mut look =
        Look { root, dev: root.meta()?.dev, top: root.flags(), seen: BTreeMap::new(), found: BTreeMap::new() };
    // a run's own directory may be there already
    if let Some(state) = root.open_opt(STATE)? {
        look.dev = state.meta()?.dev;
        look.object("", &state.flags(), STATE, false);
    }
    for name in ["containers", "image"] {
        look.parked(name)?;
    }
    for m in moves {
        match m.why {
            Why::Park => look.parked(&m.from)?,
            Why::Install => look.filled(&m.to)?,
        }
    }
    let known: BTreeSet<String> = out.iter().filter(|f| f.id == "H11").map(|f| f.subject.to_string()).collect();
    let found: Vec<Finding> = look.found.into_values().filter(|f| !known.contains(&f.subject.to_string())).collect();
    let more = found.len().saturating_sub(NAMED);
    out.extend(found.into_iter().take(NAMED));
    if more > 0 {
        out.push(
            Finding::new("H19", "more paths", format!("{more} more cannot be renamed"))
                .fix("the same as for the others")
                .effect("the switch would stop there"),
        );
    }
    lower_layer(root, machine, out);
    Ok(())
}

struct Look<'a> {
    root: &'a Dir,
    /// The file system of the state directory.
    dev: u64,
    /// The root's own flags: the state directory inherits the project.
    top: Flags,
    /// Directories that were looked at; are they there?
    seen: BTreeMap<String, Option<Flags>>,
    found: BTreeMap<String, Finding>,
}

impl Look<'_> {
    /// Something that goes to the state directory, and comes back with a rollback.
    fn parked(&mut self, path: &str) -> Result<()> {
        if !self.root.has(path)? {
            return Ok(());
        }
        let (dir, name) = split(path.as_bytes());
        let dir = String::from_utf8_lossy(dir).into_owned();
        self.directory(&dir)?;
        let flags = self.root.parent_of(path.as_bytes())?.0.flags_of(name)?;
        self.object(path, &flags, path, self.top.inherit && flags.project != self.top.project);
        Ok(())
    }

    /// Something new that is put into a directory that is there.
    fn filled(&mut self, path: &str) -> Result<()> {
        let (dir, _) = split(path.as_bytes());
        let dir = String::from_utf8_lossy(dir).into_owned();
        let Some(flags) = self.directory(&dir)? else { return Ok(()) };
        let brought = if self.top.inherit { self.top.project } else { 0 };
        self.object(&dir, &flags, &dir, flags.inherit && flags.project != brought);
        Ok(())
    }

    /// A directory in which names come and go.
    fn directory(&mut self, path: &str) -> Result<Option<Flags>> {
        if let Some(known) = self.seen.get(path) {
            return Ok(*known);
        }
        let dir = self.root.open_opt(path)?;
        let flags = dir.as_ref().map(Dir::flags);
        if let (Some(dir), Some(flags)) = (&dir, &flags) {
            if dir.meta()?.dev != self.dev {
                let p = self.shown(path);
                let fix = format!("mv {p} {p}.subvolume && cp -a --reflink=auto {p}.subvolume {p}");
                self.note("H19", path, "it is a btrfs subvolume or on another file system").fix(fix);
            }
            self.object(path, flags, path, false);
        }
        self.seen.insert(path.to_owned(), flags);
        Ok(flags)
    }

    fn object(&mut self, path: &str, flags: &Flags, named: &str, other_project: bool) {
        if flags.fixed {
            let fix = format!("chattr -ia {}", self.shown(if path.is_empty() { named } else { path }));
            self.note("H11", named, "it is immutable or append-only").fix(fix);
        } else if other_project {
            let why = "its project ID differs from that of its new parent directory";
            let fix = format!(
                "xfs_quota -x -c 'project -C -p {} 0' MOUNTPOINT; chattr -P does the same on ext4",
                self.shown(named)
            );
            self.note("H19", named, why).fix(fix);
        }
    }

    fn shown(&self, path: &str) -> String {
        let shown = self.root.show(path.as_bytes());
        shown.strip_suffix('/').map(str::to_owned).unwrap_or(shown)
    }

    fn note(&mut self, id: &'static str, path: &str, why: &str) -> Noted<'_> {
        let subject = self.shown(path);
        let finding = Finding::new(id, subject, why).effect("it can't be renamed, so the switch would stop there");
        Noted(self.found.entry(path.to_owned()).or_insert(finding))
    }
}

/// A finding that still needs its fix.
struct Noted<'a>(&'a mut Finding);

impl Noted<'_> {
    fn fix(self, fix: String) {
        self.0.fix = Some(fix);
    }
}

/// On an overlayfs a directory of a lower layer cannot be renamed, unless the mount says `redirect_dir=on`.
fn lower_layer(root: &Dir, machine: &Machine, out: &mut Vec<Finding>) {
    let all = mounts::parse(&std::fs::read(machine.file("proc/self/mountinfo")).unwrap_or_default());
    let Some(m) = mounts::holding(&all, root.label()).filter(|m| m.fstype == "overlay") else { return };
    for name in ["aufs", "image", "containers"] {
        if let Some(lower) = in_lower(m, root.label(), name) {
            out.push(
                Finding::new(
                    "H19",
                    root.show(name.as_bytes()),
                    format!("it is in {lower}, a lower layer of an overlayfs"),
                )
                .fix("copy the root to a disk of its own: cp -a, then --root; or --target DIR")
                .effect("it can't be renamed, so the switch would stop there"),
            );
        }
    }
}

fn in_lower(m: &Mount, root: &Path, name: &str) -> Option<String> {
    let option = |key: &str| m.super_options.split(',').find_map(|o| o.strip_prefix(key)?.strip_prefix('='));
    if option("redirect_dir") == Some("on") {
        return None;
    }
    let inner = root.strip_prefix(&m.point).ok()?.join(name);
    let lowers = option("lowerdir")?.split(':');
    lowers.filter(|l| !l.is_empty()).find(|l| Path::new(l).join(&inner).is_dir()).map(crate::text::text)
}
