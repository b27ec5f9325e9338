//! What `export` says at its end.

use crate::export::compress::Compressed;
use crate::export::{Format, Summary};
use crate::text;
use serde::Serialize;
use std::fmt::Write;

/// As many images are listed on a terminal.
const LISTED: usize = 20;

/// The result, for JSON and for people.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// `unaufs.export/1`.
    pub schema: &'static str,
    /// What was done.
    #[serde(flatten)]
    pub summary: &'a Summary,
}

impl Document<'_> {
    /// A few lines.
    pub fn text(&self) -> String {
        let s = self.summary;
        let mut out = String::new();
        let what = match s.format {
            Format::Rootfs => "one file tree".to_owned(),
            _ => format!("{}, {}", text::plural(s.images.len(), "image"), text::plural(s.layers, "layer")),
        };
        let to = if s.output == "-" { "stdout".to_owned() } else { text::text(&s.output) };
        let _ = writeln!(out, "wrote {to} ({}, {} unpacked): {what}", text::size(s.written), text::size(s.bytes));
        let (tagged, bare): (Vec<_>, Vec<_>) = s.images.iter().partition(|i| !i.tags.is_empty());
        for image in tagged.iter().chain(&bare).take(LISTED) {
            let tags = image.tags.iter().map(|t| text::text(t)).collect::<Vec<_>>().join(" ");
            let _ = writeln!(out, "  {}  {}", image.id.short(), if tags.is_empty() { "<none>" } else { &tags });
        }
        if s.images.len() > LISTED {
            let _ = writeln!(out, "  … and {} more", s.images.len() - LISTED);
        }
        for note in &s.notes {
            let _ = writeln!(out, "note: {note}");
        }
        for (name, why) in &s.left_out {
            let _ = writeln!(out, "left out: {}: {why}", text::text(name));
        }
        if let Some(command) = self.load() {
            let _ = writeln!(out, "Load it with: {command}");
        }
        out
    }

    /// The command that reads the archive, where there is one that needs no further choice.
    fn load(&self) -> Option<String> {
        let file = (self.summary.output != "-").then(|| text::text(&self.summary.output))?;
        match self.summary.format {
            Format::Docker => Some(format!("docker load -i {file}")),
            Format::Rootfs if self.summary.compress != Compressed::Zstd => Some(format!("docker import {file} NAME")),
            Format::Rootfs | Format::Oci | Format::OciDir => None,
        }
    }
}
