//! Which layers are below a container's own, where up to three sources say so and a crash may have cut one of them.
//!
//! ```text
//! aufs/layers/<id>             what aufs mounted                        written at creation, never synced
//! layerdb/mounts/<container>   init-id and parent, hence layerdb's chain
//! imagedb                      the chain of the image that the container's configuration names
//! ```
//!
//! aufs/layers counts. Where it is empty or cut, so that it is a proper part of what the metadata say, the metadata's list is taken. A list
//! that names other layers is followed only where each of them is a directory of its own that the metadata don't know: Docker 1.10 merged
//! equal layers in layerdb and left the containers on the other directories (PEERS M7). Everything else is a contradiction.

use crate::ids::LayerId;

/// A driver's list as it was read: what it names, or what is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Every line is an id.
    Whole(Vec<LayerId>),
    /// The last line is no id: those before it, and its text.
    Cut(Vec<LayerId>, String),
    /// It can't be read, or makes no sense.
    Bad(String),
}

impl Listed {
    /// The ids that can be read.
    pub fn ids(&self) -> &[LayerId] {
        match self {
            Listed::Whole(ids) | Listed::Cut(ids, _) => ids,
            Listed::Bad(_) => &[],
        }
    }
}

/// What the sources come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stack {
    /// They agree.
    Same(Vec<LayerId>),
    /// The list is followed although the metadata name other layers.
    Listed(Vec<LayerId>),
    /// The list is a proper part of what the metadata say, or missing: why, and the layers.
    Repaired(String, Vec<LayerId>),
}

impl Stack {
    /// The layers, nearest first.
    pub fn layers(self) -> Vec<LayerId> {
        match self {
            Stack::Same(l) | Stack::Listed(l) | Stack::Repaired(_, l) => l,
        }
    }
}

/// Settles it. `known` is what the metadata say; `stands_for` gives the layer that the metadata have for another directory, and `stranger`
/// says whether a layer is a directory that they don't know.
pub fn choose(
    listed: Option<&Listed>,
    known: &[LayerId],
    stands_for: impl Fn(&LayerId) -> LayerId,
    stranger: impl Fn(&LayerId) -> bool,
) -> Result<Stack, String> {
    let (ids, tail) = match listed {
        None => return Ok(Stack::Repaired("missing".to_owned(), known.to_vec())),
        Some(Listed::Bad(why)) => return Err(why.clone()),
        Some(Listed::Whole(ids)) => (ids, None),
        Some(Listed::Cut(ids, tail)) => (ids, Some(tail)),
    };
    let as_known = |(listed, known): (&LayerId, &LayerId)| listed == known || stands_for(listed) == *known;
    if tail.is_none() && ids.len() == known.len() {
        return match ids.iter().zip(known).all(as_known) {
            true if ids == known => Ok(Stack::Same(known.to_vec())),
            true => Ok(Stack::Listed(ids.clone())),
            false if ids.iter().zip(known).all(|(l, k)| l == k || stranger(l)) => Ok(Stack::Listed(ids.clone())),
            false => Err("it and the metadata name different layers".to_owned()),
        };
    }
    let next = known.get(ids.len());
    let fits = tail.is_none_or(|t| t.is_empty() || next.is_some_and(|n| n.as_str().starts_with(t.as_str())));
    if ids.len() > known.len() || !fits || !ids.iter().zip(known).all(as_known) {
        return Err("it and the metadata name different layers".to_owned());
    }
    let why = match (ids.len(), tail) {
        (0, None) => "empty".to_owned(),
        _ => format!("cut: it names {} of {} layers", ids.len(), known.len()),
    };
    // what is left of it is what was mounted
    Ok(Stack::Repaired(why, ids.iter().chain(&known[ids.len()..]).cloned().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(c: char) -> LayerId {
        LayerId::parse(&c.to_string().repeat(64)).expect("id")
    }

    fn ids(s: &str) -> Vec<LayerId> {
        s.chars().map(id).collect()
    }

    fn got(listed: Option<Listed>, known: &str) -> Result<Stack, String> {
        // e is a second directory of what the metadata call a; f is one that they don't know
        let stands_for = |l: &LayerId| if *l == id('e') { id('a') } else { l.clone() };
        choose(listed.as_ref(), &ids(known), stands_for, |l| *l == id('f'))
    }

    #[test]
    fn three_sources_come_to_one_list() {
        let whole = |s: &str| Some(Listed::Whole(ids(s)));
        let cut = |s: &str, tail: &str| Some(Listed::Cut(ids(s), tail.to_owned()));
        let repaired = |why: &str, s: &str| Ok(Stack::Repaired(why.to_owned(), ids(s)));
        assert_eq!(got(whole("abc"), "abc"), Ok(Stack::Same(ids("abc"))));
        assert_eq!(got(whole(""), ""), Ok(Stack::Same(vec![])));
        assert_eq!(got(whole(""), "abc"), repaired("empty", "abc"));
        assert_eq!(got(whole("ab"), "abc"), repaired("cut: it names 2 of 3 layers", "abc"));
        assert_eq!(got(whole("eb"), "abc"), repaired("cut: it names 2 of 3 layers", "ebc"));
        assert_eq!(got(cut("a", "bbb"), "abc"), repaired("cut: it names 1 of 3 layers", "abc"));
        assert_eq!(got(cut("", "aaa"), "abc"), repaired("cut: it names 0 of 3 layers", "abc"));
        assert_eq!(got(cut("abc", ""), "abc"), repaired("cut: it names 3 of 3 layers", "abc"));
        assert_eq!(got(None, "abc"), repaired("missing", "abc"));
        assert_eq!(got(whole("ebc"), "abc"), Ok(Stack::Listed(ids("ebc"))));
        assert_eq!(got(whole("afc"), "abc"), Ok(Stack::Listed(ids("afc"))));
        for (listed, known) in [
            (whole("acb"), "abc"),
            (whole("b"), "abc"),
            (whole("abcd"), "abc"),
            (whole("a"), ""),
            (cut("a", "ccc"), "abc"),
            (cut("abc", "d"), "abc"),
            (Some(Listed::Bad("it isn't text".to_owned())), "abc"),
        ] {
            assert!(got(listed.clone(), known).is_err(), "{listed:?} {known:?}");
        }
    }
}
