//! Images that a Docker with containerd's store has: names in containerd's metadata, a bbolt database.
//!
//! ```text
//! io.containerd.metadata.v1.bolt/meta.db    bucket v1 ▸ moby ▸ images ▸ one bucket for each name
//!
//! page      id u64 │ kind u16 │ count u16 │ overflow u32 │ elements │ keys and values
//! branch    position u32 │ key length u32 │ page u64
//! leaf      flags u32 │ position u32 │ key length u32 │ value length u32        a position counts from its element
//! bucket    a leaf's value: page u64 │ sequence u64 │ where page is 0, a page of its own right here
//! meta      magic u32 │ version u32 │ page size u32 │ flags u32 │ root bucket │ …     pages 0 and 1, the newer one counts
//! ```
//!
//! Read only, as the file of a stopped or running containerd is: a page is never changed in place.

use crate::error::{Error, Result};

/// What a container of containerd's store has as its `Driver`, where no storage driver has the same name.
pub const SNAPSHOTTERS: [&str; 6] = ["overlayfs", "native", "stargz", "nydus", "soci", "erofs"];

const MAGIC: u32 = 0xED0C_DAED;
const HEADER: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const META: u16 = 4;
/// A leaf's element is a bucket.
const BUCKET: u32 = 1;
/// bbolt's trees are a few pages deep.
const DEEPEST: usize = 32;
/// Docker's namespace.
const NAMESPACE: &[u8] = b"moby";

/// How many names of images Docker has in containerd's metadata.
pub fn images(db: &[u8]) -> Result<usize> {
    let (size, root) = newest_meta(db)?;
    let db = Db { db, size };
    let mut bucket = Bucket { root, inline: &[] };
    for name in [&b"v1"[..], NAMESPACE, b"images"] {
        match db.members(bucket)?.into_iter().find(|(key, value)| *key == name && value.is_some()) {
            Some((_, Some(inner))) => bucket = inner,
            _ => return Ok(0),
        }
    }
    Ok(db.members(bucket)?.len())
}

fn damaged() -> Error {
    Error::corrupt("containerd's metadata can't be read")
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N).ok_or_else(damaged)?;
    bytes.get(at..end).and_then(|b| b.try_into().ok()).ok_or_else(damaged)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(number(bytes, at)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(number(bytes, at)?))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(number(bytes, at)?))
}

fn slice(bytes: &[u8], at: usize, length: u32) -> Result<&[u8]> {
    let end = at.checked_add(length as usize).ok_or_else(damaged)?;
    bytes.get(at..end).ok_or_else(damaged)
}

/// The page size and the root bucket's page, by the meta page of the last transaction.
fn newest_meta(db: &[u8]) -> Result<(usize, u64)> {
    let meta = |at: usize| -> Result<(u64, usize, u64)> {
        let page = db.get(at..).ok_or_else(damaged)?;
        let m = page.get(HEADER..).ok_or_else(damaged)?;
        if u16_at(page, 8)? != META || u32_at(m, 0)? != MAGIC {
            return Err(damaged());
        }
        Ok((u64_at(m, 48)?, u32_at(m, 8)? as usize, u64_at(m, 16)?))
    };
    let first = meta(0);
    // the size of a page is in both; 4096 where the first one is damaged
    let size = first.as_ref().map_or(4096, |(_, size, _)| *size);
    let newest = [first, meta(size)].into_iter().filter_map(Result::ok).max_by_key(|(transaction, ..)| *transaction);
    let (_, size, root) = newest.filter(|(_, size, _)| size.is_power_of_two() && *size >= 512).ok_or_else(damaged)?;
    Ok((size, root))
}

#[derive(Clone, Copy)]
struct Bucket<'a> {
    root: u64,
    /// Its only page, where `root` is 0.
    inline: &'a [u8],
}

struct Db<'a> {
    db: &'a [u8],
    size: usize,
}

/// A key, and the bucket that it names, if it names one.
type Member<'a> = (&'a [u8], Option<Bucket<'a>>);

impl<'a> Db<'a> {
    /// All members of a bucket.
    fn members(&self, bucket: Bucket<'a>) -> Result<Vec<Member<'a>>> {
        let mut out = Vec::new();
        if bucket.root == 0 {
            self.page(bucket.inline, DEEPEST, &mut out)?;
        } else {
            self.page(self.at(bucket.root)?, 0, &mut out)?;
        }
        Ok(out)
    }

    fn at(&self, page: u64) -> Result<&'a [u8]> {
        let begin = usize::try_from(page).ok().and_then(|p| p.checked_mul(self.size)).ok_or_else(damaged)?;
        self.db.get(begin..).ok_or_else(damaged)
    }

    fn page(&self, page: &'a [u8], depth: usize, out: &mut Vec<Member<'a>>) -> Result<()> {
        let (kind, count) = (u16_at(page, 8)?, usize::from(u16_at(page, 10)?));
        for n in 0..count {
            let at = HEADER + n * 16;
            // more members than the file has bytes: a page that leads to itself
            if out.len() > self.db.len() {
                return Err(damaged());
            }
            match kind {
                BRANCH if depth < DEEPEST => self.page(self.at(u64_at(page, at + 8)?)?, depth + 1, out)?,
                LEAF => {
                    let key_at = at.checked_add(u32_at(page, at + 4)? as usize).ok_or_else(damaged)?;
                    let length = u32_at(page, at + 8)?;
                    let key = slice(page, key_at, length)?;
                    let value = slice(page, key_at + length as usize, u32_at(page, at + 12)?)?;
                    let bucket = (u32_at(page, at)? & BUCKET != 0)
                        .then(|| {
                            Ok::<_, Error>(Bucket {
                                root: u64_at(value, 0)?,
                                inline: value.get(16..).unwrap_or_default(),
                            })
                        })
                        .transpose()?;
                    out.push((key, bucket));
                }
                _ => return Err(damaged()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A leaf page of such members.
    fn leaf(members: &[(&[u8], bool, Vec<u8>)]) -> Vec<u8> {
        let mut out = vec![0; 8];
        out.extend(LEAF.to_le_bytes());
        out.extend((members.len() as u16).to_le_bytes());
        out.extend([0; 4]);
        let mut data = Vec::new();
        for (n, (key, bucket, value)) in members.iter().enumerate() {
            let position = (members.len() - n) * 16 + data.len();
            for word in [u32::from(*bucket), position as u32, key.len() as u32, value.len() as u32] {
                out.extend(word.to_le_bytes());
            }
            data.extend([*key, value].concat());
        }
        [out, data].concat()
    }

    fn bucket(root: u64, inline: Vec<u8>) -> Vec<u8> {
        [&root.to_le_bytes()[..], &[0; 8], &inline].concat()
    }

    fn meta(transaction: u64, root: u64) -> Vec<u8> {
        let mut out = vec![0; 8];
        out.extend(META.to_le_bytes());
        out.extend([0; 6]);
        for word in [MAGIC, 2, 4096, 0] {
            out.extend(word.to_le_bytes());
        }
        for word in [root, 0, 0, 9, transaction, 0] {
            out.extend(word.to_le_bytes());
        }
        out.resize(4096, 0);
        out
    }

    fn page(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.resize(4096, 0);
        bytes
    }

    /// Two images of Docker in a bucket of its own page, one of another user of the same containerd.
    fn db() -> Vec<u8> {
        let image = |name: &'static [u8]| (name, true, bucket(0, leaf(&[(b"target", false, vec![1])])));
        let images = leaf(&[image(b"docker.io/library/a:1"), image(b"docker.io/library/b:1")]);
        let moby = leaf(&[(b"content", true, bucket(0, leaf(&[]))), (b"images", true, bucket(3, vec![]))]);
        let other = leaf(&[(b"images", true, bucket(0, leaf(&[image(b"x")])))]);
        let v1 = leaf(&[
            (b"k8s.io", true, bucket(0, other)),
            (b"moby", true, bucket(0, moby)),
            (b"version", false, vec![4]),
        ]);
        [meta(7, 2), meta(6, 9), page(leaf(&[(b"v1", true, bucket(0, v1))])), page(images)].concat()
    }

    #[test]
    fn images_of_docker_are_counted() {
        assert_eq!(images(&db()).expect("a database"), 2);
        let empty = [meta(1, 2), meta(0, 2), page(leaf(&[]))].concat();
        assert_eq!(images(&empty).expect("a database"), 0);
    }

    #[test]
    fn whatever_is_in_the_file_it_ends() {
        let good = db();
        for bad in [&[][..], &[0; 100], &[0xff; 9000], &good[..5000]] {
            assert!(images(bad).is_err());
        }
        for at in 0..good.len() {
            for flip in [0x01, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                let _ = images(&bad);
            }
        }
        // a branch page that is its own child
        let mut branch = page(leaf(&[(b"k", false, vec![])]));
        branch[8] = BRANCH as u8;
        branch[24..32].copy_from_slice(&2u64.to_le_bytes());
        assert!(images(&[meta(1, 2), meta(0, 2), branch].concat()).is_err());
    }
}
