//! What is in the store.

use crate::checks::Finding;
use crate::disk::Dir;
use crate::store::{Generation, Role, Store};
use serde::Serialize;
use std::fmt::Write;

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

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let generation = match self.generation {
            Generation::Content => "Docker 1.10 or later",
            Generation::Graph => "Docker before 1.10",
        };
        let _ = writeln!(out, "unaufs inspect   root {}   written by {generation}\n", crate::show::text(&self.root));
        let _ = writeln!(out, "IMAGES ({})", self.images.len());
        for i in &self.images {
            let names: Vec<&str> = i.tags.iter().chain(&i.digests).map(String::as_str).collect();
            let name = if names.is_empty() { "<none>".to_owned() } else { names.join(", ") };
            let layers = crate::show::plural(i.layers, "layer");
            // an image that cannot be converted has no other id than its old one
            let old = i.old_id.as_deref().filter(|_| i.broken.is_none());
            let old = old.map(|o| format!("  was {}", super::short(o))).unwrap_or_default();
            let _ = writeln!(
                out,
                "  {}  {}  {layers}{old}{}",
                super::short(&i.id),
                crate::show::text(&name),
                broken(&i.broken)
            );
        }
        let _ = writeln!(out, "\nCONTAINERS ({})", self.containers.len());
        for c in &self.containers {
            let state = if c.running { "  marked as running" } else { "" };
            let image = super::short(&c.image);
            let name = crate::show::text(&c.name);
            let _ = writeln!(
                out,
                "  {}  {name}  of {}{state}{}",
                super::short(&c.id),
                crate::show::text(image),
                broken(&c.broken)
            );
        }
        let _ = writeln!(out, "\nLAYERS ({})", self.layers.len());
        self.tree(&mut out);
        let _ = writeln!(out, "\nPROBLEMS ({})", self.problems.len());
        for p in &self.problems {
            let _ = writeln!(out, "  {} {}: {}", p.id, p.subject, crate::show::text(&p.message));
        }
        out
    }

    /// The layer tree, indented by depth; a chain of single children stays in one column.
    fn tree(&self, out: &mut String) {
        let mut children: std::collections::BTreeMap<&str, Vec<&Layer>> = std::collections::BTreeMap::new();
        for l in &self.layers {
            children.entry(l.parent.as_deref().unwrap_or("")).or_default().push(l);
        }
        let mut todo: Vec<(&Layer, usize)> = children.get("").into_iter().flatten().rev().map(|l| (*l, 0)).collect();
        while let Some((l, depth)) = todo.pop() {
            let role = match l.role {
                Role::Image => "",
                Role::Init => "  init",
                Role::Container => "  container",
            };
            let _ = writeln!(out, "  {}{}{role}{}", "  ".repeat(depth.min(30)), super::short(&l.id), broken(&l.broken));
            let below = children.get(l.id.as_str());
            let step = usize::from(below.is_some_and(|b| b.len() > 1) || depth == 0);
            todo.extend(below.into_iter().flatten().rev().map(|c| (*c, depth + step)));
        }
    }
}

fn broken(why: &Option<String>) -> String {
    why.as_ref().map(|w| format!("  STAYS BEHIND: {}", crate::show::text(w))).unwrap_or_default()
}
