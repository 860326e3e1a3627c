//! The tool, run as its users run it.

use crate::support::{GOLDEN, Tensors, fails, golden, run, succeeds};
use safetensors::Dtype;
use tempfile::tempdir;

#[test]
fn verify_passes_on_the_cases_that_come_with_the_tool_and_on_their_files() {
    let embedded = succeeds(&["verify"]);
    let paths: Vec<_> = GOLDEN.iter().map(|name| golden(name)).collect();
    let mut arguments = vec!["verify", "--all"];
    arguments.extend(paths.iter().map(String::as_str));
    let read = succeeds(&arguments);
    for text in [&embedded, &read] {
        for name in GOLDEN {
            assert!(text.contains(name), "{name} is missing in\n{text}");
        }
        for word in ["quadratic", "recurrent", "chunked 1 ", "automatic", "f64", "f32", "grad_"] {
            assert!(text.contains(word), "{word} is missing in\n{text}");
        }
        assert!(!text.contains("EXCEEDED"));
    }
}

#[test]
fn verify_fails_where_a_reference_is_off() {
    let folder = tempdir().unwrap();
    let off = |tensor: &str, change: &dyn Fn(f64) -> f64| {
        let path = folder.path().join("off.safetensors");
        let mut file = Tensors::read(&golden("everything"));
        let mut values = file.numbers(tensor);
        values[0] = change(values[0]);
        file.set_numbers(tensor, &values);
        file.write(&path);
        let output = run(&["verify", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{tensor}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("EXCEEDED"), "{tensor}");
        assert!(output.stderr.is_empty());
    };
    for tensor in ["y", "final_state", "grad_x", "grad_A", "grad_D", "grad_z", "grad_dt_bias", "grad_init"] {
        off(tensor, &|v| v + 1e-3);
        off(tensor, &|_| f64::NAN);
    }
    off("grad_A", &|v| v * (1.0 + 1e-8));
}

#[test]
fn verify_needs_every_reference() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("lacks.safetensors");
    for tensor in ["y", "final_state", "dy", "dfinal_state", "grad_x", "grad_dt_bias", "grad_init"] {
        let mut file = Tensors::read(&golden("everything"));
        file.remove(tensor);
        file.write(&path);
        fails(&["verify", path.to_str().unwrap()], &["lacks.safetensors", &format!("`{tensor}`"), "missing"]);
    }
}

#[test]
fn ssd_reproduces_the_references_in_every_type() {
    let folder = tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let types = [
        ("f64", (Dtype::F64, Dtype::F64), 1e-10),
        ("f32", (Dtype::F32, Dtype::F32), 1e-4),
        ("f16", (Dtype::F16, Dtype::F32), 5e-3),
        ("bf16", (Dtype::BF16, Dtype::F32), 4e-2),
    ];
    for name in ["plain", "everything", "skip_per_channel", "skip_gate", "packed_sequences", "one_step"] {
        let input = golden(name);
        let reference = Tensors::read(&input);
        for (dtype, (stored, computed), limit) in types {
            succeeds(&["ssd", &input, "-o", out.to_str().unwrap(), "--dtype", dtype, "--grad"]);
            let found = Tensors::read(out.to_str().unwrap());
            let names: Vec<_> = reference.names().filter(|n| is_result(n)).collect();
            assert_eq!(names, found.names().collect::<Vec<_>>(), "{name} {dtype}");
            for tensor in names {
                let own = ["y", "grad_x", "grad_B", "grad_C", "grad_z"].contains(&tensor);
                assert_eq!(
                    found.dtype(tensor),
                    if own { stored } else { computed },
                    "{name} {dtype} {tensor}"
                );
                assert_eq!(found.shape(tensor), reference.shape(tensor), "{name} {dtype} {tensor}");
                let error = relative_error(&found.numbers(tensor), &reference.numbers(tensor));
                assert!(error <= limit, "{name} {dtype} {tensor}: {error:e}");
            }
        }
    }
}

#[test]
fn ssd_gives_the_same_by_every_algorithm() {
    let folder = tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let input = golden("everything");
    let expected = Tensors::read(&input);
    let ways: [&[&str]; 7] = [
        &[],
        &["--algorithm", "quadratic"],
        &["--algorithm", "recurrent"],
        &["--algorithm", "chunked"],
        &["--algorithm", "chunked", "--chunk", "1"],
        &["--chunk", "7"],
        &["--chunk", "18446744073709551615"],
    ];
    for way in ways {
        let mut arguments = vec!["ssd", &input, "-o", out.to_str().unwrap()];
        arguments.extend(way);
        succeeds(&arguments);
        let found = Tensors::read(out.to_str().unwrap());
        assert_eq!(found.names().collect::<Vec<_>>(), ["final_state", "y"], "no gradients unless asked");
        assert!(relative_error(&found.numbers("y"), &expected.numbers("y")) <= 1e-10, "{way:?}");
    }
}

#[test]
fn ssd_reads_sixteen_bit_inputs_and_empty_rows() {
    let folder = tempdir().unwrap();
    let (input, out) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    let paths = ["ssd", input.to_str().unwrap(), "-o", out.to_str().unwrap()];
    let mut file = Tensors::read(&golden("plain"));
    let expected = file.numbers("y");
    for tensor in ["x", "B"] {
        file.round_to_bf16(tensor);
    }
    file.write(&input);
    succeeds(&paths);
    let error = relative_error(&Tensors::read(paths[3]).numbers("y"), &expected);
    assert!(error > 1e-6 && error < 2e-2, "{error:e}");

    let mut file = Tensors::default();
    for (tensor, shape) in [("x", vec![2, 0, 4, 3]), ("dt", vec![2, 0, 4]), ("B", vec![2, 0, 1, 5])] {
        file.insert_f64(tensor, shape, &[]);
    }
    file.insert_f64("C", vec![2, 0, 1, 5], &[]);
    file.insert_f64("A", vec![4], &[-1.0; 4]);
    file.insert_f64("init", vec![2, 4, 3, 5], &[0.5; 120]);
    file.write(&input);
    succeeds(&paths);
    let found = Tensors::read(paths[3]);
    assert_eq!((found.shape("y"), found.numbers("final_state")), (&[2, 0, 4, 3][..], vec![0.5; 120]));
}

#[test]
fn bad_tensors_are_named_and_leave_no_output() {
    type Change = Box<dyn Fn(&mut Tensors)>;
    let missing = |tensor: &'static str| -> Change { Box::new(move |f| f.remove(tensor)) };
    let shaped = |tensor: &'static str, shape: &'static [usize]| -> Change {
        Box::new(move |f| f.insert_f64(tensor, shape.to_vec(), &vec![0.1; shape.iter().product()]))
    };
    let holds = |tensor: &'static str, v: f64| -> Change {
        Box::new(move |f| {
            let mut values = f.numbers(tensor);
            values[1] = v;
            f.set_numbers(tensor, &values);
        })
    };
    let typed = |tensor: &'static str, dtype| -> Change { Box::new(move |f| f.relabel(tensor, dtype)) };
    let ids = |ids: [i32; 16]| -> Change { Box::new(move |f| f.insert_i32("seq_idx", vec![1, 16], &ids)) };
    let option =
        |key: &'static str, value: &'static str| -> Change { Box::new(move |f| f.set_metadata(key, value)) };
    let mut decreasing = [0; 16];
    decreasing[3] = 2;
    let cases: Vec<(&str, &str, Change)> = vec![
        ("`x`", "missing", missing("x")),
        ("`dt`", "missing", missing("dt")),
        ("`A`", "missing", missing("A")),
        ("`B`", "missing", missing("B")),
        ("`C`", "missing", missing("C")),
        ("`dy`", "missing", missing("dy")),
        ("`dfinal_state`", "missing", missing("dfinal_state")),
        ("`x`", "[16, 2, 4]", shaped("x", &[16, 2, 4])),
        ("`x`", "[1, 16, 0, 4]", shaped("x", &[1, 16, 0, 4])),
        ("`dt`", "[1, 15, 2]", shaped("dt", &[1, 15, 2])),
        ("`A`", "[3]", shaped("A", &[3])),
        ("`B`", "[1, 16, 3, 8]", shaped("B", &[1, 16, 3, 8])),
        ("`B`", "[1, 16, 1, 0]", shaped("B", &[1, 16, 1, 0])),
        ("`C`", "[1, 16, 1, 9]", shaped("C", &[1, 16, 1, 9])),
        ("`D`", "[2, 3]", shaped("D", &[2, 3])),
        ("`z`", "[1, 16, 2, 5]", shaped("z", &[1, 16, 2, 5])),
        ("`dt_bias`", "[1]", shaped("dt_bias", &[1])),
        ("`init`", "[1, 2, 8, 4]", shaped("init", &[1, 2, 8, 4])),
        ("`dy`", "[1, 16, 2, 3]", shaped("dy", &[1, 16, 2, 3])),
        ("`dt`", "NaN", holds("dt", f64::NAN)),
        ("`dt`", "inf", holds("dt", f64::INFINITY)),
        ("`A`", "NaN", holds("A", f64::NAN)),
        ("`x`", "I64", typed("x", Dtype::I64)),
        ("`dt`", "U64", typed("dt", Dtype::U64)),
        ("`seq_idx`", "F64", shaped("seq_idx", &[1, 16])),
        ("`seq_idx`", "never decrease", ids(decreasing)),
        ("`seq_idx`", "[1, 15]", Box::new(|f| f.insert_i32("seq_idx", vec![1, 15], &[0; 15]))),
        ("`softplus`", "perhaps", option("softplus", "perhaps")),
        ("`dt_min`", "tiny", option("dt_min", "tiny")),
        ("`dt_max`", "-1", option("dt_max", "-1")),
    ];
    for (tensor, found, change) in cases {
        let folder = tempdir().unwrap();
        let (input, out) = (folder.path().join("bad.safetensors"), folder.path().join("out.safetensors"));
        let mut file = Tensors::read(&golden("plain"));
        change(&mut file);
        file.write(&input);
        let arguments = ["ssd", input.to_str().unwrap(), "-o", out.to_str().unwrap(), "--grad"];
        fails(&arguments, &["bad.safetensors", tensor, found]);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "{tensor} {found}: something is left"
        );
    }
}

#[test]
fn files_that_are_cut_or_lie_are_refused() {
    let folder = tempdir().unwrap();
    let (input, out) = (folder.path().join("bad.safetensors"), folder.path().join("out.safetensors"));
    let arguments = ["ssd", input.to_str().unwrap(), "-o", out.to_str().unwrap(), "--grad"];
    let refused = |bytes: &[u8]| {
        std::fs::write(&input, bytes).unwrap();
        fails(&arguments, &["bad.safetensors"]);
        fails(&["verify", arguments[1]], &["bad.safetensors"]);
        assert!(!out.exists());
    };
    let whole = std::fs::read(golden("plain")).unwrap();
    for len in (0..24).chain((24..whole.len()).step_by(whole.len() / 40)).chain([whole.len() - 1]) {
        refused(&whole[..len]);
    }
    for header in [
        "",
        "{",
        "[]",
        "null",
        "{\"x\": 3}",
        "{\"x\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,16]}}",
        "{\"x\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[8,0]}}",
        "{\"x\":{\"dtype\":\"F64\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,8]}}",
        "{\"x\":{\"dtype\":\"F128\",\"shape\":[1],\"data_offsets\":[0,8]}}",
        "{\"x\":{\"dtype\":\"F64\",\"shape\":[-1],\"data_offsets\":[0,8]}}",
    ] {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 8]);
        refused(&bytes);
    }
    for claimed in [u64::MAX, 1 << 63, 1 << 32, whole.len() as u64] {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&claimed.to_le_bytes());
        refused(&bytes);
    }
    let mut huge = Tensors::default(); // no data at all, but a state beyond any memory
    let wide = 1 << 40;
    huge.insert_f64("x", vec![1, 0, 1, wide], &[]);
    huge.insert_f64("dt", vec![1, 0, 1], &[]);
    huge.insert_f64("A", vec![1], &[0.0]);
    huge.insert_f64("B", vec![1, 0, 1, wide], &[]);
    huge.insert_f64("C", vec![1, 0, 1, wide], &[]);
    huge.write(&input);
    fails(&arguments, &["bad.safetensors", "`B`"]);
}

#[test]
fn wrong_usage_is_told_in_one_line() {
    let folder = tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let (out, input) = (out.to_str().unwrap(), golden("plain"));
    let no_folder = folder.path().join("none/out.safetensors");
    let cases: [(&[&str], &[&str]); 16] = [
        (&[], &["verify, ssd, bench, draw"]),
        (&["frobnicate"], &["frobnicate"]),
        (&["ssd", &input], &["--output"]),
        (&["ssd", &input, "-o", out, "--chunk", "0"], &["--chunk", "0"]),
        (&["ssd", &input, "-o", out, "--chunk", "-3"], &["--chunk", "-3"]),
        (&["ssd", &input, "-o", out, "--chunk", "4", "--algorithm", "quadratic"], &["--chunk"]),
        (&["ssd", &input, "-o", out, "--dtype", "f8"], &["f8"]),
        (
            &["ssd", &input, "-o", no_folder.to_str().unwrap()],
            &["none/out.safetensors", "no file can be made"],
        ),
        (&["ssd", &input, "-o", folder.path().to_str().unwrap()], &["not a regular file"]),
        (&["ssd", "nowhere.safetensors", "-o", out], &["nowhere.safetensors"]),
        (&["verify", "nowhere.safetensors"], &["nowhere.safetensors"]),
        (&["verify", folder.path().to_str().unwrap()], &["directory"]),
        (&["draw", "cubism", "-o", out], &["cubism"]),
        (&["draw", "causal"], &["--output"]),
        (&["draw", "bench", "-o", out], &["--from"]),
        (&["draw", "bench", "--from", &input, "-o", out], &["not JSON"]),
    ];
    for (arguments, words) in cases {
        fails(arguments, words);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something is left");
}

#[test]
fn help_teaches_the_operator_the_format_and_every_command() {
    let text = succeeds(&["--help"]);
    for word in
        ["h_t", "softplus", "(batch, len, heads, head_dim)", "dt_bias", "seq_idx", "grad_NAME", "Examples"]
    {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
    for command in ["verify", "ssd", "bench", "draw"] {
        assert!(text.contains(&format!("semisep {command}")), "no example of {command}");
        assert!(succeeds(&[command, "--help"]).contains("Example"), "{command}");
    }
}

#[test]
fn bench_measures_and_draw_makes_every_picture() {
    let folder = tempdir().unwrap();
    let measured = folder.path().join("bench.json");
    let measured = measured.to_str().unwrap();
    let table = succeeds(&["bench", "--quick", "--lengths", "8,32", "--json", measured]);
    assert!(table.contains("chunked forward") && table.contains("GFLOP/s"), "{table}");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(measured).unwrap()).unwrap();
    for key in ["gemm_f32", "gemm_f64"] {
        assert!(json["ceilings"][key]["1"].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(json["ceilings"]["copy"].as_f64().unwrap() > 0.0);
    let rows = json["rows"].as_array().unwrap();
    for row in rows {
        assert!(row["name"].is_string() && row["dtype"].is_string(), "{row}");
        assert!(row["threads"].as_u64().unwrap() >= 1 && row["len"].as_u64().unwrap() >= 1, "{row}");
        assert!(row["seconds"].as_f64().unwrap() > 0.0 && row["ratio"].as_f64().unwrap() > 0.0, "{row}");
    }
    for name in ["chunked forward", "recurrent forward", "quadratic forward+backward", "step batch 1"] {
        assert!(rows.iter().any(|row| row["name"] == name), "no row of {name}");
    }

    let list = succeeds(&["draw", "--list"]);
    let names: Vec<_> = list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names.len(), 13, "{list}");
    for name in names {
        let picture = folder.path().join(format!("{name}.svg"));
        let mut arguments = vec!["draw", name, "-o", picture.to_str().unwrap()];
        if name == "bench" {
            arguments.extend(["--from", measured]);
        }
        succeeds(&arguments);
        let text = std::fs::read_to_string(&picture).unwrap();
        crate::support::assert_well_formed(name, &text);
        assert!(!text.contains("NaN") && !text.contains("inf"), "{name}");
        succeeds(&arguments);
        assert_eq!(text, std::fs::read_to_string(&picture).unwrap(), "{name} is drawn the same again");
    }
}

#[test]
fn bench_measures_matrices_against_copies_and_products() {
    let table = succeeds(&["bench", "--suite", "matrix", "--quick"]);
    for name in ["one-semiseparable product", "product, order 2 ", "product, order 64, 64 columns"] {
        assert!(table.contains(name), "no row of {name} in {table}");
    }
    assert!(table.contains("GB/s") && table.contains("GFLOP/s"), "{table}");
}

fn is_result(name: &str) -> bool {
    name == "y" || name == "final_state" || name.starts_with("grad_")
}

fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let wrong: f64 = found.iter().zip(expected).map(|(f, e)| (f - e).powi(2)).sum();
    let size: f64 = expected.iter().map(|e| e * e).sum();
    (wrong / if size > 0.0 { size } else { 1.0 }).sqrt()
}

#[test]
fn a_gpu_that_cannot_be_used_is_one_line_on_standard_error() {
    if run(&["verify", "--device", "cuda"]).status.code() == Some(2) {
        fails(&["verify", "--device", "cuda"], &["device"]);
        fails(&["bench", "--device", "cuda"], &["device"]);
    } else {
        println!("skipped: there is a device");
    }
    fails(&["verify", "--device", "abacus"], &["abacus"]);
}

#[test]
fn lengths_that_bench_cannot_measure_are_refused() {
    fails(&["bench", "--suite", "matrix", "--lengths", "8"], &["--lengths", "expected none"]);
    fails(&["bench", "--lengths", "-1"], &["--lengths", "-1"]);
}

#[cfg(feature = "cuda")]
#[test]
fn what_bench_does_not_measure_on_a_gpu_is_refused() {
    fails(&["bench", "--device", "cuda", "--suite", "matrix"], &["--suite"]);
    fails(&["bench", "--device", "cuda", "--suite", "mamba2"], &["--suite"]);
    fails(&["bench", "--device", "cuda", "--lengths", "64"], &["--lengths"]);
}

#[cfg(feature = "cuda")]
#[test]
fn kernels_needs_architectures_and_shapes_that_exist() {
    fails(&["kernels"], &["--arch"]);
    fails(&["kernels", "--arch", "sm_75"], &["sm_75"]);
    fails(&["kernels", "--arch", "sm_80", "--shape", "64"], &["head_dim"]);
    fails(&["kernels", "--arch", "sm_80", "--shape", "64,300"], &["256"]);
    fails(&["kernels", "--arch", "sm_80", "--out", "Cargo.toml/below"], &["Cargo.toml/below"]);
}
