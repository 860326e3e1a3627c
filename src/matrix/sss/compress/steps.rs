//! The steps of a lower matrix, each to be changed on its own.

use ndarray::{Array2, s};

use crate::matrix::sss::{Blocks, Sss, Transition};
use crate::scalar::Field;

/// Generators step by step with dense transitions; no state before the first step and none behind the last.
#[derive(Debug, Clone)]
pub(in crate::matrix::sss) struct Steps<E> {
    pub a: Vec<Array2<E>>,
    pub b: Vec<Array2<E>>,
    pub c: Vec<Array2<E>>,
    pub d: Vec<Array2<E>>,
}

impl<E: Field> Steps<E> {
    pub(in crate::matrix::sss) fn new(m: &Sss<E>) -> Self {
        let mut steps = Self {
            a: (0..m.len()).map(|k| m.a(k)).collect(),
            b: m.b_blocks().iter().map(|b| b.to_owned()).collect(),
            c: m.c_blocks().iter().map(|c| c.to_owned()).collect(),
            d: m.d_blocks().iter().map(|d| d.to_owned()).collect(),
        };
        if let (Some(a), Some(c)) = (steps.a.first_mut(), steps.c.first_mut()) {
            *a = a.slice(s![.., ..0]).to_owned();
            *c = c.slice(s![.., ..0]).to_owned();
        }
        if let (Some(a), Some(b)) = (steps.a.last_mut(), steps.b.last_mut()) {
            *a = a.slice(s![..0, ..]).to_owned();
            *b = b.slice(s![..0, ..]).to_owned();
        }
        steps
    }

    /// The same with a diagonal of zeros.
    pub(in crate::matrix::sss) fn strict(m: &Sss<E>) -> Self {
        let mut steps = Self::new(m);
        steps.d.iter_mut().for_each(|d| d.fill(E::zero()));
        steps
    }

    pub(in crate::matrix::sss) fn len(&self) -> usize {
        self.d.len()
    }

    /// The matrix; transitions of orders up to one are diagonal.
    pub(in crate::matrix::sss) fn into_matrix(self) -> Sss<E> {
        let small = self.a.iter().all(|a| a.nrows() <= 1 && a.ncols() <= 1);
        let transition = if small {
            // The one number of a step, where there is a state on both sides of it.
            Transition::Diagonal(Blocks::from_arrays(self.a.into_iter().map(|a| {
                let size = a.len();
                a.into_shape_with_order((size, 1)).unwrap_or_else(|_| Array2::zeros((size, 1)))
            })))
        } else {
            Transition::Dense(Blocks::from_arrays(self.a))
        };
        Sss::from_parts(
            transition,
            Blocks::from_arrays(self.b),
            Blocks::from_arrays(self.c),
            Blocks::from_arrays(self.d),
        )
    }

    /// The matrix read backwards, `J Mᴴ J` with block rows and columns in opposite order: again a lower one.
    ///
    /// ```math
    /// A'_k = A_{n-1-k}^H, \quad B'_k = C_{n-1-k}^H, \quad C'_k = B_{n-1-k}^H, \quad D'_k = D_{n-1-k}^H
    /// ```
    pub(in crate::matrix::sss) fn reversed(self) -> Self {
        let turn = |blocks: Vec<Array2<E>>| {
            blocks.into_iter().rev().map(|m| m.reversed_axes().mapv_into(E::conj)).collect()
        };
        Self { a: turn(self.a), b: turn(self.c), c: turn(self.b), d: turn(self.d) }
    }

    /// `self - other` of one shape: the states of both, one above the other.
    pub(in crate::matrix::sss) fn minus(self, other: Self) -> Self {
        let zip = |x: Vec<Array2<E>>, y: Vec<Array2<E>>, f: fn(Array2<E>, Array2<E>) -> Array2<E>| {
            x.into_iter().zip(y).map(|(x, y)| f(x, y)).collect()
        };
        Self {
            a: zip(self.a, other.a, |x, y| stack(&x, &y, (x.nrows(), x.ncols()))),
            b: zip(self.b, other.b, |x, y| stack(&x, &y, (x.nrows(), 0))),
            c: zip(self.c, other.c, |x, y| stack(&x, &-y, (0, x.ncols()))),
            d: zip(self.d, other.d, |x, y| x - y),
        }
    }
}

/// `x` in the upper left corner and `y` from the row and column `at` on; zeros elsewhere.
fn stack<E: Field>(x: &Array2<E>, y: &Array2<E>, at: (usize, usize)) -> Array2<E> {
    let (rows, columns) = (at.0 + y.nrows(), at.1 + y.ncols());
    let mut both = Array2::zeros((rows.max(x.nrows()), columns.max(x.ncols())));
    both.slice_mut(s![..x.nrows(), ..x.ncols()]).assign(x);
    both.slice_mut(s![at.0.., at.1..]).assign(y);
    both
}
