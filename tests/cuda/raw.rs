//! Raw steps that become steps on the device, as computed or as x is stored, by every algorithm and tier, against the CPU's
//! discretisation and operator in f64. Without a device every test says so and passes.
use crate::cases::{Case, Numbers, Shape};
use crate::support::{Decay, Rounded, assert_hopper, device, limit, relative, row, store, widened};
use half::{bf16, f16};
use ndarray::{Array, Array1, Array3, Array4, Axis, Dimension};
use num_traits::{FromPrimitive, ToPrimitive};
use semisep::backend::cuda::{
    CudaOutput, CudaSsd, CudaTensor, Element, Raw, StepRule, Steps, StepsGrad, Stored, Stream,
};
use semisep::ssd::{Algorithm, Discretization, Output, Squash};

const LIMITS: (f64, f64) = (0.02, 0.15);

/// A case whose steps and decays follow from raw steps, rates and a bias.
struct RawCase<T: Stored> {
    case: Rounded<T>,
    raw: Array3<T>,
    a: Array1<T::Acc>,
    bias: Array1<T::Acc>,
}

/// The product and cotangents, or those of the steps that raw ones become.
struct Answer {
    out: Output<f64>,
    dx: Array4<f64>,
    draw: Array3<f64>,
    da: Array1<f64>,
    dbias: Array1<f64>,
}

fn acc<T: Stored>(v: f64) -> T::Acc {
    T::Acc::from_f64(v).unwrap()
}

fn wide<A: ToPrimitive, D: Dimension>(values: &Array<A, D>) -> Array<f64, D> {
    values.map(|v| v.to_f64().unwrap())
}

impl<T: Stored> RawCase<T> {
    /// Rates are `rate` of numbers in [0, 1), with a minus.
    fn new(shape: &Shape, rate: impl Fn(f64) -> f64) -> Self {
        let case = Rounded::<T>::new(shape, Decay::Mild);
        let (batch, len, heads) = case.case.dt.dim();
        let mut n = Numbers::new(7);
        let raw = store(&Array3::from_shape_simple_fn((batch, len, heads), || -3.0 + 2.0 * n.draw()));
        let a = Array1::from_shape_simple_fn(heads, || acc::<T>(-rate(n.draw().abs())));
        let bias = Array1::from_shape_simple_fn(heads, || acc::<T>(0.5 * n.draw()));
        Self { case, raw, a, bias }
    }

    /// By the CPU: the answer, and dt times dlog a, of which dA is the sum.
    fn expected(&self) -> (Answer, Array3<f64>) {
        let (raw, a, bias) = (widened(&self.raw), wide(&self.a), wide(&self.bias));
        let rule = Discretization::new(a.view()).bias(bias.view()).unwrap().squash(Squash::Softplus);
        let rule = rule.limits(LIMITS.0, LIMITS.1).unwrap();
        let (dt, log_a) = rule.apply(raw.view()).unwrap();
        let case = Case { dt, log_a, ..self.case.case.clone() };
        let (m, initial) = (case.matrix(), Some(case.initial.view()));
        let out = m.matmul(case.x.view(), initial, Algorithm::Recurrent).unwrap();
        let grad = m.vjp(case.x.view(), initial, Algorithm::Recurrent, &case.cotangent).unwrap();
        let slope = rule.vjp(raw.view(), grad.dt.view(), grad.log_a.view()).unwrap();
        let answer = Answer { out, dx: grad.x, draw: slope.raw, da: slope.a, dbias: slope.bias };
        (answer, &case.dt * &grad.log_a)
    }

    /// On the device; the raw steps are `narrow`, in the type of x, or in that of computation.
    fn found(&self, stream: &Stream, how: Algorithm, narrow: bool) -> Answer {
        let case = &self.case;
        let (batch, len, heads) = self.raw.dim();
        // A part of a wider tensor, as a layer has it, at an address that is a multiple of one number only.
        let wider = Array3::from_shape_fn((batch, len, heads + 3), |(b, t, h)| {
            if (1..heads + 1).contains(&h) { self.raw[[b, t, h - 1]] } else { T::narrow(acc::<T>(f64::NAN)) }
        });
        let dt = match narrow {
            true => Raw::Stored(up(stream, &wider).part(1, &[batch, len, heads]).unwrap()),
            false => Raw::Computed(up(stream, &self.raw.map(|v| v.widen()))),
        };
        let rule = StepRule::default().bias(up(stream, &self.bias)).squash(Squash::Softplus);
        let steps = Steps::Raw { dt, a: up(stream, &self.a), rule: rule.limits(LIMITS.0, LIMITS.1).unwrap() };
        let m = CudaSsd::new(steps, up(stream, &case.b), up(stream, &case.c)).unwrap();
        let m = m.with_skip(up(stream, &case.d)).unwrap();
        let (x, initial) = (up(stream, &case.x), up(stream, &case.initial));
        let out = m.matmul(&x, Some(&initial), how).unwrap();
        let cotangent =
            CudaOutput { y: up(stream, &case.cotangent.y), state: up(stream, &case.cotangent.state) };
        assert_hopper(&m, how, &x, &cotangent.y);
        let found = m.vjp(&x, Some(&initial), how, &cotangent).unwrap();
        let StepsGrad::Raw { dt, a, bias } = found.steps else { unreachable!("the steps are raw") };
        Answer {
            out: Output { y: widened(&out.y.download_as().unwrap()), state: down(&out.state) },
            dx: widened(&found.x.download_as().unwrap()),
            draw: down(&dt),
            da: down(&a),
            dbias: down(&bias),
        }
    }

    fn check(&self, stream: &Stream, all: &[Algorithm]) {
        let expected = self.expected().0;
        for (&how, narrow) in all.iter().flat_map(|how| [(how, true), (how, false)]) {
            let found = self.found(stream, how, narrow);
            let name = format!("{} {how:?} {narrow} {:?}", T::NAME, self.case.case.shape);
            close::<T, _>(&name, "y", &found.out.y, &expected.out.y);
            close::<T, _>(&name, "state", &found.out.state, &expected.out.state);
            close::<T, _>(&name, "dx", &found.dx, &expected.dx);
            close::<T, _>(&name, "draw", &found.draw, &expected.draw);
            close::<T, _>(&name, "dA", &found.da, &expected.da);
            close::<T, _>(&name, "dbias", &found.dbias, &expected.dbias);
        }
    }

    /// Scales the cotangents of the second row, head by head, so that in every dA `fold` - 1 of `fold` parts cancel.
    fn cancel(&mut self, fold: f64) {
        let terms = self.expected().1;
        let (parts, sizes) = (terms.sum_axis(Axis(1)), terms.mapv(f64::abs).sum_axis(Axis(1))); // (batch, heads)
        let scale = |h: usize| {
            let of = |k: usize| (parts[[k, h]].abs(), sizes[[k, h]] / fold);
            let ((first, first_size), (second, second_size)) = (of(0), of(1));
            let sign = -(parts[[0, h]] * parts[[1, h]]).signum();
            sign * (first - first_size) / (second + second_size)
        };
        let case = &mut self.case;
        let y = widened(&case.cotangent.y);
        let by = |k: usize, h: usize| if k == 0 { 1.0 } else { scale(h) };
        case.cotangent.y = store(&Array4::from_shape_fn(y.dim(), |at| y[at] * by(at.0, at.2)));
        let state = wide(&case.cotangent.state);
        case.cotangent.state = Array4::from_shape_fn(state.dim(), |at| acc::<T>(state[at] * by(at.0, at.1)));
        case.case.cotangent = Output { y: widened(&case.cotangent.y), state: wide(&case.cotangent.state) };
    }

    /// The sum of the sizes of what dA is the sum of, over its own, for the head where that is least.
    fn cancels(&self) -> f64 {
        let (answer, terms) = self.expected();
        let sizes = terms.mapv(f64::abs).sum_axis(Axis(1)).sum_axis(Axis(0));
        sizes.iter().zip(&answer.da).map(|(size, sum)| size / sum.abs()).fold(f64::INFINITY, f64::min)
    }
}

fn up<A: Element, D: Dimension>(stream: &Stream, values: &Array<A, D>) -> CudaTensor<A> {
    CudaTensor::upload(stream, values.view()).unwrap()
}

fn down<A: Element + ToPrimitive, D: Dimension>(tensor: &CudaTensor<A>) -> Array<f64, D> {
    wide(&tensor.download_as().unwrap())
}

fn close<T: Stored, D: Dimension>(case: &str, name: &str, found: &Array<f64, D>, expected: &Array<f64, D>) {
    let (error, limit) = (relative(found.view(), expected.view()), limit::<T>(name));
    println!("{case}: {name} off by {error:.1e}");
    assert!(error <= limit, "{case}: {name} off by {error:e}");
}

/// As a model's.
fn rate(v: f64) -> f64 {
    0.5 + v
}

fn check_all<T: Stored>() {
    let Some(device) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    let all =
        [Algorithm::Recurrent, Algorithm::Quadratic, Algorithm::Chunked { chunk: 64 }, Algorithm::Automatic];
    for len in [130, 700] {
        RawCase::<T>::new(&row(len, |s| s.heads_per_group = 3), rate).check(&stream, &all);
    }
}

#[test]
fn raw_steps_in_f64_agree_with_the_cpu_by_every_algorithm() {
    check_all::<f64>();
}

#[test]
fn raw_steps_in_f32_agree_with_the_cpu_by_every_algorithm() {
    check_all::<f32>();
}

#[test]
fn raw_steps_in_f16_agree_with_the_cpu_by_every_algorithm() {
    check_all::<f16>();
}

#[test]
fn raw_steps_in_bf16_agree_with_the_cpu_by_every_algorithm() {
    check_all::<bf16>();
}

fn check_cancelling<T: Stored>(fold: f64, shape: &Shape, rate: impl Fn(f64) -> f64) {
    let Some(device) = device() else { return };
    let mut case = RawCase::<T>::new(shape, rate);
    case.cancel(fold);
    let cancels = case.cancels();
    assert!(cancels > 0.8 * fold, "dA of a head is one part in {cancels}");
    case.check(&Stream::new(&device).unwrap(), &[Algorithm::Automatic]);
}

#[test]
fn cotangents_of_rates_agree_with_the_cpu_where_their_sums_cancel() {
    let slow = |v: f64| 0.01 + 0.02 * v; // most of a state crosses a chunk
    let shapes = [
        row(700, |s| s.heads_per_group = 3),
        row(333, |s| (s.head_dim, s.state_dim) = (128, 64)),
        row(300, |s| s.state_dim = 256),
    ];
    for shape in &shapes {
        check_cancelling::<f16>(100.0, shape, rate);
        check_cancelling::<f16>(100.0, shape, slow);
        check_cancelling::<bf16>(10.0, shape, rate);
        check_cancelling::<bf16>(10.0, shape, slow);
    }
}
