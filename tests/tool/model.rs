//! The commands about models, run as their users run them.

use std::path::Path;

use crate::files::{Files, MODELS, golden};
use crate::support::{Tensors, fails, run, succeeds};
use tempfile::tempdir;

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn expected(name: &str) -> String {
    text(&golden(name).join("expected.safetensors")).to_owned()
}

/// The largest difference of two lists of numbers.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Logits that the tool writes for the tokens in `input`.
fn logits(model: &Path, input: &str, options: &[&str]) -> Tensors {
    let folder = tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let mut arguments = vec!["logits", text(model), "--tokens-file", input, "-o", text(&out)];
    arguments.extend(options);
    assert_eq!(succeeds(&arguments), "");
    Tensors::read(text(&out))
}

/// Ids that the tool prints for a continuation.
fn continued(model: &Path, tokens: &[i64], options: &[&str]) -> Vec<i64> {
    let tokens = tokens.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    let mut arguments = vec!["generate", text(model), "--tokens", &tokens];
    arguments.extend(options);
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("tokens/s"));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.ends_with('\n'));
    printed.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

/// The same model in the layout that it is not published in, if there it can be said.
fn other_layout(name: &str, folder: &Path) -> Option<std::path::PathBuf> {
    let layout = match name {
        "model_tiny" | "model_grouped" | "model_odd" => "original",
        "model_original_layout" => "hf",
        _ => return None,
    };
    let to = folder.join(name);
    succeeds(&["convert", text(&golden(name)), text(&to), "--layout", layout]);
    Some(to)
}

#[test]
fn logits_are_those_of_the_references_in_both_layouts_and_for_any_split() {
    let folder = tempdir().unwrap();
    for name in MODELS {
        let input = expected(name);
        let reference = Tensors::read(&input);
        let len = reference.shape("input_ids")[1];
        let splits = [format!("7,1,{}", len - 8), format!("{},1", len - 1), vec!["1"; len].join(",")];
        for model in [Some(golden(name)), other_layout(name, folder.path())].into_iter().flatten() {
            let found = logits(&model, &input, &[]);
            assert_eq!(found.names().collect::<Vec<_>>(), ["logits"]);
            assert_eq!(found.dtype("logits"), safetensors::Dtype::F32);
            assert_eq!(found.shape("logits"), reference.shape("logits"), "{name}");
            let whole = found.numbers("logits");
            let error = distance(&whole, &reference.numbers("logits"));
            assert!(error <= 2e-4, "{name}: {error:e}");
            for split in &splits {
                let error = distance(&logits(&model, &input, &["--split", split]).numbers("logits"), &whole);
                assert!(error <= 1e-6, "{name} in pieces of {split}: {error:e}");
            }
        }
    }
}

#[test]
fn sixteen_bit_weights_give_nearly_the_same_logits() {
    let input = expected("model_tiny");
    let reference = Tensors::read(&input).numbers("logits");
    let scale = reference.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    for (dtype, limit) in [("f32", 2e-4), ("bf16", 0.05), ("f16", 0.01)] {
        let found =
            logits(&golden("model_tiny"), &input, &["--dtype", dtype, "--device", "cpu"]).numbers("logits");
        let error = distance(&found, &reference) / scale;
        assert!(error < limit && (dtype == "f32" || error > 1e-6), "{dtype}: {error:e}");
    }
}

#[test]
fn greedy_tokens_are_those_of_the_references_in_both_layouts() {
    let folder = tempdir().unwrap();
    for name in MODELS.into_iter().filter(|&name| name != "model_original_layout") {
        let reference = Tensors::read(&expected(name));
        let len = reference.shape("input_ids")[1];
        let (rows, all) = (reference.shape("greedy_ids")[0], reference.shape("greedy_ids")[1]);
        let ids = reference.integers("greedy_ids");
        for model in [Some(golden(name)), other_layout(name, folder.path())].into_iter().flatten() {
            for row in 0..rows {
                let ids = &ids[row * all..(row + 1) * all];
                let found =
                    continued(&model, &ids[..len], &["--greedy", "--max-new", &(all - len).to_string()]);
                assert_eq!(found, ids[len..], "{name} row {row}");
            }
        }
    }
}

#[test]
fn several_prompts_are_continued_side_by_side_with_a_line_each() {
    let model = golden("model_hybrid");
    let prompts = ["1,2,3,4,5,6,7", "9", "40,30,20"];
    let lines = |prompts: &[&str], options: &[&str]| {
        let mut arguments = vec!["generate", text(&model), "--max-new", "9"];
        arguments.extend(prompts.iter().flat_map(|prompt| ["--tokens", prompt]));
        let output = run(&[&arguments[..], options].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let alone: String = prompts.iter().map(|prompt| lines(&[prompt], &["--greedy"])).collect();
    assert_eq!(lines(&prompts, &["--greedy"]), alone);
    let drawn = lines(&["9", "9"], &["--temperature", "3", "--seed", "1"]);
    let (first, second) = drawn.trim_end().split_once('\n').unwrap();
    assert_ne!(first, second, "each has its own chance");
    assert_eq!(format!("{first}\n"), lines(&["9"], &["--temperature", "3", "--seed", "1"]));
    fails(&["generate", text(&model), "--tokens", "1,2", "--tokens", "96"], &["--tokens", "found 96 at 0"]);
    fails(&["generate", text(&model), "--tokens", "1", "--tokens", "1,x"], &["--tokens", "`x`"]);
    fails(&["generate", text(&model), "--tokens", "1", "--prompt", "a"], &["--prompt", "--tokens"]);
}

#[test]
fn several_texts_end_each_at_its_own_place() {
    let files = Files::of("model_tiny");
    crate::tokenizer::write(&files.path(""));
    files.drop_config("eos_token_id");
    let generate = |prompts: &[&str], stops: &[&str]| {
        let model = files.path("");
        let mut arguments = vec!["generate", text(&model), "--greedy", "--max-new", "40"];
        arguments.extend(prompts.iter().flat_map(|prompt| ["--prompt", prompt]));
        arguments.extend(stops.iter().flat_map(|stop| ["--stop", stop]));
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let prompts = ["the sea", "hello world", "a"];
    let alone = prompts.map(|prompt| generate(&[prompt], &[]));
    let stop: String = alone[1].chars().skip(6).take(2).collect();
    let stopped = prompts.map(|prompt| generate(&[prompt], &[&stop]));
    assert!(stopped[1].len() < alone[1].len());
    assert!(!alone.concat().contains('\\'), "nothing to escape but line breaks");
    let line = |whole: &String| format!("{}\n", whole.strip_suffix('\n').unwrap().replace('\n', "\\n"));
    assert_eq!(generate(&prompts, &[&stop]), stopped.each_ref().map(line).concat());
}

#[test]
fn the_same_seed_draws_the_same_tokens() {
    let draw = |options: &[&str]| {
        let mut all = vec!["--max-new", "24", "--temperature", "2", "--top-p", "0.9", "--min-p", "0.001"];
        all.extend(options);
        continued(&golden("model_tiny"), &[5, 6, 7], &all)
    };
    let first = draw(&["--seed", "3"]);
    assert_eq!(first.len(), 24);
    assert_eq!(first, draw(&["--seed", "3"]));
    assert_ne!(first, draw(&["--seed", "4"]));
    assert_ne!(first, draw(&["--seed", "3", "--repetition-penalty", "5"]));
    let greedy = continued(&golden("model_tiny"), &[5, 6, 7], &["--greedy"]);
    assert_eq!(greedy.len(), 100);
    assert_eq!(continued(&golden("model_tiny"), &[5, 6, 7], &["--top-k", "1"]), greedy);
    assert!(continued(&golden("model_tiny"), &[5, 6, 7], &["--max-new", "0"]).is_empty());
}

#[test]
fn text_is_continued_and_ends_at_a_stop() {
    let files = Files::of("model_tiny");
    crate::tokenizer::write(&files.path(""));
    files.drop_config("eos_token_id");
    let model = files.path("");
    let generate = |options: &[&str]| {
        let mut arguments =
            vec!["generate", text(&model), "--prompt", "hello world", "--seed", "2", "--max-new", "200"];
        arguments.extend(options);
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let whole = generate(&[]);
    assert!(whole.len() > 8, "{whole}");
    assert_eq!(whole, generate(&["--tokenizer", text(&files.path("tokenizer.json"))]));
    let stop: String = whole.chars().skip(4).take(2).collect();
    let short = generate(&["--stop", &stop]);
    assert_eq!(Some(short.trim_end_matches('\n')), whole.split(&stop).next());
}

#[test]
fn perplexity_is_that_of_the_logits() {
    let files = Files::of("model_tiny");
    crate::tokenizer::write(&files.path(""));
    files.write("text.txt", "the sea at the end of the café".as_bytes());
    let ids: Vec<i64> =
        "the sea at the end of the cafÃ©".chars().map(|c| crate::tokenizer::id(&byte(c)).into()).collect();
    let input = files.path("in.safetensors");
    let mut tokens = Tensors::default();
    tokens.insert_i64("input_ids", vec![1, ids.len()], &ids);
    tokens.write(&input);
    let logits = logits(&files.path(""), text(&input), &[]).numbers("logits");
    let surprise: f64 = (logits.chunks(97).zip(&ids[1..]))
        .map(|(l, &next)| l.iter().map(|v| v.exp()).sum::<f64>().ln() - l[next as usize])
        .sum();
    let printed = succeeds(&["perplexity", text(&files.path("")), text(&files.path("text.txt"))]);
    let value = (surprise / (ids.len() - 1) as f64).exp();
    let found: f64 = printed.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((found / value - 1.0).abs() < 1e-4, "{printed} instead of {value}");
}

fn byte(c: char) -> String {
    if c == ' ' { "Ġ".to_owned() } else { c.to_string() }
}

#[test]
fn inspect_tells_sizes_and_what_is_missing() {
    let told = succeeds(&["inspect", text(&golden("model_hybrid"))]);
    for word in ["original", "302 704", "2 attention [1, 3]", "4 with MLP", "f32", "all tensors are there"] {
        assert!(told.contains(word), "no {word} in\n{told}");
    }
    let files = Files::of("model_tiny");
    files.rename_tensor("layers.1.mixer.D\"", "layers.1.mixer.E\"");
    let output = run(&["inspect", text(&files.path(""))]);
    assert_eq!(output.status.code(), Some(2));
    for told in [output.stdout, output.stderr] {
        assert!(String::from_utf8(told).unwrap().contains("1 tensor missing: `backbone.layers.1.mixer.D`"));
    }
}

#[test]
fn convert_writes_types_and_refuses_what_a_layout_cannot_say() {
    let folder = tempdir().unwrap();
    let (model, out) = (golden("model_tiny"), folder.path().join("out"));
    succeeds(&["convert", text(&model), text(&out), "--layout", "hf", "--dtype", "bf16"]);
    let told = succeeds(&["inspect", text(&out)]);
    assert!(told.contains("numbers of bf16") && told.contains("48 numbers of f32"), "{told}");
    let input = expected("model_tiny");
    let reference = Tensors::read(&input).numbers("logits");
    let scale = reference.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let error = distance(&logits(&out, &input, &[]).numbers("logits"), &reference) / scale;
    assert!(error > 1e-6 && error < 0.05, "{error:e}");
    fails(&["convert", text(&model), text(&out), "--layout", "hf"], &["out", "something already"]);
    let hybrid = folder.path().join("hybrid");
    let refused =
        ["convert", text(&golden("model_hybrid")), text(&hybrid), "--layout", "hf"].map(str::to_owned);
    fails(&refused.each_ref().map(String::as_str), &["attn_layer_idx", "hf"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn convert_shares_weights_out_to_files_of_a_size() {
    let (folder, model) = (tempdir().unwrap(), golden("model_grouped"));
    for (layout, stem) in [("hf", "model"), ("original", "pytorch_model")] {
        let out = folder.path().join(layout);
        let mut arguments = vec!["convert", text(&model), text(&out), "--layout", layout];
        arguments.extend(["--shard-size", "100KB"]);
        let told = succeeds(&arguments);
        let names: Vec<_> = told.lines().collect();
        assert_eq!(names.len(), 4, "{told}");
        assert!(names[0].starts_with(&format!("{stem}-00001-of-00003.")), "{told}");
        assert!(names.iter().all(|name| out.join(name).exists()), "{told}");
        let input = expected("model_grouped");
        let whole = logits(&model, &input, &[]).numbers("logits");
        assert_eq!(logits(&out, &input, &[]).numbers("logits"), whole);
    }
    let out = folder.path().join("none");
    for size in ["0", "KB", "1.5GB", "-1", "5 GB", "99999999999999999999", "99999999999999GB"] {
        let size = format!("--shard-size={size}");
        fails(&["convert", text(&model), text(&out), "--layout", "hf", &size], &["--shard-size", "5GB"]);
        assert!(!out.exists());
    }
}

#[test]
fn bad_input_is_told_in_a_line_and_leaves_no_output() {
    let folder = tempdir().unwrap();
    let (input, out) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    let model = golden("model_tiny");
    let ids = |name: &str, shape: &[usize], values: &[i64], words: &[&str], options: &[&str]| {
        let mut file = Tensors::default();
        file.insert_i64(name, shape.to_vec(), values);
        file.write(&input);
        let mut arguments = vec!["logits", text(&model), "--tokens-file", text(&input), "-o", text(&out)];
        arguments.extend(options);
        fails(&arguments, words);
        assert!(!out.exists(), "{words:?}");
    };
    let named = ["in.safetensors", "`input_ids`"];
    ids("tokens", &[1, 1], &[1], &[&named[..], &["missing"]].concat(), &[]);
    ids("input_ids", &[2], &[1, 2], &[&named[..], &["(batch, len)", "[2]"]].concat(), &[]);
    ids("input_ids", &[1, 0], &[], &[&named[..], &["at least one token"]].concat(), &[]);
    ids("input_ids", &[0, 4], &[], &[&named[..], &["at least one sequence"]].concat(), &[]);
    ids(
        "input_ids",
        &[1, 3],
        &[1, 97, 2],
        &[&named[..], &["from 0 to 96", "found 97 at (0, 1)"]].concat(),
        &[],
    );
    ids("input_ids", &[1, 3], &[1, 2, -1], &[&named[..], &["found -1 at (0, 2)"]].concat(), &[]);
    ids("input_ids", &[1, 1], &[i64::MAX], &[&named[..], &["found 9223372036854775807"]].concat(), &[]);
    for split in ["1,1", "3,1", "3,0", "18446744073709551615,4"] {
        ids("input_ids", &[1, 3], &[1, 2, 3], &["--split", "sum to 3"], &["--split", split]);
    }
    ids("input_ids", &[1, 1], &[1], &["--device"], &["--device", "cuda"]);
    ids("input_ids", &[1, 1], &[1], &["--dtype"], &["--dtype", "f8"]);

    let path = text(&model);
    fails(&["generate", path, "--tokens", "5,97"], &["--tokens", "from 0 to 96", "found 97 at 1"]);
    fails(&["generate", path, "--tokens", ""], &["--tokens"]);
    fails(&["generate", path, "--tokens", "-1"], &["-1"]);
    fails(&["generate", path, "--tokens", "1", "--temperature", "-1"], &["`temperature`", "-1"]);
    fails(&["generate", path, "--tokens", "1", "--top-k", "-1"], &["--top-k", "-1"]);
    fails(&["generate", path], &["--prompt", "--tokens"]);
    fails(&["generate", path, "--tokens", "5", "--greedy", "--seed", "1"], &["--greedy", "--seed"]);
    fails(&["generate", path, "--tokens", "5", "--temperature", "0"], &["temperature"]);
    fails(&["generate", path, "--tokens", "5", "--top-p", "1.5"], &["top_p"]);
    fails(&["generate", path, "--prompt", "a"], &["tokenizer.json", "--tokenizer"]);
    fails(&["generate", "no/model", "--tokens", "5"], &["no/model"]);
    fails(&["inspect", path, "extra"], &["extra"]);
    fails(&["perplexity", path, "no/file.txt"], &["no/file.txt"]);

    let files = Files::of("model_tiny");
    crate::tokenizer::write(&files.path(""));
    let own = files.path("");
    fails(&["generate", text(&own), "--prompt", ""], &["--prompt", "at least one token"]);
    files.write("text.txt", b"a");
    fails(&["perplexity", text(&own), text(&files.path("text.txt"))], &["text.txt", "two tokens, found 1"]);
    files.write("text.txt", &[0xff, 0xfe]);
    fails(&["perplexity", text(&own), text(&files.path("text.txt"))], &["text.txt", "utf-8"]);
    files.set_config("vocab_size", "20");
    fails(&["generate", text(&own), "--tokens", "1"], &["embedding", "[20, 32]", "[97, 32]"]);
}
