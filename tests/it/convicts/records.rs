//! Records that Docker could not have left behind: they convict although Docker has run since they were right, and without the old store.

use super::rows::remove;
use super::{Bed, Cleaned, Kept};
use crate::support::real;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

type Change = fn(&Path);

/// What is damaged, how, and the ids of which one must be named.
type Row = (PathBuf, Change, Vec<String>);

/// Which file of a container, and how.
type Damage = (&'static str, Change);

fn empty(at: &Path) {
    fs::write(at, "").expect("written");
}

fn zeros(at: &Path) {
    let length = fs::metadata(at).expect("a file").len();
    fs::write(at, vec![0; length as usize]).expect("written");
}

fn directory(at: &Path) {
    fs::remove_file(at).expect("removed");
    fs::create_dir(at).expect("mkdir");
}

fn other_image(at: &Path) {
    let text = fs::read_to_string(at).expect("config");
    let begin = text.find("\"Image\":\"sha256:").expect("an image") + 16;
    fs::write(at, [&text[..begin], &"0".repeat(64), &text[begin + 64..]].concat()).expect("written");
}

/// One damage for each container. Without the old store nobody can know of which image a container is.
fn of_containers(bed: &Bed) -> Vec<Row> {
    let damage: [Damage; 10] = [
        ("record/parent", zeros),
        ("record/mount-id", zeros),
        ("record/mount-id", empty),
        ("record/init-id", remove),
        ("record", remove),
        ("config/hostconfig.json", remove),
        ("config/config.v2.json", directory),
        ("lower", remove),
        ("config", remove),
        ("config/config.v2.json", other_image),
    ];
    let damage = &damage[..if bed.state == Cleaned { 9 } else { 10 }];
    let others = bed.others();
    assert!(others.len() >= damage.len());
    let row = |((id, layer), (what, change)): (&(String, String), &Damage)| {
        let (top, rest) = what.split_once('/').unwrap_or((what, ""));
        let home = match top {
            "record" => bed.image("layerdb/mounts").join(id),
            "config" => bed.store.root.join("containers").join(id),
            _ => bed.layer(layer).join("lower"),
        };
        let at = if rest.is_empty() { home } else { home.join(rest) };
        (at, *change, vec![id.clone(), layer.clone()])
    };
    others.iter().zip(damage).map(row).collect()
}

/// Does all of it, and wants each named and nothing else.
fn convicted(bed: &Bed, rows: &[Row]) {
    for (at, change, _) in rows {
        change(at);
    }
    for level in ["fast", "full"] {
        let (code, found, said) = bed.verify(level);
        assert_eq!(code, 6, "{:?} {level}: {said}", bed.state);
        // findings of the reader have short ids
        let of = |id: &str, row: &Row| {
            let id = id.strip_prefix("layerdb/mounts/").and_then(|rest| rest.split('/').next()).unwrap_or(id);
            row.2.iter().any(|full| id.len() >= 12 && full.starts_with(id))
        };
        let ids: Vec<&str> = found.iter().filter_map(|d| d["id"].as_str()).collect();
        for row in rows {
            assert!(
                ids.iter().any(|id| of(id, row)),
                "{:?} {level}: {} isn't named: {said}",
                bed.state,
                row.0.display()
            );
        }
        for id in ids {
            assert!(rows.iter().any(|row| of(id, row)), "{:?} {level}: {id} was not damaged: {said}", bed.state);
        }
    }
}

#[test]
fn what_docker_cannot_load_is_damage_though_docker_ran() {
    if !real::able() {
        return;
    }
    let bed = Bed::new("overlay2", Kept, None);
    std::thread::sleep(Duration::from_millis(20));
    let ran = |is: bool| {
        let (code, _, said) = bed.verify("fast");
        assert!(code == 0 && said.contains(&format!("\"docker_ran\": {is}")), "{said}");
    };
    fs::write(bed.store.root.join("note"), "an admin's").expect("written");
    ran(false);
    let _ = fs::remove_dir(bed.store.root.join("tmp"));
    fs::create_dir(bed.store.root.join("tmp")).expect("mkdir");
    ran(true);
    let mut rows = of_containers(&bed);
    rows.push((bed.image("repositories.json"), empty, vec!["repositories.json".to_owned()]));
    convicted(&bed, &rows);
    bed.store.unaufs(&["cleanup", "--yes", "--quiet"]).exits(6);
    assert!(bed.store.root.join(".unaufs/old/containers").is_dir(), "the last copies");
}

#[test]
fn what_docker_cannot_load_is_damage_without_the_old_store() {
    if !real::able() {
        return;
    }
    let bed = Bed::new("overlay2", Cleaned, None);
    let mut rows = of_containers(&bed);
    rows.push((bed.image("repositories.json"), empty, vec!["repositories.json".to_owned()]));
    convicted(&bed, &rows);
    // images say what a layer's record held, but Docker does not ask them
    let bed = Bed::new("overlay2", Cleaned, None);
    let damage: [(&str, Damage); 3] =
        [(super::MIDDLE, ("parent", empty)), (super::FILES, ("diff", directory)), (super::SINGLE, ("diff", zeros))];
    for (layer, (file, change)) in damage {
        change(&bed.record(layer).join(file));
    }
    let (code, found, said) = bed.verify("fast");
    let named = found.iter().filter(|d| d["what"].as_str().is_some_and(|what| what.contains("its diff or parent")));
    assert!(code == 6 && named.count() == 3, "{said}");
}
