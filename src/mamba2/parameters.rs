//! The parameters of a model as plain structs of leaves: one walk that knows every name, and what follows from it.

use std::convert::Infallible;

use super::{Config, GatedNorm};
use crate::error::{Error, Result};
use crate::nn::{Conv1d, Linear};

/// A Mamba-2 layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer<V> {
    /// To `[z0, x0,] z, xBC, dt`
    pub in_proj: Linear<V>,
    /// Over x, B and C
    pub conv: Conv1d<V>,
    /// (heads) added to the raw steps
    pub dt_bias: V,
    /// (heads) `A = −exp(A_log)`
    pub a_log: V,
    /// (heads), or (d_ssm) with one number a channel
    pub d: V,
    /// (d_ssm) of the gated norm
    pub norm: Option<V>,
    /// From the inner width back
    pub out_proj: Linear<V>,
}

/// An attention layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention<V> {
    /// To queries, keys and values
    pub in_proj: Linear<V>,
    /// Over these, if there is one
    pub conv: Option<Conv1d<V>>,
    /// From the heads back
    pub out_proj: Linear<V>,
}

/// A gated MLP, ``$`W_2 (v \circ \mathrm{SiLU}(g))`$`` with ``$`[v, g] = W_1 u`$``.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp<V> {
    /// To value and gate
    pub fc1: Linear<V>,
    /// Back
    pub fc2: Linear<V>,
}

/// What mixes positions in a block.
#[derive(Debug, Clone, PartialEq)]
pub enum Mixer<V> {
    /// A Mamba-2 layer.
    Mamba2(Layer<V>),
    /// An attention layer.
    Attention(Attention<V>),
}

/// A block: `r += mixer(norm(r))`, and `r += mlp(norm(r))` if it has an MLP.
#[derive(Debug, Clone, PartialEq)]
pub struct Block<V> {
    /// (d_model)
    pub norm: V,
    /// What mixes positions
    pub mixer: Mixer<V>,
    /// The norm before the MLP, and the MLP
    pub mlp: Option<(V, Mlp<V>)>,
}

/// A model by its parameters, each a leaf of type `V`: weights to compute with, gradients, shapes, or whatever an optimiser keeps
/// for each.
///
/// # Examples
/// ```
/// use semisep::mamba2::Config;
/// let shapes = Config::new(768, 24, 50288).shapes()?; // allocates no weights
/// let mut names = Vec::new();
/// shapes.for_each(|name, shape| names.push((name.to_owned(), shape.clone())));
/// assert_eq!(names[0], ("backbone.embedding.weight".to_owned(), vec![50288, 768]));
/// let counts = shapes.map(|shape| shape.iter().product::<usize>()); // the same struct with other leaves
/// assert_eq!(counts.embedding, 50288 * 768);
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Model<V> {
    /// Sizes and choices; valid
    pub(crate) config: Config,
    /// (vocab_rows, d_model)
    pub embedding: V,
    /// In order
    pub blocks: Vec<Block<V>>,
    /// (d_model) before the head
    pub norm: V,
    /// (vocab_rows, d_model), if it is not the embedding
    pub head: Option<V>,
}

/// Whose names parameters have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// The authors'.
    #[default]
    Original,
    /// Those of Hugging Face's library.
    HuggingFace,
}

/// Calls `f` with the name of each leaf, in the order of the files.
struct Walk<'f, 'a, V, R, E> {
    prefix: String,
    f: &'f mut dyn FnMut(&str, &'a V) -> Mapped<R, E>,
}

type Mapped<R, E> = std::result::Result<R, E>;

impl<'a, V, R, E> Walk<'_, 'a, V, R, E> {
    fn leaf(&mut self, name: &str, leaf: &'a V) -> Mapped<R, E> {
        (self.f)(&format!("{}{name}", self.prefix), leaf)
    }

    fn option(&mut self, name: &str, leaf: &'a Option<V>) -> Mapped<Option<R>, E> {
        leaf.as_ref().map(|leaf| self.leaf(name, leaf)).transpose()
    }

    fn linear(&mut self, name: &str, map: &'a Linear<V>) -> Mapped<Linear<R>, E> {
        Ok(Linear {
            weight: self.leaf(&format!("{name}.weight"), &map.weight)?,
            bias: self.option(&format!("{name}.bias"), &map.bias)?,
        })
    }

    fn conv(&mut self, conv: &'a Conv1d<V>) -> Mapped<Conv1d<R>, E> {
        Ok(Conv1d {
            weight: self.leaf("mixer.conv1d.weight", &conv.weight)?,
            bias: self.option("mixer.conv1d.bias", &conv.bias)?,
        })
    }

    fn layer(&mut self, layer: &'a Layer<V>) -> Mapped<Layer<R>, E> {
        Ok(Layer {
            dt_bias: self.leaf("mixer.dt_bias", &layer.dt_bias)?,
            a_log: self.leaf("mixer.A_log", &layer.a_log)?,
            d: self.leaf("mixer.D", &layer.d)?,
            in_proj: self.linear("mixer.in_proj", &layer.in_proj)?,
            conv: self.conv(&layer.conv)?,
            norm: self.option("mixer.norm.weight", &layer.norm)?,
            out_proj: self.linear("mixer.out_proj", &layer.out_proj)?,
        })
    }

    fn attention(&mut self, attention: &'a Attention<V>) -> Mapped<Attention<R>, E> {
        Ok(Attention {
            in_proj: self.linear("mixer.in_proj", &attention.in_proj)?,
            conv: attention.conv.as_ref().map(|conv| self.conv(conv)).transpose()?,
            out_proj: self.linear("mixer.out_proj", &attention.out_proj)?,
        })
    }

    fn block(&mut self, block: &'a Block<V>) -> Mapped<Block<R>, E> {
        let norm = self.leaf("norm.weight", &block.norm)?;
        let mixer = match &block.mixer {
            Mixer::Mamba2(layer) => Mixer::Mamba2(self.layer(layer)?),
            Mixer::Attention(attention) => Mixer::Attention(self.attention(attention)?),
        };
        let mlp = match &block.mlp {
            Some((norm, mlp)) => {
                let norm = self.leaf("norm2.weight", norm)?;
                let (fc1, fc2) = (self.linear("mlp.fc1", &mlp.fc1)?, self.linear("mlp.fc2", &mlp.fc2)?);
                Some((norm, Mlp { fc1, fc2 }))
            }
            None => None,
        };
        Ok(Block { norm, mixer, mlp })
    }
}

impl<V> Model<V> {
    /// Sizes and choices.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same struct with `f` of every leaf and its name; ends at the first error.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn try_map<'a, R, E>(
        &'a self,
        naming: Naming,
        mut f: impl FnMut(&str, &'a V) -> std::result::Result<R, E>,
    ) -> std::result::Result<Model<R>, E> {
        let embedding = match naming {
            Naming::Original => "embedding.weight",
            Naming::HuggingFace => "embeddings.weight",
        };
        let mut walk = Walk { prefix: "backbone.".to_owned(), f: &mut f };
        let embedding = walk.leaf(embedding, &self.embedding)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (k, block) in self.blocks.iter().enumerate() {
            walk.prefix = format!("backbone.layers.{k}.");
            blocks.push(walk.block(block)?);
        }
        walk.prefix = "backbone.".to_owned();
        let norm = walk.leaf("norm_f.weight", &self.norm)?;
        walk.prefix.clear();
        let head = walk.option("lm_head.weight", &self.head)?;
        Ok(Model { config: self.config.clone(), embedding, blocks, norm, head })
    }

    /// The same struct with `f` of every leaf.
    pub fn map<'a, R>(&'a self, mut f: impl FnMut(&'a V) -> R) -> Model<R> {
        let Ok(mapped) = self.try_map(Naming::Original, |_, leaf| Ok::<_, Infallible>(f(leaf)));
        mapped
    }

    /// Calls `f` with every leaf and its name in the authors' naming, in the order of [`Model::try_map`].
    pub fn for_each<'a>(&'a self, mut f: impl FnMut(&str, &'a V)) {
        let Ok(_) = self.try_map(Naming::Original, |name, leaf| {
            f(name, leaf);
            Ok::<_, Infallible>(())
        });
    }

    /// The same struct with `f` of every pair of leaves of the same name.
    ///
    /// # Errors
    /// [`Error::Config`] if the models have different configurations, and thus different leaves.
    pub fn zip_map<'a, U, R>(
        &'a self,
        other: &'a Model<U>,
        mut f: impl FnMut(&'a V, &'a U) -> R,
    ) -> Result<Model<R>> {
        let mut leaves = Vec::new();
        other.for_each(|name, leaf| leaves.push((name.to_owned(), leaf)));
        let mut leaves = leaves.into_iter();
        let zipped = self.try_map(Naming::Original, |name, leaf| match leaves.next() {
            Some((other, value)) if other == name => Ok(f(leaf, value)),
            other => {
                let other = other.map_or("nothing".to_owned(), |(other, _)| format!("`{other}`"));
                let reason = format!("expected a model of the same kind, found {other} beside `{name}`");
                Err(Error::Config { field: "model", reason })
            }
        })?;
        match leaves.next() {
            None => Ok(zipped),
            Some((name, _)) => {
                let reason = format!("expected a model of the same kind, found `{name}` beside nothing");
                Err(Error::Config { field: "model", reason })
            }
        }
    }
}

impl Config {
    /// The shape of every parameter, as in checkpoints; checks the configuration and allocates nothing else.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn shapes(&self) -> Result<Model<Vec<usize>>> {
        self.validate()?;
        let table = vec![self.vocab_rows(), self.d_model];
        Ok(Model {
            config: self.clone(),
            embedding: table.clone(),
            blocks: (0..self.n_layer).map(|k| self.block_shapes(k)).collect(),
            norm: vec![self.d_model],
            head: (!self.tie_embeddings).then_some(table),
        })
    }

    fn block_shapes(&self, k: usize) -> Block<Vec<usize>> {
        let mixer = match self.attention.as_ref().filter(|attention| attention.layers.contains(&k)) {
            Some(attention) => {
                let (qkv, width) = (attention.qkv_dim(), attention.conv_width);
                let heads = attention.heads * attention.head_dim;
                Mixer::Attention(Attention {
                    in_proj: linear_shapes(qkv, self.d_model, attention.qkv_bias),
                    conv: (width > 0).then(|| conv_shapes(qkv, width, true)),
                    out_proj: linear_shapes(self.d_model, heads, attention.out_bias),
                })
            }
            None => Mixer::Mamba2(Layer {
                in_proj: linear_shapes(self.in_proj_dim(), self.d_model, self.proj_bias),
                conv: conv_shapes(self.conv_dim(), self.conv_width, self.conv_bias),
                dt_bias: vec![self.heads()],
                a_log: vec![self.heads()],
                d: vec![if self.skip_per_channel { self.d_ssm } else { self.heads() }],
                norm: (self.gated_norm != GatedNorm::GateOnly).then(|| vec![self.d_ssm]),
                out_proj: linear_shapes(self.d_model, self.d_inner(), self.proj_bias),
            }),
        };
        let mlp = self.mlp.as_ref().filter(|mlp| mlp.layers.contains(&k)).map(|mlp| {
            let fc1 = linear_shapes(2 * mlp.hidden(), self.d_model, false);
            let fc2 = linear_shapes(self.d_model, mlp.hidden(), false);
            (vec![self.d_model], Mlp { fc1, fc2 })
        });
        Block { norm: vec![self.d_model], mixer, mlp }
    }
}

fn linear_shapes(outputs: usize, inputs: usize, bias: bool) -> Linear<Vec<usize>> {
    Linear { weight: vec![outputs, inputs], bias: bias.then(|| vec![outputs]) }
}

fn conv_shapes(channels: usize, width: usize, bias: bool) -> Conv1d<Vec<usize>> {
    Conv1d { weight: vec![channels, 1, width], bias: bias.then(|| vec![channels]) }
}
