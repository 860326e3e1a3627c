//! The elimination `M = L D Lᴴ`, step by step.

use super::super::super::{Blocks, Sss};
use super::super::divides;
use super::super::ldl::Demand;
use super::solve::substitute;
use super::tiles::Tiles;
use super::{LANES, SEGMENT, diagonals, fixed, order, segments};
use crate::error::{Error, Result};
use crate::linalg::{Eight, Simd, WithSimd, dispatch, vectorize};
use crate::scalar::Field;

/// Generators of some consecutive steps.
#[derive(Clone, Copy)]
pub(super) struct Input<'a, E> {
    pub(super) a: &'a [E],
    pub(super) b: &'a [E],
    pub(super) c: &'a [E],
    pub(super) d: &'a [E],
}

/// Where their gains B~ and pivots go, and a right-hand side that is solved for on the way.
pub(super) struct Output<'a, E> {
    pub(super) gains: &'a mut [E],
    pub(super) pivots: &'a mut [E],
    pub(super) column: Option<Column<'a, E>>,
}

/// A column y, which becomes $`z = L^{-1} y`$, and the state of that substitution: $`z_k = y_k - C_k s_k`$,
/// $`s_{k+1} = A_k s_k + \tilde B_k z_k`$.
pub(super) struct Column<'a, E> {
    pub(super) x: &'a mut [E],
    pub(super) state: &'a mut [E],
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
    let output = Output { gains: factor.b.flat_mut(), pivots: factor.d.flat_mut(), column: None };
    Run { l, diagonal, demand, output, length: SEGMENT, starts: None }.order(order)?;
    Ok(true)
}

/// Some of what was met in an elimination.
#[derive(Debug, Clone)]
pub(in super::super) struct Kept<E> {
    pub(in super::super) gains: Vec<E>,
    pub(in super::super) pivots: Vec<E>,
    pub(super) length: usize,         // steps of a segment
    pub(super) starts: Vec<Eight<E>>, // P before each segment: lanes of all columns, one row of lanes after another
    pub(super) states: Vec<E>,        // of the substitution, before each segment
}

impl<E> Default for Kept<E> {
    fn default() -> Self {
        let (gains, pivots, states) = (Vec::new(), Vec::new(), Vec::new());
        Self { gains, pivots, length: 0, starts: Vec::new(), states }
    }
}

/// Steps of the shortest segment whose start is kept.
const SHORTEST: usize = 32;

/// The elimination of `l`, with P before every segment of half as many steps as its order, at least [`SHORTEST`], and
/// forward substitution for a column, if there is one; `false` if these loops do not apply.
pub(in super::super) fn eliminate_keeping<E: Field>(
    l: &Sss<E>,
    demand: Demand,
    column: Option<&mut [E]>,
    kept: &mut Kept<E>,
) -> Result<bool> {
    let Some(order) = order(l) else { return Ok(false) };
    kept.length = order.div_ceil(2).next_multiple_of(2).max(SHORTEST);
    kept.starts.resize(l.len().div_ceil(kept.length) * lanes_of(order), Eight([E::zero(); LANES]));
    kept.states.clear();
    kept.gains.resize(l.len() * order, E::zero());
    kept.pivots.resize(l.len(), E::zero());
    let mut state = vec![E::zero(); order];
    let column = column.map(|x| Column { x, state: &mut state });
    let output = Output { gains: &mut kept.gains, pivots: &mut kept.pivots, column };
    let starts = Some(Starts { p: &mut kept.starts, states: &mut kept.states });
    Run { l, diagonal: &l.d, demand, output, length: kept.length, starts }.order(order)?;
    Ok(true)
}

/// Vectors in which P is written down: of orders that [`fixed`] takes as many columns as there are, of others whole tiles.
pub(super) fn lanes_of(order: usize) -> usize {
    if order <= LANES / 2 { order } else { order.next_multiple_of(LANES) * order.div_ceil(LANES) }
}

/// What is kept of the starts of segments.
struct Starts<'a, E> {
    p: &'a mut [Eight<E>],
    states: &'a mut Vec<E>,
}

/// An elimination, a segment at a time.
struct Run<'a, E> {
    l: &'a Sss<E>,
    diagonal: &'a Blocks<E>,
    demand: Demand,
    output: Output<'a, E>,
    length: usize,
    starts: Option<Starts<'a, E>>,
}

/// P of an elimination, in one of the forms in which it is computed.
trait State<E> {
    /// Some steps.
    fn steps(&mut self, input: Input<'_, E>, demand: Demand, output: Output<'_, E>) -> Outcome<E>;
    /// Writes lanes of the columns of P, [`lanes_of`] the order.
    fn write(&mut self, columns: &mut [Eight<E>]);
}

type Outcome<E> = std::result::Result<(), Refused<E>>;

impl<E: Field, const N: usize> State<E> for [[E; N]; N] {
    fn steps(&mut self, input: Input<'_, E>, demand: Demand, output: Output<'_, E>) -> Outcome<E> {
        vectorize(
            #[inline(always)]
            || match output.column {
                None => fixed::steps::<E, N, false>(self, input, demand, output),
                Some(_) => fixed::steps::<E, N, true>(self, input, demand, output),
            },
        )
    }

    fn write(&mut self, columns: &mut [Eight<E>]) {
        for (lane, column) in columns.iter_mut().zip(self) {
            lane.0[..N].copy_from_slice(column);
        }
    }
}

impl<E: Field> State<E> for Tiles<E> {
    fn steps(&mut self, input: Input<'_, E>, demand: Demand, output: Output<'_, E>) -> Outcome<E> {
        let Output { gains, pivots, column } = output;
        let factors = Output { gains: &mut *gains, pivots, column: None };
        dispatch(TileSteps { tiles: self, input, demand, output: factors })?;
        if let Some(column) = column {
            substitute(input.a, input.c, gains, column);
        }
        Ok(())
    }

    fn write(&mut self, columns: &mut [Eight<E>]) {
        dispatch(TileColumns { tiles: self, columns });
    }
}

/// P of tiles written down, by vectors of any machine.
struct TileColumns<'a, E> {
    tiles: &'a Tiles<E>,
    columns: &'a mut [Eight<E>],
}

impl<E: Field> WithSimd for TileColumns<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.tiles.columns(simd, self.columns);
    }
}

/// Steps on tiles, for vectors of any machine.
struct TileSteps<'a, E> {
    tiles: &'a mut Tiles<E>,
    input: Input<'a, E>,
    demand: Demand,
    output: Output<'a, E>,
}

impl<E: Field> WithSimd for TileSteps<'_, E> {
    type Output = Outcome<E>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Outcome<E> {
        self.tiles.run(simd, self.input, self.demand, self.output)
    }
}

impl<E: Field> Run<'_, E> {
    fn order(mut self, order: usize) -> Result<()> {
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
        for (s, segment) in segments(l.len(), self.length).enumerate() {
            if let Some(starts) = &mut self.starts {
                let size = lanes_of(n);
                state.write(&mut starts.p[s * size..(s + 1) * size]);
                if let Some(column) = &self.output.column {
                    starts.states.extend_from_slice(column.state);
                }
            }
            let start = segment.start;
            let rows = segment.start * n..segment.end * n;
            let input = Input {
                a: diagonals(l, n, segment.clone(), &mut buffer),
                b: &l.b.flat()[rows.clone()],
                c: &l.c.flat()[rows.clone()],
                d: &self.diagonal.flat()[segment.clone()],
            };
            let gains = &mut self.output.gains[rows];
            let column = self.output.column.as_mut().map(|column| {
                let Column { x, state } = column;
                Column { x: &mut x[segment.clone()], state }
            });
            let output = Output { gains, pivots: &mut self.output.pivots[segment], column };
            let outcome = state.steps(input, self.demand, output);
            outcome.map_err(|refused| Refused { step: start + refused.step, ..refused })?;
        }
        Ok(())
    }
}
