//! `pytorch_model.bin`: a zip archive with a pickle that names the tensors, and a record for each storage.
//!
//! Records are stored as they are, so they can be used in place.

mod pickle;
mod write;

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use zip::{CompressionMethod, ZipArchive};

use super::entry::Entry;
use super::map::MappedFile;
use crate::error::{Result, in_file};

pub(super) use write::write;

/// The tensors of the file at `path`, by name.
///
/// # Errors
/// [`crate::Error::File`] if it is not such a file, is not whole, or its pickle asks for anything but tensors.
pub(super) fn entries(path: &Path) -> Result<BTreeMap<String, Entry>> {
    let file = Arc::new(MappedFile::open(path)?);
    if !file.bytes().starts_with(b"PK\x03\x04") {
        let reason = "not a zip archive, which `torch.save` has written since version 1.6";
        return Err(in_file(path, reason));
    }
    let wrong = |e: zip::result::ZipError| in_file(path, format!("not a whole zip archive: {e}"));
    let mut archive = ZipArchive::new(Cursor::new(file.bytes())).map_err(wrong)?;
    let suffix = "/data.pkl";
    let names = archive.file_names().map(|name| name.map(|name| name.into_owned()));
    let names = names.collect::<std::result::Result<Vec<_>, _>>().map_err(wrong)?;
    let pickles: Vec<_> = names.iter().filter(|name| name.ends_with(suffix)).collect();
    let [pickle_name] = pickles[..] else {
        return Err(in_file(path, format!("expected one record `*{suffix}`, found {}", pickles.len())));
    };
    let folder = &pickle_name[..pickle_name.len() - suffix.len()];

    let byte_order = format!("{folder}/byteorder");
    if names.contains(&byte_order) && read(path, &mut archive, &byte_order)? != b"little" {
        return Err(in_file(path, "expected numbers with the least significant byte first"));
    }
    let program = read(path, &mut archive, pickle_name)?;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in pickle::tensors(&program).map_err(|reason| in_file(path, reason))? {
        let entry = entry(&file, &mut archive, folder, &tensor)
            .map_err(|reason| in_file(path, format!("tensor `{name}`: {reason}")))?;
        if tensors.insert(name.to_owned(), entry).is_some() {
            return Err(in_file(path, format!("tensor `{name}` is there twice")));
        }
    }
    Ok(tensors)
}

/// The content of a small record, checked against its checksum.
fn read(path: &Path, archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str) -> Result<Vec<u8>> {
    let wrong = |e: &dyn std::fmt::Display| in_file(path, format!("record `{name}`: {e}"));
    let mut record = archive.by_name(name).map_err(|e| wrong(&e))?;
    if record.compression() != CompressionMethod::Stored || record.encrypted() {
        return Err(wrong(&"expected it as it is, found it packed"));
    }
    let mut content = Vec::new();
    record.read_to_end(&mut content).map_err(|e| wrong(&e))?;
    Ok(content)
}

/// Where a tensor lies, with everything checked that [`Entry`] promises.
fn entry(
    file: &Arc<MappedFile>,
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    folder: &str,
    tensor: &pickle::Tensor<'_>,
) -> std::result::Result<Entry, String> {
    let name = format!("{folder}/data/{}", tensor.key);
    let record = archive.by_name(&name).map_err(|e| format!("record `{name}`: {e}"))?;
    if record.compression() != CompressionMethod::Stored || record.encrypted() {
        return Err(format!("record `{name}`: expected numbers as they are, found them packed"));
    }
    let short = || format!("record `{name}`: not all of it is in the file");
    let start = record.data_start().and_then(|n| usize::try_from(n).ok()).ok_or_else(short)?;
    let size = usize::try_from(record.compressed_size()).map_err(|_| short())?;
    let end = start.checked_add(size).filter(|&end| end <= file.bytes().len()).ok_or_else(short)?;

    let (len, span) = extent(&tensor.shape, &tensor.strides)
        .ok_or_else(|| format!("shape {:?} and strides {:?} do not fit", tensor.shape, tensor.strides))?;
    // Tensors of other types are told about when somebody asks for their numbers.
    let Ok(storage) = tensor.dtype else {
        let (storage, shape) = (tensor.dtype.clone(), tensor.shape.clone());
        return Ok(Entry { storage, shape, strides: None, file: Arc::clone(file), bytes: start..start });
    };
    let each = storage.bytes();
    if tensor.storage_len.checked_mul(each) != Some(size) {
        let expected = format!("{} numbers of {}", tensor.storage_len, storage.name());
        return Err(format!("record `{name}`: expected {expected}, found {size} bytes"));
    }
    let left = tensor.storage_len.checked_sub(tensor.offset);
    if left.is_none_or(|left| span > left || len > left) {
        let (shape, offset) = (&tensor.shape, tensor.offset);
        let storage = tensor.storage_len;
        return Err(format!(
            "shape {shape:?} from {offset} on does not fit into a storage of {storage} numbers"
        ));
    }
    let rows_in_order = strides_of_rows(&tensor.shape, &tensor.strides);
    let first = start + tensor.offset * each;
    Ok(Entry {
        storage: tensor.dtype.clone(),
        shape: tensor.shape.clone(),
        strides: (!rows_in_order).then(|| tensor.strides.clone()),
        file: Arc::clone(file),
        bytes: if rows_in_order { first..first + len * each } else { first..end },
    })
}

/// How many numbers there are, and how far behind the first the end of the last one is; `None` if beyond counting.
fn extent(shape: &[usize], strides: &[usize]) -> Option<(usize, usize)> {
    if shape.len() != strides.len() {
        return None;
    }
    let len = shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis))?;
    if len == 0 {
        return Some((0, 0));
    }
    let last = shape.iter().zip(strides).try_fold(0_usize, |last, (&axis, &stride)| {
        (axis - 1).checked_mul(stride).and_then(|step| last.checked_add(step))
    })?;
    Some((len, last.checked_add(1)?))
}

/// Whether the numbers lie in the order of the rows, one behind the other.
fn strides_of_rows(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&axis, &stride)| {
        let fits = axis == 1 || stride == expected;
        expected *= axis;
        fits
    })
}
