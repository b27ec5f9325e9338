//! The plan, or the record of a migration, as one page to look at: no script, nothing from outside, everything of the store escaped.
//!
//! The template is html/plan.html; here names become text that is harmless anywhere, and numbers become lengths. SVG is measured in
//! percents, so that the same page fits a phone and paper.

use super::plan::{docker, groups, mode, next, seconds};
use crate::checks::Level;
use crate::error::{Error, Kind, Result};
use crate::ids::LayerId;
use crate::plan::{Estimate, Plan, PlanLayer};
use crate::show;
use crate::store::Role;
use askama::Template;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a run adds to the plan's page.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it stands.
    pub state: String,
    /// When it began.
    pub started: String,
    /// When which state was reached.
    pub events: Vec<(String, String)>,
    /// How it was last verified.
    pub verified: Option<String>,
    /// What was done.
    pub sums: crate::engine::stage::Sums,
}

#[derive(Template)]
#[template(path = "plan.html", config = ".askama.toml")]
struct Page<'a> {
    p: &'a Plan,
    title: String,
    host: String,
    path: String,
    class: &'static str,
    verdict: String,
    tiles: Vec<Tile>,
    problems: Vec<Problem>,
    info: Vec<Problem>,
    fine: Vec<String>,
    stays: Vec<[String; 4]>,
    stays_more: usize,
    bars: Vec<Bar>,
    free_at: Option<String>,
    free: String,
    images: Vec<ImageRow>,
    more_images: Vec<ImageRow>,
    images_left_out: usize,
    store_total: String,
    boxes: Vec<LayerBox>,
    boxes_left_out: usize,
    height: usize,
    layers: Vec<LayerRow>,
    layers_left_out: usize,
    containers: Vec<[String; 4]>,
    containers_left_out: usize,
    docker: String,
    commands: Vec<String>,
    record: Option<RecordRows>,
    fingerprint: String,
    json: String,
}

struct Tile {
    name: &'static str,
    value: String,
    class: &'static str,
}

struct Problem {
    id: String,
    level: &'static str,
    subject: String,
    message: String,
    fix: String,
    effect: String,
    explain: &'static str,
    /// Of the same id: subject and message.
    more: Vec<String>,
    left_out: usize,
}

struct Bar {
    name: String,
    chosen: bool,
    fits: bool,
    width: String,
    bytes: String,
    inodes: String,
    shared: String,
    time: String,
    why: String,
}

struct ImageRow {
    name: String,
    id: String,
    total: String,
    unique: String,
    shared: String,
    unique_width: String,
    shared_at: String,
    shared_width: String,
}

struct LayerBox {
    x: String,
    y: usize,
    width: String,
    class: &'static str,
    label: String,
    title: String,
}

struct LayerRow {
    id: String,
    parent: String,
    role: &'static str,
    bytes: String,
    files: String,
    users: usize,
}

struct RecordRows {
    state: String,
    started: String,
    verified: String,
    steps: Vec<Step>,
    compared: Vec<[String; 3]>,
    layers: String,
}

struct Step {
    at: String,
    name: String,
    took: String,
    x: String,
    width: String,
}

/// The page of a plan; with a record, the record of its run.
pub fn page(p: &Plan, record: Option<&Record>) -> Result<String> {
    let groups = groups(&p.checks);
    let chosen = p.estimates.iter().find(|e| e.chosen);
    let (class, verdict) = verdict(p, record);
    let problem = |level: Level| groups.iter().filter(move |g| g.first.level == level);
    let told: Vec<Problem> =
        problem(Level::Block).chain(problem(Level::Warn)).map(|g| of_id(p, &g.first.id, g.first.level)).collect();
    let info = problem(Level::Info).map(|g| of_id(p, &g.first.id, g.first.level)).collect();
    let fine = problem(Level::Ok)
        .map(|g| format!("{} {}", g.first.id, crate::checks::explain(&g.first.id).map_or("", |c| c.title)))
        .collect();
    let (bars, free_at) = bars(p);
    let (images, more_images, images_left_out) = images(p);
    let (boxes, height, boxes_left_out) = icicle(p);
    let (layers, layers_left_out) = layer_rows(p);
    let page = Page {
        p,
        title: format!("unaufs: {}", show::text(&p.host)),
        host: show::text(&p.host),
        path: show::text(&p.root.path),
        class,
        verdict,
        tiles: tiles(p, chosen),
        problems: told,
        info,
        fine,
        stays: p
            .left_behind
            .iter()
            .take(500)
            .map(|l| [show::text(&l.kind), show::text(super::short(&l.id)), show::text(&l.name), show::text(&l.reason)])
            .collect(),
        stays_more: p.left_behind.len().saturating_sub(500),
        bars,
        free_at,
        free: show::size(p.root.room.free_bytes),
        images,
        more_images,
        images_left_out,
        store_total: show::size(p.summary.bytes),
        boxes,
        boxes_left_out,
        height,
        layers,
        layers_left_out,
        containers: p
            .containers
            .iter()
            .take(300)
            .map(|c| {
                let state = if c.running { "marked as running" } else { "stopped" };
                [
                    show::text(&c.name),
                    super::short(&show::text(&c.image)).to_owned(),
                    state.to_owned(),
                    show::size(c.bytes),
                ]
            })
            .collect(),
        containers_left_out: p.containers.len().saturating_sub(300),
        docker: docker(p),
        commands: next(p),
        record: record.map(|r| rows(p, r, chosen)),
        fingerprint: p.fingerprint.digest.map(|d| d.to_string()).unwrap_or_default(),
        json: embedded(p)?,
    };
    page.render().map_err(|e| Error::new(Kind::Failed, "write the page").with_source(e))
}

/// JSON inside of a script element: no `<` may end it (HTML Standard, restrictions for contents of script elements). In JSON `<` occurs
/// in strings only.
pub(super) fn embedded(value: &impl serde::Serialize) -> Result<String> {
    let text =
        serde_json::to_string(value).map_err(|e| Error::new(Kind::Failed, "write the plan as JSON").with_source(e))?;
    Ok(text.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"))
}

fn verdict(p: &Plan, record: Option<&Record>) -> (&'static str, String) {
    if let Some(r) = record {
        let class = if r.state == "switched" && !p.partial() { "good" } else { "warn" };
        let text = match r.state.as_str() {
            "switched" => format!("Migrated to {}. Docker will start on it.", p.options.to),
            other => format!("The migration stands at “{other}”."),
        };
        return (class, text);
    }
    let blocks = p.checks.iter().filter(|c| c.level == Level::Block).count();
    let warns = p.checks.iter().filter(|c| c.level == Level::Warn).count();
    if crate::checks::plan_is_blocked(&p.checks) {
        return ("bad", format!("Not yet: {} in the way.", show::plural(blocks, "check")));
    }
    match (blocks, p.left_behind.len()) {
        (0, 0) if warns == 0 => ("good", "Ready. Everything moves.".to_owned()),
        (0, 0) => ("good", format!("Ready. Everything moves; {} to read.", show::plural(warns, "warning"))),
        (0, n) => (
            "warn",
            format!(
                "Ready, but {} behind.",
                if n == 1 { "1 object stays".to_owned() } else { format!("{n} objects stay") }
            ),
        ),
        _ => ("warn", "Ready as soon as Docker is stopped.".to_owned()),
    }
}

fn tiles(p: &Plan, chosen: Option<&Estimate>) -> Vec<Tile> {
    let blocks = p.checks.iter().filter(|c| c.level == Level::Block).count();
    let fits = chosen.is_some_and(|e| e.fits);
    let good = |b: bool| if b { "good" } else { "bad" };
    vec![
        Tile { name: "Fits", value: if fits { "yes" } else { "no" }.to_owned(), class: good(fits) },
        Tile { name: "Time", value: chosen.map(seconds).unwrap_or_default(), class: "" },
        Tile { name: "Space", value: chosen.map(|e| show::size(e.new_bytes)).unwrap_or_default(), class: "" },
        Tile { name: "Blockers", value: blocks.to_string(), class: good(blocks == 0) },
        Tile { name: "Way back", value: "until cleanup".to_owned(), class: "good" },
    ]
}

fn of_id(p: &Plan, id: &str, level: Level) -> Problem {
    const MORE: usize = 200;
    let mut all = p.checks.iter().filter(|c| c.id == id && c.level == level);
    let check = crate::checks::explain(id);
    let first = all.next();
    let rest: Vec<String> = all.map(|c| format!("{}: {}", c.subject, c.message)).collect();
    let text = |s: Option<&String>| s.map(|s| show::text(s)).unwrap_or_default();
    Problem {
        id: id.to_owned(),
        level: match level {
            Level::Block => "block",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Ok => "ok",
        },
        subject: first.map(|f| show::text(&f.subject.to_string())).unwrap_or_default(),
        message: first.map(|f| show::text(&f.message)).unwrap_or_default(),
        fix: text(first.and_then(|f| f.fix.as_ref())),
        effect: text(first.and_then(|f| f.effect.as_ref())),
        explain: check.map_or("", |c| c.explain),
        left_out: rest.len().saturating_sub(MORE),
        more: rest.into_iter().take(MORE).map(|s| show::text(&s)).collect(),
    }
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.3}", part as f64 * 100.0 / whole.max(1) as f64)
}

/// Bars of space. Where far more is free than anything needs, the line of the free space would make all bars vanish: it is then told in
/// words only.
fn bars(p: &Plan) -> (Vec<Bar>, Option<String>) {
    let never = |e: &Estimate| p.estimates.iter().all(|o| o.driver != e.driver || !o.possible);
    let rows: Vec<&Estimate> = p
        .estimates
        .iter()
        .filter(|e| e.possible || e.chosen || (never(e) && e.mode == crate::plan::Mode::Copy))
        .collect();
    let most = rows.iter().filter(|e| e.possible).map(|e| e.new_bytes).max().unwrap_or(1);
    let free = p.root.room.free_bytes;
    let (scale, free_at) = if free > most.saturating_mul(4) {
        (most, None)
    } else {
        let scale = free.max(most);
        (scale, Some(percent(free, scale)))
    };
    let bars = rows
        .into_iter()
        .map(|e| Bar {
            name: if e.possible { format!("{} {}", e.driver, mode(e.mode)) } else { e.driver.to_string() },
            chosen: e.chosen,
            fits: e.fits,
            width: if e.possible { percent(e.new_bytes, scale) } else { "0".to_owned() },
            bytes: if e.possible { show::size(e.new_bytes) } else { "–".to_owned() },
            inodes: if e.possible { show::count(e.new_inodes) } else { "–".to_owned() },
            shared: if e.possible { show::size(e.shared_bytes) } else { "–".to_owned() },
            time: if e.possible { seconds(e) } else { "–".to_owned() },
            why: e.why_not.clone().map_or_else(|| "yes".to_owned(), |w| format!("no: {w}")),
        })
        .collect();
    (bars, free_at)
}

fn images(p: &Plan) -> (Vec<ImageRow>, Vec<ImageRow>, usize) {
    const DRAWN: usize = 20;
    const LISTED: usize = 1000;
    let mut all: Vec<_> = p.images.iter().collect();
    all.sort_by(|a, b| b.bytes_total.cmp(&a.bytes_total).then_with(|| a.id.cmp(&b.id)));
    let most = all.first().map_or(1, |i| i.bytes_total);
    let left_out = all.len().saturating_sub(DRAWN + LISTED);
    let mut rows = all.into_iter().take(DRAWN + LISTED).map(|i| {
        let id = i.id.to_string();
        let names: Vec<String> = i.tags.iter().chain(&i.digests).map(|t| show::text(t)).collect();
        ImageRow {
            name: if names.is_empty() { "<none>".to_owned() } else { names.join(", ") },
            id: super::short(&id).to_owned(),
            total: show::size(i.bytes_total),
            unique: show::size(i.bytes_unique),
            shared: show::size(i.bytes_shared),
            unique_width: percent(i.bytes_unique, most),
            shared_at: percent(i.bytes_unique, most),
            shared_width: percent(i.bytes_shared, most),
        }
    });
    let drawn = rows.by_ref().take(DRAWN).collect();
    (drawn, rows.collect(), left_out)
}

/// How many images use each layer.
fn users(p: &Plan) -> HashMap<&LayerId, usize> {
    let mut out = HashMap::new();
    for i in &p.images {
        for l in i.layers.iter().collect::<BTreeSet<_>>() {
            *out.entry(l).or_default() += 1;
        }
    }
    out
}

/// The layer tree: children below their parent, as wide as their bytes. Boxes too narrow to see are counted, not drawn.
fn icicle(p: &Plan) -> (Vec<LayerBox>, usize, usize) {
    const ROW: usize = 22;
    const DEEPEST: usize = 60;
    const NARROW: f64 = 0.12;
    // a layer without content is still there
    const LEAST: u64 = 256;
    let users = users(p);
    let known: BTreeMap<&LayerId, &PlanLayer> = p.layers.iter().map(|l| (&l.id, l)).collect();
    let mut children: BTreeMap<Option<&LayerId>, Vec<&PlanLayer>> = BTreeMap::new();
    let mut width: HashMap<&LayerId, u64> = HashMap::new();
    // parents come first in the plan: backwards, every child is added up before its parent
    for l in p.layers.iter().rev() {
        let parent = l.lowers.first().filter(|id| known.contains_key(id));
        children.entry(parent).or_default().push(l);
        let below = width.get(&l.id).copied().unwrap_or(0);
        let mine = below.max(LEAST.max(l.facts.bytes));
        width.insert(&l.id, mine);
        if let Some(parent) = parent {
            *width.entry(parent).or_default() += mine;
        }
    }
    let wide = |l: &PlanLayer| width.get(&l.id).copied().unwrap_or(LEAST);
    let whole: u64 = children.get(&None).into_iter().flatten().map(|l| wide(l)).sum();
    let whole = whole.max(1) as f64;
    let (mut out, mut narrow, mut deepest) = (Vec::new(), 0, 0);
    let mut todo: Vec<(Option<&LayerId>, f64, usize)> = vec![(None, 0.0, 0)];
    while let Some((parent, mut x, depth)) = todo.pop() {
        let mut row: Vec<&&PlanLayer> = children.get(&parent).into_iter().flatten().collect();
        row.sort_by(|a, b| wide(b).cmp(&wide(a)).then_with(|| a.id.cmp(&b.id)));
        for l in row {
            let w = wide(l) as f64 * 100.0 / whole;
            if w < NARROW || depth >= DEEPEST {
                narrow += 1;
                continue;
            }
            deepest = deepest.max(depth + 1);
            let n = users.get(&l.id).copied().unwrap_or(0);
            let kind = match (l.role, n) {
                (Role::Container | Role::Init, _) => "rw",
                (_, 0) => "s0",
                (_, 1) => "s1",
                (_, 2..=4) => "s2",
                _ => "s3",
            };
            out.push(LayerBox {
                x: format!("{x:.3}"),
                y: depth * ROW,
                width: format!("{w:.3}"),
                class: kind,
                label: if w > 9.0 { l.id.short().to_owned() } else { String::new() },
                title: format!("{}: {}, in {}", l.id.short(), show::size(l.facts.bytes), show::plural(n, "image")),
            });
            todo.push((Some(&l.id), x, depth + 1));
            x += w;
        }
    }
    (out, deepest * ROW + 2, narrow)
}

fn layer_rows(p: &Plan) -> (Vec<LayerRow>, usize) {
    const LISTED: usize = 200;
    let users = users(p);
    let mut all: Vec<&PlanLayer> = p.layers.iter().collect();
    all.sort_by(|a, b| b.facts.bytes.cmp(&a.facts.bytes).then_with(|| a.id.cmp(&b.id)));
    let row = |l: &&PlanLayer| LayerRow {
        id: l.id.short().to_owned(),
        parent: l.lowers.first().map(|p| p.short().to_owned()).unwrap_or_default(),
        role: match l.role {
            Role::Image => "image",
            Role::Init => "init",
            Role::Container => "container",
        },
        bytes: show::size(l.facts.bytes),
        files: show::count(l.facts.files + l.facts.folders),
        users: users.get(&l.id).copied().unwrap_or(0),
    };
    (all.iter().take(LISTED).map(row).collect(), all.len().saturating_sub(LISTED))
}

fn rows(p: &Plan, r: &Record, chosen: Option<&Estimate>) -> RecordRows {
    let second = |s: &str| s.parse::<jiff::Timestamp>().map(|t| t.as_second()).unwrap_or(0);
    let begin = second(&r.started);
    let end = r.events.last().map_or(begin, |(at, _)| second(at));
    let whole = u64::try_from(end.saturating_sub(begin)).unwrap_or(0);
    let mut at = begin;
    let steps = r
        .events
        .iter()
        .map(|(when, what)| {
            let now = second(when);
            let span = |a: i64, b: i64| u64::try_from(b.saturating_sub(a)).unwrap_or(0);
            let step = Step {
                at: show::text(when),
                name: show::text(what),
                took: format!("{} s", span(at, now)),
                x: percent(span(begin, at), whole),
                width: percent(span(at, now), whole),
            };
            at = now;
            step
        })
        .collect();
    let rate = |n: u64| n.checked_div(whole).unwrap_or(n);
    let s = &r.sums;
    let content = format!("{} ({} a second)", show::size(s.bytes), show::size(rate(s.bytes)));
    let names = s.linked + s.cloned + s.copied;
    let files = format!("{} ({} a second)", show::count(names), show::count(rate(names)));
    let estimated = |f: fn(&Estimate) -> String| chosen.map(f).unwrap_or_default();
    let planned: u64 = p.layers.iter().map(|l| l.facts.files).sum();
    let row = |name: &str, plan: String, truth: String| [name.to_owned(), plan, truth];
    RecordRows {
        state: r.state.clone(),
        started: show::text(&r.started),
        verified: r.verified.as_deref().map_or_else(|| "not yet: unaufs verify".to_owned(), show::text),
        layers: show::plural(p.layers.len(), "layer"),
        compared: vec![
            row("time", estimated(seconds), format!("{whole} s")),
            row("content written", estimated(|e| show::size(e.written_bytes)), content),
            row("names of files", show::count(planned), files),
            row("of these linked", String::new(), show::count(s.linked)),
            row("of these with shared extents", String::new(), show::count(s.cloned)),
            row("of these copied", String::new(), show::count(s.copied)),
        ],
        steps,
    }
}
