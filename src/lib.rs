//! Moves a dead Docker aufs store to a living storage driver, offline.
pub mod error;
pub mod ids;
