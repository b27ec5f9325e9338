//! Verbs that only look: `inspect`, `plan`, `report merge`, `status`, `explain`.

use super::{Roots, folder_of, last_run, load, root, say, say_json, write_outside};
use crate::checks;
use crate::cli::args::{Global, PlanArgs};
use crate::cli::{Done, Ending, screen};
use crate::disk::Dir;
use crate::error::{Error, Kind, Result};
use crate::plan::{Plan, make};
use crate::report;
use std::path::{Path, PathBuf};

/// `unaufs inspect`.
pub fn inspect(g: &Global) -> Done {
    let root = root(g)?;
    let (store, findings) = crate::store::open(&root)?;
    let doc = report::inspect::Inspection::of(&root, &store, findings)?;
    if g.json || g.jsonl {
        say_json(&doc)?
    } else {
        let fold = if g.verbose > 0 { usize::MAX } else { report::inspect::FOLD };
        say(&doc.text(screen::look(g), fold))?
    }
    Ok(Ending::Fine)
}

/// `unaufs plan`.
pub fn plan(g: &Global, a: &PlanArgs) -> Done {
    let root = root(g)?;
    if let Some(run) = last_run(&root)? {
        run.supported()?;
    }
    let plan = {
        let progress = screen::progress(g);
        make::make(&root, &a.what.options(g.target.as_deref()), &make::Known::default(), &*progress)?
    };
    if let Some(file) = &a.out {
        save(&root, file, &plan)?;
    }
    if let Some(file) = &a.html {
        write_outside(&root, file, report::html::page(&plan, None)?.as_bytes())?;
    }
    let blocked = checks::plan_is_blocked(&plan.checks);
    let ending = match (blocked, a.detailed_exitcode) {
        (true, _) => Ending::Code(Kind::Blocked),
        (false, true) => Ending::Code(Kind::WorkToDo),
        (false, false) => Ending::Fine,
    };
    if g.json || g.jsonl {
        let code = match ending {
            Ending::Fine => 0,
            Ending::Code(kind) => kind.exit_code(),
        };
        say_json(&report::plan::document(&plan, code)?)?;
    } else if g.verbose > 0 {
        say(&report::plan::whole(&plan, screen::look(g)))?;
    } else {
        say(&report::plan::text(&plan, screen::look(g)))?;
    }
    Ok(ending)
}

/// `unaufs report merge`.
pub fn merge_reports(g: &Global, files: &[PathBuf], html: Option<&Path>) -> Done {
    let plans = files.iter().map(|f| load(f)).collect::<Result<Vec<_>>>()?;
    let fleet = report::fleet::Fleet::of(&plans);
    if let Some(file) = html {
        let (dir, name) = folder_of(file)?;
        // as all that was made of plans: names of hosts, paths and images are nobody else's business
        dir.write_atomic(&name, fleet.html()?.as_bytes(), 0o600)?;
    }
    if g.json || g.jsonl {
        say_json(&fleet)?
    } else {
        say(&fleet.text())?
    }
    Ok(Ending::Fine)
}

/// Saves a plan; never inside ROOT.
fn save(root: &Dir, file: &Path, plan: &Plan) -> Result<()> {
    let text =
        serde_json::to_vec_pretty(plan).map_err(|e| Error::new(Kind::Failed, "write the plan").with_source(e))?;
    write_outside(root, file, &text)
}

/// `unaufs status`.
pub fn status(g: &Global) -> Done {
    let roots = Roots::of(g)?;
    let run = roots.new.as_ref().map(last_run).transpose()?.flatten();
    let root = match (roots.new, roots.old) {
        (Some(new), _) if run.is_some() => new,
        (_, Some(old)) => old,
        (_, None) => root(g)?,
    };
    let doc = report::status::Status::of(&root, run)?;
    if g.json || g.jsonl {
        say_json(&doc)?
    } else {
        say(&doc.text())?
    }
    Ok(Ending::Fine)
}

/// `unaufs explain`: one check, or the list of all.
pub fn explain(g: &Global, id: Option<&str>) -> Done {
    let look = screen::look(g);
    let Some(id) = id else {
        match g.json || g.jsonl {
            true => say_json(&report::explain::all_json())?,
            false => say(&report::explain::all(look))?,
        }
        return Ok(Ending::Fine);
    };
    let Some(check) = checks::explain(id) else {
        return Err(Error::new(Kind::Usage, format!("there is no check {}", crate::text::text(id)))
            .hint("List all checks with: unaufs explain"));
    };
    match g.json || g.jsonl {
        true => say_json(&report::explain::json(check))?,
        false => say(&report::explain::text(check, look))?,
    }
    Ok(Ending::Fine)
}
