//! A branch's tar as Docker 1.10.3 made it of `aufs/diff/<id>` (FORMATS 1.4, 8.3).
//!
//! ```text
//! aufs/diff/<id>/
//!   .wh..wh.{aufs,plnk,orph}    left out, as is all that begins with .wh..wh. there, except an opaque mark
//!   !x, .wh.gone, etc           entries in the order of their bytes, a directory before the names in it
//!   etc/.wh..wh..opq            a hard link to .wh.gone, where both are one inode
//! ```
//!
//! The first name of an inode in this order is the file, the others are links to it; whiteouts are files like others.

use super::{FirstNames, Put, Visitor, capability, walk};
use crate::disk::{Dir, FileType, Meta};
use crate::error::Result;
use crate::layer::branch;
use crate::tar::writer::go15::{Entry, Headers};
use crate::tar::writer::{Node, TarWriter};
use crate::text;
use std::io::{Write, empty};

/// Docker's pattern for what it leaves out is this and `*`, which matches names at the root alone.
const LEFT_OUT: &[u8] = b".wh..wh.";

/// Adds everything in the branch to a tar.
pub fn append<W: Write, P: Write>(branch: &Dir, tar: &mut TarWriter<W, P>) -> Result<Put> {
    let mut docker = Docker { tar, headers: Headers::default(), first: FirstNames::default(), payload: 0 };
    walk(branch, &mut docker)?;
    let new_id = docker.headers.first_pax().map(|name| {
        format!("Docker 1.10 and 1.11 wrote their own process ID into its tar, because of {}", text::bytes(&name))
    });
    Ok(Put { payload: docker.payload, new_id })
}

struct Docker<'t, W: Write, P: Write> {
    tar: &'t mut TarWriter<W, P>,
    headers: Headers,
    first: FirstNames,
    payload: u64,
}

impl<W: Write, P: Write> Visitor for Docker<'_, W, P> {
    fn enter(&mut self, dir: &Dir, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        dir.for_each(|name, _, _| {
            if !(path.is_empty() && name.starts_with(LEFT_OUT)) || name == branch::OPQ {
                names.push(name.to_vec());
            }
            Ok(())
        })?;
        names.sort();
        Ok(names)
    }

    fn entry(&mut self, dir: &Dir, name: &[u8], path: &[u8], m: &Meta) -> Result<()> {
        let capability = capability(dir, name)?;
        let target = if m.kind == FileType::Symlink { dir.read_link(name)? } else { Vec::new() };
        let first = self.first.before(path, m);
        let node = match &first {
            Some(first) => Some(Node::HardLink { first }),
            None => Node::of(m, &target),
        };
        // a socket that has replaced something else since the directory was listed
        let Some(node) = node else { return Ok(()) };
        let entry = Entry { name: path, node, meta: m, capability: capability.as_deref() };
        match node {
            Node::File { size } => {
                self.payload += size;
                self.tar.append_as_go15(&mut self.headers, &entry, &mut dir.open_file(name)?)
            }
            _ => self.tar.append_as_go15(&mut self.headers, &entry, &mut empty()),
        }
    }
}
