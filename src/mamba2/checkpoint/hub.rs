//! Checkpoints by name from the Hugging Face hub.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};

use super::{WEIGHTS, json};
use crate::error::{Result, in_file};

/// Files that are taken along if a repository has them.
const COMPANIONS: [&str; 2] = ["tokenizer.json", "generation_config.json"];

/// The folder of the checkpoint `name`, such as `state-spaces/mamba2-130m`; what is not in the cache of the hub's
/// programs is downloaded, with a bar that tells how far it is, going on where an earlier download broke off.
///
/// # Errors
/// [`Error::File`](crate::Error::File), with the name as its path, if the hub cannot be reached, has no such repository, or
/// the repository has no weights.
pub fn fetch(name: &str) -> Result<PathBuf> {
    fetch_from(ApiBuilder::from_env(), name)
}

/// One file of the repository `name`, from the cache or the hub.
///
/// # Errors
/// [`Error::File`](crate::Error::File) if it cannot be had.
pub fn fetch_file(name: &str, file: &str) -> Result<PathBuf> {
    get(&repository(ApiBuilder::from_env(), name)?, name, file)
}

fn repository(api: ApiBuilder, name: &str) -> Result<ApiRepo> {
    let good = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    if !matches!(name.split_once('/'), Some((owner, model)) if good(owner) && good(model)) {
        let reason = "neither a folder nor a name on the hub, which is OWNER/MODEL";
        return Err(in_file(Path::new(name), reason));
    }
    let api = api.with_progress(true).build().map_err(|e| wrong(name, &e))?;
    Ok(api.model(name.to_owned()))
}

fn fetch_from(api: ApiBuilder, name: &str) -> Result<PathBuf> {
    let repository = repository(api, name)?;
    let config = get(&repository, name, "config.json")?;
    let there = repository.info().map_err(|e| wrong(name, &e))?;
    let there: Vec<_> = there.siblings.into_iter().map(|file| file.rfilename).collect();
    let weights = WEIGHTS.iter().find(|weights| there.iter().any(|file| file == *weights));
    let weights = weights.ok_or_else(|| {
        in_file(Path::new(name), format!("no weights: expected one of {}", WEIGHTS.join(", ")))
    })?;
    let path = get(&repository, name, weights)?;
    if weights.ends_with(".json") {
        for shard in super::safetensors::shards(&path, &json::read(&path)?)?.into_values() {
            get(&repository, name, &shard)?;
        }
    }
    for companion in COMPANIONS.iter().filter(|companion| there.iter().any(|file| file == *companion)) {
        get(&repository, name, companion)?;
    }
    config.parent().map(Path::to_owned).ok_or_else(|| in_file(Path::new(name), "the cache has no folder"))
}

fn get(repository: &ApiRepo, name: &str, file: &str) -> Result<PathBuf> {
    repository.get(file).map_err(|e| in_file(Path::new(name), format!("`{file}`: {e}")))
}

fn wrong(name: &str, e: &ApiError) -> crate::Error {
    in_file(Path::new(name), e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_is_not_there_is_an_error_that_names_the_model() {
        let cache = tempfile::tempdir().unwrap();
        let api = ApiBuilder::new()
            .with_cache_dir(cache.path().to_owned())
            .with_endpoint("http://127.0.0.1:1".to_owned()); // nobody listens there
        let wrong = fetch_from(api, "state-spaces/mamba2-130m").unwrap_err().to_string();
        assert!(wrong.contains("state-spaces/mamba2-130m") && wrong.contains("config.json"), "{wrong}");
    }

    #[test]
    fn what_cannot_be_a_name_is_not_asked_for() {
        for name in ["", "mamba2", "a/", "/b", "a/b/c", "../..", "a/..", "a b/c"] {
            let wrong = fetch(name).unwrap_err().to_string();
            assert!(wrong.contains("OWNER/MODEL"), "{name}: {wrong}");
        }
    }
}
