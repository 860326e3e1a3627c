//! Which kernels compute what is asked for: the one table.
//!
//! | asked for | stored as | by |
//! |---|---|---|
//! | `Recurrent`, or `Automatic` up to [`Algorithm::FEW`] positions | any | exact tier, recurrence |
//! | `Quadratic`, or `Automatic` up to [`Algorithm::SHORT`] positions | any | exact tier, one block a sequence |
//! | `Automatic` otherwise, on sm_90: head_dim 64 or 128, state_dim 64, 128 or 256, aligned to 16 bytes; product: no empty sequence | bf16, f16 | Hopper tier |
//! | `Chunked`, or `Automatic` otherwise | bf16, f16 | portable tier, blocks of its own length |
//! | the same | f64, f32 | exact tier, blocks |

use crate::ssd::Algorithm;

/// A way to compute a product and its vjp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The recurrence of the exact tier.
    Recurrent,
    /// The attention form in blocks of the exact tier.
    Blocks {
        /// Positions of a block.
        chunk: usize,
    },
    /// The block decomposition on tensor cores.
    Portable,
    /// The same by the means of sm_90.
    Hopper,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// `y = M x`.
    Product,
    /// Its cotangents.
    Vjp,
}

/// The plan for rows of `len` positions of numbers stored as `stored`, a name of [`crate::Scalar::NAME`].
pub(crate) fn plan(how: Algorithm, len: usize, stored: &str) -> Plan {
    match how.resolve(len) {
        Algorithm::Recurrent => Plan::Recurrent,
        Algorithm::Chunked { .. } if matches!(stored, "bf16" | "f16") => Plan::Portable,
        Algorithm::Chunked { chunk } => Plan::Blocks { chunk },
        Algorithm::Quadratic | Algorithm::Automatic => Plan::Blocks { chunk: len.max(1) },
    }
}
