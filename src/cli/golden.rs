//! Cases with reference results that come with the tool.

/// A file by name and content.
#[derive(Debug, Clone, Copy)]
pub struct Golden {
    /// Name of the file.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
}

macro_rules! golden {
    ($($name:literal),* $(,)?) => {
        [$(Golden {
            name: concat!("ssd_", $name, ".safetensors"),
            bytes: include_bytes!(concat!("../../tests/golden/ssd_", $name, ".safetensors")),
        }),*]
    };
}

/// Results of the operator, computed in f64 by implementations that share nothing with this crate.
pub const GOLDEN: [Golden; 12] = golden![
    "plain",
    "ragged_length",
    "groups",
    "one_step",
    "skip_gate",
    "skip_per_channel",
    "softplus_bias",
    "everything",
    "initial_state",
    "packed_sequences",
    "strong_decay",
    "no_decay",
];
