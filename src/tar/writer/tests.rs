use super::tests_support::python;
use super::*;
use crate::tar::disassemble::disassemble;
use crate::tar::split::{Payloads, Piece, Reader, reassemble};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

const DIR: Node<'static> = Node::Directory;

fn entry<'a>(name: &'a [u8], node: Node<'a>) -> Entry<'a> {
    Entry { name, node, mode: 0o755, uid: 0, gid: 0, mtime: (1_400_000_000, 0), xattrs: &[] }
}

/// One entry alone, without the end.
fn one(e: &Entry<'_>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    header::write(e, &mut out)?;
    Ok(out)
}

fn tar(entries: &[(Entry<'_>, &[u8])]) -> Vec<u8> {
    let mut w = TarWriter::new(Vec::new());
    for (e, content) in entries {
        w.append(e, &mut &content[..]).unwrap();
    }
    w.finish().unwrap().0
}

fn pax_of(header: &[u8]) -> Option<&[u8]> {
    (header[block::TYPE] == b'x').then(|| {
        let digits = std::str::from_utf8(&header[124..135]).unwrap();
        &header[BLOCK..BLOCK + usize::from_str_radix(digits, 8).unwrap()]
    })
}

#[test]
fn a_plain_header_to_the_byte() {
    // time and sum as Python's tarfile has them
    let e = Entry { mode: 0o104_755, uid: 1000, gid: 2_097_151, ..entry(b"bin/su", Node::File { size: 4096 }) };
    let h = one(&e).unwrap();
    let mut expected = vec![0; BLOCK];
    for (at, text) in [
        (0, &b"bin/su"[..]),
        (100, b"0004755\0"),
        (108, b"0001750\0"),
        (116, b"7777777\0"),
        (124, b"00000010000\0"),
        (136, b"12334447000\0"),
        (148, b"010457\0 "),
        (156, b"0"),
        (257, b"ustar\x0000"),
        (329, b"0000000\0"),
        (337, b"0000000\0"),
    ] {
        expected[at..at + text.len()].copy_from_slice(text);
    }
    assert_eq!(h, expected);
}

#[test]
fn pax_only_where_it_must_be() {
    let name = |n: usize| vec![b'n'; n];
    let deep = |prefix: usize, rest: usize| [&vec![b'p'; prefix][..], b"/", &vec![b'n'; rest]].concat();
    let file = Node::File { size: 0 };
    let cases: Vec<(&str, Entry<'_>, Option<&[u8]>)> = vec![
        ("not UTF-8", entry(b"\xff\xfe", file), None),
        ("times to the second", Entry { mtime: (8_589_934_591, 0), ..entry(b"a", file) }, None),
        ("time after 2242", Entry { mtime: (8_589_934_592, 0), ..entry(b"a", file) }, Some(b"20 mtime=8589934592\n")),
        ("fraction", Entry { mtime: (1, 500_000_000), ..entry(b"a", file) }, Some(b"13 mtime=1.5\n")),
        ("nanosecond", Entry { mtime: (0, 1), ..entry(b"a", file) }, Some(b"21 mtime=0.000000001\n")),
        ("before 1970", Entry { mtime: (-2, 0), ..entry(b"a", file) }, Some(b"12 mtime=-2\n")),
        ("just before 1970", Entry { mtime: (-1, 500_000_000), ..entry(b"a", file) }, Some(b"14 mtime=-0.5\n")),
        ("fraction before 1970", Entry { mtime: (-2, 250_000_000), ..entry(b"a", file) }, Some(b"15 mtime=-1.75\n")),
        (
            "the least time",
            Entry { mtime: (i64::MIN, 1), ..entry(b"a", file) },
            Some(b"40 mtime=-9223372036854775807.999999999\n"),
        ),
        ("owner", Entry { uid: 2_097_152, ..entry(b"a", file) }, Some(b"15 uid=2097152\n")),
        ("group", Entry { gid: u32::MAX, ..entry(b"a", file) }, Some(b"18 gid=4294967295\n")),
        ("8 GiB less one", entry(b"a", Node::File { size: (8 << 30) - 1 }), None),
        ("8 GiB", entry(b"a", Node::File { size: 8 << 30 }), Some(b"19 size=8589934592\n")),
        ("largest device", entry(b"a", Node::CharDevice { rdev: rustix::fs::makedev(4095, 1_048_575) }), None),
    ];
    for (what, e, pax) in cases {
        assert_eq!(pax_of(&one(&e).unwrap()), pax, "{what}");
    }
    for (what, node, name, fits) in [
        ("100", file, name(100), true),
        ("101", file, name(101), false),
        ("155/100", file, deep(155, 100), true),
        ("156/100", file, deep(156, 100), false),
        ("155/101", file, deep(155, 101), false),
        ("a leading slash is not lost", file, deep(0, 100), false),
        ("directory, 99 and slash", DIR, name(99), true),
        ("directory, 100 and slash", DIR, name(100), false),
        ("directory, 155/99 and slash", DIR, deep(155, 99), true),
        ("directory, 155/100 and slash", DIR, deep(155, 100), false),
    ] {
        let h = one(&entry(&name, node)).unwrap();
        assert_eq!(pax_of(&h).is_none(), fits, "{what}");
    }
    let target = vec![b't'; 101];
    let mut link = entry(b"l", Node::Symlink { target: &target[..100] });
    assert!(pax_of(&one(&link).unwrap()).is_none());
    link.node = Node::Symlink { target: &target };
    assert!(pax_of(&one(&link).unwrap()).unwrap().starts_with(b"115 linkpath=ttt"));
}

#[test]
fn a_cut_name_does_not_become_a_directory() {
    let name = [&[b'n'; 98][..], b"//", &[b'x'; 300]].concat();
    let h = one(&entry(&name, Node::File { size: 0 })).unwrap();
    assert_eq!(h[h.len() - BLOCK..][..100], [&[b'n'; 98][..], b"\0\0"].concat());
}

#[test]
fn what_no_tar_can_hold() {
    let file = Node::File { size: 0 };
    let odd = [(b"user.a=b".to_vec(), b"1".to_vec())];
    let huge = vec![(b"user.huge".to_vec(), vec![b'x'; 1 << 20])];
    for (what, e, says) in [
        ("no name", entry(b"", DIR), "this isn't a name"),
        ("NUL", entry(b"a\0b", file), "\"a\\u{0}b\" can't be stored in a tar: this isn't a name"),
        ("file with slash", entry(b"a/", file), "only a directory's name"),
        ("no target", entry(b"a", Node::Symlink { target: b"" }), "link target is empty"),
        ("NUL in target", entry(b"a", Node::HardLink { first: b"a\0" }), "link target is empty"),
        ("equals sign", Entry { xattrs: &odd, ..entry(b"a", file) }, "named \"user.a=b\""),
        ("more than Go reads", Entry { xattrs: &huge, ..entry(b"a", file) }, "Docker reads at most 1.0 MiB"),
        ("device", entry(b"a", Node::BlockDevice { rdev: u64::MAX }), "device number"),
        ("time", Entry { mtime: (0, 1_000_000_000), ..entry(b"a", file) }, "nanoseconds"),
    ] {
        let e = one(&e).expect_err(what);
        assert!(e.to_string().contains(says), "{what}: {e}");
    }
}

#[test]
fn content_must_be_what_was_said() {
    let e = entry(b"f", Node::File { size: 3 });
    for (content, says) in [(&b"ab"[..], "it has 2 of the 3 bytes"), (b"abcd", "it has more than the 3 bytes")] {
        let error = TarWriter::new(Vec::new()).append(&e, &mut &content[..]).expect_err("changed");
        assert!(error.to_string().contains(says), "{error}");
    }
    // content of anything else is not even looked at
    struct Never;
    impl Read for Never {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("read")
        }
    }
    TarWriter::new(Vec::new()).append(&entry(b"d", DIR), &mut Never).unwrap();
}

/// Everything that a tree can hold, with the difficult spellings.
struct Sample {
    long: Vec<u8>,
    long_target: Vec<u8>,
    raw_long: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Sample {
    fn new() -> Sample {
        Sample {
            long: [&b"d/"[..], &[b'x'; 255]].concat(),
            long_target: [&b"/t\xff"[..], &[b'y'; 200]].concat(),
            raw_long: [&b"d/\xff\xc3"[..], &[b'z'; 240]].concat(),
            xattrs: vec![
                (b"user.empty".to_vec(), vec![]),
                (b"user.bin".to_vec(), b"\0\xff=\n".to_vec()),
                ("user.ü".into(), b"1".to_vec()),
            ],
        }
    }

    fn entries(&self) -> Vec<(Entry<'_>, &'static [u8])> {
        let e = entry;
        vec![
            (e(b"d", DIR), b""),
            (Entry { mode: 0o4711, uid: 12, gid: 34, ..e(b"d/set", Node::File { size: 6 }) }, b"hello\n"),
            (e(b"d/\xfc raw", Node::File { size: 1 }), b"r"),
            (e("d/ü".as_bytes(), Node::File { size: 1 }), b"u"),
            (e(&self.long, Node::File { size: 1 }), b"l"),
            (e(&self.raw_long, Node::File { size: 1 }), b"R"),
            (e(b"d/hard", Node::HardLink { first: b"d/set" }), b""),
            (e(b"d/hardlong", Node::HardLink { first: &self.raw_long }), b""),
            (e(b"d/sym", Node::Symlink { target: b"../\xfd" }), b""),
            (e(b"d/symlong", Node::Symlink { target: &self.long_target }), b""),
            (e(b"d/chr", Node::CharDevice { rdev: rustix::fs::makedev(5, 300) }), b""),
            (e(b"d/blk", Node::BlockDevice { rdev: rustix::fs::makedev(259, 1) }), b""),
            (e(b"d/fifo", Node::Fifo), b""),
            (Entry { mtime: (1_400_000_000, 123_456_789), ..e(b"d/nano", Node::File { size: 0 }) }, b""),
            (Entry { mtime: (-2, 750_000_000), ..e(b"d/old", Node::File { size: 0 }) }, b""),
            (Entry { uid: 3_000_000, gid: 4_294_967_294, ..e(b"d/far", Node::File { size: 0 }) }, b""),
            (Entry { xattrs: &self.xattrs, ..e(b"d/attr", Node::File { size: 513 }) }, &[7; 513]),
            (e(b"d/.wh.gone", Node::File { size: 0 }), b""),
            (e(b"d/new\nline", Node::File { size: 0 }), b""),
        ]
    }
}

struct Contents(BTreeMap<Vec<u8>, &'static [u8]>);

impl Payloads for Contents {
    fn open(&self, name: &[u8]) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0[name]))
    }
}

#[test]
fn one_pass_gives_tar_and_tar_split() {
    let sample = Sample::new();
    let mut w = TarWriter::recording(Vec::new(), Packer::new(Vec::new()));
    for (e, content) in sample.entries() {
        w.append(&e, &mut &content[..]).unwrap();
    }
    let (bytes, packed) = w.finish().unwrap();
    let packed = packed.unwrap();
    assert!(bytes == tar(&sample.entries()), "recording changes nothing, and twice is the same");
    let mut other = Packer::new(Vec::new());
    disassemble(&bytes[..], &mut other, &mut io::sink()).unwrap();
    assert!(packed == other.finish().unwrap(), "the same as from the finished tar");
    let contents = Contents(sample.entries().iter().map(|(e, c)| (e.name.to_vec(), *c)).collect());
    let mut again = Vec::new();
    reassemble(Reader::new(&packed[..], 1 << 20), &contents, &mut again).unwrap();
    assert!(again == bytes);
    let names: Vec<Vec<u8>> = Reader::new(&packed[..], 1 << 20)
        .filter_map(|p| if let Ok(Piece::File { name, .. }) = p { Some(name) } else { None })
        .collect();
    let given: Vec<Vec<u8>> =
        sample.entries().iter().map(|(e, _)| if e.node == DIR { b"d/".to_vec() } else { e.name.to_vec() }).collect();
    assert_eq!(names, given);
}

/// What a reader of the sample must see, one line an entry: type, mode, owner, time, size, device, name, target, attributes in hex.
fn lines(entries: &[(Entry<'_>, &[u8])]) -> String {
    let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut out = String::new();
    for (e, content) in entries {
        let (kind, link, dev) = match e.node {
            Node::File { .. } => (0, &b""[..], 0),
            Node::HardLink { first } => (1, first, 0),
            Node::Symlink { target } => (2, target, 0),
            Node::CharDevice { rdev } => (3, &b""[..], rdev),
            Node::BlockDevice { rdev } => (4, &b""[..], rdev),
            Node::Directory => (5, &b""[..], 0),
            Node::Fifo => (6, &b""[..], 0),
        };
        let nanos = i128::from(e.mtime.0) * 1_000_000_000 + i128::from(e.mtime.1);
        let mut attrs: Vec<String> = e.xattrs.iter().map(|(n, v)| format!("{}={}", hex(n), hex(v))).collect();
        attrs.sort();
        let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
        out.push_str(&format!(
            "{kind} {:o} {}:{} {nanos} {major}:{minor} {} {} {} {}\n",
            e.mode,
            e.uid,
            e.gid,
            hex(e.name),
            hex(link),
            hex(content),
            attrs.join(",")
        ));
    }
    out
}

#[test]
fn python_reads_every_byte() {
    let Some(python) = python() else { return };
    let sample = Sample::new();
    let script = "import tarfile,sys,io,decimal
t = tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()), errors='surrogateescape', encoding='utf-8')
h = lambda s: s.encode('utf-8', 'surrogateescape').hex()
P = 'SCHILY.xattr.'
for m in t:
    ns = int(decimal.Decimal(m.pax_headers.get('mtime', int(m.mtime))) * 10**9)
    body = t.extractfile(m).read().hex() if m.isreg() else ''
    a = sorted(h(k[len(P):]) + '=' + h(v) for k, v in m.pax_headers.items() if k.startswith(P))
    dev = (m.devmajor, m.devminor)
    print(m.type.decode(), '%o' % m.mode, '%d:%d' % (m.uid, m.gid), ns, '%d:%d' % dev, h(m.name), h(m.linkname), body, ','.join(a))
";
    let seen = String::from_utf8(python(script, &tar(&sample.entries()))).unwrap();
    assert_eq!(seen, lines(&sample.entries()));
}

#[test]
fn gnu_tar_unpacks_every_byte() {
    use std::os::unix::ffi::OsStrExt;
    let Some(tar_program) = super::tests_support::gnu_tar() else { return };
    let sample = Sample::new();
    let bytes = tar(&sample.entries());
    for locale in ["C", "C.UTF-8"] {
        let to = tempfile::tempdir().unwrap();
        // nodes need root; names and contents do not
        let mut child = Command::new(tar_program)
            .args(["-x", "--no-same-owner", "--exclude=d/chr", "--exclude=d/blk", "--no-same-permissions", "-C"])
            .arg(to.path())
            .env("LC_ALL", locale)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        // a time before 1970 is remarked on and still set
        let remarks: Vec<&str> = said.lines().filter(|l| !l.contains("implausibly old time stamp")).collect();
        assert!(done.status.success() && remarks.is_empty(), "{locale}: {said}");
        for (e, content) in sample.entries() {
            let path = to.path().join(std::ffi::OsStr::from_bytes(e.name));
            match e.node {
                Node::File { .. } => {
                    assert!(std::fs::read(&path).unwrap() == content, "{path:?}");
                    let m = std::fs::metadata(&path).unwrap();
                    use std::os::unix::fs::MetadataExt;
                    assert_eq!((m.mtime(), m.mtime_nsec() as u32), e.mtime, "{path:?}");
                }
                Node::Symlink { target } => {
                    assert_eq!(std::fs::read_link(&path).unwrap().as_os_str().as_bytes(), target);
                }
                Node::HardLink { first } => {
                    let first = to.path().join(std::ffi::OsStr::from_bytes(first));
                    assert!(std::fs::read(&path).unwrap() == std::fs::read(first).unwrap());
                }
                _ => {}
            }
        }
    }
}

#[test]
#[ignore = "compiles Go's archive/tar, which takes half a minute"]
fn go_reads_every_byte() {
    let Some(go) = super::tests_support::program("go", &["version"]) else { return };
    let sample = Sample::new();
    let script = r#"package main
import ("archive/tar"; "fmt"; "io"; "os"; "sort"; "strings")
func main() {
	t := tar.NewReader(os.Stdin)
	for {
		h, err := t.Next()
		if err == io.EOF { return }
		if err != nil { panic(err) }
		body, err := io.ReadAll(t)
		if err != nil { panic(err) }
		var a []string
		for k, v := range h.PAXRecords {
			if n := strings.TrimPrefix(k, "SCHILY.xattr."); n != k { a = append(a, fmt.Sprintf("%x=%x", n, v)) }
		}
		sort.Strings(a)
		name := h.Name
		if h.Typeflag == tar.TypeDir { name = strings.TrimSuffix(name, "/") }
		ns := fmt.Sprintf("%d%09d", h.ModTime.Unix(), h.ModTime.Nanosecond())
		if h.ModTime.Unix() < 0 { ns = fmt.Sprint(h.ModTime.UnixNano()) }
		fmt.Printf("%c %o %d:%d %s %d:%d %x %x %x %s\n", h.Typeflag, h.Mode, h.Uid, h.Gid, ns,
			h.Devmajor, h.Devminor, name, h.Linkname, body, strings.Join(a, ","))
	}
}
"#;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("read.go");
    std::fs::write(&file, script).unwrap();
    let seen = super::tests_support::run(
        Command::new(go)
            .arg("run")
            .arg(&file)
            .env("GOCACHE", dir.path())
            .env("GOFLAGS", "-mod=mod")
            .env("GO111MODULE", "off"),
        &tar(&sample.entries()),
    );
    assert_eq!(String::from_utf8(seen).unwrap(), lines(&sample.entries()));
}
