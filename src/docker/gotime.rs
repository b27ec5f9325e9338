//! `created` as Go's `time.Time` reads and prints it (FORMATS 8.3).

use crate::error::{Error, Result};

/// A time in the spelling in which Go prints it: RFC 3339, no trailing zeros in the fraction, `Z` for an offset of zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created(String);

impl Default for Created {
    /// Go's zero time.
    fn default() -> Created {
        Created("0001-01-01T00:00:00Z".to_owned())
    }
}

impl Created {
    /// The text to print.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads what Go 1.5 read with the layout `2006-01-02T15:04:05Z07:00`, where an hour of one digit is accepted too.
    pub fn parse(text: &str) -> Result<Created> {
        reprint(text).map(Created).ok_or_else(|| {
            Error::corrupt(format!("{:?} isn't an RFC 3339 time", text.chars().take(60).collect::<String>()))
        })
    }
}

/// Does any Docker read this time? Go 1.17 and later take a comma for the point, and cut a fraction after nine digits.
pub fn is_read(text: &str) -> bool {
    const SECONDS: usize = 19;
    let (time, rest) = text.split_at_checked(SECONDS).unwrap_or((text, ""));
    let Some(fraction) = rest.strip_prefix(['.', ',']) else { return reprint(text).is_some() };
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, zone) = fraction.split_at(digits);
    let digits = digits.get(..9).unwrap_or(digits);
    reprint(&format!("{time}.{digits}{zone}")).is_some()
}

fn reprint(text: &str) -> Option<String> {
    let mut rest = text;
    let year = number(&mut rest, 4)?;
    let month = number(skip(&mut rest, "-")?, 2)?;
    let day = number(skip(&mut rest, "-")?, 2)?;
    let hour_digits = if skip(&mut rest, "T")?.as_bytes().get(1)?.is_ascii_digit() { 2 } else { 1 };
    let hour = number(&mut rest, hour_digits)?;
    let minute = number(skip(&mut rest, ":")?, 2)?;
    let second = number(skip(&mut rest, ":")?, 2)?;
    let days = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut out = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if skip(&mut rest, ".").is_some() {
        let len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let nanos = number(&mut rest, len).filter(|n| *n < 1_000_000_000)?;
        // beyond nine digits Go takes the number unchanged; that needs leading zeros to be small enough
        let fraction = if len < 9 { format!("{nanos:0len$}") } else { format!("{nanos:09}") };
        let fraction = fraction.trim_end_matches('0');
        if !fraction.is_empty() {
            out.push('.');
            out.push_str(fraction);
        }
    }
    out.push_str(&zone(rest)?);
    Some(out)
}

fn zone(text: &str) -> Option<String> {
    if text == "Z" {
        return Some("Z".to_owned());
    }
    let mut rest = text;
    let sign = if skip(&mut rest, "+").is_some() { '+' } else { skip(&mut rest, "-").map(|_| '-')? };
    let hours = number(&mut rest, 2)?;
    let minutes = number(skip(&mut rest, ":")?, 2)?;
    match (hours, minutes) {
        _ if !rest.is_empty() || hours > 23 || minutes > 59 => None,
        (0, 0) => Some("Z".to_owned()),
        _ => Some(format!("{sign}{hours:02}:{minutes:02}")),
    }
}

/// Takes `digits` digits off the front.
fn number(rest: &mut &str, digits: usize) -> Option<u64> {
    let (head, tail) = rest.split_at_checked(digits)?;
    if head.is_empty() || !head.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    *rest = tail;
    head.parse().ok()
}

/// Takes a literal off the front.
fn skip<'r, 't>(rest: &'r mut &'t str, literal: &str) -> Option<&'r mut &'t str> {
    *rest = rest.strip_prefix(literal)?;
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_reprinted_as_in_go() {
        for (text, want) in [
            ("2015-10-31T22:22:54.690851953Z", "2015-10-31T22:22:54.690851953Z"),
            ("2015-10-31T22:22:54.120000000Z", "2015-10-31T22:22:54.12Z"),
            ("2015-10-31T22:22:54.000Z", "2015-10-31T22:22:54Z"),
            ("2015-10-31T22:22:54+00:00", "2015-10-31T22:22:54Z"),
            ("2015-10-31T22:22:54-00:00", "2015-10-31T22:22:54Z"),
            ("2015-10-31T22:22:54.5-07:30", "2015-10-31T22:22:54.5-07:30"),
            ("2015-10-31T2:22:54Z", "2015-10-31T02:22:54Z"),
            ("2016-02-29T00:00:00Z", "2016-02-29T00:00:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("2015-10-31T22:22:54.0000000001Z", "2015-10-31T22:22:54.000000001Z"),
        ] {
            assert_eq!(Created::parse(text).expect(text).as_str(), want);
        }
    }

    #[test]
    fn what_some_docker_reads_is_read() {
        for (text, read) in [
            ("2015-10-31T22:22:54Z", true),
            ("2015-10-31T22:22:54.5+02:00", true),
            ("2015-10-31T22:22:54,5Z", true),
            ("2015-10-31T22:22:54.12345678901234Z", true),
            ("0001-01-01T00:00:00Z", true),
            ("2015-10-31T2:22:54Z", true),
            ("2015-10-31T22:22:54.Z", false),
            ("2015-10-31T22:22:54,Z", false),
            ("2015-10-31 22:22:54", false),
            ("2015-10-31T22:22:5é", false),
            ("1446330174", false),
            ("", false),
        ] {
            assert_eq!(is_read(text), read, "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for bad in [
            "",
            "2015",
            "2015-10-31",
            "2015-10-31T22:22:54",
            "2015-10-31 22:22:54Z",
            "2015-13-01T00:00:00Z",
            "2015-02-29T00:00:00Z",
            "2015-00-10T00:00:00Z",
            "2015-01-00T00:00:00Z",
            "2015-01-01T24:00:00Z",
            "2015-01-01T00:60:00Z",
            "2015-01-01T00:00:00.Z",
            "2015-01-01T00:00:00.1234567891Z",
            "2015-01-01T00:00:00Zx",
            "2015-01-01T00:00:00+0100",
            "2015-01-01T00:00:00+24:00",
            "+015-01-01T00:00:00Z",
            "2015-01-01T00:00:00é",
            "２015-01-01T00:00:00Z",
            "2015-01-01T",
            "2015-01-01T00:00:00.99999999999999999999999999999Z",
        ] {
            assert!(Created::parse(bad).is_err(), "{bad}");
        }
    }
}
