//! Numbers for the textfile collector of Prometheus's node_exporter: one file, whichever verb wrote it.

use crate::checks::Level;
use crate::plan::Plan;
use crate::run::journal::{Run, State};
use std::fmt::Write;

/// What a verb left behind.
#[derive(Debug)]
pub struct Numbers<'a> {
    /// Docker's data root, as it was named.
    pub root: &'a str,
    /// The verb that ended.
    pub verb: &'a str,
    /// Its exit code.
    pub exit_code: u8,
    /// The plan that was made, or that of the last run.
    pub plan: Option<&'a Plan>,
    /// The last run.
    pub run: Option<&'a Run>,
}

impl Numbers<'_> {
    /// In the text format of Prometheus.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.add(
            &mut out,
            "exit_code",
            "Exit code of the last run of unaufs",
            &format!(",verb=\"{}\"", self.verb),
            self.exit_code.into(),
        );
        head(&mut out, "state", "Where the migration stands: 1 at one of these, 0 at the others");
        let now = self.run.map(|r| r.state);
        self.line(&mut out, "state", ",state=\"none\"", u64::from(now.is_none()));
        for (state, name) in State::ALL {
            self.line(&mut out, "state", &format!(",state=\"{name}\""), u64::from(now == Some(state)));
        }
        if let Some(run) = self.run {
            self.add(
                &mut out,
                "verified",
                "Was the new store compared without a difference?",
                "",
                run.verified.is_some().into(),
            );
        }
        if let Some(plan) = self.plan {
            self.plan(&mut out, plan);
        }
        out
    }

    fn plan(&self, out: &mut String, p: &Plan) {
        let docker_runs = p.docker.running;
        let blockers = p.checks.iter().filter(|c| c.blocks_plan(docker_runs)).count();
        let warnings = p.checks.iter().filter(|c| c.level == Level::Warn).count();
        for (name, help, n) in [
            ("plan_blockers", "Findings that keep a migration from starting", blockers),
            ("plan_warnings", "Findings that are worth a look", warnings),
            ("plan_left_behind", "Objects that do not move", p.left_behind.len()),
            ("plan_images", "Images that move", p.summary.images),
            ("plan_layers", "Layers that move", p.summary.layers),
            ("plan_containers", "Containers that move", p.summary.containers),
        ] {
            self.add(out, name, help, "", n as u64);
        }
        if let Some(e) = p.estimates.iter().find(|e| e.chosen) {
            self.add(out, "bytes_needed", "Bytes of disk that the new store takes beside the old one", "", e.new_bytes);
            self.add(out, "inodes_needed", "Inodes that the new store takes beside the old one", "", e.new_inodes);
            self.add(out, "fits", "Do they fit?", "", e.fits.into());
        }
        self.add(
            out,
            "bytes_free",
            "Bytes free on the root's file system when the plan was made",
            "",
            p.root.room.free_bytes,
        );
        if let Ok(made) = p.created.parse::<jiff::Timestamp>() {
            let seconds = u64::try_from(made.as_second()).unwrap_or_default();
            self.add(out, "plan_created_timestamp_seconds", "When the plan was made", "", seconds);
        }
    }

    fn add(&self, out: &mut String, name: &str, help: &str, labels: &str, value: u64) {
        head(out, name, help);
        self.line(out, name, labels, value);
    }

    fn line(&self, out: &mut String, name: &str, labels: &str, value: u64) {
        let _ = writeln!(out, "unaufs_{name}{{root=\"{}\"{labels}}} {value}", label(self.root));
    }
}

fn head(out: &mut String, name: &str, help: &str) {
    let _ = writeln!(out, "# HELP unaufs_{name} {help}\n# TYPE unaufs_{name} gauge");
}

/// A label's value: backslashes, quotes and line ends are escaped.
fn label(s: &str) -> String {
    s.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(label("/a\"b\\c\nd"), "/a\\\"b\\\\c\\nd");
    }

    #[test]
    fn without_a_plan_there_is_still_a_state() {
        let text = Numbers { root: "/d", verb: "plan", exit_code: 10, plan: None, run: None }.text();
        assert!(text.contains("unaufs_exit_code{root=\"/d\",verb=\"plan\"} 10\n"), "{text}");
        assert!(text.contains("unaufs_state{root=\"/d\",state=\"none\"} 1\n"), "{text}");
        assert!(text.contains("unaufs_state{root=\"/d\",state=\"switched\"} 0\n"), "{text}");
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            assert!(line.rsplit_once(' ').is_some_and(|(_, n)| n.parse::<u64>().is_ok()), "{line}");
        }
    }
}
