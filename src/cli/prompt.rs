//! Questions, on a terminal only: elsewhere an option has to answer them.

use crate::error::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// A question is on the screen: Ctrl-C cancels it, and there is nothing to stop safely.
static ASKING: AtomicBool = AtomicBool::new(false);

/// Is a question on the screen?
pub fn is_asking() -> bool {
    ASKING.load(Ordering::Relaxed)
}

/// What somebody typed means.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    /// Meant as a yes, but not typed in full.
    Almost,
    No,
}

fn answer(line: &str) -> Answer {
    match line.trim() {
        "yes" => Answer::Yes,
        s if s.eq_ignore_ascii_case("y") || s.eq_ignore_ascii_case("yes") => Answer::Almost,
        _ => Answer::No,
    }
}

/// Asks for a "yes" unless `yes` was given as an option.
///
/// # Errors
/// [`Kind::Cancelled`] for any other answer and for the end of the input; [`Kind::Interrupted`] for Ctrl-C; [`Kind::Usage`] where there is no
/// terminal to ask on.
pub fn confirm(yes: bool, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(Kind::Usage, "confirmation required: add --yes").loss("Nothing was changed."));
    }
    if !super::end::was_seen() {
        return Err(
            Error::new(Kind::Failed, "the text before the question could not be printed").loss("Nothing was changed.")
        );
    }
    ASKING.store(true, Ordering::Relaxed);
    let asked = ask(question);
    ASKING.store(false, Ordering::Relaxed);
    asked
}

fn ask(question: &str) -> Result<()> {
    let text = super::screen::on_stderr(question, 0);
    let last = text.trim_end().lines().last().map_or(0, |l| l.chars().count());
    // room for the answer
    let gap = if last + 20 > 80 { "\n" } else { " " };
    let mut prompt = format!("{}{gap}Type \"yes\": ", text.trim_end());
    loop {
        super::log::note(&prompt);
        let mut out = std::io::stderr();
        let shown = out.write_all(prompt.as_bytes()).and_then(|()| out.flush());
        shown.map_err(|e| Error::io("ask on the terminal", e))?;
        match read_line()?.as_deref().map(answer) {
            Some(Answer::Yes) => return Ok(()),
            Some(Answer::Almost) => prompt = "Type \"yes\" in full to start, or \"no\" to cancel: ".to_owned(),
            Some(Answer::No) => return Err(Error::new(Kind::Cancelled, CANCELLED)),
            None => {
                // the cursor is behind the prompt
                let _ = writeln!(out);
                return Err(Error::new(Kind::Cancelled, CANCELLED));
            }
        }
    }
}

/// What is said when somebody doesn't want it.
const CANCELLED: &str = "Cancelled. Nothing was changed.";

/// A line from the terminal; `None` at the end of the input. A signal ends it: `read_line` of the standard library would go on reading, and the
/// next command that somebody types would be eaten.
fn read_line() -> Result<Option<String>> {
    let stdin = std::io::stdin();
    let mut line = Vec::new();
    loop {
        if let Err(stop) = crate::stop::check() {
            let _ = writeln!(std::io::stderr());
            return Err(Error::new(stop.kind(), CANCELLED));
        }
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        match poll(&mut fds, Some(&wait)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(e) => return Err(Error::io("wait for the answer", e)),
        }
        let mut bytes = [0; 256];
        match rustix::io::read(&stdin, &mut bytes) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(n) => line.extend_from_slice(&bytes[..n]),
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(Error::io("read the answer", e)),
        }
        if line.contains(&b'\n') {
            break;
        }
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_in_full_is_a_yes() {
        for (line, want) in [
            ("yes\n", Answer::Yes),
            (" yes \n", Answer::Yes),
            ("y\n", Answer::Almost),
            ("Y", Answer::Almost),
            ("YES\n", Answer::Almost),
            ("no\n", Answer::No),
            ("\n", Answer::No),
            ("yes please\n", Answer::No),
        ] {
            assert_eq!(answer(line), want, "{line:?}");
        }
    }
}
