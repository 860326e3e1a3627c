//! Running the tool, and changing its input files.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Command, Output};

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

pub const GOLDEN: [&str; 12] = [
    "plain",
    "ragged_length",
    "groups",
    "one_step",
    "skip_gate",
    "skip_per_channel",
    "softplus_bias",
    "everything",
    "initial_state",
    "packed_sequences",
    "strong_decay",
    "no_decay",
];

/// Path of a reference file.
pub fn golden(name: &str) -> String {
    format!("{}/tests/golden/ssd_{name}.safetensors", env!("CARGO_MANIFEST_DIR"))
}

pub fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_semisep")).args(arguments).output().expect("the tool starts")
}

/// Runs the tool, expects success and nothing on standard error; returns what it printed.
pub fn succeeds(arguments: &[&str]) -> String {
    let output = run(arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {complaint}");
    assert!(complaint.is_empty(), "{arguments:?}: {complaint}");
    String::from_utf8(output.stdout).expect("text")
}

/// Runs the tool, expects exit status 2 and one line on standard error that holds all `words`.
pub fn fails(arguments: &[&str], words: &[&str]) {
    let output = run(arguments);
    let complaint = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    assert!(complaint.starts_with("error: ") && complaint.ends_with('\n'), "{arguments:?}: {complaint}");
    assert_eq!(complaint.lines().count(), 1, "{arguments:?}: {complaint}");
    for word in words {
        assert!(complaint.contains(word), "{arguments:?}: no {word} in {complaint}");
    }
}

/// A safetensors file that can be changed.
#[derive(Debug, Default, Clone)]
pub struct Tensors {
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    metadata: HashMap<String, String>,
}

impl Tensors {
    pub fn read(path: &str) -> Self {
        let bytes = std::fs::read(path).expect("a file");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
        let file = SafeTensors::deserialize(&bytes).expect("a whole file");
        let own = |v: TensorView<'_>| (v.dtype(), v.shape().to_vec(), v.data().to_vec());
        let tensors = file.iter().map(|(name, view)| (name.to_owned(), own(view))).collect();
        Self { tensors, metadata: header.metadata().clone().unwrap_or_default() }
    }

    pub fn write(&self, path: &Path) {
        let view =
            |(dtype, shape, data): &'_ (Dtype, Vec<usize>, Vec<u8>)| (*dtype, shape.clone(), data.clone());
        let owned: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name, view(tensor))).collect();
        let views = owned.iter().map(|(name, (dtype, shape, data))| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), data).expect("shape and data agree"))
        });
        let bytes = safetensors::serialize(views, Some(self.metadata.clone())).expect("a file");
        std::fs::write(path, bytes).expect("a place to write");
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn dtype(&self, name: &str) -> Dtype {
        self.tensors[name].0
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.tensors[name].1
    }

    pub fn numbers(&self, name: &str) -> Vec<f64> {
        let (dtype, _, data) = &self.tensors[name];
        let words = data.chunks_exact(dtype.bitsize() / 8);
        match dtype {
            Dtype::F64 => words.map(|w| f64::from_le_bytes(w.try_into().expect("8 bytes"))).collect(),
            Dtype::F32 => words.map(|w| f32::from_le_bytes(w.try_into().expect("4 bytes")).into()).collect(),
            Dtype::F16 => words.map(|w| f16::from_le_bytes(w.try_into().expect("2 bytes")).into()).collect(),
            Dtype::BF16 => {
                words.map(|w| bf16::from_le_bytes(w.try_into().expect("2 bytes")).into()).collect()
            }
            other => panic!("{name} holds {other:?}"),
        }
    }

    pub fn insert_f64(&mut self, name: &str, shape: Vec<usize>, values: &[f64]) {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.insert(name.to_owned(), (Dtype::F64, shape, data));
    }

    pub fn insert_i32(&mut self, name: &str, shape: Vec<usize>, values: &[i32]) {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.insert(name.to_owned(), (Dtype::I32, shape, data));
    }

    pub fn insert_i64(&mut self, name: &str, shape: Vec<usize>, values: &[i64]) {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.insert(name.to_owned(), (Dtype::I64, shape, data));
    }

    pub fn integers(&self, name: &str) -> Vec<i64> {
        let (dtype, _, data) = &self.tensors[name];
        assert_eq!(*dtype, Dtype::I64, "{name}");
        data.chunks_exact(8).map(|w| i64::from_le_bytes(w.try_into().expect("8 bytes"))).collect()
    }

    pub fn set_numbers(&mut self, name: &str, values: &[f64]) {
        self.insert_f64(name, self.shape(name).to_vec(), values);
    }

    pub fn round_to_bf16(&mut self, name: &str) {
        let data = self.numbers(name).iter().flat_map(|&v| bf16::from_f64(v).to_le_bytes()).collect();
        self.tensors.insert(name.to_owned(), (Dtype::BF16, self.shape(name).to_vec(), data));
    }

    /// The same bytes under another type of the same width.
    pub fn relabel(&mut self, name: &str, dtype: Dtype) {
        let (_, shape, data) = self.tensors[name].clone();
        self.tensors.insert(name.to_owned(), (dtype, shape, data));
    }

    pub fn remove(&mut self, name: &str) {
        assert!(self.tensors.remove(name).is_some(), "no {name}");
    }

    pub fn set_metadata(&mut self, key: &str, value: &str) {
        self.metadata.insert(key.to_owned(), value.to_owned());
    }
}

/// Every tag that opens closes in order, attributes are quoted, and text holds no bare ampersand.
pub fn assert_well_formed(name: &str, text: &str) {
    assert!(text.starts_with("<svg "), "{name}");
    let mut open = Vec::new();
    for (k, part) in text.split('<').enumerate().skip(1) {
        let (tag, rest) = part.split_once('>').unwrap_or_else(|| panic!("{name}: tag {k} does not end"));
        assert!(!rest.contains('>'), "{name}: a bare > after <{tag}>");
        assert_eq!(tag.matches('"').count() % 2, 0, "{name}: quotes in <{tag}>");
        for ampersand in part.split('&').skip(1) {
            assert!(ampersand.contains(';'), "{name}: a bare ampersand in {part}");
        }
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "{name}");
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().expect("a name"));
        }
        assert!(!open.is_empty() || k + 1 == text.split('<').count(), "{name}: more than one root");
    }
    assert!(open.is_empty(), "{name}: {open:?} stay open");
}
