//! The `unaufs` program: parses, calls, maps the result to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    unaufs::cli::run(std::env::args_os())
}
