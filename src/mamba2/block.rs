//! A block: what mixes positions, then the MLP, each behind a norm and added to the residual stream.

use ndarray::{Array2, ArrayD, ArrayView2};

use super::{Block, Config, Grad, Memory, Mixer};
use crate::error::Result;
use crate::nn::{Room, Weight, rms_norm, rms_norm_into, rms_norm_vjp};
use crate::scalar::Real;
use crate::ssd::Sequences;

impl<A: Real> Block<Weight<A>> {
    /// The residual stream behind the block:
    ///
    /// ```math
    /// r' = r + \mathrm{mixer}(\mathrm{norm}(r)), \qquad r'' = r' + \mathrm{mlp}(\mathrm{norm}_2(r'))
    /// ```
    ///
    /// # Shapes
    /// `r`: (len, d_model), in and out; `memory`: that of the mixer, in and out.
    ///
    /// # Errors
    /// As [`super::Layer::forward`] and [`super::Attention::forward`].
    pub fn forward(
        &self,
        config: &Config,
        r: &mut Array2<A>,
        sequences: &Sequences,
        memory: &mut Memory<A>,
    ) -> Result<()> {
        self.forward_in(&mut Room::new(), config, r, sequences, memory)
    }

    /// The same with memory that is used again.
    pub(super) fn forward_in(
        &self,
        room: &mut Room<A>,
        config: &Config,
        r: &mut Array2<A>,
        sequences: &Sequences,
        memory: &mut Memory<A>,
    ) -> Result<()> {
        let how = (1, config.epsilon);
        let mut u = room.take(r.nrows(), r.ncols());
        rms_norm_into(r.view(), &self.norm, how, u.view_mut())?;
        let mixed = self.mix(room, config, u.view(), sequences, memory)?;
        *r += &mixed;
        room.give(mixed);
        if let Some((norm, mlp)) = &self.mlp {
            rms_norm_into(r.view(), norm, how, u.view_mut())?;
            *r += &mlp.forward(u.view())?;
        }
        room.give(u);
        Ok(())
    }

    /// Cotangents of the parameters, of `r` and of the memory that comes in, given those of the residual stream behind the block
    /// and of the memory that goes out.
    ///
    /// # Errors
    /// As [`Block::forward`].
    pub fn vjp(
        &self,
        config: &Config,
        r: ArrayView2<'_, A>,
        sequences: &Sequences,
        memory: &Memory<A>,
        (d_out, d_memory): (ArrayView2<'_, A>, &Memory<A>),
    ) -> Result<Grad<Block<ArrayD<A>>, A>> {
        let how = (1, config.epsilon);
        let u = rms_norm(r, &self.norm, 1, config.epsilon)?;
        let mut d_between = d_out.to_owned();
        let mlp = match &self.mlp {
            None => None,
            Some((norm, mlp)) => {
                let between =
                    &r + &self.mix(&mut Room::new(), config, u.view(), sequences, &mut memory.clone())?;
                let normed = rms_norm(between.view(), norm, 1, config.epsilon)?;
                let (mlp, d_normed) = mlp.vjp(normed.view(), d_out)?;
                let (norm, d) = rms_norm_vjp(between.view(), norm, how, d_normed.view())?;
                d_between += &d;
                Some((norm, mlp))
            }
        };
        let cotangents = (d_between.view(), d_memory);
        let (mixer, du, memory) = match &self.mixer {
            Mixer::Mamba2(layer) => {
                let grad = layer.vjp(config, u.view(), sequences, memory, cotangents)?;
                (Mixer::Mamba2(grad.parameters), grad.u, grad.memory)
            }
            Mixer::Attention(attention) => {
                let grad = attention.vjp(config, u.view(), sequences, memory, cotangents)?;
                (Mixer::Attention(grad.parameters), grad.u, grad.memory)
            }
        };
        let (norm, d) = rms_norm_vjp(r, &self.norm, how, du.view())?;
        Ok(Grad { parameters: Block { norm, mixer, mlp }, u: d_between + d, memory })
    }

    fn mix(
        &self,
        room: &mut Room<A>,
        config: &Config,
        u: ArrayView2<'_, A>,
        sequences: &Sequences,
        memory: &mut Memory<A>,
    ) -> Result<Array2<A>> {
        match &self.mixer {
            Mixer::Mamba2(layer) => layer.forward_in(room, config, u, sequences, memory),
            Mixer::Attention(attention) => attention.forward(config, u, sequences, memory),
        }
    }
}
