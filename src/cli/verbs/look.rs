//! Verbs that only look: `inspect`, `plan`, `report merge`, `status`, `explain`.

use super::{Roots, fitted, load, root, say, say_json, tell};
use crate::checks;
use crate::cli::args::{Global, MigrateArgs, PlanArgs, What};
use crate::cli::output::Output;
use crate::cli::{Done, Ending, saved, screen};
use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use crate::plan::{Plan, make};
use crate::report;
use crate::run::identity::{self, Known};
use crate::run::journal::State;
use crate::run::states::Standing;
use std::path::{Path, PathBuf};

/// `unaufs inspect`.
pub fn inspect(g: &Global) -> Done {
    let root = root(g)?;
    let (store, findings) = crate::store::open(&root)?;
    let doc = report::inspect::Inspection::of(&root, &store, findings)?;
    let fold = if g.verbose > 0 { usize::MAX } else { report::inspect::FOLD };
    tell(g, &doc, || doc.text(screen::look(g), fold))?;
    Ok(Ending::Fine)
}

/// Where a plan goes besides stdout.
struct Outputs {
    saved: Option<Output>,
    page: Option<Output>,
}

impl Outputs {
    fn open(g: &Global, root: &Dir, saved: Option<&Path>, page: Option<&Path>) -> Result<Outputs> {
        let target = g.target.as_deref().and_then(|t| Dir::open_named(t).ok());
        let roots: Vec<&Dir> = std::iter::once(root).chain(&target).collect();
        Ok(Outputs { saved: Output::optional(saved, &roots)?, page: Output::optional(page, &roots)? })
    }
}

/// `unaufs plan`.
pub fn plan(g: &Global, a: &PlanArgs) -> Done {
    let root = root(g)?;
    let outputs = Outputs::open(g, &root, a.out.as_deref(), a.html.as_deref())?;
    let plan = fresh(g, &root, &a.what)?;
    let shown = Shown { targets: a.targets, saved: a.out.as_deref(), detailed: a.detailed_exitcode };
    show(g, &plan, outputs, &shown)
}

/// `unaufs migrate -n`: the plan, and nothing is locked or written. A saved plan is compared with the store as it is now.
pub fn dry_run(g: &Global, a: &MigrateArgs) -> Done {
    let root = root(g)?;
    let outputs = Outputs::open(g, &root, None, a.html.as_deref())?;
    let plan = match &a.plan {
        None => fresh(g, &root, &a.what)?,
        Some(file) => {
            let saved = saved::to_run(file)?;
            let progress = screen::progress(g);
            let fresh = make::make(&root, &saved.options, &make::Earlier::default(), &*progress)?;
            super::migrate::stale(&saved, &fresh)?;
            fresh
        }
    };
    show(g, &plan, outputs, &Shown { targets: false, saved: None, detailed: false })
}

fn fresh(g: &Global, root: &Dir, what: &What) -> Result<Plan> {
    let known = identity::look(root)?;
    if let Known::Run(run) = &known {
        run.supported()?;
    }
    let standing = Standing::of(root, None, &known)?;
    standing.can_plan()?;
    if let Some(State::Building | State::Built | State::Verified) = standing.state {
        let what = format!("a migration to {} is under way: `unaufs status` shows how to continue", standing.to);
        crate::cli::end::warn(&what);
    }
    let progress = screen::progress(g);
    let plan = make::make(root, &what.options(g.target.as_deref()), &make::Earlier::default(), &*progress)?;
    // what can't be read at this moment is no damage
    crate::error::check_disk(false)?;
    Ok(plan)
}

/// How a plan is shown.
struct Shown<'a> {
    targets: bool,
    /// The file that it is saved in.
    saved: Option<&'a Path>,
    /// Exit code 5 if there is work.
    detailed: bool,
}

fn show(g: &Global, plan: &Plan, outputs: Outputs, shown: &Shown<'_>) -> Done {
    let (targets, saved) = (shown.targets, shown.saved.map(|f| f.to_string_lossy()));
    let mut written = Ok(());
    if let Some(file) = outputs.saved {
        let text = serde_json::to_vec_pretty(plan);
        written = file.write(text.map_err(|e| Error::new(Kind::Failed, "write the plan").with_source(e)));
    }
    if let Some(file) = outputs.page {
        written = written.and(file.write(report::html::page(plan, None).map(String::into_bytes)));
    }
    let saved = saved.filter(|_| written.is_ok());
    if g.for_programs() {
        std::mem::replace(&mut written, Ok(()))?;
        say_json(&report::plan::document(plan)?)?;
    } else {
        let (usual, all) = (report::plan::Screen::of(screen::look(g)), g.verbose > 0);
        say(&report::plan::on_screen(plan, &report::plan::Screen { targets, all, saved: saved.as_deref(), ..usual }))?;
    }
    // the plan itself is worth showing
    written?;
    Ok(match (checks::plan_is_blocked(&plan.checks), shown.detailed) {
        (true, _) => Ending::Code(Kind::Blocked),
        (false, true) => Ending::Code(Kind::WorkToDo),
        (false, false) => Ending::Fine,
    })
}

/// `unaufs report merge`.
pub fn merge_reports(g: &Global, files: &[PathBuf], html: Option<&Path>) -> Done {
    let page = Output::optional(html, &[])?;
    let plans = files.iter().map(|f| load(f)).collect::<Result<Vec<_>>>()?;
    let fleet = report::fleet::Fleet::of(&plans);
    let written = page.map_or(Ok(()), |page| page.write(fleet.html().map(String::into_bytes)));
    tell(g, &fleet, || fleet.text(screen::look(g)))?;
    written.map(|()| Ending::Fine)
}

/// `unaufs status`.
pub fn status(g: &Global) -> Done {
    let roots = Roots::of(g)?;
    let mut standing = roots.standing()?;
    if let Some(new) = &roots.new {
        standing.look_closer(new, &roots.known)?;
    }
    let built = roots.new.as_ref().and_then(|root| built(root, &roots.known));
    let shown = match (roots.new, roots.old) {
        (Some(new), _) if !matches!(roots.known, Known::Nothing) => new,
        (_, Some(old)) => old,
        (_, None) => root(g)?,
    };
    let doc = report::status::Status::of(&shown, g.target.as_deref(), (&roots.known, built), &standing)?;
    tell(g, &doc, || fitted(g, &doc.text(), 13))?;
    Ok(Ending::Fine)
}

/// How many layers a run that is building has built. Without its journal nobody knows.
fn built(root: &Dir, known: &Known) -> Option<usize> {
    let Known::Run(run) = known else { return None };
    let journal = super::journal(root).ok().flatten().filter(|_| run.state == State::Building)?;
    journal.tallies(run.id, "layer").ok().map(|done| done.len())
}

/// `unaufs explain`: one check, or the list of all.
pub fn explain(g: &Global, id: Option<&str>) -> Done {
    let look = screen::look(g);
    let Some(id) = id else {
        tell(g, &report::explain::all_json(), || report::explain::all(look))?;
        return Ok(Ending::Fine);
    };
    let Some(check) = checks::explain(id) else {
        return Err(Error::new(Kind::Usage, format!("there is no check {}", crate::text::text(id)))
            .hint("List all checks with: unaufs explain"));
    };
    tell(g, &report::explain::json(check), || report::explain::text(check, look))?;
    Ok(Ending::Fine)
}
