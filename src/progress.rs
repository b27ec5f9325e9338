//! How far the work is: the library reports here, the CLI draws.

/// Receives progress; called from many threads.
pub trait Progress: Sync {
    /// A phase with so many steps begins.
    fn phase(&self, name: &str, steps: u64);
    /// A step of the phase is done.
    fn step(&self, what: &str);
    /// A phase begins that moves so many bytes; 0 if nobody can tell.
    fn bytes(&self, name: &str, total: u64);
    /// So many bytes more were moved.
    fn moved(&self, bytes: u64);
    /// Something worth a line, for example a layer that was left out.
    fn warn(&self, text: &str);
}

/// Says nothing.
#[derive(Debug)]
pub struct Hidden;

impl Progress for Hidden {
    fn phase(&self, _: &str, _: u64) {}
    fn step(&self, _: &str) {}
    fn bytes(&self, _: &str, _: u64) {}
    fn moved(&self, _: u64) {}
    fn warn(&self, _: &str) {}
}
