//! Progress as people and machines want it: bars on a terminal, a plain line every ten seconds elsewhere, JSON lines on request.

use super::args::{Global, ProgressWhen};
use super::log::Logged;
use crate::progress::Progress;
use crate::report::page::Look;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The layout of stdout: as wide as the terminal, up to 120 columns; elsewhere `COLUMNS`, or 100.
pub fn look(g: &Global) -> Look {
    let stdout = std::io::stdout();
    let columns = || std::env::var("COLUMNS").ok().and_then(|c| c.parse::<usize>().ok()).filter(|c| *c > 0);
    let terminal = terminal_size::terminal_size_of(&stdout).map(|(w, _)| usize::from(w.0));
    let width = terminal.or_else(columns).unwrap_or(100).min(120);
    Look { width, colour: g.color.wanted(stdout.is_terminal()) }
}

/// Draws, or says nothing, as the options want it.
pub fn progress(g: &Global) -> Box<dyn Progress> {
    let drawn: Box<dyn Progress> = Box::new(Noted(drawn(g)));
    if g.log.is_some() { Box::new(Logged(drawn)) } else { drawn }
}

/// Passes everything on, and keeps the warnings for the document at the end.
struct Noted(Box<dyn Progress>);

impl Progress for Noted {
    fn phase(&self, name: &str, steps: u64) {
        self.0.phase(name, steps);
    }

    fn step(&self, what: &str) {
        self.0.step(what);
    }

    fn bytes(&self, name: &str, total: u64) {
        self.0.bytes(name, total);
    }

    fn moved(&self, bytes: u64) {
        self.0.moved(bytes);
    }

    fn warn(&self, text: &str) {
        super::end::note(text);
        self.0.warn(text);
    }
}

fn drawn(g: &Global) -> Box<dyn Progress> {
    let terminal = std::io::stderr().is_terminal();
    let lines = |json, stdout| Box::new(Lines::new(json, stdout, g.verbose > 0 || stdout));
    super::notify::also_systemd(match g.progress {
        ProgressWhen::Auto if g.jsonl => lines(true, true),
        ProgressWhen::Auto if g.quiet => Box::new(crate::progress::Hidden),
        ProgressWhen::Auto if terminal => Box::new(Bars::default()),
        ProgressWhen::Auto | ProgressWhen::Plain => lines(false, false),
        ProgressWhen::Bar => Box::new(Bars::default()),
        ProgressWhen::Json => lines(true, false),
        ProgressWhen::None => Box::new(crate::progress::Hidden),
    })
}

#[derive(Default)]
struct Bars {
    bar: Mutex<Option<ProgressBar>>,
}

impl Bars {
    fn with(&self, f: impl FnOnce(&mut Option<ProgressBar>)) {
        f(&mut self.bar.lock().unwrap_or_else(|e| e.into_inner()));
    }
}

impl Bars {
    fn begin(&self, name: &str, length: u64, template: &str) {
        self.with(|b| {
            if let Some(old) = b.take() {
                old.finish();
            }
            let bar = ProgressBar::new(length);
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            *b = Some(bar);
        });
    }
}

impl Progress for Bars {
    fn phase(&self, name: &str, steps: u64) {
        self.begin(name, steps, "{prefix:>10} [{bar:30}] {pos}/{len} {per_sec:>12} left {eta:>4}  {msg}");
    }

    fn bytes(&self, name: &str, total: u64) {
        let known = "{prefix:>10} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec:>14} left {eta:>4}";
        let unknown = "{prefix:>10} {bytes} {bytes_per_sec:>14}";
        self.begin(name, total, if total > 0 { known } else { unknown });
    }

    fn moved(&self, bytes: u64) {
        self.with(|b| {
            if let Some(bar) = b {
                bar.inc(bytes);
            }
        });
    }

    fn step(&self, what: &str) {
        self.with(|b| {
            if let Some(bar) = b {
                bar.set_message(what.to_owned());
                bar.inc(1);
            }
        });
    }

    fn warn(&self, text: &str) {
        self.with(|b| match b {
            Some(bar) => bar.suspend(|| {
                let _ = writeln!(std::io::stderr(), "warning: {text}");
            }),
            None => {
                let _ = writeln!(std::io::stderr(), "warning: {text}");
            }
        });
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.with(|b| {
            if let Some(bar) = b.take() {
                bar.finish_and_clear();
            }
        });
    }
}

/// Lines, at most one in ten seconds besides the beginnings of phases; or one for each step.
struct Lines {
    json: bool,
    stdout: bool,
    each: bool,
    now: Mutex<Now>,
}

struct Now {
    phase: String,
    unit: Unit,
    done: u64,
    steps: u64,
    began: Instant,
    said: Instant,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Steps,
    Bytes,
}

impl Lines {
    fn new(json: bool, stdout: bool, each: bool) -> Lines {
        let now = Instant::now();
        Lines {
            json,
            stdout,
            each,
            now: Mutex::new(Now { phase: String::new(), unit: Unit::Steps, done: 0, steps: 0, began: now, said: now }),
        }
    }

    fn say(&self, kind: &str, text: &str, n: &Now) {
        if !self.json {
            // a terminal that is gone is no reason to end a migration
            let _ = writeln!(std::io::stderr(), "{text}");
            return;
        }
        let line = serde_json::json!({
            "message_type": kind, "phase": n.phase, "done": n.done, "steps": n.steps,
            "unit": if n.unit == Unit::Bytes { "bytes" } else { "steps" },
            "seconds": n.began.elapsed().as_secs(), "text": text,
        });
        let line = line.to_string();
        if self.stdout {
            super::end::line(&line);
        } else {
            let _ = writeln!(std::io::stderr(), "{}", crate::text::json(line));
        }
    }
}

impl Lines {
    fn begin(&self, name: &str, unit: Unit, steps: u64) {
        let mut n = self.now.lock().unwrap_or_else(|e| e.into_inner());
        let now = Instant::now();
        *n = Now { phase: name.to_owned(), unit, done: 0, steps, began: now, said: now };
        let text = match (unit, steps) {
            (Unit::Bytes, 0) => name.to_owned(),
            (Unit::Bytes, n) => format!("{name}: {}", crate::text::size(n)),
            (Unit::Steps, n) => format!("{name}: {n} to do"),
        };
        self.say("status", &text, &n);
    }

    fn done(&self, more: u64, what: &str) {
        let mut n = self.now.lock().unwrap_or_else(|e| e.into_inner());
        n.done += more;
        // a step without a name is one of many: a file of the metadata
        let each = self.each && n.unit == Unit::Steps && !what.is_empty();
        if !each && n.said.elapsed() < Duration::from_secs(10) {
            return;
        }
        n.said = Instant::now();
        let shown = |v: u64| if n.unit == Unit::Bytes { crate::text::size(v) } else { v.to_string() };
        let mut text = format!("{}: {}", n.phase, shown(n.done));
        if n.steps > 0 {
            let left = n.began.elapsed().as_secs_f64() / n.done as f64 * n.steps.saturating_sub(n.done) as f64;
            text += &format!(" of {}, about {left:.0} s left", shown(n.steps));
        }
        if !what.is_empty() {
            text += &format!(" ({what})");
        }
        self.say("step", &text, &n);
    }
}

impl Progress for Lines {
    fn phase(&self, name: &str, steps: u64) {
        self.begin(name, Unit::Steps, steps);
    }

    fn step(&self, what: &str) {
        self.done(1, what);
    }

    fn bytes(&self, name: &str, total: u64) {
        self.begin(name, Unit::Bytes, total);
    }

    fn moved(&self, bytes: u64) {
        self.done(bytes, "");
    }

    fn warn(&self, text: &str) {
        let n = self.now.lock().unwrap_or_else(|e| e.into_inner());
        self.say("warning", &format!("warning: {text}"), &n);
    }
}
