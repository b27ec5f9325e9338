//! A journal that somebody else wrote, perhaps with SQLite's rollback journal next to it: reading it ends, and touches nothing but its directory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unaufs::disk::Dir;
use unaufs::run::journal::{FILE, Journal, ROLLBACK_FILE};

fuzz_target!(|input: &[u8]| {
    // the last byte says how much of the input is the rollback journal
    let Some((share, rest)) = input.split_last() else { return };
    let cut = rest.len() - rest.len() * usize::from(*share) / 256;
    let (db, rollback) = rest.split_at(cut);
    let top = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let state = top.path().join("state");
    std::fs::create_dir(&state).expect("a folder");
    std::fs::write(top.path().join("canary"), "canary").expect("a file");
    std::fs::write(state.join(FILE), db).expect("a file");
    if !rollback.is_empty() {
        std::fs::write(state.join(ROLLBACK_FILE), rollback).expect("a file");
    }
    let dir = Dir::open_named(&state).expect("the folder");
    if let Ok(Some(journal)) = Journal::open_existing(&dir) {
        if let Ok(Some(run)) = journal.last() {
            let _ = (journal.events(run.id), journal.done(run.id, "layer"), journal.tallies(run.id, "layer"));
            let _ = (journal.lost(run.id), journal.has_switched(run.id));
        }
    }
    let mut left: Vec<_> = std::fs::read_dir(top.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["canary", "state"]);
    assert_eq!(std::fs::read(top.path().join("canary")).expect("a file"), b"canary");
});
