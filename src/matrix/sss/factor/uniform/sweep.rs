//! A segment of the elimination and of the substitution beside it, backward: what is taken and where cotangents go.

use super::LANES;
use crate::linalg::Eight;

/// Generators and factors of the steps of a segment.
pub(super) struct Segment<'a, E> {
    pub(super) a: &'a [E],
    pub(super) c: &'a [E],
    pub(super) gains: &'a [E],
    pub(super) before: &'a [E], // gain of the step before the segment; before the first, any
    pub(super) pivots: &'a [E],
    pub(super) weight: E,
    pub(super) weighted: Option<&'a [E]>, // whitened residuals over pivots
}

/// P, and the state of the substitution if there is one, before the first step of a segment.
#[derive(Clone, Copy)]
pub(super) struct Start<'a, E> {
    pub(super) p: &'a [Eight<E>],
    pub(super) state: Option<&'a [E]>,
}

/// Where cotangents of transitions go.
pub(super) enum Cotangents<'a, E> {
    None,
    Sum(&'a mut [E]),
    Each(&'a mut [E]),
}

impl<E: Copy + std::iter::Sum> Cotangents<'_, E> {
    /// Takes that of step k as a diagonal of `order` numbers, by pieces.
    #[inline(always)]
    pub(super) fn take<'p>(&mut self, k: usize, order: usize, pieces: impl Iterator<Item = &'p [E]>)
    where
        E: 'p,
    {
        match self {
            Self::None => {}
            Self::Sum(out) => out[k] = pieces.flatten().copied().sum(),
            Self::Each(out) => {
                let row = &mut out[k * order..(k + 1) * order];
                row.chunks_mut(LANES)
                    .zip(pieces)
                    .for_each(|(out, piece)| out.copy_from_slice(&piece[..out.len()]));
            }
        }
    }
}

/// Where cotangents go.
pub(super) struct Out<'a, E> {
    pub(super) a: Cotangents<'a, E>,
    pub(super) b: &'a mut [E],
    pub(super) c: &'a mut [E],
    pub(super) d: &'a mut [E],
    pub(super) y: Option<&'a mut [E]>,
}

/// A sweep backward, a segment after another from the last to the first.
pub(super) trait Backward<E> {
    /// Writes the cotangents of a segment.
    fn through(&mut self, start: Start<'_, E>, segment: Segment<'_, E>, out: Out<'_, E>);
}
