//! Whose a state directory is: a random id, in the journal and in a plain file next to it.
//!
//! ```text
//! .unaufs/run.json     id, driver, the renames of the switch, what they touch: what `status` and `rollback` need without the journal
//! .unaufs/journal.db   the same id
//! ```
//!
//! The file is durable before the first effect of a run, and again before its first rename. A root may be renamed, mounted elsewhere or
//! copied as a whole: a run is known by its id and by what is in the tree, never by a path or a device number.

use super::guard::Guard;
use super::journal::{Journal, Run, State};
use crate::disk::Dir;
use crate::docker::driver::Target;
use crate::error::{Error, Result};
use crate::plan::merge::Merge;
use crate::plan::switch::{OLD, STATE};
use crate::plan::{Move, Plan, Touched, Why};
use crate::store::{Content, Generation};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The file's name in the state directory.
pub const FILE: &str = "run.json";

const SCHEMA: &str = "unaufs.run/1";
const FAMILY: &str = "unaufs.run/";

/// What every version of the file begins with.
#[derive(Deserialize)]
struct Schema {
    schema: String,
}

/// Of a store with 10,000 layers it has some 10 MiB.
const LIMIT: u64 = 1 << 28;

/// What is known of a run without its journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Course {
    /// The schema's name.
    pub schema: String,
    /// Random.
    pub id: String,
    /// The version that began it.
    pub tool: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// The old root, where it was then. For people.
    pub root: String,
    /// The new root in another place, where it was then.
    pub target: Option<String>,
    /// The directory of the new root was made by this run.
    #[serde(default)]
    pub made: bool,
    /// The new driver.
    pub driver: Target,
    /// Which Docker wrote the old store.
    pub generation: Generation,
    /// What earlier rollbacks had kept when it began.
    #[serde(default)]
    pub undone_before: Vec<String>,
    /// How it ended: `undone` or `cleaned`.
    #[serde(default)]
    pub over: Option<State>,
    /// The renames, in their order.
    pub switch: Vec<Move>,
    /// Directories whose times they change.
    pub touched: Vec<Touched>,
    /// The target's own store, where there is one.
    pub merge: Option<Merge>,
    /// Names of this run in the target's directory and in `overlay2/l`.
    pub ours: BTreeSet<String>,
    /// Containers of the old store, also those that were not migrated.
    #[serde(default)]
    pub containers: BTreeSet<String>,
    /// Files of containers that are replaced.
    #[serde(default)]
    pub configs: BTreeSet<String>,
    /// Paths of the old store that a rollback must find.
    pub old: BTreeSet<String>,
}

impl Course {
    /// From a plan; `id` is [`fresh_id`]'s or the journal's.
    pub fn of(id: &str, plan: &Plan, started: &str) -> Course {
        let same = |c: &Content| match c {
            Content::Same(path) | Content::Edited(path, _) => Some(path.clone()),
            Content::Text(_) | Content::TarSplitOf(_) => None,
        };
        let layers = plan.layers.iter().map(|l| l.source.clone());
        let records = plan.metadata.iter().filter_map(|f| same(&f.content));
        let configs = plan.containers.iter().flat_map(|c| &c.files).filter_map(|f| same(&f.content));
        Course {
            schema: SCHEMA.to_owned(),
            id: id.to_owned(),
            tool: plan.tool.version.clone(),
            started: started.to_owned(),
            root: plan.root.path.clone(),
            target: plan.new_root.as_ref().map(|e| e.path.clone()),
            made: plan.new_root.as_ref().is_some_and(|e| e.made),
            driver: plan.options.to,
            generation: plan.generation,
            undone_before: Vec::new(),
            over: None,
            switch: plan.switch.clone(),
            touched: plan.touched.clone(),
            merge: plan.merge.clone(),
            ours: plan.layers.iter().flat_map(|l| [l.id.to_string(), l.link.clone()]).collect(),
            containers: plan
                .containers
                .iter()
                .map(|c| c.id.to_string())
                .chain(plan.left_behind.iter().map(|l| l.id.clone()))
                .collect(),
            configs: plan
                .containers
                .iter()
                .flat_map(|c| c.files.iter().map(move |f| format!("containers/{}/{}", c.id, f.path)))
                .collect(),
            old: layers.chain(records).chain(configs).collect(),
        }
    }

    /// As it is once the run is over: short, for a disk that may be full.
    pub fn ended(self, over: State) -> Course {
        Course {
            over: Some(over),
            switch: Vec::new(),
            touched: Vec::new(),
            merge: None,
            ours: BTreeSet::new(),
            containers: BTreeSet::new(),
            configs: BTreeSet::new(),
            old: BTreeSet::new(),
            ..self
        }
    }

    /// Reads it, if it is there. A damaged one is as good as none: the journal has the same.
    pub fn read(state: &Dir) -> Result<Option<Course>> {
        let bytes = match state.read_opt(FILE, LIMIT) {
            // a directory, a named pipe, a symlink; or too large
            Err(e) if e.errno().is_none_or(|e| matches!(e, Errno::INVAL | Errno::LOOP)) => return Ok(None),
            read => read?.unwrap_or_default(),
        };
        let schema = serde_json::from_slice::<Schema>(&bytes).map(|s| s.schema).unwrap_or_default();
        if schema.starts_with(FAMILY) && schema != SCHEMA {
            let what = format!("{} is of another version of unaufs", state.show(FILE.as_bytes()));
            return Err(Error::corrupt(what).hint("Use the version that wrote it."));
        }
        let course: Option<Course> = serde_json::from_slice(&bytes).ok();
        Ok(course.filter(|course| course.schema == SCHEMA && is_id(&course.id)))
    }

    /// Writes it; durable then.
    pub fn write(&self, state: &Dir) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|e| Error::corrupt("write run.json").with_source(e))?;
        state.write_atomic(FILE.as_bytes(), &text, 0o600)
    }

    /// How far the renames are, told by the tree alone.
    pub fn place(&self, root: &Dir) -> Result<Place> {
        if Guard::of(root, &self.id).is_shut()? {
            return Ok(Place::Between);
        }
        let (mut begun, mut open) = (false, false);
        for m in &self.switch {
            match m.why {
                Why::Park if root.has(&m.to)? => begun = true,
                Why::Install if self.target.is_some() && root.has(&m.to)? => begun = true,
                // the stage has it still
                Why::Install if root.has(&m.from)? => open = true,
                Why::Park | Why::Install => {}
            }
        }
        Ok(match (begun, open) {
            (false, _) => Place::Before,
            (true, true) => Place::Between,
            (true, false) => Place::After,
        })
    }

    /// What of the old store is missing, the first few; nothing with a new root in another place, whose old one is never touched.
    pub fn missing(&self, root: &Dir) -> Result<Vec<String>> {
        let mut out = Vec::new();
        if self.target.is_some() {
            return Ok(out);
        }
        let guard = Guard::of(root, &self.id);
        let installed = |m: &Move| -> Result<bool> { Ok(!root.has(&m.from)? && root.has(guard.path(&m.to)?)?) };
        let taken: BTreeSet<&str> = self
            .switch
            .iter()
            .filter(|m| m.why == Why::Install)
            .filter_map(|m| installed(m).map(|i| i.then_some(m.to.as_str())).transpose())
            .collect::<Result<_>>()?;
        for m in self.switch.iter().filter(|m| m.why == Why::Park) {
            let there = root.has(&m.to)? || !taken.contains(m.from.as_str()) && root.has(guard.path(&m.from)?)?;
            if !there {
                out.push(m.from.clone());
            }
        }
        let parked = |path: &str| self.switch.iter().any(|m| m.why == Why::Park && below(path, &m.from));
        for path in self.old.iter().filter(|p| parked(p)) {
            if out.iter().any(|o: &String| below(path, o)) {
                continue;
            }
            if !root.has(format!("{OLD}/{path}"))? && !root.has(guard.path(path)?)? {
                out.push(path.clone());
            }
            if out.len() >= 20 {
                break;
            }
        }
        Ok(out)
    }
}

/// Is `path` the path `top`, or below it?
fn below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How far the renames of a switch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// None is done.
    Before,
    /// Some are, or Docker is kept from starting.
    Between,
    /// All are.
    After,
}

/// What a state directory says.
pub enum Known {
    /// No run.
    Nothing,
    /// A run.
    Run(Box<Run>),
    /// A run whose journal is lost, damaged or older than the tree.
    Lost(Box<Lost>),
}

/// A run without its journal.
pub struct Lost {
    /// What is known of it.
    pub course: Course,
    /// Its state, as the tree says.
    pub state: State,
    /// What became of the journal.
    pub why: String,
    /// Its number in the journal, where that is only older than the tree.
    pub run: Option<i64>,
}

impl Lost {
    /// Keeps what is left of the journal under another name. One without any run is not damaged: the process ended in its first commit.
    pub fn set_journal_aside(&self, state: &Dir) -> Result<()> {
        let last = |journal: Option<Journal>| journal.map(|j| j.last()).transpose().map(Option::flatten);
        if Journal::open_existing(state).and_then(last).is_ok_and(|run| run.is_none()) {
            return Ok(());
        }
        for name in [super::journal::FILE, super::journal::ROLLBACK_FILE] {
            if state.has(name)? {
                let free = super::guard::free_name(state, format!("{name}.damaged").as_bytes())?;
                state.rename_new(name, state, free)?;
            }
        }
        state.sync()
    }
}

/// What is known of the newest run in this root.
pub fn look(root: &Dir) -> Result<Known> {
    let Some(state) = root.open_opt(STATE)? else { return Ok(Known::Nothing) };
    let course = Course::read(&state)?;
    let journal = Journal::open_existing(&state).and_then(|j| j.map(|j| j.last()).transpose()).map(Option::flatten);
    let known = match (journal, course) {
        (Ok(None), None) => Known::Nothing,
        (Err(e), None) => return Err(e),
        (Ok(Some(run)), course) => judge(root, run, course)?,
        (Ok(None), Some(course)) => lost(root, course, "the journal .unaufs/journal.db is lost", None)?,
        (Err(e), Some(course)) => lost(root, course, &e.chain(), None)?,
    };
    of_this_root(root, &known)?;
    Ok(known)
}

/// Both files may have been copied here from another root. The switch noted its run once more, next to what it parked.
fn of_this_root(root: &Dir, known: &Known) -> Result<()> {
    let (state, id) = match known {
        Known::Nothing => return Ok(()),
        Known::Run(run) => (run.state, run.identity.as_ref()),
        Known::Lost(lost) => (lost.state, Some(&lost.course.id)),
    };
    let (Some(id), Some(by)) = (id, crate::verify::since::switched_by(root)) else { return Ok(()) };
    let parked = || root.open_opt(STATE)?.map_or(Ok(false), |state| super::rollback::parked(&state));
    // any other run may come after the one that was switched, but that one's old store is back then
    if *id == by || !matches!(state, State::Switched | State::Cleaned) && !parked()? {
        return Ok(());
    }
    let state = root.show(STATE.as_bytes());
    Err(Error::corrupt(format!("journal.db and {FILE} in {state} belong to another migration than this root"))
        .hint("Put the two files of this root back, or move both away. \"Both files are lost\" in the guide says how to put the old store back by hand.")
        .loss("Nothing was changed."))
}

/// Does the journal fit the file and the tree?
fn judge(root: &Dir, run: Run, course: Option<Course>) -> Result<Known> {
    let journal = format!("{STATE}/journal.db");
    let strange = |what: &str| {
        Error::corrupt(format!("{} {what}", root.show(journal.as_bytes())))
            .hint("Move that journal away. `unaufs status` and `unaufs rollback` work without it.")
            .loss("Nothing was changed.")
    };
    let course = match (&run.identity, course) {
        // of an earlier version
        (None, None) => return Ok(Known::Run(Box::new(run))),
        (Some(id), None) => {
            let course = Course::of(id, &run.plan, &run.started);
            return match fits(root, &run, &course)? {
                true => Ok(Known::Run(Box::new(run))),
                false => Err(strange("does not belong to this root")),
            };
        }
        (_, Some(course)) => course,
    };
    if run.identity.as_ref() != Some(&course.id) {
        return Err(strange("belongs to another migration than .unaufs/run.json"));
    }
    match run.state {
        State::Building | State::Built | State::Verified if course.place(root)? != Place::Before => {
            lost(root, course, "the journal .unaufs/journal.db is older than what was done here", Some(run.id))
        }
        _ => Ok(Known::Run(Box::new(run))),
    }
}

fn fits(root: &Dir, run: &Run, course: &Course) -> Result<bool> {
    Ok(match (run.state, course.place(root)?) {
        (State::Switched, place) => place == Place::After && course.missing(root)?.is_empty(),
        (State::Switching | State::Undoing, place) => place == Place::Before || course.missing(root)?.is_empty(),
        (State::Building | State::Built | State::Verified, place) => place == Place::Before,
        (State::Undone | State::Cleaned, _) => true,
    })
}

fn lost(root: &Dir, course: Course, why: &str, run: Option<i64>) -> Result<Known> {
    let state = match (course.over, course.place(root)?) {
        (Some(over), _) => over,
        (None, Place::Before) => State::Building,
        (None, Place::Between) => State::Switching,
        (None, Place::After) => State::Switched,
    };
    Ok(Known::Lost(Box::new(Lost { course, state, why: why.to_owned(), run })))
}

/// A new id: 128 random bits.
pub fn fresh_id() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    // getrandom(2) came with Linux 3.17
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .map_err(|e| Error::io("read /dev/urandom", e))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())
}
