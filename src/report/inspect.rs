//! What is in the store.

mod read;
mod tree;

use super::page::{Look, Page, Row, Style};
use crate::checks::{Finding, Level};
use crate::disk::Dir;
use crate::docker::driver::Role;
use crate::error::Result;
use crate::plan::names::Names;
use crate::store::{self, Generation, Store};
use crate::text;
use serde::Serialize;

/// As many entries of a list are shown unless everything is asked for.
pub const FOLD: usize = 12;

/// `unaufs.inspect/1`.
#[derive(Debug, Serialize)]
pub struct Inspection {
    schema: &'static str,
    root: String,
    generation: Generation,
    images: Vec<Image>,
    layers: Vec<Layer>,
    containers: Vec<Container>,
    orphans: Vec<String>,
    problems: Vec<Finding>,
    /// Of all layers that could be read.
    bytes: u64,
    #[serde(skip)]
    names: Names,
}

#[derive(Debug, Serialize)]
struct Image {
    id: String,
    tags: Vec<String>,
    digests: Vec<String>,
    layers: usize,
    /// Of all its layers; not there if one of them can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

#[derive(Debug, Serialize)]
struct Layer {
    id: String,
    role: Role,
    parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

#[derive(Debug, Serialize)]
struct Container {
    id: String,
    name: String,
    image: String,
    driver: String,
    running: bool,
    /// As `docker ps` words it.
    status: String,
    /// Of its writable layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

impl Inspection {
    /// From what was read.
    pub fn of(root: &Dir, store: &Store, problems: Vec<Finding>) -> Result<Inspection> {
        let sizes = read::sizes(root, store)?;
        let sum = |layers: &[crate::ids::LayerId]| layers.iter().map(|l| sizes.get(l).copied()).sum::<Option<u64>>();
        Ok(Inspection {
            schema: "unaufs.inspect/1",
            root: root.label().to_string_lossy().into_owned(),
            generation: store.generation,
            images: store.images.values().map(|i| Image::of(i, sum(&i.layers), read::created(root, i))).collect(),
            layers: store.layers.values().map(|l| Layer::of(l, sizes.get(&l.id).copied())).collect(),
            containers: store
                .containers
                .values()
                .map(|c| Container {
                    id: c.id.to_string(),
                    name: c.name.clone(),
                    image: c.image.clone(),
                    driver: c.driver.clone(),
                    running: c.running,
                    status: read::status(root, c),
                    bytes: c.layer.as_ref().and_then(|l| sizes.get(l).copied()),
                    layer: c.layer.as_ref().map(|l| l.to_string()),
                    broken: c.broken.clone(),
                })
                .collect(),
            orphans: store.orphans.clone(),
            problems,
            bytes: sizes.values().sum(),
            names: Names::of_store(store),
        })
    }

    /// For people. Lists are cut at `fold` entries.
    pub fn text(&self, look: Look, fold: usize) -> String {
        let mut out = Page::new(look);
        let generation = match self.generation {
            Generation::Content => "Docker 1.10 or later",
            Generation::Graph => "Docker 1.9 or earlier",
        };
        let parts = [
            text::text(&self.root),
            format!("written by {generation}"),
            format!("{} in {}", text::size(self.bytes), text::plural(self.layers.len(), "layer")),
        ];
        out.head("unaufs inspect", &parts, 2);
        out.blank();
        self.images(fold, &mut out);
        out.blank();
        self.containers(fold, &mut out);
        out.blank();
        out.flow(0, &[(Style::Bold, &format!("LAYERS ({})", text::count(self.layers.len() as u64)))]);
        tree::draw(self, fold, &mut out);
        more(self.layers.len(), fold, &mut out);
        out.blank();
        self.problems(fold, &mut out);
        out.finish()
    }

    /// Named ones first, then by age.
    fn images(&self, fold: usize, out: &mut Page) {
        out.flow(0, &[(Style::Bold, &format!("IMAGES ({})", text::count(self.images.len() as u64)))]);
        let mut all: Vec<&Image> = self.images.iter().collect();
        all.sort_by(|a, b| {
            (a.name().is_none(), &b.created, a.name(), &a.id).cmp(&(b.name().is_none(), &a.created, b.name(), &b.id))
        });
        // an image that can't be converted has no other ID than its old one
        let old = |i: &Image| i.old_id.as_deref().filter(|_| i.broken.is_none()).map(super::short).map(str::to_owned);
        let converted = all.iter().any(|i| old(i).is_some());
        let rows = all.iter().take(fold).map(|i| {
            let more = (i.tags.len() + i.digests.len()).saturating_sub(1);
            let name = text::text(i.name().unwrap_or("<none>"));
            let name = if more > 0 { format!("{name} (+{more})") } else { name };
            let created = i.created.as_deref().and_then(|c| c.get(..10)).unwrap_or("unknown");
            let mut cells = vec![name, super::short(&i.id).to_owned(), size(i.bytes), created.to_owned()];
            if converted {
                cells.insert(2, old(i).unwrap_or_default());
            }
            Row { cells, remark: damage(&i.broken) }
        });
        let heads: &[&str] =
            if converted { &["NAME", "ID", "OLD ID", "SIZE", "CREATED"] } else { &["NAME", "ID", "SIZE", "CREATED"] };
        out.rows(heads, &rows.collect::<Vec<_>>());
        more(all.len(), fold, out);
    }

    fn containers(&self, fold: usize, out: &mut Page) {
        out.flow(0, &[(Style::Bold, &format!("CONTAINERS ({})", text::count(self.containers.len() as u64)))]);
        let rows = self.containers.iter().take(fold).map(|c| {
            let name = if c.name.is_empty() { super::short(&c.id) } else { &c.name };
            let status = match c.driver.as_str() {
                "" | "aufs" => c.status.clone(),
                other => format!("{} ({})", c.status, text::text(other)),
            };
            let cells = vec![text::text(name), self.image_name(&c.image), status, size(c.bytes)];
            Row { cells, remark: damage(&c.broken) }
        });
        out.rows(&["NAME", "IMAGE", "STATUS", "SIZE"], &rows.collect::<Vec<_>>());
        more(self.containers.len(), fold, out);
    }

    /// The tag of an image, or its short id.
    fn image_name(&self, id: &str) -> String {
        let image = self.images.iter().find(|i| i.id == id || i.old_id.as_deref() == Some(id));
        text::text(image.and_then(Image::name).unwrap_or(super::short(id)))
    }

    fn problems(&self, fold: usize, out: &mut Page) {
        let count = |at_least: bool| self.problems.iter().filter(|p| (p.level >= Level::Warn) == at_least).count();
        let head = format!("PROBLEMS ({})", text::count(count(true) as u64));
        let notes = match count(false) {
            0 => String::new(),
            n => format!("   {}", text::plural(n, "note")),
        };
        out.flow(0, &[(Style::Bold, &head), (Style::Dim, &notes)]);
        let mut all: Vec<&Finding> = self.problems.iter().collect();
        all.sort_by_key(|p| std::cmp::Reverse(p.level));
        for p in all.iter().take(fold) {
            let line = format!("  {}  {}: {}", p.id, super::subject(p, &self.names), text::short_ids(&p.message));
            out.flow(7, &[(Style::of(p.level), &line)]);
        }
        more(all.len(), fold, out);
    }
}

impl Image {
    fn of(i: &store::Image, bytes: Option<u64>, created: Option<String>) -> Image {
        Image {
            id: i.id.to_string(),
            tags: i.tags.clone(),
            digests: i.digests.clone(),
            layers: i.layers.len(),
            bytes: bytes.filter(|_| i.broken.is_none()),
            created,
            old_id: i.old_id.clone(),
            broken: i.broken.clone(),
        }
    }

    /// The name that `docker images` lists first.
    fn name(&self) -> Option<&str> {
        self.tags.first().or(self.digests.first()).map(String::as_str)
    }
}

impl Layer {
    fn of(l: &store::Layer, bytes: Option<u64>) -> Layer {
        Layer {
            id: l.id.to_string(),
            role: l.role,
            parent: l.parent().map(|p| p.to_string()),
            chain_id: l.chain.map(|c| c.to_string()),
            diff_id: l.diff.map(|d| d.to_string()),
            bytes,
            broken: l.broken.clone(),
        }
    }
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or("unknown".to_owned(), text::size)
}

fn damage(why: &Option<String>) -> String {
    why.as_ref().map(|w| format!("  DAMAGED: {}", text::text(w))).unwrap_or_default()
}

fn more(all: usize, shown: usize, out: &mut Page) {
    if all > shown {
        out.flow(2, &[(Style::Dim, &format!("  and {} more (-v shows all)", text::count((all - shown) as u64)))]);
    }
}
