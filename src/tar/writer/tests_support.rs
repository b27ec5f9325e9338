//! Other programs that read and write tars, for tests. Where one is not installed the test says so and does nothing.

use std::io::Write;
use std::process::{Command, Stdio};

/// The program, if it can be run.
pub fn program(name: &'static str, probe: &[&str]) -> Option<&'static str> {
    let found = Command::new(name).args(probe).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|s| s.success()) {
        return Some(name);
    }
    eprintln!("{name} is not installed: nothing compared with it");
    None
}

/// GNU tar.
pub fn gnu_tar() -> Option<&'static str> {
    let name = program("tar", &["--version"])?;
    let version = Command::new(name).arg("--version").output().ok()?;
    if version.stdout.starts_with(b"tar (GNU tar)") {
        return Some(name);
    }
    eprintln!("tar is not GNU tar: nothing compared with it");
    None
}

/// Runs a script with some input and gives its output.
pub fn python() -> Option<impl Fn(&str, &[u8]) -> Vec<u8>> {
    let name = program("python3", &["-c", ""])?;
    Some(move |script: &str, input: &[u8]| run(Command::new(name).args(["-c", script]), input))
}

/// Runs a program with some input; its output. It must succeed.
pub fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // next to the reading: neither side waits for the other
    let feed = std::thread::spawn(move || stdin.write_all(&input));
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{command:?}");
    feed.join().unwrap().unwrap();
    done.stdout
}
