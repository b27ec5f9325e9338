//! What stays behind, by what holds it back: one damaged layer is one line, with all the containers, images and tags that need it.
//!
//! Text, page and JSON show this list; [`super::LeftBehind`] has an entry for each object.

use super::{LeftBehind, merge};
use crate::ids::ImageId;
use crate::store::{Cause, DAMAGED, SETTINGS, Store};
use crate::text::{self, plural};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Damage of one kind, and what it holds back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// What is damaged: `layer`, `image`, `container`, `tag`, `repository`, or `tags`, `links` or `settings` where a file with these is; `damage` of a layer that moves.
    pub kind: String,
    /// What is wrong.
    pub reason: String,
    /// What is lost by that, and what not.
    pub lost: String,
    /// The damaged objects.
    pub causes: Vec<Named>,
    /// The containers that stay behind, the damaged ones included.
    pub containers: Vec<Named>,
    /// The images that stay behind.
    pub images: Vec<Named>,
    /// Their tags and digests.
    pub tags: usize,
    /// The layers that stay behind.
    pub layers: usize,
}

/// An object with the name that people know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its name or first tag; empty if it has none.
    pub name: String,
}

impl Named {
    fn shown(&self) -> String {
        match self.name.as_str() {
            "" => match self.id.trim_start_matches("sha256:") {
                hex if hex.bytes().all(|c| c.is_ascii_hexdigit()) => hex.chars().take(12).collect(),
                file => text::text(file),
            },
            name => text::text(name),
        }
    }
}

/// Is it one object? One that holds others back goes by its short id.
fn is_one(id: &str, other: &str) -> bool {
    let [id, other] = [id, other].map(|s| s.trim_start_matches("sha256:"));
    id.starts_with(other) || other.starts_with(id)
}

/// Groups what stays behind: those first that cost containers, lost tags last.
pub fn group(store: &Store, left: &[LeftBehind]) -> Vec<Damage> {
    let mut by_cause: BTreeMap<(String, String), Damage> = BTreeMap::new();
    for l in left.iter().filter(|l| l.counts) {
        let own = || Cause { kind: l.kind.clone(), id: l.id.clone(), reason: l.reason.clone() };
        let cause = l.held_by.clone().unwrap_or_else(own);
        let d = by_cause.entry((cause.kind.clone(), cause.reason.clone())).or_default();
        (d.kind, d.reason) = (cause.kind.clone(), cause.reason.clone());
        if l.held_by.is_none() || d.lost.is_empty() {
            d.lost.clone_from(&l.lost);
        }
        let first = l.name.split(", ").next().unwrap_or_default();
        let name = match l.held_by {
            None => l.name.clone(),
            Some(_) if l.kind == cause.kind && is_one(&l.id, &cause.id) => first.to_owned(),
            Some(_) => String::new(),
        };
        let same = |n: &Named| is_one(&n.id, &cause.id);
        match d.causes.iter_mut().find(|n| same(n)) {
            Some(known) if known.name.is_empty() => known.name = name,
            Some(_) => {}
            None => d.causes.push(Named { id: cause.id.clone(), name }),
        }
        let named = Named { id: l.id.clone(), name: first.to_owned() };
        match l.kind.as_str() {
            "container" => d.containers.push(named),
            "image" => {
                let image = ImageId::parse(&l.id).ok().and_then(|id| store.images.get(&id));
                d.tags += image.map_or(0, |i| i.tags.len() + i.digests.len());
                d.images.push(named);
            }
            "layer" => d.layers += 1,
            _ => {}
        }
    }
    let mut out: Vec<Damage> = by_cause.into_values().collect();
    let rank = |d: &Damage| (d.kind == "tags", usize::MAX - d.containers.len(), usize::MAX - d.images.len());
    out.sort_by_key(rank);
    out
}

impl Damage {
    /// One sentence.
    pub fn sentence(&self) -> String {
        let n = self.causes.len();
        let reason = of_each(text::text(&self.reason), n);
        let only_itself = match self.kind.as_str() {
            "image" => self.others().is_empty(),
            _ => self.images.len() + self.layers <= n,
        };
        let list = |all: &[Named]| names(all, 3);
        let damaged = |kind: &str| match self.reason.starts_with(merge::THEIRS) {
            true => plural(n, kind),
            false => plural(n, &format!("damaged {kind}")),
        };
        match self.kind.as_str() {
            "file" => format!("{} can't be read ({}): {reason}", plural(n, "file"), list(&self.causes)),
            "links" => format!("Links of containers may be lost: {} ({reason})", list(&self.causes)),
            "repository" => {
                format!("The tags of {} are lost ({}): {reason}", plural(n, "repository"), list(&self.causes))
            }
            SETTINGS => {
                format!("The settings of {} are lost ({}): {reason}", plural(n, "container"), list(&self.causes))
            }
            DAMAGED => {
                let moves = if n == 1 { "moves" } else { "move" };
                format!("{} {moves} with damage ({}): {reason}", plural(n, "layer"), list(&self.causes))
            }
            "tags" => format!("Tags are lost: {} ({reason})", list(&self.causes)),
            "tag" => format!("{} can't be kept ({}): {reason}", plural(n, "tag"), list(&self.causes)),
            "container" => {
                format!("{} can't be migrated ({}): {reason}", plural(n, "container"), list(&self.containers))
            }
            kind if only_itself && self.containers.is_empty() => {
                let known = if self.images.is_empty() { &self.causes } else { &self.images };
                format!("{} ({}): {reason}", damaged(kind), list(known))
            }
            kind => {
                let holds = if n == 1 { "holds" } else { "hold" };
                // a layer's name is that of an image or container that it holds back
                let which = if kind == "image" { format!("{}: ", list(&self.causes)) } else { String::new() };
                format!("{} ({which}{reason}) {holds} back {}", damaged(kind), self.held())
            }
        }
    }

    /// The images that it holds back, without the damaged ones.
    fn others(&self) -> Vec<Named> {
        let damaged = |i: &Named| self.kind == "image" && self.causes.iter().any(|c| is_one(&c.id, &i.id));
        self.images.iter().filter(|i| !damaged(i)).cloned().collect()
    }

    fn held(&self) -> String {
        let mut parts = Vec::new();
        for (all, what) in [(&self.containers, "container"), (&self.others(), "image")] {
            if !all.is_empty() {
                parts.push(format!("{} ({})", plural(all.len(), what), names(all, 3)));
            }
        }
        if self.tags > 0 {
            parts.push(plural(self.tags, "tag"));
        }
        if parts.is_empty() {
            parts.push(plural(self.layers, "layer"));
        }
        match parts.pop() {
            Some(last) if !parts.is_empty() => format!("{} and {last}", parts.join(", ")),
            Some(last) => last,
            None => String::new(),
        }
    }
}

/// A reason that is said of one object, said of so many.
fn of_each(reason: String, n: usize) -> String {
    let several =
        |one: &str, each: &str| reason.strip_prefix(one).filter(|_| n > 1).map(|rest| format!("{each}{rest}"));
    several("it ", "each one ").or_else(|| several("its ", "each one's ")).unwrap_or(reason)
}

/// The first names, those first that people gave.
fn names(all: &[Named], shown: usize) -> String {
    let mut sorted: Vec<&Named> = all.iter().collect();
    sorted.sort_by(|a, b| (a.name.is_empty(), &a.name).cmp(&(b.name.is_empty(), &b.name)));
    let first: Vec<String> = sorted.iter().take(shown).map(|n| n.shown()).collect();
    format!("{}{}", first.join(", "), if all.len() > shown { ", …" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Generation;

    fn left(kind: &str, id: &str, name: &str, reason: &str, held_by: Option<Cause>) -> LeftBehind {
        let [kind, id, name, reason, lost] = [kind, id, name, reason, "nothing"].map(str::to_owned);
        LeftBehind { kind, id, name, reason, lost, counts: true, held_by }
    }

    #[test]
    fn one_cause_is_one_line() {
        let missing = |id: &str| Some(Cause::layer(id.to_owned(), "its directory is missing"));
        let mut all = vec![left("tags", "repositories.json", "", "the file is empty", None)];
        all.extend((0..4).map(|n| {
            left("image", &format!("sha256:{n:064}"), &format!("demo/app:{n}, x:{n}"), "", missing("aaaaaaaaaaaa"))
        }));
        all.extend(
            ["b", "a"].map(|c| left("container", &c.repeat(64), &format!("c-{c}"), "", missing("aaaaaaaaaaaa"))),
        );
        all.push(left("layer", &"a".repeat(64), "", "its directory is missing", None));
        all.push(left("container", &"d".repeat(64), "db", "its hostconfig.json: the file is empty", None));
        let mut excluded = left("image", "sha256:e", "", "excluded by --exclude", None);
        excluded.counts = false;
        all.push(excluded);
        let got = group(&Store::empty(Generation::Content), &all);
        let said: Vec<String> = got.iter().map(Damage::sentence).collect();
        assert_eq!(
            said,
            [
                "1 damaged layer (its directory is missing) holds back 2 containers (c-a, c-b) and 4 images (demo/app:0, demo/app:1, demo/app:2, …)",
                "1 container can't be migrated (db): its hostconfig.json: the file is empty",
                "Tags are lost: repositories.json (the file is empty)",
            ]
        );
        assert_eq!((got[0].layers, got[0].causes.len()), (1, 1));
    }

    #[test]
    fn a_damaged_image_does_not_hold_itself_back() {
        let id = |n: usize| format!("sha256:{n:064}");
        let why = "its json can't be read";
        let base = || Some(Cause { kind: "image".to_owned(), id: id(1)[7..19].to_owned(), reason: why.to_owned() });
        // the image, its layer, and an image based on it
        let mut all = vec![left("image", &id(1), "base:1, base:2", why, base())];
        all.push(left("layer", &id(1)[7..], "", why, base()));
        let got = group(&Store::empty(Generation::Graph), &all);
        assert_eq!((got.len(), got[0].sentence().as_str()), (1, "1 damaged image (base:1): its json can't be read"));
        all.push(left("image", &format!("sha256:{}", "2".repeat(64)), "app:1", "its parent is damaged", base()));
        let got = group(&Store::empty(Generation::Graph), &all);
        let said = "1 damaged image (base:1: its json can't be read) holds back 1 image (app:1)";
        assert_eq!((got.len(), got[0].sentence().as_str()), (1, said));
        all.truncate(1);
        all.push(left("container", &"c".repeat(64), "web", "its image is damaged", base()));
        let got = group(&Store::empty(Generation::Graph), &all);
        let said = "1 damaged image (base:1: its json can't be read) holds back 1 container (web)";
        assert_eq!(got[0].sentence(), said);
    }

    #[test]
    fn damage_without_followers_names_itself() {
        let all = [left("image", &format!("sha256:{}", "1".repeat(64)), "a:1", "its config can't be read", None)];
        let mut all = all.to_vec();
        let sentence = |all: &[LeftBehind]| group(&Store::empty(Generation::Content), all)[0].sentence();
        assert_eq!(sentence(&all), "1 damaged image (a:1): its config can't be read");
        all.push(left("image", &format!("sha256:{}", "2".repeat(64)), "b:1", "its config can't be read", None));
        assert_eq!(sentence(&all), "2 damaged images (a:1, b:1): each one's config can't be read");
        assert_eq!(of_each("it has no record".to_owned(), 13), "each one has no record");
    }
}
