//! The disassembler of the tests itself: it has to see a tar as Go, and so Docker, does.

use crate::support::disassemble::{SEGMENT, disassemble};
use crate::support::needs;
use std::collections::BTreeMap;
use std::io::Read;
use std::process::Command;
use unaufs::error::Result;
use unaufs::tar::split::{Crc64, DiffIdWriter, Packer, Payloads, Piece, Reader, reassemble};
use unaufs::tar::writer::block::{self, BLOCK};
use unaufs::tar::writer::{Entry, Node, TarWriter};

/// A header of a given dialect; the checksum is filled in.
fn header(magic: &[u8; 8], kind: u8, name: &[u8], size: &[u8]) -> [u8; BLOCK] {
    let mut h = [0; BLOCK];
    h[..name.len()].copy_from_slice(name);
    h[block::SIZE][..size.len()].copy_from_slice(size);
    h[block::TYPE] = kind;
    h[257..265].copy_from_slice(magic);
    sum(h)
}

fn sum(mut h: [u8; BLOCK]) -> [u8; BLOCK] {
    let digits = format!("{:06o}\0 ", block::checksums(&h).0);
    h[block::CHECKSUM].copy_from_slice(digits.as_bytes());
    h
}

const USTAR: &[u8; 8] = b"ustar\x0000";
const GNU: &[u8; 8] = b"ustar  \0";
const V7: &[u8; 8] = &[0; 8];
const END: [u8; 1024] = [0; 1024];

/// Content with its padding.
fn padded(content: &[u8]) -> Vec<u8> {
    let mut out = content.to_vec();
    out.resize(content.len().next_multiple_of(BLOCK), 0);
    out
}

fn special(magic: &[u8; 8], kind: u8, body: &[u8]) -> Vec<u8> {
    let size = format!("{:011o}\0", body.len());
    [&header(magic, kind, b"special", size.as_bytes())[..], &padded(body)].concat()
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let bare = key.len() + value.len() + 3;
    let len = (bare..).find(|len| bare + len.to_string().len() == *len).expect("a length");
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

fn split(tar: &[u8]) -> Result<Vec<Piece>> {
    let mut packer = Packer::new(Vec::new());
    let mut out = Vec::new();
    let done = disassemble(tar, &mut packer, &mut out)?;
    assert!(out == tar, "every byte is passed on");
    assert_eq!(done.bytes, tar.len() as u64);
    Reader::new(&packer.finish()?[..], 64 << 20).collect()
}

/// Names and sizes, and that content and segments make up the tar.
fn entries(tar: &[u8]) -> Result<Vec<(Vec<u8>, u64)>> {
    let pieces = split(tar)?;
    let mut at = 0;
    let mut out = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Segment(s) => {
                assert!(tar[at..at + s.len()] == s[..], "segment at {at}");
                at += s.len();
            }
            Piece::File { name, size, crc } => {
                let content = &tar[at..at + size as usize];
                assert_eq!(crc, (size > 0).then(|| Crc64::of(content)));
                at += content.len();
                out.push((name, size));
            }
        }
    }
    assert_eq!(at, tar.len());
    Ok(out)
}

#[test]
fn the_worked_example() {
    // FORMATS 6.2, measured with the library that Docker vendors
    let e = |name, node| Entry { name, node, mode: 0o644, uid: 0, gid: 0, mtime: (0, 0), xattrs: &[] };
    let mut w = TarWriter::recording(Vec::new(), Packer::new(Vec::new()));
    w.append(&e(b"d", Node::Directory), &mut std::io::empty()).unwrap();
    w.append(&e(b"d/a", Node::File { size: 6 }), &mut &b"hello\n"[..]).unwrap();
    w.append(&e(b"d/.wh.x", Node::File { size: 0 }), &mut std::io::empty()).unwrap();
    w.append(&e(b"d/b", Node::HardLink { first: b"d/a" }), &mut std::io::empty()).unwrap();
    let (tar, recorded) = w.finish().unwrap();
    assert_eq!(tar.len(), 3584);
    let seg = |range: std::ops::Range<usize>| Piece::Segment(tar[range].to_vec());
    let file = |name: &[u8], size, crc| Piece::File { name: name.to_vec(), size, crc };
    let expected = [
        seg(0..512),
        file(b"d/", 0, None),
        seg(512..1024),
        file(b"d/a", 6, Some([0x61, 0x4c, 0x3e, 0xee, 0xe2, 0xd8, 0x10, 0x00])),
        seg(1030..2048),
        file(b"d/.wh.x", 0, None),
        seg(2048..2560),
        file(b"d/b", 0, None),
        seg(2560..3584),
        seg(3584..3584),
    ];
    assert_eq!(split(&tar).unwrap(), expected);
    // what is recorded while writing is what is made of the finished tar, to the byte
    let mut packer = Packer::new(Vec::new());
    disassemble(&tar[..], &mut packer, &mut std::io::sink()).unwrap();
    assert!(recorded.unwrap() == packer.finish().unwrap());
}

#[test]
fn names_and_sizes_of_every_dialect() {
    let long = [&b"l/"[..], &[b'x'; 300], b"\xff"].concat();
    let gnu_long = [&special(GNU, b'L', &[&long[..], b"\0"].concat())[..], &special(GNU, b'K', b"to\0")].concat();
    let pax_long = special(USTAR, b'x', &[record("path", &long), record("mtime", b"1.5")].concat());
    let six = |magic, kind| header(magic, kind, b"f", b"00000000006\0");
    let six_body = padded(b"hello\n");
    let mut prefixed = header(USTAR, b'0', b"name", b"0\0");
    prefixed[block::PREFIX][..3].copy_from_slice(b"p/q");
    let mut star = header(USTAR, b'0', b"name", b"0\0");
    star[block::STAR_PREFIX].copy_from_slice(&[b's'; 131]);
    star[476..487].copy_from_slice(b"00000000001");
    star[block::STAR_TRAILER].copy_from_slice(b"tar\0");
    let mut gnu_times = header(GNU, b'0', b"name", b"0\0");
    gnu_times[block::GNU_ATIME][..12].copy_from_slice(b"12345670123\0");
    let mut old_go = header(GNU, b'0', b"name", b"0\0");
    old_go[block::PREFIX][..12].copy_from_slice(b"some/folders");
    let mut base256 = [0; 12];
    base256[0] = 0x80;
    base256[11] = 6;
    let signed = {
        let mut h = header(V7, b'0', b"\xfc", b"0\0");
        let digits = format!("{:06o}\0 ", block::checksums(&h).1);
        h[block::CHECKSUM].copy_from_slice(digits.as_bytes());
        h
    };
    let cases: Vec<(&str, Vec<u8>, Vec<u8>, u64)> = vec![
        ("ustar", [&six(USTAR, b'0')[..], &six_body].concat(), b"f".into(), 6),
        ("v7", [&six(V7, 0)[..], &six_body].concat(), b"f".into(), 6),
        ("v7 directory with a size", header(V7, 0, b"d/", b"6\0").into(), b"d/".into(), 0),
        ("hard link with a size", six(USTAR, b'1').into(), b"f".into(), 0),
        ("directory with a size", six(USTAR, b'5').into(), b"f".into(), 0),
        ("contiguous", [&six(USTAR, b'7')[..], &six_body].concat(), b"f".into(), 6),
        ("blanks around digits", [&header(USTAR, b'0', b"f", b"  6 \0")[..], &six_body].concat(), b"f".into(), 6),
        ("size in base 256", [&header(GNU, b'0', b"f", &base256)[..], &six_body].concat(), b"f".into(), 6),
        ("prefix", sum(prefixed).into(), b"p/q/name".into(), 0),
        ("star prefix", sum(star).into(), [&[b's'; 131][..], b"/name"].concat(), 0),
        ("GNU times are no prefix", sum(gnu_times).into(), b"name".into(), 0),
        ("prefix in GNU by old Go", sum(old_go).into(), b"some/folders/name".into(), 0),
        ("checksum of signed bytes", signed.into(), b"\xfc".into(), 0),
        ("GNU long name", [&gnu_long[..], &six(GNU, b'0'), &six_body].concat(), long.clone(), 6),
        ("PAX path", [&pax_long[..], &six(USTAR, b'0'), &six_body].concat(), long.clone(), 6),
        (
            "PAX size",
            [&special(USTAR, b'x', &record("size", b"6"))[..], &header(USTAR, b'0', b"f", b"0\0"), &six_body].concat(),
            b"f".into(),
            6,
        ),
        (
            "empty PAX values",
            [
                &special(USTAR, b'x', &[record("path", b""), record("size", b"")].concat())[..],
                &six(USTAR, b'0'),
                &six_body,
            ]
            .concat(),
            b"f".into(),
            6,
        ),
        (
            "NUL in an attribute",
            [&special(USTAR, b'x', &record("SCHILY.xattr.user.x", b"\0=\n\xff"))[..], &six(USTAR, b'0'), &six_body]
                .concat(),
            b"f".into(),
            6,
        ),
        ("global header", special(USTAR, b'g', &record("path", b"all")), b"special".into(), 0),
    ];
    for (what, tar, name, size) in cases {
        for end in [&END[..], &END[..512], &[], &[0; 10240], &[&END[..], b"trailing junk"].concat()] {
            let tar = [&tar[..], end].concat();
            assert_eq!(entries(&tar).unwrap(), [(name.clone(), size)], "{what}, {} bytes of end", end.len());
        }
        // the next entry is found
        let two = [&tar[..], &header(USTAR, b'0', b"next", b"0\0"), &END].concat();
        assert_eq!(entries(&two).unwrap(), [(name, size), (b"next".into(), 0)], "{what}");
    }
}

#[test]
fn an_empty_tar() {
    assert_eq!(split(&END).unwrap(), [Piece::Segment(END.into()), Piece::Segment(vec![])]);
    assert_eq!(split(&[]).unwrap(), [Piece::Segment(vec![])]);
    // a last file whose padding is missing, as some writers leave it
    let bare = [&header(USTAR, b'0', b"f", b"6\0")[..], b"hello\n"].concat();
    assert_eq!(entries(&bare).unwrap(), [(b"f".to_vec(), 6)]);
}

#[test]
fn the_padding_of_a_global_header_comes_after_its_entry() {
    // as the library that Docker vendors cuts it
    let global = special(USTAR, b'g', &record("comment", b"x"));
    let body = record("comment", b"x").len();
    let tar = [&global[..], &END].concat();
    let file = Piece::File { name: b"special".into(), size: 0, crc: None };
    let (first, second) = tar.split_at(BLOCK + body);
    let expected = [Piece::Segment(first.into()), file, Piece::Segment(second.into()), Piece::Segment(vec![])];
    assert_eq!(split(&tar).unwrap(), expected);
}

#[test]
fn long_padding_is_cut_like_docker_cuts_it() {
    let lengths: Vec<usize> = split(&vec![0; SEGMENT + 5000])
        .unwrap()
        .iter()
        .map(|p| if let Piece::Segment(s) = p { s.len() } else { usize::MAX })
        .collect();
    assert_eq!(lengths, [1024, SEGMENT, 5000 - 1024, 0]);
}

#[test]
fn bad_tars() {
    let good = header(USTAR, b'0', b"f", b"6\0");
    let pax = |body: &[u8]| [&special(USTAR, b'x', body)[..], &good].concat();
    let mut broken = good;
    broken[0] ^= 1;
    let mut negative = [0xff; 12];
    negative[11] = 0xfe;
    let many: Vec<u8> = (0..5).flat_map(|_| special(USTAR, b'K', &vec![b'a'; 1 << 20])).collect();
    for (what, tar, says) in [
        ("no tar", vec![b'x'; 1024], "damaged header"),
        ("checksum", broken.into(), "damaged header"),
        ("content cut", [&good[..], b"hell"].concat(), "cut short"),
        ("header cut", good[..300].into(), "cut short"),
        ("PAX cut", special(USTAR, b'x', b"12 path=abc\n")[..515].into(), "cut short"),
        ("after the end", [&[0; 512][..], &good].concat(), "after its end mark"),
        ("size no number", header(USTAR, b'0', b"f", b"6x\0").into(), "\"f\": a tar has a damaged header"),
        ("negative size", header(GNU, b'0', b"f", &negative).into(), "damaged header"),
        ("size too large", header(GNU, b'0', b"f", &[0xbf; 12]).into(), "damaged header"),
        ("PAX without length", pax(b"path=a\n"), "damaged PAX"),
        ("PAX length too long", pax(b"99 path=a\n"), "damaged PAX"),
        ("PAX length too short", pax(b"3 path=a\n"), "damaged PAX"),
        ("PAX length huge", pax(b"99999999999999999999999 path=a\n"), "damaged PAX"),
        ("PAX without newline", pax(b"9 path=ab"), "damaged PAX"),
        ("PAX without value", pax(b"7 path\n"), "damaged PAX"),
        ("PAX NUL in name", pax(&record("path", b"a\0b")), "damaged PAX"),
        ("PAX garbage", pax(&[b' '; 1 << 20]), "damaged PAX"),
        ("PAX size no number", pax(&record("size", b"-6")), "damaged size"),
        ("PAX size too large", pax(&record("size", b"9223372036854775808")), "damaged size"),
        (
            "long name too long",
            header(GNU, b'L', b"l", b"00020000001\0").into(),
            "takes 4194305 bytes and may take 1048576",
        ),
        ("too many headers", many, "headers of one entry"),
        ("GNU sparse", header(GNU, b'S', b"hole", b"0\0").into(), "\"hole\" is stored as a sparse file"),
        (
            "PAX sparse",
            pax(&[record("GNU.sparse.major", b"1"), record("GNU.sparse.name", b"hole")].concat()),
            "\"hole\" is stored as a sparse file",
        ),
    ] {
        let mut packer = Packer::new(Vec::new());
        let e = disassemble(&tar[..], &mut packer, &mut std::io::sink()).expect_err(what);
        assert!(e.chain().contains(says), "{what}: {}", e.chain());
    }
}

/// The files of a tar that `disassemble` was given.
struct Files(BTreeMap<Vec<u8>, Vec<u8>>);

impl Payloads for Files {
    fn open(&self, name: &[u8]) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(&self.0[name][..]))
    }
}

#[test]
fn tars_of_other_programs_come_back() {
    if !needs::programs(&["python3"]) {
        return;
    }
    let script = "import tarfile,io,sys
for fmt in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
    b = io.BytesIO()
    t = tarfile.open(fileobj=b, mode='w', format=fmt)
    for n in ['d', 'd/a', 'd/' + 'x' * 97, 'p' * 90 + '/' + 'q' * 90, 'ü/ß'] + (['e/' * 90 + 'z' * 200] if fmt else []):
        i = tarfile.TarInfo(n)
        i.mtime = 1.5 if fmt == tarfile.PAX_FORMAT else 1
        body = b'' if n == 'd' else n.encode() * 3
        if n == 'd': i.type = tarfile.DIRTYPE
        i.size = len(body)
        t.addfile(i, io.BytesIO(body))
    t.close()
    v = b.getvalue()
    sys.stdout.buffer.write(len(v).to_bytes(8, 'big') + v)
";
    let out = Command::new("python3").args(["-c", script]).output().unwrap().stdout;
    let mut rest = &out[..];
    let mut tars = 0;
    while let Some((len, after)) = rest.split_first_chunk::<8>() {
        let (tar, after) = after.split_at(u64::from_be_bytes(*len) as usize);
        rest = after;
        tars += 1;
        let names = entries(tar).unwrap();
        assert!(names.len() >= 5 && names[0].0 == b"d/");
        let contents = names.iter().skip(1).map(|(n, _)| (n.clone(), n.repeat(3))).collect();
        let mut packer = Packer::new(Vec::new());
        let mut hashed = DiffIdWriter::new(std::io::sink());
        disassemble(tar, &mut packer, &mut hashed).unwrap();
        let gz = packer.finish().unwrap();
        let mut again = DiffIdWriter::new(Vec::new());
        reassemble(Reader::new(&gz[..], 1 << 20), &Files(contents), &mut again).unwrap();
        let (bytes, id) = again.finish();
        assert!(bytes == tar);
        assert_eq!(id, hashed.finish().1);
    }
    assert_eq!(tars, 3);
}
