//! The decoding step and the selective scan on a device, against the CPU in f64 on the same rounded inputs.
#![cfg(feature = "cuda")]

#[path = "support/ssd.rs"]
mod support;

use half::{bf16, f16};
use ndarray::{Array, Array1, Array2, Array3, Array4, ArrayView, Axis, Dimension};
use semisep::backend::cuda::{
    self, CudaTensor, DecodeStep, Device, Slots, StateElement, StepRule, Stored, Stream,
};
use semisep::ssd::{self, Algorithm, Discretization, Squash, Ssd};
use semisep::{DeviceError, Error, Scalar};
use support::Numbers;

/// A stream of the first device, or nothing, said aloud, where there is none.
fn stream() -> Option<Stream> {
    match Device::new(0) {
        Ok(device) => Some(Stream::new(&device).unwrap()),
        Err(Error::Device(DeviceError::NoDriver | DeviceError::NoDevice { .. })) => {
            println!("skipped: no device");
            None
        }
        Err(other) => panic!("{other}"),
    }
}

fn narrow<T: Scalar, D: Dimension>(v: &Array<f64, D>) -> Array<T, D> {
    v.mapv(|v| T::narrow(num_traits::cast(v).unwrap()))
}

fn wide<T: Scalar, D: Dimension>(v: &Array<T, D>) -> Array<f64, D> {
    v.mapv(|v| num_traits::cast(v.widen()).unwrap())
}

fn up<T: Stored, D: Dimension>(stream: &Stream, v: &Array<T, D>) -> CudaTensor<T> {
    CudaTensor::upload(stream, v.view()).unwrap()
}

/// Relative Frobenius error allowed to a result that is stored as `T`.
fn tolerance<T: Scalar>() -> f64 {
    match T::NAME {
        "bf16" => 2.4e-3,
        "f16" => 5e-4,
        _ => 1e-5,
    }
}

#[track_caller]
fn close<D: Dimension>(
    name: &str,
    found: ArrayView<'_, f64, D>,
    expected: ArrayView<'_, f64, D>,
    limit: f64,
) {
    assert_eq!(found.shape(), expected.shape(), "{name}");
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
    let error =
        norm(&mut found.iter().zip(&expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied());
    assert!(error < limit, "{name}: {error:e} where {limit:e} is allowed"); // false for NaN
}

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

    /// By the CPU in f64 on what is left of the inputs when they are stored as `T` and the state as `S`.
    fn expected<T: Scalar, S: Scalar>(&self) -> ssd::Output<f64> {
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

    /// On the device, the sequences' states in the given slots of a pool of NaN.
    fn found<T, S>(&self, stream: &Stream, slots: &[usize], pool: usize) -> ssd::Output<f64>
    where
        T: Stored,
        S: StateElement + Stored,
    {
        let f32s = |v: &Array<f64, _>| up(stream, &v.mapv(|v| v as f32));
        let (raw, bias, a) = (up(stream, &self.raw.mapv(|v| v as f32)), f32s(&self.bias), f32s(&self.a));
        let d = up(stream, &self.d.mapv(|v| v as f32));
        let [b, c, x] = [&self.b, &self.c, &self.x].map(|v| up(stream, &narrow::<T, _>(v)));
        let (_, heads, head_dim, state_dim) = self.state.dim();
        let mut all = Array4::from_elem(
            (pool, heads, head_dim, state_dim),
            S::narrow(num_traits::cast(f64::NAN).unwrap()),
        );
        for (k, &slot) in slots.iter().enumerate() {
            all.index_axis_mut(Axis(0), slot).assign(&narrow::<S, _>(&self.state).index_axis(Axis(0), k));
        }
        let mut state = up(stream, &all);
        let slots_there = Slots::new(stream, slots, pool).unwrap();
        let steps =
            StepRule::new(&raw).bias(&bias).unwrap().squash(Squash::Softplus).limits(0.01, 1.0).unwrap();
        let step = DecodeStep::new(steps, &a, &b, &c)
            .unwrap()
            .with_skip(&d)
            .unwrap()
            .with_slots(&slots_there)
            .unwrap();
        let y = CudaTensor::<T>::filled(stream, x.shape(), f64::NAN).unwrap();
        step.step_into(&x, &mut state, &y).unwrap();
        let all: Array4<S> = state.download_as().unwrap();
        let mut own = Array4::zeros(self.state.raw_dim());
        for (k, &slot) in slots.iter().enumerate() {
            own.index_axis_mut(Axis(0), k).assign(&wide(&all.index_axis(Axis(0), slot).to_owned()));
        }
        for slot in (0..pool).filter(|slot| !slots.contains(slot)) {
            assert!(
                wide(&all.index_axis(Axis(0), slot).to_owned()).iter().all(|v| v.is_nan()),
                "slot {slot} was touched"
            );
        }
        ssd::Output { y: wide(&y.download_as::<ndarray::Ix4>().unwrap()), state: own }
    }
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
        let position = Position::new(sizes, skip, 11);
        let slots: Vec<usize> = (0..sizes.0).map(|k| 2 * (sizes.0 - 1 - k)).collect();
        let (found, expected) =
            (position.found::<T, S>(stream, &slots, 2 * sizes.0), position.expected::<T, S>());
        let name = format!("{} with states in {}, {sizes:?}", T::NAME, S::NAME);
        close(&format!("{name}: y"), found.y.view(), expected.y.view(), tolerance::<T>());
        close(&format!("{name}: state"), found.state.view(), expected.state.view(), tolerance::<S>());
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
fn a_sequence_decodes_to_the_same_bits_in_any_batch() {
    let Some(stream) = stream() else { return };
    for (batch, heads) in [(5, 4), (70, 16)] {
        let all = Position::new((batch, heads, 2, 64, 128), 1, 3);
        let slots: Vec<usize> = (0..batch).map(|k| batch - 1 - k).collect();
        same_alone::<f32>(&stream, &all, &slots);
        same_alone::<bf16>(&stream, &all, &slots);
    }
}

/// The first and the last of a batch have the bits that they have alone.
fn same_alone<S: StateElement + Stored>(stream: &Stream, all: &Position, slots: &[usize]) {
    let together = all.found::<bf16, S>(stream, slots, slots.len());
    for k in [0, slots.len() - 1] {
        let one = |v: &Array4<f64>| v.slice(ndarray::s![k..k + 1, .., .., ..]).to_owned();
        let alone = Position {
            raw: all.raw.slice(ndarray::s![k..k + 1, .., ..]).to_owned(),
            b: one(&all.b),
            c: one(&all.c),
            x: one(&all.x),
            state: one(&all.state),
            bias: all.bias.clone(),
            a: all.a.clone(),
            d: all.d.clone(),
        };
        let alone = alone.found::<bf16, S>(stream, &[0], 1);
        assert_eq!(alone.y.index_axis(Axis(0), 0), together.y.index_axis(Axis(0), k));
        assert_eq!(alone.state.index_axis(Axis(0), 0), together.state.index_axis(Axis(0), k));
    }
}

#[test]
#[allow(unsafe_code)]
fn recorded_steps_are_those_that_were_recorded() {
    let Some(stream) = stream() else { return };
    let position = Position::new((2, 4, 1, 64, 128), 1, 7);
    let (raw, a) =
        (up(&stream, &position.raw.mapv(|v| v as f32)), up(&stream, &position.a.mapv(|v| v as f32)));
    let [b, c, x] = [&position.b, &position.c, &position.x].map(|v| up(&stream, &narrow::<bf16, _>(v)));
    let step = DecodeStep::new(StepRule::new(&raw).squash(Squash::Softplus), &a, &b, &c).unwrap();
    let y = CudaTensor::<bf16>::filled(&stream, x.shape(), f64::NAN).unwrap();
    let start = up(&stream, &position.state.mapv(|v| v as f32));
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
    fn new<T: Scalar>((batch, len, channels, groups, state_dim): Sizes, seed: u64) -> Self {
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

    fn check<T: Stored>(&self, stream: &Stream, name: &str) {
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

        fn single<D: Dimension>(stream: &Stream, v: &Array<f64, D>) -> CudaTensor<f32> {
            up(stream, &v.mapv(|v| v as f32))
        }
        let (raw, bias, a, d) = (
            single(stream, &self.raw),
            single(stream, &self.bias),
            single(stream, &self.a),
            single(stream, &self.d),
        );
        let initial = single(stream, &self.initial);
        let (b, c) = (up(stream, &narrow::<T, _>(&self.b)), up(stream, &narrow::<T, _>(&self.c)));
        let (x, dy) = (up(stream, &narrow::<T, _>(&self.x)), up(stream, &narrow::<T, _>(&self.dy)));
        let rule =
            StepRule::new(&raw).bias(&bias).unwrap().squash(Squash::Softplus).limits(0.01, 2.0).unwrap();
        let m = cuda::SelectiveScan::new(rule, &a, &b, &c).unwrap().with_skip(&d).unwrap();
        let found = m.matmul(&x, Some(&initial)).unwrap();
        let y: Array3<T> = found.y.download_as().unwrap();
        let state: Array3<f32> = found.state.download_as().unwrap();
        close(&format!("{name}: y"), wide(&y).view(), expected.y.view(), tolerance::<T>());
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
            b: T, grad.b, tolerance::<T>().max(2e-5);
            c: T, grad.c, tolerance::<T>().max(2e-5);
            x: T, grad.x, tolerance::<T>().max(2e-5);
            state: f32, grad.state, 2e-5;
        }
        let dd: Array1<f32> = device.d.download_as().unwrap();
        close(&format!("{name}: d"), wide(&dd).view(), grad.d.unwrap().view(), 2e-5);
        let again = m.vjp(&x, Some(&initial), &cotangent).unwrap();
        assert_eq!(
            wide(&again.b.download().unwrap()),
            wide(&device.b.download().unwrap()),
            "{name}: db is not the same twice"
        );
        assert_eq!(
            again.a.download().unwrap(),
            device.a.download().unwrap(),
            "{name}: dA is not the same twice"
        );
    }
}

fn check_scan<T: Stored>(stream: &Stream) {
    for sizes in [
        (2, 33, 130, 2, 16),
        (1, 1, 1, 1, 1),
        (1, 16, 64, 1, 16),
        (2, 100, 24, 3, 5),
        (1, 65, 40, 1, 64),
        (1, 40, 12, 2, 128),
        (1, 20, 9, 1, 200),
        (1, 1000, 256, 1, 16),
    ] {
        Scan::new::<T>(sizes, 5).check::<T>(stream, &format!("{} {sizes:?}", T::NAME));
    }
}

#[test]
fn the_selective_scan_and_its_vjp_equal_the_cpu() {
    let Some(stream) = stream() else { return };
    check_scan::<f32>(&stream);
    check_scan::<bf16>(&stream);
    check_scan::<f16>(&stream);
}
