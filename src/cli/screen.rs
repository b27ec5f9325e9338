//! Progress as people and machines want it: bars on a terminal, a plain line every ten seconds elsewhere, JSON lines on request.

use super::args::{Global, ProgressWhen};
use super::log::Logged;
use crate::progress::Progress;
use crate::report::page::Look;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The layout of stdout: as wide as the terminal, up to 120 columns; elsewhere `COLUMNS`, or 100.
pub fn look(g: &Global) -> Look {
    let stdout = std::io::stdout();
    let columns = || std::env::var("COLUMNS").ok().and_then(|c| c.parse::<usize>().ok()).filter(|c| *c > 0);
    let terminal = terminal_size::terminal_size_of(&stdout).map(|(w, _)| usize::from(w.0));
    let width = terminal.or_else(columns).unwrap_or(100).min(120);
    Look { width, colour: g.color.wanted(stdout.is_terminal()) }
}

/// Text for stderr, a line or several: on a terminal they continue at column `hang` where they don't fit.
pub fn on_stderr(text: &str, hang: usize) -> String {
    let stderr = std::io::stderr();
    let terminal = terminal_size::terminal_size_of(&stderr).filter(|_| stderr.is_terminal());
    match terminal {
        Some((width, _)) => crate::report::page::wrapped(text, usize::from(width.0).clamp(40, 120), hang),
        None => format!("{text}\n"),
    }
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
    LazyLock::force(&BEGAN);
    let terminal = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
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

/// A line at the bottom of a terminal: `[2/4] Building layers  11/20  about 2 seconds left`.
#[derive(Default)]
struct Bars {
    now: Mutex<Option<Bar>>,
}

struct Bar {
    line: ProgressBar,
    /// Bytes are counted, not steps.
    bytes: bool,
    began: Instant,
}

impl Bar {
    /// How much is done, how much is left to do, and for how long.
    fn show(&self) {
        let (done, all) = (self.line.position(), self.line.length().unwrap_or(0));
        let amount = |n: u64| if self.bytes { crate::text::size(n) } else { crate::text::count(n) };
        let mut text = match all {
            0 => amount(done),
            _ if self.bytes => format!("{} of {}", amount(done), amount(all)),
            _ => format!("{}/{}", amount(done), amount(all)),
        };
        // the pace of the first moments says nothing
        if done > 0 && all > done && self.began.elapsed() > Duration::from_secs(2) {
            let left = self.began.elapsed().as_secs_f64() / done as f64 * (all - done) as f64;
            text += &format!("   about {} left", crate::text::duration(left.ceil() as u64));
        }
        self.line.set_message(text);
    }
}

impl Bars {
    fn with(&self, f: impl FnOnce(&mut Option<Bar>)) {
        f(&mut self.now.lock().unwrap_or_else(|e| e.into_inner()));
    }

    fn begin(&self, name: &str, length: u64, bytes: bool) {
        self.with(|now| {
            if let Some(old) = now.take() {
                old.line.finish_and_clear();
            }
            let line = ProgressBar::new(length);
            // the last part is cut to the width of the terminal, also when that changes
            if let Ok(style) = ProgressStyle::with_template("{prefix}  {wide_msg}") {
                line.set_style(style);
            }
            line.set_prefix(title(name));
            line.enable_steady_tick(Duration::from_millis(200));
            let bar = Bar { line, bytes, began: Instant::now() };
            bar.show();
            *now = Some(bar);
        });
    }

    fn more(&self, n: u64) {
        self.with(|now| {
            if let Some(bar) = now {
                bar.line.inc(n);
                bar.show();
            }
        });
    }
}

/// The phase, for people; the names of phases are for programs. Phases of a migration are numbered.
fn title(phase: &str) -> String {
    let (number, title) = match phase {
        "scan" => (1, "Reading layers"),
        "layers" => (2, "Building layers"),
        "metadata" => (2, "Writing metadata"),
        "other files" => (2, "Copying other files"),
        "verify" => (3, "Verifying layers"),
        "verify other files" => (3, "Verifying other files"),
        "switch" => (4, "Switching"),
        "rollback" => (0, "Putting the old store back"),
        "measure" => (0, "Measuring layers"),
        "export" => (0, "Writing the archive"),
        "compress" => (0, "Compressing layers"),
        "copy" => (0, "Copying files"),
        other => (0, other),
    };
    if number == 0 || NUMBERED.get().is_none() {
        return title.to_owned();
    }
    // the old store is read a second time before the switch: the numbers don't go back
    match REACHED.fetch_max(number, Ordering::Relaxed) {
        before if before <= number => format!("[{number}/4] {title}"),
        before if phase == "scan" => format!("[{before}/4] Looking for changes in the old store"),
        before => format!("[{before}/4] {title}"),
    }
}

/// The highest number of a phase so far.
static REACHED: AtomicU8 = AtomicU8::new(0);

/// Set by the one command that goes through all phases.
static NUMBERED: OnceLock<()> = OnceLock::new();

/// From now on phases have their numbers.
pub fn number_phases() {
    let _ = NUMBERED.set(());
}

impl Progress for Bars {
    fn phase(&self, name: &str, steps: u64) {
        self.begin(name, steps, false);
    }

    fn bytes(&self, name: &str, total: u64) {
        self.begin(name, total, true);
    }

    fn moved(&self, bytes: u64) {
        self.more(bytes);
    }

    fn step(&self, _: &str) {
        self.more(1);
    }

    fn warn(&self, text: &str) {
        self.with(|now| {
            let say = || {
                let _ = writeln!(std::io::stderr(), "warning: {text}");
            };
            match now {
                Some(bar) => bar.line.suspend(say),
                None => say(),
            }
        });
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.with(|now| {
            if let Some(bar) = now.take() {
                bar.line.finish_and_clear();
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

/// When the program began to show progress.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

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
            // what ends at once needs no progress
            if BEGAN.elapsed() < Duration::from_secs(2) && kind != "warning" {
                return;
            }
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
            (Unit::Bytes, 0) => title(name),
            (Unit::Bytes, n) => format!("{}: {}", title(name), crate::text::size(n)),
            (Unit::Steps, n) => format!("{}: {}", title(name), crate::text::count(n)),
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
        let shown = |v: u64| if n.unit == Unit::Bytes { crate::text::size(v) } else { crate::text::count(v) };
        let mut text = format!("{}: {}", title(&n.phase), shown(n.done));
        if n.steps > 0 {
            let left = n.began.elapsed().as_secs_f64() / n.done as f64 * n.steps.saturating_sub(n.done) as f64;
            text += &format!(" of {}, about {} left", shown(n.steps), crate::text::duration(left.ceil() as u64));
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
