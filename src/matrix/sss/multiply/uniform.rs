//! Matrices of numbers with one order and an elementwise transition: what the fast loops take.

use super::super::kernels::Apply;
use super::super::{Sss, Transition};
use crate::matrix::MainDiagonal;
use crate::scalar::Field;

/// Generators by flat numbers, in the order in which a recurrence takes its steps.
///
/// The recurrence of the adjoint is that of the matrix with time reversed and B and C exchanged:
/// $`x_k = B_k^H \lambda + D_k^H y_k`$, $`\lambda \leftarrow A_k^H \lambda + C_k^H y_k`$. So one loop does both.
#[derive(Clone, Copy)]
pub(super) struct Uniform<'a, E> {
    pub(super) a: Numbers<'a, E>,
    /// From input to state, `order` numbers a step.
    pub(super) b: &'a [E],
    /// From state to output, `order` numbers a step.
    pub(super) c: &'a [E],
    pub(super) d: &'a [E],
    pub(super) order: usize,
    pub(super) len: usize,
    /// Which matrix is meant: plain means forward in time, the others backward.
    pub(super) how: Apply,
    pub(super) diagonal: MainDiagonal,
}

/// The numbers of an elementwise transition.
#[derive(Clone, Copy)]
pub(super) enum Numbers<'a, E> {
    One,
    Shared(&'a [E]),
    Own(&'a [E]),
}

impl<'a, E: Field> Uniform<'a, E> {
    /// The generators of `m`, if they have this form.
    pub(super) fn of(m: &'a Sss<E>, how: Apply, diagonal: MainDiagonal) -> Option<Self> {
        let (order, one) = m.b.uniform()?;
        let fits = order > 0 && one == 1 && m.c.uniform()? == (1, order) && m.d.uniform()? == (1, 1);
        let a = match &m.transition {
            Transition::Identity => Numbers::One,
            Transition::Scalar(a) => Numbers::Shared(a.as_slice()?),
            Transition::Diagonal(a) => Numbers::Own(a.flat()),
            Transition::Dense(_) => return None,
        };
        let (mut b, mut c) = (m.b.flat(), m.c.flat());
        if how != Apply::Plain {
            (b, c) = (c, b);
        }
        fits.then_some(Self { a, b, c, d: m.d.flat(), order, len: m.len(), how, diagonal })
    }

    /// The index of the step that is taken at this position.
    #[inline(always)]
    pub(super) fn step(&self, position: usize) -> usize {
        if self.how == Apply::Plain { position } else { self.len - 1 - position }
    }

    /// What the diagonal entry of step k makes of `x`; nothing where it is left out, even of an infinite one.
    #[inline(always)]
    pub(super) fn skip(&self, k: usize, x: E) -> E {
        if self.diagonal == MainDiagonal::Included { self.how.of(self.d[k]) * x } else { E::zero() }
    }
}
