//! A small store to try unaufs on, as Docker 20.10 with the aufs driver leaves one.
//!
//! ```text
//! base   etc/ usr/ var/                  ─┬─ demo/shop:1     web on base      ── container "shop", with data
//! web    one marker of every kind        ─┤
//! tool   shares base with web            ─┴─ demo/tool:2     tool on base
//! ```
//!
//! The layers' digests, the chain ids and the image ids are real ones, computed from what is written; so everything that checks or
//! proves them has its work to do. Nothing in it needs root: all files are the caller's own, and aufs's marks are plain files.

use crate::disk::Dir;
use crate::disk::join;
use crate::error::{IoContext, Result};
use crate::ids::{ChainId, DiffId, ImageId, LayerId, Sha256};
use crate::layer::branch::Format;
use crate::layer::view::{Chain, Contributors};
use crate::plan::PlanLayer;
use crate::tar::branchtar;
use serde_json::json;

/// When everything in it was made: the same store each time.
const CREATED: &str = "2019-03-01T12:00:00Z";

/// A name in a layer and what it is.
enum Item<'a> {
    Directory,
    File(&'a str),
    Symlink(&'a str),
    /// A further name of this one, in the same layer.
    LinkOf(&'a str),
    /// An empty file that aufs gives a meaning.
    Mark,
    /// The same, as the kernel makes it: one more name of `.wh..wh.aufs`.
    KernelMark,
}
use Item::{Directory, File, KernelMark, LinkOf, Mark, Symlink};

const BASE: &[(&str, Item<'static>)] = &[
    ("etc", Directory),
    ("etc/motd", File("welcome to the demo\n")),
    ("etc/os-release", File("NAME=demo\nVERSION=1\n")),
    ("usr", Directory),
    ("usr/bin", Directory),
    ("usr/bin/serve", File("#!/bin/sh\necho serving\n")),
    ("usr/bin/httpd", Symlink("serve")),
    ("usr/share", Directory),
    ("usr/share/docs", Directory),
    ("usr/share/docs/manual.txt", File("the manual of version 1\n")),
    ("usr/share/docs/licence.txt", File("the licence of version 1\n")),
    ("var", Directory),
    ("var/cache", Directory),
    ("var/cache/packages.db", File("a cache that later layers delete\n")),
    ("var/log", File("once a file\n")),
];

/// Made by `docker pull`: its marks are files of their own.
const WEB: &[(&str, Item<'static>)] = &[
    ("srv", Directory),
    ("srv/index.html", File("<h1>shop</h1>\n")),
    ("srv/start.html", LinkOf("srv/index.html")),
    ("usr", Directory),
    ("usr/share", Directory),
    // RUN rm -rf docs && mkdir docs
    ("usr/share/docs", Directory),
    ("usr/share/docs/.wh..wh..opq", Mark),
    ("usr/share/docs/manual.txt", File("the manual of version 2\n")),
    ("var", Directory),
    // RUN rm -rf /var/cache
    ("var/.wh.cache", Mark),
    // of a name that no layer below has: kept as a device it would be listed as a ghost
    ("var/.wh.never-there", Mark),
    // a file becomes a directory
    ("var/log", Directory),
    ("var/log/access.log", File("")),
];

const TOOL: &[(&str, Item<'static>)] = &[
    ("usr", Directory),
    ("usr/bin", Directory),
    ("usr/bin/tool", File("#!/bin/sh\necho tool\n")),
    ("etc", Directory),
    ("etc/.wh.motd", Mark),
];

/// What Docker itself puts into each container.
const INIT: &[(&str, Item<'static>)] = &[
    (".dockerenv", File("")),
    ("dev", Directory),
    ("dev/console", File("")),
    ("etc", Directory),
    ("etc/hostname", File("")),
    ("etc/hosts", File("")),
    ("proc", Directory),
    ("sys", Directory),
];

/// Written through the kernel: with aufs's own files, and marks that are one inode.
const SHOP: &[(&str, Item<'static>)] = &[
    (".wh..wh.aufs", Mark),
    (".wh..wh.orph", Directory),
    (".wh..wh.plnk", Directory),
    ("etc", Directory),
    ("etc/.wh.motd", KernelMark),
    ("srv", Directory),
    ("srv/orders.txt", File("1 cup of tea\n2 cups of coffee\n")),
    ("srv/.wh.index.html", KernelMark),
    ("tmp", Directory),
    ("tmp/.wh..wh..opq", KernelMark),
];

/// What was made.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Layers and their directories' names, in the words of this page.
    pub layers: Vec<(&'static str, LayerId)>,
    /// The container's layer.
    pub container: LayerId,
}

/// Writes the store into the empty directory `root`.
pub fn make_store(root: &Dir) -> Result<Sample> {
    let id = |name: &str| LayerId::parse(&Sha256::of(format!("demo {name}").as_bytes()).hex());
    for directory in ["aufs/diff", "aufs/layers", "aufs/mnt", "volumes/orders/_data", "containers"] {
        root.ensure(directory, 0o711)?;
    }
    root.open("volumes/orders/_data")?.write_new("backup.txt", b"volumes are not touched\n", 0o644)?;
    let (base, web, tool) = (id("base")?, id("web")?, id("tool")?);
    let (chain, base_diff) = image_layer(root, &base, BASE, None, &[])?;
    let (web_chain, web_diff) = image_layer(root, &web, WEB, Some(chain), &[&base])?;
    let (_, tool_diff) = image_layer(root, &tool, TOOL, Some(chain), &[&base])?;
    let shop = image(root, &["/usr/bin/serve"], &[base_diff, web_diff])?;
    let tools = image(root, &["/usr/bin/tool"], &[base_diff, tool_diff])?;
    let names = json!({"Repositories": {
        "demo/shop": {"demo/shop:1": shop.to_string()},
        "demo/tool": {"demo/tool:2": tools.to_string()},
    }});
    root.open("image/aufs")?.write_new("repositories.json", names.to_string().as_bytes(), 0o600)?;

    let container = id("container")?;
    let init = LayerId::parse(&format!("{container}-init"))?;
    layer(root, &init, INIT, &[&web, &base])?;
    layer(root, &container, SHOP, &[&init, &web, &base])?;
    make_container(root, &container, &init, shop, web_chain)?;
    let layers = vec![("base", base), ("web", web), ("tool", tool), ("shop", container.clone())];
    Ok(Sample { layers, container })
}

/// `aufs/diff/<id>`, `aufs/layers/<id>` and the mount point.
fn layer(root: &Dir, id: &LayerId, items: &[(&str, Item<'_>)], lowers: &[&LayerId]) -> Result<Dir> {
    let diff = root.ensure(format!("aufs/diff/{id}"), 0o755)?;
    for (path, item) in items {
        let (dir, name) = diff.parent_of(path.as_bytes())?;
        let mark = || dir.write_new(name, b"", 0o444);
        match item {
            Directory if name.starts_with(b".wh.") => dir.mkdir(name, 0o700)?,
            Directory => dir.mkdir(name, 0o755)?,
            File(text) => dir.write_new(name, text.as_bytes(), if text.starts_with("#!") { 0o755 } else { 0o644 })?,
            Symlink(target) => dir.symlink(target.as_bytes(), name)?,
            LinkOf(first) => link(&diff, first, &dir, name)?,
            KernelMark => link(&diff, ".wh..wh.aufs", &dir, name)?,
            Mark => mark()?,
        }
    }
    let list: String = lowers.iter().map(|l| format!("{l}\n")).collect();
    root.open("aufs/layers")?.write_new(id.as_str(), list.as_bytes(), 0o644)?;
    root.ensure(format!("aufs/mnt/{id}"), 0o755)?;
    Ok(diff)
}

fn link(diff: &Dir, first: &str, to: &Dir, name: &[u8]) -> Result<()> {
    let (dir, first) = diff.parent_of(first.as_bytes())?;
    dir.try_link(first, to, name).on(|| format!("link {} to {}", dir.show(first), to.show(name)))
}

/// A layer with its record in layerdb.
fn image_layer(
    root: &Dir,
    id: &LayerId,
    items: &[(&str, Item<'_>)],
    parent: Option<ChainId>,
    lowers: &[&LayerId],
) -> Result<(ChainId, DiffId)> {
    let diff = layer(root, id, items, lowers)?;
    let mut tar_split = Vec::new();
    let made = branchtar::record(&diff, &mut tar_split)?;
    let chain = ChainId::over(parent, made.diff);
    let record = root.ensure(format!("image/aufs/layerdb/sha256/{}", chain.hex()), 0o700)?;
    record.write_new("cache-id", id.as_str().as_bytes(), 0o644)?;
    record.write_new("diff", made.diff.to_string().as_bytes(), 0o644)?;
    record.write_new("size", made.put.payload.to_string().as_bytes(), 0o644)?;
    record.write_new("tar-split.json.gz", &tar_split, 0o644)?;
    if let Some(p) = parent {
        record.write_new("parent", p.to_string().as_bytes(), 0o644)?;
    }
    Ok((chain, made.diff))
}

fn image(root: &Dir, command: &[&str], diffs: &[DiffId]) -> Result<ImageId> {
    let diffs: Vec<String> = diffs.iter().map(DiffId::to_string).collect();
    let history: Vec<_> = diffs.iter().map(|_| json!({"created": CREATED, "created_by": "demo"})).collect();
    let config = json!({
        "architecture": "amd64",
        "config": {"Cmd": command, "Env": ["PATH=/usr/bin:/bin"]},
        "created": CREATED,
        "docker_version": "20.10.24",
        "history": history,
        "os": "linux",
        "rootfs": {"diff_ids": diffs, "type": "layers"},
    })
    .to_string();
    let id = ImageId(Sha256::of(config.as_bytes()));
    root.ensure("image/aufs/imagedb/content/sha256", 0o700)?.write_new(id.hex(), config.as_bytes(), 0o600)?;
    root.ensure("image/aufs/imagedb/metadata/sha256", 0o700)?;
    Ok(id)
}

fn make_container(root: &Dir, id: &LayerId, init: &LayerId, image: ImageId, chain: ChainId) -> Result<()> {
    let mount = root.ensure(format!("image/aufs/layerdb/mounts/{id}"), 0o755)?;
    mount.write_new("mount-id", id.as_str().as_bytes(), 0o644)?;
    mount.write_new("init-id", init.as_str().as_bytes(), 0o644)?;
    mount.write_new("parent", chain.to_string().as_bytes(), 0o644)?;
    let config = json!({
        "StreamConfig": {},
        "State": {"Running": false, "ExitCode": 0, "StartedAt": CREATED, "FinishedAt": CREATED},
        "ID": id.as_str(),
        "Created": CREATED,
        "Path": "/usr/bin/serve",
        "Args": [],
        "Config": {"Hostname": id.short(), "Image": "demo/shop:1", "Cmd": ["/usr/bin/serve"]},
        "Image": image.to_string(),
        "Name": "/shop",
        "Driver": "aufs",
        "OS": "linux",
        "MountPoints": {},
    });
    let directory = root.ensure(format!("containers/{id}"), 0o710)?;
    directory.write_new("config.v2.json", format!("{config}\n").as_bytes(), 0o600)?;
    directory.write_new("hostconfig.json", b"{\"NetworkMode\":\"none\"}\n", 0o600)
}

/// A name in the old layer, what represents it in the new one, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// The layer, in the words of this page.
    pub layer: &'static str,
    /// In `aufs/diff/<id>`.
    pub before: String,
    /// In the new layer's directory.
    pub after: String,
    /// What the mark says.
    pub means: &'static str,
}

/// Every mark of a layer, as it was and as it is. `old` is the layer's old directory; `new` its view in the new store.
pub fn marks(layer: &'static str, old: &Dir, new: &Chain) -> Result<Vec<Row>> {
    let top = new.branch(0)?;
    let overlay = top.format == Format::Overlay;
    let mut out = Vec::new();
    let mut todo = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let dir = if path.is_empty() { old.again()? } else { old.open(&path)? };
        let found = crate::layer::branch::markers(&dir, Format::Aufs, path.is_empty())?;
        let mut note = |name: &[u8], after: String, means: &'static str| {
            let before = String::from_utf8_lossy(&join(&path, name)).into_owned();
            out.push(Row { layer, before, after, means });
        };
        for (name, _) in &found.internal {
            note(name, "-".to_owned(), "aufs's own");
        }
        if found.opaque {
            let at = String::from_utf8_lossy(&path).into_owned();
            let after = if overlay { format!("{at}/  opaque") } else { "-".to_owned() };
            note(crate::layer::branch::OPQ, after, "replaced");
        }
        for hidden in &found.whiteouts {
            let here = join(&path, hidden);
            let name = [crate::layer::branch::WH, &hidden[..]].concat();
            let device = overlay && top.dir()?.stat_opt(&here)?.is_some_and(|m| m.is_overlay_whiteout());
            let (after, means) = match device {
                true => (format!("{}  device 0:0", String::from_utf8_lossy(&here)), "deleted"),
                // no layer below has the name
                false if overlay => ("-".to_owned(), "not needed"),
                false => ("-".to_owned(), "deleted"),
            };
            note(&name, after, means);
        }
        crate::layer::branch::for_each_entry(&dir, Format::Aufs, path.is_empty(), |name, kind, _| {
            if kind == crate::disk::FileType::Directory {
                todo.push(join(&path, name));
            }
            Ok(())
        })?;
    }
    out.sort_by(|a, b| a.before.cmp(&b.before));
    Ok(out)
}

/// All paths that a stack of layers shows, directories with a slash at their end.
pub fn shown(chain: &Chain) -> Result<Vec<String>> {
    let mut out = Vec::new();
    let mut todo: Vec<(Vec<u8>, Contributors)> = vec![(Vec::new(), chain.root())];
    while let Some((path, from)) = todo.pop() {
        for (name, node) in chain.merge(&from, &path)?.names {
            let here = join(&path, &name);
            let text = String::from_utf8_lossy(&here).into_owned();
            if node.kind == crate::disk::FileType::Directory {
                out.push(format!("/{text}/"));
                todo.push((here, node.from));
            } else {
                out.push(format!("/{text}"));
            }
        }
    }
    out.sort();
    Ok(out)
}

/// The plan's step for a layer of the sample.
pub fn step<'a>(plan: &'a crate::plan::Plan, id: &LayerId) -> Result<&'a PlanLayer> {
    plan.layer(id).ok_or_else(|| crate::error::Error::corrupt(format!("layer {} is not in the plan", id.short())))
}
