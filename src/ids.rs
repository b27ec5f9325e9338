//! Docker's ids, one newtype each, checked when made: a value of these types is safe to use as one file name.

use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A SHA-256 digest. Written `sha256:<64 hex digits>` as Docker writes it (FORMATS 6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Sha256 {
        use sha2::Digest;
        Sha256(sha2::Sha256::digest(bytes).into())
    }

    /// Parses `sha256:<hex>`, as Docker's metadata files hold it. Blanks around it are not accepted.
    pub fn parse(s: &str) -> Result<Sha256> {
        match s.strip_prefix("sha256:") {
            Some(hex) => Sha256::from_hex(hex),
            None => Err(Error::corrupt(format!("{:?} isn't a sha256 digest", clip(s)))),
        }
    }

    /// Parses 64 lower-case hex digits, as Docker's file names hold it.
    pub fn from_hex(hex: &str) -> Result<Sha256> {
        let bad = || Error::corrupt(format!("{:?} isn't a sha256 in hex", clip(hex)));
        if !is_hex64(hex) {
            return Err(bad());
        }
        let mut out = [0u8; 32];
        for (i, pair) in hex.as_bytes().chunks_exact(2).enumerate() {
            let nibble = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
            out[i] = nibble(pair[0]).ok_or_else(bad)? << 4 | nibble(pair[1]).ok_or_else(bad)?;
        }
        Ok(Sha256(out))
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> String {
        use fmt::Write;
        self.0.iter().fold(String::with_capacity(64), |mut s, b| {
            let _ = write!(s, "{b:02x}");
            s
        })
    }

    /// The first 12 hex digits, as `docker images` prints ids.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = String::deserialize(d)?;
        Sha256::parse(&s).map_err(serde::de::Error::custom)
    }
}

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Sha256);

        impl $name {
            /// Parses `sha256:<hex>`.
            pub fn parse(s: &str) -> Result<Self> {
                Sha256::parse(s).map($name)
            }
            /// Parses 64 hex digits.
            pub fn from_hex(s: &str) -> Result<Self> {
                Sha256::from_hex(s).map($name)
            }
            /// The 64 hex digits: the name of the file or directory that Docker keeps it in.
            pub fn hex(&self) -> String {
                self.0.hex()
            }
            /// The first 12 hex digits.
            pub fn short(&self) -> String {
                self.0.short()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

digest_id! {
    /// The sha256 of a layer's uncompressed tar (FORMATS 6.1).
    DiffId
}
digest_id! {
    /// Names a layer together with all layers below it: the directory name in `layerdb/sha256` (FORMATS 6.1).
    ChainId
}
digest_id! {
    /// The sha256 of an image's config: the file name in `imagedb/content/sha256` (FORMATS 7).
    ImageId
}

impl ChainId {
    /// The ChainID of the layer `diff` on top of `parent` (FORMATS 6.1).
    pub fn over(parent: Option<ChainId>, diff: DiffId) -> ChainId {
        match parent {
            None => ChainId(diff.0),
            Some(p) => ChainId(Sha256::of(format!("{p} {diff}").as_bytes())),
        }
    }

    /// The ChainIDs of a stack of layers, base first.
    pub fn stack(diffs: &[DiffId]) -> Vec<ChainId> {
        let mut out: Vec<ChainId> = Vec::with_capacity(diffs.len());
        for d in diffs {
            out.push(ChainId::over(out.last().copied(), *d));
        }
        out
    }
}

/// The name of a layer in the driver's own directories: `aufs/diff/<id>`, `overlay2/<id>`. Docker calls it the cache id of an
/// image layer (64 hex digits), the mount id of a container's, and `<mount id>-init` for the init layer (FORMATS 1.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct LayerId(String);

impl LayerId {
    /// Accepts what is safe as one file name: letters, digits, `_ . -`, at most 128 bytes, not starting with a dot.
    /// Docker's are 64 hex digits, BuildKit's 25 letters and digits; a cache-id may be any non-empty string (FORMATS 6). The names that
    /// overlay2 keeps for itself are none: a layer of that name would take the place of every layer's short name.
    pub fn parse(s: &str) -> Result<LayerId> {
        let ok = !s.is_empty()
            && !matches!(s, "l" | "backingFsBlockDev")
            && s.len() <= 128
            && !s.starts_with('.')
            && s.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'));
        if ok { Ok(LayerId(s.to_owned())) } else { Err(Error::corrupt(format!("{:?} can't be a layer ID", clip(s)))) }
    }

    /// The id as a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is it the layer that Docker puts between an image and a container?
    pub fn is_init(&self) -> bool {
        self.0.ends_with("-init")
    }

    /// Enough of the id to recognise it; `-init` is kept.
    pub fn short(&self) -> String {
        match self.0.strip_suffix("-init") {
            Some(s) => format!("{}-init", &s[..s.len().min(12)]),
            None => self.0[..self.0.len().min(12)].to_owned(),
        }
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LayerId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = String::deserialize(d)?;
        LayerId::parse(&s).map_err(serde::de::Error::custom)
    }
}

/// A container's id: 64 hex digits, the directory name in `containers/` (FORMATS 8.7).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ContainerId(String);

impl ContainerId {
    /// Accepts 64 lower-case hex digits.
    pub fn parse(s: &str) -> Result<ContainerId> {
        if is_hex64(s) {
            Ok(ContainerId(s.to_owned()))
        } else {
            Err(Error::corrupt(format!("{:?} isn't a container ID", clip(s))))
        }
    }

    /// The 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 hex digits.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ContainerId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = String::deserialize(d)?;
        ContainerId::parse(&s).map_err(serde::de::Error::custom)
    }
}

/// The id that a file's name or its content is, if it is one.
pub fn named<T>(bytes: &[u8], parse: impl Fn(&str) -> Result<T>) -> Option<T> {
    parse(std::str::from_utf8(bytes).ok()?).ok()
}

/// 64 lower-case hex digits: what Docker accepts as an id.
pub fn is_hex64(s: &str) -> bool {
    s.len() == 64 && s.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// The start of a hostile string, short enough for an error message.
fn clip(s: &str) -> &str {
    let mut end = s.len().min(80);
    while !s.is_char_boundary(end) {
        end -= 1;
    }
    &s[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_id_is_docker_s() {
        // asserted in Docker's TestMigrateContainers (FORMATS 8.4)
        let a = DiffId::from_hex("c6f988f4874bb0add23a778f753c65efe992244e148a1d2ec2a8b664fb66bbd1").expect("hex");
        let b = DiffId::from_hex("5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef").expect("hex");
        let stack = ChainId::stack(&[a, b]);
        assert_eq!(stack[0].0, a.0);
        assert_eq!(stack[1].to_string(), "sha256:c3191d32a37d7159b2e30830937d2e30268ad6c375a773a8994911a3aba9b93f");
    }

    #[test]
    fn ids_are_safe_file_names() {
        let hex = "0".repeat(64);
        for good in [hex.as_str(), &format!("{hex}-init"), "k3x0s1kq2w4pz5vfm8y9b7c6d", "a.b_c-d"] {
            assert!(LayerId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "/x", "a/b", "a\nb", "a\0b", "-é", &"a".repeat(129), ".hidden"] {
            assert!(LayerId::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", &hex[1..], &hex.replace('0', "A"), "sha256:"] {
            assert!(ContainerId::parse(bad).is_err(), "{bad}");
            assert!(Sha256::parse(bad).is_err(), "{bad}");
        }
    }
}
