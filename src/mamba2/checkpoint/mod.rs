//! Models from files and to files, as they are published.
//!
//! A checkpoint is a folder. Two publishers have two layouts:
//!
//! | | the authors' | Hugging Face's |
//! |---|---|---|
//! | `config.json` | `d_model`, `n_layer`, `ssm_cfg`, ... | `hidden_size`, `num_hidden_layers`, ... |
//! | weights | `pytorch_model.bin` | `model.safetensors` |
//! | several files | `pytorch_model-00001-of-00002.bin`, ... with `pytorch_model.bin.index.json` | `model-00001-of-00002.safetensors`, ... with `model.safetensors.index.json` |
//! | embedding | `backbone.embedding.weight` | `backbone.embeddings.weight` |
//! | a tied head | `lm_head.weight` repeats the embedding | absent |
//!
//! Reading takes any mixture of these. Weights are not read but mapped: they are in memory when they are used, in the type
//! in which they are stored, and several processes share them. `pytorch_model.bin` holds a pickle, which is a program; it
//! is read by a machine that knows how to describe tensors and nothing else.
//!
//! ```no_run
//! use semisep::mamba2::checkpoint::Checkpoint;
//!
//! let checkpoint = Checkpoint::open("mamba2-130m".as_ref())?; // looks at names and shapes only
//! println!("{}", checkpoint.report());
//! let model = checkpoint.model::<f32>()?;
//! # Ok::<(), semisep::Error>(())
//! ```

mod config;
mod entry;
#[cfg(feature = "hub")]
mod hub;
mod json;
mod map;
mod report;
mod safetensors;
mod save;
mod shards;
mod torch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Config, Model, Naming};
use crate::error::{Result, in_file};
use crate::nn::{Numbers, Storage, Weight};
use crate::scalar::Real;
use entry::Entry;
#[cfg(feature = "hub")]
pub use hub::{fetch, fetch_file};
pub use report::{Misfit, Report};
#[cfg(feature = "cli")]
pub(crate) use safetensors::check_whole;
pub use save::{Conversion, save};

/// A model in files: its configuration, and where its weights are.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    folder: PathBuf,
    config: Config,
    naming: Naming,
    /// What the configuration file holds, for keys that a [`Config`] has no use for.
    json: Map<String, Value>,
    /// By the authors' names.
    entries: BTreeMap<String, Entry>,
}

/// Files of weights, the first that is there counts.
const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

impl Checkpoint {
    /// Looks at the checkpoint in `folder`: reads the configuration and the headers, and maps the files of weights.
    ///
    /// The files must stay as they are while the checkpoint, or a model of it, is in use.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if a file is missing, is not whole or is not what it should be, or if the model
    /// is of another kind; [`Error::Config`](crate::Error::Config) if its sizes contradict each other. Whether the
    /// weights are all there, the [report](Self::report) tells.
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(in_file(folder, "not a folder with a model"));
        }
        let path = folder.join("config.json");
        let json = json::read(&path)?;
        let (config, naming) = config::parse(&path, &json)?;
        let weights = WEIGHTS.map(|name| folder.join(name));
        let Some(place) = weights.iter().position(|path| path.exists()) else {
            return Err(in_file(folder, format!("no weights: expected one of {}", WEIGHTS.join(", "))));
        };
        let path = &weights[place];
        let entries = match place {
            0 => safetensors::entries(path),
            1 => safetensors::indexed(path, safetensors::entries),
            2 => torch::entries(path),
            _ => safetensors::indexed(path, torch::entries),
        }?;
        let mut by_name = BTreeMap::new();
        for (name, entry) in entries {
            let name = authors_name(name);
            if by_name.contains_key(&name) {
                return Err(in_file(
                    path,
                    format!("tensor `{name}` is there twice, by the names of both layouts"),
                ));
            }
            by_name.insert(name, entry);
        }
        Ok(Self { folder: folder.to_owned(), config, naming, json, entries: by_name })
    }

    /// Sizes and choices of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// In whose keys the configuration is written.
    pub fn naming(&self) -> Naming {
        self.naming
    }

    /// Where the checkpoint is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Tokens that end a text, as the configuration says (`eos_token_id`).
    pub fn end_tokens(&self) -> Vec<u32> {
        let token = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match self.json.get("eos_token_id") {
            Some(Value::Array(ids)) => ids.iter().filter_map(token).collect(),
            Some(id) => token(id).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// How many numbers are stored in each type, and the bytes that they take in the files.
    pub fn stored(&self) -> BTreeMap<&str, (u64, u64)> {
        let mut types = BTreeMap::new();
        for entry in self.entries.values() {
            let (name, size) = match &entry.storage {
                Ok(storage) => (storage.name(), storage.bytes()),
                Err(name) => (name.as_str(), 0),
            };
            let count: &mut (u64, u64) = types.entry(name).or_default();
            count.0 += entry.len() as u64;
            count.1 += entry.len() as u64 * size as u64;
        }
        types
    }

    /// What the files have too much or too little of, compared with the configuration.
    pub fn report(&self) -> Report {
        Report::new(&self.config, &self.entries)
    }

    /// The model, its weights in the files.
    ///
    /// Numbers that lie in the file otherwise than memory would have them, and all but matrices, are copied.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) with the [report](Self::report) if it is not clean.
    pub fn model<A: Real>(&self) -> Result<Model<Weight<A>>> {
        self.weights(|_, numbers| numbers)
    }

    /// The model with its matrices in memory, stored as `how`.
    ///
    /// # Errors
    /// As [`model`](Self::model).
    pub fn model_in<A: Real>(&self, how: Storage) -> Result<Model<Weight<A>>> {
        self.weights(|shape, numbers| if shape.len() == 2 { numbers.stored_as(how) } else { numbers })
    }

    fn weights<A: Real>(&self, store: impl Fn(&[usize], Numbers) -> Numbers) -> Result<Model<Weight<A>>> {
        self.check()?;
        self.config.shapes()?.try_map(Naming::Original, |name, shape| {
            let numbers = self.entries[name].numbers()?;
            Weight::new(shape, store(shape, numbers))
        })
    }

    /// Writes the checkpoint to the folder `to`; yields the names of the files of weights. The decays, steps and skips
    /// (`A_log`, `dt_bias`, `D`) are never made narrower, since small errors in them add up over a sequence.
    ///
    /// The folder appears whole or not at all. The files of a tokenizer come along.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if the report is not clean, if there is something in `to` already, or if the
    /// disk does not take it; [`Error::Config`](crate::Error::Config) if that layout cannot say what this model is.
    pub fn convert(&self, to: &Path, how: impl Into<Conversion>) -> Result<Vec<String>> {
        self.check()?;
        let how = how.into();
        let naming = how.naming;
        let mut json =
            if naming == self.naming { self.json.clone() } else { config::object(&self.config, naming)? };
        if let (Naming::HuggingFace, Some(storage)) = (naming, how.storage) {
            json.insert("dtype".into(), save::long_name(storage).into());
        }
        let mut tensors = Vec::new();
        self.config.shapes()?.try_map(naming, |name, shape| {
            let numbers = self.entries[&authors_name(name.to_owned())].numbers()?;
            let numbers = match how.storage {
                Some(storage)
                    if !(save::is_sensitive(name) && storage.bytes() < numbers.storage().bytes()) =>
                {
                    save::Numbered::Converted(numbers, storage)
                }
                _ => save::Numbered::Plain(numbers),
            };
            let alias = save::alias(&self.config, naming, name);
            tensors.push(save::Tensor { name: name.to_owned(), alias, shape: shape.clone(), numbers });
            Ok::<_, crate::Error>(())
        })?;
        save::write(to, how, json, &tensors, Some(&self.folder))
    }

    fn check(&self) -> Result<()> {
        let report = self.report();
        if !report.is_clean() {
            return Err(in_file(&self.folder, report));
        }
        // Readers disagree about which of the two counts, so that either may be wrong.
        let head = self.entries.get("lm_head.weight").filter(|_| self.config.tie_embeddings);
        match head.map(|head| head.same_numbers(&self.entries["backbone.embedding.weight"])).transpose()? {
            Some(false) => {
                let reason = "tensor `lm_head.weight`: expected the embedding, as the configuration says, found another matrix";
                Err(in_file(&self.folder, reason))
            }
            _ => Ok(()),
        }
    }
}

/// The authors' name of a tensor.
fn authors_name(name: String) -> String {
    match name.as_str() {
        "backbone.embeddings.weight" => "backbone.embedding.weight".to_owned(),
        _ => name,
    }
}
