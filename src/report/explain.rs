//! The checks, for people and for programs.

use super::page::{Look, Page, Style};
use crate::checks::{Check, Level, TABLE, allowable};
use serde_json::{Value, json};

/// A level as people read it, on every screen and page. Lines of a plan begin with `BLOCK`, `!`, `i` and `ok`.
pub fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "passed",
        Level::Info => "note",
        Level::Warn => "warning",
        Level::Block => "blocker",
    }
}

/// One check.
pub fn text(c: &Check, look: Look) -> String {
    let mut out = Page::new(look);
    let level = match (c.level, allowable(c.id)) {
        (Level::Block, true) => format!("   blocker (--allow {} makes it a warning)", c.id),
        (other, _) => format!("   {}", word(other)),
    };
    out.flow(4, &[(Style::Bold, c.id), (Style::Bold, c.title), (Style::Dim, &level)]);
    out.blank();
    out.flow(0, &[(Style::Plain, c.explain)]);
    out.finish()
}

/// All checks, a line each.
pub fn all(look: Look) -> String {
    let mut out = Page::new(look);
    for c in TABLE {
        out.flow(14, &[(Style::of(c.level), &format!("{:<4} {:<8}", c.id, word(c.level))), (Style::Plain, c.title)]);
    }
    out.blank();
    out.flow(0, &[(Style::Plain, "Details: unaufs explain ID")]);
    out.finish()
}

/// `unaufs.explain/1` of one check.
pub fn json(c: &Check) -> Value {
    let mut out = fields(c);
    out["schema"] = "unaufs.explain/1".into();
    out
}

/// `unaufs.explain/1` of all.
pub fn all_json() -> Value {
    json!({"schema": "unaufs.explain/1", "checks": TABLE.iter().map(fields).collect::<Vec<_>>()})
}

fn fields(c: &Check) -> Value {
    json!({
        "id": c.id, "level": c.level, "title": c.title, "explain": c.explain,
        "fix": c.fix, "effect": c.effect, "allowable": allowable(c.id),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_line_that_fits() {
        let look = Look { width: 80, colour: false };
        let list = all(look);
        for c in TABLE {
            assert!(list.lines().any(|l| l.starts_with(c.id) && l.ends_with(c.title)), "{} in {list}", c.id);
            assert!(text(c, look).lines().all(|l| l.chars().count() <= 80), "{}", c.id);
        }
        assert!(text(crate::checks::explain("H07").expect("a check"), look).contains("--allow H07"));
    }
}
