//! /proc/PID/mountinfo: what is read of a line, written again as the kernel writes it, is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::os::unix::ffi::OsStrExt;
use unaufs::disk::mounts::parse;

/// As seq_escape() of the kernel; a field that is a dash alone would be taken for the separator.
fn escaped(field: &[u8]) -> Vec<u8> {
    let octal = |c: u8| format!("\\{c:03o}").into_bytes();
    if field == b"-" {
        return octal(b'-');
    }
    field.iter().flat_map(|c| if b" \t\n\\".contains(c) { octal(*c) } else { vec![*c] }).collect()
}

fuzz_target!(|text: &[u8]| {
    let mounts = parse(text);
    assert!(mounts.len() <= text.split(|c| *c == b'\n').count());
    for m in &mounts {
        let mut line = b"25 1 8:1 / ".to_vec();
        for (field, end) in [(m.point.as_os_str().as_bytes(), &b" "[..]), (m.options.as_bytes(), b" - ")] {
            line.extend(escaped(field));
            line.extend(end);
        }
        for field in [&m.fstype, &m.source, &m.super_options] {
            line.extend(escaped(field.as_bytes()));
            line.push(b' ');
        }
        let again = parse(&line);
        assert_eq!(again, [m.clone()], "{}", line.escape_ascii());
    }
});
