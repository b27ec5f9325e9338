//! The options, as clap reads them.

use crate::docker::driver::Target;
use crate::docker::driver::WrittenBy;
use crate::error::{Error, Kind};
use crate::export::Format;
use crate::export::compress::Compressed;
use crate::plan::{Mode, Options};
use crate::verify::Level;
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

/// Convert a Docker data root from aufs to overlay2, overlay, vfs or btrfs, with Docker stopped
#[derive(Debug, Parser)]
#[command(name = "unaufs", version, propagate_version = true, max_term_width = 80)]
pub struct Args {
    /// Global options.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Global options.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Docker's data root [default: the data-root of daemon.json, or /var/lib/docker]
    #[arg(
        long,
        short = 'r',
        global = true,
        env = "UNAUFS_ROOT",
        default_value = DEFAULT_ROOT,
        hide_default_value = true,
        value_name = "DIR"
    )]
    pub root: PathBuf,
    /// Why Docker's configuration, which may name another data root than the default, can't be read.
    #[arg(skip)]
    pub unread_config: Option<String>,
    /// Build a new data root in DIR
    #[arg(long, global = true, env = "UNAUFS_TARGET", value_name = "DIR")]
    pub target: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long, global = true, env = "UNAUFS_JSON", value_parser = flag)]
    pub json: bool,
    /// Print JSON lines; the last one is the result
    #[arg(long, global = true, env = "UNAUFS_JSONL", value_parser = flag)]
    pub jsonl: bool,
    /// Print only results and errors
    #[arg(long, short = 'q', global = true, env = "UNAUFS_QUIET", value_parser = flag)]
    pub quiet: bool,
    /// Print full lists and each step
    #[arg(long, short = 'v', global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colours
    #[arg(long, global = true, env = "UNAUFS_COLOR", value_enum, default_value_t = ColorWhen::Auto, value_name = "WHEN")]
    pub color: ColorWhen,
    /// How to show progress
    #[arg(long, global = true, env = "UNAUFS_PROGRESS", value_enum, default_value_t = ProgressWhen::Auto, value_name = "HOW")]
    pub progress: ProgressWhen,
    /// Append all messages and each step to this file
    #[arg(long, global = true, env = "UNAUFS_LOG", value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Number of threads [default: number of cores]
    #[arg(long, short = 'j', global = true, env = "UNAUFS_JOBS", value_name = "N", value_parser = jobs)]
    pub jobs: Option<NonZeroU8>,
}

impl Global {
    /// Does a program read stdout?
    pub fn for_programs(&self) -> bool {
        self.json || self.jsonl
    }
}

/// Where Docker keeps its data unless it is told otherwise.
pub const DEFAULT_ROOT: &str = "/var/lib/docker";

/// A flag in a variable. An empty variable is as good as none.
pub fn flag(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" => Ok(true),
        "" | "0" | "no" | "false" => Ok(false),
        _ => Err("use 1 or 0, yes or no, true or false".to_owned()),
    }
}

impl Args {
    /// What clap can't see: flags that are set to false contradict nothing.
    pub fn contradictions(&self) -> crate::error::Result<()> {
        let both = |a: &str, b: &str| {
            let e = Error::new(Kind::Usage, format!("{a} and {b} can't be used together"));
            Err(e.hint("Leave one of them out.").loss("Nothing was changed."))
        };
        match &self.verb {
            Verb::Migrate(a) if a.prepare && a.no_switch => both("--prepare", "--no-switch"),
            Verb::Migrate(a) if a.prepare && a.dry_run => both("--prepare", "--dry-run"),
            Verb::Export(a) if a.all && !a.names.is_empty() => both("--all", "NAME"),
            _ => Ok(()),
        }
    }

    /// Docker's configuration, if the command line or a variable names one.
    pub fn docker_config(&self) -> Option<&Path> {
        match &self.verb {
            Verb::Plan(a) => a.what.docker_config.as_deref(),
            Verb::Migrate(a) => a.what.docker_config.as_deref(),
            _ => None,
        }
    }
}

impl Verb {
    /// Does the command change something on the disk, so that a result that can't be printed is no failure?
    pub fn changes(&self) -> bool {
        match self {
            Verb::Migrate(a) => !a.dry_run,
            Verb::Rollback(_) | Verb::Cleanup(_) | Verb::Export(_) | Verb::Cp(_) | Verb::Man { .. } => true,
            _ => false,
        }
    }
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
    /// Bars on a terminal, otherwise a line every ten seconds.
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
    /// Show images, containers, layers and problems of a data root
    Inspect,
    /// Check what a migration would do. Changes nothing
    #[command(visible_alias = "check")]
    Plan(PlanArgs),
    /// Build and verify the new store, then switch over
    #[command(visible_alias = "resume")]
    Migrate(MigrateArgs),
    /// Show the state of a migration and the next command
    Status,
    /// Compare the new store with the old one and its digests
    Verify(VerifyArgs),
    /// Put the old store back
    Rollback(RollbackArgs),
    /// Verify the new store, then delete the old one. Asks first
    Cleanup(CleanupArgs),
    /// Write images and containers to archives, for docker load
    Export(ExportArgs),
    /// Copy files out of a container or image, as docker cp does
    Cp(CpArgs),
    /// List the files that a container changed, as docker diff does
    Diff(DiffArgs),
    /// Combine the plans of many hosts
    Report {
        /// What to do with the plans
        #[command(subcommand)]
        what: ReportVerb,
    },
    /// Explain a check and what to do about it
    Explain {
        /// For example D01; without an ID, all checks are listed
        id: Option<String>,
    },
    /// Migrate a small sample store in a temporary directory
    Demo(DemoArgs),
    /// Print the completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    Man {
        /// Output directory
        dir: PathBuf,
    },
}

/// What to do with reports.
#[derive(Debug, Subcommand)]
pub enum ReportVerb {
    /// Make one table of many plans, the worst first
    Merge {
        /// Files from `plan --json` or `plan --out`
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Also write the table as an HTML page
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

/// What `plan` and `migrate` share.
#[derive(Clone, Debug, clap::Args)]
pub struct What {
    /// Storage driver of the new store [default: overlay2]
    #[arg(long, value_enum, env = "UNAUFS_TO", value_name = "DRIVER")]
    pub to: Option<Target>,
    /// How to transfer layers [default: auto]
    #[arg(long, value_enum, env = "UNAUFS_MODE", value_name = "MODE")]
    pub mode: Option<Mode>,
    /// Migrate only image=GLOB or container=GLOB
    #[arg(long, env = "UNAUFS_ONLY", value_name = "KIND=GLOB", value_parser = rule)]
    pub only: Vec<String>,
    /// Leave out image=GLOB or container=GLOB
    #[arg(long, env = "UNAUFS_EXCLUDE", value_name = "KIND=GLOB", value_parser = rule)]
    pub exclude: Vec<String>,
    /// Treat this blocking check as a warning
    #[arg(long, value_name = "ID", value_parser = allowable)]
    pub allow: Vec<String>,
    /// Docker's configuration file [default: /etc/docker/daemon.json]
    #[arg(long, env = "UNAUFS_DOCKER_CONFIG", value_name = "FILE")]
    pub docker_config: Option<PathBuf>,
}

impl What {
    /// As the plan holds it.
    pub fn options(&self, target: Option<&Path>) -> Options {
        let absolute =
            |p: &Path| std::path::absolute(p).unwrap_or_else(|_| p.to_owned()).to_string_lossy().into_owned();
        Options {
            to: self.to.unwrap_or_default(),
            mode: self.mode.unwrap_or_default(),
            target: target.map(absolute),
            only: self.only.clone(),
            exclude: self.exclude.clone(),
            allow: self.allow.clone(),
            docker_config: self.docker_config(),
        }
    }

    /// `--docker-config`, as the plan holds it.
    pub fn docker_config(&self) -> Option<String> {
        self.docker_config.as_ref().map(|p| p.to_string_lossy().into_owned())
    }
}

impl What {
    /// An error if an option contradicts `options`, those of `of`: a saved plan or a run under way. `--allow` may be added to, and
    /// `--docker-config` only says where to look for what blocks.
    pub fn agrees(&self, options: &Options, of: &str) -> crate::error::Result<()> {
        let list = |l: &[String]| l.join(",");
        let pairs = [
            ("--to", self.to.map(|t| t.name().to_owned()), options.to.name().to_owned()),
            ("--mode", self.mode.map(name), name(options.mode)),
            ("--only", Some(list(&self.only)).filter(|l| !l.is_empty()), list(&options.only)),
            ("--exclude", Some(list(&self.exclude)).filter(|l| !l.is_empty()), list(&options.exclude)),
        ];
        for (option, given, theirs) in pairs {
            if let Some(given) = given.filter(|g| *g != theirs) {
                let theirs = if theirs.is_empty() { format!("no {option}") } else { format!("{option} {theirs}") };
                return Err(Error::new(Kind::Usage, format!("{option} {given} contradicts {of}, which has {theirs}"))
                    .hint(format!("Leave {option} out. Or start over: run `unaufs rollback` and make a new plan."))
                    .loss("Nothing was changed."));
            }
        }
        Ok(())
    }
}

/// As on the command line.
fn name(mode: Mode) -> String {
    mode.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}

fn jobs(n: &str) -> Result<NonZeroU8, String> {
    n.parse().map_err(|_| "use a number from 1 to 255".to_owned())
}

fn allowable(id: &str) -> Result<String, String> {
    match crate::checks::allowable(id) {
        true => Ok(id.to_ascii_uppercase()),
        false => Err("use the ID of a check that --allow can disable (unaufs explain lists all checks)".to_owned()),
    }
}

fn rule(s: &str) -> Result<String, String> {
    match s.split_once('=') {
        Some(("image" | "container", glob)) if !glob.is_empty() => Ok(s.to_owned()),
        _ => Err("use image=GLOB or container=GLOB".to_owned()),
    }
}

/// Options of `plan`.
#[derive(Clone, Debug, clap::Args)]
pub struct PlanArgs {
    /// What to plan.
    #[command(flatten)]
    pub what: What,
    /// Compare all drivers and modes
    #[arg(long, env = "UNAUFS_TARGETS", value_parser = flag)]
    pub targets: bool,
    /// Save the plan, for `migrate PLAN`
    #[arg(long, env = "UNAUFS_OUT", value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Also write the plan as an HTML page
    #[arg(long, env = "UNAUFS_HTML", value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Exit with code 5 if there is something to migrate
    #[arg(long, env = "UNAUFS_DETAILED_EXITCODE", value_parser = flag)]
    pub detailed_exitcode: bool,
}

/// Options of `migrate`.
#[derive(Clone, Debug, clap::Args)]
pub struct MigrateArgs {
    /// A plan from `plan --out` [default: make a new one]
    pub plan: Option<PathBuf>,
    /// What to plan.
    #[command(flatten)]
    pub what: What,
    /// Only show the plan: the same as unaufs plan
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Don't ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// What to verify before the switch
    #[arg(long, value_enum, default_value_t = VerifyWhen::Fast, env = "UNAUFS_VERIFY", value_name = "LEVEL")]
    pub verify: VerifyWhen,
    /// Leave out layers that fail, and continue (exit code 3)
    #[arg(long, env = "UNAUFS_KEEP_GOING", value_parser = flag)]
    pub keep_going: bool,
    /// Build image layers only, while Docker is running
    #[arg(long, env = "UNAUFS_PREPARE", value_parser = flag)]
    pub prepare: bool,
    /// Also write a record of the migration as an HTML page
    #[arg(long, env = "UNAUFS_HTML", value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Build and verify the new store, but don't switch
    #[arg(long, env = "UNAUFS_NO_SWITCH", value_parser = flag)]
    pub no_switch: bool,
}

/// What is compared before the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerifyWhen {
    /// Nothing.
    None,
    /// Names, owners, modes, times and sizes.
    Fast,
    /// All contents too.
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
    /// How much to compare
    #[arg(long, value_enum, default_value_t = Level::Full, env = "UNAUFS_LEVEL", value_name = "LEVEL")]
    pub level: Level,
    /// Check this driver's store alone
    #[arg(long, value_enum, env = "UNAUFS_DRIVER", value_name = "DRIVER")]
    pub driver: Option<WrittenBy>,
}

/// Options of `demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Storage driver [default: overlay2, or vfs if that isn't possible]
    #[arg(long, value_enum, value_name = "DRIVER")]
    pub to: Option<Target>,
}

/// Options of `export`.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// Images: tag, repository, digest, ID or glob
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Export all images
    #[arg(long, env = "UNAUFS_ALL", value_parser = flag)]
    pub all: bool,
    /// Export this container; can be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',', env = "UNAUFS_CONTAINER")]
    pub container: Vec<String>,
    /// Output file; - is stdout
    #[arg(long, short = 'o', value_name = "FILE", env = "UNAUFS_OUTPUT")]
    pub output: PathBuf,
    /// Archive format
    #[arg(long, value_enum, default_value_t = Format::Docker, env = "UNAUFS_FORMAT", value_name = "FORMAT")]
    pub format: Format,
    /// Compression
    #[arg(long, value_enum, default_value_t = Compressed::None, env = "UNAUFS_COMPRESS", value_name = "HOW")]
    pub compress: Compressed,
    /// Which store, if ROOT has several
    #[arg(long, value_enum, env = "UNAUFS_DRIVER", value_name = "DRIVER")]
    pub driver: Option<WrittenBy>,
}

/// Options of `cp`.
#[derive(Clone, Debug, clap::Args)]
pub struct CpArgs {
    /// Container name or ID, and a path in it; with --image only a path
    #[arg(value_name = "NAME:PATH")]
    pub source: OsString,
    /// Where to copy; - writes a tar to stdout
    #[arg(value_name = "DEST")]
    pub dest: PathBuf,
    /// Copy from this image instead of a container
    #[arg(long, value_name = "REF")]
    pub image: Option<String>,
    /// If PATH is a symlink, copy its target
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
    pub driver: Option<WrittenBy>,
}

/// Options of `diff`.
#[derive(Clone, Debug, clap::Args)]
pub struct DiffArgs {
    /// Container name or ID
    pub name: String,
    /// Show the size of each added or changed file
    #[arg(long, short = 's')]
    pub size: bool,
    /// Which store, if ROOT has several
    #[arg(long, value_enum, env = "UNAUFS_DRIVER", value_name = "DRIVER")]
    pub driver: Option<WrittenBy>,
}

/// Options of `rollback`.
#[derive(Clone, Debug, clap::Args)]
pub struct RollbackArgs {
    /// Delete the new store instead of keeping it in .unaufs/undone
    #[arg(long)]
    pub drop_new: bool,
    /// Don't ask
    #[arg(long, short = 'y')]
    pub yes: bool,
}

/// Options of `cleanup`.
#[derive(Clone, Debug, clap::Args)]
pub struct CleanupArgs {
    /// Delete without verifying the new store first
    #[arg(long)]
    pub skip_verify: bool,
    /// Don't ask
    #[arg(long, short = 'y')]
    pub yes: bool,
}
