//! A test in a process with mounts of its own: the tests share a process, and what one of them mounts below its root would be a mount below a
//! root to all others (unaufs looks into the mount namespaces of all processes).

use std::path::PathBuf;
use std::process::Command;

/// Set in the process that has a mount namespace of its own: the directory that it may fill.
const PLACE: &str = "UNAUFS_TEST_PLACE";

/// First in a test: `if private::elsewhere(this_test!()) { return; }` runs the rest of it in a process with mounts of its own, which is this
/// program again with that one test. Nothing can be left mounted, whatever happens: the kernel unmounts what no process sees any more.
pub fn elsewhere(test: &str) -> bool {
    if std::env::var_os(PLACE).is_some() {
        return false;
    }
    if !super::needs::root_and(&["unshare"]) {
        return true;
    }
    let (_, test) = test.split_once("::").expect("the path of a test");
    let place = super::real::folder();
    let mut run = Command::new("unshare");
    run.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().expect("this program"));
    run.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    let out = run.env(PLACE, place.path()).output().expect("unshare");
    let said = String::from_utf8_lossy(&out.stdout);
    // its own counts are no counts of ours
    said.lines().filter(|l| !l.starts_with("test result:")).for_each(|l| println!("{l}"));
    eprint!("{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("1 passed"), "{test} with mounts of its own: {}", out.status);
    true
}

/// The directory that this process may fill.
pub fn place() -> PathBuf {
    PathBuf::from(std::env::var_os(PLACE).expect("to be called after `elsewhere`"))
}

/// The path of the test that says it.
macro_rules! this_test {
    () => {{
        fn here() {}
        std::any::type_name_of_val(&here).strip_suffix("::here").expect("a function in a test")
    }};
}
pub(crate) use this_test;
