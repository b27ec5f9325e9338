//! `kill -9` and stop signals at random instants, several times in a row, then on or back.

use crate::bed::{self, Bed, Chance, Reference, sh};
use crate::stores::real;
use crate::support::needs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// What is killed, on which store.
const WAYS: &[(&str, &[&str])] = &[
    ("", &["migrate", "--yes"]),
    ("", &["migrate", "--yes", "--mode", "copy"]),
    ("", &["migrate", "--yes", "--to", "vfs"]),
    ("docker19-aufs", &["migrate", "--yes"]),
];

fn each_way(mut body: impl FnMut(&str, &Bed, &[&str], &Reference)) {
    for (store, command) in WAYS {
        let store = if store.is_empty() { real() } else { store };
        let base = Bed::new(store);
        let reference = Reference::of(&base, command);
        body(&format!("{store} {}", command.join(" ")), &base, command, &reference);
    }
}

#[test]
fn killed_at_random() {
    if !needs::root() {
        return;
    }
    let mut chance = Chance::new("killed_at_random");
    let rounds = bed::rounds(8).div_ceil(WAYS.len());
    each_way(|case, base, command, reference| {
        let mut killed = 0;
        for round in 0..rounds {
            let bed = base.fork();
            let what = format!("round {round} of {case}");
            killed += usize::from(kill_after(&bed, command, reference.took, &mut chance));
            // once in a while the second attempt is killed too
            let back = chance.below(2) == 0;
            let second: &[&str] = if back { &["rollback", "--yes", "--drop-new"] } else { command };
            if chance.below(3) == 0 {
                kill_after(&bed, second, reference.took / 2, &mut chance);
            }
            if back { reference.rollback(&bed, &what) } else { reference.resume(&bed, command, &what) }
        }
        println!("{case}: {killed} of {rounds} were killed before they had ended");
        bed::report("kill -9 at a random instant", case, rounds);
    });
}

/// Runs a command and kills it; false if it had ended by itself.
fn kill_after(bed: &Bed, args: &[&str], longest: Duration, chance: &mut Chance) -> bool {
    let mut child = bed.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("run");
    std::thread::sleep(before(longest, chance));
    let _ = child.kill();
    child.wait().expect("wait").code().is_none()
}

fn before(longest: Duration, chance: &mut Chance) -> Duration {
    let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(chance.below(micros + micros / 10))
}

#[test]
fn stopped_at_random() {
    if !needs::root() {
        return;
    }
    let mut chance = Chance::new("stopped_at_random");
    let rounds = bed::rounds(8).div_ceil(2 * WAYS.len());
    let mut longest = Duration::ZERO;
    each_way(|case, base, command, reference| {
        for round in 0..rounds {
            let bed = base.fork();
            let (signal, code) = [("INT", 130), ("TERM", 143), ("HUP", 143)][round % 3];
            let what = format!("SIG{signal} in round {round} of {case}");
            let mut child = bed.command(command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("run");
            // not before it listens: that is what a shell does to any program
            std::thread::sleep(Duration::from_millis(50) + before(reference.took, &mut chance));
            if child.try_wait().expect("wait").is_none() {
                let began = Instant::now();
                sh("kill", &[&format!("-{signal}"), &child.id().to_string()]);
                let ended = child.wait().expect("wait").code();
                longest = longest.max(began.elapsed());
                // the last steps of all are not left half done
                assert!(ended == Some(code) || ended == Some(reference.code), "{what}: ended with {ended:?}");
            }
            if chance.below(2) == 0 { reference.rollback(&bed, &what) } else { reference.resume(&bed, command, &what) }
        }
        bed::report("SIGINT, SIGTERM or SIGHUP at a random instant", case, rounds);
    });
    println!("the longest time from a signal to the end: {} ms", longest.as_millis());
}
