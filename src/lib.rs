//! Moves a dead Docker aufs store to a living storage driver, offline.
pub mod branch;
pub mod checks;
pub mod disk;
pub mod docker_json;
pub mod engine;
pub mod error;
pub mod ids;
pub mod journal;
pub mod place;
pub mod plan;
pub mod progress;
pub mod show;
pub mod stop;
pub mod store;
pub mod target;
pub mod verify;
pub mod view;
