//! The checks: stable ids, what they mean, what to do. `unaufs explain ID` prints an entry of this table.

use serde::{Deserialize, Serialize};

/// How much a check matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Looked at, and fine.
    Ok,
    /// Worth knowing.
    Info,
    /// Something stays behind or changes.
    Warn,
    /// `migrate` refuses unless `--allow ID` is given, where that is possible.
    Block,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The id in [`TABLE`].
    pub id: String,
    /// How much it matters.
    pub level: Level,
    /// The object: `image busybox:latest`, `layer 4f1c…`, `container db`, or the host.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fix: Option<String>,
    /// What happens if nothing is done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub effect: Option<String>,
}

impl Finding {
    /// A finding with the level that the table gives its id.
    pub fn new(id: &'static str, subject: impl Into<String>, message: impl Into<String>) -> Finding {
        let level = TABLE.iter().find(|c| c.id == id).map_or(Level::Warn, |c| c.level);
        Finding { id: id.to_owned(), level, subject: subject.into(), message: message.into(), fix: None, effect: None }
    }

    /// Adds what to do.
    pub fn fix(mut self, fix: impl Into<String>) -> Finding {
        self.fix = Some(fix.into());
        self
    }

    /// Adds what happens.
    pub fn effect(mut self, effect: impl Into<String>) -> Finding {
        self.effect = Some(effect.into());
        self
    }

    /// Another level than the table's.
    pub fn level(mut self, level: Level) -> Finding {
        self.level = level;
        self
    }
}

/// An entry of the table.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Stable, for filters and `--allow`.
    pub id: &'static str,
    /// The usual level.
    pub level: Level,
    /// In a few words.
    pub title: &'static str,
    /// What it means and what to do.
    pub explain: &'static str,
}

macro_rules! table {
    ($($id:literal $level:ident $title:literal $explain:literal)*) => {
        /// All checks, by id.
        pub const TABLE: &[Check] = &[$(Check { id: $id, level: Level::$level, title: $title, explain: $explain }),*];
    };
}

// D: what is in the store; L: the content of layers; C: containers; H: the host; T: the target.
table! {
    "C01" Warn "container without a readable config"
        "A folder in containers/ holds no config.v2.json, an empty one, or one that is not JSON. Docker itself cannot load such a container. It stays where it is, with its data; nothing of it is deleted."
    "C02" Info "container of another storage driver"
        "The container belongs to another driver than aufs (Driver in its config). It is not touched."
    "C03" Warn "container marked as running"
        "Docker did not end cleanly, so the container's state still says running. Docker itself corrects that at its next start. If Docker still runs, stop it before migrating."
    "C04" Warn "container that cannot move"
        "A layer that the container needs is missing or damaged. Its configuration and what is left of its data stay in the old store."
    "C05" Warn "container whose layer order is unclear"
        "aufs/layers and layerdb name different layers below this container. aufs/layers is what aufs mounted, so it is followed."
    "D01" Warn "damaged layer"
        "A layer's folder or metadata is missing or unreadable. The layer, every layer on top of it, and every image and container that needs them stay behind in the old store."
    "D02" Warn "layer without tar-split"
        "The record that reproduces the layer's exact tar is missing. The layer moves and works; docker save and push of it fail, as they did before, and its digest cannot be proved."
    "D03" Warn "damaged image"
        "The image's config is unreadable, does not have the digest that is its name, or needs a layer that is damaged. The image stays behind."
    "D04" Info "leftover of a removal"
        "aufs renames a folder to NAME-removing before it deletes it; a crash leaves it there. Not moved."
    "D05" Info "folder of no image and no container"
        "A folder in aufs/diff is known neither to layerdb nor to a container: a remainder of a crash, or of BuildKit. Not moved; `unaufs cleanup` deletes it with the old store."
    "D06" Warn "tag of an image that stays behind"
        "The name points to an image that cannot move or does not exist; the name is left out of the new store."
    "D07" Info "unfinished write of Docker"
        "A temporary file or folder that Docker left in its metadata. Not moved."
    "D08" Warn "layer list differs from layerdb"
        "aufs/layers and layerdb name different parents for an image layer. layerdb is followed: it is what Docker creates children from."
    "D09" Info "mount record without a container"
        "layerdb/mounts holds a record that belongs to no container, usually BuildKit's. Not moved."
    "D10" Warn "unreadable metadata"
        "A file of Docker's metadata could not be read or understood. What depends on it stays behind."
    "D11" Info "build cache"
        "buildkit/ and builder/ refer to layers of the old driver by its own ids. They are parked with the old store; the next build starts with a cold cache."
    "L01" Info "aufs leftovers in a layer"
        "Names that aufs keeps for itself (.wh..wh.plnk, .wh..wh.orph, .wh..wh.aufs, .wh..wh.NAME.XXXX). They are not part of the layer and are not moved."
    "L02" Info "opaque mark on a layer's root"
        "aufs and overlayfs both ignore an opaque mark there. It has no effect, before and after."
    "L03" Warn "device 0:0 in a layer"
        "On overlay2 and overlay a character device 0:0 means a deletion, so the file cannot be kept there; it is left out. vfs and btrfs can hold it."
    "L04" Info "overlay attributes as data"
        "The layer holds trusted.overlay.* attributes as data (Docker in Docker). overlayfs would obey them, so they are left out on overlay2 and overlay. vfs and btrfs keep them."
    "L05" Info "whiteout beside a file of the same name"
        "An image layer holds both NAME and .wh.NAME. The file is the layer's, and hides what is below. Docker's own extraction of such a layer may differ."
    "L06" Info "shown by aufs only"
        "aufs itself departed from the layer semantics of every other driver here: content between two opaque marks, or below a file that lies between two folders, showed through. After the migration the path is gone, as it is for everybody who pulls the image. The old store still has it."
    "L07" Info "name too long for aufs"
        "aufs listed names of more than 242 bytes and could not open them. After the migration they can be opened."
    "L08" Info "whiteout of nothing"
        "A whiteout names something that no layer below has. It is left out: overlayfs would list it as a ghost. The layer's digest is not affected."
    "L09" Info "odd whiteout"
        "A whiteout is not an empty regular file, or names nothing. It is treated as a whiteout by its name alone, as Docker does."
    "G01" Warn "image that cannot be converted"
        "An image of a Docker up to 1.9 is damaged: its json is unreadable or another image's, its parent is missing or damaged, its layer's folder is gone, or it has more layers than Docker ever made. The image, every image on top of it and every container of those stay behind in the old store."
    "G02" Info "layer that is there twice"
        "Two images of a Docker up to 1.9 have the same layer on the same parents. Since 1.10 Docker keeps one of the folders, the one that it comes to first. The other one is not moved unless a container stands on it."
    "G03" Warn "name that Docker no longer accepts"
        "A repository or tag in repositories-aufs is no valid name for a Docker from 1.10 on, or names two images. The image is kept without this name; docker tag gives it another."
    "G04" Warn "linkgraph.db cannot be used"
        "Docker up to 1.9 kept names and links of containers in this SQLite file. Names are taken from the containers' configuration instead. A link that cannot be read is lost: the container starts without it, and docker network connect --alias replaces it."
    "G05" Info "new image ids"
        "Since Docker 1.10 the id of an image is the digest of its configuration. Images of an older Docker get the ids that Docker 1.10 itself would have given them. Tags, digests and containers follow; only scripts that name images by the old ids need the new ones, which the plan lists."
    "G06" Info "layer whose tar is made anew"
        "Docker up to 1.7 did not record how a layer's tar looked, or the record does not fit the folder. A tar is made from the folder and recorded. The content is the same; the digest of the layer and the ids of images with it differ from those of other hosts."
    "G07" Info "odd layersize"
        "graph/<id>/layersize holds no size. It is not needed: the size is counted anew."
    "G08" Info "conversion that a newer Docker began"
        "A Docker from 1.10 on has converted a part of this store. What it has converted is kept as it is, the rest is converted now."
    "G09" Warn "name of a container"
        "linkgraph.db and the container's configuration name it differently, or two containers have one name. Docker from 1.10 on follows the configuration and loads only one container of a name."
    "G10" Info "volume from before Docker 1.7"
        "Docker up to 1.6 kept volumes as folders in vfs/dir. They stay there, and the container mounts them from there. docker volume ls does not list them. Do not delete vfs/dir."
    "H01" Block "Docker runs on this root"
        "A running dockerd writes into the store. Stop it: systemctl stop docker docker.socket. `plan` may run meanwhile."
    "H02" Block "something is mounted below the root"
        "A mount below the root hides files or is in use. Unmount it."
    "H03" Block "not enough privileges"
        "Migrating needs root: devices, owners and trusted.* attributes are made."
    "H04" Block "the kernel has no overlayfs"
        "The new store could be written but not used or proved on this kernel. Load the module (modprobe overlay)."
    "H05" Block "not enough space"
        "The new store does not fit on the file system. --mode move needs no space; --target DIR uses another disk."
    "H06" Block "not enough inodes"
        "The file system has too few free inodes. --mode link makes inodes for folders only; xfs and btrfs make them on demand."
    "H07" Block "daemon.json pins another driver"
        "Docker's configuration names a storage driver. Docker 24 and later refuse to start with aufs. Change the line before Docker starts."
    "H08" Block "aufs/ or image/ is a symlink or a mount point"
        "The old store could not be parked by renaming, or lies outside the root. Replace a symlink by a bind mount of the whole root, or give the real root with --root."
    "T01" Info "an empty store of the target exists"
        "Docker 24 and later make an empty one at their first start. It is parked, and comes back with rollback."
    "T02" Info "a store of the target exists"
        "It is merged: what it holds stays, what aufs holds is added, and each clash is listed and decided for the target's side."
    "T03" Warn "clash with the target's store"
        "The same name means another object in the target's store. The target's side is kept; the old one stays in the old store."
    "T04" Block "the target's file system cannot host it"
        "overlayfs needs file types in directories (xfs: ftype=1) and trusted.* attributes; btrfs needs a btrfs file system."
    "T05" Info "Docker does not pick this driver by itself"
        "vfs is never chosen without configuration, and overlay is unknown from Docker 24 on. Set storage-driver in daemon.json."
    "T06" Warn "more layers than the target can stack"
        "overlay2 takes at most 128 layers below a container. Deeper stacks stay behind."
    "T07" Info "remains of another tool"
        "A half-made store (overlay2.temp) of another tool lies beside. It is left alone."
}

/// The entry of an id.
pub fn explain(id: &str) -> Option<&'static Check> {
    TABLE.iter().find(|c| c.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique() {
        for (i, c) in TABLE.iter().enumerate() {
            assert!(TABLE[i + 1..].iter().all(|d| d.id != c.id), "{} twice", c.id);
            assert!(c.explain.len() > 40, "{} is not explained", c.id);
        }
    }
}
