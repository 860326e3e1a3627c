//! What the weights in files lack, compared with what a configuration asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::entry::Entry;
use crate::mamba2::Config;

/// What the files of a checkpoint have too much or too little of; names are the authors'.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Tensors that the model needs and the files do not have.
    pub missing: Vec<String>,
    /// Tensors that the files have and the model has no place for.
    pub extra: Vec<String>,
    /// Tensors of another shape or type than the model needs.
    pub misfits: Vec<Misfit>,
}

/// A tensor of another shape or type than a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Its name.
    pub name: String,
    /// What the model needs.
    pub expected: String,
    /// What the files have.
    pub found: String,
}

impl Report {
    pub(super) fn new(config: &Config, entries: &BTreeMap<String, Entry>) -> Self {
        let mut report = Self::default();
        let mut known = BTreeSet::new();
        let Ok(shapes) = config.shapes() else { return report }; // whoever opens a checkpoint has validated it
        shapes.for_each(|name, shape| {
            match entries.get(name) {
                Some(entry) => report.compare(name, shape, entry),
                None => report.missing.push(name.to_owned()),
            }
            known.insert(name.to_owned());
        });
        let head = "lm_head.weight";
        if let (true, Some(entry)) = (known.insert(head.to_owned()), entries.get(head)) {
            report.compare(head, &shapes.embedding, entry); // a tied head may repeat the embedding
        }
        report.extra = entries.keys().filter(|name| !known.contains(*name)).cloned().collect();
        report
    }

    fn compare(&mut self, name: &str, shape: &[usize], entry: &Entry) {
        let mut misfit =
            |expected, found| self.misfits.push(Misfit { name: name.to_owned(), expected, found });
        if entry.shape != shape {
            misfit(format!("shape {shape:?}"), format!("{:?}", entry.shape));
        } else if let Err(found) = &entry.storage {
            misfit("type f64, f32, bf16 or f16".into(), found.clone());
        }
    }

    /// Whether the files hold the model, no more and no less.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.misfits.is_empty()
    }

    /// Whether the names are those of a Mamba-1 model.
    pub fn is_mamba1(&self) -> bool {
        self.extra.iter().any(|name| name.contains(".mixer.x_proj.") || name.contains(".mixer.dt_proj."))
    }
}

impl fmt::Display for Report {
    /// One line: counts, and the first few names of each kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("all tensors are there, none too many, all of the right shape");
        }
        if self.is_mamba1() {
            f.write_str("the tensors of a Mamba-1 model, expected those of Mamba-2; ")?;
        }
        let misfit = |m: &Misfit| format!("`{}` (expected {}, found {})", m.name, m.expected, m.found);
        let quoted = |name: &String| format!("`{name}`");
        let groups = [
            ("of the wrong shape or type", self.misfits.iter().map(misfit).collect::<Vec<_>>()),
            ("missing", self.missing.iter().map(quoted).collect()),
            ("that the model has no place for", self.extra.iter().map(quoted).collect()),
        ];
        let mut gap = "";
        for (what, names) in groups.iter().filter(|(_, names)| !names.is_empty()) {
            let more = if names.len() > 4 { ", ..." } else { "" };
            let plural = if names.len() == 1 { "tensor" } else { "tensors" };
            write!(
                f,
                "{gap}{} {plural} {what}: {}{more}",
                names.len(),
                names[..names.len().min(4)].join(", ")
            )?;
            gap = "; ";
        }
        Ok(())
    }
}
