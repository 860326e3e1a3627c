//! A tokenizer with a token for each of a few bytes.
#![allow(dead_code)] // not every test needs all of it

use std::path::Path;

use semisep::mamba2::generate::Tokenizer;
use serde_json::{Map, Value, json};
use tempfile::{TempDir, tempdir};

/// The sign for the end of a text.
pub const END: u32 = 0;

/// As byte-level tokenizers write them: the space, and the two bytes of é.
const BYTES: [&str; 30] = [
    "Ġ", "Ã", "©", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r",
    "s", "t", "u", "v", "w", "x", "y", "z", ".",
];

/// The token of a byte.
pub fn id(byte: &str) -> u32 {
    1 + BYTES.iter().position(|&b| b == byte).expect("a byte of the vocabulary") as u32
}

/// Writes `tokenizer.json` into a folder.
pub fn write(folder: &Path) {
    let mut vocabulary: Map<String, Value> = BYTES.iter().map(|&b| (b.to_owned(), id(b).into())).collect();
    vocabulary.insert("<end>".into(), END.into());
    let level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{"id": END, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": level,
        "post_processor": null,
        "decoder": level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": []},
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).expect("a place to write");
}

pub fn tokenizer() -> (TempDir, Tokenizer) {
    let folder = tempdir().expect("a folder");
    write(folder.path());
    let tokenizer = Tokenizer::open(&folder.path().join("tokenizer.json")).expect("a tokenizer");
    (folder, tokenizer)
}
