//! A root that a stranger made, or that rots on a dying disk, does no harm: nothing outside of it is read as if it were inside, changed or
//! removed, whatever it holds and whatever happens to it in the meantime.
//!
//! ```text
//! bed        a sound root, and next to it a canary that must stay as it is, byte for byte
//! places     symlinks, fifos, devices where directories and files are expected; ids that are paths
//! contents   JSON, gzip, lists and names made to harm; deep trees
//! graph      the same for the generation of before Docker 1.10: linkgraph.db
//! state      a journal and a plan that somebody else wrote; tight modes
//! race       directories change places with symlinks while unaufs works on them
//! trace      what is really opened, as strace sees it
//! ```

pub mod bed;
mod contents;
mod graph;
mod places;
mod race;
mod state;
mod trace;
