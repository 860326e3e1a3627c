//! Lesson 2: the duality. One matrix, three algorithms.
//!
//! The matrix M = L ∘ C Bᵀ is masked attention with queries C, keys B and values X (paper, equation 16), and it is a
//! state space model h_t = a_t h_{t-1} + b_t x_t (equation 2). The algorithms differ in cost and never in the answer.
//!
//! `cargo run --example 02_duality`

use std::time::Instant;

use ndarray::{Array3, Array4, ArrayView4, s};
use semisep::ssd::{Algorithm, Ssd};

const HEADS: usize = 4;
const HEAD_DIM: usize = 32;
const STATE_DIM: usize = 32;

struct Problem {
    log_a: Array3<f64>, // (batch, len, heads)
    dt: Array3<f64>,    // (batch, len, heads)
    b: Array4<f64>,     // (batch, len, groups, state_dim)
    c: Array4<f64>,     // (batch, len, groups, state_dim)
    x: Array4<f64>,     // (batch, len, heads, head_dim)
}

impl Problem {
    fn new(len: usize) -> Self {
        let wave = |t: usize, n: usize, shift: f64| ((t as f64).sqrt() * (1.0 + n as f64) + shift).sin();
        let dt = Array3::from_shape_fn((1, len, HEADS), |(_, t, h)| 0.1 + 0.05 * wave(t, h, 0.3));
        Self {
            log_a: dt.mapv(|dt| -dt), // log a = A dt with A = -1
            dt,
            b: Array4::from_shape_fn((1, len, 1, STATE_DIM), |(_, t, _, n)| wave(t, n, 0.0)),
            c: Array4::from_shape_fn((1, len, 1, STATE_DIM), |(_, t, _, n)| wave(t, n, 1.0)),
            x: Array4::from_shape_fn((1, len, HEADS, HEAD_DIM), |(_, t, h, p)| wave(t, h + p, 2.0)),
        }
    }

    fn matrix(&self) -> semisep::Result<Ssd<'_, f64>> {
        Ssd::new(self.log_a.view(), self.dt.view(), self.b.view(), self.c.view())
    }
}

fn main() -> semisep::Result<()> {
    println!("{HEADS} heads, head_dim {HEAD_DIM}, state_dim {STATE_DIM}, f64. Times in milliseconds.\n");
    println!("{:>6} {:>10} {:>10} {:>10}   largest difference", "len", "quadratic", "recurrent", "chunked");
    for len in [16, 64, 256, 1024] {
        let problem = Problem::new(len);
        let m = problem.matrix()?;
        let mut outputs = Vec::new();
        let mut times = Vec::new();
        for how in [Algorithm::Quadratic, Algorithm::Recurrent, Algorithm::Chunked { chunk: 64 }] {
            m.matmul(problem.x.view(), None, how)?; // once to warm up
            let start = Instant::now();
            outputs.push(m.matmul(problem.x.view(), None, how)?.y);
            times.push(1e3 * start.elapsed().as_secs_f64());
        }
        let off = distance(outputs[1].view(), outputs[0].view())
            .max(distance(outputs[2].view(), outputs[0].view()));
        println!("{len:>6} {:>10.2} {:>10.2} {:>10.2}   {off:.1e}", times[0], times[1], times[2]);
    }
    println!(
        "\nFour times the length is sixteen times the work for the quadratic form, four times for the other two."
    );

    println!(
        "\nA sequence may be cut anywhere if the state is handed on. One thousand positions at once, and then"
    );
    println!("700 by the block decomposition (reading a prompt) and 300 one by one (writing an answer):");
    let problem = Problem::new(1000);
    let whole = problem.matrix()?.matmul(problem.x.view(), None, Algorithm::default())?;
    let part = |from: usize, to: usize, state: Option<ArrayView4<'_, f64>>| {
        let (log_a, dt) = (problem.log_a.slice(s![.., from..to, ..]), problem.dt.slice(s![.., from..to, ..]));
        let (b, c) = (problem.b.slice(s![.., from..to, .., ..]), problem.c.slice(s![.., from..to, .., ..]));
        Ssd::new(log_a, dt, b, c)?.matmul(
            problem.x.slice(s![.., from..to, .., ..]),
            state,
            Algorithm::default(),
        )
    };
    let prompt = part(0, 700, None)?;
    let mut off = distance(prompt.y.view(), whole.y.slice(s![.., ..700, .., ..]));
    let mut state = prompt.state;
    for t in 700..1000 {
        let token = part(t, t + 1, Some(state.view()))?;
        off = off.max(distance(token.y.view(), whole.y.slice(s![.., t..t + 1, .., ..])));
        state = token.state;
    }
    println!("largest difference of the outputs {off:.1e}, of the final states {:.1e}", {
        distance(state.view(), whole.state.view())
    });
    Ok(())
}

fn distance(a: ArrayView4<'_, f64>, b: ArrayView4<'_, f64>) -> f64 {
    a.iter().zip(b).fold(0.0, |m, (a, b)| m.max((a - b).abs()))
}
