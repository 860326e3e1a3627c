//! Small models of every kind, and tokens for them.

use semisep::mamba2::{AttentionConfig, Config, MlpConfig, Model, State, Tokens};
use semisep::nn::{GatedNorm, Weight};

/// Every choice that a configuration has, in one model or another.
pub fn kinds() -> Vec<(&'static str, Config)> {
    let small = |d_model, n_layer| Config {
        state_dim: 4,
        head_dim: 4,
        epsilon: 1e-3,
        ..Config::new(d_model, n_layer, 11)
    };
    let attention = AttentionConfig {
        layers: vec![1],
        heads: 4,
        kv_heads: 2,
        head_dim: 5,
        rotary_dim: 4,
        rotary_base: 100.0,
        conv_width: 3,
        qkv_bias: true,
        out_bias: true,
    };
    let mlp = |layers| Some(MlpConfig { layers, width: 3 });
    vec![
        ("plain", small(6, 2)),
        (
            "odd sizes, groups, untied head, biases, no bias of the convolution",
            Config {
                groups: 3,
                state_dim: 5,
                head_dim: 3,
                expand: 3,
                d_ssm: 18,
                conv_width: 3,
                conv_bias: false,
                proj_bias: true,
                tie_embeddings: false,
                vocab_multiple: 4,
                ..small(6, 2)
            },
        ),
        (
            "limits of the step, skip per channel, norm first, an MLP beside the operator",
            Config {
                dt_limits: (0.02, 0.04),
                skip_per_channel: true,
                gated_norm: GatedNorm::NormFirst,
                d_ssm: 8,
                conv_width: 2,
                ..small(6, 2)
            },
        ),
        ("no gated norm", Config { gated_norm: GatedNorm::GateOnly, ..small(4, 1) }),
        ("hybrid", Config { attention: Some(attention.clone()), mlp: mlp(vec![0, 1]), ..small(6, 3) }),
        (
            "transformer",
            Config {
                attention: Some(AttentionConfig {
                    layers: vec![0, 1],
                    kv_heads: 4,
                    rotary_dim: 0,
                    conv_width: 0,
                    qkv_bias: false,
                    out_bias: false,
                    ..attention
                }),
                mlp: mlp(vec![1]),
                ..small(6, 2)
            },
        ),
    ]
}

/// A random model whose norms, skips and biases are not all ones and zeros.
pub fn random(config: &Config, seed: u64) -> Model<Weight<f64>> {
    let mut k = seed;
    let model = Model::<Weight<f64>>::random(config, seed).expect("the configuration is valid");
    model.map(|w| {
        k += 1;
        let scale = if w.shape()[0] == config.vocab_rows() { 20.0 } else { 1.0 };
        Weight::from(w.to_array() * scale + super::noise(ndarray::IxDyn(w.shape()), k) * 0.3)
    })
}

/// Tokens that follow no pattern.
pub fn ids(count: usize, vocabulary: usize, seed: u64) -> Vec<u32> {
    super::noise(count, seed).iter().map(|v| ((v + 1.0) / 2.0 * vocabulary as f64) as u32).collect()
}

/// A state that has read something, for each of so many sequences.
pub fn state_after(model: &Model<Weight<f64>>, lengths: &[usize], seed: u64) -> State<f64> {
    let mut state = State::new(model.config(), lengths.len()).expect("the configuration is valid");
    let read: Vec<_> =
        lengths.iter().zip(seed..).map(|(&len, seed)| ids(len, model.config().vocab_size, seed)).collect();
    model.forward(&Tokens::packed(&read), &mut state).expect("tokens are in the vocabulary");
    state
}
