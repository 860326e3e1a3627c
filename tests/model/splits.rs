//! The model against itself in every split and packing, and against a plain one.

use crate::support::distance;
use crate::support::models::{ids, kinds, random, state_after};
use ndarray::{Array1, Array2, s};
use semisep::mamba2::{AttentionConfig, Config, MlpConfig, Model, State, Tokens};
use semisep::nn::{Storage, Weight};
use semisep::{Error, Real};

#[test]
fn any_split_gives_the_same_bits() {
    for (kind, config) in kinds().into_iter().chain([wider_than_vectors()]) {
        let model = random(&config, 1);
        check_splits(kind, &model);
        let model = model.map(in_f32);
        check_splits(kind, &model);
        for short in [Storage::Bf16, Storage::F16] {
            check_splits(kind, &model.map(|w| w.stored_as(short)));
        }
    }
}

/// Widths with a rest behind whole vectors of every machine, and more than one vector before it.
fn wider_than_vectors() -> (&'static str, Config) {
    let sizes = Config { state_dim: 71, head_dim: 19, groups: 2, expand: 2, ..Config::new(38, 2, 11) };
    ("wider than vectors", Config { conv_width: 3, conv_bias: false, proj_bias: true, ..sizes })
}

fn in_f32(weight: &Weight<f64>) -> Weight<f32> {
    Weight::from(weight.to_array().mapv(|v| v as f32))
}

/// A batch of two in one pass, and the same in pieces from a state that has read something.
#[track_caller]
fn check_splits<A: Real>(kind: &str, model: &Model<Weight<A>>) {
    let (first, second) = (ids(83, 11, 2), ids(83, 11, 3));
    let mut start = State::new(model.config(), 2).expect("the configuration is valid");
    model.forward(&Tokens::packed(&[ids(3, 11, 9), Vec::new()]), &mut start).expect("tokens are valid");
    let mut whole = start.clone();
    let expected = model.forward(&Tokens::packed(&[&first, &second]), &mut whole).expect("tokens are valid");
    for lengths in [vec![1; 83], vec![7, 1, 20, 55], vec![64, 19], vec![0, 2, 81]] {
        let (mut state, mut at) = (start.clone(), 0);
        for len in lengths.clone() {
            let piece = Tokens::packed(&[&first[at..at + len], &second[at..at + len]]);
            let found = model.forward(&piece, &mut state).expect("tokens are valid");
            assert_eq!(
                found.slice(s![..len, ..]),
                expected.slice(s![at..at + len, ..]),
                "{kind}, {lengths:?}"
            );
            let other = s![83 + at..83 + at + len, ..];
            assert_eq!(found.slice(s![len.., ..]), expected.slice(other), "{kind}, {lengths:?}");
            at += len;
        }
        assert!(state == whole, "{kind}, {lengths:?}: the state behind");
    }
}

#[test]
fn packed_sequences_of_unequal_lengths_have_the_bits_that_they_have_alone() {
    for (kind, config) in kinds().into_iter().chain([wider_than_vectors()]) {
        let model = random(&config, 1);
        check_packing(kind, &model);
        check_packing(kind, &model.map(in_f32));
    }
}

#[track_caller]
fn check_packing<A: Real>(kind: &str, model: &Model<Weight<A>>) {
    let sequences = [ids(20, 11, 1), Vec::new(), ids(1, 11, 2), ids(35, 11, 3), ids(4, 11, 4)];
    let read = [2, 1, 0, 5, 0].map(|len| ids(len, 11, 7 + len as u64));
    let after = |read: &[Vec<u32>]| {
        let mut state = State::new(model.config(), read.len()).expect("the configuration is valid");
        model.forward(&Tokens::packed(read), &mut state).expect("tokens are valid");
        state
    };
    let packed = Tokens::packed(&sequences);
    let found = model.forward(&packed, &mut after(&read)).expect("tokens are valid");
    for (k, (sequence, read)) in sequences.iter().zip(&read).enumerate() {
        let mut alone = after(std::slice::from_ref(read));
        let expected = model.forward(&Tokens::one(sequence), &mut alone).expect("as before");
        let found = found.slice(s![packed.offsets()[k]..packed.offsets()[k + 1], ..]);
        assert_eq!(found, expected, "{kind}, sequence {k}");
    }
}

#[test]
fn advancing_yields_the_last_logits_of_each_sequence() {
    let (_, config) = kinds().swap_remove(4);
    let model = random(&config, 1);
    let tokens = Tokens::packed(&[ids(600, 11, 1), ids(3, 11, 2), ids(500, 11, 3)]); // more than a piece
    let (mut a, mut b) = (state_after(&model, &[0; 3], 0), state_after(&model, &[0; 3], 0));
    let all = model.forward(&tokens, &mut a).expect("tokens are in the vocabulary");
    let last = model.advance(&tokens, &mut b).expect("tokens are in the vocabulary");
    assert_eq!(a, b);
    for (k, t) in [599, 602, 1102].into_iter().enumerate() {
        assert!(distance(&last.row(k).to_owned(), &all.row(t).to_owned()) < 1e-12);
    }
}

#[test]
fn a_rewound_state_forgets_what_came_after_and_a_clone_is_a_fork() {
    for (kind, config) in kinds() {
        let model = random(&config, 1);
        let mut state = state_after(&model, &[4, 9], 3);
        let (fork, snapshot) = (state.clone(), state.snapshot());
        let read = Tokens::packed(&[ids(3, 11, 5), ids(8, 11, 6)]);
        let first = model.forward(&read, &mut state).expect("tokens are in the vocabulary");
        assert_ne!(state, fork);
        state.rewind(&snapshot).expect("it is a snapshot of this state");
        assert_eq!(state, fork, "{kind}");
        assert_eq!(model.forward(&read, &mut state), Ok(first));
        let mut other = State::new(&config, 1).expect("the configuration is valid");
        assert!(matches!(other.rewind(&snapshot), Err(Error::Shape { tensor: "snapshot", .. })));
    }
}

#[test]
fn a_state_survives_as_tensors() {
    for (kind, config) in kinds() {
        let model = random(&config, 1);
        let state = state_after(&model, &[4, 0, 9], 3);
        let named = state.to_tensors();
        let find = |name: &str| named.iter().find(|(other, _)| other == name).map(|(_, of)| of.clone());
        let mut again = State::new(&config, 3).expect("the configuration is valid");
        again.assign_tensors(find).expect("all tensors are there");
        assert_eq!(again, state, "{kind}");
        let mut other = State::new(&config, 2).expect("the configuration is valid");
        let before = other.clone();
        assert!(matches!(other.assign_tensors(find), Err(Error::Shape { tensor: "state", .. })));
        assert!(matches!(other.assign_tensors(|_| None), Err(Error::Shape { tensor: "state", .. })));
        assert_eq!(other, before);
    }
}

#[test]
fn memory_of_a_state_does_not_grow_without_attention() {
    let (_, config) = kinds().swap_remove(0);
    let model = random(&config, 1);
    assert_eq!(state_after(&model, &[1], 1).bytes(), state_after(&model, &[300], 1).bytes());
}

/// The layer of equation by equation: one position after the other, one head after the other.
fn plain_model(model: &Model<Weight<f64>>, tokens: &[u32]) -> Array2<f64> {
    use semisep::mamba2::Mixer;
    let config = model.config();
    let (heads, width, states) = (config.heads(), config.head_dim, config.state_dim);
    let silu = |v: f64| v / (1.0 + (-v).exp());
    let matrix = |w: &Weight<f64>| w.to_array().into_dimensionality::<ndarray::Ix2>().expect("two axes");
    let vector = |w: &Weight<f64>| w.to_array().into_iter().collect::<Array1<f64>>();
    let rms = |x: &Array1<f64>| x / (x.mapv(|v| v * v).mean().expect("not empty") + config.epsilon).sqrt();
    let table = matrix(&model.embedding);
    let mut rows: Vec<Array1<f64>> =
        tokens.iter().map(|&token| table.row(token as usize).to_owned()).collect();
    for block in &model.blocks {
        let Mixer::Mamba2(layer) = &block.mixer else { panic!("no attention here") };
        let (a, bias, d) =
            (vector(&layer.a_log).mapv(|v| -v.exp()), vector(&layer.dt_bias), vector(&layer.d));
        let kernel = vector(&layer.conv.weight);
        let mut state = vec![vec![vec![0.0; states]; width]; heads];
        let mut past: Vec<Array1<f64>> = vec![Array1::zeros(config.conv_dim()); config.conv_width];
        for r in &mut rows {
            let u = rms(r) * vector(&block.norm);
            let mut projected = matrix(&layer.in_proj.weight).dot(&u);
            if let Some(bias) = &layer.in_proj.bias {
                projected += &vector(bias);
            }
            let (beside, d_ssm) = (config.d_mlp(), config.d_ssm);
            let (z0, rest) = projected.view().split_at(ndarray::Axis(0), beside);
            let (x0, rest) = rest.split_at(ndarray::Axis(0), beside);
            let (z, rest) = rest.split_at(ndarray::Axis(0), d_ssm);
            let (xbc, raw) = rest.split_at(ndarray::Axis(0), config.conv_dim());
            past.remove(0);
            past.push(xbc.to_owned());
            let mixed = Array1::from_shape_fn(config.conv_dim(), |c| {
                let sum: f64 =
                    past.iter().enumerate().map(|(w, x)| kernel[c * config.conv_width + w] * x[c]).sum();
                silu(sum + layer.conv.bias.as_ref().map_or(0.0, |bias| vector(bias)[c]))
            });
            let mut y = Array1::zeros(d_ssm);
            for h in 0..heads {
                let (low, high) = config.dt_limits;
                let dt = (raw[h] + bias[h]).exp().ln_1p().clamp(low, high);
                let group = h / (heads / config.groups);
                for p in 0..width {
                    let x = mixed[h * width + p];
                    for n in 0..states {
                        let b = mixed[d_ssm + group * states + n];
                        let c = mixed[d_ssm + (config.groups + group) * states + n];
                        state[h][p][n] = (dt * a[h]).exp() * state[h][p][n] + dt * b * x;
                        y[h * width + p] += c * state[h][p][n];
                    }
                    y[h * width + p] += x * if config.skip_per_channel { d[h * width + p] } else { d[h] };
                }
            }
            let by_groups = |x: Array1<f64>| {
                let size = d_ssm / config.groups;
                let parts: Vec<_> = x.exact_chunks(size).into_iter().map(|x| rms(&x.to_owned())).collect();
                ndarray::concatenate(ndarray::Axis(0), &parts.iter().map(|x| x.view()).collect::<Vec<_>>())
                    .expect("one axis")
            };
            let gates = z.mapv(silu);
            use semisep::nn::GatedNorm::{GateFirst, GateOnly, NormFirst};
            let y = match (config.gated_norm, &layer.norm) {
                (GateFirst, Some(norm)) => by_groups(y * &gates) * vector(norm),
                (NormFirst, Some(norm)) => by_groups(y) * vector(norm) * &gates,
                (GateOnly, None) => y * &gates,
                other => panic!("{other:?}"),
            };
            let beside = x0.to_owned() * z0.mapv(silu);
            let v = ndarray::concatenate(ndarray::Axis(0), &[beside.view(), y.view()]).expect("one axis");
            *r += &matrix(&layer.out_proj.weight).dot(&v);
            if let Some(bias) = &layer.out_proj.bias {
                *r += &vector(bias);
            }
        }
    }
    let head = matrix(model.head.as_ref().unwrap_or(&model.embedding));
    let mut logits = Array2::zeros((tokens.len(), head.nrows()));
    for (mut logits, r) in logits.outer_iter_mut().zip(&rows) {
        logits.assign(&head.dot(&(rms(r) * vector(&model.norm))));
    }
    logits
}

#[test]
fn the_model_is_its_equations() {
    for (kind, config) in kinds().into_iter().take(4) {
        let model = random(&config, 1);
        let tokens = ids(70, 11, 2);
        let mut state = State::new(&config, 1).expect("the configuration is valid");
        let found = model.forward(&Tokens::one(&tokens), &mut state).expect("tokens are in the vocabulary");
        assert!(distance(&found, &plain_model(&model, &tokens)) < 1e-9, "{kind}");
    }
}

#[test]
fn weights_stored_short_are_computed_with_in_full() {
    for (kind, config) in kinds() {
        let short = random(&config, 1).map(|w| w.stored_as(Storage::Bf16));
        let wide = short.map(|w| Weight::from(w.to_array()));
        let tokens = Tokens::one(&ids(40, 11, 2));
        let new = || State::new(&config, 1).expect("the configuration is valid");
        let (mut a, mut b) = (new(), new());
        let found = short.forward(&tokens, &mut a).expect("tokens are in the vocabulary");
        let expected = wide.forward(&tokens, &mut b).expect("tokens are in the vocabulary");
        assert!(distance(&found, &expected) < 1e-10, "{kind}");
    }
}

#[test]
fn published_sizes_have_exactly_their_parameters() {
    let sizes = [
        (768, 24, 128_989_632),
        (1024, 48, 368_346_624),
        (1536, 48, 780_161_280),
        (2048, 48, 1_343_757_312),
        (2560, 64, 2_702_599_680),
    ];
    for (d_model, n_layer, count) in sizes {
        let config = Config { vocab_multiple: 16, ..Config::new(d_model, n_layer, 50277) };
        assert_eq!(config.parameter_count(), Ok(count));
    }
}

#[test]
fn published_hybrids_are_accepted() {
    let attention = AttentionConfig {
        layers: vec![9, 18, 27, 36, 45, 56],
        heads: 30,
        kv_heads: 30,
        head_dim: 128,
        rotary_dim: 64,
        rotary_base: 10000.0,
        conv_width: 4,
        qkv_bias: false,
        out_bias: false,
    };
    let base = Config { vocab_multiple: 16, ..Config::new(2560, 64, 50277) };
    let hybrid = Config { attention: Some(attention.clone()), ..base.clone() };
    let (mamba, all) = (2_702_599_680u64, hybrid.parameter_count().expect("it is valid"));
    let mamba_layer = 10576 * 2560 + 5376 * 5 + 3 * 80 + 5120 + 2560 * 5120;
    let attention_layer = 11520 * 2560 + 11520 * 5 + 2560 * 3840;
    assert_eq!(all, mamba + 6 * attention_layer - 6 * mamba_layer);

    let transformer = Config {
        n_layer: 32,
        attention: Some(AttentionConfig {
            layers: (0..32).collect(),
            heads: 20,
            kv_heads: 20,
            conv_width: 0,
            rotary_dim: 128,
            ..attention
        }),
        mlp: Some(MlpConfig { layers: (0..32).collect(), width: 2560 * 8 / 3 }),
        ..base
    };
    let block = 2 * 2560 + 3 * 2560 * 2560 + 2560 * 2560 + 3 * 2560 * 6912;
    assert_eq!(transformer.parameter_count(), Ok(50288 * 2560 + 2560 + 32 * block));

    let codestral = Config { groups: 8, tie_embeddings: false, ..Config::new(4096, 64, 32768) };
    let block = 4096 + 18560 * 4096 + 10240 * 5 + 3 * 128 + 8192 + 4096 * 8192;
    assert_eq!(codestral.parameter_count(), Ok(2 * 32768 * 4096 + 4096 + 64 * block));
}

#[test]
fn impossible_configurations_are_named() {
    let base = Config::new(8, 1, 4);
    let base = Config { head_dim: 4, state_dim: 2, ..base };
    let named = |config: Config, name: &str| match config.validate() {
        Err(Error::Config { field, .. }) => assert_eq!(field, name),
        other => panic!("{other:?} instead of an error about {name}"),
    };
    assert_eq!(base.validate(), Ok(()));
    named(Config { d_model: 0, ..base.clone() }, "d_model");
    named(Config { head_dim: 3, ..base.clone() }, "head_dim");
    named(Config { groups: 3, ..base.clone() }, "groups");
    named(Config { d_ssm: 20, ..base.clone() }, "d_ssm");
    named(Config { conv_width: 0, ..base.clone() }, "conv_width");
    named(Config { expand: usize::MAX, ..base.clone() }, "expand");
    named(Config { vocab_size: usize::MAX, ..base.clone() }, "vocab_size");
    named(Config { epsilon: f64::NAN, ..base.clone() }, "epsilon");
    named(Config { dt_limits: (0.1, 0.0), ..base.clone() }, "dt_limits");
    named(Config { mlp: Some(MlpConfig { layers: vec![1], width: 4 }), ..base.clone() }, "mlp.layers");
    let attention = AttentionConfig {
        layers: vec![0],
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        rotary_dim: 2,
        rotary_base: 1e4,
        conv_width: 0,
        qkv_bias: false,
        out_bias: false,
    };
    let with = |attention| Config { attention: Some(attention), ..base.clone() };
    named(with(AttentionConfig { layers: vec![0, 0], ..attention.clone() }), "attn_layer_idx");
    named(with(AttentionConfig { kv_heads: 3, ..attention.clone() }), "attn_cfg.num_heads_kv");
    named(with(AttentionConfig { rotary_dim: 3, ..attention.clone() }), "attn_cfg.rotary_emb_dim");
    named(with(AttentionConfig { rotary_base: 0.0, ..attention }), "attn_cfg.rotary_emb_base");
}

#[test]
fn wrong_tokens_and_states_are_named_and_leave_the_state_alone() {
    let (_, config) = kinds().swap_remove(4);
    let model = random(&config, 1);
    let before = state_after(&model, &[2], 1);
    let mut state = before.clone();
    let tensor = |result: semisep::Result<Array2<f64>>| match result {
        Err(Error::Shape { tensor, .. } | Error::Value { tensor, .. }) => tensor,
        other => panic!("{other:?} instead of an error"),
    };
    assert_eq!(tensor(model.forward(&Tokens::one(&[1, 11]), &mut state)), "input_ids");
    assert_eq!(tensor(model.advance(&Tokens::one(&[]), &mut state)), "input_ids");
    assert_eq!(tensor(model.forward(&Tokens::packed(&[[1], [2]]), &mut state)), "state");
    let (_, other) = kinds().swap_remove(0);
    let mut foreign = State::new(&other, 1).expect("the configuration is valid");
    assert_eq!(tensor(model.forward(&Tokens::one(&[1]), &mut foreign)), "state");
    assert_eq!(state, before);
    let logits = model.forward(&Tokens::one(&[]), &mut state).expect("nothing is a prompt of no logits");
    assert_eq!(logits.dim(), (0, 11));
    assert_eq!(state, before);
}

#[test]
fn maps_keep_names_and_refuse_other_models() {
    let (_, config) = kinds().swap_remove(4);
    let shapes = config.shapes().expect("the configuration is valid");
    let mut names = Vec::new();
    shapes.for_each(|name, _| names.push(name.to_owned()));
    assert_eq!(names[1..3], ["backbone.layers.0.norm.weight", "backbone.layers.0.mixer.dt_bias"]);
    assert!(names.contains(&"backbone.layers.1.mixer.conv1d.bias".to_owned()));
    assert_eq!(names.last().map(String::as_str), Some("backbone.norm_f.weight"));
    let counts = shapes.zip_map(&shapes, |a, b| a.len() + b.len()).expect("the same kind");
    assert_eq!(counts.embedding, 4);
    let (_, other) = kinds().swap_remove(0);
    assert!(shapes.zip_map(&other.shapes().expect("valid"), |_, _| ()).is_err());
}
