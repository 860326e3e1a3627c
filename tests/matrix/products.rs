//! Products with block semiseparable matrices against dense matrices from the definition, by every way.

use crate::support::ragged::{
    Draw, KINDS, Kind, Sizes, adjoint, array, dense_hermitian, dense_lower, dense_two_sided, product, sizes,
};
use crate::support::{Random, assert_close};
use ndarray::{Array2, ArrayView2};
use num_complex::Complex;
use proptest::prelude::*;
use semisep::Error;
use semisep::matrix::StructuredMatrix;
use semisep::matrix::sss::{Multiply, Partition, Quasiseparable, Sss, Upper};

/// Dense form, product and adjoint product of one matrix against its dense form.
fn check<E: Draw, M: StructuredMatrix<E>>(m: &M, dense: &Array2<E>, sizes: &Sizes, columns: usize) {
    let mut random = sizes.random();
    assert_eq!(m.shape(), dense.dim());
    assert_close(&m.to_dense(), dense, 1e-12);
    let x = array(dense.ncols(), columns, &mut random);
    let y = array(dense.nrows(), columns, &mut random);
    assert_close(&m.matmul(x.view()).unwrap(), &product(dense, &x), 1e-12);
    assert_close(&m.adjoint_matmul(y.view()).unwrap(), &product(&adjoint(dense), &y), 1e-12);
    let (columns, rows) =
        (array(dense.ncols() + 1, 1, &mut random), array(dense.nrows() + 1, 1, &mut random));
    assert!(matches!(m.matmul(columns.view()), Err(Error::Shape { tensor: "x", .. })));
    assert!(matches!(m.adjoint_matmul(rows.view()), Err(Error::Shape { tensor: "y", .. })));
}

/// `z M` and `M x` into strided and into contiguous memory.
macro_rules! check_forms {
    ($m:expr, $dense:expr, $sizes:expr, $columns:expr) => {{
        let (m, dense, mut random) = (&$m, &$dense, $sizes.random());
        let z = array(dense.nrows(), $columns, &mut random).reversed_axes();
        assert_close(&m.left_matmul(z.view()).unwrap(), &product(&z.to_owned(), dense), 1e-12);
        let x = array(dense.ncols(), $columns, &mut random);
        let (mut y, mut strided) =
            (array(dense.nrows(), $columns, &mut random), array($columns, dense.nrows(), &mut random));
        m.matmul_into(x.view(), y.view_mut()).unwrap();
        m.matmul_into(x.view(), strided.view_mut().reversed_axes()).unwrap();
        assert_close(&y, &product(dense, &x), 1e-12);
        assert_close(&strided.t().to_owned(), &y, 1e-12);
        let mut short = array(dense.nrows() + 1, $columns, &mut random);
        assert!(m.matmul_into(x.view(), short.view_mut()).is_err());
        assert!(m.left_matmul(short.t()).is_err());
    }};
}

fn check_all<E: Draw>(sizes: &Sizes, columns: usize) {
    let lower = sizes.lower::<E>();
    let dense = dense_lower(&lower);
    check(&lower, &dense, sizes, columns);
    check_forms!(lower, dense, sizes, columns);
    check(&Upper(&lower), &adjoint(&dense), sizes, columns);
    check_forms!(Upper(lower.clone()), adjoint(&dense), sizes, columns);
    let y = array(dense.nrows(), columns, &mut sizes.random());
    assert_close(&lower.transpose_matmul(y.view()).unwrap(), &product(&dense.t().to_owned(), &y), 1e-12);
    let m = sizes.two_sided::<E>();
    check(&m, &dense_two_sided(&m), sizes, columns);
    check_forms!(m, dense_two_sided(&m), sizes, columns);
    let m = sizes.hermitian::<E>();
    check(&m, &dense_hermitian(&m), sizes, columns);
    check_forms!(m, dense_hermitian(&m), sizes, columns);
}

/// A partition of the steps into unequal blocks.
fn unequal(len: usize, random: &mut Random) -> Partition {
    let (mut lengths, mut left) = (Vec::new(), len);
    while left > 0 {
        let size = (1 + (random.number().abs() * 6.0) as usize).min(left);
        lengths.push(size);
        left -= size;
    }
    Partition::Lengths(lengths)
}

/// Every way to multiply against the dense product, entry by entry: `c n eps |M| |x|`.
fn check_ways<E: Draw>(m: &Sss<E>, columns: usize, random: &mut Random) {
    let dense = dense_lower(m);
    let x = array(dense.ncols(), columns, random);
    let (y, bound) = (product(&dense, &x), bound(m, x.view()));
    let mut ways = vec![Multiply::Automatic, Multiply::Dense, Multiply::Recurrent];
    ways.extend([1, 2, 5, 64].map(|size| Multiply::Blocks(Partition::Equal(size))));
    ways.push(Multiply::Blocks(unequal(m.len(), random)));
    ways.extend([1, 2, 3, 7].map(|pieces| Multiply::TwoPass { pieces }));
    for how in &ways {
        let found = m.multiply(x.view(), how).unwrap();
        for ((found, y), bound) in found.iter().zip(&y).zip(&bound) {
            assert!((*found - *y).modulus() <= 1e-14 * bound, "{how:?}: {found} for {y}, bound {bound:e}");
        }
    }
}

/// The product of the absolute generators with the absolute x: what rounding errors are measured by.
fn bound<E: Draw>(m: &Sss<E>, x: ArrayView2<'_, E>) -> Array2<f64> {
    let size = |a: ArrayView2<'_, E>| a.mapv(|v| v.modulus());
    let (mut y, mut first, mut row) = (Array2::zeros((m.rows(), x.ncols())), 0, 0);
    let mut state = Array2::<f64>::zeros((m.order_at(0), x.ncols()));
    for k in 0..m.len() {
        let u = size(x.slice(ndarray::s![first..first + m.inputs(k), ..]));
        let out = product(&size(m.c(k)), &state) + product(&size(m.d(k)), &u);
        y.slice_mut(ndarray::s![row..row + m.outputs(k), ..]).assign(&out);
        state = product(&size(m.a(k).view()), &state) + product(&size(m.b(k)), &u);
        (first, row) = (first + m.inputs(k), row + m.outputs(k));
    }
    y * (4 + m.len()) as f64
}

fn check_regroup<E: Draw>(sizes: &Sizes) {
    let (m, mut random) = (sizes.lower::<E>(), sizes.random());
    let dense = dense_lower(&m);
    assert_eq!(m.regroup(&Partition::Equal(1)).unwrap(), m);
    for partition in [Partition::Equal(2), Partition::Equal(3), unequal(m.len(), &mut random)] {
        let ranges = partition.ranges(m.len()).unwrap();
        let merged = m.regroup(&partition).unwrap();
        assert_close(&dense_lower(&merged), &dense, 1e-12);
        let mut orders: Vec<_> = ranges.iter().map(|r| m.order_at(r.start)).collect();
        orders.push(m.order_at(m.len()));
        assert_eq!(merged.orders(), orders);
        let m = sizes.two_sided::<E>();
        assert_close(&dense_two_sided(&m.regroup(&partition).unwrap()), &dense_two_sided(&m), 1e-12);
        let m = sizes.hermitian::<E>();
        assert_close(&dense_hermitian(&m.regroup(&partition).unwrap()), &dense_hermitian(&m), 1e-12);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn products_agree_with_the_definition(sizes in sizes(7), columns in 0usize..4) {
        check_all::<f64>(&sizes, columns);
        check_all::<Complex<f64>>(&sizes, columns);
    }

    #[test]
    fn every_way_to_multiply_gives_the_same(sizes in sizes(9), columns in 0usize..4) {
        check_ways(&sizes.lower::<f64>(), columns, &mut sizes.random());
        check_ways(&sizes.lower::<Complex<f64>>(), columns, &mut sizes.random());
    }

    #[test]
    fn regrouped_matrices_are_the_same(sizes in sizes(7)) {
        check_regroup::<f64>(&sizes);
        check_regroup::<Complex<f64>>(&sizes);
    }

    #[test]
    fn similar_generators_give_the_same_matrix(sizes in sizes(7)) {
        // States in other coordinates, x'_k = T_k x_k with T_k unit upper triangular, so that its inverse is easy.
        let sizes = sizes.with_kind(Kind::Dense);
        let (m, mut random) = (sizes.lower::<f64>(), sizes.random());
        let unit = |n: usize, random: &mut Random| {
            let mut t = Array2::<f64>::eye(n);
            if n > 1 { t[[0, n - 1]] = random.number(); }
            t
        };
        let inverse = |t: &Array2<f64>| 2.0 * Array2::<f64>::eye(t.nrows()) - t;
        let t: Vec<_> = m.orders().iter().map(|n| unit(*n, &mut random)).collect();
        let steps = 0..m.len();
        let a = steps.clone().map(|k| product(&product(&t[k + 1], &m.a(k)), &inverse(&t[k]))).collect();
        let b = steps.clone().map(|k| product(&t[k + 1], &m.b(k).to_owned())).collect();
        let c = steps.clone().map(|k| product(&m.c(k).to_owned(), &inverse(&t[k]))).collect();
        let d = steps.map(|k| m.d(k).to_owned()).collect();
        let similar = Sss::new(semisep::matrix::sss::Transition::Dense(a), b, c, d).unwrap();
        assert_close(&similar.to_dense(), &dense_lower(&m), 1e-11);
    }

    #[test]
    fn inner_products_agree(sizes in sizes(7)) {
        // ⟨y, M x⟩ = ⟨Mᴴ y, x⟩
        let m: Quasiseparable<Complex<f64>> = sizes.two_sided();
        let mut random = sizes.random();
        let (x, y) = (array::<Complex<f64>>(m.columns(), 1, &mut random), array(m.rows(), 1, &mut random));
        let inner = |u: &Array2<Complex<f64>>, v: &Array2<Complex<f64>>| -> Complex<f64> {
            u.iter().zip(v).map(|(u, v)| u.conj() * v).sum()
        };
        let left = inner(&y, &m.matmul(x.view()).unwrap());
        let right = inner(&m.adjoint_matmul(y.view()).unwrap(), &x);
        prop_assert!((left - right).norm() <= 1e-11 * (1.0 + left.norm()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn matrices_of_numbers_take_the_fast_loops_and_agree(
        len in 0usize..40, order in 1usize..20, columns in 0usize..40, kind in 0usize..4, seed in any::<u64>(),
    ) {
        let sizes = Sizes {
            inputs: vec![1; len],
            outputs: vec![1; len],
            orders: if len == 0 { vec![0] } else { vec![order; len + 1] },
            kind: KINDS[kind],
            growth: crate::support::ragged::Growth::Plain,
            seed,
        };
        check_all::<f64>(&sizes, columns);
        check_all::<Complex<f64>>(&sizes, columns);
        check_ways(&sizes.lower::<f64>(), columns, &mut sizes.random());
    }
}

#[test]
fn two_passes_give_the_same_bits_on_any_number_of_threads() {
    let sizes = Sizes {
        inputs: vec![1; 500],
        outputs: vec![1; 500],
        orders: vec![3; 501],
        kind: Kind::Dense,
        growth: crate::support::ragged::Growth::Plain,
        seed: 7,
    };
    let m = sizes.lower::<f64>();
    let m = m.scaled(0.5);
    let x = array(500, 2, &mut sizes.random());
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| m.multiply(x.view(), &Multiply::TwoPass { pieces: 5 }).unwrap())
    };
    assert_eq!(on(1), on(4));
}

#[test]
fn bad_partitions_and_no_pieces_are_errors() {
    let m = Sizes {
        inputs: vec![1; 3],
        outputs: vec![1; 3],
        orders: vec![2; 4],
        kind: Kind::Scalar,
        growth: crate::support::ragged::Growth::Plain,
        seed: 1,
    }
    .lower::<f64>();
    let x = Array2::ones((3, 1));
    for partition in [Partition::Equal(0), Partition::Lengths(vec![1, 1]), Partition::Lengths(vec![1, 0, 2])]
    {
        assert!(matches!(m.regroup(&partition), Err(Error::Config { field: "partition", .. })));
        assert!(m.multiply(x.view(), &Multiply::Blocks(partition)).is_err());
    }
    let none = Multiply::TwoPass { pieces: 0 };
    assert!(matches!(m.multiply(x.view(), &none), Err(Error::Config { field: "pieces", .. })));
}
