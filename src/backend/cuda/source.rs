//! The kernels' sources, compiled into the crate, and the programs made of them.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::architecture::Architecture;

/// A file under `cuda/`, known by its name: comparing and hashing, which every start of a kernel does, do not read the text.
#[derive(Debug)]
pub struct Source {
    /// Its path below `cuda/`.
    pub name: &'static str,
    /// What it holds.
    pub text: &'static str,
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Source {}

impl Hash for Source {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        &[$(Source { name: $name, text: include_str!(concat!("../../../cuda/", $name)) }),*]
    };
}

/// What kernels include, by the names they include it by.
pub const HEADERS: &[Source] = sources![
    "common/beside.cuh",
    "common/exact.cuh",
    "common/exp2.cuh",
    "common/hopper.cuh",
    "common/mma.cuh",
    "common/scalar.cuh",
    "common/softplus.cuh",
    "common/storage.cuh",
    "common/sums.cuh",
    "common/sweep.cuh",
    "common/wgmma.cuh",
    "ssd/portable/chunk.cuh",
    "ssd/portable/tile.cuh",
    "ssd/selective_scan.cuh",
    "ssd/sm90/backward.cuh",
    "ssd/sm90/backward_columns.cuh",
    "ssd/sm90/backward_rows.cuh",
    "ssd/sm90/forward_back.cuh",
    "ssd/sm90/forward_feed.cuh",
    "ssd/sm90/forward_mask.cuh",
    "ssd/sm90/forward_plan.cuh",
    "ssd/sm90/forward_state.cuh",
    "ssd/sm90/forward_steps.cuh",
    "ssd/sm90/hopper.cuh",
];

/// The files that hold kernels.
pub const KERNELS: &[Source] = sources![
    "fill.cu",
    "ssd/decays.cu",
    "ssd/decode.cu",
    "ssd/discretize.cu",
    "ssd/portable/channels.cu",
    "ssd/portable/decays.cu",
    "ssd/portable/features.cu",
    "ssd/portable/states.cu",
    "ssd/quadratic.cu",
    "ssd/quadratic_vjp.cu",
    "ssd/recurrent.cu",
    "ssd/recurrent_vjp.cu",
    "ssd/selective_scan.cu",
    "ssd/selective_scan_vjp.cu",
    "ssd/sm90/backward_chunks.cu",
    "ssd/sm90/backward_states.cu",
    "ssd/sm90/backward_steps.cu",
    "ssd/sm90/forward.cu",
    "ssd/sm90/segment.cu",
    "ssd/states.cu",
    "ssd/sums.cu",
];

/// A source with the sizes and types that its compiler must know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Program {
    source: &'static Source,
    defines: Vec<(&'static str, String)>,
}

impl Program {
    /// The file `name` of [`KERNELS`] with nothing defined.
    pub(crate) fn new(name: &'static str) -> Self {
        match KERNELS.iter().find(|source| source.name == name) {
            Some(source) => Self { source, defines: Vec::new() },
            None => unreachable!("{name} is not in the table of sources"),
        }
    }

    /// Defines a macro.
    pub(crate) fn define(mut self, name: &'static str, value: impl ToString) -> Self {
        self.defines.push((name, value.to_string()));
        self
    }

    /// The file.
    pub fn source(&self) -> &'static Source {
        self.source
    }

    /// What is defined, in order.
    pub fn defines(&self) -> &[(&'static str, String)] {
        &self.defines
    }

    /// Whether it is of the Hopper tier, `cuda/ssd/sm90/`, and compiled for that architecture alone.
    pub fn is_hopper(&self) -> bool {
        self.source.name.contains("/sm90/")
    }

    /// Whether it is for an architecture.
    pub fn runs_on(&self, target: Architecture) -> bool {
        target.is_hopper() || !self.is_hopper()
    }

    /// The headers that the source includes, and those that they include, each once.
    pub fn headers(&self) -> Vec<&'static Source> {
        let mut found: Vec<&'static Source> = Vec::new();
        let mut open = vec![self.source.text];
        while let Some(text) = open.pop() {
            let named =
                text.lines().filter_map(|line| line.trim().strip_prefix("#include \"")?.split('"').next());
            for name in named {
                let header = HEADERS.iter().find(|header| header.name == name);
                if let Some(header) = header.filter(|header| !found.contains(header)) {
                    found.push(header);
                    open.push(header.text);
                }
            }
        }
        found.sort_by_key(|header| header.name);
        found
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source.name)?;
        self.defines.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}
