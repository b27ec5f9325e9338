//! The graph generation.
pub mod container_config;
pub mod gojson;
pub mod gotime;
pub mod linkgraph;
pub mod references;
pub mod v1;
