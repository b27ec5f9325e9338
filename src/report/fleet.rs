//! Many hosts on one page: `unaufs report merge *.json --html fleet.html`.

use super::plan::{groups, mode, seconds};
use crate::checks::Level;
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::show;
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
    new_bytes: u64,
    stays_behind: usize,
}

#[derive(Template)]
#[template(path = "fleet.html", config = ".askama.toml")]
struct Page<'a> {
    title: String,
    hosts: &'a [Host],
    blocked: usize,
    warned: usize,
    ready: usize,
    json: String,
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
    pub fn text(&self) -> String {
        let mut out = format!(
            "{}: {} blocked, {} with warnings, {} ready\n",
            show::plural(self.hosts.len(), "host"),
            self.blocked,
            self.warned,
            self.ready
        );
        for h in &self.hosts {
            out.push_str(&format!(
                "  {:<8} {:<20} {:<14} {:>10} {:>10}  {}\n",
                h.verdict, h.host, h.target, h.needs, h.time, h.checks
            ));
        }
        out
    }

    /// The page.
    pub fn html(&self) -> Result<String> {
        let page = Page {
            title: "unaufs: hosts".to_owned(),
            hosts: &self.hosts,
            blocked: self.blocked,
            warned: self.warned,
            ready: self.ready,
            json: super::html::embedded(self)?,
        };
        page.render().map_err(|e| Error::new(Kind::Failed, "write the page").with_source(e))
    }
}

impl Host {
    fn of(p: &Plan) -> Host {
        let chosen = p.estimates.iter().find(|e| e.chosen);
        let warns = p.checks.iter().any(|c| c.level == Level::Warn) || !p.left_behind.is_empty();
        let (class, verdict) = match (crate::checks::plan_is_blocked(&p.checks), warns) {
            (true, _) => ("bad", "BLOCKED"),
            (false, true) => ("warn", "warnings"),
            (false, false) => ("good", "ready"),
        };
        let serious: Vec<String> = groups(&p.checks)
            .iter()
            .filter(|g| g.first.level >= Level::Warn)
            .map(|g| if g.count > 1 { format!("{} ×{}", g.first.id, g.count) } else { g.first.id.clone() })
            .collect();
        Host {
            host: show::text(&p.host),
            root: show::text(&p.root.path),
            class,
            verdict,
            target: format!("{} {}", p.options.to, chosen.map_or("", |e| mode(e.mode))),
            images: p.summary.images,
            containers: p.summary.containers,
            bytes: show::size(p.summary.bytes),
            needs: chosen.map(|e| show::size(e.new_bytes)).unwrap_or_default(),
            free: show::size(p.root.room.free_bytes),
            time: chosen.map(seconds).unwrap_or_default(),
            checks: serious.join(", "),
            new_bytes: chosen.map_or(0, |e| e.new_bytes),
            stays_behind: p.left_behind.len(),
        }
    }
}
