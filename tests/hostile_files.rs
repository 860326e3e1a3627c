//! Files that are not what they should be: an error, never a panic, never memory by a length that stands in the file.
#![allow(unsafe_code)]

#[path = "model/files.rs"]
mod files;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Cursor, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use files::Files;
use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// The largest piece of memory that was asked for.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
struct Watched;

// SAFETY: all is passed on to the system's allocator, which keeps the contract; a counter is not memory.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` is from `System`, by `alloc` above or by the `realloc` that goes through it.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// Opens what is there and reads every weight; what it says if that fails.
fn read(files: &Files) -> Result<(), String> {
    let model = files.open().and_then(|checkpoint| checkpoint.model::<f32>());
    let largest = LARGEST.load(Ordering::Relaxed);
    assert!(largest < 32 << 20, "asked for {largest} bytes at once");
    let model = model.map_err(|wrong| wrong.to_string())?;
    model.for_each(|_, weight| assert_eq!(weight.to_array().shape(), weight.shape()));
    Ok(())
}

const CASES: [(&str, &str); 4] = [
    ("model_tiny", "model.safetensors"),
    ("model_original_layout", "pytorch_model.bin"),
    ("model_tiny", "config.json"),
    ("model_hybrid", "config.json"),
];

/// Where a file says how it is to be read, as shares of its bytes: headers in front, the directory of a zip archive behind.
fn places() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..0.05, 0.0..0.0005, 0.97..1.0, 0.0..1.0]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_shortened_file_is_an_error((case, kept) in (0..4_usize, places())) {
        let (model, file) = CASES[case];
        let files = Files::of(model);
        let bytes = std::fs::read(files.path(file)).unwrap();
        let bytes = bytes.trim_ascii_end();
        files.write(file, &bytes[..(kept * bytes.len() as f64) as usize]);
        prop_assert!(read(&files).is_err(), "{file} without its end");
    }

    #[test]
    fn changed_bytes_never_do_harm(
        case in 0..4_usize,
        changes in proptest::collection::vec((places(), any::<u8>()), 1..12),
        repeated in 1..9_usize,
    ) {
        let (model, file) = CASES[case];
        let files = Files::of(model);
        let mut bytes = std::fs::read(files.path(file)).unwrap();
        for (place, byte) in changes {
            let place = (place * bytes.len() as f64) as usize;
            bytes.iter_mut().skip(place).take(repeated).for_each(|b| *b = byte);
        }
        files.write(file, &bytes);
        let _ = read(&files); // changed weights are weights
    }

    #[test]
    fn pieces_left_out_or_doubled_never_do_harm(case in 0..4_usize, place in places(), len in 1..64_usize, doubled: bool) {
        let (model, file) = CASES[case];
        let files = Files::of(model);
        let mut bytes = std::fs::read(files.path(file)).unwrap();
        let start = (place * (bytes.len() - 1) as f64) as usize;
        let end = (start + len).min(bytes.len());
        if doubled {
            let piece = bytes[start..end].to_vec();
            bytes.splice(start..start, piece);
        } else {
            bytes.drain(start..end);
        }
        files.write(file, &bytes);
        let _ = read(&files);
    }

    #[test]
    fn changed_pickles_never_do_harm(changes in proptest::collection::vec((0.0..1.0, any::<u8>()), 1..6), shift in 0..4_usize) {
        let files = Files::of("model_original_layout");
        rewrite(&files.path("pytorch_model.bin"), |pickle| {
            for (place, byte) in changes {
                let place = (place * pickle.len() as f64) as usize;
                pickle[place] = byte;
                pickle.rotate_left(if shift == 0 { place } else { 0 });
            }
        });
        let _ = read(&files);
    }

    #[test]
    fn large_numbers_in_a_header_or_configuration_never_do_harm(case in 0..4_usize, which in 0..400_usize, number in prop_oneof![
        Just("18446744073709551615"), Just("9223372036854775808"), Just("4294967296"), Just("268435456"), Just("0"),
        Just("-1"), Just("1e30"), Just("16384"), Just("99999999999999999999999")
    ]) {
        let (model, file) = CASES[if case == 1 { 0 } else { case }];
        let files = Files::of(model);
        let bytes = std::fs::read(files.path(file)).unwrap();
        let (len, text) = match file {
            "model.safetensors" => (u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize, &bytes[8..]),
            _ => (bytes.len(), &bytes[..]),
        };
        let header = std::str::from_utf8(&text[..len]).unwrap();
        let changed = with_number(header, which, number);
        let prefix = (changed.len() as u64).to_le_bytes();
        let prefix = if file == "config.json" { &[][..] } else { &prefix };
        files.write(file, &[prefix, changed.as_bytes(), &text[len..]].concat());
        let _ = read(&files);
    }
}

/// Writes an archive again with another pickle, so that all checksums are right.
fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut archive = ZipArchive::new(Cursor::new(std::fs::read(path).unwrap())).unwrap();
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut change = Some(change);
    for k in 0..archive.len() {
        let mut record = archive.by_index(k).unwrap();
        let name = record.name().unwrap().into_owned();
        let mut content = Vec::new();
        record.read_to_end(&mut content).unwrap();
        if let Some(change) = name.ends_with("data.pkl").then(|| change.take()).flatten() {
            change(&mut content);
        }
        writer.start_file(name, options).unwrap();
        writer.write_all(&content).unwrap();
    }
    std::fs::write(path, writer.finish().unwrap().into_inner()).unwrap();
}

#[test]
fn an_archive_written_again_is_read_and_a_pickle_that_lies_is_refused() {
    let lie = |from: &'static [u8], to: &'static [u8]| {
        let files = Files::of("model_original_layout");
        rewrite(&files.path("pytorch_model.bin"), |pickle| {
            let place = pickle.windows(from.len()).position(|w| w == from).unwrap();
            pickle[place..place + from.len()].copy_from_slice(to);
        });
        read(&files)
    };
    assert_eq!(lie(b"cpu", b"gpu"), Ok(()));
    let wrong = lie(b"torch\nFloatStorage", b"torch\nFloatXXXXXXX").unwrap_err();
    assert!(wrong.contains("FloatXXXXXXX") && wrong.contains("type"), "{wrong}");
    let wrong = lie(b"_rebuild_tensor_v2", b"_rebuild_tensor_v9").unwrap_err();
    assert!(wrong.contains("calls `torch._utils._rebuild_tensor_v9`, which was not done"), "{wrong}");
    // BININT2 3584, the numbers of the embedding's storage (112, 32), made twice as many
    let wrong = lie(b"M\x00\x0e", b"M\x00\x1c").unwrap_err();
    assert!(wrong.contains("expected 7168 numbers of f32, found 14336 bytes"), "{wrong}");
    // BININT1 112 and 32, its shape, made taller
    let wrong = lie(b"KpK ", b"K\xffK ").unwrap_err();
    assert!(wrong.contains("does not fit into a storage of 3584 numbers"), "{wrong}");
}

/// `text` with `number` for its `which`-th number, counted around.
fn with_number(text: &str, which: usize, number: &str) -> String {
    let digit = |k: usize| text.as_bytes()[k].is_ascii_digit();
    let starts: Vec<usize> = (1..text.len()).filter(|&k| digit(k) && !digit(k - 1)).collect();
    let start = starts[which % starts.len()];
    let end = (start..text.len()).find(|&k| !digit(k)).unwrap_or(text.len());
    format!("{}{number}{}", &text[..start], &text[end..])
}
