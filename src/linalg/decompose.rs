//! Decompositions of small dense blocks.
//!
//! The steps of a structured matrix are small: orders and block sizes from one to some tens, a factorisation for each
//! step. So QR and LU are plain loops over rows, without the fixed cost of a library call; singular values and
//! eigenvalues, which iterate, go through `faer`.

use faer::{Mat, Side};
use ndarray::{Array2, ArrayView2, s};
use num_complex::Complex;
use num_traits::{Float, One, Zero};

use super::small::rows_of;
use crate::scalar::{Field, larger};

/// Iterative decompositions of a scalar type; sealed, since this module is private.
pub trait Decompose: Sized {
    /// `(U, s, V)` with `A = U diag(s) Vᴴ`, thin, largest value first; `None` if it does not converge.
    fn svd(a: ArrayView2<'_, Self>) -> Option<(Array2<Self>, Vec<f64>, Array2<Self>)>;
    /// Eigenvalues of a Hermitian matrix, smallest first, read from its lower triangle.
    fn eigh(a: ArrayView2<'_, Self>) -> Option<Vec<f64>>;
    /// `self * factor + term`, rounded once where the machine can.
    fn fused(self, factor: Self, term: Self) -> Self;
    /// The number without its imaginary part.
    fn real_part(self) -> Self;
    /// `self / divisor`, where the square of the modulus of the divisor may over- or underflow.
    fn over(self, divisor: Self) -> Self;
}

macro_rules! impl_decompose {
    ($t:ty, $fused:expr, $real_part:expr, $over:expr) => {
        impl Decompose for $t {
            fn svd(a: ArrayView2<'_, $t>) -> Option<(Array2<$t>, Vec<f64>, Array2<$t>)> {
                let a = Mat::<$t>::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]]);
                let svd = a.thin_svd().ok()?;
                let values = a.nrows().min(a.ncols());
                let array =
                    |m: faer::MatRef<'_, $t>| Array2::from_shape_fn((m.nrows(), values), |(i, j)| m[(i, j)]);
                let s = svd.S().column_vector();
                Some((array(svd.U()), (0..values).map(|i| s[i].modulus().into()).collect(), array(svd.V())))
            }
            fn eigh(a: ArrayView2<'_, $t>) -> Option<Vec<f64>> {
                let a = Mat::<$t>::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]]);
                let values = a.self_adjoint_eigenvalues(Side::Lower).ok()?;
                Some(values.into_iter().map(f64::from).collect())
            }
            #[inline(always)]
            fn fused(self, factor: Self, term: Self) -> Self {
                $fused(self, factor, term)
            }
            #[inline(always)]
            fn real_part(self) -> Self {
                $real_part(self)
            }
            #[inline(always)]
            fn over(self, divisor: Self) -> Self {
                $over(self, divisor)
            }
        }
    };
}
impl_decompose!(f32, f32::mul_add, std::convert::identity, |a, b| a / b);
impl_decompose!(f64, f64::mul_add, std::convert::identity, |a, b| a / b);
impl_decompose!(Complex<f32>, complex_fused, |z: Self| Complex::from(z.re), complex_over);
impl_decompose!(Complex<f64>, complex_fused, |z: Self| Complex::from(z.re), complex_over);

#[inline(always)]
fn complex_fused<R: Float>(a: Complex<R>, b: Complex<R>, c: Complex<R>) -> Complex<R> {
    let re = a.re.mul_add(b.re, (-a.im).mul_add(b.im, c.re));
    let im = a.re.mul_add(b.im, a.im.mul_add(b.re, c.im));
    Complex::new(re, im)
}

/// `a / b` by the ratio of the smaller to the larger part of b (Smith).
#[inline(always)]
fn complex_over<R: Float>(a: Complex<R>, b: Complex<R>) -> Complex<R> {
    if b.im.abs() <= b.re.abs() {
        let ratio = b.im / b.re;
        let size = b.re + b.im * ratio;
        Complex::new((a.re + a.im * ratio) / size, (a.im - a.re * ratio) / size)
    } else {
        let ratio = b.re / b.im;
        let size = b.im + b.re * ratio;
        Complex::new((a.re * ratio + a.im) / size, (a.im * ratio - a.re) / size)
    }
}

/// `(U, s, V)` with `A = U diag(s) Vᴴ`, thin, largest value first; `None` if `a` holds a number that is not finite.
pub(crate) fn svd<E: Field>(a: ArrayView2<'_, E>) -> Option<(Array2<E>, Vec<f64>, Array2<E>)> {
    if a.iter().any(|v| !v.modulus().is_finite()) {
        return None;
    }
    if a.is_empty() {
        return Some((Array2::zeros((a.nrows(), 0)), Vec::new(), Array2::zeros((a.ncols(), 0))));
    }
    E::svd(a)
}

/// Eigenvalues of a Hermitian matrix, smallest first; `None` if `a` holds a number that is not finite.
pub(crate) fn eigh<E: Field>(a: ArrayView2<'_, E>) -> Option<Vec<f64>> {
    if a.iter().any(|v| !v.modulus().is_finite()) {
        return None;
    }
    if a.is_empty() { Some(Vec::new()) } else { E::eigh(a) }
}

/// `A = Q R` by reflections, `Q = H_0 H_1 ...`, `H = I - scale v vᴴ`.
#[derive(Clone)]
pub(crate) struct Qr<E: Field> {
    vectors: Vec<Vec<E>>, // vector j acts on rows j ..
    scales: Vec<E>,
    r: Array2<E>,
}

impl<E: Field> Qr<E> {
    /// The factors of `a`, (m, n).
    pub(crate) fn new(a: ArrayView2<'_, E>) -> Self {
        let mut r = a.as_standard_layout().into_owned();
        let (m, n) = r.dim();
        let count = n.min(m);
        let (mut vectors, mut scales) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for j in 0..count {
            let (v, scale) = reflector(r.slice(s![j.., j]).iter().copied().collect());
            reflect(&v, scale, &mut rows_of(&mut r)[j * n..], n, j);
            r.slice_mut(s![j + 1.., j]).fill(E::zero());
            vectors.push(v);
            scales.push(scale);
        }
        Self { vectors, scales, r }
    }

    /// The triangular factor with as many rows as `A` has, (m, n).
    pub(crate) fn full_r(&self) -> &Array2<E> {
        &self.r
    }

    /// The triangular factor, (min(m, n), n).
    pub(crate) fn r(&self) -> ArrayView2<'_, E> {
        self.r.slice(s![..self.vectors.len(), ..])
    }

    /// Whether an odd number of reflections made Q, so that its determinant is -1 and not 1.
    pub(crate) fn is_odd(&self) -> bool {
        self.scales.iter().filter(|scale| !scale.is_zero()).count() % 2 == 1
    }

    /// `b ← Qᴴ b`; `b`: (m, k).
    pub(crate) fn apply_adjoint(&self, b: &mut Array2<E>) {
        let (width, rows) = (b.ncols(), rows_of(b));
        for (j, (v, &scale)) in self.vectors.iter().zip(&self.scales).enumerate() {
            reflect(v, scale, &mut rows[j * width..], width, 0);
        }
    }

    /// `b ← Q b`; `b`: (m, k).
    pub(crate) fn apply(&self, b: &mut Array2<E>) {
        let (width, rows) = (b.ncols(), rows_of(b));
        for (j, (v, &scale)) in self.vectors.iter().zip(&self.scales).enumerate().rev() {
            reflect(v, scale, &mut rows[j * width..], width, 0);
        }
    }

    /// The first `columns` columns of Q, (m, columns); all of them make a square unitary matrix.
    pub(crate) fn q(&self, columns: usize) -> Array2<E> {
        let mut q = Array2::zeros((self.r.nrows(), columns));
        q.diag_mut().fill(E::one());
        self.apply(&mut q);
        q
    }
}

/// Thin `(Q, R)`: (m, min(m, n)) and (min(m, n), n).
pub(crate) fn qr<E: Field>(a: ArrayView2<'_, E>) -> (Array2<E>, Array2<E>) {
    let qr = Qr::new(a);
    (qr.q(qr.vectors.len()), qr.r().to_owned())
}

/// `(v, scale)` such that `I - scale v vᴴ` sends x to a multiple of the first unit vector.
fn reflector<E: Field>(mut x: Vec<E>) -> (Vec<E>, E) {
    let largest = x.iter().map(|x| x.modulus()).fold(E::Real::zero(), larger);
    if largest.is_zero() || x.len() < 2 {
        return (x, E::zero());
    }
    let square = |x: &[E]| x.iter().map(|x| x.modulus() * x.modulus()).fold(E::Real::zero(), |a, b| a + b);
    let unit = E::from_real(largest);
    x.iter_mut().for_each(|x| *x = x.over(unit));
    let norm = square(&x).sqrt();
    let size = x[0].modulus();
    let phase = if size.is_zero() { E::one() } else { x[0].over(E::from_real(size)) };
    x[0] += phase * E::from_real(norm);
    let two = E::Real::one() + E::Real::one();
    let scale = E::from_real(two / square(&x));
    (x, scale)
}

/// `a ← (I - scale v vᴴ) a` of the columns `from ..` of rows of `width` numbers.
fn reflect<E: Field>(v: &[E], scale: E, a: &mut [E], width: usize, from: usize) {
    if scale.is_zero() || width == from {
        return;
    }
    super::vectorize(
        #[inline(always)]
        || {
            let mut w = vec![E::zero(); width - from];
            for (v, row) in v.iter().zip(a.chunks_exact(width)) {
                let v = v.conj() * scale;
                w.iter_mut().zip(&row[from..]).for_each(|(w, &a)| *w += v * a);
            }
            for (&v, row) in v.iter().zip(a.chunks_exact_mut(width)) {
                row[from..].iter_mut().zip(&w).for_each(|(a, &w)| *a -= v * w);
            }
        },
    );
}

/// `P A = L U` with partial pivoting.
pub(crate) struct Lu<E> {
    lu: Array2<E>,
    order: Vec<usize>,
    odd: bool,
}

impl<E: Field> Lu<E> {
    /// The factors of a square matrix; `None` if a pivot is zero or not finite.
    pub(crate) fn new(a: ArrayView2<'_, E>) -> Option<Self> {
        let n = a.nrows();
        let mut lu = a.as_standard_layout().into_owned();
        let mut order: Vec<usize> = (0..n).collect();
        let mut odd = false;
        for k in 0..n {
            let mut best = k;
            for i in k + 1..n {
                if lu[[i, k]].modulus() > lu[[best, k]].modulus() {
                    best = i;
                }
            }
            let size = lu[[best, k]].modulus();
            if size.is_zero() || !size.is_finite() {
                return None;
            }
            if best != k {
                (0..n).for_each(|j| lu.swap([k, j], [best, j]));
                order.swap(k, best);
                odd = !odd;
            }
            let (top, mut below) = lu.view_mut().split_at(ndarray::Axis(0), k + 1);
            let pivots = top.row(k);
            for mut row in below.rows_mut() {
                let factor = row[k].over(pivots[k]);
                row[k] = factor;
                row.iter_mut().zip(&pivots).skip(k + 1).for_each(|(a, &p)| *a -= factor * p);
            }
        }
        Some(Self { lu, order, odd })
    }

    /// `A⁻¹ b`
    pub(crate) fn solve(&self, b: ArrayView2<'_, E>) -> Array2<E> {
        let n = self.lu.nrows();
        let mut x = Array2::zeros(b.raw_dim());
        for (i, &from) in self.order.iter().enumerate() {
            x.row_mut(i).assign(&b.row(from));
        }
        for i in 0..n {
            let (done, mut rest) = x.view_mut().split_at(ndarray::Axis(0), i);
            let mut row = rest.row_mut(0);
            for (j, done) in done.rows().into_iter().enumerate() {
                row.scaled_add(-self.lu[[i, j]], &done);
            }
        }
        back_substitute(self.lu.view(), &mut x);
        x
    }

    /// `A⁻¹`
    pub(crate) fn inverse(&self) -> Array2<E> {
        self.solve(Array2::eye(self.lu.nrows()).view())
    }

    /// `det A` as a number of modulus one and the logarithm of its modulus.
    pub(crate) fn log_det(&self) -> (E, E::Real) {
        let start = if self.odd { -E::one() } else { E::one() };
        self.lu.diag().iter().fold((start, E::Real::zero()), |(phase, log), &u| {
            let size = u.modulus();
            (phase * u.over(E::from_real(size)), log + size.ln())
        })
    }
}

/// `x ← U⁻¹ x` with U the upper triangle of `u`, whose diagonal is nonzero.
pub(crate) fn back_substitute<E: Field>(u: ArrayView2<'_, E>, x: &mut Array2<E>) {
    for i in (0..u.ncols()).rev() {
        let (mut head, tail) = x.view_mut().split_at(ndarray::Axis(0), i + 1);
        let mut row = head.row_mut(i);
        for (j, tail) in tail.rows().into_iter().enumerate().take(u.ncols() - i - 1) {
            row.scaled_add(-u[[i, i + 1 + j]], &tail);
        }
        let pivot = u[[i, i]];
        row.mapv_inplace(|x| x.over(pivot));
    }
}

/// `b A⁻¹`; `None` if `a` is singular.
pub(crate) fn solve_right<E: Field>(b: ArrayView2<'_, E>, a: ArrayView2<'_, E>) -> Option<Array2<E>> {
    if a.dim() == (1, 1) {
        let (pivot, size) = (a[[0, 0]], a[[0, 0]].modulus());
        return (size.is_finite() && !size.is_zero()).then(|| b.mapv(|b| b.over(pivot)));
    }
    Some(Lu::new(a.t())?.solve(b.t()).reversed_axes())
}

/// `A⁻¹`; `None` if `a` is singular.
pub(crate) fn inverse<E: Field>(a: ArrayView2<'_, E>) -> Option<Array2<E>> {
    if a.dim() == (1, 1) {
        return solve_right(Array2::eye(1).view(), a);
    }
    Some(Lu::new(a)?.inverse())
}

/// The lower Cholesky factor of a Hermitian matrix, read from its lower triangle; the first pivot that is not
/// positive otherwise.
pub(crate) fn cholesky<E: Field>(a: ArrayView2<'_, E>) -> std::result::Result<Array2<E>, E> {
    let n = a.nrows();
    let mut l = Array2::zeros((n, n));
    for j in 0..n {
        for i in j..n {
            let inner: E = (0..j).map(|k| l[[i, k]] * E::conj(l[[j, k]])).sum();
            let rest = a[[i, j]] - inner;
            if i > j {
                l[[i, j]] = rest.over(l[[j, j]]);
                continue;
            }
            // The diagonal of a Hermitian matrix is real; what rounding leaves beside it is dropped.
            let two = E::one() + E::one();
            let real = (rest + rest.conj()) / two;
            let size = real.modulus();
            if E::from_real(size) != real || size.is_zero() || !size.is_finite() {
                return Err(real);
            }
            l[[j, j]] = E::from_real(size.sqrt());
        }
    }
    Ok(l)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::adjoint;

    fn random(m: usize, n: usize, seed: u64) -> Array2<Complex<f64>> {
        let mut state = seed.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(3_037_000_493);
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / (1u64 << 30) as f64 - 1.0
        };
        Array2::from_shape_simple_fn((m, n), || Complex::new(next(), next()))
    }

    fn close(a: &Array2<Complex<f64>>, b: &Array2<Complex<f64>>) {
        assert_eq!(a.dim(), b.dim());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).norm() < 1e-12), "{a} against {b}");
    }

    #[test]
    fn orthogonal_factors_multiply_back_for_tall_wide_and_empty_matrices() {
        for (m, n) in [(5, 3), (3, 5), (4, 4), (1, 1), (0, 3), (3, 0), (1, 4)] {
            let a = random(m, n, 1);
            let (q, r) = qr(a.view());
            close(&q.dot(&r), &a);
            let full = Qr::new(a.view());
            let q = full.q(m);
            close(&adjoint(q.view()).dot(&q), &Array2::eye(m));
            close(&q.dot(full.full_r()), &a);
            let mut b = a.clone();
            full.apply_adjoint(&mut b);
            close(&b, full.full_r());
            let (u, s, v) = svd(a.view()).unwrap();
            let s = Array2::from_diag(&s.iter().map(|&s| Complex::from(s)).collect::<ndarray::Array1<_>>());
            close(&u.dot(&s).dot(&adjoint(v.view())), &a);
        }
    }

    #[test]
    fn solutions_satisfy_their_systems_and_singular_ones_are_refused() {
        for n in 0..6 {
            let (a, b) = (random(n, n, 2), random(n, 2, 3));
            close(&a.dot(&Lu::new(a.view()).unwrap().solve(b.view())), &b);
            close(&solve_right(b.t(), a.view()).unwrap().dot(&a), &b.t().to_owned());
            close(&inverse(a.view()).unwrap().dot(&a), &Array2::eye(n));
        }
        assert!(inverse(Array2::<f64>::ones((2, 2)).view()).is_none());
        assert!(inverse(Array2::from_elem((1, 1), f64::NAN).view()).is_none());
    }

    #[test]
    fn determinants_and_eigenvalues_of_hermitian_matrices_agree() {
        let a = random(5, 5, 4);
        let h = &a + &adjoint(a.view());
        let (phase, log) = Lu::new(h.view()).unwrap().log_det();
        let values = eigh(h.view()).unwrap();
        let expected: f64 = values.iter().product();
        assert!((phase * log.exp() - expected).norm() < 1e-10 * expected.abs());
        assert!(values.is_sorted());
    }

    #[test]
    fn cholesky_multiplies_back_or_names_the_pivot() {
        let a = random(4, 4, 5);
        let h = a.dot(&adjoint(a.view()));
        let l = cholesky(h.view()).unwrap();
        close(&l.dot(&adjoint(l.view())), &h);
        assert_eq!(cholesky(ndarray::array![[1.0, 2.0], [2.0, 1.0]].view()), Err(-3.0));
    }
}
