//! What `plan` says, for the real stores: text, JSON, and that it writes nothing.

#[path = "../support/real.rs"]
mod real;

mod docs;
mod json;
mod snapshots;
mod untouched;
