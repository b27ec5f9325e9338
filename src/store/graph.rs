//! The graph generation.
pub mod container_config;
pub mod gojson;
pub mod gotime;
pub mod v1;
