//! What each command is for, what it changes, how to undo it, with examples: once, for `--help` and for the manual pages.

use super::args::Args;
use crate::error::{Error, Result};
use clap::{Arg, Command, CommandFactory};
use clap_mangen::Man;
use roff::{Inline, Roff, roman};
use std::fmt::Write;
use std::path::Path;

/// The texts of one command.
#[derive(Debug)]
pub struct Page {
    /// The command, with the one that it belongs to: `report merge`.
    pub verb: &'static str,
    /// When to use it.
    pub when: &'static str,
    /// What it changes.
    pub changes: &'static str,
    /// How to undo it.
    pub undo: &'static str,
    /// Command and what it does.
    pub examples: &'static [(&'static str, &'static str)],
}

/// The headings, as `--help` and the manual show them.
pub const HEADINGS: [&str; 3] = ["When to use it", "What it changes", "How to undo it"];

const NOTHING: &str = "Nothing to undo.";

/// All commands.
pub const PAGES: &[Page] = &[
    Page {
        verb: "inspect",
        when: "First, if you don't know what a data root contains. It needs no plan and no target.",
        changes: "Nothing. It reads ROOT, also while Docker is running.",
        undo: NOTHING,
        examples: &[
            ("unaufs inspect", "images, containers, layers, problems"),
            ("unaufs inspect -v --root /mnt/disk/docker", "full lists, of another host's disk"),
            ("unaufs inspect --json", "for programs"),
        ],
    },
    Page {
        verb: "plan",
        when: "Before every migration. It shows the images and containers that will be migrated, the problems, the space and the time. \
               A plan saved with --out is exactly what `migrate PLAN` does later. It doesn't prove that image layers are whole: \
               migrate compares their files with the headers of their tars, and names the damage.",
        changes: "Nothing in ROOT. It writes only the files that --out and --html name. Docker can be running.",
        undo: NOTHING,
        examples: &[
            ("unaufs plan", "can this store be migrated?"),
            ("unaufs plan --out nas.plan --html nas.html", "save the plan and a page"),
            ("unaufs plan --to btrfs --targets", "another driver; compare all"),
            ("unaufs plan --only 'image=registry.local/*'", "only some images"),
        ],
    },
    Page {
        verb: "migrate",
        when: "When the plan is fine and Docker is stopped. After a crash, a power cut or Ctrl-C, run it again to continue. \
               --prepare does the long part while Docker is running.",
        changes: "It builds and verifies the new store in ROOT/.unaufs/new, then switches over. The old store is moved to \
                  ROOT/.unaufs/old. Nothing is deleted. Volumes, networks and logs stay in place.",
        undo: "`unaufs rollback`, at any time until `unaufs cleanup`.",
        examples: &[
            ("unaufs migrate", "show the plan, ask, do it"),
            ("unaufs migrate nas.plan --yes", "a saved plan, without asking"),
            ("unaufs migrate --prepare --yes", "the long part, while Docker is running"),
            ("unaufs migrate --verify full", "compare all contents too"),
        ],
    },
    Page {
        verb: "status",
        when: "After a crash, before you start Docker, or on a host that somebody else has migrated.",
        changes: "Nothing. It reads ROOT and the journal.",
        undo: NOTHING,
        examples: &[("unaufs status", "the state, and the next command"), ("unaufs status --json", "for programs")],
    },
    Page {
        verb: "verify",
        when: "After a migration and before `unaufs cleanup`, or after `migrate --no-switch`. It compares the new store with the old one \
               and with the layers' digests. Changes that Docker made since the migration are listed separately.",
        changes: "Nothing in the stores. It records the result in the journal.",
        undo: NOTHING,
        examples: &[
            ("unaufs verify", "all contents and digests"),
            ("unaufs verify --level fast", "names, owners, modes, times and sizes"),
        ],
    },
    Page {
        verb: "export",
        when: "To move single images or containers to another host or tool, or to save them from a damaged store.",
        changes: "Nothing in ROOT. It writes only the file that -o names. Stop a container before you export it.",
        undo: "Delete the file.",
        examples: &[
            ("unaufs export busybox:latest -o busybox.tar", "docker load -i busybox.tar"),
            ("unaufs export --all -o - | ssh HOST docker load", "all images to another host"),
            ("unaufs export app --format oci-dir -o app", "for skopeo, podman and others"),
            ("unaufs export --container web -o web.tar", "a container as an image"),
            ("unaufs export --container web --format rootfs -o -", "its files, as docker export"),
        ],
    },
    Page {
        verb: "cp",
        when: "To get a file or directory from a container whose Docker doesn't start. Paths work as in docker cp.",
        changes: "Nothing in ROOT. It writes only to DEST. It replaces files there only with --force.",
        undo: "Delete the copies.",
        examples: &[
            ("unaufs cp web:/etc/nginx/nginx.conf .", "one file"),
            ("unaufs cp -a db:/var/lib/mysql /srv/rescued", "a directory, with its owners"),
            ("unaufs cp db:/var/lib/mysql - | tar t", "a tar on stdout"),
            ("unaufs cp --image app:1 /opt/app /srv", "from an image"),
        ],
    },
    Page {
        verb: "diff",
        when: "To see which files a container added (A), changed (C) or deleted (D).",
        changes: "Nothing. It reads ROOT, also while Docker is running.",
        undo: NOTHING,
        examples: &[
            ("unaufs diff web", "the same lines as docker diff"),
            ("unaufs diff -s web", "with sizes"),
            ("unaufs diff web --json", "for programs"),
        ],
    },
    Page {
        verb: "rollback",
        when: "To return to the old store after a migration, or to drop an interrupted one. Stop Docker first. It takes seconds and \
               needs no free space.",
        changes: "It moves the old store back into place. The new store is kept in ROOT/.unaufs/undone, or deleted with --drop-new. \
                  Volumes, networks and logs keep their changes.",
        undo: "`unaufs migrate` again. Changes that Docker made on the new store are in ROOT/.unaufs/undone.",
        examples: &[
            ("unaufs rollback", "ask, then put the old store back"),
            ("unaufs rollback --drop-new --yes", "delete the new store, without asking"),
        ],
    },
    Page {
        verb: "cleanup",
        when: "Days after the migration, when your containers work and you don't need the old store.",
        changes: "It verifies the new store, lists what it will delete, and asks. Then it deletes the old store, with everything \
                  that wasn't migrated.",
        undo: "You can't undo it.",
        examples: &[("unaufs cleanup", "list, ask, delete"), ("unaufs cleanup --yes", "without asking")],
    },
    Page {
        verb: "report",
        when: "When you have plans of many hosts.",
        changes: "Nothing in ROOT. It writes only the file that --html names.",
        undo: NOTHING,
        examples: &[("unaufs report merge *.plan --html fleet.html", "one row for each host")],
    },
    Page {
        verb: "report merge",
        when: "When you have plans of many hosts and want to see which hosts are blocked, and why.",
        changes: "Nothing in ROOT. It writes only the file that --html names.",
        undo: NOTHING,
        examples: &[("unaufs report merge *.plan --html fleet.html", "one row for each host")],
    },
    Page {
        verb: "explain",
        when: "When a plan names a check, such as D01.",
        changes: "Nothing.",
        undo: NOTHING,
        examples: &[("unaufs explain D01", "a damaged layer"), ("unaufs explain", "list all checks")],
    },
    Page {
        verb: "demo",
        when: "To watch a migration of a small sample store before you use unaufs on your own.",
        changes: "Nothing of Docker. It uses a temporary directory and deletes it. Docker isn't needed.",
        undo: NOTHING,
        examples: &[("unaufs demo", "overlay2, or vfs without root"), ("unaufs demo --to vfs", "another driver")],
    },
    Page {
        verb: "completions",
        when: "Once, if you installed only the program file. The packages include the completions.",
        changes: "Nothing. It prints the completions.",
        undo: "Delete the file that you wrote.",
        examples: &[("unaufs completions bash > /etc/bash_completion.d/unaufs", "for bash")],
    },
    Page {
        verb: "man",
        when: "Once, if you installed only the program file. The packages include the manual.",
        changes: "It writes unaufs.8 and a page for each command into DIR.",
        undo: "Delete these files.",
        examples: &[("unaufs man /usr/local/share/man/man8", "then: man unaufs-migrate")],
    },
];

/// The exit codes ([`crate::error::Kind`]), as the manual shows them.
pub const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "done, or nothing to do"),
    ("1", "failed, or could not be checked; the text says whether to continue or roll back"),
    ("2", "wrong usage, contradicting options, a missing confirmation, or cancelled"),
    ("3", "done, but something stayed behind or was left out"),
    ("4", "a check blocks; nothing was changed"),
    ("5", "the plan has work to do (only with --detailed-exitcode)"),
    ("6", "verification found a difference"),
    ("10", "no aufs store in ROOT"),
    ("11", "busy: Docker uses ROOT, something is mounted in it, or another unaufs is running"),
    ("12", "not enough space or inodes"),
    ("13", "the saved plan or the store has changed; the text lists the changes"),
    ("14", "this kernel or file system can't hold the target"),
    ("130, 143", "interrupted; run the same command again to continue"),
    ("other", "failed"),
];

/// The description of the program.
const FRONT: &str = "Converts a Docker data root from the aufs storage driver to overlay2, overlay, vfs or btrfs, with Docker stopped and \
     without aufs in the kernel. unaufs builds the new store next to the old one, verifies it, and switches over. It keeps the old store \
     until `unaufs cleanup`; `unaufs rollback` puts the old store back.";

/// `--target`, which needs more than its line in the list of options.
const TARGET: &str = "With --target DIR, unaufs builds a complete new data root in DIR, for example on another disk. DIR must be empty or not \
     exist. Volumes, networks, containers, swarm and plugins are copied. ROOT is only read. Afterwards, set data-root in daemon.json. \
     `unaufs rollback --root DIR` deletes or keeps the new root and doesn't change ROOT.";

const FRONT_EXAMPLES: &[(&str, &str)] = &[
    ("unaufs plan --out nas.plan", "check; Docker can be running"),
    ("systemctl stop docker.socket docker.service", "stop Docker"),
    ("unaufs migrate nas.plan", "do it"),
    ("unaufs verify", "compare all contents too"),
    ("systemctl start docker", "look at your containers"),
    ("unaufs rollback", "put the old store back, or"),
    ("unaufs cleanup", "later: delete the old store"),
];

/// Below the options of each command.
const GLOBAL: &str = "Global options (--root DIR, --json, -q, -v and others): unaufs --help";
/// Below the options of the program.
const ENVIRONMENT: &str =
    "Options can be set in the environment, for example --docker-config as\nUNAUFS_DOCKER_CONFIG.";
/// Columns of the texts.
const WIDTH: usize = 78;

impl Page {
    fn of(verb: &str) -> Option<&'static Page> {
        PAGES.iter().find(|p| p.verb == verb)
    }

    fn parts(&self) -> [(&'static str, &'static str); 3] {
        let [when, changes, undo] = HEADINGS;
        [(when, self.when), (changes, self.changes), (undo, self.undo)]
    }

    fn help(&self) -> String {
        let mut out = String::new();
        for (heading, text) in self.parts() {
            let _ = write!(out, "{heading}:\n{}", wrapped(text));
        }
        out.push('\n');
        out.push_str(&examples(self.examples));
        out
    }

    fn roff(&self, out: &mut Roff) {
        for (heading, text) in self.parts() {
            out.control("SH", [heading.to_uppercase().as_str()]).text(words(text));
        }
        listed(out, "EXAMPLES", self.examples);
    }
}

/// Lines of at most [`WIDTH`] columns, indented.
fn wrapped(text: &str) -> String {
    let mut out = String::from(" ");
    let mut column = 1;
    for word in text.split_whitespace() {
        if column + 1 + word.chars().count() > WIDTH {
            out.push_str("\n ");
            column = 1;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.chars().count();
    }
    out.push('\n');
    out
}

/// Commands and remarks; a remark that doesn't fit next to the command is below it.
fn examples(rows: &[(&str, &str)]) -> String {
    let width = rows.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let mut out = String::from("Examples:");
    for (command, what) in rows {
        let _ = match width + what.len() + 5 <= WIDTH {
            true => write!(out, "\n  {command:<width$}   {what}"),
            false => write!(out, "\n  {command}\n      {what}"),
        };
    }
    out
}

/// Text in backticks is bold.
fn words(text: &str) -> Vec<Inline> {
    text.split('`').enumerate().map(|(n, part)| if n % 2 == 0 { roman(part) } else { roff::bold(part) }).collect()
}

fn listed(out: &mut Roff, heading: &str, rows: &[(&str, &str)]) {
    out.control("SH", [heading]);
    for (name, what) in rows {
        out.control("TP", []).text([roff::bold(*name)]).text([roman(*what)]);
    }
}

/// The command line with the texts of each command. Global options are listed once, by the program's own help.
pub fn command() -> Command {
    const TEMPLATE: &str = "{about-with-newline}\n{usage-heading} {usage}\n\n{before-help}{all-args}{after-help}";
    let mut all = each("", Args::command(), &|verb, c| {
        let c = c.mut_args(compact);
        match Page::of(verb) {
            Some(page) => c.before_help(page.help()).after_help(GLOBAL).help_template(TEMPLATE),
            None => c.after_help(format!("{}\n\n{ENVIRONMENT}", examples(FRONT_EXAMPLES))),
        }
    });
    // only now do the commands have the global options
    all.build();
    let all = each("", all, &|_, c| match c.get_name() {
        "help" => c.about("Show the help of a command"),
        _ => c,
    });
    each("", all, &|verb, c| if verb.is_empty() { c } else { c.mut_args(hide_global) })
}

/// Changes a command and all below it.
fn each(verb: &str, command: Command, change: &dyn Fn(&str, Command) -> Command) -> Command {
    change(verb, command).mut_subcommands(|c| {
        let verb = format!("{verb} {}", c.get_name());
        each(verb.trim_start(), c, change)
    })
}

fn hide_global(a: Arg) -> Arg {
    if a.is_global_set() { a.hide(true) } else { a }
}

/// An option in one or two lines: its values follow its text, and the name of its variable is left out.
fn compact(a: Arg) -> Arg {
    let a = a.hide_env(true);
    let values = a.get_possible_values();
    if a.is_hide_set() || values.is_empty() || !a.get_action().takes_values() {
        return a;
    }
    let names: Vec<&str> = values.iter().filter(|v| !v.is_hide_set()).map(|v| v.get_name()).collect();
    let text = a.get_help().map(|h| h.to_string()).unwrap_or_default();
    let (text, default) = text.split_at(text.find(" [default").unwrap_or(text.len()));
    a.hide_possible_values(true).help(format!("{text}: {}{default}", names.join(", ")))
}

/// Writes a manual page for the program and for each command.
pub fn write_manual(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| Error::io(format!("make {}", crate::text::path(dir)), e))?;
    let mut all = Args::command().disable_help_subcommand(true);
    all.build();
    // -h and --help are one page
    all = each("", all, &|_, c| {
        c.subcommand_help_heading("COMMANDS").mut_arg("help", |a| a.help("Print help").long_help("Print help"))
    });
    let (mut front, mut end) = (Roff::new(), Roff::new());
    front.control("SH", ["DESCRIPTION"]).text(words(FRONT));
    front.control("SH", ["ANOTHER DISK"]).text(words(TARGET));
    listed(&mut front, "EXAMPLES", FRONT_EXAMPLES);
    listed(&mut end, "EXIT STATUS", EXIT_CODES);
    end.control("SH", ["ENVIRONMENT"]).text([roman(
        "Options can be set in the environment, for example --root as UNAUFS_ROOT and --docker-config as UNAUFS_DOCKER_CONFIG.",
    )]);
    listed(
        &mut end,
        "FILES",
        &[(
            "/var/lib/docker/.unaufs",
            "The journal, the new store while it is built, and the old store until unaufs cleanup.",
        )],
    );
    write_page(dir, &mut all, &front, &end)?;
    write_verbs(dir, "", &mut all)
}

fn write_verbs(dir: &Path, parent: &str, command: &mut Command) -> Result<()> {
    for c in command.get_subcommands_mut().filter(|c| !c.is_hide_set()) {
        *c = std::mem::take(c).mut_args(hide_global);
        let verb = format!("{parent}{}", c.get_name());
        let (mut words, mut end) = (Roff::new(), Roff::new());
        if let Some(page) = Page::of(&verb) {
            page.roff(&mut words);
        }
        end.control("SH", ["SEE ALSO"]).text([roman("unaufs(8): global options and exit codes")]);
        write_page(dir, c, &words, &end)?;
        write_verbs(dir, &format!("{verb} "), c)?;
    }
    Ok(())
}

/// The texts of a command come before its options.
fn write_page(dir: &Path, command: &mut Command, words: &Roff, end: &Roff) -> Result<()> {
    let usage = command.render_usage().to_string();
    let mut synopsis = Roff::new();
    synopsis.control("SH", ["SYNOPSIS"]).text([roff::bold(usage.trim_start_matches("Usage: "))]);
    let source = concat!("unaufs ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).section("8").manual("Administration").source(source).date("");
    let file = dir.join(man.get_filename());
    let write = || -> std::io::Result<()> {
        let mut out = Vec::new();
        man.render_title(&mut out)?;
        man.render_name_section(&mut out)?;
        synopsis.to_writer(&mut out)?;
        words.to_writer(&mut out)?;
        if command.get_subcommands().any(|c| !c.is_hide_set()) {
            man.render_subcommands_section(&mut out)?;
        }
        man.render_options_section(&mut out)?;
        end.to_writer(&mut out)?;
        std::fs::write(&file, out)
    };
    write().map_err(|e| Error::io(format!("write {}", file.display()), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &str, c: &Command, out: &mut Vec<String>) {
        for s in c.get_subcommands().filter(|s| s.get_name() != "help") {
            let verb = format!("{parent}{}", s.get_name());
            names(&format!("{verb} "), s, out);
            out.push(verb);
        }
    }

    #[test]
    fn each_command_says_when_what_and_how_to_undo() {
        let mut verbs = Vec::new();
        names("", &Args::command(), &mut verbs);
        let mut known: Vec<&str> = PAGES.iter().map(|p| p.verb).collect();
        verbs.sort();
        known.sort_unstable();
        assert_eq!(verbs, known, "the verbs and their pages");
        for verb in &verbs {
            let mut c = command();
            let found = verb.split(' ').try_fold(&mut c, |c, name| c.find_subcommand_mut(name));
            let help = found.unwrap_or_else(|| panic!("no verb {verb}")).render_long_help().to_string();
            for heading in HEADINGS.iter().chain(&["Examples"]) {
                let at =
                    help.find(&format!("{heading}:")).unwrap_or_else(|| panic!("{verb}: no '{heading}' in {help}"));
                let text = help[at..].lines().nth(1).unwrap_or_default();
                assert!(text.trim().len() > 6, "{verb}: nothing below '{heading}'");
            }
        }
    }

    /// As many lines, of 80 columns, for a command with few options.
    const LINES: usize = 40;

    #[test]
    fn help_is_short_and_fits() {
        for page in PAGES {
            let c = command();
            let all = || std::iter::once("unaufs").chain(page.verb.split(' '));
            let told = |flag| c.clone().try_get_matches_from(all().chain([flag])).expect_err(flag).to_string();
            let (short, long) = (told("-h"), told("--help"));
            let found = all().skip(1).try_fold(&c, |c, name| c.find_subcommand(name));
            let found = found.unwrap_or_else(|| panic!("no command {}", page.verb));
            let options = found.get_arguments().filter(|a| !a.is_hide_set()).count();
            assert!(long.lines().all(|l| l.chars().count() <= 80), "{}: {long}", page.verb);
            let lines = long.lines().count();
            assert!(lines <= LINES || options > 8, "{}: {lines} lines for {options} options\n{long}", page.verb);
            assert_eq!(short, long, "-h and --help are one page");
            assert!(!long.contains("--progress"), "{}: global options are in one place", page.verb);
        }
        let front = command().term_width(80).render_long_help().to_string();
        assert!(front.contains("--progress") && front.contains("Global options:"), "{front}");
    }

    /// Removed because each was a second way to do one thing, or broke a promise.
    #[test]
    fn removed_options_are_gone() {
        let mut c = command();
        let mut all = c.render_long_help().to_string();
        for page in PAGES {
            let found = page.verb.split(' ').try_fold(&mut c, |c, name| c.find_subcommand_mut(name));
            all.push_str(&found.map(|c| c.render_long_help().to_string()).unwrap_or_default());
        }
        for gone in ["--state", "--textfile", "--nice", "--itemize", "move,", "Prometheus"] {
            assert!(!all.contains(gone), "{gone} in {all}");
        }
    }

    #[test]
    fn examples_are_commands_of_ours() {
        for page in PAGES {
            assert!(!page.examples.is_empty(), "{}", page.verb);
            for (command, _) in page.examples {
                let words = command
                    .split(" > ")
                    .next()
                    .unwrap_or_default()
                    .split(" | ")
                    .next()
                    .unwrap_or_default()
                    .split(' ')
                    .map(|w| w.trim_matches('\''));
                assert!(command.starts_with(&format!("unaufs {}", page.verb)), "{command}");
                if let Err(e) = self::command().try_get_matches_from(words) {
                    panic!("{command}: {e}");
                }
            }
        }
    }

    #[test]
    fn manual_pages_have_the_same_parts() {
        let dir = tempfile::tempdir().expect("a directory");
        write_manual(dir.path()).expect("pages");
        for page in PAGES {
            let file = dir.path().join(format!("unaufs-{}.8", page.verb.replace(' ', "-")));
            let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            for heading in HEADINGS {
                assert!(text.contains(&format!(".SH \"{}\"", heading.to_uppercase())), "{heading} in {text}");
            }
            assert!(text.contains(".SH EXAMPLES") && text.contains(".SH OPTIONS"), "{text}");
        }
        let front = std::fs::read_to_string(dir.path().join("unaufs.8")).expect("the front page");
        for (n, part) in
            [".SH DESCRIPTION", ".SH EXAMPLES", ".SH ENVIRONMENT", ".SH \"GLOBAL OPTIONS\""].iter().enumerate()
        {
            assert_eq!(front.matches(part).count(), 1, "{n}: {part} in {front}");
        }
        assert!(front.contains(".SH \"EXIT STATUS\"") && front.contains("unaufs\\-migrate(8)"), "{front}");
    }
}
