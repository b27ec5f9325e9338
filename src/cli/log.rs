//! `--log FILE`: everything that is said on stdout and stderr, and each step besides, with its time.
//!
//! The file is appended to, so that one log has a whole migration. It is never inside ROOT, where `plan` writes nothing.

use super::args::Global;
use super::{end, output};
use crate::disk::Dir;
use crate::error::Result;
use crate::progress::Progress;
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, OnceLock};

static FILE: OnceLock<Mutex<Log>> = OnceLock::new();

struct Log {
    file: File,
    /// Why it could not be written.
    failed: Option<String>,
}

/// Opens the log, if one is asked for, and writes down what was called.
pub fn open(g: &Global) -> Result<()> {
    let Some(path) = &g.log else { return Ok(()) };
    // a root that can't be opened is the command's concern
    let roots: Vec<Dir> =
        [Some(&g.root), g.target.as_ref()].into_iter().flatten().flat_map(|r| Dir::open_named(r)).collect();
    let file = output::append(path, &roots.iter().collect::<Vec<_>>())?;
    // a process opens one log, so nothing was set before
    let _ = FILE.set(Mutex::new(Log { file, failed: None }));
    let words: Vec<String> = std::env::args_os().map(|a| crate::text::bytes(a.as_encoded_bytes())).collect();
    note(&format!("unaufs {}: {}", env!("CARGO_PKG_VERSION"), words.join(" ")));
    Ok(())
}

/// Warns if a part of the log could not be written.
pub fn close() {
    let failed = FILE.get().and_then(|log| log.lock().unwrap_or_else(|e| e.into_inner()).failed.take());
    if let Some(why) = failed {
        end::warn(&format!("the log is not complete: {why}"));
    }
}

/// Copies what was said.
pub fn note(text: &str) {
    let Some(file) = FILE.get() else { return };
    let now = crate::text::now();
    let lines: String = text.lines().map(|l| format!("{now} {l}\n")).collect();
    let mut log = file.lock().unwrap_or_else(|e| e.into_inner());
    // a full disk below the log doesn't end a migration
    if let Err(e) = log.file.write_all(lines.as_bytes()) {
        log.failed.get_or_insert_with(|| e.to_string());
    }
}

/// Passes everything on, and notes it.
pub struct Logged(pub Box<dyn Progress>);

impl Progress for Logged {
    fn phase(&self, name: &str, steps: u64) {
        note(&format!("{name}: {steps} to do"));
        self.0.phase(name, steps);
    }

    fn step(&self, what: &str) {
        if !what.is_empty() {
            note(&format!("done {what}"));
        }
        self.0.step(what);
    }

    fn bytes(&self, name: &str, total: u64) {
        note(&format!("{name}: {}", crate::text::size(total)));
        self.0.bytes(name, total);
    }

    fn moved(&self, bytes: u64) {
        self.0.moved(bytes);
    }

    fn warn(&self, text: &str) {
        note(&format!("warning: {text}"));
        self.0.warn(text);
    }
}
