//! Entries, diagonals, traces and blocks of block semiseparable matrices against dense matrices.

use crate::support::assert_close;
use crate::support::ragged::{Draw, Sizes, adjoint, dense_hermitian, dense_lower, dense_two_sided, sizes};
use ndarray::{Array1, Array2, s};
use num_complex::Complex;
use proptest::prelude::*;
use semisep::Error;
use semisep::matrix::sss::{SubBlock, Upper};

fn diagonal<E: Draw>(dense: &Array2<E>) -> Array1<E> {
    dense.diag().to_owned()
}

/// Every entry, the diagonal and the trace.
macro_rules! check_reading {
    ($m:expr, $dense:expr) => {{
        let (m, dense) = (&$m, &$dense);
        let entries = Array2::from_shape_fn(dense.dim(), |(i, j)| m.entry(i, j).unwrap());
        assert_close(&entries, dense, 1e-12);
        assert_close(&m.diagonal(), &diagonal(dense), 1e-12);
        assert!(matches!(m.entry(dense.nrows(), 0), Err(Error::Value { .. })));
        assert!(matches!(m.entry(0, dense.ncols()), Err(Error::Value { .. })));
    }};
}

fn check_all<E: Draw>(sizes: &Sizes) {
    let m = sizes.lower::<E>();
    let dense = dense_lower(&m);
    check_reading!(m, dense);
    assert_eq!(m.trace().is_ok(), dense.is_square());
    if let Ok(trace) = m.trace() {
        assert!((trace - dense.diag().sum()).modulus() < 1e-12);
    }
    check_reading!(Upper(m), adjoint(&dense));
    let m = sizes.two_sided::<E>();
    check_reading!(m, dense_two_sided(&m));
    assert_eq!(m.trace().is_ok(), dense.is_square());
    let m = sizes.hermitian::<E>();
    check_reading!(m, dense_hermitian(&m));
    assert!((m.trace() - dense_hermitian(&m).diag().sum()).modulus() < 1e-11);
}

fn check_blocks<E: Draw>(sizes: &Sizes) {
    let m = sizes.lower::<E>();
    let dense = dense_lower(&m);
    let (rows, columns) = dense.dim();
    let (row_offsets, column_offsets) = (m.row_offsets(), m.column_offsets());
    for (i, k) in (0..=rows).flat_map(|i| (i..=rows).map(move |k| (i, k))) {
        for (j, l) in (0..=columns).flat_map(|j| (j..=columns).map(move |l| (j, l))) {
            let block = m.sub_block(i..k, j..l).unwrap();
            assert_eq!(block.to_dense().dim(), (k - i, l - j));
            assert_close(&block.to_dense(), dense.slice(s![i..k, j..l]), 1e-12);
            // Whole steps strictly below the diagonal are of the order's rank, by their factors.
            let step = |offsets: &[usize], at: usize| offsets.partition_point(|o| *o <= at) - 1;
            if i < k && j < l && step(&column_offsets, l - 1) < step(&row_offsets, i) {
                let SubBlock::LowRank(factors) = block else {
                    panic!("a block below the diagonal has low rank")
                };
                assert_eq!(factors.left.ncols(), m.order_at(step(&row_offsets, i)));
                assert_eq!(factors.right.nrows(), m.order_at(step(&column_offsets, l - 1) + 1));
            }
        }
    }
    assert!(matches!(m.sub_block(0..rows + 1, 0..0), Err(Error::Value { .. })));
    assert!(matches!(m.sub_block(0..0, columns..columns + 2), Err(Error::Value { .. })));
}

/// Every block of a matrix, and whether those and only those are factored whose steps are all above the diagonal, or all below it
/// if there are entries; the others are `other`.
macro_rules! check_two_sided_blocks {
    ($m:expr, $dense:expr, ($row_offsets:expr, $column_offsets:expr), $below:expr, $other:pat) => {{
        let (m, dense) = (&$m, &$dense);
        let (rows, columns) = dense.dim();
        let step = |offsets: &[usize], at: usize| offsets.partition_point(|o| *o <= at) - 1;
        for (i, k) in (0..=rows).flat_map(|i| (i..=rows).map(move |k| (i, k))) {
            for (j, l) in (0..=columns).flat_map(|j| (j..=columns).map(move |l| (j, l))) {
                let block = m.sub_block(i..k, j..l).unwrap();
                assert_close(&block.to_dense(), dense.slice(s![i..k, j..l]), 1e-12);
                if i < k && j < l {
                    let (r, q) = (&$row_offsets, &$column_offsets);
                    let aside = ($below && step(q, l - 1) < step(r, i)) || step(r, k - 1) < step(q, j);
                    assert!(if aside {
                        matches!(block, SubBlock::LowRank(_))
                    } else {
                        matches!(block, $other)
                    });
                }
            }
        }
        assert!(matches!(m.sub_block(0..rows + 1, 0..0), Err(Error::Value { .. })));
        assert!(matches!(m.sub_block(0..0, columns..columns + 2), Err(Error::Value { .. })));
    }};
}

fn check_blocks_on_both_sides<E: Draw>(sizes: &Sizes) {
    let m = sizes.two_sided::<E>();
    let offsets = (m.lower().row_offsets(), m.lower().column_offsets());
    check_two_sided_blocks!(m, dense_two_sided(&m), (offsets.0, offsets.1), true, SubBlock::TwoSided(_));
    let m = sizes.hermitian::<E>();
    let offsets = m.lower().row_offsets();
    check_two_sided_blocks!(m, dense_hermitian(&m), (offsets, offsets), true, SubBlock::TwoSided(_));
    let m = Upper(sizes.lower::<E>());
    let offsets = (m.0.column_offsets(), m.0.row_offsets());
    check_two_sided_blocks!(
        m,
        adjoint(&dense_lower(&m.0)),
        (offsets.0, offsets.1),
        false,
        SubBlock::Upper(_)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn entries_diagonals_and_traces_agree_with_the_definition(sizes in sizes(6), square in any::<bool>()) {
        let sizes = if square { sizes.square() } else { sizes };
        check_all::<f64>(&sizes);
        check_all::<Complex<f64>>(&sizes);
    }

    #[test]
    fn every_block_agrees_with_the_definition(sizes in sizes(4)) {
        check_blocks::<f64>(&sizes);
        check_blocks::<Complex<f64>>(&sizes);
        check_blocks_on_both_sides::<f64>(&sizes);
        check_blocks_on_both_sides::<Complex<f64>>(&sizes);
    }
}

#[cfg(feature = "svg")]
#[test]
fn a_picture_of_sizes_shows_what_is_not_finite_and_says_how_much() {
    use semisep::matrix::spy_svg;

    let (red, words) = ("#e02060", "not finite");
    let mut entries = Array2::from_shape_fn((3, 4), |(i, j)| (i + j) as f64);
    let finite = spy_svg(&crate::support::Entries(entries.clone())).unwrap();
    assert!(!finite.contains(red) && !finite.contains(words));
    entries[[1, 2]] = f64::NAN;
    // A product with a unit column is NaN in the whole row.
    let svg = spy_svg(&crate::support::Entries(entries)).unwrap();
    assert_eq!(svg.matches(red).count(), 4 + 1, "the cells, and the legend");
    assert!(svg.contains("3 × 4 entries, 4 of them not finite"));
    assert!(svg.contains("5.0e0") && !svg.contains("NaN"), "the scale is that of the finite entries");
}
