//! The checker of structured matrices: everything against entries written by definition in the test.

use std::fmt::Debug;

use ndarray::{Array1, Array2, ArrayView2};
use num_complex::Complex;
use semisep::matrix::StructuredMatrix;
use semisep::{Error, Field};

/// Pseudo-random numbers (splitmix64); the same seed gives the same ones.
pub struct Numbers(pub u64);

impl Numbers {
    /// Uniform in (-1, 1).
    pub fn real(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn array<E: Number>(&mut self, shape: (usize, usize)) -> Array2<E> {
        Array2::from_shape_simple_fn(shape, || E::of(self.real(), self.real()))
    }

    pub fn vector<E: Number>(&mut self, len: usize) -> Array1<E> {
        Array1::from_shape_simple_fn(len, || E::of(self.real(), self.real()))
    }
}

/// A field with its parts in double precision, and its unit roundoff.
pub trait Number: Field {
    const EPSILON: f64;
    /// Directions to differentiate in: 1, and i in a complex field.
    const DIRECTIONS: &'static [(f64, f64)];
    fn of(re: f64, im: f64) -> Self;
    fn parts(self) -> (f64, f64);
}

macro_rules! impl_number {
    ($($t:ty),*) => {$(
        impl Number for $t {
            const EPSILON: f64 = <$t>::EPSILON as f64;
            const DIRECTIONS: &'static [(f64, f64)] = &[(1.0, 0.0)];
            fn of(re: f64, _: f64) -> Self { re as $t }
            fn parts(self) -> (f64, f64) { (self.into(), 0.0) }
        }
        impl Number for Complex<$t> {
            const EPSILON: f64 = <$t>::EPSILON as f64;
            const DIRECTIONS: &'static [(f64, f64)] = &[(1.0, 0.0), (0.0, 1.0)];
            fn of(re: f64, im: f64) -> Self { Complex::new(re as $t, im as $t) }
            fn parts(self) -> (f64, f64) { (self.re.into(), self.im.into()) }
        }
    )*};
}
impl_number!(f32, f64);

pub fn size<E: Number>(x: E) -> f64 {
    let (re, im) = x.parts();
    re.hypot(im)
}

/// The product by its definition, one entry after the other.
pub fn product<E: Number>(m: ArrayView2<'_, E>, x: ArrayView2<'_, E>) -> Array2<E> {
    Array2::from_shape_fn((m.nrows(), x.ncols()), |(i, c)| {
        (0..m.ncols()).fold(E::zero(), |sum, j| sum + m[[i, j]] * x[[j, c]])
    })
}

/// |m| |x|, what the error of a product is measured against.
pub fn scale<E: Number>(m: ArrayView2<'_, E>, x: ArrayView2<'_, E>) -> Array2<f64> {
    product(m.mapv(size).view(), x.mapv(size).view())
}

/// Entries of `found` and `expected` differ by at most `bound` each.
#[track_caller]
pub fn assert_close<E: Number>(
    what: &str,
    found: ArrayView2<'_, E>,
    expected: ArrayView2<'_, E>,
    bound: impl Fn((usize, usize)) -> f64,
) {
    assert_eq!(found.shape(), expected.shape(), "{what}: shapes");
    for (at, &value) in found.indexed_iter() {
        let difference = size(value - expected[at]);
        // Written so that NaN fails.
        assert!(
            difference <= bound(at),
            "{what} at {at:?}: {value} instead of {}, bound {}",
            expected[at],
            bound(at)
        );
    }
}

/// Re Σ conj(u) v
fn inner<E: Number>(u: ArrayView2<'_, E>, v: ArrayView2<'_, E>) -> f64 {
    u.iter().zip(v).map(|(&u, &v)| (u.conj() * v).parts().0).sum()
}

/// A matrix that `build` makes of parameters, and the definition of its entries.
pub struct Case<'a, E, M: StructuredMatrix<E>>
where
    E: Number,
{
    pub parameters: Array1<E>,
    pub build: &'a dyn Fn(&Array1<E>) -> M,
    pub entry: &'a dyn Fn(&Array1<E>, usize, usize) -> E,
    /// The cotangents in the order of the parameters.
    pub flatten: &'a dyn Fn(M::Gradient) -> Array1<E>,
}

/// Dense form against the definition; both products and the vjp against the dense form; derivatives against
/// central differences; shapes that do not fit.
#[track_caller]
pub fn check_matrix<E, M>(case: &Case<'_, E, M>, seed: u64)
where
    E: Number,
    M: StructuredMatrix<E>,
    M::Gradient: Debug,
{
    let mut numbers = Numbers(seed);
    let m = (case.build)(&case.parameters);
    let (rows, columns) = m.shape();
    let dense = m.to_dense();
    let defined = Array2::from_shape_fn((rows, columns), |(i, j)| (case.entry)(&case.parameters, i, j));
    let largest = defined.iter().map(|&v| size(v)).fold(1e-300, f64::max);
    let roundings = 4.0 * (rows + columns + 4) as f64 * E::EPSILON;
    assert_close("dense form", dense.view(), defined.view(), |at| {
        roundings * size(defined[at]) + roundings * 1e-3 * largest
    });

    for k in [0, 1, 3] {
        let (x, y) = (numbers.array::<E>((columns, k)), numbers.array::<E>((rows, k)));
        // Against the norm: products through an FFT are not accurate entry by entry.
        let bound = roundings * largest * (rows + columns) as f64;
        let mx = product(defined.view(), x.view());
        assert_close("product", m.matmul(x.view()).unwrap().view(), mx.view(), |_| bound);
        let strided = x.t().to_owned();
        assert_close("strided product", m.matmul(strided.t()).unwrap().view(), mx.view(), |_| bound);
        let adjoint = defined.mapv(E::conj);
        let my = product(adjoint.t(), y.view());
        assert_close("adjoint product", m.adjoint_matmul(y.view()).unwrap().view(), my.view(), |_| bound);

        let (gradient, dx) = m.vjp(x.view(), y.view()).unwrap();
        assert_close("dx", dx.view(), my.view(), |_| bound);
        let gradient = (case.flatten)(gradient);
        let outer = product(y.view(), x.mapv(E::conj).t());
        let pulled = (case.flatten)(m.pull_back(outer.view()).unwrap());
        assert_eq!(gradient.len(), case.parameters.len());
        let steepest = pulled.iter().map(|&v| size(v)).fold(1.0, f64::max);
        assert_close(
            "pull_back of dy x^H against vjp",
            pulled.view().insert_axis(ndarray::Axis(0)),
            gradient.view().insert_axis(ndarray::Axis(0)),
            |_| 100.0 * roundings * steepest,
        );
        if E::EPSILON < 1e-10 {
            check_differences(case, "vjp", &gradient, |m| {
                inner(y.view(), m.matmul(x.view()).unwrap().view())
            });
        }
    }
    if E::EPSILON < 1e-10 {
        let d = numbers.array::<E>((rows, columns));
        let pulled = (case.flatten)(m.pull_back(d.view()).unwrap());
        check_differences(case, "pull_back", &pulled, |m| inner(d.view(), m.to_dense().view()));
    }
    check_shapes(&m);
}

/// `gradient` against central differences of `f` in every parameter.
#[track_caller]
fn check_differences<E: Number, M: StructuredMatrix<E>>(
    case: &Case<'_, E, M>,
    what: &str,
    gradient: &Array1<E>,
    f: impl Fn(&M) -> f64,
) {
    let step = 1e-5;
    for (index, &found) in gradient.iter().enumerate() {
        for &(re, im) in E::DIRECTIONS {
            let at = |step: f64| {
                let mut parameters = case.parameters.clone();
                parameters[index] += E::of(step * re, step * im);
                f(&(case.build)(&parameters))
            };
            let expected = (at(step) - at(-step)) / (2.0 * step);
            let found = found.parts().0 * re + found.parts().1 * im;
            let bound = 1e-6 * (1.0 + expected.abs() + f(&(case.build)(&case.parameters)).abs());
            assert!(
                (found - expected).abs() <= bound,
                "{what}, parameter {index}, direction {re} + {im}i: {found} instead of {expected}"
            );
        }
    }
}

#[track_caller]
fn check_shapes<E: Number, M: StructuredMatrix<E>>(m: &M)
where
    M::Gradient: Debug,
{
    let (rows, columns) = m.shape();
    let array = |rows, columns| Array2::<E>::zeros((rows, columns));
    let wrong = |error: Error, name: &str| match error {
        Error::Shape { tensor, .. } => assert_eq!(tensor, name),
        other => panic!("{other} instead of a shape error"),
    };
    wrong(m.matmul(array(columns + 1, 2).view()).unwrap_err(), "x");
    wrong(m.adjoint_matmul(array(rows + 1, 2).view()).unwrap_err(), "y");
    wrong(m.vjp(array(columns + 1, 2).view(), array(rows, 2).view()).unwrap_err(), "x");
    wrong(m.vjp(array(columns, 2).view(), array(rows, 3).view()).unwrap_err(), "dy");
    wrong(m.vjp(array(columns, 2).view(), array(rows + 1, 2).view()).unwrap_err(), "dy");
    wrong(m.pull_back(array(rows + 1, columns).view()).unwrap_err(), "d_dense");
}
