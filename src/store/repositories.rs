//! `image/<driver>/repositories.json`: the tags and digests of a content-addressable store (FORMATS 7).
//!
//! Docker loads all of it or doesn't start. Here an entry that is of another type than Docker's costs itself.

use super::content::{Salvaged, salvage};
use super::{Generation, Lost, Store, lost_images};
use crate::checks::Finding;
use crate::disk::Dir;
use crate::docker::json;
use crate::error::{Error, Result};
use crate::ids::ImageId;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Docker writes the file with the tags at each start if it isn't there, also without a tag. So a missing one was lost.
pub const MISSING: &str = "the file is missing";

/// Gives the images their tags and digests.
pub fn read(root: &Dir, store: &mut Store, findings: &mut Vec<Finding>) -> Result<()> {
    let path = format!("image/{}/repositories.json", store.written_by);
    let text = match root.read_opt(path, json::LIMIT) {
        Ok(None) => {
            // in a graph store the tags may be in another file
            if store.generation == Generation::Content && !store.images.is_empty() {
                lose_tags("repositories.json", 0, MISSING.to_owned(), store, findings);
            }
            return Ok(());
        }
        Ok(Some(text)) => text,
        Err(e) => {
            lose_tags("repositories.json", 0, e.chain(), store, findings);
            return Ok(());
        }
    };
    let Salvaged { read: (parsed, odd), lost } = salvage(&text, each_repository);
    for (kind, id) in odd {
        let why = "Docker can't read it";
        let what = format!("{kind} {}: {why}", crate::text::text(&id));
        findings.push(Finding::new("D10", "repositories.json", what).effect("the other tags are kept"));
        lose(kind, id, why, store);
    }
    if let Some(why) = lost {
        lose_tags("repositories.json", parsed.values().map(BTreeMap::len).sum(), why, store, findings);
    }
    for (repo, refs) in parsed {
        let mut kept = Vec::new();
        for (reference, id) in refs {
            let Ok(id) = ImageId::parse(&id) else {
                let (subject, why) =
                    (format!("tag {}", crate::text::text(&reference)), "it doesn't point to an image ID");
                findings.push(Finding::new("D06", subject, why));
                lose("tag", reference, why, store);
                continue;
            };
            let (image, there) = lost_images::tagged(store, id);
            let list = if reference.contains('@') { &mut image.digests } else { &mut image.tags };
            list.push(reference.clone());
            if !there {
                let subject = format!("tag {}", crate::text::text(&reference));
                let what = format!("its image {} doesn't exist", id.short());
                findings.push(Finding::new("D06", subject, what));
            }
            kept.push((reference, id));
        }
        store.repositories.push((repo, kept));
    }
    Ok(())
}

/// Notes a `tag`, or the tags of a `repository`, as lost.
pub fn lose(kind: &str, id: String, why: &str, store: &mut Store) {
    let lost = if kind == "tag" { "The tag" } else { "Its tags" };
    let lost = format!("{lost}. Use docker tag to tag the images again.");
    store.lost.push(Lost { kind: kind.to_owned(), id, reason: why.to_owned(), lost });
}

#[derive(Deserialize)]
struct References<T> {
    /// Go takes `null` for an empty map.
    #[serde(rename = "Repositories")]
    repositories: Option<BTreeMap<String, T>>,
}

/// Each repository's references with the ids that they name, unchecked.
pub type Repositories = BTreeMap<String, BTreeMap<String, String>>;

/// From the text of `repositories.json`.
pub fn parse_repositories(text: &[u8]) -> Result<Repositories> {
    repositories_of(text)
}

fn repositories_of<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<BTreeMap<String, T>> {
    // Go takes no array for a struct
    if text.iter().find(|c| !c.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Error::corrupt("it isn't a JSON object"));
    }
    let parsed: References<T> =
        serde_json::from_slice(text).map_err(|e| Error::corrupt("can't be read").with_source(e))?;
    Ok(parsed.repositories.unwrap_or_default())
}

/// What can't be read in a file of good JSON: `repository` or `tag`, and its name.
type Odd = Vec<(&'static str, String)>;

/// The same, without repositories and tags that are of another type than Docker's. These are listed.
fn each_repository(text: &[u8]) -> Result<(Repositories, Odd)> {
    use serde_json::Value;
    let (mut out, mut odd) = (Repositories::new(), Odd::new());
    for (name, tags) in repositories_of::<Value>(text)? {
        let tags = match tags {
            Value::Object(tags) => tags,
            Value::Null => serde_json::Map::new(),
            _ => {
                odd.push(("repository", name));
                continue;
            }
        };
        let mut kept = BTreeMap::new();
        for (tag, id) in tags {
            match id {
                Value::String(id) => drop(kept.insert(tag, id)),
                _ => odd.push(("tag", tag)),
            }
        }
        out.insert(name, kept);
    }
    Ok((out, odd))
}

/// Notes that tags are gone with the file that held them. `kept` says how many could be read.
pub fn lose_tags(file: &str, kept: usize, why: String, store: &mut Store, findings: &mut Vec<Finding>) {
    let (effect, lost) = match kept {
        0 => (
            "images are migrated without their tags",
            "All tags and digests. Use docker tag to add them again.".to_owned(),
        ),
        n => {
            let kept = crate::text::plural(n, "tag or digest");
            ("tags before the damage are kept", format!("The tags and digests after the damage. {kept} could be read."))
        }
    };
    findings.push(Finding::new("D10", file, why.clone()).effect(effect));
    store.lost.push(Lost { kind: "tags".to_owned(), id: file.to_owned(), reason: why, lost });
}
