//! Proves a layer's files against tar-split data: all that are wrong are named, not only the first.

use super::reader::{Piece, Reader};
use super::reassemble::{Mismatch, Passage, Payloads, WrongFile};
use super::{DiffIdWriter, name};
use crate::error::Result;
use crate::ids::DiffId;
use crate::layer::branch::{OPQ, WH};
use std::io::{Read, sink};

/// As many wrong files are named; the layer is not the same past that, and memory is to stay flat.
const MOST: usize = 10_000;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The digest of the tar, if every file is as recorded.
    pub diff: Option<DiffId>,
    /// Files that are not as recorded.
    pub wrong: Vec<WrongFile>,
    /// Files that only the tar had, and why: no driver but aufs can have them in its tree (FORMATS 6.2).
    pub absent: Vec<(Vec<u8>, &'static str)>,
    /// Bytes of the tar that were digested.
    pub bytes: u64,
}

/// Makes the tar again, keeps none of it, and gives its digest or the files that are in the way. With `thread` the digest has one of its own.
pub fn prove<R: Read>(reader: Reader<R>, payloads: &dyn Payloads, thread: bool) -> Result<Proof> {
    let mut proof = Proof { diff: None, wrong: Vec::new(), absent: Vec::new(), bytes: 0 };
    let mut tar = DiffIdWriter::with_thread(sink(), thread);
    let mut passage = Passage::new(payloads, &mut tar);
    for piece in reader {
        crate::stop::check()?;
        match piece? {
            Piece::Segment(bytes) => {
                proof.bytes += bytes.len() as u64;
                // a sink takes everything
                let _ = passage.out.write_all(&bytes);
            }
            Piece::File { name, size: 0, .. } => proof.hidden(&name),
            Piece::File { name, size, crc } => {
                proof.bytes += size;
                let copied = passage.file(&name, size, crc);
                proof.note(name, copied)?;
            }
        }
    }
    if proof.wrong.is_empty() && proof.absent.is_empty() {
        proof.diff = Some(tar.finish().1);
    }
    Ok(proof)
}

impl Proof {
    fn note(&mut self, name: Vec<u8>, copied: Result<()>) -> Result<()> {
        let Err(e) = copied else { return Ok(()) };
        let Some(wrong) = WrongFile::of(&e).cloned() else { return Err(e) };
        let gone = matches!(wrong.mismatch, Mismatch::Missing | Mismatch::NotAFile);
        // each list has a bound of its own: many absent files must not hide a wrong one
        if gone && name::clean(&name).split(|c| *c == b'/').any(|part| part.starts_with(WH)) {
            if self.absent.len() < MOST {
                self.absent.push((name, "the tar has a whiteout or an aufs file with content"));
            }
        } else if self.wrong.len() < MOST {
            self.wrong.push(wrong);
        }
        Ok(())
    }

    /// A file that an entry further on in the same tar whites out was removed again by all drivers that apply the tar entry by entry.
    fn hidden(&mut self, name: &[u8]) {
        if self.wrong.is_empty() {
            return;
        }
        let cleaned = name::clean(name);
        let (dir, base) = crate::disk::split(&cleaned);
        let Some(gone) = base.strip_prefix(WH).filter(|_| base != OPQ) else { return };
        let gone = crate::disk::join(dir, gone);
        let below = |w: &mut WrongFile| {
            let n = name::clean(&w.name);
            let there = n == gone || n.strip_prefix(&gone[..]).is_some_and(|rest| rest.starts_with(b"/"));
            there && matches!(w.mismatch, Mismatch::Missing | Mismatch::NotAFile)
        };
        let hidden = self.wrong.extract_if(.., below).map(|w| (w.name, "the same tar deletes it"));
        self.absent.extend(hidden);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Crc64, Packer};
    use super::*;
    use crate::error::Error;
    use rustix::io::Errno;
    use std::collections::BTreeMap;

    struct Tree(BTreeMap<&'static str, &'static str>);

    impl Payloads for Tree {
        fn open(&self, name: &[u8]) -> Result<Box<dyn Read + '_>> {
            match self.0.get(std::str::from_utf8(name).expect("text")) {
                Some(content) => Ok(Box::new(content.as_bytes())),
                None => Err(Error::io("open", Errno::NOENT)),
            }
        }
    }

    /// A tar of files, each with the content `hello`; what ends in a slash or is a whiteout has none.
    fn proof(names: &[&str], tree: &[(&'static str, &'static str)]) -> Proof {
        let mut p = Packer::new(Vec::new());
        for name in names {
            p.segment(b"[head]").expect("packed");
            let size = if name.ends_with('/') || name.ends_with("~") { 0 } else { 5 };
            p.file(name.trim_end_matches('~').as_bytes(), size, Crc64::of(b"hello")).expect("packed");
        }
        let gz = p.finish().expect("packed");
        let tree = Tree(tree.iter().copied().collect());
        let proof = prove(Reader::new(&gz[..], 1 << 20), &tree, false).expect("a proof");
        assert_eq!(prove(Reader::new(&gz[..], 1 << 20), &tree, true).expect("a proof"), proof);
        proof
    }

    #[test]
    fn a_whole_tree_gives_the_digest() {
        let p = proof(&["d/", "d/a", "b"], &[("d/a", "hello"), ("b", "hello")]);
        assert_eq!(p.diff.map(|d| d.0), Some(crate::ids::Sha256::of(b"[head][head]hello[head]hello")));
        assert_eq!((p.bytes, p.wrong.len(), p.absent.len()), (28, 0, 0));
    }

    #[test]
    fn every_wrong_file_is_named() {
        let p = proof(&["a", "b", "c", "d"], &[("a", "hallo"), ("b", "hello"), ("d", "hell")]);
        let named: Vec<_> = p.wrong.iter().map(|w| (&w.name[..], &w.mismatch)).collect();
        let shorter = Mismatch::Shorter { recorded: 5, found: 4 };
        assert_eq!(named, [(&b"a"[..], &Mismatch::Content), (b"c", &Mismatch::Missing), (b"d", &shorter)]);
        assert_eq!(p.diff, None);
    }

    #[test]
    fn what_no_tree_can_have_is_told_apart() {
        let p = proof(&["x/.wh.odd", "gone/a", "gone/b", "goner", ".wh.gone~"], &[("gone/b", "hullo")]);
        let absent: Vec<_> = p.absent.iter().map(|(n, _)| &n[..]).collect();
        assert_eq!(absent, [&b"x/.wh.odd"[..], b"gone/a"]);
        let wrong: Vec<_> = p.wrong.iter().map(|w| &w.name[..]).collect();
        assert_eq!(wrong, [&b"gone/b"[..], b"goner"], "a changed file is not excused by a whiteout");
        // a whiteout before the file is of the layers below
        assert_eq!(proof(&[".wh.a~", "a"], &[]).wrong.len(), 1);
        // on aufs the file of a whiteout is there
        assert!(proof(&[".wh.a"], &[(".wh.a", "hello")]).diff.is_some());
    }
}
