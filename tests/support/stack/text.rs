//! A stack of aufs branches as text, base first.
//!
//! ```text
//! layer
//! d etc  mode=0700 owner=1:2 time=1000.5     folder; `.` is the branch's root
//! f etc/passwd  =root x:user.a=b              file; the content follows `=`; `holes` makes it sparse, `bytes=N` long
//! h etc/again -> etc/passwd                   another name of that file
//! s ln -> target                              symlink
//! c dev/null 1:3                              character device; b: block device, p: fifo, k: socket
//! layer
//! w etc/passwd                                whiteout of that name; `as=folder|symlink|fifo|text|link`
//! o etc                                       opaque mark in that folder
//! i .wh..wh.plnk/7.9 -> etc/again             a name as it is, which no view shows; `/` at the end: a folder
//! ```
//!
//! Names may hold `\xNN`. Folders on the way are made. What is not said gets a value of its own, so that a mix-up is seen.

use std::collections::BTreeMap;

/// Everything but type and content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub mode: u32,
    pub owner: (u32, u32),
    pub time: (i64, u32),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File(Vec<u8>),
    /// A MiB with a few bytes at both ends.
    Sparse,
    Symlink(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
}

/// One name. Names with the same `inode` are one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub attributes: Attributes,
    pub inode: usize,
}

/// What a whiteout is on the disk; what it means is said by its name alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// An empty file, as a tar brings it.
    #[default]
    Empty,
    /// A link of `.wh..wh.aufs`, as the kernel makes it.
    Link,
    Folder,
    Symlink,
    Fifo,
    Text,
}

/// One branch.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// By path; the root is the empty one.
    pub entries: BTreeMap<Vec<u8>, Entry>,
    pub whiteouts: BTreeMap<Vec<u8>, Form>,
    pub opaque: Vec<Vec<u8>>,
    /// Names as they are, and the file that they are a link of.
    pub internal: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    number: i64,
    made: usize,
}

/// Reads a text.
pub fn parse(text: &str) -> Vec<Layer> {
    let mut layers: Vec<Layer> = Vec::new();
    for line in text.lines().map(|l| l.split(" #").next().unwrap_or_default().trim()).filter(|l| !l.is_empty()) {
        if line == "layer" {
            layers.push(Layer::new(layers.len() as i64));
            continue;
        }
        let layer = layers.last_mut().unwrap_or_else(|| panic!("{line}: before the first layer"));
        layer.line(line).unwrap_or_else(|| panic!("{line}: not understood"));
    }
    layers
}

impl Layer {
    /// An empty one; `number` makes its times differ from other layers'.
    pub fn new(number: i64) -> Layer {
        let mut layer = Layer { number, ..Layer::default() };
        let attributes = layer.default_attributes(0o755);
        layer.put(b"", Kind::Folder, attributes);
        layer
    }

    fn default_attributes(&self, mode: u32) -> Attributes {
        let n = self.made as i64;
        let time = (1_400_000_000 + self.number * 1_000_000 + n, 123_456_789 + n as u32 % 1000);
        Attributes { mode, owner: (0, 0), time, xattrs: BTreeMap::new() }
    }

    /// Adds or replaces an entry; folders on the way are made.
    pub fn put(&mut self, path: &[u8], kind: Kind, attributes: Attributes) {
        self.make_parents(path);
        self.made += 1;
        let inode = self.made;
        self.entries.insert(path.to_vec(), Entry { kind, attributes, inode });
    }

    /// An entry with attributes of its own.
    pub fn put_plain(&mut self, path: &[u8], kind: Kind) {
        let mode = if kind == Kind::Folder { 0o755 } else { 0o644 };
        let attributes = self.default_attributes(mode);
        self.put(path, kind, attributes);
    }

    fn make_parents(&mut self, path: &[u8]) {
        for (i, _) in path.iter().enumerate().filter(|(_, c)| **c == b'/') {
            if !self.entries.contains_key(&path[..i]) {
                self.put_plain(&path[..i], Kind::Folder);
            }
        }
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (what, rest) = line.split_once(' ')?;
        let mut words = rest.split_whitespace();
        let path = match words.next()? {
            "." => Vec::new(),
            p => unescape(p),
        };
        let words: Vec<&str> = words.collect();
        let arrow = || words.iter().position(|w| *w == "->").and_then(|i| words.get(i + 1)).map(|w| unescape(w));
        match what {
            "w" => {
                self.make_parents(&path);
                let form = words.iter().find_map(|w| w.strip_prefix("as="));
                self.whiteouts.insert(path, form.map_or(Some(Form::Empty), form_of)?);
            }
            "o" => {
                if !path.is_empty() {
                    self.make_parents(&[&path[..], b"/"].concat());
                }
                self.opaque.push(path);
            }
            "i" => self.internal.push((path, arrow())),
            "h" => {
                let first = self.entries.get(&arrow()?)?.clone();
                self.make_parents(&path);
                self.entries.insert(path, first);
            }
            _ => {
                let kind = kind_of(what, &path, &words, arrow())?;
                let mut attributes = self.default_attributes(if kind == Kind::Folder { 0o755 } else { 0o644 });
                words.iter().try_for_each(|w| attributes.word(w))?;
                self.put(&path, kind, attributes);
            }
        }
        Some(())
    }
}

fn form_of(word: &str) -> Option<Form> {
    Some(match word {
        "link" => Form::Link,
        "folder" => Form::Folder,
        "symlink" => Form::Symlink,
        "fifo" => Form::Fifo,
        "text" => Form::Text,
        _ => return None,
    })
}

fn kind_of(what: &str, path: &[u8], words: &[&str], arrow: Option<Vec<u8>>) -> Option<Kind> {
    let device = || -> Option<(u32, u32)> {
        let (major, minor) = words.first()?.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    Some(match what {
        "d" => Kind::Folder,
        "f" if words.contains(&"holes") => Kind::Sparse,
        "f" => {
            let long: Option<usize> = words.iter().find_map(|w| w.strip_prefix("bytes=")?.parse().ok());
            let text = words.iter().find_map(|w| w.strip_prefix('=')).map(unescape);
            let plain = || [b"content of ", path].concat();
            match long {
                Some(n) => Kind::File((0..n).map(|i| (i * i % 251) as u8).collect()),
                None => Kind::File(text.unwrap_or_else(plain)),
            }
        }
        "s" => Kind::Symlink(arrow?),
        "c" => device().map(|(a, b)| Kind::Char(a, b))?,
        "b" => device().map(|(a, b)| Kind::Block(a, b))?,
        "p" => Kind::Fifo,
        "k" => Kind::Socket,
        _ => return None,
    })
}

impl Attributes {
    fn word(&mut self, word: &str) -> Option<()> {
        if let Some(mode) = word.strip_prefix("mode=") {
            self.mode = u32::from_str_radix(mode, 8).ok()?;
        } else if let Some(owner) = word.strip_prefix("owner=") {
            let (u, g) = owner.split_once(':')?;
            self.owner = (u.parse().ok()?, g.parse().ok()?);
        } else if let Some(time) = word.strip_prefix("time=") {
            let (s, ns) = time.split_once('.')?;
            self.time = (s.parse().ok()?, ns.parse().ok()?);
        } else if let Some(x) = word.strip_prefix("x:") {
            let (name, value) = x.split_once('=')?;
            self.xattrs.insert(name.as_bytes().to_vec(), unescape(value));
        }
        Some(())
    }
}

/// `\xNN` stands for a byte.
pub fn unescape(s: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = s.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.strip_prefix(b"x").and_then(|h| h.get(..2)).and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}
