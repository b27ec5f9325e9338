//! What a verification found: the verdict, what it rests on, what differs, what to do.

use super::{Next, SHOWN};
use crate::text;
use crate::verify::{By, Difference, Level, Outcome, Report, Side, Unchecked, Unprovable};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// `unaufs.verify/1`.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// The schema's name.
    pub schema: &'static str,
    /// How much was compared.
    pub level: Level,
    /// What was found.
    #[serde(flatten)]
    pub report: &'a Report,
    /// What to do where no command helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<&'static str>,
    /// Commands to type.
    pub next: Vec<Next>,
}

/// Where a migration was when its store was verified: what to do depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The new store is built but not active.
    BeforeSwitch,
    /// The new store is active, and the old one is still there.
    AfterSwitch,
    /// Only this store is there: it was migrated and cleaned up, or Docker made it.
    Alone,
    /// It is an aufs store, which can be migrated.
    Aufs,
    /// It is the old store, which a migration has set aside.
    Parked,
}

/// Where texts begin, behind the labels.
const LABEL: usize = 9;

fn label(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "{name:<LABEL$}{text}");
}

impl<'a> Document<'a> {
    /// Of a report. `place`: ` --root DIR` and the like, for the commands.
    pub fn of(report: &'a Report, level: Level, when: When, place: &str) -> Document<'a> {
        let next = |command: &str, why: &'static str| Next { command: format!("unaufs {command}{place}"), why };
        let docker =
            || Next { command: "systemctl start docker".to_owned(), why: "then look at your containers: docker ps -a" };
        let inherited = report.inherited();
        let mut advice = None;
        let next = match (report.outcome(), when) {
            (Outcome::Unchecked, _) => vec![next("verify", "again, after you removed the cause")],
            (Outcome::Clean, When::BeforeSwitch) => vec![next("migrate", "switch over")],
            (Outcome::Clean, When::AfterSwitch) if report.docker_ran => {
                vec![next("cleanup", "when your containers work: delete the old store")]
            }
            (Outcome::Clean, When::AfterSwitch) => match level {
                Level::Fast => vec![next("verify", "also check all contents"), docker()],
                Level::Full => vec![docker(), next("cleanup", "days later: delete the old store")],
            },
            (Outcome::Clean, When::Aufs) => vec![next("plan", "see what a migration would do")],
            (Outcome::Clean, When::Alone) | (_, When::Parked) => Vec::new(),
            (Outcome::Damaged, When::BeforeSwitch | When::AfterSwitch) if inherited => {
                advice = Some(
                    "The old store has the same damage, so a rollback doesn't repair it. Pull or build the damaged images again.",
                );
                Vec::new()
            }
            (Outcome::Damaged, _) if report.only_before => {
                advice = Some(
                    "The migration didn't add these objects: they were in the new store before. Repair or remove them. Until then `unaufs cleanup` keeps the old store, which may have a copy.",
                );
                Vec::new()
            }
            (Outcome::Damaged, When::BeforeSwitch) => vec![
                next("rollback", "drop the new store; the old store is unchanged"),
                next("migrate", "then build the new store again"),
            ],
            (Outcome::Damaged, When::AfterSwitch) => vec![
                next("rollback", "stop Docker first; put the old store back"),
                next("migrate", "then build the new store again"),
            ],
            (Outcome::Damaged, When::Alone) => {
                advice = Some(
                    "There is no old store to go back to. Pull or build the damaged images again. Restore container data from a backup.",
                );
                Vec::new()
            }
            (Outcome::Damaged, When::Aufs) => {
                vec![next("plan", "see which images and containers can still be migrated")]
            }
        };
        Document { schema: "unaufs.verify/1", level, report, advice, next }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.verdict(&mut out);
        self.rests_on(&mut out);
        self.unproved(&mut out);
        self.changes(&mut out);
        if let Some(advice) = self.advice {
            label(&mut out, "Next", advice);
        }
        for (n, next) in self.next.iter().enumerate() {
            label(&mut out, if n == 0 { "Next" } else { "" }, &format!("{:<28}  {}", next.command, next.why));
        }
        out
    }

    fn verdict(&self, out: &mut String) {
        let (r, driver) = (self.report, self.report.driver);
        match (r.outcome(), r.against_old) {
            (Outcome::Unchecked, _) => {
                out.push_str(
                    "NO VERDICT  Something couldn't be checked. This doesn't mean that the store is damaged.\n",
                );
            }
            (Outcome::Clean, true) if r.changed_since.is_empty() => {
                label(out, "CLEAN", &format!("The {driver} store matches the old store."));
            }
            (Outcome::Clean, true) => label(out, "CLEAN", "Image layers are identical to the old store."),
            (Outcome::Clean, false) => {
                label(out, "CLEAN", &format!("The {driver} store matches its own records and tar headers."));
            }
            (Outcome::Damaged, _) => {}
        }
        let lines = merged(&r.differences);
        if r.total() > 0 {
            let is_cut = r.differences.len() as u64 != r.total();
            let many = if is_cut { r.total() as usize } else { lines.len() };
            let many = text::plural(many, "difference");
            let what = match r.against_old {
                true if r.inherited() => format!("The {driver} store and the old store have the same damage ({many}):"),
                true if !r.only_before => format!("{many} between the {driver} store and the old store:"),
                _ => format!("{many} between the {driver} store and its own records:"),
            };
            label(out, "DAMAGED", &what);
            listed(out, &lines);
            cut(out, &r.differences, &r.counts);
        }
        if !r.unchecked.is_empty() {
            let _ = writeln!(out, "Could not be checked ({}):", text::count(r.unchecked.len() as u64));
            let line = |u: &Unchecked| format!("{}: {}", u.object, u.reason);
            super::first(out, r.unchecked.iter().map(line), " (--json has all)");
        }
    }

    /// What was compared, and what was proved without the old store. What wasn't done isn't mentioned.
    fn rests_on(&self, out: &mut String) {
        let r = self.report;
        let layers = match r.views {
            n if n > 0 && n < r.layers && r.against_old => {
                format!("the top layers ({} of {})", text::count(n), text::count(r.layers))
            }
            _ => text::plural(r.layers as usize, "layer"),
        };
        let mut parts = vec![layers];
        for (n, noun) in [(r.names, "name"), (r.metadata, "metadata file")] {
            if n > 0 {
                parts.push(text::plural(n as usize, noun));
            }
        }
        if r.bytes > 0 {
            parts.push(format!("{} of file contents", text::size(r.bytes)));
        }
        label(out, if r.against_old { "Compared" } else { "Checked" }, &format!("{}.", and(&parts)));
        let (fit, digests) = (r.headers.saturating_sub(unfit(r)), r.digests);
        let many = |n: u64| {
            let verb = if n == 1 { "matches its" } else { "match their" };
            format!("{} {verb}", text::plural(n as usize, "image layer"))
        };
        let digests_of = |n: u64| if n == 1 { "digest" } else { "digests" };
        let bytes = text::size(r.digested_bytes);
        match (fit, digests) {
            (0, 0) => {}
            (n, 0) => label(out, "Proved", &format!("{} tar headers.", many(n))),
            (0, n) => label(out, "Proved", &format!("{} {} ({bytes}).", many(n), digests_of(n))),
            (a, b) if a == b => {
                label(out, "Proved", &format!("{} tar headers and {} ({bytes}).", many(a), digests_of(a)));
            }
            (a, b) => {
                let verb = if b == 1 { "matches its" } else { "match their" };
                let also = format!("{} {verb} {}", text::count(b), digests_of(b));
                label(out, "Proved", &format!("{} tar headers, and {also} ({bytes}).", many(a)));
            }
        }
        if self.level == Level::Fast {
            label(out, "", "The contents of image layers were not read (level fast).");
        }
    }

    /// Layers that can't be proved by themselves, by reason.
    fn unproved(&self, out: &mut String) {
        let mut by_reason: BTreeMap<(&str, bool), Vec<&Unprovable>> = BTreeMap::new();
        for u in &self.report.unprovable {
            by_reason.entry((&u.reason, u.damaged)).or_default().push(u);
        }
        for ((reason, damaged), layers) in by_reason {
            let ids = layers.iter().take(3).map(|u| super::short(&u.layer).to_owned());
            let (many, ids) = (text::plural(layers.len(), "layer"), text::few(ids, layers.len()));
            let before = if damaged { ", in the old store too" } else { "" };
            label(out, "", &format!("{many} can't be proved: {reason}{before} ({ids})."));
        }
    }

    /// What Docker itself changed.
    fn changes(&self, out: &mut String) {
        let r = self.report;
        if r.changed_since.is_empty() {
            return;
        }
        let all: u64 = r.changes.values().sum();
        let many = text::plural(all as usize, "change");
        let _ = writeln!(out, "Docker made {many} since the switch. These are Docker's own, not damage:");
        listed(out, &merged(&r.changed_since));
        cut(out, &r.changed_since, &r.changes);
        if r.copied {
            out.push_str("This data root is a copy, so earlier changes inside containers count as Docker's too.\n");
        }
    }
}

/// `a, b and c`.
fn and(parts: &[String]) -> String {
    match parts {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => parts.join(""),
    }
}

/// Layers that do not fit their headers.
fn unfit(r: &Report) -> u64 {
    let ids = r.differences.iter().filter(|d| d.by == By::Headers).map(|d| &d.id);
    ids.collect::<BTreeSet<_>>().len() as u64
}

/// Says how many there are of each kind where not all are listed.
fn cut(out: &mut String, listed: &[Difference], counts: &BTreeMap<&'static str, u64>) {
    if listed.len() as u64 == counts.values().sum::<u64>() {
        return;
    }
    let kinds: Vec<String> = counts.iter().map(|(kind, n)| format!("{kind}: {}", text::count(*n))).collect();
    let _ = writeln!(out, "  … too many to list; in all {}", kinds.join(", "));
}

/// At most [`SHOWN`] of each object are printed; JSON has all.
fn listed(out: &mut String, all: &[Line<'_>]) {
    let mut shown = 0;
    let mut last = "";
    for line in all {
        let id = &line.first.id;
        shown = if id == last { shown + 1 } else { 1 };
        last = id;
        if shown <= SHOWN {
            let _ = writeln!(out, "  {}", line.text());
        } else if shown == SHOWN + 1 {
            let _ = writeln!(out, "  … more of {}: --json has all", super::short(id));
        }
    }
}

/// What differs at one path: several proofs may have found the same.
struct Line<'a> {
    first: &'a Difference,
    others: Vec<&'a Difference>,
}

impl Line<'_> {
    fn text(&self) -> String {
        let all = std::iter::once(self.first).chain(self.others.iter().copied());
        let whats: Vec<&str> = all.map(|d| d.what.as_str()).collect();
        Difference { what: whats.join("; "), ..self.first.clone() }.to_string()
    }
}

/// One line for each path of an object.
fn merged(all: &[Difference]) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut at: BTreeMap<(&str, &str, &[u8]), usize> = BTreeMap::new();
    for d in all {
        let key = (d.kind, d.id.as_str(), d.path.as_slice());
        // the path of what concerns a whole object is empty: there each is a finding of its own
        let known = at.get(&key).and_then(|n| lines.get_mut(*n)).filter(|_| !d.path.is_empty() || d.kind == "layer");
        match known {
            Some(line) => line.add(d),
            None => {
                at.insert(key, lines.len());
                lines.push(Line { first: d, others: Vec::new() });
            }
        }
    }
    lines
}

impl<'a> Line<'a> {
    /// One more finding at the same path, unless it says what is known. Of two that say the same, the one that knows which store is right
    /// says more.
    fn add(&mut self, d: &'a Difference) {
        let mut all: Vec<&'a Difference> = std::iter::once(self.first).chain(self.others.drain(..)).collect();
        match all.iter_mut().find(|known| aspect(known) == aspect(d)) {
            Some(known) if known.side == Side::Between || d.by == By::Headers => *known = d,
            Some(_) => {}
            None => all.push(d),
        }
        // what isn't there has no other faults
        let missing = |d: &&Difference| aspect(d) == "missing";
        if let Some(missing) = all.iter().copied().find(missing) {
            all = vec![missing];
        }
        all.sort_by_key(|d| d.side == Side::Between);
        let mut all = all.into_iter();
        self.first = all.next().unwrap_or(d);
        self.others = all.collect();
    }
}

/// What of a file differs, whichever proof says so.
fn aspect(d: &Difference) -> &str {
    let what = d.what.strip_prefix("changed since the layer was made: ").unwrap_or(&d.what);
    let what = what.strip_prefix("it is ").unwrap_or(what);
    if what.starts_with("missing") {
        return "missing";
    }
    match what.split([' ', ',', ':']).next().unwrap_or_default() {
        "only" => "extra",
        "its" if what.starts_with("its content") => "content",
        "its" => what,
        "is" => "type",
        "xattr" => what.split_inclusive(' ').nth(1).unwrap_or(what).trim_end(),
        first => first,
    }
}
