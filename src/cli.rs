//! The command line. Stdout carries results, stderr progress and errors.

pub mod args;
pub mod end;
pub mod log;
pub mod notify;
pub mod output;
pub mod pages;
pub mod prompt;
pub mod saved;
pub mod screen;
pub mod usage;
pub mod verbs;

use crate::error::{Error, Kind, Result};
use args::{Args, ColorWhen, ReportVerb, Verb};
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use end::Form;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What a verb has to say at its end: the exit code besides errors.
pub type Done = Result<Ending>;

/// How a verb ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Exit code 0.
    Fine,
    /// The exit code of this kind, everything having been said.
    Code(Kind),
}

/// Runs the program.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let form = Form::asked(&argv);
    if let Ok(form) = &form {
        form.fix();
    }
    let args = match form.and_then(|form| parsed(&argv, form)) {
        Ok(Ok(args)) => args,
        Ok(Err(code)) => return ExitCode::from(code),
        Err(e) => return ExitCode::from(end::command(Err(e), false, ColorWhen::Auto)),
    };
    catch_signals();
    end::place(&args.global);
    let (color, changes) = (args.global.color, args.verb.changes());
    let unread = args.global.unread_config.clone();
    let done = prepare(&args).and_then(|()| dispatch(args)).map_err(|e| match unread {
        Some(why) if e.kind() == Kind::NoStore => e.hint(why),
        _ => e,
    });
    ExitCode::from(end::command(done, changes, color))
}

/// The command line; or the exit code, where clap has said all there is to say.
fn parsed(argv: &[OsString], form: Form) -> Result<std::result::Result<Args, u8>> {
    let program = pages::command();
    let read = program.clone().try_get_matches_from(argv).and_then(|m| Ok((Args::from_arg_matches(&m)?, m)));
    let (mut args, matches) = match read {
        Ok(read) => read,
        Err(e) => {
            // who types nothing wants to see what there is
            let is_overview = e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && form == Form::Text;
            if let Some(e) = usage::error(&e, argv, &program).filter(|_| !is_overview) {
                return Err(e);
            }
            // the exit code says the same to those whose pipe is closed
            let _ = match e.kind() {
                // the name of a command has no version of its own
                ErrorKind::DisplayVersion => writeln!(std::io::stdout(), "unaufs {}", env!("CARGO_PKG_VERSION")),
                _ => e.print(),
            };
            return Ok(Err(if e.use_stderr() { Kind::Usage.exit_code() } else { 0 }));
        }
    };
    args.contradictions()?;
    // commands without that option work on the same root
    let variable = std::env::var_os("UNAUFS_DOCKER_CONFIG").filter(|v| !v.is_empty()).map(PathBuf::from);
    (args.global.json, args.global.jsonl) = (form == Form::Json, form == Form::JsonLines);
    if matches.value_source("root") == Some(clap::parser::ValueSource::DefaultValue) {
        match data_root(args.docker_config().or(variable.as_deref())) {
            Ok(Some(root)) => args.global.root = root,
            Ok(None) => {}
            Err(why) => args.global.unread_config = Some(why),
        }
    }
    Ok(Ok(args))
}

/// The data root that Docker's configuration names, or why it can't be read. That matters where the default isn't a store; otherwise it is the
/// concern of a check of the plan.
fn data_root(config: Option<&Path>) -> std::result::Result<Option<PathBuf>, String> {
    let file = config.unwrap_or(Path::new("/etc/docker/daemon.json"));
    let unread = |why: String| {
        let (file, default) = (crate::text::path(file), args::DEFAULT_ROOT);
        format!("{file} can't be read ({why}), so unaufs looked in {default}. Name Docker's data root with --root.")
    };
    let text = match crate::plan::host::Machine::small(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|e| unread(e.to_string()))?,
    };
    let config = crate::plan::host::docker_config::parse(&text).map_err(|e| unread(e.chain()))?;
    Ok(config.data_root.map(PathBuf::from).filter(|r| r.is_absolute()))
}

fn prepare(args: &Args) -> Result<()> {
    log::open(&args.global)?;
    let mut pool = rayon::ThreadPoolBuilder::new().stack_size(16 << 20);
    if let Some(n) = args.global.jobs {
        pool = pool.num_threads(n.get().into());
    }
    pool.build_global().map_err(|e| Error::new(Kind::Failed, "start threads").with_source(e))?;
    crate::run::stage::raise_descriptor_limit()
}

fn dispatch(args: Args) -> Done {
    let g = args.global;
    match args.verb {
        Verb::Inspect => verbs::look::inspect(&g),
        Verb::Plan(a) => verbs::look::plan(&g, &a),
        Verb::Migrate(a) if a.dry_run => verbs::look::dry_run(&g, &a),
        Verb::Migrate(a) => {
            screen::number_phases();
            verbs::migrate::migrate(&g, &a)
        }
        Verb::Status => verbs::look::status(&g),
        Verb::Verify(a) => verbs::verify::verify(&g, &a),
        Verb::Rollback(a) => verbs::undo::rollback(&g, &a),
        Verb::Cleanup(a) => verbs::undo::cleanup(&g, &a),
        Verb::Export(a) => verbs::export::export(&g, &a),
        Verb::Cp(a) => verbs::cp::cp(&g, &a),
        Verb::Diff(a) => verbs::diff::diff(&g, &a),
        Verb::Report { what: ReportVerb::Merge { files, html } } => {
            verbs::look::merge_reports(&g, &files, html.as_deref())
        }
        Verb::Demo(a) => verbs::demo::demo(&g, &a),
        Verb::Explain { id } => verbs::look::explain(&g, id.as_deref()),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "unaufs", &mut script);
            let script = String::from_utf8_lossy(&script);
            match Form::now() {
                Form::Text => end::text(&script),
                _ => end::document(&serde_json::json!({
                    "schema": "unaufs.completions/1", "shell": shell.to_string(), "script": script,
                }))?,
            }
            Ok(Ending::Fine)
        }
        Verb::Man { dir } => {
            pages::write_manual(&dir)?;
            if Form::now() != Form::Text {
                end::document(&serde_json::json!({"schema": "unaufs.man/1", "directory": crate::text::path(&dir)}))?;
            }
            Ok(Ending::Fine)
        }
    }
}

/// The first SIGINT, SIGTERM or SIGHUP asks for a stop at a safe point, the second one ends the process at once.
fn catch_signals() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    std::thread::spawn(move || {
        for (n, signal) in signals.forever().enumerate() {
            if n > 0 {
                let kind = if signal == SIGINT { Kind::Interrupted } else { Kind::Terminated };
                std::process::exit(kind.exit_code().into());
            }
            crate::stop::request(signal);
            if !prompt::is_asking() {
                to_stderr("Stopping safely. Press Ctrl-C again to stop at once.");
            }
        }
    });
}

/// Writes a line to stderr; on a terminal a long one continues in the next. After SIGHUP the terminal may be gone: there is nobody left to
/// read an error.
pub(crate) fn to_stderr(line: &str) {
    log::note(line);
    let _ = std::io::stderr().write_all(screen::on_stderr(line, 2).as_bytes());
}
