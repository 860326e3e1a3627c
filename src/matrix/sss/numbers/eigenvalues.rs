//! Eigenvalues of Hermitian matrices: counted by the signs of pivots, found by bisection.

use std::ops::Range;

use super::norm_two_estimate;
use crate::error::{Error, Result};
use crate::matrix::sss::compress::sweeps::to_f64;
use crate::matrix::sss::finite::check_finite;
use crate::matrix::sss::{Blocks, HermitianQuasiseparable, Ldl};
use crate::scalar::{Field, real};

/// A count whose elimination has grown entries by less than this is trusted at once: what rounding can move an
/// eigenvalue by is this many units in the last place of the norm.
const GROWTH: f64 = 1e4;

/// Where a count may be made instead if elimination breaks down or grows at the first shift, in parts of the freedom.
const PLACES: [f64; 7] = [0.0, 0.31, -0.37, 0.73, -0.79, 0.97, -1.0];

/// Counts at several shifts, in the memory of one factorisation.
struct Counter<'a, E: Field> {
    m: &'a HermitianQuasiseparable<E>,
    factor: Option<Ldl<E>>,
}

impl<E: Field> Counter<'_, E> {
    /// How many eigenvalues lie below a shift within `freedom` of `shift`, and that shift: the one at which entries grow
    /// least, or the first at which they hardly grow.
    fn count(&mut self, shift: f64, freedom: f64) -> Result<(usize, f64)> {
        let mut best: Option<(f64, usize, f64)> = None;
        for place in PLACES {
            let shift = shift + place * freedom;
            match self.factored(shift) {
                Ok((growth, negative)) if growth <= GROWTH => return Ok((negative, shift)),
                Ok((growth, negative)) if best.is_none_or(|(least, ..)| growth < least) => {
                    best = Some((growth, negative, shift));
                }
                Ok(_) | Err(Error::Singular { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        let (_, negative, shift) = best.ok_or_else(|| Error::Singular {
            step: 0,
            found: format!("every elimination near the shift {shift}"),
        })?;
        Ok((negative, shift))
    }

    /// The same at the shift itself, if elimination there hardly makes entries grow.
    fn count_at(&mut self, shift: f64) -> Result<Option<usize>> {
        match self.factored(shift) {
            Ok((growth, negative)) => Ok((growth <= GROWTH).then_some(negative)),
            Err(Error::Singular { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    fn factored(&mut self, shift: f64) -> Result<(f64, usize)> {
        let diagonal = shifted(self.m.diagonal_blocks(), shift);
        let factor = match self.factor.take() {
            Some(factor) => factor.refactor(self.m, &diagonal)?,
            None => {
                let (transition, b, c, _) = self.m.lower().clone().into_parts();
                let lower = crate::matrix::sss::Sss::from_parts(transition, b, c, diagonal);
                HermitianQuasiseparable::from_lower(lower).ldl()?
            }
        };
        let pivots = factor.pivots();
        let negative = match pivots.uniform() {
            Some((1, 1)) => pivots.flat().iter().filter(|d| **d != E::from_real(d.modulus())).count(),
            _ => factor.inertia()?.negative,
        };
        let found = (factor.growth(), negative);
        self.factor = Some(factor);
        Ok(found)
    }
}

/// How far rounding may move an eigenvalue of a matrix of this norm.
fn rounding<E: Field>(norm: f64) -> f64 {
    4.0 * to_f64(<E::Real as num_traits::Float>::epsilon()) * norm
}

fn shifted<E: Field>(d: &Blocks<E>, shift: f64) -> Blocks<E> {
    let shift = E::from_real(real(shift));
    let mut d = d.clone();
    for k in 0..d.len() {
        d.block_mut(k).diag_mut().mapv_inplace(|v| v - shift);
    }
    d
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// How many eigenvalues lie below `shift`: the negative pivots of `M - shift I` (Sylvester), in O(len · order²).
    ///
    /// Elimination does not choose its pivots. Where it would break down, or make entries grow, the count is that at a
    /// shift a few roundings of the 2-norm away. All eigenvalues lie below an infinite shift, and none below its negative.
    ///
    /// # Errors
    /// [`Error::Value`] if a generator is not finite or the shift is no number, [`Error::Singular`] if no shift nearby can
    /// be eliminated.
    ///
    /// # Example
    /// ```
    /// use ndarray::{Array1, Array2};
    /// use semisep::matrix::sss::{HermitianQuasiseparable, Sss, Transition};
    ///
    /// // Two neighbours -1 and 2 on the diagonal: eigenvalues 2 - 2 cos(πk / 101).
    /// let b = Array2::from_elem((100, 1), -1.0);
    /// let lower = Sss::uniform(Transition::Scalar(Array1::zeros(100)), b, Array2::ones((100, 1)), Array1::from_elem(100, 2.0))?;
    /// let m = HermitianQuasiseparable::new(lower)?;
    /// assert_eq!(m.eigenvalue_count_below(2.0)?, 50);
    /// let smallest = m.eigenvalues(0..1, 1e-14)?[0];
    /// assert!((smallest - (2.0 - 2.0 * (std::f64::consts::PI / 101.0).cos())).abs() < 1e-12);
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn eigenvalue_count_below(&self, shift: E::Real) -> Result<usize> {
        let shift = to_f64(shift);
        check_finite(self.lower())?;
        if shift.is_nan() {
            return Err(Error::Value { tensor: "shift", expected: "a number", found: shift.to_string() });
        }
        let all_or_none = || if shift > 0.0 { self.rows() } else { 0 };
        if shift.is_infinite() {
            return Ok(all_or_none());
        }
        let mut counter = Counter { m: self, factor: None };
        if let Some(count) = counter.count_at(shift)? {
            return Ok(count);
        }
        let norm = norm_two_estimate(self)?;
        if norm == 0.0 {
            return Ok(all_or_none());
        }
        Ok(counter.count(shift, rounding::<E>(norm.max(shift.abs())))?.0)
    }

    /// The eigenvalues with these places in ascending order, by bisection; `accuracy` is relative to the 2-norm.
    ///
    /// # Errors
    /// As [`eigenvalue_count_below`](Self::eigenvalue_count_below), and [`Error::Value`] if entries overflow;
    /// [`Error::Config`] if there are no such places or the accuracy is not positive.
    pub fn eigenvalues(&self, places: Range<usize>, accuracy: f64) -> Result<Vec<f64>> {
        if places.start > places.end || places.end > self.rows() {
            let reason = format!("expected a range of the {} eigenvalues, found {places:?}", self.rows());
            return Err(Error::Config { field: "places", reason });
        }
        if accuracy.is_nan() || accuracy <= 0.0 {
            let reason = format!("expected a positive number, found {accuracy}");
            return Err(Error::Config { field: "accuracy", reason });
        }
        let bound = self.eigenvalue_bound()?;
        if bound == 0.0 {
            return Ok(vec![0.0; places.len()]);
        }
        let edge = bound * (1.0 + rounding::<E>(1e3 + self.rows() as f64).max(1e-6)); // the bound is rounded itself
        let mut found = Vec::with_capacity(places.len());
        let mut counter = Counter { m: self, factor: None };
        let norm = norm_two_estimate(self)?.min(bound);
        let least = (accuracy * norm).max(rounding::<E>(norm));
        let mut intervals = vec![(-edge, edge, 0..self.rows())];
        while let Some((low, high, inside)) = intervals.pop() {
            let wanted = inside.start.max(places.start)..inside.end.min(places.end);
            if wanted.is_empty() {
                continue;
            }
            let middle = low + (high - low) / 2.0;
            if high - low <= least || middle <= low || high <= middle {
                found.extend(wanted.map(|_| middle));
                continue;
            }
            let (below, middle) = counter.count(middle, (high - low) / 8.0)?;
            let below = below.clamp(inside.start, inside.end); // counts a rounding apart may disagree
            intervals.push((middle, high, below..inside.end));
            intervals.push((low, middle, inside.start..below));
        }
        Ok(found)
    }

    /// At least the modulus of every eigenvalue. The sums of absolute generators can exceed the norm by a factor that grows
    /// with every step, the Frobenius norm only by the root of the number of rows.
    fn eigenvalue_bound(&self) -> Result<f64> {
        let bound = self.norm_inf_bound()?.min(self.norm_frobenius()?);
        if bound.is_finite() {
            return Ok(bound);
        }
        let found = format!("a matrix of norm {bound}");
        Err(Error::Value { tensor: "m", expected: "entries that do not overflow", found })
    }

    /// The eigenvalues from `range.start` on and below `range.end`, ascending; `accuracy` as in
    /// [`eigenvalues`](Self::eigenvalues).
    ///
    /// # Errors
    /// As there.
    pub fn eigenvalues_within(&self, range: Range<E::Real>, accuracy: f64) -> Result<Vec<f64>> {
        let (first, last) =
            (self.eigenvalue_count_below(range.start)?, self.eigenvalue_count_below(range.end)?);
        self.eigenvalues(first..last.max(first), accuracy)
    }
}
