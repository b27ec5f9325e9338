//! The demo, in the words of a guide.

use super::page::{Look, Page, Style};
use crate::demo::Row;
use crate::docker::driver::Target;
use serde::Serialize;

/// `unaufs.demo/1`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The schema's name.
    pub schema: &'static str,
    /// The driver moved to.
    pub driver: Target,
    /// Why not to overlay2, if nobody asked for another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Every mark of aufs, before and after.
    pub marks: Vec<Row>,
    /// What the container showed.
    pub before: Vec<String>,
    /// What it shows now.
    pub after: Vec<String>,
    /// Differences that `verify --level full` found.
    pub differences: usize,
    /// Layers whose digest was rebuilt from the new tree.
    pub digests: u64,
}

impl Document {
    /// Is all as it was?
    pub fn good(&self) -> bool {
        self.before == self.after && self.differences == 0
    }

    /// The marks and the container's view, before and after.
    pub fn text(&self, look: Look) -> String {
        let mut page = Page::new(look);
        heading(&mut page, "HOW THE LAYERS RECORD DELETED FILES, before and after (-: nothing)");
        let old = self.marks.iter().map(|r| r.before.len()).max().unwrap_or(0).max(9);
        let new = self.marks.iter().map(|r| r.after.len()).max().unwrap_or(0).max(10);
        page.row(Style::Dim, &format!("  {:<5} {:<old$}  {:<new$}  meaning", "layer", "aufs/diff", self.driver.home()));
        for r in &self.marks {
            let line = format!("  {:<5} {:<old$}  {:<new$}  {}", r.layer, r.before, r.after, r.means);
            page.flow(old + new + 12, &[(Style::Plain, &line)]);
        }
        heading(&mut page, "WHAT THE CONTAINER \"shop\" SHOWS, before and after");
        let names: Vec<&str> = self.before.iter().map(|p| p.trim_end_matches('/')).collect();
        let leaves = names.iter().filter(|n| !names.iter().any(|o| o.starts_with(&format!("{n}/"))));
        let leaves: Vec<&str> = leaves.copied().collect();
        page.flow(2, &[(Style::Plain, &format!("  {}", leaves.join("  ")))]);
        let verdict = match self.before == self.after {
            true => format!("  The same {} names before and after", self.before.len()),
            false => format!("  DIFFERENT: {} names before, {} after", self.before.len(), self.after.len()),
        };
        page.row(if self.good() { Style::Good } else { Style::Bad }, &verdict);
        page.finish()
    }
}

/// A bold line, with room above.
pub fn heading(page: &mut Page, text: &str) {
    page.row(Style::Plain, "");
    page.row(Style::Bold, text);
}
