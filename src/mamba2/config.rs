//! The sizes and choices of a model, and every size derived from them.

use crate::error::{Error, Result};
use crate::nn::GatedNorm;

/// The attention blocks of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionConfig {
    /// Which blocks mix by attention, ascending (`attn_layer_idx`).
    pub layers: Vec<usize>,
    /// Heads of queries (`num_heads`).
    pub heads: usize,
    /// Heads of keys and values (`num_heads_kv`): a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of a head (`head_dim`).
    pub head_dim: usize,
    /// Channels of a head that are rotated by the position, the first ones; even, 0 for none (`rotary_emb_dim`).
    pub rotary_dim: usize,
    /// The base of the wavelengths of the rotation (`rotary_emb_base`).
    pub rotary_base: f64,
    /// Width of the causal convolution over queries, keys and values, 0 for none (`d_conv`).
    pub conv_width: usize,
    /// Whether the projection to queries, keys and values has a bias (`qkv_proj_bias`).
    pub qkv_bias: bool,
    /// Whether the output projection has a bias (`out_proj_bias`).
    pub out_bias: bool,
}

/// The gated MLPs of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MlpConfig {
    /// Which blocks have one behind their mixer, ascending; all of them in published checkpoints.
    pub layers: Vec<usize>,
    /// Its inner width before rounding (`d_intermediate`).
    pub width: usize,
}

/// The sizes and choices of a model; in brackets the names of published configurations, the authors' first.
///
/// Sizes that follow from others ([`Config::heads`] and so on) are those of a configuration that [`Config::validate`] accepts;
/// for others they may panic by overflow or division by zero.
///
/// # Examples
/// ```
/// use semisep::mamba2::Config;
/// let config = Config::new(768, 24, 50288); // mamba2-130m
/// config.validate()?;
/// assert_eq!(config.heads(), 24);
/// assert_eq!(config.parameter_count()?, 128_989_632);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Width of the residual stream (`d_model`, `hidden_size`).
    pub d_model: usize,
    /// Number of blocks (`n_layer`, `num_hidden_layers`).
    pub n_layer: usize,
    /// Tokens of the vocabulary (`vocab_size`).
    pub vocab_size: usize,
    /// The embedding has rows up to the next multiple of this (`pad_vocab_size_multiple`).
    pub vocab_multiple: usize,
    /// Whether the head is the embedding (`tie_embeddings`, `tie_word_embeddings`).
    pub tie_embeddings: bool,
    /// Added to mean squares in all norms (`layer_norm_epsilon`).
    pub epsilon: f64,
    /// Width of the state of a head (`d_state`, `state_size`).
    pub state_dim: usize,
    /// Width of a head (`headdim`, `head_dim`).
    pub head_dim: usize,
    /// Groups of heads that share B and C (`ngroups`, `n_groups`).
    pub groups: usize,
    /// Inner width over `d_model` (`expand`).
    pub expand: usize,
    /// Channels that go through the operator (`d_ssm`); the rest of the inner width is a gated MLP beside it.
    pub d_ssm: usize,
    /// Width of the causal convolution (`d_conv`, `conv_kernel`).
    pub conv_width: usize,
    /// Whether the convolution has a bias (`conv_bias`, `use_conv_bias`).
    pub conv_bias: bool,
    /// Whether the projections of Mamba-2 layers have biases (`bias`, `use_bias`).
    pub proj_bias: bool,
    /// Whether the skip has one number a channel, not one a head (`D_has_hdim`).
    pub skip_per_channel: bool,
    /// Norm and gate before the output projection (`rmsnorm`, `norm_before_gate`).
    pub gated_norm: GatedNorm,
    /// Between which steps are clamped (`dt_limit`, `time_step_limit`).
    pub dt_limits: (f64, f64),
    /// Block length of the block decomposition (`chunk_size`); no result depends on it beyond rounding.
    pub chunk: usize,
    /// Attention blocks (`attn_layer_idx`, `attn_cfg`).
    pub attention: Option<AttentionConfig>,
    /// Gated MLPs behind the mixers (`d_intermediate`).
    pub mlp: Option<MlpConfig>,
}

/// No axis of a model is longer than this, so that no product of two of them overflows.
const LONGEST: usize = 1 << 28;

impl Config {
    /// A model of the released kind: everything not given as the authors' layer has it by default.
    pub fn new(d_model: usize, n_layer: usize, vocab_size: usize) -> Self {
        Self {
            d_model,
            n_layer,
            vocab_size,
            vocab_multiple: 1,
            tie_embeddings: true,
            epsilon: 1e-5,
            state_dim: 128,
            head_dim: 64,
            groups: 1,
            expand: 2,
            d_ssm: d_model.saturating_mul(2),
            conv_width: 4,
            conv_bias: true,
            proj_bias: false,
            skip_per_channel: false,
            gated_norm: GatedNorm::GateFirst,
            dt_limits: (0.0, f64::INFINITY),
            chunk: 256,
            attention: None,
            mlp: None,
        }
    }

    /// Rows of the embedding: the vocabulary, rounded up.
    pub fn vocab_rows(&self) -> usize {
        self.vocab_size.next_multiple_of(self.vocab_multiple)
    }

    /// Inner width, `expand · d_model`.
    pub fn d_inner(&self) -> usize {
        self.expand * self.d_model
    }

    /// Channels of the gated MLP beside the operator, `d_inner − d_ssm`.
    pub fn d_mlp(&self) -> usize {
        self.d_inner() - self.d_ssm
    }

    /// Heads of a Mamba-2 layer, `d_ssm / head_dim`.
    pub fn heads(&self) -> usize {
        self.d_ssm / self.head_dim
    }

    /// Channels of the convolution: x, B and C, `d_ssm + 2 groups · state_dim`.
    pub fn conv_dim(&self) -> usize {
        self.d_ssm + 2 * self.groups * self.state_dim
    }

    /// Outputs of the input projection: `[z0, x0,] z, xBC, dt`.
    pub fn in_proj_dim(&self) -> usize {
        2 * self.d_mlp() + self.d_ssm + self.conv_dim() + self.heads()
    }

    /// `Ok` if every size is possible and they agree with one another. What this accepts overflows nowhere.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("d_model", self.d_model),
            ("n_layer", self.n_layer),
            ("vocab_size", self.vocab_size),
            ("vocab_multiple", self.vocab_multiple),
            ("state_dim", self.state_dim),
            ("head_dim", self.head_dim),
            ("groups", self.groups),
            ("expand", self.expand),
            ("d_ssm", self.d_ssm),
            ("conv_width", self.conv_width),
            ("chunk", self.chunk),
        ];
        for (field, size) in sizes {
            check_size(field, size)?;
        }
        check_size("expand", self.d_inner())?;
        check_size("state_dim", self.groups * self.state_dim)?;
        let wrong = |field, reason| Err(Error::Config { field, reason });
        if self.d_ssm > self.d_inner() {
            let reason =
                format!("expected at most expand · d_model = {}, found {}", self.d_inner(), self.d_ssm);
            return wrong("d_ssm", reason);
        }
        if !self.d_ssm.is_multiple_of(self.head_dim) {
            return wrong(
                "head_dim",
                format!("expected a divisor of d_ssm = {}, found {}", self.d_ssm, self.head_dim),
            );
        }
        if !self.heads().is_multiple_of(self.groups) {
            return wrong(
                "groups",
                format!("expected a divisor of heads = {}, found {}", self.heads(), self.groups),
            );
        }
        if !(self.epsilon >= 0.0 && self.epsilon.is_finite()) {
            return wrong("epsilon", format!("expected a finite number, at least 0, found {}", self.epsilon));
        }
        let (lower, upper) = self.dt_limits;
        let ordered = lower <= upper; // not so with a NaN
        if !ordered || lower == f64::INFINITY || upper == f64::NEG_INFINITY {
            return wrong(
                "dt_limits",
                format!("expected a lower limit at most the upper one, found {lower} and {upper}"),
            );
        }
        if let Some(attention) = &self.attention {
            attention.validate(self.n_layer)?;
        }
        match &self.mlp {
            Some(mlp) => {
                check_size("mlp.width", mlp.width)?;
                check_layers("mlp.layers", &mlp.layers, self.n_layer)
            }
            None => Ok(()),
        }
    }

    /// Numbers in all parameters, a tied head counted once.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn parameter_count(&self) -> Result<u64> {
        let mut count = 0;
        self.shapes()?.for_each(|_, shape| count += shape.iter().map(|&n| n as u64).product::<u64>());
        Ok(count)
    }
}

impl AttentionConfig {
    /// Outputs of the projection to queries, keys and values.
    pub fn qkv_dim(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    fn validate(&self, n_layer: usize) -> Result<()> {
        check_layers("attn_layer_idx", &self.layers, n_layer)?;
        let sizes = [
            ("attn_cfg.num_heads", self.heads),
            ("attn_cfg.num_heads_kv", self.kv_heads),
            ("attn_cfg.head_dim", self.head_dim),
        ];
        for (field, size) in sizes {
            check_size(field, size)?;
        }
        check_size("attn_cfg.d_conv", self.conv_width.max(1))?;
        check_size("attn_cfg.head_dim", self.heads.saturating_mul(self.head_dim).saturating_mul(3))?;
        let wrong = |field, reason| Err(Error::Config { field, reason });
        if !self.heads.is_multiple_of(self.kv_heads) {
            let reason = format!("expected a divisor of num_heads = {}, found {}", self.heads, self.kv_heads);
            return wrong("attn_cfg.num_heads_kv", reason);
        }
        if self.rotary_dim > self.head_dim || !self.rotary_dim.is_multiple_of(2) {
            let reason = format!(
                "expected an even number up to head_dim = {}, found {}",
                self.head_dim, self.rotary_dim
            );
            return wrong("attn_cfg.rotary_emb_dim", reason);
        }
        if !(self.rotary_base > 0.0 && self.rotary_base.is_finite()) {
            return wrong(
                "attn_cfg.rotary_emb_base",
                format!("expected a positive number, found {}", self.rotary_base),
            );
        }
        Ok(())
    }
}

impl MlpConfig {
    /// Its inner width: `width` rounded up to a multiple of 128.
    pub fn hidden(&self) -> usize {
        self.width.next_multiple_of(128)
    }
}

fn check_size(field: &'static str, size: usize) -> Result<()> {
    if (1..=LONGEST).contains(&size) {
        return Ok(());
    }
    Err(Error::Config { field, reason: format!("expected at least 1 and at most 2^28, found {size}") })
}

fn check_layers(field: &'static str, layers: &[usize], n_layer: usize) -> Result<()> {
    let ascending = layers.is_sorted_by(|a, b| a < b);
    if ascending && layers.last().is_none_or(|&last| last < n_layer) {
        return Ok(());
    }
    let reason = format!("expected ascending numbers of blocks below {n_layer}, found {layers:?}");
    Err(Error::Config { field, reason })
}
