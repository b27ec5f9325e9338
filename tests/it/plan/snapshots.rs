//! The text at two widths, with and without colours, and the shape of the JSON. What depends on the disk, the host and the clock is
//! replaced first.

use crate::support::real;
use serde_json::Value;
use unaufs::docker::driver::Target;
use unaufs::plan::{Mode, Plan};
use unaufs::report::page::Look;
use unaufs::report::plan::{Screen, document, on_screen, text};

fn steady(packed: &real::Packed) -> Plan {
    let said = packed.unpack().unaufs(&["plan", "--json", "-q"]).stdout;
    let mut p: Plan = serde_json::from_str(&said).expect("a plan");
    p.host.name = "host".to_owned();
    (p.host.kernel, p.host.machine) = ("6.1.0".to_owned(), "x86_64".to_owned());
    p.created = "2026-01-01T00:00:00Z".to_owned();
    p.docker.version = Some("28.5.2".to_owned());
    p.root.path = "/var/lib/docker".to_owned();
    p.root.fs = "ext4".to_owned();
    p.root.room.free_bytes = 41 << 30;
    p.root.room.total_bytes = 118 << 30;
    p.root.room.free_inodes = Some(1_000_000);
    // what the host of the test is like
    p.checks.retain(|c| !c.id.starts_with('H'));
    for (n, e) in p.estimates.iter_mut().enumerate() {
        let n = n as u64 + 1;
        e.possible = e.driver != Target::Btrfs && e.mode != Mode::Clone;
        (e.new_bytes, e.new_inodes) = (n * 70_000_000, n * 1234);
        (e.shared_bytes, e.written_bytes) = (n * 1_000_000, n * 9_000_000);
        (e.seconds_min, e.seconds_max) = (n * 3, n * 20);
        e.fits = e.possible;
        e.why_not = (!e.possible).then(|| "not on this disk".to_owned());
        e.chosen = e.driver == Target::Overlay2 && e.mode == Mode::Link;
    }
    for l in &mut p.layers {
        (l.facts.allocated, l.facts.dir_bytes, l.facts.state) = (4096, 4096, 0);
        (l.facts.changed, l.facts.listing) = (0, 0);
    }
    p.touched.clear();
    p.fingerprint = Default::default();
    p
}

/// Long lists by their first two entries.
fn cut(v: &mut Value) {
    match v {
        Value::Array(list) => {
            let n = list.len();
            if n > 3 {
                list.truncate(2);
                list.push(format!("... {n} in all").into());
            }
            list.iter_mut().for_each(cut);
        }
        Value::Object(fields) => fields.values_mut().for_each(cut),
        _ => {}
    }
}

#[test]
fn of_real_stores() {
    if !real::able() {
        return;
    }
    for packed in [real::small(), real::graph()] {
        let p = steady(&packed);
        for width in [80, 120] {
            for colour in [false, true] {
                let shown = text(&p, Look { width, colour });
                let name = format!("{}-{width}{}", packed.name, if colour { "-colour" } else { "" });
                insta::assert_snapshot!(name.as_str(), shown);
                assert!(shown.lines().count() <= 45, "{name}");
                if !colour {
                    assert!(shown.lines().all(|l| l.chars().count() <= width), "{name}");
                } else {
                    // no meaning rests on colours
                    let plain: String = strip(&shown);
                    assert_eq!(plain, text(&p, Look { width, colour: false }), "{name}");
                }
            }
        }
        let mut doc = document(&p).expect("JSON");
        cut(&mut doc);
        insta::assert_snapshot!(format!("{}-json", packed.name), serde_json::to_string_pretty(&doc).expect("JSON"));
        let look = Look { width: 80, colour: false };
        let whole = on_screen(&p, &Screen { all: true, ..Screen::of(look) });
        assert!(whole.lines().count() >= text(&p, look).lines().count());
        assert!(whole.lines().all(|l| !l.contains('\u{1b}') && l.chars().count() <= 80), "{whole}");
    }
}

/// Without the sequences that colour.
fn strip(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, p| out + p.split_once('m').map_or(p, |(_, rest)| rest))
}
