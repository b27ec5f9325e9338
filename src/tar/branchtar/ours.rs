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

use super::{CAPABILITY, Visitor, capability, walk};
use crate::disk::{Dir, FileType, Meta};
use crate::error::Result;
use crate::layer::branch::{self, Format};
use crate::tar::writer::{Entry, Node, TarWriter};
use std::collections::HashMap;
use std::io::{Read, Write, empty};

/// Adds everything in the branch to a tar. Gives the bytes of all files.
pub fn append<W: Write, P: Write>(branch: &Dir, tar: &mut TarWriter<W, P>) -> Result<u64> {
    let mut ours = Ours { tar, first: HashMap::new(), payload: 0 };
    walk(branch, &mut ours)?;
    Ok(ours.payload)
}

struct Ours<'t, W: Write, P: Write> {
    tar: &'t mut TarWriter<W, P>,
    /// Inodes with several names: the first name. Whiteouts are not among them, although all of them may be one inode.
    first: HashMap<u64, Vec<u8>>,
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
            // only the name of a marker means anything; what aufs gave it differs from one to the next
            let entry = Entry {
                name: &[path, &name].concat(),
                node: Node::File { size: 0 },
                mode: 0o444,
                uid: 0,
                gid: 0,
                mtime: (0, 0),
                xattrs: &[],
            };
            self.tar.append(&entry, &mut empty())?;
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
        let rdev = m.rdev;
        if !m.is_dir() && m.nlink > 1 {
            if let Some(first) = self.first.get(&m.ino) {
                // with the attribute once more: Docker sets the owner of a link too, and that clears it
                return put(self.tar, path, m, Node::HardLink { first }, capability(dir, name)?, &mut empty());
            }
            self.first.insert(m.ino, path.to_vec());
        }
        let node = match m.kind {
            FileType::RegularFile => {
                self.payload += m.size;
                let (node, xattr) = (Node::File { size: m.size }, capability(dir, name)?);
                return put(self.tar, path, m, node, xattr, &mut dir.open_file(name)?);
            }
            FileType::Symlink => {
                return put(self.tar, path, m, Node::Symlink { target: &dir.read_link(name)? }, None, &mut empty());
            }
            FileType::Directory => Node::Directory,
            FileType::CharacterDevice => Node::CharDevice { rdev },
            FileType::BlockDevice => Node::BlockDevice { rdev },
            FileType::Fifo => Node::Fifo,
            // a socket that has taken the place of something else since the directory was listed
            _ => return Ok(()),
        };
        put(self.tar, path, m, node, None, &mut empty())
    }
}

fn put<W: Write, P: Write>(
    tar: &mut TarWriter<W, P>,
    name: &[u8],
    m: &Meta,
    node: Node<'_>,
    capability: Option<Vec<u8>>,
    content: &mut dyn Read,
) -> Result<()> {
    let xattrs: Vec<_> = capability.map(|value| (CAPABILITY.to_vec(), value)).into_iter().collect();
    let entry = Entry { name, node, mode: m.mode, uid: m.uid, gid: m.gid, mtime: (m.mtime.0, 0), xattrs: &xattrs };
    tar.append(&entry, content)
}
