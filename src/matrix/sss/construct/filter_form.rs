//! The paper's filter form and its conversions to and from the predictor form.

use std::ops::Range;

use ndarray::{Array2, ArrayView2};

use super::super::algebra::compose::Chain;
use super::super::finite::check_finite;
use super::super::kernels::{Apply, add_outer};
use super::super::recurrent::{flat, flat_mut};
use super::super::{Blocks, FactoredBlock, Sss, Transition, bare};
use crate::error::{Error, Result, check_shape};
use crate::linalg::{above, beside, matmul, svd};
use crate::matrix::{Cotangent, MainDiagonal, StructuredMatrix, maximal_block_ranks};
use crate::scalar::Field;

/// The paper's SSS(A, B, C): a lower matrix whose diagonal is part of the recurrence.
///
/// ```math
/// h_k = A_k h_{k-1} + B_k u_k, \quad y_k = C_k h_k, \qquad M_{ij} = C_i A_i \cdots A_{j+1} B_j \ (i \ge j)
/// ```
///
/// The state is read after it took in the input. The state after step k has $`N_{k+1}`$ numbers. It multiplies through its
/// [predictor form](Self::predictor), which costs one more row of matrices of the size of C at each call; to multiply
/// often, convert once. Source: paper Definition 3.2 and equation (3).
///
/// # Example
/// ```
/// use ndarray::{Array2, array};
/// use semisep::matrix::StructuredMatrix;
/// use semisep::matrix::sss::{FilterForm, Transition};
///
/// let ones = Array2::ones((3, 1));
/// let m = FilterForm::uniform(Transition::Scalar(array![0.0, 0.5, 0.25]), ones.clone(), ones)?;
/// assert_eq!(m.to_dense(), array![[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.125, 0.25, 1.0]]);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FilterForm<E> {
    orders: Vec<usize>, // N_0 .. N_n
    transition: Transition<E>,
    b: Blocks<E>, // N_{k+1} x p_k
    c: Blocks<E>, // q_k x N_{k+1}
}

impl<E: Field> FilterForm<E> {
    /// The matrix with these generators, on a state of `first` numbers before the first step.
    ///
    /// # Shapes
    /// `b`: $`(N_{k+1}, p_k)`$; `c`: $`(q_k, N_{k+1})`$; `transition`: $`(N_{k+1}, N_k)`$.
    ///
    /// # Errors
    /// As [`Sss::new`].
    pub fn new(first: usize, transition: Transition<E>, b: Blocks<E>, c: Blocks<E>) -> Result<Self> {
        let len = b.len();
        check_shape("c", "(steps of b)", &[len], &[c.len()])?;
        bare::check_steps("b", &[&b, &c])?;
        let mut orders = bare::order_table(len)?;
        orders.push(if len == 0 { 0 } else { first });
        for k in 0..len {
            let ((states, _), (outputs, found)) = (b.dims(k), c.dims(k));
            if states != found {
                let expected = format!("{:?} at step {k}: the states that b enters", (outputs, states));
                return Err(Error::shape("c", expected, &[outputs, found]));
            }
            orders.push(states);
        }
        transition.check(&orders)?;
        let numbers = |k: usize| k > 0 && b.dims(k - 1).1.max(c.dims(k - 1).0) > 0;
        bare::check_orders(&orders, &transition, numbers)?;
        bare::check_length("c", (0..len).map(|k| (c.dims(k).0, orders[k + 1] > 0)))?;
        bare::check_length("b", (0..len).map(|k| (b.dims(k).1, orders[k + 1] > 0)))?;
        Ok(Self { orders, transition, b, c })
    }

    /// The matrix of numbers (blocks of size 1) and one order.
    ///
    /// # Shapes
    /// `b`, `c`: (len, order); `transition`: len steps of that order.
    ///
    /// # Errors
    /// [`Error::Shape`] if they disagree.
    pub fn uniform(transition: Transition<E>, b: Array2<E>, c: Array2<E>) -> Result<Self> {
        let (len, order) = b.dim();
        check_shape("c", "(len, order) of b", &[len, order], c.shape())?;
        let flat = super::super::transition::into_flat;
        let (b, c) =
            (Blocks::from_uniform(len, (order, 1), flat(b)), Blocks::from_uniform(len, (1, order), flat(c)));
        Self::new(order, transition, b, c)
    }

    /// The transition A.
    pub fn transition(&self) -> &Transition<E> {
        &self.transition
    }

    /// All $`B_k`$.
    pub fn b_blocks(&self) -> &Blocks<E> {
        &self.b
    }

    /// All $`C_k`$.
    pub fn c_blocks(&self) -> &Blocks<E> {
        &self.c
    }

    /// The orders $`N_0, \ldots, N_n`$; (len + 1).
    pub fn orders(&self) -> &[usize] {
        &self.orders
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.b.len()
    }

    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.b.is_empty()
    }

    fn chain(&self) -> Chain<'_, E> {
        Chain { transition: &self.transition, orders: &self.orders }
    }

    /// The same matrix in predictor form: generators A, B, $`C_k A_k`$ and the diagonal $`C_k B_k`$. Exact.
    pub fn predictor(&self) -> Sss<E> {
        let mut c = Blocks::zeros((0..self.len()).map(|k| (self.c.dims(k).0, self.orders[k])));
        let mut d = Blocks::zeros((0..self.len()).map(|k| (self.c.dims(k).0, self.b.dims(k).1)));
        for k in 0..self.len() {
            let read = self.c.block(k);
            // C_k A_k, by A_kᵀ on columns.
            let (columns, mut moved) = (read.t().as_standard_layout().into_owned(), Vec::new());
            let rows = read.nrows();
            self.transition.apply(Apply::Transposed, k, flat(&columns), rows, self.orders[k], &mut moved);
            c.block_mut(k).assign(&super::super::kernels::view(&moved, self.orders[k], rows).t());
            d.block_mut(k).assign(&read.dot(&self.b.block(k)));
        }
        Sss::from_parts(self.transition.clone(), self.b.clone(), c, d)
    }

    /// The filter form with the transitions and inputs of a predictor form.
    ///
    /// It needs $`\tilde C_k`$ with $`\tilde C_k [A_k\ B_k] = [C_k\ D_k]`$ at every step, which the free diagonal of a
    /// predictor form may deny. The state after the last step enters nothing: where it has no such reading, it becomes
    /// the last output itself.
    ///
    /// # Errors
    /// [`Error::Value`] naming the first step whose outputs are not functions of the state after it, in these
    /// coordinates, to `tolerance` times the size of the step's generators, or a generator that is not finite; [`Error::Config`] if `tolerance` is negative
    /// or NaN.
    pub fn from_predictor(m: &Sss<E>, tolerance: f64) -> Result<Self> {
        if tolerance.is_nan() || tolerance < 0.0 {
            let reason = format!("{tolerance} is not at least 0");
            return Err(Error::Config { field: "tolerance", reason });
        }
        check_finite(m)?;
        let (len, mut transition, mut b) = (m.len(), m.transition.clone(), m.b.clone());
        let mut c = Vec::with_capacity(len);
        for k in 0..len {
            // The first state is zero: what A_0 and C_0 do to it is in no entry.
            let before = |a: Array2<E>| if k == 0 { Array2::zeros((a.nrows(), 0)) } else { a };
            let step = beside(before(m.a(k)).view(), m.b(k));
            let output = beside(before(m.c(k).to_owned()).view(), m.d(k));
            match read_off(step.view(), output.view(), tolerance) {
                Some(read) => c.push(read),
                None if k + 1 == len => {
                    let steps = (0..len).map(|i| if i == k { m.c(i).to_owned() } else { m.a(i) });
                    transition = Transition::Dense(steps.collect());
                    b = (0..len).map(|i| if i == k { m.d(i) } else { m.b(i) }.to_owned()).collect();
                    c.push(Array2::eye(output.nrows()));
                }
                None => {
                    return Err(Error::Value {
                        tensor: "d",
                        expected: "outputs that are functions of the state after the step",
                        found: format!("others at step {k}"),
                    });
                }
            }
        }
        Self::new(m.orders[0], transition, b, c.into_iter().collect())
    }

    /// Cotangents of these generators, given those of the predictor form.
    ///
    /// ```math
    /// dA_k \mathrel{+}= C_k^H\, dC'_k, \quad dC_k = dC'_k A_k^H + dD_k B_k^H, \quad dB_k \mathrel{+}= C_k^H\, dD_k
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if `grad` has other sizes.
    pub fn predictor_vjp(&self, grad: Sss<E>) -> Result<Self> {
        let fits = (0..self.len()).all(|k| {
            let d = (self.c.dims(k).0, self.b.dims(k).1);
            grad.len() == self.len() && grad.b.dims(k) == self.b.dims(k) && grad.d.dims(k) == d
        });
        if !fits || grad.orders != self.orders {
            return Err(Error::shape(
                "grad",
                "the sizes of the predictor form",
                &[grad.rows(), grad.columns()],
            ));
        }
        let (mut transition, mut b, dc, dd) = grad.into_parts();
        let mut c = self.c.map(|_| E::zero());
        for k in 0..self.len() {
            let adjoint = self.c.block(k).t().mapv(E::conj).as_standard_layout().into_owned();
            let reads = dc.block(k).t().mapv(E::conj).as_standard_layout().into_owned();
            let outputs = reads.ncols();
            transition.unshared().add_cotangent(k, flat(&adjoint), flat(&reads), outputs);
            let db = matmul(adjoint.view(), dd.block(k));
            b.block_mut(k).zip_mut_with(&db, |b, d| *b += *d);
            // dC' Aᴴ, by A on the adjoint of dC'.
            let mut moved = Vec::new();
            self.transition.apply(Apply::Plain, k, flat(&reads), outputs, self.orders[k + 1], &mut moved);
            let moved = super::super::kernels::view(&moved, self.orders[k + 1], outputs).t().mapv(E::conj);
            let mut dc = moved.as_standard_layout().into_owned();
            add_outer(dd.values(k), self.b.values(k), self.b.dims(k).1, flat_mut(&mut dc));
            c.block_mut(k).assign(&dc);
        }
        Ok(Self { orders: self.orders.clone(), transition, b, c })
    }

    /// The entry in row `i` and column `j`; zero above the diagonal.
    ///
    /// # Errors
    /// As [`Sss::entry`].
    pub fn entry(&self, i: usize, j: usize) -> Result<E> {
        self.predictor().entry(i, j)
    }

    /// A block of steps on or below the diagonal as left, centre and right factor.
    ///
    /// ```math
    /// \text{left}_i = C_i A_i \cdots A_{r+1}, \quad \text{centre} = A_r \cdots A_{s}, \quad
    /// \text{right}_j = A_{s-1} \cdots A_{j+1} B_j
    /// ```
    /// with r the first step of the rows and s the end of the columns (paper Lemma 3.3, equation 5).
    ///
    /// # Errors
    /// [`Error::Value`] if the block leaves the matrix or has an entry above the diagonal.
    pub fn factored_block(&self, rows: Range<usize>, columns: Range<usize>) -> Result<FactoredBlock<E>> {
        let len = self.len();
        let ordered = rows.start <= rows.end && columns.start <= columns.end;
        if !ordered || rows.end > len || columns.end > len || columns.end > rows.start + 1 {
            return Err(Error::Value {
                tensor: "block",
                expected: "steps of the matrix, columns ending at most one past the first row",
                found: format!("rows {rows:?}, columns {columns:?}"),
            });
        }
        // The state after the first row; a block without rows may start at the end.
        let first = (rows.start + 1).min(len);
        let left = rows.map(|i| {
            let row = self.c.block(i);
            matmul(row, self.chain().passage(first..i + 1).view())
        });
        let left = stack(left, self.orders[first]);
        let end = columns.end;
        let right: Vec<_> =
            columns.map(|j| matmul(self.chain().passage(j + 1..end).view(), self.b.block(j))).collect();
        let right =
            right.iter().fold(Array2::zeros((self.orders[end], 0)), |all, r| beside(all.view(), r.view()));
        // The corner on the diagonal: column s - 1 = r, whose own transition does not take part.
        let centre = self.chain().passage(end..first.max(end));
        Ok(FactoredBlock { left, centre, right })
    }

    /// Numerical ranks of the maximal blocks `M[k:, :k+1]`, at most the order (paper Definition 3.1).
    ///
    /// # Errors
    /// As [`maximal_block_ranks`]. O(len⁴) time: for checking small matrices of numbers.
    pub fn ranks(&self, tolerance: f64) -> Result<Vec<usize>> {
        maximal_block_ranks(self.to_dense().view(), MainDiagonal::Included, tolerance)
    }
}

/// Rows of blocks, one above another.
fn stack<E: Field>(blocks: impl Iterator<Item = Array2<E>>, columns: usize) -> Array2<E> {
    blocks.fold(Array2::zeros((0, columns)), |all, b| above(all.view(), b.view()))
}

/// The smallest X with `X step = output`, if there is one to `tolerance`.
fn read_off<E: Field>(
    step: ArrayView2<'_, E>,
    output: ArrayView2<'_, E>,
    tolerance: f64,
) -> Option<Array2<E>> {
    let size = |a: ArrayView2<'_, E>| {
        a.iter()
            .map(|v| num_traits::ToPrimitive::to_f64(&v.modulus()).unwrap_or(f64::NAN))
            .fold(0.0, f64::max)
    };
    if step.is_empty() || output.is_empty() {
        let none = Array2::zeros((output.nrows(), step.nrows()));
        return output.iter().all(|v| v.is_zero()).then_some(none);
    }
    let (u, s, v) = svd(step)?;
    let largest = s.first().copied().unwrap_or(0.0);
    // X = output V S⁺ Uᴴ
    let mut weights = matmul(output, v.view());
    for (mut column, s) in weights.columns_mut().into_iter().zip(&s) {
        let keep = *s > tolerance * largest;
        let factor = if keep { E::one().over(real(*s)) } else { E::zero() };
        column.mapv_inplace(|w| w * factor);
    }
    let x = matmul(weights.view(), u.t().mapv(E::conj).view());
    let missing = &matmul(x.view(), step) - &output;
    (size(missing.view()) <= tolerance * size(output)).then_some(x)
}

fn real<E: Field>(v: f64) -> E {
    E::from_real(crate::scalar::real(v))
}

impl<E: Field> From<&FilterForm<E>> for Sss<E> {
    fn from(filter: &FilterForm<E>) -> Self {
        filter.predictor()
    }
}

impl<E: Field> StructuredMatrix<E> for FilterForm<E> {
    /// The same generators, holding their cotangents.
    type Gradient = Self;

    fn shape(&self) -> (usize, usize) {
        let sum = |f: &dyn Fn(usize) -> usize| (0..self.len()).map(f).sum();
        (sum(&|k| self.c.dims(k).0), sum(&|k| self.b.dims(k).1))
    }

    /// Block column after block column: C_i W with W = B_j, A_{j+1} B_j, ..
    fn to_dense(&self) -> Array2<E> {
        let (rows, columns) = (self.c.row_offsets(), self.b.column_offsets());
        let mut dense = Array2::zeros(self.shape());
        for j in 0..self.len() {
            let mut strip = dense.slice_mut(ndarray::s![.., columns[j]..columns[j + 1]]);
            let mut w = self.b.block(j).to_owned();
            for i in j..self.len() {
                if i > j {
                    w = matmul(self.transition.step(i, self.orders[i + 1], self.orders[i]).view(), w.view());
                }
                let block = matmul(self.c.block(i), w.view());
                strip.slice_mut(ndarray::s![rows[i]..rows[i + 1], ..]).assign(&block);
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

impl<E: Field> Cotangent for FilterForm<E> {
    fn accumulate(&mut self, other: &Self) {
        let add = |a: &mut [E], b: &[E]| a.iter_mut().zip(b).for_each(|(a, b)| *a += *b);
        self.transition.accumulate(&other.transition);
        add(self.b.flat_mut(), other.b.flat());
        add(self.c.flat_mut(), other.c.flat());
    }
}
