//! A line for each object of a plan: what the screen only counts.

use crate::docker::driver::Role;
use crate::plan::names::Names;
use crate::plan::{Plan, PlanImage, PlanLayer};
use crate::report::page::{Page, Row};
use crate::text;

/// Images, containers, layers; with `--target` what is copied and what is not; the paths that look different afterwards.
pub fn lists(p: &Plan, out: &mut Page) {
    images(p, out);
    containers(p, out);
    layers(p, out);
    new_root(p, out);
    quirks(p, out);
}

/// The largest first.
fn images(p: &Plan, out: &mut Page) {
    let mut all: Vec<&PlanImage> = p.images.iter().collect();
    let nameless = |i: &PlanImage| i.tags.is_empty() && i.digests.is_empty();
    all.sort_by(|a, b| {
        b.bytes_total.cmp(&a.bytes_total).then_with(|| nameless(a).cmp(&nameless(b))).then_with(|| a.id.cmp(&b.id))
    });
    let row = |i: &&PlanImage| {
        let names: Vec<&str> = i.tags.iter().chain(&i.digests).map(String::as_str).collect();
        let name = if names.is_empty() { "<none>".to_owned() } else { text::text(&names.join(", ")) };
        let [total, unique, shared] = [i.bytes_total, i.bytes_unique, i.bytes_shared].map(text::size);
        Row::of([i.id.short(), total, unique, shared, name])
    };
    let rows: Vec<Row> = all.iter().map(row).collect();
    out.table("IMAGES", &["ID", "TOTAL", "UNIQUE", "SHARED", "TAGS"], &rows);
}

fn containers(p: &Plan, out: &mut Page) {
    let rows = p.containers.iter().map(|c| {
        let state = if c.running { "marked as running" } else { "stopped" };
        let image = super::image_name(p, &c.image);
        Row::of([text::text(&c.name), image, state.to_owned(), text::size(c.bytes)])
    });
    out.table("CONTAINERS", &["NAME", "IMAGE", "STATE", "WRITABLE LAYER"], &rows.collect::<Vec<_>>());
}

fn layers(p: &Plan, out: &mut Page) {
    let names = Names::of_plan(p);
    let row = |l: &PlanLayer| {
        let name = names.get(l.id.as_str()).map(text::text).unwrap_or_default();
        let name = if l.role == Role::Init { format!("{name} (init layer)") } else { name };
        let numbers = [l.facts.files, l.facts.directories, l.facts.whiteouts].map(text::count);
        let [files, directories, whiteouts] = numbers;
        Row::of([l.id.short(), text::size(l.facts.bytes), files, directories, whiteouts, name])
    };
    let rows: Vec<Row> = p.layers.iter().map(row).collect();
    out.table("LAYERS", &["LAYER", "SIZE", "FILES", "DIRS", "WHITEOUTS", "IMAGE OR CONTAINER"], &rows);
}

fn new_root(p: &Plan, out: &mut Page) {
    let Some(new) = &p.new_root else { return };
    let rows = new.units.iter().map(|c| {
        let numbers = [c.size.files, c.size.directories].map(text::count);
        let [files, directories] = numbers;
        Row::of([text::size(c.size.bytes), files, directories, c.name()])
    });
    out.table("COPIED TO THE NEW ROOT", &["SIZE", "FILES", "DIRS", "PATH"], &rows.collect::<Vec<_>>());
    let rows = new.stays.iter().map(|s| Row::of([text::bytes(&s.name), text::text(&s.reason)]));
    out.table("ONLY IN THE OLD ROOT", &["PATH", "REASON"], &rows.collect::<Vec<_>>());
}

/// Paths that aufs showed and the new store doesn't, or the other way round.
fn quirks(p: &Plan, out: &mut Page) {
    let names = Names::of_plan(p);
    let rows = p.quirks.iter().map(|q| {
        let reason = if q.id == "L07" { "listed by aufs, lookup fails" } else { "shown by aufs only" };
        let name = names.get(q.layer.as_str()).map(|name| format!(" ({})", text::text(name))).unwrap_or_default();
        Row::of([format!("layer {}{name}: {reason}: {}", q.layer.short(), text::bytes(&q.path))])
    });
    out.table("PATHS THAT AUFS SHOWS DIFFERENTLY", &[], &rows.collect::<Vec<_>>());
}
