//! Many hosts on one page: `unaufs report merge *.json --html fleet.html`.

use super::page::{Look, Page, Row};
use super::plan::{groups, mode, seconds};
use crate::checks::Level;
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::text;
use askama::Template;
use serde::Serialize;

/// `unaufs.report/1`.
#[derive(Debug, Serialize)]
pub struct Fleet {
    schema: &'static str,
    blocked: usize,
    warned: usize,
    ready: usize,
    hosts: Vec<Host>,
}

#[derive(Debug, Serialize)]
struct Host {
    host: String,
    root: String,
    class: &'static str,
    verdict: &'static str,
    target: String,
    images: usize,
    containers: usize,
    bytes: String,
    needs: String,
    free: String,
    time: String,
    checks: String,
    store_bytes: u64,
    new_bytes: u64,
    stays_behind: usize,
    /// The answer, as a plan gives it.
    #[serde(skip)]
    word: &'static str,
    #[serde(skip)]
    serious: Vec<(String, Level)>,
}

#[derive(Template)]
#[template(path = "fleet.html", config = ".askama.toml")]
struct Html<'a> {
    title: String,
    hosts: &'a [Host],
    blocked: usize,
    warned: usize,
    ready: usize,
    hosts_told: String,
    bytes: String,
    needs: String,
    common: Vec<Common>,
    json: String,
}

/// A check that more than one host may have.
struct Common {
    id: &'static str,
    class: &'static str,
    title: &'static str,
    hosts: usize,
}

impl Fleet {
    /// From plans, the worst first.
    pub fn of(plans: &[Plan]) -> Fleet {
        let mut hosts: Vec<Host> = plans.iter().map(Host::of).collect();
        let rank = |h: &Host| match h.class {
            "bad" => 0,
            "warn" => 1,
            _ => 2,
        };
        hosts.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.host.cmp(&b.host)).then_with(|| a.root.cmp(&b.root)));
        let n = |class: &str| hosts.iter().filter(|h| h.class == class).count();
        Fleet { schema: "unaufs.report/1", blocked: n("bad"), warned: n("warn"), ready: n("good"), hosts }
    }

    /// For people.
    pub fn text(&self, look: Look) -> String {
        let out = format!(
            "{}: {} blocked, {} with warnings, {} ready\n",
            text::plural(self.hosts.len(), "host"),
            self.blocked,
            self.warned,
            self.ready
        );
        let row = |h: &Host| {
            let cells = [h.word, &h.host, &h.target, &h.needs, &h.time, &h.checks, &h.root];
            Row::of(cells.map(str::to_owned))
        };
        let rows: Vec<Row> = self.hosts.iter().map(row).collect();
        let mut page = Page::new(look);
        page.rows(&["PLAN", "HOST", "TARGET", "SPACE", "TIME", "CHECKS", "ROOT"], &rows);
        out + &page.finish()
    }

    /// The page.
    pub fn html(&self) -> Result<String> {
        let page = Html {
            title: "unaufs: hosts".to_owned(),
            hosts: &self.hosts,
            blocked: self.blocked,
            warned: self.warned,
            ready: self.ready,
            hosts_told: text::plural(self.hosts.len(), "host"),
            bytes: text::size(self.hosts.iter().map(|h| h.store_bytes).sum()),
            needs: text::size(self.hosts.iter().map(|h| h.new_bytes).sum()),
            common: self.common(),
            json: super::html::embedded(self)?,
        };
        page.render().map_err(|e| Error::new(Kind::Failed, "write the page").with_source(e))
    }
}

impl Fleet {
    /// What is wrong on how many hosts.
    fn common(&self) -> Vec<Common> {
        let of = |c: &crate::checks::Check, level: Level| self.hosts.iter().filter(|h| h.has(c.id, level)).count();
        let rows = crate::checks::TABLE.iter().map(|c| (c, of(c, Level::Block), of(c, Level::Warn)));
        let mut out: Vec<Common> = rows
            .filter(|(_, block, warn)| block + warn > 0)
            .map(|(c, block, warn)| Common {
                id: c.id,
                class: if block > 0 { "bad" } else { "warn" },
                title: c.title,
                hosts: block + warn,
            })
            .collect();
        out.sort_by(|a, b| a.class.cmp(b.class).then(b.hosts.cmp(&a.hosts)).then(a.id.cmp(b.id)));
        out
    }
}

impl Host {
    fn has(&self, id: &str, level: Level) -> bool {
        self.serious.iter().any(|(i, l)| i == id && *l == level)
    }

    fn of(p: &Plan) -> Host {
        let chosen = p.estimates.iter().find(|e| e.chosen);
        let warns = p.checks.iter().any(|c| c.level == Level::Warn) || !p.left_behind.is_empty();
        let (class, verdict) = match (crate::checks::plan_is_blocked(&p.checks), warns) {
            (true, _) => ("bad", "BLOCKED"),
            (false, true) => ("warn", "warnings"),
            (false, false) => ("good", "ready"),
        };
        let groups = groups(&p.checks);
        let serious = || groups.iter().filter(|g| g.first.level >= Level::Warn);
        let told: Vec<String> = serious()
            .map(|g| if g.count > 1 { format!("{} ({})", g.first.id, g.count) } else { g.first.id.clone() })
            .collect();
        Host {
            host: text::text(&p.host.name),
            root: text::text(&p.root.path),
            class,
            verdict,
            word: match class {
                "bad" => "BLOCKED",
                _ if p.partial() => "PARTLY",
                _ => "READY",
            },
            target: format!("{} {}", p.options.to, chosen.map_or("", |e| mode(e.mode))),
            images: p.summary.images,
            containers: p.summary.containers,
            bytes: text::size(p.summary.bytes),
            needs: chosen.map(|e| text::size(e.new_bytes)).unwrap_or_default(),
            free: text::size(p.room().free_bytes),
            time: chosen.map(seconds).unwrap_or_default(),
            checks: told.join(", "),
            serious: serious().map(|g| (g.first.id.clone(), g.first.level)).collect(),
            store_bytes: p.summary.bytes,
            new_bytes: chosen.map_or(0, |e| e.new_bytes),
            stays_behind: p.left_behind.len(),
        }
    }
}
