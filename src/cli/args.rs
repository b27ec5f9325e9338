//! The options, as clap reads them.

use crate::docker::driver::Target;
use crate::docker::driver::WrittenBy;
use crate::export::Format;
use crate::export::compress::Compressed;
use crate::plan::{Mode, Options};
use crate::verify::Level;
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

/// Moves a Docker data root that the aufs driver wrote to a living storage driver, offline.
#[derive(Debug, Parser)]
#[command(name = "unaufs", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Examples:
  unaufs inspect                        what is in /var/lib/docker
  unaufs plan                           what would happen; Docker may run
  systemctl stop docker docker.socket
  unaufs migrate                        do it, after asking
  systemctl start docker                and look at your containers
  unaufs rollback                       put the old store back, or
  unaufs cleanup                        delete it, days later")]
pub struct Args {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options of every verb")]
pub struct Global {
    /// Docker's data root
    #[arg(
        long,
        short = 'r',
        global = true,
        env = "UNAUFS_ROOT",
        default_value = "/var/lib/docker",
        value_name = "DIR"
    )]
    pub root: PathBuf,
    /// Build the new root in this directory, on another disk for example; ROOT is then only read
    ///
    /// DIR, absent or empty, becomes a complete data root: volumes, networks, containers, swarm, plugins and all else of ROOT go along
    /// by copy. Afterwards tell Docker: "data-root" in daemon.json. `status`, `verify`, `rollback` and `cleanup` then take either --root
    /// DIR or --root ROOT --target DIR. A rollback takes the new root away and touches nothing in ROOT; `cleanup` deletes the old layers
    /// and their metadata in ROOT (aufs/, image/aufs/, graph/) and never its volumes.
    #[arg(long, global = true, env = "UNAUFS_TARGET", value_name = "DIR")]
    pub target: Option<PathBuf>,
    /// One JSON document on stdout
    #[arg(long, global = true, env = "UNAUFS_JSON", conflicts_with = "jsonl")]
    pub json: bool,
    /// JSON lines on stdout while running, the result last
    #[arg(long, global = true, env = "UNAUFS_JSONL")]
    pub jsonl: bool,
    /// Only results and errors
    #[arg(long, short = 'q', global = true, env = "UNAUFS_QUIET")]
    pub quiet: bool,
    /// More detail: lists are not cut, a plan lists each object, each step is a line
    #[arg(long, short = 'v', global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Colours
    #[arg(long, global = true, env = "UNAUFS_COLOR", value_enum, default_value_t = ColorWhen::Auto, value_name = "WHEN")]
    pub color: ColorWhen,
    /// How progress is shown
    #[arg(long, global = true, env = "UNAUFS_PROGRESS", value_enum, default_value_t = ProgressWhen::Auto, value_name = "HOW")]
    pub progress: ProgressWhen,
    /// Append everything that is said, and each step, to this file
    #[arg(long, global = true, env = "UNAUFS_LOG", value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Threads [default: one a core]
    #[arg(long, short = 'j', global = true, env = "UNAUFS_JOBS", value_name = "N")]
    pub jobs: Option<NonZeroU8>,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorWhen {
    /// With colours, where the stream is a terminal or not?
    pub fn wanted(self, terminal: bool) -> bool {
        match self {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                let set = |name: &str| std::env::var_os(name);
                terminal && set("NO_COLOR").is_none_or(|v| v.is_empty()) && set("TERM").is_none_or(|t| t != "dumb")
            }
        }
    }
}

/// How to show progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressWhen {
    /// Bars on a terminal, elsewhere a line every ten seconds.
    Auto,
    /// Bars.
    Bar,
    /// A line every ten seconds.
    Plain,
    /// JSON lines on stderr.
    Json,
    /// Nothing.
    None,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what is in the store: images, tags, layer tree, containers, problems
    Inspect,
    /// Say what a migration would do: checks, steps, space and time; writes nothing inside ROOT
    #[command(visible_alias = "check")]
    Plan(PlanArgs),
    /// Move the store: build beside the old one, verify, switch; after a crash run it again, it goes on
    #[command(visible_alias = "resume")]
    Migrate(MigrateArgs),
    /// Say where things stand, which ways back are open, what to do next
    Status,
    /// Compare the new store with the old one, or one store with its own records
    Verify(VerifyArgs),
    /// Put the old store back
    Rollback(RollbackArgs),
    /// Delete the old store for good, after asking; refuses unless the new one was verified
    Cleanup(CleanupArgs),
    /// Write images and containers as archives for docker load, podman, skopeo and others
    Export(ExportArgs),
    /// Copy a file or directory out of a container or image, as docker cp; no Docker needed
    Cp(CpArgs),
    /// List what a container changed since its image, as docker diff; no Docker needed
    Diff(DiffArgs),
    /// Put the reports of many hosts together
    Report {
        /// What to do with them
        #[command(subcommand)]
        what: ReportVerb,
    },
    /// Say what a check id means, and what to do
    Explain {
        /// For example D01; without an ID, all checks are listed
        id: Option<String>,
    },
    /// Plan, migrate and verify a small sample store in a temporary directory, and show the result
    Demo(DemoArgs),
    /// Print the completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write these manual pages into a directory
    Man {
        /// The directory
        dir: PathBuf,
    },
}

/// What to do with reports.
#[derive(Debug, Subcommand)]
pub enum ReportVerb {
    /// Make one table of many plans, the worst first
    Merge {
        /// What `plan --json` or `plan --out` wrote
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The table as a page to look at
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

/// What `plan` and `migrate` share.
#[derive(Clone, Debug, clap::Args)]
pub struct What {
    /// The driver to move to
    #[arg(long, value_enum, default_value_t = Target::Overlay2, env = "UNAUFS_TO", value_name = "DRIVER")]
    pub to: Target,
    /// How layers get there
    #[arg(long, value_enum, default_value_t = Mode::Auto, env = "UNAUFS_MODE", value_name = "MODE")]
    pub mode: Mode,
    /// Only these: image=GLOB or container=GLOB
    #[arg(long, env = "UNAUFS_ONLY", value_name = "KIND=GLOB", value_parser = rule)]
    pub only: Vec<String>,
    /// Not these: image=GLOB or container=GLOB
    #[arg(long, env = "UNAUFS_EXCLUDE", value_name = "KIND=GLOB", value_parser = rule)]
    pub exclude: Vec<String>,
    /// A check that shall not block
    #[arg(long, env = "UNAUFS_ALLOW", value_name = "ID", value_parser = allowable)]
    pub allow: Vec<String>,
    /// Docker's configuration [default: /etc/docker/daemon.json]
    #[arg(long, env = "UNAUFS_DOCKER_CONFIG", value_name = "FILE")]
    pub docker_config: Option<PathBuf>,
}

impl What {
    /// As the plan holds it.
    pub fn options(&self, target: Option<&Path>) -> Options {
        let absolute =
            |p: &Path| std::path::absolute(p).unwrap_or_else(|_| p.to_owned()).to_string_lossy().into_owned();
        Options {
            to: self.to,
            mode: self.mode,
            target: target.map(absolute),
            only: self.only.clone(),
            exclude: self.exclude.clone(),
            allow: self.allow.clone(),
            docker_config: self.docker_config.as_ref().map(|p| p.to_string_lossy().into_owned()),
        }
    }
}

fn allowable(id: &str) -> Result<String, String> {
    match crate::checks::allowable(id) {
        true => Ok(id.to_ascii_uppercase()),
        false => Err("there is no such check, or it cannot be allowed; see `unaufs explain`".to_owned()),
    }
}

fn rule(s: &str) -> Result<String, String> {
    match s.split_once('=') {
        Some(("image" | "container", glob)) if !glob.is_empty() => Ok(s.to_owned()),
        _ => Err("give image=GLOB or container=GLOB".to_owned()),
    }
}

/// Options of `plan`.
#[derive(Clone, Debug, clap::Args)]
pub struct PlanArgs {
    /// What to plan.
    #[command(flatten)]
    pub what: What,
    /// Compare all drivers and modes
    #[arg(long, env = "UNAUFS_TARGETS")]
    pub targets: bool,
    /// Save the plan, for `migrate PLAN`
    #[arg(long, env = "UNAUFS_OUT", value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The same as a page to look at
    #[arg(long, env = "UNAUFS_HTML", value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Exit code 5 if there is something to do
    #[arg(long, env = "UNAUFS_DETAILED_EXITCODE")]
    pub detailed_exitcode: bool,
}

/// Options of `migrate`.
#[derive(Clone, Debug, clap::Args)]
pub struct MigrateArgs {
    /// A plan saved with `plan --out`; without it, plan now and ask
    pub plan: Option<PathBuf>,
    /// What to plan.
    #[command(flatten)]
    pub what: What,
    /// Only show the plan
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short = 'y', env = "UNAUFS_YES")]
    pub yes: bool,
    /// What is compared before the switch
    #[arg(long, value_enum, default_value_t = VerifyWhen::Fast, env = "UNAUFS_VERIFY", value_name = "LEVEL")]
    pub verify: VerifyWhen,
    /// Leave out what fails while running, and go on (exit code 3)
    #[arg(long, env = "UNAUFS_KEEP_GOING")]
    pub keep_going: bool,
    /// Build and verify the image layers while Docker runs; a later `migrate` does the rest in seconds
    #[arg(long, env = "UNAUFS_PREPARE", conflicts_with_all = ["no_switch", "dry_run"])]
    pub prepare: bool,
    /// The record of the migration as a page to look at
    #[arg(long, env = "UNAUFS_HTML", value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Build and verify, do not switch
    #[arg(long, env = "UNAUFS_NO_SWITCH")]
    pub no_switch: bool,
}

/// What is compared before the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerifyWhen {
    /// Nothing.
    None,
    /// All but content.
    Fast,
    /// Everything.
    Full,
}

impl VerifyWhen {
    /// As the engine takes it.
    pub fn level(self) -> Option<Level> {
        match self {
            VerifyWhen::None => None,
            VerifyWhen::Fast => Some(Level::Fast),
            VerifyWhen::Full => Some(Level::Full),
        }
    }
}

/// Options of `verify`.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// How much is compared
    #[arg(long, value_enum, default_value_t = Level::Full, env = "UNAUFS_LEVEL", value_name = "LEVEL")]
    pub level: Level,
    /// Check this driver's store by itself, also one that unaufs did not make: aufs, overlay2, overlay, vfs, btrfs
    #[arg(long, env = "UNAUFS_DRIVER", value_name = "DRIVER", value_parser = driver)]
    pub driver: Option<WrittenBy>,
}

/// Any driver whose store can be read.
fn driver(name: &str) -> Result<WrittenBy, String> {
    let mut all = std::iter::once(WrittenBy::Aufs).chain(Target::ALL.map(WrittenBy::Living));
    all.find(|d| d.name() == name).ok_or_else(|| "it is one of aufs, overlay2, overlay, vfs, btrfs".to_owned())
}

/// Options of `demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// The driver to move to [default: overlay2, or vfs where that cannot be made]
    #[arg(long, value_enum, value_name = "DRIVER")]
    pub to: Option<Target>,
}

/// Options of `export`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  unaufs export busybox:latest -o busybox.tar         docker load -i busybox.tar
  unaufs export --all -o - | ssh HOST docker load     no file on this disk
  unaufs export app --format oci-dir -o app           skopeo copy oci:app:latest …
  unaufs export --container web -o web.tar            the container as an image
  unaufs export --container web --format rootfs -o -  its files, as docker export")]
pub struct ExportArgs {
    /// Images: a tag, a repository, a digest, an id or its start, a glob
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// All images of the store
    #[arg(long, conflicts_with = "names", env = "UNAUFS_ALL")]
    pub all: bool,
    /// A container, as an image of its own; may be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',', env = "UNAUFS_CONTAINER")]
    pub container: Vec<String>,
    /// Where to; - is stdout
    #[arg(long, short = 'o', value_name = "FILE", env = "UNAUFS_OUTPUT")]
    pub output: PathBuf,
    /// In which form
    #[arg(long, value_enum, default_value_t = Format::Docker, env = "UNAUFS_FORMAT", value_name = "FORMAT")]
    pub format: Format,
    /// The whole archive (docker, rootfs) or each layer (oci, oci-dir)
    #[arg(long, value_enum, default_value_t = Compressed::None, env = "UNAUFS_COMPRESS", value_name = "HOW")]
    pub compress: Compressed,
    /// Which store, if ROOT has several
    #[arg(long, value_enum, env = "UNAUFS_DRIVER", value_name = "DRIVER")]
    pub driver: Option<StoreDriver>,
}

/// Options of `cp`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  unaufs cp web:/etc/nginx/nginx.conf .             one file
  unaufs cp -a db:/var/lib/mysql /srv/rescued       a directory, with its owners
  unaufs cp db:/var/lib/mysql/. /srv/mysql          what is in it
  unaufs cp db:/var/lib/mysql - | ssh HOST tar x    as a tar
  unaufs cp --image app:1 /opt/app /srv             from an image")]
pub struct CpArgs {
    /// NAME:PATH, a container's name, id or start of an id; with --image only PATH
    #[arg(value_name = "NAME:PATH")]
    pub source: OsString,
    /// Where to, as for docker cp; - is a tar on stdout
    #[arg(value_name = "DEST")]
    pub dest: PathBuf,
    /// Copy from this image: a tag, a digest, an id or its start
    #[arg(long, value_name = "REF")]
    pub image: Option<String>,
    /// If PATH is a symlink, copy what it leads to in the container
    #[arg(long, short = 'L')]
    pub follow_link: bool,
    /// Keep the container's owners and groups
    #[arg(long, short = 'a')]
    pub archive: bool,
    /// Replace files that exist
    #[arg(long, short = 'f')]
    pub force: bool,
    /// Which store, if ROOT has several
    #[arg(long, value_enum, env = "UNAUFS_DRIVER", value_name = "DRIVER")]
    pub driver: Option<StoreDriver>,
}

/// Options of `diff`.
#[derive(Clone, Debug, clap::Args)]
pub struct DiffArgs {
    /// A container: its name, id or start of an id
    pub name: String,
    /// With the size of each added or changed file
    #[arg(long, short = 's')]
    pub size: bool,
    /// Which store, if ROOT has several
    #[arg(long, value_enum, env = "UNAUFS_DRIVER", value_name = "DRIVER")]
    pub driver: Option<StoreDriver>,
}

/// The driver whose store is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum StoreDriver {
    /// The old store, also where a migration has parked it
    Aufs,
    Overlay2,
    Overlay,
    Vfs,
    Btrfs,
}

impl StoreDriver {
    /// The living driver, if it is one.
    pub fn living(self) -> Option<Target> {
        match self {
            StoreDriver::Aufs => None,
            StoreDriver::Overlay2 => Some(Target::Overlay2),
            StoreDriver::Overlay => Some(Target::Overlay),
            StoreDriver::Vfs => Some(Target::Vfs),
            StoreDriver::Btrfs => Some(Target::Btrfs),
        }
    }
}

/// Options of `rollback`.
#[derive(Clone, Debug, clap::Args)]
pub struct RollbackArgs {
    /// Delete the new store (with --target: all that is in DIR) instead of keeping it in .unaufs/undone
    #[arg(long, env = "UNAUFS_DROP_NEW")]
    pub drop_new: bool,
    /// Do not ask
    #[arg(long, short = 'y', env = "UNAUFS_YES")]
    pub yes: bool,
}

/// Options of `cleanup`.
#[derive(Clone, Debug, clap::Args)]
pub struct CleanupArgs {
    /// Do not ask
    #[arg(long, short = 'y', env = "UNAUFS_YES")]
    pub yes: bool,
}
