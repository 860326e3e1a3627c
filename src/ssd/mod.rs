//! The SSD operator.
