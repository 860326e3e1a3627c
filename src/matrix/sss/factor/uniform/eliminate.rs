//! The elimination `M = L D Lᴴ`, step by step.

use super::super::super::{Blocks, Sss};
use super::super::divides;
use super::super::ldl::Demand;
use super::reverse::Kept;
use super::tiles::Tiles;
use super::{SEGMENT, diagonals, fixed, order, segments};
use crate::error::{Error, Result};
use crate::linalg::vectorize;
use crate::scalar::Field;

/// Generators of some consecutive steps.
#[derive(Clone, Copy)]
pub(super) struct Input<'a, E> {
    pub(super) a: &'a [E],
    pub(super) b: &'a [E],
    pub(super) c: &'a [E],
    pub(super) d: &'a [E],
}

/// Where their gains B~ and pivots go.
pub(super) struct Output<'a, E> {
    pub(super) gains: &'a mut [E],
    pub(super) pivots: &'a mut [E],
}

/// A pivot that was refused, and how many steps into the segment.
pub(super) struct Refused<E> {
    pub(super) step: usize,
    pub(super) pivot: E,
}

/// `Ok` if a pivot, a real number, is what is demanded.
#[inline(always)]
pub(super) fn accept<E: Field>(pivot: E, demand: Demand) -> std::result::Result<(), ()> {
    let positive = demand == Demand::Nonsingular || E::from_real(pivot.modulus()) == pivot;
    if divides(pivot) && positive { Ok(()) } else { Err(()) }
}

/// Writes B~ and the pivots of `l` with this diagonal into `factor`; `false` if these loops do not apply.
pub(in super::super) fn eliminate<E: Field>(
    l: &Sss<E>,
    diagonal: &Blocks<E>,
    demand: Demand,
    factor: &mut Sss<E>,
) -> Result<bool> {
    let Some(order) = order(l) else { return Ok(false) };
    let mut run = Run { l, diagonal, demand, factor, length: SEGMENT, starts: None };
    run.order(order)?;
    Ok(true)
}

/// The factor of `l`, with P before every segment as long as the order; `None` if these loops do not apply.
pub(in super::super) fn eliminate_keeping<E: Field>(
    l: &Sss<E>,
    demand: Demand,
) -> Option<Result<(Sss<E>, Kept<E>)>> {
    let order = order(l)?;
    let mut factor = l.clone();
    let length = order.max(SHORTEST);
    let mut starts = Vec::with_capacity(l.len().div_ceil(length) * order * order);
    let mut run = Run { l, diagonal: &l.d, demand, factor: &mut factor, length, starts: Some(&mut starts) };
    Some(run.order(order).map(|()| (factor, Kept { length, starts })))
}

/// Steps of the shortest segment whose start is kept.
const SHORTEST: usize = 16;

/// An elimination, a segment at a time.
struct Run<'a, E> {
    l: &'a Sss<E>,
    diagonal: &'a Blocks<E>,
    demand: Demand,
    factor: &'a mut Sss<E>,
    length: usize,
    starts: Option<&'a mut Vec<E>>,
}

/// P of an elimination, in one of the forms in which it is computed.
trait State<E> {
    /// Some steps.
    fn steps(&mut self, input: Input<'_, E>, demand: Demand, output: Output<'_, E>) -> Outcome<E>;
    /// P by columns, appended to `all`.
    fn write(&self, all: &mut Vec<E>);
}

type Outcome<E> = std::result::Result<(), Refused<E>>;

impl<E: Field, const N: usize> State<E> for [[E; N]; N] {
    fn steps(&mut self, input: Input<'_, E>, demand: Demand, output: Output<'_, E>) -> Outcome<E> {
        vectorize(
            #[inline(always)]
            || fixed::steps(self, input, demand, output),
        )
    }

    fn write(&self, all: &mut Vec<E>) {
        all.extend_from_slice(self.as_flattened());
    }
}

impl<E: Field> State<E> for Tiles<E> {
    fn steps(&mut self, input: Input<'_, E>, demand: Demand, output: Output<'_, E>) -> Outcome<E> {
        vectorize(
            #[inline(always)]
            || self.run(input, demand, output),
        )
    }

    fn write(&self, all: &mut Vec<E>) {
        self.columns(all);
    }
}

impl<E: Field> Run<'_, E> {
    fn order(&mut self, order: usize) -> Result<()> {
        let zero = E::zero();
        let outcome = match order {
            1 => self.run(order, [[zero; 1]; 1]),
            2 => self.run(order, [[zero; 2]; 2]),
            3 => self.run(order, [[zero; 3]; 3]),
            4 => self.run(order, [[zero; 4]; 4]),
            8 => self.run(order, [[zero; 8]; 8]),
            _ => self.run(order, Tiles::zeros(order)),
        };
        outcome.map_err(|Refused { step, pivot }| match self.demand {
            Demand::Positive => Error::NotPositiveDefinite { step, pivot: pivot.to_string() },
            Demand::Nonsingular => Error::Singular { step, found: format!("pivot {pivot}") },
        })
    }

    fn run(&mut self, n: usize, mut state: impl State<E>) -> Outcome<E> {
        let l = self.l;
        let mut buffer = Vec::new();
        for segment in segments(l.len(), self.length) {
            if let Some(starts) = &mut self.starts {
                state.write(starts);
            }
            let start = segment.start;
            let rows = segment.start * n..segment.end * n;
            let input = Input {
                a: diagonals(l, n, segment.clone(), &mut buffer),
                b: &l.b.flat()[rows.clone()],
                c: &l.c.flat()[rows.clone()],
                d: &self.diagonal.flat()[segment.clone()],
            };
            let gains = &mut self.factor.b.flat_mut()[rows];
            let output = Output { gains, pivots: &mut self.factor.d.flat_mut()[segment] };
            let outcome = state.steps(input, self.demand, output);
            outcome.map_err(|refused| Refused { step: start + refused.step, ..refused })?;
        }
        Ok(())
    }
}
