//! Structured state space duality: one matrix, known by its generators, and every way to multiply by it.
//!
//! A layer of a sequence model is a product `y = M x`. For the models of the paper *Transformers are SSMs*
//! ([arXiv 2405.21060](https://arxiv.org/abs/2405.21060)), `M` is *semiseparable*: lower triangular, with blocks of low
//! rank below the diagonal. It is at once the matrix of masked attention and the matrix of a recurrence over a state:
//!
//! ```math
//! M = L \circ C B^\top, \quad L_{ij} = a_i a_{i-1} \cdots a_{j+1} \ (i \ge j)
//! \qquad\Longleftrightarrow\qquad
//! h_t = a_t h_{t-1} + b_t x_t, \quad y_t = c_t^\top h_t
//! ```
//!
//! so the product can be computed in O(len²) by the one, in O(len) by the other, and in O(len) mostly by matrix
//! products by cutting `M` into blocks, which is what the models of the paper are fast with.
//!
//! # The walk
//!
//! Every file of the crate is one of four kinds of things.
//!
//! **Definitions**, [`matrix`]: what a matrix is, by its generators, with `to_dense` as the meaning of everything else.
//! - [`matrix::StructuredMatrix`]: the trait of all of them: dense form, product, adjoint product, and their vjp.
//! - [`matrix::OneSemiseparable`]: the matrix of a scalar recurrence, the mask `L` above.
//! - [`matrix::Sss`] and [`matrix::FilterForm`]: matrices of any order, by the generators A, B, C and D, with an
//!   identity, scalar, diagonal or dense transition A; [`matrix::Upper`], [`matrix::Quasiseparable`] and
//!   [`matrix::HermitianQuasiseparable`] on the other side and on both; [their algebra](documentation::semiseparable).
//! - [`matrix::MaskedAttention`]: `L ∘ Q Kᵀ` for any mask of [`matrix::mask`], by either order of contraction, with
//!   [feature maps](matrix::attention::features) and [head patterns](matrix::attention::heads).
//!
//! **Algorithms**: ways to multiply, and their derivatives. They never change the answer beyond rounding.
//! - [`matrix::scan`]: six textbook algorithms for the scalar recurrence.
//! - [`ssd::Ssd`]: the operator of the models, `M = (L ∘ C Bᵀ) diag(dt) + d I` for every batch row and head.
//! - [`ssd::Algorithm`]: quadratic, recurrent or chunked; by default the fastest for the length.
//! - [`ssd::Output`] and [`ssd::Grad`]: what a product and its vjp yield; the cotangent of an output is an output.
//! - [`ssd::Kept`]: states that a product can keep for its vjp.
//! - [`ssd::Sequences`]: several sequences packed in one row.
//! - [`ssd::Bidirectional`]: a two-sided matrix, for layers that also look ahead.
//! - [`ssd::Discretization`]: raw steps and A to steps and decays.
//!
//! **Networks**: what is built of them.
//! - [`nn`]: linear maps, convolution, norms, attention, loss, each with its vjp.
//! - [`mamba2::Model`]: the language model, from any [`mamba2::State`]; [one token's way](documentation::mamba2) through it.
//!
//! **Places**: where it runs, [`ssd::Place`]. That is the CPU, on all threads with the feature `parallel` (results do not
//! depend on their number), or an NVIDIA GPU with the feature `cuda` (module `backend::cuda`). Numbers are stored as any
//! [`Scalar`] (`f64`, `f32`, `f16`, `bf16`) and computed with as [`Real`].
//!
//! Whatever can be wrong with an input is a typed [`Error`] that names the tensor, what was expected and what was found.
//!
//! # Example
//!
//! ```
//! use ndarray::{Array3, Array4};
//! use semisep::ssd::{Algorithm, Output, Ssd};
//!
//! let (batch, len, heads, head_dim, state_dim) = (1, 100, 2, 4, 8);
//! let log_a = Array3::from_elem((batch, len, heads), -0.1);
//! let b = Array4::from_shape_fn((batch, len, 1, state_dim), |(_, t, _, n)| ((t * n) as f64).sin());
//! let c = Array4::from_shape_fn((batch, len, 1, state_dim), |(_, t, _, n)| ((t + n) as f64).cos());
//! let x = Array4::<f64>::ones((batch, len, heads, head_dim));
//!
//! let m = Ssd::with_unit_steps(log_a.view(), b.view(), c.view())?;
//! let out = m.matmul(x.view(), None, Algorithm::default())?; // out.y and out.state
//! let cotangent = Output { y: out.y.clone(), state: 0.0 * &out.state };
//! let grad = m.vjp(x.view(), None, Algorithm::default(), &cotangent)?; // of every input
//! assert_eq!(grad.log_a.dim(), log_a.dim());
//! # Ok::<(), semisep::Error>(())
//! ```
//!
//! # Longer texts
//!
//! [Notation](documentation::notation), [algorithms](documentation::algorithms), [semiseparable linear
//! algebra](documentation::semiseparable), [gradients](documentation::gradients), [the model](documentation::mamba2),
//! [kernels](documentation::kernels) and [design](documentation::design).
#![warn(clippy::all)]

#[cfg(feature = "cuda")]
pub mod backend;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod error;
mod linalg;
pub mod mamba2;
pub mod matrix;
pub mod nn;
mod numbers;
mod parallel;
#[cfg(feature = "svg")]
mod picture;
mod random;
mod scalar;
pub mod ssd;

pub use error::{DeviceError, Error, Result};
pub use scalar::{Field, Real, Scalar};

/// The longer texts, as they stand in `docs/`.
pub mod documentation {
    #[doc = include_str!("../docs/notation.md")]
    pub mod notation {}

    #[doc = include_str!("../docs/algorithms.md")]
    pub mod algorithms {}

    #[doc = include_str!("../docs/semiseparable.md")]
    pub mod semiseparable {}

    #[doc = include_str!("../docs/gradients.md")]
    pub mod gradients {}

    #[doc = include_str!("../docs/kernels.md")]
    pub mod kernels {}
    #[doc = include_str!("../docs/mamba2.md")]
    pub mod mamba2 {}

    #[doc = include_str!("../docs/design.md")]
    pub mod design {}
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
