//! Lesson 6: a Mamba-2 layer by hand.
//!
//! The layer is seven lines around the operator of lesson 2; here they are, one by one, beside `Layer::forward`.
//!
//! `cargo run --example 06_layer`

use ndarray::{Array2, Array3, Array4, ArrayView2, s};
use semisep::mamba2::{Config, Memory, Mixer, Model, State};
use semisep::nn::{Weight, causal_conv1d, gated_rms_norm, linear, silu};
use semisep::ssd::{Algorithm, Discretization, Sequences, Squash, Ssd, States};

fn main() -> semisep::Result<()> {
    let config = Config { state_dim: 8, head_dim: 4, ..Config::new(8, 1, 16) };
    let model = Model::<Weight<f64>>::random(&config, 6)?;
    let Mixer::Mamba2(layer) = &model.blocks[0].mixer else { return Ok(()) };
    let (len, heads, groups) = (12, config.heads(), config.groups);
    let one = Sequences::from_offsets(&[0, len])?.with_states(States::PerSequence);
    let u = Array2::from_shape_fn((len, config.d_model), |(t, i)| ((t * 3 + i) as f64).sin());
    println!(
        "d_model {}, heads {heads}, head_dim {}, state_dim {}",
        config.d_model, config.head_dim, config.state_dim
    );

    // 1. One projection holds everything: the gate z, then x, B and C, then a raw step for each head.
    let projected = linear(u.view(), &layer.in_proj)?;
    let z = projected.slice(s![.., ..config.d_ssm]);
    let xbc = projected.slice(s![.., config.d_ssm..config.d_ssm + config.conv_dim()]);
    let raw = projected.slice(s![.., config.d_ssm + config.conv_dim()..]);
    show("1. projection", projected.view());

    // 2. x, B and C look a few positions back, and pass an activation.
    let mut mixed = Array2::zeros(xbc.raw_dim());
    let mut window = Array3::zeros((1, config.conv_width - 1, config.conv_dim()));
    causal_conv1d(xbc, &layer.conv, &one, window.view_mut(), mixed.view_mut())?;
    silu(mixed.view_mut());
    show("2. convolution, SiLU", mixed.view());

    // 3. The axes of the operator.
    let part = |from: usize, heads: usize, width: usize| {
        Array4::from_shape_fn((1, len, heads, width), |(_, t, h, i)| mixed[[t, from + h * width + i]])
    };
    let shared = groups * config.state_dim;
    let x = part(0, heads, config.head_dim);
    let (b, c) =
        (part(config.d_ssm, groups, config.state_dim), part(config.d_ssm + shared, groups, config.state_dim));
    println!("3. x: {:?}, B and C: {:?} (batch, len, heads or groups, width)", x.shape(), b.shape());

    // 4. Raw steps become steps and decays.
    let a = layer.a_log.to_array().mapv(|v| -v.exp()).flatten().to_owned();
    let bias = layer.dt_bias.to_array().flatten().to_owned();
    let rule = Discretization::new(a.view()).bias(bias.view())?.squash(Squash::Softplus);
    let (dt, log_a) = rule.apply(raw.to_owned().insert_axis(ndarray::Axis(0)).view())?;
    println!("4. steps of head 0: {:.3}", dt.slice(s![0, ..4, 0]));

    // 5. The operator: y = M x, with the skip D on the diagonal.
    let d = layer.d.to_array().flatten().to_owned().insert_axis(ndarray::Axis(1));
    let m = Ssd::new(log_a.view(), dt.view(), b.view(), c.view())?.with_skip(d.view())?;
    let out = m.matmul(x.view(), None, Algorithm::Automatic)?;
    println!("5. final state: {:?} (heads, head_dim, state_dim)", &out.state.shape()[1..]);

    // 6. Gate and norm, over all heads at once.
    let y = Array2::from_shape_fn((len, config.d_ssm), |(t, k)| {
        out.y[[0, t, k / config.head_dim, k % config.head_dim]]
    });
    let mut normed = Array2::zeros(y.raw_dim());
    let how = (config.gated_norm, groups, config.epsilon);
    gated_rms_norm(y.view(), z, layer.norm.as_ref(), how, normed.view_mut())?;
    show("6. gate and norm", normed.view());

    // 7. And back to the width of the stream.
    let by_hand = linear(normed.view(), &layer.out_proj)?;
    show("7. projection", by_hand.view());

    let mut memory = State::new(&config, 1)?.memories.swap_remove(0);
    let layers_own = layer.forward(&config, u.view(), &one, &mut memory)?;
    let worst = (&by_hand - &layers_own).iter().fold(0f64, |worst, e| worst.max(e.abs()));
    println!("\nLayer::forward does the same: largest difference {worst:.1e}");
    if let Memory::Mamba2 { conv, ssm } = &memory {
        println!(
            "and leaves a window {:?} and a state {:?} for the next position",
            conv.shape(),
            ssm.shape()
        );
    }
    Ok(())
}

fn show(name: &str, of: ArrayView2<'_, f64>) {
    println!("{name}: {:?}, position 0 begins {:.3}", of.shape(), of.slice(s![0, ..4]));
}
