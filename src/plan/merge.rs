//! What becomes of a store of the target that is there already: it stays unchanged, and what aufs holds is added to it.
//!
//! | the same … in both        | what happens                                                                       |
//! |---------------------------|------------------------------------------------------------------------------------|
//! | chain id                  | one layer: the target's; our layers above it are based on the target's                 |
//! | image id                  | one image: the target's; its free tags are added                                   |
//! | tag, another image        | the target's; our image moves without that tag                                     |
//! | container id or name      | the target's; ours stays behind                                                    |
//! | directory, another layer     | the target's; ours stays behind, with what is based on it                            |
//!
//! Pure: [`super::existing`] has looked.

use super::existing::{Existing, Layer, State};
use super::{LeftBehind, PlanFile};
use crate::checks::Finding;
use crate::docker::driver::{self, Target};
use crate::ids::{ChainId, ImageId, LayerId};
use crate::store::repositories::Repositories;
use crate::store::{Content, Store};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The target's own store in a plan that adds to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    /// Its directories of layers. What else is next to them at a rollback is ours, or was made by Docker since.
    #[serde(rename = "folders")]
    pub directories: BTreeSet<String>,
    /// overlay2: its names in `l/`.
    pub links: BTreeSet<String>,
    /// Its containers.
    pub containers: BTreeSet<String>,
    /// Layers that both have.
    pub kept: Vec<KeptLayer>,
}

/// A layer that both have: the target's is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLayer {
    /// Its directory in the old store.
    pub id: LayerId,
    /// Its place in layerdb, the same in both.
    pub chain_id: ChainId,
    /// The old directory below ROOT.
    pub source: String,
    /// The target's directory.
    pub theirs: LayerId,
    /// overlay2: the target's short name of it.
    pub link: String,
    /// overlay2: a layer of ours is the first that is based on it, so that it needs the mark `committed`. Rollback removes that.
    pub commit: bool,
}

/// What was decided before anything of ours is selected.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    /// Our layers that the target has too.
    pub kept: BTreeMap<LayerId, (ChainId, Layer)>,
    /// Our layers that cannot be added, and why.
    pub refused: BTreeMap<LayerId, String>,
    /// Our containers that cannot be added, by id, and why.
    pub containers: BTreeMap<String, String>,
    /// Our references that the target uses for another image, with that image.
    pub references: BTreeMap<String, (ImageId, String)>,
}

/// How the reason of something begins that would clash: it isn't damaged.
pub const THEIRS: &str = "the existing target store";

/// Decides each clash.
pub fn decide(store: &Store, existing: &Existing, to: Target) -> Decisions {
    let mut out = Decisions::default();
    if existing.state != State::Populated {
        return out;
    }
    let names: BTreeMap<&str, &str> =
        existing.containers.iter().filter(|(_, n)| !n.is_empty()).map(|(id, n)| (n.as_str(), id.short())).collect();
    let mut theirs = BTreeSet::new();
    for c in store.containers.values().filter(|c| !c.foreign && c.broken.is_none()) {
        if existing.mounts.contains(c.id.as_str()) {
            out.containers.insert(
                c.id.to_string(),
                format!("{THEIRS} has a container with this ID, which Docker can't load: its configuration doesn't name {to}"),
            );
            theirs.extend(c.layer.iter().chain(&c.init));
        } else if let Some(other) = names.get(c.name.as_str()) {
            out.containers.insert(c.id.to_string(), format!("{THEIRS} has a container with this name ({other})"));
        }
    }
    for l in store.layers.values().filter(|l| l.broken.is_none()) {
        match l.chain.and_then(|c| Some((c, existing.layers.get(&c)?))) {
            Some((chain, Ok(theirs))) => drop(out.kept.insert(l.id.clone(), (chain, theirs.clone()))),
            Some((_, Err(why))) => {
                out.refused
                    .insert(l.id.clone(), format!("{THEIRS} has this layer too, and it is damaged there: {why}"));
            }
            // the same container's, which stays behind anyway
            None if theirs.contains(&l.id) => {}
            None if existing.directories.contains(l.id.as_str()) => {
                out.refused.insert(l.id.clone(), format!("{THEIRS} has another layer with this ID"));
            }
            None => {}
        }
    }
    let doubtful: Vec<LayerId> = out
        .kept
        .iter()
        .filter(|(id, (_, t))| !stands_alike(store, &out.kept, id, t))
        .map(|(id, _)| id.clone())
        .collect();
    for id in doubtful {
        out.kept.remove(&id);
        out.refused.insert(id, format!("{THEIRS} has this layer too, but based on other layers"));
    }
    for (repo, refs) in &store.repositories {
        for (reference, id) in refs {
            match &existing.repositories {
                // unreadable: it is kept unchanged, and nothing can be added
                None => drop(out.references.insert(reference.clone(), (*id, "unknown".to_owned()))),
                Some(all) => match all.get(repo).and_then(|r| r.get(reference)) {
                    Some(theirs) if *theirs != id.to_string() => {
                        drop(out.references.insert(reference.clone(), (*id, theirs.clone())))
                    }
                    _ => {}
                },
            }
        }
    }
    out
}

/// overlay2: is the target's layer based on the target's own copies of the same layers as ours?
fn stands_alike(store: &Store, kept: &BTreeMap<LayerId, (ChainId, Layer)>, id: &LayerId, theirs: &Layer) -> bool {
    if theirs.link.is_empty() {
        return true;
    }
    let Some(ours) = store.layers.get(id) else { return false };
    let links: Option<Vec<String>> =
        ours.lowers.iter().map(|l| kept.get(l).map(|(_, t)| format!("l/{}", t.link))).collect();
    links.is_some_and(|l| l.join(":") == theirs.lower)
}

/// The part of the plan that says what is kept. `on` are the parents of the layers that move.
pub fn merge(store: &Store, existing: &Existing, decided: &Decisions, on: &BTreeSet<LayerId>) -> Option<Merge> {
    if existing.state != State::Populated {
        return None;
    }
    let kept = decided.kept.iter().map(|(id, (chain, theirs))| KeptLayer {
        id: id.clone(),
        chain_id: *chain,
        source: store.layers.get(id).map(|l| l.source()).unwrap_or_default(),
        theirs: theirs.id.clone(),
        link: theirs.link.clone(),
        commit: !theirs.committed && on.contains(id),
    });
    Some(Merge {
        directories: existing.directories.clone(),
        links: existing.links.clone(),
        containers: existing.containers.keys().map(|c| c.to_string()).collect(),
        kept: kept.collect(),
    })
}

/// A short name for a layer of ours that the target does not use yet.
pub fn free_link(id: &LayerId, existing: &Existing) -> String {
    (0..).map(|n| driver::link_of(id, n)).find(|l| !existing.links.contains(l)).unwrap_or_default()
}

/// The target's metadata as they are, then ours where the target has none, `repositories.json` left out.
pub fn metadata(to: Target, existing: &Existing, ours: Vec<PlanFile>) -> Vec<PlanFile> {
    if existing.state != State::Populated {
        return ours;
    }
    let readable = existing.repositories.is_some();
    let theirs = existing.files.iter().filter(|f| *f != "repositories.json" || !readable);
    let mut out: Vec<PlanFile> =
        theirs.map(|f| PlanFile { path: f.clone(), content: Content::Same(format!("image/{to}/{f}")) }).collect();
    let of_their_image = |path: &str| {
        let id = path.strip_prefix("imagedb/metadata/sha256/").and_then(|p| p.split('/').next());
        id.and_then(|id| ImageId::from_hex(id).ok()).is_some_and(|id| existing.images.contains(&id))
    };
    out.extend(ours.into_iter().filter(|f| !existing.files.contains(&f.path) && !of_their_image(&f.path)));
    out
}

/// Both stores' references as Docker writes them: one object, keys sorted, compact (FORMATS 7). The target's win. `None`: the target's
/// file cannot be read and is kept unchanged. References of ours to images that stay are left out, and so is a repository without any.
pub fn repositories(
    ours: &[(String, Vec<(String, ImageId)>)],
    moving: &BTreeSet<ImageId>,
    existing: &Existing,
) -> Option<String> {
    let mut all: Repositories = match existing.state {
        State::Populated => existing.repositories.clone()?,
        _ => Repositories::new(),
    };
    for (repo, refs) in ours {
        for (reference, id) in refs.iter().filter(|(_, id)| moving.contains(id)) {
            all.entry(repo.clone()).or_default().entry(reference.clone()).or_insert_with(|| id.to_string());
        }
    }
    Some(format!("{{\"Repositories\":{}}}", serde_json::json!(all)))
}

/// What the report says of the target's store.
pub fn findings(to: Target, existing: &Existing, decided: &Decisions) -> Vec<Finding> {
    let mut out = Vec::new();
    for name in &existing.strangers {
        out.push(Finding::new("T07", format!("{name}/"), "it isn't a directory of Docker"));
    }
    match existing.state {
        State::Absent => {}
        State::Empty => {
            let dead = if existing.chains > 0 {
                format!("; its metadata names {} that no longer exist", crate::text::plural(existing.chains, "layer"))
            } else {
                String::new()
            };
            out.push(Finding::new("T01", format!("{to}/"), format!("it has no layers{dead}")));
        }
        State::Populated => {
            let text = format!(
                "it holds {}, {} and {}",
                crate::text::plural(existing.directories.len(), "layer"),
                crate::text::plural(existing.images.len(), "image"),
                crate::text::plural(existing.containers.len(), "container")
            );
            let effect = format!(
                "it stays unchanged and the old store is added to it; {} are in both and aren't changed",
                crate::text::plural(decided.kept.len(), "layer")
            );
            out.push(Finding::new("T02", format!("{to}/"), text).effect(effect));
        }
    }
    for (id, why) in &decided.refused {
        out.push(Finding::new("T03", format!("layer {}", id.short()), why.clone()));
    }
    for (id, why) in &decided.containers {
        let short = id.get(..12).unwrap_or(id);
        let finding = Finding::new("T03", format!("container {short}"), why.clone())
            .effect("it stays in the old store, with its data");
        out.push(match existing.mounts.contains(id) {
            true => finding.fix(format!(
                "to use the container of the target store, set \"Driver\" to \"{to}\" in its config.v2.json"
            )),
            false => finding,
        });
    }
    if let Some(why) = &existing.lost_tags {
        let effect = "Docker doesn't start with this file; the new file has the tags that could be read";
        out.push(Finding::new("D10", format!("image/{to}/repositories.json"), why.clone()).effect(effect));
    }
    for (reference, (_, theirs)) in &decided.references {
        let subject = format!("tag {}", crate::text::text(reference));
        out.push(
            Finding::new("T03", subject, lost_reference(theirs)).effect("the old image is migrated without this tag"),
        );
    }
    out
}

fn lost_reference(theirs: &str) -> String {
    match theirs {
        "unknown" => "the target store's repositories.json can't be read".to_owned(),
        id => format!(
            "in the existing target store this tag belongs to image {}",
            id.trim_start_matches("sha256:").get(..12).unwrap_or(id)
        ),
    }
}

/// References that stay behind, each with the reason.
pub fn left_references(decided: &Decisions) -> impl Iterator<Item = LeftBehind> {
    decided.references.iter().map(|(reference, (_, theirs))| LeftBehind {
        kind: "tag".to_owned(),
        id: reference.clone(),
        name: reference.clone(),
        reason: lost_reference(theirs),
        lost: "The tag only: the old image is migrated without it.".to_owned(),
        counts: true,
        held_by: None,
    })
}
