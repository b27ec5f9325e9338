//! Plain English: no archaic or translated words in help, pages and messages, and no command that doesn't exist.

use clap::Command;
use std::fs;
use std::path::{Path, PathBuf};
use unaufs::checks::TABLE;
use unaufs::cli::pages::{PAGES, command};

const HOME: &str = env!("CARGO_MANIFEST_DIR");

/// Words that a native speaker stumbles over.
const FORBIDDEN: &[&str] = &[
    "shall",
    "anew",
    "meanwhile",
    "beside",
    "mended",
    "in force",
    "to your liking",
    "likewise",
    "goes on",
    "goes along",
    "go along",
    "comes out",
    "hangs on",
    "lies",
    "stands",
    "tells",
    "will do",
    "whoever",
    "of which",
    "for it",
    "as it is",
    "nothing of it",
    "folder",
    "folders",
];

/// What is harmless in a comment: "does an entry account for it", "a layer of which Docker has no record".
const IN_COMMENTS: &[&str] = &["for it", "as it is", "of which"];

/// File, a part of the text, and why it is fine.
const ALLOWED: &[(&str, &str, &str)] =
    &[("src/plan/new_root/repoint.rs", "\"folders\"", "a key of another program's file")];

/// All source files of the program, without their tests.
pub fn sources() -> Vec<(PathBuf, String)> {
    let (mut out, mut todo) = (Vec::new(), vec![Path::new(HOME).join("src")]);
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if path.is_dir() && name != "tests" {
                todo.push(path);
            } else if name.ends_with(".rs") && !name.starts_with("tests") {
                let text = fs::read_to_string(&path).expect("a source file");
                let program = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
                out.push((path.strip_prefix(HOME).expect("below").to_owned(), program));
            }
        }
    }
    out.sort();
    out
}

/// The string literals of a source file, each with its line. Comments and characters are skipped; a line that continues in the next is joined.
pub fn literals(source: &str) -> Vec<(usize, String)> {
    let bytes = source.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let rest = &source[at..];
        let skip = match bytes[at] {
            b'/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            b'\'' => character(rest),
            b'r' if rest.starts_with("r#\"") => rest.find("\"#").map_or(rest.len(), |end| end + 2),
            b'"' => {
                let end = end_of_string(rest);
                let line = source[..at].matches('\n').count() + 1;
                out.push((line, joined(&rest[1..end.saturating_sub(1).max(1)])));
                end
            }
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        at += skip.max(1);
    }
    out
}

/// A character literal, or the mark of a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(1, |(i, _)| i + 3),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(1, |(i, _)| i + 1),
        None => 1,
    }
}

fn end_of_string(rest: &str) -> usize {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| out + part.trim_start())
}

/// The forbidden words in a text, as whole words.
fn bad_words(text: &str) -> Vec<&'static str> {
    let lower = text.to_lowercase();
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '{' && c != '}');
    let is_in = |word: &str| {
        lower
            .match_indices(word)
            .any(|(i, _)| edge(lower[..i].chars().next_back()) && edge(lower[i + word.len()..].chars().next()))
    };
    FORBIDDEN.iter().copied().filter(|w| is_in(w)).collect()
}

fn allowed(file: &Path, text: &str) -> bool {
    ALLOWED.iter().any(|(f, part, _)| file == Path::new(f) && text.contains(part))
}

#[test]
fn messages_are_plain_english() {
    let mut bad = Vec::new();
    for (file, text) in sources() {
        for (line, literal) in literals(&text) {
            // one word is a key, not a sentence
            if literal.contains(' ') && !allowed(&file, &literal) {
                let found = bad_words(&literal);
                bad.extend(found.iter().map(|w| format!("{}:{line}: \"{w}\" in {literal}", file.display())));
            }
        }
    }
    assert!(bad.is_empty(), "{} texts:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn comments_are_plain_english() {
    let mut bad = Vec::new();
    for (file, text) in sources() {
        for (n, line) in text.lines().enumerate() {
            let Some((_, comment)) = line.split_once("// ").or_else(|| line.split_once("//! ")) else { continue };
            let found = bad_words(comment).into_iter().filter(|w| !IN_COMMENTS.contains(w));
            bad.extend(found.map(|w| format!("{}:{}: \"{w}\" in {comment}", file.display(), n + 1)));
        }
    }
    assert!(bad.is_empty(), "{} comments:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn help_is_plain_english() {
    let mut all = command();
    let mut texts = vec![all.render_long_help().to_string()];
    for page in PAGES {
        let found = page.verb.split(' ').try_fold(&mut all, |c, name| c.find_subcommand_mut(name));
        texts.push(found.expect("a command").render_long_help().to_string());
    }
    for text in texts {
        assert_eq!(bad_words(&text), Vec::<&str>::new(), "{text}");
    }
    for c in TABLE {
        for text in [Some(c.title), Some(c.explain), c.fix, c.effect].into_iter().flatten() {
            assert_eq!(bad_words(text), Vec::<&str>::new(), "{}: {text}", c.id);
        }
    }
}

#[test]
fn pages_are_plain_english() {
    let mut bad = Vec::new();
    let list = |dir: &str| fs::read_dir(Path::new(HOME).join(dir)).expect(dir).map(|e| e.expect("a page").path());
    let docs = list("docs").chain(list("docs/dev"));
    let readme = ["README.md", "CHANGELOG.md"].map(|n| Path::new(HOME).join(n));
    for page in docs.filter(|p| p.extension().is_some_and(|e| e == "md" || e == "json")).chain(readme) {
        let text = fs::read_to_string(&page).expect("a page");
        let schema = page.extension().is_some_and(|e| e == "json");
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !schema || l.contains("\"description\"")) {
            let found = bad_words(line);
            bad.extend(found.iter().map(|w| format!("{}:{}: \"{w}\" in {line}", page.display(), n + 1)));
        }
    }
    assert!(bad.is_empty(), "{} lines:\n{}", bad.len(), bad.join("\n"));
}

/// The options that follow `unaufs COMMAND` in a text and that the command doesn't have. Prose after the options is not looked at.
fn unknown_options(text: &str, all: &Command) -> Vec<String> {
    let mut out = Vec::new();
    for (i, _) in text.match_indices("unaufs ") {
        let mut words = text[i..]
            .split_whitespace()
            .skip(1)
            .map(|w| w.trim_matches(['`', '"', '\'', ',', '.', ';', ':', ')', '…']));
        let Some(c) = words.next().and_then(|name| all.find_subcommand(name)) else { continue };
        let mut before = 0;
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix('-') else {
                before += 1;
                // a file or an image may come before an option, a sentence not
                if before > 1 {
                    break;
                }
                continue;
            };
            let name = name.trim_start_matches('-').split('=').next().unwrap_or_default();
            let known = all.get_arguments().chain(c.get_arguments()).find(|a| {
                a.get_long() == Some(name) || a.get_short().is_some_and(|s| name.len() == 1 && name.starts_with(s))
            });
            match known {
                Some(a) if a.get_action().takes_values() && !word.contains('=') => drop(words.next()),
                Some(_) => {}
                None if name.is_empty() || name == "help" || name == "version" => {}
                None => out.push(format!("unaufs {} {word}", c.get_name())),
            }
        }
    }
    out
}

#[test]
fn commands_in_messages_exist() {
    let all = command();
    let (mut bad, mut n) = (Vec::new(), 0);
    for (file, text) in sources() {
        for (line, literal) in literals(&text) {
            n += literal.matches("unaufs ").count();
            let place = format!("{}:{line}", file.display());
            bad.extend(unknown_options(&literal, &all).into_iter().map(|o| format!("{place}: {o}")));
            // in backticks it is a command for certain
            for span in literal.split('`').skip(1).step_by(2).filter_map(|s| s.strip_prefix("unaufs ")) {
                let name = span.split_whitespace().next().unwrap_or_default();
                if !name.starts_with(['{', '-']) && all.find_subcommand(name).is_none() {
                    bad.push(format!("{place}: there is no command {name}"));
                }
            }
        }
    }
    assert!(n > 60, "only {n} were found");
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// What errors advise: the string literals in the argument of each `.hint(…)`.
fn hints(source: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    for (at, _) in source.match_indices(".hint(") {
        let argument = &source[at + ".hint".len()..];
        let (mut depth, mut end) = (0, 0);
        while end < argument.len() {
            match argument.as_bytes()[end] {
                b'"' => end += end_of_string(&argument[end..]) - 1,
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            end += 1;
            if depth == 0 {
                break;
            }
        }
        let line = source[..at].matches('\n').count();
        out.extend(literals(&argument[..end]).into_iter().map(|(n, text)| (line + n, text)));
    }
    out
}

/// Is it a sentence or several, or a command that can be pasted? A last sentence may end with what is to be typed, after a colon.
pub fn is_advice(hint: &str) -> bool {
    const PROGRAMS: [&str; 4] = ["mkdir ", "systemctl ", "umount ", "unaufs "];
    let begins = hint.starts_with(|c: char| c.is_uppercase() || c == '`' || c == '{');
    let ends = hint.ends_with(['.', '?']) || hint.rsplit(". ").next().is_some_and(|last| last.contains(": "));
    let typed = PROGRAMS.iter().any(|p| hint.starts_with(p)) && !hint.ends_with('.');
    let ours = hint.starts_with("unaufs ") && hint.ends_with('.');
    begins && ends || typed || ours
}

#[test]
fn what_errors_advise_is_sentences_or_a_command() {
    let (mut bad, mut n) = (Vec::new(), 0);
    for (file, text) in sources() {
        for (line, hint) in hints(&text) {
            n += 1;
            if !is_advice(&hint) {
                bad.push(format!("{}:{line}: {hint}", file.display()));
            }
        }
    }
    assert!(n > 90, "only {n} were found");
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    for good in ["Move it away.", "umount {shown}", "Save a plan with: unaufs plan", "unaufs follows neither."] {
        assert!(is_advice(good), "{good}");
    }
    for wrong in
        ["move it away.", "Move it away", "Move it. Then try again", "try: unaufs plan", "--root X, or a new plan"]
    {
        assert!(!is_advice(wrong), "{wrong}");
    }
    let source = "e.hint(if x { \"One (1\" } else { \"two)\" }).loss(\"no\")\n.hint(f(\"three\"))";
    assert_eq!(hints(source).into_iter().map(|(_, h)| h).collect::<Vec<_>>(), ["One (1", "two)", "three"]);
}

#[test]
fn bad_words_and_commands_are_found() {
    assert_eq!(bad_words("It goes on, Meanwhile."), ["meanwhile", "goes on"]);
    assert_eq!(bad_words("besides, families, --folder_of {folder}"), Vec::<&str>::new());
    let source = "let a = 'x'; // \"no\"\nlet b: &'a str = \"one \\\n    two\"; let c = '\"'; f(\"three\")";
    assert_eq!(literals(source), [(2, "one two".to_owned()), (3, "three".to_owned())]);
    let all = command();
    assert_eq!(unknown_options("run `unaufs migrate --force`", &all), ["unaufs migrate --force"]);
    assert_eq!(unknown_options("see unaufs plan --html", &all), Vec::<String>::new());
    assert_eq!(unknown_options("unaufs export web -o web.tar --zip", &all), ["unaufs export --zip"]);
    assert_eq!(unknown_options("unaufs plan -v lists all; docker load --input x", &all), Vec::<String>::new());
}
