//! `unaufs export`: images and containers of a dead or a living root as archives that every other program reads.
//!
//! ```text
//! Store ─ names ─▶ what is meant ─ image ─▶ configs, layers ─ layer (measure) ─▶ digests, lengths
//!                                                                                     │
//!   output ◀─ compress ◀─ archive ◀─ layout: manifests, index                         ▼
//!             (rootfs, docker)  ▲──────────── compress (oci) ◀── pump: layers on several threads, in order
//! ```
//!
//! Nothing is written but the output. A layer's tar is the one that Docker had, to the byte, where the store says how it was; its digest
//! is checked while it passes, and what comes before the manifests is no archive for anybody.

pub mod archive;
pub mod changes;
pub mod compress;
pub mod copy_out;
pub mod image;
pub mod inside;
pub mod layer;
pub mod layout;
pub mod names;
pub mod output;
pub mod pump;
pub mod remains;
mod rootfs;
pub mod volumes;

use crate::checks::Finding;
use crate::disk::Dir;
use crate::docker::driver::WrittenBy;
use crate::error::{Error, IoContext, Kind, Result};
use crate::ids::{ContainerId, DiffId, ImageId, LayerId};
use crate::progress::Progress;
use crate::store::{Container, Store};
use crate::text;
use archive::{Archive, ArchiveDir, Blob, Tar};
use compress::Compressed;
use image::Outgoing;
use layer::{Layer, Layers};
use output::Output;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

/// The form of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// For `docker load`, podman and skopeo: a tar that is also an OCI layout
    Docker,
    /// An OCI layout in a tar
    Oci,
    /// An OCI layout in a directory
    OciDir,
    /// The merged tree of one image or container, as `docker export` writes it
    Rootfs,
}

/// What to export.
#[derive(Clone, Debug)]
pub struct Request {
    /// Images.
    pub images: Vec<String>,
    /// All images.
    pub all: bool,
    /// Containers.
    pub containers: Vec<String>,
    /// A file, a directory, or `-`.
    pub output: PathBuf,
    /// In which form.
    pub format: Format,
    /// The whole archive (docker, rootfs) or its layers (oci).
    pub compress: Compressed,
}

/// An image of the archive.
#[derive(Clone, Debug, Serialize)]
pub struct Exported {
    /// Its id there.
    pub id: ImageId,
    /// Its id in the store, where it had to change.
    pub was: Option<ImageId>,
    /// The container that it was made of.
    pub container: Option<ContainerId>,
    /// Its tags there.
    pub tags: Vec<String>,
    /// Its layers, base first.
    pub layers: Vec<DiffId>,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Where it is; `-` for stdout.
    pub output: String,
    /// Its form.
    pub format: Format,
    /// Its compression.
    pub compress: Compressed,
    /// The driver of the store.
    pub driver: WrittenBy,
    /// The images in it. One for a rootfs.
    pub images: Vec<Exported>,
    /// Layers in it, each once.
    pub layers: usize,
    /// Bytes of the layers, not compressed.
    pub bytes: u64,
    /// What the user should know.
    pub notes: Vec<String>,
    /// Bytes of the archive itself.
    pub written: u64,
    /// What was asked for and is damaged or lost, and why.
    pub left_out: Vec<(String, String)>,
}

/// What is exported: a store, and what reading it found.
#[derive(Clone, Copy)]
pub struct From<'a> {
    /// Represents the store's ROOT.
    pub root: &'a Dir,
    /// What is in it.
    pub store: &'a Store,
    /// What is wrong with it.
    pub findings: &'a [Finding],
}

/// Exports what was asked for. Nothing is written below `root`.
pub fn export(root: &Dir, from: From<'_>, request: &Request, progress: &dyn Progress) -> Result<Summary> {
    let result = run(root, from, request, progress);
    // whatever error a stop led to, it is the stop that is to be told
    crate::stop::check().and(result).map_err(|e| match e.kind() {
        Kind::Space => e.hint("Free some space there, or write elsewhere. No partial file was left."),
        Kind::Interrupted | Kind::Terminated => {
            e.hint("Run the same command again. It starts from the beginning.").loss("No file was written.")
        }
        _ => e,
    })
}

fn run(root: &Dir, from: From<'_>, request: &Request, progress: &dyn Progress) -> Result<Summary> {
    sensible(request)?;
    output::check(root, &request.output)?;
    let (store, findings, from) = (from.store, from.findings, from.root);
    let lost = image::lost(store, findings, &request.images, request.all);
    let mut chosen = names::images(store, &request.images).map_err(|e| explained(e, findings, &lost))?;
    if request.all {
        for (id, tags) in names::every_image(store) {
            chosen.entry(id).or_default().extend(tags);
        }
    }
    let containers = names::containers(store, &request.containers)?;
    let layers = Layers::new(from, store);
    if request.format == Format::Rootfs {
        let chosen = rootfs::Chosen { store, images: &chosen, containers: &containers };
        return rootfs::export(root, request, &layers, &chosen, progress);
    }
    let mut wanted: BTreeSet<LayerId> = BTreeSet::new();
    let whole = chosen.keys().filter_map(|id| store.images.get(id)).filter(|i| i.broken.is_none());
    wanted.extend(whole.flat_map(|i| i.layers.iter().cloned()));
    // a damaged one is named below
    wanted.extend(containers.values().filter_map(|c| image::stack(store, c).ok()).flatten());
    let mut measured = image::measure(&layers, &wanted, progress);
    crate::stop::check()?;
    let meant = Meant { images: chosen, containers, lost };
    let sound = |measured: &_| meant.sound(image::Source { root: from, store, measured });
    let write =
        |images: &[Outgoing]| Work { request, layers: &layers, images, unique: &unique(images), progress }.write(root);
    let (mut images, mut left_out) = sound(&measured)?;
    let written = match write(&images) {
        // a damaged layer shows it when its tar is made: all such are found now, and the archive is begun again without them
        Err(e) if e.kind() == Kind::Failed && image::prove(&layers, &mut measured, progress) => {
            crate::stop::check()?;
            if request.output.as_os_str() == "-" {
                return Err(e.hint("Export to a file (-o FILE): what is damaged is left out there."));
            }
            (images, left_out) = sound(&measured)?;
            write(&images)?
        }
        written => written?,
    };
    let unique = unique(&images);
    let mut notes: Vec<String> = images.iter().flat_map(|i| i.notes.iter().cloned()).collect();
    notes.dedup();
    if request.format == Format::OciDir {
        let shown = text::text(&request.output.display().to_string());
        notes.push(format!(
            "only root can read the directory (mode 0700); to let others read it: chmod -R a+rX {shown}"
        ));
    }
    Ok(Summary {
        layers: unique.len(),
        bytes: unique.iter().map(|l| l.bytes).sum(),
        notes,
        written,
        left_out,
        images: images.iter().map(exported).collect(),
        ..summary(store, request)
    })
}

/// What is asked for.
struct Meant<'s> {
    images: names::Chosen,
    containers: BTreeMap<ContainerId, &'s Container>,
    /// What of it the store doesn't have any more.
    lost: image::LeftOut,
}

impl Meant<'_> {
    /// The images of the archive, and what can't be in it.
    fn sound(&self, from: image::Source<'_>) -> Result<(Vec<Outgoing>, image::LeftOut)> {
        let mut left_out = self.lost.clone();
        let mut images = image::of_images(from, &self.images, &mut left_out)?;
        images.extend(image::of_containers(from, &self.containers, &mut left_out)?);
        if images.is_empty() {
            return Err(nothing(&left_out));
        }
        image::settle_parents(&mut images);
        Ok((merged(images), left_out))
    }
}

/// Why there is no archive at all.
fn nothing(left_out: &image::LeftOut) -> Error {
    match &left_out[..] {
        [] => Error::new(Kind::Failed, "there is nothing to export").hint("The store has no images."),
        [(_, why)] => Error::new(Kind::Failed, why.clone()),
        [(name, why), ..] => {
            let many = format!("none of the {} images and containers can be exported", left_out.len());
            Error::new(Kind::Failed, many).hint(format!("{name}: {why}"))
        }
    }
}

/// An unknown name that the store once had says why it is unknown.
fn explained(e: Error, findings: &[Finding], lost: &image::LeftOut) -> Error {
    let unreadable = findings.iter().find(|f| f.id == "D10").map(|f| (f.subject.to_string(), f.message.clone()));
    match lost.first().cloned().or(unreadable) {
        Some((name, why)) => Error::new(e.kind(), e.chain()).hint(format!("{name}: {why}")),
        None => e,
    }
}

/// What makes no sense is refused before anything is read.
fn sensible(request: &Request) -> Result<()> {
    let usage = |what: &str, hint: &str| Err(Error::new(Kind::Usage, what).hint(hint));
    if request.images.is_empty() && request.containers.is_empty() && !request.all {
        return usage(
            "name an image or a container to export",
            "Name images, use --container NAME, or use --all. `unaufs inspect` lists all names.",
        );
    }
    if request.format == Format::Docker && request.compress == Compressed::Zstd {
        return usage("docker load reads zstd only since Docker 23", "Use --compress gzip, or --format oci.");
    }
    Ok(())
}

fn summary(store: &Store, request: &Request) -> Summary {
    Summary {
        output: request.output.display().to_string(),
        format: request.format,
        compress: request.compress,
        driver: store.written_by,
        images: Vec::new(),
        layers: 0,
        bytes: 0,
        notes: Vec::new(),
        written: 0,
        left_out: Vec::new(),
    }
}

fn exported(i: &Outgoing) -> Exported {
    Exported {
        id: i.id,
        was: i.was,
        container: i.container.clone(),
        tags: i.tags.clone(),
        layers: i.layers.iter().map(|l| l.diff).collect(),
    }
}

/// Two names for one image are one image: an archive must have no name twice.
fn merged(images: Vec<Outgoing>) -> Vec<Outgoing> {
    let mut out: Vec<Outgoing> = Vec::new();
    for image in images {
        match out.iter_mut().find(|i| i.id == image.id) {
            Some(same) => {
                same.tags.extend(image.tags);
                same.tags.sort();
                same.tags.dedup();
                same.notes.extend(image.notes);
            }
            None => out.push(image),
        }
    }
    out
}

/// Each layer once, in the order in which images need them.
fn unique(images: &[Outgoing]) -> Vec<&Layer> {
    let mut seen = BTreeSet::new();
    images.iter().flat_map(|i| &i.layers).filter(|l| seen.insert(l.diff)).collect()
}

/// Everything that goes into an archive.
struct Work<'w> {
    request: &'w Request,
    layers: &'w Layers<'w>,
    images: &'w [Outgoing],
    unique: &'w [&'w Layer],
    progress: &'w dyn Progress,
}

impl Work<'_> {
    /// Writes the archive; returns its length.
    fn write(&self, root: &Dir) -> Result<u64> {
        let request = self.request;
        let exact = (request.compress == Compressed::None).then(|| self.unique.iter().map(|l| l.bytes).sum::<u64>());
        if request.format == Format::OciDir {
            let mut directory = Archive::ArchiveDir(ArchiveDir::begin(root, &request.output, exact)?);
            self.fill(&mut directory)?;
            return match directory {
                Archive::ArchiveDir(directory) => directory.finish(),
                Archive::Tar(_) => Ok(0),
            };
        }
        let mut output = Output::create(root, &request.output, exact)?;
        let whole = if request.format == Format::Docker { request.compress } else { Compressed::None };
        let can_patch = output.can_patch() && whole == Compressed::None;
        let mut places = Vec::new();
        compress::through(whole, &mut output, &mut |out| {
            let mut archive = Archive::Tar(Tar::begin(out, can_patch)?);
            self.fill(&mut archive)?;
            if let Archive::Tar(tar) = archive {
                places = tar.finish()?;
            }
            Ok(())
        })?;
        archive::patch(&mut output, &places)?;
        let written = output.position();
        output.complete()?;
        Ok(written)
    }

    fn fill(&self, archive: &mut Archive<'_>) -> Result<()> {
        let how = if self.request.format == Format::Docker { Compressed::None } else { self.request.compress };
        let total = self.unique.iter().map(|l| l.bytes).sum();
        let mut known: BTreeMap<DiffId, Blob> = BTreeMap::new();
        if how == Compressed::None {
            known.extend(self.unique.iter().map(|l| (l.diff, Blob { digest: l.diff.0, size: l.bytes })));
        } else if archive.wants_digests() {
            self.progress.bytes("compress", total);
            pump::run(self.layers, self.unique, |layer, made| {
                let blob = archive::digest(&mut |out| self.pass(how, made, out))?;
                known.insert(layer.diff, blob);
                Ok(())
            })?;
        }
        self.progress.bytes("export", total);
        pump::run(self.layers, self.unique, |layer, made| {
            let blob =
                archive.blob(known.get(&layer.diff).copied(), layer.bytes, &mut |out| self.pass(how, made, out))?;
            known.insert(layer.diff, blob);
            Ok(())
        })?;
        self.finish(archive, how, &known)
    }

    fn pass(&self, how: Compressed, made: &mut pump::Made, out: &mut dyn Write) -> Result<()> {
        compress::through(how, out, &mut |out| made.copy_to(out, &|n| self.progress.moved(n)))
    }

    /// Configs, manifests, and the files that make an archive of the blobs.
    fn finish(&self, archive: &mut Archive<'_>, how: Compressed, known: &BTreeMap<DiffId, Blob>) -> Result<()> {
        let mut put = |bytes: &[u8]| -> Result<Blob> {
            let blob = Blob::of(bytes);
            archive.blob(Some(blob), blob.size, &mut |out| out.write_all(bytes).on(|| "write the archive"))
        };
        let mut listed = Vec::new();
        for image in self.images {
            put(&image.config)?;
            let blobs: Vec<Blob> = image.layers.iter().filter_map(|l| known.get(&l.diff).copied()).collect();
            listed.push((image, put(&layout::manifest(image, &blobs, how)?)?));
        }
        archive.file("index.json", &layout::index(&listed)?)?;
        let images: Vec<&Outgoing> = self.images.iter().collect();
        let docker = self.request.format == Format::Docker;
        if docker {
            archive.file("manifest.json", &layout::manifest_json(&images)?)?;
        }
        archive.file("oci-layout", layout::OCI_LAYOUT)?;
        if docker && let Some(bytes) = layout::repositories(&images)? {
            archive.file("repositories", &bytes)?;
        }
        Ok(())
    }
}

/// For code that can only give I/O errors: an error if somebody asked us to stop. [`export`] has the real one.
fn stopped() -> std::io::Result<()> {
    crate::stop::check().map_err(|e| std::io::Error::other(e.to_string()))
}
