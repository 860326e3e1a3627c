//! Block lower triangular matrices by their generators.

use ndarray::{Array1, Array2, ArrayView2};

use super::transition::into_flat;
use super::{Blocks, Transition, bare};
use crate::error::{Error, Result, check_shape};
use crate::linalg::{adjoint, flat_rows, product};
use crate::scalar::Field;

/// A block lower triangular matrix in predictor form, by its generators A, B, C and a free block diagonal D.
///
/// ```math
/// x_{k+1} = A_k x_k + B_k u_k, \quad y_k = C_k x_k + D_k u_k, \quad x_0 = 0, \qquad
/// M_{ij} = C_i A_{i-1} \cdots A_{j+1} B_j \ (i > j), \quad M_{ii} = D_i
/// ```
///
/// Step k takes in $`p_k`$ numbers, yields $`q_k`$ and stands between states of $`N_k`$ and $`N_{k+1}`$ numbers, its
/// **orders**; each of these may be zero and each step may have its own. The first transition and the last never enter
/// the matrix where $`N_0`$ or $`N_n`$ is not zero. A batch of matrices is a `Vec` of them. Complex generators are not
/// conjugated.
///
/// # Example
/// ```
/// use ndarray::{Array2, array};
/// use semisep::matrix::StructuredMatrix;
/// use semisep::matrix::sss::{Sss, Transition};
///
/// let ones = Array2::ones((3, 1));
/// let m = Sss::uniform(Transition::Scalar(array![0.0, 0.5, 0.5]), ones.clone(), ones, array![2.0, 2.0, 2.0])?;
/// assert_eq!(m.to_dense(), array![[2.0, 0.0, 0.0], [1.0, 2.0, 0.0], [0.5, 1.0, 2.0]]);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Sss<E> {
    pub(super) orders: Vec<usize>, // N_0 .. N_n
    pub(super) transition: Transition<E>,
    pub(super) b: Blocks<E>, // N_{k+1} x p_k
    pub(super) c: Blocks<E>, // q_k x N_k
    pub(super) d: Blocks<E>, // q_k x p_k
}

impl<E: Field> Sss<E> {
    /// The matrix with these generators.
    ///
    /// # Shapes
    /// `b`: $`(N_{k+1}, p_k)`$; `c`: $`(q_k, N_k)`$; `d`: $`(q_k, p_k)`$; `transition`: $`(N_{k+1}, N_k)`$.
    ///
    /// # Errors
    /// [`Error::Shape`] naming tensor and step if they disagree, or where empty blocks alone speak of very many states
    /// (more than 2¹² and than there are elsewhere), steps, rows or columns (more than 2²⁴).
    pub fn new(transition: Transition<E>, b: Blocks<E>, c: Blocks<E>, d: Blocks<E>) -> Result<Self> {
        bare::check_steps("b", &[&b, &c, &d])?;
        let m = Self::agreeing(transition, b, c, d)?;
        m.check_bare()?;
        Ok(m)
    }

    /// That empty blocks alone do not speak of too many states, rows or columns.
    fn check_bare(&self) -> Result<()> {
        let len = self.len();
        let numbers = |k: usize| (k < len && self.outputs(k) > 0) || (k > 0 && self.inputs(k - 1) > 0);
        bare::check_orders(&self.orders, &self.transition, numbers)?;
        if self.d.uniform().is_some_and(|(outputs, inputs)| outputs.min(inputs) > 0) {
            return Ok(());
        }
        let outputs = |k| (self.outputs(k), self.inputs(k).max(self.orders[k]) > 0);
        let inputs = |k| (self.inputs(k), self.outputs(k).max(self.orders[k + 1]) > 0);
        bare::check_length("c", (0..len).map(outputs))?;
        bare::check_length("b", (0..len).map(inputs))
    }

    /// The matrix with these generators, if their shapes agree.
    fn agreeing(transition: Transition<E>, b: Blocks<E>, c: Blocks<E>, d: Blocks<E>) -> Result<Self> {
        let len = b.len();
        check_shape("c", "(steps of b)", &[len], &[c.len()])?;
        check_shape("d", "(steps of b)", &[len], &[d.len()])?;
        let mut orders = bare::order_table(len)?;
        orders.push(if len == 0 { 0 } else { c.dims(0).1 });
        for k in 0..len {
            let ((after, inputs), (outputs, before)) = (b.dims(k), c.dims(k));
            if before != orders[k] {
                let expected = format!("{:?} at step {k}: the states that b leaves", (outputs, orders[k]));
                return Err(Error::shape("c", expected, &[outputs, before]));
            }
            if d.dims(k) != (outputs, inputs) {
                let expected = format!("{:?} at step {k}: rows of c, columns of b", (outputs, inputs));
                return Err(Error::shape("d", expected, &[d.dims(k).0, d.dims(k).1]));
            }
            orders.push(after);
        }
        transition.check(&orders)?;
        Ok(Self { orders, transition, b, c, d })
    }

    /// The matrix of numbers (blocks of size 1) and one order.
    ///
    /// # Shapes
    /// `b`, `c`: (len, order); `d`: (len); `transition`: len steps of that order.
    ///
    /// # Errors
    /// [`Error::Shape`] if they disagree.
    pub fn uniform(transition: Transition<E>, b: Array2<E>, c: Array2<E>, d: Array1<E>) -> Result<Self> {
        let (len, order) = b.dim();
        check_shape("c", "(len, order) of b", &[len, order], c.shape())?;
        check_shape("d", "(len) of b", &[len], d.shape())?;
        Self::new(
            transition,
            Blocks::from_uniform(len, (order, 1), into_flat(b)),
            Blocks::from_uniform(len, (1, order), into_flat(c)),
            Blocks::from_uniform(len, (1, 1), d.to_vec()),
        )
    }

    /// The matrix of generators that are known to agree.
    pub(crate) fn from_parts(transition: Transition<E>, b: Blocks<E>, c: Blocks<E>, d: Blocks<E>) -> Self {
        Self::agreeing(transition, b, c, d).expect("generators made here agree")
    }

    /// The generators: transition, B, C and D.
    pub fn into_parts(self) -> (Transition<E>, Blocks<E>, Blocks<E>, Blocks<E>) {
        (self.transition, self.b, self.c, self.d)
    }

    /// Number of steps, which is that of block rows and of block columns.
    pub fn len(&self) -> usize {
        self.b.len()
    }

    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The orders $`N_0, \ldots, N_n`$; (len + 1).
    pub fn orders(&self) -> &[usize] {
        &self.orders
    }

    /// The order $`N_k`$ of the state before step k, k = len being the end.
    ///
    /// # Panics
    /// As an index of a slice, if there is no such step.
    #[inline(always)]
    pub fn order_at(&self, k: usize) -> usize {
        self.orders[k]
    }

    /// Inputs $`p_k`$ of step k.
    ///
    /// # Panics
    /// As [`order_at`](Self::order_at).
    #[inline(always)]
    pub fn inputs(&self, k: usize) -> usize {
        self.d.dims(k).1
    }

    /// Outputs $`q_k`$ of step k.
    ///
    /// # Panics
    /// As [`order_at`](Self::order_at).
    #[inline(always)]
    pub fn outputs(&self, k: usize) -> usize {
        self.d.dims(k).0
    }

    /// Number of rows, $`\sum q_k`$.
    pub fn rows(&self) -> usize {
        match self.d.uniform() {
            Some((outputs, _)) => outputs * self.len(),
            None => (0..self.len()).map(|k| self.outputs(k)).sum(),
        }
    }

    /// Number of columns, $`\sum p_k`$.
    pub fn columns(&self) -> usize {
        match self.d.uniform() {
            Some((_, inputs)) => inputs * self.len(),
            None => (0..self.len()).map(|k| self.inputs(k)).sum(),
        }
    }

    /// First row of every step, and the number of rows; (len + 1).
    pub fn row_offsets(&self) -> Vec<usize> {
        self.d.row_offsets()
    }

    /// First column of every step, and the number of columns; (len + 1).
    pub fn column_offsets(&self) -> Vec<usize> {
        self.d.column_offsets()
    }

    /// The transition A.
    pub fn transition(&self) -> &Transition<E> {
        &self.transition
    }

    /// $`A_k`$ as a dense matrix, $`(N_{k+1}, N_k)`$.
    ///
    /// # Panics
    /// As [`order_at`](Self::order_at).
    pub fn a(&self, k: usize) -> Array2<E> {
        self.transition.step(k, self.orders[k + 1], self.orders[k])
    }

    /// $`B_k`$, $`(N_{k+1}, p_k)`$.
    ///
    /// # Panics
    /// As [`order_at`](Self::order_at).
    pub fn b(&self, k: usize) -> ArrayView2<'_, E> {
        self.b.block(k)
    }

    /// $`C_k`$, $`(q_k, N_k)`$.
    ///
    /// # Panics
    /// As [`order_at`](Self::order_at).
    pub fn c(&self, k: usize) -> ArrayView2<'_, E> {
        self.c.block(k)
    }

    /// $`D_k`$, $`(q_k, p_k)`$.
    ///
    /// # Panics
    /// As [`order_at`](Self::order_at).
    pub fn d(&self, k: usize) -> ArrayView2<'_, E> {
        self.d.block(k)
    }

    /// All $`B_k`$.
    pub fn b_blocks(&self) -> &Blocks<E> {
        &self.b
    }

    /// All $`C_k`$.
    pub fn c_blocks(&self) -> &Blocks<E> {
        &self.c
    }

    /// All $`D_k`$.
    pub fn d_blocks(&self) -> &Blocks<E> {
        &self.d
    }

    /// $`A_k h`$; `h`: $`(N_k, \text{width})`$, result: $`(N_{k+1}, \text{width})`$.
    ///
    /// # Panics
    /// As [`order_at`](Self::order_at), or if `h` has another number of rows than $`N_k`$.
    pub fn apply_a(&self, k: usize, h: ArrayView2<'_, E>) -> Array2<E> {
        assert_eq!(h.nrows(), self.orders[k], "rows of a state before step {k}");
        let (width, states) = (h.ncols(), self.orders[k + 1]);
        let mut out = Vec::new();
        self.transition.apply(super::kernels::Apply::Plain, k, &flat_rows(h), width, states, &mut out);
        Array2::from_shape_vec((states, width), out).expect("apply yields states * width numbers")
    }

    /// $`X A_k^H`$; `x`: $`(\text{any}, N_k)`$.
    pub(super) fn times_adjoint_a(&self, k: usize, x: ArrayView2<'_, E>) -> Array2<E> {
        let Some(diagonal) = self.chain().diagonal(k) else {
            return product(x, adjoint(self.a(k).view()).view());
        };
        let mut moved = Array2::zeros((x.nrows(), self.orders[k + 1]));
        for (mut moved, x) in moved.rows_mut().into_iter().zip(x.rows()) {
            let numbers = moved.iter_mut().zip(x).zip(&diagonal);
            numbers.for_each(|((moved, x), a)| *moved = *x * a.conj());
        }
        moved
    }

    /// Whether generators have the sizes and the kind of transition of those of `other`.
    pub(super) fn like(&self, other: &Self) -> bool {
        let blocks = [(&self.b, &other.b), (&self.c, &other.c), (&self.d, &other.d)];
        self.orders == other.orders
            && self.transition.kind() == other.transition.kind()
            && blocks.iter().all(|(own, others)| own.same_sizes(others))
    }

    /// The same shapes holding zeros; the start of a sum of cotangents.
    pub(super) fn zeros_like(&self) -> Self {
        let zero = |blocks: &Blocks<E>| blocks.map(|_| E::zero());
        Self {
            orders: self.orders.clone(),
            transition: self.transition.zeros_like(),
            b: zero(&self.b),
            c: zero(&self.c),
            d: zero(&self.d),
        }
    }
}
