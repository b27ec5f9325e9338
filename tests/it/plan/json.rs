//! `plan --json` is what docs/plan.schema.json says, and the schema leaves no field untold.

use crate::support::real;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

fn schema() -> Value {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/plan.schema.json")).expect("the schema");
    serde_json::from_str(&text).expect("JSON")
}

fn keeps_to(schema: &Value, doc: &Value, what: &str) {
    let validator = jsonschema::options().should_validate_formats(true).build(schema).expect("a schema");
    let wrong: Vec<String> =
        validator.iter_errors(doc).take(10).map(|e| format!("{}: {e:.300}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
    let mut untold = BTreeSet::new();
    walk(schema, schema, doc, "", &mut untold);
    assert!(untold.is_empty(), "{what}: the schema does not tell of {untold:?}");
}

/// Names of the document that no schema on the way knows.
fn walk(all: &Value, at: &Value, doc: &Value, path: &str, untold: &mut BTreeSet<String>) {
    let at = match at["$ref"].as_str() {
        Some(name) => all.pointer(name.trim_start_matches('#')).expect("a definition"),
        None => at,
    };
    for choice in ["anyOf", "oneOf"].iter().filter_map(|c| at[c].as_array()).flatten() {
        if jsonschema::validator_for(&with_definitions(all, choice)).is_ok_and(|v| v.is_valid(doc)) {
            return walk(all, choice, doc, path, untold);
        }
    }
    match doc {
        Value::Object(fields) => {
            for (name, value) in fields {
                let here = format!("{path}.{name}");
                let known = at["properties"].get(name).or_else(|| at.get("additionalProperties"));
                match known {
                    Some(next) => walk(all, next, value, &here, untold),
                    None => drop(untold.insert(here)),
                }
            }
        }
        Value::Array(list) if !at["items"].is_null() => {
            list.iter().for_each(|v| walk(all, &at["items"], v, &format!("{path}[]"), untold));
        }
        _ => {}
    }
}

fn with_definitions(all: &Value, part: &Value) -> Value {
    let mut part = part.clone();
    part["$defs"] = all["$defs"].clone();
    part
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
    // beside a store of the target, and with a name that is not UTF-8
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
    for (list, word) in [
        ("images", "image "),
        ("layers", "layer "),
        ("containers", "container "),
        ("switch", "rename "),
        ("quirks", "quirk "),
    ] {
        let n = lines.lines().filter(|l| l.starts_with(word)).count();
        assert_eq!(Some(n), doc[list].as_array().map(Vec::len), "{list}");
    }
}
