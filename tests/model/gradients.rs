//! The gradient of the loss by every parameter and by the state, of every kind of model, against differences.

use crate::support::models::{ids, kinds, random, state_after};
use crate::support::{check_gradient, inner, noise};
use ndarray::Array2;
use semisep::mamba2::{Config, Memory, Model, State, Tokens};
use semisep::nn::Weight;

#[test]
fn the_gradient_of_the_loss_is_its_derivative_by_every_parameter() {
    for (kind, config) in kinds() {
        let model = random(&config, 1);
        let tokens = Tokens::packed(&[ids(6, 11, 2), ids(1, 11, 3), ids(4, 11, 4)]);
        let state = state_after(&model, &[2, 0, 3], 5);
        let targets = tokens.next();
        let (loss, grad) = model.loss_vjp(&tokens, &targets, &state).expect("all agrees");
        let of = |model: &Model<Weight<f64>>| {
            model.loss(&tokens, &targets, &mut state.clone()).expect("all agrees")
        };
        assert!((loss - of(&model)).abs() < 1e-12, "{kind}");
        let mut cotangents = Vec::new();
        grad.parameters.for_each(|name, d| cotangents.push((name.to_owned(), d)));
        for (place, (name, d)) in cotangents.iter().enumerate() {
            // Where a parameter is large, a few of its numbers; the rest is as it was.
            let mut at = None;
            model.for_each(|other, w| at = if other == name { Some(w.to_array()) } else { at.take() });
            let at = at.expect("models of one kind have the same names");
            let every = at.len().div_ceil(12);
            let chosen = |k: usize| k % every == place % every;
            let picked: Vec<usize> = (0..at.len()).filter(|&k| chosen(k)).collect();
            let pick = |of: &ndarray::ArrayD<f64>| {
                picked
                    .iter()
                    .map(|&k| of.iter().copied().nth(k).expect("k is an index"))
                    .collect::<ndarray::Array1<_>>()
            };
            check_gradient(&format!("{kind}: {name}"), &pick(&at), &pick(d), |moved| {
                let mut array = at.clone();
                let numbers = array.as_slice_mut().expect("in order");
                picked.iter().zip(moved).for_each(|(&k, &v)| numbers[k] = v);
                of(&with(&model, name, &array))
            });
        }
    }
}

/// The model with one parameter replaced.
fn with(model: &Model<Weight<f64>>, name: &str, array: &ndarray::ArrayD<f64>) -> Model<Weight<f64>> {
    let replaced = model.try_map(semisep::mamba2::Naming::Original, |other, w| {
        Ok::<_, ()>(if other == name { Weight::from(array.clone()) } else { w.clone() })
    });
    replaced.expect("nothing fails")
}

/// ⟨logits, d_logits⟩ + ⟨final state, d_state⟩
fn paired(
    model: &Model<Weight<f64>>,
    tokens: &Tokens,
    from: &State<f64>,
    d: (&Array2<f64>, &State<f64>),
) -> f64 {
    let mut state = from.clone();
    let logits = model.forward(tokens, &mut state).expect("all agrees");
    let memories = state.memories.iter().zip(&d.1.memories).map(|(a, b)| match (a, b) {
        (Memory::Mamba2 { conv, ssm }, Memory::Mamba2 { conv: d_conv, ssm: d_ssm }) => {
            inner(conv, d_conv) + inner(ssm, d_ssm)
        }
        (Memory::Attention { conv, cache }, Memory::Attention { conv: d_conv, cache: d_cache }) => {
            let each = cache.iter().zip(d_cache).map(|(a, b)| {
                inner(&a.keys().to_owned(), &b.keys().to_owned())
                    + inner(&a.values().to_owned(), &b.values().to_owned())
            });
            inner(conv, d_conv) + each.sum::<f64>()
        }
        _ => panic!("states of one model have the same memories"),
    });
    inner(&logits, d.0) + memories.sum::<f64>()
}

#[test]
fn cotangents_of_states_are_derivatives() {
    for (kind, config) in kinds() {
        let model = random(&config, 1);
        let tokens = Tokens::packed(&[ids(5, 11, 2), Vec::new(), ids(2, 11, 4)]);
        let from = state_after(&model, &[2, 1, 0], 5);
        let d_logits = noise((7, config.vocab_rows()), 6);
        let d_state = state_after(&model, &[7, 1, 2], 8); // any state of the right shapes
        let grad = model.vjp(&tokens, &from, (d_logits.view(), &d_state)).expect("all agrees");
        for k in 0..from.memories.len() {
            match (&from.memories[k], &grad.state.memories[k]) {
                (Memory::Mamba2 { conv, ssm }, Memory::Mamba2 { conv: d_conv, ssm: d_ssm }) => {
                    check_gradient(&format!("{kind}, window {k}"), conv, d_conv, |conv| {
                        let mut from = from.clone();
                        from.memories[k] = Memory::Mamba2 { conv: conv.clone(), ssm: ssm.clone() };
                        paired(&model, &tokens, &from, (&d_logits, &d_state))
                    });
                    check_gradient(&format!("{kind}, state {k}"), ssm, d_ssm, |ssm| {
                        let mut from = from.clone();
                        from.memories[k] = Memory::Mamba2 { conv: conv.clone(), ssm: ssm.clone() };
                        paired(&model, &tokens, &from, (&d_logits, &d_state))
                    });
                }
                (Memory::Attention { conv, cache }, Memory::Attention { conv: d_conv, cache: d_cache }) => {
                    check_gradient(&format!("{kind}, window {k}"), conv, d_conv, |conv| {
                        let mut from = from.clone();
                        from.memories[k] = Memory::Attention { conv: conv.clone(), cache: cache.clone() };
                        paired(&model, &tokens, &from, (&d_logits, &d_state))
                    });
                    assert_eq!(cache.len(), d_cache.len());
                    for (of, d) in cache.iter().zip(d_cache) {
                        assert_eq!(of.keys().dim(), d.keys().dim());
                    }
                }
                _ => panic!("a cotangent has the shape of what it belongs to"),
            }
        }
    }
}

#[test]
fn descent_by_the_gradient_learns_a_pattern() {
    let config = Config { state_dim: 4, head_dim: 4, ..Config::new(8, 2, 4) };
    let mut model = Model::<Weight<f32>>::random(&config, 3).expect("the configuration is valid");
    let tokens = Tokens::one(&[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
    let state = State::new(&config, 1).expect("the configuration is valid");
    let first = model.loss(&tokens, &tokens.next(), &mut state.clone()).expect("all agrees");
    let mut last = first;
    for _ in 0..60 {
        let (loss, grad) = model.loss_vjp(&tokens, &tokens.next(), &state).expect("all agrees");
        last = loss;
        model = model
            .zip_map(&grad.parameters, |w, d| Weight::from(w.to_array() - d * 0.5))
            .expect("a gradient is a model of the same kind");
    }
    assert!(last < 0.1 * first, "from {first} to {last}");
}
