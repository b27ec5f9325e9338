//! What a stack of layers shows, from the definition of an OCI layer and from nothing else: in memory, without unaufs.
//!
//! Layers are applied one on the other, base first. A layer's whiteouts and opaque marks take away what the layers below it have; then its
//! entries are put: a directory over a directory takes over its attributes, anything else replaces what was there.

use super::text::{Entry, Kind, Layer};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A tree: path -> everything that can be told of the name there, as one line. The root is the empty path.
pub type View = BTreeMap<Vec<u8>, String>;

/// What layers `layers`, base first, show. On the overlay drivers a device 0:0 is a deletion and `trusted.overlay.*` is obeyed: unaufs
/// leaves both out.
pub fn view(layers: &[&Layer], overlay: bool) -> View {
    let mut tree: BTreeMap<&[u8], (usize, &Entry)> = BTreeMap::new();
    for (n, layer) in layers.iter().enumerate() {
        for path in layer.whiteouts.keys() {
            remove(&mut tree, path, true);
        }
        // a mark on a branch's root has no effect
        for path in layer.opaque.iter().filter(|p| !p.is_empty()) {
            remove(&mut tree, path, false);
        }
        for (path, entry) in &layer.entries {
            let merges = tree.get(&path[..]).is_some_and(|(_, e)| e.kind == Kind::Folder);
            if !(merges && entry.kind == Kind::Folder) {
                remove(&mut tree, path, true);
            }
            if !(overlay && entry.kind == Kind::Char(0, 0)) {
                tree.insert(path, (n, entry));
            }
        }
    }
    let mut first: BTreeMap<(usize, usize), &[u8]> = BTreeMap::new();
    tree.iter()
        .map(|(path, (n, e))| (path.to_vec(), line(e, first.entry((*n, e.inode)).or_insert(path), overlay)))
        .collect()
}

fn remove(tree: &mut BTreeMap<&[u8], (usize, &Entry)>, path: &[u8], itself: bool) {
    let below = [path, b"/"].concat();
    tree.retain(|p, _| !(p.starts_with(&below) || itself && *p == path));
}

fn line(e: &Entry, first: &[u8], overlay: bool) -> String {
    let a = &e.attributes;
    let (kind, content) = match &e.kind {
        Kind::Folder => ("folder", String::new()),
        Kind::File(bytes) => ("file", file(bytes, false)),
        Kind::Sparse => ("file", file(&sparse(), true)),
        Kind::Symlink(to) => ("symlink", format!(" -> {}", to.escape_ascii())),
        Kind::Char(a, b) => ("char", format!(" {a}:{b}")),
        Kind::Block(a, b) => ("block", format!(" {a}:{b}")),
        Kind::Fifo => ("fifo", String::new()),
        Kind::Socket => ("socket", String::new()),
    };
    // Linux gives all symlinks this mode
    let mode = if matches!(e.kind, Kind::Symlink(_)) { 0o777 } else { a.mode };
    let mut xattrs = a.xattrs.clone();
    xattrs.retain(|n, _| !(overlay && n.starts_with(b"trusted.overlay.")));
    told(kind, mode, a.owner, a.time, &content, (e.kind != Kind::Folder).then_some(first), &xattrs)
}

/// The content of a file as a word.
pub fn file(bytes: &[u8], sparse: bool) -> String {
    let digest: String = Sha256::digest(bytes).iter().take(6).map(|b| format!("{b:02x}")).collect();
    format!(" {} bytes {digest}{}", bytes.len(), if sparse { " sparse" } else { "" })
}

/// One line of a [`View`].
pub fn told(
    kind: &str,
    mode: u32,
    owner: (u32, u32),
    time: (i64, u32),
    content: &str,
    first: Option<&[u8]>,
    xattrs: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> String {
    let mut out = format!("{kind} {mode:04o} {}:{} {}.{:09}{content}", owner.0, owner.1, time.0, time.1);
    if let Some(first) = first {
        out += &format!(" one with {}", first.escape_ascii());
    }
    for (n, v) in xattrs {
        out += &format!(" {}={}", n.escape_ascii(), v.escape_ascii());
    }
    out
}

/// The content of [`Kind::Sparse`].
pub fn sparse() -> Vec<u8> {
    let mut out = vec![0; 1 << 20];
    out[..5].copy_from_slice(b"begin");
    let end = out.len() - 3;
    out[end..].copy_from_slice(b"end");
    out
}
