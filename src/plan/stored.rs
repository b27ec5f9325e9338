//! Reads plans that this unaufs or an earlier one has stored, in a journal or with `plan --out`.
//!
//! Earlier versions had `--mode move`, which rewrote the old layers where they are. Every plan of theirs lists what that would have cost, so
//! that plans without it must be readable too. A plan that was made for it can be shown, and nothing else.

use super::Plan;
use serde_json::Value;

/// The name of the mode in such plans.
const MOVE: &str = "move";

/// A plan, and whether it can be carried out.
#[derive(Debug)]
pub struct Stored {
    /// The plan; for `--mode move` without the renames of layers, and with mode `link`.
    pub plan: Plan,
    /// Was it made for `--mode move`?
    pub in_place: bool,
}

/// Reads a plan.
pub fn read(text: &[u8]) -> serde_json::Result<Stored> {
    // the usual case, without a second copy of a large plan in memory
    let error = match serde_json::from_slice(text) {
        Ok(plan) => return Ok(Stored { plan, in_place: false }),
        Err(e) => e,
    };
    let Ok(mut doc) = serde_json::from_slice::<Value>(text) else { return Err(error) };
    let mode = doc.pointer_mut("/options/mode").filter(|m| *m == MOVE);
    let in_place = mode.map(|m| *m = Value::from("link")).is_some();
    without(doc.get_mut("estimates"), |e| e["mode"] == MOVE);
    without(doc.get_mut("switch"), |m| m["why"] == MOVE);
    for layer in doc.get_mut("layers").and_then(Value::as_array_mut).into_iter().flatten() {
        without(layer.get_mut("transfer"), |t| *t == MOVE);
    }
    serde_json::from_value(doc).map(|plan| Stored { plan, in_place })
}

/// Takes entries out of a list, if it is one.
fn without(list: Option<&mut Value>, drop: impl Fn(&Value) -> bool) {
    if let Some(list) = list.and_then(Value::as_array_mut) {
        list.retain(|entry| !drop(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan as earlier versions stored it, for this mode.
    fn stored(mode: &str) -> Value {
        let room = serde_json::json!({"free_bytes": 0, "total_bytes": 0, "free_inodes": 0, "magic": 0, "block": 4096});
        let (facts, estimate) = (serde_json::json!(crate::plan::scan::Facts::default()), |mode: &str| {
            serde_json::json!({"driver": "overlay2", "mode": mode, "new_bytes": 1, "new_inodes": 1, "seconds_min": 0,
                "seconds_max": 1, "fits": true, "chosen": false})
        });
        let layer = serde_json::json!({"id": "a", "role": "image", "lowers": [], "source": "aufs/diff/a", "tar_split": true,
            "transfer": [if mode == MOVE { MOVE } else { "link" }], "link": "L", "has_child": false, "facts": facts});
        let rename = |why: &str| serde_json::json!({"from": "aufs", "to": ".unaufs/old/aufs", "why": why});
        serde_json::json!({
            "schema": crate::plan::SCHEMA, "tool": crate::plan::Tool::default(), "created": "", "generation": "content",
            "host": {"name": "", "kernel": "", "machine": ""}, "root": {"path": "/r", "fs": "ext4", "room": room},
            "options": {"to": "overlay2", "mode": mode}, "summary": crate::plan::Summary::default(), "checks": [],
            "estimates": [estimate("link"), estimate(MOVE)], "images": [], "layers": [layer], "containers": [],
            "left_behind": [], "quirks": [], "style": crate::docker::driver::Style::of(0o700, (0, 0), (0, 0)), "metadata": [],
            "switch": if mode == MOVE { vec![rename(MOVE), rename("park")] } else { vec![rename("park")] },
            "touched": [], "rollback": crate::plan::WayBack::default(), "fingerprint": null, "fingerprint_objects": {},
        })
    }

    #[test]
    fn plans_of_earlier_versions_are_read() {
        for (mode, in_place) in [("link", false), (MOVE, true)] {
            let read = read(stored(mode).to_string().as_bytes()).expect("a plan");
            assert_eq!(read.in_place, in_place, "{mode}");
            let p = read.plan;
            assert_eq!((p.estimates.len(), p.switch.len(), p.layers.len()), (1, 1, 1), "{mode}");
            assert_eq!(p.layers[0].transfer.is_empty(), in_place, "{mode}");
        }
        assert!(read(stored("dance").to_string().as_bytes()).is_err(), "no such mode");
        assert!(read(b"{").is_err(), "no JSON");
    }
}
