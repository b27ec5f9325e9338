//! Each check of the table: a store, or a machine, on which it speaks, and one that is close to it on which it is silent.
//!
//! `bed` is the machine, made of files; `store` and `graph` write a sound root of each generation; `cases` holds the pairs. A new check needs a
//! pair there, or this test fails.

#[path = "../support/real.rs"]
mod real;

mod bed;
mod cases;
mod graph;
mod store;

use bed::Bed;
use unaufs::checks::{self, Level};

/// Runs the pairs whose id begins with this letter. In a thread with mounts of its own: what is mounted there is gone with it.
fn pairs_of(letter: char) {
    if !rustix::process::geteuid().is_root() {
        real::cannot_run("it needs root (devices, trusted.* attributes, mounts)");
        return;
    }
    let test = std::thread::spawn(move || {
        bed::private_mounts();
        let mine: Vec<_> = cases::all().into_iter().filter(|c| c.id.starts_with(letter)).collect();
        assert!(!mine.is_empty());
        for case in mine {
            let spoken = said(case.speaks, case.id);
            assert!(!spoken.is_empty(), "{} says nothing where it should", case.id);
            for f in &spoken {
                assert!(!f.message.is_empty(), "{}: {f:?}", case.id);
                assert!(!f.subject.to_string().is_empty(), "{}: {f:?}", case.id);
                assert!(f.fix.is_some() || f.effect.is_some(), "what comes of {f:?}, what to do?");
            }
            let silent = said(case.silent, case.id);
            assert!(silent.is_empty(), "{} speaks where it should not: {silent:?}", case.id);
        }
    });
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What the plan for such a machine says under this id, above `ok`.
fn said(make: fn() -> Bed, id: &str) -> Vec<checks::Finding> {
    let bed = make();
    let plan = bed.plan();
    plan.checks.into_iter().filter(|f| f.id == id && f.level > Level::Ok).collect()
}

#[test]
fn containers() {
    pairs_of('C');
}

#[test]
fn what_is_in_the_store() {
    pairs_of('D');
}

#[test]
fn stores_before_docker_1_10() {
    pairs_of('G');
}

#[test]
fn hosts() {
    pairs_of('H');
}

#[test]
fn content_of_layers() {
    pairs_of('L');
}

#[test]
fn targets() {
    pairs_of('T');
}

/// No check without a pair, no pair without a check, and each letter has a test above.
#[test]
fn every_check_has_a_pair() {
    let mut table: Vec<&str> = checks::TABLE.iter().map(|c| c.id).collect();
    let mut pairs: Vec<&str> = cases::all().iter().map(|c| c.id).collect();
    table.sort_unstable();
    pairs.sort_unstable();
    assert_eq!(table, pairs);
    assert!(table.iter().all(|id| "CDGHLT".contains(&id[..1])), "a new letter needs a test of its own: {table:?}");
}

/// On a sound store and a sound machine nothing is worse than worth knowing.
#[test]
fn a_sound_host_gets_no_warning() {
    if !rustix::process::geteuid().is_root() {
        real::cannot_run("it needs root");
        return;
    }
    let plan = Bed::content().plan();
    let bad: Vec<_> = plan.checks.iter().filter(|f| f.level > Level::Ok).collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(plan.checks.iter().any(|f| f.level == Level::Ok));
    let plan = Bed::graph().plan();
    let bad: Vec<_> = plan.checks.iter().filter(|f| f.level > Level::Ok && f.id != "G05").collect();
    assert!(bad.is_empty(), "{bad:?}");
}
