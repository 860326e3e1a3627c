//! N-semiseparable matrices by their generators.
//!
//! Two forms are in use. The **filter form** (A, B, C) is the paper's SSS(A, B, C) (Definition 3.2): the state is
//! read *after* it took in the input, and the diagonal is C_iᵀ B_i. The **predictor form** (A, B, C, D) reads the
//! state *before*, and its diagonal D is free:
//!
//! ```math
//! \text{filter: } M_{ij} = C_i^\top A_i \cdots A_{j+1} B_j \ (i \ge j) \qquad
//! \text{predictor: } M_{ij} = C_i^\top A_{i-1} \cdots A_{j+1} B_j \ (i > j), \quad M_{ii} = D_i
//! ```
//!
//! The class of predictor forms of one order is closed under inversion, that of filter forms is not, so the
//! predictor form is the type that carries the algorithms, [`Semiseparable`]. A [`FilterForm`] converts into it
//! exactly ([`FilterForm::predictor`]).

mod blocks;
mod column;
mod filter_form;
mod read;
mod recurrent;
mod state;
mod transition;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis, s};

pub use blocks::{BlockFactors, Partition};
pub use filter_form::FilterForm;
pub use read::{FactoredBlock, MainDiagonal, maximal_block_ranks};
pub use transition::{DenseTransition, DiagonalTransition, ScalarTransition, Transition};

use crate::error::{Result, check_shape};
use crate::matrix::{Cotangent, StructuredMatrix};
use crate::scalar::Field;

/// A lower-triangular matrix in predictor form, by its generators A, B, C and a free diagonal D.
///
/// ```math
/// h_{k+1} = A_k h_k + B_k x_k, \quad y_k = C_k^\top h_k + D_k x_k, \qquad
/// M_{ij} = C_i^\top A_{i-1} \cdots A_{j+1} B_j \ (i > j), \quad M_{ii} = D_i
/// ```
///
/// The state starts at zero, so the first transition and the last never enter the matrix. The entries are
/// numbers; the order is the same at every step. Complex generators are not conjugated: `Cᵀ`, not `Cᴴ`.
///
/// # Example
/// ```
/// use ndarray::{array, Array2};
/// use semisep::matrix::{DiagonalTransition, Semiseparable, StructuredMatrix};
///
/// let a = DiagonalTransition::new(array![[0.0], [0.5], [0.5]]);
/// let ones = Array2::ones((3, 1));
/// let m = Semiseparable::new(a, ones.clone(), ones, array![2.0, 2.0, 2.0])?;
/// assert_eq!(m.to_dense(), array![[2.0, 0.0, 0.0], [1.0, 2.0, 0.0], [0.5, 1.0, 2.0]]);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Semiseparable<E, A> {
    transition: A,
    b: Array2<E>, // (len, order)
    c: Array2<E>, // (len, order)
    d: Array1<E>, // (len,)
}

/// How to multiply by a semiseparable matrix; never changes the answer beyond rounding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Multiply {
    /// [`Blocks`](Self::Blocks) where a scalar or diagonal transition acts on a large state, else
    /// [`Recurrent`](Self::Recurrent).
    #[default]
    Automatic,
    /// Forms the matrix: O(len²) memory, for tests and short sequences.
    Dense,
    /// Step by step, paper equation (2).
    Recurrent,
    /// By block decomposition, paper section 6: dense blocks on the diagonal, factored ones below it.
    Blocks(Partition),
}

/// From this many numbers in the state on, blocks beat the recurrence, whose state no longer fits the first cache:
/// at order 64, 64 columns and len 10⁴ blocks of 16 take 15 ms and the recurrence 22 ms, at order 16 it is 5.5 ms
/// and 4.4 ms (bench `semiseparable`, group `columns`).
const BLOCK_STATE: usize = 4096;
const BLOCK: usize = 16;

impl<E: Field, A: Transition<E>> Semiseparable<E, A> {
    /// The matrix with these generators.
    ///
    /// # Shapes
    /// `b`, `c`: (len, order); `d`: (len,); `transition`: len steps of that order.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if they disagree.
    pub fn new(transition: A, b: Array2<E>, c: Array2<E>, d: Array1<E>) -> Result<Self> {
        check_generators(&transition, &b, &c)?;
        check_shape("d", "(len,)", &[b.nrows()], d.shape())?;
        let d = if d.is_standard_layout() { d } else { d.iter().copied().collect() };
        Ok(Self { transition, b: standard(b), c: standard(c), d })
    }

    /// Number of rows, and of columns.
    pub fn len(&self) -> usize {
        self.b.nrows()
    }

    /// Whether the matrix has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dimension of the state.
    pub fn order(&self) -> usize {
        self.b.ncols()
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

    /// The diagonal D, (len,).
    pub fn d(&self) -> &Array1<E> {
        &self.d
    }

    /// `M x` in the given way. `x`: (len, columns); result: the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `x` has not `len` rows;
    /// [`Error::Config`](crate::Error::Config) if a partition does not fit.
    pub fn multiply(&self, x: ArrayView2<'_, E>, how: &Multiply) -> Result<Array2<E>> {
        self.check_rows("x", x)?;
        let x = x.as_standard_layout();
        Ok(match how {
            Multiply::Dense => crate::linalg::matmul(self.to_dense().view(), x.view()),
            Multiply::Recurrent => recurrent::matmul(self, x.view()),
            Multiply::Blocks(partition) => blocks::matmul(self, x.view(), &partition.ranges(self.len())?),
            Multiply::Automatic => {
                if self.order() * x.ncols() < BLOCK_STATE || self.transition.elementwise().is_none() {
                    recurrent::matmul(self, x.view())
                } else {
                    blocks::matmul(self, x.view(), &Partition::Equal(BLOCK).ranges(self.len())?)
                }
            }
        })
    }

    /// `y = M x` for one column by the recurrence, into memory that is already there. `x`, `y`: (len).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `x` or `y` has another length.
    pub fn matvec_into(&self, x: ArrayView1<'_, E>, mut y: ArrayViewMut1<'_, E>) -> Result<()> {
        check_shape("x", "(len)", &[self.len()], x.shape())?;
        check_shape("y", "(len)", &[self.len()], y.shape())?;
        let x = x.as_standard_layout();
        if let (Some(x), Some(y)) = (x.as_slice(), y.as_slice_mut())
            && column::matmul(self, x, y).is_some()
        {
            return Ok(());
        }
        y.assign(&recurrent::matmul(self, x.view().insert_axis(Axis(1))).column(0));
        Ok(())
    }

    fn check_rows(&self, tensor: &'static str, x: ArrayView2<'_, E>) -> Result<()> {
        check_shape(tensor, "(len, columns)", &[self.len(), x.ncols()], x.shape())
    }

    fn zeros(len: usize, order: usize) -> Self {
        let matrix = || Array2::zeros((len, order));
        Self { transition: A::zeros(len, order), b: matrix(), c: matrix(), d: Array1::zeros(len) }
    }
}

/// Generators of B, C and the transition agree, and len and order are the same everywhere.
fn check_generators<E: Field, A: Transition<E>>(transition: &A, b: &Array2<E>, c: &Array2<E>) -> Result<()> {
    let (len, order) = b.dim();
    check_shape("c", "(len, order) of b", &[len, order], c.shape())?;
    transition.check(len, order)
}

fn standard<E: Field>(x: Array2<E>) -> Array2<E> {
    if x.is_standard_layout() { x } else { x.as_standard_layout().into_owned() }
}

impl<E: Field, A: Transition<E>> StructuredMatrix<E> for Semiseparable<E, A> {
    type Gradient = Self;

    fn shape(&self) -> (usize, usize) {
        (self.len(), self.len())
    }

    fn to_dense(&self) -> Array2<E> {
        read::dense(self)
    }

    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        self.multiply(x, &Multiply::Automatic)
    }

    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        self.check_rows("y", y)?;
        Ok(recurrent::adjoint_matmul(self, y.as_standard_layout().view()))
    }

    /// Backward through the recurrence. Beside inputs and outputs it keeps one state in 64 and computes the
    /// others again; it never divides by A.
    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(Self, Array2<E>)> {
        self.check_rows("x", x)?;
        check_shape("dy", "shape of x", x.shape(), dy.shape())?;
        let (x, dy) = (x.as_standard_layout(), dy.as_standard_layout());
        let mut grad = Self::zeros(self.len(), self.order());
        let mut dx = Array2::zeros(x.raw_dim());
        recurrent::matmul_vjp(self, x.view(), dy.view(), &mut grad, dx.view_mut());
        Ok((grad, dx))
    }

    /// The vjp of the product with the identity, some columns at a time.
    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<Self> {
        const COLUMNS: usize = 32;
        let len = self.len();
        check_shape("d_dense", "(len, len)", &[len, len], d_dense.shape())?;
        let mut grad = Self::zeros(len, self.order());
        for start in (0..len).step_by(COLUMNS) {
            let end = (start + COLUMNS).min(len);
            let mut unit = Array2::zeros((len, end - start));
            unit.slice_mut(s![start..end, ..]).diag_mut().fill(E::one());
            let d_columns = d_dense.slice(s![.., start..end]);
            let mut d_unit = Array2::zeros(unit.raw_dim());
            let d_columns = d_columns.as_standard_layout();
            recurrent::matmul_vjp(self, unit.view(), d_columns.view(), &mut grad, d_unit.view_mut());
        }
        Ok(grad)
    }
}

impl<E: Field, A: Transition<E>> Cotangent for Semiseparable<E, A> {
    fn accumulate(&mut self, other: &Self) {
        self.transition.add(&other.transition);
        self.b += &other.b;
        self.c += &other.c;
        self.d += &other.d;
    }
}
