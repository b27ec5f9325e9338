//! The checks: stable ids, levels and findings. The texts are in `checks::table`; `unaufs explain ID` prints an entry.

mod table;

pub use table::TABLE;

use serde::{Deserialize, Serialize};
use std::fmt;

/// How much a check matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Looked at, and fine.
    Ok,
    /// Worth knowing.
    Info,
    /// Something stays behind or changes.
    Warn,
    /// `migrate` refuses unless `--allow ID` is given, where that is possible.
    Block,
}

/// The object of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// `layer`, `container`, `image`, `tag`; `other` for everything else.
    pub kind: String,
    /// Its id, shortened as in the text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its name, or what else identifies it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

impl Subject {
    const KINDS: [&'static str; 4] = ["layer", "container", "image", "tag"];
}

impl From<&str> for Subject {
    /// Reads `layer ID`, `container NAME (ID)` and so on; anything else is a name.
    fn from(s: &str) -> Subject {
        let is_id = |s: &str| s.len() >= 12 && s.bytes().all(|b| b.is_ascii_hexdigit());
        let Some((kind, rest)) = s.split_once(' ').filter(|(k, _)| Subject::KINDS.contains(k)) else {
            return Subject { kind: "other".to_owned(), id: String::new(), name: s.to_owned() };
        };
        let with = |id: &str, name: &str| Subject { kind: kind.to_owned(), id: id.to_owned(), name: name.to_owned() };
        match rest.rsplit_once(" (").and_then(|(name, id)| Some((name, id.strip_suffix(')')?))) {
            Some((name, id)) if is_id(id) => with(id, name),
            _ if is_id(rest) => with(rest, ""),
            _ => with("", rest),
        }
    }
}

impl From<String> for Subject {
    fn from(s: String) -> Subject {
        Subject::from(s.as_str())
    }
}

impl From<&String> for Subject {
    fn from(s: &String) -> Subject {
        Subject::from(s.as_str())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind.as_str(), self.id.as_str(), self.name.as_str()) {
            ("other", _, name) => f.write_str(name),
            (kind, "", name) => write!(f, "{kind} {name}"),
            (kind, id, "") => write!(f, "{kind} {id}"),
            (kind, id, name) => write!(f, "{kind} {name} ({id})"),
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The id in [`TABLE`].
    pub id: String,
    /// How much it matters.
    pub level: Level,
    /// The object.
    pub subject: Subject,
    /// What was found.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fix: Option<String>,
    /// What happens if nothing is done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub effect: Option<String>,
}

impl Finding {
    /// A finding with the level, fix and effect that the table gives its id.
    pub fn new(id: &'static str, subject: impl Into<Subject>, message: impl Into<String>) -> Finding {
        let check = TABLE.iter().find(|c| c.id == id);
        let text = |of: fn(&Check) -> Option<&'static str>| check.and_then(of).map(str::to_owned);
        Finding {
            id: id.to_owned(),
            level: check.map_or(Level::Warn, |c| c.level),
            subject: subject.into(),
            message: crate::text::sentence(message),
            fix: text(|c| c.fix),
            effect: text(|c| c.effect),
        }
    }

    /// Adds what to do.
    pub fn fix(mut self, fix: impl Into<String>) -> Finding {
        self.fix = Some(fix.into());
        self
    }

    /// Adds what happens.
    pub fn effect(mut self, effect: impl Into<String>) -> Finding {
        self.effect = Some(effect.into());
        self
    }

    /// Another level than the table's.
    pub fn level(mut self, level: Level) -> Finding {
        self.level = level;
        self
    }
}

impl Check {
    /// The finding that says: looked at, and fine.
    pub fn fine(&self) -> Finding {
        let message = format!("{}: no", self.title);
        Finding { fix: None, effect: None, ..Finding::new(self.id, "", message).level(Level::Ok) }
    }
}

/// Checks that `--allow` doesn't disable: continuing would damage data or can't work.
const FIRM: [&str; 4] = ["H01", "H08", "H10", "N01"];

/// May `--allow` name this id?
pub fn allowable(id: &str) -> bool {
    explain(id).is_some_and(|c| !FIRM.contains(&c.id))
}

/// Turns what blocks into a warning where the user allows it.
pub fn allow(findings: &mut [Finding], ids: &[String]) {
    for f in findings.iter_mut().filter(|f| f.level == Level::Block && allowable(&f.id)) {
        if ids.iter().any(|a| a.eq_ignore_ascii_case(&f.id)) {
            f.level = Level::Warn;
            f.message.push_str(" (allowed)");
        }
    }
}

impl Finding {
    /// Does it keep `plan` itself from being of use? A running Docker, what it has mounted, and a root that is read-only for now do
    /// not: `plan` is for hosts at work, and `migrate` looks again.
    pub fn blocks_plan(&self, docker_runs: bool) -> bool {
        self.level == Level::Block && !(self.id == "H01" || self.id == "H10" || self.id == "H02" && docker_runs)
    }
}

/// Does something block that does not go away by stopping Docker?
pub fn plan_is_blocked(findings: &[Finding]) -> bool {
    let docker_runs = findings.iter().any(|f| f.id == "H01" && f.level == Level::Block);
    findings.iter().any(|f| f.blocks_plan(docker_runs))
}

/// An entry of the table.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Stable, for filters and `--allow`.
    pub id: &'static str,
    /// The usual level.
    pub level: Level,
    /// In a few words.
    pub title: &'static str,
    /// What it means and what to do.
    pub explain: &'static str,
    /// What to do, where that is always the same.
    pub fix: Option<&'static str>,
    /// What happens if nothing is done, where that is always the same.
    pub effect: Option<&'static str>,
}

/// Checks of a migration with `--target`.
pub const ELSEWHERE: [&str; 6] = ["N01", "N02", "N03", "N04", "N05", "N06"];

/// The entry of an id.
pub fn explain(id: &str) -> Option<&'static Check> {
    TABLE.iter().find(|c| c.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique() {
        for (i, c) in TABLE.iter().enumerate() {
            assert!(TABLE[i + 1..].iter().all(|d| d.id != c.id), "{} twice", c.id);
            assert!(c.explain.len() > 40, "{} is not explained", c.id);
        }
    }

    #[test]
    fn subjects_are_told_apart() {
        for (text, kind, id, name) in [
            ("layer 0123456789ab", "layer", "0123456789ab", ""),
            ("container db (0123456789ab)", "container", "0123456789ab", "db"),
            ("container 0123456789ab", "container", "0123456789ab", ""),
            ("container a (b) c (0123456789ab)", "container", "0123456789ab", "a (b) c"),
            ("image x:1", "image", "", "x:1"),
            ("daemon.json", "other", "", "daemon.json"),
            ("the disk", "other", "", "the disk"),
        ] {
            let s = Subject::from(text);
            assert_eq!((s.kind.as_str(), s.id.as_str(), s.name.as_str()), (kind, id, name), "{text}");
            assert_eq!(s.to_string(), text);
        }
    }

    #[test]
    fn allowed_checks_warn() {
        let blocks = |id| Finding::new(id, "x", "y").level(Level::Block);
        let mut all = vec![blocks("H07"), blocks("H01"), blocks("H05")];
        allow(&mut all, &["h07".into(), "H01".into()]);
        assert!(allowable("h07") && !allowable("H01") && !allowable("X99"));
        let levels: Vec<Level> = all.iter().map(|f| f.level).collect();
        assert_eq!(levels, [Level::Warn, Level::Block, Level::Block]);
    }

    #[test]
    fn a_running_docker_does_not_stop_a_plan() {
        let f = |id: &'static str| Finding::new(id, "", "");
        assert!(!plan_is_blocked(&[f("H01"), f("H02"), f("H10")]));
        assert!(plan_is_blocked(&[f("H02")]));
        assert!(plan_is_blocked(&[f("H01"), f("H07")]));
        assert!(!plan_is_blocked(&[f("C01")]));
    }
}
