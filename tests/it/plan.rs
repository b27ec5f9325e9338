//! What `plan` says, for the real stores: text, JSON, and that it writes nothing.

mod docs;
mod json;
mod snapshots;
mod untouched;
