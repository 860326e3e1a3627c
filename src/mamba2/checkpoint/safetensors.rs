//! Weights as safetensors: one file, or several with an index.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ::safetensors::View;
use ::safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::entry::Entry;
use super::json;
use super::map::MappedFile;
use super::save::Tensor;
use crate::error::{Result, in_file};
use crate::nn::Storage;

/// The tensors of the file at `path`, by name.
///
/// # Errors
/// [`crate::Error::File`] if it is not a whole safetensors file.
pub(super) fn entries(path: &Path) -> Result<BTreeMap<String, Entry>> {
    let file = Arc::new(MappedFile::open(path)?);
    let (start, header) = checked_header(path, file.bytes())?;
    let entry = |info: &TensorInfo| Entry {
        storage: stored_type(info.dtype),
        shape: info.shape.clone(),
        strides: None,
        file: Arc::clone(&file),
        bytes: start + info.data_offsets.0..start + info.data_offsets.1,
    };
    Ok(header.tensors().into_iter().map(|(name, info)| (name, entry(info))).collect())
}

fn stored_type(dtype: ::safetensors::Dtype) -> std::result::Result<Storage, String> {
    match dtype {
        ::safetensors::Dtype::F64 => Ok(Storage::F64),
        ::safetensors::Dtype::F32 => Ok(Storage::F32),
        ::safetensors::Dtype::BF16 => Ok(Storage::Bf16),
        ::safetensors::Dtype::F16 => Ok(Storage::F16),
        other => Err(format!("{other:?}")),
    }
}

/// `Ok` if `bytes` are a whole safetensors file, whatever lengths stand in its header; `path` is for messages.
///
/// # Errors
/// [`crate::Error::File`] if they are not.
#[cfg(feature = "cli")]
pub(crate) fn check_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    checked_header(path, bytes).map(|_| ())
}

fn checked_header(path: &Path, bytes: &[u8]) -> Result<(usize, Metadata)> {
    header(bytes).map_err(|reason| in_file(path, format!("not a whole safetensors file: {reason}")))
}

/// Where the numbers begin, and the header, of which all offsets are in the file.
fn header(bytes: &[u8]) -> std::result::Result<(usize, Metadata), String> {
    let (len, rest) = bytes.split_first_chunk().ok_or("it ends before its header")?;
    let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| "its header is longer than memory")?;
    let (header, numbers) = rest.split_at_checked(len).ok_or("it ends in its header")?;
    let _: Once = serde_json::from_slice(header).map_err(|e| e.to_string())?;
    let header: Metadata = serde_json::from_slice(header).map_err(|e| e.to_string())?;
    if header.data_len() != numbers.len() {
        return Err(format!("expected {} bytes of numbers, found {}", header.data_len(), numbers.len()));
    }
    Ok((bytes.len() - numbers.len(), header))
}

/// An object in which no name stands twice; a map would keep the last of two.
struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(of: D) -> std::result::Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Once;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names and tensors")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Once, M::Error> {
                let mut names = BTreeSet::new();
                while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                    if let Some(name) = names.replace(name) {
                        return Err(M::Error::custom(format!("tensor `{name}` is there twice")));
                    }
                }
                Ok(Once)
            }
        }
        of.deserialize_map(Names)
    }
}

/// The tensors that the index at `path` names, each from the file beside it that the index says; `read` reads such a file.
///
/// # Errors
/// [`crate::Error::File`] if the index is not one, a file is missing or wrong, or a tensor is not where it should be.
pub(super) fn indexed(
    path: &Path,
    read: impl Fn(&Path) -> Result<BTreeMap<String, Entry>>,
) -> Result<BTreeMap<String, Entry>> {
    let places = shards(path, &json::read(path)?)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut tensors = BTreeMap::new();
    for file in places.values().collect::<BTreeSet<_>>() {
        for (name, entry) in read(&folder.join(file))? {
            let wrong =
                |found: String| Err(in_file(path, format!("tensor `{name}` is in `{file}`, {found}")));
            match places.get(&name) {
                Some(place) if place != file => return wrong(format!("not in `{place}`")),
                None if tensors.contains_key(&name) => return wrong("and in another file".into()),
                _ => {}
            }
            tensors.insert(name, entry);
        }
    }
    match places.iter().find(|(tensor, _)| !tensors.contains_key(*tensor)) {
        Some((tensor, file)) => Err(in_file(path, format!("tensor `{tensor}` is not in `{file}`"))),
        None => Ok(tensors),
    }
}

/// Which file has which tensor, as the index at `path` says.
pub(super) fn shards(path: &Path, index: &Map<String, Value>) -> Result<BTreeMap<String, String>> {
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| in_file(path, "key `weight_map`: expected names of tensors and files"))?;
    let place = |(tensor, file): (&String, &Value)| match file.as_str() {
        Some(file) if is_plain_name(file) => Ok((tensor.clone(), file.to_owned())),
        _ => {
            let reason = format!("key `weight_map`: expected a file beside the index for `{tensor}`");
            Err(in_file(path, reason))
        }
    };
    map.iter().map(place).collect()
}

/// Writes one file, which must not exist yet.
pub(super) fn write(path: &Path, tensors: &[Tensor]) -> std::io::Result<()> {
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let views = tensors.iter().map(|tensor| (tensor.name.as_str(), Written(tensor)));
    ::safetensors::serialize_to_file(views, Some(metadata), path).map_err(std::io::Error::other)?;
    std::fs::File::open(path)?.sync_all()
}

/// A tensor whose bytes are made when they are written.
struct Written<'a>(&'a Tensor);

impl View for Written<'_> {
    fn dtype(&self) -> ::safetensors::Dtype {
        match self.0.storage() {
            Storage::F64 => ::safetensors::Dtype::F64,
            Storage::F32 => ::safetensors::Dtype::F32,
            Storage::Bf16 => ::safetensors::Dtype::BF16,
            Storage::F16 => ::safetensors::Dtype::F16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.bytes()
    }

    fn data_len(&self) -> usize {
        self.0.size()
    }
}

/// Whether `name` is a name in a folder, not a way out of it.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(header: &str, numbers: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), numbers].concat()
    }

    #[test]
    fn a_header_that_promises_what_is_not_there_is_an_error() {
        let tensor = |shape: &str, end: &str| {
            format!(r#"{{"w":{{"dtype":"U8","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
        };
        assert!(header(&with_header(&tensor("[4]", "4"), &[0; 4])).is_ok());
        for (shape, end) in [
            ("[5]", "5"),
            ("[4]", "5"),
            ("[18446744073709551615]", "18446744073709551615"),
            ("[4294967296,4294967296]", "4"),
        ] {
            assert!(header(&with_header(&tensor(shape, end), &[0; 4])).is_err(), "{shape}");
        }
        assert!(header(&[0xff; 64]).is_err(), "a header of 2^64 bytes");
        let one = tensor("[4]", "4");
        let twice = format!("{},{}", &one[..one.len() - 1], &one[1..]);
        let wrong = header(&with_header(&twice, &[0; 4])).unwrap_err();
        assert!(wrong.contains("`w` is there twice"), "{wrong}");
    }

    #[test]
    fn names_in_an_index_do_not_lead_elsewhere() {
        for name in ["", ".", "..", "../w", "/etc/passwd", "a/b", "c:w"] {
            assert!(!is_plain_name(name), "{name}");
        }
        assert!(is_plain_name("model-00001-of-00002.safetensors"));
    }
}
