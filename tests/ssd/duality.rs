//! The duality: every algorithm of the SSD operator gives the product by the definition, and its gradient.

use crate::support::{Case, distance, shapes};
use ndarray::{Array, Dimension};
use proptest::prelude::*;
use semisep::ssd::{Algorithm, Grad};

/// Every algorithm, at the given chunk.
fn algorithms(chunk: usize) -> [Algorithm; 4] {
    [Algorithm::Quadratic, Algorithm::Recurrent, Algorithm::Chunked { chunk }, Algorithm::Automatic]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_algorithm_gives_the_product_by_the_definition(shape in shapes(40), chunk in 1..50usize) {
        let case = Case::new(&shape);
        let expected = case.by_definition();
        for how in algorithms(chunk) {
            let found = case.matrix().matmul(case.x.view(), Some(case.initial.view()), how).unwrap();
            prop_assert!(distance(found.y.view(), expected.y.view()) < 1e-13, "{how:?}: y");
            prop_assert!(distance(found.state.view(), expected.state.view()) < 1e-13, "{how:?}: state");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_gradient_is_the_slope_of_the_definition(shape in shapes(9), chunk in 1..12usize) {
        let case = Case::new(&shape);
        let slope = slopes(&case);
        for how in algorithms(chunk) {
            let grad = case.matrix().vjp(case.x.view(), Some(case.initial.view()), how, &case.cotangent).unwrap();
            for (name, error) in errors(&grad, &slope) {
                prop_assert!(error < 1e-8, "{how:?}: {name} off by {error}");
            }
        }
    }
}

/// The gradient by central differences of the loss by the definition.
fn slopes(case: &Case) -> Grad<f64> {
    let mut at = case.clone();
    macro_rules! slope {
        ($field:ident) => {{
            let mut slope = case.$field.clone();
            for (k, slope) in slope.iter_mut().enumerate() {
                *slope = central(&mut at, k, |case| &mut case.$field);
            }
            slope
        }};
    }
    Grad {
        log_a: slope!(log_a),
        dt: slope!(dt),
        b: slope!(b),
        c: slope!(c),
        d: (case.shape.skip > 0).then(|| slope!(d)),
        x: slope!(x),
        state: slope!(initial),
    }
}

fn central<D: Dimension>(case: &mut Case, k: usize, field: impl Fn(&mut Case) -> &mut Array<f64, D>) -> f64 {
    const STEP: f64 = 1e-4;
    let mut nudge = |by: f64| {
        if let Some(v) = field(case).as_slice_mut().and_then(|s| s.get_mut(k)) {
            *v += by;
        }
        case.loss()
    };
    let (up, down) = (nudge(STEP), nudge(-2.0 * STEP));
    nudge(STEP);
    (up - down) / (2.0 * STEP)
}

/// Distance of each part of two gradients.
fn errors(found: &Grad<f64>, expected: &Grad<f64>) -> [(&'static str, f64); 7] {
    [
        ("log_a", distance(found.log_a.view(), expected.log_a.view())),
        ("dt", distance(found.dt.view(), expected.dt.view())),
        ("b", distance(found.b.view(), expected.b.view())),
        ("c", distance(found.c.view(), expected.c.view())),
        (
            "d",
            match (&found.d, &expected.d) {
                (Some(found), Some(expected)) => distance(found.view(), expected.view()),
                (None, None) => 0.0,
                _ => f64::INFINITY,
            },
        ),
        ("x", distance(found.x.view(), expected.x.view())),
        ("state", distance(found.state.view(), expected.state.view())),
    ]
}
