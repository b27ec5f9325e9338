//! A saved plan: what can be read can be written again, and no name in it reaches a terminal or a page raw.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::hash::{DefaultHasher, Hash, Hasher};
use unaufs::plan::Plan;
use unaufs::report;

/// What a terminal and a browser would obey: a title, a script, the end of an attribute and of a JSON in a page, text from right to left.
const HARM: &str = "\u{1b}]0;x\u{7}\r<script>x\"'</script>\u{202e}";
/// So many strings of each plan are made harmful, one at a time: a fuzzer seldom finds the way to JSON that is still a plan.
const TRIED: u64 = 8;

/// The strings of a document, in order; the `n`th is made harmful.
fn harm(v: &mut Value, n: &mut u64) {
    match v {
        Value::String(s) => {
            if *n == 0 {
                s.push_str(HARM);
            }
            *n = n.wrapping_sub(1);
        }
        Value::Array(list) => list.iter_mut().for_each(|v| harm(v, n)),
        Value::Object(map) => map.values_mut().for_each(|v| harm(v, n)),
        _ => {}
    }
}

fn strings(v: &Value) -> u64 {
    match v {
        Value::String(_) => 1,
        Value::Array(list) => list.iter().map(strings).sum(),
        Value::Object(map) => map.values().map(strings).sum(),
        _ => 0,
    }
}

fn shown(plan: &Plan) {
    let look = report::page::Look { colour: false, width: 80 };
    let all = report::plan::Screen { all: true, ..report::plan::Screen::of(look) };
    for page in [report::plan::text(plan, look), report::plan::on_screen(plan, &all)] {
        let obeyed = |c: &char| c.is_control() && *c != '\n' || ('\u{202a}'..='\u{202e}').contains(c);
        let bad = page.chars().find(obeyed);
        assert!(bad.is_none(), "{bad:?} in {page:?}");
    }
    let _ = report::plan::document(plan);
    let html = report::html::page(plan, None).expect("a page");
    let raw = ["\u{1b}", "<script>x", "\u{202e}"].into_iter().find(|r| html.contains(r));
    assert!(raw.is_none(), "{raw:?} in the page");
}

fuzz_target!(|text: &[u8]| {
    let Ok(plan) = serde_json::from_slice::<Plan>(text) else { return };
    let once = serde_json::to_vec(&plan).expect("JSON");
    let again: Plan = serde_json::from_slice(&once).expect("written again");
    assert_eq!(once, serde_json::to_vec(&again).expect("JSON"));
    shown(&plan);
    let document: Value = serde_json::from_slice(text).expect("JSON");
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    for n in 0..TRIED {
        let mut harmed = document.clone();
        let mut which = hasher.finish().wrapping_add(n * 7919) % strings(&document).max(1);
        harm(&mut harmed, &mut which);
        // an id or a time is refused with that
        if let Ok(plan) = serde_json::from_value::<Plan>(harmed) {
            shown(&plan);
        }
    }
});
