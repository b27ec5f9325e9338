//! `kill -9` at random instants, several times in a row, then on or back.

use crate::bed::{self, Bed, Chance, Reference};
use crate::stores::real;
use std::time::Duration;

#[test]
fn killed_at_random() {
    if !bed::may_run() {
        return;
    }
    let mut chance = Chance::new("killed_at_random");
    let modes: &[&[&str]] = &[&["migrate", "--yes"], &["migrate", "--yes", "--mode", "copy"]];
    let base = Bed::new(real());
    let rounds = bed::rounds(8);
    for (n, command) in modes.iter().enumerate() {
        let reference = Reference::of(&base, command);
        let mine = rounds / modes.len();
        for round in 0..mine {
            let bed = base.fork();
            let what = format!("round {round} of {}", command.join(" "));
            kill_after(&bed, command, reference.took, &mut chance);
            // once in a while the second attempt is killed too
            let back = chance.below(2) == 0;
            let second: &[&str] = if back { &["rollback", "--yes", "--drop-new"] } else { command };
            if chance.below(3) == 0 {
                kill_after(&bed, second, reference.took / 2, &mut chance);
            }
            if back { reference.rollback(&bed, &what) } else { reference.resume(&bed, command, &what) }
        }
        bed::report("kill -9 at a random instant", &modes[n].join(" "), mine);
    }
}

fn kill_after(bed: &Bed, args: &[&str], longest: Duration, chance: &mut Chance) {
    let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
    let mut child =
        bed.command(args).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("run");
    std::thread::sleep(Duration::from_micros(chance.below(micros + micros / 10)));
    // it may have ended by itself
    let _ = child.kill();
    child.wait().expect("wait");
}
