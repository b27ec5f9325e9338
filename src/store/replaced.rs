//! Directories of Docker's metadata that a file or a symlink has replaced, as fsck and careless admins do. Everything else can still be read.

use super::Lost;
use crate::checks::Finding;
use crate::disk::{Dir, FileType};
use crate::error::Result;
use rustix::io::Errno;

/// A directory below ROOT that the rest can do without.
pub struct Wanted<'a> {
    /// Its path.
    pub path: &'a str,
    /// What comes of it if it is no directory.
    pub effect: &'a str,
    /// Is something lost by that?
    pub loses: bool,
}

impl Wanted<'_> {
    /// Opens it; none if it isn't there. What is in its place is named, and noted in `lost` where that counts.
    ///
    /// # Errors
    /// A symlink in the place of a directory without which something is lost.
    pub fn open(&self, root: &Dir, lost: &mut Vec<Lost>, findings: &mut Vec<Finding>) -> Result<Option<Dir>> {
        if !matches!(root.try_open(self.path.as_bytes()), Err(Errno::LOOP | Errno::NOTDIR)) {
            return root.open_opt(self.path);
        }
        let (at, kind) = root.in_the_way(self.path.as_bytes()).unwrap_or((self.path.into(), FileType::Unknown));
        // the directory that it leads to may be whole, and an admin can put it there
        if kind == FileType::Symlink && self.loses {
            return root.open_opt(self.path);
        }
        let at = crate::text::bytes(&at);
        let why = match kind {
            FileType::Symlink => "it is a symlink, which unaufs doesn't follow",
            _ => "it isn't a directory",
        };
        findings.push(Finding::new("D10", &at, why).effect(self.effect));
        if self.loses {
            let (kind, reason, said) = ("file".to_owned(), why.to_owned(), crate::text::sentence(self.effect));
            lost.push(Lost { kind, id: at, reason, lost: said });
        }
        Ok(None)
    }
}
