//! What nobody should ask for, and what is easily got wrong: addresses, sizes, memory that is read and written, recordings,
//! NaN. Without a device every test says so and passes.
use crate::support::{Decay, Rounded, assert_hopper, device, refused, row};
use half::bf16;
use ndarray::{Array3, Array4, s};
use semisep::backend::cuda::{
    self, Compiler, Cuda, CudaSsd, CudaTensor, DecodeStep, Device, Element, KernelCache, Raw, Slots,
    StateElement, StepRule, Steps, Stored, Stream, kernels,
};
use semisep::ssd::{Algorithm, Squash};
use semisep::{DeviceError, Error};

fn stream() -> Option<Stream> {
    Some(Stream::new(&device()?).unwrap())
}

#[test]
#[allow(unsafe_code)]
fn addresses_and_sizes_that_cannot_be_are_typed_errors() {
    let Some(stream) = stream() else { return };
    // SAFETY: what is refused, and what is empty, is not used.
    let borrow = |pointer, shape: &[usize], pitch| unsafe {
        CudaTensor::<f32>::borrow(&stream, pointer, shape, pitch).map(drop)
    };
    let whole = CudaTensor::<f32>::filled(&stream, &[2, 9, 8], 0.0).unwrap();
    let part = |first, shape: &[usize]| whole.part(first, shape).map(drop);
    const HUGE: usize = usize::MAX;
    for (name, found) in [
        ("pointer", borrow(0, &[2, 9, 4], 4)),
        ("pointer", borrow(u64::MAX - 3, &[2, 9, 4], 4)),
        ("shape", borrow(256, &[HUGE, 2, 4], 4)),
        ("shape", borrow(256, &[2, 9, HUGE], HUGE)),
        ("shape", borrow(256, &[2, 9, 4], HUGE)),
        ("shape", borrow(256, &[1, 1, 4], HUGE)),
        ("shape", borrow(256, &[HUGE, 2, 0], 4)),
        ("part", part(HUGE, &[2, 9, 1])),
        ("part", part(0, &[2, 9, HUGE])),
        ("part", part(0, &[HUGE, 18, 1])),
        ("part", part(9, &[2, 9, 0])),
    ] {
        assert_eq!(refused(found), name);
    }
    borrow(0, &[2, 0, 4], 4).unwrap();
    part(8, &[2, 9, 0]).unwrap();
    let wrong = CudaTensor::<f32>::filled(&stream, &[HUGE, HUGE, 0], 0.0).unwrap_err();
    assert!(matches!(wrong, Error::Device(DeviceError::OutOfMemory { .. })), "{wrong:?}");
    assert_eq!(refused(Slots::new(&stream, &[HUGE], HUGE).map(drop)), "slots");
    Slots::new(&stream, &[3], HUGE).unwrap();

    let f32s = |shape: &[usize]| CudaTensor::<f32>::filled(&stream, shape, 0.5).unwrap();
    let (many, b) = (f32s(&[65536, 1, 1]), f32s(&[65536, 1, 1, 1]));
    assert_eq!(refused(DecodeStep::new(&many, &f32s(&[1]), &b, &b).map(drop)), "dt");
    assert_eq!(refused(cuda::SelectiveScan::new(&many, &f32s(&[1, 1]), &b, &b).map(drop)), "dt");
}

#[test]
fn what_is_written_is_nothing_that_is_read() {
    let Some(stream) = stream() else { return };
    let f32s = |shape: &[usize]| CudaTensor::<f32>::filled(&stream, shape, 0.5).unwrap();
    let io = [2, 9, 4, 8];
    let (x, y, b, state) = (f32s(&io), f32s(&io), f32s(&io), f32s(&[2, 4, 8, 8]));
    let scalars = f32s(&[2, 9, 4]);
    let m = CudaSsd::new(Steps::Given { log_a: scalars.clone(), dt: scalars }, b.clone(), b.clone()).unwrap();
    let into =
        |x: &CudaTensor<f32>, state, y: &CudaTensor<f32>| m.matmul_into(x, state, y, Algorithm::Recurrent);
    assert_eq!(refused(into(&x, &state, &x)), "y");
    assert_eq!(refused(into(&x, &state, &b)), "y");
    assert_eq!(refused(into(&b, &state, &b)), "y");
    let wide = f32s(&[2, 9, 64]);
    let side = |first| wide.part(first, &io).unwrap();
    assert_eq!(refused(into(&side(0), &state, &side(31))), "y");
    into(&side(0), &state, &side(32)).unwrap();
    into(&x, &state, &y).unwrap();

    let one = [2, 1, 4, 8];
    let (x, y, b, a, dt) = (f32s(&one), f32s(&one), f32s(&one), f32s(&[4]), f32s(&[2, 1, 4]));
    let step = DecodeStep::new(&dt, &a, &b, &b).unwrap();
    let mut state = state;
    assert_eq!(refused(step.step_into(&x, &mut state, &x)), "y");
    assert_eq!(refused(step.step_into(&x, &mut state, &b)), "y");
    step.step_into(&x, &mut state, &y).unwrap();
}

#[test]
#[allow(unsafe_code)]
fn a_state_in_the_memory_of_an_input_is_refused() {
    let Some(stream) = stream() else { return };
    let f32s = |shape: &[usize]| CudaTensor::<f32>::filled(&stream, shape, 0.5).unwrap();
    let room = f32s(&[2048]);
    // SAFETY: the room is longer than each of them, and is dropped last.
    let inside = |first: usize, shape: &[usize]| unsafe {
        let row = shape[shape.len().min(3) - 1..].iter().product();
        CudaTensor::<f32>::borrow(&stream, room.pointer() + 4 * first as u64, shape, row).unwrap()
    };
    let mut state = inside(1024, &[2, 4, 8, 8]);
    // One input after the other ends with the state's first number, or lies inside of it.
    for name in ["x", "b", "c", "d", "log_a", "dt", "A", "dt_bias"] {
        let place = |own: &str, shape: &[usize]| match own == name {
            true if shape.len() == 4 => inside(1025 - shape.iter().product::<usize>(), shape),
            true => inside(1100, shape),
            false => f32s(shape),
        };
        let steps = match name {
            "A" | "dt_bias" => {
                let rule = StepRule::default().bias(place("dt_bias", &[4]));
                Steps::Raw { dt: Raw::Computed(f32s(&[2, 9, 4])), a: place("A", &[4]), rule }
            }
            _ => Steps::Given { log_a: place("log_a", &[2, 9, 4]), dt: place("dt", &[2, 9, 4]) },
        };
        let (x, y) = (place("x", &[2, 9, 4, 8]), f32s(&[2, 9, 4, 8]));
        let [b, c] = ["b", "c"].map(|own| place(own, &[2, 9, 1, 8]));
        let m = CudaSsd::new(steps, b, c).unwrap().with_skip(place("d", &[4, 1])).unwrap();
        assert_eq!(overlap(m.matmul_into(&x, &state, &y, Algorithm::Recurrent)), ("state", name.into()));

        let (dt, a, d) = (place("dt", &[2, 1, 4]), place("A", &[4]), place("d", &[4, 1]));
        let [b, c] = ["b", "c"].map(|own| place(own, &[2, 1, 1, 8]));
        let (x, y) = (place("x", &[2, 1, 4, 8]), f32s(&[2, 1, 4, 8]));
        let step = DecodeStep::new(&dt, &a, &b, &c).unwrap().with_skip(&d).unwrap();
        let step = step.with_rule(StepRule::default().bias(place("dt_bias", &[4]))).unwrap();
        match name {
            "log_a" => step.step_into(&x, &mut state, &y).unwrap(), // a step has none
            _ => assert_eq!(overlap(step.step_into(&x, &mut state, &y)), ("state", name.into())),
        }
    }
}

/// What is written, and what would be read there.
fn overlap(found: semisep::Result<()>) -> (&'static str, String) {
    match found.unwrap_err() {
        Error::Value { tensor, found, .. } => {
            (tensor, found.trim_start_matches("memory of `").trim_end_matches('`').into())
        }
        other => panic!("{other:?}"),
    }
}

/// With blocks longer than all sequences there is one block a sequence, as the quadratic form has it.
#[test]
fn a_chunk_of_any_length_is_a_chunk() {
    let Some(stream) = stream() else { return };
    let shape = row(70, |s| (s.head_dim, s.state_dim, s.cuts) = (4, 5, vec![1, 2, 30]));
    let case = Rounded::<f64>::new(&shape, Decay::Mild);
    let cuda = Cuda::<f64>::on(stream);
    let found = case.found(&cuda, Algorithm::Chunked { chunk: usize::MAX });
    assert_eq!(found, case.found(&cuda, Algorithm::Quadratic));

    let long = |shape: &[usize]| CudaTensor::<f32>::filled(cuda.stream(), shape, 0.5).unwrap();
    let len = 32 * 65535 + 1;
    let (scalars, wide) = (long(&[1, len, 1]), long(&[1, len, 1, 1]));
    let m = CudaSsd::new(Steps::Given { log_a: scalars.clone(), dt: scalars }, wide.clone(), wide.clone());
    assert_eq!(refused(m.unwrap().matmul(&wide, None, Algorithm::Quadratic).map(drop)), "chunk");
}

/// y of raw steps of which one is NaN: so is all of the head from there on. What is before it in its block may be, too.
fn check_nan<T: Stored>(stream: &Stream, how: Algorithm) {
    let up = |v: f64, shape: &[usize]| CudaTensor::<T>::filled(stream, shape, v).unwrap();
    let acc = |v: f64, shape: &[usize]| CudaTensor::<T::Acc>::filled(stream, shape, v).unwrap();
    let (len, at) = (130, 70);
    let mut raw = Array3::<T::Acc>::from_elem((1, len, 2), num_traits::cast(0.1).unwrap());
    raw[[0, at, 1]] = num_traits::cast(f64::NAN).unwrap();
    let rule = StepRule::default().squash(Squash::Softplus).limits(0.01, 1.0).unwrap();
    let dt = Raw::Computed(CudaTensor::upload(stream, raw.view()).unwrap());
    let steps = Steps::Raw { dt, a: acc(-0.1, &[2]), rule };
    let generator = || up(0.5, &[1, len, 1, 64]);
    let m = CudaSsd::<T>::new(steps, generator(), generator()).unwrap();
    let x = up(1.0, &[1, len, 2, 64]);
    let out = m.matmul(&x, None, how).unwrap();
    assert_hopper(&m, how, &x, &out.y);
    let y = out.download().unwrap().y;
    let numbers = |from: usize, to: usize, h: usize| {
        y.slice(s![0, from..to, h, ..]).iter().filter(|v| v.widen() == v.widen()).count()
    };
    let name = format!("{} {how:?}", T::NAME);
    assert_eq!(numbers(0, len, 0), len * 64, "{name}: the other head");
    assert_eq!(numbers(at, len, 1), 0, "{name}: from the step on");
    assert_eq!(numbers(0, 64, 1), 64 * 64, "{name}: the block before");
}

#[test]
fn a_step_that_is_no_number_is_not_hidden_by_limits() {
    let Some(stream) = stream() else { return };
    for how in [Algorithm::Recurrent, Algorithm::Chunked { chunk: 64 }, Algorithm::Automatic] {
        check_nan::<f64>(&stream, how);
        check_nan::<f32>(&stream, how);
        check_nan::<bf16>(&stream, how);
    }
    let f32s = |v: f64, shape: &[usize]| CudaTensor::<f32>::filled(&stream, shape, v).unwrap();
    let rule = || StepRule::default().squash(Squash::Softplus).limits(0.01, 1.0).unwrap();
    let (dt, a, b) = (f32s(f64::NAN, &[1, 1, 2]), f32s(-0.1, &[2]), f32s(0.5, &[1, 1, 1, 8]));
    let step = DecodeStep::new(&dt, &a, &b, &b).unwrap().with_rule(rule()).unwrap();
    let y = step.step(&f32s(1.0, &[1, 1, 2, 8]), &mut f32s(0.0, &[1, 2, 8, 8])).unwrap();
    assert!(y.download().unwrap().iter().all(|v| v.is_nan()));
    let a = f32s(-0.1, &[2, 8]);
    let m = cuda::SelectiveScan::new(&dt, &a, &b, &b).unwrap().with_rule(rule()).unwrap();
    let y = m.matmul(&f32s(1.0, &[1, 1, 2]), None).unwrap().y;
    assert!(y.download().unwrap().iter().all(|v| v.is_nan()));
}

#[test]
fn recording_fails_with_a_typed_error_and_leaves_the_stream_as_it_was() {
    let Some(stream) = stream() else { return };
    let numbers = Array4::<f32>::ones((1, 2, 3, 4));
    let there = CudaTensor::upload(&stream, numbers.view()).unwrap();
    let copies: [&dyn Fn() -> semisep::Result<()>; 3] =
        [&|| CudaTensor::upload(&stream, numbers.view()).map(drop), &|| there.download().map(drop), &|| {
            stream.record(|| Ok(())).map(drop)
        }];
    for copy in copies {
        let wrong = stream.record(copy).unwrap_err();
        assert!(matches!(wrong, Error::Device(DeviceError::Driver { .. })), "{wrong:?}");
        assert_eq!(there.download_as().unwrap(), numbers);
    }
    let panicked = std::panic::catch_unwind(|| stream.record(|| panic!("for the test")));
    assert!(panicked.is_err());
    assert_eq!(there.download_as().unwrap(), numbers);
}

#[test]
#[allow(unsafe_code)]
fn recorded_products_of_packed_sequences_are_those_that_were_recorded() {
    let Some(stream) = stream() else { return };
    let shape = row(300, |s| (s.batch, s.cuts, s.per_sequence) = (1, vec![64, 200], true));
    let case = Rounded::<bf16>::new(&shape, Decay::Mild);
    let cuda = Cuda::<bf16>::on(stream.clone());
    case.assert_hopper(&cuda);
    let m = cuda.upload(&case.matrix()).unwrap();
    let (x, initial) = (
        CudaTensor::upload(&stream, case.x.view()).unwrap(),
        CudaTensor::upload(&stream, case.initial.view()).unwrap(),
    );
    let state = initial.duplicate().unwrap();
    let y = CudaTensor::<bf16>::filled(&stream, x.shape(), f64::NAN).unwrap();
    let product = || m.matmul_into(&x, &state, &y, Algorithm::Automatic);
    product().unwrap();
    let expected = (y.download().unwrap(), state.download().unwrap());
    let graph = stream.record(product).unwrap();
    let nothing = CudaTensor::<bf16>::filled(&stream, x.shape(), f64::NAN).unwrap();
    for _ in 0..2 {
        y.copy_from(&nothing).unwrap();
        state.copy_from(&initial).unwrap();
        // SAFETY: all tensors are still here.
        unsafe { graph.launch() }.unwrap();
        assert_eq!((y.download().unwrap(), state.download().unwrap()), expected);
    }
}

#[test]
#[allow(unsafe_code)]
fn a_recorded_step_finds_the_slots_that_were_given_since() {
    let Some(stream) = stream() else { return };
    let f32s = |v: f64, shape: &[usize]| CudaTensor::<f32>::filled(&stream, shape, v).unwrap();
    let (dt, a, b) = (f32s(1.0, &[2, 1, 1]), f32s(0.0, &[1]), f32s(1.0, &[2, 1, 1, 4]));
    let (x, y) = (f32s(1.0, &[2, 1, 1, 4]), f32s(0.0, &[2, 1, 1, 4]));
    let mut pool = f32s(0.0, &[5, 1, 4, 4]);
    let mut slots = Slots::new(&stream, &[0, 1], 5).unwrap();
    let step = DecodeStep::new(&dt, &a, &b, &b).unwrap();
    let graph = {
        let step = step.with_slots(&slots).unwrap();
        step.step_into(&x, &mut pool, &y).unwrap(); // every number of states 0 and 1 is 1
        stream.record(|| step.step_into(&x, &mut pool, &y)).unwrap()
    };
    for wrong in [&[0usize][..], &[3, 3], &[3, 5]] {
        assert_eq!(refused(slots.assign(wrong)), "slots");
    }
    slots.assign(&[4, 1]).unwrap();
    // SAFETY: all tensors are still here.
    unsafe { graph.launch() }.unwrap();
    let pool: Array4<f32> = pool.download_as().unwrap();
    let sums: Vec<f32> = pool.outer_iter().map(|state| state.sum() / 16.0).collect();
    assert_eq!(sums, [1.0, 2.0, 0.0, 0.0, 1.0]);
}

/// Steps back to back, the slots given anew before each, against steps of single sequences that are waited for.
fn check_slots<S: StateElement + Stored + PartialEq>(stream: &Stream) {
    let (pool, batch, heads, head_dim, state_dim) = (7, 3, 80, 64, 128);
    let start = CudaTensor::<S>::noise(stream, &[pool, heads, head_dim, state_dim], 1, -1.0, 1.0).unwrap();
    let (mut together, alone) = (start.duplicate().unwrap(), start.duplicate().unwrap());
    let a = CudaTensor::<f32>::noise(stream, &[heads], 2, -2.0, -0.1).unwrap();
    let inputs: Vec<_> = (0..20)
        .map(|k| {
            let noise = |n, shape: [usize; 4]| {
                CudaTensor::<bf16>::noise(stream, &shape, 10 * k + n, -1.0, 1.0).unwrap()
            };
            let dt = CudaTensor::<f32>::noise(stream, &[batch, 1, heads], 10 * k, 0.01, 0.5).unwrap();
            let generator = [batch, 1, 1, state_dim];
            (dt, noise(1, generator), noise(2, generator), noise(3, [batch, 1, heads, head_dim]))
        })
        .collect();
    let owned = |k: usize| [2 * k % pool, (2 * k + 1) % pool, (2 * k + 3) % pool];
    let mut slots = Slots::new(stream, &owned(0), pool).unwrap();
    stream.synchronize().unwrap();
    let mut found = Vec::new();
    for (k, (dt, b, c, x)) in inputs.iter().enumerate() {
        slots.assign(&owned(k)).unwrap();
        let step = DecodeStep::new(dt, &a, b, c).unwrap().with_slots(&slots).unwrap();
        found.push(step.step(x, &mut together).unwrap());
    }
    for (k, (dt, b, c, x)) in inputs.iter().enumerate() {
        for (row, slot) in owned(k).into_iter().enumerate() {
            let (dt, mut state) = (outer(dt, row), outer(&alone, slot));
            let [b, c, x, y] = [b, c, x, &found[k]].map(|v| outer(v, row));
            let single = DecodeStep::new(&dt, &a, &b, &c).unwrap().step(&x, &mut state).unwrap();
            let name = format!("{} step {k}, sequence {row}", S::NAME);
            assert!(single.download().unwrap() == y.download().unwrap(), "{name}");
        }
    }
    assert!(together.download().unwrap() == alone.download().unwrap(), "{}: states", S::NAME);
}

/// One entry of the first axis, as an axis of one.
#[allow(unsafe_code)]
fn outer<T: Element>(tensor: &CudaTensor<T>, at: usize) -> CudaTensor<T> {
    let shape = [&[1], &tensor.shape()[1..]].concat();
    let (entry, row) = (shape.iter().product::<usize>(), shape[2..].iter().product());
    let pointer = tensor.pointer() + (at * entry * size_of::<T>()) as u64;
    // SAFETY: it lies inside of the tensor, which is dropped later.
    unsafe { CudaTensor::borrow(tensor.stream(), pointer, &shape, row) }.unwrap()
}

#[test]
fn slots_given_anew_between_steps_are_those_of_the_next_step() {
    let Some(stream) = stream() else { return };
    check_slots::<f32>(&stream);
    check_slots::<bf16>(&stream);
}

#[test]
fn an_entry_that_the_driver_does_not_load_is_compiled_again() {
    let (Some(device), Ok(compiler)) = (device(), Compiler::find()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = KernelCache::at(folder.path());
    let programs = kernels::programs(kernels::Shape::default());
    let fill = programs.iter().find(|p| p.to_string() == "fill.cu STORED_F32=1").unwrap();
    let target = compiler.target(device.architecture()).unwrap();
    let nonsense = [&b"\x7fELF"[..], &[0; 4096]].concat();
    cache.keep(fill, target, compiler, &nonsense);
    let stream = Stream::new(&Device::with_cache(0, cache.clone()).unwrap()).unwrap();
    let filled = CudaTensor::<f32>::filled(&stream, &[7], 2.0).unwrap();
    assert!(filled.download().unwrap().iter().all(|&v| v == 2.0));
    assert_ne!(cache.image(fill, target).unwrap().0, nonsense);
}
