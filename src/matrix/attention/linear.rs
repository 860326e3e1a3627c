//! The linear order of contraction (paper equation 15).

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use super::{AttentionGradient, AttentionVjp, MaskedAttention};
use crate::error::Result;
use crate::matrix::{Cotangent, StructuredMatrix};
use crate::scalar::Field;

/// Columns that the mask multiplies at once: bounds memory, and is wide enough for every vector and dense product.
const COLUMNS: usize = 64;

/// A block of the columns (n, p) of Z and H.
struct Columns {
    n: Range<usize>,
    p: Range<usize>,
}

impl Columns {
    fn count(&self) -> usize {
        self.n.len() * self.p.len()
    }
}

/// Blocks of at most [`COLUMNS`] of the N P columns.
fn blocks(features: usize, width: usize) -> Vec<Columns> {
    let mut blocks = Vec::new();
    for p in (0..width).step_by(COLUMNS) {
        let p = p..(p + COLUMNS).min(width);
        let step = COLUMNS / p.len();
        for n in (0..features).step_by(step) {
            blocks.push(Columns { n: n..(n + step).min(features), p: p.clone() });
        }
    }
    blocks
}

/// `Z_{s,(n,p)} = K_{sn} V_{sp}`
fn expand<E: Field>(k: ArrayView2<'_, E>, v: ArrayView2<'_, E>, at: &Columns) -> Array2<E> {
    let mut z = Vec::with_capacity(k.nrows() * at.count());
    for (k, v) in k.outer_iter().zip(v.outer_iter()) {
        for n in at.n.clone() {
            z.extend(at.p.clone().map(|p| k[n] * v[p]));
        }
    }
    Array2::from_shape_vec((k.nrows(), at.count()), z).expect("one number a column")
}

/// `Y_{tp} += Σ_n Q_{tn} H_{t,(n,p)}`
fn contract<E: Field>(q: ArrayView2<'_, E>, h: ArrayView2<'_, E>, at: &Columns, mut y: ArrayViewMut2<'_, E>) {
    for ((q, h), mut y) in q.outer_iter().zip(h.outer_iter()).zip(y.outer_iter_mut()) {
        let mut h = h.iter();
        for n in at.n.clone() {
            for p in at.p.clone() {
                y[p] += q[n] * *h.next().expect("one number a column");
            }
        }
    }
}

/// `U_{tn} += Σ_p H_{t,(n,p)} W_{tp}`
fn contract_width<E: Field>(
    h: ArrayView2<'_, E>,
    w: ArrayView2<'_, E>,
    at: &Columns,
    mut u: ArrayViewMut2<'_, E>,
) {
    for ((h, w), mut u) in h.outer_iter().zip(w.outer_iter()).zip(u.outer_iter_mut()) {
        let mut h = h.iter();
        for n in at.n.clone() {
            for p in at.p.clone() {
                u[n] += *h.next().expect("one number a column") * w[p];
            }
        }
    }
}

/// `H = L Z`, `Y = Q · H`
pub(super) fn matmul<E: Field, L: StructuredMatrix<E>>(
    m: &MaskedAttention<'_, E, L>,
    v: ArrayView2<'_, E>,
) -> Result<Array2<E>> {
    let mut y = Array2::zeros((m.q.nrows(), v.ncols()));
    for at in blocks(m.q.ncols(), v.ncols()) {
        let h = m.mask.matmul(expand(m.k, v, &at).view())?;
        contract(m.q, h.view(), &at, y.view_mut());
    }
    Ok(y)
}

/// The same with `Lᴴ` in the middle and conjugated queries and keys in exchanged roles.
pub(super) fn adjoint_matmul<E: Field, L: StructuredMatrix<E>>(
    m: &MaskedAttention<'_, E, L>,
    y: ArrayView2<'_, E>,
) -> Result<Array2<E>> {
    let (q, k) = (m.q.mapv(E::conj), m.k.mapv(E::conj));
    let mut x = Array2::zeros((k.nrows(), y.ncols()));
    for at in blocks(q.ncols(), y.ncols()) {
        let z = m.mask.adjoint_matmul(expand(q.view(), y, &at).view())?;
        contract(k.view(), z.view(), &at, x.view_mut());
    }
    Ok(x)
}

/// `dH = conj(Q) ⊗ dY`, `(dL, dZ)` from the mask, then
/// `dQ_{tn} = Σ_p dY conj(H)`, `dK_{sn} = Σ_p dZ conj(V)`, `dV_{sp} = Σ_n conj(K) dZ`.
pub(super) fn matmul_vjp<E: Field, L: StructuredMatrix<E>>(
    m: &MaskedAttention<'_, E, L>,
    v: ArrayView2<'_, E>,
    dy: ArrayView2<'_, E>,
) -> Result<AttentionVjp<E, L>>
where
    L::Gradient: Cotangent,
{
    let (mut dq, mut dk) = (Array2::zeros(m.q.raw_dim()), Array2::zeros(m.k.raw_dim()));
    let mut dv = Array2::zeros(v.raw_dim());
    let (q_conj, k_conj, v_conj) = (m.q.mapv(E::conj), m.k.mapv(E::conj), v.mapv(E::conj));
    // Without columns the mask still has a gradient, of zeros.
    let none = Columns { n: 0..0, p: 0..0 };
    let (mut d_mask, _) =
        m.mask.vjp(expand(m.k, v, &none).view(), expand(q_conj.view(), dy, &none).view())?;
    for at in blocks(m.q.ncols(), v.ncols()) {
        let z = expand(m.k, v, &at);
        let h_conj = m.mask.matmul(z.view())?.mapv_into(E::conj);
        contract_width(h_conj.view(), dy, &at, dq.view_mut());
        let dh = expand(q_conj.view(), dy, &at);
        let (d_block, dz) = m.mask.vjp(z.view(), dh.view())?;
        d_mask.accumulate(&d_block);
        contract_width(dz.view(), v_conj.view(), &at, dk.view_mut());
        contract(k_conj.view(), dz.view(), &at, dv.view_mut());
    }
    Ok((AttentionGradient { q: dq, k: dk, mask: d_mask }, dv))
}
