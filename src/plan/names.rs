//! What people call a layer or a container: one name, the same on every screen and page.
//!
//! A container's own layers have the container's name. The last layer of an image has the image's name; a layer further down is a part of the
//! smallest image that has it. An image's name is its first tag, as `docker images` lists it, else its digest, else its id.

use super::Plan;
use crate::ids::{ImageId, LayerId};
use crate::store::Store;
use crate::text;
use std::collections::HashMap;

/// The names, by the short form of the id of a layer or a container: findings have no other.
#[derive(Debug, Default)]
pub struct Names(HashMap<String, String>);

/// An image: its name, whether people gave it, and its layers.
type Image<'a> = (String, bool, &'a [LayerId]);

impl Names {
    /// Of the layers and containers of a plan.
    pub fn of_plan(p: &Plan) -> Names {
        let images = p.images.iter().map(|i| image(&i.id, &i.tags, &i.digests, &i.layers));
        let containers = p.containers.iter().flat_map(|c| c.layer.iter().chain(&c.init).map(|l| (l, c.name.as_str())));
        let mut out = Names::new(images.collect(), containers);
        let moved = p.containers.iter().map(|c| (c.id.as_str(), &c.name));
        let stay = p.left_behind.iter().filter(|l| l.kind == "container").map(|l| (l.id.as_str(), &l.name));
        for (id, name) in moved.chain(stay).filter(|(_, name)| !name.is_empty()) {
            out.0.entry(text::short_ids(id)).or_insert_with(|| format!("container {name}"));
        }
        out
    }

    /// Of the layers of a store.
    pub fn of_store(s: &Store) -> Names {
        let images = s.images.values().map(|i| image(&i.id, &i.tags, &i.digests, &i.layers));
        let own = s.containers.values().filter(|c| !c.name.is_empty());
        let containers = own.flat_map(|c| c.layer.iter().chain(&c.init).map(|l| (l, c.name.as_str())));
        Names::new(images.collect(), containers)
    }

    fn new<'a>(mut images: Vec<Image<'a>>, containers: impl Iterator<Item = (&'a LayerId, &'a str)>) -> Names {
        let mut out: HashMap<String, String> =
            containers.map(|(layer, name)| (layer.short(), format!("container {name}"))).collect();
        images.sort_by(|a, b| (a.2.len(), &a.0).cmp(&(b.2.len(), &b.0)));
        // nobody knows the ids of the images that a build leaves behind: they come last
        for given in [true, false] {
            let all = || images.iter().filter(|i| i.1 == given);
            for (name, last) in all().filter_map(|i| Some((&i.0, i.2.last()?))) {
                out.entry(last.short()).or_insert_with(|| name.clone());
            }
            for (name, layer) in all().flat_map(|i| i.2.iter().map(move |l| (&i.0, l))) {
                out.entry(layer.short()).or_insert_with(|| format!("part of {name}"));
            }
        }
        Names(out)
    }

    /// A path of a data root for people: its ids are short, and the name of the first that has one follows.
    pub fn path(&self, path: &str) -> String {
        let path = text::short_ids(path);
        let parts = path.split(['/', ' ', ':']).map(|part| part.strip_suffix("-removing").unwrap_or(part));
        match parts.filter(|part| part.len() >= 12).find_map(|part| self.get(part)) {
            Some(name) => format!("{path} ({})", text::text(name)),
            None => path,
        }
    }

    /// The name of a layer or a container, by its id or the short form of that.
    pub fn get(&self, id: &str) -> Option<&str> {
        let name = |id: &str| self.0.get(id).map(String::as_str);
        name(id).or_else(|| name(&LayerId::parse(id).ok()?.short()))
    }
}

fn image<'a>(id: &ImageId, tags: &[String], digests: &[String], layers: &'a [LayerId]) -> Image<'a> {
    match tags.first().or(digests.first()) {
        Some(name) => (name.clone(), true, layers),
        None => (format!("image {}", id.short()), false, layers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_has_the_name_of_the_nearest_thing_that_people_know() {
        let ids: Vec<LayerId> =
            ["a", "b", "c", "d", "e"].map(|c| LayerId::parse(&c.repeat(64)).expect("an id")).to_vec();
        let (base, app) = (&ids[..1], &ids[..3]);
        let images = vec![
            ("zoo/first:1".to_owned(), true, app),
            ("image 012345678901".to_owned(), false, base),
            ("base:1".to_owned(), true, base),
            ("image 112345678901".to_owned(), false, &ids[..2]),
        ];
        let names = Names::new(images, [(&ids[3], "web")].into_iter());
        let got: Vec<Option<&str>> = ids.iter().map(|l| names.get(l.as_str())).collect();
        let wanted = [Some("base:1"), Some("part of zoo/first:1"), Some("zoo/first:1"), Some("container web"), None];
        assert_eq!(got, wanted);
        assert_eq!(names.get("aaaaaaaaaaaa"), Some("base:1"), "by the short id");
        let path = format!("aufs/mnt/{}", ids[3]);
        assert_eq!(names.path(&path), "aufs/mnt/dddddddddddd (container web)");
        assert_eq!(names.path("network/files/local-kv.db"), "network/files/local-kv.db");
    }
}
