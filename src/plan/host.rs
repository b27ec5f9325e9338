//! The machine: who uses ROOT now, what the kernel and the file system can do.

use crate::checks::Finding;
use crate::disk::mounts::{self, Room};
use crate::disk::{Dir, Meta};
use crate::error::Result;
use crate::target::Target;
use std::path::Path;

/// What was found around the store.
#[derive(Clone, Debug)]
pub struct Host {
    /// The host's name.
    pub name: String,
    /// ROOT's real path.
    pub path: String,
    /// The type of ROOT's file system.
    pub fs: String,
    /// Room on it.
    pub room: Room,
    /// `aufs/` itself.
    pub aufs: Meta,
    /// The device of ROOT.
    pub dev: u64,
    /// What container root is on the host.
    pub container_root: (u32, u32),
    /// Findings about the host and what runs on it.
    pub findings: Vec<Finding>,
}

/// Looks at everything; writes nothing.
pub fn look(root: &Dir, to: Target) -> Result<Host> {
    let path = root.label();
    let mut findings = Vec::new();
    if let Some(who) = docker_on(root)? {
        findings.push(
            Finding::new("H01", "dockerd", who)
                .fix("systemctl stop docker docker.socket")
                .effect("`plan` may look at a running store; `migrate` may not touch it"),
        );
    }
    for m in mounts::below(path)? {
        findings.push(
            Finding::new("H02", crate::show::path(&m.point), format!("a {} is mounted here", m.fstype))
                .fix(format!("umount {}", crate::show::path(&m.point)))
                .effect("what lies below the mount is hidden, or in use"),
        );
    }
    if !rustix::process::geteuid().is_root() {
        findings.push(
            Finding::new("H03", "this process", "it does not run as root")
                .fix("run it as root")
                .effect("devices, owners and trusted.* attributes cannot be made"),
        );
    }
    if matches!(to, Target::Overlay2 | Target::Overlay) && !kernel_knows("overlay") {
        findings.push(
            Finding::new("H04", "the kernel", "it has no overlayfs loaded")
                .fix("modprobe overlay")
                .effect("Docker could not mount the new store"),
        );
    }
    for name in ["aufs", "image", "containers", to.name()] {
        if let Ok(m) = root.try_stat(name.as_bytes())
            && !m.is_dir()
        {
            findings.push(
                Finding::new("H08", name, "it is not a folder")
                    .fix("if it is a symlink: replace it by a bind mount of the whole root")
                    .effect("it could not be parked by renaming"),
            );
        }
    }
    let mount = mounts::of(path)?;
    let fs = mount.map(|m| m.fstype).unwrap_or_default();
    if let Err((why, fix)) = to.hosts(&fs) {
        findings.push(
            Finding::new("T04", format!("{} on {}", to.name(), crate::show::text(&fs)), why)
                .fix(fix)
                .effect("the new store could not be used"),
        );
    }
    let meta = root.meta()?;
    Ok(Host {
        name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        path: path.to_string_lossy().into_owned(),
        fs,
        room: mounts::room(root)?,
        aufs: root.stat("aufs")?,
        dev: meta.dev,
        container_root: container_root(path),
        findings,
    })
}

/// A daemon that has ROOT open, if there is one.
pub fn docker_on(root: &Dir) -> Result<Option<String>> {
    let path = root.label();
    for p in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = p.file_name().to_string_lossy().parse::<u32>() else { continue };
        let comm = std::fs::read_to_string(p.path().join("comm")).unwrap_or_default();
        if comm.trim() != "dockerd" && comm.trim() != "docker" && comm.trim() != "balenad" {
            continue;
        }
        let cmd = std::fs::read(p.path().join("cmdline")).unwrap_or_default();
        let args: Vec<String> =
            cmd.split(|c| *c == 0).filter(|a| !a.is_empty()).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        // the client is called docker too; before 1.12 the daemon was `docker daemon` or `docker -d`
        if comm.trim() == "docker" && !args.iter().any(|a| a == "daemon" || a == "-d") {
            continue;
        }
        let holds = std::fs::read_dir(p.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|f| std::fs::read_link(f.path()).is_ok_and(|t| t.starts_with(path)));
        if holds || data_root(&args).is_some_and(|d| std::fs::canonicalize(&d).is_ok_and(|d| path.starts_with(d))) {
            return Ok(Some(format!("process {pid} ({}) runs on this root", crate::show::text(comm.trim()))));
        }
    }
    Ok(None)
}

/// `--data-root DIR`, `--data-root=DIR`, `-g DIR`, `--graph=DIR`.
fn data_root(args: &[String]) -> Option<String> {
    for (i, a) in args.iter().enumerate() {
        for flag in ["--data-root", "--graph", "-g"] {
            if a == flag {
                return args.get(i + 1).cloned();
            }
            if let Some(v) = a.strip_prefix(flag).and_then(|v| v.strip_prefix('=')) {
                return Some(v.to_owned());
            }
        }
    }
    None
}

/// Does the kernel have this file system, loaded or built in?
pub fn kernel_knows(fs: &str) -> bool {
    let text = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    text.lines().any(|l| l.split_whitespace().last() == Some(fs))
}

/// ROOT of a daemon with userns-remap is `<uid>.<gid>`: what root in its containers is outside (FORMATS 0).
fn container_root(path: &Path) -> (u32, u32) {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut parts = name.split('.').map(|p| p.parse::<u32>());
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(uid)), Some(Ok(gid)), None) => (uid, gid),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remapped_roots() {
        assert_eq!(container_root(Path::new("/var/lib/docker/231072.231072")), (231072, 231072));
        assert_eq!(container_root(Path::new("/var/lib/docker")), (0, 0));
        assert_eq!(container_root(Path::new("/var/lib/1.2.3")), (0, 0));
    }

    #[test]
    fn data_roots_of_a_command_line() {
        let args = |s: &str| s.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(data_root(&args("dockerd --data-root /d")).as_deref(), Some("/d"));
        assert_eq!(data_root(&args("dockerd --data-root=/d -H x")).as_deref(), Some("/d"));
        assert_eq!(data_root(&args("docker daemon -g /d")).as_deref(), Some("/d"));
        assert_eq!(data_root(&args("dockerd -H fd://")), None);
    }
}
