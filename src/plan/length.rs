//! How long the path of a root may be. SQLite opens a database by its full path, resolves every symlink in it, `/proc/self/fd/N` too, and
//! accepts 504 bytes (`MAX_PATHNAME` less `-journal`, in its os_unix.c). That must show when the plan is made, not when the run begins.

use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// As many bytes remain before `/.unaufs/journal.db`.
pub const LONGEST: usize = 504 - "/.unaufs/journal.db".len();

/// An error if no journal could be opened below this root.
pub fn fits(root: &Path) -> Result<()> {
    let bytes = root.as_os_str().as_bytes().len();
    if bytes <= LONGEST {
        return Ok(());
    }
    let shown = crate::text::path(root);
    Err(Error::new(Kind::Unsupported, format!("the path {shown} has {bytes} bytes; unaufs can work with {LONGEST}"))
        .hint(format!("Mount the directory at a shorter path, then use --root /mnt/docker: mkdir /mnt/docker && mount --bind {shown} /mnt/docker"))
        .loss("Nothing was changed."))
}

/// The same for the root that gets the new store.
pub fn of_plan(root: &Dir, target: Option<&str>) -> Result<()> {
    fits(target.map_or(root.label(), Path::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_can_be_made_in_the_longest_path_and_not_beyond() {
        let top = tempfile::tempdir().expect("a directory");
        let top = std::fs::canonicalize(top.path()).expect("its path");
        for (length, good) in [(LONGEST, true), (LONGEST + 1, false)] {
            let mut path = top.join("a".repeat(200));
            let rest = length - path.as_os_str().len() - 1;
            path = path.join("b".repeat(rest / 2)).join("c".repeat(rest - rest / 2 - 1));
            assert_eq!(path.as_os_str().len(), length);
            std::fs::create_dir_all(path.join(".unaufs")).expect("mkdir");
            assert_eq!(fits(&path).is_ok(), good, "{length}");
            let opened = rusqlite::Connection::open(path.join(".unaufs/journal.db"));
            let written = opened.and_then(|db| db.execute_batch("CREATE TABLE a (b)"));
            assert_eq!(written.is_ok(), good, "{length}: {written:?}");
        }
    }
}
