//! The recurrence of one number, eight rows at a time.
//!
//! Where a row is a vector of eight, what a row makes of the eight before it is found in three steps that do not wait for
//! the recurrence: $`y_t = a_t y_{t-1} + x_t`$ put into itself reaches two rows back, that one put into itself four, then
//! eight. A step moves both coefficients by some rows (two shuffles) and takes one product and one multiply-add; a last
//! multiply-add is all that is left of the chain:
//!
//! ```math
//! a^{(2k)}_t = a^{(k)}_t a^{(k)}_{t-k}, \quad x^{(2k)}_t = a^{(k)}_t x^{(k)}_{t-k} + x^{(k)}_t, \qquad
//! y_t = a^{(8)}_t y_{t-8} + x^{(8)}_t
//! ```

use num_complex::Complex;

use super::Direction;

/// The recurrence of one number; sealed, since this module is private.
pub trait Lookahead: Sized {
    /// `y_t = a_t y_{t-1} + x_t` from the number `before` the rows, or backwards, `y_t = a_t y_{t+1} + x_t`, from the one
    /// behind them; as many rows as whole vectors hold, from the end where it starts. Returns how many: none where the
    /// machine or the type has no such vectors. A coefficient that is not finite leaves a number that is not finite among
    /// the last eight of these rows.
    fn look_ahead(direction: Direction, a: &[Self], x: &[Self], before: Self, y: &mut [Self]) -> usize {
        let _ = (direction, a, x, before, y);
        0
    }
}

impl Lookahead for f32 {}
impl Lookahead for Complex<f32> {}
impl Lookahead for Complex<f64> {}
#[cfg(not(target_arch = "x86_64"))]
impl Lookahead for f64 {}

#[cfg(target_arch = "x86_64")]
impl Lookahead for f64 {
    fn look_ahead(direction: Direction, a: &[f64], x: &[f64], before: f64, y: &mut [f64]) -> usize {
        x86::look_ahead(direction, a, x, before, y)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use pulp::x86::V4;
    use pulp::{Simd, cast, f64x8};

    use super::super::{Direction, prefetch_behind};

    /// Bytes between the rows at work and those that are fetched from a farther cache meanwhile.
    const AHEAD: usize = 512;

    /// The coefficients a and x of eight rows.
    type Rows = (f64x8, f64x8);

    pub(super) fn look_ahead(
        direction: Direction,
        a: &[f64],
        x: &[f64],
        before: f64,
        y: &mut [f64],
    ) -> usize {
        let Some(simd) = V4::try_new() else { return 0 };
        match direction {
            Direction::Forward => {
                let ((a, _), (x, _), (y, _)) = (a.as_chunks(), x.as_chunks(), y.as_chunks_mut());
                let rows = a.iter().zip(x).zip(y);
                simd.vectorize(
                    #[inline(always)]
                    || run::<false>(simd, before, rows),
                )
            }
            Direction::Backward => {
                let ((_, a), (_, x), (_, y)) = (a.as_rchunks(), x.as_rchunks(), y.as_rchunks_mut());
                let rows = a.iter().zip(x).zip(y).rev();
                simd.vectorize(
                    #[inline(always)]
                    || run::<true>(simd, before, rows),
                )
            }
        }
    }

    #[inline(always)]
    fn run<'a, const BACKWARD: bool>(
        simd: V4,
        before: f64,
        rows: impl Iterator<Item = ((&'a [f64; 8], &'a [f64; 8]), &'a mut [f64; 8])>,
    ) -> usize {
        // Rows with a zero for a stand before the first; the last of them holds what the recurrence starts from.
        let mut start = [0.0; 8];
        start[if BACKWARD { 0 } else { 7 }] = before;
        let mut h: f64x8 = cast(start);
        let [mut ones, mut twos, mut fours] = [(simd.splat_f64s(0.0), h); 3];
        let ahead = if BACKWARD { AHEAD.wrapping_neg() } else { AHEAD };
        let mut count = 0;
        for ((a, x), y) in rows {
            for from in [a.as_ptr(), x.as_ptr(), y.as_ptr()] {
                prefetch_behind(from, ahead);
            }
            let rows = (cast(*a), cast(*x));
            let rows = doubled::<BACKWARD, 1, 7>(simd, &mut ones, rows);
            let rows = doubled::<BACKWARD, 2, 6>(simd, &mut twos, rows);
            let (a, x) = doubled::<BACKWARD, 4, 4>(simd, &mut fours, rows);
            h = simd.mul_add_f64s(a, h, x);
            *y = cast(h);
            count += 8;
        }
        count
    }

    /// The coefficients that reach back over `BY` rows put into themselves; `before` are those of the eight rows before,
    /// and become those of these rows. `REST` and `BY` are eight.
    #[inline(always)]
    fn doubled<const BACKWARD: bool, const BY: i32, const REST: i32>(
        simd: V4,
        before: &mut Rows,
        now: Rows,
    ) -> Rows {
        let moved = |before: f64x8, now: f64x8| match BACKWARD {
            true => eight::<BY>(simd, now, before),
            false => eight::<REST>(simd, before, now),
        };
        let (a, x) = (moved(before.0, now.0), moved(before.1, now.1));
        *before = now;
        (simd.mul_f64s(now.0, a), simd.mul_add_f64s(now.0, x, now.1))
    }

    /// Eight numbers from place `FROM` on of two vectors in a row.
    #[inline(always)]
    fn eight<const FROM: i32>(simd: V4, low: f64x8, high: f64x8) -> f64x8 {
        cast(simd.avx512f._mm512_alignr_epi64::<{ FROM }>(cast(high), cast(low)))
    }
}
