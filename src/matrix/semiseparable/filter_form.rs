//! The paper's filter form and its conversion to the predictor form.

use std::ops::Range;

use ndarray::{Array2, ArrayView2};

use super::read::{self, FactoredBlock, MainDiagonal};
use super::state::State;
use super::transition::{Apply, Transition};
use super::{Semiseparable, check_generators, standard};
use crate::error::Result;
use crate::matrix::{Cotangent, StructuredMatrix};
use crate::scalar::Field;

/// The paper's SSS(A, B, C): an N-semiseparable matrix whose diagonal is part of the recurrence.
///
/// ```math
/// h_k = A_k h_{k-1} + B_k x_k, \quad y_k = C_k^\top h_k, \qquad
/// M_{ij} = C_i^\top A_i \cdots A_{j+1} B_j \ (i \ge j)
/// ```
///
/// It multiplies through its [predictor form](Self::predictor), which costs one more array of the size of C at
/// each call; to multiply often, convert once. Source: paper Definition 3.2 and equation (3).
///
/// # Example
/// ```
/// use ndarray::{array, Array2};
/// use semisep::matrix::{FilterForm, ScalarTransition, StructuredMatrix};
///
/// let ones = Array2::ones((3, 1));
/// let m = FilterForm::new(ScalarTransition::new(array![0.0, 0.5, 0.25]), ones.clone(), ones)?;
/// assert_eq!(m.to_dense(), array![[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.125, 0.25, 1.0]]);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FilterForm<E, A> {
    transition: A,
    b: Array2<E>, // (len, order)
    c: Array2<E>, // (len, order)
}

impl<E: Field, A: Transition<E>> FilterForm<E, A> {
    /// The matrix with these generators. `b`, `c`: (len, order).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if they disagree.
    pub fn new(transition: A, b: Array2<E>, c: Array2<E>) -> Result<Self> {
        check_generators(&transition, &b, &c)?;
        Ok(Self { transition, b: standard(b), c: standard(c) })
    }

    /// The transition A.
    pub fn transition(&self) -> &A {
        &self.transition
    }

    /// The input generator B, (len, order).
    pub fn b(&self) -> &Array2<E> {
        &self.b
    }

    /// The output generator C, (len, order).
    pub fn c(&self) -> &Array2<E> {
        &self.c
    }

    /// The same matrix in predictor form: generators A, B, `A_kᵀ C_k` and the diagonal `C_kᵀ B_k`.
    pub fn predictor(&self) -> Semiseparable<E, A> {
        let mut h = State::zeros(self.b.ncols(), 1);
        let mut c = self.c.clone();
        for (k, mut c) in c.outer_iter_mut().enumerate() {
            h.values.clear();
            h.values.extend(c.iter());
            self.transition.apply(Apply::Transposed, k, &mut h);
            c.iter_mut().zip(&h.values).for_each(|(c, h)| *c = *h);
        }
        let d = self.b.outer_iter().zip(self.c.outer_iter()).map(|(b, c)| b.dot(&c)).collect();
        Semiseparable { transition: self.transition.clone(), b: self.b.clone(), c, d }
    }

    /// Cotangents of these generators, given those of the predictor form.
    ///
    /// With c' = Aᵀ c and d = cᵀ b: `dA += conj(c) dc'ᵀ`, `dc = conj(A) dc' + conj(b) dd`, `db += conj(c) dd`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `grad` has another length or order.
    pub fn predictor_vjp(&self, grad: Semiseparable<E, A>) -> Result<Self> {
        check_generators(&self.transition, &self.b, &grad.b)?;
        let Semiseparable { mut transition, mut b, mut c, d } = grad;
        let order = self.b.ncols();
        let (mut dc, mut source) = (State::zeros(order, 1), State::zeros(order, 1));
        for k in 0..d.len() {
            source.values.clear();
            source.values.extend(self.c.row(k).iter().map(|c| c.conj()));
            dc.values.clear();
            dc.values.extend(c.row(k).iter().map(|c| c.conj()));
            transition.add_cotangent(k, &source, &dc.values);
            self.transition.apply(Apply::Plain, k, &mut dc);
            for n in 0..order {
                c[[k, n]] = dc.values[n].conj() + d[k] * self.b[[k, n]].conj();
                b[[k, n]] += d[k] * self.c[[k, n]].conj();
            }
        }
        Ok(Self { transition, b, c })
    }

    /// The entry in row `i` and column `j`, in |i - j| steps.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if the index is out of range.
    pub fn entry(&self, i: usize, j: usize) -> Result<E> {
        read::check_index(i, j, self.b.nrows())?;
        if i < j {
            return Ok(E::zero());
        }
        let mut h = State::zeros(self.b.ncols(), 1);
        h.values.iter_mut().zip(self.b.row(j)).for_each(|(h, b)| *h = *b);
        (j + 1..=i).for_each(|k| self.transition.apply(Apply::Plain, k, &mut h));
        Ok(self.c.row(i).iter().zip(&h.values).map(|(c, h)| *c * *h).sum())
    }

    /// A block on or below the diagonal as left, centre and right factor.
    ///
    /// ```math
    /// \text{left}_i = C_i^\top A_i \cdots A_{r+1}, \quad \text{centre} = A_r \cdots A_{s}, \quad
    /// \text{right}_j = A_{s-1} \cdots A_{j+1} B_j
    /// ```
    /// with r the first row and s the end of the columns (paper Lemma 3.3, equation 5).
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if the block leaves the matrix or has an entry above the diagonal.
    pub fn factored_block(&self, rows: Range<usize>, columns: Range<usize>) -> Result<FactoredBlock<E>> {
        let len = self.b.nrows();
        read::check_block(&rows, &columns, len, MainDiagonal::Included)?;
        let order = self.b.ncols();
        let after_first = rows.start + 1;
        let (left, _) = read::left(&self.transition, &self.c, rows.clone(), after_first);
        // The corner entry on the diagonal: column s - 1 = r, whose own transition does not take part.
        let centre = read::product(&self.transition, columns.end..after_first.min(len), order);
        let right = read::right(&self.transition, &self.b, columns);
        Ok(FactoredBlock { left, centre, right })
    }

    /// Numerical ranks of the maximal blocks `M[k:, :k+1]`, at most the order (paper Definition 3.1).
    ///
    /// # Errors
    /// As [`maximal_block_ranks`](super::maximal_block_ranks). O(len⁴) time: for checking small matrices.
    pub fn ranks(&self, tolerance: f64) -> Result<Vec<usize>> {
        super::maximal_block_ranks(self.to_dense().view(), MainDiagonal::Included, tolerance)
    }
}

impl<E: Field, A: Transition<E>> From<FilterForm<E, A>> for Semiseparable<E, A> {
    fn from(filter: FilterForm<E, A>) -> Self {
        filter.predictor()
    }
}

impl<E: Field, A: Transition<E>> StructuredMatrix<E> for FilterForm<E, A> {
    type Gradient = Self;

    fn shape(&self) -> (usize, usize) {
        (self.b.nrows(), self.b.nrows())
    }

    fn to_dense(&self) -> Array2<E> {
        let len = self.b.nrows();
        let mut dense = Array2::zeros((len, len));
        for j in 0..len {
            let mut h = State::zeros(self.b.ncols(), 1);
            h.values.iter_mut().zip(self.b.row(j)).for_each(|(h, b)| *h = *b);
            for i in j..len {
                if i > j {
                    self.transition.apply(Apply::Plain, i, &mut h);
                }
                dense[[i, j]] = self.c.row(i).iter().zip(&h.values).map(|(c, h)| *c * *h).sum();
            }
        }
        dense
    }

    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        self.predictor().matmul(x)
    }

    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        self.predictor().adjoint_matmul(y)
    }

    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(Self, Array2<E>)> {
        let (grad, dx) = self.predictor().vjp(x, dy)?;
        Ok((self.predictor_vjp(grad)?, dx))
    }

    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<Self> {
        self.predictor_vjp(self.predictor().pull_back(d_dense)?)
    }
}

impl<E: Field, A: Transition<E>> Cotangent for FilterForm<E, A> {
    fn accumulate(&mut self, other: &Self) {
        self.transition.add(&other.transition);
        self.b += &other.b;
        self.c += &other.c;
    }
}
