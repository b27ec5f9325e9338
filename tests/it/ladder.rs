//! The modules form a ladder: `src/lib.rs` lists them, and each uses only those above it.

use std::path::Path;

/// All Rust files below a directory, with the top-level module that each belongs to.
fn sources(dir: &Path, out: &mut Vec<(String, std::path::PathBuf)>) {
    for entry in std::fs::read_dir(dir).expect("src") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let below = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).expect("below src");
            let top = below.iter().next().expect("a name").to_string_lossy();
            out.push((top.trim_end_matches(".rs").to_owned(), path));
        }
    }
}

/// The first names after each `crate::` of a line, also within braces: `crate::{disk, text}`.
fn used(line: &str) -> Vec<&str> {
    let name = |s: &str| s.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(s.len());
    let mut out = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => out.extend(list.split([',', '}']).map(str::trim).map(|s| &s[..name(s)])),
            None => out.push(&rest[..name(rest)]),
        }
    }
    out
}

#[test]
fn each_module_uses_only_those_above_it() {
    let lib = include_str!("../../src/lib.rs");
    let list = lib.split("```").nth(1).expect("the list in src/lib.rs");
    let order: Vec<&str> = list.lines().filter_map(|l| l.strip_prefix("//! ")?.split_whitespace().next()).collect();
    let rank = |module: &str| order.iter().position(|m| *m == module);
    let mut files = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut files);
    let mut upwards = Vec::new();
    let mut edges = 0;
    for (module, path) in files.iter().filter(|(m, _)| m != "lib" && m != "main") {
        let own = rank(module).unwrap_or_else(|| panic!("src/lib.rs does not list {module}"));
        let text = std::fs::read_to_string(path).expect("source");
        for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
            for name in used(line) {
                let Some(other) = rank(name) else { continue };
                edges += usize::from(other != own);
                if other > own {
                    upwards.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(edges > 200, "only {edges} uses were found: is the test still reading the sources?");
    assert!(upwards.is_empty(), "uses that go up the ladder:\n{}", upwards.join("\n"));
}
