//! Parts of networks against their definitions in plain loops, and their vjps against differences.

use crate::support::{check_gradient, distance, inner, noise};
use ndarray::{Array1, Array2, Array3, Axis, array, s};
use semisep::Error;
use semisep::nn::*;
use semisep::ssd::{Sequences, States};

fn weight<D: ndarray::Dimension>(array: &ndarray::Array<f64, D>) -> Weight<f64> {
    Weight::from(array.clone())
}

fn packed(offsets: &[usize]) -> Sequences {
    Sequences::from_offsets(offsets).expect("offsets ascend").with_states(States::PerSequence)
}

#[test]
fn linear_is_the_product_for_every_length_and_storage() {
    for (len, inputs, outputs) in [(1, 70, 37), (5, 33, 130), (9, 64, 64), (40, 7, 3), (0, 4, 4)] {
        let (x, w, bias) = (noise((len, inputs), 1), noise((outputs, inputs), 2), noise(outputs, 3));
        for how in [Storage::F64, Storage::F32, Storage::Bf16, Storage::F16] {
            let map = Linear { weight: weight(&w).stored_as(how), bias: Some(weight(&bias)) };
            assert_eq!(map.weight.numbers().storage(), how);
            let w = map.weight.to_array();
            let expected = Array2::from_shape_fn((len, outputs), |(t, o)| {
                bias[o] + (0..inputs).map(|i| w[[o, i]] * x[[t, i]]).sum::<f64>()
            });
            let found = linear(x.view(), &map).expect("shapes agree");
            assert!(distance(&found, &expected) < 1e-12, "{len} {inputs} {outputs} {how:?}");
        }
    }
}

#[test]
fn sixteen_bit_weights_are_computed_with_in_f32() {
    let (x, w) = (noise((3, 50), 1).mapv(|v| v as f32), noise((20, 50), 2).mapv(|v| v as f32));
    for how in [Storage::Bf16, Storage::F16] {
        let short = Linear { weight: Weight::from(w.clone()).stored_as(how), bias: None };
        let wide = Linear { weight: Weight::<f32>::from(short.weight.to_array()), bias: None };
        let found = linear(x.view(), &short).expect("shapes agree");
        assert!(distance(&found, &linear(x.view(), &wide).expect("shapes agree")) < 1e-6);
        let error = (&short.weight.to_array() - &w).iter().fold(0f32, |worst, e| worst.max(e.abs()));
        assert!(error > 0.0 && error < 1.0 / 256.0);
    }
}

#[test]
fn the_vjp_of_linear_is_its_derivative() {
    let (x, w, bias, dy) = (noise((11, 5), 1), noise((4, 5), 2), noise(4, 3), noise((11, 4), 4));
    let map = |w: &Array2<f64>, bias: &Array1<f64>| Linear { weight: weight(w), bias: Some(weight(bias)) };
    let f = |x: &Array2<f64>, w: &_, bias: &_| {
        inner(&linear(x.view(), &map(w, bias)).expect("shapes agree"), &dy)
    };
    let (grad, dx) = linear_vjp(x.view(), &map(&w, &bias), dy.view()).expect("shapes agree");
    check_gradient("x", &x, &dx, |x| f(x, &w, &bias));
    let dw = grad.weight.into_dimensionality().expect("two axes");
    check_gradient("w", &w, &dw, |w| f(&x, w, &bias));
    let d_bias = grad.bias.expect("there is a bias").into_dimensionality().expect("one axis");
    check_gradient("bias", &bias, &d_bias, |bias| f(&x, &w, bias));
}

#[test]
fn convolution_is_its_definition_in_any_split() {
    for width in 1..=4 {
        let (x, kernel, bias) = (noise((70, 3), 1), noise((3, 1, width), 2), noise(3, 3));
        let conv = Conv1d { weight: weight(&kernel), bias: Some(weight(&bias)) };
        let offsets = [0, 41, 41, 43, 70];
        let first = noise((4, width - 1, 3), 4);
        let mut expected = Array2::from_shape_fn((70, 3), |(_, c)| bias[c]);
        let mut last = first.clone();
        for (k, ends) in offsets.windows(2).enumerate() {
            let mut seen: Vec<Vec<f64>> =
                first.index_axis(Axis(0), k).outer_iter().map(|r| r.to_vec()).collect();
            for t in ends[0]..ends[1] {
                seen.push(x.row(t).to_vec());
                for c in 0..3 {
                    for w in 0..width {
                        expected[[t, c]] += kernel[[c, 0, w]] * seen[seen.len() - width + w][c];
                    }
                }
            }
            for w in 0..width - 1 {
                last.slice_mut(s![k, w, ..]).assign(&Array1::from(seen[seen.len() + w + 1 - width].clone()));
            }
        }
        let (mut window, mut y) = (first.clone(), Array2::zeros((70, 3)));
        causal_conv1d(x.view(), &conv, &packed(&offsets), window.view_mut(), y.view_mut())
            .expect("shapes agree");
        assert!(distance(&y, &expected) < 1e-14 && distance(&window, &last) == 0.0, "width {width}");

        let mut window = first.clone();
        for start in 0..70 {
            let offsets = offsets.map(|o| o.clamp(start, start + 1) - start);
            let (x, y) = (x.slice(s![start..=start, ..]), y.slice_mut(s![start..=start, ..]));
            causal_conv1d(x, &conv, &packed(&offsets), window.view_mut(), y).expect("shapes agree");
        }
        assert!(
            distance(&y, &expected) < 1e-14 && distance(&window, &last) == 0.0,
            "width {width}, step by step"
        );
    }
}

#[test]
fn the_vjp_of_convolution_is_its_derivative() {
    for width in [1, 3, 4] {
        let (x, kernel, bias) = (noise((9, 2), 1), noise((2, 1, width), 2), noise(2, 3));
        let sequences = packed(&[0, 6, 6, 8, 9]);
        let (window, dy, d_last) =
            (noise((4, width - 1, 2), 4), noise((9, 2), 5), noise((4, width - 1, 2), 6));
        let conv = |kernel: &_, bias: &_| Conv1d {
            weight: weight::<ndarray::Ix3>(kernel),
            bias: Some(weight::<ndarray::Ix1>(bias)),
        };
        let f = |x: &Array2<f64>, kernel: &_, bias: &_, window: &Array3<f64>| {
            let (mut window, mut y) = (window.clone(), Array2::zeros((9, 2)));
            causal_conv1d(x.view(), &conv(kernel, bias), &sequences, window.view_mut(), y.view_mut())
                .expect("shapes agree");
            inner(&y, &dy) + inner(&window, &d_last)
        };
        let cotangents = (dy.view(), d_last.view());
        let grad = causal_conv1d_vjp(x.view(), &conv(&kernel, &bias), &sequences, window.view(), cotangents)
            .expect("shapes agree");
        check_gradient("x", &x, &grad.x, |x| f(x, &kernel, &bias, &window));
        check_gradient("window", &window, &grad.window, |window| f(&x, &kernel, &bias, window));
        let d_kernel = grad.conv.weight.into_dimensionality().expect("three axes");
        check_gradient("kernel", &kernel, &d_kernel, |kernel| f(&x, kernel, &bias, &window));
        let d_bias = grad.conv.bias.expect("there is a bias").into_dimensionality().expect("one axis");
        check_gradient("bias", &bias, &d_bias, |bias| f(&x, &kernel, bias, &window));
    }
}

#[test]
fn activations_and_their_vjps_are_as_defined() {
    let (x, g, dy) = (noise((3, 40), 1) * 5.0, noise((3, 40), 2) * 5.0, noise((3, 40), 3));
    let silu_of = |v: f64| v / (1.0 + (-v).exp());
    let mut y = x.clone();
    silu(y.view_mut());
    assert!(distance(&y, &x.mapv(silu_of)) < 1e-15);
    let f = |x: &Array2<f64>| inner(&x.mapv(silu_of), &dy);
    check_gradient("silu", &x, &silu_vjp(x.view(), dy.view()).expect("shapes agree"), f);
    let product = |x: &Array2<f64>, g: &Array2<f64>| {
        let mut y = Array2::zeros(x.raw_dim());
        gate(x.view(), g.view(), y.view_mut()).expect("shapes agree");
        y
    };
    assert!(distance(&product(&x, &g), &(&x * &g.mapv(silu_of))) < 1e-14);
    let (dv, dg) = gate_vjp(x.view(), g.view(), dy.view()).expect("shapes agree");
    check_gradient("value", &x, &dv, |x| inner(&product(x, &g), &dy));
    check_gradient("gate", &g, &dg, |g| inner(&product(&x, g), &dy));

    let wide = Array2::from_shape_fn((4, 1000), |(_, c)| (c as f32 - 500.0) * 0.3);
    let mut found = wide.clone();
    silu(found.view_mut());
    for (&found, &v) in found.iter().zip(&wide) {
        let exact = silu_of(f64::from(v));
        assert!((f64::from(found) - exact).abs() < 1e-6 * exact.abs() + 1e-30, "SiLU({v}) = {found}");
    }
}

#[test]
fn norms_are_their_definitions_in_every_order() {
    let (y, z, w) = (noise((5, 12), 1), noise((5, 12), 2), noise(12, 3));
    let silu_of = |v: f64| v / (1.0 + (-v).exp());
    for groups in [1, 2, 3] {
        let norm = |x: &Array2<f64>| {
            Array2::from_shape_fn((5, 12), |(t, c)| {
                let size = 12 / groups;
                let first = c / size * size;
                let mean = (first..first + size).map(|c| x[[t, c]] * x[[t, c]]).sum::<f64>() / size as f64;
                w[c] * x[[t, c]] / (mean + 1e-5).sqrt()
            })
        };
        let gates = z.mapv(silu_of);
        let cases = [
            (GatedNorm::GateFirst, norm(&(&y * &gates))),
            (GatedNorm::NormFirst, norm(&y) * &gates),
            (GatedNorm::GateOnly, &y * &gates),
        ];
        assert!(
            distance(&rms_norm(y.view(), &weight(&w), groups, 1e-5).expect("shapes agree"), &norm(&y))
                < 1e-14
        );
        for (kind, expected) in cases {
            let mut found = Array2::zeros((5, 12));
            gated_rms_norm(y.view(), z.view(), Some(&weight(&w)), (kind, groups, 1e-5), found.view_mut())
                .expect("shapes agree");
            assert!(distance(&found, &expected) < 1e-14, "{kind:?}, {groups} groups");
        }
    }
}

#[test]
fn the_vjps_of_norms_are_their_derivatives() {
    let (y, z, w, d) = (noise((3, 6), 1), noise((3, 6), 2), noise(6, 3), noise((3, 6), 4));
    let plain = |y: &Array2<f64>, w: &Array1<f64>| {
        inner(&rms_norm(y.view(), &weight(w), 2, 0.1).expect("shapes agree"), &d)
    };
    let (dw, dy) = rms_norm_vjp(y.view(), &weight(&w), (2, 0.1), d.view()).expect("shapes agree");
    check_gradient("x", &y, &dy, |y| plain(y, &w));
    check_gradient("w", &w, &dw.into_dimensionality().expect("one axis"), |w| plain(&y, w));
    for kind in [GatedNorm::GateFirst, GatedNorm::NormFirst, GatedNorm::GateOnly] {
        let how = (kind, 2, 0.1);
        let f = |y: &Array2<f64>, z: &Array2<f64>, w: &Array1<f64>| {
            let mut out = Array2::zeros((3, 6));
            gated_rms_norm(y.view(), z.view(), Some(&weight(w)), how, out.view_mut()).expect("shapes agree");
            inner(&out, &d)
        };
        let (dw, dy, dz) =
            gated_rms_norm_vjp(y.view(), z.view(), Some(&weight(&w)), how, d.view()).expect("shapes agree");
        check_gradient("y", &y, &dy, |y| f(y, &z, &w));
        check_gradient("z", &z, &dz, |z| f(&y, z, &w));
        assert_eq!(dw.is_some(), kind != GatedNorm::GateOnly);
        if let Some(dw) = dw {
            check_gradient("w", &w, &dw.into_dimensionality().expect("one axis"), |w| f(&y, &z, w));
        }
    }
}

#[test]
fn embedding_picks_rows_and_its_vjp_adds_to_them() {
    let table = noise((5, 3), 1);
    let rows = embedding(&weight(&table), &[4, 0, 4]).expect("rows exist");
    assert_eq!(rows.row(0), table.row(4));
    assert_eq!(rows.row(1), table.row(0));
    let dy = noise((3, 3), 2);
    let mut d_table = Array2::zeros((5, 3));
    embedding_vjp(&[4, 0, 4], dy.view(), &mut d_table).expect("rows exist");
    let f = |table: &Array2<f64>| inner(&embedding(&weight(table), &[4, 0, 4]).expect("rows exist"), &dy);
    check_gradient("table", &table, &d_table, f);
}

#[test]
fn cross_entropy_and_its_vjp_are_as_defined() {
    let logits = noise((4, 6), 1) * 3.0;
    let targets = [Some(2), None, Some(5), Some(0)];
    let mut expected = 0.0;
    for (row, target) in logits.outer_iter().zip(targets) {
        if let Some(target) = target {
            let sum: f64 = row.iter().map(|v| v.exp()).sum();
            expected -= (row[target as usize].exp() / sum).ln() / 3.0;
        }
    }
    let loss = |logits: &Array2<f64>| cross_entropy(logits.view(), &targets).expect("targets exist");
    assert!((loss(&logits) - expected).abs() < 1e-14);
    let grad = cross_entropy_vjp(logits.view(), &targets, 1.0).expect("targets exist");
    check_gradient("logits", &logits, &grad, loss);
    let large = array![[1e4, 0.0]];
    assert_eq!(cross_entropy(large.view(), &[Some(1)]), Ok(1e4));
}

/// Attention of one sequence by its definition.
fn plain_attention(q: &Array2<f64>, k: &Array2<f64>, v: &Array2<f64>, heads: Heads) -> Array2<f64> {
    let past = k.nrows() - q.nrows();
    let width = heads.head_dim;
    let mut y = Array2::zeros(q.raw_dim());
    for h in 0..heads.queries {
        let g = h / (heads.queries / heads.keys);
        for t in 0..q.nrows() {
            let score = |s: usize| {
                (0..width).map(|i| q[[t, h * width + i]] * k[[s, g * width + i]]).sum::<f64>()
                    / (width as f64).sqrt()
            };
            let weights: Vec<f64> = (0..=past + t).map(|s| score(s).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for i in 0..width {
                y[[t, h * width + i]] =
                    weights.iter().enumerate().map(|(s, w)| w / sum * v[[s, g * width + i]]).sum();
            }
        }
    }
    y
}

#[test]
fn attention_is_its_definition() {
    for (len, past, queries, keys) in [(1, 0, 1, 1), (5, 3, 4, 2), (150, 7, 2, 1), (3, 140, 6, 6)] {
        let heads = Heads { queries, keys, head_dim: 3 };
        let (q, k, v) = (
            noise((len, queries * 3), 1),
            noise((past + len, keys * 3), 2),
            noise((past + len, keys * 3), 3),
        );
        let mut y = Array2::zeros(q.raw_dim());
        attention(q.view(), k.view(), v.view(), heads, y.view_mut()).expect("shapes agree");
        assert!(distance(&y, &plain_attention(&q, &k, &v, heads)) < 1e-13, "{len} {past} {queries} {keys}");
    }
}

#[test]
fn the_vjp_of_attention_is_its_derivative() {
    let heads = Heads { queries: 4, keys: 2, head_dim: 2 };
    let (q, k, v, dy) = (noise((3, 8), 1), noise((5, 4), 2), noise((5, 4), 3), noise((3, 8), 4));
    let f = |q: &_, k: &_, v: &_| inner(&plain_attention(q, k, v, heads), &dy);
    let [dq, dk, dv] = attention_vjp(q.view(), k.view(), v.view(), heads, dy.view()).expect("shapes agree");
    check_gradient("q", &q, &dq, |q| f(q, &k, &v));
    check_gradient("k", &k, &dk, |k| f(&q, k, &v));
    check_gradient("v", &v, &dv, |v| f(&q, &k, v));
    let (q, k, v, dy) = (noise((140, 8), 1), noise((141, 4), 2), noise((141, 4), 3), noise((140, 8), 4));
    let [dq, dk, dv] = attention_vjp(q.view(), k.view(), v.view(), heads, dy.view()).expect("shapes agree");
    let along = noise((141, 4), 5); // one direction of a longer one, which takes several blocks
    let slope = |step: f64| {
        f64::from(1)
            * inner(&plain_attention(&q, &(&k + &(&along * step)), &(&v + &(&along * step)), heads), &dy)
    };
    let expected = (slope(1e-5) - slope(-1e-5)) / 2e-5;
    assert!((inner(&(&dk + &dv), &along) - expected).abs() < 1e-7 * (1.0 + expected.abs()));
    assert!(dq.iter().all(|v| v.is_finite()));
}

#[test]
fn rotation_turns_pairs_and_turns_back() {
    let how = Rotary { head_dim: 5, dim: 4, base: 100.0 };
    let x = noise((3, 10), 1);
    let mut y = x.clone();
    rotary(y.view_mut(), 7, how).expect("two heads");
    for (t, h, i) in [(0, 0, 0), (1, 1, 1), (2, 0, 1), (2, 1, 0)] {
        let angle = (7 + t) as f64 * 100f64.powf(-2.0 * i as f64 / 4.0);
        let (u, v) = (x[[t, 5 * h + i]], x[[t, 5 * h + i + 2]]);
        assert!((y[[t, 5 * h + i]] - (u * angle.cos() - v * angle.sin())).abs() < 1e-14);
        assert!((y[[t, 5 * h + i + 2]] - (v * angle.cos() + u * angle.sin())).abs() < 1e-14);
        assert_eq!(y[[t, 5 * h + 4]], x[[t, 5 * h + 4]]);
    }
    assert!(distance(&rotary_vjp(y.view(), 7, how).expect("two heads"), &x) < 1e-14);
}

#[test]
fn wrong_shapes_are_named() {
    let named = |result: Result<(), Error>, name: &str| match result {
        Err(Error::Shape { tensor, .. } | Error::Value { tensor, .. }) => assert_eq!(tensor, name),
        other => panic!("{other:?} instead of an error about {name}"),
    };
    let x = Array2::<f64>::zeros((2, 3));
    let map = Linear { weight: weight(&Array2::zeros((4, 2))), bias: None };
    named(linear(x.view(), &map).map(drop), "x");
    named(rms_norm(x.view(), &weight(&Array1::zeros(2)), 1, 0.0).map(drop), "norm.weight");
    named(rms_norm(x.view(), &weight(&Array1::zeros(3)), 2, 0.0).map(drop), "norm.weight");
    let how = (GatedNorm::GateFirst, 1, 0.0);
    named(gated_rms_norm(x.view(), x.view(), None, how, Array2::zeros((2, 3)).view_mut()), "norm.weight");
    named(embedding(&weight(&x), &[2]).map(drop), "input_ids");
    named(cross_entropy(x.view(), &[None]).map(drop), "targets");
    named(cross_entropy(x.view(), &[None, Some(3)]).map(drop), "targets");
    let conv = Conv1d { weight: weight(&Array3::zeros((3, 1, 4))), bias: None };
    let (mut window, mut y) = (Array3::zeros((1, 2, 3)), x.clone());
    named(causal_conv1d(x.view(), &conv, &packed(&[0, 2]), window.view_mut(), y.view_mut()), "window");
    named(causal_conv1d(x.view(), &conv, &packed(&[0, 3]), window.view_mut(), y.view_mut()), "sequences");
    let heads = Heads { queries: 3, keys: 2, head_dim: 1 };
    named(attention(x.view(), x.view(), x.view(), heads, y.view_mut()), "heads");
    named(rotary(y.view_mut(), 0, Rotary { head_dim: 3, dim: 1, base: 1e4 }), "x");
    named(Weight::<f64>::new(&[2, 3], Numbers::F32(Shared::new(vec![0.0; 5]))).map(drop), "weight");
}
