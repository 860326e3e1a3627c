//! Linear maps.

use ndarray::{Array2, ArrayD, ArrayView1, ArrayView2, ArrayViewMut2, Axis, s};

use super::Weight;
use super::rows::sum_rows;
use crate::error::{Error, Result, check_shape};
use crate::linalg::{flat, flat_mut, set_matmul, with_flat_rows};
use crate::numbers::{Stored, read_all, with_slice};
use crate::parallel;
use crate::scalar::Real;

/// A linear map `y = W x + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear<V> {
    /// (outputs, inputs)
    pub weight: V,
    /// (outputs)
    pub bias: Option<V>,
}

/// Tasks for each thread, so that one that is held up does not hold up all.
const TASKS: usize = 4;

/// Rows of a short-stored matrix that are widened at a time: so many that they stay in the first cache, where each is used but for
/// a few positions, or in the second, where it is used for many.
const PANELS: [usize; 2] = [6, 96];

/// What counts as a few positions.
const FEW: usize = 8;

/// `y = x Wᵀ + bias` for every position.
///
/// # Shapes
/// `x`: (len, inputs); yields (len, outputs).
///
/// # Errors
/// [`Error::Shape`] if `x` does not have as many columns as the weight.
///
/// # Examples
/// ```
/// use ndarray::array;
/// use semisep::nn::{Linear, Weight, linear};
/// let map = Linear { weight: Weight::from(array![[1.0, 2.0], [3.0, 4.0]]), bias: None };
/// assert_eq!(linear(array![[1.0, -1.0]].view(), &map)?, array![[-1.0, -1.0]]);
/// # Ok::<(), semisep::Error>(())
/// ```
pub fn linear<A: Real>(x: ArrayView2<'_, A>, map: &Linear<Weight<A>>) -> Result<Array2<A>> {
    let mut y = Array2::zeros((x.nrows(), map.weight.rows()));
    linear_into(x, map, y.view_mut())?;
    Ok(y)
}

/// The same into memory of the caller.
pub(crate) fn linear_into<A: Real>(
    x: ArrayView2<'_, A>,
    map: &Linear<Weight<A>>,
    mut y: ArrayViewMut2<'_, A>,
) -> Result<()> {
    check(&x, map)?;
    check_shape("y", "(len, outputs)", &[x.nrows(), map.weight.rows()], y.shape())?;
    let x = with_flat_rows(x.into());
    let outputs = map.weight.rows();
    let per = outputs.div_ceil(TASKS * parallel::threads()).next_multiple_of(PANELS[0]);
    let columns = y.axis_chunks_iter_mut(Axis(1), per).enumerate().collect();
    parallel::for_each(columns, |(k, mut y): (usize, ArrayViewMut2<'_, A>)| {
        let rows = k * per..k * per + y.ncols();
        match &map.bias {
            Some(bias) => y.assign(&ArrayView1::from(&bias.flat()[rows.clone()])),
            None => y.fill(A::zero()),
        }
        match map.weight.view() {
            Some(w) if x.nrows() != 1 => A::add_dots(y, x.view(), w.slice(s![rows, ..])),
            _ => with_slice!(map.weight.numbers(), numbers => {
                let part = &numbers[rows.start * x.ncols()..rows.end * x.ncols()];
                match x.nrows() {
                    1 => A::add_row_dots(flat_mut(y.row_mut(0)), flat(x.row(0)), part),
                    _ => by_panels(x.view(), part, y),
                }
            }),
        }
    });
    Ok(())
}

/// `y += x Wᵀ` with W widened a panel at a time.
fn by_panels<A: Real, S: Stored>(x: ArrayView2<'_, A>, w: &[S], mut y: ArrayViewMut2<'_, A>) {
    let inputs = x.ncols().max(1);
    let rows = PANELS[usize::from(x.nrows() > FEW)];
    let mut panel = vec![A::zero(); rows.min(y.ncols()) * inputs];
    for (w, y) in w.chunks(rows * inputs).zip(y.axis_chunks_iter_mut(Axis(1), rows)) {
        let panel = &mut panel[..w.len()];
        read_all(w, panel);
        if let Ok(panel) = ArrayView2::from_shape((w.len() / inputs, inputs), &*panel) {
            A::add_dots(y, x, panel);
        }
    }
}

/// Cotangents of the parameters and of `x`:
///
/// ```math
/// dx = dy\, W, \qquad dW = dy^\top x, \qquad d\,\mathrm{bias} = \textstyle\sum_t dy_t
/// ```
///
/// # Shapes
/// As [`linear`]; `dy`: (len, outputs).
///
/// # Errors
/// [`Error::Shape`] if the shapes disagree.
pub fn linear_vjp<A: Real>(
    x: ArrayView2<'_, A>,
    map: &Linear<Weight<A>>,
    dy: ArrayView2<'_, A>,
) -> Result<(Linear<ArrayD<A>>, Array2<A>)> {
    check(&x, map)?;
    check_shape("dy", "(len, outputs)", &[x.nrows(), map.weight.rows()], dy.shape())?;
    let dx = multiply(dy, map.weight.wide().view());
    let weight = multiply(dy.t(), x);
    let bias = map.bias.as_ref().map(|_| sum_rows(dy).into_dyn());
    Ok((Linear { weight: weight.into_dyn(), bias }, dx))
}

/// `a b`, rows of the product shared out to the threads.
pub(crate) fn multiply<A: Real>(a: ArrayView2<'_, A>, b: ArrayView2<'_, A>) -> Array2<A> {
    let mut product = Array2::zeros((a.nrows(), b.ncols()));
    let per = a.nrows().div_ceil(parallel::threads()).next_multiple_of(16);
    let bundles = product.axis_chunks_iter_mut(Axis(0), per).zip(a.axis_chunks_iter(Axis(0), per)).collect();
    parallel::for_each(bundles, |(product, a)| set_matmul(product, a, b));
    product
}

fn check<A: Real>(x: &ArrayView2<'_, A>, map: &Linear<Weight<A>>) -> Result<()> {
    let outputs = map.weight.rows();
    if map.weight.shape().len() != 2 {
        return Err(Error::shape("weight", "(outputs, inputs)", map.weight.shape()));
    }
    if let Some(bias) = &map.bias {
        check_shape("bias", "(outputs)", &[outputs], bias.shape())?;
    }
    check_shape("x", "(len, inputs)", &[x.nrows(), map.weight.columns()], x.shape())
}

impl<A: Real> Linear<Weight<A>> {
    /// The map with this weight and no bias.
    pub(crate) fn without_bias(weight: &Weight<A>) -> Self {
        Self { weight: weight.clone(), bias: None }
    }
}
