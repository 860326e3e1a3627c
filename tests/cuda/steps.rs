//! The decoding step and the selective scan on a device, against the CPU in f64 on the same rounded inputs.
use std::ops::Range;

use crate::cases::Numbers;
use crate::support::{device, limit, refused, relative, store as narrow, widened as wide};
use half::{bf16, f16};
use ndarray::{Array, Array1, Array2, Array3, Array4, ArrayView, Axis, Dimension, s};
use semisep::backend::cuda::{self, CudaTensor, DecodeStep, Slots, StateElement, StepRule, Stored, Stream};
use semisep::ssd::{self, Algorithm, Discretization, Squash, Ssd};
use semisep::{DeviceError, Error};

/// A stream of the device, if there is one.
fn stream() -> Option<Stream> {
    Some(Stream::new(&device()?).unwrap())
}

fn up<T: Stored, D: Dimension>(stream: &Stream, v: &Array<T, D>) -> CudaTensor<T> {
    CudaTensor::upload(stream, v.view()).unwrap()
}

fn single<D: Dimension>(stream: &Stream, v: &Array<f64, D>) -> CudaTensor<f32> {
    up(stream, &v.mapv(|v| v as f32))
}

type View<'a, D> = ArrayView<'a, f64, D>;

#[track_caller]
fn close<D: Dimension>(name: &str, found: View<'_, D>, expected: View<'_, D>, limit: f64) {
    let error = relative(found, expected);
    assert!(error < limit, "{name}: {error:e} where {limit:e} is allowed"); // false for NaN
}

/// Rates that forget all at once, alone or beside such as forget nothing.
const RATES: [fn(usize) -> f64; 2] = [|_| -80.0, |n| if n % 3 == 0 { 0.0 } else { -80.0 }];

/// (batch, heads, groups, head_dim, state_dim)
type Sizes = (usize, usize, usize, usize, usize);

/// One position of a batch: raw steps, rates, generators, input.
struct Position {
    raw: Array3<f64>,
    bias: Array1<f64>,
    a: Array1<f64>,
    b: Array4<f64>,
    c: Array4<f64>,
    d: Array2<f64>,
    x: Array4<f64>,
    state: Array4<f64>,
}

impl Position {
    fn new((batch, heads, groups, head_dim, state_dim): Sizes, skip: usize, seed: u64) -> Self {
        let mut n = Numbers::new(seed);
        Self {
            raw: Array3::from_shape_fn((batch, 1, heads), |_| 3.0 * n.draw()),
            bias: Array1::from_shape_fn(heads, |_| n.draw()),
            a: Array1::from_shape_fn(heads, |_| -8.0 * n.draw().abs()),
            b: Array4::from_shape_fn((batch, 1, groups, state_dim), |_| n.draw()),
            c: Array4::from_shape_fn((batch, 1, groups, state_dim), |_| n.draw()),
            d: Array2::from_shape_fn((heads, skip), |_| n.draw()),
            x: Array4::from_shape_fn((batch, 1, heads, head_dim), |_| n.draw()),
            state: Array4::from_shape_fn((batch, heads, head_dim, state_dim), |_| n.draw()),
        }
    }

    /// Some sequences of the batch.
    fn rows(&self, rows: Range<usize>) -> Self {
        let part = |v: &Array4<f64>| v.slice(s![rows.clone(), .., .., ..]).to_owned();
        Self {
            raw: self.raw.slice(s![rows.clone(), .., ..]).to_owned(),
            b: part(&self.b),
            c: part(&self.c),
            x: part(&self.x),
            state: part(&self.state),
            bias: self.bias.clone(),
            a: self.a.clone(),
            d: self.d.clone(),
        }
    }

    /// By the CPU in f64 on what is left of the inputs when they are stored as `T` and the state as `S`.
    fn expected<T: Stored, S: Stored>(&self) -> ssd::Output<f64> {
        let [raw, d] =
            [self.raw.mapv(|v| f64::from(v as f32)), wide(&narrow::<f32, _>(&self.d)).insert_axis(Axis(0))];
        let [bias, a] = [&self.bias, &self.a].map(|v| v.mapv(|v| f64::from(v as f32)));
        let [b, c, x] = [&self.b, &self.c, &self.x].map(|v| wide(&narrow::<T, _>(v)));
        let rule = Discretization::new(a.view()).bias(bias.view()).unwrap().squash(Squash::Softplus);
        let (dt, log_a) = rule.limits(f64::from(0.01f32), 1.0).unwrap().apply(raw.view()).unwrap();
        let m = Ssd::new(log_a.view(), dt.view(), b.view(), c.view()).unwrap();
        let d = d.index_axis_move(Axis(0), 0);
        let m = m.with_skip(d.view()).unwrap();
        m.matmul(x.view(), Some(wide(&narrow::<S, _>(&self.state)).view()), Algorithm::Recurrent).unwrap()
    }

    /// y of a step on the device, whose memory was NaN before.
    fn step<T, S>(&self, stream: &Stream, slots: &Slots, state: &mut CudaTensor<S>) -> Array4<f64>
    where
        T: Stored,
        S: StateElement,
    {
        let (raw, a, d) = (single(stream, &self.raw), single(stream, &self.a), single(stream, &self.d));
        let [b, c, x] = [&self.b, &self.c, &self.x].map(|v| up(stream, &narrow::<T, _>(v)));
        let rule = StepRule::default().bias(single(stream, &self.bias)).squash(Squash::Softplus);
        let step = DecodeStep::new(&raw, &a, &b, &c).unwrap().with_skip(&d).unwrap();
        let step = step.with_rule(rule.limits(0.01f32.into(), 1.0).unwrap()).unwrap();
        let y = CudaTensor::<T>::filled(stream, x.shape(), f64::NAN).unwrap();
        step.with_slots(slots).unwrap().step_into(&x, state, &y).unwrap();
        wide(&y.download_as::<ndarray::Ix4>().unwrap())
    }

    /// On the device, the sequences' states in the given slots of a pool of NaN.
    fn found<T, S>(&self, stream: &Stream, slots: &[usize], pool: usize) -> ssd::Output<f64>
    where
        T: Stored,
        S: StateElement + Stored,
    {
        let (_, heads, head_dim, state_dim) = self.state.dim();
        let nothing = S::narrow(num_traits::cast(f64::NAN).unwrap());
        let mut all = Array4::from_elem((pool, heads, head_dim, state_dim), nothing);
        for (k, &slot) in slots.iter().enumerate() {
            all.index_axis_mut(Axis(0), slot).assign(&narrow::<S, _>(&self.state).index_axis(Axis(0), k));
        }
        let mut state = up(stream, &all);
        let y = self.step::<T, S>(stream, &Slots::new(stream, slots, pool).unwrap(), &mut state);
        let all: Array4<S> = state.download_as().unwrap();
        let mut own = Array4::zeros(self.state.raw_dim());
        for (k, &slot) in slots.iter().enumerate() {
            own.index_axis_mut(Axis(0), k).assign(&wide(&all.index_axis(Axis(0), slot).to_owned()));
        }
        for slot in (0..pool).filter(|slot| !slots.contains(slot)) {
            let other = wide(&all.index_axis(Axis(0), slot).to_owned());
            assert!(other.iter().all(|v| v.is_nan()), "slot {slot} was touched");
        }
        ssd::Output { y, state: own }
    }
}

/// A step in every second slot of a pool, backwards, against the CPU.
fn check_position<T: Stored, S: StateElement + Stored>(stream: &Stream, position: &Position, name: &str) {
    let batch = position.x.dim().0;
    let slots: Vec<usize> = (0..batch).map(|k| 2 * (batch - 1 - k)).collect();
    let found = position.found::<T, S>(stream, &slots, 2 * batch);
    let expected = position.expected::<T, S>();
    close(&format!("{name}: y"), found.y.view(), expected.y.view(), limit::<T>("y"));
    close(&format!("{name}: state"), found.state.view(), expected.state.view(), limit::<S>("y"));
}

fn check_decode<T: Stored, S: StateElement + Stored>(stream: &Stream) {
    for (sizes, skip) in [
        ((3, 4, 2, 64, 128), 1),
        ((1, 24, 1, 64, 128), 64),
        ((2, 3, 3, 5, 7), 1),
        ((1, 2, 1, 100, 100), 100),
        ((2, 2, 1, 128, 64), 1),
        ((1, 1, 1, 256, 256), 1),
        ((70, 16, 8, 64, 16), 1), // from here on enough to fill the device
        ((67, 16, 8, 64, 32), 64),
    ] {
        let name = format!("{} with states in {}, {sizes:?}", T::NAME, S::NAME);
        check_position::<T, S>(stream, &Position::new(sizes, skip, 11), &name);
    }
}

#[test]
fn a_decoding_step_equals_the_recurrence() {
    let Some(stream) = stream() else { return };
    check_decode::<f32, f32>(&stream);
    check_decode::<bf16, f32>(&stream);
    check_decode::<bf16, bf16>(&stream);
    check_decode::<f16, f32>(&stream);
    check_decode::<f16, f16>(&stream);
}

#[test]
fn a_decoding_step_forgets_and_keeps_by_the_largest_and_the_least_rates() {
    let Some(stream) = stream() else { return };
    for rate in RATES {
        let mut position = Position::new((5, 6, 2, 64, 128), 1, 17);
        position.raw.fill(5.0); // the step is its upper limit, 1
        position.a = Array1::from_shape_fn(6, rate);
        check_position::<f32, f32>(&stream, &position, "f32");
        check_position::<bf16, bf16>(&stream, &position, "bf16");
        check_position::<f16, f16>(&stream, &position, "f16");
    }
}

#[test]
fn a_sequence_decodes_to_the_same_bits_in_any_batch_and_twice() {
    let Some(stream) = stream() else { return };
    for (batch, heads) in [(5, 4), (64, 20)] {
        let all = Position::new((batch, heads, 2, 64, 128), 1, 3);
        same_bits::<f32>(&stream, &all);
        same_bits::<bf16>(&stream, &all);
        same_bits::<f16>(&stream, &all);
    }
}

/// Parts of a batch have the bits that they have in it.
fn same_bits<S: StateElement + Stored>(stream: &Stream, all: &Position) {
    let batch = all.x.dim().0;
    let backwards: Vec<usize> = (0..batch).rev().collect();
    let [once, twice] = [0; 2].map(|_| all.found::<bf16, S>(stream, &backwards, batch));
    assert_eq!(once, twice);
    for rows in [0..1, batch - 1..batch, 1..4, 0..batch / 2 + 1] {
        let onwards: Vec<usize> = (0..rows.len()).collect();
        let part = all.rows(rows.clone()).found::<bf16, S>(stream, &onwards, rows.len());
        assert_eq!(part.y, once.y.slice(s![rows.clone(), .., .., ..]), "{rows:?} of {batch}");
        assert_eq!(part.state, once.state.slice(s![rows.clone(), .., .., ..]), "{rows:?} of {batch}");
    }
}

/// States of 2^31 elements and more, 9 GB in f32; three sequences own the first, the last and one between.
fn check_pool<S: StateElement + Stored>(stream: &Stream) -> semisep::Result<()> {
    let (pool, heads, head_dim, state_dim) = (4100, 64, 64, 128);
    let (size, slots) = (heads * head_dim * state_dim, [pool - 1, 0, 2048]);
    assert!(pool * size > 1 << 31);
    let position = Position::new((3, heads, 1, head_dim, state_dim), 1, 19);
    let mut states = CudaTensor::<S>::filled(stream, &[pool, heads, head_dim, state_dim], f64::NAN)?;
    let slot = |states: &CudaTensor<S>, k: usize| {
        let at = states.pointer() + (slots[k] * size * size_of::<S>()) as u64;
        let shape = [1, heads, head_dim, state_dim];
        // SAFETY: the slot lies inside of `states`, which outlives its use.
        #[allow(unsafe_code)]
        unsafe { CudaTensor::<S>::borrow(stream, at, &shape, head_dim * state_dim) }.unwrap()
    };
    for k in 0..3 {
        let state = narrow::<S, _>(&position.state.slice(s![k..k + 1, .., .., ..]).to_owned());
        slot(&states, k).copy_from(&up(stream, &state))?;
    }
    let y = position.step::<bf16, S>(stream, &Slots::new(stream, &slots, pool)?, &mut states);
    let expected = position.expected::<bf16, S>();
    close("y", y.view(), expected.y.view(), limit::<bf16>("y"));
    for k in 0..3 {
        let found = wide(&slot(&states, k).download_as::<ndarray::Ix4>()?);
        close("state", found.view(), expected.state.slice(s![k..k + 1, .., .., ..]), limit::<S>("y"));
    }
    Ok(())
}

#[test]
fn a_pool_of_more_than_two_billion_elements_is_reached_to_its_end() {
    let Some(stream) = stream() else { return };
    for found in [check_pool::<f32>(&stream), check_pool::<bf16>(&stream)] {
        match found {
            Err(Error::Device(DeviceError::OutOfMemory { .. })) => println!("skipped: too little memory"),
            other => other.unwrap(),
        }
    }
}

#[test]
#[allow(unsafe_code)]
fn recorded_steps_are_those_that_were_recorded() {
    let Some(stream) = stream() else { return };
    let position = Position::new((2, 4, 1, 64, 128), 1, 7);
    let (raw, a) = (single(&stream, &position.raw), single(&stream, &position.a));
    let [b, c, x] = [&position.b, &position.c, &position.x].map(|v| up(&stream, &narrow::<bf16, _>(v)));
    let rule = StepRule::default().squash(Squash::Softplus);
    let step = DecodeStep::new(&raw, &a, &b, &c).unwrap().with_rule(rule).unwrap();
    let y = CudaTensor::<bf16>::filled(&stream, x.shape(), f64::NAN).unwrap();
    let start = single(&stream, &position.state);
    let mut state = start.duplicate().unwrap();
    (0..3).for_each(|_| step.step_into(&x, &mut state, &y).unwrap());
    let expected = (y.download().unwrap(), state.download().unwrap());
    let graph = stream.record(|| (0..3).try_for_each(|_| step.step_into(&x, &mut state, &y))).unwrap();
    assert_eq!(state.download().unwrap(), expected.1); // recording is not doing
    state.copy_from(&start).unwrap();
    // SAFETY: all tensors are still here.
    unsafe { graph.launch() }.unwrap();
    assert_eq!((y.download().unwrap(), state.download().unwrap()), expected);
}

#[test]
fn slots_out_of_the_pool_or_given_twice_are_errors() {
    let Some(stream) = stream() else { return };
    for slots in [&[0usize, 3][..], &[1, 1]] {
        let wrong = Slots::new(&stream, slots, 3);
        assert!(matches!(wrong, Err(Error::Value { tensor: "slots", .. })), "{slots:?}: {wrong:?}");
    }
}

/// Everything a scan takes, and a cotangent of what it gives.
struct Scan {
    raw: Array3<f64>,
    bias: Array1<f64>,
    a: Array2<f64>,
    b: Array4<f64>,
    c: Array4<f64>,
    d: Array1<f64>,
    x: Array3<f64>,
    initial: Array3<f64>,
    dy: Array3<f64>,
    dstate: Array3<f64>,
}

impl Scan {
    /// (batch, len, channels, groups, state_dim); numbers already rounded to `T`, or to f32 where the device wants that.
    fn new<T: Stored>((batch, len, channels, groups, state_dim): Sizes, seed: u64) -> Self {
        let mut n = Numbers::new(seed);
        let mut single = |scale: f64| f64::from((scale * n.draw()) as f32);
        let io = (batch, len, channels);
        let mut scan = Self {
            raw: Array3::from_shape_fn(io, |_| single(3.0)),
            bias: Array1::from_shape_fn(channels, |_| single(1.0)),
            a: Array2::from_shape_fn((channels, state_dim), |_| -single(4.0).abs()),
            b: Array4::from_shape_fn((batch, len, groups, state_dim), |_| single(1.0)),
            c: Array4::from_shape_fn((batch, len, groups, state_dim), |_| single(1.0)),
            d: Array1::from_shape_fn(channels, |_| single(1.0)),
            x: Array3::from_shape_fn(io, |_| single(1.0)),
            initial: Array3::from_shape_fn((batch, channels, state_dim), |_| single(1.0)),
            dy: Array3::from_shape_fn(io, |_| single(1.0)),
            dstate: Array3::from_shape_fn((batch, channels, state_dim), |_| single(1.0)),
        };
        scan.b = wide(&narrow::<T, _>(&scan.b));
        scan.c = wide(&narrow::<T, _>(&scan.c));
        scan.x = wide(&narrow::<T, _>(&scan.x));
        scan.dy = wide(&narrow::<T, _>(&scan.dy));
        scan
    }

    fn check<T: Stored + PartialEq>(&self, stream: &Stream, name: &str) {
        // The CPU in f64: steps by the rule, then the scan, then both backwards.
        let ones = Array1::ones(self.d.len());
        let rule = Discretization::new(ones.view()).bias(self.bias.view()).unwrap().squash(Squash::Softplus);
        let rule = rule.limits(f64::from(0.01f32), 2.0).unwrap();
        let (dt, _) = rule.apply(self.raw.view()).unwrap();
        let m = ssd::SelectiveScan::new(dt.view(), self.a.view(), self.b.view(), self.c.view()).unwrap();
        let m = m.with_skip(self.d.view()).unwrap();
        let expected = m.matmul(self.x.view(), Some(self.initial.view())).unwrap();
        let cotangent = ssd::ScanOutput { y: self.dy.clone(), state: self.dstate.clone() };
        let grad = m.vjp(self.x.view(), Some(self.initial.view()), &cotangent).unwrap();
        let steps =
            rule.vjp(self.raw.view(), grad.dt.view(), Array3::zeros(self.raw.raw_dim()).view()).unwrap();

        let [raw, initial] = [&self.raw, &self.initial].map(|v| single(stream, v));
        let [bias, d] = [&self.bias, &self.d].map(|v| single(stream, v));
        let a = single(stream, &self.a);
        let (b, c) = (up(stream, &narrow::<T, _>(&self.b)), up(stream, &narrow::<T, _>(&self.c)));
        let (x, dy) = (up(stream, &narrow::<T, _>(&self.x)), up(stream, &narrow::<T, _>(&self.dy)));
        let rule = StepRule::default().bias(bias).squash(Squash::Softplus).limits(0.01f32.into(), 2.0);
        let m = cuda::SelectiveScan::new(&raw, &a, &b, &c).unwrap().with_rule(rule.unwrap()).unwrap();
        let m = m.with_skip(&d).unwrap();
        let found = m.matmul(&x, Some(&initial)).unwrap();
        let y: Array3<T> = found.y.download_as().unwrap();
        let state: Array3<f32> = found.state.download_as().unwrap();
        close(&format!("{name}: y"), wide(&y).view(), expected.y.view(), limit::<T>("y"));
        close(&format!("{name}: state"), wide(&state).view(), expected.state.view(), 1e-5);
        let cotangent = cuda::ScanOutput { y: dy, state: single(stream, &self.dstate) };
        let device = m.vjp(&x, Some(&initial), &cotangent).unwrap();
        macro_rules! gradient {
            ($($field:ident: $type:ty, $expected:expr, $limit:expr;)*) => {$(
                let found: Array<$type, _> = device.$field.download_as().unwrap();
                close(&format!("{name}: {}", stringify!($field)), wide(&found).view(), $expected.view(), $limit);
            )*};
        }
        gradient! {
            raw_dt: f32, steps.raw, 2e-5;
            dt_bias: f32, steps.bias, 2e-5;
            a: f32, grad.a, 2e-5;
            b: T, grad.b, limit::<T>("y").max(2e-5);
            c: T, grad.c, limit::<T>("y").max(2e-5);
            x: T, grad.x, limit::<T>("y").max(2e-5);
            state: f32, grad.state, 2e-5;
        }
        let dd: Array1<f32> = device.d.download_as().unwrap();
        close(&format!("{name}: d"), wide(&dd).view(), grad.d.unwrap().view(), 2e-5);
        let again = (m.matmul(&x, Some(&initial)).unwrap(), m.vjp(&x, Some(&initial), &cotangent).unwrap());
        assert_eq!((y, state), (again.0.y.download_as().unwrap(), again.0.state.download_as().unwrap()));
        macro_rules! same {
            ($($field:ident)*) => {$(
                let [one, two] = [&device, &again.1].map(|grad| grad.$field.download().unwrap());
                assert_eq!(one, two, "{name}: {} is not the same twice", stringify!($field));
            )*};
        }
        same!(raw_dt dt_bias a b c d x state);
    }
}

fn check_scan<T: Stored + PartialEq>(stream: &Stream) {
    for sizes in [
        (2, 33, 130, 2, 16),
        (1, 1, 1, 1, 1),
        (1, 0, 24, 1, 16),
        (0, 9, 24, 1, 16),
        (1, 16, 64, 1, 16),
        (2, 100, 24, 3, 5),
        (1, 65, 40, 1, 64),
        (1, 40, 12, 2, 128),
        (1, 20, 9, 1, 200),
        (1, 1000, 256, 1, 16),
    ] {
        Scan::new::<T>(sizes, 5).check::<T>(stream, &format!("{} {sizes:?}", T::NAME));
    }
    for rate in RATES {
        let mut scan = Scan::new::<T>((2, 33, 130, 2, 16), 5);
        scan.a = Array2::from_shape_fn((130, 16), |(_, n)| rate(n));
        scan.check::<T>(stream, &format!("{} with the largest rates", T::NAME));
    }
}

#[test]
fn the_selective_scan_and_its_vjp_equal_the_cpu() {
    let Some(stream) = stream() else { return };
    check_scan::<f32>(&stream);
    check_scan::<bf16>(&stream);
    check_scan::<f16>(&stream);
}

#[test]
fn bad_input_of_steps_and_scans_is_a_typed_error_before_anything_is_started() {
    let Some(stream) = stream() else { return };
    let other = Stream::new(stream.device()).unwrap();
    let f32s = |shape: &[usize]| CudaTensor::<f32>::filled(&stream, shape, 0.5).unwrap();
    let elsewhere = |shape: &[usize]| CudaTensor::<f32>::filled(&other, shape, 0.5).unwrap();
    let gaps = |rows: usize, row: usize| f32s(&[rows, row + 4]).part(4, &[rows, row]).unwrap();

    let decode = |dt: &[usize], a: CudaTensor<f32>, b: &[usize], c: CudaTensor<f32>| {
        DecodeStep::new(&f32s(dt), &a, &f32s(b), &c).map(drop)
    };
    let scan = |dt: &[usize], a: CudaTensor<f32>, b: &[usize], c: CudaTensor<f32>| {
        cuda::SelectiveScan::new(&f32s(dt), &a, &f32s(b), &c).map(drop)
    };
    let f64s = |shape: &[usize]| CudaTensor::<f64>::filled(&stream, shape, 0.5).unwrap();
    let (dt, a, b) = (f32s(&[2, 1, 4]), f32s(&[4]), f32s(&[2, 1, 2, 8]));
    let (scan_dt, scan_a, scan_b) = (f32s(&[2, 9, 4]), f32s(&[4, 8]), f32s(&[2, 9, 2, 8]));
    let (wide_b, scan_wide_b) = (f64s(&[2, 1, 2, 8]), f64s(&[2, 9, 2, 8]));
    let step = DecodeStep::new(&dt, &a, &b, &b).unwrap();
    let m = cuda::SelectiveScan::new(&scan_dt, &scan_a, &scan_b, &scan_b).unwrap();
    let slots = Slots::new(&stream, &[0], 3).unwrap();
    let rule = |bias| StepRule::default().bias(bias);
    for (name, found) in [
        ("dt", decode(&[2, 2, 4], f32s(&[4]), &[2, 2, 2, 8], f32s(&[2, 2, 2, 8]))),
        ("dt", decode(&[2, 1, 0], f32s(&[0]), &[2, 1, 2, 8], f32s(&[2, 1, 2, 8]))),
        ("A", decode(&[2, 1, 4], f32s(&[5]), &[2, 1, 2, 8], f32s(&[2, 1, 2, 8]))),
        ("A", decode(&[2, 1, 4], elsewhere(&[4]), &[2, 1, 2, 8], f32s(&[2, 1, 2, 8]))),
        ("b", decode(&[2, 1, 4], f32s(&[4]), &[2, 1, 3, 8], f32s(&[2, 1, 3, 8]))),
        ("b", decode(&[2, 1, 4], f32s(&[4]), &[2, 1, 2, 257], f32s(&[2, 1, 2, 257]))),
        ("c", decode(&[2, 1, 4], f32s(&[4]), &[2, 1, 2, 8], f32s(&[2, 1, 2, 7]))),
        ("c", decode(&[2, 1, 4], f32s(&[4]), &[2, 1, 2, 8], elsewhere(&[2, 1, 2, 8]))),
        ("dtype", DecodeStep::new(&dt, &a, &wide_b, &wide_b).map(drop)),
        ("dt_bias", step.clone().with_rule(rule(f32s(&[3]))).map(drop)),
        ("dt_bias", step.clone().with_rule(rule(elsewhere(&[4]))).map(drop)),
        ("d", step.clone().with_skip(&f32s(&[3, 1])).map(drop)),
        ("d", step.clone().with_skip(&gaps(4, 8)).map(drop)),
        ("slots", step.clone().with_slots(&slots).map(drop)),
        ("dt", scan(&[2, 9, 0], f32s(&[0, 8]), &[2, 9, 2, 8], f32s(&[2, 9, 2, 8]))),
        ("A", scan(&[2, 9, 4], f32s(&[4, 257]), &[2, 9, 2, 257], f32s(&[2, 9, 2, 257]))),
        ("A", scan(&[2, 9, 4], f32s(&[3, 8]), &[2, 9, 2, 8], f32s(&[2, 9, 2, 8]))),
        ("A", scan(&[2, 9, 4], gaps(4, 8), &[2, 9, 2, 8], f32s(&[2, 9, 2, 8]))),
        ("b", scan(&[2, 9, 4], f32s(&[4, 8]), &[2, 9, 2, 7], f32s(&[2, 9, 2, 7]))),
        ("c", scan(&[2, 9, 4], f32s(&[4, 8]), &[2, 9, 2, 8], elsewhere(&[2, 9, 2, 8]))),
        ("dtype", cuda::SelectiveScan::new(&scan_dt, &scan_a, &scan_wide_b, &scan_wide_b).map(drop)),
        ("dt_bias", m.clone().with_rule(rule(f32s(&[5]))).map(drop)),
        ("d", m.clone().with_skip(&f32s(&[3])).map(drop)),
        ("d", m.clone().with_skip(&elsewhere(&[4])).map(drop)),
    ] {
        assert_eq!(refused(found), name);
    }

    let (x, y, narrow) = (f32s(&[2, 1, 4, 8]), f32s(&[2, 1, 4, 8]), f32s(&[4, 3]));
    let skipping = step.clone().with_skip(&narrow).unwrap();
    let into = |x: &CudaTensor<f32>, mut state: CudaTensor<f32>, y: &CudaTensor<f32>| {
        step.step_into(x, &mut state, y)
    };
    let (state, scan_state) = (|| f32s(&[2, 4, 8, 8]), f32s(&[2, 4, 8]));
    let (scan_x, odd) = (f32s(&[2, 9, 4]), f32s(&[520]));
    // SAFETY: the tensor lies inside of `odd`, and no kernel gets it.
    #[allow(unsafe_code)]
    let odd = unsafe { CudaTensor::<f32>::borrow(&stream, odd.pointer() + 4, &[2, 4, 8, 8], 64) }.unwrap();
    let vjp = |y: CudaTensor<f32>, state| m.vjp(&scan_x, None, &cuda::ScanOutput { y, state }).map(drop);
    for (name, found) in [
        ("x", into(&f32s(&[2, 1, 3, 8]), state(), &y)),
        ("x", into(&f32s(&[2, 1, 4, 257]), state(), &y)),
        ("x", into(&elsewhere(&[2, 1, 4, 8]), state(), &y)),
        ("d", skipping.step(&x, &mut state()).map(drop)),
        ("state", into(&x, f32s(&[2, 4, 8, 7]), &y)),
        ("state", into(&x, elsewhere(&[2, 4, 8, 8]), &y)),
        ("state", into(&x, odd, &y)),
        ("y", into(&x, state(), &f32s(&[2, 1, 4, 7]))),
        ("y", into(&x, state(), &elsewhere(&[2, 1, 4, 8]))),
        ("x", m.matmul(&f32s(&[2, 9, 5]), None).map(drop)),
        ("x", m.matmul(&elsewhere(&[2, 9, 4]), None).map(drop)),
        ("initial_state", m.matmul(&scan_x, Some(&f32s(&[2, 4, 7]))).map(drop)),
        ("initial_state", m.matmul(&scan_x, Some(&elsewhere(&[2, 4, 8]))).map(drop)),
        ("dy", vjp(f32s(&[2, 9, 5]), scan_state.clone())),
        ("dy", vjp(elsewhere(&[2, 9, 4]), scan_state.clone())),
        ("dfinal_state", vjp(scan_x.clone(), f32s(&[2, 4, 7]))),
        ("dfinal_state", vjp(scan_x.clone(), elsewhere(&[2, 4, 8]))),
    ] {
        assert_eq!(refused(found), name);
    }
}
