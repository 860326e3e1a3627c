//! Semiseparable matrices against dense matrices written from the definition.

use crate::support::generators::{Case, Dense, Diagonal, Kind, Scalar, numbers};
use crate::support::{Random, assert_close, differences, inner};
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis, array, s};
use num_complex::Complex;
use proptest::prelude::*;
use semisep::matrix::sss::SubBlock;
use semisep::matrix::{
    FilterForm, MainDiagonal, Multiply, Partition, Sss, StructuredMatrix, Transition, maximal_block_ranks,
};
use semisep::{Error, Field};

/// A partition of len rows with some unequal blocks.
fn unequal(len: usize, random: &mut Random) -> Partition {
    let (mut lengths, mut left) = (Vec::new(), len);
    while left > 0 {
        let size = (1 + (random.number().abs() * 6.0) as usize).min(left);
        lengths.push(size);
        left -= size;
    }
    Partition::Lengths(lengths)
}

fn check_products<K: Kind>(len: usize, order: usize, columns: usize, seed: u64) {
    let mut random = Random::new(seed);
    let case = Case::random::<K>(len, order, &mut random);
    let (m, dense) = (case.predictor::<K>(), case.dense_predictor::<K>());
    assert_close(&m.to_dense(), &dense, 1e-13);

    let x = random.matrix(len, columns);
    let y = dense.dot(&x);
    let mut ways = vec![Multiply::Automatic, Multiply::Dense, Multiply::Recurrent];
    ways.extend([1, 2, 7, 64].map(|size| Multiply::Blocks(Partition::Equal(size))));
    ways.push(Multiply::Blocks(unequal(len, &mut random)));
    ways.extend([1, 4].map(|pieces| Multiply::TwoPass { pieces }));
    for how in &ways {
        assert_close(&m.multiply(x.view(), how).unwrap(), &y, 1e-12);
    }
    let (mut rows, mut columns) = (Array2::zeros(x.raw_dim()), Array2::zeros(x.t().raw_dim()));
    for (k, x) in x.axis_iter(Axis(1)).enumerate() {
        let x = x.insert_axis(Axis(1));
        m.matmul_into(x, rows.slice_mut(s![.., k..=k])).unwrap(); // strided
        m.matmul_into(x, columns.slice_mut(s![k..=k, ..]).reversed_axes()).unwrap();
    }
    assert_close(&rows, &y, 1e-12);
    assert_close(&columns.t().to_owned(), &y, 1e-12);
    // Strided input: columns of a transposed array.
    let transposed = x.t().to_owned();
    assert_close(&m.multiply(transposed.t(), &Multiply::Recurrent).unwrap(), &y, 1e-12);
    assert_close(&m.matmul(x.view()).unwrap(), &y, 1e-12);
    assert_close(&m.adjoint_matmul(x.view()).unwrap(), &dense.t().dot(&x), 1e-12);

    let (filter, dense) = (case.filter::<K>(), case.dense_filter::<K>());
    assert_close(&filter.to_dense(), &dense, 1e-13);
    assert_close(&filter.predictor().to_dense(), &dense, 1e-13);
    assert_close(&filter.matmul(x.view()).unwrap(), &dense.dot(&x), 1e-12);
    assert_close(&filter.adjoint_matmul(x.view()).unwrap(), &dense.t().dot(&x), 1e-12);
}

fn check_reading<K: Kind>(len: usize, order: usize, seed: u64) {
    let mut random = Random::new(seed);
    let case = Case::random::<K>(len, order, &mut random);
    let (predictor, filter) = (case.predictor::<K>(), case.filter::<K>());
    let (strict, full) = (case.dense_predictor::<K>(), case.dense_filter::<K>());
    for i in 0..len {
        for j in 0..len {
            assert!((predictor.entry(i, j).unwrap() - strict[[i, j]]).abs() < 1e-13);
            assert!((filter.entry(i, j).unwrap() - full[[i, j]]).abs() < 1e-13);
        }
        for end in i + 1..=len {
            for (from, to) in [(0, i), (i / 2, i), (i / 2, i + 1), (i / 3, i / 2), (i, i)] {
                let block = filter.factored_block(i..end, from..to).unwrap();
                assert_eq!(block.centre.dim(), (order, order));
                assert_close(&block.to_dense(), full.slice(s![i..end, from..to]), 1e-12);
                let block = predictor.sub_block(i..end, from..to).unwrap();
                assert_close(&block.to_dense(), strict.slice(s![i..end, from..to]), 1e-12);
                if from < to && to <= i {
                    let SubBlock::LowRank(block) = block else { panic!("a block below the diagonal") };
                    assert_eq!(block.centre.dim(), (order, order));
                }
            }
        }
    }
    assert!(filter.factored_block(0..len, 0..2.min(len)).is_err() || len < 2);
    assert!(predictor.sub_block(0..len + 1, 0..1).is_err());
    assert!(matches!(predictor.entry(0, len), Err(Error::Value { .. })));
}

/// All numbers of the generators, in the order of [`Case::parameters`].
fn generators(m: &Sss<f64>) -> Vec<f64> {
    let blocks = [m.b_blocks(), m.c_blocks(), m.d_blocks()];
    numbers(m.transition()).into_iter().chain(blocks.into_iter().flat_map(|b| b.flat().to_vec())).collect()
}

fn check_vjp<K: Kind>(len: usize, order: usize, columns: usize, seed: u64) {
    let mut random = Random::new(seed);
    let case = Case::random::<K>(len, order, &mut random);
    let (x, dy) = (random.matrix(len, columns), random.matrix(len, columns));
    let d_dense = random.matrix(len, len);

    let all = |g: &Sss<f64>| -> Vec<f64> { generators(g) };
    let (grad, dx) = case.predictor::<K>().vjp(x.view(), dy.view()).unwrap();
    let loss = |p: &[f64]| inner(&case.with_parameters(p).dense_predictor::<K>().dot(&x), &dy);
    assert_close(&all(&grad), &differences(loss, &case.parameters(true)), 1e-7);
    assert_close(&dx, &case.dense_predictor::<K>().t().dot(&dy), 1e-12);
    let grad = case.predictor::<K>().pull_back(d_dense.view()).unwrap();
    let loss = |p: &[f64]| inner(&case.with_parameters(p).dense_predictor::<K>(), &d_dense);
    assert_close(&all(&grad), &differences(loss, &case.parameters(true)), 1e-7);

    let all = |g: &FilterForm<f64>| -> Vec<f64> {
        let generators = g.b_blocks().flat().iter().chain(g.c_blocks().flat()).copied();
        numbers(g.transition()).into_iter().chain(generators).collect()
    };
    let (grad, dx) = case.filter::<K>().vjp(x.view(), dy.view()).unwrap();
    let loss = |p: &[f64]| inner(&case.with_parameters(p).dense_filter::<K>().dot(&x), &dy);
    assert_close(&all(&grad), &differences(loss, &case.parameters(false)), 1e-7);
    assert_close(&dx, &case.dense_filter::<K>().t().dot(&dy), 1e-12);
    let grad = case.filter::<K>().pull_back(d_dense.view()).unwrap();
    let loss = |p: &[f64]| inner(&case.with_parameters(p).dense_filter::<K>(), &d_dense);
    assert_close(&all(&grad), &differences(loss, &case.parameters(false)), 1e-7);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_product_agrees_with_the_definition(
        len in 0usize..40, order in 1usize..6, columns in 0usize..5, seed in any::<u64>(),
    ) {
        check_products::<Scalar>(len, order, columns, seed);
        check_products::<Diagonal>(len, order, columns, seed);
        check_products::<Dense>(len, order, columns, seed);
    }

    #[test]
    fn entries_and_factored_blocks_agree_with_the_definition(
        len in 1usize..14, order in 1usize..4, seed in any::<u64>(),
    ) {
        check_reading::<Scalar>(len, order, seed);
        check_reading::<Diagonal>(len, order, seed);
        check_reading::<Dense>(len, order, seed);
    }

    #[test]
    fn every_vjp_agrees_with_central_differences(
        len in 0usize..8, order in 1usize..4, columns in 0usize..3, seed in any::<u64>(),
    ) {
        check_vjp::<Scalar>(len, order, columns, seed);
        check_vjp::<Diagonal>(len, order, columns, seed);
        check_vjp::<Dense>(len, order, columns, seed);
    }

    #[test]
    fn maximal_blocks_have_at_most_the_order_as_rank(
        len in 2usize..16, order in 1usize..4, seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let mut case = Case::random::<Dense>(len, order, &mut random);
        case.a.iter_mut().for_each(|a| *a *= 0.5);
        let filter = case.filter::<Dense>();
        let included = filter.ranks(1e-10).unwrap();
        prop_assert_eq!(included.len(), len);
        prop_assert!(included.iter().all(|r| *r <= order));
        let dense = case.predictor::<Dense>().to_dense();
        let excluded = maximal_block_ranks(dense.view(), MainDiagonal::Excluded, 1e-10).unwrap();
        prop_assert_eq!(excluded.len(), len - 1);
        prop_assert!(excluded.iter().all(|r| *r <= order));
    }
}

#[test]
fn products_agree_for_every_specialised_order_and_many_columns() {
    for order in [1, 2, 3, 4, 7, 8, 9, 16, 17, 32, 64] {
        let len = if order < 16 { 70 } else { 14 };
        check_products::<Diagonal>(len, order, 1, order as u64);
        check_products::<Scalar>(len, order, 1, order as u64);
    }
    // Longer than one buffer of results, and a ragged end.
    check_products::<Diagonal>(259, 2, 1, 1);
    check_products::<Diagonal>(259, 3, 1, 2);
    check_products::<Diagonal>(70, 3, 40, 3);
    check_products::<Diagonal>(20, 64, 64, 8);
    check_products::<Dense>(70, 3, 40, 4);
    check_products::<Scalar>(70, 0, 2, 5);
    check_products::<Diagonal>(5, 0, 1, 6);
    check_products::<Dense>(5, 0, 1, 6);
}

#[test]
fn vjp_agrees_with_differences_across_segments() {
    let (len, order) = (135, 2);
    let mut random = Random::new(7);
    let mut case = Case::random::<Diagonal>(len, order, &mut random);
    // Transitions near one, so that what happens in one segment matters in the next.
    case.a.iter_mut().for_each(|a| *a = 0.95 + 0.05 * *a);
    let (x, dy) = (random.matrix(len, 2), random.matrix(len, 2));
    let (grad, _) = case.predictor::<Diagonal>().vjp(x.view(), dy.view()).unwrap();
    // The recurrence written out, since a path for each entry takes too long at this length.
    let loss = |p: &[f64]| -> f64 {
        let case = case.with_parameters(p);
        let mut h = Array2::<f64>::zeros((order, 2));
        let mut loss = 0.0;
        for k in 0..len {
            for column in 0..2 {
                let state: f64 = (0..order).map(|n| case.c[[k, n]] * h[[n, column]]).sum();
                loss += dy[[k, column]] * (state + case.d[k] * x[[k, column]]);
                for n in 0..order {
                    let old = h[[n, column]];
                    h[[n, column]] = case.a[k * order + n] * old + case.b[[k, n]] * x[[k, column]];
                }
            }
        }
        loss
    };
    assert_close(&generators(&grad), &differences(loss, &case.parameters(true)), 1e-7);
}

#[test]
fn full_rank_matrices_show_their_rank() {
    let lower =
        Array2::from_shape_fn((6, 6), |(i, j)| if i >= j { 1.0 / (1.0 + (i + j) as f64) } else { 0.0 });
    let ranks = maximal_block_ranks(lower.view(), MainDiagonal::Included, 1e-12).unwrap();
    assert_eq!(ranks, [1, 2, 3, 3, 2, 1]);
    for tolerance in [-1e-3, f64::NAN] {
        let error = maximal_block_ranks(lower.view(), MainDiagonal::Included, tolerance).unwrap_err();
        assert!(matches!(error, Error::Config { field: "tolerance", .. }), "{error}");
    }
    let ranks = maximal_block_ranks(lower.view(), MainDiagonal::Excluded, 1e-12).unwrap();
    assert_eq!(ranks, [1, 2, 3, 2, 1]);
    let broken = array![[f64::NAN]];
    assert!(matches!(
        maximal_block_ranks(broken.view(), MainDiagonal::Included, 1e-12),
        Err(Error::Value { tensor: "m", .. })
    ));
}

#[test]
fn block_factors_are_one_step_of_a_recurrence_on_blocks() {
    let mut random = Random::new(3);
    let case = Case::random::<Dense>(11, 3, &mut random);
    let (m, dense) = (case.predictor::<Dense>(), case.dense_predictor::<Dense>());
    let blocks = m.regroup(&Partition::Lengths(vec![2, 3, 4, 2])).unwrap();
    assert_close(blocks.d(2).iter(), dense.slice(s![5..9, 5..9]).iter(), 1e-13);
    assert_close(&blocks.c(2).dot(&blocks.b(1)), dense.slice(s![5..9, 2..5]), 1e-13);
    let far = blocks.c(3).dot(&blocks.a(2)).dot(&blocks.b(1));
    assert_close(&far, dense.slice(s![9..11, 2..5]), 1e-13);
}

/// `M_ij = Σ_n c_in b_jn Π a` with complex numbers and no conjugation.
fn complex_dense(
    a: ArrayView2<'_, Complex<f64>>,
    b: ArrayView2<'_, Complex<f64>>,
    c: ArrayView2<'_, Complex<f64>>,
    d: &Array1<Complex<f64>>,
) -> Array2<Complex<f64>> {
    Array2::from_shape_fn((d.len(), d.len()), |(i, j)| match i.cmp(&j) {
        std::cmp::Ordering::Less => Complex::new(0.0, 0.0),
        std::cmp::Ordering::Equal => d[i],
        std::cmp::Ordering::Greater => {
            (0..b.ncols()).map(|n| (j + 1..i).fold(c[[i, n]] * b[[j, n]], |p, k| p * a[[k, n]])).sum()
        }
    })
}

#[test]
fn complex_products_do_not_conjugate_and_their_vjp_is_the_adjoint() {
    let mut random = Random::new(9);
    let (len, order, columns) = (9, 2, 2);
    let (a, b, c) = (random.complex(len, order), random.complex(len, order), random.complex(len, order));
    let d = random.complex(len, 1).remove_axis(Axis(1));
    let (x, dy) = (random.complex(len, columns), random.complex(len, columns));
    let dense = complex_dense(a.view(), b.view(), c.view(), &d);
    let full =
        Array3::from_shape_fn(
            (len, order, order),
            |(k, n, m)| {
                if n == m { a[[k, n]] } else { Complex::new(0.0, 0.0) }
            },
        );
    let m = Sss::uniform(Transition::diagonal(a.clone()), b.clone(), c.clone(), d.clone()).unwrap();
    let m_full = Sss::uniform(Transition::Dense(full.into()), b.clone(), c.clone(), d.clone()).unwrap();
    assert_close(&m.matmul(x.view()).unwrap(), &dense.dot(&x), 1e-13);
    let adjoint = dense.t().mapv(|v| v.conj());
    assert_close(&m.adjoint_matmul(x.view()).unwrap(), &adjoint.dot(&x), 1e-13);
    assert_close(&m_full.adjoint_matmul(x.view()).unwrap(), &adjoint.dot(&x), 1e-13);

    let (grad, dx) = m.vjp(x.view(), dy.view()).unwrap();
    let (grad_full, _) = m_full.vjp(x.view(), dy.view()).unwrap();
    assert_close(&dx, &adjoint.dot(&dy), 1e-13);
    let loss = |a: &Array2<Complex<f64>>, b: &Array2<Complex<f64>>, c: &Array2<Complex<f64>>| -> f64 {
        let y = complex_dense(a.view(), b.view(), c.view(), &d).dot(&x);
        y.iter().zip(&dy).map(|(y, dy)| (y.conj() * dy).re).sum()
    };
    let direction = |part: Complex<f64>, k: usize, n: usize, which: usize| -> f64 {
        let at = |sign: f64| {
            let (mut a, mut b, mut c) = (a.clone(), b.clone(), c.clone());
            [&mut a, &mut b, &mut c][which][[k, n]] += part * sign * 1e-6;
            loss(&a, &b, &c)
        };
        (at(1.0) - at(-1.0)) / 2e-6
    };
    let (unit, imaginary) = (Complex::new(1.0, 0.0), Complex::new(0.0, 1.0));
    let parts =
        [numbers(grad.transition()), grad.b_blocks().flat().to_vec(), grad.c_blocks().flat().to_vec()];
    for (which, found) in parts.iter().enumerate() {
        let expected = Array2::from_shape_fn((len, order), |(k, n)| {
            Complex::new(direction(unit, k, n, which), direction(imaginary, k, n, which))
        });
        assert_close(found, &expected, 1e-8);
    }
    let diagonals = Array2::from_shape_fn((len, order), |(k, n)| grad_full.a(k)[[n, n]]);
    assert_close(&diagonals, &numbers(grad.transition()), 1e-13);

    // The conversion from the filter form and its vjp, on complex numbers.
    let filter = FilterForm::uniform(Transition::diagonal(a.clone()), b.clone(), c.clone()).unwrap();
    let moved = Array2::from_shape_fn((len, order), |(k, n)| a[[k, n]] * c[[k, n]]);
    let own = Array1::from_shape_fn(len, |k| (0..order).map(|n| b[[k, n]] * c[[k, n]]).sum());
    let dense = complex_dense(a.view(), b.view(), moved.view(), &own);
    assert_close(&filter.matmul(x.view()).unwrap(), &dense.dot(&x), 1e-13);
    let (grad, _) = filter.vjp(x.view(), dy.view()).unwrap();
    let loss = |a: &Array2<Complex<f64>>, b: &Array2<Complex<f64>>, c: &Array2<Complex<f64>>| -> f64 {
        let moved = a * c;
        let own = (b * c).sum_axis(Axis(1));
        let y = complex_dense(a.view(), b.view(), moved.view(), &own).dot(&x);
        y.iter().zip(&dy).map(|(y, dy)| (y.conj() * dy).re).sum()
    };
    let parts =
        [numbers(grad.transition()), grad.b_blocks().flat().to_vec(), grad.c_blocks().flat().to_vec()];
    for which in 0..3 {
        let found = &parts[which];
        let expected = Array2::from_shape_fn((len, order), |(k, n)| {
            let along = |part: Complex<f64>| {
                let at = |sign: f64| {
                    let (mut a, mut b, mut c) = (a.clone(), b.clone(), c.clone());
                    [&mut a, &mut b, &mut c][which][[k, n]] += part * sign * 1e-6;
                    loss(&a, &b, &c)
                };
                (at(1.0) - at(-1.0)) / 2e-6
            };
            Complex::new(along(unit), along(imaginary))
        });
        assert_close(found, &expected, 1e-8);
    }
}

#[test]
fn single_precision_agrees_to_its_rounding() {
    let mut random = Random::new(21);
    let case = Case::random::<Diagonal>(300, 8, &mut random);
    let narrow = |x: &Array2<f64>| x.mapv(|v| v as f32);
    let a = Array2::from_shape_vec((300, 8), case.a.iter().map(|v| *v as f32).collect()).unwrap();
    let d = case.d.mapv(|v| v as f32);
    let m = Sss::uniform(Transition::diagonal(a), narrow(&case.b), narrow(&case.c), d).unwrap();
    for columns in [1, 3] {
        let x = random.matrix(300, columns);
        let y = m.matmul(narrow(&x).view()).unwrap().mapv(f64::from);
        assert_close(&y, &case.dense_predictor::<Diagonal>().dot(&x), 1e-5);
    }
}

fn finite<'a, E: Field<Real = f64> + 'a>(numbers: impl IntoIterator<Item = &'a E>) -> bool {
    numbers.into_iter().all(|v| v.modulus().is_finite())
}

#[test]
fn hostile_numbers_stay_finite_and_right() {
    let len = 130;
    let mut random = Random::new(5);
    let kinds: [fn(usize, usize) -> f64; 5] = [
        |_, _| 0.0,
        |k, _| if k % 3 == 0 { 0.0 } else { 1.0 },
        |k, n| if (k + n) % 2 == 0 { 1e150 } else { 1e-150 },
        |_, _| 5e-324,
        |k, _| (-1e4 * (k % 2) as f64).exp(),
    ];
    for value in kinds {
        let mut case = Case::random::<Diagonal>(len, 2, &mut random);
        case.a = (0..len * 2).map(|i| value(i / 2, i % 2)).collect();
        let x = random.matrix(len, 1);
        let (m, dense) = (case.predictor::<Diagonal>(), case.dense_predictor::<Diagonal>());
        assert!(finite(&dense));
        let y = dense.dot(&x);
        let ways = [Multiply::Recurrent, Multiply::Blocks(Partition::Equal(16)), Multiply::Dense];
        for how in &ways {
            let found = m.multiply(x.view(), how).unwrap();
            assert!(finite(&found));
            assert_close(&found, &y, 1e-12);
        }
        let (grad, dx) = m.vjp(x.view(), x.view()).unwrap();
        assert!(finite(&dx) && finite(&generators(&grad)));
        assert_close(&dx, &dense.t().dot(&x), 1e-12);
    }
}

#[test]
fn errors_name_the_tensor() {
    let a = || Transition::diagonal(Array2::<f64>::ones((3, 2)));
    let b = || Array2::<f64>::ones((3, 2));
    let d = || Array1::<f64>::ones(3);
    let tensor = |e: Error| match e {
        Error::Shape { tensor, .. } => tensor,
        Error::Config { field, .. } => field,
        other => panic!("unexpected {other}"),
    };
    let bad_a = Transition::diagonal(Array2::ones((3, 1)));
    assert_eq!(tensor(Sss::uniform(bad_a, b(), b(), d()).unwrap_err()), "a");
    assert_eq!(tensor(Sss::uniform(a(), b(), Array2::ones((2, 2)), d()).unwrap_err()), "c");
    assert_eq!(tensor(Sss::uniform(a(), b(), b(), Array1::ones(4)).unwrap_err()), "d");
    let scalar = Transition::Scalar(Array1::<f64>::ones(2));
    assert_eq!(tensor(FilterForm::uniform(scalar, b(), b()).unwrap_err()), "a");
    let m = Sss::uniform(a(), b(), b(), d()).unwrap();
    let x = Array2::<f64>::ones((4, 1));
    assert_eq!(tensor(m.matmul(x.view()).unwrap_err()), "x");
    assert_eq!(tensor(m.adjoint_matmul(x.view()).unwrap_err()), "y");
    assert_eq!(tensor(m.vjp(b().view(), x.view()).unwrap_err()), "dy");
    assert_eq!(tensor(m.pull_back(x.view()).unwrap_err()), "d_dense");
    for partition in [Partition::Equal(0), Partition::Lengths(vec![1, 1]), Partition::Lengths(vec![1, 0, 2])]
    {
        let how = Multiply::Blocks(partition);
        assert_eq!(tensor(m.multiply(b().view(), &how).unwrap_err()), "partition");
    }
}
