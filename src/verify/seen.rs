//! What is found while verifying: sorted out first, then counted, then cut.

use super::since::{Since, Whose};
use super::{By, Difference, Report, Side, Unchecked, Unprovable};
use crate::error::{Error, Kind, Result};
use crate::ids::LayerId;
use crate::progress::Progress;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// As many differences are listed: past that the store is not the same, and memory is to stay flat. All are counted.
pub const MOST: usize = 100_000;

/// Counters and findings that threads share.
#[derive(Default)]
pub struct Seen<'a> {
    /// Docker has run since the switch: what it may have changed.
    pub since: Option<Since<'a>>,
    /// Names compared.
    pub names: AtomicU64,
    /// Bytes of content compared.
    pub bytes: AtomicU64,
    /// Image layers held against their headers.
    pub headers: AtomicU64,
    /// What is copied to a new root.
    pub units: AtomicU64,
    digests: AtomicU64,
    digested: AtomicU64,
    unprovable: Mutex<Vec<Unprovable>>,
    unchecked: Mutex<BTreeSet<Unchecked>>,
    damage: Mutex<List>,
    changes: Mutex<List>,
}

/// Differences: all counted, not all kept.
#[derive(Default)]
struct List {
    all: BTreeSet<Difference>,
    counts: BTreeMap<&'static str, u64>,
}

impl List {
    fn add(&mut self, d: Difference) {
        let kind = d.kind;
        // of something that Docker removed every part is missing: once is enough
        if self.all.contains(&d) {
            return;
        }
        if self.all.len() < MOST {
            self.all.insert(d);
        }
        *self.counts.entry(kind).or_default() += 1;
    }
}

impl Seen<'_> {
    /// Notes a difference.
    pub fn note(&self, d: Difference) {
        let whose = match &self.since {
            Some(since) => since.whose(d),
            None => Whose::Damage(d),
        };
        let (list, d) = match whose {
            Whose::Damage(d) => (&self.damage, d),
            Whose::Docker(d) => (&self.changes, d),
            Whose::Part => return,
        };
        list.lock().unwrap_or_else(|e| e.into_inner()).add(d);
    }

    /// Notes damage that is nobody's to make, whatever has run since.
    pub fn damage(&self, d: Difference) {
        self.damage.lock().unwrap_or_else(|e| e.into_inner()).add(d);
    }

    /// Notes as many differences that are not listed.
    pub fn uncounted(&self, kind: &'static str, more: u64) {
        *self.damage.lock().unwrap_or_else(|e| e.into_inner()).counts.entry(kind).or_default() += more;
    }

    /// Notes that something failed while `d` was looked at: a difference, unless the failure says nothing about the store.
    ///
    /// # Errors
    /// That somebody asked to stop.
    pub fn failed(&self, d: Difference, e: Error) -> Result<()> {
        if stops(&e) {
            return Err(e);
        }
        if says_nothing(&e) {
            let object = format!("{} {}", d.kind, super::short(&d.id));
            let mut list = self.unchecked.lock().unwrap_or_else(|e| e.into_inner());
            list.insert(Unchecked { object, reason: e.chain() });
        } else {
            self.note(Difference { what: format!("{}{}", d.what, e.chain()), ..d });
        }
        Ok(())
    }

    /// Notes a layer that can't be proved by itself.
    pub fn unprovable(&self, layer: &str, reason: impl Into<String>) {
        self.not_proved(Unprovable { layer: layer.to_owned(), reason: reason.into(), damaged: false });
    }

    /// Notes a layer whose tar-split data are damaged, and were before the migration.
    pub fn damaged_record(&self, layer: &str, e: &Error) {
        self.damaged_before(layer, format!("its tar-split.json.gz is damaged: {}", e.chain()));
    }

    /// Notes a layer that can't be proved by itself because it was damaged before the migration.
    pub fn damaged_before(&self, layer: &str, reason: impl Into<String>) {
        self.not_proved(Unprovable { layer: layer.to_owned(), reason: reason.into(), damaged: true });
    }

    fn not_proved(&self, one: Unprovable) {
        let mut list = self.unprovable.lock().unwrap_or_else(|e| e.into_inner());
        // its headers and its digest fail at the same file
        if !list.iter().any(|u| *u == one || u.damaged && u.layer == one.layer) {
            list.push(one);
        }
    }

    /// Notes a layer that has the digest that it should have.
    pub fn proved(&self, bytes: u64) {
        self.digests.fetch_add(1, Ordering::Relaxed);
        self.digested.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The counts and lists, sorted; `name` gives who uses a layer or container.
    pub fn report(self, driver: &'static str, name: impl Fn(&Difference) -> String) -> Report {
        let named = |list: Mutex<List>| {
            let List { all, counts } = list.into_inner().unwrap_or_else(|e| e.into_inner());
            let name =
                |d: Difference| Difference { name: if d.name.is_empty() { name(&d) } else { d.name.clone() }, ..d };
            let mut all: Vec<Difference> = all.into_iter().map(name).collect();
            all.sort();
            (all, counts)
        };
        let ((differences, counts), (changed_since, changes)) = (named(self.damage), named(self.changes));
        let mut unprovable = self.unprovable.into_inner().unwrap_or_else(|e| e.into_inner());
        unprovable.sort();
        Report {
            driver,
            names: self.names.into_inner(),
            bytes: self.bytes.into_inner(),
            headers: self.headers.into_inner(),
            units: self.units.into_inner(),
            digests: self.digests.into_inner(),
            digested_bytes: self.digested.into_inner(),
            unprovable,
            unchecked: self.unchecked.into_inner().unwrap_or_else(|e| e.into_inner()).into_iter().collect(),
            differences,
            counts,
            docker_ran: self.since.is_some(),
            copied: self.since.is_some_and(|since| since.switched.copied),
            changed_since,
            changes,
            ..Report::default()
        }
    }
}

/// Did somebody ask to stop?
pub fn stops(e: &Error) -> bool {
    matches!(e.kind(), Kind::Interrupted | Kind::Terminated)
}

/// Does this error tell of the process or the disk, and not of the store?
pub fn says_nothing(e: &Error) -> bool {
    let errnos = [Errno::ACCESS, Errno::PERM, Errno::IO, Errno::NODEV, Errno::REMOTEIO, Errno::TIMEDOUT];
    e.is_exhaustion() || e.errno().is_some_and(|e| errnos.contains(&e))
}

/// Works on several layers at a time. What fails is a difference of its layer, and the others continue.
pub fn each<T: Sync>(
    todo: &[T],
    id: impl Fn(&T) -> &LayerId + Sync,
    (side, seen): (Side, &Seen<'_>),
    progress: &dyn Progress,
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    // a layer may be several pieces of work: people count layers
    let mut left: HashMap<&LayerId, usize> = HashMap::new();
    todo.iter().for_each(|one| *left.entry(id(one)).or_default() += 1);
    progress.phase("verify", left.len() as u64);
    let left = Mutex::new(left);
    let done = |id: &LayerId| {
        let mut left = left.lock().unwrap_or_else(|e| e.into_inner());
        left.get_mut(id).is_some_and(|n| {
            *n -= 1;
            *n == 0
        })
    };
    let next = AtomicUsize::new(0);
    let stopped: Mutex<Option<Error>> = Mutex::new(None);
    std::thread::scope(|s| {
        for _ in 0..rayon::current_num_threads().min(todo.len()) {
            s.spawn(|| {
                crate::disk::here::free();
                while let Some(one) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let failed = |e| {
                        let of = Difference::new("layer", id(one).as_str(), "").side(side).by(By::Records);
                        seen.failed(of, e)
                    };
                    if let Err(e) = crate::stop::check().and_then(|()| work(one)).or_else(failed) {
                        stopped.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
                        break;
                    }
                    if done(id(one)) {
                        progress.step(&id(one).short());
                    }
                }
            });
        }
    });
    match stopped.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(e) => Err(e),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_list_is_counted_in_full_and_never_clean() {
        let seen = Seen::default();
        for n in 0..MOST + 5 {
            seen.note(Difference::new("layer", "l", "content").path(n.to_string()));
        }
        seen.note(Difference::new("image", "i", "gone"));
        let report = seen.report("vfs", |_| "name".to_owned());
        assert_eq!(report.differences.len(), MOST);
        assert_eq!(
            (report.counts["layer"], report.counts["image"], report.total()),
            (MOST as u64 + 5, 1, MOST as u64 + 6)
        );
        assert_eq!(report.outcome(), super::super::Outcome::Damaged);
    }

    #[test]
    fn what_says_nothing_is_no_difference_and_no_verdict() {
        let seen = Seen::default();
        for errno in [Errno::MFILE, Errno::NOMEM, Errno::ACCESS, Errno::IO] {
            seen.failed(Difference::new("layer", "l", ""), Error::io("open x", errno)).expect("noted");
        }
        let report = seen.report("vfs", |_| String::new());
        assert_eq!((report.total(), report.unchecked.len()), (0, 4));
        assert_eq!(report.outcome(), super::super::Outcome::Unchecked);
        assert!(report.verdict(super::super::Level::Fast, "now".to_owned()).is_none());
        let seen = Seen::default();
        seen.failed(Difference::new("layer", "l", ""), Error::io("open x", Errno::NOENT)).expect("noted");
        assert_eq!(seen.report("vfs", |_| String::new()).outcome(), super::super::Outcome::Damaged);
    }
}
