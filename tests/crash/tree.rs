//! A tree with everything that can be told of it, for comparing: names, types, modes, owners, sizes, times, contents, links, attributes.

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What one name is.
#[derive(Clone, PartialEq, Eq)]
struct Object {
    facts: String,
    /// The bytes; of more than [`KEPT`] their SHA-256.
    content: Arc<[u8]>,
}

/// Records of a run: they hold times and a random id, and are no part of the store.
const RECORDS: [&str; 5] =
    [".unaufs/journal.db", ".unaufs/journal.db-journal", ".unaufs/run.json", ".unaufs/switched.json", ".unaufs/held"];

/// Bytes of a file that are kept: no text that names a path is longer.
const KEPT: usize = 64 << 10;

/// A tree below a directory; the directory itself is left out, as ROOT's own times may change.
pub struct Tree(BTreeMap<PathBuf, Object>);

impl Tree {
    /// Reads a tree. Times from `fresh` on are taken as one: what is made by a run has the time of that run.
    pub fn of(root: &Path, fresh: Option<i64>) -> Tree {
        Tree::without(root, fresh, &RECORDS)
    }

    /// Reads a tree without what is at and below some paths.
    pub fn without(root: &Path, fresh: Option<i64>, skip: &[&str]) -> Tree {
        let mut out = BTreeMap::new();
        let mut groups: BTreeMap<(u64, u64), Vec<PathBuf>> = BTreeMap::new();
        // a complete tree has hundreds of names of one file: it is read once
        let mut known: HashMap<(u64, u64), Object> = HashMap::new();
        let mut todo = vec![PathBuf::new()];
        while let Some(rel) = todo.pop() {
            for entry in fs::read_dir(root.join(&rel)).unwrap_or_else(|e| panic!("list {}: {e}", rel.display())) {
                let path = rel.join(entry.expect("entry").file_name());
                if skip.iter().any(|s| path.starts_with(s)) {
                    continue;
                }
                let m = fs::symlink_metadata(root.join(&path)).expect("stat");
                let read = || Object::of(&root.join(&path), &m, fresh);
                let object = if m.is_dir() {
                    todo.push(path.clone());
                    read()
                } else {
                    groups.entry((m.dev(), m.ino())).or_default().push(path.clone());
                    known.entry((m.dev(), m.ino())).or_insert_with(read).clone()
                };
                out.insert(path, object);
            }
        }
        for mut names in groups.into_values().filter(|n| n.len() > 1) {
            names.sort();
            for n in &names {
                let object = out.get_mut(n).expect("listed");
                object.facts.push_str(&format!(" one file with {}", names[0].display()));
            }
        }
        Tree(out)
    }

    /// With a path that contents name replaced by another, for trees that lie elsewhere.
    #[cfg(feature = "fault-points")]
    pub fn told(mut self, was: &Path, is: &str) -> Tree {
        let was = was.to_str().expect("a path in UTF-8");
        for o in self.0.values_mut() {
            if let Ok(text) = std::str::from_utf8(&o.content).map(|t| t.replace(was, is)) {
                o.content = text.into_bytes().into();
            }
        }
        self
    }

    /// What differs, one line each.
    pub fn differences(&self, is: &Tree) -> Vec<String> {
        let mut out = Vec::new();
        for (path, was) in &self.0 {
            match is.0.get(path) {
                None => out.push(format!("{}: missing", path.display())),
                Some(is) if is.facts != was.facts => {
                    out.push(format!("{}: {} instead of {}", path.display(), is.facts, was.facts));
                }
                Some(is) if is.content != was.content => out.push(format!("{}: other content", path.display())),
                Some(_) => {}
            }
        }
        out.extend(is.0.keys().filter(|p| !self.0.contains_key(*p)).map(|p| format!("{}: new", p.display())));
        out
    }
}

impl Object {
    fn of(path: &Path, m: &fs::Metadata, fresh: Option<i64>) -> Object {
        let t = m.file_type();
        let kind = match () {
            () if t.is_dir() => "folder",
            () if t.is_file() => "file",
            () if t.is_symlink() => "symlink",
            () if t.is_char_device() => "char device",
            () if t.is_block_device() => "block device",
            () if t.is_fifo() => "fifo",
            () => "socket",
        };
        let size = if t.is_file() { m.size() } else { 0 };
        let time = match fresh {
            Some(f) if m.mtime() >= f => "fresh".to_owned(),
            _ => format!("{}.{:09}", m.mtime(), m.mtime_nsec()),
        };
        let mut attributes: Vec<(OsString, Option<Vec<u8>>)> = xattr::list(path)
            .map(|names| names.map(|n| (n.clone(), xattr::get(path, n).ok().flatten())).collect())
            .unwrap_or_default();
        attributes.retain(|(n, _)| n != "security.selinux");
        attributes.sort();
        let mut content = match () {
            // of huge files, which tests make of zeros, the size is enough
            () if t.is_file() && m.size() < 64 << 20 => fs::read(path).expect("read"),
            () if t.is_symlink() => fs::read_link(path).expect("read link").into_os_string().into_encoded_bytes(),
            () => Vec::new(),
        };
        if content.len() > KEPT {
            content = Sha256::digest(&content).to_vec();
        }
        let (mode, uid, gid, rdev) = (m.mode() & 0o7777, m.uid(), m.gid(), m.rdev());
        Object {
            facts: format!("{kind} {mode:04o} {uid}:{gid} {size} {time} {rdev:x} {attributes:?}"),
            content: content.into(),
        }
    }
}
