//! Configurations in the keys of either publisher.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::json::Fields;
use crate::error::{Error, Result};
use crate::mamba2::{AttentionConfig, Config, GatedNorm, MlpConfig, Naming};

/// The configuration in the file at `path`, whose object is `object`, and whose keys it has.
///
/// # Errors
/// [`Error::File`] naming the key if one is missing, is not what it should be, or asks for a model of another kind;
/// [`Error::Config`] if the sizes do not fit together.
pub(super) fn parse(path: &Path, object: &Map<String, Value>) -> Result<(Config, Naming)> {
    let fields = Fields::new(path, object);
    let (config, naming) = if fields.has("d_model") {
        (original(&fields)?, Naming::Original)
    } else if fields.has("hidden_size") {
        (hugging_face(&fields)?, Naming::HuggingFace)
    } else {
        return Err(
            fields.wrong("d_model", "missing, and so is `hidden_size`: not the configuration of a model")
        );
    };
    config.validate()?;
    Ok((config, naming))
}

const SILU: [&str; 2] = ["silu", "swish"];
const NO_LIMITS: (f64, f64) = (0.0, f64::INFINITY);

fn check_activation(fields: &Fields<'_>, key: &str) -> Result<()> {
    match fields.word(key)? {
        Some(name) if !SILU.contains(&name) => {
            Err(fields.wrong(key, format!("expected silu, found `{name}`")))
        }
        _ => Ok(()),
    }
}

/// A number of blocks, few enough to make a list of them before any file of weights is looked at.
fn block_count(fields: &Fields<'_>, key: &str) -> Result<usize> {
    match fields.size(key, None)? {
        count if count <= 1 << 14 => Ok(count),
        count => Err(fields.wrong(key, format!("expected at most 16384, found {count}"))),
    }
}

fn hugging_face(fields: &Fields<'_>) -> Result<Config> {
    match fields.word("model_type")? {
        Some("mamba2") | None => {}
        Some("mamba") => {
            return Err(fields.wrong("model_type", "expected `mamba2`, found `mamba`: a Mamba-1 model"));
        }
        Some(other) => return Err(fields.wrong("model_type", format!("expected `mamba2`, found `{other}`"))),
    }
    check_activation(fields, "hidden_act")?;
    let (d_model, vocab_size) = (fields.size("hidden_size", None)?, fields.size("vocab_size", None)?);
    let mut config = Config::new(d_model, block_count(fields, "num_hidden_layers")?, vocab_size);
    config.tie_embeddings = fields.truth("tie_word_embeddings", false)?;
    config.epsilon = fields.real("layer_norm_epsilon", 1e-5)?;
    config.state_dim = fields.size("state_size", Some(128))?;
    config.head_dim = fields.size("head_dim", Some(64))?;
    config.groups = fields.size("n_groups", Some(8))?;
    config.expand = fields.size("expand", Some(2))?;
    config.d_ssm = config.expand.saturating_mul(config.d_model);
    config.conv_width = fields.size("conv_kernel", Some(4))?;
    config.conv_bias = fields.truth("use_conv_bias", true)?;
    config.proj_bias = fields.truth("use_bias", false)?;
    config.dt_limits = fields.limits("time_step_limit", NO_LIMITS)?;
    config.chunk = fields.size("chunk_size", Some(256))?;
    let heads = fields.size("num_heads", Some(config.d_ssm / config.head_dim.max(1)))?;
    if heads.checked_mul(config.head_dim) != Some(config.d_ssm) {
        let (d_ssm, head_dim) = (config.d_ssm, config.head_dim);
        let reason =
            format!("expected expand * hidden_size / head_dim = {d_ssm} / {head_dim}, found {heads}");
        return Err(fields.wrong("num_heads", reason));
    }
    Ok(config)
}

fn original(fields: &Fields<'_>) -> Result<Config> {
    let (d_model, vocab_size) = (fields.size("d_model", None)?, fields.size("vocab_size", None)?);
    let mut config = Config::new(d_model, block_count(fields, "n_layer")?, vocab_size);
    config.vocab_multiple = fields.size("pad_vocab_size_multiple", Some(8))?;
    config.tie_embeddings = fields.truth("tie_embeddings", true)?;
    if !fields.truth("rms_norm", true)? {
        return Err(fields.wrong("rms_norm", "expected true, found false: a model with LayerNorm"));
    }
    let mut attention = fields.sizes("attn_layer_idx")?;
    attention.sort_unstable();
    attention.dedup();
    let mixers = config.n_layer.saturating_sub(attention.len());
    if let Some(ssm) = fields.object("ssm_cfg", "ssm_cfg.")? {
        check_kind(&ssm, mixers)?;
        layer(&ssm, &mut config)?;
    } else if mixers > 0 {
        return Err(fields.wrong("ssm_cfg", "missing, which means a Mamba-1 model; expected one of Mamba-2"));
    }
    if !attention.is_empty() {
        let missing = || fields.wrong("attn_cfg", "missing, though there are attention layers");
        let attn = fields.object("attn_cfg", "attn_cfg.")?.ok_or_else(missing)?;
        config.attention = Some(attention_config(&attn, attention, config.d_model)?);
    }
    let width = fields.size("d_intermediate", Some(0))?;
    if width > 0 {
        let layers = (0..config.n_layer).collect();
        config.mlp = Some(MlpConfig { layers, width });
    }
    Ok(config)
}

/// The kind of the layers that are not attention, of which there are `mixers`.
fn check_kind(ssm: &Fields<'_>, mixers: usize) -> Result<()> {
    match ssm.word("layer")? {
        Some("Mamba2") => Ok(()),
        _ if mixers == 0 => Ok(()),
        None => Err(ssm.wrong("layer", "missing, which means a Mamba-1 model; expected `Mamba2`")),
        Some("Mamba1") => Err(ssm.wrong("layer", "expected `Mamba2`, found `Mamba1`: a Mamba-1 model")),
        Some(other) => Err(ssm.wrong("layer", format!("expected `Mamba2`, found `{other}`"))),
    }
}

fn layer(ssm: &Fields<'_>, config: &mut Config) -> Result<()> {
    check_activation(ssm, "activation")?;
    config.state_dim = ssm.size("d_state", Some(128))?;
    config.head_dim = ssm.size("headdim", Some(64))?;
    config.groups = ssm.size("ngroups", Some(1))?;
    config.expand = ssm.size("expand", Some(2))?;
    config.d_ssm = ssm.size("d_ssm", Some(config.expand.saturating_mul(config.d_model)))?;
    config.conv_width = ssm.size("d_conv", Some(4))?;
    config.conv_bias = ssm.truth("conv_bias", true)?;
    config.proj_bias = ssm.truth("bias", false)?;
    config.skip_per_channel = ssm.truth("D_has_hdim", false)?;
    config.gated_norm = match (ssm.truth("rmsnorm", true)?, ssm.truth("norm_before_gate", false)?) {
        (false, _) => GatedNorm::GateOnly,
        (true, false) => GatedNorm::GateFirst,
        (true, true) => GatedNorm::NormFirst,
    };
    config.dt_limits = ssm.limits("dt_limit", NO_LIMITS)?;
    config.chunk = ssm.size("chunk_size", Some(256))?;
    Ok(())
}

fn attention_config(attn: &Fields<'_>, layers: Vec<usize>, d_model: usize) -> Result<AttentionConfig> {
    if !attn.truth("causal", false)? {
        return Err(attn.wrong("causal", "expected true: a language model sees no later tokens"));
    }
    if attn.truth("rotary_emb_interleaved", false)? {
        return Err(attn.wrong("rotary_emb_interleaved", "expected false: channels are rotated in halves"));
    }
    for key in ["softmax_scale", "mlp_dim"] {
        if attn.real(key, 0.0)? != 0.0 {
            return Err(attn.wrong(key, "expected none"));
        }
    }
    let heads = attn.size("num_heads", None)?;
    Ok(AttentionConfig {
        layers,
        heads,
        kv_heads: attn.size("num_heads_kv", Some(heads))?,
        head_dim: attn.size("head_dim", d_model.checked_div(heads))?,
        rotary_dim: attn.size("rotary_emb_dim", Some(0))?,
        rotary_base: attn.real("rotary_emb_base", 10_000.0)?,
        conv_width: attn.size("d_conv", Some(0))?,
        qkv_bias: attn.truth("qkv_proj_bias", true)?,
        out_bias: attn.truth("out_proj_bias", true)?,
    })
}

/// The object that says `config` in the keys of `naming`.
///
/// # Errors
/// [`Error::Config`] naming a choice for which that publisher has no key.
pub(super) fn object(config: &Config, naming: Naming) -> Result<Map<String, Value>> {
    let value = match naming {
        Naming::HuggingFace => hugging_face_object(config)?,
        Naming::Original => original_object(config)?,
    };
    match value {
        Value::Object(object) => Ok(object),
        _ => unreachable!("both write an object"),
    }
}

fn check(field: &'static str, good: bool, layout: &str) -> Result<()> {
    if good {
        return Ok(());
    }
    Err(Error::Config {
        field,
        reason: format!("the {layout} layout has no key for what this model has here"),
    })
}

fn hugging_face_object(config: &Config) -> Result<Value> {
    let layout = "hf";
    check("attn_layer_idx", config.attention.is_none(), layout)?;
    check("d_intermediate", config.mlp.is_none(), layout)?;
    check("d_ssm", config.d_mlp() == 0, layout)?;
    check("D_has_hdim", !config.skip_per_channel, layout)?;
    check("rmsnorm", config.gated_norm == GatedNorm::GateFirst, layout)?;
    let mut object = json!({
        "architectures": ["Mamba2ForCausalLM"],
        "model_type": "mamba2",
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layer,
        "vocab_size": config.vocab_rows(),
        "tie_word_embeddings": config.tie_embeddings,
        "layer_norm_epsilon": config.epsilon,
        "state_size": config.state_dim,
        "num_heads": config.heads(),
        "head_dim": config.head_dim,
        "n_groups": config.groups,
        "expand": config.expand,
        "conv_kernel": config.conv_width,
        "use_conv_bias": config.conv_bias,
        "use_bias": config.proj_bias,
        "hidden_act": "silu",
        "chunk_size": config.chunk,
        "rms_norm": true,
        "residual_in_fp32": true,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    });
    insert_limits(&mut object, "time_step_limit", config.dt_limits);
    Ok(object)
}

fn original_object(config: &Config) -> Result<Value> {
    let layout = "original";
    check("layer_norm_epsilon", config.epsilon == 1e-5, layout)?;
    let mlp = config.mlp.as_ref();
    check("d_intermediate", mlp.is_none_or(|mlp| mlp.layers.len() == config.n_layer), layout)?;
    let mut ssm = json!({
        "layer": "Mamba2",
        "d_state": config.state_dim,
        "headdim": config.head_dim,
        "ngroups": config.groups,
        "expand": config.expand,
        "d_ssm": config.d_ssm,
        "d_conv": config.conv_width,
        "conv_bias": config.conv_bias,
        "bias": config.proj_bias,
        "D_has_hdim": config.skip_per_channel,
        "rmsnorm": config.gated_norm != GatedNorm::GateOnly,
        "norm_before_gate": config.gated_norm == GatedNorm::NormFirst,
        "chunk_size": config.chunk,
    });
    insert_limits(&mut ssm, "dt_limit", config.dt_limits);
    let attention = config.attention.as_ref();
    Ok(json!({
        "d_model": config.d_model,
        "d_intermediate": mlp.map_or(0, |mlp| mlp.width),
        "n_layer": config.n_layer,
        "vocab_size": config.vocab_size,
        "ssm_cfg": ssm,
        "attn_layer_idx": attention.map_or(&[][..], |attention| &attention.layers),
        "attn_cfg": attention.map_or(json!({}), attention_object),
        "rms_norm": true,
        "residual_in_fp32": true,
        "fused_add_norm": true,
        "pad_vocab_size_multiple": config.vocab_multiple,
        "tie_embeddings": config.tie_embeddings,
    }))
}

fn attention_object(attention: &AttentionConfig) -> Value {
    json!({
        "causal": true,
        "num_heads": attention.heads,
        "num_heads_kv": attention.kv_heads,
        "head_dim": attention.head_dim,
        "rotary_emb_dim": attention.rotary_dim,
        "rotary_emb_base": attention.rotary_base,
        "d_conv": attention.conv_width,
        "qkv_proj_bias": attention.qkv_bias,
        "out_proj_bias": attention.out_bias,
    })
}

/// Limits other than those that every reader takes for granted, since not all of them read infinity in the same way.
fn insert_limits(object: &mut Value, key: &str, limits: (f64, f64)) {
    if limits == NO_LIMITS {
        return;
    }
    let number = |v: f64| match v {
        f64::INFINITY => json!({"__float__": "Infinity"}),
        f64::NEG_INFINITY => json!({"__float__": "-Infinity"}),
        v => json!(v),
    };
    object[key] = json!([number(limits.0), number(limits.1)]);
}
