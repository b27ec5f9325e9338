//! The machine: who uses ROOT now, what the kernel and the file system can do, what Docker is told to do. Looks only.
//!
//! [`process`] finds a running Docker, [`rights`] what this process may do, [`docker_config`] what Docker will read at its next start,
//! [`filesystem`] what the disk can hold.

pub mod docker_config;
pub mod filesystem;
pub mod process;
pub mod rights;

use super::Options;
use super::new_root::Destination;
use crate::checks::{Finding, Level};
use crate::disk::mounts::{self, Room};
use crate::disk::{Dir, Meta};
use crate::docker::driver::Target;
use crate::error::Result;
use crate::store::Generation;
use std::path::{Path, PathBuf};

pub use process::docker_on;

/// What was found around the store.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name and kernel.
    pub facts: super::HostFacts,
    /// ROOT's real path.
    pub path: String,
    /// The type of ROOT's file system.
    pub fs: String,
    /// Room on it.
    pub room: Room,
    /// The type of the file system that the new store will lie on.
    pub new_fs: String,
    /// Room on that.
    pub new_room: Room,
    /// `aufs/` itself.
    pub aufs: Meta,
    /// The device of ROOT.
    pub dev: u64,
    /// The device that the new store will lie on.
    pub new_dev: u64,
    /// Docker, as far as it can be seen.
    pub docker: super::DockerFacts,
    /// Findings about the host and what runs on it.
    pub findings: Vec<Finding>,
    /// Checks that could not be made here.
    pub unseen: Vec<&'static str>,
}

impl Host {
    /// Is the new store on another file system than the old one, so that no inode can be shared? Each subvolume of a btrfs counts as one.
    pub fn other_device(&self) -> bool {
        self.dev != self.new_dev
    }
}

/// Where the machine's own files are: `/proc`, `/etc`, `/sys` below `at`. Tests give another place than `/`.
#[derive(Clone, Debug)]
pub struct Machine {
    /// `/`.
    pub at: PathBuf,
    /// Docker's configuration where it is not `/etc/docker/daemon.json`.
    pub docker_config: Option<PathBuf>,
}

impl Machine {
    /// This one.
    pub fn here(options: &Options) -> Machine {
        Machine { at: PathBuf::from("/"), docker_config: options.docker_config.as_ref().map(PathBuf::from) }
    }

    /// A file of the machine; `path` without its leading slash.
    pub fn file(&self, path: &str) -> PathBuf {
        self.at.join(path)
    }

    /// The content of a file that somebody else named, a plan or a process: only a regular one, of at most 4 MiB.
    pub fn small(path: &Path) -> std::io::Result<Vec<u8>> {
        use std::io::{Error, ErrorKind, Read};
        use std::os::unix::fs::OpenOptionsExt;
        const LIMIT: u64 = 4 << 20;
        let refused = |what: &str| Err(Error::new(ErrorKind::InvalidInput, what.to_owned()));
        // looked at before, since opening a device has effects; a fifo put there in the meantime does not wait
        if !std::fs::metadata(path)?.is_file() {
            return refused("not a regular file");
        }
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        let mut out = Vec::new();
        if file.take(LIMIT + 1).read_to_end(&mut out)? as u64 > LIMIT { refused("larger than 4 MiB") } else { Ok(out) }
    }

    /// The text of one; empty if it cannot be read.
    pub fn text(&self, path: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.file(path)).unwrap_or_default()).into_owned()
    }
}

/// Where the checks of the host look, and what they have found.
struct Look<'a> {
    root: &'a Dir,
    options: &'a Options,
    machine: &'a Machine,
    out: Vec<Finding>,
    /// Checks that could not be made here.
    unseen: Vec<&'static str>,
}

/// Looks at everything; writes nothing.
pub fn look(root: &Dir, options: &Options, machine: &Machine) -> Result<Host> {
    let path = root.label();
    let mut look = Look { root, options, machine, out: Vec::new(), unseen: Vec::new() };
    let running = process::docker_on_machine(root, machine)?;
    if let Some(who) = &running {
        look.out.push(Finding::new("H01", "dockerd", who.clone()));
    }
    mounted(path, machine, &mut look.out)?;
    rights::check(machine, &mut look.out);
    kernel(options.to, machine, &mut look.out);
    let new = options.target.as_ref().map(|dir| Destination::look(Path::new(dir))).transpose()?;
    if let Some(new) = &new {
        new.check(root, &mut look.out)?;
    } else {
        look.unseen.extend(crate::checks::ELSEWHERE);
    }
    let place = new.as_ref().map_or(root, Destination::nearest);
    filesystem::check(&mut look, place)?;
    let version = docker_config::check(&mut look)?;
    let meta = root.meta()?;
    let fs_of = |p: &Path| mounts::of(p).map(|m| m.map(|m| m.fstype).unwrap_or_default());
    Ok(Host {
        facts: super::HostFacts::here(),
        path: path.to_string_lossy().into_owned(),
        fs: fs_of(path)?,
        room: mounts::room(root)?,
        new_fs: fs_of(place.label())?,
        new_room: mounts::room(place)?,
        aufs: root.stat("aufs")?,
        dev: meta.dev,
        new_dev: place.meta()?.dev,
        docker: super::DockerFacts {
            version,
            running: running.is_some(),
            driver: "aufs".to_owned(),
            wrote: String::new(),
        },
        findings: look.out,
        unseen: look.unseen,
    })
}

/// The Dockers that may have written the store last: each gives `aufs/` its own mode when it starts (moby, daemon/graphdriver/aufs).
pub fn wrote(generation: Generation, aufs: &Meta) -> &'static str {
    match (generation, aufs.mode & 0o7777) {
        (Generation::Graph, _) => "Docker 1.9 or earlier",
        (Generation::Content, 0o700) => "Docker 1.10 to 20.10.2",
        (Generation::Content, 0o701) => "Docker 19.03.15 or 20.10.3 to 20.10.8",
        (Generation::Content, 0o710) => "Docker 20.10.9 to 23",
        (Generation::Content, _) => "Docker 1.10 to 23",
    }
}

/// Mounts below ROOT. One on `volumes/`, or in it, is the user's own arrangement, and nothing there is touched.
fn mounted(path: &Path, machine: &Machine, out: &mut Vec<Finding>) -> Result<()> {
    const SHOWN: usize = 20;
    let all = mounts::below_in(&machine.file("proc"), path)?;
    for m in all.iter().take(SHOWN) {
        let f = Finding::new("H02", crate::text::path(&m.point), format!("a {} is mounted here", m.fstype));
        out.push(if m.inside.starts_with("volumes") {
            f.level(Level::Info).effect("none: unaufs doesn't change volumes")
        } else {
            f.fix(format!("umount {}", crate::text::path(&m.point)))
                .effect("files below the mount point are hidden or in use")
        });
    }
    if let Some(more) = all.len().checked_sub(SHOWN).filter(|n| *n > 0) {
        out.push(
            Finding::new("H02", "more mounts", format!("{more} more are mounted below the root"))
                .fix("unmount them")
                .effect("files below the mount points are hidden or in use"),
        );
    }
    Ok(())
}

fn kernel(to: Target, machine: &Machine, out: &mut Vec<Finding>) {
    if matches!(to, Target::Overlay2 | Target::Overlay) && !knows(&machine.text("proc/filesystems"), "overlay") {
        out.push(Finding::new("H04", "the kernel", "this kernel has no overlayfs loaded"));
    }
}

/// Does the kernel have this file system, loaded or built in?
pub fn kernel_knows(fs: &str) -> bool {
    knows(&std::fs::read_to_string("/proc/filesystems").unwrap_or_default(), fs)
}

fn knows(filesystems: &str, fs: &str) -> bool {
    filesystems.lines().any(|l| l.split_whitespace().last() == Some(fs))
}

/// Is ROOT the directory that a daemon calls its data root, or the part of it for a remapped user namespace? Compared by device and inode:
/// the daemon may see it by another path.
fn is_root_of(root: &Dir, data_root: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |p: &Path| std::fs::metadata(p).ok().map(|m| (m.dev(), m.ino()));
    let Some(theirs) = id(data_root) else { return false };
    let path = root.label();
    let remapped = path.file_name().is_some_and(|n| crate::store::remapped(n.as_encoded_bytes()));
    let parent = path.parent().filter(|_| remapped).and_then(id);
    root.meta().is_ok_and(|m| (m.dev, m.ino) == theirs) || parent == Some(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remapped_roots() {}

    #[test]
    fn file_systems_of_the_kernel() {
        assert!(knows("nodev\tproc\nnodev\toverlay\n\text4\n", "overlay"));
        assert!(!knows("nodev\toverlayfs\n", "overlay"));
    }
}
