//! Generators from entries.
//!
//! | from | method | cost |
//! |---|---|---|
//! | all entries of a matrix | `from_dense`, `from_dense_blocks` | O(len² · order) |
//! | a function of row and column | `from_entries` | the same, and memory O(len · order) |
//! | column and row of a Toeplitz matrix | `from_toeplitz` | O(len · order · (order + log len)) |
//!
//! All find the smallest orders for a tolerance.

mod dense;
mod hankel;
mod toeplitz;
mod two_sided_toeplitz;
