//! The transition A of a semiseparable matrix: scalar, diagonal or dense, chosen by type.

use std::fmt::Debug;

use ndarray::{Array1, Array2, Array3, ArrayView2, Axis};

use super::state::{State, axpy, dot_conj, view, view_mut};
use crate::error::{Result, check_shape};
use crate::linalg::set_matmul;
use crate::scalar::Field;

mod sealed {
    pub trait Sealed {}
}

/// Which matrix made of `A_k` is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// `A_k`
    Plain,
    /// `A_kᵀ`
    Transposed,
    /// `A_kᴴ`
    Adjoint,
}

/// The transition matrices A_0 .. A_{len-1} of a recurrence, by the numbers that determine them.
///
/// The set is closed: [`ScalarTransition`], [`DiagonalTransition`], [`DenseTransition`]. A product of
/// transitions is again one of the same kind, of length 1.
pub trait Transition<E: Field>: Clone + Debug + Send + Sync + sealed::Sealed {
    /// Number of steps.
    fn len(&self) -> usize;

    /// Whether there are no steps.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `Ok` if the transition has `len` steps on states of length `order`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) naming tensor `a`.
    fn check(&self, len: usize, order: usize) -> Result<()>;

    /// The zero transition, the start of a sum of cotangents.
    fn zeros(len: usize, order: usize) -> Self;

    /// One step that changes nothing.
    fn identity(order: usize) -> Self;

    /// `A_k` as a dense matrix, (order, order).
    fn step(&self, k: usize, order: usize) -> Array2<E>;

    /// `h ← A_k h`, or with the transposed or adjoint `A_k`.
    #[doc(hidden)]
    fn apply(&self, how: Apply, k: usize, h: &mut State<E>);

    /// `product ← A_k product`, where `product` has length 1.
    #[doc(hidden)]
    fn compose(&self, k: usize, product: &mut Self);

    /// `self_k += λ hᴴ`, kept to the numbers that the transition has. `h`: as `lambda`, flat.
    #[doc(hidden)]
    fn add_cotangent(&mut self, k: usize, lambda: &State<E>, h: &[E]);

    /// `self += other`
    #[doc(hidden)]
    fn add(&mut self, other: &Self);

    /// The numbers of all steps in a row and how many there are a step, if `A_k` acts elementwise.
    #[doc(hidden)]
    fn elementwise(&self) -> Option<(&[E], usize)>;
}

/// A_k = a_k I.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalarTransition<E>(Array1<E>);

/// A_k = diag(a_k).
#[derive(Debug, Clone, PartialEq)]
pub struct DiagonalTransition<E>(Array2<E>);

/// A_k dense.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseTransition<E>(Array3<E>);

macro_rules! impl_values {
    ($name:ident, $array:ident, $shape:literal) => {
        impl<E: Field> $name<E> {
            #[doc = concat!("The transition with the numbers `a`, ", $shape, ".")]
            pub fn new(a: $array<E>) -> Self {
                Self(if a.is_standard_layout() { a } else { a.as_standard_layout().into_owned() })
            }

            #[doc = concat!("Its numbers, ", $shape, ".")]
            pub fn values(&self) -> &$array<E> {
                &self.0
            }
        }
        impl<E> sealed::Sealed for $name<E> {}
    };
}
impl_values!(ScalarTransition, Array1, "(len,)");
impl_values!(DiagonalTransition, Array2, "(len, order)");
impl_values!(DenseTransition, Array3, "(len, order, order): step, row, column");

impl<E: Field> Transition<E> for ScalarTransition<E> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn check(&self, len: usize, _order: usize) -> Result<()> {
        check_shape("a", "(len,)", &[len], self.0.shape())
    }

    fn zeros(len: usize, _order: usize) -> Self {
        Self(Array1::zeros(len))
    }

    fn identity(_order: usize) -> Self {
        Self(Array1::ones(1))
    }

    fn step(&self, k: usize, order: usize) -> Array2<E> {
        Array2::from_diag_elem(order, self.0[k])
    }

    #[inline(always)]
    fn apply(&self, how: Apply, k: usize, h: &mut State<E>) {
        let a = if how == Apply::Adjoint { self.0[k].conj() } else { self.0[k] };
        h.values.iter_mut().for_each(|h| *h *= a);
    }

    fn compose(&self, k: usize, product: &mut Self) {
        product.0[0] *= self.0[k];
    }

    #[inline(always)]
    fn add_cotangent(&mut self, k: usize, lambda: &State<E>, h: &[E]) {
        self.0[k] += dot_conj(&lambda.values, h);
    }

    fn add(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    fn elementwise(&self) -> Option<(&[E], usize)> {
        self.0.as_slice().map(|a| (a, 1))
    }
}

impl<E: Field> Transition<E> for DiagonalTransition<E> {
    fn len(&self) -> usize {
        self.0.nrows()
    }

    fn check(&self, len: usize, order: usize) -> Result<()> {
        check_shape("a", "(len, order)", &[len, order], self.0.shape())
    }

    fn zeros(len: usize, order: usize) -> Self {
        Self(Array2::zeros((len, order)))
    }

    fn identity(order: usize) -> Self {
        Self(Array2::ones((1, order)))
    }

    fn step(&self, k: usize, _order: usize) -> Array2<E> {
        Array2::from_diag(&self.0.row(k))
    }

    #[inline(always)]
    fn apply(&self, how: Apply, k: usize, h: &mut State<E>) {
        let conj = |a: &E| if how == Apply::Adjoint { a.conj() } else { *a };
        let a = self.0.row(k);
        if h.columns == 1 {
            h.values.iter_mut().zip(a).for_each(|(h, a)| *h *= conj(a));
            return;
        }
        for (n, a) in a.iter().enumerate() {
            let a = conj(a);
            h.row_mut(n).iter_mut().for_each(|h| *h *= a);
        }
    }

    fn compose(&self, k: usize, product: &mut Self) {
        product.0.row_mut(0).zip_mut_with(&self.0.row(k), |p, a| *p *= *a);
    }

    #[inline(always)]
    fn add_cotangent(&mut self, k: usize, lambda: &State<E>, h: &[E]) {
        let columns = lambda.columns;
        let mut a = self.0.row_mut(k);
        if columns == 1 {
            a.iter_mut().zip(&lambda.values).zip(h).for_each(|((a, l), h)| *a += *l * h.conj());
            return;
        }
        for (n, a) in a.iter_mut().enumerate() {
            *a += dot_conj(lambda.row(n), &h[n * columns..(n + 1) * columns]);
        }
    }

    fn add(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    fn elementwise(&self) -> Option<(&[E], usize)> {
        self.0.as_slice().map(|a| (a, self.0.ncols()))
    }
}

/// From this many columns on, `A_k h` is left to the dense product, which is made for blocks.
const GEMM_COLUMNS: usize = 8;

impl<E: Field> Transition<E> for DenseTransition<E> {
    fn len(&self) -> usize {
        self.0.len_of(Axis(0))
    }

    fn check(&self, len: usize, order: usize) -> Result<()> {
        check_shape("a", "(len, order, order)", &[len, order, order], self.0.shape())
    }

    fn zeros(len: usize, order: usize) -> Self {
        Self(Array3::zeros((len, order, order)))
    }

    fn identity(order: usize) -> Self {
        Self(Array2::eye(order).insert_axis(Axis(0)))
    }

    fn step(&self, k: usize, _order: usize) -> Array2<E> {
        self.0.index_axis(Axis(0), k).to_owned()
    }

    #[inline(always)]
    fn apply(&self, how: Apply, k: usize, h: &mut State<E>) {
        let (order, columns) = (h.order, h.columns);
        let a = self.0.index_axis(Axis(0), k);
        let a = if how == Apply::Plain { a } else { a.reversed_axes() };
        h.scratch.clear();
        h.scratch.resize(order * columns, E::zero());
        if columns >= GEMM_COLUMNS {
            let conjugated = (how == Apply::Adjoint).then(|| a.mapv(E::conj));
            let a = conjugated.as_ref().map_or(a, |a| a.view());
            set_matmul(view_mut(&mut h.scratch, order, columns), a, view(&h.values, order, columns));
        } else {
            for ((n, m), a) in a.indexed_iter() {
                let a = if how == Apply::Adjoint { a.conj() } else { *a };
                let source = &h.values[m * columns..(m + 1) * columns];
                axpy(&mut h.scratch[n * columns..(n + 1) * columns], a, source);
            }
        }
        std::mem::swap(&mut h.values, &mut h.scratch);
    }

    fn compose(&self, k: usize, product: &mut Self) {
        let next = crate::linalg::matmul(self.0.index_axis(Axis(0), k), product.0.index_axis(Axis(0), 0));
        product.0.index_axis_mut(Axis(0), 0).assign(&next);
    }

    #[inline(always)]
    fn add_cotangent(&mut self, k: usize, lambda: &State<E>, h: &[E]) {
        let h: ArrayView2<'_, E> = view(h, lambda.order, lambda.columns);
        for ((n, m), a) in self.0.index_axis_mut(Axis(0), k).indexed_iter_mut() {
            *a += lambda.row(n).iter().zip(h.row(m)).map(|(l, h)| *l * h.conj()).sum::<E>();
        }
    }

    fn add(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    fn elementwise(&self) -> Option<(&[E], usize)> {
        None
    }
}
