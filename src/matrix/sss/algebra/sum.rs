//! Sums, differences and multiples.

use ndarray::{Array2, ArrayView2};

use super::super::{Blocks, HermitianQuasiseparable, Quasiseparable, Sss, Upper};
use super::compose::Chain;
use crate::error::{Error, Result, check_shape};
use crate::linalg::{above, beside};
use crate::scalar::Field;

impl<E: Field> Sss<E> {
    pub(in crate::matrix::sss) fn chain(&self) -> Chain<'_, E> {
        Chain { transition: &self.transition, orders: &self.orders }
    }

    /// The sum with a matrix of the same block sizes; orders add up.
    ///
    /// ```math
    /// A = \mathrm{diag}(A_1, A_2), \quad B = \begin{bmatrix} B_1 \\ B_2 \end{bmatrix}, \quad
    /// C = [C_1\ C_2], \quad D = D_1 + D_2
    /// ```
    ///
    /// Identity and diagonal transitions stay so where every order of `self` stays from step to step.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the step at which block sizes differ.
    pub fn add(&self, other: &Self) -> Result<Self> {
        check_blocks("other", &self.d, &other.d)?;
        let mut d = self.d.clone();
        d.flat_mut().iter_mut().zip(other.d.flat()).for_each(|(d, e)| *d += *e);
        Ok(Self::from_parts(
            self.chain().direct_sum(other.chain()),
            zip(&self.b, &other.b, above),
            zip(&self.c, &other.c, beside),
            d,
        ))
    }

    /// The difference to a matrix of the same block sizes; orders add up.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn subtract(&self, other: &Self) -> Result<Self> {
        self.add(&other.scaled(-E::one()))
    }

    /// `factor` times the matrix: C and D are scaled.
    pub fn scaled(&self, factor: E) -> Self {
        let mut scaled = self.clone();
        scaled.c = self.c.map(|v| factor * v);
        scaled.d = self.d.map(|v| factor * v);
        scaled
    }
}

impl<E: Field> Upper<Sss<E>> {
    /// The sum with an upper matrix of the same block sizes; orders add up.
    ///
    /// # Errors
    /// As [`Sss::add`].
    pub fn add(&self, other: &Self) -> Result<Self> {
        Ok(Self(self.0.add(&other.0)?))
    }

    /// The difference to an upper matrix of the same block sizes.
    ///
    /// # Errors
    /// As [`Sss::add`].
    pub fn subtract(&self, other: &Self) -> Result<Self> {
        Ok(Self(self.0.subtract(&other.0)?))
    }

    /// `factor` times the matrix.
    pub fn scaled(&self, factor: E) -> Self {
        Self(self.0.scaled(factor.conj()))
    }
}

impl<E: Field> Quasiseparable<E> {
    /// The sum with a matrix of the same block sizes; orders add up on both sides.
    ///
    /// # Errors
    /// As [`Sss::add`].
    pub fn add(&self, other: &Self) -> Result<Self> {
        Self::new(self.lower().add(other.lower())?, self.upper().add(other.upper())?)
    }

    /// The difference to a matrix of the same block sizes.
    ///
    /// # Errors
    /// As [`Sss::add`].
    pub fn subtract(&self, other: &Self) -> Result<Self> {
        Self::new(self.lower().subtract(other.lower())?, self.upper().subtract(other.upper())?)
    }

    /// `factor` times the matrix.
    pub fn scaled(&self, factor: E) -> Self {
        let upper = self.upper().scaled(factor.conj());
        Self::new(self.lower().scaled(factor), upper).expect("sizes are those of this matrix")
    }
}

impl<E: Field> HermitianQuasiseparable<E> {
    /// The sum with a Hermitian matrix of the same block sizes; orders add up.
    ///
    /// # Errors
    /// As [`Sss::add`].
    pub fn add(&self, other: &Self) -> Result<Self> {
        Ok(Self::from_lower(self.lower().add(other.lower())?))
    }

    /// The difference to a Hermitian matrix of the same block sizes.
    ///
    /// # Errors
    /// As [`Sss::add`].
    pub fn subtract(&self, other: &Self) -> Result<Self> {
        Ok(Self::from_lower(self.lower().subtract(other.lower())?))
    }

    /// `factor` times the matrix; real, so that the multiple is Hermitian.
    pub fn scaled(&self, factor: E::Real) -> Self {
        Self::from_lower(self.lower().scaled(E::from_real(factor)))
    }
}

/// A lower matrix as a two-sided one whose upper part has order zero.
impl<E: Field> From<Sss<E>> for Quasiseparable<E> {
    fn from(lower: Sss<E>) -> Self {
        let upper = empty(lower.d.iter().map(|d| (d.ncols(), d.nrows())));
        Self::new(lower, upper).expect("made of the same sizes")
    }
}

/// An upper matrix as a two-sided one whose lower part has order zero.
impl<E: Field> From<Upper<Sss<E>>> for Quasiseparable<E> {
    fn from(upper: Upper<Sss<E>>) -> Self {
        let upper = upper.0;
        let mut lower = empty(upper.d.iter().map(|d| (d.ncols(), d.nrows())));
        for k in 0..upper.len() {
            lower.d.block_mut(k).assign(&upper.d(k).t().mapv(E::conj));
        }
        Self::new(lower, upper).expect("made of the same sizes")
    }
}

/// A Hermitian matrix with both parts by generators of their own.
impl<E: Field> From<HermitianQuasiseparable<E>> for Quasiseparable<E> {
    fn from(m: HermitianQuasiseparable<E>) -> Self {
        m.to_quasiseparable()
    }
}

/// The zero matrix of these block sizes, (outputs, inputs), of order zero.
pub(in crate::matrix::sss) fn empty<E: Field>(dims: impl Iterator<Item = (usize, usize)>) -> Sss<E> {
    let d = Blocks::zeros(dims);
    let b = Blocks::zeros((0..d.len()).map(|k| (0, d.dims(k).1)));
    let c = Blocks::zeros((0..d.len()).map(|k| (d.dims(k).0, 0)));
    Sss::from_parts(super::super::Transition::Identity, b, c, d)
}

/// `Ok` if both have blocks of the same sizes.
pub(in crate::matrix::sss) fn check_blocks<E: Field>(
    tensor: &'static str,
    a: &Blocks<E>,
    b: &Blocks<E>,
) -> Result<()> {
    check_shape(tensor, "(steps)", &[a.len()], &[b.len()])?;
    match (0..a.len()).find(|&k| a.dims(k) != b.dims(k)) {
        None => Ok(()),
        Some(k) => {
            let expected = format!("{:?} at step {k}, (outputs, inputs)", a.dims(k));
            Err(Error::shape(tensor, expected, &[b.dims(k).0, b.dims(k).1]))
        }
    }
}

/// `f` of the blocks of two rows of matrices.
pub(in crate::matrix::sss) fn zip<E: Field>(
    a: &Blocks<E>,
    b: &Blocks<E>,
    f: impl Fn(ArrayView2<'_, E>, ArrayView2<'_, E>) -> Array2<E>,
) -> Blocks<E> {
    a.iter().zip(b.iter()).map(|(a, b)| f(a, b)).collect()
}
