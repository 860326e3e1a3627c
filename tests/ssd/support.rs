//! Random cases of the SSD operator, and the operator by its definition in plain loops.
#![allow(dead_code)] // each test uses its part

use ndarray::{Array2, Array3, Array4, ArrayView, Dimension};
use proptest::prelude::*;
use semisep::ssd::{Diagonal, Output, Sequences, Ssd, States};

/// A shape of the operator and what is switched on.
#[derive(Debug, Clone)]
pub struct Shape {
    pub batch: usize,
    pub len: usize,
    pub groups: usize,
    pub heads_per_group: usize,
    pub head_dim: usize,
    pub state_dim: usize,
    /// Width of the skip: 0 for none, 1 for one a head, 2 for one a channel.
    pub skip: usize,
    /// Ascending starts of further sequences, the same in each row.
    pub cuts: Vec<usize>,
    pub per_sequence: bool,
    pub free_diagonal: bool,
    pub seed: u64,
}

/// Small shapes with everything that can be switched on or off.
pub fn shapes(max_len: usize) -> impl Strategy<Value = Shape> {
    let sizes = (1..3usize, 0..=max_len, 1..3usize, 1..6usize, 1..5usize, 1..6usize);
    let switches =
        (0..3usize, prop::collection::vec(0.0..1.0f64, 0..3), any::<bool>(), any::<bool>(), any::<u64>());
    (sizes, switches).prop_map(|(sizes, (skip, cuts, per_sequence, free_diagonal, seed))| {
        let (batch, len, groups, heads_per_group, head_dim, state_dim) = sizes;
        let mut cuts: Vec<usize> =
            cuts.iter().map(|f| (f * len as f64) as usize).filter(|&c| c > 0).collect();
        cuts.sort_unstable();
        cuts.dedup();
        Shape {
            batch,
            len,
            groups,
            heads_per_group,
            head_dim,
            state_dim,
            skip,
            cuts,
            per_sequence,
            free_diagonal,
            seed,
        }
    })
}

/// Numbers in (-1, 1) from a linear congruential generator.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64) / (1u64 << 52) as f64 - 1.0
    }
}

/// Everything the operator takes, and a cotangent of what it gives.
#[derive(Debug, Clone)]
pub struct Case {
    pub shape: Shape,
    pub log_a: Array3<f64>,
    pub dt: Array3<f64>,
    pub b: Array4<f64>,
    pub c: Array4<f64>,
    pub d: Array2<f64>,
    pub x: Array4<f64>,
    pub initial: Array4<f64>,
    pub cotangent: Output<f64>,
}

impl Case {
    pub fn new(shape: &Shape) -> Self {
        let k = shape.clone();
        let heads = k.groups * k.heads_per_group;
        let mut n = Numbers::new(k.seed);
        let states = k.batch * if k.per_sequence { k.cuts.len() + 1 } else { 1 };
        let state = (states, heads, k.head_dim, k.state_dim);
        let generator = (k.batch, k.len, k.groups, k.state_dim);
        let steps = (k.batch, k.len, heads);
        let io = (k.batch, k.len, heads, k.head_dim);
        Self {
            log_a: Array3::from_shape_fn(steps, |_| -n.draw().abs()),
            dt: Array3::from_shape_fn(steps, |_| n.draw()),
            b: Array4::from_shape_fn(generator, |_| n.draw()),
            c: Array4::from_shape_fn(generator, |_| n.draw()),
            d: Array2::from_shape_fn((heads, if k.skip == 2 { k.head_dim } else { 1 }), |_| {
                if k.skip == 0 { 0.0 } else { n.draw() }
            }),
            x: Array4::from_shape_fn(io, |_| n.draw()),
            initial: Array4::from_shape_fn(state, |_| n.draw()),
            cotangent: Output {
                y: Array4::from_shape_fn(io, |_| n.draw()),
                state: Array4::from_shape_fn(state, |_| n.draw()),
            },
            shape: k,
        }
    }

    /// As the cuts say; in a single row two at one place leave an empty sequence between them.
    pub fn sequences(&self) -> Sequences {
        let states = if self.shape.per_sequence { States::PerSequence } else { States::PerRow };
        if self.shape.batch == 1 {
            let offsets = [&[0], self.shape.cuts.as_slice(), &[self.shape.len]].concat();
            return Sequences::from_offsets(&offsets).unwrap().with_states(states);
        }
        let ids = Array2::from_shape_fn((self.shape.batch, self.shape.len), |(_, t)| {
            self.shape.cuts.iter().filter(|&&cut| cut <= t).count() as i32
        });
        Sequences::from_ids(ids.view()).unwrap().with_states(states)
    }

    pub fn matrix(&self) -> Ssd<'_, f64> {
        let m = Ssd::new(self.log_a.view(), self.dt.view(), self.b.view(), self.c.view()).unwrap();
        let m = if self.shape.skip == 0 { m } else { m.with_skip(self.d.view()).unwrap() };
        let diagonal = if self.shape.free_diagonal { Diagonal::Free } else { Diagonal::Scores };
        m.with_sequences(self.sequences()).unwrap().with_diagonal(diagonal)
    }

    /// The product by the definition: every entry of every matrix as a product of its factors.
    pub fn by_definition(&self) -> Output<f64> {
        let k = &self.shape;
        let mut y = Array4::zeros(self.x.raw_dim());
        let mut state = Array4::zeros(self.initial.raw_dim());
        let mut bounds = vec![0];
        bounds.extend(&k.cuts);
        bounds.push(k.len);
        let count = bounds.len() - 1;
        for (row, span) in (0..k.batch).flat_map(|row| (0..count).map(move |span| (row, span))) {
            let (start, end) = (bounds[span], bounds[span + 1]);
            let enters = if k.per_sequence { Some(row * count + span) } else { (span == 0).then_some(row) };
            let leaves =
                if k.per_sequence { Some(row * count + span) } else { (span + 1 == count).then_some(row) };
            for h in 0..self.log_a.dim().2 {
                let g = h / k.heads_per_group;
                let factors: Vec<f64> = (0..k.len).map(|t| self.log_a[[row, t, h]].exp()).collect();
                let decay = |to: usize, from: usize| -> f64 { factors[from..to].iter().product() };
                let skip = |p: usize| self.d[[h, if k.skip == 2 { p } else { 0 }]];
                for i in start..end {
                    let entry = |j: usize| -> f64 {
                        let score: f64 =
                            (0..k.state_dim).map(|n| self.c[[row, i, g, n]] * self.b[[row, j, g, n]]).sum();
                        if k.free_diagonal && i == j { 0.0 } else { decay(i + 1, j + 1) * score }
                    };
                    let entries: Vec<f64> = (start..=i).map(|j| entry(j) * self.dt[[row, j, h]]).collect();
                    let since = decay(i + 1, start);
                    for p in 0..k.head_dim {
                        let mut sum = skip(p) * self.x[[row, i, h, p]];
                        sum += (start..=i).map(|j| entries[j - start] * self.x[[row, j, h, p]]).sum::<f64>();
                        if let Some(e) = enters {
                            let read: f64 = (0..k.state_dim)
                                .map(|n| self.c[[row, i, g, n]] * self.initial[[e, h, p, n]])
                                .sum();
                            sum += since * read;
                        }
                        y[[row, i, h, p]] = sum;
                    }
                }
                let Some(l) = leaves else { continue };
                let weights: Vec<f64> =
                    (start..end).map(|j| decay(end, j + 1) * self.dt[[row, j, h]]).collect();
                let since = decay(end, start);
                for (p, n) in (0..k.head_dim).flat_map(|p| (0..k.state_dim).map(move |n| (p, n))) {
                    let mut sum = enters.map_or(0.0, |e| since * self.initial[[e, h, p, n]]);
                    for j in start..end {
                        sum += weights[j - start] * self.x[[row, j, h, p]] * self.b[[row, j, g, n]];
                    }
                    state[[l, h, p, n]] = sum;
                }
            }
        }
        Output { y, state }
    }

    /// ⟨y, dy⟩ + ⟨state, dstate⟩ of the product by the definition.
    pub fn loss(&self) -> f64 {
        let out = self.by_definition();
        (&out.y * &self.cotangent.y).sum() + (&out.state * &self.cotangent.state).sum()
    }
}

/// Largest difference relative to the largest number, at least 1.
pub fn distance<D: Dimension>(a: ArrayView<'_, f64, D>, b: ArrayView<'_, f64, D>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let scale = b.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    let worst = a
        .iter()
        .zip(&b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m, e| if e > m || e.is_nan() { e } else { m });
    worst / scale
}
