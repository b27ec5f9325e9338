//! A saved plan: what can be read can be written again, and no name in it reaches a terminal or a page raw.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unaufs::plan::Plan;
use unaufs::report;

fuzz_target!(|text: &[u8]| {
    let Ok(plan) = serde_json::from_slice::<Plan>(text) else { return };
    let once = serde_json::to_vec(&plan).expect("JSON");
    let again: Plan = serde_json::from_slice(&once).expect("written again");
    assert_eq!(once, serde_json::to_vec(&again).expect("JSON"));
    let look = report::page::Look { colour: false, width: 80 };
    for page in [report::plan::text(&plan, look), report::plan::whole(&plan, look)] {
        let bad = page.chars().find(|c| c.is_control() && *c != '\n');
        assert!(bad.is_none(), "{bad:?} in {page:?}");
    }
    let _ = report::plan::document(&plan, 0);
    let html = report::html::page(&plan, None).expect("a page");
    assert!(!html.contains('\u{1b}') && !html.contains("<script>x"), "raw in the page");
});
