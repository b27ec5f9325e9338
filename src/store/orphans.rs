//! What is left in `aufs/diff` when all images and containers have their layers.
//!
//! ```text
//! aufs/diff/<id>                        nobody's
//! aufs/diff/<id>  and  <id>-init/       a container's that has lost everything else
//! ```

use super::driver::Driver;
use super::{Container, Lost, Store, containers};
use crate::checks::Finding;
use crate::disk::Dir;
use crate::error::Result;
use crate::ids::LayerId;
use crate::layer::branch::{Name, classify};
use std::collections::BTreeSet;

/// Names the directories of the driver that nothing uses, and among them the layers of containers that have lost everything else.
pub fn find(root: &Dir, driver: &Driver, store: &mut Store, findings: &mut Vec<Finding>) -> Result<()> {
    let unused = |id: &&LayerId| {
        let known = store.layers.contains_key(id) || store.claimed.contains(id);
        !known && store.orphans.iter().all(|o| o != id.as_str())
    };
    let mut unused: BTreeSet<&LayerId> = driver.diffs.keys().chain(driver.layers.keys()).filter(unused).collect();
    let mut pairs = Vec::new();
    for id in &unused {
        if let Some(init) = init_of_container(root, driver, id)? {
            pairs.push((*id, init));
        }
    }
    for (id, init) in &pairs {
        unused.remove(id);
        unused.remove(init);
    }
    // a container that lost its record may have any of them
    let placed = |c: &Container| {
        let of_graph = LayerId::parse(c.id.as_str()).is_ok_and(|id| driver.diffs.contains_key(&id));
        of_graph || c.layer.is_some() || containers::mount_id(root, c, driver).is_some()
    };
    let unplaced = store.containers.values().filter(|c| !c.foreign && !placed(c));
    if pairs.len() > unplaced.count() {
        for (id, _) in pairs {
            let reason = "nothing else of the container is left";
            findings.push(Finding::new("C07", format!("layer {}", id.short()), reason));
            store.lost.push(Lost::container(id.as_str(), reason));
        }
    }
    for id in unused {
        findings.push(Finding::new("D05", format!("layer {}", id.short()), "no image and no container uses it"));
        store.orphans.push(id.to_string());
    }
    Ok(())
}

/// The init layer next to a container's layer: nothing else has one. Docker makes both before the container's other files, and removes them
/// first: without those an empty layer is left of a crash.
fn init_of_container(root: &Dir, driver: &Driver, id: &LayerId) -> Result<Option<LayerId>> {
    let init = LayerId::parse(&format!("{id}-init")).ok().filter(|init| driver.diffs.contains_key(init));
    let Some(init) = init.filter(|_| !id.is_init() && driver.diffs.contains_key(id)) else { return Ok(None) };
    let at = driver.moved_to(id).unwrap_or_else(|| format!("aufs/diff/{id}"));
    let mut holds = false;
    root.open(&at)?.for_each(|name, _, _| {
        holds |= !matches!(classify(name, true), Name::Internal(_));
        Ok(())
    })?;
    Ok(holds.then_some(init))
}
