//! A `pytorch_model.bin` as `torch.save` would write it.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::super::save::Tensor;
use crate::nn::Storage;

/// Writes the file, which must not exist yet.
pub(in super::super) fn write(path: &Path, tensors: &[Tensor]) -> Result<()> {
    let mut archive = ZipWriter::new(BufWriter::new(File::create_new(path)?));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(64) // numbers can be used where they lie
        .large_file(true);
    let mut record = |name: &str, content: &[u8]| -> Result<()> {
        archive.start_file(format!("pytorch_model/{name}"), options)?;
        archive.write_all(content)
    };
    record("data.pkl", &program(tensors))?;
    record("byteorder", b"little")?;
    for (key, tensor) in tensors.iter().enumerate() {
        record(&format!("data/{key}"), &tensor.bytes())?;
    }
    record("version", b"3\n")?;
    archive.finish()?.into_inner()?.sync_all()
}

/// The pickle: a dictionary of names and tensors, each tensor all of the storage of its number.
fn program(tensors: &[Tensor]) -> Vec<u8> {
    let mut program = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec(); // protocol 2; the dictionary; a mark
    for (key, tensor) in tensors.iter().enumerate() {
        item(&mut program, &tensor.name, key, tensor);
        if let Some(alias) = tensor.alias {
            item(&mut program, alias, key, tensor);
        }
    }
    program.extend(b"u."); // all pairs above the mark into the dictionary
    program
}

/// One name and `_rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`.
fn item(program: &mut Vec<u8>, name: &str, key: usize, tensor: &Tensor) {
    let class = match tensor.storage() {
        Storage::F64 => "DoubleStorage",
        Storage::F32 => "FloatStorage",
        Storage::Bf16 => "BFloat16Storage",
        Storage::F16 => "HalfStorage",
    };
    text(program, name);
    program.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(program, "storage");
    program.extend(format!("ctorch\n{class}\n").bytes());
    text(program, &key.to_string());
    text(program, "cpu");
    int(program, tensor.shape.iter().product());
    program.extend(b"tQ"); // the tuple stands for a storage
    int(program, 0);
    let mut strides = vec![1; tensor.shape.len()];
    for k in (1..strides.len()).rev() {
        strides[k - 1] = strides[k] * tensor.shape[k].max(1);
    }
    for lengths in [&tensor.shape, &strides] {
        program.push(b'(');
        lengths.iter().for_each(|&length| int(program, length));
        program.push(b't');
    }
    program.extend(b"\x89ccollections\nOrderedDict\n)RtR");
}

fn text(program: &mut Vec<u8>, text: &str) {
    program.push(b'X');
    program.extend((text.len() as u32).to_le_bytes());
    program.extend(text.bytes());
}

/// An integer of any size, in eight bytes.
fn int(program: &mut Vec<u8>, value: usize) {
    program.extend([0x8a, 8]);
    program.extend((value as u64).to_le_bytes());
}
