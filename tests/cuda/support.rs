//! Cases for a device: rounded to what they are stored in, with the CPU's answer in f64 to the same numbers.

use ndarray::{Array, Array2, Array3, Array4, ArrayView, Axis, Dimension, RemoveAxis, s};
use num_traits::{FromPrimitive, ToPrimitive};
use semisep::backend::cuda::{Cuda, CudaSsd, CudaTensor, Device, KernelCache, Plan, Stored, Stream};
use semisep::ssd::{Algorithm, Grad, Output, Ssd};
use semisep::{DeviceError, Error};

use crate::cases::{Case, Shape};

/// The device, or a word that there is none.
pub fn device() -> Option<Device> {
    match Device::with_cache(0, KernelCache::default()) {
        Ok(device) => Some(device),
        Err(Error::Device(DeviceError::NoDriver | DeviceError::NoDevice { .. })) => {
            println!("skipped: no device");
            None
        }
        Err(wrong) => panic!("{wrong}"),
    }
}

/// One row of the table: what differs from a plain case of the Hopper tier.
pub fn row(len: usize, change: impl FnOnce(&mut Shape)) -> Shape {
    let mut shape = Shape {
        batch: 2,
        len,
        groups: 1,
        heads_per_group: 2,
        head_dim: 64,
        state_dim: 128,
        skip: 1,
        cuts: vec![],
        per_sequence: false,
        free_diagonal: false,
        seed: len as u64,
    };
    change(&mut shape);
    shape
}

/// How fast the state is forgotten.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decay {
    /// As in a model: dt A from -0.001 to -0.1.
    Mild,
    /// From -0.001 to -40, at random.
    Wide,
    /// Never.
    None,
    /// e^-40 a step.
    Strong,
    /// e^-80 a step.
    Stronger,
    /// By e^-80, never, or as in a model, at random.
    Mixed,
    /// From e^-1 to e^-80 a step, at random.
    Hostile,
    /// Never and wholly, in turns.
    Alternating,
}

/// All that are unlike a model's.
pub const HOSTILE: [Decay; 7] = [
    Decay::Wide,
    Decay::None,
    Decay::Strong,
    Decay::Stronger,
    Decay::Mixed,
    Decay::Hostile,
    Decay::Alternating,
];

/// The inputs as a device gets them.
pub struct Rounded<T: Stored> {
    pub log_a: Array3<T::Acc>,
    pub dt: Array3<T::Acc>,
    pub b: Array4<T>,
    pub c: Array4<T>,
    pub d: Array2<T::Acc>,
    pub x: Array4<T>,
    pub initial: Array4<T::Acc>,
    pub cotangent: Output<T>,
    pub case: Case,
}

/// The nearest number that can be stored.
pub fn store<T: Stored, D: Dimension>(values: &Array<f64, D>) -> Array<T, D> {
    values.mapv(|v| T::narrow(T::Acc::from_f64(v).unwrap()))
}

fn compute<T: Stored, D: Dimension>(values: &Array<f64, D>) -> Array<T::Acc, D> {
    values.mapv(|v| T::Acc::from_f64(v).unwrap())
}

fn wide<A: ToPrimitive + Copy, D: Dimension>(values: &Array<A, D>) -> Array<f64, D> {
    values.map(|v| v.to_f64().unwrap())
}

pub fn widened<T: Stored, D: Dimension>(values: &Array<T, D>) -> Array<f64, D> {
    values.map(|v| v.widen().to_f64().unwrap())
}

impl<T: Stored> Rounded<T> {
    /// A case with the given decays; its own numbers become the rounded ones, in f64.
    pub fn new(shape: &Shape, decay: Decay) -> Self {
        let mut case = Case::new(shape);
        case.log_a.indexed_iter_mut().for_each(|((_, t, h), v)| {
            *v = match decay {
                Decay::Mild => -1e-3 - 0.099 * v.abs(),
                Decay::Wide => -1e-3 * (4e4f64).powf(v.abs()),
                Decay::None => 0.0,
                Decay::Strong => -40.0,
                Decay::Stronger => -80.0,
                Decay::Mixed if *v < -0.6 => -80.0,
                Decay::Mixed if *v < -0.3 => 0.0,
                Decay::Mixed => -1e-3 - 0.099 * v.abs(),
                Decay::Hostile => -1.0 - 79.0 * v.abs().min(1.0),
                Decay::Alternating if (t + h) % 2 == 0 => 0.0,
                Decay::Alternating => -1e4,
            }
        });
        case.dt.mapv_inplace(|v| 0.001 + 0.2 * v.abs());
        let rounded = Self {
            log_a: compute::<T, _>(&case.log_a),
            dt: compute::<T, _>(&case.dt),
            b: store(&case.b),
            c: store(&case.c),
            d: compute::<T, _>(&case.d),
            x: store(&case.x),
            initial: compute::<T, _>(&case.initial),
            cotangent: Output { y: store(&case.cotangent.y), state: compute::<T, _>(&case.cotangent.state) },
            case,
        };
        let case = Case {
            shape: rounded.case.shape.clone(),
            log_a: wide(&rounded.log_a),
            dt: wide(&rounded.dt),
            b: widened(&rounded.b),
            c: widened(&rounded.c),
            d: wide(&rounded.d),
            x: widened(&rounded.x),
            initial: wide(&rounded.initial),
            cotangent: Output { y: widened(&rounded.cotangent.y), state: wide(&rounded.cotangent.state) },
        };
        Self { case, ..rounded }
    }

    pub fn matrix(&self) -> Ssd<'_, T> {
        let m = Ssd::new(self.log_a.view(), self.dt.view(), self.b.view(), self.c.view()).unwrap();
        let m = if self.case.shape.skip == 0 { m } else { m.with_skip(self.d.view()).unwrap() };
        let diagonal = match self.case.shape.free_diagonal {
            true => semisep::ssd::Diagonal::Free,
            false => semisep::ssd::Diagonal::Scores,
        };
        m.with_sequences(self.case.sequences()).unwrap().with_diagonal(diagonal)
    }

    /// Some positions of the one row as a case of their own, with the states of sequence `k`.
    pub fn part(&self, positions: std::ops::Range<usize>, k: usize) -> Self {
        let cut = |v: &Array4<T>| v.slice(s![.., positions.clone(), .., ..]).to_owned();
        let scalars = |v: &Array3<T::Acc>| v.slice(s![.., positions.clone(), ..]).to_owned();
        let state = |v: &Array4<T::Acc>| v.slice(s![k..k + 1, .., .., ..]).to_owned();
        let shape = Shape { len: positions.len(), cuts: vec![], ..self.case.shape.clone() };
        Self {
            log_a: scalars(&self.log_a),
            dt: scalars(&self.dt),
            b: cut(&self.b),
            c: cut(&self.c),
            d: self.d.clone(),
            x: cut(&self.x),
            initial: state(&self.initial),
            cotangent: Output { y: cut(&self.cotangent.y), state: state(&self.cotangent.state) },
            case: Case { shape, ..self.case.clone() },
        }
    }

    /// Some rows as a case of their own; each row has one state.
    pub fn rows(&self, rows: std::ops::Range<usize>) -> Self {
        let (four, three) = (s![rows.clone(), .., .., ..], s![rows.clone(), .., ..]);
        let cut = |v: &Array4<T>| v.slice(four).to_owned();
        let state = |v: &Array4<T::Acc>| v.slice(four).to_owned();
        Self {
            log_a: self.log_a.slice(three).to_owned(),
            dt: self.dt.slice(three).to_owned(),
            b: cut(&self.b),
            c: cut(&self.c),
            d: self.d.clone(),
            x: cut(&self.x),
            initial: state(&self.initial),
            cotangent: Output { y: cut(&self.cotangent.y), state: state(&self.cotangent.state) },
            case: Case { shape: Shape { batch: rows.len(), ..self.case.shape.clone() }, ..self.case.clone() },
        }
    }

    /// The answers of the CPU, in f64.
    pub fn expected(&self) -> (Output<f64>, Grad<f64>) {
        let (m, initial) = (self.case.matrix(), Some(self.case.initial.view()));
        let out = m.matmul(self.case.x.view(), initial, Algorithm::Recurrent).unwrap();
        let grad = m.vjp(self.case.x.view(), initial, Algorithm::Recurrent, &self.case.cotangent).unwrap();
        (out, grad)
    }

    /// Which kernels the device's product and gradient come from.
    pub fn plan(&self, cuda: &Cuda<T>, how: Algorithm) -> Plan {
        let m = cuda.upload(&self.matrix()).unwrap();
        let [x, y] =
            [&self.x, &self.cotangent.y].map(|v| CudaTensor::upload(cuda.stream(), v.view()).unwrap());
        m.plan(how, &x, &y).unwrap()
    }

    /// The Hopper tier serves this case where the device has it.
    pub fn assert_hopper(&self, cuda: &Cuda<T>) {
        if cuda.stream().device().architecture().is_hopper() {
            let plan = self.plan(cuda, Algorithm::Automatic);
            assert_eq!(plan, Plan::Hopper, "{} {:?}", T::NAME, self.case.shape);
        }
    }

    /// The device's product and gradient; memory holds NaN before.
    pub fn found(&self, cuda: &Cuda<T>, how: Algorithm) -> (Output<T>, Grad<T>) {
        let (m, initial) = (self.matrix(), Some(self.initial.view()));
        poison(cuda.stream());
        let out = m.on(cuda).matmul(self.x.view(), initial, how).unwrap();
        poison(cuda.stream());
        let grad = m.on(cuda).vjp(self.x.view(), initial, how, &self.cotangent).unwrap();
        (out, grad)
    }
}

/// `Automatic` is the Hopper tier in 16 bits, where the device has it.
pub fn assert_hopper<T: Stored>(m: &CudaSsd<T>, how: Algorithm, x: &CudaTensor<T>, y: &CudaTensor<T>) {
    let automatic = how == Algorithm::Automatic && matches!(T::NAME, "bf16" | "f16");
    if automatic && x.stream().device().architecture().is_hopper() {
        assert_eq!(m.plan(how, x, y).unwrap(), Plan::Hopper, "{} {:?}", T::NAME, x.shape());
    }
}

/// What an error says was wrong.
pub fn refused<T: std::fmt::Debug>(found: semisep::Result<T>) -> &'static str {
    match found.unwrap_err() {
        Error::Shape { tensor, .. } | Error::Value { tensor, .. } => tensor,
        Error::Device(DeviceError::Elsewhere { tensor }) => tensor,
        Error::Config { field, .. } => field,
        other => panic!("{other:?}"),
    }
}

/// Some rows have the bits of those rows of a larger batch.
pub fn assert_rows<T: Stored + PartialEq>(part: &Grad<T>, all: &Grad<T>, rows: std::ops::Range<usize>) {
    let (four, three) = (s![rows.clone(), .., .., ..], s![rows.clone(), .., ..]);
    let name = format!("{} {rows:?}", T::NAME);
    assert_eq!(part.x, all.x.slice(four), "{name}: dx");
    assert_eq!(part.b, all.b.slice(four), "{name}: db");
    assert_eq!(part.c, all.c.slice(four), "{name}: dc");
    assert_eq!(part.state, all.state.slice(four), "{name}: dstate");
    assert_eq!(part.dt, all.dt.slice(three), "{name}: ddt");
    assert_eq!(part.log_a, all.log_a.slice(three), "{name}: dlog_a");
}

/// Fills memory with NaN and gives it back, so that the next tensors are made of it.
pub fn poison(stream: &Stream) {
    let tensors: Vec<_> = [64, 1 << 10, 1 << 14, 1 << 18, 1 << 22]
        .map(|n| CudaTensor::<f64>::filled(stream, &[n], f64::NAN))
        .into();
    assert!(tensors.iter().all(|t| t.is_ok()));
}

/// Error in the Frobenius norm relative to the reference, or absolute where that is zero.
pub fn relative<D: Dimension>(found: ArrayView<'_, f64, D>, expected: ArrayView<'_, f64, D>) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let scale = norm(&mut expected.iter().copied());
    let error = norm(&mut found.iter().zip(&expected).map(|(f, e)| f - e));
    if scale > 0.0 { error / scale } else { error }
}

/// The same of the worst slice along an axis of heads or groups, and of the whole.
pub fn worst<D: RemoveAxis>(found: Array<f64, D>, expected: &Array<f64, D>, axis: usize) -> f64 {
    let parts = found.axis_iter(Axis(axis)).zip(expected.axis_iter(Axis(axis)));
    let all = relative(found.view(), expected.view());
    parts.map(|(f, e)| relative(f, e)).chain([all]).fold(0.0, |m, e| if e > m || e.is_nan() { e } else { m })
}

/// Every error by its name.
pub fn errors<T: Stored>(
    (out, grad): &(Output<T>, Grad<T>),
    (expected, slope): &(Output<f64>, Grad<f64>),
) -> Vec<(&'static str, f64)> {
    let mut all = vec![
        ("y", worst(widened(&out.y), &expected.y, 2)),
        ("state", worst(wide(&out.state), &expected.state, 1)),
        ("dx", worst(widened(&grad.x), &slope.x, 2)),
        ("db", worst(widened(&grad.b), &slope.b, 2)),
        ("dc", worst(widened(&grad.c), &slope.c, 2)),
        ("ddt", worst(wide(&grad.dt), &slope.dt, 2)),
        ("dlog_a", worst(wide(&grad.log_a), &slope.log_a, 2)),
        ("dstate", worst(wide(&grad.state), &slope.state, 1)),
    ];
    if let (Some(found), Some(expected)) = (&grad.d, &slope.d) {
        all.push(("dd", worst(wide(found), expected, 0)));
    }
    all
}

/// The largest error that is accepted.
pub fn limit<T: Stored>(name: &str) -> f64 {
    match (T::NAME, name) {
        ("f64", _) => 1e-12,
        ("f32", _) => 1e-5,
        ("f16", _) => 5e-4,
        (_, "y") => 2.4e-3,
        (_, "dx" | "db" | "dc") => 2.5e-3,
        (_, _) => 2e-3,
    }
}
