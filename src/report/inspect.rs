//! What is in the store.

use super::page::{Look, Page, Style};
use crate::checks::Finding;
use crate::disk::Dir;
use crate::docker::driver::Role;
use crate::store::{Generation, Store};
use serde::Serialize;

/// As many entries of a list are shown unless everything is asked for.
pub const FOLD: usize = 8;

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
}

#[derive(Debug, Serialize)]
struct Image {
    id: String,
    tags: Vec<String>,
    digests: Vec<String>,
    layers: usize,
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
    broken: Option<String>,
}

#[derive(Debug, Serialize)]
struct Container {
    id: String,
    name: String,
    image: String,
    driver: String,
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

impl Inspection {
    /// From what was read.
    pub fn of(root: &Dir, store: &Store, problems: Vec<Finding>) -> Inspection {
        Inspection {
            schema: "unaufs.inspect/1",
            root: root.label().to_string_lossy().into_owned(),
            generation: store.generation,
            images: store
                .images
                .values()
                .map(|i| Image {
                    id: i.id.to_string(),
                    tags: i.tags.clone(),
                    digests: i.digests.clone(),
                    layers: i.layers.len(),
                    old_id: i.old_id.clone(),
                    broken: i.broken.clone(),
                })
                .collect(),
            layers: store
                .layers
                .values()
                .map(|l| Layer {
                    id: l.id.to_string(),
                    role: l.role,
                    parent: l.parent().map(|p| p.to_string()),
                    chain_id: l.chain.map(|c| c.to_string()),
                    diff_id: l.diff.map(|d| d.to_string()),
                    broken: l.broken.clone(),
                })
                .collect(),
            containers: store
                .containers
                .values()
                .map(|c| Container {
                    id: c.id.to_string(),
                    name: c.name.clone(),
                    image: c.image.clone(),
                    driver: c.driver.clone(),
                    running: c.running,
                    broken: c.broken.clone(),
                })
                .collect(),
            orphans: store.orphans.clone(),
            problems,
        }
    }

    /// For people. Lists are cut at `fold` entries.
    pub fn text(&self, look: Look, fold: usize) -> String {
        let mut out = Page::new(look);
        let generation = match self.generation {
            Generation::Content => "Docker 1.10 or later",
            Generation::Graph => "Docker before 1.10",
        };
        let head = format!("  root {}   written by {generation}", crate::text::text(&self.root));
        out.flow(2, &[(Style::Bold, "unaufs inspect"), (Style::Plain, &head)]);
        out.flow(0, &[(Style::Bold, &format!("IMAGES ({})", self.images.len()))]);
        for i in self.images.iter().take(fold) {
            let names: Vec<&str> = i.tags.iter().chain(&i.digests).map(String::as_str).collect();
            let name = if names.is_empty() { "<none>".to_owned() } else { names.join(", ") };
            let layers = crate::text::plural(i.layers, "layer");
            // an image that cannot be converted has no other id than its old one
            let old = i.old_id.as_deref().filter(|_| i.broken.is_none());
            let old = old.map(|o| format!("  was {}", super::short(o))).unwrap_or_default();
            let line = format!("  {}  {}  {layers}{old}", super::short(&i.id), crate::text::text(&name));
            out.flow(4, &[(Style::Plain, &line), (Style::Warn, &broken(&i.broken))]);
        }
        more(self.images.len(), fold, &mut out);
        out.flow(0, &[(Style::Bold, &format!("CONTAINERS ({})", self.containers.len()))]);
        for c in self.containers.iter().take(fold) {
            let state = if c.running { "  marked as running" } else { "" };
            let image = crate::text::text(super::short(&c.image));
            let line = format!("  {}  {}  of {image}{state}", super::short(&c.id), crate::text::text(&c.name));
            out.flow(4, &[(Style::Plain, &line), (Style::Warn, &broken(&c.broken))]);
        }
        more(self.containers.len(), fold, &mut out);
        out.flow(0, &[(Style::Bold, &format!("LAYERS ({})", self.layers.len()))]);
        self.tree(fold, &mut out);
        more(self.layers.len(), fold, &mut out);
        out.flow(0, &[(Style::Bold, &format!("PROBLEMS ({})", self.problems.len()))]);
        for p in self.problems.iter().take(fold) {
            let line = format!("  {} {}: {}", p.id, p.subject, crate::text::text(&p.message));
            out.flow(6, &[(Style::of(p.level), &line)]);
        }
        more(self.problems.len(), fold, &mut out);
        out.finish()
    }

    /// The layer tree, indented by depth; a chain of single children stays in one column.
    fn tree(&self, fold: usize, out: &mut Page) {
        let mut shown = 0;
        let mut children: std::collections::BTreeMap<&str, Vec<&Layer>> = std::collections::BTreeMap::new();
        for l in &self.layers {
            children.entry(l.parent.as_deref().unwrap_or("")).or_default().push(l);
        }
        let mut todo: Vec<(&Layer, usize)> = children.get("").into_iter().flatten().rev().map(|l| (*l, 0)).collect();
        while let Some((l, depth)) = todo.pop().filter(|_| shown < fold) {
            shown += 1;
            let role = match l.role {
                Role::Image => "",
                Role::Init => "  init",
                Role::Container => "  container",
            };
            let line = format!("  {}{}{role}", "  ".repeat(depth.min(20)), super::short(&l.id));
            out.flow(4, &[(Style::Plain, &line), (Style::Warn, &broken(&l.broken))]);
            let below = children.get(l.id.as_str());
            let step = usize::from(below.is_some_and(|b| b.len() > 1) || depth == 0);
            todo.extend(below.into_iter().flatten().rev().map(|c| (*c, depth + step)));
        }
    }
}

fn broken(why: &Option<String>) -> String {
    why.as_ref().map(|w| format!("  STAYS BEHIND: {}", crate::text::text(w))).unwrap_or_default()
}

fn more(all: usize, shown: usize, out: &mut Page) {
    if all > shown {
        out.flow(2, &[(Style::Dim, &format!("  and {} more: -v", crate::text::count((all - shown) as u64)))]);
    }
}
