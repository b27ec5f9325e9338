//! The journal: what was planned and how far it is, durable before each effect.
//!
//! ```text
//! ROOT/.unaufs/journal.db            SQLite; schema in migrations/NNNN_*.sql, applied on open
//! ROOT/.unaufs/journal.db-journal    SQLite's rollback journal: empty between two transactions
//! ```
//!
//! Where that path is too long for SQLite, the database is held in memory, and each change replaces the file.
//!
//! SQLite with a rollback journal and `synchronous=FULL`: after a power cut a committed line is there, an uncommitted one is not.
//! WAL is off: its shared memory would be a second file to lose. The rollback journal is truncated, never removed: the commit is then
//! durable without a sync of the directory, which `FULL` leaves out after a removal, and a commit needs no free inode.

use crate::disk::{Dir, fault, sqlite};
use crate::error::{Error, IoContext, Kind, Result};
use crate::ids::LayerId;
use crate::plan::Plan;
use crate::plan::new_root::Unit;
use crate::plan::stored::{self, Stored};
use crate::verify::{Level, Verdict};
use rusqlite::{Connection, MAIN_DB, OpenFlags, OptionalExtension, Params, Row, ToSql, Transaction, params};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileExt, MetadataExt};

/// The file's name in the state directory.
pub const FILE: &str = "journal.db";

/// SQLite's own, next to it.
pub const ROLLBACK_FILE: &str = "journal.db-journal";

/// In their order; the number is SQLite's `user_version` afterwards.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_journal.sql"),
    include_str!("../../migrations/0002_prepare.sql"),
    include_str!("../../migrations/0003_plan_apart.sql"),
    include_str!("../../migrations/0004_elsewhere.sql"),
    include_str!("../../migrations/0005_identity.sql"),
    include_str!("../../migrations/0006_sides.sql"),
];

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The new store is being built next to the old one, which is untouched.
    Building,
    /// It is complete.
    Built,
    /// It was compared with the old one.
    Verified,
    /// The renames are under way.
    Switching,
    /// Docker will see the new store.
    Switched,
    /// The renames are being undone.
    Undoing,
    /// The old store is back.
    Undone,
    /// The old store was deleted.
    Cleaned,
}

impl State {
    /// All, with their names.
    pub const ALL: [(State, &str); 8] = [
        (State::Building, "building"),
        (State::Built, "built"),
        (State::Verified, "verified"),
        (State::Switching, "switching"),
        (State::Switched, "switched"),
        (State::Undoing, "undoing"),
        (State::Undone, "undone"),
        (State::Cleaned, "cleaned"),
    ];

    /// As in the journal.
    pub fn name(self) -> &'static str {
        State::ALL.iter().find(|(s, _)| *s == self).map_or("", |(_, n)| n)
    }

    fn parse(s: &str) -> Option<State> {
        State::ALL.iter().find(|(_, n)| *n == s).map(|(s, _)| *s)
    }

    /// Is there nothing left to go on with?
    pub fn over(self) -> bool {
        matches!(self, State::Undone | State::Cleaned)
    }
}

/// One migration.
#[derive(Debug)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// Its state.
    pub state: State,
    /// What it does.
    pub plan: Plan,
    /// Does it rewrite the old layers where they are, as `--mode move` of earlier versions did? See [`Run::supported`].
    pub in_place: bool,
    /// When it began.
    pub started: String,
    /// Random, the same as in `run.json`; `None` if an earlier version began it.
    pub identity: Option<String>,
    /// The last verification, unless what it judged was built again.
    pub verdict: Option<Verdict>,
    /// Only image layers were built so far, while Docker ran; the plan may be brought up to date.
    pub prepared: bool,
}

impl Run {
    /// An error for a run of `--mode move` that is not over.
    pub fn supported(&self) -> Result<()> {
        match self.in_place && !self.state.over() {
            true => Err(Run::in_place(&self.plan.tool.version)),
            false => Ok(()),
        }
    }

    /// Only the version that began a run of `--mode move` can finish or undo it.
    pub fn in_place(version: &str) -> Error {
        let version = crate::text::text(version);
        Error::new(
            Kind::Failed,
            format!("unaufs {version} began this migration with --mode move, which this version doesn't have"),
        )
        .hint(format!("Use unaufs {version}. Only that version can put the rewritten layers back."))
        .loss("Nothing was changed.")
    }
}

impl Verdict {
    /// Is it clean, at this level or a higher one?
    pub fn covers(&self, level: Level) -> bool {
        self.clean && (self.level == level || self.level == Level::Full)
    }

    /// How many differences there are.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// In one line.
    pub fn text(&self) -> String {
        let what = if self.clean { "no difference" } else { "damaged" };
        format!("{what} ({}, level {})", self.time, self.level.name())
    }
}

/// SQLite opens a database by its full path and resolves every symlink in it, `/proc/self/fd/N` too. It accepts so many bytes
/// (`MAX_PATHNAME` less `-journal`, in its os_unix.c).
const LONGEST_PATH: usize = 504;

/// As many bytes of a journal are held in memory.
const LARGEST: u64 = 1 << 30;

/// The open journal.
pub struct Journal {
    db: Connection,
    /// The state directory, if its path is too long for SQLite.
    in_memory_of: Option<Dir>,
}

fn sql(e: rusqlite::Error) -> Error {
    let full = matches!(&e, rusqlite::Error::SqliteFailure(f, _) if f.code == rusqlite::ErrorCode::DiskFull);
    let err =
        Error::new(if full { Kind::Space } else { Kind::Failed }, "the journal .unaufs/journal.db").with_source(e);
    if full { err.hint("Free some space on that file system, then run the same command again.") } else { err }
}

/// The root may be a stranger's, and the journal in it with it. What SQLite would open next to the database is looked at first:
///
/// - a symlink, a device or a fifo, or a file that has another name elsewhere;
/// - a rollback journal that names a super-journal, a file of any path that SQLite would read and might then remove
///   (<https://www.sqlite.org/atomiccommit.html>, section 5; only ATTACH makes such, which unaufs never uses);
/// - WAL mode, which unaufs never uses either.
fn check_files(state: &Dir) -> Result<()> {
    const SUPER_JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let not_ours = |name: &str, what: &str| {
        Err(Error::corrupt(format!("{} {what}: it is not a journal of unaufs", state.show(name.as_bytes())))
            .hint("If this data root comes from somebody else, move its .unaufs away. Otherwise please report this."))
    };
    for name in [FILE, ROLLBACK_FILE, "journal.db-wal", "journal.db-shm"] {
        match state.stat_opt(name)? {
            None => {}
            Some(_) if name.ends_with("-wal") || name.ends_with("-shm") => return not_ours(name, "is there"),
            Some(m) if !m.is_file() => return not_ours(name, "is not a file"),
            Some(m) if m.nlink != 1 => return not_ours(name, "has another name elsewhere"),
            Some(_) => {}
        }
    }
    let what = |name: &str| format!("read {}", state.show(name.as_bytes()));
    let mut versions = [0; 2];
    let db = state.open_file(FILE)?;
    if db.read_at(&mut versions, 18).on(|| what(FILE))? == 2 && versions.contains(&2) {
        return not_ours(FILE, "is in WAL mode");
    }
    if let Some(m) = state.stat_opt(ROLLBACK_FILE)?.filter(|m| m.size >= 8) {
        let mut end = [0; 8];
        let read = state.open_file(ROLLBACK_FILE)?.read_at(&mut end, m.size - 8).on(|| what(ROLLBACK_FILE))?;
        // a commit of another unaufs may empty it just now
        if read == end.len() && end == SUPER_JOURNAL {
            return not_ours(ROLLBACK_FILE, "names another file");
        }
    }
    Ok(())
}

/// Opens the file. The label has no symlink in it, NOFOLLOW sees to that, and the file must be the one that was looked at.
fn connect(state: &Dir) -> Result<Connection> {
    let path = state.label().join(FILE);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(&path, flags).map_err(sql)?;
    let (ours, there) = (state.stat(FILE)?, std::fs::symlink_metadata(&path).on(|| "the journal".to_owned())?);
    if (ours.dev, ours.ino) != (there.dev(), there.ino()) {
        return Err(Error::corrupt(format!("{} was moved while it was opened", state.show(b""))));
    }
    sqlite::distrust(&db).map_err(sql)?;
    Ok(db)
}

/// Reads the file into memory.
fn load(state: &Dir) -> Result<Connection> {
    // a root that was at a shorter path when a process died
    if state.stat_opt(ROLLBACK_FILE)?.is_some_and(|m| m.size > 0) {
        return Err(Error::corrupt(format!(
            "{} was being written when a process died, and its path is too long for SQLite to repair it",
            state.show(FILE.as_bytes())
        )));
    }
    let bytes = state.read(FILE, LARGEST)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_in_memory_with_flags(flags).map_err(sql)?;
    sqlite::distrust(&db).map_err(sql)?;
    // one that was just made
    if !bytes.is_empty() {
        db.deserialize_read_exact(MAIN_DB, &bytes[..], bytes.len(), false).map_err(sql)?;
    }
    Ok(db)
}

impl Journal {
    /// Opens the journal in the state directory, making it if needed; its name is durable then.
    pub fn open(state: &Dir) -> Result<Journal> {
        // made here and not by SQLite, which calls every failure to make a file "unable to open", also a full disk
        for name in [FILE, ROLLBACK_FILE] {
            if state.stat_opt(name)?.is_none() {
                state.create(name)?;
            }
        }
        let journal = Journal::open_with(state)?;
        state.sync()?;
        Ok(journal)
    }

    /// Opens the journal if there is one, for reading; a journal that a crash left in the middle of a commit is repaired by the next writer.
    pub fn open_existing(state: &Dir) -> Result<Option<Journal>> {
        if !state.has(FILE)? {
            return Ok(None);
        }
        Journal::open_with(state).map(Some)
    }

    fn open_with(state: &Dir) -> Result<Journal> {
        check_files(state)?;
        let long = state.label().join(FILE).as_os_str().len() > LONGEST_PATH;
        let db = if long { load(state)? } else { connect(state)? };
        let in_memory_of = if long { Some(state.again()?) } else { None };
        db.pragma_update(None, "journal_mode", "TRUNCATE").map_err(sql)?;
        let synchronous = if fault::without_any_sync() { "OFF" } else { "FULL" };
        db.pragma_update(None, "synchronous", synchronous).map_err(sql)?;
        db.pragma_update(None, "foreign_keys", true).map_err(sql)?;
        let mut journal = Journal { db, in_memory_of };
        journal.migrate()?;
        Ok(journal)
    }

    /// Brings an older schema up to date; refuses a newer one.
    fn migrate(&mut self) -> Result<()> {
        let have: i64 = self.db.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(sql)?;
        let known = MIGRATIONS.len() as i64;
        if have > known {
            return Err(Error::new(Kind::Failed, format!("the journal has schema {have}, this unaufs knows {known}"))
                .hint("Use the unaufs that wrote it, or a newer one."));
        }
        let behind = &MIGRATIONS[usize::try_from(have).unwrap_or(0)..];
        if behind.is_empty() {
            return Ok(());
        }
        // all in one: each commit of SQLite's is five syncs
        self.change("journal schema", |t| {
            behind.iter().try_for_each(|text| t.execute_batch(text))?;
            t.pragma_update(None, "user_version", known)
        })
    }

    /// One change in one transaction; `effect` is its name for the crash tests.
    fn change<T>(
        &mut self,
        effect: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        fault::effect(effect);
        let t = self.db.transaction().map_err(sql)?;
        let out = change(&t).map_err(sql)?;
        t.commit().map_err(sql)?;
        if let Some(state) = &self.in_memory_of {
            let bytes = self.db.serialize(MAIN_DB).map_err(sql)?;
            state.write_atomic(FILE.as_bytes(), &bytes, 0o600)?;
        }
        Ok(out)
    }

    /// The answers to a question, each made of a row.
    fn rows<T, C: FromIterator<T>>(
        &self,
        question: &str,
        about: impl Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<C> {
        let mut q = self.db.prepare(question).map_err(sql)?;
        let rows = q.query_map(about, row).map_err(sql)?;
        rows.collect::<rusqlite::Result<C>>().map_err(sql)
    }

    /// The newest run.
    pub fn last(&self) -> Result<Option<Run>> {
        const SELECT: &str = "SELECT id, state, text, started, prepared, identity FROM run JOIN plan ON run = id ORDER BY id DESC LIMIT 1";
        let row = self.db.query_row(SELECT, [], |r| {
            let (id, state, plan) = (r.get::<_, i64>(0)?, r.get::<_, String>(1)?, r.get::<_, String>(2)?);
            Ok((id, state, plan, r.get::<_, String>(3)?, r.get::<_, bool>(4)?, r.get::<_, Option<String>>(5)?))
        });
        let Some((id, state, plan, started, prepared, identity)) = row.optional().map_err(sql)? else {
            return Ok(None);
        };
        let state = State::parse(&state).ok_or_else(|| Error::corrupt(format!("the journal's state {state:?}")))?;
        let stored = stored::read(plan.as_bytes()).map_err(|e| Error::corrupt("the journal's plan").with_source(e))?;
        let Stored { plan, in_place } = stored;
        let verdict = self.verdict(id)?;
        Ok(Some(Run { id, state, plan, in_place, started, prepared, identity, verdict }))
    }

    /// Writes down a run and all its units before anything is done.
    pub fn begin(&mut self, plan: &Plan, identity: &str, prepared: bool, now: &str) -> Result<i64> {
        let (text, print) = (text(plan)?, print(plan));
        self.change("journal begin", |t| {
            t.execute(
                "INSERT INTO run (fingerprint, started, state, prepared, identity) VALUES (?1, ?2, 'building', ?3, ?4)",
                params![print, now, prepared, identity],
            )?;
            let id = t.last_insert_rowid();
            t.execute("INSERT INTO plan (run, text) VALUES (?1, ?2)", params![id, text])?;
            intend(t, id, "layer", plan.layers.iter().map(|l| l.id.as_str()))?;
            intend(t, id, "carried", carried(plan))?;
            intend(t, id, "metadata", ["all"])?;
            Ok(id)
        })
    }

    /// These units, of kind and name, are not done any more: what the stage has of them is about to be removed.
    pub fn reopen<'a>(&mut self, run: i64, units: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<()> {
        const REOPEN: &str =
            "UPDATE unit SET state = 'intent', proved = NULL WHERE run = ?1 AND kind = ?2 AND name = ?3";
        self.change("journal reopen", |t| {
            t.execute(WITHDRAW, [run])?;
            units.into_iter().try_for_each(|(kind, name)| t.execute(REOPEN, params![run, kind, name]).map(drop))
        })
    }

    /// Notes that these layers' views in the stage were compared without a difference.
    pub fn prove(&mut self, run: i64, layers: &[&str], level: &str) -> Result<()> {
        const PROVE: &str = "UPDATE unit SET proved = ?3 WHERE run = ?1 AND kind = 'layer' AND name = ?2";
        self.change("journal prove", |t| {
            layers.iter().try_for_each(|name| t.execute(PROVE, params![run, name, level]).map(drop))
        })
    }

    /// The layers proved at a level, or at a higher one.
    pub fn proved(&self, run: i64, level: &str) -> Result<BTreeSet<String>> {
        const SELECT: &str = "SELECT name FROM unit WHERE run = ?1 AND kind = 'layer' AND state = 'done' AND (proved = ?2 OR proved = 'full')";
        self.rows(SELECT, params![run, level], |r| r.get(0))
    }

    /// Gives a run that an earlier version began an identity.
    pub fn identify(&mut self, run: i64, identity: &str) -> Result<()> {
        self.change("journal identity", |t| {
            t.execute("UPDATE run SET identity = ?2 WHERE id = ?1", params![run, identity]).map(drop)
        })
    }

    /// Replaces the plan of a run by one from which the same would be built.
    pub fn note_plan(&mut self, run: i64, plan: &Plan) -> Result<()> {
        let text = text(plan)?;
        self.change("journal plan", |t| t.execute(REPLACE_PLAN, params![run, text]).map(drop))
    }

    /// Gives a run that is being built another plan. Layers that are in both and done stay done; what the stage has of others must
    /// have been removed before. `lost` are the layers that failed and that the plan leaves out.
    pub fn replan(&mut self, run: i64, plan: &Plan, prepared: bool, lost: &BTreeMap<LayerId, String>) -> Result<()> {
        let (text, print, known) = (text(plan)?, print(plan), self.done(run, "layer")?);
        self.change("journal replan", |t| {
            t.execute("UPDATE run SET fingerprint = ?2, prepared = ?3 WHERE id = ?1", params![run, print, prepared])?;
            t.execute(REPLACE_PLAN, params![run, text])?;
            t.execute(WITHDRAW, [run])?;
            t.execute("DELETE FROM lost WHERE run = ?1", [run])?;
            for (layer, reason) in lost {
                let row = params![run, layer.as_str(), reason];
                t.execute("INSERT INTO lost (run, layer, reason) VALUES (?1, ?2, ?3)", row)?;
            }
            t.execute("DELETE FROM unit WHERE run = ?1 AND kind = 'layer' AND state = 'intent'", [run])?;
            let new = plan.layers.iter().map(|l| l.id.as_str()).filter(|id| !known.contains(*id));
            intend(t, run, "layer", new)?;
            // nothing else is copied before all layers are built: none of these is done
            t.execute("DELETE FROM unit WHERE run = ?1 AND kind = 'carried'", [run])?;
            intend(t, run, "carried", carried(plan))
        })
    }

    /// The layers that failed while running and were left out, and why.
    pub fn lost(&self, run: i64) -> Result<BTreeMap<LayerId, String>> {
        let rows: Vec<(String, String)> =
            self.rows("SELECT layer, reason FROM lost WHERE run = ?1", [run], |r| Ok((r.get(0)?, r.get(1)?)))?;
        rows.into_iter().map(|(layer, reason)| Ok((LayerId::parse(&layer)?, reason))).collect()
    }

    /// Did a run ever begin its renames? Before that, nothing outside the state directory is its own.
    pub fn has_switched(&self, run: i64) -> Result<bool> {
        const SELECT: &str = "SELECT EXISTS (SELECT 1 FROM event WHERE run = ?1 AND what = ?2)";
        self.db.query_row(SELECT, params![run, State::Switching.name()], |r| r.get(0)).map_err(sql)
    }

    /// The units of a kind that are done.
    pub fn done(&self, run: i64, kind: &str) -> Result<BTreeSet<String>> {
        const SELECT: &str = "SELECT name FROM unit WHERE run = ?1 AND kind = ?2 AND state = 'done'";
        self.rows(SELECT, params![run, kind], |r| r.get(0))
    }

    /// Marks units as done; the caller has synced their file system.
    pub fn finish(&mut self, run: i64, kind: &str, units: &[(String, String)]) -> Result<()> {
        const FINISH: &str = "UPDATE unit SET state = 'done', tally = ?4 WHERE run = ?1 AND kind = ?2 AND name = ?3";
        self.change("journal done", |t| {
            units.iter().try_for_each(|(name, tally)| t.execute(FINISH, params![run, kind, name, tally]).map(drop))
        })
    }

    /// What was noted of the units of a kind that are done, by name: of layers what their builders really did.
    pub fn tallies(&self, run: i64, kind: &str) -> Result<BTreeMap<String, String>> {
        const SELECT: &str =
            "SELECT name, coalesce(tally, '') FROM unit WHERE run = ?1 AND kind = ?2 AND state = 'done'";
        self.rows(SELECT, params![run, kind], |r| Ok((r.get(0)?, r.get(1)?)))
    }

    /// Moves a run to another state.
    pub fn set_state(&mut self, run: i64, state: State, now: &str) -> Result<()> {
        self.change("journal state", |t| {
            t.execute("UPDATE run SET state = ?2 WHERE id = ?1", params![run, state.name()])?;
            let row = params![run, now, state.name()];
            t.execute("INSERT INTO event (run, at, what) VALUES (?1, ?2, ?3)", row).map(drop)
        })
    }

    /// Notes what a verification found: it replaces every earlier verdict.
    pub fn judge(&mut self, run: i64, v: &Verdict) -> Result<()> {
        const JUDGE: &str = "INSERT INTO verdict (run, at, level, clean, counts, docker_ran, inherited) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let counts = serde_json::json!(v.counts).to_string();
        let row = params![run, v.time, v.level.name(), v.clean, counts, v.docker_ran, v.inherited];
        self.change("journal verdict", |t| t.execute(JUDGE, row).map(drop))
    }

    /// Withdraws every verdict.
    pub fn withdraw(&mut self, run: i64) -> Result<()> {
        self.change("journal verdict", |t| t.execute(WITHDRAW, [run]).map(drop))
    }

    /// The last verdict, unless it was withdrawn.
    pub fn verdict(&self, run: i64) -> Result<Option<Verdict>> {
        const SELECT: &str = "SELECT at, level, clean, counts, docker_ran, withdrawn, inherited FROM verdict WHERE run = ?1 ORDER BY id DESC LIMIT 1";
        let row = self.db.query_row(SELECT, [run], |r| {
            let level = if r.get::<_, String>(1)? == "full" { Level::Full } else { Level::Fast };
            let counts = serde_json::from_str(&r.get::<_, String>(3)?).unwrap_or_default();
            let (clean, docker_ran, inherited) = (r.get(2)?, r.get(4)?, r.get(6)?);
            let verdict = Verdict { time: r.get(0)?, level, clean, docker_ran, counts, inherited };
            Ok((!r.get::<_, bool>(5)?).then_some(verdict))
        });
        Ok(row.optional().map_err(sql)?.flatten())
    }

    /// What happened when.
    pub fn events(&self, run: i64) -> Result<Vec<(String, String)>> {
        const SELECT: &str = "SELECT at, what FROM event WHERE run = ?1 ORDER BY id";
        self.rows(SELECT, [run], |r| Ok((r.get(0)?, r.get(1)?)))
    }
}

const WITHDRAW: &str = "UPDATE verdict SET withdrawn = 1 WHERE run = ?1";
const REPLACE_PLAN: &str = "UPDATE plan SET text = ?2 WHERE run = ?1";

/// Notes units that are to be made.
fn intend(t: &Transaction<'_>, run: i64, kind: &str, names: impl IntoIterator<Item: ToSql>) -> rusqlite::Result<()> {
    let mut unit = t.prepare("INSERT INTO unit (run, kind, name, state) VALUES (?1, ?2, ?3, 'intent')")?;
    names.into_iter().try_for_each(|name| unit.execute(params![run, kind, name]).map(drop))
}

/// What is copied to a new root besides layers.
fn carried(plan: &Plan) -> impl Iterator<Item = String> {
    plan.new_root.iter().flat_map(|e| &e.units).map(Unit::name)
}

fn text(plan: &Plan) -> Result<String> {
    serde_json::to_string(plan).map_err(|e| Error::corrupt("the plan").with_source(e))
}

fn print(plan: &Plan) -> String {
    plan.fingerprint.digest.map(|d| d.to_string()).unwrap_or_default()
}
