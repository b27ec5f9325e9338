//! The checks: stable ids, what they mean, what to do. `unaufs explain ID` prints an entry of this table.

use serde::{Deserialize, Serialize};
use std::fmt;

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

/// The object of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// `layer`, `container`, `image`, `tag`; `other` for everything else.
    pub kind: String,
    /// Its id, shortened as in the text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its name, or what else tells it apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

impl Subject {
    const KINDS: [&'static str; 4] = ["layer", "container", "image", "tag"];
}

impl From<&str> for Subject {
    /// Reads `layer ID`, `container NAME (ID)` and so on; anything else is a name.
    fn from(s: &str) -> Subject {
        let is_id = |s: &str| s.len() >= 12 && s.bytes().all(|b| b.is_ascii_hexdigit());
        let Some((kind, rest)) = s.split_once(' ').filter(|(k, _)| Subject::KINDS.contains(k)) else {
            return Subject { kind: "other".to_owned(), id: String::new(), name: s.to_owned() };
        };
        let with = |id: &str, name: &str| Subject { kind: kind.to_owned(), id: id.to_owned(), name: name.to_owned() };
        match rest.rsplit_once(" (").and_then(|(name, id)| Some((name, id.strip_suffix(')')?))) {
            Some((name, id)) if is_id(id) => with(id, name),
            _ if is_id(rest) => with(rest, ""),
            _ => with("", rest),
        }
    }
}

impl From<String> for Subject {
    fn from(s: String) -> Subject {
        Subject::from(s.as_str())
    }
}

impl From<&String> for Subject {
    fn from(s: &String) -> Subject {
        Subject::from(s.as_str())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind.as_str(), self.id.as_str(), self.name.as_str()) {
            ("other", _, name) => f.write_str(name),
            (kind, "", name) => write!(f, "{kind} {name}"),
            (kind, id, "") => write!(f, "{kind} {id}"),
            (kind, id, name) => write!(f, "{kind} {name} ({id})"),
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The id in [`TABLE`].
    pub id: String,
    /// How much it matters.
    pub level: Level,
    /// The object.
    pub subject: Subject,
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
    pub fn new(id: &'static str, subject: impl Into<Subject>, message: impl Into<String>) -> Finding {
        let level = TABLE.iter().find(|c| c.id == id).map_or(Level::Warn, |c| c.level);
        let message = crate::text::sentence(message);
        Finding { id: id.to_owned(), level, subject: subject.into(), message, fix: None, effect: None }
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

impl Check {
    /// The finding that says: looked at, and fine.
    pub fn fine(&self) -> Finding {
        Finding::new(self.id, "", format!("{}: no", self.title)).level(Level::Ok)
    }
}

/// Checks that no `--allow` gets past: going on would damage something, or cannot work.
const FIRM: [&str; 4] = ["H01", "H08", "H10", "N01"];

/// May `--allow` name this id?
pub fn allowable(id: &str) -> bool {
    explain(id).is_some_and(|c| !FIRM.contains(&c.id))
}

/// Turns what blocks into a warning where the user allows it.
pub fn allow(findings: &mut [Finding], ids: &[String]) {
    for f in findings.iter_mut().filter(|f| f.level == Level::Block && allowable(&f.id)) {
        if ids.iter().any(|a| a.eq_ignore_ascii_case(&f.id)) {
            f.level = Level::Warn;
            f.message.push_str(" (allowed)");
        }
    }
}

impl Finding {
    /// Does it keep `plan` itself from being of use? A running Docker, what it has mounted, and a root that is read-only for now do
    /// not: `plan` is for hosts at work, and `migrate` looks again.
    pub fn blocks_plan(&self, docker_runs: bool) -> bool {
        self.level == Level::Block && !(self.id == "H01" || self.id == "H10" || self.id == "H02" && docker_runs)
    }
}

/// Does something block that does not go away by stopping Docker?
pub fn plan_is_blocked(findings: &[Finding]) -> bool {
    let docker_runs = findings.iter().any(|f| f.id == "H01" && f.level == Level::Block);
    findings.iter().any(|f| f.blocks_plan(docker_runs))
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
        "Docker can't load this container: its config.v2.json or hostconfig.json is missing, empty, cut, or has a value of another type than Docker expects. The container stays where it is, with its data. On a few files dockerd itself crashes at every start, for example a hostconfig.json that holds null: the directory of such a container is set aside in .unaufs/old, and comes back with rollback."
    "C02" Info "container of another storage driver"
        "The container belongs to another driver than aufs (Driver in its config). It is not touched."
    "C03" Warn "container marked as running"
        "Docker did not end cleanly, so the container's state still says running. Docker itself corrects that at its next start. If Docker still runs, stop it before migrating."
    "C04" Warn "container that cannot move"
        "A layer that the container needs is missing or damaged. Its configuration and what is left of its data stay in the old store."
    "C05" Warn "container whose layer order is unclear"
        "The list of the layers below a container, in aufs/layers, is empty, cut or missing after a crash, or the record in layerdb is. What one source lost is taken from another: layerdb, or the image that the container's configuration names. A list that names directories which only aufs knows is followed, since those were mounted. Where the sources contradict each other the container stays behind (C04)."
    "D01" Warn "damaged layer"
        "A layer's directory or metadata is missing or unreadable. The layer, every layer on top of it, and every image and container that needs them stay behind in the old store."
    "D02" Warn "layer without tar-split"
        "The record that reproduces the layer's exact tar is missing. The layer moves and works; docker save and push of it fail, as they did before, and its digest cannot be proved."
    "D03" Warn "damaged image"
        "The image's config is unreadable, does not have the digest that is its name, or needs a layer that is damaged. The image stays behind."
    "D04" Info "leftover of a removal"
        "aufs renames a directory to NAME-removing before it deletes it; a crash leaves it there. Not moved."
    "D05" Info "directory of no image and no container"
        "A directory in aufs/diff is known neither to layerdb nor to a container: a remainder of a crash, or of BuildKit. Not moved; `unaufs cleanup` deletes it with the old store."
    "D06" Warn "tag of an image that stays behind"
        "The name points to an image that cannot move or does not exist; the name is left out of the new store."
    "D07" Info "unfinished write of Docker"
        "A temporary file or directory that Docker left in its metadata. Not moved."
    "D08" Warn "layer list differs from layerdb"
        "aufs/layers and layerdb name different parents for an image layer. layerdb is followed: it is what Docker creates children from."
    "D09" Info "mount record without a container"
        "layerdb/mounts holds a record that belongs to no container, usually BuildKit's. Not moved."
    "D10" Warn "unreadable metadata"
        "A file of Docker's metadata could not be read or understood. What depends on it stays behind."
    "D11" Info "build cache"
        "buildkit/ and builder/ refer to layers of the old driver by its own ids. They are parked with the old store; the next build starts with a cold cache."
    "D12" Info "volumes of an old Docker"
        "vfs/dir holds volumes that a Docker before 1.7 made. They are not touched, and volumes/ goes on pointing to them. With the target vfs the same directory gets the layers: the volumes stay beside them."
    "D13" Warn "files below a mount point"
        "Something was written below aufs/mnt/ID while nothing was mounted there, usually by a program that went on after its container's mount was gone. No image and no container has these files. They aren't migrated, and `unaufs cleanup` deletes them with the old store: copy what you need first."
    "D14" Warn "repaired metadata"
        "A crash left a file of Docker's metadata empty or cut, and another file says what was in it. The new store gets the whole file. The old store isn't changed."
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
        "aufs itself departed from the layer semantics of every other driver here: content between two opaque marks, or below a file that lies between two directories, showed through. After the migration the path is gone, as it is for everybody who pulls the image. The old store still has it."
    "L07" Info "name too long for aufs"
        "aufs listed names of more than 242 bytes and could not open them. After the migration they can be opened."
    "L08" Info "whiteout of nothing"
        "A whiteout names something that no layer below has. It is left out: overlayfs would list it as a ghost. The layer's digest is not affected."
    "L09" Info "odd whiteout"
        "A whiteout is not an empty regular file, or names nothing. It is treated as a whiteout by its name alone, as Docker does."
    "G01" Warn "image that cannot be converted"
        "An image of a Docker up to 1.9 is damaged: its json is unreadable or another image's, its parent is missing or damaged, its layer's directory is gone, or it has more layers than Docker ever made. The image, every image on top of it and every container of those stay behind in the old store."
    "G02" Info "layer that is there twice"
        "Two images of a Docker up to 1.9 have the same layer on the same parents. Since 1.10 Docker keeps one of the directories, the one that it comes to first. The other one is not moved unless a container stands on it."
    "G03" Warn "name that Docker no longer accepts"
        "A repository or tag in repositories-aufs is no valid name for a Docker from 1.10 on, or names two images. The image is kept without this name; docker tag gives it another."
    "G04" Warn "linkgraph.db cannot be used"
        "Docker up to 1.9 kept names and links of containers in this SQLite file. Names are taken from the containers' configuration instead. A link that cannot be read is lost: the container starts without it, and docker network connect --alias replaces it."
    "G05" Info "new image ids"
        "Since Docker 1.10 the id of an image is the digest of its configuration. Images of an older Docker get the ids that Docker 1.10 itself would have given them. Tags, digests and containers follow; only scripts that name images by the old ids need the new ones, which the plan lists."
    "G06" Info "layer without a record of its tar"
        "Docker up to 1.7 did not record how a layer's tar looked, or the record does not fit the layer's directory. unaufs writes the tar as Docker 1.10.3 did when it converted such a store, so the layer and its images get the ids that Docker gave them. Two kinds of layers get a new id. The first has a file capability, a name that isn't ASCII or a very long name or link: Docker 1.10 and 1.11 wrote their own process ID into its tar, so each conversion gave another id. The second has a tar that Docker would unpack to something else. The content is always the same."
    "G07" Info "odd layersize"
        "graph/<id>/layersize holds no size. It is not needed: the size is counted anew."
    "G08" Info "conversion that a newer Docker began"
        "A Docker from 1.10 on has converted a part of this store. What it has converted is kept as it is, the rest is converted now."
    "G09" Warn "name of a container"
        "linkgraph.db and the container's configuration name it differently, or two containers have one name. Docker from 1.10 on follows the configuration and loads only one container of a name."
    "G10" Info "volume from before Docker 1.7"
        "Docker up to 1.6 kept volumes as directories in vfs/dir. They stay there, and the container mounts them from there. docker volume ls does not list them. Do not delete vfs/dir."
    "L10" Info "file with as many names as the file system allows"
        "ext4 gives a file at most 65,000 names, btrfs 65,535 in one directory. Where one more link cannot be made the file is copied."
    "H01" Block "Docker runs on this root"
        "A running dockerd or containerd writes into the store. Stop it: systemctl stop docker docker.socket. `plan` may run meanwhile, and names the containers that have to stop; `migrate` looks again and refuses with exit code 11. --allow does not help here."
    "H02" Block "something is mounted below the root"
        "A mount below the root, in whatever mount namespace, hides files or is in use. Unmount it; `grep -l NAME /proc/[0-9]*/mountinfo` finds the process that keeps it. A mount on volumes/ does no harm: volumes are not touched."
    "H03" Block "not enough privileges"
        "Migrating needs root with all its capabilities, in the host's own user namespace: devices (CAP_MKNOD), owners (CAP_CHOWN, CAP_FOWNER, CAP_DAC_OVERRIDE), trusted.* attributes (CAP_SYS_ADMIN) and file capabilities (CAP_SETFCAP) are made. sudo gives them; a container needs --privileged."
    "H04" Block "the kernel has no overlayfs"
        "The new store could be written but not used or proved on this kernel. Load the module (modprobe overlay)."
    "H05" Block "not enough space"
        "The new store does not fit on the file system. --mode link takes the least space; --target DIR uses another disk."
    "H06" Block "not enough inodes"
        "The file system has too few free inodes. --mode link makes inodes for directories only; xfs and btrfs make them on demand."
    "H07" Block "daemon.json pins another driver"
        "daemon.json, or an option on dockerd's command line in a systemd unit or in /etc/default/docker, names a storage driver. With aufs Docker 24 and later do not start at all, and an older one would start on an empty aufs store. unaufs never edits that file unasked. Remove the line, or name the new driver, before Docker starts; --allow H07 if you do it after the migration."
    "H08" Block "aufs/ or image/ is a symlink or a mount point"
        "aufs/, image/, containers/ and the directory of the target have to be directories of the root itself: what lies behind a symlink or on another mount can neither be read safely nor parked by renaming. Put the directory itself in its place: remove the symlink and mv it there, or cp -a it from the other disk; a mount point is unmounted first. The root as a whole may be a symlink or a mount point."
    "H09" Info "project quotas"
        "The file system is mounted with project quotas. A hard link from one project's directory to another's is refused (EXDEV); such files are copied, and then need space."
    "H10" Block "the root is mounted read-only"
        "Nothing can be written there. `plan` works all the same. Remount it: mount -o remount,rw. An ext4 that the kernel turned read-only after an error wants fsck first."
    "H11" Block "immutable directory"
        "A directory that has to be renamed or written carries chattr +i or +a, which stops root too. Remove it: chattr -ia FOLDER."
    "H12" Warn "live-restore is on"
        "With live-restore containers keep running when Docker stops, and keep the old store mounted. Stop the containers themselves before Docker: docker stop $(docker ps -q)."
    "H13" Info "this node is part of a swarm"
        "The swarm moves tasks to other nodes when this Docker stops and may start new ones when it comes back. Drain the node first: docker node update --availability drain NODE. swarm/ itself is not touched."
    "H14" Info "SELinux"
        "Labels of the old store are not taken along: they are the policy's to set. Run restorecon -R on the new store's directory before Docker starts."
    "H15" Info "user namespaces"
        "A Docker with userns-remap keeps a whole root of its own in a sub-directory UID.GID, with images and containers of its own. Each such root is migrated by itself: --root ROOT/UID.GID."
    "H16" Warn "the clock may be wrong"
        "Files in the root are newer than the clock's time. Nothing here depends on the clock, but the times in the journal and in the report would mislead."
    "H17" Warn "the installed Docker and the target"
        "The dockerd that is installed here would start on the new store, so it has to know the driver: overlay2 came with 1.12, overlay left with 24. Choose another --to, or another Docker."
    "H18" Warn "mounted noexec or nodev"
        "vfs and btrfs give a container a directory of the root as its root, and that has the options of the mount: with noexec no program starts, with nodev no device of an image can be opened. Mount the file system with exec and dev, or choose overlay2, whose mounts have options of their own."
    "T01" Info "an empty store of the target exists"
        "Docker 24 and later make an empty one at their first start. It is parked, and comes back with rollback."
    "T02" Info "a store of the target exists"
        "It is merged: what it holds stays, what aufs holds is added, and each clash is listed and decided for the target's side."
    "T03" Warn "clash with the target's store"
        "The same name means another object in the target's store. The target's side is kept; the old one stays in the old store."
    "T04" Block "the target's file system cannot host it"
        "overlayfs needs file types in directories (xfs: ftype=1) and trusted.* attributes, and does not work on NFS, on eCryptfs or on another overlay; btrfs needs a btrfs file system. --target DIR builds the new root on another disk."
    "T05" Warn "Docker does not pick this driver by itself"
        "No Docker chooses vfs or overlay without configuration: it starts on another driver and shows no images and no containers. Add the line to daemon.json before Docker starts. overlay is unknown from Docker 24 on, whatever daemon.json says. Docker picks overlay2 and btrfs by itself once their store is there."
    "T06" Warn "more layers than the target can stack"
        "overlay2 takes at most 128 layers below a container, and their names have to fit into one page of mount options (4096 bytes). Docker itself makes at most 125 layers. Deeper stacks stay behind; export them and import the result as one layer."
    "T07" Info "remains of another tool"
        "A half-made store (overlay2.temp) of another tool lies beside. It is left alone."
    "T08" Warn "no shared extents on this file system"
        "The mode clone shares extents between the old and the new files, which btrfs and most xfs can. Here every file is copied instead. --mode link needs no space on any file system."
    "T09" Info "small room for attributes"
        "ext4 keeps all extended attributes of a file in one block, commonly 4 KiB, where the old file system allows more. A file whose attributes do not fit stops the migration with its name."
    "T10" Warn "images or containers in containerd's store"
        "Docker 29 keeps images and containers in containerd's store while no storage driver has any in the data root. After the migration the storage driver has some, so Docker uses them, and hides what is in containerd's store. Nothing of it is deleted. To take it along: docker commit the containers and docker save the images before you migrate, and docker load them afterwards. The setting \"features\": {\"containerd-snapshotter\": true} in daemon.json shows containerd's store again, and hides the migrated one."
    "T11" Warn "another driver's directory next to the new store"
        "Without configuration dockerd looks for the directories of all its drivers. If it finds one that isn't empty next to the new store, it doesn't start: \"contains several valid graphdrivers\". Docker 1.12 has overlay2 but never looks for it. Set storage-driver in daemon.json, or move the old directory away if nobody needs it."
    "N01" Block "the directory for the new root is not free"
        "--target DIR needs a directory that is absent, empty or left by unaufs, outside of the old root. With userns-remap the last part of its path is UID.GID, as that of the old root is."
    "N02" Block "another driver's store would not go along"
        "The old root has a store of another driver too. With --target only aufs layers move: images and containers of the other driver would be missing in the new root. Migrate without --target, where both are merged, or leave them behind with --allow N02."
    "N03" Warn "Docker has to be told its new root"
        "With --target the new root lies elsewhere, and Docker goes on with the old one until data-root in daemon.json (or --data-root on its command line; graph and -g before 17.05) names the new one. unaufs never edits that file."
    "N04" Info "what goes along to the new root"
        "Volumes, networks, swarm, plugins, logs and the rest of the old root are copied to the new one with all attributes. The old ones are never written to and never deleted, not by cleanup either; but what is written in the new root does not reach them. Hard links between two volumes become two files. `plan -v` lists each."
    "N05" Warn "mount point or symlink among what goes along"
        "What is mounted in the old root is not copied: an empty directory is made in its place. Mount it in the new root too, in /etc/fstab as well. A symlink goes along as it is: both roots then use the same place."
    "N06" Warn "a container mounts a path in the old root"
        "The user named a directory of the old root when the container was made. The container's configuration is changed to the same directory in the new root, so that it sees what other containers see there; whoever makes the container anew has to name the new path."
}

/// Checks of a migration with `--target`.
pub const ELSEWHERE: [&str; 6] = ["N01", "N02", "N03", "N04", "N05", "N06"];

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

    #[test]
    fn subjects_are_told_apart() {
        for (text, kind, id, name) in [
            ("layer 0123456789ab", "layer", "0123456789ab", ""),
            ("container db (0123456789ab)", "container", "0123456789ab", "db"),
            ("container 0123456789ab", "container", "0123456789ab", ""),
            ("container a (b) c (0123456789ab)", "container", "0123456789ab", "a (b) c"),
            ("image x:1", "image", "", "x:1"),
            ("daemon.json", "other", "", "daemon.json"),
            ("the disk", "other", "", "the disk"),
        ] {
            let s = Subject::from(text);
            assert_eq!((s.kind.as_str(), s.id.as_str(), s.name.as_str()), (kind, id, name), "{text}");
            assert_eq!(s.to_string(), text);
        }
    }

    #[test]
    fn allowed_checks_warn() {
        let blocks = |id| Finding::new(id, "x", "y").level(Level::Block);
        let mut all = vec![blocks("H07"), blocks("H01"), blocks("H05")];
        allow(&mut all, &["h07".into(), "H01".into()]);
        assert!(allowable("h07") && !allowable("H01") && !allowable("X99"));
        let levels: Vec<Level> = all.iter().map(|f| f.level).collect();
        assert_eq!(levels, [Level::Warn, Level::Block, Level::Block]);
    }

    #[test]
    fn a_running_docker_does_not_stop_a_plan() {
        let f = |id: &'static str| Finding::new(id, "", "");
        assert!(!plan_is_blocked(&[f("H01"), f("H02"), f("H10")]));
        assert!(plan_is_blocked(&[f("H02")]));
        assert!(plan_is_blocked(&[f("H01"), f("H07")]));
        assert!(!plan_is_blocked(&[f("C01")]));
    }
}
