//! Householder reflections of small matrices: the thin factorisation `a = q r`, and `r` alone with the largest column
//! first.

use ndarray::{Array2, ArrayView2};
use num_traits::{Float, Zero};

use super::vectorize;
use crate::scalar::Field;

/// Partial sums of a dot product: of a long column, and of what is left of it.
const MANY: usize = 32;
const FEW: usize = 8;

/// A matrix with every column contiguous.
#[derive(Debug, Clone)]
struct Columns<E> {
    height: usize,
    width: usize,
    values: Vec<E>,
}

impl<E: Field> Columns<E> {
    fn new(a: ArrayView2<'_, E>, factor: E) -> Self {
        let (height, width) = a.dim();
        let values = match a.t().as_slice() {
            Some(values) => values.iter().map(|v| *v * factor).collect(),
            None => a.t().iter().map(|v| *v * factor).collect(),
        };
        Self { height, width, values }
    }

    #[inline(always)]
    fn column(&self, j: usize) -> &[E] {
        &self.values[j * self.height..(j + 1) * self.height]
    }

    /// Column `j`, and column `l` behind it.
    #[inline(always)]
    fn two(&mut self, j: usize, l: usize) -> (&[E], &mut [E]) {
        let (before, behind) = self.values.split_at_mut(l * self.height);
        (&before[j * self.height..(j + 1) * self.height], &mut behind[..self.height])
    }

    fn swap(&mut self, j: usize, l: usize) {
        if j != l {
            let (before, behind) = self.values.split_at_mut(j.max(l) * self.height);
            before[j.min(l) * self.height..][..self.height].swap_with_slice(&mut behind[..self.height]);
        }
    }
}

/// The reflection `1 - τ w wᴴ` that moves `x` onto its first axis: `x` becomes its image there and w behind it, whose
/// first element is 1. Returns τ, zero for `x = 0`.
#[inline(always)]
fn reflector<E: Field>(x: &mut [E]) -> E::Real {
    let norm = root_of_squares(squares(x), &*x);
    if norm < E::Real::min_positive_value() {
        return E::Real::zero(); // what is left of underflow
    }
    let size = x[0].modulus();
    let phase = if size.is_zero() { E::one() } else { x[0].over(E::from_real(size)) };
    let first = E::one().over(phase * E::from_real(size + norm));
    x[1..].iter_mut().for_each(|x| *x *= first);
    x[0] = -phase * E::from_real(norm);
    (size + norm) / norm
}

/// `y ← (1 - τ w wᴴ) y` with w as in [`reflector`].
#[inline(always)]
fn reflect<E: Field>(w: &[E], tau: E::Real, y: &mut [E]) {
    let share = (y[0] + dot_conj(&w[1..], &y[1..])) * E::from_real(tau);
    y[0] -= share;
    y[1..].iter_mut().zip(&w[1..]).for_each(|(y, w)| *y -= share * *w);
}

/// `a = q r` with orthonormal columns in `q`: (m, n) = (m, k) (k, n), k = min(m, n).
pub(crate) fn thin_qr<E: Field>(a: ArrayView2<'_, E>) -> (Array2<E>, Array2<E>) {
    let mut a = Columns::new(a, E::one());
    let (m, n) = (a.height, a.width);
    let k = m.min(n);
    let mut q = Columns { height: m, width: k, values: vec![E::zero(); m * k] };
    vectorize(
        #[inline(always)]
        || {
            let mut taus = Vec::with_capacity(k);
            for j in 0..k {
                let tau = reflector(&mut a.values[j * m + j..(j + 1) * m]);
                for l in j + 1..n {
                    let (w, y) = a.two(j, l);
                    reflect(&w[j..], tau, &mut y[j..]);
                }
                taus.push(tau);
                q.values[j * m + j] = E::one();
            }
            for j in (0..k).rev() {
                let w = &a.column(j)[j..];
                for l in j..k {
                    reflect(w, taus[j], &mut q.values[l * m + j..(l + 1) * m]);
                }
            }
        },
    );
    let q = Array2::from_shape_fn((m, k), |(i, j)| q.values[j * m + i]);
    let r = Array2::from_shape_fn((k, n), |(i, j)| if i <= j { a.values[j * m + i] } else { E::zero() });
    (q, r)
}

/// The factor `r` of `factor a = q r` with its columns where they belong in `a`, eliminated in order of size, so that its rows
/// are nearly in order of size. (k, n), k = min(m, n); rows that vanish are left out.
pub(super) fn ordered_r<E: Field>(a: ArrayView2<'_, E>, factor: E) -> Array2<E> {
    let mut a = Columns::new(a, factor);
    let (m, n) = (a.height, a.width);
    let k = m.min(n);
    let mut place: Vec<usize> = (0..n).collect();
    let mut rank = k;
    vectorize(
        #[inline(always)]
        || {
            let mut sizes: Vec<E::Real> = (0..n).map(|j| squares(a.column(j))).collect();
            for j in 0..k {
                let largest = (j..n).fold(j, |best, l| if sizes[l] > sizes[best] { l } else { best });
                if sizes[largest].is_zero() {
                    rank = j;
                    break;
                }
                a.swap(j, largest);
                place.swap(j, largest);
                sizes.swap(j, largest);
                let tau = reflector(&mut a.values[j * m + j..(j + 1) * m]);
                for (l, size) in sizes.iter_mut().enumerate().skip(j + 1) {
                    let (w, y) = a.two(j, l);
                    reflect(&w[j..], tau, &mut y[j..]);
                    *size = squares(&y[j + 1..]);
                }
            }
        },
    );
    let mut r = Array2::zeros((rank, n));
    for (j, &to) in place.iter().enumerate() {
        for i in 0..rank.min(j + 1) {
            r[[i, to]] = a.values[j * m + i];
        }
    }
    r
}

/// `(Σ |x|²)^½` from the sum of squares, or, where squares over- or underflow, from parts of the largest number.
pub(crate) fn root_of_squares<'a, E: Field>(
    squares: E::Real,
    x: impl IntoIterator<Item = &'a E> + Clone,
) -> E::Real {
    let exact = E::Real::min_positive_value() / E::Real::epsilon();
    if squares.is_nan() || (squares.is_finite() && squares >= exact) {
        return squares.sqrt();
    }
    let largest = x.clone().into_iter().fold(E::Real::zero(), |largest, x| largest.max(x.modulus()));
    if largest.is_zero() || largest.is_infinite() {
        return largest;
    }
    let parts: E::Real = x.into_iter().map(|x| (x.modulus() / largest).squared_modulus()).sum();
    largest * parts.sqrt()
}

/// `Σ |x|²`
#[inline(always)]
pub(super) fn squares<E: Field>(x: &[E]) -> E::Real {
    let (many, rest) = x.as_chunks::<MANY>();
    let (few, rest) = rest.as_chunks::<FEW>();
    let mut sums = [E::Real::zero(); FEW];
    if !many.is_empty() {
        let mut partial = [E::Real::zero(); MANY];
        for x in many {
            for l in 0..MANY {
                partial[l] += x[l].squared_modulus();
            }
        }
        (0..MANY).for_each(|l| sums[l % FEW] += partial[l]);
    }
    for x in few {
        for l in 0..FEW {
            sums[l] += x[l].squared_modulus();
        }
    }
    let rest: E::Real = rest.iter().map(|x| x.squared_modulus()).sum();
    sums.into_iter().sum::<E::Real>() + rest
}

/// `Σ conj(x) y`
#[inline(always)]
pub(super) fn dot_conj<E: Field>(x: &[E], y: &[E]) -> E {
    let ((many_x, x), (many_y, y)) = (x.as_chunks::<MANY>(), y.as_chunks::<MANY>());
    let ((few_x, x), (few_y, y)) = (x.as_chunks::<FEW>(), y.as_chunks::<FEW>());
    let mut sums = [E::zero(); FEW];
    if !many_x.is_empty() {
        let mut partial = [E::zero(); MANY];
        for (x, y) in many_x.iter().zip(many_y) {
            for l in 0..MANY {
                partial[l] += x[l].conj() * y[l];
            }
        }
        (0..MANY).for_each(|l| sums[l % FEW] += partial[l]);
    }
    for (x, y) in few_x.iter().zip(few_y) {
        for l in 0..FEW {
            sums[l] += x[l].conj() * y[l];
        }
    }
    let rest: E = x.iter().zip(y).map(|(x, y)| x.conj() * *y).sum();
    sums.into_iter().sum::<E>() + rest
}
