//! A state as tensors with names, for keeping it in a file.

use ndarray::{Array, ArrayD, Dimension};

use super::{KeyValues, Memory, State};
use crate::error::{Error, Result};
use crate::scalar::Real;

impl<A: Real> State<A> {
    /// All that is remembered, by name: `layers.K.conv` and `layers.K.ssm` of a Mamba-2 layer, `layers.K.conv`, and
    /// `layers.K.keys.S` and `layers.K.values.S` of sequence S, of an attention layer.
    ///
    /// # Examples
    /// ```
    /// use semisep::mamba2::{Config, State};
    /// let config = Config { state_dim: 2, head_dim: 4, ..Config::new(8, 1, 4) };
    /// let state = State::<f32>::new(&config, 1)?;
    /// let named = state.to_tensors();
    /// assert_eq!(named[1].0, "layers.0.ssm");
    /// let mut again = State::new(&config, 1)?;
    /// again.assign_tensors(|name| named.iter().find(|(other, _)| other == name).map(|(_, tensor)| tensor.clone()))?;
    /// assert_eq!(again, state);
    /// # Ok::<(), semisep::Error>(())
    /// ```
    pub fn to_tensors(&self) -> Vec<(String, ArrayD<A>)> {
        let mut all = Vec::new();
        for (k, memory) in self.memories.iter().enumerate() {
            match memory {
                Memory::Mamba2 { conv, ssm } => {
                    all.push((format!("layers.{k}.conv"), conv.clone().into_dyn()));
                    all.push((format!("layers.{k}.ssm"), ssm.clone().into_dyn()));
                }
                Memory::Attention { conv, cache } => {
                    all.push((format!("layers.{k}.conv"), conv.clone().into_dyn()));
                    for (s, of) in cache.iter().enumerate() {
                        all.push((format!("layers.{k}.keys.{s}"), of.keys().to_owned().into_dyn()));
                        all.push((format!("layers.{k}.values.{s}"), of.values().to_owned().into_dyn()));
                    }
                }
            }
        }
        all
    }

    /// Becomes the state that [`State::to_tensors`] was of, of the same model and number of sequences; `tensor` finds each by its
    /// name.
    ///
    /// # Errors
    /// [`Error::Shape`] if one is missing or has another shape; the state is then as it was.
    pub fn assign_tensors(&mut self, mut tensor: impl FnMut(&str) -> Option<ArrayD<A>>) -> Result<()> {
        let mut memories = Vec::with_capacity(self.memories.len());
        for (k, memory) in self.memories.iter().enumerate() {
            let conv = format!("layers.{k}.conv");
            memories.push(match memory {
                Memory::Mamba2 { conv: of, ssm } => Memory::Mamba2 {
                    conv: like(of, &conv, &mut tensor)?,
                    ssm: like(ssm, &format!("layers.{k}.ssm"), &mut tensor)?,
                },
                Memory::Attention { conv: of, cache } => {
                    let conv = like(of, &conv, &mut tensor)?;
                    let each = cache.iter().enumerate().map(|(s, of)| {
                        let keys = tensor(&format!("layers.{k}.keys.{s}"));
                        let values = tensor(&format!("layers.{k}.values.{s}"));
                        key_values(of.width, keys, values)
                    });
                    Memory::Attention { conv, cache: each.collect::<Result<_>>()? }
                }
            });
        }
        self.memories = memories;
        Ok(())
    }
}

/// The tensor of this name, if it is shaped like `of`.
fn like<A: Real, D: Dimension>(
    of: &Array<A, D>,
    name: &str,
    tensor: &mut impl FnMut(&str) -> Option<ArrayD<A>>,
) -> Result<Array<A, D>> {
    let found = tensor(name);
    let shape = found.as_ref().map_or_else(Vec::new, |found| found.shape().to_vec());
    match found.filter(|_| shape == of.shape()).map(ArrayD::into_dimensionality) {
        Some(Ok(found)) => Ok(found.as_standard_layout().into_owned()),
        _ => Err(Error::shape("state", format!("{:?} of `{name}`", of.shape()), &shape)),
    }
}

/// Keys and values of any number of positions.
fn key_values<A: Real>(
    width: usize,
    keys: Option<ArrayD<A>>,
    values: Option<ArrayD<A>>,
) -> Result<KeyValues<A>> {
    let found = keys.as_ref().map_or_else(Vec::new, |keys| keys.shape().to_vec());
    let flat = |of: ArrayD<A>| of.into_iter().collect::<Vec<_>>();
    match keys.zip(values) {
        Some((keys, values))
            if keys.shape() == values.shape() && keys.ndim() == 2 && keys.shape()[1] == width =>
        {
            Ok(KeyValues { width, keys: flat(keys), values: flat(values) })
        }
        _ => {
            Err(Error::shape("state", format!("keys and values of one shape, (positions, {width})"), &found))
        }
    }
}
