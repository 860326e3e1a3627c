//! The quadratic order of contraction (paper equation 13).

use ndarray::{Array2, ArrayView2};

use super::{AttentionGradient, AttentionVjp, MaskedAttention};
use crate::error::Result;
use crate::linalg;
use crate::matrix::StructuredMatrix;
use crate::scalar::Field;

/// `M = L ∘ Q Kᵀ`
pub(super) fn dense<E: Field, L: StructuredMatrix<E>>(m: &MaskedAttention<'_, E, L>) -> Array2<E> {
    m.mask.to_dense() * linalg::matmul(m.q, m.k.t())
}

/// `Y = M V`
pub(super) fn matmul<E: Field, L: StructuredMatrix<E>>(
    m: &MaskedAttention<'_, E, L>,
    v: ArrayView2<'_, E>,
) -> Array2<E> {
    linalg::matmul(dense(m).view(), v)
}

/// `dM = dY Vᴴ`, `dV = Mᴴ dY`
pub(super) fn matmul_vjp<E: Field, L: StructuredMatrix<E>>(
    m: &MaskedAttention<'_, E, L>,
    v: ArrayView2<'_, E>,
    dy: ArrayView2<'_, E>,
) -> Result<AttentionVjp<E, L>> {
    let d_dense = linalg::matmul(dy, v.t().mapv(E::conj).view());
    let dv = linalg::matmul(dense(m).t().mapv(E::conj).view(), dy);
    Ok((pull_back(m, d_dense.view())?, dv))
}

/// With G = Q Kᵀ: `dL = dM ∘ conj(G)`, `dG = dM ∘ conj(L)`, `dQ = dG conj(K)`, `dK = dGᵀ conj(Q)`.
pub(super) fn pull_back<E: Field, L: StructuredMatrix<E>>(
    m: &MaskedAttention<'_, E, L>,
    d_dense: ArrayView2<'_, E>,
) -> Result<AttentionGradient<E, L::Gradient>> {
    let mut d_mask = linalg::matmul(m.q, m.k.t()).mapv_into(E::conj);
    d_mask *= &d_dense;
    let mut d_gram = m.mask.to_dense().mapv_into(E::conj);
    d_gram *= &d_dense;
    Ok(AttentionGradient {
        q: linalg::matmul(d_gram.view(), m.k.mapv(E::conj).view()),
        k: linalg::matmul(d_gram.t(), m.q.mapv(E::conj).view()),
        mask: m.mask.pull_back(d_mask.view())?,
    })
}
