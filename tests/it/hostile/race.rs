//! Directories change places with symlinks, by renameat2(EXCHANGE), while unaufs works on them.

use super::bed::World;
use crate::support::needs;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, ResolveFlags, openat2, renameat_with};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So many exchanges in all, each of which puts a symlink where a directory or file was, or back; and at least so many rounds of migrate,
/// rollback, migrate, cleanup.
const LONG: (u64, usize) = (10_000, 3);
const SHORT: (u64, usize) = (2_000, 1);

/// A place in ROOT, and the link that it changes places with.
struct Pair {
    place: PathBuf,
    link: PathBuf,
    target: PathBuf,
}

fn pairs(w: &World) -> Vec<Pair> {
    let links = w.elsewhere.join("links");
    fs::create_dir_all(&links).expect("a folder");
    let store = w.canary.join("store");
    // (place, what its link leads to)
    let mut out: Vec<(String, PathBuf)> = Vec::new();
    for cast in &w.casts {
        let id = &cast.id;
        for inside in ["", "/etc", "/data", "/many", "/many/deep"] {
            let diff = format!("aufs/diff/{id}{inside}");
            for place in [diff.clone(), format!(".unaufs/old/{diff}")] {
                out.push((place, store.join(&diff)));
            }
            for new in [format!(".unaufs/new/overlay2/{id}/diff{inside}"), format!("overlay2/{id}/diff{inside}")] {
                out.push((new, store.join(&diff)));
            }
        }
        out.push((format!("aufs/layers/{id}"), w.canary.join("secret")));
    }
    for folder in ["containers", "image/aufs/layerdb/mounts", "image/aufs/layerdb/sha256"] {
        for name in fs::read_dir(w.at(folder)).expect(folder).flatten() {
            let place = format!("{folder}/{}", name.file_name().to_string_lossy());
            out.push((place.clone(), store.join(&place)));
            out.push((format!(".unaufs/new/{}", place.replace("/aufs/", "/overlay2/")), store.join(&place)));
            out.push((format!(".unaufs/old/{place}"), store.join(&place)));
        }
    }
    for place in [
        "aufs/diff",
        "aufs/layers",
        "image/aufs",
        ".unaufs/new/image",
        ".unaufs/new/overlay2",
        ".unaufs/old/aufs",
        ".unaufs/old",
    ] {
        out.push((place.to_owned(), w.canary.join("store/aufs/diff")));
    }
    let config = format!("{}/config.v2.json", w.first("containers").strip_prefix(&w.root).expect("below").display());
    out.push((config, w.canary.join("secret")));
    let pair = |(n, (place, target)): (usize, (String, PathBuf))| {
        let link = links.join(n.to_string());
        std::os::unix::fs::symlink(&target, &link).expect("a symlink");
        Pair { place: w.at(&place), link, target }
    };
    out.into_iter().enumerate().map(pair).collect()
}

/// Exchanges the two. The way to the place may lead over a symlink that another exchange has put there: it is not followed, or this test itself
/// would change the canary.
fn exchange(place: &Path, link: &Path) -> bool {
    let (Some(folder), Some(name)) = (place.parent(), place.file_name()) else { return false };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(CWD, folder, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        .and_then(|at| renameat_with(&at, name, CWD, link, RenameFlags::EXCHANGE))
        .is_ok()
}

/// Exchanges one pair after the other, mostly there and back again at once, until it is told to stop. Back goes at most `pause` microseconds
/// later: each round takes longer, until a verb finds a way through.
fn swap(pairs: &[Pair], stop: &AtomicBool, swaps: &AtomicU64, seed: u64, pause: u64) {
    let mut random = seed | 1;
    while !stop.load(Ordering::Relaxed) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let p = &pairs[usize::try_from(random >> 20).unwrap_or(0) % pairs.len()];
        if exchange(&p.place, &p.link) {
            swaps.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_micros(random % pause));
            // a few stay, and are met by the next verb
            if !random.is_multiple_of(200) && exchange(&p.place, &p.link) {
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn many() -> String {
    let mut out = super::bed::STACK.to_owned();
    out += "layer\n";
    for n in 0..150 {
        out += &format!("f many/file{n} =x\nf many/deep/file{n} =y\nf etc/file{n} =z\nw data/gone{n}\n");
    }
    out + "layer\nd many\nd many/deep\nf many/deep/own =1\n"
}

#[test]
fn symlinks_that_come_and_go() {
    if !needs::root() {
        return;
    }
    let swaps = AtomicU64::new(0);
    let (wanted, rounds) = if needs::long() { LONG } else { SHORT };
    let began = Instant::now();
    let (mut round, mut worked) = (0, 0);
    while round < rounds || swaps.load(Ordering::Relaxed) < wanted || worked == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(500),
            "{} swaps in {round} rounds, {worked} verbs went through",
            swaps.load(Ordering::Relaxed)
        );
        let w = World::of(&many());
        let pairs = pairs(&w);
        for verb in [
            &["migrate", "--yes"][..],
            &["rollback", "--yes"],
            &["migrate", "--yes", "--keep-going"],
            &["cleanup", "--yes"],
        ] {
            let stop = AtomicBool::new(false);
            let (pairs, stop, swaps) = (&pairs, &stop, &swaps);
            let raced = std::thread::scope(|s| {
                let seed = round as u64 * 77 + verb.len() as u64;
                s.spawn(move || swap(pairs, stop, swaps, seed, 300 << round.min(8)));
                let ran = w.run_quietly(verb);
                stop.store(true, Ordering::Relaxed);
                worked += u64::from(matches!(ran.code, 0 | 3));
                ran
            });
            settle(&w.root, pairs);
            w.unharmed(&format!("round {round}, {verb:?}"));
            // what the exchanges kept from ending is ended in peace; what they led away may be missing, and then stays behind
            if verb[0] != "cleanup" {
                let mut ran = w.run(verb);
                // the exchanges changed a layer after its plan was made, or its copy: the way out that this names works
                let first = ran.clone();
                if matches!(ran.code, 6 | 13) {
                    w.run(&["rollback", "--yes", "--drop-new"]).exits(0);
                    ran = w.run(verb);
                }
                let parked = names_below(&w.at(".unaufs/old"));
                assert!(
                    matches!(ran.code, 0 | 3),
                    "round {round}, {verb:?}, raced: {raced:?}, in peace: {first:?}, then: {ran:?}, parked: {parked:#?}"
                );
            }
        }
        round += 1;
    }
    eprintln!(
        "{} exchanges in {round} rounds; {worked} of {} verbs went through",
        swaps.load(Ordering::Relaxed),
        round * 4
    );
}

/// Puts every link back in its place. A verb may have renamed a link that it took for the directory.
fn settle(root: &Path, pairs: &[Pair]) {
    let is_link = |p: &Path| fs::symlink_metadata(p).is_ok_and(|m| m.is_symlink());
    // an inner place is reached once the outer ones are back
    for _ in 0..4 {
        for p in pairs.iter().filter(|p| !is_link(&p.link)) {
            let below = p.place.strip_prefix(root).expect("below ROOT");
            let parts: PathBuf =
                below.iter().skip_while(|s| [".unaufs", "old", "new"].map(AsRef::as_ref).contains(s)).collect();
            let moved = ["", ".unaufs/old", ".unaufs/new", ".unaufs/held"].map(|to| root.join(to).join(&parts));
            let ours = |at: &&PathBuf| fs::read_link(at).is_ok_and(|to| to == p.target);
            for place in [&p.place].into_iter().chain(&moved).filter(ours).take(1) {
                exchange(place, &p.link);
            }
        }
    }
}

/// What is not a directory, for the message of a failure.
fn names_below(top: &Path) -> Vec<PathBuf> {
    let (mut out, mut todo) = (Vec::new(), vec![top.to_owned()]);
    while let Some(at) = todo.pop() {
        for e in fs::read_dir(at).into_iter().flatten().flatten() {
            let is_dir = e.file_type().is_ok_and(|t| t.is_dir());
            if is_dir { todo.push(e.path()) } else { out.push(e.path()) }
        }
    }
    out
}
