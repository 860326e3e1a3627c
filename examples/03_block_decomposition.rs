//! Lesson 3: the block decomposition, step by step (paper, section 6).
//!
//! Two chunks of four positions, one head, head_dim 1, state_dim 2. Every block is printed, every stage is computed
//! here by hand, and the result is compared with the crate's own chunked algorithm.
//!
//! `cargo run --example 03_block_decomposition`

use ndarray::{Array1, Array2, Array3, Array4, ArrayView2, Axis, concatenate, s};
use semisep::matrix::attention::Order;
use semisep::matrix::{FilterForm, MaskedAttention, OneSemiseparable, StructuredMatrix, Transition};
use semisep::ssd::{Algorithm, Ssd};

const LEN: usize = 8;
const CHUNK: usize = 4;
const STATE_DIM: usize = 2;

fn main() -> semisep::Result<()> {
    let a = Array1::from_shape_fn(LEN, |t| [0.9, 0.5, 0.8, 0.7][t % 4]);
    let b = Array2::from_shape_fn((LEN, STATE_DIM), |(t, n)| (0.7 * t as f64 + n as f64).sin());
    let c = Array2::from_shape_fn((LEN, STATE_DIM), |(t, n)| (0.4 * t as f64 - n as f64).cos());
    let x = Array2::from_shape_fn((LEN, 1), |(t, _)| 1.0 - 0.2 * t as f64);

    let m = FilterForm::uniform(Transition::Scalar(a.clone()), b.clone(), c.clone())?;
    println!("The matrix M = L ∘ C Bᵀ, M_ij = a_i ... a_{{j+1}} (C_i . B_j), in {CHUNK} x {CHUNK} blocks:\n");
    print(m.to_dense().view());

    let mut h = Array2::<f64>::zeros((STATE_DIM, 1)); // the state that enters the chunk
    let mut outputs = Vec::new();
    for (index, start) in (0..LEN).step_by(CHUNK).enumerate() {
        let end = start + CHUNK;
        let (a, b, c) = (a.slice(s![start..end]), b.slice(s![start..end, ..]), c.slice(s![start..end, ..]));
        let x = x.slice(s![start..end, ..]);
        println!("\nChunk {index}: positions {start} to {}", end - 1);

        println!(
            "\n  1. Decays from its start g_t = a_t ... a_start, to its end w_t = a_last ... a_{{t+1}}, through it:"
        );
        let mut g = a.to_owned();
        g.accumulate_axis_inplace(Axis(0), |&before, g| *g *= before);
        let mut w = Array1::<f64>::ones(CHUNK);
        for t in (0..CHUNK - 1).rev() {
            w[t] = a[t + 1] * w[t + 1];
        }
        let through = g[CHUNK - 1];
        println!("     g = {g:.3}\n     w = {w:.3}\n     through = {through:.3}");

        println!("\n  2. Diagonal block, input to output: attention within the chunk, (L ∘ C Bᵀ) X");
        let mask = OneSemiseparable::new(a.to_owned())?;
        let attention = MaskedAttention::new(&mask, c, b)?;
        let mut y = attention.multiply(x, Order::Quadratic)?;
        print(attention.to_dense().view());

        println!("\n  3. Chunk state, input to state, by the right factor Bᵀ diag(w), (state_dim, chunk):");
        let right = &b.t() * &w;
        let left_behind = right.dot(&x);
        print(right.view());
        println!("     What the chunk leaves behind: {:.3}", left_behind.column(0));

        println!("\n  4. State output, state to output, by the left factor diag(g) C, (chunk, state_dim):");
        let left = &c * &g.view().insert_axis(Axis(1));
        y += &left.dot(&h);
        print(left.view());
        println!("     applied to the state that enters: {:.3}", h.column(0));

        println!(
            "\n  5. State passing, state to state, by the centre factor: H = through H + what is left behind"
        );
        h = through * &h + &left_behind;
        println!("     The state that leaves: {:.3}", h.column(0));
        outputs.push(y);
    }

    println!(
        "\nThe block below the diagonal has rank {STATE_DIM} (equation 5). With the factors of the steps above:"
    );
    println!("left factor of chunk 1 times right factor of chunk 0, no whole chunk in between:\n");
    let block = m.factored_block(CHUNK..LEN, 0..CHUNK)?;
    print(block.to_dense().view());

    let y = concatenate(Axis(0), &[outputs[0].view(), outputs[1].view()]).expect("one column each");
    let log_a = Array3::from_shape_fn((1, LEN, 1), |(_, t, _)| a[t].ln());
    let raise = |v: &Array2<f64>| Array4::from_shape_fn((1, LEN, 1, v.ncols()), |(_, t, _, n)| v[[t, n]]);
    let (b, c, x) = (raise(&b), raise(&c), raise(&x));
    let ssd = Ssd::with_unit_steps(log_a.view(), b.view(), c.view())?;
    let out = ssd.matmul(x.view(), None, Algorithm::Chunked { chunk: CHUNK })?;
    println!("\n  t   by hand   chunked");
    for t in 0..LEN {
        println!("  {t}  {:8.4}  {:8.4}", y[[t, 0]], out.y[[0, t, 0, 0]]);
    }
    println!(
        "\nWork for one head: every stage but the fifth is a product of dense blocks, and its cost does not grow"
    );
    println!(
        "with len: len/chunk blocks, each chunk x chunk x (state_dim + head_dim) and chunk x state_dim x head_dim."
    );
    Ok(())
}

fn print(m: ArrayView2<'_, f64>) {
    for (i, row) in m.outer_iter().enumerate() {
        let mut line = String::from("     ");
        for (j, v) in row.iter().enumerate() {
            line += if j > 0 && j % CHUNK == 0 { " |" } else { "" };
            line += &if *v == 0.0 { "      .".to_owned() } else { format!(" {v:6.2}") };
        }
        if i > 0 && i % CHUNK == 0 {
            println!("     {}", "-".repeat(line.len() - 5));
        }
        println!("{line}");
    }
}
