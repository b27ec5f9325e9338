//! What every command prints for programs: with `--json` one document, with `--jsonl` lines of which the last is that document, also where it
//! fails; each as docs/commands.schema.json or docs/plan.schema.json says, field by field.

use crate::support::real::{self, Ran, Store};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The document is what the schema says, and the schema leaves no field of it out.
pub fn keeps_to(schema: &Value, doc: &Value, what: &str) {
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
        if fits(all, choice, doc) {
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

/// Is the document one of these? To build a validator takes longer than to ask it, so each is kept.
fn fits(all: &Value, choice: &Value, doc: &Value) -> bool {
    thread_local! {
        static BUILT: RefCell<HashMap<(bool, String), jsonschema::Validator>> = RefCell::default();
    }
    // the plan's schema is a whole file, the commands' a part of one: a name may mean two things
    let key = (all["$schema"].is_null(), choice.to_string());
    BUILT.with_borrow_mut(|built| {
        built
            .entry(key)
            .or_insert_with(|| jsonschema::validator_for(&with_definitions(all, choice)).expect("a schema"))
            .is_valid(doc)
    })
}

fn with_definitions(all: &Value, part: &Value) -> Value {
    let mut part = part.clone();
    part["$defs"] = all["$defs"].clone();
    part
}

fn schema(name: &str) -> Value {
    let file = if name == "plan" { "plan" } else { "commands" };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{file}.schema.json"));
    let all: Value = serde_json::from_str(&fs::read_to_string(path).expect("the schema")).expect("JSON");
    match file {
        "plan" => all,
        _ => json!({"$ref": format!("#/$defs/{name}"), "$defs": all["$defs"]}),
    }
}

/// A document in which no name comes twice: readers differ in which of two they take.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Once, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Value;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut out = serde_json::Map::new();
                while let Some((name, Once(value))) = map.next_entry::<String, Once>()? {
                    if out.insert(name.clone(), value).is_some() {
                        return Err(serde::de::Error::custom(format!("{name} comes twice")));
                    }
                }
                Ok(Value::Object(out))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut out = Vec::new();
                while let Some(Once(value)) = list.next_element()? {
                    out.push(value);
                }
                Ok(Value::Array(out))
            }
            fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
                Ok(v.into())
            }
            fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
                Ok(v.into())
            }
            fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
                Ok(v.into())
            }
            fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
                Ok(v.into())
            }
            fn visit_str<E>(self, v: &str) -> Result<Value, E> {
                Ok(v.into())
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
        }
        from.deserialize_any(Reader).map(Once)
    }
}

/// One document, or lines of which the last is it; the others are returned.
fn read(ran: &Ran, form: &str, what: &str) -> (Value, Vec<Value>) {
    let parse = |text: &str| {
        let read = serde_json::from_str::<Once>(text);
        read.unwrap_or_else(|e| panic!("{what}: {e}\n{text}\nstderr: {}", ran.stderr)).0
    };
    if form == "--json" {
        return (parse(&ran.stdout), Vec::new());
    }
    let mut lines: Vec<Value> = ran.stdout.lines().map(parse).collect();
    let last = lines.pop().unwrap_or_else(|| panic!("{what}: no line"));
    for line in &lines {
        keeps_to(&schema("line"), line, what);
    }
    (last, lines)
}

/// What a command ended with.
fn ended(ran: Ran, form: &str, code: i32, name: &str, what: &str) -> (Value, Vec<Value>) {
    let ran = ran.exits(code);
    let (doc, lines) = read(&ran, form, what);
    let told = doc["schema"].as_str().and_then(|s| s.strip_prefix("unaufs.")?.split('/').next()).unwrap_or_default();
    assert_eq!(told, name, "{what}: {doc}");
    assert_eq!(doc["exit_code"], code, "{what}: {doc}");
    keeps_to(&schema(name), &doc, what);
    (doc, lines)
}

/// Runs commands on one store.
struct Bed {
    store: Store,
    form: &'static str,
}

impl Bed {
    fn runs(&self, args: &[&str], code: i32, name: &str) -> (Value, Vec<Value>) {
        let ran = self.store.unaufs(&[args, &[self.form]].concat());
        ended(ran, self.form, code, name, &format!("{args:?} {}", self.form))
    }

    fn beside(&self, name: &str) -> String {
        self.store.beside.join(name).to_str().expect("UTF-8").to_owned()
    }
}

const FORMS: [&str; 2] = ["--json", "--jsonl"];

#[test]
fn commands_that_look() {
    if !real::able() {
        return;
    }
    for form in FORMS {
        let bed = Bed { store: real::small().unpack(), form };
        let (saved, archive) = (bed.beside("a.plan"), bed.beside("a.tar"));
        bed.runs(&["inspect"], 0, "inspect");
        let (plan, lines) = bed.runs(&["plan", "--out", &saved], 0, "plan");
        assert_eq!(lines.is_empty(), form == "--json", "a plan has phases");
        let (dry, _) = bed.runs(&["migrate", "-n"], 0, "plan");
        assert_eq!((&dry["fingerprint"], &dry["options"]), (&plan["fingerprint"], &plan["options"]));
        bed.runs(&["migrate", "-n", &saved], 0, "plan");
        bed.runs(&["plan", "--detailed-exitcode"], 5, "plan");
        bed.runs(&["status"], 0, "status");
        bed.runs(&["verify", "--driver", "aufs", "--level", "fast"], 0, "verify");
        bed.runs(&["explain", "D01"], 0, "explain");
        bed.runs(&["report", "merge", &saved], 0, "report");
        bed.runs(&["completions", "bash"], 0, "completions");
        fs::create_dir(bed.store.beside.join("man")).expect("mkdir");
        bed.runs(&["man", &bed.beside("man")], 0, "man");
        bed.runs(&["demo", "--to", "vfs"], 0, "demo");
        bed.runs(&["export", "--all", "-o", &archive], 0, "export");
        bed.runs(&["cp", "c-changes:/etc/hostname", &bed.beside("hostname")], 0, "cp");
        bed.runs(&["diff", "c-changes"], 0, "diff");
        bed.runs(&["rollback", "--yes"], 0, "rollback");
        let before = real::tree(&bed.store.root);
        let pinned = bed.beside("daemon.json");
        fs::write(&pinned, r#"{"storage-driver": "aufs"}"#).expect("daemon.json");
        for args in [&["plan"][..], &["migrate", "-n"]] {
            bed.runs(&[args, &["--docker-config", &pinned]].concat(), 4, "plan");
        }
        let (doc, _) = bed.runs(&["migrate", "--yes", "--docker-config", &pinned], 4, "error");
        assert_eq!(doc["kind"], "blocked");
        real::same("nothing was written", &before, &real::tree(&bed.store.root));
    }
}

#[test]
fn commands_that_change() {
    if !real::able() {
        return;
    }
    for form in FORMS {
        let bed = Bed { store: real::small().unpack(), form };
        let (_, lines) = bed.runs(&["migrate", "--yes"], 0, "migrate");
        let types: BTreeSet<&str> = lines.iter().filter_map(|l| l["message_type"].as_str()).collect();
        let told = if form == "--json" { &[][..] } else { &["status", "step"] };
        assert!(told.iter().all(|t| types.contains(t)), "{types:?}");
        bed.runs(&["migrate", "--yes"], 0, "migrate");
        bed.runs(&["status"], 0, "status");
        bed.runs(&["verify"], 0, "verify");
        bed.runs(&["rollback", "--yes"], 0, "rollback");
        bed.runs(&["rollback", "--yes"], 0, "rollback");
        bed.runs(&["migrate", "--yes", "--no-switch"], 0, "migrate");
        bed.runs(&["status"], 0, "status");
        bed.runs(&["migrate", "--yes"], 0, "migrate");
        bed.runs(&["cleanup", "--yes"], 0, "cleanup");
        bed.runs(&["cleanup", "--yes"], 0, "cleanup");
        bed.runs(&["status"], 0, "status");
        bed.runs(&["rollback", "--yes"], 1, "error");
    }
}

#[test]
fn commands_that_fail() {
    if !real::able() {
        return;
    }
    for form in FORMS {
        let bed = Bed { store: real::small().unpack(), form };
        let log = bed.beside("mig.log");
        fs::write(&log, "2026-01-01T00:00:00Z unaufs migrate\n").expect("a log");
        for (args, says) in [
            (&["plan", "--nonsense"][..], "nonsense"),
            (&["nonsense"], "nonsense"),
            (&[], "command is missing"),
            (&["migrate", "--yes", "--prepare", "--no-switch"], "--prepare and --no-switch"),
            (&["export", "--all", "a:1", "-o", "x"], "--all and NAME"),
            (&["migrate"], "confirmation"),
            (&["migrate", "--yes", &log], "mig.log is not an unaufs plan"),
            (&["migrate", "-n", &log], "mig.log is not an unaufs plan"),
            (&["report", "merge", &log], "mig.log is not an unaufs plan"),
            (&["explain", "X99"], "no check X99"),
            (&["migrate", "--yes", "--target", "/dev/null"], "isn't a directory"),
            (&["plan", "--only", "volume=a"], "image=GLOB"),
        ] {
            let (doc, _) = bed.runs(args, 2, "error");
            let said = doc["cause"].as_str().unwrap_or_default();
            assert!(said.contains(says), "{args:?}: {said}");
        }
        bed.runs(&["cleanup", "--yes"], 10, "error");
        bed.runs(&["export", "nowhere:1", "-o", &bed.beside("x.tar")], 2, "error");
        let nowhere = bed.store.beside.join("nowhere");
        for args in [
            &["inspect"][..],
            &["plan"],
            &["migrate", "-n"],
            &["migrate", "--yes"],
            &["status"],
            &["verify"],
            &["rollback", "--yes"],
            &["cleanup", "--yes"],
            &["export", "--all", "-o", "x"],
        ] {
            ended(real::unaufs(&nowhere, &[args, &[form]].concat()), form, 10, "error", &format!("{args:?}"));
        }
    }
    let ran = real::unaufs(Path::new("/"), &["plan", "--json", "--jsonl"]);
    ended(ran, "--json", 2, "error", "both forms");
}

/// Runs with variables, on stores that stay as they are.
fn with(root: &Path, variables: &[(&str, &str)], args: &[&str]) -> Ran {
    let mut c = Command::new(env!("CARGO_BIN_EXE_unaufs"));
    c.arg("--root").arg(root).args(args).envs(variables.iter().copied());
    Ran::of(c.output().expect("unaufs"))
}

#[test]
fn flags_as_variables() {
    if !real::able() {
        return;
    }
    let store = real::small().unpack();
    for (value, json) in
        [("1", true), ("yes", true), ("TRUE", true), ("0", false), ("no", false), ("false", false), ("", false)]
    {
        let ran = with(&store.root, &[("UNAUFS_JSON", value)], &["status"]).exits(0);
        assert_eq!(ran.stdout.starts_with('{'), json, "UNAUFS_JSON={value}: {}", ran.stdout);
    }
    let ran = with(&store.root, &[("UNAUFS_JSON", "false")], &["status", "--jsonl"]);
    ended(ran, "--jsonl", 0, "status", "--jsonl with UNAUFS_JSON=false");
    let ran = with(&store.root, &[("UNAUFS_JSON", "1")], &["status", "--jsonl"]);
    ended(ran, "--jsonl", 0, "status", "--jsonl with UNAUFS_JSON=1");
    let ran = with(&store.root, &[("UNAUFS_JSON", "1")], &["status", "--nonsense"]);
    ended(ran, "--json", 2, "error", "a wrong option with UNAUFS_JSON=1");
    with(&store.root, &[("UNAUFS_KEEP_GOING", "yes"), ("UNAUFS_NO_SWITCH", "0")], &["migrate", "-n"]).exits(0);
    with(&store.root, &[("UNAUFS_ALL", "no"), ("UNAUFS_PREPARE", "false")], &["migrate", "-n", "--no-switch"]).exits(0);
    assert!(
        with(&store.root, &[("UNAUFS_KEEP_GOING", "maybe")], &["migrate", "-n"]).exits(2).stderr.contains("yes or no")
    );
    // nothing but the command line answers a question, and a variable for it does no harm
    let disarming =
        [("UNAUFS_YES", "1"), ("UNAUFS_DROP_NEW", "1"), ("UNAUFS_SKIP_VERIFY", "1"), ("UNAUFS_ALLOW", "H03")];
    let ran = with(&store.root, &disarming, &["migrate"]).exits(2);
    assert!(ran.stderr.contains("confirmation"), "{}", ran.stderr);
    let help =
        with(&store.root, &[], &["rollback", "--help"]).stdout + &with(&store.root, &[], &["plan", "--help"]).stdout;
    assert!(disarming.iter().all(|(name, _)| !help.contains(name)) && !help.is_empty(), "{help}");
}
