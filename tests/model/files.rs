//! Checkpoints that can be changed.
#![allow(dead_code)] // not every test needs all of it

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use semisep::mamba2::Model;
use semisep::mamba2::checkpoint::Checkpoint;
use semisep::nn::Weight;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

pub const MODELS: [&str; 7] = [
    "model_tiny",
    "model_grouped",
    "model_original_layout",
    "model_hybrid",
    "model_transformer",
    "model_odd",
    "model_odd_hybrid",
];

/// Folder of a reference model.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn open(folder: &Path) -> Checkpoint {
    Checkpoint::open(folder).unwrap_or_else(|wrong| panic!("{}: {wrong}", folder.display()))
}

/// What an error says.
pub fn refusal(result: semisep::Result<()>) -> String {
    result.expect_err("an error").to_string()
}

/// All numbers of a model, by name.
pub fn bits(model: &Model<Weight<f32>>) -> BTreeMap<String, (Vec<usize>, Vec<u32>)> {
    let mut all = BTreeMap::new();
    model.for_each(|name, weight| {
        let numbers = weight.to_array().iter().map(|v| v.to_bits()).collect();
        all.insert(name.to_owned(), (weight.shape().to_vec(), numbers));
    });
    all
}

/// Names and shapes of a safetensors file.
pub fn header(path: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect()
}

/// A copy of a reference model.
#[derive(Debug)]
pub struct Files(TempDir);

impl Files {
    pub fn of(name: &str) -> Self {
        let folder = tempdir().unwrap();
        for file in ["config.json", "model.safetensors", "pytorch_model.bin"] {
            if let Ok(bytes) = std::fs::read(golden(name).join(file)) {
                std::fs::write(folder.path().join(file), bytes).unwrap();
            }
        }
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn open(&self) -> semisep::Result<Checkpoint> {
        Checkpoint::open(self.0.path())
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// `value` is any text, also one that is not JSON.
    pub fn set_config(&self, key: &str, value: &str) {
        self.drop_config(key);
        let text = std::fs::read_to_string(self.path("config.json")).unwrap();
        let rest = text.trim_start().strip_prefix('{').unwrap();
        self.write("config.json", format!("{{\"{key}\": {value}, {rest}").as_bytes());
    }

    pub fn drop_config(&self, key: &str) {
        let text = std::fs::read_to_string(self.path("config.json")).unwrap();
        let mut value: Value = serde_json::from_str(&text).unwrap();
        value.as_object_mut().unwrap().remove(key);
        self.write("config.json", value.to_string().as_bytes());
    }

    /// Puts `to` for the first `from` in the header of the weights.
    pub fn rename_tensor(&self, from: &str, to: &str) {
        let bytes = std::fs::read(self.path("model.safetensors")).unwrap();
        let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = std::str::from_utf8(&bytes[8..8 + len]).unwrap();
        assert!(header.contains(from), "no {from} in {header}");
        let header = header.replacen(from, to, 1);
        let whole = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[8 + len..]].concat();
        self.write("model.safetensors", &whole);
    }

    /// The same weights in two files with an index.
    pub fn shard(&self) {
        let bytes = std::fs::read(self.path("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut map = serde_json::Map::new();
        for (shard, rest) in [("a.safetensors", 0), ("b.safetensors", 1)] {
            let own: Vec<(String, TensorView<'_>)> = file
                .tensors()
                .into_iter()
                .enumerate()
                .filter(|(k, _)| k % 2 == rest)
                .map(|(_, t)| t)
                .collect();
            map.extend(own.iter().map(|(name, _)| (name.clone(), shard.into())));
            self.write(shard, &safetensors::serialize(own, None).unwrap());
        }
        let index = serde_json::json!({"metadata": {"total_size": bytes.len()}, "weight_map": map});
        self.write("model.safetensors.index.json", index.to_string().as_bytes());
        std::fs::remove_file(self.path("model.safetensors")).unwrap();
    }
}
