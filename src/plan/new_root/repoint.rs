//! Paths below the old root in the containers' configurations, changed for a new root.
//!
//! ```text
//! containers/<id>/config.v2.json   LogPath HostnamePath HostsPath ResolvConfPath ShmPath MqueuePath     top-level strings
//!                                  MountPoints.<destination>.Source, Volumes.<destination>              volumes, binds
//! ```
//!
//! Docker makes most of these again when it starts the container (daemon/container_operations_unix.go, daemon/logs.go); until then
//! `docker cp` and `export` bind the old files (container.NetworkMounts), and `docker inspect` shows them. The source of a volume with a
//! driver is asked of the driver at each start; that of a bind, and of a volume from before 1.7, is used unchanged (volume/mounts
//! MountPoint.Setup). `hostconfig.json` holds the user's own words and is left alone.

use crate::checks::Finding;
use crate::disk::Dir;
use crate::docker::json::{self, string, top_level};
use crate::error::Result;
use crate::store::{Container, DRIVER, Store};
use std::path::Path;

const PATHS: [&str; 6] = ["LogPath", "HostnamePath", "HostsPath", "ResolvConfPath", "ShmPath", "MqueuePath"];
const CONFIG: &str = "config.v2.json";

/// Adds the edits to the containers of the store. A configuration that cannot be read is named by the checks of the store.
pub fn apply(root: &Dir, store: &mut Store, dir: &Path) -> Result<Vec<Finding>> {
    let new = dir.to_string_lossy().into_owned();
    let own = root.label().to_string_lossy().into_owned();
    let mut out = Vec::new();
    for c in store.containers.values_mut().filter(|c| c.broken.is_none() && !c.foreign) {
        let id = c.id.to_string();
        let Some(file) = c.files.iter_mut().find(|f| f.name == CONFIG) else { continue };
        // what is set already is what Docker will read
        let Some(bytes) = file.content.bytes(root, DRIVER, json::LIMIT)? else { continue };
        let text = &json::editable(&bytes)?;
        let roots = [own.clone(), recorded_root(text, &id).unwrap_or_else(|| own.clone())];
        let (changes, binds) = edits(text, &roots, &new)?;
        file.content.change(changes)?;
        out.extend(binds.iter().map(|b| bind(c, b)));
    }
    Ok(out)
}

fn bind(c: &Container, path: &str) -> Finding {
    Finding::new("N06", c.subject(), format!("it mounts {}, a path in the old root", crate::text::text(path)))
}

/// The root as the Docker that wrote this knew it: on a rescue system it is elsewhere.
fn recorded_root(text: &str, id: &str) -> Option<String> {
    let top = top_level(text).ok()?;
    ["HostnamePath", "ResolvConfPath", "HostsPath"].iter().find_map(|key| {
        let path: String = serde_json::from_str(top.get(key)?.get()).ok()?;
        let (root, _) = path.split_once(&format!("/containers/{id}/"))?;
        (root.starts_with('/') && root.len() > 1).then(|| root.to_owned())
    })
}

/// The same path below the new root.
fn moved(path: &str, roots: &[String], new: &str) -> Option<String> {
    roots.iter().find_map(|r| {
        let rest = path.strip_prefix(r.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{new}{rest}"))
    })
}

/// Top-level values to replace, as JSON.
type Edits = Vec<(String, String)>;

/// The edits, and the paths that a user named himself.
fn edits(text: &str, roots: &[String], new: &str) -> Result<(Edits, Vec<String>)> {
    let top = top_level(text)?;
    let (mut out, mut binds) = (Edits::new(), Vec::new());
    let read = |raw: &str| serde_json::from_str::<String>(raw).ok();
    for key in PATHS {
        if let Some(to) = top.get(key).and_then(|raw| moved(&read(raw.get())?, roots, new)) {
            out.push((key.to_owned(), string(&to)));
        }
    }
    // null in many configurations
    let inner = |key: &str| top.get(key).map(|raw| raw.get()).filter(|raw| raw.starts_with('{'));
    if let Some(points) = inner("MountPoints") {
        let mut changes = Vec::new();
        for (destination, point) in top_level(points)?.entries() {
            let Ok(fields) = top_level(point.get()) else { continue };
            let field = |key: &str| fields.get(key).and_then(|raw| read(raw.get())).unwrap_or_default();
            let source = field("Source");
            let Some(to) = moved(&source, roots, new) else { continue };
            // volumes of before 1.7 have no name either
            let old_volume = roots.iter().any(|r| source.starts_with(&format!("{r}/vfs/dir/")));
            if field("Name").is_empty() && field("Driver").is_empty() && !old_volume {
                binds.push(source);
            }
            changes.push((destination, json::set(point.get(), &[("Source", string(&to))])?));
        }
        push(&mut out, "MountPoints", points, &changes)?;
    }
    if let Some(volumes) = inner("Volumes") {
        let mut changes = Vec::new();
        for (destination, raw) in top_level(volumes)?.entries() {
            if let Some(to) = read(raw.get()).and_then(|p| moved(&p, roots, new)) {
                changes.push((destination, string(&to)));
            }
        }
        push(&mut out, "Volumes", volumes, &changes)?;
    }
    Ok((out, binds))
}

fn push(out: &mut Edits, key: &str, was: &str, changes: &[(String, String)]) -> Result<()> {
    if !changes.is_empty() {
        out.push((key.to_owned(), json::set_entries(was, changes)?));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789ab";

    #[test]
    fn only_paths_below_the_root_change() {
        let text = r#"{"ID":"0123456789ab","Big":9223372036854775807,"Args":["/var/lib/docker/x"],
            "LogPath":"/var/lib/docker/containers/0123456789ab/0123456789ab-json.log","HostsPath":"/etc/hosts","ShmPath":"",
            "ResolvConfPath":"\/var\/lib\/docker\/containers/0123456789ab/resolv.conf",
            "MountPoints":{ "/data" : {"Source":"/var/lib/docker/volumes/v/_data","Name":"v","Driver":"local","RW": true},
              "/b":{"Source":"/var/lib/docker/volumes/w/_data","Name":""},"/c":{"Source":"/var/lib/docker2/x"},"/d":{"Source":"/srv"}},
            "Volumes":null}"#;
        let roots = ["/var/lib/docker".to_owned()];
        assert_eq!(recorded_root(text, ID).as_deref(), Some("/var/lib/docker"));
        let (changes, binds) = edits(text, &roots, "/new").expect("edits");
        assert_eq!(binds, ["/var/lib/docker/volumes/w/_data"]);
        let now = json::set(text, &changes).expect("set");
        let want = text
            .replace(
                "/var/lib/docker/containers/0123456789ab/0123456789ab-json",
                "/new/containers/0123456789ab/0123456789ab-json",
            )
            .replace(r"\/var\/lib\/docker\/containers", "/new/containers")
            .replace("/var/lib/docker/volumes", "/new/volumes");
        assert_eq!(now, want);
    }

    #[test]
    fn roots_of_a_rescue_system() {
        for (path, want) in [
            ("/var/lib/docker/containers/0123456789ab/hostname", Some("/var/lib/docker")),
            ("/containers/0123456789ab/hostname", None),
            ("relative/containers/0123456789ab/hostname", None),
            ("/etc/hostname", None),
        ] {
            let text = format!("{{\"HostnamePath\":{}}}", string(path));
            assert_eq!(recorded_root(&text, ID).as_deref(), want, "{path}");
        }
        assert_eq!(moved("/r", &["/r".to_owned()], "/n").as_deref(), Some("/n"));
        assert_eq!(moved("/rr", &["/r".to_owned()], "/n"), None);
    }
}
