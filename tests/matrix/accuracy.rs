//! Factorisations against recorded numbers of other libraries and of long arithmetic, where accuracy is hard to keep, and
//! what they say when there is no answer.
//!
//! `tests/golden/factor.py` made the recorded numbers.

use crate::support::dense::{backward_error, condition, norm, solve};
use crate::support::{Random, assert_close};
use ndarray::{Array1, Array2, Array3, ArrayD, array};
use safetensors::SafeTensors;
use semisep::Error;
use semisep::matrix::StructuredMatrix;
use semisep::matrix::sss::{
    Blocks, HermitianQuasiseparable, Quasiseparable, Sss, StateSpaceRoots, Transition,
};

struct Golden(Vec<u8>);

impl Golden {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/factor.safetensors");
        Self(std::fs::read(path).unwrap())
    }

    fn tensor(&self, name: &str) -> ArrayD<f64> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap();
        let values = view.data().as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        ArrayD::from_shape_vec(view.shape(), values).unwrap()
    }

    fn vector(&self, name: &str) -> Array1<f64> {
        self.tensor(name).flatten().to_owned()
    }

    fn matrix(&self, name: &str) -> Array2<f64> {
        self.tensor(name).into_dimensionality().unwrap()
    }
}

/// `Σ_n U_in V_jn exp(-c_n (t_i - t_j))` below the diagonal a.
fn exponentials(golden: &Golden, case: &str) -> HermitianQuasiseparable<f64> {
    let of = |name: &str| golden.vector(&format!("{case}.{name}"));
    let (t, rates) = (of("t"), of("c"));
    let gap = |k: usize| t.get(k + 1).map_or(0.0, |next| next - t[k]);
    let a = Array2::from_shape_fn((t.len(), rates.len()), |(k, n)| (-rates[n] * gap(k)).exp());
    let b = &a * &golden.matrix(&format!("{case}.v"));
    let c = golden.matrix(&format!("{case}.u"));
    HermitianQuasiseparable::new(Sss::uniform(Transition::diagonal(a), b, c, of("a")).unwrap()).unwrap()
}

#[test]
fn sums_of_exponentials_have_the_pivots_solutions_and_determinants_of_celerite2() {
    let golden = Golden::read();
    for order in [1, 3, 8, 12] {
        let case = format!("celerite2_{order}");
        let m = exponentials(&golden, &case);
        let factor = m.cholesky().unwrap();
        assert_close(factor.ldl().pivots().flat(), &golden.vector(&format!("{case}.pivots")), 1e-14);
        let y = golden.matrix(&format!("{case}.y"));
        assert_close(&factor.solve(y.view()).unwrap(), &golden.matrix(&format!("{case}.x")), 1e-13);
        let log = golden.vector(&format!("{case}.logdet"))[0];
        assert!((factor.log_determinant() - log).abs() < 1e-13 * log.abs().max(1.0));
    }
}

#[test]
fn a_matern_process_has_the_pivots_solution_and_likelihood_of_tinygp() {
    let golden = Golden::read();
    let of = |name: &str| golden.tensor(&format!("tinygp.{name}"));
    let blocks = |name: &str, swap: bool| -> Blocks<f64> {
        let rows: Array2<f64> = of(name).into_dimensionality().unwrap();
        rows.outer_iter().map(|row| row.insert_axis(ndarray::Axis(usize::from(swap))).to_owned()).collect()
    };
    let a: Array3<f64> = of("a").into_dimensionality().unwrap();
    let len = a.len_of(ndarray::Axis(0));
    let d = Array3::from_shape_vec((len, 1, 1), of("diagonal").iter().copied().collect()).unwrap();
    let lower =
        Sss::new(Transition::Dense(a.into()), blocks("q", true), blocks("p", false), d.into()).unwrap();
    let m = HermitianQuasiseparable::new(lower).unwrap();
    assert_close(&m.to_dense(), &golden.matrix("tinygp.dense"), 1e-13);
    let factor = m.cholesky().unwrap();
    assert_close(factor.ldl().pivots().flat(), &golden.vector("tinygp.pivots"), 1e-13);
    let y = golden.vector("tinygp.y").insert_axis(ndarray::Axis(1));
    assert_close(&factor.solve(y.view()).unwrap(), &golden.vector("tinygp.x"), 1e-12);
    let expected = golden.vector("tinygp.log_likelihood")[0];
    assert!((factor.log_likelihood(y.view()).unwrap() - expected).abs() < 1e-11 * expected.abs());
}

/// A Matern-3/2 process on an even grid: exact transitions, and a root of the noise by Gauss-Legendre quadrature of
/// `Q = ∫ v vᵀ` with `v = √(4 λ³) e^{-λτ} (τ, 1 - λτ)`, so that nothing is subtracted.
fn matern(len: usize, step: f64, noise: f64) -> StateSpaceRoots<f64> {
    const NODES: [(f64, f64); 5] = [
        (0.148_874_338_981_631_21, 0.295_524_224_714_752_87),
        (0.433_395_394_129_247_2, 0.269_266_719_309_996_36),
        (0.679_409_568_299_024_4, 0.219_086_362_515_982_04),
        (0.865_063_366_688_984_5, 0.149_451_349_150_580_6),
        (0.973_906_528_517_171_7, 0.066_671_344_308_688_14),
    ];
    let rate = 3f64.sqrt();
    let decay = (-rate * step).exp();
    let a = array![
        [decay * (1.0 + rate * step), decay * step],
        [-decay * rate * rate * step, decay * (1.0 - rate * step)]
    ];
    let mut root = Array2::zeros((2, 10));
    for (i, (node, weight)) in NODES.into_iter().flat_map(|(x, w)| [(x, w), (-x, w)]).enumerate() {
        let time = step * (1.0 + node) / 2.0;
        let scale = (4.0 * rate.powi(3) * weight * step / 2.0).sqrt() * (-rate * time).exp();
        root[[0, i]] = scale * time;
        root[[1, i]] = scale * (1.0 - rate * time);
    }
    let same = |block: Array2<f64>| -> Blocks<f64> { (0..len).map(|_| block.clone()).collect() };
    StateSpaceRoots {
        transition: Transition::Dense(same(a)),
        noise: same(root),
        output: same(array![[1.0, 0.0]]),
        output_noise: same(array![[noise.sqrt()]]),
        initial: array![[1.0, 0.0], [0.0, rate]],
    }
}

#[test]
fn the_array_form_keeps_twelve_digits_of_every_pivot_when_there_is_hardly_any_noise() {
    let golden = Golden::read();
    for (case, (step, noise)) in
        [(0.1, 1e-2), (1e-2, 1e-6), (1e-3, 1e-8), (1e-3, 0.0)].into_iter().enumerate()
    {
        let expected = golden.vector(&format!("matern.{case}"));
        let factor = matern(expected.len(), step, noise).cholesky().unwrap();
        let pivots = factor.ldl().pivots().flat();
        let worst = pivots.iter().zip(&expected).map(|(p, e)| (p / e - 1.0).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-12, "step {step}, noise {noise}: worst pivot wrong by {worst:e}");
    }
}

/// A two-sided matrix of order 3 whose diagonal is one number.
fn two_sided(len: usize, diagonal: f64, random: &mut Random) -> Quasiseparable<f64> {
    let mut normal = |shape: (usize, usize)| {
        Array2::from_shape_simple_fn(shape, || (0..12).map(|_| random.number()).sum::<f64>() / 2.0)
    };
    let mut part = || {
        let a: Blocks<f64> = (0..len).map(|_| normal((3, 3)) * (0.7 / 3f64.sqrt())).collect();
        let b: Blocks<f64> = (0..len).map(|_| normal((3, 1))).collect();
        let c: Blocks<f64> = (0..len).map(|_| normal((1, 3))).collect();
        let d: Blocks<f64> = (0..len).map(|_| array![[diagonal]]).collect();
        Sss::new(Transition::Dense(a), b, c, d).unwrap()
    };
    Quasiseparable::new(part(), part()).unwrap()
}

#[test]
fn orthogonal_factors_are_stable_where_elimination_without_pivoting_is_not() {
    let len = 200;
    for (diagonal, least_growth) in [(1.0, 1.0), (1e-4, 1e2), (1e-8, 1e5), (1e-12, 1e8), (0.0, f64::NAN)] {
        let mut random = Random::new(11);
        let m = two_sided(len, diagonal, &mut random);
        let dense = m.to_dense();
        assert!(condition(&dense) < 1e6);
        let b = Array2::from_shape_simple_fn((len, 1), || random.number());
        let qr = m.qr().unwrap();
        let x = qr.solve(b.view()).unwrap();
        let error = norm(&(dense.dot(&x) - &b)) / (norm(&dense) * norm(&x));
        assert!(error < 1e-14, "diagonal {diagonal:e}: backward error {error:e}");
        let adjoint = dense.t().to_owned();
        assert!(backward_error(&adjoint, &qr.solve_adjoint(b.view()).unwrap(), &b) < 1e-14);
        match m.lu() {
            Ok(lu) => {
                assert!(lu.growth() >= least_growth, "diagonal {diagonal:e}: growth {:e}", lu.growth());
                let error = backward_error(&dense, &lu.solve(b.view()).unwrap(), &b);
                assert!(error < 1e-15 * lu.growth().max(10.0), "growth {:e}, error {error:e}", lu.growth());
            }
            Err(error) => assert!(diagonal == 0.0 && matches!(error, Error::Singular { step: 0, .. })),
        }
    }
}

#[test]
fn residuals_of_tall_systems_are_reported_without_a_second_product() {
    let len = 300;
    let mut random = Random::new(5);
    let mut part = |rows: usize, columns: usize| {
        let mut block = |shape| Array2::from_shape_simple_fn(shape, || random.number());
        let a: Blocks<f64> = (0..len).map(|_| block((2, 2)) * 0.5).collect();
        let b: Blocks<f64> = (0..len).map(|_| block((2, columns))).collect();
        let c: Blocks<f64> = (0..len).map(|_| block((rows, 2))).collect();
        let d: Blocks<f64> = (0..len).map(|_| block((rows, columns))).collect();
        Sss::new(Transition::Dense(a), b, c, d).unwrap()
    };
    let m = Quasiseparable::new(part(3, 2), part(2, 3)).unwrap();
    let dense = m.to_dense();
    let b = Array2::from_shape_fn((3 * len, 2), |(i, j)| ((i + j) as f64).sin());
    let solution = m.qr().unwrap().least_squares(b.view()).unwrap();
    assert_close(&solution.x, &solve(&dense, &b), 1e-10);
    for (found, column) in solution.residuals.iter().zip((&b - &dense.dot(&solution.x)).columns()) {
        assert!((found - column.dot(&column).sqrt()).abs() < 1e-12 * found);
    }
}

fn symmetric(diagonal: [f64; 3], transition: Transition<f64>) -> HermitianQuasiseparable<f64> {
    let ones = Array2::ones((3, 1));
    let lower = Sss::uniform(transition, ones.clone(), ones, Array1::from(diagonal.to_vec())).unwrap();
    HermitianQuasiseparable::new(lower).unwrap()
}

#[test]
fn pivots_that_are_refused_are_named_with_their_step() {
    let dense = || Transition::Dense(Array3::ones((3, 1, 1)).into());
    for transition in [Transition::Identity, dense()] {
        // Ones everywhere but on the diagonal: the pivots are 2, 1 - 1/2 and 0.25 - 1.
        let error = symmetric([2.0, 1.0, 0.25], transition.clone()).cholesky().unwrap_err();
        assert_eq!(error, Error::NotPositiveDefinite { step: 2, pivot: "-0.75".into() });
        assert_eq!(error.to_string(), "not positive definite: pivot -0.75 at step 2");
        let error = symmetric([0.0, 1.0, 2.0], transition.clone()).ldl().unwrap_err();
        assert_eq!(error, Error::Singular { step: 0, found: "pivot 0".into() });
        let lower = symmetric([1.0, 0.0, 2.0], transition).into_lower();
        assert!(matches!(lower.solve(Array2::ones((3, 1)).view()), Err(Error::Singular { step: 1, .. })));
        assert!(matches!(
            lower.solve_adjoint(Array2::ones((3, 2)).view()),
            Err(Error::Singular { step: 1, .. })
        ));
        assert!(matches!(lower.log_determinant(), Err(Error::Singular { step: 1, .. })));
    }
}

#[test]
fn operands_of_other_sizes_are_refused() {
    let m = symmetric([4.0, 5.0, 6.0], Transition::Identity);
    let factor = m.cholesky().unwrap();
    let wrong = Array2::<f64>::ones((2, 1));
    assert!(matches!(factor.solve(wrong.view()), Err(Error::Shape { tensor: "b", .. })));
    assert!(matches!(m.lower().solve(wrong.view()), Err(Error::Shape { tensor: "y", .. })));
    assert!(matches!(m.log_likelihood_vjp(wrong.view()), Err(Error::Shape { .. })));
    let two = m.to_quasiseparable();
    assert!(matches!(two.qr().unwrap().solve(wrong.view()), Err(Error::Shape { tensor: "b", .. })));
    let shorter = Blocks::zeros([(1, 1), (1, 1)]);
    assert!(matches!(factor.refactor(&m, &shorter), Err(Error::Shape { tensor: "diagonal", .. })));
    let wide = Sss::<f64>::new(
        Transition::Identity,
        Blocks::zeros([(1, 2); 3]),
        Blocks::zeros([(1, 1); 3]),
        Blocks::zeros([(1, 2); 3]),
    );
    let wide = wide.unwrap();
    assert!(matches!(wide.solve(Array2::ones((3, 1)).view()), Err(Error::Shape { tensor: "d", .. })));
    assert!(matches!(wide.qr(), Err(Error::Singular { step: 2, .. })));
}
