//! How names and numbers are shown to people. Names come from images of strangers: control characters and escape sequences
//! in them must not reach a terminal.

use std::path::Path;

/// A path for one line of a report: control characters, bytes that are not UTF-8 and backslashes are escaped.
pub fn path(p: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    bytes(p.as_os_str().as_bytes())
}

/// Bytes for one line of a report.
pub fn bytes(b: &[u8]) -> String {
    let mut out = String::with_capacity(b.len());
    for chunk in b.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if harmful(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

/// Control characters, and the Unicode controls that turn the direction of text around or end a line.
fn harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A sentence for one line of a report, with whatever names and words of others are in it: only what would harm is escaped, so that a name
/// in it that was escaped before stays unchanged.
pub fn sentence(s: impl Into<String>) -> String {
    let s = s.into();
    if !s.contains(harmful) {
        return s;
    }
    let mut out = String::with_capacity(s.len() + 8);
    for c in s.chars() {
        if harmful(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// JSON text, on its way to what may be a terminal: the same values, with what a terminal would obey written as JSON's own escapes. Only
/// strings can hold such characters, but for the ends of lines between values.
pub fn json(text: String) -> String {
    use std::fmt::Write;
    let bad = |c: char| harmful(c) && c != '\n';
    if !text.contains(bad) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            // all of them have four digits; writing into a String cannot fail
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// A text from the store (a container's name, an image's tag) for one line of a report.
pub fn text(s: &str) -> String {
    bytes(s.as_bytes())
}

/// Bytes as people read them: `18.4 GiB`.
pub fn size(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut v = n as f64 / 1024.0;
    let mut unit = 0;
    while v >= 1024.0 && unit + 1 < UNITS.len() {
        v /= 1024.0;
        unit += 1;
    }
    format!("{v:.1} {}", UNITS[unit])
}

/// A count in groups: `612,340`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `1 layer`, `2 layers`, `2 directories`.
pub fn plural(n: impl TryInto<u64>, noun: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    if let Some((one, other)) = noun.split_once(" or ").filter(|_| n != 1) {
        return format!("{} or {other}s", plural(n, one));
    }
    match noun.strip_suffix("ry") {
        _ if n == 1 => format!("{n} {noun}"),
        Some(stem) => format!("{} {stem}ries", count(n)),
        None => format!("{} {noun}s", count(n)),
    }
}

/// The first names of a list that has so many: `a, b and 3 more`.
pub fn few(first: impl IntoIterator<Item = String>, all: usize) -> String {
    let first: Vec<String> = first.into_iter().collect();
    match all.saturating_sub(first.len()) {
        0 => first.join(", "),
        more => format!("{} and {} more", first.join(", "), count(more as u64)),
    }
}

/// With the ids of 64 digits as Docker's commands print them, by their first 12.
pub fn short_ids(s: &str) -> String {
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    let (mut out, mut rest) = (String::with_capacity(s.len()), s);
    while let Some(at) = rest.find(is_digit) {
        let (before, from) = rest.split_at(at);
        let (digits, after) = from.split_at(from.find(|c| !is_digit(c)).unwrap_or(from.len()));
        out.push_str(before);
        out.push_str(if digits.len() == 64 { &digits[..12] } else { digits });
        rest = after;
    }
    out + rest
}

/// The fix of a check as a sentence of its own. A command stays as it is, so that it can be pasted.
pub fn advice(fix: &str) -> String {
    match command_in(fix) {
        Some(("", command)) => command.to_owned(),
        None if !fix.ends_with('.') => format!("{}.", capital(fix)),
        _ => capital(fix),
    }
}

/// The command in a fix, and what is said before it: `chattr -ia FILE`, `set the clock: timedatectl set-ntp true`.
pub fn command_in(fix: &str) -> Option<(&str, &str)> {
    const PROGRAMS: [&str; 9] =
        ["chattr", "docker", "mkdir", "modprobe", "mount", "systemctl", "timedatectl", "umount", "unaufs"];
    let is_command = |s: &str| s.split(' ').next().is_some_and(|first| PROGRAMS.contains(&first));
    match fix.rsplit_once(": ") {
        _ if is_command(fix) => Some(("", fix)),
        Some((before, typed)) if is_command(typed) => Some((before, typed)),
        _ => None,
    }
}

/// With a capital letter at the beginning.
pub fn capital(s: &str) -> String {
    let mut letters = s.chars();
    letters.next().map(|c| c.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Seconds as people say them: `2 seconds`, `5 minutes`, `2 hours`; rounded up.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => plural(seconds as usize, "second"),
        120..7200 => plural(seconds.div_ceil(60) as usize, "minute"),
        _ => plural(seconds.div_ceil(3600) as usize, "hour"),
    }
}

/// A time of a file, in seconds and nanoseconds since 1970: RFC 3339 in UTC.
pub fn time((seconds, nanoseconds): (i64, u32)) -> String {
    let Ok(time) = jiff::Timestamp::new(seconds, nanoseconds.cast_signed()) else {
        // beyond the years that RFC 3339 knows
        return format!("{seconds} seconds after 1970");
    };
    let form = if nanoseconds == 0 { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S.%9fZ" };
    time.strftime(form).to_string()
}

/// The time, RFC 3339 in UTC.
pub fn now() -> String {
    // a clock may be beyond the year 9999
    let now = jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(jiff::Timestamp::MAX);
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_harmless() {
        for (raw, shown) in [
            (&b"plain"[..], "plain"),
            (b"\x1b[31mred", "\\u{1b}[31mred"),
            (b"a\nb", "a\\u{a}b"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("ü日本".as_bytes(), "ü日本"),
            (b"back\\slash", "back\\\\slash"),
        ] {
            assert_eq!(bytes(raw), shown);
            assert_eq!(sentence(shown), shown, "once is enough");
        }
        assert_eq!(sentence("a\u{1b}[2J\n\u{202e}b\\"), "a\\u{1b}[2J\\u{a}\\u{202e}b\\");
    }

    #[test]
    fn json_is_the_same_json() {
        let value = serde_json::json!({"a\u{9b}2J": "\u{1b}\u{7f}\u{85}\u{202e}\u{2028}x\n\\", "b": "ü日本"});
        let text = json(serde_json::to_string_pretty(&value).expect("JSON"));
        assert!(!text.contains(|c: char| harmful(c) && c != '\n'), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
        assert!(text.contains("ü日本"));
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 30), "5.0 GiB");
        assert_eq!([1, 90, 121, 9000].map(duration), ["1 second", "90 seconds", "3 minutes", "3 hours"]);
        assert_eq!(count(612340), "612,340");
        let times = [time((1, 0)), time((-1, 830_000_000)), time((i64::MAX, 0))];
        let far = format!("{} seconds after 1970", i64::MAX);
        assert_eq!(times, ["1970-01-01T00:00:01Z", "1969-12-31T23:59:59.830000000Z", &far]);
        let (id, digest) = ("0123456789ab".repeat(6)[..64].to_owned(), "f".repeat(65));
        let path = format!("aufs/diff/{id}-removing: sha256:{id} {digest} beef");
        assert_eq!(short_ids(&path), format!("aufs/diff/0123456789ab-removing: sha256:0123456789ab {digest} beef"));
        let fixes = ["chattr -ia /x", "fix the file", "set the clock: timedatectl set-ntp true"].map(advice);
        assert_eq!(fixes, ["chattr -ia /x", "Fix the file.", "Set the clock: timedatectl set-ntp true"]);
        assert_eq!(count(12), "12");
        assert_eq!([1, 14].map(|n: u64| plural(n, "tag or digest")), ["1 tag or digest", "14 tags or digests"]);
        assert_eq!(command_in("set the clock: timedatectl x"), Some(("set the clock", "timedatectl x")));
        assert_eq!((command_in("umount /x"), command_in("free some space")), (Some(("", "umount /x")), None));
        let words = [plural(1, "directory"), plural(2000, "directory"), plural(0, "layer")];
        assert_eq!(words, ["1 directory", "2,000 directories", "0 layers"]);
        let names = |n: usize| ["a", "b"].into_iter().take(n).map(str::to_owned);
        assert_eq!([few(names(2), 2), few(names(2), 5), few(names(1), 2)], ["a, b", "a, b and 3 more", "a and 1 more"]);
    }
}
