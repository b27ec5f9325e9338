//! What the disk can hold, by statfs, the list of mounts and file attributes: nothing is written to find out.

use super::Look;
use crate::checks::{Finding, Level};
use crate::disk::mounts::{self, Mount};
use crate::disk::{Dir, FileType, Meta};
use crate::docker::driver::Target;
use crate::error::{IoContext, Result};
use crate::plan::{Mode, Options};
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::path::Path;

/// Magic numbers of statfs(2).
pub const EXT: u64 = 0xef53;
/// See [`EXT`].
pub const XFS: u64 = 0x5846_5342;
/// See [`EXT`].
pub const BTRFS: u64 = crate::disk::ioctl::MAGIC;

/// Under these overlayfs has no place for its upper directory, or Docker refuses (FORMATS 11.23).
const NOT_UNDER_OVERLAY: [(u64, &str); 5] = [
    (0x6969, "NFS"),
    (0xf15f, "eCryptfs"),
    (0x794c_7630, "another overlay"),
    (0x6175_6673, "aufs"),
    (0x6573_5546, "FUSE"),
];

/// File systems that can share extents between files. With xfs it depends on how it was made, which cannot be asked without writing.
pub fn shares_extents(magic: u64) -> bool {
    // btrfs, xfs, ocfs2, bcachefs
    [BTRFS, XFS, 0x7461_636f, 0xca45_1a4e].contains(&magic)
}

/// As many names may one file have; `None` where that is out of reach.
pub fn most_names(magic: u64) -> Option<u64> {
    match magic {
        EXT => Some(65_000),
        // names of one file within one directory
        BTRFS => Some(65_535),
        _ => None,
    }
}

pub(super) fn check(look: &mut Look<'_>, place: &Dir) -> Result<()> {
    let Look { root, options, machine, out, unseen } = look;
    directories(root, options.to, out);
    let magic = mounts::room(place)?.magic;
    hosts(place, options, magic, out)?;
    if options.mode == Mode::Clone && !shares_extents(magic) {
        out.push(Finding::new("T08", "the disk", "this file system can't share extents"));
    }
    if magic == EXT && mounts::room(root)?.magic != EXT {
        out.push(Finding::new(
            "T09",
            crate::text::path(place.label()),
            "ext4 has little space for extended attributes",
        ));
    }
    let mountinfo = std::fs::read(machine.file("proc/self/mountinfo")).unwrap_or_default();
    mount_options(place.label(), &mounts::parse(&mountinfo), options.to, out);
    immutable(root, out, unseen)?;
    clock(root, std::time::SystemTime::now(), out)?;
    if machine.file("sys/fs/selinux/enforce").exists() {
        out.push(
            Finding::new("H14", "SELinux", "SELinux is enabled")
                .fix(format!(
                    "before you start Docker: restorecon -R {}/{}",
                    crate::text::path(root.label()),
                    options.to
                ))
                .effect("containers may be denied access to their files"),
        );
    }
    beside(root, options.to, out)
}

/// The directories that are renamed have to be directories of ROOT itself.
fn directories(root: &Dir, to: Target, out: &mut Vec<Finding>) {
    for name in ["aufs", "image", "containers", to.name()] {
        if let Ok(m) = root.try_stat(name.as_bytes())
            && !m.is_dir()
        {
            out.push(Finding::new("H08", name, "it isn't a directory"));
        }
    }
    let records = format!("image/{to}");
    if root.stat_opt(&records).is_ok_and(|m| m.is_some_and(|m| !m.is_dir())) {
        out.push(Finding::new("H08", records, "it isn't a directory"));
    }
}

/// Can the target live on this file system?
fn hosts(place: &Dir, options: &Options, magic: u64, out: &mut Vec<Finding>) -> Result<()> {
    let mut refuse = |why: String| {
        out.push(Finding::new("T04", "the disk", why));
    };
    match options.to {
        Target::Overlay2 | Target::Overlay => {
            if let Some((_, name)) = NOT_UNDER_OVERLAY.iter().find(|(m, _)| *m == magic) {
                refuse(format!("{} doesn't work on {name}", options.to));
            } else if !tells_types(place)? {
                refuse(format!(
                    "it doesn't store file types in directories (xfs: ftype=0), which {} needs",
                    options.to
                ));
            }
        }
        Target::Btrfs if magic != BTRFS => refuse("the btrfs driver needs a btrfs file system".to_owned()),
        Target::Btrfs | Target::Vfs => {}
    }
    Ok(())
}

/// Does reading a directory give the files' types? xfs made with ftype=0 does not, and there overlayfs cannot tell whiteouts (FORMATS 11.23).
fn tells_types(dir: &Dir) -> Result<bool> {
    let dir = dir.again()?;
    let mut buf = [MaybeUninit::<u8>::uninit(); 4096];
    let mut raw = rustix::fs::RawDir::new(dir.fd(), &mut buf);
    while let Some(entry) = raw.next() {
        let entry = entry.on(|| format!("list {}", dir.show(b"")))?;
        if entry.file_type() == FileType::Unknown {
            return Ok(false);
        }
    }
    Ok(true)
}

fn mount_options(path: &Path, all: &[Mount], to: Target, out: &mut Vec<Finding>) {
    let Some(m) = mounts::holding(all, path) else { return };
    let has = |names: &[&str]| m.options.split(',').chain(m.super_options.split(',')).any(|o| names.contains(&o));
    let point = crate::text::path(&m.point);
    if has(&["ro"]) {
        out.push(
            Finding::new("H10", point.clone(), "it is mounted read-only")
                .fix(format!("mount -o remount,rw {point}"))
                .effect("plan works; migrate can't write anything"),
        );
    }
    // a layer of these is bound as the container's root, with the options of the mount; an overlay is a mount of its own (measured, 6.18)
    if matches!(to, Target::Vfs | Target::Btrfs) && has(&["noexec", "nodev"]) {
        out.push(
            Finding::new("H18", point.clone(), "it is mounted noexec or nodev")
                .fix(format!("mount -o remount,exec,dev {point}, and the same in /etc/fstab"))
                .effect("programs in containers don't start, or device files can't be opened"),
        );
    }
    if has(&["prjquota", "pquota"]) {
        out.push(
            Finding::new("H09", point, "it is mounted with project quotas")
                .effect("files of other projects are copied instead of linked"),
        );
    }
}

/// Immutable and append-only directories among those that are renamed or written. Files need no look: a link of an immutable one is refused,
/// and it is copied.
fn immutable(root: &Dir, out: &mut Vec<Finding>, unseen: &mut Vec<&'static str>) -> Result<()> {
    for path in ["", "aufs", "aufs/diff", "image", "image/aufs", "containers", "graph"] {
        let Some(dir) = root.open_opt(path)? else { continue };
        let flags = StatxFlags::empty();
        match rustix::fs::statx(dir.fd(), "", AtFlags::EMPTY_PATH, flags) {
            Ok(s) if s.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND) => {
                let shown = dir.show(b"");
                let shown = shown.trim_end_matches('/');
                out.push(
                    Finding::new("H11", shown, "it is immutable or append-only")
                        .fix(format!("chattr -ia {shown}"))
                        .effect("it can't be renamed"),
                );
            }
            Ok(_) => {}
            // statx came with Linux 4.11
            Err(Errno::NOSYS) => {
                unseen.push("H11");
                return Ok(());
            }
            Err(e) => return Err(crate::error::Error::io(format!("statx {}", dir.show(b"")), e)),
        }
    }
    Ok(())
}

/// Is something in ROOT from the future?
fn clock(root: &Dir, now: std::time::SystemTime, out: &mut Vec<Finding>) -> Result<()> {
    const SLACK: i64 = 300;
    let now = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
    for path in ["aufs/diff", "aufs/layers", "containers", "image/aufs/repositories.json", "repositories-aufs"] {
        let Some(m) = root.stat_opt(path)? else { continue };
        if m.mtime.0 > now.saturating_add(SLACK) {
            let when = jiff::Timestamp::from_second(m.mtime.0).map(|t| t.to_string()).unwrap_or_default();
            out.push(
                Finding::new("H16", path, format!("it was changed at {when}, which is in the future"))
                    .fix("set the clock: timedatectl set-ntp true")
                    .effect("times in the report are wrong"),
            );
            return Ok(());
        }
    }
    Ok(())
}

/// What else is in ROOT that has to do with other drivers.
fn beside(root: &Dir, to: Target, out: &mut Vec<Finding>) -> Result<()> {
    for name in ["overlay2.temp", "aufs.migrated"] {
        if root.has(name)? {
            out.push(Finding::new("T07", format!("{name}/"), "left by another tool"));
        }
    }
    // `vfs` may be a symlink of the user's: then it is nothing of ROOT's, and for vfs as the target H08 says so
    let vfs =
        root.stat_opt("vfs")?.filter(Meta::is_dir).and_then(|_| root.open_opt("vfs/dir").transpose()).transpose()?;
    if vfs.is_some_and(|d| d.list().is_ok_and(|l| !l.is_empty())) {
        let f = Finding::new("D12", "vfs/dir", "it has volumes of Docker before 1.7, or a vfs store");
        out.push(if to == Target::Vfs { f.level(Level::Warn) } else { f });
    }
    for (name, kind) in root.list()? {
        if kind == FileType::Directory && crate::store::remapped(&name) {
            let shown = root.show(&name);
            out.push(
                Finding::new("H15", shown.clone(), "it is the data root of a Docker with userns-remap")
                    .fix(format!("unaufs plan --root {shown}"))
                    .effect("it isn't part of this migration"),
            );
        }
    }
    Ok(())
}
