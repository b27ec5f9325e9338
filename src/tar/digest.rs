//! A layer's tar made again from its tree, whichever driver keeps it: its bytes.
//!
//! ```text
//! tar-split.json.gz ─ split::Reader ─┐
//!                                       ├ rebuild ─▶ the tar
//! the layer's view  ─ ViewFiles ────────┘
//!   names found in the layer's own tree first: what is there is what the view shows
//!   else in the view of the whole stack: on the drivers with whole trees, and where a directory of the name is a symlink
//! ```
//!
//! Docker opens `join(root, name)` in the mounted view and so follows symlinks, with ROOT's own host behind absolute ones. Here they are
//! followed inside the view, in directories on the way only, and never out of it.

use crate::disk::{Dir, FileType, parts, split};
use crate::error::{Error, Result};
use crate::layer::branch::{self, Format};
use crate::layer::view::{Chain, Contributors, Dirs};
use crate::tar::split::{self, MAX_UNPACKED, Payloads, Reader, Reassembled};
use rustix::io::Errno;
use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};

/// As many symlinks as the kernel follows for one name.
const MAX_LINKS: usize = 40;

/// Makes a layer's tar again from its tar-split data and what its stack shows, and writes it to `out`. Whether its digest is the one that
/// was recorded is for the caller to see: until then nothing of `out` is to be trusted.
pub fn rebuild(chain: &Chain, tar_split: impl Read, out: &mut dyn Write) -> Result<Reassembled> {
    split::reassemble(Reader::new(tar_split, MAX_UNPACKED), &ViewFiles::new(chain)?, out)
}

/// The length of the tar that tar-split data describes.
pub fn length(tar_split: impl Read) -> Result<u64> {
    let mut bytes: u64 = 0;
    for piece in Reader::new(tar_split, MAX_UNPACKED) {
        crate::stop::check()?;
        let more = match piece? {
            split::Piece::Segment(raw) => raw.len() as u64,
            split::Piece::File { size, .. } => size,
        };
        bytes = bytes.checked_add(more).ok_or_else(|| Error::corrupt("the tar-split data describes an endless tar"))?;
    }
    Ok(bytes)
}

/// Something held open for one directory, with the directory's path.
type Last<T> = RefCell<Option<(Vec<u8>, T)>>;

/// The regular files that a stack of layers shows, by name.
pub struct ViewFiles<'c> {
    chain: &'c Chain,
    top: &'c Dir,
    /// The last directory used, in the layer's own tree: a tar lists its names directory by directory.
    own: Last<Result<Dir, Errno>>,
    /// The last directory used, in the view.
    viewed: Last<Vec<(u16, Dir)>>,
}

impl<'c> ViewFiles<'c> {
    /// The files of a layer and all below it.
    pub fn new(chain: &'c Chain) -> Result<ViewFiles<'c>> {
        let top = chain.branch(0)?.dir()?;
        Ok(ViewFiles { chain, top, own: RefCell::default(), viewed: RefCell::default() })
    }

    /// Looks in the layer's own tree. A name that is there is shown by the view too: nothing is above it.
    fn open_own(&self, directory: &[u8], name: &[u8]) -> Result<File, Errno> {
        if directory.is_empty() {
            return self.top.try_open_file(name);
        }
        let mut own = self.own.borrow_mut();
        if own.as_ref().is_none_or(|(path, _)| path != directory) {
            *own = Some((directory.to_vec(), self.top.try_open(directory)));
        }
        match own.as_ref() {
            Some((_, Ok(dir))) => dir.try_open_file(name),
            Some((_, Err(e))) => Err(*e),
            None => Err(Errno::NOENT),
        }
    }

    /// Looks in the view.
    fn open_viewed(&self, directory: &[u8], name: &[u8]) -> Result<File> {
        let mut viewed = self.viewed.borrow_mut();
        if viewed.as_ref().is_none_or(|(path, _)| path != directory) {
            let dirs = match self.resolve(directory)? {
                Some((from, path)) => self.chain.open(&from, &path)?,
                None => Vec::new(),
            };
            *viewed = Some((directory.to_vec(), dirs));
        }
        let dirs = viewed.as_ref().map(|(_, dirs)| &dirs[..]).unwrap_or_default();
        let missing = |e: Errno| Error::io(format!("open \"{}\"", crate::text::bytes(name)), e);
        for (i, dir) in dirs {
            let format = self.chain.branch(*i)?.format;
            match dir.try_open_file(name) {
                Ok(file) => return Ok(file),
                Err(Errno::NOENT) if branch::has_whiteout(dir, format, name)? => break,
                Err(Errno::NOENT) => {}
                Err(Errno::INVAL) if is_deletion(dir, format, name) => break,
                Err(e) => return Err(missing(e)),
            }
        }
        Err(missing(Errno::NOENT))
    }

    /// Finds a directory of the view, symlinks on the way followed: the branches merged there, and its path without symlinks.
    fn resolve(&self, directory: &[u8]) -> Result<Option<(Contributors, Vec<u8>)>> {
        let mut todo: Vec<Vec<u8>> = parts(directory).rev().map(<[u8]>::to_vec).collect();
        let mut at: Vec<(Contributors, Vec<u8>)> = vec![(self.chain.root(), Vec::new())];
        let mut links = 0;
        while let Some(name) = todo.pop() {
            let Some((from, path)) = at.last() else { return Ok(None) };
            if name == b".." {
                // above the root is the root
                if at.len() > 1 {
                    at.pop();
                }
                continue;
            }
            let dirs = self.chain.open(from, path)?;
            let found = self.chain.step(&dirs, &name)?;
            if !found.is_empty() {
                let below = crate::disk::join(path, &name);
                at.push((found, below));
                continue;
            }
            let Some(target) = self.link(&dirs, &name)? else { return Ok(None) };
            links += 1;
            if links > MAX_LINKS {
                return Ok(None);
            }
            if target.starts_with(b"/") {
                at.truncate(1);
            }
            todo.extend(parts(&target).rev().map(<[u8]>::to_vec));
        }
        Ok(at.pop())
    }

    /// The target of a symlink of the view.
    fn link(&self, dirs: &Dirs, name: &[u8]) -> Result<Option<Vec<u8>>> {
        for (i, dir) in dirs {
            let format = self.chain.branch(*i)?.format;
            match dir.try_stat(name) {
                Ok(m) if m.kind == FileType::Symlink => return dir.read_link(name).map(Some),
                Ok(_) => return Ok(None),
                Err(Errno::NOENT) if branch::has_whiteout(dir, format, name)? => return Ok(None),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(Error::io(format!("stat {}", dir.show(name)), e)),
            }
        }
        Ok(None)
    }
}

fn is_deletion(dir: &Dir, format: Format, name: &[u8]) -> bool {
    format == Format::Overlay && dir.try_stat(name).is_ok_and(|m| m.is_overlay_whiteout())
}

impl Payloads for ViewFiles<'_> {
    fn open(&self, name: &[u8]) -> Result<Box<dyn Read + '_>> {
        crate::stop::check()?;
        let (directory, base) = split(name);
        match self.open_own(directory, base) {
            Ok(file) => Ok(Box::new(file)),
            // not there, or a symlink or something else on the way or at the end: the view knows
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL) => {
                Ok(Box::new(self.open_viewed(directory, base)?))
            }
            Err(e) => Err(Error::io(format!("open \"{}\"", crate::text::bytes(name)), e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::branch::Branch;
    use crate::tar::split::{Mismatch, Packer, WrongFile};
    use crate::tar::writer::{Entry, Node, TarWriter};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn chain(branches: &[(&Path, Format)]) -> Chain {
        let branch =
            |(path, format): &(&Path, Format)| Branch::open(Dir::open_named(path).expect("open"), None, *format);
        Chain { branches: branches.iter().map(branch).collect() }
    }

    fn put(top: &Path, rel: &str, text: &str) {
        let at = top.join(rel);
        fs::create_dir_all(at.parent().expect("parent")).expect("mkdir");
        fs::write(at, text).expect("write");
    }

    fn text(files: &ViewFiles<'_>, name: &str) -> Result<String> {
        let mut out = String::new();
        files.open(name.as_bytes())?.read_to_string(&mut out).expect("read");
        Ok(out)
    }

    #[test]
    fn files_are_found_as_the_view_shows_them() {
        let t = tempfile::tempdir().expect("temp dir");
        let (upper, lower) = (t.path().join("upper"), t.path().join("lower"));
        fs::write(t.path().join("secret"), "out").expect("write");
        put(&lower, "usr/lib/a", "a");
        put(&lower, "usr/lib/b", "lower b");
        put(&lower, "opaque/gone", "x");
        put(&lower, "dir/gone", "x");
        symlink("usr/lib", lower.join("lib")).expect("symlink");
        symlink("/usr/lib", lower.join("abs")).expect("symlink");
        symlink("../../../usr/lib", lower.join("usr/up")).expect("symlink");
        symlink(t.path(), lower.join("host")).expect("symlink");
        symlink("loop", lower.join("loop")).expect("symlink");
        put(&upper, "usr/lib/b", "upper b");
        put(&upper, "opaque/.wh..wh..opq", "");
        put(&upper, "dir/.wh.gone", "bytes of a marker");
        symlink("b", upper.join("usr/lib/to-b")).expect("symlink");
        let both = chain(&[(&upper, Format::Aufs), (&lower, Format::Aufs)]);
        Dir::open_named(&upper).expect("open").mknod(b"pipe", FileType::Fifo, 0).expect("fifo");
        let files = ViewFiles::new(&both).expect("files");
        for (name, is) in [
            ("usr/lib/a", "a"),
            ("usr/lib/b", "upper b"),
            ("lib/a", "a"),
            ("lib/b", "upper b"),
            ("abs/a", "a"),
            ("usr/up/b", "upper b"),
            // an odd tar's marker with content is a file of the aufs branch (FORMATS 6.2)
            ("dir/.wh.gone", "bytes of a marker"),
        ] {
            assert_eq!(text(&files, name).expect(name), is, "{name}");
        }
        for (name, errno) in [
            ("dir/gone", Errno::NOENT),
            ("opaque/gone", Errno::NOENT),
            ("host/secret", Errno::NOENT),
            ("loop/x", Errno::NOENT),
            ("nothing", Errno::NOENT),
            ("usr/lib/to-b", Errno::LOOP),
            ("usr/lib", Errno::INVAL),
            ("pipe", Errno::INVAL),
        ] {
            let e = text(&files, name).expect_err(name);
            assert_eq!(e.errno(), Some(errno), "{name}: {}", e.chain());
        }
    }

    #[test]
    fn the_tar_comes_out_again() {
        let t = tempfile::tempdir().expect("temp dir");
        let tree = t.path().join("tree");
        put(&tree, "usr/lib/a", "content");
        symlink("usr/lib", tree.join("lib")).expect("symlink");
        let mut tar = TarWriter::recording(Vec::new(), Packer::new(Vec::new()));
        let entry = |name: &'static [u8]| Entry {
            name,
            node: Node::File { size: 7 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (1, 0),
            xattrs: &[],
        };
        tar.append(&entry(b"lib/a"), &mut &b"content"[..]).expect("append");
        let (bytes, packed) = tar.finish().expect("finish");
        let packed = packed.expect("packed");
        let plain = chain(&[(&tree, Format::Plain)]);
        let mut out = Vec::new();
        let rebuilt = rebuild(&plain, &packed[..], &mut out).expect("rebuild");
        assert_eq!(rebuilt, Reassembled { bytes: bytes.len() as u64, payload_bytes: 7 });
        assert_eq!(out, bytes);
        assert_eq!(length(&packed[..]).expect("length"), bytes.len() as u64);

        put(&tree, "usr/lib/a", "Content");
        let e = rebuild(&plain, &packed[..], &mut std::io::sink()).expect_err("changed");
        assert_eq!(WrongFile::of(&e).expect("wrong file").mismatch, Mismatch::Content);
    }
}
