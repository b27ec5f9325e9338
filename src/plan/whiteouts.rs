//! Whiteouts of names that no layer below shows, from what the scan noted of each layer: no file is looked at.

use super::scan::Trail;
use crate::error::Result;
use crate::ids::LayerId;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What one layer says about paths that some whiteout names, and about the directories on the way there.
#[derive(Default)]
struct Paths<'a> {
    /// Hidden in the layers below.
    hidden: HashSet<u64>,
    opaque: HashSet<u64>,
    /// Is it a directory?
    met: HashMap<u64, bool>,
    whiteouts: &'a [(Vec<u64>, Vec<u64>)],
}

impl<'a> Paths<'a> {
    fn of(trail: &'a Trail) -> Paths<'a> {
        Paths {
            hidden: trail.whiteouts.iter().flat_map(|(_, names)| names).copied().collect(),
            opaque: trail.opaque.iter().copied().collect(),
            met: trail.met.iter().copied().collect(),
            whiteouts: &trail.whiteouts,
        }
    }

    /// Does nothing of the layers below show in the last of these directories?
    fn ends_above(&self, on_the_way: &[u64]) -> bool {
        let ends = |p| self.hidden.contains(p) || self.opaque.contains(p) || self.met.get(p) == Some(&false);
        on_the_way.iter().any(ends)
    }

    fn is_empty(&self) -> bool {
        self.hidden.is_empty() && self.opaque.is_empty() && self.met.is_empty()
    }
}

/// How many of each layer's whiteouts hide nothing; not for a layer that is based on one without a trail.
pub fn idle<'a>(
    trails: &'a BTreeMap<LayerId, Trail>,
    lowers: impl Fn(&LayerId) -> &'a [LayerId],
) -> Result<BTreeMap<&'a LayerId, u64>> {
    let paths: HashMap<&LayerId, Paths<'_>> = trails.iter().map(|(id, trail)| (id, Paths::of(trail))).collect();
    let mut out = BTreeMap::new();
    for (id, own) in paths.iter().filter(|(_, own)| !own.whiteouts.is_empty()) {
        crate::stop::check()?;
        let below: Option<Vec<&Paths<'_>>> = lowers(id).iter().map(|l| paths.get(l)).collect();
        let Some(below) = below else { continue };
        let below: Vec<&Paths<'_>> = below.into_iter().filter(|p| !p.is_empty()).collect();
        let mut count = 0;
        for (on_the_way, names) in own.whiteouts {
            let ends = own.ends_above(on_the_way);
            count += names.iter().filter(|name| ends || !shown(&below, on_the_way, **name)).count() as u64;
        }
        out.insert(*id, count);
    }
    Ok(out)
}

/// Do these layers, nearest first, show the path?
fn shown(below: &[&Paths<'_>], on_the_way: &[u64], path: u64) -> bool {
    for layer in below {
        if layer.met.contains_key(&path) {
            return true;
        }
        if layer.hidden.contains(&path) || layer.ends_above(on_the_way) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::scan::hash_of_path as path;

    fn id(n: usize) -> LayerId {
        LayerId::parse(&format!("{n:064x}")).expect("an id")
    }

    /// Layers from the base up, each a list of: `+file`, `+directory/`, `-whiteout`, `=opaque directory`. Idle whiteouts of the last.
    fn idle_in(layers: &[&[&str]]) -> u64 {
        let trails: BTreeMap<LayerId, Trail> = layers.iter().enumerate().map(|(n, l)| (id(n), trail(l))).collect();
        let lowers: Vec<LayerId> = (0..layers.len() - 1).rev().map(id).collect();
        let top = id(layers.len() - 1);
        let below = |l: &LayerId| if *l == top { &lowers[..] } else { &[] };
        idle(&trails, below).expect("counts").get(&top).copied().expect("the uppermost has whiteouts")
    }

    fn trail(lines: &[&str]) -> Trail {
        let mut out = Trail::default();
        for line in lines {
            let (kind, name) = line.split_at(1);
            let hash = path(name.as_bytes());
            match kind {
                "+" => out.met.push((hash, name.ends_with('/'))),
                "=" => out.opaque.push(hash),
                _ => {
                    let directories = name.match_indices('/').map(|(i, _)| path(&name.as_bytes()[..i])).collect();
                    out.whiteouts.push((directories, vec![hash]));
                }
            }
        }
        out
    }

    #[test]
    fn what_hides_nothing() {
        for (layers, idle) in [
            (&[&["+a"][..], &["-a"]][..], 0),
            (&[&["+b"], &["-a"]], 1),
            (&[&["+d/", "+d/a"], &["-d/a"]], 0),
            // removed before, as a whole or by a mark; brought back
            (&[&["+a"], &["-a"], &["-a"]], 1),
            (&[&["+d/", "+d/a"], &["-d"], &["-d/a"]], 1),
            (&[&["+d/", "+d/a"], &["=d"], &["-d/a"]], 1),
            (&[&["+d/", "+d/a"], &["=d", "+d/a"], &["-d/a"]], 0),
            (&[&["+a"], &["-a"], &["+a"], &["-a"]], 0),
            // a file where the directory was
            (&[&["+d/", "+d/a"], &["+d"], &["-d/a"]], 1),
            // the layer's own mark hides it anyway
            (&[&["+d/", "+d/a"], &["=d", "-d/a"]], 1),
        ] {
            assert_eq!(idle_in(layers), idle, "{layers:?}");
        }
    }
}
