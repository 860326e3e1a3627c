//! Memory that is used again.

use ndarray::Array2;

use crate::scalar::Real;

/// Matrices that one step of a computation is done with and another can use: what is as large as activations is costly to get
/// from the system and to give back, layer after layer.
#[derive(Debug)]
pub(crate) struct Room<A> {
    free: Vec<Vec<A>>,
}

impl<A: Real> Room<A> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { free: Vec::new() }
    }

    /// A matrix of some numbers, to be overwritten.
    pub fn take(&mut self, rows: usize, columns: usize) -> Array2<A> {
        let count = rows * columns;
        let fitting = (0..self.free.len()).filter(|&k| self.free[k].capacity() >= count);
        let mut numbers = match fitting.min_by_key(|&k| self.free[k].capacity()) {
            Some(k) => self.free.swap_remove(k),
            None => Vec::with_capacity(count),
        };
        numbers.resize(count, A::zero());
        match Array2::from_shape_vec((rows, columns), numbers) {
            Ok(matrix) => matrix,
            Err(_) => unreachable!("there are as many numbers as the shape says"),
        }
    }

    /// The memory of a matrix, for the next one.
    pub fn give(&mut self, matrix: Array2<A>) {
        self.free.push(matrix.into_raw_vec_and_offset().0);
    }
}
