//! Head patterns: which tensors of multi-head attention are shared by which heads (paper section 7.2).

use ndarray::{Array3, ArrayView2, ArrayView3, ArrayView4, Axis};

use super::{AttentionGradient, MaskedAttention, Order};
use crate::error::{Error, Result, check_shape};
use crate::matrix::{Cotangent, StructuredMatrix};
use crate::parallel;
use crate::scalar::Field;

/// Which tensors have one head for all, under the names of state space models and of attention.
///
/// | pattern | attention | X = V | B = K | C = Q |
/// |---|---|---|---|---|
/// | [`MultiHead`](Self::MultiHead) | multi-head | H | H | H |
/// | [`MultiContract`](Self::MultiContract) | [multi-query](Self::MULTI_QUERY) | 1 | 1 | H |
/// | [`MultiExpand`](Self::MultiExpand) | [multi-key](Self::MULTI_KEY) | 1 | H | 1 |
/// | [`MultiInput`](Self::MultiInput) | [multi-value](Self::MULTI_VALUE) | H | 1 | 1 |
/// | [`MultiState`](Self::MultiState) | | 1 | 1 | 1 |
/// | [`GroupedInput`](Self::GroupedInput) | [grouped-value](Self::grouped_value) | H | G | G |
///
/// The mask always has H heads or one for all. Source: paper equations (17) to (20) and Table 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadPattern {
    /// Every head has its own tensors: multi-head SSM, multi-head attention.
    MultiHead,
    /// Heads differ in C alone: multi-contract SSM, multi-query attention.
    MultiContract,
    /// Heads differ in B alone: multi-expand SSM, multi-key attention.
    MultiExpand,
    /// Heads differ in X alone: multi-input SSM, multi-value attention; the pattern of Mamba-2.
    MultiInput,
    /// Heads differ in the mask alone: multi-state SSM.
    MultiState,
    /// B and C have `groups` heads, each for a run of consecutive heads of X: grouped-input SSM, grouped-value
    /// attention.
    GroupedInput {
        /// Heads of B and C; divides the number of heads.
        groups: usize,
    },
}

/// A tensor of an attention head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// X or V.
    Input,
    /// B or K.
    Expand,
    /// C or Q.
    Contract,
}

impl HeadPattern {
    /// [`MultiContract`](Self::MultiContract) in the vocabulary of attention.
    pub const MULTI_QUERY: Self = Self::MultiContract;
    /// [`MultiExpand`](Self::MultiExpand) in the vocabulary of attention.
    pub const MULTI_KEY: Self = Self::MultiExpand;
    /// [`MultiInput`](Self::MultiInput) in the vocabulary of attention.
    pub const MULTI_VALUE: Self = Self::MultiInput;

    /// [`GroupedInput`](Self::GroupedInput) in the vocabulary of attention.
    pub const fn grouped_value(groups: usize) -> Self {
        Self::GroupedInput { groups }
    }

    /// How many heads the tensor `role` has, of `heads`.
    ///
    /// # Errors
    /// [`Error::Config`] if there are no heads, or groups that do not divide them.
    pub fn heads_of(self, role: Role, heads: usize) -> Result<usize> {
        if heads == 0 {
            return Err(Error::Config { field: "heads", reason: "there must be at least one".into() });
        }
        if let Self::GroupedInput { groups } = self
            && (groups == 0 || !heads.is_multiple_of(groups))
        {
            let reason = format!("{groups} groups do not divide {heads} heads");
            return Err(Error::Config { field: "groups", reason });
        }
        Ok(match (self, role) {
            (Self::MultiHead, _)
            | (Self::MultiContract, Role::Contract)
            | (Self::MultiExpand, Role::Expand)
            | (Self::MultiInput | Self::GroupedInput { .. }, Role::Input) => heads,
            (Self::GroupedInput { groups }, _) => groups,
            _ => 1,
        })
    }
}

/// A tensor as all heads see it, without a copy: axis 2 has stride zero.
///
/// Head h reads index (h / r, h mod r) of the axes 1 and 2, where r = heads / shared: heads that share a tensor are
/// consecutive.
///
/// # Shapes
/// `x`: (len, shared, width); result: (len, shared, heads / shared, width).
///
/// # Errors
/// [`Error::Shape`] if the heads of `x` do not divide `heads`.
pub fn broadcast<'a, E>(x: &'a ArrayView3<'_, E>, heads: usize) -> Result<ArrayView4<'a, E>> {
    let (len, shared, width) = x.dim();
    if shared == 0 || !heads.is_multiple_of(shared) {
        let expected = format!("(len, a divisor of {heads}, width)");
        return Err(Error::shape("x", expected, x.shape()));
    }
    // The new axis comes first, where broadcasting puts it.
    let view = x.broadcast((heads / shared, len, shared, width)).expect("the last three axes agree");
    Ok(view.permuted_axes([1, 2, 0, 3]))
}

/// One mask for each head, or one for all.
#[derive(Debug)]
pub enum Masks<'a, L> {
    /// The same mask for every head.
    Shared(&'a L),
    /// Mask h for head h.
    PerHead(&'a [L]),
}

/// Cotangents of a [`MultiHeadAttention`] and its values, in the shapes of the tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiHeadGradient<E, G> {
    /// Cotangent of the queries, (T, heads of C, N).
    pub q: Array3<E>,
    /// Cotangent of the keys, (S, heads of B, N).
    pub k: Array3<E>,
    /// Cotangent of the values, (S, heads of X, P).
    pub v: Array3<E>,
    /// Cotangents of the masks: one if the mask is shared, else one a head.
    pub masks: Vec<G>,
}

/// Masked attention over several heads that share tensors by a [`HeadPattern`].
///
/// ```math
/// Y_{\cdot h \cdot} = (L^{(h)} \circ Q_{\cdot h \cdot} K_{\cdot h \cdot}^\top)\, V_{\cdot h \cdot}
/// ```
/// where a tensor with fewer heads is seen through [`broadcast`].
#[derive(Debug)]
pub struct MultiHeadAttention<'a, E, L> {
    pattern: HeadPattern,
    heads: usize,
    masks: Masks<'a, L>,
    q: ArrayView3<'a, E>, // (T, heads of C, N)
    k: ArrayView3<'a, E>, // (S, heads of B, N)
}

impl<'a, E: Field, L: StructuredMatrix<E> + Sync> MultiHeadAttention<'a, E, L> {
    /// The attention of `heads` heads with these masks, queries and keys.
    ///
    /// # Shapes
    /// `q`: (T, heads of C, N); `k`: (S, heads of B, N); every mask: (T, S).
    ///
    /// # Errors
    /// [`Error::Shape`] naming the tensor, [`Error::Config`] if the pattern does not fit.
    pub fn new(
        pattern: HeadPattern,
        heads: usize,
        masks: Masks<'a, L>,
        q: ArrayView3<'a, E>,
        k: ArrayView3<'a, E>,
    ) -> Result<Self> {
        let (rows, _, width) = q.dim();
        let columns = k.len_of(Axis(0));
        let contract = pattern.heads_of(Role::Contract, heads)?;
        let expand = pattern.heads_of(Role::Expand, heads)?;
        check_shape("q", "(T, heads, N)", &[rows, contract, width], q.shape())?;
        check_shape("k", "(S, heads, N)", &[columns, expand, width], k.shape())?;
        if let Masks::PerHead(masks) = &masks {
            check_shape("masks", "(heads,)", &[heads], &[masks.len()])?;
        }
        let attention = Self { pattern, heads, masks, q, k };
        for h in 0..heads {
            let (rows_of, columns_of) = attention.mask(h).shape();
            check_shape("masks", "(T, S)", &[rows, columns], &[rows_of, columns_of])?;
        }
        Ok(attention)
    }

    /// Outputs of all heads. `v`: (S, heads of X, P); result: (T, heads, P).
    ///
    /// # Errors
    /// [`Error::Shape`] naming `v`, and whatever a mask reports.
    pub fn multiply(&self, v: ArrayView3<'_, E>, order: Order) -> Result<Array3<E>> {
        self.check_v(v)?;
        let outputs = parallel::map((0..self.heads).collect(), |h| {
            self.head(h)?.multiply(select(v, h, self.heads), order)
        });
        let mut y = Array3::zeros((self.q.len_of(Axis(0)), self.heads, v.len_of(Axis(2))));
        for (mut y, output) in y.axis_iter_mut(Axis(1)).zip(outputs) {
            y.assign(&output?);
        }
        Ok(y)
    }

    /// Cotangents of queries, keys, values and masks, given the cotangent `dy`, (T, heads, P), of the outputs. A
    /// tensor shared by several heads receives the sum over them.
    ///
    /// # Errors
    /// As [`multiply`](Self::multiply), and [`Error::Shape`] naming `dy`.
    pub fn multiply_vjp(
        &self,
        v: ArrayView3<'_, E>,
        dy: ArrayView3<'_, E>,
        order: Order,
    ) -> Result<MultiHeadGradient<E, L::Gradient>>
    where
        L::Gradient: Cotangent + Send,
    {
        self.check_v(v)?;
        let expected = [self.q.len_of(Axis(0)), self.heads, v.len_of(Axis(2))];
        check_shape("dy", "(T, heads, P)", &expected, dy.shape())?;
        let gradients = parallel::map((0..self.heads).collect(), |h| {
            self.head(h)?.multiply_vjp(select(v, h, self.heads), dy.index_axis(Axis(1), h), order)
        });
        let zeros = |like: ArrayView3<'_, E>| Array3::zeros(like.raw_dim());
        let (mut dq, mut dk, mut dv) = (zeros(self.q), zeros(self.k), zeros(v));
        let mut d_masks: Vec<L::Gradient> = Vec::new();
        for (h, gradient) in gradients.into_iter().enumerate() {
            let (AttentionGradient { q, k, mask }, v) = gradient?;
            for (sum, part) in [(&mut dq, q), (&mut dk, k), (&mut dv, v)] {
                let shared = sum.len_of(Axis(1));
                let mut sum = sum.index_axis_mut(Axis(1), h / (self.heads / shared));
                sum += &part;
            }
            match (&self.masks, d_masks.first_mut()) {
                (Masks::Shared(_), Some(sum)) => sum.accumulate(&mask),
                _ => d_masks.push(mask),
            }
        }
        Ok(MultiHeadGradient { q: dq, k: dk, v: dv, masks: d_masks })
    }

    fn mask(&self, h: usize) -> &L {
        match &self.masks {
            Masks::Shared(mask) => mask,
            Masks::PerHead(masks) => &masks[h],
        }
    }

    fn head(&self, h: usize) -> Result<MaskedAttention<'_, E, L>> {
        MaskedAttention::new(self.mask(h), select(self.q, h, self.heads), select(self.k, h, self.heads))
    }

    fn check_v(&self, v: ArrayView3<'_, E>) -> Result<()> {
        let heads = self.pattern.heads_of(Role::Input, self.heads)?;
        let expected = [self.k.len_of(Axis(0)), heads, v.len_of(Axis(2))];
        check_shape("v", "(S, heads, P)", &expected, v.shape())
    }
}

/// What head h of `heads` sees of `x`: its slice of [`broadcast`].
fn select<E>(x: ArrayView3<'_, E>, h: usize, heads: usize) -> ArrayView2<'_, E> {
    let shared = x.len_of(Axis(1));
    x.index_axis_move(Axis(1), h / (heads / shared))
}
