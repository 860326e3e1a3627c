//! Weights in one file, or shared out to several with an index.

use std::fs::File;
use std::io::{Result, Write};
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::save::{Conversion, Tensor};
use super::{safetensors, torch};
use crate::mamba2::Naming;

/// Writes the tensors to new files in `folder`, which do not exist yet; yields their names.
pub(super) fn write(folder: &Path, how: Conversion, tensors: &[Tensor]) -> Result<Vec<String>> {
    let write_file = match how.naming {
        Naming::HuggingFace => safetensors::write,
        Naming::Original => torch::write,
    };
    let (stem, extension) = match how.naming {
        Naming::HuggingFace => ("model", "safetensors"),
        Naming::Original => ("pytorch_model", "bin"),
    };
    let sizes: Vec<u64> = tensors.iter().map(|tensor| tensor.size() as u64).collect();
    let shards = shared_out(&sizes, how.shard_bytes.unwrap_or(u64::MAX));
    if shards.len() <= 1 {
        let name = format!("{stem}.{extension}");
        write_file(&folder.join(&name), tensors)?;
        return Ok(vec![name]);
    }
    let (mut names, mut places) = (Vec::new(), Map::new());
    for (k, shard) in shards.iter().enumerate() {
        let name = format!("{stem}-{:05}-of-{:05}.{extension}", k + 1, shards.len());
        let part = &tensors[shard.clone()];
        write_file(&folder.join(&name), part)?;
        let titles = part.iter().flat_map(|tensor| [Some(tensor.name.as_str()), tensor.alias]);
        places.extend(titles.flatten().map(|title| (title.to_owned(), Value::from(name.as_str()))));
        names.push(name);
    }
    let index = format!("{stem}.{extension}.index.json");
    let content = json!({ "metadata": { "total_size": sizes.iter().sum::<u64>() }, "weight_map": places });
    let mut file = File::create_new(folder.join(&index))?;
    file.write_all(format!("{content:#}\n").as_bytes())?;
    file.sync_all()?;
    names.push(index);
    Ok(names)
}

/// Consecutive things of these sizes in as few groups as their order allows, none above `most` unless it is of one thing.
fn shared_out(sizes: &[u64], most: u64) -> Vec<Range<usize>> {
    let (mut groups, mut sum) = (Vec::<Range<usize>>::new(), 0_u64);
    for (k, &size) in sizes.iter().enumerate() {
        match (groups.last_mut(), sum.checked_add(size)) {
            (Some(group), Some(both)) if both <= most => (group.end, sum) = (k + 1, both),
            _ => {
                groups.push(k..k + 1);
                sum = size;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_as_large_as_the_limit_allows() {
        assert_eq!(shared_out(&[3, 4, 2, 9, 1, 1], 7), [0..2, 2..3, 3..4, 4..6]);
        assert_eq!(shared_out(&[3, 4], u64::MAX), vec![0..2]);
        assert_eq!(shared_out(&[u64::MAX, u64::MAX], u64::MAX), [0..1, 1..2]);
        assert_eq!(shared_out(&[1, 1], 0), [0..1, 1..2]);
        assert!(shared_out(&[], 5).is_empty());
    }
}
