//! Paths within a container: resolved in its own tree, as `docker cp` does, and never on the host.
//!
//! ```text
//! a/../b        b: taken as text, before any symlink is looked at
//! link/x        the link is followed; an absolute one begins at the container's /, and .. ends there
//! link          the link itself; with -L, or as link/ and link/., what it leads to
//! ```

use super::volumes::Mounted;
use crate::disk::{FileType, Meta, join, split};
use crate::error::{Error, Kind, Result};
use crate::layer::view::{Chain, Contributors, Dirs};
use crate::text;

/// As many symlinks are followed for one path.
const LINKS: usize = 255;

/// What the user wrote, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The components; `.` and `..` are gone.
    parts: Vec<Vec<u8>>,
    /// It ends in `/` or `/.`, so it names a directory.
    pub directory: bool,
    /// What is in the directory, not the directory itself: it ends in `/.`, or is the container's root directory.
    pub contents: bool,
}

impl Asked {
    /// Takes a path apart.
    pub fn parse(path: &[u8]) -> Asked {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for part in crate::disk::parts(path) {
            match part {
                b".." => drop(parts.pop()),
                name => parts.push(name.to_vec()),
            }
        }
        let dot = path == b"." || path.ends_with(b"/.");
        let contents = dot || parts.is_empty();
        Asked { directory: contents || path.ends_with(b"/") || path.ends_with(b"/.."), contents, parts }
    }

    /// The last component: what a copy is called.
    pub fn name(&self) -> Option<&[u8]> {
        self.parts.last().map(Vec::as_slice)
    }

    /// For messages.
    pub fn shown(&self) -> String {
        format!("/{}", text::bytes(&self.parts.join(&b'/')))
    }
}

/// What a path leads to.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where it is, without symlinks on the way; empty for the root directory.
    pub path: Vec<u8>,
    /// A directory: the layers that are merged in it. Otherwise the one that holds the file.
    pub from: Contributors,
    /// A directory?
    pub is_dir: bool,
    /// Its size, of a regular file.
    pub size: u64,
}

/// Where a path ends.
#[derive(Clone, Debug)]
pub enum Found {
    /// In the layers.
    Here(Place),
    /// In what is mounted there: its number in the list, and the path within it.
    Mounted(usize, Asked),
}

/// Where things are mounted in the end: Docker followed the image's symlinks on the way (`/var/run/x` is `/run/x` in most images).
pub fn landed(chain: &Chain, mounts: &[Mounted]) -> Vec<Mounted> {
    let resolved = |path: &[u8]| match find(chain, &Asked::parse(path), true, &[]) {
        Ok(Found::Here(place)) => Some(place.path),
        _ => None,
    };
    let at = |path: &[u8]| {
        let (parent, name) = split(path);
        // a mount point that the image lacks is made in its directory
        resolved(path).or_else(|| Some(join(&resolved(parent)?, name))).unwrap_or_else(|| path.to_vec())
    };
    mounts.iter().map(|m| Mounted { at: at(&m.at), ..m.clone() }).collect()
}

/// Resolves a path. `follow`: the last component too, if it is a symlink. Of what is mounted at `mounts` the layers know nothing.
pub fn find(chain: &Chain, asked: &Asked, follow: bool, mounts: &[Mounted]) -> Result<Found> {
    let fails = |why: &str| Err(Error::new(Kind::Failed, format!("{}: {why}", asked.shown())));
    let follow = follow || asked.directory;
    let mut todo: Vec<Vec<u8>> = asked.parts.iter().rev().cloned().collect();
    let mut at: Vec<(Vec<u8>, Contributors)> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == b".." {
            at.pop();
            continue;
        }
        let path = path_of(&at);
        if let Some(i) = mounts.iter().position(|m| m.at == join(&path, &name)) {
            let parts = todo.into_iter().rev().collect();
            return Ok(Found::Mounted(i, Asked { parts, ..*asked }));
        }
        let from = at.last().map_or_else(|| chain.root(), |(_, from)| from.clone());
        let dirs = chain.open(&from, &path)?;
        let Some((branch, dir, meta)) = chain.find(&dirs, &name)?.filter(|_| is_name(chain, &dirs, &name)) else {
            return fails("there is no such file or directory");
        };
        match meta.kind {
            FileType::Directory => {
                let merged = chain.step(&dirs, &name)?;
                at.push((name, merged));
            }
            FileType::Symlink if follow || !todo.is_empty() => {
                links += 1;
                if links > LINKS {
                    return fails("too many symlinks");
                }
                let target = dir.read_link(&name)?;
                if target.starts_with(b"/") {
                    at.clear();
                }
                todo.extend(crate::disk::parts(&target).rev().map(<[u8]>::to_vec));
            }
            _ if todo.is_empty() && !asked.directory => {
                return Ok(Found::Here(file(join(&path, &name), branch, &meta)));
            }
            _ => return fails("not a directory"),
        }
    }
    let from = at.last().map_or_else(|| chain.root(), |(_, from)| from.clone());
    Ok(Found::Here(Place { path: path_of(&at), from, is_dir: true, size: 0 }))
}

fn file(path: Vec<u8>, branch: u16, meta: &Meta) -> Place {
    Place { path, from: vec![branch], is_dir: false, size: if meta.is_file() { meta.size } else { 0 } }
}

fn path_of(at: &[(Vec<u8>, Contributors)]) -> Vec<u8> {
    at.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>().join(&b'/')
}

/// Markers of aufs are no names of the container.
fn is_name(chain: &Chain, dirs: &Dirs, name: &[u8]) -> bool {
    use crate::layer::branch::{Format, Name, classify};
    let aufs = dirs.iter().any(|(i, _)| chain.branch(*i).is_ok_and(|b| b.format == Format::Aufs));
    !aufs || classify(name, false) == Name::Entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Dir;
    use crate::layer::branch::{Branch, Format};
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_are_taken_apart_as_docker_does() {
        let parse = |p: &str| {
            let a: Asked = Asked::parse(p.as_bytes());
            (a.shown(), a.directory, a.contents)
        };
        for (path, shown, directory, contents) in [
            ("/", "/", true, true),
            ("", "/", true, true),
            (".", "/", true, true),
            ("etc", "/etc", false, false),
            ("/etc/", "/etc", true, false),
            ("/etc/.", "/etc", true, true),
            ("a/../b", "/b", false, false),
            ("../../x", "/x", false, false),
            ("/a/..", "/", true, true),
            ("/a/b/..", "/a", true, false),
            ("//a//./b", "/a/b", false, false),
        ] {
            assert_eq!(parse(path), (shown.to_owned(), directory, contents), "{path}");
        }
    }

    #[test]
    fn links_stay_in_the_container() {
        let t = tempfile::tempdir().expect("a directory");
        let at = |p: &str| t.path().join(p);
        fs::create_dir_all(at("upper/etc")).expect("mkdir");
        fs::create_dir_all(at("lower/etc/deep")).expect("mkdir");
        fs::create_dir_all(at("lower/gone")).expect("mkdir");
        for file in ["lower/etc/deep/f", "lower/etc/hidden", "lower/gone/f", "secret"] {
            fs::write(at(file), "x").expect("write");
        }
        fs::write(at("upper/.wh.gone"), "").expect("write");
        fs::write(at("upper/etc/.wh.hidden"), "").expect("write");
        for (link, to) in [
            ("abs", "/etc"),
            ("up", "../../../../etc/deep"),
            ("out", "../../secret"),
            ("loop", "loop"),
            ("etc/back", "deep/../../abs/deep/f"),
        ] {
            symlink(to, at("upper").join(link)).expect("symlink");
        }
        let branch = |p: &str| Branch::open(Dir::open_named(&at(p)).expect("open"), None, Format::Aufs);
        let chain = Chain { branches: vec![branch("upper"), branch("lower")] };
        let find = |p: &str, follow| {
            let mounts = [Mounted { at: b"etc/vol".to_vec(), volume: None, source: String::new() }];
            Ok::<_, String>(
                match find(&chain, &Asked::parse(p.as_bytes()), follow, &mounts).map_err(|e| e.to_string())? {
                    Found::Here(place) => (String::from_utf8_lossy(&place.path).into_owned(), place.from),
                    Found::Mounted(_, rest) => (format!("mounted:{}", rest.shown()), vec![]),
                },
            )
        };
        let ok = |path: &str, from: &[u16]| Ok((path.to_owned(), from.to_vec()));
        assert_eq!(find("/", false), ok("", &[0, 1]));
        assert_eq!(find("abs/deep/f", false), ok("etc/deep/f", &[1]));
        assert_eq!(find("abs", false), ok("abs", &[0]));
        assert_eq!(find("abs/", false), ok("etc", &[0, 1]));
        assert_eq!(find("abs", true), ok("etc", &[0, 1]));
        // the layers have nothing there
        assert_eq!(find("abs/vol/x/y", false), ok("mounted:/x/y", &[]));
        assert_eq!(find("etc/vol", false), ok("mounted:/", &[]));
        assert_eq!(find("up/f", false), ok("etc/deep/f", &[1]));
        assert_eq!(find("etc/back", true), ok("etc/deep/f", &[1]));
        // as text: the link plays no part
        assert_eq!(find("up/../abs", false), ok("abs", &[0]));
        for (path, follow, why) in [
            ("out", true, "no such"),
            ("gone/f", false, "no such"),
            ("etc/hidden", false, "no such"),
            (".wh.gone", false, "no such"),
            ("loop", true, "too many"),
            ("etc/deep/f/", false, "not a directory"),
            ("etc/deep/f/x", false, "not a directory"),
        ] {
            let got = find(path, follow);
            assert!(got.as_ref().is_err_and(|e| e.contains(why)), "{path}: {got:?}");
        }
    }
}
