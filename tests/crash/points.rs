//! Every effect on the disk passes a fault point; here the program dies before each of them in turn, so also after each.
//!
//! Short: a spread of the points. Long: all of them, on the small stores; each seventh on the real ones.

use crate::bed::{self, Bed, Mounted, Reference, assert_same, sh, wait_for};
use crate::stores::real;
use crate::support::needs;
use crate::tree::Tree;
use rayon::prelude::*;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Every way in which files get to their new place.
const MODES: &[&str] = &["link", "clone", "copy"];

/// Both generations.
const STORES: &[&str] = &["small", "small-graph"];

/// How many effects are tried.
#[derive(Clone, Copy)]
enum Which {
    /// All in the long run; in the short one about so many.
    All(u64),
    /// Each seventh in the long run.
    Seventh(u64),
}

impl Which {
    fn of(self, total: u64) -> Vec<u64> {
        let (step, tail) = match (self, bed::long()) {
            (Which::All(_), true) => (1, 0),
            (Which::Seventh(_), true) => (7, 150),
            // the last effects are the switch, where most can go wrong
            (Which::All(n) | Which::Seventh(n), false) => ((total / n).max(1), n / 3),
        };
        // another part of them at each run of the short kind would be hard to repeat: they are always the same
        (1..=total).filter(|k| k % step == 1 % step || *k > total.saturating_sub(tail)).collect()
    }

    fn fewer(self) -> Which {
        match self {
            Which::All(n) => Which::All(n.div_ceil(2)),
            Which::Seventh(n) => Which::Seventh(n.div_ceil(2)),
        }
    }
}

/// A copy of a store.
fn bed(store: &str, home: &Path) -> Bed {
    let mut bed = Bed::new_in(store, home);
    bed.no_sync = true;
    bed
}

/// The points to die at: all in the long run, else about so many.
pub fn chosen(total: u64, short: u64) -> Vec<u64> {
    Which::All(short).of(total)
}

/// How many effects a command has.
pub fn count(bed: &Bed, args: &[&str]) -> u64 {
    let file = bed.root.with_extension("count");
    let out = bed.command(args).env("UNAUFS_FAULT_COUNT", &file).output().expect("run");
    bed::Ran::of(out, args).expect(&[0, 3]);
    // no file: no effect, as of a rollback with nothing to do
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Runs a command that dies before its k-th effect.
pub fn die(bed: &Bed, args: &[&str], k: u64) {
    if let Err(ran) = try_die(bed, args, k) {
        panic!("it had fewer than {k} effects: {}", ran.said);
    }
}

/// The same where it may have fewer effects, and then comes to its end.
pub fn try_die(bed: &Bed, args: &[&str], k: u64) -> Result<(), bed::Ran> {
    let out = bed.command(args).env("UNAUFS_FAULT_AT", k.to_string()).output().expect("run");
    let ran = bed::Ran::of(out, args);
    if ran.signal == Some(9) { Ok(()) } else { Err(ran) }
}

/// `status` says in two sentences where things stand, and never sends a Docker onto half a store. Where it must not start, it cannot.
pub fn told(bed: &Bed, what: &str) {
    let said = bed.run(&["status", "--json"]).expect(&[0]).said;
    let json = &said[said.find('{').expect("JSON")..];
    let status: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{what}: {e}: {said}"));
    let text = |key: &str| status[key].as_str().unwrap_or_default();
    assert_eq!(text("reason").matches(". ").count(), 1, "{what}: not two sentences: {said}");
    assert!(text("reason").ends_with('.'), "{what}: {said}");
    let there = |p: &str| bed.root.join(p).exists();
    let to = ["overlay2", "overlay", "vfs", "btrfs"].iter().find(|d| there(&format!("image/{d}/repositories.json")));
    let may = status["docker_may_start"].as_bool().unwrap_or_else(|| panic!("{what}: {said}"));
    match (may, text("driver")) {
        (true, "aufs") => assert!(there("aufs/diff"), "{what}: {said}"),
        (true, driver) => assert!(there(driver) && to.is_some() && !there("aufs"), "{what}: {said}"),
        (false, _) => {
            let next = status["next"].as_array().into_iter().flatten();
            assert!(
                next.into_iter().any(|n| n["command"].as_str().is_some_and(|c| c.starts_with("unaufs "))),
                "{what}: {said}"
            );
        }
    }
    // a dockerd on half a store ends at one of these being a file
    let whole = there("aufs/diff") && there("image/aufs") || to.is_some() && !there("aufs");
    let stopped = bed.root.join("containers").is_file();
    let graph = there("graph");
    assert!(whole || graph || stopped, "{what}: a Docker can start on half a store: {said}");
    // whatever is under way has a way back
    let open = status["ways_back"].as_array().into_iter().flatten().any(|w| w["now"] == true);
    let over = matches!(text("state"), "none" | "undone");
    assert!(open || over, "{what}: no way back: {said}");
}

/// One thread: the k-th effect is then the same in each run.
fn migrate<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["migrate", "--yes", "-j", "1"], options].concat()
}

/// A command.
type Words<'a> = &'a [&'a str];

/// A command that is killed, and what is run before it and after it.
struct Case<'a> {
    name: String,
    before: &'a [Words<'a>],
    killed: Words<'a>,
    resumed: Words<'a>,
    reference: &'a Reference,
    some: Which,
}

impl Case<'_> {
    /// Dies before each effect; continues, and goes back. Gives the root as it is before that command.
    fn die_everywhere(&self, base: &Bed) -> Bed {
        let ready = base.fork();
        for command in self.before {
            ready.run(command).expect(&[0, 3]);
        }
        let total = count(&ready.fork(), self.killed);
        assert!(total > 10, "{total} effects: is the program built with the feature fault-points?");
        let points = self.some.of(total);
        points.par_iter().for_each(|&k| {
            let what = format!("{}: died at {k} of {total} of {}", self.name, self.killed.join(" "));
            let bed = ready.fork();
            die(&bed, self.killed, k);
            told(&bed, &what);
            let other = bed.fork();
            self.reference.resume(&bed, self.resumed, &what);
            self.reference.rollback(&other, &what);
        });
        bed::report(&format!("killed at a point of {}", self.killed[0]), &self.name, points.len());
        ready
    }
}

/// Everything about one way to migrate: killed in it, on the way back from it, and in `cleanup`.
fn every_point(home: &Path, store: &str, options: &[&str], some: Which) {
    let (base, command) = (bed(store, home), migrate(options));
    let reference = Reference::of(&base, &command);
    assert!(reference.code == 0 || !store.starts_with("small"), "something of {store} stays behind");
    let name = format!("{store} {}", options.join(" "));
    let case =
        Case { name: name.clone(), before: &[], killed: &command, resumed: &command, reference: &reference, some };
    case.die_everywhere(&base);
    let done = base.fork();
    done.run(&command).expect(&[0, 3]);
    while_going_back(&done, &reference, &name, some.fewer());
    while_cleaning(&done, &name, some.fewer());
}

/// Dies while rolling back a finished migration; then `migrate` refuses to continue, and it goes back or migrates again.
fn while_going_back(done: &Bed, reference: &Reference, case: &str, some: Which) {
    for keep in [false, true] {
        let command: &[&str] = if keep { &["rollback", "--yes"] } else { &["rollback", "--yes", "--drop-new"] };
        let total = count(&done.fork(), command);
        let points = some.of(total);
        points.par_iter().for_each(|&k| {
            let what = format!("{case}: died at {k} of {total} of {}", command.join(" "));
            let bed = done.fork();
            die(&bed, command, k);
            told(&bed, &what);
            if keep {
                for _ in 0..2 {
                    bed.run(command).expect(&[0]);
                    assert_same(&reference.original, &Tree::without(&bed.root, None, &[".unaufs"]), &what);
                }
            }
            reference.rollback(&bed, &what);
        });
        bed::report("killed at a point of rollback", &format!("{case} {}", command.join(" ")), points.len());
    }
}

/// Dies while deleting the old store.
fn while_cleaning(done: &Bed, case: &str, some: Which) {
    let command = &["cleanup", "--yes"][..];
    let clean = done.fork();
    clean.run(command).expect(&[0]);
    let wanted = clean.result();
    let total = count(&done.fork(), command);
    let points = some.of(total);
    points.par_iter().for_each(|&k| {
        let what = format!("{case}: died at {k} of {total} of cleanup");
        let bed = done.fork();
        die(&bed, command, k);
        for _ in 0..2 {
            bed.run(command).expect(&[0]);
            assert_same(&wanted, &bed.result(), &what);
        }
        assert!(!Path::new(&bed.root).join(".unaufs/old").exists(), "{what}: old is left");
    });
    bed::report("killed at a point of cleanup", case, points.len());
}

/// A target from both generations in every mode; in the short run in one of them, but to overlay2.
fn target(to: &str, kind: &str, modes: &[&str], graph: &str, short: u64) {
    if !needs::root_and(&["mkfs.xfs", "mkfs.btrfs"]) {
        return;
    }
    let dir = bed::temp();
    let disk = Mounted::with_clones(dir.path(), kind);
    for (store, mode) in STORES.iter().flat_map(|s| modes.iter().map(move |m| (s, m))) {
        // overlay2 is what nearly all move to
        let every_mode = to == "overlay2" && *store == "small";
        let tried = bed::long() || every_mode || *mode == graph;
        if bed::wanted(&format!("{store} {to} {mode}"), tried) {
            every_point(&disk.at, store, &["--to", to, "--mode", mode], Which::All(short));
        }
    }
}

#[test]
fn overlay2() {
    target("overlay2", "xfs", MODES, "link", 6);
}

#[test]
fn overlay() {
    target("overlay", "xfs", MODES, "copy", 3);
}

#[test]
fn vfs() {
    target("vfs", "xfs", MODES, "link", 3);
}

#[test]
fn btrfs() {
    target("btrfs", "btrfs", MODES, "clone", 3);
}

/// What was written by real Dockers.
#[test]
fn real_stores() {
    if !needs::root_and(&["mkfs.xfs"]) {
        return;
    }
    let dir = bed::temp();
    let disk = Mounted::with_clones(dir.path(), "xfs");
    let stores = [real(), "docker19-aufs"];
    // what a graph store has of its own is in small-graph
    for store in &stores[..if bed::long() { 2 } else { 1 }] {
        every_point(&disk.at, store, &[], Which::Seventh(3));
    }
}

/// Next to an overlay2 that is in use.
#[test]
fn beside_a_filled_store() {
    if !needs::root_and(&["mkfs.xfs"]) {
        return;
    }
    let dir = bed::temp();
    let disk = Mounted::with_clones(dir.path(), "xfs");
    every_point(&disk.at, "small-filled", &["--mode", "link"], Which::All(6));
}

/// Prepared while Docker runs: killed in the preparation, and in what follows it.
#[test]
fn prepared() {
    if !needs::root() {
        return;
    }
    let (base, command) = (bed("small", &bed::base()), migrate(&[]));
    let reference = Reference::of(&base, &command);
    let prepare: &[&str] = &["migrate", "--yes", "-j", "1", "--prepare"];
    let no_switch = migrate(&["--no-switch"]);
    let cases: [(&str, &[Words<'_>], Words<'_>); 3] = [
        ("in --prepare", &[], prepare),
        ("after --prepare", &[prepare], &command),
        ("after --no-switch", &[&no_switch], &command),
    ];
    for (name, before, killed) in cases {
        let name = format!("small, {name}");
        let some = Which::All(4);
        Case { name, before, killed, resumed: &command, reference: &reference, some }.die_everywhere(&base);
    }
}

/// A file that cannot be read, left out with all that is based on it: the plan is made again on the way.
#[test]
fn without_a_bad_file() {
    if !needs::root_and(&["strace"]) {
        return;
    }
    let mut base = bed("small", &bed::base());
    base.bad = Some(base.layer_with("hidden/below").join("hidden/below"));
    let command = migrate(&["--mode", "copy", "--keep-going"]);
    let reference = Reference::of(&base, &command);
    assert_eq!(reference.code, 3);
    let name = "small, --keep-going with a bad file".to_owned();
    let some = Which::All(4);
    Case { name, before: &[], killed: &command, resumed: &command, reference: &reference, some }.die_everywhere(&base);
}

/// What a disk takes its time for cannot be broken off at a safe point; a second signal does not wait for it, and nothing is lost.
#[test]
fn a_second_signal_stops_at_once() {
    if !needs::root() {
        return;
    }
    let (base, command) = (bed("small", &bed::base()), migrate(&[]));
    let reference = Reference::of(&base, &command);
    let total = count(&base.fork(), &command);
    let step = usize::try_from(total / if bed::long() { 25 } else { 3 }).unwrap_or(1);
    let points: Vec<u64> = (total / 9..=total).step_by(step).collect();
    for &k in &points {
        let bed = base.fork();
        let (seen, errors) = (bed.root.with_extension("seen"), bed.root.with_extension("errors"));
        let mut slow = bed.command(&command);
        slow.env("UNAUFS_FAULT_STALL", k.to_string()).env("UNAUFS_FAULT_COUNT", &seen).stdout(Stdio::null());
        let mut child = slow.stderr(File::create(&errors).expect("a file")).spawn().expect("run");
        let pid = child.id().to_string();
        let text = |p: &Path| std::fs::read_to_string(p).unwrap_or_default();
        wait_for(&mut child, "the point", || text(&seen).starts_with(&format!("{k} ")));
        sh("kill", &["-TERM", &pid]);
        wait_for(&mut child, "its answer", || text(&errors).contains("again to stop at once"));
        let began = Instant::now();
        sh("kill", &["-INT", &pid]);
        assert_eq!(child.wait().expect("wait").code(), Some(130), "{}", text(&errors));
        assert!(began.elapsed() < Duration::from_secs(60), "the second signal waited");
        let (other, what) = (bed.fork(), format!("a second signal at {k} of {total}"));
        reference.resume(&bed, &command, &what);
        reference.rollback(&other, &what);
    }
    bed::report("stopped at once by a second signal", "small", points.len());
}

/// A rollback of what is half built or half switched, killed as well.
#[test]
fn killed_twice() {
    if !needs::root() {
        return;
    }
    let (base, command) = (bed("small", &bed::base()), migrate(&[]));
    let reference = Reference::of(&base, &command);
    let total = count(&base.fork(), &command);
    let back = &["rollback", "--yes", "--drop-new"][..];
    let firsts: Vec<u64> = Which::All(6).of(total).into_iter().rev().step_by(if bed::long() { 7 } else { 3 }).collect();
    let pairs: Vec<(u64, u64)> = firsts
        .par_iter()
        .flat_map_iter(|&k| {
            let half = base.fork();
            die(&half, &command, k);
            let n = count(&half, back);
            Which::All(4).of(n).into_iter().step_by(if bed::long() { 3 } else { 1 }).map(move |j| (k, j))
        })
        .collect();
    pairs.par_iter().for_each(|&(k, j)| {
        let bed = base.fork();
        die(&bed, &command, k);
        die(&bed, back, j);
        reference.rollback(&bed, &format!("died at {k} of migrate, then at {j} of rollback"));
    });
    bed::report("killed in migrate, then in rollback", "small", pairs.len());
}
