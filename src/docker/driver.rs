//! What is true of each storage driver, no matter who reads or writes its store: names, directories, modes, limits. [`stack`] opens the layers
//! as a driver stacks them.
//!
//! ```text
//! image/<driver>/  <driver>/     overlay2/<id>/diff   overlay/<id>/{root,upper}   vfs/dir/<id>   btrfs/subvolumes/<id>
//! ```

pub mod stack;

use crate::disk::attrs::XattrScope;
use crate::ids::{LayerId, Sha256};
use serde::{Deserialize, Serialize};

/// A storage driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Docker's default.
    #[default]
    Overlay2,
    /// The driver before overlay2; Docker 24 and later don't have it.
    Overlay,
    /// A full copy of each layer; works on every kernel and file system.
    Vfs,
    /// Subvolumes and snapshots; needs a btrfs file system.
    Btrfs,
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 4] = [Target::Overlay2, Target::Overlay, Target::Vfs, Target::Btrfs];

    /// The name that Docker gives it: the directory `image/<name>` and `Driver` in a container's config.
    pub fn name(self) -> &'static str {
        match self {
            Target::Overlay2 => "overlay2",
            Target::Overlay => "overlay",
            Target::Vfs => "vfs",
            Target::Btrfs => "btrfs",
        }
    }

    /// Does a Docker without configuration start on it, once its store is there?
    pub fn picked_by_docker(self) -> bool {
        matches!(self, Target::Overlay2 | Target::Btrfs)
    }

    /// The line of daemon.json without which no Docker starts on it, if it needs one.
    pub fn pin(self) -> Option<String> {
        (!self.picked_by_docker()).then(|| format!("\"storage-driver\": \"{}\"", self.name()))
    }

    /// Where the directories of layers lie, below ROOT.
    pub fn home(self) -> &'static str {
        match self {
            Target::Overlay2 => "overlay2",
            Target::Overlay => "overlay",
            Target::Vfs => "vfs/dir",
            Target::Btrfs => "btrfs/subvolumes",
        }
    }

    /// Where the tree of an image layer is, below ROOT.
    pub fn tree(self, id: &LayerId) -> String {
        let home = self.home();
        match self {
            Target::Overlay2 => format!("{home}/{id}/diff"),
            Target::Overlay => format!("{home}/{id}/root"),
            Target::Vfs | Target::Btrfs => format!("{home}/{id}"),
        }
    }

    /// So many of the uppermost old layers are in a layer's own directory, where that is not one layer or all of them.
    pub fn own_layers(self, role: Role, lowers: &[LayerId]) -> Option<u16> {
        match shape(role, lowers) {
            Shape::Upper(branches, _) if self == Target::Overlay => Some(branches),
            _ => None,
        }
    }

    /// Which extended attributes it can hold without obeying them.
    pub fn xattr_scope(self) -> XattrScope {
        match self {
            Target::Overlay2 | Target::Overlay => XattrScope::Overlay,
            Target::Vfs | Target::Btrfs => XattrScope::Plain,
        }
    }

    /// Does a layer need its parent's new directory before it can be built? btrfs takes a snapshot of it; complete trees share the
    /// parent's files where the old ones are on another file system.
    pub fn needs_parent(self) -> bool {
        self != Target::Overlay2
    }

    /// Does the new store stack layers as the old one did, so that the view of a layer rests on those below it?
    pub fn stacks(self) -> bool {
        self == Target::Overlay2
    }

    /// Is this directory, named from the top of the new store, the content of a layer rather than a part of the driver's own order?
    pub fn is_content(self, path: &[Vec<u8>]) -> bool {
        let path: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
        matches!(
            (self, path.as_slice()),
            (Target::Overlay2, [b"overlay2", _, b"diff"])
                | (Target::Overlay, [b"overlay", _, b"root" | b"upper"])
                | (Target::Vfs, [b"vfs", b"dir", _])
                | (Target::Btrfs, [b"btrfs", b"subvolumes", _])
        )
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The driver that wrote a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WrittenBy {
    /// The one that no present-day Docker has.
    #[default]
    Aufs,
    /// One of those that a store can move to, be it by Docker or by unaufs.
    #[serde(untagged)]
    Living(Target),
}

impl WrittenBy {
    /// All of them.
    pub const ALL: [WrittenBy; 5] = [
        WrittenBy::Aufs,
        WrittenBy::Living(Target::Overlay2),
        WrittenBy::Living(Target::Overlay),
        WrittenBy::Living(Target::Vfs),
        WrittenBy::Living(Target::Btrfs),
    ];

    /// As Docker spells it: the directory `image/<name>` and `Driver` in a container's config.
    pub fn name(self) -> &'static str {
        match self {
            WrittenBy::Aufs => "aufs",
            WrittenBy::Living(target) => target.name(),
        }
    }

    /// The directory of a layer, for messages.
    pub fn directory(self, id: &LayerId) -> String {
        match self {
            WrittenBy::Aufs => format!("aufs/diff/{}", id.short()),
            WrittenBy::Living(target) => format!("{}/{}", target.home(), id.short()),
        }
    }

    /// Where the driver itself notes which layers lie below one, if it does.
    pub fn list(self) -> Option<&'static str> {
        match self {
            WrittenBy::Aufs => Some("aufs/layers"),
            WrittenBy::Living(Target::Overlay2) => Some("lower"),
            WrittenBy::Living(_) => None,
        }
    }

    /// Is a container whose config names this driver one of the store's? Very old Dockers, which knew aufs only, left the name out.
    pub fn owns(self, named: &str) -> bool {
        named == self.name() || (named.is_empty() && self == WrittenBy::Aufs)
    }
}

impl clap::ValueEnum for WrittenBy {
    fn value_variants<'a>() -> &'a [WrittenBy] {
        &WrittenBy::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let value = clap::builder::PossibleValue::new(self.name());
        Some(if *self == WrittenBy::Aufs { value.help("The old store, also after a migration") } else { value })
    }
}

impl std::fmt::Display for WrittenBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Read-only, shared by images.
    Image,
    /// `<mount id>-init`: what Docker itself puts into each container.
    Init,
    /// A container's own, writable layer.
    Container,
}

impl Role {
    /// May its inodes be shared with the old store? Docker writes into init layers and containers.
    pub fn writable(self) -> bool {
        self != Role::Image
    }
}

/// Docker refuses more (FORMATS 2.1).
pub const MAX_LOWERS: usize = 128;

/// A layer's LINK: Docker draws 26 random characters of base32; ours come from the layer's id, so that a second run gives the same.
/// `draw` is 0, or more where that name is taken.
pub fn link_of(id: &LayerId, draw: u32) -> String {
    const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let again = if draw == 0 { String::new() } else { format!(" {draw}") };
    let digest = Sha256::of(format!("unaufs overlay2 link {id}{again}").as_bytes());
    let bits: Vec<u8> = digest.0.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)).collect();
    let character = |five: &[u8]| BASE32[five.iter().fold(0, |v, b| v << 1 | usize::from(*b)) % 32] as char;
    bits.chunks_exact(5).take(26).map(character).collect()
}

/// What is in a layer's directory.
#[derive(Clone, Copy, Debug)]
pub enum Shape<'a> {
    /// `root/`.
    Root,
    /// `upper/`, from so many branches, and the layer that `lower-id` names.
    Upper(u16, &'a LayerId),
}

/// What is in the directory of a layer of the driver overlay.
pub fn shape(role: Role, lowers: &[LayerId]) -> Shape<'_> {
    match lowers {
        _ if role == Role::Image => Shape::Root,
        [] => Shape::Root,
        [init, image, ..] if init.is_init() => Shape::Upper(2, image),
        // an init layer; a container without one; a container without an image, whose init layer has a root/
        [below, ..] => Shape::Upper(1, below),
    }
}

/// Modes and owners of the driver's directories, as the Docker that wrote the old store makes them (FORMATS 2.1): read off `aufs/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Style {
    /// Mode of `<driver>/`.
    pub top: u32,
    /// Mode of `<driver>/<id>/`.
    pub layer: u32,
    /// Mode of `overlay2/l/`.
    pub links: u32,
    /// Owner of these.
    pub owner: (u32, u32),
    /// What container root is on the host: owner of `work/` and `merged/`.
    pub root: (u32, u32),
}

impl Style {
    /// From the mode and owner of `aufs/`, and the owner that container root has on the host.
    pub fn of(mode: u32, owner: (u32, u32), root: (u32, u32)) -> Style {
        match mode {
            0o710 => Style { top: 0o710, layer: 0o710, links: 0o700, owner, root },
            0o701 => Style { top: 0o701, layer: 0o701, links: 0o701, owner, root },
            _ => Style { top: 0o700, layer: 0o700, links: 0o700, owner, root },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_26_characters_of_base32() {
        let a = link_of(&LayerId::parse(&"a".repeat(64)).expect("id"), 0);
        let b = link_of(&LayerId::parse(&"b".repeat(64)).expect("id"), 0);
        assert_ne!(b, link_of(&LayerId::parse(&"b".repeat(64)).expect("id"), 1));
        assert_ne!(a, b);
        assert_eq!(a.len(), 26);
        assert!(a.bytes().all(|c| c.is_ascii_uppercase() || (b'2'..=b'7').contains(&c)));
    }
}
