//! Which images and containers are meant.
//!
//! ```text
//! busybox          all tags of that repository        sha256:0123…   an image by its id, or its start; with all its tags
//! busybox:1        that tag                           0123…          the same; also the id from before Docker 1.10
//! busybox@sha256:… the image with that digest         'app/*:1.*'    all tags that fit
//! ```
//!
//! Names come before ids, as in Docker. A name may be written with the registry and `library/` that Docker itself leaves out.

use crate::error::{Error, Kind, Result};
use crate::ids::{ContainerId, ImageId};
use crate::store::{Container, Image, Store};
use crate::text;
use std::collections::{BTreeMap, BTreeSet};

/// An error lists so many names at most.
const LISTED: usize = 20;

/// The images that were asked for, each with the tags that it is exported with.
pub type Chosen = BTreeMap<ImageId, BTreeSet<String>>;

/// The images that the names mean.
pub fn images(store: &Store, names: &[String]) -> Result<Chosen> {
    let mut out = Chosen::new();
    for name in names {
        for (id, tags) in image(store, name)? {
            out.entry(id).or_default().extend(tags);
        }
    }
    Ok(out)
}

/// All images with all their tags.
pub fn every_image(store: &Store) -> Chosen {
    store.images.values().map(|i| (i.id, i.tags.iter().cloned().collect())).collect()
}

/// Does a name mean this tag?
pub fn fits(name: &str, tag: &str) -> bool {
    let wanted = familiar(name);
    match is_glob(name) {
        true => [tag, repository(tag)].into_iter().any(|t| wildmatch::WildMatch::new(&wanted).matches(t)),
        false => tag == wanted || repository(tag) == wanted,
    }
}

fn image(store: &Store, name: &str) -> Result<Chosen> {
    let wanted = familiar(name);
    let mut out = Chosen::new();
    for image in store.images.values() {
        for tag in image.tags.iter().filter(|tag| fits(name, tag)) {
            out.entry(image.id).or_default().insert(tag.clone());
        }
        if image.digests.contains(&wanted) {
            out.entry(image.id).or_default();
        }
    }
    if !out.is_empty() {
        return Ok(out);
    }
    let found: Vec<&Image> = store.images.values().filter(|i| has_id(i, name)).collect();
    match &found[..] {
        [one] => Ok(Chosen::from([(one.id, one.tags.iter().cloned().collect())])),
        [] => Err(unknown("image", name, store.images.values().map(describe))),
        several => Err(ambiguous("image", name, several.iter().map(|i| describe(i)))),
    }
}

fn has_id(image: &Image, name: &str) -> bool {
    let start = name.strip_prefix("sha256:").unwrap_or(name);
    let hex = !start.is_empty() && start.bytes().all(|c| c.is_ascii_hexdigit());
    hex && (image.id.hex().starts_with(start) || image.old_id.as_ref().is_some_and(|old| old.starts_with(start)))
}

/// The containers that the names mean.
pub fn containers<'s>(store: &'s Store, names: &[String]) -> Result<BTreeMap<ContainerId, &'s Container>> {
    let mut out = BTreeMap::new();
    for name in names {
        for c in container(store, name)? {
            out.insert(c.id.clone(), c);
        }
    }
    Ok(out)
}

fn container<'s>(store: &'s Store, name: &str) -> Result<Vec<&'s Container>> {
    let wanted = name.strip_prefix('/').unwrap_or(name);
    let ours = || store.containers.values().filter(|c| !c.foreign);
    let mut found: Vec<&Container> = if is_glob(wanted) {
        let glob = wildmatch::WildMatch::new(wanted);
        return match ours().filter(|c| glob.matches(&c.name)).collect::<Vec<_>>() {
            none if none.is_empty() => Err(unknown("container", name, ours().map(|c| c.subject()))),
            found => Ok(found),
        };
    } else {
        ours().filter(|c| c.name == wanted).collect()
    };
    if found.is_empty() && !wanted.is_empty() {
        found = ours().filter(|c| c.id.as_str().starts_with(wanted)).collect();
    }
    match &found[..] {
        [_] => Ok(found),
        [] => Err(unknown("container", name, ours().map(|c| c.subject()))),
        several => Err(ambiguous("container", name, several.iter().map(|c| c.subject()))),
    }
}

/// The one container that a name means.
pub fn one_container<'s>(store: &'s Store, name: &str) -> Result<&'s Container> {
    let found = container(store, name)?;
    match &found[..] {
        [one] => Ok(one),
        several => Err(ambiguous("container", name, several.iter().map(|c| c.subject()))),
    }
}

/// The one image that a name means. A repository without a tag means its tag `latest`, as for Docker, unless it has but one image.
pub fn one_image<'s>(store: &'s Store, name: &str) -> Result<&'s Image> {
    let mut found = image(store, name)?;
    if found.len() > 1 {
        let latest = format!("{}:latest", familiar(name));
        found.retain(|_, tags| tags.contains(&latest));
    }
    let ids: Vec<ImageId> = found.into_keys().collect();
    match (&ids[..], image(store, name)?) {
        ([id], _) => store.images.get(id).ok_or_else(|| Error::corrupt("the image isn't in the store")),
        (_, all) => {
            let described = all.keys().filter_map(|id| store.images.get(id)).map(describe);
            Err(ambiguous("image", name, described))
        }
    }
}

fn is_glob(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// As Docker keeps names: without its own registry and without `library/`.
pub fn familiar(name: &str) -> String {
    let own = name.strip_prefix("docker.io/").or_else(|| name.strip_prefix("index.docker.io/"));
    own.map_or(name, |rest| rest.strip_prefix("library/").unwrap_or(rest)).to_owned()
}

/// With the parts that Docker leaves out, as containerd wants names.
pub fn full(tag: &str) -> String {
    match tag.split_once('/') {
        // a first part with a dot or a port is a registry
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => tag.to_owned(),
        Some(_) => format!("docker.io/{tag}"),
        None => format!("docker.io/library/{tag}"),
    }
}

/// A tag's repository. A port has a colon too, but comes before a slash.
pub fn repository(tag: &str) -> &str {
    match tag.rsplit_once(':') {
        Some((repository, after)) if !after.contains('/') => repository,
        _ => tag,
    }
}

/// `1` of `busybox:1`.
pub fn bare_tag(tag: &str) -> &str {
    tag.get(repository(tag).len() + 1..).unwrap_or_default()
}

fn describe(image: &Image) -> String {
    match image.tags.first().or(image.digests.first()) {
        Some(name) => format!("{name} ({})", image.id.short()),
        None => image.id.short(),
    }
}

fn unknown(what: &str, name: &str, all: impl Iterator<Item = String>) -> Error {
    let mut all: Vec<String> = all.collect();
    // what looks like the name comes first
    let stem = familiar(name).to_lowercase();
    all.sort_by_key(|candidate| {
        let candidate = candidate.to_lowercase();
        let alike = candidate.contains(&stem) || stem.contains(candidate.split([' ', ':']).next().unwrap_or("?"));
        // people know names
        (!alike, !candidate.contains(" ("), candidate)
    });
    let hint = match all.is_empty() {
        true => format!("The store has no {what}."),
        false => format!("Choose one of: {}", listed(&all)),
    };
    Error::new(Kind::Usage, format!("there is no {what} \"{}\"", text::text(name))).hint(hint)
}

fn ambiguous(what: &str, name: &str, found: impl Iterator<Item = String>) -> Error {
    let found: Vec<String> = found.collect();
    Error::new(Kind::Usage, format!("\"{}\" may be more than one {what}", text::text(name)))
        .hint(format!("Choose one of: {}", listed(&found)))
}

fn listed(names: &[String]) -> String {
    text::few(names.iter().take(LISTED).map(|n| text::text(n)), names.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Sha256;
    use crate::store::Generation;

    fn store() -> (Store, Vec<ImageId>) {
        let mut store = Store::empty(Generation::Content);
        let mut ids = Vec::new();
        for (i, tags) in
            [&["busybox:1", "busybox:latest"][..], &["app/web:1.1", "reg.io:5000/x:2"], &[]].iter().enumerate()
        {
            // two ids with one start
            let mut bytes = [i as u8 + 1; 32];
            bytes[0] = if i == 2 { 0xcc } else { 0xaa };
            let id = ImageId(Sha256(bytes));
            ids.push(id);
            store.images.insert(
                id,
                Image {
                    id,
                    old_id: (i == 2).then(|| "0123456789ab".to_owned()),
                    tags: tags.iter().map(|t| (*t).to_owned()).collect(),
                    digests: if i == 0 { vec![format!("busybox@sha256:{}", "e".repeat(64))] } else { vec![] },
                    layers: vec![],
                    broken: None,
                    held_by: None,
                },
            );
        }
        (store, ids)
    }

    #[test]
    fn names_of_all_kinds() {
        let (store, ids) = store();
        let digest = format!("busybox@sha256:{}", "e".repeat(64));
        let full_id = ids[1].to_string();
        for (name, image, tags) in [
            ("busybox", 0, vec!["busybox:1", "busybox:latest"]),
            ("busybox:1", 0, vec!["busybox:1"]),
            ("docker.io/library/busybox:1", 0, vec!["busybox:1"]),
            (&digest, 0, vec![]),
            ("*:1.*", 1, vec!["app/web:1.1"]),
            ("app/*", 1, vec!["app/web:1.1"]),
            ("reg.io:5000/x", 1, vec!["reg.io:5000/x:2"]),
            ("aa02", 1, vec!["app/web:1.1", "reg.io:5000/x:2"]),
            (&full_id, 1, vec!["app/web:1.1", "reg.io:5000/x:2"]),
            ("cc", 2, vec![]),
            ("0123456", 2, vec![]),
        ] {
            let got = images(&store, &[name.to_owned()]).expect(name);
            let want = Chosen::from([(ids[image], tags.iter().map(|t| (*t).to_owned()).collect())]);
            assert_eq!(got, want, "{name}");
        }
        assert_eq!(every_image(&store).len(), 3);
    }

    #[test]
    fn what_is_unknown_or_ambiguous_lists_candidates() {
        let (store, _) = store();
        let e = images(&store, &["busybx".to_owned()]).expect_err("unknown");
        assert_eq!(e.kind(), Kind::Usage);
        assert!(e.hint_text().expect("hint").contains("busybox:1"), "{e:?}");
        let e = images(&store, &["aa".to_owned()]).expect_err("ambiguous");
        let hint = e.hint_text().expect("hint");
        assert!(e.to_string().contains("more than one") && hint.contains("busybox:1") && hint.contains("app/web:1.1"));
        assert!(images(&store, &[String::new()]).is_err());
        assert!(containers(&store, &["x".to_owned()]).is_err());
    }

    #[test]
    fn long_and_short_names() {
        for (short, long) in [
            ("busybox:1", "docker.io/library/busybox:1"),
            ("a/b:1", "docker.io/a/b:1"),
            ("reg.io/b:1", "reg.io/b:1"),
            ("localhost/b:1", "localhost/b:1"),
            ("reg:5000/b:1", "reg:5000/b:1"),
        ] {
            assert_eq!(full(short), long);
            assert_eq!(familiar(long), short);
            assert_eq!(bare_tag(short), "1");
        }
    }
}
