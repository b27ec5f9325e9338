//! `repositories-aufs`: tags and digests of the graph generation (FORMATS 8.5).
//!
//! ```text
//! {"Repositories":{"library/busybox":{"latest":"<v1 id>","sha256:<digest>":"<v1 id>"}}}
//! becomes                             busybox:latest      busybox@sha256:<digest>
//! ```
//!
//! A name that no Docker since 1.10 reads is reported and left out; its image stays, without that tag.

use crate::docker::gojson::{Raw, parse};
use crate::error::{Error, Result};
use crate::ids::is_hex64;
use std::collections::BTreeMap;

/// The longest repository name ([distribution/reference NameTotalLengthMax]).
const MAX_NAME: usize = 255;

/// A tag or a digest of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The repository in its short form: `busybox`, `quay.io/x/y`.
    pub repository: String,
    /// The whole reference: `busybox:latest`, `busybox@sha256:...`.
    pub full: String,
}

/// Every reference with the v1 id it names, sorted, and what is wrong with the others.
#[derive(Debug, Default)]
pub struct References {
    /// Reference to v1 id, checked to be 64 hex digits.
    pub names: BTreeMap<Reference, String>,
    /// Each entry that cannot be kept.
    pub problems: Vec<Problem>,
}

/// An entry that cannot be kept.
#[derive(Debug)]
pub struct Problem {
    /// `repository` or `tag`.
    pub kind: &'static str,
    /// Its name, cut if it is long.
    pub name: String,
    /// Why.
    pub why: Error,
}

impl Problem {
    fn new(kind: &'static str, name: &str, why: Error) -> Problem {
        Problem { kind, name: clip(name), why }
    }
}

/// Reads `repositories-aufs`. An error means that nothing in it can be read; one bad entry is a problem of its own.
pub fn read(text: &[u8]) -> Result<References> {
    let mut out = References::default();
    for (key, repositories) in parse(text)?.members()?.unwrap_or_default() {
        if !key.eq_ignore_ascii_case("repositories") {
            continue;
        }
        for (name, tags) in repositories.members()?.unwrap_or_default() {
            if let Err(e) = out.repository(&name, tags) {
                out.problems.push(Problem::new("repository", &name, e));
            }
        }
    }
    Ok(out)
}

impl References {
    fn repository(&mut self, name: &str, tags: Raw<'_>) -> Result<()> {
        let repository = familiar(name)?;
        for (tag, id) in tags.members()?.unwrap_or_default() {
            if let Err(e) = self.tag(name, &repository, &tag, id) {
                let sign = if tag.starts_with("sha256:") { '@' } else { ':' };
                self.problems.push(Problem::new("tag", &format!("{name}{sign}{tag}"), e));
            }
        }
        Ok(())
    }

    fn tag(&mut self, name: &str, repository: &str, tag: &str, id: Raw<'_>) -> Result<()> {
        let id = id.string()?.filter(|id| is_hex64(id)).ok_or_else(|| Error::corrupt("it doesn't name an image ID"))?;
        let full = match tag.strip_prefix("sha256:") {
            Some(hex) if is_hex64(hex) => format!("{repository}@{tag}"),
            Some(_) => return Err(Error::corrupt("it isn't a sha256 digest")),
            None if is_tag(tag) => format!("{repository}:{tag}"),
            None => return Err(Error::corrupt("Docker doesn't accept such a tag")),
        };
        let reference = Reference { repository: repository.to_owned(), full };
        // `docker.io/x`, `library/x` and `x` are one repository; Docker kept whichever its random order met first
        match self.names.get(&reference) {
            Some(other) if *other != id && name != repository => {
                let what = format!("image {1} already has the tag {0}", reference.full, clip(other));
                return Err(Error::corrupt(what));
            }
            Some(other) if *other != id => {
                let why = Error::corrupt(format!("image {} has this tag too", clip(other)));
                self.problems.push(Problem::new("tag", &reference.full, why));
            }
            _ => {}
        }
        self.names.insert(reference, id);
        Ok(())
    }
}

/// A repository name in its short form, as Docker 1.10 normalised and checked it
/// ([v1.10.3:reference/reference.go normalize, validateName]).
fn familiar(name: &str) -> Result<String> {
    let bad = |why: &str| Err(Error::corrupt(format!("Docker doesn't accept this repository name: {why}")));
    let (host, mut remote) = match name.split_once('/') {
        Some((host, remote)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), remote),
        _ => (None, name),
    };
    let host = host.filter(|h| !matches!(*h, "docker.io" | "index.docker.io"));
    if host.is_none() {
        remote = remote.strip_prefix("library/").unwrap_or(remote);
    }
    let short = match host {
        Some(host) => format!("{host}/{remote}"),
        None => remote.to_owned(),
    };
    if remote.chars().any(char::is_uppercase) {
        return bad("it must be lower-case");
    }
    if is_hex64(&short) {
        return bad("it looks like an image ID");
    }
    if short == "sha256" {
        return bad("it is the name of a digest algorithm");
    }
    if short.len() > MAX_NAME {
        return bad("it is too long");
    }
    let parts = |s: &str| s.split('/').all(is_name_part);
    let named = parts(&short) || host.is_some_and(is_host) && parts(remote);
    if named {
        Ok(short)
    } else {
        bad("it must be letters and digits, with single . _ - between them, in parts separated by /")
    }
}

/// `[a-z0-9]+((\.|_|__|-*)[a-z0-9]+)*`
fn is_name_part(part: &str) -> bool {
    let alphanumeric = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = [part.as_bytes().first(), part.as_bytes().last()];
    ends.into_iter().all(|c| c.is_some_and(alphanumeric))
        && part
            .as_bytes()
            .split(alphanumeric)
            .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|c| *c == b'-'))
}

/// `label(\.label)*(:[0-9]+)?`, where a label has letters, digits and inner dashes.
fn is_host(host: &str) -> bool {
    let (labels, port) = match host.split_once(':') {
        Some((labels, port)) => (labels, Some(port)),
        None => (host, None),
    };
    port.is_none_or(|p| !p.is_empty() && p.bytes().all(|c| c.is_ascii_digit()))
        && labels.split('.').all(|label| {
            let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
            !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(allowed)
        })
}

/// `[\w][\w.-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    tag.len() <= 128 && tag.bytes().next().is_some_and(word) && tag.bytes().all(|c| word(c) || matches!(c, b'.' | b'-'))
}

fn clip(s: &str) -> String {
    s.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_or_refused_as_docker_did() {
        let long = format!("{}/x", "a".repeat(254));
        let hex = "0".repeat(64);
        for (name, want) in [
            ("busybox", Some("busybox")),
            ("library/busybox", Some("busybox")),
            ("docker.io/busybox", Some("busybox")),
            ("docker.io/library/busybox", Some("busybox")),
            ("index.docker.io/library/busybox", Some("busybox")),
            ("docker.io/me/x", Some("me/x")),
            ("me/x", Some("me/x")),
            ("localhost:5000/pub/base", Some("localhost:5000/pub/base")),
            ("localhost/library/x", Some("localhost/library/x")),
            ("127.0.0.1:5000/demo/app", Some("127.0.0.1:5000/demo/app")),
            ("Registry.Example.COM/xx/yy/app", Some("Registry.Example.COM/xx/yy/app")),
            ("a_b/c__d/e.f/g---h", Some("a_b/c__d/e.f/g---h")),
            ("Host/name", None),
            ("Busybox", None),
            ("", None),
            ("/", None),
            ("a/", None),
            ("a//b", None),
            ("-a", None),
            ("a-", None),
            ("a..b", None),
            ("a___b", None),
            ("a.-b", None),
            ("a b", None),
            ("é", None),
            ("a:b/c", None),
            ("a.b:x/c", None),
            ("a.b:/c", None),
            ("docker.io/", None),
            ("../../etc", None),
            ("sha256", None),
            (&hex, None),
            (&long, None),
        ] {
            assert_eq!(familiar(name).ok().as_deref(), want, "{name}");
        }
    }

    #[test]
    fn tags_and_digests_become_references() {
        let [a, b, d] = ["a", "b", "d"].map(|x| x.repeat(64));
        let text = format!(
            r#"{{"Repositories":{{"library/x":{{"1":"{a}","sha256:{d}":"{b}"}},"Bad":{{"1":"{a}"}},"y":{{"_ok.-":"{b}","":"{a}",".no":"{a}","sha256:12":"{a}","tarsum:x":"{a}","t":"../x","u":5}},"z":null}},"Other":1}}"#
        );
        let got = read(text.as_bytes()).expect("JSON");
        let names: Vec<(&str, &str)> = got.names.iter().map(|(r, id)| (r.full.as_str(), id.as_str())).collect();
        assert_eq!(names, [("x:1", a.as_str()), (&format!("x@sha256:{d}"), &b), ("y:_ok.-", &b)]);
        assert_eq!(got.problems.len(), 7, "{:?}", got.problems);
        let of =
            |kind: &str| got.problems.iter().filter(|p| p.kind == kind).map(|p| p.name.as_str()).collect::<Vec<_>>();
        assert_eq!(of("repository"), ["Bad"]);
        assert!(of("tag").contains(&"y:.no") && of("tag").contains(&"y@sha256:12"), "{:?}", of("tag"));
    }

    #[test]
    fn the_short_spelling_of_a_repository_wins() {
        let [a, b] = ["a", "b"].map(|x| x.repeat(64));
        for text in [
            format!(r#"{{"Repositories":{{"docker.io/x":{{"1":"{b}"}},"x":{{"1":"{a}"}}}}}}"#),
            format!(r#"{{"Repositories":{{"x":{{"1":"{a}"}},"docker.io/x":{{"1":"{b}"}}}}}}"#),
        ] {
            let got = read(text.as_bytes()).expect("JSON");
            assert_eq!(got.names.values().collect::<Vec<_>>(), [&a]);
            assert_eq!(got.problems.len(), 1);
        }
    }

    #[test]
    fn a_file_that_is_no_such_json_is_an_error() {
        for bad in ["", "[]", "{", r#"{"Repositories":[]}"#, r#"{"Repositories":{"a":{}}"#] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
        for none in ["{}", "null", r#"{"Repositories":null}"#] {
            assert!(read(none.as_bytes()).expect(none).names.is_empty());
        }
    }
}
