//! Checkpoints: read in every layout, written in every layout, refused where they are not whole.

use std::path::Path;

use crate::files::{Files, MODELS, bits, golden, header, open, refusal};
use semisep::Error;
use semisep::mamba2::checkpoint::{Checkpoint, Conversion, save};
use semisep::mamba2::{GatedNorm, Naming};
use semisep::nn::Storage;
use tempfile::tempdir;

#[test]
fn the_published_layouts_are_read_whole() {
    for name in MODELS {
        let checkpoint = open(&golden(name));
        assert!(checkpoint.report().is_clean(), "{name}: {}", checkpoint.report());
        let model = checkpoint.model::<f32>().unwrap();
        assert_eq!(model.config(), checkpoint.config());
        let count: u64 = checkpoint.config().parameter_count().unwrap();
        let mut found = 0;
        model.for_each(|_, weight| found += weight.numbers().len() as u64);
        assert_eq!(found, count, "{name}");
    }
}

#[test]
fn numbers_are_those_that_the_safetensors_crate_reads() {
    for name in ["model_tiny", "model_grouped"] {
        let bytes = std::fs::read(golden(name).join("model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        open(&golden(name))
            .model::<f32>()
            .unwrap()
            .try_map(Naming::HuggingFace, |name, weight| {
                let expected = file.tensor(name).unwrap();
                let found: Vec<u8> = weight.to_array().iter().flat_map(|v| v.to_le_bytes()).collect();
                assert_eq!((weight.shape(), &found[..]), (expected.shape(), expected.data()), "{name}");
                Ok::<_, Error>(())
            })
            .unwrap();
    }
}

#[test]
fn configurations_say_what_their_keys_say() {
    let tiny = open(&golden("model_tiny"));
    let config = tiny.config();
    assert_eq!((config.d_model, config.n_layer, config.vocab_size, config.vocab_rows()), (32, 2, 97, 97));
    assert_eq!((config.state_dim, config.head_dim, config.heads(), config.groups), (16, 8, 8, 1));
    assert_eq!((config.conv_width, config.conv_bias, config.proj_bias), (4, true, false));
    assert_eq!(config.dt_limits, (0.0, f64::INFINITY));
    assert_eq!((tiny.naming(), tiny.end_tokens()), (Naming::HuggingFace, vec![0]));

    let padded = open(&golden("model_original_layout"));
    assert_eq!((padded.config().vocab_size, padded.config().vocab_rows()), (97, 112));
    assert_eq!(padded.config().gated_norm, GatedNorm::GateFirst);
    assert_eq!(padded.naming(), Naming::Original);

    let hybrid = open(&golden("model_hybrid"));
    let attention = hybrid.config().attention.as_ref().unwrap();
    assert_eq!((&attention.layers[..], attention.heads, attention.kv_heads), (&[1, 3][..], 4, 2));
    assert_eq!((attention.rotary_dim, attention.conv_width), (16, 4));
    assert_eq!(hybrid.config().mlp.as_ref().unwrap().hidden(), 256);
}

#[test]
fn infinity_is_read_in_every_form_and_other_limits_in_both_layouts() {
    let forms = ["[0.0, Infinity]", r#"[0, {"__float__": "Infinity"}]"#, "null"];
    for form in forms {
        let files = Files::of("model_tiny");
        files.set_config("time_step_limit", form);
        assert_eq!(files.open().unwrap().config().dt_limits, (0.0, f64::INFINITY), "{form}");
    }
    let files = Files::of("model_tiny");
    files.set_config("time_step_limit", "[0.25, 0.5]");
    assert_eq!(files.open().unwrap().config().dt_limits, (0.25, 0.5));
    files.drop_config("time_step_limit");
    assert_eq!(files.open().unwrap().config().dt_limits, (0.0, f64::INFINITY));
    let files = Files::of("model_hybrid");
    files.set_config(
        "ssm_cfg",
        r#"{"layer": "Mamba2", "d_state": 16, "headdim": 16, "dt_limit": [-Infinity, 1]}"#,
    );
    assert_eq!(files.open().unwrap().config().dt_limits, (f64::NEG_INFINITY, 1.0));
}

#[test]
fn the_published_sizes_have_their_parameter_counts() {
    let original = |d_model: usize, n_layer: usize| {
        format!(
            r#"{{"d_model": {d_model}, "d_intermediate": 0, "n_layer": {n_layer}, "vocab_size": 50277,
            "ssm_cfg": {{"layer": "Mamba2"}}, "attn_layer_idx": [], "attn_cfg": {{}}, "rms_norm": true,
            "residual_in_fp32": true, "fused_add_norm": true, "pad_vocab_size_multiple": 16, "tie_embeddings": true}}"#
        )
    };
    let sizes = [
        (768, 24, 128_989_632),
        (1024, 48, 368_346_624),
        (1536, 48, 780_161_280),
        (2048, 48, 1_343_757_312),
        (2560, 64, 2_702_599_680),
    ];
    for (d_model, n_layer, count) in sizes {
        let files = Files::of("model_original_layout");
        files.write("config.json", original(d_model, n_layer).as_bytes());
        assert_eq!(files.open().unwrap().config().parameter_count().unwrap(), count);
    }
}

#[test]
fn published_hybrids_and_large_groups_are_accepted() {
    let layers: Vec<usize> = (0..32).collect();
    let attention = r#"{"causal": true, "d_conv": 0, "head_dim": 128, "num_heads": 20, "out_proj_bias": false,
        "qkv_proj_bias": false, "rotary_emb_dim": 128}"#;
    let configs = [
        r#"{"d_model": 2560, "d_intermediate": 0, "n_layer": 64, "vocab_size": 50277, "ssm_cfg": {"layer": "Mamba2"},
        "attn_layer_idx": [9, 18, 27, 36, 45, 56], "attn_cfg": {"causal": true, "d_conv": 4, "head_dim": 128, "num_heads": 30,
        "out_proj_bias": false, "qkv_proj_bias": false, "rotary_emb_dim": 64}, "pad_vocab_size_multiple": 16}"#
            .to_owned(),
        format!(
            r#"{{"d_model": 2560, "d_intermediate": 6912, "n_layer": 32, "vocab_size": 50277, "ssm_cfg": {{}},
            "attn_layer_idx": {layers:?}, "attn_cfg": {attention}, "pad_vocab_size_multiple": 16}}"#
        ),
        r#"{"model_type": "mamba2", "hidden_size": 4096, "num_hidden_layers": 64, "state_size": 128, "num_heads": 128,
        "head_dim": 64, "expand": 2, "n_groups": 8, "conv_kernel": 4, "use_bias": false, "use_conv_bias": true,
        "hidden_act": "silu", "time_step_limit": [0.0, Infinity], "norm_before_gate": true, "vocab_size": 32768,
        "tie_word_embeddings": false}"#
            .to_owned(),
    ];
    let mlps = [0, 32, 0];
    for (config, mlps) in configs.iter().zip(mlps) {
        let files = Files::of("model_original_layout");
        files.write("config.json", config.as_bytes());
        let opened = files.open().unwrap();
        assert_eq!(opened.config().mlp.as_ref().map_or(0, |mlp| mlp.layers.len()), mlps);
        if opened.config().groups == 8 {
            assert_eq!(opened.config().parameter_count().unwrap(), 7_285_403_648); // as published
        }
    }
}

#[test]
fn every_layout_is_written_and_read_again_bit_by_bit() {
    let folder = tempdir().unwrap();
    for (k, name) in MODELS.iter().enumerate() {
        let from = open(&golden(name));
        let expected = bits(&from.model::<f32>().unwrap());
        for (way, naming) in [("original", Naming::Original), ("hf", Naming::HuggingFace)] {
            let to = folder.path().join(format!("{k}-{way}"));
            if naming == Naming::HuggingFace && from.config().attention.is_some() {
                let wrong = from.convert(&to, naming).unwrap_err();
                assert!(matches!(wrong, Error::Config { field: "attn_layer_idx", .. }), "{wrong}");
                assert!(!to.exists());
                continue;
            }
            from.convert(&to, naming).unwrap();
            let there = open(&to);
            assert_eq!(there.naming(), naming);
            assert!(there.report().is_clean(), "{}", there.report());
            assert_eq!(bits(&there.model::<f32>().unwrap()), expected, "{name} {way}");

            let back = folder.path().join(format!("{k}-{way}-back"));
            there.convert(&back, from.naming()).unwrap();
            let back = open(&back);
            assert_eq!(bits(&back.model::<f32>().unwrap()), expected, "{name} {way} and back");
            assert_eq!(back.config().vocab_rows(), from.config().vocab_rows());

            let saved = folder.path().join(format!("{k}-{way}-saved"));
            save(&from.model::<f32>().unwrap(), &saved, naming).unwrap();
            assert_eq!(bits(&open(&saved).model::<f32>().unwrap()), expected, "{name} {way} saved");
        }
    }
}

#[test]
fn files_written_are_laid_out_as_their_publishers_do() {
    let folder = tempdir().unwrap();
    let (hf, original) = (folder.path().join("hf"), folder.path().join("original"));
    open(&golden("model_original_layout")).convert(&hf, Naming::HuggingFace).unwrap();
    let names = header(&hf.join("model.safetensors"));
    assert!(names.contains_key("backbone.embeddings.weight") && !names.contains_key("lm_head.weight"));
    open(&golden("model_tiny")).convert(&original, Naming::Original).unwrap();
    let file = std::fs::File::open(original.join("pytorch_model.bin")).unwrap();
    let mut archive = zip::ZipArchive::new(file).unwrap();
    for k in 0..archive.len() {
        let record = archive.by_index(k).unwrap();
        let (name, start) = (record.name().unwrap().into_owned(), record.data_start().unwrap());
        assert_eq!(record.compression(), zip::CompressionMethod::Stored, "{name}");
        assert!(start % 64 == 0 && name.starts_with("pytorch_model/"), "{name} at {start}");
    }
}

#[test]
#[cfg(unix)]
fn weights_may_be_read_by_whoever_may_read_the_configuration() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir().unwrap();
    for (k, naming) in [Naming::Original, Naming::HuggingFace].into_iter().enumerate() {
        let to = folder.path().join(k.to_string());
        open(&golden("model_tiny")).convert(&to, naming).unwrap();
        let modes = std::fs::read_dir(&to)
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().permissions().mode());
        let modes: Vec<u32> = modes.collect();
        let (first, rest) = modes.split_first().unwrap();
        assert!(
            !rest.is_empty() && rest.iter().all(|mode| mode == first) && first & 0o600 == 0o600,
            "{modes:?}"
        );
    }
}

#[test]
fn narrower_types_are_rounded_once_and_keep_what_is_sensitive() {
    let folder = tempdir().unwrap();
    let from = open(&golden("model_tiny"));
    let wide = from.model::<f64>().unwrap();
    for (k, storage) in [Storage::Bf16, Storage::F16, Storage::F64].into_iter().enumerate() {
        let to = folder.path().join(k.to_string());
        from.convert(&to, Conversion { storage: Some(storage), ..Naming::HuggingFace.into() }).unwrap();
        let narrow = open(&to).model::<f64>().unwrap();
        narrow
            .zip_map(&wide, |narrow, wide| {
                for (n, w) in narrow.to_array().iter().zip(&wide.to_array()) {
                    let expected = match storage {
                        Storage::Bf16 if narrow.rows() != 8 => half::bf16::from_f32(*w as f32).to_f64(),
                        Storage::F16 if narrow.rows() != 8 => half::f16::from_f32(*w as f32).to_f64(),
                        _ => *w,
                    };
                    assert_eq!(*n, expected, "{storage:?}");
                }
            })
            .unwrap();
        if storage == Storage::Bf16 {
            let mapped = open(&to).model::<f32>().unwrap();
            assert_eq!(
                mapped.embedding.numbers().storage().name(),
                "bf16",
                "matrices stay as they are stored"
            );
        }
    }
    let held = from.model_in::<f32>(Storage::Bf16).unwrap();
    assert_eq!(held.embedding.numbers().storage().name(), "bf16");
}

#[test]
fn sharded_files_are_put_together() {
    let files = Files::of("model_tiny");
    files.shard();
    assert_eq!(
        bits(&files.open().unwrap().model::<f32>().unwrap()),
        bits(&open(&golden("model_tiny")).model::<f32>().unwrap())
    );
    std::fs::remove_file(files.path("b.safetensors")).unwrap();
    assert!(refusal(files.open().map(|_| ())).contains("b.safetensors"));
    files.write("model.safetensors.index.json", br#"{"weight_map": {"w": "../../etc/passwd"}}"#);
    assert!(refusal(files.open().map(|_| ())).contains("a file beside the index for `w`"));
    files.write("model.safetensors.index.json", br#"{"weight_map": {"w": "a.safetensors"}}"#);
    assert!(refusal(files.open().map(|_| ())).contains("`w` is not in `a.safetensors`"));
}

#[test]
fn weights_are_shared_out_to_files_below_a_limit() {
    let folder = tempdir().unwrap();
    for (k, name) in MODELS.iter().enumerate() {
        let from = open(&golden(name));
        let expected = bits(&from.model::<f32>().unwrap());
        for (limit, several) in [(0, true), (8_000, true), (u64::MAX, false)] {
            let to = folder.path().join(format!("{k}-{limit}"));
            let how = Conversion { shard_bytes: Some(limit), ..from.naming().into() };
            let names = from.convert(&to, how).unwrap();
            let there = open(&to);
            assert!(there.report().is_clean(), "{name}: {}", there.report());
            assert_eq!(bits(&there.model::<f32>().unwrap()), expected, "{name}, {limit}");
            let Some((index, files)) = names.split_last().filter(|_| several) else {
                assert_eq!(names.len(), 1, "{names:?}");
                continue;
            };
            assert!(index.ends_with(".index.json"), "{names:?}");
            let last = format!("-{0:05}-of-{0:05}.", files.len());
            assert!(files.len() > 1 && files[files.len() - 1].contains(&last), "{names:?}");
            let index: serde_json::Value =
                serde_json::from_str(&std::fs::read_to_string(to.join(index)).unwrap()).unwrap();
            let heads = usize::from(from.naming() == Naming::Original && from.config().tie_embeddings);
            assert_eq!(index["weight_map"].as_object().unwrap().len(), expected.len() + heads);
            let bytes: u64 = from.stored().values().map(|(_, bytes)| bytes).sum();
            let repeated = 4 * heads * from.config().vocab_rows() * from.config().d_model;
            assert_eq!(index["metadata"]["total_size"], bytes - repeated as u64);
        }
    }
}

#[test]
fn a_tensor_that_is_there_twice_is_refused_by_name() {
    let files = Files::of("model_tiny");
    files.rename_tensor("backbone.norm_f.weight", "backbone.embedding.weight");
    assert!(refusal(files.open().map(|_| ())).contains("`backbone.embedding.weight` is there twice"));

    let files = Files::of("model_tiny");
    files.shard();
    let names = header(&files.path("a.safetensors")).into_keys();
    let map: Vec<String> = names.map(|name| format!(r#""{name}": "a.safetensors""#)).collect();
    let index = |rest: &str| {
        let text = format!(r#"{{"weight_map": {{{}{rest}}}}}"#, map.join(", "));
        files.write("model.safetensors.index.json", text.as_bytes());
        files.open()
    };
    std::fs::copy(files.path("a.safetensors"), files.path("b.safetensors")).unwrap();
    let wrong = refusal(index(r#", "w": "b.safetensors""#).map(|_| ()));
    assert!(wrong.contains("is in `b.safetensors`, not in `a.safetensors`"), "{wrong}");
    assert!(index("").unwrap().report().extra.is_empty());
}

#[test]
fn what_is_missing_extra_or_misshapen_is_named() {
    let rename = |from: &str, to: &str| {
        let files = Files::of("model_tiny");
        files.rename_tensor(from, to);
        files.open().unwrap()
    };
    let checkpoint = rename("layers.1.mixer.D\"", "layers.1.mixer.E\"");
    let report = checkpoint.report();
    assert_eq!(report.missing, ["backbone.layers.1.mixer.D"]);
    assert_eq!(report.extra, ["backbone.layers.1.mixer.E"]);
    let wrong = refusal(checkpoint.model::<f32>().map(|_| ()));
    for word in ["1 tensor missing: `backbone.layers.1.mixer.D`", "no place for: `backbone.layers.1.mixer.E`"]
    {
        assert!(wrong.contains(word), "{wrong}");
    }
    let checkpoint = rename("\"shape\":[168,32]", "\"shape\":[32,168]");
    let report = checkpoint.report();
    assert_eq!(report.misfits[0].name, "backbone.layers.0.mixer.in_proj.weight");
    assert!(
        refusal(checkpoint.model::<f32>().map(|_| ()))
            .contains("(expected shape [168, 32], found [32, 168])")
    );

    let files = Files::of("model_tiny");
    files.set_config("vocab_size", "96");
    let wrong = refusal(files.open().unwrap().model::<f32>().map(|_| ()));
    assert!(wrong.contains("embedding.weight` (expected shape [96, 32], found [97, 32])"), "{wrong}");
    let other = Files::of("model_grouped"); // a model with a head of its own
    other.set_config("tie_word_embeddings", "true");
    let wrong = refusal(other.open().unwrap().model::<f32>().map(|_| ()));
    assert!(wrong.contains("`lm_head.weight`: expected the embedding"), "{wrong}");
    files.set_config("num_hidden_layers", "3");
    assert_eq!(files.open().unwrap().report().missing.len(), 9);
    assert!(files.open().unwrap().convert(&files.path("out"), Naming::Original).is_err());
    assert!(!files.path("out").exists());
}

#[test]
fn models_of_another_kind_are_refused_by_name() {
    let refused = |name: &str, key: &str, value: &str, words: &[&str]| {
        let files = Files::of(name);
        files.set_config(key, value);
        let wrong = refusal(files.open().map(|_| ()));
        assert!(wrong.contains("config.json"), "{wrong}");
        words.iter().for_each(|word| assert!(wrong.contains(word), "no {word} in {wrong}"));
    };
    refused("model_tiny", "model_type", r#""mamba""#, &["`model_type`", "Mamba-1"]);
    refused("model_tiny", "model_type", r#""llama""#, &["`model_type`", "llama"]);
    refused("model_tiny", "hidden_act", r#""gelu""#, &["`hidden_act`", "gelu"]);
    refused("model_tiny", "num_heads", "7", &["`num_heads`", "found 7"]);
    refused("model_tiny", "hidden_size", "\"32\"", &["`hidden_size`", "expected a size", "found \"32\""]);
    refused("model_tiny", "time_step_limit", "[1]", &["`time_step_limit`", "two numbers"]);
    refused("model_original_layout", "ssm_cfg", "{}", &["`ssm_cfg.layer`", "Mamba-1"]);
    refused("model_original_layout", "ssm_cfg", "null", &["`ssm_cfg`", "Mamba-1"]);
    refused("model_original_layout", "ssm_cfg", r#"{"layer": "Mamba1"}"#, &["`ssm_cfg.layer`", "Mamba-1"]);
    refused("model_original_layout", "ssm_cfg", r#"{"layer": "Mamba3"}"#, &["`ssm_cfg.layer`", "Mamba3"]);
    refused("model_original_layout", "rms_norm", "false", &["`rms_norm`"]);
    refused("model_original_layout", "n_layer", "18446744073709551615", &["`n_layer`"]);
    refused("model_hybrid", "attn_cfg", r#"{"num_heads": 4}"#, &["`attn_cfg.causal`"]);
    let rotary = r#"{"num_heads": 4, "causal": true, "rotary_emb_interleaved": true}"#;
    refused("model_hybrid", "attn_cfg", rotary, &["`attn_cfg.rotary_emb_interleaved`"]);
    let files = Files::of("model_tiny");
    files.rename_tensor("layers.1.mixer.in_proj.weight", "layers.1.mixer.x_proj.weight_");
    assert!(refusal(files.open().unwrap().model::<f32>().map(|_| ())).contains("Mamba-1"));
    for (key, value) in [("head_dim", "7"), ("n_groups", "3"), ("hidden_size", "0"), ("conv_kernel", "0")] {
        let files = Files::of("model_tiny");
        files.set_config(key, value);
        assert!(files.open().is_err(), "{key} = {value}");
    }
}

#[test]
fn what_is_not_a_checkpoint_is_refused_by_path() {
    let refused = |path: &Path, word: &str| {
        let wrong = refusal(Checkpoint::open(path).map(|_| ()));
        assert!(wrong.contains(word), "no {word} in {wrong}");
    };
    refused("no/such/folder".as_ref(), "no/such/folder");
    refused(&golden("model_tiny").join("config.json"), "not a folder");
    let files = Files::of("model_tiny");
    std::fs::remove_file(files.path("model.safetensors")).unwrap();
    refused(&files.path(""), "pytorch_model.bin");
    std::fs::create_dir(files.path("model.safetensors")).unwrap();
    refused(&files.path(""), "model.safetensors");
    for (text, word) in
        [("", "EOF"), ("[1]", "object"), ("{}", "`d_model`"), ("{\"d_model\": Infinity}", "`d_model`")]
    {
        files.write("config.json", text.as_bytes());
        refused(&files.path(""), word);
    }
    std::fs::remove_file(files.path("config.json")).unwrap();
    refused(&files.path(""), "config.json");
    let files = Files::of("model_original_layout");
    files.write("pytorch_model.bin", b"\x80\x02\x8a\x0a");
    refused(&files.path(""), "not a zip archive");
}

#[test]
fn nothing_is_written_over_what_is_there() {
    let folder = tempdir().unwrap();
    let from = open(&golden("model_tiny"));
    let to = folder.path().join("out");
    std::fs::create_dir(&to).unwrap();
    from.convert(&to, Naming::Original).unwrap();
    let wrong = refusal(from.convert(&to, Naming::HuggingFace).map(|_| ()));
    assert!(wrong.contains("something already"), "{wrong}");
    assert!(
        refusal(from.convert(&to.join("config.json"), Naming::Original).map(|_| ()))
            .contains("something already")
    );
    assert!(from.convert(&folder.path().join("no/such/place"), Naming::Original).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no traces of what failed");
    assert_eq!(open(&to).naming(), Naming::Original);
}
