//! The plan, or the record of a migration, as one page to look at: no script, nothing from outside, everything of the store escaped.
//!
//! The template is html/plan.html; here names become text that is harmless anywhere, and numbers become lengths. SVG is measured in
//! percents, so that the same page fits a phone and paper.

mod icicle;

use super::explain::word;
use super::plan::{Group, docker, groups, kinds, mode, next, seconds, took};
use super::subject;
use crate::checks::{Finding, Level};
use crate::docker::driver::Role;
use crate::error::{Error, Kind, Result};
use crate::plan::names::Names;
use crate::plan::new_root::{NewRoot, Stays};
use crate::plan::{Estimate, LeftBehind, Plan, PlanImage, PlanLayer};
use crate::store::DAMAGED;
use crate::text;
use askama::Template;
use icicle::{Icicle, LayerBox, users};

/// What a run adds to the plan's page.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its state.
    pub state: String,
    /// When it began.
    pub started: String,
    /// When which state was reached.
    pub events: Vec<(String, String)>,
    /// How it was last verified.
    pub verified: Option<String>,
    /// What was done.
    pub sums: crate::run::stage::Sums,
    /// Bytes of disk that are taken, if known.
    pub disk: Option<u64>,
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
    damage: Vec<String>,
    stays: Vec<[String; 4]>,
    more_stays: Vec<[String; 4]>,
    more_stays_told: String,
    stays_more: usize,
    bars: Vec<Bar>,
    free_at: Option<String>,
    free: String,
    found: String,
    new_root: Option<String>,
    images: Vec<ImageRow>,
    more_images: Vec<ImageRow>,
    more_images_told: String,
    images_left_out: usize,
    store_total: String,
    boxes: Vec<LayerBox>,
    boxes_left_out: Option<String>,
    height: usize,
    layers: Vec<LayerRow>,
    layers_left_out: usize,
    containers: Vec<[String; 4]>,
    more_containers: Vec<[String; 4]>,
    more_containers_told: String,
    containers_left_out: usize,
    docker: String,
    commands: Vec<String>,
    rollback: String,
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
    /// Its level, for people and for the style sheet.
    word: &'static str,
    class: &'static str,
    subject: String,
    message: String,
    fix: String,
    effect: String,
    explain: &'static str,
    /// Of the same id: subject and message.
    more: Vec<String>,
    more_count: String,
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

struct LayerRow {
    id: String,
    name: String,
    parent: String,
    role: &'static str,
    bytes: String,
    files: String,
    users: usize,
}

struct RecordRows {
    started: String,
    verified: Option<String>,
    throughput: Option<String>,
    steps: Vec<Step>,
    compared: Vec<[String; 3]>,
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
    let (class, verdict) = verdict(p, record, &groups);
    let (problems, info, fine) = checks(p, &groups, record.is_some());
    let (bars, free_at) = bars(p);
    let (images, more_images, images_left_out) = images(p);
    let Icicle { boxes, height, left_out: boxes_left_out } = icicle::draw(p);
    let (layers, layers_left_out) = layer_rows(p);
    let (containers, more_containers, containers_left_out) = containers(p);
    // a damaged layer that moves is one of the problems
    let left: Vec<&LeftBehind> = p.left_behind.iter().filter(|l| l.kind != DAMAGED).collect();
    let mut stays: Vec<[String; 4]> = left.iter().take(STAYS).map(|l| stay(l)).collect();
    let page = Page {
        p,
        title: format!("unaufs: {}", text::text(&p.host.name)),
        host: text::text(&p.host.name),
        path: text::text(&p.root.path),
        class,
        verdict,
        tiles: match record {
            Some(r) => record_tiles(p, r),
            None => tiles(chosen, &groups),
        },
        problems,
        info,
        fine,
        more_stays: stays.split_off(stays.len().min(STAYS_SHOWN)),
        more_stays_told: format!("{} more", text::count(left.len().saturating_sub(STAYS_SHOWN) as u64)),
        damage: p.damage.iter().filter(|d| d.kind != DAMAGED).map(|d| d.sentence()).collect(),
        stays,
        stays_more: left.len().saturating_sub(STAYS),
        bars,
        free_at,
        free: text::size(p.room().free_bytes),
        found: found(p),
        new_root: p.new_root.as_ref().map(new_root),
        more_images_told: format!("{} more", text::count((more_images.len() + images_left_out) as u64)),
        images,
        more_images,
        images_left_out,
        store_total: text::size(p.summary.bytes),
        boxes,
        boxes_left_out: small(boxes_left_out),
        height,
        layers,
        layers_left_out,
        more_containers_told: format!("{} more", text::count((more_containers.len() + containers_left_out) as u64)),
        containers,
        more_containers,
        containers_left_out,
        docker: docker(p),
        commands: record.map_or_else(|| next(p), |r| super::plan::next_after(p, &r.state)),
        rollback: super::plan::rollback(p),
        record: record.map(|r| rows(p, r)),
        fingerprint: p.fingerprint.digest.map(|d| d.to_string()).unwrap_or_default(),
        json: embedded(&super::plan::for_readers(p)?)?,
    };
    page.render().map_err(|e| Error::new(Kind::Failed, "write the page").with_source(e))
}

/// What is wrong, what is worth a note, and what passed.
fn checks(p: &Plan, groups: &[Group<'_>], is_record: bool) -> (Vec<Problem>, Vec<Problem>, Vec<String>) {
    let names = Names::of_plan(p);
    let at = |level: Level| groups.iter().filter(move |g| g.first.level == level);
    let of = |g: &Group<'_>| is_told(g.first, is_record).then(|| of_id(p, &names, g.first, is_record));
    let title = |id: &str| crate::checks::explain(id).map_or("", |c| c.title);
    (
        at(Level::Block).chain(at(Level::Warn)).filter_map(of).collect(),
        at(Level::Info).filter_map(of).collect(),
        at(Level::Ok).map(|g| format!("{} {}", g.first.id, title(&g.first.id))).collect(),
    )
}

/// Layers that are too small to draw.
fn small(layers: usize) -> Option<String> {
    match layers {
        0 => None,
        1 => Some("1 small layer is".to_owned()),
        n => Some(format!("{} small layers are", text::count(n as u64))),
    }
}

/// As many of what stays behind are listed, the first of them unfolded.
const STAYS: usize = 100;
const STAYS_SHOWN: usize = 12;

fn stay(l: &LeftBehind) -> [String; 4] {
    [text::text(&l.kind), text::text(super::short(&l.id)), text::text(&l.name), text::text(&l.reason)]
}

/// What is in the store, in a sentence.
fn found(p: &Plan) -> String {
    let s = &p.summary;
    let volumes = match (s.volumes, &p.new_root) {
        (0, _) => String::new(),
        (n, Some(_)) => format!(" {}, copied to the new root.", text::plural(n, "volume")),
        (n, None) => format!(" {}, left in place.", text::plural(n, "volume")),
    };
    format!(
        "{} ({}) in {} with {} ({}). {}.{volumes}",
        text::plural(s.images, "image"),
        text::plural(s.tags, "tag"),
        text::plural(s.layers, "layer"),
        text::plural(s.files, "file"),
        text::size(s.bytes),
        text::plural(s.containers, "container"),
    )
}

/// With `--target`: the new root, what is copied to it, and what is not.
fn new_root(e: &NewRoot) -> String {
    let name = |s: &Stays| format!("{} ({})", text::bytes(&s.name), text::text(&s.reason));
    let mut stays: Vec<String> = e.stays.iter().take(STAYS_SHOWN).map(name).collect();
    if e.stays.len() > STAYS_SHOWN {
        stays.push(format!("{} more", text::count((e.stays.len() - STAYS_SHOWN) as u64)));
    }
    let stays = if stays.is_empty() { "nothing".to_owned() } else { stays.join(", ") };
    format!("{}. Only in the old root: {stays}.", super::plan::copied(e))
}

/// JSON inside of a script element: no `<` may end it (HTML Standard, restrictions for contents of script elements). In JSON `<` occurs
/// in strings only.
pub(super) fn embedded(value: &impl serde::Serialize) -> Result<String> {
    let text =
        serde_json::to_string(value).map_err(|e| Error::new(Kind::Failed, "write the plan as JSON").with_source(e))?;
    Ok(text.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"))
}

fn verdict(p: &Plan, record: Option<&Record>, groups: &[Group<'_>]) -> (&'static str, String) {
    if let Some(r) = record {
        let class = if r.state == "switched" && !p.partial() { "good" } else { "warn" };
        let text = match r.state.as_str() {
            "switched" => match &p.new_root {
                Some(e) => {
                    format!("Migrated to {} in {}. The old root isn't changed.", p.options.to, text::text(&e.path))
                }
                None => {
                    let stays = super::stays_behind(p, true).map(|s| format!("; {s} in the old store"));
                    let docker = match p.options.to.picked_by_docker() {
                        true => "Docker uses the new store when it starts.",
                        false => "Set the driver in daemon.json before you start Docker.",
                    };
                    format!("Migrated to {}{}. {docker}", p.options.to, stays.unwrap_or_default())
                }
            },
            "building" => "The migration isn't finished: run unaufs migrate to continue.".to_owned(),
            "rolled back" | "rolled_back" => "The migration was rolled back.".to_owned(),
            _ => "The new store is ready but not active yet.".to_owned(),
        };
        return (class, text);
    }
    let (blocks, warns) = (kinds(groups, Level::Block), kinds(groups, Level::Warn));
    if crate::checks::plan_is_blocked(&p.checks) {
        return ("bad", format!("Blocked by {}.", text::plural(blocks, "check")));
    }
    match (blocks, super::stays_behind(p, true)) {
        (0, None) if p.partial() => {
            ("warn", "Partly: all images and containers will be migrated, some with damage.".to_owned())
        }
        (0, None) if warns == 0 => ("good", "Ready. All images and containers will be migrated.".to_owned()),
        (0, None) => {
            ("good", format!("Ready. All images and containers will be migrated; {}.", text::plural(warns, "warning")))
        }
        (0, Some(what)) => ("warn", format!("Partly: {what} in the old store.")),
        _ => ("warn", "Ready as soon as Docker is stopped.".to_owned()),
    }
}

fn tiles(chosen: Option<&Estimate>, groups: &[Group<'_>]) -> Vec<Tile> {
    let blocks = kinds(groups, Level::Block);
    let fits = chosen.is_some_and(|e| e.fits);
    let good = |b: bool| if b { "good" } else { "bad" };
    vec![
        Tile { name: "Fits", value: if fits { "yes" } else { "no" }.to_owned(), class: good(fits) },
        Tile { name: "Time", value: chosen.map(took).unwrap_or_default(), class: "" },
        Tile { name: "Space", value: chosen.map(|e| text::size(e.new_bytes)).unwrap_or_default(), class: "" },
        Tile { name: "Blockers", value: blocks.to_string(), class: good(blocks == 0) },
        Tile { name: "Undo", value: "until cleanup".to_owned(), class: "good" },
    ]
}

fn record_tiles(p: &Plan, r: &Record) -> Vec<Tile> {
    let done = super::comparison::Comparison::of(p, r).map(|c| c.done).unwrap_or_default();
    let behind = p.left_behind.iter().filter(|l| l.counts && l.kind != DAMAGED).count();
    let good = |b: bool| if b { "good" } else { "warn" };
    let verified = r.verified.is_some();
    vec![
        Tile { name: "Took", value: text::duration(done.seconds), class: "" },
        Tile { name: "New space", value: done.new_bytes.map_or("unknown".to_owned(), text::size), class: "" },
        Tile { name: "Verified", value: if verified { "yes" } else { "not yet" }.to_owned(), class: good(verified) },
        Tile { name: "Not migrated", value: text::count(behind as u64), class: good(behind == 0) },
        Tile { name: "Undo", value: "until cleanup".to_owned(), class: "good" },
    ]
}

/// Checks of the host as it was before a migration: a record doesn't repeat their advice.
const BEFORE: [&str; 16] =
    ["H01", "H02", "H03", "H04", "H05", "H06", "H08", "H09", "H10", "H11", "H12", "H13", "H15", "H19", "T08", "T09"];

/// Checks whose fix is for the time after a migration.
const AFTER: [&str; 9] = ["D13", "H07", "H14", "H17", "H18", "T05", "T11", "N03", "N06"];

/// Does a page say something about this check? After a migration only about what it did, and about what is left to do.
fn is_told(f: &Finding, is_record: bool) -> bool {
    !(is_record && BEFORE.contains(&f.id.as_str()))
}

fn of_id(p: &Plan, names: &Names, group: &Finding, is_record: bool) -> Problem {
    const MORE: usize = 50;
    let (id, level) = (&group.id, group.level);
    let all: Vec<&Finding> = p.checks.iter().filter(|c| c.id == *id && c.level == level).collect();
    let check = crate::checks::explain(id).filter(|_| !is_record);
    // several findings of one object are one line
    let mut lines = all.chunk_by(|a, b| a.subject == b.subject);
    let said = |of: &[&Finding]| of.iter().map(|f| f.message.as_str()).collect::<Vec<_>>().join("; ");
    let of = lines.next().unwrap_or_default();
    let first = of.first().copied();
    let rest: Vec<(String, String)> = lines.filter_map(|l| Some((subject(l.first()?, names), said(l)))).collect();
    let text = |s: Option<&String>| s.map(|s| text::text(s)).unwrap_or_default();
    let fix = first.and_then(|f| f.fix.as_ref()).filter(|_| !is_record || AFTER.contains(&id.as_str()));
    Problem {
        id: id.clone(),
        word: word(level),
        class: match level {
            Level::Block => "block",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Ok => "ok",
        },
        subject: first.map(|f| text::sentence(subject(f, names))).unwrap_or_default(),
        message: text::sentence(said(of)),
        fix: text(fix),
        effect: text(first.and_then(|f| f.effect.as_ref())),
        explain: check.map_or("", |c| c.explain),
        left_out: rest.len().saturating_sub(MORE),
        more_count: text::count(rest.len() as u64),
        more: alike(&rest[..rest.len().min(MORE)]).into_iter().map(text::sentence).collect(),
    }
}

/// A line for each message: what is said of several objects is said once.
fn alike(lines: &[(String, String)]) -> Vec<String> {
    let mut out: Vec<(&str, Vec<&str>)> = Vec::new();
    for (subject, message) in lines {
        match out.iter_mut().find(|(said, _)| said == message) {
            Some((_, subjects)) => subjects.push(subject),
            None => out.push((message, vec![subject])),
        }
    }
    out.into_iter().map(|(message, subjects)| format!("{}: {message}", subjects.join(", "))).collect()
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
    let free = p.room().free_bytes;
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
            bytes: if e.possible { text::size(e.new_bytes) } else { "–".to_owned() },
            inodes: if e.possible { text::count(e.new_inodes) } else { "–".to_owned() },
            shared: if e.possible { text::size(e.shared_bytes) } else { "–".to_owned() },
            time: if e.possible { seconds(e) } else { "–".to_owned() },
            why: e.why_not.clone().map_or_else(|| "yes".to_owned(), |w| format!("no: {w}")),
        })
        .collect();
    (bars, free_at)
}

/// The largest first. Steps of a build, which have no name and are wholly part of another image, come last.
fn images(p: &Plan) -> (Vec<ImageRow>, Vec<ImageRow>, usize) {
    const DRAWN: usize = 20;
    const LISTED: usize = 200;
    let users = users(p);
    let step = |i: &PlanImage| {
        let shared = i.layers.last().is_none_or(|l| users.get(l).is_some_and(|n| *n > 1));
        i.tags.is_empty() && i.digests.is_empty() && shared
    };
    let mut all: Vec<_> = p.images.iter().map(|i| (step(i), i)).collect();
    all.sort_by(|(a_step, a), (b_step, b)| {
        a_step.cmp(b_step).then_with(|| b.bytes_total.cmp(&a.bytes_total)).then_with(|| a.id.cmp(&b.id))
    });
    let drawn = all.iter().take_while(|(step, _)| !step).count().min(DRAWN);
    let drawn = if drawn == 0 { all.len().min(DRAWN) } else { drawn };
    let most = all.iter().map(|(_, i)| i.bytes_total).max().unwrap_or(1);
    let left_out = all.len().saturating_sub(drawn + LISTED);
    let mut rows = all.into_iter().take(drawn + LISTED).map(|(_, i)| {
        let id = i.id.to_string();
        const NAMES: usize = 3;
        let all = if i.tags.is_empty() { &i.digests } else { &i.tags };
        let mut names: Vec<String> = all.iter().take(NAMES).map(|t| text::text(t)).collect();
        if all.len() > NAMES {
            names.push(format!("and {} more", text::count((all.len() - NAMES) as u64)));
        }
        ImageRow {
            name: if names.is_empty() { "<none>".to_owned() } else { names.join(", ") },
            id: super::short(&id).to_owned(),
            total: text::size(i.bytes_total),
            unique: text::size(i.bytes_unique),
            shared: text::size(i.bytes_shared),
            unique_width: percent(i.bytes_unique, most),
            shared_at: percent(i.bytes_unique, most),
            shared_width: percent(i.bytes_shared, most),
        }
    });
    let first = rows.by_ref().take(drawn).collect();
    (first, rows.collect(), left_out)
}

/// Those that run first, then the largest.
fn containers(p: &Plan) -> (Vec<[String; 4]>, Vec<[String; 4]>, usize) {
    const SHOWN: usize = 20;
    const LISTED: usize = 200;
    let mut all: Vec<_> = p.containers.iter().collect();
    all.sort_by(|a, b| b.running.cmp(&a.running).then_with(|| b.bytes.cmp(&a.bytes)).then_with(|| a.name.cmp(&b.name)));
    let mut rows = all.iter().take(SHOWN + LISTED).map(|c| {
        let image = super::plan::image_name(p, &c.image);
        let state = if c.running { "marked as running" } else { "stopped" };
        [text::text(&c.name), image, state.to_owned(), text::size(c.bytes)]
    });
    let first = rows.by_ref().take(SHOWN).collect();
    (first, rows.collect(), all.len().saturating_sub(SHOWN + LISTED))
}

fn layer_rows(p: &Plan) -> (Vec<LayerRow>, usize) {
    const LISTED: usize = 200;
    let (users, names) = (users(p), Names::of_plan(p));
    let mut all: Vec<&PlanLayer> = p.layers.iter().collect();
    all.sort_by(|a, b| b.facts.bytes.cmp(&a.facts.bytes).then_with(|| a.id.cmp(&b.id)));
    let row = |l: &&PlanLayer| LayerRow {
        id: l.id.short().to_owned(),
        name: names.get(l.id.as_str()).map(text::text).unwrap_or_default(),
        parent: l.lowers.first().map(|p| p.short().to_owned()).unwrap_or_default(),
        role: match l.role {
            Role::Image => "image",
            Role::Init => "init",
            Role::Container => "container",
        },
        bytes: text::size(l.facts.bytes),
        files: text::count(l.facts.files + l.facts.directories),
        users: users.get(&l.id).copied().unwrap_or(0),
    };
    (all.iter().take(LISTED).map(row).collect(), all.len().saturating_sub(LISTED))
}

/// A state that was reached, for people.
fn reached(state: &str) -> String {
    match state {
        "built" => "new store built".to_owned(),
        "switching" => "switch begun".to_owned(),
        "switched" => "switch done".to_owned(),
        other => text::text(other),
    }
}

fn rows(p: &Plan, r: &Record) -> RecordRows {
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
                at: text::text(when),
                name: reached(what),
                took: format!("{} s", span(at, now)),
                x: percent(span(begin, at), whole),
                width: percent(span(at, now), whole),
            };
            at = now;
            step
        })
        .collect();
    let sums = &r.sums;
    let compared = super::comparison::Comparison::of(p, r);
    let mut table: Vec<[String; 3]> = compared.iter().flat_map(|c| c.rows()).collect();
    let planned: u64 = p.layers.iter().map(|l| l.facts.files).sum();
    let done = |name: &str, n: u64| [name.to_owned(), String::new(), text::count(n)];
    let names = sums.linked + sums.cloned + sums.copied;
    table.push(["files".to_owned(), text::count(planned), text::count(names)]);
    let ways = [("hard-linked", sums.linked), ("with shared data", sums.cloned), ("copied", sums.copied)];
    table.extend(ways.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| done(name, n)));
    let rate = |n: u64| n.checked_div(whole).unwrap_or(n);
    RecordRows {
        started: text::text(&r.started),
        verified: r.verified.as_deref().map(text::text),
        // of a few seconds a rate says nothing
        throughput: (whole >= 10).then(|| {
            let (files, bytes) = (text::plural(rate(names), "file"), text::size(rate(sums.bytes)));
            format!("{files} and {bytes} per second, including verification")
        }),
        compared: table,
        steps,
    }
}
