//! The command line. Stdout carries results, stderr progress and errors.

pub mod args;
pub mod log;
pub mod notify;
pub mod pages;
pub mod prompt;
pub mod screen;
pub mod verbs;

use crate::error::{Error, Kind, Result};
use args::{Args, ReportVerb, Verb};
use clap::{CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
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
    let args = match pages::command().try_get_matches_from(argv).and_then(|m| Args::from_arg_matches(&m)) {
        Ok(a) => a,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { Kind::Usage.exit_code() } else { 0 });
        }
    };
    catch_signals();
    let global = args.global.clone();
    let result = prepare(&args).and_then(|()| dispatch(args));
    match result {
        Ok(Ending::Fine) => ExitCode::SUCCESS,
        Ok(Ending::Code(kind)) => ExitCode::from(kind.exit_code()),
        Err(e) => {
            complain(&e, &global);
            ExitCode::from(e.kind().exit_code())
        }
    }
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
            clap_complete::generate(shell, &mut Args::command(), "unaufs", &mut std::io::stdout());
            Ok(Ending::Fine)
        }
        Verb::Man { dir } => {
            pages::write_manual(&dir)?;
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
                mutter("Stopping safely. Press Ctrl-C again to stop at once.");
            }
        }
    });
}

/// Writes a line to stderr. After SIGHUP the terminal may be gone: there is nobody left to tell that.
pub(crate) fn mutter(line: &str) {
    log::note(line);
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn complain(e: &Error, g: &args::Global) {
    if g.json || g.jsonl {
        let doc = serde_json::json!({
            "schema": "unaufs.error/1",
            "message_type": "exit_error",
            "kind": e.kind(),
            "exit_code": e.kind().exit_code(),
            "message": e.to_string(),
            "cause": e.chain(),
            "fix": e.hint_text(),
            "lost": e.loss_text(),
        });
        log::note(&doc.to_string());
        // the exit code tells the same to those whose pipe is closed
        let _ = writeln!(std::io::stdout(), "{}", crate::text::json(doc.to_string()));
        return;
    }
    if e.kind() == Kind::Cancelled || (e.kind() == Kind::Interrupted && e.hint_text().is_none()) {
        // what somebody answered is no error
        return mutter(&e.to_string());
    }
    let colour = g.color.wanted(std::io::stderr().is_terminal());
    let word = if colour { "\x1b[1;31merror\x1b[0m" } else { "error" };
    mutter(&format!("{word}: {}", e.chain()));
    for more in [e.hint_text(), e.loss_text()].into_iter().flatten() {
        mutter(&format!("  {more}"));
    }
}
