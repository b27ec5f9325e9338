//! `graph/<id>/json` to the image config of a present-day Docker: that is JSON, and reads as the image that it was made of.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unaufs::ids::DiffId;
use unaufs::store::graph::convert::{convert, read};
use unaufs::store::graph::v1::V1Image;

fuzz_target!(|json: &[u8]| {
    let image = match V1Image::read(json) {
        Ok(image) => image,
        Err(e) => {
            assert!(!e.chain().contains(|c: char| c.is_control()), "{:?}", e.chain());
            return;
        }
    };
    let _ = image.parent(Some(json));
    let diff = DiffId::from_hex(&"d".repeat(64)).expect("hex");
    let Ok(base) = convert(&image, diff, None) else { return };
    let Ok(child) = convert(&image, diff, Some(&base)) else { return };
    for made in [&base, &child] {
        let text = made.config.as_deref().expect("a config");
        // Go's JSON may have half a surrogate pair in a string, which a `Value` may not
        assert!(serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok(), "no JSON: {text}");
        let back = read(made.id, text.as_bytes()).expect("it reads what it wrote");
        assert_eq!((back.id, back.chain, back.parent_chain), (made.id, made.chain, made.parent_chain));
    }
});
