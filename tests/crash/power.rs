//! Power cuts. ROOT is on a file system in an image file, and that on one with shared extents: a clone of the image, taken while the
//! migration runs, holds what had reached the device at that instant. What was only in memory is lost, as without power.

use crate::bed::{self, Bed, Chance, Mounted, Reference, copy, sh};
use crate::stores::{real, source};
use crate::support::needs;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

struct Disk {
    outer: Mounted,
    kind: &'static str,
    options: &'static str,
    pristine: PathBuf,
}

impl Disk {
    fn new(dir: &Path, kind: &'static str) -> Disk {
        let outer = Mounted::new(dir, "outer", 6 << 30, &["mkfs.xfs", "-q", "-m", "reflink=1"]);
        // a clone has the identity of its original
        let (mkfs, options): (&[&str], _) = match kind {
            "ext4" => (&["mkfs.ext4", "-q"], "loop"),
            _ => (&["mkfs.xfs", "-q"], "loop,nouuid"),
        };
        let inner = Mounted::new(&outer.at, "inner", 384 << 20, mkfs);
        copy(&source(real()), &inner.at.join("root"));
        let pristine = inner.image.clone();
        drop(inner);
        Disk { outer, kind, options, pristine }
    }

    fn clone_image(&self, from: &Path, name: &str) -> PathBuf {
        let to = self.outer.at.join(format!("{name}.img"));
        sh("cp", &["--reflink=always", from.to_str().expect("path"), to.to_str().expect("path")]);
        to
    }

    fn mount(&self, image: PathBuf, name: &str) -> Mounted {
        Mounted::mount(&self.outer.at, name, image, self.options)
    }

    /// What an undisturbed run gives.
    fn reference(&self, command: &[&str]) -> Reference {
        let base = self.mount(self.clone_image(&self.pristine, "base"), "base");
        // on this disk too: xfs changes the time of a directory that is exchanged, ext4 does not
        Reference::of(&Bed::at(base.at.join("root")).copied_to(&base.at), command)
    }

    /// How long a command takes on this disk.
    fn time(&self, before: Option<&[&str]>, command: &[&str], env: &[(&str, &str)]) -> Duration {
        let timed = self.mount(self.clone_image(&self.pristine, "timed"), "timed");
        let bed = Bed::at(timed.at.join("root"));
        if let Some(before) = before {
            bed.run(before).expect(&[0, 3]);
        }
        let began = Instant::now();
        bed.command(command).envs(env.iter().copied()).output().expect("run");
        began.elapsed()
    }

    /// Runs a command and cuts the power at so many instants and at its end; calls `check` with the root of each and its name.
    fn cut(
        &self,
        before: Option<&[&str]>,
        command: &[&str],
        env: &[(&str, &str)],
        instants: &[Duration],
        mut check: impl FnMut(&Bed, &str),
    ) {
        let running = self.mount(self.clone_image(&self.pristine, "running"), "running");
        let bed = Bed::at(running.at.join("root"));
        if let Some(before) = before {
            bed.run(before).expect(&[0, 3]);
        }
        let began = Instant::now();
        let mut child = bed
            .command(command)
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("run");
        let mut images = Vec::new();
        for (n, at) in instants.iter().enumerate() {
            std::thread::sleep(at.saturating_sub(began.elapsed()));
            images.push((self.clone_image(&running.image, &format!("cut-{n}")), *at));
        }
        child.wait().expect("wait");
        // what has ended well is on the disk
        images.push((self.clone_image(&running.image, "cut-at-the-end"), began.elapsed()));
        let image = running.image.clone();
        drop(running);
        fs::remove_file(image).expect("remove");
        for (image, at) in images {
            let what = format!("{}: power cut after {} µs of {}", self.kind, at.as_micros(), command.join(" "));
            let after = self.mount(image.clone(), "after");
            let mut root = Bed::at(after.at.join("root"));
            root.since = bed.since;
            check(&root, &what);
            drop(after);
            fs::remove_file(image).expect("remove");
        }
    }
}

fn chosen(chance: &mut Chance, longest: Duration, n: usize) -> Vec<Duration> {
    let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
    let mut out: Vec<Duration> = (0..n).map(|_| Duration::from_micros(chance.below(micros + micros / 5))).collect();
    out.sort();
    out
}

fn power_cuts(kind: &'static str) {
    if !needs::root_and(&["mkfs.xfs", "mkfs.ext4"]) {
        return;
    }
    let mut chance = Chance::new("power_cuts");
    let dir = bed::temp();
    let disk = Disk::new(dir.path(), kind);
    let wanted = if bed::long() { 56 } else { 4 };
    let commands: &[&[&str]] = &[&["migrate", "--yes", "--mode", "copy"], &["migrate", "--yes", "--mode", "link"]];
    let references: Vec<Reference> = commands.iter().map(|c| disk.reference(c)).collect();
    let mut done = 0;
    while done < wanted {
        let n = usize::try_from(chance.below(2)).unwrap_or(0);
        let (command, reference) = (commands[n], &references[n]);
        // each third time it is the way back that has no power
        let going_back = done / 4 % 3 == 2;
        let (before, cut): (_, &[&str]) =
            if going_back { (Some(command), &["rollback", "--yes", "--drop-new"]) } else { (None, command) };
        let instants = chosen(&mut chance, disk.time(before, cut, &[]), 3);
        disk.cut(before, cut, &[], &instants, |bed, what| {
            if going_back || chance.below(2) == 0 {
                reference.rollback(bed, what)
            } else {
                reference.resume(bed, command, what)
            }
            done += 1;
        });
    }
    bed::report("power cut", kind, done);
}

#[test]
fn power_cuts_on_ext4() {
    power_cuts("ext4");
}

#[test]
fn power_cuts_on_xfs() {
    power_cuts("xfs");
}

/// Without the syncs the same test must fail, or it would prove nothing.
#[cfg(feature = "fault-points")]
#[test]
fn without_syncs_power_cuts_do_harm() {
    if !needs::root_and(&["mkfs.xfs", "mkfs.ext4"]) {
        return;
    }
    let mut chance = Chance::new("without_syncs");
    let dir = bed::temp();
    let disk = Disk::new(dir.path(), "ext4");
    let command = ["migrate", "--yes", "--mode", "copy", "--verify", "none"];
    let env = [("UNAUFS_FAULT_NO_SYNC", "1")];
    let reference = disk.reference(&command);
    let (mut cuts, mut harmed) = (0, 0);
    for _ in 0..if bed::long() { 6 } else { 1 } {
        let instants = chosen(&mut chance, disk.time(None, &command, &env), 3);
        disk.cut(None, &command, &env, &instants, |bed, _| {
            cuts += 1;
            bed.run(&command);
            harmed += usize::from(!reference.done.differences(&bed.result()).is_empty());
        });
    }
    println!("without syncs: {harmed} of {cuts} power cuts did harm");
    assert!(harmed > 0, "the control did not fail: the test cannot see lost data");
}
