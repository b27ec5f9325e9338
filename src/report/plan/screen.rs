//! The plan on a terminal: the answer first, then what it costs, how to undo it, what to check and what to type.

use super::{Group, docker, more, next, quoted, root_option};
use crate::checks::{Finding, Level, explain, plan_is_blocked};
use crate::plan::names::Names;
use crate::plan::{Estimate, Mode, Plan};
use crate::report::explain::word;
use crate::report::page::{Look, Page, Style, command_lines};
use crate::report::subject;
use crate::text;

/// Where texts begin, behind the labels.
const LABEL: usize = 9;
/// How the screen begins.
const TITLE: &str = "unaufs plan";
/// As many lines of one kind are shown.
const LIST: usize = 6;

/// How a plan is shown.
#[derive(Clone, Copy, Debug)]
pub struct Screen<'a> {
    /// Width and colours.
    pub look: Look,
    /// With the table of all drivers and modes?
    pub targets: bool,
    /// Nothing cut?
    pub all: bool,
    /// Where the plan was saved.
    pub saved: Option<&'a str>,
    /// With the commands to type next? Not if `migrate` itself shows the plan.
    pub next: bool,
}

impl Screen<'_> {
    /// The usual form.
    pub fn of(look: Look) -> Screen<'static> {
        Screen { look, targets: false, all: false, saved: None, next: true }
    }
}

/// The screen.
pub fn text(p: &Plan, screen: &Screen<'_>) -> String {
    let limit = if screen.all { usize::MAX } else { LIST };
    let mut out = Page::new(screen.look);
    head(p, &mut out);
    out.blank();
    answer(p, limit, &mut out);
    let chosen = p.estimates.iter().find(|e| e.chosen);
    if let Some(e) = chosen {
        cost(p, e, &mut out);
    }
    undo(p, &mut out);
    super::new_ids(p, if screen.all { usize::MAX } else { 0 }, &mut out);
    out.blank();
    checks(p, screen.all, &mut out);
    if screen.next {
        label(&mut out, Style::Plain, "", &[(Style::Plain, super::UNPROVED)]);
    }
    if screen.targets || screen.all || chosen.is_some_and(|e| !e.fits) {
        out.blank();
        super::space(p, usize::MAX, &mut out);
    }
    if screen.all {
        super::objects::lists(p, &mut out);
    }
    if screen.next {
        out.blank();
        commands(p, screen, &mut out);
    }
    out.finish()
}

fn label(out: &mut Page, style: Style, name: &str, spans: &[(Style, &str)]) {
    let name = format!("{name:<width$}", width = LABEL - 1);
    let mut all = vec![(style, name.as_str())];
    all.extend_from_slice(spans);
    out.flow(LABEL, &all);
}

fn head(p: &Plan, out: &mut Page) {
    let r = &p.root;
    let parts = [
        text::text(&p.host.name),
        format!("{} on {}, {} free", text::text(&r.path), r.fs, text::size(r.room.free_bytes)),
        if p.docker.running { "Docker is running" } else { "Docker is stopped" }.to_owned(),
    ];
    out.head(TITLE, &parts, LABEL);
    out.flow(LABEL, &[(Style::Dim, &format!("         {}", docker(p)))]);
}

/// `11 of 30 images and 8 of 13 containers`: those that move, and all of the store. Another driver's containers are not the store's.
pub fn moved(p: &Plan) -> String {
    let of = |kind: &str, moved: usize| {
        let stays = p.left_behind.iter().filter(|l| l.kind == kind && !l.is_foreign()).count();
        format!("{} of {}", text::count(moved as u64), text::plural(moved + stays, kind))
    };
    format!("{} and {}", of("image", p.summary.images), of("container", p.summary.containers))
}

fn answer(p: &Plan, limit: usize, out: &mut Page) {
    let (style, word) = match (plan_is_blocked(&p.checks), p.partial()) {
        (true, _) => (Style::Bad, "BLOCKED"),
        (false, true) => (Style::Warn, "PARTLY"),
        (false, false) => (Style::Good, "READY"),
    };
    let moves = format!(
        "{} will move to {}{}.",
        moved(p),
        p.options.to,
        match (word, p.docker.running) {
            ("BLOCKED", _) => " once the problems marked BLOCK are fixed",
            (_, true) => " as soon as Docker is stopped",
            _ => "",
        }
    );
    label(out, style, word, &[(Style::Plain, &moves)]);
    let volumes = p.summary.volumes;
    let rest = match &p.new_root {
        Some(e) => format!("{}.", super::copied(e)),
        None if volumes == 0 => "Networks and logs stay where they are.".to_owned(),
        None => format!("Volumes ({}), networks and logs stay where they are.", text::count(volumes as u64)),
    };
    label(out, Style::Plain, "", &[(Style::Plain, &rest)]);
    for d in p.damage.iter().take(limit) {
        label(out, Style::Plain, "", &[(Style::Warn, &text::short_ids(&d.sentence()))]);
    }
    more(p.damage.len(), limit, out);
    if let Some(stays) = crate::report::stays_behind(p, false) {
        let what = format!("{stays}, excluded by an option or of another driver.");
        label(out, Style::Plain, "", &[(Style::Plain, &what)]);
    }
    if limit == usize::MAX {
        for l in &p.left_behind {
            let name = if l.name.is_empty() { String::new() } else { format!(" {}", text::text(&l.name)) };
            let id = crate::report::short(&l.id);
            out.flow(
                LABEL + 2,
                &[(
                    Style::Plain,
                    &format!("           {} {id}{name}: {}", l.kind, text::short_ids(&text::text(&l.reason))),
                )],
            );
        }
    }
}

fn cost(p: &Plan, e: &Estimate, out: &mut Page) {
    let how = match e.mode {
        Mode::Link => "image layers are hard-linked",
        Mode::Clone => "files share their data with the old store",
        _ => "every file is copied",
    };
    let space = format!("at most {} and {} inodes ({how})", text::size(e.new_bytes), text::count(e.new_inodes));
    let why = match &e.why_not {
        Some(why) if !e.possible => format!("NOT POSSIBLE: {why}"),
        Some(why) if !e.fits => format!("MAY NOT FIT: {why}"),
        _ => String::new(),
    };
    label(out, Style::Bold, "Space", &[(Style::Plain, &space), (Style::Bad, &why)]);
    let time = super::took(e);
    let stopped = if p.docker.running { "; Docker must be stopped first" } else { "; Docker must be stopped" };
    label(out, Style::Bold, "Time", &[(Style::Plain, &format!("{time}{stopped}"))]);
}

fn undo(p: &Plan, out: &mut Page) {
    command(out, "Undo", &super::rollback(p));
    let until = match &p.new_root {
        Some(_) => "Possible until unaufs cleanup. The old root is only read.",
        None => "Possible until unaufs cleanup.",
    };
    label(out, Style::Plain, "", &[(Style::Plain, until)]);
    if !crate::plan::host::kernel_knows("aufs") {
        let kernel = "This kernel has no aufs, so Docker can't run after a rollback.";
        label(out, Style::Plain, "", &[(Style::Plain, kernel)]);
    }
}

fn checks(p: &Plan, all: bool, out: &mut Page) {
    let groups = super::groups(&p.checks);
    let n = |l: Level| super::kinds(&groups, l);
    let mut counts = vec![format!("{} passed", n(Level::Ok))];
    for level in [Level::Block, Level::Warn] {
        if n(level) > 0 {
            counts.push(text::plural(n(level), word(level)));
        }
    }
    label(out, Style::Bold, "CHECKS", &[(Style::Plain, &counts.join(", "))]);
    let names = Names::of_plan(p);
    for g in groups.iter().filter(|g| g.first.level >= if all { Level::Info } else { Level::Warn }) {
        findings(p, g, all, &names, out);
    }
    let titles = |level: Level| {
        let of = groups.iter().filter(move |g| g.first.level == level);
        of.filter_map(|g| explain(&g.first.id)).map(|c| (c.id, c.title))
    };
    let notes = n(Level::Info);
    if all {
        let fine: Vec<String> = titles(Level::Ok).map(|(id, title)| format!("{title} ({id})")).collect();
        let line = format!("  ok     not found here: {}", fine.join(", "));
        out.flow(LABEL, &[(Style::Plain, &line)]);
    } else if notes > 0 {
        let first: Vec<&str> = titles(Level::Info).map(|(_, title)| title).take(2).collect();
        let rest = if notes > first.len() { ", …" } else { "" };
        let line = format!("{}: {}{rest} (-v shows all)", text::plural(notes, word(Level::Info)), first.join(", "));
        out.flow(LABEL, &[(Style::Plain, &format!("  i      {line}"))]);
    }
}

/// The first finding of a group, or all of them; then what to do, where that isn't the same as for the one before.
fn findings(p: &Plan, g: &Group<'_>, all: bool, names: &Names, out: &mut Page) {
    let (id, level) = (&g.first.id, g.first.level);
    let mark = match level {
        Level::Block => "BLOCK",
        Level::Warn => "  !",
        Level::Info | Level::Ok => "  i",
    };
    let of = p.checks.iter().filter(|f| f.id == *id && f.level == level);
    let (others, of) = match (all, g.count) {
        (false, n) if n > 1 => (format!(" (and {} more)", text::count(n as u64 - 1)), of.take(1)),
        _ => (String::new(), of.take(g.count)),
    };
    let mut of = of.peekable();
    while let Some(f) = of.next() {
        let mut what = format!("{}: {}", subject(f, names), text::short_ids(&f.message));
        let alike = |next: &&Finding| (&next.subject, &next.fix, &next.effect) == (&f.subject, &f.fix, &f.effect);
        while let Some(next) = of.next_if(alike) {
            what.push_str(&format!("; {}", text::short_ids(&next.message)));
        }
        what.push_str(&others);
        out.flow(LABEL, &[(Style::of(level), &format!("{mark} {id:<4}")), (Style::Plain, &what)]);
        let is_last = of.peek().is_none_or(|next| (&next.fix, &next.effect) != (&f.fix, &f.effect));
        if level >= Level::Warn && is_last {
            advice(f, out);
        }
    }
}

fn advice(f: &Finding, out: &mut Page) {
    let advice = match (&f.fix, &f.effect) {
        (Some(fix), _) => format!("Fix: {fix}"),
        (None, Some(effect)) => format!("Effect: {effect}"),
        (None, None) => return,
    };
    let fits = LABEL + advice.chars().count() <= out.width();
    match f.fix.as_deref().and_then(text::command_in).filter(|_| !fits) {
        Some((before, typed)) => {
            let said = if before.is_empty() { "Fix:".to_owned() } else { format!("Fix: {before}:") };
            label(out, Style::Plain, "", &[(Style::Dim, &said)]);
            command(out, "", typed);
        }
        None => label(out, Style::Plain, "", &[(Style::Dim, &advice)]),
    }
}

/// A command to be pasted.
fn command(out: &mut Page, name: &str, command: &str) {
    let room = out.width().saturating_sub(LABEL);
    // a remark after it is only there where both fit
    let lines = if command.chars().count() <= room { vec![command.to_owned()] } else { command_lines(command, room) };
    for (n, line) in lines.iter().enumerate() {
        out.whole(LABEL, (Style::Bold, if n == 0 { name } else { "" }), line);
    }
}

fn commands(p: &Plan, screen: &Screen<'_>, out: &mut Page) {
    if plan_is_blocked(&p.checks) {
        label(out, Style::Bold, "Next", &[(Style::Plain, "Fix the problems marked BLOCK, then:")]);
        for step in next(p).iter().filter(|s| s.starts_with("unaufs")) {
            command(out, "", step);
        }
        return;
    }
    let mut steps = next(p);
    if let Some(file) = screen.saved {
        steps.retain(|s| !s.contains(" --out "));
        if let Some(last) = steps.last_mut() {
            *last = format!("unaufs migrate{} {}", root_option(&p.root.path), quoted(file));
        }
    }
    let remark = |step: &str| match step {
        s if s.contains(" --out ") => "save this plan",
        s if s.starts_with("systemctl stop") => "stop Docker",
        _ => "do it",
    };
    let fits = |step: &str| LABEL + step.chars().count() + 3 + remark(step).len() <= out.width();
    let width = steps.iter().filter(|s| fits(s)).map(|s| s.chars().count()).max().unwrap_or(0);
    let room = LABEL + width + 3 + "save this plan".len() <= out.width();
    let lines: Vec<String> = steps
        .iter()
        .map(|s| if room && fits(s) { format!("{s:<width$}   {}", remark(s)) } else { s.clone() })
        .collect();
    for (n, line) in lines.iter().enumerate() {
        command(out, if n == 0 { "Next" } else { "" }, line);
    }
    let first = p.checks.iter().find(|f| f.level >= Level::Warn).map(|f| format!("   unaufs explain {}", f.id));
    let targets = if screen.targets { "" } else { "--targets compares drivers   " };
    let more = format!("{targets}--html FILE{}", first.unwrap_or_default());
    label(out, Style::Dim, "More", &[(Style::Dim, &more)]);
}
