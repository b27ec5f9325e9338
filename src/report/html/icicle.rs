//! The layer tree as an icicle: children below their parent, as wide as their bytes.
//!
//! Boxes too narrow to see are counted, not drawn. In a large store a run of layers with one child each is one box: it says nothing more
//! than its number and its bytes.

use crate::docker::driver::Role;
use crate::ids::LayerId;
use crate::plan::names::Names;
use crate::plan::{Plan, PlanLayer};
use crate::text;
use std::collections::{BTreeMap, BTreeSet, HashMap};

const ROW: usize = 22;
const DEEPEST: usize = 60;
/// Per cent of the width.
const NARROW: f64 = 0.12;
/// Narrower than that the line between two boxes would hide them.
const THIN: f64 = 0.6;
/// A box must be so wide to hold an id; a run of layers needs more.
const LABEL: f64 = 9.0;
/// A layer without content is still there.
const LEAST: u64 = 256;
/// With more layers than that runs are folded.
const LARGE: usize = 300;

/// What is drawn.
pub struct Icicle {
    pub boxes: Vec<LayerBox>,
    pub height: usize,
    /// Layers too narrow to draw.
    pub left_out: usize,
}

/// A layer, or a run of them.
pub struct LayerBox {
    pub x: String,
    pub y: usize,
    pub width: String,
    pub class: String,
    pub label: String,
    pub title: String,
}

/// How many images use each layer.
pub fn users(p: &Plan) -> HashMap<&LayerId, usize> {
    let mut out = HashMap::new();
    for i in &p.images {
        for l in i.layers.iter().collect::<BTreeSet<_>>() {
            *out.entry(l).or_default() += 1;
        }
    }
    out
}

/// The layers, and how wide each is.
struct Tree<'a> {
    children: BTreeMap<Option<&'a LayerId>, Vec<&'a PlanLayer>>,
    width: HashMap<&'a LayerId, u64>,
    users: HashMap<&'a LayerId, usize>,
    names: Names,
    fold: bool,
}

impl<'a> Tree<'a> {
    fn of(p: &'a Plan) -> Tree<'a> {
        let known: BTreeSet<&LayerId> = p.layers.iter().map(|l| &l.id).collect();
        let mut children: BTreeMap<Option<&LayerId>, Vec<&PlanLayer>> = BTreeMap::new();
        let mut width: HashMap<&LayerId, u64> = HashMap::new();
        // parents come first in the plan: backwards, every child is added up before its parent
        for l in p.layers.iter().rev() {
            let parent = l.lowers.first().filter(|id| known.contains(id));
            children.entry(parent).or_default().push(l);
            let below = width.get(&l.id).copied().unwrap_or(0);
            let mine = below.max(LEAST.max(l.facts.bytes));
            width.insert(&l.id, mine);
            if let Some(parent) = parent {
                *width.entry(parent).or_default() += mine;
            }
        }
        let mut tree =
            Tree { children, width, users: users(p), names: Names::of_plan(p), fold: p.layers.len() > LARGE };
        let width = &tree.width;
        for row in tree.children.values_mut() {
            row.sort_by(|a, b| width.get(&b.id).cmp(&width.get(&a.id)).then_with(|| a.id.cmp(&b.id)));
        }
        tree
    }

    fn wide(&self, l: &PlanLayer) -> u64 {
        self.width.get(&l.id).copied().unwrap_or(LEAST)
    }

    fn below(&self, l: Option<&'a LayerId>) -> &[&'a PlanLayer] {
        self.children.get(&l).map_or(&[], Vec::as_slice)
    }

    fn class(&self, l: &PlanLayer) -> &'static str {
        match (l.role, self.users.get(&l.id).copied().unwrap_or(0)) {
            (Role::Container | Role::Init, _) => "rw",
            (_, 0) => "s0",
            (_, 1) => "s1",
            (_, 2..=4) => "s2",
            _ => "s3",
        }
    }

    /// The layer and those above it that are told together with it.
    fn run(&self, first: &'a PlanLayer) -> Vec<&'a PlanLayer> {
        let mut out = vec![first];
        let mut at = first;
        while let [only] = self.below(Some(&at.id)) {
            if !self.fold || self.class(only) != self.class(first) {
                break;
            }
            out.push(only);
            at = only;
        }
        out
    }

    fn draw_run(&self, run: &[&PlanLayer], (x, y): (f64, usize), width: f64) -> Option<LayerBox> {
        let (layer, last) = (run.first()?, run.last()?);
        let bytes = text::size(run.iter().map(|l| l.facts.bytes).sum());
        let (first, last) = (layer.id.short(), last.id.short());
        let images = text::plural(self.users.get(&layer.id).copied().unwrap_or(0), "image");
        let name = self.names.get(layer.id.as_str()).map(text::text);
        let (label, title) = match (run.len(), name) {
            (1, Some(name)) => (name.clone(), format!("{name} (layer {first}): {bytes}, in {images}")),
            (1, None) => (first.clone(), format!("layer {first}: {bytes}, in {images}")),
            (n, Some(name)) => {
                (format!("{n} layers, {name}"), format!("{n} layers, {first} to {last} ({name}): {bytes}, in {images}"))
            }
            (n, None) => {
                (format!("{n} layers, {bytes}"), format!("{n} layers, {first} to {last}: {bytes}, in {images}"))
            }
        };
        let least = if run.len() > 1 { LABEL * 1.6 } else { LABEL };
        let class = self.class(layer);
        Some(LayerBox {
            x: format!("{x:.3}"),
            y,
            width: format!("{width:.3}"),
            class: if width < THIN { format!("{class} thin") } else { class.to_owned() },
            label: if width > least { label } else { String::new() },
            title,
        })
    }
}

/// Draws the tree.
pub fn draw(p: &Plan) -> Icicle {
    let tree = Tree::of(p);
    let whole = tree.below(None).iter().map(|l| tree.wide(l)).sum::<u64>().max(1) as f64;
    let (mut out, mut deepest) = (Icicle { boxes: Vec::new(), height: 0, left_out: 0 }, 0);
    let mut todo: Vec<(Option<&LayerId>, f64, usize)> = vec![(None, 0.0, 0)];
    while let Some((parent, mut x, depth)) = todo.pop() {
        for l in tree.below(parent) {
            let width = tree.wide(l) as f64 * 100.0 / whole;
            if width < NARROW || depth >= DEEPEST {
                out.left_out += 1;
                continue;
            }
            deepest = deepest.max(depth + 1);
            let run = tree.run(l);
            out.boxes.extend(tree.draw_run(&run, (x, depth * ROW), width));
            todo.push((run.last().map(|l| &l.id), x, depth + 1));
            x += width;
        }
    }
    out.height = deepest * ROW + 2;
    out
}
