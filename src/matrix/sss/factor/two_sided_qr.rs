//! `M = V W R`: orthogonal factors on both sides of the diagonal, for every matrix.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};
use num_traits::{Float, Zero};

use super::super::Quasiseparable;
use super::super::finite::check_finite;
use super::{LogDeterminant, divides, rows};
use crate::error::{Error, Result};
use crate::linalg::{Qr, above, adjoint, back_substitute, beside, product, root_of_squares};
use crate::matrix::check;
use crate::scalar::Field;

/// A two-sided matrix by orthogonal factors: `M = V W R`, V lower and W upper unitary, R upper triangular.
///
/// Solutions are backward stable for every nonsingular matrix, whatever its leading minors: a zero diagonal is no
/// obstacle. R has order $`N_L + N_U`$.
#[derive(Clone)]
pub struct TwoSidedQr<E: Field> {
    steps: Vec<Step<E>>,
    rows: usize,
    columns: usize,
}

/// A solution of least squares and what it leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct LeastSquares<E: Field> {
    /// The solution, (columns, width).
    pub x: Array2<E>,
    /// The norm of the residual of each column, (width).
    pub residuals: Array1<E::Real>,
}

/// The transformations of one step and the rows of `Vᴴ M` and of R that they made.
#[derive(Clone)]
pub(super) struct Step<E: Field> {
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    pub(super) rank: usize,    // ρ_k, rows that V hands on to the step before
    pub(super) carried: usize, // rows that W takes over from the step before
    pub(super) v: Qr<E>,       // of [C; Y A]
    pub(super) w: Qr<E>,       // of [[Λ B~, Λ A~], [D~, C~]]; its triangle begins with R and Gr
    pub(super) a: Array2<E>,   // A~
    pub(super) b: Array2<E>,   // B~
}

impl<E: Field> std::fmt::Debug for TwoSidedQr<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TwoSidedQr { steps, rows, columns } = self;
        write!(f, "TwoSidedQr {{ {rows} x {columns}, {} steps }}", steps.len())
    }
}

impl<E: Field> Quasiseparable<E> {
    /// The factors V, W and R. The sweep from the end makes $`V^H M`$ upper triangular,
    ///
    /// ```math
    /// \begin{pmatrix} C_k \\ Y_{k+1} A_k \end{pmatrix} =
    /// \begin{pmatrix} C^V & D^V \\ A^V & B^V \end{pmatrix} \begin{pmatrix} Y_k \\ 0 \end{pmatrix}, \qquad
    /// \begin{aligned}
    /// \tilde A &= \begin{pmatrix} A^{VH} & C^{VH} G \\ 0 & E \end{pmatrix}, &
    /// \tilde B &= \begin{pmatrix} C^{VH} D + A^{VH} Y B \\ F \end{pmatrix}, \\
    /// \tilde C &= \begin{pmatrix} B^{VH} & D^{VH} G \end{pmatrix}, &
    /// \tilde D &= D^{VH} D + B^{VH} Y B
    /// \end{aligned}
    /// ```
    ///
    /// whose blocks have any shape; the sweep from the start makes them square and triangular:
    ///
    /// ```math
    /// \begin{pmatrix} \Lambda \tilde B & \Lambda \tilde A \\ \tilde D & \tilde C \end{pmatrix} =
    /// W_k \begin{pmatrix} R_k & G^R_k \\ 0 & \Lambda_+ \end{pmatrix}
    /// ```
    ///
    /// # Errors
    /// [`Error::Singular`] naming a step up to which the columns are linearly dependent, [`Error::Value`] if a generator is
    /// not finite.
    ///
    /// # Example
    /// ```
    /// use ndarray::{Array2, array};
    /// use semisep::matrix::StructuredMatrix;
    /// use semisep::matrix::sss::{Quasiseparable, Sss, Transition};
    ///
    /// let ones = Array2::ones((3, 1));
    /// let part = Sss::uniform(Transition::Identity, ones.clone(), ones, array![0.0, 0.0, 0.0])?;
    /// let m = Quasiseparable::new(part.clone(), part)?; // ones, and zeros on the diagonal
    /// let x = m.qr()?.solve(array![[2.0], [3.0], [4.0]].view())?;
    /// assert!((m.matmul(x.view())? - array![[2.0], [3.0], [4.0]]).iter().all(|r: &f64| r.abs() < 1e-14));
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn qr(&self) -> Result<TwoSidedQr<E>> {
        check_finite(self.lower())?;
        check_finite(self.upper())?;
        let n = self.len();
        let mut halves = Vec::with_capacity(n);
        let mut y = Array2::zeros((0, self.lower().order_at(n)));
        for k in (0..n).rev() {
            let half = Half::new(self, k, &mut y);
            halves.push(half);
        }
        let first = halves.last().map_or(0, |h: &Half<E>| h.a.nrows());
        let mut lambda = Array2::zeros((0, first));
        let mut steps = Vec::with_capacity(n);
        for (k, half) in halves.into_iter().rev().enumerate() {
            let carried = lambda.nrows();
            let step = half.triangularise(&mut lambda);
            let r = step.w.r();
            let independent = (0..r.nrows().min(step.inputs)).filter(|&i| divides(r[[i, i]])).count();
            if independent < step.inputs {
                let found = format!("{independent} of {} columns are linearly independent", step.inputs);
                return Err(Error::Singular { step: k, found });
            }
            steps.push(Step { carried, ..step });
        }
        Ok(TwoSidedQr { steps, rows: self.rows(), columns: self.columns() })
    }
}

/// A step after the sweep from the end: its row of `Vᴴ M`.
struct Half<E: Field> {
    outputs: usize,
    rank: usize,
    v: Qr<E>,
    a: Array2<E>,
    b: Array2<E>,
    c: Array2<E>,
    d: Array2<E>,
}

impl<E: Field> Half<E> {
    /// Replaces Y behind the step by that before it.
    fn new(m: &Quasiseparable<E>, k: usize, y: &mut Array2<E>) -> Self {
        let (l, u) = (m.lower(), m.upper());
        // The first state is zero: what it would bring is no row of the matrix.
        let states = if k == 0 { 0 } else { l.order_at(k) };
        let (outputs, inputs, handed) = (l.outputs(k), l.inputs(k), y.nrows());
        let a = l.a(k);
        let left = above(l.c(k).slice(s![.., ..states]), product(y.view(), a.slice(s![.., ..states])).view());
        let v = Qr::new(left.view());
        let rank = v.r().nrows();
        // [[D, 0, G], [Y B, I, 0]] becomes [[B~ top, A~ top], [D~, C~]].
        let (reader, yb) = (adjoint(u.b(k)), product(y.view(), l.b(k)));
        let behind = reader.ncols();
        let top = beside(l.d(k), beside(Array2::zeros((outputs, handed)).view(), reader.view()).view());
        let unit = beside(Array2::eye(handed).view(), Array2::zeros((handed, behind)).view());
        let mut array = above(top.view(), beside(yb.view(), unit.view()).view());
        v.apply_adjoint(&mut array);
        let e = adjoint(u.a(k).view());
        let below = beside(Array2::zeros((e.nrows(), handed)).view(), e.view());
        let half = Self {
            outputs,
            rank,
            a: above(array.slice(s![..rank, inputs..]), below.view()),
            b: above(array.slice(s![..rank, ..inputs]), adjoint(u.c(k)).view()),
            c: array.slice(s![rank.., inputs..]).to_owned(),
            d: array.slice(s![rank.., ..inputs]).to_owned(),
            v,
        };
        *y = half.v.r().to_owned();
        half
    }

    /// Replaces the carried rows Λ before the step by those behind it.
    fn triangularise(self, lambda: &mut Array2<E>) -> Step<E> {
        let inputs = self.b.ncols();
        let top = beside(
            product(lambda.view(), self.b.view()).view(),
            product(lambda.view(), self.a.view()).view(),
        );
        let w = Qr::new(above(top.view(), beside(self.d.view(), self.c.view()).view()).view());
        *lambda = w.r().slice(s![inputs.min(w.r().nrows()).., inputs..]).to_owned();
        let Self { outputs, rank, v, a, b, .. } = self;
        Step { outputs, inputs, rank, carried: 0, v, w, a, b }
    }
}

impl<E: Field> TwoSidedQr<E> {
    /// The steps in order.
    pub(super) fn steps(&self) -> &[Step<E>] {
        &self.steps
    }

    /// (rows, columns) of M.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// The solution of `M x = b`.
    ///
    /// # Shapes
    /// `b`: (rows, width); result: (columns, width).
    ///
    /// # Errors
    /// [`Error::Shape`] if `b` has another number of rows or M is not square.
    pub fn solve(&self, b: ArrayView2<'_, E>) -> Result<Array2<E>> {
        if self.rows != self.columns {
            return Err(Error::shape("m", "a square matrix", &[self.rows, self.columns]));
        }
        Ok(self.least_squares(b)?.x)
    }

    /// The x of least `‖M x - b‖` for each column of b, and the norms.
    ///
    /// # Shapes
    /// `b`: (rows, width); M has at least as many rows as columns.
    ///
    /// # Errors
    /// [`Error::Shape`] if `b` has another number of rows.
    pub fn least_squares(&self, b: ArrayView2<'_, E>) -> Result<LeastSquares<E>> {
        check::operand("b", self.rows, b)?;
        let width = b.ncols();
        let turned = self.apply_v(b);
        let mut residuals = Array1::<E::Real>::zeros(width);
        let mut carried = Array2::zeros((0, width));
        let mut heads = Vec::with_capacity(self.steps.len());
        for (step, turned) in self.steps.iter().zip(&turned) {
            debug_assert_eq!(carried.nrows(), step.carried);
            let mut rhs = above(carried.view(), turned.view());
            step.w.apply_adjoint(&mut rhs);
            let (used, kept) = (step.inputs, step.w.r().nrows());
            extend(&mut residuals, rhs.slice(s![kept.., ..]));
            carried = rhs.slice(s![used..kept, ..]).to_owned();
            heads.push(rhs.slice(s![..used, ..]).to_owned());
        }
        extend(&mut residuals, carried.view());
        let mut x = Array2::zeros((self.columns, width));
        let mut end = self.columns;
        let mut state = Array2::zeros((self.steps.last().map_or(0, |s| s.a.ncols()), width));
        for (step, head) in self.steps.iter().zip(heads).rev() {
            let r = step.w.full_r();
            let mut u = head - product(r.slice(s![..step.inputs, step.inputs..]), state.view());
            back_substitute(r.slice(s![..step.inputs, ..step.inputs]), &mut u);
            state = product(step.a.view(), state.view()) + product(step.b.view(), u.view());
            x.slice_mut(s![end - step.inputs..end, ..]).assign(&u);
            end -= step.inputs;
        }
        Ok(LeastSquares { x, residuals })
    }

    /// `Vᴴ b`, the rows of each step.
    fn apply_v(&self, b: ArrayView2<'_, E>) -> Vec<Array2<E>> {
        let mut end = self.rows;
        let mut handed = Array2::zeros((0, b.ncols()));
        let mut turned: Vec<_> = self
            .steps
            .iter()
            .rev()
            .map(|step| {
                let start = end - step.outputs;
                let mut both = above(rows(b, start, step.outputs), handed.view());
                step.v.apply_adjoint(&mut both);
                end = start;
                handed = both.slice(s![..step.rank, ..]).to_owned();
                both.slice(s![step.rank.., ..]).to_owned()
            })
            .collect();
        turned.reverse();
        turned
    }

    /// The solution of `Mᴴ x = b` for a square M, `x = V W R⁻ᴴ b`.
    ///
    /// # Shapes
    /// `b`: (columns, width); result: (rows, width).
    ///
    /// # Errors
    /// [`Error::Shape`] if `b` has another number of rows or M is not square.
    pub fn solve_adjoint(&self, b: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("b", self.columns, b)?;
        if self.rows != self.columns {
            return Err(Error::shape("m", "a square matrix", &[self.rows, self.columns]));
        }
        let width = b.ncols();
        let mut start = 0;
        let mut state = Array2::zeros((self.steps.first().map_or(0, |s| s.a.nrows()), width));
        let mut heads = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let r = step.w.full_r();
            let rhs = &rows(b, start, step.inputs) - &product(adjoint(step.b.view()).view(), state.view());
            let head = forward_substitute_adjoint(r.slice(s![..step.inputs, ..step.inputs]), rhs);
            let read = adjoint(r.slice(s![..step.inputs, step.inputs..]));
            state = product(adjoint(step.a.view()).view(), state.view()) + product(read.view(), head.view());
            start += step.inputs;
            heads.push(head);
        }
        // A square M leaves no carried rows at the end.
        let mut carried = Array2::zeros((0, width));
        let mut turned = Vec::with_capacity(self.steps.len());
        for (step, head) in self.steps.iter().zip(&heads).rev() {
            let used = above(head.view(), carried.view());
            let rest = Array2::zeros((step.w.full_r().nrows() - used.nrows(), width));
            let mut all = above(used.view(), rest.view());
            step.w.apply(&mut all);
            carried = all.slice(s![..step.carried, ..]).to_owned();
            turned.push(all.slice(s![step.carried.., ..]).to_owned());
        }
        turned.reverse();
        let mut x = Array2::zeros((self.rows, width));
        let (mut start, mut handed) = (0, Array2::zeros((0, width)));
        for (step, turned) in self.steps.iter().zip(&turned) {
            let mut both = above(handed.view(), turned.view());
            step.v.apply(&mut both);
            x.slice_mut(s![start..start + step.outputs, ..]).assign(&both.slice(s![..step.outputs, ..]));
            handed = both.slice(s![step.outputs.., ..]).to_owned();
            start += step.outputs;
        }
        Ok(x)
    }

    /// The determinant of a square M: each reflection has the determinant -1, and R those of its diagonal blocks.
    ///
    /// # Errors
    /// [`Error::Shape`] if M is not square.
    pub fn log_determinant(&self) -> Result<LogDeterminant<E>> {
        if self.rows != self.columns {
            return Err(Error::shape("m", "a square matrix", &[self.rows, self.columns]));
        }
        let mut all = LogDeterminant { phase: E::one(), log_modulus: E::Real::zero() };
        for step in &self.steps {
            if step.v.is_odd() != step.w.is_odd() {
                all.phase = -all.phase;
            }
            for pivot in step.w.full_r().diag().iter().take(step.inputs) {
                let size = pivot.modulus();
                all.phase *= pivot.over(E::from_real(size));
                all.log_modulus += size.ln();
            }
        }
        Ok(all)
    }
}

/// `R⁻ᴴ x` with R upper triangular.
fn forward_substitute_adjoint<E: Field>(r: ArrayView2<'_, E>, mut x: Array2<E>) -> Array2<E> {
    for i in 0..r.ncols() {
        let (done, mut rest) = x.view_mut().split_at(ndarray::Axis(0), i);
        let mut row = rest.row_mut(0);
        for (j, done) in done.rows().into_iter().enumerate() {
            row.scaled_add(-r[[j, i]].conj(), &done);
        }
        let pivot = r[[i, i]].conj();
        row.mapv_inplace(|x| x.over(pivot));
    }
    x
}

/// The norms of columns that go on with more rows.
fn extend<E: Field>(norms: &mut Array1<E::Real>, rest: ArrayView2<'_, E>) {
    for row in rest.rows() {
        norms.iter_mut().zip(row).for_each(|(norm, v)| *norm = norm.hypot(v.modulus()));
    }
}

/// The Euclidean norm of a column.
pub(super) fn norm<E: Field>(column: ArrayView1<'_, E>) -> E::Real {
    root_of_squares(column.iter().map(|v| v.squared_modulus()).sum(), column)
}
