//! `aufs/layers/<id>`: what is accepted is a list of safe file names without repetition, and reads the same when written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use unaufs::store::aufs::parse_layers;

fuzz_target!(|text: &[u8]| {
    let Ok(ids) = parse_layers(text) else { return };
    for id in &ids {
        let name = id.as_str();
        assert!(!name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0', '\n']), "{name:?}");
        let _ = id.short();
    }
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "one twice");
    let again: String = ids.iter().map(|id| format!("{id}\n")).collect();
    assert_eq!(parse_layers(again.as_bytes()).expect("written again"), ids);
});
