//! Weights: stored short or mapped from a file, computed with in full.

use ndarray::{Array, Array2, ArrayD, ArrayView2, CowArray, Dimension, Ix2, IxDyn};

use crate::error::{Error, Result};
use crate::numbers::{Numbers, Shared, Storage, Stored, with_slice};
use crate::scalar::Real;

/// A parameter of a network: numbers of any stored type, to be computed with in `A`.
///
/// A matrix (rows, columns) keeps its numbers as they are stored, and they are widened as they are read, so that 16-bit
/// weights take 16 bits. Anything else (vectors, kernels of convolutions) is small and widened at once. A clone shares the numbers.
///
/// # Examples
/// ```
/// use half::bf16;
/// use semisep::nn::{Numbers, Shared, Storage, Weight};
/// let short = Numbers::Bf16(Shared::new(vec![bf16::from_f32(0.5); 6]));
/// let w = Weight::<f32>::new(&[2, 3], short)?;
/// assert_eq!((w.rows(), w.columns(), w.numbers().storage()), (2, 3, Storage::Bf16));
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Weight<A: Real> {
    shape: Vec<usize>,
    numbers: Numbers, // as many as the shape says; in A unless there are two axes and the stored type is narrower
    precision: std::marker::PhantomData<A>,
}

impl<A: Real> Weight<A> {
    /// The numbers in the order of rows.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are more or fewer numbers than `shape` says, or it has no axes.
    pub fn new(shape: &[usize], numbers: Numbers) -> Result<Self> {
        let expected = shape.iter().try_fold(1, |n: usize, &axis| n.checked_mul(axis));
        if shape.is_empty() || expected != Some(numbers.len()) {
            return Err(Error::shape("weight", format!("{shape:?}"), &[numbers.len()]));
        }
        let native = A::slice(&numbers).is_some();
        let narrower = numbers.storage().bytes() < size_of::<A>();
        let numbers = if native || (shape.len() == 2 && narrower) {
            numbers
        } else {
            A::numbers(Shared::new(numbers.widened::<A>()))
        };
        Ok(Self { shape: shape.to_vec(), numbers, precision: std::marker::PhantomData })
    }

    /// Lengths of the axes, as published checkpoints have them.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Length of the first axis: outputs of a linear map, channels of a convolution, numbers of a vector.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// Numbers in a row: inputs of a linear map, width of a convolution, 1 for a vector.
    pub fn columns(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// The numbers as they are stored.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// The numbers in the precision of computation.
    pub fn to_array(&self) -> ArrayD<A> {
        match ArrayD::from_shape_vec(IxDyn(&self.shape), self.numbers.widened()) {
            Ok(array) => array,
            Err(_) => unreachable!("`new` counted the numbers"),
        }
    }

    /// The numbers of a weight that is no matrix.
    pub(crate) fn flat(&self) -> &[A] {
        debug_assert!(self.shape.len() != 2);
        match A::slice(&self.numbers) {
            Some(numbers) => numbers,
            None => unreachable!("`new` widens all weights but matrices"),
        }
    }

    /// The same weight stored as `how`: a matrix so, anything else stays widened. Matrices are not widened beyond the type that
    /// computes.
    pub fn stored_as(&self, how: Storage) -> Self {
        if self.shape.len() != 2 || how.bytes() > size_of::<A>() {
            return self.clone();
        }
        Self { numbers: self.numbers.stored_as(how), ..self.clone() }
    }

    /// A matrix as it is stored, if that is the type that computes.
    pub(crate) fn view(&self) -> Option<ArrayView2<'_, A>> {
        let numbers = A::slice(&self.numbers)?;
        ArrayView2::from_shape((self.rows(), self.columns()), numbers).ok()
    }

    /// A matrix to compute with: as it is stored, or a widened copy.
    pub(crate) fn wide(&self) -> CowArray<'_, A, Ix2> {
        match self.view() {
            Some(view) => view.into(),
            None => match Array2::from_shape_vec((self.rows(), self.columns()), self.numbers.widened()) {
                Ok(wide) => wide.into(),
                Err(_) => unreachable!("`new` counted the numbers"),
            },
        }
    }

    /// Row `k`, widened, into `row`.
    pub(crate) fn read_row(&self, k: usize, row: &mut [A]) {
        let columns = self.columns();
        with_slice!(&self.numbers, numbers => {
            row.iter_mut().zip(&numbers[k * columns..]).for_each(|(row, v)| *row = v.read());
        });
    }
}

impl<A: Real, D: Dimension> From<Array<A, D>> for Weight<A> {
    /// The weight that holds an array; one without axes becomes a vector of one number.
    fn from(array: Array<A, D>) -> Self {
        let shape = if array.ndim() == 0 { vec![1] } else { array.shape().to_vec() };
        let numbers: Vec<A> = array.iter().copied().collect();
        Self { shape, numbers: A::numbers(Shared::new(numbers)), precision: std::marker::PhantomData }
    }
}
