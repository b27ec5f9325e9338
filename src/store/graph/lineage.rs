//! Which image is based on which among the v1 images, and in which order Docker 1.10 converted them (FORMATS 8.1, 8.3).
//!
//! Docker walked `graph/` in the order of the names and converted the parents of each image first. The order matters: of
//! several layers with the same chain the first one reached gives layerdb its cache id.

use super::V1Id;
use std::collections::{BTreeMap, HashSet};

/// The most layers of an image: Docker up to 1.9 refused to build on more, since aufs stacks 127 branches, two of them the
/// container's (FORMATS 1.1). What is deeper was not made by Docker.
pub const MAX_DEPTH: usize = 125;

/// What is known of one directory of `graph/` before its parents are looked at: its parent, or why it is damaged.
pub type Claim = Result<Option<V1Id>, String>;

/// The outcome for all of them.
#[derive(Debug, Default)]
pub struct Lineage {
    /// Every sound image, parents first, in Docker's order.
    pub order: Vec<V1Id>,
    /// Every other one, with the reason. The damage of a parent is damage.
    pub broken: BTreeMap<V1Id, String>,
}

/// Sorts out all images. `claims` has one entry for each directory.
pub fn trace(claims: &BTreeMap<V1Id, Claim>) -> Lineage {
    let mut out = Lineage::default();
    let mut depth: BTreeMap<&V1Id, usize> = BTreeMap::new();
    for start in claims.keys() {
        // down to the first ancestor whose fate is known, then up again
        let mut path: Vec<&V1Id> = Vec::new();
        let mut on_path: HashSet<&V1Id> = HashSet::new();
        let mut circle = false;
        let mut at = Some(start);
        let mut fate: Result<usize, String> = Ok(0);
        while let Some(id) = at {
            if let Some(below) = depth.get(id) {
                fate = Ok(*below);
                break;
            }
            circle = !on_path.insert(id);
            fate = match claims.get(id) {
                _ if circle => Err("its parents run in a circle".to_owned()),
                _ if out.broken.contains_key(id) => Err(damaged_parent(id)),
                None => Err(format!("its parent {} isn't in graph/", id.short())),
                Some(Err(why)) => {
                    out.broken.insert(id.clone(), why.clone());
                    Err(damaged_parent(id))
                }
                Some(Ok(parent)) => {
                    path.push(id);
                    at = parent.as_ref();
                    continue;
                }
            };
            break;
        }
        for id in path.into_iter().rev() {
            fate = match fate {
                Ok(below) if below < MAX_DEPTH => {
                    depth.insert(id, below + 1);
                    out.order.push(id.clone());
                    Ok(below + 1)
                }
                Ok(_) => Err(format!("it has more than {MAX_DEPTH} layers")),
                Err(why) => Err(why),
            };
            if let Err(why) = fate {
                let next = if circle { why.clone() } else { damaged_parent(id) };
                out.broken.insert(id.clone(), why);
                fate = Err(next);
            }
        }
    }
    out
}

/// The reason of an image whose parent is not sound.
pub fn damaged_parent(id: &V1Id) -> String {
    format!("its parent {} is damaged", id.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> V1Id {
        V1Id::parse(&format!("{n:064x}")).expect("hex")
    }

    fn claims(list: &[(usize, Result<Option<usize>, &str>)]) -> BTreeMap<V1Id, Claim> {
        list.iter().map(|(n, p)| (id(*n), p.map(|p| p.map(id)).map_err(str::to_owned))).collect()
    }

    #[test]
    fn parents_come_first_and_names_decide() {
        let all = claims(&[(1, Ok(Some(9))), (2, Ok(None)), (3, Ok(Some(2))), (5, Ok(Some(9))), (9, Ok(Some(2)))]);
        let got = trace(&all);
        assert_eq!(got.order, [2, 9, 1, 3, 5].map(id));
        assert!(got.broken.is_empty());
    }

    #[test]
    fn damage_reaches_all_that_stands_on_it_and_no_more() {
        let all = claims(&[
            (1, Ok(Some(2))),
            (2, Err("its json is torn")),
            (3, Ok(Some(1))),
            (4, Ok(Some(77))),
            (5, Ok(Some(6))),
            (6, Ok(Some(7))),
            (7, Ok(Some(6))),
            (8, Ok(Some(8))),
            (10, Ok(None)),
            (11, Ok(Some(10))),
        ]);
        let got = trace(&all);
        assert_eq!(got.order, [10, 11].map(id));
        let reasons: Vec<(V1Id, &str)> = got.broken.iter().map(|(id, why)| (id.clone(), why.as_str())).collect();
        let parent = |n: usize| format!("its parent {} is damaged", id(n).short());
        let missing = format!("its parent {} isn't in graph/", id(77).short());
        let circle = "its parents run in a circle";
        let want = [
            (1, parent(2).as_str()),
            (2, "its json is torn"),
            (3, parent(1).as_str()),
            (4, missing.as_str()),
            (5, circle),
            (6, circle),
            (7, circle),
            (8, circle),
        ]
        .map(|(n, why)| (n, why.to_owned()));
        assert_eq!(reasons, want.iter().map(|(n, why)| (id(*n), why.as_str())).collect::<Vec<_>>());
    }

    #[test]
    fn a_stack_deeper_than_docker_s_is_cut_off() {
        // also a hostile one: neither recursion nor a quadratic history
        let all: BTreeMap<V1Id, Claim> = (0..20_000).map(|n| (id(n), Ok(n.checked_sub(1).map(id)))).collect();
        let got = trace(&all);
        assert_eq!(got.order.len(), MAX_DEPTH);
        assert_eq!(got.broken.len(), 20_000 - MAX_DEPTH);
        assert_eq!(got.broken[&id(MAX_DEPTH)], "it has more than 125 layers");
        // the other way round, so that the first look goes all the way down
        let all: BTreeMap<V1Id, Claim> = (0..2_000).map(|n| (id(n), Ok((n + 1 < 2_000).then(|| id(n + 1))))).collect();
        let got = trace(&all);
        assert_eq!(got.order.len(), MAX_DEPTH);
        assert_eq!(got.order[0], id(1_999));
    }
}
