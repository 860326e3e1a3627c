//! Semiseparable matrices for tests: generators as flat numbers, dense forms from the definition.

use ndarray::{Array1, Array2, Array3};
use semisep::matrix::{FilterForm, Sss, Transition};

use super::Random;

/// A kind of transition by flat numbers.
pub trait Kind {
    fn size(order: usize) -> usize;
    fn make(numbers: &[f64], len: usize, order: usize) -> Transition<f64>;
    fn step(numbers: &[f64], order: usize, k: usize) -> Array2<f64>;
}

pub struct Scalar;
pub struct Diagonal;
pub struct Dense;

impl Kind for Scalar {
    fn size(_: usize) -> usize {
        1
    }
    fn make(numbers: &[f64], _: usize, _: usize) -> Transition<f64> {
        Transition::Scalar(Array1::from(numbers.to_vec()))
    }
    fn step(numbers: &[f64], order: usize, k: usize) -> Array2<f64> {
        Array2::eye(order) * numbers[k]
    }
}

impl Kind for Diagonal {
    fn size(order: usize) -> usize {
        order
    }
    fn make(numbers: &[f64], len: usize, order: usize) -> Transition<f64> {
        Transition::diagonal(Array2::from_shape_vec((len, order), numbers.to_vec()).unwrap())
    }
    fn step(numbers: &[f64], order: usize, k: usize) -> Array2<f64> {
        Array2::from_diag(&Array1::from(numbers[k * order..(k + 1) * order].to_vec()))
    }
}

impl Kind for Dense {
    fn size(order: usize) -> usize {
        order * order
    }
    fn make(numbers: &[f64], len: usize, order: usize) -> Transition<f64> {
        Transition::Dense(Array3::from_shape_vec((len, order, order), numbers.to_vec()).unwrap().into())
    }
    fn step(numbers: &[f64], order: usize, k: usize) -> Array2<f64> {
        let size = order * order;
        Array2::from_shape_vec((order, order), numbers[k * size..(k + 1) * size].to_vec()).unwrap()
    }
}

/// The numbers of a transition.
pub fn numbers<E: semisep::Field>(a: &Transition<E>) -> Vec<E> {
    match a {
        Transition::Identity => Vec::new(),
        Transition::Scalar(a) => a.to_vec(),
        Transition::Diagonal(a) | Transition::Dense(a) => a.flat().to_vec(),
    }
}

/// Generators as flat numbers.
#[derive(Debug, Clone)]
pub struct Case {
    pub len: usize,
    pub order: usize,
    pub a: Vec<f64>,
    pub b: Array2<f64>,
    pub c: Array2<f64>,
    pub d: Array1<f64>,
}

impl Case {
    pub fn random<K: Kind>(len: usize, order: usize, random: &mut Random) -> Self {
        Self {
            len,
            order,
            a: (0..len * K::size(order)).map(|_| random.number()).collect(),
            b: random.matrix(len, order),
            c: random.matrix(len, order),
            d: random.vector(len),
        }
    }

    pub fn predictor<K: Kind>(&self) -> Sss<f64> {
        let a = K::make(&self.a, self.len, self.order);
        Sss::uniform(a, self.b.clone(), self.c.clone(), self.d.clone()).unwrap()
    }

    pub fn filter<K: Kind>(&self) -> FilterForm<f64> {
        FilterForm::uniform(K::make(&self.a, self.len, self.order), self.b.clone(), self.c.clone()).unwrap()
    }

    /// Rows `C_i A_{i-1} ⋯ A_{j+1} B_j`, each multiplied from the left, for j below `i`; with `A_i` and the diagonal if `closed`.
    fn rows<K: Kind>(&self, closed: bool) -> Array2<f64> {
        let steps: Vec<_> = (0..self.len).map(|k| K::step(&self.a, self.order, k)).collect();
        let mut dense = Array2::zeros((self.len, self.len));
        for i in 0..self.len {
            let mut row = self.c.row(i).to_owned();
            for j in (0..i + usize::from(closed)).rev() {
                dense[[i, j]] = row.dot(&self.b.row(j));
                row = row.dot(&steps[j]);
            }
        }
        dense
    }

    pub fn dense_predictor<K: Kind>(&self) -> Array2<f64> {
        let mut dense = self.rows::<K>(false);
        dense.diag_mut().assign(&self.d);
        dense
    }

    pub fn dense_filter<K: Kind>(&self) -> Array2<f64> {
        self.rows::<K>(true)
    }

    pub fn parameters(&self, with_d: bool) -> Vec<f64> {
        let d = if with_d { self.d.to_vec() } else { Vec::new() };
        self.a.iter().chain(&self.b).chain(&self.c).copied().chain(d).collect()
    }

    pub fn with_parameters(&self, parameters: &[f64]) -> Self {
        let mut numbers = parameters.iter().copied();
        let mut case = self.clone();
        let (a, b, c, d) = (&mut case.a, &mut case.b, &mut case.c, &mut case.d);
        for slot in a.iter_mut().chain(b).chain(c).chain(d) {
            let Some(number) = numbers.next() else { break };
            *slot = number;
        }
        case
    }
}
