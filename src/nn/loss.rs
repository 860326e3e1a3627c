//! Softmax cross-entropy.

use ndarray::{Array2, ArrayView1, ArrayView2};

use crate::error::{Error, Result, check_shape};
use crate::parallel;
use crate::scalar::{Real, real};

/// The mean over the positions that have a target of
///
/// ```math
/// -\log \mathrm{softmax}(\mathrm{logits}_t)_{\mathrm{target}_t}
/// ```
///
/// 0 if none has.
///
/// # Shapes
/// `logits`: (len, vocabulary); a target for each position.
///
/// # Errors
/// [`Error::Shape`] if there are more or fewer targets; [`Error::Value`] if one is not in the vocabulary.
///
/// # Examples
/// ```
/// use ndarray::array;
/// use semisep::nn::cross_entropy;
/// let loss: f64 = cross_entropy(array![[0.0, 0.0], [9.0, 9.0]].view(), &[Some(1), None])?;
/// assert!((loss - 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), semisep::Error>(())
/// ```
pub fn cross_entropy<A: Real>(logits: ArrayView2<'_, A>, targets: &[Option<u32>]) -> Result<A> {
    let count = cross_entropy_targets(logits.dim(), targets)?;
    Ok(summed_cross_entropy(logits, targets) / real(count.max(1) as f64))
}

/// The sum over positions, targets checked.
pub(crate) fn summed_cross_entropy<A: Real>(logits: ArrayView2<'_, A>, targets: &[Option<u32>]) -> A {
    let rows = logits.outer_iter().zip(targets).collect();
    let one = |(row, target): (ArrayView1<'_, A>, &Option<u32>)| match target {
        None => A::zero(),
        Some(target) => {
            let (top, sum) = softmax_sum(row);
            top + sum.ln() - row[*target as usize]
        }
    };
    parallel::map(rows, one).into_iter().sum()
}

/// Cotangent of the logits, given that of the mean:
///
/// ```math
/// d\,\mathrm{logits}_t = \tfrac{d}{n} (\mathrm{softmax}(\mathrm{logits}_t) - e_{\mathrm{target}_t})
/// ```
///
/// with n the number of targets; 0 at positions that have none. Result: (len, vocabulary).
///
/// # Errors
/// As [`cross_entropy`].
pub fn cross_entropy_vjp<A: Real>(
    logits: ArrayView2<'_, A>,
    targets: &[Option<u32>],
    d: A,
) -> Result<Array2<A>> {
    let count = cross_entropy_targets(logits.dim(), targets)?;
    let mut d_logits = logits.to_owned();
    summed_cross_entropy_vjp(&mut d_logits, targets, d / real(count.max(1) as f64));
    Ok(d_logits)
}

/// Logits to their cotangents, in place, for a sum over positions of which each counts `d`.
pub(crate) fn summed_cross_entropy_vjp<A: Real>(logits: &mut Array2<A>, targets: &[Option<u32>], d: A) {
    let rows = logits.outer_iter_mut().zip(targets).collect();
    parallel::for_each(
        rows,
        |(mut row, target): (ndarray::ArrayViewMut1<'_, A>, &Option<u32>)| match target {
            None => row.fill(A::zero()),
            Some(target) => {
                let (top, sum) = softmax_sum(row.view());
                row.mapv_inplace(|v| d * (v - top).exp() / sum);
                row[*target as usize] -= d;
            }
        },
    );
}

/// The largest number of a row, and ``$`\sum_i e^{v_i - \mathrm{top}}`$``.
pub(super) fn softmax_sum<A: Real>(row: ArrayView1<'_, A>) -> (A, A) {
    let top = row.iter().copied().fold(A::neg_infinity(), A::max);
    (top, row.iter().map(|&v| (v - top).exp()).sum())
}

/// `Ok` with the number of targets if there is one, or none, for each position, and all are in the vocabulary.
pub(crate) fn cross_entropy_targets(
    (len, vocabulary): (usize, usize),
    targets: &[Option<u32>],
) -> Result<usize> {
    check_shape("targets", "(len)", &[len], &[targets.len()])?;
    match targets.iter().flatten().find(|&&target| target as usize >= vocabulary) {
        None => Ok(targets.iter().flatten().count()),
        Some(target) => Err(Error::Value {
            tensor: "targets",
            expected: "tokens of the vocabulary",
            found: format!("{target}, of a vocabulary of {vocabulary}"),
        }),
    }
}
