//! `--target DIR`: the new root in another place, usually on another disk. Looks only; [`crate::run::units`] copies.
//!
//! ```text
//! ROOT/…                                                   DIR/…
//!   volumes/ network/ swarm/ plugins/ trust/ … ──copy──▶   the same
//!   containers/<id>/: logs, hosts, checkpoints ──copy──▶   containers/<id>/
//!   containers/<id>/config.v2.json  ─paths say DIR──▶      containers/<id>/config.v2.json         (repoint.rs)
//!   aufs/ image/aufs/                          ────────▶   <driver>/ image/<driver>/, as without --target
//!   tmp/ graph/ buildkit/, directories of other drivers        stay in ROOT
//! ```
//!
//! Nothing in ROOT is written, renamed or removed: the journal and the stage lie in `DIR/.unaufs`. A unit of work is one entry of
//! `volumes/`, one container, or one other name at the top.

pub mod destination;
pub mod repoint;

use super::switch::STATE;
use crate::checks::{Finding, Level};
use crate::disk::mounts::Room;
use crate::disk::{Dir, FileType, Meta, split};
use crate::error::{Error, Result};
use crate::ids::ContainerId;
use crate::store::Store;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Component, Path, PathBuf};

pub use destination::Destination;

/// The new root, where it is not the old one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewRoot {
    /// Its real path.
    pub path: String,
    /// Its file system's type.
    pub fs: String,
    /// Room on that.
    pub room: Room,
    /// The directory is not there yet: it is made, and a rollback with `--drop-new` removes it.
    pub made: bool,
    /// Directories that are made for what is put into them, parents first.
    #[serde(with = "super::paths")]
    pub frames: Vec<Vec<u8>>,
    /// What is copied.
    #[serde(rename = "carried")]
    pub units: Vec<Unit>,
    /// Names of the old root that are not copied.
    pub stays: Vec<Stays>,
}

/// Something that is copied: a directory with all that is in it, or one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Below both roots.
    #[serde(with = "super::path")]
    pub path: Vec<u8>,
    /// A directory, but a mount point: an empty one is made.
    #[serde(default)]
    pub mount: bool,
    /// What it holds.
    #[serde(flatten)]
    pub size: Size,
    /// Symlinks that lead to the right place from the new root too, by their path below `path`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Below `path`: files that are written again, mount points and those symlinks.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "super::paths")]
    pub leave: Vec<Vec<u8>>,
}

/// What a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Names that are not directories.
    pub files: u64,
    /// Directories, the tree's own included.
    #[serde(rename = "folders")]
    pub directories: u64,
    /// Inodes that are not directories.
    pub inodes: u64,
    /// Bytes of content, each inode once.
    pub bytes: u64,
    /// Bytes that all of it takes on the disk.
    pub allocated: u64,
    /// Of these, what the directories take.
    #[serde(default, rename = "folder_bytes")]
    pub dir_bytes: u64,
}

impl Size {
    /// Adds another.
    pub fn add(&mut self, s: Size) {
        self.files += s.files;
        self.directories += s.directories;
        self.inodes += s.inodes;
        self.bytes += s.bytes;
        self.allocated += s.allocated;
        self.dir_bytes += s.dir_bytes;
    }
}

/// A symlink that gets another target in the new root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Below the unit; empty if it is the unit itself.
    #[serde(with = "super::path")]
    pub path: Vec<u8>,
    /// Its new target.
    #[serde(with = "super::path")]
    pub to: Vec<u8>,
}

/// A name that stays in the old root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stays {
    /// Its name.
    #[serde(with = "super::path")]
    pub name: Vec<u8>,
    /// Why.
    pub reason: String,
}

impl NewRoot {
    /// All that is copied.
    pub fn total(&self) -> Size {
        let mut out = Size::default();
        self.units.iter().for_each(|c| out.add(c.size));
        out
    }

    /// The names at the top of the new root that are copied or hold what is.
    pub fn tops(&self) -> BTreeSet<String> {
        let paths = self.frames.iter().chain(self.units.iter().map(|c| &c.path));
        let top = |p: &Vec<u8>| p.split(|c| *c == b'/').next().map(|t| String::from_utf8_lossy(t).into_owned());
        paths.filter_map(top).collect()
    }

    /// Leaves out the directories of containers that do not move.
    pub fn keep_containers(&mut self, moves: impl Fn(&str) -> bool) {
        self.units.retain(|c| match c.path.strip_prefix(b"containers/") {
            Some(id) => moves(&String::from_utf8_lossy(id)),
            None => true,
        });
    }
}

impl Unit {
    /// Its name in the journal and in reports.
    pub fn name(&self) -> String {
        crate::text::bytes(&self.path)
    }
}

/// Directories in ROOT that belong to a storage driver.
const DRIVERS: [&str; 9] =
    ["aufs", "btrfs", "devicemapper", "fuse-overlayfs", "overlay", "overlay2", "overlayfs", "windowsfilter", "zfs"];

/// Finds what is copied, and counts it.
pub fn look(root: &Dir, store: &Store, place: &Destination) -> Result<(NewRoot, Vec<Finding>)> {
    let mut out = NewRoot {
        path: place.path.to_string_lossy().into_owned(),
        fs: place.fs()?,
        room: place.room()?,
        made: place.dir.is_none(),
        frames: Vec::new(),
        units: Vec::new(),
        stays: Vec::new(),
    };
    let mut findings = Vec::new();
    for (name, kind) in root.list()? {
        if let Some(reason) = stays(root, store, &name, kind)? {
            out.stays.push(Stays { name, reason });
        } else if kind == FileType::Directory && is_frame(&name) && !is_mount(root, &name)? {
            frame(root, store, &name, &mut out)?;
        } else {
            let unit = unit(root, &out.path, name, Vec::new())?;
            out.units.push(unit);
        }
    }
    others(store, root, &mut findings)?;
    tell(&out, root, &mut findings)?;
    Ok((out, findings))
}

/// Directories whose entries are copied one by one.
fn is_frame(name: &[u8]) -> bool {
    matches!(name, b"containers" | b"image" | b"volumes" | b"vfs")
}

/// Why a name at the top is not copied.
fn stays(root: &Dir, store: &Store, name: &[u8], kind: FileType) -> Result<Option<String>> {
    let Ok(text) = std::str::from_utf8(name) else {
        return Ok(Some("Docker never makes such a name".to_owned()));
    };
    let reason = match text {
        STATE => "a file of unaufs",
        "lost+found" => "a file of the file system",
        "tmp" => "temporary files",
        "graph" => "it was converted",
        _ if text.starts_with("repositories-") => "it was converted",
        _ if store.caches.iter().any(|c| c == text) => "a cache that only the old driver can read",
        _ if DRIVERS.contains(&text) => "layers of a storage driver",
        // volumes of before Docker 1.7 lie in vfs/dir too
        "vfs" if root.has("image/vfs")? => "layers of a storage driver",
        _ if text.ends_with(".temp") || text.ends_with(".tmp") || text.ends_with(".migrated") => "left by another tool",
        _ if kind == FileType::Directory && crate::store::remapped(name) => "a separate data root for userns-remap",
        _ => return Ok(None),
    };
    Ok(Some(reason.to_owned()))
}

fn frame(root: &Dir, store: &Store, name: &[u8], out: &mut NewRoot) -> Result<()> {
    out.frames.push(name.to_vec());
    let moved: HashSet<&str> = store.layers.values().filter_map(|l| l.moved_to.as_deref()).collect();
    for (sub, kind) in root.open(name)?.list()? {
        let path = [name, b"/", &sub].concat();
        let text = String::from_utf8_lossy(&sub).into_owned();
        match name {
            b"containers" => {
                let Some(c) = ContainerId::parse(&text).ok().and_then(|id| store.containers.get(&id)) else { continue };
                let mut leave: Vec<Vec<u8>> = c.files.iter().map(|f| f.name.clone().into_bytes()).collect();
                if moved.contains(format!("containers/{text}/rw").as_str()) {
                    leave.push(b"rw".to_vec());
                }
                out.units.push(unit(root, &out.path, path, leave)?);
            }
            b"image" if kind == FileType::Directory && (DRIVERS.contains(&&*text) || text == "vfs") => {}
            b"vfs" if kind == FileType::Directory && text == "dir" && !is_mount(root, &path)? => {
                out.frames.push(path.clone());
                for (volume, _) in root.open(&path)?.list()? {
                    let path = [&path[..], b"/", &volume].concat();
                    out.units.push(unit(root, &out.path, path, Vec::new())?);
                }
            }
            _ => out.units.push(unit(root, &out.path, path, Vec::new())?),
        }
    }
    Ok(())
}

fn unit(root: &Dir, new: &str, path: Vec<u8>, mut leave: Vec<Vec<u8>>) -> Result<Unit> {
    let links = links(root, new, &path)?;
    leave.extend(links.iter().map(|l| l.path.clone()).filter(|p| !p.is_empty()));
    let counted = count(root, &path, &leave)?;
    leave.extend(counted.mounts);
    Ok(Unit { mount: counted.mount, size: counted.size, links, leave, path })
}

/// The symlinks of a unit that would lead elsewhere from the new root: the unit itself, and a volume's `_data`, which Docker 1.7 to 1.10
/// made for a volume from before.
fn links(root: &Dir, new: &str, path: &[u8]) -> Result<Vec<Link>> {
    let mut out = Vec::new();
    let data = [path, b"/_data"].concat();
    let inner = path.starts_with(b"volumes/").then_some((&data[..], &b"_data"[..]));
    for (at, below) in std::iter::once((path, &b""[..])).chain(inner) {
        let (dir, name) = split(at);
        let holder = match root.try_open(dir) {
            Ok(dir) => dir,
            // what is no directory has nothing in it; a mount point is not entered
            Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
            Err(e) => return Err(Error::io(format!("open directory {}", root.show(dir)), e)),
        };
        if holder.try_stat(name).is_ok_and(|m| m.kind == FileType::Symlink)
            && let Some(to) = led(root, new, holder.label(), &holder.read_link(name)?)
        {
            out.push(Link { path: below.to_vec(), to });
        }
    }
    Ok(out)
}

/// The target of a symlink in the new root, where it can't stay what it is: a relative one that leaves the old root, and an absolute one into
/// it, whose other end is copied too.
fn led(root: &Dir, new: &str, holder: &Path, target: &[u8]) -> Option<Vec<u8>> {
    let (old, target) = (root.label(), crate::disk::os(target));
    if let Some(volume) = old_volume(target).filter(|v| root.has(format!("vfs/dir/{v}")).unwrap_or(false)) {
        return Some(format!("{new}/vfs/dir/{volume}").into_bytes());
    }
    if target.is_absolute() {
        let below = target.strip_prefix(old).ok()?;
        return Some(Path::new(new).join(below).into_os_string().into_encoded_bytes());
    }
    let joined = holder.join(target);
    // where nothing is there, as the text says
    let real = std::fs::canonicalize(&joined).unwrap_or_else(|_| plain(&joined));
    (!real.starts_with(old)).then(|| real.into_os_string().into_encoded_bytes())
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// The volume from before Docker 1.7 that an absolute path leads to: `/…/vfs/dir/<volume>`, wherever the root was then.
fn old_volume(path: &Path) -> Option<&str> {
    let volume = path.file_name()?.to_str()?;
    (path.is_absolute() && path.parent()?.ends_with("vfs/dir")).then_some(volume)
}

fn is_mount(root: &Dir, path: &[u8]) -> Result<bool> {
    match root.try_open(path) {
        Err(Errno::XDEV) => Ok(true),
        Err(Errno::NOTDIR | Errno::LOOP) | Ok(_) => Ok(false),
        Err(e) => Err(Error::io(format!("open directory {}", root.show(path)), e)),
    }
}

/// A tree, counted.
#[derive(Debug, Default)]
pub struct Counted {
    /// It is itself a mount point.
    pub mount: bool,
    /// What it holds.
    pub size: Size,
    /// Mount points in it.
    pub mounts: Vec<Vec<u8>>,
    /// Changes when any name, type, owner, mode, size or time in it changes; in any order of reading.
    pub state: u64,
}

/// Counts what is at a path below ROOT, but for what is left out. Mount points are not entered.
pub fn count(root: &Dir, path: &[u8], leave: &[Vec<u8>]) -> Result<Counted> {
    let (holder, name) = root.parent_of(path)?;
    let m = holder.stat(name)?;
    let mut out = Counted::default();
    let mut seen = HashSet::new();
    note(&mut out, &mut seen, b"", &m);
    if !m.is_dir() {
        return Ok(out);
    }
    let top = match holder.try_open(name) {
        Ok(top) => top,
        Err(Errno::XDEV) => {
            out.mount = true;
            return Ok(out);
        }
        Err(e) => return Err(Error::io(format!("open directory {}", holder.show(name)), e)),
    };
    let mut todo = vec![Vec::new()];
    while let Some(at) = todo.pop() {
        let dir = match top.try_open(&at) {
            Ok(dir) => dir,
            Err(Errno::XDEV) => {
                out.mounts.push(at);
                continue;
            }
            Err(e) => return Err(Error::io(format!("open directory {}", top.show(&at)), e)),
        };
        dir.for_each(|name, _, _| {
            let here = crate::disk::join(&at, name);
            if leave.contains(&here) {
                return Ok(());
            }
            let m = dir.stat(name)?;
            note(&mut out, &mut seen, &here, &m);
            if m.is_dir() {
                todo.push(here);
            }
            Ok(())
        })?;
    }
    out.mounts.sort();
    Ok(out)
}

fn note(out: &mut Counted, seen: &mut HashSet<(u64, u64)>, path: &[u8], m: &Meta) {
    let mut hash = DefaultHasher::new();
    (path, m.mode, m.uid, m.gid, m.size, m.mtime, m.ctime, m.ino, m.rdev, m.kind.as_raw_mode()).hash(&mut hash);
    out.state = out.state.wrapping_add(hash.finish());
    if m.is_dir() {
        out.size.directories += 1;
        out.size.allocated += m.allocated;
        out.size.dir_bytes += m.allocated;
        return;
    }
    out.size.files += 1;
    if m.nlink == 1 || seen.insert((m.dev, m.ino)) {
        out.size.inodes += 1;
        out.size.allocated += m.allocated;
        out.size.bytes += if m.is_file() { m.size } else { 0 };
    }
}

/// Stores of other drivers in ROOT, whose images and containers the new root would not have.
fn others(store: &Store, root: &Dir, out: &mut Vec<Finding>) -> Result<()> {
    for driver in DRIVERS.iter().chain(&["vfs"]).filter(|d| **d != "aufs") {
        let images = match root.open_opt(format!("image/{driver}/imagedb/content/sha256"))? {
            Some(dir) => dir.list()?.len(),
            None => 0,
        };
        let containers = store.containers.values().filter(|c| c.foreign && c.driver == *driver).count();
        if images + containers > 0 {
            let what = format!(
                "{} and {} of the storage driver {driver}",
                crate::text::plural(images, "image"),
                crate::text::plural(containers, "container")
            );
            out.push(Finding::new("N02", format!("{driver}/"), what));
        }
    }
    Ok(())
}

fn tell(e: &NewRoot, root: &Dir, out: &mut Vec<Finding>) -> Result<()> {
    let (total, dir) = (e.total(), crate::text::text(&e.path));
    let what = format!(
        "{} in {} and {} are copied",
        crate::text::size(total.bytes),
        crate::text::plural(total.files, "file"),
        crate::text::plural(total.directories, "directory"),
    );
    out.push(Finding::new("N04", dir.clone(), what));
    let remapped = root.label().file_name().is_some_and(|n| crate::store::remapped(n.as_encoded_bytes()));
    let told = if remapped { e.path.rsplit_once('/').map_or("/", |(p, _)| p) } else { &e.path };
    out.push(
        Finding::new("N03", "daemon.json", format!("Docker's data root will be {}", crate::text::text(told))).fix(
            format!(
                "before you start Docker, set \"data-root\": {} in daemon.json (before 17.05: \"graph\")",
                crate::docker::json::string(told)
            ),
        ),
    );
    for c in &e.units {
        let points = c.leave.iter().filter(|l| !c.path.starts_with(b"containers/") || l.contains(&b'/'));
        let own = c.mount.then(|| c.path.clone());
        for point in own.into_iter().chain(points.map(|l| crate::disk::join(&c.path, l))) {
            let shown = crate::text::bytes(&point);
            out.push(
                Finding::new("N05", shown.clone(), "something is mounted here")
                    .fix(format!(
                        "mount it at {dir}/{shown} too before you start Docker, unless Docker mounts it itself"
                    ))
                    .effect("an empty directory is made; mounted files aren't copied"),
            );
        }
        let (holder, name) = root.parent_of(&c.path)?;
        if is_frame(&c.path) && holder.stat(name)?.kind == FileType::Symlink {
            let to = holder.read_link(name)?;
            let now = c.links.first().map_or(&to, |l| &l.to);
            let inside = crate::disk::os(now).starts_with(&e.path);
            let effect = if inside {
                "the target of the symlink is copied too"
            } else {
                "the symlink is copied; both roots use its target"
            };
            let led =
                if *now == to { String::new() } else { format!(", in the new root to {}", crate::text::bytes(now)) };
            out.push(
                Finding::new("N05", c.name(), format!("a symlink to {}{led}", crate::text::bytes(&to)))
                    .level(Level::Info)
                    .effect(effect),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays() {
        let t = tempfile::tempdir().expect("temp dir");
        let root = Dir::open_named(t.path()).expect("open");
        let mut store = Store::empty(crate::store::Generation::Content);
        store.caches.push("buildkit".to_owned());
        for (name, goes) in [
            ("volumes", true),
            ("engine-id", true),
            ("network", true),
            ("vfs", true),
            ("aufs", false),
            ("overlay2", false),
            ("overlay2.temp", false),
            ("tmp", false),
            ("buildkit", false),
            ("repositories-aufs", false),
            (".unaufs", false),
            ("231072.231072", false),
        ] {
            let reason = stays(&root, &store, name.as_bytes(), FileType::Directory).expect("look");
            assert_eq!(reason.is_none(), goes, "{name}: {reason:?}");
        }
        assert!(stays(&root, &store, b"\xff", FileType::Directory).expect("look").is_some());
    }

    #[test]
    fn symlinks_lead_to_the_same_place() {
        let t = tempfile::tempdir().expect("temp dir");
        let at = t.path().canonicalize().expect("path");
        std::fs::create_dir_all(at.join("root/vfs/dir/ab")).expect("mkdir");
        std::fs::create_dir_all(at.join("vols")).expect("mkdir");
        let root = Dir::open_named(&at.join("root")).expect("open");
        let (old, outside) = (at.join("root"), at.join("vols"));
        let old = old.to_str().expect("text");
        for (holder, target, want) in [
            ("", "../vols", Some(outside.to_str().expect("text").to_owned())),
            ("", "../gone/./x", Some(format!("{}/gone/x", at.display()))),
            ("", "vols", None),
            ("volumes", "../vfs/dir/ab", None),
            ("", "/srv/vols", None),
            ("", &format!("{old}/here"), Some("/new/here".to_owned())),
            ("volumes/ab", &format!("{old}/vfs/dir/ab"), Some("/new/vfs/dir/ab".to_owned())),
            ("volumes/ab", "/var/lib/docker/vfs/dir/ab", Some("/new/vfs/dir/ab".to_owned())),
            ("volumes/cd", "/var/lib/docker/vfs/dir/cd", None),
        ] {
            let got = led(&root, "/new", &root.label().join(holder), target.as_bytes());
            assert_eq!(got.map(|g| String::from_utf8(g).expect("text")), want, "{holder} {target}");
        }
    }

    #[test]
    fn trees_are_counted() {
        let t = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir_all(t.path().join("v/a/b")).expect("mkdir");
        std::fs::write(t.path().join("v/a/f"), "12345").expect("write");
        std::fs::hard_link(t.path().join("v/a/f"), t.path().join("v/g")).expect("link");
        let root = Dir::open_named(t.path()).expect("open");
        let c = count(&root, b"v", &[]).expect("count");
        assert_eq!((c.size.files, c.size.inodes, c.size.directories, c.size.bytes), (2, 1, 3, 5));
        assert!(!c.mount && c.mounts.is_empty());
        assert_eq!(c.state, count(&root, b"v", &[]).expect("count").state);
        std::fs::write(t.path().join("v/a/f"), "12346").expect("write");
        assert_ne!(c.state, count(&root, b"v", &[]).expect("count").state);
    }
}
