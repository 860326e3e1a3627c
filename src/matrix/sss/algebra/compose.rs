//! Transitions made of transitions: direct sums, Kronecker products, products over ranges, dense forms.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, s};

use super::super::Transition;
use crate::linalg;
use crate::scalar::Field;

/// Transitions with the orders that they stand between.
#[derive(Clone, Copy)]
pub(in crate::matrix::sss) struct Chain<'a, E> {
    pub(in crate::matrix::sss) transition: &'a Transition<E>,
    pub(in crate::matrix::sss) orders: &'a [usize],
}

impl<'a, E: Field> Chain<'a, E> {
    fn len(&self) -> usize {
        self.orders.len() - 1
    }

    /// States that step k carries over, if it does not mix them.
    fn carried(&self, k: usize) -> usize {
        self.orders[k].min(self.orders[k + 1])
    }

    fn step(&self, k: usize) -> Array2<E> {
        self.transition.step(k, self.orders[k + 1], self.orders[k])
    }

    /// The diagonal of step k, if it does not mix states.
    pub(in crate::matrix::sss) fn diagonal(&self, k: usize) -> Option<Vec<E>> {
        match self.transition {
            Transition::Identity => Some(vec![E::one(); self.carried(k)]),
            Transition::Scalar(a) => Some(vec![a[k]; self.carried(k)]),
            Transition::Diagonal(a) => Some(a.values(k).to_vec()),
            Transition::Dense(_) => None,
        }
    }

    /// $`\mathrm{diag}(A_k, A'_k)`$. It stays elementwise where both are and the states of the second keep their places.
    pub(in crate::matrix::sss) fn direct_sum(self, other: Self) -> Transition<E> {
        let in_place = |k: usize| self.orders[k] == self.orders[k + 1] || other.carried(k) == 0;
        if (0..self.len()).all(in_place) {
            let order = |k: usize| self.orders[k] + other.orders[k];
            let shared = |k: usize| order(k).min(order(k + 1));
            if let (Transition::Identity, Transition::Identity) = (self.transition, other.transition)
                && (0..self.len()).all(|k| self.carried(k) + other.carried(k) == shared(k))
            {
                return Transition::Identity;
            }
            let diagonals = (0..self.len()).map(|k| {
                let mut sum = self.diagonal(k)?;
                sum.extend(other.diagonal(k)?);
                // States that begin or end at this step stand behind the others.
                sum.resize(shared(k), E::zero());
                Some(column(sum))
            });
            if let Some(blocks) = diagonals.collect() {
                return Transition::Diagonal(blocks);
            }
        }
        Transition::Dense((0..self.len()).map(|k| block_diagonal(self.step(k), other.step(k))).collect())
    }

    /// $`A_k \otimes A'_k`$. It stays elementwise where both are and the states keep their places.
    pub(in crate::matrix::sss) fn kronecker(self, other: Self) -> Transition<E> {
        let in_place = |k: usize| other.orders[k] == other.orders[k + 1] || self.carried(k) <= 1;
        if (0..self.len()).all(in_place) {
            let order = |k: usize| self.orders[k] * other.orders[k];
            let shared = |k: usize| order(k).min(order(k + 1));
            let scalar = |t: &Transition<E>| match t {
                Transition::Identity => Some(Array1::ones(self.len())),
                Transition::Scalar(a) => Some(a.clone()),
                _ => None,
            };
            if (0..self.len()).all(|k| self.carried(k) * other.carried(k) == shared(k)) {
                match (self.transition, other.transition) {
                    (Transition::Identity, Transition::Identity) => return Transition::Identity,
                    (first, second) => {
                        if let (Some(a), Some(b)) = (scalar(first), scalar(second)) {
                            return Transition::Scalar(a * b);
                        }
                    }
                }
            }
            let diagonals = (0..self.len()).map(|k| {
                let (a, b) = (self.diagonal(k)?, other.diagonal(k)?);
                let mut product: Vec<E> = a.iter().flat_map(|a| b.iter().map(|b| *a * *b)).collect();
                product.resize(shared(k), E::zero());
                Some(column(product))
            });
            if let Some(blocks) = diagonals.collect() {
                return Transition::Diagonal(blocks);
            }
        }
        Transition::Dense((0..self.len()).map(|k| kronecker(&self.step(k), &other.step(k))).collect())
    }

    /// $`A_k \otimes I_s`$.
    pub(in crate::matrix::sss) fn kronecker_identity(self, copies: usize) -> Transition<E> {
        let orders = vec![copies; self.orders.len()];
        self.kronecker(Chain { transition: &Transition::Identity, orders: &orders })
    }

    /// One transition for each range of steps: the product of its transitions, the last on the left.
    pub(in crate::matrix::sss) fn merged(self, ranges: &[Range<usize>]) -> Transition<E> {
        let ends = |r: &Range<usize>| self.orders[r.start].min(self.orders[r.end]);
        let narrowest = |r: &Range<usize>| self.orders[r.start..=r.end].iter().copied().min().unwrap_or(0);
        // A state cut off within a range does not come back, which a transition without numbers cannot express.
        let passes = ranges.iter().all(|r| narrowest(r) == ends(r));
        match self.transition {
            Transition::Identity if passes => Transition::Identity,
            Transition::Scalar(a) if passes => {
                let product = |r: &Range<usize>| a.slice(s![r.clone()]).product();
                Transition::Scalar(ranges.iter().map(product).collect())
            }
            Transition::Dense(_) => {
                Transition::Dense(ranges.iter().map(|r| self.passage(r.clone())).collect())
            }
            _ => Transition::Diagonal(
                ranges
                    .iter()
                    .map(|r| {
                        let mut product = self.diagonal_passage(r.clone());
                        product.resize(ends(r), E::zero());
                        column(product)
                    })
                    .collect(),
            ),
        }
    }

    /// The product of the diagonals of a range, on the states that get through.
    fn diagonal_passage(self, range: Range<usize>) -> Vec<E> {
        let mut product = vec![E::one(); self.orders[range.start]];
        range.for_each(|k| self.scale(k, &mut product));
        product
    }

    /// The diagonal of one more step, on the states that get through it.
    fn scale(self, k: usize, product: &mut Vec<E>) {
        product.truncate(self.carried(k));
        match self.transition {
            Transition::Scalar(a) => product.iter_mut().for_each(|p| *p *= a[k]),
            Transition::Diagonal(a) => product.iter_mut().zip(a.values(k)).for_each(|(p, a)| *p *= *a),
            Transition::Identity | Transition::Dense(_) => {}
        }
    }

    /// $`A_{end-1} \cdots A_{start}`$, dense.
    pub(in crate::matrix::sss) fn passage(self, range: Range<usize>) -> Array2<E> {
        let (after, before) = (self.orders[range.end], self.orders[range.start]);
        match self.transition {
            Transition::Dense(a) => {
                range.fold(Array2::eye(before), |product, k| linalg::product(a.block(k), product.view()))
            }
            _ => {
                let mut product = Array2::zeros((after, before));
                let diagonal = Array1::from(self.diagonal_passage(range));
                product.diag_mut().slice_mut(s![..diagonal.len()]).assign(&diagonal);
                product
            }
        }
    }

    /// The product of no transitions, between steps `at` - 1 and `at`.
    pub(in crate::matrix::sss) fn through(self, at: usize) -> Through<'a, E> {
        let states = self.orders[at];
        let product = match self.transition {
            Transition::Dense(_) => Product::Dense(Array2::eye(states)),
            _ => Product::Diagonal(vec![E::one(); states]),
        };
        Through { chain: self, after: states, before: states, product }
    }
}

/// A product of transitions of consecutive steps that grows at either end.
pub(in crate::matrix::sss) struct Through<'a, E> {
    chain: Chain<'a, E>,
    after: usize,
    before: usize,
    product: Product<E>,
}

/// Its numbers: on the states that get through, or all.
enum Product<E> {
    Diagonal(Vec<E>),
    Dense(Array2<E>),
}

impl<E: Field> Through<'_, E> {
    /// One more step behind the others.
    pub(in crate::matrix::sss) fn append(&mut self, k: usize) {
        self.after = self.chain.orders[k + 1];
        match &mut self.product {
            Product::Diagonal(product) => self.chain.scale(k, product),
            Product::Dense(product) => *product = linalg::product(self.chain.step(k).view(), product.view()),
        }
    }

    /// One more step before the others.
    pub(in crate::matrix::sss) fn prepend(&mut self, k: usize) {
        self.before = self.chain.orders[k];
        match &mut self.product {
            Product::Diagonal(product) => self.chain.scale(k, product),
            Product::Dense(product) => *product = linalg::product(product.view(), self.chain.step(k).view()),
        }
    }

    /// `C` times the product.
    pub(in crate::matrix::sss) fn read(&self, c: ArrayView2<'_, E>) -> Array2<E> {
        match &self.product {
            Product::Dense(product) => linalg::product(c, product.view()),
            Product::Diagonal(product) => {
                let mut read = Array2::zeros((c.nrows(), self.before));
                for ((n, p), column) in product.iter().enumerate().zip(c.columns()) {
                    read.column_mut(n).scaled_add(*p, &column);
                }
                read
            }
        }
    }

    /// The product times `B`.
    pub(in crate::matrix::sss) fn enter(&self, b: ArrayView2<'_, E>) -> Array2<E> {
        match &self.product {
            Product::Dense(product) => linalg::product(product.view(), b),
            Product::Diagonal(product) => {
                let mut entered = Array2::zeros((self.after, b.ncols()));
                for ((n, p), row) in product.iter().enumerate().zip(b.rows()) {
                    entered.row_mut(n).scaled_add(*p, &row);
                }
                entered
            }
        }
    }
}

fn column<E: Field>(values: Vec<E>) -> Array2<E> {
    Array2::from_shape_vec((values.len(), 1), values).expect("one column")
}

/// `diag(a, b)`
pub(in crate::matrix::sss) fn block_diagonal<E: Field>(a: Array2<E>, b: Array2<E>) -> Array2<E> {
    let (rows, columns) = a.dim();
    let mut sum = Array2::zeros((rows + b.nrows(), columns + b.ncols()));
    sum.slice_mut(s![..rows, ..columns]).assign(&a);
    sum.slice_mut(s![rows.., columns..]).assign(&b);
    sum
}

/// `a ⊗ b`
pub(in crate::matrix::sss) fn kronecker<E: Field>(a: &Array2<E>, b: &Array2<E>) -> Array2<E> {
    let mut all = Vec::with_capacity(a.len() * b.len());
    for a in a.rows() {
        for b in b.rows() {
            a.iter().for_each(|a| all.extend(b.iter().map(|b| *a * *b)));
        }
    }
    Array2::from_shape_vec((a.nrows() * b.nrows(), a.ncols() * b.ncols()), all)
        .expect("a number of each pair")
}
