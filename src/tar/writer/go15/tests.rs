//! Byte for byte by the sources of Go 1.5 (src/archive/tar/writer.go) and of Docker 1.10.3 (pkg/archive/archive.go). That whole tars have the
//! digests which a real Docker 1.10.3 gave them is tested on a real store.

use super::*;

/// Texts of a block, by their place.
type Texts<'a> = &'a [(usize, &'a [u8])];

/// A block of zeros with some texts in it, and its checksum.
fn block(texts: Texts) -> Vec<u8> {
    let mut block = vec![0; 512];
    for (at, text) in texts {
        block[*at..at + text.len()].copy_from_slice(text);
    }
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// The block of a file with these texts instead of the usual ones.
fn usual(texts: &[(usize, &[u8])]) -> Vec<u8> {
    let fields: [(usize, &[u8]); 8] = [
        (100, b"0100644"),
        (108, b"0000000"),
        (116, b"0000000"),
        (124, b"00000000000"),
        (136, b"00000000000"),
        (156, b"0"),
        (257, b"ustar\x0000"),
        (329, b"0000000\x000000000"),
    ];
    block(&[&fields, texts].concat())
}

fn padded(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    out.resize(text.len().next_multiple_of(512), 0);
    out
}

fn meta(kind: FileType, mode: u32) -> Meta {
    Meta {
        kind,
        mode,
        uid: 0,
        gid: 0,
        size: 0,
        allocated: 0,
        atime: (7, 7),
        mtime: (0, 0),
        ctime: (7, 7),
        nlink: 1,
        dev: 0,
        ino: 0,
        rdev: 0,
    }
}

fn file() -> Meta {
    meta(FileType::RegularFile, 0o644)
}

const EMPTY: Node<'_> = Node::File { size: 0 };

/// The headers of entries of one tar.
fn headers(entries: &[Entry<'_>]) -> Vec<u8> {
    let (mut go, mut out) = (Headers::default(), Vec::new());
    for entry in entries {
        go.write(entry, &mut out);
    }
    out
}

fn of(name: &[u8], node: Node<'_>, meta: &Meta) -> Vec<u8> {
    headers(&[Entry { name, node, meta, capability: None }])
}

/// The PAX header and its records, and the block of a file whose name is in neither field of it.
fn with_records(pax_name: &[u8], records: &[u8], texts: &[(usize, &[u8])]) -> Vec<u8> {
    let size = format!("{:011o}", records.len());
    let pax = usual(&[(0, pax_name), (100, b"0000000"), (124, size.as_bytes()), (156, b"x")]);
    [pax, padded(records), usual(texts)].concat()
}

#[test]
fn types_and_modes() {
    use FileType::*;
    let rdev = rustix::fs::makedev(4095, 0xfffff);
    let cases: [(FileType, u32, Node, Texts); 7] = [
        (RegularFile, 0o6755, Node::File { size: 4096 }, &[(0, b"n"), (100, b"0106755"), (124, b"00000010000")]),
        (Directory, 0o1777, Node::Directory, &[(0, b"n/"), (100, b"0041777"), (156, b"5")]),
        (Symlink, 0o777, Node::Symlink { target: b"/t" }, &[(0, b"n"), (100, b"0120777"), (156, b"2/t")]),
        (Fifo, 0o600, Node::Fifo, &[(0, b"n"), (100, b"0010600"), (156, b"6")]),
        (
            CharacterDevice,
            0o620,
            Node::CharDevice { rdev },
            &[(0, b"n"), (100, b"0020620"), (156, b"3"), (329, b"0007777\x003777777")],
        ),
        (
            BlockDevice,
            0o660,
            Node::BlockDevice { rdev },
            &[(0, b"n"), (100, b"0060660"), (156, b"4"), (329, b"0007777\x003777777")],
        ),
        // of a hard link type and numbers are those of what it is
        (
            BlockDevice,
            0o660,
            Node::HardLink { first: b"a" },
            &[(0, b"n"), (100, b"0060660"), (156, b"1a"), (329, b"0007777\x003777777")],
        ),
    ];
    for (kind, mode, node, texts) in cases {
        assert!(of(b"n", node, &Meta { rdev, ..meta(kind, mode) }) == usual(texts), "{kind:?} {node:?}");
    }
}

#[test]
fn whole_seconds_from_1970_on() {
    let cases: [((i64, u32), &[u8]); 7] = [
        ((1_393_632_000, 999_999_999), b"12304221400"),
        ((0, 1), b"00000000000"),
        ((-1, 999_999_999), b"00000000000"),
        ((-86_400, 0), b"00000000000"),
        ((LAST_SECOND, 0), b"77777777777"),
        ((LAST_SECOND, 1), b"00000000000"),
        ((LAST_SECOND + 1, 0), b"00000000000"),
    ];
    for (mtime, text) in cases {
        assert!(of(b"n", EMPTY, &Meta { mtime, ..file() }) == usual(&[(0, b"n"), (136, text)]), "{mtime:?}");
    }
}

#[test]
fn owners_and_sizes_up_to_the_last_octal_digit() {
    let m = Meta { uid: 2_097_151, gid: 2_097_151, ..file() };
    let fits = usual(&[(0, b"n"), (108, b"7777777\x007777777"), (124, b"77777777777")]);
    assert!(of(b"n", Node::File { size: (8 << 30) - 1 }, &m) == fits);
}

#[test]
fn larger_numbers_are_binary_and_gnu_s_magic_stays() {
    let gnu: (usize, &[u8]) = (257, b"ustar  \0");
    let m = Meta { uid: 2_097_152, gid: u32::MAX - 1, ..file() };
    let uid = (108, &b"\x80\0\0\0\0\x20\0\0"[..]);
    let gid = (116, &b"\x80\0\0\0\xff\xff\xff\xfe"[..]);
    assert!(of(b"n", EMPTY, &m) == usual(&[(0, b"n"), uid, gid, gnu]));

    let size = (124, &b"\x80\0\0\0\0\0\0\x02\0\0\0\0"[..]);
    let large = Node::File { size: 8 << 30 };
    assert!(of(b"n", large, &file()) == usual(&[(0, b"n"), size, gnu]));

    // headers before it keep theirs, those after it have GNU's, of PAX records too
    let entry = |name, node| Entry { name, node, meta: &OLD, capability: None };
    static OLD: std::sync::LazyLock<Meta> = std::sync::LazyLock::new(file);
    let got = headers(&[entry(b"a", EMPTY), entry("ü".as_bytes(), large), entry(b"z", EMPTY)]);
    let records = b"11 path=\xc3\xbc\n";
    let want = [
        usual(&[(0, b"a")]),
        usual(&[(0, b"PaxHeaders.310/"), (100, b"0000000"), (124, b"00000000013"), (156, b"x"), gnu]),
        padded(records),
        usual(&[size, gnu]),
        usual(&[(0, b"z"), gnu]),
    ];
    assert!(got == want.concat());
}

#[test]
fn names_at_the_borders_of_both_fields() {
    let path = |directory: usize, base: usize| [&vec![b'd'; directory][..], b"/", &vec![b'f'; base]].concat();
    let whole = |len: usize| vec![b'n'; len];
    // 100 bytes fill the field, without a NUL
    assert!(of(&whole(100), EMPTY, &file()) == usual(&[(0, &whole(100))]));
    // 101 without a slash, and one whose slash would be lost at the front, can't be split
    let pax = |name: &[u8], pax_name: &[u8], record: &str| {
        let record = [record.as_bytes(), name, b"\n"].concat();
        assert!(of(name, EMPTY, &file()) == with_records(pax_name, &record, &[]), "{}", show(name));
    };
    pax(&whole(101), &[&b"PaxHeaders.310/"[..], &[b'n'; 85]].concat(), "111 path=");
    // prefix and name
    for (directory, base) in [(1, 99), (1, 100), (54, 54), (155, 1), (155, 100)] {
        let want = usual(&[(0, &whole(base).iter().map(|_| b'f').collect::<Vec<_>>()), (345, &vec![b'd'; directory])]);
        assert!(of(&path(directory, base), EMPTY, &file()) == want, "{directory}+{base}");
    }
    pax(&path(1, 101), &[&b"d/PaxHeaders.310/"[..], &[b'f'; 83]].concat(), "113 path=");
    pax(&path(156, 1), &[b'd'; 100], "168 path=");
    pax(&path(155, 101), &[b'd'; 100], "267 path=");
    // the last slash within 156 bytes counts, even if an earlier one would fit as well
    let three = [&[b'a'; 50][..], b"/", &[b'b'; 50], b"/", &[b'c'; 30]].concat();
    assert!(of(&three, EMPTY, &file()) == usual(&[(0, &[b'c'; 30]), (345, &three[..101])]));
}

fn show(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[test]
fn a_directory_s_slash_counts_and_stays_at_its_name() {
    let directory = meta(FileType::Directory, 0o755);
    let dir = |name: &[u8]| of(name, Node::Directory, &directory);
    let fields: [(usize, &[u8]); 2] = [(100, b"0040755"), (156, b"5")];
    let whole = [b'n'; 99];
    assert!(dir(&whole) == usual(&[(0, &[&whole[..], b"/"].concat()), fields[0], fields[1]]));
    // 101 bytes with the slash, which is no place to split
    let records = [&b"111 path="[..], &[b'n'; 100], b"/\n"].concat();
    let pax = [&[b'n'; 100][..]].concat();
    assert!(dir(&[b'n'; 100]) == with_records(&pax, &records, &fields));
    let split = [&[b'a'; 60][..], b"/", &[b'b'; 60]].concat();
    let want = usual(&[(0, &[&[b'b'; 60][..], b"/"].concat()), (345, &[b'a'; 60]), fields[0], fields[1]]);
    assert!(dir(&split) == want);
    // the PAX header of a directory is in the directory
    let records = "21 path=etc/größe/\n".as_bytes();
    assert!(dir("etc/größe".as_bytes()) == with_records(b"etc/gre/PaxHeaders.310", records, &fields));
}

#[test]
fn long_links_have_records() {
    let link = meta(FileType::Symlink, 0o777);
    let to = |target: &[u8]| of(b"n", Node::Symlink { target }, &link);
    let fields: [(usize, &[u8]); 3] = [(0, b"n"), (100, b"0120777"), (156, b"2")];
    let target = [b't'; 101];
    assert!(to(&target[..100]) == usual(&[fields[0], fields[1], (156, b"2"), (157, &target[..100])]));
    let records = [&b"115 linkpath="[..], &target, b"\n"].concat();
    assert!(to(&target) == with_records(b"PaxHeaders.310/n", &records, &fields));
    let records = "15 linkpath=ü\n".as_bytes();
    assert!(to("ü".as_bytes()) == with_records(b"PaxHeaders.310/n", records, &fields));
    // a hard link's, too; with a record for the link, the name is not split and gets its own record
    let (name, first) = ([&[b'd'; 60][..], b"/", &[b'f'; 60]].concat(), [&[b'd'; 60][..], b"/", &[b'a'; 60]].concat());
    let records = [&b"131 path="[..], &name, b"\n135 linkpath=", &first, b"\n"].concat();
    let pax = [&[b'd'; 60][..], b"/PaxHeaders.310/", &[b'f'; 24]].concat();
    let got = of(&name, Node::HardLink { first: &first }, &file());
    assert!(got == with_records(&pax, &records, &[(156, b"1")]));
}

#[test]
fn names_that_are_not_ascii_have_records_of_their_bytes() {
    let name = b"d/\xff\xc3 caf\xc3\xa9";
    let records = [&b"19 path="[..], name, b"\n"].concat();
    assert!(of(name, EMPTY, &file()) == with_records(b"d/PaxHeaders.310/ caf", &records, &[]));
    // a long one is not split, although it could be
    let name = [&[b'd'; 60][..], b"/", "é".repeat(30).as_bytes()].concat();
    let records = [&b"131 path="[..], &name, b"\n"].concat();
    let pax = [&[b'd'; 60][..], b"/PaxHeaders.310/"].concat();
    assert!(of(&name, EMPTY, &file()) == with_records(&pax, &records, &[]));
}

#[test]
fn capabilities_have_a_record_after_those_of_the_names() {
    let value = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let with = |name: &[u8], node| headers(&[Entry { name, node, meta: &file(), capability: Some(value) }]);
    let record = [&b"57 SCHILY.xattr.security.capability="[..], value, b"\n"].concat();
    assert_eq!(record.len(), 57);
    assert!(with(b"n", EMPTY) == with_records(b"PaxHeaders.310/n", &record, &[(0, b"n")]));
    // a name that can be split still is
    let long = [&[b'd'; 60][..], b"/", &[b'f'; 60]].concat();
    let pax = [&[b'd'; 60][..], b"/PaxHeaders.310/", &[b'f'; 24]].concat();
    assert!(with(&long, EMPTY) == with_records(&pax, &record, &[(0, &[b'f'; 60]), (345, &[b'd'; 60])]));
    let records = ["13 path=üü\n".as_bytes(), &record].concat();
    assert!(with("üü".as_bytes(), EMPTY) == with_records(b"PaxHeaders.310/", &records, &[]));
    // a further name of the file, as Docker asks each name for it
    let got = with(b"n", Node::HardLink { first: b"a" });
    assert!(got == with_records(b"PaxHeaders.310/n", &record, &[(0, b"n"), (156, b"1a")]));
}

#[test]
fn pax_headers_have_the_entry_s_time() {
    let m = Meta { mtime: (1_393_632_000, 5), uid: 12, ..file() };
    let time: (usize, &[u8]) = (136, b"12304221400");
    let records = b"12 path=\xe2\x82\xac\n";
    let want = [
        usual(&[(0, b"PaxHeaders.310/"), (100, b"0000000"), (124, b"00000000014"), time, (156, b"x")]),
        padded(records),
        usual(&[(108, b"0000014"), time]),
    ];
    assert!(of("€".as_bytes(), EMPTY, &m) == want.concat());
}

#[test]
fn the_first_name_with_a_pax_header_is_kept() {
    let mut go = Headers::default();
    let (m, mut out) = (file(), Vec::new());
    for name in ["plain", "größe", "übel"] {
        go.write(&Entry { name: name.as_bytes(), node: EMPTY, meta: &m, capability: None }, &mut out);
    }
    assert_eq!(go.first_pax().as_deref(), Some("größe".as_bytes()));
    assert_eq!(Headers::default().first_pax(), None);
}
