//! Checkpoints by name from the Hugging Face hub.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo};

use super::{WEIGHTS, json, safetensors};
use crate::error::{Result, in_file};

/// Files that are taken along if a repository has them.
const COMPANIONS: [&str; 2] = ["tokenizer.json", "generation_config.json"];

/// The folder of the checkpoint `name`, such as `state-spaces/mamba2-130m`. One that is whole in the cache of the hub's
/// programs is used as it is, without a connection; else what is not there is downloaded, with a bar that tells how far it
/// is, going on where an earlier download broke off.
///
/// # Errors
/// [`Error::File`](crate::Error::File), with the name as its path, if the hub cannot be reached, has no such repository, or
/// the repository has no weights.
pub fn fetch(name: &str) -> Result<PathBuf> {
    fetch_from(ApiBuilder::from_env(), &Cache::from_env(), name)
}

/// One file of the repository `name`, from the cache or the hub.
///
/// # Errors
/// [`Error::File`](crate::Error::File) if it cannot be had.
pub fn fetch_file(name: &str, file: &str) -> Result<PathBuf> {
    get(&repository(ApiBuilder::from_env(), name)?, name, file)
}

fn check_name(name: &str) -> Result<()> {
    let good = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    if matches!(name.split_once('/'), Some((owner, model)) if good(owner) && good(model)) {
        return Ok(());
    }
    Err(in_file(Path::new(name), "neither a folder nor a name on the hub, which is OWNER/MODEL"))
}

fn repository(api: ApiBuilder, name: &str) -> Result<ApiRepo> {
    check_name(name)?;
    let api = api.with_progress(true).build().map_err(|e| wrong(name, &e))?;
    Ok(api.model(name.to_owned()))
}

/// `cache` is that of `api`.
fn fetch_from(api: ApiBuilder, cache: &Cache, name: &str) -> Result<PathBuf> {
    check_name(name)?;
    let cache = cache.model(name.to_owned());
    if let Some(folder) = whole(&cache) {
        return Ok(folder);
    }
    let repository = repository(api, name)?;
    get(&repository, name, "config.json")?;
    let there = repository.info().map_err(|e| wrong(name, &e))?;
    let there: Vec<_> = there.siblings.into_iter().map(|file| file.rfilename).collect();
    let weights = WEIGHTS.iter().find(|weights| there.iter().any(|file| file == *weights));
    let weights = weights.ok_or_else(|| {
        in_file(Path::new(name), format!("no weights: expected one of {}", WEIGHTS.join(", ")))
    })?;
    // Companions first: where the weights are whole, they are there.
    for companion in COMPANIONS.iter().filter(|companion| there.iter().any(|file| file == *companion)) {
        get(&repository, name, companion)?;
    }
    let path = get(&repository, name, weights)?;
    if weights.ends_with(".json") {
        for shard in safetensors::shards(&path, &json::read(&path)?)?.into_values() {
            get(&repository, name, &shard)?;
        }
    }
    whole(&cache).ok_or_else(|| in_file(Path::new(name), "changed while it was fetched; fetch it again"))
}

/// The folder of the checkpoint in the cache, if all of it is there.
fn whole(cache: &CacheRepo) -> Option<PathBuf> {
    let config = cache.get("config.json")?;
    let weights = WEIGHTS.iter().find_map(|weights| cache.get(weights))?;
    if weights.extension().is_some_and(|extension| extension == "json") {
        let shards = safetensors::shards(&weights, &json::read(&weights).ok()?).ok()?;
        shards.values().all(|shard| cache.get(shard).is_some()).then_some(())?;
    }
    config.parent().map(Path::to_owned)
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

    /// What asks a hub that nobody runs.
    fn offline(cache: &Cache) -> ApiBuilder {
        ApiBuilder::from_cache(cache.clone()).with_endpoint("http://127.0.0.1:1".to_owned())
    }

    #[test]
    fn a_hub_that_is_not_there_is_an_error_that_names_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned());
        let wrong = fetch_from(offline(&cache), &cache, "state-spaces/mamba2-130m").unwrap_err().to_string();
        assert!(wrong.contains("state-spaces/mamba2-130m") && wrong.contains("config.json"), "{wrong}");
    }

    #[test]
    fn what_is_whole_in_the_cache_needs_no_hub_and_what_is_not_does() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned());
        let repository = cache.model("owner/tiny".to_owned());
        repository.create_ref("0123abcd").unwrap();
        let snapshot = repository.pointer_path("0123abcd");
        std::fs::create_dir_all(&snapshot).unwrap();
        let fetched = || fetch_from(offline(&cache), &cache, "owner/tiny");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model_tiny");
        let bring = |file: &str, to: &str| std::fs::copy(golden.join(file), snapshot.join(to)).unwrap();

        bring("config.json", "config.json");
        assert!(fetched().is_err(), "no weights");
        let index = snapshot.join("model.safetensors.index.json");
        std::fs::write(&index, r#"{"weight_map": {"v": "a.safetensors", "w": "b.safetensors"}}"#).unwrap();
        bring("model.safetensors", "a.safetensors");
        assert!(fetched().is_err(), "half of the weights");
        bring("model.safetensors", "b.safetensors");
        assert_eq!(fetched().unwrap(), snapshot);
        std::fs::write(&index, r#"{"weight_map": {"w": "../../w.safetensors"}}"#).unwrap();
        assert!(fetched().is_err(), "an index that leads elsewhere");
        bring("model.safetensors", "model.safetensors");
        let checkpoint = super::super::Checkpoint::open(&fetched().unwrap()).unwrap();
        assert!(checkpoint.report().is_clean());
    }

    #[test]
    fn what_cannot_be_a_name_is_not_asked_for() {
        for name in ["", "mamba2", "a/", "/b", "a/b/c", "../..", "a/..", "a b/c"] {
            let wrong = fetch(name).unwrap_err().to_string();
            assert!(wrong.contains("OWNER/MODEL"), "{name}: {wrong}");
        }
    }
}
