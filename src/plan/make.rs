//! Gathers what [`super::build::plan`] needs: reads the store, counts the layers, looks at the host.

use super::build::{Found, Original, fingerprint, plan, weigh};
use super::elsewhere::{self, Place, repoint};
use super::quirks::Quirk;
use super::scan::{self, Facts};
use super::{Options, Plan, estimate::Pace, existing, host, quirks, renames, shown, switch};
use crate::disk::{Dir, Meta};
use crate::docker::driver::Target;
use crate::docker::json;
use crate::error::Result;
use crate::ids::{LayerId, Sha256};
use crate::layer::branch::{Branch, Format};
use crate::layer::view::Chain;
use crate::progress::Progress;
use crate::store::{self, Content, Layer, Store};
use std::collections::BTreeMap;

/// What is known before the store is looked at.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Layers that turned out unreadable while running, and why.
    pub lost: BTreeMap<LayerId, String>,
    /// Image layers counted before: Docker never writes into them again, so they are not counted twice.
    pub counted: BTreeMap<LayerId, Facts>,
}

impl Known {
    /// The image layers of an earlier plan.
    pub fn of(plan: &Plan) -> Known {
        let images = plan.layers.iter().filter(|l| !l.role.writable());
        Known { lost: BTreeMap::new(), counted: images.map(|l| (l.id.clone(), l.facts.clone())).collect() }
    }
}

/// Makes the plan for ROOT. Writes nothing.
pub fn make(root: &Dir, options: &Options, known: &Known, progress: &dyn Progress) -> Result<Plan> {
    make_on(root, options, known, &host::Machine::here(options), progress)
}

/// The same, on a machine given.
pub fn make_on(
    root: &Dir,
    options: &Options,
    known: &Known,
    machine: &host::Machine,
    progress: &dyn Progress,
) -> Result<Plan> {
    let (mut store, mut findings) = store::open(root)?;
    let elsewhere = match &options.target {
        Some(dir) => {
            let place = Place::look(std::path::Path::new(dir))?;
            findings.extend(repoint::apply(root, &mut store, &place.path)?);
            let (elsewhere, more) = elsewhere::look(root, &store, &place)?;
            findings.extend(more);
            Some(elsewhere)
        }
        None => {
            // what is no folder is told by H08, with everything else; into a mount point one cannot look
            if matches!(root.try_open(options.to.name().as_bytes()), Err(rustix::io::Errno::XDEV)) {
                store::attached(root, options.to.name())?;
            }
            None
        }
    };
    let began = std::time::Instant::now();
    // the host is looked at meanwhile: to start a dockerd and ask its version takes longer than to count a small store
    let (counted, took, host) = std::thread::scope(|s| {
        let host = s.spawn(|| host::look(root, options, machine));
        let counted = count(root, &store, known, progress);
        let took = began.elapsed();
        let host = host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (counted, took, host)
    });
    let ((facts, mut unreadable), host) = (counted?, host?);
    let pace = Pace::of(took, facts.values());
    unreadable.extend(known.lost.clone());
    let quirks = find_quirks(root, &store, &facts)?;
    let volumes = count_volumes(root)?;
    let shown = shown::all(root, &store, &facts, matches!(options.to, Target::Vfs | Target::Overlay))?;
    // a store of the target in the old root is not the one that a root in another place gets
    let existing = match elsewhere {
        Some(_) => existing::Existing::default(),
        None => existing::read(root, options.to, &store)?,
    };
    let state = existing.state;
    #[rustfmt::skip]
    let mut found =
        Found { store: &store, findings, facts, unreadable, quirks, host, volumes, shown, originals: BTreeMap::new(), pace, existing, elsewhere };
    let mut plan = plan(&found, options, crate::text::now());
    found.originals = originals(root, &plan)?;
    plan.switch = switch::moves(root, &store, &plan, state)?;
    plan.touched = switch::touched(root, &plan.switch)?;
    if plan.elsewhere.is_none() {
        renames::check(root, &plan.switch, machine, &mut plan.checks)?;
    }
    plan.fingerprint = fingerprint(&plan, &found);
    weigh(&mut plan, &found);
    Ok(plan)
}

/// Volumes stay where they are. Their folder may be a symlink or a mount of the user's: then they are not counted.
fn count_volumes(root: &Dir) -> Result<usize> {
    use rustix::io::Errno;
    let dir = match root.try_open(b"volumes") {
        Ok(dir) => dir,
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => return Ok(0),
        Err(e) => return Err(crate::error::Error::io(format!("open folder {}", root.show(b"volumes")), e)),
    };
    let mut count = 0;
    dir.for_each(|_, kind, _| {
        count += usize::from(kind == crate::disk::FileType::Directory);
        Ok(())
    })?;
    Ok(count)
}

/// Docker's own files in the old root that are made again, by path.
fn originals(root: &Dir, plan: &Plan) -> Result<BTreeMap<String, Original>> {
    let metadata = plan.metadata.iter().map(|f| (&f.content, false));
    let configs = plan.containers.iter().flat_map(|c| c.files.iter().map(|f| (&f.content, true)));
    let mut out = BTreeMap::new();
    for (content, rewritten) in metadata.chain(configs) {
        if let Content::Same(path) | Content::Edited(path, _) = content
            && let Some(m) = root.stat_opt(path)?
        {
            out.insert(path.clone(), Original { size: m.size, state: state(root, path, &m, rewritten) });
        }
    }
    Ok(out)
}

/// Changes when the file does. What the switch parks and a rollback puts back gets another time of change by that: its content counts.
fn state(root: &Dir, path: &str, m: &Meta, rewritten: bool) -> String {
    let content = rewritten.then(|| root.read(path, json::LIMIT).map(|b| Sha256::of(&b).to_string()));
    match content {
        Some(Ok(digest)) => format!("{digest} {} {:o} {}:{}", m.size, m.mode, m.uid, m.gid),
        // a file that cannot be read is named by the checks of the store
        Some(Err(_)) | None => format!("{:?} {:?} {} {:o} {}:{}", m.mtime, m.ctime, m.size, m.mode, m.uid, m.gid),
    }
}

/// Counts every sound layer, those with the fewest layers below first: a layer's folders must be known before the files that may cover them.
fn count(
    root: &Dir,
    store: &Store,
    known: &Known,
    progress: &dyn Progress,
) -> Result<(BTreeMap<LayerId, Facts>, BTreeMap<LayerId, String>)> {
    let mut by_depth: BTreeMap<usize, Vec<&Layer>> = BTreeMap::new();
    let (mut facts, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
    for l in store.layers.values().filter(|l| l.broken.is_none()) {
        match known.counted.get(&l.id).filter(|_| !l.role.writable()) {
            Some(f) => drop(facts.insert(l.id.clone(), f.clone())),
            None => by_depth.entry(l.lowers.len()).or_default().push(l),
        }
    }
    let folders = scan::Folders::default();
    progress.phase("scan", by_depth.values().map(Vec::len).sum::<usize>() as u64);
    for level in by_depth.values() {
        use rayon::prelude::*;
        let counted: Vec<(&Layer, Result<Facts>)> = level
            .par_iter()
            .map(|l| {
                let f = root.open(l.source()).and_then(|d| scan::scan(d, &folders));
                progress.step(&l.id.short());
                (*l, f)
            })
            .collect();
        for (l, f) in counted {
            match f {
                Ok(mut f) => {
                    f.sort();
                    facts.insert(l.id.clone(), f);
                }
                // out of descriptors or memory: that is this process's, not the layer's
                Err(e) if e.kind() == crate::error::Kind::Failed && !e.is_exhaustion() => {
                    unreadable.insert(l.id.clone(), e.chain());
                }
                Err(e) => return Err(e),
            }
        }
        crate::stop::check()?;
    }
    crate::disk::here::leave_all();
    Ok((facts, unreadable))
}

fn find_quirks(root: &Dir, store: &Store, facts: &BTreeMap<LayerId, Facts>) -> Result<Vec<Quirk>> {
    let mut out = Vec::new();
    for l in store.layers.values().filter(|l| facts.contains_key(&l.id) && l.broken.is_none()) {
        let ids: Vec<&LayerId> = std::iter::once(&l.id).chain(&l.lowers).collect();
        for id in &ids {
            for p in facts.get(*id).into_iter().flat_map(|f| &f.long_names.first) {
                out.push(Quirk { layer: l.id.clone(), path: with_slash(p), id: "L07".to_owned() });
            }
        }
        let spots = quirks::candidates(&ids, facts);
        if spots.is_empty() {
            continue;
        }
        let branch = |id: &&LayerId| -> Result<Branch> {
            let source = store.layers.get(*id).map(Layer::source).unwrap_or_default();
            Ok(Branch { id: Some((*id).clone()), dir: root.open(source)?, format: Format::Aufs })
        };
        let chain = Chain { branches: ids.iter().map(branch).collect::<Result<_>>()? };
        for spot in spots {
            for p in quirks::shown_by_aufs_only(&chain, spot)? {
                out.push(Quirk { layer: l.id.clone(), path: with_slash(&p), id: "L06".to_owned() });
            }
        }
    }
    out.sort();
    out.dedup();
    Ok(out)
}

fn with_slash(p: &[u8]) -> Vec<u8> {
    [b"/", p].concat()
}
