//! `repositories.json` and, of the graph generation, `repositories-aufs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unaufs::ids::is_hex64;
use unaufs::store::graph::references;
use unaufs::store::repositories::parse_repositories;

fuzz_target!(|text: &[u8]| {
    if let Ok(all) = parse_repositories(text) {
        let again = serde_json::to_vec(&serde_json::json!({ "Repositories": all })).expect("JSON");
        assert_eq!(parse_repositories(&again).expect("written again"), all);
    }
    let Ok(old) = references::read(text) else { return };
    for (reference, id) in &old.names {
        assert!(is_hex64(id), "{id}");
        assert!(reference.full.starts_with(&reference.repository), "{reference:?}");
        assert!(!reference.full.chars().any(|c| c.is_control() || c.is_whitespace()), "{reference:?}");
    }
    for problem in &old.problems {
        assert!(!problem.why.chain().contains(|c: char| c.is_control()), "{problem:?}");
    }
});
