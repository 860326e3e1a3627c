//! Which kernels compute what is asked for: the one table.
//!
//! | asked for | by |
//! |---|---|
//! | `Recurrent`, or `Automatic` up to [`Algorithm::FEW`] positions | exact tier, recurrence |
//! | `Quadratic` | exact tier, one block a sequence |
//! | `Chunked`, or `Automatic` otherwise | exact tier, blocks |

use crate::error::Result;
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
}

/// The plan for rows of `len` positions.
pub(crate) fn plan(how: Algorithm, len: usize) -> Result<Plan> {
    Ok(match how.resolve(len) {
        Algorithm::Recurrent => Plan::Recurrent,
        Algorithm::Chunked { chunk } => Plan::Blocks { chunk },
        Algorithm::Quadratic | Algorithm::Automatic => Plan::Blocks { chunk: len.max(1) },
    })
}
