//! What a test needs of the machine. Where that is missing the test says `not run: REASON`, which tests/run.sh counts; in CI it fails.

use std::path::{Path, PathBuf};

/// Says why a test cannot run here. Where `CI=true` that is a failure.
pub fn cannot_run(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "cannot run in CI: {why}");
    eprintln!("not run: {why}");
}

/// Is this the long run, `tests/run.sh --long`? What a plain run leaves out then is listed at its end.
pub fn long() -> bool {
    std::env::var_os("UNAUFS_LONG").is_some()
}

/// Root: for devices, owners, `trusted.*` attributes and mounts.
pub fn root() -> bool {
    let is = rustix::process::geteuid().is_root();
    if !is {
        cannot_run("it needs root (devices, owners, trusted.* attributes, mounts)");
    }
    is
}

/// These programs, where Debian installs them.
pub fn programs(names: &[&str]) -> bool {
    let missing = names.iter().find(|name| program(name).is_none());
    if let Some(name) = missing {
        cannot_run(&format!("{name} is missing; tests/run.sh installs it"));
    }
    missing.is_none()
}

/// Root, and these programs.
pub fn root_and(names: &[&str]) -> bool {
    root() && programs(names)
}

/// File systems that this kernel knows.
pub fn filesystems(names: &[&str]) -> bool {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let missing = names.iter().find(|fs| !known.lines().any(|l| l.split_whitespace().last() == Some(fs)));
    if let Some(fs) = missing {
        cannot_run(&format!("the kernel has no {fs} (modprobe {fs})"));
    }
    missing.is_none()
}

fn program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().map(|d| Path::new(d).join(name)).find(|p| p.exists())
}
