//! The plan for people: one screen, or the same with nothing folded and a line for each object.

use super::page::{Look, Page, Style};
use crate::checks::{Finding, Level};
use crate::plan::new_root::NewRoot;
use crate::plan::{Estimate, Mode, Options, Plan, PlanLayer};
use crate::run::journal::State;
use crate::text;
use std::collections::BTreeMap;
use std::fmt::Write;

mod objects;
mod screen;

pub use screen::{Screen, moved, text as on_screen};

/// What a plan leaves to the migration: contents are read only there.
pub(super) const UNPROVED: &str = "The plan doesn't prove that layers are whole; migrate checks them.";

/// One screen.
pub fn text(p: &Plan, look: Look) -> String {
    on_screen(p, &Screen::of(look))
}

/// Where the new root is, and what is copied to it.
pub(super) fn copied(e: &NewRoot) -> String {
    let (total, dir) = (e.total(), text::text(&e.path));
    let room = format!("{}, {} free of {}", e.fs, text::size(e.room.free_bytes), text::size(e.room.total_bytes));
    format!(
        "Volumes, networks, logs and the rest are copied to the new root {dir} ({room}): {} in {}",
        text::size(total.bytes),
        text::plural(total.files, "file")
    )
}

/// Who wrote the store, and which Docker is installed here: it need not be the same one.
pub fn docker(p: &Plan) -> String {
    let here = match (&p.docker.version, p.docker.running) {
        (Some(v), true) => format!("installed: Docker {v}"),
        (Some(v), false) => format!("installed: Docker {v}"),
        (None, true) => "a Docker of unknown version runs".to_owned(),
        (None, false) => "no Docker is installed".to_owned(),
    };
    match p.docker.wrote.as_str() {
        "" => here,
        wrote => format!("store written by {wrote}; {here}"),
    }
}

/// The IDs that images of a Docker up to 1.9 get, for each one with a name.
fn new_ids(p: &Plan, limit: usize, out: &mut Page) {
    let named = p.images.iter().filter(|i| !(i.tags.is_empty() && i.digests.is_empty()));
    let changed: Vec<_> = named.filter_map(|i| i.old_id.as_ref().map(|old| (old, i))).collect();
    if changed.is_empty() {
        return;
    }
    let title =
        format!("{} get the IDs that Docker 1.10 gives them; tags stay", plural_of(changed.len(), "image", "images"));
    let all = if limit == 0 { "(-v lists them)" } else { "" };
    out.flow(9, &[(Style::Bold, "New IDs "), (Style::Plain, &title), (Style::Plain, all)]);
    for (old, i) in changed.iter().take(limit) {
        let names: Vec<&str> = i.tags.iter().chain(&i.digests).map(String::as_str).collect();
        let id = i.id.to_string();
        let line = format!("  {} -> {}   {}", super::short(old), super::short(&id), text::text(&names.join(", ")));
        out.flow(11, &[(Style::Plain, &format!("       {line}"))]);
    }
}

/// `1 object is`, `2 objects are`.
fn plural_of(n: usize, one: &str, several: &str) -> String {
    format!("{} {}", text::count(n as u64), if n == 1 { one } else { several })
}

fn more(all: usize, shown: usize, out: &mut Page) {
    if all > shown {
        let rest = format!("         and {} more (-v shows all)", text::count((all - shown) as u64));
        out.flow(9, &[(Style::Dim, &rest)]);
    }
}

/// Findings of one id and level, which are told together.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// The first of them.
    pub first: &'a Finding,
    /// How many there are.
    pub count: usize,
}

/// Worst first.
pub fn groups(checks: &[Finding]) -> Vec<Group<'_>> {
    let mut out: Vec<Group<'_>> = Vec::new();
    for f in checks {
        match out.iter_mut().find(|g| g.first.id == f.id && g.first.level == f.level) {
            Some(g) => g.count += 1,
            None => out.push(Group { first: f, count: 1 }),
        }
    }
    out.sort_by(|a, b| b.first.level.cmp(&a.first.level).then_with(|| a.first.id.cmp(&b.first.id)));
    out
}

/// Checks of a level that have something to say, however often: the number that the text and the page both give.
pub fn kinds(groups: &[Group<'_>], level: Level) -> usize {
    groups.iter().filter(|g| g.first.level == level).count()
}

fn space(p: &Plan, limit: usize, out: &mut Page) {
    let head = format!("{:<21} {:>11} {:>11} {:>10} {:>9}  fits", "DRIVERS", "at most", "free after", "inodes", "time");
    out.row(Style::Bold, &head);
    // a driver that cannot be used in any mode is one line, a mode that cannot be used is none
    let never = |e: &Estimate| p.estimates.iter().all(|o| o.driver != e.driver || !o.possible);
    let rows = p.estimates.iter().filter(|e| e.possible || e.chosen || (never(e) && e.mode == Mode::Copy));
    for e in rows.filter(|e| limit > 2 || e.chosen || e.mode == Mode::Link) {
        let why = e.why_not.as_deref().map_or("yes".to_owned(), |w| format!("NO: {w}"));
        let style = if e.chosen {
            Style::Bold
        } else if e.fits {
            Style::Plain
        } else {
            Style::Dim
        };
        if !e.possible && !e.chosen {
            let row = format!("  {:<19} {:>11} {:>11} {:>10} {:>9}  {why}", e.driver.name(), "-", "-", "-", "-");
            out.flow(24, &[(style, &row)]);
            continue;
        }
        let row = format!(
            "{} {:<19} {:>11} {:>11} {:>10} {:>9}  {why}{}",
            if e.chosen { ">" } else { " " },
            format!("{} {}", e.driver, mode(e.mode)),
            text::size(e.new_bytes),
            after(p.new_root.as_ref().map_or(p.root.room, |e| e.room).free_bytes, e.new_bytes),
            format!("+{}", text::count(e.new_inodes)),
            seconds(e),
            if e.chosen && out.width() >= 90 { "  <- chosen" } else { "" }
        );
        out.flow(24, &[(style, &row)]);
    }
}

fn after(free: u64, new: u64) -> String {
    if new <= free { text::size(free - new) } else { format!("-{}", text::size(new - free)) }
}

/// What people call an image: its first tag, as `docker images` lists it, else its digest, else its id.
pub fn image_name(p: &Plan, id: &str) -> String {
    let image = p.images.iter().find(|i| i.id.to_string() == id || i.old_id.as_deref() == Some(id));
    match image.and_then(|i| i.tags.first().or(i.digests.first())) {
        Some(name) => text::text(name),
        None => text::text(super::short(id)),
    }
}

/// `--root` where it is needed.
pub(super) fn root_option(path: &str) -> String {
    if path == "/var/lib/docker" { String::new() } else { format!(" --root {}", quoted(path)) }
}

/// The command that puts the old store back.
pub fn rollback(p: &Plan) -> String {
    format!("unaufs rollback{}", root_option(p.new_root.as_ref().map_or(&p.root.path, |e| &e.path)))
}

/// What to type after `migrate`, which left off in this state.
pub fn next_after(p: &Plan, state: &str) -> Vec<String> {
    if state != State::Switched.name() {
        let target = p.new_root.as_ref().map(|e| format!(" --target {}", quoted(&e.path))).unwrap_or_default();
        return vec![format!("unaufs migrate{}{target}", root_option(&p.root.path))];
    }
    let root = root_option(p.new_root.as_ref().map_or(&p.root.path, |e| &e.path));
    let mut out = vec![format!("unaufs verify{root}")];
    if let Some(e) = &p.new_root {
        out.push(format!("# daemon.json: \"data-root\": {:?}", text::text(&e.path)));
    }
    if !p.options.to.picked_by_docker() {
        out.push(format!("# daemon.json: \"storage-driver\": \"{}\"", p.options.to));
    }
    out.push("systemctl start docker".to_owned());
    out.push(format!("unaufs cleanup{root}   # deletes the old store, and with it the way back"));
    out
}

/// What to type next: every option that shaped the plan is repeated.
pub fn next(p: &Plan) -> Vec<String> {
    let root = root_option(&p.root.path);
    let what = options(&p.options);
    if crate::checks::plan_is_blocked(&p.checks) {
        return vec!["Fix the problems marked BLOCK, then:".to_owned(), format!("unaufs plan{root}{what}")];
    }
    let host = quoted(&p.host.name);
    let mut out = vec![format!("unaufs plan{root}{what} --out {host}.plan")];
    if p.docker.running {
        out.push("systemctl stop docker.socket docker.service".to_owned());
    }
    out.push(format!("unaufs migrate{root} {host}.plan"));
    out
}

/// Options as they are typed, without those that are the default.
pub fn options(o: &Options) -> String {
    let mut out = String::new();
    let mut add = |name: &str, value: &str| {
        let _ = write!(out, " --{name} {}", quoted(value));
    };
    if o.to != crate::docker::driver::Target::Overlay2 {
        add("to", o.to.name());
    }
    if o.mode != Mode::Auto {
        add("mode", mode(o.mode));
    }
    if let Some(target) = &o.target {
        add("target", target);
    }
    for (name, values) in [("only", &o.only), ("exclude", &o.exclude), ("allow", &o.allow)] {
        values.iter().for_each(|v| add(name, v));
    }
    if let Some(file) = &o.docker_config {
        add("docker-config", file);
    }
    out
}

/// For a shell, where that is needed.
pub fn quoted(s: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !s.is_empty() && s.chars().all(plain) {
        s.to_owned()
    } else {
        format!("'{}'", text::text(s).replace('\'', "'\\''"))
    }
}

/// A mode's name.
pub fn mode(m: Mode) -> &'static str {
    m.name()
}

/// How long it takes at most, in words.
pub fn took(e: &Estimate) -> String {
    match e.seconds_max {
        0..=5 => "under 5 seconds".to_owned(),
        n => format!("about {}", text::duration(n)),
    }
}

/// From, to.
pub fn seconds(e: &Estimate) -> String {
    match (e.seconds_min, e.seconds_max) {
        (min, max) if max < 120 => format!("{min}-{max} s"),
        (min, max) if min < 60 => format!("{min} s-{} min", max.div_ceil(60)),
        (min, max) if max < 7200 => format!("{}-{} min", min / 60, max.div_ceil(60)),
        (min, max) if min < 3600 => format!("{} min-{} h", min / 60, max.div_ceil(3600)),
        (min, max) => format!("{}-{} h", min / 3600, max.div_ceil(3600)),
    }
}

/// The plan as one JSON document: what was saved, and what readers would otherwise have to work out of it.
pub fn document(p: &Plan) -> crate::error::Result<serde_json::Value> {
    use serde_json::json;
    let fail = |e| crate::error::Error::new(crate::error::Kind::Failed, "write the plan as JSON").with_source(e);
    let mut doc = serde_json::to_value(p).map_err(fail)?;
    let chosen = p.estimates.iter().find(|e| e.chosen).map_or(Mode::Copy, |e| e.mode);
    let lines = doc.get_mut("layers").and_then(|l| l.as_array_mut()).into_iter().flatten();
    for (line, l) in lines.zip(&p.layers) {
        let Some(line) = line.as_object_mut() else { continue };
        let f = &l.facts;
        line.insert("cache_id".to_owned(), json!(l.id));
        line.insert("parent".to_owned(), json!(l.lowers.first()));
        for (name, value) in [
            ("bytes", f.bytes),
            ("files", f.files),
            ("whiteouts", f.whiteouts),
            ("opaque", f.opaque.count),
            ("hardlinks", f.hardlinks),
            ("xattrs", f.xattrs),
            ("devices", f.devices),
        ] {
            line.insert(name.to_owned(), json!(value));
        }
        line.insert("actions".to_owned(), actions(l, chosen));
    }
    let chains: BTreeMap<_, _> = p.layers.iter().map(|l| (&l.id, l.chain_id)).collect();
    let images = doc.get_mut("images").and_then(|l| l.as_array_mut()).into_iter().flatten();
    for (line, i) in images.zip(&p.images) {
        if let Some(line) = line.as_object_mut() {
            let of = |l| chains.get(l).copied().flatten();
            line.insert("chain_ids".to_owned(), json!(i.layers.iter().map(of).collect::<Vec<_>>()));
        }
    }
    if let Some(root) = doc.get_mut("root").and_then(|r| r.as_object_mut()) {
        root.insert("free_bytes".to_owned(), json!(p.root.room.free_bytes));
        root.insert("free_inodes".to_owned(), json!(p.root.room.free_inodes));
    }
    if let Some(doc) = doc.as_object_mut() {
        let mode = p.estimates.iter().find(|e| e.chosen).map_or(p.options.mode, |e| e.mode);
        doc.insert("target".to_owned(), json!({"driver": p.options.to, "mode": mode}));
    }
    Ok(doc)
}

/// The document without the long lists that only `migrate` needs: what a page carries.
pub fn for_readers(p: &Plan) -> crate::error::Result<serde_json::Value> {
    let mut doc = document(p)?;
    if let Some(doc) = doc.as_object_mut() {
        for name in ["metadata", "switch", "touched", "fingerprint_objects"] {
            doc.remove(name);
        }
        for layer in doc.get_mut("layers").and_then(|l| l.as_array_mut()).into_iter().flatten() {
            // the parents' parents: each layer says its own
            layer.as_object_mut().map(|l| l.remove("lowers"));
        }
    }
    Ok(doc)
}

/// What is done with a layer's own names.
fn actions(l: &PlanLayer, mode: Mode) -> serde_json::Value {
    let f = &l.facts;
    let (linked, cloned) = match mode {
        Mode::Link if !l.role.writable() => (f.files, 0),
        Mode::Clone => (0, f.files),
        _ => (0, 0),
    };
    serde_json::json!({
        "link": linked, "clone": cloned, "copy": f.files - linked - cloned,
        "mkdir": f.directories, "mknod": f.whiteouts, "opaque": f.opaque.count,
    })
}
