//! Tables in columns.

/// Rows of text under a header; columns of numbers are aligned on the right.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>, // the first is the header
    left: usize,            // that many columns are words
}

impl Table {
    /// An empty table whose first `left` columns hold words.
    pub fn new(header: &[&str], left: usize) -> Self {
        Self { rows: vec![header.iter().map(|&h| h.to_owned()).collect()], left }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// The table as text, a line a row.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |k: usize| {
            self.rows.iter().filter_map(|row| row.get(k)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (k, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let gap = if k == 0 { "" } else { "  " };
                let cell = if k < self.left { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
                line.push_str(gap);
                line.push_str(&cell);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
