//! What is mounted where, and what a file system can hold.

use super::Dir;
use crate::error::{IoContext, Result};
use std::collections::HashSet;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// One line of `/proc/<pid>/mountinfo` (proc(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number.
    pub(super) id: u64,
    /// The number of the mount that it is mounted on.
    parent: u64,
    /// The number of the device, `major:minor`.
    pub device: String,
    /// The directory of that file system that is mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// The type of the file system.
    pub fstype: String,
    /// The device, or what represents it.
    pub source: String,
    /// The options of this mount, comma separated.
    pub options: String,
    /// The options of the file system, comma separated.
    pub super_options: String,
}

/// Parses mountinfo. Lines that make no sense are left out: they cannot name a path below ROOT.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|c| *c == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|c| *c == b' ').collect();
    let dash = fields.iter().position(|f| *f == b"-")?;
    let text = |f: &[u8]| String::from_utf8_lossy(&unescape(f)).into_owned();
    let number = |i: usize| std::str::from_utf8(fields.get(i)?).ok()?.parse().ok();
    Some(Mount {
        id: number(0)?,
        parent: number(1)?,
        device: text(fields.get(2)?),
        root: super::os(&unescape(fields.get(3)?)).to_owned(),
        point: super::os(&unescape(fields.get(4)?)).to_owned(),
        options: text(fields.get(5)?),
        fstype: text(fields.get(dash + 1)?),
        source: text(fields.get(dash + 2)?),
        super_options: fields.get(dash + 3).map(|f| text(f)).unwrap_or_default(),
    })
}

/// The kernel writes blank, tab, newline and backslash as `\040` and so on.
fn unescape(f: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(f.len());
    let mut i = 0;
    while i < f.len() {
        let octal = f.get(i + 1..i + 4).filter(|d| f[i] == b'\\' && d.iter().all(|c| (b'0'..=b'7').contains(c)));
        if let Some(d) = octal {
            out.push(d.iter().fold(0u32, |v, c| v * 8 + u32::from(c - b'0')) as u8);
            i += 4;
        } else {
            out.push(f[i]);
            i += 1;
        }
    }
    out
}

/// The mounts that this process sees.
pub fn mine() -> Result<Vec<Mount>> {
    let text = std::fs::read("/proc/self/mountinfo").on(|| "read /proc/self/mountinfo".to_owned())?;
    Ok(parse(&text))
}

/// Something that is mounted below a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Below {
    /// Where, as the process that sees it knows the path.
    pub point: PathBuf,
    /// The same, below the root.
    pub inside: PathBuf,
    /// The type of the file system.
    pub fstype: String,
}

/// The mounts strictly below `root`, in any mount namespace that `/proc` shows, each point once. Also where the root is known by another
/// path there, as through a bind mount.
pub fn below(root: &Path) -> Result<Vec<Below>> {
    below_in(Path::new("/proc"), root)
}

/// The same, with `/proc` at another place.
pub fn below_in(proc: &Path, root: &Path) -> Result<Vec<Below>> {
    let own = parse(&std::fs::read(proc.join("self/mountinfo")).unwrap_or_default());
    let ours = holding(&own, root).and_then(|m| Some((m.device.clone(), within(m, root)?)));
    let (mut out, mut seen) = (Vec::new(), HashSet::new());
    for pid in std::fs::read_dir(proc).on(|| format!("list {}", proc.display()))?.flatten() {
        if !pid.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let sees = sees(&pid.path());
        if seen.contains(&sees) {
            continue;
        }
        // a process that has ended since, or one that we may not look into
        if let Ok(text) = std::fs::read(pid.path().join("mountinfo")) {
            seen.insert(sees);
            let all = parse(&text);
            out.extend(all.iter().filter_map(|m| inside(m, &all, root, ours.as_ref())));
        }
    }
    out.sort_by(|a, b| a.point.cmp(&b.point));
    out.dedup_by(|a, b| a.point == b.point);
    Ok(out)
}

/// What decides which mounts a process sees: its mount namespace and its root directory (proc(5), `mountinfo`). The process itself, if that can't be
/// told.
fn sees(process: &Path) -> (PathBuf, PathBuf) {
    let at = |name: &str| std::fs::read_link(process.join(name));
    match (at("ns/mnt"), at("root")) {
        (Ok(namespace), Ok(root)) => (namespace, root),
        _ => (process.to_owned(), PathBuf::new()),
    }
}

/// Is this mount below the root, by its path or by the directory of the file system that it covers?
fn inside(m: &Mount, all: &[Mount], root: &Path, ours: Option<&(String, PathBuf)>) -> Option<Below> {
    let by_path = || m.point.strip_prefix(root).ok().map(Path::to_owned);
    let by_directory = || {
        let (device, directory) = ours?;
        let on = all.iter().find(|o| o.id == m.parent && o.device == *device)?;
        within(on, &m.point)?.strip_prefix(directory).ok().map(Path::to_owned)
    };
    let found = by_path().or_else(by_directory).filter(|p| !p.as_os_str().is_empty())?;
    Some(Below { point: m.point.clone(), inside: found, fstype: m.fstype.clone() })
}

/// The directory of the file system that a path below the mount is.
pub(super) fn within(m: &Mount, path: &Path) -> Option<PathBuf> {
    path.strip_prefix(&m.point).ok().map(|rest| m.root.join(rest))
}

/// The mount that a path is on; later lines cover earlier ones at the same point.
pub fn holding<'m>(all: &'m [Mount], path: &Path) -> Option<&'m Mount> {
    let on = all.iter().filter(|m| path.starts_with(&m.point)).enumerate();
    on.max_by_key(|(i, m)| (m.point.components().count(), *i)).map(|(_, m)| m)
}

/// The number of the mount that a descriptor was opened through (proc(5), since Linux 3.15); `None` where it cannot be told.
pub fn id(fd: BorrowedFd<'_>) -> Option<u64> {
    if super::fault::without_mount_ids() {
        return None;
    }
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    text.lines().find_map(|l| l.strip_prefix("mnt_id:")?.trim().parse().ok())
}

/// The mount that a path is on.
pub fn of(path: &Path) -> Result<Option<Mount>> {
    Ok(holding(&mine()?, path).cloned())
}

/// Is `inner`, opened below `outer` and on another device, on another mount? Not so a subvolume of a btrfs. Before Linux 3.15 the kernel
/// doesn't number the mounts of descriptors; then the list of mount points says it.
pub fn crossed(outer: BorrowedFd<'_>, inner: BorrowedFd<'_>) -> bool {
    match (id(outer), id(inner)) {
        (Some(outer), Some(inner)) => outer != inner,
        _ => {
            let path = std::fs::read_link(format!("/proc/self/fd/{}", inner.as_raw_fd()));
            // what can't be told is not entered
            let all = path.ok().zip(mine().ok());
            all.is_none_or(|(path, all)| all.iter().any(|m| m.point == path))
        }
    }
}

/// Is the directory at this path bound onto itself? aufs's driver did that to make the mount private, and a Docker that was killed left it.
pub fn onto_itself(path: &Path) -> Result<bool> {
    let all = mine()?;
    let Some(here) = all.iter().rev().find(|m| m.point == path) else { return Ok(false) };
    let around = path.parent().and_then(|parent| holding(&all, parent));
    Ok(around.is_some_and(|m| m.device == here.device && within(m, path).is_some_and(|below| below == here.root)))
}

/// Room on a file system.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Room {
    /// Bytes that root may still write.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Inodes that can still be made; `None` where inodes are made on demand (btrfs).
    pub free_inodes: Option<u64>,
    /// Bytes of one allocation unit.
    pub block: u64,
    /// The file system's magic number (statfs(2)).
    pub magic: u64,
    /// A btrfs: how often it keeps its trees, for each copy of the content (2 on a single disk).
    #[serde(default = "once")]
    pub tree_copies: u64,
}

fn once() -> u64 {
    1
}

/// Free bytes and inodes of the file system that a directory is on.
pub fn room(dir: &Dir) -> Result<Room> {
    let s = rustix::fs::fstatfs(dir).on(|| format!("statfs {}", dir.show(b"")))?;
    let unit = u64::try_from(s.f_bsize).unwrap_or(4096);
    let magic = s.f_type as u64 & 0xffff_ffff;
    Ok(Room {
        free_bytes: s.f_bfree.saturating_mul(unit),
        total_bytes: s.f_blocks.saturating_mul(unit),
        free_inodes: (s.f_files > 0).then_some(s.f_ffree),
        block: unit,
        magic,
        // where a kernel does not tell, what mkfs.btrfs does on a single disk
        tree_copies: if magic == super::ioctl::MAGIC { dir.space().map_or(2, |s| s.tree_copies()) } else { 1 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_lines() {
        let text = b"36 35 98:0 /mnt1 /mnt/my\\040disk rw,noatime shared:1 - ext3 /dev/root rw,errors=continue\n\
                     nonsense\n\
                     40 36 0:30 / /v\\134x ro - aufs none rw,si=1";
        let m = parse(text);
        assert_eq!(m.len(), 2);
        assert_eq!(m[0].point, Path::new("/mnt/my disk"));
        assert_eq!((m[0].fstype.as_str(), m[0].source.as_str()), ("ext3", "/dev/root"));
        assert_eq!(m[0].super_options, "rw,errors=continue");
        assert_eq!(m[1].point, Path::new("/v\\x"));
        assert_eq!(m[1].fstype, "aufs");
    }

    #[test]
    fn mounts_below_a_root_that_is_a_bind_mount() {
        let t = tempfile::tempdir().expect("temp dir");
        let put = |pid: &str, text: &str| {
            std::fs::create_dir_all(t.path().join(pid)).expect("a directory");
            std::fs::write(t.path().join(pid).join("mountinfo"), text).expect("a list");
        };
        let all = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                   30 20 8:1 /var/lib/docker /mnt/root rw - ext4 /dev/sda1 rw\n\
                   31 20 0:50 / /var/lib/docker/aufs/mnt/x rw - aufs none rw\n\
                   32 20 0:51 / /var/lib/docker2/aufs rw - tmpfs none rw\n\
                   33 31 0:52 / /var/lib/docker/aufs/mnt/x/proc rw - proc none rw\n";
        put("self", all);
        put("4242", all);
        let found = |root: &str| -> Vec<PathBuf> {
            below_in(t.path(), Path::new(root)).expect("mounts").into_iter().map(|b| b.inside).collect()
        };
        assert_eq!(found("/mnt/root"), [PathBuf::from("aufs/mnt/x")]);
        assert_eq!(found("/var/lib/docker").len(), 2);
        assert!(found("/var/lib/docker3").is_empty());
    }
}
