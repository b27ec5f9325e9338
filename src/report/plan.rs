//! The plan for people: one screen, or a line for each object.

use crate::checks::Level;
use crate::plan::{Estimate, Mode, Plan};
use crate::show;
use std::fmt::Write;

/// One screen.
pub fn text(p: &Plan) -> String {
    let mut out = String::new();
    let s = &p.summary;
    let r = &p.root;
    let _ = writeln!(
        out,
        "unaufs plan   host {}   root {} ({}, {} free of {})",
        show::text(&p.host),
        show::text(&r.path),
        r.fs,
        show::size(r.room.free_bytes),
        show::size(r.room.total_bytes)
    );
    let _ = writeln!(
        out,
        "FOUND      {} ({})  {}  {}  {} files | {} (own data {})  {} (untouched)",
        show::plural(s.images, "image"),
        show::plural(s.tags, "name"),
        show::plural(s.layers, "layer"),
        show::size(s.bytes),
        show::count(s.files),
        show::plural(s.containers, "container"),
        show::size(s.writable_bytes),
        show::plural(s.volumes, "volume")
    );
    if let Some(e) = p.estimates.iter().find(|e| e.chosen) {
        let fits = if e.fits { "fits" } else { "DOES NOT FIT" };
        let _ = writeln!(
            out,
            "TARGET     {}, mode {}   needs {} and {} inodes: {fits}   about {}",
            p.options.to,
            mode(p.options.mode),
            show::size(e.new_bytes),
            show::count(e.new_inodes),
            seconds(e)
        );
    }
    let _ = writeln!(
        out,
        "WAY BACK   `unaufs rollback`, until `unaufs cleanup`. Afterwards Docker's changes on the new store are set aside."
    );
    new_ids(p, &mut out);
    left(p, &mut out);
    checks(p, &mut out);
    let _ = writeln!(out, "SPACE BY TARGET            new bytes     inodes       time   fits");
    for e in &p.estimates {
        let chosen = if e.chosen { "  <- chosen" } else { "" };
        let fits = e.why_not.as_deref().unwrap_or("yes");
        let name = format!("{} {}", e.driver, mode(e.mode));
        let _ = writeln!(
            out,
            "  {name:<22} {:>11} {:>10} {:>10}   {fits}{chosen}",
            show::size(e.new_bytes),
            show::count(e.new_inodes),
            seconds(e)
        );
    }
    let _ = writeln!(out, "Next: systemctl stop docker docker.socket ;  unaufs migrate");
    out
}

/// The ids that images of a Docker up to 1.9 get, for each one with a name.
fn new_ids(p: &Plan, out: &mut String) {
    let named = p.images.iter().filter(|i| !(i.tags.is_empty() && i.digests.is_empty()));
    let changed: Vec<_> = named.filter_map(|i| i.old_id.as_ref().map(|old| (old, i))).collect();
    if changed.is_empty() {
        return;
    }
    let _ = writeln!(out, "NEW IDS ({})   as Docker 1.10 gave them; names stay", changed.len());
    for (old, i) in changed.iter().take(12) {
        let names: Vec<&str> = i.tags.iter().chain(&i.digests).map(String::as_str).collect();
        let _ = writeln!(
            out,
            "  {} -> {}   {}",
            super::short(old),
            super::short(&i.id.to_string()),
            show::text(&names.join(", "))
        );
    }
    if changed.len() > 12 {
        let _ = writeln!(out, "  and {} more: --itemize", changed.len() - 12);
    }
}

fn left(p: &Plan, out: &mut String) {
    if p.left_behind.is_empty() {
        return;
    }
    let _ = writeln!(out, "STAYS BEHIND ({})   nothing of it is deleted", p.left_behind.len());
    for l in p.left_behind.iter().take(8) {
        let name = if l.name.is_empty() { String::new() } else { format!(" {}", show::text(&l.name)) };
        let _ = writeln!(out, "  {} {}{name}: {}", l.kind, super::short(&l.id), show::text(&l.reason));
    }
    if p.left_behind.len() > 8 {
        let _ = writeln!(out, "  and {} more: --itemize", p.left_behind.len() - 8);
    }
}

fn checks(p: &Plan, out: &mut String) {
    let n = |l: Level| p.checks.iter().filter(|c| c.level == l).count();
    let _ = writeln!(out, "CHECKS     block {}   warn {}   info {}", n(Level::Block), n(Level::Warn), n(Level::Info));
    for c in p.checks.iter().filter(|c| c.level >= Level::Warn).take(12) {
        let level = if c.level == Level::Block { "BLOCK" } else { "warn " };
        let fix = c.fix.as_ref().map(|f| format!("   fix: {f}")).unwrap_or_default();
        let _ = writeln!(out, "  {level} {} {}: {}{fix}", c.id, c.subject, c.message);
    }
}

fn mode(m: Mode) -> &'static str {
    match m {
        Mode::Auto => "auto",
        Mode::Link => "link",
        Mode::Clone => "clone",
        Mode::Copy => "copy",
        Mode::Move => "move",
    }
}

fn seconds(e: &Estimate) -> String {
    match (e.seconds_min, e.seconds_max) {
        (_, max) if max < 120 => format!("{}-{max} s", e.seconds_min),
        (min, max) => format!("{}-{} min", min / 60, max.div_ceil(60)),
    }
}

/// A line for each object: `KIND ID NAME DETAILS`, for grep.
pub fn itemize(p: &Plan) -> String {
    let mut out = String::new();
    for i in &p.images {
        let names: Vec<&str> = i.tags.iter().chain(&i.digests).map(String::as_str).collect();
        let old = i.old_id.as_ref().map(|o| format!(" was {o}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "image {} {} bytes={} unique={}{old}",
            i.id,
            show::text(&names.join(",")),
            i.bytes_total,
            i.bytes_unique
        );
    }
    for l in &p.layers {
        let f = &l.facts;
        let role = serde_json::json!(l.role);
        let _ = writeln!(
            out,
            "layer {} {} files={} folders={} bytes={} whiteouts={} opaque={}",
            l.id,
            role.as_str().unwrap_or(""),
            f.files,
            f.folders,
            f.bytes,
            f.whiteouts,
            f.opaque.count
        );
    }
    for c in &p.containers {
        let _ = writeln!(out, "container {} {} bytes={}", c.id, show::text(&c.name), c.bytes);
    }
    for l in &p.left_behind {
        let _ = writeln!(out, "stays {} {} {}: {}", l.kind, l.id, show::text(&l.name), show::text(&l.reason));
    }
    for c in &p.checks {
        let level = serde_json::json!(c.level);
        let _ = writeln!(out, "check {} {} {}: {}", c.id, level.as_str().unwrap_or(""), c.subject, c.message);
    }
    for q in &p.quirks {
        let reason = if q.id == "L07" { "listed by aufs, lookup fails" } else { "shown by aufs only" };
        let _ = writeln!(out, "quirk {} {} {reason}: {}", q.id, q.layer, show::bytes(&q.path));
    }
    for m in &p.switch {
        let _ = writeln!(out, "rename {} -> {}", m.from, m.to);
    }
    out
}

/// What changed between the plan and now.
pub fn changes(saved: &Plan, fresh: &Plan) -> Vec<String> {
    let (a, b) = (&saved.fingerprint.objects, &fresh.fingerprint.objects);
    let mut out = Vec::new();
    for (k, v) in a {
        match b.get(k) {
            None => out.push(format!("{k} is gone")),
            Some(w) if w != v => out.push(format!("{k} has changed")),
            Some(_) => {}
        }
    }
    out.extend(b.keys().filter(|k| !a.contains_key(*k)).map(|k| format!("{k} is new")));
    out
}
