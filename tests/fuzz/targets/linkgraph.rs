//! `linkgraph.db`, read by SQLite from memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unaufs::store::graph::linkgraph::read;

fuzz_target!(|bytes: &[u8]| {
    let Ok(graph) = read(bytes) else { return };
    let names = graph.names.values().flatten().chain(graph.links.values().flat_map(|l| l.keys()));
    for name in names {
        assert!(!name.is_empty() && !name.contains(['/', ':']) && !name.chars().any(char::is_control), "{name:?}");
    }
});
