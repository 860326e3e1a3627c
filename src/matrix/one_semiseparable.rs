//! The 1-semiseparable matrix: the matrix of a scalar recurrence.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1};

use super::scan::sequential;
use super::segment_sum::check_log;
use super::{Bidiagonal, StructuredMatrix, check};
use crate::error::{Error, Result, check_shape};
use crate::scalar::Field;

/// The 1-semiseparable matrix of the transitions a.
///
/// ```math
/// L_{ij} = a_{i:j} = a_i a_{i-1} \cdots a_{j+1} \quad (i \ge j), \qquad L_{ij} = 0 \quad (i < j)
/// ```
///
/// so that $`y = L x`$ is the recurrence $`y_t = a_t y_{t-1} + x_t`$ (paper, equations 6 and 7). The
/// transitions may have any sign and may be zero; $`a_0`$ is in no entry, and is kept for a recurrence that
/// starts from an initial value.
///
/// ```
/// use ndarray::array;
/// use semisep::matrix::{OneSemiseparable, StructuredMatrix};
///
/// let l = OneSemiseparable::new(array![9.0, 2.0, 0.5])?;
/// assert_eq!(l.to_dense(), array![[1.0, 0.0, 0.0], [2.0, 1.0, 0.0], [1.0, 0.5, 1.0]]);
/// assert_eq!(l.matvec(array![1.0, 1.0, 1.0].view())?, array![1.0, 3.0, 2.5]);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct OneSemiseparable<E> {
    a: Array1<E>,
}

impl<E: Field> OneSemiseparable<E> {
    /// The matrix of these transitions, of any sign, zero included.
    ///
    /// # Shapes
    /// `a`: (len).
    ///
    /// # Errors
    /// [`Error::Value`] if `a` holds NaN or an infinity.
    pub fn new(a: Array1<E>) -> Result<Self> {
        check::finite("a", a.view())?;
        Ok(Self { a: a.as_standard_layout().into_owned() })
    }

    /// The matrix of the transitions $`a_t = \exp(\log a_t)`$; -inf stands for $`a_t = 0`$.
    ///
    /// # Shapes
    /// `log_a`: (len).
    ///
    /// # Errors
    /// [`Error::Value`] if `log_a` holds NaN or +inf, or a number whose exponential overflows.
    pub fn from_log(log_a: ArrayView1<'_, E::Real>) -> Result<Self> {
        check_log(log_a)?;
        Self::new(log_a.mapv(|u| E::from_real(num_traits::Float::exp(u))))
    }

    /// The transitions. Shape (len).
    pub fn transitions(&self) -> &Array1<E> {
        &self.a
    }

    /// One entry, $`a_{i:j}`$, as the product over its range.
    ///
    /// Factors above and below one are taken in turn, so the product neither overflows nor underflows on the
    /// way to an entry that is representable: the relative error is at most (i - j) roundings. O(i - j).
    ///
    /// # Errors
    /// [`Error::Value`] if `row` or `column` is not below the length.
    pub fn entry(&self, row: usize, column: usize) -> Result<E> {
        let len = self.a.len();
        if row >= len || column >= len {
            return Err(Error::Value {
                tensor: "entry",
                expected: "a row and a column below the length",
                found: format!("({row}, {column}) at length {len}"),
            });
        }
        if row < column {
            return Ok(E::zero());
        }
        let range = self.a.slice(ndarray::s![column + 1..=row]);
        if range.iter().any(|a| a.is_zero()) {
            return Ok(E::zero());
        }
        let one = <E::Real as num_traits::One>::one();
        let mut large = range.iter().filter(|a| a.modulus() > one);
        let mut small = range.iter().filter(|a| a.modulus() <= one);
        let mut product = E::one();
        loop {
            let next = if product.modulus() > one { small.next() } else { large.next() };
            let Some(&factor) = next else { break };
            product *= factor;
        }
        Ok(large.chain(small).fold(product, |p, &a| p * a))
    }

    /// `L x` for one column. `x`: (len); result: (len).
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has another length.
    pub fn matvec(&self, x: ArrayView1<'_, E>) -> Result<Array1<E>> {
        let mut y = Array1::zeros(self.a.len());
        self.matvec_into(x, y.view_mut())?;
        Ok(y)
    }

    /// `y = L x` for one column, into memory that is already there. `x`, `y`: (len).
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` or `y` has another length.
    pub fn matvec_into(&self, x: ArrayView1<'_, E>, mut y: ArrayViewMut1<'_, E>) -> Result<()> {
        check_shape("x", "(len)", self.a.shape(), x.shape())?;
        check_shape("y", "(len)", self.a.shape(), y.shape())?;
        let x = x.as_standard_layout();
        match y.as_slice_mut() {
            Some(y) => sequential::forward(self.transition_slice(), slice(&x), 1, None, y),
            None => {
                let mut dense = vec![E::zero(); x.len()];
                sequential::forward(self.transition_slice(), slice(&x), 1, None, &mut dense);
                y.assign(&ArrayView1::from(&dense));
            }
        }
        Ok(())
    }

    /// `Lᵀ y`, the transpose and not the adjoint: $`x_t = a_{t+1} x_{t+1} + y_t`$.
    /// `y`: (len, k); result: (len, k).
    ///
    /// # Errors
    /// [`Error::Shape`] if `y` has another number of rows.
    pub fn transpose_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        self.reverse(y, |a| a)
    }

    /// `z L`, the product from the left. `z`: (k, len); result: (k, len).
    ///
    /// # Errors
    /// [`Error::Shape`] if `z` has another number of columns.
    pub fn left_matmul(&self, z: ArrayView2<'_, E>) -> Result<Array2<E>> {
        if z.ncols() != self.a.len() {
            return Err(Error::shape("z", format!("(any number of rows, {})", self.a.len()), z.shape()));
        }
        Ok(self.transpose_matmul(z.t())?.reversed_axes())
    }

    /// The inverse: ones on the diagonal, $`-a_t`$ at (t, t-1).
    pub fn inverse(&self) -> Bidiagonal<E> {
        let lower = self.a.mapv(|a| -a);
        Bidiagonal::new(Array1::ones(self.a.len()), lower).expect("both vectors have the length of a")
    }

    /// The solution of `L x = y`: $`x_t = y_t - a_t y_{t-1}`$. `y`: (len, k); result: (len, k).
    ///
    /// # Errors
    /// [`Error::Shape`] if `y` has another number of rows.
    pub fn solve(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("y", self.a.len(), y)?;
        self.inverse().matmul(y)
    }

    fn transition_slice(&self) -> &[E] {
        self.a.as_slice().expect("the constructor made it contiguous")
    }

    fn reverse(&self, y: ArrayView2<'_, E>, map: impl Fn(E) -> E + Copy) -> Result<Array2<E>> {
        check::operand("y", self.a.len(), y)?;
        let mut x = Array2::zeros(y.dim());
        let y = y.as_standard_layout();
        sequential::reverse(
            self.transition_slice(),
            slice(&y),
            y.ncols(),
            map,
            x.as_slice_mut().expect("new arrays are contiguous"),
        );
        Ok(x)
    }
}

/// The elements of an array in standard layout.
fn slice<'a, E, D: ndarray::Dimension>(x: &'a ndarray::CowArray<'_, E, D>) -> &'a [E] {
    x.as_slice().expect("standard layout")
}

impl<E: Field> StructuredMatrix<E> for OneSemiseparable<E> {
    /// Cotangents of the transitions; that of $`a_0`$ is zero.
    type Gradient = Array1<E>;

    fn shape(&self) -> (usize, usize) {
        (self.a.len(), self.a.len())
    }

    fn to_dense(&self) -> Array2<E> {
        let len = self.a.len();
        let mut dense = Array2::zeros((len, len));
        for j in 0..len {
            let mut product = E::one();
            for i in j..len {
                if i > j {
                    if self.a[i].is_zero() {
                        break;
                    }
                    product *= self.a[i];
                }
                dense[[i, j]] = product;
            }
        }
        dense
    }

    /// The recurrence $`y_t = a_t y_{t-1} + x_t`$; O(len) a column.
    fn matmul(&self, x: ArrayView2<'_, E>) -> Result<Array2<E>> {
        check::operand("x", self.a.len(), x)?;
        sequential::scan(self.a.view(), x, None)
    }

    /// The recurrence backwards, $`x_t = \bar a_{t+1} x_{t+1} + y_t`$; O(len) a column.
    fn adjoint_matmul(&self, y: ArrayView2<'_, E>) -> Result<Array2<E>> {
        self.reverse(y, Field::conj)
    }

    /// With $`h = L x`$ and $`g = L^H \mathrm{d}y`$: $`\mathrm{d}x = g`$ and
    /// $`\mathrm{d}a_t = \langle h_{t-1}, g_t \rangle`$. A sum of products, never a quotient by $`a_t`$, so it
    /// holds at $`a_t = 0`$. O(len) a column.
    fn vjp(&self, x: ArrayView2<'_, E>, dy: ArrayView2<'_, E>) -> Result<(Array1<E>, Array2<E>)> {
        check::vjp_operands(self.shape(), x, dy)?;
        let h = self.matmul(x)?;
        let dx = self.adjoint_matmul(dy)?;
        let d_a = Array1::from_shape_fn(self.a.len(), |t| match t {
            0 => E::zero(),
            _ => h.row(t - 1).iter().zip(dx.row(t)).map(|(&h, &g)| h.conj() * g).sum(),
        });
        Ok((d_a, dx))
    }

    /// Rectangle sums, without dividing by $`a_t`$:
    ///
    /// ```math
    /// \mathrm{d}a_t = \sum_{i \ge t > j} \overline{a_{i:t}\, a_{t-1:j}}\, D_{ij}
    ///   = \sum_{j < t} \overline{a_{t-1:j}}\, G_{tj}, \qquad G_{tj} = D_{tj} + \bar a_{t+1} G_{t+1,j}
    /// ```
    ///
    /// O(len²) work, O(len) memory.
    fn pull_back(&self, d_dense: ArrayView2<'_, E>) -> Result<Array1<E>> {
        check::dense_cotangent(self.shape(), d_dense)?;
        let len = self.a.len();
        let mut d_a = Array1::zeros(len);
        let mut g = Array1::<E>::zeros(len); // row t of G, up to column t - 1
        for t in (1..len).rev() {
            let decay = self.a.get(t + 1).map_or(E::zero(), |a| a.conj());
            let mut product = E::one();
            for j in (0..t).rev() {
                g[j] = d_dense[[t, j]] + decay * g[j];
                d_a[t] += product.conj() * g[j];
                product = if self.a[j].is_zero() { E::zero() } else { product * self.a[j] };
            }
        }
        Ok(d_a)
    }
}
