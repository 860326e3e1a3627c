//! Continuations on standard output: one as it comes, several with a line each.

use super::super::put;
use crate::error::Result;
use crate::mamba2::generate::{Text, Tokenizer};

/// What continues each of several prompts, in their order. A line is printed as it comes once all lines above it have ended.
#[derive(Debug)]
pub struct Lines<'t> {
    lines: Vec<Line<'t>>,
    /// The line that is being printed.
    current: usize,
    /// Tokens that end a text.
    ends: Vec<u32>,
}

#[derive(Debug)]
struct Line<'t> {
    /// `None` if token ids are printed.
    text: Option<Text<'t>>,
    /// Token ids that have come.
    count: usize,
    /// What has come and is not printed yet.
    held: String,
    ended: bool,
}

impl<'t> Lines<'t> {
    /// So many lines of token ids.
    pub fn of_ids(count: usize) -> Self {
        Self::new((0..count).map(|_| None), Vec::new())
    }

    /// So many lines of text; each ends at a text of `stops` or at a token of `ends`.
    pub fn of_text(count: usize, tokenizer: &'t Tokenizer, stops: &[String], ends: Vec<u32>) -> Self {
        Self::new((0..count).map(|_| Some(Text::new(tokenizer, stops))), ends)
    }

    fn new(texts: impl Iterator<Item = Option<Text<'t>>>, ends: Vec<u32>) -> Self {
        let line = |text| Line { text, count: 0, held: String::new(), ended: false };
        Self { lines: texts.map(line).collect(), current: 0, ends }
    }

    /// One token more for line `k`; whether the line goes on.
    ///
    /// # Errors
    /// [`crate::Error::File`] if the tokenizer fails or standard output does not take it.
    pub fn push(&mut self, k: usize, token: u32) -> Result<bool> {
        let line = &mut self.lines[k];
        match &mut line.text {
            None => {
                let gap = if line.count == 0 { "" } else { " " };
                line.held.push_str(&format!("{gap}{token}"));
            }
            Some(_) if self.ends.contains(&token) => line.end()?,
            Some(text) => {
                line.held.push_str(&text.push(token)?);
                if text.has_stopped() {
                    line.end()?;
                }
            }
        }
        line.count += 1;
        let goes_on = !line.ended;
        self.print()?;
        Ok(goes_on)
    }

    /// Ends all lines; how many tokens came for all of them.
    ///
    /// # Errors
    /// As [`Lines::push`].
    pub fn finish(mut self) -> Result<usize> {
        self.lines.iter_mut().try_for_each(Line::end)?;
        self.print()?;
        Ok(self.lines.iter().map(|line| line.count).sum())
    }

    /// Prints what can be printed.
    fn print(&mut self) -> Result<()> {
        let several = self.lines.len() > 1;
        while let Some(line) = self.lines.get_mut(self.current) {
            let held = std::mem::take(&mut line.held);
            put(&if several { in_one_line(&held) } else { held })?;
            if !line.ended {
                return Ok(());
            }
            put("\n")?;
            self.current += 1;
        }
        Ok(())
    }
}

impl Line<'_> {
    fn end(&mut self) -> Result<()> {
        self.ended = true;
        let rest = self.text.take().map(Text::finish).transpose()?;
        self.held.push_str(&rest.unwrap_or_default());
        Ok(())
    }
}

/// `text` with its line breaks as `\n` and `\r`, and `\\` for its backslashes.
fn in_one_line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}
