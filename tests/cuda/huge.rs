//! Tensors of more than 2^31 elements. Without a device, or the memory for them, the test says so and passes.
use crate::support::{device, limit, relative};
use half::bf16;
use ndarray::{Array3, Array4, s};
use semisep::backend::cuda::{CudaOutput, CudaSsd, CudaTensor, Steps, Stream};
use semisep::ssd::{Algorithm, Output, Ssd};
use semisep::{DeviceError, Error};

/// The last rows of a tensor of two axes of rows, as one row of their own.
#[allow(unsafe_code)]
fn last_rows(t: &CudaTensor<bf16>, rows: usize) -> CudaTensor<bf16> {
    let [_, _, parts, columns] = *t.shape() else { unreachable!("four axes") };
    let at = t.pointer() + 2 * ((t.rows() - rows) * t.pitch()) as u64;
    // SAFETY: the rows are the last of `t`, which outlives its use.
    unsafe { CudaTensor::borrow(t.stream(), at, &[1, rows, parts, columns], t.pitch()) }.unwrap()
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
    for shape in [[1, (1 << 19) + 100], [1748, 300]] {
        match check_huge(&stream, shape) {
            Err(Error::Device(DeviceError::OutOfMemory { .. })) => println!("skipped: too little memory"),
            other => other.unwrap(),
        }
    }
}
