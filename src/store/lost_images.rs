//! Images whose config file is gone: the tags that still name them say that they were there. Docker removes these first.

use super::{Container, Image, Store};
use crate::checks::{Finding, Level};
use crate::ids::ImageId;
use crate::text;
use std::collections::{BTreeMap, BTreeSet};

/// Why such an image can't move.
const GONE: &str = "its config file is missing";

/// The image that a tag names, whether its config is there or not.
pub fn tagged(store: &mut Store, id: ImageId) -> (&mut Image, bool) {
    let image = store.images.entry(id).or_insert_with(|| gone(id));
    let there = image.broken.as_deref() != Some(GONE);
    (image, there)
}

fn gone(id: ImageId) -> Image {
    Image { broken: Some(GONE.to_owned()), ..Image::bare(id) }
}

/// Names the images without a config file, and for each damaged image the containers that are migrated without it. If only containers name an image,
/// `docker rmi -f` may have removed it.
pub fn name(store: &Store, findings: &mut Vec<Finding>) {
    let moves = |c: &&Container| c.broken.is_none() && !c.foreign;
    let mut users: BTreeMap<ImageId, BTreeSet<String>> = BTreeMap::new();
    for c in store.containers.values().filter(moves) {
        if let Ok(image) = ImageId::parse(&c.image) {
            users.entry(image).or_default().insert(text::text(if c.name.is_empty() { c.id.as_str() } else { &c.name }));
        }
    }
    let subject = |id: &ImageId| format!("image {}", id.short());
    let gone = store.images.values().filter(|i| i.broken.as_deref() == Some(GONE));
    findings.extend(gone.map(|i| Finding::new("D03", subject(&i.id), GONE)));
    for (id, names) in users {
        let said = text::few(names.iter().take(5).cloned(), names.len());
        let named = crate::checks::Subject::from(subject(&id));
        match findings.iter_mut().find(|f| f.id == "D03" && f.subject == named) {
            Some(f) => {
                let effect = f.effect.take().unwrap_or_default();
                f.effect = Some(format!("{effect}; containers based on it are migrated: {said}"));
            }
            None if !store.images.contains_key(&id) => findings.push(
                Finding::new("D03", subject(&id), "it was removed with docker rmi -f, or its config file is lost")
                    .level(Level::Info)
                    .effect(format!("containers based on it are migrated: {said}")),
            ),
            None => {}
        }
    }
}
