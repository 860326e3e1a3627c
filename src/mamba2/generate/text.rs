//! Text to tokens and, as they come, back.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What turns text into tokens: a `tokenizer.json`.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Error::File`] if it is not there or not a tokenizer.
    pub fn open(path: &Path) -> Result<Self> {
        let wrong = |reason: String| Error::File { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
        let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| wrong(e.to_string()))?;
        Ok(Self { path: path.to_owned(), inner })
    }

    /// `Ok` if every token has a row in an embedding of `rows`.
    ///
    /// # Errors
    /// [`Error::File`] if there are more tokens than rows: the tokenizer of another model.
    pub fn check(&self, rows: usize) -> Result<()> {
        match self.inner.get_vocab_size(true) {
            size if size <= rows => Ok(()),
            size => Err(self.wrong(format!("expected a vocabulary of at most {rows} tokens, found {size}"))),
        }
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// [`Error::File`] if the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode(text, true).map_err(|e| self.wrong(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens; those that are only signs to the model have none.
    ///
    /// # Errors
    /// [`Error::File`] if the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(|e| self.wrong(e.to_string()))
    }

    fn wrong(&self, reason: String) -> Error {
        Error::File { path: self.path.clone(), reason }
    }
}

/// Text that comes token by token, up to a word at which it stops.
///
/// A token may hold a part of a character, and text may turn out to be the beginning of a stop word, so what is given out
/// is what can no longer change.
#[derive(Debug, Clone)]
pub struct Text<'t> {
    tokenizer: &'t Tokenizer,
    stops: Vec<String>,
    ids: Vec<u32>,
    /// Text before this token has been given out or is held; decoding starts a token group earlier, since the text of a
    /// token can depend on what stands before it.
    group: usize,
    done: usize,
    held: String,
    stopped: bool,
}

impl<'t> Text<'t> {
    /// Nothing yet; stop words are those that are not empty.
    pub fn new(tokenizer: &'t Tokenizer, stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { tokenizer, stops, ids: Vec::new(), group: 0, done: 0, held: String::new(), stopped: false }
    }

    /// What is certain with one token more.
    ///
    /// # Errors
    /// [`Error::File`] if the tokenizer fails.
    pub fn push(&mut self, token: u32) -> Result<String> {
        if self.stopped {
            return Ok(String::new());
        }
        self.ids.push(token);
        let before = self.tokenizer.decode(&self.ids[self.group..self.done])?;
        let now = self.tokenizer.decode(&self.ids[self.group..])?;
        if now.ends_with('\u{fffd}') {
            return Ok(String::new()); // a part of a character
        }
        self.held.push_str(now.get(before.len()..).unwrap_or_default());
        (self.group, self.done) = (self.done, self.ids.len());
        Ok(self.release())
    }

    /// What was held back, when no more tokens come.
    ///
    /// # Errors
    /// [`Error::File`] if the tokenizer fails.
    pub fn finish(mut self) -> Result<String> {
        if self.stopped {
            return Ok(String::new());
        }
        let before = self.tokenizer.decode(&self.ids[self.group..self.done])?;
        let now = self.tokenizer.decode(&self.ids[self.group..])?;
        self.held.push_str(now.get(before.len()..).unwrap_or_default());
        let certain = self.release();
        Ok(if self.stopped { certain } else { certain + &self.held })
    }

    /// Whether a stop word has come; nothing is given out from it on.
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// Takes out of `held` what is certain: all before a stop word, or before what may be the beginning of one.
    fn release(&mut self) -> String {
        if let Some(place) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(place);
            return std::mem::take(&mut self.held);
        }
        let may_begin = |place: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*place..]));
        let places = self.held.char_indices().map(|(place, _)| place);
        let certain = places.into_iter().find(may_begin).unwrap_or(self.held.len());
        let kept = self.held.split_off(certain);
        std::mem::replace(&mut self.held, kept)
    }
}
