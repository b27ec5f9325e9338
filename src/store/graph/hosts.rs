//! Links of containers whose `linkgraph.db` is lost, from their `hosts` files (FORMATS 8.5).
//!
//! Docker made `linkgraph.db` at its first start, and `hostconfig.json` has no links up to 1.9: only the database had them. But at each start of a
//! container Docker 1.9 wrote a line for each link into `containers/<id>/hosts`:
//!
//! ```text
//! 172.17.0.3    88c8d1f8db78                     the container itself
//! 172.17.0.2    database ac17601240fc c-db       alias, short id and name of the container that it is linked to
//! 172.17.0.2    c-db ac17601240fc                the alias is the name
//! ```
//!
//! A container that was never started has no such file. Lines of another form may be links of an older Docker.

use crate::checks::Finding;
use crate::disk::Dir;
use crate::docker::json;
use crate::ids::ContainerId;
use crate::store::boot::{HOST_CONFIG, OLD_CONFIG};
use crate::store::{Container, Lost, Store};
use crate::text;
use std::collections::BTreeMap;

/// The alias by which a container knows another one, and that one.
type Links = BTreeMap<String, ContainerId>;

/// Finds the links that are still known. Where a container may have had others, that is named and counts.
pub fn recover(root: &Dir, why: &str, store: &mut Store, findings: &mut Vec<Finding>) -> BTreeMap<ContainerId, Links> {
    let (mut known, mut unknown) = (BTreeMap::new(), Vec::new());
    // a newer Docker has no links in linkgraph.db
    let of_old = |c: &Container| root.has(format!("containers/{}/{OLD_CONFIG}", c.id)).unwrap_or(false);
    let moves = |c: &&Container| c.broken.is_none() && !c.foreign && of_old(c);
    for c in store.containers.values().filter(moves) {
        let read = |file: &str| root.read_opt(format!("containers/{}/{file}", c.id), json::LIMIT).ok().flatten();
        let host_config = String::from_utf8_lossy(&read(HOST_CONFIG).unwrap_or_default()).into_owned();
        // Docker from 1.10 on has taken them over
        if json::top_level(&host_config).is_ok_and(|top| top.get("Links").is_some_and(|l| l.get() != "null")) {
            continue;
        }
        let found = read("hosts").map(|hosts| links(&String::from_utf8_lossy(&hosts), &host_config, c, store));
        match found {
            Some((links, true)) if links.is_empty() => {}
            Some((links, all)) => {
                if !links.is_empty() {
                    let aliases = text::few(links.keys().take(5).map(|a| text::text(a)), links.len());
                    let what = format!("linkgraph.db is lost; its hosts file has the links {aliases}");
                    findings.push(Finding::new("G04", c.subject(), what).effect("these links are migrated"));
                    known.insert(c.id.clone(), links);
                }
                unknown.extend((!all).then_some(c));
            }
            None => unknown.push(c),
        }
    }
    // a link needs two
    if store.containers.len() > 1 && !unknown.is_empty() {
        let name = |c: &&Container| text::text(if c.name.is_empty() { c.id.as_str() } else { &c.name });
        let names = text::few(unknown.iter().take(5).map(name), unknown.len());
        let lost = format!(
            "Links that these containers may have had to other containers: {names}. Use docker network connect --alias to replace them."
        );
        let reason = format!("{why}, and no hosts file shows the links of {names}");
        let (kind, id) = ("links".to_owned(), "linkgraph.db".to_owned());
        store.lost.push(Lost { kind, id, reason, lost });
    }
    known
}

/// The links that a `hosts` file shows, and whether it shows all.
fn links(hosts: &str, host_config: &str, of: &Container, store: &Store) -> (Links, bool) {
    let (mut links, mut all) = (Links::new(), true);
    for (nth, line) in hosts.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some((ip, names)), false) = (words.split_first(), line.starts_with('#')) else { continue };
        let local = ip.starts_with("127.") || ip.contains("::");
        let is = |c: &ContainerId, id: &str| id.len() >= 12 && c.as_str().starts_with(id);
        // first comes the container itself, by its host name
        let own = nth == 0 || names.iter().any(|n| is(&of.id, n));
        // docker run --add-host
        let added = names.iter().all(|n| host_config.contains(&format!("\"{n}:{ip}\"")));
        if local || own || added {
            continue;
        }
        let linked = match names {
            [alias, id] | [alias, id, _] => {
                store.containers.keys().find(|c| is(c, id)).map(|c| ((*alias).to_owned(), c.clone()))
            }
            _ => None,
        };
        all &= linked.is_some();
        links.extend(linked);
    }
    (links, all)
}
