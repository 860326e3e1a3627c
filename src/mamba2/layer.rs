//! The Mamba-2 layer.

use ndarray::{
    Array1, Array2, Array3, Array4, ArrayBase, ArrayD, ArrayView2, ArrayView4, ArrayViewMut2, Axis, Ix2, Ix4,
    RawData, ShapeBuilder,
};

use super::{Config, Grad, Layer, Memory};
use crate::error::{Error, Result};
use crate::nn::{
    Room, Weight, causal_conv1d, causal_conv1d_vjp, check_packed, gate, gate_vjp, gated_rms_norm,
    gated_rms_norm_vjp, linear, linear_into, linear_vjp, silu, silu_vjp,
};
use crate::scalar::{Real, real};
use crate::ssd::{Algorithm, Discretization, Output, Sequences, Squash, Ssd};

impl<A: Real> Layer<Weight<A>> {
    /// The layer over any length, from any state (paper, section 7.1):
    ///
    /// ```math
    /// \begin{aligned}
    /// [z_0, x_0, z, \mathrm{xBC}, \mathrm{dt}] &= W_{in} u, & [x, B, C] &= \mathrm{SiLU}(\mathrm{conv}(\mathrm{xBC})), \\
    /// \mathrm{dt} &= \mathrm{clamp}(\mathrm{softplus}(\mathrm{dt} + \mathrm{bias})), & y &= \mathrm{SSD}(x) \text{ with } \log a = A\, \mathrm{dt}, \\
    /// v &= [\mathrm{SiLU}(z_0) \circ x_0,\ \mathrm{norm}(y, z)], & \mathrm{out} &= W_{out} v
    /// \end{aligned}
    /// ```
    ///
    /// # Shapes
    /// `u` and what is returned: (len, d_model), the sequences one after the other; `memory`: of a Mamba-2 layer, in and out.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes disagree; [`Error::Value`] if steps or decays are not finite.
    pub fn forward(
        &self,
        config: &Config,
        u: ArrayView2<'_, A>,
        sequences: &Sequences,
        memory: &mut Memory<A>,
    ) -> Result<Array2<A>> {
        self.forward_in(&mut Room::new(), config, u, sequences, memory)
    }

    /// The same with memory that is used again.
    pub(super) fn forward_in(
        &self,
        room: &mut Room<A>,
        config: &Config,
        u: ArrayView2<'_, A>,
        sequences: &Sequences,
        memory: &mut Memory<A>,
    ) -> Result<Array2<A>> {
        let Memory::Mamba2 { conv, ssm } = memory else { return Err(other_memory()) };
        check_packed(sequences, u.nrows())?;
        let (of, len) = (Columns::new(config), u.nrows());
        let mut projected = room.take(len, self.in_proj.weight.rows());
        linear_into(u, &self.in_proj, projected.view_mut())?;
        let mut mixed = room.take(len, config.conv_dim());
        let raw = projected.slice_axis(Axis(1), of.xbc);
        causal_conv1d(raw, &self.conv, sequences, conv.view_mut(), mixed.view_mut())?;
        silu(mixed.view_mut());
        let operator = Operator::new(self, config, &projected, mixed)?;
        let mut y = room.take(len, config.d_ssm);
        operator.matrix(config, sequences)?.matmul_into(
            operator.x(config),
            ssm.view_mut(),
            with_heads(y.view_mut(), config)?,
            Algorithm::Recurrent,
        )?;
        let mut gated = room.take(len, config.d_inner());
        self.gate_into(config, &projected, &y, gated.view_mut())?;
        let mut out = room.take(len, self.out_proj.weight.rows());
        linear_into(gated.view(), &self.out_proj, out.view_mut())?;
        for matrix in [projected, operator.mixed, y, gated] {
            room.give(matrix);
        }
        Ok(out)
    }

    /// Cotangents of the parameters, of `u` and of the memory that comes in, given those of the output and of the memory that goes
    /// out. What lies between is computed again.
    ///
    /// # Shapes
    /// As [`Layer::forward`]; cotangents are shaped like what they belong to.
    ///
    /// # Errors
    /// As [`Layer::forward`].
    pub fn vjp(
        &self,
        config: &Config,
        u: ArrayView2<'_, A>,
        sequences: &Sequences,
        memory: &Memory<A>,
        (d_out, d_memory): (ArrayView2<'_, A>, &Memory<A>),
    ) -> Result<Grad<Layer<ArrayD<A>>, A>> {
        let (Memory::Mamba2 { conv, ssm }, Memory::Mamba2 { conv: d_conv, ssm: d_ssm }) = (memory, d_memory)
        else {
            return Err(other_memory());
        };
        check_packed(sequences, u.nrows())?;
        let of = Columns::new(config);
        let projected = linear(u, &self.in_proj)?;
        let raw = projected.slice_axis(Axis(1), of.xbc);
        let mut convolved = Array2::zeros(raw.raw_dim());
        causal_conv1d(raw, &self.conv, sequences, conv.clone().view_mut(), convolved.view_mut())?;
        let mut mixed = convolved.clone();
        silu(mixed.view_mut());
        let operator = Operator::new(self, config, &projected, mixed)?;
        let matrix = operator.matrix(config, sequences)?;
        let y = flat_heads(matrix.matmul(operator.x(config), Some(ssm.view()), Algorithm::Automatic)?.y);
        let mut gated = Array2::zeros((u.nrows(), config.d_inner()));
        self.gate_into(config, &projected, &y, gated.view_mut())?;

        let (out_proj, d_gated) = linear_vjp(gated.view(), &self.out_proj, d_out)?;
        let (d_beside, d_normed) = d_gated.view().split_at(Axis(1), config.d_mlp());
        let mut d_projected = Array2::zeros(projected.raw_dim());
        let (d_x0, d_z0) =
            gate_vjp(projected.slice_axis(Axis(1), of.x0), projected.slice_axis(Axis(1), of.z0), d_beside)?;
        let z = projected.slice_axis(Axis(1), of.z);
        let how = (config.gated_norm, config.groups, config.epsilon);
        let (norm, dy, dz) = gated_rms_norm_vjp(y.view(), z, self.norm.as_ref(), how, d_normed)?;
        let dy = with_heads(dy.view(), config)?.to_owned();
        let cotangent = Output { y: dy, state: d_ssm.clone() };
        let grad = matrix.vjp(operator.x(config), Some(ssm.view()), Algorithm::Automatic, &cotangent)?;
        let mut d_mixed = Array2::zeros(convolved.raw_dim());
        for (columns, d) in of.operator(config).into_iter().zip([&grad.x, &grad.b, &grad.c]) {
            let width = d.dim().2 * d.dim().3;
            let d = d.view().into_shape_with_order((u.nrows(), width));
            d_mixed.slice_axis_mut(Axis(1), columns).assign(&d.map_err(|_| other_memory())?);
        }
        let d_convolved = silu_vjp(convolved.view(), d_mixed.view())?;
        let conv =
            causal_conv1d_vjp(raw, &self.conv, sequences, conv.view(), (d_convolved.view(), d_conv.view()))?;
        let raw_steps = projected.slice_axis(Axis(1), of.dt).insert_axis(Axis(0));
        let steps = self.rule(config, &operator.a)?.vjp(raw_steps, grad.dt.view(), grad.log_a.view())?;
        let d_steps = steps.raw.index_axis_move(Axis(0), 0);
        for (columns, d) in
            [(of.z0, &d_z0), (of.x0, &d_x0), (of.z, &dz), (of.xbc, &conv.x), (of.dt, &d_steps)]
        {
            d_projected.slice_axis_mut(Axis(1), columns).assign(d);
        }
        let (in_proj, du) = linear_vjp(u, &self.in_proj, d_projected.view())?;
        let d = grad.d.map_or_else(|| ArrayD::zeros(self.d.shape()), |d| d.flatten().into_owned().into_dyn());
        let parameters = Layer {
            in_proj,
            conv: conv.conv,
            dt_bias: steps.bias.into_dyn(),
            a_log: (&steps.a * &operator.a).into_dyn(),
            d,
            norm,
            out_proj,
        };
        Ok(Grad { parameters, u: du, memory: Memory::Mamba2 { conv: conv.window, ssm: grad.state } })
    }

    /// What goes into the output projection: (len, d_inner).
    fn gate_into(
        &self,
        config: &Config,
        projected: &Array2<A>,
        y: &Array2<A>,
        gated: ArrayViewMut2<'_, A>,
    ) -> Result<()> {
        let of = Columns::new(config);
        let (beside, normed) = gated.split_at(Axis(1), config.d_mlp());
        if config.d_mlp() > 0 {
            let (x0, z0) = (projected.slice_axis(Axis(1), of.x0), projected.slice_axis(Axis(1), of.z0));
            gate(x0, z0, beside)?;
        }
        let how = (config.gated_norm, config.groups, config.epsilon);
        gated_rms_norm(y.view(), projected.slice_axis(Axis(1), of.z), self.norm.as_ref(), how, normed)
    }

    /// From raw steps to steps and decays.
    fn rule<'a>(&'a self, config: &Config, a: &'a Array1<A>) -> Result<Discretization<'a, A>> {
        let (lower, upper) = config.dt_limits;
        Discretization::new(a.view())
            .bias(self.dt_bias.flat().into())?
            .squash(Squash::Softplus)
            .limits(real(lower), real(upper))
    }
}

/// Where the parts of a projection stand.
#[derive(Debug, Clone, Copy)]
struct Columns {
    z0: ndarray::Slice,
    x0: ndarray::Slice,
    z: ndarray::Slice,
    xbc: ndarray::Slice,
    dt: ndarray::Slice,
}

impl Columns {
    fn new(config: &Config) -> Self {
        let sizes = [config.d_mlp(), config.d_mlp(), config.d_ssm, config.conv_dim(), config.heads()];
        let [z0, x0, z, xbc, dt] = consecutive(sizes);
        Self { z0, x0, z, xbc, dt }
    }

    /// x, B and C among the channels of the convolution.
    fn operator(&self, config: &Config) -> [ndarray::Slice; 3] {
        let shared = config.groups * config.state_dim;
        consecutive([config.d_ssm, shared, shared])
    }
}

fn consecutive<const N: usize>(sizes: [usize; N]) -> [ndarray::Slice; N] {
    let mut end = 0;
    sizes.map(|size| {
        end += size;
        (end - size..end).into()
    })
}

/// The generators of the operator, and its input.
struct Operator<A> {
    mixed: Array2<A>, // (len, conv_dim): x, B, C
    a: Array1<A>,     // (heads)
    dt: Array3<A>,    // (1, len, heads)
    log_a: Array3<A>, // (1, len, heads)
    d: Array2<A>,     // (heads, 1 or head_dim)
}

impl<A: Real> Operator<A> {
    fn new(
        layer: &Layer<Weight<A>>,
        config: &Config,
        projected: &Array2<A>,
        mixed: Array2<A>,
    ) -> Result<Self> {
        let a: Array1<A> = layer.a_log.flat().iter().map(|v| -v.exp()).collect();
        let raw = projected.slice_axis(Axis(1), Columns::new(config).dt).insert_axis(Axis(0));
        let (dt, log_a) = layer.rule(config, &a)?.apply(raw)?;
        let width = if config.skip_per_channel { config.head_dim } else { 1 };
        let d = Array2::from_shape_vec((config.heads(), width), layer.d.flat().to_vec())
            .map_err(|_| Error::shape("D", "(heads) or (d_ssm)", layer.d.shape()))?;
        Ok(Self { mixed, a, dt, log_a, d })
    }

    fn matrix(&self, config: &Config, sequences: &Sequences) -> Result<Ssd<'_, A>> {
        let shape = (config.groups, config.state_dim);
        let (b, c) = (self.part(config.d_ssm, shape), self.part(config.d_ssm + shape.0 * shape.1, shape));
        Ssd::new(self.log_a.view(), self.dt.view(), b, c)?
            .with_skip(self.d.view())?
            .with_sequences(sequences.clone())
    }

    /// (1, len, heads, head_dim)
    fn x(&self, config: &Config) -> ArrayView4<'_, A> {
        self.part(0, (config.heads(), config.head_dim))
    }

    /// Channels from `first` on as (1, len, heads, width).
    fn part(&self, first: usize, (heads, width): (usize, usize)) -> ArrayView4<'_, A> {
        let (len, channels) = self.mixed.dim();
        let numbers = self.mixed.as_slice().and_then(|numbers| numbers.get(first..)).unwrap_or_default();
        let strides = (len * channels, channels, width, 1);
        match ArrayView4::from_shape((1, len, heads, width).strides(strides), numbers) {
            Ok(part) => part,
            Err(_) => unreachable!("x, B and C fill the channels of the convolution"),
        }
    }
}

/// (1, len, heads, head_dim) as (len, d_ssm).
fn flat_heads<A: Real>(y: Array4<A>) -> Array2<A> {
    let (_, len, heads, head_dim) = y.dim();
    match y.into_shape_with_order((len, heads * head_dim)) {
        Ok(y) => y,
        Err(_) => unreachable!("a new array is in order"),
    }
}

/// (len, d_ssm) as (1, len, heads, head_dim).
fn with_heads<S: RawData>(y: ArrayBase<S, Ix2>, config: &Config) -> Result<ArrayBase<S, Ix4>> {
    let shape = y.dim();
    y.into_shape_with_order((1, shape.0, config.heads(), config.head_dim))
        .map_err(|_| Error::shape("y", "(len, d_ssm)", &[shape.0, shape.1]))
}

fn other_memory() -> Error {
    Error::shape("memory", "that of a Mamba-2 layer", &[])
}
