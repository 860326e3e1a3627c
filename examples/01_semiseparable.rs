//! Lesson 1: a semiseparable matrix and its ranks.
//!
//! A recurrence with a state of N numbers is a lower triangular matrix whose blocks below the diagonal have rank at most
//! N (paper, definition 3.1 and lemma 3.3). That is all the structure there is, and it is enough for O(len N) products.
//!
//! `cargo run --example 01_semiseparable`

use ndarray::{Array1, Array2, ArrayView2, s};
use semisep::matrix::{
    FilterForm, MainDiagonal, OneSemiseparable, StructuredMatrix, Transition, maximal_block_ranks,
};

const LEN: usize = 8;
const ORDER: usize = 2;

fn main() -> semisep::Result<()> {
    println!("1. The simplest one: the recurrence y_t = a_t y_{{t-1}} + x_t (equation 7) with a_t = 1/2.");
    println!("   Its matrix holds the products a_i ... a_{{j+1}} (equation 6):\n");
    let l = OneSemiseparable::new(Array1::from_elem(LEN, 0.5))?;
    print(l.to_dense().view());
    let x = Array2::from_shape_fn((LEN, 1), |(t, _)| if t == 0 { 1.0 } else { 0.0 });
    println!("\n   Its first column is what the recurrence answers to 1, 0, 0, ...:\n");
    print(l.matmul(x.view())?.t());

    println!(
        "\n2. A state of {ORDER} numbers with its own decay each, by the generators A, B, C (definition 3.2):"
    );
    println!("   h_t = A_t h_{{t-1}} + B_t x_t,  y_t = C_t . h_t  (equation 2), so that");
    println!("   M_ij = C_i . A_i ... A_{{j+1}} B_j (equation 3).\n");
    let wave = |t: usize, n: usize| (1.3 * t as f64 + 2.1 * n as f64).sin();
    let a = Array2::from_shape_fn((LEN, ORDER), |(_, n)| if n == 0 { 0.9 } else { -0.4 });
    let b = Array2::from_shape_fn((LEN, ORDER), |(t, n)| wave(t, n));
    let c = Array2::from_shape_fn((LEN, ORDER), |(t, n)| wave(t + 5, n));
    let m = FilterForm::uniform(Transition::diagonal(a), b, c)?;
    let dense = m.to_dense();
    print(dense.view());

    println!(
        "\n   {} entries, from {} generators. The ranks of the blocks M[k.., ..=k], for every k:",
        LEN * LEN,
        { 3 * LEN * ORDER }
    );
    println!("   {:?}: never more than {ORDER}.", m.ranks(1e-12)?);

    println!("\n3. A triangular matrix without this structure, M_ij = sin(1 + 1.7 i j), for comparison:");
    let other = |i: usize, j: usize| if i >= j { (1.0 + 1.7 * (i * j) as f64).sin() } else { 0.0 };
    let other = Array2::from_shape_fn((LEN, LEN), |(i, j)| other(i, j));
    println!("   {:?}", maximal_block_ranks(other.view(), MainDiagonal::Included, 1e-12)?);

    println!("\n4. Why the rank is low: whatever rows 5.. know of columns ..4 has passed through one state.");
    println!("   The block is left (C) times centre (A) times right (B) factor (equation 5):\n");
    let block = m.factored_block(5..LEN, 0..4)?;
    println!("   left, (rows, order):");
    print(block.left.view());
    println!("   centre, (order, order): the decays between column 3 and row 5");
    print(block.centre.view());
    println!("   right, (order, columns):");
    print(block.right.view());
    let error =
        (&block.to_dense() - &dense.slice(s![5.., ..4])).mapv(f64::abs).fold(0.0, |m, &e| f64::max(m, e));
    println!("   Their product is the block up to {error:.1e}.");

    println!(
        "\n5. The inverse of the first matrix has two diagonals: x_t = y_t - a_t y_{{t-1}} (remark 11).\n"
    );
    print(l.inverse().to_dense().view());
    Ok(())
}

fn print(m: ArrayView2<'_, f64>) {
    for row in m.outer_iter() {
        let cells: Vec<_> =
            row.iter().map(|&v| if v == 0.0 { "     .".into() } else { format!("{v:6.2}") }).collect();
        println!("   {}", cells.join(" "));
    }
}
