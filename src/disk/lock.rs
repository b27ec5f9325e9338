//! The lock of a directory: flock(2) on the directory itself, so that there is no file to make or to forget.

use super::Dir;
use crate::error::{Error, Kind, Result};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

impl Dir {
    /// Takes the exclusive lock of this directory. The kernel drops it with the process, so it is never stale.
    pub fn lock(&self) -> Result<File> {
        self.flock(FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes a lock that others may share, and that keeps out who wants it alone.
    pub fn lock_shared(&self) -> Result<File> {
        self.flock(FlockOperation::NonBlockingLockShared)
    }

    fn flock(&self, how: FlockOperation) -> Result<File> {
        let again = self.again()?;
        match rustix::fs::flock(&again, how) {
            Ok(()) => Ok(File::from(again.fd)),
            Err(Errno::WOULDBLOCK) => {
                Err(Error::new(Kind::Busy, format!("another unaufs is working on {}", self.show(b"")))
                    .hint("Wait until it has finished. `unaufs status` shows how far it is."))
            }
            Err(e) => Err(Error::io(format!("lock {}", self.show(b"")), e)),
        }
    }

    /// The process that has the exclusive lock, without asking for it: who asks could be in the way of one that is about to take it.
    /// As far as /proc says: not of a process in another container.
    pub fn locked_by(&self) -> Option<u32> {
        let meta = self.meta().ok()?;
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        let mut holders = locks.lines().filter_map(|line| holder(line, meta.ino));
        holders.find(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // btrfs has other device numbers in /proc/locks than in stat(2), so the inode is compared there, and both in what is open
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let same = |m: std::fs::Metadata| (m.dev(), m.ino()) == (meta.dev, meta.ino);
            name.trim_end() == env!("CARGO_PKG_NAME")
                && open.into_iter().any(|fd| std::fs::metadata(fd.path()).is_ok_and(same))
        })
    }
}

/// Who has the whole of an inode to itself, from a line of proc_locks(5): `1: FLOCK  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF`.
fn holder(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let (kind, _, mode) = (words.next()?, words.next()?, words.next()?);
    let (pid, file) = (words.next()?.parse().ok()?, words.next()?);
    let same = file.rsplit(':').next()?.parse() == Ok(inode);
    (kind == "FLOCK" && mode == "WRITE" && same).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_locks() {
        for (line, pid) in [
            ("1: FLOCK  ADVISORY  WRITE 3568 fd:00:77 0 EOF", Some(3568)),
            ("1: FLOCK  ADVISORY  READ  3568 fd:00:77 0 EOF", None),
            ("2: POSIX  ADVISORY  WRITE 3568 fd:00:77 0 EOF", None),
            ("3: FLOCK  ADVISORY  WRITE 3568 fd:00:78 0 EOF", None),
            ("4: OFDLCK ADVISORY  WRITE -1 fd:00:77 0 EOF", None),
            ("5: -> FLOCK  ADVISORY  WRITE 3570 fd:00:77 0 EOF", None),
            ("", None),
        ] {
            assert_eq!(holder(line, 77), pid, "{line}");
        }
    }
}
