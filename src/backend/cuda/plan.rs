//! Which kernels compute what is asked for: the one table, read from above.
//!
//! | asked for | stored as | by |
//! |---|---|---|
//! | `Recurrent`, or `Automatic` up to [`Algorithm::FEW`] positions | any | exact tier, recurrence |
//! | `Automatic`, on sm_90: head_dim 64 or 128, state_dim 64, 128 or 256, aligned to 16 bytes; no empty sequence | bf16, f16 | Hopper tier |
//! | `Quadratic`, or `Automatic` up to [`Algorithm::SHORT`] positions | any | exact tier, one block a sequence |
//! | `Chunked`, or `Automatic` otherwise | bf16, f16 | portable tier, blocks of its own length |
//! | the same, where products may round to tf32 | f32 | portable tier, blocks of its own length |
//! | the same otherwise | f64, f32 | exact tier, blocks |

use std::fmt;

use crate::ssd::Algorithm;

/// Which kernels compute a product and its vjp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// The recurrence of the exact tier.
    Recurrent,
    /// The attention form in blocks of the exact tier.
    Blocks {
        /// Positions of a block.
        chunk: usize,
    },
    /// The block decomposition on tensor cores of any architecture.
    Portable,
    /// The same for f32, rounded to tf32 in products.
    Tf32,
    /// The same by the means of sm_90.
    Hopper,
}

/// The plan for rows of `len` positions of numbers stored as `stored`, a name of [`crate::Scalar::NAME`]; `hopper`: whether the
/// Hopper tier is made for the tensors at hand, `tf32`: whether products of f32 may round.
pub(crate) fn plan(how: Algorithm, len: usize, stored: &str, hopper: bool, tf32: bool) -> Plan {
    match how.resolve(len) {
        Algorithm::Recurrent => Plan::Recurrent,
        _ if hopper && how == Algorithm::Automatic => Plan::Hopper,
        Algorithm::Chunked { .. } if matches!(stored, "bf16" | "f16") => Plan::Portable,
        Algorithm::Chunked { .. } if tf32 => Plan::Tf32,
        Algorithm::Chunked { chunk } => Plan::Blocks { chunk },
        Algorithm::Quadratic | Algorithm::Automatic => Plan::Blocks { chunk: len.max(1) },
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recurrent => write!(f, "exact tier, recurrence"),
            Self::Blocks { chunk } => write!(f, "exact tier, blocks of {chunk}"),
            Self::Portable => write!(f, "portable tier"),
            Self::Tf32 => write!(f, "portable tier, tf32"),
            Self::Hopper => write!(f, "Hopper tier"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Plan, plan};
    use crate::ssd::Algorithm::{Automatic, Chunked, Quadratic, Recurrent};

    #[test]
    fn every_row_of_the_table_is_what_is_chosen() {
        let rows = [("f64", false), ("f32", false), ("f32", true), ("f16", false), ("bf16", false)];
        for ((stored, tf32), hopper) in rows.into_iter().flat_map(|row| [(row, false), (row, true)]) {
            let or_portable = |chunk| match stored {
                "f16" | "bf16" => Plan::Portable,
                _ if tf32 => Plan::Tf32,
                _ => Plan::Blocks { chunk },
            };
            let or_hopper = |plan| if hopper { Plan::Hopper } else { plan };
            let chosen = |how, len| plan(how, len, stored, hopper, tf32);
            for len in [0, 1, 4, 5, 16, 17, 5000] {
                let automatic = match len {
                    0..=4 => Plan::Recurrent,
                    5..=16 => or_hopper(Plan::Blocks { chunk: len }),
                    _ => or_hopper(or_portable(64)),
                };
                assert_eq!(chosen(Automatic, len), automatic);
                assert_eq!(chosen(Recurrent, len), Plan::Recurrent);
                assert_eq!(chosen(Quadratic, len), Plan::Blocks { chunk: len.max(1) });
                assert_eq!(chosen(Chunked { chunk: 20 }, len), or_portable(20));
            }
        }
    }
}
