//! `plan --json` is what docs/plan.schema.json says, and the schema leaves no field untold.

use crate::json::keeps_to;
use crate::support::real;
use serde_json::Value;
use std::fs;

fn schema() -> Value {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/plan.schema.json")).expect("the schema");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn the_document_keeps_to_its_schema() {
    if !real::able() {
        return;
    }
    let schema = schema();
    let mut stores = real::all();
    if stores.iter().all(|s| s.name != "docker19-aufs") {
        stores.push(real::graph());
    }
    for packed in stores {
        let store = packed.unpack();
        let new = store.beside.join("new");
        for args in [
            &["--to", "overlay2"][..],
            &["--to", "vfs", "--mode", "copy", "--exclude", "image=demo/*"],
            &["--to", "vfs", "--target", new.to_str().expect("UTF-8")],
        ] {
            let said = store.unaufs(&[&["plan", "--json", "-q"], args].concat());
            let doc: Value = serde_json::from_str(&said.stdout).expect("JSON");
            keeps_to(&schema, &doc, &format!("{} {args:?}", packed.name));
            assert_eq!(doc["exit_code"], said.code);
        }
    }
    // next to a store of the target, and with a name that is not UTF-8
    let store = real::small().unpack();
    let layer = fs::read_dir(store.root.join("aufs/diff")).expect("diff").flatten().next().expect("a layer").path();
    use std::os::unix::ffi::OsStrExt;
    fs::write(layer.join(std::ffi::OsStr::from_bytes(&[0xff; 250])), "").expect("a file");
    fs::create_dir_all(store.root.join("overlay2/theirs/diff")).expect("a folder");
    let doc: Value = serde_json::from_str(&store.unaufs(&["plan", "--json", "-q"]).stdout).expect("JSON");
    keeps_to(&schema, &doc, "beside another store");
    assert!(doc["merge"].is_object() && doc.to_string().contains("name_raw"));
}

/// The schema is no rubber stamp.
#[test]
fn a_wrong_document_does_not() {
    if !real::able() {
        return;
    }
    let schema = schema();
    let said = real::small().unpack().unaufs(&["plan", "--json", "-q"]).stdout;
    let doc: Value = serde_json::from_str(&said).expect("JSON");
    let valid = |doc: &Value| jsonschema::is_valid(&schema, doc);
    assert!(valid(&doc));
    for (pointer, wrong) in [
        ("/checks/0/level", Value::from("fatal")),
        ("/estimates/0/new_bytes", Value::from("12 MiB")),
        ("/images/0/id", Value::from("0123")),
        ("/summary/layers", Value::Null),
    ] {
        let mut bad = doc.clone();
        *bad.pointer_mut(pointer).expect("a field") = wrong;
        assert!(!valid(&bad), "{pointer}");
    }
    for name in ["checks", "images", "layers", "containers", "estimates", "rollback", "fingerprint"] {
        let mut bad = doc.clone();
        bad.as_object_mut().expect("an object").remove(name);
        assert!(!valid(&bad), "without {name}");
    }
}

/// With -v every object has its line.
#[test]
fn a_line_for_each_object() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    let lines = store.unaufs(&["plan", "-v"]).stdout;
    let doc: Value = serde_json::from_str(&store.unaufs(&["plan", "--json", "-q"]).stdout).expect("JSON");
    for (list, title) in [
        ("images", "IMAGES"),
        ("layers", "LAYERS"),
        ("containers", "CONTAINERS"),
        ("quirks", "PATHS THAT AUFS SHOWS DIFFERENTLY"),
    ] {
        let n = doc[list].as_array().map_or(0, Vec::len);
        let table = lines.split_once(&format!("\n{title} ({})\n", unaufs::text::count(n as u64)));
        let rows = table.unwrap_or_else(|| panic!("{title} of {n} in {lines}")).1;
        let rows = rows.lines().take_while(|l| !l.is_empty()).filter(|l| l.starts_with("  ") && !l.starts_with("   "));
        // the head is a row too
        let head = usize::from(list != "quirks");
        assert_eq!(rows.count(), n + head, "{list}");
    }
}
