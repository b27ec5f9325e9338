//! One v1 image into an image of Docker 1.10, given its parent's: pure (FORMATS 8.3).

use super::v1::{History, V1Image};
use crate::docker::gojson;
use crate::docker::json;
use crate::error::{Error, Result};
use crate::ids::{ChainId, DiffId, ImageId, Sha256};
use std::sync::Arc;

/// An image as Docker 1.10 knew it.
#[derive(Clone, Debug)]
pub struct Converted {
    /// Its id.
    pub id: ImageId,
    /// Its config; `None` where Docker has written it already.
    pub config: Option<String>,
    /// The id of its parent.
    pub parent: Option<ImageId>,
    /// Its top layer.
    pub chain: Option<ChainId>,
    /// The layer below that.
    pub parent_chain: Option<ChainId>,
    /// Its layers, base first.
    diffs: Vec<DiffId>,
    /// What made each of them. Shared: a stack repeats all of its parent's.
    history: Vec<Arc<History>>,
}

/// Makes the image config of `image`, whose own layer has the digest `diff`.
pub fn convert(image: &V1Image<'_>, diff: DiffId, parent: Option<&Converted>) -> Result<Converted> {
    let (mut diffs, mut history) = parent.map(|p| (p.diffs.clone(), p.history.clone())).unwrap_or_default();
    diffs.push(diff);
    history.push(Arc::new(image.history()));
    let config = image.image_config(&diffs, &history);
    if config.len() as u64 > json::LIMIT {
        return Err(Error::corrupt(format!("its config would have {} bytes", config.len())));
    }
    let id = ImageId(Sha256::of(&config));
    let config = String::from_utf8(config).map_err(|e| Error::corrupt("its json isn't UTF-8").with_source(e))?;
    let parent_chain = parent.and_then(|p| p.chain);
    let chain = Some(ChainId::over(parent_chain, diff));
    Ok(Converted { id, config: Some(config), parent: parent.map(|p| p.id), chain, parent_chain, diffs, history })
}

/// An image that Docker has converted already, from its config: images on top of it need its layers and its history.
pub fn read(id: ImageId, config: &[u8]) -> Result<Converted> {
    if Sha256::of(config) != id.0 {
        return Err(Error::corrupt("its config doesn't have the digest that is its ID"));
    }
    let top = gojson::parse(config)?.map()?;
    let mut diffs = Vec::new();
    if let Some(rootfs) = top.get("rootfs") {
        for diff in rootfs.map()?.get("diff_ids").map(|d| d.elements()).transpose()?.flatten().unwrap_or_default() {
            diffs.push(DiffId::parse(&diff.string()?.unwrap_or_default())?);
        }
    }
    let entries = top.get("history").map(|h| h.elements()).transpose()?.flatten().unwrap_or_default();
    let history = entries.into_iter().map(|e| History::read(e).map(Arc::new)).collect::<Result<_>>()?;
    let stack = ChainId::stack(&diffs);
    let (chain, parent_chain) = (stack.last().copied(), stack.iter().nth_back(1).copied());
    Ok(Converted { id, config: None, parent: None, chain, parent_chain, diffs, history })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

    fn image(json: &str) -> V1Image<'_> {
        V1Image::read(json.as_bytes()).expect(json)
    }

    #[test]
    fn going_on_from_a_written_config_gives_the_same_image() {
        let diff = DiffId::parse(EMPTY).expect("digest");
        let base =
            r#"{"created":"2015-06-01T10:00:00.5Z","author":"<a>","comment":"c\t","container_config":{"Cmd":["x"]}}"#;
        let base = convert(&image(base), diff, None).expect("base");
        let again = read(base.id, base.config.as_deref().expect("config").as_bytes()).expect("read");
        assert_eq!((again.id, again.chain, &again.config), (base.id, base.chain, &None));
        let json = r#"{"docker_version":"1.9.1","created":"2015-06-02T10:00:00Z"}"#;
        let [one, two] = [&base, &again].map(|p| convert(&image(json), diff, Some(p)).expect("child"));
        assert_eq!((one.id, one.parent, one.chain), (two.id, two.parent, two.chain));
        assert_eq!(one.parent, Some(base.id));
        assert_eq!(one.chain, Some(ChainId::over(base.chain, diff)));
    }

    /// Found by the fuzzer: JSON to Go, and so kept by Docker's own migration as it is; to a `serde_json::Value` it is none.
    #[test]
    fn half_a_surrogate_pair_in_an_unknown_field_is_kept() {
        let diff = DiffId::parse(EMPTY).expect("digest");
        let json = r#"{"docker_version":"1.9.1","created":"2015-06-02T10:00:00Z","other":"a\udf84b"}"#;
        let base = convert(&image(json), diff, None).expect("base");
        let child = convert(&image(json), diff, Some(&base)).expect("child");
        for made in [&base, &child] {
            let text = made.config.as_deref().expect("config");
            assert!(text.contains(r#""other":"a\udf84b""#), "{text}");
            assert_eq!(read(made.id, text.as_bytes()).expect("read").chain, made.chain);
        }
    }

    #[test]
    fn what_cannot_be_an_image_is_an_error() {
        let diff = DiffId::parse(EMPTY).expect("digest");
        let raw = V1Image::read(b"{\"docker_version\":\"1.9.1\",\"author\":\"\xff\"}").expect("JSON");
        assert!(convert(&raw, diff, None).is_err(), "not UTF-8");
        assert!(read(ImageId(Sha256::of(b"")), b"{}").is_err(), "another digest");
        for bad in ["[]", r#"{"rootfs":{"diff_ids":["x"]}}"#, r#"{"history":[{"created":1}]}"#] {
            assert!(read(ImageId(Sha256::of(bad.as_bytes())), bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
