//! Docker's own ground: what is true of each storage driver, its JSON, edited as text, and what Go makes of JSON and times.

pub mod choice;
pub mod containerd;
pub mod driver;
pub mod gojson;
pub mod gotime;
pub mod json;
