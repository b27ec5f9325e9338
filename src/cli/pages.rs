//! What each verb is for, what it touches, how to undo it, with examples: once, for `--help` and for the manual pages.

use super::args::Args;
use crate::error::{Error, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use roff::{Inline, Roff, roman};
use std::fmt::Write;
use std::path::Path;

/// The words of one verb.
#[derive(Debug)]
pub struct Page {
    /// The verb, with the one that it belongs to: `report merge`.
    pub verb: &'static str,
    /// When to use it.
    pub when: &'static str,
    /// What it reads and writes.
    pub touches: &'static str,
    /// How to undo it.
    pub undo: &'static str,
    /// Command and what it does.
    pub examples: &'static [(&'static str, &'static str)],
}

/// The headings, as `--help` and the manual show them.
pub const HEADINGS: [&str; 3] = ["When to use it", "What it touches", "How to undo it"];

/// All verbs.
pub const PAGES: &[Page] = &[
    Page {
        verb: "inspect",
        when: "First of all, on a root of which you do not know what is in it: images, names, the tree of layers, containers and what is wrong \
               with them. It needs no plan and no target.",
        touches: "Reads ROOT. Writes nothing. Docker may run.",
        undo: "There is nothing to undo.",
        examples: &[
            ("unaufs inspect", "what is in /var/lib/docker"),
            ("unaufs inspect -v --root /mnt/disk/docker", "everything, of a disk from another host"),
            ("unaufs inspect --json", "the same for programs"),
        ],
    },
    Page {
        verb: "plan",
        when: "Before every migration, as often as you like, also days before on a host at work: it says what would move, what would stay behind \
               and why, how much room and about how much time it takes, and what blocks. A plan saved with --out is exactly what `migrate PLAN` \
               runs later; if the store has changed by then, that ends with exit code 13 and changes nothing.",
        touches: "Reads ROOT, /proc, /sys and Docker's configuration. Writes only the files that --out and --html name, and never inside \
                  ROOT. Docker may run.",
        undo: "There is nothing to undo.",
        examples: &[
            ("unaufs plan", "one screen: what would happen"),
            ("unaufs plan --out tonight.json --html tonight.html", "save it, and a page to look at"),
            ("unaufs plan --to btrfs -v", "another driver; nothing cut, and a line for each object"),
            ("unaufs plan --only 'image=registry.local/*' --exclude container=test-*", "a part of it"),
        ],
    },
    Page {
        verb: "migrate",
        when: "When the plan is to your liking and Docker is stopped. After a crash, a power cut or Ctrl-C run it again: it goes on where it stopped. \
               With --prepare it builds the image layers while Docker still runs, so that the rest takes seconds.",
        touches: "Builds the new store in ROOT/.unaufs/new, compares it with the old one, then switches by renames: the old store goes to \
                  ROOT/.unaufs/old, the new one takes its place, and the containers' configurations are replaced (the old ones are kept). Deletes nothing. \
                  Volumes, networks and logs stay where they are. Docker must be stopped, but for --prepare.",
        undo: "`unaufs rollback`, at any moment until `unaufs cleanup`, also in the middle. Docker must be stopped for it. What Docker changed on the \
               new store in images and containers is then set aside in ROOT/.unaufs/undone.",
        examples: &[
            ("unaufs migrate", "show the plan, ask, do it"),
            ("unaufs migrate tonight.json --yes", "a saved plan, without asking"),
            ("unaufs migrate --prepare --yes", "the long part, while Docker runs"),
            ("unaufs migrate --verify full --html record.html", "compare contents too; keep a record"),
        ],
    },
    Page {
        verb: "status",
        when: "Whenever you do not know where things stand: after a crash, before you start Docker, on a host that somebody else has begun.",
        touches: "Reads ROOT and the journal. Writes nothing.",
        undo: "There is nothing to undo.",
        examples: &[
            ("unaufs status", "where things stand, which ways back are open, what to do next"),
            ("unaufs status --json", "the same for programs"),
        ],
    },
    Page {
        verb: "verify",
        when: "Days after a migration, before `unaufs cleanup`; or after `migrate --no-switch`. It compares the merged view of each chain of layers, old \
               against new, path by path; the level full (the default) also the contents, and each layer's digest through tar-split. Once \
               Docker has run on the new store, what it may change itself (containers, tags, what it removed) is listed apart and is no difference.",
        touches: "Reads both stores. Writes one line into the journal if there is no difference.",
        undo: "There is nothing to undo.",
        examples: &[
            ("unaufs verify", "everything, contents and digests too"),
            ("unaufs verify --level fast", "names, owners, modes, times, attributes and sizes"),
        ],
    },
    Page {
        verb: "export",
        when: "When you want single images or containers out of a dead store, for another host or another tool, instead of moving the whole store.",
        touches: "Reads ROOT. Writes only what -o names. Docker may run, but then a running container's files may change meanwhile.",
        undo: "Remove what it wrote.",
        examples: &[
            ("unaufs export busybox:latest -o busybox.tar", "for docker load"),
            ("unaufs export --all --format oci --compress zstd -o all.tar", "every image"),
            ("unaufs export --container web --format rootfs -o web.tar", "what a container shows, as one file tree"),
        ],
    },
    Page {
        verb: "cp",
        when: "When you only need one file or directory out of a container whose Docker no longer starts. It takes the same paths as docker cp, and \
               works on every root that `export` reads, damaged ones too.",
        touches: "Reads ROOT. Writes only below DEST, and replaces files there only with --force. It takes no lock. Docker may run.",
        undo: "Remove what it wrote.",
        examples: &[
            ("unaufs cp -a db:/var/lib/mysql /srv/rescued", "a directory, with its owners"),
            ("unaufs cp web:/etc/nginx/nginx.conf .", "one file"),
            ("unaufs cp db:/var/lib/mysql - | tar t", "a tar on stdout"),
            ("unaufs cp --image app:1 /opt/app /srv", "from an image"),
        ],
    },
    Page {
        verb: "diff",
        when: "When you want to know which files of a container are its own: those that its image does not have. A is added, C changed, D deleted.",
        touches: "Reads ROOT. Writes nothing. It takes no lock. Docker may run.",
        undo: "There is nothing to undo.",
        examples: &[
            ("unaufs diff web", "as docker diff prints it"),
            ("unaufs diff -s web", "with sizes"),
            ("unaufs diff web --json", "for programs"),
        ],
    },
    Page {
        verb: "rollback",
        when: "When you do not like what you see after a migration, or want to drop one that was interrupted. It takes seconds and needs no free room. \
               Stop Docker first.",
        touches: "Moves the old store back from ROOT/.unaufs/old, with the old configurations and the times of the directories. The new store goes to \
                  ROOT/.unaufs/undone, or is deleted with --drop-new. What Docker wrote meanwhile into volumes, networks and logs stays, and is listed.",
        undo: "`unaufs migrate` again. What Docker wrote on the new store is in ROOT/.unaufs/undone, unless --drop-new deleted it.",
        examples: &[
            ("unaufs rollback", "ask, then put the old store back"),
            ("unaufs rollback --drop-new --yes", "as if nothing had happened: nothing of unaufs stays"),
        ],
    },
    Page {
        verb: "cleanup",
        when: "Days later, when your containers have run on the new store and you are sure. It refuses unless the new store was verified.",
        touches: "Deletes ROOT/.unaufs/old and what unaufs keeps beside it, and so frees the room that the old store takes. What stayed behind in the \
                  migration is deleted with it, and listed before it asks.",
        undo: "It cannot be undone: after it there is no way back.",
        examples: &[("unaufs cleanup", "say what goes, ask, delete it"), ("unaufs cleanup --yes", "without asking")],
    },
    Page {
        verb: "report",
        when: "When you have the plans of many hosts.",
        touches: "Reads the plans. Writes only the file that --html names.",
        undo: "There is nothing to undo.",
        examples: &[("unaufs report merge *.json --html fleet.html", "a row for each host, the worst first")],
    },
    Page {
        verb: "report merge",
        when: "When you have the plans of many hosts and want to see which ones are blocked, and why.",
        touches: "Reads the plans. Writes only the file that --html names.",
        undo: "There is nothing to undo.",
        examples: &[("unaufs report merge *.json --html fleet.html", "a row for each host, the worst first")],
    },
    Page {
        verb: "explain",
        when: "When a plan names a check, such as D01, and you want to know what it means and what to do.",
        touches: "Nothing.",
        undo: "There is nothing to undo.",
        examples: &[("unaufs explain D01", "what a damaged layer means")],
    },
    Page {
        verb: "demo",
        when: "Before you trust it with a store of yours: it makes a small sample store, and plans, migrates and verifies it before your eyes.",
        touches: "A temporary directory of its own, which it removes. Nothing of Docker; it needs no Docker and, for vfs, no root.",
        undo: "There is nothing to undo.",
        examples: &[
            ("unaufs demo", "overlay2, or vfs where that cannot be made"),
            ("unaufs demo --to vfs", "another driver"),
        ],
    },
    Page {
        verb: "completions",
        when: "Once, if you installed the bare binary: the packages bring the completions with them.",
        touches: "Nothing; it prints them.",
        undo: "Remove the file that you wrote.",
        examples: &[("unaufs completions bash > /etc/bash_completion.d/unaufs", "for bash")],
    },
    Page {
        verb: "man",
        when: "Once, if you installed the bare binary: the packages bring the pages with them.",
        touches: "Writes unaufs.8 and a page for each verb into the directory that you name.",
        undo: "Remove these files.",
        examples: &[("unaufs man /usr/local/share/man/man8", "then: man unaufs-migrate")],
    },
];

/// The exit codes ([`crate::error::Kind`]), as the manual shows them.
const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "done, or nothing to do"),
    ("1", "failed; the text says whether to resume or roll back"),
    ("2", "bad usage, or a confirmation is missing"),
    ("3", "done, but something named stayed behind"),
    ("4", "a check blocks; nothing was changed"),
    ("5", "the plan has work to do (only with --detailed-exitcode)"),
    ("6", "verification found a difference"),
    ("10", "no aufs or graph store at ROOT"),
    ("11", "busy: Docker runs on ROOT, something is mounted below it, or another unaufs works"),
    ("12", "not enough space or inodes"),
    ("13", "the saved plan is stale; what changed is listed"),
    ("14", "this kernel or file system cannot host the target"),
    ("130, 143", "interrupted at a safe point; unaufs migrate goes on"),
    ("other", "a failure"),
];

/// The order of things, for the page of the program itself.
const FRONT: &str = "Reads a data root that Docker wrote with the aufs driver, with no daemon and no aufs in the kernel, and rewrites it for overlay2, \
     overlay, vfs or btrfs. The new store is built beside the old one, compared with it, and put in its place by renames. Nothing of the old store is \
     deleted before `unaufs cleanup`; until then `unaufs rollback` puts it back.";

const FRONT_EXAMPLES: &[(&str, &str)] = &[
    ("unaufs plan --out tonight.json", "what would happen; changes nothing, Docker may run"),
    ("systemctl stop docker.socket docker.service", "Docker must be stopped from here on"),
    ("unaufs migrate tonight.json", "show the plan, ask, do it; after a crash run it again"),
    ("unaufs verify", "compare contents and digests too"),
    ("systemctl start docker.service", "and look at your containers"),
    ("unaufs rollback", "if you do not like what you see: put the old store back"),
    ("unaufs cleanup", "days later, if you do: delete the old store"),
];

impl Page {
    fn of(verb: &str) -> Option<&'static Page> {
        PAGES.iter().find(|p| p.verb == verb)
    }

    fn parts(&self) -> [(&'static str, &'static str); 3] {
        let [when, touches, undo] = HEADINGS;
        [(when, self.when), (touches, self.touches), (undo, self.undo)]
    }

    fn help(&self) -> String {
        let mut out = String::new();
        for (heading, text) in self.parts() {
            let _ = writeln!(out, "{heading}:\n  {text}\n");
        }
        out.push_str("Examples:");
        for (command, what) in self.examples {
            let _ = write!(out, "\n  {command}\n      {what}");
        }
        out
    }

    fn roff(&self, out: &mut Roff) {
        for (heading, text) in self.parts() {
            out.control("SH", [heading.to_uppercase().as_str()]).text(words(text));
        }
        listed(out, "EXAMPLES", self.examples);
    }
}

/// What stands in backticks is bold.
fn words(text: &str) -> Vec<Inline> {
    text.split('`').enumerate().map(|(n, part)| if n % 2 == 0 { roman(part) } else { roff::bold(part) }).collect()
}

fn listed(out: &mut Roff, heading: &str, rows: &[(&str, &str)]) {
    out.control("SH", [heading]);
    for (name, what) in rows {
        out.control("TP", []).text([roff::bold(*name)]).text([roman(*what)]);
    }
}

/// The command line with the words of each verb.
pub fn command() -> Command {
    fn add(parent: &str, command: Command) -> Command {
        command.mut_subcommands(|c| {
            let verb = format!("{parent}{}", c.get_name());
            let c = match Page::of(&verb) {
                Some(page) => c.after_long_help(page.help()),
                None => c,
            };
            add(&format!("{verb} "), c)
        })
    }
    add("", Args::command())
}

/// Writes a manual page for the program and for each verb.
pub fn write_manual(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| Error::io(format!("make {}", crate::text::path(dir)), e))?;
    let mut all = Args::command().disable_help_subcommand(true);
    all.build();
    let (mut front, mut end) = (Roff::new(), Roff::new());
    front.control("SH", ["DESCRIPTION"]).text(words(FRONT));
    listed(&mut front, "EXAMPLES", FRONT_EXAMPLES);
    listed(&mut end, "EXIT STATUS", EXIT_CODES);
    end.control("SH", ["ENVIRONMENT"]).text([roman(
        "Options may be given as variables too: --root as UNAUFS_ROOT, --docker-config as UNAUFS_DOCKER_CONFIG. The help of each verb names them.",
    )]);
    listed(
        &mut end,
        "FILES",
        &[(
            "/var/lib/docker/.unaufs",
            "The journal, the store that is being built, and the old store until unaufs cleanup.",
        )],
    );
    write_page(dir, &mut all, &front, &end)?;
    write_verbs(dir, "", &mut all)
}

fn write_verbs(dir: &Path, parent: &str, command: &mut Command) -> Result<()> {
    for c in command.get_subcommands_mut().filter(|c| !c.is_hide_set()) {
        let verb = format!("{parent}{}", c.get_name());
        let (mut words, mut end) = (Roff::new(), Roff::new());
        if let Some(page) = Page::of(&verb) {
            page.roff(&mut words);
        }
        end.control("SH", ["SEE ALSO"]).text([roman("unaufs(8), which lists the exit codes too")]);
        write_page(dir, c, &words, &end)?;
        write_verbs(dir, &format!("{verb} "), c)?;
    }
    Ok(())
}

/// The words of a verb come before its many options.
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
    fn each_verb_says_when_what_and_how_to_undo() {
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
            [".SH DESCRIPTION", ".SH EXAMPLES", ".SH ENVIRONMENT", ".SH \"OPTIONS OF EVERY VERB\""].iter().enumerate()
        {
            assert_eq!(front.matches(part).count(), 1, "{n}: {part} in {front}");
        }
        assert!(front.contains(".SH \"EXIT STATUS\"") && front.contains("unaufs\\-migrate(8)"), "{front}");
    }
}
