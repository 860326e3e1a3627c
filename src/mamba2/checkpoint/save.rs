//! Checkpoints as folders of files, that appear whole or not at all.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value};

use super::{config, shards};
use crate::error::{Result, in_file};
use crate::mamba2::{Config, Model, Naming};
use crate::nn::{Numbers, Storage, Weight};
use crate::scalar::Real;

/// How a checkpoint is to be written.
///
/// # Examples
/// ```
/// use semisep::mamba2::Naming;
/// use semisep::mamba2::checkpoint::Conversion;
/// let how = Conversion { shard_bytes: Some(5_000_000_000), ..Naming::HuggingFace.into() };
/// assert_eq!(how.storage, None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conversion {
    /// Whose layout.
    pub naming: Naming,
    /// Type of the numbers; every tensor keeps its own if there is none.
    pub storage: Option<Storage>,
    /// The most bytes of tensors in a file, unless one tensor alone has more; all are in one file if there is no limit.
    pub shard_bytes: Option<u64>,
}

impl From<Naming> for Conversion {
    fn from(naming: Naming) -> Self {
        Self { naming, ..Self::default() }
    }
}

/// A tensor to be written.
#[derive(Debug)]
pub(super) struct Tensor {
    pub name: String,
    /// A second name, where a file has one.
    pub alias: Option<&'static str>,
    pub shape: Vec<usize>,
    pub numbers: Numbered,
}

/// The numbers of a tensor: as they are, or to be stored in a type when their turn comes.
#[derive(Debug)]
pub(super) enum Numbered {
    Plain(Numbers),
    Converted(Numbers, Storage),
}

impl Tensor {
    /// The type in the file.
    pub fn storage(&self) -> Storage {
        match &self.numbers {
            Numbered::Plain(numbers) => numbers.storage(),
            Numbered::Converted(_, storage) => *storage,
        }
    }

    /// Bytes in the file.
    pub fn size(&self) -> usize {
        let (Numbered::Plain(numbers) | Numbered::Converted(numbers, _)) = &self.numbers;
        numbers.len() * self.storage().bytes()
    }

    /// The bytes, least significant first.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.numbers {
            Numbered::Plain(numbers) => little_endian(numbers),
            Numbered::Converted(numbers, storage) => {
                Cow::Owned(little_endian(&numbers.stored_as(*storage)).into_owned())
            }
        }
    }
}

fn little_endian(numbers: &Numbers) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        return Cow::Borrowed(match numbers {
            Numbers::F64(numbers) => bytemuck::cast_slice(numbers.as_slice()),
            Numbers::F32(numbers) => bytemuck::cast_slice(numbers.as_slice()),
            Numbers::Bf16(numbers) => bytemuck::cast_slice(numbers.as_slice()),
            Numbers::F16(numbers) => bytemuck::cast_slice(numbers.as_slice()),
        });
    }
    Cow::Owned(match numbers {
        Numbers::F64(numbers) => numbers.as_slice().iter().flat_map(|v| v.to_le_bytes()).collect(),
        Numbers::F32(numbers) => numbers.as_slice().iter().flat_map(|v| v.to_le_bytes()).collect(),
        Numbers::Bf16(numbers) => numbers.as_slice().iter().flat_map(|v| v.to_le_bytes()).collect(),
        Numbers::F16(numbers) => numbers.as_slice().iter().flat_map(|v| v.to_le_bytes()).collect(),
    })
}

/// The type by the name that configurations have for it.
pub(super) fn long_name(storage: Storage) -> &'static str {
    match storage {
        Storage::F64 => "float64",
        Storage::F32 => "float32",
        Storage::Bf16 => "bfloat16",
        Storage::F16 => "float16",
    }
}

/// Whether errors in the tensor `name` add up over a sequence.
pub(super) fn is_sensitive(name: &str) -> bool {
    [".A_log", ".dt_bias", ".D"].iter().any(|end| name.ends_with(end))
}

/// Writes `model` to the folder `to` in the layout of `naming`, its numbers as they are.
///
/// The folder appears whole or not at all. [`Checkpoint::open`](super::Checkpoint::open) reads it.
///
/// # Errors
/// [`Error::File`](crate::Error::File) if there is something in `to` already or the disk does not take it,
/// [`Error::Config`](crate::Error::Config) if that layout cannot say what this model is.
pub fn save<A: Real>(model: &Model<Weight<A>>, to: &Path, naming: Naming) -> Result<()> {
    let mut json = config::object(model.config(), naming)?;
    if naming == Naming::HuggingFace {
        let storage = model.embedding.numbers().storage();
        json.insert("dtype".into(), long_name(storage).into());
    }
    let mut tensors = Vec::new();
    model.try_map(naming, |name, weight| {
        let numbers = Numbered::Plain(weight.numbers().clone());
        let alias = alias(model.config(), naming, name);
        tensors.push(Tensor { name: name.to_owned(), alias, shape: weight.shape().to_vec(), numbers });
        Ok::<_, crate::Error>(())
    })?;
    write(to, naming.into(), json, &tensors, None).map(|_| ())
}

/// The second name of the tensor `name`: in the authors' files a tied head repeats the embedding.
pub(super) fn alias(config: &Config, naming: Naming, name: &str) -> Option<&'static str> {
    let repeated = config.tie_embeddings && naming == Naming::Original && name == "backbone.embedding.weight";
    repeated.then_some("lm_head.weight")
}

/// What a checkpoint may hold beside configuration and weights.
const COMPANIONS: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "README.md",
];

/// Writes a checkpoint, with what `from` holds for its users; yields the names of the files of weights.
pub(super) fn write(
    to: &Path,
    how: Conversion,
    json: Map<String, Value>,
    tensors: &[Tensor],
    from: Option<&Path>,
) -> Result<Vec<String>> {
    let empty = |folder: &Path| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if std::fs::symlink_metadata(to).is_ok() && !empty(to) {
        return Err(in_file(to, "there is something already; expected a new or an empty folder"));
    }
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let wrong = |e: std::io::Error| in_file(to, e);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".semisep-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777)); // less what the umask takes
    let folder = builder.tempdir_in(parent).map_err(wrong)?;
    let inside = |name: &str| folder.path().join(name);

    let weights = shards::write(folder.path(), how, tensors).map_err(wrong)?;
    let text = serde_json::to_string_pretty(&Value::Object(json)).map_err(|e| in_file(to, e))?;
    let mut file = std::fs::File::create(inside("config.json")).map_err(wrong)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(wrong)?;
    // Whoever may read the one may read the other, whatever the writer of the weights thinks of that.
    let permissions = file.metadata().map_err(wrong)?.permissions();
    for file in &weights {
        std::fs::set_permissions(inside(file), permissions.clone()).map_err(wrong)?;
    }
    for name in COMPANIONS {
        if let Some(companion) = from.map(|from| from.join(name)).filter(|path| path.is_file()) {
            std::fs::copy(&companion, inside(name)).map_err(|e| in_file(&companion, e))?;
        }
    }
    let made = folder.keep();
    std::fs::rename(&made, to).map_err(|e| {
        let _ = std::fs::remove_dir_all(&made); // the first error is the one to tell
        in_file(to, e)
    })?;
    Ok(weights)
}
