//! The seam for crash tests: every effect on the disk passes [`effect`], where a test may let the process die.
//!
//! To die after an effect is to die before the next one: between two points there is one change of the disk, or the writing of one file, or
//! one commit of the journal (tests/crash/effects.rs compares that with the system calls that were really made).
//!
//! `UNAUFS_FAULT_AT=k` ends the process, as `kill -9` would, before the k-th effect on metadata, journal, layers or switch;
//! `UNAUFS_FAULT_STALL=k`, or its name, makes that effect take ten minutes, as a disk might, or until the file of `UNAUFS_FAULT_COUNT` is gone;
//! `UNAUFS_FAULT_COUNT=FILE` counts the effects of an undisturbed run; `UNAUFS_FAULT_NO_SYNC=1` leaves out the syncs but the journal's
//! own, for the control that must fail, and `UNAUFS_FAULT_NO_SYNC=all` those too, for cheap rounds without a power cut; `UNAUFS_FAULT_OLD_KERNEL=1` behaves as if `openat2` and `renameat2` were unknown (kernels from 3.10 on),
//! and `=3.10` as if the kernel did not number mounts either (before 3.15).
//! `UNAUFS_FAULT_DOCKER=TEXT` is what this machine's dockerd says of its version: to start one takes longer than most of what is tested.
//! Compiled in only with the feature `fault-points`; otherwise all of it is nothing.

#[cfg(feature = "fault-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static EFFECTS: AtomicU64 = AtomicU64::new(0);

    fn number(name: &str) -> Option<u64> {
        std::env::var(name).ok().and_then(|v| v.parse().ok())
    }

    pub fn effect(name: &str) {
        static AT: OnceLock<Option<u64>> = OnceLock::new();
        static STALL: OnceLock<Option<String>> = OnceLock::new();
        let k = EFFECTS.fetch_add(1, Ordering::SeqCst) + 1;
        let file = std::env::var_os("UNAUFS_FAULT_COUNT");
        if let Some(file) = &file {
            // a counter for the test alone: an error here only spoils the test
            let _ = std::fs::write(file, format!("{k} {name}\n"));
        }
        let stall = STALL.get_or_init(|| std::env::var("UNAUFS_FAULT_STALL").ok());
        if stall.as_deref().is_some_and(|at| at == name || at == k.to_string()) {
            let gone = || file.as_deref().is_some_and(|f| !std::path::Path::new(f).exists());
            for _ in (0..6000).take_while(|_| !gone()) {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
        if *AT.get_or_init(|| number("UNAUFS_FAULT_AT")) == Some(k) {
            eprintln!("fault point {k}: dies before {name}");
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            std::process::abort();
        }
    }
}

/// Called before each effect on the disk.
#[inline]
pub fn effect(_name: &'static str) {
    #[cfg(feature = "fault-points")]
    armed::effect(_name);
}

/// What a test says by this variable; nothing in a release.
#[inline]
fn said(_name: &str) -> Option<std::ffi::OsString> {
    #[cfg(feature = "fault-points")]
    return std::env::var_os(_name);
    #[cfg(not(feature = "fault-points"))]
    None
}

/// Are `openat2` and `renameat2` to be taken as unknown?
#[inline]
pub fn old_kernel() -> bool {
    said("UNAUFS_FAULT_OLD_KERNEL").is_some()
}

/// Is the kernel to be taken as one that doesn't number the mounts of descriptors?
#[inline]
pub fn without_mount_ids() -> bool {
    said("UNAUFS_FAULT_OLD_KERNEL").is_some_and(|v| v == "3.10")
}

/// Is the journal not to sync either?
#[inline]
pub fn without_any_sync() -> bool {
    said("UNAUFS_FAULT_NO_SYNC").is_some_and(|v| v == "all")
}

/// Are syncs to be left out?
#[inline]
pub fn without_syncs() -> bool {
    said("UNAUFS_FAULT_NO_SYNC").is_some()
}

/// What the dockerd of this machine says of its version, if somebody has asked it before.
#[inline]
pub fn docker() -> Option<String> {
    said("UNAUFS_FAULT_DOCKER")?.into_string().ok()
}
