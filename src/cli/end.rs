//! How every command ends: one document on stdout at most, the warnings, the exit code. Errors of clap end here too.
//!
//! ```text
//! text      what `say` printed            warnings and errors on stderr
//! --json    one document                  message_type, exit_code, warnings, then the command's own fields
//! --jsonl   status, step, warning lines   the same document on one line, always last
//! ```
//!
//! A result that can't be written is an error of a command that only reads. A command that changes the disk has done its work: there it is a
//! warning, and the exit code says how the work went.

use super::args::ColorWhen;
use super::{Done, Ending, log};
use crate::error::{Error, Kind, Result};
use serde::Serialize;
use serde_json::value::RawValue;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, OnceLock};

/// What stdout carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Text for people.
    #[default]
    Text,
    /// One document.
    Json,
    /// A line for each event.
    JsonLines,
}

static FORM: OnceLock<Form> = OnceLock::new();

/// What is kept for the end.
#[derive(Default)]
struct Pending {
    /// The command's document, without what is added at the end.
    document: Option<String>,
    warnings: Vec<String>,
    /// Why stdout could not be written.
    stdout: Option<String>,
    /// The reader of stdout has closed it.
    unread: bool,
}

static PENDING: Mutex<Pending> =
    Mutex::new(Pending { document: None, warnings: Vec::new(), stdout: None, unread: false });

fn pending() -> MutexGuard<'static, Pending> {
    PENDING.lock().unwrap_or_else(|e| e.into_inner())
}

impl Form {
    /// From the command line, or where that says nothing from the variables. Read before clap, whose errors have this form too.
    pub fn asked(argv: &[OsString]) -> Result<Form> {
        let given = |flag: &str| argv.iter().skip(1).take_while(|a| *a != "--").any(|a| a == flag);
        match (given("--json"), given("--jsonl")) {
            (true, true) => {
                let _ = FORM.set(Form::Json);
                Err(Error::new(Kind::Usage, "--json and --jsonl can't be used together").hint("Leave one of them out."))
            }
            (true, false) => Ok(Form::Json),
            (false, true) => Ok(Form::JsonLines),
            (false, false) => {
                let set = |name: &str| std::env::var(name).is_ok_and(|v| super::args::flag(&v) == Ok(true));
                match (set("UNAUFS_JSONL"), set("UNAUFS_JSON")) {
                    (true, _) => Ok(Form::JsonLines),
                    (_, true) => Ok(Form::Json),
                    _ => Ok(Form::Text),
                }
            }
        }
    }

    /// The form of this process.
    pub fn now() -> Form {
        FORM.get().copied().unwrap_or_default()
    }

    /// Sets the form of this process, once.
    pub fn fix(self) {
        // a process runs one command
        let _ = FORM.set(self);
    }
}

/// What is first in each document.
#[derive(Serialize)]
struct Head<'a> {
    message_type: &'static str,
    exit_code: u8,
    warnings: &'a [String],
}

/// `unaufs.error/1`.
#[derive(Serialize)]
struct Failure<'a> {
    schema: &'static str,
    kind: Kind,
    message: String,
    cause: String,
    fix: Option<String>,
    lost: Option<&'a str>,
    /// What was done before it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
}

/// Prints text. That it can't be written shows at the end.
pub fn text(text: &str) {
    log::note(text);
    let mut out = std::io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
        .and_then(|()| out.flush());
    match written {
        // who reads only the beginning knows that
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => pending().unread = true,
        Err(e) => drop(pending().stdout.get_or_insert_with(|| e.to_string())),
        Ok(()) => {}
    }
}

/// Could all text be printed so far? A question about what nobody has seen must not be asked.
pub fn was_seen() -> bool {
    let pending = pending();
    pending.stdout.is_none() && !pending.unread
}

/// Keeps the document of this command for the end.
pub fn document(value: &impl Serialize) -> Result<()> {
    let text = match Form::now() {
        Form::JsonLines => serde_json::to_string(value),
        Form::Json | Form::Text => serde_json::to_string_pretty(value),
    };
    pending().document = Some(text.map_err(|e| Error::new(Kind::Failed, "write JSON").with_source(e))?);
    Ok(())
}

/// A warning that nobody has read yet: printed now, and in the document.
pub fn warn(warning: &str) {
    let warning = crate::text::sentence(warning);
    match Form::now() {
        Form::JsonLines => line(&serde_json::json!({"message_type": "warning", "text": warning}).to_string()),
        Form::Json | Form::Text => super::to_stderr(&format!("warning: {warning}")),
    }
    note(&warning);
}

/// Keeps a warning that was printed, for the document.
pub fn note(warning: &str) {
    pending().warnings.push(warning.to_owned());
}

/// Writes one line of `--jsonl`.
pub fn line(json: &str) {
    text(&crate::text::json(json.to_owned()));
}

/// Ends the command: prints the document or the error, and gives the exit code. `changes`: does this command change anything on the disk?
pub fn command(done: Done, changes: bool, color: ColorWhen) -> u8 {
    log::close();
    let code = match &done {
        Ok(Ending::Fine) => 0,
        Ok(Ending::Code(kind)) => kind.exit_code(),
        Err(e) => e.kind().exit_code(),
    };
    match (&done, Form::now()) {
        (Ok(_), Form::Text) => {}
        (Err(e), Form::Text) => complain(e, color),
        (Ok(_), _) => {
            // not in one statement: what is kept would stay locked until the end of it
            let body = pending().document.take();
            if let Some(body) = body {
                last("summary", code, &body);
            }
        }
        (Err(e), _) => last("exit_error", code, &failure(e)),
    }
    let Some(why) = pending().stdout.take() else { return code };
    if changes || code != 0 {
        super::to_stderr(&format!("warning: stdout can't be written ({why}); the exit code is that of the work"));
        return code;
    }
    complain(&Error::new(Kind::Failed, format!("write to stdout: {why}")), color);
    Kind::Failed.exit_code()
}

/// The last document. It goes to the log too.
fn last(message_type: &'static str, exit_code: u8, body: &str) {
    let warnings = std::mem::take(&mut pending().warnings);
    let head = Head { message_type, exit_code, warnings: &warnings };
    let pretty = body.starts_with("{\n");
    let head = if pretty { serde_json::to_string_pretty(&head) } else { serde_json::to_string(&head) };
    // numbers and strings always can be written
    let whole = joined(&head.unwrap_or_else(|_| "{}".to_owned()), body);
    text(&crate::text::json(whole));
}

/// Two objects as one, the fields of `head` first. Both are written by serde_json in the same form.
fn joined(head: &str, body: &str) -> String {
    let head = head.strip_suffix('}').unwrap_or(head).trim_end();
    let body = body.strip_prefix('{').unwrap_or(body);
    match body.trim() {
        "}" => format!("{head}{body}"),
        _ => format!("{head},{body}"),
    }
}

/// An error as a document, on one line.
fn failure(e: &Error) -> String {
    let result = pending().document.take().and_then(|d| RawValue::from_string(compact(&d)).ok());
    let doc = Failure {
        schema: "unaufs.error/1",
        kind: e.kind(),
        message: e.to_string(),
        cause: e.chain(),
        fix: e.hint_text().map(placed),
        lost: e.loss_text(),
        result,
    };
    serde_json::to_string(&doc).unwrap_or_else(|_| r#"{"schema":"unaufs.error/1"}"#.to_owned())
}

/// A document on one line.
fn compact(json: &str) -> String {
    serde_json::from_str::<serde_json::Value>(json).map_or_else(|_| json.to_owned(), |v| v.to_string())
}

/// The same command, by root.
pub fn as_root() -> String {
    let words = std::env::args_os().skip(1).map(|w| crate::report::plan::quoted(&w.to_string_lossy()));
    format!("sudo unaufs {}", words.collect::<Vec<_>>().join(" "))
}

fn complain(e: &Error, color: ColorWhen) {
    let stopped = matches!(e.kind(), Kind::Interrupted | Kind::Terminated);
    if e.kind() == Kind::Cancelled || (stopped && e.hint_text().is_none()) {
        // what somebody answered is no error
        return super::to_stderr(&e.to_string());
    }
    let colour = color.wanted(std::io::stderr().is_terminal());
    let text = match e.kind() {
        Kind::Interrupted | Kind::Terminated => format!("{}.", e.chain()),
        _ => format!("error: {}", e.chain()),
    };
    log::note(&text);
    let text = super::screen::on_stderr(&text, 2);
    let text = if colour { text.replacen("error:", "\x1b[1;31merror\x1b[0m:", 1) } else { text };
    let _ = std::io::stderr().write_all(text.as_bytes());
    for more in [e.hint_text().map(placed), e.loss_text().map(str::to_owned)].into_iter().flatten() {
        super::to_stderr(&format!("  {more}"));
    }
}

/// ` --root DIR --target DIR` as this command got them, where they are not the default.
static PLACE: OnceLock<String> = OnceLock::new();

/// Notes where this command works, for the commands that are advised.
pub fn place(g: &super::args::Global) {
    let absolute = |p: &std::path::Path| std::path::absolute(p).unwrap_or_else(|_| p.to_owned());
    let quoted = |p: &std::path::Path| crate::report::plan::quoted(&crate::text::path(&absolute(p)));
    let mut place = String::new();
    if g.root.as_os_str() != super::args::DEFAULT_ROOT {
        place = format!(" --root {}", quoted(&g.root));
    }
    if let Some(target) = &g.target {
        place += &format!(" --target {}", quoted(target));
    }
    let _ = PLACE.set(place);
}

/// ` --root DIR --target DIR` as this command got them.
pub fn given_place() -> &'static str {
    PLACE.get().map_or("", String::as_str)
}

/// A hint whose commands can be pasted: they get the root of this command.
fn placed(hint: &str) -> String {
    let place = given_place();
    let mut out = hint.to_owned();
    if place.is_empty() || hint.contains("--root") {
        return out;
    }
    for verb in ["cleanup", "inspect", "migrate", "plan", "rollback", "status", "verify"] {
        out = out.replace(&format!("unaufs {verb}"), &format!("unaufs {verb}{place}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_objects_become_one() {
        let head = Head { message_type: "summary", exit_code: 3, warnings: &["a".to_owned()] };
        for (write, body) in
            [(false, r#"{"schema":"x","a":{"b":[1]}}"#), (true, "{\n  \"schema\": \"x\",\n  \"a\": {}\n}")]
        {
            let head = if write { serde_json::to_string_pretty(&head) } else { serde_json::to_string(&head) };
            let all = joined(&head.expect("JSON"), body);
            let doc: serde_json::Value = serde_json::from_str(&all).expect("JSON");
            assert_eq!(
                (&doc["message_type"], &doc["exit_code"], &doc["schema"]),
                (&"summary".into(), &3.into(), &"x".into())
            );
            assert_eq!(all.contains('\n'), write, "{all}");
        }
        let empty = joined(r#"{"a":1}"#, "{}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&empty).expect("JSON"), serde_json::json!({"a": 1}));
    }

    #[test]
    fn the_command_line_beats_the_variables() {
        let asked = |words: &[&str]| Form::asked(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(asked(&["unaufs", "plan"]).expect("a form"), Form::Text);
        assert_eq!(asked(&["unaufs", "plan", "--json"]).expect("a form"), Form::Json);
        assert_eq!(asked(&["unaufs", "--jsonl", "plan"]).expect("a form"), Form::JsonLines);
        assert_eq!(asked(&["unaufs", "export", "--", "--json"]).expect("a form"), Form::Text);
    }
}
