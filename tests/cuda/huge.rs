//! Tensors of more than 2^31 elements. Without a device, or the memory for them, a test says so and passes.
use crate::support::{device, limit, relative, widened};
use half::bf16;
use ndarray::{Array2, Array3, Array4, ArrayD, Axis, Ix3, Ix4, Slice, s};
use semisep::backend::cuda::{self, CudaOutput, CudaSsd, CudaTensor, Steps, Stored, Stream};
use semisep::ssd::{self, Algorithm, Output, Ssd};
use semisep::{DeviceError, Error};
use std::sync::{Mutex, PoisonError};

/// Tests that each need about half of a large device take turns.
static TURN: Mutex<()> = Mutex::new(());

fn skipped_without_memory(found: semisep::Result<()>) {
    match found {
        Err(Error::Device(DeviceError::OutOfMemory { .. })) => println!("skipped: too little memory"),
        other => other.unwrap(),
    }
}

/// The last positions of a tensor (batch, len, ..) as a row of their own.
#[allow(unsafe_code)]
fn last_rows<T: Stored>(t: &CudaTensor<T>, rows: usize) -> CudaTensor<T> {
    let shape: Vec<usize> = [1, rows].iter().chain(&t.shape()[2..]).copied().collect();
    let at = t.pointer() + (size_of::<T>() * (t.rows() - rows) * t.pitch()) as u64;
    // SAFETY: the rows are the last of `t`, which outlives its use.
    unsafe { CudaTensor::borrow(t.stream(), at, &shape, t.pitch()) }.unwrap()
}

/// Products and gradients of x, b, c and dy of 2^31 elements and more each (35 GB for them and the answers, 70 GB in all);
/// the last positions of the last heads are judged by the CPU. Nothing is left of what is 200 positions away.
fn check_huge(stream: &Stream, [batch, len]: [usize; 2]) -> semisep::Result<()> {
    let (heads, width, tail, judged) = (64, 64, 300, 2);
    let shape = [batch, len, heads, width];
    assert!(shape.iter().product::<usize>() > 1 << 31);
    let [x, b, c, dy] = [1, 2, 3, 4].map(|seed| CudaTensor::<bf16>::noise(stream, &shape, seed, -1.0, 1.0));
    let (x, b, c, dy) = (x?, b?, c?, dy?);
    let scalars = |value| CudaTensor::<f32>::filled(stream, &shape[..3], value);
    let m = CudaSsd::new(Steps::Given { log_a: scalars(-1.0)?, dt: scalars(1.0)? }, b.clone(), c.clone())?;

    let heads_of = |t: &CudaTensor<bf16>| {
        let all: Array4<bf16> = last_rows(t, tail).download_as().unwrap();
        all.slice(s![.., .., heads - judged.., ..]).mapv(|v| f64::from(v.to_f32()))
    };
    let steps = Array3::from_elem((1, tail, judged), 1.0);
    let [x64, b64, c64, dy64] = [&x, &b, &c, &dy].map(heads_of);
    let log_a = -&steps;
    let short = Ssd::new(log_a.view(), steps.view(), b64.view(), c64.view())?;
    let expected = short.matmul(x64.view(), None, Algorithm::Recurrent)?;
    let cotangent = Output { y: dy64, state: Array4::zeros(expected.state.raw_dim()) };
    let slope = short.vjp(x64.view(), None, Algorithm::Recurrent, &cotangent)?;
    let last = s![.., tail - 100.., .., ..];
    let close = |name, found: &CudaTensor<bf16>, expected: &Array4<f64>| {
        let error = relative(heads_of(found).slice(last), expected.slice(last));
        assert!(error <= limit::<bf16>(name), "{batch} x {len}: {name} off by {error:e}");
    };
    for how in [Algorithm::Recurrent, Algorithm::Chunked { chunk: 64 }, Algorithm::Automatic] {
        let y = CudaTensor::<bf16>::filled(stream, &shape, f64::NAN)?;
        let state = CudaTensor::<f32>::filled(stream, &[batch, heads, width, width], 0.0)?;
        m.matmul_into(&x, &state, &y, how)?;
        close("y", &y, &expected.y);
    }
    let state = CudaTensor::<f32>::filled(stream, &[batch, heads, width, width], 0.0)?;
    let cotangent = CudaOutput { y: dy, state };
    for how in [Algorithm::Chunked { chunk: 64 }, Algorithm::Automatic] {
        let found = m.vjp(&x, None, how, &cotangent)?;
        close("dx", &found.x, &slope.x);
        close("db", &found.b, &slope.b);
        close("dc", &found.c, &slope.c);
    }
    Ok(())
}

#[test]
fn tensors_of_more_than_two_billion_elements_are_computed_to_their_end() {
    let Some(device) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for shape in [[1, (1 << 19) + 100], [1748, 300]] {
        skipped_without_memory(check_huge(&stream, shape));
    }
}

/// A scan whose x, y and steps have 2^31 elements and more (60 GB with its vjp); the last positions of all channels are judged
/// by the CPU. Nothing is left of what is 200 positions away.
fn check_huge_scan(stream: &Stream) -> semisep::Result<()> {
    let (channels, state_dim, tail, judged) = (4096, 4, 300, 100);
    let len = (1 << 19) + 100;
    let io = [1, len, channels];
    assert!(io.iter().product::<usize>() > 1 << 31);
    let noise = |shape: &[usize], seed| CudaTensor::<bf16>::noise(stream, shape, seed, -1.0, 1.0);
    let generators = [1, len, 1, state_dim];
    let (x, dy, b, c) = (noise(&io, 1)?, noise(&io, 2)?, noise(&generators, 3)?, noise(&generators, 4)?);
    let (dt, a) =
        (CudaTensor::filled(stream, &io, 1.0)?, CudaTensor::filled(stream, &[channels, state_dim], -1.0)?);
    let m = cuda::SelectiveScan::new(&dt, &a, &b, &c)?;

    let rows = |t: &CudaTensor<bf16>| widened::<bf16, Ix3>(&last_rows(t, tail).download_as().unwrap());
    let features = |t: &CudaTensor<bf16>| widened::<bf16, Ix4>(&last_rows(t, tail).download_as().unwrap());
    let (steps, rates) = (Array3::ones((1, tail, channels)), Array2::from_elem((channels, state_dim), -1.0));
    let (b64, c64) = (features(&b), features(&c));
    let short = ssd::SelectiveScan::new(steps.view(), rates.view(), b64.view(), c64.view())?;
    let expected = short.matmul(rows(&x).view(), None)?;
    let cotangent = ssd::ScanOutput { y: rows(&dy), state: Array3::zeros(expected.state.raw_dim()) };
    let slope = short.vjp(rows(&x).view(), None, &cotangent)?;

    let close = |name, found: ArrayD<f64>, expected: ArrayD<f64>, limit| {
        let [found, expected] =
            [&found, &expected].map(|v| v.slice_axis(Axis(1), Slice::from(tail - judged..)));
        let error = relative(found, expected);
        assert!(error <= limit, "{name} off by {error:e}");
    };
    let of_type = limit::<bf16>("y");
    let y = m.matmul(&x, None)?.y;
    close("y", rows(&y).into_dyn(), expected.y.into_dyn(), of_type);
    drop(y);
    let state = CudaTensor::<f32>::filled(stream, &[1, channels, state_dim], 0.0)?;
    let found = m.vjp(&x, None, &cuda::ScanOutput { y: dy, state })?;
    close("dx", rows(&found.x).into_dyn(), slope.x.into_dyn(), of_type);
    close("db", features(&found.b).into_dyn(), slope.b.into_dyn(), of_type);
    close("dc", features(&found.c).into_dyn(), slope.c.into_dyn(), of_type);
    let steps: Array3<f32> = last_rows(&found.raw_dt, tail).download_as()?;
    close("ddt", steps.mapv(f64::from).into_dyn(), slope.dt.into_dyn(), 2e-5);
    Ok(())
}

#[test]
fn a_scan_of_more_than_two_billion_elements_is_computed_to_its_end() {
    let Some(device) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    skipped_without_memory(check_huge_scan(&stream));
}
