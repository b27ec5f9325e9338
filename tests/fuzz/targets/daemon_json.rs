//! daemon.json, and a command line of dockerd: the same is read however the JSON is laid out, and an option's value is a piece of the line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use unaufs::plan::host::docker_config::{flag, parse};

fuzz_target!(|text: &[u8]| {
    match (parse(text), serde_json::from_slice::<Value>(text)) {
        (Ok(read), Ok(plain)) => {
            let laid_out = serde_json::to_vec_pretty(&plain).expect("JSON");
            assert_eq!(read, parse(&laid_out).expect("the same JSON"));
            let named = [&read.storage_driver, &read.data_root, &read.userns_remap];
            assert!(named.into_iter().flatten().all(|s| !s.is_empty()), "{read:?}");
        }
        (Err(e), Err(_)) => assert!(!e.chain().contains(|c: char| c.is_control()), "{:?}", e.chain()),
        (read, _) => panic!("{read:?}"),
    }
    let args: Vec<String> = String::from_utf8_lossy(text).split_whitespace().map(str::to_owned).collect();
    if let Some(value) = flag(&args, &["--storage-driver", "-s", "--data-root", "--graph", "-g"]) {
        assert!(args.iter().any(|a| a.ends_with(&value)), "{value:?}");
    }
});
