//! One image or one container as a file tree: what it shows, in one tar.
//!
//! A container whose records are damaged is written from its directories alone, as aufs would stack them.

use super::layer::{Layers, LeftOut};
use super::output::Output;
use super::{Exported, Request, Summary, compress, image, names, stopped, summary};
use crate::disk::Dir;
use crate::error::{Error, IoContext, Kind, Result};
use crate::ids::{ContainerId, LayerId};
use crate::progress::Progress;
use crate::store::{Container, Layer, Store};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

/// What was asked for.
pub(super) struct Chosen<'a> {
    /// What is in the store.
    pub store: &'a Store,
    /// Images.
    pub images: &'a names::Chosen,
    /// Containers.
    pub containers: &'a BTreeMap<ContainerId, &'a Container>,
}

/// Where the files come from.
enum Source<'a> {
    /// A layer of the store, and all below it.
    Layer(LayerId),
    /// The directories of a container whose records can't be used, and why.
    OnDisk(&'a Layer, &'a Container, &'a str),
}

impl<'a> Chosen<'a> {
    /// The one that is written; an error if it is not one.
    fn source(&self) -> Result<Source<'a>> {
        let count = self.images.len() + self.containers.len();
        if count != 1 {
            let what = format!("--format rootfs writes one image or container, but {count} were named");
            return Err(Error::new(Kind::Usage, what).hint("Name one image or one container."));
        }
        let no_layer = || Error::corrupt("it has no layer");
        if let Some(c) = self.containers.values().next() {
            return match (&c.broken, &c.on_disk) {
                // its record or its image's may be damaged, and all its files there
                (Some(why), Some(layer)) => Ok(Source::OnDisk(layer, c, why)),
                _ => image::stack(self.store, c)?.last().cloned().map(Source::Layer).ok_or_else(no_layer),
            };
        }
        let Some(id) = self.images.keys().next() else { return Err(no_layer()) };
        let image = self.store.images.get(id).ok_or_else(|| Error::corrupt("the image isn't in the store"))?;
        if let Some(why) = &image.broken {
            return Err(Error::corrupt(format!("image {} can't be exported: {why}", id.short())));
        }
        let none = || Error::new(Kind::Failed, format!("image {} has no layers", id.short()));
        image.layers.last().cloned().map(Source::Layer).ok_or_else(none)
    }
}

/// Writes one file tree.
pub(super) fn export(
    root: &Dir,
    request: &Request,
    layers: &Layers<'_>,
    chosen: &Chosen<'_>,
    progress: &dyn Progress,
) -> Result<Summary> {
    let source = chosen.source()?;
    let mut output = Output::create(root, &request.output, None)?;
    progress.bytes("export", 0);
    let (mut left, mut bytes) = (LeftOut::default(), 0);
    compress::through(request.compress, &mut output, &mut |out| {
        let mut counted = Counted { out, progress, bytes: &mut bytes };
        let mut buffered = BufWriter::with_capacity(1 << 20, &mut counted);
        left = match &source {
            Source::Layer(top) => layers.flatten(top, &mut buffered)?,
            Source::OnDisk(layer, ..) => layers.flatten_on_disk(layer, &mut buffered)?,
        };
        buffered.flush().on(|| "write the archive")
    })?;
    let written = output.position();
    output.complete()?;
    let mut notes = LeftOut::notes(std::iter::once(left));
    if let Source::OnDisk(_, c, why) = source {
        notes.push(format!("{} is damaged and is exported from its directories alone: {why}", c.subject()));
    }
    let images = chosen.images.iter().map(|(id, tags)| Exported {
        id: *id,
        was: None,
        container: None,
        tags: tags.iter().cloned().collect(),
        layers: Vec::new(),
    });
    Ok(Summary { images: images.collect(), bytes, written, notes, ..summary(chosen.store, request) })
}

/// Passes what is written to the progress.
struct Counted<'c> {
    out: &'c mut dyn Write,
    progress: &'c dyn Progress,
    bytes: &'c mut u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        stopped()?;
        let n = self.out.write(bytes)?;
        self.progress.moved(n as u64);
        *self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
