//! Regrouping a semiseparable matrix is the block decomposition of the SSD operator.

use crate::support::{Random, assert_close};
use ndarray::{Array1, Array2, Array3, Array4, ArrayView2, Axis, s};
use semisep::matrix::{FilterForm, OneSemiseparable, Partition, Sss, StructuredMatrix, Transition};
use semisep::ssd::{Algorithm, Ssd};

const LEN: usize = 23;
const CHUNK: usize = 5;
const ORDER: usize = 3;

/// Decays, B and C of one head.
struct Head {
    a: Array1<f64>,
    b: Array2<f64>,
    c: Array2<f64>,
}

impl Head {
    fn new() -> Self {
        let mut random = Random::new(17);
        let a = Array1::from_shape_simple_fn(LEN, || 0.75 + 0.2 * random.number());
        Self { a, b: random.matrix(LEN, ORDER), c: random.matrix(LEN, ORDER) }
    }

    /// Output and last state of the operator on some positions, from a state (order, columns).
    fn run(
        &self,
        rows: std::ops::Range<usize>,
        x: ArrayView2<'_, f64>,
        state: ArrayView2<'_, f64>,
    ) -> [Array2<f64>; 2] {
        let log_a = Array3::from_shape_fn((1, rows.len(), 1), |(_, t, _)| self.a[rows.start + t].ln());
        let raise = |m: ArrayView2<'_, f64>| {
            Array4::from_shape_fn((1, m.nrows(), 1, m.ncols()), |(_, t, _, n)| m[[t, n]])
        };
        let (b, c) = (raise(self.b.slice(s![rows.clone(), ..])), raise(self.c.slice(s![rows, ..])));
        let initial = state.t().insert_axis(Axis(0)).insert_axis(Axis(0)); // (1, 1, head_dim, state_dim)
        let ssd = Ssd::with_unit_steps(log_a.view(), b.view(), c.view()).unwrap();
        let out = ssd.matmul(raise(x).view(), Some(initial), Algorithm::Quadratic).unwrap();
        let y = out.y.index_axis(Axis(0), 0).index_axis(Axis(1), 0).to_owned();
        [y, out.state.index_axis(Axis(0), 0).index_axis(Axis(0), 0).t().to_owned()]
    }
}

#[test]
fn regrouped_blocks_are_the_stages_of_the_chunked_algorithm() {
    let head = Head::new();
    let filter =
        FilterForm::uniform(Transition::Scalar(head.a.clone()), head.b.clone(), head.c.clone()).unwrap();
    let blocks = filter.predictor().regroup(&Partition::Equal(CHUNK)).unwrap();
    assert_eq!(blocks.transition().kind(), "scalar");
    for (chunk, start) in (0..LEN).step_by(CHUNK).enumerate() {
        let rows = start..(start + CHUNK).min(LEN);
        let size = rows.len();
        let (unit, no_input) = (Array2::<f64>::eye(size), Array2::<f64>::zeros((size, ORDER)));
        let (no_state, states) = (Array2::<f64>::zeros((ORDER, size)), Array2::<f64>::eye(ORDER));
        // From inputs alone: attention within the chunk, and what the chunk leaves behind.
        let [diagonal, right] = head.run(rows.clone(), unit.view(), no_state.view());
        assert_close(blocks.d(chunk).iter(), &diagonal, 1e-13);
        assert_close(blocks.b(chunk).iter(), &right, 1e-13);
        // From the state alone: its share of the outputs, and how it passes the chunk.
        let [left, centre] = head.run(rows, no_input.view(), states.view());
        assert_close(blocks.c(chunk).iter(), &left, 1e-13);
        assert_close(&blocks.a(chunk), &centre, 1e-13);
    }
}

#[test]
fn entrywise_product_with_a_scan_is_masked_attention() {
    let head = Head::new();
    // C Bᵀ below and on the diagonal, of order ORDER; the mask of order 1.
    let scores = Sss::from_low_rank(head.c.view(), head.b.view()).unwrap();
    let mask = OneSemiseparable::new(head.a.clone()).unwrap();
    let m = scores.hadamard(&Sss::from(&mask)).unwrap();
    assert_eq!(m.order_at(1), ORDER);
    assert_eq!(m.transition().kind(), "scalar");
    let filter = FilterForm::uniform(Transition::Scalar(head.a.clone()), head.b.clone(), head.c.clone());
    assert_close(&m.to_dense(), &filter.unwrap().to_dense(), 1e-13);
    let x = Random::new(3).matrix(LEN, 2);
    let zero = Array2::zeros((ORDER, 2));
    assert_close(&m.matmul(x.view()).unwrap(), &head.run(0..LEN, x.view(), zero.view())[0], 1e-13);
}
