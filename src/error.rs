//! The one error type: what happened, on which object, why, what to do, what is lost.
//!
//! The kind decides the exit code, in [`Kind::exit_code`] and nowhere else.

use rustix::io::Errno;
use std::fmt;
use std::sync::OnceLock;

/// Why a verb did not do what was asked. Decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something failed while working; the text says whether to resume or roll back.
    Failed,
    /// The command line makes no sense, or a confirmation is missing.
    Usage,
    /// Somebody was asked and did not say yes. Not an error: nothing was changed.
    Cancelled,
    /// Done, but something named stayed behind.
    Partial,
    /// A check blocks; nothing was changed.
    Blocked,
    /// `--detailed-exitcode`: the plan has work to do.
    WorkToDo,
    /// Verification found a difference.
    Difference,
    /// There is no aufs or graph store at ROOT.
    NoStore,
    /// dockerd runs on ROOT, something is mounted below it, or the lock is held.
    Busy,
    /// Not enough bytes or inodes.
    Space,
    /// The saved plan does not fit the store any more.
    Stale,
    /// This kernel or file system cannot host the target.
    Unsupported,
    /// SIGINT: stopped at a safe point.
    Interrupted,
    /// SIGTERM or SIGHUP: stopped at a safe point.
    Terminated,
}

impl Kind {
    /// The process exit code of this kind. The only table of exit codes.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage | Kind::Cancelled => 2,
            Kind::Partial => 3,
            Kind::Blocked => 4,
            Kind::WorkToDo => 5,
            Kind::Difference => 6,
            Kind::NoStore => 10,
            Kind::Busy => 11,
            Kind::Space => 12,
            Kind::Stale => 13,
            Kind::Unsupported => 14,
            Kind::Interrupted => 130,
            Kind::Terminated => 143,
        }
    }
}

/// An error of unaufs. `Display` gives only what happened; the source, hint and loss are printed once, by the CLI.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    what: String,
    hint: Option<String>,
    loss: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind; `what` says what happened on which object.
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, what: crate::text::sentence(what), hint: None, loss: None, source: None }))
    }

    /// Something in the store is damaged or does not make sense.
    pub fn corrupt(what: impl Into<String>) -> Error {
        Error::new(Kind::Failed, what)
    }

    /// An I/O error on an object. A full disk or a full inode table becomes [`Kind::Space`].
    pub fn io(what: impl Into<String>, source: impl Into<std::io::Error>) -> Error {
        let (what, source) = (what.into(), source.into());
        note_failing_disk(&source, || what.clone());
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Kind::Space,
            _ => Kind::Failed,
        };
        let hint = match kind {
            Kind::Space => Some("Free some space on that file system, then run the same command again. It continues."),
            _ => None,
        };
        let mut e = Error::new(kind, what).with_source(source);
        e.0.hint = hint.map(str::to_owned);
        let hint = |e: Errno| match e {
            Errno::ROFS => Some(READ_ONLY),
            e if DISK.contains(&e) => Some("The disk or its file system fails. Look at the kernel log (dmesg)."),
            e => enough(e),
        };
        if let Some(hint) = e.errno().and_then(hint) {
            e = e.hint(hint);
        }
        e
    }

    /// Adds what the user should do.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(crate::text::sentence(hint));
        self
    }

    /// Adds what is lost, or what is not lost.
    pub fn loss(mut self, loss: impl Into<String>) -> Error {
        self.0.loss = Some(loss.into());
        self
    }

    /// Adds the underlying cause.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// Puts the object that was worked on in front of the message.
    pub fn on(mut self, object: impl fmt::Display) -> Error {
        self.0.what = crate::text::sentence(format!("{object}: {}", self.0.what));
        self
    }

    /// The kind, hence the exit code.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The errno of the innermost I/O error, if there is one.
    pub fn errno(&self) -> Option<Errno> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(self);
        while let Some(e) = next {
            if let Some(io) = e.downcast_ref::<std::io::Error>() {
                return Errno::from_io_error(io);
            }
            next = e.source();
        }
        None
    }

    /// Did this process run out of descriptors or memory? That says nothing about the object.
    pub fn is_exhaustion(&self) -> bool {
        self.errno().is_some_and(|e| EXHAUSTION.contains(&e))
    }

    /// What the user should do, if there is something.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// What is lost, if that was said.
    pub fn loss_text(&self) -> Option<&str> {
        self.0.loss.as_deref()
    }

    /// What happened and every cause below it, joined by colons, for one line of a report.
    pub fn chain(&self) -> String {
        let mut out = self.0.what.clone();
        let mut next = std::error::Error::source(self);
        while let Some(e) = next {
            out.push_str(": ");
            // a parser quotes what it did not understand
            out.push_str(&crate::text::sentence(e.to_string()));
            next = e.source();
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// The first time that a disk failed, as opposed to a store that is damaged. A damaged image is left behind and named; an image that the disk
/// cannot read at this moment would be left behind too, perhaps with all that is based on it, and might be whole when it is read again.
static FAILING_DISK: OnceLock<String> = OnceLock::new();

/// What only a failing disk, cable or network gives.
const DISK: [Errno; 6] = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NODEV, Errno::REMOTEIO, Errno::TIMEDOUT];

/// Notes the first error that only a failing disk, cable or network gives.
pub fn note_failing_disk(e: &std::io::Error, what: impl FnOnce() -> String) {
    let Some(errno) = Errno::from_io_error(e) else { return };
    let said = || format!("{}: {e}", what());
    // the first one counts
    if DISK.contains(&errno) {
        FAILING_DISK.get_or_init(said);
    } else if let Some(hint) = enough(errno) {
        EXHAUSTED.get_or_init(|| (said(), hint));
    }
}

/// The first time that this process had no descriptor or memory left: what it could not read then is no damage either.
static EXHAUSTED: OnceLock<(String, &'static str)> = OnceLock::new();
const EXHAUSTION: [Errno; 3] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];

/// An ext4 also makes itself read-only when it finds an error.
const READ_ONLY: &str = "The file system is read-only. Remount it, and run the same command again: mount -o remount,rw. If the kernel made it read-only after an error, run fsck first";

/// What helps a process that has no descriptor or memory left.
fn enough(e: Errno) -> Option<&'static str> {
    match e {
        Errno::MFILE => Some("Raise the limit for open files with `ulimit -n 4096`, then run the same command again."),
        Errno::NFILE => {
            Some("The whole system has too many open files. Stop other programs, then run the same command again.")
        }
        Errno::NOMEM => Some("Free some memory or raise the limit (`ulimit -v`), or run unaufs with -j 1."),
        _ => None,
    }
}

/// An error if the disk has failed since the program began, or this process ran out of descriptors or memory: with `keep_going` the user wants
/// what can be read.
pub fn check_disk(keep_going: bool) -> Result<()> {
    if let Some((what, hint)) = EXHAUSTED.get() {
        return Err(Error::new(Kind::Failed, what.clone())
            .hint(*hint)
            .loss("Nothing is lost: the old store is untouched."));
    }
    match FAILING_DISK.get() {
        Some(what) if !keep_going => Err(Error::new(Kind::Failed, format!("the disk failed: {what}"))
            .hint("Look at the kernel log (dmesg), then try again. --keep-going leaves out what can't be read.")
            .loss("Nothing is lost: the old store is untouched.")),
        _ => Ok(()),
    }
}

/// Puts the object into an I/O error: `open(..).on(|| format!("open {path}"))?`.
pub trait IoContext<T> {
    /// Names what was done on which object.
    fn on<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> IoContext<T> for std::result::Result<T, E> {
    fn on<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| Error::io(what(), e))
    }
}
