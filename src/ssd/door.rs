//! The door: checks x, cuts the rows into runs, calls one algorithm on each.

use ndarray::{Array2, Array3, Array4, ArrayView1, ArrayView4, ArrayViewMut4, Axis};

use super::chunked::Entering;

use super::run::{Run, RunGrad, Slot, cut, slots};
use super::sequences::Span;
use super::{Algorithm, Grad, Output, Ssd, chunked, quadratic, recurrent};
use crate::error::{Error, Result, check_shape};
use crate::linalg::vectorize;
use crate::parallel;
use crate::scalar::{Real, Scalar};

/// Positions that are summed up before they join a longer sum.
const PAGE: usize = 256;

impl<'a, T: Scalar> Ssd<'a, T> {
    /// `y = M x` and the final states, from the given initial states or from zero.
    ///
    /// # Shapes
    /// `x`: (batch, len, heads, head_dim); `initial`: (batch, heads, head_dim, state_dim), or one for each sequence
    /// with [`super::States::PerSequence`].
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` or `initial` does not fit the matrix or head_dim is 0; [`Error::Config`] if the
    /// chunk is 0.
    pub fn matmul(
        &self,
        x: ArrayView4<'_, T>,
        initial: Option<ArrayView4<'_, T::Acc>>,
        how: Algorithm,
    ) -> Result<Output<T>> {
        let mut out = self.output_for(&x, initial)?;
        self.matmul_into(x, out.state.view_mut(), out.y.view_mut(), how)?;
        Ok(out)
    }

    /// `y = M x` into memory of the caller, the states read from and written to `state`: decoding is this with one
    /// position at a time.
    ///
    /// # Errors
    /// As [`Ssd::matmul`], and [`Error::Shape`] if `y` is not shaped like `x`.
    pub fn matmul_into(
        &self,
        x: ArrayView4<'_, T>,
        state: ArrayViewMut4<'_, T::Acc>,
        y: ArrayViewMut4<'_, T>,
        how: Algorithm,
    ) -> Result<()> {
        self.multiply(x, state, y, how, None)
    }

    /// The same by the algorithm of `kept`, which afterwards holds what [`Ssd::vjp_into`] can use again: one state for
    /// each chunk of a chunked product, nothing of the others.
    ///
    /// # Errors
    /// As [`Ssd::matmul_into`].
    pub fn matmul_keeping(
        &self,
        x: ArrayView4<'_, T>,
        state: ArrayViewMut4<'_, T::Acc>,
        y: ArrayViewMut4<'_, T>,
        kept: &mut Kept<T::Acc>,
    ) -> Result<()> {
        self.multiply(x, state, y, kept.how, Some(&mut kept.states))
    }

    /// Cotangents of every input of [`Ssd::matmul`], given the cotangent of its output; `how` may differ from the
    /// algorithm of the product.
    ///
    /// # Errors
    /// As [`Ssd::matmul`], and [`Error::Shape`] if the cotangents do not have the shapes of the output.
    pub fn vjp(
        &self,
        x: ArrayView4<'_, T>,
        initial: Option<ArrayView4<'_, T::Acc>>,
        how: Algorithm,
        cotangent: &Output<T>,
    ) -> Result<Grad<T>> {
        let nothing = T::narrow(*T::Acc::ZERO);
        let mut grad = Grad {
            log_a: Array3::zeros(self.log_a.raw_dim()),
            dt: Array3::zeros(self.log_a.raw_dim()),
            b: Array4::from_elem(self.b.raw_dim(), nothing),
            c: Array4::from_elem(self.b.raw_dim(), nothing),
            d: None,
            x: Array4::from_elem(x.raw_dim(), nothing),
            state: Array4::zeros(cotangent.state.raw_dim()),
        };
        self.vjp_into(x, initial, &Kept::new(how), cotangent, &mut grad)?;
        Ok(grad)
    }

    /// The same into memory of the caller, all of which is overwritten (`grad.d`, `None` without a skip, and `grad.state` are
    /// made anew), by the algorithm of `kept`. If that holds what [`Ssd::matmul_keeping`] kept of the product with the same
    /// `x`, `initial` and generators, it need not be computed again.
    ///
    /// # Errors
    /// As [`Ssd::vjp`], and [`Error::Shape`] if `grad` has other shapes or `kept` is of a product of other shapes.
    pub fn vjp_into(
        &self,
        x: ArrayView4<'_, T>,
        initial: Option<ArrayView4<'_, T::Acc>>,
        kept: &Kept<T::Acc>,
        cotangent: &Output<T>,
        grad: &mut Grad<T>,
    ) -> Result<()> {
        let initial = self.initial_state(x.dim().3, initial)?;
        self.check(&x, initial.shape(), kept.how)?;
        check_shape("dy", "(batch, len, heads, head_dim)", x.shape(), cotangent.y.shape())?;
        check_shape("dfinal_state", "the shape of the state", initial.shape(), cotangent.state.shape())?;
        check_shape("grad.log_a", "(batch, len, heads)", self.log_a.shape(), grad.log_a.shape())?;
        check_shape("grad.dt", "(batch, len, heads)", self.log_a.shape(), grad.dt.shape())?;
        check_shape("grad.b", "(batch, len, groups, state_dim)", self.b.shape(), grad.b.shape())?;
        check_shape("grad.c", "(batch, len, groups, state_dim)", self.b.shape(), grad.c.shape())?;
        check_shape("grad.x", "(batch, len, heads, head_dim)", x.shape(), grad.x.shape())?;

        let mut d_state = cotangent.state.as_standard_layout().into_owned();
        grad.d = self.skip_vjp(&x, &cotangent.y);
        grad.log_a.fill(*T::Acc::ZERO);
        grad.dt.fill(*T::Acc::ZERO);
        let (spans, groups) = (self.sequences.spans(), self.groups());
        let d = self.skip(x.dim().3);
        let entering = self.entering(&d_state.view_mut(), |span| (span.leaves, span.enters));
        let d_states = slots(&spans, groups, &entering, d_state.view_mut(), |s| (s.leaves, s.enters));
        let parts = cut(grad.log_a.view_mut(), &spans, groups)
            .into_iter()
            .zip(cut(grad.dt.view_mut(), &spans, groups))
            .zip(cut(grad.b.view_mut(), &spans, groups))
            .zip(cut(grad.c.view_mut(), &spans, groups))
            .zip(cut(grad.x.view_mut(), &spans, groups))
            .map(|((((log_a, dt), b), c), x)| RunGrad {
                log_a,
                dt,
                b: b.index_axis_move(Axis(1), 0),
                c: c.index_axis_move(Axis(1), 0),
                x,
            });
        let (runs, dy) = (self.runs(&spans, &d, &x), cotangent.y.view());
        let states = kept.of_runs(&runs)?;
        let work: Vec<_> = (runs.into_iter())
            .zip(self.runs(&spans, &d, &dy))
            .zip(initial_views(&spans, groups, &initial))
            .zip(d_states)
            .zip(parts)
            .zip(states)
            .collect();
        let plan = Plan { others: work.len() };
        parallel::for_each(work, |(((((run, dy), h), dh), grad), states)| {
            let dy = dy.x;
            let shape = (run.heads(), run.head_dim(), run.state_dim());
            h.with(shape, |h| {
                dh.with(shape, |dh| match kept.how.resolve(run.len()) {
                    Algorithm::Quadratic => quadratic::vjp(&run, h.view(), dy, dh, grad),
                    Algorithm::Recurrent => recurrent::vjp(&run, h.view(), dy, dh, grad),
                    Algorithm::Chunked { chunk } => {
                        let entering = states.map_or(Entering::First(h.view()), Entering::Kept);
                        chunked::vjp(&run, entering, dy, dh, grad, (chunk, plan))
                    }
                    Algorithm::Automatic => unreachable!("resolve never returns it"),
                })
            });
        });
        grad.state = d_state;
        Ok(())
    }

    /// Every run by `how`; `kept`: memory for the states that enter the chunks of each.
    fn multiply(
        &self,
        x: ArrayView4<'_, T>,
        mut state: ArrayViewMut4<'_, T::Acc>,
        y: ArrayViewMut4<'_, T>,
        how: Algorithm,
        kept: Option<&mut Vec<Array4<T::Acc>>>,
    ) -> Result<()> {
        self.check(&x, state.shape(), how)?;
        check_shape("y", "(batch, len, heads, head_dim)", x.shape(), y.shape())?;
        if !state.is_standard_layout() {
            let mut own = state.as_standard_layout().into_owned();
            self.multiply(x, own.view_mut(), y, how, kept)?;
            state.assign(&own);
            return Ok(());
        }
        let spans = self.sequences.spans();
        let d = self.skip(x.dim().3);
        let entering = self.entering(&state, |span| (span.enters, span.leaves));
        let state = slots(&spans, self.groups(), &entering, state, |s| (s.enters, s.leaves));
        let runs = self.runs(&spans, &d, &x);
        let keep: Vec<Option<&mut Array4<_>>> = match kept {
            Some(kept) => {
                kept.resize_with(runs.len(), || Array4::zeros((0, 0, 0, 0)));
                kept.iter_mut().map(Some).collect()
            }
            None => runs.iter().map(|_| None).collect(),
        };
        let work: Vec<_> =
            (runs.into_iter()).zip(state).zip(cut(y, &spans, self.groups())).zip(keep).collect();
        let plan = Plan { others: work.len() };
        parallel::for_each(work, |(((run, slot), y), keep)| {
            slot.with((run.heads(), run.head_dim(), run.state_dim()), |h| match how.resolve(run.len()) {
                Algorithm::Quadratic => quadratic::forward(&run, h, y),
                Algorithm::Recurrent => recurrent::forward(&run, h, y),
                Algorithm::Chunked { chunk } => chunked::forward(&run, h, y, (chunk, plan), keep),
                Algorithm::Automatic => unreachable!("resolve never returns it"),
            });
        });
        Ok(())
    }

    /// Room for a product, with the initial states in place.
    fn output_for(
        &self,
        x: &ArrayView4<'_, T>,
        initial: Option<ArrayView4<'_, T::Acc>>,
    ) -> Result<Output<T>> {
        let state = self.initial_state(x.dim().3, initial)?;
        Ok(Output { y: Array4::from_elem(x.raw_dim(), T::narrow(*T::Acc::ZERO)), state })
    }

    /// The given initial states, or zeros, as an array of the right shape.
    fn initial_state(
        &self,
        head_dim: usize,
        given: Option<ArrayView4<'_, T::Acc>>,
    ) -> Result<Array4<T::Acc>> {
        let shape = (self.sequences.state_count(), self.heads(), head_dim, self.state_dim());
        match given {
            None => Ok(Array4::zeros(shape)),
            Some(state) => {
                let expected = [shape.0, shape.1, shape.2, shape.3];
                check_shape(
                    "initial_state",
                    "(states, heads, head_dim, state_dim)",
                    &expected,
                    state.shape(),
                )?;
                Ok(state.as_standard_layout().into_owned())
            }
        }
    }

    /// Everything that `new` could not know: `x`, the state, the skip's width, the chunk.
    fn check(&self, x: &ArrayView4<'_, T>, state: &[usize], how: Algorithm) -> Result<()> {
        let (batch, len, heads) = self.log_a.dim();
        let head_dim = x.dim().3;
        if (x.dim().0, x.dim().1, x.dim().2) != (batch, len, heads) || head_dim == 0 {
            let expected = format!("(batch, len, heads, head_dim) = [{batch}, {len}, {heads}, at least 1]");
            return Err(Error::shape("x", expected, x.shape()));
        }
        if let Some(d) = self.d.filter(|d| d.ncols() != 1 && d.ncols() != head_dim) {
            return Err(Error::shape(
                "d",
                format!("(heads, 1 or head_dim) = [{heads}, 1 or {head_dim}]"),
                d.shape(),
            ));
        }
        if how == (Algorithm::Chunked { chunk: 0 }) {
            return Err(Error::Config { field: "chunk", reason: "expected at least 1, found 0".into() });
        }
        let expected = [self.sequences.state_count(), heads, head_dim, self.state_dim()];
        check_shape("state", "(states, heads, head_dim, state_dim)", &expected, state)
    }

    /// The skip as (heads, head_dim).
    fn skip(&self, head_dim: usize) -> Option<Array2<T::Acc>> {
        self.d.map(|d| match d.broadcast((self.heads(), head_dim)) {
            Some(d) => d.to_owned(),
            None => unreachable!("`check` found one column or head_dim of them"),
        })
    }

    /// `dd_p = Σ_t dy_tp x_tp`, summed over the channels if there is one number a head.
    fn skip_vjp(&self, x: &ArrayView4<'_, T>, dy: &Array4<T>) -> Option<Array2<T::Acc>> {
        let mut d = Array2::zeros(self.d?.raw_dim());
        let heads = d.outer_iter_mut().enumerate().collect();
        parallel::for_each(heads, |(h, mut d)| {
            let (x, dy) = (x.index_axis(Axis(2), h), dy.index_axis(Axis(2), h));
            let mut sum = vec![*T::Acc::ZERO; x.dim().2];
            for (x, dy) in x.outer_iter().zip(dy.outer_iter()) {
                for (x, dy) in x.axis_chunks_iter(Axis(0), PAGE).zip(dy.axis_chunks_iter(Axis(0), PAGE)) {
                    let mut part = vec![*T::Acc::ZERO; sum.len()];
                    vectorize(
                        #[inline(always)]
                        || {
                            for (x, dy) in x.outer_iter().zip(dy.outer_iter()) {
                                let pairs = x.into_iter().zip(dy);
                                part.iter_mut()
                                    .zip(pairs)
                                    .for_each(|(s, (x, dy))| *s += x.widen() * dy.widen());
                            }
                        },
                    );
                    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
                }
            }
            if d.len() == sum.len() {
                d.assign(&ArrayView1::from(&sum));
            } else {
                d.fill(sum.into_iter().sum());
            }
        });
        Some(d)
    }

    /// The states as they come in, kept where a row's state memory does not travel with one sequence.
    fn entering(
        &self,
        state: &ArrayViewMut4<'_, T::Acc>,
        ends: impl Fn(&Span) -> (Option<usize>, Option<usize>),
    ) -> Array4<T::Acc> {
        let travels = self.sequences.spans().iter().all(|span| {
            let (inward, outward) = ends(span);
            inward == outward
        });
        if travels { Array4::zeros((0, 0, 0, 0)) } else { state.to_owned() }
    }

    /// One run for each span and group, spans first.
    fn runs<'r>(
        &'r self,
        spans: &[Span],
        d: &'r Option<Array2<T::Acc>>,
        x: &'r ArrayView4<'_, T>,
    ) -> Vec<Run<'r, T>> {
        (spans.iter())
            .flat_map(|&span| (0..self.groups()).map(move |group| (span, group)))
            .map(|(span, group)| {
                Run::new(self, d.as_ref().map(|d| d.view()), x.index_axis(Axis(0), span.row), span, group)
            })
            .collect()
    }
}

/// The algorithm of a product and its vjp, and what the one keeps for the other; see [`Ssd::matmul_keeping`]. The memory
/// is used again by the next product.
#[derive(Debug, Clone)]
pub struct Kept<A> {
    how: Algorithm,
    states: Vec<Array4<A>>, // per run: (heads, chunks, state_dim, head_dim), empty if nothing was kept
}

impl<A: Real> Kept<A> {
    /// Nothing kept yet.
    pub fn new(how: Algorithm) -> Self {
        Self { how, states: Vec::new() }
    }

    /// The states of each run, where they were kept.
    fn of_runs<T: Scalar<Acc = A>>(&self, runs: &[Run<'_, T>]) -> Result<Vec<Option<&Array4<A>>>> {
        if self.states.is_empty() {
            return Ok(vec![None; runs.len()]);
        }
        check_shape("kept", "(runs)", &[runs.len()], &[self.states.len()])?;
        let one = |(run, states): (&Run<'_, T>, _)| match self.how.resolve(run.len()) {
            Algorithm::Chunked { chunk } => {
                let expected = chunked::states_shape(run, chunk);
                check_shape(
                    "kept",
                    "(heads, chunks, state_dim, head_dim)",
                    &expected,
                    Array4::shape(states),
                )?;
                Ok(Some(states))
            }
            _ => Ok(None),
        };
        runs.iter().zip(&self.states).map(one).collect()
    }
}

/// The initial state of every run, for reading.
fn initial_views<'a, A>(spans: &[Span], groups: usize, initial: &'a Array4<A>) -> Vec<Slot<'a, A>> {
    let per = initial.dim().1 / groups;
    let one = |k: usize| initial.index_axis(Axis(0), k);
    (spans.iter())
        .flat_map(|span| (0..groups).map(move |g| (span.enters, g * per)))
        .map(|(k, first)| match k {
            Some(k) => Slot::Entering(one(k).slice_axis_move(Axis(0), (first..first + per).into())),
            None => Slot::Fresh,
        })
        .collect()
}

/// What a run may know of the whole product: how many runs there are besides its own heads to fill the threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub others: usize,
}

impl Plan {
    /// Whether `heads` independent heads in each run leave threads idle, so that time has to be shared out too.
    pub fn starved(self, heads: usize) -> bool {
        self.others * heads < parallel::threads()
    }
}
