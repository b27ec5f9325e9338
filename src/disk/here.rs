//! A directory that is a thread's current one, so that a name in it is reached without a path.
//!
//! Linux before 6.13 has no `listxattrat`: the attributes of a name are asked for by path, and through `/proc/self/fd/N/NAME` that walk
//! costs three times the question itself. A thread with a current directory of its own (unshare(2), `CLONE_FS`) can stand in the directory and ask
//! by the bare name. Scanning a million files halves by that.

use super::Dir;
use crate::error::Result;
use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    /// Does nothing else need the current directory of this thread?
    static FREE: Cell<bool> = const { Cell::new(false) };
    /// Has this thread a current directory of its own? `None`: not tried yet.
    static ALONE: Cell<Option<bool>> = const { Cell::new(None) };
}

/// The current directory of this thread, for as long as it enters no other.
#[derive(Debug)]
pub struct Here<'a> {
    dir: &'a Dir,
    /// What goes before a name; empty where the directory is the thread's current one.
    prefix: Vec<u8>,
    /// Another thread has another current directory.
    _stays: PhantomData<*const ()>,
}

impl Dir {
    /// Makes this the thread's current directory. Only for threads that nothing else needs the current directory of: those of rayon, and those
    /// that are [`free`].
    pub fn here(&self) -> Here<'_> {
        let entered = alone() && rustix::process::fchdir(self.fd()).is_ok();
        let prefix = if entered { Vec::new() } else { self.proc_path(b"") };
        Here { dir: self, prefix, _stays: PhantomData }
    }
}

impl Here<'_> {
    /// Has a name attributes, has it some that overlayfs would obey? The names of the attributes only.
    pub fn xattr_kinds(&self, name: &[u8]) -> Result<(bool, bool)> {
        if self.prefix.is_empty() {
            return self.dir.xattr_kinds_at(name, name);
        }
        self.dir.xattr_kinds_at(name, &[&self.prefix, name].concat())
    }
}

/// Says that this thread needs no current directory, and that it ends before a file system has to be unmounted.
pub fn free() {
    FREE.set(true);
}

/// Leaves whatever directory the threads of rayon stand in: it could not be unmounted.
pub fn leave_all() {
    rayon::broadcast(|_| {
        if ALONE.get() == Some(true) {
            // where there is no `/`, nothing is held either
            let _ = rustix::process::chdir("/");
        }
    });
}

fn alone() -> bool {
    if rayon::current_thread_index().is_none() && !FREE.get() {
        return false;
    }
    ALONE.get().unwrap_or_else(|| {
        // deprecated for CLONE_FILES only, which would part threads from descriptors; CLONE_FS parts the current directory, root and umask.
        // A sandbox may forbid it.
        #[allow(deprecated)]
        let done = rustix::thread::unshare(rustix::thread::UnshareFlags::FS).is_ok();
        ALONE.set(Some(done));
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_the_thread_stands() {
        let t = tempfile::tempdir_in(".").expect("temp dir");
        let before = std::env::current_dir().expect("a current directory");
        let dirs: Vec<Dir> = ["a", "b"]
            .map(|name| {
                let path = t.path().join(name);
                std::fs::create_dir(&path).expect("mkdir");
                std::fs::write(path.join("f"), "").expect("write");
                if name == "b" {
                    xattr::set(path.join("f"), "user.x", b"1").expect("an attribute");
                }
                Dir::open_named(&path).expect("open")
            })
            .into();
        let asked = |d: &Dir| d.here().xattr_kinds(b"f").expect("a list").0;
        // outside of rayon's threads: through /proc
        assert_eq!(dirs.iter().map(asked).collect::<Vec<_>>(), [false, true]);
        use rayon::prelude::*;
        let all: Vec<bool> = (0..64).into_par_iter().map(|i| asked(&dirs[i % 2]) == (i % 2 == 1)).collect();
        assert!(all.iter().all(|right| *right));
        leave_all();
        assert_eq!(std::env::current_dir().expect("a current directory"), before);
    }
}
