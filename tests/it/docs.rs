//! README and docs/ hold: commands are run on a real store and say what the page says, every other command parses, links lead somewhere.
//!
//! ````text
//! ```console              run, in order, all of a page on one copy of the store at /var/lib/docker; then compared:
//! $ unaufs status
//! Nothing has been … at   … within a line: anything; a line of … alone: any lines
//! …
//! exit code 4             the last line, where it is not 0
//! ```
//! ```console stand-in     run too, on a copy of its own; what a test cannot have (a live systemd, apt, another host) is played by `stand-in`
//! ````
//!
//! In every other block, and in `code spans`, what begins with `unaufs ` is parsed too.

use crate::support::real::{self, Ran};
use clap::Parser;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const HOME: &str = env!("CARGO_MANIFEST_DIR");

fn pages() -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = fs::read_dir(Path::new(HOME).join("docs"))
        .expect("docs/")
        .map(|e| e.expect("a page").path())
        .chain(fs::read_dir(Path::new(HOME).join("docs/dev")).expect("docs/dev/").map(|e| e.expect("a page").path()))
        .filter(|p| p.extension().is_some_and(|e| e == "md"))
        .collect();
    out.push(Path::new(HOME).join("README.md"));
    out.sort();
    out
}

struct Block {
    kind: String,
    line: usize,
    text: Vec<String>,
}

/// Fenced and indented blocks, and the text between them.
fn blocks(page: &str) -> (Vec<Block>, String) {
    let (mut out, mut prose) = (Vec::new(), String::new());
    let mut open: Option<Block> = None;
    for (n, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(kind)) => open = Some(Block { kind: kind.trim().to_owned(), line: n + 1, text: Vec::new() }),
            (Some(_), Some(_)) => out.extend(open.take()),
            (Some(block), None) => block.text.push(line.to_owned()),
            (None, None) => match line.strip_prefix("    ") {
                Some(code) => out.push(Block { kind: String::new(), line: n + 1, text: vec![code.to_owned()] }),
                None => prose += &format!("{line}\n"),
            },
        }
    }
    assert!(open.is_none(), "a block that does not end");
    (out, prose)
}

// --- commands that are only parsed

/// The words of each command of ours in a line of a shell. Two spaces begin a remark.
fn commands(line: &str) -> Vec<Vec<String>> {
    let line = line.trim_start().trim_start_matches("$ ").trim_start_matches("# ");
    let line = line.split("  ").next().unwrap_or_default();
    let parts = line.split([';', '|']).flat_map(|p| p.split("&&"));
    parts
        .map(|p| p.split(['>', '<']).next().unwrap_or_default().trim())
        .map(|p| p.strip_prefix("sudo ").unwrap_or(p))
        .filter(|p| p.starts_with("unaufs "))
        .map(|p| p.split_whitespace().map(|w| w.trim_matches(['\'', '"']).to_owned()).collect())
        .collect()
}

/// Does it parse? A word such as `[--to DRIVER]` or `…` represents what may follow.
fn parses(words: &[String]) -> Result<(), String> {
    use clap::error::ErrorKind::*;
    const SHORT: [clap::error::ErrorKind; 3] =
        [MissingRequiredArgument, MissingSubcommand, DisplayHelpOnMissingArgumentOrSubcommand];
    let words = words.iter().take_while(|w| !w.starts_with('[') && *w != "…" && *w != "...");
    match unaufs::cli::args::Args::try_parse_from(words) {
        Err(e) if e.use_stderr() && !SHORT.contains(&e.kind()) => Err(e.to_string()),
        _ => Ok(()),
    }
}

#[test]
fn every_command_exists() {
    let mut n = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let (blocks, prose) = blocks(&text);
        let spans = prose.split('`').skip(1).step_by(2).filter(|s| s.starts_with("unaufs ")).flat_map(commands);
        for words in blocks.iter().flat_map(|b| &b.text).flat_map(|l| commands(l)).chain(spans) {
            n += 1;
            if let Err(e) = parses(&words) {
                panic!("{}: {}: {e}", page.display(), words.join(" "));
            }
        }
    }
    assert!(n > 50, "only {n} commands were found");
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for link in text.split("](").skip(1).filter_map(|s| s.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") {
                assert!(page.with_file_name(file).exists(), "{}: {link} is not there", page.display());
            }
        }
    }
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    for bad in ["$ unaufs plan --no-such-option", "unaufs migrat", "true && unaufs cleanup --force  # remark"] {
        let found = commands(bad);
        assert_eq!(found.len(), 1, "{bad}");
        assert!(parses(&found[0]).is_err(), "{bad}");
    }
    assert_eq!(commands("unaufs verify; unaufs cleanup   days later").len(), 2);
    for good in ["unaufs plan [--to DRIVER]", "unaufs explain", "unaufs plan --out x.json > /dev/null"] {
        assert!(parses(&commands(good)[0]).is_ok(), "{good}");
    }
}

// --- commands that are run

/// Runs a line of a shell where the store is /var/lib/docker and the host is called nas; programs in `first` come before the system's.
pub fn run(store: &Path, folder: &Path, first: &Path, line: &str) -> Ran {
    let script = "hostname nas && mount -t tmpfs none /var/lib && mkdir -p /var/lib/docker \
                  && mount --bind \"$0\" /var/lib/docker \
                  && { [ ! -d /etc/docker ] || mount -t tmpfs none /etc/docker; } && exec sh -c \"$1\"";
    let program = Path::new(env!("CARGO_BIN_EXE_unaufs")).parent().expect("a folder");
    let mut c = Command::new("/usr/bin/unshare");
    c.args(["--mount", "--uts", "--propagation", "private", "sh", "-c", script]).arg(store).arg(line);
    c.current_dir(folder).stdin(Stdio::null()).env("UNAUFS_PROGRESS", "none").env("COLUMNS", "100");
    c.env("PATH", format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", first.display(), program.display()));
    c.env_remove("UNAUFS_ROOT").env("REPOSITORY", HOME).env("STATE", first);
    Ran::of(c.output().expect("unshare"))
}

/// Who is played by `stand-in`.
const PLAYED: [&str; 8] = ["ansible-playbook", "apt", "cargo", "docker", "man", "reboot", "ssh", "systemctl"];

/// A directory of them; the project's own scripts are played where a page calls them, in the directory that commands are run in.
fn stand_ins(beside: &Path, folder: &Path) -> PathBuf {
    let programs = beside.join("programs");
    let play = |at: PathBuf| {
        fs::create_dir_all(at.parent().expect("a folder")).expect("a folder");
        std::os::unix::fs::symlink(Path::new(HOME).join("tests/it/docs/stand-in"), at).expect("a link");
    };
    PLAYED.iter().for_each(|name| play(programs.join(name)));
    [".release/build.sh", "tests/run.sh"].iter().for_each(|script| play(folder.join(script)));
    programs
}

/// Does a line fit one in which `…` represents anything?
fn fits(pattern: &str, line: &str) -> bool {
    let (pattern, line) = (pattern.trim_end(), line.trim_end());
    let parts: Vec<&str> = pattern.split('…').collect();
    let [first, middle @ .., last] = &parts[..] else { return pattern == line };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in middle {
        match rest.find(part) {
            Some(i) => rest = &rest[i + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Do the lines fit? A line of `…` alone represents any number of lines.
fn all_fit(pattern: &[String], lines: &[&str]) -> bool {
    match pattern.split_first() {
        None => lines.is_empty(),
        Some((p, rest)) if p.trim() == "…" => (0..=lines.len()).any(|i| all_fit(rest, &lines[i..])),
        Some((p, rest)) => lines.split_first().is_some_and(|(l, more)| fits(p, l) && all_fit(rest, more)),
    }
}

/// The command of each prompt, what it says, and its exit code.
fn steps(block: &Block) -> Vec<(String, Vec<String>, i32)> {
    let mut out: Vec<(String, Vec<String>, i32)> = Vec::new();
    for line in &block.text {
        match (line.strip_prefix("$ "), out.last_mut()) {
            (Some(command), _) => out.push((command.to_owned(), Vec::new(), 0)),
            (None, Some((_, lines, code))) => match line.strip_prefix("exit code ").and_then(|n| n.parse().ok()) {
                Some(n) => *code = n,
                None => lines.push(line.clone()),
            },
            (None, None) => panic!("line {}: the block does not begin with a prompt", block.line),
        }
    }
    // an empty line before the next prompt is the page's
    out.iter_mut().for_each(|(_, lines, _)| {
        while lines.last().is_some_and(|l| l.trim().is_empty()) {
            lines.pop();
        }
    });
    out
}

#[test]
fn commands_say_what_the_pages_say() {
    if !real::able() {
        return;
    }
    let mut n = 0;
    for page in pages() {
        let (blocks, _) = blocks(&fs::read_to_string(&page).expect("a page"));
        let mut store = None;
        for block in blocks.iter().filter(|b| b.kind == "console") {
            let store = store.get_or_insert_with(|| real::small().unpack());
            let folder = store.beside.join("cwd");
            fs::create_dir_all(&folder).expect("a folder");
            for (command, lines, code) in steps(block) {
                n += 1;
                let ran = run(&store.root, &folder, Path::new("/nowhere"), &command);
                let said = format!("{}{}", ran.stdout, ran.stderr);
                let said: Vec<&str> = said.trim_end().lines().collect();
                assert!(
                    ran.code == code && all_fit(&lines, &said),
                    "{}: {command}\nexit code {}, the page says {code}\n--- it says\n{}\n--- the page says\n{}",
                    page.display(),
                    ran.code,
                    said.join("\n"),
                    lines.join("\n")
                );
            }
        }
    }
    assert!(n >= 12, "only {n} commands were run");
}

/// Each such block is the whole of something that an admin does, so it has a store of its own, and ends where a command fails.
#[test]
fn commands_for_a_whole_host_work() {
    if !real::able() {
        return;
    }
    let mut n = 0;
    for page in pages() {
        let (blocks, _) = blocks(&fs::read_to_string(&page).expect("a page"));
        for block in blocks.iter().filter(|b| b.kind.starts_with("console") && b.kind != "console") {
            assert_eq!(block.kind, "console stand-in", "{}, line {}", page.display(), block.line);
            let store = real::small().unpack();
            let folder = store.beside.join("cwd");
            fs::create_dir_all(&folder).expect("a folder");
            let programs = stand_ins(&store.beside, &folder);
            let lines: Vec<String> = steps(block).into_iter().map(|(command, ..)| command).collect();
            n += lines.len();
            let ran = run(&store.root, &folder, &programs, &format!("set -ex\n{}", lines.join("\n")));
            let (at, line) = (page.display(), block.line);
            assert_eq!(ran.code, 0, "{at}, line {line}:\n{}{}", ran.stdout, ran.stderr);
        }
    }
    assert!(n >= 30, "only {n} commands were run");
}

/// What is on no page, or no longer, is refused: else the test above could not fail.
#[test]
fn stand_ins_refuse_what_is_wrong() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let folder = store.beside.join("cwd");
    fs::create_dir_all(&folder).expect("a folder");
    let programs = stand_ins(&store.beside, &folder);
    for wrong in [
        "systemctl enable unaufs.service",
        "systemctl restrat docker",
        "apt install ./target/release-files/unaufs_0.0.9_amd64.deb",
        "docker info --no-such-option",
        "man unaufs-move",
        "./tests/run.sh --fast",
        ".release/build.sh riscv64",
        "reboot",
        "export ANSIBLE_COLLECTIONS_PATH=/usr/share/unaufs/ansible; ansible-playbook -i inventory unaufs.migrate.no_such",
        "export ANSIBLE_COLLECTIONS_PATH=/usr/share/unaufs/ansible; ansible-playbook -i inventory unaufs.migrate.plan -e unaufs_x=1",
    ] {
        let ran = run(&store.root, &folder, &programs, wrong);
        assert_ne!(ran.code, 0, "{wrong}: {}{}", ran.stdout, ran.stderr);
        assert_ne!(ran.code, 127, "{wrong}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn lines_fit() {
    assert!(fits("a … c", "a b c") && fits("…", "x") && fits("a…", "a") && !fits("a … c", "a b d") && !fits("a", "ab"));
    let page = ["one", "…", "three"].map(str::to_owned);
    assert!(
        all_fit(&page, &["one", "three"])
            && all_fit(&page, &["one", "2", "2", "three"])
            && !all_fit(&page, &["one", "2"])
    );
}
