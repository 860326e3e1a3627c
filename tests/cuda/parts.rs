//! Tensors that are parts of wider ones, as the projection of a layer gives them, have the results of whole ones to the last
//! bit, by every algorithm and tier. Without a device every test says so and passes.
use crate::cases::Shape;
use crate::support::{Decay, Rounded, device, poison, row};
use half::{bf16, f16};
use ndarray::{Array3, Array4, s};
use semisep::backend::cuda::{Cuda, CudaOutput, CudaSsd, CudaTensor, Steps, Stored, Stream};
use semisep::ssd::Algorithm;

fn number<T: Stored>(v: f64) -> T {
    T::narrow(num_traits::cast(v).unwrap())
}

/// Tensors side by side in the rows of a wider one, with eight elements before each that belong to nobody.
fn side_by_side<T: Stored>(stream: &Stream, tensors: &[&Array4<T>]) -> Vec<CudaTensor<T>> {
    let (batch, len, ..) = tensors[0].dim();
    let width = |v: &Array4<T>| v.dim().2 * v.dim().3;
    let columns = tensors.iter().map(|v| 8 + width(v)).sum();
    let mut wide = Array3::<T>::from_elem((batch, len, columns), number::<T>(f64::NAN));
    let mut first = Vec::new();
    let mut at = 0;
    for v in tensors {
        at += 8;
        let rows = v.to_shape((batch, len, width(v))).unwrap();
        wide.slice_mut(s![.., .., at..at + width(v)]).assign(&rows);
        first.push(at);
        at += width(v);
    }
    let wide = CudaTensor::upload(stream, wide.view()).unwrap();
    tensors.iter().zip(first).map(|(v, first)| wide.part(first, v.shape()).unwrap()).collect()
}

fn check<T: Stored + PartialEq>(
    cuda: &Cuda<T>,
    rounding: impl Fn(CudaSsd<T>) -> CudaSsd<T>,
    shape: &Shape,
    how: Algorithm,
) {
    let name = format!("{} {how:?} {shape:?}", T::NAME);
    let (case, stream) = (Rounded::<T>::new(shape, Decay::Mild), cuda.stream());
    let (expected, slope) = case.found(cuda, how);
    let [x, b, c, dy] =
        side_by_side(stream, &[&case.x, &case.b, &case.c, &case.cotangent.y]).try_into().unwrap();
    let up = |v: &Array3<T::Acc>| CudaTensor::upload(stream, v.view()).unwrap();
    let state = |v: &Array4<T::Acc>| CudaTensor::upload(stream, v.view()).unwrap();
    let m = CudaSsd::new(Steps::Given { log_a: up(&case.log_a), dt: up(&case.dt) }, b, c).unwrap();
    let m = rounding(m.with_skip(CudaTensor::upload(stream, case.d.view()).unwrap()).unwrap());
    let initial = state(&case.initial);
    poison(stream);
    assert_eq!(m.matmul(&x, Some(&initial), how).unwrap().download().unwrap(), expected, "{name}");
    let cotangent = CudaOutput { y: dy, state: state(&case.cotangent.state) };
    poison(stream);
    let found = m.vjp(&x, Some(&initial), how, &cotangent).unwrap().download().unwrap();
    assert_eq!(found, slope, "{name}");
    // In place: the state travels, y is a part too, and what lies beside it stays.
    let none = Array4::from_elem(case.x.dim(), number::<T>(7.0));
    let [beside, y] = side_by_side(stream, &[&none, &none]).try_into().unwrap();
    m.matmul_into(&x, &initial, &y, how).unwrap();
    assert_eq!(y.download_as().unwrap(), expected.y, "{name}");
    assert_eq!(beside.download_as().unwrap(), none, "{name}");
    assert_eq!(initial.download_as().unwrap(), expected.state, "{name}");
}

#[test]
fn parts_give_the_bits_of_whole_tensors_in_the_exact_tier() {
    let Some(device) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    let shape = row(70, |s| (s.groups, s.head_dim, s.state_dim) = (2, 4, 5));
    for how in [Algorithm::Recurrent, Algorithm::Quadratic, Algorithm::Chunked { chunk: 64 }] {
        check(&Cuda::<f64>::on(stream.clone()), |m| m, &shape, how);
        check(&Cuda::<f32>::on(stream.clone()), |m| m, &shape, how);
    }
}

#[test]
fn parts_give_the_bits_of_whole_tensors_on_tensor_cores() {
    let Some(device) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    let small = row(70, |s| (s.groups, s.head_dim, s.state_dim) = (2, 4, 5));
    let usual = row(200, |s| s.groups = 2);
    let blocks = Algorithm::Chunked { chunk: 64 };
    for shape in [&small, &usual] {
        check(&Cuda::<f32>::on(stream.clone()).with_tf32(), CudaSsd::with_tf32, shape, blocks);
        check(&Cuda::<bf16>::on(stream.clone()), |m| m, shape, blocks);
        check(&Cuda::<f16>::on(stream.clone()), |m| m, shape, blocks);
    }
    // On a Hopper device its tier serves these.
    check(&Cuda::<bf16>::on(stream.clone()), |m| m, &usual, Algorithm::Automatic);
    check(&Cuda::<f16>::on(stream), |m| m, &usual, Algorithm::Automatic);
}
