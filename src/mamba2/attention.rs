//! The attention layer of hybrid models.

use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, s};

use super::{Attention, AttentionConfig, Config, Grad, KeyValues, Memory};
use crate::error::{Error, Result};
use crate::nn::{
    Heads, Rotary, Weight, attention, attention_vjp, causal_conv1d, causal_conv1d_vjp, check_packed, linear,
    linear_vjp, rotary, rotary_vjp,
};
use crate::scalar::Real;
use crate::ssd::Sequences;

impl<A: Real> Attention<Weight<A>> {
    /// The layer over any length, from any state: projection, convolution if there is one, rotation by the position, softmax
    /// attention to all that the sequence has passed, projection back.
    ///
    /// # Shapes
    /// `u` and what is returned: (len, d_model), the sequences one after the other; `memory`: of an attention layer, in and out.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes disagree; [`Error::Config`] if the configuration has no attention.
    pub fn forward(
        &self,
        config: &Config,
        u: ArrayView2<'_, A>,
        sequences: &Sequences,
        memory: &mut Memory<A>,
    ) -> Result<Array2<A>> {
        let sizes = sizes(config)?;
        let Memory::Attention { conv, cache } = memory else { return Err(other_memory()) };
        check_packed(sequences, u.nrows())?;
        check_cache(sizes, sequences, cache)?;
        let qkv = self.mixed(u, sequences, conv)?;
        let [q, k, v] = split(qkv.view(), sizes);
        let mut y = Array2::zeros(q.raw_dim());
        for (span, of) in sequences.spans().into_iter().zip(cache) {
            let rows = s![span.start..span.end, ..];
            let (mut q, mut k) = (q.slice(rows).to_owned(), k.slice(rows).to_owned());
            rotary(q.view_mut(), of.positions(), turn(sizes))?;
            rotary(k.view_mut(), of.positions(), turn(sizes))?;
            of.append(k.view(), v.slice(rows));
            attention(q.view(), of.keys(), of.values(), heads(sizes), y.slice_mut(rows))?;
        }
        linear(y.view(), &self.out_proj)
    }

    /// Cotangents of the parameters, of `u` and of the memory that comes in, given those of the output and of the memory that goes
    /// out. What lies between is computed again.
    ///
    /// # Errors
    /// As [`Attention::forward`].
    pub fn vjp(
        &self,
        config: &Config,
        u: ArrayView2<'_, A>,
        sequences: &Sequences,
        memory: &Memory<A>,
        (d_out, d_memory): (ArrayView2<'_, A>, &Memory<A>),
    ) -> Result<Grad<Attention<ArrayD<A>>, A>> {
        let sizes = sizes(config)?;
        let (Memory::Attention { conv, cache }, Memory::Attention { conv: d_conv, cache: d_cache }) =
            (memory, d_memory)
        else {
            return Err(other_memory());
        };
        check_packed(sequences, u.nrows())?;
        check_cache(sizes, sequences, cache)?;
        check_cache(sizes, sequences, d_cache)?;
        let projected = linear(u, &self.in_proj)?;
        let qkv = self.mixed(u, sequences, &mut conv.clone())?;
        let [q, k, v] = split(qkv.view(), sizes);
        let mut passed = Vec::with_capacity(cache.len()); // rotated queries, keys and values up to the end
        let mut y = Array2::zeros(q.raw_dim());
        for (span, of) in sequences.spans().into_iter().zip(cache) {
            let rows = s![span.start..span.end, ..];
            let (mut q, mut k) = (q.slice(rows).to_owned(), k.slice(rows).to_owned());
            rotary(q.view_mut(), of.positions(), turn(sizes))?;
            rotary(k.view_mut(), of.positions(), turn(sizes))?;
            let mut all = of.clone();
            all.append(k.view(), v.slice(rows));
            attention(q.view(), all.keys(), all.values(), heads(sizes), y.slice_mut(rows))?;
            passed.push((q, all));
        }
        let (out_proj, dy) = linear_vjp(y.view(), &self.out_proj, d_out)?;
        let mut d_qkv = Array2::zeros(qkv.raw_dim());
        let mut d_past = Vec::with_capacity(cache.len());
        let ends = passed.iter().zip(d_cache).zip(cache);
        for (span, (((q, all), d_of), of)) in sequences.spans().into_iter().zip(ends) {
            if d_of.positions() != all.positions() {
                let expected = format!("as many positions as the memory that goes out, {}", all.positions());
                return Err(Error::shape("d_memory", expected, &[d_of.positions()]));
            }
            let dy = dy.slice(s![span.start..span.end, ..]);
            let [dq, d_keys, d_values] = attention_vjp(q.view(), all.keys(), all.values(), heads(sizes), dy)?;
            let (d_keys, d_values) = (d_keys + d_of.keys(), d_values + d_of.values());
            let first = of.positions();
            let dq = rotary_vjp(dq.view(), first, turn(sizes))?;
            let dk = rotary_vjp(d_keys.slice(s![first.., ..]), first, turn(sizes))?;
            let mut rows = d_qkv.slice_mut(s![span.start..span.end, ..]);
            for (columns, d) in
                columns(sizes).into_iter().zip([dq.view(), dk.view(), d_values.slice(s![first.., ..])])
            {
                rows.slice_axis_mut(Axis(1), columns).assign(&d);
            }
            let mut past = KeyValues::new(of.width);
            past.append(d_keys.slice(s![..first, ..]), d_values.slice(s![..first, ..]));
            d_past.push(past);
        }
        let (conv, d_projected, d_window) = match &self.conv {
            None => (None, d_qkv, Array3::zeros(conv.raw_dim())),
            Some(of) => {
                let cotangents = (d_qkv.view(), d_conv.view());
                let grad = causal_conv1d_vjp(projected.view(), of, sequences, conv.view(), cotangents)?;
                (Some(grad.conv), grad.x, grad.window)
            }
        };
        let (in_proj, du) = linear_vjp(u, &self.in_proj, d_projected.view())?;
        let memory = Memory::Attention { conv: d_window, cache: d_past };
        Ok(Grad { parameters: Attention { in_proj, conv, out_proj }, u: du, memory })
    }

    /// Queries, keys and values before the rotation: (len, qkv_dim).
    fn mixed(
        &self,
        u: ArrayView2<'_, A>,
        sequences: &Sequences,
        window: &mut Array3<A>,
    ) -> Result<Array2<A>> {
        let projected = linear(u, &self.in_proj)?;
        let Some(conv) = &self.conv else { return Ok(projected) };
        let mut mixed = Array2::zeros(projected.raw_dim());
        causal_conv1d(projected.view(), conv, sequences, window.view_mut(), mixed.view_mut())?;
        Ok(mixed)
    }
}

fn sizes(config: &Config) -> Result<&AttentionConfig> {
    config.attention.as_ref().ok_or_else(|| Error::Config {
        field: "attn_cfg",
        reason: "expected the sizes of the attention layers, found none".to_owned(),
    })
}

fn heads(sizes: &AttentionConfig) -> Heads {
    Heads { queries: sizes.heads, keys: sizes.kv_heads, head_dim: sizes.head_dim }
}

fn turn(sizes: &AttentionConfig) -> Rotary {
    Rotary { head_dim: sizes.head_dim, dim: sizes.rotary_dim, base: sizes.rotary_base }
}

/// Columns of queries, keys and values.
fn columns(sizes: &AttentionConfig) -> [ndarray::Slice; 3] {
    let (q, k) = (sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim);
    [(0..q).into(), (q..q + k).into(), (q + k..q + 2 * k).into()]
}

fn split<'a, A>(qkv: ArrayView2<'a, A>, sizes: &AttentionConfig) -> [ArrayView2<'a, A>; 3] {
    columns(sizes).map(|columns| qkv.slice_axis_move(Axis(1), columns))
}

fn check_cache<A>(sizes: &AttentionConfig, sequences: &Sequences, cache: &[KeyValues<A>]) -> Result<()> {
    let width = sizes.kv_heads * sizes.head_dim;
    if cache.len() == sequences.count() && cache.iter().all(|of| of.width == width) {
        return Ok(());
    }
    let expected = format!("keys and values of {} sequences", sequences.count());
    Err(Error::shape("memory", expected, &[cache.len()]))
}

fn other_memory() -> Error {
    Error::shape("memory", "that of an attention layer", &[])
}
