//! `unaufs demo`: the whole way on a small store of its own, in a temporary directory.

use super::{fitted, say, say_json};
use crate::checks::plan_is_blocked;
use crate::cli::args::{DemoArgs, Global};
use crate::cli::{Done, Ending, screen};
use crate::demo::{self, Sample};
use crate::disk::Dir;
use crate::docker::driver::Target;
use crate::docker::driver::stack::Theirs;
use crate::error::{Error, Kind, Result};
use crate::plan::stack::Part;
use crate::plan::switch::OLD;
use crate::plan::{Mode, Options, Plan, make};
use crate::progress::Hidden;
use crate::report::demo::{Document, heading};
use crate::report::page::{Look, Page};
use crate::report::plan::Screen;
use crate::report::{self, verify};
use crate::run::identity::Known;
use crate::run::{self, How, Lock, Locked};
use crate::verify::{Case, Level, Subject};
use std::collections::{BTreeMap, BTreeSet};

/// What of the old store is shown again after the switch.
type Before = (Vec<String>, Sample);

/// `unaufs demo`.
pub fn demo(g: &Global, a: &DemoArgs) -> Done {
    let directory = tempfile::Builder::new()
        .prefix("unaufs-demo.")
        .tempdir()
        .map_err(|e| Error::io("make a temporary directory", e))?;
    let root = Dir::open_named(directory.path())?.ensure("docker", 0o711)?;
    let sample = demo::make_store(&root)?;
    let (mut plan, why) = choose(&root, a.to)?;
    let guide = Guide { quiet: g.for_programs(), look: screen::look(g) };
    guide.opening(&root, &plan, why.as_deref())?;
    // the directory is gone before anybody can type what comes next
    let shown = Screen { next: false, ..Screen::of(guide.look) };
    guide.show("$ unaufs plan", &report::plan::on_screen(&plan, &shown))?;
    let sources = plan.sources();
    let before = demo::shown(&demo::step(&plan, &sample.container)?.old_stack(&root, &sources)?)?;

    let lock = Lock::take(&root, false)?;
    let mut locked = Locked::open(root.again()?, root.again()?, lock, &Known::Nothing)?;
    let how = How { verify: Some(Level::Fast), keep_going: false, no_switch: false, prepare: false };
    let outcome = run::migrate(&mut locked, &mut plan, None, how, &Hidden)?;
    let summary = report::migrate::Summary {
        schema: "unaufs.migrate/1",
        driver: plan.options.to,
        outcome: &outcome,
        failed: &BTreeMap::new(),
        left_behind: &plan.left_behind,
        damage: &plan.damage,
        compared: None,
    };
    guide.show("$ unaufs migrate", &fitted(g, &report::migrate::text(&summary, &plan), 9))?;
    let (old, proved, switched) = (root.open(OLD)?, BTreeSet::new(), crate::verify::since::reference(&root)?);
    let case = Case { plan: &plan, old: &old, new: &root, part: Part::All, proved: &proved, switched };
    let proof = crate::verify::judge(&Subject::Migrated(case), Level::Full, &Hidden)?;
    let doc = verify::Document::of(&proof, Level::Full, verify::When::Alone, "");
    guide.show("$ unaufs verify", &fitted(g, &doc.text(), 9))?;

    let doc = compare(&root, &plan, (before, sample), why, &proof)?;
    if guide.quiet {
        say_json(&doc)?;
    } else {
        say(&doc.text(guide.look))?;
        say("\nThe demo deletes its directory now. On a real host, start with: unaufs plan")?;
    }
    Ok(if doc.good() { Ending::Fine } else { Ending::Code(Kind::Difference) })
}

/// overlay2, if this process can make one here; else vfs, which is plain files, and why.
fn choose(root: &Dir, to: Option<Target>) -> Result<(Plan, Option<String>)> {
    let make = |to: Target, allow: &[&str]| {
        let allow = allow.iter().map(|id| (*id).to_owned()).collect();
        let (only, exclude) = (Vec::new(), Vec::new());
        let options = Options { to, mode: Mode::Auto, target: None, only, exclude, allow, docker_config: None };
        make::make(root, &options, &make::Earlier::default(), &Hidden)
    };
    let plan = make(to.unwrap_or(Target::Overlay2), &[])?;
    if !plan_is_blocked(&plan.checks) {
        return Ok((plan, None));
    }
    let block = plan.checks.iter().find(|c| c.level == crate::checks::Level::Block);
    let why = block.map(|c| format!("{}, {}: {}", c.id, c.subject, c.message)).unwrap_or_default();
    if to.is_some_and(|t| t != Target::Vfs) {
        return Err(Error::new(Kind::Blocked, why).hint("Without root this works: unaufs demo --to vfs"));
    }
    // the sample's files are all the caller's own: capabilities are not needed for them
    Ok((make(Target::Vfs, &["H03"])?, Some(why)))
}

fn compare(
    root: &Dir,
    plan: &Plan,
    (before, sample): Before,
    why: Option<String>,
    proof: &crate::verify::Report,
) -> Result<Document> {
    let to = plan.options.to;
    let theirs = Theirs { at: root, ids: Default::default() };
    let mut marks = Vec::new();
    for (name, id) in &sample.layers {
        let old = root.open(format!("{OLD}/aufs/diff/{id}"))?;
        marks.extend(demo::marks(name, &old, &to.view(root, demo::step(plan, id)?, &theirs)?)?);
    }
    let after = demo::shown(&to.view(root, demo::step(plan, &sample.container)?, &theirs)?)?;
    Ok(Document {
        schema: "unaufs.demo/1",
        driver: to,
        why,
        marks,
        before,
        after,
        differences: proof.differences.len(),
        digests: proof.digests,
    })
}

/// Says what happens, unless one JSON document is wanted.
struct Guide {
    quiet: bool,
    look: Look,
}

impl Guide {
    fn opening(&self, root: &Dir, plan: &Plan, why: Option<&str>) -> Result<()> {
        if self.quiet {
            return Ok(());
        }
        let mut page = Page::new(self.look);
        let plain = crate::report::page::Style::Plain;
        let at = crate::text::path(root.label());
        let because = why.map(|why| format!(" overlay2 isn't possible here ({why}).")).unwrap_or_default();
        let text = format!(
            "A Docker data root with the aufs driver, made in {at}: two images that share a layer, and a stopped container \"shop\" with data in its writable layer. The demo migrates it to {}. It changes nothing outside this temporary directory.{because}",
            plan.options.to
        );
        page.flow(0, &[(plain, &text)]);
        say(&page.finish())
    }

    fn show(&self, command: &str, text: &str) -> Result<()> {
        if self.quiet {
            return Ok(());
        }
        let mut page = Page::new(self.look);
        heading(&mut page, command);
        say(&format!("{}{text}", page.finish()))
    }
}
