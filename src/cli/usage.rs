//! What is wrong with a command line, in the words of all other errors.

use crate::error::{Error, Kind};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;

/// The error of a command line that clap refuses. `None` for help and versions: these are no errors.
pub fn error(e: &clap::Error, argv: &[OsString], program: &clap::Command) -> Option<Error> {
    if !e.use_stderr() {
        return None;
    }
    let command = command_of(argv, program);
    let lists = format!("List the options with: {command} --help");
    let (what, hint) = match e.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            let wanted = if command == "unaufs" { "command" } else { "subcommand" };
            (format!("a {wanted} is missing"), format!("List all commands with: {command} --help"))
        }
        ErrorKind::InvalidSubcommand => {
            let typed = first(e, ContextKind::InvalidSubcommand);
            let like = similar(e, ContextKind::SuggestedSubcommand, &typed);
            let like = like.into_iter().map(|s| format!("{command} {s}")).collect::<Vec<_>>();
            let all = format!("List all commands with: {command} --help");
            (format!("there is no command '{typed}'"), did_you_mean(&like).unwrap_or(all))
        }
        ErrorKind::UnknownArgument => {
            let typed = first(e, ContextKind::InvalidArg);
            let like = similar(e, ContextKind::SuggestedArg, &typed);
            let what = match typed.starts_with('-') {
                true => format!("{command} has no option {typed}"),
                false => format!("one word too many: '{typed}'"),
            };
            (what, did_you_mean(&like).unwrap_or(lists))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => value(e, lists),
        ErrorKind::MissingRequiredArgument => {
            let missing: Vec<String> = all(e, ContextKind::InvalidArg).iter().map(|a| plain(a)).collect();
            let verb = if missing.len() == 1 { "is" } else { "are" };
            let what = format!("{} {verb} missing", missing.join(" and "));
            (what, format!("Examples: {command} --help"))
        }
        ErrorKind::ArgumentConflict => {
            let (one, other) = (first(e, ContextKind::InvalidArg), first(e, ContextKind::PriorArg));
            let what = match other.is_empty() || one == other {
                true => format!("{} was given twice", plain(&one)),
                false => format!("{} and {} can't be used together", plain(&one), plain(&other)),
            };
            (what, lists)
        }
        _ => {
            let said = e.render().to_string();
            let said = said.lines().next().unwrap_or_default();
            (said.strip_prefix("error: ").unwrap_or(said).to_owned(), lists)
        }
    };
    Some(Error::new(Kind::Usage, what).hint(hint))
}

/// A value that an option or argument doesn't take.
fn value(e: &clap::Error, lists: String) -> (String, String) {
    let (option, typed) = (first(e, ContextKind::InvalidArg), first(e, ContextKind::InvalidValue));
    let option = option.split([' ', '=']).next().unwrap_or_default();
    let known = all(e, ContextKind::ValidValue);
    let hint = if known.is_empty() { lists } else { format!("Use one of: {}", known.join(", ")) };
    let what = match (typed.as_str(), std::error::Error::source(e)) {
        ("", _) => format!("{} needs a value", plain(option)),
        (_, Some(why)) => format!("{} can't be '{typed}': {why}", plain(option)),
        (_, None) => format!("{} can't be '{typed}'", plain(option)),
    };
    (what, hint)
}

/// The command that was typed, as far as it is one: `unaufs report merge`.
fn command_of(argv: &[OsString], program: &clap::Command) -> String {
    let (mut out, mut at) = ("unaufs".to_owned(), program);
    for word in argv.iter().skip(1).filter(|w| *w != "help") {
        if let Some(next) = at.find_subcommand(word) {
            out = format!("{out} {}", next.get_name());
            at = next;
        }
    }
    out
}

/// `--output <FILE>` as people write it: `--output FILE`.
fn plain(argument: &str) -> String {
    argument.replace(['<', '>'], "").trim_end_matches("...").to_owned()
}

fn did_you_mean(all: &[String]) -> Option<String> {
    (!all.is_empty()).then(|| format!("Did you mean {}?", all.join(" or ")))
}

/// What clap suggests, where it begins as the typed word does: somebody who types `frob` doesn't mean rollback.
fn similar(e: &clap::Error, kind: ContextKind, typed: &str) -> Vec<String> {
    let letter = |s: &str| s.trim_start_matches('-').chars().next();
    all(e, kind).into_iter().filter(|s| letter(s) == letter(typed)).collect()
}

fn first(e: &clap::Error, kind: ContextKind) -> String {
    all(e, kind).into_iter().next().unwrap_or_default()
}

fn all(e: &clap::Error, kind: ContextKind) -> Vec<String> {
    match e.get(kind) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(all)) => all.clone(),
        Some(other) => vec![other.to_string()],
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_command_lines_are_told_as_other_errors() {
        for (line, what, hint) in [
            ("plam", "there is no command 'plam'", "Did you mean unaufs plan?"),
            ("frob", "there is no command 'frob'", "List all commands with: unaufs --help"),
            ("plan --frob", "unaufs plan has no option --frob", "List the options with: unaufs plan --help"),
            ("plan --roo x", "unaufs plan has no option --roo", "Did you mean --root?"),
            ("plan more", "one word too many: 'more'", "List the options with: unaufs plan --help"),
            ("plan --to zfs", "--to can't be 'zfs'", "Use one of: overlay2, overlay, vfs, btrfs"),
            (
                "plan --only x",
                "--only can't be 'x': use image=GLOB or container=GLOB",
                "List the options with: unaufs plan --help",
            ),
            (
                "plan --jobs 0",
                "--jobs can't be '0': use a number from 1 to 255",
                "List the options with: unaufs plan --help",
            ),
            ("export", "--output FILE is missing", "Examples: unaufs export --help"),
            ("export -o", "--output needs a value", "List the options with: unaufs export --help"),
            ("cp", "NAME:PATH and DEST are missing", "Examples: unaufs cp --help"),
            ("report merge", "FILES is missing", "Examples: unaufs report merge --help"),
            ("", "a command is missing", "List all commands with: unaufs --help"),
            ("report", "a subcommand is missing", "List all commands with: unaufs report --help"),
            ("plan --to vfs --to btrfs", "--to DRIVER was given twice", "List the options with: unaufs plan --help"),
        ] {
            let argv: Vec<OsString> =
                std::iter::once("unaufs").chain(line.split_whitespace()).map(Into::into).collect();
            let program = crate::cli::pages::command();
            let e = program.clone().try_get_matches_from(&argv).expect_err(line);
            let got = error(&e, &argv, &program).expect("an error");
            assert_eq!((got.to_string().as_str(), got.hint_text()), (what, Some(hint)), "{line}: {e}");
        }
    }
}
