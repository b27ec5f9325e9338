//! The layer tree, each layer with the image or the container that people know.
//!
//! ```text
//! 0a1b2c  base:1            a layer with one child keeps the child in its column,
//! ├─ 3d4e5f  app:1          so that a deep image doesn't leave the screen
//! │  6a7b8c  app:2
//! └─ 9d0e1f  container web
//! ```

use super::{Inspection, Layer, damage, size};
use crate::docker::driver::Role;
use crate::report::page::{Page, Style};
use crate::report::short;
use crate::text;
use std::collections::{BTreeMap, BTreeSet};

/// Columns of lines left of a layer; deeper ones are drawn in the last of them.
const DEEPEST: usize = 24;

/// A layer on its way to the screen.
struct Branch<'a> {
    layer: &'a Layer,
    /// The lines of those below it that have more children.
    lines: String,
    joint: &'static str,
    is_root: bool,
}

/// Draws the first `fold` layers.
pub fn draw(inspection: &Inspection, fold: usize, out: &mut Page) {
    let known: BTreeSet<&str> = inspection.layers.iter().map(|l| l.id.as_str()).collect();
    let mut children: BTreeMap<&str, Vec<&Layer>> = BTreeMap::new();
    for l in &inspection.layers {
        let parent = l.parent.as_deref().filter(|p| known.contains(p)).unwrap_or("");
        children.entry(parent).or_default().push(l);
    }
    let roots = children.get("").into_iter().flatten().rev();
    let mut todo: Vec<Branch<'_>> =
        roots.map(|layer| Branch { layer, lines: String::new(), joint: "", is_root: true }).collect();
    let mut shown = 0;
    while let Some(branch) = todo.pop().filter(|_| shown < fold) {
        shown += 1;
        let layer = branch.layer;
        let name = match (inspection.names.get(&layer.id).map(text::text), layer.role) {
            (Some(name), Role::Init) => format!("  {name} (init layer)"),
            (Some(name), _) => format!("  {name}"),
            (None, Role::Init) => "  (init layer)".to_owned(),
            (None, _) => String::new(),
        };
        let left = format!("  {}{}{}", branch.lines, branch.joint, short(&layer.id));
        let line = format!("{left:<28} {:>9}{name}", size(layer.bytes));
        out.flow(4, &[(Style::Plain, &line), (Style::Warn, &damage(&layer.broken))]);
        let above = children.get(layer.id.as_str()).map_or(&[][..], Vec::as_slice);
        todo.extend(branch.children(above));
    }
}

impl Branch<'_> {
    /// The layers based on this one, the first one last.
    fn children<'a>(&self, above: &[&'a Layer]) -> Vec<Branch<'a>> {
        let mut lines = self.lines.clone();
        if lines.chars().count() < DEEPEST {
            lines.push_str(match self.joint {
                "├─ " => "│  ",
                "└─ " => "   ",
                _ => "",
            });
        }
        let joint = |n: usize| match (n + 1 == above.len(), self.is_root || above.len() > 1) {
            (_, false) => "",
            (false, true) => "├─ ",
            (true, true) => "└─ ",
        };
        let branch =
            |(n, layer): (usize, &&'a Layer)| Branch { layer, lines: lines.clone(), joint: joint(n), is_root: false };
        above.iter().enumerate().map(branch).rev().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::page::Look;

    fn layer(id: &str, parent: &str) -> Layer {
        Layer {
            id: id.to_owned(),
            role: Role::Image,
            parent: (!parent.is_empty()).then(|| parent.to_owned()),
            chain_id: None,
            diff_id: None,
            bytes: Some(1024),
            broken: None,
        }
    }

    fn tree(layers: Vec<Layer>) -> String {
        let inspection = Inspection {
            schema: "",
            root: String::new(),
            generation: crate::store::Generation::Content,
            images: Vec::new(),
            layers,
            containers: Vec::new(),
            orphans: Vec::new(),
            problems: Vec::new(),
            bytes: 0,
            names: Default::default(),
        };
        let mut page = Page::new(Look { width: 80, colour: false });
        draw(&inspection, 200, &mut page);
        page.finish().lines().map(|l| l.replace("1.0 KiB", "").trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn lines_lead_to_the_parent() {
        let drawn = tree(vec![
            layer("base", ""),
            layer("app1", "base"),
            layer("app2", "app1"),
            layer("left", "app2"),
            layer("right", "app2"),
            layer("web", "base"),
            layer("other", ""),
            layer("only", "other"),
            layer("next", "only"),
        ]);
        let wanted = "  base
  ├─ app1
  │  app2
  │  ├─ left
  │  └─ right
  └─ web
  other
  └─ only
     next
";
        assert_eq!(drawn, wanted);
    }

    #[test]
    fn a_deep_tree_stays_on_the_screen() {
        let mut layers = vec![layer("0", "")];
        for n in 1..60 {
            layers.push(layer(&n.to_string(), &(n - 1).to_string()));
            layers.push(layer(&format!("side{n}"), &(n - 1).to_string()));
        }
        let drawn = tree(layers);
        assert!(drawn.lines().all(|l| l.chars().count() < 60), "{drawn}");
        assert_eq!(drawn.lines().count(), 119);
    }
}
