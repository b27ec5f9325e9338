//! A container's config with another driver: as JSON it differs in that value and in nothing else, and the text around it is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use unaufs::docker::json::{set, string};
use unaufs::ids::ContainerId;
use unaufs::store::boot::config as parse;

fuzz_target!(|bytes: &[u8]| {
    let id = ContainerId::parse(&"a".repeat(64)).expect("hex");
    let read = parse(bytes, &id);
    let Ok(text) = std::str::from_utf8(bytes) else {
        assert!(read.is_err(), "not text, yet read");
        return;
    };
    let edited = set(text, &[("Driver", string("overlay2"))]);
    assert!(read.is_err() || edited.is_ok(), "read, but cannot be edited");
    let Ok(new) = edited else { return };
    // what a plain parser makes of both; it refuses deep nesting, which the edit passes through
    let (Ok(Value::Object(mut was)), Ok(Value::Object(is))) = (serde_json::from_str(text), serde_json::from_str(&new))
    else {
        return;
    };
    was.insert("Driver".to_owned(), "overlay2".into());
    assert_eq!(was, is);
    assert_eq!(set(&new, &[("Driver", string("overlay2"))]).expect("edited again"), new);
    let same_begin = text.bytes().zip(new.bytes()).take_while(|(a, b)| a == b).count();
    let same_end = text.bytes().rev().zip(new.bytes().rev()).take_while(|(a, b)| a == b).count();
    assert!(same_begin + same_end + "\"Driver\":\"overlay2\",".len() >= new.len(), "more than one place changed");
});
