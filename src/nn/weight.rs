//! Weights: stored short or mapped from a file, computed with in full.

use ndarray::{Array, ArrayD, Dimension, IxDyn};

use crate::error::{Error, Result};
use crate::numbers::{Numbers, Shared, Stored, with_slice};
use crate::scalar::Real;

/// A parameter of a network: numbers of any stored type, to be computed with in `A`.
///
/// A matrix (rows, columns) keeps its numbers as they are stored, and they are widened as they are read, so that 16-bit
/// weights take 16 bits. Anything else (vectors, kernels of convolutions) is small and widened at once. A clone shares the numbers.
///
/// # Examples
/// ```
/// use half::bf16;
/// use semisep::nn::{Numbers, Shared, Weight};
/// let short = Numbers::Bf16(Shared::new(vec![bf16::from_f32(0.5); 6]));
/// let w = Weight::<f32>::new(&[2, 3], short)?;
/// assert_eq!((w.rows(), w.columns(), w.numbers().type_name()), (2, 3, "bf16"));
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
        let narrower = numbers.bytes_each() < size_of::<A>();
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
