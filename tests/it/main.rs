//! The tests of the program as a whole, in one test program: `cargo test --test it MODULE` runs one module of it.
//!
//! They share a process: what changes the process (mounts, the environment, the directory it is in) belongs into a child.

mod around;
mod bad_input;
mod calls;
mod cases;
mod checks;
mod citations;
mod conformance;
mod convicts;
mod cp;
mod demo;
mod disassemble;
mod docs;
mod elsewhere;
mod estimates;
mod export;
mod graph_damaged;
mod graph_store;
mod host_tools;
mod hostile;
mod json;
mod ladder;
mod lifecycle;
mod limits;
mod lost;
mod merged_store;
mod odd_layouts;
mod odd_metadata;
mod old_kernel;
mod outputs;
mod page;
mod plan;
mod real_stores;
mod reference;
mod roots;
mod screens;
#[path = "../support/mod.rs"]
mod support;
mod tarsplit_stores;
mod verify;
mod words;
