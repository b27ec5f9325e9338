//! What the old store had and no file has any more: it is named, and counts as lost, while the object itself moves.

use crate::checks::bed::Bed;
use crate::checks::store::WEB;
use crate::graph_damaged::{Root, id, links};
use crate::support::needs;
use std::fs;
use std::path::Path;
use unaufs::checks::Finding;
use unaufs::disk::Dir;
use unaufs::docker::driver::WrittenBy;
use unaufs::plan::{Options, Plan, make};
use unaufs::progress::Hidden;
use unaufs::store::Content;
use unaufs::verify::{Level, alone};

fn plan(root: &Path) -> Plan {
    let options: Options =
        serde_json::from_value(serde_json::json!({"to": "overlay2", "mode": "auto"})).expect("options");
    make::make(&Dir::open_named(root).expect("root"), &options, &Default::default(), &Hidden).expect("a plan")
}

/// What counts: the kind of each loss, and the sentence that sums it up.
fn lost(p: &Plan) -> Vec<(&str, String)> {
    assert_eq!(p.partial(), !p.damage.is_empty(), "exit 3 if anything counts");
    p.damage.iter().map(|d| (d.kind.as_str(), d.sentence())).collect()
}

fn said<'a>(p: &'a Plan, id: &str) -> Vec<&'a Finding> {
    p.checks.iter().filter(|f| f.id == id && f.level > unaufs::checks::Level::Ok).collect()
}

#[test]
fn the_settings_of_a_container_without_hostconfig_json() {
    let graph = Root::usual();
    graph.container(0xd, "db", 1, &[]);
    links(&graph, false);
    fs::remove_file(graph.path(format!("containers/{}/hostconfig.json", id(0xc)))).expect("rm");
    let p = plan(&graph.path(""));
    let sentence = "The settings of 1 container are lost (web): its hostconfig.json is missing";
    assert_eq!(lost(&p), [("settings", sentence.to_owned())]);
    assert_eq!((said(&p, "C06").len(), p.containers.len()), (1, 2), "it still moves");
    let host = p.containers.iter().flat_map(|c| &c.files).find_map(|f| match &f.content {
        Content::Text(text) if f.path == "hostconfig.json" => Some(text.as_str()),
        _ => None,
    });
    assert!(host.is_some_and(|text| text.contains(r#""Links":["/db:store"]"#)), "its links were elsewhere: {host:?}");
    let verified =
        alone::verify(&Dir::open_named(&graph.path("")).expect("root"), WrittenBy::Aufs, Level::Fast, &Hidden);
    let differences = verified.expect("verified").differences;
    assert!(differences.iter().any(|d| d.name == "web" && d.what.contains("hostconfig.json")), "{differences:?}");

    // a container that stays has lost nothing
    fs::remove_dir_all(graph.path(format!("aufs/diff/{}", id(0xc)))).expect("rm");
    let p = plan(&graph.path(""));
    assert!(lost(&p).iter().all(|(kind, _)| *kind == "container") && said(&p, "C06").is_empty());

    if needs::root() {
        let content = Bed::content();
        content.remove(&format!("containers/{WEB}/hostconfig.json"));
        let p = content.plan();
        assert_eq!(lost(&p), [("settings", sentence.to_owned())]);
        assert_eq!(p.containers.len(), 1);
    }
}
