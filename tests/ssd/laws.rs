//! Laws of the SSD operator: what may be cut, packed, strided, threaded or stored otherwise without a change.

use crate::support::{Case, Shape, distance, shapes};
use half::{bf16, f16};
use ndarray::{Array, Array2, Array4, Axis, Dimension, concatenate, s};
use proptest::prelude::*;
use semisep::Scalar;
use semisep::ssd::{Algorithm, Bidirectional, Diagonal, Grad, Kept, Output, Sequences, Ssd, States};

fn algorithms(chunk: usize) -> [Algorithm; 4] {
    [Algorithm::Quadratic, Algorithm::Recurrent, Algorithm::Chunked { chunk }, Algorithm::Automatic]
}

/// A case of one sequence a row.
fn unpacked(mut shape: Shape) -> Case {
    shape.cuts.clear();
    shape.per_sequence = false;
    Case::new(&shape)
}

/// The positions `from..to` of every row of a case.
fn part(case: &Case, from: usize, to: usize) -> Case {
    let mut part = case.clone();
    part.shape.len = to - from;
    part.log_a = case.log_a.slice(s![.., from..to, ..]).to_owned();
    part.dt = case.dt.slice(s![.., from..to, ..]).to_owned();
    part.b = case.b.slice(s![.., from..to, .., ..]).to_owned();
    part.c = case.c.slice(s![.., from..to, .., ..]).to_owned();
    part.x = case.x.slice(s![.., from..to, .., ..]).to_owned();
    part.cotangent.y = case.cotangent.y.slice(s![.., from..to, .., ..]).to_owned();
    part
}

fn product(case: &Case, how: Algorithm) -> Output<f64> {
    case.matrix().matmul(case.x.view(), Some(case.initial.view()), how).unwrap()
}

fn gradient(case: &Case, how: Algorithm) -> Grad<f64> {
    case.matrix().vjp(case.x.view(), Some(case.initial.view()), how, &case.cotangent).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_sequence_cut_anywhere_gives_the_whole_if_the_state_is_carried(
        shape in shapes(40), at in 0.0..1.0f64, chunk in 1..20usize,
    ) {
        let case = unpacked(shape);
        let at = (at * (case.shape.len + 1) as f64) as usize;
        for how in algorithms(chunk) {
            let whole = product(&case, how);
            let first = product(&part(&case, 0, at), how);
            let mut rest = part(&case, at, case.shape.len);
            rest.initial = first.state;
            let second = product(&rest, how);
            let joined = concatenate(Axis(1), &[first.y.view(), second.y.view()]).unwrap();
            prop_assert!(distance(joined.view(), whole.y.view()) < 1e-13, "{how:?}: y");
            prop_assert!(distance(second.state.view(), whole.state.view()) < 1e-13, "{how:?}: state");
        }
    }

    #[test]
    fn decoding_token_by_token_in_place_gives_the_whole(shape in shapes(20)) {
        let case = unpacked(shape);
        let whole = product(&case, Algorithm::Quadratic);
        let mut state = case.initial.clone();
        for t in 0..case.shape.len {
            let token = part(&case, t, t + 1);
            let mut y = Array4::zeros(token.x.raw_dim());
            let m = token.matrix();
            m.matmul_into(token.x.view(), state.view_mut(), y.view_mut(), Algorithm::Automatic).unwrap();
            prop_assert!(distance(y.view(), whole.y.slice(s![.., t..t + 1, .., ..])) < 1e-13);
        }
        prop_assert!(distance(state.view(), whole.state.view()) < 1e-13);
    }

    #[test]
    fn packed_sequences_give_the_bits_of_separate_ones(shape in shapes(30), chunk in 1..12usize) {
        let mut shape = shape;
        shape.per_sequence = true;
        let case = Case::new(&shape);
        let mut bounds = vec![0];
        bounds.extend(&shape.cuts);
        bounds.push(shape.len);
        let count = bounds.len() - 1;
        for how in algorithms(chunk) {
            let (packed, packed_grad) = (product(&case, how), gradient(&case, how));
            for (k, span) in bounds.windows(2).enumerate() {
                let mut one = part(&case, span[0], span[1]);
                one.shape.cuts.clear();
                let own = |states: &Array4<f64>| {
                    let rows: Vec<usize> = (0..shape.batch).map(|row| row * count + k).collect();
                    states.select(Axis(0), &rows)
                };
                one.initial = own(&case.initial);
                one.cotangent.state = own(&case.cotangent.state);
                let (separate, grad) = (product(&one, how), gradient(&one, how));
                prop_assert_eq!(packed.y.slice(s![.., span[0]..span[1], .., ..]), &separate.y);
                prop_assert_eq!(own(&packed.state), separate.state);
                prop_assert_eq!(packed_grad.log_a.slice(s![.., span[0]..span[1], ..]), &grad.log_a);
                prop_assert_eq!(packed_grad.dt.slice(s![.., span[0]..span[1], ..]), &grad.dt);
                prop_assert_eq!(packed_grad.b.slice(s![.., span[0]..span[1], .., ..]), &grad.b);
                prop_assert_eq!(packed_grad.c.slice(s![.., span[0]..span[1], .., ..]), &grad.c);
                prop_assert_eq!(packed_grad.x.slice(s![.., span[0]..span[1], .., ..]), &grad.x);
                prop_assert_eq!(own(&packed_grad.state), grad.state);
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit(shape in shapes(40), chunk in 1..12usize) {
        let case = Case::new(&shape);
        let [one, two, many] =
            [1, 2, 64].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
        for how in algorithms(chunk) {
            let on = |pool: &rayon::ThreadPool| pool.install(|| (product(&case, how), gradient(&case, how)));
            let expected = on(&one);
            prop_assert!(expected == on(&two), "{how:?} on two threads");
            prop_assert!(expected == on(&many), "{how:?} on more threads than heads");
        }
    }

    #[test]
    fn a_gradient_from_kept_states_has_the_bits_of_one_without(shape in shapes(40), chunk in 1..12usize) {
        let case = Case::new(&shape);
        for how in algorithms(chunk) {
            let m = case.matrix();
            let (whole, expected) = (product(&case, how), gradient(&case, how));
            let (mut y, mut kept) = (Array4::zeros(case.x.raw_dim()), Kept::new(how));
            let mut grad = expected.clone();
            for _ in 0..2 { // the second time into used memory
                let mut state = case.initial.clone();
                m.matmul_keeping(case.x.view(), state.view_mut(), y.view_mut(), &mut kept).unwrap();
                prop_assert!(y == whole.y && state == whole.state, "{how:?}: product");
                grad.x.fill(7.0);
                grad.dt.fill(7.0);
                m.vjp_into(case.x.view(), Some(case.initial.view()), &kept, &case.cotangent, &mut grad).unwrap();
                prop_assert!(grad == expected, "{how:?}: gradient");
            }
        }
    }

    #[test]
    fn strided_inputs_give_the_bits_of_contiguous_ones(shape in shapes(20), chunk in 1..12usize) {
        let case = Case::new(&shape);
        let mut strided = case.clone();
        strided.log_a = fortran(&case.log_a);
        strided.dt = fortran(&case.dt);
        strided.b = fortran(&case.b);
        strided.c = fortran(&case.c);
        strided.d = fortran(&case.d);
        strided.x = fortran(&case.x);
        strided.initial = fortran(&case.initial);
        strided.cotangent.y = fortran(&case.cotangent.y);
        strided.cotangent.state = fortran(&case.cotangent.state);
        for how in algorithms(chunk) {
            let (a, b) = (product(&case, how), product(&strided, how));
            prop_assert!(distance(a.y.view(), b.y.view()) < 1e-14, "{how:?}: y");
            prop_assert!(distance(a.state.view(), b.state.view()) < 1e-14, "{how:?}: state");
            let (a, b) = (gradient(&case, how), gradient(&strided, how));
            prop_assert!(distance(a.x.view(), b.x.view()) < 1e-14, "{how:?}: dx");
            prop_assert!(distance(a.b.view(), b.b.view()) < 1e-14, "{how:?}: db");
            prop_assert!(distance(a.state.view(), b.state.view()) < 1e-14, "{how:?}: dstate");
            let mut state = strided.initial.clone();
            let mut y = fortran(&Array4::zeros(case.x.raw_dim()));
            strided.matrix().matmul_into(strided.x.view(), state.view_mut(), y.view_mut(), how).unwrap();
            prop_assert!(distance(y.view(), product(&case, how).y.view()) < 1e-14, "{how:?}: y, state in place");
            prop_assert!(distance(state.view(), product(&case, how).state.view()) < 1e-14, "{how:?}: state in place");
        }
    }

    #[test]
    fn every_storage_type_is_as_exact_as_it_can_be(shape in shapes(40), chunk in 1..50usize) {
        let case = Case::new(&shape);
        for how in algorithms(chunk) {
            stored_as::<f32>(&case, how, 2e-6)?;
            stored_as::<f16>(&case, how, 4e-3)?;
            stored_as::<bf16>(&case, how, 3e-2)?;
        }
    }
}

/// The same numbers in column-major order.
fn fortran<D: Dimension>(a: &Array<f64, D>) -> Array<f64, D> {
    let mut out = Array::zeros(ndarray::ShapeBuilder::f(a.raw_dim()));
    out.assign(a);
    out
}

/// Product and gradient in storage type `T`, against the definition on the rounded inputs.
fn stored_as<T: Scalar<Acc = f32>>(case: &Case, how: Algorithm, tolerance: f64) -> Result<(), TestCaseError> {
    let low = |v: &f64| T::narrow(*v as f32);
    let (b, c, x) = (case.b.map(low), case.c.map(low), case.x.map(low));
    let acc = |v: &f64| *v as f32;
    let (log_a, dt, d, initial) =
        (case.log_a.map(acc), case.dt.map(acc), case.d.map(acc), case.initial.map(acc));
    let diagonal = if case.shape.free_diagonal { Diagonal::Free } else { Diagonal::Scores };
    let m = Ssd::new(log_a.view(), dt.view(), b.view(), c.view()).unwrap();
    let m = if case.shape.skip == 0 { m } else { m.with_skip(d.view()).unwrap() };
    let m = m.with_sequences(case.sequences()).unwrap().with_diagonal(diagonal);
    let out = m.matmul(x.view(), Some(initial.view()), how).unwrap();

    let mut rounded = case.clone();
    let wide = |v: &T| f64::from(v.widen());
    (rounded.b, rounded.c, rounded.x) = (b.map(wide), c.map(wide), x.map(wide));
    let exact = rounded.by_definition();
    prop_assert!(distance(out.y.map(wide).view(), exact.y.view()) < tolerance, "{} {how:?}: y", T::NAME);
    let state = out.state.mapv(f64::from);
    prop_assert!(distance(state.view(), exact.state.view()) < 2e-6, "{} {how:?}: state", T::NAME);

    let cotangent = Output { y: case.cotangent.y.map(low), state: case.cotangent.state.map(acc) };
    rounded.cotangent.y = cotangent.y.map(wide);
    let grad = m.vjp(x.view(), Some(initial.view()), how, &cotangent).unwrap();
    let exact = gradient(&rounded, Algorithm::Quadratic);
    prop_assert!(distance(grad.x.map(wide).view(), exact.x.view()) < tolerance, "{} {how:?}: dx", T::NAME);
    prop_assert!(distance(grad.b.map(wide).view(), exact.b.view()) < tolerance, "{} {how:?}: db", T::NAME);
    prop_assert!(distance(grad.c.map(wide).view(), exact.c.view()) < tolerance, "{} {how:?}: dc", T::NAME);
    let log_a = grad.log_a.mapv(f64::from);
    prop_assert!(distance(log_a.view(), exact.log_a.view()) < 1e-5, "{} {how:?}: dlog_a", T::NAME);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_two_sided_product_is_its_dense_matrix(shape in shapes(16), chunk in 1..12usize, seed in any::<u64>()) {
        let mut shape = shape;
        (shape.free_diagonal, shape.skip, shape.per_sequence) = (true, 0, false);
        let lower = Case::new(&shape);
        let upper = Case::new(&Shape { seed, ..shape.clone() });
        let d = Array2::from_shape_fn((lower.log_a.dim().2, shape.head_dim), |(h, p)| (h as f64 - p as f64) / 3.0);
        let m = Bidirectional::new(lower.matrix().with_diagonal(Diagonal::Scores), upper.matrix()).unwrap();
        let m = m.with_skip(d.view()).unwrap();
        let (x, dy) = (&lower.x, &lower.cotangent.y);
        let entries = TwoSided { lower: &lower, upper: &upper };
        let slope = entries.upper_decay_slope(x, dy);
        for how in algorithms(chunk) {
            let y = m.matmul(x.view(), how).unwrap();
            prop_assert!(distance(y.view(), (entries.apply(x) + &d * x).view()) < 1e-13, "{how:?}: y");
            let grad = m.vjp(x.view(), how, dy.view()).unwrap();
            prop_assert!(distance(grad.x.view(), (entries.apply_transposed(dy) + &d * dy).view()) < 1e-13, "{how:?}: dx");
            prop_assert!(distance(grad.upper.log_a.view(), slope.view()) < 1e-8, "{how:?}: dlog_a of the upper part");
        }
    }
}

/// The off-diagonal entries of a two-sided matrix, by definition.
struct TwoSided<'a> {
    lower: &'a Case,
    upper: &'a Case,
}

impl TwoSided<'_> {
    fn entry(&self, row: usize, h: usize, t: usize, s: usize) -> f64 {
        let sequence = |t: usize| self.lower.shape.cuts.iter().filter(|&&cut| cut <= t).count();
        if t == s || sequence(t) != sequence(s) {
            return 0.0;
        }
        let (m, steps) = if t > s { (self.lower, s + 1..t + 1) } else { (self.upper, t..s) };
        let g = h / m.shape.heads_per_group;
        let decay: f64 = steps.map(|k| m.log_a[[row, k, h]].exp()).product();
        let score = m.c.slice(s![row, t, g, ..]).dot(&m.b.slice(s![row, s, g, ..]));
        decay * score * m.dt[[row, s, h]]
    }

    fn sum(&self, x: &Array4<f64>, entry: impl Fn(usize, usize, usize, usize) -> f64) -> Array4<f64> {
        let (rows, len, heads, _) = x.dim();
        let mut y = Array4::zeros(x.raw_dim());
        for (row, t, h, s) in ndarray::indices((rows, len, heads, len)) {
            let entry = entry(row, h, t, s);
            y.slice_mut(s![row, t, h, ..]).scaled_add(entry, &x.slice(s![row, s, h, ..]));
        }
        y
    }

    fn apply(&self, x: &Array4<f64>) -> Array4<f64> {
        self.sum(x, |row, h, t, s| self.entry(row, h, t, s))
    }

    fn apply_transposed(&self, y: &Array4<f64>) -> Array4<f64> {
        self.sum(y, |row, h, t, s| self.entry(row, h, s, t))
    }

    fn upper_decay_slope(&self, x: &Array4<f64>, dy: &Array4<f64>) -> ndarray::Array3<f64> {
        let loss = |upper: &Case| (TwoSided { lower: self.lower, upper }.apply(x) * dy).sum();
        let mut slope = self.upper.log_a.clone();
        for (at, slope) in slope.indexed_iter_mut() {
            let nudged = |by: f64| {
                let mut case = self.upper.clone();
                case.log_a[at] += by;
                loss(&case)
            };
            *slope = (nudged(1e-4) - nudged(-1e-4)) / 2e-4;
        }
        slope
    }
}

#[test]
fn states_per_sequence_and_per_row_agree_where_both_exist() {
    let shape = Shape {
        batch: 1,
        len: 9,
        groups: 1,
        heads_per_group: 2,
        head_dim: 3,
        state_dim: 2,
        skip: 0,
        cuts: vec![4, 5],
        per_sequence: false,
        free_diagonal: false,
        seed: 7,
    };
    let case = Case::new(&shape);
    let per_row = product(&case, Algorithm::Automatic);
    let sequences = Sequences::from_offsets(&[0, 4, 5, 9]).unwrap().with_states(States::PerSequence);
    let m = case.matrix().with_sequences(sequences).unwrap();
    let mut initial = Array4::zeros((3, 2, 3, 2));
    initial.slice_mut(s![..1, .., .., ..]).assign(&case.initial);
    let per_sequence = m.matmul(case.x.view(), Some(initial.view()), Algorithm::Automatic).unwrap();
    assert_eq!(per_row.y, per_sequence.y);
    assert_eq!(per_row.state, per_sequence.state.slice(s![2.., .., .., ..]));
}
