//! The graph generation.
pub mod gojson;
