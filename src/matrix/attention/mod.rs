//! Structured masked attention (L ∘ Q Kᵀ) V for any mask.
//!
//! The one contraction of four tensors has two useful orders (paper section 4): [`Order::Quadratic`] forms the
//! attention matrix, [`Order::Linear`] never does and multiplies by the mask instead, so that it is as fast as the
//! mask's own product.

pub mod features;
pub mod heads;
mod linear;
mod normalized;
mod polynomial;
mod quadratic;
mod random_features;

use ndarray::{Array2, ArrayView2};

use crate::error::{Error, Result, check_shape};
use crate::matrix::{Cotangent, StructuredMatrix};
use crate::scalar::Field;

/// The order in which the four tensors are contracted; never changes the answer beyond rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `G = Q Kᵀ`, `M = L ∘ G`, `Y = M V` (paper equation 13): O(T S (N + P)) time, O(T S) memory.
    Quadratic,
    /// `Z = V ⊗ K`, `H = L Z`, `Y = Q · H` (paper equation 15): N P products with the mask, in blocks of columns
    /// so that memory beyond inputs and outputs is O((T + S) · 64).
    Linear,
}

/// The matrix of masked attention, by its mask and views of its queries and keys.
///
/// ```math
/// M = L \circ Q K^\top, \qquad Y = M V
/// ```
///
/// In the words of state space models Q, K, V are C, B, X. The matrix is T × S; queries are (T, N), keys (S, N),
/// values (S, P). Complex keys are not conjugated. Source: paper equations (12), (13), (15) and Definition 4.2.
///
/// # Example
/// ```
/// use ndarray::{array, Array2};
/// use semisep::matrix::attention::Order;
/// use semisep::matrix::{FilterForm, MaskedAttention, Transition};
///
/// let ones = Array2::ones((3, 1));
/// let mask = FilterForm::uniform(Transition::Scalar(array![0.9, 0.9, 0.9]), ones.clone(), ones)?;
/// let (q, k) = (array![[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
/// let attention = MaskedAttention::new(&mask, q.view(), k.view())?;
/// let v = array![[1.0], [-1.0], [2.0]];
/// let (y, same) = (attention.multiply(v.view(), Order::Linear)?, attention.multiply(v.view(), Order::Quadratic)?);
/// assert!((y - same).iter().all(|e: &f64| e.abs() < 1e-14));
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug)]
pub struct MaskedAttention<'a, E, L> {
    mask: &'a L,          // (T, S)
    q: ArrayView2<'a, E>, // (T, N)
    k: ArrayView2<'a, E>, // (S, N)
}

/// Cotangents of the generators of a [`MaskedAttention`]; `G` is the mask's own gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionGradient<E, G> {
    /// Cotangent of the queries, (T, N).
    pub q: Array2<E>,
    /// Cotangent of the keys, (S, N).
    pub k: Array2<E>,
    /// Cotangent of the mask's generators.
    pub mask: G,
}

/// Cotangents of an attention matrix with mask `L` and of the values, (S, P).
pub type AttentionVjp<E, L> = (AttentionGradient<E, <L as StructuredMatrix<E>>::Gradient>, Array2<E>);

impl<'a, E: Field, L: StructuredMatrix<E>> MaskedAttention<'a, E, L> {
    /// The attention matrix with this mask, (T, S), queries `q`, (T, N), and keys `k`, (S, N).
    ///
    /// # Errors
    /// [`Error::Shape`] if they disagree.
    pub fn new(mask: &'a L, q: ArrayView2<'a, E>, k: ArrayView2<'a, E>) -> Result<Self> {
        check_shape("k", "(S, width of q)", &[k.nrows(), q.ncols()], k.shape())?;
        let (rows, columns) = mask.shape();
        check_shape("mask", "(rows of q, rows of k)", &[q.nrows(), k.nrows()], &[rows, columns])?;
        Ok(Self { mask, q, k })
    }

    /// `Y = (L ∘ Q Kᵀ) V` in the given order. `v`: (S, P); result: (T, P).
    ///
    /// # Errors
    /// [`Error::Shape`] if `v` has not S rows, and whatever the mask reports.
    pub fn multiply(&self, v: ArrayView2<'_, E>, order: Order) -> Result<Array2<E>> {
        self.check_v(v)?;
        match order {
            Order::Quadratic => Ok(quadratic::matmul(self, v)),
            Order::Linear => linear::matmul(self, v),
        }
    }

    /// Cotangents of queries, keys, mask and of `v`, given the cotangent `dy` of [`multiply`](Self::multiply).
    /// `v`: (S, P); `dy`: (T, P).
    ///
    /// The quadratic order passes the cotangent of every entry to the mask's `pull_back`, the linear one the
    /// cotangents of its products to the mask's `vjp`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `v` or `dy` has another shape, and whatever the mask reports.
    pub fn multiply_vjp(
        &self,
        v: ArrayView2<'_, E>,
        dy: ArrayView2<'_, E>,
        order: Order,
    ) -> Result<AttentionVjp<E, L>>
    where
        L::Gradient: Cotangent,
    {
        self.check_v(v)?;
        check_shape("dy", "(T, P)", &[self.q.nrows(), v.ncols()], dy.shape())?;
        match order {
            Order::Quadratic => quadratic::matmul_vjp(self, v, dy),
            Order::Linear => linear::matmul_vjp(self, v, dy),
        }
    }

    fn check_v(&self, v: ArrayView2<'_, E>) -> Result<()> {
        if v.nrows() == self.k.nrows() {
            return Ok(());
        }
        Err(Error::shape("v", format!("(S, P) with S = {}", self.k.nrows()), v.shape()))
    }
}

/// The products use the linear order.
impl<E: Field, L: StructuredMatrix<E>> StructuredMatrix<E> for MaskedAttention<'_, E, L>
where
    L::Gradient: Cotangent,
{
    type Gradient = AttentionGradient<E, L::Gradient>;

    fn shape(&self) -> (usize, usize) {
        self.mask.shape()
    }

    fn to_dense(&self) -> Array2<E> {
        quadratic::dense(self)
    }

    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        self.multiply(x, Order::Linear)
    }

    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        if y.nrows() != self.q.nrows() {
            return Err(Error::shape("y", format!("(T, P) with T = {}", self.q.nrows()), y.shape()));
        }
        linear::adjoint_matmul(self, y)
    }

    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(Self::Gradient, Array2<E>)> {
        self.multiply_vjp(x, dy, Order::Linear)
    }

    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<Self::Gradient> {
        let (rows, columns) = self.shape();
        check_shape("d_dense", "(T, S)", &[rows, columns], d_dense.shape())?;
        quadratic::pull_back(self, d_dense)
    }
}

impl<E: Field, G: Cotangent> Cotangent for AttentionGradient<E, G> {
    fn accumulate(&mut self, other: &Self) {
        self.q += &other.q;
        self.k += &other.k;
        self.mask.accumulate(&other.mask);
    }
}
