//! An image's config: a store that holds it can be read, the image is there or named as damaged, and its config comes back byte for byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fs;
use unaufs::disk::Dir;
use unaufs::ids::{ImageId, Sha256};
use unaufs::store::content;

fuzz_target!(|config: &[u8]| {
    let top = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let id = ImageId(Sha256::of(config));
    for folder in ["aufs/diff", "aufs/layers", "image/aufs/imagedb/content/sha256", "image/aufs/layerdb/sha256"] {
        fs::create_dir_all(top.path().join(folder)).expect("a folder");
    }
    let file = top.path().join("image/aufs/imagedb/content/sha256").join(id.hex());
    fs::write(file, config).expect("a config");
    let root = Dir::open_named(top.path()).expect("the root");
    let (store, findings) = content::read(&root).expect("one bad config costs no store");
    for f in &findings {
        assert!(!f.message.contains(|c: char| c.is_control()), "{f:?}");
    }
    match store.images.get(&id) {
        // no layer is in the store: without a finding only an image that has none
        Some(image) => {
            assert!(image.layers.is_empty() || !findings.is_empty(), "{image:?}");
            assert_eq!(store.config(&root, id).expect("its config"), config);
        }
        None => assert!(!findings.is_empty(), "an image is gone and nothing is said"),
    }
});
