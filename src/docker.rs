//! Docker's own formats: its JSON, edited as text, and what Go makes of JSON and times.

pub mod gojson;
pub mod gotime;
pub mod json;
