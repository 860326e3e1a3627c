//! Algebra: sums, products, entrywise and Kronecker products, transposes and inverses of triangular matrices.

pub(super) mod compose;
mod hadamard;
mod invert;
mod kronecker;
mod operators;
pub(super) mod product;
pub(super) mod sum;
mod transpose;
