//! The pages, in a browser: each section is there, nothing is loaded, nothing complains, nothing is wider than the screen.
//!
//! `UNAUFS_PICTURES=DIR` keeps the pages and a picture of each.

mod browser;
mod synthetic;

use crate::support::needs;
use crate::support::real;
use browser::Browser;
use std::fs;
use std::path::{Path, PathBuf};
use unaufs::plan::Plan;

const SECTIONS: [&str; 9] =
    ["verdict", "problems", "space", "images", "layers", "containers", "way-back", "commands", "plan-json"];

/// A record doesn't compare the drivers that were not chosen.
fn without_drivers() -> Vec<&'static str> {
    SECTIONS.into_iter().filter(|s| *s != "space").collect()
}

fn plan_of(store: &real::Store) -> Plan {
    let text = store.unaufs(&["plan", "--json", "--progress", "none"]).stdout;
    serde_json::from_str(&text).expect("a plan")
}

/// Opens a page in both widths and both schemes; in the short run on a telephone in the dark and on a wide screen in the light.
fn looks_right(name: &str, html: &str, sections: &[&str]) {
    let dir = tempfile::tempdir().expect("a folder");
    let kept = std::env::var_os("UNAUFS_PICTURES").map(PathBuf::from);
    let at: &Path = kept.as_deref().unwrap_or(dir.path());
    let file = at.join(format!("{name}.html"));
    fs::write(&file, html).expect("a page");
    let mut browser = Browser::start();
    let screens = [(390, true), (1400, false), (390, false), (1400, true)];
    for (width, dark) in screens.into_iter().take(if needs::long() || kept.is_some() { 4 } else { 2 }) {
        browser.open(&file, width, dark);
        let what = format!("{name} at {width}{}", if dark { ", dark" } else { "" });
        for id in sections {
            let shown = browser.ask(&format!("document.getElementById('{id}') !== null"));
            assert_eq!(shown, true, "{what}: there is no {id}");
        }
        let wide = browser.ask(
            "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && !e.closest('svg') && \
             e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map(e => e.outerHTML.slice(0, 200))",
        );
        assert_eq!(wide, serde_json::json!([]), "{what}: wider than the screen");
        let page = browser.ask("[document.documentElement.scrollWidth, innerWidth]");
        assert!(page[0].as_u64() <= page[1].as_u64(), "{what}: {page}");
        let colour = browser.ask("getComputedStyle(document.body).backgroundColor");
        assert_eq!(colour == "rgb(255, 255, 255)", !dark, "{what}: {colour}");
        assert_eq!(browser.complaints, Vec::<String>::new(), "{what}");
        if kept.is_some() {
            let picture = browser.picture(None);
            let scheme = if dark { "dark" } else { "light" };
            fs::write(at.join(format!("{name}-{width}-{scheme}.png")), picture).expect("a picture");
        }
    }
    let paper = browser.print();
    assert!(paper.starts_with(b"%PDF"), "{name} cannot be printed");
    if kept.is_some() {
        fs::write(at.join(format!("{name}.pdf")), paper).expect("a file");
    }
}

/// The page with the path that a root usually has, for pictures that are shown elsewhere.
fn as_at_home(store: &real::Store, file: &Path) -> String {
    let (root, home) = (store.root.display().to_string(), "/var/lib/docker");
    let html = fs::read_to_string(file).expect("a page");
    html.replace(&format!(" --root {root}"), "").replace(&root, home)
}

fn able() -> bool {
    real::able() && needs::programs(&["chromium"])
}

#[test]
fn the_page_of_a_real_store() {
    if !able() {
        return;
    }
    let store = real::small().unpack();
    let file = store.beside.join("plan.html");
    store.unaufs(&["plan", "--html", file.to_str().expect("text"), "--progress", "none"]);
    let html = as_at_home(&store, &file);
    looks_right("plan", &html, &SECTIONS);
    assert!(html.contains("volumes, left in place"));
    let new = store.beside.join("new");
    let args = ["plan", "--target", new.to_str().expect("text"), "--progress", "none"];
    store.unaufs(&[&args[..], &["--html", file.to_str().expect("text")]].concat());
    let html = as_at_home(&store, &file);
    looks_right("elsewhere", &html, &[&SECTIONS[..], &["elsewhere"]].concat());
    assert!(html.contains("volumes, copied") && html.contains("aufs (layers of a storage driver)"));
}

#[test]
fn the_record_of_a_migration() {
    if !able() {
        return;
    }
    let store = real::small().unpack();
    let file = store.beside.join("record.html");
    store.unaufs(&["migrate", "--yes", "--html", file.to_str().expect("text"), "-q"]).exits(0);
    let html = as_at_home(&store, &file);
    looks_right("record", &html, &[without_drivers(), vec!["timeline", "compared"]].concat());
    assert!(html.contains(">at most<") && html.contains("new inodes"));
    let (_, next) = html.split_once("<section id=\"commands\">").expect("what to do next");
    let next = next.split_once("</section>").expect("its end").0;
    assert!(next.contains("unaufs verify") && next.contains("systemctl start docker"), "{next}");
    assert!(!next.contains("migrate"), "it is migrated:\n{next}");
}

#[test]
fn the_page_of_five_hundred_images() {
    if !able() {
        return;
    }
    let plan = synthetic::large(&plan_of(&real::small().unpack()));
    assert_eq!((plan.images.len(), plan.layers.len(), plan.summary.files), (500, 5000, 2_000_000));
    let html = unaufs::report::html::page(&plan, None).expect("a page");
    looks_right("large", &html, &[&SECTIONS[..], &["stays"]].concat());
    // 5,000 layers are data for the JSON, but not for the eye
    let (shown, data) = html.split_once("<script type=\"application/json\"").expect("the JSON");
    assert!(shown.len() < 1_500_000, "{} bytes besides the JSON", shown.len());
    assert!(data.len() > shown.len());
    let text = unaufs::report::plan::text(&plan, Default::default());
    assert!(text.lines().count() <= 45, "{text}");
    assert!(text.contains("(-v shows all)"), "{text}");
}

#[test]
fn the_page_of_many_hosts() {
    if !able() {
        return;
    }
    let sound = plan_of(&real::small().unpack());
    let mut plans = vec![sound.clone(), synthetic::large(&sound)];
    let mut ready = sound.clone();
    ready.checks.retain(|c| c.level == unaufs::checks::Level::Ok);
    for n in 0..24 {
        let mut p = if n % 3 == 0 { sound.clone() } else { ready.clone() };
        p.host.name = format!("web-{n:02}.example.org");
        if n % 4 == 0 {
            p.checks.push(unaufs::checks::Finding::new("C04", "container db (0123456789ab)", "a layer is missing"));
        }
        if n % 7 == 3 {
            p.checks.push(unaufs::checks::Finding::new("H07", "daemon.json", "it pins the driver aufs"));
        }
        plans.push(p);
    }
    let fleet = unaufs::report::fleet::Fleet::of(&plans);
    let html = fleet.html().expect("a page");
    looks_right("fleet", &html, &["verdict", "hosts", "fleet-json"]);
    let tags = ["tag bad\">BLOCKED<", "tag warn\">READY<", "tag good\">READY<"];
    let order: Vec<usize> = tags.iter().filter_map(|tag| html.rfind(tag)).collect();
    assert_eq!(order.len(), 3);
    assert!(order.windows(2).all(|w| w[0] < w[1]), "red first: {order:?}");
}
