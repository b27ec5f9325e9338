//! Lays text out for a terminal: wraps at the width with a hanging indent, colours words when asked.

use crate::checks::Level;
use crate::text::{command_in, sentence};

/// What a text is laid out for.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// With colours?
    pub colour: bool,
}

impl Default for Look {
    fn default() -> Look {
        Look { width: 100, colour: false }
    }
}

/// How a word looks. Without colours all look the same, so no meaning may rest on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// A heading.
    Bold,
    /// Less important.
    Dim,
    /// Fine.
    Good,
    /// Look here.
    Warn,
    /// This blocks.
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Bold => "\x1b[1m",
            Style::Dim => "\x1b[2m",
            Style::Good => "\x1b[32m",
            Style::Warn => "\x1b[33m",
            Style::Bad => "\x1b[1;31m",
        }
    }

    /// That of a check's level.
    pub fn of(level: Level) -> Style {
        match level {
            Level::Ok => Style::Good,
            Level::Info => Style::Plain,
            Level::Warn => Style::Warn,
            Level::Block => Style::Bad,
        }
    }
}

/// A row of a table.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What is in its columns.
    pub cells: Vec<String>,
    /// What is wrong, behind the last column.
    pub remark: String,
}

impl Row {
    /// One with nothing wrong.
    pub fn of(cells: impl IntoIterator<Item = String>) -> Row {
        Row { cells: cells.into_iter().collect(), remark: String::new() }
    }
}

/// A text in the making.
#[derive(Debug)]
pub struct Page {
    out: String,
    look: Look,
}

impl Page {
    /// An empty one.
    pub fn new(look: Look) -> Page {
        Page { out: String::new(), look: Look { width: look.width.max(40), ..look } }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.look.width
    }

    /// The first lines of a screen: a title in bold and parts that are not broken. Those that don't fit begin a line at column `hang`.
    pub fn head(&mut self, title: &str, parts: &[String], hang: usize) {
        let mut lines = vec![format!("{title} ")];
        for part in parts {
            match lines.last_mut() {
                Some(line) if line.chars().count() + 3 + part.chars().count() <= self.look.width => {
                    line.push_str(&format!("   {part}"));
                }
                _ => lines.push(format!("{:hang$}{part}", "")),
            }
        }
        for line in &lines {
            match line.strip_prefix(title) {
                // a flow puts one of these spaces between the two
                Some(rest) => {
                    self.flow(hang, &[(Style::Bold, title), (Style::Plain, rest.get(1..).unwrap_or_default())])
                }
                None => self.flow(hang, &[(Style::Plain, line)]),
            }
        }
    }

    /// A paragraph: wrapped lines start at column `hang`. Runs of blanks within a line are kept. Names of others may be in it: what a
    /// terminal would obey is escaped.
    pub fn flow(&mut self, hang: usize, spans: &[(Style, &str)]) {
        let spans: Vec<(Style, String)> = spans.iter().map(|(style, text)| (*style, sentence(*text))).collect();
        let mut column = 0;
        let mut at_start = true;
        let words = spans.iter().flat_map(|(style, text)| text.split(' ').map(|w| (*style, w)));
        for (style, mut word) in words {
            let length = word.chars().count();
            let room = self.look.width.saturating_sub(column + usize::from(!at_start));
            if length > room && column > hang {
                self.out.truncate(self.out.trim_end_matches(' ').len());
                self.out.push('\n');
                self.out.push_str(&" ".repeat(hang));
                (column, at_start) = (hang, true);
            }
            if at_start && column == hang && hang > 0 && word.is_empty() {
                continue;
            }
            if !at_start {
                self.out.push(' ');
                column += 1;
            }
            // a word longer than a line is broken
            while word.chars().count() > self.look.width.saturating_sub(column) && column > 0
                || word.chars().count() > self.look.width
            {
                // earlier pieces may have gone past the edge: then nothing of this word fits here
                let room = self.look.width.saturating_sub(column);
                let cut = word.char_indices().nth(room).map_or(word.len(), |(i, _)| i);
                let (head, tail) = word.split_at(cut);
                self.put(style, head);
                self.out.push('\n');
                self.out.push_str(&" ".repeat(hang));
                (column, word) = (hang, tail);
            }
            self.put(style, word);
            column += word.chars().count();
            at_start = false;
        }
        self.out.truncate(self.out.trim_end_matches(' ').len());
        self.out.push('\n');
    }

    /// One line that isn't broken, however long it is: a command to be pasted.
    pub fn whole(&mut self, hang: usize, (style, name): (Style, &str), text: &str) {
        self.put(style, name);
        self.out.push_str(&" ".repeat(hang.saturating_sub(name.chars().count())));
        self.out.push_str(sentence(text).trim_end());
        self.out.push('\n');
    }

    /// An empty line.
    pub fn blank(&mut self) {
        self.out.push('\n');
    }

    /// One line that is cut rather than wrapped: a row of a table.
    pub fn row(&mut self, style: Style, text: &str) {
        let text = sentence(text);
        let cut = if text.chars().count() > self.look.width {
            format!("{}…", text.chars().take(self.look.width - 1).collect::<String>())
        } else {
            text
        };
        self.put(style, cut.trim_end());
        self.out.push('\n');
    }

    /// A list with a title and how many rows it has; nothing if it is empty. Columns are as wide as their widest entry; a first column that
    /// leaves no space for the others and the last one wrap.
    pub fn table(&mut self, title: &str, head: &[&str], rows: &[Row]) {
        if rows.is_empty() {
            return;
        }
        self.blank();
        self.flow(0, &[(Style::Bold, &format!("{title} ({})", crate::text::count(rows.len() as u64)))]);
        self.rows(head, rows);
    }

    /// The rows of a table.
    pub fn rows(&mut self, head: &[&str], rows: &[Row]) {
        let head = Row::of(head.iter().map(|h| (*h).to_owned()));
        let all = || std::iter::once(&head).chain(rows);
        let columns = rows.iter().map(|r| r.cells.len()).max().unwrap_or(0);
        let width = |n: usize| all().filter_map(|r| r.cells.get(n)).map(|c| c.chars().count()).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..columns).map(width).collect();
        // the last column may be as wide as it likes: there lines wrap
        let others: usize = widths.iter().skip(1).rev().skip(1).map(|w| w + 2).sum();
        let last = widths.last().copied().unwrap_or(0).min(24) + 2;
        if let Some(first) = widths.first_mut() {
            *first = (*first).min(self.look.width.saturating_sub(others + last + 2).max(12));
        }
        let hang = widths.iter().rev().skip(1).map(|w| w + 2).sum::<usize>() + 2;
        let hang = if columns > 1 && hang + 24 <= self.look.width { hang } else { 4 };
        let line = |r: &Row| {
            let cells = r.cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:<width$}"));
            cells.collect::<String>().trim_end().to_owned()
        };
        if !head.cells.is_empty() && !rows.is_empty() {
            self.flow(hang, &[(Style::Dim, &line(&head))]);
        }
        for row in rows {
            self.flow(hang, &[(Style::Plain, &line(row)), (Style::Warn, &row.remark)]);
        }
    }

    fn put(&mut self, style: Style, text: &str) {
        let code = style.code();
        if self.look.colour && !code.is_empty() && !text.is_empty() {
            self.out.push_str(&format!("{code}{text}\x1b[0m"));
        } else {
            self.out.push_str(text);
        }
    }

    /// How many lines there are.
    pub fn lines(&self) -> usize {
        self.out.lines().count()
    }

    /// The text.
    pub fn finish(self) -> String {
        self.out
    }
}

/// A text whose lines fit the width: a longer line continues at column `hang`, first where two blanks separate a command from its remark.
/// A command that is longer still is broken where a shell reads on.
pub fn wrapped(text: &str, width: usize, hang: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut rest = line.to_owned();
        while rest.chars().count() > width {
            let body = rest.get(hang..).unwrap_or_default().trim_end();
            if body.starts_with(' ') {
                break;
            }
            let Some(at) = body.find("  ").map(|at| at + hang) else { break };
            let (head, tail) = rest.split_at(at);
            fold(head, width, hang, &mut out);
            rest = format!("{:hang$}  {}", "", tail.trim_start());
        }
        fold(&rest, width, hang, &mut out);
    }
    out
}

/// A line, or the lines that it needs.
fn fold(line: &str, width: usize, hang: usize, out: &mut String) {
    if line.chars().count() <= width {
        out.push_str(line);
        out.push('\n');
        return;
    }
    match line.split_at_checked(hang).filter(|(_, body)| is_command(body)) {
        Some((label, command)) => {
            for (n, part) in command_lines(command, width.saturating_sub(hang)).iter().enumerate() {
                out.push_str(&format!("{:hang$}{part}\n", if n == 0 { label } else { "" }));
            }
        }
        None => {
            let typed = line.get(hang..).and_then(command_in).filter(|(before, _)| !before.is_empty());
            let said = typed.map_or(line, |(_, command)| line.strip_suffix(command).unwrap_or(line).trim_end());
            let mut page = Page::new(Look { width, colour: false });
            page.flow(hang, &[(Style::Plain, said)]);
            out.push_str(&page.finish());
            let lines = typed.map(|(_, command)| command_lines(command, width.saturating_sub(hang)));
            lines.unwrap_or_default().iter().for_each(|part| out.push_str(&format!("{:hang$}{part}\n", "")));
        }
    }
}

/// Is it something to be pasted?
fn is_command(text: &str) -> bool {
    const OURS: [&str; 6] = ["cleanup", "migrate", "plan", "rollback", "status", "verify"];
    let (first, rest) = text.strip_prefix("sudo ").unwrap_or(text).split_once(' ').unwrap_or_default();
    match first {
        // a sentence may begin with the name too
        "unaufs" => rest.split(' ').next().is_some_and(|verb| OURS.contains(&verb)),
        other => ["systemctl", "umount", "chattr"].contains(&other),
    }
}

/// A command in lines of so many columns. Each but the last ends with a backslash, so that all of them can be pasted together. What is quoted
/// isn't broken. With a word that is longer than a line all of it is one line.
pub fn command_lines(command: &str, room: usize) -> Vec<String> {
    if words(command).any(|word| word.chars().count() + "   \\".len() > room) {
        return vec![command.to_owned()];
    }
    let mut out = vec![String::new()];
    for word in words(command) {
        let Some(line) = out.last_mut() else { break };
        let blank = usize::from(!line.is_empty());
        if blank == 1 && line.chars().count() + blank + word.chars().count() + 2 > room {
            line.push_str(" \\");
            out.push(format!("  {word}"));
        } else {
            line.push_str(&" "[..blank]);
            line.push_str(word);
        }
    }
    out
}

/// Split at the blanks that aren't within single quotes.
fn words(command: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let at_blank = move |c: char| {
        quoted ^= c == '\'' && !escaped;
        escaped = c == '\\' && !quoted && !escaped;
        c == ' ' && !quoted
    };
    command.split(at_blank).filter(|w| !w.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flowed(width: usize, hang: usize, text: &str) -> String {
        let mut p = Page::new(Look { width, colour: false });
        p.flow(hang, &[(Style::Plain, text)]);
        p.finish()
    }

    #[test]
    fn nothing_is_wider_than_the_page() {
        let long = format!("WORDS      one two   three {} end", "x".repeat(150));
        for width in [40, 80, 100] {
            let out = flowed(width, 11, &long);
            assert!(out.lines().all(|l| l.chars().count() <= width), "{out}");
            assert_eq!(out.matches('x').count(), 150);
        }
        assert_eq!(flowed(80, 4, "a   b"), "a   b\n");
        let wrapped = flowed(40, 4, &format!("{} {}", "a".repeat(30), "b".repeat(20)));
        assert_eq!(wrapped, format!("{}\n    {}\n", "a".repeat(30), "b".repeat(20)));
    }

    #[test]
    fn names_of_others_are_harmless() {
        let mut p = Page::new(Look { width: 80, colour: true });
        p.flow(0, &[(Style::Plain, "a\u{1b}[2Jb\nc\u{202e}")]);
        p.row(Style::Plain, "a\rb");
        assert_eq!(p.finish(), "a\\u{1b}[2Jb\\u{a}c\\u{202e}\na\\u{d}b\n");
    }

    #[test]
    fn a_remark_goes_to_a_line_of_its_own_where_it_does_not_fit() {
        let text = format!("Next     unaufs verify --root {}  look", "/x".repeat(12));
        let want = format!("Next     unaufs verify --root {}\n           look\n", "/x".repeat(12));
        assert_eq!(wrapped(&text, 56, 9), want);
        assert_eq!(wrapped(&text, 80, 9), format!("{text}\n"));
        let long = wrapped(&format!("DONE     {}", "word ".repeat(30)), 60, 9);
        assert!(long.lines().count() > 2 && long.lines().all(|l| l.len() <= 60), "{long}");
        assert!(long.lines().skip(1).all(|l| l.starts_with("         word")), "{long}");
    }

    #[test]
    fn commands_can_be_pasted() {
        let command = format!("unaufs migrate --root /{} --only 'image=a b' nas.plan", "x".repeat(30));
        let lines = command_lines(&command, 50);
        assert!(lines.len() > 1 && lines.iter().all(|l| l.chars().count() <= 50), "{lines:?}");
        // as a shell reads them
        let pasted = lines.join("\n").replace("\\\n", "");
        let plain: Vec<&str> = pasted.split(' ').filter(|w| !w.is_empty()).collect();
        assert_eq!(plain.join(" "), command);
        assert!(lines.iter().any(|l| l.contains("'image=a b'")), "{lines:?}");
        let shown = wrapped(&format!("Next     {command}  do it"), 60, 9);
        assert!(shown.contains(" \\\n") && shown.ends_with("           do it\n"), "{shown}");
        assert_eq!(command_lines("unaufs status", 80), ["unaufs status"]);
        // a file of a container in the default root is longer than a line
        let long = format!("chattr -ia /var/lib/docker/containers/{}/hostconfig.json", "0".repeat(64));
        assert_eq!(command_lines(&long, 71).join("\n"), long);
        assert_eq!(wrapped(&format!("Fix      {long}"), 80, 9), format!("Fix      {long}\n"));
        let said = wrapped(&format!("Next     Remove the attribute: {long}"), 80, 9);
        assert_eq!(said, format!("Next     Remove the attribute:\n         {long}\n"));
    }

    #[test]
    fn colours_only_when_asked() {
        let mut p = Page::new(Look { width: 80, colour: true });
        p.flow(0, &[(Style::Bad, "BLOCK"), (Style::Plain, "x")]);
        assert_eq!(p.finish(), "\x1b[1;31mBLOCK\x1b[0m x\n");
    }
}
