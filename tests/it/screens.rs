//! Each screen in each of its forms, as an admin reads it on a terminal of 80 columns, and of 120 where that reads differently. Kept as a whole,
//! so that no sentence changes unseen: two snapshots for each command.
//!
//! The store is the small one of `unaufs demo`, at /var/lib/docker. Each chapter is the life of one store: a row changes it if it must, then
//! shows a screen. What depends on the disk, the host and the clock is replaced first.

use crate::docs;
use crate::support::real;
use crate::words::is_advice;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use unaufs::demo::make_store;
use unaufs::disk::Dir;

/// The command and the form of its screen, what a shell does before, and the options.
type Row = (&'static str, &'static str, &'static str, &'static str);

const WEB: &str = "$(printf 'demo web' | sha256sum | cut -c1-64)";

const FINE: &[Row] = &[
    ("status", "nothing done yet", "", "status"),
    ("plan", "fine", "", "plan"),
    ("inspect", "fine", "", "inspect"),
    ("export", "fine", "", "export demo/shop:1 -o shop.tar"),
    ("export", "unknown name", "", "export demo/nothing -o nothing.tar"),
    ("diff", "fine", "", "diff shop"),
    ("diff", "with sizes", "", "diff -s shop"),
    ("diff", "unknown name", "", "diff nobody"),
    ("explain", "fine", "", "explain D13"),
    ("explain", "unknown check", "", "explain X99"),
    ("verify", "old store, fine", "", "verify"),
    ("rollback", "nothing to do", "", "rollback -y"),
    ("cleanup", "nothing to do", "", "cleanup -y"),
    ("migrate", "unconfirmed", "", "migrate -q"),
    ("migrate", "prepared", "", "migrate --prepare -y"),
    ("status", "prepared", "", "status"),
    ("migrate", "not switched", "", "migrate --no-switch -y"),
    ("status", "not switched", "", "status"),
    ("cleanup", "not switched", "", "cleanup -y"),
    ("migrate", "fine", "", "migrate -y"),
    ("status", "fine", "", "status"),
    ("verify", "fine, fast", "", "verify --level fast"),
    ("verify", "fine", "", "verify"),
    ("status", "all checked", "", "status"),
    ("plan", "nothing to do", "", "plan"),
    ("migrate", "nothing to do", "", "migrate -y"),
    ("inspect", "migrated", "", "inspect"),
    ("export", "migrated", "", "export demo/tool:2 -o tool.tar"),
    ("diff", "migrated", "", "diff shop"),
    ("rollback", "unconfirmed", "", "rollback"),
    ("status", "Docker ran", DOCKER_RUNS, "status"),
    ("verify", "Docker ran", "", "verify"),
    ("rollback", "fine", "", "rollback -y"),
    ("status", "undone", "", "status"),
    ("plan", "undone", "", "plan"),
    ("verify", "undone", "", "verify"),
    ("rollback", "undone", "", "rollback -y"),
    ("cleanup", "undone", "", "cleanup -y"),
    ("rollback", "undone, the rest dropped", "", "rollback --drop-new -y"),
    ("cleanup", "unconfirmed", "unaufs migrate -y", "cleanup"),
    ("cleanup", "fine", "", "cleanup -y"),
    ("status", "cleaned", "", "status"),
    ("cleanup", "cleaned", "", "cleanup -y"),
    ("rollback", "cleaned", "", "rollback -y"),
    ("verify", "cleaned", "", "verify"),
];

/// What a Docker leaves that has started, removed the container and written into a volume.
const DOCKER_RUNS: &str = "cd /var/lib/docker; rm -rf tmp; mkdir tmp; id=$(ls containers); \
    rm -r containers/$id image/overlay2/layerdb/mounts/$id overlay2/$id overlay2/$id-init; echo new > volumes/orders/_data/new";

const DAMAGED: &[Row] = &[
    ("plan", "damaged", "cd /var/lib/docker/aufs; rm -r diff/WEB; echo > mnt/WEB/stray", "plan"),
    ("inspect", "damaged", "", "inspect"),
    ("export", "damaged", "", "export demo/shop:1 -o shop.tar"),
    ("diff", "damaged", "", "diff shop"),
    ("verify", "old store, damaged", "", "verify"),
    ("migrate", "damaged", "", "migrate -y"),
    ("cleanup", "damaged store, unconfirmed", "", "cleanup"),
    ("verify", "damaged", "rm /var/lib/docker/overlay2/*/diff/etc/os-release", "verify"),
    ("status", "damaged", "", "status"),
    ("cleanup", "damaged", "", "cleanup -y"),
    ("rollback", "damaged", "", "rollback --drop-new -y"),
    (
        "verify",
        "both stores damaged",
        "unaufs migrate -y || true; echo x >> $(ls /var/lib/docker/overlay2/*/diff/etc/os-release)",
        "verify",
    ),
    ("status", "both stores damaged", "", "status"),
];

const BLOCKED: &[Row] = &[
    ("plan", "blocked", "echo '{\"storage-driver\": \"aufs\"}' > daemon.json", "plan --docker-config daemon.json"),
    ("migrate", "blocked", "", "migrate -q -y --docker-config daemon.json"),
    ("rollback", "lost", "unaufs migrate -y; rm -r /var/lib/docker/.unaufs/old/aufs", "rollback -y"),
    ("cleanup", "lost", "rm /var/lib/docker/.unaufs/journal.db", "cleanup -y"),
    ("status", "journal lost", "", "status"),
];

const INTERRUPTED: &[Row] = &[
    ("status", "interrupted", "unaufs migrate --prepare -y; state \"'building', prepared = 0\"", "status"),
    ("rollback", "interrupted, unconfirmed", "", "rollback"),
    ("verify", "interrupted", "", "verify"),
    ("rollback", "interrupted", "", "rollback -y"),
    ("status", "switch interrupted", "unaufs migrate --no-switch -y; state \"'switching'\"", "status"),
    ("plan", "switch interrupted", "", "plan"),
    ("cleanup", "switch interrupted", "", "cleanup -y"),
    ("migrate", "switch interrupted", "", "migrate -y"),
    ("status", "rollback interrupted", "state \"'undoing'\"", "status"),
    ("migrate", "rollback interrupted", "", "migrate -y"),
];

/// To another place, and to drivers that need more room.
const ELSEWHERE: &[Row] = &[
    ("plan", "to vfs", "", "plan --to vfs"),
    ("plan", "to overlay", "", "plan --to overlay"),
    ("plan", "to btrfs, on another file system", "[ $(stat -fc %T /var/lib/docker) != btrfs ]", "plan --to btrfs"),
    ("migrate", "to vfs", "", "migrate --to vfs -y"),
    ("status", "to vfs", "", "status"),
    ("verify", "to vfs", "", "verify"),
    ("rollback", "to vfs, unconfirmed", "", "rollback --drop-new"),
    ("rollback", "to vfs, the new store dropped", "", "rollback --drop-new -y"),
    ("plan", "to another place", "", "plan --target /var/lib/new"),
    ("status", "to another place, nothing done yet", "", "status --target /var/lib/new"),
    ("migrate", "to another place, not switched", "", "migrate --target /var/lib/new --no-switch -y"),
    ("status", "to another place, not switched", "", "status --target /var/lib/new"),
    ("migrate", "to another place", "", "migrate --target /var/lib/new -y"),
    ("status", "to another place", "", "status --target /var/lib/new"),
    ("status", "to another place, from the old root", "", "status"),
    ("verify", "to another place", "", "verify --target /var/lib/new"),
    ("rollback", "to another place, unconfirmed", "", "rollback --target /var/lib/new"),
    ("rollback", "to another place", "", "rollback --target /var/lib/new -y"),
    ("status", "to another place, undone", "", "status --target /var/lib/new"),
    (
        "cleanup",
        "to another place, unconfirmed",
        "unaufs migrate --target /var/lib/new -y",
        "cleanup --target /var/lib/new",
    ),
    ("cleanup", "to another place", "", "cleanup --target /var/lib/new -y"),
    ("status", "to another place, cleaned", "", "status --target /var/lib/new"),
];

/// The state of the run in the journal, as a crash would have left it.
const STATE: &str = "state() { python3 -c 'import sqlite3, sys; d = sqlite3.connect(\"/var/lib/docker/.unaufs/journal.db\"); \
    d.execute(\"UPDATE run SET state = \" + sys.argv[1]); d.commit()' \"$1\"; }";

/// The layers of the store. All other ids hold the times of files, which are those of this run.
const LAYERS: [&str; 4] = ["813ef47c2a17", "92ec6f37414f", "67d7390bad1c", "af28e045e17c"];

#[test]
fn each_screen_in_each_form() {
    if !real::able() {
        return;
    }
    let chapters = [FINE, DAMAGED, BLOCKED, INTERRUPTED, ELSEWHERE];
    let lives: Vec<_> =
        chapters.map(|rows| [80, 120].map(|width| std::thread::spawn(move || live(rows, width)))).into();
    let mut screens: BTreeMap<String, String> = BTreeMap::new();
    for (rows, [shown, wide]) in chapters.into_iter().zip(lives) {
        let [shown, wide] = [shown, wide].map(|life| life.join().expect("a chapter"));
        for ((screen, form, _, options), (shown, wide)) in rows.iter().zip(shown.into_iter().zip(wide)) {
            let head = format!("=== {form}: unaufs {options}");
            if wide != shown {
                *screens.entry(format!("{screen}_120")).or_default() += &format!("{head}\n{wide}\n");
            }
            *screens.entry((*screen).to_owned()).or_default() += &format!("{head}\n{shown}\n");
        }
    }
    for (screen, text) in screens {
        insta::assert_snapshot!(screen, text);
    }
}

/// All rows of a chapter, in one shell, on a terminal as wide.
fn live(rows: &[Row], width: usize) -> Vec<String> {
    let top = real::folder();
    let (root, folder) = (top.path().join("root"), top.path().join("cwd"));
    [&root, &folder].iter().for_each(|dir| fs::create_dir(dir).expect("a folder"));
    make_store(&Dir::open_named(&root).expect("the root")).expect("the store");
    let mut script = format!("hostname n; {STATE}\n");
    for (n, (_, form, before, options)) in rows.iter().enumerate() {
        // a migration that leaves something behind has been done too
        script += &format!(
            "(set -e; : ; {}) > said 2>&1 || [ $? = 3 ] || {{ echo '{form}'; cat said; exit 99; }}\n\
             COLUMNS={width} unaufs {options} > {n}.out 2> {n}.err; echo $? > {n}.code\n",
            before.replace("WEB", WEB)
        );
    }
    let ran = docs::run(&root, &folder, Path::new("/nowhere"), &script);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let read = |n: usize, what: &str| fs::read_to_string(folder.join(format!("{n}.{what}"))).expect("what it said");
    rows.iter()
        .enumerate()
        .map(|(n, row)| shown((row.1, width), ["out", "err", "code"].map(|what| read(n, what))))
        .collect()
}

fn shown((form, width): (&str, usize), [out, err, code]: [String; 3]) -> String {
    for line in out.lines() {
        assert!(line.chars().count() <= width, "{form}: too wide: {line}");
    }
    for line in out.lines().chain(err.lines()) {
        let mut ids = line.split(|c: char| !c.is_ascii_hexdigit());
        assert!(ids.all(|id| id.len() < 64), "{form}: a whole id: {line}");
    }
    // what an error advises
    for line in err.lines().filter_map(|line| line.strip_prefix("  ")) {
        assert!(is_advice(line), "{form}: {line}");
    }
    let code = if code == "0\n" { String::new() } else { format!("exit code {code}") };
    // what goes to stderr is broken on a terminal only
    steady(&out) + &steady(&err) + &code
}

/// Without what depends on the disk, the host and the clock.
fn steady(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let line = match line.find("store written by") {
            Some(at) => format!("{}store written by …", &line[..at]),
            None => line.to_owned(),
        };
        out += &(replaced(&line) + "\n");
    }
    untimed(out)
}

/// Without how long it took: that decides where its line is broken, too.
fn untimed(text: String) -> String {
    let is_time = |inner: &str| {
        let words: Vec<&str> = inner.split_whitespace().take(3).collect();
        let counted = words.first().is_some_and(|n| n.chars().all(|c| c.is_ascii_digit()));
        words.starts_with(&["under", "a"]) || counted && words.get(1).is_some_and(|w| w.starts_with("second"))
    };
    let Some((at, _)) = text.match_indices('(').find(|(at, _)| is_time(&text[at + 1..])) else { return text };
    let end = text[at..].find(')').map_or(text.len(), |end| at + end);
    format!("{} (TIME, SIZE{}", text[..at].trim_end(), &text[end..])
}

/// Sizes, times, ids of images and what the host decides.
fn replaced(line: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || ".,:-".contains(c);
    let (mut out, mut rest) = (String::new(), line);
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let word = rest[..end].trim_end_matches(['.', ',', ':']);
        rest = &rest[word.len()..];
        let next = rest.strip_prefix(' ').unwrap_or_default();
        let next = &next[..next.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(next.len())];
        let number = word.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ',');
        let is_id = word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit());
        if number && ["B", "KiB", "MiB", "GiB", "TiB"].contains(&next) {
            // a longer number has less space before it
            let padding = out.len() - out.trim_end_matches(' ').len();
            if padding > 2 && padding < out.len() {
                out.truncate(out.len() - padding + 2);
            }
            out.push_str("SIZE");
            rest = &rest[1 + next.len()..];
        } else if number && ["passed", "inodes"].contains(&next) {
            out.push('N');
        } else if word.len() >= 20 && word.contains('T') && word.ends_with('Z') {
            out.push_str("TIME");
        } else if is_id && !LAYERS.contains(&word) {
            out.push_str("(an image's)");
        } else {
            out.push_str(word);
        }
    }
    let mut out = out + rest;
    // which of two images a layer is named after is decided by their ids
    for (is, stays) in
        [("part of demo/tool:2", "part of demo/shop:1"), (" on xfs,", " on ext4,"), (" on btrfs,", " on ext4,")]
    {
        out = out.replace(is, stays);
    }
    out
}
