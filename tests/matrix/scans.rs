//! Laws of the scans: each equals the dense product, whatever the length, the columns and the threads.

use crate::support::structured::{Number, Numbers, assert_close, product, scale};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, array, s};
use num_complex::Complex;
use proptest::prelude::*;
use semisep::matrix::scan::{
    associative, dilated, divide_and_conquer, matrix_factors, sequential, state_passing,
};
use semisep::matrix::{OneSemiseparable, StructuredMatrix};
use semisep::{Error, Result};

type Scan<E> = fn(ArrayView1<'_, E>, ArrayView2<'_, E>, Option<ArrayView1<'_, E>>) -> Result<Array2<E>>;

/// Every scan by its name; state passing with several chunks.
fn scans<E: Number>() -> Vec<(&'static str, Scan<E>)> {
    vec![
        ("sequential", sequential::scan),
        ("associative", associative::scan),
        ("dilated", dilated::scan),
        ("divide and conquer", divide_and_conquer::scan),
        ("matrix factors", matrix_factors::scan),
        ("state passing, 1", |a, b, h| state_passing::scan(a, b, h, 1)),
        ("state passing, 3", |a, b, h| state_passing::scan(a, b, h, 3)),
        ("state passing, 16", |a, b, h| state_passing::scan(a, b, h, 16)),
        ("state passing, huge", |a, b, h| state_passing::scan(a, b, h, usize::MAX)),
    ]
}

/// h = [first column times a_0 | 1SS(a)] [h_{-1}; b], from the definition of every entry.
fn extended<E: Number>(a: &Array1<E>, b: &Array2<E>, initial: &Array1<E>) -> (Array2<E>, Array2<E>) {
    let len = a.len();
    let matrix = Array2::from_shape_fn((len, len + 1), |(i, j)| match j {
        _ if j > i + 1 => E::zero(),
        _ => (j..=i).fold(E::one(), |p, t| p * a[t]),
    });
    let mut column = Array2::zeros((len + 1, b.ncols()));
    column.row_mut(0).assign(initial);
    column.slice_mut(s![1.., ..]).assign(b);
    (matrix, column)
}

fn check_scans<E: Number>(len: usize, columns: usize, seed: u64) {
    let mut numbers = Numbers(seed);
    let a = Array1::from_shape_simple_fn(len, || match numbers.real() {
        zero if zero > 0.8 => E::zero(),
        _ => E::of(1.2 * numbers.real(), 0.5 * numbers.real()),
    });
    let (b, initial) = (numbers.array::<E>((len, columns)), numbers.vector::<E>(columns));
    for initial in [None, Some(initial)] {
        let (matrix, column) = extended(&a, &b, initial.as_ref().unwrap_or(&Array1::zeros(columns)));
        let expected = product(matrix.view(), column.view());
        let bound = scale(matrix.view(), column.view());
        let transposed = b.t().to_owned();
        for (name, scan) in scans() {
            let h = scan(a.view(), b.view(), initial.as_ref().map(|h| h.view())).unwrap();
            let close = |at| 2.0 * (len + 2) as f64 * E::EPSILON * bound[at];
            assert_close(name, h.view(), expected.view(), close);
            let h = scan(a.view(), transposed.t(), initial.as_ref().map(|h| h.view())).unwrap();
            assert_close(name, h.view(), expected.view(), close);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn scans_equal_the_dense_product(len in 0usize..40, columns in 0usize..4, seed: u64) {
        check_scans::<f64>(len, columns, seed);
        check_scans::<f32>(len, columns, seed);
        check_scans::<Complex<f64>>(len, columns, seed);
        check_scans::<Complex<f32>>(len, columns, seed);
    }
}

#[test]
fn long_scans_equal_the_dense_product() {
    for (len, columns) in [(64, 1), (65, 2), (127, 1), (300, 5), (513, 1)] {
        check_scans::<f64>(len, columns, len as u64);
    }
}

#[test]
fn scans_do_not_depend_on_the_number_of_threads() {
    let (one, two) = (pool(1), pool(2));
    let mut numbers = Numbers(3);
    for (len, columns) in [(40_000, 1), (9_001, 3), (700, 64)] {
        let (a, b) = (numbers.vector::<f64>(len), numbers.array::<f64>((len, columns)));
        for (name, scan) in scans() {
            let run = || scan(a.view(), b.view(), None).unwrap();
            let bits = |h: Array2<f64>| h.mapv(f64::to_bits);
            assert_eq!(bits(one.install(run)), bits(two.install(run)), "{name}");
        }
    }
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn steep_decays_and_denormals_leave_every_scan_finite_and_accurate() {
    let len = 400;
    for steep in [-1.0, -745.0, -1e4] {
        let a = Array1::from_shape_fn(len, |t| if t % 5 == 0 { f64::exp(steep) } else { -0.999 });
        let b = Array2::from_shape_fn((len, 2), |(t, c)| [1e-310, 1.0, -1e200, 5e-324][(t + c) % 4]);
        let initial = array![1e300, 1e-300];
        let (matrix, column) = extended(&a, &b, &initial);
        let expected = product(matrix.view(), column.view());
        let bound = scale(matrix.view(), column.view());
        for (name, scan) in scans() {
            let h = scan(a.view(), b.view(), Some(initial.view())).unwrap();
            // What an entry that underflows may contribute is below the smallest normal number times 1e300.
            assert_close(name, h.view(), expected.view(), |at| 1e-12 * bound[at] + 1e-7);
        }
    }
}

#[test]
fn the_sequential_scan_survives_transitions_whose_products_overflow() {
    let a = Array1::from_elem(50, 1e300);
    let mut b = Array2::zeros((50, 1));
    b[[48, 0]] = 1e-300;
    let h = sequential::scan(a.view(), b.view(), Some(array![0.0].view())).unwrap();
    assert_eq!(h[[47, 0]], 0.0);
    assert!(f64::abs(h[[49, 0]] - 1.0) < 1e-15);
}

#[test]
fn a_product_of_transitions_that_overflows_anywhere_is_not_seen_in_either_direction() {
    for len in [1, 3, 7, 8, 9, 16, 23, 40, 1030] {
        for at in 0..len.min(40) {
            // Whole numbers of few digits, exact in any order; no state meets the two transitions that overflow.
            let mut a = Array1::from_shape_fn(len, |t| [1.0, -1.0, 2.0, 0.0, -1.0][t % 5]);
            a.slice_mut(s![at..len.min(at + 2)]).fill(1e200);
            let x = |t: usize| [1.0, 3.0, -2.0][t % 3];
            let late = Array2::from_shape_fn((len, 1), |(t, _)| if t < at + 2 { 0.0 } else { x(t) });
            let early = Array2::from_shape_fn((len, 1), |(t, _)| if t < at { x(t) } else { 0.0 });
            let (mut forward, mut backward) = (Array2::zeros((len, 1)), Array2::zeros((len, 1)));
            for t in 0..len {
                let before = if t > 0 { a[t] * forward[[t - 1, 0]] } else { 0.0 };
                forward[[t, 0]] = before + late[[t, 0]];
                let s = len - 1 - t;
                let behind = if t > 0 { a[s + 1] * backward[[s + 1, 0]] } else { 0.0 };
                backward[[s, 0]] = behind + early[[s, 0]];
            }
            let l = OneSemiseparable::new(a).unwrap();
            assert_eq!(l.matmul(late.view()).unwrap(), forward, "{len} {at}");
            assert_eq!(l.transpose_matmul(early.view()).unwrap(), backward, "{len} {at}");
        }
    }
}

#[test]
fn the_first_transition_is_not_touched_without_an_initial_value() {
    let mut numbers = Numbers(5);
    for len in [1, 40, 200] {
        let (mut a, b) = (numbers.vector::<f64>(len), numbers.array::<f64>((len, 2)));
        for (name, scan) in scans() {
            let expected = scan(a.view(), b.view(), None).unwrap();
            a[0] = f64::NAN;
            assert_eq!(scan(a.view(), b.view(), None).unwrap(), expected, "{name}");
            a[0] = 0.5;
        }
    }
}

#[test]
fn arguments_that_do_not_fit_are_errors() {
    let (a, b) = (Array1::<f64>::zeros(3), Array2::<f64>::zeros((3, 2)));
    for (name, scan) in scans::<f64>() {
        let short = b.slice(s![..2, ..]);
        assert!(matches!(scan(a.view(), short, None), Err(Error::Shape { tensor: "b", .. })), "{name}");
        let initial = Some(a.view());
        assert!(
            matches!(scan(a.view(), b.view(), initial), Err(Error::Shape { tensor: "initial", .. })),
            "{name}"
        );
    }
    let none = state_passing::scan(a.view(), b.view(), None, 0);
    assert!(matches!(none, Err(Error::Config { field: "chunk", .. })));
}
