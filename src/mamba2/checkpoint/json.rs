//! JSON as checkpoints hold it: with numbers that JSON does not have.

use std::borrow::Cow;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result, in_file};

/// The longest file read as JSON; configurations have a few kilobytes, the index of a large model a few hundred.
const LONGEST: u64 = 64 << 20;

/// The object in the file at `path`.
///
/// # Errors
/// [`Error::File`] if it cannot be read or is not a JSON object, apart from bare `Infinity`, `-Infinity` and `NaN`.
pub(super) fn read(path: &Path) -> Result<Map<String, Value>> {
    let size = std::fs::metadata(path).map_err(|e| in_file(path, e))?;
    if !size.is_file() || size.len() > LONGEST {
        return Err(in_file(path, "not a JSON file"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| in_file(path, e))?;
    let value = serde_json::from_str(&quote_bare_numbers(&text)).map_err(|e| in_file(path, e))?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(in_file(path, "expected a JSON object")),
    }
}

/// `text` with `Infinity`, `-Infinity` and `NaN` outside of strings as `{"__float__": "Infinity"}` and so on.
///
/// Python writes and reads these words, other readers refuse them, so newer files hold the longer form.
fn quote_bare_numbers(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    if !text.contains("Infinity") && !text.contains("NaN") {
        return text.into();
    }
    let mut quoted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = if first == '"' {
            string_len(rest)
        } else if let Some(word) = WORDS.iter().find(|word| rest.starts_with(**word)) {
            quoted.push_str(&format!(r#"{{"__float__":"{word}"}}"#));
            rest = &rest[word.len()..];
            continue;
        } else {
            first.len_utf8()
        };
        quoted.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    quoted.into()
}

/// Bytes of the string literal at the start of `text`, all of `text` if it does not end.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (k, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return k + 1,
            _ => {}
        }
    }
    text.len()
}

/// A number, in whichever way it is written.
pub(super) fn number(value: &Value) -> Option<f64> {
    let word = |object: &Map<String, Value>| match object.get("__float__")?.as_str()? {
        "Infinity" | "inf" => Some(f64::INFINITY),
        "-Infinity" | "-inf" => Some(f64::NEG_INFINITY),
        "NaN" | "nan" => Some(f64::NAN),
        other => other.parse().ok(),
    };
    value.as_f64().or_else(|| value.as_object().and_then(word))
}

/// An object of a file, read key by key; what is absent or null has a default.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    path: &'a Path,
    /// Names of the objects around this one, each with a dot behind it.
    within: &'static str,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The outermost object of the file at `path`, which is for messages.
    pub fn new(path: &'a Path, object: &'a Map<String, Value>) -> Self {
        Self { path, within: "", object }
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// The object under `key`, if there is one; `within` is its name and a dot.
    ///
    /// # Errors
    /// [`Error::File`] if there is something else.
    pub fn object(&self, key: &str, within: &'static str) -> Result<Option<Fields<'a>>> {
        self.read(key, "an object", Value::as_object)
            .map(|found| found.map(|object| Fields { within, object, ..*self }))
    }

    /// A size.
    ///
    /// # Errors
    /// [`Error::File`] if there is something else, or nothing and no default.
    pub fn size(&self, key: &str, default: Option<usize>) -> Result<usize> {
        let size = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        self.read(key, "a size", size)?.or(default).ok_or_else(|| self.wrong(key, "missing"))
    }

    /// A choice between two.
    ///
    /// # Errors
    /// [`Error::File`] if there is something else.
    pub fn truth(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.read(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// A real number.
    ///
    /// # Errors
    /// [`Error::File`] if there is something else.
    pub fn real(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.read(key, "a number", number)?.unwrap_or(default))
    }

    /// A word.
    ///
    /// # Errors
    /// [`Error::File`] if there is something else.
    pub fn word(&self, key: &str) -> Result<Option<&'a str>> {
        self.read(key, "a word", Value::as_str)
    }

    /// Sizes in a list; none if there is no list.
    ///
    /// # Errors
    /// [`Error::File`] if there is something else.
    pub fn sizes(&self, key: &str) -> Result<Vec<usize>> {
        let size = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        let list =
            |v: &Value| v.as_array().and_then(|list| list.iter().map(size).collect::<Option<Vec<_>>>());
        Ok(self.read(key, "a list of sizes", list)?.unwrap_or_default())
    }

    /// A lower and an upper limit.
    ///
    /// # Errors
    /// [`Error::File`] if there is something else.
    pub fn limits(&self, key: &str, default: (f64, f64)) -> Result<(f64, f64)> {
        let limits = |v: &Value| match v.as_array().map(Vec::as_slice) {
            Some([lower, upper]) => number(lower).zip(number(upper)),
            _ => None,
        };
        Ok(self.read(key, "two numbers", limits)?.unwrap_or(default))
    }

    /// An error about one key of this object.
    pub fn wrong(&self, key: &str, reason: impl std::fmt::Display) -> Error {
        in_file(self.path, format!("key `{}{key}`: {reason}", self.within))
    }

    fn value(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn read<T>(&self, key: &str, expected: &str, of: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let wrong = || {
            let found: String = value.to_string().chars().take(60).collect();
            self.wrong(key, format!("expected {expected}, found {found}"))
        };
        of(value).map(Some).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_lacks_are_read_in_either_form() {
        let text = r#"{"a": [0.0, Infinity], "b": -Infinity, "c": NaN, "d": {"__float__": "Infinity"},
            "\"Infinity": "NaN \\", "e": 1.5}"#;
        let value: Value = serde_json::from_str(&quote_bare_numbers(text)).unwrap();
        assert_eq!(number(&value["a"][1]), Some(f64::INFINITY));
        assert_eq!(number(&value["b"]), Some(f64::NEG_INFINITY));
        assert!(number(&value["c"]).unwrap().is_nan());
        assert_eq!(number(&value["d"]), Some(f64::INFINITY));
        assert_eq!(value["\"Infinity"], "NaN \\");
        assert_eq!(number(&value["e"]), Some(1.5));
        assert_eq!(number(&value["\"Infinity"]), None);
    }

    #[test]
    fn a_string_that_does_not_end_is_left_as_it_is() {
        for text in ["\"Infinity", "{\"a\": \"NaN\\", "\"\\"] {
            assert_eq!(quote_bare_numbers(text), text);
        }
    }
}
