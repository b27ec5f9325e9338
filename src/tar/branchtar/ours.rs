//! Our own form of a branch's tar.
//!
//! ```text
//! aufs/diff/<id>/          .wh..wh.{aufs,plnk,orph}    left out, as are sockets
//!   .wh.gone               .wh.gone                    markers first: an extractor takes them before what is in their place
//!   etc/.wh..wh..opq       etc/, etc/.wh..wh..opq
//!   etc/hosts              etc/hosts                   then the names, sorted
//! ```
//!
//! An opaque mark on the branch's root is left out: it has no effect on aufs, and on vfs it would empty the whole tree (FORMATS 11.5).

use super::{CAPABILITY, FirstNames, Visitor, capability, walk};
use crate::disk::{Dir, FileType, Meta};
use crate::error::Result;
use crate::layer::branch::{self, Format};
use crate::tar::writer::{Entry, Node, TarWriter};
use std::io::{Write, empty};

/// Adds everything in the branch to a tar. Gives the bytes of all files.
pub fn append<W: Write, P: Write>(branch: &Dir, tar: &mut TarWriter<W, P>) -> Result<u64> {
    let mut ours = Ours { tar, first: FirstNames::default(), payload: 0 };
    walk(branch, &mut ours)?;
    Ok(ours.payload)
}

struct Ours<'t, W: Write, P: Write> {
    tar: &'t mut TarWriter<W, P>,
    /// Whiteouts are not among them, although all of them may be one inode.
    first: FirstNames,
    payload: u64,
}

impl<W: Write, P: Write> Visitor for Ours<'_, W, P> {
    fn enter(&mut self, dir: &Dir, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let at_root = path.is_empty();
        let markers = branch::markers(dir, Format::Aufs, at_root)?;
        let mut hidden: Vec<Vec<u8>> = markers.whiteouts.into_iter().map(|name| [branch::WH, &name].concat()).collect();
        hidden.sort();
        if markers.opaque {
            hidden.insert(0, branch::OPQ.to_vec());
        }
        for name in hidden {
            // what aufs gave a marker differs from one to the next
            self.tar.append(&Entry::marker(&[path, &name].concat()), &mut empty())?;
        }
        let mut names = Vec::new();
        branch::for_each_entry(dir, Format::Aufs, at_root, |name, kind, _| {
            if kind != FileType::Socket {
                names.push(name.to_vec());
            }
            Ok(())
        })?;
        names.sort();
        Ok(names)
    }

    fn entry(&mut self, dir: &Dir, name: &[u8], path: &[u8], m: &Meta) -> Result<()> {
        let target = if m.kind == FileType::Symlink { dir.read_link(name)? } else { Vec::new() };
        let first = self.first.before(path, m);
        let node = match &first {
            Some(first) => Some(Node::HardLink { first }),
            None => Node::of(m, &target),
        };
        // a socket that has taken the place of something else since the directory was listed
        let Some(node) = node else { return Ok(()) };
        let value = match node {
            // of a link once more: Docker sets the owner of a link too, and that clears it
            Node::HardLink { .. } | Node::File { .. } => capability(dir, name)?,
            _ => None,
        };
        let xattrs: Vec<_> = value.map(|value| (CAPABILITY.to_vec(), value)).into_iter().collect();
        let (mtime, xattrs) = ((m.mtime.0, 0), &xattrs[..]);
        let entry = Entry { name: path, node, mode: m.mode, uid: m.uid, gid: m.gid, mtime, xattrs };
        match node {
            Node::File { size } => {
                self.payload += size;
                self.tar.append(&entry, &mut dir.open_file(name)?)
            }
            _ => self.tar.append(&entry, &mut empty()),
        }
    }
}
