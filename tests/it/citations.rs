//! Each fact that a comment cites is in the repository: `FORMATS 11.5` is section 11, item 5 of docs/dev/formats.md.

use std::collections::BTreeSet;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The sections of docs/dev/formats.md: `## 6.` is 6, `### 6.2` is 6.2, and item 5 of section 11 is 11.5.
fn sections() -> BTreeSet<String> {
    let text = std::fs::read_to_string(format!("{ROOT}/docs/dev/formats.md")).expect("docs/dev/formats.md");
    let mut out = BTreeSet::new();
    let mut section = String::new();
    let number = |s: &str| -> String { s.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect() };
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            let found = number(title).trim_end_matches('.').to_owned();
            section = found.split('.').next().unwrap_or_default().to_owned();
            out.insert(found);
        } else if !section.is_empty()
            && let Some(item) = number(line).strip_suffix('.').filter(|d| !d.is_empty() && !d.contains('.'))
        {
            out.insert(format!("{section}.{item}"));
        }
    }
    out
}

fn visit(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            visit(&path, found);
        } else if path.extension().is_some_and(|e| ["rs", "sh", "py", "md", "sql"].iter().any(|k| e == *k)) {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for (number, line) in text.lines().enumerate() {
                for (at, word) in line.match_indices("FORMATS ") {
                    let rest = &line[at + word.len()..];
                    let list: String =
                        rest.chars().take_while(|c| c.is_ascii_digit() || ".,to and".contains(*c)).collect();
                    let numbers = list
                        .split([',', ' '])
                        .map(|n| n.trim_matches('.'))
                        .filter(|n| n.starts_with(|c: char| c.is_ascii_digit()));
                    found.extend(numbers.map(|n| (format!("{}:{}", path.display(), number + 1), n.to_owned())));
                }
            }
        }
    }
}

#[test]
fn each_cited_section_is_there() {
    let sections = sections();
    assert!(sections.contains("6.2") && sections.contains("11.34"), "{sections:?}");
    let mut cited = Vec::new();
    for dir in ["src", "tests", "migrations"] {
        visit(&Path::new(ROOT).join(dir), &mut cited);
    }
    cited.retain(|(place, _)| !place.contains("citations.rs"));
    assert!(cited.len() > 80, "only {} citations were found", cited.len());
    let missing: Vec<_> = cited.iter().filter(|(_, n)| !sections.contains(n)).collect();
    assert!(missing.is_empty(), "cited, but not in docs/dev/formats.md: {missing:#?}");
}
