//! The SSD operator: algorithms against each other and the definition, reference outputs, bad input.

mod duality;
mod golden;
mod hostile;
mod laws;
mod selective_scan;
mod support;
