//! Raw steps that become steps on the device, as computed or as x is stored, by every algorithm and tier, against the CPU's
//! discretisation and operator in f64. Without a device every test says so and passes.
use crate::cases::{Case, Numbers};
use crate::support::{Decay, Rounded, device, limit, relative, row, store, widened};
use half::{bf16, f16};
use ndarray::{Array, Array1, Array3, Dimension};
use num_traits::{FromPrimitive, ToPrimitive};
use semisep::backend::cuda::{
    Cuda, CudaOutput, CudaSsd, CudaTensor, Raw, StepRule, Steps, StepsGrad, Stored, Stream,
};
use semisep::ssd::{Algorithm, Discretization, Squash};

const LIMITS: (f64, f64) = (0.02, 0.15);

fn check<T: Stored>(stream: &Stream, len: usize, how: Algorithm) {
    let case = Rounded::<T>::new(&row(len, |s| (s.batch, s.heads_per_group) = (2, 4)), Decay::Mild);
    let (mut n, acc) = (Numbers::new(7), |v: f64| T::Acc::from_f64(v).unwrap());
    let raw: Array3<T> = store(&Array3::from_shape_simple_fn((2, len, 4), || -3.0 + 2.0 * n.draw()));
    let a: Array1<T::Acc> = Array1::from_shape_simple_fn(4, || acc(-0.5 - n.draw().abs()));
    let bias: Array1<T::Acc> = Array1::from_shape_simple_fn(4, || acc(0.5 * n.draw()));

    let wide = |v: &Array1<T::Acc>| v.mapv(|v| v.to_f64().unwrap());
    let (raw64, a64, bias64) = (widened(&raw), wide(&a), wide(&bias));
    let rule = Discretization::new(a64.view()).bias(bias64.view()).unwrap().squash(Squash::Softplus);
    let rule = rule.limits(LIMITS.0, LIMITS.1).unwrap();
    let (dt, log_a) = rule.apply(raw64.view()).unwrap();
    let reference = Case { dt, log_a, ..case.case.clone() };
    let (m, initial) = (reference.matrix(), Some(reference.initial.view()));
    let expected = m.matmul(reference.x.view(), initial, Algorithm::Recurrent).unwrap();
    let grad = m.vjp(reference.x.view(), initial, Algorithm::Recurrent, &reference.cotangent).unwrap();
    let slope = rule.vjp(raw64.view(), grad.dt.view(), grad.log_a.view()).unwrap();

    // A part of a wider tensor, as a layer has it, at an address that is a multiple of one number only.
    let wider = Array3::from_shape_fn((2, len, 7), |(b, t, h)| match h {
        1..5 => raw[[b, t, h - 1]],
        _ => T::narrow(acc(f64::NAN)),
    });
    let stored = CudaTensor::upload(stream, wider.view()).unwrap().part(1, &[2, len, 4]).unwrap();
    let computed = raw.map(|v| v.widen());
    let computed = CudaTensor::upload(stream, computed.view()).unwrap();
    for dt in [Raw::Stored(stored), Raw::Computed(computed)] {
        let name = format!("{} {len} {how:?} {}", T::NAME, matches!(dt, Raw::Stored(_)));
        let bias = CudaTensor::upload(stream, bias.view()).unwrap();
        let rule =
            StepRule::default().bias(bias).squash(Squash::Softplus).limits(LIMITS.0, LIMITS.1).unwrap();
        let steps = Steps::Raw { dt, a: CudaTensor::upload(stream, a.view()).unwrap(), rule };
        let up = |v: &ndarray::Array4<T>| CudaTensor::upload(stream, v.view()).unwrap();
        let m = CudaSsd::new(steps, up(&case.b), up(&case.c)).unwrap();
        let m = m.with_skip(CudaTensor::upload(stream, case.d.view()).unwrap()).unwrap();
        let state = |v: &ndarray::Array4<T::Acc>| CudaTensor::upload(stream, v.view()).unwrap();
        let (x, initial) = (up(&case.x), state(&case.initial));
        let out = m.matmul(&x, Some(&initial), how).unwrap();
        let cotangent = CudaOutput { y: up(&case.cotangent.y), state: state(&case.cotangent.state) };
        let found = m.vjp(&x, Some(&initial), how, &cotangent).unwrap();
        let StepsGrad::Raw { dt, a, bias } = found.steps else { unreachable!("the steps are raw") };
        close::<T, _>(&name, "y", &widened(&out.y.download_as().unwrap()), &expected.y);
        close::<T, _>(&name, "state", &numbers(&out.state), &expected.state);
        close::<T, _>(&name, "dx", &widened(&found.x.download_as().unwrap()), &grad.x);
        close::<T, _>(&name, "draw", &numbers(&dt), &slope.raw);
        close::<T, _>(&name, "dA", &numbers(&a), &slope.a);
        close::<T, _>(&name, "dbias", &numbers(&bias), &slope.bias);
    }
}

fn numbers<A: semisep::backend::cuda::Element + ToPrimitive, D: Dimension>(
    tensor: &CudaTensor<A>,
) -> Array<f64, D> {
    tensor.download_as().unwrap().mapv(|v: A| v.to_f64().unwrap())
}

fn close<T: Stored, D: Dimension>(case: &str, name: &str, found: &Array<f64, D>, expected: &Array<f64, D>) {
    let (error, limit) = (relative(found.view(), expected.view()), limit::<T>(name));
    assert!(error <= limit, "{case}: {name} off by {error:e}");
}

fn check_all<T: Stored>() {
    let Some(device) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    for how in
        [Algorithm::Recurrent, Algorithm::Quadratic, Algorithm::Chunked { chunk: 64 }, Algorithm::Automatic]
    {
        check::<T>(&stream, 130, how);
        check::<T>(&stream, 333, how);
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
    let Some(device) = device() else { return };
    let cuda = Cuda::on(Stream::new(&device).unwrap());
    Rounded::<bf16>::new(&row(130, |_| {}), Decay::Mild).assert_hopper(&cuda);
}
