//! The small files of a directory of layerdb, one a paragraph: cache-id, diff, size, parent. What is accepted has a safe cache id and the name
//! that its digest and its parent give.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unaufs::ids::{ChainId, DiffId};
use unaufs::store::content::{Record, text_of};

fuzz_target!(|input: &[u8]| {
    let mut files = input.split(|c| *c == 0xff);
    let mut next = || files.next().unwrap_or_default();
    let (cache_id, diff, size) = (next(), next(), next());
    let parent = files.next();
    // the right name, where there is one: any other is refused at once
    let text = |b: &[u8]| text_of(b).unwrap_or_default();
    let below = parent.and_then(|p| ChainId::parse(&text(p)).ok());
    let named = DiffId::parse(&text(diff)).map(|d| ChainId::over(below, d));
    let chain = named.unwrap_or_else(|_| ChainId::from_hex(&"0".repeat(64)).expect("hex"));
    let Ok(record) = Record::parse(chain, cache_id, diff, parent, size) else { return };
    assert_eq!(ChainId::over(record.parent, record.diff), chain);
    assert!(!record.cache_id.as_str().contains('/') && !record.cache_id.as_str().starts_with('.'));
    assert_eq!(record.parent.is_some(), parent.is_some());
});
