//! `--log FILE`: everything that is said on stdout and stderr, and each step besides, with its time.
//!
//! The file is appended to, so that one log tells a whole migration. It never lies inside ROOT, where `plan` writes nothing.

use super::args::Global;
use super::verbs::folder_of;
use crate::disk::Dir;
use crate::error::{Error, IoContext, Kind, Result};
use crate::progress::Progress;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, OnceLock};

static FILE: OnceLock<Mutex<File>> = OnceLock::new();

/// Opens the log, if one is asked for, and writes down what was called.
pub fn open(g: &Global) -> Result<()> {
    let Some(path) = &g.log else { return Ok(()) };
    let (folder, _) = folder_of(path)?;
    if Dir::open_named(&g.root).is_ok_and(|root| folder.label().starts_with(root.label())) {
        let what = format!("the log {} would be written inside ROOT", path.display());
        return Err(Error::new(Kind::Usage, what).hint("Choose a file outside ROOT"));
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .on(|| format!("open the log {}", path.display()))?;
    // a process opens one log, so nothing was set before
    let _ = FILE.set(Mutex::new(file));
    let words: Vec<String> = std::env::args_os().map(|a| crate::text::bytes(a.as_encoded_bytes())).collect();
    note(&format!("unaufs {}: {}", env!("CARGO_PKG_VERSION"), words.join(" ")));
    Ok(())
}

/// Copies what was said.
pub fn note(text: &str) {
    let Some(file) = FILE.get() else { return };
    let now = crate::text::now();
    let lines: String = text.lines().map(|l| format!("{now} {l}\n")).collect();
    let mut file = file.lock().unwrap_or_else(|e| e.into_inner());
    // a full disk below the log is no reason to end a migration
    let _ = file.write_all(lines.as_bytes());
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
