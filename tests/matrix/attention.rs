//! Masked attention and head patterns against formulas written out.

use crate::support::generators::numbers;
use crate::support::{Entries, Random, assert_close, differences, inner};
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis, s};
use proptest::prelude::*;
use semisep::Error;
use semisep::matrix::attention::Order;
use semisep::matrix::attention::heads::{HeadPattern, Masks, MultiHeadAttention, Role, broadcast};
use semisep::matrix::mask::{AllOnes, Banded, Causal, Decay, Toeplitz};
use semisep::matrix::{
    Cotangent, FilterForm, MaskedAttention, OneSemiseparable, Sss, StructuredMatrix, Transition,
};

const ORDERS: [Order; 2] = [Order::Quadratic, Order::Linear];

/// `Σ_s L_ts (Q_t · K_s) V_sp`, entry by entry.
fn definition(
    l: ArrayView2<'_, f64>,
    q: ArrayView2<'_, f64>,
    k: ArrayView2<'_, f64>,
    v: ArrayView2<'_, f64>,
) -> Array2<f64> {
    Array2::from_shape_fn((q.nrows(), v.ncols()), |(t, p)| {
        (0..k.nrows()).map(|s| l[[t, s]] * q.row(t).dot(&k.row(s)) * v[[s, p]]).sum()
    })
}

/// A matrix read off consecutive numbers.
fn take(numbers: &mut impl Iterator<Item = f64>, rows: usize, columns: usize) -> Array2<f64> {
    Array2::from_shape_simple_fn((rows, columns), || numbers.next().unwrap())
}

fn joined(parts: &[&Array2<f64>]) -> Vec<f64> {
    parts.iter().flat_map(|p| p.iter().copied()).collect()
}

fn check_mask<L: StructuredMatrix<f64>>(mask: &L, random: &mut Random)
where
    L::Gradient: Cotangent,
{
    let (rows, columns) = mask.shape();
    // Width 130 needs several blocks of columns for one feature, the others several features in one block.
    for (features, width) in [(1, 1), (3, 2), (5, 40), (2, 130), (0, 2), (2, 0)] {
        let (q, k) = (random.matrix(rows, features), random.matrix(columns, features));
        let (v, dy) = (random.matrix(columns, width), random.matrix(rows, width));
        let attention = MaskedAttention::new(mask, q.view(), k.view()).unwrap();
        let dense = mask.to_dense();
        let expected = definition(dense.view(), q.view(), k.view(), v.view());
        for order in ORDERS {
            assert_close(&attention.multiply(v.view(), order).unwrap(), &expected, 1e-12);
        }
        assert_close(&attention.to_dense().dot(&v), &expected, 1e-12);
        assert_close(&attention.matmul(v.view()).unwrap(), &expected, 1e-12);
        let adjoint = attention.adjoint_matmul(dy.view()).unwrap();
        assert_close(&adjoint, &attention.to_dense().t().dot(&dy), 1e-12);
        let (one, dv_one) = attention.multiply_vjp(v.view(), dy.view(), Order::Quadratic).unwrap();
        let (two, dv_two) = attention.multiply_vjp(v.view(), dy.view(), Order::Linear).unwrap();
        assert_close(&one.q, &two.q, 1e-12);
        assert_close(&one.k, &two.k, 1e-12);
        assert_close(&dv_one, &dv_two, 1e-12);
    }
}

fn filter_mask(len: usize, random: &mut Random) -> FilterForm<f64> {
    let a = Transition::diagonal(random.matrix(len, 2));
    FilterForm::uniform(a, random.matrix(len, 2), random.matrix(len, 2)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn both_orders_agree_with_the_definition_for_several_masks(
        rows in 0usize..9, columns in 0usize..9, seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        check_mask(&Entries(random.matrix(rows, columns)), &mut random);
        check_mask(&Entries(Array2::ones((rows, columns))), &mut random);
        check_mask(&AllOnes::new(rows, columns), &mut random);
        check_mask(&Banded::new(rows, columns, 2, 1), &mut random);
        check_mask(&Causal::new(rows), &mut random);
        check_mask(&Decay::new(rows, 0.8).unwrap(), &mut random);
        check_mask(&OneSemiseparable::new(random.vector(rows)).unwrap(), &mut random);
        let (column, mut row) = (random.vector(rows), random.vector(columns));
        if rows > 0 && columns > 0 {
            row[0] = column[0];
            check_mask(&Toeplitz::from_column_and_row(column.view(), row.view()).unwrap(), &mut random);
        }
        check_mask(&filter_mask(rows, &mut random), &mut random);
        let ones = Array2::ones((rows, 1));
        let decay = Transition::Scalar(Array1::from_elem(rows, 0.9));
        check_mask(&FilterForm::uniform(decay, ones.clone(), ones.clone()).unwrap(), &mut random);
        let (a, d) = (Transition::Scalar(random.vector(rows)), random.vector(rows));
        check_mask(&Sss::uniform(a, ones.clone(), ones, d).unwrap(), &mut random);
    }

    #[test]
    fn every_vjp_of_attention_agrees_with_central_differences(
        rows in 1usize..5, columns in 1usize..5, features in 1usize..3, width in 1usize..3, seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        // Positive numbers, so that no row sum vanishes.
        let mut positive = |r, c| random.matrix(r, c).mapv_into(|v| 1.5 + v);
        let (l, q, k) = (positive(rows, columns), positive(rows, features), positive(columns, features));
        let (v, dy) = (random.matrix(columns, width), random.matrix(rows, width));
        let at = joined(&[&l, &q, &k, &v]);
        let parts = |p: &[f64]| {
            let mut p = p.iter().copied();
            let (l, q) = (take(&mut p, rows, columns), take(&mut p, rows, features));
            (l, q, take(&mut p, columns, features), take(&mut p, columns, width))
        };
        let plain = differences(|p| {
            let (l, q, k, v) = parts(p);
            inner(&definition(l.view(), q.view(), k.view(), v.view()), &dy)
        }, &at);
        let normalized = differences(|p| {
            let (l, q, k, v) = parts(p);
            let sums = definition(l.view(), q.view(), k.view(), Array2::ones((columns, 1)).view());
            inner(&(definition(l.view(), q.view(), k.view(), v.view()) / sums), &dy)
        }, &at);
        let mask = Entries(l);
        let attention = MaskedAttention::new(&mask, q.view(), k.view()).unwrap();
        for order in ORDERS {
            let (grad, dv) = attention.multiply_vjp(v.view(), dy.view(), order).unwrap();
            assert_close(&joined(&[&grad.mask, &grad.q, &grad.k, &dv]), &plain, 1e-7);
            let (grad, dv) = attention.multiply_normalized_vjp(v.view(), dy.view(), order).unwrap();
            assert_close(&joined(&[&grad.mask, &grad.q, &grad.k, &dv]), &normalized, 1e-7);
        }
        let d_dense = random.matrix(rows, columns);
        let grad = attention.pull_back(d_dense.view()).unwrap();
        let entries = differences(|p| {
            let (l, q, k, _) = parts(p);
            inner(&(l * q.dot(&k.t())), &d_dense)
        }, &at);
        let zeros = Array2::zeros(v.raw_dim());
        assert_close(&joined(&[&grad.mask, &grad.q, &grad.k, &zeros]), &entries, 1e-7);
    }
}

#[test]
fn gradients_of_a_semiseparable_mask_agree_in_both_orders() {
    let mut random = Random::new(4);
    let mask = filter_mask(7, &mut random);
    let (q, k) = (random.matrix(7, 3), random.matrix(7, 3));
    // More columns than one block holds, so that gradients are added up.
    let (v, dy) = (random.matrix(7, 50), random.matrix(7, 50));
    let attention = MaskedAttention::new(&mask, q.view(), k.view()).unwrap();
    let [(one, _), (two, _)] =
        ORDERS.map(|order| attention.multiply_vjp(v.view(), dy.view(), order).unwrap());
    assert_close(&numbers(one.mask.transition()), &numbers(two.mask.transition()), 1e-12);
    assert_close(one.mask.b_blocks().flat(), two.mask.b_blocks().flat(), 1e-12);
    assert_close(one.mask.c_blocks().flat(), two.mask.c_blocks().flat(), 1e-12);
    assert!(one.mask.b_blocks().flat().iter().any(|v| v.abs() > 1e-3));
}

#[test]
fn gradients_of_parametric_masks_agree_in_both_orders() {
    let mut random = Random::new(14);
    let (q, k) = (random.matrix(6, 3), random.matrix(6, 3));
    let (v, dy) = (random.matrix(6, 50), random.matrix(6, 50));
    let one_semiseparable = OneSemiseparable::new(random.vector(6)).unwrap();
    let attention = MaskedAttention::new(&one_semiseparable, q.view(), k.view()).unwrap();
    let [(one, _), (two, _)] =
        ORDERS.map(|order| attention.multiply_vjp(v.view(), dy.view(), order).unwrap());
    assert_close(&one.mask, &two.mask, 1e-12);
    let decay = Decay::new(6, 0.7).unwrap();
    let attention = MaskedAttention::new(&decay, q.view(), k.view()).unwrap();
    let [(one, _), (two, _)] =
        ORDERS.map(|order| attention.multiply_vjp(v.view(), dy.view(), order).unwrap());
    assert_close(&[one.mask], &[two.mask], 1e-12);
    let toeplitz = Toeplitz::new(6, 6, random.vector(11)).unwrap();
    let attention = MaskedAttention::new(&toeplitz, q.view(), k.view()).unwrap();
    let [(one, _), (two, _)] =
        ORDERS.map(|order| attention.multiply_vjp(v.view(), dy.view(), order).unwrap());
    assert_close(&one.mask, &two.mask, 1e-12);
}

#[test]
fn complex_attention_does_not_conjugate_keys() {
    let mut random = Random::new(8);
    let mask = Entries(random.complex(4, 5));
    let (q, k, v) = (random.complex(4, 2), random.complex(5, 2), random.complex(5, 3));
    let attention = MaskedAttention::new(&mask, q.view(), k.view()).unwrap();
    let dense = &mask.0 * &q.dot(&k.t());
    let dy = random.complex(4, 3);
    for order in ORDERS {
        assert_close(&attention.multiply(v.view(), order).unwrap(), &dense.dot(&v), 1e-12);
        let (grad, dv) = attention.multiply_vjp(v.view(), dy.view(), order).unwrap();
        assert_close(&dv, &dense.t().mapv(|v| v.conj()).dot(&dy), 1e-12);
        // The derivative along a direction is the real inner product with the gradient.
        let step = random.complex(4, 2);
        let moved = &mask.0 * &step.dot(&k.t());
        let slope: f64 = moved.dot(&v).iter().zip(&dy).map(|(y, dy)| (y.conj() * dy).re).sum();
        let found: f64 = step.iter().zip(&grad.q).map(|(s, g)| (s.conj() * g).re).sum();
        assert!((slope - found).abs() < 1e-12);
        let step = random.complex(5, 2);
        let moved = &mask.0 * &q.dot(&step.t());
        let slope: f64 = moved.dot(&v).iter().zip(&dy).map(|(y, dy)| (y.conj() * dy).re).sum();
        let found: f64 = step.iter().zip(&grad.k).map(|(s, g)| (s.conj() * g).re).sum();
        assert!((slope - found).abs() < 1e-12);
    }
    let adjoint = attention.adjoint_matmul(dy.view()).unwrap();
    assert_close(&adjoint, &dense.t().mapv(|v| v.conj()).dot(&dy), 1e-12);
}

#[test]
fn normalised_rows_sum_to_one_and_a_zero_sum_is_an_error() {
    let mut random = Random::new(12);
    let mask = Entries(random.matrix(5, 6).mapv_into(f64::abs));
    let (q, k) = (random.matrix(5, 3).mapv_into(f64::exp), random.matrix(6, 3).mapv_into(f64::exp));
    let attention = MaskedAttention::new(&mask, q.view(), k.view()).unwrap();
    for order in ORDERS {
        let y = attention.multiply_normalized(Array2::ones((6, 2)).view(), order).unwrap();
        assert_close(&y, &Array2::ones((5, 2)), 1e-14);
        let mut zero_row = q.clone();
        zero_row.row_mut(3).fill(0.0);
        let broken = MaskedAttention::new(&mask, zero_row.view(), k.view()).unwrap();
        let v = Array2::ones((6, 2));
        let error = broken.multiply_normalized(v.view(), order).unwrap_err();
        assert!(matches!(error, Error::Value { tensor: "denominator", .. }), "{error}");
        assert!(error.to_string().contains("row 3"));
        let dy = Array2::ones((5, 2));
        assert!(broken.multiply_normalized_vjp(v.view(), dy.view(), order).is_err());
    }
}

const PATTERNS: [(HeadPattern, [usize; 3]); 6] = [
    (HeadPattern::MultiHead, [6, 6, 6]),
    (HeadPattern::MULTI_QUERY, [1, 1, 6]),
    (HeadPattern::MULTI_KEY, [1, 6, 1]),
    (HeadPattern::MULTI_VALUE, [6, 1, 1]),
    (HeadPattern::MultiState, [1, 1, 1]),
    (HeadPattern::grouped_value(3), [6, 3, 3]),
];

#[test]
fn head_patterns_count_heads_as_in_the_paper() {
    for (pattern, counts) in PATTERNS {
        let found = [Role::Input, Role::Expand, Role::Contract].map(|r| pattern.heads_of(r, 6).unwrap());
        assert_eq!(found, counts, "{pattern:?}");
        assert!(matches!(pattern.heads_of(Role::Input, 0), Err(Error::Config { field: "heads", .. })));
    }
    for groups in [0, 4] {
        let error = HeadPattern::GroupedInput { groups }.heads_of(Role::Input, 6).unwrap_err();
        assert!(matches!(error, Error::Config { field: "groups", .. }));
    }
}

/// Every head with a tensor of its own: head h reads h / (heads / shared).
fn materialised(x: &Array3<f64>, heads: usize) -> Array3<f64> {
    let shared = x.len_of(Axis(1));
    Array3::from_shape_fn((x.len_of(Axis(0)), heads, x.len_of(Axis(2))), |(t, h, n)| {
        x[[t, h * shared / heads, n]]
    })
}

#[test]
fn a_broadcast_equals_the_materialised_tensor_and_copies_nothing() {
    let mut random = Random::new(6);
    for shared in [1, 2, 3, 6] {
        let x = random.tensor((4, shared, 3));
        let view = x.view();
        let seen = broadcast(&view, 6).unwrap();
        assert_eq!(seen.dim(), (4, shared, 6 / shared, 3));
        assert_eq!(seen.as_ptr(), x.as_ptr());
        let full = materialised(&x, 6);
        let merged = seen.to_owned().into_shape_with_order((4, 6, 3)).unwrap();
        assert_eq!(merged, full);
    }
    let x = random.tensor((2, 4, 1));
    assert!(matches!(broadcast(&x.view(), 6), Err(Error::Shape { .. })));
    assert!(broadcast(&random.tensor((2, 0, 1)).view(), 6).is_err());
}

#[test]
fn every_head_pattern_equals_the_materialised_heads_forward_and_backward() {
    let mut random = Random::new(11);
    let (rows, columns, n, p, heads) = (4, 5, 2, 3, 6);
    let own: Vec<Entries<f64>> = (0..heads).map(|_| Entries(random.matrix(rows, columns))).collect();
    for (pattern, [inputs, expands, contracts]) in PATTERNS {
        let (q, k) = (random.tensor((rows, contracts, n)), random.tensor((columns, expands, n)));
        let (v, dy) = (random.tensor((columns, inputs, p)), random.tensor((rows, heads, p)));
        let (q_all, k_all, v_all) =
            (materialised(&q, heads), materialised(&k, heads), materialised(&v, heads));
        for shared in [true, false] {
            let mask = |h: usize| if shared { &own[0] } else { &own[h] };
            let masks = || if shared { Masks::Shared(&own[0]) } else { Masks::PerHead(&own) };
            let attention = MultiHeadAttention::new(pattern, heads, masks(), q.view(), k.view()).unwrap();
            let full =
                MultiHeadAttention::new(HeadPattern::MultiHead, heads, masks(), q_all.view(), k_all.view())
                    .unwrap();
            for order in ORDERS {
                let y = attention.multiply(v.view(), order).unwrap();
                for h in 0..heads {
                    let head = |x: &Array3<f64>| x.index_axis(Axis(1), h).to_owned();
                    let (q, k, v) = (head(&q_all), head(&k_all), head(&v_all));
                    let expected = definition(mask(h).0.view(), q.view(), k.view(), v.view());
                    assert_close(y.slice(s![.., h, ..]), &expected, 1e-13);
                }
                let grad = attention.multiply_vjp(v.view(), dy.view(), order).unwrap();
                let all = full.multiply_vjp(v_all.view(), dy.view(), order).unwrap();
                let folded = |all: &Array3<f64>, shared: usize| {
                    let mut sum = Array3::zeros((all.len_of(Axis(0)), shared, all.len_of(Axis(2))));
                    for h in 0..heads {
                        let mut slot = sum.index_axis_mut(Axis(1), h * shared / heads);
                        slot += &all.index_axis(Axis(1), h);
                    }
                    sum
                };
                assert_close(&grad.q, &folded(&all.q, contracts), 1e-12);
                assert_close(&grad.k, &folded(&all.k, expands), 1e-12);
                assert_close(&grad.v, &folded(&all.v, inputs), 1e-12);
                assert_eq!(grad.masks.len(), if shared { 1 } else { heads });
                for h in 0..heads {
                    let one = MaskedAttention::new(
                        mask(h),
                        q_all.index_axis(Axis(1), h),
                        k_all.index_axis(Axis(1), h),
                    )
                    .unwrap();
                    let head = |x: &Array3<f64>| x.index_axis(Axis(1), h).to_owned();
                    let (g, _) = one.multiply_vjp(head(&v_all).view(), head(&dy).view(), order).unwrap();
                    assert_close(&head(&all.q), &g.q, 1e-13);
                    if !shared {
                        assert_close(&grad.masks[h], &g.mask, 1e-13);
                    }
                }
            }
        }
    }
}

#[test]
fn errors_name_the_tensor() {
    let tensor = |e: Error| match e {
        Error::Shape { tensor, .. } => tensor,
        other => panic!("unexpected {other}"),
    };
    let mask = Entries(Array2::<f64>::ones((3, 4)));
    let (q, k) = (Array2::ones((3, 2)), Array2::ones((4, 2)));
    let wrong = Array2::ones((4, 3));
    assert_eq!(tensor(MaskedAttention::new(&mask, q.view(), wrong.view()).unwrap_err()), "k");
    assert_eq!(tensor(MaskedAttention::new(&mask, k.view(), q.view()).unwrap_err()), "mask");
    let attention = MaskedAttention::new(&mask, q.view(), k.view()).unwrap();
    for order in ORDERS {
        assert_eq!(tensor(attention.multiply(q.view(), order).unwrap_err()), "v");
        assert_eq!(tensor(attention.multiply_vjp(k.view(), k.view(), order).unwrap_err()), "dy");
        assert_eq!(tensor(attention.multiply_normalized(q.view(), order).unwrap_err()), "v");
    }
    assert_eq!(tensor(attention.adjoint_matmul(k.view()).unwrap_err()), "y");
    assert_eq!(tensor(attention.pull_back(k.view()).unwrap_err()), "d_dense");

    let pattern = HeadPattern::MULTI_VALUE;
    let (q, k) = (Array3::ones((3, 1, 2)), Array3::ones((4, 1, 2)));
    let many = Array3::ones((3, 2, 2));
    let new = |q: &Array3<f64>, k: &Array3<f64>, masks| {
        MultiHeadAttention::new(pattern, 2, masks, q.view(), k.view()).map(|_| ())
    };
    assert_eq!(tensor(new(&many, &k, Masks::Shared(&mask)).unwrap_err()), "q");
    assert_eq!(tensor(new(&q, &many, Masks::Shared(&mask)).unwrap_err()), "k");
    assert_eq!(tensor(new(&q, &q, Masks::Shared(&mask)).unwrap_err()), "masks");
    assert_eq!(tensor(new(&q, &k, Masks::PerHead(&[])).unwrap_err()), "masks");
    let attention = MultiHeadAttention::new(pattern, 2, Masks::Shared(&mask), q.view(), k.view()).unwrap();
    assert_eq!(tensor(attention.multiply(k.view(), Order::Linear).unwrap_err()), "v");
    let v = Array3::ones((4, 2, 1));
    assert_eq!(tensor(attention.multiply_vjp(v.view(), v.view(), Order::Linear).unwrap_err()), "dy");
}
