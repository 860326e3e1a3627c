//! Block semiseparable matrices with ragged sizes and orders, and their dense forms from the definition.

use ndarray::{Array1, Array2, s};
use num_complex::Complex;
use proptest::prelude::*;
use semisep::Field;
use semisep::matrix::sss::{Blocks, HermitianQuasiseparable, Quasiseparable, Sss, Transition};

use super::Random;

/// A number that tests draw.
pub trait Draw: Field<Real = f64> {
    fn draw(random: &mut Random) -> Self;
}

impl Draw for f64 {
    fn draw(random: &mut Random) -> Self {
        random.number()
    }
}

impl Draw for Complex<f64> {
    fn draw(random: &mut Random) -> Self {
        Complex::new(random.number(), random.number())
    }
}

pub fn array<E: Draw>(rows: usize, columns: usize, random: &mut Random) -> Array2<E> {
    Array2::from_shape_simple_fn((rows, columns), || E::draw(random))
}

/// The kinds of transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Identity,
    Scalar,
    Diagonal,
    Dense,
}

pub const KINDS: [Kind; 4] = [Kind::Identity, Kind::Scalar, Kind::Diagonal, Kind::Dense];

/// How large transitions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// Entries in [-1, 1].
    Plain,
    /// Every third is zero.
    Zeros,
    /// Twice as large: states grow.
    Growing,
}

/// Sizes of a block matrix: what every step takes in and yields, and the orders between steps.
#[derive(Debug, Clone)]
pub struct Sizes {
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
    pub orders: Vec<usize>,
    pub kind: Kind,
    pub growth: Growth,
    pub seed: u64,
}

impl Sizes {
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    pub fn random(&self) -> Random {
        Random::new(self.seed)
    }

    /// Steps that yield as much as they take in.
    pub fn square(mut self) -> Self {
        self.outputs = self.inputs.clone();
        self
    }

    /// Steps of one number and one order throughout, `N_0` and `N_n` too.
    pub fn uniform(mut self) -> Self {
        let order = self.orders.get(1).copied().unwrap_or(0);
        self.inputs.fill(1);
        self.outputs.fill(1);
        self.orders.fill(order);
        self
    }

    /// Other orders and numbers for steps of the same sizes.
    pub fn reordered(&self, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut sizes = self.clone();
        sizes.orders.iter_mut().for_each(|n| *n = (random.number().abs() * 4.0) as usize);
        sizes.seed = seed ^ 0x9e37_79b9;
        sizes
    }

    pub fn with_kind(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// Inputs and outputs change places.
    pub fn swapped(&self) -> Self {
        Self { inputs: self.outputs.clone(), outputs: self.inputs.clone(), ..self.clone() }
    }

    pub fn lower<E: Draw>(&self) -> Sss<E> {
        let mut random = self.random();
        let (n, len) = (&self.orders, self.len());
        let transition = self.transition(&mut random);
        let b: Blocks<E> = (0..len).map(|k| array(n[k + 1], self.inputs[k], &mut random)).collect();
        let c: Blocks<E> = (0..len).map(|k| array(self.outputs[k], n[k], &mut random)).collect();
        let d: Blocks<E> = (0..len).map(|k| array(self.outputs[k], self.inputs[k], &mut random)).collect();
        Sss::new(transition, b, c, d).unwrap()
    }

    fn transition<E: Draw>(&self, random: &mut Random) -> Transition<E> {
        let growth = self.growth;
        let mut count = 0;
        let mut number = || {
            count += 1;
            let value = E::draw(random);
            match growth {
                Growth::Plain => value,
                Growth::Zeros if count % 3 == 0 => E::zero(),
                Growth::Zeros => value,
                Growth::Growing => value + value,
            }
        };
        let n = &self.orders;
        match self.kind {
            Kind::Identity => Transition::Identity,
            Kind::Scalar => Transition::Scalar(Array1::from_shape_simple_fn(self.len(), number)),
            Kind::Diagonal => {
                let block = |k: usize| Array2::from_shape_simple_fn((n[k].min(n[k + 1]), 1), &mut number);
                Transition::Diagonal((0..self.len()).map(block).collect())
            }
            Kind::Dense => {
                let block = |k: usize| Array2::from_shape_simple_fn((n[k + 1], n[k]), &mut number);
                Transition::Dense((0..self.len()).map(block).collect())
            }
        }
    }

    /// A lower part of these sizes and an upper part with other orders and another kind of transition.
    pub fn two_sided<E: Draw>(&self) -> Quasiseparable<E> {
        let kind = KINDS[(self.seed % 4) as usize];
        let upper = self.swapped().reordered(self.seed.wrapping_add(1)).with_kind(kind);
        Quasiseparable::new(self.lower(), upper.lower()).unwrap()
    }

    /// A Hermitian matrix; `self` is made square.
    pub fn hermitian<E: Draw>(&self) -> HermitianQuasiseparable<E> {
        self.clone().hermitian_with(E::zero())
    }

    /// A Hermitian matrix with `shift` added to its diagonal; `self` is made square.
    pub fn hermitian_with<E: Draw>(&self, shift: E) -> HermitianQuasiseparable<E> {
        let (transition, b, c, d) = self.clone().square().lower::<E>().into_parts();
        let d = d.iter().map(|d| {
            let mut d = &d + &d.t().mapv(E::conj);
            d.diag_mut().mapv_inplace(|v| v + shift);
            d
        });
        HermitianQuasiseparable::new(Sss::new(transition, b, c, d.collect()).unwrap()).unwrap()
    }
}

/// Sizes of up to `steps` steps, of blocks up to 3 by 3 and orders up to 4, all of them zero at times.
pub fn sizes(steps: usize) -> impl Strategy<Value = Sizes> {
    let size = || prop_oneof![4 => 1usize..=3, 1 => Just(0usize)];
    let order = || prop_oneof![4 => 1usize..=4, 1 => Just(0usize)];
    let kind = prop::sample::select(&KINDS[..]);
    let growth = prop_oneof![3 => Just(Growth::Plain), 1 => Just(Growth::Zeros), 1 => Just(Growth::Growing)];
    (0..=steps).prop_flat_map(move |len| {
        let step = (size(), size());
        let sizes = (prop::collection::vec(step, len), prop::collection::vec(order(), len + 1));
        (sizes, kind.clone(), growth.clone(), any::<u64>()).prop_map(
            |((steps, mut orders), kind, growth, seed)| {
                let (inputs, outputs): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
                if inputs.is_empty() {
                    orders = vec![0];
                }
                Sizes { inputs, outputs, orders, kind, growth, seed }
            },
        )
    })
}

/// The product of a chain, by loops.
pub fn product<E: Field>(a: &Array2<E>, b: &Array2<E>) -> Array2<E> {
    assert_eq!(a.ncols(), b.nrows());
    Array2::from_shape_fn((a.nrows(), b.ncols()), |(i, j)| {
        (0..a.ncols()).map(|k| a[[i, k]] * b[[k, j]]).sum()
    })
}

/// A_k by its definition: the numbers of the transition on the leading states.
pub fn step<E: Field>(m: &Sss<E>, k: usize) -> Array2<E> {
    let shape = (m.orders()[k + 1], m.orders()[k]);
    let diagonal =
        |f: &dyn Fn(usize) -> E| Array2::from_shape_fn(shape, |(i, j)| if i == j { f(i) } else { E::zero() });
    match m.transition() {
        Transition::Identity => diagonal(&|_| E::one()),
        Transition::Scalar(a) => diagonal(&|_| a[k]),
        Transition::Diagonal(a) => diagonal(&|i| a.block(k)[[i, 0]]),
        Transition::Dense(a) => a.block(k).to_owned(),
    }
}

/// `M_ij = C_i A_{i-1} ⋯ A_{j+1} B_j`, `M_ii = D_i`, each block by itself.
pub fn dense_lower<E: Field>(m: &Sss<E>) -> Array2<E> {
    let place = |sizes: &dyn Fn(usize) -> usize| -> Vec<usize> {
        (0..=m.len()).map(|k| (0..k).map(sizes).sum()).collect()
    };
    let (rows, columns) = (place(&|k| m.d(k).nrows()), place(&|k| m.d(k).ncols()));
    let mut dense = Array2::zeros((rows[m.len()], columns[m.len()]));
    for i in 0..m.len() {
        for j in 0..=i {
            let block = if i == j {
                m.d(i).to_owned()
            } else {
                let path = (j + 1..i).fold(m.b(j).to_owned(), |path, k| product(&step(m, k), &path));
                product(&m.c(i).to_owned(), &path)
            };
            dense.slice_mut(s![rows[i]..rows[i + 1], columns[j]..columns[j + 1]]).assign(&block);
        }
    }
    dense
}

/// The dense form with its diagonal blocks zero.
pub fn strictly_lower<E: Field>(m: &Sss<E>) -> Array2<E> {
    let (transition, b, c, d) = m.clone().into_parts();
    dense_lower(&Sss::new(transition, b, c, d.map(|_| E::zero())).unwrap())
}

pub fn adjoint<E: Field>(a: &Array2<E>) -> Array2<E> {
    a.t().mapv(E::conj)
}

pub fn dense_two_sided<E: Field>(m: &Quasiseparable<E>) -> Array2<E> {
    dense_lower(m.lower()) + adjoint(&strictly_lower(m.upper()))
}

pub fn dense_hermitian<E: Field>(m: &HermitianQuasiseparable<E>) -> Array2<E> {
    dense_lower(m.lower()) + adjoint(&strictly_lower(m.lower()))
}
